//! How values lie in the file: each file has the encoding beside the decoding. Nothing here opens a file.
//!
//! `stored_entry` is the form in which an entry is stored, with `stored_circumstances` for what few calls have, `entry_record` one that was read. `tail_row` has the newest, those of one
//! commit; `segment` says how the others lie: their hashes in `leaf_row`, their contents in `block`, compressed by
//! `text_compression`, which block has which in `directory`, and the seeds of their nonces in `seeds`. `index_key` has the keys of the index, `index_row` its postings, purged rows and retention
//! columns; `rollup`, `rollup_fingerprint` and `zone_map` are for statistics and times; `state`, `series` and `sender_window` are
//! single rows.

pub(crate) mod block;
pub(crate) mod directory;
pub(crate) mod entry_record;
pub(crate) mod index_key;
pub(crate) mod index_row;
pub(crate) mod leaf_row;
pub(crate) mod rollup;
pub(crate) mod rollup_fingerprint;
pub(crate) mod seeds;
pub(crate) mod segment;
pub(crate) mod sender_window;
pub(crate) mod series;
pub(crate) mod state;
pub(crate) mod stored_circumstances;
pub(crate) mod stored_entry;
pub(crate) mod tail_row;
pub(crate) mod text_compression;
pub(crate) mod zone_map;

/// Merkle nodes from this level up have a row each; lower ones are computed from the leaf hashes.
pub(crate) const NODE_LEVEL: u8 = 8;

// A zone of the lowest level and a Merkle node of the lowest stored level cover the same entries, and a block's end offsets
// fit in four bytes.
const _: () = assert!(zone_map::LEVELS[0] == NODE_LEVEL as u32);
const _: () = assert!(block::BLOCK_BYTES < crate::codec::MAX_BYTES);
const _: () = assert!(crate::codec::MAX_BYTES < u32::MAX as usize);

/// Serializes byte strings as one piece, not element by element.
mod bytes {
    use serde::{Deserializer, Serializer};
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'de, [u8]>, D::Error> {
        <&[u8] as serde::Deserialize>::deserialize(from).map(Cow::Borrowed)
    }
}

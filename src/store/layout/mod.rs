//! How values lie in the file: each file has the encoding beside the decoding. Nothing here opens a file.
//!
//! `stored_entry` is the form in which an entry is stored, `entry_record` one that was read; `block` holds a run of them,
//! compressed by `text_compression`. `index_key` has the keys of the index, `index_row` its postings, purged rows and retention
//! columns; `rollup`, `rollup_fingerprint` and `zone_map` are for statistics and times; `state`, `series` and `sender_window` are
//! single rows.

pub(crate) mod block;
pub(crate) mod entry_record;
pub(crate) mod index_key;
pub(crate) mod index_row;
pub(crate) mod rollup;
pub(crate) mod rollup_fingerprint;
pub(crate) mod sender_window;
pub(crate) mod series;
pub(crate) mod state;
pub(crate) mod stored_entry;
pub(crate) mod text_compression;
pub(crate) mod zone_map;

/// Merkle nodes from this level up have a row each; lower ones are computed from the hashes in the blocks.
pub(crate) const NODE_LEVEL: u8 = 8;

// A zone of the lowest level and a Merkle node of the lowest stored level cover the same entries, and a block's end offsets
// fit in four bytes.
const _: () = assert!(zone_map::LEVELS[0] == NODE_LEVEL as u32);
const _: () = assert!(block::BLOCK_BYTES < crate::codec::MAX_BYTES);
const _: () = assert!(crate::codec::MAX_BYTES < u32::MAX as usize);

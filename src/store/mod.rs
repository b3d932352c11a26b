//! The store: one file, one writer at a time, any number of readers.
//!
//! Calls go downwards: [`AuditLog`] (`log`) is what a host holds; `prepare` turns what it says into what may be recorded,
//! `draft` writes of that whatever does not need its place; `turn` and `commit` put it on the disk (`writer` is what they know),
//! `publish` shows it; `merge` moves the index of the newest entries (`pending`) into the file; `subjects` keeps the keys of sealed
//! values, which `privacy` shows and destroys. `snapshot` reads, through a `view` that readers share, `rows` for proofs, and `starts` remembers
//! where blocks are; `open`
//! brings it all up (for `reading` over an `overlay`, which keeps the file as it is), `sound` keeps redb from files that it would
//! not survive, `watched` notices when something else writes to them, and `pages` reads these without redb; `purge` decides what goes, `rewrite` writes the
//! store anew without it, `place` puts that in the old one's place; `backup` copies, `health` says how things stand, `anchoring`
//! hands checkpoints out. `vouch` authenticates rows that nothing else bears out. `block` (of `part`s, with `pack`), `posting`, `rollup`, `zones`, `sender`, `state` and `tables` are how
//! things lie in the file. Only this folder knows redb.

pub(crate) mod agree;
pub(crate) mod anchoring;
pub(crate) mod backup;
#[cfg(feature = "benching")]
pub(crate) mod benching;
pub(crate) mod block;
pub(crate) mod block_locator;
pub(crate) mod commit;
pub(crate) mod cursors;
pub(crate) mod damaged;
pub(crate) mod database_handle;
pub(crate) mod encode;
pub(crate) mod engine;
pub(crate) mod entry_record;
pub(crate) mod follow;
pub(crate) mod group_commit;
pub(crate) mod index_batch;
pub(crate) mod keyring;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod manage;
pub(crate) mod mem_index;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod overlay;
pub(crate) mod pages;
pub(crate) mod panic_guard;
pub(crate) mod prepare;
pub(crate) mod publish;
pub(crate) mod purged;
pub(crate) mod read_view;
pub(crate) mod reading;
#[cfg(feature = "owner")]
pub(crate) mod remote_call;
pub(crate) mod replacement;
pub(crate) mod rewrite;
pub(crate) mod rollup;
pub(crate) mod rollup_fingerprint;
pub(crate) mod row_mac;
pub(crate) mod rows;
pub(crate) mod same;
pub(crate) mod scan;
pub(crate) mod sender;
pub(crate) mod series;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod storage;
pub(crate) mod stream;
pub(crate) mod subjects;
pub(crate) mod tables;
pub(crate) mod text_compression;
pub(crate) mod watched;
pub(crate) mod writer_state;
pub(crate) mod zone_map;

pub use anchoring::AnchorHealth;
pub use backup::Backup;
pub(crate) use cursors::{Move, Own, TAMPERING};
pub(crate) use engine::Engine;
pub(crate) use entry_record::EntryRecord;
pub(crate) use index_batch::{PurgedRow, Row, is_impersonal};
#[cfg(feature = "owner")]
pub(crate) use keyring::KeySource;
pub use log::{AuditLog, Begun, Receipt};
pub(crate) use lookup::Postings;
#[cfg(feature = "owner")]
pub(crate) use open::key_path;
pub use options::Options;
pub(crate) use pages::Flaw;
pub(crate) use panic_guard::guarded;
pub use panic_guard::is_guarded;
pub(crate) use prepare::Prepared;
#[cfg(feature = "owner")]
pub(crate) use remote_call::{OwnSender, RemoteBatch};
pub(crate) use replacement::check_pages;
pub(crate) use rewrite::covers;
pub(crate) use rollup::Cell;
pub(crate) use rollup_fingerprint::{Hashes, RollupFingerprint, RollupFingerprints, Tally};
pub(crate) use row_mac::Vouched;
pub(crate) use rows::{BatchRows, IndexRow};
pub(crate) use scan::Kept;
pub(crate) use sender::REMEMBERED;
pub(crate) use series::Series;
pub(crate) use snapshot::Snapshot;
pub use storage::Storage;
pub(crate) use zone_map::{Zones, of_those as zones_of};

/// Merkle nodes from this level up have a row each; lower ones are made from the hashes in the blocks.
pub(crate) const NODE_LEVEL: u8 = 8;

// A zone of the lowest level and a Merkle node of the lowest stored level cover the same entries, and a block's end
// offsets fit their four bytes.
const _: () = assert!(zone_map::LEVELS[0] == NODE_LEVEL as u32);
const _: () = assert!(block::BLOCK_BYTES < crate::codec::MAX_BYTES);
const _: () = assert!(crate::codec::MAX_BYTES < u32::MAX as usize);

//! The store: one file, one writer at a time, any number of readers.
//!
//! Calls go downwards: [`AuditLog`] (`log`) is what a host holds; `prepare` turns what it says into what may be recorded,
//! `draft` writes of that whatever does not need its place; `turn` and `commit` put it on the disk (`writer` is what they know),
//! `publish` shows it; `merge` moves the index of the newest entries (`pending`) into the file; `subjects` keeps the keys of sealed
//! values, which `privacy` shows and destroys. `snapshot` reads, through a `view` that readers share, `rows` for proofs, and `starts` remembers
//! where blocks are; `open`
//! brings it all up (for `reading` over an `overlay`, which keeps the file as it is), `sound` keeps redb from files that it would
//! not survive, and `pages` reads these without redb; `purge` decides what goes, `rewrite` writes the
//! store anew without it, `place` puts that in the old one's place; `backup` copies, `health` says how things stand, `anchoring`
//! hands checkpoints out. `vouch` authenticates rows that nothing else bears out. `block` (of `part`s, with `pack`), `posting`, `rollup`, `zones`, `sender`, `state` and `tables` are how
//! things lie in the file. Only this folder knows redb.

mod agree;
mod anchoring;
mod backup;
#[cfg(feature = "benching")]
pub(crate) mod benching;
mod block;
mod commit;
mod draft;
mod follow;
#[cfg(test)]
mod forged;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gone;
mod guard;
mod health;
mod keyring;
mod log;
mod lookup;
mod manage;
mod marks;
mod merge;
mod names;
mod open;
mod options;
mod overlay;
mod pack;
mod pages;
mod part;
mod pending;
mod place;
mod posting;
mod prepare;
mod prints;
mod privacy;
mod publish;
mod purge;
mod reading;
mod rewrite;
mod rollup;
mod rows;
mod same;
mod scan;
mod sender;
#[cfg(feature = "owner")]
mod sent;
mod series;
mod shared;
mod snapshot;
mod sound;
mod starts;
mod state;
mod storage;
mod subjects;
mod tables;
mod turn;
mod varint;
mod view;
mod vouch;
mod writer;
mod zones;

pub use anchoring::AnchorHealth;
pub use backup::Backup;
pub(crate) use guard::guarded;
pub use health::{Health, Unsealed};
pub use log::{AuditLog, Begun, Receipt};
pub(crate) use lookup::Postings;
pub(crate) use marks::{Move, Own, TAMPERING};
pub(crate) use merge::{Husk, Row, SALT_BYTES, is_impersonal, row_inner, row_leaf_of};
pub use options::Options;
pub(crate) use pages::Flaw;
pub(crate) use part::Part;
pub(crate) use pending::BATCH;
pub(crate) use prepare::Prepared;
pub(crate) use prints::{Hashes, Print, Prints, Tally};
pub use purge::Purged;
pub(crate) use rewrite::covers;
pub(crate) use rollup::Cell;
pub(crate) use rows::{BatchRows, IndexRow, row_order};
pub(crate) use scan::Kept;
pub(crate) use sender::REMEMBERED;
#[cfg(feature = "owner")]
pub(crate) use sent::SentBatch;
pub(crate) use series::Series;
pub(crate) use shared::Shared;
pub(crate) use snapshot::Snapshot;
pub(crate) use state::STORE_FORMAT;
pub use storage::Storage;
pub(crate) use vouch::Vouched;
pub(crate) use zones::{Zones, of_those as zones_of};

/// Merkle nodes from this level up have a row each; lower ones are made from the hashes in the blocks.
pub(crate) const NODE_LEVEL: u8 = 8;

// A zone of the lowest level and a Merkle node of the lowest stored level cover the same entries, and a block's end
// offsets fit their four bytes.
const _: () = assert!(zones::LEVELS[0] == NODE_LEVEL as u32);
const _: () = assert!(block::BLOCK_BYTES < crate::codec::MAX_BYTES);
const _: () = assert!(crate::codec::MAX_BYTES < u32::MAX as usize);

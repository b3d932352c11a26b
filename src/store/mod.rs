//! The store: one file, one writer at a time, any number of readers. Only this folder knows redb.
//!
//! Its folders, from the bottom up:
//!
//! - `layout`: how values lie in the file, encoding beside decoding.
//! - `file`: the database in the file, its tables, reading its pages without redb, putting another file in its place.
//! - `engine`: what the threads that use one store share: group commit, writer state, keys, the index of the newest entries.
//! - `read`: a snapshot, and what is found in it.
//! - `write`: a call on its way to the disk: prepare, commit, publish.
//! - `maintain`: index batches, rewriting for a purge, backups, handing checkpoints to anchors, policies and holds.
//!
//! Beside them, `options` says how a store is made and opened, `log` is a store that is open ([`OpenStore`]), `load` reads the
//! file into memory, `open` brings it all up, and `recovery` does so again after a failed write.

pub(crate) mod engine;
pub(crate) mod file;
pub(crate) mod layout;
mod load;
pub(crate) mod log;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod read;
pub(crate) mod recovery;
pub(crate) mod write;

pub(crate) use engine::Engine;
pub(crate) use engine::encode::Prepared;
pub(crate) use engine::jobs::Delivers;
pub use engine::receipt::Receipt;
pub(crate) use engine::row_mac::Vouched;
#[cfg(test)]
pub(crate) use file::open_table::counted::look_ups;
#[cfg(feature = "owner")]
pub(crate) use file::overlay::Giving;
pub(crate) use file::pages::Flaw;
#[cfg(feature = "owner")]
pub(crate) use file::pages::header::was_left_open;
pub(crate) use file::panic_guard::guarded;
pub use file::panic_guard::is_guarded;
pub(crate) use file::replacement::check_pages;
pub use file::storage::Storage;
pub(crate) use layout::block::{Block, Place};
pub(crate) use layout::directory::Directory;
pub(crate) use layout::entry_record::EntryRecord;
pub(crate) use layout::index_row::{PurgedRow, Row};
pub(crate) use layout::rollup::Cell;
pub(crate) use layout::rollup_fingerprint::{Hashes, RollupFingerprint, RollupFingerprints, Tally};
pub(crate) use layout::seeds::Seeds;
pub(crate) use layout::segment::{ClusterKey, SEGMENT};
pub(crate) use layout::sender_window::REMEMBERED;
pub(crate) use layout::series::Series;
pub(crate) use layout::zone_map::{Zones, of_those as zones_of};
pub(crate) use log::OpenStore;
pub use maintain::backup::Backup;
pub(crate) use maintain::cursors::{Move, Own, TAMPERING};
pub(crate) use maintain::index_batch::is_impersonal;
pub(crate) use maintain::rewrite::covers;
#[cfg(feature = "owner")]
pub(crate) use open::key_path;
pub use options::Options;
#[cfg(feature = "owner")]
pub(crate) use options::{Access, KeySource};
pub(crate) use read::rows::{BatchRows, IndexRow};
pub(crate) use read::scan::Kept;
pub(crate) use read::signed_leaves::{Standing, not_placed};
pub(crate) use read::snapshot::Snapshot;
#[cfg(feature = "owner")]
pub(crate) use write::begin::for_reading_only;
#[cfg(feature = "owner")]
pub(crate) use write::prepare::ending;
#[cfg(feature = "owner")]
pub(crate) use write::remote_call::RemoteBatch;
pub(crate) use write::remote_call::{OwnSender, RemoteCall};

pub(crate) use layout::NODE_LEVEL;

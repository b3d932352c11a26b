//! The store: one file, one writer at a time, any number of readers.
//!
//! Calls go downwards: [`AuditLog`] (`log`) is what a host holds; `prepare` turns what it says into what may be recorded,
//! `draft` writes of that whatever does not need its place; `turn` and `commit` put it on the disk (`writer` is what they know),
//! `publish` shows it; `merge` moves the index of the newest entries (`pending`) into the file; `subjects` keeps the keys of sealed
//! values, which `privacy` shows and destroys. `snapshot` reads, through a `view` that readers share, `rows` for proofs, `bound` holds what is shown against what is signed, and `starts` remembers
//! where blocks are; `open`
//! brings it all up (for `reading` over an `overlay`, which keeps the file as it is), `sound` keeps redb from files that it would
//! not survive, `watched` notices when something else writes to them, and `pages` reads these without redb; `purge` decides what goes, `rewrite` writes the
//! store anew without it, `place` puts that in the old one's place; `backup` copies, `health` says how things stand, `anchoring`
//! hands checkpoints out. `vouch` authenticates rows that nothing else bears out. `block` (of `part`s, with `pack`), `posting`, `rollup`, `zones`, `sender`, `state` and `tables` are how
//! things lie in the file. Only this folder knows redb.

pub(crate) mod engine;
pub(crate) mod file;
pub(crate) mod layout;
pub(crate) mod log;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod read;
pub(crate) mod write;

pub(crate) use engine::Engine;
pub(crate) use engine::encode::Prepared;
pub use engine::receipt::Receipt;
pub(crate) use engine::row_mac::Vouched;
pub(crate) use file::pages::Flaw;
pub(crate) use file::panic_guard::guarded;
pub use file::panic_guard::is_guarded;
pub(crate) use file::replacement::check_pages;
pub use file::storage::Storage;
pub(crate) use layout::entry_record::EntryRecord;
pub(crate) use layout::index_row::{PurgedRow, Row};
pub(crate) use layout::rollup::Cell;
pub(crate) use layout::rollup_fingerprint::{Hashes, RollupFingerprint, RollupFingerprints, Tally};
pub(crate) use layout::sender_window::REMEMBERED;
pub(crate) use layout::series::Series;
pub(crate) use layout::zone_map::{Zones, of_those as zones_of};
pub use log::{AuditLog, Begun};
pub use maintain::anchoring::AnchorHealth;
pub use maintain::backup::Backup;
pub(crate) use maintain::cursors::{Move, Own, TAMPERING};
pub(crate) use maintain::index_batch::is_impersonal;
pub(crate) use maintain::rewrite::covers;
#[cfg(feature = "owner")]
pub(crate) use open::key_path;
#[cfg(feature = "owner")]
pub(crate) use options::KeySource;
pub use options::Options;
pub(crate) use read::rows::{BatchRows, IndexRow};
pub(crate) use read::scan::Kept;
pub(crate) use read::signed_leaves::{Standing, not_placed};
pub(crate) use read::snapshot::Snapshot;
#[cfg(feature = "owner")]
pub(crate) use write::remote_call::{OwnSender, RemoteBatch};

pub(crate) use layout::NODE_LEVEL;

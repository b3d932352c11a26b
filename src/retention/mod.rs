//! How long entries are kept, what keeps them longer, by which clock they expire, and which may go.
//!
//! `policy` says the class and the end of retention of a call (`period`, `preset`, `glob`; `config` reads it from
//! TOML), `patients` which patients it touches, `history` what later policies mean for what is recorded. `hold` keeps
//! entries whatever their age. `clock` is the clock by which they expire. `plan` puts these together: which entries go,
//! as a `seqs` set. Calls go from `plan` down to the others. Nothing here reads a clock or a file; the store does, and
//! passes it in.

mod clock;
#[cfg(feature = "config")]
mod config;
mod glob;
mod history;
mod hold;
mod patients;
mod period;
mod plan;
mod policy;
mod preset;

pub(crate) use attestlog_proof::seqs::Bits;
pub use attestlog_proof::{PurgeRecord, SeqSet};
pub(crate) use clock::is_within;
pub use clock::{ClockEvent, ClockState, ClockStatus, ExpiryClock, Frozen};
pub(crate) use glob::Glob;
pub use history::PolicyHistory;
pub(crate) use hold::{DIGEST, MANY};
pub use hold::{Hold, HoldRelease, HoldSelector, Holds};
pub use patients::PatientPaths;
pub use period::Period;
pub use plan::{Fate, Planner, PurgeCount, PurgePlan};
pub use policy::{PolicyBuilder, RetentionPolicy};
pub use preset::Preset;

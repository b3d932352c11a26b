//! How long entries are kept, what keeps them longer, the clock by which they expire, and which of them a purge takes.
//!
//! `policy` gives a call its class and its end of retention (`period`, `preset`; `config` reads it from TOML; `name_pattern`
//! and `glob` say which names a rule means), `patients` finds the patients that a call concerns, and `history` applies later
//! policies to entries that are already recorded. `hold` keeps entries regardless of their age. `clock` is the clock by which
//! they expire. `plan` combines these: it computes which entries go, as a `seqs` set. Calls go from `plan` down to the others.
//! Nothing here reads a clock or a file; the store does, and passes the values in.

mod clock;
#[cfg(feature = "config")]
mod config;
mod glob;
mod history;
mod hold;
mod name_pattern;
mod patients;
mod period;
mod plan;
mod policy;
mod preset;

pub(crate) use attestlog_proof::seqs::Bits;
pub use attestlog_proof::{PurgeRecord, SeqSet};
pub(crate) use clock::is_within;
pub use clock::{ClockEvent, ClockState, ClockStatus, ExpiryClock, Frozen};
pub(crate) use glob::{Glob, tool_form};
pub use history::PolicyHistory;
pub(crate) use hold::{DIGEST, MANY};
pub use hold::{Hold, HoldRelease, HoldSelector, Holds};
pub(crate) use name_pattern::NamePattern;
pub use patients::PatientPaths;
pub use period::Period;
pub use plan::{Planner, PurgeCount, PurgePlan};
pub use policy::{PolicyBuilder, RetentionPolicy};
pub use preset::Preset;

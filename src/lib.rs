//! attestlog
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::dbg_macro,
        clippy::disallowed_methods,
        clippy::exit,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used,
    )
)]

pub mod alert;
pub mod anchor;
pub mod child;
pub mod instrument;
pub mod keys;
pub mod redact;
pub mod retention;

#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching {
    pub use crate::store::maintain::benching::*;
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::log::fuzzing::*;
}

mod chain_state;
mod codec;
#[cfg(feature = "config")]
mod config;
mod emergency;
mod entry;
mod files;
mod grants;
mod host;
mod keyless;
mod log;
#[cfg(feature = "owner")]
pub mod owner;
mod policy;
mod process;
mod prove;
mod query;
mod restored;
mod rules;
mod store;
mod text;
#[cfg(feature = "config")]
mod toml_reader;
mod verify;

pub use attestlog_proof::{
    Attribution, Body, CLAIMED_TIME_BOUND, Call, CallError, CapturedBy, ClaimedTime, Completion, Content, Entry, Facet,
    Kind, Outcome, Phase, Retention, Sender, SystemEvent, Trigger,
};
pub use attestlog_proof::{
    Error, ErrorKind, Hash, ParseHashError, Place, Result, Timestamp, json, merkle, note, proof,
};
use attestlog_proof::{hash, line, names, rows, sealed, spelling};
pub use chain_state::Standing;
pub use entry::failure;
pub use entry::{CallLimits, CallResult, ResultPolicy, Summary, ToolCall};
#[doc(hidden)]
pub use entry::{IMPORTED, NOWHERE};
pub use grants::{Grant, GrantEnd, GrantState, GrantUse, Misuse, Review};
pub use host::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use keyless::Keyless;
pub use log::{Health, Purged, Unsealed};
pub use policy::{KeyPolicy, PolicySet};
pub use prove::{AtCheckpoint, Neighbours};
pub use query::{Hits, Persons, Query, Statistics, Step, Timeline, ToolStatistics, UnknownValue};
pub use restored::{Confirmed, Restored, Stands};
pub use store::{AnchorHealth, AuditLog, Backup, Begun, Options, Receipt, Storage, is_guarded};
pub use verify::{Finding, FindingKind, Verification, VerificationRecord, Verifications, VerifyOptions};

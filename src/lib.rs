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
pub mod capture;
pub mod child;
pub mod json;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod redact;
pub mod retention;

#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching {
    pub use crate::store::benching::*;
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::store::fuzzing::*;
}

mod codec;
#[cfg(feature = "config")]
mod config;
mod emergency;
mod entry;
mod error;
mod files;
mod hash;
mod host;
mod keyless;
mod ledger;
mod line;
#[cfg(feature = "owner")]
pub mod owner;
mod policy;
mod process;
mod prove;
mod query;
mod restored;
mod store;
mod time;
mod verify;

pub use emergency::{Grant, GrantEnd, GrantState, GrantUse, Misuse, Review};
pub use entry::{
    Attribution, Body, CLAIMED_TIME_BOUND, Call, CallError, CallLimits, CallResult, CapturedBy, ClaimedTime,
    Completion, Content, Entry, Field, Kind, Outcome, OwnEntry, Phase, ResultPolicy, Retention, Sender, Summary,
    ToolCall, Trigger,
};
pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, ParseHashError};
pub use host::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use keyless::Keyless;
pub use policy::{KeyPolicy, PolicySet};
pub use prove::{AtCheckpoint, Neighbours};
pub use query::{Hits, Persons, Query, Statistics, Step, Timeline, ToolStatistics, UnknownValue};
pub use restored::Restored;
pub use store::{AnchorHealth, AuditLog, Backup, Begun, Health, Options, Purged, Receipt, Storage, Unsealed};
pub use time::Timestamp;
pub use verify::{Finding, FindingKind, Noted, Verification, Verifications, VerifyOptions};

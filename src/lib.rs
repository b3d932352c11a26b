//! attestlog
#![forbid(unsafe_code)]

pub mod anchor;
pub mod json;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod redact;

mod codec;
mod entry;
mod error;
mod hash;
mod host;
mod line;
mod policy;
mod query;
mod store;
mod time;

pub use entry::{
    Attribution, Body, Call, CallError, CallLimits, CallResult, Completion, Content, Entry, Field, Kind, Outcome,
    OwnEntry, Phase, ResultPolicy, Retention, Sender, Summary, ToolCall, Trigger,
};
pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, ParseHashError};
pub use host::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use query::{Hits, Query, Statistics, Step, Timeline, ToolStatistics};
pub use store::{AuditLog, Begun, Options, Receipt};
pub use time::Timestamp;

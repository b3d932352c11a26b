//! attestlog
#![forbid(unsafe_code)]

pub mod json;
pub mod report;

mod codec;
mod entry;
mod error;
mod hash;
mod line;
mod time;

pub use entry::{
    Attribution, Body, Call, CallError, CallLimits, CallResult, Completion, Content, Entry, Field, Kind, Outcome,
    OwnEntry, Phase, ResultPolicy, Retention, Sender, Summary, ToolCall, Trigger,
};
pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, ParseHashError};
pub use time::Timestamp;

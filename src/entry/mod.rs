//! Turns a call into an entry of the log.
//!
//! A host describes a call with [`ToolCall`] (`input`). The store validates it, sanitises it, assigns what only the
//! store knows (seq, time, retention) and so makes the [`Entry`](crate::Entry), whose type and line belong to
//! `attestlog-proof`. `failure` decides what counts as a failure, `summary` and `viewed` what is kept of a result,
//! `record` reads a call from a line of input,
//! `odd` and `forged_seal` replace what cannot be kept as given, `reserved` refuses what only this library may state.

pub mod failure;
mod forged_seal;
mod input;
mod odd;
mod record;
mod reserved;
mod summary;
mod viewed;

pub(crate) use failure::{error_text, is_no_error, says_failed, text_fails};
#[cfg(feature = "owner")]
pub(crate) use input::OWN_SENDER;
pub use input::{CallLimits, CallResult, ToolCall};
pub use reserved::{IMPORTED, NOWHERE};
pub use summary::{ResultPolicy, Summary};
pub(crate) use viewed::viewed;

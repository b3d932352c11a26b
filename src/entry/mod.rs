//! How a call becomes an entry of the log.
//!
//! A host describes a call with [`ToolCall`] (`input`). The store validates and sanitises it, and adds what only the store knows
//! (seq, time, retention): that makes the [`Entry`](crate::Entry), whose type and line are in `attestlog-proof`. `failure` says what
//! counts as one, `summary` and `viewed` what is kept of a result. `odd` and `forged_seal` replace what cannot be kept as it came, and
//! `reserved` is what only this library may say of a call.

pub mod failure;
mod forged_seal;
mod input;
mod odd;
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

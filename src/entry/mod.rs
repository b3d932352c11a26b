//! Turns a call into an entry of the log.
//!
//! A host describes a call with [`ToolCall`] (`input`). The store validates it, sanitises it, assigns what only the
//! store knows (seq, time, retention) and so makes the [`Entry`](crate::Entry), whose type and line belong to
//! `attestlog-proof`. `failure` decides what counts as a failure, `shown` whether one shows more than its
//! error, `summary` and `viewed` what is kept of a result,
//! `record` reads a call from a line of input, `circumstances` what surrounds it,
//! `odd` and `forged_seal` replace what cannot be kept as given, `reserved` refuses what only this library may state,
//! `sealed` tells under which keys values are sealed.

mod circumstances;
pub mod failure;
mod forged_seal;
pub(crate) mod input;
mod odd;
mod record;
pub(crate) mod reserved;
mod sealed;
mod shown;
mod summary;
mod viewed;

pub use attestlog_proof::entry::{
    Approval, Attribution, CLAIMED_TIME_BOUND, CallError, Circumstances, ClaimedTime, Completion, Decision, Digests,
    Peer, Phase, Resource, Retention, SHA256, Source, SourceKind,
};
pub(crate) use circumstances::{SAID_AROUND, said_around};
pub(crate) use failure::is_no_error;
pub use input::CallLimits;
pub(crate) use input::follows_member;
pub(crate) use input::{CallResult, OWN_SENDER, ToolCall};
pub(crate) use sealed::destroyed;
pub(crate) use shown::shows_only_error;
pub use summary::{ResultPolicy, Summary};
pub(crate) use viewed::viewed;

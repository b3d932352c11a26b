//! How the calls of a Rust host get into the log.
//!
//! `call` wraps the handlers of a host, `queue` accepts calls from threads that must not wait, and `event` lets readers follow
//! what was recorded. The first two make [`ToolCall`](crate::ToolCall)s and pass them down to the log; nothing below calls back
//! up.

mod call;
mod event;
mod queue;

pub use call::{CallFailed, Classify, Mapped, Plain, Wrap};
pub use event::Follower;
pub use queue::{Queue, Reserve, Slot, Ticket};

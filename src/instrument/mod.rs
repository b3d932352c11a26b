//! How calls come into the log.
//!
//! `call` wraps the handlers of a host, `queue` takes calls from those who must not wait, and `event` lets others follow
//! what was recorded. Everything here produces [`ToolCall`](crate::ToolCall)s and hands them down to the log; nothing below
//! calls back up.

mod call;
mod event;
mod queue;

pub use call::{CallFailed, Classify, Mapped, Plain, Wrap};
pub use event::Follower;
pub use queue::{Queue, Reserve, Slot, Ticket};

//! What a Rust host uses beside the log itself.
//!
//! `call` wraps the handlers of a host, `queue` takes calls from those who must not wait, and `event` lets others follow what was recorded.
//! All of it makes [`ToolCall`](crate::ToolCall)s and hands them down to the log; nothing below calls back up.

mod call;
mod event;
mod queue;

pub use call::{CallFailed, Classify, Mapped, Plain, Wrap};
pub use event::Follower;
pub use queue::{Queue, Reserve, Slot, Ticket};

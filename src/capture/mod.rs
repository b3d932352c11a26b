//! How calls come into the log.
//!
//! [`import`] reads what other programs recorded; `call` wraps the handlers of a host, and `queue` takes calls from
//! those who must not wait; `event` lets others follow what was recorded; `mcp` watches a protocol. Everything here produces
//! [`ToolCall`](crate::ToolCall)s and hands them down to the log; nothing below calls back up.

mod call;
mod event;
pub mod import;
#[cfg(feature = "owner")]
pub mod mcp;
mod queue;

pub use call::{CallFailed, Classify, Mapped, Plain, Wrap};
pub use event::Follower;
pub use queue::{Queue, Reserve, Slot, Ticket};

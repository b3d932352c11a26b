//! How calls come into the log without a line changed in the agent that made them.
//!
//! [`import`] reads what other programs recorded. Everything here produces [`ToolCall`](crate::ToolCall)s and hands
//! them down to the log; nothing below calls back up.

pub mod import;

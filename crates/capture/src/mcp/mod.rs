//! The Model Context Protocol, as far as tool calls are concerned: watches what a host and a server exchange, and
//! records it.
//!
//! Invariant I1: no frame that asks for a tool call is forwarded before the call is on the disk as begun or, for tools
//! declared read-only, no reply before the whole call is on the disk. A call that cannot be recorded is not let through
//! unless the operator configured that. Invariant I2: a forwarded frame is forwarded byte for byte; frames are read,
//! never rewritten.
//!
//! `frame` reads frames, leniently where a server might. `strict` decides which of the host's frames are forwarded, so
//! that nothing runs because two parsers disagree; `repeats` keeps duplicate members apart. `ids` finds who waits for
//! the answer to an unreadable frame, `readings` whose reply a message may be, however its id is read. `observer` tracks the open calls and records them: `asking` handles what a host
//! requests, `beside` what a request holds besides the arguments, `answering` a server's replies, `tasks` its messages
//! about tasks, `patients` the patients concerned. `reply` says what a reply means for its call;
//! `crate::shorten` keeps of a large value what fits. No module does I/O except through the store; the program's `mcp` command moves the bytes.

mod frame;
mod ids;
mod observer;
mod readings;
mod repeats;
mod reply;
mod strict;

pub use frame::Frames;
pub use observer::{Identity, Observer, Settings, Verdict};

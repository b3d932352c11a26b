//! The Model Context Protocol, as far as tool calls go: what a host and a server say to each other, watched and recorded.
//!
//! Invariant I1: no frame that asks for a tool call goes on before the call is on the disk as begun, or, for tools said to
//! be read-only, its reply before the whole call is; what cannot be recorded is not let through unless the operator chose
//! so. Invariant I2: what goes on goes on byte for byte; a frame is read, never written anew.
//!
//! `frame` reads frames, leniently where a server might, and `strict` says which of a host's go on, so that nothing runs
//! because two parsers disagree; `repeats` keeps members of one name apart. `ids` finds who
//! waits for the answer to a frame that cannot be read. `observer` knows which calls are under way and
//! records them (`asking` what a host asks for, `beside` what that holds besides the arguments, `answering` what a server replies, `tasks` what
//! it tells of tasks); `reply` says what becomes of a call, `shorten` what is kept of a large one. None of them does I/O but for the
//! store; the program's `mcp` command moves the bytes.

mod frame;
mod ids;
mod observer;
mod repeats;
mod reply;
mod shorten;
mod strict;

pub use frame::Frames;
pub use observer::{Identity, Observer, Settings, Verdict};

//! Many processes on one store. The first process to open it owns it and listens on a local socket; the others work through
//! that socket, and one of them takes over when the owner exits.
//!
//! Invariant I5: a process that listens holds the store's lock, so a socket found by the holder of the lock was left by a
//! dead owner. Invariant I6: a process connects to a socket, or accepts a connection from one, only if the socket lies in a
//! private directory of this user and the process at the other end belongs to this user. Other invariants are kept
//! elsewhere: I7 (a record is in the log once) and R97 (who gives way loses nothing) in `audit_log/sharing`; I3, I4 and R74
//! (what crosses the socket, and who may use a sender's id) in `store/write/remote_call`; I13 and R72 (who may do what, and
//! which owner is trusted) in `authority` and `requests`; I14 and R96 (which connections are cut off, and who gives the store up)
//! in `server`; R73 (which frames wait) in `intake`.
//!
//! Calls go downwards. A host holds an [`AuditLog`](crate::AuditLog), which is above this folder. `server` serves the other
//! processes within the bounds of `intake` and asks `authority` what a connection may do; `remote` is the client and asks
//! `trust` whether to trust the owner. Both speak `wire` over `local`, which alone knows the platform, at the socket that
//! `place` finds.

mod authority;
mod intake;
mod local;
mod place;
mod remote;
mod server;
mod trust;
mod wire;

pub(crate) use place::sockets;
pub use place::was_left_open;
pub use remote::{Connection, reach};
pub(crate) use remote::{Lost, Remote, Tell, perhaps_recorded, reach_telling};
pub(crate) use server::Server;
pub use trust::keys;
pub(crate) use trust::{Confirmed, Trust};

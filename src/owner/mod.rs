//! Many processes on one store. The first that opens it owns it and listens on a local socket; the others work through it
//! and take over when it goes.
//!
//! Invariants I3 and I4 (what crosses, and what is accepted) and R74 (whose a sender is) are kept by `store/sent`, I13 (who may do
//! what) and R72 (who is believed) by `authority`, I14 (who is kept out) by `server`, R73 (who waits) by `intake`. Invariant I5: whoever listens holds
//! the store's lock, so a socket that is found there by the holder of the lock is a dead one's. Invariant I6: no socket is
//! spoken to, and nothing accepted from one, that does not lie in a private directory of this user and whose other end is
//! not a process of this user. Invariant I7: a record that was sent and not answered is sent again under the same number,
//! so it is in the log once, whichever process comes to own the store.
//!
//! Calls go downwards: `joint` is what a program holds and who owns what; `server` serves the others, `remote` is one of
//! them, and asks `trust` whom it speaks to; both speak `wire` over `local`, which alone knows the platform, at the place that `place` finds. What a connection may do
//! stands in `authority`.

mod authority;
mod intake;
mod local;
mod place;
mod remote;
mod server;
mod shared_store;
mod trust;
mod wire;

pub use authority::{Authority, Need};
pub use remote::{Connection, Ran, Terminal, reach};
pub use server::{Commands, Console};
pub use shared_store::{Guard, Owned, SharedBegun, SharedStore, Sharing, patience};
pub use trust::keys;
pub use wire::{Command, Effect};

//! Many processes on one store. The first that opens it owns it and listens on a local socket; the others work through it
//! and take over when it goes.
//!
//! Invariant I5: whoever listens holds the store's lock, so a socket that the holder of the lock finds is a dead one's. Invariant I6: no
//! socket is spoken to, and nothing accepted from one, unless it lies in a private directory of this user and its other end is a
//! process of this user. Invariant I7: a record that was sent and not answered is sent again under the same number, so it is in the log
//! once, whichever process comes to own the store. Others are kept elsewhere: I3, I4 and R74 (what crosses, and whose a sender is) in
//! `store/write/remote_call`, I13 and R72 (who may do what, and who is believed) in `authority`, I14 (who is kept out) in
//! `server`, R73 (who waits) in `intake`.
//!
//! Calls go downwards. `shared_store` is what a program holds. `server` serves the others within the bounds of `intake` and asks `authority` what a
//! connection may do; `remote` is one of the others and asks `trust` whom it speaks to. Both speak `wire` over `local`, which alone knows the
//! platform, at the place that `place` finds.

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

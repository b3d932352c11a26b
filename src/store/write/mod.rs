//! Writing: a call on its way from its host to the disk.
//!
//! `prepare` validates, sanitises and summarises it on the caller's thread, with `names` (names of people in the rest of a call),
//! `subjects` (keys of sealed values), `given`, `sender`, `same` and `follow` (what it says of earlier calls). `staging` gives it
//! its place, `commit` writes the transaction, with `state_row`, `row_mac` and `subject_rows`; `publish` shows it to readers.
//! `signing` signs checkpoints and rotates keys. `remote_call` is for calls of other processes, and `begin` opens for writing
//! what was open for reading.

pub(crate) mod begin;
pub(crate) mod commit;
pub(crate) mod follow;
pub(crate) mod given;
pub(crate) mod names;
pub(crate) mod prepare;
pub(crate) mod publish;
#[cfg_attr(
    not(feature = "owner"),
    allow(dead_code, reason = "nothing is sent to another process, but requests have the form")
)]
pub(crate) mod remote_call;
pub(crate) mod row_mac;
pub(crate) mod same;
pub(crate) mod sender;
pub(crate) mod signing;
pub(crate) mod staging;
pub(crate) mod state_row;
pub(crate) mod subject_rows;
pub(crate) mod subjects;

//! Writing: the path of a call from the caller to the disk.

pub(crate) mod begin;
pub(crate) mod commit;
pub(crate) mod follow;
pub(crate) mod names;
pub(crate) mod prepare;
pub(crate) mod publish;
#[cfg(feature = "owner")]
pub(crate) mod remote_call;
pub(crate) mod row_mac;
pub(crate) mod same;
pub(crate) mod sender;
pub(crate) mod signing;
pub(crate) mod state_row;
pub(crate) mod subject_rows;
pub(crate) mod subjects;

//! Reading: snapshots of the store, and the queries on them.

pub(crate) mod agree;
pub(crate) mod lookup;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod signed_leaves;
pub(crate) mod snapshot;
pub(crate) mod stream;

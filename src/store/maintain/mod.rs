//! Maintenance of a store, apart from recording: the index, purges, backups, anchors.

pub(crate) mod anchoring;
pub(crate) mod backup;
#[cfg(feature = "benching")]
pub(crate) mod benching;
pub(crate) mod cursors;
pub(crate) mod damaged;
pub(crate) mod index_batch;
pub(crate) mod manage;
pub(crate) mod purged;
pub(crate) mod rewrite;
pub(crate) mod upkeep;

//! What is done to a store besides recording.
//!
//! `upkeep` does what is due after a commit: index batches (`index_batch`) and checkpoints, which `anchoring` hands to anchors.
//! `manage` is for those who run a store: policies, holds, keys, the clock. `rewrite` writes the file anew for a purge, `carried_over`
//! checks that in tests, `purged` says what purges took, `backup` copies, `damaged` says what opening a damaged store found, and
//! `cursors` says how far alert rules and receivers have come.

pub(crate) mod anchoring;
pub(crate) mod backup;
#[cfg(feature = "benching")]
pub(crate) mod benching;
#[cfg(debug_assertions)]
pub(crate) mod carried_over;
pub(crate) mod cursors;
pub(crate) mod damaged;
pub(crate) mod index_batch;
pub(crate) mod manage;
pub(crate) mod purged;
pub(crate) mod rewrite;
pub(crate) mod seal;
pub(crate) mod upkeep;

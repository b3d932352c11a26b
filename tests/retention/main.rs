//! What is kept, held, purged and erased, and that the proofs stand.

mod airline_purge;
#[path = "../holds/body.rs"]
mod body;
#[path = "../common/mod.rs"]
mod common;
mod erasure;
mod expiry_clock;
mod hold_names;
mod holds;
mod nonces;
mod purge;
mod purge_cli;
mod purge_model;
mod purge_plan;
mod retention_policy;
#[path = "../store_common/mod.rs"]
mod store_common;

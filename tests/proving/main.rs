//! What is proved to others: inclusion, completeness, checkpoints, anchors, evidence.

mod airline_proofs;
mod anchoring;
mod anchors;
mod anchors_timestamp;
mod anchors_witness;
mod cli_anchors;
mod cli_prove;
mod cli_verify;
#[path = "../common/mod.rs"]
mod common;
mod completeness;
mod evidence;
mod evidence_python;
mod merkle;
mod notes;
mod proofs;
#[path = "../store_common/mod.rs"]
mod store_common;
#[path = "../witness/mod.rs"]
mod witness;

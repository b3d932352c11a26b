//! What is answered and what is proved of it: queries, statistics, alerts, reports, proofs, anchors, evidence.

mod access_report;
mod alerts;
mod alerts_conditions;
mod alerts_policies;
mod alerts_restarts;
mod alerts_tampering;
mod anchoring;
mod anchors;
mod anchors_witness;
mod break_glass;
mod completeness;
mod config;
#[path = "../entries/mod.rs"]
mod entries;
mod evidence;
mod evidence_python;
mod exports;
mod fhir;
mod health;
mod merkle;
mod notes;
mod proofs;
mod queries;
mod statistics;
#[path = "../store_common/mod.rs"]
mod store_common;
mod tidy;
#[cfg(feature = "witness")]
#[path = "../witness/mod.rs"]
mod witness;

//! Answers and the proofs about them: queries, statistics, alerts, reports, proofs, anchors, evidence.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

mod access_report;
mod alerts;
mod alerts_conditions;
mod alerts_people;
mod alerts_policies;
mod alerts_restarts;
mod alerts_tampering;
mod anchoring;
mod anchors;
mod anchors_witness;
mod break_glass;
mod breakdown;
mod call_counts;
mod completeness;
mod config;
mod details;
mod disclosures;
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
mod tables;
#[cfg(all(unix, feature = "owner"))]
mod through_owner;
mod tidy;
#[cfg(feature = "witness")]
#[path = "../witness/mod.rs"]
mod witness;

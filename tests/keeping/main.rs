//! Retention, holds, purges, erasure, redaction and keys.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

#[path = "../holds/body.rs"]
mod body;
mod calls_together;
mod circumstances;
mod detector_formats;
mod erasure;
mod erasure_running;
mod expiry_clock;
mod hold_names;
mod holds;
mod hostile_units;
mod identities;
mod keys;
mod nonces;
mod pii_corpus;
mod pseudonyms;
mod purge;
mod purge_meanwhile;
mod purge_model;
mod purge_plan;
mod redaction;
mod redaction_planted;
mod redaction_recall;
mod retention_policy;
mod settled;
#[path = "../store_common/mod.rs"]
mod store_common;

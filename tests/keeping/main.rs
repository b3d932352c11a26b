//! What is kept, held, purged, erased, redacted, and under which keys.

#[path = "../holds/body.rs"]
mod body;
mod detector_formats;
mod erasure;
mod expiry_clock;
mod hold_names;
mod holds;
mod identities;
mod keys;
mod nonces;
mod pii_corpus;
mod pseudonyms;
mod purge;
mod purge_model;
mod purge_plan;
mod redaction;
mod redaction_recall;
mod retention_policy;
#[path = "../store_common/mod.rs"]
mod store_common;

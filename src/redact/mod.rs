//! Privacy: what is sensitive is treated before anything is written.
//!
//! `policy` says what happens to what (`pattern`: which fields, `preset`: where policies begin, `config`: policies in
//! TOML); `sanitize` applies it (`context`: what it
//! is given besides), with `floor` and `names` for the names of secrets and `detect` for what a value
//! shows by itself (`encoded`: base64 undone; `found`: what becomes of what is found; `members`: what keys and neighbours say of a value); `ids` does the
//! same for the names that entries are found by;
//! `pseudonym` and `seal` are two of the things that can happen to a value; `treated` is the record of what was done;
//! `explain` tries a policy out. Calls go from `explain` to `sanitize` to the others. Nothing here does I/O:
//! keys and randomness are passed in.

#[cfg(feature = "config")]
mod config;
mod context;
mod detect;
mod encoded;
mod explain;
mod floor;
mod found;
mod ids;
mod members;
mod names;
mod pattern;
mod policy;
mod preset;
mod pseudonym;
mod sanitize;
mod seal;
mod spelling;
mod treated;

pub use context::{Context, Detect, Root, Secrets};
pub use explain::{dry_run, explain};
pub(crate) use ids::domain;
pub(crate) use members::patient_ids;
pub use policy::{Detector, Facet, Policy, PolicyBuilder, Preset};
pub(crate) use pseudonym::key_of;
pub use pseudonym::{PseudonymKey, is_pseudonym};
pub use sanitize::Sanitizer;
pub use seal::{
    MasterKey, Opened, Random, SubjectKey, SubjectKeys, open, seal, sealed_commitment, sealed_subject, verify_reveal,
};
pub(crate) use spelling::{Altered, gist, look, normal, normalise};
pub use treated::{Action, Treated};

/// Whether the floor replaces what stands under this key, whatever the policy: `apiKey`, `PASSWORD`, `card-number`.
///
/// ```
/// use attestlog::redact::is_secret_key;
/// assert!(is_secret_key("X-Api-Key"));
/// assert!(!is_secret_key("token_count"));
/// ```
pub fn is_secret_key(key: &str) -> bool {
    floor::kind_of_key(key).is_some()
}

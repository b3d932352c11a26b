//! Privacy: sensitive values are treated before anything is written.
//!
//! `policy` holds the rules (`pattern`: the fields a rule names; `preset`: the starting points; `config`: policies in
//! TOML), and `sanitize` applies them. `context` is the input to a treatment besides the value, `spans` merges the hits
//! in one text and replaces them, `treated` records what was done, and `explain` tries a policy out.
//!
//! Two things show that a value is sensitive. The first is the names around it: `secret_keys` (with `filter`, `holds`,
//! `joined`, `names`, `words`) knows the names of secrets; `key_names`, `beside` and `page` read what keys and
//! neighbours say. The second is the value itself: `detect` (with `encoded`, which looks into base64). `ids` treats the
//! names that entries are found by, and `patient` finds patients in a call, also in a text that is nearly JSON
//! (`loose`). `pseudonym` and `seal` implement two of the actions; `repeated` finds the people whom rules hide wherever
//! else they occur in the call; `spelling` records what a value's normal form leaves out.
//!
//! Calls go from `explain` to `sanitize` to the others. Nothing here does I/O: keys and randomness are passed in.

mod beside;
#[cfg(feature = "config")]
mod config;
mod context;
mod detect;
mod embedded;
mod encoded;
mod explain;
mod filter;
mod holds;
mod ids;
mod insert;
mod joined;
mod key_names;
mod loose;
mod names;
mod page;
mod patient;
mod pattern;
mod policy;
mod preset;
mod pseudonym;
mod repeated;
mod sanitize;
mod seal;
mod secret_keys;
mod spans;
mod spelling;
mod treated;
mod unsealed;
mod words;

pub use crate::names::is_pseudonym;
pub(crate) use crate::names::{PREFIX, domain, key_of};
pub use crate::sealed::{Opened, sealed_commitment, sealed_subject, verify_reveal};
pub(crate) use crate::spelling::{gist, look};
pub use crate::spelling::{is_invisible, normal};
pub use context::{Context, Detect, Root, Secrets};
pub(crate) use embedded::{Budget, Embedded};
pub(crate) use encoded::decoded;
pub use explain::{dry_run, explain};
pub(crate) use patient::{each_id, each_member, is_called, is_nearly_json, understood};
pub use patient::{names_patient, patient_of_address};
pub use policy::{Detector, IdentityKind, Policy, PolicyBuilder, Preset};
pub use pseudonym::PseudonymKey;
pub(crate) use repeated::Hidden;
pub use sanitize::Sanitizer;
pub use seal::{MasterKey, Random, SubjectKey, SubjectKeys, open, seal};
pub(crate) use spelling::{Altered, normalise};
pub use treated::{Action, Treated};
pub use unsealed::Unsealed;
pub(crate) use unsealed::unsealed;

/// Runs `find` on the normalized text and applies its replacements to the original. `None` if normalizing changes
/// nothing or nothing is found.
pub(crate) fn replaced_as_meant<T>(
    text: &str,
    find: impl Fn(&str) -> Vec<(std::ops::Range<usize>, String, T)>,
) -> Option<(String, T)> {
    let meant = detect::meant(text)?;
    let (mut out, mut done, mut first) = (String::new(), 0, None);
    for (place, with, what) in find(&meant.text) {
        let (start, end) = (meant.place(place.start, text.len()), meant.place(place.end, text.len()));
        out.push_str(text.get(done..start).unwrap_or_default());
        out.push_str(&with);
        done = end.max(done);
        first = first.or(Some(what));
    }
    out.push_str(text.get(done..).unwrap_or_default());
    first.map(|what| (out, what))
}

/// Whether the floor masks the value under this key, whatever the policy: `apiKey`, `PASSWORD`, `card-number`.
///
/// ```
/// use attestlog::redact::is_secret_key;
/// assert!(is_secret_key("X-Api-Key"));
/// assert!(!is_secret_key("token_count"));
/// ```
pub fn is_secret_key(key: &str) -> bool {
    secret_keys::kind_of_key(key).is_some()
}

//! What a store is told to do with what it records: how long to keep it, what to hide, what of results to keep, where
//! patients are named. All of it stands in the chain, so that a reader knows by which rules an entry was made.

use crate::alert::Rules;
use crate::entry::ResultPolicy;
use crate::json::{Json, Object};
use crate::redact::{self, Sanitizer};
use crate::retention::{PatientPaths, RetentionPolicy};
use crate::{Error, Result};

/// The policies of a store. A new one is a chained entry (see [`AuditLog::set_policy`](crate::AuditLog::set_policy)).
///
/// ```
/// use attestlog::PolicySet;
/// let policies = PolicySet::default();
/// assert_eq!(PolicySet::from_json(&policies.to_json())?, policies);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PolicySet {
    /// How long entries are kept.
    pub retention: RetentionPolicy,
    /// Where in arguments and results patients are named.
    pub patients: PatientPaths,
    /// What is hidden before anything is written.
    pub redaction: redact::Policy,
    /// What is kept of results.
    pub results: ResultPolicy,
    /// What raises an alert.
    pub alerts: Rules,
}

impl PolicySet {
    /// The object that the policy's entry holds.
    pub fn to_json(&self) -> Json {
        let results = Object::from_iter([
            ("identifying", Json::from(self.results.identifying.clone())),
            ("keep_full", self.results.keep_full.map(|n| n as u64).into()),
        ]);
        Object::from_iter([
            ("retention", self.retention.to_json()),
            ("patients", self.patients.to_json()),
            ("redaction", self.redaction.to_json()),
            ("redaction_digest", self.redaction.digest().to_string().into()),
            ("results", results.into()),
            ("alerts", self.alerts.to_json()),
        ])
        .into()
    }

    /// Reads what [`PolicySet::to_json`] writes.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) names what is missing or wrong.
    pub fn from_json(value: &Json) -> Result<PolicySet> {
        let part = |key: &str| value.get(key).ok_or_else(|| Error::invalid(format!("the policy has no {key}")));
        let results = part("results")?;
        let names = results.get("identifying").and_then(Json::as_array).unwrap_or_default();
        let keep_full = results.get("keep_full").and_then(Json::as_u64).and_then(|n| n.try_into().ok());
        let identifying = names.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        Ok(PolicySet {
            retention: RetentionPolicy::from_json(part("retention")?)?,
            patients: PatientPaths::from_json(part("patients")?)?,
            redaction: redact::Policy::from_json(part("redaction")?)?,
            results: ResultPolicy { identifying, keep_full },
            alerts: value.get("alerts").map_or_else(|| Ok(Rules::built_in()), Rules::from_json)?,
        })
    }
}

/// The policies in force, ready to be applied.
#[derive(Debug)]
pub(crate) struct Policies {
    /// The seq of the entry that set them.
    pub seq: u64,
    pub set: PolicySet,
    /// `None` where the policy needs a key that is not there.
    pub sanitizer: Option<Sanitizer>,
}

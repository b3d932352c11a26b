//! The policies of a store: how long to keep what it records, what to hide, what to keep of results, where patients are
//! named, when to replace keys. All of it is recorded in the chain, so that a reader knows by which rules an entry was
//! made.

use crate::entry::ResultPolicy;
use crate::json::{Json, Object};
use crate::redact::{self, Action, IdentityKind, Sanitizer};
use crate::retention::{PatientPaths, RetentionPolicy};
use crate::rules::Rules;
use crate::{Error, Result};
use attestlog_proof::members::shown;

/// The policies of a store. Setting new ones adds an entry to the chain (see
/// [`Retention::set_policies`](crate::groups::Retention::set_policies)).
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
    /// Where arguments and results name patients.
    pub patients: PatientPaths,
    /// What is hidden before anything is written.
    pub redaction: redact::Policy,
    /// What is kept of results.
    pub results: ResultPolicy,
    /// What raises an alert.
    pub alerts: Rules,
    /// When the epoch key is replaced.
    pub keys: KeyPolicy,
}

/// When the epoch key is replaced automatically, whichever comes first. Only an ended epoch is safe from somebody who
/// steals the key file, so shorter epochs are better; but each replacement is an entry, and makes earlier copies of the
/// key file useless for signing. Default: every million entries and every 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPolicy {
    /// After this many entries; at least [`KeyPolicy::MIN_ENTRIES`].
    pub rotate_entries: Option<u64>,
    /// After this many days of 24 hours; checked when something is recorded, and by the background thread of an open
    /// store.
    pub rotate_days: Option<u32>,
}

impl Default for KeyPolicy {
    fn default() -> KeyPolicy {
        KeyPolicy { rotate_entries: Some(1_000_000), rotate_days: Some(30) }
    }
}

impl KeyPolicy {
    /// Replaces the key only on request.
    pub fn never() -> KeyPolicy {
        KeyPolicy { rotate_entries: None, rotate_days: None }
    }

    /// The minimum number of entries in an epoch: every verification follows all epochs.
    pub const MIN_ENTRIES: u64 = 100;

    /// Checks that the numbers are allowed.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the number that is not.
    pub fn check(&self) -> Result<()> {
        if self.rotate_entries.is_some_and(|n| n < KeyPolicy::MIN_ENTRIES) {
            return Err(Error::invalid(format!("keys.rotate_entries is at least {}", KeyPolicy::MIN_ENTRIES)));
        }
        match self.rotate_days {
            Some(0) => Err(Error::invalid("keys.rotate_days is at least 1")),
            _ => Ok(()),
        }
    }

    fn to_json(self) -> Json {
        let members = [("rotate_entries", self.rotate_entries), ("rotate_days", self.rotate_days.map(u64::from))];
        members.into_iter().filter_map(|(name, n)| Some((name, n?))).collect::<Object>().into()
    }

    fn from_json(value: &Json) -> Result<KeyPolicy> {
        let number = |key: &str| match value.get(key) {
            None => Ok(None),
            Some(n) => n.as_u64().map(Some).ok_or_else(|| Error::invalid(format!("keys.{key} is a number"))),
        };
        let days = number("rotate_days")?.map(u32::try_from).transpose();
        let days = days.map_err(|_| Error::invalid("keys.rotate_days is a number of days"))?;
        let keys = KeyPolicy { rotate_entries: number("rotate_entries")?, rotate_days: days };
        keys.check().map(|()| keys)
    }
}

attestlog_proof::json_form!(methods PolicySet);

impl PolicySet {
    /// Checks that these policies may replace `old`: retention may be lengthened, never shortened, and patients are found wherever
    /// they were found.
    pub(crate) fn check_successor(&self, old: &PolicySet) -> Result<()> {
        self.retention.check_successor(&old.retention)?;
        self.patients.check_successor(&old.patients)
    }

    /// The object that is stored in the policy's entry.
    pub fn to_json(&self) -> Json {
        let results = Object::from_iter([
            ("identifying", Json::from(self.results.identifying.clone())),
            ("keep_full", self.results.keep_full.map(|n| n as u64).into()),
        ]);
        let mut json = Object::from_iter([
            ("retention", self.retention.to_json()),
            ("patients", self.patients.to_json()),
            ("redaction", self.redaction.to_json()),
            ("redaction_digest", self.redaction.digest().to_string().into()),
            ("results", results.into()),
            ("alerts", self.alerts.to_json()),
        ]);
        // Default values are left out, but never inside `keys`.
        if self.keys != KeyPolicy::default() {
            json.insert("keys", self.keys.to_json());
        }
        json.into()
    }

    /// Whether its parts can do together what they say. It is asked before a policy is put in force, not of one that is.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): an alert rule names, by a pattern, persons whose names the policy
    /// hides.
    pub(crate) fn check(&self) -> Result<()> {
        let hidden = IdentityKind::ALL.into_iter().filter(|kind| self.redaction.facet(*kind) == Action::Pseudonymise);
        for kind in hidden {
            let named = self.alerts.iter().find_map(|rule| Some((rule.name(), rule.pattern_of(kind.field())?)));
            if let Some((rule, (member, pattern))) = named {
                let what = kind.name();
                return Err(Error::invalid(format!(
                    "alert rule {rule:?}: {member}.{what} {}: the policy keeps each {what} as a pseudonym, which no pattern can \
                     find; name each one whole",
                    shown(pattern)
                )));
            }
        }
        Ok(())
    }

    /// Reads the output of [`PolicySet::to_json`].
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming what is missing or wrong.
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
            keys: value.get("keys").map_or_else(|| Ok(KeyPolicy::default()), KeyPolicy::from_json)?,
        })
    }
}

/// The policies in force, ready to be applied.
#[derive(Debug)]
pub(crate) struct Policies {
    /// The seq of the entry that set them.
    pub seq: u64,
    pub set: PolicySet,
    /// `None` if the policy needs a key that is not available.
    pub sanitizer: Option<Sanitizer>,
}

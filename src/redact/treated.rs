//! What a policy does with a value, and the record of what it did.

use crate::json::{Json, Object};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The action for a value that a rule or a detector matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The member is removed. In an array `null` takes its place, so that the other elements keep their indexes.
    Drop,
    /// It is replaced by `[REDACTED:what]`.
    Mask,
    /// Only its last four letters or digits are kept: `[…1234]`. Values with fewer than eight are masked.
    Partial,
    /// It is replaced by a pseudonym: the same value always gets the same one, and nobody without the key can tell
    /// whose it is.
    Pseudonymise,
    /// It is encrypted under its data subject's key. It is masked if no subject is known, and in plain text.
    Seal,
    /// It is kept as it is.
    Keep,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 6] =
        [Action::Drop, Action::Mask, Action::Partial, Action::Pseudonymise, Action::Seal, Action::Keep];

    /// The action's name in policies and entries.
    pub fn name(self) -> &'static str {
        match self {
            Action::Drop => "drop",
            Action::Mask => "mask",
            Action::Partial => "partial",
            Action::Pseudonymise => "pseudonymise",
            Action::Seal => "seal",
            Action::Keep => "keep",
        }
    }

    /// The action with this [`name`](Action::name); `pseudonymize` is accepted too.
    pub fn from_name(name: &str) -> Option<Action> {
        let name = if name == "pseudonymize" { "pseudonymise" } else { name };
        Action::ALL.into_iter().find(|a| a.name() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value, or one range of a text, that was treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treated {
    /// The path from the root: `arguments.items[2].note`. A path through a string leads into the JSON in it. Keys that
    /// were treated themselves appear in their treated form.
    pub path: String,
    /// The detector that found it; `key` for a key that names a secret, `rule` for a field rule.
    pub detector: String,
    /// The action that was applied.
    pub action: Action,
    /// The index of the first treated character in the string at `path`, before treatment; `None` if the whole value
    /// was treated.
    pub start: Option<usize>,
    /// The index after the last treated character.
    pub end: Option<usize>,
}

impl Treated {
    /// The full JSON form, as `redact --explain` prints it.
    pub fn to_json(&self) -> Json {
        let offset = |at: Option<usize>| at.map(|n| n as u64);
        Json::Object(Object::from_iter([
            ("path", Json::from(self.path.as_str())),
            ("detector", Json::from(self.detector.as_str())),
            ("action", Json::from(self.action.name())),
            ("start", Json::from(offset(self.start))),
            ("end", Json::from(offset(self.end))),
        ]))
    }

    /// Parses the output of [`to_json`](Treated::to_json).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the value does not have this form.
    pub fn from_json(value: &Json) -> Result<Treated> {
        let text = |key: &str| value.get(key).and_then(Json::as_str).map(str::to_owned);
        let offset = |key: &str| value.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        let (Some(path), Some(detector), Some(action)) = (text("path"), text("detector"), text("action")) else {
            return Err(Error::invalid("a treated value has path, detector and action"));
        };
        let action = Action::from_name(&action).ok_or_else(|| Error::invalid(format!("no action {action:?}")))?;
        Ok(Treated { path, detector, action, start: offset("start"), end: offset("end") })
    }

    /// The compact form for an entry: `{"mask":{"email":["arguments.note"],"key":["arguments.password"]}}`, each path
    /// once. It says what was found and where, but not how often or at which character.
    pub fn summary<'a>(treated: impl IntoIterator<Item = &'a Treated>) -> Json {
        let mut by: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for t in treated {
            by.entry(t.action.name()).or_default().entry(&t.detector).or_default().insert(&t.path);
        }
        let object = by.into_iter().map(|(action, detectors)| {
            let detectors = detectors.into_iter().map(|(d, paths)| (d, Json::from(Vec::from_iter(paths))));
            (action, Json::Object(detectors.collect()))
        });
        Json::Object(object.collect())
    }

    /// Parses the output of [`summary`](Treated::summary); offsets are not in it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the value does not have this form.
    pub fn from_summary(summary: &Json) -> Result<Vec<Treated>> {
        let bad = || Error::invalid("the list of treated values is not action → detector → paths");
        let mut out = Vec::new();
        for (action, detectors) in summary.as_object().ok_or_else(bad)?.iter() {
            let action = Action::from_name(action).ok_or_else(bad)?;
            for (detector, paths) in detectors.as_object().ok_or_else(bad)?.iter() {
                for path in paths.as_array().ok_or_else(bad)? {
                    let (path, detector) = (path.as_str().ok_or_else(bad)?.to_owned(), detector.to_owned());
                    out.push(Treated { path, detector, action, start: None, end: None });
                }
            }
        }
        Ok(out)
    }
}

//! What of a value a digest may cover: everything but what is sealed.
//!
//! Invariant R90: nothing that stays after an erasure, and nothing that is answered to somebody without the key, depends on a
//! sealed value other than its ciphertext. Digests, comparisons of repeats and identities of imported calls are made from the
//! value without what is sealed in it, so a guess of a sealed value is neither confirmed nor refuted by them.

use super::context::{Context, Root, Secrets};
use super::pattern::FieldPattern;
use super::policy::{Policy, Preset, Rule};
use super::sanitize::Sanitizer;
use super::treated::Action;
use crate::Result;
use crate::json::{Json, Object};
use crate::sealed::sealed_subject;

/// What stands in place of a sealed value where nothing is written.
pub(super) const SEALED: &str = "[SEALED]";

/// How many levels of JSON in texts are opened.
const DEEPEST: usize = 8;

/// The value without what is sealed in its `treated` form: `null` in its place.
pub(crate) fn unsealed(raw: Json, treated: Option<&Json>) -> Json {
    match (raw, treated) {
        (_, Some(treated)) if is_sealed(treated) => Json::Null,
        (Json::Array(raw), Some(Json::Array(treated))) if raw.len() == treated.len() => {
            raw.into_iter().zip(treated).map(|(raw, treated)| unsealed(raw, Some(treated))).collect::<Vec<_>>().into()
        }
        (Json::Object(raw), Some(Json::Object(treated))) => {
            // A member whose name is hidden cannot be found again.
            let renamed = treated.iter().any(|(key, value)| raw.get(key).is_none() && has_sealed(value));
            let member = |(key, raw): (String, Json)| {
                let rest = match treated.get(&key) {
                    Some(treated) => unsealed(raw, Some(treated)),
                    None if renamed => Json::Null,
                    None => raw,
                };
                (key, rest)
            };
            raw.into_iter().map(member).collect::<Object>().into()
        }
        (_, Some(treated)) if has_sealed(treated) => Json::Null,
        (raw, _) => raw,
    }
}

fn is_sealed(value: &Json) -> bool {
    sealed_subject(value).is_some() || value.as_str() == Some(SEALED)
}

fn has_sealed(value: &Json) -> bool {
    match value {
        _ if is_sealed(value) => true,
        Json::Array(items) => items.iter().any(has_sealed),
        Json::Object(members) => members.iter().any(|(_, value)| has_sealed(value)),
        _ => false,
    }
}

/// Leaves out of a value what a policy seals, wherever it stands in it: of a message of a transcript, before it is known
/// which part of it becomes a call's arguments and which its result.
///
/// ```
/// use attestlog::json::Json;
/// use attestlog::redact::{Action, Policy, Preset, Unsealed};
/// let policy = Policy::builder(Preset::Default).field("arguments.pin", Action::Seal).build()?;
/// let message = Json::parse(br#"{"function": {"name": "check", "arguments": "{\"pin\": 4711}"}}"#)?.value;
/// let unsealed = Unsealed::of(&policy)?.expect("it seals something").form(&message)?;
/// assert_eq!(unsealed.to_canonical().as_str(), r#"{"function":{"arguments":{"pin":null},"name":"check"}}"#);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct Unsealed(Sanitizer);

impl Unsealed {
    /// For this policy; `None` if it seals nothing.
    ///
    /// # Errors
    /// As [`Sanitizer::new`].
    pub fn of(policy: &Policy) -> Result<Option<Unsealed>> {
        if !policy.needs_subject_keys() {
            return Ok(None);
        }
        // Only what is sealed: an identity stays the same whatever else a policy hides.
        let mut seals = Policy::preset(Preset::Floor);
        seals.allow_secrets = true;
        let sealing = policy.rules.iter().filter(|rule| rule.action == Action::Seal);
        let anywhere = |rule: &Rule| {
            let rule_of = |field: FieldPattern| Rule { field, action: Action::Seal, domain: None };
            rule.field.anywhere().into_iter().map(rule_of).collect::<Vec<_>>()
        };
        seals.rules = sealing.flat_map(anywhere).collect();
        seals.detectors = policy.detectors.iter().map(|(d, a)| (*d, *a)).filter(|(_, a)| *a == Action::Seal).collect();
        seals.customs = policy.customs.iter().filter(|custom| custom.action == Action::Seal).cloned().collect();
        Ok(Some(Unsealed(Sanitizer::new(&seals, Secrets::default())?)))
    }

    /// The value without what is sealed; texts that are JSON are opened, so that only the member that is sealed is left out.
    ///
    /// # Errors
    /// As [`Sanitizer::treat`].
    pub fn form(&self, value: &Json) -> Result<Json> {
        let raw = opened(value.clone(), DEEPEST);
        let mut treated = raw.clone();
        self.0.treat(Root::Text, &mut treated, &mut Context::trying_out())?;
        Ok(unsealed(raw, Some(&treated)))
    }
}

/// The value with the JSON in its texts in their place, and with pairs of a key and a value, as telemetry has them, as
/// members.
fn opened(value: Json, depth: usize) -> Json {
    match value {
        Json::String(text) if depth > 0 && text.trim_start().starts_with(['{', '[']) => {
            match Json::parse(text.as_bytes()) {
                Ok(parsed) => opened(parsed.value, depth - 1),
                Err(_) => Json::String(text),
            }
        }
        Json::Array(items) => items.into_iter().map(|item| opened(item, depth)).collect::<Vec<_>>().into(),
        Json::Object(members) => {
            let pair = members.get("key").and_then(Json::as_str).zip(members.get("value"));
            if let Some((key, value)) = pair.filter(|_| members.len() == 2) {
                return Object::from_iter([(key, opened(value.clone(), depth))]).into();
            }
            members.into_iter().map(|(key, value)| (key, opened(value, depth))).collect::<Object>().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_seals_is_left_out_wherever_it_stands() {
        let message = r#"{"content":[{"text":"{\"id\":1,\"pin\":\"7\"}"},{"input":{"pin":8,"x":"{\"a\":[{\"pin\":9}]}"}}],"pin":null}"#;
        let message = Json::parse(message.as_bytes()).unwrap().value;
        let form = |field: &str| {
            let policy = Policy::builder(Preset::Default).field(field, Action::Seal).build().unwrap();
            Unsealed::of(&policy).unwrap().unwrap().form(&message).unwrap().to_canonical().as_str().to_owned()
        };
        for field in ["pin", "*.**.pin", "result.**.pin", "*in", "/^pi/"] {
            let form = form(field);
            assert!(!form.contains(['7', '8', '9']) && form.contains(r#""id":1"#), "{field}: {form}");
        }
        let inputs = form("arguments");
        assert!(!inputs.contains(['8', '9']) && inputs.contains('7'), "{inputs}");
        assert!(form("arguments.pin").contains(r#""input":{"pin":null"#));
        assert!(Unsealed::of(&Policy::default()).unwrap().is_none());
    }
}

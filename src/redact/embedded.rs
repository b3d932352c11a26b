//! JSON in the middle of a text: `Error: {"diagnosis": …}`, several answers joined into one message, a fenced block.
//!
//! Field rules apply to it as to a text that is JSON as a whole. Parts of malformed JSON (a Python dictionary, JSON that was cut
//! off) cannot be replaced: if a rule applies in it, the whole text is withheld.

use super::loose;
use super::policy::Policy;
use super::sanitize::{At, MAX_INNER, Outcome, Sanitizer, State, record};
use super::spans::placeholder;
use super::treated::Action;
use crate::Result;
use crate::json::{Json, Limits};
use std::ops::Range;

/// The search for JSON reads each byte of a text at most this often on average; a text that would take longer is not searched to
/// its end.
const MOST_READ: usize = 16;
/// A text this short is always searched.
const ALWAYS: usize = 64 << 10;

/// The JSON that a text contains.
#[derive(Default)]
pub(crate) struct Embedded {
    /// Objects and arrays, with their positions.
    pub(crate) json: Vec<(Range<usize>, Json)>,
    /// Malformed objects and arrays, as far as they can be read.
    nearly: Vec<Json>,
    /// Whether the search was given up before the end of the text.
    unfinished: bool,
}

impl Embedded {
    /// Searches a text.
    pub(crate) fn of(text: &str) -> Embedded {
        let mut found = Embedded::default();
        let mut budget = text.len().saturating_mul(MOST_READ).saturating_add(ALWAYS);
        let mut at = 0;
        while let Some(start) = text.get(at..).and_then(|rest| rest.find(['{', '['])).map(|i| at + i) {
            let end = end_of(&text.as_bytes()[start..]).map(|length| start + length);
            let part = text.get(start..end.unwrap_or(text.len())).unwrap_or_default();
            // It is read up to three times: to find its end, strictly, and leniently.
            let Some(left) = budget.checked_sub(3 * part.len()) else {
                found.unfinished = true;
                break;
            };
            budget = left;
            let strict = end.and_then(|_| Json::parse_within(part.as_bytes(), &Limits::bytes(usize::MAX)).ok());
            at = match strict {
                Some(parsed) => {
                    found.json.push((start..start + part.len(), parsed.value));
                    start + part.len()
                }
                None => {
                    found.nearly.extend(loose::read(part).filter(has_members));
                    end.unwrap_or(start + 1)
                }
            };
        }
        found
    }

    /// All values, each as far as it can be read.
    pub(crate) fn into_values(self) -> impl Iterator<Item = Json> {
        self.json.into_iter().map(|(_, json)| json).chain(self.nearly)
    }
}

fn has_members(json: &Json) -> bool {
    match json {
        Json::Object(members) => !members.is_empty(),
        Json::Array(items) => items.iter().any(has_members),
        _ => false,
    }
}

/// The length of the object or array at the beginning of a text, if its brackets are closed again.
fn end_of(text: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (i, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

impl Sanitizer {
    /// Applies the field rules to JSON in the middle of a text; malformed JSON is treated with the whole text.
    pub(super) fn embedded(
        &self,
        text: &mut String,
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Option<Outcome>> {
        if !has_rules(&self.policy) || !text.contains(['{', '[']) || state.inner >= MAX_INNER {
            return Ok(None);
        }
        let found = Embedded::of(text);
        let before = state.context.treated.len();
        let mut withheld = found.unfinished;
        for mut nearly in found.nearly {
            let start = state.context.treated.len();
            if let seal @ Outcome::Seal { .. } = self.inside(&mut nearly, at, key, detect, state)? {
                return Ok(Some(seal));
            }
            withheld |= state.context.treated.drain(start..).any(|treated| treated.detector == "rule");
        }
        if withheld {
            state.context.treated.truncate(before);
            *text = placeholder(Some("rule"));
            record(state, at, "rule", Action::Mask, None);
            return Ok(Some(Outcome::Stays));
        }
        let (mut out, mut done) = (String::new(), 0);
        for (place, mut json) in found.json {
            let start = state.context.treated.len();
            match self.inside(&mut json, at, key, detect, state)? {
                Outcome::Stays => {}
                Outcome::Drop => json = Json::Null,
                seal @ Outcome::Seal { .. } => return Ok(Some(seal)),
            }
            if state.context.treated.len() > start {
                out.push_str(text.get(done..place.start).unwrap_or_default());
                out.push_str(json.to_canonical().as_str());
                done = place.end;
            }
        }
        if done > 0 {
            out.push_str(text.get(done..).unwrap_or_default());
            *text = out;
        }
        Ok(None)
    }

    /// Treats one value found in a text.
    fn inside(
        &self,
        value: &mut Json,
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        state.inner += 1;
        let outcome = self.descend(value, at, key, detect, state);
        state.inner -= 1;
        outcome
    }
}

fn has_rules(policy: &Policy) -> bool {
    !policy.rules.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_wherever_it_stands_in_a_text() {
        let found = |text: &str| {
            let all = Embedded::of(text).into_values().map(|json| json.to_canonical().to_string());
            all.collect::<Vec<_>>().join(" ")
        };
        for (text, wanted) in [
            ("Error: {\"a\":1}", r#"{"a":1}"#),
            ("first\n{\"a\":\"}\\\"{\"} then [{\"b\":2}].", r#"{"a":"}\"{"} [{"b":2}]"#),
            ("```json\n{\"a\":1}\n```", r#"{"a":1}"#),
            // Malformed JSON is read as far as possible.
            ("a { not json, {\"a\":1}", r#"{"a":1} {"{\"a\"":1}"#),
            ("{'a': 'x'} and {\"b\":1", r#"{"a":"x"} {"b":1}"#),
            ("[Errno 2] no such file: (x) ]}", ""),
            ("", ""),
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
        assert!(Embedded::of(&"{".repeat(1 << 20)).unfinished);
        assert!(Embedded::of(&"[1] ".repeat(1 << 16)).json.len() == 1 << 16);
    }
}

//! JSON in the middle of a text: `Error: {"diagnosis": …}`, several answers joined into one message, a fenced block.
//!
//! Field rules apply to it as to a text that is JSON as a whole. Parts of malformed JSON (a Python dictionary, JSON that was cut
//! off) cannot be replaced: if a rule applies in it, the whole text is withheld.

use super::loose;
use super::policy::Policy;
use super::sanitize::{At, MAX_INNER, Outcome, Sanitizer, State, mask, record};
use super::spans::placeholder;
use super::treated::Action;
use crate::Result;
use crate::json::{Json, Limits};
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

/// The search for JSON reads each byte of a value at most this often on average; a text that would take longer is not searched to
/// its end.
const MOST_READ: usize = 16;
/// A text this short is always searched.
const ALWAYS: usize = 64 << 10;

/// How much the search may still read. All texts of a value share it, with the texts inside them: what is found in malformed JSON is
/// searched again, and without a common bound a short text could take for ever.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget(ALWAYS)
    }

    /// Adds what the search of this text may read.
    pub(crate) fn grant(&mut self, text: &str) {
        self.0 = self.0.saturating_add(text.len().saturating_mul(MOST_READ));
    }

    /// Whether there was enough.
    fn spend(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The JSON that a text contains.
#[derive(Default)]
pub(crate) struct Embedded {
    /// Objects and arrays, with their positions.
    pub(crate) json: Vec<(Range<usize>, Json)>,
    /// Malformed objects and arrays, as far as they can be read, with the strings in them that have escapes.
    nearly: Vec<(Json, HashSet<String>)>,
    /// Whether the search was given up before the end of the text.
    unfinished: bool,
}

impl Embedded {
    /// Searches a text.
    pub(crate) fn of(text: &str, budget: &mut Budget) -> Embedded {
        let mut found = Embedded::default();
        let mut at = 0;
        while let Some(start) = text.get(at..).and_then(|rest| rest.find(['{', '['])).map(|i| at + i) {
            let end = end_of(&text.as_bytes()[start..]).map(|length| start + length);
            let part = text.get(start..end.unwrap_or(text.len())).unwrap_or_default();
            // It is read up to three times: to find its end, strictly, and leniently.
            if !budget.spend(3 * part.len()) {
                found.unfinished = true;
                break;
            }
            let strict = end.and_then(|_| Json::parse_within(part.as_bytes(), &Limits::bytes(usize::MAX)).ok());
            at = match strict {
                Some(parsed) => {
                    found.json.push((start..start + part.len(), parsed.value));
                    start + part.len()
                }
                None => {
                    found.nearly.extend(loose::read_marking(part).filter(|(json, _)| has_members(json)));
                    end.unwrap_or(start + 1)
                }
            };
        }
        found
    }

    /// All values, each as far as it can be read.
    pub(crate) fn into_values(self) -> impl Iterator<Item = Json> {
        self.json.into_iter().map(|(_, json)| json).chain(self.nearly.into_iter().map(|(json, _)| json))
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
    /// Treats the JSON that a string holds; `None` if it holds none.
    pub(super) fn inner_json(
        &self,
        text: &mut String,
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Option<Outcome>> {
        let trimmed = text.trim();
        let looks = match trimmed.as_bytes() {
            [b'{', .., b'}'] | [b'[', .., b']'] => true,
            // JSON that was encoded as a string once more has escaped quotes in it.
            [b'"', .., b'"'] => trimmed.contains("\\\""),
            _ => false,
        };
        if !looks {
            return Ok(None);
        }
        let Ok(parsed) = Json::parse_within(trimmed.as_bytes(), &Limits::bytes(usize::MAX)) else { return Ok(None) };
        let mut inner = parsed.value;
        let before = state.context.treated.len();
        let outcome = state.inside(None, |state| match state.inner > MAX_INNER {
            true => self.replace(&mut inner, at, &mask("depth", "depth"), state),
            false => self.descend(&mut inner, at, key, detect, state),
        });
        match outcome? {
            Outcome::Stays => {}
            Outcome::Drop => inner = Json::Null,
            seal => return Ok(Some(seal)),
        }
        if state.context.treated.len() > before {
            *text = inner.to_canonical().as_str().to_owned();
        }
        Ok(Some(Outcome::Stays))
    }

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
        // What stands word for word in a text around, outside well-formed JSON, was searched there.
        if state.fresh.as_ref().is_some_and(|fresh| !fresh.contains(text.as_str())) {
            return Ok(None);
        }
        let found = Embedded::of(text, &mut state.budget);
        let before = state.context.treated.len();
        let mut withheld = found.unfinished;
        for (mut nearly, unescaped) in found.nearly {
            let start = state.context.treated.len();
            let unescaped = Some(Rc::new(unescaped));
            if let seal @ Outcome::Seal { .. } =
                state.inside(unescaped, |state| self.descend(&mut nearly, at, key, detect, state))?
            {
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
            match state.inside(None, |state| self.descend(&mut json, at, key, detect, state))? {
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
}

fn has_rules(policy: &Policy) -> bool {
    !policy.rules.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::context::{Context, Root, Secrets};
    use crate::redact::detect::SEARCHED;
    use crate::redact::policy::Preset;

    #[test]
    fn json_is_found_wherever_it_stands_in_a_text() {
        let found = |text: &str| {
            let all = Embedded::of(text, &mut Budget::new()).into_values().map(|json| json.to_canonical().to_string());
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
        let of = |text: String| {
            let mut budget = Budget::new();
            budget.grant(&text);
            Embedded::of(&text, &mut budget)
        };
        assert!(of("{".repeat(1 << 20)).unfinished);
        assert!(of("[1] ".repeat(1 << 16)).json.len() == 1 << 16);
    }

    /// Two kilobytes of `Cookie: ${` kept a recorder busy for ever: each brace that is never closed begins malformed JSON, whose texts
    /// were searched for malformed JSON, and so on, eight levels deep. That it took time in proportion to a text's length was measured
    /// in one detector only.
    #[test]
    fn a_value_is_searched_in_proportion_to_its_length() {
        let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default()).unwrap();
        let searched = |value: &Json| {
            let before = SEARCHED.get();
            sanitizer.treat(Root::Result, &mut value.clone(), &mut Context::new()).unwrap();
            SEARCHED.get() - before
        };
        let units = [
            "Cookie: ${",
            "{a: ",
            "[{b:'\\n",
            "{\"c\":\"\\u0041",
            "{d:\"e [",
            "{'f': '{\"g\": \"\\n",
            "insert into t (h) values ('{i: ",
        ];
        for unit in units {
            for length in [1 << 8, 1 << 10, 1 << 12] {
                let text = unit.repeat(length / unit.len() + 1);
                let most = 16 * (text.len() + ALWAYS);
                let once = searched(&Json::from(text.as_str()));
                assert!(once <= most, "{once} bytes for {} of {unit:?}", text.len());
                // In many texts, of one value.
                let many = Json::Array(vec![Json::from(text.as_str()); 32]);
                let all = searched(&many);
                assert!(all <= 16 * (32 * text.len() + ALWAYS), "{all} bytes for 32 times {} of {unit:?}", text.len());
            }
        }
    }

    /// What stands in malformed JSON with escapes is found, and is not searched for in vain where it stands word for word.
    #[test]
    fn rules_hold_in_texts_of_malformed_json() {
        let policy = Policy::builder(Preset::Floor).rule("diagnosis", Action::Mask, None).build().unwrap();
        let sanitizer = Sanitizer::new(&policy, Secrets::default()).unwrap();
        for text in [
            r#"{"answer": "see {\"diagnosis\": \"x\"}", "#,
            r#"{'answer': 'see {"diagnosis": "x"}', "#,
            r#"{"answer": "{\"note\":\"see {\\\"diagnosis\\\":1}\"}", cut"#,
        ] {
            let mut value = Json::from(text);
            sanitizer.treat(Root::Result, &mut value, &mut Context::new()).unwrap();
            let treated = value.as_str().unwrap();
            assert!(
                treated.contains("[REDACTED") && !treated.contains("\"x") && !treated.contains(":1"),
                "{text}: {treated}"
            );
        }
    }
}

//! What the members of an object are called: keys that detectors find something in, keys that name somebody, and what
//! one member says of another.

use super::detect::Hit;
use super::floor::{self, Kind};
use super::found::placeholder;
use super::sanitize::{At, Sanitizer, State, record};
use super::treated::Action;
use crate::json::{Json, Object};
use std::collections::{HashMap, HashSet};

impl Sanitizer {
    /// Keys in which detectors find something are renamed before anything else, so that no path shows them.
    pub(super) fn object_keys(&self, object: &mut Object, at: &At<'_>, state: &mut State<'_, '_>) {
        let mut hits = Vec::new();
        if !object.iter().any(|(key, _)| self.scan(key, None, &mut hits).is_err() || !hits.is_empty()) {
            return;
        }
        let mut renamed = HashMap::new();
        let mut unique = Unique::among(object);
        for (key, _) in object.iter() {
            hits.clear();
            let failed = self.scan(key, None, &mut hits).err();
            if failed.is_none() && hits.is_empty() {
                continue;
            }
            let (text, found) = match failed {
                Some(name) => (placeholder(Some(&name)), vec![(name, Action::Mask)]),
                None => self.found_in_key(key, &mut hits),
            };
            let text = unique.of(text);
            for (name, action) in found {
                record(state, &at.key(&text, None), &name, action, None);
            }
            renamed.insert(key.to_owned(), text);
        }
        rename(object, &renamed);
    }

    fn found_in_key(&self, key: &str, hits: &mut [Hit]) -> (String, Vec<(String, Action)>) {
        let spans = self.merge(hits);
        let found = spans.iter().map(|s| (self.name(s.kind).to_owned(), stays_text(s.action))).collect();
        (self.apply(key, &spans, stays_text), found)
    }
}

/// What can be done where a text has to stay: a key cannot be sealed, and a member without a key is none.
pub(super) fn stays_text(action: Action) -> Action {
    match action {
        Action::Seal | Action::Drop => Action::Mask,
        other => other,
    }
}

/// Names that no other member has. Two e-mail addresses as keys give the same placeholder; counting on keeps many of
/// them linear.
struct Unique {
    taken: HashSet<String>,
    counts: HashMap<String, usize>,
}

impl Unique {
    fn among(object: &Object) -> Unique {
        Unique { taken: object.iter().map(|(key, _)| key.to_owned()).collect(), counts: HashMap::new() }
    }

    fn of(&mut self, text: String) -> String {
        let mut unique = text.clone();
        let n = self.counts.entry(text.clone()).or_insert(1);
        while !self.taken.insert(unique.clone()) {
            *n += 1;
            unique = format!("{text} ({n})");
        }
        unique
    }
}

/// What keys are called from now on that name somebody whom the policy hides. Their members are looked at first, under
/// the names that they have: who is called *password* must not take the floor away from a password.
pub(super) fn renames(object: &Object, at: &At<'_>, state: &mut State<'_, '_>) -> HashMap<String, String> {
    let mut renamed = HashMap::new();
    let Some(names) = state.context.names else { return renamed };
    let mut unique = None;
    for (key, _) in object.iter() {
        let Some((text, of)) = names(key) else { continue };
        let text = unique.get_or_insert_with(|| Unique::among(object)).of(text);
        record(state, &at.key(&text, None), of, Action::Pseudonymise, None);
        renamed.insert(key.to_owned(), text);
    }
    renamed
}

/// Gives members other keys.
pub(super) fn rename(object: &mut Object, renamed: &HashMap<String, String>) {
    let old = std::mem::take(object);
    let mut members: Vec<(String, Json)> =
        old.into_iter().map(|(key, value)| (renamed.get(&key).cloned().unwrap_or(key), value)).collect();
    // In order, so that each insertion is at the end.
    members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
    *object = members.into_iter().collect();
}

/// Whether there is anything in a value that could be a secret.
pub(super) fn tells(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(_) => false,
        Json::String(s) => !s.is_empty(),
        _ => true,
    }
}

const NAME_KEYS: &[&str] =
    &["name", "key", "field", "header", "param", "parameter", "attribute", "property", "label", "k", "id", "type"];
pub(super) const VALUE_KEYS: &[&str] =
    &["value", "val", "v", "data", "content", "contents", "default", "text", "values"];

pub(super) fn is_one_of(key: &str, names: &[&str]) -> bool {
    let first = |text: &str| text.as_bytes().first().map(u8::to_ascii_lowercase);
    names.iter().any(|n| n.len() == key.len() && first(n) == first(key) && n.eq_ignore_ascii_case(key))
}

/// What an object says of its value: `{"name": "password", "value": …}`.
pub(super) fn named_pair(object: &Object) -> Option<Kind> {
    if !(2..=8).contains(&object.len()) || !object.iter().any(|(key, _)| is_one_of(key, VALUE_KEYS)) {
        return None;
    }
    // Only what has a `value` is said by its id or type to be one: `{"type": "token", "text": "the"}` is a word.
    let vague = object.iter().any(|(key, _)| is_one_of(key, &["value", "val"]));
    let known = if vague { NAME_KEYS } else { NAME_KEYS.get(..10).unwrap_or_default() };
    let names = object.iter().filter(|(key, _)| is_one_of(key, known)).filter_map(|(_, value)| value.as_str());
    names.filter(|name| name.len() <= 64).find_map(floor::kind_of_key)
}

/// What an element of a list says of the next one: `["--password", …]`, `["authorization", …]` in a list of pairs, and
/// headers as some servers give them, name and value in turn.
pub(super) fn announces(items: &[Json], i: usize, in_array: bool) -> Option<Kind> {
    let name = items.get(i)?.as_str().filter(|n| n.len() <= 64)?;
    let pair = in_array && items.len() == 2 && i == 0;
    let header = i.is_multiple_of(2)
        && items.len().is_multiple_of(2)
        && (name.contains('-') || ["authorization", "cookie"].iter().any(|n| n.eq_ignore_ascii_case(name)));
    let flag = name.strip_prefix("--").filter(|n| !n.contains('='));
    match (flag, pair || header) {
        (Some(flag), _) => floor::kind_of_key(flag),
        (None, true) => floor::kind_of_key(name),
        (None, false) => None,
    }
}

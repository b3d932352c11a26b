//! The people whom field rules hide in a call: a name that is replaced by a pseudonym in one place must not appear in
//! clear in another.
//!
//! Invariant: every value that a rule replaces by a pseudonym anywhere in a call is known before anything of the call
//! is written, so it is replaced wherever else it occurs. Rules are applied as in `sanitize`: the first match decides.

use super::detect::{self, value::is_nothing};
use super::patient;
use super::pseudonym::domain_of;
use super::sanitize::{At, Sanitizer, filter_bit};
use super::secret_keys::{self, Kind, Words};
use super::treated::Action;
use super::{Root, is_pseudonym};
use crate::json::{Json, Limits};
use std::collections::BTreeMap;

/// A longer text is not an id that would be repeated.
const LONGEST: usize = 256;

/// The maximum nesting depth. `sanitize` masks deeper values.
const MAX_DEPTH: usize = 256;

/// How many levels of JSON strings within JSON strings are opened.
const MAX_INNER: usize = 8;

/// Hidden values: clear text to pseudonym domain and pseudonym.
pub(crate) type Hidden = BTreeMap<String, (String, String)>;

impl Sanitizer {
    /// Whether any field rule writes pseudonyms.
    pub(crate) fn hides_identities(&self) -> bool {
        !self.pseudonyms.is_empty() && self.policy.rules.iter().any(|rule| rule.action == Action::Pseudonymise)
    }

    /// Adds the values in `value` that field rules replace by pseudonyms.
    pub(crate) fn identities(&self, root: Root, value: &Json, hidden: &mut Hidden) {
        self.look(value, &At::of(root), None, None, (MAX_DEPTH, MAX_INNER), hidden);
    }

    fn look(
        &self,
        value: &Json,
        at: &At<'_>,
        words: Option<&Words>,
        key: Option<&str>,
        (depth, texts): (usize, usize),
        hidden: &mut Hidden,
    ) {
        let Some(deeper) = depth.checked_sub(1).map(|depth| (depth, texts)) else { return };
        if let Some(rule) = self.rule_for(at, words).filter(|rule| rule.action != Action::Keep) {
            if rule.action == Action::Pseudonymise {
                let key = key.unwrap_or_default();
                let own =
                    || secret_keys::kind_of_key(key).map_or_else(|| domain_of(key), |kind| Kind::name(kind).to_owned());
                self.take(value, &rule.domain.clone().unwrap_or_else(own), hidden);
            }
            return;
        }
        match value {
            Json::Object(object) => {
                for (key, member) in object.iter() {
                    let veiled = |b: u8| b >= 0x80 || matches!(b, b'%' | b'\\' | b'&');
                    let plain = if key.bytes().any(veiled) { detect::plain(key) } else { None };
                    let name = plain.as_deref().unwrap_or(key);
                    let bit = filter_bit(&secret_keys::last_two(name, |_| false).unwrap_or_default());
                    let words = (self.filter & bit != 0).then(|| Words::of(name));
                    self.look(member, &at.key(key, None), words.as_ref(), Some(key), deeper, hidden);
                }
            }
            Json::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.look(item, &at.index(i), None, key, deeper, hidden);
                }
            }
            Json::String(text) => {
                let text = text.trim();
                let looks = match text.as_bytes() {
                    [b'{', .., b'}'] | [b'[', .., b']'] => true,
                    [b'"', .., b'"'] => text.contains("\\\""),
                    _ => false,
                };
                let inner = texts.checked_sub(1).filter(|_| looks).and_then(|left| {
                    Some((Json::parse_within(text.as_bytes(), &Limits::bytes(usize::MAX)).ok()?.value, left))
                });
                if let Some((inner, left)) = inner {
                    self.look(&inner, at, words, key, (deeper.0, left), hidden);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    /// Adds a value that is replaced by a pseudonym, in the same form in which `sanitize` hashes it.
    fn take(&self, value: &Json, domain: &str, hidden: &mut Hidden) {
        let id = if domain == "patient" { patient::only_id(value) } else { None };
        let clear = match value {
            Json::Array(items) => return items.iter().for_each(|item| self.take(item, domain, hidden)),
            Json::String(text) => id.unwrap_or_else(|| text.clone()),
            Json::Number(_) => value.to_canonical().as_str().to_owned(),
            Json::Object(_) => match id {
                Some(id) => id,
                None => return,
            },
            Json::Null | Json::Bool(_) => return,
        };
        let known = clear.len() <= LONGEST && !is_pseudonym(&clear) && !is_nothing(&clear);
        if let Some(key) = self.pseudonyms.first().filter(|_| known) {
            let pseudonym = key.pseudonym(domain, &clear);
            hidden.entry(clear).or_insert_with(|| (domain.to_owned(), pseudonym));
        }
    }
}

//! Replaces names of people in the rest of a call.
//!
//! If a policy writes patients, users or conversations as pseudonyms, a call's own names must not occur elsewhere in it: a
//! patient's id in a member that no rule covers, in a note, in an error message. They are known when the call is recorded, so
//! they are searched for as whole words, regardless of case and separators, and replaced by the pseudonym.
//!
//! A text or number that is exactly the name is always replaced. Inside longer texts, names of one or two characters or of
//! three letters are not searched for, and numbers of one or two digits never are: `7` is not a patient wherever it occurs.

use crate::json::{Json, Path};
use crate::redact::{Action, IdentityKind, Treated, is_pseudonym, sealed_subject};
use crate::store::engine::Engine;
use crate::store::file::panic_guard::guarded;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::subjects::pseudonyms;
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Facet, Kind, Retention};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// In texts of system events, names of up to this many words are searched for.
const WORDS: usize = 4;

/// The parts of a name may be separated by this many characters, such as `", "`.
const GAP: usize = 3;

/// Names and their replacements.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By their parts.
    names: HashMap<Vec<String>, Name>,
    /// By the first part of names, how many parts they have: the most first.
    lengths: HashMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct Name {
    /// What it is the name of.
    of: &'static str,
    pseudonym: String,
    /// Whether it is searched for inside longer texts.
    telling: bool,
}

impl Names {
    /// From the kind of each name, the name, and its pseudonym.
    pub(crate) fn new(names: impl IntoIterator<Item = (IdentityKind, String, String)>) -> Names {
        let mut out = Names::default();
        names.into_iter().for_each(|(facet, clear, pseudonym)| out.add(facet.name(), &clear, pseudonym));
        out
    }

    /// Adds a name, unless it is known as another's.
    pub(crate) fn add(&mut self, of: &'static str, clear: &str, pseudonym: String) {
        let parts: Vec<String> = words(clear).map(|w| clear[w].to_lowercase()).collect();
        let Some(first) = parts.first().cloned() else { return };
        let length = clear.trim().chars().count();
        let telling = length > 3 || length == 3 && clear.chars().any(|c| c.is_numeric());
        // `P-1-2` before `P-1`.
        let lengths = self.lengths.entry(first).or_default();
        if let Err(at) = lengths.binary_search_by(|n| parts.len().cmp(n)) {
            lengths.insert(at, parts.len());
        }
        self.names.entry(parts).or_insert(Name { of, pseudonym, telling });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The text with names replaced by pseudonyms; `None` if it contains none.
    pub(crate) fn replaced(&self, text: &str) -> Option<String> {
        self.replace(text).map(|(text, _)| text)
    }

    /// Searches the text as written and, if that hides part of its meaning, as it is meant: full-width letters, percent
    /// encoding, invisible characters [R46]. A text of nothing but base64 with a name in it is replaced as a whole.
    fn replace(&self, text: &str) -> Option<(String, &'static str)> {
        if self.is_empty() || text.is_empty() {
            return None;
        }
        let stands = self.replace_in(text);
        let seen = stands.as_ref().map_or(text, |(text, _)| text.as_str());
        let meant = crate::redact::replaced_as_meant(seen, |meant| self.places(meant));
        match (stands, meant) {
            (Some((_, of)), Some((text, _))) => Some((text, of)),
            (stands, meant) => meant.or(stands).or_else(|| {
                let plain = crate::redact::decoded(text)?;
                self.places(&plain).into_iter().next().map(|(_, pseudonym, of)| (pseudonym, of))
            }),
        }
    }

    /// The places of names in a text, with their replacements.
    fn places(&self, text: &str) -> Vec<(Range<usize>, String, &'static str)> {
        let words: Vec<Range<usize>> = words(text).collect();
        let (mut found, mut i) = (Vec::new(), 0);
        while let Some(word) = words.get(i) {
            let Some((parts, name)) = self.at(text, &words, i) else {
                i += 1;
                continue;
            };
            i += parts;
            let end = words.get(i - 1).map_or(text.len(), |w| w.end);
            found.push((word.start..end, name.pseudonym.clone(), name.of));
        }
        found
    }

    fn replace_in(&self, text: &str) -> Option<(String, &'static str)> {
        let (mut out, mut done, mut first) = (String::new(), 0, None);
        for (place, pseudonym, of) in self.places(text) {
            out.push_str(text.get(done..place.start).unwrap_or_default());
            out.push_str(&pseudonym);
            done = place.end;
            first = first.or(Some(of));
        }
        out.push_str(text.get(done..).unwrap_or_default());
        first.map(|of| (out, of))
    }

    /// The name that begins with the word at `i`, and how many parts it has.
    fn at(&self, text: &str, words: &[Range<usize>], i: usize) -> Option<(usize, &Name)> {
        let part = |word: &Range<usize>| text.get(word.clone()).unwrap_or_default().to_lowercase();
        let lengths = self.lengths.get(&part(words.get(i)?))?;
        lengths.iter().find_map(|&length| {
            let window = words.get(i..i.checked_add(length)?)?;
            let near = window.windows(2).all(|pair| pair[1].start - pair[0].end <= GAP);
            let name = self.names.get(&window.iter().filter(|_| near).map(part).collect::<Vec<_>>())?;
            (name.telling || window.len() == words.len()).then_some((length, name))
        })
    }

    /// The new name of a key that contains a person's name, and what kind of name that was.
    pub(crate) fn renamed(&self, key: &str) -> Option<(String, &'static str)> {
        self.replace(key)
    }

    /// Replaces names in the strings and numbers of a value, and adds their places to `treated`. Keys are renamed separately,
    /// during the policy's treatment, so that values sealed below them are bound to the path that the entry has.
    pub(crate) fn treat(&self, at: &mut Path, value: &mut Json, treated: &mut Vec<Treated>) {
        if self.is_empty() {
            return;
        }
        match value {
            Json::Null | Json::Bool(_) => {}
            Json::Number(n) => {
                let Some(digits) = n.as_i64().map(|n| n.to_string()).filter(|d| d.len() >= 3) else { return };
                if let Some((text, of)) = self.replace(&digits) {
                    *value = Json::from(text);
                    treated.push(record(at, of));
                }
            }
            Json::String(text) => {
                if let Some((clean, of)) = self.replace(text) {
                    *text = clean;
                    treated.push(record(at, of));
                }
            }
            Json::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    at.push_index(i);
                    self.treat(at, item, treated);
                    at.pop();
                }
            }
            // Ciphertext reveals nothing, and must not change.
            Json::Object(_) if sealed_subject(value).is_some() => {}
            Json::Object(members) => {
                for (key, member) in members.iter_mut() {
                    at.push_key(key);
                    self.treat(at, member, treated);
                    at.pop();
                }
            }
        }
    }
}

impl Engine {
    /// Extends the retention of a grant's end to that of the grant's entry: later policies may have lengthened the latter,
    /// and a grant whose end was purged would be open again.
    pub(crate) fn as_long_as(&self, grant: u64, retention: Retention) -> Result<Retention> {
        let until = self.chain_state().history()?.effective_until(grant, &retention);
        Ok(Retention { until, ..retention })
    }

    /// Until when the grant at this seq is kept, if there is one: a call under it is kept as long, or the grant would seem
    /// not to have been used.
    pub(crate) fn end_of_grant(&self, grant: u64) -> Result<Option<Timestamp>> {
        let Some(entry) = self.stored()?.checked(grant)? else { return Ok(None) };
        let is_grant = entry.own().is_some_and(|own| own.kind == Kind::BreakGlassOpened);
        let retention = entry.body.retention.filter(|_| is_grant);
        Ok(retention.map(|retention| self.as_long_as(grant, retention)).transpose()?.map(|retention| retention.until))
    }

    /// A person's name as entries contain it.
    pub(crate) fn facet(&self, facet: IdentityKind, clear: &str) -> Result<String> {
        let policies = self.policies();
        let missing = || Error::new(ErrorKind::Key, "the policy writes pseudonyms and their key is missing");
        Ok(policies.sanitizer.as_ref().ok_or_else(missing)?.facet(facet, clear))
    }

    /// The name as entries contain it; a pseudonym is returned unchanged.
    pub(crate) fn named(&self, facet: IdentityKind, clear: &str) -> Result<String> {
        if is_pseudonym(clear) { Ok(clear.to_owned()) } else { self.facet(facet, clear) }
    }

    /// The name of an acting person, written as users are, so that one person has one name throughout the log.
    pub(crate) fn person(&self, clear: &str) -> Result<String> {
        self.facet(IdentityKind::User, clear)
    }

    /// A text of system events with hidden names replaced: every sequence of a few words whose pseudonym is in the index.
    pub(crate) fn unnamed(&self, text: String) -> Result<String> {
        let policies = self.policies();
        let Some(sanitizer) = &policies.sanitizer else { return Ok(text) };
        let fields = [(IdentityKind::Patient, Facet::Patient), (IdentityKind::User, Facet::User)];
        let fields = fields.into_iter().chain([(IdentityKind::Conversation, Facet::Conversation)]);
        let hidden: Vec<_> =
            fields.filter(|(facet, _)| sanitizer.policy().facet(*facet) == Action::Pseudonymise).collect();
        if hidden.is_empty() {
            return Ok(text);
        }
        guarded(|| {
            let snapshot = self.snapshot()?;
            let words: Vec<Range<usize>> = words(&text).collect();
            let mut names = Vec::new();
            for i in 0..words.len() {
                for window in (1..=WORDS).filter_map(|n| words.get(i..i + n)) {
                    let (Some(first), Some(last)) = (window.first(), window.last()) else { continue };
                    let Some(clear) = text.get(first.start..last.end) else { continue };
                    for (facet, field) in &hidden {
                        for name in usual(clear) {
                            let spellings = pseudonyms(sanitizer, *facet, &name);
                            let mut known = spellings.iter().map(|pseudonym| knows(&snapshot, *field, pseudonym));
                            if known.try_fold(false, |found, known| Ok::<_, crate::Error>(found || known?))? {
                                names.extend(
                                    spellings.into_iter().next().map(|newest| (*facet, clear.to_owned(), newest)),
                                );
                                break;
                            }
                        }
                    }
                }
            }
            Ok(Names::new(names).replaced(&text).unwrap_or(text))
        })
    }
}

/// The usual spellings of a possible name: as it is, in upper and lower case, with `-` and `_` between its parts.
fn usual(clear: &str) -> BTreeSet<String> {
    let parts: Vec<&str> = words(clear).filter_map(|word| clear.get(word)).collect();
    let joined = [clear.to_owned(), parts.join("-"), parts.join("_"), parts.join(" ")];
    joined.into_iter().flat_map(|name| [name.to_uppercase(), name.to_lowercase(), name]).collect()
}

/// Whether any entry has this value.
fn knows(snapshot: &Snapshot, field: Facet, value: &str) -> Result<bool> {
    let newest = snapshot.mem_segments.iter().any(|mem_segment| mem_segment.read().term(field, value).is_some());
    Ok(newest || snapshot.term_id(field, value)?.is_some())
}

fn record(at: &Path, of: &str) -> Treated {
    let detector = of.to_owned();
    Treated { path: at.to_string(), detector, action: Action::Pseudonymise, start: None, end: None }
}

/// The runs of letters and digits in a text.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text.get(rest..)?.find(char::is_alphanumeric)?;
        let tail = text.get(start..)?;
        let end = start + tail.find(|c: char| !c.is_alphanumeric()).unwrap_or(tail.len());
        rest = end;
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let name = |clear: &str, pseudonym: &str| (IdentityKind::Patient, clear.to_owned(), pseudonym.to_owned());
        Names::new([name("P-4711", "ps_1"), name("P-4711-2", "ps_2"), name("7", "ps_3"), name("0815", "ps_4")])
    }

    #[test]
    fn names_are_found_in_every_spelling_as_whole_words() {
        let names = names();
        let replaced = |text: &str| names.replaced(text);
        assert_eq!(replaced("chart of p 4711, again P_4711.").unwrap(), "chart of ps_1, again ps_1.");
        assert_eq!(replaced("(P-4711-2)").unwrap(), "(ps_2)");
        assert_eq!(replaced(r#"{"patient":"P-4711"}"#).unwrap(), r#"{"patient":"ps_1"}"#);
        for other in ["P-47110", "XP-4711", "take 7 of them", "p 4711x", "", "P and then 4711"] {
            assert_eq!(replaced(other), None, "{other}");
        }
        assert_eq!(replaced(" 7 ").unwrap(), " ps_3 ");
        assert_eq!(replaced("Zimmer 0815").unwrap(), "Zimmer ps_4");
        assert_eq!(replaced("ÄP-4711"), None);
    }

    /// A name with an invisible character, in full-width letters, or percent-encoded was recorded in clear [R46].
    #[test]
    fn names_are_found_as_they_are_meant() {
        let names = names();
        for text in [
            "P\u{200b}-4711",
            "P-47\u{ad}11",
            "Ｐ－４７１１",
            "P%2D4711",
            "%50-4711",
            "P-4711\u{feff}",
            "\u{1b}[1mP-47\u{1b}[0m11",
        ] {
            let shown = names.replaced(&format!("chart of {text} today")).unwrap();
            assert!(shown.contains("ps_1") && shown.starts_with("chart of ") && shown.ends_with(" today"), "{shown}");
            assert!(!shown.contains("11"), "{shown}");
        }
        assert_eq!(names.replaced("P%2D4711 and P-4711-2").unwrap(), "ps_1 and ps_2");
        assert_eq!(names.replaced("100%25 of it"), None);
    }

    #[test]
    fn values_and_numbers_are_treated_and_named() {
        let names = Names::new([(IdentityKind::Patient, "4711".to_owned(), "ps_1".to_owned())]);
        let text = br#"{"x":{"of":4711,"n":[47110,"4711",null]},"sealed":{"sealed":4711}}"#;
        let mut value = Json::parse(text).unwrap().value;
        let mut treated = Vec::new();
        names.treat(&mut Path::root().key("arguments"), &mut value, &mut treated);
        let expected = r#"{"sealed":{"sealed":"ps_1"},"x":{"n":[47110,"ps_1",null],"of":"ps_1"}}"#;
        assert_eq!(value.to_canonical().as_str(), expected);
        let paths: Vec<&str> = treated.iter().map(|t| t.path.as_str()).collect();
        assert_eq!(paths, ["arguments.sealed.sealed", "arguments.x.n[1]", "arguments.x.of"]);
    }
}

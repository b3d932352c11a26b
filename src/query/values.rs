//! Looks up which values the log holds: whether it has a given one, which are similar to it, which match a pattern.

use crate::policy::Policies;
use crate::redact::{Action, IdentityKind, PREFIX, is_invisible, is_pseudonym};
use crate::retention::{Glob, HoldSelector};
use crate::spelling::{composed, decomposed};
use crate::store::OpenStore;
use crate::store::guarded;
use crate::{Error, Kind, Query, Result};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// How many similar values are returned at most.
const MOST_SIMILAR: usize = 5;
/// How many values may match one pattern.
const MOST_MATCHES: usize = 10_000;

/// A value of a query that no call of the log has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownValue {
    /// The facet for which it was given.
    pub field: Facet,
    /// The value.
    pub value: String,
    /// Values of the log that differ from it only in case, leading zeros, white space, invisible characters or the
    /// punctuation between words; at most five. Of what the log keeps as pseudonyms only the usual spellings are tried.
    pub similar: Vec<String>,
    /// Whether the log keeps pseudonyms of this facet, so that it may have similar values all the same.
    pub may_have_others: bool,
    /// The seqs of the emergency grants, with their ends and reviews, and of the holds that name it.
    pub named_by: Vec<u64>,
}

attestlog_proof::json_form!(members UnknownValue { field, value, similar, may_have_others, named_by });

impl OpenStore {
    /// Of the values that `query` names, those that no call of the log has. What a purge took is not known any more; and none is
    /// named where the store was opened with [damage](AuditLog::damage), since what cannot be read may have it.
    pub(crate) fn unknown_values(&self, query: &Query) -> Result<Vec<UnknownValue>> {
        self.check_damage()?;
        if self.damage().is_some() {
            // The log cannot say which values it lacks.
            return Ok(Vec::new());
        }
        let mut unknown = Vec::new();
        let open = |field: Facet| !matches!(field, Facet::Kind | Facet::Outcome | Facet::Trigger | Facet::Emergency);
        for (field, values) in query.facets.iter().filter(|(field, _)| open(**field)) {
            for value in values {
                if self.count(&Query::new().facet(*field, value).limit(1))? > 0 {
                    continue;
                }
                let may_have_others = self.engine().snapshot_of_entries()?.any_term(*field, PREFIX)?;
                let (wanted, mut similar) = (skeleton(value), BTreeSet::new());
                if !wanted.is_empty() {
                    self.each_value(*field, &mut |known| {
                        if skeleton(known) == wanted {
                            similar.insert(known.to_owned());
                        }
                        match similar.len() < MOST_SIMILAR {
                            true => ControlFlow::Continue(()),
                            false => ControlFlow::Break(()),
                        }
                    })?;
                }
                // A pseudonym shows nothing of the name, but the key tells whether a name has one.
                let spellings = if may_have_others { usual_spellings(value) } else { BTreeSet::new() };
                for other in spellings {
                    if similar.len() < MOST_SIMILAR && self.count(&Query::new().facet(*field, &other).limit(1))? > 0 {
                        similar.insert(other);
                    }
                }
                unknown.push(UnknownValue {
                    field: *field,
                    value: value.clone(),
                    similar: similar.into_iter().collect(),
                    may_have_others,
                    named_by: self.named_by(*field, value)?,
                });
            }
        }
        Ok(unknown)
    }

    /// The emergency grants, with their ends and reviews, and the holds that name a value in any spelling.
    fn named_by(&self, field: Facet, value: &str) -> Result<Vec<u64>> {
        let spellings = self.spellings(field, value)?;
        let listed = match field {
            Facet::Patient => "patients",
            Facet::User => "users",
            Facet::Conversation => "conversations",
            _ => return Ok(Vec::new()),
        };
        let kinds = [Kind::BreakGlassOpened, Kind::BreakGlassClosed, Kind::BreakGlassReviewed, Kind::HoldPlaced];
        let mut found = Vec::new();
        for entry in self.query(&kinds.into_iter().fold(Query::new(), Query::kind))?.stored() {
            let entry = entry?;
            let Some(own) = entry.own() else { continue };
            let detail = own.detail.to_json();
            let of_hold = detail.get("selector").and_then(|selector| selector.get(listed)?.as_array());
            let mut names = of_hold.unwrap_or_default().iter().chain(detail.get(field.as_str()));
            if names.any(|name| name.as_str().is_some_and(|name| spellings.iter().any(|one| one == name))) {
                found.push(entry.seq);
            }
        }
        Ok(found)
    }

    /// The values of a facet that fit a pattern in which `*` stands for any characters and `?` for one, sorted; the
    /// pattern itself where an entry has just that value.
    pub(crate) fn values_matching(&self, field: Facet, pattern: &str) -> Result<Vec<String>> {
        let bad = |why: String| Error::invalid(format!("{} {pattern:?}: {why}", field.as_str()));
        if keeps_pseudonyms(&self.engine().policies(), field) {
            return Err(bad("the log keeps pseudonyms, which no pattern can find; name the value whole".to_owned()));
        }
        self.check_damage()?;
        let glob = Glob::new(pattern).map_err(bad)?;
        let mut found = BTreeSet::new();
        self.each_value(field, &mut |known| {
            if glob.matches(known) {
                found.insert(known.to_owned());
            }
            match found.len() <= MOST_MATCHES {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        match found.len() <= MOST_MATCHES {
            true => Ok(found.into_iter().collect()),
            false => Err(bad(format!("fits more than {MOST_MATCHES} values; make it more specific"))),
        }
    }

    /// Whom the pseudonyms in a hold stand for, as far as that can be told: those whose names stand in clear in the hold or in
    /// entries, with the store's keys at hand. Nobody else can tell, nor can this program: a pseudonym cannot be turned back.
    pub(crate) fn names_in(&self, selector: &HoldSelector) -> BTreeMap<String, String> {
        let facets = [
            (Facet::Conversation, &selector.conversations),
            (Facet::User, &selector.users),
            (Facet::Patient, &selector.patients),
            (Facet::Tool, &selector.tools),
        ];
        let mut names = BTreeMap::new();
        for (field, values) in facets {
            let mut wanted: BTreeSet<&String> = values.iter().filter(|value| is_pseudonym(value)).collect();
            let mut clear = values.iter().filter(|value| !is_pseudonym(value));
            let mut look = |name: &str| {
                if wanted.is_empty() {
                    return ControlFlow::Break(());
                }
                for spelling in self.spellings(field, name).unwrap_or_default() {
                    if spelling != name && wanted.remove(&spelling) {
                        names.insert(spelling, name.to_owned());
                    }
                }
                ControlFlow::Continue(())
            };
            if clear.all(|name| look(name).is_continue()) {
                // What cannot be read is left out.
                let _ = self.each_value(field, &mut |known| match is_pseudonym(known) {
                    true => ControlFlow::Continue(()),
                    false => look(known),
                });
            }
        }
        names
    }

    /// Calls `each` for the values of a facet that entries have, in no particular order; a value may come more than
    /// once.
    fn each_value(&self, field: Facet, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<()> {
        let snapshot = self.engine().snapshot_of_entries()?;
        guarded(|| {
            let mut flow = ControlFlow::Continue(());
            snapshot.each_value(field, &mut |value| {
                if flow.is_continue() {
                    flow = each(value);
                }
            })
        })
    }
}

fn keeps_pseudonyms(policies: &Policies, field: Facet) -> bool {
    let facet = match field {
        Facet::Patient => IdentityKind::Patient,
        Facet::User => IdentityKind::User,
        Facet::Conversation => IdentityKind::Conversation,
        _ => return false,
    };
    policies.set.redaction.facet(facet) == Action::Pseudonymise
}

/// The ways in which a name is usually written otherwise: its case, what separates its parts, the zeros before its numbers.
fn usual_spellings(value: &str) -> BTreeSet<String> {
    const SEPARATORS: [&str; 7] = ["", "-", "_", ".", " ", "/", ":"];
    const MOST_PARTS: usize = 6;
    const MOST_DIGITS: usize = 8;
    let kind = |c: char| (c.is_alphanumeric(), c.is_ascii_digit());
    let (mut parts, mut between): (Vec<String>, Vec<String>) = (Vec::new(), vec![String::new()]);
    let mut before = None;
    for c in value.trim().chars().filter(|c| !is_invisible(*c)) {
        match (kind(c), before) {
            ((false, _), _) => match between.last_mut() {
                Some(gap) if before == Some((false, false)) || parts.is_empty() => gap.push(c),
                _ => between.push(c.to_string()),
            },
            (now, before) => match parts.last_mut() {
                Some(part) if before == Some(now) => part.push(c),
                _ => {
                    if before.is_some_and(|(name, _)| name) {
                        between.push(String::new());
                    }
                    parts.push(c.to_string());
                }
            },
        }
        before = Some(kind(c));
    }
    // The two ways in which Unicode writes an accent.
    let mut found = BTreeSet::from([composed(value), decomposed(value)]);
    if parts.is_empty() || parts.len() > MOST_PARTS {
        found.remove(value);
        return found;
    }
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let digits = |part: &str, width: usize| match part.trim_start_matches('0') {
        short if is_number(part) => format!("{short:0>width$}"),
        _ => part.to_owned(),
    };
    let widths = (1..=MOST_DIGITS).map(|width| parts.iter().map(|part| digits(part, width)).collect::<Vec<_>>());
    for parts in std::iter::once(parts.clone()).chain(widths) {
        let own = parts.iter().enumerate().fold(String::new(), |name, (i, part)| match i {
            0 => part.clone(),
            i => name + between.get(i).map_or("", String::as_str) + part,
        });
        for name in SEPARATORS.iter().map(|separator| parts.join(separator)).chain([own]) {
            let lower = name.to_lowercase();
            let mut letters = lower.chars();
            let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            found.extend([name.to_uppercase(), lower, capital, name]);
        }
    }
    found.remove(value);
    found
}

/// Reduces a value to what remains without common slips: case, white space and invisible characters, punctuation
/// between words, leading zeros, and which of the two ways an accent is written in.
fn skeleton(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut number = false;
    let value = if value.is_ascii() { value.to_owned() } else { composed(value) };
    for c in value.chars().flat_map(char::to_lowercase) {
        if c.is_whitespace() || is_invisible(c) || matches!(c, '-' | '_' | '.' | ':' | '/') {
            number = false;
        } else if c == '0' && !number {
            // Zeros before digits are dropped; a number that consists only of zeros becomes empty, however many there
            // are.
        } else {
            number = c.is_ascii_digit();
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that keeps pseudonyms said of a name written a little differently that nothing came near it.
    #[test]
    fn the_usual_spellings_are_among_those_that_are_tried() {
        for (asked, there) in [
            ("P1", "P-1"),
            ("p-1", "P-1"),
            ("P 1", "P-1"),
            (" P-1", "P-1"),
            ("P-00042", "P-42"),
            ("P-42", "P-0042"),
            ("MRN.7-3", "mrn.7-3"),
            ("usr7", "usr_7"),
            ("anna", "Anna"),
            ("\u{e9}va", "e\u{301}va"),
            ("e\u{301}va", "\u{e9}va"),
        ] {
            assert!(usual_spellings(asked).contains(there), "{asked:?} {there:?} {:?}", usual_spellings(asked));
        }
        assert!(usual_spellings("").is_empty() && usual_spellings("-").is_empty());
        assert!(usual_spellings(&"a1".repeat(500)).is_empty());
        assert!(usual_spellings("a-b-c-1-2-3").len() < 400);
    }

    #[test]
    fn slips_of_the_pen_come_to_the_same() {
        for (a, b) in [("P-00042", "p-42"), ("P-00042", "P-00042 "), ("usr_7", "USR-7"), ("a\u{200b}b", "ab")] {
            assert_eq!(skeleton(a), skeleton(b), "{a:?} {b:?}");
        }
        for (a, b) in [("P-42", "P-43"), ("P-42", "P-420"), ("P-402", "P-42"), ("a", "b")] {
            assert_ne!(skeleton(a), skeleton(b), "{a:?} {b:?}");
        }
    }
}

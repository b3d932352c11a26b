//! Which values the log holds: whether it has ever seen one, which come near it, which fit a pattern.

use crate::policy::Policies;
use crate::redact::{Action, IdentityKind, is_invisible, is_pseudonym};
use crate::retention::{Glob, HoldSelector};
use crate::store::guarded;
use crate::{AuditLog, Error, Query, Result};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// How many near values are named.
const MOST_SIMILAR: usize = 5;
/// How many values one pattern may stand for.
const MOST_MATCHES: usize = 10_000;

/// A value that was asked for and that no entry of the log has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownValue {
    /// The facet for which it was given.
    pub field: Facet,
    /// The value.
    pub value: String,
    /// Values of the log that differ from it in case, leading zeros, white space, invisible characters or the
    /// punctuation between words only, at most five. Values that the log keeps as pseudonyms are not among them.
    pub similar: Vec<String>,
}

impl AuditLog {
    /// Of the values that `query` names, those that no entry of the log has. What a purge took is not known any more; and none is named where
    /// the store was opened with [damage](AuditLog::damage), since what cannot be read may have it.
    ///
    /// An answer of no entries reads the same for somebody whom nobody looked at and for a slip of the pen; this tells the
    /// two apart. Kinds, outcomes, triggers and emergency, whose values are fixed, are not looked at.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-00042"))?;
    /// let unknown = log.unknown_values(&Query::new().patient("p-0042"))?;
    /// assert_eq!(unknown[0].similar, ["P-00042"]);
    /// assert!(log.unknown_values(&Query::new().patient("P-00042"))?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    pub fn unknown_values(&self, query: &Query) -> Result<Vec<UnknownValue>> {
        self.check_damage()?;
        if self.damage().is_some() {
            // Nobody can say what the log does not know.
            return Ok(Vec::new());
        }
        let mut unknown = Vec::new();
        let open = |field: Facet| !matches!(field, Facet::Kind | Facet::Outcome | Facet::Trigger | Facet::Emergency);
        for (field, values) in query.facets.iter().filter(|(field, _)| open(*field)) {
            for value in values {
                if self.count(&Query::new().facet(*field, value).limit(1))? > 0 {
                    continue;
                }
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
                unknown.push(UnknownValue {
                    field: *field,
                    value: value.clone(),
                    similar: similar.into_iter().collect(),
                });
            }
        }
        Ok(unknown)
    }

    /// The values of a facet that fit a pattern in which `*` stands for any characters and `?` for one, sorted; the
    /// pattern itself where an entry has just that value.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the pattern is too long, fits more than 10,000 values, or the
    /// policy keeps values of this facet as pseudonyms, which no pattern can find.
    pub fn values_matching(&self, field: Facet, pattern: &str) -> Result<Vec<String>> {
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
            false => Err(bad(format!("fits more than {MOST_MATCHES} values; write more of it"))),
        }
    }

    /// Whom the pseudonyms in a hold stand for, as far as that can be told: those whose names stand in clear in the hold or in
    /// entries, with the store's keys at hand. Nobody else can tell, nor can this program: a pseudonym cannot be turned back.
    pub fn names_in(&self, selector: &HoldSelector) -> BTreeMap<String, String> {
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
                // What cannot be read is not known.
                let _ = self.each_value(field, &mut |known| match is_pseudonym(known) {
                    true => ControlFlow::Continue(()),
                    false => look(known),
                });
            }
        }
        names
    }

    /// The values of a facet that entries have, in no order, one perhaps more than once.
    fn each_value(&self, field: Facet, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<()> {
        let snapshot = self.engine().snapshot_of_entries()?;
        guarded(|| {
            let mut flow = ControlFlow::Continue(());
            snapshot.each_term(field, &mut |value, _| {
                if flow.is_continue() {
                    flow = each(&value);
                }
            })?;
            for mem_segment in &snapshot.mem_segments {
                for (value, _) in mem_segment.read().terms(field) {
                    if flow.is_continue() {
                        flow = each(value);
                    }
                }
            }
            Ok(())
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

/// What is left of a value without what slips most easily: case, white space and what is invisible, punctuation between
/// words, zeros before a number.
fn skeleton(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut number = false;
    for c in value.chars().flat_map(char::to_lowercase) {
        if c.is_whitespace() || is_invisible(c) || matches!(c, '-' | '_' | '.' | ':' | '/') {
            number = false;
        } else if c == '0' && !number {
            // Dropped before digits; a number of nothing but zeros comes to nothing, whatever their count.
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

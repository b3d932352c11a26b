//! How many persons names stand for. One person is written in clear or as a pseudonym, as the policy of the time said, and under
//! the pseudonym key of the time.
//!
//! Invariant R55: names that are known to be one person's count once. A pseudonym cannot be turned back: it is known whose it is
//! where the log has the clear name too and the key is here. Wherever two names could still be one person's, that is said.

use crate::redact::{PREFIX, Sanitizer, is_pseudonym, key_of};
use crate::store::{Snapshot, guarded};
use crate::{AuditLog, Result};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Which pseudonyms of a log's users or patients are known to be whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Persons {
    /// The clear name by the pseudonym.
    clear: HashMap<String, String>,
    /// The pseudonym keys that are here.
    keys: BTreeSet<String>,
    hidden: bool,
}

impl Persons {
    pub(super) fn of(snapshot: &Snapshot, sanitizer: Option<&Sanitizer>, field: Facet) -> Result<Persons> {
        let keys = sanitizer.iter().flat_map(|s| s.pseudonym_keys()).map(str::to_owned).collect();
        let mut persons = Persons { clear: HashMap::new(), keys, hidden: snapshot.any_term(field, PREFIX)? };
        let Some(sanitizer) = sanitizer.filter(|_| persons.hidden) else { return Ok(persons) };
        let (mut hidden, mut clear) = (HashSet::new(), HashSet::new());
        let mut each = |name: String| if is_pseudonym(&name) { hidden.insert(name) } else { clear.insert(name) };
        snapshot.each_term(field, &mut |name, _| _ = each(name))?;
        for mem_segment in &snapshot.mem_segments {
            mem_segment.read().terms(field).iter().for_each(|(name, _)| _ = each(name.to_string()));
        }
        for name in clear {
            for pseudonym in sanitizer.pseudonyms_of(field, &name).into_iter().filter(|p| hidden.contains(p)) {
                persons.clear.insert(pseudonym, name.clone());
            }
        }
        Ok(persons)
    }

    /// Whether the log has any pseudonyms of them.
    pub(super) fn any_hidden(&self) -> bool {
        self.hidden
    }

    /// The one name of the person who is written so, as far as that is known.
    pub fn name<'a>(&'a self, written: &'a str) -> &'a str {
        self.clear.get(written).map_or(written, String::as_str)
    }

    /// How many persons these names stand for at most, and whether there may be fewer.
    pub fn count<'a>(&'a self, written: impl IntoIterator<Item = &'a str>) -> (u64, bool) {
        let names: BTreeSet<&str> = written.into_iter().map(|name| self.name(name)).collect();
        let (hidden, clear): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_pseudonym(name));
        let keys: BTreeSet<&str> = hidden.into_iter().filter_map(key_of).collect();
        // A clear name has been compared with the pseudonyms under every key that is here.
        let unknown = !clear.is_empty() && keys.iter().any(|key| !self.keys.contains(*key));
        (names.len() as u64, keys.len() > 1 || unknown)
    }
}

impl AuditLog {
    /// Which pseudonyms of this log's users or patients are known to be whose, with the keys that are here.
    ///
    /// # Errors
    /// What the file says.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("c", "usr_1", "lookup"))?;
    /// assert_eq!(log.persons(Facet::User)?.count(["usr_1", "usr_1"]), (1, false));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn persons(&self, field: Facet) -> Result<Persons> {
        self.check_damage()?;
        guarded(|| Persons::of(&self.snapshot()?, self.engine().policies().sanitizer.as_ref(), field))
    }
}

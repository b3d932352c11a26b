//! Counts the persons behind names. One person may be recorded in clear or as a pseudonym, depending on the policy at
//! the time, and under the pseudonym key of the time.
//!
//! Invariant R55: names that are known to belong to one person count once. A pseudonym cannot be reversed: whose it is
//! can only be known if the log also has the clear name and the key is available; that two pseudonyms are of one person, with the
//! two keys. If two names could still belong to one person, the result says so.

use crate::Result;
use crate::redact::{PREFIX, Sanitizer, is_pseudonym, key_of};
use crate::store::OpenStore;
use crate::store::{Snapshot, guarded};
use attestlog_proof::entry::Facet;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Which of a log's pseudonyms are known to belong to which users or patients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Persons {
    /// For each pseudonym the clear name, or else the pseudonym of the same person under the oldest key.
    clear: BTreeMap<String, String>,
    /// The ids of the pseudonym keys that are available.
    keys: BTreeSet<String>,
    hidden: bool,
}

attestlog_proof::json_form!(members Persons { clear, keys, hidden });

impl Persons {
    pub(super) fn of(snapshot: &Snapshot, sanitizer: Option<&Sanitizer>, field: Facet) -> Result<Persons> {
        let keys = sanitizer.iter().flat_map(|s| s.pseudonym_keys()).map(str::to_owned).collect();
        let mut persons = Persons { clear: BTreeMap::new(), keys, hidden: snapshot.any_term(field, PREFIX)? };
        let Some(sanitizer) = sanitizer.filter(|_| persons.hidden) else { return Ok(persons) };
        let (mut hidden, mut clear) = (HashSet::new(), HashSet::new());
        let mut each = |name: String| if is_pseudonym(&name) { hidden.insert(name) } else { clear.insert(name) };
        snapshot.each_term(field, &mut |name, _| _ = each(name))?;
        for mem_segment in &snapshot.mem_segments {
            mem_segment.read().terms(field).iter().for_each(|(name, _)| _ = each(name.to_string()));
        }
        // Nobody knows who it is, but that it is the same person under another key.
        for name in &hidden {
            if let Cow::Owned(one) = sanitizer.one_form(name) {
                persons.clear.insert(name.clone(), one);
            }
        }
        for name in clear {
            for pseudonym in sanitizer.pseudonyms_of(field, &name).into_iter().filter(|p| hidden.contains(p)) {
                persons.clear.insert(pseudonym, name.clone());
            }
        }
        Ok(persons)
    }

    /// Whether the log has any pseudonyms of this facet.
    pub(super) fn any_hidden(&self) -> bool {
        self.hidden
    }

    /// The one name of the person behind `written`, as far as it is known.
    pub fn name<'a>(&'a self, written: &'a str) -> &'a str {
        self.clear.get(written).map_or(written, String::as_str)
    }

    /// The greatest number of persons that these names can stand for, and whether there may be fewer.
    pub fn count<'a>(&'a self, written: impl IntoIterator<Item = &'a str>) -> (u64, bool) {
        let names: BTreeSet<&str> = written.into_iter().map(|name| self.name(name)).collect();
        let (hidden, clear): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_pseudonym(name));
        let keys: BTreeSet<&str> = hidden.into_iter().filter_map(key_of).collect();
        // Clear names have been compared with the pseudonyms under every available key.
        let unknown = !clear.is_empty() && keys.iter().any(|key| !self.keys.contains(*key));
        (names.len() as u64, keys.len() > 1 || unknown)
    }
}

impl OpenStore {
    /// Which pseudonyms of this log's users or patients are known to be whose, with the keys that are here.
    pub(crate) fn persons(&self, field: Facet) -> Result<Persons> {
        self.check_damage()?;
        guarded(|| Persons::of(&self.snapshot()?, self.engine().policies().sanitizer.as_ref(), field))
    }
}

//! Finds names in the log that look like a given one but differ from it.

use crate::redact::{domain, gist, is_pseudonym};
use crate::store::OpenStore;
use crate::store::guarded;
use crate::{Facet, Result};
use attestlog_proof::names::normal_of;
use std::collections::BTreeSet;

/// The maximum number of names that are returned.
const MOST: usize = 20;

impl OpenStore {
    /// The values of a facet in the log that look like `value` and are others, at most 20: with letters of another script
    /// (`Р-1` in Cyrillic letters and `P-1`), wide or mathematical letters, another case or other separators (`p_1`). A query
    /// for the one does not find the other. What stands in the log as a pseudonym cannot be compared; the entries of such names
    /// say so in `treated`.
    pub(crate) fn look_alikes(&self, field: Facet, value: &str) -> Result<Vec<String>> {
        self.check_damage()?;
        let value = &*normal_of(field, value);
        let looks = gist(value);
        if domain(field).is_none() || is_pseudonym(value) || looks.is_empty() {
            return Ok(Vec::new());
        }
        guarded(|| {
            let snapshot = self.snapshot()?;
            let mut found = BTreeSet::new();
            let mut meet = |name: &str| {
                if name != value && found.len() < MOST && gist(name) == looks {
                    found.insert(name.to_owned());
                }
            };
            for mem_segment in &snapshot.mem_segments {
                mem_segment.read().terms(field).iter().for_each(|(name, _)| meet(name));
            }
            snapshot.each_term(field, &mut |name, _| meet(&name))?;
            Ok(found.into_iter().collect())
        })
    }
}

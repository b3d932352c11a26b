//! How many entries a hold keeps.

use crate::redact::is_pseudonym;
use crate::retention::HoldSelector;
use crate::store::OpenStore;
use crate::{Error, ErrorKind, Facet, Query, Result};
use std::collections::{BTreeMap, BTreeSet};

impl OpenStore {
    /// How many of the entries that are there now the hold names. Alerts and emergency grants about the same people are kept too,
    /// and not counted.
    ///
    /// # Errors
    /// `NoSuchEntry` if no hold with this number is in force; `Damaged`.
    pub(crate) fn count_held(&self, hold: u64) -> Result<u64> {
        let chain_state = self.engine().chain_state();
        let Some(placed) = chain_state.holds.get(hold) else {
            return Err(Error::new(ErrorKind::NoSuchEntry, format!("no hold {hold} is in force")));
        };
        let selector = &placed.selector;
        let names = self.names_in(selector);
        let clear = |value: &String| !is_pseudonym(value) || names.contains_key(value);
        if facets(selector).into_iter().flat_map(|(_, values)| values).all(clear) {
            return self.count_by_query(selector, &names);
        }
        // A pseudonym that stands for nobody who is named anywhere: what is recorded under a later key may be about the same
        // person, and is kept for that. No query finds it, so each call is asked as a purge would.
        let aliases = self.engine().aliases();
        let narrowed = facets(selector).into_iter().filter(|(_, values)| values.iter().all(clear));
        let mut count = 0;
        for entry in self.query(&named(narrowed, &names))? {
            let entry = entry?;
            let covered = entry.call().is_some()
                && chain_state.holds.covering_named(entry.seq, &entry.body, &aliases).contains(&hold);
            count += u64::from(covered);
        }
        Ok(count)
    }

    /// By a clear name all entries are found, under whichever pseudonym.
    fn count_by_query(&self, selector: &HoldSelector, names: &BTreeMap<String, String>) -> Result<u64> {
        let query = named(facets(selector).into_iter(), names);
        if selector.seqs.is_empty() {
            return self.count(&query);
        }
        let after = |seq: Option<u64>| self.count(&seq.into_iter().fold(query.clone(), Query::after));
        let mut count = 0;
        for (first, last) in selector.seqs.ranges() {
            count += after(first.checked_sub(1))?.saturating_sub(after(Some(last))?);
        }
        Ok(count)
    }
}

fn facets(selector: &HoldSelector) -> [(Facet, &BTreeSet<String>); 4] {
    [
        (Facet::Conversation, &selector.conversations),
        (Facet::User, &selector.users),
        (Facet::Patient, &selector.patients),
        (Facet::Tool, &selector.tools),
    ]
}

/// The query for these values, by their clear names where they are known.
fn named<'a>(facets: impl Iterator<Item = (Facet, &'a BTreeSet<String>)>, names: &BTreeMap<String, String>) -> Query {
    let each = facets.flat_map(|(facet, values)| values.iter().map(move |value| (facet, value)));
    each.fold(Query::new(), |query, (facet, value)| query.facet(facet, names.get(value).unwrap_or(value)))
}

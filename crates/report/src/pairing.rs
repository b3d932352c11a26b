//! Joins the two entries of a call recorded in two steps, so that it counts as one access.

use attestlog::{Entry, Phase};
use std::collections::BTreeMap;

/// Holds back begin entries until their ends arrive.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    begun: BTreeMap<u64, Entry>,
}

impl Pairing {
    /// Takes the next entry: `None` for a begin entry, otherwise its begin entry, if there was one.
    pub(super) fn next(&mut self, entry: &Entry) -> Option<Option<Entry>> {
        match entry.call().map(|c| c.phase) {
            Some(Phase::Begun) => {
                self.begun.insert(entry.seq, entry.clone());
                None
            }
            Some(Phase::Finished(begun)) => Some(self.begun.remove(&begun)),
            Some(Phase::Whole) | None => Some(None),
        }
    }

    /// The begin entries whose ends never came, in order.
    pub(super) fn rest(self) -> impl Iterator<Item = Entry> {
        self.begun.into_values()
    }
}

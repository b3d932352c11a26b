//! A call that was recorded in two steps is one access, not two.

use attestlog::{Entry, Phase};
use std::collections::BTreeMap;

/// Holds the beginnings of calls back until their ends come.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    begun: BTreeMap<u64, Entry>,
}

impl Pairing {
    /// Takes the next entry: nothing where it is a beginning, otherwise the beginning that belongs to it, if there was one.
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

    /// The beginnings whose ends never came, in order.
    pub(super) fn rest(self) -> impl Iterator<Item = Entry> {
        self.begun.into_values()
    }
}

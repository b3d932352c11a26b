//! Joins the entries of a call, so that it is one event: the two steps, late answers and entries for further patients.

use attestlog::Entry;
use attestlog::entry::Phase;
use attestlog::query::{Calls, Part};
use std::collections::{BTreeMap, HashMap};

/// The entries of one call, or an entry that is not about a call.
#[derive(Debug)]
pub(super) struct Whole {
    /// The entry with the outcome; of a call that never ended, the begin entry.
    pub(super) entry: Entry,
    /// The begin entry, if the call has an end.
    pub(super) begun: Option<Entry>,
    /// Late answers, and entries for further patients.
    pub(super) further: Vec<Entry>,
}

impl Whole {
    /// The call of a single entry.
    pub(super) fn of(entry: Entry) -> Whole {
        Whole { entry, begun: None, further: Vec::new() }
    }
}

/// Holds back calls until their end arrives; calls to which an answer may come late, until all entries were read.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    calls: Calls,
    /// By the seq of the first entry.
    held: BTreeMap<u64, Whole>,
    /// The first entry of each held call, by its end and late answers.
    first: HashMap<u64, u64>,
}

impl Pairing {
    /// Takes the next entry; returns what is complete with it.
    pub(super) fn next(&mut self, entry: &Entry) -> Option<Whole> {
        let (Some(call), Some(part)) = (entry.call(), self.calls.take(entry)) else {
            return Some(Whole::of(entry.clone()));
        };
        let (first, whole) = match part {
            Part::End(first) => {
                let begun = self.held.remove(&first).map(|whole| whole.entry);
                (first, Whole { begun, ..Whole::of(entry.clone()) })
            }
            Part::LateAnswer(of) | Part::Patients(of) | Part::Detail(of) => {
                let first = self.first.get(&of).copied().unwrap_or(of);
                let Some(held) = self.held.get_mut(&first) else {
                    // Details are not events of their own, but what they alone name was accessed.
                    let alone = call.detail_of().is_none() || !call.patient_ids.is_empty();
                    return alone.then(|| Whole::of(entry.clone()));
                };
                held.further.push(entry.clone());
                self.first.insert(entry.seq, first);
                return None;
            }
            _ => (entry.seq, Whole::of(entry.clone())),
        };
        // Only what this library captured gets a late answer, and only if it failed.
        let may_be_answered = call.first_source().is_some() && call.success() == Some(false);
        if call.phase != Phase::Begun && !may_be_answered {
            return Some(whole);
        }
        self.first.insert(entry.seq, first);
        self.held.insert(first, whole);
        None
    }

    /// The calls that were held back to the end, in order.
    pub(super) fn rest(self) -> impl Iterator<Item = Whole> {
        self.held.into_values()
    }
}

//! What purges removed from a period: for reports, which must say what could have been in them.
//!
//! Invariant: the reported number is never less than what could have belonged to the period. A purged entry has no time any
//! more, but its neighbours have: an entry before one that was recorded before the period was recorded before the period too.

use crate::retention::SeqSet;
use crate::store::file::panic_guard::guarded;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::{ErrorKind, Result, Timestamp};
use std::collections::BTreeMap;

impl OpenStore {
    /// What purges removed that was, or could have been, recorded at or after `from` (everything if `None`): the seq of each
    /// purge's entry, with the number of removed entries by retention class. Purges that removed only older entries are
    /// omitted. There is no upper bound, because later entries may be about an earlier time.
    pub(crate) fn purged_since(&self, from: Option<Timestamp>) -> Result<Vec<(u64, BTreeMap<String, u64>)>> {
        let chain_state = self.engine().chain_state();
        if chain_state.purges.is_empty() {
            return Ok(Vec::new());
        }
        let Some(from) = from else {
            return Ok(chain_state.purges.iter().map(|(seq, record)| (*seq, record.classes.clone())).collect());
        };
        guarded(|| {
            let snapshot = self.snapshot()?;
            let first = first_since(&snapshot, &self.engine().purged(), from)?;
            let mut sets: BTreeMap<u64, SeqSet> = BTreeMap::new();
            snapshot.scan_purges(&mut |seq, set| {
                sets.extend(set.ok().map(|set| (seq, set)));
                Ok(())
            })?;
            let mut told = Vec::new();
            for (seq, record) in &chain_state.purges {
                let bounds = sets.get(seq).and_then(|set| Some((set, set.bounds()?)));
                let classes = match bounds {
                    Some((_, (_, last))) if last < first => continue,
                    Some((set, (lowest, _))) if lowest < first => classes(&snapshot, set, first)?,
                    // All of the purge; or its set is lost, and its entry is all that is known.
                    _ => record.classes.clone(),
                };
                told.push((*seq, classes));
            }
            Ok(told)
        })
    }
}

/// The first seq that is not known to have been recorded before `from`.
fn first_since(snapshot: &Snapshot, purged: &SeqSet, from: Timestamp) -> Result<u64> {
    let (mut low, mut high) = (0, snapshot.size);
    while low < high {
        let middle = low + (high - low) / 2;
        // The next entry that still exists stands in for purged ones before it.
        let there = purged.ranges().find(|(first, last)| (*first..=*last).contains(&middle));
        let there = there.map_or(middle, |(_, last)| last + 1);
        let older = there < high
            && match snapshot.entry(there) {
                Ok(entry) => entry.body.recorded_at < from,
                Err(e) if e.kind() == ErrorKind::Damaged => false,
                Err(e) => return Err(e),
            };
        match older {
            true => low = there + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

/// How many entries of each class a purge removed from `first` on, according to the retention columns, which purges keep.
fn classes(snapshot: &Snapshot, taken: &SeqSet, first: u64) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    let mut batches = Vec::new();
    snapshot.scan_batches(&mut |start, end, _| {
        if end > first && taken.intersects(start.max(first), end.saturating_sub(1)) {
            batches.push((start, end));
        }
        Ok(())
    })?;
    for (start, _) in batches {
        let Some(column) = snapshot.column(start)? else { continue };
        for (row, seq) in column.rows.iter().zip(start..) {
            if seq >= first
                && taken.contains(seq)
                && let Some((class, _)) = column.retention(*row)
            {
                *counts.entry(class.to_owned()).or_insert(0) += 1;
            }
        }
    }
    Ok(counts)
}

//! Computes what the tables derived from the entries should hold, and compares it with what they hold.

use super::finding::{Finding, FindingKind as K};
use super::segment::Segment;
use crate::Result;
use crate::merkle;
use crate::retention::SeqSet;
use crate::rows::BATCH;
use crate::store::{
    Hashes, NODE_LEVEL, REMEMBERED, RollupFingerprint, RollupFingerprints, Seeds, Snapshot, Zones, covers, guarded,
};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// What the tables should hold, accumulated segment by segment.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// How many Merkle nodes of the stored levels there should be.
    pub nodes: u64,
    /// How many of the nodes that purges kept below these levels were used.
    pub covered: u64,
    rows: u64,
    /// The ids of the terms that entries have.
    terms: Ids,
    zones: Zones,
    prints: RollupFingerprints,
    begun: BTreeSet<u64>,
    senders: HashMap<String, BTreeMap<u64, u64>>,
}

/// A set of numbers, most of them close together, stored as pages of bits.
#[derive(Debug, Default)]
struct Ids(BTreeMap<u64, [u64; 8]>);

impl Ids {
    /// Returns whether the id is new.
    fn insert(&mut self, id: u64) -> bool {
        let word = &mut self.0.entry(id >> 9).or_default()[(id >> 6 & 7) as usize];
        let bit = 1 << (id & 63);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn contains(&self, id: u64) -> bool {
        self.0.get(&(id >> 9)).is_some_and(|page| page[(id >> 6 & 7) as usize] & 1 << (id & 63) != 0)
    }
}

/// The stored rollups.
#[derive(Debug)]
pub(super) struct Rollups {
    /// The names of the tools, by their terms' ids.
    tools: HashMap<u64, String>,
    /// The fingerprint of each stored rollup, by tool and day; `None` if the rollup cannot be read.
    prints: Vec<(u64, i32, Option<RollupFingerprint>)>,
}

impl Rollups {
    /// Reads all of them. Needs nothing from the entries.
    pub(super) fn read(snapshot: &Snapshot, hashes: &Hashes) -> Result<Rollups> {
        let mut hashes = hashes.fork();
        let tools = snapshot.terms_of(Facet::Tool)?.into_iter().map(|(name, id)| (id, name)).collect();
        snapshot.terms_of(Facet::User)?.iter().for_each(|(user, id)| hashes.name(*id, user));
        let mut prints = Vec::new();
        snapshot.scan_rollups(&mut |tool, day, cell| {
            prints.push((tool, day, cell.ok().and_then(|mut cell| hashes.print(&mut cell))));
            Ok(())
        })?;
        Ok(Rollups { tools, prints })
    }
}

/// The inputs of the comparison.
struct Compare<'a> {
    derived: &'a Derived,
    snapshot: &'a Snapshot,
    purged: &'a SeqSet,
    /// Sizes that were signed.
    sizes: &'a [u64],
}

type Check<'a> = Box<dyn FnOnce() -> Result<Vec<Finding>> + Send + 'a>;

impl Derived {
    /// Adds the index rows that the entries of a batch should have, and the ids of their terms.
    pub(super) fn add_rows(&mut self, rows: u64, terms: Vec<u64>) {
        self.rows += rows;
        terms.into_iter().for_each(|id| _ = self.terms.insert(id));
    }

    /// Adds what the tables should hold for a segment.
    pub(super) fn add(&mut self, segment: &mut Segment) {
        for (key, zone) in std::mem::take(&mut segment.zones) {
            let old = self.zones.entry(key).or_insert(zone);
            *old = (old.0.min(zone.0), old.1.max(zone.1));
        }
        self.prints.merge(&segment.calls);
        self.begun.extend(&segment.begun);
        for seq in &segment.finished {
            self.begun.remove(seq);
        }
        for (id, numbers) in std::mem::take(&mut segment.senders) {
            let known = self.senders.entry(id).or_default();
            known.extend(numbers);
            while known.len() > REMEMBERED {
                known.pop_first();
            }
        }
    }

    /// Compares every table, on this many threads.
    pub(super) fn compare(
        mut self,
        snapshot: &Snapshot,
        purged: &SeqSet,
        sizes: &[u64],
        rollups: Result<Rollups>,
        threads: usize,
    ) -> Vec<Finding> {
        let prints = std::mem::take(&mut self.prints);
        let compare = &Compare { derived: &self, snapshot, purged, sizes };
        // The slowest check comes first.
        let checks: [Check<'_>; 9] = [
            Box::new(|| compare.terms()),
            Box::new(move || compare.rollups(prints, rollups?)),
            Box::new(|| compare.postings()),
            Box::new(|| compare.purged_rows()),
            Box::new(|| compare.covers()),
            Box::new(|| compare.zones()),
            Box::new(|| compare.nodes()),
            Box::new(|| compare.tail()),
            Box::new(|| compare.small_tables()),
        ];
        let waiting = Mutex::new(checks.into_iter().enumerate());
        // By the place of the check, so that their order does not depend on which thread is done first.
        let findings = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let check = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((at, check)) = check else { break };
                let found = guarded(check);
                let found = found.unwrap_or_else(|e| vec![Finding::new(K::FileDamaged, None, e.to_string())]);
                findings.lock().unwrap_or_else(PoisonError::into_inner).insert(at, found);
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| _ = scope.spawn(work));
            work();
        });
        findings.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten().collect()
    }
}

fn find(found: &mut Vec<Finding>, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
    found.push(Finding::new(kind, seq, detail));
}

impl Compare<'_> {
    fn tail(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let (snapshot, state) = (self.snapshot, &self.snapshot.state);
        let (sealed, size) = (state.sealed, state.size);
        let mut unexpected = Vec::new();
        snapshot.scan_tail(0, u64::MAX, &mut |first, row| {
            let end = first.saturating_add(row.map_or(1, |row| row.count()));
            if first < sealed || end > size {
                unexpected.push(first);
            }
            Ok(())
        })?;
        // What is half sealed does not count yet.
        let end = if state.sealing { snapshot.cuts().segment(sealed).end } else { sealed };
        snapshot.scan_blocks(end..u64::MAX, &mut |scanned| {
            unexpected.push(scanned.key);
            Ok(())
        })?;
        snapshot.scan_leaves(end..u64::MAX, &mut |key, _| {
            unexpected.push(key);
            Ok(())
        })?;
        snapshot.scan_directories(end..u64::MAX, &mut |key, _| {
            unexpected.push(key);
            Ok(())
        })?;
        for seq in unexpected {
            find(&mut found, K::EntryUnexpected, seq, "stands where no entry should");
        }
        self.seeds(&mut found)?;
        Ok(found)
    }

    /// Whether the seeds give the nonce of nothing that was purged (B4).
    fn seeds(&self, found: &mut Vec<Finding>) -> Result<()> {
        let (cuts, size) = (self.snapshot.cuts(), self.snapshot.state.size);
        self.snapshot.scan_seeds(0..u64::MAX, &mut |start, row| {
            if start != cuts.start(start) || start >= size {
                find(found, K::BlockDamaged, start, "seeds of nonces are where no segment begins");
                return Ok(());
            }
            let seeds = match Seeds::decode(row) {
                Ok(seeds) => seeds,
                Err(e) => {
                    find(found, K::BlockDamaged, start, e.to_string());
                    return Ok(());
                }
            };
            let offset = |seq: u64| u32::try_from(seq - start).unwrap_or(u32::MAX);
            let mut gone = self.purged.ranges_within(start, cuts.segment(start).end - 1);
            if let Some((first, _)) = gone.find(|(first, last)| seeds.has_any(offset(*first), offset(*last))) {
                find(found, K::PurgeMismatch, first, "a seed gives the nonce of an entry that was purged");
            }
            Ok(())
        })
    }

    fn nodes(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let (_, _, stored) = self.snapshot.row_counts()?;
        let size = self.snapshot.state.size;
        if stored == self.derived.nodes && size == self.snapshot.size {
            return Ok(found);
        }
        let mut wrong = Vec::new();
        self.snapshot.scan_nodes(&mut |level, index, _| {
            let inside = (NODE_LEVEL..64).contains(&level) && index < size >> level;
            if !inside {
                wrong.push((level, index));
            }
            Ok(())
        })?;
        for (level, index) in wrong {
            find(
                &mut found,
                K::TreeMismatch,
                None,
                format!("a Merkle node {index} of level {level} stands where none should"),
            );
        }
        Ok(found)
    }

    fn covers(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        if self.derived.covered == self.snapshot.count_covers()? {
            return Ok(found);
        }
        let expected: BTreeSet<_> = covers(self.purged, self.sizes).into_iter().collect();
        let mut wrong = Vec::new();
        self.snapshot.scan_covers(&mut |first, level| {
            let node = (level, first.checked_shr(level.into()).unwrap_or_default());
            if level >= NODE_LEVEL || !expected.contains(&node) || merkle::leaves_of(level, node.1).start != first {
                wrong.push((first, level));
            }
            Ok(())
        })?;
        for (first, level) in wrong {
            let detail = format!("a node of level {level} was kept here, and no purge needs it");
            find(&mut found, K::CoverMismatch, first, detail);
        }
        Ok(found)
    }

    fn terms(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let mut ids = Ids::default();
        let next = self.snapshot.state.next_term;
        let snapshot = self.snapshot;
        let index = snapshot.index()?;
        snapshot.scan_terms(&mut |field, key, id| {
            let shown = || String::from_utf8_lossy(key).chars().take(80).collect::<String>();
            let Some(field) = Facet::from_u8(field) else {
                let detail = format!("the term {:?} belongs to no facet", shown());
                find(&mut found, K::TermMismatch, None, detail);
                return Ok(());
            };
            if !ids.insert(id) || id >= next {
                let detail = format!("the id {id} of {} {:?} is another term's", field.as_str(), shown());
                find(&mut found, K::TermMismatch, None, detail);
            }
            // A term that no entry was seen to have may still have a row. While a batch is being written, its terms
            // have none.
            let known = self.derived.terms.contains(id) || snapshot.state.merging.is_some();
            if !known && !index.has_row(field, id, snapshot.indexed)? {
                let detail = format!("no entry has the {} {:?}", field.as_str(), shown());
                find(&mut found, K::TermMismatch, None, detail);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The rows that should exist were looked up one by one. If the table has a different number, this finds the extra
    /// ones.
    fn postings(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let (stored, columns, _) = self.snapshot.row_counts()?;
        let snapshot = self.snapshot;
        if stored != self.derived.rows {
            let mut wrong = Vec::new();
            let mut starts = Vec::new();
            snapshot.scan_batches(&mut |first, _, _| {
                starts.push(first);
                Ok(())
            })?;
            // A term has one row per batch. A second row would hide what the first one lists after the second's
            // beginning.
            let mut before = None;
            snapshot.scan_postings(&mut |field, term, first, row| {
                if snapshot.is_half_written(first) {
                    return Ok(());
                }
                let place = Some((field, term, starts.partition_point(|&start| start <= first)));
                let second = std::mem::replace(&mut before, place) == place;
                let listed = Facet::from_u8(field).and_then(|field| {
                    let entry = snapshot.find(first).ok()??;
                    let mut has = false;
                    entry.body.facets(&mut |f, value| {
                        has |= f == field && snapshot.term_id(field, value).ok().flatten() == Some(term);
                    });
                    has.then_some(())
                });
                let reads = row.is_some_and(|row| row.list.ranges(BATCH as usize, |_, _| {}).is_some());
                if second || listed.is_none() || !reads || first >= snapshot.indexed {
                    wrong.push((field, term, first));
                }
                Ok(())
            })?;
            for (field, term, first) in wrong {
                let name = Facet::from_u8(field).map_or("unknown", Facet::as_str);
                find(
                    &mut found,
                    K::IndexRowUnexpected,
                    first,
                    format!("a row of facet {name}, term {term} stands where none should"),
                );
            }
        }
        let batches = self.rows_of_batches()?;
        if columns != batches {
            find(
                &mut found,
                K::ColumnMismatch,
                None,
                format!("there are {columns} retention columns for {batches} index batches"),
            );
        }
        Ok(found)
    }

    /// Purged rows are stored under the batch they belonged to, and each batch checks its own. This finds those of no
    /// batch.
    fn purged_rows(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let mut starts = BTreeSet::new();
        self.snapshot.scan_batches(&mut |first, _, _| {
            starts.insert(first);
            Ok(())
        })?;
        let mut wrong = BTreeSet::new();
        self.snapshot.scan_purged_rows(&mut |first, _, _| {
            if !starts.contains(&first) {
                wrong.insert(first);
            }
            Ok(())
        })?;
        for first in wrong {
            let detail = "what a purge left of an index row stands here, and no index batch begins here";
            find(&mut found, K::IndexRowUnexpected, first, detail);
        }
        Ok(found)
    }

    fn rows_of_batches(&self) -> Result<u64> {
        let mut count = 0;
        self.snapshot.scan_batches(&mut |_, _, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    fn zones(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let mut wrong = Vec::new();
        let mut expected = self.derived.zones.iter().peekable();
        self.snapshot.scan_zones(&mut |level, index, zone| {
            let key = (level, index);
            while let Some((missing, _)) = expected.next_if(|(next, _)| **next < key) {
                wrong.push(*missing);
            }
            if expected.next_if(|(next, _)| **next == key).is_none_or(|(_, right)| *right != zone) {
                wrong.push(key);
            }
            Ok(())
        })?;
        wrong.extend(expected.map(|(missing, _)| *missing));
        for (level, index) in wrong {
            find(
                &mut found,
                K::ZoneMismatch,
                None,
                format!("the times of zone {index} of level {level} are not those of its entries"),
            );
        }
        Ok(found)
    }

    fn rollups(&self, mut prints: RollupFingerprints, stored: Rollups) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let mut wrong = Vec::new();
        for (tool, day, print) in stored.prints {
            let name = stored.tools.get(&tool);
            let right = name.and_then(|name| prints.take(name, day));
            if right.is_none() || right != print {
                wrong.push((name.cloned().unwrap_or_else(|| format!("term {tool}")), day));
            }
        }
        wrong.extend(prints.left());
        for (tool, day) in wrong {
            let day = crate::Timestamp::start_of_day(day).to_string();
            let detail =
                format!("the statistics of tool {tool:?} on {} are not those of its calls", &day[..10.min(day.len())]);
            find(&mut found, K::RollupMismatch, None, detail);
        }
        Ok(found)
    }

    fn small_tables(&self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let stored = self.snapshot.unfinished()?;
        let begun = &self.derived.begun;
        for &seq in stored.symmetric_difference(begun) {
            let detail = if begun.contains(&seq) {
                "it is not listed as unfinished"
            } else {
                "it is listed as unfinished and is not"
            };
            find(&mut found, K::UnfinishedMismatch, seq, detail);
        }
        let senders = &self.derived.senders;
        let mut seen = BTreeSet::new();
        let gone = self.purged;
        let mut wrong = Vec::new();
        self.snapshot.scan_senders(&mut |id, window| {
            seen.insert(id.to_owned());
            let none = BTreeMap::new();
            let known = senders.get(id).unwrap_or(&none);
            let right = window.is_ok_and(|window| {
                // A purge removes the entry but not the number: otherwise a call sent again would be recorded again.
                let listed = window.seqs().filter(|(_, seq)| !gone.contains(*seq));
                let full = window.seqs().count() >= REMEMBERED;
                let oldest = window.seqs().next().map_or(0, |(number, _)| if full { number } else { 0 });
                let newest = known.iter().rev().take(REMEMBERED).filter(|(number, _)| **number >= oldest);
                window.seqs().next().is_some() && listed.eq(newest.rev().map(|(&number, &seq)| (number, seq)))
            });
            if !right {
                wrong.push(id.chars().take(80).collect::<String>());
            }
            Ok(())
        })?;
        wrong.extend(senders.keys().filter(|id| !seen.contains(*id)).cloned());
        for id in wrong {
            find(
                &mut found,
                K::SenderMismatch,
                None,
                format!("the numbers of sender {id:?} are not those of its entries"),
            );
        }
        Ok(found)
    }
}

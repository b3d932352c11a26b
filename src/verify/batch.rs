//! One stretch of the log: its entries, their links, and the index rows that they should have.

use super::finding::{Finding, FindingKind as K};
use crate::codec::CodecError;
use crate::entry::{Body, Content, Field, Kind, Outcome, OwnEntry, Phase};
use crate::json::Canonical;
use crate::ledger::Ledger;
use crate::merkle::Frontier;
use crate::retention::{Bits, SeqSet};
use crate::store::{BATCH, Column, Hashes, Husk, Kept, Part, Prints, Row, Snapshot, Tally, Terms, Zones, zones_of};
use crate::{Hash, Result, line};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// An entry that is there.
#[derive(Debug)]
pub(super) struct Leaf {
    pub seq: u64,
    /// The hash of its line, or, where that could not be made, as it was recorded.
    pub hash: Hash,
    /// The hash as it was recorded.
    pub recorded: Hash,
}

/// What the retention column of a batch says of the entries that a purge took from it.
#[derive(Debug)]
pub(super) struct Expiry {
    /// How many it took.
    pub taken: u64,
    /// By class, how many, and until when the last of them was to be kept, in seconds. Nothing where one was to stay for
    /// ever, or where the column does not say.
    pub classes: Option<BTreeMap<String, (u64, i64)>>,
}

/// What a stretch of the log turned out to be.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub range: Range<u64>,
    /// The entries that are there, in order.
    pub leaves: Vec<Leaf>,
    /// What the first entry says of the one before it.
    pub first_prev: Option<(u64, Hash)>,
    pub entries: u64,
    pub findings: Vec<Finding>,
    /// Index rows that the entries of the stretch should have.
    pub rows: u64,
    /// The ids of their terms.
    pub terms: Vec<u64>,
    pub zones: Zones,
    /// For each tool and day, what its calls add up to.
    pub calls: Prints,
    /// By the seq of a purge: what the column says of what it took.
    pub expiries: BTreeMap<u64, Expiry>,
    pub begun: Vec<u64>,
    pub finished: Vec<u64>,
    pub senders: HashMap<String, BTreeMap<u64, u64>>,
    /// `index_batch` entries: first, end, rows root, column root, seq of the entry.
    pub batches: Vec<(u64, u64, Hash, Hash, u64)>,
    pub rows_root: Option<Hash>,
    pub column_root: Option<Hash>,
    pub last_recorded_at: i64,
    /// The store's own entries that establish facts.
    pub own: Vec<(u64, OwnEntry)>,
    /// What purges kept of entries that are gone, in order.
    pub covers: Vec<Kept>,
    /// Ids of the keys that sealed values need, with the first seq of each.
    pub sealed: BTreeMap<String, u64>,
    /// Ids of the keys that erasures destroyed, with the seq of the erasure.
    pub erased: BTreeMap<String, u64>,
}

/// What every stretch is read by.
pub(super) struct Ground<'a> {
    pub snapshot: &'a Snapshot,
    /// All that is gone.
    pub purged: &'a SeqSet,
    /// What each purge took, by the seq of its entry.
    pub purges: &'a BTreeMap<u64, SeqSet>,
    pub hashes: &'a Hashes,
}

/// The reader of one stretch.
struct Reader<'a> {
    ground: &'a Ground<'a>,
    out: Stretch,
    text: Vec<u8>,
    /// The values of each facet, by its place among all, with where in the stretch they stand.
    index: Vec<Terms>,
    tally: Tally,
    /// The time of each entry that could be read.
    times: Vec<(u64, i64)>,
    /// The last entry that was read, and its hash.
    before: Option<(u64, Hash)>,
    /// How many of the stretch's covers lie before what is read.
    cover: usize,
    /// By place in the stretch: class, by its place in `classes`, and end in seconds; nothing within for the store's own.
    retentions: Vec<(usize, Option<(usize, i64)>)>,
    classes: Vec<String>,
}

/// Reads the entries of `range`. `indexed` says whether the file's index covers them, as one batch.
pub(super) fn read(ground: &Ground<'_>, range: Range<u64>, indexed: bool) -> Result<Stretch> {
    let mut reader = Reader {
        ground,
        out: Stretch { range: range.clone(), last_recorded_at: i64::MIN, ..Stretch::default() },
        text: Vec::with_capacity(4096),
        index: Field::ALL.iter().map(|_| Terms::default()).collect(),
        tally: Tally::new(ground.hashes.fork()),
        times: Vec::new(),
        before: None,
        cover: 0,
        retentions: Vec::new(),
        classes: Vec::new(),
    };
    reader.out.covers = ground.snapshot.covers_within(&range)?;
    reader.entries(&range)?;
    if indexed {
        reader.out.zones = zones_of(std::mem::take(&mut reader.times).into_iter());
        reader.out.calls = reader.tally.finish(&reader.index[Field::Tool.place()]);
        reader.tally = Tally::new(ground.hashes.fork());
        reader.compare_rows()?;
        reader.compare_column()?;
    }
    Ok(reader.out)
}

impl Reader<'_> {
    fn entries(&mut self, range: &Range<u64>) -> Result<()> {
        let mut at = range.start;
        let snapshot = self.ground.snapshot;
        let sealed = snapshot.state.sealed;
        snapshot.scan_blocks(range.start, range.end.min(sealed), &mut |scanned| {
            let block = match scanned.block {
                Ok(block) => block,
                Err(e) => {
                    self.find(K::BlockDamaged, scanned.key, format!("the block that begins here: {e}"));
                    return Ok(());
                }
            };
            if block.runs().first().is_some_and(|r| r.first != scanned.key) {
                self.find(K::BlockDamaged, scanned.key, "the block stands under another seq than its first");
            }
            if !block.is_whole() {
                self.find(K::BlockDamaged, scanned.key, "its columns do not end with its last entry");
            }
            for ((seq, i, prev), part) in block.entries().zip(block.parts()) {
                if !range.contains(&seq) {
                    continue;
                }
                if seq >= sealed || seq < at {
                    self.find(K::EntryUnexpected, seq, "stands in a block where it should not");
                    continue;
                }
                at = seq + 1;
                match part {
                    Ok(part) => {
                        let prev = prev.or_else(|| self.kept(seq));
                        self.entry(seq, prev, block.hash(i), &part);
                    }
                    Err(e) => self.find(K::EntryDamaged, seq, e.to_string()),
                }
            }
            Ok(())
        })?;
        for seq in range.start.max(sealed)..range.end {
            match snapshot.tail_row(seq) {
                Ok(Some(packed)) => match packed.part() {
                    Ok(part) => self.entry(seq, Some(packed.prev), packed.hash, &part),
                    Err(e) => self.unreadable(seq, packed.hash, &e),
                },
                Ok(None) => {}
                Err(e) => self.find(K::EntryDamaged, seq, e.to_string()),
            }
        }
        Ok(())
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.out.findings.push(Finding::new(kind, seq, detail));
    }

    /// An entry that is there and does not decode.
    fn unreadable(&mut self, seq: u64, recorded: Hash, e: &CodecError) {
        self.out.entries += 1;
        self.before = Some((seq, recorded));
        self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
        self.find(K::EntryDamaged, seq, e.to_string());
    }

    fn entry(&mut self, seq: u64, prev: Option<Hash>, recorded: Hash, part: &Part<'_>) {
        let body: Body<&str> = match part.body() {
            Ok(body) => body,
            Err(e) => return self.unreadable(seq, recorded, &e),
        };
        self.out.entries += 1;
        let before = self.before.replace((seq, recorded));
        if !body.parts().all(Canonical::is_whole) {
            self.find(
                K::EntryChanged,
                seq,
                "a part of it does not end where its value ends: its facets are not its line's",
            );
        }
        let Some(prev) = prev else {
            self.find(K::EntryDamaged, seq, "its block leaves the hash before it to what a purge kept, which has none");
            self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
            return self.facts(seq, &body);
        };
        self.text.clear();
        line::write(&mut self.text, seq, &prev, &body);
        let hash = Hash::leaf(&self.text);
        if hash != recorded {
            self.find(K::EntryChanged, seq, format!("its line hashes to {hash}, {recorded} was recorded"));
        }
        // What follows is compared with what was recorded, so that one edited entry is one finding.
        let expected = match before {
            Some((before, expected)) if before + 1 == seq => Some(expected),
            _ if seq == self.out.range.start => {
                self.out.first_prev = Some((seq, prev));
                None
            }
            // A purge may have taken the hash before it along.
            _ => self.kept(seq),
        };
        if let Some(expected) = expected.filter(|expected| *expected != prev) {
            self.find(K::ChainBroken, seq, format!("it names {prev} as the entry before it, which is {expected}"));
        }
        self.out.leaves.push(Leaf { seq, hash, recorded });
        self.facts(seq, &body);
    }

    /// The hash of the entry before this one, which is gone, where it was kept.
    fn kept(&mut self, seq: u64) -> Option<Hash> {
        let before = seq.checked_sub(1)?;
        if before < self.out.range.start {
            return self.ground.snapshot.hash_before(seq).ok();
        }
        let covers = &self.out.covers;
        while covers.get(self.cover).is_some_and(|kept| kept.first < before) {
            self.cover += 1;
        }
        covers.get(self.cover).filter(|kept| (kept.first, kept.level) == (before, 0)).map(|kept| kept.hash)
    }

    /// What the entry should look like in the derived tables.
    fn facts(&mut self, seq: u64, body: &Body<&str>) {
        if let Content::Own(own) = &body.content
            && Ledger::wants(own.kind)
        {
            self.out.own.push((seq, own.to_owned()));
        }
        let place = (seq - self.out.range.start) as usize;
        self.times.push((seq, body.timestamp().nanos()));
        let classes = &mut self.classes;
        let retention = body.retention.as_ref().map(|r| {
            let known = classes.iter().position(|class| *class == r.class);
            let class = known.unwrap_or_else(|| {
                classes.push(r.class.to_owned());
                classes.len() - 1
            });
            (class, r.until.nanos().div_euclid(1_000_000_000))
        });
        self.retentions.push((place, retention));
        self.out.last_recorded_at = self.out.last_recorded_at.max(body.recorded_at.nanos());
        let index = &mut self.index;
        let (mut tool, mut user) = (0, 0);
        body.facets(&mut |field, value| {
            let id = index[field.place()].add(value, place as u32);
            match field {
                Field::Tool => tool = id,
                Field::User => user = id,
                _ => {}
            }
        });
        match &body.content {
            Content::Call(call) => {
                for id in super::sealed::keys_of(call) {
                    self.out.sealed.entry(id).or_insert(seq);
                }
                match call.phase {
                    Phase::Whole => {}
                    Phase::Begun => self.out.begun.push(seq),
                    Phase::Finished(begun) => self.out.finished.push(begun),
                }
                if let Some(sender) = &call.sender {
                    self.out.senders.entry(sender.id.to_owned()).or_default().insert(sender.number, seq);
                }
                if call.kind() == Kind::ToolCall {
                    let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
                    let day = call.timestamp.day();
                    self.tally.add(tool, (user, call.user_id), day, success, call.duration_nanos());
                }
            }
            Content::Own(own) if own.kind == Kind::IndexBatch => {
                let detail = own.detail.to_json();
                let number = |key: &str| detail.get(key).and_then(|v| v.as_u64());
                let hash = |key: &str| detail.get(key)?.as_str()?.parse::<Hash>().ok();
                match (number("first"), number("end"), hash("rows_root"), hash("column_root")) {
                    (Some(first), Some(end), Some(rows), Some(column)) => {
                        self.out.batches.push((first, end, rows, column, seq));
                    }
                    _ => self.find(K::BatchMismatch, seq, "the entry does not name its batch"),
                }
            }
            Content::Own(own) if own.kind == Kind::Erasure => {
                let erased = &mut self.out.erased;
                super::sealed::destroyed(&own.detail.to_json()).for_each(|id| _ = erased.entry(id).or_insert(seq));
            }
            Content::Own(_) => {}
        }
    }

    fn compare_rows(&mut self) -> Result<()> {
        let batch = self.out.range.clone();
        let gone = self.ground.purged.bits(batch.clone());
        let index = std::mem::take(&mut self.index);
        // What purges left of rows, and rows, each in the order of their places.
        let mut husks = Vec::new();
        let mut leaves = Vec::new();
        self.ground.snapshot.husks_of(batch.start, &mut |position, husk| {
            match husk.and_then(|husk| Some((husk, all_gone(&husk, &gone)?))) {
                Some((husk, true)) => husks.push((position, husk.leaf())),
                Some((husk, false)) => self.out.findings.push(Finding::new(
                    K::IndexRowMissing,
                    husk.list.first,
                    "an index row was taken away, its entries were not",
                )),
                None => self.out.findings.push(Finding::new(
                    K::IndexRowChanged,
                    batch.start,
                    "what a purge left of an index row is damaged",
                )),
            }
            Ok(())
        })?;
        let mut whole = true;
        let stored = self.ground.snapshot.index()?;
        for &field in Field::ALL {
            let mut values: Vec<_> = index[field.place()].lists.iter().collect();
            values.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            self.out.rows += values.len() as u64;
            let first = |places: &[u32]| batch.start + places.first().copied().map_or(0, u64::from);
            let name = |value: &str| {
                let shown: String = value.chars().take(80).collect();
                format!("{} {shown:?}", field.as_str())
            };
            // Rows are read in the order of the terms' ids, and have their places in the order of the values.
            let mut terms = Vec::with_capacity(values.len());
            for (i, (value, places)) in values.iter().enumerate() {
                match stored.term_id(field, value)? {
                    Some(term) => terms.push((term, i)),
                    None => self.find(K::TermMismatch, first(places), format!("{} has no term", name(value))),
                }
            }
            terms.sort_unstable();
            whole &= terms.len() == values.len();
            let mut read = vec![None; values.len()];
            let mut rows = stored.rows_within(field, batch.clone());
            for (term, i) in terms {
                self.out.terms.push(term);
                let (value, places) = values[i];
                let check = |row: Option<Row<'_>>| {
                    let row = row?;
                    let listed = Listed { row: &row, batch: batch.start, places, gone: &gone };
                    Some((row.position, row.leaf(field, value), listed.wrong(self.ground.purged)?))
                };
                match rows.read(term, check)? {
                    Some(Some((position, leaf, wrong))) => {
                        read[i] = Some((position, leaf));
                        if let Some(wrong) = wrong {
                            let detail = format!("the index does not list it rightly under {}", name(value));
                            self.find(K::IndexRowChanged, wrong, detail);
                        }
                    }
                    Some(None) => {
                        let detail = format!("the row of {} does not decode", name(value));
                        self.find(K::IndexRowChanged, first(places), detail);
                    }
                    None => {
                        let detail = format!("{} of its index batch are missing under {}", places.len(), name(value));
                        self.find(K::IndexRowMissing, first(places), detail);
                    }
                }
            }
            for ((value, places), row) in values.iter().zip(read) {
                let Some((position, leaf)) = row else {
                    whole = false;
                    continue;
                };
                let before = leaves.last().map(|(position, _)| *position);
                let taken = husks.binary_search_by_key(&position, |(position, _)| *position).is_ok();
                if taken || before.is_some_and(|before| before >= position) {
                    let detail = format!("the row of {} has another place in its batch", name(value));
                    self.find(K::IndexRowChanged, first(places), detail);
                }
                leaves.push((position, leaf));
            }
        }
        leaves.extend(husks);
        leaves.sort_by_key(|(position, _)| *position);
        if whole && leaves.iter().map(|(position, _)| *position).eq(0..leaves.len() as u64) {
            let mut tree = Frontier::empty();
            leaves.iter().for_each(|(_, leaf)| tree.append(*leaf, &mut |_, _, _| {}));
            self.out.rows_root = Some(tree.root());
        } else if whole {
            self.find(
                K::IndexRowMissing,
                batch.start,
                "the index batch that begins here does not have all of its rows",
            );
        }
        Ok(())
    }

    fn compare_column(&mut self) -> Result<()> {
        let Range { start, end } = self.out.range;
        let column = match self.ground.snapshot.column(start) {
            Ok(Some(column)) => column,
            Ok(None) => {
                self.find(K::ColumnMismatch, start, "the retention column of the batch that begins here is missing");
                return Ok(());
            }
            Err(e) => {
                self.find(K::ColumnMismatch, start, format!("the retention column that begins here: {e}"));
                return Ok(());
            }
        };
        if column.rows.len() as u64 != end - start {
            self.find(
                K::ColumnMismatch,
                start,
                "the retention column that begins here has another length than its batch",
            );
        }
        // By place of the class in the column, its place among those of the entries.
        let places: Vec<_> = column.classes.iter().map(|class| self.classes.iter().position(|c| c == class)).collect();
        for (place, real) in std::mem::take(&mut self.retentions) {
            // One that is too short was found already.
            let Some(&(class, until)) = column.rows.get(place) else { continue };
            let said = usize::from(class).checked_sub(1).map(|class| (places.get(class).copied().flatten(), until));
            if said != real.map(|(class, until)| (Some(class), until)) {
                self.find(
                    K::ColumnMismatch,
                    start + place as u64,
                    "the retention column says something else than the entry",
                );
            }
        }
        // What it says of entries that are gone is held against the purges when they are known.
        for (&purge, set) in self.ground.purges {
            let mut taken = 0;
            // By class; the first is that of entries without one, which stay for ever.
            let mut counted = vec![(0, i64::MIN); column.classes.len() + 1];
            let mut said = true;
            for (first, last) in set.ranges_within(start, end - 1) {
                taken += last - first + 1;
                let rows = column.rows.get((first - start) as usize..=(last - start) as usize);
                said &= rows.is_some();
                for &(class, until) in rows.unwrap_or_default() {
                    if let Some((count, latest)) = counted.get_mut(usize::from(class)) {
                        *count += 1;
                        *latest = until.max(*latest);
                    }
                }
            }
            if taken > 0 {
                said &= counted[0].0 == 0;
                let mut classes: BTreeMap<String, (u64, i64)> = BTreeMap::new();
                for (class, &(count, latest)) in column.classes.iter().zip(&counted[1..]).filter(|(_, c)| c.0 > 0) {
                    let known = classes.entry(class.clone()).or_insert((0, latest));
                    *known = (known.0 + count, known.1.max(latest));
                }
                self.out.expiries.insert(purge, Expiry { taken, classes: said.then_some(classes) });
            }
        }
        self.out.column_root = Some(Column::root(&column));
        Ok(())
    }
}

/// Whether all entries of a row that a purge took away are gone; `None` where it does not decode.
fn all_gone(husk: &Husk<'_>, gone: &Bits) -> Option<bool> {
    let mut all = true;
    husk.list.ranges(BATCH as usize, |from, end| all &= gone.count(from, end) == end - from)?;
    Some(all)
}

/// A row of the index, and what it should list.
struct Listed<'a> {
    row: &'a Row<'a>,
    /// The first seq of the batch.
    batch: u64,
    /// Where in it entries stand that have the term.
    places: &'a [u32],
    /// What of it is gone: a row keeps the seqs of entries that are gone, since its hash is over all.
    gone: &'a Bits,
}

impl Listed<'_> {
    /// The first entry that the row lists wrongly or does not list; `None` where it does not decode.
    fn wrong(&self, purged: &SeqSet) -> Option<Option<u64>> {
        let mut there = self.places;
        let mut right = true;
        self.row.list.ranges(BATCH as usize, |from, end| {
            let here = there.iter().take_while(|&&place| self.batch + u64::from(place) < end).count();
            let (now, later) = there.split_at(here);
            there = later;
            right &= now.first().is_none_or(|&place| self.batch + u64::from(place) >= from);
            let missing = (end - from).wrapping_sub(here as u64);
            right &= missing == 0 || self.gone.count(from, end) == missing;
        })?;
        if right && there.is_empty() {
            return Some(None);
        }
        self.search(purged).map(Some).or(Some(None))
    }

    /// As [`Listed::wrong`], one by one.
    fn search(&self, purged: &SeqSet) -> Option<u64> {
        let listed = self.row.list.seqs(BATCH as usize)?;
        let mut there = self.places.iter().map(|&place| self.batch + u64::from(place)).peekable();
        let stray = purged.first_outside(listed.into_iter().filter(|seq| there.next_if_eq(seq).is_none()));
        // What is left of the entries was not listed where it should be.
        let unlisted = there.next().filter(|seq| *seq < stray.unwrap_or(u64::MAX));
        unlisted.or(stray)
    }
}

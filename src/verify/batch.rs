//! One stretch of the log: its entries, their links, and the index rows that they should have.

use super::finding::{Finding, FindingKind as K};
use crate::entry::{Body, Content, Field, Kind, Outcome, OwnEntry, Phase};
use crate::json::Canonical;
use crate::ledger::Ledger;
use crate::merkle::Frontier;
use crate::retention::SeqSet;
use crate::store::{Column, Packed, Prints, Row, Snapshot, Terms, row_inner, row_leaf, zones_of};
use crate::{Hash, Result, codec, line};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What a stretch of the log turned out to be.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub range: Range<u64>,
    /// The hash of each entry, computed from its line where that could be read.
    pub hashes: Vec<Option<Hash>>,
    /// The hash of each entry as it was recorded.
    pub recorded: Vec<Option<Hash>>,
    /// What the first entry says of the one before it.
    pub first_prev: Option<(u64, Hash)>,
    pub entries: u64,
    pub findings: Vec<Finding>,
    /// Index rows that the entries of the stretch should have.
    pub rows: u64,
    pub zones: BTreeMap<(u8, u64), (i64, i64)>,
    /// For each tool and day, what its calls add up to.
    pub calls: Prints,
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
    pub covers: Vec<((u8, u64), Hash)>,
    /// Ids of the keys that sealed values need, with the first seq of each.
    pub sealed: BTreeMap<String, u64>,
    /// Ids of the keys that erasures destroyed, with the seq of the erasure.
    pub erased: BTreeMap<String, u64>,
}

/// The reader of one stretch.
struct Reader<'a> {
    snapshot: &'a Snapshot,
    purged: &'a SeqSet,
    out: Stretch,
    text: Vec<u8>,
    /// The values of each facet, by its place among all, with where in the stretch they stand.
    index: Vec<Terms>,
    times: Vec<Option<i64>>,
    /// The last entry that was read, and its hash.
    before: Option<(u64, Hash)>,
    /// Class, by its place in `classes`, and end in seconds; nothing within for the store's own entries.
    retentions: Vec<Option<Option<(usize, i64)>>>,
    classes: Vec<String>,
}

/// Reads the entries of `range`. `indexed` says whether the file's index covers them, as one batch.
pub(super) fn read(
    snapshot: &Snapshot,
    purged: &SeqSet,
    calls: Prints,
    range: Range<u64>,
    indexed: bool,
) -> Result<Stretch> {
    let length = (range.end - range.start) as usize;
    let mut reader = Reader {
        snapshot,
        purged,
        out: Stretch {
            range: range.clone(),
            hashes: vec![None; length],
            recorded: vec![None; length],
            last_recorded_at: i64::MIN,
            calls,
            ..Stretch::default()
        },
        text: Vec::with_capacity(4096),
        index: Field::ALL.iter().map(|_| Terms::default()).collect(),
        times: vec![None; length],
        before: None,
        retentions: vec![None; length],
        classes: Vec::new(),
    };
    reader.out.covers = snapshot.covers_within(&range)?;
    reader.entries(&range)?;
    if indexed {
        reader.zones();
        reader.compare_rows()?;
        reader.compare_column()?;
    }
    Ok(reader.out)
}

impl Reader<'_> {
    fn entries(&mut self, range: &Range<u64>) -> Result<()> {
        let mut at = range.start;
        let sealed = self.snapshot.state.sealed;
        let snapshot = self.snapshot;
        snapshot.scan_blocks(range.start, range.end.min(sealed), &mut |scanned| {
            let block = match scanned.block {
                Ok(block) => block,
                Err(e) => {
                    self.find(K::BlockDamaged, scanned.key, format!("the block that begins here: {e}"));
                    return Ok(());
                }
            };
            if !scanned.canonical {
                self.find(K::BlockDamaged, scanned.key, "the block that begins here is not in its one form");
            }
            if block.runs().first().is_some_and(|r| r.first != scanned.key) {
                self.find(K::BlockDamaged, scanned.key, "the block stands under another seq than its first");
            }
            for (i, seq) in block.seqs().enumerate() {
                if !range.contains(&seq) {
                    continue;
                }
                if seq >= sealed || seq < at {
                    self.find(K::EntryUnexpected, seq, "stands in a block where it should not");
                    continue;
                }
                at = seq + 1;
                match block.body(i) {
                    Ok(bytes) => {
                        let (prev, hash) = (block.prev(seq, i), block.hash(i));
                        self.entry(seq, &Packed { prev, hash, bytes: bytes.into_owned() });
                    }
                    Err(e) => self.find(K::EntryDamaged, seq, e.to_string()),
                }
            }
            Ok(())
        })?;
        for seq in range.start.max(sealed)..range.end {
            match snapshot.find(seq) {
                Ok(Some(found)) => self.entry(seq, &found.packed),
                Ok(None) => {}
                Err(e) => self.find(K::EntryDamaged, seq, e.to_string()),
            }
        }
        Ok(())
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.out.findings.push(Finding::new(kind, seq, detail));
    }

    fn entry(&mut self, seq: u64, packed: &Packed) {
        self.out.entries += 1;
        let place = (seq - self.out.range.start) as usize;
        self.out.recorded[place] = Some(packed.hash);
        let body: Body = match codec::decode(&packed.bytes) {
            Ok(body) => body,
            Err(e) => {
                self.before = Some((seq, packed.hash));
                return self.find(K::EntryDamaged, seq, e.to_string());
            }
        };
        if !body.parts().all(Canonical::is_whole) {
            self.find(
                K::EntryChanged,
                seq,
                "a part of it does not end where its value ends: its facets are not its line's",
            );
        }
        self.text.clear();
        line::write(&mut self.text, seq, &packed.prev, &body);
        let hash = Hash::leaf(&self.text);
        if hash != packed.hash {
            self.find(K::EntryChanged, seq, format!("its line hashes to {hash}, {} was recorded", packed.hash));
        }
        match self.before {
            Some((before, expected)) if before + 1 == seq => {
                if packed.prev != expected {
                    let detail = format!("it names {} as the entry before it, which is {expected}", packed.prev);
                    self.find(K::ChainBroken, seq, detail);
                }
            }
            _ if seq == self.out.range.start => self.out.first_prev = Some((seq, packed.prev)),
            // A purge may have taken the hash before it along.
            _ => {
                if let Some(expected) = self.kept(seq - 1).filter(|expected| *expected != packed.prev) {
                    let detail = format!("it names {} as the entry before it, which is {expected}", packed.prev);
                    self.find(K::ChainBroken, seq, detail);
                }
            }
        }
        // What follows is compared with what was recorded, so that one edited entry is one finding.
        self.before = Some((seq, packed.hash));
        self.out.hashes[place] = Some(hash);
        self.facts(seq, place, &body);
    }

    /// The hash of an entry that is gone, where it was kept.
    fn kept(&self, seq: u64) -> Option<Hash> {
        let at =
            self.out.covers.binary_search_by_key(&(seq, 0), |((level, index), _)| (index << level, *level)).ok()?;
        self.out.covers.get(at).map(|(_, hash)| *hash)
    }

    /// What the entry should look like in the derived tables.
    fn facts(&mut self, seq: u64, place: usize, body: &Body) {
        if let Content::Own(own) = &body.content
            && Ledger::wants(own.kind)
        {
            self.out.own.push((seq, own.clone()));
        }
        self.times[place] = Some(body.timestamp().nanos());
        let classes = &mut self.classes;
        self.retentions[place] = Some(body.retention.as_ref().map(|r| {
            let known = classes.iter().position(|class| *class == r.class);
            let class = known.unwrap_or_else(|| {
                classes.push(r.class.clone());
                classes.len() - 1
            });
            (class, r.until.nanos().div_euclid(1_000_000_000))
        }));
        self.out.last_recorded_at = self.out.last_recorded_at.max(body.recorded_at.nanos());
        let index = &mut self.index;
        body.facets(&mut |field, value| {
            index[field.place()].add(value, place as u32);
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
                    self.out.senders.entry(sender.id.clone()).or_default().insert(sender.number, seq);
                }
                if call.kind() == Kind::ToolCall {
                    let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
                    let day = call.timestamp.day();
                    self.out.calls.add(&call.tool_name, &call.user_id, day, success, call.duration_nanos());
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

    fn zones(&mut self) {
        for (i, time) in self.times.iter().enumerate() {
            let Some(time) = *time else { continue };
            for (key, zone) in zones_of(self.out.range.start + i as u64, &[time]) {
                let old = self.out.zones.entry(key).or_insert(zone);
                *old = (old.0.min(zone.0), old.1.max(zone.1));
            }
        }
    }

    fn compare_rows(&mut self) -> Result<()> {
        let batch = self.out.range.clone();
        let mut leaves: BTreeMap<u64, Hash> = BTreeMap::new();
        for (position, husk) in self.snapshot.husks_of(batch.start)? {
            match husk {
                Some((inner, seqs)) if self.purged.first_outside(seqs.iter().copied()).is_none() => {
                    leaves.insert(position, row_leaf(&inner, &seqs));
                }
                Some((_, seqs)) => self.find(
                    K::IndexRowMissing,
                    seqs.first().copied(),
                    "an index row was taken away, its entries were not",
                ),
                None => self.find(K::IndexRowChanged, batch.start, "what a purge left of an index row is damaged"),
            }
        }
        let mut whole = true;
        let mut before = None;
        let index = std::mem::take(&mut self.index);
        let stored = self.snapshot.index()?;
        for &field in Field::ALL {
            let mut values: Vec<_> = index[field.place()].lists.iter().collect();
            values.sort_unstable();
            for (value, places) in values {
                let seqs: Vec<u64> = places.iter().map(|&place| batch.start + u64::from(place)).collect();
                self.out.rows += 1;
                let shown: String = value.chars().take(80).collect();
                let name = format!("{} {shown:?}", field.as_str());
                let Some(term) = stored.term_id(field, value)? else {
                    whole = false;
                    self.find(K::TermMismatch, seqs[0], format!("{name} has no term"));
                    continue;
                };
                let row = match stored.row_within(field, term, &batch) {
                    Ok(Some(row)) => row,
                    Ok(None) => {
                        whole = false;
                        let detail = format!("{} of its index batch are missing under {name}", seqs.len());
                        self.find(K::IndexRowMissing, seqs[0], detail);
                        continue;
                    }
                    Err(e) => {
                        whole = false;
                        self.find(K::IndexRowChanged, seqs[0], format!("the row of {name}: {e}"));
                        continue;
                    }
                };
                let Row { salt, position, seqs: listed } = row;
                // A row keeps the seqs of entries that are gone: its hash is over all.
                let mut there = seqs.iter().peekable();
                let stray =
                    self.purged.first_outside(listed.iter().copied().filter(|seq| there.next_if_eq(&seq).is_none()));
                // What is left of the entries was not listed where it should be.
                if let Some(wrong) = there.next().copied().filter(|seq| *seq < stray.unwrap_or(u64::MAX)).or(stray) {
                    self.find(K::IndexRowChanged, wrong, format!("the index does not list it rightly under {name}"));
                }
                if before.replace(position).is_some_and(|before| before >= position) || leaves.contains_key(&position) {
                    self.find(K::IndexRowChanged, seqs[0], format!("the row of {name} has another place in its batch"));
                }
                leaves.insert(position, row_leaf(&row_inner(&salt, field, value), &listed));
            }
        }
        if whole && leaves.keys().copied().eq(0..leaves.len() as u64) {
            let mut tree = Frontier::empty();
            leaves.values().for_each(|leaf| tree.append(*leaf, &mut |_, _, _| {}));
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
        let first = self.out.range.start;
        let column = match self.snapshot.column(first) {
            Ok(Some(column)) => column,
            Ok(None) => {
                self.find(K::ColumnMismatch, first, "the retention column of the batch that begins here is missing");
                return Ok(());
            }
            Err(e) => {
                self.find(K::ColumnMismatch, first, format!("the retention column that begins here: {e}"));
                return Ok(());
            }
        };
        if column.rows.len() != self.retentions.len() {
            self.find(
                K::ColumnMismatch,
                first,
                "the retention column that begins here has another length than its batch",
            );
        }
        let said: Vec<_> = column.rows.iter().map(|&row| column.retention(row)).collect();
        for (i, (said, real)) in said.iter().zip(std::mem::take(&mut self.retentions)).enumerate() {
            // What it says of entries that are gone is held against the purges when they are known.
            let Some(real) = real else { continue };
            if *said != real.and_then(|(class, until)| Some((self.classes.get(class)?.as_str(), until))) {
                self.find(
                    K::ColumnMismatch,
                    first + i as u64,
                    "the retention column says something else than the entry",
                );
            }
        }
        self.out.column_root = Some(Column::root(&column));
        Ok(())
    }
}

//! What spans the batches: the tree, the links between them, and every table that is not read batch by batch.

use super::batch::{self, Stretch};
use super::finding::{Finding, FindingKind as K};
use super::signed::Signed;
use super::{Verification, VerifyOptions};
use crate::entry::Field;
use crate::ledger::Ledger;
use crate::merkle::{self, Frontier, Nodes};
use crate::retention::SeqSet;
use crate::store::{BATCH, NODE_LEVEL, Prints, REMEMBERED, Snapshot, covers, guarded};
use crate::{AuditLog, Error, Hash, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::mpsc;

pub(super) fn verify(log: &AuditLog, options: &VerifyOptions) -> Result<Verification> {
    let clock = &log.shared().clock;
    let start = clock.monotonic();
    // One transaction and nothing from memory: what is compared must be of one moment.
    let snapshot = log.shared().stored()?;
    let purged = guarded(|| purged(&snapshot))?;
    let signed = guarded(|| Signed::new(log.shared(), &snapshot, options))?;
    let mut whole = Whole::new(&snapshot, &purged.0, signed);
    whole.findings.extend(purged.1);
    let stretches = guarded(|| whole.stretches())?;
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let total = snapshot.size;
    let prints = whole.prints.fork();
    let read = |range: Range<u64>, indexed| batch::read(&snapshot, &purged.0, prints.fork(), range, indexed);
    in_order(threads.min(stretches.len().max(1)), &stretches, read, |stretch| {
        let end = stretch.range.end;
        whole.add(stretch);
        if let Some(progress) = &options.progress {
            progress(end, total);
        }
    })?;
    whole.derived()?;
    whole.sealed(log);
    let reach = whole.signed.judge(&whole.ledger, &snapshot);
    let mut findings = whole.findings;
    findings.extend(reach.findings);
    findings.sort_unstable();
    findings.dedup();
    Ok(Verification {
        size: snapshot.size,
        entries: whole.entries,
        purged: purged.0.len(),
        root: whole.tree.root(),
        head: snapshot.head,
        signed: reach.signed_size > 0,
        signed_size: reach.signed_size,
        key_pinned: reach.key_pinned,
        anchored: reach.anchored_size > 0,
        anchored_size: reach.anchored_size,
        rewritable_from: reach.rewritable_from,
        findings,
        seconds: (clock.monotonic() - start).as_secs_f64(),
    })
}

/// What is said to have been purged, as far as it can be read.
fn purged(snapshot: &Snapshot) -> Result<(SeqSet, Vec<Finding>)> {
    let mut purged = SeqSet::new();
    let mut findings = Vec::new();
    snapshot.scan_purges(&mut |seq, set| {
        match set {
            Ok(set) => purged = purged.union(&set),
            Err(e) => findings.push(Finding::new(K::PurgeMismatch, seq, format!("the set that it took: {e}"))),
        }
        Ok(())
    })?;
    Ok((purged, findings))
}

/// Reads the stretches on `threads` threads and hands them over in order. At most two a thread are held at a time.
fn in_order(
    threads: usize,
    stretches: &[(Range<u64>, bool)],
    read: impl Fn(Range<u64>, bool) -> Result<Stretch> + Sync,
    mut take: impl FnMut(Stretch),
) -> Result<()> {
    let read = &read;
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for lane in 0..threads {
            let (send, receive) = mpsc::sync_channel(1);
            scope.spawn(move || {
                // Each thread takes every n-th stretch, so that the results can be taken in turn.
                for (range, indexed) in stretches.iter().skip(lane).step_by(threads) {
                    if send.send(guarded(|| read(range.clone(), *indexed))).is_err() {
                        return;
                    }
                }
            });
            lanes.push(receive);
        }
        for i in 0..stretches.len() {
            let stretch = lanes[i % threads].recv();
            take(stretch.map_err(|_| Error::damaged("a part of the file could not be read"))??);
        }
        Ok(())
    })
}

struct Whole<'a> {
    snapshot: &'a Snapshot,
    purged: &'a SeqSet,
    signed: Signed<'a>,
    ledger: Ledger,
    /// The nodes that should stand for what is gone, in order.
    covers: VecDeque<(u8, u64)>,
    /// How many of the nodes that purges kept below the level of stored ones were used.
    covered: u64,
    findings: Vec<Finding>,
    entries: u64,
    tree: Frontier,
    nodes: u64,
    last: Option<Hash>,
    rows: u64,
    zones: BTreeMap<(u8, u64), (i64, i64)>,
    prints: Prints,
    begun: BTreeSet<u64>,
    senders: HashMap<String, BTreeMap<u64, u64>>,
    sealed: BTreeMap<String, u64>,
    erased: BTreeMap<String, u64>,
    /// By first seq: end, roots over what is in the file.
    batches: BTreeMap<u64, (u64, Option<Hash>, Option<Hash>)>,
    /// By first seq: the seq of the batch's entry, as the table of batches has it.
    named: BTreeMap<u64, u64>,
    chained: BTreeMap<u64, (u64, Hash, Hash, u64)>,
    last_recorded_at: i64,
}

impl<'a> Whole<'a> {
    fn new(snapshot: &'a Snapshot, purged: &'a SeqSet, signed: Signed<'a>) -> Whole<'a> {
        Whole {
            snapshot,
            purged,
            covers: covers(purged, &signed.sizes).into(),
            signed,
            ledger: Ledger::default(),
            covered: 0,
            findings: Vec::new(),
            entries: 0,
            tree: Frontier::empty(),
            nodes: 0,
            last: None,
            rows: 0,
            zones: BTreeMap::new(),
            prints: Prints::new(),
            begun: BTreeSet::new(),
            senders: HashMap::new(),
            sealed: BTreeMap::new(),
            erased: BTreeMap::new(),
            batches: BTreeMap::new(),
            named: BTreeMap::new(),
            chained: BTreeMap::new(),
            last_recorded_at: i64::MIN,
        }
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, seq, detail));
    }

    /// The index's batches, and what no batch covers in pieces of the same size.
    fn stretches(&mut self) -> Result<Vec<(Range<u64>, bool)>> {
        let mut stretches = Vec::new();
        let mut at = 0;
        let mut wrong = Vec::new();
        let indexed = self.snapshot.state.indexed.min(self.snapshot.size);
        let named = &mut self.named;
        self.snapshot.scan_batches(&mut |first, end, seq| {
            named.insert(first, seq);
            if first != at || end <= first || end > indexed {
                wrong.push(first);
            } else {
                stretches.push((first..end, true));
                at = end;
            }
            Ok(())
        })?;
        for first in wrong {
            self.find(
                K::BatchMismatch,
                first,
                "the table of index batches has a row here that does not fit the others",
            );
        }
        if at != indexed {
            self.find(
                K::BatchMismatch,
                at,
                format!("the index says that it reaches to {indexed}, its batches end here"),
            );
        }
        while at < self.snapshot.size {
            let end = (at + BATCH).min(self.snapshot.size);
            stretches.push((at..end, false));
            at = end;
        }
        Ok(stretches)
    }

    fn add(&mut self, mut stretch: Stretch) {
        self.entries += stretch.entries;
        self.findings.append(&mut stretch.findings);
        if let (Some((seq, prev)), Some(last)) =
            (stretch.first_prev, self.last.or((stretch.range.start == 0).then_some(Hash::ZERO)))
            && prev != last
        {
            self.find(K::ChainBroken, seq, format!("it names {prev} as the entry before it, which is {last}"));
        }
        self.leaves(&stretch);
        self.rows += stretch.rows;
        stretch.sealed.into_iter().for_each(|(id, seq)| _ = self.sealed.entry(id).or_insert(seq));
        stretch.erased.into_iter().for_each(|(id, seq)| _ = self.erased.entry(id).or_insert(seq));
        for (seq, own) in stretch.own {
            if let Err(e) = self.ledger.apply(seq, &own) {
                self.find(K::OwnEntryInvalid, seq, e.reason);
            }
        }
        for (key, zone) in stretch.zones {
            let old = self.zones.entry(key).or_insert(zone);
            *old = (old.0.min(zone.0), old.1.max(zone.1));
        }
        let indexed = stretch.range.end <= self.snapshot.state.indexed;
        if indexed {
            self.prints.merge(stretch.calls);
            self.batches.insert(stretch.range.start, (stretch.range.end, stretch.rows_root, stretch.column_root));
        }
        for (first, end, rows, column, seq) in stretch.batches {
            // The first counts: a second one, by whoever can append, could leave out what the first lists.
            match self.chained.entry(first) {
                Entry::Vacant(place) => _ = place.insert((end, rows, column, seq)),
                Entry::Occupied(_) => self.find(
                    K::BatchMismatch,
                    seq,
                    format!("it names an index batch from entry {first} on, which an earlier entry names"),
                ),
            }
        }
        self.begun.extend(stretch.begun);
        for seq in stretch.finished {
            self.begun.remove(&seq);
        }
        for (id, numbers) in stretch.senders {
            let known = self.senders.entry(id).or_default();
            known.extend(numbers);
            while known.len() > REMEMBERED {
                known.pop_first();
            }
        }
        self.last_recorded_at = self.last_recorded_at.max(stretch.last_recorded_at);
    }

    /// Grows the tree by the entries of a stretch, and by what stands for those that are gone.
    fn leaves(&mut self, stretch: &Stretch) {
        let Range { start, end } = stretch.range;
        let purged = self.purged;
        let mut kept = stretch.covers.iter().peekable();
        let mut at = start;
        for (first, last) in purged.ranges_within(start, end.saturating_sub(1)).chain([(end, end)]) {
            for (seq, i) in (at..first).zip((at - start) as usize..) {
                self.leaf(seq, stretch.hashes[i], stretch.recorded[i]);
            }
            if first == end {
                break;
            }
            for (seq, recorded) in (first..=last).zip(&stretch.recorded[(first - start) as usize..]) {
                if recorded.is_some() {
                    self.find(K::EntryUnexpected, seq, "it is there although it was purged");
                }
            }
            self.last = None;
            while self.tree.size() <= last {
                self.cover(&mut kept);
            }
            at = last + 1;
        }
    }

    fn leaf(&mut self, seq: u64, hash: Option<Hash>, recorded: Option<Hash>) {
        // The next entry's link is compared with what was recorded of this one, its leaf with what it says now.
        self.last = recorded;
        if recorded.is_none() {
            self.find(K::EntryMissing, seq, "it is neither there nor purged");
        }
        let leaf = hash.or(recorded).unwrap_or_default();
        let mut completed = Vec::new();
        self.tree.append(leaf, &mut |level, index, hash| {
            if level >= NODE_LEVEL {
                completed.push((level, index, hash));
            }
        });
        self.completed(completed);
    }

    /// The next node that stands for purged entries.
    fn cover<'k>(&mut self, kept: &mut std::iter::Peekable<impl Iterator<Item = &'k ((u8, u64), Hash)>>) {
        let seq = self.tree.size();
        let found = self.covers.pop_front().filter(|&(level, index)| merkle::leaves_of(level, index).start == seq);
        let hash = match found {
            Some((level, index)) if level >= NODE_LEVEL => self.snapshot.node(level, index).ok(),
            Some(node) => {
                // What lies before it stands for nothing; that it is there is found when all are counted.
                while kept.next_if(|((level, index), _)| merkle::leaves_of(*level, *index).start < seq).is_some() {}
                kept.next_if(|(key, _)| *key == node).map(|(_, hash)| *hash)
            }
            None => None,
        };
        let mut completed = Vec::new();
        let appended = found.zip(hash).is_some_and(|((level, _), hash)| {
            self.last = (level == 0).then_some(hash);
            if level >= NODE_LEVEL {
                self.nodes += 1
            } else {
                self.covered += 1
            }
            self.tree.append_subtree(level, hash, &mut |level, index, hash| completed.push((level, index, hash)))
        });
        if !appended {
            self.last = None;
            self.find(K::CoverMismatch, seq, "what a purge must keep of it is missing");
            self.tree.append(Hash::ZERO, &mut |level, index, hash| completed.push((level, index, hash)));
        }
        self.completed(completed);
    }

    fn completed(&mut self, completed: Vec<(u8, u64, Hash)>) {
        self.signed.saw(&self.tree);
        for (level, index, hash) in completed.into_iter().filter(|c| c.0 >= NODE_LEVEL) {
            self.nodes += 1;
            let first = merkle::leaves_of(level, index).start;
            match guarded(|| self.snapshot.node(level, index)) {
                Ok(stored) if stored == hash => {}
                Ok(_) => {
                    self.find(K::TreeMismatch, first, format!("the Merkle node {index} of level {level} is another"))
                }
                Err(e) => self.find(K::TreeMismatch, first, e.to_string()),
            }
        }
    }

    /// Everything that is compared once all entries were read.
    fn derived(&mut self) -> Result<()> {
        self.state();
        self.batches();
        let checks: [fn(&mut Self) -> Result<()>; 8] = [
            Self::tail,
            Self::nodes,
            Self::covers,
            Self::terms,
            Self::postings,
            Self::zones,
            Self::rollups,
            Self::small_tables,
        ];
        for check in checks {
            if let Err(e) = guarded(|| check(self)) {
                self.find(K::FileDamaged, None, e.to_string());
            }
        }
        Ok(())
    }

    /// The keys of sealed values.
    fn sealed(&mut self, log: &AuditLog) {
        let check = || super::sealed::check(log.shared(), self.snapshot, &self.sealed, &self.erased);
        match guarded(check) {
            Ok(findings) => self.findings.extend(findings),
            Err(e) => self.find(K::FileDamaged, None, e.to_string()),
        }
    }

    fn state(&mut self) {
        let state = &self.snapshot.state;
        // The state may belong to a commit after the snapshot's size; what it says of the newest entry does not count then.
        if state.size == self.snapshot.size {
            if self.last != Some(state.head) && state.size > 0 {
                let detail = format!("the state names {} as the newest entry", state.head);
                self.find(K::HeadMismatch, state.size - 1, detail);
            }
            if state.last_recorded_at != self.last_recorded_at && state.size > 0 {
                self.find(K::StateMismatch, None, "the time of the newest entry is another than the state says");
            }
        }
    }

    fn batches(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        let mut chained = std::mem::take(&mut self.chained);
        for (first, (end, rows, column)) in batches {
            let Some((chained_end, chained_rows, chained_column, seq)) = chained.remove(&first) else {
                self.find(K::BatchMismatch, first, "no entry of the chain names the index batch that begins here");
                continue;
            };
            if self.named.get(&first) != Some(&seq) {
                self.find(K::BatchMismatch, seq, "the table of index batches names another entry for its batch");
            }
            if chained_end != end {
                self.find(
                    K::BatchMismatch,
                    seq,
                    format!("it says that its batch ends at {chained_end}, the index says {end}"),
                );
            }
            if rows.is_some_and(|rows| rows != chained_rows) {
                self.find(K::BatchMismatch, seq, "the index rows of its batch do not have the root that it names");
            }
            if column.is_some_and(|column| column != chained_column) {
                self.find(
                    K::ColumnMismatch,
                    seq,
                    "the retention column of its batch does not have the root that it names",
                );
            }
        }
        for (_, (_, _, _, seq)) in chained {
            if seq < self.snapshot.size && seq < self.snapshot.state.size {
                self.find(K::BatchMismatch, seq, "the index batch that it names is not in the file");
            }
        }
    }

    fn tail(&mut self) -> Result<()> {
        let (sealed, size) = (self.snapshot.state.sealed, self.snapshot.state.size);
        let mut unexpected = Vec::new();
        self.snapshot.scan_tail(&mut |seq, _| {
            if !(sealed..size).contains(&seq) {
                unexpected.push(seq);
            }
            Ok(())
        })?;
        self.snapshot.scan_blocks(sealed, u64::MAX, &mut |scanned| {
            if scanned.key >= sealed {
                unexpected.push(scanned.key);
            }
            Ok(())
        })?;
        for seq in unexpected {
            self.find(K::EntryUnexpected, seq, "stands where no entry should");
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<()> {
        let (_, _, stored) = self.snapshot.row_counts()?;
        let size = self.snapshot.state.size;
        if stored == self.nodes && size == self.snapshot.size {
            return Ok(());
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
            self.find(
                K::TreeMismatch,
                None,
                format!("a Merkle node {index} of level {level} stands where none should"),
            );
        }
        Ok(())
    }

    fn covers(&mut self) -> Result<()> {
        if self.covered == self.snapshot.count_covers()? {
            return Ok(());
        }
        let expected: BTreeSet<_> = covers(self.purged, &self.signed.sizes).into_iter().collect();
        let mut wrong = Vec::new();
        self.snapshot.scan_covers(&mut |level, index, _| {
            if level >= NODE_LEVEL || !expected.contains(&(level, index)) {
                wrong.push((level, index));
            }
            Ok(())
        })?;
        for (level, index) in wrong {
            let detail = format!("node {index} of level {level} was kept, and no purge needs it");
            self.find(K::CoverMismatch, merkle::leaves_of(level.min(63), index).start, detail);
        }
        Ok(())
    }

    fn terms(&mut self) -> Result<()> {
        let mut ids = BTreeSet::new();
        let mut wrong = Vec::new();
        let next = self.snapshot.state.next_term;
        let snapshot = self.snapshot;
        let index = snapshot.index()?;
        snapshot.scan_terms(&mut |field, key, id| {
            let shown: String = String::from_utf8_lossy(key).chars().take(80).collect();
            let Some(field) = Field::from_u8(field) else {
                wrong.push(format!("the term {shown:?} is of no facet"));
                return Ok(());
            };
            if !ids.insert(id) || id >= next {
                wrong.push(format!("the id {id} of {} {shown:?} is another term's", field.as_str()));
            }
            // Terms of a batch that is being written have no row yet.
            if snapshot.state.merging.is_none() && !index.has_row(field, id, snapshot.indexed)? {
                wrong.push(format!("no entry has the {} {shown:?}", field.as_str()));
            }
            Ok(())
        })?;
        for detail in wrong {
            self.find(K::TermMismatch, None, detail);
        }
        Ok(())
    }

    /// Rows that should be there were looked up one by one; if there are more, they are searched for here.
    fn postings(&mut self) -> Result<()> {
        let (stored, columns, _) = self.snapshot.row_counts()?;
        let snapshot = self.snapshot;
        if stored != self.rows {
            let mut wrong = Vec::new();
            let mut starts = Vec::new();
            snapshot.scan_batches(&mut |first, _, _| {
                starts.push(first);
                Ok(())
            })?;
            // A term has one row in a batch. A second one would hide what the first lists behind it.
            let mut before = None;
            snapshot.scan_postings(&mut |field, term, first, row| {
                if snapshot.is_half_written(first) {
                    return Ok(());
                }
                let place = Some((field, term, starts.partition_point(|&start| start <= first)));
                let second = std::mem::replace(&mut before, place) == place;
                let listed = Field::from_u8(field).and_then(|field| {
                    let entry = snapshot.entry(first).ok()?;
                    let mut has = false;
                    entry.body.facets(&mut |f, value| {
                        has |= f == field && snapshot.term_id(field, value).ok().flatten() == Some(term);
                    });
                    has.then_some(())
                });
                if second || listed.is_none() || row.is_none() || first >= snapshot.indexed {
                    wrong.push((field, term, first));
                }
                Ok(())
            })?;
            for (field, term, first) in wrong {
                let name = Field::from_u8(field).map_or("unknown", Field::as_str);
                self.find(
                    K::IndexRowUnexpected,
                    first,
                    format!("a row of facet {name}, term {term} stands where none should"),
                );
            }
        }
        let batches = self.rows_of_batches()?;
        if columns != batches {
            self.find(
                K::ColumnMismatch,
                None,
                format!("there are {columns} retention columns for {batches} index batches"),
            );
        }
        Ok(())
    }

    fn rows_of_batches(&self) -> Result<u64> {
        let mut count = 0;
        self.snapshot.scan_batches(&mut |_, _, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    fn zones(&mut self) -> Result<()> {
        let mut expected = std::mem::take(&mut self.zones);
        let mut wrong = Vec::new();
        self.snapshot.scan_zones(&mut |level, index, zone| {
            if expected.remove(&(level, index)) != Some(zone) {
                wrong.push((level, index));
            }
            Ok(())
        })?;
        wrong.extend(expected.into_keys());
        for (level, index) in wrong {
            self.find(
                K::ZoneMismatch,
                None,
                format!("the times of zone {index} of level {level} are not those of its entries"),
            );
        }
        Ok(())
    }

    fn rollups(&mut self) -> Result<()> {
        let tools: HashMap<u64, String> =
            self.snapshot.terms_of(Field::Tool)?.into_iter().map(|(n, id)| (id, n)).collect();
        let prints = &mut self.prints;
        let mut users: Vec<(u64, u64)> = Vec::new();
        self.snapshot.each_term(Field::User, &mut |name, id| users.push((id, prints.of_user(&name))))?;
        users.sort_unstable();
        let user = |id: u64| users.binary_search_by_key(&id, |(id, _)| *id).ok().and_then(|at| Some(users.get(at)?.1));
        let mut wrong = Vec::new();
        self.snapshot.scan_rollups(&mut |tool, day, cell| {
            let right = match (tools.get(&tool), cell) {
                (Some(name), Ok(cell)) => prints.matches(name, day, &cell, user),
                _ => false,
            };
            if !right {
                wrong.push((tools.get(&tool).cloned().unwrap_or_else(|| format!("term {tool}")), day));
            }
            Ok(())
        })?;
        wrong.extend(self.prints.unmatched());
        for (tool, day) in wrong {
            let day = crate::Timestamp::start_of_day(day).to_string();
            let detail =
                format!("the statistics of tool {tool:?} on {} are not those of its calls", &day[..10.min(day.len())]);
            self.find(K::RollupMismatch, None, detail);
        }
        Ok(())
    }

    fn small_tables(&mut self) -> Result<()> {
        let stored = self.snapshot.unfinished()?;
        let begun = std::mem::take(&mut self.begun);
        for &seq in stored.symmetric_difference(&begun) {
            let detail = if begun.contains(&seq) {
                "it is not listed as unfinished"
            } else {
                "it is listed as unfinished and is not"
            };
            self.find(K::UnfinishedMismatch, seq, detail);
        }
        let mut senders = std::mem::take(&mut self.senders);
        let gone = self.purged;
        let mut wrong = Vec::new();
        self.snapshot.scan_senders(&mut |id, window| {
            let known = senders.remove(id).unwrap_or_default();
            let right = window.is_ok_and(|window| {
                // A purge takes the entry, not the number: it would be recorded again otherwise.
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
        wrong.extend(senders.into_keys());
        for id in wrong {
            self.find(K::SenderMismatch, None, format!("the numbers of sender {id:?} are not those of its entries"));
        }
        Ok(())
    }
}

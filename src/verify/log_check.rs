//! Checks what spans the batches: the tree, the links between segments, and signatures. Tables that are not read batch
//! by batch are left to `derived_tables`.

use super::batch::{Expiry, Outcome};
use super::derived_tables::{Derived, Rollups};
use super::finding::{Finding, FindingKind as K, in_order};
use super::grants::Grants;
use super::pages;
use super::segment::{Group, Leaf, Segment, VerifyInputs};
use super::signed::Signed;
use super::work::{self, Done};
use super::{Verification, VerifyOptions};
use crate::chain_state::ChainState;
use crate::keyless::Keyless;
use crate::merkle::{self, Frontier, Nodes};
use crate::restored::Restored;
use crate::retention::{ClockEvent, PurgeRecord, SeqSet, is_within};
use crate::rows::BATCH;
use crate::store::OpenStore;
use crate::store::{Hashes, Kept, NODE_LEVEL, Snapshot, covers, guarded};
use crate::{Error, Hash, Result, Timestamp};
use attestlog_proof::entry::{Kind, SystemEvent};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

pub(super) fn verify(log: &OpenStore, options: &VerifyOptions) -> Result<Verification> {
    let clock = &log.engine().config.clock;
    let start = clock.monotonic();
    // Use one transaction and nothing from memory: everything that is compared must be of the same moment.
    let snapshot = match log.engine().stored_with_pages() {
        // Another program has written over the file. Readers are not served from what it holds now, so neither vouches
        // for the other.
        Err(e) if log.engine().is_written_over() => return Ok(nothing(log, &e)),
        snapshot => snapshot?,
    };
    let (purges, findings) = guarded(|| purges(&snapshot))?;
    let purged = purges.values().fold(SeqSet::new(), |all, set| all.union(set));
    let signed = guarded(|| Signed::new(log.engine(), &snapshot, &purges, options))?;
    let hashes = Hashes::new();
    let mut whole = LogCheck::new(&snapshot, &purged, &purges, signed);
    whole.findings.extend(findings);
    let database = log.engine().database()?.get()?.clone();
    if database.is_damaged() {
        let detail =
            "the tables in which the file keeps its free pages, or its header: nothing can be recorded any more";
        whole.findings.push(Finding::new(K::FileDamaged, None, detail));
        whole.findings.extend(database.flaws_before().map(pages::finding));
    }
    let stretches = guarded(|| whole.stretches())?;
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let total = snapshot.size;
    let sizes = whole.signed.asked();
    let inputs = VerifyInputs { snapshot: &snapshot, purged: &purged, purges: &purges, hashes: &hashes, sizes: &sizes };
    let (mut rollups, mut damaged_pages) = (None, Vec::new());
    let besides = || {
        rollups = Some(guarded(|| Rollups::read(&snapshot, &hashes)));
        damaged_pages = pages::check(&snapshot);
    };
    work::run(&inputs, threads, &stretches, besides, |done| match done {
        Done::Segment(segment) => {
            let end = segment.range.end;
            whole.add(*segment);
            if let Some(progress) = &options.progress {
                progress(end, total);
            }
        }
        Done::Batch(outcome) => whole.compared(outcome),
    })?;
    whole.findings.extend(damaged_pages);
    whole.state();
    whole.batches();
    let derived = std::mem::take(&mut whole.derived);
    // `besides` has set this.
    let rollups = rollups.unwrap_or_else(|| Err(Error::damaged("the statistics could not be read")));
    whole.findings.extend(derived.compare(&snapshot, &purged, &whole.signed.sizes, rollups, threads));
    whole.sealed(log);
    let small = guarded(|| super::small::check(log.engine(), &snapshot, &purged)).unwrap_or_else(|e| {
        whole.find(K::FileDamaged, None, e.to_string());
        Default::default()
    });
    whole.findings.extend(small.findings);
    // An entry that cannot be read was reported already.
    let recorded_at = |seq| guarded(|| Ok(snapshot.entry(seq)?.body.recorded_at)).ok();
    let restored = whole.restored.iter().filter_map(|(seq, own)| Some((*seq, recorded_at(*seq)?, own)));
    let restored = Restored::all(restored);
    let changed =
        whole.findings.iter().filter(|finding| finding.kind.is_cause()).filter_map(|finding| finding.seq).min();
    let reach = whole.signed.judge(&whole.chain_state, &snapshot, &whole.expiries, &restored, changed);
    let recorded_without_key = guarded(|| Keyless::stretches(&whole.keyless, &snapshot)).unwrap_or_else(|e| {
        whole.find(K::FileDamaged, None, e.to_string());
        Vec::new()
    });
    let mut findings = whole.findings;
    findings.extend(reach.findings);
    // Make sure that everything was read from the same file.
    findings.extend(snapshot.check_unchanged().err().map(|e| Finding::new(K::FileDamaged, None, e.to_string())));
    in_order(&mut findings);
    log.mark_settled(&mut findings);
    Ok(Verification {
        size: snapshot.size,
        entries: whole.entries,
        purged: purged.len(),
        root: whole.tree.root(),
        head: snapshot.head,
        signed: reach.signed_size > 0,
        signed_size: reach.signed_size,
        key_pinned: reach.key_pinned,
        anchored: reach.anchored_size > 0 && options.unreadable.is_empty(),
        anchored_size: reach.anchored_size,
        rewritable_from: reach.rewritable_from,
        restored,
        lost_anchors: reach.lost_anchors,
        recorded_without_key,
        not_authenticated: small.not_authenticated,
        unfinished_commit: database.is_unfinished(),
        pages_only: false,
        findings,
        seconds: (clock.monotonic() - start).as_secs_f64(),
    })
}

/// The result for a file that another program has written over.
fn nothing(log: &OpenStore, e: &Error) -> Verification {
    let (size, head) = log.engine().shown();
    Verification { size, head, ..Verification::of_nothing() }.and_not_opened(&e.to_string())
}

/// The entries that each purge took, by the seq of the purge's entry; a finding for each set that cannot be read.
fn purges(snapshot: &Snapshot) -> Result<(BTreeMap<u64, SeqSet>, Vec<Finding>)> {
    let mut purges = BTreeMap::new();
    let mut findings = Vec::new();
    snapshot.scan_purges(&mut |seq, set| {
        match set {
            Ok(set) => _ = purges.insert(seq, set),
            Err(e) => findings.push(Finding::new(K::PurgeMismatch, seq, format!("the set that it took: {e}"))),
        }
        Ok(())
    })?;
    Ok((purges, findings))
}

struct LogCheck<'a> {
    snapshot: &'a Snapshot,
    purged: &'a SeqSet,
    /// What each purge took.
    purges: &'a BTreeMap<u64, SeqSet>,
    signed: Signed<'a>,
    grants: Grants,
    chain_state: ChainState,
    /// The kept nodes that should stand for purged entries, in order.
    covers: VecDeque<(u8, u64)>,
    findings: Vec<Finding>,
    entries: u64,
    tree: Frontier,
    last: Option<Hash>,
    /// What the tables derived from the entries should hold.
    derived: Derived,
    /// What the retention columns say about purged entries, by first seq of the batch and seq of the purge.
    expiries: BTreeMap<u64, BTreeMap<u64, Expiry>>,
    sealed: BTreeMap<String, u64>,
    erased: BTreeMap<String, u64>,
    /// The index batches in the file, by first seq: end, root of the rows, root of the column.
    batches: BTreeMap<u64, (u64, Option<Hash>, Option<Hash>)>,
    /// The seq of each batch's entry according to the table of batches, by first seq.
    named: BTreeMap<u64, u64>,
    chained: BTreeMap<u64, (u64, Hash, Hash, u64)>,
    last_recorded_at: i64,
    /// The entries about restores and their confirmations.
    restored: Vec<(u64, SystemEvent)>,
    /// Entries that say that the store was opened without its key, and when.
    keyless: Vec<(u64, Timestamp)>,
    /// The cut-offs of purges by their seqs, as long as nothing contradicts them.
    cut_offs: BTreeMap<u64, Timestamp>,
}

impl<'a> LogCheck<'a> {
    fn new(
        snapshot: &'a Snapshot,
        purged: &'a SeqSet,
        purges: &'a BTreeMap<u64, SeqSet>,
        signed: Signed<'a>,
    ) -> LogCheck<'a> {
        LogCheck {
            snapshot,
            purged,
            purges,
            covers: covers(purged, &signed.sizes).into(),
            signed,
            grants: Grants::default(),
            chain_state: ChainState::default(),
            findings: Vec::new(),
            entries: 0,
            tree: Frontier::empty(),
            last: None,
            derived: Derived::default(),
            expiries: BTreeMap::new(),
            sealed: BTreeMap::new(),
            erased: BTreeMap::new(),
            batches: BTreeMap::new(),
            named: BTreeMap::new(),
            chained: BTreeMap::new(),
            last_recorded_at: i64::MIN,
            restored: Vec::new(),
            keyless: Vec::new(),
            cut_offs: BTreeMap::new(),
        }
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, seq, detail));
    }

    /// The ranges to verify, each with whether it is a batch of the index: the index batches, then the rest of the log
    /// in ranges of `BATCH` entries.
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
            if end <= self.snapshot.state.indexed {
                self.batches.insert(at, (end, None, None));
            }
            at = end;
        }
        Ok(stretches)
    }

    fn add(&mut self, mut segment: Segment) {
        self.entries += segment.entries;
        self.findings.append(&mut segment.findings);
        if let (Some((seq, prev)), Some(last)) =
            (segment.first_prev, self.last.or((segment.range.start == 0).then_some(Hash::ZERO)))
            && prev != last
        {
            self.find(K::ChainBroken, seq, format!("it names {prev} as the entry before it, which is {last}"));
        }
        self.leaves(&segment);
        self.derived.add(&mut segment);
        segment.sealed.into_iter().for_each(|(id, seq)| _ = self.sealed.entry(id).or_insert(seq));
        segment.erased.into_iter().for_each(|(id, seq)| _ = self.erased.entry(id).or_insert(seq));
        let mut uses = segment.uses.into_iter().peekable();
        for (seq, recorded_at, own) in segment.own {
            while let Some((at, grant, user)) = uses.next_if(|(at, ..)| *at < seq) {
                self.grants.used(at, grant, user);
            }
            let wrong = self.grants.said(seq, &own, self.purges);
            wrong.into_iter().for_each(|(kind, detail)| self.find(kind, seq, detail));
            self.clocked(seq, recorded_at, &own);
            if matches!(own.kind, Kind::Restore | Kind::RestoreConfirmed) {
                self.restored.push((seq, own.clone()));
            }
            if Keyless::is(&own) {
                self.keyless.push((seq, recorded_at));
            }
            if let Err(e) = self.chain_state.apply(seq, &own) {
                self.find(K::OwnEntryInvalid, seq, e.reason);
            }
        }
        uses.for_each(|(at, grant, user)| self.grants.used(at, grant, user));
        for (first, end, rows, column, seq) in segment.batches {
            // The first entry counts: an attacker who can append could write a second one that leaves out rows of the
            // first.
            match self.chained.entry(first) {
                Entry::Vacant(place) => _ = place.insert((end, rows, column, seq)),
                Entry::Occupied(_) => self.find(
                    K::BatchMismatch,
                    seq,
                    format!("it names an index batch from entry {first} on, which an earlier entry names"),
                ),
            }
        }
        self.last_recorded_at = self.last_recorded_at.max(segment.last_recorded_at);
    }

    /// Checks that no cut-off of a purge and no trusted time lies further ahead of the system clock than the clock
    /// bound of the policy in force allows (R16). The system clock is known from the recording time of the entry.
    fn clocked(&mut self, seq: u64, recorded_at: Timestamp, own: &SystemEvent) {
        let detail = own.detail.to_json();
        let (what, time, kind) = match own.kind {
            Kind::Purge => match PurgeRecord::from_json(&detail) {
                Ok(record) => ("its cut-off", record.cut_off, K::PurgedEarly),
                Err(_) => return,
            },
            Kind::Clock => match ClockEvent::from_json(&detail) {
                Ok(ClockEvent::SetBack { to, .. }) => return self.set_back(seq, to),
                Ok(ClockEvent::Trusted { time, .. }) => ("the trusted time", time, K::OwnEntryInvalid),
                Ok(_) => return,
                Err(e) => return self.find(K::OwnEntryInvalid, seq, e.to_string()),
            },
            _ => return,
        };
        let Ok(history) = self.chain_state.history() else { return };
        let bound = history.at(seq).clock_bound();
        if !is_within(time, recorded_at, bound) {
            let days = bound.as_secs() / 86_400;
            let detail = format!(
                "{what} {time} lies more than {days} days after the time at which this was recorded, {recorded_at}"
            );
            self.find(kind, seq, detail);
        } else if own.kind == Kind::Purge {
            self.cut_offs.insert(seq, time);
        }
    }

    /// Checks that no earlier purge took entries that had not expired at `to`, the time to which the system clock was
    /// set back: the clock was wrong at that purge. Reports each purge once.
    fn set_back(&mut self, seq: u64, to: Timestamp) {
        let Ok(history) = self.chain_state.history() else { return };
        let bounds = |purge| history.at(purge).clock_bound();
        let early: Vec<_> =
            self.cut_offs.iter().filter(|&(purge, time)| !is_within(*time, to, bounds(*purge))).collect();
        let early: Vec<_> = early.into_iter().map(|(purge, time)| (*purge, *time)).collect();
        for (purge, time) in early {
            self.cut_offs.remove(&purge);
            let detail =
                format!("its cut-off {time} lies beyond {to}, to which the system clock was set back (entry {seq})");
            self.find(K::PurgedEarly, purge, detail);
        }
    }

    fn compared(&mut self, mut batch: Outcome) {
        self.findings.append(&mut batch.findings);
        self.derived.add_rows(batch.rows, batch.terms);
        let Range { start, end } = batch.range;
        if !batch.expiries.is_empty() {
            self.expiries.insert(start, batch.expiries);
        }
        self.batches.insert(start, (end, batch.rows_root, batch.column_root));
    }

    /// Appends the entries of a segment to the tree, and the kept nodes that stand for purged entries.
    fn leaves(&mut self, segment: &Segment) {
        let Range { start, end } = segment.range;
        let purged = self.purged;
        let mut kept = segment.covers.iter().peekable();
        let mut there = segment.leaves.iter().peekable();
        let mut groups = segment.groups.iter().peekable();
        let mut at = start;
        for (first, last) in purged.ranges_within(start, end.saturating_sub(1)).chain([(end, end)]) {
            while at < first {
                match groups.next_if(|group| group.first == at) {
                    Some(group) => {
                        self.group(group);
                        at += 1 << NODE_LEVEL;
                    }
                    None => {
                        self.leaf(at, there.next_if(|leaf| leaf.seq == at));
                        at += 1;
                    }
                }
            }
            if first == end {
                break;
            }
            while let Some(leaf) = there.next_if(|leaf| leaf.seq <= last) {
                self.find(K::EntryUnexpected, leaf.seq, "it is present although it was purged");
            }
            self.last = None;
            while self.tree.size() <= last {
                self.cover(&mut kept);
            }
            at = last + 1;
        }
    }

    /// Appends a group: entries that make up a complete node.
    fn group(&mut self, group: &Group) {
        self.last = Some(group.recorded);
        let mut completed = vec![(NODE_LEVEL, group.first >> NODE_LEVEL, group.node)];
        let grown = self.tree.append_subtree(NODE_LEVEL, group.node, &mut |level, index, hash| {
            completed.push((level, index, hash));
        });
        if !grown {
            self.find(K::TreeMismatch, group.first, "the entries before it are not as many as it says");
        }
        self.completed(completed);
    }

    fn leaf(&mut self, seq: u64, leaf: Option<&Leaf>) {
        // The next entry's link is compared with the recorded hash; the tree gets the hash of the line as it is now.
        self.last = leaf.map(|leaf| leaf.recorded);
        if leaf.is_none() {
            self.find(K::EntryMissing, seq, "it is neither present nor purged");
        }
        let mut completed = Vec::new();
        self.tree.append(leaf.map(|leaf| leaf.hash).unwrap_or_default(), &mut |level, index, hash| {
            if level >= NODE_LEVEL {
                completed.push((level, index, hash));
            }
        });
        self.completed(completed);
    }

    /// Appends the next kept node that stands for purged entries.
    fn cover<'k>(&mut self, kept: &mut std::iter::Peekable<impl Iterator<Item = &'k Kept>>) {
        let seq = self.tree.size();
        let found = self.covers.pop_front().filter(|&(level, index)| merkle::leaves_of(level, index).start == seq);
        let hash = match found {
            Some((level, index)) if level >= NODE_LEVEL => self.snapshot.node(level, index).ok(),
            Some((level, _)) => {
                // Kept nodes before it stand for nothing; `derived_tables` reports them.
                while kept.next_if(|kept| (kept.first, kept.level) < (seq, level)).is_some() {}
                kept.next_if(|kept| (kept.first, kept.level) == (seq, level)).map(|kept| kept.hash)
            }
            None => None,
        };
        let mut completed = Vec::new();
        let appended = found.zip(hash).is_some_and(|((level, _), hash)| {
            self.last = (level == 0).then_some(hash);
            if level >= NODE_LEVEL {
                self.derived.nodes += 1
            } else {
                self.derived.covered += 1
            }
            self.tree.append_subtree(level, hash, &mut |level, index, hash| {
                if level >= NODE_LEVEL {
                    completed.push((level, index, hash));
                }
            })
        });
        if !appended {
            self.last = None;
            self.find(K::CoverMismatch, seq, "what a purge must keep of it is missing");
            self.tree.append(Hash::ZERO, &mut |level, index, hash| {
                if level >= NODE_LEVEL {
                    completed.push((level, index, hash));
                }
            });
        }
        self.completed(completed);
    }

    fn completed(&mut self, completed: Vec<(u8, u64, Hash)>) {
        self.signed.saw(&self.tree);
        for (level, index, hash) in completed {
            self.derived.nodes += 1;
            let first = merkle::leaves_of(level, index).start;
            match guarded(|| self.snapshot.node(level, index)) {
                Ok(stored) if stored == hash => {}
                Ok(_) => self.find(
                    K::TreeMismatch,
                    first,
                    format!("the Merkle node {index} of level {level} has another hash"),
                ),
                Err(e) => self.find(K::TreeMismatch, first, e.to_string()),
            }
        }
    }

    /// Checks the keys of sealed values.
    fn sealed(&mut self, log: &OpenStore) {
        let check = || super::sealed::check(log.engine(), self.snapshot, &self.sealed, &self.erased);
        match guarded(check) {
            Ok(findings) => self.findings.extend(findings),
            Err(e) => self.find(K::FileDamaged, None, e.to_string()),
        }
    }

    fn state(&mut self) {
        let state = &self.snapshot.state;
        // The state may belong to a commit after the snapshot's size. Then it says nothing about the snapshot's newest
        // entry.
        if state.size == self.snapshot.size {
            if self.last != Some(state.head) && state.size > 0 {
                let detail = format!("the state names {} as the newest entry", state.head);
                self.find(K::HeadMismatch, state.size - 1, detail);
            }
            if state.last_recorded_at != self.last_recorded_at && state.size > 0 {
                self.find(K::StateMismatch, None, "the time of the newest entry is not the one in the state");
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
}

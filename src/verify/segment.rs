//! Reads one segment of the log: its entries, their links, and what the derived tables should say about them.

use super::contents::Contents;
use super::finding::{Finding, FindingKind as K};
use super::terms::{Collected, Terms};
use crate::chain_state::ChainState;
use crate::codec::CodecError;
use crate::json::Canonical;
use crate::merkle;
use crate::retention::SeqSet;
use crate::store::{
    ClusterKey, EntryRecord, Hashes, Kept, NODE_LEVEL, RollupFingerprints, SEGMENT, Seeds, Snapshot, Tally, Zones,
    zones_of,
};
use crate::{Hash, Result, Timestamp, line};
use attestlog_proof::entry::{Body, Content, Facet, Kind, Outcome, Phase, SystemEvent};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The maximum number of entries in a segment. With smaller segments, threads wait less at the end, but each segment
/// has more terms that are new to it.
const PIECE: u64 = SEGMENT as u64;

/// How many entries one of the lowest stored nodes of the tree covers.
const GROUP: u64 = 1 << NODE_LEVEL;

/// An entry that is in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub seq: u64,
    /// The hash of its line; the recorded hash if the line could not be rebuilt.
    pub hash: Hash,
    /// The recorded hash.
    pub recorded: Hash,
}

/// A run of entries that are all in the file and make up one of the lowest stored nodes.
#[derive(Debug)]
pub(super) struct Group {
    pub first: u64,
    /// The hash of the node.
    pub node: Hash,
    /// The recorded hash of the last entry.
    pub recorded: Hash,
}

/// The retention that an entry states.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retained {
    /// The entry's offset in its batch.
    pub span: u32,
    /// The class, as an index into the classes of the segment, and the end in seconds. `None` for system events.
    pub until: Option<(u32, i64)>,
}

/// What the index should say about a segment.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// The values of each facet, indexed by [`Facet::place`].
    pub terms: Vec<Collected>,
    pub retentions: Vec<Retained>,
    pub classes: Vec<String>,
}

/// The result of reading a segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub range: Range<u64>,
    /// The entries in the file, in order, except those in groups.
    pub leaves: Vec<Leaf>,
    pub groups: Vec<Group>,
    /// The first entry's seq and the hash that it names as the entry before it.
    pub first_prev: Option<(u64, Hash)>,
    pub entries: u64,
    pub findings: Vec<Finding>,
    /// What the index should say, if the file's index covers the segment.
    pub indexed: Option<Indexed>,
    pub zones: Zones,
    /// The sums of the calls of each tool on each day.
    pub calls: RollupFingerprints,
    pub begun: Vec<u64>,
    pub finished: Vec<u64>,
    pub senders: HashMap<String, BTreeMap<u64, u64>>,
    /// `index_batch` entries: first, end, rows root, column root, seq of the entry.
    pub batches: Vec<(u64, u64, Hash, Hash, u64)>,
    pub last_recorded_at: i64,
    /// The system events that the chain state and other checks need, with their recording times.
    pub own: Vec<(u64, Timestamp, SystemEvent)>,
    /// Calls under emergency grants, without the second entries of calls in two steps: seq, grant, user.
    pub uses: Vec<(u64, u64, String)>,
    /// The nodes that purges kept for entries they removed, in order.
    pub covers: Vec<Kept>,
    /// The ids of the keys that sealed values need, with the first seq that needs each.
    pub sealed: BTreeMap<String, u64>,
    /// Ids of the keys that erasures destroyed, with the seq of the erasure.
    pub erased: BTreeMap<String, u64>,
}

/// Inputs shared by all verification workers.
pub(super) struct VerifyInputs<'a> {
    pub snapshot: &'a Snapshot,
    /// All purged entries.
    pub purged: &'a SeqSet,
    /// What each purge took, by the seq of its entry.
    pub purges: &'a BTreeMap<u64, SeqSet>,
    pub hashes: &'a Hashes,
    /// All sizes whose roots are needed, ascending.
    pub sizes: &'a [u64],
}

/// The location of a segment.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub range: Range<u64>,
    /// The range of the log that the segment is part of.
    pub stretch: Range<u64>,
    /// Whether the file's index covers that range as one batch.
    pub indexed: bool,
}

impl Span {
    /// Divides a range into segments. Inner boundaries are multiples of `PIECE`, so no group spans two segments.
    pub(super) fn within(stretch: &Range<u64>, indexed: bool) -> impl Iterator<Item = Span> {
        let stretch = stretch.clone();
        let (first, end) = (stretch.start / PIECE, stretch.end.div_ceil(PIECE));
        (first..end).map(move |i| {
            let range = stretch.start.max(i * PIECE)..stretch.end.min((i + 1) * PIECE);
            Span { range, stretch: stretch.clone(), indexed }
        })
    }
}

/// Reads one segment.
struct Reader<'a> {
    inputs: &'a VerifyInputs<'a>,
    /// The first seq of the range that the segment is part of.
    start: u64,
    out: Segment,
    /// The line of the current entry, and of the one before it: two lines are hashed together.
    text: Vec<u8>,
    waiting: Vec<u8>,
    /// The index in `leaves` of the entry whose line waits to be hashed.
    unhashed: Option<usize>,
    /// The terms of each facet, indexed by [`Facet::place`].
    index: Vec<Terms>,
    retentions: Vec<Retained>,
    classes: Vec<String>,
    tally: Tally,
    /// The timestamp of each entry that could be read.
    times: Vec<(u64, i64)>,
    /// The last entry that was read, and its recorded hash.
    before: Option<(u64, Hash)>,
    /// How many of the segment's covers come before the current entry.
    cover: usize,
    /// The segment of the last entry that was reported for its nonce.
    strange: Option<u64>,
}

/// Reads the entries of a segment.
pub(super) fn read(inputs: &VerifyInputs<'_>, span: &Span) -> Result<Segment> {
    let range = span.range.clone();
    let room = (range.end - range.start) as usize;
    let mut reader = Reader {
        inputs,
        start: span.stretch.start,
        out: Segment {
            range: range.clone(),
            leaves: Vec::with_capacity(room),
            last_recorded_at: i64::MIN,
            covers: inputs.snapshot.covers_within(&range)?,
            ..Segment::default()
        },
        text: Vec::with_capacity(4096),
        waiting: Vec::with_capacity(4096),
        unhashed: None,
        index: Facet::ALL.iter().map(|_| Terms::new(room)).collect(),
        retentions: Vec::with_capacity(room),
        classes: Vec::new(),
        tally: Tally::new(inputs.hashes.fork()),
        times: Vec::with_capacity(room),
        before: None,
        cover: 0,
        strange: None,
    };
    reader.entries(&range)?;
    reader.hash_waiting();
    reader.group();
    let Reader { mut out, index, retentions, classes, tally, times, .. } = reader;
    if span.indexed {
        out.zones = zones_of(times.into_iter());
        let tools = &index[Facet::Tool.place()];
        out.calls = tally.finish(|tool| tools.name(tool));
        let terms = index.into_iter().map(Terms::collected).collect();
        out.indexed = Some(Indexed { terms, retentions, classes });
    }
    Ok(out)
}

impl Reader<'_> {
    fn entries(&mut self, range: &Range<u64>) -> Result<()> {
        let (snapshot, cuts) = (self.inputs.snapshot, self.inputs.snapshot.cuts());
        let sealed = snapshot.state.sealed;
        let mut at = range.start;
        while at < range.end.min(sealed) {
            let segment = cuts.segment(at);
            let end = segment.end.min(range.end).min(sealed);
            let contents = Contents::read(snapshot, &segment, &mut self.out.findings)?;
            self.segment(&contents, at..end)?;
            at = end;
        }
        self.tail(range.start.max(sealed)..range.end)
    }

    /// The entries of this range, which is of one segment.
    fn segment(&mut self, contents: &Contents, range: Range<u64>) -> Result<()> {
        let (cuts, sealed) = (self.inputs.snapshot.cuts(), self.inputs.snapshot.state.sealed);
        let first = cuts.leaf_row(range.start).start;
        let mut leaves: Vec<(u64, Hash, Option<Hash>)> = Vec::new();
        let findings = &mut self.out.findings;
        self.inputs.snapshot.scan_leaves(first..range.end, &mut |key, row| {
            let mut find = |detail: String| findings.push(Finding::new(K::BlockDamaged, key, detail));
            let row = match row {
                Ok(row) => row,
                Err(e) => {
                    find(format!("the row of hashes that begins here: {e}"));
                    return Ok(());
                }
            };
            let seqs = cuts.leaf_row(key);
            if key != seqs.start || row.entries().any(|(seq, ..)| !seqs.contains(&seq) || seq >= sealed) {
                find("a row of hashes is where it should not be, or has hashes of other entries".to_owned());
                return Ok(());
            }
            leaves.extend(row.entries().filter(|(seq, ..)| range.contains(seq)));
            Ok(())
        })?;
        let mut leaves = leaves.into_iter().peekable();
        let mut seeds = contents.seeds.clone();
        // Users and conversations by number: most entries have those of entries before them.
        let (mut names, mut keys, found) = (Terms::new(0), Vec::new(), self.out.findings.len());
        for seq in range {
            let leaf = leaves.next_if(|(there, ..)| *there == seq);
            let offset = cuts.offset(seq);
            match (leaf, contents.place(offset)) {
                (None, None) => {}
                (Some((_, hash, _)), None) => {
                    self.before = Some((seq, hash));
                    self.out.leaves.push(Leaf { seq, hash, recorded: hash });
                    self.find(K::EntryMissing, seq, "its content is in no block");
                }
                // If it was not purged, that it is missing is reported where its hash should be in the tree.
                (None, Some(_)) if self.inputs.purged.contains(seq) => {
                    self.find(K::EntryUnexpected, seq, "its content is present although it was purged");
                }
                (None, Some(_)) => self.find(K::EntryDamaged, seq, "its hash is missing"),
                (Some((_, hash, prev)), Some((block, place))) => match block.part(place, seeds.next_nonce(offset)) {
                    Ok(part) => {
                        if block.own_nonce(place).is_some() {
                            self.strange_nonce(seq);
                        }
                        let prev = prev.or_else(|| self.kept(seq));
                        if let Some(body) = self.entry(seq, prev, hash, &part) {
                            let key = ClusterKey::of(seq, Some(&body.content));
                            keys.push((offset, names.number(key.user), names.number(key.conversation)));
                        }
                    }
                    Err(e) => self.unreadable(seq, hash, &e),
                },
            }
        }
        // What was changed is reported already, and would belong elsewhere.
        self.hash_waiting();
        let seq = |offset: u32| cuts.start(first) + u64::from(offset);
        let keys = keys.into_iter().map(|(offset, user, conversation)| {
            let (user, conversation) = (names.name(user), names.name(conversation));
            (offset, ClusterKey { user, conversation, seq: seq(offset) })
        });
        if self.out.findings.len() == found
            && let Some(seq) = contents.misplaced(keys)
        {
            self.find(K::BlockDamaged, seq, "its content does not lie where its user and conversation say");
        }
        Ok(())
    }

    /// The entries of this range, which are in the tail.
    fn tail(&mut self, range: Range<u64>) -> Result<()> {
        let snapshot = self.inputs.snapshot;
        if range.is_empty() {
            return Ok(());
        }
        let (cuts, mut seeds): (_, Option<(u64, Seeds)>) = (snapshot.cuts(), None);
        let mut at = snapshot.state.sealed;
        snapshot.scan_tail(range.start, range.end, &mut |first, row| {
            let row = match row {
                Ok(row) => row,
                Err(e) => {
                    self.find(K::EntryDamaged, first, format!("the row of the tail that begins here: {e}"));
                    return Ok(());
                }
            };
            let end = first.saturating_add(row.count());
            // Whoever looks for an entry takes the last row that begins at or before it.
            if range.contains(&first) && (first < at || end > cuts.segment(first).end) {
                self.find(K::EntryUnexpected, first.max(at), "stands in a row of the tail where it should not");
            }
            for (seq, entry) in (first..).zip(row.entries()) {
                if !range.contains(&seq) || seq < at {
                    continue;
                }
                let part = match entry.part() {
                    Ok(part) => part,
                    Err(e) => {
                        self.unreadable(seq, entry.hash, &e);
                        continue;
                    }
                };
                let _ = self.entry(seq, Some(entry.prev), entry.hash, &part);
                let start = cuts.start(seq);
                let (_, seeds) = match &mut seeds {
                    Some(known) if known.0 == start => known,
                    // What cannot be read is reported with all rows of seeds.
                    other => other.insert((start, snapshot.seeds(start).unwrap_or_default())),
                };
                if seeds.next_nonce(cuts.offset(seq)) != Some(part.head.nonce) {
                    self.strange_nonce(seq);
                }
            }
            at = at.max(end);
            Ok(())
        })
    }

    fn find(&mut self, kind: K, seq: impl Into<Option<u64>>, detail: impl Into<String>) {
        self.out.findings.push(Finding::new(kind, seq, detail));
    }

    /// Reports the first entry of a segment whose nonce is not the one that follows from the segment's seeds: one of the two was
    /// changed.
    fn strange_nonce(&mut self, seq: u64) {
        let start = self.inputs.snapshot.cuts().start(seq);
        if self.strange != Some(start) {
            self.strange = Some(start);
            self.find(K::BlockDamaged, seq, "its nonce does not follow from the seeds of its segment");
        }
    }

    /// Adds an entry that is in the file but does not decode.
    fn unreadable(&mut self, seq: u64, recorded: Hash, e: &CodecError) {
        self.out.entries += 1;
        self.before = Some((seq, recorded));
        self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
        self.find(K::EntryDamaged, seq, e.to_string());
    }

    /// Takes an entry; returns its body if it can be read.
    fn entry<'p>(
        &mut self,
        seq: u64,
        prev: Option<Hash>,
        recorded: Hash,
        part: &'p EntryRecord<'_>,
    ) -> Option<Body<&'p str>> {
        let body: Body<&str> = match part.body() {
            Ok(body) => body,
            Err(e) => {
                self.unreadable(seq, recorded, &e);
                return None;
            }
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
            self.find(K::EntryDamaged, seq, "the hash before it is left to what a purge kept, which has none");
            self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
            self.facts(seq, &body);
            return Some(body);
        };
        self.text.clear();
        line::write(&mut self.text, seq, &prev, &body);
        // The recorded hash of the entry before is compared, not the computed one, so that one edited entry is one
        // finding.
        let expected = match before {
            Some((before, expected)) if before + 1 == seq => Some(expected),
            _ if seq == self.out.range.start => {
                self.out.first_prev = Some((seq, prev));
                None
            }
            // A purge may have removed the entry before.
            _ => self.kept(seq),
        };
        if let Some(expected) = expected.filter(|expected| *expected != prev) {
            self.find(K::ChainBroken, seq, format!("it names {prev} as the entry before it, which is {expected}"));
        }
        self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
        self.hash(self.out.leaves.len() - 1);
        self.facts(seq, &body);
        Some(body)
    }

    /// Hashes the line that was just written, of the entry at this index in `leaves`, together with the line that
    /// waits. If none waits, this one waits for the next.
    fn hash(&mut self, span: usize) {
        match self.unhashed.take() {
            Some(waiting) => {
                let [first, second] = Hash::leaves(&self.waiting, &self.text);
                self.hashed(waiting, first);
                self.hashed(span, second);
            }
            None => {
                self.unhashed = Some(span);
                std::mem::swap(&mut self.waiting, &mut self.text);
            }
        }
    }

    fn hash_waiting(&mut self) {
        if let Some(waiting) = self.unhashed.take() {
            self.hashed(waiting, Hash::leaf(&self.waiting));
        }
    }

    fn hashed(&mut self, span: usize, hash: Hash) {
        let leaf = &mut self.out.leaves[span];
        leaf.hash = hash;
        if hash != leaf.recorded {
            let (seq, recorded) = (leaf.seq, leaf.recorded);
            self.find(K::EntryChanged, seq, format!("its line hashes to {hash}, {recorded} was recorded"));
        }
    }

    /// Replaces runs of leaves by groups where they make up a complete node and no root is needed inside it.
    fn group(&mut self) {
        let leaves = std::mem::take(&mut self.out.leaves);
        let sizes = self.inputs.sizes;
        let (mut at, mut left) = (0, Vec::new());
        while let Some(leaf) = leaves.get(at) {
            let (first, last) = (leaf.seq, leaf.seq | (GROUP - 1));
            let all = leaves.get(at..at + GROUP as usize).filter(|all| {
                // All entries are there if there are as many as fit between the first and the last.
                first.is_multiple_of(GROUP) && all.last().is_some_and(|leaf| leaf.seq == last)
            });
            let inside = sizes.get(sizes.partition_point(|&size| size <= first)).is_some_and(|&size| size <= last);
            let group = all.filter(|_| !inside && !self.inputs.purged.intersects(first, last)).and_then(|all| {
                let node = merkle::root_over(all.iter().map(|leaf| leaf.hash).collect());
                Some(Group { first, node, recorded: all.last()?.recorded })
            });
            match group {
                Some(group) => {
                    self.out.groups.push(group);
                    at += GROUP as usize;
                }
                None => {
                    left.push(*leaf);
                    at += 1;
                }
            }
        }
        self.out.leaves = left;
    }

    /// The hash of the entry before this one, which was purged, if it was kept.
    fn kept(&mut self, seq: u64) -> Option<Hash> {
        let before = seq.checked_sub(1)?;
        if before < self.out.range.start {
            return self.inputs.snapshot.hash_before(seq).ok();
        }
        let covers = &self.out.covers;
        while covers.get(self.cover).is_some_and(|kept| kept.first < before) {
            self.cover += 1;
        }
        covers.get(self.cover).filter(|kept| (kept.first, kept.level) == (before, 0)).map(|kept| kept.hash)
    }

    /// Adds what the derived tables should say about the entry.
    fn facts(&mut self, seq: u64, body: &Body<&str>) {
        if let Content::System(own) = &body.content
            && (ChainState::wants(own.kind) || matches!(own.kind, Kind::Clock | Kind::BreakGlassReviewed))
        {
            self.out.own.push((seq, body.recorded_at, own.to_owned()));
        }
        let span = (seq - self.start) as u32;
        self.times.push((seq, body.timestamp().nanos()));
        let classes = &mut self.classes;
        let retention = body.retention.as_ref().map(|r| {
            let known = classes.iter().position(|class| *class == r.class);
            let class = known.unwrap_or_else(|| {
                classes.push(r.class.to_owned());
                classes.len() - 1
            });
            (class as u32, r.until.nanos().div_euclid(1_000_000_000))
        });
        self.retentions.push(Retained { span, until: retention });
        self.out.last_recorded_at = self.out.last_recorded_at.max(body.recorded_at.nanos());
        let index = &mut self.index;
        let (mut tool, mut user) = (0, 0);
        body.facets(&mut |field, value| {
            let id = index[field.place()].add(value, span);
            match field {
                Facet::Tool => tool = id,
                Facet::User => user = id,
                _ => {}
            }
        });
        match &body.content {
            Content::Call(call) => {
                if let Some(grant) = call.grant
                    && !matches!(call.phase, Phase::Finished(_))
                {
                    self.out.uses.push((seq, grant, call.user_id.to_owned()));
                }
                for id in call.sealed_under() {
                    self.out.sealed.entry(id).or_insert(seq);
                }
                match call.phase {
                    Phase::Whole | Phase::Detail(_) => {}
                    Phase::Begun => self.out.begun.push(seq),
                    Phase::Finished(begun) => self.out.finished.push(begun),
                }
                if let Some(sender) = &call.sender {
                    self.out.senders.entry(sender.id.to_owned()).or_default().insert(sender.number, seq);
                }
                if call.is_counted() {
                    let success = call.completion.as_ref().is_some_and(|c| c.outcome == Outcome::Ok);
                    let day = call.timestamp.day();
                    self.tally.add(tool, (user, call.user_id), day, success, call.duration_nanos());
                }
            }
            Content::System(own) if own.kind == Kind::IndexBatch => {
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
            Content::System(own) if own.kind == Kind::Erasure => {
                let erased = &mut self.out.erased;
                crate::entry::destroyed(&own.detail.to_json()).for_each(|id| _ = erased.entry(id).or_insert(seq));
            }
            Content::System(_) => {}
        }
    }
}

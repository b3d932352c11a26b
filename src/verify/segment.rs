//! One segment of the log: its entries, their links, and what the derived tables should say of them.

use super::finding::{Finding, FindingKind as K};
use super::terms::{Collected, Terms};
use crate::chain_state::ChainState;
use crate::codec::CodecError;
use crate::json::Canonical;
use crate::merkle;
use crate::retention::SeqSet;
use crate::store::{EntryRecord, Hashes, Kept, NODE_LEVEL, RollupFingerprints, Snapshot, Tally, Zones, zones_of};
use crate::{Hash, Result, Timestamp, line};
use attestlog_proof::entry::{Body, Content, Facet, Kind, Outcome, Phase, SystemEvent};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// How many entries a segment has, at most. Smaller ones leave the threads less to wait for at the end, and have more terms
/// that are new to them.
const PIECE: u64 = 8_192;

/// How many entries the lowest stored node of the tree covers.
const GROUP: u64 = 1 << NODE_LEVEL;

/// An entry that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub seq: u64,
    /// The hash of its line, or, where that could not be made, as it was recorded.
    pub hash: Hash,
    /// The hash as it was recorded.
    pub recorded: Hash,
}

/// Entries that are all there and make up one of the lowest stored nodes.
#[derive(Debug)]
pub(super) struct Group {
    pub first: u64,
    /// The node over their hashes.
    pub node: Hash,
    /// The hash of the last as it was recorded.
    pub recorded: Hash,
}

/// What an entry says of its retention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retained {
    /// The entry's span in its batch.
    pub span: u32,
    /// The class, by its span among those of the segment, and the end in seconds; nothing for system events.
    pub until: Option<(u32, i64)>,
}

/// What the index should say of a segment.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// What each facet's values are, by its span among all.
    pub terms: Vec<Collected>,
    pub retentions: Vec<Retained>,
    pub classes: Vec<String>,
}

/// What a segment of the log turned out to be.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub range: Range<u64>,
    /// The entries that are there, in order, but for those in groups.
    pub leaves: Vec<Leaf>,
    pub groups: Vec<Group>,
    /// What the first entry says of the one before it.
    pub first_prev: Option<(u64, Hash)>,
    pub entries: u64,
    pub findings: Vec<Finding>,
    /// Where the file's index covers the segment: what it should say.
    pub indexed: Option<Indexed>,
    pub zones: Zones,
    /// For each tool and day, what its calls add up to.
    pub calls: RollupFingerprints,
    pub begun: Vec<u64>,
    pub finished: Vec<u64>,
    pub senders: HashMap<String, BTreeMap<u64, u64>>,
    /// `index_batch` entries: first, end, rows root, column root, seq of the entry.
    pub batches: Vec<(u64, u64, Hash, Hash, u64)>,
    pub last_recorded_at: i64,
    /// The store's own entries that establish facts, with the time of recording.
    pub own: Vec<(u64, Timestamp, SystemEvent)>,
    /// Calls under emergency grants, but for the ends of calls: seq, grant, user.
    pub uses: Vec<(u64, u64, String)>,
    /// What purges kept of entries that are gone, in order.
    pub covers: Vec<Kept>,
    /// Ids of the keys that sealed values need, with the first seq of each.
    pub sealed: BTreeMap<String, u64>,
    /// Ids of the keys that erasures destroyed, with the seq of the erasure.
    pub erased: BTreeMap<String, u64>,
}

/// What everything is read by.
pub(super) struct VerifyInputs<'a> {
    pub snapshot: &'a Snapshot,
    /// All that is gone.
    pub purged: &'a SeqSet,
    /// What each purge took, by the seq of its entry.
    pub purges: &'a BTreeMap<u64, SeqSet>,
    pub hashes: &'a Hashes,
    /// Every size whose root somebody will ask for, rising.
    pub sizes: &'a [u64],
}

/// Where a segment lies.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub range: Range<u64>,
    /// The stretch that it is a segment of.
    pub stretch: Range<u64>,
    /// Whether the file's index covers that, as one batch.
    pub indexed: bool,
}

impl Span {
    /// The segments of a stretch. They meet where groups do.
    pub(super) fn within(stretch: &Range<u64>, indexed: bool) -> impl Iterator<Item = Span> {
        let stretch = stretch.clone();
        let (first, end) = (stretch.start / PIECE, stretch.end.div_ceil(PIECE));
        (first..end).map(move |i| {
            let range = stretch.start.max(i * PIECE)..stretch.end.min((i + 1) * PIECE);
            Span { range, stretch: stretch.clone(), indexed }
        })
    }
}

/// The reader of one segment.
struct Reader<'a> {
    inputs: &'a VerifyInputs<'a>,
    /// Where its stretch begins.
    start: u64,
    out: Segment,
    /// The line of the entry that is read, and of the one before it, which is hashed together with it.
    text: Vec<u8>,
    waiting: Vec<u8>,
    /// Where among the leaves the entry is whose line waits.
    unhashed: Option<usize>,
    /// By the place of the facet among all.
    index: Vec<Terms>,
    retentions: Vec<Retained>,
    classes: Vec<String>,
    tally: Tally,
    /// The time of each entry that could be read.
    times: Vec<(u64, i64)>,
    /// The last entry that was read, and its hash.
    before: Option<(u64, Hash)>,
    /// How many of the segment's covers lie before what is read.
    cover: usize,
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
        let mut at = range.start;
        // The least seq at or beyond the end that a block has. No other block may begin before it.
        let mut beyond: Option<u64> = None;
        let snapshot = self.inputs.snapshot;
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
            if range.contains(&scanned.key) && !block.is_whole() {
                self.find(K::BlockDamaged, scanned.key, "its columns do not end with its last entry");
            }
            self.misplaced(&mut beyond, scanned.key);
            for ((seq, i, prev), part) in block.entries().zip(block.parts()) {
                if !range.contains(&seq) {
                    beyond = beyond.or(Some(seq).filter(|seq| *seq >= range.end));
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
        if beyond.is_some()
            && let Some(next) = snapshot.next_block(range.end)?
        {
            self.misplaced(&mut beyond, next);
        }
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

    /// Says where a block begins; an entry that one before it has and that does not come before is read by nobody.
    fn misplaced(&mut self, beyond: &mut Option<u64>, key: u64) {
        if let Some(seq) = beyond.take_if(|seq| key <= *seq) {
            self.find(K::EntryUnexpected, seq, "stands in a block where it should not");
        }
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

    fn entry(&mut self, seq: u64, prev: Option<Hash>, recorded: Hash, part: &EntryRecord<'_>) {
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
        self.out.leaves.push(Leaf { seq, hash: recorded, recorded });
        self.hash(self.out.leaves.len() - 1);
        self.facts(seq, &body);
    }

    /// Hashes the line of the entry at this span among the leaves, which was just written, with that of one before it; or lets
    /// it wait for the next.
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

    /// Makes groups of the leaves that make up one whole and inside of which nobody asks for a root.
    fn group(&mut self) {
        let leaves = std::mem::take(&mut self.out.leaves);
        let sizes = self.inputs.sizes;
        let (mut at, mut left) = (0, Vec::new());
        while let Some(leaf) = leaves.get(at) {
            let (first, last) = (leaf.seq, leaf.seq | (GROUP - 1));
            let all = leaves.get(at..at + GROUP as usize).filter(|all| {
                // As many as there can be between the first and the last are all.
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

    /// The hash of the entry before this one, which is gone, where it was kept.
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

    /// What the entry should look like in the derived tables.
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
                super::sealed::destroyed(&own.detail.to_json()).for_each(|id| _ = erased.entry(id).or_insert(seq));
            }
            Content::System(_) => {}
        }
    }
}

//! Blocks: sealed runs of entries, with their hashes stored together and their contents compressed.
//!
//! Invariant B1: a block holds the hash of every entry in it and, for the first entry of each run of consecutive seqs, the
//! previous hash, unless that is the hash of a purged entry that `covers` keeps anyway. So every entry's line can be rebuilt
//! from the block and at most one of these hashes, and blocks can be verified in any order. Invariant B2: a block is cut
//! before its value would need the next power-of-two count of pages, because redb gives large values 2^k pages of 4 KiB. A
//! single entry may be larger than that. Invariant B4: where nonces are derived from a seed, the seed serves the entries of
//! this block only; a purge that removes one of them leaves no seed behind.
//!
//! What follows from an entry's position (nonce, time of recording, retention) is stored in columns, which take almost no
//! space where entries are alike. Contents are compressed so that reading one entry decompresses only that entry.

use crate::codec::{self, CodecError};
use crate::rows::{read_varint, unzigzag, varint_len, write_varint, zigzag};
use crate::store::layout::entry_record::{self, EntryRecord, TailRow};
use crate::store::layout::stored_entry::{Head, StoredRetention};
use crate::store::layout::text_compression::{self, Packer};
use crate::{Hash, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Maximum size of a block's value: two redb pages, less the 16 bytes that redb adds around a value that fills its leaf page
/// alone (measured: 8,176 still fit two pages, 8,180 take four).
pub(crate) const BLOCK_BYTES: usize = 8_172;

/// Upper bound of the block's own fields: format, first seq, the seeded flag, and the lengths of ten byte strings.
const FIXED_BYTES: usize = 1 + 9 + 1 + 10 * 3;
/// Upper bound of a retention's size besides the name of its class.
const RETENTION_BYTES: usize = 3 + 10;
/// Maximum number of retentions in a block's table: an entry refers to one by a byte, where zero means none.
const RETENTIONS: usize = 255;

const SECOND: i64 = 1_000_000_000;

/// Consecutive entries of a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Seq of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// How many entries of the block come before it.
    pub before: usize,
    /// The hash of the entry before the first; `None` where it is among the hashes kept for purged entries.
    pub prev: Option<Hash>,
}

impl Run {
    /// The seq after its last.
    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// A block as it is stored. The fields needed to read any entry come first.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    first: u64,
    /// For each run two varints: how many seqs are skipped before it (zero for the first), then twice its number of entries,
    /// plus one if the previous hash is in `prevs`.
    #[serde(borrow, with = "bytes")]
    runs: Cow<'a, [u8]>,
    /// 32 bytes each.
    #[serde(borrow, with = "bytes")]
    prevs: Cow<'a, [u8]>,
    /// Whether `nonces` is a single seed.
    seeded: bool,
    /// The 16-byte seed of all nonces, or 16 bytes per entry.
    #[serde(borrow, with = "bytes")]
    nonces: Cow<'a, [u8]>,
    /// For each stretch of entries recorded at the same time two varints: how many nanoseconds after the previous stretch
    /// (zigzag; the first is absolute), and how many entries.
    #[serde(borrow, with = "bytes")]
    times: Cow<'a, [u8]>,
    /// The distinct retentions of the entries, in order of first use. Each is a varint with the length of its class name, the
    /// name, and a varint (zigzag) with the nanoseconds from the whole second in which the entry was recorded to the end of
    /// retention.
    #[serde(borrow, with = "bytes")]
    retentions: Cow<'a, [u8]>,
    /// One byte per entry: zero for no retention, otherwise its index in `retentions` plus one.
    #[serde(borrow, with = "bytes")]
    kept: Cow<'a, [u8]>,
    /// The length of each compressed content, as varints.
    #[serde(borrow, with = "bytes")]
    lengths: Cow<'a, [u8]>,
    /// The dictionary that the compressed contents refer to.
    #[serde(borrow, with = "bytes")]
    dictionary: Cow<'a, [u8]>,
    /// 32 bytes per entry.
    #[serde(borrow, with = "bytes")]
    hashes: Cow<'a, [u8]>,
    #[serde(borrow, with = "bytes")]
    data: Cow<'a, [u8]>,
}

/// A decoded block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    runs: Vec<Run>,
    hashes: Cow<'a, [u8]>,
    seeded: bool,
    nonces: Cow<'a, [u8]>,
    times: Cow<'a, [u8]>,
    retentions: Cow<'a, [u8]>,
    kept: Cow<'a, [u8]>,
    dictionary: Cow<'a, [u8]>,
    lengths: Cow<'a, [u8]>,
    data: Cow<'a, [u8]>,
}

/// Serializes byte strings as one piece, not element by element.
mod bytes {
    use serde::{Deserializer, Serializer};
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'de, [u8]>, D::Error> {
        <&[u8] as serde::Deserialize>::deserialize(from).map(Cow::Borrowed)
    }
}

/// A block being filled.
///
/// An entry is added in two steps, because its hash depends on its nonce, and the nonce on the block that it goes into:
/// [`Sealer::room`] compresses it and says whether the block has room, [`Sealer::add`] adds the compressed content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sealer {
    first: u64,
    /// The current run: the seq from which skipped seqs are counted, its first seq, its number of entries, and whether the
    /// previous hash is in `prevs`.
    run: Option<(u64, u64, u32, bool)>,
    /// The encoded runs before the current one.
    runs: Vec<u8>,
    prevs: Vec<u8>,
    hashes: Vec<u8>,
    /// The seed that nonces are derived from; `None` where each nonce is stored.
    seed: Option<[u8; 16]>,
    nonces: Vec<u8>,
    /// The completed stretches of equal recording time, encoded.
    times: Vec<u8>,
    /// The time of the last completed stretch, the time of the current one, and its number of entries.
    time: (i64, i64, u64),
    retentions: Vec<(String, i64)>,
    kept: Vec<u8>,
    /// Holds the block's dictionary.
    packer: Packer,
    lengths: Vec<u8>,
    data: Vec<u8>,
    /// The compressed content from the last call of [`Sealer::room`].
    packed: Vec<u8>,
}

impl Sealer {
    /// Whether the block holds no entries.
    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_none()
    }

    /// Whether nonces are derived from a seed.
    pub(crate) fn is_seeded(&self) -> bool {
        self.seed.is_some()
    }

    /// Sets the seed for the nonces of the block that begins.
    pub(crate) fn begin(&mut self, seed: [u8; 16]) {
        self.seed = Some(seed);
    }

    /// Compresses the content of the entry at `seq`; returns whether the block has room for the entry. An empty block always
    /// has.
    pub(crate) fn room(
        &mut self,
        seq: u64,
        content: &[u8],
        recorded_at: Timestamp,
        kept: Option<(&str, Timestamp)>,
    ) -> bool {
        self.packed.clear();
        self.packer.pack(content, &mut self.packed);
        let Some((_, first, count, _)) = self.run else { return true };
        let nonce = if self.seed.is_some() { 0 } else { 16 };
        let mut more = 32 + nonce + 1 + varint_len(self.packed.len() as u64) + self.packed.len();
        if first + u64::from(count) != seq {
            more += varint_len(seq) + 1 + 32;
        }
        let (nanos, (_, time, _)) = (recorded_at.nanos(), self.time);
        if time != nanos {
            more += varint_len(zigzag(nanos.wrapping_sub(time))) + 1;
        }
        if let Some((class, until)) = kept
            && self.find_retention(class, until, nanos).is_none()
        {
            more += class.len() + RETENTION_BYTES;
        }
        self.retentions.len() < RETENTIONS && self.len() + more <= BLOCK_BYTES
    }

    /// Adds the entry at `seq` whose content was last passed to [`Sealer::room`]. The previous hash is omitted if it is
    /// `kept` as the hash of a purged entry.
    pub(crate) fn add(&mut self, seq: u64, prev: &Hash, hash: &Hash, head: &Head<'_>, kept: bool) {
        match &mut self.run {
            Some((_, first, count, _)) if *first + u64::from(*count) == seq => *count += 1,
            _ => {
                let end = self.end_run();
                if end.is_none() {
                    self.first = seq;
                }
                self.run = Some((end.unwrap_or(seq), seq, 1, !kept));
                if !kept {
                    self.prevs.extend_from_slice(prev.as_bytes());
                }
            }
        }
        self.hashes.extend_from_slice(hash.as_bytes());
        self.nonces.extend_from_slice(&head.nonce);
        let recorded_at = head.recorded_at.nanos();
        if self.time.2 > 0 && self.time.1 != recorded_at {
            self.end_time();
        }
        self.time = (self.time.0, recorded_at, self.time.2 + 1);
        let retention = head.retention.as_ref().map(|retention| self.retention(retention, recorded_at) + 1);
        // `room` guarantees that the index fits; otherwise the block would have been finished.
        self.kept.push(retention.and_then(|retention| u8::try_from(retention).ok()).unwrap_or_default());
        self.packer.keep();
        write_varint(self.packed.len() as u64, &mut self.lengths);
        self.data.extend_from_slice(&self.packed);
    }

    /// Adds an entry with a nonce of its own; returns the block before it if the entry begins a new one.
    pub(crate) fn push(
        &mut self,
        seq: u64,
        prev: &Hash,
        hash: &Hash,
        part: &EntryRecord<'_>,
        kept: bool,
    ) -> Result<Option<(u64, Vec<u8>)>> {
        let mut full = None;
        let Head { recorded_at, retention, .. } = &part.head;
        let retention = retention.as_ref().map(|r| (r.class, r.until));
        if !self.room(seq, &part.content, *recorded_at, retention) {
            full = self.finish()?;
            self.room(seq, &part.content, *recorded_at, retention);
        }
        self.add(seq, prev, hash, &part.head, kept);
        Ok(full)
    }

    /// Adds an entry from the tail, to rebuild this block after the in-memory state was lost.
    pub(crate) fn again(&mut self, seq: u64, entry: &TailRow) -> Result<()> {
        let part = entry.part()?;
        // An entry that was changed in the file keeps its stored nonce, so that verification finds the change.
        self.seed = self.seed.filter(|seed| entry_record::nonce_of(seed, seq) == part.head.nonce);
        let retention = part.head.retention.as_ref().map(|r| (r.class, r.until));
        self.room(seq, &part.content, part.head.recorded_at, retention);
        self.add(seq, &entry.prev, &entry.hash, &part.head, false);
        Ok(())
    }

    /// The finished block and its first seq, if it holds anything. Afterwards the sealer is empty and has no seed.
    pub(crate) fn finish(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let seed = self.seed.take();
        if self.end_run().is_none() {
            return Ok(None);
        }
        self.end_time();
        let mut retentions = Vec::new();
        for (class, later) in &self.retentions {
            write_varint(class.len() as u64, &mut retentions);
            retentions.extend_from_slice(class.as_bytes());
            write_varint(zigzag(*later), &mut retentions);
        }
        let block = Stored {
            first: self.first,
            runs: self.runs[..].into(),
            prevs: self.prevs[..].into(),
            hashes: self.hashes[..].into(),
            seeded: seed.is_some(),
            nonces: seed.as_ref().map_or(&self.nonces[..], |seed| seed).into(),
            times: self.times[..].into(),
            retentions: retentions.into(),
            kept: self.kept[..].into(),
            dictionary: self.packer.dictionary().into(),
            lengths: self.lengths[..].into(),
            data: self.data[..].into(),
        };
        let mut bytes = Vec::with_capacity(self.len());
        codec::encode_into(&block, &mut bytes)?;
        // The next block reuses their capacity.
        let parts = [
            &mut self.runs,
            &mut self.prevs,
            &mut self.hashes,
            &mut self.nonces,
            &mut self.times,
            &mut self.kept,
            &mut self.lengths,
            &mut self.data,
        ];
        parts.into_iter().for_each(Vec::clear);
        self.time = (0, 0, 0);
        self.retentions.clear();
        self.packer.clear();
        Ok(Some((self.first, bytes)))
    }

    /// Encodes the current run, and returns the seq after it.
    fn end_run(&mut self) -> Option<u64> {
        let (from, first, count, prev) = self.run.take()?;
        write_varint(first - from, &mut self.runs);
        write_varint(u64::from(count) << 1 | u64::from(prev), &mut self.runs);
        Some(first + u64::from(count))
    }

    /// Encodes the current stretch of equal recording time.
    fn end_time(&mut self) {
        let (before, now, count) = self.time;
        write_varint(zigzag(now.wrapping_sub(before)), &mut self.times);
        write_varint(count, &mut self.times);
        self.time = (now, now, 0);
    }

    /// The index of the retention of an entry recorded at that time, if the table has it.
    fn find_retention(&self, class: &str, until: Timestamp, recorded_at: i64) -> Option<usize> {
        let later = later(until, recorded_at);
        self.retentions.iter().position(|(c, l)| *l == later && c == class)
    }

    /// The index of the retention, which is added if it is new.
    fn retention(&mut self, retention: &StoredRetention<'_>, recorded_at: i64) -> usize {
        let known = self.find_retention(retention.class, retention.until, recorded_at);
        known.unwrap_or_else(|| {
            self.retentions.push((retention.class.to_owned(), later(retention.until, recorded_at)));
            self.retentions.len() - 1
        })
    }

    /// Upper bound of the encoded length, including the current run.
    fn len(&self) -> usize {
        let nonces = if self.seed.is_some() { 16 } else { self.nonces.len() };
        let parts = [&self.runs, &self.prevs, &self.hashes, &self.times, &self.kept, &self.lengths, &self.data];
        let parts = parts.into_iter().map(Vec::len).sum::<usize>();
        let retentions = self.retentions.iter().map(|(class, _)| class.len() + RETENTION_BYTES).sum::<usize>();
        // The next entry may lengthen a count by one byte.
        let run = self
            .run
            .map_or(0, |(from, first, count, _)| varint_len(first - from) + varint_len(u64::from(count) << 1) + 1);
        let (before, now, count) = self.time;
        let time = varint_len(zigzag(now.wrapping_sub(before))) + varint_len(count) + 1;
        FIXED_BYTES + run + time + nonces + parts + retentions + self.packer.len()
    }
}

/// The distance from the whole second in which the entry was recorded to the end of its retention.
fn later(until: Timestamp, recorded_at: i64) -> i64 {
    until.nanos().wrapping_sub(second(recorded_at))
}

/// The time rounded down to a whole second, in nanoseconds.
fn second(nanos: i64) -> i64 {
    nanos.div_euclid(SECOND).wrapping_mul(SECOND)
}

/// A cursor over the columns of a block, entry by entry.
#[derive(Debug, Clone)]
struct Walk<'b> {
    lengths: &'b [u8],
    /// Offset of the next compressed content.
    from: usize,
    times: &'b [u8],
    /// The time of the current stretch, and how many of its entries remain.
    time: i64,
    left: u64,
}

impl Walk<'_> {
    /// Skips that many entries.
    fn skip(&mut self, mut entries: usize) -> Option<()> {
        for _ in 0..entries {
            self.from = self.end()?;
        }
        while entries > 0 {
            if self.left == 0 {
                self.stretch()?;
            }
            let passed = self.left.min(entries as u64);
            self.left -= passed;
            entries -= passed as usize;
        }
        Some(())
    }

    /// Where the next compressed content ends. After an impossible length there are no more, whether entries are read or
    /// skipped.
    fn end(&mut self) -> Option<usize> {
        let (length, rest) = read_varint(self.lengths)?;
        let end = usize::try_from(length).ok().and_then(|length| self.from.checked_add(length));
        self.lengths = if end.is_some() { rest } else { &[] };
        end
    }

    /// Moves to the next stretch of equal recording time. After an impossible one there are no more.
    fn stretch(&mut self) -> Option<()> {
        let times = std::mem::take(&mut self.times);
        let (later, rest) = read_varint(times)?;
        let (count, rest) = read_varint(rest).filter(|(count, _)| *count > 0)?;
        self.times = rest;
        self.time = self.time.wrapping_add(unzigzag(later));
        self.left = count;
        Some(())
    }

    /// The bounds of the next entry's compressed content, and when it was recorded.
    fn step(&mut self) -> Option<(usize, usize, i64)> {
        let end = self.end()?;
        let from = std::mem::replace(&mut self.from, end);
        if self.left == 0 {
            self.stretch()?;
        }
        self.left = self.left.checked_sub(1)?;
        Some((from, self.from, self.time))
    }
}

impl<'a> Block<'a> {
    /// Decodes a block, and checks everything that the other methods rely on.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Block<'a>, CodecError> {
        let stored: Stored<'a> = codec::decode(bytes)?;
        let damaged = CodecError::Damaged("a block's parts do not fit together");
        let (runs, count) = read_runs(stored.first, &stored.runs, &stored.prevs).ok_or(damaged.clone())?;
        let nonces = if stored.seeded { 1 } else { count };
        let fits = |bytes: &[u8], each: usize, count: usize| Some(bytes.len()) == count.checked_mul(each);
        if count == 0
            || !fits(&stored.hashes, 32, count)
            || !fits(&stored.nonces, 16, nonces)
            || !fits(&stored.kept, 1, count)
        {
            return Err(damaged);
        }
        Ok(Block {
            runs,
            hashes: stored.hashes,
            seeded: stored.seeded,
            nonces: stored.nonces,
            times: stored.times,
            retentions: stored.retentions,
            kept: stored.kept,
            dictionary: stored.dictionary,
            lengths: stored.lengths,
            data: stored.data,
        })
    }

    /// The same block, owning its bytes.
    pub(crate) fn into_owned(self) -> Block<'static> {
        let owned = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        Block {
            runs: self.runs,
            hashes: owned(self.hashes),
            seeded: self.seeded,
            nonces: owned(self.nonces),
            times: owned(self.times),
            retentions: owned(self.retentions),
            kept: owned(self.kept),
            dictionary: owned(self.dictionary),
            lengths: owned(self.lengths),
            data: owned(self.data),
        }
    }

    /// The runs of consecutive entries.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether `seq` lies between the block's first and last.
    pub(crate) fn spans(&self, seq: u64) -> bool {
        self.runs.first().is_some_and(|r| r.first <= seq) && self.runs.last().is_some_and(|r| seq < r.end())
    }

    /// The index in the block of the entry at `seq`.
    pub(crate) fn find(&self, seq: u64) -> Option<usize> {
        let run = self.runs.get(self.runs.partition_point(|run| run.end() <= seq))?;
        seq.checked_sub(run.first).map(|at| run.before + at as usize)
    }

    /// The seq of every entry of the block, its index, and the previous hash unless that is kept elsewhere.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, usize, Option<Hash>)> + '_ {
        self.runs.iter().flat_map(move |run| {
            (0..run.count as usize).map(move |at| {
                let place = run.before + at;
                let prev = if at == 0 { run.prev } else { Some(self.hash(place - 1)) };
                (run.first + at as u64, place, prev)
            })
        })
    }

    /// All entries, in the order of [`Block::entries`].
    pub(crate) fn parts(&self) -> impl Iterator<Item = Result<EntryRecord<'_>, CodecError>> + '_ {
        let mut walk = self.walk();
        self.entries().map(move |(seq, i, _)| self.read(seq, i, walk.step()))
    }

    /// The entry at index `i`, whose seq is `seq`.
    pub(crate) fn part(&self, seq: u64, i: usize) -> Result<EntryRecord<'_>, CodecError> {
        let mut walk = self.walk();
        let step = walk.skip(i).and_then(|()| walk.step());
        self.read(seq, i, step)
    }

    /// Whether the columns end exactly with the last entry and are in canonical form.
    pub(crate) fn is_whole(&self) -> bool {
        let mut walk = self.walk();
        let mut times = (0i64, true);
        let mut used = 0u8;
        for &kept in self.kept.iter() {
            let begins = walk.left == 0;
            let first = walk.times.len() == self.times.len();
            if walk.step().is_none() {
                return false;
            }
            // Adjacent stretches of the same time must have been one.
            times = (walk.time, times.1 && (!begins || first || times.0 != walk.time));
            // Retentions are stored in the order of their first use.
            if kept > used {
                if kept != used + 1 {
                    return false;
                }
                used = kept;
            }
        }
        let (mut retentions, mut left) = (Vec::new(), &*self.retentions);
        while let Some((class, later, rest)) = read_retention(left) {
            // There must be no unused or repeated retention.
            if retentions.len() >= usize::from(used) || retentions.contains(&(class, later)) {
                return false;
            }
            retentions.push((class, later));
            left = rest;
        }
        let ended = walk.lengths.is_empty() && walk.times.is_empty() && walk.left == 0 && left.is_empty();
        ended && walk.from == self.data.len() && times.1 && usize::from(used) == retentions.len()
    }

    /// The hash of the entry at index `i`.
    pub(crate) fn hash(&self, i: usize) -> Hash {
        let mut hash = Hash::ZERO;
        if let Some(bytes) = self.hashes.get(i * 32..i * 32 + 32) {
            hash.0.copy_from_slice(bytes);
        }
        hash
    }

    /// The hash before the entry at index `i`; `None` where it is kept elsewhere.
    pub(crate) fn prev(&self, i: usize) -> Option<Hash> {
        match self.runs.binary_search_by_key(&i, |run| run.before) {
            Ok(at) => self.runs[at].prev,
            Err(_) => Some(self.hash(i.saturating_sub(1))),
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk { lengths: &self.lengths, from: 0, times: &self.times, time: 0, left: 0 }
    }

    fn read(&self, seq: u64, i: usize, step: Option<(usize, usize, i64)>) -> Result<EntryRecord<'_>, CodecError> {
        let damaged = || CodecError::Damaged("an entry of a block does not unpack");
        let (from, to, recorded_at) = step.ok_or_else(damaged)?;
        let packed = self.data.get(from..to).ok_or_else(damaged)?;
        let content = text_compression::unpack(packed, &self.dictionary, codec::MAX_BYTES).ok_or_else(damaged)?;
        let at = if self.seeded { 0 } else { i * 16 };
        let nonce = self.nonces.get(at..).and_then(|nonces| nonces.first_chunk::<16>()).ok_or_else(damaged)?;
        let nonce = if self.seeded { entry_record::nonce_of(nonce, seq) } else { *nonce };
        let retention = match self.kept.get(i).copied().unwrap_or_default().checked_sub(1) {
            None => None,
            Some(place) => {
                let mut left = &*self.retentions;
                for _ in 0..place {
                    left = read_retention(left).ok_or_else(damaged)?.2;
                }
                let (class, later, _) = read_retention(left).ok_or_else(damaged)?;
                let until = Timestamp::from_nanos(second(recorded_at).wrapping_add(later));
                Some(StoredRetention { class, until })
            }
        };
        let head = Head { nonce, recorded_at: Timestamp::from_nanos(recorded_at), retention };
        Ok(EntryRecord { head, content: content.into() })
    }
}

/// The class of a retention, the distance of its end, and the remaining bytes.
fn read_retention(bytes: &[u8]) -> Option<(&str, i64, &[u8])> {
    let (length, rest) = read_varint(bytes)?;
    let (class, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (later, rest) = read_varint(rest)?;
    Some((std::str::from_utf8(class).ok()?, unzigzag(later), rest))
}

/// The runs of a block that begins with `first`, and their total number of entries.
fn read_runs(first: u64, mut runs: &[u8], prevs: &[u8]) -> Option<(Vec<Run>, usize)> {
    let (prevs, rest) = prevs.as_chunks::<32>();
    if !rest.is_empty() {
        return None;
    }
    let mut prevs = prevs.iter();
    let mut found = Vec::with_capacity(runs.len() / 2);
    let (mut at, mut before) = (first, 0usize);
    while !runs.is_empty() {
        let (left_out, rest) = read_varint(runs)?;
        let (count, rest) = read_varint(rest)?;
        runs = rest;
        let prev = if count & 1 == 1 { Some(Hash(*prevs.next()?)) } else { None };
        let count = u32::try_from(count >> 1).ok().filter(|count| *count > 0)?;
        // Adjacent runs must have been one.
        let first = at.checked_add(left_out).filter(|_| (left_out == 0) == found.is_empty())?;
        at = first.checked_add(count.into())?;
        found.push(Run { first, count, before, prev });
        before = before.checked_add(count as usize)?;
    }
    prevs.next().is_none().then_some((found, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing found a block whose times contained an empty stretch: read in sequence, that entry was damaged and the
    /// following ones were not; read individually, all entries after it were.
    #[test]
    fn behind_a_column_that_is_damaged_nothing_is_read_either_way() {
        let mut sealer = Sealer::default();
        for seq in 0..3 {
            let head = Head { nonce: [7; 16], recorded_at: Timestamp::from_nanos(seq as i64), retention: None };
            assert!(sealer.room(seq, b"content", head.recorded_at, None));
            sealer.add(seq, &Hash::ZERO, &Hash::ZERO, &head, false);
        }
        let (_, bytes) = sealer.finish().unwrap().unwrap();
        let damaged = |times: &[u8], lengths: &[u8]| {
            let mut stored: Stored<'_> = codec::decode(&bytes).unwrap();
            (stored.times, stored.lengths) = (times.to_vec().into(), lengths.to_vec().into());
            let bytes = codec::encode(&stored).unwrap();
            let block = Block::decode(&bytes).unwrap();
            let among: Vec<bool> = block.parts().map(|part| part.is_ok()).collect();
            let alone: Vec<bool> = (0..3).map(|i| block.part(i as u64, i).is_ok()).collect();
            assert_eq!(among, alone, "{times:?} {lengths:?}");
            (among, block.is_whole())
        };
        let whole: Stored<'_> = codec::decode(&bytes).unwrap();
        assert_eq!(damaged(&whole.times, &whole.lengths), (vec![true; 3], true));
        assert_eq!(damaged(&[0, 1, 2, 0, 2, 1, 2, 1], &whole.lengths), (vec![true, false, false], false));
        assert_eq!(damaged(&[0, 1, 2], &whole.lengths), (vec![true, false, false], false));
        let mut endless = whole.lengths[..1].to_vec();
        endless.extend([255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1]);
        assert_eq!(damaged(&whole.times, &endless), (vec![true, false, false], false));
    }
}

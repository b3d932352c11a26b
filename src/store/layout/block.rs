//! Blocks: the contents of entries of one segment that belong together, compressed.
//!
//! Invariant B2: a block is cut before its value would need the next power-of-two count of pages, because redb gives large values
//! 2^k pages of 4 KiB. A single entry may be larger than that.
//!
//! The entries of a block come in the order of [`segment`](super::segment), not in that of the log; a block says which they are.
//! Their hashes are elsewhere ([`leaf_row`](super::leaf_row)), and so are the seeds of their nonces ([`seeds`](super::seeds)).
//! What follows from an entry's position (time of recording, retention) is stored in columns, which take almost no space where
//! entries are alike. Contents are compressed so that reading one entry decompresses only that entry.

use crate::codec::{self, CodecError};
use crate::rows::{read_varint, unzigzag, varint_len, write_varint, zigzag};
use crate::store::layout::bytes;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::stored_entry::{Head, StoredRetention};
use crate::store::layout::text_compression::{self, Packer};
use crate::{Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Maximum size of a block's value: two redb pages, less the 16 bytes that redb adds around a value that fills its leaf page
/// alone (measured: 8,176 still fit two pages, 8,180 take four).
pub(crate) const BLOCK_BYTES: usize = 8_172;

/// Upper bound of the block's own fields: format, first seq, and the lengths of eight byte strings.
const FIXED_BYTES: usize = 1 + 9 + 8 * 3;
/// Upper bound of a retention's size besides the name of its class.
const RETENTION_BYTES: usize = 3 + 10;
/// Maximum number of retentions in a block's table: an entry refers to one by a byte, where zero means none.
const RETENTIONS: usize = 255;

const SECOND: i64 = 1_000_000_000;

/// A block as it is stored. The fields needed to read any entry come first.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    /// The first seq of the segment.
    first: u64,
    /// For each entry a varint (zigzag): how much larger its offset in the segment is than the previous entry's.
    #[serde(borrow, with = "bytes")]
    seqs: Cow<'a, [u8]>,
    /// For each entry whose nonce follows from no seed its index in the block (a varint) and the 16 bytes.
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
    #[serde(borrow, with = "bytes")]
    data: Cow<'a, [u8]>,
}

/// A decoded block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    first: u64,
    seqs: Cow<'a, [u8]>,
    nonces: Cow<'a, [u8]>,
    times: Cow<'a, [u8]>,
    retentions: Cow<'a, [u8]>,
    kept: Cow<'a, [u8]>,
    dictionary: Cow<'a, [u8]>,
    lengths: Cow<'a, [u8]>,
    data: Cow<'a, [u8]>,
}

/// Where an entry of a block is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub seq: u64,
    /// Its index in the block.
    index: usize,
    /// The bounds of its compressed content, and when it was recorded; `None` if the block does not say.
    step: Option<(usize, usize, i64)>,
}

impl Place {
    /// The entry's index in the block.
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// A block being filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockBuilder {
    /// The first seq of the segment, and the offset of the last entry.
    first: u64,
    last: u64,
    entries: usize,
    seqs: Vec<u8>,
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
    /// The compressed content of the entry to be added.
    packed: Vec<u8>,
}

impl BlockBuilder {
    /// For a block of the segment that begins at this seq.
    pub(crate) fn new(first: u64) -> BlockBuilder {
        BlockBuilder { first, ..BlockBuilder::default() }
    }

    /// Adds the entry at `seq`; returns the block before it if the entry begins a new one. `own`: whether its nonce follows from no
    /// seed.
    pub(crate) fn push(&mut self, seq: u64, part: &EntryRecord<'_>, own: bool) -> Result<Option<Vec<u8>>> {
        let mut full = None;
        let Head { recorded_at, retention, .. } = &part.head;
        let kept = retention.as_ref().map(|r| (r.class, r.until));
        if !self.room(seq, &part.content, *recorded_at, kept, own) {
            full = self.finish()?;
            self.room(seq, &part.content, *recorded_at, kept, own);
        }
        self.add(seq, &part.head, own);
        Ok(full)
    }

    /// Compresses the content of the entry at `seq`; returns whether the block has room for the entry. An empty block always
    /// has.
    fn room(
        &mut self,
        seq: u64,
        content: &[u8],
        recorded_at: Timestamp,
        kept: Option<(&str, Timestamp)>,
        own: bool,
    ) -> bool {
        self.packed.clear();
        self.packer.pack(content, &mut self.packed);
        if self.entries == 0 {
            return true;
        }
        let nonce = if own { 16 + varint_len(self.entries as u64) } else { 0 };
        let mut more = self.distance(seq) + nonce + 1 + varint_len(self.packed.len() as u64) + self.packed.len();
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

    /// How many bytes it takes to say that the next entry is the one at `seq`.
    fn distance(&self, seq: u64) -> usize {
        varint_len(zigzag((seq.wrapping_sub(self.first) as i64).wrapping_sub(self.last as i64)))
    }

    /// Adds the entry whose content was last passed to [`BlockBuilder::room`].
    fn add(&mut self, seq: u64, head: &Head<'_>, own: bool) {
        let offset = seq.wrapping_sub(self.first);
        write_varint(zigzag((offset as i64).wrapping_sub(self.last as i64)), &mut self.seqs);
        self.last = offset;
        if own {
            write_varint(self.entries as u64, &mut self.nonces);
            self.nonces.extend_from_slice(&head.nonce);
        }
        self.entries += 1;
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

    /// The finished block, if it holds anything. Afterwards the builder is empty.
    pub(crate) fn finish(&mut self) -> Result<Option<Vec<u8>>> {
        if self.entries == 0 {
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
            seqs: self.seqs[..].into(),
            nonces: self.nonces[..].into(),
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
        let parts =
            [&mut self.seqs, &mut self.nonces, &mut self.times, &mut self.kept, &mut self.lengths, &mut self.data];
        parts.into_iter().for_each(Vec::clear);
        (self.last, self.entries, self.time) = (0, 0, (0, 0, 0));
        self.retentions.clear();
        self.packer.clear();
        Ok(Some(bytes))
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

    /// Upper bound of the encoded length.
    fn len(&self) -> usize {
        let parts = [&self.seqs, &self.nonces, &self.times, &self.kept, &self.lengths, &self.data];
        let parts = parts.into_iter().map(Vec::len).sum::<usize>();
        let retentions = self.retentions.iter().map(|(class, _)| class.len() + RETENTION_BYTES).sum::<usize>();
        let (before, now, count) = self.time;
        // The next entry may lengthen the count by one byte.
        let time = varint_len(zigzag(now.wrapping_sub(before))) + varint_len(count) + 1;
        FIXED_BYTES + time + parts + retentions + self.packer.len()
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
        if stored.kept.is_empty() {
            return Err(CodecError::Damaged("a block has no entries"));
        }
        Ok(Block {
            first: stored.first,
            seqs: stored.seqs,
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
            first: self.first,
            seqs: owned(self.seqs),
            nonces: owned(self.nonces),
            times: owned(self.times),
            retentions: owned(self.retentions),
            kept: owned(self.kept),
            dictionary: owned(self.dictionary),
            lengths: owned(self.lengths),
            data: owned(self.data),
        }
    }

    /// The first seq of its segment.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many bytes it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.dictionary.len() + self.kept.len() * 48
    }

    /// The seq of each entry, in the order of the block; fewer than it has entries if the block is damaged.
    fn seqs(&self) -> impl Iterator<Item = u64> + '_ {
        let (mut rest, mut offset) = (&*self.seqs, 0i64);
        (0..self.kept.len()).map_while(move |_| {
            let (distance, after) = read_varint(rest)?;
            rest = after;
            offset = offset.checked_add(unzigzag(distance))?;
            self.first.checked_add(u64::try_from(offset).ok()?)
        })
    }

    /// Where each entry is, in the order of the block.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let mut walk = self.walk();
        self.seqs().zip(0..).map(move |(seq, index)| Place { seq, index, step: walk.step() })
    }

    /// Where the entry at `seq` is.
    pub(crate) fn find(&self, seq: u64) -> Option<Place> {
        let index = self.seqs().position(|there| there == seq)?;
        let mut walk = self.walk();
        let step = walk.skip(index).and_then(|()| walk.step());
        Some(Place { seq, index, step })
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
        ended
            && walk.from == self.data.len()
            && times.1
            && usize::from(used) == retentions.len()
            && self.seqs().count() == self.kept.len()
            && self.seqs_end()
            && self.own_nonces_end()
    }

    /// Whether the seqs end with the last entry.
    fn seqs_end(&self) -> bool {
        let mut rest = &*self.seqs;
        for _ in 0..self.kept.len() {
            let Some((_, after)) = read_varint(rest) else { return false };
            rest = after;
        }
        rest.is_empty()
    }

    /// Whether the stored nonces are of entries of the block, in order, one each.
    fn own_nonces_end(&self) -> bool {
        let (mut rest, mut least) = (&*self.nonces, 0);
        while !rest.is_empty() {
            let Some((index, _, after)) = read_nonce(rest).filter(|(index, ..)| *index >= least) else { return false };
            least = index + 1;
            rest = after;
        }
        least <= self.kept.len() as u64
    }

    /// The nonce that is stored for the entry there, if one is.
    pub(crate) fn own_nonce(&self, place: &Place) -> Option<[u8; 16]> {
        let mut rest = &*self.nonces;
        while let Some((index, nonce, after)) = read_nonce(rest) {
            if index >= place.index as u64 {
                return (index == place.index as u64).then_some(nonce);
            }
            rest = after;
        }
        None
    }

    /// The entry there. `nonce` is the one that follows from the seeds of the segment; a stored one goes before.
    ///
    /// # Errors
    /// If it does not unpack, or has no nonce.
    pub(crate) fn part(&self, place: &Place, nonce: Option<[u8; 16]>) -> Result<EntryRecord<'_>, CodecError> {
        let damaged = || CodecError::Damaged("an entry of a block does not unpack");
        let (from, to, recorded_at) = place.step.ok_or_else(damaged)?;
        let packed = self.data.get(from..to).ok_or_else(damaged)?;
        let content = text_compression::unpack(packed, &self.dictionary, codec::MAX_BYTES).ok_or_else(damaged)?;
        let nonce = self.own_nonce(place).or(nonce);
        let nonce = nonce.ok_or(CodecError::Damaged("no seed gives the nonce of an entry"))?;
        let retention = match self.kept.get(place.index).copied().unwrap_or_default().checked_sub(1) {
            None => None,
            Some(number) => {
                let mut left = &*self.retentions;
                for _ in 0..number {
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

    fn walk(&self) -> Walk<'_> {
        Walk { lengths: &self.lengths, from: 0, times: &self.times, time: 0, left: 0 }
    }
}

/// A stored nonce: the index of its entry, the nonce, and the remaining bytes.
fn read_nonce(bytes: &[u8]) -> Option<(u64, [u8; 16], &[u8])> {
    let (index, rest) = read_varint(bytes)?;
    let (nonce, rest) = rest.split_first_chunk()?;
    Some((index, *nonce, rest))
}

/// The class of a retention, the distance of its end, and the remaining bytes.
fn read_retention(bytes: &[u8]) -> Option<(&str, i64, &[u8])> {
    let (length, rest) = read_varint(bytes)?;
    let (class, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (later, rest) = read_varint(rest)?;
    Some((std::str::from_utf8(class).ok()?, unzigzag(later), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(nanos: i64) -> Head<'static> {
        Head { nonce: [7; 16], recorded_at: Timestamp::from_nanos(nanos), retention: None }
    }

    fn record(nanos: i64, content: &[u8]) -> EntryRecord<'_> {
        EntryRecord { head: head(nanos), content: content.into() }
    }

    /// Fuzzing found a block whose times contained an empty stretch: read in sequence, that entry was damaged and the
    /// following ones were not; read individually, all entries after it were.
    #[test]
    fn behind_a_column_that_is_damaged_nothing_is_read_either_way() {
        let mut builder = BlockBuilder::new(0);
        for seq in 0..3 {
            assert_eq!(builder.push(seq, &record(seq as i64, b"content"), false).unwrap(), None);
        }
        let bytes = builder.finish().unwrap().unwrap();
        let damaged = |times: &[u8], lengths: &[u8]| {
            let mut stored: Stored<'_> = codec::decode(&bytes).unwrap();
            (stored.times, stored.lengths) = (times.to_vec().into(), lengths.to_vec().into());
            let bytes = codec::encode(&stored).unwrap();
            let block = Block::decode(&bytes).unwrap();
            let reads = |place: &Place| block.part(place, Some([0; 16])).is_ok();
            let among: Vec<bool> = block.places().map(|place| reads(&place)).collect();
            let alone: Vec<bool> = (0..3).map(|seq| reads(&block.find(seq).unwrap())).collect();
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

    #[test]
    fn entries_come_in_any_order_and_a_nonce_of_its_own_stays() {
        let seqs = [90u64, 17, 18, 64, 16];
        let contents: Vec<String> = seqs.iter().map(|seq| format!("the content of entry {seq}")).collect();
        let mut builder = BlockBuilder::new(16);
        for (seq, content) in seqs.iter().zip(&contents) {
            let part = record(*seq as i64 / 17, content.as_bytes());
            assert_eq!(builder.push(*seq, &part, *seq == 18).unwrap(), None);
        }
        let bytes = builder.finish().unwrap().unwrap();
        let block = Block::decode(&bytes).unwrap().into_owned();
        assert!(block.is_whole());
        assert_eq!(block.places().map(|place| place.seq).collect::<Vec<_>>(), seqs);
        for (seq, content) in seqs.iter().zip(&contents) {
            let part = block.part(&block.find(*seq).unwrap(), Some([1; 16])).unwrap();
            assert_eq!((&*part.content, part.head.recorded_at.nanos()), (content.as_bytes(), *seq as i64 / 17));
            assert_eq!(part.head.nonce, if *seq == 18 { [7; 16] } else { [1; 16] });
            assert_eq!(block.part(&block.find(*seq).unwrap(), None).is_ok(), *seq == 18);
        }
        assert!(block.find(19).is_none());
        for wrong in [&[9][..], &[0; 16], &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            let mut stored: Stored<'_> = codec::decode(&bytes).unwrap();
            stored.nonces = [&stored.nonces[..], wrong].concat().into();
            assert!(!Block::decode(&codec::encode(&stored).unwrap()).unwrap().is_whole(), "{wrong:?}");
        }
    }

    #[test]
    fn a_block_is_cut_before_it_needs_more_pages() {
        let mut builder = BlockBuilder::new(0);
        let mut blocks = Vec::new();
        for seq in 0..3_000u64 {
            let content = crate::Hash::of(&seq.to_be_bytes()).to_string().repeat(seq as usize % 7);
            blocks.extend(
                builder.push(seq * 977 % 3_000, &record(seq as i64 * 997, content.as_bytes()), seq % 9 == 0).unwrap(),
            );
        }
        assert!(blocks.len() > 30 && blocks.iter().all(|block| block.len() <= BLOCK_BYTES));
        assert!(blocks.iter().all(|block| block.len() > BLOCK_BYTES - 500), "a block is full before the next begins");
        assert!(blocks.iter().all(|block| Block::decode(block).unwrap().is_whole()));
    }
}

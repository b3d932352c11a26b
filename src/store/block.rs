//! Blocks: sealed runs of entries, their hashes together and their bytes compressed.
//!
//! Invariant B1: a block holds the hash of every entry that it holds, and for the first entry of each run of
//! consecutive seqs the hash before it, unless that is the hash of a purged entry which `covers` has anyway. So every entry's
//! line can be made from the block and, at most, one of these, and blocks verify in any order. Invariant B2: a block is cut
//! before its value would need the next power-of-two count of pages, because redb gives large values 2^k pages of 4 KiB. An
//! entry alone may be larger than that.
//!
//! The first entry stands uncompressed and is the dictionary for each of the others: reading one entry decompresses
//! one entry, and compresses nearly as well as the block as a whole.

use super::lz4::Packer;
use crate::codec::{self, CodecError};
use crate::{Hash, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The bytes that a block's value may have: two pages of redb, less what redb puts around a value that fills its
/// leaf page alone (measured: 7,936 still fit two pages).
pub(crate) const BLOCK_BYTES: usize = 7_900;

/// At most how many bytes a run has besides the hash before it.
const RUN_BYTES: usize = 15;
/// The block's own fields, and the length prefix of each byte string.
const FIXED_BYTES: usize = 48;

/// Consecutive entries of a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Seq of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// How many entries of the block come before it.
    pub before: usize,
    /// The hash of the entry before the first; nothing where what purges kept has it.
    pub prev: Option<Hash>,
}

impl Run {
    /// The seq after its last.
    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// A block as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    first: u64,
    /// For each run two varints: how many seqs are left out before it (none before the first), and twice how many entries it
    /// has, and one more where the hash before it stands in `prevs`.
    #[serde(borrow, with = "bytes")]
    runs: Cow<'a, [u8]>,
    /// 32 bytes each.
    #[serde(borrow, with = "bytes")]
    prevs: Cow<'a, [u8]>,
    /// 32 bytes an entry.
    #[serde(borrow, with = "bytes")]
    hashes: Cow<'a, [u8]>,
    /// Where each entry's bytes but the last one's end in `data`: two bytes each, little-endian.
    #[serde(borrow, with = "bytes")]
    ends: Cow<'a, [u8]>,
    #[serde(borrow, with = "bytes")]
    data: Cow<'a, [u8]>,
}

/// A block that was read.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    runs: Vec<Run>,
    hashes: Cow<'a, [u8]>,
    ends: Cow<'a, [u8]>,
    data: Cow<'a, [u8]>,
}

/// Byte strings as one piece, not element by element.
mod bytes {
    use serde::{Deserializer, Serializer};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'de, [u8]>, D::Error> {
        <&[u8] as serde::Deserialize>::deserialize(from).map(Cow::Borrowed)
    }
}

/// One entry as the store moves it around: its hash, the hash before it, and its stored body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packed {
    pub prev: Hash,
    pub hash: Hash,
    pub bytes: Vec<u8>,
}

impl Packed {
    /// The same without a copy of its bytes.
    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece { prev: self.prev, hash: self.hash, bytes: &self.bytes }
    }

    /// Reads a row of the tail.
    pub(crate) fn from_row(row: &[u8]) -> Result<Packed, CodecError> {
        let damaged = CodecError::Damaged("a row of the tail is too short");
        let (prev, rest) = row.split_first_chunk::<32>().ok_or(damaged.clone())?;
        let (hash, body) = rest.split_first_chunk::<32>().ok_or(damaged)?;
        Ok(Packed { prev: Hash(*prev), hash: Hash(*hash), bytes: body.to_vec() })
    }
}

/// As [`Packed`], with bytes that lie somewhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub prev: Hash,
    pub hash: Hash,
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    /// The row of the tail: the two hashes, then the body.
    pub(crate) fn to_row(self) -> Vec<u8> {
        let mut row = Vec::with_capacity(64 + self.bytes.len());
        row.extend_from_slice(self.prev.as_bytes());
        row.extend_from_slice(self.hash.as_bytes());
        row.extend_from_slice(self.bytes);
        row
    }
}

/// A block being filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sealer {
    first: u64,
    /// The last run: the seq before it from which seqs are left out, its first, how many entries it has, and whether the hash
    /// before it is in `prevs`.
    run: Option<(u64, u64, u32, bool)>,
    /// The runs before it.
    runs: Vec<u8>,
    prevs: Vec<u8>,
    hashes: Vec<u8>,
    ends: Vec<u8>,
    data: Vec<u8>,
    /// Has the first entry as its dictionary.
    packer: Packer,
    /// The entry that is being added, compressed.
    packed: Vec<u8>,
}

impl Sealer {
    /// Adds the entry at `seq`. Where the block would grow too large with it, the block without it is given back
    /// with its first seq, and the entry starts the next one.
    pub(crate) fn push(&mut self, seq: u64, entry: Piece<'_>) -> Result<Option<(u64, Vec<u8>)>> {
        self.push_behind(seq, entry, false)
    }

    /// As [`Sealer::push`]. The hash before the entry is left out where it is `kept` as what stands for purged entries.
    pub(crate) fn push_behind(&mut self, seq: u64, entry: Piece<'_>, kept: bool) -> Result<Option<(u64, Vec<u8>)>> {
        self.packed.clear();
        if self.run.is_some() {
            self.compress(entry.bytes);
        }
        // Room for the entry's hash and end, and for a run that begins with it.
        let room = self.len() + self.packed.len() + 34 + RUN_BYTES + 32 <= BLOCK_BYTES;
        let full = if self.run.is_none() || room { None } else { self.finish()? };
        match &mut self.run {
            Some((_, first, count, _)) if *first + u64::from(*count) == seq => *count += 1,
            _ => {
                let end = self.end_run();
                if end.is_none() {
                    self.first = seq;
                }
                self.run = Some((end.unwrap_or(seq), seq, 1, !kept));
                if !kept {
                    self.prevs.extend_from_slice(entry.prev.as_bytes());
                }
            }
        }
        if self.data.is_empty() {
            self.packer.set_dictionary(entry.bytes);
            self.data.extend_from_slice(entry.bytes);
        } else {
            self.ends.extend_from_slice(&(self.data.len() as u16).to_le_bytes());
            self.data.extend_from_slice(&self.packed);
        }
        self.hashes.extend_from_slice(entry.hash.as_bytes());
        Ok(full)
    }

    /// The block as it is now with its first seq, if it holds anything; the sealer is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        if self.end_run().is_none() {
            return Ok(None);
        }
        let block = Stored {
            first: self.first,
            runs: self.runs[..].into(),
            prevs: self.prevs[..].into(),
            hashes: self.hashes[..].into(),
            ends: self.ends[..].into(),
            data: self.data[..].into(),
        };
        let mut bytes = Vec::with_capacity(self.len());
        codec::encode_into(&block, &mut bytes)?;
        // Their room is the next block's.
        self.runs.clear();
        self.prevs.clear();
        self.hashes.clear();
        self.ends.clear();
        self.data.clear();
        Ok(Some((self.first, bytes)))
    }

    /// Writes the last run down, and gives the seq after it.
    fn end_run(&mut self) -> Option<u64> {
        let (from, first, count, prev) = self.run.take()?;
        write_varint(first - from, &mut self.runs);
        write_varint(u64::from(count) << 1 | u64::from(prev), &mut self.runs);
        Some(first + u64::from(count))
    }

    /// At most how long the block is, its last run included.
    fn len(&self) -> usize {
        let parts = self.runs.len() + self.prevs.len() + self.hashes.len() + self.ends.len() + self.data.len();
        FIXED_BYTES + RUN_BYTES + parts
    }

    /// Length before, then the compressed bytes, or the bytes themselves where that is no longer.
    fn compress(&mut self, bytes: &[u8]) {
        write_varint(bytes.len() as u64, &mut self.packed);
        let at = self.packed.len();
        self.packer.compress(bytes, &mut self.packed);
        if self.packed.len() - at >= bytes.len() {
            self.packed.truncate(at);
            self.packed.extend_from_slice(bytes);
        }
    }
}

impl<'a> Block<'a> {
    /// Reads a block; checks everything that the other methods rely on.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Block<'a>, CodecError> {
        let Stored { first, runs, prevs, hashes, ends, data } = codec::decode(bytes)?;
        let damaged = CodecError::Damaged("a block's parts do not fit together");
        let (runs, count) = read_runs(first, &runs, &prevs).ok_or(damaged.clone())?;
        if count == 0 || hashes.len() % 32 != 0 || hashes.len() / 32 != count || ends.len() != (count - 1) * 2 {
            return Err(damaged);
        }
        let block = Block { runs, hashes, ends, data };
        if !(0..count).map(|i| block.end(i)).is_sorted() {
            return Err(damaged);
        }
        Ok(block)
    }

    /// The same block on its own feet.
    pub(crate) fn into_owned(self) -> Block<'static> {
        Block {
            runs: self.runs,
            hashes: self.hashes.into_owned().into(),
            ends: self.ends.into_owned().into(),
            data: self.data.into_owned().into(),
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

    /// Where in the block the entry at `seq` is.
    pub(crate) fn find(&self, seq: u64) -> Option<usize> {
        let run = self.runs.get(self.runs.partition_point(|run| run.end() <= seq))?;
        seq.checked_sub(run.first).map(|at| run.before + at as usize)
    }

    /// Every entry of the block: its seq, its place, and the hash before it unless that is kept elsewhere.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, usize, Option<Hash>)> + '_ {
        self.runs.iter().flat_map(move |run| {
            (0..run.count as usize).map(move |at| {
                let place = run.before + at;
                let prev = if at == 0 { run.prev } else { Some(self.hash(place - 1)) };
                (run.first + at as u64, place, prev)
            })
        })
    }

    /// The hash of the entry at place `i`.
    pub(crate) fn hash(&self, i: usize) -> Hash {
        let mut hash = Hash::ZERO;
        if let Some(bytes) = self.hashes.get(i * 32..i * 32 + 32) {
            hash.0.copy_from_slice(bytes);
        }
        hash
    }

    /// The hash before the entry at place `i`; nothing where it is kept elsewhere.
    pub(crate) fn prev(&self, i: usize) -> Option<Hash> {
        match self.runs.binary_search_by_key(&i, |run| run.before) {
            Ok(at) => self.runs[at].prev,
            Err(_) => Some(self.hash(i.saturating_sub(1))),
        }
    }

    /// The stored body of the entry at place `i`.
    pub(crate) fn body(&self, i: usize) -> Result<Cow<'_, [u8]>, CodecError> {
        let end = self.end(i);
        let damaged = CodecError::Damaged("an entry of a block does not decompress");
        if i == 0 {
            return self.data.get(..end).map(Cow::Borrowed).ok_or(damaged);
        }
        let packed = self.data.get(self.end(i - 1)..end).ok_or(damaged.clone())?;
        let (length, packed) = read_varint(packed).ok_or(damaged.clone())?;
        let length = usize::try_from(length).ok().filter(|&l| l <= codec::MAX_BYTES).ok_or(damaged.clone())?;
        if length == packed.len() {
            return Ok(Cow::Borrowed(packed));
        }
        let dictionary = self.data.get(..self.end(0)).ok_or(damaged.clone())?;
        let body = lz4_flex::block::decompress_with_dict(packed, length, dictionary).map_err(|_| damaged.clone())?;
        if body.len() == length { Ok(Cow::Owned(body)) } else { Err(damaged) }
    }

    fn end(&self, i: usize) -> usize {
        let bytes = self.ends.get(i * 2..i * 2 + 2).and_then(|b| b.try_into().ok());
        bytes.map_or(self.data.len(), |bytes| u16::from_le_bytes(bytes).into())
    }
}

/// The runs of a block that begins with `first`, and how many entries they have.
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
        // Runs that touch would be one.
        let first = at.checked_add(left_out).filter(|_| (left_out == 0) == found.is_empty())?;
        at = first.checked_add(count.into())?;
        found.push(Run { first, count, before, prev });
        before = before.checked_add(count as usize)?;
    }
    prevs.next().is_none().then_some((found, before))
}

/// Appends `n` in base 128, least significant group first.
pub(crate) fn write_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads what [`write_varint`] writes and gives the rest; `None` where it ends early or is longer than needed.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut n = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        let group = u64::from(byte & 0x7f);
        if i == 9 && group > 1 || i > 0 && byte == 0 {
            return None;
        }
        n |= group << (7 * i);
        if byte & 0x80 == 0 {
            return Some((n, &bytes[i + 1..]));
        }
    }
    None
}

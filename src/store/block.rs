//! Blocks: sealed runs of entries, their hashes together and their bytes compressed.
//!
//! Invariant B1: a block holds the hash of every entry that it holds, and for the first entry of each run of
//! consecutive seqs the hash before it, so every entry's line can be made from the block alone, and blocks verify in
//! any order. Invariant B2: a block is cut before its value would need the next power-of-two count of pages, because
//! redb gives large values 2^k pages of 4 KiB. An entry alone may be larger than that.
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

/// The block's own fields, and the length prefix of each byte string.
const FIXED_BYTES: usize = 64;

/// Consecutive entries of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Seq of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// The hash of the entry before the first.
    #[serde(with = "hash")]
    pub prev: Hash,
}

/// A hash as one piece, not byte by byte.
mod hash {
    use crate::Hash;
    use serde::de::{Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(hash.as_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let bytes = <&[u8] as serde::Deserialize>::deserialize(from)?;
        bytes.try_into().map(Hash).map_err(|_| D::Error::custom("a hash has 32 bytes"))
    }
}

/// A block as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Block<'a> {
    runs: Vec<Run>,
    /// 32 bytes an entry.
    #[serde(borrow, with = "bytes")]
    hashes: Cow<'a, [u8]>,
    /// Where each entry's bytes end in `data`: four bytes each, little-endian.
    #[serde(borrow, with = "bytes")]
    ends: Cow<'a, [u8]>,
    #[serde(borrow, with = "bytes")]
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
    runs: Vec<Run>,
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
        self.packed.clear();
        if !self.runs.is_empty() {
            self.compress(entry.bytes);
        }
        let room = self.len() + self.packed.len() + 32 + 4 <= BLOCK_BYTES;
        let full = if self.runs.is_empty() || room { None } else { self.finish()? };
        match self.runs.last_mut() {
            Some(run) if run.first + u64::from(run.count) == seq => run.count += 1,
            _ => self.runs.push(Run { first: seq, count: 1, prev: entry.prev }),
        }
        if self.data.is_empty() {
            self.packer.set_dictionary(entry.bytes);
            self.data.extend_from_slice(entry.bytes);
        } else {
            self.data.extend_from_slice(&self.packed);
        }
        self.hashes.extend_from_slice(entry.hash.as_bytes());
        self.ends.extend_from_slice(&(self.data.len() as u32).to_le_bytes());
        Ok(full)
    }

    /// The block as it is now with its first seq, if it holds anything; the sealer is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(first) = self.runs.first().map(|r| r.first) else { return Ok(None) };
        let block = Block {
            runs: std::mem::take(&mut self.runs),
            hashes: self.hashes[..].into(),
            ends: self.ends[..].into(),
            data: self.data[..].into(),
        };
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.hashes.len() + self.ends.len() + self.data.len() + 64);
        codec::encode_into(&block, &mut bytes)?;
        // Their room is the next block's.
        self.hashes.clear();
        self.ends.clear();
        self.data.clear();
        Ok(Some((first, bytes)))
    }

    fn len(&self) -> usize {
        FIXED_BYTES + self.runs.len() * 45 + self.hashes.len() + self.ends.len() + self.data.len()
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
        let block: Block<'a> = codec::decode(bytes)?;
        let count: u64 = block.runs.iter().map(|r| u64::from(r.count)).sum();
        let damaged = Err(CodecError::Damaged("a block's parts do not fit together"));
        if count == 0 || block.hashes.len() as u64 != count * 32 || block.ends.len() as u64 != count * 4 {
            return damaged;
        }
        let apart = |w: &[Run]| w[0].first.checked_add(w[0].count.into()).is_some_and(|end| end < w[1].first);
        // The last run too must end where a seq can be.
        let endless = |r: &Run| r.count == 0 || r.first.checked_add(r.count.into()).is_none();
        if block.runs.iter().any(endless) || !block.runs.windows(2).all(apart) {
            return damaged;
        }
        let mut ends = (0..block.len()).map(|i| block.end(i));
        if !ends.clone().is_sorted() || ends.next_back().is_none_or(|e| e as usize != block.data.len()) {
            return damaged;
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

    /// How many entries the block holds.
    pub(crate) fn len(&self) -> usize {
        self.hashes.len() / 32
    }

    /// The runs of consecutive entries.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether `seq` lies between the block's first entry and its last.
    pub(crate) fn covers(&self, seq: u64) -> bool {
        self.runs.first().is_some_and(|r| r.first <= seq)
            && self.runs.last().is_some_and(|r| seq < r.first + u64::from(r.count))
    }

    /// Where in the block the entry at `seq` is.
    pub(crate) fn find(&self, seq: u64) -> Option<usize> {
        let mut before = 0usize;
        for run in &self.runs {
            if seq < run.first {
                return None;
            }
            if seq - run.first < u64::from(run.count) {
                return Some(before + (seq - run.first) as usize);
            }
            before += run.count as usize;
        }
        None
    }

    /// Every seq of the block.
    pub(crate) fn seqs(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|r| r.first..r.first + u64::from(r.count))
    }

    /// The hash of the entry at place `i`.
    pub(crate) fn hash(&self, i: usize) -> Hash {
        let mut hash = Hash::ZERO;
        if let Some(bytes) = self.hashes.get(i * 32..i * 32 + 32) {
            hash.0.copy_from_slice(bytes);
        }
        hash
    }

    /// The hash before the entry at `seq`, which is at place `i`.
    pub(crate) fn prev(&self, seq: u64, i: usize) -> Hash {
        match self.runs.iter().find(|r| r.first == seq) {
            Some(run) => run.prev,
            None => self.hash(i.saturating_sub(1)),
        }
    }

    /// The stored body of the entry at place `i`.
    pub(crate) fn body(&self, i: usize) -> Result<Cow<'_, [u8]>, CodecError> {
        let end = self.end(i) as usize;
        let damaged = CodecError::Damaged("an entry of a block does not decompress");
        if i == 0 {
            return self.data.get(..end).map(Cow::Borrowed).ok_or(damaged);
        }
        let packed = self.data.get(self.end(i - 1) as usize..end).ok_or(damaged.clone())?;
        let (length, packed) = read_varint(packed).ok_or(damaged.clone())?;
        let length = usize::try_from(length).ok().filter(|&l| l <= codec::MAX_BYTES).ok_or(damaged.clone())?;
        if length == packed.len() {
            return Ok(Cow::Borrowed(packed));
        }
        let dictionary = self.data.get(..self.end(0) as usize).ok_or(damaged.clone())?;
        let body = lz4_flex::block::decompress_with_dict(packed, length, dictionary).map_err(|_| damaged.clone())?;
        if body.len() == length { Ok(Cow::Owned(body)) } else { Err(damaged) }
    }

    fn end(&self, i: usize) -> u32 {
        let bytes = self.ends.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
        u32::from_le_bytes(bytes)
    }
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

//! Rows of leaf hashes: those of up to 224 entries of a segment, in the order of the log and apart from the contents.
//!
//! Invariant B1: a row holds the hash of every entry that is there, and of the entry before each run of consecutive seqs, unless
//! that is the hash of a purged entry that `covers` keeps anyway. So each line can be rebuilt from its content, one such row and
//! at most one such hash, and rows are verified in any order.

use crate::codec::{self, CodecError};
use crate::rows::{read_varint, write_varint};
use crate::store::layout::bytes;
use crate::{Hash, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Consecutive entries of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Seq of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// How many entries of the row come before it.
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

/// A row as it is stored.
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
    /// 32 bytes per entry.
    #[serde(borrow, with = "bytes")]
    hashes: Cow<'a, [u8]>,
}

/// A decoded row.
#[derive(Debug)]
pub(crate) struct LeafRow<'a> {
    runs: Vec<Run>,
    hashes: Cow<'a, [u8]>,
}

impl<'a> LeafRow<'a> {
    /// Decodes a row.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<LeafRow<'a>, CodecError> {
        let damaged = CodecError::Damaged("a row of leaf hashes does not fit together");
        let stored: Stored<'a> = codec::decode(bytes)?;
        let (runs, count) = read_runs(stored.first, &stored.runs, &stored.prevs).ok_or(damaged.clone())?;
        if count == 0 || Some(stored.hashes.len()) != count.checked_mul(32) {
            return Err(damaged);
        }
        Ok(LeafRow { runs, hashes: stored.hashes })
    }

    /// The row with hashes of its own.
    pub(crate) fn into_owned(self) -> LeafRow<'static> {
        LeafRow { runs: self.runs, hashes: self.hashes.into_owned().into() }
    }

    /// The hash of the entry at `seq`, if it is there, and the hash before it unless that is kept elsewhere.
    pub(crate) fn find(&self, seq: u64) -> Option<(Hash, Option<Hash>)> {
        let run = self.runs.get(self.runs.partition_point(|run| run.end() <= seq))?;
        let at = run.before + seq.checked_sub(run.first)? as usize;
        let prev = if seq == run.first { run.prev } else { Some(self.hash(at - 1)) };
        Some((self.hash(at), prev))
    }

    /// The seq of every entry, its hash, and the previous hash unless that is kept elsewhere.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, Hash, Option<Hash>)> + '_ {
        self.runs.iter().flat_map(move |run| {
            (0..run.count as usize).map(move |at| {
                let place = run.before + at;
                let prev = if at == 0 { run.prev } else { Some(self.hash(place - 1)) };
                (run.first + at as u64, self.hash(place), prev)
            })
        })
    }

    /// The hash of the entry at index `i`.
    fn hash(&self, i: usize) -> Hash {
        let mut hash = Hash::ZERO;
        if let Some(bytes) = self.hashes.get(i * 32..i * 32 + 32) {
            hash.0.copy_from_slice(bytes);
        }
        hash
    }
}

/// The runs of a row that begins with `first`, and their total number of entries.
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

/// A row being filled.
#[derive(Debug, Default)]
pub(crate) struct LeafRowBuilder {
    first: u64,
    /// The current run: the seq from which skipped seqs are counted, its first seq, its number of entries, and whether the
    /// previous hash is in `prevs`.
    run: Option<(u64, u64, u32, bool)>,
    /// The encoded runs before the current one.
    runs: Vec<u8>,
    prevs: Vec<u8>,
    hashes: Vec<u8>,
}

impl LeafRowBuilder {
    /// Adds the entry at `seq`, which follows those added before; `prev` is the hash before it, unless that is kept elsewhere.
    pub(crate) fn add(&mut self, seq: u64, hash: &Hash, prev: Option<&Hash>) {
        match &mut self.run {
            Some((_, first, count, _)) if *first + u64::from(*count) == seq => *count += 1,
            _ => {
                let end = self.end_run();
                if end.is_none() {
                    self.first = seq;
                }
                self.run = Some((end.unwrap_or(seq), seq, 1, prev.is_some()));
                self.prevs.extend(prev.iter().flat_map(|prev| prev.as_bytes()));
            }
        }
        self.hashes.extend_from_slice(hash.as_bytes());
    }

    /// The encoded row, if it has an entry. Afterwards the builder is empty.
    pub(crate) fn finish(&mut self) -> Result<Option<Vec<u8>>> {
        if self.end_run().is_none() {
            return Ok(None);
        }
        let stored = Stored {
            first: self.first,
            runs: std::mem::take(&mut self.runs).into(),
            prevs: std::mem::take(&mut self.prevs).into(),
            hashes: std::mem::take(&mut self.hashes).into(),
        };
        Ok(Some(codec::encode(&stored)?))
    }

    /// Encodes the current run, and returns the seq after it.
    fn end_run(&mut self) -> Option<u64> {
        let (from, first, count, prev) = self.run.take()?;
        write_varint(first - from, &mut self.runs);
        write_varint(u64::from(count) << 1 | u64::from(prev), &mut self.runs);
        Some(first + u64::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(seq: u64) -> Hash {
        Hash::of(&seq.to_be_bytes())
    }

    #[test]
    fn a_whole_row_fits_two_pages() {
        let mut builder = LeafRowBuilder::default();
        let first = u64::MAX - 1000;
        (first..first + 224).for_each(|seq| builder.add(seq, &hash(seq), Some(&hash(seq - 1))));
        let row = builder.finish().unwrap().unwrap();
        assert!(row.len() <= crate::store::layout::block::BLOCK_BYTES, "{}", row.len());
        assert_eq!(builder.finish().unwrap(), None);
    }

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(there in proptest::collection::btree_set(1000..1224u64, 1..224), kept in any::<bool>()) {
            let mut builder = LeafRowBuilder::default();
            let is_kept = |seq: u64| kept && seq.is_multiple_of(3) && !there.contains(&(seq - 1));
            let prev = |seq: u64| Some(hash(seq - 1)).filter(|_| !is_kept(seq));
            for &seq in &there {
                builder.add(seq, &hash(seq), prev(seq).as_ref());
            }
            let bytes = builder.finish().unwrap().unwrap();
            let row = LeafRow::decode(&bytes).unwrap();
            let all: Vec<_> = row.entries().collect();
            prop_assert_eq!(all, there.iter().map(|&seq| (seq, hash(seq), prev(seq))).collect::<Vec<_>>());
            for seq in 990..1230 {
                prop_assert_eq!(row.find(seq), there.contains(&seq).then(|| (hash(seq), prev(seq))));
            }
        }
    }
}

//! Rows of the tail: the entries of one commit that are in no segment yet, as many as fit.
//!
//! A row has the hash before its first entry; then for each entry its hash, the length of its stored body as a varint, and the
//! body. Its key is the seq of its first entry. A row ends where its next entry would make it larger than two pages of redb, at the
//! border of a segment, and before a seq that was purged.

use crate::codec::{self, CodecError};
use crate::rows::{read_varint, varint_len, write_varint};
use crate::store::layout::block::BLOCK_BYTES;
use crate::store::layout::entry_record::EntryRecord;
use crate::{Hash, Result};

/// An entry of the tail: its hash, the previous hash, and the stored body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TailEntry<'a> {
    pub prev: Hash,
    pub hash: Hash,
    pub body: &'a [u8],
}

impl<'a> TailEntry<'a> {
    /// The entry's record.
    pub(crate) fn part(&self) -> Result<EntryRecord<'a>, CodecError> {
        let (head, content) = codec::decode_first(self.body)?;
        Ok(EntryRecord { head, content: content.into() })
    }
}

/// A row of the tail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TailRow<'a> {
    prev: Hash,
    /// At least one entry.
    entries: &'a [u8],
    count: u64,
}

impl<'a> TailRow<'a> {
    /// Decodes a row, but not its entries.
    pub(crate) fn decode(row: &'a [u8]) -> Result<TailRow<'a>, CodecError> {
        let damaged = CodecError::Damaged("a row of the tail does not end where its last entry ends");
        let (prev, entries) = row.split_first_chunk::<32>().ok_or(damaged.clone())?;
        let mut row = TailRow { prev: Hash(*prev), entries, count: 0 };
        let mut rest = entries;
        while !rest.is_empty() {
            rest = step(rest).ok_or(damaged.clone())?.2;
            row.count += 1;
        }
        if row.count == 0 { Err(damaged) } else { Ok(row) }
    }

    /// How many entries it has.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Its entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = TailEntry<'a>> + use<'a> {
        let (mut prev, mut rest) = (self.prev, self.entries);
        std::iter::from_fn(move || {
            let (hash, body, after) = step(rest)?;
            rest = after;
            Some(TailEntry { prev: std::mem::replace(&mut prev, hash), hash, body })
        })
    }
}

/// The next entry's hash and body, and what follows.
fn step(bytes: &[u8]) -> Option<(Hash, &[u8], &[u8])> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    let (length, rest) = read_varint(rest)?;
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Hash(*hash), body, rest))
}

/// Rows being filled.
#[derive(Debug, Default)]
pub(crate) struct TailRows {
    rows: Vec<(u64, Vec<u8>)>,
    /// The seq that would continue the last row.
    next: u64,
}

impl TailRows {
    /// Adds the entry at `seq`, which comes after those added before, to the last row or to a new one; it begins one if it is the
    /// first of a segment of `segment` entries.
    pub(crate) fn add(&mut self, seq: u64, entry: &TailEntry<'_>, segment: u64) {
        let room = 32 + varint_len(entry.body.len() as u64) + entry.body.len();
        let row = match self.rows.last_mut() {
            Some((_, row)) if seq == self.next && !seq.is_multiple_of(segment) && row.len() + room <= BLOCK_BYTES => {
                row
            }
            _ => {
                self.rows.push((seq, entry.prev.as_bytes().to_vec()));
                match self.rows.last_mut() {
                    Some((_, row)) => row,
                    None => return,
                }
            }
        };
        row.extend_from_slice(entry.hash.as_bytes());
        write_varint(entry.body.len() as u64, row);
        row.extend_from_slice(entry.body);
        self.next = seq + 1;
    }

    /// The rows, each with its key.
    pub(crate) fn finish(self) -> Vec<(u64, Vec<u8>)> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_at_two_pages_at_borders_and_at_gaps() {
        let bodies: Vec<Vec<u8>> =
            (0..400usize).map(|n| vec![n as u8; if n == 150 { 20_000 } else { n * 7 % 900 }]).collect();
        let seqs = |n: u64| n + 30 + u64::from(n >= 200);
        let hash = |n: u64| Hash::of(&n.to_be_bytes());
        let entry = |n: u64| TailEntry { prev: hash(n), hash: hash(n + 1), body: &bodies[n as usize] };
        let mut rows = TailRows::default();
        (0..400).for_each(|n| rows.add(seqs(n), &entry(n), 64));
        let rows = rows.finish();
        let mut n = 0;
        for (first, bytes) in &rows {
            let row = TailRow::decode(bytes).unwrap();
            assert!(bytes.len() <= BLOCK_BYTES || row.count() == 1, "{} bytes", bytes.len());
            assert_eq!(first / 64, (first + row.count() - 1) / 64, "a row is of one segment");
            for (at, read) in (0..).zip(row.entries()) {
                assert_eq!((first + at, read), (seqs(n), entry(n)));
                n += 1;
            }
            let cut = TailRow::decode(&bytes[..bytes.len() - 1]);
            assert!(cut.is_err(), "{cut:?}");
        }
        assert_eq!(n, 400);
        assert!(rows.iter().any(|(first, _)| *first == 231) && rows.len() < 60, "{} rows", rows.len());
        assert!(TailRow::decode(&[7; 32]).is_err() && TailRow::decode(&[]).is_err());
    }
}

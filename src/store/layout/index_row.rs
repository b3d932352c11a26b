//! Rows of the index: the posting row of a term, what a purge leaves of one, and the retention column of a batch.

use crate::Hash;
use crate::codec::{self, CodecError};
use crate::json::write_integer;
use crate::merkle::Frontier;
use crate::rows::{BATCH, List, SALT_BYTES, read_varint, row_inner, row_leaf, unzigzag, write_varint, zigzag};
use attestlog_proof::entry::Facet;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A posting row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row<'a> {
    /// Hashed with facet and term into the inner hash.
    pub salt: [u8; SALT_BYTES],
    /// Its position among the rows of its batch, in the order of [`row_order`].
    pub position: u64,
    /// Every seq that had the term when the batch was written; some may have been purged since.
    pub list: List<'a>,
}

impl Row<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(SALT_BYTES + 4 + self.list.bytes.len());
        row.extend_from_slice(&self.salt);
        write_varint(self.position, &mut row);
        row.extend_from_slice(self.list.bytes);
        row
    }

    /// Decodes a row whose first seq is `first`. The list is not decoded here.
    pub(crate) fn read(first: u64, row: &[u8]) -> Option<Row<'_>> {
        let (salt, rest) = row.split_first_chunk()?;
        let (position, bytes) = read_varint(rest)?;
        Some(Row { salt: *salt, position, list: List { first, bytes } })
    }

    /// The row's leaf hash.
    pub(crate) fn leaf(&self, field: Facet, term: &str) -> Hash {
        row_leaf(&row_inner(&self.salt, field, term), self.list)
    }
}

/// What a purge leaves of a row: its inner hash and its seqs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PurgedRow<'a> {
    pub inner: Hash,
    pub list: List<'a>,
}

impl PurgedRow<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut purged_row = Vec::with_capacity(40 + self.list.bytes.len());
        purged_row.extend_from_slice(self.inner.as_bytes());
        write_varint(self.list.first, &mut purged_row);
        purged_row.extend_from_slice(self.list.bytes);
        purged_row
    }

    pub(crate) fn read(purged_row: &[u8]) -> Option<PurgedRow<'_>> {
        let (inner, rest) = purged_row.split_first_chunk()?;
        let (first, bytes) = read_varint(rest)?;
        Some(PurgedRow { inner: Hash(*inner), list: List { first, bytes } })
    }

    /// The leaf hash of the original row.
    pub(crate) fn leaf(&self) -> Hash {
        row_leaf(&self.inner, self.list)
    }
}

/// The retention class and end of each entry of a batch. Kept when entries are purged, so that a verifier can still check
/// that none was purged too early.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    /// Names of classes, in order of appearance.
    pub classes: Vec<String>,
    /// For each entry the index of its class plus one, and its end in seconds since 1970; zeros for system events.
    pub rows: Vec<(u16, i64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredColumn {
    classes: Vec<String>,
    /// Encoded ends of retention. See [`Column::encode`].
    #[serde(with = "bytes")]
    packed: Vec<u8>,
}

/// Serializes bytes as one piece, not one by one.
mod bytes {
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        <&[u8] as serde::Deserialize>::deserialize(from).map(<[u8]>::to_vec)
    }
}

/// How many entries one leaf of a column's tree covers.
pub(crate) const COLUMN_LEAF: usize = 256;

/// Maximum number of entries in a decoded column.
const MAX_ROWS: u64 = 16 * BATCH;

impl Column {
    /// RFC 6962 root over leaves of 256 entries; a leaf is a text with one line for each run of entries with the same
    /// retention: `CLASS SECONDS COUNT`, or `- COUNT` for system events.
    pub(crate) fn root(&self) -> Hash {
        let mut tree = Frontier::empty();
        let mut text = Vec::new();
        for leaf in self.rows.chunks(COLUMN_LEAF) {
            text.clear();
            for run in leaf.chunk_by(|a, b| a == b) {
                match self.retention(run[0]) {
                    Some((class, until)) => {
                        text.extend_from_slice(class.as_bytes());
                        text.extend_from_slice(if until < 0 { b" -" } else { b" " });
                        write_integer(until.unsigned_abs(), &mut text);
                    }
                    None => text.push(b'-'),
                }
                text.push(b' ');
                write_integer(run.len() as u64, &mut text);
                text.push(b'\n');
            }
            tree.append(Hash::leaf(&text), &mut |_, _, _| {});
        }
        tree.root()
    }

    /// The class and end in seconds of a row; `None` for system events.
    pub(crate) fn retention(&self, (class, until): (u16, i64)) -> Option<(&str, i64)> {
        let class = self.classes.get((class as usize).checked_sub(1)?)?;
        Some((class, until))
    }

    /// For each entry a varint: the distance (zigzag) of its end from the previous end of the same class, plus one. Where the
    /// class differs from the previous entry's, a zero and the class come first. Two equal entries in a row are followed by
    /// the number of further repetitions.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut packed = Vec::new();
        let mut before: HashMap<u16, i64> = HashMap::new();
        let distances: Vec<(u16, u64)> = self
            .rows
            .iter()
            .map(|&(class, until)| (class, zigzag(until.wrapping_sub(before.insert(class, until).unwrap_or_default()))))
            .collect();
        let mut last = 0;
        for run in distances.chunk_by(|a, b| a == b) {
            let (class, distance) = run[0];
            if class != last {
                packed.push(0);
                write_varint(class.into(), &mut packed);
                last = class;
            }
            let token = distance.checked_add(1).ok_or(CodecError::Damaged("an end of retention is out of bounds"))?;
            run.iter().take(2).for_each(|_| write_varint(token, &mut packed));
            if run.len() >= 2 {
                write_varint(run.len() as u64 - 2, &mut packed);
            }
        }
        codec::encode(&StoredColumn { classes: self.classes.clone(), packed })
    }

    /// Decodes the exact output of [`Column::encode`]. Any other encoding is refused: its bytes would be covered by no hash.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Column, CodecError> {
        let damaged = || CodecError::Damaged("a retention column cannot be read");
        let stored: StoredColumn = codec::decode(bytes)?;
        let mut rest = &stored.packed[..];
        let mut rows: Vec<(u16, i64)> = Vec::new();
        let mut before = vec![0i64; stored.classes.len() + 1];
        let mut class = 0;
        let number = |rest: &mut &[u8]| {
            let (n, after) = read_varint(rest).ok_or_else(damaged)?;
            *rest = after;
            Ok::<u64, CodecError>(n)
        };
        while !rest.is_empty() {
            let mut token = number(&mut rest)?;
            if token == 0 {
                class = u16::try_from(number(&mut rest)?).map_err(|_| damaged())?;
                token = number(&mut rest)?;
            }
            let distance = unzigzag(token.checked_sub(1).ok_or_else(damaged)?);
            let mut run = 1;
            if read_varint(rest).is_some_and(|(next, _)| next == token) {
                number(&mut rest)?;
                run = number(&mut rest)?.saturating_add(2);
            }
            if run > MAX_ROWS.saturating_sub(rows.len() as u64) {
                return Err(damaged());
            }
            let end = before.get_mut(usize::from(class)).ok_or_else(damaged)?;
            for _ in 0..run {
                *end = end.wrapping_add(distance);
                rows.push((class, *end));
            }
        }
        let column = Column { classes: stored.classes, rows };
        if column.encode()? != bytes {
            return Err(CodecError::Damaged("a retention column is not in the form in which it is written"));
        }
        Ok(column)
    }
}

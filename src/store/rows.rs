//! The rows of the index batches in the order in which they were hashed: what a proof that nothing is missing is made of.
//!
//! Invariant M3: the rows of a batch are ordered by facet number, then by the bytes of the term, and a row keeps its place
//! when others of the batch lose their term to a purge.

use super::Snapshot;
use super::merge::{SALT_BYTES, read_row, row_inner, row_leaf};
use super::tables::{self, Stored, term_key};
use crate::entry::Field;
use crate::merkle::{Nodes, ProofError};
use crate::retention::SeqSet;
use crate::{Error, Hash, Result};
use redb::ReadableTable;

/// A row that still has its term.
#[derive(Debug, Clone)]
pub(crate) struct IndexRow {
    pub position: u64,
    pub field: Field,
    pub term: String,
    pub salt: [u8; SALT_BYTES],
    pub seqs: Vec<u64>,
}

/// What a proof needs of one index batch.
#[derive(Debug)]
pub(crate) struct BatchRows {
    pub first: u64,
    pub end: u64,
    /// The seq of the batch's entry.
    pub seq: u64,
    /// The hashes of its rows, in order.
    pub leaves: Leaves,
    /// The rows of the terms that were asked for and, of those that it does not have, the rows on either side.
    pub shown: Vec<IndexRow>,
    /// The row before the next one, while rows are read.
    before: Option<IndexRow>,
    /// How many of the terms have been dealt with.
    asked: usize,
}

/// The leaves of a batch's tree.
#[derive(Debug, Default)]
pub(crate) struct Leaves(pub Vec<Hash>);

impl Nodes for Leaves {
    type Error = Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash> {
        if level == 0 {
            let leaf = usize::try_from(index).ok().and_then(|i| self.0.get(i)).copied();
            return leaf.ok_or_else(|| ProofError::BeyondSize { index, size: self.0.len() as u64 }.into());
        }
        Ok(Hash::node(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }
}

impl BatchRows {
    /// Takes the next row of the batch.
    fn take(&mut self, row: IndexRow, terms: &[(Field, &str)]) {
        self.leaves.0.push(row_leaf(&row_inner(&row.salt, row.field, &row.term), &row.seqs));
        let mut wanted = false;
        while let Some(&asked) = terms.get(self.asked).filter(|asked| **asked <= (row.field, &*row.term)) {
            if asked != (row.field, &*row.term) {
                self.show_before();
            }
            wanted = true;
            self.asked += 1;
        }
        if wanted {
            self.shown.push(row.clone());
        }
        self.before = Some(row);
    }

    /// Shows the row that was read last, unless it is shown already.
    fn show_before(&mut self) {
        if let Some(before) = self.before.take().filter(|b| self.shown.last().is_none_or(|s| s.position < b.position)) {
            self.shown.push(before);
        }
    }

    fn finish(&mut self, terms: &[(Field, &str)]) {
        if self.asked < terms.len() {
            self.show_before();
        }
    }
}

impl Snapshot {
    /// Every index batch with the rows that show whether and where it has these terms, which are sorted by facet number
    /// and bytes. Reads the whole index once.
    pub(crate) fn batch_rows(&self, terms: &[(Field, &str)]) -> Result<Vec<BatchRows>> {
        let mut batches = Vec::new();
        self.scan_batches(&mut |first, end, seq| {
            let (leaves, shown) = (Leaves::default(), Vec::new());
            if end <= self.indexed {
                batches.push(BatchRows { first, end, seq, leaves, shown, before: None, asked: 0 });
            }
            Ok(())
        })?;
        for &field in Field::ALL {
            self.rows_of_facet(field, &mut |term, first, salt, seqs| {
                let place = batches.partition_point(|b| b.first <= first).checked_sub(1);
                let batch = place.and_then(|i| batches.get_mut(i)).filter(|b| seqs.last().is_some_and(|s| *s < b.end));
                let lost = || Error::damaged(format!("an index row of seq {first} belongs to no index batch"));
                let batch = batch.ok_or_else(lost)?;
                let position = batch.leaves.0.len() as u64;
                batch.take(IndexRow { position, field, term: term.to_owned(), salt, seqs }, terms);
                Ok(())
            })?;
        }
        batches.iter_mut().for_each(|batch| batch.finish(terms));
        Ok(batches)
    }

    /// The rows of one facet in the order of their terms' bytes. The dictionary is in that order but for long terms, of
    /// which it has a hash.
    fn rows_of_facet(
        &self,
        field: Field,
        each: &mut dyn FnMut(&str, u64, [u8; SALT_BYTES], Vec<u64>) -> Result<()>,
    ) -> Result<()> {
        let terms = self.table(tables::TERMS)?;
        let number = field as u8;
        let mut long = Vec::new();
        for row in terms.range((number, &[0xff][..])..(number + 1, &[][..])).stored()? {
            let (key, id) = row.stored()?;
            // A term without a row in the file is one that only a purge, or nobody, can still explain.
            long.extend(self.long_value(field, key.value().1, id.value())?.map(|value| (value, id.value())));
        }
        long.sort_unstable();
        let mut long = long.into_iter().peekable();
        for row in terms.range((number, &[][..])..(number, &[0xff][..])).stored()? {
            let (key, id) = row.stored()?;
            let value = std::str::from_utf8(key.value().1)
                .map_err(|_| Error::damaged(format!("a term of facet {} is no text", field.as_str())))?;
            while let Some((value, id)) = long.next_if(|(before, _)| &**before < value) {
                self.rows_of_term(field, &value, id, each)?;
            }
            self.rows_of_term(field, value, id.value(), each)?;
        }
        long.try_for_each(|(value, id)| self.rows_of_term(field, &value, id, each))
    }

    fn rows_of_term(
        &self,
        field: Field,
        value: &str,
        id: u64,
        each: &mut dyn FnMut(&str, u64, [u8; SALT_BYTES], Vec<u64>) -> Result<()>,
    ) -> Result<()> {
        let rows = self.table(tables::POSTINGS)?;
        for row in rows.range((field as u8, id, 0)..(field as u8, id, self.indexed)).stored()? {
            let (key, row) = row.stored()?;
            let first = key.value().2;
            let damaged =
                || Error::damaged(format!("the index row of facet {}, seq {first} is damaged", field.as_str()));
            let (salt, seqs) = read_row(first, row.value()).ok_or_else(damaged)?;
            each(value, first, salt, seqs)?;
        }
        Ok(())
    }

    /// The value whose key in the dictionary this is, from the first entry that has it.
    fn long_value(&self, field: Field, key: &[u8], id: u64) -> Result<Option<String>> {
        let mut at = 0;
        while let Some((_, seqs)) = self.posting_after(field, id, at)? {
            at = seqs.last().map_or(u64::MAX, |last| last + 1);
            for seq in seqs {
                let Some(found) = self.find(seq)? else { continue };
                let mut value = None;
                found.entry()?.body.facets(&mut |f, v| {
                    if f == field && *term_key(v.as_bytes()) == *key {
                        value = Some(v.to_owned());
                    }
                });
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// The exact set of seqs that the purge of the entry at `seq` took.
    pub(crate) fn purged_by(&self, seq: u64) -> Result<Option<SeqSet>> {
        let bytes = tables::get_bytes(&self.table(tables::PURGES)?, seq)?;
        bytes.map(|bytes| SeqSet::decode(&bytes)).transpose()
    }
}

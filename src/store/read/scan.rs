//! Scans of whole tables for verification: everything in the file, whether or not it should be there.

use crate::retention::SeqSet;
use crate::store::file::open_table::{ReadTable, Rows};
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::block::Block;
use crate::store::layout::index_key::{has_prefix, key_prefix, term_key};
use crate::store::layout::index_row::{Column, PurgedRow, Row};
use crate::store::layout::leaf_row::LeafRow;
use crate::store::layout::rollup::Cell;
use crate::store::layout::sender_window::Window;
use crate::store::layout::series::SERIES_KEY;
use crate::store::layout::state::ANCHORS_KEY;
use crate::store::layout::state::STATE_KEY;
use crate::store::layout::tail_row::TailRow;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Hash, Result};
use attestlog_proof::entry::Facet;
use redb::AccessGuard;
use std::ops::Range;

/// Evaluates `$each` for every row of a table; a read error ends the scan.
macro_rules! walk {
    ($snapshot:expr, $table:expr, .., |$key:ident, $value:ident| $each:expr) => {{
        let table = $snapshot.table($table)?;
        walk!(table.iter(), |$key, $value| $each)
    }};
    ($rows:expr, |$key:ident, $value:ident| $each:expr) => {{
        for row in $rows.stored()? {
            let (key, value) = row.stored()?;
            let ($key, $value) = (key.value(), value.value());
            $each
        }
        Ok(())
    }};
}

/// A block as a verifier sees it.
pub(crate) struct ScannedBlock<'a> {
    /// The key of its row.
    pub key: u64,
    /// Its encoded bytes.
    pub bytes: &'a [u8],
    pub block: Result<Block<'a>>,
}

/// A Merkle node that a purge kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// The first entry below it.
    pub first: u64,
    pub level: u8,
    pub hash: Hash,
}

/// The index in the file, for a caller that looks up every row of it.
pub(crate) struct Index {
    terms: ReadTable<(u8, &'static [u8]), u64>,
    postings: ReadTable<(u8, u64, u64), &'static [u8]>,
}

impl Index {
    /// The id of a value of a facet.
    pub(crate) fn term_id(&self, field: Facet, value: &str) -> Result<Option<u64>> {
        let key = term_key(value.as_bytes());
        Ok(self.terms.get((field as u8, &*key)).stored()?.map(|id| id.value()))
    }

    /// The rows of a facet in the batch of this range, for a caller that asks in the order of term ids.
    pub(crate) fn rows_within(&self, field: Facet, batch: Range<u64>) -> RowsWithin<'_> {
        RowsWithin { postings: &self.postings, key_prefix: key_prefix(field), batch, last: None, rows: None, tries: 4 }
    }

    /// Whether the term has a row that begins before `end`.
    pub(crate) fn has_row(&self, field: Facet, term: u64, end: u64) -> Result<bool> {
        let mut rows = self.postings.range((key_prefix(field), term, 0)..(key_prefix(field), term, end)).stored()?;
        Ok(rows.next().transpose().stored()?.is_some())
    }
}

/// A row with its key, as returned by redb.
type Lent = (AccessGuard<'static, (u8, u64, u64)>, AccessGuard<'static, &'static [u8]>);

/// The rows of one facet and one batch. Where a batch has many new terms (mostly conversations), their rows are consecutive
/// and are read in sequence; the others are looked up.
pub(crate) struct RowsWithin<'a> {
    postings: &'a ReadTable<(u8, u64, u64), &'static [u8]>,
    key_prefix: u8,
    batch: Range<u64>,
    last: Option<u64>,
    /// Iterator over the rows after that of the last term.
    rows: Option<Rows<(u8, u64, u64), &'static [u8]>>,
    /// How many more times sequential reading may fail before it is no longer tried.
    tries: u8,
}

impl RowsWithin<'_> {
    /// Reads the row of a term; returns `None` if there is none. `read` gets `None` for a row that does not decode.
    pub(crate) fn read<T>(&mut self, term: u64, read: impl FnOnce(Option<Row<'_>>) -> T) -> Result<Option<T>> {
        let follows = self.last.replace(term).is_some_and(|last| last.checked_add(1) == Some(term));
        let row = match if follows && self.tries > 0 { self.next(term)? } else { None } {
            Some(row) => Some(row),
            None => self.look_up(term)?,
        };
        Ok(row.map(|(key, row)| read(Row::read(key.value().2, row.value()))))
    }

    fn next(&mut self, term: u64) -> Result<Option<Lent>> {
        if self.rows.is_none() {
            let from = (self.key_prefix, term, self.batch.start);
            self.rows = Some(self.postings.range(from..=(self.key_prefix, u64::MAX, u64::MAX)).stored()?);
        }
        let next = self.rows.as_mut().and_then(Iterator::next).transpose().stored()?;
        let here = |(key, _): &Lent| key.value().1 == term && self.batch.contains(&key.value().2);
        let next = next.filter(here);
        if next.is_none() {
            self.rows = None;
            self.tries -= 1;
        }
        Ok(next)
    }

    fn look_up(&self, term: u64) -> Result<Option<Lent>> {
        let (start, end) = ((self.key_prefix, term, self.batch.start), (self.key_prefix, term, self.batch.end));
        self.postings.range(start..end).stored()?.next().transpose().stored()
    }
}

impl Snapshot {
    /// The series of checkpoints as stored.
    pub(crate) fn series(&self) -> Result<Option<Vec<u8>>> {
        self.table(tables::META)?.bytes(SERIES_KEY)
    }

    /// The blocks with keys in this range, in order.
    pub(crate) fn scan_blocks(
        &self,
        keys: Range<u64>,
        each: &mut dyn FnMut(ScannedBlock<'_>) -> Result<()>,
    ) -> Result<()> {
        walk!(self.view().blocks()?.range(keys), |key, value| {
            let block = Block::decode(value);
            each(ScannedBlock { key, bytes: value, block: block.map_err(Error::from) })?;
        })
    }

    /// The rows of leaf hashes with keys in this range, in order.
    pub(crate) fn scan_leaves(
        &self,
        keys: Range<u64>,
        each: &mut dyn FnMut(u64, Result<LeafRow<'_>>) -> Result<()>,
    ) -> Result<()> {
        walk!(self.view().leaves()?.range(keys), |key, value| each(key, LeafRow::decode(value).map_err(Error::from))?)
    }

    /// The directories with keys in this range, in order.
    pub(crate) fn scan_directories(
        &self,
        keys: Range<u64>,
        each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        walk!(self.view().directories()?.range(keys), |key, value| each(key, value)?)
    }

    /// The rows of seeds with keys in this range, in order.
    pub(crate) fn scan_seeds(&self, keys: Range<u64>, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        walk!(self.view().seeds()?.range(keys), |key, value| each(key, value)?)
    }

    /// The rows of the tail that may have entries of `[from, to)`, in order.
    pub(crate) fn scan_tail(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(u64, Result<TailRow<'_>>) -> Result<()>,
    ) -> Result<()> {
        let start = self.view().tail()?.range(..=from).stored()?.next_back();
        let start = start.transpose().stored()?.map_or(from, |(key, _)| key.value());
        walk!(self.view().tail()?.range(start..to.max(start)), |key, value| {
            each(key, TailRow::decode(value).map_err(Error::from))?
        })
    }

    /// The stored Merkle nodes.
    pub(crate) fn scan_nodes(&self, each: &mut dyn FnMut(u8, u64, Hash) -> Result<()>) -> Result<()> {
        walk!(self, tables::NODES, .., |key, value| each(key.0, key.1, Hash(value))?)
    }

    /// The Merkle nodes that purges kept: the first leaf and the level of each.
    pub(crate) fn scan_covers(&self, each: &mut dyn FnMut(u64, u8) -> Result<()>) -> Result<()> {
        walk!(self, tables::COVERS, .., |key, _hash| each(key.0, key.1)?)
    }

    /// The Merkle nodes kept by purges that begin in `range`, in order.
    pub(crate) fn covers_within(&self, range: &Range<u64>) -> Result<Vec<Kept>> {
        let table = self.table(tables::COVERS)?;
        let mut found = Vec::new();
        for row in table.range((range.start, 0)..(range.end, 0)).stored()? {
            let (key, hash) = row.stored()?;
            let (first, level) = key.value();
            found.push(Kept { first, level, hash: Hash(hash.value()) });
        }
        Ok(found)
    }

    /// The number of Merkle nodes below level 8 that purges kept.
    pub(crate) fn count_covers(&self) -> Result<u64> {
        self.table(tables::COVERS)?.len().stored()
    }

    /// The rows of the term dictionary: facet number, key, id.
    pub(crate) fn scan_terms(&self, each: &mut dyn FnMut(u8, &[u8], u64) -> Result<()>) -> Result<()> {
        walk!(self, tables::TERMS, .., |key, value| each(key.0, key.1, value)?)
    }

    /// The posting rows: facet number, term id, first seq, and the row if it can be read.
    pub(crate) fn scan_postings(
        &self,
        each: &mut dyn FnMut(u8, u64, u64, Option<Row<'_>>) -> Result<()>,
    ) -> Result<()> {
        walk!(self, tables::POSTINGS, .., |key, value| each(has_prefix(key.0), key.1, key.2, Row::read(key.2, value))?)
    }

    /// The index's tables, opened once for many look-ups.
    pub(crate) fn index(&self) -> Result<Index> {
        Ok(Index { terms: self.table(tables::TERMS)?, postings: self.table(tables::POSTINGS)? })
    }

    /// The zones: level, index, earliest and latest time.
    pub(crate) fn scan_zones(&self, each: &mut dyn FnMut(u8, u64, (i64, i64)) -> Result<()>) -> Result<()> {
        walk!(self, tables::ZONES, .., |key, value| each(key.0, key.1, value)?)
    }

    /// The rollups: the tool's term id, day, cell.
    pub(crate) fn scan_rollups(&self, each: &mut dyn FnMut(u64, i32, Result<Cell>) -> Result<()>) -> Result<()> {
        walk!(self, tables::ROLLUPS, .., |key, value| each(key.0, key.1, Cell::decode(value).map_err(Error::from))?)
    }

    /// The index batches: first seq, end, seq of the batch's entry.
    pub(crate) fn scan_batches(&self, each: &mut dyn FnMut(u64, u64, u64) -> Result<()>) -> Result<()> {
        walk!(self, tables::BATCHES, .., |key, value| each(key, value.0, value.1)?)
    }

    /// The retention column of the batch that begins at `first`.
    pub(crate) fn column(&self, first: u64) -> Result<Option<Column>> {
        let bytes = self.table(tables::COLUMNS)?.bytes(first)?;
        Ok(bytes.map(|b| Column::decode(&b)).transpose()?)
    }

    /// The keys of rows of the table `meta` that this program does not use.
    pub(crate) fn unknown_meta(&self) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        let known = [STATE_KEY, ANCHORS_KEY, SERIES_KEY];
        let each = &mut |key: &str| {
            if !known.contains(&key) {
                unknown.push(key.chars().take(80).collect());
            }
            Ok::<(), Error>(())
        };
        walk!(self, tables::META, .., |key, _value| each(key)?).map(|()| unknown)
    }

    /// The senders with their numbers and seqs.
    pub(crate) fn scan_senders(&self, each: &mut dyn FnMut(&str, Result<Window>) -> Result<()>) -> Result<()> {
        walk!(self, tables::SENDERS, .., |key, value| each(key, Window::decode(value))?)
    }

    /// The sets of seqs that purges removed, by the seq of the purge's entry.
    pub(crate) fn scan_purges(&self, each: &mut dyn FnMut(u64, Result<SeqSet>) -> Result<()>) -> Result<()> {
        walk!(self, tables::PURGES, .., |key, value| each(key, SeqSet::decode(value))?)
    }

    /// The purged posting rows: first seq of the batch, position in it, and the row if it can be read.
    pub(crate) fn scan_purged_rows(
        &self,
        each: &mut dyn FnMut(u64, u64, Option<PurgedRow<'_>>) -> Result<()>,
    ) -> Result<()> {
        walk!(self, tables::PURGED_ROWS, .., |key, value| each(key.0, key.1, PurgedRow::read(value))?)
    }

    /// The purged rows of the batch that begins at `first`, by position.
    pub(crate) fn purged_rows_of(
        &self,
        first: u64,
        each: &mut dyn FnMut(u64, Option<PurgedRow<'_>>) -> Result<()>,
    ) -> Result<()> {
        let table = self.table(tables::PURGED_ROWS)?;
        walk!(table.range((first, 0)..=(first, u64::MAX)), |key, value| each(key.1, PurgedRow::read(value))?)
    }

    /// The signed checkpoints: size and note.
    pub(crate) fn scan_checkpoints(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        walk!(self, tables::CHECKPOINTS, .., |key, value| each(key, value)?)
    }

    /// The largest size up to `size` that has a checkpoint; zero if none has.
    pub(crate) fn newest_signed(&self, size: u64) -> Result<u64> {
        let newest = self.table(tables::CHECKPOINTS)?.range(..=size).stored()?.next_back().transpose().stored()?;
        Ok(newest.map_or(0, |(size, _)| size.value()))
    }

    /// The note of the checkpoint of this size.
    pub(crate) fn checkpoint(&self, size: u64) -> Result<Option<Vec<u8>>> {
        self.table(tables::CHECKPOINTS)?.bytes(size)
    }

    /// Whether there are any cursors.
    pub(crate) fn has_cursors(&self) -> Result<bool> {
        Ok(self.table(tables::CURSORS)?.len().stored()? > 0)
    }

    /// Whether there are any keys of data subjects.
    pub(crate) fn has_subjects(&self) -> Result<bool> {
        Ok(self.table(tables::SUBJECTS)?.len().stored()? > 0)
    }

    /// The answers of anchors: size, name of the anchor, record.
    pub(crate) fn scan_attestations(&self, each: &mut dyn FnMut(u64, &str, &[u8]) -> Result<()>) -> Result<()> {
        walk!(self, tables::ATTESTATIONS, .., |key, value| each(key.0, key.1, value)?)
    }

    /// The row counts of some tables: postings, columns, nodes.
    pub(crate) fn row_counts(&self) -> Result<(u64, u64, u64)> {
        Ok((
            self.postings()?.len().stored()?,
            self.table(tables::COLUMNS)?.len().stored()?,
            self.table(tables::NODES)?.len().stored()?,
        ))
    }
}

//! The rows of the index batches in the order in which they were hashed; completeness proofs are built from them.
//!
//! Invariant M3: the rows of a batch are ordered by facet number, then by the bytes of the term, and a row keeps its position
//! when others of the batch lose their term to a purge.

use crate::json::Json;
use crate::merkle::{self, Nodes, ProofError};
use crate::redact::is_pseudonym;
use crate::retention::SeqSet;
use crate::rows::{BATCH, SALT_BYTES, row_order};
use crate::store::file::database_handle::Held;
use crate::store::file::redb_errors::Stored;
use crate::store::layout::index_key::key_prefix;
use crate::store::layout::index_row::Row;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, ErrorKind, Hash, Result};
use attestlog_proof::entry::{Facet, Kind};
use std::sync::PoisonError;

/// A row that still has its term.
#[derive(Debug, Clone)]
pub(crate) struct IndexRow {
    pub field: Facet,
    pub term: String,
    /// Hashed with facet and term into the inner hash.
    pub salt: [u8; SALT_BYTES],
    /// Its position among the rows of its batch.
    pub position: u64,
    /// Every seq that had the term when the batch was written.
    pub seqs: Vec<u64>,
}

/// A row whose term was purged.
#[derive(Debug, Clone)]
pub(crate) struct GoneRow {
    pub position: u64,
    pub inner: Hash,
    pub seqs: Vec<u64>,
    leaf: Hash,
}

/// What a proof needs from one index batch.
#[derive(Debug)]
pub(crate) struct BatchRows {
    pub first: u64,
    pub end: u64,
    /// The seq of the batch's entry.
    pub seq: u64,
    /// The hashes of the rows, in order.
    pub leaves: Leaves,
    /// The rows of the requested terms and, for each term that the batch does not have, the rows on either side.
    pub shown: Vec<IndexRow>,
    /// The rows without a term between those neighbours.
    pub gone: Vec<GoneRow>,
    /// The position and hash of each row, while rows are being read.
    placed: Vec<(u64, Hash)>,
    /// The last row read.
    before: Option<IndexRow>,
    /// For each missing term, the positions between which it would be.
    gaps: Vec<(Option<u64>, Option<u64>)>,
    /// How many of the requested terms were processed.
    asked: usize,
}

/// What the entry of an index batch says about it.
#[derive(Debug)]
pub(crate) struct Named {
    rows: u64,
    rows_root: Hash,
    pub column_root: Hash,
}

/// How many batches are read at a time: the hashes of all their rows are in memory meanwhile.
const AT_ONCE: usize = 16;

/// The facets in row order.
fn row_fields() -> impl Iterator<Item = Facet> {
    let mut fields = Facet::ALL.to_vec();
    fields.sort_unstable_by_key(|field| row_order(*field, "").1);
    fields.into_iter()
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
    fn new(first: u64, end: u64, seq: u64) -> BatchRows {
        BatchRows {
            first,
            end,
            seq,
            leaves: Leaves::default(),
            shown: Vec::new(),
            gone: Vec::new(),
            placed: Vec::new(),
            before: None,
            gaps: Vec::new(),
            asked: 0,
        }
    }

    /// Processes the next row that has its term.
    fn take(&mut self, row: IndexRow, leaf: Hash, terms: &[(Facet, &str)]) {
        self.placed.push((row.position, leaf));
        let mut wanted = false;
        let place = row_order(row.field, &row.term);
        while let Some(&asked) = terms.get(self.asked).filter(|asked| row_order(asked.0, asked.1) <= place) {
            if asked != (row.field, &*row.term) {
                self.gap(Some(row.position));
            }
            wanted = true;
            self.asked += 1;
        }
        if wanted {
            self.shown.push(row.clone());
        }
        self.before = Some(row);
    }

    /// Records a missing term: the row before its position is shown, unless it already is.
    fn gap(&mut self, next: Option<u64>) {
        self.gaps.push((self.before.as_ref().map(|row| row.position), next));
        let shown = self.shown.last().map(|row| row.position);
        if let Some(before) = self.before.as_ref().filter(|b| shown.is_none_or(|s| s < b.position)) {
            self.shown.push(before.clone());
        }
    }

    /// Checks the rows against the root in the batch's entry.
    ///
    /// # Errors
    /// `Damaged`, naming the batch.
    pub(crate) fn check(&self, named: &Named) -> Result<()> {
        let size = self.leaves.0.len() as u64;
        if size == named.rows && merkle::root(&self.leaves, size)? == named.rows_root {
            return Ok(());
        }
        let message = format!(
            "the index of entries {} to {} is not the one that entry {} names: it was changed; `verify` says more",
            self.first,
            self.end - 1,
            self.seq
        );
        Err(Error::damaged(message))
    }

    /// Merges in the rows that lost their term, after all others were read.
    fn finish(&mut self, terms: &[(Facet, &str)], gone: Vec<GoneRow>) -> Result<()> {
        while self.asked < terms.len() {
            self.gap(None);
            self.asked += 1;
        }
        self.placed.extend(gone.iter().map(|row| (row.position, row.leaf)));
        self.placed.sort_unstable_by_key(|(position, _)| *position);
        if let Some((place, _)) = (0..).zip(&self.placed).find(|(place, (position, _))| place != position) {
            let message = format!("row {place} of the index of entries {} to {} is missing", self.first, self.end - 1);
            return Err(Error::damaged(message));
        }
        self.leaves.0 = std::mem::take(&mut self.placed).into_iter().map(|(_, leaf)| leaf).collect();
        let inside = |row: &GoneRow| {
            let within = |(low, high): &(Option<u64>, Option<u64>)| {
                low.is_none_or(|low| low < row.position) && high.is_none_or(|high| row.position < high)
            };
            self.gaps.iter().any(within)
        };
        self.gone = gone.into_iter().filter(inside).collect();
        Ok(())
    }
}

impl Snapshot {
    /// Each of these index batches, with the rows that show whether and where it has these terms, which must be in row order
    /// ([`row_order`]). Reads the rows of some batches at a time: the hashes of all rows of a large log need a gigabyte.
    pub(crate) fn batch_rows(
        &self,
        batches: &[(u64, u64, u64)],
        terms: &[(Facet, &str)],
        each: &mut dyn FnMut(BatchRows) -> Result<()>,
    ) -> Result<()> {
        batches.chunks(AT_ONCE).try_for_each(|some| self.rows_of(some, terms)?.into_iter().try_for_each(&mut *each))
    }

    /// The valid index batches: first seq, end, seq of their entry.
    pub(crate) fn batches(&self) -> Result<Vec<(u64, u64, u64)>> {
        let mut batches = Vec::new();
        self.scan_batches(&mut |first, end, seq| {
            if end <= self.indexed {
                batches.push((first, end, seq));
            }
            Ok(())
        })?;
        Ok(batches)
    }

    /// What the entry at `seq` says about the batch of these entries.
    ///
    /// # Errors
    /// `Damaged` if the entry is not about this batch or has another hash than is stored; `NoSuchEntry` if it does not exist.
    pub(crate) fn named_batch(&self, first: u64, end: u64, seq: u64) -> Result<Named> {
        let entry = self.entry(seq)?;
        let own = entry.own().filter(|own| own.kind == Kind::IndexBatch);
        let detail = own.map(|own| own.detail.to_json()).unwrap_or_default();
        let number = |key: &str| detail.get(key).and_then(Json::as_u64);
        let hash = |key: &str| detail.get(key)?.as_str()?.parse().ok();
        if (number("first"), number("end")) == (Some(first), Some(end))
            && let (Some(rows), Some(rows_root), Some(column_root)) =
                (number("rows"), hash("rows_root"), hash("column_root"))
        {
            return Ok(Named { rows, rows_root, column_root });
        }
        let message =
            format!("entry {seq} does not name the index batch of entries {first} to {}", end.saturating_sub(1));
        Err(Error::damaged(message))
    }

    /// Fails if the rows of the index differ from those that the chain names. To be called before any decision that relies on
    /// the index.
    ///
    /// Invariant R75: what a decision rests on is read from entries checked against their stored hashes, and found through
    /// index rows checked against the root in their batch's entry. The check is done once per open store, before the first
    /// decision, and takes about as long as reading the index; what this process adds later follows from checked rows and
    /// from entries.
    ///
    /// # Errors
    /// `Damaged`, naming the batch.
    pub(crate) fn hold_index(&self) -> Result<()> {
        let mut held = self.database.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Held::All => return Ok(()),
            Held::Wrong(why) => return Err(Error::damaged(why.as_str())),
            Held::Not | Held::Before(_) => {}
        }
        let done = self.hold(&mut held);
        match &done {
            Ok(()) => *held = Held::All,
            Err(e) if e.kind() == ErrorKind::Damaged => *held = Held::Wrong(e.to_string()),
            Err(_) => {}
        }
        done
    }

    fn hold(&self, held: &mut Held) -> Result<()> {
        let batches = self.batches()?;
        let mut at = 0;
        for &(first, end, _) in &batches {
            if first != at || end <= first {
                break;
            }
            at = end;
        }
        if at != self.indexed {
            let message =
                format!("no index batch begins at entry {at}: the table of batches was changed; `verify` says more");
            return Err(Error::damaged(message));
        }
        if matches!(held, Held::Not) {
            self.check_index_lookups()?;
            *held = Held::Before(0);
        }
        for some in batches.chunks(AT_ONCE) {
            let (Some((first, ..)), Some((_, end, _))) = (some.first(), some.last()) else { continue };
            if matches!(held, Held::Before(before) if first < before) {
                continue;
            }
            for batch in self.rows_of(some, &[])? {
                batch.check(&self.named_batch(batch.first, batch.end, batch.seq)?)?;
            }
            *held = Held::Before(*end);
        }
        Ok(())
    }

    /// The rows of consecutive batches.
    fn rows_of(&self, batches: &[(u64, u64, u64)], terms: &[(Facet, &str)]) -> Result<Vec<BatchRows>> {
        let from = batches.first().map_or(0, |(first, ..)| *first);
        let to = batches.last().map_or(0, |(_, end, _)| *end);
        let mut batches: Vec<_> = batches.iter().map(|&(first, end, seq)| BatchRows::new(first, end, seq)).collect();
        let rows = self.postings()?;
        for (hidden, field) in [false, true].into_iter().flat_map(|hidden| row_fields().map(move |f| (hidden, f))) {
            self.terms_in_order(field, &mut |term, id| {
                if is_pseudonym(term) != hidden {
                    return Ok(());
                }
                for row in rows.range((key_prefix(field), id, from)..(key_prefix(field), id, to)).stored()? {
                    let (key, row) = row.stored()?;
                    let first = key.value().2;
                    let damaged = || Error::damaged(format!("the index row of seq {first} is damaged"));
                    let row = Row::read(first, row.value()).ok_or_else(damaged)?;
                    let leaf = row.leaf(field, term);
                    let seqs = row.list.seqs(BATCH as usize).ok_or_else(damaged)?;
                    let place = batches.partition_point(|b| b.first <= first).checked_sub(1);
                    let inside = |b: &&mut BatchRows| seqs.last().is_some_and(|last| *last < b.end);
                    let batch = place.and_then(|i| batches.get_mut(i)).filter(inside);
                    let lost = || Error::damaged(format!("an index row of seq {first} belongs to no index batch"));
                    let batch = batch.ok_or_else(lost)?;
                    let Row { salt, position, .. } = row;
                    batch.take(IndexRow { field, term: term.to_owned(), salt, position, seqs }, leaf, terms);
                }
                Ok(())
            })?;
        }
        for batch in &mut batches {
            let gone = self.gone_rows(batch.first)?;
            batch.finish(terms, gone)?;
        }
        Ok(batches)
    }

    /// The values of one facet with their ids, in byte order. The dictionary is in that order except for long values, which
    /// it stores as hashes.
    fn terms_in_order(&self, field: Facet, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        let terms = self.terms()?;
        let number = field as u8;
        let mut long = Vec::new();
        for row in terms.range((number, &[0xff][..])..(number + 1, &[][..])).stored()? {
            let (key, id) = row.stored()?;
            long.extend(self.long_value(field, key.value().1, id.value())?.map(|value| (value, id.value())));
        }
        long.sort_unstable();
        let mut long = long.into_iter().peekable();
        for row in terms.range((number, &[][..])..(number, &[0xff][..])).stored()? {
            let (key, id) = row.stored()?;
            let damaged = |_| Error::damaged(format!("a term of facet {} is not text", field.as_str()));
            let value = std::str::from_utf8(key.value().1).map_err(damaged)?;
            while let Some((value, id)) = long.next_if(|(before, _)| &**before < value) {
                each(&value, id)?;
            }
            each(value, id.value())?;
        }
        long.try_for_each(|(value, id)| each(&value, id))
    }

    /// The rows of a batch that lost their term.
    fn gone_rows(&self, first: u64) -> Result<Vec<GoneRow>> {
        let damaged = || Error::damaged(format!("a row of the batch of entry {first} that lost its term is damaged"));
        let mut gone = Vec::new();
        self.purged_rows_of(first, &mut |position, purged_row| {
            let purged_row = purged_row.ok_or_else(damaged)?;
            let seqs = purged_row.list.seqs(BATCH as usize).ok_or_else(damaged)?;
            gone.push(GoneRow { position, inner: purged_row.inner, seqs, leaf: purged_row.leaf() });
            Ok(())
        })?;
        Ok(gone)
    }

    /// The exact set of seqs that the purge recorded at `seq` removed.
    pub(crate) fn purged_by(&self, seq: u64) -> Result<Option<SeqSet>> {
        let row = self.purges()?.get(seq).stored()?;
        row.map(|row| SeqSet::decode(row.value())).transpose()
    }
}

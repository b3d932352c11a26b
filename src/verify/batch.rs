//! Compares one batch of the index: the rows and the retention column that its entries should have with those in the
//! file.
//!
//! A batch is compared in independent parts, so that several threads can also share the last batch.

use super::finding::{Finding, FindingKind as K};
use super::segment::{Indexed, VerifyInputs};
use super::terms::Joined;
use crate::merkle;
use crate::redact::is_pseudonym;
use crate::retention::{Bits, SeqSet};
use crate::rows::{BATCH, row_order};
use crate::store::{PurgedRow, Row};
use crate::{Hash, Result};
use attestlog_proof::entry::Facet;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the retention column of a batch says about the entries that a purge took from it.
#[derive(Debug)]
pub(super) struct Expiry {
    /// How many entries it took.
    pub taken: u64,
    /// For each class: how many entries, and the latest time in seconds until which one of them was to be kept. `None`
    /// if one was to be kept forever, or if the column does not say.
    pub classes: Option<BTreeMap<String, (u64, i64)>>,
}

/// A part of a batch that is compared by itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// What purges left of index rows.
    PurgedRows,
    Column,
    /// The rows of one facet.
    Rows(Facet),
}

/// The result of comparing one part.
#[derive(Debug, Default)]
pub(super) struct Compared {
    findings: Vec<Finding>,
    /// How many index rows the entries of the batch should have.
    rows: u64,
    /// The ids of their terms.
    terms: Vec<u64>,
    /// For each of the facet's values, in their order: position and hash of its row, and whether the value is a
    /// pseudonym. `None` if the row is missing or does not decode.
    read: Vec<Option<(u64, Hash, bool)>>,
    /// Whether each of the facet's values has a term.
    named: bool,
    /// Position and hash of each purged row, in order.
    purged_rows: Vec<(u64, Hash)>,
    column_root: Option<Hash>,
    expiries: BTreeMap<u64, Expiry>,
}

/// The result of comparing a batch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub range: Range<u64>,
    pub findings: Vec<Finding>,
    /// How many index rows its entries should have.
    pub rows: u64,
    /// The ids of their terms.
    pub terms: Vec<u64>,
    pub rows_root: Option<Hash>,
    pub column_root: Option<Hash>,
    /// What the column says about the entries that each purge took, by the purge's seq.
    pub expiries: BTreeMap<u64, Expiry>,
}

/// A batch whose entries have all been read.
pub(super) struct Batch<'a> {
    inputs: &'a VerifyInputs<'a>,
    range: Range<u64>,
    /// Which of its entries are purged.
    gone: Bits,
    /// What the index should say about its segments, in order.
    segments: Vec<Indexed>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(inputs: &'a VerifyInputs<'a>, range: Range<u64>, segments: Vec<Indexed>) -> Batch<'a> {
        Batch { inputs, gone: inputs.purged.bits(range.clone()), range, segments }
    }

    /// All parts of a batch, the slowest first.
    pub(super) fn parts() -> impl Iterator<Item = Part> {
        [Part::PurgedRows, Part::Column].into_iter().chain(Facet::ALL.iter().map(|field| Part::Rows(*field)))
    }

    /// Compares one part with the file.
    pub(super) fn compare(&self, part: Part) -> Result<Compared> {
        match part {
            Part::PurgedRows => self.purged_rows(),
            Part::Column => self.column(),
            Part::Rows(field) => self.rows(field),
        }
    }

    /// Combines the results of all parts, which are in the order of [`Batch::parts`].
    pub(super) fn outcome(&self, parts: Vec<Compared>) -> Outcome {
        let mut out = Outcome {
            range: self.range.clone(),
            findings: Vec::new(),
            rows: 0,
            terms: Vec::new(),
            rows_root: None,
            column_root: None,
            expiries: BTreeMap::new(),
        };
        let mut whole = true;
        // The rows in the order in which their positions should be, then the purged rows.
        let mut leaves: Vec<(u64, Hash)> = Vec::new();
        let (mut purged_rows, mut rows) = (Vec::new(), Vec::new());
        for (part, mut compared) in Batch::parts().zip(parts) {
            out.findings.append(&mut compared.findings);
            out.rows += compared.rows;
            out.terms.append(&mut compared.terms);
            match part {
                Part::PurgedRows => purged_rows = compared.purged_rows,
                Part::Column => (out.column_root, out.expiries) = (compared.column_root, compared.expiries),
                Part::Rows(field) => {
                    whole &= compared.named;
                    rows.push((field, compared.read));
                }
            }
        }
        rows.sort_unstable_by_key(|(field, _)| row_order(*field, "").1);
        for hidden in [false, true] {
            for (field, read) in &rows {
                for (i, row) in read.iter().enumerate() {
                    let Some((position, leaf, _)) = *row else {
                        whole = false;
                        continue;
                    };
                    if row.is_some_and(|(_, _, pseudonym)| pseudonym != hidden) {
                        continue;
                    }
                    let before = leaves.last().map(|(position, _)| *position);
                    let taken = purged_rows.binary_search_by_key(&position, |(position, _)| *position).is_ok();
                    if taken || before.is_some_and(|before| before >= position) {
                        let values = self.values(*field);
                        let (value, spans) = values.get(i);
                        let detail = format!("the row of {} has another place in its batch", name(*field, value));
                        out.findings.push(Finding::new(K::IndexRowChanged, self.first(spans), detail));
                    }
                    leaves.push((position, leaf));
                }
            }
        }
        leaves.extend(purged_rows);
        leaves.sort_by_key(|(position, _)| *position);
        if whole && leaves.iter().map(|(position, _)| *position).eq(0..leaves.len() as u64) {
            out.rows_root = Some(merkle::root_over(leaves.into_iter().map(|(_, leaf)| leaf).collect()));
        } else if whole {
            out.findings.push(Finding::new(
                K::IndexRowMissing,
                self.range.start,
                "the index batch that begins here does not have all of its rows",
            ));
        }
        out
    }

    /// The facet's values in byte order.
    fn values(&self, field: Facet) -> Joined<'_> {
        Joined::of(self.segments.iter().filter_map(|segment| segment.terms.get(field.place())))
    }

    /// The seq of the first of these offsets in the batch.
    fn first(&self, spans: &[u32]) -> u64 {
        self.range.start + spans.first().copied().map_or(0, u64::from)
    }

    fn purged_rows(&self) -> Result<Compared> {
        let mut out = Compared::default();
        self.inputs.snapshot.purged_rows_of(self.range.start, &mut |position, purged_row| {
            match purged_row.and_then(|purged_row| Some((purged_row, all_gone(&purged_row, &self.gone)?))) {
                Some((purged_row, true)) => out.purged_rows.push((position, purged_row.leaf())),
                Some((purged_row, false)) => out.find(
                    K::IndexRowMissing,
                    purged_row.list.first,
                    "an index row was taken away, its entries were not",
                ),
                None => out.find(K::IndexRowChanged, self.range.start, "what a purge left of an index row is damaged"),
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn rows(&self, field: Facet) -> Result<Compared> {
        let mut out = Compared::default();
        let values = self.values(field);
        let stored = self.inputs.snapshot.index()?;
        out.rows = values.len() as u64;
        // Rows are read in the order of term ids; their positions follow the order of the values.
        let mut terms = Vec::with_capacity(values.len());
        for i in 0..values.len() {
            let (value, spans) = values.get(i);
            match stored.term_id(field, value)? {
                Some(term) => terms.push((term, i)),
                None => out.find(K::TermMismatch, self.first(spans), format!("{} has no term", name(field, value))),
            }
        }
        terms.sort_unstable();
        out.named = terms.len() == values.len();
        out.read = vec![None; values.len()];
        let mut rows = stored.rows_within(field, self.range.clone());
        for (term, i) in terms {
            out.terms.push(term);
            let (value, spans) = values.get(i);
            let check = |row: Option<Row<'_>>| {
                let row = row?;
                let listed = Listed { row: &row, batch: self.range.start, spans, gone: &self.gone };
                Some((row.position, row.leaf(field, value), listed.wrong(self.inputs.purged)?))
            };
            match rows.read(term, check)? {
                Some(Some((position, leaf, wrong))) => {
                    out.read[i] = Some((position, leaf, is_pseudonym(value)));
                    if let Some(wrong) = wrong {
                        let detail = format!("the index does not list it correctly under {}", name(field, value));
                        out.find(K::IndexRowChanged, wrong, detail);
                    }
                }
                Some(None) => {
                    let detail = format!("the row of {} cannot be decoded", name(field, value));
                    out.find(K::IndexRowChanged, self.first(spans), detail);
                }
                None => {
                    let under = name(field, value);
                    let detail = format!("{} of its index batch are missing under {under}", spans.len());
                    out.find(K::IndexRowMissing, self.first(spans), detail);
                }
            }
        }
        Ok(out)
    }

    fn column(&self) -> Result<Compared> {
        let mut out = Compared::default();
        let Range { start, end } = self.range;
        let column = match self.inputs.snapshot.column(start) {
            Ok(Some(column)) => column,
            Ok(None) => {
                out.find(K::ColumnMismatch, start, "the retention column of the batch that begins here is missing");
                return Ok(out);
            }
            Err(e) => {
                out.find(K::ColumnMismatch, start, format!("the retention column that begins here: {e}"));
                return Ok(out);
            }
        };
        if column.rows.len() as u64 != end - start {
            out.find(
                K::ColumnMismatch,
                start,
                "the retention column that begins here has another length than its batch",
            );
        }
        for segment in &self.segments {
            // For each class of the column: its index in the segment's classes.
            let span = |class: &String| segment.classes.iter().position(|c| c == class).map(|span| span as u32);
            let spans: Vec<_> = column.classes.iter().map(span).collect();
            for retained in &segment.retentions {
                // A column that is too short was reported above.
                let Some(&(class, until)) = column.rows.get(retained.span as usize) else { continue };
                let said = usize::from(class).checked_sub(1).map(|class| (spans.get(class).copied().flatten(), until));
                if said != retained.until.map(|(class, until)| (Some(class), until)) {
                    out.find(
                        K::ColumnMismatch,
                        start + u64::from(retained.span),
                        "the retention column says something else than the entry",
                    );
                }
            }
        }
        // What the column says about purged entries is compared with the purges later (`signed`).
        for (&purge, set) in self.inputs.purges {
            let mut taken = 0;
            // By class. The first is for entries without a class, which are kept forever.
            let mut counted = vec![(0, i64::MIN); column.classes.len() + 1];
            let mut said = true;
            for (first, last) in set.ranges_within(start, end - 1) {
                taken += last - first + 1;
                let rows = column.rows.get((first - start) as usize..=(last - start) as usize);
                said &= rows.is_some();
                for &(class, until) in rows.unwrap_or_default() {
                    if let Some((count, latest)) = counted.get_mut(usize::from(class)) {
                        *count += 1;
                        *latest = until.max(*latest);
                    }
                }
            }
            if taken > 0 {
                said &= counted[0].0 == 0;
                let mut classes: BTreeMap<String, (u64, i64)> = BTreeMap::new();
                for (class, &(count, latest)) in column.classes.iter().zip(&counted[1..]).filter(|(_, c)| c.0 > 0) {
                    let known = classes.entry(class.clone()).or_insert((0, latest));
                    *known = (known.0 + count, known.1.max(latest));
                }
                out.expiries.insert(purge, Expiry { taken, classes: said.then_some(classes) });
            }
        }
        out.column_root = Some(column.root());
        Ok(out)
    }
}

impl Compared {
    fn find(&mut self, kind: K, seq: u64, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, seq, detail));
    }
}

/// A value of a facet, shortened for messages.
fn name(field: Facet, value: &str) -> String {
    let shown: String = value.chars().take(80).collect();
    format!("{} {shown:?}", field.as_str())
}

/// Whether all entries of a purged row are purged. `None` if the row does not decode.
fn all_gone(purged_row: &PurgedRow<'_>, gone: &Bits) -> Option<bool> {
    let mut all = true;
    purged_row.list.ranges(BATCH as usize, |from, end| all &= gone.count(from, end) == end - from)?;
    Some(all)
}

/// An index row, and what it should list.
struct Listed<'a> {
    row: &'a Row<'a>,
    /// The first seq of the batch.
    batch: u64,
    /// The offsets in the batch of the entries that have the term.
    spans: &'a [u32],
    /// The purged entries of the batch: a row keeps their seqs, since its hash covers all of them.
    gone: &'a Bits,
}

impl Listed<'_> {
    /// The first entry that the row lists by mistake or fails to list; `Some(None)` if the row is right, `None` if it
    /// does not decode.
    fn wrong(&self, purged: &SeqSet) -> Option<Option<u64>> {
        // Usually none of the row's entries are purged.
        if self.row.list.is(self.spans.iter().map(|&span| self.batch + u64::from(span))) {
            return Some(None);
        }
        let mut there = self.spans;
        let mut right = true;
        self.row.list.ranges(BATCH as usize, |from, end| {
            let here = there.iter().take_while(|&&span| self.batch + u64::from(span) < end).count();
            let (now, later) = there.split_at(here);
            there = later;
            right &= now.first().is_none_or(|&span| self.batch + u64::from(span) >= from);
            let missing = (end - from).wrapping_sub(here as u64);
            right &= missing == 0 || self.gone.count(from, end) == missing;
        })?;
        if right && there.is_empty() {
            return Some(None);
        }
        self.search(purged)
    }

    /// Like [`Listed::wrong`], entry by entry.
    fn search(&self, purged: &SeqSet) -> Option<Option<u64>> {
        let listed = self.row.list.seqs(BATCH as usize)?;
        let mut there = self.spans.iter().map(|&span| self.batch + u64::from(span)).peekable();
        let stray = purged.first_outside(listed.into_iter().filter(|seq| there.next_if_eq(seq).is_none()));
        // An entry that is left over was not listed where it should be.
        let unlisted = there.next().filter(|seq| *seq < stray.unwrap_or(u64::MAX));
        Some(unlisted.or(stray))
    }
}

//! What queries read of the index in the file.

use super::Snapshot;
use super::merge::Row;
use super::pending::BATCH;
use super::rollup::Cell;
use super::tables::{self, Stored, on_shelf, shelf, term_key};
use super::zones;
use crate::entry::{Field, Kind};
use crate::{Error, Result};
use std::collections::BTreeSet;

impl Snapshot {
    /// The id of a facet's value, if it is in the file's index.
    pub(crate) fn term_id(&self, field: Field, value: &str) -> Result<Option<u64>> {
        let key = term_key(value.as_bytes());
        Ok(self.terms()?.get((field as u8, &*key)).stored()?.map(|id| id.value()))
    }

    /// The values of a facet with their ids. A value too long to stand in the index itself is taken from the first
    /// entry that has it.
    pub(crate) fn terms_of(&self, field: Field) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        self.each_term(field, &mut |value, id| found.push((value, id)))?;
        Ok(found)
    }

    /// As [`Snapshot::terms_of`], one by one: of some facets there are millions.
    pub(crate) fn each_term(&self, field: Field, each: &mut dyn FnMut(String, u64)) -> Result<()> {
        let terms = self.terms()?;
        for row in terms.range((field as u8, &[][..])..(field as u8 + 1, &[][..])).stored()? {
            let (key, id) = row.stored()?;
            let (key, id) = (key.value().1.to_vec(), id.value());
            match String::from_utf8(key) {
                Ok(value) => each(value, id),
                Err(e) => {
                    if let Some(value) = self.long_value(field, e.as_bytes(), id)? {
                        each(value, id);
                    }
                }
            }
        }
        Ok(())
    }

    /// The value whose key in the dictionary this is, from the first entry that has it. An entry may have several long
    /// values of one facet.
    pub(super) fn long_value(&self, field: Field, key: &[u8], id: u64) -> Result<Option<String>> {
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

    /// The last row of a term that begins at or before `at`, with its first seq.
    pub(crate) fn posting_at(&self, field: Field, term: u64, at: u64) -> Result<Option<(u64, Vec<u64>)>> {
        let Some(at) = self.indexed.checked_sub(1).map(|last| last.min(at)) else { return Ok(None) };
        let rows = self.postings()?;
        let row = rows.range((shelf(field), term, 0)..=(shelf(field), term, at)).stored()?.next_back();
        row.map(|row| self.posting(row.stored()?)).transpose()
    }

    /// The first row of a term that begins at or after `at`, with its first seq.
    pub(crate) fn posting_after(&self, field: Field, term: u64, at: u64) -> Result<Option<(u64, Vec<u64>)>> {
        if at >= self.indexed {
            return Ok(None);
        }
        let rows = self.postings()?;
        let row = rows.range((shelf(field), term, at)..(shelf(field), term, self.indexed)).stored()?.next();
        row.map(|row| self.posting(row.stored()?)).transpose()
    }

    fn posting(
        &self,
        (key, value): (redb::AccessGuard<'_, (u8, u64, u64)>, redb::AccessGuard<'_, &'static [u8]>),
    ) -> Result<(u64, Vec<u64>)> {
        let (shelf, term, first) = key.value();
        let field = on_shelf(shelf);
        let damaged = || Error::damaged(format!("the index row of facet {field}, term {term}, seq {first} is damaged"));
        let seqs = Row::read(first, value.value()).and_then(|row| row.list.seqs(BATCH as usize));
        seqs.map(|seqs| (first, seqs)).ok_or_else(damaged)
    }

    /// The first seq at or after `at` whose zone may hold times of `[since, last]`. Seqs that are not in the file's index
    /// yet may always.
    pub(crate) fn zone_after(&self, at: u64, since: i64, last: i64) -> Result<Option<u64>> {
        let zones = self.zones()?;
        let mut at = at;
        'next: while at < self.indexed {
            for (level, bits) in zones::LEVELS.iter().enumerate().rev() {
                let index = at >> bits;
                let zone = zones.get((level as u8, index)).stored()?.map(|z| z.value());
                if zone.is_none_or(|(low, high)| high < since || low > last) {
                    // A zone that reaches over the end of the index says nothing of what follows there.
                    at = ((index + 1) << bits).min(self.indexed);
                    continue 'next;
                }
            }
            return Ok(Some(at));
        }
        Ok((at < self.size).then_some(at))
    }

    /// The last seq at or before `at` whose zone may hold times of `[since, last]`.
    pub(crate) fn zone_before(&self, at: u64, since: i64, last: i64) -> Result<Option<u64>> {
        let zones = self.zones()?;
        let mut at = at;
        'next: while at < self.indexed {
            for (level, bits) in zones::LEVELS.iter().enumerate().rev() {
                let index = at >> bits;
                let zone = zones.get((level as u8, index)).stored()?.map(|z| z.value());
                if zone.is_none_or(|(low, high)| high < since || low > last) {
                    match (index << bits).checked_sub(1) {
                        Some(before) => at = before,
                        None => return Ok(None),
                    }
                    continue 'next;
                }
            }
            break;
        }
        Ok(Some(at))
    }

    /// The rollups of one tool, or of all, on days from `from` up to and without `to`: tool's term id, day, cell.
    pub(crate) fn rollups(
        &self,
        tool: Option<u64>,
        days: std::ops::Range<i32>,
        each: &mut dyn FnMut(u64, i32, Cell),
    ) -> Result<()> {
        let table = self.table(tables::ROLLUPS)?;
        let range = match tool {
            Some(tool) => table.range((tool, days.start)..(tool, days.end)),
            None => table.range::<(u64, i32)>(..),
        };
        for row in range.stored()? {
            let (key, cell) = row.stored()?;
            let (tool, day) = key.value();
            if days.contains(&day) {
                each(tool, day, Cell::decode(cell.value())?);
            }
        }
        Ok(())
    }

    /// The seqs, rising, of the store's own entries of the kinds that are wanted, as far as the file's index reaches.
    pub(crate) fn own_entries(&self, wanted: impl Fn(Kind) -> bool) -> Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        for kind in Kind::ALL.iter().filter(|&&kind| !kind.is_call() && wanted(kind)) {
            let Some(term) = self.term_id(Field::Kind, kind.as_str())? else { continue };
            let mut at = 0;
            while let Some((_, seqs)) = self.posting_after(Field::Kind, term, at)? {
                at = seqs.last().map_or(u64::MAX, |last| last + 1);
                found.extend(seqs);
            }
        }
        Ok(found)
    }

    /// Whether a call that was begun at `seq` has no end yet.
    pub(crate) fn is_unfinished(&self, seq: u64) -> Result<bool> {
        Ok(self.unfinished_calls()?.get(seq).stored()?.is_some())
    }

    /// The seqs that stand as begun and not finished, whether or not they should.
    pub(crate) fn unfinished(&self) -> Result<BTreeSet<u64>> {
        let rows = self.unfinished_calls()?.range::<u64>(..).stored()?;
        rows.map(|row| Ok(row.stored()?.0.value())).collect()
    }

    /// Whether the entry at `seq` is still there.
    pub(crate) fn exists(&self, seq: u64) -> Result<bool> {
        if seq >= self.size || seq >= self.state.sealed {
            return Ok(seq < self.size);
        }
        Ok(self.in_block(seq, |block| Ok(block.find(seq).is_some()))?.unwrap_or(false))
    }

    /// Whether an index row that begins at `first` belongs to a batch that is being written.
    pub(crate) fn is_half_written(&self, first: u64) -> bool {
        first >= self.state.indexed && self.state.merging.is_some_and(|to| first < to)
    }
}

//! Reads the index in the file for queries.

use crate::rows::BATCH;
use crate::store::engine::mem_index::MemSegment;
use crate::store::file::open_table::Rows;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::index_key::{has_prefix, key_prefix, term_key};
use crate::store::layout::index_row::Row;
use crate::store::layout::rollup::Cell;
use crate::store::layout::zone_map;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Result};
use attestlog_proof::entry::{Facet, Kind};
use redb::AccessGuard;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The posting rows of one term in the file, in order. Advancing costs less than looking up the next row.
pub(crate) struct Postings(Rows<(u8, u64, u64), &'static [u8]>);

impl Postings {
    /// The seqs of the next row.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u64>>> {
        self.0.next().map(|row| seqs(row.stored()?)).transpose()
    }

    /// The seqs of the next row from the end.
    pub(crate) fn next_back(&mut self) -> Result<Option<Vec<u64>>> {
        self.0.next_back().map(|row| seqs(row.stored()?)).transpose()
    }
}

impl fmt::Debug for Postings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postings")
    }
}

/// Decodes the seqs of a row.
fn seqs((key, value): (AccessGuard<'_, (u8, u64, u64)>, AccessGuard<'_, &'static [u8]>)) -> Result<Vec<u64>> {
    let (key_prefix, term, first) = key.value();
    let field = has_prefix(key_prefix);
    let damaged = || Error::damaged(format!("the index row of facet {field}, term {term}, seq {first} is damaged"));
    Row::read(first, value.value()).and_then(|row| row.list.seqs(BATCH as usize)).ok_or_else(damaged)
}

impl Snapshot {
    /// The number of calls that were begun and are not finished.
    pub(crate) fn how_many_unfinished(&self) -> Result<u64> {
        self.table(tables::UNFINISHED)?.len().stored()
    }

    /// The id of a facet's value, if it is in the file's index.
    pub(crate) fn term_id(&self, field: Facet, value: &str) -> Result<Option<u64>> {
        let key = term_key(value.as_bytes());
        Ok(self.terms()?.get((field as u8, &*key)).stored()?.map(|id| id.value()))
    }

    /// Whether any entry has a value of this facet with this prefix.
    pub(crate) fn any_term(&self, field: Facet, prefix: &str) -> Result<bool> {
        let newest = |mem_segment: &Arc<MemSegment>| {
            mem_segment.read().terms(field).iter().any(|(value, _)| value.starts_with(prefix))
        };
        if self.mem_segments.iter().any(newest) {
            return Ok(true);
        }
        let row = self.terms()?.range((field as u8, prefix.as_bytes())..).stored()?.next().transpose().stored()?;
        Ok(row.is_some_and(|(key, _)| key.value().0 == field as u8 && key.value().1.starts_with(prefix.as_bytes())))
    }

    /// The values of a facet with their ids. The text of a value too long to be stored in the index is taken from the first
    /// entry that has it.
    pub(crate) fn terms_of(&self, field: Facet) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        self.each_term(field, &mut |value, id| found.push((value, id)))?;
        Ok(found)
    }

    /// Like [`Snapshot::terms_of`], but streaming: some facets have millions of values.
    pub(crate) fn each_term(&self, field: Facet, each: &mut dyn FnMut(String, u64)) -> Result<()> {
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

    /// The values of a facet that entries have, in no order, one perhaps more than once.
    pub(crate) fn each_value(&self, field: Facet, each: &mut dyn FnMut(&str)) -> Result<()> {
        self.each_term(field, &mut |value, _| each(&value))?;
        for mem_segment in &self.mem_segments {
            mem_segment.read().terms(field).iter().for_each(|(value, _)| each(value));
        }
        Ok(())
    }

    /// The value with this key in the dictionary, taken from the first entry that has it. An entry may have several long
    /// values of one facet.
    pub(crate) fn long_value(&self, field: Facet, key: &[u8], id: u64) -> Result<Option<String>> {
        let mut rows = self.postings_from(field, id, 0)?;
        while let Some(seqs) = rows.next()? {
            for seq in seqs {
                let Some(found) = self.find(seq)? else { continue };
                let mut value = None;
                found.body.facets(&mut |f, v| {
                    if f == field && *term_key(v.as_bytes()) == *key {
                        value = Some(v.to_owned());
                    }
                });
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// The rows of a term that begin at or before `at`, for backward iteration.
    pub(crate) fn postings_to(&self, field: Facet, term: u64, at: u64) -> Result<Postings> {
        // Without indexed entries the range is empty.
        let (from, to) =
            ((key_prefix(field), term, 0), (key_prefix(field), term, self.indexed.min(at.saturating_add(1))));
        self.postings()?.range(from..to).stored().map(Postings)
    }

    /// The rows of a term that begin at or after `at`, for forward iteration.
    pub(crate) fn postings_from(&self, field: Facet, term: u64, at: u64) -> Result<Postings> {
        let (from, to) = ((key_prefix(field), term, at), (key_prefix(field), term, self.indexed.max(at)));
        self.postings()?.range(from..to).stored().map(Postings)
    }

    /// The nearest seqs to `at`, in the direction of the walk and including `at`, whose zones may contain times in
    /// `[since, last]`, and whether all of their times are; no seq between `at` and these has such a time. Those of entries that are not
    /// in the file's index are in memory.
    pub(crate) fn zoned(&self, at: u64, forwards: bool, since: i64, last: i64) -> Result<Option<(Range<u64>, bool)>> {
        let mut left = match forwards {
            true => at..self.indexed,
            false => match self.timed(at, forwards, since, last) {
                None => 0..at.saturating_add(1).min(self.indexed),
                found => return Ok(found),
            },
        };
        'left: while !left.is_empty() {
            let mut within = left.clone();
            for level in (0..zone_map::LEVELS.len()).rev() {
                match self.zoned_on(level, &within, forwards, since, last)? {
                    Some((found, true)) => return Ok(Some((found, true))),
                    Some((found, false)) => within = found,
                    None if forwards => {
                        left.start = within.end;
                        continue 'left;
                    }
                    None => {
                        left.end = within.start;
                        continue 'left;
                    }
                }
            }
            return Ok(Some((within, false)));
        }
        Ok(if forwards { self.timed(at, forwards, since, last) } else { None })
    }

    /// The same among the entries that are not in the file's index.
    fn timed(&self, at: u64, forwards: bool, since: i64, last: i64) -> Option<(Range<u64>, bool)> {
        let inside = |time: &i64| (since..=last).contains(time);
        let seqs =
            if forwards { at.max(self.indexed)..self.size } else { self.indexed..at.saturating_add(1).min(self.size) };
        let known = self.mem_segments.last().map_or(0, |newest| newest.end());
        if seqs.end > known.max(seqs.start) {
            // What is in no memory may have any time.
            return Some((seqs, false));
        }
        let mut segments: Box<dyn Iterator<Item = &Arc<MemSegment>>> = match forwards {
            true => Box::new(self.mem_segments.iter()),
            false => Box::new(self.mem_segments.iter().rev()),
        };
        segments.find_map(|segment| {
            let index = segment.read();
            let offset = |seq: u64| (seq.saturating_sub(segment.from) as usize).min(index.times.len());
            let (from, to) = (offset(seqs.start), offset(seqs.end));
            let times = index.times.get(from..to).unwrap_or_default();
            let run = match forwards {
                true => {
                    let first = times.iter().position(inside)?;
                    let rest = &times[first..];
                    first..first + rest.iter().position(|time| !inside(time)).unwrap_or(rest.len())
                }
                false => {
                    let last = times.iter().rposition(inside)?;
                    times[..last].iter().rposition(|time| !inside(time)).map_or(0, |before| before + 1)..last + 1
                }
            };
            let seq = |offset: usize| segment.from + (from + offset) as u64;
            Some((seq(run.start)..seq(run.end), true))
        })
    }

    /// The first zone of a level, in the direction of the walk through `within`, that may contain times in `[since, last]`,
    /// and whether all its times are in that interval; if so, it is merged with the adjacent zones for which the same holds.
    fn zoned_on(
        &self,
        level: usize,
        within: &Range<u64>,
        forwards: bool,
        since: i64,
        last: i64,
    ) -> Result<Option<(Range<u64>, bool)>> {
        let (bits, level) = (zone_map::LEVELS[level], level as u8);
        let mut rows =
            self.zones()?.range((level, within.start >> bits)..=(level, (within.end - 1) >> bits)).stored()?;
        let mut found: Option<Range<u64>> = None;
        while let Some(row) = if forwards { rows.next() } else { rows.next_back() } {
            let (key, times) = row.stored()?;
            let (first, (low, high)) = (key.value().1 << bits, times.value());
            // A zone that extends beyond the end of the index says nothing about the entries there.
            let zone = first.max(within.start)..first.saturating_add(1 << bits).min(within.end);
            let whole = since <= low && high <= last;
            match &mut found {
                None if high < since || low > last => {}
                None if whole => found = Some(zone),
                None => return Ok(Some((zone, false))),
                Some(before) if whole && before.end == zone.start => before.end = zone.end,
                Some(behind) if whole && behind.start == zone.end => behind.start = zone.start,
                Some(_) => break,
            }
        }
        Ok(found.map(|found| (found, true)))
    }

    /// The rollups of one tool, or of all, on the given days: the tool's term id, day, cell.
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

    /// The rising seqs of system events of the wanted kinds, up to the end of the file's index.
    pub(crate) fn system_entries(&self, wanted: impl Fn(Kind) -> bool) -> Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        for kind in Kind::ALL.iter().filter(|&&kind| !kind.is_call() && wanted(kind)) {
            let Some(term) = self.term_id(Facet::Kind, kind.as_str())? else { continue };
            let mut rows = self.postings_from(Facet::Kind, term, 0)?;
            while let Some(seqs) = rows.next()? {
                found.extend(seqs);
            }
        }
        Ok(found)
    }

    /// Whether a call that was begun at `seq` is not finished yet.
    pub(crate) fn is_unfinished(&self, seq: u64) -> Result<bool> {
        Ok(self.unfinished_calls()?.get(seq).stored()?.is_some())
    }

    /// The oldest seq in the table of unfinished calls.
    pub(crate) fn first_unfinished(&self) -> Result<Option<u64>> {
        let mut rows = self.unfinished_calls()?.range::<u64>(..).stored()?;
        rows.next().map(|row| Ok(row.stored()?.0.value())).transpose()
    }

    /// The seqs in the table of unfinished calls, whether or not they should be there.
    pub(crate) fn unfinished(&self) -> Result<BTreeSet<u64>> {
        let rows = self.unfinished_calls()?.range::<u64>(..).stored()?;
        rows.map(|row| Ok(row.stored()?.0.value())).collect()
    }

    /// Whether the entry at `seq` exists and was not purged.
    pub(crate) fn exists(&self, seq: u64) -> Result<bool> {
        Ok(seq < self.size && self.leaf(seq)?.is_some())
    }

    /// Whether an index row that begins at `first` belongs to a batch that is being written.
    pub(crate) fn is_half_written(&self, first: u64) -> bool {
        first >= self.state.indexed && self.state.merging.is_some_and(|to| first < to)
    }
}

//! Streams of seqs, one per facet, which are advanced in turn until they agree.
//!
//! A stream answers one question: what is the next seq it contains, at or beyond a given one in the direction of the query?
//! Each keeps at most one decoded row per term, so ten million hits take no more memory than ten.

use crate::Result;
use crate::store::read::lookup::Postings;
use crate::store::read::snapshot::Snapshot;
use attestlog_proof::entry::Facet;
use std::ops::Range;

/// The direction of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    /// The seq after `at` in this direction.
    pub(crate) fn next(self, at: u64) -> Option<u64> {
        match self {
            Direction::Up => at.checked_add(1),
            Direction::Down => at.checked_sub(1),
        }
    }

    fn is_beyond(self, a: u64, b: u64) -> bool {
        match self {
            Direction::Up => a >= b,
            Direction::Down => a <= b,
        }
    }
}

/// The conditions of a query, as streams.
#[derive(Debug)]
pub(crate) struct Plan {
    facets: Vec<AnyOf>,
    time: Option<(i64, i64)>,
    /// Seqs whose zones may contain that time interval, and whether all of their times are in it.
    zoned: (Range<u64>, bool),
}

/// The alternative values of one facet.
#[derive(Debug)]
struct AnyOf {
    terms: Vec<TermStream>,
}

/// The seqs of one term: rows of the file, then the in-memory index.
#[derive(Debug)]
struct TermStream {
    field: Facet,
    term: Option<u64>,
    /// The seqs from each memory segment, in order.
    pending: Vec<Vec<u64>>,
    row: Vec<u64>,
    /// The rows after the current one.
    rows: Option<Postings>,
    head: Option<Option<u64>>,
}

impl Plan {
    pub(crate) fn new(snapshot: &Snapshot, facets: &[(Facet, Vec<String>)], time: Option<(i64, i64)>) -> Result<Plan> {
        let any_of = |(field, values): &(Facet, Vec<String>)| {
            let terms = values.iter().map(|v| TermStream::new(snapshot, *field, v)).collect::<Result<_>>()?;
            Ok(AnyOf { terms })
        };
        Ok(Plan { facets: facets.iter().map(any_of).collect::<Result<_>>()?, time, zoned: (0..0, false) })
    }

    /// Whether the time of the entry at `seq`, which was found, is in the interval for sure.
    pub(crate) fn is_timed(&self, seq: u64) -> bool {
        self.time.is_none() || self.zoned.1 && self.zoned.0.contains(&seq)
    }

    /// The next seq, at or beyond `at`, that all streams contain. Its time may still be outside the interval: zones are
    /// coarse.
    pub(crate) fn seek(&mut self, snapshot: &Snapshot, at: u64, direction: Direction) -> Result<Option<u64>> {
        let mut at = match direction {
            Direction::Up if at >= snapshot.size => return Ok(None),
            Direction::Up => at,
            Direction::Down => match snapshot.size.checked_sub(1) {
                Some(last) => at.min(last),
                None => return Ok(None),
            },
        };
        'moved: loop {
            for facet in &mut self.facets {
                match facet.seek(snapshot, at, direction)? {
                    None => return Ok(None),
                    Some(found) if found == at => {}
                    Some(found) => {
                        at = found;
                        continue 'moved;
                    }
                }
            }
            if let Some((since, last)) = self.time
                && !self.zoned.0.contains(&at)
            {
                let forwards = direction == Direction::Up;
                let Some(zoned) = snapshot.zoned(at, forwards, since, last)? else { return Ok(None) };
                let nearest = if forwards { zoned.0.start } else { zoned.0.end - 1 };
                self.zoned = zoned;
                if nearest != at {
                    at = nearest;
                    continue 'moved;
                }
            }
            return Ok(Some(at));
        }
    }
}

/// The first entry that has all of these values, as stored in the log.
pub(crate) fn earliest(snapshot: &Snapshot, facets: &[(Facet, Vec<String>)]) -> Result<Option<u64>> {
    let mut plan = Plan::new(snapshot, facets, None)?;
    let mut at = Some(0);
    while let Some(from) = at {
        match plan.seek(snapshot, from, Direction::Up)? {
            Some(found) if snapshot.exists(found)? => return Ok(Some(found)),
            Some(gone) => at = Direction::Up.next(gone),
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// The seqs before `before` that have all of these values, as stored in the log, newest first, for as long as `each` returns
/// true. Their entries may have been purged.
pub(crate) fn backwards(
    snapshot: &Snapshot,
    facets: &[(Facet, Vec<String>)],
    before: u64,
    each: &mut dyn FnMut(u64) -> Result<bool>,
) -> Result<()> {
    let mut plan = Plan::new(snapshot, facets, None)?;
    let mut at = before.checked_sub(1);
    while let Some(from) = at {
        let Some(found) = plan.seek(snapshot, from, Direction::Down)? else { break };
        if !each(found)? {
            break;
        }
        at = Direction::Down.next(found);
    }
    Ok(())
}

impl AnyOf {
    fn seek(&mut self, snapshot: &Snapshot, at: u64, direction: Direction) -> Result<Option<u64>> {
        let mut nearest = None;
        for term in &mut self.terms {
            let Some(found) = term.seek(snapshot, at, direction)? else { continue };
            if nearest.is_none_or(|n| !direction.is_beyond(found, n)) {
                nearest = Some(found);
            }
        }
        Ok(nearest)
    }
}

impl TermStream {
    fn new(snapshot: &Snapshot, field: Facet, value: &str) -> Result<TermStream> {
        let pending = snapshot.mem_segments.iter().map(|g| g.seqs(field, value, snapshot.size)).collect();
        Ok(TermStream {
            field,
            term: snapshot.term_id(field, value)?,
            pending,
            row: Vec::new(),
            rows: None,
            head: None,
        })
    }

    fn seek(&mut self, snapshot: &Snapshot, at: u64, direction: Direction) -> Result<Option<u64>> {
        // Seeks only move forward, so a head at or beyond the requested seq is still the answer.
        match self.head {
            Some(None) => return Ok(None),
            Some(Some(head)) if direction.is_beyond(head, at) => return Ok(Some(head)),
            _ => {}
        }
        let found = match direction {
            Direction::Up => match self.up(snapshot, at)? {
                None => self.pending.iter().find_map(|seqs| seqs.get(seqs.partition_point(|&s| s < at)).copied()),
                found => found,
            },
            Direction::Down => {
                let last = |seqs: &Vec<u64>| seqs.partition_point(|&s| s <= at).checked_sub(1).map(|i| seqs[i]);
                match self.pending.iter().rev().find_map(last) {
                    None => self.down(snapshot, at)?,
                    found => found,
                }
            }
        };
        self.head = Some(found);
        Ok(found)
    }

    fn up(&mut self, snapshot: &Snapshot, at: u64) -> Result<Option<u64>> {
        let Some(term) = self.term else { return Ok(None) };
        if at >= snapshot.indexed {
            return Ok(None);
        }
        if self.row.first().is_none_or(|&first| first > at) || self.row.last().is_none_or(|&last| last < at) {
            // A row that begins before `at` may extend to it, but not if `at` directly follows the end of the current row, or
            // is the first seq.
            let follows = at.checked_sub(1).is_none_or(|before| self.row.last() == Some(&before));
            if !follows {
                self.rows = None;
                self.row = snapshot.postings_to(self.field, term, at)?.next_back()?.unwrap_or_default();
            }
            if self.row.last().is_none_or(|&last| last < at) {
                let rows = match self.rows.take() {
                    Some(rows) => rows,
                    None => snapshot.postings_from(self.field, term, at)?,
                };
                let rows = self.rows.insert(rows);
                self.row.clear();
                while self.row.last().is_none_or(|&last| last < at)
                    && let Some(row) = rows.next()?
                {
                    self.row = row;
                }
            }
        }
        Ok(self.row.get(self.row.partition_point(|&s| s < at)).copied())
    }

    fn down(&mut self, snapshot: &Snapshot, at: u64) -> Result<Option<u64>> {
        let Some(term) = self.term else { return Ok(None) };
        if self.row.first().is_none_or(|&first| first > at) {
            let next = self.rows.as_mut().map(Postings::next_back).transpose()?.map(Option::unwrap_or_default);
            self.row = match next {
                Some(row) if row.first().is_none_or(|&first| first <= at) => row,
                // The first call, or other facets have skipped this whole row.
                _ => {
                    let rows = snapshot.postings_to(self.field, term, at)?;
                    self.rows.insert(rows).next_back()?.unwrap_or_default()
                }
            };
        }
        Ok(self.row.partition_point(|&s| s <= at).checked_sub(1).map(|i| self.row[i]))
    }
}

//! The entries that a query finds, one after the other.

use super::Query;
use crate::store::stream::{Direction, Plan};
use crate::store::{Snapshot, guarded};
use crate::{AuditLog, Entry, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After how many entries the read transaction is renewed. A transaction keeps the pages that it sees from being
/// used again, so a long walk within one would make the file grow.
const RENEW: u64 = 8192;

/// What a query reads from between two entries. The writer takes it away where the log has grown by much since
/// ([`Engine::release`](crate::store::Engine)): whoever asks for the next entry an hour later must not have kept the
/// pages of an hour ago from being used again.
type Reading = Arc<Mutex<Option<(Plan, Snapshot)>>>;

fn lock(reading: &Reading) -> MutexGuard<'_, Option<(Plan, Snapshot)>> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries that a query finds, in its order, as the log was when it was asked. Holds one entry at a time.
#[derive(Debug)]
#[must_use = "entries are read as they are asked for"]
pub struct Hits {
    log: AuditLog,
    query: Query,
    /// Entries from this seq on were not there when it began.
    size: u64,
    at: Option<u64>,
    served: u64,
    reading: Reading,
    seen: u64,
    /// Something is decided by it: the index is held against the chain, and each entry against its hash.
    decides: bool,
}

impl AuditLog {
    /// The entries that `query` asks for.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an inverted time range; [`AuditLog::damage`], unless it is asked of
    /// [`AuditLog::despite_damage`]; what the file says.
    pub fn query(&self, query: &Query) -> Result<Hits> {
        query.check()?;
        self.engine().process.check()?;
        self.check_damage()?;
        let size = self.size();
        let at = match (query.after, query.newest_first) {
            (None, false) => Some(0),
            (None, true) => size.checked_sub(1),
            (Some(after), false) => Direction::Up.next(after),
            (Some(after), true) => Direction::Down.next(after),
        };
        Ok(Hits {
            log: self.clone(),
            query: query.clone(),
            size,
            at,
            served: 0,
            reading: Reading::default(),
            seen: 0,
            decides: false,
        })
    }

    /// As [`AuditLog::query`], for whoever decides by what is found and what is not (R75).
    ///
    /// # Errors
    /// `Damaged` too where the index is not the one that the chain names.
    pub(crate) fn query_held(&self, query: &Query) -> Result<Hits> {
        Ok(Hits { decides: true, ..self.query(query)? })
    }

    /// How many entries `query` finds; its limit counts.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    pub fn count(&self, query: &Query) -> Result<u64> {
        let mut hits = self.query(query)?;
        let read = query.since.is_some() || query.until.is_some() || !query.traces.is_empty();
        guarded(|| {
            let mut count = 0;
            if read {
                while hits.step()?.is_some() {
                    count += 1;
                }
            } else {
                let cell = hits.reading.clone();
                let reading = &mut *lock(&cell);
                while let Some(seq) = hits.next_seq(reading)? {
                    let there = reading.as_ref().map_or(Ok(false), |(_, snapshot)| snapshot.exists(seq))?;
                    hits.served += u64::from(there);
                    count += u64::from(there);
                }
            }
            Ok(count)
        })
    }
}

impl Hits {
    /// The same, without the entries from `size` on.
    pub(super) fn within(mut self, size: u64) -> Hits {
        self.size = self.size.min(size);
        self
    }

    fn direction(&self) -> Direction {
        if self.query.newest_first { Direction::Down } else { Direction::Up }
    }

    /// The first and the last time that are asked for. Where none is, the first is behind the last.
    fn time(&self) -> Option<(i64, i64)> {
        let since = self.query.since.map(|t| t.nanos());
        let until = self.query.until.map(|t| t.nanos());
        if since.is_none() && until.is_none() {
            return None;
        }
        match until.map_or(Some(i64::MAX), |until| until.checked_sub(1)) {
            Some(last) => Some((since.unwrap_or(i64::MIN), last)),
            None => Some((i64::MAX, i64::MIN)),
        }
    }

    /// The next seq on which the index agrees; its entry may be gone.
    fn next_seq(&mut self, reading: &mut Option<(Plan, Snapshot)>) -> Result<Option<u64>> {
        self.log.engine().process.check()?;
        if self.query.limit.is_some_and(|limit| self.served >= limit) {
            return Ok(None);
        }
        let direction = self.direction();
        while let Some(at) = self.at {
            if self.seen.is_multiple_of(RENEW) {
                *reading = None;
            }
            self.seen += 1;
            if reading.is_none() {
                if self.seen == 1 {
                    self.log.engine().will_read(&self.reading);
                }
                let mut snapshot = self.log.engine().snapshot_of_entries()?;
                snapshot.size = self.size;
                if self.decides {
                    snapshot.hold_index()?;
                }
                let policies = self.log.policies_for_search()?;
                let facets = self.query.resolved(&policies, &snapshot, &self.log.engine().chain_state())?;
                let plan = Plan::new(&snapshot, &facets, self.time())?;
                *reading = Some((plan, snapshot));
            }
            let Some((plan, snapshot)) = reading else { return Ok(None) };
            let Some(found) = plan.seek(snapshot, at, direction)? else {
                self.at = None;
                *reading = None;
                return Ok(None);
            };
            self.at = direction.next(found);
            if !self.query.unfinished || snapshot.is_unfinished(found)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        let cell = self.reading.clone();
        let reading = &mut *lock(&cell);
        while let Some(seq) = self.next_seq(reading)? {
            let Some((_, snapshot)) = reading else { break };
            let Some(entry) = snapshot.find(seq)? else { continue };
            // Calls that are only shown are shown as they are stored, at a third of the time.
            if self.decides || entry.call().is_none() {
                snapshot.check(&entry)?;
            }
            let inside = |(since, last)| (since..=last).contains(&entry.timestamp().nanos());
            if self.time().is_none_or(inside) && self.query.is_traced(&entry) {
                self.served += 1;
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl Iterator for Hits {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let step = guarded(|| self.step()).transpose();
        if matches!(step, Some(Err(_))) {
            // What cannot be read once is not asked for again and again.
            self.at = None;
        }
        step
    }
}

//! The entries that a query finds, one after the other.

use super::Query;
use crate::store::read::stream::{Direction, Plan};
use crate::store::{Snapshot, Standing, guarded, not_placed};
use crate::{AuditLog, Entry, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After how many entries the read transaction is renewed. A transaction keeps the pages that it sees from being
/// used again, so a long walk within one would make the file grow.
const RENEW: u64 = 8192;

/// What a query reads from between two entries. The writer takes it away where the log has grown by much since
/// ([`Engine::release`](crate::store::Engine)): whoever asks for the next entry an hour later must not have kept the
/// pages of an hour ago from being used again.
type Reading = Arc<Mutex<Option<(Plan, Snapshot)>>>;

/// What an entry is held against before it is given out.
#[derive(Debug, Clone, Copy)]
enum Against {
    Nothing,
    Beside,
    Signed,
}

fn lock(reading: &Reading) -> MutexGuard<'_, Option<(Plan, Snapshot)>> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries that a query finds, in its order, as the log was when it was asked. Holds one entry at a time.
///
/// Each is held against the log before it is given out (R82): an entry that is not the one that was recorded is an error of the kind
/// [`Damaged`](ErrorKind::Damaged) that names it ([`Error::seq`](crate::Error::seq)), and the entries after it follow for whoever
/// asks on. Where the tree is not the one that was signed, that is said once, and the entries follow. What cannot be read is the end.
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
    /// Something is decided by it: the index is held against the chain.
    decides: bool,
    against: Against,
    /// Entries that the query could lack, which are named once it has passed them.
    unplaced: Vec<u64>,
    /// That the tree is not the one that was signed was said, before this entry.
    told: Option<Option<Entry>>,
    /// The entries after an error can be asked for.
    goes_on: bool,
}

impl AuditLog {
    /// The entries that `query` asks for.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an inverted time range; [`AuditLog::damage`], unless it is asked of
    /// [`AuditLog::despite_damage`]; what the file says.
    pub fn query(&self, query: &Query) -> Result<Hits> {
        query.check()?;
        self.engine().config.process.check()?;
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
            against: Against::Signed,
            unplaced: Vec::new(),
            told: None,
            goes_on: false,
        })
    }

    /// As [`AuditLog::query`], for whoever decides by what is found and what is not (R75).
    ///
    /// # Errors
    /// `Damaged` too where the index is not the one that the chain names.
    pub(crate) fn query_held(&self, query: &Query) -> Result<Hits> {
        Ok(Hits { decides: true, ..self.query(query)?.beside() })
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
                if let Some(seq) = hits.lacking() {
                    return Err(not_placed(seq));
                }
            }
            Ok(count)
        })
    }
}

impl Hits {
    /// The same entries as they are stored, also where they are not those that were recorded: for whoever has the whole log
    /// [verified](AuditLog::verify) besides, and says what that found.
    pub fn as_stored(self) -> Hits {
        Hits { against: Against::Nothing, ..self }
    }

    /// The same entries, held against the hash that lies beside them and no further: for what a summary says of the log, also of one
    /// whose tree is not the one that was signed.
    pub(crate) fn beside(self) -> Hits {
        Hits { against: Against::Beside, ..self }
    }

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
        self.log.engine().config.process.check()?;
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
                if self.seen == 1 && matches!(self.against, Against::Signed) {
                    self.unplaced = snapshot.unplaced();
                    self.unplaced.retain(|seq| if self.query.newest_first { *seq <= at } else { *seq >= at });
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

    /// An entry that it has passed and could lack.
    fn lacking(&mut self) -> Option<u64> {
        let at = self.at;
        let passed = |seq: u64| at.is_none_or(|at| if self.query.newest_first { seq > at } else { seq < at });
        let place = self.unplaced.iter().position(|seq| passed(*seq))?;
        Some(self.unplaced.remove(place))
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        if let Some(entry) = self.told.as_mut().and_then(Option::take) {
            return Ok(Some(entry));
        }
        let cell = self.reading.clone();
        let reading = &mut *lock(&cell);
        while let Some(seq) = self.next_seq(reading)? {
            let Some((_, snapshot)) = reading else { break };
            if self.unplaced.contains(&seq) {
                continue;
            }
            let found = snapshot.find_beside(seq);
            let found = found.map_err(|e| if e.kind() == ErrorKind::Damaged { e.about(seq) } else { e });
            self.goes_on = found.as_ref().is_err_and(|e| e.seq().is_some());
            let Some((entry, hash)) = found? else { continue };
            let standing = match self.against {
                Against::Nothing => Standing::Right,
                Against::Beside => {
                    snapshot.check_against(&entry, hash).map_or_else(Standing::Other, |()| Standing::Right)
                }
                Against::Signed => snapshot.standing(&entry, hash)?,
            };
            let inside = |(since, last)| (since..=last).contains(&entry.timestamp().nanos());
            let wanted = self.time().is_none_or(inside) && self.query.is_traced(&entry);
            match standing {
                Standing::Other(e) => {
                    self.goes_on = true;
                    return Err(e);
                }
                _ if !wanted => {}
                Standing::OtherTree(e) if self.told.is_none() => {
                    self.goes_on = true;
                    self.served += 1;
                    self.told = Some(Some(entry));
                    return Err(e);
                }
                Standing::Right | Standing::OtherTree(_) => {
                    self.served += 1;
                    return Ok(Some(entry));
                }
            }
        }
        let lacking = self.lacking();
        self.goes_on = lacking.is_some();
        lacking.map_or(Ok(None), |seq| Err(not_placed(seq)))
    }
}

impl Iterator for Hits {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.goes_on = false;
        let step = guarded(|| self.step()).transpose();
        if matches!(step, Some(Err(_))) && !self.goes_on {
            // What cannot be read once is not asked for again and again.
            self.at = None;
        }
        step
    }
}

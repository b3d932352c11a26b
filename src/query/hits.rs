//! Iterates over the entries that a query finds.

use super::Query;
use super::condition::Prepared;
use crate::store::OpenStore;
use crate::store::read::stream::{Direction, Plan};
use crate::store::{Snapshot, Standing, guarded, not_placed};
use crate::{Entry, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The read transaction is renewed after this many entries. A transaction prevents the pages that it sees from being
/// reused, so a long scan within one would make the file grow.
const RENEW: u64 = 8192;

/// How often an answer of which nobody has seen a part is begun again.
const TRIES: usize = 4;

/// What a query keeps between two entries: its plan and read transaction. The writer takes it away once the log has
/// grown a lot ([`Engine::release`](crate::store::Engine)): a caller that asks for the next entry an hour later must
/// not prevent the reuse of pages all that time.
type Reading = Arc<Mutex<Option<(Plan, Snapshot)>>>;

/// What an entry is checked against before it is returned.
#[derive(Debug, Clone, Copy)]
enum Against {
    Nothing,
    Beside,
    Signed,
}

fn lock(reading: &Reading) -> MutexGuard<'_, Option<(Plan, Snapshot)>> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries that a query finds, in its order, as the log was when the query began. Holds one entry at a time. If a purge takes
/// entries that are still to be read, the iteration ends with an error of the kind [`Busy`](ErrorKind::Busy) (R102).
///
/// Each entry is checked against the log before it is returned (R82). An entry that differs from what was recorded
/// gives an error of the kind [`Damaged`](ErrorKind::Damaged) that names it ([`Error::seq`](crate::Error::seq)), and
/// the caller can go on to the entries after it. If the tree is not the one that was signed, that is reported once, and
/// the entries follow. If something cannot be read, the iteration ends after the error.
#[derive(Debug)]
#[must_use = "entries are read as they are asked for"]
pub(crate) struct Hits {
    log: OpenStore,
    query: Query,
    /// Entries from this seq on were recorded after the query began.
    size: u64,
    /// Where it began.
    from: Option<u64>,
    at: Option<u64>,
    served: u64,
    /// Whether it may begin at a later moment, as long as nothing was returned.
    fresh: bool,
    reading: Reading,
    seen: u64,
    /// Whether a decision rests on the result: then the index is checked against the chain.
    decides: bool,
    against: Against,
    /// Entries that the query could lack. Each is reported once the query has passed it.
    unplaced: Vec<u64>,
    /// Set once it was reported that the tree is not the one that was signed. Holds the entry that follows the report.
    told: Option<Option<Entry>>,
    /// Whether the iteration can continue after the last error.
    goes_on: bool,
    /// What else the query asks of each entry.
    conditions: Prepared,
    /// After how many entries that are not meant it pauses.
    patience: Option<u64>,
    /// Whether it has paused: there may be more.
    paused: bool,
}

impl OpenStore {
    /// The entries that `query` asks for.
    pub(crate) fn query(&self, query: &Query) -> Result<Hits> {
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
            from: at,
            at,
            served: 0,
            fresh: true,
            reading: Reading::default(),
            seen: 0,
            decides: false,
            against: Against::Signed,
            unplaced: Vec::new(),
            told: None,
            goes_on: false,
            conditions: query.conditions.prepared(),
            patience: None,
            paused: false,
        })
    }

    /// Goes on with a query where another [`Hits`] has stopped.
    pub(crate) fn query_on(&self, query: &Query, cursor: Cursor) -> Result<Hits> {
        let Cursor { size, from, at, served, told } = cursor;
        let hits = self.query(query)?;
        Ok(Hits { size: size.min(hits.size), from, at, served, fresh: false, told: told.then_some(None), ..hits })
    }

    /// Like [`AuditLog::query`], for decisions that rest on what is found and what is not (R75).
    ///
    /// # Errors
    /// `Damaged` also if the index is not the one that the chain names.
    pub(crate) fn query_held(&self, query: &Query) -> Result<Hits> {
        Ok(Hits { decides: true, ..self.query(query)?.beside() })
    }

    /// How many entries `query` finds; its limit counts.
    pub(crate) fn count(&self, query: &Query) -> Result<u64> {
        self.of_one_moment(|| self.count_once(query))
    }

    /// The result of `read`, which is begun again if a purge came in between: nobody has seen any of it (R102).
    pub(super) fn of_one_moment<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let size = self.size();
            let done = read().and_then(|done| {
                let now = self.engine().snapshot_of_entries()?;
                guarded(|| now.check_same_moment(size, 0..=u64::MAX)).map(|()| done)
            });
            match done {
                Err(e) if e.kind() == ErrorKind::Busy && tries > 0 => self.engine().wait_published(),
                done => return done,
            }
        }
    }

    fn count_once(&self, query: &Query) -> Result<u64> {
        // Taken first: a purge that comes later makes the count begin again.
        let purged = self.engine().purged();
        let mut hits = self.query(query)?;
        guarded(|| {
            let mut count = 0;
            let cell = hits.reading.clone();
            let reading = &mut *lock(&cell);
            while let Some(seq) = hits.next_seq(reading)? {
                let Some((plan, snapshot)) = reading else { break };
                // Without conditions, only at the ends of a time range does it take the entry to say whether it is meant.
                let there = match plan.is_timed(seq) && !hits.query.conditions.any() {
                    true => !purged.contains(seq),
                    false => hits.meant(snapshot, seq)?.is_some(),
                };
                hits.served += u64::from(there);
                count += u64::from(there);
            }
            hits.lacking().map_or(Ok(count), |seq| Err(not_placed(seq)))
        })
    }
}

/// Where a query has stopped, for whoever goes on with it. Whatever it says, no entry is found by it that the query does not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    /// Entries from this seq on were not there when the query began.
    size: u64,
    /// Where it began.
    from: Option<u64>,
    at: Option<u64>,
    served: u64,
    /// That the tree is not the one that was signed was said.
    told: bool,
}

impl Cursor {
    /// The number of entries that were there when the query began.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many seqs a query has passed here, and of how many.
    pub(crate) fn passed(&self, newest_first: bool) -> (u64, u64) {
        let from = self.from.unwrap_or_default();
        match newest_first {
            true => (from.saturating_sub(self.at.unwrap_or_default()), from.saturating_add(1)),
            false => (self.at.unwrap_or(self.size).saturating_sub(from), self.size.saturating_sub(from)),
        }
    }
}

impl Hits {
    /// Where to go on.
    pub(crate) fn cursor(&self) -> Cursor {
        let Hits { size, from, at, served, .. } = *self;
        Cursor { size, from, at, served, told: self.told.is_some() }
    }

    /// Whether a part of the answer is not told by the cursor, so that this must go on itself.
    pub(crate) fn stays(&self) -> bool {
        self.at.is_none() || matches!(self.told, Some(Some(_)))
    }

    /// Returns the entries as they are stored, even if they differ from what was recorded: for callers that also
    /// [verify](AuditLog::verify) the whole log and report the result.
    pub(crate) fn stored(self) -> Hits {
        Hits { against: Against::Nothing, ..self }
    }

    /// Checks the entries only against the hash stored beside them: for summaries, which must also work if the tree is
    /// not the one that was signed.
    pub(crate) fn beside(self) -> Hits {
        Hits { against: Against::Beside, ..self }
    }

    /// Pauses after this many entries that were read and are not meant, again and again, so that whoever waits can be told how far it
    /// is: the iteration ends although [`Hits::has_paused`].
    pub(crate) fn pausing(self, after: u64) -> Hits {
        Hits { patience: Some(after), ..self }
    }

    /// Whether the iteration has only paused.
    pub(crate) fn has_paused(&self) -> bool {
        self.paused
    }

    /// How many seqs it has passed, and of how many.
    pub(crate) fn passed(&self) -> (u64, u64) {
        self.cursor().passed(self.query.newest_first)
    }

    /// Leaves out the entries from `size` on.
    pub(super) fn within(mut self, size: u64) -> Hits {
        self.size = self.size.min(size);
        self.fresh = false;
        self
    }

    /// Begins at the present moment, once.
    fn restart(&mut self) {
        self.fresh = false;
        self.seen = 0;
        self.size = self.log.size();
        if self.query.after.is_none() && self.query.newest_first {
            (self.from, self.at) = (self.size.checked_sub(1), self.size.checked_sub(1));
        }
    }

    fn direction(&self) -> Direction {
        if self.query.newest_first { Direction::Down } else { Direction::Up }
    }

    /// The first and the last time of the query; `None` without a time range. For an empty range, the first is after
    /// the last.
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

    /// The next seq that all facets agree on; its entry may be purged.
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
                    // What is decided is about what is there now.
                    snapshot.hold_index()?;
                } else {
                    let rest = if self.query.newest_first { 0..=at } else { at..=u64::MAX };
                    let same = snapshot.check_same_moment(self.size, rest);
                    if same.is_err() && self.seen == 1 && self.fresh {
                        // Nothing was returned yet, so the answer can begin now.
                        self.log.engine().wait_published();
                        self.restart();
                        continue;
                    }
                    same?;
                }
                if self.seen == 1 && matches!(self.against, Against::Signed) {
                    self.unplaced = snapshot.unplaced();
                    let from = self.from.unwrap_or(at);
                    self.unplaced.retain(|seq| if self.query.newest_first { *seq <= from } else { *seq >= from });
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

    /// An entry that the query has passed and could lack.
    fn lacking(&mut self) -> Option<u64> {
        let at = self.at;
        let passed = |seq: u64| at.is_none_or(|at| if self.query.newest_first { seq > at } else { seq < at });
        let place = self.unplaced.iter().position(|seq| passed(*seq))?;
        Some(self.unplaced.remove(place))
    }

    /// Reads and checks an entry that was found; `None` if it is gone or not meant.
    fn meant(&mut self, snapshot: &Snapshot, seq: u64) -> Result<Option<Entry>> {
        if self.unplaced.contains(&seq) {
            return Ok(None);
        }
        let found = snapshot.find_beside(seq);
        let found = found.map_err(|e| if e.kind() == ErrorKind::Damaged { e.about(seq) } else { e });
        self.goes_on = found.as_ref().is_err_and(|e| e.seq().is_some());
        let Some((entry, hash)) = found? else { return Ok(None) };
        let standing = match self.against {
            Against::Nothing => Standing::Right,
            Against::Beside => snapshot.check_against(&entry, hash).map_or_else(Standing::Other, |()| Standing::Right),
            Against::Signed => snapshot.standing(&entry, hash)?,
        };
        let inside = |(since, last)| (since..=last).contains(&entry.timestamp().nanos());
        let wanted = self.time().is_none_or(inside) && self.conditions.fit(&entry);
        match standing {
            Standing::Other(e) => {
                self.goes_on = true;
                Err(e)
            }
            _ if !wanted => Ok(None),
            Standing::OtherTree(e) if self.told.is_none() => {
                self.goes_on = true;
                self.served += 1;
                self.told = Some(Some(entry));
                Err(e)
            }
            Standing::Right | Standing::OtherTree(_) => Ok(Some(entry)),
        }
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        if let Some(entry) = self.told.as_mut().and_then(Option::take) {
            return Ok(Some(entry));
        }
        let cell = self.reading.clone();
        let reading = &mut *lock(&cell);
        let mut left = self.patience;
        while let Some(seq) = self.next_seq(reading)? {
            let Some((_, snapshot)) = reading else { break };
            if let Some(entry) = self.meant(snapshot, seq)? {
                self.served += 1;
                return Ok(Some(entry));
            }
            left = left.map(|left| left.saturating_sub(1));
            if left == Some(0) {
                self.paused = true;
                return Ok(None);
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
        (self.goes_on, self.paused) = (false, false);
        let step = guarded(|| self.step()).transpose();
        if matches!(step, Some(Err(_))) && !self.goes_on {
            // After an error that ends the iteration, nothing is read again.
            self.at = None;
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use crate::host::ManualClock;
    use crate::store::OpenStore;
    use crate::store::look_ups;
    use crate::{Options, Query, ToolCall};
    use std::sync::Arc;
    use std::time::Duration;

    /// The story: a count with a time range read, rebuilt and hashed every entry that it counted, and a question by time alone all
    /// entries that no index batch covered yet. Only the entries of the zones at the ends of the range are read.
    #[test]
    fn a_time_range_is_counted_without_reading_what_lies_in_it() {
        let clock = Arc::new(ManualClock::at("2025-03-01T09:00:00Z".parse().unwrap()));
        let start = crate::host::Clock::now(&*clock);
        let log: OpenStore = Options::new().clock(clock).store_in_memory().unwrap();
        let at = |n: u64| start.plus(Duration::from_secs(n));
        let call = |n: u64| ToolCall::new("c", format!("u{}", n % 5), "look").timestamp(at(n));
        let record = |from: u64, to: u64| drop(log.record_batch((from..to).map(call)).unwrap());
        record(0, 8_000);
        let query = |from: u64, to: u64| Query::new().tool("look").since(at(from)).until(at(to));
        // In memory the time of each entry is known.
        let (looked_up, count) = look_ups(|| log.count(&query(1_000, 7_500)).unwrap());
        assert_eq!(count, 6_500);
        assert!(looked_up < 60, "{looked_up} look-ups");
        log.flush_index().unwrap();
        record(8_000, 9_000);
        let (looked_up, count) = look_ups(|| log.count(&query(1_000, 8_500)).unwrap());
        assert_eq!(count, 7_500);
        assert!(looked_up < 900, "{looked_up} look-ups");
        for (from, to) in [(0, 9_000), (17, 18), (255, 7_999), (7_999, 8_001), (8_100, 8_200), (9_000, 9_999), (5, 5)] {
            let wanted = to.min(9_000) - from.min(9_000);
            assert_eq!(log.count(&query(from, to)).unwrap(), wanted, "{from}..{to}");
            assert_eq!(log.count(&query(from, to).newest_first()).unwrap(), wanted, "{from}..{to}");
            assert_eq!(log.count(&query(from, to).limit(3)).unwrap(), wanted.min(3), "{from}..{to}");
            let alone = || Query::new().since(at(from)).until(at(to));
            let calls = |query: &Query| {
                log.query(query).unwrap().filter(|entry| entry.as_ref().unwrap().call().is_some()).count()
            };
            assert_eq!(calls(&alone()) as u64, wanted, "{from}..{to}");
            assert_eq!(calls(&alone().newest_first()) as u64, wanted, "{from}..{to}");
        }
    }
}

//! Following the log: newly recorded entries, for code that shows them, alerts on them or sends them on.
//!
//! Invariant H4: a follower sees each entry that it asked for once, in order, and only after it is on the disk. It is a
//! cursor, not a subscription: a slow follower falls behind and catches up, at no cost to the writer or to memory.

use crate::{AuditLog, Entry, ErrorKind, Query, Result};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// How much is read at a time. No snapshot of the store is held while a follower waits or its owner is busy, because a
/// long-lived reader keeps the file from reusing its free pages.
const CHUNK_ENTRIES: usize = 128;
const CHUNK_BYTES: usize = 1 << 20;

impl AuditLog {
    /// Follows the log from the entry at `from` on: first the entries that exist, then each new one once it is on the disk.
    /// To see only new entries, start at [`AuditLog::size`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let follower = log.follow(log.size()?);
    /// # let writer = log.clone();
    /// std::thread::spawn(move || {
    ///     for entry in follower {
    ///         let Ok(entry) = entry else { break };
    ///         println!("{}", entry.event()); // or hand it to whatever pipeline there is
    ///     }
    /// });
    /// writer.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// log.close()?; // ends the loop
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn follow(&self, from: u64) -> Follower {
        Follower { log: self.clone(), query: Query::new(), next: from, read: VecDeque::new(), failed: false }
    }
}

/// New entries as they are recorded: see [`AuditLog::follow`]. As an iterator it blocks until there is one, and ends when
/// the log is closed through another handle. Entries that it had not read by then can no longer be read through it; they are
/// in the log, from [`Follower::position`] on.
#[must_use = "a follower does nothing unless it is asked"]
pub struct Follower {
    log: AuditLog,
    query: Query,
    /// All entries below this were read.
    next: u64,
    read: VecDeque<Entry>,
    failed: bool,
}

impl Follower {
    /// Only entries that `query` finds. Its order, cursor and limit are ignored.
    pub fn matching(mut self, query: &Query) -> Follower {
        self.query = Query { after: None, limit: None, newest_first: false, ..query.clone() };
        self
    }

    /// The next entry if there is one, without waiting.
    ///
    /// # Errors
    /// As [`AuditLog::query`]; [`Closed`](crate::ErrorKind::Closed) after the log was closed.
    pub fn try_next(&mut self) -> Result<Option<Entry>> {
        if self.read.is_empty() {
            self.read_on()?;
        }
        Ok(self.read.pop_front())
    }

    /// The next entry, waiting at most `at_most` for it; `None` if none came.
    ///
    /// # Errors
    /// As [`Follower::try_next`].
    pub fn next_within(&mut self, at_most: Duration) -> Result<Option<Entry>> {
        self.wait(Some(at_most))
    }

    /// Where to continue later: everything below was returned or does not match.
    pub fn position(&self) -> u64 {
        self.read.front().map_or(self.next, |entry| entry.seq)
    }

    #[allow(clippy::disallowed_methods, reason = "waits for other threads, which run in real time")]
    fn wait(&mut self, at_most: Option<Duration>) -> Result<Option<Entry>> {
        let end = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        loop {
            if let Some(entry) = self.try_next()? {
                return Ok(Some(entry));
            }
            // A new entry may not match; then wait for the rest of the time.
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if !self.log.wait_beyond(self.next, left)? {
                return Ok(None);
            }
        }
    }

    fn read_on(&mut self) -> Result<()> {
        let mut tries = 4;
        loop {
            tries -= 1;
            match self.read_some() {
                // A purge came in between; what it left follows.
                Err(e) if e.kind() == ErrorKind::Busy && tries > 0 => {}
                done => return done,
            }
        }
    }

    fn read_some(&mut self) -> Result<()> {
        let size = self.log.size()?;
        if self.next >= size {
            return Ok(());
        }
        let query = match self.next.checked_sub(1) {
            Some(last) => self.query.clone().after(last),
            None => self.query.clone(),
        };
        let mut bytes = 0;
        for entry in self.log.query(&query)?.take(CHUNK_ENTRIES) {
            let entry = match entry {
                Ok(entry) => entry,
                // Entries that were read are returned first; the error will occur again.
                Err(_) if !self.read.is_empty() => return Ok(()),
                Err(e) => return Err(e),
            };
            self.next = entry.seq + 1;
            bytes += weight(&entry);
            self.read.push_back(entry);
            if bytes > CHUNK_BYTES {
                return Ok(());
            }
        }
        if self.read.len() < CHUNK_ENTRIES {
            self.next = self.next.max(size);
        }
        Ok(())
    }
}

/// The approximate memory that an entry takes.
fn weight(entry: &Entry) -> usize {
    let parts = match (entry.call(), entry.own()) {
        (Some(call), _) => {
            let summary = call.completion.as_ref().and_then(|c| c.result_summary.as_ref());
            [call.arguments.as_ref(), summary].into_iter().flatten().map(|part| part.as_str().len()).sum()
        }
        (_, Some(own)) => own.detail.as_str().len(),
        _ => 0,
    };
    1024 + parts
}

impl Iterator for Follower {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.failed {
            return None;
        }
        match self.wait(None) {
            Err(e) if e.kind() == crate::ErrorKind::Closed => None,
            Err(e) => {
                // A read that failed is not retried.
                self.failed = true;
                Some(Err(e))
            }
            Ok(entry) => entry.map(Ok),
        }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("position", &self.position()).field("query", &self.query).finish()
    }
}

//! Reading: entries, queries, timelines, statistics.

use super::AuditLog;
use crate::query::Cursor;
use crate::query::{Breakdown, Conversations, Group, OlderConversations, Statistics, Step, ToolStatistics, WholeCall};
use crate::requests::{Found, Page};
use crate::verify::Progress;
use crate::{Entry, Query, Result, query, requests};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// After how many entries that were read for nothing the progress of a query is told.
const PATIENCE: u64 = 8192;

impl AuditLog {
    /// The entry at `seq`.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): it was never recorded, or was purged; the message says which.
    /// [`Damaged`](crate::ErrorKind::Damaged): the stored entry is not the one that was recorded.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// assert_eq!(log.entry(receipt.seq)?.call().unwrap().tool_name, "lookup");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn entry(&self, seq: u64) -> Result<Entry> {
        self.ask(requests::GetEntry { seq })
    }

    /// The entries that match `query`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an inverted time range; [`Damaged`](crate::ErrorKind::Damaged):
    /// [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry or row that was read is damaged;
    /// [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// for entry in log.query(&Query::new().user("usr_1").newest_first().limit(10))? {
    ///     println!("{}", entry?.line());
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn query(&self, query: &Query) -> Result<Hits> {
        match self.here()? {
            Some(store) if !store.gives_way() => store.query(query).map(|hits| Hits::of(Source::Here(Box::new(hits)))),
            _ => {
                let ask = Entries { query: query.clone(), as_stored: false };
                Pages::begin(self, ask).map(|pages| Hits::of(Source::Pages(Box::new(pages))))
            }
        }
    }

    /// The number of entries that match `query`, up to its limit.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// assert_eq!(log.count(&Query::new().patient("P-1"))?, 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn count(&self, query: &Query) -> Result<u64> {
        self.ask(requests::Count { query: query.clone() })
    }

    /// The calls of a conversation, in the order in which they were recorded.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed). A conversation that was
    /// never recorded has no calls, which is not an error.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// for step in log.timeline("conv_1")? {
    ///     println!("{}", step?.entry.line());
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn timeline(&self, conversation: &str) -> Result<Timeline> {
        match self.here()? {
            Some(store) if !store.gives_way() => {
                store.timeline(conversation).map(|timeline| Timeline(Steps::Here(Box::new(timeline))))
            }
            _ => {
                let pages = Pages::begin(self, Conversation(conversation.to_owned()))?;
                Ok(Timeline(Steps::Pages(Box::new(pages))))
            }
        }
    }

    /// How tools were used, by name of the tool.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # use attestlog::query::Statistics;
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// let lookups = log.statistics(&Statistics::new())?;
    /// assert_eq!((lookups[0].tool.as_str(), lookups[0].total_calls), ("lookup", 1));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn statistics(&self, of: &Statistics) -> Result<Vec<ToolStatistics>> {
        self.ask(requests::GetStatistics { of: of.clone() })
    }

    /// How groups of calls went: by tool, model, agent, server, user, resource or day.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) also for more groups than [`Breakdown::MOST_GROUPS`], and for a query of other
    /// entries than calls that ended; otherwise as [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// use attestlog::query::{Breakdown, Grouping};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").server("crm").error("no such order"))?;
    /// let by = Breakdown::new([Grouping::Tool, Grouping::Server], Query::new());
    /// let groups = log.breakdown(&by)?;
    /// assert_eq!(groups[0].by, [Some("lookup".to_owned()), Some("crm".to_owned())]);
    /// assert_eq!((groups[0].figures.total_calls, groups[0].errors["tool_error"]), (1, 1));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn breakdown(&self, of: &Breakdown) -> Result<Vec<Group>> {
        self.ask(requests::GetBreakdown { of: of.clone() })
    }

    /// The newest conversations with an entry that matches `query`, newest first, at most `most`; each is told whole.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup").error("no such order"))?;
    /// let failed = log.conversations(&Query::new().failed(), 50)?;
    /// assert_eq!((failed.newest[0].id.as_str(), failed.newest[0].failed), ("conv_1", 1));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn conversations(&self, query: &Query, most: u64) -> Result<Conversations> {
        self.ask(requests::GetConversations { query: query.clone(), most, older: None })
    }

    /// Goes on with a list of conversations where [`Conversations::next`] says that there are older ones. What was recorded since
    /// the list was begun is in its figures, and changes neither its order nor what is in it.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// log.record(ToolCall::new("conv_2", "usr_1", "lookup"))?;
    /// let newest = log.conversations(&Query::new(), 1)?;
    /// let older = log.older_conversations(&Query::new(), 1, newest.next.expect("there are two"))?;
    /// assert_eq!((older.newest[0].id.as_str(), older.next), ("conv_1", None));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn older_conversations(&self, query: &Query, most: u64, older: OlderConversations) -> Result<Conversations> {
        self.ask(requests::GetConversations { query: query.clone(), most, older: Some(older) })
    }

    /// The call that the entry at `seq` is a part of, with all its parts, and with the calls that retried or followed it up.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is none, or it was purged; otherwise as [`AuditLog::query`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let seq = begun.receipt().seq;
    /// begun.finish(|call| call.error("no such order"))?;
    /// let whole = log.whole_call(seq)?;
    /// assert_eq!(whole.parts.len(), 2, "its beginning and its end");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn whole_call(&self, seq: u64) -> Result<WholeCall> {
        self.ask(requests::GetWholeCall { seq })
    }

    /// The number of recorded entries, including system events and purged entries.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) after the store was closed, and in a process forked from the one that opened it.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?;
    /// assert_eq!(log.size()?, 3, "the genesis, the policy and the call");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn size(&self) -> Result<u64> {
        self.ask(requests::Size {})
    }

    /// Waits until the log has more entries than `seen` or is closed, for at most `at_most` if given. Returns `false` on a timeout.
    #[allow(clippy::disallowed_methods, reason = "waits for others, by the time that they run in")]
    pub(crate) fn wait_beyond(&self, seen: u64, at_most: Option<Duration>) -> Result<bool> {
        let end = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        loop {
            if let Some(store) = self.here()? {
                return store.wait_beyond(seen, end.map(|end| end.saturating_duration_since(Instant::now())));
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            // The owner answers within a few seconds.
            if self.ask(requests::WaitBeyond { seen, at_most: left })? {
                return Ok(true);
            }
        }
    }

    /// Of the given seqs, those of calls recorded as never answered. Purged entries are omitted.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Outcome, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let call = ToolCall::new("conv_1", "usr_1", "lookup").outcome(Outcome::Abandoned);
    /// let seq = log.record(call)?.seq;
    /// assert_eq!(log.unanswered(&[0, seq])?, [seq]);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        self.ask(requests::Unanswered { seqs: seqs.to_vec() })
    }
}

/// The entries that match a query, in its order, from a snapshot taken when the query was made. Holds one entry in memory at a
/// time.
///
/// Each entry is checked against the log before it is returned (R82): an entry that is not the one recorded yields an error of the
/// kind [`Damaged`](crate::ErrorKind::Damaged) that names it ([`Error::seq`](crate::Error::seq)), and iteration can continue with
/// the entries after it. If the tree is not the one that was signed, one error says so, and the entries follow. An entry that
/// cannot be read ends the iteration. So does a purge that takes entries which are still to be read: an error of the kind
/// [`Busy`](crate::ErrorKind::Busy) says so, and the query must be asked again (R102).
#[must_use = "entries are read as they are asked for"]
pub struct Hits {
    source: Source,
    told: Option<Progress>,
}

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hits").field(&self.source).finish()
    }
}

#[derive(Debug)]
enum Source {
    Here(Box<query::Hits>),
    Pages(Box<Pages<Entries>>),
}

/// What is asked for page by page.
trait Paged {
    type Item;

    /// The page that begins at the cursor, or the first.
    fn page(&self, log: &AuditLog, from: Option<Cursor>) -> Result<Page<Self::Item>>;
}

/// The entries that match a query.
#[derive(Debug)]
struct Entries {
    query: Query,
    as_stored: bool,
}

impl Paged for Entries {
    type Item = Entry;

    fn page(&self, log: &AuditLog, from: Option<Cursor>) -> Result<Page<Entry>> {
        log.ask(requests::FindEntries { query: self.query.clone(), as_stored: self.as_stored, from })
    }
}

/// The steps of this conversation.
#[derive(Debug)]
struct Conversation(String);

impl Paged for Conversation {
    type Item = Step;

    fn page(&self, log: &AuditLog, from: Option<Cursor>) -> Result<Page<Step>> {
        log.ask(requests::GetTimeline { conversation: self.0.clone(), from })
    }
}

/// The owner's results, a page at a time. The first page fixes the snapshot for all pages, even if another process takes over as
/// owner.
#[derive(Debug)]
struct Pages<P: Paged> {
    log: AuditLog,
    of: P,
    /// Received, not yet returned.
    found: VecDeque<Found<P::Item>>,
    /// Where the first page began; `next` is where the next page begins.
    first: Cursor,
    next: Option<Cursor>,
}

impl<P: Paged> Pages<P> {
    fn begin(log: &AuditLog, of: P) -> Result<Pages<P>> {
        let Page { found, first, next } = of.page(log, None)?;
        Ok(Pages { log: log.clone(), of, found: found.into(), first, next })
    }

    fn next_on_page(&mut self) -> Option<Result<P::Item>> {
        self.found.pop_front().map(Found::result)
    }

    /// Fetches the next page, if there is one. A failed request is returned, and ends the iteration.
    fn turn(&mut self) -> Option<Result<P::Item>> {
        let from = self.next.take()?;
        match self.of.page(&self.log, Some(from)) {
            Ok(Page { found, next, .. }) => (self.found, self.next) = (found.into(), next),
            Err(e) => return Some(Err(e)),
        }
        None
    }

    fn next(&mut self) -> Option<Result<P::Item>> {
        loop {
            if let Some(found) = self.next_on_page() {
                return Some(found);
            }
            self.next?;
            if let Some(failed) = self.turn() {
                return Some(failed);
            }
        }
    }
}

impl Pages<Entries> {
    fn passed(&self) -> (u64, u64) {
        self.next.map_or((0, 0), |next| next.passed(self.of.query.newest_first))
    }

    /// Starts again from the beginning of the same snapshot.
    fn stored(mut self) -> Pages<Entries> {
        self.of.as_stored = true;
        (self.found, self.next) = (VecDeque::new(), Some(self.first));
        self
    }
}

impl Hits {
    /// The same entries as stored, without checking that they are those that were recorded: for callers that also
    /// [verify](AuditLog::verify) the whole log and report its findings.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query, ToolCall, verify::VerifyOptions};
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let entries = log.query(&Query::new())?.as_stored().collect::<attestlog::Result<Vec<_>>>()?;
    /// let verification = log.verify(&VerifyOptions::new())?;
    /// println!("{} entries; {} findings", entries.len(), verification.findings.len());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn as_stored(self) -> Hits {
        let source = match self.source {
            Source::Here(hits) => Source::Here(Box::new(hits.stored())),
            Source::Pages(pages) => Source::Pages(Box::new(pages.stored())),
        };
        Hits { source, ..self }
    }

    /// Tells `progress` from time to time how many seqs the query has passed, and how many it will pass: for those that read every
    /// entry, such as [`Query::containing`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Query};
    /// # let log = AuditLog::in_memory()?;
    /// let rare = log.query(&Query::new().containing("order 59XX6W"))?;
    /// let found = rare.telling(std::sync::Arc::new(|done, all| eprintln!("{done} of {all}")));
    /// assert_eq!(found.count(), 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn telling(self, progress: Progress) -> Hits {
        let source = match self.source {
            Source::Here(hits) => Source::Here(Box::new(hits.pausing(PATIENCE))),
            pages => pages,
        };
        Hits { source, told: Some(progress) }
    }

    fn of(source: Source) -> Hits {
        Hits { source, told: None }
    }
}

impl Iterator for Hits {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            let ((done, all), next) = match &mut self.source {
                Source::Here(hits) => match hits.next() {
                    None if hits.has_paused() => (hits.passed(), None),
                    next => return next,
                },
                Source::Pages(pages) => match pages.next_on_page() {
                    None if pages.next.is_some() => (pages.passed(), pages.turn()),
                    next => return next,
                },
            };
            if let Some(told) = &self.told {
                told(done, all);
            }
            if next.is_some() {
                return next;
            }
        }
    }
}

/// The calls of a conversation, in the order in which they were recorded. A purge ends it as it ends [`Hits`].
#[derive(Debug)]
pub struct Timeline(Steps);

#[derive(Debug)]
enum Steps {
    Here(Box<query::Timeline>),
    Pages(Box<Pages<Conversation>>),
}

impl Iterator for Timeline {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        match &mut self.0 {
            Steps::Here(timeline) => timeline.next(),
            Steps::Pages(pages) => pages.next(),
        }
    }
}

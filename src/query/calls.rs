//! Which entries are one call, and how it went: the one rule by which timelines, reports, exports and statistics count.
//!
//! Invariant R42: a call counts once. Its beginning, its end, late answers, details and the entries of further patients are parts
//! of it.
//! It failed if it ended and neither its end nor a late answer says that it succeeded. A call without an end has neither failed
//! nor succeeded: it is unfinished.

use crate::Entry;
use attestlog_proof::entry::{Call, Phase};
use std::collections::{HashMap, HashSet};

/// What an entry is to its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// A call, or the first entry of one. An end is the first entry if the beginning is not among the entries.
    First,
    /// The end of the call whose first entry is at this seq.
    End(u64),
    /// A late answer to the call whose first entry is at this seq.
    LateAnswer(u64),
    /// Further patients of the call in the entry at this seq.
    Patients(u64),
    /// Details that another source told of the call in the entry at this seq.
    Detail(u64),
    /// A late answer to a call that is not among the entries.
    Alone,
}

/// Adds up calls from their entries, which come in order of seq. Entries are added with [`Calls::take`].
///
/// ```
/// # use attestlog::{AuditLog, Query, ToolCall};
/// use attestlog::query::Calls;
/// # let log = AuditLog::in_memory()?;
/// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "lookup"))?;
/// begun.finish(|call| call.error("no such order"))?;
/// let mut calls = Calls::new();
/// for entry in log.query(&Query::new())? {
///     calls.take(&entry?);
/// }
/// assert_eq!((calls.calls(), calls.failed(), calls.unfinished()), (1, 1, 0));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Calls {
    calls: u64,
    late_answers: u64,
    alone: u64,
    begun: HashSet<u64>,
    /// The first entries of calls that failed so far.
    failed: HashSet<u64>,
    /// The first entry of its call, for each failed end and each late answer: what a late answer can follow.
    first: HashMap<u64, u64>,
}

impl Calls {
    /// No calls yet.
    pub fn new() -> Calls {
        Calls::default()
    }

    /// Adds an entry; returns what it is to its call, or `None` if it is not about a call.
    pub fn take(&mut self, entry: &Entry) -> Option<Part> {
        let call = entry.call()?;
        Some(self.part(entry.seq, call))
    }

    fn part(&mut self, seq: u64, call: &Call) -> Part {
        if !call.adds_to_call() {
            return self.own(seq, call);
        }
        if let Some(of) = call.detail_of() {
            return Part::Detail(of);
        }
        let follows = call.follows.unwrap_or(seq);
        if !call.late_answer {
            return Part::Patients(follows);
        }
        let Some(&first) = self.first.get(&follows) else {
            // What follows it is told with it.
            self.first.insert(seq, seq);
            self.alone += 1;
            return Part::Alone;
        };
        self.first.insert(seq, first);
        self.late_answers += 1;
        if call.success() == Some(true) {
            self.failed.remove(&first);
        }
        Part::LateAnswer(first)
    }

    fn own(&mut self, seq: u64, call: &Call) -> Part {
        let (first, part) = match call.phase {
            Phase::Begun => {
                self.begun.insert(seq);
                self.calls += 1;
                return Part::First;
            }
            Phase::Finished(begun) if self.begun.remove(&begun) => (begun, Part::End(begun)),
            // Details are no calls; they do not come here.
            Phase::Finished(_) | Phase::Whole | Phase::Detail(_) => {
                self.calls += 1;
                (seq, Part::First)
            }
        };
        if call.success() == Some(false) {
            self.failed.insert(first);
            self.first.insert(seq, first);
        }
        part
    }

    /// The number of calls, unfinished ones included.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The number of calls that failed.
    pub fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// The number of calls without an end.
    pub fn unfinished(&self) -> u64 {
        self.begun.len() as u64
    }

    /// The number of late answers to these calls.
    pub fn late_answers(&self) -> u64 {
        self.late_answers
    }

    /// The number of late answers to calls that are not among the entries.
    pub fn alone(&self) -> u64 {
        self.alone
    }
}

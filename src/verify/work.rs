//! Distributes the work: several threads read segments and compare batches, and the results are handed over on the
//! caller's thread.
//!
//! Segments are started and handed over in the order of the log. A batch whose segments have all been read is compared
//! in parts. Comparing is postponed while there are segments to read, so that threads have work while the last segments
//! are being read. It is not postponed once a second batch is complete: that bounds the number of entries in memory.

use super::batch::{Batch, Compared, Outcome, Part};
use super::segment::{self, Indexed, Segment, Span, VerifyInputs};
use crate::Result;
use crate::store::guarded;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The maximum number of segments per thread that have been started and not yet handed over.
const AHEAD: usize = 4;

/// A result that is handed over.
pub(super) enum Done {
    /// The next segment.
    Segment(Box<Segment>),
    /// A batch whose segments have all been read, compared with the index.
    Batch(Outcome),
}

/// Reads and compares these ranges of the log, each with whether it is a batch of the index. Runs `besides` on one of
/// the threads.
pub(super) fn run(
    inputs: &VerifyInputs<'_>,
    threads: usize,
    stretches: &[(Range<u64>, bool)],
    besides: impl FnOnce() + Send,
    mut take: impl FnMut(Done),
) -> Result<()> {
    let spans: Vec<Span> = stretches.iter().flat_map(|(range, indexed)| Span::within(range, *indexed)).collect();
    let batches = stretches.iter().filter(|(_, indexed)| *indexed).count();
    let work = Work {
        inputs,
        ahead: AHEAD * threads,
        state: Mutex::new(State { to_compare: batches, ..State::default() }),
        changed: Condvar::new(),
        spans,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            besides();
            work.help();
        });
        for _ in 1..threads.min(work.spans.len()) {
            scope.spawn(|| work.help());
        }
        let _stop = Stop(&work);
        while let Some(done) = work.next()? {
            take(done);
        }
        Ok(())
    })
}

struct Work<'a> {
    inputs: &'a VerifyInputs<'a>,
    spans: Vec<Span>,
    ahead: usize,
    state: Mutex<State<'a>>,
    /// Signalled when there may be something to do.
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    /// How many segments were started, and how many were handed over.
    begun: usize,
    taken: usize,
    /// Segments that wait for those before them, by number.
    read: BTreeMap<usize, Result<Box<Segment>>>,
    /// What the index should say about batches whose segments have not all been read, by the batch's first seq.
    partial: BTreeMap<u64, BTreeMap<u64, Indexed>>,
    /// The parts of complete batches that are still to be compared.
    parts: VecDeque<(Arc<Complete<'a>>, usize, Part)>,
    /// How many complete batches have not been compared in full.
    complete: usize,
    /// Batches that were compared and not yet handed over.
    compared: Vec<Result<Outcome>>,
    /// How many batches have not been handed over.
    to_compare: usize,
    /// Set when no more results are needed.
    stopped: bool,
}

/// A complete batch, and the results of the parts that were compared.
struct Complete<'a> {
    batch: Batch<'a>,
    parts: Mutex<BTreeMap<usize, Result<Compared>>>,
}

/// What a thread does next.
enum Task<'a> {
    Read(usize, Span),
    Compare(Arc<Complete<'a>>, usize, Part),
}

/// Stops the threads when it is dropped, also if the caller's `take` panics.
struct Stop<'w, 'a>(&'w Work<'a>);

impl Drop for Stop<'_, '_> {
    fn drop(&mut self) {
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }
}

impl<'a> Work<'a> {
    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next result; `None` when everything was handed over.
    fn next(&self) -> Result<Option<Done>> {
        let mut state = self.state();
        loop {
            let next = state.taken;
            if let Some(segment) = state.read.remove(&next) {
                state.taken += 1;
                self.changed.notify_all();
                return segment.map(|segment| Some(Done::Segment(segment)));
            }
            if let Some(outcome) = state.compared.pop() {
                state.to_compare -= 1;
                return outcome.map(|outcome| Some(Done::Batch(outcome)));
            }
            if next == self.spans.len() && state.to_compare == 0 {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Does tasks until there are no more.
    fn help(&self) {
        while let Some(task) = self.task() {
            match task {
                Task::Read(number, span) => {
                    let segment = guarded(|| segment::read(self.inputs, &span));
                    self.read(number, &span, segment);
                }
                Task::Compare(complete, nth, part) => {
                    let compared = guarded(|| complete.batch.compare(part));
                    self.compared(&complete, nth, compared);
                }
            }
            self.changed.notify_all();
        }
    }

    fn task(&self) -> Option<Task<'a>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let number = state.begun;
            let span = self.spans.get(number).filter(|_| number < state.taken + self.ahead);
            let part = if span.is_none() || state.complete > 1 { state.parts.pop_front() } else { None };
            if let Some((complete, nth, part)) = part {
                return Some(Task::Compare(complete, nth, part));
            }
            if let Some(span) = span {
                state.begun += 1;
                return Some(Task::Read(number, span.clone()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self, number: usize, span: &Span, segment: Result<Segment>) {
        let (segment, indexed) = match segment {
            Ok(mut segment) => {
                let indexed = segment.indexed.take();
                (Ok(Box::new(segment)), indexed)
            }
            Err(e) => (Err(e), None),
        };
        let mut state = self.state();
        state.read.insert(number, segment);
        let Some(indexed) = indexed else { return };
        let first = span.stretch.start;
        let segments = state.partial.entry(first).or_default();
        segments.insert(span.range.start, indexed);
        if segments.len() < Span::within(&span.stretch, true).count() {
            return;
        }
        let segments = state.partial.remove(&first).unwrap_or_default().into_values().collect();
        let batch = Batch::new(self.inputs, span.stretch.clone(), segments);
        let complete = Arc::new(Complete { batch, parts: Mutex::default() });
        state.complete += 1;
        state.parts.extend(Batch::parts().enumerate().map(|(nth, part)| (complete.clone(), nth, part)));
    }

    fn compared(&self, complete: &Complete<'a>, nth: usize, compared: Result<Compared>) {
        let mut parts = complete.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(nth, compared);
        if parts.len() < Batch::parts().count() {
            return;
        }
        let parts = std::mem::take(&mut *parts).into_values();
        let outcome = guarded(|| Ok(complete.batch.outcome(parts.collect::<Result<_>>()?)));
        let mut state = self.state();
        state.complete -= 1;
        state.compared.push(outcome);
    }
}

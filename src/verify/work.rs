//! Who does what: segments are read and batches compared on several threads, and what they turn out to be is handed over on the
//! caller's.
//!
//! Pieces are begun and handed over in the order of the log. A batch whose segments are all read is compared in parts. These are
//! put off while there are segments to be read, so that whoever would wait for the last segment has something to do, but not
//! until a second batch is complete: at most so many entries are in memory.

use super::batch::{Batch, Compared, Outcome, Part};
use super::segment::{self, Indexed, Segment, Span, VerifyInputs};
use crate::Result;
use crate::store::guarded;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// At most how many segments a thread are read and not yet handed over.
const AHEAD: usize = 4;

/// What is handed over.
pub(super) enum Done {
    /// The next segment.
    Segment(Box<Segment>),
    /// A batch of which all segments were read.
    Batch(Outcome),
}

/// Reads and compares these stretches of the log, each with whether the index covers it, as one batch. Does `besides` on one of
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
    /// Somebody may have something to do.
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    /// How many segments were begun, and how many handed over.
    begun: usize,
    taken: usize,
    /// Pieces that wait for those before them, by number.
    read: BTreeMap<usize, Result<Box<Segment>>>,
    /// What the segments of batches say that are not all read, by the batch's first seq.
    partial: BTreeMap<u64, BTreeMap<u64, Indexed>>,
    /// What is to be compared of complete batches.
    parts: VecDeque<(Arc<Complete<'a>>, usize, Part)>,
    /// How many complete batches are not compared.
    complete: usize,
    /// Batches that were compared and not handed over.
    compared: Vec<Result<Outcome>>,
    /// How many batches have not been handed over.
    to_compare: usize,
    /// Nobody needs any more.
    stopped: bool,
}

/// A batch that is compared, and its parts that were.
struct Complete<'a> {
    batch: Batch<'a>,
    parts: Mutex<BTreeMap<usize, Result<Compared>>>,
}

/// What a thread does next.
enum Task<'a> {
    Read(usize, Span),
    Compare(Arc<Complete<'a>>, usize, Part),
}

/// Sends the threads home, also when what was handed over was too much for whoever took it.
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

    /// What comes next; nothing when all was handed over.
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

    /// Does what there is to do until there is nothing more.
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

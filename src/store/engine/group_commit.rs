//! Group commit: callers queue up, and one of them, the leader, commits for all that wait, then hands the lead on.
//!
//! Invariant T1: at any time at most one thread holds the writer lock. Invariant T2: a thread that queued up gets its answer
//! or the lead, whatever happens to the others; even a leader that panics hands the lead on. Each waiting thread parks
//! separately, so that ending the lead wakes only the threads that have a reason to wake.

// `loom/` explores every interleaving of these threads.
#[cfg(loom)]
use loom::{
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, Thread},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, Thread},
};

/// The queue of waiting callers. `B` is a batch to commit, `A` the answer.
#[derive(Debug)]
pub(crate) struct GroupCommit<B, A> {
    queue: Mutex<Queue<B, A>>,
}

#[derive(Debug)]
struct Queue<B, A> {
    waiting: Vec<Arc<Waiter<B, A>>>,
    taken: bool,
    /// How many batches the last leader took besides its own.
    crowd: usize,
}

/// How many consecutive scheduler yields without a new arrival a leader waits. A yield costs less than a microsecond if no
/// other thread wants to run, and otherwise lets all others run.
const IDLE: usize = if cfg!(loom) { 1 } else { 64 };

#[derive(Debug)]
struct Waiter<B, A> {
    thread: Thread,
    state: Mutex<Waiting<B, A>>,
}

#[derive(Debug)]
enum Waiting<B, A> {
    /// Wants this batch committed by the leader.
    Batch(B),
    /// Wants the lead itself.
    Leader,
    /// A leader is working on the batch.
    InWork,
    Answered(A),
    /// The lead was handed to this thread, with its own batch, if it had one, still to do.
    Leads(Option<B>),
    /// The leader panicked while it had the batch.
    Lost,
}

/// A batch that a leader took from the queue, to be answered. Dropped without an answer, it counts as lost.
#[derive(Debug)]
pub(crate) struct Taken<B, A> {
    pub batch: Option<B>,
    waiter: Option<Arc<Waiter<B, A>>>,
}

impl<B, A> Taken<B, A> {
    pub(crate) fn answer(mut self, answer: A) {
        self.settle(Waiting::Answered(answer));
    }

    fn settle(&mut self, state: Waiting<B, A>) {
        if let Some(waiter) = self.waiter.take() {
            *lock(&waiter.state) = state;
            waiter.thread.unpark();
        }
    }
}

impl<B, A> Drop for Taken<B, A> {
    fn drop(&mut self) {
        self.settle(Waiting::Lost);
    }
}

/// The lead, which includes the writer lock. Dropping it hands it on.
#[derive(Debug)]
pub(crate) struct Leader<'a, B, A>(&'a GroupCommit<B, A>);

/// The result of queueing a batch.
pub(crate) enum Outcome<'a, B, A> {
    /// Another thread committed it.
    Answered(A),
    /// This thread is the leader, and the batch is still to do.
    Lead(Leader<'a, B, A>, B),
    /// The thread that had taken the batch panicked.
    Lost,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B, A> Default for GroupCommit<B, A> {
    fn default() -> Self {
        GroupCommit { queue: Mutex::new(Queue { waiting: Vec::new(), taken: false, crowd: 0 }) }
    }
}

impl<B, A> GroupCommit<B, A> {
    /// Queues a batch.
    pub(crate) fn submit(&self, batch: B) -> Outcome<'_, B, A> {
        let waiter = {
            let mut queue = lock(&self.queue);
            if !queue.taken {
                queue.taken = true;
                return Outcome::Lead(Leader(self), batch);
            }
            queue.join(Waiting::Batch(batch))
        };
        loop {
            let mut state = lock(&waiter.state);
            match std::mem::replace(&mut *state, Waiting::InWork) {
                Waiting::Answered(answer) => return Outcome::Answered(answer),
                Waiting::Leads(Some(batch)) => return Outcome::Lead(Leader(self), batch),
                Waiting::Leads(None) | Waiting::Lost => return Outcome::Lost,
                other => *state = other,
            }
            drop(state);
            thread::park();
        }
    }

    /// Queues for the lead itself.
    pub(crate) fn take(&self) -> Leader<'_, B, A> {
        let waiter = {
            let mut queue = lock(&self.queue);
            if !queue.taken {
                queue.taken = true;
                return Leader(self);
            }
            queue.join(Waiting::Leader)
        };
        while !matches!(*lock(&waiter.state), Waiting::Leads(_)) {
            thread::park();
        }
        Leader(self)
    }

    /// The number of waiting threads.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }
}

impl<B, A> Queue<B, A> {
    fn join(&mut self, state: Waiting<B, A>) -> Arc<Waiter<B, A>> {
        let waiter = Arc::new(Waiter { thread: thread::current(), state: Mutex::new(state) });
        self.waiting.push(waiter.clone());
        waiter
    }
}

impl<B, A> Leader<'_, B, A> {
    /// Waits briefly for callers that were answered just now: a group of threads that record one call at a time returns
    /// within a fraction of a commit's duration, and would otherwise split into two halves that wait for each other. A leader
    /// that was alone the last time does not wait.
    fn gather(&self) {
        let (mut here, wanted) = {
            let queue = lock(&self.0.queue);
            (queue.waiting.len(), queue.crowd)
        };
        let mut idle = 0;
        while here < wanted && idle < IDLE {
            thread::yield_now();
            let now = self.0.waiting();
            idle = if now > here { 0 } else { idle + 1 };
            here = now;
        }
    }

    /// Takes the waiting batches in order of arrival. Threads that wait for the lead itself keep waiting.
    pub(crate) fn batches(&self) -> Vec<Taken<B, A>> {
        self.gather();
        let mut taken = Vec::new();
        let mut queue = lock(&self.0.queue);
        queue.waiting.retain(|waiter| {
            let mut state = lock(&waiter.state);
            match std::mem::replace(&mut *state, Waiting::InWork) {
                Waiting::Batch(batch) => {
                    taken.push(Taken { batch: Some(batch), waiter: Some(waiter.clone()) });
                    false
                }
                other => {
                    *state = other;
                    true
                }
            }
        });
        queue.crowd = taken.len();
        taken
    }
}

impl<B, A> Drop for Leader<'_, B, A> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        if queue.waiting.is_empty() {
            queue.taken = false;
            return;
        }
        let next = queue.waiting.remove(0);
        let mut state = lock(&next.state);
        *state = match std::mem::replace(&mut *state, Waiting::InWork) {
            Waiting::Batch(batch) => Waiting::Leads(Some(batch)),
            _ => Waiting::Leads(None),
        };
        drop(state);
        next.thread.unpark();
    }
}

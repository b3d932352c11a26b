//! Group commit: callers queue up, one of them commits for all that wait, then hands the turn on.
//!
//! Invariant T1: at any time at most one thread has the turn. Invariant T2: a thread that queued up gets its answer or
//! the turn, whatever happens to the others; the turn is handed on even by a thread that panics while it has it.
//! Waiting threads park on their own, so that ending a turn wakes only those who have reason to wake.

// `loom/` plays every order in which these threads can run.
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

/// The queue of those who want something written. `J` is what they want, `A` the answer.
#[derive(Debug)]
pub(crate) struct Turns<J, A> {
    queue: Mutex<Queue<J, A>>,
}

#[derive(Debug)]
struct Queue<J, A> {
    waiting: Vec<Arc<Place<J, A>>>,
    taken: bool,
    /// How many jobs the last leader took besides its own.
    crowd: usize,
}

/// For how many turns of the scheduler a leader waits that bring nobody. Each costs less than a microsecond where nobody else
/// wants to run, and lets all others run where somebody does.
const IDLE: usize = if cfg!(loom) { 1 } else { 64 };

#[derive(Debug)]
struct Place<J, A> {
    thread: Thread,
    state: Mutex<Waiting<J, A>>,
}

#[derive(Debug)]
enum Waiting<J, A> {
    /// Wants this done by whoever has the turn.
    Job(J),
    /// Wants the turn itself.
    Turn,
    /// A leader works on the job.
    InWork,
    Answered(A),
    /// The turn was handed to this thread; its job, if it had one, is still its own.
    Leads(Option<J>),
    /// The leader died with the job.
    Lost,
}

/// What a leader took out of the queue: jobs, each to be answered. Dropped unanswered, they count as lost.
#[derive(Debug)]
pub(crate) struct Taken<J, A> {
    pub job: Option<J>,
    place: Option<Arc<Place<J, A>>>,
}

impl<J, A> Taken<J, A> {
    pub(crate) fn answer(mut self, answer: A) {
        self.settle(Waiting::Answered(answer));
    }

    fn settle(&mut self, state: Waiting<J, A>) {
        if let Some(place) = self.place.take() {
            *lock(&place.state) = state;
            place.thread.unpark();
        }
    }
}

impl<J, A> Drop for Taken<J, A> {
    fn drop(&mut self) {
        self.settle(Waiting::Lost);
    }
}

/// The turn. Dropping it hands it on.
#[derive(Debug)]
pub(crate) struct Turn<'a, J, A>(&'a Turns<J, A>);

/// How queueing for a job ended.
pub(crate) enum Outcome<'a, J, A> {
    /// Another thread did it.
    Answered(A),
    /// It is this thread's turn, and the job is still to do.
    Lead(Turn<'a, J, A>, J),
    /// The thread that had taken the job died.
    Lost,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J, A> Default for Turns<J, A> {
    fn default() -> Self {
        Turns { queue: Mutex::new(Queue { waiting: Vec::new(), taken: false, crowd: 0 }) }
    }
}

impl<J, A> Turns<J, A> {
    /// Queues up with a job.
    pub(crate) fn submit(&self, job: J) -> Outcome<'_, J, A> {
        let place = {
            let mut queue = lock(&self.queue);
            if !queue.taken {
                queue.taken = true;
                return Outcome::Lead(Turn(self), job);
            }
            queue.join(Waiting::Job(job))
        };
        loop {
            let mut state = lock(&place.state);
            match std::mem::replace(&mut *state, Waiting::InWork) {
                Waiting::Answered(answer) => return Outcome::Answered(answer),
                Waiting::Leads(Some(job)) => return Outcome::Lead(Turn(self), job),
                Waiting::Leads(None) | Waiting::Lost => return Outcome::Lost,
                other => *state = other,
            }
            drop(state);
            thread::park();
        }
    }

    /// Queues up for the turn itself.
    pub(crate) fn take(&self) -> Turn<'_, J, A> {
        let place = {
            let mut queue = lock(&self.queue);
            if !queue.taken {
                queue.taken = true;
                return Turn(self);
            }
            queue.join(Waiting::Turn)
        };
        while !matches!(*lock(&place.state), Waiting::Leads(_)) {
            thread::park();
        }
        Turn(self)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }
}

impl<J, A> Queue<J, A> {
    fn join(&mut self, state: Waiting<J, A>) -> Arc<Place<J, A>> {
        let place = Arc::new(Place { thread: thread::current(), state: Mutex::new(state) });
        self.waiting.push(place.clone());
        place
    }
}

impl<J, A> Turn<'_, J, A> {
    /// Lets those come who were answered just now: a crowd that records one by one is back within a fraction of the time
    /// that a commit takes, and would otherwise be cut in two halves that wait for each other's. Who was alone the last
    /// time does not wait.
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

    /// Takes the jobs that wait now, in the order in which they came. Who waits for the turn itself goes on waiting.
    pub(crate) fn jobs(&self) -> Vec<Taken<J, A>> {
        self.gather();
        let mut taken = Vec::new();
        let mut queue = lock(&self.0.queue);
        queue.waiting.retain(|place| {
            let mut state = lock(&place.state);
            match std::mem::replace(&mut *state, Waiting::InWork) {
                Waiting::Job(job) => {
                    taken.push(Taken { job: Some(job), place: Some(place.clone()) });
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

impl<J, A> Drop for Turn<'_, J, A> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        if queue.waiting.is_empty() {
            queue.taken = false;
            return;
        }
        let next = queue.waiting.remove(0);
        let mut state = lock(&next.state);
        *state = match std::mem::replace(&mut *state, Waiting::InWork) {
            Waiting::Job(job) => Waiting::Leads(Some(job)),
            _ => Waiting::Leads(None),
        };
        drop(state);
        next.thread.unpark();
    }
}

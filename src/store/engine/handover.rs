//! The threads that hand checkpoints to anchors.
//!
//! One thread looks for what is due and starts one thread for each anchor, so that no anchor waits for another. It starts with
//! the first checkpoint, or when the store is opened and something is owed. They reach the log only through [`Log`].

use crate::anchor::{Anchor, AnchorQueue, AnchorReceipt};
use crate::host::Clock;
use crate::note::SignedCheckpoint;
use crate::store::file::panic_guard::guarded;
use crate::store::options::AnchorOptions;
use crate::{Error, ErrorKind, Hash, Result};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

/// However long a wait, so often somebody looks: clocks can be set.
const AT_MOST: Duration = Duration::from_secs(60);

/// What the threads need of the log whose checkpoints they hand over.
pub(crate) trait Log: fmt::Debug + Send + Sync {
    /// The newest checkpoint of at most this size.
    fn newest_checkpoint(&self, size: u64) -> Result<SignedCheckpoint>;

    /// The proof that the log of size `of` begins with that of size `old`.
    fn consistency(&self, old: u64, of: u64) -> Result<Vec<Hash>>;

    /// Writes down how handing over went: what is still owed, what the anchor gave, and its time where it counts.
    fn settle_anchor(
        &self,
        anchor: &dyn Anchor,
        name: &str,
        taken: Option<(SignedCheckpoint, AnchorReceipt)>,
    ) -> Result<()>;
}

/// What the threads share that hand over checkpoints.
#[derive(Debug)]
pub(crate) struct Anchoring {
    pub(crate) options: AnchorOptions,
    /// Those that are at hand now.
    pub(crate) anchors: RwLock<Vec<Arc<dyn Anchor>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) queue: AnchorQueue,
    /// Once the store is open.
    pub(crate) store: Option<Weak<dyn Log>>,
    pub(crate) started: bool,
    pub(crate) stop: bool,
    /// How many checkpoints are being handed over.
    pub(crate) busy: usize,
    /// How many threads use the store right now.
    pub(crate) inside: usize,
}

impl Anchoring {
    pub(crate) fn new(options: AnchorOptions, clock: Arc<dyn Clock>) -> Arc<Anchoring> {
        let anchors = RwLock::new(options.anchors.clone());
        Arc::new(Anchoring { options, anchors, clock, state: Mutex::default(), changed: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn anchors(&self) -> RwLockReadGuard<'_, Vec<Arc<dyn Anchor>>> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn at_hand(&self, name: &str) -> Option<Arc<dyn Anchor>> {
        self.anchors().iter().find(|anchor| anchor.name() == name).cloned()
    }

    /// Starts the thread that looks what is due, once.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.started && !state.stop && !self.anchors().is_empty() {
            let this = self.clone();
            let spawned = std::thread::Builder::new().name("attestlog-anchors".to_owned()).spawn(move || this.run());
            // Without a thread everything stays owed, and the next checkpoint tries again.
            state.started = spawned.is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn run(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.lock();
                loop {
                    if state.stop {
                        return;
                    }
                    let now = self.clock.now();
                    let due = state.queue.due_of(now, |name| self.at_hand(name).is_some());
                    if !due.is_empty() {
                        state.busy += due.len();
                        break due;
                    }
                    let next = state.queue.next_due_of(|name| self.at_hand(name).is_some());
                    let wait = next.map_or(AT_MOST, |at| at.since(now)).clamp(Duration::from_millis(1), AT_MOST);
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            };
            for due in due {
                let this = self.clone();
                let (name, size) = (due.anchor.clone(), due.size);
                let thread = std::thread::Builder::new().name("attestlog-anchor".to_owned());
                let spawned = thread.spawn(move || {
                    this.hand_over(&name, size);
                    this.lock().busy -= 1;
                    this.changed.notify_all();
                });
                if let Err(e) = spawned {
                    let mut state = self.lock();
                    state.queue.failed(&due.anchor, self.clock.now(), &e.into());
                    state.busy -= 1;
                }
            }
        }
    }

    /// Runs `work` with the store, unless it is being closed.
    pub(crate) fn inside<T>(&self, work: impl FnOnce(&dyn Log) -> Result<T>) -> Result<T> {
        let closed = || Error::new(ErrorKind::Closed, "the store was closed");
        let store = {
            let mut state = self.lock();
            let store = if state.stop { None } else { state.store.as_ref().and_then(Weak::upgrade) };
            let store = store.ok_or_else(closed)?;
            state.inside += 1;
            store
        };
        let done = guarded(|| work(&*store));
        drop(store);
        self.lock().inside -= 1;
        self.changed.notify_all();
        done
    }

    pub(crate) fn hand_over(&self, name: &str, size: u64) {
        let Some(anchor) = self.at_hand(name) else { return };
        let signed = self.inside(|log| log.newest_checkpoint(size));
        let taken = signed.and_then(|signed| {
            let of = signed.checkpoint().size();
            let consistency = |old: u64| -> Result<Vec<Hash>> { self.inside(|log| log.consistency(old, of)) };
            // An anchor of the host's may panic; that is a failure like any other.
            guarded(|| anchor.submit(&signed, &consistency)).map(|receipt| (signed, receipt))
        });
        let now = self.clock.now();
        match &taken {
            Ok((_, receipt)) => self.lock().queue.succeeded(name, now, receipt.at),
            Err(e) => self.lock().queue.failed(name, now, e),
        }
        // Where this fails it was not written down, and is handed over once more after the next start.
        let _ = self.inside(|log| log.settle_anchor(anchor.as_ref(), name, taken.ok()));
    }

    /// Waits until everything at hand was tried, at most for `at_most`; says whether nothing is owed to them any more.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, which run in real time")]
    pub(crate) fn flush(self: &Arc<Self>, at_most: Duration) -> bool {
        self.start();
        let end = Instant::now().checked_add(at_most);
        let mut state = self.lock();
        loop {
            let next = state.queue.next_due_of(|name| self.at_hand(name).is_some());
            let idle = next.is_none_or(|at| at > self.clock.now()) && state.busy == 0;
            let left = end.map_or(AT_MOST, |end| end.saturating_duration_since(Instant::now()));
            if idle || !state.started || left.is_zero() {
                return next.is_none() && state.busy == 0;
            }
            state = self.changed.wait_timeout(state, left.min(AT_MOST)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the threads; waits only for one that is using the store, not for one that waits for an answer.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        self.changed.notify_all();
        while state.inside > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is owed once a checkpoint of this size is signed, as `meta` keeps it; `None` without any anchor.
    pub(crate) fn owe(&self, size: u64) -> Option<String> {
        let mut state = self.lock();
        state.queue.owe(size, self.clock.now());
        (state.queue.status().len() > 0).then(|| state.queue.to_json().to_canonical().to_string())
    }
}

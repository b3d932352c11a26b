//! Wakes the background thread, and those who follow the log; knows who delivers alerts.

use crate::Result;
use crate::host::Clock;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Delivers the alerts of this store to its configured receivers.
pub(crate) trait Delivers: fmt::Debug + Send + Sync {
    /// From now on delivers to the receivers of this text, in place of those that were configured before.
    fn deliver_to(&self, receivers: &str) -> Result<()>;
}

/// Who delivers alerts in this process, if anybody does.
#[derive(Debug, Default)]
pub(crate) struct Delivering(Mutex<Option<Weak<dyn Delivers>>>);

impl Delivering {
    /// The newest engine delivers.
    pub(crate) fn begin(&self, engine: Weak<dyn Delivers>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine);
    }

    /// The running engine.
    pub(crate) fn now(&self) -> Option<Arc<dyn Delivers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }
}

/// Wakes the thread for background work.
#[derive(Debug, Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WorkState {
    wanted: bool,
    stop: bool,
    /// When the current interval of timed work began, by the store's monotonic clock.
    since: Option<Duration>,
    /// A process that recorded has disconnected: what it recorded is to be signed.
    sign: bool,
}

/// What the background thread has to do besides work that it finds due itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The interval has passed, so a checkpoint is due.
    pub(crate) timed: bool,
    /// A checkpoint was requested.
    pub(crate) sign: bool,
}

impl Work {
    pub(crate) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.changed.notify_all();
    }

    /// Requests a checkpoint without waiting for it. Concurrent requests share one.
    #[cfg(feature = "owner")]
    pub(crate) fn sign(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sign = true;
        self.changed.notify_all();
    }

    /// Whether `at_most` has passed since the timed work was last done. The background thread wakes by real time, which is
    /// also the time of the store's clock unless a test has set another clock.
    pub(crate) fn is_timed(&self, at_most: Duration, clock: &dyn Clock) -> bool {
        let since = self.state.lock().unwrap_or_else(PoisonError::into_inner).since;
        since.is_some_and(|since| clock.monotonic().saturating_sub(since) >= at_most)
    }

    /// Waits until there is work, or until `at_most` has passed since timed work was last due; returns the work, or `None`
    /// when it is time to stop. The interval also ends in a store that is never idle.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, which run in real time")]
    pub(crate) fn wait(&self, at_most: Duration, clock: &dyn Clock) -> Option<Wanted> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *state.since.get_or_insert_with(|| clock.monotonic());
        let timed = loop {
            let left = at_most.saturating_sub(clock.monotonic().saturating_sub(since));
            if left.is_zero() || state.wanted || state.sign || state.stop {
                break left.is_zero();
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        if timed {
            state.since = None;
        }
        state.wanted = false;
        let sign = std::mem::take(&mut state.sign);
        (!state.stop).then_some(Wanted { timed, sign })
    }
}

/// Wakes those who follow the log. Each follower checks for itself what is new, so nothing is stored here that would grow
/// with their number.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Mutex<()>,
    changed: Condvar,
}

impl News {
    /// Signals news: newer entries, or the store was closed.
    pub(crate) fn tell(&self) {
        drop(self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `seen` returns something, at most for `at_most` if given.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, which run in real time")]
    pub(crate) fn wait<T>(&self, at_most: Option<Duration>, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
        // Checked under the lock, so that no signal is lost between checking and waiting.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let end = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        loop {
            if let Some(found) = seen() {
                return Some(found);
            }
            told = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(told).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

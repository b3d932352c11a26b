//! Waking those who work in the background, and those who follow the log.

use crate::host::Clock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wakes the thread that does what nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WorkState {
    wanted: bool,
    stop: bool,
    /// Since when what is done by time has not been, by the store's monotonic clock.
    since: Option<Duration>,
    /// Whoever recorded has gone: what it recorded is to be signed.
    sign: bool,
}

/// What the background thread has to do besides what it finds to be due.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// So much time has passed that a checkpoint is due.
    pub(crate) timed: bool,
    /// A checkpoint was asked for.
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

    /// Asks for a checkpoint, without waiting for it. Many that ask at a time get one.
    #[cfg(feature = "owner")]
    pub(crate) fn sign(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sign = true;
        self.changed.notify_all();
    }

    /// Whether `at_most` has passed since what is done by time was last done. The thread wakes for it by the time that
    /// threads run in, which is that of the store's clock unless a test has set another one.
    pub(crate) fn is_timed(&self, at_most: Duration, clock: &dyn Clock) -> bool {
        let since = self.state.lock().unwrap_or_else(PoisonError::into_inner).since;
        since.is_some_and(|since| clock.monotonic().saturating_sub(since) >= at_most)
    }

    /// Waits until there is something to do, or `at_most` has passed since it last had; says what, and nothing when it is
    /// time to stop. A store that is never idle has its time too.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
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

/// Wakes those who follow the log. Whoever waits looks for himself what there is to see, so nothing is kept here that
/// would grow with them.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Mutex<()>,
    changed: Condvar,
}

impl News {
    /// There is something to see: newer entries, or the store was closed.
    pub(crate) fn tell(&self) {
        drop(self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `seen` says that there is something, at most for `at_most` where that is given.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(crate) fn wait<T>(&self, at_most: Option<Duration>, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
        // Looked at under the lock, so that nothing is told between looking and waiting.
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

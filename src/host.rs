//! What the log takes from the machine: the time and random bytes. Both can be replaced, so that a host's tests and this
//! crate's own control the time and get the same bytes in every run.

use crate::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A source of time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The system clock: it may be wrong, and may be set back.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment while this process runs; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

#[allow(clippy::disallowed_methods, reason = "the one place where the machine is asked for the time")]
impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(Instant::now())
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place where the machine is asked for the time")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        chrono::Utc::now().try_into().unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still until it is moved; for tests.
///
/// ```
/// use attestlog::host::{Clock, ManualClock};
/// let clock = ManualClock::at("2025-01-01".parse()?);
/// clock.advance(std::time::Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2025-01-01T00:01:00Z");
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock(Mutex::new((now, Duration::ZERO)))
    }

    /// Lets time pass, as it does while a machine runs: both clocks advance.
    pub fn advance(&self, by: Duration) {
        let mut both = self.lock();
        *both = (both.0.plus(by), both.1 + by);
    }

    /// Sets the system clock, as an administrator or an attacker does: the monotonic clock stays where it is.
    pub fn set(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.lock().1
    }
}

/// A source of random bytes.
pub trait Random: Debug + Send + Sync + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Default)]
pub struct SystemRandom;

#[allow(clippy::disallowed_methods, reason = "the one place where the machine is asked for randomness")]
impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        // Linux, macOS and Windows never refuse once they have booted. If a system does, guessable salts must not be
        // recorded as if they were random, so it is asked again until it answers.
        while getrandom::fill(out).is_err() {
            std::thread::yield_now();
        }
    }
}

/// A generator that gives the same bytes for the same seed; for tests, never for a store that matters.
#[derive(Debug)]
pub struct SeededRandom(Mutex<(u64, u64)>);

impl SeededRandom {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(Mutex::new((seed, 0)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(32) {
            let digest =
                Sha256::new().chain_update(state.0.to_be_bytes()).chain_update(state.1.to_be_bytes()).finalize();
            state.1 += 1;
            chunk.copy_from_slice(&digest[..chunk.len()]);
        }
    }
}

//! Runs the engine in the background: one thread evaluates, one per receiver delivers, and, if requested, one verifies.
//! All wake up when something was recorded.

use super::deliver::Delivery;
use super::engine::{AlertEngine, Run};
use super::listing::Alert;
use super::tampering::verify;
use crate::anchor::Backoff;
use crate::store::{Delivers, OpenStore};
use crate::verify::VerifyOptions;
use crate::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Threads wake up at least this often, however quiet the log is: clocks can be set.
const AT_MOST: Duration = Duration::from_secs(60);
/// The wait after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// The state of an engine in the background.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStatus {
    /// The number of entries that were evaluated since it was started.
    pub evaluated: u64,
    /// The number of alerts that it raised.
    pub raised: u64,
    /// The number of deliveries that receivers took.
    pub delivered: u64,
    /// Why evaluation failed last, until it succeeds.
    pub last_error: Option<String>,
    /// Why each receiver failed last, until it succeeds.
    pub failing: BTreeMap<String, String>,
    /// The number of entries that could not be read.
    pub unreadable: u64,
    /// The number of counts that were forgotten before their time, because there were too many.
    pub forgotten: u64,
    /// The number of findings of the last scheduled verification; `None` before the first.
    pub findings: Option<u64>,
}

#[derive(Debug, Default)]
struct Common {
    stop: AtomicBool,
    status: Mutex<EngineStatus>,
    /// The size up to which the log has been evaluated.
    evaluated: AtomicU64,
    /// The receivers, each served by a thread of its own.
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Alerts that the log could not record, in order, each once.
    unrecorded: Mutex<Vec<Alert>>,
    /// Whether somebody waits for the fields above.
    finishing: AtomicBool,
    /// The number of running threads.
    alive: AtomicUsize,
}

/// A receiver that is being served.
#[derive(Debug)]
#[cfg_attr(not(feature = "config"), allow(dead_code, reason = "only receivers that are configured change"))]
struct Lane {
    name: String,
    /// Whether it is one of those that are configured beside the store, and not the host's own.
    configured: bool,
    /// Whether another receiver has replaced it.
    stop: AtomicBool,
    /// The size of the log at the last delivery attempt.
    tried: AtomicU64,
}

impl Common {
    fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unrecorded(&self) -> MutexGuard<'_, Vec<Alert>> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes alerts that the log could not record on to receivers.
    fn tell(&self, log: &OpenStore, alerts: Vec<Alert>) {
        let mut unrecorded = self.unrecorded();
        for alert in alerts {
            // The same alert is passed on once. A process cannot find so many different ones that this list grows long.
            if !unrecorded.iter().any(|known| known.id == alert.id) {
                unrecorded.push(alert);
            }
        }
        drop(unrecorded);
        log.engine().jobs.news.tell();
    }

    /// Wakes up whoever waits in [`RunningEngine::finish`].
    fn said(&self, log: &OpenStore) {
        if self.finishing.load(Ordering::SeqCst) {
            log.engine().jobs.news.tell();
        }
    }

    fn status(&self) -> MutexGuard<'_, EngineStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the log is larger than `seen`, the time is up or the engine stops; returns false if it stops.
    fn wait(&self, log: &OpenStore, seen: u64, at_most: Duration) -> bool {
        self.wait_for(log, at_most, &|| log.size() > seen, &|| false)
    }

    /// Waits until there is news, the time is up, or the engine or this thread (`ended`) must stop; returns false if it
    /// must stop.
    fn wait_for(
        &self,
        log: &OpenStore,
        at_most: Duration,
        is_news: &dyn Fn() -> bool,
        ended: &dyn Fn() -> bool,
    ) -> bool {
        let engine = log.engine();
        let over = || self.stop.load(Ordering::SeqCst) || ended() || engine.is_closed();
        engine.jobs.news.wait(Some(at_most), || (over() || is_news()).then_some(()));
        !over()
    }
}

/// A running engine. Dropping it stops it; the next engine evaluates what this one has not.
#[derive(Debug)]
#[must_use = "the engine stops when this is dropped"]
pub struct RunningEngine {
    running: Arc<Running>,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "config"), allow(dead_code, reason = "only receivers that are configured change"))]
struct Running {
    log: OpenStore,
    common: Arc<Common>,
    backoff: Backoff,
    /// Whether standard output is used for something else than alerts.
    stdout_is_taken: bool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl AlertEngine {
    /// Starts it in the background.
    ///
    /// # Errors
    /// The cursor of a receiver that the store does not know yet could not be recorded; or [`Io`](ErrorKind::Io): no
    /// thread could be started.
    pub fn start(mut self) -> Result<RunningEngine> {
        let log = self.log.clone();
        let common = Arc::new(Common::default());
        let running = Arc::new(Running {
            log: log.clone(),
            common: common.clone(),
            backoff: self.backoff,
            stdout_is_taken: self.stdout_is_taken,
            threads: Mutex::default(),
        });
        let engine = RunningEngine { running: running.clone() };
        running.tell(std::mem::take(&mut self.deliveries))?;
        if let Some(every) = self.verify_every {
            let (log, common, source) = (log.clone(), common.clone(), self.source().clone());
            running.spawn(move || {
                // Woken by time only, not by what is recorded.
                while common.wait(&log, u64::MAX, every) {
                    let mut unrecorded = Vec::new();
                    match verify(&log, &source.newest(&log), &VerifyOptions::new().threads(1), &mut unrecorded) {
                        Ok(verification) => common.status().findings = Some(verification.findings.len() as u64),
                        Err(e) => common.status().last_error = Some(e.to_string()),
                    }
                    common.tell(&log, unrecorded);
                }
            })?;
        }
        running.spawn(move || evaluate(self, &common))?;
        let delivers: Arc<dyn Delivers> = running;
        log.engine().jobs.delivering.begin(Arc::downgrade(&delivers));
        Ok(engine)
    }
}

impl Running {
    /// Starts a thread for each of these receivers.
    fn tell(&self, deliveries: Vec<Delivery>) -> Result<()> {
        for mut delivery in deliveries {
            match delivery.begin(&self.log) {
                // If nothing may be recorded, neither may this cursor. It is tried again, and the receiver is owed what
                // comes from here on.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                begun => _ = begun?,
            }
            let (name, configured) = (delivery.name().to_owned(), delivery.is_configured());
            let lane = Arc::new(Lane { name, configured, stop: AtomicBool::new(false), tried: AtomicU64::new(0) });
            self.common.lanes().push(lane.clone());
            let (log, common, backoff) = (self.log.clone(), self.common.clone(), self.backoff);
            self.spawn(move || deliver(&log, &common, &lane, delivery, backoff))?;
        }
        Ok(())
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let (log, common) = (self.log.clone(), self.common.clone());
        common.alive.fetch_add(1, Ordering::SeqCst);
        let counted = move || {
            // Decrements the number of running threads however the work ends.
            let _leaves = Leaves(log, common);
            work();
        };
        let spawned = Builder::new().name("attestlog-alerts".to_owned()).spawn(counted)?;
        self.threads().push(spawned);
        Ok(())
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "config")]
impl Delivers for Running {
    /// A delivery in progress to one of the earlier receivers is left to finish, and is repeated to a new one of the same name.
    fn deliver_to(&self, receivers: &str) -> Result<()> {
        let receivers = super::Receivers::from_toml(receivers, "the receivers")?;
        for receiver in &receivers.0 {
            if let super::To::File(path) = &receiver.to {
                self.log.engine().check_configured(crate::files::absolute(path)?, crate::files::Writes::Alerts)?;
            }
        }
        let receivers = receivers.open(self.stdout_is_taken);
        let mut names = Vec::new();
        self.common.lanes().retain(|lane| {
            lane.stop.fetch_or(lane.configured, Ordering::SeqCst);
            names.extend((!lane.configured).then(|| lane.name.clone()));
            !lane.configured
        });
        self.common.status().failing.retain(|name, _| names.contains(name));
        self.log.engine().jobs.news.tell();
        // Forget the threads that have ended; the others are joined when the engine stops.
        self.threads().retain(|thread| !thread.is_finished());
        let mut deliveries = Vec::new();
        for receiver in receivers {
            let delivery = Delivery::new(receiver, true, &names);
            names.push(delivery.name().to_owned());
            deliveries.push(delivery);
        }
        self.tell(deliveries)
    }
}

#[cfg(not(feature = "config"))]
impl Delivers for Running {
    fn deliver_to(&self, _: &str) -> Result<()> {
        Err(crate::Error::invalid("receivers cannot be configured in this build: it needs the feature `config`"))
    }
}

impl RunningEngine {
    /// The current state.
    pub fn status(&self) -> EngineStatus {
        self.running.common.status().clone()
    }

    /// Lets it evaluate everything recorded so far and try each receiver once, and stops it: for a program that is
    /// about to exit. Waits for `at_most` in all. The next engine does what is left; a delivery that is still in
    /// progress is left to finish and is repeated later. Returns the final state.
    pub fn finish(self, at_most: Duration) -> EngineStatus {
        let Running { log, common, .. } = &*self.running;
        let engine = log.engine();
        if !engine.config.process.is_this() {
            return EngineStatus::default();
        }
        let begun = engine.config.clock.monotonic();
        let left = || at_most.saturating_sub(engine.config.clock.monotonic().saturating_sub(begun));
        common.finishing.store(true, Ordering::SeqCst);
        let wait = |but: Duration, done: &dyn Fn() -> bool| {
            let time = left().saturating_sub(but);
            engine.jobs.news.wait(Some(time), || (done() || common.alive.load(Ordering::SeqCst) == 0).then_some(()))
        };
        // A thread that is not done in time stops and records its progress, which takes time as well.
        let winding_up = at_most / 8;
        let size = log.size();
        wait(winding_up, &|| common.evaluated.load(Ordering::SeqCst) >= size);
        // Including the alerts that the evaluation raised.
        let size = log.size();
        wait(winding_up, &|| common.lanes().iter().all(|lane| lane.tried.load(Ordering::SeqCst) >= size));
        common.stop.store(true, Ordering::SeqCst);
        engine.jobs.news.tell();
        wait(Duration::ZERO, &|| false);
        let status = self.status();
        if common.alive.load(Ordering::SeqCst) > 0 {
            // The remaining threads are not joined; they find the log closed.
            self.running.threads().clear();
        }
        status
    }

    /// Stops it and waits until its threads are done: at most as long as a delivery takes.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        let Running { log, common, .. } = &*self.running;
        // Others may ask for a change of the receivers just now; a thread that is started for that ends at once.
        let threads = std::mem::take(&mut *self.running.threads());
        if !log.engine().config.process.is_this() {
            // The threads do not exist in this process.
            std::mem::forget(threads);
            return;
        }
        common.stop.store(true, Ordering::SeqCst);
        log.engine().jobs.news.tell();
        for thread in threads {
            // A panic in the thread was contained there; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Decrements the number of running threads when it is dropped.
struct Leaves(OpenStore, Arc<Common>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.1.alive.fetch_sub(1, Ordering::SeqCst);
        self.0.engine().jobs.news.tell();
    }
}

fn evaluate(mut engine: AlertEngine, common: &Common) {
    let mut seen = 0;
    let mut at_most = Duration::ZERO;
    while common.wait(&engine.log, seen, at_most) {
        seen = engine.log.size();
        let mut run = Run::default();
        let done = engine.evaluate(&mut run, &|| !common.stop.load(Ordering::SeqCst));
        if done.is_ok() {
            common.evaluated.store(seen, Ordering::SeqCst);
            common.said(&engine.log);
        }
        let mut status = common.status();
        status.evaluated += run.evaluated;
        status.raised += run.raised;
        (status.unreadable, status.forgotten) = engine.losses();
        status.last_error = done.as_ref().err().map(|e| e.to_string());
        drop(status);
        if !run.unrecorded.is_empty() {
            common.tell(&engine.log, run.unrecorded);
        }
        let now = engine.log.engine().config.clock.now();
        at_most = match done {
            Err(e) if e.kind() == ErrorKind::Closed => return,
            Err(_) => {
                seen = u64::MAX;
                RETRY
            }
            Ok(()) => {
                let due = engine.next_due(now).map_or(AT_MOST, |due| due.since(now)).min(AT_MOST);
                engine.cursor_due().map_or(due, |cursor| cursor.min(due))
            }
        };
    }
    // If this fails, a few entries are evaluated again.
    let _ = engine.persist();
}

fn deliver(log: &OpenStore, common: &Common, lane: &Lane, mut delivery: Delivery, backoff: Backoff) {
    let (mut seen, mut heard, mut told) = (0, 0, 0);
    let mut at_most = Duration::ZERO;
    let ended = || lane.stop.load(Ordering::SeqCst);
    while common.wait_for(log, at_most, &|| log.size() > seen || common.unrecorded().len() > heard, &ended) {
        (seen, heard) = (log.size(), common.unrecorded().len());
        let seen_now = seen;
        at_most = AT_MOST;
        let name = delivery.name().to_owned();
        // First the alerts that the log could not record: in that case it records nothing else either.
        let unrecorded = common.unrecorded().get(told..heard).map(<[_]>::to_vec).unwrap_or_default();
        let not_told = unrecorded.iter().find_map(|alert| delivery.tell(alert).map(|()| told += 1).err());
        let failed = match delivery.pump(log, backoff) {
            Ok((done, failed)) => {
                common.status().delivered += done;
                if let Some(retry) = delivery.retry_at() {
                    at_most = retry.saturating_sub(log.engine().config.clock.monotonic()).min(AT_MOST);
                }
                failed
            }
            Err(e) if e.kind() == ErrorKind::Closed => return,
            Err(e) => {
                (seen, at_most) = (u64::MAX, RETRY);
                Some(e)
            }
        };
        if not_told.is_some() {
            at_most = at_most.min(backoff.first);
        }
        let mut status = common.status();
        match failed.or(not_told) {
            _ if ended() => return,
            Some(e) => _ = status.failing.insert(name, e.to_string()),
            None if delivery.retry_at().is_none() => _ = status.failing.remove(&name),
            None => {}
        }
        drop(status);
        lane.tried.store(seen_now, Ordering::SeqCst);
        common.said(log);
    }
}

//! The engine in the background: one thread evaluates, one for each receiver delivers, one verifies where that was asked
//! for. All wake when something was recorded.

use super::deliver::Delivery;
use super::engine::{AlertEngine, Run, verify};
use crate::anchor::Backoff;
use crate::{AuditLog, ErrorKind, Result, VerifyOptions};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// However quiet the log is, so often somebody looks: clocks can be set.
const AT_MOST: Duration = Duration::from_secs(60);
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// How an engine in the background is getting on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStatus {
    /// Entries that rules looked at since it was started.
    pub evaluated: u64,
    /// Alerts that it raised.
    pub raised: u64,
    /// Deliveries that were taken.
    pub delivered: u64,
    /// Why evaluation failed last, until it succeeds.
    pub last_error: Option<String>,
    /// Why each receiver failed last, until it succeeds.
    pub failing: BTreeMap<String, String>,
    /// Entries that could not be read.
    pub unreadable: u64,
    /// Counts that were forgotten before their time, because there were too many.
    pub forgotten: u64,
    /// Findings of the last scheduled verification; `None` before the first.
    pub findings: Option<u64>,
}

#[derive(Debug, Default)]
struct Common {
    stop: AtomicBool,
    status: Mutex<EngineStatus>,
    /// How large the log was that rules have looked at to its end.
    evaluated: AtomicU64,
    /// How large the log was when each receiver was tried last; deliveries are threads like any other and in their order.
    tried: Vec<AtomicU64>,
    /// Somebody waits for what is above.
    finishing: AtomicBool,
    /// Threads at work.
    alive: AtomicUsize,
}

impl Common {
    /// Wakes whoever waits for the end.
    fn said(&self, log: &AuditLog) {
        if self.finishing.load(Ordering::SeqCst) {
            log.engine().jobs.news.tell();
        }
    }

    fn status(&self) -> MutexGuard<'_, EngineStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is more than `seen`, or it is time, or over; says whether it is not over.
    fn wait(&self, log: &AuditLog, seen: u64, at_most: Duration) -> bool {
        let engine = log.engine();
        let over = || self.stop.load(Ordering::SeqCst) || engine.is_closed();
        engine.jobs.news.wait(Some(at_most), || (over() || log.size() > seen).then_some(()));
        !over()
    }
}

/// An engine at work. Dropping it stops it; what it has not looked at then, the next one does.
#[derive(Debug)]
#[must_use = "the engine stops when this is dropped"]
pub struct RunningEngine {
    log: AuditLog,
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
}

impl AlertEngine {
    /// Starts it in the background.
    ///
    /// # Errors
    /// What the store says to a receiver that it does not know yet; what the system says to a new thread.
    pub fn start(mut self) -> Result<RunningEngine> {
        let log = self.log.clone();
        let tried = self.deliveries.iter().map(|_| AtomicU64::new(0)).collect();
        let common = Arc::new(Common { tried, ..Common::default() });
        let mut running = RunningEngine { log: log.clone(), common: common.clone(), threads: Vec::new() };
        for (place, mut delivery) in std::mem::take(&mut self.deliveries).into_iter().enumerate() {
            delivery.begin(&log)?;
            let (log, common, backoff) = (log.clone(), common.clone(), self.backoff);
            running.spawn(move || deliver(&log, &common, place, delivery, backoff))?;
        }
        if let Some(every) = self.verify_every {
            let (log, common, rules) = (log.clone(), common.clone(), self.rules().clone());
            running.spawn(move || {
                // Not by what is recorded, only by time.
                while common.wait(&log, u64::MAX, every) {
                    match verify(&log, &rules, &VerifyOptions::new().threads(1)) {
                        Ok(verification) => common.status().findings = Some(verification.findings.len() as u64),
                        Err(e) => common.status().last_error = Some(e.to_string()),
                    }
                }
            })?;
        }
        running.spawn(move || evaluate(self, &common))?;
        Ok(running)
    }
}

impl RunningEngine {
    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let (log, common) = (self.log.clone(), self.common.clone());
        common.alive.fetch_add(1, Ordering::SeqCst);
        let counted = move || {
            // However it ends, it is counted off.
            let _leaves = Leaves(log, common);
            work();
        };
        let spawned = Builder::new().name("attestlog-alerts".to_owned()).spawn(counted)?;
        self.threads.push(spawned);
        Ok(())
    }

    /// How it is getting on.
    pub fn status(&self) -> EngineStatus {
        self.common.status().clone()
    }

    /// Lets it look at all that is recorded by now and try each receiver once, and stops it: for a program that is about to
    /// end. It waits for `at_most` in all. What was not done by then the next engine does; a delivery that is still under
    /// way is left to itself, and told again. Says how it got on.
    pub fn finish(mut self, at_most: Duration) -> EngineStatus {
        let engine = self.log.engine();
        if !engine.config.process.is_this() {
            return EngineStatus::default();
        }
        let begun = engine.config.clock.monotonic();
        let left = || at_most.saturating_sub(engine.config.clock.monotonic().saturating_sub(begun));
        let common = self.common.clone();
        common.finishing.store(true, Ordering::SeqCst);
        let wait = |but: Duration, done: &dyn Fn() -> bool| {
            let time = left().saturating_sub(but);
            engine.jobs.news.wait(Some(time), || (done() || common.alive.load(Ordering::SeqCst) == 0).then_some(()))
        };
        // Whoever is not done in time stops and writes down how far it came: that takes time as well.
        let winding_up = at_most / 8;
        let size = self.log.size();
        wait(winding_up, &|| common.evaluated.load(Ordering::SeqCst) >= size);
        // With the alerts that were raised of it.
        let size = self.log.size();
        wait(winding_up, &|| common.tried.iter().all(|tried| tried.load(Ordering::SeqCst) >= size));
        common.stop.store(true, Ordering::SeqCst);
        engine.jobs.news.tell();
        wait(Duration::ZERO, &|| false);
        let status = self.status();
        if common.alive.load(Ordering::SeqCst) > 0 {
            // Nobody waits for those that are left; they find the log closed.
            self.threads.clear();
        }
        status
    }

    /// Stops it and waits until its threads are done: at most as long as a receiver takes.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        if !self.log.engine().config.process.is_this() {
            // Its threads are not in this process.
            std::mem::forget(std::mem::take(&mut self.threads));
            return;
        }
        self.common.stop.store(true, Ordering::SeqCst);
        self.log.engine().jobs.news.tell();
        for thread in self.threads.drain(..) {
            // A panic in it was contained there; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Counts a thread off.
struct Leaves(AuditLog, Arc<Common>);

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
        let now = engine.log.engine().config.clock.now();
        at_most = match done {
            Err(e) if e.kind() == ErrorKind::Closed => return,
            Err(_) => {
                seen = u64::MAX;
                RETRY
            }
            Ok(()) => {
                let due = engine.next_due(now).map_or(AT_MOST, |due| due.since(now)).min(AT_MOST);
                engine.mark_due().map_or(due, |mark| mark.min(due))
            }
        };
    }
    // Where this fails a few entries are looked at again.
    let _ = engine.persist();
}

fn deliver(log: &AuditLog, common: &Common, place: usize, mut delivery: Delivery, backoff: Backoff) {
    let mut seen = 0;
    let mut at_most = Duration::ZERO;
    while common.wait(log, seen, at_most) {
        seen = log.size();
        let seen_now = seen;
        at_most = AT_MOST;
        let name = delivery.name().to_owned();
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
        let mut status = common.status();
        match failed {
            Some(e) => _ = status.failing.insert(name, e.to_string()),
            None if delivery.retry_at().is_none() => _ = status.failing.remove(&name),
            None => {}
        }
        drop(status);
        if let Some(tried) = common.tried.get(place) {
            tried.store(seen_now, Ordering::SeqCst);
            common.said(log);
        }
    }
}

//! The engine in the background: one thread evaluates, one for each receiver delivers, one verifies where that was asked
//! for. All wake when something was recorded.

use super::deliver::{Deliver, Delivery};
use super::engine::{AlertEngine, Run, verify};
use super::listing::Alert;
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
    /// The receivers that are told, each on a thread of its own.
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Alerts that the log could not take, in order, each once.
    unrecorded: Mutex<Vec<Alert>>,
    /// Somebody waits for what is above.
    finishing: AtomicBool,
    /// Threads at work.
    alive: AtomicUsize,
}

/// A receiver at work.
#[derive(Debug, Default)]
struct Lane {
    /// Another one has taken its place.
    stop: AtomicBool,
    /// How large the log was when it was tried last.
    tried: AtomicU64,
}

impl Common {
    fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unrecorded(&self) -> MutexGuard<'_, Vec<Alert>> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has receivers told of alerts that the log could not take.
    fn tell(&self, log: &AuditLog, alerts: Vec<Alert>) {
        let mut unrecorded = self.unrecorded();
        for alert in alerts {
            // What keeps being found is said once; no program lives to find so much that this list grows long.
            if !unrecorded.iter().any(|known| known.id == alert.id) {
                unrecorded.push(alert);
            }
        }
        drop(unrecorded);
        log.engine().jobs.news.tell();
    }

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
        self.wait_for(log, at_most, &|| log.size() > seen, &|| false)
    }

    /// Waits until there is news, or it is time, or over, in general or by `ended`; says whether it is not over.
    fn wait_for(
        &self,
        log: &AuditLog,
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

/// An engine at work. Dropping it stops it; what it has not looked at then, the next one does.
#[derive(Debug)]
#[must_use = "the engine stops when this is dropped"]
pub struct RunningEngine {
    log: AuditLog,
    common: Arc<Common>,
    backoff: Backoff,
    threads: Vec<JoinHandle<()>>,
}

impl AlertEngine {
    /// Starts it in the background.
    ///
    /// # Errors
    /// What the store says to a receiver that it does not know yet; what the system says to a new thread.
    pub fn start(mut self) -> Result<RunningEngine> {
        let log = self.log.clone();
        let common = Arc::new(Common::default());
        let (backoff, threads) = (self.backoff, Vec::new());
        let mut running = RunningEngine { log: log.clone(), common: common.clone(), backoff, threads };
        running.tell(std::mem::take(&mut self.deliveries))?;
        if let Some(every) = self.verify_every {
            let (log, common, source) = (log.clone(), common.clone(), self.source().clone());
            running.spawn(move || {
                // Not by what is recorded, only by time.
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
        Ok(running)
    }
}

impl RunningEngine {
    /// Starts to tell these receivers, besides nobody else.
    fn tell(&mut self, deliveries: Vec<Delivery>) -> Result<()> {
        for mut delivery in deliveries {
            match delivery.begin(&self.log) {
                // Where nothing may be recorded this is not either; it is tried again, and owed what comes from here on.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                begun => _ = begun?,
            }
            let lane = Arc::new(Lane::default());
            self.common.lanes().push(lane.clone());
            let (log, common, backoff) = (self.log.clone(), self.common.clone(), self.backoff);
            self.spawn(move || deliver(&log, &common, &lane, delivery, backoff))?;
        }
        Ok(())
    }

    /// Delivers to these from now on, and not to those before: what is under way with one of those is left to itself, and told
    /// again to one of the same name.
    ///
    /// # Errors
    /// As [`AlertEngine::start`].
    pub fn deliver_instead(&mut self, receivers: Vec<Box<dyn Deliver>>) -> Result<()> {
        for lane in self.common.lanes().drain(..) {
            lane.stop.store(true, Ordering::SeqCst);
        }
        self.common.status().failing.clear();
        self.log.engine().jobs.news.tell();
        // Those that have ended; the others are waited for when the engine stops.
        self.threads.retain(|thread| !thread.is_finished());
        let mut deliveries: Vec<Delivery> = Vec::new();
        for receiver in receivers {
            deliveries.push(Delivery::new(receiver, &deliveries));
        }
        self.tell(deliveries)
    }

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
        wait(winding_up, &|| common.lanes().iter().all(|lane| lane.tried.load(Ordering::SeqCst) >= size));
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
                engine.mark_due().map_or(due, |mark| mark.min(due))
            }
        };
    }
    // Where this fails a few entries are looked at again.
    let _ = engine.persist();
}

fn deliver(log: &AuditLog, common: &Common, lane: &Lane, mut delivery: Delivery, backoff: Backoff) {
    let (mut seen, mut heard, mut told) = (0, 0, 0);
    let mut at_most = Duration::ZERO;
    let ended = || lane.stop.load(Ordering::SeqCst);
    while common.wait_for(log, at_most, &|| log.size() > seen || common.unrecorded().len() > heard, &ended) {
        (seen, heard) = (log.size(), common.unrecorded().len());
        let seen_now = seen;
        at_most = AT_MOST;
        let name = delivery.name().to_owned();
        // What the log could not take first: then it takes nothing else either.
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

//! Single durable records: one caller, a crowd, and one caller while index batches are written.

use crate::Failure;
use crate::measure::{Bare, Times};
use crate::ours;
use crate::report::{OURS, Row, SQLITE, Target, Unit, count, micros};
use crate::run::Compare;
use crate::sqlite::Sqlite;
use crate::workload::Workload;
use attestlog::{AuditLog, Entry, Options};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// No measurement takes much longer, however slow the disk is.
const MINUTE: Duration = Duration::from_secs(60);

impl Compare<'_> {
    /// Single durable records, alternating between the stores, so that other activity of the machine affects all of
    /// them: 5,000 each, or as many as a minute allows.
    pub fn records(&mut self) -> Result<(), Failure> {
        let (path, theirs_path) = (self.ours()?, self.sqlite()?);
        let mut workload = Workload::new(self.size + 1_000_000);
        workload.take(self.size.min(10_000));
        let mut bare = Bare::new(&self.path("bare"))?;
        let mut lite = theirs_path.as_deref().map(Sqlite::open).transpose()?;
        let (mut times, mut sync, mut theirs) = (Times::default(), Times::default(), Times::default());
        let started = Instant::now();
        for round in 0..self.times(20) {
            if round > 1 && started.elapsed() > MINUTE {
                break;
            }
            let log = Options::new().open(&path)?;
            for call in workload.take(self.times(250)) {
                times.time(|| log.record(call))?;
            }
            log.close()?;
            for _ in 0..self.times(250) {
                sync.time(|| bare.append())?;
            }
            if let Some(lite) = &mut lite {
                for entry in ours::entries(workload.take(self.times(250)))? {
                    theirs.time(|| lite.record(std::slice::from_ref(&entry)))?;
                }
            }
        }
        let against = |bare: f64| format!("of a bare sync ({})", micros(bare));
        let (bare_p50, bare_mean) = (sync.p50(), sync.mean());
        self.report.add(
            Row::new("record", "one durable record: p50", Unit::Micros)
                .value(OURS, times.p50())
                .value(SQLITE, theirs.p50())
                .ratio_to(&against(bare_p50), bare_p50)
                .target(Target::RatioAtMost(1.6)),
        );
        self.report.add(
            Row::new("record_mean", "… average", Unit::Micros)
                .value(OURS, times.mean())
                .value(SQLITE, theirs.mean())
                .ratio_to("of SQLite's", theirs.mean())
                .target(Target::RatioAtMost(1.1))
                .note(format!("a bare sync takes {}", micros(bare_mean))),
        );
        self.crowd(&path, lite, &mut workload)?;
        self.during_merges(&path, &mut workload)
    }

    /// Sixteen threads, each recording one call after the other. SQLite's share one connection, as its own threads
    /// would have to for the chain of hashes.
    fn crowd(&mut self, path: &Path, lite: Option<Sqlite>, workload: &mut Workload) -> Result<(), Failure> {
        let log = Options::new().open(path)?;
        let (mut alone, mut crowd, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let lite = lite.map(Mutex::new);
        let each = self.times(500);
        let started = Instant::now();
        for round in 0..if self.plan.quick { 1 } else { 5 } {
            if round > 0 && started.elapsed() > MINUTE {
                break;
            }
            alone.push(ours::crowd(&log, workload, 1, each)?);
            crowd.push(ours::crowd(&log, workload, 16, each)?);
            if let Some(lite) = &lite {
                let shares: Result<Vec<_>, _> = (0..16).map(|_| ours::entries(workload.take(each / 5 + 1))).collect();
                theirs.push(sqlite_crowd(lite, shares?)?);
            }
        }
        let middle = |rates: &mut Vec<f64>| {
            rates.sort_unstable_by(f64::total_cmp);
            rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (alone, crowd) = (middle(&mut alone), middle(&mut crowd));
        self.report.add(
            Row::new("crowd", "16 threads recording one by one", Unit::PerSecond)
                .value(OURS, crowd)
                .value(SQLITE, middle(&mut theirs))
                .ratio_to(&format!("of one thread ({})", count(alone)), alone)
                .target(Target::RatioAtLeast(10.0)),
        );
        Ok(log.close()?)
    }

    fn during_merges(&mut self, path: &Path, workload: &mut Workload) -> Result<(), Failure> {
        if self.plan.quick {
            return Ok(());
        }
        let log = Options::new().open(path)?;
        let mut times = ours::during_merges(&log, workload, 12, MINUTE)?;
        self.report.add(
            Row::new("merging", "one record while index batches are written: p50", Unit::Micros)
                .value(OURS, times.p50())
                .note(format!("{} records", times.len())),
        );
        self.report.add(
            Row::new("merging_p999", "… p99.9", Unit::Micros)
                .value(OURS, times.percentile(0.999))
                .target(Target::AtMost(15_000.0)),
        );
        self.report.add(
            Row::new("merging_max", "… longest", Unit::Micros)
                .value(OURS, times.max())
                .target(Target::AtMost(50_000.0)),
        );
        Ok(log.close()?)
    }
}

/// Entries a second.
fn sqlite_crowd(store: &Mutex<Sqlite>, shares: Vec<Vec<Entry>>) -> Result<f64, Failure> {
    let total = shares.iter().map(Vec::len).sum::<usize>();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let record = |share: Vec<Entry>| {
            share
                .iter()
                .try_for_each(|entry| store.lock().expect("no thread panics").record(std::slice::from_ref(entry)))
        };
        let handles: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || record(share))).collect();
        handles.into_iter().try_for_each(|h| h.join().expect("no thread panics"))
    })?;
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

/// Records some batches of calls and ends without closing: what the program that is killed does.
pub fn killed(path: &Path, batches: u64) -> Result<(), Failure> {
    let log = AuditLog::open(path)?;
    let mut workload = Workload::new(1_000_000);
    for _ in 0..batches {
        log.record_batch(workload.take(500))?;
    }
    std::process::abort()
}

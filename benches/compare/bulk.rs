//! Bulk loads: what recording in batches costs, how much room it takes, and what the least work is.

use crate::Failure;
use crate::measure::{bytes_of, cpu_seconds};
use crate::ours::{self, BATCH};
use crate::report::{OURS, ROWS, Row, SQLITE, Target, Unit, count, micros};
use crate::rows::Rows;
use crate::run::Compare;
use crate::sqlite::Sqlite;
use crate::workload::Workload;
use attestlog::{AuditLog, Entry, Options, PolicySet};
use std::path::Path;
use std::time::{Duration, Instant};

/// A rate, and the processor time of all.
type Load = (f64, f64);

impl Compare<'_> {
    pub fn bulk(&mut self) -> Result<(), Failure> {
        let size = self.size;
        let sample = ours::entries(Workload::new(size).take(size.min(100_000)))?;
        let (hash, line) = ours::pure_hash(&sample);
        let mut bare = Duration::MAX;
        for _ in 0..3 {
            bare = bare.min(ours::bare(&sample)?);
        }
        drop(sample);
        let micro = |d: Duration| d.as_secs_f64() * 1e6;
        println!(
            "A line has {line:.0} bytes; hashing one takes {} on one core, encoding, line, hash and compression {}.\n",
            micros(micro(hash)),
            micros(micro(bare))
        );
        let (rate, cpu) = self.fill_ours()?;
        let nothing = (f64::NAN, f64::NAN);
        let (lite, lite_cpu) = if self.plan.alone { nothing } else { self.fill_sqlite()? };
        let (rows, rows_cpu) = if self.plan.alone { nothing } else { self.fill_rows()? };
        self.report.add(
            Row::new("bulk", format!("bulk, batches of 1,000, {} threads", self.cores), Unit::PerSecond)
                .value(OURS, rate)
                .value(SQLITE, lite)
                .value(ROWS, rows)
                .ratio_to("of SQLite's", lite)
                .target(Target::by_size(size, &[(100_000, 3.5), (1_000_000, 6.0)], Target::RatioAtLeast)),
        );
        self.report.add(
            Row::new("bulk_work", "… an entry, against encode + line + hash + compress on one core", Unit::Micros)
                .value(OURS, 1e6 / rate)
                .ratio_to(&format!("of {}", micros(micro(bare))), micro(bare))
                .target(Target::RatioAtMost(2.5)),
        );
        let per = |cpu: f64| cpu * 1e6 / size as f64;
        self.report.add(
            Row::new("bulk_cpu", "… processor time an entry, all threads", Unit::Micros)
                .value(OURS, per(cpu))
                .value(SQLITE, per(lite_cpu))
                .value(ROWS, per(rows_cpu))
                .ratio_to("of SQLite's", per(lite_cpu)),
        );
        self.variants()?;
        self.disk()
    }

    /// The same load in other ways.
    fn variants(&mut self) -> Result<(), Failure> {
        let part = self.size.min(200_000);
        let load = |log: AuditLog, threads| -> Result<f64, Failure> {
            let (took, _) = ours::bulk(log, &mut Workload::new(part), part, threads)?;
            Ok(part as f64 / took.as_secs_f64())
        };
        let one = load(ours::options().create(self.path("one"))?, 1)?;
        let mut policies = ours::floor();
        policies.redaction = PolicySet::default().redaction;
        let detectors = load(Options::new().policies(policies).create(self.path("detect"))?, self.cores)?;
        let alerts = ours::with_alerts(&self.path("alerts"), part, self.cores)?;
        let what = format!("the same, {} entries, one thread", count(part as f64));
        self.report.add(Row::new("bulk_one", what, Unit::PerSecond).value(OURS, one));
        self.report.add(Row::new("bulk_detect", "… with the value detectors", Unit::PerSecond).value(OURS, detectors));
        self.report
            .add(Row::new("bulk_alerts", "… with the built-in alert rules", Unit::PerSecond).value(OURS, alerts));
        for name in ["one", "detect", "alerts"] {
            self.remove(name);
        }
        Ok(())
    }

    fn disk(&mut self) -> Result<(), Failure> {
        let per = |name: &str| {
            let bytes = bytes_of(&self.path(name), &["-wal", "-shm"]) as f64 / self.size as f64;
            if bytes > 0.0 { bytes } else { f64::NAN }
        };
        let (ours, lite, rows) = (per("a"), per("s"), per("r"));
        self.remove("r");
        self.report.add(
            Row::new("disk", "bytes an entry, after closing", Unit::Bytes)
                .value(OURS, ours)
                .value(SQLITE, lite)
                .value(ROWS, rows)
                .ratio_to("of SQLite's", lite)
                .target(Target::by_size(self.size, &[(1_000_000, 0.33)], Target::RatioAtMost)),
        );
        Ok(())
    }

    /// Whole results kept, by one thread: SQLite stores the same texts.
    pub fn whole_results(&mut self) -> Result<(), Failure> {
        let part = self.size.min(100_000);
        let keeping = || Options::new().policies(ours::keeping_results());
        let (path, lite_path) = (self.path("whole"), self.path("whole_s"));
        let (took, _) = ours::bulk(keeping().create(&path)?, &mut Workload::with_results(part), part, 1)?;
        let rate = part as f64 / took.as_secs_f64();
        let bytes = |path: &Path| bytes_of(path, &["-wal", "-shm"]) as f64 / part as f64;
        let (mut lite, mut lite_bytes) = (f64::NAN, f64::NAN);
        if !self.plan.alone {
            let prepare = keeping().in_memory()?;
            let mut workload = Workload::with_results(part);
            lite = load_sqlite(&lite_path, part, |n| Ok(ours::entries_by(&prepare, workload.take(n))?))?.0;
            lite_bytes = bytes(&lite_path);
        }
        self.report.add(
            Row::new(
                "whole",
                format!("bulk with whole results, {} entries, one thread", count(part as f64)),
                Unit::PerSecond,
            )
            .value(OURS, rate)
            .value(SQLITE, lite)
            .ratio_to("of SQLite's", lite)
            .target(Target::RatioAtLeast(2.5)),
        );
        self.report.add(
            Row::new("whole_disk", "… bytes an entry", Unit::Bytes)
                .value(OURS, bytes(&path))
                .value(SQLITE, lite_bytes)
                .ratio_to("of SQLite's", lite_bytes),
        );
        self.remove("whole");
        self.remove("whole_s");
        Ok(())
    }

    pub fn fill_ours(&mut self) -> Result<Load, Failure> {
        let log = ours::options().create(self.path("a"))?;
        let (took, cpu) = ours::bulk(log, &mut Workload::new(self.size), self.size, self.cores)?;
        Ok((self.size as f64 / took.as_secs_f64(), cpu))
    }

    pub fn fill_sqlite(&mut self) -> Result<Load, Failure> {
        let mut workload = Workload::new(self.size);
        load_sqlite(&self.path("s"), self.size, |n| Ok(ours::entries(workload.take(n))?))
    }

    fn fill_rows(&self) -> Result<Load, Failure> {
        let mut workload = Workload::new(self.size);
        let mut store = Rows::create(&self.path("r"))?;
        let mut clock = Clock::default();
        let mut rest = self.size;
        while rest > 0 {
            let entries = ours::entries(workload.take(rest.min(100 * BATCH)))?;
            rest -= entries.len() as u64;
            clock.run(|| entries.chunks(BATCH as usize).try_for_each(|batch| store.record(batch)))?;
        }
        clock.run(|| drop(store));
        Ok((self.size as f64 / clock.took.as_secs_f64(), clock.cpu))
    }

    pub fn remove(&self, name: &str) {
        for suffix in ["", ".key", "-wal", "-shm", ".lock"] {
            let _ = std::fs::remove_file(self.path(&format!("{name}{suffix}")));
        }
    }
}

/// Records `total` entries in batches, and closes. Making the entries is not counted.
fn load_sqlite(
    path: &Path,
    total: u64,
    mut make: impl FnMut(u64) -> Result<Vec<Entry>, Failure>,
) -> Result<Load, Failure> {
    let mut store = Sqlite::open(path)?;
    store.checkpoint_pages(16_384)?;
    let mut clock = Clock::default();
    let mut rest = total;
    while rest > 0 {
        let entries = make(rest.min(100 * BATCH))?;
        rest -= entries.len() as u64;
        clock.run(|| entries.chunks(BATCH as usize).try_for_each(|batch| store.record(batch)))?;
    }
    clock.run(|| store.close())?;
    Ok((total as f64 / clock.took.as_secs_f64(), clock.cpu))
}

/// Adds up what several pieces of work take.
#[derive(Default)]
struct Clock {
    took: Duration,
    cpu: f64,
}

impl Clock {
    fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, before) = (Instant::now(), cpu_seconds());
        let done = work();
        self.took += start.elapsed();
        self.cpu += cpu_seconds() - before;
        done
    }
}

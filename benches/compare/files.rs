//! The file as a whole: verifying and opening it, a store of one entry, what a purge leaves, an import, memory.

use crate::Failure;
use crate::measure::{Times, bytes_of, peak_memory};
use crate::ours::{self, BATCH};
use crate::recording::recording;
use crate::report::{OURS, Row, SQLITE, Target, Unit, count};
use crate::run::Compare;
use crate::sqlite::Sqlite;
use crate::workload::Workload;
use attestlog::host::{Clock, ManualClock, SystemClock};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, Timestamp, ToolCall};
use attestlog_capture::import::{self, Format, ImportOptions};
use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Compare<'_> {
    /// Everything that a verification looks at: lines, chain, tree, signatures, the index by walk and by look-up, the
    /// checksums of all pages.
    pub fn verify(&mut self) -> Result<(), Failure> {
        let sample = ours::entries(Workload::new(self.size).take(self.size.min(50_000)))?;
        let (hash, _) = ours::pure_hash(&sample);
        drop(sample);
        let log = Options::new().open(self.ours()?)?;
        let start = Instant::now();
        let found = log.verify(&VerifyOptions::new())?;
        let rate = found.size as f64 / start.elapsed().as_secs_f64();
        if !found.ok() || found.entries < self.size {
            return Err(format!("the store is not whole: {found:?}").into());
        }
        self.report.add(
            Row::new("verify", format!("verify everything, {} threads", self.cores), Unit::PerSecond)
                .value(OURS, rate)
                .ratio_of(rate * hash.as_secs_f64(), "of hashing alone on one core")
                .target(Target::by_size(self.size, &[(1_000_000, 1_000_000.0)], Target::AtLeast)),
        );
        Ok(log.close()?)
    }

    /// How long opening takes. On a size with `--only open --alone` this is all that is measured.
    pub fn opening(&mut self) -> Result<(), Failure> {
        let (path, theirs) = (self.ours()?, self.sqlite()?);
        let (mut clean, mut lite) = (Times::default(), Times::default());
        for _ in 0..if self.plan.quick { 1 } else { 5 } {
            let log = clean.time(|| AuditLog::open(&path))?;
            log.close()?;
            if let Some(theirs) = &theirs {
                lite.time(|| Sqlite::open(theirs))?.close()?;
            }
        }
        let mut killed = Times::default();
        let (kills, batches) = if self.plan.quick { (1, "1") } else { (3, "20") };
        for _ in 0..kills {
            let status = Command::new(std::env::current_exe()?).arg("killed").arg(&path).arg(batches).status()?;
            if status.success() {
                return Err("the program that should have been killed was not".into());
            }
            let log = killed.time(|| AuditLog::open(&path))?;
            log.close()?;
        }
        self.report.add(
            Row::new("open", "open after a clean close: p50", Unit::Micros)
                .value(OURS, clean.p50())
                .value(SQLITE, lite.p50())
                .target(Target::AtMost(50_000.0)),
        );
        let bounds = [(1_000_000, 200_000.0), (10_000_000, 2_000_000.0)];
        self.report.add(
            Row::new("open_killed", "open after a kill: p50", Unit::Micros)
                .value(OURS, killed.p50())
                .target(Target::by_size(self.size, &bounds, Target::AtMost)),
        );
        Ok(())
    }

    pub fn files(&mut self) -> Result<(), Failure> {
        self.one_entry()?;
        self.import()?;
        self.purge()
    }

    fn one_entry(&mut self) -> Result<(), Failure> {
        let (path, lite_path) = (self.path("single"), self.path("single_s"));
        let log = ours::options().create(&path)?;
        log.record_batch(Workload::new(1).take(1))?;
        log.close()?;
        let mut lite = f64::NAN;
        if !self.plan.alone {
            let mut store = Sqlite::open(&lite_path)?;
            store.record(&ours::entries(Workload::new(1).take(1))?)?;
            store.close()?;
            lite = bytes_of(&lite_path, &["-wal", "-shm"]) as f64;
        }
        self.report.add(
            Row::new("single", "a store of one entry: bytes", Unit::Bytes)
                .value(OURS, bytes_of(&path, &[]) as f64)
                .value(SQLITE, lite)
                .target(Target::AtMost(160.0 * 1024.0)),
        );
        Ok(())
    }

    /// A recording of conversations, from its text to a closed store.
    fn import(&mut self) -> Result<(), Failure> {
        let (text, made) = recording(if self.plan.quick { 20 } else { 200 });
        let mut times = Times::default();
        for round in 0..if self.plan.quick { 1 } else { 5 } {
            let log = AuditLog::create(self.path(&format!("import{round}")))?;
            let calls = times.time(|| -> Result<usize, Failure> {
                let imported = import::calls(Format::OpenAiChat, text.as_bytes(), &ImportOptions::new())?;
                let recorded = import::record(&log, imported, false, |_| ())?;
                log.close()?;
                Ok(recorded.receipts.len())
            })?;
            if calls != made {
                return Err(format!("{made} calls to import, {calls} were").into());
            }
        }
        let megabytes = text.len() as f64 / 1e6;
        self.report.add(
            Row::new("import", "import a recording, all detectors: p50", Unit::Micros)
                .value(OURS, times.p50())
                .target(Target::AtMost(150_000.0))
                .note(format!("{made} calls, {megabytes:.1} MB")),
        );
        Ok(())
    }

    /// Nine calls in ten expire and are purged; the file is measured against one with only the others.
    fn purge(&mut self) -> Result<(), Failure> {
        let (path, fresh) = (self.path("purged"), self.path("fresh"));
        let start = SystemClock::default().now();
        let clock = Arc::new(ManualClock::at(start));
        let record = |path: &Path, kept_only: bool| -> Result<AuditLog, Failure> {
            let log = ours::options().clock(clock.clone()).create(path)?;
            let mut workload = Workload::new(self.size);
            let mut seq = 0;
            while seq < self.size {
                let calls = workload.take(BATCH.min(self.size - seq));
                let numbered = (seq..).zip(calls).filter(|(seq, _)| !kept_only || seq.is_multiple_of(10));
                seq += BATCH;
                // As long as a batch takes.
                clock.advance(Duration::from_millis(5));
                log.record_batch(numbered.map(|(seq, call)| expiring(call, seq, clock.now())))?;
            }
            log.flush_index()?;
            Ok(log)
        };
        let log = record(&path, false)?;
        clock.advance(Duration::from_secs(8 * 366 * 86_400));
        let began = Instant::now();
        let done = log.retention().purge("bench")?;
        let rate = done.purged as f64 / began.elapsed().as_secs_f64();
        if done.purged.abs_diff(self.size / 10 * 9) > 100 {
            return Err(format!("{} of {} entries were purged", done.purged, self.size).into());
        }
        log.close()?;
        clock.set(start);
        record(&fresh, true)?.close()?;
        let (left, anew) = (bytes_of(&path, &[]) as f64, bytes_of(&fresh, &[]) as f64);
        let covers = table_bytes(&path, "covers")? as f64;
        let lite = self.purge_sqlite()?;
        self.report.add(Row::new("purge", "purge nine entries in ten", Unit::PerSecond).value(OURS, rate));
        self.report.add(
            Row::new(
                "purge_file",
                "… the file, without what proves that nothing else is gone, to a fresh one",
                Unit::Times,
            )
            .value(OURS, (left - covers) / anew)
            .value(SQLITE, lite)
            .target(Target::AtMost(1.35)),
        );
        let whole = Row::new("purge_whole", "… the whole file to a fresh one", Unit::Times);
        self.report.add(whole.value(OURS, left / anew).note("SQLite proves nothing of what it deletes"));
        for name in ["purged", "fresh"] {
            self.remove(name);
        }
        Ok(())
    }

    /// The same with `DELETE` and `VACUUM`.
    fn purge_sqlite(&self) -> Result<f64, Failure> {
        if self.plan.alone {
            return Ok(f64::NAN);
        }
        let mut sizes = [0; 2];
        for (i, kept_only) in [false, true].into_iter().enumerate() {
            let path = self.path(["purged_s", "fresh_s"][i]);
            let mut store = Sqlite::open(&path)?;
            let mut workload = Workload::new(self.size);
            let mut seq = 0;
            while seq < self.size {
                let entries = ours::entries(workload.take(BATCH.min(self.size - seq)))?;
                let numbered = (seq..).zip(entries).filter(|(seq, _)| !kept_only || seq.is_multiple_of(10));
                store.record(&numbered.map(|(_, entry)| entry).collect::<Vec<_>>())?;
                seq += BATCH;
            }
            if !kept_only {
                store.keep_one_in_ten()?;
            }
            store.close()?;
            sizes[i] = bytes_of(&path, &["-wal", "-shm"]);
            self.remove(["purged_s", "fresh_s"][i]);
        }
        Ok(sizes[0] as f64 / sizes[1] as f64)
    }

    pub fn memory(&mut self) -> Result<(), Failure> {
        let me = std::env::current_exe()?;
        let out = Command::new(me).arg("memory").arg(self.path("m")).arg(self.size.to_string()).output()?;
        let text = String::from_utf8(out.stdout)?;
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            return Err(format!("the program whose memory is measured failed: {why}").into());
        }
        let mut figures = text.split_whitespace().map(|n| n.parse().unwrap_or(f64::NAN));
        let what = "resident memory while recording in batches: peak";
        let recording = figures.next().unwrap_or(f64::NAN);
        self.report.add(Row::new("memory", what, Unit::Megabytes).value(OURS, recording));
        self.report.add(
            Row::new("memory_verify", "… and while verifying: peak", Unit::Megabytes)
                .value(OURS, figures.next().unwrap_or(f64::NAN))
                .target(Target::AtMost(256.0)),
        );
        self.remove("m");
        Ok(())
    }
}

/// Nine calls in ten are kept as long as their classes demand, at most seven years, and one for twenty.
fn expiring(call: ToolCall, seq: u64, now: Timestamp) -> ToolCall {
    let twenty = Duration::from_secs(20 * 366 * 86_400);
    if seq.is_multiple_of(10) { call.retain_until(now.plus(twenty)) } else { call }
}

/// The bytes of one table of a closed store; none if it has no such table.
fn table_bytes(path: &Path, name: &str) -> Result<u64, Failure> {
    let database = redb::Database::open(path)?;
    let read = database.begin_read()?;
    let found = read.list_tables()?.find(|table| table.name() == name);
    let Some(table) = found else { return Ok(0) };
    let stats = read.open_untyped_table(table)?.stats()?;
    Ok(stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes())
}

/// Records, closes, opens, verifies, and reports how much memory that took.
pub fn memory(path: &Path, size: u64) -> Result<(), Failure> {
    let log = ours::options().create(path)?;
    let mut workload = Workload::new(size);
    let mut rest = size;
    while rest > 0 {
        let calls = workload.take(rest.min(BATCH));
        rest -= calls.len() as u64;
        log.record_batch(calls)?;
    }
    log.flush_index()?;
    let recording = peak_memory();
    let found = log.verify(&VerifyOptions::new())?;
    if !found.ok() {
        return Err(format!("the store of {} entries is not whole: {found:?}", count(size as f64)).into());
    }
    println!("{recording:.0} {:.0}", peak_memory());
    Ok(log.close()?)
}

//! How fast a purge is, what it leaves, and what recording notices of it.
//!
//! ```text
//! cargo run --release --example speed purges            # a million entries
//! cargo run --release --example speed purges 200000
//! ```
//!
//! Records interleaved calls of which nine of ten expire within a year and one is kept for seven, lets two years pass
//! and purges while another thread goes on recording one call at a time. The store without the expired calls, recorded
//! anew, is what the file is measured against.
use attestlog::host::{Clock, SystemClock};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, Query, Result, Timestamp, ToolCall};
use redb::{ReadableDatabase, TableHandle};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The machine's clocks, both moved ahead: as they would be had the process run all the time.
#[derive(Debug, Default)]
struct Ahead(SystemClock, AtomicU64);

impl Ahead {
    fn by(&self) -> Duration {
        Duration::from_secs(self.1.load(Ordering::Relaxed))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus(self.by())
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() + self.by()
    }
}

fn call(i: u64) -> ToolCall {
    let tool =
        if i.is_multiple_of(10) { "issue_refund" } else { ["search", "send_mail", "lookup_order"][i as usize % 3] };
    let arguments =
        format!(r#"{{"order_id":"W{:07}","query":"order {i} of the customer","limit":10}}"#, i * 7919 % 9_999_991);
    let call = ToolCall::new(format!("conv-{}", i / 10), format!("user-{}", i * 31 % 2000), tool);
    let call = call.model("gpt-4.1").duration(Duration::from_micros(i * 37 % 900_000));
    match attestlog::json::Json::parse(arguments.as_bytes()) {
        Ok(parsed) => call.arguments(parsed.value),
        Err(_) => call,
    }
}

/// One call that was recorded: when, since the recording began, and how long that took.
struct Wait {
    seq: u64,
    at: Duration,
    long: Duration,
}

/// Records calls one after the other until it is told to stop.
fn recording(log: &AuditLog, stop: &AtomicBool) -> Result<Vec<Wait>> {
    let mut waits = Vec::new();
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let receipt = log.record(call(10 * waits.len() as u64))?;
        waits.push(Wait { seq: receipt.seq, at: start - began, long: start.elapsed() });
    }
    Ok(waits)
}

fn recorded_during<T>(log: &AuditLog, work: impl FnOnce() -> T) -> Result<(T, Vec<Wait>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| recording(log, &stop));
        std::thread::sleep(Duration::from_millis(20));
        let done = work();
        std::thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
        let waits = recorder.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        Ok((done, waits))
    })
}

fn waits_line(name: &str, waits: &[Wait]) {
    let mut sorted: Vec<Duration> = waits.iter().map(|w| w.long).collect();
    sorted.sort_unstable();
    let at = |part: f64| sorted.get(((sorted.len() as f64 - 1.0) * part) as usize).copied().unwrap_or_default();
    println!(
        "{name}: {} appends, wait p50 {:.2?}, p99 {:.2?}, longest {:.2?}",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let mut longest: Vec<&Wait> = waits.iter().collect();
    longest.sort_unstable_by_key(|w| std::cmp::Reverse(w.long));
    let said: Vec<String> = longest.iter().take(5).map(|w| format!("{:.1?} at {:.2?}", w.long, w.at)).collect();
    println!("  the longest: {}", said.join(", "));
}

fn verified(log: &AuditLog, name: &str) -> Result<f64> {
    let mut best = f64::MAX;
    let mut entries = 0;
    for _ in 0..3 {
        let verification = log.verify(&VerifyOptions::new())?;
        if let Some(finding) = verification.findings.first() {
            println!("{name}: FINDING {finding}");
        }
        best = best.min(verification.seconds);
        entries = verification.entries;
    }
    let each = best / entries as f64 * 1e6;
    println!("{name}: {entries} entries verified in {best:.2} s, {each:.2} us an entry");
    Ok(each)
}

/// The bytes of each table, which tell where the room goes.
fn tables(path: &Path, name: &str) -> std::result::Result<u64, redb::Error> {
    use redb::ReadableTableMetadata;
    let database = redb::Database::open(path)?;
    let txn = database.begin_read()?;
    let mut covers = 0;
    println!("{name}:");
    for table in txn.list_tables()? {
        let stats = txn.open_untyped_table(table.clone())?.stats()?;
        let used = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        if table.name() == "covers" {
            covers = used;
        }
        if used > 4096 {
            println!("  {:12} {:>11} bytes, {:>11} of them values", table.name(), used, stats.stored_bytes());
        }
    }
    Ok(covers)
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.map_or("not known on this system".to_owned(), |l| l.trim_start_matches("VmHWM:").trim().to_owned())
}

fn run(entries: u64, folder: &Path) -> Result<()> {
    let clock = Arc::new(Ahead::default());
    let options = || Options::new().clock(clock.clone());
    let path = folder.join("audit.log");
    let log = options().create(&path)?;
    for first in (0..entries).step_by(1000) {
        log.record_batch((first..entries.min(first + 1000)).map(call))?;
    }
    log.flush_index()?;
    println!("{entries} entries recorded, file {} bytes", std::fs::metadata(&path)?.len());
    let before = verified(&log, "before")?;
    let ((), quiet) = recorded_during(&log, || std::thread::sleep(Duration::from_secs(3)))?;
    waits_line("no purge", &quiet);

    clock.1.store(2 * 366 * 86_400, Ordering::Relaxed);
    println!("memory before the purge: peak {}", peak_memory());
    let start = Instant::now();
    let (done, waits) = recorded_during(&log, || log.retention().purge("bench"))?;
    let done = done?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "purge: {} of {} entries in {seconds:.2} s: {:.0} entries/s (target 50000)",
        done.purged,
        log.size()?,
        done.purged as f64 / seconds
    );
    waits_line("during the purge", &waits);
    let swap = waits.iter().find(|w| done.seq.is_some_and(|purge| w.seq > purge));
    let (long, at) = swap.map(|w| (w.long, w.at)).unwrap_or_default();
    println!("the append at the swap waited {long:.2?}, at {at:.2?} (target 50 ms for every append)");
    println!("memory after the purge: peak {}", peak_memory());
    let after = verified(&log, "after")?;
    println!("verification of a surviving entry: {:.2} times as long as before", after / before);
    println!("memory after verification: peak {}", peak_memory());
    let during = log.count(&Query::new().tool("issue_refund"))?.saturating_sub(entries.div_ceil(10));
    log.close()?;
    let left = std::fs::metadata(&path)?.len();

    let fresh = folder.join("fresh.log");
    let log = options().create(&fresh)?;
    for first in (0..entries).step_by(10_000) {
        log.record_batch((first..entries.min(first + 10_000)).step_by(10).map(call))?;
    }
    // What was recorded beside the purge survives too.
    log.record_batch((0..during).map(|i| call(10 * i)))?;
    log.flush_index()?;
    verified(&log, "survivors only, recorded anew")?;
    log.close()?;
    let anew = std::fs::metadata(&fresh)?.len();
    let failed = |e: redb::Error| attestlog::Error::from(std::io::Error::other(e));
    let covers = tables(&path, "after the purge").map_err(failed)?;
    tables(&fresh, "survivors recorded anew").map_err(failed)?;
    println!(
        "file after {left} bytes, of survivors only {anew}: {:.2} times; without the {covers} bytes of cover nodes {:.2} (target 1.35)",
        left as f64 / anew as f64,
        left.saturating_sub(covers) as f64 / anew as f64
    );
    Ok(())
}

pub fn all(args: &[String]) -> ExitCode {
    let entries = args.first().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let folder = std::env::temp_dir().join(format!("attestlog-purge-{}", std::process::id()));
    let done = std::fs::create_dir(&folder).map_err(Into::into).and_then(|()| run(entries, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

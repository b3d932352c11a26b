//! attestlog in the comparison: everything durable, signed and indexed.

use crate::measure::{Times, cpu_seconds};
use crate::workload::Workload;
use attestlog::alert::{AlertEngine, Rules};
use attestlog::redact::{Policy, Preset};
use attestlog::{AuditLog, Entry, Hash, Options, PolicySet, Result, ToolCall, benching};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many calls a batch has.
pub const BATCH: u64 = 1_000;

/// Only names of keys are hidden, values are not looked into, no alert rules.
pub fn floor() -> PolicySet {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Floor);
    policies.alerts = Rules::none();
    policies
}

pub fn options() -> Options {
    Options::new().policies(floor())
}

/// Records everything that `workload` still has to give, `total` calls, in batches on `threads` threads, and returns how
/// long that took, and how much of the processors': until all is on the disk, indexed and signed, with the file closed.
/// Making the calls is not counted.
pub fn bulk(log: AuditLog, workload: &mut Workload, total: u64, threads: usize) -> Result<(Duration, f64)> {
    // What is recorded at a time is made before the clock runs; at most this many, for the sake of memory.
    const PART: u64 = 1_000_000;
    let (mut took, mut cpu) = (Duration::ZERO, 0.0);
    let mut rest = total;
    while rest > 0 {
        let part = rest.min(PART);
        rest -= part;
        let batches = batches(workload, part);
        let (start, before) = (Instant::now(), cpu_seconds());
        record_all(&log, batches, threads)?;
        if rest > 0 {
            settle(&log)?;
        }
        took += start.elapsed();
        cpu += cpu_seconds() - before;
    }
    let (start, before) = (Instant::now(), cpu_seconds());
    log.flush_index()?;
    log.close()?;
    Ok((took + start.elapsed(), cpu + cpu_seconds() - before))
}

/// Calls in batches.
pub fn batches(workload: &mut Workload, total: u64) -> Vec<Vec<ToolCall>> {
    let full = (0..total / BATCH).map(|_| BATCH);
    let rest = Some(total % BATCH).filter(|&n| n > 0);
    full.chain(rest).map(|n| workload.take(n)).collect()
}

fn record_all(log: &AuditLog, batches: Vec<Vec<ToolCall>>, threads: usize) -> Result<()> {
    let places: Vec<Mutex<Option<Vec<ToolCall>>>> = batches.into_iter().map(|b| Mutex::new(Some(b))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(batch) = place.lock().expect("no thread panics").take() {
                    log.record_batch(batch)?;
                }
            }
            Ok(())
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|h| h.join().expect("no thread panics"))
    })
}

/// Waits until no index batch is due.
pub fn settle(log: &AuditLog) -> Result<()> {
    while log.health()?.pending_index >= 65_536 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The same calls as they are after sanitising, for the others.
pub fn entries(calls: Vec<ToolCall>) -> Result<Vec<Entry>> {
    thread_local!(static SCRATCH: AuditLog = options().in_memory().expect("a store in memory"));
    SCRATCH.with(|log| calls.into_iter().map(|call| benching::entry(log, call)).collect())
}

/// What encoding, line, hash and compression alone take on one core, per entry.
pub fn bare(entries: &[Entry]) -> Result<Duration> {
    let (mut blocks, mut head, mut line) = (benching::Blocks::default(), Hash::ZERO, Vec::new());
    let start = Instant::now();
    let mut bytes = 0;
    for (seq, entry) in (0..).zip(entries) {
        line.clear();
        benching::write_line(entry, seq, &head, &mut line);
        let hash = Hash::leaf(&line);
        let block = blocks.push(seq, head, hash, benching::encode(entry)?)?;
        bytes += block.map_or(0, |b| b.len());
        head = hash;
    }
    std::hint::black_box(bytes);
    Ok(start.elapsed() / entries.len() as u32)
}

/// What SHA-256 over the chained lines alone takes on one core, per entry; and how long a line is.
pub fn pure_hash(entries: &[Entry]) -> (Duration, f64) {
    let mut lines = Vec::new();
    for (seq, entry) in (0..).zip(entries) {
        let mut line = Vec::new();
        benching::write_line(entry, seq, &Hash::ZERO, &mut line);
        lines.push(line);
    }
    let start = Instant::now();
    for line in &lines {
        std::hint::black_box(Hash::leaf(line));
    }
    let took = start.elapsed() / lines.len() as u32;
    (took, lines.iter().map(Vec::len).sum::<usize>() as f64 / lines.len() as f64)
}

/// Records one by one on each of `threads` threads, `each` calls a thread; entries per second.
pub fn crowd(log: &AuditLog, workload: &mut Workload, threads: usize, each: u64) -> Result<f64> {
    let shares: Vec<Vec<ToolCall>> = (0..threads).map(|_| workload.take(each)).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let record = |share: Vec<ToolCall>| share.into_iter().try_for_each(|call| log.record(call).map(|_| ()));
        let handles: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || record(share))).collect();
        handles.into_iter().try_for_each(|h| h.join().expect("no thread panics"))
    })?;
    Ok((threads as u64 * each) as f64 / start.elapsed().as_secs_f64())
}

/// Single records while index batches are written, `merges` of them: each time so much is recorded in batches that one
/// becomes due, then one by one until it is done.
pub fn during_merges(log: &AuditLog, workload: &mut Workload, merges: usize) -> Result<Times> {
    let mut times = Times::default();
    settle(log)?;
    for _ in 0..merges {
        while log.health()?.pending_index < 65_536 {
            let missing = 65_536 - log.health()?.pending_index;
            log.record_batch(workload.take(missing.min(BATCH)))?;
        }
        while log.health()?.pending_index >= 65_536 {
            for call in workload.take(8) {
                times.time(|| log.record(call))?;
            }
        }
    }
    Ok(times)
}

/// The time of a bulk load with the built-in alert rules evaluated in the background, until the last entry was looked at.
pub fn with_alerts(path: &Path, total: u64, threads: usize) -> Result<f64> {
    let mut workload = Workload::new(total);
    let mut policies = floor();
    policies.alerts = Rules::built_in();
    let log = Options::new().policies(policies).create(path)?;
    let batches = batches(&mut workload, total);
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let engine = {
        let (log, stop) = (log.clone(), stop.clone());
        std::thread::spawn(move || -> Result<()> {
            let mut engine = AlertEngine::new(&log)?;
            while !stop.load(Ordering::SeqCst) {
                engine.run_once()?;
            }
            engine.run_once().map(|_| ())
        })
    };
    record_all(&log, batches, threads)?;
    stop.store(true, Ordering::SeqCst);
    engine.join().expect("the engine does not panic")?;
    log.flush_index()?;
    log.close()?;
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

//! attestlog in the comparison: everything durable, signed and indexed.

use crate::measure::{Times, cpu_seconds};
use crate::workload::Workload;
use attestlog::alert::Rules;
use attestlog::redact::{Policy, Preset};
use attestlog::{AuditLog, Entry, Hash, Options, PolicySet, Result, ToolCall, benching};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The number of calls in a batch.
pub const BATCH: u64 = 1_000;

/// Only values under secret names are hidden, values are not searched, and there are no alert rules.
pub fn floor() -> PolicySet {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Floor);
    policies.alerts = Rules::none();
    policies
}

/// The same, and whole results are kept.
pub fn keeping_results() -> PolicySet {
    let mut policies = floor();
    policies.results.keep_full = Some(100_000);
    policies
}

pub fn options() -> Options {
    Options::new().policies(floor())
}

/// Records the next `total` calls of `workload` in batches on `threads` threads. Returns how long that took, and how
/// much processor time: until everything is on the disk, indexed and signed, and the file is closed. Making the calls
/// is not counted.
pub fn bulk(log: AuditLog, workload: &mut Workload, total: u64, threads: usize) -> Result<(Duration, f64)> {
    // Calls are made before the clock runs; at most this many at a time, to limit memory.
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

/// Makes calls, in batches.
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

/// The same calls as they are after sanitising, for the other stores.
pub fn entries(calls: Vec<ToolCall>) -> Result<Vec<Entry>> {
    thread_local!(static SCRATCH: AuditLog = options().in_memory().expect("a store in memory"));
    SCRATCH.with(|log| entries_by(log, calls))
}

/// The same with the policies of this store.
pub fn entries_by(log: &AuditLog, calls: Vec<ToolCall>) -> Result<Vec<Entry>> {
    calls.into_iter().map(|call| benching::entry(log, call)).collect()
}

/// The time per entry of encoding, line, hash and compression alone, on one core.
pub fn bare(entries: &[Entry]) -> Result<Duration> {
    let (mut blocks, mut head, mut line) = (benching::Blocks::default(), Hash::ZERO, Vec::new());
    let start = Instant::now();
    let mut bytes = 0;
    for (seq, entry) in (0..).zip(entries) {
        line.clear();
        benching::write_line(entry, seq, &head, &mut line);
        let hash = Hash::leaf(&line);
        let block = blocks.push(seq, &benching::encode(entry)?)?;
        bytes += block.map_or(0, |b| b.len());
        head = hash;
    }
    std::hint::black_box(bytes);
    Ok(start.elapsed() / entries.len() as u32)
}

/// The time per entry of SHA-256 over the chained lines alone, on one core; and the average length of a line.
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

/// Records one by one on each of `threads` threads, `each` calls per thread; returns entries per second.
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

/// Times single records while index batches are written, `merges` of them: each time, enough is recorded in batches to
/// make one due, then calls are recorded one by one until it is done. None begins after `limit`.
pub fn during_merges(log: &AuditLog, workload: &mut Workload, merges: usize, limit: Duration) -> Result<Times> {
    let mut times = Times::default();
    settle(log)?;
    let started = Instant::now();
    for merge in 0..merges {
        if merge > 0 && started.elapsed() > limit {
            break;
        }
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

/// The time of a bulk load with the built-in alert rules in the background, until the last entry was evaluated.
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
            let mut engine = log.alerts().engine()?;
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

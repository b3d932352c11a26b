//! How large a store may become: entries by the million, one conversation, distinct users, large arguments, many tools, and what
//! recording, querying, verifying and exporting cost in memory and time.
//!
//! ```text
//! cargo run --release --example limits -- FOLDER ENTRIES      default: 20,000, which takes seconds
//! ```
//!
//! Every tenth entry is of one conversation; every tenth of a user of its own; ten thousand tools.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::query::Statistics;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Facet, Options, Query, ToolCall};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn call(i: u64) -> ToolCall {
    let conversation = if i.is_multiple_of(10) { "the_long_one".to_owned() } else { format!("conv_{}", i / 20) };
    let user = if i % 10 == 1 { format!("single_{i}") } else { format!("usr_{}", i % 1000) };
    let arguments = format!("order {i} of {}", i * 7919 % 10_007);
    ToolCall::new(conversation, user, format!("tool_{}", i % 10_000))
        .arguments(arguments)
        .duration(Duration::from_micros(i % 90_000))
}

fn told<T>(what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let began = Instant::now();
    let done = work()?;
    println!("{what:<58} {:>10.1} ms   peak {:>4} MiB", began.elapsed().as_secs_f64() * 1e3, peak());
    Ok(done)
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from).join("limits");
    let entries: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("limits.log");
    for file in ["limits.log", "limits.log.key"] {
        let _ = std::fs::remove_file(folder.join(file));
    }
    let log = Options::new().create(&path)?;
    told(&format!("record {entries} entries, 500 in a batch"), || {
        for first in (0..entries).step_by(500) {
            log.record_batch((first..entries.min(first + 500)).map(call))?;
        }
        Ok(())
    })?;
    told("write what is not indexed yet", || Ok(log.flush_index()?))?;
    for size in [64 << 10, 1 << 20] {
        // Text of its own, as documents are; a call may be refused for its size and then nothing is recorded.
        let text: String = (0..size / 64u64).map(|n| attestlog::Hash::of(&n.to_le_bytes()).to_string()).collect();
        told(&format!("record 20 calls with {} KiB of arguments", size >> 10), || {
            for _ in 0..20 {
                if let Err(e) = log.record(ToolCall::new("large", "usr_0", "tool_0").arguments(&*text)) {
                    println!("    refused: {e}");
                    break;
                }
            }
            Ok(())
        })?;
    }
    singles(&log)?;
    println!("{:<58} {:>10.1} MiB", "the file", std::fs::metadata(&path)?.len() as f64 / (1 << 20) as f64);
    told("open it again", || {
        log.close()?;
        Ok(())
    })?;
    let log = told("  (opened)", || Ok(Options::new().open(&path)?))?;
    let newest = Query::new().newest_first().limit(100);
    told("the newest 100", || count(&log, &newest))?;
    told("the newest 100 of one user of many", || count(&log, &newest.clone().user("usr_7")))?;
    told("the one call of a user", || count(&log, &newest.clone().user("single_10001")))?;
    told("count the long conversation", || Ok(log.count(&Query::new().conversation("the_long_one"))?))?;
    told("read the first 1,000 of the long conversation", || {
        count(&log, &Query::new().conversation("the_long_one").limit(1000))
    })?;
    told("a tool of ten thousand, one user, both facets", || {
        count(&log, &Query::new().facet(Facet::Tool, "tool_7").facet(Facet::User, "usr_7"))
    })?;
    told("statistics of one tool", || Ok(log.statistics(&Statistics::new().tool("tool_7"))?))?;
    told("statistics of every tool", || Ok(log.statistics(&Statistics::new())?.len()))?;
    told("export every line", || {
        let mut out = std::io::sink();
        for entry in log.query(&Query::new())? {
            writeln!(out, "{}", entry?.line())?;
        }
        Ok(())
    })?;
    let found = told("verify everything", || Ok(log.verify(&VerifyOptions::new())?))?;
    println!("{} entries, {} findings", found.size, found.findings.len());
    reader(&log, &path)?;
    log.close()?;
    println!("peak {} MiB in all", peak());
    std::fs::remove_dir_all(&folder)?;
    if !found.ok() {
        return Err("verification found something".into());
    }
    Ok(())
}

fn count(log: &AuditLog, query: &Query) -> Result<u64, Failure> {
    let mut count = 0;
    for entry in log.query(query)? {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// Latency of single records into the large store.
fn singles(log: &AuditLog) -> Result<(), Failure> {
    let mut times = Vec::new();
    for i in 0..200 {
        let began = Instant::now();
        log.record(call(i * 3))?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "{:<58} {:>10.1} ms median, {:.1} ms the slowest of 200",
        "record one",
        millis(times[100]),
        millis(times[199])
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Somebody reads slowly while others record: what he reads from must not keep the file growing.
fn reader(log: &AuditLog, path: &std::path::Path) -> Result<(), Failure> {
    let before = std::fs::metadata(path)?.len();
    let mut hits = log.query(&Query::new())?;
    for i in 0..500 {
        log.record(call(i))?;
        for _ in 0..20 {
            if let Some(entry) = hits.next() {
                entry?;
            }
        }
    }
    let with = std::fs::metadata(path)?.len();
    drop(hits);
    for i in 0..500 {
        log.record(call(i))?;
    }
    let without = std::fs::metadata(path)?.len();
    println!(
        "500 records beside a long reader: {:.1} MiB more; 500 without: {:.1} MiB more",
        (with - before) as f64 / (1 << 20) as f64,
        (without - with) as f64 / (1 << 20) as f64
    );
    Ok(())
}

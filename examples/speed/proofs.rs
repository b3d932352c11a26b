//! What proofs and verification cost: `cargo run --release --example speed proofs ENTRIES [STORE [proofs]]`; 100,000 by default.
//!
//! Records that many small calls, then measures proofs at random places, and a full verification against the speed at
//! which the same cores hash the same lines. The store is removed afterwards unless it was named; one that is there is not
//! recorded again. With `proofs` nothing is verified.
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
use attestlog::verify::{Verification, VerifyOptions};
use attestlog::{AuditLog, Hash, Options, Query, ToolCall};
use std::path::Path;
use std::time::{Duration, Instant};

const BATCH: u64 = 10_000;
const PROOFS: u64 = 2_000;
/// So many lines are hashed over and over for the comparison.
const LINES: u64 = 200_000;

pub fn run(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let entries: u64 = args.first().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir()?;
    let path = args.get(1).map_or(dir.path().join("audit.log"), Into::into);
    if !path.exists() {
        let took = record(&path, entries)?;
        println!("recorded           {entries} entries in {took:.1?}, {:.0}/s", entries as f64 / took.as_secs_f64());
    }
    let bytes = std::fs::metadata(&path)?.len();
    let log = AuditLog::open(&path)?;
    let size = log.checkpoint()?.checkpoint().size();
    println!("store              {size} entries, {:.0} bytes each", bytes as f64 / size as f64);
    prove(&log, size)?;
    if args.get(2).is_some_and(|only| only == "proofs") {
        return Ok(());
    }

    let (before, cpu) = (peak(true), processor());
    let verification = log.verify(&VerifyOptions::new())?;
    let (after, cpu) = (peak(false), processor() - cpu);
    if !verification.ok() {
        return Err(format!("{:?}", verification.findings).into());
    }
    println!("peak memory        {after} MB while verifying, {before} MB before");
    compare(&log, &verification, cpu)?;
    Ok(())
}

fn record(path: &Path, entries: u64) -> attestlog::Result<Duration> {
    let start = Instant::now();
    let log = Options::new().create(path)?;
    for first in (0..entries).step_by(BATCH as usize) {
        log.record_batch((first..entries.min(first + BATCH)).map(|i| {
            ToolCall::new(format!("conv_{}", i / 10), format!("usr_{}", i % 997), format!("tool_{}", i % 20))
        }))?;
    }
    log.close()?;
    Ok(start.elapsed())
}

/// Times of `PROOFS` proofs of either kind, at places that repeat from run to run.
fn prove(log: &AuditLog, size: u64) -> Result<(), Box<dyn std::error::Error>> {
    let place = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
    let (mut times, mut hashes, mut file) = (Vec::new(), 0, 0);
    for i in 0..PROOFS {
        let start = Instant::now();
        let proof = log.prove(place(i))?;
        times.push(start.elapsed());
        hashes = hashes.max(proof.path.len() * 32);
        file = file.max(proof.to_string().len() - proof.line.len().div_ceil(3) * 4);
    }
    report("inclusion proof", times, hashes);
    println!("                   {file} bytes at most as a file, without the entry's line");
    let origin = log.public_key()?.ok_or("no key")?.name().to_owned();
    let key = SigningKey::from_seed(&origin, &[1; 32])?;
    let (mut times, mut hashes) = (Vec::new(), 0);
    for i in 1..PROOFS {
        let old = place(i).max(1);
        let old = SignedCheckpoint::sign(Checkpoint::new(&origin, old, log.proofs().root_at(old)?)?, &[&key])?;
        let start = Instant::now();
        let proof = log.proofs().consistent(&old)?;
        times.push(start.elapsed());
        hashes = hashes.max(proof.proof.len() * 32);
    }
    report("consistency proof", times, hashes);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>, bytes: usize) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    let [p50, p99, most] = [50, 99, 100].map(at);
    println!("{what:<19}p50 {p50:.1?}, p99 {p99:.1?}, at most {most:.1?}; at most {bytes} bytes of hashes");
}

fn compare(log: &AuditLog, verification: &Verification, cpu: f64) -> attestlog::Result<()> {
    let entries = verification.entries as f64;
    let (rate, each) = (entries / verification.seconds, cpu / entries);
    println!(
        "verification       {:.2} s, {rate:.0} entries/s, {:.2} µs of processor each",
        verification.seconds,
        each * 1e6
    );
    let lines = log.query(&Query::new().limit(LINES))?.map(|entry| Ok(entry?.line()));
    let lines = lines.collect::<attestlog::Result<Vec<String>>>()?;
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let rounds = (4_000_000 / lines.len()).max(1);
    let (start, cpu) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        for part in lines.chunks(lines.len().div_ceil(threads)) {
            scope.spawn(move || {
                for _ in 0..rounds {
                    part.iter().for_each(|line| _ = std::hint::black_box(Hash::leaf(line.as_bytes())));
                }
            });
        }
    });
    let all = (lines.len() * rounds) as f64;
    let (hashed, hashing) = (all / start.elapsed().as_secs_f64(), (processor() - cpu) / all);
    let bytes = lines.iter().map(String::len).sum::<usize>() / lines.len();
    println!(
        "hashing            {hashed:.0} lines/s of {bytes} bytes on {threads} cores, {:.2} µs each",
        hashing * 1e6
    );
    println!(
        "                   verification runs at {:.2} of that speed ({:.2} by processor time)",
        rate / hashed,
        hashing / each
    );
    Ok(())
}

/// The seconds of processor that the process has used, where the system tells.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    // In hundredths of a second, whatever the kernel's own clock is.
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that the process has had resident, in MB, where the system tells; counted anew from here on request.
fn peak(anew: bool) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    if anew {
        // Elsewhere than on Linux there is no such file, and nothing is counted.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
    kilobytes.unwrap_or_default() / 1000
}

//! The steps of recording and reading, each measured alone: `cargo bench --bench parts [-- FILTER]`.

use attestlog::json::Json;
use attestlog::redact::{Context, Policy, Preset, Root, Sanitizer, Secrets};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, Hash, Options, PolicySet, ToolCall, benching};
use criterion::{BatchSize, Criterion, Throughput};
use std::hint::black_box;

type Failure = Box<dyn std::error::Error>;

fn call(n: u64) -> ToolCall {
    let arguments = format!(r#"{{"record_id":"rec-{:07}","note":"asked on the phone"}}"#, n * 7919 % 1_000_000);
    ToolCall::new(format!("conv_{:06x}", n / 10), format!("usr_{:05}", n * 31 % 5000), format!("tool_{}", n % 50))
        .arguments(Json::parse(arguments.as_bytes()).expect("it is JSON").value)
        .result("active")
        .model("gpt-4.1")
        .role("nurse")
        .patient(format!("P-{:06}", n * 17 % 20_000))
}

/// A tool's result of about 10 KB.
fn large() -> Json {
    let item = |n: u32| {
        format!(
            r#"{{"id":"obs-{n}","status":"final","contact":"call ward {n} before noon","token":"t-{n}","value":{}}}"#,
            n * 13
        )
    };
    let items: Vec<String> = (0..105).map(item).collect();
    Json::parse(format!("[{}]", items.join(",")).as_bytes()).expect("it is JSON").value
}

fn recording(c: &mut Criterion) -> Result<(), Failure> {
    let log = AuditLog::in_memory()?;
    let entries: Vec<Entry> = (0..1000).map(|n| benching::entry(&log, call(n))).collect::<Result<_, _>>()?;
    let mut group = c.benchmark_group("entry");
    group.throughput(Throughput::Elements(1));
    let mut n = 0;
    let mut next = || {
        n = (n + 1) % entries.len();
        &entries[n]
    };
    group.bench_function("encode", |b| b.iter(|| benching::encode(next())));
    let mut line = Vec::with_capacity(4096);
    group.bench_function("line and hash", |b| {
        b.iter(|| {
            line.clear();
            benching::write_line(next(), 123_456, &Hash::ZERO, &mut line);
            Hash::leaf(&line)
        })
    });
    group.bench_function("validate, sanitise, summarise", |b| {
        b.iter_batched(|| call(7), |call| benching::entry(&log, call), BatchSize::SmallInput)
    });
    group.finish();
    let bytes: Vec<Vec<u8>> = entries.iter().map(benching::encode).collect::<Result<_, _>>()?;
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("seal 1,000 entries", |b| {
        b.iter_batched(
            || bytes.clone(),
            |bytes| {
                let mut blocks = benching::Blocks::default();
                for (seq, bytes) in (0..).zip(bytes) {
                    let _ = black_box(blocks.push(seq, &bytes));
                }
            },
            BatchSize::SmallInput,
        )
    });
    group.finish();
    Ok(())
}

fn sanitising(c: &mut Criterion) -> Result<(), Failure> {
    let mut group = c.benchmark_group("sanitise");
    let small = Json::parse(br#"{"record_id":"rec-0000123","note":"asked on the phone, ticket 8123"}"#)?.value;
    let large = large();
    for (name, preset) in [("floor", Preset::Floor), ("default policy", Preset::Default)] {
        let sanitizer = Sanitizer::new(&Policy::preset(preset), Secrets::default())?;
        for (size, value) in [("arguments of a call", &small), ("result of 10 KB", &large)] {
            group.bench_function(format!("{name}, {size}"), |b| {
                b.iter_batched(
                    || value.clone(),
                    |mut value| {
                        let mut context = Context::new();
                        let done = sanitizer.treat(Root::Result, &mut value, &mut context);
                        (done.is_ok(), value)
                    },
                    BatchSize::SmallInput,
                )
            });
        }
    }
    group.finish();
    Ok(())
}

fn reading(c: &mut Criterion) -> Result<(), Failure> {
    const ENTRIES: u64 = 20_000;
    let dense: Vec<u64> = (0..1300).map(|n| 1_000_000 + n * 50 + n % 7).collect();
    c.bench_function("postings: a row of 1,300", |b| {
        b.iter_batched(|| dense.clone(), benching::row, BatchSize::SmallInput)
    });
    let mut group = c.benchmark_group("store");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ENTRIES));
    let filled = || -> attestlog::Result<AuditLog> {
        let mut policies = PolicySet::default();
        policies.redaction = Policy::preset(Preset::Floor);
        let log = Options::new().policies(policies).in_memory()?;
        log.record_batch((0..ENTRIES).map(call))?;
        Ok(log)
    };
    group.bench_function("merge an index batch", |b| {
        b.iter_batched(
            || filled().expect("a store in memory"),
            |log| {
                log.flush_index().expect("memory is enough");
                log
            },
            BatchSize::PerIteration,
        )
    });
    let log = filled()?;
    log.flush_index()?;
    group.bench_function("verify, one thread", |b| b.iter(|| log.verify(&VerifyOptions::new().threads(1))));
    group.throughput(Throughput::Elements(1));
    let mut seq = 0;
    group.bench_function("inclusion proof", |b| {
        b.iter(|| {
            seq = (seq + 7919) % ENTRIES;
            log.prove(seq)
        })
    });
    group.finish();
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    recording(&mut criterion)?;
    sanitising(&mut criterion)?;
    reading(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

//! One part of the comparison alone, for a profiler: `compare profile PART FILE ENTRIES`.

use crate::measure::bytes_of;
use crate::ours;
use crate::report::{Report, count};
use crate::run::Compare;
use crate::workload::{self, Dice, Workload};
use crate::{Failure, Plan};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Query, Timestamp};
use std::path::Path;
use std::time::Instant;

/// The number of threads for parts that can use several: THREADS, or one.
fn threads() -> usize {
    std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Runs one part alone, for a profiler.
pub fn profile(what: &str, path: &Path, size: u64) -> Result<(), Failure> {
    let start = Instant::now();
    match what {
        "bulk" => {
            let log = ours::options().create(path)?;
            let (took, _) = ours::bulk(log, &mut Workload::new(size), size, threads())?;
            println!("bulk: {} a second", count(size as f64 / took.as_secs_f64()));
        }
        "verify" => {
            let log = AuditLog::open(path)?;
            let found = log.verify(&VerifyOptions::new().threads(threads()))?;
            println!(
                "verify: {} a second, {} findings",
                count(found.size as f64 / found.seconds),
                found.findings.len()
            );
        }
        "conversations" => {
            let log = AuditLog::open(path)?;
            let mut dice = Dice::new(1);
            for _ in 0..20_000 {
                let id = workload::conversation(dice.below(size / 11));
                std::hint::black_box(log.query(&Query::new().conversation(id))?.count());
            }
        }
        // Only the queries of the comparison, in a folder that keeps the stores for the next run. ALONE leaves SQLite
        // out.
        "queries" => {
            let alone = std::env::var_os("ALONE").is_some();
            let plan = Plan { alone, dir: path.into(), ..Plan::default() };
            let mut report = Report::new(size, true);
            let mut compare = Compare { size, plan: &plan, dir: path, cores: threads(), report: &mut report };
            std::fs::create_dir_all(path)?;
            compare.queries()?;
            println!("{}", report.markdown());
        }
        "users" => {
            let log = AuditLog::open(path)?;
            let mut dice = Dice::new(1);
            for _ in 0..10_000 {
                let id = workload::user(dice.skewed(workload::USERS));
                std::hint::black_box(log.query(&Query::new().user(id).newest_first().limit(50))?.count());
            }
        }
        "patients" => {
            let log = AuditLog::open(path)?;
            let mut dice = Dice::new(1);
            for _ in 0..10_000 {
                let id = workload::patient(dice.skewed(workload::PATIENTS));
                let since = workload::START + dice.below(60) as i64 * 86_400_000_000_000;
                let (from, to) = (Timestamp::from_nanos(since), Timestamp::from_nanos(since + 30 * 86_400_000_000_000));
                std::hint::black_box(log.query(&Query::new().patient(id).since(from).until(to))?.count());
            }
        }
        "tables" => {
            use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
            let db = redb::Database::open(path)?;
            let read = db.begin_read()?;
            for handle in read.list_tables()? {
                let name = handle.name().to_owned();
                let table = read.open_untyped_table(handle)?;
                let (stats, rows) = (table.stats()?, table.len()?);
                let per = |bytes: u64| bytes as f64 / size as f64;
                println!(
                    "{name:12} {rows:9} rows: stored {:6.1}, branches {:5.1}, fragmented {:6.1} bytes an entry; {} leaves, {} branches, height {}",
                    per(stats.stored_bytes()),
                    per(stats.metadata_bytes()),
                    per(stats.fragmented_bytes()),
                    stats.leaf_pages(),
                    stats.branch_pages(),
                    stats.tree_height()
                );
            }
        }
        other => {
            return Err(format!("{other}: bulk, verify, queries, conversations, users, patients, tables are").into());
        }
    }
    println!("{:.2} s, {} bytes", start.elapsed().as_secs_f64(), bytes_of(path, &[]));
    Ok(())
}

//! What is measured, in order.

use crate::measure::{Times, bytes_of, cpu_seconds, peak_memory};
use crate::ours::{self, BATCH};
use crate::rows::Rows;
use crate::sqlite::Sqlite;
use crate::table::{Table, count, micros, none};
use crate::workload::{self, Dice, Workload};
use crate::{Failure, Plan};
use attestlog::{AuditLog, Options, Query, Statistics, Timestamp, VerifyOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn run(plan: &Plan) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    println!("{cores} cores; {}; {}", std::env::consts::ARCH, cpu());
    for &size in &plan.sizes {
        let dir = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.dir)?;
        println!("\n{} entries\n", count(size as f64));
        let mut table = Table::new();
        Compare { size, plan, dir: dir.path(), cores, table: &mut table }.all()?;
        table.print();
    }
    Ok(())
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}

struct Compare<'a> {
    size: u64,
    plan: &'a Plan,
    dir: &'a Path,
    cores: usize,
    table: &'a mut Table,
}

impl Compare<'_> {
    fn all(&mut self) -> Result<(), Failure> {
        self.bulk()?;
        self.disk()?;
        self.queries()?;
        self.verify()?;
        self.opening()?;
        self.singles()?;
        self.memory()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.join(name)
    }

    /// `n`, or much less where only a look is wanted.
    fn times(&self, n: u64) -> u64 {
        if self.plan.quick { n / 50 + 1 } else { n }
    }

    fn bulk(&mut self) -> Result<(), Failure> {
        let size = self.size;
        let sample = ours::entries(Workload::new(size).take(size.min(100_000)))?;
        let (hash, line) = ours::pure_hash(&sample);
        let mut bare = Duration::MAX;
        for _ in 0..3 {
            bare = bare.min(ours::bare(&sample)?);
        }
        drop(sample);
        println!(
            "a line has {line:.0} bytes; hashing one takes {} on one core ({} a second), encode + line + hash + compress {}\n",
            micros(hash.as_secs_f64() * 1e6),
            count(1.0 / hash.as_secs_f64()),
            micros(bare.as_secs_f64() * 1e6)
        );
        let (took, cpu) =
            ours::bulk(ours::options().create(self.path("a"))?, &mut Workload::new(size), size, self.cores)?;
        let ours = size as f64 / took.as_secs_f64();
        let ((mut lite, mut lite_cpu), (mut redb, mut redb_cpu)) = ((f64::NAN, f64::NAN), (f64::NAN, f64::NAN));
        if !self.plan.alone {
            (lite, lite_cpu) = self.bulk_sqlite()?;
            (redb, redb_cpu) = self.bulk_rows()?;
        }
        self.table.row(
            &format!("bulk, batches of 1,000, {} threads: entries/s", self.cores),
            [count(ours), count(lite), count(redb)],
            format!("{:.1} × SQLite", ours / lite),
            "≥ 6 ×",
        );
        self.table.row(
            "… against encode + line + hash + compress on one core",
            [micros(1e6 / ours), micros(bare.as_secs_f64() * 1e6), none()],
            format!("{:.2} ×", 1.0 / ours / bare.as_secs_f64()),
            "≤ 2.5 ×",
        );
        let per = |cpu: f64| micros(cpu * 1e6 / size as f64);
        self.table.row(
            "… processor time per entry, all threads",
            [per(cpu), per(lite_cpu), per(redb_cpu)],
            format!("{:.2} of SQLite's", cpu / lite_cpu),
            "",
        );
        let part = size.min(200_000);
        let (one, _) = ours::bulk(ours::options().create(self.path("one"))?, &mut Workload::new(part), part, 1)?;
        let defaults = {
            let mut policies = ours::floor();
            policies.redaction = Default::default();
            let log = Options::new().policies(policies).create(self.path("detect"))?;
            ours::bulk(log, &mut Workload::new(part), part, self.cores)?.0
        };
        let alerts = ours::with_alerts(&self.path("alerts"), part, self.cores)?;
        let rate = |took: Duration| count(part as f64 / took.as_secs_f64());
        let what = format!("the same, {} entries, one thread", count(part as f64));
        self.table.row(&what, [rate(one), none(), none()], none(), "");
        self.table.row("… with the value detectors", [rate(defaults), none(), none()], none(), "");
        self.table.row("… with the built-in alert rules", [count(alerts), none(), none()], none(), "");
        Ok(())
    }

    fn bulk_sqlite(&self) -> Result<(f64, f64), Failure> {
        let mut workload = Workload::new(self.size);
        let mut store = Sqlite::open(&self.path("s"))?;
        store.checkpoint_pages(16_384)?;
        let (mut took, mut cpu) = (Duration::ZERO, 0.0);
        let mut rest = self.size;
        while rest > 0 {
            let entries = ours::entries(workload.take(rest.min(100 * BATCH)))?;
            rest -= entries.len() as u64;
            record(&mut took, &mut cpu, || entries.chunks(BATCH as usize).try_for_each(|batch| store.record(batch)))?;
        }
        record(&mut took, &mut cpu, || store.close())?;
        Ok((self.size as f64 / took.as_secs_f64(), cpu))
    }

    fn bulk_rows(&self) -> Result<(f64, f64), Failure> {
        let mut workload = Workload::new(self.size);
        let mut store = Rows::create(&self.path("r"))?;
        let (mut took, mut cpu) = (Duration::ZERO, 0.0);
        let mut rest = self.size;
        while rest > 0 {
            let entries = ours::entries(workload.take(rest.min(100 * BATCH)))?;
            rest -= entries.len() as u64;
            record(&mut took, &mut cpu, || entries.chunks(BATCH as usize).try_for_each(|batch| store.record(batch)))?;
        }
        record(&mut took, &mut cpu, || drop(store));
        Ok((self.size as f64 / took.as_secs_f64(), cpu))
    }

    fn disk(&mut self) -> Result<(), Failure> {
        let per = |name: &str| bytes_of(&self.path(name), &["-wal", "-shm"]) as f64 / self.size as f64;
        let (ours, lite, redb) = (per("a"), per("s"), per("r"));
        self.table.row(
            "disk per entry after close: bytes",
            [count(ours), count(lite), count(redb)],
            format!("{:.2} of SQLite's", ours / lite),
            "≤ 0.35",
        );
        let _ = std::fs::remove_file(self.path("r"));
        Ok(())
    }

    fn queries(&mut self) -> Result<(), Failure> {
        let log = Options::new().open(self.path("a"))?;
        let lite = match self.plan.alone {
            true => None,
            false => Some(Sqlite::open(&self.path("s"))?),
        };
        let conversations = {
            let mut workload = Workload::new(self.size);
            for _ in 0..self.size {
                workload.take(1);
            }
            workload.conversations()
        };
        let mut dice = Dice::new(7);
        let (mut ours, mut theirs): ([Times; 3], [Times; 3]) = Default::default();
        let mut hits = [0; 3];
        let n = self.times(3_000);
        // The first round warms both caches and is not counted.
        for round in 0..2 * n {
            if round == n {
                ours = Default::default();
                theirs = Default::default();
                hits = [0; 3];
            }
            let conversation = workload::conversation(dice.below(conversations));
            let user = workload::user(dice.skewed(workload::USERS));
            let patient = workload::patient(dice.skewed(workload::PATIENTS));
            let since = workload::START + dice.below(60) as i64 * 86_400_000_000_000;
            let until = since + 30 * 86_400_000_000_000;
            let (from, to) = (Timestamp::from_nanos(since), Timestamp::from_nanos(until));
            let queries = [
                Query::new().conversation(&*conversation),
                Query::new().user(&*user).newest_first().limit(50),
                Query::new().patient(&*patient).since(from).until(to),
            ];
            for (i, query) in queries.iter().enumerate() {
                let found = ours[i].time(|| log.query(query)?.collect::<Result<Vec<_>, _>>())?;
                hits[i] += found.len();
                let Some(lite) = &lite else { continue };
                let same = theirs[i].time(|| match i {
                    0 => lite.by_conversation(&conversation),
                    1 => lite.newest_of_user(&user),
                    _ => lite.of_patient(&patient, since, until),
                })?;
                if same.len() != found.len() {
                    return Err(format!("{query:?}: {} hits, SQLite has {}", found.len(), same.len()).into());
                }
            }
        }
        let names = ["by conversation", "by user, newest 50", "by patient over 30 days"];
        for (i, name) in names.iter().enumerate() {
            let (a, s) = (ours[i].percentile(0.5), theirs[i].percentile(0.5));
            self.table.row(
                &format!("{name} ({:.0} hits): p50", hits[i] as f64 / n as f64),
                [micros(a), micros(s), none()],
                format!("{:.2} of SQLite's", a / s),
                "≤ 0.6",
            );
        }
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        for n in 0..self.times(50).min(workload::TOOLS) {
            let tool = workload::tool(n);
            let one = ours.time(|| log.statistics(&Statistics::new().tool(&*tool)))?;
            if let Some(lite) = &lite {
                let same = theirs.time(|| lite.statistics(&tool))?;
                if one.first().map(|t| (t.total_calls, t.unique_users as usize)) != Some((same.0, same.4)) {
                    return Err(format!("statistics of {tool}: {one:?}, SQLite has {same:?}").into());
                }
            }
        }
        self.table.row(
            "statistics of one tool over all time: mean",
            [micros(ours.mean()), micros(theirs.mean()), none()],
            format!("{:.0} × faster", theirs.mean() / ours.mean()),
            "≥ 20 × at 1 million",
        );
        Ok(log.close()?)
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let sample = ours::entries(Workload::new(self.size).take(self.size.min(50_000)))?;
        let (hash, _) = ours::pure_hash(&sample);
        drop(sample);
        let log = Options::new().open(self.path("a"))?;
        let start = Instant::now();
        let found = log.verify(&VerifyOptions::new())?;
        let rate = found.size as f64 / start.elapsed().as_secs_f64();
        if !found.ok() || found.entries < self.size {
            return Err(format!("the store is not whole: {found:?}").into());
        }
        self.table.row(
            &format!("verify, {} threads: entries/s", self.cores),
            [count(rate), none(), none()],
            format!("{:.2} of pure hashing on one core", rate * hash.as_secs_f64()),
            "≥ 1,000,000; ≥ 0.33",
        );
        Ok(log.close()?)
    }

    fn opening(&mut self) -> Result<(), Failure> {
        let mut clean = Times::default();
        for _ in 0..5 {
            let log = clean.time(|| AuditLog::open(self.path("a")))?;
            log.close()?;
        }
        let mut killed = Times::default();
        for _ in 0..3 {
            let me = std::env::current_exe()?;
            let status = Command::new(me).arg("killed").arg(self.path("a")).status()?;
            if status.success() {
                return Err("the program that should have been killed was not".into());
            }
            let log = killed.time(|| AuditLog::open(self.path("a")))?;
            log.close()?;
        }
        self.table.row(
            "open after a clean close / after a kill: p50",
            [format!("{} / {}", micros(clean.percentile(0.5)), micros(killed.percentile(0.5))), none(), none()],
            none(),
            "≤ 50 ms / 2.5 s at 10 million",
        );
        Ok(())
    }

    /// Single durable records, in turns, so that whatever else the machine does hits all of them.
    fn singles(&mut self) -> Result<(), Failure> {
        let path = self.path("a");
        let mut workload = Workload::new(self.size + 1_000_000);
        workload.take(self.size.min(10_000));
        let mut bare = Bare::new(&self.path("bare"))?;
        let mut lite = match self.plan.alone {
            true => None,
            false => Some(Sqlite::open(&self.path("s"))?),
        };
        let (mut two, mut one, mut sync, mut theirs) =
            (Times::default(), Times::default(), Times::default(), Times::default());
        for round in 0..self.times(20) {
            for one_phase in [false, true] {
                let log = Options::new().one_phase_commits(one_phase).open(&path)?;
                let times = if one_phase { &mut one } else { &mut two };
                for call in workload.take(self.times(250)) {
                    times.time(|| log.record(call))?;
                }
                log.close()?;
            }
            for _ in 0..self.times(250) {
                sync.time(|| bare.append())?;
            }
            if let Some(lite) = &mut lite {
                for entry in ours::entries(workload.take(self.times(250)))? {
                    theirs.time(|| lite.record(std::slice::from_ref(&entry)))?;
                }
            }
            let _ = round;
        }
        let p50 = sync.percentile(0.5);
        let into = count(self.size as f64);
        self.table.row(
            &format!("one durable record into {into}: p50 (bare sync {})", micros(p50)),
            [micros(two.percentile(0.5)), micros(theirs.percentile(0.5)), none()],
            format!("{:.2} × bare", two.percentile(0.5) / p50),
            "≤ 2.7 × bare",
        );
        self.table.row(
            "… with one-phase commits: p50",
            [micros(one.percentile(0.5)), none(), none()],
            format!("{:.2} × bare", one.percentile(0.5) / p50),
            "≤ 1.7 × bare",
        );
        self.table.row(
            &format!("… average (bare sync {})", micros(sync.mean())),
            [micros(two.mean()), micros(theirs.mean()), none()],
            format!("{:.2} of SQLite's", two.mean() / theirs.mean()),
            "≤ 1",
        );
        self.crowd_and_merges(&path, &mut workload)
    }

    fn crowd_and_merges(&mut self, path: &Path, workload: &mut Workload) -> Result<(), Failure> {
        let log = Options::new().open(path)?;
        let (mut alone, mut crowd) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            alone.push(ours::crowd(&log, workload, 1, self.times(500))?);
            crowd.push(ours::crowd(&log, workload, 16, self.times(500))?);
        }
        alone.sort_unstable_by(f64::total_cmp);
        crowd.sort_unstable_by(f64::total_cmp);
        let (alone, crowd) = (alone[2], crowd[2]);
        self.table.row(
            "16 threads recording one by one: entries/s",
            [count(crowd), none(), none()],
            format!("{:.1} × one thread ({})", crowd / alone, count(alone)),
            "≥ 8 ×",
        );
        let merges = if self.plan.quick { 1 } else { 12 };
        let mut times = ours::during_merges(&log, workload, merges)?;
        self.table.row(
            &format!("one record during index merges ({} of them): p50", times.len()),
            [micros(times.percentile(0.5)), none(), none()],
            none(),
            "",
        );
        self.table.row(
            "… p99.9 / maximum",
            [format!("{} / {}", micros(times.percentile(0.999)), micros(times.max())), none(), none()],
            none(),
            "≤ 15 ms / 50 ms",
        );
        Ok(log.close()?)
    }

    fn memory(&mut self) -> Result<(), Failure> {
        let me = std::env::current_exe()?;
        let size = self.size.to_string();
        let out = Command::new(me).arg("memory").arg(self.path("m")).arg(size).output()?;
        let text = String::from_utf8(out.stdout)?;
        if !out.status.success() {
            return Err(format!(
                "the program whose memory is measured failed: {}",
                String::from_utf8_lossy(&out.stderr)
            )
            .into());
        }
        self.table.row(
            "resident memory, recording / verifying as well: peak",
            [text.trim().to_owned(), none(), none()],
            none(),
            "≤ 256 MB at 10 million",
        );
        let _ = std::fs::remove_file(self.path("m"));
        Ok(())
    }
}

/// Adds what `work` takes.
fn record<T>(took: &mut Duration, cpu: &mut f64, work: impl FnOnce() -> T) -> T {
    let (start, before) = (Instant::now(), cpu_seconds());
    let done = work();
    *took += start.elapsed();
    *cpu += cpu_seconds() - before;
    done
}

/// How many threads a part has that can have several: THREADS, or one.
fn threads() -> usize {
    std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// One part alone, to be looked at with a profiler.
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
        // The queries of the comparison alone, in a folder that keeps the stores for the next time. ALONE leaves SQLite out.
        "queries" => {
            let alone = std::env::var_os("ALONE").is_some();
            let plan = Plan { sizes: vec![size], quick: false, alone, dir: path.into() };
            let mut table = Table::new();
            let mut compare = Compare { size, plan: &plan, dir: path, cores: 1, table: &mut table };
            std::fs::create_dir_all(path)?;
            if !compare.path("a").exists() {
                ours::bulk(ours::options().create(compare.path("a"))?, &mut Workload::new(size), size, 1)?;
            }
            if !alone && !compare.path("s").exists() {
                compare.bulk_sqlite()?;
            }
            compare.queries()?;
            table.print();
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

/// Records some calls and dies without closing.
pub fn killed(path: &Path) -> Result<(), Failure> {
    let log = AuditLog::open(path)?;
    let mut workload = Workload::new(1_000_000);
    for _ in 0..20 {
        log.record_batch(workload.take(500))?;
    }
    std::process::abort()
}

/// Records, closes, opens, verifies, and says how much memory that took.
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
        return Err(format!("the store is not whole: {found:?}").into());
    }
    println!("{recording:.0} / {:.0} MB", peak_memory());
    Ok(log.close()?)
}

/// The least that a durable record can be: 400 bytes and a sync.
struct Bare(std::fs::File);

impl Bare {
    fn new(path: &Path) -> Result<Bare, Failure> {
        let file = std::fs::File::create(path)?;
        Ok(Bare(file))
    }

    fn append(&mut self) -> std::io::Result<()> {
        self.0.write_all(&[b'x'; 400])?;
        self.0.sync_data()
    }
}

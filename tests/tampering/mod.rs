//! What the tests of tampering share: small stores with everything in them, all that they answer, and the judgement of an
//! altered copy.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod trees;

use super::store_common::*;
use attestlog::Justification;
use attestlog::alert::{AlertState, Rule, Rules};
use attestlog::emergency::GrantState;
use attestlog::json::Json;
use attestlog::query::Statistics;
use attestlog::redact::{Action, Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{
    AuditLog, ErrorKind, Facet, Neighbours, Options, Outcome, PolicySet, Query, Result, Sender, ToolCall, Trigger,
};
use attestlog_report::access::{AccessReport, Context, Subject};
use attestlog_report::csv::CsvWriter;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The call at this place of a store's history.
pub fn call(i: u64) -> ToolCall {
    let patient = format!("P-{}", i % 7);
    let arguments = format!(r#"{{"note":"the {i}th note","patient_id":"{patient}"}}"#);
    let call = ToolCall::new(format!("conv_{}", i / 10), format!("usr_{}", i % 5), ["look", "write"][i as usize % 2])
        .arguments(Json::parse(arguments.as_bytes()).unwrap().value)
        .model("model-1")
        .trigger(if i.is_multiple_of(3) { Trigger::System } else { Trigger::UserRequest })
        .timestamp(time("2025-03-01T12:00:00Z").plus(Duration::from_secs(i * 600)))
        .duration(Duration::from_micros(i * 1000));
    let call = if i.is_multiple_of(4) { call.error("no such note") } else { call.result("found") };
    if i.is_multiple_of(9) { call.sender(Sender::new("sender", i + 1)) } else { call }
}

/// A closed store with `calls` calls and a few: two index batches, entries behind them, segments and a tail, calls in two steps.
pub fn closed(calls: u64) -> Vec<u8> {
    let (log, disk, _) = store(7);
    for part in [0..calls / 2, calls / 2..calls * 3 / 4, calls * 3 / 4..calls] {
        let end = part.end;
        log.record_batch(part.map(call)).unwrap();
        if end < calls {
            log.flush_index().unwrap();
        }
    }
    // Rows of the tail with one entry each.
    (calls..calls + 6).for_each(|i| _ = log.record(call(i)).unwrap());
    let begun = log.begin(ToolCall::new("conv_x", "usr_1", "write")).unwrap();
    begun.finish(|call| call.outcome(Outcome::Timeout)).unwrap();
    let _ = log.begin(ToolCall::new("conv_x", "usr_2", "write")).unwrap();
    log.record(ToolCall::new("conv_x", "usr_9", "look").arguments(Json::parse(br#"{"a":1}"#).unwrap().value)).unwrap();
    log.record(
        ToolCall::new("conv_x", "usr_9", "look")
            .arguments(Json::parse(br#"{"a":2}"#).unwrap().value)
            .trigger(Trigger::System),
    )
    .unwrap();
    log.record(ToolCall::new("conv_x", "usr_9", "look")).unwrap();
    assert_clean(&log);
    // Closing would leave nothing in the tail.
    drop(log);
    disk.bytes()
}

/// What a store answers to whatever it can be asked, as one text.
pub fn answers(log: &AuditLog) -> Result<String> {
    use std::fmt::Write;
    let mut out = String::new();
    let mut queries = vec![Query::new(), Query::new().newest_first(), Query::new().unfinished()];
    queries.push(Query::new().since(time("2025-03-01T13:00:00Z")).until(time("2025-03-02T02:00:00Z")));
    let facets = [
        (Facet::User, vec!["usr_1", "usr_3", "usr_9"]),
        (Facet::Tool, vec!["look", "write"]),
        (Facet::Conversation, vec!["conv_0", "conv_3", "conv_x"]),
        (Facet::Patient, vec!["P-1", "P-6"]),
        (Facet::Outcome, vec!["ok", "tool_error", "timeout", "begun"]),
        (Facet::Trigger, vec!["system", "user_request"]),
        (Facet::Class, vec!["general", "healthcare"]),
        (Facet::Kind, vec!["index_batch", "policy", "call_begun"]),
    ];
    for (field, values) in &facets {
        for value in values {
            queries.push(Query::new().facet(*field, *value));
            queries.push(Query::new().facet(*field, *value).newest_first().limit(3));
        }
    }
    for backwards in [false, true] {
        let query = Query::new().since(time("2025-03-01T12:30:00Z")).user("usr_1");
        queries.push(if backwards { query.newest_first() } else { query });
        let query = Query::new().until(time("2025-03-01T20:00:00Z"));
        queries.push(if backwards { query.newest_first() } else { query });
    }
    for field in Facet::ALL {
        queries.push(Query::new().facet(*field, "no such value"));
    }
    for query in &queries {
        for entry in log.query(query)? {
            let _ = writeln!(out, "{}", entry?.line());
        }
        let _ = writeln!(out, "count {}", log.count(query)?);
    }
    let cut = Statistics::new().since(time("2025-03-01T15:00:00Z"));
    for statistics in [log.statistics(&Statistics::new())?, log.statistics(&cut)?] {
        let _ = writeln!(out, "{statistics:?}");
    }
    for conversation in ["conv_1", "conv_x"] {
        for step in log.timeline(conversation)? {
            let step = step?;
            let _ = writeln!(out, "{} {:?}", step.entry.seq, step.begun_at);
        }
    }
    reports(log, &mut out)?;
    proofs(log, &mut out)?;
    let _ = writeln!(
        out,
        "{} {:?} {}",
        log.retention().policies().unwrap().to_json().to_canonical(),
        log.retention().holds()?,
        log.proofs().root_at(log.size().unwrap())?
    );
    Ok(out)
}

/// What is written about persons, and an export of everything.
fn reports(log: &AuditLog, out: &mut String) -> Result<()> {
    let period = |subject| Context::new(subject).made_at(time(START));
    for patient in ["P-1", "P-6"] {
        let entries = log.query(&Query::new().patient(patient))?.collect::<Result<Vec<_>>>()?;
        let report = AccessReport::of(period(Subject::Patient(patient.to_owned())), &entries);
        out.push_str(report.to_json().to_canonical().as_str());
    }
    let entries = log.query(&Query::new().user("usr_1"))?.collect::<Result<Vec<_>>>()?;
    let report = AccessReport::of(period(Subject::User("usr_1".to_owned())), &entries);
    out.push_str(report.to_json().to_canonical().as_str());
    let mut csv = CsvWriter::new(Vec::new())?;
    for entry in log.query(&Query::new())? {
        csv.write(&entry?)?;
    }
    out.push_str(&String::from_utf8_lossy(&csv.finish()?));
    let states: Vec<_> = log.alerts().list()?.iter().map(AlertState::to_json).collect();
    let grants: Vec<_> = log.emergency().grants()?.iter().map(GrantState::to_json).collect();
    out.push_str(&format!("{states:?} {grants:?}\n"));
    Ok(())
}

/// Proofs of entries, and that answers are complete, where the store has keys to sign them.
fn proofs(log: &AuditLog, out: &mut String) -> Result<()> {
    if log.public_key().unwrap().is_none() {
        return Ok(());
    }
    for seq in (0..log.size().unwrap()).step_by(13) {
        match log.prove(seq) {
            Ok(proof) => out.push_str(&proof.to_string()),
            Err(e) if e.kind() == ErrorKind::NoSuchEntry => out.push_str("purged\n"),
            Err(e) => return Err(e),
        }
    }
    let values =
        [(Facet::User, "usr_1"), (Facet::Tool, "look"), (Facet::Conversation, "conv_5"), (Facet::Tool, "none")];
    for (field, value) in values {
        out.push_str(&log.proofs().complete(field, value, Neighbours::Reveal)?.to_string());
    }
    Ok(())
}

/// A folder where files that only matter for a moment are quick to write.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store with keys: sealed values, pseudonyms, a hold, an alert, checkpoints, a rotation, two index batches, and a purge
/// that took a part of it. Closed, but for the copies that were taken on the way.
pub struct Rich {
    pub folder: tempfile::TempDir,
    pub bytes: Vec<u8>,
    pub key: PathBuf,
    /// Store and key file as they were before the last calls, cleanly closed.
    pub older: (Vec<u8>, Vec<u8>),
    /// The file as a killed process would have left it, after the last calls, which no checkpoint covers.
    pub killed: Vec<u8>,
    /// The key file of that moment.
    pub killed_key: Vec<u8>,
    pub verifier: attestlog::note::VerifierKey,
    /// The checkpoint of the older copy, and the last one.
    pub checkpoints: [attestlog::note::SignedCheckpoint; 2],
}

/// The time at which stores are opened that were made by [`rich`].
pub fn later() -> std::sync::Arc<attestlog::host::ManualClock> {
    let clock = clock();
    clock.advance(Duration::from_secs(500 * 86_400));
    clock
}

pub fn keyed(clock: &std::sync::Arc<attestlog::host::ManualClock>, seed: u64) -> Options {
    Options::new()
        .clock(clock.clone())
        .random(std::sync::Arc::new(attestlog::host::SeededRandom::new(seed)))
        .background(false)
        .cache_bytes(1 << 20)
        .segment_entries(64)
}

pub fn rich_call(i: u64) -> ToolCall {
    let arguments = format!(r#"{{"note":"the {i}th note","ssn":"078-05-{:04}","mail":"u{i}@example.com"}}"#, 1000 + i);
    let call =
        ToolCall::new(format!("conv_{}", i / 6), format!("usr_{}", i % 5), ["look", "read_chart"][i as usize % 2])
            .arguments(Json::parse(arguments.as_bytes()).unwrap().value)
            .duration(Duration::from_micros(i * 1000));
    let call = if i % 4 == 1 { call.patient(format!("P-{}", i % 3)) } else { call };
    if i.is_multiple_of(9) { call.sender(Sender::new("sender", i + 1)) } else { call }
}

pub fn rich() -> Rich {
    let folder = folder();
    let path = folder.path().join("audit.log");
    let key = folder.path().join("audit.log.key");
    let mut policies = PolicySet::default();
    policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build().unwrap();
    let clock = clock();
    let log = keyed(&clock, 5).policies(policies).create(&path).unwrap();
    for i in 0..24 {
        log.record(rich_call(i)).unwrap();
    }
    log.checkpoint().unwrap();
    log.flush_index().unwrap();
    let mut covering = HoldSelector::default();
    covering.conversations.insert("conv_1".to_owned());
    log.retention().place_hold("case 7", covering, Justification { actor: "legal", reason: "asked by court" }).unwrap();
    log.keys().rotate_epoch_key().unwrap();
    clock.advance(Duration::from_secs(500 * 86_400));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "a long time" }).unwrap();
    for i in 24..36 {
        log.record(rich_call(i)).unwrap();
    }
    let gone = log.retention().purge("ops").unwrap();
    assert!(gone.purged > 5 && gone.kept_by_hold > 0, "{gone:?}");
    let rules = Rules::none().with(Rule::new("every_patient_access").when(Facet::Tool, "read_chart")).unwrap();
    log.alerts().engine_with(rules).unwrap().run_once().unwrap();
    log.flush_index().unwrap();
    let first = log.checkpoint().unwrap();
    log.close().unwrap();
    let older = (std::fs::read(&path).unwrap(), std::fs::read(&key).unwrap());
    let log = keyed(&clock, 6).open(&path).unwrap();
    for i in 36..44 {
        log.record(rich_call(i)).unwrap();
    }
    let begun = log.begin(rich_call(50)).unwrap();
    begun.finish(|call| call.outcome(Outcome::Timeout)).unwrap();
    let _ = log.begin(rich_call(51)).unwrap();
    let last = log.checkpoint().unwrap();
    for i in 44..48 {
        log.record(rich_call(i)).unwrap();
    }
    let killed = std::fs::read(&path).unwrap();
    let killed_key = std::fs::read(&key).unwrap();
    assert_clean_signed(&log);
    let verifier = log.public_key().unwrap().unwrap();
    // Closing would leave nothing in the tail.
    log.checkpoint().unwrap();
    drop(log);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() < 400 << 10, "{} bytes", bytes.len());
    Rich { bytes, key, older, killed, killed_key, verifier, checkpoints: [first, last], folder }
}

fn assert_clean_signed(log: &AuditLog) {
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(found.ok() && found.purged > 0 && found.signed, "{:#?}", found.findings);
}

/// Writes a private file, over another if there is one.
pub fn private(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// What became of altered copies.
#[derive(Debug, Default)]
pub struct Tally {
    pub not_opened: AtomicU64,
    pub found: AtomicU64,
    /// Verified clean, and every answer is what it was.
    pub harmless: AtomicU64,
    /// Verified clean, yet some answer is an error; verification read everything, so this is not hidden.
    pub refused: AtomicU64,
    /// Of the harmless ones, those into which a further call was recorded.
    pub recorded: AtomicU64,
    /// Of these, the ones that did not verify any more.
    pub found_later: AtomicU64,
    /// Verified clean and answered differently, by the name of what was done.
    pub wrong: Mutex<Vec<String>>,
    pub panics: Mutex<BTreeMap<String, u64>>,
    /// The names of the first harmless ones.
    pub unseen: Mutex<Vec<String>>,
    different: AtomicU64,
}

impl Tally {
    pub fn tried(&self) -> u64 {
        let all = [&self.not_opened, &self.found, &self.harmless, &self.refused];
        all.iter().map(|c| c.load(Ordering::Relaxed)).sum::<u64>() + self.wrong.lock().unwrap().len() as u64
    }

    pub fn say(&self, what: &str) {
        println!(
            "{what}: {} tried: {} not opened, {} found by verify, {} harmless ({} recorded into, {} of them found then), {} \
             answers refused, {} CLEAN AND DIFFERENT",
            self.tried(),
            self.not_opened.load(Ordering::Relaxed),
            self.found.load(Ordering::Relaxed),
            self.harmless.load(Ordering::Relaxed),
            self.recorded.load(Ordering::Relaxed),
            self.found_later.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
            self.wrong.lock().unwrap().len()
        );
        assert!(self.panics.lock().unwrap().is_empty(), "{what} panicked: {:?}", self.panics.lock().unwrap());
    }

    #[track_caller]
    pub fn assert_none_wrong(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "verified clean and answered differently: {wrong:?}");
        let later = self.found_later.load(Ordering::Relaxed);
        assert_eq!(later, 0, "harmless, and no longer clean when a call had been recorded");
    }

    /// Verifies a copy, asks it everything if nothing was found, records into it and closes it.
    pub fn judge(&self, name: &str, log: Result<AuditLog>, verify: &VerifyOptions, answers: &str) {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let log = match log {
                Ok(log) => log,
                Err(e) => {
                    assert_ne!(e.kind(), ErrorKind::InvalidInput);
                    return &self.not_opened;
                }
            };
            let clean = |log: &AuditLog| log.verify(verify).is_ok_and(|found| found.ok());
            if !clean(&log) {
                // Whatever comes of it, the process goes on.
                let _ = log.record(call(98));
                return &self.found;
            }
            match self::answers(&log) {
                Ok(again) if again == answers => {
                    if log.record(call(98)).is_ok() {
                        self.recorded.fetch_add(1, Ordering::Relaxed);
                        self.found_later.fetch_add(u64::from(!clean(&log)), Ordering::Relaxed);
                    }
                    let mut unseen = self.unseen.lock().unwrap();
                    if unseen.len() < 100 {
                        unseen.push(name.to_owned());
                    }
                    &self.harmless
                }
                Ok(_) => {
                    self.wrong.lock().unwrap().push(name.to_owned());
                    &self.different
                }
                Err(_) => &self.refused,
            }
        }));
        match judged {
            Ok(counter) => drop(counter.fetch_add(1, Ordering::Relaxed)),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                let text = text.unwrap_or_default().chars().take(100).collect();
                *self.panics.lock().unwrap().entry(text).or_default() += 1;
            }
        }
    }
}

/// Calls `each` with every item, and the number of the thread.
pub fn on_all_cores<T: Sync>(items: &[T], each: impl Fn(usize, &T) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    let each = &each;
    std::thread::scope(|scope| {
        for lane in 0..threads {
            scope.spawn(move || items.iter().skip(lane).step_by(threads).for_each(|item| each(lane, item)));
        }
    });
}

/// The items that this run tries: all, or with `ATTESTLOG_SHARE=K/N` (K from 0 to N-1) one in N, the same ones each time. The N
/// shares together are all items, so that a run that takes most of a day can be spread over days and machines.
pub fn my_share<T>(items: Vec<T>) -> Vec<T> {
    let Some((k, n)) = share() else { return items };
    // Mixed, so that no share has always the same bit of a byte or the same byte of a row.
    let mine = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % n == k;
    items.into_iter().enumerate().filter(|(i, _)| mine(*i)).map(|(_, item)| item).collect()
}

/// What `ATTESTLOG_SHARE` says.
fn share() -> Option<(u64, u64)> {
    let said = std::env::var("ATTESTLOG_SHARE").ok()?;
    let (k, n) = said.split_once('/').expect("ATTESTLOG_SHARE is K/N");
    let (k, n) = (k.parse().unwrap(), n.parse().unwrap());
    assert!(k < n, "ATTESTLOG_SHARE is K/N, with K from 0 to N-1");
    Some((k, n))
}

//! Promise: every checkpoint goes to the anchors of its store; nobody waits for them, a failure is retried and reported,
//! and what is owed is never forgotten.

use crate::store_common::{Disk, clock, time};
use attestlog::anchor::{Anchor, AnchorReceipt, Backoff, Consistency, FileAnchor, read_anchor_file};
use attestlog::host::{Clock, ManualClock};
use attestlog::note::SignedCheckpoint;
use attestlog::{AuditLog, Error, ErrorKind, Kind, Options, Query, Result, Timestamp, ToolCall};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An upper bound for waiting, reached only if something is wrong.
const LONG: Duration = Duration::from_secs(120);
const QUICK: Backoff = Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(2) };

/// An anchor that accepts checkpoints while it is `up`, and may supply the time.
#[derive(Debug, Clone, Default)]
struct Elsewhere {
    up: Arc<AtomicBool>,
    has: Arc<Mutex<Vec<u64>>>,
    time: Option<Arc<ManualClock>>,
    trusted: bool,
}

impl Elsewhere {
    fn up() -> Elsewhere {
        let elsewhere = Elsewhere::default();
        elsewhere.up.store(true, Ordering::SeqCst);
        elsewhere
    }

    fn has(&self) -> Vec<u64> {
        self.has.lock().unwrap().clone()
    }
}

impl Anchor for Elsewhere {
    fn name(&self) -> String {
        "elsewhere".to_owned()
    }

    fn submit(&self, signed: &SignedCheckpoint, consistency: &Consistency<'_>) -> Result<AnchorReceipt> {
        if !self.up.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "nobody answers"));
        }
        let size = signed.checkpoint().size();
        let mut has = self.has.lock().unwrap();
        if let Some(&old) = has.last().filter(|old| **old < size && **old > 0) {
            consistency(old)?;
        }
        has.push(size);
        let mut receipt = AnchorReceipt::kept();
        receipt.at = self.time.as_ref().map(|clock| clock.now());
        Ok(receipt)
    }

    fn tells_time(&self) -> bool {
        self.trusted
    }
}

fn options(clock: &Arc<ManualClock>) -> Options {
    Options::new().clock(clock.clone()).cache_bytes(4 << 20).anchor_backoff(QUICK).anchor_wait(LONG)
}

fn record(log: &AuditLog) {
    log.record(ToolCall::new("c", "u", "t")).unwrap();
}

#[test]
fn an_anchor_that_fails_is_reported_and_tried_again_and_recording_goes_on() {
    let elsewhere = Elsewhere::default();
    let dir = tempfile::tempdir().unwrap();
    let log = options(&clock()).anchor(elsewhere.clone()).create(dir.path().join("s")).unwrap();
    record(&log);
    let size = log.checkpoint().unwrap().checkpoint().size();
    record(&log);
    assert!(!log.anchors().flush(LONG).unwrap());
    let health = log.health().unwrap();
    let [anchor] = &health.anchors[..] else { panic!("{:?}", health.anchors) };
    assert!(anchor.at_hand && anchor.status.owed == Some(size) && anchor.status.failures > 0);
    assert_eq!(anchor.status.last_failure.as_ref().unwrap().message, "nobody answers");
    assert!(health.concerns()[0].contains("elsewhere was not given") && health.last_anchor().is_none());
    let json = health.to_json();
    assert_eq!(json.get("anchors").unwrap().as_array().unwrap()[0].get("owed").unwrap().as_u64(), Some(size));
    elsewhere.up.store(true, Ordering::SeqCst);
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(elsewhere.has(), [size]);
    let health = log.health().unwrap();
    assert!(health.concerns().is_empty() && health.last_anchor().map(|(_, size, _)| size) == Some(size));
    // Closing signs what is new, and gives the anchor time to accept it.
    log.close().unwrap();
    assert_eq!(elsewhere.has(), [size, size + 1]);
}

#[test]
fn what_is_owed_outlives_crashes_and_runs_without_the_anchor() {
    let (disk, clock) = (Disk::default(), clock());
    let dir = tempfile::tempdir().unwrap();
    let options = || options(&clock).key_file(dir.path().join("key")).background(false).anchor_wait(Duration::ZERO);
    let log = options().anchor(Elsewhere::default()).create_on(disk.backend()).unwrap();
    record(&log);
    let size = log.checkpoint().unwrap().checkpoint().size();
    // Killed here. The next run has no such anchor configured.
    let disk = Disk::of(disk.bytes());
    drop(log);
    let log = options().open_on(disk.backend()).unwrap();
    let [anchor] = &log.anchors().list().unwrap()[..] else { panic!() };
    assert!(!anchor.at_hand && anchor.status.owed == Some(size));
    assert!(log.health().unwrap().concerns()[0].contains("not configured any more"));
    record(&log);
    log.close().unwrap();
    let elsewhere = Elsewhere::up();
    let log = options().anchor(elsewhere.clone()).open_on(disk.backend()).unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(elsewhere.has(), [size + 1]);
    // Once the anchor has that, nothing is owed, also after another start.
    log.close().unwrap();
    let log = options().anchor(elsewhere.clone()).open_on(disk.backend()).unwrap();
    assert!(log.anchors().flush(LONG).unwrap() && log.anchors().list().unwrap()[0].status.owed.is_none());
    assert_eq!(elsewhere.has(), [size + 1]);
    // An anchor in use would be owed the next checkpoint: it was reported as forgotten, and was in the list as before.
    let refused = log.anchors().forget("elsewhere").unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("is in use"), "{refused}");
    log.anchors().set(Vec::new()).unwrap();
    assert!(
        log.anchors().forget("elsewhere").unwrap().is_some() && log.anchors().forget("elsewhere").unwrap().is_none()
    );
    log.close().unwrap();
    assert!(options().open_on(disk.backend()).unwrap().anchors().list().unwrap().is_empty());
}

/// A program that had the store open continued with the anchors with which it had started: one that was added got nothing,
/// and one that was removed went on getting checkpoints.
#[test]
fn anchors_are_changed_while_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&clock()).create(dir.path().join("s")).unwrap();
    record(&log);
    let size = log.checkpoint().unwrap().checkpoint().size();
    let elsewhere = Elsewhere::up();
    log.anchors().set(vec![Arc::new(elsewhere.clone())]).unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(elsewhere.has(), [size]);
    log.anchors().set(Vec::new()).unwrap();
    record(&log);
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(elsewhere.has(), [size]);
    let [anchor] = &log.anchors().list().unwrap()[..] else { panic!() };
    assert!(!anchor.at_hand && anchor.status.owed.is_some());
    let concerns = log.health().unwrap().concerns();
    assert!(concerns.iter().any(|c| c.contains("not configured any more")), "{concerns:?}");
}

#[test]
fn an_anchor_that_is_new_gets_what_was_signed_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(&clock()).create(&path).unwrap();
    record(&log);
    log.close().unwrap();
    let kept = dir.path().join("kept");
    let log = options(&clock()).anchor(FileAnchor::new(&kept)).open(&path).unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    drop(log);
    let records = read_anchor_file(&std::fs::read(&kept).unwrap()).unwrap().records;
    assert_eq!(records[0].1.checkpoint.checkpoint().size(), 3);
    // A new store cannot be created beside the anchor file of a deleted one.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(dir.path().join("s.key")).unwrap();
    let again = options(&clock()).anchor(FileAnchor::new(&kept)).create(&path);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(!path.exists());
}

/// An anchor that does not answer until it is told to.
#[derive(Debug)]
struct Silent(Sender<()>, Mutex<Receiver<()>>);

impl Anchor for Silent {
    fn name(&self) -> String {
        "silent".to_owned()
    }

    fn submit(&self, _: &SignedCheckpoint, consistency: &Consistency<'_>) -> Result<AnchorReceipt> {
        self.0.send(()).unwrap();
        let _ = self.1.lock().unwrap().recv();
        consistency(1).map(|_| AnchorReceipt::kept())
    }
}

#[test]
fn neither_recording_nor_closing_nor_dropping_waits_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    for close in [true, false] {
        let (asked, was_asked) = channel();
        let (answer, answers) = channel::<()>();
        let options =
            options(&clock()).anchor(Silent(asked, Mutex::new(answers))).anchor_wait(Duration::from_millis(1));
        let log = if close { options.create(&path) } else { options.open(&path) }.unwrap();
        record(&log);
        log.checkpoint().unwrap();
        was_asked.recv().unwrap();
        record(&log);
        if close {
            log.close().unwrap()
        } else {
            drop(log)
        }
        // The file is free although the anchor has still not answered.
        let log = Options::new().open(&path).unwrap();
        assert!(log.anchors().list().unwrap()[0].status.owed.is_some());
        drop(log);
        drop(answer);
    }
}

#[test]
fn a_panic_in_an_anchor_is_a_failure_like_any_other() {
    #[derive(Debug)]
    struct Panics;
    impl Anchor for Panics {
        fn name(&self) -> String {
            "panics".to_owned()
        }
        fn submit(&self, _: &SignedCheckpoint, _: &Consistency<'_>) -> Result<AnchorReceipt> {
            panic!("for the test")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = options(&clock()).anchor(Panics).create(dir.path().join("s")).unwrap();
    log.checkpoint().unwrap();
    assert!(!log.anchors().flush(LONG).unwrap());
    assert!(log.anchors().list().unwrap()[0].status.last_failure.is_some());
    record(&log);
    log.close().unwrap();
}

fn clock_entries(log: &AuditLog) -> Vec<String> {
    log.query(&Query::new().kind(Kind::Clock)).unwrap().map(|entry| entry.unwrap().line()).collect()
}

#[test]
fn a_time_that_can_be_trusted_lets_expiry_go_on_and_is_an_entry_only_where_it_says_something() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = clock();
    options(&clock).create(&path).unwrap().close().unwrap();
    // A month passes while the store is closed: more than the bound allows.
    clock.set(time("2025-04-01T09:00:00Z"));
    let with = |trusted| {
        let elsewhere = Elsewhere { time: Some(clock.clone()), trusted, ..Elsewhere::up() };
        options(&clock).anchor(elsewhere).open(&path).unwrap()
    };
    let log = with(false);
    record(&log);
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert!(log.retention().clock().unwrap().frozen.is_some());
    log.close().unwrap();
    let log = with(true);
    record(&log);
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    let status = log.retention().clock().unwrap();
    assert!(status.frozen.is_none() && status.now == clock.now(), "{status:?}");
    let said = clock_entries(&log);
    assert!(said.last().unwrap().contains(r#""event":"trusted""#) && said.last().unwrap().contains("elsewhere"));
    // The same again is not recorded again.
    record(&log);
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(clock_entries(&log), said);
    let found = log.verify(&attestlog::verify::VerifyOptions::new()).unwrap();
    assert!(found.ok() && Timestamp::MIN < clock.now(), "{:?}", found.findings);
    log.close().unwrap();
}

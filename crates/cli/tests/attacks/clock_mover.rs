//! Somebody who changes the clock of the machine or of a witness, or the row in which the expiry clock is kept.

use super::store_common::{clock, options, time};
use crate::store_common::open_grant;
use crate::store_common::tables::META;
use attestlog::Justification;
use attestlog::anchor::{Anchor, AnchorReceipt, Consistency};
use attestlog::host::ManualClock;
use attestlog::note::SignedCheckpoint;
use attestlog::retention::{ClockEvent, RetentionPolicy};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Kind, Options, Query, Result, Timestamp, ToolCall};
use redb::{Database, ReadableDatabase};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// An upper bound for waiting, reached only if something is wrong.
const LONG: Duration = Duration::from_secs(120);

/// A time as encoded in the state row.
fn stored(at: Timestamp) -> Vec<u8> {
    let zigzag = (at.nanos() as u64) << 1;
    [&[253][..], &zigzag.to_le_bytes()].concat()
}

/// Writes another time into the state row: the expiry clock's time is stored right before the system clock's.
fn set_expiry_clock(path: &Path, wall: Timestamp, shows: Timestamp, to: Timestamp) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_read().unwrap();
    let mut row = txn.open_table(META).unwrap().get("state").unwrap().unwrap().value().to_vec();
    drop(txn);
    let (old, new) = (stored(shows), stored(to));
    let both = [&old[..], &stored(wall)].concat();
    let at = row.windows(both.len()).position(|w| w == both).expect("the expiry clock, then the system clock");
    row[at..at + new.len()].copy_from_slice(&new);
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("state", &row[..]).unwrap();
    txn.commit().unwrap();
}

fn calls(log: &AuditLog) -> u64 {
    log.count(&Query::new().kind(Kind::ToolCall)).unwrap()
}

/// The expiry clock is in `meta.state`, which nothing authenticates. Four thousand days were added to it there, and a purge
/// then removed everything: verification found nothing, since everything had expired by the cut-off that the purge's own
/// entry named.
#[test]
fn a_clock_that_was_written_into_the_file_lets_nothing_expire() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = clock();
    let log = options(&clock, 1).create(&path).unwrap();
    for i in 0..20 {
        log.record(ToolCall::new("c", "u", format!("t{i}"))).unwrap();
    }
    log.close().unwrap();
    let now = time(super::store_common::START);
    set_expiry_clock(&path, now, now, now.plus(4000 * DAY));
    let log = options(&clock, 2).open(&path).unwrap();
    // No entry is that late, so the clock is set to the time of the newest one [R77].
    assert_eq!((log.retention().clock().unwrap().now, log.retention().plan().unwrap().expired.len()), (now, 0));
    assert_eq!(log.retention().purge("mallory").unwrap().purged, 0);
    assert_eq!(calls(&log), 20);
    log.close().unwrap();
    // A change within the bound gains at most the bound, by which the clock may be ahead in any case.
    set_expiry_clock(&path, now, now, now.plus(6 * DAY));
    let log = options(&clock, 3).open(&path).unwrap();
    assert_eq!((log.retention().purge("mallory").unwrap().purged, calls(&log)), (0, 20));
}

/// The expiry clock's row was set a hundred years ahead: every later entry was signed with a retention until 2126,
/// verification found nothing, and `clock confirm` said that the clocks agreed and left it so permanently.
#[test]
fn a_clock_that_was_written_into_the_file_keeps_nothing_for_a_century() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = clock();
    let log = options(&clock, 1).create(&path).unwrap();
    let before = log.record(ToolCall::new("c", "u", "t")).unwrap().seq;
    log.close().unwrap();
    let now = time(super::store_common::START);
    for to in [now.plus(36_500 * DAY), Timestamp::MAX] {
        set_expiry_clock(&path, now, now, to);
        let log = options(&clock, 2).open(&path).unwrap();
        let after = log.record(ToolCall::new("c", "u", "t")).unwrap().seq;
        let kept = |seq| log.entry(seq).unwrap().body.retention.unwrap().until;
        assert_eq!(kept(after), kept(before));
        // The log records that the clock was reset, before anything recorded afterwards.
        let said = log.entry(after - 1).unwrap().own().unwrap().detail.to_json();
        assert_eq!(said.get("event").and_then(|event| event.as_str()), Some("brought_back"), "{said:?}");
        log.retention().confirm_clock(Justification { actor: "ops", reason: "right" }).unwrap();
        assert_eq!(log.retention().clock().unwrap().ahead_by, Duration::ZERO);
        assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
        log.close().unwrap();
    }
    // A clock that is ahead because the system clock was ahead is not reset: the log has times that late.
    let log = options(&clock, 3).open(&path).unwrap();
    clock.set(now.plus(100 * DAY));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "wrong by a hundred days" }).unwrap();
    clock.set(now.plus(DAY));
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    log.close().unwrap();
    let log = options(&clock, 4).open(&path).unwrap();
    assert_eq!(log.retention().clock().unwrap().now, now.plus(100 * DAY));
    // Confirming that the system clock is right ends that.
    let event = log.retention().confirm_clock(Justification { actor: "ops", reason: "put right" }).unwrap();
    assert!(
        matches!(event, ClockEvent::Confirmed { from, to, .. } if from == now.plus(100 * DAY) && to == now.plus(DAY))
    );
    assert!(log.retention().plan().is_ok());
}

/// A witness whose clock is wrong, or that lies.
#[derive(Debug)]
struct Witness(Arc<ManualClock>);

impl Anchor for Witness {
    fn name(&self) -> String {
        "witness".to_owned()
    }

    fn submit(&self, _: &SignedCheckpoint, _: &Consistency<'_>) -> Result<AnchorReceipt> {
        let mut receipt = AnchorReceipt::kept();
        receipt.at = Some(attestlog::host::Clock::now(&*self.0));
        Ok(receipt)
    }

    fn tells_time(&self) -> bool {
        true
    }
}

/// One witness cosigned with a time in 2099, and the expiry clock went there: a later purge removed a log of last week.
#[test]
fn one_witness_with_a_wrong_clock_does_not_run_the_expiry_clock_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let witness = Arc::new(ManualClock::at(time("2099-01-01T00:00:00Z")));
    let options =
        Options::new().clock(clock.clone()).cache_bytes(4 << 20).anchor_wait(LONG).anchor(Witness(witness.clone()));
    let log = options.create(dir.path().join("s")).unwrap();
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    assert_eq!(log.retention().clock().unwrap().now, time(super::store_common::START));
    assert_eq!(log.count(&Query::new().kind(Kind::Clock)).unwrap(), 0);
    log.retention().purge("ops").unwrap();
    assert_eq!(calls(&log), 1);
    // A witness with the right time is believed.
    clock.advance(30 * DAY);
    witness.set(attestlog::host::Clock::now(&*clock));
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(LONG).unwrap());
    let status = log.retention().clock().unwrap();
    assert!(status.frozen.is_none() && status.behind_by < DAY, "{status}");
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// The system clock was set years ahead and confirmed, a purge removed everything, and the clock was set back. The chain
/// recorded both, and neither verification nor `health` noticed that they contradict each other.
#[test]
fn a_purge_before_the_clock_was_set_back_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = options(&clock, 1).create(dir.path().join("s")).unwrap();
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    let now = time(super::store_common::START);
    clock.set(now.plus(8000 * DAY));
    log.retention().confirm_clock(Justification { actor: "mallory", reason: "right" }).unwrap();
    log.retention().purge("mallory").unwrap();
    assert_eq!(calls(&log), 0);
    clock.set(now);
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    let purge = log.query(&Query::new().kind(Kind::Purge)).unwrap().next().unwrap().unwrap().seq;
    let early: Vec<_> =
        found.findings.iter().filter(|f| f.kind == attestlog::verify::FindingKind::PurgedEarly).collect();
    assert_eq!(early.iter().map(|f| f.seq).collect::<Vec<_>>(), [Some(purge)], "{:?}", found.findings);
    let concerns = log.health().unwrap().concerns();
    assert!(concerns.iter().any(|c| c.contains("ahead of the system clock")), "{concerns:?}");
}

/// A later policy could widen the bound that keeps a clock set ahead from letting entries expire: with a bound of a year
/// and the machine's clock 200 days ahead, a purge removed what had been recorded that day, and verification was clean.
#[test]
fn a_later_policy_does_not_widen_the_bound_of_the_clock() {
    let log = options(&clock(), 1).in_memory().unwrap();
    let bounded = |days| {
        let mut policies = attestlog::PolicySet::default();
        policies.retention = RetentionPolicy::builder().clock_bound_days(days).build().unwrap();
        policies
    };
    let days = log.retention().policies().unwrap().retention.clock_bound_days();
    let refused = log.retention().set_policies(bounded(days + 1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    log.retention().set_policies(bounded(days - 1)).unwrap();
    assert_eq!(log.retention().set_policies(bounded(days)).unwrap_err().kind(), ErrorKind::Conflict);
}

fn holds(log: &AuditLog, grant: u64) -> bool {
    match log.emergency().check("dr", "P-1", grant) {
        Ok(_) => true,
        Err(e) if e.kind() == ErrorKind::Conflict => false,
        Err(e) => panic!("{e}"),
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A grant had expired and was refused; nothing was recorded, the system clock was set back, and the grant was valid again.
/// Now a refusal records in the chain that the grant is over, and a process that has the store open also counts its
/// monotonic clock.
#[test]
fn a_grant_that_ran_out_does_not_hold_again_when_the_clock_is_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (clock, start) = (clock(), time(super::store_common::START));
    let log = options(&clock, 1).create(&path).unwrap();
    let refused = open_grant(&log, "dr", "P-1");
    clock.advance(HOUR);
    assert!(!holds(&log, refused));
    clock.set(start);
    assert!(!holds(&log, refused));
    let ends = Query::new().kind(Kind::BreakGlassClosed);
    assert_eq!(log.count(&ends).unwrap(), 1);
    log.close().unwrap();
    // Another process has only the file.
    let log = options(&clock, 2).open(&path).unwrap();
    assert!(!holds(&log, refused));
    // Nobody asked about the grant, and nothing was recorded, until the clock was set back.
    let silent = open_grant(&log, "dr", "P-1");
    clock.advance(HOUR);
    clock.set(start);
    assert!(!log.emergency().grants().unwrap().iter().any(|state| state.is_open()));
    assert!(!holds(&log, silent));
    assert_eq!(log.count(&ends).unwrap(), 2);
    // The store was not open either when the grant was opened, except in the process that is asked.
    let earlier = open_grant(&log, "dr", "P-1");
    log.close().unwrap();
    let log = options(&clock, 3).open(&path).unwrap();
    clock.advance(HOUR);
    clock.set(start);
    assert!(!holds(&log, earlier));
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// A clock was ahead and was then corrected: entries recorded in between made each new grant look expired.
#[test]
fn a_grant_holds_that_is_opened_after_the_clock_was_set_right() {
    let (clock, start) = (clock(), time(super::store_common::START));
    let log = options(&clock, 1).in_memory().unwrap();
    clock.set(start.plus(10 * DAY));
    log.record(ToolCall::new("c", "u", "t")).unwrap();
    clock.set(start);
    let grant = open_grant(&log, "dr", "P-1");
    assert!(holds(&log, grant));
    clock.advance(HOUR);
    assert!(!holds(&log, grant));
}

/// The program's check runs in a process of its own, so it knows only what is in the file: the refusal must be there.
#[test]
fn the_program_s_refusal_of_a_grant_is_an_entry() {
    let place = super::common::Place::empty();
    let log = Options::new().clock(clock()).create(place.path("s")).unwrap();
    let grant = open_grant(&log, "dr", "P-1").to_string();
    log.close().unwrap();
    let check = ["break-glass", "check", "s", &grant, "--user", "dr", "--patient", "P-1"];
    assert!(place.run(&check).code(1).err.contains("has expired"));
    assert_eq!(place.count(&["--kind", "break_glass_closed"]), 1);
    assert!(place.run(&check).code(1).err.contains("has expired"));
    assert_eq!(place.count(&["--kind", "break_glass_closed"]), 1);
    place.run(&["verify", "s"]).ok();
}

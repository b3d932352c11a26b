//! What has expired leaves the file, and every proof stays.

use attestlog::merkle;
use attestlog::note::SignedCheckpoint;
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, ErrorKind, ManualClock, Options, Query, SeededRandom, Statistics, ToolCall, VerifyOptions};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn options(clock: &Arc<ManualClock>) -> Options {
    // Each opening draws other random bytes, as each process does.
    static SEED: AtomicU64 = AtomicU64::new(7);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    Options::new().clock(clock.clone()).random(Arc::new(SeededRandom::new(seed))).background(false)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()))
}

fn clean(log: &AuditLog) -> attestlog::Verification {
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:#?}", verification.findings);
    verification
}

/// Three classes interleaved: general one year, healthcare six, financial seven.
fn record(log: &AuditLog, i: u64) {
    let call = match i % 3 {
        0 => ToolCall::new(format!("conv-{}", i / 7), format!("general-user-{}", i % 5), "search"),
        1 => ToolCall::new(format!("conv-{}", i / 7), "nurse", "read_chart").patient(format!("P-{}", i % 11)),
        _ => ToolCall::new(format!("conv-{}", i / 7), "clerk", "issue_refund"),
    };
    log.record(call.duration(Duration::from_millis(i % 40))).unwrap();
}

#[test]
fn classes_go_when_their_time_has_come_and_every_checkpoint_stays_provable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = clock();
    let log = options(&clock).create(&path).unwrap();
    let mut checkpoints: Vec<SignedCheckpoint> = Vec::new();
    for i in 0..400 {
        record(&log, i);
        if i % 37 == 0 {
            checkpoints.push(log.checkpoint().unwrap());
        }
    }
    let receipts: Vec<_> = (2..402).map(|seq| (seq, log.entry(seq).unwrap().hash())).collect();
    clean(&log);
    assert_eq!(log.purge("ops").unwrap().purged, 0);

    clock.advance(2 * 366 * DAY);
    let done = log.purge("ops").unwrap();
    assert_eq!(done.purged, 134);
    assert!(done.seq.is_some());
    let verification = clean(&log);
    assert_eq!((verification.purged, verification.entries), (134, verification.size - 134));
    assert_eq!(log.count(&Query::new().tool("search")).unwrap(), 0);
    assert_eq!(log.count(&Query::new().tool("read_chart")).unwrap(), 133);
    assert_eq!(log.statistics(&Statistics::new()).unwrap().len(), 2);
    let raw = std::fs::read(&path).unwrap();
    assert!(!raw.windows(12).any(|w| w == b"general-user"), "a purged name is still in the file");
    assert!(raw.windows(5).any(|w| w == b"nurse"));
    for old in &checkpoints {
        let proof = log.prove_consistent(old).unwrap();
        let (new, newer) = (proof.checkpoint.checkpoint().size(), proof.checkpoint.checkpoint().root());
        merkle::verify_consistency(old.checkpoint().size(), new, old.checkpoint().root(), newer, &proof.proof).unwrap();
    }
    for (seq, hash) in &receipts {
        match log.entry(*seq) {
            Ok(entry) => {
                assert_eq!(entry.hash(), *hash);
                let proof = log.prove(*seq).unwrap().to_string();
                attestlog::proof::check(proof.as_bytes(), &log.public_key().unwrap()).unwrap();
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::NoSuchEntry),
        }
    }
    record(&log, 1000);
    log.close().unwrap();

    let log = options(&clock).open(&path).unwrap();
    clean(&log);
    clock.advance(6 * 366 * DAY);
    let done = log.purge("ops").unwrap();
    assert!(done.purged >= 266, "{done:?}");
    clean(&log);
    for old in &checkpoints {
        log.prove_consistent(old).unwrap();
    }
}

#[test]
fn a_hold_keeps_what_it_covers_until_it_is_released() {
    let clock = clock();
    let log = options(&clock).in_memory().unwrap();
    for i in 0..30 {
        record(&log, i);
    }
    let mut covering = HoldSelector::default();
    covering.conversations.insert("conv-1".to_owned());
    let hold = log.place_hold("case 7", "litigation", "counsel", covering).unwrap();
    clock.advance(400 * DAY);
    let done = log.purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (8, 2));
    clean(&log);
    log.release_hold(hold.seq, "settled", "counsel").unwrap();
    assert_eq!(log.purge("ops").unwrap().purged, 2);
    clean(&log);
}

#[test]
fn a_clock_that_jumps_freezes_expiry_until_somebody_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = clock();
    let log = options(&clock).create(&path).unwrap();
    record(&log, 0);
    log.close().unwrap();
    clock.set("2031-01-01".parse().unwrap());
    let log = options(&clock).open(&path).unwrap();
    let refused = log.purge("ops").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ClockFrozen, "{refused}");
    assert_eq!(log.plan_purge().unwrap_err().kind(), ErrorKind::ClockFrozen);
    log.confirm_clock("ops", "the machine was in storage").unwrap();
    assert_eq!(log.purge("ops").unwrap().purged, 1);
    clean(&log);
}

#[derive(Debug, Clone)]
enum Step {
    Record(u8),
    Checkpoint,
    Flush,
    Advance(u16),
    Purge,
    Reopen,
    Rotate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<u8>().prop_map(Step::Record),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Flush),
        2 => (1u16..900).prop_map(Step::Advance),
        2 => Just(Step::Purge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rotate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_purged_the_tree_stays_the_tree(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let clock = clock();
        let mut log = options(&clock).create(&path).unwrap();
        // The model: the tree of all leaf hashes, and when each call may go.
        let mut tree = merkle::Frontier::empty();
        let mut alive: Vec<Option<attestlog::Timestamp>> = Vec::new();
        let mut checkpoints: Vec<SignedCheckpoint> = Vec::new();
        for step in steps {
            match step {
                Step::Record(i) => record(&log, i.into()),
                Step::Checkpoint => checkpoints.push(log.checkpoint().unwrap()),
                Step::Flush => log.flush_index().unwrap(),
                Step::Advance(days) => clock.advance(u32::from(days) * DAY),
                Step::Purge => {
                    let done = match log.purge("ops") {
                        Err(e) if e.kind() == ErrorKind::ClockFrozen => {
                            // Time that passed while nothing was committed is unexplained when the store is opened again.
                            log.confirm_clock("ops", "the model says so").unwrap();
                            log.purge("ops").unwrap()
                        }
                        done => done.unwrap(),
                    };
                    let now = log.clock_status().unwrap().now;
                    let gone = alive.iter_mut().filter(|due| due.is_some_and(|due| due <= now));
                    prop_assert_eq!(gone.map(|due| *due = None).count() as u64, done.purged);
                }
                Step::Reopen => {
                    log.close().unwrap();
                    log = options(&clock).open(&path).unwrap();
                }
                Step::Rotate => log.rotate_epoch_key().unwrap(),
            }
            while tree.size() < log.size() {
                let entry = log.entry(tree.size()).unwrap();
                tree.append(entry.hash(), &mut |_, _, _| {});
                alive.push(entry.body.retention.as_ref().map(|r| r.until));
            }
            let verification = clean(&log);
            prop_assert_eq!(verification.root, tree.root());
            let there = log.query(&Query::new()).unwrap().map(|e| e.unwrap().seq).collect::<Vec<_>>();
            prop_assert_eq!(there.len() as u64, verification.entries);
            for old in &checkpoints {
                prop_assert_eq!(log.root_at(old.checkpoint().size()).unwrap(), old.checkpoint().root());
            }
        }
    }
}

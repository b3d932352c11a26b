//! What an attacker who holds the keys can append to the log, and that a full verification finds it.

use crate::emergency::EmergencyAccess;
use crate::host::ManualClock;
use crate::json::{Json, Object};
use crate::retention::{PurgeRecord, SeqSet};
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::tables;
use crate::store::layout::block::BlockBuilder;
use crate::store::log::OpenStore;
use crate::store::options::Options;
use crate::verify::{Finding, FindingKind as K, VerifyOptions};
use crate::{Justification, Kind, Timestamp, ToolCall};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Twenty calls that concern no patient, half of them recorded a year and a half ago.
fn log() -> (OpenStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2024-01-01".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).store_in_memory().unwrap();
    for _ in 0..2 {
        log.record_batch((0..10).map(|i| ToolCall::new("c", format!("u{i}"), "search"))).unwrap();
        log.flush_index().unwrap();
        clock.advance(500 * DAY);
    }
    assert_eq!(found(&log), []);
    (log, clock)
}

fn found(log: &OpenStore) -> Vec<(K, Option<u64>)> {
    let findings: Vec<Finding> = log.verify(&VerifyOptions::new()).unwrap().findings;
    findings.into_iter().map(|finding| (finding.kind, finding.seq)).collect()
}

fn detail(log: &OpenStore, kind: Kind) -> Json {
    let mut last = None;
    for seq in 0..log.size() {
        last = log.entry(seq).ok().filter(|entry| entry.kind() == kind).or(last);
    }
    last.unwrap().own().unwrap().detail.to_json()
}

/// Appends the entry of a purge, and the set of purged seqs to the table.
fn claim(log: &OpenStore, seqs: SeqSet, change: impl FnOnce(&mut PurgeRecord)) -> u64 {
    let mut record = PurgeRecord {
        actor: "thief".to_owned(),
        cut_off: log.clock_status().unwrap().now,
        policy: 1,
        classes: BTreeMap::from([("general".to_owned(), seqs.len())]),
        count: seqs.len(),
        kept_by_hold: 0,
        seqs: seqs.digest(),
    };
    change(&mut record);
    let seq = log.system_event(Kind::Purge, record.to_json()).unwrap().seq;
    let database: Arc<DatabaseHandle> = log.engine().database().unwrap().get().unwrap().clone();
    let txn = database.begin_write().unwrap();
    txn.open_table(tables::PURGES).unwrap().insert(seq, &*seqs.encode()).unwrap();
    txn.commit().unwrap();
    seq
}

#[test]
fn a_second_batch_for_a_stretch_that_has_one() {
    let (log, _) = log();
    let first = detail(&log, Kind::IndexBatch);
    let Json::Object(mut second) = first else { panic!("{first:?}") };
    second.insert("rows", 1u64);
    second.insert("rows_root", crate::Hash::of(b"").to_string());
    let seq = log.system_event(Kind::IndexBatch, second.into()).unwrap().seq;
    assert_eq!(found(&log), [(K::BatchMismatch, Some(seq))]);
}

#[test]
fn purges_that_never_were_or_were_not_as_they_say() {
    let due = || SeqSet::from_iter([2, 3, 4]);
    // A set with an entry that is still there, and one that was purged before it expired.
    let (log_, _) = log();
    let seq = claim(&log_, SeqSet::from_iter([14]), |record| record.cut_off = Timestamp::MIN);
    let all = found(&log_);
    assert!(all.contains(&(K::EntryUnexpected, Some(14))) && all.contains(&(K::PurgedEarly, Some(14))), "{all:?}");
    assert!(!all.contains(&(K::PurgeMismatch, Some(seq))), "{all:?}");
    // Another policy; other classes; system events.
    let (log_, _) = log();
    let policy = claim(&log_, due(), |record| record.policy = 0);
    assert!(found(&log_).contains(&(K::PurgeMismatch, Some(policy))));
    let (log_, _) = log();
    let classes = claim(&log_, due(), |record| record.classes = BTreeMap::from([("financial".to_owned(), 3)]));
    assert!(found(&log_).contains(&(K::PurgeMismatch, Some(classes))));
    let (log_, _) = log();
    claim(&log_, SeqSet::from_iter([1]), |_| {});
    assert!(found(&log_).contains(&(K::PurgedEarly, Some(1))));
    // A set with seqs after the purge, or its own.
    let (log_, _) = log();
    let size = log_.size();
    let later = claim(&log_, SeqSet::from_iter([size, size + 1]), |_| {});
    assert!(found(&log_).contains(&(K::PurgeMismatch, Some(later))));
}

/// An attacker who can append claims a cut-off by which everything has expired, or a time that nothing can confirm yet.
#[test]
fn times_beyond_the_system_clock_and_the_bound() {
    let (log_, clock) = log();
    let now = crate::host::Clock::now(&*clock);
    let within = claim(&log_, SeqSet::from_iter([2, 3]), |record| record.cut_off = now.plus(7 * DAY));
    assert!(!found(&log_).contains(&(K::PurgedEarly, Some(within))));
    let beyond = claim(&log_, SeqSet::from_iter([4, 5]), |record| record.cut_off = now.plus(8 * DAY));
    assert!(found(&log_).contains(&(K::PurgedEarly, Some(beyond))));
    let (log_, _) = log();
    let trusted = |time| crate::retention::ClockEvent::Trusted { source: "w".to_owned(), time, from: now, to: time };
    log_.system_event(Kind::Clock, trusted(now.plus(DAY)).to_json()).unwrap();
    assert_eq!(found(&log_), []);
    let seq = log_.system_event(Kind::Clock, trusted(now.plus(8 * DAY)).to_json()).unwrap().seq;
    assert_eq!(found(&log_), [(K::OwnEntryInvalid, Some(seq))]);
}

/// The log looks up in its index who used a grant. False entries that relied on a wrong answer once went unnoticed: a review by
/// somebody who had used the grant, and the purge of a grant that was used after its review. Verification reads the entries
/// instead.
#[test]
fn reviews_and_purges_of_grants_are_tried_again() {
    let (log, _) = log();
    let grant = log
        .open_emergency(
            EmergencyAccess { user: "dr", patient: "P-1", urgency: "immediate", ttl: DAY },
            Justification { actor: "dr", reason: "er" },
        )
        .unwrap();
    log.record(ToolCall::new("c", "helper", "read").patient("P-1").emergency(Some(grant.seq))).unwrap();
    let review = |reviewer: &str| {
        let names = [("reviewer", reviewer), ("user", "dr"), ("patient", "P-1"), ("disposition", "justified")];
        let mut detail: Object = names.into_iter().collect();
        detail.insert("grant", grant.seq);
        log.system_event(Kind::BreakGlassReviewed, detail.into()).unwrap().seq
    };
    review("boss");
    assert_eq!(found(&log), []);
    let wrong = ["helper", "dr", "HELPER"].map(|name| (K::OwnEntryInvalid, Some(review(name))));
    assert_eq!(found(&log), wrong);
    let told = |log: &OpenStore| {
        let findings = log.verify(&VerifyOptions::new()).unwrap().findings;
        let of_use = findings.into_iter().filter(|finding| finding.detail.contains("after its last review"));
        of_use.map(|finding| (finding.kind, finding.seq)).collect::<Vec<_>>()
    };
    claim(&log, SeqSet::from_iter([grant.seq]), |_| {});
    assert_eq!(told(&log), []);
    log.record(ToolCall::new("c", "later", "read").patient("P-1").emergency(Some(grant.seq))).unwrap();
    let taken = claim(&log, SeqSet::from_iter([grant.seq]), |_| {});
    assert_eq!(told(&log), [(K::PurgedEarly, Some(taken))]);
}

#[test]
fn a_purge_of_what_was_purged_before() {
    let (log, _) = log();
    let done = log.purge("ops").unwrap();
    assert!(done.purged >= 10);
    assert_eq!(found(&log), []);
    let again = claim(&log, SeqSet::from_iter([2]), |_| {});
    assert_eq!(found(&log), [(K::PurgeMismatch, Some(again))]);
    // The entry of a purge without its set of purged seqs.
    let mut record = detail(&log, Kind::Purge).as_object().cloned().unwrap_or_else(Object::new);
    record.insert("kept_by_hold", 7u64);
    let seq = log.system_event(Kind::Purge, record.into()).unwrap().seq;
    assert!(found(&log).contains(&(K::PurgeMismatch, Some(seq))));
}

#[test]
fn a_log_that_its_key_signed_nothing_of() {
    let log = OpenStore::in_memory().unwrap();
    let pinned = || VerifyOptions::new().public_key(log.public_key().unwrap());
    let unsigned = log.verify(&pinned()).unwrap();
    assert_eq!(unsigned.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [K::SignatureInvalid]);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok(), "not pinned, it says that it is unsigned");
    log.checkpoint().unwrap();
    assert!(log.verify(&pinned()).unwrap().ok());
}

/// Somebody moves the content of an entry to a block where the directory does not lead, also one of another segment.
#[test]
fn an_entry_in_a_block_where_nobody_reads_it() {
    const SEGMENT: u64 = 64;
    // So far away that its proper place is with another thread.
    const STRAY: u64 = 7_500;
    let log = Options::new().segment_entries(SEGMENT as u32).store_in_memory().unwrap();
    log.record_batch((0..STRAY + 500).map(|i| ToolCall::new("c", format!("u{}", i % 50), "search"))).unwrap();
    log.flush_index().unwrap();
    assert_eq!(found(&log), []);
    let database: Arc<DatabaseHandle> = log.engine().database().unwrap().get().unwrap().clone();
    let txn = database.begin_write().unwrap();
    {
        let snapshot = log.engine().snapshot().unwrap();
        let mut builder = BlockBuilder::new(0);
        snapshot.read(STRAY, |_, _, record| builder.push(STRAY, &record, false)).unwrap();
        let mut blocks = txn.open_table(tables::BLOCKS).unwrap();
        assert!(blocks.insert(SEGMENT - 1, &*builder.finish().unwrap().unwrap()).unwrap().is_none());
    }
    txn.commit().unwrap();
    for threads in [1, 2, 5] {
        let findings = log.verify(&VerifyOptions::new().threads(threads)).unwrap().findings;
        let found: Vec<_> = findings.into_iter().map(|finding| (finding.kind, finding.seq)).collect();
        assert_eq!(found, [(K::EntryUnexpected, Some(STRAY))], "on {threads} threads");
    }
}

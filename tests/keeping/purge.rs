//! Expired entries leave the file, and every proof still holds.

use attestlog::Justification;
use attestlog::emergency::EmergencyAccess;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::merkle;
use attestlog::note::SignedCheckpoint;
use attestlog::query::Statistics;
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Options, Query, ToolCall};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn options(clock: &Arc<ManualClock>) -> Options {
    // Each opening draws different random bytes, as each process would.
    static SEED: AtomicU64 = AtomicU64::new(7);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    let random = Arc::new(SeededRandom::new(seed));
    Options::new().clock(clock.clone()).random(random).background(false).segment_entries(128)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()))
}

fn clean(log: &AuditLog) -> attestlog::verify::Verification {
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
    assert_eq!(log.retention().purge("ops").unwrap().purged, 0);

    clock.advance(2 * 366 * DAY);
    let done = log.retention().purge("ops").unwrap();
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
        let proof = log.proofs().consistent(old).unwrap();
        let (new, newer) = (proof.checkpoint.checkpoint().size(), proof.checkpoint.checkpoint().root());
        merkle::verify_consistency(old.checkpoint().size(), new, old.checkpoint().root(), newer, &proof.proof).unwrap();
    }
    for (seq, hash) in &receipts {
        match log.entry(*seq) {
            Ok(entry) => {
                assert_eq!(entry.hash(), *hash);
                let proof = log.prove(*seq).unwrap().to_string();
                attestlog::proof::check(proof.as_bytes(), &log.public_key().unwrap().unwrap()).unwrap();
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::NoSuchEntry),
        }
    }
    record(&log, 1000);
    log.close().unwrap();

    let log = options(&clock).open(&path).unwrap();
    clean(&log);
    clock.advance(6 * 366 * DAY);
    let done = log.retention().purge("ops").unwrap();
    assert!(done.purged >= 266, "{done:?}");
    clean(&log);
    for old in &checkpoints {
        log.proofs().consistent(old).unwrap();
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
    let hold = log
        .retention()
        .place_hold("case 7", covering, Justification { actor: "counsel", reason: "litigation" })
        .unwrap();
    clock.advance(400 * DAY);
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (8, 2));
    clean(&log);
    log.retention().release_hold(hold.seq, Justification { actor: "counsel", reason: "settled" }).unwrap();
    assert_eq!(log.retention().purge("ops").unwrap().purged, 2);
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
    let refused = log.retention().purge("ops").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ClockFrozen, "{refused}");
    assert_eq!(log.retention().plan().unwrap_err().kind(), ErrorKind::ClockFrozen);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "the machine was in storage" }).unwrap();
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    clean(&log);
}

#[test]
fn time_that_passes_while_the_store_is_open_counts_though_nothing_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = clock();
    let log = options(&clock).create(&path).unwrap();
    record(&log, 0);
    clock.advance(200 * DAY);
    log.close().unwrap();
    let log = options(&clock).open(&path).unwrap();
    let status = log.retention().clock().unwrap();
    assert_eq!((status.frozen, status.credited, status.behind_by), (None, Duration::ZERO, Duration::ZERO));
    clock.advance(200 * DAY);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    log.close().unwrap();

    // Opening a store briefly to read it changes nothing, even if the system clock went ahead.
    for _ in 0..3 {
        clock.set(attestlog::host::Clock::now(&*clock).plus(6 * DAY));
        let log = options(&clock).open(&path).unwrap();
        assert!(log.count(&Query::new()).unwrap() > 0);
        log.retention().clock().unwrap();
        log.close().unwrap();
    }
    // Advancing six days at a time gains no more than the bound.
    let log = options(&clock).open(&path).unwrap();
    record(&log, 0);
    let status = log.retention().clock().unwrap();
    assert!(status.frozen.is_some() && status.credited <= status.bound, "{status}");
    assert_eq!(log.retention().purge("ops").unwrap_err().kind(), ErrorKind::ClockFrozen);
}

#[test]
fn alerts_and_grants_live_as_long_as_what_they_concern() {
    use attestlog::alert::{Rule, Rules};
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let rules = Rules::none().with(Rule::new("refund").when(attestlog::Facet::Tool, "issue_refund")).unwrap();
    let rules = rules.with(Rule::new("lookup").when(attestlog::Facet::Tool, "search")).unwrap();
    let log = options(&clock).create(dir.path().join("audit.log")).unwrap();
    let mut engine = log.alerts().engine_with(rules).unwrap();
    for i in 0..3 {
        record(&log, i);
    }
    let run = engine.run_once().unwrap();
    assert!(run.raised >= 2, "{run:?}");
    let grant = log
        .emergency()
        .open(
            EmergencyAccess { user: "nurse", patient: "P-1", urgency: "immediate", ttl: DAY },
            Justification { actor: "nurse", reason: "unconscious" },
        )
        .unwrap()
        .seq;
    let used = log.record(ToolCall::new("c", "nurse", "read_chart").patient("P-1").emergency(Some(grant))).unwrap().seq;
    log.emergency().review(grant, Justification { actor: "officer", reason: "justified" }, None).unwrap();
    let acknowledged = log.alerts().list().unwrap().iter().map(|state| state.alert.seq).max().unwrap();
    log.alerts().ack(acknowledged, Justification { actor: "officer", reason: "checked" }).unwrap();
    let alerts = |log: &AuditLog| {
        let of = |kind| log.count(&Query::new().kind(kind)).unwrap();
        (of(attestlog::Kind::Alert), of(attestlog::Kind::AlertAck), of(attestlog::Kind::BreakGlassOpened))
    };
    let all = alerts(&log);
    assert_eq!((all.0 >= 2, all.1, all.2), (true, 1, 1));
    clock.advance(2 * 366 * DAY);
    // The search is purged together with the alert about it; the alert about the refund stays with the refund.
    log.retention().purge("ops").unwrap();
    clean(&log);
    let rest = log.alerts().list().unwrap();
    assert!(rest.iter().any(|state| state.alert.rule == "refund") && rest.iter().all(|s| s.alert.rule != "lookup"));
    assert_eq!(alerts(&log).2, 1);
    clock.advance(4 * 366 * DAY + 100 * DAY);
    log.retention().purge("ops").unwrap();
    assert!(log.entry(grant).is_ok() || log.entry(used).is_err(), "the grant goes no earlier than its use");
    assert!(log.alerts().list().unwrap().iter().any(|state| state.alert.rule == "refund"));
    clock.advance(2 * 366 * DAY);
    log.retention().purge("ops").unwrap();
    clean(&log);
    assert_eq!(alerts(&log), (0, 0, 0));
    drop((log, engine));
    let log = options(&clock).open(dir.path().join("audit.log")).unwrap();
    clean(&log);
}

#[test]
fn a_store_on_a_storage_of_the_callers_says_why_it_cannot_be_purged() {
    let clock = clock();
    let disk = crate::store_common::Disk::default();
    let log = options(&clock).create_on(disk.backend()).unwrap();
    record(&log, 0);
    clock.advance(400 * DAY);
    assert_eq!(log.retention().plan().unwrap().expired.len(), 1);
    let refused = log.retention().purge("ops").unwrap_err();
    assert!(
        refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("no second storage"),
        "{refused}"
    );
    clean(&log);
}

#[test]
fn a_policy_and_a_plan_tell_when_the_next_entries_go() {
    let clock = clock();
    let log = options(&clock).in_memory().unwrap();
    for i in 0..6 {
        record(&log, i);
    }
    log.flush_index().unwrap();
    for i in 0..3 {
        record(&log, i);
    }
    clock.advance(400 * DAY);
    let plan = log.retention().plan().unwrap();
    assert_eq!(plan.expired.len(), 3);
    let next: Vec<String> = plan.next.iter().map(|(class, at)| format!("{class} {}", &at.to_string()[..10])).collect();
    assert_eq!(next, ["financial 2027-01-01", "healthcare 2026-01-01"]);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 3);
    clean(&log);
}

/// An attacker edits a purged store: the tables must say what the chain says.
#[test]
fn purged_is_told_from_missing_and_from_purged_early() {
    use crate::store_common::tables::BLOCKS;
    use crate::store_common::tables::COLUMNS;
    use crate::store_common::tables::PURGES;
    use attestlog::verify::FindingKind as K;
    use redb::Database;
    let made = |start: &str| {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(start.parse().unwrap()));
        let log = options(&clock).create(dir.path().join("s")).unwrap();
        for i in 0..600 {
            record(&log, i);
        }
        log.flush_index().unwrap();
        clock.advance(400 * DAY);
        let seq = log.retention().purge("ops").unwrap().seq.unwrap();
        clean(&log);
        log.close().unwrap();
        (dir, seq)
    };
    let (dir, purge) = made("2020-01-01T08:00:00Z");
    let found = |change: &dyn Fn(&redb::WriteTransaction)| {
        let edited = tempfile::tempdir().unwrap();
        for name in ["s", "s.key"] {
            std::fs::copy(dir.path().join(name), edited.path().join(name)).unwrap();
        }
        let database = Database::open(edited.path().join("s")).unwrap();
        let txn = database.begin_write().unwrap();
        change(&txn);
        txn.commit().unwrap();
        drop(database);
        let log = AuditLog::open(edited.path().join("s")).unwrap();
        let found = log.verify(&VerifyOptions::new()).unwrap().findings;
        found.iter().map(|f| (f.kind, f.seq)).collect::<Vec<_>>()
    };
    assert_eq!(found(&|_| {}), []);
    // The purges table lists one more entry than the purge's entry does.
    let set: attestlog::retention::SeqSet = (2..602).filter(|seq| seq % 3 == 2 || *seq == 30).collect();
    let one_more = found(&|txn| drop(txn.open_table(PURGES).unwrap().insert(purge, &*set.encode()).unwrap()));
    assert!(one_more.contains(&(K::PurgeMismatch, Some(purge))), "{one_more:?}");
    assert!(one_more.contains(&(K::EntryUnexpected, Some(30))), "{one_more:?}");
    // Surviving entries disappear without a purge: they are missing, not purged.
    let missing = found(&|txn| {
        let mut blocks = txn.open_table(BLOCKS).unwrap();
        let first = redb::ReadableTable::iter(&blocks).unwrap().nth(1).unwrap().unwrap().0.value();
        blocks.remove(first).unwrap();
    });
    assert!(missing.iter().any(|(kind, _)| *kind == K::EntryMissing), "{missing:?}");
    assert!(missing.iter().all(|(kind, _)| *kind != K::PurgedEarly), "{missing:?}");
    // A purge without an entry in the chain.
    let claimed: attestlog::retention::SeqSet = [3u64].into_iter().collect();
    let claimed = found(&|txn| drop(txn.open_table(PURGES).unwrap().insert(7, &*claimed.encode()).unwrap()));
    assert!(claimed.contains(&(K::PurgeMismatch, Some(7))), "{claimed:?}");
    // The purged entries should have been kept longer: the columns come from a store of the same calls that was
    // recorded a year later.
    let (later, _) = made("2021-01-01T08:00:00Z");
    let database = Database::open(later.path().join("s")).unwrap();
    let column = {
        use redb::{ReadableDatabase as _, ReadableTable as _};
        let table = database.begin_read().unwrap().open_table(COLUMNS).unwrap();
        let row = table.iter().unwrap().next().unwrap().unwrap();
        (row.0.value(), row.1.value().to_vec())
    };
    let early = found(&|txn| drop(txn.open_table(COLUMNS).unwrap().insert(column.0, &*column.1).unwrap()));
    assert!(early.iter().filter(|(kind, _)| *kind == K::PurgedEarly).count() >= 200, "{} early", early.len());
    assert!(early.iter().any(|(kind, _)| *kind == K::ColumnMismatch), "{early:?}");
}

/// Every entry has a random text, which compression cannot hide.
#[test]
fn no_byte_of_what_was_purged_is_left_in_any_file() {
    use attestlog::host::Random;
    use attestlog::json::Json;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let clock = clock();
    let log = options(&clock).create(&path).unwrap();
    let random = SeededRandom::new(99);
    let mut texts: Vec<(bool, String)> = Vec::new();
    for i in 0..1500u64 {
        let mut bytes = [0; 60];
        random.fill(&mut bytes);
        let text: String =
            bytes.iter().map(|b| char::from(b'0' + b % 75)).filter(char::is_ascii_alphanumeric).collect();
        let kept = i % 10 == 0;
        let arguments = Json::parse(format!(r#"{{"note":"{text}"}}"#).as_bytes()).unwrap().value;
        let call =
            ToolCall::new(format!("conv-{text}"), format!("user-{text}"), if kept { "issue_refund" } else { "search" });
        log.record(call.arguments(arguments).result("found").sender(attestlog::Sender::new("sender", i + 1))).unwrap();
        texts.push((kept, text));
        if i % 400 == 0 {
            log.flush_index().unwrap();
            log.checkpoint().unwrap();
        }
    }
    log.flush_index().unwrap();
    let found = |kept: bool| {
        let mut bytes = Vec::new();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        // Any twelve consecutive bytes of a text.
        let windows: std::collections::HashSet<&[u8]> = bytes.windows(12).collect();
        let is_there = |text: &str| text.as_bytes().windows(12).any(|part| windows.contains(part));
        texts.iter().filter(|(k, text)| *k == kept && is_there(text)).count()
    };
    assert_eq!((found(true), found(false)), (150, 1350));
    clock.advance(2 * 366 * DAY);
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1350);
    assert_eq!((found(true), found(false)), (150, 0));
    clean(&log);
    log.close().unwrap();
    assert_eq!((found(true), found(false)), (150, 0));
    // The dictionary of terms has no term without an entry.
    let log = options(&clock).open(&path).unwrap();
    for (kept, text) in texts.iter().step_by(7) {
        assert_eq!(log.count(&Query::new().user(format!("user-{text}"))).unwrap(), u64::from(*kept));
    }
}

#[test]
fn a_purge_at_a_time_that_nobody_else_had_seen_yet_is_a_finding() {
    use attestlog::anchor::Evidence;
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = options(&clock).create(dir.path().join("s")).unwrap();
    record(&log, 0);
    log.close().unwrap();
    // Somebody confirms that it is 2031 and purges; the evidence that a witness keeps of the log afterwards has its own
    // time.
    clock.set("2031-01-01".parse().unwrap());
    let log = options(&clock).open(dir.path().join("s")).unwrap();
    log.retention().confirm_clock(Justification { actor: "ops", reason: "it is 2031" }).unwrap();
    let purge = log.retention().purge("ops").unwrap().seq.unwrap();
    let note = log.checkpoint().unwrap().to_string();
    let mut kept = Evidence::parse("witness", note.as_bytes(), None, &[]).unwrap().kept.remove(0);
    assert!(log.verify(&VerifyOptions::new().against([kept.clone()])).unwrap().ok());
    kept.time = Some("2020-06-01".parse().unwrap());
    let found = log.verify(&VerifyOptions::new().against([kept])).unwrap().findings;
    let found: Vec<_> = found.iter().map(|f| (f.kind, f.seq)).collect();
    assert_eq!(found, [(attestlog::verify::FindingKind::PurgedEarly, Some(purge))]);
}

/// A purge of entry 9 kept the hash of 9, so the hashes that began with that of 10 left it out. A later purge of 8 kept the
/// node over 8 and 9 instead; but what began with 10, from which it took nothing, was copied unchanged, and the line of 10
/// could not be rebuilt. This needs an even entry at the end of one row of hashes and the odd one at the beginning of the
/// next, purged at different times.
#[test]
fn both_sides_of_a_border_go_at_different_times() {
    let clock = clock();
    let dir = tempfile::tempdir().unwrap();
    for border in [63, 189] {
        let options = || options(&clock).segment_entries(63);
        let path = dir.path().join(border.to_string());
        let log = options().create(&path).unwrap();
        for seq in 2..400 {
            let call = |tool: &str| ToolCall::new(format!("conv-{:04}", seq / 7), "user", tool);
            let call = match seq {
                _ if seq == border => call("search_items"),
                _ if seq + 1 == border => call("read_a_chart").patient("P"),
                _ => call("issue_refund"),
            };
            assert_eq!(log.record(call).unwrap().seq, seq);
        }
        log.flush_index().unwrap();
        assert!(log.health().unwrap().sealed > border + 1);
        log.close().unwrap();
        let log = options().open(&path).unwrap();
        clock.advance(2 * 366 * DAY);
        assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
        clean(&log);
        clock.advance(9 * 183 * DAY);
        assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
        clean(&log);
        log.entry(border + 1).unwrap();
    }
}

//! Health reports the true state; and a follower sees each entry once, in order, and none before it is durable.

use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::{AuditLog, Entry, ErrorKind, Kind, Options, Query, ToolCall};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn call(tool: impl Into<String>) -> ToolCall {
    ToolCall::new("conv_1", "usr_1", tool)
}

fn tool(entry: &Entry) -> &str {
    &entry.call().unwrap().tool_name
}

#[test]
fn health_says_how_far_everything_is() {
    let clock = Arc::new(ManualClock::at("2025-07-06T14:00:00Z".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).segment_entries(256).in_memory().unwrap();
    let begun = log.begin(call("dangerous")).unwrap();
    clock.advance(Duration::from_secs(60));
    let receipt = log.record(call("t")).unwrap();
    clock.advance(Duration::from_secs(1));
    let health = log.health().unwrap();
    assert_eq!((health.size, health.sealed, health.pending_index), (receipt.seq + 1, 0, receipt.seq + 1));
    assert_eq!(health.oldest_unsealed.unwrap().seq, 0);
    assert_eq!(health.oldest_unsealed.unwrap().recorded_at.to_string(), "2025-07-06T14:00:00Z");
    assert_eq!((health.unfinished_calls, health.waiting, health.signed_size), (1, 0, 0));
    assert_eq!(health.last_recorded_at.unwrap().to_string(), "2025-07-06T14:01:00Z");
    assert_eq!(health.checked_at.to_string(), "2025-07-06T14:01:01Z");
    assert_eq!((health.size_bytes, health.over_quota()), (None, None), "a store in memory has no file");

    begun.finish(|call| call.result(true)).unwrap();
    log.flush_index().unwrap();
    let signed = log.checkpoint().unwrap().checkpoint().size();
    let health = log.health().unwrap();
    // The entry of the index batch is not in the batch.
    assert_eq!((health.unfinished_calls, health.pending_index, health.merging), (0, 1, false));
    assert_eq!(health.signed_size, signed);
    while log.health().unwrap().sealed == 0 {
        log.record_batch((0..100).map(|i| call(format!("t{i}")))).unwrap();
    }
    let health = log.health().unwrap();
    assert_eq!(health.oldest_unsealed.map(|o| o.seq), (health.sealed < health.size).then_some(health.sealed));
}

#[test]
fn health_weighs_the_file_against_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.log");
    let log = Options::new().quota_bytes(1).create(&path).unwrap();
    let health = log.health().unwrap();
    assert_eq!(health.size_bytes, Some(std::fs::metadata(&path).unwrap().len()));
    assert_eq!((health.quota_bytes, health.over_quota()), (Some(1), Some(true)));
    let json = health.to_json();
    assert_eq!(json.get("over_quota").and_then(Json::as_bool), Some(true));
    assert_eq!(json.get("size").and_then(Json::as_u64), Some(health.size));
    assert_eq!(json.get("oldest_unsealed").and_then(|o| o.get("seq")?.as_u64()), Some(0));
    // The file is over the quota, and recording goes on: the quota only warns.
    log.record(call("t")).unwrap();
    let before = log.size().unwrap();
    log.health().unwrap();
    assert_eq!(log.size().unwrap(), before, "asking writes nothing");
}

#[test]
fn a_follower_sees_each_entry_once_in_order() {
    let log = AuditLog::in_memory().unwrap();
    let start = log.size().unwrap();
    let follower = log.follow(start);
    let writers: Vec<_> = (0..3)
        .map(|t| {
            let log = log.clone();
            thread::spawn(move || (0..100).for_each(|i| assert!(log.record(call(format!("{t}-{i}"))).is_ok())))
        })
        .collect();
    let seen: Vec<Entry> = follower.take(300).map(Result::unwrap).collect();
    assert!(seen.iter().map(|e| e.seq).eq(start..start + 300));
    writers.into_iter().for_each(|w| w.join().unwrap());
}

#[test]
fn following_begins_with_what_is_there_and_ends_with_the_log() {
    let log = AuditLog::in_memory().unwrap();
    let begin = log.size().unwrap();
    let other = log.clone();
    let reader = thread::spawn(move || other.follow(0).map(Result::unwrap).collect::<Vec<_>>());
    for i in 0..500 {
        log.record(call(format!("t{i}"))).unwrap();
    }
    let mut polling = log.follow(begin);
    for i in 0..500 {
        assert_eq!(tool(&polling.try_next().unwrap().unwrap()), format!("t{i}"));
        assert_eq!(polling.position(), begin + i + 1);
    }
    assert!(polling.try_next().unwrap().is_none());
    assert!(polling.next_within(Duration::ZERO).unwrap().is_none());
    let mut waits = log.follow(log.size().unwrap());
    let other = log.clone();
    let recorder = thread::spawn(move || other.record(call("new")).unwrap());
    // However long it takes: the record ends the wait.
    let entry = waits.next_within(Duration::from_secs(3600)).unwrap().unwrap();
    assert_eq!(entry.hash(), recorder.join().unwrap().hash);
    log.close().unwrap();
    // A reader that is slower than the close may miss the end of the log, but nothing before what it saw.
    let seen = reader.join().unwrap();
    assert!(seen.iter().map(|e| e.seq).eq(0..seen.len() as u64));
    assert_eq!(polling.try_next().unwrap_err().kind(), ErrorKind::Closed);
    assert!(waits.next().is_none());
}

#[test]
fn a_follower_can_be_choosy() {
    let log = AuditLog::in_memory().unwrap();
    let query = Query::new().tool("wanted").kind(Kind::ToolCall).limit(1).newest_first().after(7);
    let mut follower = log.follow(0).matching(&query);
    assert!(follower.try_next().unwrap().is_none());
    for i in 0..300 {
        log.record(call(if i % 3 == 0 { "wanted" } else { "other" }).turn(i)).unwrap();
    }
    for i in (0..300).step_by(3) {
        assert_eq!(follower.try_next().unwrap().unwrap().call().unwrap().turn_number, Some(i));
    }
    assert!(follower.try_next().unwrap().is_none());
    assert_eq!(follower.position(), log.size().unwrap());
    // It finds entries in the file's index as well as those in memory.
    log.flush_index().unwrap();
    log.record(call("wanted")).unwrap();
    assert_eq!(follower.try_next().unwrap().unwrap().seq, log.size().unwrap() - 1);
    assert_eq!(log.follow(0).matching(&query).map(Result::unwrap).take(101).count(), 101);
}

#[test]
fn an_event_is_the_line_with_its_hash_around_it() {
    let log = AuditLog::in_memory().unwrap();
    log.record(call("t").arguments(Json::parse(br#"{"password":"hunter2"}"#).unwrap().value)).unwrap();
    for entry in log.query(&Query::new()).unwrap() {
        let entry = entry.unwrap();
        let event = entry.event();
        let parsed = Json::parse(event.as_bytes()).unwrap().value;
        assert_eq!(parsed.to_canonical().as_str(), event, "one canonical line");
        assert_eq!(parsed.get("entry").unwrap().to_canonical().as_str(), entry.line());
        assert_eq!(parsed.get("hash").and_then(Json::as_str), Some(&*entry.hash().to_string()));
        assert_eq!(parsed.get("target").and_then(Json::as_str), Some("tool_audit"));
        assert!(!event.contains("hunter2"));
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(std::time::Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

/// Nothing said when an open store signs by itself, and a store that had not signed for hours was healthy.
#[test]
fn what_is_recorded_is_signed_in_bounded_time_and_number_or_health_says_so() {
    let clock = Arc::new(ManualClock::at("2025-07-06T14:00:00Z".parse().unwrap()));
    // A store in memory has no thread that would sign by time.
    let dir = tempfile::tempdir().unwrap();
    let log = Options::new().clock(clock.clone()).create(dir.path().join("s.log")).unwrap();
    log.record(call("t")).unwrap();
    assert_eq!(log.health().unwrap().signed_size, 0);
    until("ten minutes of the store's clock", || {
        clock.advance(Duration::from_secs(600));
        log.record(call("t")).unwrap();
        let health = log.health().unwrap();
        assert!(health.size < 2_000, "within days, not when the epoch ends after thirty");
        health.signed_size > 0
    });

    // By number.
    let log = Options::new().clock(clock.clone()).checkpoint_entries(Some(10)).in_memory().unwrap();
    log.record_batch((0..20).map(|i| call(format!("t{i}")))).unwrap();
    until("ten entries", || log.health().unwrap().signed_size >= 10);

    // If signing is not possible: here because there is no background thread.
    let options = || Options::new().clock(clock.clone()).background(false);
    let log = options().in_memory().unwrap();
    log.record(call("t")).unwrap();
    clock.advance(Duration::from_secs(1800));
    assert!(!log.health().unwrap().checkpoint_overdue);
    clock.advance(Duration::from_secs(1));
    let health = log.health().unwrap();
    assert!(health.checkpoint_overdue && health.oldest_unsigned.unwrap().seq == 0);
    assert!(health.concerns().iter().any(|c| c.contains("no checkpoint covers")), "{:?}", health.concerns());
    log.checkpoint().unwrap();
    let health = log.health().unwrap();
    assert!(!health.checkpoint_overdue && health.oldest_unsigned.is_none());
}

/// An emergency access was not reviewed for five days, and the rule allows three. Nothing had the store open in that time, so no
/// alert was raised, and `health` was content: "rules have looked at every entry".
#[test]
fn health_tells_of_a_review_that_is_overdue_though_nobody_looked() {
    use attestlog::Justification;
    use attestlog::emergency::EmergencyAccess;
    let clock = Arc::new(ManualClock::at("2025-07-07T10:00:00Z".parse().unwrap()));
    let options = || Options::new().clock(clock.clone()).background(false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.log");
    let log = options().create(&path).unwrap();
    let access =
        EmergencyAccess { user: "dr_j", patient: "P-1", urgency: "unconscious", ttl: Duration::from_secs(3600) };
    let grant = log.emergency().open(access, Justification { actor: "dr_j", reason: "unconscious" }).unwrap().seq;
    log.alerts().engine().unwrap().run_once().unwrap();
    let is_about = |concern: &String| concern.contains(&format!("the emergency access of entry {grant}"));
    assert!(!log.health().unwrap().concerns().iter().any(is_about), "there are three days for it");
    log.close().unwrap();

    clock.advance(Duration::from_secs(5 * 86_400));
    let log = options().open(&path).unwrap();
    let health = log.health().unwrap();
    let concerns = health.concerns();
    let told = concerns.iter().find(|concern| is_about(concern)).unwrap_or_else(|| panic!("{concerns:?}"));
    assert!(told.contains("break-glass-unreviewed") && told.contains("2025-07-07T10:00:00Z"), "{told}");
    let json = health.to_json();
    let unreviewed = json.get("alerts").and_then(|alerts| alerts.get("unreviewed")).unwrap();
    assert!(unreviewed.get(&grant.to_string()).is_some(), "{unreviewed:?}");

    // Once the alert is there, it is an alert like any other.
    log.alerts().engine().unwrap().run_once().unwrap();
    assert_eq!(log.alerts().list().unwrap().iter().filter(|s| s.alert.rule == "break-glass-unreviewed").count(), 1);
    assert!(!log.health().unwrap().concerns().iter().any(is_about));
}

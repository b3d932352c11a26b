//! The promise of backup and restore: a copy is the store at one moment, complete, clean and readable only by its owner,
//! made while recording goes on; nothing is overwritten; and a restored log says so, so that it does not look like a
//! rollback.

use attestlog::Justification;
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Entry, ErrorKind, KeyPolicy, Kind, Options, PolicySet, Query, Sender, ToolCall};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn call(tool: impl Into<String>) -> ToolCall {
    ToolCall::new("conv_1", "usr_1", tool).arguments(Json::parse(br#"{"order_id":"o-1"}"#).unwrap().value)
}

fn lines(log: &AuditLog) -> Vec<String> {
    log.query(&Query::new()).unwrap().map(|e| e.unwrap().line()).collect()
}

fn clean(log: &AuditLog) {
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
}

fn newest(log: &AuditLog, kind: Kind) -> Entry {
    log.query(&Query::new().kind(kind).newest_first().limit(1)).unwrap().next().unwrap().unwrap()
}

fn detail(entry: &Entry) -> Json {
    entry.own().unwrap().detail.to_json()
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

/// The key file beside a store's path.
fn key(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

#[test]
fn a_copy_of_a_live_store_is_the_store_at_one_moment() {
    let place = Place::new();
    let log = AuditLog::create(place.at("s.log")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|t| {
            let (log, stop) = (log.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut i = 0;
                while !stop.load(Ordering::SeqCst) {
                    i += 1;
                    let numbered = call(format!("t{t}-{i}")).sender(Sender::new(format!("s{t}"), i));
                    log.record_batch([call("first"), numbered]).unwrap();
                }
            })
        })
        .collect();
    let mut backups = Vec::new();
    for i in 0..5 {
        let before = log.size().unwrap();
        let backup = log.backup(place.at(&format!("b{i}.log"))).unwrap();
        assert!(backup.size > before && backup.receipt.seq < backup.size, "it has its own entry");
        backups.push(backup);
    }
    stop.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|w| w.join().unwrap());
    let all = lines(&log);
    for (i, backup) in backups.iter().enumerate() {
        let path = place.at(&format!("b{i}.log"));
        assert_eq!(fs::metadata(&path).unwrap().len(), backup.bytes);
        let copy = AuditLog::open(&path).unwrap();
        assert_eq!(lines(&copy), all[..backup.size as usize]);
        assert_eq!(copy.entry(backup.size - 1).unwrap().hash(), backup.head);
        clean(&copy);
        let said = detail(&log.entry(backup.receipt.seq).unwrap());
        let before = log.entry(backup.receipt.seq - 1).unwrap().hash().to_string();
        let expected =
            [("file", Json::from(format!("b{i}.log"))), ("head", before.into()), ("size", backup.receipt.seq.into())];
        assert_eq!(said, Json::from(attestlog::json::Object::from_iter(expected)));
    }
    clean(&log);
}

#[test]
fn a_copy_has_everything_that_is_not_an_entry_too() {
    let place = Place::new();
    let log = AuditLog::create(place.at("s.log")).unwrap();
    let sent = || call("numbered").sender(Sender::new("proxy-1", 7));
    let first = log.record(sent()).unwrap();
    let begun = log.begin(call("dangerous")).unwrap();
    let mut covering = HoldSelector::default();
    covering.users.insert("usr_1".into());
    let hold =
        log.retention().place_hold("case-1", covering, Justification { actor: "legal", reason: "litigation" }).unwrap();
    let checkpoint = log.checkpoint().unwrap();
    for _ in 0..600 {
        log.record_batch((0..10).map(|i| call(format!("t{i}")))).unwrap();
    }
    log.flush_index().unwrap();
    log.record(call("pending")).unwrap();
    log.backup(place.at("b.log")).unwrap();
    fs::copy(key(&place.at("s.log")), key(&place.at("b.log"))).unwrap();

    let copy = AuditLog::open(place.at("b.log")).unwrap();
    clean(&copy);
    assert_eq!(copy.count(&Query::new().tool("t3")).unwrap(), 600);
    assert_eq!(copy.statistics(&attestlog::query::Statistics::new().tool("t3")).unwrap()[0].total_calls, 600);
    assert_eq!(copy.query(&Query::new().unfinished()).unwrap().count(), 1);
    assert_eq!(copy.retention().holds().unwrap().iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [hold.seq]);
    assert_eq!(copy.health().unwrap().signed_size, log.health().unwrap().signed_size);
    assert!(copy.health().unwrap().signed_size >= checkpoint.checkpoint().size());
    // It is a store like any other: it knows its senders and can be recorded into.
    assert_eq!(copy.record(sent()).unwrap(), first);
    copy.record(call("after")).unwrap();
    clean(&copy);
    drop(begun);
}

#[test]
fn a_copy_that_takes_many_transactions_is_complete() {
    let place = Place::new();
    let log = Options::new().without_keys().create(place.at("s.log")).unwrap();
    for i in 0..60u32 {
        log.record_batch((0..100u32).map(|j| {
            let noise: String =
                (0..40).map(|k| attestlog::Hash::of(&[i, j, k].map(u32::to_be_bytes).concat()).to_string()).collect();
            ToolCall::new(format!("c{i}-{j}"), format!("u{j}"), "t").arguments(noise.as_str())
        }))
        .unwrap();
        if i % 20 == 10 {
            log.flush_index().unwrap();
        }
    }
    let mut told = Vec::new();
    let backup = log.backup_with(place.at("b.log"), |rows, of| told.push((rows, of))).unwrap();
    assert!(backup.bytes > 8 << 20, "{backup:?}");
    assert!(told.len() > 4 && told.is_sorted() && told.iter().all(|(rows, of)| rows <= of));
    let copy = AuditLog::open(place.at("b.log")).unwrap();
    assert_eq!(lines(&copy), lines(&log)[..backup.size as usize]);
    clean(&copy);
}

#[cfg(unix)]
#[test]
fn a_copy_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let log = AuditLog::create(place.at("s.log")).unwrap();
    log.backup(place.at("b.log")).unwrap();
    assert_eq!(fs::metadata(place.at("b.log")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(place.at("b.log"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::copy(key(&place.at("s.log")), key(&place.at("r.log"))).unwrap();
    let restored =
        AuditLog::restore(place.at("b.log"), place.at("r.log"), Justification { actor: "ops", reason: "test" });
    drop(restored.unwrap());
    for name in ["s.log", "r.log"] {
        assert_eq!(fs::metadata(place.at(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn nothing_is_overwritten_and_what_fails_leaves_nothing() {
    let place = Place::new();
    let log = AuditLog::create(place.at("s.log")).unwrap();
    fs::write(place.at("taken"), "mine").unwrap();
    fs::create_dir(place.at("folder")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.at("elsewhere"), place.at("link")).unwrap();
    let before = (place.names(), log.size().unwrap());
    let mut cases = vec![("taken", ErrorKind::AlreadyExists), ("folder", ErrorKind::AlreadyExists)];
    cases.extend([("s.log", ErrorKind::AlreadyExists), ("missing/b.log", ErrorKind::NotFound)]);
    if cfg!(unix) {
        cases.push(("link", ErrorKind::AlreadyExists));
    }
    for (name, kind) in cases {
        assert_eq!(log.backup(place.at(name)).unwrap_err().kind(), kind, "{name}");
    }
    assert_eq!((place.names(), log.size().unwrap()), before);
    assert_eq!(fs::read_to_string(place.at("taken")).unwrap(), "mine");
    clean(&log);

    // If the copy cannot be recorded in the log, it is removed.
    fs::remove_file(key(&place.at("s.log"))).unwrap();
    drop(log);
    let log = AuditLog::open(place.at("s.log")).unwrap();
    assert_eq!(log.backup(place.at("b.log")).unwrap_err().kind(), ErrorKind::Key);
    assert!(!place.at("b.log").exists());
}

#[test]
fn a_restored_store_says_so_and_goes_on() {
    let place = Place::new();
    let log = AuditLog::create(place.at("s.log")).unwrap();
    log.record(call("before")).unwrap();
    let backup = log.backup(place.at("b.log")).unwrap();
    let lost = log.record(call("lost")).unwrap();
    let signed = log.checkpoint().unwrap().checkpoint().size();
    assert!(signed > lost.seq);
    log.close().unwrap();
    fs::rename(place.at("s.log"), place.at("broken.log")).unwrap();

    // The copy is put in the store's place without a restore: detected as soon as something is to be recorded.
    fs::copy(place.at("b.log"), place.at("s.log")).unwrap();
    let rollback = AuditLog::open(place.at("s.log")).unwrap();
    assert_eq!(rollback.record(call("x")).unwrap_err().kind(), ErrorKind::OtherHistory);
    drop(rollback);
    fs::remove_file(place.at("s.log")).unwrap();

    let copy = fs::read(place.at("b.log")).unwrap();
    let log = AuditLog::restore(
        place.at("b.log"),
        place.at("s.log"),
        Justification { actor: "ops@example.com", reason: "disk failure" },
    )
    .unwrap();
    assert!(fs::read(place.at("b.log")).unwrap() == copy, "a restore only reads what it restores");
    let entry = newest(&log, Kind::Restore);
    assert_eq!(entry.seq, backup.size);
    assert_eq!(entry.prev, backup.head);
    let said = detail(&entry);
    let text = |key: &str| said.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    assert_eq!(
        (text("file"), text("reason"), text("head")),
        ("b.log".into(), "disk failure".into(), backup.head.to_string())
    );
    assert!(!text("actor").is_empty());
    assert_eq!(said.get("size").and_then(Json::as_u64), Some(backup.size));
    assert_eq!(said.get("signed_size").and_then(Json::as_u64), Some(signed), "what was lost is known to be lost");

    log.record(call("after")).unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    let log = AuditLog::open(place.at("s.log")).unwrap();
    log.record(call("later")).unwrap();
    clean(&log);
    // The copy is unchanged, and a second restore beside the key of the first is a rollback that is named again.
    drop(log);
    fs::rename(place.at("s.log"), place.at("s1.log")).unwrap();
    let again = Options::new().key_file(key(&place.at("s.log")));
    let again =
        again.restore(place.at("b.log"), place.at("s2.log"), Justification { actor: "ops", reason: "again" }).unwrap();
    assert!(detail(&newest(&again, Kind::Restore)).get("signed_size").is_some());
}

#[test]
fn a_store_without_keys_and_one_whose_keys_are_lost_can_be_restored() {
    let place = Place::new();
    let log = Options::new().without_keys().create(place.at("s.log")).unwrap();
    log.backup(place.at("b.log")).unwrap();
    let restored =
        AuditLog::restore(place.at("b.log"), place.at("r.log"), Justification { actor: "ops", reason: "test" })
            .unwrap();
    assert!(detail(&newest(&restored, Kind::Restore)).get("signed_size").is_none());
    clean(&restored);

    let log = AuditLog::create(place.at("k.log")).unwrap();
    log.backup(place.at("kb.log")).unwrap();
    let refused =
        AuditLog::restore(place.at("kb.log"), place.at("kr.log"), Justification { actor: "ops", reason: "test" });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Key);
    assert!(!place.at("kr.log").exists());
    let restored = Options::new()
        .unsigned(true)
        .restore(place.at("kb.log"), place.at("kr.log"), Justification { actor: "ops", reason: "test" })
        .unwrap();
    assert_eq!(newest(&restored, Kind::Key).seq + 1, newest(&restored, Kind::Restore).seq);
    clean(&restored);
}

#[test]
fn what_cannot_be_restored_makes_nothing() {
    let place = Place::new();
    let log = Options::new().without_keys().create(place.at("s.log")).unwrap();
    log.backup(place.at("b.log")).unwrap();
    fs::write(place.at("text"), "not a store").unwrap();
    fs::write(place.at("empty"), "").unwrap();
    let bytes = fs::read(place.at("b.log")).unwrap();
    fs::write(place.at("cut"), &bytes[..bytes.len() / 2]).unwrap();
    let before = place.names();
    let cases = [
        ("s.log", "r.log", "ops", "why", ErrorKind::Locked),
        ("none", "r.log", "ops", "why", ErrorKind::NotFound),
        ("text", "r.log", "ops", "why", ErrorKind::NotAStore),
        ("empty", "r.log", "ops", "why", ErrorKind::NotAStore),
        ("b.log", "s.log", "ops", "why", ErrorKind::AlreadyExists),
        ("b.log", "b.log", "ops", "why", ErrorKind::AlreadyExists),
        ("b.log", "r.log", "", "why", ErrorKind::InvalidInput),
        ("b.log", "r.log", "ops", " ", ErrorKind::InvalidInput),
        ("b.log", "r.log", "ops", "a\0b", ErrorKind::InvalidInput),
    ];
    for (src, dest, actor, reason, kind) in cases {
        let error = AuditLog::restore(place.at(src), place.at(dest), Justification { actor, reason }).unwrap_err();
        assert_eq!(error.kind(), kind, "{src} to {dest}: {error}");
    }
    assert!(
        AuditLog::restore(place.at("cut"), place.at("r.log"), Justification { actor: "ops", reason: "why" }).is_err()
    );
    assert_eq!(place.names(), before);
    clean(
        &AuditLog::restore(place.at("b.log"), place.at("r.log"), Justification { actor: "ops", reason: "why" })
            .unwrap(),
    );
}

/// A machine that crashed leaves a file that was not closed; its bytes, copied elsewhere, can be restored.
#[test]
fn the_file_of_a_store_that_was_not_closed_can_be_restored() {
    let place = Place::new();
    let log = Options::new().without_keys().create(place.at("s.log")).unwrap();
    let receipt = log.record(call("t")).unwrap();
    fs::copy(place.at("s.log"), place.at("carried.log")).unwrap();
    let restored = AuditLog::restore(
        place.at("carried.log"),
        place.at("r.log"),
        Justification { actor: "ops", reason: "power failure" },
    )
    .unwrap();
    assert_eq!(restored.entry(receipt.seq).unwrap().hash(), receipt.hash);
    clean(&restored);
}

#[test]
fn a_purged_store_is_copied_without_what_went_and_what_a_restore_brings_back_goes_again() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::at("2025-07-06T14:00:00Z".parse().unwrap()));
    let options = || Options::new().clock(clock.clone()).key_file(key(&place.at("s.log")));
    // A copy from before a rotation needs the key file from that time.
    let mut policies = PolicySet::default();
    policies.keys = KeyPolicy::never();
    let log = options().policies(policies).create(place.at("s.log")).unwrap();
    for _ in 0..10 {
        log.record_batch((0..50).map(|i| call(format!("t{}", i % 3)))).unwrap();
    }
    log.record(call("issue_refund")).unwrap();
    log.backup(place.at("before.log")).unwrap();
    clock.advance(Duration::from_secs(2 * 366 * 86_400));
    let purged = log.retention().purge("ops").unwrap();
    assert_eq!(purged.purged, 500);
    log.record(call("after")).unwrap();
    log.backup(place.at("after.log")).unwrap();
    let copy =
        Options::new().clock(clock.clone()).key_file(key(&place.at("s.log"))).open(place.at("after.log")).unwrap();
    assert_eq!(lines(&copy), lines(&log)[..lines(&copy).len()]);
    assert_eq!(copy.verify(&VerifyOptions::new()).unwrap().purged, 500);
    clean(&copy);
    drop(copy);
    log.close().unwrap();

    fs::rename(place.at("s.log"), place.at("gone.log")).unwrap();
    let restored = options()
        .restore(place.at("before.log"), place.at("r.log"), Justification { actor: "ops", reason: "test" })
        .unwrap();
    assert_eq!(restored.count(&Query::new().kind(Kind::ToolCall)).unwrap(), 501);
    clean(&restored);
    // By its own clock the copy was closed for two years, so somebody must confirm that this is so.
    restored.retention().confirm_clock(Justification { actor: "ops", reason: "restored from a backup" }).unwrap();
    assert_eq!(restored.retention().purge("ops").unwrap().purged, 500);
    clean(&restored);
}

#[test]
fn a_closed_store_is_not_copied() {
    let place = Place::new();
    let log = AuditLog::in_memory().unwrap();
    log.clone().close().unwrap();
    assert_eq!(log.backup(place.at("b.log")).unwrap_err().kind(), ErrorKind::Closed);
    assert!(place.names().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Record(u8),
    Batch(Vec<u8>),
    Begin(u8),
    Flush,
    Backup,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(Step::Record),
        4 => proptest::collection::vec(any::<u8>(), 1..80).prop_map(Step::Batch),
        1 => any::<u8>().prop_map(Step::Begin),
        1 => Just(Step::Flush),
        1 => Just(Step::Backup),
    ];
    proptest::collection::vec(step, 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was done to a store, its copy gives the same answers, verifies clean, and can be used like the store
    /// itself.
    #[test]
    fn a_copy_says_what_the_store_says(steps in steps()) {
        let place = Place::new();
        let log = Options::new().without_keys().in_memory().unwrap();
        let named = |n: &u8| ToolCall::new(format!("c{}", n / 8), format!("u{}", n % 5), format!("t{}", n % 3));
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Record(n) => assert!(log.record(named(n)).is_ok()),
                Step::Batch(calls) => drop(log.record_batch(calls.iter().map(named)).unwrap()),
                Step::Begin(n) => drop(log.begin(named(n)).unwrap()),
                Step::Flush => log.flush_index().unwrap(),
                Step::Backup => drop(log.backup(place.at(&format!("b{i}"))).unwrap()),
            }
        }
        let backup = log.backup(place.at("b")).unwrap();
        let before = lines(&log);
        let copy = Options::new().without_keys().open(place.at("b")).unwrap();
        prop_assert_eq!(backup.size, before.len() as u64);
        prop_assert_eq!(&lines(&copy), &before);
        clean(&copy);
        copy.record(named(&1)).unwrap();
        copy.flush_index().unwrap();
        clean(&copy);
    }
}

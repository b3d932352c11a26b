//! Sealed values: shown only to callers who say why, which is recorded; destroyed for good, whatever goes wrong
//! meanwhile.

use crate::store_common::{Disk, clock};
use attestlog::Justification;
use attestlog::json::{Json, Path};
use attestlog::keys::KeyFile;
use attestlog::redact::{Action, MasterKey, Policy, Preset, SubjectKey, sealed_subject};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Kind, Options, PolicySet, Query, ToolCall};
use redb::StorageBackend;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

fn policies() -> PolicySet {
    let mut set = PolicySet::default();
    let policy =
        Policy::builder(Preset::Default).field("ssn", Action::Seal).field("session_metadata.badge", Action::Seal);
    set.redaction = policy.build().unwrap();
    set.results.keep_full = Some(1000);
    set
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

fn call(patient: &str, ssn: &str) -> ToolCall {
    ToolCall::new("conv_1", "usr_1", "enrol")
        .patient(patient)
        .arguments(json(&format!(r#"{{"a":[{{"ssn":"{ssn}"}}]}}"#)))
}

const PATH: &str = "arguments.a[0].ssn";

fn shown(log: &AuditLog, seq: u64) -> Result<Json, attestlog::Error> {
    log.privacy().reveal(seq, PATH, Justification { actor: "dr_no", reason: "claim 17" })
}

fn key_id(log: &AuditLog, seq: u64) -> String {
    let line = json(&log.entry(seq).unwrap().line());
    sealed_subject(Path::parse(PATH).unwrap().find(&line).unwrap()).unwrap().to_owned()
}

fn assert_sound(log: &AuditLog) {
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
}

/// A directory, and the path of a key file in it.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("store.key");
    (dir, key)
}

fn options(key: &std::path::Path) -> Options {
    Options::new().clock(clock()).background(false).policies(policies()).key_file(key)
}

#[test]
fn a_value_is_shown_after_the_log_says_so() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let whole = json(r#"{"rows":[{"ssn":460899847}],"id":"x"}"#);
    let receipt = log.record(call("P-1", "460-89-9847").metadata("badge", json(r#"["B",7]"#)).result(whole)).unwrap();
    let before = log.size().unwrap();
    assert_eq!(shown(&log, receipt.seq).unwrap(), Json::from("460-89-9847"));
    let reveal = log.entry(before).unwrap();
    assert_eq!(reveal.kind(), Kind::Reveal);
    let detail = reveal.own().unwrap().detail.to_json();
    let told = |key: &str| detail.get(key).and_then(Json::as_str).unwrap();
    assert_eq!(detail.get("seq").and_then(Json::as_u64), Some(receipt.seq));
    assert_eq!((told("path"), told("actor"), told("reason")), (PATH, "dr_no", "claim 17"));
    assert_eq!(told("subject"), key_id(&log, receipt.seq));
    // Values of every type and root.
    assert_eq!(
        log.privacy().reveal(receipt.seq, "session_metadata.badge", Justification { actor: "a", reason: "b" }).unwrap(),
        json(r#"["B",7]"#)
    );
    assert_eq!(
        log.privacy().reveal(receipt.seq, "result.rows[0].ssn", Justification { actor: "a", reason: "b" }).unwrap(),
        json("460899847")
    );
    // Nothing is recorded if nothing can be shown.
    let size = log.size().unwrap();
    let refused = |seq, path: &str, actor: &str, reason: &str| {
        log.privacy().reveal(seq, path, Justification { actor, reason }).unwrap_err().kind()
    };
    assert_eq!(refused(receipt.seq, PATH, " ", "r"), ErrorKind::InvalidInput);
    assert_eq!(refused(receipt.seq, PATH, "a", ""), ErrorKind::InvalidInput);
    assert_eq!(refused(receipt.seq, "result.id", "a", "r"), ErrorKind::InvalidInput);
    assert_eq!(refused(receipt.seq, "arguments.x", "a", "r"), ErrorKind::NoSuchEntry);
    assert_eq!(refused(receipt.seq, "arguments..x", "a", "r"), ErrorKind::InvalidInput);
    assert_eq!(refused(0, PATH, "a", "r"), ErrorKind::InvalidInput);
    assert_eq!(refused(999, PATH, "a", "r"), ErrorKind::NoSuchEntry);
    assert_eq!(log.size().unwrap(), size);
    assert_sound(&log);
}

#[test]
fn without_keys_what_would_be_sealed_is_masked() {
    let log = Options::new().policies(policies()).without_keys().in_memory().unwrap();
    let seq = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    let line = log.entry(seq).unwrap().line();
    assert!(line.contains("[REDACTED:") && !line.contains("9847") && !line.contains("sealed"), "{line}");
    assert_eq!(shown(&log, seq).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap_err().kind(),
        ErrorKind::Key
    );
}

#[test]
fn the_key_file_is_needed_to_show_and_to_erase() {
    let (_dir, key) = place();
    let disk = Disk::default();
    let log = options(&key).create_on(disk.backend()).unwrap();
    let seq = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    log.close().unwrap();
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).unwrap();
    let log = options(&key).open_on(disk.backend()).unwrap();
    assert_eq!(shown(&log, seq).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(
        log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap_err().kind(),
        ErrorKind::Key
    );
    log.close().unwrap();
    fs::rename(&aside, &key).unwrap();
    let log = options(&key).open_on(disk.backend()).unwrap();
    assert_eq!(shown(&log, seq).unwrap(), Json::from("460-89-9847"));
}

#[test]
fn an_erasure_destroys_one_subject_and_leaves_the_rest_whole() {
    let (_dir, key) = place();
    let disk = Disk::default();
    let log = options(&key).create_on(disk.backend()).unwrap();
    let first = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    let other = log.record(call("P-2", "460-89-1111")).unwrap().seq;
    // The same person has the same key, whatever surrounds the name; another name is another person.
    let again = log.record(call("P-1\u{200b}", "460-89-2222")).unwrap().seq;
    assert_eq!(key_id(&log, first), key_id(&log, again));
    let named = log.record(call("P_1", "460-89-5555")).unwrap().seq;
    assert_ne!(key_id(&log, first), key_id(&log, named));
    assert_ne!(key_id(&log, first), key_id(&log, other));
    let lines: Vec<String> = (0..log.size().unwrap()).map(|seq| log.entry(seq).unwrap().line()).collect();
    let receipt = log
        .privacy()
        .erase(" P-1", Justification { actor: "privacy officer", reason: "P-1 wants to be forgotten" })
        .unwrap();
    let entry = log.entry(receipt.seq).unwrap();
    assert_eq!(entry.kind(), Kind::Erasure);
    assert!(entry.line().contains(&key_id(&log, first)) && entry.line().contains(" wants to be forgotten"));
    assert!(!entry.line().contains("P-1"), "{}", entry.line());
    // The values of `P_1` were once erased with those of `P-1`.
    assert_eq!(shown(&log, named).unwrap(), Json::from("460-89-5555"));
    for seq in [first, again] {
        let error = shown(&log, seq).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchEntry);
        assert!(error.to_string().contains(&format!("erased by entry {}", receipt.seq)), "{error}");
    }
    let error = log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap_err();
    assert!(error.to_string().contains(&format!("entry {} erased it", receipt.seq)), "{error}");
    assert_eq!(
        log.privacy().erase("P-3", Justification { actor: "a", reason: "r" }).unwrap_err().kind(),
        ErrorKind::NoSuchEntry
    );
    // Nothing else changed, and later values of the same person are not affected.
    for (seq, line) in (0..).zip(&lines) {
        assert_eq!(log.entry(seq).unwrap().line(), *line);
    }
    let later = log.record(call("P-1", "460-89-3333")).unwrap().seq;
    assert_ne!(key_id(&log, later), key_id(&log, first));
    for _ in 0..2 {
        log.keys().rotate_pseudonym_key().unwrap();
        assert_eq!(key_id(&log, log.record(call("P-1", "460-89-4444")).unwrap().seq), key_id(&log, later));
    }
    log.close().unwrap();
    let log = options(&key).open_on(disk.backend()).unwrap();
    assert_eq!(shown(&log, other).unwrap(), Json::from("460-89-1111"));
    assert_eq!(shown(&log, later).unwrap(), Json::from("460-89-3333"));
    assert!(shown(&log, first).is_err());
    log.privacy().erase("P-1", Justification { actor: "a", reason: "again" }).unwrap();
    assert!(shown(&log, later).is_err());
    assert_eq!(shown(&log, other).unwrap(), Json::from("460-89-1111"));
    assert_sound(&log);
}

#[test]
fn what_was_sealed_of_several_goes_with_each_of_them() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let both = log.record(call("P-1", "1").patient("P-2")).unwrap().seq;
    let turned = log.record(call("P-2", "2").patient("P-1")).unwrap().seq;
    let one = log.record(call("P-1", "3")).unwrap().seq;
    assert_eq!(key_id(&log, both), key_id(&log, turned));
    assert_ne!(key_id(&log, both), key_id(&log, one));
    log.privacy().erase("P-2", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&log, both).is_err() && shown(&log, turned).is_err());
    assert_eq!(shown(&log, one).unwrap(), Json::from("3"));
}

/// The digest of a result covered what was sealed in it: whoever had the key file could try guesses of a value with it,
/// even after the value's erasure.
#[test]
fn no_digest_of_a_result_confirms_a_guess_of_what_is_sealed() {
    for keep_full in [None, Some(1000)] {
        let mut policies = policies();
        policies.results.keep_full = keep_full;
        let log = Options::new().policies(policies).in_memory().unwrap();
        let digest = |result: &str| {
            let seq = log.record(call("P-1", "1").result(json(result))).unwrap().seq;
            let line = json(&log.entry(seq).unwrap().line());
            line.get("result_summary").unwrap().get("digest").unwrap().as_str().unwrap().to_owned()
        };
        for result in [
            r#"{"ssn":"VALUE","n":NUMBER}"#,
            r#"[{"ssn":"VALUE"},NUMBER]"#,
            r#"{"structuredContent":{"ssn":"VALUE","n":NUMBER},"content":[]}"#,
            r#"{"content":[{"type":"text","text":"{\"ssn\":\"VALUE\"}"}],"n":NUMBER}"#,
        ] {
            let of = |ssn: &str, number: &str| digest(&result.replace("VALUE", ssn).replace("NUMBER", number));
            assert_eq!(of("460-89-9847", "1"), of("460-89-9848", "1"), "{result}");
            assert_ne!(of("460-89-9847", "1"), of("460-89-9847", "2"), "{result}");
        }
    }
}

#[test]
fn a_user_is_the_subject_where_there_is_no_patient() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let arguments = json(r#"{"a":[{"ssn":"1"}]}"#);
    let own = log.record(ToolCall::new("c", "1001", "t").arguments(arguments)).unwrap().seq;
    let of_patient = log.record(call("1001", "2")).unwrap().seq;
    assert_eq!(
        log.privacy().erase("1001", Justification { actor: "a", reason: "r" }).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    log.privacy().erase("user:1001", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&log, own).is_err());
    assert_eq!(shown(&log, of_patient).unwrap(), Json::from("2"));
    log.privacy().erase("1001", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&log, of_patient).is_err());
}

#[test]
fn a_key_without_an_erasure_is_damage() {
    use crate::store_common::tables::SUBJECTS;
    use redb::Database;
    let (dir, _) = place();
    let path = dir.path().join("store");
    let log = Options::new().policies(policies()).create(&path).unwrap();
    let seq = log.record(call("P-1", "1")).unwrap().seq;
    let id = key_id(&log, seq);
    log.close().unwrap();
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    assert!(txn.open_table(SUBJECTS).unwrap().remove(id.as_str()).unwrap().is_some());
    txn.commit().unwrap();
    drop(database);
    let log = AuditLog::open(&path).unwrap();
    let error = shown(&log, seq).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("no entry says"), "{error}");
}

/// Counts the places in `bytes` where this key is found wrapped under one of these master keys.
fn opened(bytes: &[u8], id: &str, masters: &[MasterKey]) -> usize {
    // It follows its length.
    let windows = bytes.windows(73).filter(|w| w[0] == 72).map(|w| &w[1..]);
    // The wrap is bound to the person: try everybody whose pseudonym is in the file.
    let names = bytes.windows(44).filter(|w| w.starts_with(b"ps_") && w[11] == b'_');
    let names = names.filter_map(|w| String::from_utf8(w.to_vec()).ok()).collect::<std::collections::BTreeSet<_>>();
    let opens = |w: &[u8], m| names.iter().any(|name| SubjectKey::unwrap(w, m, id, std::slice::from_ref(name)).is_ok());
    windows.filter(|w| masters.iter().any(|m| opens(w, m))).count()
}

fn masters(key: &[u8]) -> Vec<MasterKey> {
    let file = KeyFile::parse(key, None).unwrap();
    file.master_keys().map(|k| MasterKey::new(*k.bytes())).collect()
}

#[test]
fn nothing_brings_an_erased_value_back() {
    let (_dir, key) = place();
    let disk = Disk::default();
    let log = options(&key).create_on(disk.backend()).unwrap();
    let seq = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    let other = log.record(call("P-2", "460-89-1111")).unwrap().seq;
    let (gone, kept) = (key_id(&log, seq), key_id(&log, other));
    log.checkpoint().unwrap();
    let (old_store, old_key) = (disk.bytes(), fs::read(&key).unwrap());
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    log.close().unwrap();
    let (store, new_key) = (disk.bytes(), fs::read(&key).unwrap());
    assert_eq!((masters(&old_key).len(), masters(&new_key).len()), (1, 1));
    // The search works: with the old key file the old copy can be opened, which is why the old key file must not be
    // kept.
    assert!(opened(&old_store, &gone, &masters(&old_key)) > 0);
    assert!(opened(&store, &kept, &masters(&new_key)) > 0);
    // With the present key file, neither the old copy nor any byte of the present file can be opened, free pages
    // included.
    assert_eq!(opened(&old_store, &gone, &masters(&new_key)), 0);
    assert_eq!(opened(&store, &gone, &masters(&new_key)), 0);
    let log = options(&key).open_on(Disk::of(old_store).backend()).unwrap();
    assert!(matches!(shown(&log, seq).unwrap_err().kind(), ErrorKind::Key | ErrorKind::OtherHistory));
    let _ = log.close();
    assert_eq!(fs::read(&key).unwrap(), new_key, "an older copy of the store must not change the key file");
}

/// A disk that keeps what a crash at each sync would leave: its bytes and the key file.
#[derive(Debug, Clone)]
struct Watched {
    disk: Disk,
    key: PathBuf,
    states: Arc<Mutex<Vec<(Vec<u8>, Vec<u8>)>>>,
}

impl Watched {
    fn keep(&self) {
        let state = (self.disk.bytes(), fs::read(&self.key).unwrap_or_default());
        self.states.lock().unwrap().push(state);
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.keep();
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.keep();
        self.disk.write(offset, data)
    }
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing_else_and_is_finished_later() {
    let (_dir, key) = place();
    let watched = Watched { disk: Disk::default(), key: key.clone(), states: Arc::default() };
    let backend = watched.clone();
    let log = options(&key).create_on(move || -> Box<dyn StorageBackend> { Box::new(backend.clone()) }).unwrap();
    let seq = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    let others: Vec<u64> = (2..20).map(|n| log.record(call(&format!("P-{n}"), "460-89-1111")).unwrap().seq).collect();
    watched.keep();
    watched.states.lock().unwrap().drain(..).next_back();
    let id = key_id(&log, seq);
    watched.keep();
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    watched.keep();
    let states = watched.states.lock().unwrap().clone();
    drop(log);
    let two = states.iter().filter(|(_, key)| masters(key).len() == 2).count();
    assert!(states.len() > 4 && two > 2 && two < states.len(), "{two} of {}", states.len());
    let (mut erased, mut whole) = (0, 0);
    for (store, key_then) in states {
        fs::write(&key, &key_then).unwrap();
        let disk = Disk::of(store.clone());
        let log = options(&key).open_on(disk.backend()).unwrap();
        assert_eq!(masters(&fs::read(&key).unwrap()).len(), 1, "opening finishes what was begun");
        for &other in &others {
            assert_eq!(shown(&log, other).unwrap(), Json::from("460-89-1111"));
        }
        match shown(&log, seq) {
            Ok(value) => {
                assert_eq!(value, Json::from("460-89-9847"));
                log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
                whole += 1;
            }
            Err(e) => {
                assert!(e.to_string().contains("erased by entry"), "{e}");
                erased += 1;
            }
        }
        assert!(shown(&log, seq).unwrap_err().to_string().contains("erased by entry"));
        assert_eq!(shown(&log, others[0]).unwrap(), Json::from("460-89-1111"));
        assert_sound(&log);
        drop(log);
        let now = masters(&fs::read(&key).unwrap());
        // Each search tries a hundred thousand places; a few states are enough.
        if whole + erased < 4 {
            assert_eq!(opened(&store, &id, &now) + opened(&disk.bytes(), &id, &now), 0);
        }
    }
    assert!(erased > 0 && whole > 0, "{erased} erased, {whole} whole");
}

#[test]
fn a_failing_disk_fails_the_erasure_and_nothing_else() {
    let (_dir, key) = place();
    for full in [false, true] {
        let mut done = false;
        for after in 0.. {
            let _ = fs::remove_file(&key);
            let disk = Disk::default();
            let log = options(&key).create_on(disk.backend()).unwrap();
            let seq = log.record(call("P-1", "460-89-9847")).unwrap().seq;
            let other = log.record(call("P-2", "460-89-1111")).unwrap().seq;
            let before = disk.operations();
            disk.fail(after, 1, full);
            let erased = log.privacy().erase("P-1", Justification { actor: "a", reason: "r" });
            disk.heal();
            if disk.operations() - before <= after {
                assert!(erased.is_ok());
                done = true;
            }
            // Recording continues, for this subject too.
            let later = log.record(call("P-1", "460-89-2222")).unwrap().seq;
            assert_eq!(shown(&log, later).unwrap(), Json::from("460-89-2222"), "{after}");
            if erased.is_err() {
                log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
            }
            assert!(shown(&log, seq).unwrap_err().to_string().contains("erased by entry"));
            assert_eq!(shown(&log, other).unwrap(), Json::from("460-89-1111"));
            log.close().unwrap();
            let log = options(&key).open_on(disk.backend()).unwrap();
            assert_eq!(masters(&fs::read(&key).unwrap()).len(), 1);
            assert_eq!(shown(&log, other).unwrap(), Json::from("460-89-1111"));
            assert_eq!(shown(&log, later).is_ok(), erased.is_ok());
            assert_sound(&log);
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_key_file_that_cannot_be_saved_stops_the_erasure_before_anything_is_lost() {
    let (_dir, key) = place();
    let disk = Disk::default();
    let log = options(&key).checkpoint_entries(None).create_on(disk.backend()).unwrap();
    let seq = log.record(call("P-1", "1")).unwrap().seq;
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).unwrap();
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap_err();
    // Nothing is sealed meanwhile (R61), and values sealed afterwards must open with the key file that is on disk.
    assert_eq!(log.record(call("P-2", "2")).unwrap_err().kind(), ErrorKind::Key);
    fs::rename(&aside, &key).unwrap();
    let later = log.record(call("P-2", "2")).unwrap().seq;
    {
        let log = options(&key).open_on(Disk::of(disk.bytes()).backend()).unwrap();
        assert_eq!((shown(&log, seq).unwrap(), shown(&log, later).unwrap()), (Json::from("1"), Json::from("2")));
    }
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&log, seq).is_err());
    assert_eq!(shown(&log, later).unwrap(), Json::from("2"));
    assert_eq!(masters(&fs::read(&key).unwrap()).len(), 1);
}

#[test]
fn threads_that_seal_for_one_subject_share_one_key() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let seqs: Vec<(usize, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|t| {
                let log = log.clone();
                scope.spawn(move || {
                    let record = |n: usize| {
                        let (patient, value) = (format!("P-{n}"), format!("{t}-{n}"));
                        (n, log.record(call(&patient, &value)).unwrap().seq)
                    };
                    (0..30).map(record).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    for n in 0..30 {
        let ids: std::collections::BTreeSet<String> =
            seqs.iter().filter(|(patient, _)| *patient == n).map(|(_, seq)| key_id(&log, *seq)).collect();
        assert_eq!(ids.len(), 1);
    }
    for (_, seq) in seqs {
        shown(&log, seq).unwrap();
    }
}

/// This test once relied on the recording threads having sealed something before the last of twenty erasures. On a busy
/// machine none of them had begun, every erasure found nobody, and the last assertion failed. Now the erased person
/// exists before the threads start, and erasing continues until they are done.
#[test]
fn calls_that_are_recorded_during_an_erasure_are_before_or_after_it() {
    let log = Options::new().policies(policies()).in_memory().unwrap();
    let first = log.record(call("P-1", "first")).unwrap().seq;
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                scope.spawn(move || (0..100).map(|n| log.record(call("P-1", &n.to_string())).unwrap().seq).collect())
            })
            .collect();
        loop {
            let last = threads.iter().all(std::thread::ScopedJoinHandle::is_finished);
            match log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }) {
                Ok(_) => {}
                Err(e) => assert_eq!(e.kind(), ErrorKind::NoSuchEntry, "{e}"),
            }
            if last {
                break;
            }
        }
        threads.into_iter().flat_map(|t| -> Vec<u64> { t.join().unwrap() }).collect()
    });
    seqs.push(first);
    // Nothing was recorded after the last erasure, so every value is destroyed, and each error explains why.
    for seq in seqs {
        let e = shown(&log, seq).unwrap_err();
        assert!(e.to_string().contains("erased by entry"), "{e}");
    }
    let erasures = log.query(&Query::new().kind(Kind::Erasure)).unwrap().count();
    assert!(erasures >= 1);
    assert_sound(&log);
}

#[test]
fn a_backup_keeps_sealed_values_until_somebody_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy, key) = (dir.path().join("store"), dir.path().join("copy"), dir.path().join("store.key"));
    let log = Options::new().policies(policies()).create(&path).unwrap();
    let first = log.record(call("P-1", "1")).unwrap().seq;
    let second = log.record(call("P-2", "2")).unwrap().seq;
    log.backup(&copy).unwrap();
    let restore = |name: &str| {
        let to = dir.path().join(name);
        let key_then = dir.path().join(format!("{name}.key"));
        fs::copy(&key, &key_then).unwrap();
        Options::new().restore(&copy, to, Justification { actor: "ops", reason: "disk failure" }).unwrap()
    };
    let restored = restore("before");
    assert_eq!(
        (shown(&restored, first).unwrap(), shown(&restored, second).unwrap()),
        (Json::from("1"), Json::from("2"))
    );
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    // A copy from before an erasure opens nothing any more, but still records, for the same people too.
    let restored = restore("after");
    assert_eq!(shown(&restored, first).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(shown(&restored, second).unwrap_err().kind(), ErrorKind::Key);
    let later = restored.record(call("P-2", "3")).unwrap().seq;
    assert_eq!(shown(&restored, later).unwrap(), Json::from("3"));
    // The keys have signed nothing yet, so they cannot tell whether a hold is missing: somebody has to check first
    // (R80).
    let refused = restored.privacy().erase("P-2", Justification { actor: "a", reason: "r" }).unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("hold confirm"), "{refused}");
    assert_eq!(shown(&restored, later).unwrap(), Json::from("3"));
    restored
        .retention()
        .confirm_restored(Justification { actor: "dpo", reason: "the register of holds is empty" })
        .unwrap();
    // Verification reported that the old key cannot be found by the person it belongs to.
    assert_sound(&restored);
    restored.privacy().erase("P-2", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&restored, later).unwrap_err().to_string().contains("erased by entry"));
    assert!(shown(&restored, second).unwrap_err().to_string().contains("erased by entry"));
    assert_sound(&restored);
    assert_eq!(shown(&log, second).unwrap(), Json::from("2"));
}

#[test]
fn a_purge_keeps_the_sealed_values_of_what_stays() {
    use std::time::Duration;
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let (path, day) = (dir.path().join("store"), Duration::from_secs(86_400));
    let log = Options::new().clock(clock.clone()).background(false).policies(policies()).create(&path).unwrap();
    let old = log.record(ToolCall::new("c", "usr_1", "t").arguments(json(r#"{"a":[{"ssn":"1"}]}"#))).unwrap().seq;
    let kept = log.record(call("P-1", "2")).unwrap().seq;
    clock.advance(day * 800);
    let purged = log.retention().purge("ops").unwrap();
    assert_eq!(purged.purged, 1, "{purged:?}");
    assert_eq!(shown(&log, old).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    assert_eq!(shown(&log, kept).unwrap(), Json::from("2"));
    let later = log.record(call("P-1", "3")).unwrap().seq;
    assert_eq!(key_id(&log, later), key_id(&log, kept));
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(shown(&log, kept).is_err() && shown(&log, later).is_err());
    assert_sound(&log);
}

fn holding(add: impl Fn(&mut HoldSelector)) -> HoldSelector {
    let mut all = HoldSelector::default();
    add(&mut all);
    all
}

/// A legal hold prevented a purge but not an erasure: it destroyed the values in the held entry for good, with exit
/// code 0, and verification was clean.
#[test]
fn what_a_hold_keeps_is_not_erased() {
    let (_dir, key) = place();
    let log = options(&key).in_memory().unwrap();
    let held = log.record(call("P-1", "460-89-9847")).unwrap().seq;
    let free = log.record(call("P-2", "078-05-1120")).unwrap().seq;
    for selector in [
        holding(|all| all.patients.extend(["P-1".to_owned()])),
        HoldSelector::everything(),
        holding(|all| all.users.extend(["usr_1".to_owned()])),
    ] {
        let hold = log
            .retention()
            .place_hold("2026-114", selector, Justification { actor: "counsel", reason: "lawsuit" })
            .unwrap()
            .seq;
        let refused =
            log.privacy().erase("P-1", Justification { actor: "officer", reason: "request of 2 May" }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert!(refused.to_string().contains(&format!("hold {hold} ")), "{refused}");
        assert_eq!(shown(&log, held).unwrap(), Json::from("460-89-9847"));
        log.retention().release_hold(hold, Justification { actor: "counsel", reason: "settled" }).unwrap();
    }
    log.retention()
        .place_hold(
            "2026-115",
            holding(|all| all.patients.extend(["P-1".to_owned()])),
            Justification { actor: "counsel", reason: "lawsuit" },
        )
        .unwrap();
    log.privacy().erase("P-2", Justification { actor: "officer", reason: "request of 2 May" }).unwrap();
    assert!(shown(&log, free).is_err());
    assert_sound(&log);
}

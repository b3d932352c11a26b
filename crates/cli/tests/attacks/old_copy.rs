//! Somebody kept an older copy of the store.

mod while_open;

use super::common::{Place, Ran, call, json};
use super::store_common::clock;
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::keys::{EnvironmentKeys, InForce, KeyFile, KeyVault};
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Hash, KeyPolicy, Options, PolicySet, Result, ToolCall};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

fn record(place: &Place, store: &str, user: &str, more: &[&str]) -> Ran {
    let args = [&["record", store, "--no-alerts"], more].concat();
    place.run_with(&args, call("c", user, "look", "").as_bytes())
}

/// A store `v` that lacks its newest signed history: in its place is a copy from before eve was recorded, extended beyond
/// the mark without a key.
fn forged() -> Place {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    std::fs::copy(place.path("v"), place.path("copy")).unwrap();
    record(&place, "v", "eve", &[]).ok();
    place.run(&["checkpoint", "v"]).ok();
    for _ in 0..4 {
        record(&place, "copy", "mallory", &["--unsigned", "--key", "/nonexistent"]).ok();
    }
    std::fs::rename(place.path("copy"), place.path("v")).unwrap();
    place
}

/// Below the key file's mark only sizes were compared. Somebody without a key took a copy, waited until eve's call was
/// recorded and signed, extended the copy beyond the mark and put it in the store's place. The next call was recorded on
/// top of it, the next signature moved the mark, and from then on everything was signed and verified clean, without eve.
#[test]
fn a_forged_history_beyond_the_mark_gets_no_signature() {
    let place = forged();
    let key = std::fs::read(place.path("v.key")).unwrap();
    for ran in [record(&place, "v", "bob", &[]), place.run(&["checkpoint", "v"]), place.run(&["keys", "rotate", "v"])] {
        assert!([2, 3].contains(&ran.code), "{ran:?}");
        assert!(ran.err.contains("another history was put in its place"), "{}", ran.err);
        assert!(ran.err.contains("attestlog restore"), "it says what to do: {}", ran.err);
    }
    assert_eq!(std::fs::read(place.path("v.key")).unwrap(), key, "the mark stays");
    let found = json(&place.run(&["verify", "v", "--json"]).code(1).out);
    let findings = found.get("findings").and_then(Json::as_array).unwrap();
    assert!(findings.iter().any(|f| f.get("kind").and_then(Json::as_str) == Some("fork")), "{findings:?}");
    let health = place.run(&["health", "v"]).code(1).out;
    assert!(health.contains("another history was put in its place"), "{health}");
    // The store that was signed still works.
    let place = Place::with_store();
    record(&place, "s", "alice", &[]).ok();
    record(&place, "s", "eve", &[]).ok();
    place.run(&["verify", "s"]).ok();
}

/// The remedy is `restore`, also for a copy that is longer than what was signed. It names what the key file had signed, and
/// only then moves the mark: `restore` used to look only at the sizes and did not mention a longer copy.
#[test]
fn restoring_such_a_copy_names_what_was_signed() {
    let place = forged();
    let signed = KeyFile::load(&place.path("v.key"), None).unwrap().mark().unwrap();
    std::fs::rename(place.path("v"), place.path("forged")).unwrap();
    place.run(&["restore", "forged", "v", "--actor", "ops", "--reason", "disk"]).ok();
    let line = place.run(&["query", "v", "--kind", "restore", "--json"]).json();
    let detail = line.get("detail").unwrap();
    assert_eq!(detail.get("signed_size").and_then(Json::as_u64), Some(signed.size));
    assert_eq!(detail.get("signed_root").and_then(Json::as_str), Some(&*signed.root.to_string()));
    record(&place, "v", "bob", &[]).ok();
}

/// A backup in which somebody had changed a name was restored without a message, the key file's mark was moved to it, and
/// it was signed.
#[test]
fn an_edited_backup_is_not_restored() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    place.run(&["backup", "v", "copy"]).ok();
    assert!(super::common::overwrite(&place.path("copy"), b"alice", b"malix") > 0);
    std::fs::remove_file(place.path("v")).unwrap();
    let key = std::fs::read(place.path("v.key")).unwrap();
    let ran = place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).code(1);
    assert!(ran.err.contains("nothing was restored") && ran.err.contains("another backup"), "{}", ran.err);
    assert!(!place.path("v").exists());
    assert_eq!(std::fs::read(place.path("v.key")).unwrap(), key, "the mark stays");
}

/// R62. The copy was verified without the keys, even if they lay beside it: a row that only a MAC authenticates could be
/// written into a backup (here the position of an alert rule, set ahead so that the rule skips new entries), and was
/// restored unnoticed.
#[test]
fn a_copy_is_verified_with_the_keys_before_it_is_restored() {
    use crate::store_common::tables::CURSORS;
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    place.run(&["backup", "v", "copy"]).ok();
    // Nothing is wrong with the copy because of what the keys signed after it was made, and the epochs that followed.
    record(&place, "v", "bob", &[]).ok();
    place.run(&["keys", "rotate", "v"]).ok();
    std::fs::copy(place.path("copy"), place.path("whole")).unwrap();
    let database = redb::Database::open(place.path("copy")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(CURSORS).unwrap().insert("rules", (2, [7; 16])).unwrap();
    txn.commit().unwrap();
    drop(database);
    std::fs::remove_file(place.path("v")).unwrap();
    let restore = |from: &str| place.run(&["restore", from, "v", "--actor", "ops", "--reason", "disk"]);
    let ran = restore("copy").code(1);
    assert!(ran.err.contains("nothing was restored") && ran.err.contains("store's keys"), "{}", ran.err);
    assert!(!place.path("v").exists());
    restore("whole").ok();
    place.run(&["verify", "v"]).ok();
    // A file that is not a store cannot be used at all.
    place.write("none", "no store");
    place.run(&["restore", "none", "w", "--actor", "ops", "--reason", "disk"]).code(3);
}

/// A vault that keeps the keys in the host's memory.
#[derive(Debug, Default)]
struct Memory(Mutex<Option<Vec<u8>>>);

impl KeyVault for Memory {
    fn name(&self) -> String {
        "the test's memory".to_owned()
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.0.lock().unwrap().clone().map(Zeroizing::new))
    }

    fn store(&self, text: &[u8]) -> Result<()> {
        *self.0.lock().unwrap() = Some(text.to_vec());
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct SharedVault(Arc<Memory>);

impl KeyVault for SharedVault {
    fn name(&self) -> String {
        self.0.name()
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        self.0.load()
    }

    fn store(&self, text: &[u8]) -> Result<()> {
        self.0.store(text)
    }
}

fn quiet() -> Options {
    Options::new().background(false)
}

fn call_by(user: &str) -> ToolCall {
    ToolCall::new("c", user, "look")
}

/// Replaces the store that these options open by a copy without eve, extended without keys.
fn forge(path: &Path, options: &dyn Fn() -> Options) {
    let copy = path.with_extension("copy");
    let log = options().open(path).unwrap();
    log.record(call_by("alice")).unwrap();
    log.close().unwrap();
    std::fs::copy(path, &copy).unwrap();
    let log = options().open(path).unwrap();
    log.record(call_by("eve")).unwrap();
    log.checkpoint().unwrap();
    log.close().unwrap();
    lengthen(&copy);
    std::fs::rename(&copy, path).unwrap();
}

fn lengthen(copy: &Path) {
    let log = quiet().without_keys().unsigned(true).open(copy).unwrap();
    for _ in 0..4 {
        log.record(call_by("mallory")).unwrap();
    }
    log.close().unwrap();
}

#[track_caller]
fn assert_refused(log: &AuditLog) {
    for refused in [log.record(call_by("bob")).map(|_| ()), log.checkpoint().map(|_| ()), log.keys().rotate_epoch_key()]
    {
        let e = refused.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OtherHistory, "{e}");
    }
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.findings.iter().any(|f| f.kind == FindingKind::Fork), "{:?}", found.findings);
}

/// The same with keys in a host's vault, and with keys in an environment variable whose mark is from that time.
#[test]
fn keys_in_a_vault_or_in_the_environment_sign_no_forged_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let vault = SharedVault(Arc::default());
    let options = || quiet().key_vault(vault.clone());
    options().create(&path).unwrap().close().unwrap();
    forge(&path, &options);
    assert_refused(&options().open(&path).unwrap());

    let text = vault.load().unwrap().unwrap();
    // Nobody else reads or sets this variable.
    let variable = "ATTESTLOG_TEST_OLD_COPY_KEYS";
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "old_copy::environment_child", "--ignored", "--nocapture"])
        .env(variable, STANDARD.encode(&*text))
        .env("ATTESTLOG_TEST_OLD_COPY_STORE", &path)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

/// Run by the test above, with the variable set.
#[test]
#[ignore = "run by another test with its environment"]
fn environment_child() {
    let Some(path) = std::env::var_os("ATTESTLOG_TEST_OLD_COPY_STORE") else { return };
    let options = quiet().key_vault(EnvironmentKeys::new("ATTESTLOG_TEST_OLD_COPY_KEYS"));
    assert_refused(&options.open(path).unwrap());
}

/// A mark from before a purge is still compared: the purge keeps the hashes from which its root is computed, even if the
/// checkpoint of that size never reached the store (the key file is written first, and a crash may come in between).
#[test]
fn the_mark_is_compared_after_a_purge_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("v"), dir.path().join("v.key"));
    let clock = clock();
    let options = || quiet().clock(clock.clone());
    // With a single epoch, so that the mark decides.
    let mut policies = PolicySet::default();
    policies.keys = KeyPolicy::never();
    let log = options().policies(policies).create(&path).unwrap();
    for turn in 0..301 {
        log.record(call_by("alice").turn(turn)).unwrap();
    }
    // As after a crash between the two writes: the key file knows of a checkpoint that the store lacks.
    let (size, root, killed) =
        (log.size().unwrap(), log.proofs().root_at(log.size().unwrap()).unwrap(), std::fs::read(&path).unwrap());
    log.close().unwrap();
    let mut keys = KeyFile::load(&key, None).unwrap();
    std::fs::write(&path, &killed).unwrap();
    let in_force = keys.mark().unwrap().in_force;
    keys.raise_mark(size, in_force, &|_| Ok(root)).unwrap();
    keys.save(&key, &mut |out| out.fill(1)).unwrap();

    let log = options().open(&path).unwrap();
    clock.advance(Duration::from_secs(9000 * 86_400));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "time has passed" }).unwrap();
    assert!(log.retention().purge("ops").unwrap().purged > 0);
    log.record(call_by("bob")).unwrap();
    log.close().unwrap();
    let log = options().open(&path).unwrap();
    log.record(call_by("bob")).unwrap();
    log.checkpoint().unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap();
    assert!(found.ok(), "{:?}", found.findings);
    log.close().unwrap();
    // The extended copy from before the purge is still detected.
    std::fs::write(&path, killed).unwrap();
    lengthen(&path);
    lengthen(&path);
    assert_refused(&options().open(&path).unwrap());
}

/// `restore` removed signed entries from the log, and no summary mentioned it: a report over the restored log said
/// VERIFIED, and verification and `health` said nothing. Only somebody who looked for the entry itself could know.
#[test]
fn every_summary_says_that_signed_entries_were_lost() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    let patient = |user: &str| call("c", user, "look", r#""patient_id":"P-1""#);
    place.run_with(&["record", "v", "--no-alerts"], patient("alice").as_bytes()).ok();
    place.run(&["backup", "v", "copy"]).ok();
    place.run_with(&["record", "v", "--no-alerts"], patient("eve").as_bytes()).ok();
    let signed = KeyFile::load(&place.path("v.key"), None).unwrap().mark().unwrap();
    let before = place.run(&["health", "v", "--json"]).json();
    assert_eq!(before.get("restored").and_then(Json::as_array).map(<[Json]>::len), Some(0));
    std::fs::remove_file(place.path("v")).unwrap();
    place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).ok();

    for args in [
        &["verify", "v", "--json"][..],
        &["health", "v", "--json"],
        &["report", "access", "v", "--patient", "P-1", "--format", "json"],
    ] {
        let said = json(&place.run(args).out);
        let [restored] = said.get("restored").and_then(Json::as_array).unwrap() else { panic!("{args:?}: {said:?}") };
        assert_eq!(restored.get("actor").and_then(Json::as_str), Some("ops"), "{args:?}");
        assert!(restored.get("at").and_then(Json::as_str).is_some(), "{args:?}");
        assert_eq!(restored.get("signed_size").and_then(Json::as_u64), Some(signed.size), "{args:?}");
        assert_eq!(restored.get("signed_root").and_then(Json::as_str), Some(&*signed.root.to_string()), "{args:?}");
    }
    let sentence = format!("{} entries had been signed", signed.size);
    let report = ["report", "access", "v", "--patient", "P-1", "--format"];
    let formats = ["text", "csv", "html", "fhir-r4", "fhir-r5"].map(|format| [&report[..], &[format]].concat());
    for args in [vec!["verify", "v"], vec!["health", "v"]].into_iter().chain(formats) {
        let said = place.run(&args).out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&sentence) && said.contains("by ops on "), "{args:?}: {said}");
    }
}

/// A store that was made without keys, put in the place of a signed one: its key file was taken for a stray one and
/// ignored, and record, verify and health went on as if nothing had been signed there.
#[test]
fn an_unsigned_store_in_the_place_of_a_signed_one_is_refused() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    let other = Options::new().without_keys().background(false).create(place.path("other")).unwrap();
    other.record(call_by("mallory")).unwrap();
    other.close().unwrap();
    std::fs::rename(place.path("other"), place.path("v")).unwrap();

    let refused = record(&place, "v", "bob", &[]).code(3);
    assert!(refused.err.contains("was made without keys"), "{}", refused.err);
    let found = json(&place.run(&["verify", "v", "--json"]).code(1).out);
    let findings = found.get("findings").and_then(Json::as_array).unwrap();
    assert_eq!(findings[0].get("kind").and_then(Json::as_str), Some("key_mismatch"));
    let health = place.run(&["health", "v"]).code(1).out;
    assert!(health.contains("was made without keys"), "{health}");
    // If it was intended, it can be used without the key file.
    std::fs::rename(place.path("v.key"), place.path("elsewhere.key")).unwrap();
    record(&place, "v", "bob", &[]).ok();
    place.run(&["verify", "v"]).ok();
}

/// Another signed store in its place belongs to other keys: it cannot be opened with these.
#[test]
fn another_signed_store_is_not_opened_with_these_keys() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    place.run(&["init", "w"]).ok();
    std::fs::rename(place.path("w"), place.path("v")).unwrap();
    for args in [&["verify", "v"][..], &["health", "v"], &["checkpoint", "v"], &["query", "v"]] {
        let refused = place.run(args).code(3);
        assert!(refused.err.contains("bring back the store of these keys"), "{}", refused.err);
    }
    record(&place, "v", "bob", &[]).code(3);
}

/// Somebody who could only write the file recorded entries without the key. The next honest checkpoint signed them, and
/// from then on verification, `health` and reports said nothing of it: a report read VERIFIED and nothing else.
#[test]
fn every_summary_says_what_was_recorded_without_the_key() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    let patient = |user: &str| call("c", user, "look", r#""patient_id":"P-1""#);
    place.run_with(&["record", "v", "--no-alerts"], patient("alice").as_bytes()).ok();
    place.run(&["checkpoint", "v"]).ok();
    let stretches = |said: &Json| said.get("recorded_without_key").and_then(Json::as_array).unwrap().to_vec();
    assert!(stretches(&place.run(&["health", "v", "--json"]).json()).is_empty());
    let unsigned = ["record", "v", "--no-alerts", "--unsigned", "--key", "/nonexistent"];
    place.run_with(&unsigned, patient("mallory").as_bytes()).ok();
    place.run(&["checkpoint", "v"]).ok();
    for args in [
        &["verify", "v", "--json"][..],
        &["health", "v", "--json"],
        &["report", "access", "v", "--patient", "P-1", "--format", "json"],
    ] {
        let said = json(&place.run(args).out);
        let [stretch] = &stretches(&said)[..] else { panic!("{args:?}: {said:?}") };
        let member = |name: &str| stretch.get(name).and_then(Json::as_u64);
        assert!(member("from").is_some() && member("to") > member("from"), "{args:?}: {stretch:?}");
    }
    let report = ["report", "access", "v", "--patient", "P-1", "--format"];
    let formats = ["text", "csv", "html", "fhir-r4", "fhir-r5"].map(|format| [&report[..], &[format]].concat());
    for args in [vec!["verify", "v"], vec!["health", "v"]].into_iter().chain(formats) {
        let said = place.run(&args).out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("recorded without the key from entry "), "{args:?}: {said}");
    }
    let text = place.run(&[&report[..], &["text"]].concat()).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("PARTLY RECORDED WITHOUT THE KEY"), "{text}");
}

/// 'This is an older copy' ended with 1, 2 or 3, depending on the command. Commands that cannot use the store now end with
/// 3, commands that check whether something is wrong with 1, and commands that read still read.
#[test]
fn an_older_copy_has_one_exit_code() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    std::fs::copy(place.path("v"), place.path("copy")).unwrap();
    record(&place, "v", "eve", &[]).ok();
    let checkpoint = place.run(&["checkpoint", "v"]).ok();
    place.write("kept", &checkpoint);
    std::fs::rename(place.path("copy"), place.path("v")).unwrap();
    let who = ["--actor", "ops", "--reason", "why"];
    let refused: [&[&str]; 9] = [
        &["checkpoint", "v"],
        &["keys", "rotate", "v"],
        &["prove", "v", "1"],
        &["prove", "v", "--complete", "--user", "alice"],
        &["evidence", "v", "folder"],
        &["backup", "v", "saved"],
        &["hold", "place", "v", "--case", "7", "--user", "alice", who[0], who[1], who[2], who[3]],
        &["clock", "confirm", "v", who[0], who[1], who[2], who[3]],
        &["break-glass", "open", "v", "--user", "u", "--patient", "p", "--reason", "r", "--ttl", "1h"],
    ];
    let mut wrong = Vec::new();
    let recorded = record(&place, "v", "bob", &[]);
    let ran = refused.iter().map(|args| (args.join(" "), place.run(args)));
    for (name, ran) in ran.chain([("record".to_owned(), recorded)]) {
        if ran.code != 3 || !ran.err.contains("older copy") {
            wrong.push((name, ran));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for args in [&["verify", "v"][..], &["health", "v"], &["prove", "v", "--consistent-with", "kept"]] {
        let ran = place.run(args).code(1);
        let said = ran.out + &ran.err;
        assert!(said.contains("older copy") || said.contains("it was cut"), "{said}");
    }
    for args in [&["query", "v"][..], &["stats", "v"], &["purge", "v", "--dry-run"]] {
        place.run(args).ok();
    }
}

/// `prove --at-checkpoint` and `evidence --at-checkpoint` on an older copy gave no warning, although the key file beside it
/// had signed more: what looked like the newest proof was one from before eve.
#[test]
fn a_proof_at_the_checkpoint_of_an_older_copy_says_so() {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "v", "alice", &[]).ok();
    place.write("kept", place.run(&["checkpoint", "v"]).ok());
    let at = ["prove", "v", "2", "--at-checkpoint"];
    assert_eq!(place.run(&at).code(0).err, "");
    std::fs::copy(place.path("v"), place.path("copy")).unwrap();
    record(&place, "v", "eve", &[]).ok();
    place.run(&["checkpoint", "v"]).ok();
    std::fs::rename(place.path("copy"), place.path("v")).unwrap();
    for args in [
        &at[..],
        &["prove", "v", "--consistent-with", "kept", "--at-checkpoint"],
        &["prove", "v", "--complete", "--user", "alice", "--neighbours", "--at-checkpoint"],
    ] {
        let ran = place.run(args).code(0);
        assert!(ran.err.contains("older copy") && !ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
    let ran = place.run(&["evidence", "v", "folder", "--at-checkpoint", "--json"]).code(1);
    assert!(ran.err.contains("older copy") && ran.out.contains("\"rollback\""), "{}{}", ran.out, ran.err);
    // Without the key file this cannot be known.
    let ran = place.run(&[&at[..], &["--key", "none"]].concat()).code(0);
    assert_eq!(ran.err, "");
}

/// R51. Two processes had two copies of one store open, with one key file. Each knew the mark as it was when it opened,
/// took its own history for the one that begins with it, signed, and replaced the other's mark with its own: two histories
/// of one size, both signed by the right keys, and a key file that knew only one of them.
#[test]
fn of_two_copies_with_one_key_file_only_one_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, key) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("one.key"));
    quiet().create(&one).unwrap().close().unwrap();
    std::fs::copy(&one, &two).unwrap();
    let first = quiet().open(&one).unwrap();
    let second = quiet().key_file(&key).open(&two).unwrap();
    first.record(call_by("alice")).unwrap();
    second.record(call_by("mallory")).unwrap();
    first.checkpoint().unwrap();
    let mark = KeyFile::load(&key, None).unwrap().mark().unwrap();
    for refused in [second.checkpoint().map(|_| ()), second.keys().rotate_epoch_key(), second.checkpoint().map(|_| ())]
    {
        let e = refused.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OtherHistory, "{e}");
    }
    assert_eq!(KeyFile::load(&key, None).unwrap().mark(), Some(mark));
    drop(second);
    first.record(call_by("bob")).unwrap();
    first.checkpoint().unwrap();
    assert!(first.verify(&VerifyOptions::new()).unwrap().ok());
    // When it is opened again, the mark identifies it.
    let second = quiet().key_file(&key).open(&two).unwrap();
    assert_eq!(second.checkpoint().unwrap_err().kind(), ErrorKind::OtherHistory);
}

/// R61. A process that had the store open noticed only at its next signature that another copy of it had been signed with
/// the same key file, or that the key file was gone: until then it acknowledged every record, thousands of them, none of
/// which could be signed any more. Now it checks the key file before each commit, and says how many acknowledged records
/// are affected.
#[test]
fn nothing_is_acknowledged_that_the_keys_will_not_sign() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, key) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("one.key"));
    quiet().create(&one).unwrap().close().unwrap();
    std::fs::copy(&one, &two).unwrap();
    let log = quiet().open(&one).unwrap();
    log.record(call_by("alice")).unwrap();
    log.checkpoint().unwrap();
    let signed = log.size().unwrap();
    for _ in 0..3 {
        log.record(call_by("bob")).unwrap();
    }
    let own = std::fs::read(&key).unwrap();
    // The same contents in another file with another time are the same key file.
    std::fs::remove_file(&key).unwrap();
    std::fs::write(&key, &own).unwrap();
    private(&key);
    log.record(call_by("bob")).unwrap();

    let mut keys = KeyFile::load(&key, None).unwrap();
    keys.raise_mark(signed + 9, InForce { all: Hash::ZERO, standing: Hash::ZERO }, &|size| {
        if size == signed { log.proofs().root_at(size) } else { Ok(Hash::ZERO) }
    })
    .unwrap();
    keys.save(&key, &mut |out| out.fill(1)).unwrap();
    for refused in [log.record(call_by("carol")).map(drop), log.checkpoint().map(drop), log.flush_index()] {
        let e = refused.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OtherHistory, "{e}");
        let affected = format!("4 entries that were acknowledged before, from entry {signed} on");
        assert!(e.to_string().contains(&affected) && e.to_string().contains("another process"), "{e}");
    }
    assert_eq!(log.size().unwrap(), signed + 4);
    // If the key file is gone, nothing is signed either.
    std::fs::remove_file(&key).unwrap();
    let e = log.record(call_by("carol")).unwrap_err();
    assert!(e.kind() == ErrorKind::Key && e.to_string().contains("put it back"), "{e}");
    // When it is back, everything goes on, and is signed.
    std::fs::write(&key, &own).unwrap();
    private(&key);
    log.record(call_by("carol")).unwrap();
    assert_eq!(log.checkpoint().unwrap().checkpoint().size(), log.size().unwrap());
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

fn private(key: &Path) {
    #[cfg(unix)]
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

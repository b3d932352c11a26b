//! Somebody has a copy of the store from before a rotation of the epoch key, and so does its owner, who restores it (R54).

use super::common::{Place, call, json};
use attestlog::json::Json;
use attestlog::keys::KeyFile;
use std::path::Path;
use std::process::Command;

fn number(json: &Json, key: &str) -> Option<u64> {
    json.get(key).and_then(Json::as_u64)
}

fn record(place: &Place, user: &str) {
    place.run_with(&["record", "v", "--no-alerts"], call("c", user, "look", "").as_bytes()).ok();
}

/// A store `v`, a copy `copy` of it from before this many rotations, with more recorded and signed since; returns its
/// public key.
fn rotated(rotations: usize) -> (Place, String) {
    let place = Place::empty();
    place.run(&["init", "v"]).ok();
    record(&place, "alice");
    place.run(&["backup", "v", "copy"]).ok();
    record(&place, "eve");
    place.write("kept", place.run(&["checkpoint", "v"]).ok());
    for _ in 0..rotations {
        record(&place, "eve");
        place.run(&["keys", "rotate", "v"]).ok();
        record(&place, "eve");
    }
    let shown = place.run(&["keys", "show", "v", "--json"]).json();
    let key = shown.get("public_key").and_then(Json::as_str).unwrap().to_owned();
    (place, key)
}

fn python_accepts(folder: &Path, key: &str) {
    let found = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !found.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no python3 with the cryptography package here");
        return;
    }
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/python/check_evidence.py");
    let mut command = Command::new("python3");
    let out = command.arg(script).arg(folder).args(["--public-key", key]).env("PYTHONDONTWRITEBYTECODE", "1").output();
    let out = out.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&[out.stdout, out.stderr].concat()));
}

/// The epoch key is replaced automatically every 30 days. Somebody who had lost the store, and had yesterday's backup and
/// today's key file, could not restore it: the copy belongs to an epoch whose key is destroyed, and `restore` asked for the
/// key file of that time.
#[test]
fn a_copy_from_before_rotations_is_restored_with_the_present_key_file() {
    for rotations in [1, 2] {
        let (place, key) = rotated(rotations);
        let mark = KeyFile::load(&place.path("v.key"), None).unwrap().mark().unwrap();
        std::fs::remove_file(place.path("v")).unwrap();
        place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).ok();

        let verified = |place: &Place| json(&place.run(&["verify", "v", "--public-key", &key, "--json"]).ok());
        let said = verified(&place);
        let [restored] = said.get("restored").and_then(Json::as_array).unwrap() else { panic!("{said:?}") };
        assert_eq!(number(restored, "signed_size"), Some(mark.size));
        assert_eq!(restored.get("signed_root").and_then(Json::as_str), Some(&*mark.root.to_string()));
        assert_eq!(number(&said, "signed_size"), number(&said, "size"));
        // Only what a past epoch had signed is out of reach of somebody who has the present key.
        let copied = number(restored, "size").unwrap();
        assert!((1..=copied).contains(&number(&said, "rewritable_from").unwrap()), "{said:?}");

        // An auditor who has the first public key and is shown the epochs.
        let shown = place.run(&["keys", "show", "v", "--json"]).ok();
        place.write("shown", &shown);
        place.write("proof", place.run(&["prove", "v", "2"]).ok());
        let check = ["check", "proof", "--public-key", &key, "--succession", "shown", "--json"];
        let checked = place.run(&check).json();
        assert_eq!(number(&checked, "epoch"), Some(rotations as u64));
        assert_eq!(checked.get("epoch_standing").and_then(Json::as_str), Some("present"));
        place.run(&["evidence", "v", "folder", "--public-key", &key]).ok();
        python_accepts(&place.path("folder"), &key);

        // It works like any other store: a rotation seals what is there, and can be lost and restored like the earlier
        // ones.
        record(&place, "bob");
        place.run(&["keys", "rotate", "v"]).ok();
        let sealed = number(&verified(&place), "rewritable_from").unwrap();
        assert!(sealed > copied, "{sealed} of {copied}");
        place.run(&["evidence", "v", "later", "--public-key", &key]).ok();
        python_accepts(&place.path("later"), &key);
        std::fs::remove_file(place.path("v")).unwrap();
        place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "once more"]).ok();
        record(&place, "bob");
        let epochs = place.run(&["keys", "show", "v"]).ok();
        assert_eq!(epochs.lines().filter(|line| line.contains("by a restore")).count(), rotations + 1, "{epochs}");
        verified(&place);
    }
}

/// The log contains everything that such an entry needs, for anybody with an old copy and no key. Here the right keys even
/// made one, in another place: beside the key file that has signed more it is an older copy like any other, and is not
/// continued.
#[test]
fn an_old_copy_that_says_it_was_restored_is_an_older_copy_all_the_same() {
    for key in ["stolen.key", "/nonexistent"] {
        let (place, public) = rotated(2);
        std::fs::copy(place.path("v.key"), place.path("stolen.key")).unwrap();
        place.run(&["restore", "copy", "forged", "--key", key, "--actor", "ops", "--reason", "disk"]).ok();
        std::fs::rename(place.path("forged"), place.path("v")).unwrap();
        let before = std::fs::read(place.path("v.key")).unwrap();
        let more = call("c", "mallory", "look", "");
        place.run_with(&["record", "v", "--no-alerts"], more.as_bytes()).code(3);
        place.run(&["checkpoint", "v"]).code(3);
        place.run(&["keys", "rotate", "v"]).code(3);
        let verified = place.run(&["verify", "v", "--public-key", &public, "--json"]);
        assert!([1, 3].contains(&verified.code), "{verified:?}");
        assert!(std::fs::read(place.path("v.key")).unwrap() == before, "the key file stays as it is");
        // Nor does it convince an auditor, who has no key file and kept a checkpoint of the lost entries.
        let auditor = ["verify", "v", "--key", "/nonexistent", "--public-key", &public, "--against", "kept"];
        place.run(&auditor).code(1);
    }
}

/// A thief of the present key file can restore as its owner can, without naming what had been signed: removing the mark
/// from the stolen copy left the entry with nothing to say. The rotations cannot be left out, and they show it too.
#[test]
fn a_thief_of_the_key_file_cannot_keep_back_that_signed_entries_were_lost() {
    let (place, key) = rotated(2);
    let stolen = std::fs::read_to_string(place.path("v.key")).unwrap();
    let rotated_at: u64 =
        stolen.lines().find_map(|l| l.strip_prefix("rotation 2 ")?.split(' ').next()?.parse().ok()).unwrap();
    let lines = stolen.lines().filter(|line| !line.starts_with("mark ") && !line.starts_with("checksum "));
    let body: String = lines.flat_map(|line| [line, "\n"]).collect();
    let file = place.write("w.key", format!("{body}checksum {}\n", attestlog::Hash::of(body.as_bytes())));
    #[cfg(unix)]
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    place.run(&["restore", "copy", "w", "--actor", "ops", "--reason", "disk"]).ok();
    let said = json(&place.run(&["verify", "w", "--public-key", &key, "--json"]).ok());
    let [restored] = said.get("restored").and_then(Json::as_array).unwrap() else { panic!("{said:?}") };
    assert_eq!(number(restored, "signed_size"), Some(rotated_at));
    assert!(number(&said, "rewritable_from") <= number(restored, "size"), "{said:?}");
}

/// A copy that is older than what the key file covers, and a key file that is older than the copy: both are reported.
#[test]
fn what_the_key_file_does_not_know_is_said() {
    let (place, _) = rotated(1);
    std::fs::copy(place.path("v.key"), place.path("old.key")).unwrap();
    place.run(&["keys", "rotate", "v"]).ok();
    place.run(&["backup", "v", "newer"]).ok();
    let ran = place.run(&["restore", "newer", "w", "--key", "old.key", "--actor", "ops", "--reason", "disk"]).code(3);
    assert!(ran.err.contains("older copy of the key file"), "{}", ran.err);
    assert!(!place.path("w").exists());
    let ran = place.run_with(&["record", "copy", "--key", "v.key"], b"{}").code(3);
    assert!(ran.err.contains("attestlog restore"), "{}", ran.err);
}

/// Ids of the holds in force.
fn holds(place: &Place) -> usize {
    place.run(&["hold", "list", "v", "--json"]).json().as_array().unwrap().len()
}

/// The newest restore, as `verify` reports it.
fn restored(place: &Place) -> Json {
    let said = place.run(&["verify", "v", "--json"]).json();
    said.get("restored").and_then(Json::as_array).unwrap().last().unwrap().clone()
}

/// A store `v` with a call by alice that has expired, a copy `copy` of it, and a hold on alice that was placed after the
/// copy.
fn held_after_the_copy() -> Place {
    let place = Place::empty();
    let clock = std::sync::Arc::new(attestlog::host::ManualClock::at("2020-02-29T12:00:00Z".parse().unwrap()));
    let log = attestlog::Options::new().clock(clock).background(false).create(place.path("v")).unwrap();
    let expires = "2021-03-01".parse().unwrap();
    log.record(attestlog::ToolCall::new("c", "alice", "look").retain_until(expires)).unwrap();
    log.close().unwrap();
    place.run(&["clock", "confirm", "v", "--actor", "ops", "--reason", "it was in storage"]).ok();
    place.run(&["backup", "v", "copy"]).ok();
    let hold = ["hold", "place", "v", "--case", "2026-7", "--user", "alice", "--actor", "counsel", "--reason", "claim"];
    place.run(&hold).ok();
    place
}

const BECAUSE: [&str; 4] = ["--actor", "ops", "--reason", "disk"];

fn restore(place: &Place, more: &[&str]) -> super::common::Ran {
    place.run(&[&["restore", "copy", "v"], &BECAUSE[..], more].concat())
}

/// R80. Anybody who may restore could bypass every hold: restore the backup from before it, and the purge of the same night
/// removed what it kept. Nothing said that the hold had ever existed; the restore only stated how many entries were lost.
#[test]
fn a_hold_that_a_restoring_loses_is_missed_and_nothing_is_purged_until_somebody_has_looked() {
    let place = held_after_the_copy();
    assert_eq!(holds(&place), 1);
    std::fs::rename(place.path("v"), place.path("damaged")).unwrap();
    let ran = restore(&place, &["--json"]).code(0);
    for said in ["holds, policies and emergency grants that were in force at the signed size", "hold confirm"] {
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    let told = json(&ran.out);
    assert_eq!(told.get("restored").and_then(|r| r.get("standing")).and_then(Json::as_str), Some("changed"));
    assert_eq!(holds(&place), 0);
    // Every summary reports it, and irreversible commands are refused.
    let health = place.run(&["health", "v"]).code(1);
    assert!(health.out.contains("hold confirm") && health.out.contains("nobody has confirmed"), "{}", health.out);
    assert_eq!(restored(&place).get("confirmed"), Some(&Json::Null));
    assert!(place.run(&["verify", "v"]).ok().contains("nobody has confirmed"));
    let report = ["report", "access", "v", "--user", "alice", "--format", "text"];
    let report = place.run(&report).ok().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("emergency grants were in force than the copy has"), "{report}");
    let refused = place.run(&["purge", "v", "--actor", "ops"]).code(1);
    assert!(refused.err.contains("hold confirm"), "{}", refused.err);
    // Nor does another restore, which loses nothing more, clear it.
    std::fs::remove_file(place.path("v")).unwrap();
    restore(&place, &[]).ok();
    place.run(&["purge", "v", "--actor", "ops"]).code(1);
    // A hold for another case does not settle it.
    let other = ["hold", "place", "v", "--case", "other", "--user", "bob", "--actor", "clerk", "--reason", "r"];
    place.run(&other).ok();
    place.run(&["purge", "v", "--actor", "ops"]).code(1);
    let again =
        ["hold", "place", "v", "--case", "2026-7", "--user", "alice", "--actor", "counsel", "--reason", "claim"];
    place.run(&again).ok();
    place.run(&["hold", "confirm", "v", "--actor", "counsel", "--reason", "2026-7 placed again"]).ok();
    place.run(&["hold", "confirm", "v", "--actor", "counsel", "--reason", "again"]).code(2);
    let purged = place.run(&["purge", "v", "--actor", "ops", "--json"]).json();
    assert_eq!((number(&purged, "purged"), number(&purged, "kept_by_hold")), (Some(0), Some(1)));
    let confirmed = restored(&place).get("confirmed").cloned().unwrap();
    assert_eq!(confirmed.get("actor").and_then(Json::as_str), Some("counsel"));
    assert!(!place.run(&["health", "v"]).out.contains("hold confirm"));
}

/// If the replaced store can still be read, the lost holds are named.
#[test]
fn what_is_lost_is_named_one_by_one_where_the_replaced_store_can_be_read() {
    let place = held_after_the_copy();
    place.write("two.toml", "[retention.classes]\ngeneral = \"2 years\"\n");
    place.run(&["policy", "set", "v", "two.toml"]).ok();
    let open =
        ["break-glass", "open", "v", "--user", "dora", "--patient", "P-1", "--reason", "unconscious", "--ttl", "1h"];
    place.run(&open).ok();
    std::fs::rename(place.path("v"), place.path("damaged")).unwrap();
    place.write("text", "no store");
    restore(&place, &["--replaces", "text"]).code(3);
    assert!(!place.path("v").exists());
    let ran = restore(&place, &["--replaces", "damaged"]).code(0);
    for said in
        ["case 2026-7", "by counsel", "user alice", "lost: the policy of entry", "lost: the emergency grant of entry"]
    {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let lost = restored(&place).get("lost").cloned().unwrap();
    let [hold] = lost.get("holds").and_then(Json::as_array).unwrap() else { panic!("{lost:?}") };
    assert_eq!(hold.get("case").and_then(Json::as_str), Some("2026-7"));
    let entry = place.run(&["query", "v", "--kind", "restore", "--json"]).ok();
    assert!(entry.contains(r#""standing":"changed""#) && entry.contains("2026-7"), "{entry}");
    assert!(!entry.contains("alice"), "a hold names its people by pseudonym, here too");
}

/// A restore that loses entries but nothing that was in force needs no confirmation: a purge, a rotation of the epoch key
/// and a hold that was placed and released in between are no reason for one.
#[test]
fn a_restoring_that_loses_nothing_in_force_asks_for_nothing() {
    let place = held_after_the_copy();
    let id = place.run(&["hold", "list", "v", "--json"]).json().as_array().unwrap()[0].get("id").and_then(Json::as_u64);
    place.run(&["hold", "release", "v", &id.unwrap().to_string(), "--actor", "counsel", "--reason", "settled"]).ok();
    place.run(&["purge", "v", "--actor", "ops"]).ok();
    place.run(&["keys", "rotate", "v"]).ok();
    std::fs::remove_file(place.path("v")).unwrap();
    let ran = restore(&place, &[]).code(0);
    assert_eq!(ran.err, "");
    assert_eq!(restored(&place).get("standing").and_then(Json::as_str), Some("kept"));
    place.run(&["purge", "v", "--actor", "ops"]).ok();
}

/// To look at a backup beside the live log, somebody named the live log's key file, since a store needs one. The restore
/// moved that file's mark to the copy, and the live log recorded nothing more.
#[test]
fn a_restoring_beside_a_live_log_does_not_stop_it() {
    for key in ["v.key", "elsewhere.key"] {
        let place = Place::empty();
        place.run(&["init", "v", "--key", key]).ok();
        place.run(&["backup", "v", "copy", "--key", key]).ok();
        let options = attestlog::Options::new().key_file(place.path(key));
        let log = options.open(place.path("v")).unwrap();
        let record = || log.record(attestlog::ToolCall::new("c", "u", "t")).unwrap();
        record();
        let before = std::fs::read(place.path(key)).unwrap();
        let beside = |key: &str| place.run(&[&["restore", "copy", "drill", "--key", key], &BECAUSE[..]].concat());
        let refused = beside(key).code(2);
        assert!(refused.err.contains("keys backup") && refused.err.contains("is used by"), "{}", refused.err);
        assert!(!place.path("drill").exists());
        assert!(std::fs::read(place.path(key)).unwrap() == before);
        record();
        // With a copy of the keys the backup can be opened, and the live log goes on.
        place.run(&["keys", "backup", "v", "drill.key", "--key", key]).ok();
        beside("drill.key").ok();
        place.run(&["verify", "drill"]).ok();
        record();
        log.checkpoint().unwrap();
        log.close().unwrap();
        // Once the log has been moved away, its key file may be used for whatever replaces it.
        std::fs::rename(place.path("v"), place.path("damaged")).unwrap();
        place.run(&[&["restore", "copy", "w", "--key", key], &BECAUSE[..]].concat()).ok();
    }
}

/// After a restore as documented, `verify --against` with the log's own anchor file ended with 1 forever: its checkpoints
/// of the lost entries were a rollback or a fork, though the restore's signed entry names them. Now they are reported as
/// lost. That must not help somebody who later puts an older copy of the restored store in its place: later checkpoints are
/// in the same anchor file, and may cover no more entries than were lost.
#[test]
fn anchors_of_what_a_restoring_lost_are_told_as_that_and_excuse_nothing_of_later() {
    let place = Place::empty();
    place.write("a.toml", "[[anchor]]\nfile = 'anchored'\n");
    let key = place.run(&["init", "v", "--config", "a.toml"]).ok().trim().to_owned();
    record(&place, "alice");
    place.run(&["backup", "v", "copy"]).ok();
    (0..6).for_each(|_| record(&place, "eve"));
    let lost = KeyFile::load(&place.path("v.key"), None).unwrap().mark().unwrap().size;
    std::fs::remove_file(place.path("v")).unwrap();
    place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).ok();
    record(&place, "bob");
    let older = std::fs::read(place.path("v")).unwrap();
    record(&place, "bob");
    let verify = ["verify", "v", "--public-key", &key, "--against", "anchored"];
    let ran = place.run(&verify);
    let told = "the anchors of ";
    assert_eq!((ran.code, ran.out.matches(told).count()), (0, 1), "{ran:?}");
    let said = place.run(&[&verify[..], &["--json"]].concat()).json();
    let [anchors] = said.get("lost_anchors").and_then(Json::as_array).unwrap() else { panic!("{said:?}") };
    let [restored] = said.get("restored").and_then(Json::as_array).unwrap() else { panic!("{said:?}") };
    assert_eq!(number(anchors, "restored"), number(restored, "seq"));
    assert_eq!(number(anchors, "to"), Some(lost));
    let (size, anchored) = (number(&said, "size").unwrap(), number(&said, "anchored_size").unwrap());
    assert!(size <= lost && anchored == size, "{said:?}");
    place.run(&["health", "v"]).ok();

    // Without the key: the copy from a moment ago, whose size is also one of the lost ones.
    place.write("v", &older);
    let blind = [&verify[..], &["--key", "none"]].concat();
    let ran = place.run(&blind);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("rollback") && ran.out.matches(told).count() == 1, "{ran:?}");
    // Nor do later checkpoints count as lost if the record of what had been signed is not in their file, or comes after
    // them.
    let lines = std::fs::read_to_string(place.path("anchored")).unwrap();
    let last = lines.lines().last().unwrap();
    place.write("newest", format!("{last}\n"));
    let ran = place.run(&[
        "verify",
        "v",
        "--public-key",
        &key,
        "--against",
        "newest",
        "--against",
        "anchored",
        "--key",
        "none",
    ]);
    assert!(ran.code == 1 && ran.out.contains("newest, line 1 covers them"), "{ran:?}");
}

//! Somebody who has a copy of the store from before a rotation of the epoch key, and what its owner does with the same copy (R54).

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

/// A store `v`, a copy `copy` of it from before this many rotations, and more that was recorded and signed since; its public key.
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

/// The epoch key is replaced every 30 days without anybody asking. Whoever lost the store and had yesterday's backup and today's
/// key file could not restore it: the copy is of an epoch whose key is destroyed, and `restore` asked for the key file of that time.
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
        // Only what the epoch that is over had signed is out of reach of whoever has the present key.
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

        // It goes on as any other store: a rotation seals what is there, and is lost and brought back like those before.
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
        assert_eq!(epochs.lines().filter(|line| line.contains("by a restoring")).count(), rotations + 1, "{epochs}");
        verified(&place);
    }
}

/// Whoever has an old copy and no key has from the log all that such an entry takes. Here it is even one that the right keys made,
/// in another place: beside the key file that has signed more it is an older copy like any other, and nothing goes on from it.
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
        // Nor does an auditor take it, who has no key file and kept a checkpoint of what is gone.
        let auditor = ["verify", "v", "--key", "/nonexistent", "--public-key", &public, "--against", "kept"];
        place.run(&auditor).code(1);
    }
}

/// Whoever takes the present key file can restore as its owner can, and need not name what had been signed: he takes the mark out
/// of his copy of the file, and the entry had nothing to say. What he cannot leave out are the rotations, which say it too.
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

/// A copy that is older than what the key file keeps, and a key file that is older than the copy: both are named.
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

/// Ids of the holds that stand.
fn holds(place: &Place) -> usize {
    place.run(&["hold", "list", "v", "--json"]).json().as_array().unwrap().len()
}

/// The newest restoring, as `verify` tells it.
fn restored(place: &Place) -> Json {
    let said = place.run(&["verify", "v", "--json"]).json();
    said.get("restored").and_then(Json::as_array).unwrap().last().unwrap().clone()
}

/// A store `v` with a call by alice that has expired, a copy `copy` of it, and a hold on alice that came after the copy.
fn held_after_the_copy() -> Place {
    let place = Place::empty();
    let clock = std::sync::Arc::new(attestlog::ManualClock::at("2020-02-29T12:00:00Z".parse().unwrap()));
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

/// R80. Whoever may restore had a way round every hold: the backup from before it, and the purge that ran the same night took what it
/// kept. Nothing said that a hold had ever stood; the restoring told only how many entries were lost.
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
    // Everybody who looks is told, and what cannot be taken back is refused.
    let health = place.run(&["health", "v"]).code(1);
    assert!(health.out.contains("hold confirm") && health.out.contains("nobody has confirmed"), "{}", health.out);
    assert_eq!(restored(&place).get("confirmed"), Some(&Json::Null));
    assert!(place.run(&["verify", "v"]).ok().contains("nobody has confirmed"));
    let report = ["report", "access", "v", "--user", "alice", "--format", "text"];
    let report = place.run(&report).ok().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("emergency grants were in force than the copy has"), "{report}");
    let refused = place.run(&["purge", "v", "--actor", "ops"]).code(2);
    assert!(refused.err.contains("hold confirm"), "{}", refused.err);
    // Nor does another restoring, with which nothing more is lost, do away with it.
    std::fs::remove_file(place.path("v")).unwrap();
    restore(&place, &[]).ok();
    place.run(&["purge", "v", "--actor", "ops"]).code(2);
    // A hold for another case is no answer to it.
    let other = ["hold", "place", "v", "--case", "other", "--user", "bob", "--actor", "clerk", "--reason", "r"];
    place.run(&other).ok();
    place.run(&["purge", "v", "--actor", "ops"]).code(2);
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

/// Where the store that was replaced can still be read, nobody has to guess which hold it was.
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

/// A restoring that loses entries and nothing that was in force asks nobody for anything: a purge, a rotation of the epoch key and
/// a hold that was placed and released in between are no reason to.
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

/// Whoever wanted to look at a backup beside the live log named the live log's key file, since a store needs one. The restoring moved that
/// file's mark to the copy, and the live log recorded nothing more.
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
        // With a copy of the keys it is looked at, and the live log goes on.
        place.run(&["keys", "backup", "v", "drill.key", "--key", key]).ok();
        beside("drill.key").ok();
        place.run(&["verify", "drill"]).ok();
        record();
        log.checkpoint().unwrap();
        log.close().unwrap();
        // Once the log is out of its place, its key file is there for whatever takes it.
        std::fs::rename(place.path("v"), place.path("damaged")).unwrap();
        place.run(&[&["restore", "copy", "w", "--key", key], &BECAUSE[..]].concat()).ok();
    }
}

/// After a restoring as documented `verify --against` the log's own anchor file ended with 1 for ever: what it has of the entries that were
/// lost was a rollback or a fork, though the restoring's signed entry names it. That it is told as lost must be of no use to whoever
/// puts an older copy of the store as it went on in its place: what was anchored since is in the same file, and covers no more entries than
/// were lost.
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

    // Without the key: the copy of a moment ago, whose size is one that was lost as well.
    place.write("v", &older);
    let blind = [&verify[..], &["--key", "none"]].concat();
    let ran = place.run(&blind);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("rollback") && ran.out.matches(told).count() == 1, "{ran:?}");
    // Nor do anchors of later count as lost where the record of what had been signed is not in their file, or behind them.
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
    assert!(ran.code == 1 && ran.out.contains("newest, line 1: it covers"), "{ran:?}");
}

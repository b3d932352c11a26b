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

//! What the log says after a backup was restored: once, several times, after rotations, and without the key file.

use super::common::{Place, call, json};
use attestlog::json::Json;

fn number(json: &Json, key: &str) -> Option<u64> {
    json.get(key).and_then(Json::as_u64)
}

fn record(place: &Place, user: &str) {
    place.run_with(&["record", "v", "--no-alerts"], call("c", user, "look", "").as_bytes()).ok();
}

/// A store `v` whose checkpoints go to the file `anchored`, and a backup `copy` of it. Returns its public key.
fn anchored() -> (Place, String) {
    let place = Place::empty();
    place.write("a.toml", "[[anchor]]\nfile = 'anchored'\n");
    let key = place.run(&["init", "v", "--config", "a.toml"]).ok().trim().to_owned();
    record(&place, "alice");
    place.run(&["backup", "v", "copy"]).ok();
    (place, key)
}

fn restore(place: &Place, moved: &str) -> Json {
    std::fs::rename(place.path("v"), place.path(moved)).unwrap();
    let args = ["restore", "copy", "v", "--actor", "ops", "--reason", "disk", "--replaces", moved, "--json"];
    place.run(&args).json().get("restored").cloned().unwrap()
}

/// The pseudonym key was rotated after the backup. The restore recorded that key first and itself second, so the checkpoint
/// of the size between the two, which was lost, counted as one of another history: the owner of an honest log was told that
/// it is forged, by `verify`, reports and `health`, for good.
#[test]
fn no_rotation_between_backup_and_restore_makes_a_fork() {
    let rotations: [&[&[&str]]; 5] = [
        &[&["keys", "rotate", "v", "--pseudonyms"]],
        &[&["keys", "rotate", "v"]],
        &[&["keys", "rotate", "v", "--pseudonyms"], &["keys", "rotate", "v"], &["keys", "rotate", "v", "--pseudonyms"]],
        &[&["keys", "rotate", "v", "--pseudonyms"], &["checkpoint", "v"], &["keys", "rotate", "v", "--pseudonyms"]],
        &[&["keys", "rotate", "v"], &["keys", "rotate", "v"], &["keys", "rotate", "v", "--pseudonyms"]],
    ];
    for rotations in rotations {
        let (place, key) = anchored();
        rotations.iter().for_each(|args| _ = place.run(args).ok());
        let restored = restore(&place, "moved");
        assert_eq!(number(&restored, "seq"), number(&restored, "size"), "the first entry after the copy");
        // Twice in a row, and with something recorded in between.
        for round in ["again", "once more"] {
            record(&place, "bob");
            let verify = ["verify", "v", "--public-key", &key, "--against", "anchored", "--json"];
            let said = place.run(&verify).json();
            assert_eq!(number(&said, "anchored_size"), number(&said, "size"), "{rotations:?}: {said:?}");
            let restored = restore(&place, round);
            assert_eq!(number(&restored, "seq"), number(&restored, "size"), "the first entry after the copy");
        }
        place.run(&["verify", "v", "--public-key", &key, "--against", "anchored"]).ok();
    }
}

/// An anchor that could not be reached did not get the last checkpoint before the restore. All that it had of the lost entries
/// was then called a fork, though the same file goes on with the log as it is.
#[test]
fn an_anchor_that_missed_the_last_lost_checkpoint_is_no_fork() {
    let (place, key) = anchored();
    (0..5).for_each(|_| record(&place, "eve"));
    let kept = std::fs::read_to_string(place.path("anchored")).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    place.write("anchored", lines[..lines.len() - 1].join("\n") + "\n");
    place.write("alone", format!("{}\n", lines[lines.len() - 2]));
    restore(&place, "moved");
    record(&place, "bob");
    let verify = |against: &str| place.run(&["verify", "v", "--public-key", &key, "--against", against]);
    let said = verify("anchored").ok();
    assert!(said.contains("what was"), "{said}");
    // What follows in the file has to agree: without it, the finding says what it may be.
    let alone = verify("alone").code(1).out;
    assert!(alone.contains("it may be of what the restore of entry"), "{alone}");
}

/// A log was restored twice from one backup. Its second restore, all reports and `restored` told of the entry that the second
/// one had lost, and of the three that the first one had lost nobody learned: a loss was hidden by restoring again.
#[test]
fn a_restore_tells_what_the_restores_lost_that_it_undoes() {
    let (place, key) = anchored();
    place.run(&["hold", "place", "v", "--case", "C", "--actor", "c", "--reason", "r", "--user", "alice"]).ok();
    record(&place, "eve");
    let first = restore(&place, "moved1");
    let holds = |restored: &Json| restored.get("lost").and_then(|l| l.get("holds")?.as_array().map(<[_]>::len));
    assert_eq!(holds(&first), Some(1));
    let lost = (number(&first, "signed_size").unwrap(), first.get("signed_root").cloned());

    for moved in ["moved2", "moved3"] {
        let again = restore(&place, moved);
        assert!(number(&again, "signed_size") < Some(lost.0), "{again:?}");
        let earlier = again.get("earlier").and_then(Json::as_array).unwrap();
        assert!(
            earlier.iter().any(|one| (number(one, "signed_size").unwrap(), one.get("signed_root").cloned()) == lost),
            "{again:?}"
        );
        assert_eq!(holds(&again), Some(1), "{again:?}");
    }
    let said = place.run(&["verify", "v", "--public-key", &key, "--against", "anchored"]).ok();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let lacks = format!("earlier restores, which the copy does not contain, lost more: {} ", lost.0);
    assert!(said.contains(&lacks), "{said}");
    assert!(place.run(&["health", "v"]).out.contains(&lacks));
    // A backup that contains the restores tells of them itself.
    place.run(&["backup", "v", "newer"]).ok();
    record(&place, "eve");
    std::fs::remove_file(place.path("v")).unwrap();
    let args = ["restore", "newer", "v", "--actor", "ops", "--reason", "disk", "--json"];
    let restored = json(&place.run(&args).ok()).get("restored").cloned().unwrap();
    assert_eq!(restored.get("earlier").and_then(Json::as_array).map(<[_]>::len), Some(0), "{restored:?}");
}

/// Somebody restored the backup first and brought the key file back afterwards. The refusal said that another history had
/// been put in the store's place, to be kept as evidence: the program had made it itself.
#[test]
fn a_restore_without_the_key_file_is_named_once_the_key_file_is_back() {
    let (place, _) = anchored();
    record(&place, "alice");
    std::fs::rename(place.path("v.key"), place.path("away")).unwrap();
    std::fs::remove_file(place.path("v")).unwrap();
    place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).ok();
    std::fs::rename(place.path("away"), place.path("v.key")).unwrap();
    let refused = place.run_with(&["record", "v"], call("c", "alice", "look", "").as_bytes()).code(3).err;
    let verified = place.run(&["verify", "v"]).code(1).out;
    for said in [&refused, &verified] {
        assert!(said.contains("restored while its key file was not there"), "{said}");
        assert!(said.contains("move this store away"), "{said}");
    }
    // And that is the remedy.
    std::fs::rename(place.path("v"), place.path("moved")).unwrap();
    place.run(&["restore", "copy", "v", "--actor", "ops", "--reason", "disk"]).ok();
    record(&place, "alice");
    place.run(&["verify", "v"]).ok();
}

/// The story: the machine was lost at noon, with a hold that was placed after the nightly backup. The store was restored with the copy of
/// the key file from the same night, as it should be, and the log stated for good that no hold was missing (`standing` was `kept`); the
/// next purge took what was held. A copy of the key file knows nothing of what came after it, whoever made it (invariant R87).
#[test]
fn a_copy_of_the_key_file_does_not_claim_that_nothing_was_lost() {
    let by = ["--actor", "ops", "--reason", "machine lost"];
    let standing = |place: &Place, key: &str| {
        let args = [&["restore", "copy", "v", "--json", "--key", key][..], &by].concat();
        let ran = place.run(&args).code(0);
        let restored = json(&ran.out).get("restored").cloned().unwrap();
        (restored.get("standing").and_then(Json::as_str).unwrap().to_owned(), ran.err)
    };
    for (name, makes_copy, key) in
        [("keys backup", true, "v.key"), ("cp", false, "v.key"), ("cp, used under its own name", false, "night.key")]
    {
        let (place, _) = anchored();
        match makes_copy {
            true => _ = place.run(&["keys", "backup", "v", "night.key"]).ok(),
            false => _ = std::fs::copy(place.path("v.key"), place.path("night.key")).unwrap(),
        }
        place.run(&["hold", "place", "v", "--case", "C", "--user", "alice", "--actor", "c", "--reason", "r"]).ok();
        for lost in ["v", "v.key"] {
            std::fs::remove_file(place.path(lost)).unwrap();
        }
        if key == "v.key" {
            std::fs::copy(place.path("night.key"), place.path(key)).unwrap();
        }
        let (standing, said) = standing(&place, key);
        assert_eq!(standing, "unknown", "{name}");
        assert!(said.contains("it was a copy too"), "{name}: {said}");
        place.run(&["health", "v", "--key", key]).code(1);
        place.run(&["purge", "v", "--actor", "a", "--key", key]).code(1);
        place.run(&[&["erase", "v", "--subject", "alice", "--key", key][..], &by].concat()).code(1);
        place.run(&[&["hold", "confirm", "v", "--key", key][..], &by].concat()).ok();
        place.run(&["purge", "v", "--actor", "a", "--key", key]).ok();
    }
    // The key file itself knows, also where it was moved about on its disk.
    let (place, _) = anchored();
    std::fs::remove_file(place.path("v")).unwrap();
    std::fs::rename(place.path("v.key"), place.path("away.key")).unwrap();
    assert_eq!(standing(&place, "away.key").0, "kept");
}

//! What the program says of ordinary mistakes and states: true, and of use to whoever reads it.

use crate::common::{Place, call, overwrite};
use attestlog::json::Json;

const BY: [&str; 4] = ["--actor", "a", "--reason", "r"];

/// The story: `verify` of a text file said "the file is damaged… `attestlog verify` names what is wrong", and of such a file `query` said
/// the truth. `init` on a live store said to move its key away.
#[test]
fn what_is_no_store_and_what_is_one() {
    let place = Place::with_store();
    place.write("text", "no store at all, but long enough for a header\n".repeat(40));
    let said = place.run(&["verify", "text"]).code(3).err;
    assert!(said.contains("is not an attestlog store") && !said.contains("damaged"), "{said}");
    let again = place.run(&["init", "s"]).code(2).err;
    assert!(again.contains("exists there already") && !again.contains("move the key"), "{again}");
}

/// The story: one byte was changed, and the first that `verify` said was that "another history was put in the place" of the log. `backup`
/// then said nothing, and the copy took the place of the last good one.
#[test]
fn a_changed_byte_is_no_fork_and_a_copy_of_it_comes_with_a_warning() {
    let place = Place::with_lines(&(0..40).map(|i| call("c", &format!("user{i:04}"), "t", "")).collect::<String>());
    // Indexed, so that opening the store does not look at the entries again.
    place.run(&["prove", "s", "--complete", "--user", "user0001"]).ok();
    assert!(overwrite(&place.path("s"), b"user0007", b"user0008") > 0);
    let found = place.run(&["verify", "s"]).code(1).out;
    let first = found.lines().next().unwrap();
    assert!(first.contains("_damaged") || first.contains("entry_changed"), "{found}");
    assert!(!found.contains("fork"), "{found}");
    let copied = place.run(&["backup", "s", "copy"]);
    assert!(copied.code != 0 || copied.err.contains("keep an older backup"), "{copied:?}");
}

/// The story: `alerts watch --command /nosuch/prog` ended with 0 and without a word, and left a receiver that was owed alerts for good;
/// anchors were taken in the same way. Receivers that were taken out of the configuration stayed in `health` without a hint.
#[test]
fn programs_that_are_not_there_are_refused() {
    let place = Place::with_store();
    let watched = place.run(&["alerts", "watch", "s", "--once", "--command", "/nosuch/prog"]).code(2).err;
    assert!(watched.contains("/nosuch/prog: there is no such program"), "{watched}");
    place.write("a.toml", "[[anchor]]\ncommand = ['/nosuch/prog']\n");
    for args in [&["anchors", "set", "s", "a.toml"][..], &["init", "t", "--config", "a.toml"]] {
        let refused = place.run(args).code(2).err;
        assert!(refused.contains("the anchor /nosuch/prog: there is no such program"), "{refused}");
    }
    assert!(!place.path("t").exists());
}

/// The story: a passphrase was given and the key file was gone; every command read on without it, although the documents promise an
/// error.
#[test]
fn a_passphrase_needs_a_key_file() {
    let place = Place::empty();
    place.write("pw", "correct horse\n");
    place.run(&["init", "s", "--passphrase-file", "pw"]).ok();
    for gone in [false, true] {
        if gone {
            std::fs::rename(place.path("s.key"), place.path("away")).unwrap();
        }
        let key: &[&str] = if gone { &[] } else { &["--key", "nosuch"] };
        let refused = place.run(&[&["query", "s", "--count", "--passphrase-file", "pw"], key].concat()).code(3).err;
        assert!(refused.contains("a passphrase was given"), "{refused}");
    }
    // Who has set the variable for all commands can still read without the keys.
    let mut reads = place.command(&["query", "s", "--count", "--key", "/nonexistent"]);
    assert_eq!(reads.env("ATTESTLOG_PASSPHRASE", "correct horse").output().unwrap().status.code(), Some(0));
}

/// The story: an officer placed a hold and could not check whom it is on, since every list shows a pseudonym; and a medical log was made
/// with one year for `healthcare` without a word.
#[test]
fn who_is_held_and_what_is_kept_shorter_is_said() {
    let place = Place::empty();
    place.write("p.toml", "[retention.classes]\nhealthcare = \"1 year\"\n");
    let made = place.run(&["init", "s", "--config", "p.toml"]).code(0).err;
    assert!(made.contains("class healthcare is kept 1 year only, and 6 years where"), "{made}");
    let placed = place.run(&[&["hold", "place", "s", "--case", "c", "--user", "dr_z"][..], &BY].concat()).code(0);
    assert!(placed.out.trim().parse::<u64>().is_ok(), "{placed:?}");
    assert!(placed.err.contains(&format!("hold {} is placed on user dr_z", placed.out.trim())), "{placed:?}");
}

/// The story: a store that a job opens once a day was frozen after a week, and nothing had said that days without a process use up an
/// allowance.
#[test]
fn health_says_what_is_used_up_of_the_clock() {
    use attestlog::host::ManualClock;
    use attestlog::{AuditLog, Options};
    let place = Place::empty();
    let now = attestlog::host::Clock::now(&attestlog::host::SystemClock::default());
    let past = now.minus(std::time::Duration::from_secs(3 * 86_400));
    let log: AuditLog =
        Options::new().clock(std::sync::Arc::new(ManualClock::at(past))).create(place.path("s")).unwrap();
    log.close().unwrap();
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    let health = place.run(&["health", "s"]).ok();
    assert!(health.contains("3 of 7 days are used up in which no process had the store open"), "{health}");
}

/// The story: a hold that had been released since the backup was in force again, and `restore --replaces` said only to place again what
/// was missing, of which there was nothing.
#[test]
fn a_restore_that_lacks_nothing_says_so() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    let hold = place.run(&[&["hold", "place", "s", "--case", "c", "--user", "u"][..], &BY].concat()).ok();
    place.run(&["backup", "s", "copy"]).ok();
    place.run(&[&["hold", "release", "s", hold.trim()][..], &BY].concat()).ok();
    std::fs::rename(place.path("s"), place.path("moved")).unwrap();
    let ran = place.run(&[&["restore", "copy", "s", "--replaces", "moved", "--json"][..], &BY].concat()).code(0);
    assert!(ran.err.contains("moved had no hold, policy or emergency grant in force that the backup lacks"), "{ran:?}");
    let restored = crate::common::json(&ran.out);
    let standing = restored.get("restored").and_then(|restored| restored.get("standing")).and_then(Json::as_str);
    assert_eq!(standing, Some("changed"));
}

/// The story: a numbered file was being recorded when the process was killed. Sent again from its first line, as the documents say, it was
/// refused at line 1, and with `--keep-going` thousands of lines that were in the log "were not recorded".
#[test]
fn a_numbered_file_is_sent_again_from_its_first_line() {
    let place = Place::with_store();
    let line = |n: u64| call("c", "u", "t", &format!(r#""sender":{{"id":"app","number":{n}}}"#));
    let lines = |last: u64| (1..=last).map(line).collect::<String>();
    place.run_with(&["record", "s", "--no-alerts"], lines(300).as_bytes()).ok();
    let again = place.run_with(&["record", "s", "--no-alerts"], lines(320).as_bytes()).ok();
    assert!(again.starts_with("recorded 20 calls") && again.contains("300 calls were in the log already"), "{again}");
    assert_eq!(place.count(&["--kind", "tool_call"]), 320);
}

/// The story: alerts were owed to a receiver that had been taken out of the configuration, and `health` showed it without saying that
/// somebody has to do something about it.
#[test]
fn alerts_that_are_owed_to_nobody_any_more_are_a_concern() {
    let place = Place::empty();
    place.write("with.toml", "[[receivers]]\ncommand = ['false']\n");
    place.write("without.toml", "[retention]\n");
    place.run(&["init", "s", "--config", "with.toml"]).ok();
    let lines = call("c", "u", "t", r#""patient_id":"P-1""#).repeat(12);
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    place.run(&["policy", "set", "s", "without.toml", "--no-receivers"]).ok();
    let health = place.run(&["health", "s"]).code(1).out;
    assert!(
        health.contains("owed to command false, which is not configured") && health.contains("alerts forget"),
        "{health}"
    );
    place.run(&["alerts", "forget", "s", "command false"]).ok();
    place.run(&["health", "s"]).ok();
}

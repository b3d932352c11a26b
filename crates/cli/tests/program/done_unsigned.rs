//! Where the key file cannot be replaced, and where the answer cannot be written: what was done is said to be done (invariant R86).
//! Needs the right to mount, and says so where it is missing.
#![cfg(target_os = "linux")]

use crate::common::{Place, Ran, Small, call};
use std::process::Stdio;

const KEY: [&str; 2] = ["--key", "small/k.key"];
const BY: [&str; 4] = ["--actor", "a", "--reason", "r"];

fn with_key(place: &Place, args: &[&str]) -> Ran {
    place.run(&[args, &KEY].concat())
}

/// A store with sealed values, an alert, a hold and a grant; returns the seqs of the last three.
fn prepare(place: &Place) -> [String; 3] {
    place.write("p.toml", "[redaction]\n[redaction.fields]\nssn = \"seal\"\n");
    place.write(
        "longer.toml",
        "[redaction]\n[redaction.fields]\nssn = \"seal\"\n[retention.classes]\nspecial = \"9 years\"\n",
    );
    with_key(place, &["init", "s", "--config", "p.toml"]).ok();
    // Enough calls about one patient for an alert.
    let line = call("c", "u", "t", "\"patient_id\":\"P-1\",\"arguments\":{\"ssn\":\"460-89-9847\"}");
    place.write("calls", line.repeat(12));
    place.write("more.json", call("c2", "u", "imported", ""));
    with_key(place, &["record", "s", "calls"]).ok();
    let hold = with_key(place, &[&["hold", "place", "s", "--case", "c", "--user", "u"][..], &BY].concat()).ok();
    let grant =
        [&["break-glass", "open", "s", "--user", "b", "--patient", "q", "--ttl", "1h", "--reason", "x", "--json"][..]];
    let grant = crate::common::json(&with_key(place, &grant.concat()).ok());
    let alerts = with_key(place, &["query", "s", "--kind", "alert", "--json"]).ok();
    let alert = crate::common::json(alerts.lines().next().expect("calls raise an alert"));
    let seq = |value: Option<&attestlog::json::Json>| value.and_then(|seq| seq.as_u64()).unwrap().to_string();
    [hold.trim().to_owned(), seq(grant.get("grant")), seq(alert.get("seq"))]
}

/// The story: the disk of the key file was full. `hold place` printed "No space left on device" and ended with 3, and the hold was in
/// force; the officer placed it again. A release, a grant, a policy, a backup, an import: the same text; and the same text from
/// `keys rotate` and `erase`, which had done nothing. Nobody could tell the two apart.
#[test]
fn what_is_recorded_and_cannot_be_signed_is_said_to_be_done() {
    let place = Place::empty();
    let Some(small) = Small::mount(&place.path("small"), "64k") else { return };
    let [hold, grant, alert] = prepare(&place);
    small.fill();
    let size = || place.count(&[]);
    let changes: Vec<Vec<&str>> = vec![
        [&["hold", "place", "s", "--case", "d", "--user", "v"][..], &BY].concat(),
        [&["hold", "release", "s", &hold][..], &BY].concat(),
        vec!["break-glass", "open", "s", "--user", "x", "--patient", "y", "--ttl", "1h", "--reason", "x"],
        vec!["break-glass", "close", "s", &grant, "--actor", "a"],
        vec!["break-glass", "review", "s", &grant, "--reviewer", "z", "--disposition", "justified"],
        vec!["alerts", "ack", "s", &alert, "--actor", "a", "--disposition", "seen"],
        vec!["policy", "set", "s", "longer.toml"],
        [&["clock", "confirm", "s"][..], &BY].concat(),
        vec!["import", "s", "--format", "jsonl", "more.json"],
        vec!["backup", "s", "copy"],
        [&["reveal", "s", "2", "arguments.ssn"][..], &BY].concat(),
        vec!["purge", "s", "--actor", "a"],
        vec!["record", "s", "calls", "--no-alerts"],
    ];
    for change in &changes {
        let before = size();
        let ran = with_key(&place, change);
        assert_eq!(ran.code, 3, "{change:?}: {ran:?}");
        assert!(size() > before, "{change:?} recorded nothing: {ran:?}");
        let newest = format!("{} recorded and in force", if ran.err.contains(" to ") { "are" } else { "is" });
        if change[0] == "reveal" {
            // Nobody sees a value before the log shows for certain who saw it.
            assert!(ran.out.is_empty() && ran.err.contains("reveal it again then"), "{ran:?}");
            continue;
        }
        assert!(ran.err.contains("Do not repeat anything") && ran.err.contains(&newest), "{change:?}: {ran:?}");
        assert!(!ran.out.is_empty(), "{change:?} does not say what it did: {ran:?}");
    }
    assert!(place.path("copy").exists());
    assert!(with_key(&place, &["hold", "list", "s"]).ok().contains(" d "), "the hold is in force");
    // These did nothing, and say so.
    for (change, nothing) in [
        (vec!["keys", "rotate", "s"], "no key was replaced"),
        (vec!["keys", "rotate", "s", "--pseudonyms"], "no key was replaced"),
        ([&["erase", "s", "--subject", "P-1"][..], &BY].concat(), "nothing was erased"),
    ] {
        let before = size();
        let ran = with_key(&place, &change);
        assert_eq!(ran.code, 3, "{change:?}: {ran:?}");
        assert!(ran.err.contains(nothing) && !ran.err.contains("Do not repeat"), "{change:?}: {ran:?}");
        assert!(size() == before, "{change:?}: {ran:?}");
    }
    small.make_room();
    with_key(&place, &["checkpoint", "s"]).ok();
    let verified = with_key(&place, &["verify", "s", "--json"]).json();
    assert_eq!(verified.get("signed_size"), verified.get("size"));
}

/// The story: `hold place … > /dev/full` ended with "standard output: No space left on device", and the hold was placed.
#[test]
fn an_answer_that_cannot_be_written_says_that_the_change_is_done() {
    let place = Place::empty();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let run = |args: &[&str]| {
        let ran = place.command(args).stdout(full()).output().unwrap();
        assert_eq!(ran.status.code(), Some(3), "{args:?}");
        String::from_utf8(ran.stderr).unwrap()
    };
    assert!(run(&["init", "s"]).contains("Do not repeat the command: s is made"));
    assert!(place.path("s").exists());
    place.write("p.toml", "[retention]\n");
    let placed = run(&[&["hold", "place", "s", "--case", "d", "--user", "v"][..], &BY].concat());
    assert!(placed.contains("Do not repeat the command: hold 2 is placed on user v"), "{placed}");
    let opened = run(&["break-glass", "open", "s", "--user", "x", "--patient", "y", "--ttl", "1h", "--reason", "x"]);
    assert!(opened.contains("Do not repeat the command: grant 3, until"), "{opened}");
    assert!(run(&["policy", "set", "s", "p.toml"]).contains("recorded as entry"));
}

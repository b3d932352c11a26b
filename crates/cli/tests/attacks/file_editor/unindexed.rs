//! Entries that no index batch covers yet are edited while nobody has the store open.
//!
//! `sed -i 's/five hundred/nine hundred/'` on a log of two calls: the edited one was in no answer, with exit code 0 and
//! nothing on standard error; 'no entry of this log has the user "eve"'; `health` was green. Up to 65,536 entries are in
//! this state.

use crate::common::{Place, Ran, call, json, overwrite};
use attestlog::json::Json;
use std::io::{BufRead as _, BufReader};

fn edited() -> Place {
    let lines = [
        call("c", "eve", "look", r#""arguments":{"q":"five hundred"},"patient_id":"P-1""#),
        call("c", "bob", "look", ""),
    ]
    .concat();
    let place = Place::with_lines(&lines);
    let more =
        ["hold", "place", "s", "--case", "held by five hundred", "--actor", "legal", "--reason", "r", "--user", "eve"];
    place.run(&more).ok();
    assert!(overwrite(&place.path("s"), b"five hundred", b"nine hundred") > 1);
    place
}

#[track_caller]
fn told(ran: &Ran) {
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("entry 2 cannot be read, or its text has another hash"), "{ran:?}");
    for absent in ["no entry", "similar", "UNKNOWN"] {
        assert!(!ran.err.contains(absent) && !ran.out.contains(absent), "{ran:?}");
    }
}

const ASKED: [&[&str]; 14] = [
    &["query", "s", "--user", "eve"],
    &["query", "s", "--user", "e*"],
    &["query", "s", "--kind", "tool_call", "--count"],
    &["query", "s", "--json"],
    &["timeline", "s", "c"],
    &["timeline", "s", "c2", "--json"],
    &["stats", "s"],
    &["stats", "s", "--json"],
    &["stats", "s", "--tool", "look", "--json"],
    &["export", "s", "--format", "jsonl"],
    &["export", "s", "--format", "csv"],
    &["hold", "list", "s", "--json"],
    &["break-glass", "list", "s", "--json"],
    &["alerts", "list", "s", "--json"],
];

fn all_told(place: &Place) {
    for asked in ASKED {
        let ran = place.run(asked);
        told(&ran);
        if asked.contains(&"--json") || asked.contains(&"jsonl") {
            // Of a store with one edited entry `stats` printed nothing at all, where every other answer followed the warning.
            let first = json(ran.out.lines().next().unwrap_or_else(|| panic!("{asked:?} answers nothing: {ran:?}")));
            let first = first.as_array().map_or(&first, |all| &all[0]);
            assert!(first.get("damage").and_then(Json::as_str).is_some_and(|d| d.starts_with("entry 2 ")), "{ran:?}");
        }
    }
    let health = place.run(&["health", "s"]);
    assert!(health.out.contains("! entry 2 "), "{health:?}");
    assert_eq!(health.code, 1);
    let health = json(&place.run(&["health", "s", "--json"]).code(1).out);
    assert!(health.get("damage").and_then(Json::as_str).is_some());
    let report = place.run(&["report", "access", "s", "--patient", "P-1"]).code(1);
    assert!(report.out.contains("VERIFICATION FAILED") && !report.out.contains("UNKNOWN"), "{report:?}");
}

#[test]
fn each_answer_says_that_an_entry_was_edited() {
    let place = edited();
    all_told(&place);
    let ran = place.run_with(&["record", "s"], call("c", "u", "look", "").as_bytes()).code(3);
    assert!(ran.err.contains("entry 2 "), "{ran:?}");
    // After it is put back, the log is as it was.
    overwrite(&place.path("s"), b"nine hundred", b"five hundred");
    std::fs::remove_file(place.path("s.verified")).unwrap();
    assert_eq!(place.run(&["query", "s", "--user", "eve", "--count"]).ok(), "1\n");
    place.run(&["health", "s"]).ok();
}

#[test]
#[cfg(unix)]
fn so_it_does_where_it_may_not_be_written_and_through_the_process_that_serves_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = edited();
    std::fs::set_permissions(place.path("s"), std::fs::Permissions::from_mode(0o400)).unwrap();
    all_told(&place);
    std::fs::set_permissions(place.path("s"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut serving = place.command(&["serve", "s"]).spawn().unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<String> = lines.by_ref().take_while(|line| !line.contains("serving the store")).collect();
    assert!(said.iter().any(|line| line.contains("entry 2 ")), "{said:?}");
    all_told(&place);
    serving.kill().unwrap();
    serving.wait().unwrap();
}

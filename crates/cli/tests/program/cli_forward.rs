//! `forward`: what a SIEM can rely on. No entry is left out, none comes out of order, whatever happens to the process, the machine or
//! the file; and a gap that somebody else makes shows in the rows.

use crate::common::{Ended, Place, call, json, overwrite};
use attestlog::Hash;
use attestlog::json::Json;
use std::time::{Duration, Instant};

const TO: &str = "file:siem.json";

fn calls(from: usize, to: usize) -> String {
    let one = |n: usize| {
        let failed = if n.is_multiple_of(3) { r#","error":{"type":"Busy","message":"HIV positive"}"# } else { "" };
        call(
            &format!("c{}", n % 5),
            "ann",
            ["get_chart", "hum", "delete_note"][n % 3],
            &format!(r#""agent_id":"bot","model":"m","arguments":{{"note":"secret {n}"}}{failed}"#),
        )
    };
    (from..to).map(one).collect()
}

fn forward(place: &Place, to: &str) -> String {
    place.run(&["forward", "s", "--to", to]).ok()
}

fn rows(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.path(name)).unwrap()
}

fn at<'a>(value: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(value, |at, step| at.get(step))
}

/// Checks a file of rows as a SIEM can: in order, each with the hash of the one before, each with its own fingerprint.
fn check_chain(text: &str, first: u64) -> u64 {
    let mut before: Option<String> = None;
    let mut seq = first;
    for line in text.lines() {
        let row = json(line);
        assert_eq!(row.to_canonical().as_str(), line);
        assert_eq!(at(&row, "metadata.sequence").and_then(Json::as_u64), Some(seq));
        let previous = at(&row, "attestation.prev_event.uid").and_then(Json::as_str).map(str::to_owned);
        assert!(seq == first || previous == before, "{line}");
        assert_eq!(previous.is_none(), seq == 0, "{line}");
        before = at(&row, "metadata.uid").and_then(Json::as_str).map(str::to_owned);
        let said = at(&row, "attestation.fingerprint.value").and_then(Json::as_str).unwrap().to_owned();
        let mut bare = row.as_object().unwrap().clone();
        if let Some(Json::Object(attestation)) = bare.get_mut("attestation") {
            attestation.remove("fingerprint");
        }
        assert_eq!(said, Hash::of(Json::from(bare).to_canonical().as_str().as_bytes()).to_string());
        seq += 1;
    }
    seq
}

#[test]
fn each_entry_is_a_row_and_the_next_run_goes_on() {
    let place = Place::with_lines(&calls(0, 6));
    let said = forward(&place, TO);
    assert!(said.contains("forwarded 8 entries") && said.contains("the newest is entry 7"), "{said}");
    let first = rows(&place, "siem.json");
    assert_eq!(check_chain(&first, 0), 8);
    #[cfg(unix)]
    for name in ["siem.json", "siem.json.cursor"] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(!first.contains("secret") && !first.contains("HIV"), "{first}");
    // The hashes are those of the log, and the kinds of rows are those of the schema.
    let lines = place.run(&["export", "s", "--format", "jsonl"]).ok();
    let mut classes = std::collections::BTreeSet::new();
    for (row, line) in first.lines().map(json).zip(lines.lines()) {
        assert_eq!(at(&row, "metadata.uid").and_then(Json::as_str).unwrap(), Hash::leaf(line.as_bytes()).to_string());
        classes.insert(at(&row, "type_name").and_then(Json::as_str).unwrap().to_owned());
    }
    let expected = [
        "API Activity: Delete",
        "API Activity: Other",
        "API Activity: Read",
        "Event Log Activity: Enable",
        "Event Log Activity: Other",
    ];
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), expected);
    // Nothing new, then two more.
    assert!(forward(&place, TO).contains("forwarded 0 entries"));
    place.run_with(&["record", "s", "--no-alerts"], calls(6, 8).as_bytes()).ok();
    assert!(forward(&place, TO).contains("forwarded 2 entries"));
    let all = rows(&place, "siem.json");
    assert!(all.starts_with(&first));
    assert_eq!(check_chain(&all, 0), 10);
    forward(&place, "file:fresh.json");
    assert_eq!(rows(&place, "fresh.json"), all);
}

/// A crash leaves any beginning of what was to be written, with a cursor of any time before. Two crashes in a row, at each of many
/// places, and the file is in the end what it would have been without.
#[test]
fn a_half_row_is_cut_off_and_written_again() {
    let place = Place::with_lines(&calls(0, 4));
    for format in ["ocsf", "jsonl"] {
        let run = |to: &str| place.run(&["forward", "s", "--to", to, "--format", format]).ok();
        let whole_name = format!("whole.{format}");
        run(&format!("file:{whole_name}"));
        let whole = rows(&place, &whole_name);
        for cut in (0..whole.len()).step_by(whole.len() / 12) {
            let name = format!("{format}.{cut}");
            place.write(&name, &whole[..cut]);
            private(&place, &name);
            run(&format!("file:{name}"));
            assert_eq!(rows(&place, &name), whole, "cut at {cut}");
            let again = whole.len() - cut / 2;
            place.write(&name, &whole[..again]);
            run(&format!("file:{name}"));
            assert_eq!(rows(&place, &name), whole, "cut at {cut}, then at {again}");
        }
    }
}

fn private(place: &Place, name: &str) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < until, "no {what} in time");
        std::thread::yield_now();
    }
}

/// Follows while another process records, and is killed twice in the middle of it: no gap, no reorder, and no row twice, since what
/// is in the file says where to go on.
#[test]
fn a_follower_that_is_killed_leaves_no_gap() {
    let place = Place::with_lines(&calls(0, 3000));
    let len = || std::fs::metadata(place.path("siem.json")).map_or(0, |about| about.len());
    let mut seen = 0;
    for round in 0..2 {
        let follower = Ended(place.command(&["forward", "s", "--to", TO, "--follow"]).spawn().unwrap());
        wait_until("row", || len() > seen);
        drop(follower);
        seen = len();
        let more = 3000 + round * 500;
        place.run_with(&["record", "s", "--no-alerts"], calls(more, more + 500).as_bytes()).ok();
    }
    let follower = Ended(place.command(&["forward", "s", "--to", TO, "--follow"]).spawn().unwrap());
    let newest = place.count(&[]) - 1;
    wait_until("newest row", || {
        let text = rows(&place, "siem.json");
        let last = text.lines().next_back().and_then(|line| Json::parse(line.as_bytes()).ok());
        last.is_some_and(|row| at(&row.value, "metadata.sequence").and_then(Json::as_u64) == Some(newest))
    });
    drop(follower);
    assert_eq!(check_chain(&rows(&place, "siem.json"), 0), newest + 1);
}

/// Whoever rotates files renames or empties this one, while `forward` runs or while it does not.
#[test]
fn a_rotated_file_is_gone_on_with_in_a_new_one() {
    let place = Place::with_lines(&calls(0, 3));
    forward(&place, TO);
    std::fs::rename(place.path("siem.json"), place.path("siem.json.1")).unwrap();
    place.run_with(&["record", "s", "--no-alerts"], calls(3, 5).as_bytes()).ok();
    forward(&place, TO);
    let first = check_chain(&rows(&place, "siem.json.1"), 0);
    let second = check_chain(&rows(&place, "siem.json"), first);
    // Emptied in place.
    std::fs::OpenOptions::new().write(true).truncate(true).open(place.path("siem.json")).unwrap();
    place.run_with(&["record", "s", "--no-alerts"], calls(5, 6).as_bytes()).ok();
    forward(&place, TO);
    let third = check_chain(&rows(&place, "siem.json"), second);
    // Renamed under a follower.
    let follower = Ended(place.command(&["forward", "s", "--to", TO, "--follow"]).spawn().unwrap());
    let record = |from| place.run_with(&["record", "s", "--no-alerts"], calls(from, from + 1).as_bytes()).ok();
    let lines = |name: &str| std::fs::read_to_string(place.path(name)).map_or(0, |text| text.lines().count());
    let had = lines("siem.json");
    record(6);
    wait_until("row", || lines("siem.json") > had);
    std::fs::rename(place.path("siem.json"), place.path("siem.json.2")).unwrap();
    record(7);
    wait_until("new file", || lines("siem.json") == 1 || lines("siem.json") == 2);
    drop(follower);
    let fourth = check_chain(&rows(&place, "siem.json.2"), second);
    assert!(fourth > third);
    forward(&place, TO);
    assert_eq!(check_chain(&rows(&place, "siem.json"), fourth), place.count(&[]));
}

/// A file of somebody else, a store, rows of another log: nothing is written to them, and nothing is cut off.
#[test]
fn what_is_not_its_own_is_not_written_to() {
    let place = Place::with_lines(&calls(0, 3));
    for (name, text) in [("notes", "buy milk\ncall ann"), ("half", "buy milk"), ("other", "{\"a\":1}\n")] {
        place.write(name, text);
        private(&place, name);
        let ran = place.run(&["forward", "s", "--to", &format!("file:{name}")]).code(2);
        assert!(ran.err.contains("name another file"), "{}", ran.err);
        assert_eq!(rows(&place, name), text);
    }
    for to in ["file:s", "file:s.key", "http://example.org", "file:", "siem.json"] {
        place.run(&["forward", "s", "--to", to]).code(2);
    }
    forward(&place, TO);
    let ran = place.run(&["forward", "s", "--to", TO, "--format", "jsonl"]).code(2);
    assert!(ran.err.contains("in this format"), "{}", ran.err);
    // Another log, and an older copy of this one.
    place.run(&["init", "t"]).ok();
    place.run_with(&["record", "t", "--no-alerts"], calls(0, 9).as_bytes()).ok();
    let ran = place.run(&["forward", "t", "--to", TO]).code(1);
    assert!(ran.err.contains("or it is another log"), "{}", ran.err);
    place.run(&["init", "u"]).ok();
    let ran = place.run(&["forward", "u", "--to", TO]).code(1);
    assert!(ran.err.contains("restored from an older copy"), "{}", ran.err);
    // The same after the file was rotated: the cursor knows.
    std::fs::remove_file(place.path("siem.json")).unwrap();
    place.run(&["forward", "u", "--to", TO]).code(1);
    place.write("siem.json.cursor", "");
    let ran = place.run(&["forward", "s", "--to", TO]).code(2);
    assert!(ran.err.contains("does not say where to go on"), "{}", ran.err);
}

/// An edited cursor without a hash skipped a hundred rows without a word, and one that a crash had left behind doubled them after the
/// next rotation.
#[test]
fn a_cursor_says_where_to_go_on_with_a_hash_or_not_at_all() {
    let place = Place::with_lines(&calls(0, 9));
    for wrong in [r#"{"hash":"00","seq":5}"#, r#"{"hash":"","seq":5}"#, r#"{"seq":5}"#, r#"{"hash":7,"seq":5}"#, ""] {
        place.write("siem.json.cursor", wrong);
        let refused = place.run(&["forward", "s", "--to", TO]).code(2);
        assert!(refused.err.contains("does not say where to go on"), "{wrong}: {}", refused.err);
        assert_eq!(rows(&place, "siem.json"), "", "{wrong}");
    }
    std::fs::remove_file(place.path("siem.json.cursor")).unwrap();
    forward(&place, TO);
    let (all, cursor) = (rows(&place, "siem.json"), rows(&place, "siem.json.cursor"));
    let older =
        all.lines().nth(4).map(|row| at(&json(row), "metadata.uid").unwrap().as_str().unwrap().to_owned()).unwrap();
    place.write("siem.json.cursor", format!("{{\"hash\":\"{older}\",\"seq\":4}}\n"));
    assert!(forward(&place, TO).contains("forwarded 0 entries"));
    assert_eq!(rows(&place, "siem.json.cursor"), cursor);
    std::fs::rename(place.path("siem.json"), place.path("siem.json.1")).unwrap();
    assert!(forward(&place, TO).contains("forwarded 0 entries"));
}

#[test]
fn two_do_not_forward_to_one_file() {
    let place = Place::with_lines(&calls(0, 3));
    let follower = Ended(place.command(&["forward", "s", "--to", TO, "--follow"]).spawn().unwrap());
    let lines = || std::fs::read_to_string(place.path("siem.json")).map_or(0, |text| text.lines().count());
    wait_until("rows", || lines() == 5);
    let ran = place.run(&["forward", "s", "--to", TO]).code(3);
    assert!(ran.err.contains("another process forwards to this file"), "{}", ran.err);
    drop(follower);
    assert_eq!(lines(), 5);
}

/// Somebody edits an entry before it was forwarded. Its row says so, and the others follow.
#[test]
fn an_edited_entry_has_a_row_that_says_so() {
    let notes = ["alpha", "bravo", "charlie", "delta"];
    let calls = notes.map(|note| call("c", "u", "pay", &format!(r#""arguments":{{"note":"{note}"}}"#)));
    let place = Place::with_lines(&calls.concat());
    assert!(overwrite(&place.path("s"), b"charlie", b"chariot") > 0);
    let ran = place.run(&["forward", "s", "--to", TO]).code(3);
    assert!(ran.err.contains("entry 4 is not the one that was recorded"), "{}", ran.err);
    assert!(!ran.err.contains("purge"), "{}", ran.err);
    place.run(&["forward", "s", "--to", "file:lines", "--format", "jsonl"]).code(3);
    let lines = rows(&place, "lines");
    assert!(lines.lines().nth(4).unwrap().starts_with("{\"differs\":{"), "{lines}");
    // The next run goes on behind it.
    let said = place.run(&["forward", "s", "--to", "file:lines", "--format", "jsonl"]).code(3).out;
    assert!(said.contains("forwarded 0 entries"), "{said}");
    let all: Vec<Json> = rows(&place, "siem.json").lines().map(json).collect();
    let sequence = |row: &Json| at(row, "metadata.sequence").and_then(Json::as_u64).unwrap();
    assert_eq!(all.iter().map(sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let finding = all.iter().find(|row| at(row, "class_uid").and_then(Json::as_u64) == Some(2004)).unwrap();
    assert_eq!(at(finding, "severity").and_then(Json::as_str), Some("Critical"));
    assert_eq!(at(finding, "metadata.uid"), None);
    let title = at(finding, "finding_info.title").and_then(Json::as_str).unwrap();
    assert!(title.contains(&format!("entry {} ", sequence(finding))), "{title}");
}

/// An alert and its acknowledgement are findings that belong together.
#[test]
fn alerts_are_findings() {
    let place = Place::empty();
    let rule = "[[alerts]]\nname = 'vip'\nseverity = 'critical'\nattributes.vip = true\nkey = ['user']\nwindow = '1h'\ncount = 1\n";
    place.write("p.toml", rule);
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    let vip = call("c", "ann", "t", r#""patient_id":"P-2","session_metadata":{"vip":true}"#);
    let said = place.run_with(&["record", "s"], vip.as_bytes()).ok();
    assert!(said.contains("1 alert was raised"), "{said}");
    let list = place.run(&["alerts", "list", "s", "--json"]).ok();
    let seq = json(list.lines().next().unwrap());
    let seq = seq.as_array().map_or(&seq, |all| &all[0]).get("seq").and_then(Json::as_u64).unwrap().to_string();
    place.run(&["alerts", "ack", "s", &seq, "--actor", "officer", "--disposition", "a test"]).ok();
    forward(&place, TO);
    let all: Vec<Json> = rows(&place, "siem.json").lines().map(json).collect();
    let findings: Vec<&Json> =
        all.iter().filter(|row| at(row, "class_uid").and_then(Json::as_u64) == Some(2004)).collect();
    let ids: Vec<_> = findings.iter().map(|row| at(row, "finding_info.uid")).collect();
    let types: Vec<_> = findings.iter().map(|row| at(row, "type_uid").and_then(Json::as_u64)).collect();
    assert_eq!((ids.len(), ids[0] == ids[1]), (2, true), "{ids:?}");
    assert_eq!(types, [Some(200_401), Some(200_403)]);
    assert_eq!(at(findings[0], "finding_info.title").and_then(Json::as_str), Some("vip"));
    assert_eq!(at(findings[0], "severity_id").and_then(Json::as_u64), Some(5));
}

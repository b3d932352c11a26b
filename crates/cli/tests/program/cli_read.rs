//! `query`, `timeline`, `stats` and `export`: their guarantees to scripts.

use crate::common::{Place, call, json};
use attestlog::json::Json;
use std::io::Read;
use std::process::Stdio;

fn example() -> Place {
    let lines = [
        call(
            "c1",
            "ann",
            "lookup",
            r#""timestamp":"2025-07-01T10:00:00Z","duration_ms":10,"model":"m1","patient_id":"P-1","purpose":"treatment""#,
        ),
        call(
            "c1",
            "ann",
            "refund",
            r#""timestamp":"2025-07-01T10:01:00Z","duration_ms":30,"model":"m1","error":{"type":"Busy","message":"try again"},"turn_number":2"#,
        ),
        call(
            "c1",
            "ann",
            "refund",
            r#""timestamp":"2025-07-01T10:02:00Z","duration_ms":20,"model":"m2","retry_of":3,"turn_number":2"#,
        ),
        call(
            "c2",
            "-x",
            "lookup",
            r#""timestamp":"2025-07-03T00:00:00Z","emergency":true,"call_trigger":"proactive","outcome":"denied""#,
        ),
    ];
    Place::with_lines(&lines.concat())
}

#[test]
fn the_lines_of_a_query_are_what_was_hashed() {
    let place = example();
    let all = place.run(&["query", "s", "--json"]).ok();
    let lines: Vec<&str> = all.lines().collect();
    let mut prev = "0".repeat(64);
    for (seq, line) in lines.iter().enumerate() {
        let value = json(line);
        assert_eq!(value.to_canonical().as_str(), *line);
        assert_eq!(value.get("seq").and_then(Json::as_u64), Some(seq as u64));
        assert_eq!(value.get("prev").and_then(Json::as_str), Some(prev.as_str()));
        prev = attestlog::Hash::leaf(line.as_bytes()).to_string();
    }
    assert_eq!(json(lines[0]).get("kind").and_then(Json::as_str), Some("genesis"));
    assert_eq!(place.run(&["export", "s", "--format", "jsonl"]).ok(), all);
    assert_eq!(place.count(&[]), lines.len() as u64);
    assert_eq!(place.count(&["--kind", "tool_call"]), 4);
    let newest = place.run(&["query", "s", "--json", "--newest-first", "--limit", "2"]).ok();
    let expected: Vec<&str> = lines.iter().rev().take(2).copied().collect();
    assert_eq!(newest.lines().collect::<Vec<_>>(), expected);
    let rest = place.run(&["query", "s", "--json", "--after", "1"]).ok();
    assert_eq!(rest.lines().collect::<Vec<_>>(), lines[2..]);
}

#[test]
fn filters_are_or_within_a_facet_and_and_between_facets() {
    let place = example();
    let cases: &[(&[&str], u64)] = &[
        (&["--conversation", "c1"], 3),
        (&["--conversation", "c1", "--conversation", "c2"], 4),
        (&["--user", "-x"], 1),
        (&["--user=-x"], 1),
        (&["--tool", "lookup"], 2),
        (&["--tool", "lookup", "--conversation", "c2"], 1),
        (&["--patient", "P-1"], 1),
        (&["--model", "m1", "--model", "m2"], 3),
        (&["--outcome", "tool_error"], 1),
        (&["--outcome", "denied", "--outcome", "ok"], 3),
        (&["--trigger", "retry"], 1),
        (&["--purpose", "treatment"], 1),
        (&["--emergency"], 1),
        (&["--failed"], 2),
        (&["--failed", "--outcome", "ok"], 0),
        (&["--failed", "--outcome", "denied", "--outcome", "ok"], 1),
        (&["--kind", "tool_call", "--since", "2025-07-01T10:01:00Z", "--until", "2025-07-01T10:02:00Z"], 1),
        (&["--kind", "tool_call", "--since", "2025-07-02"], 1),
        (&["--kind", "tool_call", "--until", "2025-07-03"], 3),
        (&["--user", "nobody"], 0),
        (&["--kind", "genesis", "--kind", "tool_call"], 5),
    ];
    for (filters, expected) in cases {
        assert_eq!(place.count(filters), *expected, "{filters:?}");
        let lines = place.run(&[&["query", "s", "--json"], *filters].concat()).ok();
        assert_eq!(lines.lines().count() as u64, *expected, "{filters:?}");
    }
}

#[test]
fn a_timeline_is_in_order_and_reads_well() {
    let place = example();
    let lines = place.run(&["timeline", "s", "c1", "--json"]).ok();
    assert_eq!(lines, place.run(&["query", "s", "--json", "--conversation", "c1"]).ok());
    let text = place.run(&["timeline", "s", "c1"]).ok();
    for expected in
        ["3 calls, 1 failed", "Turn 2", "m1 → refund", "Busy: try again", "retrying 3", "retried by #4", "20 ms"]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours are for terminals");
    let none = place.run(&["timeline", "s", "nobody"]).code(0);
    assert!(none.out.is_empty() && none.err.contains("nobody"));
}

#[test]
fn statistics_have_the_keys_of_the_contract() {
    let place = example();
    let refund = place.run(&["stats", "s", "--tool", "refund", "--json"]).json();
    let number = |key: &str| refund.get(key).and_then(Json::as_f64);
    assert_eq!(refund.get("tool").and_then(Json::as_str), Some("refund"));
    assert_eq!(
        (number("total_calls"), number("success_rate"), number("unique_users")),
        (Some(2.0), Some(0.5), Some(1.0))
    );
    assert_eq!((number("avg_duration_ms"), number("max_duration_ms")), (Some(25.0), Some(30.0)));
    for (key, exact) in [("p50_duration_ms", 20.0), ("p95_duration_ms", 30.0), ("p99_duration_ms", 30.0)] {
        assert!((number(key).unwrap() / exact - 1.0).abs() <= 0.01, "{key}");
    }
    assert_eq!(refund.get("since").and_then(Json::as_str), Some("2025-07-01"), "the first day of what there is");
    assert_eq!(number("unfinished"), Some(0.0));
    assert_eq!(refund.as_object().unwrap().len(), 12);
    let all = place.run(&["stats", "s", "--json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let none = place.run(&["stats", "s", "--tool", "nothing", "--json"]).json();
    assert_eq!(none.get("total_calls").and_then(Json::as_u64), Some(0));
    assert_eq!((none.get("success_rate"), none.get("p99_duration_ms")), (Some(&Json::Null), Some(&Json::Null)));
    let day = place.run(&["stats", "s", "--json", "--since", "2025-07-03"]).json();
    assert_eq!(day.as_array().unwrap().len(), 1);
}

#[test]
fn nothing_recorded_reaches_the_terminal_raw() {
    let hostile = "\\u001b]0;owned\\u0007\u{202e}\u{9b}2J";
    let line = call(
        hostile,
        hostile,
        hostile,
        &format!(
            r#""arguments":{{"{hostile}":"{hostile}"}},"error":"{hostile}\n\r","model":"{hostile}","purpose":"{hostile}","patient_id":"{hostile}""#
        ),
    );
    let place = Place::with_lines(&line);
    let clear = "\x1b]0;owned\x07\u{202e}\u{9b}2J";
    for command in [&["query", "s"][..], &["timeline", "s", clear], &["stats", "s"]] {
        let ran = place.run(command).code(0);
        assert!(ran.out.contains("owned"), "{}", ran.out);
        let raw = ran.out.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(raw, None, "{command:?}: {:?}", ran.out);
    }
}

#[test]
fn exports_go_to_a_file_in_one_step() {
    let place = example();
    place.write("out.csv", "old");
    assert_eq!(place.run(&["export", "s", "--format", "csv", "-o", "out.csv"]).ok(), "");
    let csv = std::fs::read_to_string(place.path("out.csv")).unwrap();
    assert!(csv.starts_with("seq,kind,timestamp,"));
    let calls = place.run(&["export", "s", "--format", "csv", "--kind", "tool_call"]).ok();
    assert_eq!(calls.lines().count(), 5);
    let bundle = place.run(&["export", "s", "--format", "fhir-r4", "--conversation", "c1"]).json();
    assert_eq!(bundle.get("entry").unwrap().as_array().unwrap().len(), 3);
    let bundle = place.run(&["export", "s", "--format", "fhir-r5", "--conversation", "c1"]).json();
    assert_eq!(bundle.get("resourceType").and_then(Json::as_str), Some("Bundle"));
    assert_eq!(place.run(&["export", "s", "--format", "ocsf", "--conversation", "c1"]).ok().lines().count(), 3);
    place.run(&["export", "s", "--format", "xml"]).code(2);
    // The store and its key are never overwritten.
    for precious in ["s", "s.key", "./s"] {
        place.run(&["export", "s", "--format", "jsonl", "-o", precious]).code(2);
    }
    place.run(&["verify", "s"]).ok();
    let names: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    // The store, its key and the export: nothing half written, and no file from commands that only read.
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let place = Place::with_store();
    let lines: String = (0..20_000).map(|i| call("c", "u", "t", &format!(r#""turn_number":{i}"#))).collect();
    place.run_with(&["record", "s"], lines.as_bytes()).ok();
    for command in
        [&["query", "s", "--json"][..], &["query", "s"], &["export", "s", "--format", "csv"], &["timeline", "s", "c"]]
    {
        let mut child = place.command(command).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 100];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{command:?}");
    }
}

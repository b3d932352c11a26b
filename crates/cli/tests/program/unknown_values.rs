//! Promise: a request for a value that the log has never seen says so, so that an empty answer is never read as *nobody*.

use crate::common::{Place, call, json};
use attestlog::json::Json;
use attestlog::redact::{Policy, Preset};
use attestlog::{AuditLog, ErrorKind, Facet, Options, PolicySet, Query, ToolCall};

fn place() -> Place {
    let lines = [
        call("conv_1", "dr", "get_chart", r#""patient_id":"P-00042""#),
        call("conv_1", "dr", "get_labs", r#""patient_id":"P-00042""#),
        call("conv_2", "lab", "put_note", r#""patient_id":"P-7""#),
    ];
    Place::with_lines(&lines.concat())
}

/// `report access --patient p-00042` gave the same official page as for a patient whom nobody had looked at: "0 accesses by
/// 0 users", verified, exit 0. The patient was P-00042.
#[test]
fn a_report_says_that_it_has_never_heard_of_the_patient() {
    let place = place();
    for wrong in ["p-00042", "P 00042", "P-42", "P_00042"] {
        let ran = place.run(&["report", "access", "s", "--patient", wrong, "--format", "json"]).code(0);
        let report = json(&ran.out);
        assert_eq!(report.get("unknown_to_log").and_then(Json::as_bool), Some(true), "{wrong}");
        let similar = report.get("similar").and_then(Json::as_array).unwrap();
        assert_eq!(similar.iter().filter_map(Json::as_str).collect::<Vec<_>>(), ["P-00042"], "{wrong}");
        assert!(
            ran.err.contains("no entry of this log has the patient") && ran.err.contains("\"P-00042\""),
            "{}",
            ran.err
        );
        for format in ["text", "html", "csv"] {
            let out = place.run(&["report", "access", "s", "--patient", wrong, "--format", format]).ok();
            assert!(out.to_lowercase().contains("unknown to this log"), "{format}: {out}");
        }
    }
    let ran = place.run(&["report", "access", "s", "--patient", "P-00042", "--format", "json"]).code(0);
    assert!(json(&ran.out).get("unknown_to_log").is_none() && ran.err.is_empty(), "{}", ran.err);
    // A value that is similar to none is still reported as unknown.
    let ran = place.run(&["report", "access", "s", "--user", "nobody"]).code(0);
    assert!(ran.out.contains("UNKNOWN TO THIS LOG"), "{}", ran.out);
}

/// A patient's report left out the emergency grants about him where the log kept pseudonyms and had no call of his, and said that
/// no entry had him. And of a name written a little differently it said that nothing came near it, which it could not know.
#[test]
fn a_log_with_pseudonyms_knows_whom_grants_name_and_what_comes_near() {
    let place = Place::empty();
    place.write("c.toml", "[redaction]\npreset = \"hipaa\"\n");
    place.run(&["init", "s", "--config", "c.toml"]).ok();
    place.run_with(&["record", "s"], call("c", "dr", "get_chart", r#""patient_id":"P-1""#).as_bytes()).ok();
    let open =
        ["break-glass", "open", "s", "--user", "dr_z", "--patient", "P-50", "--reason", "unconscious", "--ttl=1h"];
    place.run(&open).ok();
    for format in ["text", "html", "csv", "json", "fhir-r4", "fhir-r5"] {
        for of in [["--patient", "P-50"], ["--user", "dr_z"]] {
            let ran = place.run(&[&["report", "access", "s", "--format", format][..], &of].concat()).code(0);
            assert!(ran.out.contains("unconscious"), "{format} {of:?}: {}", ran.out);
            assert!(!ran.out.to_lowercase().contains("unknown"), "{format} {of:?}: {}", ran.out);
            assert!(ran.err.contains("no call of this log has the") && ran.err.contains("entry 3"), "{}", ran.err);
        }
    }
    let ran = place.run(&["query", "s", "--patient", "P-50"]).code(0);
    assert!(ran.err.contains("no call of this log has the patient \"P-50\"; what names it is entry 3"), "{}", ran.err);
    for wrong in ["P1", "p-1", "P 1", "P-01"] {
        let ran = place.run(&["report", "access", "s", "--patient", wrong, "--format", "json"]).code(0);
        assert!(
            json(&ran.out).get("similar").unwrap().to_canonical().as_str().contains("\"P-1\""),
            "{wrong}: {}",
            ran.out
        );
    }
    let ran = place.run(&["report", "access", "s", "--patient", "Q-77"]).code(0);
    assert!(ran.out.contains("nobody can tell") && !ran.out.contains("comes near"), "{}", ran.out);
}

/// A trace id that no call has, and a cursor beyond the end of the log, gave an empty answer and nothing else: a script
/// that had another log's cursor read 'nothing new' forever.
#[test]
fn a_trace_and_a_cursor_that_the_log_has_never_seen_are_told() {
    let place = Place::with_lines(&call("c", "u", "look", r#""trace_id":"t1""#));
    for args in [&["query", "s", "--trace", "t2"][..], &["query", "s", "--trace", "t2", "--count"]] {
        let ran = place.run(args).code(0);
        assert!(ran.err.contains("no entry of this log has the trace \"t2\""), "{args:?}: {}", ran.err);
    }
    let ran = place.run(&["export", "s", "--format", "jsonl", "--trace", "t1", "--trace", "t2"]).code(0);
    assert!(ran.out.contains("t1") && ran.err.contains("\"t2\"") && !ran.err.contains("\"t1\""), "{}", ran.err);
    let size = place.count(&[]);
    let ran = place.run(&["query", "s", "--after", "999999", "--json"]).code(0);
    assert!(ran.out.is_empty() && ran.err.contains(&format!("its newest is entry {}", size - 1)), "{}", ran.err);
    // A cursor at the newest entry asks for what is new: there is nothing to report.
    let ran = place.run(&["query", "s", "--after", &(size - 1).to_string()]).code(0);
    assert!(ran.err.is_empty(), "{}", ran.err);
}

/// What a call touched, and its trace, are found and proven like its tool.
#[test]
fn resources_and_traces_are_found_and_proven() {
    let members = r#""trace_id":"4BF92F3577B34DA6A3CE929D0E0E4736","resources":[{"kind":"file","name":"/etc/hosts"}]"#;
    let place = Place::empty();
    let key = place.run(&["init", "s", "--origin", "example.com/log"]).ok().trim().to_owned();
    place.run_with(&["record", "s"], call("c", "u", "Edit", members).as_bytes()).ok();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for args in [["--resource", "/etc/hosts"], ["--resource", "/etc/*"], ["--trace", trace]] {
        assert_eq!(place.count(&args), 1, "{args:?}");
    }
    assert_eq!(place.count(&["--peer", "/usr/bin/node"]), 0);
    let ran = place.run(&["query", "s", "--resource", "/etc/host"]).code(0);
    assert!(ran.err.contains("no entry of this log has the resource \"/etc/host\""), "{}", ran.err);
    for (facet, value) in [("resource", "/etc/hosts"), ("trace", trace), ("peer", "/usr/bin/node")] {
        let flag = format!("--{facet}");
        let proof = place.run(&["prove", "s", "--complete", &flag, value]).ok();
        place.write("proof", &proof);
        place.run(&["check", "proof", "--public-key", &key, &flag, value]).ok();
    }
}

#[test]
fn every_command_that_takes_a_filter_says_so_on_standard_error() {
    let place = place();
    for args in [
        &["query", "s", "--user", "DR"][..],
        &["query", "s", "--user", "DR", "--count"],
        &["query", "s", "--json", "--tool", "nothing"],
        &["export", "s", "--format", "csv", "--conversation", "conv-1"],
        &["stats", "s", "--tool", "get-chart"],
        &["stats", "s", "--tool", "get-chart", "--json"],
        &["timeline", "s", "conv-1"],
        &["timeline", "s", "CONV_1", "--json"],
        &["prove", "s", "--complete", "--neighbours", "--patient", "p-00042"],
        &["hold", "place", "s", "--case", "c", "--actor", "a", "--reason", "r", "--user", "Dr"],
    ] {
        let ran = place.run(args).code(0);
        assert!(ran.err.contains("no entry of this log has the "), "{args:?}: {}", ran.err);
    }
    let known = place.run(&["query", "s", "--user", "dr", "--tool", "get_chart"]).code(0);
    assert!(known.err.is_empty(), "{}", known.err);
    // Values that only purged entries had are no longer known, and the message says that too.
    assert!(!place.run(&["query", "s", "--user", "gone"]).err.contains("purged"));
}

#[test]
fn a_filter_with_stars_stands_for_what_fits_it() {
    let place = place();
    let count =
        |args: &[&str]| place.run(&[&["query", "s", "--count"], args].concat()).ok().trim().parse::<u64>().unwrap();
    assert_eq!(count(&["--tool", "get_*"]), 2);
    assert_eq!(count(&["--tool", "get_*", "--tool", "put_note"]), 3);
    assert_eq!(count(&["--patient", "P-?"]), 1);
    assert_eq!(count(&["--tool", "*", "--user", "l*"]), 1);
    let ran = place.run(&["query", "s", "--tool", "del_*", "--count"]).code(0);
    assert!(ran.out.trim() == "0" && ran.err.contains("\"del_*\""), "{} {}", ran.out, ran.err);
    let stats = place.run(&["stats", "s", "--tool", "get_*", "--json"]).json();
    assert_eq!(stats.as_array().unwrap().len(), 2);
    place.run(&["tail", "s", "--tool", "get_*"]).code(2);
}

#[test]
fn values_are_found_wherever_they_lie() {
    let log = AuditLog::in_memory().unwrap();
    let long = "x".repeat(100);
    for tool in ["in_the_file", &long] {
        log.record(ToolCall::new("c", "u", tool)).unwrap();
    }
    log.flush_index().unwrap();
    log.record(ToolCall::new("c", "u", "in_memory")).unwrap();
    assert_eq!(log.values().matching(Facet::Tool, "in_*").unwrap(), ["in_memory", "in_the_file"]);
    assert_eq!(log.values().matching(Facet::Tool, "xx*").unwrap(), std::slice::from_ref(&long));
    let unknown = log.values().unknown(&Query::new().tool(long.to_uppercase()).tool("in_memory")).unwrap();
    assert_eq!((unknown.len(), &unknown[0].similar), (1, &vec![long]));
    let e = log.values().matching(Facet::Tool, &"a".repeat(300)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
}

#[test]
fn no_pattern_reads_pseudonyms() {
    let mut set = PolicySet::default();
    set.redaction = Policy::preset(Preset::Hipaa);
    let log = Options::new().policies(set).in_memory().unwrap();
    log.record(ToolCall::new("c", "u", "t").patient("P-1")).unwrap();
    let e = log.values().matching(Facet::Patient, "P-*").unwrap_err();
    assert!(e.to_string().contains("pseudonyms"), "{e}");
    assert!(log.values().unknown(&Query::new().patient("P-1")).unwrap().is_empty());
    let unknown = log.values().unknown(&Query::new().patient("P-2")).unwrap();
    assert!(unknown[0].similar.is_empty(), "{unknown:?}");
}

//! `timeline`, `stats`, `query` and `export` say of the same calls the same. Invariant R42.

use crate::common::{Place, call, json};
use attestlog::entry::{Approval, Decision, Source, SourceKind};
use attestlog::json::Json;
use attestlog::{AuditLog, Outcome, ToolCall};

/// A store in which a call of the proxy timed out and was answered late with an error, one was answered well late, one went well
/// and one never ended.
fn store() -> Place {
    let place = Place::with_store();
    let log = AuditLog::open(place.path("s")).unwrap();
    let seen = |tool: &str| {
        let mut call = ToolCall::new("c", "u", tool);
        call.circumstances.sources.push(Source::new(SourceKind::Proxy));
        call
    };
    for late in [Outcome::ToolError, Outcome::Ok] {
        let gave_up = log.begin(seen("slow")).unwrap().finish(|call| call.outcome(Outcome::Timeout)).unwrap().seq;
        let mut answer = seen("slow").follow_up_of(gave_up).outcome(late);
        answer.late_answer = true;
        log.record(answer).unwrap();
    }
    log.record(seen("slow").result(true)).unwrap();
    drop(log.begin(seen("crash")).unwrap());
    log.close().unwrap();
    place
}

/// What another source told later of a call stood in a timeline like a call that had been begun and never ended.
#[test]
fn details_are_told_as_what_they_are() {
    let place = Place::with_store();
    let log = AuditLog::open(place.path("s")).unwrap();
    let call = || ToolCall::new("c", "u", "Edit");
    let approval = Approval { by: Some("boss".to_owned()), ..Approval::new(Decision::Allowed) };
    let seen = call().approval(approval).resource("file", "/etc/hosts").result(true);
    let seen = log.record(seen.parent("agent-0", None).source(Source::new(SourceKind::Hook))).unwrap().seq;
    let told = || call().source(Source::new(SourceKind::Session)).detail_of(seen);
    log.record(told().duration(std::time::Duration::from_millis(1500))).unwrap();
    log.record(told().source(Source::new(SourceKind::Telemetry)).outcome(Outcome::ToolError).contradicts(["outcome"]))
        .unwrap();
    log.close().unwrap();
    let timeline = place.run(&["timeline", "s", "c"]).ok();
    for said in [
        "\n1 call · u · ",
        "allowed by boss · touched /etc/hosts · agent started by agent-0",
        &format!("… told later of #{seen}: it took 1.5"),
        &format!("✗ tool_error, told later of #{seen}"),
        "told by session, telemetry · differs in outcome",
    ] {
        assert!(timeline.contains(said), "{said:?} in {timeline}");
    }
    assert!(!timeline.contains("no end was ever recorded"), "{timeline}");
    let query = place.run(&["query", "s", "--tool", "Edit"]).ok();
    assert_eq!(query.matches(&format!("details of {seen}")).count(), 2, "{query}");
    let counted = place.run(&["query", "s", "--tool", "Edit", "--count"]).code(0);
    assert!(counted.out == "3\n" && counted.err.contains("2 of these entries are not calls"), "{counted:?}");
    assert_eq!(
        place.run(&["stats", "s", "--tool", "Edit", "--json"]).json().get("total_calls").unwrap().as_u64(),
        Some(1)
    );
    assert_eq!(place.run(&["export", "s", "--format", "ocsf"]).ok().lines().count(), 1);
    assert_eq!(place.run(&["export", "s", "--format", "csv", "--kind", "call_detail"]).ok().lines().count(), 3);
    place.run(&["verify", "s"]).ok();
}

/// "1 call, 2 failed" stood at the head of a timeline, of a call that had timed out and was answered late with an error; `query`
/// showed the answer like a further call; `stats` did not mention the call that had never ended; OCSF and FHIR had an event for
/// each late answer.
#[test]
fn late_answers_and_calls_without_an_end_are_told_as_what_they_are() {
    let place = store();
    let timeline = place.run(&["timeline", "s", "c"]).ok();
    assert!(timeline.contains("\n4 calls, 1 failed, 1 without an end · u · "), "{timeline}");
    let table = place.run(&["stats", "s"]).ok();
    assert!(table.contains("1 call without an end is not counted: crash 1"), "{table}");
    let slow = place.run(&["stats", "s", "--tool", "slow", "--json"]).json();
    let figure = |of: &Json, name: &str| of.get(name).and_then(Json::as_f64);
    assert_eq!((figure(&slow, "total_calls"), figure(&slow, "success_rate")), (Some(3.0), Some(2.0 / 3.0)));
    assert_eq!(figure(&slow, "unfinished"), Some(0.0));
    let crash = place.run(&["stats", "s", "--tool", "crash", "--json"]).json();
    assert_eq!((figure(&crash, "total_calls"), figure(&crash, "unfinished")), (Some(0.0), Some(1.0)));
    let report = place.run(&["report", "access", "s", "--user", "u", "--format", "json"]).json();
    let totals = ["total_accesses", "failed", "unfinished"].map(|total| figure(&report, total));
    assert_eq!(totals, [Some(4.0), Some(1.0), Some(1.0)]);

    let query = place.run(&["query", "s", "--conversation", "c", "--kind", "tool_call"]).ok();
    let marked: Vec<&str> = query.lines().filter(|line| line.contains("late answer to ")).collect();
    assert_eq!(marked.len(), 2, "{query}");
    for (filter, entries, parts) in
        [("--failed", "3\n", "1 of these entries is"), ("--kind=tool_call", "5\n", "2 of these")]
    {
        let ran = place.run(&["query", "s", "--count", filter]).code(0);
        assert!(ran.out == entries && ran.err.contains(parts), "{ran:?}");
    }
    let limited = place.run(&["query", "s", "--kind", "tool_call", "--limit", "1", "--count"]).code(0);
    assert!(limited.err.is_empty() && limited.out == "1\n", "{limited:?}");
    let other = place.run(&["query", "s", "--trigger", "retry", "--count"]).code(0);
    assert!(!other.err.contains("of these entries"), "{other:?}");

    let ocsf = place.run(&["export", "s", "--format", "ocsf"]).ok();
    assert_eq!(ocsf.lines().count(), 4, "{ocsf}");
    for format in ["fhir-r4", "fhir-r5"] {
        let events = place.run(&["export", "s", "--format", format, "--ndjson"]).ok();
        assert_eq!(events.lines().count(), 4, "{events}");
        // A report has one event for each row.
        let bundle = place.run(&["report", "access", "s", "--user", "u", "--format", format]).json();
        assert_eq!(bundle.get("entry").unwrap().as_array().unwrap().len(), 4);
    }
    // Without its call, an answer is an event of its own and says whose.
    let alone = place.run(&["export", "s", "--format", "ocsf", "--outcome", "tool_error"]).ok();
    let of = json(&alone).get("unmapped").unwrap().get("part_of").and_then(Json::as_u64);
    assert!(of.is_some(), "{alone}");
}

/// A line of an object that was spread over several lines was refused with "expected a key in quotes", a number that was none
/// with "invalid digit found in string", a flag that a command lacks with the advice to pass it as a value, and a store that had
/// been moved away with the advice to make a new one.
#[test]
fn small_mistakes_are_answered_with_what_to_do() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    let said = |args: &[&str], input: &str, code: i32| place.run_with(args, input.as_bytes()).code(code).err;
    let err = said(&["record", "s"], "{\n  \"tool_name\": \"t\"\n}\n", 1);
    assert!(err.contains("line 1: ") && err.contains("each call must be one JSON object on one line"), "{err}");
    let err = said(&["record", "s"], &call("c", "u", "t", r#""bogus":1"#), 1);
    assert!(err.contains("bogus") && !err.contains("one JSON object") && !err.contains("recorded;"), "{err}");
    let err = said(&["query", "s", "--limit", "abc"], "", 2);
    assert!(err.contains("must be a whole number, such as 7"), "{err}");
    let err = said(&["export", "s", "--format", "jsonl", "--limit", "3"], "", 2);
    assert!(err.contains("unexpected argument '--limit'") && !err.contains("as a value"), "{err}");
    std::fs::rename(place.path("s"), place.path("away")).unwrap();
    let err = said(&["record", "s"], "", 3);
    assert!(err.contains("s.key is there: the store was moved or deleted") && !err.contains("init"), "{err}");
}

/// The table of `query` had a line of 1,500 characters for the first policy, and the ciphertext of what was sealed.
#[test]
fn a_table_shows_neither_whole_policies_nor_ciphertext() {
    let place = Place::empty();
    place.write("p.toml", "[redaction.fields]\n\"arguments.note\" = \"seal\"\n");
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    let line = call("c", "u", "t", r#""patient_id":"P-1","arguments":{"note":"very private"}"#);
    place.run_with(&["record", "s"], line.as_bytes()).ok();
    for args in [&["query", "s"][..], &["timeline", "s", "c"]] {
        let shown = place.run(args).ok();
        assert!(shown.contains("note: [SEALED]") && !shown.contains("commit"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 500), "{shown}");
    }
}

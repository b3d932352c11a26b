//! A caller claims facts about a call that only the log itself can know (R67, R68, R69).

use super::common::{Place, call, json};

fn denied(n: usize, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    call("c", "mallory", "delete_all", &format!(r#""outcome":"denied","arguments":{{"n":{n}}}{more}"#))
}

fn hundred(more: &str) -> String {
    (0..100).map(|n| denied(n, more)).collect()
}

fn alerts(place: &Place) -> Vec<String> {
    place.run(&["alerts", "watch", "--once", "s"]).ok();
    let entries = place.run(&["query", "s", "--kind", "alert", "--json"]).ok();
    let rule = |line: &str| json(line).get("detail")?.get("rule")?.as_str().map(str::to_owned);
    let mut rules: Vec<String> = entries.lines().filter_map(rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

fn count(place: &Place, filters: &[&str]) -> String {
    place.run(&[&["query", "s", "--count", "--kind", "tool_call"], filters].concat()).ok().trim().to_owned()
}

/// One refused deletion, then a hundred more that called themselves its late answer, as the proxy and the import do:
/// statistics counted one call, and no rule looked at the others. A call that had succeeded, of another tool and user,
/// could be used in the same way.
#[test]
fn no_call_is_hidden_by_being_called_a_late_answer() {
    for late in [r#"{"mcp":{"late_reply":true}}"#, r#"{"import":{"late_reply":true}}"#, r#"{"mcp":{}}"#] {
        let place = Place::with_lines(&denied(0, ""));
        let lines = hundred(&format!(r#""follow_up_of":2,"session_metadata":{late}"#));
        let ran = place.run_with(&["record", "s", "--keep-going"], lines.as_bytes()).code(1);
        assert!(ran.err.contains("session_metadata.") && ran.err.contains("only "), "{}", ran.err);
        assert_eq!(count(&place, &[]), "1", "{late}");
        // Nor by an imported file.
        place.write("calls.jsonl", &lines);
        let ran = place.run(&["import", "--format", "jsonl", "s", "calls.jsonl"]);
        assert!(ran.code != 0 && count(&place, &[]) == "1", "{ran:?}");
    }
    for member in [
        r#""late_answer":true"#,
        r#""sources":[{"source":"proxy"}]"#,
        r#""peer":{"uid":0,"gid":0,"pid":1}"#,
        r#""detail_of":2"#,
        r#""contradicts":["model"]"#,
    ] {
        let place = Place::with_lines(&denied(0, ""));
        place.run_with(&["record", "s"], denied(1, member).as_bytes()).code(1);
    }
    let place = Place::with_lines(&denied(0, ""));
    place
        .run_with(&["record", "s"], hundred(r#""follow_up_of":2,"session_metadata":{"late_reply":true}"#).as_bytes())
        .ok();
    assert_eq!(
        place.run(&["stats", "s", "--tool", "delete_all", "--json"]).json().get("total_calls").unwrap().as_u64(),
        Some(101)
    );
    assert!(alerts(&place).contains(&"failures".to_owned()));
}

/// A hundred refused calls made now that claimed to be back-filled raised no alert at all, and neither did a hundred with
/// past times: not even the rule about back-dated calls fired.
#[test]
fn no_rule_is_silenced_by_calling_calls_back_filled() {
    let place = Place::with_store();
    place.run_with(&["record", "s"], hundred(r#""backfilled":true"#).as_bytes()).ok();
    assert!(alerts(&place).contains(&"failures".to_owned()));
    let place = Place::with_store();
    place
        .run_with(&["record", "s"], hundred(r#""backfilled":true,"timestamp":"2026-01-01T00:00:00Z""#).as_bytes())
        .ok();
    assert_eq!(alerts(&place), ["back-dated"]);
    // An imported call says so, and counts as history.
    let place = Place::with_store();
    place.write("calls.jsonl", hundred(r#""timestamp":"2026-01-01T00:00:00Z""#));
    place.run(&["import", "--format", "jsonl", "s", "calls.jsonl"]).ok();
    assert!(alerts(&place).is_empty());
    let first = place.run(&["query", "s", "--kind", "tool_call", "--json", "--limit", "1"]).ok();
    assert!(first.contains(r#""sources":[{"source":"import"}]"#), "{first}");
}

/// An access made now disappeared from the report of its month by naming an earlier time and claiming to be back-filled.
#[test]
fn nobody_leaves_a_report_by_calling_an_access_back_filled() {
    let patient = r#""patient_id":"P-1","timestamp":"2020-01-01T00:00:00Z""#;
    let place = Place::with_lines(&call("c", "mallory", "get_chart", &format!(r#"{patient},"backfilled":true"#)));
    let report = |place: &Place| {
        place.run(&["report", "access", "s", "--patient", "P-1", "--since", "2024-01-01", "--format", "json"]).json()
    };
    let shown = report(&place);
    assert_eq!(shown.get("total_accesses").unwrap().as_u64(), Some(1), "{shown:?}");
    let access = &shown.get("accesses").unwrap().as_array().unwrap()[0];
    assert!(access.get("backfilled").is_none(), "the log did not take it from a recording: {access:?}");
    assert_eq!(access.get("claimed_time").unwrap().as_str(), Some("recorded_later"));
    let timeline = place.run(&["timeline", "s", "c"]).ok();
    assert!(!timeline.contains("from a recording"), "{timeline}");
    // An imported access really was made at its time.
    let place = Place::with_store();
    place.write("calls.jsonl", call("c", "u", "get_chart", patient));
    place.run(&["import", "--format", "jsonl", "s", "calls.jsonl"]).ok();
    assert_eq!(report(&place).get("total_accesses").unwrap().as_u64(), Some(0));
    assert!(place.run(&["timeline", "s", "c"]).ok().contains("from a recording"));
}

/// The second call with a sender's number was acknowledged with the receipt of the first and recorded nowhere, although it
/// was made five months later, in an emergency and for another purpose; so was one in a file, with the same time.
#[test]
fn a_call_is_not_dropped_for_one_that_differs_in_anything() {
    let chart = |more: &str| call("c", "u", "get_chart", &format!(r#""arguments":{{"patient_id":"P-1"}},{more}"#));
    let sender = r#""sender":{"id":"S","number":1}"#;
    let first = chart(&format!(r#"{sender},"timestamp":"2026-01-01T00:00:00Z","purpose":"treatment""#));
    let place = Place::with_lines(&first);
    place.run_with(&["record", "s"], first.as_bytes()).ok();
    let others = [
        (r#""timestamp":"2026-06-01T00:00:00Z","purpose":"treatment""#, "differs in timestamp"),
        (r#""timestamp":"2026-01-01T00:00:00Z","purpose":"marketing""#, "differs in purpose"),
        (r#""timestamp":"2026-01-01T00:00:00Z","purpose":"treatment","emergency":true"#, "differs in emergency"),
    ];
    for (other, said) in others {
        let ran = place.run_with(&["record", "s"], chart(&format!("{sender},{other}")).as_bytes()).code(1);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    assert_eq!(count(&place, &[]), "1");

    let place = Place::with_store();
    let moment = r#""timestamp":"2026-01-01T00:00:00Z""#;
    place.write("one.jsonl", chart(moment));
    place.write("two.jsonl", chart(&format!(r#"{moment},"emergency":true,"purpose":"marketing","agent_id":"other""#)));
    place.run(&["import", "--format", "jsonl", "s", "one.jsonl"]).ok();
    place.run(&["import", "--format", "jsonl", "s", "one.jsonl"]).ok();
    let ran = place.run(&["import", "--format", "jsonl", "s", "two.jsonl", "--json"]).code(1);
    assert!(ran.out.contains("differs in emergency"), "{}", ran.out);
}

//! Exports give what was recorded to a spreadsheet and to a SIEM, and nothing in them is executed.

use crate::entries::{begun_and_finished, call, call_named, call_with, json, nasty, own};
use attestlog::Entry;
use attestlog::json::Json;
use attestlog_report::csv::{COLUMNS, CsvWriter, unguard};
use attestlog_report::ocsf::{OcsfOptions, OcsfWriter, api_activity};
use attestlog_report::{ToolKind, ToolKinds};

fn csv(entries: &[Entry]) -> String {
    let mut csv = CsvWriter::new(Vec::new()).unwrap();
    for entry in entries {
        csv.write(entry).unwrap();
    }
    String::from_utf8(csv.finish().unwrap()).unwrap()
}

/// A plain RFC 4180 parser.
fn rows(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => cell.push(chars.next().unwrap()),
            ('"', _) => quoted = !quoted,
            (c, false) if c == separator => row.push(std::mem::take(&mut cell)),
            ('\r', false) if chars.peek() == Some(&'\n') => {}
            ('\n', false) => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (c, _) => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted, "the file ends inside a row");
    rows
}

fn cell(row: &[String], column: &str) -> String {
    row[COLUMNS.iter().position(|c| *c == column).unwrap()].clone()
}

#[test]
fn a_table_has_a_row_for_every_entry_and_a_cell_for_every_column() {
    let (first, second) = begun_and_finished(1, 2);
    let table = rows(&csv(&[own(0, "genesis", r#"{"format":1}"#), first, second, call(3, "{}")]), ',');
    assert_eq!(table.len(), 5);
    assert!(table.iter().all(|row| row.len() == COLUMNS.len()));
    assert_eq!(cell(&table[1], "detail"), r#"{"format":1}"#);
    assert_eq!(cell(&table[2], "kind"), "call_begun");
    assert_eq!(cell(&table[3], "begun_seq"), "1");
    assert_eq!(cell(&table[4], "arguments"), r#"{"patient_id":"P-1","section":"genetics"}"#);
    assert_eq!(cell(&table[4], "patient_ids"), r#"["P-1"]"#);
}

/// What surrounds a call, in the columns of a table and in the places that OCSF has for it. A span has both its times, as the schema
/// requires, or is left out.
#[test]
fn what_surrounds_a_call_has_its_columns_and_its_places() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let around = format!(
        r#"{{"trace_id":"t-1","span_id":"s-1","prompt_id":"p-1","parent_agent_id":"a-0","parent_call_id":"i-0",
        "approval":{{"asked_at":"2026-03-02T14:05:08Z","by":"=cmd","decision":"allowed","source":"mode"}},
        "digests":{{"policy":"{digest}"}},"peer":{{"gid":1,"pid":2,"program":"/bin/x","uid":3}},
        "resources":[{{"kind":"file","name":"/etc/hosts"}}],"sources":[{{"added":["model"],"program":"x","source":"hook"}}]}}"#
    );
    let detail = r#"{"kind":"call_detail","detail_of":1,"outcome":null,"result_summary":null,"contradicts":["model"],
        "sources":[{"source":"session"}]}"#;
    let (whole, detail) = (call(1, &around), call(2, detail));
    let table = rows(&csv(&[whole.clone(), detail.clone(), call(3, "{}")]), ',');
    assert!(table.iter().all(|row| row.len() == COLUMNS.len()));
    let expected = [
        ("trace_id", "t-1"),
        ("span_id", "s-1"),
        ("prompt_id", "p-1"),
        ("parent_agent_id", "a-0"),
        ("parent_call_id", "i-0"),
        ("sources", r#"[{"added":["model"],"program":"x","source":"hook"}]"#),
        ("approval_decision", "allowed"),
        ("approval_by", "'=cmd"),
        ("approval_source", "mode"),
        ("approval_asked_at", "2026-03-02T14:05:08Z"),
        ("approval_answered_at", ""),
        ("digests", &format!(r#"{{"policy":"{digest}"}}"#)),
        ("peer", r#"{"gid":1,"pid":2,"program":"/bin/x","uid":3}"#),
        ("resources", r#"[{"kind":"file","name":"/etc/hosts"}]"#),
        ("detail_of", ""),
        ("contradicts", ""),
    ];
    for (column, value) in expected {
        assert_eq!(cell(&table[1], column), value, "{column}");
        assert_eq!(cell(&table[3], column), "", "{column}");
    }
    let told = ["kind", "detail_of", "contradicts", "duration_ms", "outcome"].map(|column| cell(&table[2], column));
    assert_eq!(told, ["call_detail", "1", r#"["model"]"#, "12.5", ""]);
    let event = api_activity(&whole, &OcsfOptions::default()).unwrap();
    let text = |path: &[&str]| at(&event, path[0]).get(path[1]).unwrap().to_canonical().to_string();
    assert_eq!(text(&["trace", "uid"]), r#""t-1""#);
    assert_eq!(text(&["trace", "span"]), r#"{"end_time":1772460309113,"start_time":1772460309100,"uid":"s-1"}"#);
    assert_eq!(text(&["metadata", "profiles"]), r#"["ai_operation","trace"]"#);
    assert_eq!(text(&["unmapped", "prompt_id"]), r#""p-1""#);
    assert_eq!(text(&["unmapped", "sources"]), r#"[{"added":["model"],"program":"x","source":"hook"}]"#);
    let touched = at(&event, "resources").as_array().unwrap().last().unwrap().to_canonical().to_string();
    assert_eq!(touched, r#"{"name":"/etc/hosts","type":"file"}"#);
    let endless = call(1, r#"{"trace_id":"t-1","span_id":"s-1","duration_ms":null}"#);
    let event = api_activity(&endless, &OcsfOptions::default()).unwrap();
    assert_eq!(at(&event, "trace").to_canonical().as_str(), r#"{"uid":"t-1"}"#);
}

#[test]
fn no_cell_is_a_formula_and_every_cell_can_be_had_back() {
    for id in nasty() {
        let table = rows(&csv(&[call_named(1, "", &id)]), ',');
        assert_eq!(table.len(), 2, "{id:?} makes a row");
        for column in ["user_id", "tool_name", "model", "agent_id", "purpose", "call_id", "conversation_id"] {
            assert_eq!(unguard(&cell(&table[1], column)), id, "{column}");
        }
        // Parsed with the comma, and with the separators of other locales and programs.
        for separator in [',', ';', '\t'] {
            for cell in rows(&csv(&[call_named(1, "", &id)]), separator).concat() {
                let first = cell.trim_start().chars().next();
                assert!(!matches!(first, Some('=' | '+' | '-' | '@')), "{cell:?}");
            }
        }
    }
}

fn ocsf(changes: &str) -> Json {
    api_activity(&call(7, changes), &OcsfOptions::default()).unwrap()
}

fn at<'a>(value: &'a Json, path: &str) -> &'a Json {
    path.split('.').fold(value, |at, step| match at {
        Json::Array(items) => &items[step.parse::<usize>().unwrap()],
        other => other.get(step).unwrap_or_else(|| panic!("no {path} in {}", value.to_canonical())),
    })
}

/// Checks what the class requires, and members that must agree.
fn check_ocsf(event: &Json) {
    for required in ["activity_id", "actor", "api", "class_uid", "metadata", "severity_id", "src_endpoint", "time"] {
        at(event, required);
    }
    let id = at(event, "activity_id").as_u64().unwrap();
    assert!([1, 2, 3, 4, 99].contains(&id));
    assert_eq!((at(event, "class_uid").as_u64(), at(event, "category_uid").as_u64()), (Some(6003), Some(6)));
    assert_eq!(at(event, "type_uid").as_u64(), Some(600_300 + id));
    assert!(at(event, "api.operation").as_str().is_some());
    for required in ["version", "product.name", "product.vendor_name"] {
        assert!(at(at(event, "metadata"), required).as_str().is_some());
    }
    assert!(!at(event, "src_endpoint").as_object().unwrap().is_empty());
    let type_name = match (id, at(event, "activity_name").as_str().unwrap()) {
        (99, _) => "API Activity: Other".to_owned(),
        (_, name) => format!("API Activity: {name}"),
    };
    assert_eq!(at(event, "type_name").as_str(), Some(&*type_name));
    let ai = ["ai_agent", "ai_model", "message_context"].iter().any(|name| event.get(name).is_some());
    assert_eq!(ai, at(event, "metadata").get("profiles").is_some());
}

#[test]
fn a_call_is_an_api_activity() {
    let event = ocsf("{}");
    check_ocsf(&event);
    for (path, value) in [
        ("activity_id", "2"),
        ("actor.user.uid", r#""dr_smith""#),
        ("actor.app_uid", r#""chart-agent""#),
        ("ai_agent.uid", r#""chart-agent""#),
        ("ai_agent.ai_model", r#"{"ai_provider":"Unknown","name":"gpt-4.1"}"#),
        ("api.operation", r#""get_patient_chart""#),
        ("api.request.uid", r#""call_1""#),
        ("metadata.version", r#""1.9.0""#),
        ("metadata.sequence", "7"),
        ("metadata.logged_time", "1772460309123"),
        ("resources.0", r#"{"type":"Patient","uid":"P-1"}"#),
        ("resources.1", r#"{"type":"chart_id","uid":"C-9"}"#),
        ("severity_id", "1"),
        ("src_endpoint.ip", r#""10.0.1.5""#),
        ("dst_endpoint.svc_name", r#""https://ehr.example.org/mcp""#),
        ("status_id", "1"),
        ("time", "1772460309100"),
        ("duration", "13"),
        ("end_time", "1772460309113"),
        ("unmapped.purpose", r#""treatment""#),
        ("unmapped.user_role", r#""physician""#),
        ("unmapped.viewed_fields", r#"["allergies","chart_id","status"]"#),
    ] {
        assert_eq!(at(&event, path).to_canonical().as_str(), value, "{path}");
    }
    assert_eq!(at(&event, "metadata.uid").as_str().unwrap(), call(7, "{}").hash().to_string());
    let text = event.to_canonical().to_string();
    assert!(!text.contains("genetics") && !text.contains("deceased"));
}

#[test]
fn activities_and_severities() {
    for (tool, id) in [("create_x", 1), ("search_x", 2), ("get_x", 2), ("update_x", 3), ("delete_x", 4), ("hum", 99)] {
        let event = ocsf(&format!(r#"{{"tool_name":"{tool}"}}"#));
        check_ocsf(&event);
        assert_eq!(at(&event, "activity_id").as_u64(), Some(id));
    }
    for (changes, severity, status) in [
        (r#"{"outcome":"denied"}"#, 3, 2),
        (r#"{"outcome":"tool_error"}"#, 2, 2),
        (r#"{"outcome":"timeout"}"#, 2, 2),
        (r#"{"emergency":true}"#, 3, 1),
    ] {
        let event = ocsf(changes);
        check_ocsf(&event);
        assert_eq!(at(&event, "severity_id").as_u64(), Some(severity), "{changes}");
        assert_eq!(at(&event, "status_id").as_u64(), Some(status), "{changes}");
        assert!(!event.to_canonical().as_str().contains("HIV"));
    }
    let mut tools = ToolKinds::default();
    tools.set("hum", ToolKind::Delete);
    let mut options = OcsfOptions::default();
    (options.tools, options.arguments, options.error_messages) = (tools, true, true);
    let event = api_activity(&call(1, r#"{"tool_name":"hum","outcome":"denied"}"#), &options).unwrap();
    assert_eq!(at(&event, "activity_id").as_u64(), Some(4));
    assert_eq!(at(&event, "api.request.data.section").as_str(), Some("genetics"));
    assert_eq!(at(&event, "api.response.error_message").as_str(), Some("HIV positive"));
}

#[test]
fn bare_calls_and_any_ids_are_valid_events_of_one_line() {
    let bare = r#"{"patient_ids":null,"agent_id":null,"model":null,"tool_server":null,"session_metadata":null,
        "purpose":null,"arguments":null,"result_summary":null,"call_id":null,"duration_ms":null,"call_trigger":null}"#;
    check_ocsf(&ocsf(bare));
    for id in nasty() {
        let mut ocsf = OcsfWriter::new(Vec::new(), OcsfOptions::default());
        ocsf.write(&call_named(1, "get_", &id)).unwrap();
        let text = String::from_utf8(ocsf.finish().unwrap()).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let event = json(&text);
        check_ocsf(&event);
        assert_eq!(at(&event, "actor.user.uid").as_str(), Some(&*id));
    }
}

#[test]
fn two_steps_are_one_event_and_own_entries_are_none() {
    let (first, second) = begun_and_finished(1, 5);
    let (open, _) = begun_and_finished(2, 6);
    let mut ocsf = OcsfWriter::new(Vec::new(), OcsfOptions::default());
    for entry in [&first, &open, &own(3, "alert", "{}"), &call_with(4, json("{}")), &second] {
        ocsf.write(entry).unwrap();
    }
    let text = String::from_utf8(ocsf.finish().unwrap()).unwrap();
    let events: Vec<Json> = text.lines().map(json).collect();
    let sequence = |e: &Json| at(e, "metadata.sequence").as_u64().unwrap();
    assert_eq!(events.iter().map(sequence).collect::<Vec<_>>(), [4, 5, 2]);
    assert_eq!(at(&events[1], "unmapped.begun_seq").as_u64(), Some(1));
    assert_eq!(at(&events[1], "end_time").as_i64(), Some(1_772_460_311_000));
    assert_eq!((at(&events[2], "status_id").as_u64(), at(&events[2], "status").as_str()), (Some(0), Some("Unknown")));
    events.iter().for_each(check_ocsf);
}

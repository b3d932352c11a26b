//! Entries to test exports with, read from their lines.

#![allow(dead_code, reason = "each test file uses its part")]

use attestlog::Entry;
use attestlog::json::{Json, Object};

const CALL: &str = r#"{
    "agent_id": "chart-agent",
    "arguments": {"patient_id": "P-1", "section": "genetics"},
    "call_id": "call_1",
    "call_trigger": "user_request",
    "conversation_id": "conv_1",
    "duration_ms": 12.5,
    "kind": "tool_call",
    "model": "gpt-4.1",
    "nonce": "07070707070707070707070707070707",
    "outcome": "ok",
    "patient_ids": ["P-1"],
    "policy_seq": 1,
    "prev": "0000000000000000000000000000000000000000000000000000000000000000",
    "purpose": "treatment",
    "recorded_at": "2026-03-02T14:05:09.123Z",
    "result_summary": {
        "bytes": 240, "fields": ["allergies", "chart_id", "status"],
        "keys": {"chart_id": "C-9", "status": "deceased"}, "type": "object"
    },
    "retain_until": "2032-03-02T00:00:00Z",
    "retention_class": "healthcare",
    "session_metadata": {"client_ip": "10.0.1.5", "user_role": "physician"},
    "timestamp": "2026-03-02T14:05:09.100Z",
    "tool_name": "get_patient_chart",
    "tool_server": "https://ehr.example.org/mcp",
    "turn_number": 2,
    "user_id": "dr_smith"
}"#;

pub fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap().value
}

/// A physician's successful read of a chart, with these members changed; `null` takes one out.
pub fn call(seq: u64, changes: &str) -> Entry {
    call_with(seq, json(changes))
}

pub fn call_with(seq: u64, changes: Json) -> Entry {
    let Json::Object(mut members) = json(CALL) else { unreachable!() };
    let Json::Object(changes) = changes else { unreachable!() };
    for (key, value) in changes {
        match value {
            Json::Null => drop(members.remove(&key)),
            value => drop(members.insert(key, value)),
        }
    }
    if let Some(outcome) = members.get("outcome").and_then(Json::as_str) {
        let success = outcome == "ok";
        members.insert("success", success);
        if !success {
            members.remove("result_summary");
            members.insert("error", json(r#"{"message": "HIV positive", "type": "E42"}"#));
        }
    }
    entry(seq, members)
}

/// The two steps of one call.
pub fn begun_and_finished(begun: u64, finished: u64) -> (Entry, Entry) {
    let nothing = r#"{"kind": "call_begun", "outcome": null, "duration_ms": null, "result_summary": null}"#;
    let end = format!(r#"{{"begun_seq": {begun}, "timestamp": "2026-03-02T14:05:11Z", "duration_ms": null}}"#);
    (call(begun, nothing), call(finished, &end))
}

/// One of the store's own entries.
pub fn own(seq: u64, kind: &str, detail: &str) -> Entry {
    let mut members = Object::new();
    members.insert("kind", kind);
    members.insert("detail", json(detail));
    members.insert("nonce", "07".repeat(16));
    members.insert("prev", "0".repeat(64));
    members.insert("recorded_at", "2026-03-02T14:05:09.123Z");
    entry(seq, members)
}

fn entry(seq: u64, mut members: Object) -> Entry {
    members.insert("seq", seq);
    let line = Json::from(members).to_canonical();
    Entry::from_line(line.as_str()).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// The same id in every place that has one.
pub fn call_named(seq: u64, tool: &str, id: &str) -> Entry {
    let mut o = Object::new();
    for key in ["agent_id", "call_id", "conversation_id", "model", "purpose", "tool_server", "user_id"] {
        o.insert(key, id);
    }
    o.insert("tool_name", format!("{tool}{id}"));
    o.insert("patient_ids", vec![id]);
    o.insert("session_metadata", Object::from_iter([("user_role", id), ("client_ip", id)]));
    o.insert("arguments", Object::from_iter([("patient_id", id)]));
    let keys = Object::from_iter([("x_id", id)]);
    let mut summary = Object::new();
    summary.insert("fields", vec![id]);
    summary.insert("keys", keys);
    o.insert("result_summary", summary);
    call_with(seq, o.into())
}

/// Ids that have broken some report somewhere.
pub fn nasty() -> Vec<String> {
    let mut ids = [
        "<script>alert(1)</script>",
        "\"quoted\" and 'quoted'",
        "two\nlines\r\nand more",
        "=HYPERLINK(\"http://evil\",\"x\")",
        "+1;=2\t@3",
        "tab\there",
        "\u{1b}[31mred\u{7}",
        "\u{202e}gnp.exe",
        " ",
        "\n",
        "..",
        "Ünïcödé 患者 🏥",
        "../../etc/passwd?a=b#c",
        "{{7*7}} ${jndi:ldap://x}",
        "patient:k1:9f86d081884c7d659a2feaa0c55ad015",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("x".repeat(10_000));
    ids
}

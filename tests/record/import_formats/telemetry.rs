//! Traces and logs of OpenTelemetry in the forms in which SDKs and collectors write them.

use super::agents::{assert_read, auto};
use super::otlp::{attributes, text};
use super::*;
use attestlog::entry::Decision;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

pub(super) fn field(number: u64, value: &[u8]) -> Vec<u8> {
    [vec![(number << 3 | 2) as u8], varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn fixed(number: u64, value: u64) -> Vec<u8> {
    [vec![(number << 3 | 1) as u8], value.to_le_bytes().to_vec()].concat()
}

pub(super) fn pair(key: &str, value: Vec<u8>) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &value)].concat()
}

pub(super) fn said(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

pub(super) fn request() -> Vec<u8> {
    let arguments = field(6, &field(1, &pair("id", [vec![3 << 3], varint(7)].concat())));
    let span = [
        field(1, &[0x0a; 16]),
        field(2, &[0x0b; 8]),
        field(5, b"execute_tool look"),
        fixed(7, 1_780_000_000_000_000_001),
        fixed(8, 1_780_000_001_500_000_001),
        field(9, &pair("gen_ai.tool.call.id", said("c1"))),
        field(9, &pair("gen_ai.tool.name", said("look"))),
        field(9, &pair("gen_ai.tool.call.arguments", arguments)),
        field(15, &[field(2, b"boom"), vec![3 << 3, 2]].concat()),
    ]
    .concat();
    let resource = field(1, &field(1, &pair("user.id", said("usr"))));
    field(1, &[resource, field(2, &field(2, &span))].concat())
}

/// A collector's file in protobuf was "no JSON".
#[test]
fn a_request_in_protobuf() {
    let one = request();
    let framed = [&u32::try_from(one.len()).unwrap().to_be_bytes()[..], &one].concat();
    for bytes in [one.clone(), [framed.clone(), framed].concat()] {
        let imported = read(Format::Auto, &bytes, &ImportOptions::new());
        assert_read(&imported, Format::OtlpJson, &[("look", "c1", "tool_error")]);
        let call = &imported.calls[0];
        assert_eq!((call.user_id.as_str(), call.duration_ms), ("usr", Some(1500.0)));
        assert_eq!(call.circumstances.trace_id.as_deref(), Some("0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"));
        assert_eq!(call.arguments.as_ref().unwrap().to_canonical().as_str(), r#"{"id":7}"#);
    }
    for length in 1..one.len() {
        assert!(import::calls(Format::OtlpJson, &one[..length], &options()).is_err(), "{length}");
    }
    // Nested without an end: refused, and nothing overflows.
    let deep = (0..10_000).fold(said("x"), |inner, _| field(5, &field(1, &inner)));
    let span = [field(1, &[1; 16]), field(5, b"execute_tool x"), field(9, &pair("a", deep))].concat();
    assert!(import::calls(Format::Auto, &field(1, &field(2, &field(2, &span))), &options()).is_err());
}

#[test]
fn spans_as_the_exporters_of_sdks_print_them() {
    let given = json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": "{\"id\":1}", "user.id": "usr", "session.id": "s-1"});
    let python = json!({"name": "execute_tool look", "context": {"trace_id": format!("0x{TRACE}"), "span_id": "0x00f067aa0ba902b7", "trace_state": "[]"}, "parent_id": null,
        "start_time": "2025-01-01T10:00:00.000000Z", "end_time": "2025-01-01T10:00:01.500000Z", "status": {"status_code": "ERROR", "description": "boom"}, "attributes": given, "events": [], "resource": {"attributes": {"service.name": "x"}}});
    let phoenix = json!({"name": "look", "context": {"trace_id": TRACE, "span_id": "00f067aa0ba902b7"}, "span_kind": "TOOL", "parent_id": null, "start_time": "2025-01-01T10:00:00Z", "end_time": "2025-01-01T10:00:01.500Z", "status_code": "ERROR",
        "attributes": {"openinference": {"span": {"kind": "TOOL"}}, "tool": {"name": "look"}, "tool_call": {"id": "c1"}, "input": {"value": "{\"id\":1}"}, "output": {"value": "gone"}, "session": {"id": "s-1"}, "user": {"id": "usr"}}});
    let go = json!({"Name": "execute_tool look", "SpanContext": {"TraceID": TRACE, "SpanID": "00f067aa0ba902b7"}, "Parent": {"TraceID": "00000000000000000000000000000000", "SpanID": "0000000000000000"},
        "StartTime": "2025-01-01T11:00:00+01:00", "EndTime": "2025-01-01T11:00:01.5+01:00", "Status": {"Code": "Error", "Description": "boom"},
        "Attributes": given.as_object().unwrap().iter().map(|(key, value)| json!({"Key": key, "Value": {"Type": "STRING", "Value": value}})).collect::<Vec<_>>()});
    let node = json!({"traceId": TRACE, "id": "00f067aa0ba902b7", "parentId": null, "name": "execute_tool look", "timestamp": 1735725600000000u64, "duration": 1500000, "attributes": given, "status": {"code": 2}, "events": []});
    let list: Vec<Value> = given
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"string_value": value}}))
        .collect();
    let snake = json!({"resource_spans": [{"scope_spans": [{"spans": [{"trace_id": TRACE, "span_id": "00f067aa0ba902b7", "name": "execute_tool look", "start_time_unix_nano": "1735725600000000000", "end_time_unix_nano": "1735725601500000000", "attributes": list, "status": {"code": "STATUS_CODE_ERROR"}}]}]}]});
    for span in [python, phoenix, go, node, snake] {
        // Printed one after another, each over several lines.
        let printed = format!(
            "{}\n{}\n",
            serde_json::to_string_pretty(&span).unwrap(),
            json!({"name": "chat", "context": {"trace_id": TRACE, "span_id": "1"}, "attributes": {}})
        );
        for text in [span.to_string(), json!([span]).to_string(), printed] {
            let imported = read(Format::Auto, &text, &ImportOptions::new());
            assert_read(&imported, Format::OtlpJson, &[("look", "c1", "tool_error")]);
            let call = &imported.calls[0];
            assert_eq!(
                (call.user_id.as_str(), call.conversation_id.as_str(), call.duration_ms),
                ("usr", "s-1", Some(1500.0)),
                "{text}"
            );
            assert_eq!(
                (call.circumstances.trace_id.as_deref(), call.circumstances.span_id.as_deref()),
                (Some(TRACE), Some("00f067aa0ba902b7"))
            );
            assert_eq!(call.arguments.as_ref().unwrap().to_canonical().as_str(), r#"{"id":1}"#);
            assert!(call.timestamp.unwrap().to_string().starts_with("2025-01-01T10:00:00"), "{text}");
        }
    }
}

/// An agent that is a tool of another, and the call with which it was started.
#[test]
fn agents_and_calls_around_a_span_are_its_parents() {
    let of = |name: &str, value: &str| (name.to_owned(), text(value));
    let span = |id: &str, parent: &str, name: &str, more: &[(String, Value)]| {
        let more: Vec<(&str, Value)> = more.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        json!({"traceId": TRACE, "spanId": id, "parentSpanId": parent, "name": name, "startTimeUnixNano": "1780000000000000001", "endTimeUnixNano": "1780000000000000002", "attributes": attributes(&more)})
    };
    let spans = vec![
        span("1", "", "invoke_agent outer", &[of("gen_ai.agent.name", "outer")]),
        span("2", "1", "execute_tool ask", &[of("gen_ai.tool.name", "ask"), of("gen_ai.tool.call.id", "c1")]),
        span("3", "2", "invoke_agent inner", &[of("gen_ai.agent.name", "inner")]),
        span("4", "3", "claude_code.tool", &[of("tool_name", "Bash"), of("tool_use_id", "c2")]),
    ];
    let imported = auto(super::otlp::export(json!([]), spans).to_string());
    assert_eq!(imported.not_taken, []);
    let inner = imported.calls.iter().find(|call| call.call_id.as_deref() == Some("c2")).unwrap();
    assert_eq!((inner.tool_name.as_str(), inner.agent_id.as_deref()), ("Bash", Some("inner")));
    assert_eq!(
        (inner.circumstances.parent_agent_id.as_deref(), inner.circumstances.parent_call_id.as_deref()),
        (Some("outer"), Some("c1"))
    );
}

fn record(body: &str, time: u64, more: &[(&str, &str)]) -> Value {
    let more: Vec<(&str, Value)> = more.iter().map(|(key, value)| (*key, text(value))).collect();
    json!({"timeUnixNano": format!("{time}"), "body": {"stringValue": body}, "traceId": TRACE, "attributes": attributes(&more)})
}

/// OTLP logs were refused: "resourceSpans is missing".
#[test]
fn log_records_of_coding_agents() {
    let claude = [("session.id", "s-1"), ("user.id", "usr"), ("prompt.id", "p-1")];
    let with = |more: &[(&'static str, &'static str)]| [&claude[..], more].concat();
    let second = 1_780_000_000_000_000_000u64;
    let records = json!([
        record(
            "claude_code.tool_decision",
            second,
            &with(&[("tool_name", "Bash"), ("tool_use_id", "t1"), ("decision", "accept"), ("source", "config")])
        ),
        record(
            "claude_code.tool_result",
            second + 2_000_000_000,
            &with(&[
                ("tool_name", "Bash"),
                ("tool_use_id", "t1"),
                ("success", "false"),
                ("duration_ms", "1500"),
                ("error", "exit 1"),
                ("tool_input", "{\"command\":\"ls\"}")
            ])
        ),
        record(
            "claude_code.tool_decision",
            second + 3_000_000_000,
            &with(&[("tool_name", "Write"), ("tool_use_id", "t2"), ("decision", "reject"), ("source", "user_reject")])
        ),
        record(
            "codex.tool_result",
            second,
            &[
                ("event.name", "codex.tool_result"),
                ("conversation.id", "s-2"),
                ("user.email", "e@example.org"),
                ("tool_name", "shell"),
                ("call_id", "c1"),
                ("arguments", "{}"),
                ("success", "true"),
                ("output", "ok"),
                ("model", "gpt-x")
            ]
        ),
        record(
            "gemini_cli.tool_call",
            second,
            &[
                ("event.name", "gemini_cli.tool_call"),
                ("session.id", "s-3"),
                ("user.email", "e@example.org"),
                ("function_name", "read_file"),
                ("function_args", "{\"path\":\"a\"}"),
                ("success", "true"),
                ("duration_ms", "5")
            ]
        ),
        record("claude_code.api_request", second, &with(&[("model", "claude-x")])),
    ]);
    let export = json!({"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": [{"logRecords": records}]}]});
    let imported = read(Format::Auto, export.to_string(), &ImportOptions::new());
    let wanted =
        [("Bash", "t1", "tool_error"), ("Write", "t2", "denied"), ("shell", "c1", "ok"), ("read_file", "-", "ok")];
    assert_read(&imported, Format::OtlpJson, &wanted);
    let first = &imported.calls[0];
    assert_eq!(
        (first.conversation_id.as_str(), first.user_id.as_str(), first.duration_ms),
        ("s-1", "usr", Some(1500.0))
    );
    assert_eq!(
        (first.circumstances.prompt_id.as_deref(), first.circumstances.trace_id.as_deref()),
        (Some("p-1"), Some(TRACE))
    );
    let decisions: Vec<_> =
        imported.calls[..2].iter().map(|call| call.circumstances.approval.as_ref().map(|of| of.decision)).collect();
    assert_eq!(decisions, [Some(Decision::Allowed), Some(Decision::Denied)]);
    assert_eq!(first.timestamp.unwrap().nanos() as u64, second + 500_000_000);
}

/// JSON keeps numbers as doubles, which have fewer digits than a time in nanoseconds: some of these times were "no nanoseconds since 1970",
/// which cost the span, and those of log records were lost in silence.
#[test]
fn times_and_integers_that_are_numbers_are_read_to_the_last_digit() {
    let written = |nanos: u64, duration: u64| {
        let more = [
            ("gen_ai.tool.name", text("f")),
            ("gen_ai.tool.call.id", text(&format!("c{nanos}"))),
            ("user.id", text("u")),
            (
                "gen_ai.tool.call.arguments",
                json!({"kvlistValue": {"values": [{"key": "n", "value": {"intValue": nanos}}]}}),
            ),
        ];
        json!({"traceId": TRACE, "spanId": format!("{nanos:x}"), "name": "execute_tool f", "attributes": attributes(&more),
            "startTimeUnixNano": nanos, "endTimeUnixNano": nanos + duration})
    };
    let times = [1_780_000_000_000_000_000, 1_780_000_000_000_000_001, 1_780_000_000_123_456_789];
    let spans = times.iter().map(|nanos| written(*nanos, 1_000_001)).collect();
    let imported = auto(super::otlp::export(json!([]), spans).to_string());
    assert_eq!(imported.not_taken, []);
    let read: Vec<_> = imported.calls.iter().map(|call| call.timestamp.unwrap().nanos() as u64).collect();
    assert_eq!(read, times);
    for (call, nanos) in imported.calls.iter().zip(times) {
        assert_eq!(call.duration_ms, Some(1.000001));
        let given = call.arguments.as_ref().unwrap().to_canonical().to_string();
        assert!(given.contains(&nanos.to_string()), "{given}");
    }
    let records = times.iter().map(|nanos| {
        let mut record = record(
            "claude_code.tool_result",
            0,
            &[("tool_name", "f"), ("session.id", "s"), ("user.id", "u"), ("success", "true")],
        );
        record["timeUnixNano"] = json!(nanos);
        record
    });
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records.collect::<Vec<_>>()}]}]});
    let imported = auto(logs.to_string());
    let read: Vec<_> = imported.calls.iter().map(|call| call.timestamp.unwrap().nanos() as u64).collect();
    assert_eq!((read, imported.not_taken), (times.to_vec(), vec![]));
}

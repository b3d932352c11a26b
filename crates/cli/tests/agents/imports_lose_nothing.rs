//! Promise: every call in a transcript is in the log once, or is reported: nothing is skipped silently, nothing is recorded
//! twice, and no answer is assigned to another call. Invariants H5, H6 and H7.

use crate::common::Place;
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::{AuditLog, Outcome, ToolCall};
use attestlog_capture::import::{self, Format, ImportOptions, Imported, Untaken};
use proptest::prelude::*;
use serde_json::{Value, json};

const CHAT: Format = Format::OpenAiChat;

fn read(format: Format, text: impl AsRef<[u8]>) -> Imported {
    let options = match format {
        Format::Jsonl => ImportOptions::new(),
        _ => ImportOptions::new().user("u"),
    };
    import::calls(format, text.as_ref(), &options).unwrap()
}

fn made(id: &str, tool: &str) -> Value {
    json!({"role": "assistant", "tool_calls": [{"id": id, "function": {"name": tool, "arguments": "{}"}}]})
}

fn said(id: &str, text: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": text})
}

fn session(id: &str, messages: &[Value]) -> String {
    json!({"id": id, "user_id": "u", "messages": messages}).to_string()
}

fn put(log: &AuditLog, text: &str) -> (usize, usize, usize) {
    let recorded = import::record(log, read(CHAT, text), false, |_| ()).unwrap();
    (recorded.receipts.len(), recorded.repeated, recorded.answers.len())
}

fn calls(log: &AuditLog) -> u64 {
    log.count(&attestlog::Query::new().kind(attestlog::Kind::ToolCall)).unwrap()
}

/// Transcripts in spellings that the importer did not know were imported as "0 calls", exit 0, and the log looked complete.
/// Each of these holds one call, most of them an answer too.
#[test]
fn a_call_in_an_unknown_spelling_is_named_and_never_exits_0() {
    let shapes = [
        (
            "toolUse",
            json!([{"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}]),
        ),
        ("functionCall", json!([{"role": "assistant", "parts": [{"functionCall": {"name": "f", "args": {}}}]}])),
        ("tool_calls", json!([{"role": "assistant", "additional_kwargs": {"tool_calls": [{"id": "c"}]}}])),
        ("tool-call", json!([{"role": "assistant", "content": [{"type": "tool-call", "toolName": "f"}]}])),
        ("tool-f", json!([{"role": "assistant", "parts": [{"type": "tool-f", "toolCallId": "c", "state": "done"}]}])),
        ("tool_use", json!([{"role": "assistant", "message": {"content": [{"type": "tool_use", "name": "f"}]}}])),
        ("tool_calls", json!({"messages": [], "response": {"choices": [{"message": {"tool_calls": [{"id": "c"}]}}]}})),
        ("web_search_call", json!([{"role": "assistant", "output": [{"type": "web_search_call"}]}])),
        ("toolCalls", json!([{"role": "assistant", "toolCalls": [{"id": "c", "name": "f"}]}])),
        ("run_type", json!([{"role": "assistant", "runs": [{"run_type": "tool", "name": "f"}]}])),
        ("tool_input", json!([{"role": "assistant", "hook": {"tool_name": "f", "tool_input": {}}}])),
        ("TOOL_CALLS", json!([{"role": "assistant", "TOOL_CALLS": [{"id": "c"}]}])),
        ("Tool-Use", json!([{"role": "assistant", "parts": [{"type": "Tool-Use", "name": "f"}]}])),
        ("action", json!([{"role": "assistant", "content": "I look.", "action": "ls", "thought": "x"}])),
        ("mlflow.spanType", json!([{"role": "assistant", "span": {"mlflow.spanType": "TOOL", "name": "f"}}])),
        (
            "gen_ai.choice",
            json!([{"role": "assistant", "events": [{"name": "gen_ai.choice", "message": "{\"tool_calls\":[]}"}]}]),
        ),
        (
            "toolCalls",
            json!([{"role": "assistant", "attributes": [{"key": "toolCalls", "value": {"stringValue": "[1]"}}]}]),
        ),
    ];
    let place = Place::with_store();
    for (i, (what, shape)) in shapes.iter().enumerate() {
        let imported = read(CHAT, shape.to_string());
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (0, 1), "{what}: {:?}", imported.not_taken);
        assert_eq!(imported.not_taken[0].kind, Untaken::Call, "{what}");
        let name = format!("{i}.json");
        place.write(&name, shape.to_string());
        let ran = place.run(&["import", "s", "--format", "openai-chat", "--user", "u", &name]).code(1);
        assert!(ran.out.contains("NOT recorded: 1 call"), "{}", ran.out);
        assert!(ran.err.contains(&imported.not_taken[0].place), "{}", ran.err);
    }
    // Descriptions of tools, counts of calls, and statements that there was none are not calls.
    let quiet = json!([
        {"role": "system", "content": "x", "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"role": "assistant", "content": "x", "function_call": {"name": "", "arguments": ""}, "tool_calls": []},
        {"role": "assistant", "content": "x", "finish_reason": "tool_calls", "usage": {"tool_calls": 3}, "tool_use": null},
    ]);
    assert_eq!(read(CHAT, quiet.to_string()).not_taken, []);
    let counts =
        json!([{"role": "assistant", "content": "x", "usage": {"server_tool_use": {"web_search_requests": 0}}}]);
    assert_eq!(read(Format::Anthropic, counts.to_string()).not_taken, []);
    // Nor is anything inside a call's arguments or a tool's answer.
    let inside = json!([
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"tool_calls": [{"id": "x"}]}}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "json", "toolUse": {"name": "g"}}]},
    ]);
    let imported = read(CHAT, inside.to_string());
    assert_eq!((imported.calls.len(), imported.not_taken.len()), (1, 0));
}

/// Of six tool spans, each written by a different instrumentation, none was imported and none was reported.
#[test]
fn spans_of_every_dialect_are_taken_or_named() {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let mut n = 0;
    let mut span = |name: &str, attributes: &[(&str, &str)]| {
        n += 1;
        let attributes: Vec<Value> = attributes.iter().map(|(k, v)| text(k, v)).collect();
        json!({"traceId": "a", "spanId": n.to_string(), "name": name, "startTimeUnixNano": "1780000000000000001", "attributes": attributes})
    };
    let spans = [
        span("execute_tool f", &[]),
        span(
            "x",
            &[
                ("openinference.span.kind", "TOOL"),
                ("tool.name", "f"),
                ("input.value", "{\"n\":1}"),
                ("session.id", "s-1"),
            ],
        ),
        span("f.tool", &[("traceloop.span.kind", "tool"), ("traceloop.entity.name", "f")]),
        span("ai.toolCall", &[("ai.operationId", "ai.toolCall"), ("ai.toolCall.name", "f")]),
        span("f", &[("langfuse.observation.type", "tool")]),
        span("f", &[("gen_ai.operation.name", "tool"), ("gen_ai.tool.name", "f")]),
        span("claude_code.tool", &[("tool_name", "f")]),
        span("f", &[("vendor.span.kind", "tool")]),
        span("claude_code.tool.execution", &[]),
        span("chat m", &[("gen_ai.operation.name", "chat")]),
    ];
    let file = |spans: &[Value]| json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
    let imported = read(Format::OtlpJson, file(&spans));
    assert_eq!((imported.calls.len(), imported.tally().tools), (7, 1));
    assert!(format!("{:?}", imported.calls[1]).contains("conversation_id: \"s-1\""));
    assert_eq!(imported.not_taken.iter().map(|one| one.kind).collect::<Vec<_>>(), [Untaken::Call]);
    assert!(imported.not_taken[0].place.contains("spans[7]"));
    // A trace in which only the model's own spans mention calls.
    let asked = span("chat m", &[("gen_ai.output.messages", "[{\"parts\":[{\"type\":\"tool_call\"}]}]")]);
    assert_eq!(read(Format::OtlpJson, file(&[asked])).not_taken.len(), 1);
}

/// A file had two traces, one with tool spans and one without: the calls of the second were left out silently, as if the
/// spans of the first were theirs. So was a call without a span if the other calls of its trace had spans.
#[test]
fn a_model_s_calls_without_spans_are_named_by_their_own_trace() {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = |trace: &str, id: &str, attributes: Vec<Value>| {
        json!({"traceId": trace, "spanId": id, "name": "x", "startTimeUnixNano": "1780000000000000001",
            "endTimeUnixNano": "1780000000000000002", "attributes": attributes})
    };
    let file = |spans: &[Value]| json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
    let asks = |ids: &[&str]| {
        let parts: Vec<Value> = ids.iter().map(|id| json!({"type": "tool_call", "id": id, "name": "f"})).collect();
        vec![text("gen_ai.output.messages", &json!([{"role": "assistant", "parts": parts}]).to_string())]
    };
    let tool = |id: &str| vec![text("gen_ai.tool.name", "f"), text("gen_ai.tool.call.id", id)];
    let spans = [
        span("a", "1", asks(&["c1"])),
        span("a", "2", tool("c1")),
        span("b", "3", asks(&["c2", "c3"])),
        span("b", "4", vec![text("gen_ai.input.messages", "[{\"parts\":[{\"type\":\"tool_call\",\"id\":\"c2\"}]}]")]),
    ];
    let named = |spans: &[Value]| -> Vec<(String, Option<String>)> {
        let imported = read(Format::OtlpJson, file(spans));
        imported.not_taken.into_iter().map(|one| (one.place, one.call_id)).collect()
    };
    let place = |n: usize, id: &str| (format!("resourceSpans[0].scopeSpans[0].spans[{n}]"), Some(id.to_owned()));
    assert_eq!(named(&spans), [place(2, "c2"), place(2, "c3")]);
    assert_eq!(read(Format::OtlpJson, file(&spans)).calls.len(), 1);
    // If calls have ids, one call without a span is reported even though others of its trace have spans.
    assert_eq!(named(&[span("a", "1", asks(&["c1", "c9"])), span("a", "2", tool("c1"))]), [place(0, "c9")]);
    // A tool span without an id belongs to one of the calls.
    let bare = span("a", "2", vec![text("gen_ai.tool.name", "f")]);
    assert_eq!(named(&[span("a", "1", asks(&["c1"])), bare.clone()]), []);
    assert_eq!(named(&[span("a", "1", asks(&["c1", "c2"])), bare]), [place(0, "c2")]);
    // As separate attributes, and as the choice in an event.
    let flat = vec![text("llm.output_messages.0.message.tool_calls.0.tool_call.id", "c5")];
    assert_eq!(named(&[span("b", "1", flat)]), [place(0, "c5")]);
    let mut chose = span("b", "1", vec![]);
    chose["events"] =
        json!([{"name": "gen_ai.choice", "attributes": [text("message", "{\"tool_calls\":[{\"id\":\"c6\"}]}")]}]);
    assert_eq!(named(&[chose]), [place(0, "c6")]);
    let mut told = span("b", "1", vec![]);
    told["events"] = json!([{"name": "gen_ai.tool.message", "attributes": [text("content", "42"), text("id", "c7")]}]);
    assert_eq!(read(Format::OtlpJson, file(&[told])).not_taken[0].kind, Untaken::Answer);
    let mlflow = span("a", "1", vec![text("mlflow.spanType", "\"TOOL\""), text("mlflow.spanInputs", "{\"n\":1}")]);
    assert_eq!(read(Format::OtlpJson, file(&[mlflow])).calls.len(), 1);
}

/// A span that was exported while it ran, or whose process died, was recorded as a success.
#[test]
fn a_span_that_never_ended_is_a_call_without_an_answer() {
    let span = |end: Value, status: u64| {
        let attributes = json!([{"key": "gen_ai.tool.name", "value": {"stringValue": "f"}}]);
        let span = json!({"traceId": "a", "spanId": "1", "name": "x", "startTimeUnixNano": "1780000000000000001",
            "endTimeUnixNano": end, "attributes": attributes, "status": {"code": status}});
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
    };
    for (end, status, wanted) in [
        (Value::Null, 0, Outcome::Abandoned),
        ("0".into(), 0, Outcome::Abandoned),
        (0.into(), 0, Outcome::Abandoned),
        ("1780000000000000009".into(), 0, Outcome::Ok),
        (Value::Null, 1, Outcome::Ok),
    ] {
        let imported = read(Format::OtlpJson, span(end.clone(), status));
        let shown = format!("{:?}", imported.calls[0]);
        assert!(shown.contains(&format!("outcome: Some({wanted:?})")), "{end} {status}: {shown}");
        assert_eq!(imported.tally().abandoned, usize::from(wanted == Outcome::Abandoned));
    }
    // If the same span occurs in the file after it has ended, that one counts.
    let twice = |first: Value, second: Value| format!("{}\n{}", span(first, 0), span(second, 0));
    let ended = || Value::from("1780000000000000009");
    for text in [twice(Value::Null, ended()), twice(ended(), Value::Null)] {
        let tally = read(Format::OtlpJson, text).tally();
        assert_eq!((tally.calls, tally.abandoned), (1, 0));
    }
    // Exported again after it had ended, it has its answer.
    let log = AuditLog::in_memory().unwrap();
    let put = |end: Value| import::record(&log, read(Format::OtlpJson, span(end, 0)), false, |_| ()).unwrap();
    assert_eq!(put(Value::Null).receipts.len(), 1);
    let ended = put("1780000000000000009".into());
    assert_eq!((ended.receipts.len(), ended.repeated, ended.answers.len()), (0, 1, 1));
}

/// An answer inside a call's own item was recorded as no answer, and arguments with a comma too many as concerning nobody,
/// exit 0.
#[test]
fn what_was_not_understood_in_what_was_taken_exits_1() {
    let place = Place::with_store();
    let call = |more: Value| {
        let mut item = json!({"id": "c", "function": {"name": "f", "arguments": "{\"patient_id\":\"P-1\",}"}});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{"role": "user", "content": more}, {"role": "assistant", "tool_calls": [item]}, said("c", "x")])
            .to_string()
    };
    let import = ["import", "s", "--format", "openai-chat", "--user", "u", "t.json"];
    place.write("t.json", call(json!({})));
    let ran = place.run(&import).code(1);
    assert!(ran.out.contains("1 call's arguments are nearly JSON") && !ran.out.contains("NOT"), "{}", ran.out);
    assert!(ran.err.contains("nearly JSON") && !ran.err.contains("not recorded"), "{}", ran.err);
    place.write("t.json", call(json!({"output": "the answer"})));
    let ran = place.run(&import).code(1);
    assert!(ran.out.contains("NOT recorded: 1 answer"), "{}", ran.out);
    assert!(ran.err.contains("[1].tool_calls[0].output: the member \"output\" of a call"), "{}", ran.err);
    assert_eq!(place.count(&["--patient", "P-1"]), 2);
}

/// A tool's actual answer was beside the content of its message, under an unknown name.
#[test]
fn what_stands_beside_an_answer_is_named() {
    let mut answer = said("c", "see the output");
    (answer["artifact"], answer["cost"], answer["status"]) = (json!({"rows": 3}), json!(0.5), json!("success"));
    let imported = read(CHAT, json!([made("c", "t"), answer]).to_string());
    let places: Vec<_> = imported.not_taken.iter().map(|one| (one.place.as_str(), one.kind)).collect();
    assert_eq!(places, [("[1].artifact", Untaken::Answer)]);
    let bare = json!([made("c", "t"), {"role": "tool", "tool_call_id": "c", "output": 42}]);
    assert_eq!(read(CHAT, bare.to_string()).not_taken[0].place, "[1].output");
    let blocks = json!([{"role": "assistant", "content": [{"type": "toolUse", "toolUse": {"toolUseId": "t", "name": "f"}}]},
        {"role": "user", "content": [{"type": "toolResult", "toolUseId": "t", "status": "success"}]}]);
    let kinds: Vec<_> = read(Format::Anthropic, blocks.to_string()).not_taken.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Untaken::Call, Untaken::Answer]);
}

/// SWE-agent writes an answer's id as `tool_call_ids`. It was ignored, the answers were joined by order, and the log proved
/// forever that a was missing and b was read.
#[test]
fn answers_join_by_their_ids_whatever_the_name() {
    let calls = json!({"role": "assistant", "tool_calls": [
        {"id": "c1", "function": {"name": "read", "arguments": "{\"path\":\"a\"}"}},
        {"id": "c2", "function": {"name": "read", "arguments": "{\"path\":\"b\"}"}}]});
    for key in ["tool_call_ids", "id", "toolCallId", "call_id"] {
        let id = |id: &str| if key == "tool_call_ids" { json!([id]) } else { json!(id) };
        let mut answers = [json!({"role": "tool", "content": "Error: b"}), json!({"role": "tool", "content": "a"})];
        answers[0][key] = id("c2");
        answers[1][key] = id("c1");
        let imported = read(CHAT, json!([calls, answers[0], answers[1]]).to_string());
        let wanted = |n: &str, path: &str| {
            let record = json!({"conversation_id": "x", "user_id": "u", "tool_name": "read", "call_id": n, "arguments": {"path": path}});
            let call = ToolCall::from_jsonl(record.to_string().as_bytes()).unwrap().backfilled();
            call.result(if path == "a" { "a" } else { "Error: b" })
        };
        let shown = |call: &ToolCall| format!("{call:?}").split_once("tool_name").unwrap().1.to_owned();
        let same: Vec<_> = imported.calls.iter().map(shown).collect();
        assert_eq!(same, [shown(&wanted("c1", "a")), shown(&wanted("c2", "b"))], "{key}");
        assert_eq!((imported.by_order, imported.not_taken.len()), (0, 0));
    }
    // An answer without any id is never joined to a call that has one.
    let imported = read(CHAT, json!([calls, {"role": "tool", "content": "Error: b"}]).to_string());
    assert_eq!((imported.tally().abandoned, imported.not_taken.len()), (2, 1));
    // If nothing has an id the order decides, and a message says so.
    let bare =
        json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, {"role": "tool", "content": "x"}]);
    assert_eq!(read(CHAT, bare.to_string()).by_order, 1);
}

/// Some formats have an empty `error` in each answer: `{"error": ""}` turned every success into a failure.
#[test]
fn an_empty_error_is_no_failure_and_a_flag_is_one() {
    let outcome = |text: &str| {
        let log = AuditLog::in_memory().unwrap();
        let receipt = log.record(ToolCall::from_jsonl(text.as_bytes()).unwrap()).unwrap();
        log.entry(receipt.seq).unwrap().call().unwrap().completion.as_ref().unwrap().outcome
    };
    let record = |rest: &str| outcome(&format!(r#"{{"conversation_id":"c","user_id":"u","tool_name":"t",{rest}}}"#));
    for empty in ["\"\"", "null", "[]", "{}", "0", "false"] {
        assert_eq!(record(&format!(r#""result":{{"error":{empty},"id":1}}"#)), Outcome::Ok, "{empty}");
        assert_eq!(record(&format!(r#""error":{empty},"result":1"#)), Outcome::Ok, "{empty}");
        let answer = format!(r#"{{"role":"tool","tool_call_id":"c","content":"fine","error":{empty}}}"#);
        assert_eq!(read(CHAT, format!("[{},{answer}]", made("c", "t"))).tally().failures, 0, "{empty}");
        let content = format!(r#"{{"role":"tool","tool_call_id":"c","content":{{"error":{empty}}}}}"#);
        assert_eq!(read(CHAT, format!("[{},{content}]", made("c", "t"))).tally().failures, 0, "{empty}");
    }
    for flag in [
        r#""error":"x""#,
        r#""is_error":true"#,
        r#""isError":true"#,
        r#""status":"error""#,
        r#""error":{"type":"t","message":"m"}"#,
    ] {
        assert_eq!(record(&format!(r#""result":{{{flag}}}"#)), Outcome::ToolError, "{flag}");
        let answer = format!(r#"{{"role":"tool","tool_call_id":"c","content":"fine",{flag}}}"#);
        assert_eq!(read(CHAT, format!("[{},{answer}]", made("c", "t"))).tally().failures, 1, "{flag}");
    }
}

/// One NUL in a tool's output, half an emoji, or a line that a crash tore off made the whole file fail; an agent that
/// recorded through the library lost the call whose answer contained it.
#[test]
fn one_odd_character_or_torn_line_costs_nothing_else() {
    let text = session("s", &[made("c", "t"), said("c", "ODD"), made("d", "t"), said("d", "done")]);
    for odd in ["a \\u0000 b", "a \\ud83d b", "a \\udc00 b", "\u{1}"] {
        let imported = read(CHAT, text.replace("ODD", odd));
        assert_eq!((imported.calls.len(), imported.tally().abandoned), (2, 0), "{odd}");
        let shown = format!("{:?}", imported.calls[0]);
        assert!(shown.contains("restated: [\"result\"]"), "{shown}");
        assert!(format!("{:?}", imported.calls[1]).contains("restated: []"));
    }
    let log = AuditLog::in_memory().unwrap();
    let record =
        br#"{"conversation_id":"c","user_id":"u","tool_name":"t","arguments":{"in":"a\u0000"},"result":"log \ud800"}"#;
    let one = log.record(ToolCall::from_jsonl(record).unwrap()).unwrap();
    let two = log.record(ToolCall::new("c", "u", "t").arguments("a\0").error("no \0")).unwrap();
    let line = |seq| log.entry(seq).unwrap().line().to_string();
    assert!(line(one.seq).contains(r#""restated":["arguments.in","result"]"#), "{}", line(one.seq));
    assert!(line(two.seq).contains(r#""restated":["arguments","error.message"]"#), "{}", line(two.seq));
    assert!(line(two.seq).contains("a\u{2400}"));

    let lines = format!("{}\n\0\0\0\n{}\n{{\"role\":\"assi", made("c", "t"), said("c", "done"));
    let imported = read(CHAT, &lines);
    assert_eq!((imported.calls.len(), imported.tally().abandoned), (1, 0));
    let named: Vec<_> = imported.not_taken.iter().map(|one| (one.place.as_str(), one.kind)).collect();
    assert_eq!(named, [("line 2", Untaken::Line), ("line 4", Untaken::Line)]);
    let place = Place::with_store();
    place.write("torn.jsonl", lines);
    let ran = place.run(&["import", "s", "--format", "openai-chat", "--user", "u", "torn.jsonl"]).code(1);
    assert!(ran.err.contains("line 2") && ran.err.contains("line 4"), "{}", ran.err);
    assert_eq!(place.count(&["--kind", "tool_call"]), 1);
}

/// The first file that could not be read ended the import: nothing of the files after it was recorded, and no message said
/// so.
#[test]
fn every_file_is_tried() {
    let place = Place::with_store();
    place.write("bad.json", r#"[{"role":"robot"}]"#);
    place.write("good.json", session("s", &[made("c", "t"), said("c", "done")]));
    let import = ["import", "s", "--format", "openai-chat", "bad.json", "good.json", "nowhere.json"];
    let ran = place.run(&import).code(2);
    assert!(ran.err.contains("2 of 3 files were not imported: bad.json, nowhere.json"), "{}", ran.err);
    assert_eq!(place.count(&["--kind", "tool_call"]), 1);
    let ran = place.run(&[&import[..], &["--json"]].concat()).code(2);
    let json = crate::common::json(&ran.out);
    let figure = |key: &str| json.get(key).and_then(Json::as_u64);
    assert_eq!(
        (figure("files"), figure("calls"), figure("recorded"), figure("already_there")),
        (Some(3), Some(1), Some(0), Some(1))
    );
    let refused = json.get("not_taken").and_then(Json::as_array).unwrap();
    assert_eq!(
        refused.iter().map(|one| one.get("file").unwrap().as_str().unwrap()).collect::<Vec<_>>(),
        ["bad.json", "nowhere.json"]
    );
}

/// Python's naive times were refused with a message that did not say what was missing; `record` refused numbers that
/// `import` accepts.
#[test]
fn times_without_a_zone_are_utc_where_that_is_said() {
    let place = Place::with_store();
    let naive = "2025-10-31T07:16:44.5";
    let mut call = made("c", "t");
    call["timestamp"] = naive.into();
    place.write("chat.json", json!([call]).to_string());
    let import = ["import", "s", "--format", "openai-chat", "--user", "u", "chat.json"];
    let ran = place.run(&import).code(2);
    assert!(ran.err.contains("no time zone") && ran.err.contains("--assume-utc"), "{}", ran.err);
    place.run(&[&import[..], &["--assume-utc"]].concat()).ok();
    let line = |time: &str| {
        format!("{{\"conversation_id\":\"c\",\"user_id\":\"u\",\"tool_name\":\"t\",\"timestamp\":{time}}}\n")
    };
    let lines = line(&format!("{naive:?}")) + &line("1761895004.5") + &line("\"2025-10-31T09:16:44.5+0200\"");
    place.run_with(&["record", "s", "--keep-going"], lines.as_bytes()).code(1);
    place.run_with(&["record", "s", "--assume-utc"], lines.as_bytes()).ok();
    let shown = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    assert_eq!(
        shown.lines().filter(|l| l.contains("\"timestamp\":\"2025-10-31T07:16:44.500Z\"")).count(),
        6,
        "{shown}"
    );
}

/// Of the two times of a call and its answer one was dropped, and no imported call had a duration.
#[test]
fn durations_come_from_the_times_of_the_messages() {
    let (mut call, mut answer) = (made("c", "t"), said("c", "done"));
    call["timestamp"] = "2026-01-01T10:00:00Z".into();
    answer["timestamp"] = "2026-01-01T10:00:07.5Z".into();
    let shown = format!("{:?}", read(CHAT, json!([call, answer]).to_string()).calls[0]);
    assert!(shown.contains("duration_ms: Some(7500.0)") && shown.contains("message times"), "{shown}");
    // An answer that is older than its call gives no duration.
    answer["timestamp"] = "2025-01-01T10:00:07.5Z".into();
    let shown = format!("{:?}", read(CHAT, json!([call, answer]).to_string()).calls[0]);
    assert!(shown.contains("duration_ms: None"), "{shown}");
}

/// A timer imported a growing session file again and again: each refund was in the log as often as the timer ran.
#[test]
fn what_is_there_already_is_not_recorded_again() {
    let log = AuditLog::in_memory().unwrap();
    // Ids repeat within a conversation; each is a call of its own.
    let mut messages =
        vec![made("c", "t"), said("c", "one"), made("c", "t"), said("c", "two"), made("d", "t"), said("d", "x")];
    assert_eq!(put(&log, &session("s", &messages)), (3, 0, 0));
    assert_eq!(put(&log, &session("s", &messages)), (0, 3, 0));
    messages.extend([made("c", "t"), said("c", "three"), made("e", "t")]);
    assert_eq!(put(&log, &session("s", &messages)), (2, 3, 0), "grown");
    // A resumed session copies its history into its own file, and continues.
    let resumed = [&messages[4..6], &[made("f", "t"), said("f", "x")]].concat();
    assert_eq!(put(&log, &session("s", &resumed)), (1, 1, 0));
    assert_eq!(put(&log, &session("other", &messages)), (5, 0, 0), "another session");
    // The call without an answer gets it, and is not counted twice.
    messages.push(said("e", "late"));
    assert_eq!(put(&log, &session("s", &messages)), (0, 5, 1));
    assert_eq!(put(&log, &session("s", &messages)), (0, 5, 0));
    let last = log.entry(log.size().unwrap() - 1).unwrap();
    assert!(last.call().unwrap().late_answer && last.line().contains("follow_up"), "{}", last.line());
    let again = import::record(&log, read(CHAT, session("s", &messages)), true, |_| ()).unwrap();
    assert_eq!(again.receipts.len(), 5, "as was asked for");
}

/// A file without a session id was named by the hash of the whole file: one more line turned it into another conversation,
/// and every call was recorded twice. With too little in the hash, two transcripts with a test's fixed ids would become
/// one, and the second would be lost.
#[test]
fn a_session_without_an_id_is_known_by_what_it_began_with() {
    let log = AuditLog::in_memory().unwrap();
    let file = |messages: &[Value]| Value::from(messages).to_string();
    let mut messages = vec![json!({"role": "user", "content": "x"}), made("c", "t")];
    assert_eq!(put(&log, &file(&messages)), (1, 0, 0));
    messages.push(said("c", "one"));
    assert_eq!(put(&log, &file(&messages)), (0, 1, 1), "the answer came later");
    messages.extend([made("d", "t"), said("d", "two")]);
    assert_eq!(put(&log, &file(&messages)), (1, 1, 0));
    assert_eq!(put(&log, &file(&messages)), (0, 2, 0));
    let log = AuditLog::in_memory().unwrap();
    assert_eq!(put(&log, &file(&messages)), (2, 0, 0));
    messages[2] = said("c", "something else");
    assert_eq!(put(&log, &file(&messages)), (2, 0, 0), "with another answer it is another transcript");
    assert_eq!(calls(&log), 4);
    // Records in the log's own format without an id or a time are identified by their file.
    let line = "{\"conversation_id\":\"c\",\"user_id\":\"u\",\"tool_name\":\"t\"}\n";
    let jsonl = |text: &str| import::record(&log, read(Format::Jsonl, text), false, |_| ()).unwrap().receipts.len();
    assert_eq!(jsonl(&line.repeat(2)), 2);
    assert_eq!(jsonl(&line.repeat(3)), 1);
    assert_eq!(jsonl(&line.replace("\"t\"", "\"other\"")), 1);
}

/// Two services logged calls with the same session, tool and second: the second's, with another user and amount, was taken
/// for the first's and dropped, exit 0.
#[test]
fn another_call_of_the_same_identity_is_named_and_the_rest_goes_on() {
    let log = AuditLog::in_memory().unwrap();
    let line = |user: &str, tool: &str| {
        let time = "2026-11-28T10:00:00Z";
        json!({"tool_name": tool, "conversation_id": "s", "user_id": user, "timestamp": time}).to_string() + "\n"
    };
    let put = |text: &str, again| import::record(&log, read(Format::Jsonl, text), again, |_| ()).unwrap();
    assert_eq!(put(&line("alice", "refund"), false).receipts.len(), 1);
    let text = line("bob", "x") + &line("mallory", "refund") + &line("bob", "y");
    for (new, known) in [(2, 0), (0, 2)] {
        let recorded = put(&text, false);
        assert_eq!((recorded.receipts.len(), recorded.repeated), (new, known));
        assert_eq!((recorded.not_taken.len(), recorded.not_taken[0].kind), (1, Untaken::Call));
        assert_eq!(recorded.not_taken[0].place, "line 2");
    }
    assert_eq!(put(&text, true).receipts.len(), 3);
}

/// The same call with another answer (a refund that had been refused was now paid) was dropped as already recorded.
#[test]
fn an_answer_that_changed_is_named() {
    let log = AuditLog::in_memory().unwrap();
    let file = |answer: &str| session("s", &[made("c", "t"), said("c", answer), made("d", "t"), said("d", "x")]);
    assert_eq!(put(&log, &file("refused")), (2, 0, 0));
    for changed in ["paid it", "refusal", "Error: x"] {
        let recorded = import::record(&log, read(CHAT, file(changed)), false, |_| ()).unwrap();
        assert_eq!((recorded.receipts.len(), recorded.repeated, recorded.answers.len()), (0, 1, 0), "{changed}");
        let named = &recorded.not_taken[0];
        assert_eq!((named.place.as_str(), named.kind), ("messages[0].tool_calls[0]", Untaken::Answer));
        assert!(named.why.contains("another answer"), "{named}");
    }
    // So is an answer that came late.
    let late = |answer: &str| session("l", &[made("c", "t"), said("c", answer)]);
    assert_eq!(put(&log, &session("l", &[made("c", "t")])), (1, 0, 0));
    assert_eq!(put(&log, &late("one")), (0, 1, 1));
    assert_eq!(put(&log, &late("one")), (0, 1, 0));
    let recorded = import::record(&log, read(CHAT, late("two")), false, |_| ()).unwrap();
    assert_eq!((recorded.repeated, recorded.not_taken.len()), (1, 1));
    assert_eq!(calls(&log), 4);
    let place = Place::with_store();
    for (answer, code) in [("refused", 0), ("refused", 0), ("paid", 1)] {
        place.write("t.json", file(answer));
        let ran = place.run(&["import", "s", "--format", "openai-chat", "t.json"]).code(code);
        assert!(code == 0 || ran.out.contains("NOT recorded: 1 answer"), "{} {}", ran.out, ran.err);
    }
}

/// If a session had no id of its own, its calls were known only by their ids. A real recording reuses an id in another
/// conversation, for the same tool with the same arguments: when it was imported in two files, seven of its calls were
/// 'already there', and lost.
#[test]
fn an_id_that_another_conversation_has_too_is_another_call() {
    let id = "call_4kXw81LmZq07bTnRvYd2";
    let talk = |first: &str| {
        let begin = json!({"role": "user", "content": first});
        Value::from([begin, made(id, "t"), said(id, "done")].to_vec()).to_string()
    };
    let log = AuditLog::in_memory().unwrap();
    assert_eq!(put(&log, &talk("monday")), (1, 0, 0));
    assert_eq!(put(&log, &talk("tuesday")), (1, 0, 0));
    assert_eq!(put(&log, &talk("monday")), (0, 1, 0));
    let short = read(CHAT, json!([made("c", "t"), said("c", "x")]).to_string());
    assert_eq!(import::record(&log, short, false, |_| ()).unwrap().by_beginning, 1);
    let named = read(CHAT, session("s", &[made("c", "t"), said("c", "x")]));
    assert_eq!(import::record(&log, named, false, |_| ()).unwrap().by_beginning, 0);
}

/// An answer that arrived later was counted as one more call: in statistics, and in the overview of its conversation.
#[test]
fn a_late_answer_is_no_call_of_its_own() {
    let log = AuditLog::in_memory().unwrap();
    let total =
        || log.statistics(&attestlog::query::Statistics::new()).unwrap().iter().map(|of| of.total_calls).sum::<u64>();
    assert_eq!(put(&log, &session("s", &[made("c", "t")])), (1, 0, 0));
    assert_eq!(put(&log, &session("s", &[made("c", "t"), said("c", "done")])), (0, 1, 1));
    assert_eq!(total(), 1);
    let last = log.entry(log.size().unwrap() - 1).unwrap();
    assert!(last.call().unwrap().late_answer);
    log.flush_index().unwrap();
    assert_eq!(total(), 1);
    assert!(log.verify(&attestlog::verify::VerifyOptions::new().threads(1)).unwrap().ok());
    // A call that follows up another is a call.
    log.record(ToolCall::new("s", "u", "t").follow_up_of(last.seq)).unwrap();
    assert_eq!(total(), 2);
}

/// A purge removes entries, but not their identities: an old session that is imported again does not come back.
#[test]
fn what_was_purged_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let clock = crate::store_common::clock();
    let log = crate::store_common::options(&clock, 1).create(dir.path().join("s")).unwrap();
    let pair = |n: usize| [made(&format!("c{n}"), "t"), said(&format!("c{n}"), "done")];
    let text = session("s", &(0..100).flat_map(pair).collect::<Vec<_>>());
    assert_eq!(put(&log, &text), (100, 0, 0));
    log.flush_index().unwrap();
    clock.advance(std::time::Duration::from_secs(800 * 86_400));
    log.retention().confirm_clock(Justification { actor: "admin", reason: "the machine was off" }).unwrap();
    assert!(log.retention().purge("admin").unwrap().purged > 60);
    let size = log.size().unwrap();
    assert_eq!(put(&log, &text), (0, 100, 0));
    assert_eq!(log.size().unwrap(), size);
}

/// It does not matter which process imports: the owner of the store knows the identities for all.
#[test]
fn the_same_file_through_an_owner_is_recorded_once() {
    use attestlog::AuditLog;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    AuditLog::create(&path).unwrap().close().unwrap();
    let open = || attestlog::Options::new().open(&path).unwrap();
    let (owner, guest) = (open(), open());
    let text = session("s", &[made("c", "t"), said("c", "one"), made("d", "t")]);
    let put = |log: &AuditLog, text: &str| {
        let recorded = import::record(log, read(CHAT, text), false, |_| ()).unwrap();
        (recorded.receipts.len(), recorded.repeated, recorded.answers.len())
    };
    assert_eq!(put(&guest, &text), (2, 0, 0));
    assert_eq!(put(&owner, &text), (0, 2, 0));
    let grown = session("s", &[made("c", "t"), said("c", "one"), made("d", "t"), said("d", "two")]);
    assert_eq!(put(&guest, &grown), (0, 2, 1));
    assert_eq!(put(&owner, &grown), (0, 2, 0));
    guest.close().unwrap();
    owner.close().unwrap();
}

#[derive(Debug, Clone)]
enum Piece {
    Said,
    Call(u8, bool),
    Odd(u8),
}

fn odd(kind: u8, n: usize) -> Value {
    let id = format!("odd{n}");
    match kind {
        0 => json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": id}}]}),
        1 => json!({"role": "assistant", "content": "", "extra": {"deep": [{"functionCall": {"name": "f"}}]}}),
        2 => json!({"role": "user", "content": [{"type": "tool_call_response", "id": id}]}),
        3 => json!({"role": "assistant", "items": [{"type": "mcp_call", "id": id}]}),
        _ => json!({"role": "tool", "tool_call_id": id, "content": "to no call"}),
    }
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        Just(Piece::Said),
        (0u8..4, any::<bool>()).prop_map(|(id, answered)| Piece::Call(id, answered)),
        (0u8..5).prop_map(Piece::Odd),
    ];
    prop::collection::vec(piece, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Recorded, already there and not taken add up to everything that looks like a call, or an answer without one.
    #[test]
    fn nothing_is_lost(pieces in pieces(), cut in any::<prop::sample::Index>()) {
        let (mut messages, mut wanted, mut odds) = (Vec::new(), 0, 0);
        // Cut at whole pieces, so that no call in the first part has its answer in the second.
        let mut counts = vec![(0, 0, 0)];
        for (n, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Said => messages.push(json!({"role": "user", "content": "x"})),
                Piece::Call(id, answered) => {
                    wanted += 1;
                    messages.push(made(&format!("c{id}"), "t"));
                    if *answered {
                        messages.push(said(&format!("c{id}"), "done"));
                    }
                    messages.push(json!({"role": "user", "content": "y"}));
                }
                Piece::Odd(kind) => {
                    odds += 1;
                    messages.push(odd(*kind, n));
                }
            }
            counts.push((messages.len(), wanted, odds));
        }
        let log = AuditLog::in_memory().unwrap();
        let (length, first, _) = counts[cut.index(counts.len())];
        prop_assert_eq!(put(&log, &session("s", &messages[..length])), (first, 0, 0));
        let imported = read(CHAT, session("s", &messages));
        prop_assert_eq!(imported.not_taken.len(), odds);
        let recorded = import::record(&log, imported, false, |_| ()).unwrap();
        prop_assert_eq!((recorded.receipts.len(), recorded.repeated, recorded.answers.len()), (wanted - first, first, 0));
        prop_assert_eq!(calls(&log), wanted as u64);
    }
}

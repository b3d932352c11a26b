//! Additional members of a call's own item, a message or a span, under whatever name, are read or reported (invariant R71);
//! a session that continues differently from another is a different session (R70).

use super::otlp::{EXECUTE, START, export, text};
use super::*;
use attestlog::{AuditLog, CallResult, Query};
use attestlog_capture::import::Untaken;

fn named(imported: &Imported) -> Vec<(&str, Untaken)> {
    imported.not_taken.iter().map(|one| (one.place.as_str(), one.kind)).collect()
}

/// The numbers of calls that are new, already there, and reported.
fn put(log: &AuditLog, messages: &[Value]) -> (usize, usize, usize) {
    let imported = read(Format::OpenAiChat, file(messages), &ImportOptions::new().user("u"));
    let recorded = import::record(log, imported, false, |_| ()).unwrap();
    (recorded.receipts.len(), recorded.repeated, recorded.not_taken.len())
}

/// Two sessions began alike, with ids that a provider counts from 0. Each day the user asked for another thing, and "the
/// current one" was deleted: the second day's deletion was taken for the first's and dropped, exit 0.
#[test]
fn sessions_that_begin_alike_are_two_from_where_they_part() {
    let call = |tool: &str, id: &str| openai_calls(&[openai_call(id, tool, "{}")]);
    let asks = |what: &str| json!({"role": "user", "content": what});
    let day = |project: &str| {
        vec![
            asks("hello"),
            call("whoami", "call_0"),
            openai_answer("call_0", "anna"),
            asks(&format!("delete {project}")),
            call("delete_current", "call_1"),
            openai_answer("call_1", "done"),
        ]
    };
    let log = AuditLog::in_memory().unwrap();
    let (monday, mut tuesday) = (day("ALPHA"), day("BETA"));
    tuesday.extend([asks("again"), call("delete_current", "call_2"), openai_answer("call_2", "done")]);
    assert_eq!(put(&log, &monday), (2, 0, 0));
    // They have one call in common: it cannot be told from a copied history.
    assert_eq!(put(&log, &tuesday), (2, 1, 0));
    assert_eq!((put(&log, &monday), put(&log, &tuesday)), ((0, 2, 0), (0, 3, 0)));
    // However the file grows, nothing is recorded twice and nothing is lost.
    for cut in 0..=tuesday.len() {
        let log = AuditLog::in_memory().unwrap();
        put(&log, &tuesday[..cut]);
        put(&log, &tuesday);
        assert_eq!(put(&log, &tuesday), (0, 3, 0), "{cut}");
        let calls = log.statistics(&attestlog::query::Statistics::new()).unwrap();
        assert_eq!(calls.iter().map(|of| of.total_calls).sum::<u64>(), 3, "{cut}");
    }
    // The log's own records without ids and times are identified in the same way.
    let line = |tool: &str| format!("{{\"conversation_id\":\"c\",\"user_id\":\"u\",\"tool_name\":\"{tool}\"}}\n");
    let jsonl = |tools: &[&str]| {
        let text: String = tools.iter().map(|tool| line(tool)).collect();
        let imported = read(Format::Jsonl, text, &ImportOptions::new());
        import::record(&log, imported, false, |_| ()).unwrap().receipts.len()
    };
    assert_eq!(
        (jsonl(&["a", "alpha", "del"]), jsonl(&["a", "beta", "del"]), jsonl(&["a", "beta", "del", "x"])),
        (3, 2, 1)
    );
}

/// The answer was in the call's own item, as in run steps of the Assistants API: the log said forever that the call never
/// had one. A second call in one item was lost as well.
#[test]
fn what_stands_in_a_call_s_own_item_is_named() {
    let item = |more: Value| {
        let mut item = openai_call("c1", "f", "{}");
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(Format::OpenAiChat, file(&[user(), openai_calls(&[item]), openai_answer("c1", "x")]), &options())
    };
    for key in ["result", "output", "response", "content", "answer", "observation", "error", "toolResult", "IsError"] {
        let imported = item(json!({key: "the answer"}));
        let place = format!("[1].tool_calls[0].{key}");
        assert_eq!(named(&imported), [(place.as_str(), Untaken::Answer)], "{key}");
    }
    let other = json!({"name": "evil", "arguments": "{\"n\":1}"});
    for key in ["custom", "tool_calls", "function_call", "toolUse", "action", "args", "extra"] {
        let imported = item(json!({key: other}));
        let place = format!("[1].tool_calls[0].{key}");
        assert_eq!(named(&imported), [(place.as_str(), Untaken::Call)], "{key}");
    }
    let beside = item(json!({"name": "evil", "arguments": "{\"n\":1}"}));
    assert_eq!(named(&beside).first(), Some(&("[1].tool_calls[0].arguments", Untaken::Call)));
    assert_eq!(named(&item(json!({"name": "evil"}))), [("[1].tool_calls[0].name", Untaken::Call)]);
    let mut inside = openai_call("c1", "f", "{}");
    inside["function"]["output"] = "42".into();
    let imported = read(Format::OpenAiChat, file(&[openai_calls(&[inside])]), &options());
    assert_eq!(named(&imported), [("[0].tool_calls[0].function.output", Untaken::Answer)]);
    let both = json!({"id": "c", "type": "custom", "custom": {"name": "py", "input": "1"}, "function": {"name": "g", "arguments": "{}"}});
    let imported = read(Format::OpenAiChat, file(&[openai_calls(&[both])]), &options());
    assert_eq!((imported.calls.len(), named(&imported)), (1, vec![("[0].tool_calls[0].function", Untaken::Call)]));
    for key in ["result", "output", "content", "error"] {
        let mut block = json!({"type": "tool_use", "id": "c1", "name": "f", "input": {"output": "x"}});
        block[key] = "the answer".into();
        let text = file(&[user(), json!({"role": "assistant", "content": [block]})]);
        let imported = read(Format::Anthropic, text, &options());
        assert_eq!(named(&imported), [(format!("[1].content[0].{key}").as_str(), Untaken::Answer)]);
    }
    // Members that real writers put there and that mean nothing of this kind.
    for quiet in [
        json!({"index": 0, "extra_content": {"google": {"thought_signature": "x"}}, "error": null, "result": ""}),
        json!({"status": "completed", "is_error": false, "name": "f", "arguments": "{}", "provider_specific_fields": {"a": 1}}),
    ] {
        assert_eq!(named(&item(quiet.clone())), [], "{quiet}");
    }
    // Beside the messages of a conversation, and on a message whose content holds a call.
    let top = json!({"user_id": "u", "messages": [user()], "name": "evil", "arguments": "{\"n\":1}"});
    assert_eq!(read(Format::OpenAiChat, top.to_string(), &options()).not_taken.len(), 1);
    let sample = json!({"user_id": "u", "messages": [user()], "name": "sample 1", "input": "a question"});
    assert_eq!(read(Format::OpenAiChat, sample.to_string(), &options()).not_taken, []);
    let on = json!({"role": "assistant", "name": "evil", "arguments": "{\"n\":1}",
        "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]});
    assert_eq!(read(Format::Anthropic, file(&[on]), &options()).not_taken.len(), 1);
}

/// `is_error`, `error` and `status` on the message around a tool's result, and Claude Code's `toolUseResult` beside it,
/// were ignored: the call was a success. The text of an error beside the content of a tool's message was dropped.
#[test]
fn a_failure_around_an_answer_is_one_and_its_words_are_kept() {
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]});
    let anthropic = |more: Value| {
        let mut message =
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "fine"}]});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(Format::Anthropic, file(&[user(), call.clone(), message]), &options())
    };
    for more in [
        json!({"is_error": true}),
        json!({"error": "boom"}),
        json!({"status": "error"}),
        json!({"toolUseResult": {"is_error": true}}),
        json!({"toolUseResult": "Error: no"}),
    ] {
        let imported = anthropic(more.clone());
        assert_eq!((imported.tally().failures, named(&imported)), (1, vec![]), "{more}");
    }
    for more in
        [json!({"is_error": false, "error": null}), json!({"toolUseResult": {"stdout": "x"}, "status": "success"})]
    {
        let imported = anthropic(more.clone());
        assert_eq!((imported.tally().failures, named(&imported)), (0, vec![]), "{more}");
    }
    assert_eq!(named(&anthropic(json!({"result": "another"}))), [("[2].result", Untaken::Answer)]);
    assert!(format!("{:?}", anthropic(json!({"error": "boom"})).calls).contains("boom"));
    let openai = |content: Value, more: Value| {
        let mut answer = openai_answer("c1", content);
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(Format::OpenAiChat, file(&[openai_calls(&[openai_call("c1", "f", "{}")]), answer]), &options())
    };
    for content in [json!("partial"), json!({"partial": 1})] {
        for error in [json!("disk quota exceeded"), json!({"message": "disk quota exceeded"})] {
            let imported = openai(content.clone(), json!({"error": error}));
            assert_eq!((imported.tally().failures, named(&imported)), (1, vec![]));
            let shown = format!("{:?}", imported.calls);
            assert!(shown.contains("partial") && shown.contains("disk quota exceeded"), "{shown}");
        }
    }
    assert_eq!(named(&openai("x".into(), json!({"Content": "y"}))), [("[1].Content", Untaken::Answer)]);
    let function = json!({"function": {"name": "evil", "arguments": "{}"}});
    assert_eq!(openai("x".into(), function).not_taken.len(), 1);
}

fn of(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": text(value)})).collect()
}

fn tool_span(more: &[(&str, &str)], events: Value) -> Imported {
    let mut span =
        super::otlp::span("a1", "", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("f"))]);
    span["attributes"].as_array_mut().unwrap().extend(of(more).as_array().unwrap().clone());
    span["events"] = events;
    read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &options())
}

/// Spans as written by Strands, Google's ADK, LangSmith and others were imported without arguments, answers and patients,
/// and failed ones as successes; nothing was reported.
#[test]
fn what_a_tool_s_span_tells_in_another_dialect_is_read() {
    let strands = json!([
        {"name": "gen_ai.tool.message", "attributes": of(&[("role", "tool"), ("id", "t1"), ("content", "{\"patient_id\":\"P-1\"}")])},
        {"name": "gen_ai.choice", "attributes": of(&[("id", "t1"), ("message", "[{\"text\":\"Error: denied\"}]")])},
    ]);
    let details = json!([
        {"name": "gen_ai.client.inference.operation.details", "attributes": of(&[("gen_ai.input.messages",
            r#"[{"role":"tool","parts":[{"type":"tool_call","name":"f","id":"t1","arguments":{"patient_id":"P-1"}}]}]"#)])},
        {"name": "gen_ai.client.inference.operation.details", "attributes": of(&[("gen_ai.output.messages",
            r#"[{"role":"tool","parts":[{"type":"tool_call_response","id":"t1","response":[{"text":"Error: denied"}]}]}]"#)])},
    ]);
    let (given, answer) = ("{\"patient_id\":\"P-1\"}", "{\"error\":\"denied\"}");
    for (attributes, events) in [
        (vec![("gen_ai.tool.status", "error")], strands.clone()),
        (vec![], strands),
        (vec![], details),
        (vec![("gcp.vertex.agent.tool_call_args", given), ("gcp.vertex.agent.tool_response", answer)], json!([])),
        (vec![("mcp.request.argument.patient_id", "\"P-1\""), ("mcp.tool.result", answer)], json!([])),
        (vec![("gen_ai.prompt", given), ("gen_ai.completion", answer)], json!([])),
        (vec![("tool.arguments", given), ("tool.result", "{\"isError\":true}")], json!([])),
        (vec![("gen_ai.tool.input", given), ("gen_ai.tool.output", answer)], json!([])),
        (vec![("input", given), ("output", "Error: x")], json!([])),
        (vec![("tool.parameters", given), ("tool.error", "boom")], json!([])),
        (vec![("arguments", given), ("rpc.jsonrpc.error_code", "-32602")], json!([])),
        (
            vec![("input.value", given)],
            json!([{"name": "exception", "attributes": of(&[("exception.message", "boom")])}]),
        ),
    ] {
        let imported = tool_span(&attributes, events);
        assert_eq!(
            (imported.tally().failures, named(&imported)),
            (1, vec![]),
            "{attributes:?} {:?}",
            imported.not_taken
        );
        assert!(format!("{:?}", imported.calls[0].arguments).contains("P-1"), "{attributes:?}");
    }
    // Two dialects on one span that say the same, and members that only sound like an answer.
    let quiet = [
        ("input.value", given),
        ("traceloop.entity.input", "{\"inputs\":{\"patient_id\":\"P-1\"}}"),
        ("tool.parameters", "{\"type\":\"object\",\"properties\":{}}"),
        ("output.value", "done"),
        ("output.mime_type", "text/plain"),
        ("gcp.vertex.agent.llm_response", "{}"),
        ("gen_ai.response.model", "m"),
        ("gen_ai.output.type", "text"),
        ("gen_ai.tool.status", "success"),
        ("langfuse.trace.output", "bye"),
        ("langfuse.observation.metadata.error", "a user's own"),
        ("otel.status_code", "OK"),
        ("http.response.status_code", "200"),
    ];
    let imported = tool_span(&quiet, json!([{"name": "log", "attributes": of(&[("message", "x")])}]));
    assert_eq!((imported.tally().failures, imported.not_taken), (0, vec![]));
    assert_eq!(imported.calls[0].result, Some(CallResult::Value("done".into())));
}

/// Of 47 attributes tried on a tool's span 38 were ignored silently.
#[test]
fn what_speaks_of_an_answer_on_a_tool_s_span_is_named_and_no_success() {
    for key in [
        "weave.output",
        "crewai.tool.output",
        "logfire.output",
        "pydantic_ai.result",
        "toolReturn",
        "my.STATUS",
        "gen_ai.event.content",
    ] {
        let imported = tool_span(&[(key, "something")], json!([]));
        assert_eq!(
            named(&imported),
            [("resourceSpans[0].scopeSpans[0].spans[0].attributes[2]", Untaken::Answer)],
            "{key}"
        );
        let shown = format!("{:?}", imported.calls[0]);
        assert!(imported.tally().abandoned == 1 && shown.contains("not understood"), "{key}: {shown}");
    }
    assert_eq!(named(&tool_span(&[("weave.inputs", "{\"n\":1}")], json!([])))[0].1, Untaken::Call);
    for event in [
        json!({"name": "gen_ai.tool.message", "attributes": of(&[("content", "ans")])}),
        json!({"name": "tool_result", "attributes": of(&[("text", "x")])}),
        json!({"name": "step", "attributes": of(&[("tool.output", "x")])}),
    ] {
        let imported = tool_span(&[], json!([event]));
        assert_eq!((imported.not_taken.len(), imported.tally().abandoned), (1, 1), "{event}");
    }
    // Two that disagree: the first is used, the other is reported.
    let imported = tool_span(&[("output.value", "fine"), ("tool.result", "refused")], json!([]));
    assert_eq!(
        (imported.calls[0].result.clone(), imported.not_taken.len()),
        (Some(CallResult::Value("fine".into())), 1)
    );
}

/// Arguments with a repeated member or a comma too many, as models write them, named no patient: the call had the default
/// retention, and was missing from the patient's report. No message said so.
#[test]
fn patients_are_found_in_arguments_that_are_nearly_json() {
    let log = AuditLog::in_memory().unwrap();
    let texts = [
        r#"{"patient_id":"P-0","patient_id":"P-1"}"#,
        r#"{"patient_id":"P-1",}"#,
        "\u{feff}{\"patient_id\":\"P-1\"}",
        r#"{"n":NaN,"patient_id":"P-1"}"#,
        r#"{"patient_id":"P-1","note":"cut o"#,
        "{'patient_id': 'P-1'}",
    ];
    for (i, given) in texts.iter().enumerate() {
        let imported =
            read(Format::OpenAiChat, file(&[openai_calls(&[openai_call("c1", "get_chart", given)])]), &options());
        let has_mark = !given.starts_with('\u{feff}');
        let wanted: &[_] = if has_mark { &[("[0].tool_calls[0]", Untaken::Arguments)] } else { &[] };
        assert_eq!(named(&imported), wanted, "{given}");
        let receipt = import::record(&log, imported, false, |_| ()).unwrap().receipts[0];
        assert_eq!(
            log.entry(receipt.seq).unwrap().line().contains("\"restated\":[\"arguments\"]"),
            has_mark,
            "{given}"
        );
        assert_eq!(log.count(&Query::new().patient("P-1")).unwrap(), i as u64 + 1, "{given}");
    }
    assert_eq!(log.count(&Query::new().patient("P-0")).unwrap(), 1);
    // The same holds for arguments that a host records as a text.
    let call = ToolCall::new("c", "u", "t").arguments(r#"{"patient_id":"P-2",}"#);
    let seq = log.record(call).unwrap().seq;
    assert_eq!(log.count(&Query::new().patient("P-2")).unwrap(), 1);
    assert!(log.entry(seq).unwrap().line().contains("\"restated\":[\"arguments\"]"));
    // A text that only begins like JSON is a text.
    let seq = log.record(ToolCall::new("c", "u", "t").arguments("[ -f x ] && rm x")).unwrap().seq;
    assert!(!log.entry(seq).unwrap().line().contains("restated"));
}

/// A message's `createdAt` was not read, a span with no start was dated at the import, and one in milliseconds in 1970;
/// nothing in the entry said so.
#[test]
fn a_call_has_the_time_that_its_source_gives_it_or_says_that_it_has_none() {
    let time = |imported: &Imported| imported.calls[0].timestamp.map(|time| time.to_string());
    let wanted = Some("2021-01-02T03:04:05Z".to_owned());
    for key in ["createdAt", "ts", "date", "Created_At", "sent_at"] {
        for value in [json!("2021-01-02T03:04:05Z"), json!(1_609_556_645), json!(1_609_556_645_000_u64)] {
            let mut call = openai_calls(&[openai_call("c1", "f", "{}")]);
            call[key] = value;
            let mut answer = openai_answer("c1", "x");
            answer[key] = "2021-01-02T03:04:07Z".into();
            let imported = read(Format::OpenAiChat, file(&[call, answer]), &options());
            assert_eq!((time(&imported), imported.calls[0].duration_ms), (wanted.clone(), Some(2000.0)), "{key}");
            assert_eq!(imported.not_taken, []);
        }
    }
    let log = AuditLog::in_memory().unwrap();
    let mut call = openai_calls(&[openai_call("c1", "f", "{}")]);
    (call["time"], call["date"]) = (json!(3.5), json!("2021-01-02"));
    let imported = read(Format::OpenAiChat, file(&[call]), &options());
    let receipt = import::record(&log, imported, false, |_| ()).unwrap().receipts[0];
    assert!(log.entry(receipt.seq).unwrap().line().contains(r#""time_from":"import""#));
    let span = |start: Value, end: Value| {
        let mut span = super::otlp::span("a1", "", START, &[("gen_ai.tool.name", text("f"))]);
        (span["startTimeUnixNano"], span["endTimeUnixNano"]) = (start, end);
        read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &options())
    };
    for (start, end) in [
        ("1609556645000000000", "1609556647000000000"),
        ("1609556645000000", "1609556647000000"),
        ("1609556645000", "1609556647000"),
        ("1609556645", "1609556647"),
    ] {
        let imported = span(start.into(), end.into());
        assert_eq!((time(&imported), imported.calls[0].duration_ms), (wanted.clone(), Some(2000.0)), "{start}");
    }
    let imported = span(Value::Null, "1609556645000000000".into());
    assert_eq!((time(&imported), imported.calls[0].duration_ms), (wanted, None));
    assert!(format!("{:?}", imported.calls[0]).contains("end of the span"));
}

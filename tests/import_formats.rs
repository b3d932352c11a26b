//! Promise: transcripts come in as the calls that were made, each with its own answer, and nothing is lost on the way.

use attestlog::capture::import::{self, Format, ImportOptions, Imported, Tally};
use attestlog::{ErrorKind, Outcome, Timestamp, ToolCall, json};
use proptest::prelude::*;
use serde_json::{Value, json};

const FORMATS: [Format; 2] = [Format::OpenAiChat, Format::Anthropic];

fn options() -> ImportOptions {
    ImportOptions::new().user("u").conversation("c")
}

fn read(format: Format, text: impl AsRef<[u8]>, options: &ImportOptions) -> Imported {
    import::calls(format, text.as_ref(), options).unwrap()
}

/// The calls that these records of `attestlog record` describe, back-filled.
fn expected(records: &[Value]) -> Vec<ToolCall> {
    let call = |r: &Value| ToolCall::from_jsonl(r.to_string().as_bytes()).unwrap().backfilled();
    records.iter().map(call).collect()
}

#[track_caller]
fn assert_calls(imported: &Imported, records: &[Value]) {
    assert_eq!(imported.calls, expected(records));
    assert_eq!(imported.places.len(), imported.calls.len());
    assert_eq!(imported.unmatched, []);
}

#[track_caller]
fn assert_refused(format: Format, text: impl AsRef<[u8]>, options: &ImportOptions, message: &str) {
    let error = import::calls(format, text.as_ref(), options).unwrap_err();
    assert!(error.to_string().contains(message), "{message:?} should stand in {:?}", error.to_string());
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge), "{error:?}");
}

fn user() -> Value {
    json!({"role": "user", "content": "please"})
}

fn openai_call(id: &str, tool: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}})
}

fn openai_calls(calls: &[Value]) -> Value {
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn openai_answer(id: &str, content: impl Into<Value>) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": content.into()})
}

fn file(messages: &[Value]) -> String {
    Value::from(messages).to_string()
}

// ---- openai-chat

#[test]
fn parallel_calls_are_answered_in_any_order() {
    let text = file(&[
        json!({"role": "system", "content": "be kind"}),
        user(),
        openai_calls(&[openai_call("a", "first", r#"{"n":1}"#), openai_call("b", "second", r#"{"n":2}"#)]),
        openai_answer("b", r#"{"id":"B"}"#),
        openai_answer("a", "plain text"),
    ]);
    let imported = read(Format::OpenAiChat, text, &options());
    assert_calls(
        &imported,
        &[
            json!({"conversation_id":"c","user_id":"u","tool_name":"first","turn_number":1,"call_id":"a","arguments":{"n":1},"result":"plain text"}),
            json!({"conversation_id":"c","user_id":"u","tool_name":"second","turn_number":1,"call_id":"b","arguments":{"n":2},"result":{"id":"B"}}),
        ],
    );
    assert_eq!(imported.places, ["[2].tool_calls[0]", "[2].tool_calls[1]"]);
}

#[test]
fn an_id_used_again_joins_the_call_that_is_nearest() {
    // The first call of "x" was never answered; its answer must not be taken from the third.
    let text = file(&[
        user(),
        openai_calls(&[openai_call("x", "t", "{}")]),
        user(),
        openai_calls(&[openai_call("x", "t", "{}")]),
        openai_answer("x", "one"),
        user(),
        openai_calls(&[openai_call("x", "t", "{}"), openai_call("x", "other", "{}")]),
        json!({"role": "tool", "tool_call_id": "x", "name": "other", "content": "three"}),
        openai_answer("x", "two"),
    ]);
    let call = |tool: &str, turn: u64| json!({"conversation_id":"c","user_id":"u","tool_name":tool,"turn_number":turn,"call_id":"x","arguments":{}});
    let with = |mut call: Value, key: &str, value: &str| {
        call[key] = value.into();
        call
    };
    assert_calls(
        &read(Format::OpenAiChat, text, &options()),
        &[
            with(call("t", 1), "outcome", "abandoned"),
            with(call("t", 2), "result", "one"),
            with(call("t", 3), "result", "two"),
            with(call("other", 3), "result", "three"),
        ],
    );
}

#[test]
fn calls_in_several_messages_before_the_first_answer_are_answered_in_order() {
    let text = file(&[
        openai_calls(&[openai_call("x", "t", "1")]),
        openai_calls(&[openai_call("x", "t", "2")]),
        openai_answer("x", "one"),
        openai_answer("x", "two"),
    ]);
    let call = |n: u64, result: &str| json!({"conversation_id":"c","user_id":"u","tool_name":"t","call_id":"x","arguments":n,"result":result});
    assert_calls(&read(Format::OpenAiChat, text, &options()), &[call(1, "one"), call(2, "two")]);
}

#[test]
fn an_answer_without_a_call_is_reported() {
    let text = file(&[
        openai_calls(&[openai_call("a", "t", "{}")]),
        openai_answer("a", "one"),
        openai_answer("a", "again"),
        openai_answer("z", "of nothing"),
        json!({"role": "function", "name": "t", "content": "of nothing"}),
    ]);
    let imported = read(Format::OpenAiChat, text, &options());
    assert_eq!(imported.calls.len(), 1);
    let unmatched: Vec<_> = imported.unmatched.iter().map(|u| (u.place.as_str(), u.call_id.as_deref())).collect();
    assert_eq!(unmatched, [("[2]", Some("a")), ("[3]", Some("z")), ("[4]", None)]);
    assert_eq!(imported.unmatched[1].to_string(), "[3]: answers \"z\", which no open call has");
}

#[test]
fn the_older_function_calls_join_by_name_and_order() {
    let call = |n: &str| json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": n}});
    let answer = |text: &str| json!({"role": "function", "name": "f", "content": text});
    let text = file(&[call("1"), answer("one"), call("2"), answer("two"), call("3")]);
    let record = |n: u64| json!({"conversation_id":"c","user_id":"u","tool_name":"f","arguments":n});
    let mut records = [record(1), record(2), record(3)];
    records[0]["result"] = "one".into();
    records[1]["result"] = "two".into();
    records[2]["outcome"] = "abandoned".into();
    let imported = read(Format::OpenAiChat, text, &options());
    assert_calls(&imported, &records);
    assert_eq!(imported.places[0], "[0].function_call");
}

#[test]
fn calls_without_ids_join_in_order() {
    let call = |n: u64| json!({"function": {"name": "f", "arguments": {"n": n}}});
    let text = file(&[
        openai_calls(&[call(1), call(2)]),
        json!({"role": "tool", "content": "one"}),
        json!({"role": "tool", "content": "two"}),
    ]);
    let record = |n: u64, result: &str| json!({"conversation_id":"c","user_id":"u","tool_name":"f","arguments":{"n": n},"result":result});
    assert_calls(&read(Format::OpenAiChat, text, &options()), &[record(1, "one"), record(2, "two")]);
}

#[test]
fn arguments_and_answers_are_kept_as_they_are_meant() {
    let parts = |texts: &[&str]| texts.iter().map(|t| json!({"type": "text", "text": t})).collect::<Vec<_>>();
    let image = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
    let calls = ["{\"a\":", "", "{\"a\":1,\"a\":2}", "[1]", "7", "{}", "{}", "{}"];
    let answers: [Value; 8] = [
        "Error: no such order".into(),
        "{\"error\": \"gone\"}".into(),
        "299.0".into(),
        parts(&["{\"id\":", "1}"]).into(),
        parts(&["a", "b"]).into(),
        image.clone(),
        Value::Null,
        " {\"broken".into(),
    ];
    let ids: Vec<String> = (0..8).map(|i| i.to_string()).collect();
    let mut messages =
        vec![openai_calls(&ids.iter().zip(calls).map(|(id, a)| openai_call(id, "t", a)).collect::<Vec<_>>())];
    messages.extend(ids.iter().zip(answers).map(|(id, a)| openai_answer(id, a)));
    let custom = json!({"id": "k", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}});
    messages.push(openai_calls(&[custom]));
    let record = |id: usize, arguments: Value| json!({"conversation_id":"c","user_id":"u","tool_name":"t","call_id":id.to_string(),"arguments":arguments});
    let mut records = [
        record(0, "{\"a\":".into()),
        record(1, "".into()),
        // A key that stands twice means nothing certain: the text stays.
        record(2, "{\"a\":1,\"a\":2}".into()),
        record(3, json!([1])),
        record(4, 7.into()),
        record(5, json!({})),
        record(6, json!({})),
        record(7, json!({})),
        json!({"conversation_id":"c","user_id":"u","tool_name":"shell","call_id":"k","arguments":"ls -l","outcome":"abandoned"}),
    ];
    records[0]["error"] = "Error: no such order".into();
    records[1]["result"] = json!({"error": "gone"});
    records[2]["result"] = "299.0".into();
    records[3]["result"] = json!({"id": 1});
    records[4]["result"] = "a\nb".into();
    records[5]["result"] = image;
    records[6]["result"] = Value::Null;
    records[7]["result"] = " {\"broken".into();
    let imported = read(Format::OpenAiChat, file(&messages), &options());
    assert_calls(&imported, &records);
    assert_eq!((imported.tally().failures, imported.tally().abandoned), (2, 1));
}

// ---- anthropic

#[test]
fn blocks_are_calls_and_answers() {
    let text = file(&[
        user(),
        json!({"role": "assistant", "model": "claude-x", "content": [
            {"type": "text", "text": "I look it up."},
            {"type": "tool_use", "id": "a", "name": "find", "input": {"q": "x"}},
            {"type": "tool_use", "id": "b", "name": "charge", "input": {}},
            {"type": "tool_use", "id": "d", "name": "third", "input": {}},
        ]}),
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "b", "is_error": true, "content": "declined"},
            {"type": "tool_result", "tool_use_id": "d", "is_error": true, "content": [{"type": "text", "text": "{\"code\":5}"}]},
            {"type": "tool_result", "tool_use_id": "a", "is_error": false, "content": [{"type": "text", "text": "Errors: none"}]},
        ]}),
        json!({"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "https://example.com/"}]},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "r"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}},
            {"type": "mcp_tool_use", "id": "m", "name": "echo", "server_name": "srv", "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "m", "is_error": false, "content": []},
        ]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "zz"}, {"type": "text", "text": "and now?"}]}),
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "e", "name": "find", "input": {}}]}),
    ]);
    let imported = read(Format::Anthropic, text, &options());
    let base = |tool: &str, id: &str, turn: u64, arguments: Value, key: &str, value: Value| json!({"conversation_id":"c","user_id":"u","tool_name":tool,"turn_number":turn,"call_id":id,"arguments":arguments,key:value});
    let mut records = [
        base("find", "a", 1, json!({"q": "x"}), "result", "Errors: none".into()),
        base("charge", "b", 1, json!({}), "error", "declined".into()),
        base("third", "d", 1, json!({}), "result", json!({"code": 5})),
        base(
            "web_search",
            "s",
            1,
            json!({"query": "q"}),
            "result",
            json!([{"type": "web_search_result", "url": "https://example.com/"}]),
        ),
        base(
            "web_search",
            "s",
            1,
            json!({"query": "r"}),
            "error",
            json!({"type": "unavailable", "message": "web_search_tool_result_error"}),
        ),
        base("echo", "m", 1, json!({}), "result", json!([])),
        base("find", "e", 2, json!({}), "outcome", "abandoned".into()),
    ];
    for record in &mut records[..3] {
        record["model"] = "claude-x".into();
    }
    records[2]["outcome"] = "tool_error".into();
    records[5]["tool_server"] = "srv".into();
    assert_eq!(imported.calls, expected(&records));
    assert_eq!(imported.places[1], "[1].content[2]");
    assert_eq!(imported.unmatched.len(), 1);
    assert_eq!(imported.unmatched[0].place, "[4].content[0]");
    let tally = imported.tally();
    assert_eq!((tally.calls, tally.tools, tally.failures, tally.abandoned), (7, 5, 3, 1));
}

#[test]
fn the_wrong_format_is_recognised() {
    let anthropic = r#"[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"t","input":{}}]}]"#;
    assert_refused(Format::OpenAiChat, anthropic, &options(), "[0].content[0]: \"tool_use\" is no part of openai-chat");
    let openai = file(&[openai_calls(&[openai_call("a", "t", "{}")])]);
    assert_refused(Format::Anthropic, openai, &options(), "[0].tool_calls: is no part of anthropic");
    let answer = file(&[openai_answer("a", "x")]);
    assert_refused(Format::Anthropic, answer, &options(), "[0]: the role \"tool\" is none of user");
}

// ---- conversations

#[test]
fn conversations_and_users_are_found_where_they_stand() {
    let messages = [user(), openai_calls(&[openai_call("a", "t", "{}")]), openai_answer("a", "x")];
    let records = [
        json!({"conversation_id": "conv", "id": "not this", "user_id": "u1", "messages": messages}),
        json!({"id": 17, "user_id": 18, "traj": messages}),
        json!({"task_id": 0, "trial": 3, "info": {"task": {"user_id": "u3"}}, "traj": messages, "model": "m3"}),
        json!({"task_id": "air", "user_id": "u4", "info": {"task": {"user_id": "not this"}}, "messages": messages}),
        json!({"user_id": "u5", "messages": messages}),
    ];
    let as_lines = records.iter().map(|r| format!("{r}\r\n\n")).collect::<String>();
    let as_array = Value::from(&records[..]);
    let pretty = serde_json::to_string_pretty(&as_array).unwrap();
    let with_mark = format!("\u{feff}{as_array}");
    let files = [&as_lines, &as_array.to_string(), &pretty, &with_mark];
    for (text, by_line) in files.into_iter().zip([true, false, false, false]) {
        let imported = read(Format::OpenAiChat, text, &ImportOptions::new());
        let derived = format!("{:?}", imported.calls[4]);
        let derived = derived.split("\"import-").nth(1).unwrap().split('"').next().unwrap();
        assert!(derived.len() == 18 && derived.ends_with("-5"), "{derived}");
        let names = ["conv", "17", "task-0-trial-3", "task-air", &format!("import-{derived}")];
        let users = ["u1", "18", "u3", "u4", "u5"];
        let mut records: Vec<Value> = names.iter().zip(users).map(|(c, u)| {
            json!({"conversation_id":c,"user_id":u,"tool_name":"t","turn_number":1,"call_id":"a","arguments":{},"result":"x"})
        }).collect();
        records[2]["model"] = "m3".into();
        assert_calls(&imported, &records);
        let place = if by_line { "line 5: traj[1].tool_calls[0]" } else { "[2].traj[1].tool_calls[0]" };
        assert_eq!(imported.places[2], place);
    }
    let said = read(Format::OpenAiChat, &as_lines, &options().model("m"));
    assert_eq!(said.tally(), {
        let mut tally = Tally::default();
        (tally.calls, tally.conversations, tally.users, tally.tools) = (5, 1, 1, 1);
        tally
    });
}

#[test]
fn one_conversation_is_an_object_an_array_or_a_message_per_line() {
    for format in FORMATS {
        let call = match format {
            Format::OpenAiChat => openai_calls(&[openai_call("a", "t", "{}")]),
            _ => json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]}),
        };
        let messages = [user(), call];
        let object = serde_json::to_string_pretty(&json!({"messages": messages})).unwrap();
        let lines = format!("{}\n{}", messages[0], messages[1]);
        let record = json!({"conversation_id":"c","user_id":"u","tool_name":"t","turn_number":1,"call_id":"a","arguments":{},"outcome":"abandoned"});
        for text in [object, file(&messages), lines] {
            assert_calls(&read(format, text, &options()), std::slice::from_ref(&record));
        }
        assert_eq!(read(format, "[]", &options()), Imported::default());
        // Nobody has to be named where nothing was called.
        let silent = read(format, file(&messages[..1]), &ImportOptions::new());
        assert_eq!((silent.calls.len(), silent.without_calls), (0, 1));
    }
}

#[test]
fn a_file_is_named_by_its_content_where_it_names_nothing() {
    let text = file(&[openai_calls(&[openai_call("a", "t", "{}")])]);
    let other = file(&[openai_calls(&[openai_call("a", "t", "{ }")])]);
    let options = ImportOptions::new().user("u");
    let once = read(Format::OpenAiChat, &text, &options);
    assert_eq!(once, read(Format::OpenAiChat, &text, &options));
    assert_ne!(once.calls, read(Format::OpenAiChat, other, &options).calls);
}

#[test]
fn times_are_taken_where_there_are_any_and_never_made_up() {
    let cases = [
        (json!({}), json!({}), None),
        (json!({"timestamp": "2025-07-06T16:23:01.5+02:00"}), json!({}), Some("2025-07-06T14:23:01.5Z")),
        (json!({"created_at": 1751811781}), json!({"timestamp": "2020-01-01"}), Some("2025-07-06T14:23:01Z")),
        (json!({"created": 1751811781.25}), json!({}), Some("2025-07-06T14:23:01.25Z")),
        (json!({"timestamp": null}), json!({"created": 1751811781250u64}), Some("2025-07-06T14:23:01.25Z")),
    ];
    for (of_message, of_record, time) in cases {
        let mut message = openai_calls(&[openai_call("a", "t", "{}")]);
        message.as_object_mut().unwrap().extend(of_message.as_object().unwrap().clone());
        let mut record = json!({"messages": [message]});
        record.as_object_mut().unwrap().extend(of_record.as_object().unwrap().clone());
        let mut call = ToolCall::new("c", "u", "t").call_id("a").arguments(json::Object::new());
        if let Some(time) = time {
            call = call.timestamp(time.parse().unwrap());
        }
        let imported = read(Format::OpenAiChat, record.to_string(), &options());
        assert_eq!(imported.calls, [call.outcome(Outcome::Abandoned).backfilled()]);
    }
    for bad in [json!("yesterday"), json!("2025-07-06T14:23:01"), json!(1e300), json!([2025])] {
        let mut message = openai_calls(&[openai_call("a", "t", "{}")]);
        message["timestamp"] = bad;
        assert_refused(Format::OpenAiChat, file(&[user(), message]), &options(), "[1].timestamp: ");
    }
}

#[test]
fn numbers_that_were_restated_are_marked_inside_their_entry() {
    // In every place where a value can come from: the file itself, and JSON inside its strings.
    let openai = r#"[
        {"role":"assistant","tool_calls":[
            {"id":"a","function":{"name":"t","arguments":"{\"amount\":12345678901234567890,\"n\":1}"}},
            {"id":"b","function":{"name":"t","arguments":{"in":[1,{"odd key":1e400}]}}}]},
        {"role":"tool","tool_call_id":"b","content":{"x":0.1234567890123456789}},
        {"role":"tool","tool_call_id":"a","content":"{\"x\":12345678901234567890}"}]"#;
    let anthropic = r#"[
        {"role":"assistant","content":[
            {"type":"tool_use","id":"a","name":"t","input":{"amount":12345678901234567890,"n":1}},
            {"type":"tool_use","id":"b","name":"t","input":{"in":[1,{"odd key":1e400}]},"inputs":9999999999999999999}]},
        {"role":"user","content":[
            {"type":"tool_result","tool_use_id":"b","content":{"x":0.1234567890123456789}},
            {"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"{\"x\":12345678901234567890}"}]}]}]"#;
    let lines = [
        r#"{"conversation_id":"c","user_id":"u","tool_name":"t","call_id":"a","arguments":{"amount":12345678901234567890,"n":1},"result":{"x":12345678901234567890}}"#,
        r#"{"conversation_id":"c","user_id":"u","tool_name":"t","call_id":"b","arguments":{"in":[1,{"odd key":1e400}]},"result":{"x":0.1234567890123456789}}"#,
    ];
    let wanted = lines.map(|line| ToolCall::from_jsonl(line.as_bytes()).unwrap().backfilled());
    // An ordinary space needs no quotes in a path.
    let shown = format!("{:?}", wanted[1]);
    assert!(shown.contains(r#"restated: ["arguments.in[1].odd key", "result.x"]"#), "{shown}");
    assert_eq!(read(Format::OpenAiChat, openai, &options()).calls, wanted);
    assert_eq!(read(Format::Anthropic, anthropic, &options()).calls, wanted);
    assert_eq!(read(Format::Jsonl, lines.join("\n"), &options()).calls, wanted);
}

// ---- jsonl

#[test]
fn lines_of_the_log_s_own_format_take_defaults_and_are_backfilled() {
    let text = "\n{\"tool_name\":\"t\",\"user_id\":\"own\",\"model\":\"own\"}\r\n   \n\
                {\"tool_name\":\"t\",\"conversation_id\":\"own\",\"user_id\":null,\"backfilled\":false}\n";
    let imported = read(Format::Jsonl, text, &options().model("m"));
    let first = ToolCall::new("c", "own", "t").model("own").backfilled();
    let second = ToolCall::new("own", "u", "t").model("m");
    assert_eq!(imported.calls, [first, second]);
    assert_eq!(imported.places, ["line 2", "line 4"]);
    assert_refused(Format::Jsonl, text, &ImportOptions::new(), "line 2: conversation_id is missing");
    let no_user = "{\"tool_name\":\"t\",\"conversation_id\":\"c\"}";
    assert_refused(Format::Jsonl, no_user, &ImportOptions::new(), "line 1: user_id is missing: say it with --user");
    let good = "{\"tool_name\":\"t\"}\n";
    for (bad, message) in [
        ("{\"tool_name\":\"t\",\"colour\":1}", "line 2: colour: is not a member of a call"),
        ("{\"tool_name\":\"\"}", "line 2: tool_name: must not be empty"),
        ("{\"tool_name\":\"t\"", "line 2: ',' or '}' should stand here"),
        ("[]", "line 2: a call is an object, not an array"),
        ("{\"tool_name\":\"t\",\"tool_name\":\"t\"}", "stands twice"),
    ] {
        assert_refused(Format::Jsonl, format!("{good}{bad}\n{good}"), &options(), message);
    }
}

// ---- otlp-json

fn attributes(of: &[(&str, Value)]) -> Value {
    of.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn text(value: &str) -> Value {
    json!({"stringValue": value})
}

fn export(resource: Value, spans: Vec<Value>) -> Value {
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": {}, "spans": spans}]}]})
}

fn span(id: &str, parent: &str, start: u64, of: &[(&str, Value)]) -> Value {
    json!({"traceId": "5b8e", "spanId": id, "parentSpanId": parent, "name": "x", "kind": 1, "attributes": attributes(of),
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 1_500_000).to_string()})
}

const EXECUTE: &str = "gen_ai.operation.name";
const START: u64 = 1_751_811_781_000_000_000;

fn at(offset: i64) -> Timestamp {
    Timestamp::from_nanos(START as i64 + offset)
}

#[test]
fn spans_of_tools_are_calls_and_the_spans_around_them_say_whose() {
    let agent = span(
        "a0",
        "",
        START,
        &[
            (EXECUTE, text("invoke_agent")),
            ("gen_ai.conversation.id", text("conv")),
            ("gen_ai.agent.name", text("helper")),
            ("gen_ai.request.model", text("m1")),
        ],
    );
    let object = json!({"kvlistValue": {"values": [
        {"key": "zone", "value": {"arrayValue": {"values": [{"intValue": "3"}, {"boolValue": true}, {"doubleValue": 0.5}]}}},
        {"key": "amount", "value": {"intValue": "9223372036854775807"}},
    ]}});
    let second = span(
        "a2",
        "a0",
        START + 2,
        &[
            (EXECUTE, text("execute_tool")),
            ("gen_ai.tool.name", text("pay")),
            ("gen_ai.tool.call.id", text("call_2")),
            ("gen_ai.tool.call.arguments", object),
            ("gen_ai.tool.call.result", text("{\"id\": 7}")),
        ],
    );
    let mut first = span(
        "a1",
        "a0",
        START + 1,
        &[
            (EXECUTE, text("execute_tool")),
            ("gen_ai.tool.name", text("find")),
            ("gen_ai.tool.call.arguments", text("{\"q\": 12345678901234567890}")),
            ("error.type", text("HTTP_500")),
            ("user.id", text("own")),
        ],
    );
    first["status"] = json!({"code": 2, "message": "no answer"});
    let resource = attributes(&[("enduser.id", text("u"))]);
    // Children are exported first, the span around them last, and one of them twice.
    let lines = [
        export(resource.clone(), vec![second.clone(), first]),
        export(resource.clone(), vec![second]),
        export(resource, vec![agent]),
    ];
    let imported = read(Format::OtlpJson, lines.map(|l| l.to_string()).join("\n"), &ImportOptions::new());
    let wanted = [
        r#"{"conversation_id":"conv","user_id":"own","tool_name":"find","agent_id":"helper","model":"m1","timestamp":"2025-07-06T14:23:01.000000001Z","duration_ms":1.5,
            "arguments":{"q":12345678901234567890},"error":{"type":"HTTP_500","message":"no answer"},"session_metadata":{"trace_id":"5b8e","span_id":"a1"}}"#,
        r#"{"conversation_id":"conv","user_id":"u","tool_name":"pay","agent_id":"helper","model":"m1","timestamp":"2025-07-06T14:23:01.000000002Z","duration_ms":1.5,"call_id":"call_2",
            "arguments":{"zone":[3,true,0.5],"amount":9223372036854775807},"result":{"id":7},"session_metadata":{"trace_id":"5b8e","span_id":"a2"}}"#,
    ];
    assert_eq!(imported.calls, wanted.map(|line| ToolCall::from_jsonl(line.as_bytes()).unwrap().backfilled()));
    assert_eq!(imported.places[1], "line 1: resourceSpans[0].scopeSpans[0].spans[0]");
}

#[test]
fn what_became_of_a_span_s_call() {
    let ok = json!({"code": 1});
    let failed = json!({"code": "STATUS_CODE_ERROR"});
    let call = |f: fn(ToolCall) -> ToolCall| f(ToolCall::new("trace-5b8e", "u", "t"));
    let result = "gen_ai.tool.call.result";
    let cases = [
        (json!({}), vec![], call(|c| c.outcome(Outcome::Ok))),
        (json!({}), vec![(result, text("Error: none left"))], call(|c| c.error("Error: none left"))),
        (ok.clone(), vec![(result, text("Error: none left"))], call(|c| c.result("Error: none left"))),
        (json!({}), vec![(result, text("fine"))], call(|c| c.result("fine"))),
        (failed.clone(), vec![], call(|c| c.error("unspecified error"))),
        (failed.clone(), vec![(result, text("declined"))], call(|c| c.error("declined"))),
        (ok, vec![("error.type", text("E"))], call(|c| c.typed_error("E", "E"))),
        (
            json!({}),
            vec![("error.type", text("timeout"))],
            call(|c| c.typed_error("timeout", "timeout").outcome(Outcome::Timeout)),
        ),
        (
            json!({"code": 2, "message": "why"}),
            vec![("error.type", text("E")), (result, text("{\"a\":\"b\"}"))],
            call(|c| {
                let value: json::Object = [("a", "b")].into_iter().collect();
                c.result(value).outcome(Outcome::ToolError).metadata("error_type", "E").metadata("error_message", "why")
            }),
        ),
    ];
    for (status, more, wanted) in cases {
        let mut of = vec![(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("t"))];
        of.extend(more);
        let mut span = span("a1", "", START, &of);
        span["status"] = status;
        let imported =
            read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &ImportOptions::new().user("u"));
        let wanted = wanted
            .timestamp(at(0))
            .duration(std::time::Duration::from_micros(1500))
            .metadata("trace_id", "5b8e")
            .metadata("span_id", "a1")
            .backfilled();
        assert_eq!(imported.calls, [wanted]);
    }
    // The exception says why, the span's name which tool; a clock that ran back measured nothing.
    let mut span = span("", "", START, &[("mcp.method.name", text("tools/call"))]);
    span["name"] = "tools/call lookup".into();
    span["traceId"] = "".into();
    span["endTimeUnixNano"] = "5".into();
    span["status"] = failed;
    span["events"] = json!([{"name": "exception", "attributes": attributes(&[("exception.message", text("boom"))])}]);
    let imported = read(Format::OtlpJson, export(json!([]), vec![span]).to_string(), &options().model("m"));
    let wanted = ToolCall::new("c", "u", "lookup").model("m").timestamp(at(0)).error("boom").backfilled();
    assert_eq!(imported.calls, [wanted]);
}

#[test]
fn spans_that_are_no_tools_are_passed_over_and_bad_ones_refused() {
    let chat = span("a", "", START, &[(EXECUTE, text("chat"))]);
    let one = |span: &Value| export(json!([]), vec![span.clone()]).to_string();
    assert_eq!(read(Format::OtlpJson, one(&chat), &ImportOptions::new()), Imported::default());
    let tool = span("a", "a", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.name", text("t"))]);
    let place = "resourceSpans[0].scopeSpans[0].spans[0]";
    assert_refused(Format::OtlpJson, one(&tool), &ImportOptions::new(), &format!("{place}: no user is known"));
    let mut bad = tool.clone();
    bad["attributes"] = attributes(&[(EXECUTE, text("execute_tool"))]);
    let message = format!("{place}: the attribute gen_ai.tool.name is missing");
    assert_refused(Format::OtlpJson, one(&bad), &options(), &message);
    for (value, message) in [
        (json!({"intValue": "x"}), "intValue: must be a 64-bit integer"),
        (json!({"intValue": 1.5}), "intValue: is no attribute's value"),
        (json!({"stringValue": "a", "intValue": 1}), "must have one value, not several"),
        (json!("bare"), "attributes[2].value: must be an attribute's value, an object"),
        (json!({"kvlistValue": {"values": [{"key": "a"}, {"key": "a"}]}}), "the key \"a\" stands twice"),
    ] {
        let mut bad = tool.clone();
        let attribute = json!({"key": "gen_ai.tool.call.arguments", "value": value});
        bad["attributes"].as_array_mut().unwrap().push(attribute);
        assert_refused(Format::OtlpJson, one(&bad), &options(), message);
    }
    let mut bad = tool.clone();
    let again = bad["attributes"][1].clone();
    bad["attributes"].as_array_mut().unwrap().push(again);
    assert_refused(Format::OtlpJson, one(&bad), &options(), "gen_ai.tool.name stands twice, at 1 and 2");
    for (key, value) in [("startTimeUnixNano", json!("soon")), ("status", json!({"code": 9})), ("traceId", json!(5))] {
        let mut bad = tool.clone();
        bad[key] = value;
        assert_refused(Format::OtlpJson, one(&bad), &options(), &format!("{place}.{key}"));
    }
    assert_refused(Format::OtlpJson, "{}", &options(), "the file: resourceSpans is missing");
    assert_refused(Format::OtlpJson, "[1]", &options(), "[0]: must be an object, not a number");
}

// ---- hostile input

#[test]
fn what_is_no_transcript_is_refused_with_its_place() {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: &[(&str, &str)] = &[
        ("", "the text ends where a value should be"),
        ("7", "the file: must be an object, not a number"),
        ("[7]", "[0]: must be an object, not a number"),
        ("[{}]", "[0]: is no message (it has no role) and no conversation"),
        (r#"[{"role":"user","content":"x"},{"messages":[]}]"#, "[0]: is a message, but [1] is a whole conversation"),
        (r#"{"messages":[],"traj":[]}"#, "the file: has both messages and traj"),
        (r#"{"messages":{}}"#, "messages: must be an array, not an object"),
        (r#"{"messages":[[]]}"#, "messages[0]: must be an object, not an array"),
        (r#"{"messages":[{"content":""}]}"#, "messages[0]: role is missing"),
        (r#"{"messages":[{"role":7}]}"#, "messages[0].role: must be a string, not a number"),
        (r#"[{"role":"robot","content":""}]"#, "[0]: the role \"robot\" is none of "),
        (r#"{"messages":[],"messages":[]}"#, "the key \"messages\" stands twice"),
        (&nested, "nested deeper than the limit of 128 levels"),
        ("{\"messages\":[]}\n{\"messages\":[]}\n[]", "line 3: must be an object, not an array"),
        ("{\"messages\":[]}\n{\"messages\":", "line 2: messages: the text ends"),
        (r#"[{"role":"user","content":"\u0000"}]"#, "[0].content: NUL"),
    ];
    for format in FORMATS {
        for (text, message) in cases {
            assert_refused(format, text, &options(), message);
        }
        assert_refused(format, b"[\"\xff\"]", &options(), "not UTF-8");
        let error = import::calls(format, b"[          ]", &options().max_bytes(8)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("12 bytes, more than the limit of 8"), "{error}");
    }
    let calls = |call: &str| format!(r#"[{{"role":"assistant","tool_calls":{call}}}]"#);
    for (call, message) in [
        ("{}", "[0].tool_calls: must be an array"),
        ("[[]]", "[0].tool_calls[0]: function is missing"),
        (r#"[{"type":"robot"}]"#, "[0].tool_calls[0]: the type \"robot\" is none of function, custom"),
        (r#"[{"function":{}}]"#, "[0].tool_calls[0].function: name is missing"),
        (r#"[{"function":{"name":""}}]"#, "[0].tool_calls[0].function.name: must not be empty"),
        (r#"[{"id":7,"function":{"name":"t"}}]"#, "[0].tool_calls[0].id: must be a string, not a number"),
    ] {
        assert_refused(Format::OpenAiChat, calls(call), &options(), message);
    }
    let long = openai_calls(&[openai_call("a", &"t".repeat(70_000), "{}")]);
    assert_refused(Format::OpenAiChat, file(&[long]), &options(), "[0].tool_calls[0]: tool_name: 70000 bytes");
    let of_user = r#"[{"role":"user","tool_calls":[{"function":{"name":"t"}}]}]"#;
    assert_refused(Format::OpenAiChat, of_user, &options(), "[0].tool_calls: only an assistant calls tools");
    for (message, wanted) in [
        (r#"{"role":"assistant"}"#, "[0]: content is missing"),
        (r#"{"role":"assistant","content":[7]}"#, "[0].content[0]: type is missing"),
        (r#"{"role":"assistant","content":[{"type":"tool_use"}]}"#, "[0].content[0]: name is missing"),
        (r#"{"role":"user","content":[{"type":"tool_use","name":"t"}]}"#, "[0].content[0]: only an assistant"),
        (r#"{"role":"user","content":[{"type":"tool_result","is_error":1}]}"#, "[0].content[0].is_error: must be true"),
    ] {
        assert_refused(Format::Anthropic, format!("[{message}]"), &options(), wanted);
    }
}

#[test]
fn a_user_who_is_not_known_is_asked_for() {
    let messages = [user(), openai_calls(&[openai_call("a", "t", "{}")])];
    let nobody = ImportOptions::new();
    let message = "[1]: a tool is called, but no user is known: say it with --user";
    assert_refused(Format::OpenAiChat, file(&messages), &nobody, message);
    let records = json!([{"user_id": "u", "messages": messages}, {"info": {"task": {}}, "messages": messages}]);
    assert_refused(Format::OpenAiChat, records.to_string(), &nobody, "[1]: no user is known");
    let empty = json!({"user_id": "", "messages": messages});
    assert_refused(Format::OpenAiChat, empty.to_string(), &nobody, "user_id: must not be empty");
}

// ---- properties

#[derive(Debug, Clone)]
struct Made {
    id: u8,
    tool: u8,
    arguments: u16,
    /// What the tool said, and where its answer stands among those of the message.
    answer: Option<(u8, u8)>,
}

#[derive(Debug, Clone)]
enum Step {
    User,
    Calls(Vec<Made>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop::option::weighted(0.8, (0u8..4, any::<u8>()));
    let made = (0u8..3, 0u8..2, any::<u16>(), answer).prop_map(|(id, tool, arguments, answer)| Made {
        id,
        tool,
        arguments,
        answer,
    });
    let step = prop_oneof![1 => Just(Step::User), 2 => prop::collection::vec(made, 1..5).prop_map(Step::Calls)];
    prop::collection::vec(step, 0..12).prop_map(|mut steps| {
        for step in &mut steps {
            let Step::Calls(calls) = step else { continue };
            // Calls of one id in one message are told apart by their order alone: it is kept, and no gap is left.
            for i in 1..calls.len() {
                if let Some(before) = calls[..i].iter().rev().find(|c| c.id == calls[i].id).cloned() {
                    calls[i].answer = match (before.answer, calls[i].answer) {
                        (Some((_, earlier)), Some((said, at))) => Some((said, at.max(earlier))),
                        _ => None,
                    };
                }
            }
        }
        steps
    })
}

fn said(kind: u8) -> &'static str {
    ["plain", "{\"id\":1}", "Error: no", "[1,2]"][usize::from(kind)]
}

/// The calls of a message with the answers in the order in which they come.
fn answers(calls: &[Made]) -> Vec<(String, &'static str)> {
    let mut answered: Vec<&Made> = calls.iter().filter(|c| c.answer.is_some()).collect();
    answered.sort_by_key(|c| c.answer.unwrap().1);
    answered.iter().map(|c| (format!("id{}", c.id), said(c.answer.unwrap().0))).collect()
}

fn render(format: Format, steps: &[Step]) -> Value {
    let mut messages = Vec::new();
    for step in steps {
        let Step::Calls(calls) = step else {
            messages.push(user());
            continue;
        };
        let answers = answers(calls);
        if format == Format::OpenAiChat {
            let call =
                |c: &Made| openai_call(&format!("id{}", c.id), &format!("t{}", c.tool), &c.arguments.to_string());
            messages.push(openai_calls(&calls.iter().map(call).collect::<Vec<_>>()));
            messages.extend(answers.iter().map(|(id, said)| openai_answer(id, *said)));
        } else {
            let call = |c: &Made| json!({"type": "tool_use", "id": format!("id{}", c.id), "name": format!("t{}", c.tool), "input": c.arguments});
            messages.push(json!({"role": "assistant", "content": calls.iter().map(call).collect::<Vec<_>>()}));
            let answer =
                |(id, said): &(String, &str)| json!({"type": "tool_result", "tool_use_id": id, "content": said});
            if !answers.is_empty() {
                messages.push(json!({"role": "user", "content": answers.iter().map(answer).collect::<Vec<_>>()}));
            }
        }
        if answers.is_empty() {
            // The user does not wait for ever.
            messages.push(user());
        }
    }
    messages.into()
}

fn calls_of(conversation: usize, steps: &[Step]) -> Vec<ToolCall> {
    let (mut turn, mut calls) = (0, Vec::new());
    for step in steps {
        let Step::Calls(made) = step else {
            turn += 1;
            continue;
        };
        for c in made {
            let mut call = ToolCall::new(format!("conv{conversation}"), "u", format!("t{}", c.tool)).backfilled();
            call = call.call_id(format!("id{}", c.id)).arguments(u32::from(c.arguments));
            if turn > 0 {
                call = call.turn(turn);
            }
            calls.push(match c.answer {
                None => call.outcome(Outcome::Abandoned),
                Some((2, _)) => call.error(said(2)),
                Some((0, _)) => call.result(said(0)),
                Some((kind, _)) => call.result(json::Json::parse(said(kind).as_bytes()).unwrap().value),
            });
        }
        if made.iter().all(|c| c.answer.is_none()) {
            turn += 1;
        }
    }
    calls
}

proptest! {
    #[test]
    fn random_conversations_come_back_as_the_calls_that_were_made(
        conversations in prop::collection::vec(steps(), 1..4),
        by_line: bool,
    ) {
        let wanted: Vec<_> = conversations.iter().enumerate().flat_map(|(i, steps)| calls_of(i, steps)).collect();
        for format in FORMATS {
            let records: Vec<Value> = conversations.iter().enumerate().map(|(i, steps)| {
                json!({"conversation_id": format!("conv{i}"), "user_id": "u", "messages": render(format, steps)})
            }).collect();
            let text = match by_line {
                true => records.iter().map(|r| format!("{r}\n")).collect(),
                false => file(&records),
            };
            let imported = read(format, text, &ImportOptions::new());
            prop_assert_eq!(&imported.unmatched, &[]);
            prop_assert_eq!(&imported.calls, &wanted);
        }
    }

    /// Whatever stands where something else should: an answer or an error, never a panic.
    #[test]
    fn a_damaged_transcript_is_read_or_refused(steps in steps(), cut in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:a-z0-9 ]{0,6}") {
        let trace = export(json!([]), vec![span("a", "b", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.call.arguments", json!({"kvlistValue": {"values": []}}))])]);
        for format in Format::ALL {
            let text = match format {
                Format::OpenAiChat | Format::Anthropic => render(*format, &steps).to_string(),
                Format::OtlpJson => trace.to_string(),
                _ => r#"{"tool_name":"t","arguments":{"a":[1,2]},"result":{"error":"x"}}"#.to_owned(),
            };
            let at = cut.index(text.len() + 1);
            let (before, after) = text.split_at(at);
            let after = after.get(with.len()..).unwrap_or_default();
            if let Err(error) = import::calls(*format, format!("{before}{with}{after}").as_bytes(), &options()) {
                prop_assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge));
            }
        }
    }
}

// ---- real input

#[test]
fn a_real_recording_of_two_hundred_conversations() {
    let shared = std::env::var_os("ATTESTLOG_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), Into::into);
    let path = shared.join("data/tau-bench/gpt-4o-airline.json");
    let Ok(text) = std::fs::read(&path) else {
        eprintln!("SKIPPED a_real_recording_of_two_hundred_conversations: {} is not there", path.display());
        return;
    };
    let imported = read(Format::OpenAiChat, &text, &ImportOptions::new());
    let tally = imported.tally();
    // 200 conversations, in 18 of which the agent called no tool.
    assert_eq!((tally.calls, tally.users, tally.tools), (1164, 34, 14));
    assert_eq!((tally.conversations, tally.without_calls), (182, 18));
    assert_eq!((tally.failures, tally.abandoned), (73, 0));
    assert_eq!(imported.unmatched, []);
    // In this recording each answer follows its call, so an independent reading of it is easy.
    let records: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut wanted = Vec::new();
    for record in &records {
        let conversation = format!("task-{}-trial-{}", record["task_id"], record["trial"]);
        let user = record["info"]["task"]["user_id"].as_str().unwrap();
        let messages = record["traj"].as_array().unwrap();
        let mut turn = 0;
        for pair in messages.windows(2) {
            turn += u64::from(pair[0]["role"] == "user");
            let Some(call) = pair[0].get("tool_calls").map(|calls| &calls[0]) else { continue };
            let function = &call["function"];
            let answer = pair[1]["content"].as_str().unwrap();
            let made = ToolCall::new(&conversation, user, function["name"].as_str().unwrap())
                .arguments(json::Json::parse(function["arguments"].as_str().unwrap().as_bytes()).unwrap().value)
                .call_id(call["id"].as_str().unwrap())
                .turn(turn)
                .backfilled();
            wanted.push(match answer.as_bytes().first() {
                Some(b'{' | b'[') => made.result(json::Json::parse(answer.as_bytes()).unwrap().value),
                Some(b'E') if answer.starts_with("Error") => made.error(answer),
                _ => made.result(answer),
            });
        }
    }
    assert_eq!(imported.calls, wanted);
}

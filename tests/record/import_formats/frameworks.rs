//! Messages and items as APIs and frameworks keep them, known from their shape.

use super::agents::{assert_read, auto, ends, lines};
use super::*;
use attestlog_capture::import::Untaken;

#[test]
fn items_of_the_responses_api_and_the_agents_sdk() {
    let items = json!([
        {"role": "user", "content": "x"},
        {"type": "function_call", "call_id": "c1", "id": "fc_1", "name": "lookup", "arguments": "{\"id\":1}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {"type": "mcp_call", "id": "m1", "server_label": "ehr", "name": "get", "arguments": "{}", "output": "x", "error": null},
        {"type": "mcp_call", "id": "m2", "server_label": "ehr", "name": "get", "arguments": "{}", "output": null, "error": "gone"},
        {"type": "computer_call", "call_id": "c2", "action": {"type": "click", "x": 1}, "status": "completed"},
        {"type": "computer_call_output", "call_id": "c2", "output": {"type": "computer_screenshot"}},
        {"type": "web_search_call", "id": "w1", "status": "completed"},
        {"type": "code_interpreter_call", "id": "i1", "code": "1/0", "outputs": null, "status": "failed"},
        {"type": "file_search_call", "id": "f1", "queries": ["x"], "status": "in_progress"},
    ]);
    let wanted = [
        ("lookup", "c1", "ok"),
        ("get", "m1", "ok"),
        ("get", "m2", "tool_error"),
        ("computer", "c2", "ok"),
        ("web_search", "w1", "ok"),
        ("code_interpreter", "i1", "tool_error"),
        ("file_search", "f1", "abandoned"),
    ];
    let imported = auto(items.to_string());
    assert_read(&imported, Format::OpenAiResponses, &wanted);
    assert_eq!((imported.calls[1].tool_server.as_deref(), imported.calls[0].turn_number), (Some("ehr"), Some(1)));
    let response = json!({"id": "resp_1", "object": "response", "model": "gpt-x", "created_at": 1780000000, "output": items.as_array().unwrap()[1..2]});
    let imported = auto(response.to_string());
    assert_read(&imported, Format::OpenAiResponses, &[("lookup", "c1", "abandoned")]);
    assert_eq!(
        (imported.calls[0].model.as_deref(), imported.calls[0].conversation_id.as_str()),
        (Some("gpt-x"), "resp_1")
    );
    let sdk = json!([
        {"type": "tool_call_item", "agent": {"name": "triage"}, "raw_item": items[1]},
        {"type": "tool_call_output_item", "raw_item": items[2], "output": "ok"},
    ]);
    let imported = auto(sdk.to_string());
    assert_read(&imported, Format::OpenAiResponses, &[("lookup", "c1", "ok")]);
    assert_eq!(imported.calls[0].agent_id.as_deref(), Some("triage"));
}

#[test]
fn blocks_of_bedrock() {
    let messages = json!([
        {"role": "user", "content": [{"text": "x"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {"id": 1}}}, {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}}]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "a", "content": [{"json": {"ok": true}}], "status": "success"}},
            {"toolResult": {"toolUseId": "b", "content": [{"text": "gone"}], "status": "error"}}]},
    ]);
    let imported = auto(json!({"modelId": "m", "messages": messages}).to_string());
    assert_read(&imported, Format::Bedrock, &[("f", "a", "ok"), ("g", "b", "tool_error")]);
    assert_eq!(imported.calls[0].turn_number, Some(1));
}

#[test]
fn messages_of_the_vercel_ai_sdk() {
    let model = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "a", "toolName": "f", "input": {"id": 1}}, {"type": "tool-call", "toolCallId": "b", "toolName": "f", "args": {}}]},
        {"role": "tool", "content": [
            {"type": "tool-result", "toolCallId": "a", "toolName": "f", "output": {"type": "json", "value": {"n": 1}}},
            {"type": "tool-result", "toolCallId": "b", "toolName": "f", "output": {"type": "error-text", "value": "gone"}}]},
    ]);
    assert_read(&auto(model.to_string()), Format::VercelAi, &[("f", "a", "ok"), ("f", "b", "tool_error")]);
    let ui = json!([{"id": "m", "role": "assistant", "parts": [
        {"type": "text", "text": "x"},
        {"type": "tool-look", "toolCallId": "a", "state": "output-available", "input": {"id": 1}, "output": {"n": 1}},
        {"type": "tool-look", "toolCallId": "b", "state": "output-error", "input": {}, "errorText": "gone"},
        {"type": "dynamic-tool", "toolName": "g", "toolCallId": "c", "state": "input-available", "input": {}},
        {"type": "tool-invocation", "toolInvocation": {"state": "result", "toolCallId": "d", "toolName": "h", "args": {}, "result": 7}}]}]);
    let wanted = [("look", "a", "ok"), ("look", "b", "tool_error"), ("g", "c", "abandoned"), ("h", "d", "ok")];
    assert_read(&auto(ui.to_string()), Format::VercelAi, &wanted);
}

/// LangChain keeps a call up to three times in a message: each was one call, or three.
#[test]
fn messages_of_langchain() {
    let ai = json!({"type": "ai", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"id": 1}}],
        "tool_calls": [{"name": "f", "args": {"id": 1}, "id": "c1", "type": "tool_call"}],
        "additional_kwargs": {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        "response_metadata": {"model_name": "gpt-x"}});
    let tool = json!({"type": "tool", "content": "ok", "name": "f", "tool_call_id": "c1", "status": "success"});
    let state = json!({"values": {"messages": [{"type": "human", "content": "x"}, ai, tool]}, "config": {"configurable": {"thread_id": "th-1"}}});
    let imported = auto(state.to_string());
    assert_read(&imported, Format::LangChain, &[("f", "c1", "ok")]);
    assert_eq!(
        (imported.calls[0].model.as_deref(), imported.calls[0].conversation_id.as_str()),
        (Some("gpt-x"), "th-1")
    );
    let dumped = |class: &str, kwargs: &Value| json!({"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", class], "kwargs": kwargs});
    let dumps = json!([dumped("AIMessage", &ai), dumped("ToolMessage", &tool)]);
    assert_read(&auto(dumps.to_string()), Format::LangChain, &[("f", "c1", "ok")]);
    let only = json!([{"role": "assistant", "content": "", "additional_kwargs": {"tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]}}]);
    assert_read(&auto(only.to_string()), Format::LangChain, &[("f", "c1", "abandoned")]);
    let failed = json!([ai, {"type": "tool", "content": "x", "tool_call_id": "c1", "status": "error"}]);
    assert_eq!(ends(&auto(failed.to_string())), [("f", "c1", "tool_error")]);
}

#[test]
fn runs_of_agno() {
    let run = json!({"run_id": "r", "agent_id": "helper", "session_id": "s-1", "user_id": "usr", "model": "gpt-x", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "tool_name": "f", "tool_args": {}, "tool_call_error": true, "content": "gone"}],
        "tools": [{"tool_call_id": "c1", "tool_name": "f", "tool_args": {}, "result": "gone"}]});
    let imported = read(Format::Auto, run.to_string(), &ImportOptions::new());
    assert_read(&imported, Format::Agno, &[("f", "c1", "tool_error")]);
    let call = &imported.calls[0];
    assert_eq!(
        (call.user_id.as_str(), call.conversation_id.as_str(), call.agent_id.as_deref()),
        ("usr", "s-1", Some("helper"))
    );
}

#[test]
fn opentelemetry_s_form_of_messages() {
    let messages = json!([
        {"role": "user", "parts": [{"type": "text", "content": "x"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"id": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "ok"}]},
    ]);
    assert_read(&auto(messages.to_string()), Format::OpenAiChat, &[("f", "c1", "ok")]);
}

#[test]
fn rows_of_logs_hold_what_was_asked_and_what_came() {
    let called = json!({"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let row = json!({"id": "x", "end_user": "usr", "model": "gpt-x", "messages": [{"role": "user", "content": "x"}], "response": {"choices": [{"message": called}]}});
    let imported = read(Format::Auto, row.to_string(), &ImportOptions::new());
    assert_read(&imported, Format::OpenAiChat, &[("f", "c1", "abandoned")]);
    assert_eq!((imported.calls[0].user_id.as_str(), imported.calls[0].model.as_deref()), ("usr", Some("gpt-x")));
    // The role stands beside the message.
    let beside = json!([{"role": "assistant", "message": {"content": [{"type": "tool_use", "name": "Grep", "input": {"pattern": "x"}}]}}]);
    assert_read(&auto(beside.to_string()), Format::Anthropic, &[("Grep", "-", "abandoned")]);
    let plain =
        auto(lines(&[json!({"role": "user", "content": "hello"}), json!({"role": "assistant", "content": "hello"})]));
    assert_eq!((plain.format, plain.calls.len(), plain.without_calls), (Format::OpenAiChat, 0, 1));
}

/// One odd call refused the whole file.
#[test]
fn one_odd_call_costs_nothing_else() {
    let messages = json!([
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"arguments": "{}"}}, {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c2", "content": "ok"},
        {"role": "tool", "tool_call_id": "c9", "content": "to nothing"},
    ]);
    let imported = auto(messages.to_string());
    assert_eq!(ends(&imported), [("f", "c2", "ok")]);
    let mut named: Vec<_> = imported.not_taken.iter().map(|one| (one.place.as_str(), one.kind)).collect();
    named.sort_by_key(|(place, _)| *place);
    assert_eq!(named, [("[0].tool_calls[0]", Untaken::Call), ("[2]", Untaken::Answer)]);
}

/// Times without a zone refused every file of some writers. They say how long a call took, and not when it was made.
#[test]
fn a_time_without_a_zone_is_no_time_and_still_a_distance() {
    let messages = json!([
        {"role": "assistant", "timestamp": "2025-10-31T07:16:44.000", "tool_calls": [{"id": "c1", "name": "f", "arguments": {}, "requestor": "assistant"}]},
        {"role": "tool", "id": "c1", "timestamp": "2025-10-31T07:16:45.500", "content": "ok", "requestor": "assistant", "error": false},
    ]);
    let imported = auto(messages.to_string());
    assert_read(&imported, Format::Tau2, &[("f", "c1", "ok")]);
    let call = &imported.calls[0];
    assert_eq!((call.timestamp, call.duration_ms), (None, Some(1500.0)));
    assert!(format!("{:?}", call.session_metadata).contains("2025-10-31T07:16:44"));
    let utc = read(Format::Auto, messages.to_string(), &ImportOptions::new().user("u").assume_utc(true));
    assert!(utc.calls[0].timestamp.is_some());
}

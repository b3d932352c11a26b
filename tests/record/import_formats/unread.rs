//! Framework output that no reader knows is reported if it has what makes a call: a name, and an input.

use super::*;

/// Pairs of LangChain's `intermediate_steps`, AutoGen's bare calls, Semantic Kernel's items, Gemini's code and LlamaIndex's
/// sources were imported as "0 calls", exit 0.
#[test]
fn a_name_with_what_it_is_given_is_named_as_a_call() {
    let said = |key: &str, value: Value| json!([user(), {"role": "assistant", "content": "", key: value}]);
    let beside = |key: &str, value: Value| json!({"messages": [user()], key: value});
    let calls = [
        beside("intermediate_steps", json!([[{"tool": "f", "tool_input": {"a": 1}, "log": "x"}, "seen"]])),
        beside("actions", json!([{"tool": "f", "tool_input": {}}])),
        beside("sources", json!([{"tool_name": "f", "raw_input": {"a": 1}, "raw_output": "y"}])),
        said("functions_called", json!([{"name": "f"}])),
        said("items", json!([{"$type": "FunctionCallContent", "functionName": "f", "arguments": {}}])),
        said("parts", json!([{"executableCode": {"code": "x"}}])),
        said("steps", json!([{"function": "f", "args": "{}"}])),
        said("steps", json!([{"Tool-Name": "f", "parameters": {"a": 1}}])),
        json!([user(), {"role": "assistant", "content": [{"id": "c", "name": "f", "arguments": "{}"}]}]),
        // These three passed as nothing for longer.
        said("invocations", json!([{"name": "f", "params": {"a": 1}, "output": "r"}])),
        said("calls", json!([{"method": "f", "params": {"a": 1}}])),
        said("extra", json!({"actions": [{"command": "ls", "output": "x"}]})),
    ];
    for text in calls {
        let imported = read(Format::OpenAiChat, text.to_string(), &options());
        let kinds: Vec<_> = imported.not_taken.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [import::Untaken::Call], "{text}: {:?}", imported.not_taken);
    }
    // A model's message to a tool, in the two forms in which such recordings have it.
    let sent = [
        json!([user(), {"role": "assistant", "recipient": "python", "content": "print(1)"}]),
        json!({"mapping": {"a": {"message": {"author": {"role": "assistant"}, "recipient": "python",
            "content": {"content_type": "code", "text": "print(1)"}}}}, "messages": [user()]}),
    ];
    for text in sent {
        let imported = read(Format::OpenAiChat, text.to_string(), &options());
        let why: Vec<_> = imported.not_taken.iter().map(|one| (one.kind, one.why.contains("\"python\""))).collect();
        assert_eq!(why, [(import::Untaken::Call, true)], "{text}: {:?}", imported.not_taken);
    }
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let quiet = [
        beside("offered", json!([{"name": "f", "description": "x", "parameters": schema}])),
        beside("offered", json!([{"type": "function", "function": {"name": "f", "parameters": {}}}])),
        beside("offered", json!([{"name": "f", "input_schema": schema, "input": "example"}])),
        json!({"name": "case 7", "input": "please", "messages": [user()]}),
        json!([{"role": "user", "name": "bob", "content": "please"}]),
        json!([user(), {"role": "assistant", "recipient": "all", "content": "done"}]),
        beside("phone_calls", json!(["to bob"])),
        beside("calls", json!(3)),
        json!({"recipient": "bob", "content": "a letter", "messages": [user()]}),
        // What was expected of the agent, and how it was judged: none of it was called.
        beside("evaluation_criteria", json!({"actions": [{"action_id": "1", "name": "f", "arguments": {"a": 1}}]})),
        beside(
            "reward_info",
            json!({"action_checks": [{"action": {"name": "f", "arguments": {"a": 1}}, "action_match": false}]}),
        ),
        beside("expected_tool_calls", json!([{"name": "f", "arguments": "{}"}])),
    ];
    for text in quiet {
        assert_eq!(read(Format::OpenAiChat, text.to_string(), &options()).not_taken, [], "{text}");
    }
}

/// Attributes in capitals, attributes in a list of attributes, an event with the name of a call, a block of the type `computer_use` and
/// `{"act":…,"act_input":…}` were imported as "0 calls", exit 0, without a word.
#[test]
fn calls_in_other_letters_lists_and_words_are_named() {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = |more: Value| {
        let mut span = json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "x",
            "startTimeUnixNano": "1760000000000000000", "endTimeUnixNano": "1760000001000000000"});
        span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
    };
    let nested = |inner: Value| json!([{"key": "gen_ai", "value": {"kvlistValue": {"values": inner}}}]);
    let spans = [
        span(
            json!({"attributes": [attribute("GEN_AI.OPERATION.NAME", "EXECUTE_TOOL"), attribute("GEN_AI.TOOL.NAME", "rm")]}),
        ),
        span(json!({"attributes": [attribute("genAi.operationName", "executeTool")]})),
        span(
            json!({"attributes": nested(json!([attribute("operation.name", "execute_tool"), attribute("tool.name", "rm")]))}),
        ),
        span(json!({"attributes": nested(
            json!([{"key": "tool", "value": {"kvlistValue": {"values": [attribute("name", "rm")]}}}])
        )})),
        span(
            json!({"events": [{"name": "tool_call", "attributes": [attribute("name", "rm"), attribute("arguments", "{}")]}]}),
        ),
        span(json!({"events": [{"name": "toolUse", "attributes": [attribute("id", "1")]}]})),
        span(
            json!({"events": [{"name": "step", "attributes": [attribute("name", "rm"), attribute("arguments", "{}")]}]}),
        ),
        span(json!({"attributes": [attribute("tool", "rm"), attribute("tool_input", "{}")]})),
    ];
    let said = |block: Value| json!([user(), {"role": "assistant", "content": [block]}]).to_string();
    let chats = [
        said(json!({"type": "computer_use", "id": "1", "payload": {"action": "click"}})),
        said(json!({"type": "browserUse", "id": "1", "payload": {"action": "click"}})),
        json!({"messages": [user()], "trajectory": [{"thought": "x", "act": "bash", "act_input": "rm -rf /"}]})
            .to_string(),
        json!({"messages": [user()], "steps": [{"skill": "bash", "skill-args": ["-rf"]}]}).to_string(),
    ];
    let spans = spans.map(|text| (Format::OtlpJson, text)).into_iter();
    for (format, text) in spans.chain(chats.map(|text| (Format::OpenAiChat, text))) {
        let imported = read(format, text.clone(), &options());
        let kinds: Vec<_> = imported.not_taken.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [import::Untaken::Call], "{text}: {:?}", imported.not_taken);
    }
    let quiet = [
        (Format::OtlpJson, span(json!({"attributes": [attribute("model", "m"), attribute("model_input", "hello")]}))),
        (Format::OtlpJson, span(json!({"events": [{"name": "log", "attributes": [attribute("message", "hello")]}]}))),
        (
            Format::OpenAiChat,
            json!({"messages": [user()], "turns": [{"user": "bob", "user_input": "hello"}]}).to_string(),
        ),
        (Format::OpenAiChat, json!({"messages": [user()], "notes": [{"type": "reuse", "text": "x"}]}).to_string()),
    ];
    for (format, text) in quiet {
        assert_eq!(read(format, text.clone(), &options()).not_taken, [], "{text}");
    }
}

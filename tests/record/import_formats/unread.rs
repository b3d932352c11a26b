//! What a framework writes that no reader knows is named, by what makes a call of it: a name, and what is given to it.

use super::*;

/// Pairs of LangChain's `intermediate_steps`, AutoGen's bare calls, Semantic Kernel's items, Gemini's code and LlamaIndex's sources
/// came in as "0 calls", exit 0.
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
    ];
    for text in calls {
        let imported = read(Format::OpenAiChat, text.to_string(), &options());
        let kinds: Vec<_> = imported.not_taken.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [import::Untaken::Call], "{text}: {:?}", imported.not_taken);
    }
    // A message of a model's that goes to a tool, in the two forms in which such recordings have it.
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
        json!({"recipient": "bob", "content": "a letter", "messages": [user()]}),
        // What was to be expected of the agent, and how it was judged: none of it was called.
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

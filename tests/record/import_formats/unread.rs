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
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let quiet = [
        beside("offered", json!([{"name": "f", "description": "x", "parameters": schema}])),
        beside("offered", json!([{"type": "function", "function": {"name": "f", "parameters": {}}}])),
        beside("offered", json!([{"name": "f", "input_schema": schema, "input": "example"}])),
        json!({"name": "case 7", "input": "please", "messages": [user()]}),
        json!([{"role": "user", "name": "bob", "content": "please"}]),
    ];
    for text in quiet {
        assert_eq!(read(Format::OpenAiChat, text.to_string(), &options()).not_taken, [], "{text}");
    }
}

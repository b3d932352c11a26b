//! Messages of the Anthropic API, and what happens when one format is mistaken for the other.

use super::*;

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
            {"type": "tool_result", "tool_use_id": "a", "is_error": false, "content": [{"type": "text", "text": "Error: none"}]},
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
        base("find", "a", 1, json!({"q": "x"}), "result", "Error: none".into()),
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
    // It reads like an error, and the transcript says that it is not.
    records[0]["outcome"] = "ok".into();
    records[2]["outcome"] = "tool_error".into();
    records[5]["tool_server"] = "srv".into();
    assert_eq!(imported.calls, expected(&records));
    assert_eq!(imported.places[1], "[1].content[2]");
    assert_eq!(imported.not_taken.len(), 1);
    assert_eq!(imported.not_taken[0].place, "[4].content[0]");
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

/// A program put the tool's actual answer beside the short text for the model: members of an answer that no reader knew
/// were in no entry, and no message said so.
#[test]
fn what_stands_beside_an_answer_is_named() {
    let text = file(&[
        user(),
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "find", "input": {}}]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "2 found", "is_error": false,
            "cache_control": {"type": "ephemeral"}, "structured_content": {"ids": [7, 8]}, "note": ""}]}),
    ]);
    let imported = read(Format::Anthropic, text, &options());
    assert_eq!(imported.calls.len(), 1);
    let [named] = &imported.not_taken[..] else { panic!("{:?}", imported.not_taken) };
    assert!(
        named.place.ends_with("structured_content")
            && named.why.contains("of an answer is nothing that anthropic reads"),
        "{named:?}"
    );
}

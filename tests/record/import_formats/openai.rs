//! Messages of the OpenAI chat completions API.

use super::*;

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
    let unmatched: Vec<_> = imported.not_taken.iter().map(|u| (u.place.as_str(), u.call_id.as_deref())).collect();
    assert_eq!(unmatched, [("[2]", Some("a")), ("[3]", Some("z")), ("[4]", None)]);
    assert_eq!(imported.not_taken[1].to_string(), "[3]: answers \"z\", which no open call has");
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
        // A repeated key has no certain meaning: the text is kept.
        record(2, "{\"a\":1,\"a\":2}".into()),
        record(3, json!([1])),
        record(4, 7.into()),
        record(5, json!({})),
        record(6, json!({})),
        record(7, json!({})),
        json!({"conversation_id":"c","user_id":"u","tool_name":"shell","call_id":"k","arguments":"ls -l","outcome":"abandoned"}),
    ];
    records[0]["result"] = "Error: no such order".into();
    records[1]["result"] = json!({"error": "gone"});
    records[2]["result"] = "299.0".into();
    records[3]["result"] = json!({"id": 1});
    records[4]["result"] = "a\nb".into();
    records[5]["result"] = image;
    records[6]["result"] = Value::Null;
    records[7]["result"] = " {\"broken".into();
    let imported = read(Format::OpenAiChat, file(&messages), &options());
    assert_eq!(imported.calls, expected(&records));
    // Text that is almost JSON is kept, and reported.
    let named: Vec<_> = imported.not_taken.iter().map(|one| one.call_id.as_deref()).collect();
    assert_eq!(named, [Some("0"), Some("2")]);
    assert_eq!((imported.tally().failures, imported.tally().abandoned), (2, 1));
}

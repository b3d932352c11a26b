//! What is refused, and the place that the message names.

use super::*;

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
        (r#"{"messages":[],"messages":[]}"#, "the name \"messages\" occurs twice"),
        (&nested, "nested deeper than the limit of 128 levels"),
        ("{\"messages\":[]}\n{\"messages\":[]}\n[]", "line 3: must be an object, not an array"),
    ];
    for format in FORMATS {
        for (text, message) in cases {
            assert_refused(format, text, &options(), message);
        }
        assert_refused(format, b"[\"\xff\"]", &options(), "[0]: must be an object, not a string");
        let error = import::calls(format, b"[          ]", &options().max_bytes(8)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("12 bytes, more than the limit of 8"), "{error}");
    }
    let calls = |call: &str| format!(r#"[{{"role":"assistant","tool_calls":{call}}}]"#);
    for (call, message) in [
        ("{}", "[0].tool_calls: must be an array"),
        ("[[]]", "[0].tool_calls[0]: function is missing"),
        (r#"[{"type":"robot"}]"#, "[0].tool_calls[0]: the type \"robot\" is none of function, custom, tool_call"),
        (r#"[{"function":{}}]"#, "[0].tool_calls[0].function: name is missing"),
        (r#"[{"function":{"name":""}}]"#, "[0].tool_calls[0].function.name: must not be empty"),
        (r#"[{"id":7,"function":{"name":"t"}}]"#, "[0].tool_calls[0].id: must be a string, not a number"),
    ] {
        assert_refused(Format::OpenAiChat, calls(call), &options(), message);
    }
    let long = openai_calls(&[openai_call("a", &"t".repeat(70_000), "{}")]);
    // The fault of one call, which is reported alone.
    let imported = import::calls(Format::OpenAiChat, file(&[long]).as_bytes(), &options()).unwrap();
    let named = imported.not_taken[0].to_string();
    assert!(named.starts_with("[0].tool_calls[0]: tool_name: 70000 bytes"), "{named}");
    let of_user = r#"[{"role":"user","tool_calls":[{"function":{"name":"t"}}]}]"#;
    assert_refused(Format::OpenAiChat, of_user, &options(), "[0].tool_calls: only an assistant calls tools");
    for (message, wanted) in [
        (r#"{"role":"assistant"}"#, "[0]: content is missing"),
        (r#"{"role":"assistant","content":[7]}"#, "[0].content[0]: type is missing"),
        (r#"{"role":"assistant","content":[{"type":"tool_use"}]}"#, "[0].content[0]: name is missing"),
        (r#"{"role":"user","content":[{"type":"tool_use","name":"t"}]}"#, "[0].content[0]: only an assistant"),
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

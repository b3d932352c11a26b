//! Where a file holds its conversations, their users, times and numbers.

use super::*;

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
        assert!(derived.len() == 66 && derived.ends_with("-5"), "{derived}");
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
        let mut nothing = Imported::default();
        nothing.format = format;
        assert_eq!(read(format, "[]", &options()), nothing);
        // No user is needed if nothing was called.
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

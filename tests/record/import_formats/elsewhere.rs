//! Calls that stand where the readers of a format do not look: in rows of other kinds, in events, in a second copy.

use super::agents::{auto, lines};
use super::*;

fn found(imported: &Imported) -> (Vec<(&str, String)>, Vec<(&str, &str)>) {
    let given =
        |call: &ToolCall| call.arguments.as_ref().map(|given| given.to_canonical().to_string()).unwrap_or_default();
    let calls = imported.calls.iter().map(|call| (call.tool_name.as_str(), given(call))).collect();
    (calls, imported.not_taken.iter().map(|one| (one.place.as_str(), one.kind.as_str())).collect())
}

#[track_caller]
fn assert_found(text: &str, calls: &[(&str, &str)], named: &[&str]) {
    let imported = auto(text);
    let wanted: Vec<_> = calls.iter().map(|(tool, given)| (*tool, (*given).to_owned())).collect();
    assert_eq!(found(&imported).0, wanted, "{:?}", imported.not_taken);
    let places: Vec<_> = found(&imported).1.into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, named, "{:?}", imported.not_taken);
}

fn tool_use(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

fn claude(row: &str, message: &str, content: Value) -> Value {
    json!({"type": "assistant", "uuid": row, "sessionId": "s", "timestamp": "2026-01-01T00:00:00Z",
        "message": {"id": message, "role": "assistant", "content": [content]}})
}

fn answered(id: &str) -> Value {
    json!({"type": "user", "uuid": format!("of {id}"), "sessionId": "s", "timestamp": "2026-01-01T00:00:01Z",
        "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "ok"}]}})
}

/// A call in a row of a kind that the reader of Claude Code does not know, or that a permission was refused for, was imported as
/// nothing, exit 0.
#[test]
fn a_call_in_a_row_of_another_kind_is_named() {
    let row = |more: Value| {
        let mut row = json!({"sessionId": "s", "uuid": "x"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lines(&[claude("1", "m", tool_use("t1", "Bash", json!({"command": "ls"}))), answered("t1"), row])
    };
    let hidden = tool_use("h", "rm", json!({"a": 1}));
    let within = |value: &Value| json!({"type": "progress", "data": {"message": {"message": {"content": [value]}}}});
    let calls = [
        within(&hidden),
        json!({"type": "zz", "toolUse": {"name": "x", "input": {"a": 1}}}),
        json!({"type": "zz", "x": [{"name": "x", "arguments": {"a": 1}}]}),
        json!({"type": "zz", "x": {"type": "function_call", "name": "x", "arguments": "{\"a\":2}", "call_id": "q"}}),
        json!({"type": "zz", "run": {"run_type": "tool", "name": "x", "inputs": {"a": 1}}}),
        json!({"type": "result", "permission_denials": [{"tool_name": "Write", "tool_use_id": "tX", "tool_input": {"p": 1}}]}),
        // The id of a call that was made, and another input.
        within(&tool_use("t1", "Bash", json!({"command": "rm -rf /"}))),
    ];
    for call in calls {
        let imported = auto(row(call.clone()));
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (1, 1), "{call}: {:?}", imported.not_taken);
        assert!(imported.not_taken[0].place.starts_with("line 3"), "{:?}", imported.not_taken);
    }
    let quiet = [
        within(&tool_use("t1", "Bash", json!({"command": "ls"}))),
        // Its own file has what a sub-agent did.
        json!({"type": "progress", "data": {"agentId": "a1", "message": {"message": {"content": [hidden]}}}}),
        json!({"type": "progress", "data": {"type": "hook_progress", "hookName": "PostToolUse:Bash"}, "toolUseID": "other"}),
        json!({"type": "result", "permission_denials": [{"tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": "ls"}}]}),
        json!({"type": "system", "subtype": "init", "tools": ["Bash"], "mcp_servers": [{"name": "x", "status": "ok"}]}),
    ];
    for other in quiet {
        let imported = auto(row(other.clone()));
        assert_eq!((imported.calls.len(), imported.not_taken), (1, vec![]), "{other}");
    }
}

/// Of two rows of one message with one id of a call the second was dropped, whatever it said.
#[test]
fn a_message_that_grows_is_one_call_and_another_input_is_named() {
    let call = |row, input: Value| claude(row, "m", tool_use("t", "Bash", input));
    let text = lines(&[
        call("1", json!({})),
        call("2", json!({"command": "l"})),
        call("3", json!({"command": "ls"})),
        answered("t"),
    ]);
    assert_found(&text, &[("Bash", r#"{"command":"ls"}"#)], &[]);
    let text = lines(&[call("1", json!({"command": "ls"})), call("2", json!({"command": "rm"})), answered("t")]);
    assert_found(&text, &[("Bash", r#"{"command":"ls"}"#)], &["line 2: message.content[0]"]);
    let other = claude("2", "m", tool_use("t", "Read", json!({"command": "ls"})));
    let text = lines(&[call("1", json!({"command": "ls"})), other, answered("t")]);
    assert_found(&text, &[("Bash", r#"{"command":"ls"}"#)], &["line 2: message.content[0]"]);
}

/// Rows of OpenHands of another kind, a user's actions and the second of two calls that a model asked for were passed over.
#[test]
fn what_openhands_has_besides_the_agent_s_actions_is_named() {
    let asked = |id: &str| json!({"id": id, "function": {"name": "run", "arguments": "{\"command\":\"ls\"}"}});
    let about = json!({"function_name": "run", "tool_call_id": "a",
        "model_response": {"choices": [{"message": {"tool_calls": [asked("a"), asked("b")]}}]}});
    let text = json!([
        {"id": 1, "source": "agent", "action": "run", "args": {"command": "ls"}, "tool_call_metadata": about},
        {"id": 2, "source": "agent", "observation": "run", "content": "x", "cause": 1, "tool_call_metadata": about},
        {"id": 3, "source": "user", "action": "run", "args": {"command": "rm"}},
        {"id": 4, "x": [tool_use("h", "rm", json!({"a": 1}))]},
        {"id": 5, "source": "user", "action": "message", "args": {"content": "go on"}},
    ]);
    let named = ["[2]", "[3].x[0]", "[0].tool_call_metadata.model_response.choices[0].message.tool_calls[1]"];
    let imported = auto(text.to_string());
    let mut places: Vec<_> = imported.not_taken.iter().map(|one| one.place.as_str()).collect();
    places.sort_unstable_by_key(|place| named.iter().position(|one| one == place));
    assert_eq!((imported.calls.len(), places), (1, named.to_vec()));
}

/// A step of SWE-agent that saw nothing got what the next one saw, and a step that only one of a file's two lists has was lost.
#[test]
fn a_step_has_its_own_observation_and_both_lists_are_compared() {
    let text = json!({"trajectory": [{"action": "a 1"}, {"action": "a 2", "observation": "two"}, {"action": "a 3", "observation": "three"}]});
    let imported = auto(text.to_string());
    let ends: Vec<_> = imported.calls.iter().map(|call| call.result.clone()).collect();
    let said = |text: &str| Some(attestlog::CallResult::Value(json::Json::from(text.to_owned())));
    assert_eq!(ends, [None, said("two"), said("three")]);
    assert_eq!(imported.calls[0].outcome, Some(Outcome::Abandoned));
    let call = json!({"role": "assistant", "agent": "m", "message_type": "action", "content": "", "action": "ls",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}}]});
    let seen =
        json!({"role": "tool", "agent": "m", "message_type": "observation", "content": "x", "tool_call_ids": ["a"]});
    let text = json!({"history": [call, seen], "trajectory": [{"action": "ls", "observation": "x"}, {"action": "rm", "observation": "y"}]});
    assert_found(&text.to_string(), &[("bash", r#"{"command":"ls"}"#)], &["trajectory[1]"]);
}

/// A run of LangSmith that a file has twice, alone and in the run around it, was two calls; and a call that a model asked for and no
/// tool's run made was not named if any tool had run.
#[test]
fn a_run_is_one_call_and_a_call_without_a_run_is_named() {
    let run = |id: &str, kind: &str, more: Value| {
        let mut run = json!({"id": id, "trace_id": "t", "name": "f", "run_type": kind, "inputs": {"a": 1},
            "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01Z"});
        run.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run
    };
    let tool = run("1", "tool", json!({"outputs": {"output": "x"}}));
    let root = run("0", "chain", json!({"child_runs": [tool]}));
    assert_found(&json!([root, tool]).to_string(), &[("f", r#"{"a":1}"#)], &[]);
    let other = run("1", "tool", json!({"inputs": {"a": 2}}));
    assert_found(&json!([tool, other]).to_string(), &[("f", r#"{"a":1}"#)], &["[1]"]);
    let asks = |name: &str| {
        let call = json!({"name": name, "args": {"a": 1}, "id": format!("of {name}")});
        run("2", "llm", json!({"outputs": {"generations": [[{"message": {"kwargs": {"tool_calls": [call]}}}]]}}))
    };
    assert_found(&json!([asks("f"), tool]).to_string(), &[("f", r#"{"a":1}"#)], &[]);
    let place = "[0].outputs.generations[0][0].message.kwargs.tool_calls[0]";
    assert_found(&json!([asks("zz"), tool]).to_string(), &[("f", r#"{"a":1}"#)], &[place]);
}

/// Calls that only events of a rollout, or only its shortened history, tell of were passed over.
#[test]
fn events_of_codex_are_compared_with_its_items() {
    let row =
        |kind: &str, payload: Value| json!({"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload});
    let rollout = |more: Value| {
        let call =
            json!({"type": "function_call", "name": "shell", "arguments": "{\"command\":[\"ls\"]}", "call_id": "c1"});
        let output = json!({"type": "function_call_output", "call_id": "c1", "output": "x"});
        let search = json!({"type": "web_search_call", "status": "completed", "action": {"query": "q"}});
        let meta = row("session_meta", json!({"id": "s"}));
        lines(&[meta, row("response_item", call), row("response_item", output), row("response_item", search), more])
    };
    let event = |kind: &str, id: &str, more: Value| {
        let mut payload = json!({"type": kind, "call_id": id});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row("event_msg", payload)
    };
    let invocation =
        json!({"invocation": {"server": "srv", "tool": "t", "arguments": {"a": 1}}, "result": {"Err": "boom"}});
    let imported = auto(rollout(event("mcp_tool_call_end", "c4", invocation)));
    let call = imported.calls.last().unwrap();
    assert_eq!((imported.calls.len(), imported.not_taken.len()), (3, 0), "{:?}", imported.not_taken);
    assert_eq!(
        (call.tool_name.as_str(), call.tool_server.as_deref(), call.outcome),
        ("t", Some("srv"), Some(Outcome::ToolError))
    );
    let history = |id: &str| json!({"replacement_history": [{"type": "function_call", "name": "f", "arguments": "{\"command\":[\"ls\"]}", "call_id": id}]});
    let named = [
        event("exec_command_end", "c5", json!({"command": ["rm"], "exit_code": 0})),
        event("patch_apply_begin", "c6", json!({"changes": {}})),
        event("view_image_tool_call", "c7", json!({"path": "x"})),
        event("exec_approval_request", "c8", json!({"command": ["rm"]})),
        // Another command than that of its item.
        event("exec_command_end", "c1", json!({"command": ["rm", "-rf", "/"], "exit_code": 0})),
        row("compacted", history("old")),
    ];
    for other in named {
        let imported = auto(rollout(other.clone()));
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (2, 1), "{other}: {:?}", imported.not_taken);
        assert!(imported.not_taken[0].place.starts_with("line 5"), "{:?}", imported.not_taken);
    }
    let quiet = [
        event("exec_command_end", "c1", json!({"command": ["bash", "-lc", "ls"], "exit_code": 0})),
        event("exec_command_end", "mine", json!({"command": ["rm"], "source": "user_shell"})),
        event("web_search_end", "ws_1", json!({"query": "q"})),
        row("compacted", history("c1")),
    ];
    for other in quiet {
        let imported = auto(rollout(other.clone()));
        assert_eq!((imported.calls.len(), imported.not_taken), (2, vec![]), "{other}");
    }
}

/// Of two copies of a call, or of an answer, in one message that say different things one was chosen in silence.
#[test]
fn copies_that_contradict_each_other_are_named() {
    let call = |more: Value| {
        let mut message =
            json!({"role": "assistant", "content": null, "tool_calls": [openai_call("c", "f", "{\"a\":1}")]});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([user(), message, openai_answer("c", "x")])
    };
    let answer = |more: Value| {
        let mut message = openai_answer("c", "x");
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([user(), openai_calls(&[openai_call("c", "f", "{\"a\":1}")]), message])
    };
    let direct = |call: Value| json!([user(), {"role": "assistant", "content": null, "tool_calls": [call]}, openai_answer("c", "x")]);
    let calls = |arguments: &str| json!({"tool_calls": [openai_call("c", "f", arguments)]});
    let named = [
        call(json!({"content": [tool_use("c", "f", json!({"a": 9}))]})),
        call(json!({"additional_kwargs": calls("{\"a\":2}")})),
        call(json!({"additional_kwargs": {"function_call": {"name": "g", "arguments": "{\"a\":1}"}}})),
        direct(json!({"id": "c", "name": "f", "args": {"a": 1}, "input": {"a": 2}})),
        direct(json!({"id": "c", "name": "g", "function": {"name": "f", "arguments": "{}"}})),
        answer(json!({"result": "other"})),
        answer(json!({"output": "other"})),
        answer(json!({"response": {"a": 1}})),
        answer(json!({"data": {"a": 1}})),
        answer(json!({"artifact": {"a": 1}})),
    ];
    for text in named {
        let imported = auto(text.to_string());
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (1, 1), "{text}: {:?}", imported.not_taken);
    }
    let quiet = [
        call(json!({"content": [tool_use("c", "f", json!({"a": 1}))]})),
        call(json!({"additional_kwargs": calls("{\"a\": 1}")})),
        call(json!({"additional_kwargs": {"function_call": {"name": "f", "arguments": "{\"a\":1}"}}})),
        direct(json!({"id": "c", "name": "f", "args": {"a": 1}, "input": "{\"a\":1}"})),
        answer(json!({"result": "x", "output": "", "data": null})),
    ];
    for text in quiet {
        let imported = auto(text.to_string());
        assert_eq!((imported.calls.len(), imported.not_taken), (1, vec![]), "{text}");
    }
}

/// A list of attributes that is a call, a log record named as one, and calls without ids of which a model asked for more than there
/// are spans were passed over.
#[test]
fn calls_in_lists_of_attributes_and_records_are_named() {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let list = |all: Value| json!({"kvlistValue": {"values": all}});
    let tool = |id: &str, name: &str| {
        json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": id, "name": format!("execute_tool {name}"),
            "attributes": [attribute("gen_ai.operation.name", "execute_tool"), attribute("gen_ai.tool.name", name)]})
    };
    let spans = |all: &[Value]| json!({"resourceSpans": [{"scopeSpans": [{"spans": all}]}]}).to_string();
    let with = |value: Value| {
        let other = json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "0af7651916cd43d1", "name": "step",
            "attributes": [{"key": "data", "value": value}]});
        spans(&[tool("0af7651916cd43d2", "f"), other])
    };
    let logs = |record: Value| json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string();
    let pair = || json!([attribute("name", "rm"), attribute("arguments", "{\"a\":1}")]);
    for (text, calls) in [
        (with(list(json!([attribute("tool_name", "rm"), attribute("args", "{}")]))), 1),
        (with(json!({"arrayValue": {"values": [list(pair())]}})), 1),
        (logs(json!({"body": list(pair())})), 0),
        (logs(json!({"eventName": "x.tool_call", "attributes": [attribute("function_name", "rm")]})), 0),
    ] {
        let imported = auto(&text);
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (calls, 1), "{text}: {:?}", imported.not_taken);
    }
    let asks = |names: &[(&str, u64)]| {
        let parts: Vec<_> =
            names.iter().map(|(name, a)| json!({"type": "tool_call", "name": name, "arguments": {"a": a}})).collect();
        let said = json!([{"role": "assistant", "parts": parts}]).to_string();
        let chat = json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "0af7651916cd43d1", "name": "chat",
            "attributes": [attribute("gen_ai.operation.name", "chat"), attribute("gen_ai.output.messages", &said)]});
        auto(spans(&[chat, tool("0af7651916cd43d2", "f")])).not_taken.len()
    };
    assert_eq!([asks(&[("f", 1)]), asks(&[("f", 1), ("h", 2)]), asks(&[("f", 1), ("f", 2), ("f", 3)])], [0, 1, 2]);
}

/// The id of an answer without a call, and the name of an unknown member, were printed as they stood in the file.
#[test]
fn what_is_named_shows_no_secret() {
    let secret = "sk-ant-api03-QWERTYUIOPASDFGHJKLZXCVBNM";
    let imported =
        auto(json!([user(), openai_calls(&[openai_call("c", "f", "{}")]), openai_answer(secret, "x")]).to_string());
    let said = format!("{:?}", imported.not_taken);
    assert!(imported.not_taken.len() == 1 && !said.contains("QWERTYUIOP"), "{said}");
}

/// A request to the Gemini API in its object had no calls; the bare list of its contents did.
#[test]
fn contents_in_a_request_are_read_like_the_bare_list() {
    let contents = json!([{"role": "user", "parts": [{"text": "q"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"b": 1}}}]}]);
    for text in
        [contents.clone(), json!({"contents": contents}), json!({"model": "m", "contents": contents, "tools": []})]
    {
        assert_found(&text.to_string(), &[("f", r#"{"a":1}"#)], &[]);
    }
}

/// What refuses a whole file was not treated like what is only named: a secret in it was printed, and the name of a file in an archive
/// could end a line and begin another.
#[test]
fn what_refuses_a_file_shows_no_secret_and_quotes_names() {
    let secret = "sk-ant-api03-QWERTYUIOPASDFGHJKLZXCVBNM";
    let twice = format!(r#"{{"messages":[{{"role":"user","{secret}":1,"{secret}":2}}]}}"#);
    let timed = json!([{"role": "user", "content": "x", "timestamp": format!("2026-01-01T00:00:00 {secret}")},
        {"role": "assistant", "tool_calls": [openai_call("c", "f", "{}")], "timestamp": format!("2026-01-01T00:00:00 {secret}")}]);
    for (format, text) in
        [(Format::OpenAiChat, twice), (Format::OpenAiChat, timed.to_string()), (Format::Jsonl, secret.to_owned())]
    {
        let said = match import::calls(format, text.as_bytes(), &ImportOptions::new().user("u")) {
            Err(e) => e.to_string(),
            Ok(imported) => format!("{:?}", imported.not_taken),
        };
        assert!(!said.is_empty() && !said.contains("QWERTYUIOP"), "{said}");
    }
    let span = |key: &str| {
        let one = json!({"key": format!("mcp.request.argument.{key}"), "value": {"stringValue": "x"}});
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "0af7651916cd43d1",
            "name": "execute_tool f", "attributes": [one, one, {"key": "user.id", "value": {"stringValue": "u"}}]}]}]}]})
    };
    let said = format!("{}", auto(span("a\nline 7: \u{202e}b").to_string()).not_taken[0]);
    assert!(said.contains("occurs twice") && !said.contains('\n') && !said.contains('\u{202e}'), "{said}");
}

//! The session files that coding agents write: each is known from its content, and its calls come out as the agent made them.
//!
//! None of 16 real files of agents could be imported: every one was refused with a message that did not say what the file was.

use super::*;
use attestlog::CallResult;
use attestlog::entry::{Decision, SourceKind};
use attestlog_capture::import::Untaken;

/// Reads a file of unknown format.
pub(super) fn auto(text: impl AsRef<[u8]>) -> Imported {
    read(Format::Auto, text, &ImportOptions::new().user("u"))
}

pub(super) fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Tool, id, and how the call ended.
pub(super) fn ends(imported: &Imported) -> Vec<(&str, &str, &'static str)> {
    imported
        .calls
        .iter()
        .map(|call| (call.tool_name.as_str(), call.call_id.as_deref().unwrap_or("-"), end(call)))
        .collect()
}

fn end(call: &ToolCall) -> &'static str {
    match (call.outcome, &call.result) {
        (Some(outcome), _) => outcome.as_str(),
        (None, Some(CallResult::Error(_))) => "tool_error",
        (None, Some(CallResult::Value(_))) => "ok",
        (None, None) => "nothing",
    }
}

#[track_caller]
pub(super) fn assert_read(imported: &Imported, format: Format, wanted: &[(&str, &str, &str)]) {
    assert_eq!(imported.format, format);
    assert_eq!(ends(imported), wanted);
    assert_eq!(imported.not_taken, []);
}

fn value(call: &ToolCall) -> String {
    match &call.result {
        Some(CallResult::Value(value)) => value.to_canonical().to_string(),
        other => format!("{other:?}"),
    }
}

fn claude(kind: &str, n: u64, content: Value) -> Value {
    json!({"type": kind, "uuid": format!("row-{n}"), "sessionId": "sess-1", "version": "2.0.1", "isSidechain": false, "promptId": "p-1",
        "timestamp": format!("2026-02-10T17:00:{n:02}.000Z"),
        "message": {"id": format!("m-{n}"), "role": kind, "model": "claude-x", "content": content}})
}

#[test]
fn a_session_of_claude_code() {
    let use_of =
        |id: &str, name: &str, input: Value| json!([{"type": "tool_use", "id": id, "name": name, "input": input}]);
    let result = |id: &str, text: &str, failed: bool| json!([{"type": "tool_result", "tool_use_id": id, "content": text, "is_error": failed}]);
    let mut denied = claude("user", 6, result("t3", "no", true));
    denied["toolDenialKind"] = "permission-rule".into();
    denied["permissionDecision"] = json!({"decision": "reject", "source": "config"});
    let rows = [
        json!({"type": "summary", "summary": "x", "leafUuid": "row-9"}),
        claude("user", 0, "list it".into()),
        claude("assistant", 1, use_of("t1", "Bash", json!({"command": "ls"}))),
        claude("assistant", 2, use_of("t2", "Read", json!({"file_path": "/a"}))),
        claude("user", 3, result("t1", "a", false)),
        claude("user", 4, result("t2", "no such file", true)),
        claude("assistant", 5, use_of("t3", "mcp__ehr__get", json!({}))),
        denied,
        // The same row again, and a request that repeats what was said.
        claude("assistant", 5, use_of("t3", "mcp__ehr__get", json!({}))),
        json!({"type": "api-request-blob", "sessionId": "sess-1", "message": {"role": "user", "content": result("t1", "a", false)}}),
        claude("assistant", 7, use_of("t4", "Bash", json!({}))),
    ];
    let imported = auto(lines(&rows));
    let wanted = [
        ("Bash", "t1", "ok"),
        ("Read", "t2", "tool_error"),
        ("mcp__ehr__get", "t3", "denied"),
        ("Bash", "t4", "abandoned"),
    ];
    assert_read(&imported, Format::ClaudeCode, &wanted);
    let [first, second, third, _] = &imported.calls[..] else { panic!() };
    assert_eq!(
        (first.conversation_id.as_str(), first.turn_number, first.duration_ms),
        ("sess-1", Some(1), Some(2000.0))
    );
    assert_eq!((first.model.as_deref(), value(first).as_str()), (Some("claude-x"), "\"a\""));
    assert_eq!(first.circumstances.prompt_id.as_deref(), Some("p-1"));
    let source = &first.circumstances.sources[0];
    assert_eq!(
        (source.kind, source.program.as_deref(), source.version.as_deref()),
        (SourceKind::Import, Some("claude-code"), Some("2.0.1"))
    );
    assert_eq!(second.circumstances.resources[0].name, "/a");
    assert_eq!(third.tool_server.as_deref(), Some("ehr"));
    assert_eq!(third.circumstances.approval.as_ref().map(|of| of.decision), Some(Decision::Denied));
    assert_eq!(imported.places[0], "line 3: message.content[0]");
}

/// A sub-agent's file names its session, not the call that started it; that is in the file beside it.
#[test]
fn a_sub_agent_of_claude_code_has_its_parent() {
    let mut rows = [
        claude("assistant", 1, json!([{"type": "tool_use", "id": "s1", "name": "Bash", "input": {}}])),
        claude(
            "user",
            2,
            json!([{"type": "tool_result", "tool_use_id": "s1", "content": [{"type": "text", "text": "x"}]}]),
        ),
    ];
    for row in &mut rows {
        row["isSidechain"] = true.into();
        row["agentId"] = "a1".into();
    }
    let options = ImportOptions::new().user("u").beside(br#"{"agentType":"general","toolUseId":"t9"}"#);
    let imported = read(Format::Auto, lines(&rows), &options);
    assert_read(&imported, Format::ClaudeCode, &[("Bash", "s1", "ok")]);
    let call = &imported.calls[0];
    assert_eq!((call.agent_id.as_deref(), call.circumstances.parent_call_id.as_deref()), (Some("a1"), Some("t9")));
    rows[0].as_object_mut().unwrap().remove("agentId");
    let shown = format!("{:?}", auto(lines(&rows)).calls[0].session_metadata);
    assert!(shown.contains("sidechain"), "{shown}");
}

/// What is printed with `--output-format stream-json` has the session's id in another spelling and no times.
#[test]
fn what_claude_code_prints() {
    let rows = [
        json!({"type": "system", "subtype": "init", "session_id": "sess-2", "tools": ["Bash"]}),
        json!({"type": "assistant", "session_id": "sess-2", "parent_tool_use_id": "t0", "message": {"id": "m", "role": "assistant", "model": "c",
            "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]}}),
        json!({"type": "user", "session_id": "sess-2", "parent_tool_use_id": "t0", "message": {"role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a"}]}, "tool_use_result": {"stdout": "a"}}),
        json!({"type": "result", "session_id": "sess-2", "result": "done"}),
    ];
    let imported = auto(lines(&rows));
    assert_read(&imported, Format::ClaudeCode, &[("Bash", "t1", "ok")]);
    assert_eq!(imported.calls[0].circumstances.parent_call_id.as_deref(), Some("t0"));
    assert_eq!(imported.calls[0].timestamp, None);
}

fn codex(n: u64, kind: &str, payload: Value) -> Value {
    json!({"timestamp": format!("2026-07-08T03:20:{n:02}.000Z"), "type": kind, "payload": payload})
}

#[test]
fn a_rollout_of_codex() {
    let rows = [
        codex(
            0,
            "session_meta",
            json!({"id": "th-2", "cli_version": "0.146.0", "source": {"subagent": {"thread_spawn": {"parent_thread_id": "th-1"}}}}),
        ),
        codex(0, "turn_context", json!({"model": "gpt-x", "turn_id": "turn-1"})),
        codex(
            1,
            "response_item",
            json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]}),
        ),
        codex(
            2,
            "response_item",
            json!({"type": "function_call", "name": "shell", "arguments": "{\"command\":[\"ls\"]}", "call_id": "c1"}),
        ),
        codex(
            3,
            "event_msg",
            json!({"type": "exec_command_end", "call_id": "c1", "exit_code": 2, "duration": {"secs": 1, "nanos": 500000000}}),
        ),
        codex(
            4,
            "response_item",
            json!({"type": "function_call_output", "call_id": "c1", "output": "{\"output\":\"a\",\"metadata\":{\"exit_code\":2}}"}),
        ),
        codex(
            5,
            "response_item",
            json!({"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"}),
        ),
        codex(
            6,
            "response_item",
            json!({"type": "custom_tool_call_output", "call_id": "c2", "output": "Exit code: 1\nOutput:\nfailed"}),
        ),
        codex(
            7,
            "response_item",
            json!({"type": "local_shell_call", "call_id": "c3", "status": "completed", "action": {"type": "exec", "command": ["ls"]}}),
        ),
        codex(
            8,
            "response_item",
            json!({"type": "function_call_output", "call_id": "c3", "output": "Wall time: 1\nProcess exited with code 0\nOutput:\nx"}),
        ),
        codex(
            9,
            "response_item",
            json!({"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}),
        ),
        codex(
            10,
            "response_item",
            json!({"type": "function_call", "name": "get", "namespace": "mcp__ehr", "arguments": "{}", "call_id": "c4"}),
        ),
        codex(
            11,
            "event_msg",
            json!({"type": "item_completed", "item": {"type": "McpToolCall", "id": "c4", "status": "failed", "result": {"isError": true}}}),
        ),
        codex(
            12,
            "response_item",
            json!({"type": "function_call_output", "call_id": "c4", "output": [{"type": "input_text", "text": "boom"}]}),
        ),
        codex(13, "response_item", json!({"type": "function_call", "name": "odd", "arguments": "{}", "call_id": "c5"})),
        codex(
            14,
            "response_item",
            json!({"type": "function_call_output", "call_id": "c5", "output": "unsupported call: odd"}),
        ),
    ];
    let imported = auto(lines(&rows));
    let wanted = [
        ("shell", "c1", "tool_error"),
        ("apply_patch", "c2", "tool_error"),
        ("local_shell", "c3", "ok"),
        ("web_search", "-", "ok"),
        ("get", "c4", "tool_error"),
        ("odd", "c5", "protocol_error"),
    ];
    assert_read(&imported, Format::Codex, &wanted);
    let first = &imported.calls[0];
    assert_eq!(
        (first.conversation_id.as_str(), first.model.as_deref(), first.turn_number),
        ("th-2", Some("gpt-x"), Some(1))
    );
    assert_eq!((first.duration_ms, first.circumstances.parent_agent_id.as_deref()), (Some(1500.0), Some("th-1")));
    assert_eq!(first.circumstances.prompt_id.as_deref(), Some("turn-1"));
    assert_eq!(imported.calls[4].tool_server.as_deref(), Some("ehr"));
    assert_eq!(imported.calls[1].arguments.as_ref().and_then(|value| value.as_str()), Some("*** Begin Patch"));
}

#[test]
fn what_codex_prints() {
    let item = |kind: &str, item: Value| json!({"type": kind, "item": item});
    let run = |status: &str, code: Value| json!({"id": "i1", "type": "command_execution", "command": "ls", "aggregated_output": "a", "exit_code": code, "status": status});
    let rows = [
        json!({"type": "thread.started", "thread_id": "th-9"}),
        item("item.started", run("in_progress", Value::Null)),
        item("item.completed", run("failed", 3.into())),
        item(
            "item.completed",
            json!({"id": "i2", "type": "mcp_tool_call", "server": "ehr", "tool": "get", "arguments": {"id": 1},
            "result": {"content": [{"type": "text", "text": "x"}]}, "error": null, "status": "completed"}),
        ),
        json!({"type": "turn.completed", "usage": {}}),
    ];
    let imported = auto(lines(&rows));
    assert_read(&imported, Format::Codex, &[("command_execution", "i1", "tool_error"), ("get", "i2", "ok")]);
    assert_eq!(
        (imported.calls[1].tool_server.as_deref(), imported.calls[0].conversation_id.as_str()),
        (Some("ehr"), "th-9")
    );
}

/// A row of the Gemini CLI comes again when it has grown: the calls of the first copy were lost, or every call counted twice.
#[test]
fn a_session_of_the_gemini_cli() {
    let call = |id: &str, status: &str, response: Value| {
        json!({"id": id, "name": "read_file", "args": {"file_path": "/a"}, "status": status, "timestamp": "2026-11-29T01:16:02Z",
            "result": [{"functionResponse": {"id": id, "name": "read_file", "response": response}}]})
    };
    let message = |calls: Value| json!({"id": "g1", "type": "gemini", "timestamp": "2026-11-29T01:16:00Z", "content": "", "model": "gemini-x", "toolCalls": calls});
    let calls = json!([
        call("a", "success", json!({"output": "text"})),
        call("b", "error", json!({"error": "gone"})),
        call("c", "cancelled", json!({"error": "no"}))
    ]);
    let bare =
        json!({"id": "g1", "type": "gemini", "timestamp": "2026-11-29T01:16:00Z", "content": "", "model": "gemini-x"});
    let rows = [
        json!({"sessionId": "s-g", "projectHash": "h", "startTime": "2026-11-29T01:15:59Z", "kind": "main"}),
        json!({"$set": {"lastUpdated": "2026-11-29T01:15:59Z"}}),
        json!({"id": "u1", "type": "user", "timestamp": "2026-11-29T01:15:59Z", "content": [{"text": "do it"}]}),
        bare,
        message(json!([call("a", "success", json!({"output": "text"}))])),
        message(calls.clone()),
        json!({"id": "u2", "type": "user", "content": [{"functionResponse": {"id": "a", "name": "read_file", "response": {"output": "text"}}}]}),
    ];
    let wanted = [("read_file", "a", "ok"), ("read_file", "b", "tool_error"), ("read_file", "c", "denied")];
    let whole = json!({"sessionId": "s-g", "projectHash": "h", "messages": [rows[2], message(calls)]}).to_string();
    for text in [lines(&rows), whole] {
        let imported = auto(text);
        assert_read(&imported, Format::Gemini, &wanted);
        let first = &imported.calls[0];
        assert_eq!(
            (first.conversation_id.as_str(), first.model.as_deref(), first.turn_number),
            ("s-g", Some("gemini-x"), Some(1))
        );
        assert_eq!((first.duration_ms, value(first).as_str()), (Some(2000.0), "\"text\""));
    }
    let contents = json!([
        {"role": "user", "parts": [{"text": "do it"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": 2}}}]},
    ]);
    assert_read(&auto(contents.to_string()), Format::Gemini, &[("f", "-", "ok")]);
}

#[test]
fn a_session_of_opencode() {
    let part = |id: &str, state: Value| json!({"id": format!("prt_{id}"), "type": "tool", "tool": "bash", "callID": id, "sessionID": "ses_2", "messageID": "m2", "state": state});
    let done = |exit: u64| json!({"status": "completed", "input": {"command": "ls"}, "output": "a", "metadata": {"exit": exit}, "time": {"start": 1795915675677u64, "end": 1795915675987u64}});
    let failed = |why: &str| json!({"status": "error", "input": {}, "error": why, "time": {"start": 1795915675677u64, "end": 1795915675987u64}});
    let parts = [
        part("a", done(0)),
        part("b", done(3)),
        part("c", failed("gone")),
        part("d", failed("The user rejected permission to use this specific tool call.")),
        part("e", json!({"status": "running", "input": {}, "time": {"start": 1795915675677u64}})),
    ];
    let export = json!({
        "info": {"id": "ses_2", "parentID": "ses_1", "title": "x", "directory": "/w"},
        "messages": [
            {"info": {"id": "m1", "sessionID": "ses_2", "role": "user", "time": {"created": 1795915675000u64}}, "parts": [{"type": "text", "text": "do it"}]},
            {"info": {"id": "m2", "sessionID": "ses_2", "role": "assistant", "modelID": "claude-x", "parentID": "m1"}, "parts": parts},
        ],
    });
    let imported = auto(export.to_string());
    let wanted = [
        ("bash", "a", "ok"),
        ("bash", "b", "tool_error"),
        ("bash", "c", "tool_error"),
        ("bash", "d", "denied"),
        ("bash", "e", "abandoned"),
    ];
    assert_read(&imported, Format::OpenCode, &wanted);
    let first = &imported.calls[0];
    assert_eq!(
        (first.model.as_deref(), first.turn_number, first.duration_ms),
        (Some("claude-x"), Some(1), Some(310.0))
    );
    assert_eq!(first.circumstances.parent_agent_id.as_deref(), Some("ses_1"));
    let printed: Vec<Value> = parts
        .iter()
        .map(|part| json!({"type": "tool_use", "timestamp": 1795915679109u64, "sessionID": "ses_2", "part": part}))
        .collect();
    assert_read(&auto(lines(&printed)), Format::OpenCode, &wanted);
    // The rows of its storage one after another, messages after their parts.
    let asked = json!({"id": "m1", "sessionID": "ses_2", "role": "user", "time": {"created": 1795915675000u64}});
    let made = json!({"id": "m2", "sessionID": "ses_2", "role": "assistant", "modelID": "claude-x", "parentID": "m1", "time": {"created": 1795915675100u64}});
    let rows = [&[json!({"id": "p", "worktree": "/w", "time": {"created": 1}}), asked][..], &parts, &[made]].concat();
    let text: String = rows.iter().map(|row| serde_json::to_string_pretty(row).unwrap() + "\n").collect();
    let imported = auto(text);
    assert_read(&imported, Format::OpenCode, &wanted);
    let first = &imported.calls[0];
    assert_eq!(
        (first.model.as_deref(), first.turn_number, first.circumstances.prompt_id.as_deref()),
        (Some("claude-x"), Some(1), Some("m1"))
    );
}

/// A file that grows is imported again and again: only what is new is recorded, and an answer that came later is an answer.
#[test]
fn a_session_that_grows_is_recorded_once() {
    let log = attestlog::AuditLog::in_memory().unwrap();
    let rows = [
        codex(0, "session_meta", json!({"id": "th"})),
        codex(
            2,
            "response_item",
            json!({"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"}),
        ),
        codex(4, "response_item", json!({"type": "function_call_output", "call_id": "c1", "output": "a"})),
        codex(
            5,
            "response_item",
            json!({"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c2"}),
        ),
    ];
    let put = |rows: &[Value]| {
        let recorded = import::record(&log, auto(lines(rows)), false, |_| ()).unwrap();
        assert_eq!(recorded.not_taken, []);
        (recorded.receipts.len(), recorded.repeated, recorded.answers.len())
    };
    assert_eq!(put(&rows[..2]), (1, 0, 0));
    assert_eq!(put(&rows[..3]), (0, 1, 1));
    assert_eq!(put(&rows), (1, 1, 0));
    assert_eq!(put(&rows), (0, 2, 0));
}

/// What an agent's hooks were given is no session; whatever looks like a call in it is named, and never passed over.
#[test]
fn what_is_no_session_is_named() {
    let hook = json!({"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Bash", "tool_input": {"command": "ls"}});
    let imported = auto(lines(&[hook.clone(), hook]));
    assert_eq!((imported.format, imported.calls.len()), (Format::Auto, 0));
    let kinds: Vec<Untaken> = imported.not_taken.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Untaken::Call, Untaken::Call]);
    let settings = auto(r#"{"permissions":{"allow":["Bash"]},"model":"x"}"#);
    assert_eq!((settings.format, settings.without_calls), (Format::Auto, 1));
    assert_eq!(settings.not_taken, []);
}

/// `--format anthropic` on a session of Claude Code said that it looked like one of OpenAI's, and `--format openai-chat` the reverse.
#[test]
fn a_wrong_format_is_told_the_right_one() {
    let session =
        lines(&[claude("assistant", 1, json!([{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]))]);
    for format in [Format::OpenAiChat, Format::Anthropic] {
        assert_refused(
            format,
            &session,
            &options(),
            "a session of Claude Code: say --format claude-code, or leave --format out",
        );
    }
    // One row that is torn costs nothing else.
    let torn = auto(format!("{session}{{\"type\":\"assis"));
    assert_eq!((torn.calls.len(), torn.not_taken[0].place.as_str()), (1, "line 2"));
}

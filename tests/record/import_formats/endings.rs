//! How a call ended is never told falsely: a failure, a refusal, or an ending that nobody told of is no success.

use super::agents::{auto, ends, lines};
use super::*;
use attestlog::entry::Decision;

/// How the only call of a file ended.
#[track_caller]
fn ending(text: &str) -> &'static str {
    let imported = auto(text);
    assert_eq!(imported.calls.len(), 1, "{text}");
    ends(&imported)[0].2
}

/// Puts a member into the object at this place.
fn with(file: &Value, place: &str, name: &str, value: Value) -> String {
    let mut file = file.clone();
    file.pointer_mut(place).expect(place)[name] = value;
    file.to_string()
}

/// A file of each format with one call that went well, and the places in it where a writer may say how the call ended.
fn formats() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let chat = json!({"messages": [
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "x"}]});
    let anthropic = json!({"messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "t", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}]}]});
    let responses = json!([
        {"type": "function_call", "call_id": "c1", "name": "t", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"}]);
    let bedrock = json!({"messages": [
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "t", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "x"}]}}]}]});
    let langchain = json!([
        {"type": "ai", "content": "", "tool_calls": [{"name": "t", "args": {}, "id": "c1", "type": "tool_call"}]},
        {"type": "tool", "content": "x", "tool_call_id": "c1", "additional_kwargs": {}}]);
    let langsmith = json!([{"id": "r1", "run_type": "tool", "name": "t", "trace_id": "T", "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:01Z", "inputs": {"input": "x"}, "outputs": {"output": "Y"}}]);
    let vercel = json!([{"role": "assistant", "parts": [{"type": "tool-t", "toolCallId": "c1", "state": "output-available", "input": {}, "output": "x"}]}]);
    let opencode = json!({"type": "tool_use", "sessionID": "s", "part": {"type": "tool", "tool": "t", "callID": "c1", "id": "p", "sessionID": "s",
        "state": {"status": "completed", "input": {}, "output": "x", "metadata": {}, "time": {"start": 1795915675677u64, "end": 1795915675987u64}}}});
    let gemini = json!({"sessionId": "s", "projectHash": "h", "messages": [{"id": "g", "type": "gemini", "content": "", "toolCalls": [
        {"id": "c1", "name": "t", "args": {}, "status": "success",
         "result": [{"functionResponse": {"id": "c1", "name": "t", "response": {"output": "x"}}}]}]}]});
    let openhands = json!([
        {"id": 1, "action": "run", "args": {"command": "ls"}, "source": "agent",
         "tool_call_metadata": {"tool_call_id": "c1", "function_name": "execute_bash"}},
        {"id": 2, "observation": "run", "content": "x", "cause": 1, "extras": {"metadata": {}},
         "tool_call_metadata": {"tool_call_id": "c1", "function_name": "execute_bash"}}]);
    let atif = json!({"schema_version": "ATIF-v1.4", "session_id": "s", "agent": {"name": "a", "version": "1"}, "steps": [
        {"step_id": 1, "source": "agent", "message": "", "tool_calls": [{"tool_call_id": "c1", "function_name": "t", "arguments": {}}],
         "observation": {"results": [{"source_call_id": "c1", "content": "x", "extra": {}}]}}]});
    vec![
        ("openai-chat", chat, vec!["/messages/0/tool_calls/0", "/messages/1"]),
        ("anthropic", anthropic, vec!["/messages/0/content/0", "/messages/1/content/0"]),
        ("openai-responses", responses, vec!["/0", "/1"]),
        ("bedrock", bedrock, vec!["/messages/0/content/0/toolUse", "/messages/1/content/0/toolResult"]),
        ("langchain", langchain, vec!["/0/tool_calls/0", "/1", "/1/additional_kwargs"]),
        ("langsmith", langsmith, vec!["/0"]),
        ("vercel-ai", vercel, vec!["/0/parts/0"]),
        ("opencode", opencode, vec!["/part/state"]),
        ("gemini", gemini, vec!["/messages/0/toolCalls/0", "/messages/0/toolCalls/0/result/0/functionResponse"]),
        ("openhands", openhands, vec!["/1", "/1/extras", "/1/extras/metadata"]),
        (
            "atif",
            atif,
            vec!["/steps/0/tool_calls/0", "/steps/0/observation/results/0", "/steps/0/observation/results/0/extra"],
        ),
    ]
}

/// An error in a call's own object, an exit code beside an answer, a status of a run: each was `ok` in some format, and nothing was said.
#[test]
fn a_sign_of_failure_counts_wherever_a_format_may_have_it() {
    for (format, file, places) in formats() {
        assert_eq!(ending(&file.to_string()), "ok", "{format}");
        for place in places {
            for (name, value) in
                [("error", json!("permission denied")), ("exit_code", json!(3)), ("isError", json!(true))]
            {
                assert_eq!(ending(&with(&file, place, name, value)), "tool_error", "{format} {place} {name}");
            }
        }
    }
    for (format, place, value, wanted) in [
        ("openai-chat", "/messages/0/tool_calls/0", "failed", "tool_error"),
        ("openai-chat", "/messages/1", "denied", "denied"),
        ("openai-responses", "/1", "failed", "tool_error"),
        ("langsmith", "/0", "error", "tool_error"),
        ("bedrock", "/messages/1/content/0/toolResult", "error", "tool_error"),
    ] {
        let (_, file, _) = formats().into_iter().find(|(name, ..)| *name == format).unwrap();
        assert_eq!(ending(&with(&file, place, "status", value.into())), wanted, "{format} {place}");
    }
}

/// What a provider's shell and a server tool of Anthropic say of their programs' exit codes was passed over.
#[test]
fn exit_codes_of_providers_tools_count() {
    let shell = |outcome: Value| {
        json!([{"type": "shell_call", "call_id": "sc", "action": {"commands": ["x"]}, "status": "completed"},
            {"type": "shell_call_output", "call_id": "sc", "output": [
                {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}, {"stdout": "", "stderr": "no", "outcome": outcome}]}])
        .to_string()
    };
    assert_eq!(ending(&shell(json!({"type": "exit", "exit_code": 0}))), "ok");
    assert_eq!(ending(&shell(json!({"type": "exit", "exit_code": 2}))), "tool_error");
    assert_eq!(ending(&shell(json!({"type": "timeout"}))), "timeout");
    let anthropic = |code: u64| {
        json!({"messages": [{"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s2", "name": "bash_code_execution", "input": {"command": "x"}},
            {"type": "bash_code_execution_tool_result", "tool_use_id": "s2",
             "content": {"type": "bash_code_execution_result", "stdout": "", "stderr": "e", "return_code": code, "content": []}}]}]})
        .to_string()
    };
    for format in [Format::Auto, Format::Anthropic] {
        for (code, failures) in [(0, 0), (1, 1)] {
            assert_eq!(read(format, anthropic(code), &options()).tally().failures, failures, "{format} {code}");
        }
    }
    let refused = json!([{"role": "assistant", "parts": [{"type": "tool-t", "toolCallId": "c1", "state": "approval-responded", "input": {},
        "approval": {"id": "a", "approved": false}}]}]);
    assert_eq!(ending(&refused.to_string()), "denied");
}

/// Of two copies of what a tool was given, or said, the first was empty: it was taken, and the other was lost without a word.
#[test]
fn an_empty_first_copy_does_not_hide_the_second() {
    let fill = |format: &str, empty: Option<(&str, &str, Value)>, place: &str, name: &str, value: Value| {
        let (_, mut file, _) = formats().into_iter().find(|(own, ..)| *own == format).unwrap();
        if let Some((place, name, value)) = empty {
            file.pointer_mut(place).unwrap()[name] = value;
        }
        auto(with(&file, place, name, value))
    };
    let given = json!({"path": "/etc/shadow"});
    for (format, place) in [
        ("openai-chat", "/messages/0/tool_calls/0"),
        ("openai-chat", "/messages/0/tool_calls/0/function"),
        ("openai-responses", "/0"),
        ("langchain", "/0/tool_calls/0"),
        ("atif", "/steps/0/tool_calls/0"),
    ] {
        let name = if format == "langchain" { "arguments" } else { "input" };
        let imported = fill(format, None, place, name, given.clone());
        let arguments = imported.calls[0].arguments.as_ref().unwrap().to_canonical().to_string();
        assert_eq!((arguments, &imported.not_taken), (given.to_string(), &Vec::new()), "{format} {place}");
    }
    for (format, place, own) in [
        ("openai-chat", "/messages/1", "content"),
        ("anthropic", "/messages/1/content/0", "content"),
        ("openai-responses", "/1", "output"),
        ("langchain", "/1", "content"),
        ("atif", "/steps/0/observation/results/0", "content"),
    ] {
        let name = if own == "output" { "result" } else { "output" };
        let imported = fill(format, Some((place, own, "".into())), place, name, "REAL ANSWER".into());
        let shown = format!("{:?}", imported.calls[0].result);
        assert!(
            shown.contains("REAL ANSWER") && imported.not_taken.is_empty(),
            "{format}: {shown} {:?}",
            imported.not_taken
        );
        // Two that say something are both told of.
        let imported = fill(format, None, place, name, "REAL ANSWER".into());
        assert_eq!(imported.not_taken.len(), 1, "{format}: {:?}", imported.not_taken);
    }
    let bash = fill(
        "opencode",
        Some(("/part/state", "output", "".into())),
        "/part/state/metadata",
        "output",
        "REAL ANSWER".into(),
    );
    assert!(format!("{:?}", bash.calls[0].result).contains("REAL ANSWER"));
}

/// Signs that disagree were settled in silence.
#[test]
fn signs_that_disagree_are_said() {
    let (_, chat, _) = formats().swap_remove(0);
    let mut file = chat;
    file["messages"][1]["is_error"] = false.into();
    let imported = auto(with(&file, "/messages/1", "exit_code", 3.into()));
    assert_eq!(ends(&imported)[0].2, "tool_error");
    let shown = format!("{:?}", imported.calls[0].session_metadata);
    assert!(shown.contains("is_error says ok, exit_code says tool_error"), "{shown}");
}

fn claude(n: u64, call: &Value, result: &Value, beside: &Value) -> Vec<Value> {
    let row = |kind: &str, at: &str, block: &Value| {
        json!({"type": kind, "uuid": format!("{kind}-{n}"), "sessionId": "s", "timestamp": format!("2026-02-10T17:{n:02}:{at}.000Z"),
            "message": {"id": format!("m-{n}"), "role": kind, "content": [block]}})
    };
    let (mut call, mut result) = (call.clone(), result.clone());
    (call["type"], call["id"]) = ("tool_use".into(), format!("t{n}").into());
    (result["type"], result["tool_use_id"]) = ("tool_result".into(), format!("t{n}").into());
    let (asked, mut answered) = (row("assistant", "01", &call), row("user", "02", &result));
    for (key, value) in beside.as_object().unwrap() {
        answered[key] = value.clone();
    }
    vec![asked, answered]
}

/// The denials of a stream were failures of tools, though three places in it name them; a command that was broken off was `ok`; a tool
/// of a server could play a refusal; and a file that was read and holds an error was a failure, though nothing had failed.
#[test]
fn claude_code_tells_of_refusals_beside_the_answer() {
    let bash = json!({"name": "Bash", "input": {"command": "ls; exit 3"}});
    let get = json!({"name": "mcp__ehr__get", "input": {}});
    let fails = |text: &str| json!({"content": text, "is_error": true});
    let accept = json!({"permissionDecision": {"decision": "accept", "source": "config"}});
    let refusal = "The user doesn't want to proceed with this tool use. The tool use was rejected.";
    let rows = [
        (&bash, fails("requires approval"), json!({"toolDenialKind": "user-rejected"}), "denied"),
        (
            &bash,
            fails("x"),
            json!({"tool_result_meta": [{"id": "t1", "non_execution_kind": "permission-rule"}]}),
            "denied",
        ),
        (
            &bash,
            json!({"content": "a", "is_error": false}),
            json!({"toolUseResult": {"stdout": "a", "interrupted": true}}),
            "abandoned",
        ),
        (&bash, fails(refusal), json!({}), "denied"),
        (&get, fails(refusal), accept.clone(), "tool_error"),
        (&bash, json!({"content": refusal}), json!({}), "ok"),
        (
            &bash,
            fails("This Bash command contains multiple operations. The following part requires approval: exit 3"),
            json!({}),
            "denied",
        ),
        (
            &bash,
            fails("<tool_use_error>Error: No such tool available: Bash</tool_use_error>"),
            json!({}),
            "protocol_error",
        ),
        (&bash, json!({"content": "{\"error\":\"in a file\"}", "is_error": false}), json!({}), "ok"),
        (&bash, fails("no"), accept.clone(), "tool_error"),
        (&get, json!({"content": "x"}), json!({"toolUseResult": {"status": "denied"}}), "ok"),
    ];
    let all: Vec<Value> =
        rows.iter().zip(0..).flat_map(|((call, result, beside, _), n)| claude(n, call, result, beside)).collect();
    let imported = auto(lines(&all));
    let told: Vec<_> = ends(&imported).into_iter().map(|(.., end)| end).collect();
    assert_eq!(told, rows.iter().map(|(.., end)| *end).collect::<Vec<_>>());
    assert_eq!(imported.not_taken, []);
    // In a stream a row of its own may be all that says so.
    let stream = |more: Value| {
        let mut rows = claude(0, &bash, &fails("requires approval"), &json!({}));
        for row in &mut rows {
            row["session_id"] = row.as_object_mut().unwrap().remove("sessionId").unwrap();
        }
        rows.push(more);
        auto(lines(&rows))
    };
    for more in [
        json!({"type": "system", "subtype": "permission_denied", "session_id": "s", "tool_use_id": "t0", "tool_name": "Bash"}),
        json!({"type": "result", "session_id": "s", "permission_denials": [{"tool_name": "Bash", "tool_use_id": "t0", "tool_input": {"command": "ls; exit 3"}}]}),
    ] {
        let imported = stream(more);
        assert_eq!((ends(&imported)[0].2, &imported.not_taken), ("denied", &Vec::new()));
        assert_eq!(imported.calls[0].circumstances.approval.as_ref().map(|of| of.decision), Some(Decision::Denied));
    }
    assert_eq!(ends(&stream(json!({"type": "result", "session_id": "s"})))[0].2, "tool_error");
}

const RUNS_ON: &str = "Chunk ID: 7\nWall time: 0.2515 seconds\nProcess running with session ID 94413\nOutput:\n";

/// Calls of Codex that a user refused or broke off were `ok` if no event told of their end, and so was a command that was still running
/// and failed later; and a file that begins with the words of an exit code was a failure.
#[test]
fn codex_says_in_its_own_words_what_was_not_run() {
    let item =
        |payload: Value| json!({"timestamp": "2026-07-08T03:20:02.000Z", "type": "response_item", "payload": payload});
    let cases = [
        ("exec_command", "exec command rejected by user", "denied"),
        ("apply_patch", "patch rejected by user", "denied"),
        ("get", "user cancelled MCP tool call", "denied"),
        ("exec_command", "aborted by user after 3.2s", "abandoned"),
        ("shell", "command timed out after 1000 milliseconds", "timeout"),
        ("apply_patch", "apply_patch verification failed: x", "tool_error"),
        ("exec_command", "Chunk ID: 1\nWall time: 1 seconds\nProcess exited with code 3\nOutput:\n", "tool_error"),
        ("exec_command", "Wall time: 1 seconds\nProcess exited with code 0\nOutput:\nExit code: 3", "ok"),
        ("read_file", "Exit code: 7\nin a file", "ok"),
        ("odd", "unsupported call: odd", "protocol_error"),
        ("view_image", "unable to locate image at `/x`: No such file", "tool_error"),
        ("exec_command", RUNS_ON, "abandoned"),
        ("exec_command", RUNS_ON, "tool_error"),
        ("exec_command", RUNS_ON, "ok"),
    ];
    let mut rows =
        vec![json!({"timestamp": "2026-07-08T03:20:01.000Z", "type": "session_meta", "payload": {"id": "th"}})];
    for (n, (tool, output, _)) in cases.iter().enumerate() {
        let id = format!("c{n}");
        rows.push(item(json!({"type": "function_call", "name": tool, "arguments": "{}", "call_id": id})));
        rows.push(item(json!({"type": "function_call_output", "call_id": id, "output": output})));
    }
    for (id, status, code) in [("c12", "failed", -1), ("c13", "completed", 0)] {
        let item = json!({"type": "CommandExecution", "id": id, "status": status, "exit_code": code});
        let payload = json!({"type": "item_completed", "item": item});
        rows.push(json!({"timestamp": "2026-07-08T03:20:03.000Z", "type": "event_msg", "payload": payload}));
    }
    let imported = auto(lines(&rows));
    let told: Vec<_> = ends(&imported).into_iter().map(|(.., end)| end).collect();
    assert_eq!(told, cases.map(|(.., end)| end));
    assert!(format!("{:?}", imported.calls[0].session_metadata).contains("words of the agent"));
}

/// A shell command that ended with 3 was `ok` in Gemini's session, though the line is in the answer; a refusal by the policy had failed;
/// and of OpenCode a tool that does not exist was the tool `invalid`, which had gone well.
#[test]
fn gemini_and_opencode_say_what_went_wrong() {
    let call = |name: &str, status: &str, response: Value, more: Value| {
        let mut call = json!({"id": "c1", "name": name, "args": {}, "status": status, "result": [{"functionResponse": {"id": "c1", "name": name, "response": response}}]});
        more.as_object().unwrap().iter().for_each(|(key, value)| call[key] = value.clone());
        ending(&json!({"sessionId": "s", "projectHash": "h", "messages": [{"id": "g", "type": "gemini", "content": "", "toolCalls": [call]}]}).to_string())
    };
    let output = json!({"output": "<untrusted_context>\nOutput: oops\nExit Code: 3\nProcess Group PGID: 2371\n</untrusted_context>"});
    let shown = |text: &str| json!({"resultDisplay": text});
    assert_eq!(call("run_shell_command", "success", output.clone(), shown("oops")), "tool_error");
    assert_eq!(call("run_shell_command", "success", output.clone(), shown("oops\nExit Code: 3")), "ok");
    assert_eq!(call("read_file", "success", output, shown("")), "ok");
    assert_eq!(
        call(
            "t",
            "error",
            json!({"error": "Tool execution denied by policy."}),
            json!({"errorType": "policy_violation"})
        ),
        "denied"
    );
    assert_eq!(call("t", "error", json!({"error": "Tool \"t\" not found."}), json!({})), "protocol_error");
    assert_eq!(
        call(
            "t",
            "cancelled",
            json!({"error": "[Operation Cancelled] Reason: User cancelled tool execution."}),
            json!({})
        ),
        "abandoned"
    );
    let part = |tool: &str, state: Value| {
        json!({"type": "tool_use", "sessionID": "s", "part": {"type": "tool", "tool": tool, "callID": "c1", "id": "p", "sessionID": "s", "state": state}}).to_string()
    };
    let invalid = part(
        "invalid",
        json!({"status": "completed", "input": {"tool": "no_such_tool", "error": "not available"}, "output": "The arguments are invalid: not available", "metadata": {}}),
    );
    assert_eq!(ends(&auto(&invalid)), [("no_such_tool", "c1", "protocol_error")]);
    let failed = |error: &str| ending(&part("t", json!({"status": "error", "input": {}, "error": error})));
    assert_eq!(failed("EACCES: permission denied"), "tool_error");
    assert_eq!(failed("The user rejected permission to use this specific tool call."), "denied");
    assert_eq!(failed("Tool execution aborted"), "abandoned");
}

/// The span of a call of Claude Code says nothing of its ending, the spans in it do; a record of a log without `success` was `ok`; and a
/// call that was decided against had failed, or gone well.
#[test]
fn spans_and_records_of_coding_agents_say_how_calls_ended() {
    let span = |id: &str, parent: &str, name: &str, of: &[(&str, Value)]| {
        json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": id, "parentSpanId": parent, "name": name, "startTimeUnixNano": "1780000000000000001",
            "endTimeUnixNano": "1780000000000000009", "attributes": otlp::attributes(of)})
    };
    let tool =
        || span("1", "", "claude_code.tool", &[("tool_name", otlp::text("Bash")), ("tool_use_id", otlp::text("t1"))]);
    let of = |parts: &[Value]| ending(&otlp::export(json!([]), [&[tool()], parts].concat()).to_string());
    let blocked = |made: &str| {
        span(
            "2",
            "1",
            "claude_code.tool.blocked_on_user",
            &[("decision", otlp::text(made)), ("source", otlp::text("user"))],
        )
    };
    let ran =
        |success: bool| span("3", "1", "claude_code.tool.execution", &[("success", json!({"boolValue": success}))]);
    assert_eq!((of(&[]), of(&[blocked("accept"), ran(true)])), ("ok", "ok"));
    assert_eq!((of(&[blocked("reject")]), of(&[blocked("accept"), ran(false)])), ("denied", "tool_error"));
    let record = |body: &str, more: &[(&str, &str)]| {
        let own = [("session.id", "s"), ("tool_name", "Bash"), ("tool_use_id", "t1")];
        let all: Vec<(&str, Value)> = own.iter().chain(more).map(|(key, value)| (*key, otlp::text(value))).collect();
        let record = json!({"timeUnixNano": "1780000000000000000", "body": {"stringValue": body}, "attributes": otlp::attributes(&all)});
        json!({"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": [{"logRecords": [record]}]}]}).to_string()
    };
    let claude = "claude_code.tool_result";
    assert_eq!(ending(&record(claude, &[("success", "true")])), "ok");
    assert_eq!(ending(&record(claude, &[])), "abandoned");
    assert_eq!(ending(&record(claude, &[("success", "maybe")])), "abandoned");
    assert_eq!(ending(&record(claude, &[("error", "x")])), "tool_error");
    for success in ["true", "false"] {
        assert_eq!(ending(&record("gemini_cli.tool_call", &[("success", success), ("decision", "reject")])), "denied");
    }
    // What Claude Code says of a command is not its input, but has it.
    let parameters = r#"{"bash_command":"ls","full_command":"ls -l","timeout":5}"#;
    let imported = auto(record(claude, &[("success", "true"), ("tool_parameters", parameters)]));
    assert_eq!(
        imported.calls[0].arguments.as_ref().unwrap().to_canonical().as_str(),
        r#"{"command":"ls -l","timeout":5}"#
    );
}

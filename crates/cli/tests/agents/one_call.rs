//! Promise: a call of which an agent's hooks, files and telemetry tell is one call, in whatever order and from however many processes
//! they come. Invariants R108 and R112.

use crate::common::{Place, shared};
use attestlog::query::Statistics;
use attestlog::{AuditLog, Kind, Outcome, Query};
use attestlog_capture::hook::{self, Agent, Identity};
use attestlog_capture::import::{self, Format, ImportOptions, Recorded};
use serde_json::{Value, json as value};
use std::process::Stdio;

fn tell(log: &AuditLog, agent: Agent, event: &Value) -> u64 {
    let mut identity = Identity::default();
    identity.user = "ada".to_owned();
    let event = hook::read(agent, event.to_string().as_bytes(), &identity, "2026-02-10T17:00:00Z".parse().unwrap());
    hook::record(log, event.unwrap()).unwrap()
}

fn read(log: &AuditLog, text: &str) -> Recorded {
    let imported = import::calls(Format::Auto, text.as_bytes(), &ImportOptions::new().user("ada")).unwrap();
    let recorded = import::record(log, imported, false, |_| ()).unwrap();
    assert_eq!(recorded.not_taken, [], "{text}");
    recorded
}

fn calls(log: &AuditLog) -> u64 {
    log.statistics(&Statistics::new()).unwrap().iter().map(|tool| tool.total_calls).sum()
}

fn event(name: &str, more: &Value) -> Value {
    let mut event = value!({"session_id": "s", "cwd": "/w", "hook_event_name": name, "tool_name": "Bash",
        "tool_input": {"command": "ls"}, "tool_use_id": "t1"});
    for (key, of) in more.as_object().unwrap() {
        event[key] = of.clone();
    }
    event
}

/// A log record of an agent's telemetry, written at this second.
fn log_record(name: &str, second: u64, attributes: &Value) -> String {
    let mut all = vec![value!({"key": "event.name", "value": {"stringValue": name}})];
    for (key, of) in attributes.as_object().unwrap() {
        all.push(value!({"key": key, "value": {"stringValue": of}}));
    }
    let at = format!("17959144{second:02}000000000");
    value!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": at, "body": {"stringValue": name}, "attributes": all}]}]}]})
        .to_string()
}

fn claude_log(second: u64) -> String {
    let attributes = value!({"session.id": "s", "tool_name": "Bash", "tool_use_id": "t1", "success": "true"});
    log_record("claude_code.tool_result", second, &attributes)
}

fn claude_span() -> String {
    let attributes = [("session.id", "s"), ("tool_name", "Bash"), ("tool_use_id", "t1")]
        .map(|(key, of)| value!({"key": key, "value": {"stringValue": of}}));
    value!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00000000000000000000000000000001",
        "spanId": "0000000000000001", "name": "claude_code.tool", "startTimeUnixNano": "1795914435000000000",
        "endTimeUnixNano": "1795914435000000009", "attributes": attributes}]}]}]})
    .to_string()
}

/// Two imports of the same calls at the same time, or an import and hooks, each asked whether the log has a call and recorded it later:
/// 15 calls of 9, in five runs of five, and no later import put that right [R112].
#[test]
fn files_that_are_imported_at_the_same_time_are_recorded_once() {
    let Some(session) = shared("data/agents/claude-code-2.1.332.session.jsonl") else { return };
    let session = session.to_str().unwrap().to_owned();
    let logs: Vec<String> = std::fs::read_to_string(&session)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let row: Value = serde_json::from_str(line).ok()?;
            let name = row["sessionId"].as_str()?.to_owned();
            let blocks = row["message"]["content"].as_array()?.clone();
            Some(blocks.into_iter().filter(|block| block["type"] == "tool_use").map(move |block| {
                let attributes = value!({"session.id": name, "tool_name": block["name"], "tool_use_id": block["id"], "success": "true"});
                log_record("claude_code.tool_result", 10, &attributes)
            }))
        })
        .flatten()
        .collect();
    assert!(logs.len() > 5);
    for _ in 0..3 {
        let place = Place::with_store();
        place.write("logs.json", logs.join("\n"));
        let children: Vec<_> = [session.as_str(), "logs.json", session.as_str(), "logs.json"]
            .map(|file| {
                let mut command = place.command(&["import", "s", file, "--user", "ada"]);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            })
            .into();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(place.count(&["--kind", "tool_call"]), logs.len() as u64);
    }
}

/// Claude Code's trace and log of one call, or the same log at another time, were two calls, unless they were in the log after a hook.
#[test]
fn the_trace_the_log_and_the_hook_of_a_call_are_one() {
    let denied = log_record(
        "claude_code.tool_decision",
        1,
        &value!({"session.id": "s", "tool_name": "Bash", "tool_use_id": "t1",
        "decision": "reject", "source": "user_reject"}),
    );
    let files = [claude_log(35), claude_span(), claude_log(36), denied, [claude_log(37), claude_span()].join("\n")];
    for with_hook in [false, true] {
        for first in 0..files.len() {
            let log = AuditLog::in_memory().unwrap();
            for file in files.iter().cycle().skip(first).take(files.len()) {
                if with_hook && file == &files[1] {
                    tell(&log, Agent::ClaudeCode, &event("PreToolUse", &value!({})));
                    tell(&log, Agent::ClaudeCode, &event("PostToolUse", &value!({"tool_response": {"stdout": "x"}})));
                }
                read(&log, file);
            }
            assert_eq!((calls(&log), log.count(&Query::new().unfinished()).unwrap()), (1, 0), "{first} {with_hook}");
        }
    }
}

/// Codex's telemetry calls the shell `exec_command`, and its hooks `Bash`: two calls, which ended in two ways.
#[test]
fn the_telemetry_of_codex_tells_of_the_calls_of_its_hooks() {
    let attributes = value!({"conversation.id": "s", "tool_name": "exec_command", "call_id": "t1",
        "arguments": r#"{"cmd":"ls"}"#, "success": "false", "output": "x"});
    let record = log_record("codex.tool_result", 5, &attributes);
    for first in [true, false] {
        let log = AuditLog::in_memory().unwrap();
        if first {
            read(&log, &record);
        }
        tell(&log, Agent::Codex, &event("PreToolUse", &value!({})));
        tell(&log, Agent::Codex, &event("PostToolUse", &value!({"tool_response": "x"})));
        read(&log, &record);
        assert_eq!(calls(&log), 1);
    }
}

/// What Gemini prints while it works, and its session file, tell of a call at different times: it was another one.
#[test]
fn what_an_agent_prints_and_its_session_tell_of_one_call() {
    let rows = [
        value!({"type": "init", "timestamp": "2026-02-10T17:00:00.000Z", "session_id": "s", "model": "m"}),
        value!({"type": "tool_use", "timestamp": "2026-02-10T17:00:01.100Z", "tool_name": "read_file", "tool_id": "r1", "parameters": {"file_path": "/a"}}),
        value!({"type": "tool_result", "timestamp": "2026-02-10T17:00:02.000Z", "tool_id": "r1", "status": "success", "output": "x"}),
    ];
    let stream = rows.map(|row| row.to_string()).join("\n");
    let session = value!({"sessionId": "s", "projectHash": "p", "startTime": "2026-02-10T17:00:00.000Z", "messages": [
        {"id": "m1", "timestamp": "2026-02-10T17:00:01.000Z", "type": "gemini", "content": "", "model": "m", "toolCalls": [
            {"id": "r1", "name": "read_file", "args": {"file_path": "/a"}, "status": "success", "timestamp": "2026-02-10T17:00:02.000Z",
             "result": [{"functionResponse": {"id": "r1", "name": "read_file", "response": {"output": "wrapped: x"}}}]}]}]})
    .to_string();
    for files in [[&stream, &session], [&session, &stream]] {
        let log = AuditLog::in_memory().unwrap();
        assert_eq!(read(&log, files[0]).receipts.len(), 1);
        assert_eq!((read(&log, files[1]).details.len(), calls(&log)), (1, 1));
        assert_eq!((read(&log, files[0]).repeated, read(&log, files[1]).repeated, calls(&log)), (1, 1, 1));
    }
}

/// A main agent and its sub-agent used one id: the end of the sub-agent's call ended the call of the main agent, and the other way round.
/// So did one agent's two calls with one id.
#[test]
fn a_sub_agent_ends_its_own_call() {
    for other in
        [value!({"agent_id": "sub", "tool_input": {"command": "ls"}}), value!({"tool_input": {"command": "pwd"}})]
    {
        let log = AuditLog::in_memory().unwrap();
        tell(&log, Agent::ClaudeCode, &event("PreToolUse", &value!({})));
        tell(&log, Agent::ClaudeCode, &event("PreToolUse", &other));
        let begun: Vec<u64> =
            log.query(&Query::new().kind(Kind::CallBegun)).unwrap().map(|entry| entry.unwrap().seq).collect();
        let mut end = other.clone();
        end["tool_response"] = value!({"stdout": "x"});
        tell(&log, Agent::ClaudeCode, &event("PostToolUse", &end));
        tell(&log, Agent::ClaudeCode, &event("PostToolUse", &value!({"tool_response": {"stdout": "y"}})));
        let ended: Vec<Option<u64>> = log
            .query(&Query::new().kind(Kind::ToolCall))
            .unwrap()
            .map(|entry| entry.unwrap().call().unwrap().part_of())
            .collect();
        assert_eq!((ended, calls(&log)), (vec![Some(begun[1]), Some(begun[0])], 2), "{other}");
    }
}

fn session(result: Option<bool>) -> String {
    let row = |kind: &str, uuid: &str, content: Value| {
        value!({"type": kind, "uuid": uuid, "sessionId": "s", "isSidechain": false, "version": "2.1.0",
            "timestamp": "2026-02-10T17:00:00Z", "message": {"role": kind, "model": "m", "content": content}})
        .to_string()
    };
    let mut rows = vec![row(
        "assistant",
        "a",
        value!([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]),
    )];
    rows.extend(result.map(|fails| {
        row(
            "user",
            "b",
            value!([{"type": "tool_result", "tool_use_id": "t1", "is_error": fails, "content": "it is so"}]),
        )
    }));
    rows.join("\n")
}

/// The log knew from the session how a call had ended, and the end of the turn gave it up. A call that the session had without an end
/// stayed abandoned for ever, though its hook told of the end.
#[test]
fn the_end_that_one_source_saw_is_the_end_of_the_call() {
    let log = AuditLog::in_memory().unwrap();
    tell(&log, Agent::ClaudeCode, &event("PreToolUse", &value!({})));
    read(&log, &session(Some(false)));
    tell(&log, Agent::ClaudeCode, &value!({"session_id": "s", "hook_event_name": "Stop"}));
    let all: Vec<_> = log.query(&Query::new().kind(Kind::ToolCall)).unwrap().map(|entry| entry.unwrap()).collect();
    let outcome = all[0].call().unwrap().completion.as_ref().unwrap().outcome;
    assert_eq!((all.len(), outcome), (1, Outcome::Ok), "{}", all[0].line());

    let log = AuditLog::in_memory().unwrap();
    read(&log, &session(None));
    let (before, after) =
        (event("PreToolUse", &value!({})), event("PostToolUse", &value!({"tool_response": {"stdout": "x"}})));
    for event in [&before, &after, &after] {
        tell(&log, Agent::ClaudeCode, event);
    }
    let all: Vec<_> = log.query(&Query::new().kind(Kind::ToolCall)).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!((all.len(), all[1].call().unwrap().late_answer, calls(&log)), (2, true, 1));
    // The session's own answer comes too late for a late answer, and it says so instead of making another call.
    let imported =
        import::calls(Format::Auto, session(Some(false)).as_bytes(), &ImportOptions::new().user("ada")).unwrap();
    let recorded = import::record(&log, imported, false, |_| ()).unwrap();
    assert_eq!((recorded.not_taken.len(), calls(&log)), (1, 1));
    assert!(recorded.not_taken[0].why.contains("has been answered"), "{:?}", recorded.not_taken);
}

/// A session said that a call had failed, and the hook that it went well, or a hook said both: nothing in the log said that they differ.
#[test]
fn ends_that_differ_are_named() {
    let contradicting = |log: &AuditLog| {
        let details = log.query(&Query::new().kind(Kind::CallDetail)).unwrap();
        details.filter(|entry| entry.as_ref().unwrap().line().contains(r#""contradicts":["outcome"]"#)).count()
    };
    let after = event("PostToolUse", &value!({"tool_response": {"stdout": "x"}}));
    let log = AuditLog::in_memory().unwrap();
    tell(&log, Agent::ClaudeCode, &event("PreToolUse", &value!({})));
    read(&log, &session(Some(true)));
    tell(&log, Agent::ClaudeCode, &after);
    assert_eq!((contradicting(&log), calls(&log)), (1, 1));

    let log = AuditLog::in_memory().unwrap();
    let failed = event("PostToolUseFailure", &value!({"error": "oops"}));
    for event in [&event("PreToolUse", &value!({})), &after, &failed, &failed, &after] {
        tell(&log, Agent::ClaudeCode, event);
    }
    assert_eq!((contradicting(&log), calls(&log)), (1, 1));
}

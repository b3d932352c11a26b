//! Promise: a call of which several sources tell (a hook, the session file, the proxy) is one call, whichever tells first; what each
//! adds and where they differ is in the log. Invariant R108.

use crate::common::{Place, json};
use attestlog::json::Json;
use attestlog::{AuditLog, Kind, Query, ToolCall};
use attestlog_capture::hook::{self, Agent, Identity};
use attestlog_report::access::{AccessReport, Context, Subject};
use serde_json::{Value, json as value};

/// A session of an agent: its hooks' events, and its file.
struct Session {
    agent: Agent,
    name: &'static str,
    events: Vec<Value>,
    rows: Vec<Value>,
}

impl Session {
    /// Three calls: one goes well, one fails of which the hook saw no failure, one is an MCP server's.
    fn claude() -> Session {
        let (name, agent) = ("s-claude", Agent::ClaudeCode);
        let mut session = Session { agent, name, events: Vec::new(), rows: Vec::new() };
        let calls = [
            ("toolu_1", "Bash", value!({"command": "ls"}), false),
            ("toolu_2", "Read", value!({"file_path": "/w/a"}), true),
            ("toolu_3", "mcp__files__get", value!({"id": 7}), false),
        ];
        for (second, (id, tool, input, fails)) in calls.into_iter().enumerate() {
            let event = |kind: &str| {
                value!({"session_id": name, "cwd": "/w", "hook_event_name": kind, "tool_name": tool, "tool_input": input,
                    "tool_use_id": id})
            };
            let mut after = event("PostToolUse");
            after["tool_response"] = value!({"stdout": "x"});
            session.events.extend([event("PreToolUse"), after]);
            let mut row = |kind: &str, uuid: String, content: Value| {
                session.rows.push(
                    value!({"type": kind, "uuid": uuid, "sessionId": name, "isSidechain": false, "version": "2.1.0",
                    "timestamp": format!("2026-02-10T17:00:{second:02}Z"),
                    "message": {"role": kind, "model": "claude-x", "content": content}}),
                );
            };
            row("assistant", format!("a-{id}"), value!([{"type": "tool_use", "id": id, "name": tool, "input": input}]));
            let result = value!({"type": "tool_result", "tool_use_id": id, "is_error": fails, "content": "it is so"});
            row("user", format!("u-{id}"), value!([result]));
        }
        session
    }

    /// Codex names the same tool and its arguments differently in its sessions.
    fn codex() -> Session {
        let (name, agent) = ("s-codex", Agent::Codex);
        let event = |kind: &str, id: &str, command: &str| {
            value!({"session_id": name, "turn_id": "t", "cwd": "/w", "hook_event_name": kind, "tool_name": "Bash",
                "tool_input": {"command": command}, "tool_use_id": id, "tool_response": "oops"})
        };
        let row = |kind: &str, payload: Value| value!({"timestamp": "2026-02-10T17:00:00Z", "type": kind, "payload": payload});
        let mut session = Session { agent, name, events: Vec::new(), rows: Vec::new() };
        session.rows.push(row("session_meta", value!({"id": name, "cli_version": "0.1", "cwd": "/w"})));
        session.rows.push(row("turn_context", value!({"model": "gpt-x", "turn_id": "t"})));
        for (id, command, code) in [("call_1", "ls", 0), ("call_2", "exit 3", 3), ("call_3", "pwd", 0)] {
            session.events.extend(["PreToolUse", "PostToolUse"].map(|kind| event(kind, id, command)));
            let given = value!({"cmd": command}).to_string();
            let call = value!({"type": "function_call", "name": "exec_command", "arguments": given, "call_id": id});
            let output = format!("Wall time: 0.1 seconds\nProcess exited with code {code}\nOutput:\noops");
            let output = value!({"type": "function_call_output", "call_id": id, "output": output});
            session.rows.extend([row("response_item", call), row("response_item", output)]);
        }
        session
    }

    fn file(&self) -> String {
        self.rows.iter().map(|row| format!("{row}\n")).collect()
    }

    /// Has the store record all events.
    fn hooks(&self, place: &Place) {
        let log = AuditLog::open(place.path("s")).unwrap();
        let mut identity = Identity::default();
        identity.user = "ada".to_owned();
        for event in &self.events {
            let event = event.to_string();
            let event = hook::read(self.agent, event.as_bytes(), &identity, "2026-02-10T17:00:00Z".parse().unwrap());
            hook::record(&log, event.unwrap()).unwrap();
        }
        log.close().unwrap();
    }

    /// Imports the file; returns how many calls were recorded, were already there, and how many details were added.
    fn import(&self, place: &Place) -> (u64, u64, u64) {
        place.write("session.jsonl", self.file());
        let told = json(&place.run(&["import", "s", "session.jsonl", "--user", "ada", "--json"]).code(0).out);
        let number = |member: &str| told.get(member).and_then(Json::as_u64).unwrap();
        assert_eq!(number("calls"), 3, "{told:?}");
        (number("recorded"), number("already_there"), number("details"))
    }

    /// Each of the three calls counts once, for everybody who counts.
    #[track_caller]
    fn counts_once(&self, place: &Place) {
        let mut calls = 0;
        for tool in ["Bash", "Read", "mcp__files__get", "exec_command"] {
            let stats = place.run(&["stats", "s", "--tool", tool, "--json"]).json();
            calls += stats.get("total_calls").and_then(Json::as_u64).unwrap_or(0);
        }
        assert_eq!(calls, 3);
        assert_eq!(place.count(&["--kind", "tool_call"]), 3);
        let timeline = place.run(&["timeline", "s", self.name]).ok();
        assert!(timeline.contains("\n3 calls"), "{timeline}");
        let log = AuditLog::open(place.path("s")).unwrap();
        assert_eq!(log.count(&Query::new().unfinished()).unwrap(), 0);
        let entries = log.query(&Query::new().user("ada")).unwrap().collect::<attestlog::Result<Vec<_>>>().unwrap();
        let report = AccessReport::of(Context::new(Subject::User("ada".to_owned())), &entries);
        assert_eq!(report.rows().len(), 3);
        log.close().unwrap();
        assert!(place.run(&["verify", "s"]).ok().starts_with("nothing wrong found"));
    }

    /// The lines of what was told later.
    fn details(place: &Place) -> Vec<String> {
        let lines = place.run(&["query", "s", "--kind", "call_detail", "--json"]).ok();
        lines.lines().map(str::to_owned).collect()
    }
}

/// A session file that was imported after a hook had recorded its calls made each of them two calls.
#[test]
fn a_session_adds_to_the_calls_of_the_hooks_and_nothing_is_doubled() {
    for session in [Session::claude(), Session::codex()] {
        let place = Place::with_store();
        session.hooks(&place);
        assert_eq!(session.import(&place), (0, 3, 3));
        session.counts_once(&place);
        let details = Session::details(&place);
        assert_eq!(details.len(), 3);
        let of_codex = session.agent == Agent::Codex;
        let expected = if of_codex { r#""tool_name":"exec_command""# } else { r#""model":"claude-x""# };
        assert!(
            details.iter().all(|line| line.contains(expected) && line.contains(r#""source":"import""#)),
            "{details:?}"
        );
        let contradicted: Vec<bool> =
            details.iter().map(|line| line.contains(r#""contradicts":["outcome"]"#)).collect();
        assert_eq!(contradicted.iter().filter(|is| **is).count(), 1, "{details:?}");
        assert!(!details.iter().any(|line| line.contains(r#""contradicts":["arguments"#)), "{details:?}");
        // Again, and by another process that keeps it open.
        assert_eq!(session.import(&place), (0, 3, 0));
        assert_eq!(session.import(&place), (0, 3, 0));
        session.counts_once(&place);
    }
}

/// `watch` may read a row of the session before the hook's event comes, and events may be delivered late.
#[test]
fn hooks_add_to_the_calls_of_an_imported_session() {
    for session in [Session::claude(), Session::codex()] {
        let place = Place::with_store();
        assert_eq!(session.import(&place), (3, 0, 0));
        session.hooks(&place);
        session.counts_once(&place);
        let details = Session::details(&place);
        assert_eq!(details.len(), 6, "its beginning and its end: {details:?}");
        assert!(details.iter().all(|line| line.contains(r#""source":"hook""#)
            && line.contains(r#""cwd":"/w""#) == line.contains(r#""session_metadata""#)));
        assert_eq!(session.import(&place), (0, 3, 0));
        session.counts_once(&place);
    }
}

/// Codex's hooks tell of a sub-agent's calls under the session that started it; its file was imported under a name of its own, so each
/// call was two.
#[test]
fn the_session_of_a_sub_agent_adds_to_the_calls_of_the_hooks() {
    for hooks_first in [true, false] {
        let place = Place::with_store();
        let mut session = Session::codex();
        session.rows[0]["payload"] =
            value!({"id": "th-sub", "session_id": "s-codex", "parent_thread_id": "s-codex", "cli_version": "0.171.0"});
        for event in &mut session.events {
            event["agent_id"] = value!("th-sub");
        }
        if hooks_first {
            session.hooks(&place);
        }
        assert_eq!(session.import(&place).0, if hooks_first { 0 } else { 3 });
        if !hooks_first {
            session.hooks(&place);
        }
        session.counts_once(&place);
    }
}

/// What was imported while a tool still ran had no end; the end comes with the next import.
#[test]
fn what_a_growing_session_tells_later_is_added_once() {
    let place = Place::with_store();
    let session = Session::claude();
    session.hooks(&place);
    let mut half = Session::claude();
    half.rows.retain(|row| row["type"] != "user" || row["uuid"] == "u-toolu_1");
    assert_eq!(half.import(&place), (0, 3, 3));
    assert_eq!(session.import(&place), (0, 3, 2), "that one failed, and how long both took");
    assert_eq!(session.import(&place), (0, 3, 0));
    assert_eq!(half.import(&place), (0, 3, 0));
    session.counts_once(&place);
}

/// Ids repeat within conversations of some models: a second call must not be taken for the one that the hook saw, nor a call of another
/// conversation or tool.
#[test]
fn a_call_that_nobody_else_saw_is_recorded_whatever_its_id() {
    let place = Place::with_store();
    let session = Session::claude();
    session.hooks(&place);
    let mut twice = Session::claude();
    let mut more = Session::claude().rows;
    for (n, row) in more.iter_mut().enumerate() {
        row["uuid"] = value!(format!("more-{n}"));
        row["timestamp"] = value!(format!("2026-02-10T18:00:{n:02}Z"));
    }
    twice.rows.extend(more);
    place.write("session.jsonl", twice.file());
    let import = || {
        let told = json(&place.run(&["import", "s", "session.jsonl", "--user", "ada", "--json"]).code(0).out);
        ["calls", "recorded", "already_there", "details"].map(|of| told.get(of).and_then(Json::as_u64).unwrap())
    };
    assert_eq!(import(), [6, 3, 3, 3]);
    assert_eq!(import(), [6, 0, 6, 0]);
    assert_eq!(place.count(&["--kind", "tool_call"]), 6);
    place.write("session.jsonl", session.file().replace(session.name, "another"));
    assert_eq!(import(), [3, 3, 0, 0]);
}

/// A hook's event was a call although a program that embeds the log had recorded a call of that id, and the hook of a new call with an
/// id that had been used was taken for the old one: the tool ran and nothing was recorded [R111].
#[test]
fn a_hook_never_takes_a_new_call_for_one_that_it_told_of() {
    let place = Place::with_store();
    let session = Session::claude();
    session.import(&place);
    session.hooks(&place);
    session.hooks(&place);
    session.counts_once(&place);
    assert_eq!(Session::details(&place).iter().filter(|line| line.contains("told_after_end")).count(), 6);
    // With other arguments it is another call.
    let mut others = Session::claude();
    for event in &mut others.events {
        event["tool_input"] = value!({"other": true});
    }
    others.hooks(&place);
    assert_eq!(place.count(&["--kind", "tool_call"]), 6);
    let log = AuditLog::open(place.path("s")).unwrap();
    log.record(ToolCall::new(session.name, "ada", "Bash").call_id("toolu_9").result(true)).unwrap();
    let mut identity = Identity::default();
    identity.user = "ada".to_owned();
    let event = |of: &str| {
        let event = session.events[0].to_string().replace("toolu_1", "toolu_9").replace("ls", of);
        hook::read(Agent::ClaudeCode, event.as_bytes(), &identity, "2026-02-10T17:00:00Z".parse().unwrap()).unwrap()
    };
    for (of, begun) in [("ls", 3), ("ls", 3), ("pwd", 4)] {
        hook::record(&log, event(of)).unwrap();
        assert_eq!(log.count(&Query::new().kind(Kind::CallBegun)).unwrap(), begun, "{of}");
    }
}

//! What each agent tells, and what is recorded of it.

use super::*;
use attestlog::entry::Phase;
use attestlog::json::Json;
use attestlog::{AuditLog, Call, Entry, ErrorKind, Kind, Outcome, Query};

const NOW: &str = "2026-11-29T12:00:00Z";

pub(super) fn ada() -> Identity {
    Identity { user: "ada".to_owned(), ..Identity::default() }
}

/// A log, and an agent that reports to it.
pub(super) struct Session {
    pub(super) log: AuditLog,
    pub(super) agent: Agent,
}

impl Session {
    pub(super) fn of(agent: Agent) -> Session {
        Session { log: AuditLog::in_memory().unwrap(), agent }
    }

    pub(super) fn try_tell(&self, event: &str) -> Result<u64> {
        record(&self.log, read(self.agent, event.as_bytes(), &ada(), NOW.parse()?)?)
    }

    #[track_caller]
    pub(super) fn tell(&self, events: &[&str]) {
        for event in events {
            self.try_tell(event).unwrap_or_else(|e| panic!("{e}: {event}"));
        }
    }

    pub(super) fn calls(&self) -> Vec<Entry> {
        self.log.query(&Query::new().kind(Kind::ToolCall)).unwrap().map(|entry| entry.unwrap()).collect()
    }

    /// Tool, id and outcome of each call that has ended.
    pub(super) fn ends(&self) -> Vec<(String, Option<String>, Outcome)> {
        let one = |entry: &Entry| {
            let call = entry.call().unwrap();
            (call.tool_name.clone(), call.call_id.clone(), outcome(call))
        };
        self.calls().iter().map(one).collect()
    }

    pub(super) fn unfinished(&self) -> u64 {
        self.log.count(&Query::new().unfinished()).unwrap()
    }

    #[track_caller]
    fn refuses(&self, event: &str, says: &str) {
        let size = self.log.size().unwrap();
        let e = self.try_tell(event).expect_err(event);
        assert!(e.to_string().contains(says), "{event}: {e}");
        assert_eq!(self.log.size().unwrap(), size);
    }
}

pub(super) fn outcome(call: &Call) -> Outcome {
    call.completion.as_ref().unwrap().outcome
}

pub(super) fn end(tool: &str, id: &str, outcome: Outcome) -> (String, Option<String>, Outcome) {
    (tool.to_owned(), Some(id.to_owned()).filter(|id| !id.is_empty()), outcome)
}

/// An event of Claude Code's dialect in the session `s`.
pub(super) fn said(name: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!(r#"{{"session_id":"s","cwd":"/w","permission_mode":"default","hook_event_name":"{name}"{more}}}"#)
}

pub(super) fn tool(name: &str, tool: &str, id: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    said(name, &format!(r#""tool_name":"{tool}","tool_input":{{"file_path":"/w/{id}"}},"tool_use_id":"{id}"{more}"#))
}

#[test]
fn claude_code_ends_what_it_began_and_denies_what_it_did_not() {
    let s = Session::of(Agent::ClaudeCode);
    s.tell(&[
        &said("SessionStart", r#""source":"startup""#),
        &tool("PreToolUse", "Read", "1", r#""prompt_id":"p","agent_id":"sub","agent_type":"general""#),
        &tool("PreToolUse", "mcp__files__get", "2", ""),
        &tool("PostToolUse", "mcp__files__get", "2", r#""tool_response":"Error is the first word","duration_ms":5"#),
        &tool("PostToolUse", "Read", "1", r#""tool_response":{"file":{}},"agent_id":"sub""#),
        &tool("PreToolUse", "Read", "3", ""),
        &tool("PostToolUseFailure", "Read", "3", r#""error":"no such file""#),
        &tool("PreToolUse", "Bash", "4", ""),
        &tool("PostToolUseFailure", "Bash", "4", r#""error":"stopped","is_interrupt":true"#),
        &tool("PreToolUse", "Bash", "5", ""),
        &said(
            "PostToolBatch",
            r#""tool_calls":[
                {"tool_name":"Read","tool_input":{"file_path":"/w/3"},"tool_use_id":"3","tool_response":"no such file"},
                {"tool_name":"Bash","tool_input":{"file_path":"/w/5"},"tool_use_id":"5","tool_response":"Permission to use Bash has been denied."},
                {"tool_name":"Nope","tool_input":{},"tool_use_id":"6","tool_response":"<tool_use_error>No such tool available: Nope</tool_use_error>"}]"#,
        ),
        &tool("PreToolUse", "Write", "7", ""),
        &tool("PermissionDenied", "Write", "7", r#""reason":"too risky""#),
        &said("PermissionRequest", r#""tool_name":"Bash","tool_input":{}"#),
        &said("UserPromptSubmit", r#""prompt":"x""#),
    ]);
    let ends = [
        end("mcp__files__get", "2", Outcome::Ok),
        end("Read", "1", Outcome::Ok),
        end("Read", "3", Outcome::ToolError),
        end("Bash", "4", Outcome::Abandoned),
        end("Bash", "5", Outcome::Denied),
        end("Nope", "6", Outcome::ProtocolError),
        end("Write", "7", Outcome::Denied),
    ];
    assert_eq!(s.ends(), ends);
    assert_eq!(s.unfinished(), 0);
    let calls = s.calls();
    for (at, has) in [
        (0, r#""tool_server":"files""#),
        (0, r#""duration_ms":5"#),
        (0, r#""conversation_id":"s""#),
        (0, r#""user_id":"ada""#),
        (0, r#""sources":[{"program":"claude-code","source":"hook"}]"#),
        (0, r#""cwd":"/w""#),
        (0, r#""permission_mode":"default""#),
        (1, r#""agent_id":"sub""#),
        (1, r#""resources":[{"kind":"file","name":"/w/1"}]"#),
        (4, r#""approval":{"decision":"denied","source":"rule"}"#),
        (5, r#""first_heard_of":"PostToolBatch""#),
        (6, r#""approval":{"decision":"denied","source":"mode"}"#),
    ] {
        assert!(calls[at].line().contains(has), "{has}: {}", calls[at].line());
    }
    let Phase::Finished(begun) = calls[1].call().unwrap().phase else { panic!("{}", calls[1].line()) };
    let begun = s.log.entry(begun).unwrap();
    assert!(begun.line().contains(r#""prompt_id":"p""#), "{}", begun.line());
}

/// A session that was killed left its calls unfinished for ever; the end of a turn ended those of its sub-agents, which go on.
#[test]
fn what_nobody_ends_is_abandoned_by_turn_agent_session_and_after_a_day() {
    let s = Session::of(Agent::ClaudeCode);
    let other = |name: &str, id: &str| tool(name, "Bash", id, "").replace(r#""session_id":"s""#, r#""session_id":"o""#);
    s.tell(&[
        &tool("PreToolUse", "Bash", "1", ""),
        &tool("PreToolUse", "Bash", "2", r#""agent_id":"a""#),
        &tool("PreToolUse", "Bash", "3", r#""agent_id":"b""#),
        &other("PreToolUse", "4"),
        &said("Stop", ""),
    ]);
    let ids = |s: &Session| s.ends().into_iter().map(|(_, id, _)| id.unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&s), ["1"]);
    s.tell(&[&said("SubagentStop", r#""agent_id":"b""#)]);
    assert_eq!(ids(&s), ["1", "3"]);
    s.tell(&[&said("SessionEnd", "")]);
    assert_eq!(ids(&s), ["1", "3", "2"]);
    // The other session is heard of no more. The log's clock is the machine's, which is years before or behind this one.
    let later: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
    let start = read(Agent::ClaudeCode, said("SessionStart", "").as_bytes(), &ada(), later).unwrap();
    assert_eq!(record(&s.log, start).unwrap(), 1);
    assert_eq!((ids(&s).len(), s.unfinished()), (4, 0));
    // An answer that comes all the same is no call of its own.
    s.tell(&[&tool("PostToolUse", "Bash", "1", r#""tool_response":"late""#)]);
    assert!(s.calls()[4].call().unwrap().late_answer);
}

#[test]
fn codex_tells_its_model_and_gives_no_end_to_some() {
    let s = Session::of(Agent::Codex);
    s.tell(&[
        &tool("PreToolUse", "Bash", "1", r#""model":"gpt-5-codex","turn_id":"t""#),
        &tool("PreToolUse", "mcp__m__boom", "2", r#""model":"gpt-5-codex","turn_id":"t""#),
        &tool("PostToolUse", "Bash", "1", r#""model":"gpt-5-codex","turn_id":"t","tool_response":"hello\n""#),
        &said("Stop", r#""turn_id":"t""#),
    ]);
    assert_eq!(s.ends(), [end("Bash", "1", Outcome::Ok), end("mcp__m__boom", "2", Outcome::Abandoned)]);
    for has in [r#""model":"gpt-5-codex""#, r#""prompt_id":"t""#] {
        assert!(s.calls()[0].line().contains(has), "{}", s.calls()[0].line());
    }
}

#[test]
fn gemini_has_no_ids_and_arguments_pair_its_calls() {
    let s = Session::of(Agent::Gemini);
    let one = |name: &str, path: &str, more: &str| {
        let time = r#""timestamp":"2026-11-29T01:16:00.538Z""#;
        said(name, &format!(r#"{time},"tool_name":"read_file","tool_input":{{"file_path":"{path}"}}{more}"#))
    };
    s.tell(&[
        &one("BeforeTool", "a", ""),
        &one("BeforeTool", "b", r#","mcp_context":{"server_name":"files","tool_name":"read"}"#),
        &one("BeforeTool", "a", ""),
        &one(
            "AfterTool",
            "b",
            r#","tool_response":{"llmContent":"x","error":{"type":"file_not_found","message":"gone"}}"#,
        ),
        &one("AfterTool", "a", r#","tool_response":{"llmContent":"x"}"#),
        &said("AfterAgent", ""),
    ]);
    let outcomes: Vec<Outcome> = s.ends().into_iter().map(|(_, _, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::ToolError, Outcome::Ok, Outcome::Abandoned]);
    let calls = s.calls();
    assert!(calls[0].line().contains(r#""error":{"message":"gone","type":"file_not_found"}"#), "{}", calls[0].line());
    assert!(calls[1].line().contains(r#""ended_oldest_of":2"#), "{}", calls[1].line());
    assert!(calls[1].line().contains("2026-11-29T01:16:00.538"), "{}", calls[1].line());
}

#[test]
fn opencode_reports_failures_and_denials_on_its_bus() {
    let s = Session::of(Agent::OpenCode);
    let hook = |name: &str, tool: &str, id: &str, args: &str, output: &str| {
        format!(
            r#"{{"hook":"{name}","directory":"/w","model":"m","input":{{"tool":"{tool}","sessionID":"s","callID":"{id}","args":{args}}},"output":{output}}}"#
        )
    };
    let before =
        |tool: &str, id: &str| hook("tool.execute.before", tool, id, "null", r#"{"args":{"filePath":"/w/a"}}"#);
    let bus = |kind: &str, properties: &str| {
        format!(r#"{{"hook":"event","event":{{"type":"{kind}","properties":{{"sessionID":"s"{properties}}}}}}}"#)
    };
    let part = |tool: &str, id: &str, state: &str| {
        bus(
            "message.part.updated",
            &format!(r#","part":{{"type":"tool","tool":"{tool}","sessionID":"s","callID":"{id}","state":{state}}}"#),
        )
    };
    let stand_in = r#"{"tool":"nope","error":"unavailable tool 'nope'"}"#;
    s.tell(&[
        &before("bash", "1"),
        &before("read", "2"),
        &before("bash", "3"),
        &hook("tool.execute.after", "bash", "1", r#"{"filePath":"/w/a"}"#, r#"{"title":"t","output":"x","metadata":{"exit":0}}"#),
        &hook("tool.execute.after", "bash", "3", r#"{"filePath":"/w/a"}"#, r#"{"title":"t","output":"x","metadata":{"exit":3}}"#),
        &part("read", "2", r#"{"status":"running","input":{}}"#),
        &part("read", "2", r#"{"status":"error","input":{},"error":"File not found","time":{"start":10,"end":30}}"#),
        &before("bash", "4"),
        &part("bash", "4", r#"{"status":"error","input":{},"error":"The user has specified a rule which prevents you from using this"}"#),
        &hook("tool.execute.before", "invalid", "5", "null", &format!(r#"{{"args":{stand_in}}}"#)),
        &hook("tool.execute.after", "invalid", "5", stand_in, r#"{"output":"x","metadata":{}}"#),
        &before("task", "6"),
        &bus("session.updated", ""),
        &bus("session.idle", ""),
    ]);
    let ends = [
        end("bash", "1", Outcome::Ok),
        end("bash", "3", Outcome::ToolError),
        end("read", "2", Outcome::ToolError),
        end("bash", "4", Outcome::Denied),
        end("nope", "5", Outcome::ProtocolError),
        end("task", "6", Outcome::Abandoned),
    ];
    assert_eq!(s.ends(), ends);
    assert_eq!(s.unfinished(), 0);
    assert!(s.calls()[2].line().contains(r#""duration_ms":20"#), "{}", s.calls()[2].line());
}

#[test]
fn cursor_and_copilot_as_they_are_documented() {
    let s = Session::of(Agent::Cursor);
    let one = |name: &str, more: &str| {
        format!(
            r#"{{"conversation_id":"s","generation_id":"g","model":"m","cursor_version":"2.1","hook_event_name":"{name}"{more}}}"#
        )
    };
    let of = |id: &str| format!(r#","tool_name":"Shell","tool_input":{{"command":"ls"}},"tool_use_id":"{id}""#);
    s.tell(&[
        &one("preToolUse", &of("1")),
        &one(
            "postToolUse",
            &format!(r#"{},"tool_output":"{{\"output\":\"x\",\"exitCode\":0}}","duration":7"#, of("1")),
        ),
        &one("preToolUse", &of("2")),
        &one("postToolUseFailure", &format!(r#"{},"error_message":"no","failure_type":"permission_denied""#, of("2"))),
        &one("preToolUse", &of("3")),
        &one("beforeShellExecution", r#","command":"pwd","cwd":"/w""#),
        &one("afterShellExecution", r#","command":"pwd","output":"/w","duration":3"#),
        &one("afterFileEdit", r#","file_path":"/w/a","edits":[]"#),
        &one("stop", r#","status":"completed""#),
    ]);
    let ends = [
        end("Shell", "1", Outcome::Ok),
        end("Shell", "2", Outcome::Denied),
        end("Shell", "", Outcome::Ok),
        end("Shell", "3", Outcome::Abandoned),
    ];
    assert_eq!(s.ends(), ends);
    assert!(
        s.calls()[0].line().contains(r#"{"program":"cursor","source":"hook","version":"2.1"}"#),
        "{}",
        s.calls()[0].line()
    );

    let s = Session::of(Agent::Copilot);
    let one = |more: &str| {
        format!(
            r#"{{"timestamp":1795915675677,"cwd":"/w","sessionId":"s","toolName":"bash","toolArgs":"{{\"command\":\"ls\"}}"{more}}}"#
        )
    };
    s.tell(&[
        &one(""),
        &one(r#","toolResult":{"resultType":"success","textResultForLlm":"a"}"#),
        &one(""),
        &one(r#","toolResult":{"resultType":"denied","textResultForLlm":"not allowed"}"#),
    ]);
    assert_eq!(s.ends(), [end("bash", "", Outcome::Ok), end("bash", "", Outcome::Denied)]);
    let begun = s.log.query(&Query::new().kind(Kind::CallBegun)).unwrap().next().unwrap().unwrap();
    assert!(begun.line().contains(r#""arguments":{"command":"ls"}"#), "{}", begun.line());
}

/// An event that cannot be read is an error, and nothing of it is recorded; what is about no tool is nobody's business.
#[test]
fn what_cannot_be_read_is_refused_by_name_and_what_is_about_no_tool_is_not() {
    let s = Session::of(Agent::ClaudeCode);
    for (event, says) in [
        ("", "no event on standard input"),
        ("\n", "no event on standard input"),
        ("{", "not JSON"),
        ("[]", "not an object"),
        ("\"PreToolUse\"", "not an object"),
        ("{}", "hook_event_name"),
        (r#"{"hook_event_name":7,"tool_name":"x"}"#, "this is no event of claude-code"),
        (r#"{"hook_event_name":{},"tool_name":"x"}"#, "hook_event_name: must be a text"),
        (r#"{"hook_event_name":"PreToolUse"}"#, "tool_name: is missing"),
        (r#"{"hook_event_name":"PreToolUse","tool_name":"Bash"}"#, "session_id: is missing"),
        (r#"{"hook_event_name":"PreToolUse","tool_name":["Bash"],"session_id":"s"}"#, "tool_name: must be a text"),
        (r#"{"hook_event_name":"PreToolUse","tool_name":" ","session_id":"s"}"#, "tool_name: is missing"),
        (r#"{"hook_event_name":"PostToolBatch","session_id":"s","tool_calls":{}}"#, "tool_calls: must be a list"),
        (r#"{"hook_event_name":"PostToolBatch","session_id":"s","tool_calls":[1]}"#, "item 0 must be an object"),
        (r#"{"hook_event_name":"ToolAboutToRun","tool_name":"x"}"#, "is about a tool"),
    ] {
        s.refuses(event, says);
    }
    let deep = "[".repeat(100_000);
    s.refuses(&tool("PreToolUse", "Bash", "1", "").replace(r#"{"file_path":"/w/1"}"#, &deep), "not JSON");
    let long = "x".repeat(100_000);
    let e = s.try_tell(&tool("PreToolUse", "Bash", &long, "")).unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge), "{e}");
    let huge = vec![b' '; MAX_EVENT + 1];
    assert_eq!(read(s.agent, &huge, &ada(), NOW.parse().unwrap()).unwrap_err().kind(), ErrorKind::TooLarge);
    let size = s.log.size().unwrap();
    s.tell(&[&said("Notification", r#""message":"x""#), &said("SomethingNew", r#""anything":[1]"#)]);
    assert_eq!(s.log.size().unwrap(), size);
}

/// A file of megabytes in an event kept its call out of the log, and so its tool from running.
#[test]
fn of_what_is_too_large_the_entry_keeps_what_fits() {
    let s = Session::of(Agent::ClaudeCode);
    let large = format!(r#""{}""#, "a line of text\\n".repeat(200_000));
    s.tell(&[
        &tool("PreToolUse", "Write", "1", "")
            .replace(r#"{"file_path":"/w/1"}"#, &format!(r#"{{"file_path":"/w/1","content":{large}}}"#)),
        &tool("PostToolUse", "Write", "1", &format!(r#""tool_response":{{"originalFile":{large}}}"#)),
    ]);
    let call = &s.calls()[0];
    assert!(call.line().len() < 2 << 20 && call.line().contains("shortened"), "{}", call.line().len());
    let begun = s.log.entry(call.seq - 1).unwrap();
    assert!(begun.line().contains(r#""shortened":["#) && !begun.line().contains("sha256"), "{}", begun.line().len());
}

#[test]
fn half_a_character_and_nul_are_kept_as_what_they_can_be() {
    let s = Session::of(Agent::ClaudeCode);
    s.tell(&[&tool("PreToolUse", "Bash", "1", "").replace("/w/1", r"a\ud83d\u0000b")]);
    let begun = s.log.query(&Query::new().unfinished()).unwrap().next().unwrap().unwrap();
    assert!(begun.line().contains("a\u{fffd}\u{2400}b"), "{}", begun.line());
    assert!(begun.line().contains(r#""restated":["arguments.file_path"]"#), "{}", begun.line());
}

#[test]
fn a_flag_says_who_calls_whatever_the_event_says() {
    let log = AuditLog::in_memory().unwrap();
    let mut identity = ada();
    identity.role = Some("nurse".to_owned());
    identity.model = Some("m".to_owned());
    identity.purpose = Some("treatment".to_owned());
    identity.conversation = Some("c".to_owned());
    let event = tool("PreToolUse", "Bash", "1", r#""model":"other""#);
    record(&log, read(Agent::Codex, event.as_bytes(), &identity, NOW.parse().unwrap()).unwrap()).unwrap();
    let begun = log.query(&Query::new().unfinished()).unwrap().next().unwrap().unwrap();
    for has in [r#""user_role":"nurse""#, r#""model":"m""#, r#""purpose":"treatment""#, r#""conversation_id":"c""#] {
        assert!(begun.line().contains(has), "{}", begun.line());
    }
    assert_eq!(Json::parse(begun.line().as_bytes()).unwrap().value.get("user_id").unwrap().as_str(), Some("ada"));
}

//! Events of coding agents that hold anything.
//!
//! The first line names the agent; each line after it is an event.

use attestlog::host::{ManualClock, SeededRandom};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, Query};
use attestlog_capture::hook::{Agent, Identity, Moment, Step, read, record};
use std::cell::RefCell;
use std::sync::Arc;

pub(crate) const WORDS: &[&str] = &[
    "claude-code\n",
    "codex\n",
    "gemini\n",
    "opencode\n",
    "cursor\n",
    "copilot\n",
    "\"hook_event_name\":\"PreToolUse\",",
    "\"hook_event_name\":\"PostToolUse\",",
    "\"hook_event_name\":\"PostToolUseFailure\",",
    "\"hook_event_name\":\"PostToolBatch\",",
    "\"hook_event_name\":\"PermissionDenied\",",
    "\"hook_event_name\":\"Stop\",",
    "\"hook_event_name\":\"SessionEnd\",",
    "\"hook\":\"tool.execute.before\",",
    "\"session_id\":\"s\",",
    "\"tool_name\":\"t\",",
    "\"tool_use_id\":\"1\",",
    "\"tool_input\":{\"file_path\":\"/a\"},",
    "\"tool_response\":{\"error\":{}},",
    "\"tool_calls\":[{}],",
    "\"error\":\"e\",",
    "\"timestamp\":1e308,",
    "\"duration_ms\":-1,",
    "\\u0000",
    "\\ud800",
    "null",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        concat!(
            "claude-code\n",
            r#"{"session_id":"s","cwd":"/w","hook_event_name":"PreToolUse","tool_name":"Read","tool_input":{"file_path":"/a"},"tool_use_id":"1"}"#,
            "\n",
            r#"{"session_id":"s","hook_event_name":"PostToolBatch","tool_calls":[{"tool_name":"Read","tool_input":{},"tool_use_id":"1","tool_response":"denied"},{"tool_name":"No","tool_input":{},"tool_use_id":"2","tool_response":"<tool_use_error>"}]}"#,
            "\n",
            r#"{"session_id":"s","hook_event_name":"SessionEnd"}"#,
        ),
        concat!(
            "gemini\n",
            r#"{"session_id":"s","hook_event_name":"BeforeTool","timestamp":"2026-11-29T01:16:00Z","tool_name":"r","tool_input":{"a":1}}"#,
            "\n",
            r#"{"session_id":"s","hook_event_name":"AfterTool","tool_name":"r","tool_input":{"a":1},"tool_response":{"error":{"type":"x","message":"m"}}}"#,
        ),
        concat!(
            "opencode\n",
            r#"{"hook":"tool.execute.before","input":{"tool":"bash","sessionID":"s","callID":"1"},"output":{"args":{}}}"#,
            "\n",
            r#"{"hook":"event","event":{"type":"message.part.updated","properties":{"part":{"type":"tool","tool":"bash","sessionID":"s","callID":"1","state":{"status":"error","error":"e","time":{"start":1,"end":2}}}}}}"#,
        ),
        concat!(
            "cursor\n",
            r#"{"conversation_id":"s","hook_event_name":"postToolUse","tool_name":"t","tool_input":{},"tool_use_id":"1","tool_output":"{\"exitCode\":1}"}"#,
        ),
        concat!(
            "copilot\n",
            r#"{"timestamp":1795915675677,"cwd":"/w","toolName":"t","toolArgs":"{\"a\":1}","toolResult":{"resultType":"denied"}}"#,
        ),
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// How many runs one store is used for.
const RUNS: u64 = 200;

fn store() -> AuditLog {
    let clock = ManualClock::at("2026-11-29T12:00:00Z".parse().expect("a time"));
    let random = Arc::new(SeededRandom::new(3));
    Options::new().clock(Arc::new(clock)).random(random).without_keys().in_memory().expect("a store")
}

thread_local! {
    static STORE: RefCell<(AuditLog, u64)> = RefCell::new((store(), 0));
}

/// What an event says is recorded or refused, never passed over: a tool that may run was begun, an end finishes at most one call, and
/// the log stays whole.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let name = lines.next().map(String::from_utf8_lossy).unwrap_or_default();
    let agent = Agent::from_name(&name).unwrap_or(Agent::ClaudeCode);
    let mut identity = Identity::default();
    identity.user = "u".to_owned();
    STORE.with_borrow_mut(|(log, runs)| {
        let unfinished = |log: &AuditLog| log.count(&Query::new().unfinished()).expect("it counts");
        for line in lines {
            let Ok(event) = read(agent, line, &identity, "2026-11-29T12:00:00Z".parse().expect("a time")) else {
                continue;
            };
            let begins = event.steps.iter().filter(|step| matches!(step, Step::Begin(_))).count() as u64;
            assert_eq!(begins > 0, event.moment == Moment::Before, "what may stop a tool begins its call");
            let (size, before) = (log.size().expect("a size"), unfinished(log));
            if let Ok(recorded) = record(log, event) {
                assert_eq!(log.size().expect("a size") - size, recorded);
                // An event that comes again, or after the call's end, begins nothing anew.
                assert!(unfinished(log) + recorded >= before + begins.min(recorded), "an entry ends at most one call");
            }
        }
        *runs += 1;
        if *runs == RUNS {
            let found = log.verify(&VerifyOptions::new().threads(1)).expect("it verifies");
            assert!(found.ok(), "{:?}", found.findings);
            (*log, *runs) = (store(), 0);
        }
    });
}

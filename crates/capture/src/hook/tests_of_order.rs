//! Events that come twice, late, in another order or not at all, and agents that share a conversation.

use super::tests::{Session, ada, end, said, tool};
use super::*;
use attestlog::{Kind, Outcome, Query};

fn batch(id: &str, response: &str) -> String {
    said(
        "PostToolBatch",
        &format!(
            r#""tool_calls":[{{"tool_name":"Bash","tool_input":{{"file_path":"/w/{id}"}},"tool_use_id":"{id}","tool_response":{response}}}]"#
        ),
    )
}

fn begun(s: &Session) -> u64 {
    s.log.count(&Query::new().kind(Kind::CallBegun)).unwrap()
}

/// The disk was full when a tool had run, so its `PostToolUse` was refused: the list of all calls then called it denied, with the
/// whole result as the message of an error; and when the agent sent the first event again, it was a second call.
#[test]
fn a_call_whose_end_was_not_recorded_ended_as_the_list_says_and_not_twice() {
    let s = Session::of(Agent::ClaudeCode);
    let late = tool("PostToolUse", "Bash", "1", r#""tool_response":{"stdout":"secret"}"#);
    s.tell(&[
        &tool("PreToolUse", "Bash", "1", ""),
        &batch("1", r#"{"stdout":"secret"}"#),
        &late,
        &late,
        &tool("PreToolUse", "Bash", "2", ""),
        &batch("2", r#""secret words""#),
        &tool("PreToolUse", "Bash", "3", ""),
        &batch("3", r#""Permission to use Bash has been denied, it was secret""#),
        &tool("PreToolUse", "Bash", "4", ""),
        &batch("4", r#""<tool_use_error>secret</tool_use_error>""#),
    ]);
    let ends = [Outcome::Ok, Outcome::Ok, Outcome::Denied, Outcome::ToolError];
    let expected: Vec<_> =
        ends.iter().zip(["1", "2", "3", "4"]).map(|(outcome, id)| end("Bash", id, *outcome)).collect();
    assert_eq!((s.ends(), s.unfinished()), (expected, 0));
    for call in s.calls() {
        assert!(!call.line().contains(r#""error":{"#), "{}", call.line());
    }
    assert!(s.calls()[2].line().contains(r#""approval":{"decision":"denied","source":"rule"}"#));
}

/// The calls of a message were ended one after the other, each with a write of its own: a long list ran into the deadline, with half of
/// it recorded.
#[test]
fn a_list_of_calls_is_recorded_whole_or_not_at_all() {
    let s = Session::of(Agent::ClaudeCode);
    s.tell(&[&tool("PreToolUse", "Bash", "1", "")]);
    let one =
        |id: &str| format!(r#"{{"tool_name":"Bash","tool_input":{{}},"tool_use_id":"{id}","tool_response":"x"}}"#);
    let list = |ids: &[&str]| {
        let calls: Vec<String> = ids.iter().map(|id| one(id)).collect();
        said("PostToolBatch", &format!(r#""tool_calls":[{}]"#, calls.join(",")))
    };
    let too_long = "x".repeat(100_000);
    s.try_tell(&list(&["1", "2", &too_long])).unwrap_err();
    assert_eq!((s.ends().len(), s.unfinished()), (0, 1));
    assert_eq!(s.try_tell(&list(&["1", "2", "1"])).unwrap(), 2);
    assert_eq!(s.ends(), [end("Bash", "1", Outcome::Ok), end("Bash", "2", Outcome::Ok)]);
    assert_eq!(s.try_tell(&list(&["1", "2"])).unwrap(), 0);
}

/// Hooks that were configured for the user and for the project ran twice for each event: every call was counted twice, and one half
/// of them was abandoned. An event that overtook the one before it did the same.
#[test]
fn an_event_that_comes_twice_or_too_early_is_one_call() {
    let s = Session::of(Agent::ClaudeCode);
    let (before, after) =
        (|id| tool("PreToolUse", "Bash", id, ""), |id| tool("PostToolUse", "Bash", id, r#""tool_response":"x""#));
    s.tell(&[&before("1"), &before("1"), &after("1"), &after("1"), &after("2"), &before("2"), &said("Stop", "")]);
    assert_eq!(s.ends(), [end("Bash", "1", Outcome::Ok), end("Bash", "2", Outcome::Ok)]);
    assert_eq!((begun(&s), s.unfinished()), (1, 0));
    // The same id with other arguments is another call.
    s.tell(&[&before("3"), &before("3").replace("/w/3", "/w/other")]);
    assert_eq!(s.unfinished(), 2);
}

/// Gemini and Copilot give calls no ids: the answer of a call that was given up became a call of its own.
#[test]
fn an_answer_without_an_id_is_that_of_the_call_that_was_given_up() {
    let s = Session::of(Agent::Gemini);
    let one = |name: &str, path: &str, more: &str| {
        said(name, &format!(r#""tool_name":"read_file","tool_input":{{"file_path":"{path}"}}{more}"#))
    };
    let answer = |path: &str| one("AfterTool", path, r#","tool_response":{"llmContent":"x"}"#);
    s.tell(&[
        &one("BeforeTool", "a", ""),
        &one("BeforeTool", "a", ""),
        &one("BeforeTool", "b", ""),
        &said("AfterAgent", ""),
    ]);
    s.tell(&[&answer("a"), &answer("c"), &answer("a"), &answer("a")]);
    let late: Vec<bool> = s.calls().iter().map(|call| call.call().unwrap().late_answer).collect();
    assert_eq!(late, [false, false, false, true, false, true, false]);
    let of: Vec<u64> = s.calls().iter().filter_map(|call| call.call()?.follows).collect();
    assert!(of.len() == 2 && of[0] != of[1], "{of:?}");
}

/// Two agents, or two sessions of one, recorded in one conversation with `--conversation`: the end of one's turn gave up the calls of
/// the other, and one ended the other's calls.
#[test]
fn agents_and_sessions_that_share_a_conversation_keep_apart() {
    let s = Session::of(Agent::ClaudeCode);
    let mut identity = ada();
    identity.conversation = Some("shared".to_owned());
    let tell = |agent: Agent, session: &str, event: String| {
        let event = event.replace(r#""session_id":"s""#, &format!(r#""session_id":"{session}""#));
        record(&s.log, read(agent, event.as_bytes(), &identity, "2026-11-29T12:00:00Z".parse().unwrap()).unwrap())
            .unwrap()
    };
    for (agent, session) in [(Agent::ClaudeCode, "a"), (Agent::ClaudeCode, "b"), (Agent::Codex, "a")] {
        assert_eq!(tell(agent, session, tool("PreToolUse", "Bash", "1", "")), 1);
    }
    assert_eq!(tell(Agent::ClaudeCode, "b", said("Stop", "")), 1);
    assert_eq!(tell(Agent::Codex, "a", tool("PostToolUse", "Bash", "1", r#""tool_response":"x""#)), 1);
    assert_eq!(s.ends(), [end("Bash", "1", Outcome::Abandoned), end("Bash", "1", Outcome::Ok)]);
    assert!(s.calls()[1].line().contains(r#""program":"codex""#), "{}", s.calls()[1].line());
    assert_eq!((s.unfinished(), tell(Agent::ClaudeCode, "a", said("SessionEnd", ""))), (1, 1));
}

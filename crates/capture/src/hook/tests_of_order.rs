//! Events that come twice, late, in another order or not at all, and agents that share a conversation.

use super::tests::{Session, ada, end, said, tool};
use super::*;
use attestlog::entry::{Source, SourceKind};
use attestlog::json::Json;
use attestlog::{Entry, Kind, Outcome, Query, ToolCall};

fn batch(id: &str, response: &str) -> String {
    said(
        "PostToolBatch",
        &format!(
            r#""tool_calls":[{{"tool_name":"Bash","tool_input":{{"file_path":"/w/{id}"}},"tool_use_id":"{id}","tool_response":{response}}}]"#
        ),
    )
}

/// What was told of calls that the log had already.
fn details(s: &Session) -> Vec<Entry> {
    s.log.query(&Query::new().kind(Kind::CallDetail)).unwrap().map(|entry| entry.unwrap()).collect()
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

/// An import had told of the calls before, under the address of whoever is called `ada` on the machine: the list of all calls of a
/// message counted each of them a second time.
#[test]
fn a_list_of_calls_adds_to_those_that_an_import_has_told_of() {
    let s = Session::of(Agent::ClaudeCode);
    for id in ["1", "2"] {
        let mut source = Source::new(SourceKind::Import);
        source.program = Some("claude-code".to_owned());
        let arguments = Json::parse(format!(r#"{{"file_path":"/w/{id}"}}"#).as_bytes()).unwrap();
        let call = ToolCall::new("s", "ada@example.org", "Bash").call_id(id).arguments(arguments);
        s.log.record(call.source(source).backfilled().result("x")).unwrap();
    }
    s.tell(&[&tool("PreToolUse", "Bash", "1", ""), &tool("PostToolUse", "Bash", "1", r#""tool_response":"x""#)]);
    assert_eq!((s.calls().len(), details(&s).len()), (2, 2));
    // Of the second the list alone tells.
    for _ in 0..2 {
        s.tell(&[&batch("1", r#""x""#), &batch("2", r#""x""#)]);
        assert_eq!((s.calls().len(), details(&s).len(), s.unfinished()), (2, 3, 0));
    }
}

/// Each call of a list that had no beginning and stood in it twice was two calls.
#[test]
fn a_list_that_has_a_call_twice_tells_of_one() {
    let s = Session::of(Agent::ClaudeCode);
    let one = |id: &str, path: &str| {
        format!(
            r#"{{"tool_name":"Bash","tool_input":{{"file_path":"{path}"}},"tool_use_id":"{id}","tool_response":"x"}}"#
        )
    };
    let list = [one("1", "a"), one("1", "a"), one("2", "a"), one("1", "b")].join(",");
    assert_eq!(s.try_tell(&said("PostToolBatch", &format!(r#""tool_calls":[{list}]"#))).unwrap(), 3);
}

/// The event before a call was delivered once more after the call had ended, and was a second call, which was then given up. Where it
/// was a second call with a used id instead, and nothing had been recorded, a tool would have run that the log does not have [R111].
#[test]
fn a_beginning_that_is_told_again_after_the_end_is_kept_and_is_no_second_call() {
    let s = Session::of(Agent::ClaudeCode);
    let turn = |name: &str, id: &str, turn: &str, more: &str| {
        tool(name, "Bash", id, &format!(r#""prompt_id":"{turn}"{more}"#))
    };
    let before = |id: &str, at: &str| turn("PreToolUse", id, at, "");
    let after = |id: &str, at: &str, said: &str| turn("PostToolUse", id, at, &format!(r#","tool_response":"{said}""#));
    s.tell(&[&before("1", "t1"), &after("1", "t1", "x"), &after("1", "t1", "x")]);
    assert_eq!((s.calls().len(), details(&s).len()), (1, 0));
    s.tell(&[&before("1", "t1"), &after("1", "t1", "something else"), &after("1", "t1", "x"), &said("Stop", "")]);
    let told = details(&s);
    assert_eq!((s.calls().len(), begun(&s), s.unfinished(), told.len()), (1, 1, 0, 2));
    for entry in &told {
        assert_eq!(entry.call().unwrap().detail_of(), Some(s.calls()[0].seq));
        assert!(entry.line().contains(r#""told_after_end":true"#), "{}", entry.line());
    }
    let has_ended = |entry: &Entry| entry.call().unwrap().completion.is_some();
    assert_eq!(told.iter().map(has_ended).collect::<Vec<_>>(), [false, true]);
    // In another turn, or with another input, it is another call, and one that runs twice at the same time is not told apart.
    s.tell(&[&before("1", "t2"), &after("1", "t2", "x")]);
    s.tell(&[&before("1", "t2").replace("/w/1", "/w/2"), &after("1", "t2", "x").replace("/w/1", "/w/2")]);
    assert_eq!((s.calls().len(), begun(&s), details(&s).len()), (3, 3, 2));
    // So it is when another call with this id came between.
    s.tell(&[&before("1", "t2")]);
    assert_eq!((begun(&s), details(&s).len()), (3, 3));
}

/// As above, of a call that had no end by the end of its turn: the event that came again was a second call, given up in its turn.
#[test]
fn a_beginning_that_is_told_again_after_its_call_was_given_up_is_no_second_call() {
    let s = Session::of(Agent::Codex);
    let event = |name: &str, turn: &str, more: &str| tool(name, "Bash", "1", &format!(r#""turn_id":"{turn}"{more}"#));
    let before = event("PreToolUse", "t1", "");
    s.tell(&[&before, &said("Stop", ""), &before, &said("Stop", "")]);
    assert_eq!((s.calls().len(), begun(&s), details(&s).len()), (1, 1, 1));
    s.tell(&[&event("PostToolUse", "t1", r#","tool_response":"x""#)]);
    assert!(s.calls()[1].call().unwrap().late_answer);
    // In another turn it is another call, and where no turn is named, the end of the turn was one.
    s.tell(&[&event("PreToolUse", "t2", ""), &said("Stop", "")]);
    let unnamed = tool("PreToolUse", "Bash", "2", "");
    s.tell(&[&unnamed, &said("Stop", ""), &unnamed, &said("Stop", "")]);
    assert_eq!((begun(&s), details(&s).len(), s.unfinished()), (4, 1, 0));
}

/// As above, of calls that an import had told of before: each event that came again was one more call.
#[test]
fn an_event_that_comes_again_for_an_imported_call_is_no_second_call() {
    let s = Session::of(Agent::ClaudeCode);
    let mut source = Source::new(SourceKind::Import);
    source.program = Some("claude-code".to_owned());
    let arguments = Json::parse(br#"{"file_path":"/w/1"}"#).unwrap();
    let call = ToolCall::new("s", "ada", "Bash").call_id("1").arguments(arguments).source(source);
    s.log.record(call.backfilled().result("x")).unwrap();
    let (before, after) =
        (tool("PreToolUse", "Bash", "1", ""), tool("PostToolUse", "Bash", "1", r#""tool_response":"x""#));
    s.tell(&[&before, &before, &after, &after]);
    assert_eq!((s.calls().len(), details(&s).len(), s.unfinished()), (1, 2, 0));
    s.tell(&[&before, &after, &after]);
    let told: Vec<bool> = details(&s).iter().map(|entry| entry.line().contains("told_after_end")).collect();
    assert_eq!((s.calls().len(), s.unfinished(), told), (1, 0, vec![false, false, true, true]));
    s.tell(&[&before.replace("/w/1", "/w/2"), &after.replace("/w/1", "/w/2")]);
    assert_eq!((s.calls().len(), s.unfinished(), details(&s).len()), (2, 0, 4));
}

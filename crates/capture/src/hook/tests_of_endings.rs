//! How a call ended, where an event does not say it in so many words.

use super::tests::{Session, end, said, tool};
use super::*;
use attestlog::Outcome;
use attestlog::json::Json;

fn text(text: &str) -> String {
    Json::from(text).to_canonical().to_string()
}

/// An event about a call with this input.
fn about(name: &str, tool: &str, id: &str, input: &str, more: &str) -> String {
    said(name, &format!(r#""tool_name":"{tool}","tool_input":{input},"tool_use_id":"{id}"{more}"#))
}

/// A call that was begun, and what the list of its message then says of it.
fn listed(s: &Session, id: &str, tool: &str, input: &str, response: &str) {
    let call = format!(
        r#"{{"tool_name":"{tool}","tool_input":{input},"tool_use_id":"{id}","tool_response":{}}}"#,
        text(response)
    );
    s.tell(&[&about("PreToolUse", tool, id, input, ""), &said("PostToolBatch", &format!(r#""tool_calls":[{call}]"#))]);
}

/// Two of three refusals in a real session were `ok`, since their words were not among those that were known; a command that failed was
/// `ok` too; and what a command printed could play a refusal.
#[test]
fn a_list_of_calls_says_what_was_refused_in_words_about_this_very_call() {
    let s = Session::of(Agent::ClaudeCode);
    let command = |command: &str| format!(r#"{{"command":{}}}"#, text(command));
    let several = "This Bash command contains multiple operations. The following part requires approval: exit 3";
    let denied = |command: &str| format!("Permission to use Bash with command {command} has been denied.");
    let not_granted = "Claude requested permissions to write to /w/b.txt, but you haven't granted it yet.";
    listed(&s, "1", "Bash", &command("echo oops >&2; exit 3"), several);
    listed(&s, "2", "Bash", &command("rm -rf /w/never"), &denied("rm -rf /w/never"));
    listed(&s, "3", "Write", r#"{"file_path":"/w/b.txt","content":"x"}"#, not_granted);
    listed(&s, "4", "Bash", &command("x"), "Exit code 3\noops");
    listed(&s, "5", "Bash", &command("cat a"), &denied("rm -rf /"));
    listed(&s, "6", "Bash", &command("x"), "This call needs an approval that nobody gave");
    listed(&s, "7", "Bash", &command("x"), "hello");
    let ends = [
        end("Bash", "1", Outcome::Denied),
        end("Bash", "2", Outcome::Denied),
        end("Write", "3", Outcome::Denied),
        end("Bash", "4", Outcome::ToolError),
        end("Bash", "5", Outcome::Abandoned),
        end("Bash", "6", Outcome::Abandoned),
        end("Bash", "7", Outcome::Ok),
    ];
    assert_eq!((s.ends(), s.unfinished()), (ends.to_vec(), 0));
    for (at, has) in [
        (1, r#""approval":{"decision":"denied","source":"rule"}"#),
        (2, r#""approval":{"decision":"denied","source":"user"}"#),
        (3, r#""outcome_from":"words of the agent""#),
        (5, "may be a refusal"),
        (6, r#""outcome_from":"PostToolBatch alone""#),
    ] {
        assert!(s.calls()[at].line().contains(has), "{has}: {}", s.calls()[at].line());
    }
    // What had been recorded as given up has an end after all.
    s.tell(&[&about("PostToolUse", "Bash", "5", &command("cat a"), r#","tool_response":"x""#)]);
    assert_eq!(s.ends().last(), Some(&end("Bash", "5", Outcome::Ok)));
}

/// A command that the user broke off had gone well.
#[test]
fn what_was_broken_off_did_not_go_well() {
    let s = Session::of(Agent::ClaudeCode);
    let response = r#""tool_response":{"stdout":"a","stderr":"","interrupted":true}"#;
    s.tell(&[&tool("PreToolUse", "Bash", "1", ""), &tool("PostToolUse", "Bash", "1", response)]);
    assert_eq!(s.ends(), [end("Bash", "1", Outcome::Abandoned)]);
}

/// A shell command of the Gemini CLI that ended with 3 had gone well, though the line is in the event.
#[test]
fn the_gemini_cli_writes_the_exit_code_below_the_output() {
    let s = Session::of(Agent::Gemini);
    let output = "<untrusted_context>\nOutput: oops\nExit Code: 3\nProcess Group PGID: 2371\n</untrusted_context>";
    for (command, shown) in [("a", "oops"), ("b", "oops\nExit Code: 3")] {
        let call = format!(r#""tool_name":"run_shell_command","tool_input":{{"command":"{command}"}}"#);
        let response = format!(r#"{{"llmContent":{},"returnDisplay":{}}}"#, text(output), text(shown));
        s.tell(&[&said("BeforeTool", &call), &said("AfterTool", &format!(r#"{call},"tool_response":{response}"#))]);
    }
    let outcomes: Vec<Outcome> = s.ends().into_iter().map(|(.., outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::ToolError, Outcome::Ok]);
}

/// A tool whose error was "permission denied", as an operating system says it, had been refused.
#[test]
fn an_error_of_opencode_is_no_refusal_for_a_word_in_it() {
    let s = Session::of(Agent::OpenCode);
    for (id, error) in [
        ("1", "EACCES: permission denied, open '/x'"),
        ("2", "The user rejected permission to use this specific tool call."),
    ] {
        let state = format!(r#"{{"status":"error","input":{{}},"error":{}}}"#, text(error));
        let part = format!(r#"{{"type":"tool","tool":"t","sessionID":"s","callID":"{id}","state":{state}}}"#);
        let bus = format!(r#"{{"type":"message.part.updated","properties":{{"sessionID":"s","part":{part}}}}}"#);
        s.tell(&[&format!(r#"{{"hook":"event","event":{bus}}}"#)]);
    }
    assert_eq!(s.ends(), [end("t", "1", Outcome::ToolError), end("t", "2", Outcome::Denied)]);
}

/// Events about a tool that nobody knows were passed over, so that a tool would have run that the log does not have.
#[test]
fn an_unknown_event_about_a_tool_is_refused_whatever_its_members_are_called() {
    let unknown = |agent: Agent, event: &str| {
        let e = Session::of(agent).try_tell(event).expect_err(event);
        assert!(e.to_string().contains("is about a tool"), "{event}: {e}");
    };
    for more in [r#""toolCall":{"name":"Bash"}"#, r#""tool":"Bash""#, r#""tool_uses":[]"#] {
        unknown(Agent::ClaudeCode, &said("SomethingNew", more));
    }
    for input in [r#"{"tool":"bash"}"#, r#"{"callID":"1"}"#] {
        unknown(Agent::OpenCode, &format!(r#"{{"hook":"tool.execute.failed","input":{input}}}"#));
    }
    let s = Session::of(Agent::OpenCode);
    s.tell(&[r#"{"hook":"chat.params","input":{"sessionID":"s"},"output":{}}"#]);
    assert_eq!(s.calls().len(), 0);
}

/// A secret that was the name of a member of an event that was no JSON stood in the message, and so in the agent's log.
#[test]
fn what_is_no_event_is_refused_without_the_secrets_in_it() {
    let token = format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a");
    let e = Session::of(Agent::ClaudeCode).try_tell(&format!(r#"{{"{token}":tru}}"#)).unwrap_err();
    assert!(e.to_string().contains("not JSON") && !e.to_string().contains(&token), "{e}");
}

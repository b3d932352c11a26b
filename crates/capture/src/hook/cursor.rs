//! Cursor, as its documentation describes it: `preToolUse`, `postToolUse` and `postToolUseFailure` of every tool, and in versions
//! before these the events of shell commands and of MCP tools alone, which have no ids.

use super::dialect::succeeded;
use super::told::{Told, message, with_arguments};
use super::{Agent, Event, Identity, Moment, Step, abandoned, stale, unknown};
use attestlog::json::{Json, Limits, Object, Parsed};
use attestlog::{Outcome, Result, Timestamp, ToolCall, Unmatched};

const AGENT: Agent = Agent::Cursor;
const SESSION: [&str; 4] = ["cwd", "transcript_path", "workspace_roots", "user_email"];

pub(super) fn event(told: &Told, identity: &Identity, now: Timestamp) -> Result<Event> {
    let name = told.text("hook_event_name")?.or_else(|| identity.event.clone());
    let of = Cursor { told, identity };
    let begin = |call: ToolCall| Ok(Event::new(Moment::Before, vec![Step::Begin(call.into())]));
    let end = |call: ToolCall| Ok(Event::new(Moment::After, vec![Step::End(call.into(), Unmatched::Record)]));
    match name.as_deref() {
        Some("preToolUse") => begin(of.tool()?),
        Some("postToolUse") => end(answered(of.tool()?, parsed(told.value("tool_output")))),
        Some("postToolUseFailure") => end(of.failed()?),
        Some("beforeShellExecution") => begin(of.shell()?),
        Some("afterShellExecution") => end(succeeded(of.shell()?, told.value("output"))),
        Some("beforeMCPExecution") => begin(of.mcp()?),
        Some("afterMCPExecution") => end(answered(of.mcp()?, parsed(told.value("result_json")))),
        Some("stop" | "sessionEnd") => {
            let which = abandoned(AGENT, told, of.conversation()?, identity, "the turn ended");
            Ok(Event::new(Moment::Aside, vec![Step::Abandon(which)]))
        }
        Some("sessionStart") => Ok(Event::new(Moment::Aside, vec![stale(now)])),
        // Of a subagent, whose own calls have events of their own; of files, after the tool that read or edited them.
        Some("subagentStart" | "subagentStop" | "beforeReadFile" | "afterFileEdit") => Ok(Event::none()),
        other => unknown(AGENT, other, told),
    }
}

struct Cursor<'a> {
    told: &'a Told,
    identity: &'a Identity,
}

impl Cursor<'_> {
    fn conversation(&self) -> Result<String> {
        let said = || match self.told.first(&["conversation_id", "session_id"])? {
            Some(said) => Ok(said),
            None => self.told.needed("conversation_id"),
        };
        self.identity.conversation.clone().map_or_else(said, Ok)
    }

    fn call(&self, tool: String) -> Result<ToolCall> {
        let mut call = self.told.call(AGENT, (self.conversation()?, tool), self.identity, &SESSION);
        if call.model.is_none() {
            call.model = self.told.text("model")?;
        }
        call.duration_ms = self.told.milliseconds("duration");
        if let (Some(source), Some(version)) =
            (call.circumstances.sources.first_mut(), self.told.text("cursor_version")?)
        {
            source.version = Some(version);
        }
        Ok(match self.told.text("generation_id")? {
            Some(prompt) => call.prompt(prompt),
            None => call,
        })
    }

    fn tool(&self) -> Result<ToolCall> {
        let mut call = self.call(self.told.needed("tool_name")?)?;
        call.call_id = self.told.text("tool_use_id")?;
        Ok(with_arguments(call, self.told.value("tool_input")))
    }

    fn shell(&self) -> Result<ToolCall> {
        let command = Object::from_iter([("command", Json::from(self.told.needed("command")?))]);
        Ok(with_arguments(self.call("Shell".to_owned())?, Some(Parsed { value: command.into(), restated: Vec::new() })))
    }

    fn mcp(&self) -> Result<ToolCall> {
        let mut call = self.call(self.told.needed("tool_name")?)?;
        call.tool_server = self.told.first(&["server", "url", "command"])?;
        Ok(with_arguments(call, parsed(self.told.value("tool_input"))))
    }

    fn failed(&self) -> Result<ToolCall> {
        let error = self.told.value("error_message").map(|error| message(&error.value)).unwrap_or_default();
        let outcome = match self.told.text("failure_type")?.as_deref() {
            _ if self.told.is_true("is_interrupt") => Outcome::Abandoned,
            Some("timeout") => Outcome::Timeout,
            Some("permission_denied") => Outcome::Denied,
            _ => Outcome::ToolError,
        };
        Ok(self.tool()?.error(error).outcome(outcome))
    }
}

/// The call with its answer; one with an exit code other than 0 has failed.
fn answered(call: ToolCall, output: Option<Parsed>) -> ToolCall {
    let code = output.as_ref().and_then(|output| output.value.get("exitCode")?.as_i64());
    let call = succeeded(call, output);
    if code.is_some_and(|code| code != 0) { call.outcome(Outcome::ToolError) } else { call }
}

/// The value that a text of JSON holds.
pub(super) fn parsed(value: Option<Parsed>) -> Option<Parsed> {
    let given = value?;
    let inner = given.value.as_str().and_then(|text| Json::parse_lenient(text.as_bytes(), &Limits::default()).ok());
    Some(inner.unwrap_or(given))
}

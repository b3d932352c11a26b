//! The dialect of Claude Code's hooks, which Codex and Gemini speak too, with other names for some events and members.
//!
//! A call that a rule denies gets `PreToolUse`, and then is heard of only in `PostToolBatch`; a tool that does not exist is heard of
//! only there. Gemini gives calls no ids. Codex reports no end of calls that fail in certain ways: they are given up at the end of
//! the turn.

use super::told::{Told, message, note, with_arguments, with_result};
use super::{Agent, Event, Identity, Moment, Step, abandoned, stale, unknown};
use attestlog::entry::{Approval, Decision};
use attestlog::json::{Json, Parsed};
use attestlog::{Outcome, Result, Timestamp, ToolCall, Unmatched};

/// What an event says of the session.
const SESSION: [&str; 5] = ["cwd", "permission_mode", "transcript_path", "agent_type", "source"];

/// How the text begins that stands in place of a result if no tool was run.
const NOT_RUN: &str = "<tool_use_error>";

pub(super) fn event(agent: Agent, told: &Told, identity: &Identity, now: Timestamp) -> Result<Event> {
    let name = told.text("hook_event_name")?.or_else(|| identity.event.clone());
    let of = Dialect { agent, told, identity };
    let (moment, steps) = match name.as_deref() {
        Some("PreToolUse" | "BeforeTool") => (Moment::Before, vec![Step::Begin(of.call(told)?.into())]),
        Some("PostToolUse" | "AfterTool") => (Moment::After, vec![Step::End(of.answered()?.into(), Unmatched::Record)]),
        Some("PostToolUseFailure") => (Moment::After, vec![Step::End(of.failed()?.into(), Unmatched::Record)]),
        Some("PermissionDenied") => (Moment::After, vec![Step::End(of.denied()?.into(), Unmatched::RecordIfNew)]),
        Some("PostToolBatch") => (Moment::After, of.batch()?),
        Some("Stop" | "StopFailure" | "AfterAgent") => {
            let mut which = abandoned(agent, told, of.conversation()?, identity, "the turn ended");
            which.agent = Some(told.text("agent_id")?);
            (Moment::Aside, vec![Step::Abandon(which)])
        }
        Some("SubagentStop") => {
            let mut which = abandoned(agent, told, of.conversation()?, identity, "the agent ended");
            which.agent = Some(Some(told.needed("agent_id")?));
            (Moment::Aside, vec![Step::Abandon(which)])
        }
        Some("SessionEnd") => (
            Moment::Aside,
            vec![Step::Abandon(abandoned(agent, told, of.conversation()?, identity, "the session ended"))],
        ),
        Some("SessionStart") => (Moment::Aside, vec![stale(now)]),
        // It names no call: how the request was answered is known when the call ends.
        Some("PermissionRequest" | "BeforeToolSelection") => (Moment::Aside, Vec::new()),
        other => return unknown(agent, other, told),
    };
    Ok(Event::new(moment, steps))
}

struct Dialect<'a> {
    agent: Agent,
    told: &'a Told,
    identity: &'a Identity,
}

impl Dialect<'_> {
    fn conversation(&self) -> Result<String> {
        let said = self.told.needed("session_id");
        self.identity.conversation.clone().map_or(said, Ok)
    }

    /// The call that `of` names: the event itself, or one of its list.
    fn call(&self, of: &Told) -> Result<ToolCall> {
        let tool = of.needed("tool_name")?;
        let server = self.server(of, &tool)?;
        let mut call = self.told.call(self.agent, (self.conversation()?, tool), self.identity, &SESSION);
        call.call_id = of.text("tool_use_id")?;
        call.agent_id = self.told.text("agent_id")?;
        call.tool_server = server;
        call.timestamp = self.told.time("timestamp");
        if call.model.is_none() {
            call.model = self.told.text("model")?;
        }
        if let Some(prompt) = self.told.first(&["prompt_id", "turn_id"])? {
            call = call.prompt(prompt);
        }
        Ok(with_arguments(call, of.value("tool_input")))
    }

    /// The MCP server of a tool: as the event says, or as its name does (`mcp__SERVER__TOOL`).
    fn server(&self, of: &Told, tool: &str) -> Result<Option<String>> {
        let said = match (of.inner("mcp_server"), of.inner("mcp_context")) {
            (Some(server), _) => server.text("name")?,
            (None, Some(context)) => context.text("server_name")?,
            (None, None) => of.text("mcp_server").unwrap_or_default(),
        };
        let named = || tool.strip_prefix("mcp__")?.split_once("__").map(|(server, _)| server.to_owned());
        Ok(said.or_else(named).filter(|server| !server.is_empty()))
    }

    /// The call with the time that it took.
    fn ended(&self) -> Result<ToolCall> {
        let mut call = self.call(self.told)?;
        call.duration_ms = self.told.milliseconds("duration_ms");
        Ok(call)
    }

    /// A call whose tool has answered.
    fn answered(&self) -> Result<ToolCall> {
        let (call, response) = (self.ended()?, self.told.value("tool_response"));
        let failure = self.told.inner("tool_response").and_then(|response| response.inner("error"));
        if let (Agent::Gemini, Some(error)) = (self.agent, failure) {
            let text = error.value("message").map(|text| message(&text.value)).unwrap_or_default();
            return Ok(match error.text("type")? {
                Some(kind) => call.typed_error(kind, text),
                None => call.error(text),
            });
        }
        Ok(succeeded(call, response))
    }

    /// A call whose tool failed, or was interrupted.
    fn failed(&self) -> Result<ToolCall> {
        let error = self.told.value("error").or_else(|| self.told.value("tool_response"));
        let call = self.ended()?.error(error.map(|error| message(&error.value)).unwrap_or_default());
        let interrupted = self.told.is_true("is_interrupt");
        Ok(call.outcome(if interrupted { Outcome::Abandoned } else { Outcome::ToolError }))
    }

    /// A call that was denied before its tool ran.
    fn denied(&self) -> Result<ToolCall> {
        let reason = self.told.value("reason").map(|reason| message(&reason.value));
        let call = self.ended()?.error(reason.unwrap_or_else(|| "permission denied".to_owned()));
        Ok(refused(call, Some("mode")).outcome(Outcome::Denied))
    }

    /// The calls of one message of the model, after all of them. One that did not end yet was denied if the text in place of a
    /// result says so; otherwise its end was not recorded, and it ended as its response says. One that never began had no tool, or
    /// its beginning was not recorded either.
    fn batch(&self) -> Result<Vec<Step>> {
        let settle = |of: Told| {
            let (call, response) = (self.call(&of)?, of.value("tool_response"));
            let text = response.as_ref().and_then(|response| response.value.as_str()).unwrap_or_default();
            let (not_run, refuser) = (text.starts_with(NOT_RUN), refuser(text));
            // What looks like a refusal may be a tool's answer, so it is kept as results are, not as a message.
            let ended = match refuser {
                _ if not_run => with_result(call.clone(), response.clone()).outcome(Outcome::ToolError),
                Some(by) => refused(with_result(call.clone(), response.clone()), Some(by)).outcome(Outcome::Denied),
                None => succeeded(call.clone(), response.clone()),
            };
            let alone = match not_run {
                true => with_result(call, response).outcome(Outcome::ProtocolError),
                false => ended.clone(),
            };
            let alone = note(alone, "first_heard_of", "PostToolBatch");
            Ok((ended, alone))
        };
        let calls = self.told.list("tool_calls")?.into_iter().map(settle).collect::<Result<_>>()?;
        Ok(vec![Step::Settle(calls)])
    }
}

/// The call with the approval that it did not get, from this source.
fn refused(call: ToolCall, source: Option<&str>) -> ToolCall {
    let mut approval = Approval::new(Decision::Denied);
    approval.source = source.map(str::to_owned);
    call.approval(approval)
}

/// Who refused a call that Claude Code reports with this text. What follows its beginning may be the model's words.
fn refuser(text: &str) -> Option<&'static str> {
    match () {
        () if text.starts_with("PreToolUse:") || text.starts_with("Hook PreToolUse:") => Some("hook"),
        () if text.starts_with("The user doesn't want") => Some("user"),
        () if text.starts_with("Permission to use ") => Some("rule"),
        () => None,
    }
}

/// The call with an answer of which the agent says that it is no failure. A text that begins with the word "Error" is one that the
/// tool read, not its failure.
pub(super) fn succeeded(call: ToolCall, response: Option<Parsed>) -> ToolCall {
    let is_text = response.as_ref().is_none_or(|response| matches!(response.value, Json::String(_) | Json::Null));
    let call = with_result(call, response);
    if is_text { call.outcome(Outcome::Ok) } else { call }
}

//! The dialect of Claude Code's hooks, which Codex and Gemini speak too, with other names for some events and members.
//!
//! A call that a rule denies gets `PreToolUse`, and then is heard of only in `PostToolBatch`; a tool that does not exist is heard of
//! only there. Gemini gives calls no ids. Codex reports no end of calls that fail in certain ways: they are given up at the end of
//! the turn.

use super::told::{Told, message, note, with_arguments, with_result};
use super::{Agent, Event, Identity, Moment, Step, abandoned, stale, unknown};
use crate::ended::words;
use attestlog::entry::failure::text_fails;
use attestlog::entry::{Approval, Decision};
use attestlog::json::{Json, Parsed};
use attestlog::{Outcome, Result, Timestamp, ToolCall, Unmatched};

/// What an event says of the session.
const SESSION: [&str; 5] = ["cwd", "permission_mode", "transcript_path", "agent_type", "source"];

/// Words of refusals. A text in place of a result that has one of them near its beginning, and is no refusal that is known, may be one of
/// another version of the agent, or what the tool printed.
const OF_REFUSALS: [&str; 8] =
    ["permission", "denied", "approval", "granted", "not allowed", "rejected", "blocked", "cancelled"];
/// How far into such a text they are looked for.
const NEAR: usize = 400;

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
        let part = |name: &str| self.told.inner("tool_response").and_then(|of| of.text(name).ok()?);
        let shell = |said: String| words::gemini_shell(&call.tool_name, &said, part("returnDisplay").as_deref());
        let ended = match self.agent {
            Agent::Gemini => part("llmContent").and_then(shell),
            _ => None,
        };
        let interrupted = self.told.inner("tool_response").is_some_and(|of| of.is_true("interrupted"));
        Ok(match ended {
            Some((outcome, is_guess)) => {
                let call = with_result(call, response).outcome(outcome);
                if is_guess { in_words(call) } else { call }
            }
            None if interrupted => with_result(call, response).outcome(Outcome::Abandoned),
            None => succeeded(call, response),
        })
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

    /// The calls of one message of the model, after all of them. Those that are begun and did not end were not run, or their end was not
    /// recorded; one that never began had no tool, or its beginning was not recorded either.
    fn batch(&self) -> Result<Vec<Step>> {
        let settle = |of: Told| {
            let call = self.call(&of)?;
            let ended = as_told_to_the_model(call, of.value("tool_input"), of.value("tool_response"));
            let alone = note(ended.clone(), "first_heard_of", "PostToolBatch");
            Ok((ended, alone))
        };
        let calls = self.told.list("tool_calls")?.into_iter().map(settle).collect::<Result<_>>()?;
        Ok(vec![Step::Settle(calls)])
    }
}

/// The call as it ended if all that is known of it is what the model was told. A refusal is a text, which a tool's answer may be too: so
/// it counts only in the agent's own words about this very call, and is kept as results are, not as a message.
fn as_told_to_the_model(call: ToolCall, input: Option<Parsed>, response: Option<Parsed>) -> ToolCall {
    let Some(text) = response.as_ref().and_then(|response| response.value.as_str()).map(str::to_owned) else {
        return succeeded(call, response);
    };
    let refused_or_not_run = words::claude_code(&call.tool_name, input.as_ref().map(|input| &input.value), &text);
    let exit = words::claude_code_exit(&call.tool_name, &text);
    if let Some((outcome, by)) = refused_or_not_run {
        let call = with_result(call, response).outcome(outcome);
        return in_words(if outcome == Outcome::Denied { refused(call, by) } else { call });
    }
    if exit.is_some_and(|code| code != 0) {
        return in_words(with_result(call, response).outcome(Outcome::ToolError));
    }
    let near: String = text.chars().take(NEAR).flat_map(char::to_lowercase).collect();
    if text_fails(&text) || OF_REFUSALS.iter().any(|words| near.contains(words)) {
        let call = with_result(call, response).outcome(Outcome::Abandoned);
        return note(
            call,
            "ending",
            "no event told how the call ended, and the text in place of its result may be a refusal",
        );
    }
    note(succeeded(call, response), "outcome_from", "PostToolBatch alone")
}

/// The call with a note that only words of the agent say how it ended.
pub(super) fn in_words(call: ToolCall) -> ToolCall {
    note(call, "outcome_from", "words of the agent")
}

/// The call with the approval that it did not get, from this source.
fn refused(call: ToolCall, source: Option<&str>) -> ToolCall {
    let mut approval = Approval::new(Decision::Denied);
    approval.source = source.map(str::to_owned);
    call.approval(approval)
}

/// The call with an answer of which the agent says that it is no failure. A text that begins with the word "Error" is one that the
/// tool read, not its failure.
pub(super) fn succeeded(call: ToolCall, response: Option<Parsed>) -> ToolCall {
    let is_text = response.as_ref().is_none_or(|response| matches!(response.value, Json::String(_) | Json::Null));
    let call = with_result(call, response);
    if is_text { call.outcome(Outcome::Ok) } else { call }
}

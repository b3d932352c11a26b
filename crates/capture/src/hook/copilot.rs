//! GitHub Copilot, as its documentation describes it: the command line and the coding agent (`toolName`, `toolArgs`, `toolResult`; the
//! event's name is not in it), and Visual Studio Code, which speaks Claude Code's dialect.

use super::cursor::parsed;
use super::dialect::{self, succeeded};
use super::told::{Told, message, with_arguments, with_result};
use super::{Agent, Event, Identity, Moment, Step, abandoned, stale, unknown};
use attestlog::{Outcome, Result, Timestamp, ToolCall, Unmatched};

const AGENT: Agent = Agent::Copilot;
const SESSION: [&str; 3] = ["cwd", "transcriptPath", "source"];

pub(super) fn event(told: &Told, identity: &Identity, now: Timestamp) -> Result<Event> {
    if told.has("hook_event_name") && !told.has("toolName") {
        return dialect::event(AGENT, told, identity, now);
    }
    let said = told.first(&["hookEventName", "hook_event_name", "eventName"])?.or_else(|| identity.event.clone());
    let name = said.or_else(|| guessed(told).map(str::to_owned));
    let end = |call: ToolCall| Ok(Event::new(Moment::After, vec![Step::End(call.into(), Unmatched::Record)]));
    match name.as_deref() {
        Some("preToolUse") => Ok(Event::new(Moment::Before, vec![Step::Begin(call(told, identity)?.into())])),
        Some("postToolUse") => end(answered(told, call(told, identity)?)?),
        Some("postToolUseFailure") => {
            let error = told.value("error").map(|error| message(&error.value)).unwrap_or_default();
            end(call(told, identity)?.error(error))
        }
        Some("sessionEnd" | "agentStop") => {
            let which = abandoned(AGENT, told, conversation(told, identity)?, identity, "the turn ended");
            Ok(Event::new(Moment::Aside, vec![Step::Abandon(which)]))
        }
        Some("sessionStart") => Ok(Event::new(Moment::Aside, vec![stale(now)])),
        Some("permissionRequest") => Ok(Event::none()),
        other => unknown(AGENT, other, told),
    }
}

/// The name of an event that does not say it, if only one has these members.
fn guessed(told: &Told) -> Option<&'static str> {
    match (told.has("toolName"), told.has("toolResult")) {
        (true, true) => Some("postToolUse"),
        (true, false) if told.has("toolArgs") => Some("preToolUse"),
        _ => None,
    }
}

/// The session; versions that do not name it are told apart by the folder that they work in.
fn conversation(told: &Told, identity: &Identity) -> Result<String> {
    let said = || match told.first(&["sessionId", "session_id"])? {
        Some(said) => Ok(said),
        None => Ok(format!("copilot in {}", told.needed("cwd")?)),
    };
    identity.conversation.clone().map_or_else(said, Ok)
}

fn call(told: &Told, identity: &Identity) -> Result<ToolCall> {
    let mut call = told.call(AGENT, (conversation(told, identity)?, told.needed("toolName")?), identity, &SESSION);
    call.call_id = told.first(&["toolCallId", "toolUseId"])?;
    call.timestamp = told.time("timestamp");
    if call.model.is_none() {
        call.model = told.text("model")?;
    }
    Ok(with_arguments(call, parsed(told.value("toolArgs"))))
}

fn answered(told: &Told, call: ToolCall) -> Result<ToolCall> {
    let Some(result) = told.inner("toolResult") else { return Ok(succeeded(call, told.value("toolResult"))) };
    let text = result.value("textResultForLlm").map(|text| message(&text.value)).unwrap_or_default();
    Ok(match result.text("resultType")?.as_deref() {
        Some("denied" | "rejected") => call.error(text).outcome(Outcome::Denied),
        Some("timeout") => call.error(text).outcome(Outcome::Timeout),
        Some("failure" | "error") => call.error(text).outcome(Outcome::ToolError),
        None | Some("success" | "ok") => succeeded(call, told.value("toolResult")),
        // A word of another version, which may be one for a failure.
        Some(_) => with_result(call, told.value("toolResult")).outcome(Outcome::Abandoned),
    })
}

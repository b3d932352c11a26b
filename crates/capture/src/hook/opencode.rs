//! OpenCode: its plugin passes on what the plugin's functions are called with, as `{"hook":NAME,"input":{…},"output":{…}}`, and what
//! happens on the bus as `{"hook":"event","event":{…}}`.
//!
//! A call that fails or is denied ends only on the bus, in `message.part.updated`; so does one whose tool does not exist.

use super::told::{Told, message, with_arguments};
use super::{Agent, Event, Identity, Moment, Step, abandoned, dialect, is_about_tool, unknown};
use crate::ended::words;
use attestlog::json::{Json, Parsed};
use attestlog::{Outcome, Result, ToolCall, Unmatched};

const AGENT: Agent = Agent::OpenCode;
const SESSION: [&str; 3] = ["directory", "agent", "parent_session_id"];

pub(super) fn event(told: &Told, identity: &Identity) -> Result<Event> {
    let name = told.first(&["hook", "hook_event_name"])?.or_else(|| identity.event.clone());
    let part =
        |name: &str| told.inner(name).ok_or_else(|| attestlog::Error::invalid("must be an object").in_member(name));
    match name.as_deref() {
        Some("tool.execute.before") => {
            let call = call(told, &part("input")?, part("output")?.value("args"), identity)?;
            Ok(Event::new(Moment::Before, vec![Step::Begin(call.into())]))
        }
        Some("tool.execute.after") => {
            let (input, output) = (part("input")?, part("output")?);
            let call = call(told, &input, input.value("args"), identity)?;
            let call = match input.text("tool")?.as_deref() {
                Some(words::OPENCODE_STAND_IN) => {
                    let why = input.inner("args").map(|args| error(&args)).unwrap_or_default();
                    call.typed_error("not_run", why).outcome(Outcome::ProtocolError)
                }
                _ => exit_code(dialect::succeeded(call, told.value("output")), &output),
            };
            Ok(Event::new(Moment::After, vec![Step::End(call.into(), Unmatched::Record)]))
        }
        Some("event") => bus(told, &part("event")?, identity),
        // What it is called with tells of a tool.
        Some(_) if told.inner("input").is_some_and(|input| is_about_tool(&input)) => {
            unknown(AGENT, name.as_deref(), &part("input")?)
        }
        other => unknown(AGENT, other, told),
    }
}

/// The call that `input` names, which the plugin's function was called with.
fn call(told: &Told, input: &Told, arguments: Option<Parsed>, identity: &Identity) -> Result<ToolCall> {
    let mut tool = input.needed("tool")?;
    if tool == words::OPENCODE_STAND_IN
        && let Some(asked) = arguments.as_ref().and_then(|arguments| arguments.value.get("tool")?.as_str())
    {
        tool = asked.to_owned();
    }
    let mut call = told.call(AGENT, (input.needed("sessionID")?, tool), identity, &SESSION);
    call.call_id = input.text("callID")?;
    if call.model.is_none() {
        call.model = told.text("model")?;
    }
    Ok(with_arguments(call, arguments))
}

fn error(of: &Told) -> String {
    of.value("error").map(|error| message(&error.value)).unwrap_or_default()
}

/// A shell command that ended with another code than 0 has failed, though OpenCode calls it completed.
fn exit_code(call: ToolCall, output: &Told) -> ToolCall {
    let code = output.inner("metadata").and_then(|metadata| metadata.value("exit")?.value.as_i64());
    match code {
        Some(code) if code != 0 => call.outcome(Outcome::ToolError),
        _ => call,
    }
}

/// An event of the bus.
fn bus(told: &Told, event: &Told, identity: &Identity) -> Result<Event> {
    let none = Ok(Event::none());
    let Some(properties) = event.inner("properties") else { return none };
    match event.text("type")?.as_deref() {
        Some("message.part.updated") => {
            let Some(part) =
                properties.inner("part").filter(|part| part.text("type").ok().flatten().as_deref() == Some("tool"))
            else {
                return none;
            };
            let Some(state) = part.inner("state") else { return none };
            if state.text("status")?.as_deref() != Some("error") {
                return none;
            }
            let error = error(&state);
            let outcome = words::opencode(&error);
            let call = call(told, &part, state.value("input"), identity)?.error(error);
            let call = match outcome {
                Some(outcome) => dialect::in_words(call.outcome(outcome)),
                None => call.outcome(Outcome::ToolError),
            };
            Ok(Event::new(Moment::After, vec![Step::End(took(call, &state).into(), Unmatched::RecordIfNew)]))
        }
        Some("session.deleted" | "session.idle" | "session.error") => {
            let info = properties.inner("info");
            let deleted = info.map(|info| info.text("id")).transpose()?.flatten();
            let Some(session) = properties.text("sessionID")?.or(deleted) else { return none };
            let conversation = identity.conversation.clone().unwrap_or_else(|| session.clone());
            let mut which = abandoned(AGENT, told, conversation, identity, "the turn ended");
            which.session = identity.conversation.is_some().then_some(session);
            Ok(Event::new(Moment::Aside, vec![Step::Abandon(which)]))
        }
        _ => none,
    }
}

/// The call with the time between its start and its end.
fn took(mut call: ToolCall, state: &Told) -> ToolCall {
    let time = |name: &str| state.inner("time")?.value(name)?.value.as_f64();
    if let (Some(start), Some(end)) = (time("start"), time("end")) {
        call.duration_ms = Some(end - start).filter(|ms| *ms >= 0.0);
    }
    call.metadata("reported_by", Json::from("message.part.updated"))
}

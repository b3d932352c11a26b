//! The attributes and events in which the dialects of OpenTelemetry record a tool's arguments, its result and how the
//! call ended.
//!
//! Everything known about a tool's span is here; any other attribute whose name refers to these is reported (invariant
//! R71, see `speaks`). If two attributes give the same thing, the first in the list is used, and the other is reported
//! if its content differs.

use super::answer::{self, tell_the_same};
use super::attributes::{attribute, attribute_text, held};
use super::detect;
use super::file::At;
use super::{Format, NotTaken, Untaken, speaks};
use attestlog::Result;
use attestlog::entry::failure::{is_called, is_set, status_fails};
use attestlog::json::{Json, Object};

const ARGUMENTS: &[&str] = &[
    "gen_ai.tool.call.arguments",
    "ai.toolCall.args",
    "ai.toolCall.input",
    "tool_arguments",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "input.value",
    "gcp.vertex.agent.tool_call_args",
    "mcp.tool.arguments",
    "mcp.request.arguments",
    "gen_ai.tool.arguments",
    "gen_ai.tool.input",
    "tool.call.arguments",
    "tool_call.function.arguments",
    "function.arguments",
    "tool.arguments",
    "tool.input",
    "tool_input",
    "gen_ai.prompt",
    "arguments",
    "input",
    "function_args",
    DESCRIPTION,
];
/// Most writers put the description of the tool's parameters here, some put its arguments here.
const DESCRIPTION: &str = "tool.parameters";
/// Prefixes of attributes that hold one argument each.
const ARGUMENT: &[&str] = &["mcp.request.argument.", "mcp.tool.arguments.", "gen_ai.tool.call.arguments."];
const RESULTS: &[&str] = &[
    "gen_ai.tool.call.result",
    "ai.toolCall.result",
    "ai.toolCall.output",
    "tool_response",
    "traceloop.entity.output",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "output.value",
    "gcp.vertex.agent.tool_response",
    "mcp.tool.result",
    "mcp.response.result",
    "gen_ai.tool.result",
    "gen_ai.tool.output",
    "tool.call.result",
    "tool.response",
    "tool.result",
    "tool.output",
    "tool_result",
    "tool_output",
    "gen_ai.completion",
    "response",
    "result",
    "output",
    "function_result",
];
/// Attributes with a status as a word.
const STATUSES: &[&str] = &[
    "otel.status_code",
    "langfuse.observation.level",
    "gen_ai.tool.call.status",
    "gen_ai.tool.status",
    "tool.status",
    "tool_status",
    "mcp.tool.status",
];
/// Attributes with a protocol's status code as a number.
const CODES: &[&str] = &[
    "rpc.jsonrpc.error_code",
    "jsonrpc.error_code",
    "rpc.response.status_code",
    "http.status_code",
    "http.response.status_code",
];
/// Attributes with the exit code of a program, and such that say whether all went well, by the last part of their names.
const EXITS: &[&str] = &["exitcode", "code"];
const SUCCESSES: &[&str] = &["success", "succeeded"];
/// Attributes with an error message, whether or not their presence alone marks an error.
const MESSAGES: &[&str] = &[
    "error.message",
    "exception.message",
    "gen_ai.tool.call.error",
    "gen_ai.tool.error",
    "tool.error",
    "error",
    "rpc.jsonrpc.error_message",
    "langfuse.observation.status_message",
    "otel.status_description",
];
/// Attributes whose names could refer to a call but do not: what users add, and what concerns the whole trace.
const APART: &[&str] = &[
    "langfuse.trace.",
    "langfuse.observation.metadata.",
    "langsmith.metadata.",
    "langsmith.trace.",
    "traceloop.association.properties.",
    "ai.telemetry.",
    "gen_ai.usage.",
    "gen_ai.request.",
    "http.",
    "error.type",
    "error.stack",
    "exception.stacktrace",
    "exception.escaped",
];

/// Whether the attribute `key` is one value, whatever its type.
pub(super) fn is_known(key: &str) -> bool {
    [ARGUMENTS, RESULTS, MESSAGES].iter().any(|list| list.contains(&key))
        || key.starts_with("gen_ai.input")
        || key.starts_with("gen_ai.output")
}

/// MLflow writes every attribute as JSON, so a text has quotation marks around it.
pub(super) fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A value, and the paths of restated values in it.
pub(super) type Kept = (Json, Vec<String>);

/// The contents of a tool's span.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) arguments: Option<Kept>,
    pub(super) result: Option<Kept>,
    /// Whether an attribute marks the span as failed, or an exception escaped from it.
    pub(super) failed: bool,
    /// Whether an exception was recorded without saying whether it escaped from the span.
    pub(super) raised: bool,
    /// The message of the failure marks.
    pub(super) message: Option<String>,
    /// What was not understood, to be reported.
    pub(super) unread: Vec<NotTaken>,
}

/// A value found for the arguments or for the result.
struct Found {
    place: String,
    what: String,
    kept: Kept,
}

/// Reads the span of a tool.
pub(super) fn told(span: &At<'_>) -> Result<Told> {
    let mut told = Told::default();
    let (mut given, mut said) = (found(span, ARGUMENTS, "arguments")?, found(span, RESULTS, "result")?);
    given.extend(singly(span)?);
    told.events(span, &mut given, &mut said)?;
    // A description of parameters is not the arguments.
    let is_description = |one: &Found| one.what.contains(DESCRIPTION);
    let described = given.iter().any(|one| !is_description(one) && !speaks::says_nothing(&one.kept.0));
    given.retain(|one| !is_description(one) || !(described || is_schema(&one.kept.0)));
    told.arguments = told.choose(given, Untaken::Call);
    told.result = told.choose(said, Untaken::Answer);
    told.marks(span)?;
    told.others(span, "a tool's span", &[])?;
    Ok(told)
}

fn is_schema(value: &Json) -> bool {
    detect::is_schema(&answer::read(value), "parameters")
}

/// The values of those `keys` that the holder has.
fn found(holder: &At<'_>, keys: &[&str], root: &str) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for key in keys {
        if let Some(kept) = attribute(holder, key, root)? {
            all.push(Found { place: holder.place(), what: format!("the attribute {key:?}"), kept });
        }
    }
    Ok(all)
}

/// The arguments recorded in one attribute each.
fn singly(span: &At<'_>) -> Result<Option<Found>> {
    let (mut object, mut restated, mut what) = (Object::new(), Vec::new(), None);
    for (key, _) in attributes(span).filter_map(held) {
        let Some(name) = ARGUMENT.iter().find_map(|prefix| key.strip_prefix(prefix)) else { continue };
        if let Some((value, changed)) = attribute(span, key, "arguments")? {
            object.insert(name, answer::read(&value));
            restated.extend(changed);
            what.get_or_insert_with(|| format!("the attribute {key:?}"));
        }
    }
    restated.dedup();
    Ok(what.map(|what| Found { place: span.place(), what, kept: (Json::Object(object), restated) }))
}

fn attributes<'a>(holder: &At<'a>) -> impl Iterator<Item = &'a Json> + use<'a> {
    holder.value.get("attributes").and_then(Json::as_array).unwrap_or_default().iter()
}

impl Told {
    /// Picks the first value that is not empty, else the first. Others that disagree with it are reported.
    fn choose(&mut self, mut all: Vec<Found>, kind: Untaken) -> Option<Kept> {
        let first = all.iter().position(|one| !speaks::says_nothing(&one.kept.0)).unwrap_or(0);
        let taken = (first < all.len()).then(|| all.remove(first))?;
        for other in all.iter().filter(|other| !tell_the_same(&taken.kept.0, &other.kept.0)) {
            let why = format!("{} says something else than {}, which was taken", other.what, taken.what);
            self.unread.push(NotTaken { place: other.place.clone(), kind, call_id: None, why });
        }
        Some(taken.kept)
    }

    /// Reports something that was not understood.
    fn name(&mut self, at: &At<'_>, kind: Untaken, what: &str, name: &str, of: &str) {
        let why = speaks::why(what, name, of, Format::OtlpJson);
        self.unread.push(NotTaken { place: at.place(), kind, call_id: None, why });
    }

    fn events(&mut self, span: &At<'_>, given: &mut Vec<Found>, said: &mut Vec<Found>) -> Result<()> {
        let events: Vec<At<'_>> = span.list("events")?.collect();
        let name = |event: &At<'_>| event.value.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let has_choice = events.iter().any(|event| name(event) == "gen_ai.choice");
        for event in &events {
            let name = name(event);
            let (given_in, said_in): (&[&str], &[&str]) = match name.as_str() {
                "exception" => {
                    self.exception(event)?;
                    continue;
                }
                // Strands records a tool's input in this event and its output in the choice; without a choice either
                // may be meant.
                "gen_ai.tool.message" if has_choice => (&["content"], &[]),
                "gen_ai.choice" => (&[], &["message"]),
                "gen_ai.content.prompt" => (&["gen_ai.prompt"], &[]),
                "gen_ai.content.completion" => (&[], &["gen_ai.completion"]),
                "gen_ai.client.inference.operation.details" => {
                    given.extend(part(event, "gen_ai.input.messages", "arguments")?);
                    said.extend(part(event, "gen_ai.output.messages", "response")?);
                    continue;
                }
                _ => (&[], &[]),
            };
            let is_known = !given_in.is_empty() || !said_in.is_empty();
            let (in_given, in_said) = (found(event, given_in, "arguments")?, found(event, said_in, "result")?);
            let any = !in_given.is_empty() || !in_said.is_empty();
            let texts = |mut one: Found| {
                // Blocks of text are replaced by their text.
                one.kept.0 = answer::read(&one.kept.0);
                one.kept.0 = answer::text(&one.kept.0).map_or(one.kept.0, Json::String);
                one
            };
            given.extend(in_given);
            said.extend(in_said.into_iter().map(texts));
            let has_value = attributes(event).filter_map(held).any(|(_, value)| !speaks::says_nothing(value));
            let kind = speaks::of(&name).or((name == "gen_ai.tool.message" || is_known).then_some(Untaken::Answer));
            match kind.filter(|_| has_value && !any) {
                Some(kind) => self.name(event, kind, "event", &name, "a tool's span"),
                None => self.others(event, "an event of a tool's span", &[given_in, said_in].concat())?,
            }
        }
        Ok(())
    }

    fn exception(&mut self, event: &At<'_>) -> Result<()> {
        let escaped = attributes(event).filter_map(held).find(|(key, _)| *key == "exception.escaped");
        self.failed |= escaped.is_some_and(|(_, escaped)| is_set(escaped));
        self.raised |= escaped.is_none();
        Ok(())
    }

    /// Reads the attributes that mark the span as failed.
    fn marks(&mut self, span: &At<'_>) -> Result<()> {
        for (key, value) in attributes(span).filter_map(held) {
            let text = value.as_str().map(unquoted).filter(|text| !text.is_empty());
            let told = match key {
                _ if STATUSES.contains(&key) => text.and_then(status_fails) == Some(true),
                _ if CODES.contains(&key) => is_failing(key, value),
                // These give details of a failure that another attribute marks.
                "langfuse.observation.status_message" | "otel.status_description" => false,
                _ if MESSAGES.contains(&key) => is_set(value),
                _ if is_exit(key) => !is_apart(key) && is_failing("error_code", value),
                _ if SUCCESSES.contains(&last(key)) => !is_apart(key) && !is_set(value),
                _ => is_mark(key) && !is_apart(key) && is_set(value),
            };
            self.failed |= told;
        }
        for key in MESSAGES {
            let text = match attribute(span, key, key)? {
                Some((Json::String(text), _)) if is_set(&Json::String(text.clone())) => text,
                Some((object @ Json::Object(_), _)) => object.to_canonical().to_string(),
                _ => continue,
            };
            // A flag that is set carries no message.
            if !text.eq_ignore_ascii_case("true") {
                self.message.get_or_insert(unquoted(&text).to_owned());
            }
        }
        Ok(())
    }

    /// Reports unknown attributes whose names refer to a call; `read` lists keys that were read already.
    fn others(&mut self, holder: &At<'_>, of: &str, read: &[&str]) -> Result<()> {
        for attribute in holder.list("attributes")? {
            let Some((key, value)) = held(attribute.value) else { continue };
            let known = [ARGUMENTS, RESULTS, STATUSES, CODES, MESSAGES].iter().any(|list| list.contains(&key));
            let apart = is_apart(key) || ARGUMENT.iter().any(|prefix| key.starts_with(prefix));
            let is_kind = key.ends_with(".type") && !key.contains("error");
            if apart || is_kind || read.contains(&key) || (of == "a tool's span" && (known || is_mark(key))) {
                continue;
            }
            let name = key.strip_prefix("langfuse.observation.").unwrap_or(key);
            let calls = detect::names_calls(key) && value.as_str().is_some_and(|text| text.starts_with(['{', '[']));
            // The output, as older conventions record it.
            let text = key.starts_with("gen_ai.") && [".content", ".message"].iter().any(|end| key.ends_with(end));
            let text = (text && !speaks::says_nothing(value)).then_some(Untaken::Answer);
            if let Some(kind) = speaks::unread(name, value).or(text).or(calls.then_some(Untaken::Call)) {
                self.name(&attribute, kind, "attribute", key, of);
            }
        }
        Ok(())
    }
}

fn is_apart(key: &str) -> bool {
    APART.iter().any(|prefix| key.starts_with(prefix))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or_default()
}

/// Whether an attribute is the exit code of a program: `process.exit.code`, `tool.exit_code`.
fn is_exit(key: &str) -> bool {
    EXITS.iter().any(|name| is_called(last(key), name)) && (key.ends_with("exit.code") || last(key) != "code")
}

/// Whether the last part of a key is a name for an error.
fn is_mark(key: &str) -> bool {
    const MARKS: &[&str] = &["iserror", "haserror", "error", "errormessage", "errorcode", "errortype", "exception"];
    MARKS.iter().any(|mark| is_called(last(key), mark)) || matches!(key, "exception.message" | "exception.type")
}

/// Whether a protocol's status code means that the call failed.
fn is_failing(key: &str, code: &Json) -> bool {
    let number = code.as_f64().or_else(|| code.as_str()?.trim().parse().ok());
    match number {
        Some(number) if key.ends_with("error_code") => number != 0.0,
        Some(number) => !(0.0..400.0).contains(&number) || (key.starts_with("rpc.") && (1.0..100.0).contains(&number)),
        None => code.as_str().is_some_and(|text| !text.is_empty() && !speaks::is_fine(text)),
    }
}

/// The part of the messages in an attribute that concerns a call: its arguments, or the response to it.
fn part(event: &At<'_>, key: &str, member: &str) -> Result<Option<Found>> {
    let Some((value, restated)) = attribute(event, key, "result")? else { return Ok(None) };
    let messages = answer::read(&value);
    let parts = messages.as_array().into_iter().flatten().filter_map(|message| message.get("parts")?.as_array());
    let found = parts.flatten().find_map(|part| part.get(member)).cloned();
    let found = found.map(|found| answer::text(&found).map_or(found, Json::String));
    // If there is no such part, the whole value is what was said.
    let kept = (found.unwrap_or(value), restated);
    Ok(Some(Found { place: event.place(), what: format!("the attribute {key:?} of an event"), kept }))
}

/// The type and the message of the exception that the span recorded: of the first one that has any.
pub(super) fn exception(span: &At<'_>) -> Result<(Option<String>, Option<String>)> {
    let mut first = None;
    for event in
        span.list("events")?.filter(|event| event.value.get("name").and_then(Json::as_str) == Some("exception"))
    {
        let of = (attribute_text(&event, "exception.type")?, attribute_text(&event, "exception.message")?);
        if of.1.is_some() {
            return Ok(of);
        }
        first.get_or_insert(of);
    }
    Ok(first.unwrap_or_default())
}

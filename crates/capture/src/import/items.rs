//! Items of the OpenAI Responses API, also as the Agents SDK and Codex keep them.
//!
//! Every item whose type ends in `_call` is a call, and every `…_call_output` an answer, whatever the tool: leaving out those that
//! are not `function_call` is the classic mistake. The provider's own tools (`web_search_call`, `mcp_call`, …) have their answer in
//! the call's item.

use super::answer::Answer;
use super::blocks::{self, answer_in};
use super::conversation::Conversation;
use super::file::{At, Known, Moment};
use super::session::{Asked, Facts};
use crate::ended::Signs;
use attestlog::Outcome;
use attestlog::json::Json;

const IDS: &[&str] = &["call_id", "id"];
const GIVEN: &[&str] =
    &["arguments", "input", "action", "operation", "actions", "queries", "query", "code", "prompt", "args"];
const SAID: &[&str] = &["output", "outputs", "results", "result", "tools"];
/// The known members of a call's item.
const CALL: Known = &[
    "type",
    "id",
    "call_id",
    "name",
    "namespace",
    "arguments",
    "input",
    "action",
    "actions",
    "operation",
    "queries",
    "query",
    "code",
    "prompt",
    "args",
    "output",
    "outputs",
    "results",
    "result",
    "error",
    "status",
    "server_label",
    "container_id",
    "created_by",
    "pending_safety_checks",
    "caller",
    "execution",
    "environment",
    "max_output_length",
    "revised_prompt",
    "size",
    "quality",
    "background",
    "output_format",
    "approval_request_id",
    "parsed_arguments",
    "metadata",
    "internal_chat_message_metadata_passthrough",
    "is_handoff",
    "agent",
    "provider_data",
    "parse_error",
    "tools",
    "function_call",
    "tool_origin",
    "description",
    "title",
];

/// Items that the answers of are in the item itself.
const HOSTED: &[&str] =
    &["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"];

fn kind<'a>(at: &At<'a>) -> &'a str {
    at.str("type").unwrap_or_default()
}

/// Whether this is an item of the API that makes or answers a call, or a wrapper of the Agents SDK around one.
pub(super) fn is_item(at: &At<'_>) -> bool {
    let kind = kind(at);
    let is_call = kind.ends_with("_call") && kind != "tool_call" && kind != "server_tool_call";
    // A function call needs its arguments beside its name: other programs have blocks of that type.
    is_call || is_output(at) || (at.value.get("raw_item").is_some_and(|raw| raw.as_object().is_some()))
}

pub(super) fn is_output(at: &At<'_>) -> bool {
    let kind = kind(at);
    let is_raw = |raw: &Json| raw.get("type").and_then(Json::as_str).is_some_and(|kind| kind.ends_with("_output"));
    kind.ends_with("_call_output") || kind == "tool_search_output" || at.value.get("raw_item").is_some_and(is_raw)
}

/// Reads one item.
pub(super) fn item<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let facts = blocks::facts_of(at).or(facts);
    if let Some(raw) = at.member("raw_item").filter(|raw| raw.value.as_object().is_some()) {
        let mut facts = facts;
        facts.agent = at.member("agent").and_then(|agent| agent.name(&["name"])).or(facts.agent);
        blocks::message(&raw, &facts, session);
        // The rest repeats the raw item.
        at.take();
        return;
    }
    if is_output(at) {
        session.join.interrupt();
        let id = at.name(&["call_id", "tool_call_id", "id"]);
        let answer = output(at);
        session.answered(at, id, at.name(&["name"]), answer, facts.moment);
        return blocks::others(at, OUTPUT, session);
    }
    let kind = kind(at);
    let tool = at.name(&["name"]).unwrap_or_else(|| kind.strip_suffix("_call").unwrap_or(kind).to_owned());
    let id = at.name(IDS);
    let mut asked = Asked::new(at, id.clone(), tool, blocks::telling(at, GIVEN), &facts);
    asked.server = at.name(&["server_label"]).or_else(|| server(at.str("namespace")?));
    session.asked(asked);
    if let Some(answer) = in_place(at, kind) {
        session.answered(at, id, None, answer, Moment::default());
    }
    at.take_but(CALL);
}

/// The server in a namespace such as `mcp__github__`.
fn server(namespace: &str) -> Option<String> {
    let server = namespace.strip_prefix("mcp__")?.trim_end_matches('_');
    (!server.is_empty()).then(|| server.to_owned())
}

/// The answer of an item whose tool ran at the provider.
fn in_place(at: &At<'_>, kind: &str) -> Option<Answer> {
    let hosted = HOSTED.contains(&kind);
    let says = SAID.iter().any(|key| at.member(key).is_some()) || at.member("error").is_some();
    match at.str("status") {
        Some("failed") => {
            let mut answer = answer_in(at, SAID, at.value);
            if answer.outcome.is_none() {
                answer.fail(None);
            }
            Some(answer)
        }
        Some("incomplete") if hosted => {
            let mut answer = answer_in(at, SAID, at.value);
            answer.fail(None);
            answer.outcome = Some(Outcome::Abandoned);
            Some(answer)
        }
        _ if says => Some(answer_in(at, SAID, at.value)),
        Some("completed") if hosted => Some(Answer { outcome: Some(Outcome::Ok), ..Answer::default() }),
        _ => None,
    }
}

const OUTPUT: &[&str] = &["output", "tools", "result"];

/// The answer in an output's item.
pub(super) fn output(at: &At<'_>) -> Answer {
    let signs = of_output(at);
    let Some(content) = blocks::telling(at, OUTPUT) else { return Answer::of(None, signs.failed()) };
    let mut answer = match text(content.value) {
        Some(text) => Answer::text(text, signs.failed()).restating(&content.restated("result")),
        None => answer_in(at, OUTPUT, at.value),
    };
    answer.ended(signs);
    answer
}

/// What an output's item says of how its call ended: the item itself, and the commands of a shell that it has the output of.
fn of_output(at: &At<'_>) -> Signs {
    let mut signs = Signs::of(at.value);
    if let Some(content) = at.member("output") {
        // Codex wraps a text: {"content":…,"success":false}.
        if content.value.get("content").is_some() {
            signs = signs.and(Signs::of(content.value));
        }
        for outcome in content.elements().into_iter().flatten().filter_map(|one| one.member("outcome")) {
            signs = signs.and(Signs::of(outcome.value));
            if outcome.is("type", "timeout") {
                signs.add("outcome", Outcome::Timeout);
            }
        }
    }
    signs
}

/// The text of an output: a string, or parts of text.
fn text(value: &Json) -> Option<String> {
    let content = value.get("content").filter(|_| value.get("success").is_some());
    match content.unwrap_or(value) {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) if !parts.is_empty() => {
            let part = |part: &Json| {
                let kind = part.get("type").and_then(Json::as_str)?;
                matches!(kind, "input_text" | "output_text" | "text")
                    .then(|| part.get("text")?.as_str().map(str::to_owned))?
            };
            Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}

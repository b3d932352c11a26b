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
        let (answer, _) = output(at);
        return session.answered(at, id, at.name(&["name"]), answer, facts.moment);
    }
    let kind = kind(at);
    let tool = at.name(&["name"]).unwrap_or_else(|| kind.strip_suffix("_call").unwrap_or(kind).to_owned());
    let arguments = GIVEN.iter().filter_map(|key| at.member(key)).find(|at| at.value.as_str() != Some(""));
    let id = at.name(IDS);
    let mut asked = Asked::new(at, id.clone(), tool, arguments.or_else(|| at.first(GIVEN)), &facts);
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
        _ if says => Some(answer_in(at, SAID, at.value)),
        Some("completed") if hosted => Some(Answer { outcome: Some(Outcome::Ok), ..Answer::default() }),
        _ => None,
    }
}

/// The answer in an output's item, and whether its text says how the program that was run ended.
pub(super) fn output(at: &At<'_>) -> (Answer, Option<i64>) {
    let Some(content) = at.first(&["output", "tools", "result"]) else { return (Answer::of(None, None), None) };
    let text = text(content.value);
    let code = text.as_deref().and_then(exit_code);
    let mut answer = match &text {
        Some(text) => Answer::text(text.clone(), None).restating(&content.restated("result")),
        None => answer_in(at, &["output", "tools", "result"], at.value),
    };
    if code.is_some_and(|code| code != 0)
        || at.is("status", "failed")
        || content.value.get("success") == Some(&Json::Bool(false))
    {
        answer.fail(None);
    }
    (answer, code)
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

/// The exit code in the header that Codex writes before a program's output, in one of its forms over time.
fn exit_code(text: &str) -> Option<i64> {
    if text.starts_with('{') {
        return blocks::read(text)?.get("metadata")?.get("exit_code")?.as_i64();
    }
    let header = text.lines().take(8).take_while(|line| !line.starts_with("Output:"));
    let marks = ["Exit code: ", "Process exited with code "];
    let mut codes = header.filter_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark)));
    codes.next()?.trim().parse().ok()
}

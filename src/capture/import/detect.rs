//! What in a file looks like a tool call or an answer, whoever reads it.
//!
//! Invariant H5: whatever looks like a call or an answer and was not taken is named. Readers mark what they take
//! ([`At::take`](super::file::At::take)); here the parsed JSON is walked once more, by no reader's rules, and what looks
//! like one and bears no mark is given back. Nothing is looked for inside what was taken: a tool's answer may hold a
//! transcript. Neither are texts searched: what stands in a string is what somebody said.

use super::file::Document;
use super::{Format, NotTaken, Untaken};
use crate::json::{Json, Object};

/// Members under which calls stand, one or a list of them.
const CALLS: &[&str] = &[
    "tool_calls",
    "toolCalls",
    "tool_call",
    "toolCall",
    "tool_use",
    "toolUse",
    "tool_uses",
    "toolUses",
    "function_call",
    "functionCall",
    "function_calls",
    "functionCalls",
    "tool_invocations",
    "toolInvocations",
    "toolInvocation",
];
/// Members under which answers stand.
const ANSWERS: &[&str] = &[
    "tool_result",
    "toolResult",
    "tool_results",
    "toolResults",
    "function_response",
    "functionResponse",
    "tool_response",
    "toolResponse",
];
/// Members by which an answer names its call.
const IDS: &[&str] = &["tool_call_id", "tool_call_ids", "tool_use_id", "toolCallId", "toolUseId", "toolUseID"];
/// Members that describe tools and call none.
const DESCRIPTIONS: &[&str] = &["tools", "functions", "tool_choice", "toolChoice", "toolConfig", "tool_config"];
/// What stands beside a tool's name in a call.
const GIVEN: &[&str] = &["tool_input", "tool_args", "arguments", "args", "input", "toolInput", "tool_use_id"];

/// What looks like a call or an answer and was not taken.
pub(super) fn untaken(documents: &[Document], format: Format) -> Vec<NotTaken> {
    let mut walk = Walk { format, document: None, found: Vec::new() };
    for document in documents {
        walk.document = Some(document);
        walk.value(document.value(), &mut String::new());
    }
    walk.found
}

struct Walk<'a> {
    format: Format,
    document: Option<&'a Document>,
    found: Vec<NotTaken>,
}

impl Walk<'_> {
    fn is_taken(&self, path: &str) -> bool {
        self.document.is_some_and(|document| document.is_taken(path))
    }

    fn push(&mut self, path: &str, kind: Untaken, what: &str) {
        let Some(document) = self.document else { return };
        let why = format!("{what} is nothing that {} reads", self.format);
        self.found.push(NotTaken { place: document.place(path), kind, call_id: None, why });
    }

    fn value(&mut self, value: &Json, path: &mut String) {
        if self.is_taken(path) {
            return;
        }
        match value {
            Json::Array(items) => self.each(items, path, |walk, item, path| walk.value(item, path)),
            Json::Object(members) => self.object(members, path),
            _ => {}
        }
    }

    fn object(&mut self, members: &Object, path: &mut String) {
        if let Some((kind, what)) = looks(members) {
            // What a message of a tool's holds may be answers of their own, and taken or named each for itself.
            let parts = members.get("content").and_then(Json::as_array).unwrap_or_default();
            if !parts.iter().filter_map(Json::as_object).any(|part| looks(part).is_some()) {
                self.push(path, kind, &what);
                return;
            }
        }
        for (key, member) in members.iter() {
            let length = path.len();
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(key);
            match key {
                _ if DESCRIPTIONS.contains(&key) && member.as_array().is_none_or(describes) => {}
                _ if CALLS.contains(&key) => self.named(member, path, Untaken::Call, key),
                _ if ANSWERS.contains(&key) => self.named(member, path, Untaken::Answer, key),
                _ => self.value(member, path),
            }
            path.truncate(length);
        }
    }

    /// The value of a member whose name says what it is.
    fn named(&mut self, value: &Json, path: &mut String, kind: Untaken, key: &str) {
        if self.is_taken(path) || is_zero(value) {
            return;
        }
        match value {
            Json::Array(items) => self.each(items, path, |walk, item, path| walk.named(item, path, kind, key)),
            // A count, or whether there were any.
            Json::Bool(_) | Json::Number(_) | Json::Null => {}
            Json::Object(_) | Json::String(_) => self.push(path, kind, &format!("the member {key:?}")),
        }
    }

    fn each(&mut self, items: &[Json], path: &mut String, visit: impl Fn(&mut Self, &Json, &mut String)) {
        for (i, item) in items.iter().enumerate() {
            let length = path.len();
            path.push_str(&format!("[{i}]"));
            visit(self, item, path);
            path.truncate(length);
        }
    }
}

/// Whether a value of fixed shape says that there is nothing: `{"name": "", "arguments": ""}`.
pub(super) fn is_zero(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.iter().all(is_zero),
        Json::Object(members) => members.iter().all(|(_, member)| is_zero(member)),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Whether these are descriptions of tools.
fn describes(items: &[Json]) -> bool {
    const SCHEMAS: &[&str] = &["parameters", "input_schema", "inputSchema", "toolSpec", "description"];
    let described = |item: &Json| SCHEMAS.iter().any(|key| item.get(key).is_some());
    let one = |item: &Json| item.as_str().is_some() || described(item) || item.get("function").is_some_and(described);
    items.iter().all(one)
}

/// What an object looks like by itself, and by what.
fn looks(members: &Object) -> Option<(Untaken, String)> {
    let text = |key: &str| members.get(key).and_then(Json::as_str);
    let has = |key: &str| members.get(key).is_some_and(|value| *value != Json::Null);
    let any = |keys: &'static [&'static str]| keys.iter().find(|key| has(key)).copied();
    if let Some(kind) = text("type") {
        let plain = kind.replace('-', "_").to_ascii_lowercase();
        let what = format!("the type {:?}", super::clip(kind));
        let answers = ["_call_output", "tool_result", "tool_call_response", "function_response", "tool_response"];
        if answers.iter().any(|end| plain.ends_with(end)) || (plain.ends_with("_output") && has("call_id")) {
            return Some((Untaken::Answer, what));
        }
        let calls = ["_call", "tool_use", "tool_invocation"].iter().any(|end| plain.ends_with(end));
        let part = plain == "dynamic_tool" || (plain.starts_with("tool_") && has("toolCallId"));
        let named = plain == "tool" && any(IDS).is_none() && any(&["callID", "callId", "state"]).is_some();
        if calls || part || named {
            return Some((Untaken::Call, what));
        }
    }
    if let (Some(name), Some(_)) = (any(&["tool_name", "toolName"]), any(GIVEN)) {
        return Some((Untaken::Call, format!("the member {name:?}")));
    }
    if text("run_type") == Some("tool") {
        return Some((Untaken::Call, "the run_type \"tool\"".to_owned()));
    }
    if has("action") && has("observation") {
        return Some((Untaken::Call, "an action with its observation".to_owned()));
    }
    if has("tool_call_metadata") {
        return Some((Untaken::Call, "the member \"tool_call_metadata\"".to_owned()));
    }
    for key in ["role", "type"] {
        if let Some(role @ ("tool" | "function" | "toolResult")) = text(key)
            && has("content")
        {
            return Some((Untaken::Answer, format!("the {key} {role:?}")));
        }
    }
    if let Some(id) = any(IDS) {
        return Some((Untaken::Answer, format!("the member {id:?}")));
    }
    span(members).map(|what| (Untaken::Call, what))
}

/// What a span or a log record of OpenTelemetry's looks like a tool's by.
fn span(members: &Object) -> Option<String> {
    let attributes = members.get("attributes")?.as_array()?;
    let name = members.get("name").and_then(Json::as_str).unwrap_or_default();
    if ["execute_tool", "tools/call", "ai.toolCall", "claude_code.tool"].iter().any(|start| name.starts_with(start)) {
        return Some(format!("the span {:?}", super::clip(name)));
    }
    attributes.iter().find_map(|attribute| {
        let key = attribute.get("key")?.as_str()?;
        let value = attribute.get("value").and_then(|value| value.get("stringValue")).and_then(Json::as_str);
        let says = match key {
            "gen_ai.operation.name" => matches!(value, Some("execute_tool" | "tool")),
            "mcp.method.name" => value == Some("tools/call"),
            "event.name" => value.is_some_and(|v| v.contains("tool_result") || v.contains("tool_decision")),
            "openinference.span.kind" | "traceloop.span.kind" | "langsmith.span.kind" | "langfuse.observation.type" => {
                value.is_some_and(|v| v.eq_ignore_ascii_case("tool"))
            }
            "tool.name" | "tool_name" | "tool_use_id" | "tool_call.id" | "tool_arguments" => true,
            _ => key.starts_with("gen_ai.tool.call.") || key == "gen_ai.tool.name" || key.starts_with("ai.toolCall."),
        };
        says.then(|| format!("the attribute {key:?}"))
    })
}

/// What a file is that `format` does not read, by what only such files hold.
pub(super) fn looks_like(text: &[u8], format: Format) -> Option<String> {
    let holds = |words: &[&str]| words.iter().all(|word| text.windows(word.len()).any(|w| w == word.as_bytes()));
    let unread: &[(&[&str], &str)] = &[
        (&["\"resourceLogs\""], "OpenTelemetry logs"),
        (&["\"session_meta\""], "a rollout of Codex"),
        (&["\"response_item\""], "a rollout of Codex"),
        (&["\"sessionId\"", "\"uuid\"", "\"message\""], "a session of Claude Code"),
        (&["\"function_call_output\""], "items of the OpenAI Responses API"),
        (&["\"call_id\"", "\"function_call\""], "items of the OpenAI Responses API"),
        (&["\"run_type\""], "runs of LangSmith"),
        (&["\"toolUse\""], "messages of Bedrock's Converse API"),
        (&["\"toolCallId\""], "messages of the Vercel AI SDK"),
        (&["\"additional_kwargs\""], "messages of LangChain"),
        (&["\"callID\""], "parts of an OpenCode session"),
        (&["\"toolCalls\""], "a session of the Gemini CLI"),
        (&["\"samples\"", "\"eval\""], "a log of Inspect"),
        (&["\"action\"", "\"observation\""], "a trajectory (of SWE-agent or OpenHands)"),
        (&["\"tool_call_metadata\""], "events of OpenHands"),
    ];
    let read: &[(Format, &[&str], &str)] = &[
        (Format::OtlpJson, &["\"resourceSpans\""], "OpenTelemetry traces: say --format otlp-json"),
        (Format::Jsonl, &["\"tool_name\"", "\"conversation_id\""], "records of attestlog: say --format jsonl"),
        (Format::OpenAiChat, &["\"tool_calls\""], "messages of OpenAI: say --format openai-chat"),
        (Format::Anthropic, &["\"tool_use\""], "messages of Anthropic: say --format anthropic"),
    ];
    let unread = unread
        .iter()
        .find(|(words, _)| holds(words))
        .map(|(_, what)| format!("{what}, which no format here reads yet"));
    // What no format here reads yet comes first: much of it holds words of the others as well.
    unread.or_else(|| {
        read.iter().find(|(of, words, _)| *of != format && holds(words)).map(|(.., what)| (*what).to_owned())
    })
}

//! Tells the format of a file from what is in it: from members that only one format has, else from the shape of its messages.

use super::Format;
use super::file::Read;
use attestlog::json::Json;

/// So many objects are looked at; a file says what it is early.
const ENOUGH: usize = 20_000;
/// Objects nested deeper are not looked at.
const DEEPEST: usize = 12;

/// The format of the file, if there is one that it can be.
pub(super) fn sniff(file: &Read) -> Option<Format> {
    let roots = file.documents.iter().map(|document| document.value());
    let objects = roots.flat_map(|root| match root.as_array() {
        Some(items) => items,
        None => std::slice::from_ref(root),
    });
    // Half of an agent's rows are about something else, so rows are asked until one knows.
    let found = objects.take(ENOUGH).find_map(of_root);
    found.or_else(|| of_messages(file))
}

fn has(value: &Json, key: &str) -> bool {
    value.get(key).is_some_and(|member| *member != Json::Null)
}

fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn is_list(value: &Json, key: &str) -> bool {
    value.get(key).is_some_and(|member| member.as_array().is_some())
}

/// The format by members of an object at the top of the file.
fn of_root(value: &Json) -> Option<Format> {
    if let Some(pair) = value.as_array() {
        return pair.iter().find_map(of_root).filter(|format| *format == Format::OpenHands);
    }
    value.as_object()?;
    let has = |key: &str| has(value, key);
    let kind = text(value, "type");
    let wrapped = ["trace", "batches"].iter().filter_map(|key| value.get(key));
    let spans = |of: &Json| {
        ["resourceSpans", "scopeSpans", "instrumentationLibrarySpans"].iter().any(|key| of.get(key).is_some())
    };
    let has_batches =
        wrapped.into_iter().any(|of| spans(of) || of.as_array().and_then(<[Json]>::first).is_some_and(spans));
    if has_batches
        || ["resourceSpans", "resourceLogs", "resource_spans", "resource_logs"].iter().any(|key| has(key))
        || is_flat_span(value)
    {
        return Some(Format::OtlpJson);
    }
    if has("tool_name") && has("conversation_id") && !has("messages") {
        return Some(Format::Jsonl);
    }
    of_agent(value, kind).or_else(|| of_evaluation(value)).or_else(|| of_framework(value))
}

/// A span as the console exporters of the SDKs print it.
fn is_flat_span(value: &Json) -> bool {
    let context = value.get("context").or_else(|| value.get("spanContext")).or_else(|| value.get("SpanContext"));
    let ids = |of: &Json| {
        ["trace_id", "traceId", "TraceID"].iter().any(|key| of.get(key).is_some())
            && ["span_id", "spanId", "SpanID", "id"].iter().any(|key| of.get(key).is_some())
    };
    let named = has(value, "name") || has(value, "Name") || has(value, "span_name") || has(value, "body");
    named && !has(value, "run_type") && (context.is_some_and(ids) || (ids(value) && has(value, "attributes")))
}

fn of_agent(value: &Json, kind: &str) -> Option<Format> {
    let has = |key: &str| has(value, key);
    const ROLLOUT: &[&str] = &["session_meta", "response_item", "event_msg", "turn_context", "compacted"];
    let is_event = kind.starts_with("item.") || kind == "thread.started" || kind.starts_with("turn.");
    if (ROLLOUT.contains(&kind) && has("payload")) || (is_event && !has("properties")) || has("record_type") {
        return Some(Format::Codex);
    }
    if has("session") && is_list(value, "items") && value.get("session").is_some_and(|of| of.get("id").is_some()) {
        return Some(Format::Codex);
    }
    if (has("sessionId") && (has("projectHash") || is_list(value, "messages") && !has("uuid"))) || kind == "gemini" {
        return Some(Format::Gemini);
    }
    if (kind == "init" && has("session_id")) || (kind == "tool_use" && has("tool_id") && has("parameters")) {
        return Some(Format::Gemini);
    }
    let has_message =
        value.get("message").is_some_and(|of| of.as_object().is_some()) && matches!(kind, "user" | "assistant");
    let is_row = has("sessionId") && (has("uuid") || has("leafUuid") || has("operation"));
    let is_printed = has("session_id") && (has_message || (kind == "system" && has("subtype")));
    if is_row || is_printed || (has_message && has("uuid")) || (kind == "summary" && has("leafUuid")) {
        return Some(Format::ClaudeCode);
    }
    let properties = value.get("event").unwrap_or(value).get("properties");
    if properties.is_some_and(|of| {
        of.get("sessionID").is_some() || of.get("info").is_some_and(|info| info.get("sessionID").is_some())
    }) {
        return Some(Format::OpenCode);
    }
    let part = value.get("part").unwrap_or(value);
    let is_part = (part.get("callID").is_some() && part.get("state").is_some()) || (has("sessionID") && has("part"));
    let holds = |key: &str, of: &str| {
        value.get(key).and_then(Json::as_array).is_some_and(|all| all.iter().any(|one| one.get(of).is_some()))
    };
    let is_row = has("sessionID") && (has("messageID") || (has("role") && has("time")));
    let is_export = has("info") && (holds("messages", "parts") || is_list(value, "parts"));
    if is_part
        || is_row
        || is_export
        || (has("info") && value.get("info").is_some_and(|of| of.get("projectID").is_some()))
    {
        return Some(Format::OpenCode);
    }
    None
}

fn of_evaluation(value: &Json) -> Option<Format> {
    let has = |key: &str| has(value, key);
    let holds = |key: &str, of: &[&str]| {
        let all = value.get(key).and_then(Json::as_array).unwrap_or_default();
        all.iter().take(50).any(|one| of.iter().all(|key| one.get(key).is_some()))
    };
    if text(value, "schema_version").starts_with("ATIF")
        || (is_list(value, "steps") && holds("steps", &["step_id", "source"]))
    {
        return Some(Format::Atif);
    }
    if (is_list(value, "samples") && (has("eval") || has("header"))) || (has("eval") && has("plan") && has("version")) {
        return Some(Format::Inspect);
    }
    if is_list(value, "simulations") {
        return Some(Format::Tau2);
    }
    if has("suite_name") && has("user_task_id") {
        return Some(Format::AgentDojo);
    }
    if holds("history", &["message_type", "agent"]) {
        return Some(Format::SweAgent);
    }
    if holds("trajectory", &["action", "observation"]) && !holds("trajectory", &["source"]) {
        return Some(Format::SweAgent);
    }
    if has("run_type") && (has("inputs") || has("outputs") || has("start_time") || has("child_runs")) {
        return Some(Format::LangSmith);
    }
    let is_event = |of: &Json| {
        let kind = text(of, "kind");
        let is_sdk = matches!(
            kind,
            "ActionEvent" | "ObservationEvent" | "MessageEvent" | "SystemPromptEvent" | "AgentErrorEvent"
        );
        let is_old = (of.get("action").is_some_and(|action| action.as_str().is_some())
            || of.get("observation").is_some_and(|seen| seen.as_str().is_some()))
            && of.get("source").is_some();
        (is_sdk && of.get("source").is_some()) || is_old
    };
    let in_list = |key: &str| {
        let all = value.get(key).and_then(Json::as_array).unwrap_or_default();
        all.iter().take(50).any(|one| is_event(one) || one.as_array().is_some_and(|pair| pair.iter().any(is_event)))
    };
    if is_event(value) || ["history", "events", "trajectory"].iter().any(|key| in_list(key)) {
        return Some(Format::OpenHands);
    }
    None
}

fn of_framework(value: &Json) -> Option<Format> {
    let has = |key: &str| has(value, key);
    let is_run = has("run_id") && (has("agent_id") || has("team_id")) && is_list(value, "messages");
    let memory = value.get("memory").or_else(|| value.get("session_data"));
    let in_memory =
        memory.is_some_and(|memory| is_list(memory, "runs")) || (is_list(value, "runs") && has("session_id"));
    (is_run || in_memory).then_some(Format::Agno)
}

/// What the messages of a file look like.
#[derive(Default)]
struct Shapes {
    left: usize,
    message: bool,
    openai: bool,
    responses: bool,
    anthropic: bool,
    bedrock: bool,
    gemini: bool,
    langchain: bool,
    vercel: bool,
    agno: bool,
    tau2: bool,
}

fn of_messages(file: &Read) -> Option<Format> {
    let mut shapes = Shapes { left: ENOUGH, ..Shapes::default() };
    file.documents.iter().for_each(|document| shapes.look(document.value(), DEEPEST));
    let all = [
        (shapes.agno, Format::Agno),
        (shapes.langchain, Format::LangChain),
        (shapes.bedrock, Format::Bedrock),
        (shapes.vercel, Format::VercelAi),
        (shapes.responses, Format::OpenAiResponses),
        (shapes.tau2, Format::Tau2),
        (shapes.anthropic, Format::Anthropic),
        (shapes.gemini, Format::Gemini),
        (shapes.openai || shapes.message, Format::OpenAiChat),
    ];
    all.into_iter().find(|(is, _)| *is).map(|(_, format)| format)
}

impl Shapes {
    fn look(&mut self, value: &Json, depth: usize) {
        let (Some(left), Some(depth)) = (self.left.checked_sub(1), depth.checked_sub(1)) else { return };
        self.left = left;
        if let Some(items) = value.as_array() {
            return items.iter().for_each(|item| self.look(item, depth));
        }
        let Some(members) = value.as_object() else { return };
        // What a hook was given may hold messages, and is none.
        if has(value, "hook_event_name") {
            return;
        }
        self.object(value);
        for (key, member) in members.iter() {
            // What tools were given and what they said is nobody's message.
            if !matches!(key, "arguments" | "args" | "input_schema" | "parameters") {
                self.look(member, depth);
            }
        }
    }

    fn object(&mut self, value: &Json) {
        let (has, kind) = (|key: &str| has(value, key), text(value, "type"));
        let role = text(value, "role");
        let inner = |key: &str| value.get(key).is_some_and(|of| of.as_object().is_some());
        self.message |= !role.is_empty() && ["content", "parts", "tool_calls", "message"].iter().any(|key| has(key));
        self.openai |= is_list(value, "tool_calls") || inner("function_call");
        self.responses |= (kind.ends_with("_call_output") || kind.ends_with("_call"))
            && (has("call_id") || has("id") || has("status"))
            && kind != "tool_call"
            || has("raw_item");
        self.anthropic |= matches!(kind, "tool_use" | "tool_result" | "server_tool_use")
            && ["id", "tool_use_id", "name"].iter().any(|key| has(key));
        self.bedrock |= ["toolUse", "toolResult"].iter().any(|key| inner(key));
        self.gemini |= ["functionCall", "functionResponse"].iter().any(|key| inner(key));
        self.vercel |= has("toolCallId") && (has("toolName") || kind.starts_with("tool-") || kind == "dynamic-tool");
        self.langchain |= has("additional_kwargs")
            || (has("lc") && has("kwargs"))
            || (matches!(kind, "human" | "ai") && (has("content") || has("data")));
        self.agno |= has("tool_call_error") || (has("tool_args") && has("tool_name") && role == "tool");
        self.tau2 |= has("requestor") && !role.is_empty();
    }
}

//! What in a file looks like a tool call or an answer, whoever reads it.
//!
//! Invariant H5: whatever looks like a call or an answer and was not taken is named. Readers mark what they take
//! ([`At::take`](super::file::At::take)); here the parsed JSON is walked once more, by no reader's rules, and what looks
//! like one and bears no mark is given back. Nothing is looked for inside what was taken: a tool's answer may hold a
//! transcript. Neither are texts searched: what stands in a string is what somebody said. Names of members, types and
//! attributes are compared without regard to case and separators (invariant R41).

use super::file::Document;
use super::speaks;
use super::{Format, NotTaken, Untaken};
use attestlog::json::{Json, Object};

// All names are compared in their plain form: see `Plain`.

/// What the names of members end in under which calls stand, one or a list of them.
const CALLS: &[&str] = &[
    "toolcall",
    "tooluse",
    "functioncall",
    "toolinvocation",
    "toolrequest",
    "mcpcall",
    "functioncalled",
    "functionscalled",
    "toolcalled",
    "toolscalled",
    "executablecode",
];
/// What those end in under which answers stand.
const ANSWERS: &[&str] = &[
    "toolresult",
    "toolresponse",
    "tooloutput",
    "toolmessage",
    "toolcallresult",
    "toolcallresponse",
    "toolcalloutput",
    "functionresult",
    "functionresponse",
    "functionoutput",
    "functioncalloutput",
    "codeexecutionresult",
];
/// Members by which an answer names its call.
const IDS: &[&str] = &["toolcallid", "toolcallids", "tooluseid", "functioncallid", "toolinvocationid"];
/// Members that describe tools and call none.
const DESCRIPTIONS: &[&str] = &["tools", "functions", "toolchoice", "toolconfig"];
/// Members that say which calls were to be expected, in a task or in what judges it: none of them was made.
const EXPECTED: &[&str] = &["evaluationcriteria", "actionchecks", "expectedactions", "expectedtoolcalls"];
/// To whom messages go that are no calls.
const PEOPLE: &[&str] = &["all", "user", "assistant", "system", "developer", "human", "agent"];
/// What stands beside a tool's name in a call.
const GIVEN: &[&str] =
    &["toolinput", "toolargs", "toolarguments", "arguments", "args", "input", "rawinput", "tooluseid"];
/// What tools are called under.
const NAMES: &[&str] = &["name", "tool", "toolname", "function", "functionname"];
/// What they are given under, if it has a value.
const ARGUMENTS: &[&str] = &["arguments", "args", "input", "toolinput", "rawinput", "parameters"];
/// Members of an object that is described, or that holds a conversation, and is no call.
const OTHERWISE: &[&str] = &["inputschema", "outputschema", "jsonschema", "schema", "messages", "traj", "spans"];
/// What the names of members end in that say what a span, a run or a step is.
const KINDS: &[&str] = &["spantype", "spankind", "runtype", "observationtype", "steptype", "nodetype"];

/// A name by its letters and digits alone, in lower case: writers spell `tool_calls`, `toolCalls`, `TOOL-CALLS`. Of a long one
/// its end.
pub(super) struct Plain {
    bytes: [u8; 40],
    from: usize,
}

impl Plain {
    pub(super) fn of(name: &str) -> Plain {
        let mut plain = Plain { bytes: [0; 40], from: 40 };
        for byte in name.bytes().rev().filter(u8::is_ascii_alphanumeric) {
            let Some(at) = plain.from.checked_sub(1) else { break };
            let Some(place) = plain.bytes.get_mut(at) else { break };
            (*place, plain.from) = (byte.to_ascii_lowercase(), at);
        }
        plain
    }

    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(self.from..).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// What stands under a member of this name, which is plain.
fn named(plain: &str) -> Option<Untaken> {
    let one = plain.strip_suffix('s').unwrap_or(plain);
    let ends = |with: &[&str]| with.iter().any(|end| one.ends_with(end));
    match (ends(ANSWERS), ends(CALLS)) {
        (true, _) => Some(Untaken::Answer),
        (false, true) => Some(Untaken::Call),
        (false, false) => None,
    }
}

/// Whether calls stand under a member of this name.
pub(super) fn names_calls(name: &str) -> bool {
    named(Plain::of(name).as_str()) == Some(Untaken::Call)
}

/// Whether what a key says with dots leads into calls: `completion.0.tool_calls.0.name`.
pub(super) fn leads_into_calls(key: &str) -> bool {
    key.split('.').any(names_calls)
}

/// Whether a part of this type is a call.
pub(super) fn is_call(kind: &str) -> bool {
    typed(kind) == Some(Untaken::Call)
}

/// What a part of this type is.
fn typed(kind: &str) -> Option<Untaken> {
    let plain = Plain::of(kind);
    let dashed = kind.replace('-', "_").to_ascii_lowercase();
    let plain = plain.as_str().strip_suffix("content").unwrap_or(plain.as_str());
    match named(plain) {
        None if dashed.ends_with("_call_output") => Some(Untaken::Answer),
        None if dashed.ends_with("_call") => Some(Untaken::Call),
        // `tool-calls` says why a model stopped; `message.tool_calls` is what a list is called.
        Some(_) if plain.ends_with('s') => None,
        other => other,
    }
}

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
        self.name(path, kind, format!("{what} is nothing that {} reads", self.format));
    }

    fn name(&mut self, path: &str, kind: Untaken, why: String) {
        let Some(document) = self.document else { return };
        self.found.push(NotTaken { place: document.place(path), kind, call_id: None, why });
    }

    /// Looks over what a reader took but for the members that it does not know.
    fn opened(&mut self, value: &Json, path: &mut String) -> bool {
        let known = self.document.and_then(|document| document.known(path));
        let (Some(known), Some(members)) = (known, value.as_object()) else { return false };
        for (key, member) in members.iter() {
            let length = path.len();
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(key);
            match speaks::unread_in_call(key, member) {
                _ if known.contains(&key) => _ = self.opened(member, path),
                Some(kind) if !self.is_taken(path) => {
                    let why = speaks::why("member", key, "a call", self.format);
                    self.name(path, kind, why);
                }
                Some(_) => {}
                None => self.member(key, member, path),
            }
            path.truncate(length);
        }
        true
    }

    fn value(&mut self, value: &Json, path: &mut String) {
        if self.is_taken(path) || self.opened(value, path) {
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
            let holds = parts.iter().filter_map(Json::as_object).any(|part| looks(part).is_some());
            if !holds || given_to(members).is_some() {
                self.push(path, kind, &what);
                return;
            }
        }
        // In OpenTelemetry's form a member is an object of its own, with its name under `key`.
        if let (2, Some(Json::String(key)), Some(value)) = (members.len(), members.get("key"), members.get("value"))
            && let Some(kind) = named(Plain::of(key).as_str())
        {
            let counts = ["boolValue", "intValue", "doubleValue"].iter().any(|of| value.get(of).is_some());
            if !is_zero(value) && !counts && !self.is_taken(path) {
                self.push(path, kind, &format!("the attribute {:?}", super::clip(key)));
            }
            return;
        }
        for (key, member) in members.iter() {
            let length = path.len();
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(key);
            self.member(key, member, path);
            path.truncate(length);
        }
    }

    fn member(&mut self, key: &str, member: &Json, path: &mut String) {
        let plain = Plain::of(key);
        match named(plain.as_str()) {
            _ if EXPECTED.contains(&plain.as_str()) => {}
            _ if DESCRIPTIONS.contains(&plain.as_str()) && member.as_array().is_none_or(describes) => {}
            Some(kind) => self.named(member, path, kind, key),
            None => self.value(member, path),
        }
    }

    /// The value of a member whose name says what it is.
    fn named(&mut self, value: &Json, path: &mut String, kind: Untaken, key: &str) {
        if self.is_taken(path) || is_zero(value) || self.opened(value, path) {
            return;
        }
        match value {
            Json::Array(items) => self.each(items, path, |walk, item, path| walk.named(item, path, kind, key)),
            // A count, or whether there were any.
            Json::Bool(_) | Json::Number(_) | Json::Null => {}
            Json::Object(members) if counts(members) => {}
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

/// Whether this says how often something was done: `"server_tool_use": {"web_search_requests": 0}`.
fn counts(members: &Object) -> bool {
    let number = |(key, value): (&str, &Json)| {
        !matches!(key, "id" | "name" | "index") && matches!(value, Json::Number(_) | Json::Bool(_) | Json::Null)
    };
    members.iter().all(number)
}

/// Whether these are descriptions of tools.
fn describes(items: &[Json]) -> bool {
    const SCHEMAS: &[&str] = &["parameters", "input_schema", "inputSchema", "toolSpec", "description"];
    let described = |item: &Json| SCHEMAS.iter().any(|key| item.get(key).is_some());
    let one = |item: &Json| item.as_str().is_some() || described(item) || item.get("function").is_some_and(described);
    items.iter().all(one)
}

/// What the members of an object are of which something can be told; those that say nothing are left out.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a str>,
    role: Option<&'a str>,
    message: Option<&'a str>,
    /// The member that names a tool.
    tool: Option<&'a str>,
    /// The member that says what a span or a run is, where that is a tool's.
    run: Option<&'a str>,
    /// The member by which an answer names its call.
    id: Option<&'a str>,
    metadata: Option<&'a str>,
    /// To which tool a message goes.
    recipient: Option<&'a str>,
    author: bool,
    call_id: bool,
    given: bool,
    state: bool,
    content: bool,
    action: bool,
    observation: bool,
    calls: bool,
}

impl<'a> Members<'a> {
    fn of(members: &'a Object) -> Members<'a> {
        let mut seen = Members::default();
        for (key, value) in members.iter() {
            let text = value.as_str();
            if *value == Json::Null || text.is_some_and(str::is_empty) {
                continue;
            }
            let plain = Plain::of(key);
            let plain = plain.as_str();
            seen.given |= GIVEN.contains(&plain);
            match plain {
                "type" => seen.kind = text,
                "role" => seen.role = text,
                "messagetype" => seen.message = text,
                "toolname" => seen.tool = Some(key),
                "toolcallmetadata" => seen.metadata = Some(key),
                "recipient" => {
                    seen.recipient = text.filter(|to| !PEOPLE.contains(&Plain::of(to).as_str()));
                }
                "author" => seen.author = true,
                "content" => seen.content = true,
                "action" => seen.action = !is_zero(value),
                "observation" => seen.observation = true,
                "callid" => seen.call_id = true,
                "state" => seen.state = true,
                _ if IDS.contains(&plain) => seen.id = seen.id.or(Some(key)),
                _ if KINDS.iter().any(|end| plain.ends_with(end)) && text.is_some_and(is_tool) => seen.run = Some(key),
                _ => seen.calls |= named(plain) == Some(Untaken::Call) && !is_zero(value),
            }
        }
        seen
    }
}

/// Whether this says that something is a tool's; some write it as JSON in a string.
fn is_tool(kind: &str) -> bool {
    Plain::of(kind).as_str() == "tool" || is_call(kind.trim_matches('"'))
}

/// What an object looks like by itself, and by what.
fn looks(members: &Object) -> Option<(Untaken, String)> {
    let seen = Members::of(members);
    let member = |name: &str| format!("the member {name:?}");
    if let Some(kind) = seen.kind {
        let plain = kind.replace('-', "_").to_ascii_lowercase();
        let what = format!("the type {:?}", super::clip(kind));
        let told = typed(kind);
        if told == Some(Untaken::Answer) || (plain.ends_with("_output") && seen.call_id) {
            return Some((Untaken::Answer, what));
        }
        let part = plain == "dynamic_tool" || (plain.starts_with("tool_") && seen.id.is_some());
        let own = plain == "tool" && seen.id.is_none() && (seen.call_id || seen.state);
        if told == Some(Untaken::Call) || part || own {
            return Some((Untaken::Call, what));
        }
    }
    if let (Some(name), true) = (seen.tool, seen.given) {
        return Some((Untaken::Call, member(name)));
    }
    if let Some(run) = seen.run {
        return Some((Untaken::Call, format!("the {run} \"tool\"")));
    }
    if seen.action && seen.observation {
        return Some((Untaken::Call, "an action with its observation".to_owned()));
    }
    // Where the calls stand beside it, it is what the model wrote to make them.
    if seen.action && seen.role.is_some() && !seen.calls {
        return Some((Untaken::Call, "an action with a role".to_owned()));
    }
    // A message that a model sends to a tool, and not to people.
    if let (Some(to), true, false) = (seen.recipient, seen.content && (seen.role.is_some() || seen.author), seen.calls)
    {
        return Some((Untaken::Call, format!("the recipient {:?}", super::clip(to))));
    }
    if let Some(metadata) = seen.metadata {
        return Some((Untaken::Call, member(metadata)));
    }
    for (key, role) in [("role", seen.role), ("type", seen.kind)] {
        if let Some(role) = role
            && seen.content
            && matches!(Plain::of(role).as_str(), "tool" | "function" | "toolresult" | "observation")
        {
            return Some((Untaken::Answer, format!("the {key} {role:?}")));
        }
    }
    if seen.message == Some("observation") {
        return Some((Untaken::Answer, "the message_type \"observation\"".to_owned()));
    }
    if let Some(id) = seen.id {
        return Some((Untaken::Answer, member(id)));
    }
    let found = event(members).or_else(|| span(members).map(|what| (Untaken::Call, what)));
    found.or_else(|| given_to(members).map(|name| (Untaken::Call, format!("{} with what it is given", member(name)))))
}

/// The member that names what is called, beside one that says what it is given: whatever the framework, a call is both. The
/// description of a tool has a schema in the place of what is given.
fn given_to(members: &Object) -> Option<&str> {
    let (mut name, mut given, mut arguments, mut otherwise) = (None, false, false, false);
    for (key, value) in members.iter() {
        let plain = Plain::of(key);
        let plain = plain.as_str();
        otherwise |= OTHERWISE.contains(&plain) && *value != Json::Null;
        if NAMES.contains(&plain) && value.as_str().is_some_and(|name| !name.is_empty()) {
            name = name.or(Some(key));
        }
        if ARGUMENTS.contains(&plain) {
            if is_schema(value, plain) {
                return None;
            }
            // That a tool is given nothing is said by an empty object; without it, parameters are those it could have.
            let empty = matches!(value, Json::Object(_)) && !matches!(plain, "parameters" | "input");
            given |= empty || !is_zero(value);
            arguments |= (empty || !is_zero(value)) && matches!(plain, "arguments" | "args" | "toolinput" | "rawinput");
        }
    }
    // What holds a conversation may have a name and an input; a description has no arguments.
    name.filter(|_| if otherwise { arguments } else { given })
}

/// Whether this is a JSON schema, under a member of this name. One of no properties stands for the parameters of a tool alone.
pub(super) fn is_schema(value: &Json, plain: &str) -> bool {
    let is = |key: &str| value.get(key).is_some();
    let bare = || plain == "parameters" && value.get("type").and_then(Json::as_str) == Some("object");
    is("properties") || is("$schema") || bare()
}

/// What an event of the GenAI conventions tells: of an answer, or of the calls that a model chose.
fn event(members: &Object) -> Option<(Untaken, String)> {
    let named = ["name", "event.name", "eventName", "event"].iter().find_map(|key| members.get(key)?.as_str());
    let attribute = || {
        let attributes = members.get("attributes")?;
        let said = |a: &&Json| a.get("key").and_then(Json::as_str) == Some("event.name");
        let in_list = || attributes.as_array()?.iter().find(said)?.get("value")?.get("stringValue")?.as_str();
        attributes.get("event.name").and_then(Json::as_str).or_else(in_list)
    };
    let name = named.filter(|name| name.starts_with("gen_ai.")).or_else(attribute)?;
    let what = format!("the event {:?}", super::clip(name));
    match name {
        "gen_ai.tool.message" => Some((Untaken::Answer, what)),
        "gen_ai.choice" | "gen_ai.assistant.message" | "gen_ai.client.inference.operation.details" => {
            // What a model said stands as JSON in a string as well.
            let text = Json::from(members.clone()).to_canonical();
            let words = ["tool_call", "toolCall", "tool_use", "toolUse", "function_call", "functionCall"];
            let text = text.as_str();
            let says = words.iter().any(|word| text.match_indices(word).any(|(at, _)| quotes(text, at)));
            says.then_some((Untaken::Call, what))
        }
        _ => None,
    }
}

/// Whether a name begins here: a quotation mark stands before it.
fn quotes(text: &str, at: usize) -> bool {
    at.checked_sub(1).and_then(|before| text.as_bytes().get(before)) == Some(&b'"')
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
            _ if KINDS.iter().any(|end| Plain::of(key).as_str().ends_with(end)) => value.is_some_and(is_tool),
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

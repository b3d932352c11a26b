//! Finds whatever in a file looks like a tool call or an answer, independently of the readers.
//!
//! Invariant H5: whatever looks like a call or an answer and was not read is reported. Readers mark what they read
//! ([`At::take`](super::file::At::take)). This module walks the parsed JSON again, without any reader's rules, and
//! reports unmarked values that look like one. It does not look inside marked values: a tool's answer may hold a
//! transcript. Nor does it search texts: the content of a string is something that somebody wrote. Names of members,
//! types and attributes are compared without regard to case and separators (invariant R41).

use super::file::Document;
use super::repeats::Repeats;
use super::speaks;
use super::{Format, NotTaken, Untaken};
use attestlog::ToolCall;
use attestlog::json::{Json, Object};

// All names are compared in their plain form; see `Plain`.

/// Endings of member names under which one or several calls are found.
const CALLS: &[&str] = &[
    "toolcall",
    "tooluse",
    "functioncall",
    "invocation",
    "toolrequest",
    "mcpcall",
    "functioncalled",
    "functionscalled",
    "toolcalled",
    "toolscalled",
    "executablecode",
];
/// Endings of member names under which one or several answers are found.
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
/// Members in which an answer gives the id of its call.
pub(super) const IDS: &[&str] = &["toolcallid", "toolcallids", "tooluseid", "functioncallid", "toolinvocationid"];
/// Members that describe tools and make no calls.
const DESCRIPTIONS: &[&str] = &["tools", "functions", "toolchoice", "toolconfig"];
/// Members that list the calls expected in a task or by its grader: none of them was made.
const EXPECTED: &[&str] = &["evaluationcriteria", "actionchecks", "expectedactions", "expectedtoolcalls"];
/// Recipients of messages that are not calls.
const PEOPLE: &[&str] = &["all", "user", "assistant", "system", "developer", "human", "agent"];
/// Members beside a tool's name in a call.
const GIVEN: &[&str] =
    &["toolinput", "toolargs", "toolarguments", "arguments", "args", "input", "rawinput", "tooluseid"];
/// Members that hold a tool's name.
const NAMES: &[&str] = &["name", "tool", "toolname", "function", "functionname"];
/// Members that hold a tool's arguments, if they have a value.
const ARGUMENTS: &[&str] =
    &["arguments", "args", "input", "toolinput", "rawinput", "parameters", "functionargs", "functionarguments"];
/// Members that show that an object is a description or holds a conversation, and is not a call.
const OTHERWISE: &[&str] = &["inputschema", "outputschema", "jsonschema", "schema", "messages", "traj", "spans"];
/// Endings of the names of members that give the kind of a span, a run or a step.
const KINDS: &[&str] = &["spantype", "spankind", "runtype", "observationtype", "steptype", "nodetype"];

/// A name reduced to its letters and digits in lower case, since writers use `tool_calls`, `toolCalls` and
/// `TOOL-CALLS`. Only the end of a long name is kept.
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

/// What a member with this plain name holds.
fn named(plain: &str) -> Option<Untaken> {
    let one = plain.strip_suffix('s').unwrap_or(plain);
    // `recalls` and `phone_calls` are something else.
    if plain == "calls" {
        return Some(Untaken::Call);
    }
    let ends = |with: &[&str]| with.iter().any(|end| one.ends_with(end));
    match (ends(ANSWERS), ends(CALLS)) {
        (true, _) => Some(Untaken::Answer),
        (false, true) => Some(Untaken::Call),
        (false, false) => None,
    }
}

/// Whether a member with this name holds calls.
pub(super) fn names_calls(name: &str) -> bool {
    named(Plain::of(name).as_str()) == Some(Untaken::Call)
}

/// Whether a part of a dotted key names calls: `completion.0.tool_calls.0.name`.
pub(super) fn leads_into_calls(key: &str) -> bool {
    key.split('.').any(names_calls)
}

/// Whether a part with this type is a call.
pub(super) fn is_call(kind: &str) -> bool {
    typed(kind) == Some(Untaken::Call)
}

/// What a part with this type is.
fn typed(kind: &str) -> Option<Untaken> {
    let plain = Plain::of(kind);
    let dashed = kind.replace('-', "_").to_ascii_lowercase();
    let plain = plain.as_str().strip_suffix("content").unwrap_or(plain.as_str());
    let ends = |with: &[&str]| with.iter().any(|end| dashed.ends_with(end) || kind.ends_with(&camel(end)));
    match named(plain) {
        None if ends(&["_call_output", "_call_result", "_use_output", "_use_result"]) => Some(Untaken::Answer),
        // `computer_use`, `web_search_call`.
        None if ends(&["_call", "_use"]) => Some(Untaken::Call),
        // `tool-calls` is a reason why a model stopped, and `message.tool_calls` the name of a list.
        Some(_) if plain.ends_with('s') => None,
        other => other,
    }
}

/// `_use_result` as the end of a name in camel case: `UseResult`.
fn camel(end: &str) -> String {
    let words = end.split('_').filter(|word| !word.is_empty());
    words
        .map(|word| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>())
        .collect()
}

/// Reports what looks like a call or an answer and was not read.
///
/// What has the id of one of `calls` repeats that call, unless it says something else: many files have calls several times.
pub(super) fn untaken(documents: &[Document], format: Format, calls: &[&ToolCall]) -> Vec<NotTaken> {
    let known = Repeats::new(calls);
    let mut walk = Walk { format, known, document: None, passed: false, found: Vec::new() };
    for document in documents {
        walk.document = Some(document);
        walk.value(document.value(), &mut String::new());
    }
    walk.found
}

struct Walk<'a> {
    format: Format,
    /// The calls that were read.
    known: Repeats<'a>,
    document: Option<&'a Document>,
    /// Whether this is inside something that a reader passed over.
    passed: bool,
    found: Vec<NotTaken>,
}

impl Walk<'_> {
    fn is_taken(&self, path: &str) -> bool {
        self.document.is_some_and(|document| document.is_taken(path))
    }

    /// Whether an object repeats a call that was read. One with its id that says something else is reported.
    fn repeats(&mut self, members: &Object, path: &str) -> bool {
        let Some(repeated) = self.known.by_id(members) else {
            return self.passed && self.known.by_input(members);
        };
        if let Some(other) = repeated {
            self.name(path, Untaken::Call, other);
        }
        true
    }

    fn push(&mut self, path: &str, kind: Untaken, what: &str) {
        self.name(path, kind, format!("{what} is nothing that {} reads", self.format));
    }

    fn name(&mut self, path: &str, kind: Untaken, why: String) {
        let Some(document) = self.document else { return };
        self.found.push(NotTaken { place: document.place(path), kind, call_id: None, why });
    }

    /// Examines the members of a partly read value that its reader does not know. False if the value was not partly
    /// read.
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
        let before = self.passed;
        self.passed |= self.document.is_some_and(|document| document.is_passed(path));
        match value {
            Json::Array(items) => self.each(items, path, |walk, item, path| walk.value(item, path)),
            Json::Object(members) => self.object(members, path),
            _ => {}
        }
        self.passed = before;
    }

    fn object(&mut self, members: &Object, path: &mut String) {
        if self.repeats(members, path) {
            return;
        }
        if self.passed {
            if let Some(what) = is_whole(members) {
                return self.push(path, Untaken::Call, &what);
            }
        } else if let Some((kind, what)) = looks(members) {
            // The parts of a tool's message may be answers themselves; each of them is read or reported on its own.
            let parts = members.get("content").and_then(Json::as_array).unwrap_or_default();
            let holds = parts.iter().filter_map(Json::as_object).any(|part| looks(part).is_some());
            if !holds || given_to(members).is_some() {
                self.push(path, kind, &what);
                return;
            }
        }
        // A list of attributes stands for an object.
        if let Some(list) = members.get("kvlistValue").and_then(|list| list.get("values")?.as_array())
            && let Some(name) = in_list(list)
        {
            return self.push(path, Untaken::Call, &format!("the attribute {:?}", super::clip(&name)));
        }
        // In OpenTelemetry's form a member is an object with its name under `key`.
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
        match named(plain.as_str()).filter(|_| !self.passed || has_whole(member)) {
            _ if EXPECTED.contains(&plain.as_str()) => {}
            _ if DESCRIPTIONS.contains(&plain.as_str()) && member.as_array().is_none_or(describes) => {}
            Some(kind) => self.named(member, path, kind, key),
            None => self.value(member, path),
        }
    }

    /// Examines the value of a member whose name says that it holds calls or answers.
    fn named(&mut self, value: &Json, path: &mut String, kind: Untaken, key: &str) {
        if self.is_taken(path) || is_zero(value) || self.opened(value, path) {
            return;
        }
        match value {
            Json::Array(items) => self.each(items, path, |walk, item, path| walk.named(item, path, kind, key)),
            // A count, or a flag.
            Json::Bool(_) | Json::Number(_) | Json::Null => {}
            Json::Object(members) if counts(members) || self.repeats(members, path) => {}
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

/// Whether a value is empty, possibly in a fixed shape: `{"name": "", "arguments": ""}`.
pub(super) fn is_zero(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.iter().all(is_zero),
        Json::Object(members) => members.iter().all(|(_, member)| is_zero(member)),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Whether an object holds only counts: `"server_tool_use": {"web_search_requests": 0}`.
fn counts(members: &Object) -> bool {
    let number = |(key, value): (&str, &Json)| {
        !matches!(key, "id" | "name" | "index") && matches!(value, Json::Number(_) | Json::Bool(_) | Json::Null)
    };
    members.iter().all(number)
}

/// Whether these items are descriptions of tools.
fn describes(items: &[Json]) -> bool {
    const SCHEMAS: &[&str] = &["parameters", "input_schema", "inputSchema", "toolSpec", "description"];
    let described = |item: &Json| SCHEMAS.iter().any(|key| item.get(key).is_some());
    let one = |item: &Json| item.as_str().is_some() || described(item) || item.get("function").is_some_and(described);
    items.iter().all(one)
}

/// The members of an object that help to classify it; empty ones are left out.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a str>,
    role: Option<&'a str>,
    message: Option<&'a str>,
    /// The member that names a tool.
    tool: Option<&'a str>,
    /// The member that gives the kind of a span or run, if that is a tool's.
    run: Option<&'a str>,
    /// The member in which an answer gives the id of its call.
    id: Option<&'a str>,
    metadata: Option<&'a str>,
    /// The tool that a message is addressed to.
    recipient: Option<&'a str>,
    author: bool,
    call_id: bool,
    given: bool,
    state: bool,
    content: bool,
    action: bool,
    observation: bool,
    command: bool,
    ran: bool,
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
                "command" => seen.command = !is_zero(value),
                "output" | "stdout" | "exitcode" | "returncode" => seen.ran = true,
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

/// Whether a kind is a tool's. Some writers give it as JSON in a string.
fn is_tool(kind: &str) -> bool {
    Plain::of(kind).as_str() == "tool" || is_call(kind.trim_matches('"'))
}

/// The evidence that an object has all that a call needs: that it is one, a tool or an id, and an input.
fn is_whole(members: &Object) -> Option<String> {
    let seen = Members::of(members);
    let has =
        |keys: &[&str]| members.iter().any(|(key, value)| keys.contains(&Plain::of(key).as_str()) && !is_zero(value));
    let is_given = has(ARGUMENTS) || has(&["action", "command", "query", "code"]);
    if let Some(kind) = seen.kind.filter(|kind| is_call(kind) && is_given) {
        return Some(format!("the type {:?}", super::clip(kind)));
    }
    if let (Some(name), true) = (seen.tool, seen.given) {
        return Some(format!("the member {name:?}"));
    }
    if let Some(run) = seen.run.filter(|_| has(NAMES)) {
        return Some(format!("the {run} \"tool\""));
    }
    given_to(members).map(|name| format!("the member {name:?} with what it is given"))
}

/// Whether a value is an object that names a tool, or one of several that do.
fn has_whole(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(has_whole),
        Json::Object(members) => {
            let names = |members: &Object| {
                members.iter().any(|(key, value)| NAMES.contains(&Plain::of(key).as_str()) && value.as_str().is_some())
            };
            names(members) || members.get("function").and_then(Json::as_object).is_some_and(names)
        }
        _ => false,
    }
}

/// What an object looks like on its own, and the evidence for it.
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
    if seen.command && seen.ran {
        return Some((Untaken::Call, "a command with its output".to_owned()));
    }
    // If calls are beside it, the action is the text in which the model requested them.
    if seen.action && seen.role.is_some() && !seen.calls {
        return Some((Untaken::Call, "an action with a role".to_owned()));
    }
    // A message from a model to a tool instead of to people.
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
    let given = || given_to(members).or_else(|| beside_its_input(members));
    let found =
        found.or_else(|| given().map(|name| (Untaken::Call, format!("{} with what it is given", member(name)))));
    found.or_else(|| in_attributes(members))
}

/// The member whose input another member gives by its name: `act` beside `act_input`.
fn beside_its_input(members: &Object) -> Option<&str> {
    const INPUTS: &[&str] = &["input", "args", "arguments"];
    /// What has an input and is not called.
    const APART: &[&str] = &[
        "model", "llm", "text", "audio", "image", "video", "prompt", "chat", "message", "query", "data", "file",
        "test", "raw", "request",
    ];
    let stems: Vec<String> = members
        .iter()
        .filter(|(_, value)| !is_zero(value))
        .filter_map(|(key, _)| {
            let plain = Plain::of(key);
            let stem =
                INPUTS.iter().find_map(|end| plain.as_str().strip_suffix(end)).filter(|stem| !stem.is_empty())?;
            Some(stem.to_owned()).filter(|stem| !APART.contains(&stem.as_str()) && !PEOPLE.contains(&stem.as_str()))
        })
        .collect();
    let text = |value: &Json| value.as_str().is_some_and(|text| !text.is_empty());
    let mut named =
        members.iter().filter(|(key, value)| text(value) && stems.iter().any(|stem| stem == Plain::of(key).as_str()));
    named.next().map(|(key, _)| key)
}

/// An event or span of OpenTelemetry's that by its name, or with its attributes taken for members, is a call or an answer.
fn in_attributes(members: &Object) -> Option<(Untaken, String)> {
    let attributes = members.get("attributes")?.as_array()?;
    let of_event = attributes.iter().find(|one| one.get("key").and_then(Json::as_str) == Some("event.name"));
    let names = [
        members.get("name"),
        members.get("eventName"),
        of_event.and_then(|one| one.get("value")?.get("stringValue")),
        members.get("body").and_then(|body| body.get("stringValue")),
    ];
    // A body may be a text that somebody wrote.
    let named = names.into_iter().flatten().filter_map(Json::as_str).filter(|name| !name.contains(' '));
    if let Some((kind, name)) = named.filter_map(|name| Some((typed(name)?, name))).next() {
        return Some((kind, format!("the name {:?}", super::clip(name))));
    }
    let whole: Object = flat(attributes).into_iter().map(|(key, value)| (key, value.clone())).collect();
    let name = given_to(&whole).or_else(|| beside_its_input(&whole))?;
    Some((Untaken::Call, format!("the attribute {name:?} with what it is given")))
}

/// The attribute of a list that names a tool, if the list has what the tool was given, or is named as only tools' are.
fn in_list(attributes: &[Json]) -> Option<String> {
    let all = flat(attributes);
    let is_tool_s =
        |key: &str| matches!(Plain::of(key).as_str(), "genaitoolname" | "toolname" | "tooluseid" | "toolcallid");
    if let Some((key, _)) = all.iter().find(|(key, value)| is_tool_s(key) && !is_zero(value)) {
        return Some(key.clone());
    }
    let whole: Object = all.into_iter().map(|(key, value)| (key, value.clone())).collect();
    given_to(&whole).or_else(|| beside_its_input(&whole)).map(str::to_owned)
}

/// Attributes nested deeper are not examined.
const DEEPEST: usize = 8;

/// The attributes of a list, those in lists of attributes too, each with the names that lead to it and its bare value.
fn flat(attributes: &[Json]) -> Vec<(String, &Json)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, &Json, usize)> = attributes.iter().rev().map(|one| (String::new(), one, 0)).collect();
    while let Some((prefix, attribute, depth)) = open.pop() {
        let (Some(key), Some(value)) = (attribute.get("key").and_then(Json::as_str), attribute.get("value")) else {
            continue;
        };
        let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        let inner = value.get("kvlistValue").and_then(|list| list.get("values")?.as_array());
        match inner.filter(|_| depth < DEEPEST) {
            Some(inner) => open.extend(inner.iter().rev().map(|one| (key.clone(), one, depth + 1))),
            None => {
                found.push((key, value.as_object().and_then(|of| of.iter().next()).map_or(value, |(_, bare)| bare)))
            }
        }
    }
    found
}

/// The member that names what is called, if another gives what it is called with: in every framework a call has both. A
/// tool's description has a schema in the place of the arguments.
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
            // An empty object means that the tool was called without arguments, except under `parameters` and `input`.
            let empty = matches!(value, Json::Object(_)) && !matches!(plain, "parameters" | "input");
            given |= empty || !is_zero(value);
            arguments |= (empty || !is_zero(value)) && matches!(plain, "arguments" | "args" | "toolinput" | "rawinput");
        }
    }
    // An object that holds a conversation may have a name and an input; a description has no arguments.
    name.filter(|_| if otherwise { arguments } else { given })
}

/// Whether a value under a member with this plain name is a JSON schema. One without properties counts only under
/// `parameters`.
pub(super) fn is_schema(value: &Json, plain: &str) -> bool {
    let is = |key: &str| value.get(key).is_some();
    let bare = || plain == "parameters" && value.get("type").and_then(Json::as_str) == Some("object");
    is("properties") || is("$schema") || bare()
}

/// What an event of the GenAI conventions holds: an answer, or the calls that a model chose.
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
            // What a model said may also be JSON in a string.
            let text = Json::from(members.clone()).to_canonical();
            let words = ["tool_call", "toolCall", "tool_use", "toolUse", "function_call", "functionCall"];
            let text = text.as_str();
            let says = words.iter().any(|word| text.match_indices(word).any(|(at, _)| quotes(text, at)));
            says.then_some((Untaken::Call, what))
        }
        _ => None,
    }
}

/// Whether a name begins at this position: the character before it is a quotation mark.
fn quotes(text: &str, at: usize) -> bool {
    at.checked_sub(1).and_then(|before| text.as_bytes().get(before)) == Some(&b'"')
}

/// The evidence that a span or log record of OpenTelemetry's is a tool's.
fn span(members: &Object) -> Option<String> {
    let attributes = members.get("attributes")?.as_array()?;
    let name = members.get("name").and_then(Json::as_str).unwrap_or_default();
    if ["execute_tool", "tools/call", "ai.toolCall", "claude_code.tool"].iter().any(|start| name.starts_with(start)) {
        return Some(format!("the span {:?}", super::clip(name)));
    }
    flat(attributes).into_iter().find_map(|(key, value)| {
        let (plain, value) = (Plain::of(&key), value.as_str());
        let said = value.map(Plain::of);
        let said = said.as_ref().map(Plain::as_str).unwrap_or_default();
        let says = match plain.as_str() {
            "genaioperationname" => matches!(said, "executetool" | "tool"),
            "mcpmethodname" => said == "toolscall",
            "eventname" => said.contains("toolresult") || said.contains("tooldecision"),
            plain if KINDS.iter().any(|end| plain.ends_with(end)) => value.is_some_and(is_tool),
            "toolname" | "tooluseid" | "toolcallid" | "toolarguments" | "genaitoolname" => true,
            plain => plain.starts_with("genaitoolcall") || plain.starts_with("aitoolcall"),
        };
        says.then(|| format!("the attribute {key:?}"))
    })
}

/// What kind of file this is, if `format` does not read it, judged by words that only such files hold.
pub(super) fn looks_like(text: &[u8], format: Format) -> Option<String> {
    let holds = |words: &[&str]| words.iter().all(|word| text.windows(word.len()).any(|w| w == word.as_bytes()));
    let kinds: &[(Format, &[&str], &str)] = &[
        (Format::OtlpJson, &["\"resourceLogs\""], "OpenTelemetry logs"),
        (Format::OtlpJson, &["\"resourceSpans\""], "OpenTelemetry traces"),
        (Format::Codex, &["\"session_meta\""], "a rollout of Codex"),
        (Format::Codex, &["\"response_item\""], "a rollout of Codex"),
        (Format::ClaudeCode, &["\"sessionId\"", "\"uuid\"", "\"message\""], "a session of Claude Code"),
        (Format::OpenAiResponses, &["\"function_call_output\""], "items of the OpenAI Responses API"),
        (Format::OpenAiResponses, &["\"call_id\"", "\"function_call\""], "items of the OpenAI Responses API"),
        (Format::LangSmith, &["\"run_type\""], "runs of LangSmith"),
        (Format::Bedrock, &["\"toolUse\""], "messages of Bedrock's Converse API"),
        (Format::VercelAi, &["\"toolCallId\""], "messages of the Vercel AI SDK"),
        (Format::LangChain, &["\"additional_kwargs\""], "messages of LangChain"),
        (Format::OpenCode, &["\"callID\""], "parts of an OpenCode session"),
        (Format::Gemini, &["\"toolCalls\""], "a session of the Gemini CLI"),
        (Format::Inspect, &["\"samples\"", "\"eval\""], "a log of Inspect"),
        (Format::OpenHands, &["\"tool_call_metadata\""], "events of OpenHands"),
        (Format::SweAgent, &["\"action\"", "\"observation\""], "a trajectory (of SWE-agent or OpenHands)"),
        (Format::Jsonl, &["\"tool_name\"", "\"conversation_id\""], "records of attestlog"),
        (Format::OpenAiChat, &["\"tool_calls\""], "messages of OpenAI"),
        (Format::Anthropic, &["\"tool_use\""], "messages of Anthropic"),
    ];
    // More particular kinds come first: their files also hold words of the others.
    let kind = kinds.iter().find(|(of, words, _)| *of != format && holds(words));
    let known = kind.map(|(of, _, what)| format!("{what}: say --format {of}, or leave --format out"));
    known.or_else(|| no_json(text))
}

/// What can be imported, if the text begins with nothing that JSON begins with.
pub(super) fn no_json(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii_start();
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
    (!text.is_empty() && !text.starts_with(b"{") && !text.starts_with(b"["))
        .then(|| format!("text that is no JSON; what can be imported is JSON, or JSON lines, as {}", names.join(", ")))
}

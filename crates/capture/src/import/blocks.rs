//! Messages in any of the shapes in which programs keep them: calls beside the content, in its blocks or in parts, and answers as
//! messages of their own or as blocks.
//!
//! One reader for all shapes, because files mix them: LangChain keeps Anthropic's blocks beside its own calls, a log of a proxy has
//! what each provider wrote. A call that a message has twice in different spellings is one call. Items of the Responses API are
//! read by `items`. What no rule here knows is left for `detect` to report.

use super::answer::{Answer, tell_the_same};
use super::conversation::Conversation;
use super::detect::{self, Plain};
use super::file::{At, Known, Moment, TIMES};
use super::items;
use super::session::{Asked, Facts};
use crate::ended::{self, Signs};
use attestlog::Outcome;
use attestlog::entry::failure::is_called;
use attestlog::json::Json;

/// Who a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Assistant,
    User,
    Tool,
    Other,
}

/// The members that may give the id of a call, in the call and in its answer.
pub(super) const CALL_IDS: &[&str] =
    &["id", "call_id", "tool_call_id", "toolCallId", "toolUseId", "tool_use_id", "tool_id"];
pub(super) const ANSWER_IDS: &[&str] =
    &["tool_call_id", "toolCallId", "tool_use_id", "toolUseId", "call_id", "tool_id", "callID"];
const TOOLS: &[&str] = &["name", "tool_name", "toolName", "tool", "function_name", "functionName"];
pub(super) const GIVEN: &[&str] = &["arguments", "args", "input", "tool_args", "parameters", "tool_input"];
const SAID: &[&str] = &["content", "output", "result", "response", "value", "text"];
/// The members of a call that are known: those above, and what says nothing of input or answer.
const CALL: Known = &[
    "type",
    "id",
    "call_id",
    "tool_call_id",
    "toolCallId",
    "toolUseId",
    "tool_use_id",
    "tool_id",
    "name",
    "tool_name",
    "toolName",
    "tool",
    "function",
    "functionName",
    "function_name",
    "arguments",
    "args",
    "input",
    "tool_args",
    "parameters",
    "tool_input",
    "custom",
    "index",
    "description",
    "cache_control",
    "caller",
    "server_name",
    "state",
    "status",
    "thought_signature",
    "providerExecuted",
    "providerMetadata",
    "callProviderMetadata",
    "requestor",
    "view",
    "parse_error",
    "error",
    "extras",
    "output",
    "result",
    "errorText",
    "isError",
    "toolUse",
    "functionCall",
    "tool_call",
    "toolInvocation",
    "rawInput",
    "title",
    "preliminary",
    "compare_args",
];

/// Reads one message; `facts` is what is known of it from around it.
pub(super) fn message<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let own = role(at);
    if let Some(inner) = wrapped(at) {
        let facts = facts_of(at).or(facts);
        return match own {
            Role::Other => message(&inner, &facts, session),
            // Some wrappers have the role, and not the message.
            own => said_by(own, &inner, &facts, session),
        };
    }
    if items::is_item(at) {
        return items::item(at, facts, session);
    }
    said_by(own, at, facts, session);
}

/// Reads one message of somebody with this role.
fn said_by<'a>(role: Role, at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let Some(of) = at.value.as_object() else { return };
    let facts = facts_of(at).or(facts);
    if role != Role::Assistant {
        session.join.interrupt();
    }
    let ids = beside(at, &facts, session);
    let (mut answers, mut says_more) = (0, false);
    for key in ["content", "parts", "message", "output", "blocks"] {
        let Some(blocks) = at.member(key).filter(|at| at.value.as_array().is_some()) else {
            says_more |= of.get(key).is_some_and(|content| content.as_str().is_some());
            continue;
        };
        for block in blocks.elements().into_iter().flatten() {
            match self::block(&block, role, &facts, &ids, session) {
                Read::Call => {}
                Read::Answer => answers += 1,
                Read::Other => says_more = true,
            }
        }
    }
    if role == Role::Tool && answers == 0 {
        answer_message(at, &facts, session);
    }
    if role == Role::User && says_more {
        session.user_turn();
    }
}

/// The message inside a wrapper: LangChain's serialised objects, rows that keep a message under `message`.
fn wrapped<'a>(at: &At<'a>) -> Option<At<'a>> {
    let holds = |at: &At<'_>| at.value.as_object().is_some();
    if at.value.get("lc").is_some() {
        return at.member("kwargs").filter(holds);
    }
    if let Some(data) = at.member("data").filter(|data| holds(data) && data.value.get("content").is_some()) {
        return Some(data);
    }
    let inner = at.member("message").filter(holds)?;
    let is_message = ["role", "content", "parts", "tool_calls"].iter().any(|key| inner.value.get(key).is_some());
    is_message.then_some(inner)
}

/// Who a message is from. LangChain says it by the message's class.
pub(super) fn role(at: &At<'_>) -> Role {
    let class = || at.str("type").or_else(|| at.str("_type"));
    let Some(name) = at.str("role").or_else(class).or_else(|| at.str("author")) else { return Role::Other };
    match Plain::of(name).as_str() {
        "assistant" | "ai" | "model" | "aimessage" | "aimessagechunk" | "gemini" | "bot" => Role::Assistant,
        "user" | "human" | "humanmessage" | "humanmessagechunk" => Role::User,
        "tool" | "function" | "toolmessage" | "functionmessage" | "toolresult" | "toolmessagechunk" => Role::Tool,
        _ => Role::Other,
    }
}

/// What a message says of itself.
pub(super) fn facts_of(at: &At<'_>) -> Facts {
    let about = ["response_metadata", "metadata", "extra_info"].into_iter().filter_map(|key| at.member(key));
    let models = ["model", "model_name", "modelID", "model_id", "modelName"];
    let mut moment = at.moment(&["timestamp", "created_at", "createdAt", "created", "time"]);
    if moment.is_none() {
        let named = at.members().find(|(key, value)| {
            TIMES.iter().any(|time| is_called(key, time))
                && !at.moment(&[key]).is_none()
                && value.value.as_object().is_none()
        });
        moment = named.map(|(key, _)| at.moment(&[key])).unwrap_or_default();
    }
    let model = models.iter().find_map(|key| at.str(key)).map(str::to_owned);
    let model =
        model.or_else(|| about.into_iter().find_map(|of| models.iter().find_map(|key| of.str(key)).map(str::to_owned)));
    Facts { model, moment, ..Facts::default() }
}

/// The calls that a message has beside its content; returns their ids, by which those in its content are known again.
fn beside<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) -> Vec<String> {
    let (mut ids, mut all) = (Vec::new(), Vec::new());
    for key in ["tool_calls", "toolCalls", "invalid_tool_calls", "toolInvocations"] {
        for call in at.items(key) {
            if let Some(id) = call.name(CALL_IDS) {
                ids.push(id);
            }
            self::call(&call, facts, session);
            all.push(call);
        }
    }
    let mut more = |at: &At<'a>, session: &mut Conversation<'a>| {
        for call in at.items("tool_calls") {
            match call.name(CALL_IDS).filter(|id| ids.contains(id)) {
                Some(_) => {}
                None => {
                    ids.extend(call.name(CALL_IDS));
                    self::call(&call, facts, session);
                    all.push(call);
                }
            }
        }
        if let Some(call) = at.member("function_call").filter(|call| !detect::is_zero(call.value)) {
            match ids.is_empty() {
                true => self::call(&call, facts, session),
                // The older way to say the same, without an id.
                false if all.iter().any(|one| is_same(one, &call)) => call.take(),
                false => session.join.refuse_call(&call, "is none of the calls that the message has beside it"),
            }
        }
    };
    if let Some(inner) = at.member("additional_kwargs") {
        more(&inner, session);
    }
    if let Some(call) =
        at.member("function_call").filter(|call| call.value.as_object().is_some() && !detect::is_zero(call.value))
    {
        self::call(&call, facts, session);
    }
    ids
}

/// Whether two objects of calls name the same tool with the same input.
fn is_same(one: &At<'_>, other: &At<'_>) -> bool {
    let of = |at: &At<'_>| {
        let function = at.member("function").filter(|at| at.value.as_object().is_some());
        let at = function.as_ref().unwrap_or(at);
        (at.name(TOOLS), at.first(GIVEN).map_or(Json::Null, |given| given.value.clone()))
    };
    let ((tool, given), (other_tool, other_given)) = (of(one), of(other));
    tool == other_tool && tell_the_same(&given, &other_given)
}

/// What a block turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Call,
    Answer,
    Other,
}

/// Reads one block of a message. A call that is in `known` was read beside the content.
pub(super) fn block<'a>(
    at: &At<'a>,
    role: Role,
    facts: &Facts,
    known: &[String],
    session: &mut Conversation<'a>,
) -> Read {
    if at.value.as_object().is_none() {
        return Read::Other;
    }
    // Bedrock and Gemini name a block by its only member.
    for (key, kind) in [
        ("toolUse", Read::Call),
        ("functionCall", Read::Call),
        ("function_call", Read::Call),
        ("toolResult", Read::Answer),
        ("functionResponse", Read::Answer),
        ("function_response", Read::Answer),
    ] {
        let Some(inner) = at.member(key).filter(|inner| inner.value.as_object().is_some()) else { continue };
        match kind {
            // Whether it says the same is seen later.
            Read::Call if inner.name(CALL_IDS).is_some_and(|id| known.contains(&id)) => {}
            Read::Call => call(&inner, facts, session),
            _ => answer(&inner, at, facts.moment, session),
        }
        return kind;
    }
    if let Some(inner) = at.member("toolInvocation").filter(|inner| inner.value.as_object().is_some()) {
        call(&inner, facts, session);
        at.take();
        return Read::Call;
    }
    if items::is_item(at) {
        let kind = if items::is_output(at) { Read::Answer } else { Read::Call };
        match at.name(CALL_IDS).filter(|id| kind == Read::Call && known.contains(id)) {
            Some(_) => {}
            None => items::item(at, facts, session),
        }
        return kind;
    }
    let Some(kind) = at.str("type") else { return Read::Other };
    let plain = kind.replace('-', "_").to_ascii_lowercase();
    let is_call =
        plain.ends_with("tool_use") || plain.ends_with("tool_call") || plain == "toolcall" || plain == "dynamic_tool";
    let is_answer =
        ["tool_result", "tool_call_response", "tool_response", "tool_error", "toolresult", "function_result"];
    // The parts of the Vercel AI SDK have the tool's name in their type.
    let of_tool = plain.starts_with("tool_") && at.value.get("toolCallId").is_some();
    if is_answer.iter().any(|end| plain.ends_with(end)) {
        answer(at, at, facts.moment, session);
        return Read::Answer;
    }
    if !is_call && !of_tool {
        return Read::Other;
    }
    if role == Role::Tool {
        session.join.refuse_call(at, "only an assistant calls tools, not a tool's message");
        return Read::Call;
    }
    match at.name(CALL_IDS).filter(|id| known.contains(id)) {
        Some(_) => {}
        None => call(at, facts, session),
    }
    Read::Call
}

/// Reads a call in its own object, and its answer, if it stands there too.
pub(super) fn call<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let own = |key: &str| at.member(key).filter(|at| at.value.as_object().is_some());
    let inner = own("function").or_else(|| own("custom")).or_else(|| own("tool_call")).unwrap_or_else(|| at.clone());
    let typed =
        || Some(at.str("type")?.strip_prefix("tool-")?.to_owned()).filter(|_| at.value.get("toolCallId").is_some());
    let named =
        inner.name(TOOLS).or_else(|| at.name(TOOLS)).or_else(|| at.str("function").map(str::to_owned)).or_else(typed);
    let Some(tool) = named else {
        return session.join.refuse_call(at, "the call does not name its tool");
    };
    // Its own `input` is what a tool was given; of several spellings the first that holds something counts.
    let given = |at: &At<'a>| telling(at, GIVEN).filter(|given| !ended::is_empty(given.value) && !is_schema(given));
    let any = || inner.first(GIVEN).or_else(|| at.first(GIVEN));
    let arguments = given(&inner).or_else(|| given(at)).or_else(|| at.member("rawInput")).or_else(any);
    let id = at.name(CALL_IDS).or_else(|| inner.name(CALL_IDS));
    let facts = Facts { moment: at.moment(&["timestamp", "created_at", "createdAt"]), ..Facts::default() }.or(facts);
    let mut asked = Asked::new(at, id.clone(), tool, arguments, &facts);
    // Claude Code names the tools of a server `mcp__server__tool`.
    let prefixed = || Some(asked.tool.strip_prefix("mcp__")?.split_once("__")?.0.to_owned());
    asked.server = at.name(&["server_name", "server_label", "mcp_server"]).or_else(prefixed);
    let (read, named) = (asked.arguments.clone(), asked.tool.to_string());
    session.asked(asked);
    let own = (inner.place() != at.place()).then_some(&inner);
    contradictions([Some(at), own].into_iter().flatten(), &named, read, session);
    let ended = ended(at);
    at.take_but(CALL);
    if let Some(answer) = ended {
        session.answered(at, id, None, answer, Moment::default());
        at.take_but(CALL);
    }
}

/// Names a second input or name in a call's own object that says something else than the one that was read.
fn contradictions<'h, 'a: 'h>(
    holders: impl Iterator<Item = &'h At<'a>>,
    tool: &str,
    read: Option<At<'a>>,
    session: &mut Conversation<'a>,
) {
    for holder in holders {
        for other in GIVEN.iter().filter_map(|key| holder.member(key)) {
            if read.as_ref().is_some_and(|read| !tell_the_same(read.value, other.value)) {
                session.join.refuse_call(&other, "is another input than the one that was read of the call");
            }
        }
        if let Some(other) = holder.member("name").filter(|other| other.value.as_str().is_some_and(|name| name != tool))
        {
            session.join.refuse_call(&other, "is another tool than the one that was read of the call");
        }
    }
}

/// The first of these members that says something, else the first that is there: some writers leave one of two copies empty.
pub(super) fn telling<'a>(at: &At<'a>, keys: &[&str]) -> Option<At<'a>> {
    let all = || keys.iter().filter_map(|key| at.member(key));
    all().find(|at| !ended::is_empty(at.value)).or_else(|| all().next())
}

/// Whether a member describes the arguments that a tool takes.
fn is_schema(given: &At<'_>) -> bool {
    given.value.as_object().is_some() && detect::is_schema(given.value, "parameters")
}

/// The answer that a call's own object has: that of a part of the Vercel AI SDK, or a `result`.
fn ended(at: &At<'_>) -> Option<Answer> {
    let state = at.str("state").unwrap_or_default();
    match state {
        "output-error" => Some(failed(at.str("errorText").unwrap_or("unspecified error"))),
        "output-denied" => Some(Answer { outcome: Some(Outcome::Denied), ..failed("denied") }),
        _ if at.member("approval").is_some_and(|of| Signs::of(of.value).outcome() == Some(Outcome::Denied)) => {
            Some(Answer { outcome: Some(Outcome::Denied), ..failed("denied") })
        }
        _ => {
            let output = telling(at, &["output", "result"])?;
            (!matches!(state, "input-streaming" | "input-available" | "call" | "partial-call"))
                .then(|| unwrapped(&output, Signs::of(at.value).failed()))
        }
    }
}

pub(super) fn failed(message: &str) -> Answer {
    Answer::error(None, message.to_owned())
}

/// The answer in a value that may have a wrapper which says what it is: the Vercel AI SDK's `{"type","value"}`, Bedrock's
/// `[{"json": …}]`.
pub(super) fn unwrapped(at: &At<'_>, is_failed: Option<bool>) -> Answer {
    if let (Some(kind), Some(value)) = (at.str("type"), at.member("value")) {
        let is_failed = if kind.starts_with("error") { Some(true) } else { is_failed };
        if ["text", "json", "content", "error-text", "error-json"].contains(&kind) {
            return Answer::of(Some(value), is_failed);
        }
    }
    if at.is("type", "execution-denied") {
        return Answer { outcome: Some(Outcome::Denied), ..failed(at.str("reason").unwrap_or("denied")) };
    }
    if let Some([one]) = at.value.as_array()
        && one.as_object().is_some_and(|members| members.len() == 1)
        && let Some(json) = at.elements().ok().and_then(|mut all| all.next()?.member("json"))
    {
        return Answer::of(Some(json), is_failed);
    }
    Answer::of(Some(at.clone()), is_failed)
}

/// The answer in a block or message, with what stands `around` it about how the call ended.
pub(super) fn answer_in(at: &At<'_>, keys: &[&str], around: &Json) -> Answer {
    let signs = Signs::of(around);
    let is_failed = signs.failed();
    // An error is told beside the answer, and stands in its place only where there is no other.
    let others: Vec<&str> = keys.iter().copied().filter(|key| *key != "error" || signs.error.is_none()).collect();
    let content = telling(at, &others).filter(|content| !(is_failed == Some(true) && detect::is_zero(content.value)));
    let mut answer = match content {
        Some(content) => unwrapped(&content, is_failed),
        None => Answer::of(None, is_failed),
    };
    answer.ended(signs);
    answer
}

/// Reads an answer in its own object; `holder` is the block around it.
fn answer<'a>(at: &At<'a>, holder: &At<'a>, moment: Moment, session: &mut Conversation<'a>) {
    let id = at.name(ANSWER_IDS).or_else(|| at.name(&["id"]));
    let tool = at.name(TOOLS);
    let mut keys = vec!["content", "output", "result", "response"];
    keys.extend(["value", "error"]);
    let mut answer = answer_in(at, &keys, at.value);
    // How the provider's own tools report failure.
    if let Some(error) = at.member("content")
        && error.str("type").is_some_and(|kind| kind.ends_with("_error"))
    {
        let code = error.str("error_code").map(str::to_owned);
        answer = Answer::error(code, error.str("error_message").or(error.str("type")).unwrap_or_default().to_owned());
    }
    if let Some(content) = at.member("content") {
        answer.ended(of_content(&content));
    }
    if at.str("type").is_some_and(|kind| kind.ends_with("error")) && answer.outcome.is_none() {
        answer.fail(None);
    }
    session.answered(at, id, tool, answer, at.moment(&["timestamp"]).or(moment));
    others(at, &keys, session);
    holder.take();
}

/// What the result of a provider's own tool says of its ending, where it is an object of the provider's: `bash_code_execution_result`.
pub(super) fn of_content(content: &At<'_>) -> Signs {
    match content.str("type") {
        Some(kind) if kind.ends_with("_result") => Signs::of(content.value),
        _ => Signs::default(),
    }
}

/// Reads the message of a tool.
pub(super) fn answer_message<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let mut id = at.name(ANSWER_IDS);
    if let Some(ids) = at.member("tool_call_ids") {
        let ids: Vec<&str> = ids.value.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        if ids.len() > 1 {
            at.take();
            let why = "answers several calls at once; which said what cannot be told";
            return session.join.refuse(at.place(), why);
        }
        id = id.or_else(|| ids.first().map(|id| (*id).to_owned()));
    }
    let own = || at.name(&["id"]).filter(|id| session.join.is_open(id));
    let id = id.or_else(own);
    let tool = at.str("function").map(str::to_owned).or_else(|| at.name(TOOLS));
    let has_content = SAID.iter().any(|key| at.value.get(key).is_some());
    if id.is_none() && tool.is_none() && !has_content {
        return;
    }
    let mut answer = answer_in(at, SAID, at.value);
    // LangChain and mini-swe-agent keep such signs apart.
    for beside in ["additional_kwargs", "extra", "metadata"].into_iter().filter_map(|key| at.member(key)) {
        answer.ended(Signs::of(beside.value));
    }
    session.answered(at, id, tool, answer, facts.moment);
    others(at, SAID, session);
}

/// Names the members of an answer that may be the answer too, and say something else than the one that was read.
pub(super) fn others<'a>(at: &At<'a>, keys: &[&str], session: &mut Conversation<'a>) {
    let Some(read) = telling(at, keys) else { return };
    for (key, other) in at.members() {
        let may_be = keys.contains(&key) || ["data", "artifact"].contains(&key);
        if may_be && key != "error" && other.place() != read.place() && !tell_the_same(read.value, other.value) {
            let why = format!("the member {key:?} of an answer says something else than the one that was read");
            session.join.refuse(other.place(), &why);
        }
    }
}

//! Messages of the OpenAI chat completions API.

use super::answer::{self, Answer};
use super::conversation::{self, Conversation};
use super::detect;
use super::file::{At, Known};
use attestlog::Result;
use attestlog::json::Json;
use std::borrow::Cow;

/// Reads one message into its conversation.
pub(super) fn message<'a>(at: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let Some(role) = conversation::role(at)? else { return Err(at.error("role is missing")) };
    let function_call = || at.member("function_call").filter(|call| !detect::is_zero(call.value));
    if role != "assistant" {
        conversation.join.interrupt();
        let calls = at.member("tool_calls").filter(|calls| !detect::is_zero(calls.value));
        if let Some(calls) = calls.or_else(function_call) {
            return Err(calls.error(format!("only an assistant calls tools, not the role {role:?}")));
        }
    }
    refuse_blocks(at)?;
    match role {
        "user" => conversation.user_turn(),
        "assistant" => {
            for call in at.list("tool_calls")? {
                tool_call(&call, at, conversation)?;
            }
            if let Some(function) = function_call() {
                call(None, &function, "arguments", at, &function, conversation)?;
                function.take_but(FUNCTION);
            }
        }
        "tool" | "function" => answer(at, conversation)?,
        "system" | "developer" => {}
        other => {
            return Err(at.unexpected("role", other, "system, developer, user, assistant, tool, function"));
        }
    }
    Ok(())
}

/// Reads a message with a tool's answer. The id of its call has one of several names; an answer with none of them
/// belongs to a call without an id.
fn answer<'a>(at: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let mut id = None;
    for key in ["tool_call_id", "toolCallId", "tool_use_id", "call_id"] {
        id = id.or(at.opt_text(key)?);
    }
    if let Some(ids) = at.member("tool_call_ids") {
        let mut each = ids.elements()?;
        id = id.or(each.next().map(|one| one.text()).transpose()?);
        if each.next().is_some() {
            at.take();
            let why = "answers several calls at once; which said what cannot be told";
            conversation.join.refuse(at.place(), why);
            return Ok(());
        }
    }
    // The message's own id, if it is the id of an open call.
    let own = || at.value.get("id").and_then(|id| id.as_str()).filter(|id| conversation.join.is_open(id));
    let id = id.or_else(own);
    // A `function` that is a text is the name of the call's tool.
    let tool = match at.value.get("function").and_then(|function| function.as_str()) {
        Some(function) => Some(function),
        None => at.opt_text("name")?.or(at.opt_text("tool_name")?),
    };
    let answer = Answer::of_block(at);
    conversation.join.answer(id.map(Cow::Borrowed), tool.map(Cow::Borrowed), answer, at.time()?, at);
    answer::beside(at, &mut conversation.join, "openai-chat");
    Ok(())
}

/// The known members of an item of `tool_calls`, beside those that hold the call itself.
macro_rules! item {
    ($($more:literal),*) => {
        &["id", "type", "index", "call_id", "description", $($more),*]
    };
}

/// The known members of an item's `function`, and of its `custom`.
const FUNCTION: Known = &["name", "arguments", "description", "parameters", "strict"];
const CUSTOM: Known = &["name", "input", "description", "format"];

fn tool_call<'a>(at: &At<'a>, message: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let id = at.opt_text("id")?;
    let own = |key: &str| at.value.get(key).is_some_and(|value| *value != Json::Null);
    match at.opt_text("type")?.unwrap_or("function") {
        "custom" => {
            let custom = at.required("custom")?;
            call(id, &custom, "input", message, at, conversation)?;
            custom.take_but(CUSTOM);
            at.take_but(item!("custom"));
            repeated(at, &custom);
        }
        // Some writers put the tool's name where the function should be, others leave the function out.
        "function" | "tool_call" if !own("function") && own("name") => {
            let given = ["arguments", "args", "input"].into_iter().find(|key| own(key)).unwrap_or("arguments");
            call(id, at, given, message, at, conversation)?;
            at.take_but(match given {
                "args" => item!("name", "args"),
                "input" => item!("name", "input"),
                _ => item!("name", "arguments"),
            });
        }
        "function" | "tool_call" => {
            let function = at.required("function")?;
            match function.value.as_str() {
                Some(tool) if !tool.is_empty() => {
                    named(id, tool, at.member("arguments"), message, at, conversation)?;
                    at.take_but(item!("function", "arguments"));
                }
                _ => {
                    call(id, &function, "arguments", message, at, conversation)?;
                    function.take_but(FUNCTION);
                    at.take_but(item!("function"));
                    repeated(at, &function);
                }
            }
        }
        other => return Err(at.unexpected("type", other, "function, custom, tool_call")),
    }
    Ok(())
}

/// Some writers repeat the name and the arguments beside the function; a repetition counts as read.
fn repeated(at: &At<'_>, function: &At<'_>) {
    for (key, own) in [("name", "name"), ("arguments", "arguments"), ("args", "arguments"), ("input", "arguments")] {
        let given = function.value.get(own);
        let same = |member: &At<'_>| given.is_some_and(|given| answer::read(given) == answer::read(member.value));
        at.member(key).filter(same).iter().for_each(At::take);
    }
}

fn call<'a>(
    id: Option<&'a str>,
    function: &At<'a>,
    arguments: &str,
    message: &At<'a>,
    at: &At<'a>,
    conversation: &mut Conversation<'a>,
) -> Result<()> {
    named(id, function.named("name")?, function.member(arguments), message, at, conversation)
}

fn named<'a>(
    id: Option<&'a str>,
    tool: &'a str,
    arguments: Option<At<'a>>,
    message: &At<'a>,
    at: &At<'a>,
    conversation: &mut Conversation<'a>,
) -> Result<()> {
    let mut call = conversation.start(tool, message)?;
    answer::arguments(&mut call, arguments);
    for place in [at.member("name"), at.member("function"), at.member("function").and_then(|f| f.member("name"))] {
        call.restated.extend(place.filter(|p| p.value.as_str().is_some()).iter().flat_map(|p| p.restated("tool_name")));
    }
    conversation.join.call(id.map(Cow::Borrowed), Cow::Borrowed(tool), call, message.time()?, at);
    Ok(())
}

/// Refuses Anthropic's blocks: a file of calls read in the wrong format would look like one without calls.
fn refuse_blocks(message: &At<'_>) -> Result<()> {
    let Some(content) = message.member("content").filter(|c| c.value.as_array().is_some()) else { return Ok(()) };
    for part in content.elements()? {
        if let Some(kind) = part.value.get("type").and_then(|t| t.as_str())
            && (kind.ends_with("tool_use") || kind.ends_with("tool_result"))
        {
            return Err(part.error(format!("{kind:?} is no part of openai-chat; is the format anthropic?")));
        }
    }
    Ok(())
}

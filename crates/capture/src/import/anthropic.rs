//! Messages of the Anthropic API.
//!
//! Every block whose type ends in `tool_use` is a call, and every block whose type ends in `tool_result` an answer:
//! `tool_use` for the caller's own tools, `server_tool_use` for tools that run at the provider (answered in the same
//! message by `web_search_tool_result` and others), and `mcp_tool_use` for tools of connected servers.

use super::answer::{self, Answer};
use super::conversation::Conversation;
use super::detect;
use super::file::{At, Known};
use super::{Format, Untaken, blocks, speaks};
use crate::ended::Signs;
use attestlog::entry::failure::{is_called, text_fails};
use attestlog::json::{Json, Object};
use attestlog::{Outcome, Result};
use std::borrow::Cow;

/// Reads one message into its conversation.
pub(super) fn message<'a>(at: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let role = at.named("role")?;
    if !matches!(role, "user" | "assistant" | "system") {
        let wanted = "user, assistant, system (is the format openai-chat?)";
        return Err(at.unexpected("role", role, wanted));
    }
    let calls = ["tool_calls", "function_call"].into_iter().filter_map(|key| at.member(key));
    if let Some(calls) = calls.into_iter().find(|calls| !detect::is_zero(calls.value)) {
        return Err(calls.error("is no part of anthropic; is the format openai-chat?"));
    }
    if role != "assistant" {
        conversation.join.interrupt();
    }
    let Some(content) = at.member("content") else { return Err(at.error("content is missing")) };
    let around = around(at);
    let mut has_answer = false;
    // A message that holds only answers comes from the program, not from the user.
    let mut says_more = false;
    if content.value.as_str().is_some() {
        says_more = true;
    } else {
        for block in content.elements()? {
            let kind = block.named("type")?;
            if kind.ends_with("tool_use") {
                if role != "assistant" {
                    return Err(block.error(format!("only an assistant calls tools, not the role {role:?}")));
                }
                tool_use(&block, at, conversation)?;
            } else if kind.ends_with("tool_result") {
                let id = block.opt_text("tool_use_id")?;
                let mut answer = tool_result(&block)?;
                answer.ended(around.clone());
                conversation.join.answer(id.map(Cow::Borrowed), None, answer, at.time()?, &block);
                answer::beside(&block, &mut conversation.join, "anthropic");
                has_answer = true;
            } else {
                says_more = true;
            }
        }
    }
    if has_answer {
        beside(at, conversation);
    }
    if role == "user" && says_more {
        conversation.user_turn();
    }
    Ok(())
}

/// What a message says about how its answers ended, including what Claude Code writes beside the content.
fn around(message: &At<'_>) -> Signs {
    let signs = Signs::of(message.value);
    let Some(beside) = message.member("toolUseResult") else { return signs };
    signs.and(of_beside(beside.value))
}

/// What Claude Code's own account of an answer says: a text that begins with an error, or the members of an object.
pub(super) fn of_beside(beside: &Json) -> Signs {
    let mut signs = Signs::of(beside);
    if beside.as_str().is_some_and(text_fails) {
        signs.add("toolUseResult", Outcome::ToolError);
    }
    signs
}

/// Reports unknown members of a message with answers, beside its content, whose names refer to an answer.
fn beside<'a>(message: &At<'a>, conversation: &mut Conversation<'a>) {
    const KNOWN: &[&str] = &["error", "iserror", "status", "tooluseresult"];
    for (key, value) in message.value.as_object().into_iter().flat_map(Object::iter) {
        let is_known = key == "content" || KNOWN.iter().any(|known| is_called(key, known));
        let told = speaks::unread(key, value).filter(|_| !is_known);
        if let (Some(Untaken::Answer), Some(member)) = (told, message.member(key)) {
            let why = speaks::why("member", key, "a message with answers", Format::Anthropic);
            conversation.join.refuse(member.place(), &why);
        }
    }
}

/// The known members of a call.
const CALL: Known = &["type", "id", "name", "input", "server_name", "cache_control", "caller"];

fn tool_use<'a>(at: &At<'a>, message: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let tool = at.named("name")?;
    let mut call = conversation.start(tool, message)?;
    call.tool_server = at.opt_text("server_name")?.map(str::to_owned);
    answer::arguments(&mut call, at.member("input"));
    call.restated.extend(at.member("name").iter().flat_map(|name| name.restated("tool_name")));
    let id = at.opt_text("id")?.map(Cow::Borrowed);
    conversation.join.call(id, Cow::Borrowed(tool), call, message.time()?, at);
    at.take_but(CALL);
    Ok(())
}

fn tool_result(block: &At<'_>) -> Result<Answer> {
    let content = block.member("content");
    // How the provider's own tools report failure: {"type": "web_search_tool_result_error", "error_code":
    // "unavailable"}.
    if let Some(error) = &content
        && let Some(kind) = error.value.get("type").and_then(|t| t.as_str())
        && kind.ends_with("_error")
    {
        let code = error.opt_text("error_code")?.map(str::to_owned);
        let message = error.opt_text("error_message")?.unwrap_or(kind);
        return Ok(Answer::error(code, message.to_owned()));
    }
    let mut answer = Answer::of_block(block);
    if let Some(content) = &content {
        answer.ended(blocks::of_content(content));
    }
    Ok(answer)
}

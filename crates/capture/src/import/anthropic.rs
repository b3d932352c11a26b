//! Messages of the Anthropic API.
//!
//! Every block whose type ends in `tool_use` is a call and every one whose type ends in `tool_result` an answer: the
//! model's own tools (`tool_use`), those that run at the provider (`server_tool_use`, answered by
//! `web_search_tool_result` and others in the same message), and those of connected servers (`mcp_tool_use`).

use super::answer::{self, Answer};
use super::conversation::Conversation;
use super::detect;
use super::file::At;
use attestlog::Result;

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
    // A message that only brings answers is the program's, not the user's.
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
                conversation.join.answer(id, None, tool_result(&block)?, at.time()?, &block);
                answer::beside(&block, &mut conversation.join, "anthropic");
            } else {
                says_more = true;
            }
        }
    }
    if role == "user" && says_more {
        conversation.user_turn();
    }
    Ok(())
}

fn tool_use<'a>(at: &At<'a>, message: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let tool = at.named("name")?;
    let mut call = conversation.start(tool, message)?;
    call.tool_server = at.opt_text("server_name")?.map(str::to_owned);
    answer::arguments(&mut call, at.member("input"));
    call.restated.extend(at.member("name").iter().flat_map(|name| name.restated("tool_name")));
    conversation.join.call(at.opt_text("id")?, tool, call, message.time()?, at);
    Ok(())
}

fn tool_result(block: &At<'_>) -> Result<Answer> {
    let content = block.member("content");
    // How the provider's own tools fail: {"type": "web_search_tool_result_error", "error_code": "unavailable"}.
    if let Some(error) = &content
        && let Some(kind) = error.value.get("type").and_then(|t| t.as_str())
        && kind.ends_with("_error")
    {
        let code = error.opt_text("error_code")?.map(str::to_owned);
        let message = error.opt_text("error_message")?.unwrap_or(kind);
        return Ok(Answer::error(code, message.to_owned()));
    }
    Ok(Answer::of_block(block))
}

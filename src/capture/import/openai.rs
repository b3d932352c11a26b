//! Messages of the OpenAI chat completions API.

use super::answer::{self, Answer};
use super::conversation::Conversation;
use super::file::At;
use crate::Result;

/// Reads one message into its conversation.
pub(super) fn message<'a>(at: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let role = at.named("role")?;
    if role != "assistant" {
        conversation.join.interrupt();
        if let Some(calls) = at.member("tool_calls").or_else(|| at.member("function_call")) {
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
            if let Some(function) = at.member("function_call") {
                call(None, &function, "arguments", at, &function, conversation)?;
            }
        }
        "tool" | "function" => {
            let answer = Answer::of(at.member("content"), None);
            conversation.join.answer(at.opt_text("tool_call_id")?, at.opt_text("name")?, answer, at.place());
        }
        "system" | "developer" => {}
        other => {
            return Err(at.unexpected("role", other, "system, developer, user, assistant, tool, function"));
        }
    }
    Ok(())
}

fn tool_call<'a>(at: &At<'a>, message: &At<'a>, conversation: &mut Conversation<'a>) -> Result<()> {
    let id = at.opt_text("id")?;
    match at.opt_text("type")?.unwrap_or("function") {
        "function" => call(id, &at.required("function")?, "arguments", message, at, conversation),
        "custom" => call(id, &at.required("custom")?, "input", message, at, conversation),
        other => Err(at.unexpected("type", other, "function, custom")),
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
    let tool = function.named("name")?;
    let mut call = conversation.start(tool, message)?;
    answer::arguments(&mut call, function.member(arguments));
    conversation.join.call(id, tool, call, at.place());
    Ok(())
}

/// Read as the wrong format, a file of calls would look like one without any.
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

//! What a tool was given and what it said, from the ways in which transcripts write it down.

use super::file::At;
use crate::entry::{CallError, CallResult, text_fails};
use crate::json::{Json, Path};
use crate::{Outcome, ToolCall};

/// What a tool said.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) result: Option<CallResult>,
    /// Where it does not follow from the result.
    pub(super) outcome: Option<Outcome>,
    /// Paths inside the entry (`result.amount`).
    pub(super) restated: Vec<String>,
}

impl Answer {
    /// What the content of a message or block says. `failed` is what the transcript says of it expressly, if anything.
    pub(super) fn of(content: Option<At<'_>>, failed: Option<bool>) -> Answer {
        let Some(content) = content else { return Answer::value((Json::Null, Vec::new()), failed) };
        match text(content.value) {
            Some(text) => Answer::text(text, failed),
            None => Answer::value(content.keep("result"), failed),
        }
    }

    pub(super) fn text(text: String, failed: Option<bool>) -> Answer {
        if text.trim_start().starts_with(['{', '['])
            && let Some(kept) = parsed(&text, "result")
        {
            return Answer::value(kept, failed);
        }
        let result = match failed.unwrap_or_else(|| text_fails(&text)) {
            true => CallResult::Error(CallError { kind: None, message: text }),
            false => CallResult::Value(Json::String(text)),
        };
        Answer { result: Some(result), ..Answer::default() }
    }

    /// A failure stays a value where it has members: under their names secrets are found, inside a message they are not.
    pub(super) fn value((value, restated): (Json, Vec<String>), failed: Option<bool>) -> Answer {
        let outcome = (failed == Some(true)).then_some(Outcome::ToolError);
        Answer { result: Some(CallResult::Value(value)), outcome, restated }
    }

    pub(super) fn error(kind: Option<String>, message: String) -> Answer {
        Answer { result: Some(CallResult::Error(CallError { kind, message })), ..Answer::default() }
    }

    pub(super) fn put_into(self, call: &mut ToolCall) {
        call.result = self.result;
        call.outcome = self.outcome;
        call.restated.extend(self.restated);
    }
}

/// Puts `given` into the call: a string that reads as JSON is what it says.
pub(super) fn arguments(call: &mut ToolCall, given: Option<At<'_>>) {
    let Some(given) = given else { return };
    let kept = given.value.as_str().and_then(|text| parsed(text, "arguments"));
    let (value, restated) = kept.unwrap_or_else(|| given.keep("arguments"));
    call.arguments = Some(value);
    call.restated.extend(restated);
}

/// What `text` says, if it is JSON that can be kept; what was restated in it as paths inside `root`.
pub(super) fn parsed(text: &str, root: &str) -> Option<(Json, Vec<String>)> {
    let parsed = Json::parse(text.as_bytes()).ok()?;
    let root = Path::root().key(root);
    let restated = parsed.restated.iter().map(|p| p.inside(&root).to_string()).collect();
    Some((parsed.value, restated))
}

/// The text of a string, or of a list that holds text parts and nothing else.
pub(super) fn text(content: &Json) -> Option<String> {
    match content {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) if !parts.is_empty() => {
            let part = |part: &Json| match part.get("type")?.as_str()? {
                "text" => part.get("text")?.as_str().map(str::to_owned),
                _ => None,
            };
            Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}

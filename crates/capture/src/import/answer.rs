//! What a tool was given and what it said, from the ways in which transcripts write it down.

use super::detect;
use super::file::{At, TIMES};
use super::join::Join;
use super::speaks;
use attestlog::failure::{is_called, said, text_fails};
use attestlog::json::{Json, Limits, Path};
use attestlog::{CallError, CallResult};
use attestlog::{Outcome, ToolCall};

/// What a tool said.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) result: Option<CallResult>,
    /// Where it does not follow from the result.
    pub(super) outcome: Option<Outcome>,
    /// Paths inside the entry (`result.amount`).
    pub(super) restated: Vec<String>,
    /// What stands beside it of how the call failed, where the answer has no room for it.
    pub(super) beside: Vec<(&'static str, String)>,
}

impl Answer {
    /// What a message or block says, with what stands around its content.
    pub(super) fn of_block(block: &At<'_>) -> Answer {
        let around = said(block.value);
        let failed = around.failed;
        let content = block.member("content").filter(|c| !(failed == Some(true) && detect::is_zero(c.value)));
        let mut answer = Answer::of(content, failed);
        if let Some(error) = around.error {
            answer.because(error);
        }
        answer
    }

    /// What the content of a message or block says. `failed` is what the transcript says of it expressly, if anything.
    fn of(content: Option<At<'_>>, failed: Option<bool>) -> Answer {
        let Some(content) = content else { return Answer::value((Json::Null, Vec::new()), failed) };
        match text(content.value) {
            Some(text) => Answer::text(text, failed).restating(&content.restated("result")),
            None => Answer::value(content.keep("result"), failed),
        }
    }

    pub(super) fn text(text: String, failed: Option<bool>) -> Answer {
        if text.trim_start().starts_with(['{', '['])
            && let Some(kept) = parsed(&text, "result")
        {
            return Answer::value(kept, failed);
        }
        let reads_as_error = text_fails(&text);
        let result = match failed.unwrap_or(reads_as_error) {
            true => CallResult::Error(CallError { kind: None, message: text }),
            false => CallResult::Value(Json::String(text)),
        };
        // What the transcript says goes before what the text reads like.
        let outcome = (failed == Some(false) && reads_as_error).then_some(Outcome::Ok);
        Answer { result: Some(result), outcome, ..Answer::default() }
    }

    /// With these parts of its text restated, where it is a text.
    pub(super) fn restating(mut self, parts: &[String]) -> Answer {
        let whole = match self.result {
            Some(CallResult::Error(_)) => "error.message",
            _ => "result",
        };
        // Of a text that is put together from parts, and of one that was read as JSON, the whole is what was restated.
        if !parts.is_empty() && !self.restated.iter().any(|path| path == whole) {
            self.restated.push(whole.to_owned());
        }
        self
    }

    /// A failure stays a value where it has members: under their names secrets are found, inside a message they are not.
    pub(super) fn value((value, restated): (Json, Vec<String>), failed: Option<bool>) -> Answer {
        let outcome = (failed == Some(true)).then_some(Outcome::ToolError);
        Answer { result: Some(CallResult::Value(value)), outcome, restated, ..Answer::default() }
    }

    pub(super) fn error(kind: Option<String>, message: String) -> Answer {
        Answer { result: Some(CallResult::Error(CallError { kind, message })), ..Answer::default() }
    }

    /// With the error that stands beside it: its kind, and its message where the answer has none. What the answer has no room for
    /// goes into the session's metadata.
    pub(super) fn because(&mut self, error: CallError) {
        let is_said = |said: &str| said.contains(&error.message) || error.message == "true";
        match &mut self.result {
            Some(CallResult::Error(own)) => {
                if !is_said(&own.message) {
                    self.beside.push(("error_message", error.message));
                }
                own.kind = error.kind;
            }
            Some(CallResult::Value(value)) if *value != Json::Null => {
                if !is_said(value.to_canonical().as_str()) {
                    self.beside.push(("error_message", error.message));
                }
                self.beside.extend(error.kind.map(|kind| ("error_type", kind)));
            }
            _ => self.result = Some(CallResult::Error(error)),
        }
    }

    /// The call failed, as is said around the message or block that it stands in.
    pub(super) fn fail(&mut self, error: Option<CallError>) {
        self.outcome = Some(Outcome::ToolError);
        if let Some(CallResult::Value(Json::String(text))) = &mut self.result {
            self.result = Some(CallResult::Error(CallError { kind: None, message: std::mem::take(text) }));
            self.restated
                .iter_mut()
                .filter(|path| *path == "result")
                .for_each(|path| *path = "error.message".to_owned());
        }
        if let Some(error) = error {
            self.because(error);
        }
    }

    pub(super) fn put_into(self, call: &mut ToolCall) {
        call.result = self.result;
        call.outcome = self.outcome;
        call.restated.extend(self.restated);
        for (key, text) in self.beside {
            call.session_metadata.insert(key, text);
        }
    }
}

/// What stands in an answer beside its content, and is none of what is known to say something else: it may be the
/// answer, so it is named.
pub(super) fn beside<'a>(at: &At<'a>, join: &mut Join<'a>, format: &str) {
    const KNOWN: &[&str] = &[
        "role",
        "type",
        "content",
        "toolcallid",
        "toolcallids",
        "tooluseid",
        "callid",
        "id",
        "name",
        "toolname",
        "function",
        "error",
        "iserror",
        "status",
        "model",
        "agent",
        "requestor",
        "messagetype",
        "cachecontrol",
        "caller",
        "citations",
    ];
    // Whether it went well is not the answer, and has been read.
    let known = |key: &str, value: &Json| {
        // In another spelling it is no more than called so, and a function that is no name may be a call.
        if (is_called(key, "content") && key != "content") || (key == "function" && value.as_str().is_none()) {
            return false;
        }
        let flag = matches!(value, Json::Bool(_)) && ["success", "ok"].iter().any(|flag| is_called(key, flag));
        flag || KNOWN.iter().chain(TIMES).any(|known| is_called(key, known))
    };
    let Some(members) = at.value.as_object() else { return };
    let has_content = at.value.get("content").is_some_and(|content| !detect::is_zero(content));
    for (key, value) in members.iter().filter(|(key, value)| !known(key, value) && !detect::is_zero(value)) {
        // Beside an answer numbers and flags are what somebody counted of it.
        if has_content && matches!(value, Json::Bool(_) | Json::Number(_)) {
            continue;
        }
        if let Some(member) = at.member(key) {
            let why = format!("the member {:?} of an answer is nothing that {format} reads", super::clip(key));
            join.refuse(member.place(), &why);
        }
    }
}

/// Puts `given` into the call: a string that reads as JSON is what it says.
pub(super) fn arguments(call: &mut ToolCall, given: Option<At<'_>>) {
    let Some(given) = given else { return };
    let kept = given.value.as_str().and_then(|text| parsed(text, "arguments"));
    let (value, inside) = kept.unwrap_or_else(|| (given.value.clone(), Vec::new()));
    call.arguments = Some(value);
    call.restated.extend(given.restated("arguments").into_iter().chain(inside));
}

/// What `text` says, if it is JSON that can be kept; what was restated in it as paths inside `root`.
pub(super) fn parsed(text: &str, root: &str) -> Option<(Json, Vec<String>)> {
    // Some put a byte order mark before it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = Json::parse_lenient(text.as_bytes(), &Limits::default()).ok()?;
    let root = Path::root().key(root);
    let restated = parsed.restated.iter().map(|p| p.inside(&root).to_string()).collect();
    Some((parsed.value, restated))
}

/// Whether one of two values says what the other does: they are the same, or one has the other somewhere in it, as JSON in a text or
/// not. Dialects wrap what a tool was given and what it said.
pub(super) fn tell_the_same(one: &Json, other: &Json) -> bool {
    let (one, other) = (read(one), read(other));
    speaks::says_nothing(&one) || speaks::says_nothing(&other) || holds(&one, &other) || holds(&other, &one)
}

/// What a value says, where it is JSON in a text.
pub(super) fn read(value: &Json) -> Json {
    let parsed = value.as_str().and_then(|text| parsed(text, "")).map(|(value, _)| value);
    parsed.unwrap_or_else(|| value.clone())
}

fn holds(whole: &Json, part: &Json) -> bool {
    whole == part
        || match whole {
            Json::Array(items) => items.iter().any(|item| holds(item, part)),
            Json::Object(members) => members.iter().any(|(_, member)| holds(member, part)),
            Json::String(text) if text.starts_with(['{', '[', '"']) => {
                parsed(text, "").is_some_and(|(inner, _)| inner != *whole && holds(&inner, part))
            }
            _ => false,
        }
}

/// The text of a string, or of a list that holds text parts and nothing else.
pub(super) fn text(content: &Json) -> Option<String> {
    match content {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) if !parts.is_empty() => {
            // Bedrock's blocks have no type.
            let is_bare = |part: &Json| part.as_object().is_some_and(|members| members.len() == 1);
            let part = |part: &Json| match part.get("type").and_then(Json::as_str) {
                Some("text") => part.get("text")?.as_str().map(str::to_owned),
                None if is_bare(part) => part.get("text")?.as_str().map(str::to_owned),
                _ => None,
            };
            Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}

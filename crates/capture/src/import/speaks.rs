//! What the name of an unknown member says: a member of a call or an answer, or an attribute of a tool's span, that no
//! reader knows.
//!
//! Invariant R71: each reader has one list of the members (or attributes) that it knows, for each kind of object that
//! it reads. Any other member there that has a value is reported if its name refers to what the tool was given, what it
//! returned or how it ended. Names are compared word by word, whatever their separators and case.

use super::detect::{self, Plain};
use super::{Untaken, clip};
use attestlog::entry::failure::{is_set, status_fails};
use attestlog::json::Json;

/// Words for what a tool was given.
const GIVEN: &[&str] = &[
    "argument",
    "arguments",
    "args",
    "arg",
    "input",
    "inputs",
    "parameter",
    "parameters",
    "params",
    "param",
    "prompt",
];
/// Words for what the tool returned.
const SAID: &[&str] = &[
    "result",
    "results",
    "output",
    "outputs",
    "response",
    "responses",
    "answer",
    "answers",
    "reply",
    "return",
    "returned",
    "returns",
    "completion",
    "observation",
    "stdout",
    "stderr",
];
/// Words for how the call ended.
const ENDED: &[&str] =
    &["error", "errors", "errored", "exception", "exceptions", "fail", "failed", "fails", "failure", "status"];
/// Words that mark a name as a measure or a kind, not as the content itself.
const MEASURES: &[&str] = &[
    "token", "tokens", "count", "counts", "size", "bytes", "length", "mime", "mimetype", "schema", "type", "model",
    "format", "duration", "ms", "cost", "usage", "finish",
];
/// Names under which a call may be nested in another call.
const CALLS: &[&str] = &["action", "custom", "function", "name"];
/// Values of a status that mean no failure.
const FINE: &[&str] = &["ok", "unset", "success", "succeeded", "successful", "complete", "completed", "done"];

/// The words of a name in lower case: `toolCallArgs`, `tool_call.args` and `TOOL-CALL-ARGS` give the same three words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What a name refers to: a call's input, an answer, or neither.
pub(super) fn of(name: &str) -> Option<Untaken> {
    let words = words(name);
    // Some writers run words together: `iserror`, `toolresult`.
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let ends = |list: &[&str]| words.iter().any(|word| list.iter().any(|end| end.len() > 3 && word.ends_with(end)));
    let names_one = words.last().is_some_and(|last| matches!(last.as_str(), "id" | "ids"));
    if ends(ENDED) || has(ENDED) || words.iter().any(|word| word.starts_with("error")) {
        return Some(Untaken::Answer);
    }
    if names_one || has(MEASURES) {
        return None;
    }
    if has(SAID) || ends(SAID) || words == ["content"] {
        return Some(Untaken::Answer);
    }
    (has(GIVEN) || ends(GIVEN)).then_some(Untaken::Call)
}

/// What an unknown member of a call, or an unknown attribute of a tool's span, refers to, if anything.
pub(super) fn unread(name: &str, value: &Json) -> Option<Untaken> {
    if says_nothing(value) {
        return None;
    }
    let told = of(name)?;
    let words = words(name);
    let ended = words.iter().any(|word| ENDED.iter().any(|end| word.ends_with(end)));
    let is_status = words.iter().any(|word| word.ends_with("status"));
    match value {
        // A flag is not an answer, but it may say how the call ended.
        Json::Bool(_) if !ended => None,
        Json::Bool(_) | Json::Number(_) if ended && !is_set(value) => None,
        Json::String(text) if ended && (!is_set(value) || (is_status && is_fine(text))) => None,
        _ => Some(told),
    }
}

/// Like `unread`, for a member of a call's own object, where another call may be nested.
pub(super) fn unread_in_call(name: &str, value: &Json) -> Option<Untaken> {
    let plain = Plain::of(name);
    let is_call = CALLS.contains(&plain.as_str()) && !says_nothing(value) && !matches!(value, Json::Bool(_));
    if is_call { Some(Untaken::Call) } else { unread(name, value) }
}

/// Whether a status means success.
pub(super) fn is_fine(status: &str) -> bool {
    let status = status.trim();
    status_fails(status) == Some(false) || FINE.iter().any(|fine| status.eq_ignore_ascii_case(fine))
}

/// Whether a value is empty, or is a text that holds an empty JSON value.
pub(super) fn says_nothing(value: &Json) -> bool {
    let empty = |text: &str| matches!(text.trim(), "" | "{}" | "[]" | "null" | "\"\"");
    detect::is_zero(value) || value.as_str().is_some_and(empty)
}

/// The reason reported for an unknown member of an object that `format` read.
pub(super) fn why(what: &str, name: &str, of: &str, format: super::Format) -> String {
    format!("the {what} {:?} of {of} is nothing that {format} reads", clip(name))
}

//! What counts as a tool's failure: one rule for hosts, the proxy and imported files.

pub use super::shown::says_only_that_it_failed;
use super::viewed::record;
use crate::json::{Json, Object};
use attestlog_proof::entry::CallError;

/// Whether the value of an `error` member means no error: writers of fixed shapes put an empty value there.
pub fn is_no_error(error: &Json) -> bool {
    match error {
        Json::Null | Json::Bool(false) => true,
        Json::Bool(true) => false,
        Json::Number(n) => n.as_f64() == 0.0,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
    }
}

/// The error in the value of an `error` member, if there is one.
pub fn error_of(error: &Json) -> Option<CallError> {
    if is_no_error(error) {
        return None;
    }
    let kind = error.get("type").or(error.get("code")).map(text);
    let message = error.get("message").map_or_else(|| text(error), text);
    Some(CallError { kind, message })
}

/// What a message, a block or a result says about how the call ended.
#[derive(Debug, Default)]
pub struct Said {
    /// The error in its `error` member.
    pub error: Option<CallError>,
    /// Whether the call failed, if it says so explicitly. If members disagree, the call failed.
    pub failed: Option<bool>,
}

/// What the message or block around an answer says about it. Its author describes the call, so there the status
/// `failed`, or a `success` or `ok` that is false, means failure; inside an answer these may be the answer itself.
pub fn said(around: &Json) -> Said {
    let mut said = reports(around);
    for (name, value) in around.as_object().into_iter().flat_map(Object::iter) {
        let failed = match value {
            Json::String(status) if is_called(name, "status") => status_fails(status),
            Json::Bool(done) if is_called(name, "success") || is_called(name, "ok") => Some(!done),
            _ => None,
        };
        said.add(failed);
    }
    said
}

/// The error that a tool's result reports, directly or in the record inside it: a non-empty `error` member, an
/// `isError` (`is_error`) that is true or that lenient readers take for true, or the `status` `error`. Names are
/// compared without case and separators.
pub fn failure(result: &Json) -> Option<CallError> {
    // Errors mentioned in a resource are content that was read.
    let inside = || record(result).filter(|_| result.get("contents").is_none());
    reported(result).or_else(|| reported(&inside()?.value))
}

fn reported(result: &Json) -> Option<CallError> {
    let said = reports(result);
    if said.error.is_some() || said.failed != Some(true) {
        return said.error;
    }
    let flagged = result.as_object().into_iter().flat_map(Object::iter).any(|(name, _)| is_called(name, "iserror"));
    let message = if flagged {
        let parts = result.get("content").and_then(Json::as_array).unwrap_or_default();
        let texts: Vec<&str> = parts.iter().filter_map(|p| p.get("text")?.as_str()).collect();
        texts.join("\n")
    } else {
        let message = result.get("message").or_else(|| result.get("content"));
        message.map_or_else(|| "status: error".to_owned(), text)
    };
    Some(CallError { kind: None, message })
}

/// The error that a result reads like, if nothing says how the call ended: a text that is the whole answer, and begins
/// with the word `Error`. It may be the answer all the same.
pub fn reads_as_failure(result: &Json) -> Option<CallError> {
    let message = match result {
        Json::String(text) => Some(text.clone()).filter(|text| text_fails(text)),
        result if says_failed(result).is_none() => error_text(result),
        _ => None,
    };
    message.map(|message| CallError { kind: None, message })
}

/// The text of a Model Context Protocol result that consists of text only and reads like an error.
pub fn error_text(result: &Json) -> Option<String> {
    let parts = result.get("content")?.as_array().filter(|parts| !parts.is_empty())?;
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text")?.as_str()).collect();
    let texts = texts.filter(|texts| texts.first().is_some_and(|first| text_fails(first)))?;
    result.get("structuredContent").is_none_or(|none| *none == Json::Null).then(|| texts.join("\n"))
}

/// Whether a result explicitly says that the call failed (true) or succeeded (false).
pub fn says_failed(result: &Json) -> Option<bool> {
    reports(result).failed
}

/// The rules that apply both to a result and to the message around it.
fn reports(holder: &Json) -> Said {
    let mut said = Said::default();
    for (name, value) in holder.as_object().into_iter().flat_map(Object::iter) {
        if is_called(name, "error") {
            said.error = said.error.or_else(|| error_of(value));
            said.add(said.error.is_some().then_some(true));
            said.add((*value == Json::Bool(false)).then_some(false));
        } else if is_called(name, "iserror") {
            said.add((*value != Json::Null).then(|| is_set(value)));
        } else if is_called(name, "status") {
            said.add(value.as_str().filter(|status| status.trim().eq_ignore_ascii_case("error")).map(|_| true));
        }
    }
    said
}

impl Said {
    fn add(&mut self, failed: Option<bool>) {
        self.failed = match (self.failed, failed) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (before, says) => says.or(before),
        };
    }
}

/// Whether a call's status means failure (true) or success (false), if either.
pub fn status_fails(status: &str) -> Option<bool> {
    match status.trim().to_ascii_lowercase().as_str() {
        "error" | "failed" | "failure" => Some(true),
        "success" => Some(false),
        _ => None,
    }
}

/// Whether any reader takes a flag as set: lenient ones take `1`, `"true"` and `"True"` for true, and most take any
/// non-empty value.
pub fn is_set(flag: &Json) -> bool {
    let says_no = |text: &str| {
        ["", "false", "0", "no", "off", "null", "none"].iter().any(|no| text.trim().eq_ignore_ascii_case(no))
    };
    match flag {
        Json::String(text) => !says_no(text),
        other => !is_no_error(other),
    }
}

/// Whether `name` equals `plain` when case and separators are ignored.
pub fn is_called(name: &str, plain: &str) -> bool {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase()).eq(plain.bytes())
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_canonical().to_string(), str::to_owned)
}

/// Whether a text that is a tool's whole answer is an error if nothing else says how the call ended: its first word is
/// `Error`, `error` or `ERROR`. Followed by a letter, a digit, `_` or a hyphen, it is another word.
pub fn text_fails(text: &str) -> bool {
    let text = text.trim_start();
    let rest = ["Error", "error", "ERROR"].iter().find_map(|word| text.strip_prefix(word));
    let goes_on = |next: char| next.is_alphanumeric() || matches!(next, '_' | '-' | '\u{2010}' | '\u{2011}');
    rest.is_some_and(|rest| !rest.starts_with(goes_on))
}

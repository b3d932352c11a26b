//! What counts as a failure of a tool's: one rule for what a host records, what a proxy sees and what a file says.

use super::CallError;
use crate::json::Json;

/// Whether the value of an `error` member says that there was none: writers of fixed shapes put an empty one there.
pub(crate) fn is_no_error(error: &Json) -> bool {
    match error {
        Json::Null | Json::Bool(false) => true,
        Json::Bool(true) => false,
        Json::Number(n) => n.as_f64() == 0.0,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
    }
}

/// What an `error` member says, if it says that something failed.
pub(crate) fn error_of(error: &Json) -> Option<CallError> {
    if is_no_error(error) {
        return None;
    }
    let kind = error.get("type").or(error.get("code")).map(text);
    let message = error.get("message").map_or_else(|| text(error), text);
    Some(CallError { kind, message })
}

/// The error that a tool's result reports: an `error` member that is not empty, `isError`
/// (`is_error`) that is true, or the `status` `error`.
pub(crate) fn failure(result: &Json) -> Option<CallError> {
    if let Some(error) = result.get("error").and_then(error_of) {
        return Some(error);
    }
    if ["isError", "is_error"].iter().any(|flag| result.get(flag).and_then(Json::as_bool) == Some(true)) {
        let parts = result.get("content").and_then(Json::as_array).unwrap_or_default();
        let texts: Vec<&str> = parts.iter().filter_map(|p| p.get("text")?.as_str()).collect();
        return Some(CallError { kind: None, message: texts.join("\n") });
    }
    if result.get("status").and_then(Json::as_str) == Some("error") {
        let message = result.get("message").or_else(|| result.get("content"));
        return Some(CallError { kind: None, message: message.map_or_else(|| "status: error".to_owned(), text) });
    }
    None
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_canonical().to_string(), str::to_owned)
}

/// Whether a text that a tool gave as its whole answer, and of which nothing else says how the call ended, is an error.
pub(crate) fn text_fails(text: &str) -> bool {
    text.starts_with("Error")
}

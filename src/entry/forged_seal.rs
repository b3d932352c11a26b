//! Callers' values that look like sealed values.
//!
//! Invariant: whatever has the form of a sealed value in a line was sealed by the store. A caller's object of that form
//! would be taken for one: its key would be missing, and verification would forever report a key that was removed
//! without a record; and a caller who chose the commitment in it could later prove that any value was sealed there. So
//! its `sealed` member is replaced by the text of its JSON, and `restated` lists it.

use super::input::{CallResult, ToolCall};
use crate::json::{Json, Path};
use crate::redact::sealed_subject;

impl ToolCall {
    /// Replaces values that look like sealed ones.
    pub(crate) fn replace_forged_seals(&mut self) {
        let mut found = Vec::new();
        let result = match &mut self.result {
            Some(CallResult::Value(value)) => Some(value),
            _ => None,
        };
        for (name, part) in [("arguments", self.arguments.as_mut()), ("result", result)] {
            if let Some(value) = part.filter(|value| poses(value)) {
                restate(value, &mut Path::root().key(name), &mut found);
            }
        }
        if self.session_metadata.iter().any(|(name, value)| name == "sealed" || poses(value)) {
            let mut whole = Json::Object(std::mem::take(&mut self.session_metadata));
            restate(&mut whole, &mut Path::root().key("session_metadata"), &mut found);
            if let Json::Object(members) = whole {
                self.session_metadata = members;
            }
        }
        self.restated.extend(found);
    }
}

/// Whether the value or a part of it looks sealed. Its nesting is bounded by the parser's limit.
fn poses(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(poses),
        Json::Object(members) => sealed_subject(value).is_some() || members.iter().any(|(_, member)| poses(member)),
        _ => false,
    }
}

fn restate(value: &mut Json, at: &mut Path, found: &mut Vec<String>) {
    let posed = sealed_subject(value).is_some();
    match value {
        Json::Object(members) if posed => {
            if let Some(sealed) = members.get_mut("sealed") {
                *sealed = sealed.to_canonical().to_string().into();
                found.push(at.key("sealed").to_string());
            }
        }
        Json::Object(members) => members.iter_mut().for_each(|(key, member)| {
            at.push_key(key);
            restate(member, at, found);
            at.pop();
        }),
        Json::Array(items) => items.iter_mut().enumerate().for_each(|(i, item)| {
            at.push_index(i);
            restate(item, at, found);
            at.pop();
        }),
        _ => {}
    }
}

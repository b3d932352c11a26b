//! What cannot be kept in a text, in what a host says of a call.
//!
//! Invariant: a tool's answer is recorded whatever bytes are in it. Of a text with NUL the entry holds the text with
//! U+2400 in its place, and `restated` names it. Names and ids are not changed: with NUL in one a call is refused.

use super::input::{CallResult, ToolCall};
use crate::json::{Json, Path};

impl ToolCall {
    /// Whether its arguments are a text that is nearly JSON: an object with a member twice, a comma too many, no end. They are
    /// recorded as the text that they are, `restated` names them, and who is named in them is found by what can be understood.
    pub fn has_nearly_json(&self) -> bool {
        self.arguments.as_ref().and_then(Json::as_str).is_some_and(crate::redact::is_nearly_json)
    }

    /// Restates texts that hold NUL.
    pub fn restate_nul(&mut self) {
        let mut shown = Vec::new();
        if let Some(arguments) = &mut self.arguments {
            arguments.show_nul(&mut Path::root().key("arguments"), &mut shown);
        }
        match &mut self.result {
            Some(CallResult::Value(value)) => value.show_nul(&mut Path::root().key("result"), &mut shown),
            Some(CallResult::Error(error)) => {
                for (name, text) in [("type", error.kind.as_mut()), ("message", Some(&mut error.message))] {
                    let Some(text) = text.filter(|text| text.contains('\0')) else { continue };
                    let mut value = Json::from(std::mem::take(text));
                    value.show_nul(&mut Path::root().key("error").key(name), &mut shown);
                    *text = value.as_str().unwrap_or_default().to_owned();
                }
            }
            None => {}
        }
        if !self.session_metadata.is_empty() {
            let mut whole = Json::Object(std::mem::take(&mut self.session_metadata));
            whole.show_nul(&mut Path::root().key("session_metadata"), &mut shown);
            if let Json::Object(members) = whole {
                self.session_metadata = members;
            }
        }
        self.restated.extend(shown.iter().map(Path::to_string));
    }
}

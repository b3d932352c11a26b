//! Texts and arguments of a call that cannot be kept as given.
//!
//! Invariant: a tool's answer is recorded whatever bytes are in it. A text with NUL is kept with U+2400 in its place,
//! and `restated` lists its path. Names and ids are not changed: a call with NUL in one of them is refused.

use super::input::{CallResult, ToolCall};
use crate::json::{Json, Path};

impl ToolCall {
    /// Whether its arguments are a text of malformed JSON: an object with a duplicate member, a superfluous comma, or
    /// no end. They are recorded as that text, `restated` lists them, and the patients named in them are found in the
    /// parts that can be parsed.
    pub fn has_nearly_json(&self) -> bool {
        self.arguments.as_ref().and_then(Json::as_str).is_some_and(crate::redact::is_nearly_json)
    }

    /// Replaces NUL in texts, and adds their paths to `restated`.
    pub fn replace_nul(&mut self) {
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

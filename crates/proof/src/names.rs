//! The terms that entries are found by: clear names, and the pseudonyms that stand for them.

use crate::entry::{Facet, Kind};
use crate::json::Json;
use crate::spelling::normal;
use std::borrow::Cow;

/// The prefix of every pseudonym; the id of its key follows.
pub const PREFIX: &str = "ps_";

/// Whether `text` has the form of a pseudonym.
pub fn is_pseudonym(text: &str) -> bool {
    let hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix(PREFIX).and_then(|t| t.split_once('_')).is_some_and(|(id, tag)| hex(id, 8) && hex(tag, 32))
}

/// The id of the key that a pseudonym was made with.
pub fn key_of(pseudonym: &str) -> Option<&str> {
    pseudonym.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id)
}

/// The domain of a facet's pseudonyms; `None` for a facet whose values are not chosen freely, such as outcomes.
pub fn domain(field: Facet) -> Option<&'static str> {
    match field {
        Facet::Conversation
        | Facet::User
        | Facet::Tool
        | Facet::Patient
        | Facet::Model
        | Facet::Purpose
        | Facet::Agent
        | Facet::Server
        | Facet::Resource
        | Facet::Trace
        | Facet::Peer => Some(field.as_str()),
        Facet::Outcome | Facet::Trigger | Facet::Emergency | Facet::Kind | Facet::Class => None,
    }
}

/// The form in which a value of a facet is recorded and searched for.
pub fn normal_of(field: Facet, value: &str) -> Cow<'_, str> {
    let value = normal(value);
    match field {
        Facet::Trace => match lower_hex(&value) {
            Some(lower) => Cow::Owned(lower),
            None => value,
        },
        _ => value,
    }
}

/// The id of a trace or span of OpenTelemetry, 32 or 16 hexadecimal digits, in lower case, if it is not written so.
pub fn lower_hex(id: &str) -> Option<String> {
    let is_id = matches!(id.len(), 16 | 32) && id.bytes().all(|b| b.is_ascii_hexdigit());
    (is_id && id.bytes().any(|b| b.is_ascii_uppercase())).then(|| id.to_ascii_lowercase())
}

/// The event of a `key` entry that puts a pseudonym key into use.
pub const PSEUDONYM_KEY_EVENT: &str = "pseudonym_key_rotated";

/// The id of the pseudonym key that an entry with this detail puts into use.
pub fn pseudonym_key(kind: Kind, detail: &Json) -> Option<String> {
    let text = |key: &str| detail.get(key).and_then(Json::as_str);
    match kind {
        Kind::Genesis => text("pseudonym_key"),
        Kind::Key if text("event") == Some(PSEUDONYM_KEY_EVENT) => text("key_id"),
        _ => None,
    }
    .map(str::to_owned)
}

//! What a request holds besides the arguments: members that servers may read anyway.
//!
//! Invariant R56: whatever a server may read in a recorded request is in the entry: members of `params` that are not
//! part of the protocol, members of the surrounding message, and members of `_meta`.

use super::asking::{Around, trace_of};
use super::{Observer, ToolCall};
use crate::mcp::strict::{ENVELOPE, places_alike};
use crate::shorten::shortened;
use attestlog::json::{Json, Object, Path};
use attestlog::redact::normal;
use std::collections::BTreeSet;

/// The members of a tool call's `params` that have their own place in the entry.
const OWN: &[&str] = &["name", "arguments", "_meta", "requestState", "inputResponses"];
/// The members of `_meta` that have their own place in the entry as texts, or that every request repeats.
const META: &[&str] = &[
    "attestlog/user",
    "user_id",
    "userId",
    "enduser.id",
    "attestlog/conversation",
    "conversation_id",
    "conversationId",
    "gen_ai.conversation.id",
    "io.modelcontextprotocol/protocolVersion",
];
const SAID_BY_ALL: &[&str] = &["io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/clientCapabilities"];
/// How many levels deep patients are looked for.
pub(super) const DEEPEST: usize = 4;
/// The notes that hold these members.
pub(super) const NOTES: [&str; 3] = ["beside_arguments", "beside_params", "meta"];

/// What a request holds besides the arguments.
#[derive(Default)]
pub(super) struct Beside {
    /// The members, under the names in [`NOTES`].
    notes: Object,
    shortened: Vec<Json>,
    ambiguous: Vec<String>,
    lossy_numbers: Vec<String>,
    patients: Vec<String>,
}

impl Observer {
    /// What a request recorded under the name `tool` holds besides the arguments. `own`: the members of `params` that
    /// are recorded elsewhere (`None`: all).
    pub(super) fn beside(&self, tool: &str, around: &Around<'_>, own: Option<&[&str]>) -> Beside {
        let nothing = Object::new();
        let members = |value: Option<&'_ Json>, left_out: &dyn Fn(&str, &Json) -> bool| -> Object {
            let all = value.and_then(Json::as_object).unwrap_or(&nothing).iter();
            all.filter(|(name, value)| !left_out(name, value)).map(|(name, v)| (name.to_owned(), v.clone())).collect()
        };
        let params = around.message.get("params");
        let own = own.map(|own| own.to_vec());
        let parts = [
            members(params, &|name, _| own.as_ref().is_none_or(|own| own.contains(&name))),
            members(Some(around.message), &|name, _| ["jsonrpc", "id", "method", "params"].contains(&name)),
            members(params.and_then(|params| params.get("_meta")), &is_said),
        ];
        let mut beside = Beside::default();
        for (note, part) in NOTES.into_iter().zip(parts).filter(|(_, part)| !part.is_empty()) {
            let path = Path::root().key("session_metadata").key("mcp").key(note);
            let part = Json::from(part);
            beside.patients.extend(self.patients_within(tool, &part, DEEPEST));
            beside.ambiguous.extend(places_alike(&part, path));
            let (kept, marks) = shortened(&part, note).unwrap_or((part, Vec::new()));
            beside.shortened.extend(marks);
            beside.notes.insert(note, kept);
        }
        if !beside.notes.is_empty() {
            let named = |path: &String| named(path.as_str(), &beside.notes);
            beside.ambiguous.extend(around.all_repeats().iter().filter_map(named).take(20));
            beside.lossy_numbers.extend(around.all_digits().iter().filter_map(named));
        }
        beside
    }

    /// The patients named by a value that is not arguments: they may be anywhere in it.
    pub(super) fn patients_within(&self, tool: &str, value: &Json, depth: usize) -> Vec<String> {
        let (mut found, _) = self.settings.patients.find_all(tool, Some(value), None);
        self.patients_below(tool, value, depth, &mut found);
        found.into_iter().collect()
    }

    /// Those at the paths, wherever in the value these begin.
    fn patients_below(&self, tool: &str, value: &Json, depth: usize, found: &mut BTreeSet<String>) {
        let inside = value.as_object().into_iter().flat_map(Object::iter).map(|(_, value)| value);
        for value in inside.chain(value.as_array().unwrap_or_default()).filter(|_| depth > 0) {
            found.extend(self.settings.patients.find_at_paths(tool, Some(value), None));
            self.patients_below(tool, value, depth - 1, found);
        }
    }

    /// Like `beside`, for a tool call.
    pub(super) fn beside_tool(&self, tool: &str, around: &Around<'_>) -> Beside {
        self.beside(tool, around, Some(OWN))
    }
}

impl Beside {
    pub(super) fn put_into(self, mut call: ToolCall) -> ToolCall {
        if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
            self.notes.iter().for_each(|(name, value)| drop(mcp.insert(name, value.clone())));
            let ambiguous = self.ambiguous.into_iter().map(Json::from).collect();
            for (note, more) in [("shortened", self.shortened), ("ambiguous_members", ambiguous)] {
                let mut all: Vec<Json> = mcp.get(note).and_then(Json::as_array).unwrap_or_default().to_vec();
                all.extend(more);
                if !all.is_empty() {
                    mcp.insert(note, all);
                }
            }
        }
        call.restated.extend(self.lossy_numbers);
        self.patients.into_iter().fold(call, ToolCall::patient)
    }
}

/// Whether a value can name a user.
pub(super) fn is_name(value: &Json) -> bool {
    match value {
        Json::String(text) => !normal(text).is_empty(),
        other => matches!(other, Json::Number(_)),
    }
}

/// Whether a member of `_meta` is recorded elsewhere.
fn is_said(name: &str, value: &Json) -> bool {
    match name {
        "progressToken" => matches!(value, Json::String(_) | Json::Number(_)),
        "traceparent" => value.as_str().is_some_and(|text| trace_of(text).is_some()),
        _ => SAID_BY_ALL.contains(&name) || META.contains(&name) && is_name(value),
    }
}

/// The place in the entry that corresponds to a place in a message, if it is in one of these notes.
fn named(place: &str, notes: &Object) -> Option<String> {
    let first = |path: &str| path.split(['.', '[']).next().unwrap_or_default().to_owned();
    let (note, rest) = match place.strip_prefix("params.") {
        Some(rest) if first(rest) == "_meta" => ("meta", rest.strip_prefix("_meta.")?),
        Some(rest) => ("beside_arguments", rest),
        None if ENVELOPE.contains(&first(place).as_str()) => return None,
        None => ("beside_params", place),
    };
    notes.get(note)?.get(&first(rest))?;
    Some(format!("session_metadata.mcp.{note}.{rest}"))
}

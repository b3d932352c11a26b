//! Calls that a model's span asks for.
//!
//! In most traces each call also has a span of its own, which is what gets imported. If a call has none, the model's
//! span is the only trace of it, so the call is reported. Calls with ids are matched one by one; calls without ids by
//! trace: what one trace of a file holds says nothing about another.

use super::attributes::any_value;
use super::detect;
use super::file::At;
use super::{NotTaken, Untaken, answer, clip};
use attestlog::json::{Json, Path};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The calls that have spans of their own.
#[derive(Default)]
pub(super) struct Executed<'a> {
    ids: HashSet<String>,
    /// For each trace, the number of such spans without a call id.
    traces: HashMap<&'a str, usize>,
    /// For each trace and tool, the number of its spans.
    tools: HashMap<(&'a str, String), usize>,
}

impl<'a> Executed<'a> {
    pub(super) fn add(&mut self, trace: &'a str, id: Option<String>, tool: String) {
        *self.tools.entry((trace, tool)).or_default() += 1;
        let without = self.traces.entry(trace).or_default();
        *without += usize::from(id.is_none());
        self.ids.extend(id);
    }
}

/// The calls that a span asks for.
#[derive(Default)]
struct Asked {
    /// Their ids, with the attribute that names each.
    ids: BTreeMap<String, String>,
    /// The same for calls in the history that the model was given: other spans asked for them, if those are in the
    /// file.
    history: BTreeMap<String, String>,
    /// An attribute that mentions calls without ids.
    bare: Option<String>,
    /// The calls without ids that name their tool: the attribute, the tool and the call.
    nameless: Vec<(String, String, String)>,
}

/// A call that an attribute mentions.
struct Mentioned {
    id: Option<String>,
    /// Its tool, and the tool with its input.
    tool: Option<(String, String)>,
}

/// Reports the calls that `spans`, which are not tools' spans, ask for and that have no span of their own. Each span
/// comes with its trace id.
pub(super) fn without_span(spans: &[(&str, &At<'_>)], executed: &Executed<'_>) -> Vec<NotTaken> {
    let asked: Vec<Asked> = spans.iter().map(|(_, span)| asked(span)).collect();
    let first: HashSet<&String> = asked.iter().flat_map(|asked| asked.ids.keys()).collect();
    let (mut named, mut spare) = (HashSet::new(), executed.traces.clone());
    let (mut told_of, mut left) = (HashSet::new(), executed.tools.clone());
    let mut not_taken = Vec::new();
    for ((trace, span), asked) in spans.iter().zip(&asked) {
        let has_tools = executed.traces.contains_key(trace);
        let told = asked.history.iter().filter(|(id, _)| !has_tools && !first.contains(id));
        let is_silent = asked.ids.is_empty() && asked.history.is_empty() && asked.bare.is_none();
        for (id, key) in asked.ids.iter().chain(told) {
            if executed.ids.contains(id) || !named.insert((*trace, id)) {
                continue;
            }
            // A span without a call id belongs to one of the calls; which one is unknown.
            if let Some(left @ 1..) = spare.get_mut(trace) {
                *left -= 1;
                continue;
            }
            let (key, id) = (clip(key), clip(id));
            let why = format!(
                "the attribute {key:?} of a model's span asks for the call {id:?}, and no span of a tool has it"
            );
            not_taken.push(NotTaken { place: span.place(), kind: Untaken::Call, call_id: Some(id), why });
        }
        if let (Some(key), false) = (&asked.bare, has_tools) {
            let key = clip(key);
            let why = format!(
                "the attribute {key:?} of a model's span asks for calls, and no span of a tool is in its trace"
            );
            not_taken.push(NotTaken { place: span.place(), kind: Untaken::Call, call_id: None, why });
        }
        for (key, tool, call) in asked.nameless.iter().filter(|_| has_tools) {
            // Several attributes and spans may mention one call.
            if !told_of.insert((*trace, call)) {
                continue;
            }
            if let Some(left @ 1..) = left.get_mut(&(*trace, tool.clone())) {
                *left -= 1;
                continue;
            }
            let (key, tool) = (clip(key), clip(tool));
            let why = format!(
                "the attribute {key:?} of a model's span asks for a call of {tool:?}, and no span of that tool is left for it"
            );
            not_taken.push(NotTaken { place: span.place(), kind: Untaken::Call, call_id: None, why });
        }
        // Spans and events judged here are not examined again.
        if !is_silent {
            span.take();
        } else if has_tools {
            events(span).filter(|event| name(event).starts_with("gen_ai.")).for_each(|event| event.take());
        }
    }
    not_taken
}

fn asked(span: &At<'_>) -> Asked {
    let mut asked = Asked::default();
    asked.attributes(span, false);
    for event in events(span) {
        // A choice is the model's; the other events repeat its input.
        let name = name(&event);
        asked.attributes(&event, name.starts_with("gen_ai.") && name != "gen_ai.choice");
    }
    asked
}

fn events<'a>(span: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    span.list("events").ok().into_iter().flatten()
}

fn name<'a>(event: &At<'a>) -> &'a str {
    event.value.get("name").and_then(Json::as_str).unwrap_or_default()
}

impl Asked {
    fn attributes(&mut self, holder: &At<'_>, is_told: bool) {
        let mut flat = None;
        for attribute in holder.list("attributes").ok().into_iter().flatten() {
            let Some(key) = attribute.value.get("key").and_then(Json::as_str) else { continue };
            let lower = key.to_ascii_lowercase();
            let is_told = is_told || ["input", "prompt", "request"].iter().any(|word| lower.contains(word));
            let Some(value) = attribute.member("value") else { continue };
            let value = any_value(&value, &Path::root(), &mut Vec::new()).unwrap_or(Json::Null);
            let parsed = value.as_str().filter(|text| text.trim_start().starts_with(['{', '[']));
            let parsed = parsed.and_then(|text| answer::parsed(text, "")).map(|(value, _)| value);
            let cut = parsed.is_none() && value.as_str().is_some_and(holds_calls);
            let value = parsed.unwrap_or(value);
            let mut found = Vec::new();
            if detect::names_calls(key) {
                each(&value, &mut found);
            } else if detect::leads_into_calls(key) {
                // One attribute for each member of a call: `tool_calls.0.id`.
                match value.as_str().filter(|_| key.ends_with(".id")) {
                    Some(id) => found.push(Mentioned { id: Some(id.to_owned()), tool: None }),
                    None => flat = Some((key.to_owned(), is_told)),
                }
            } else {
                search(&value, &mut found);
            }
            found.extend(cut.then_some(Mentioned { id: None, tool: None }));
            for Mentioned { id, tool } in found {
                if let (None, Some((tool, call)), false) = (&id, tool, is_told) {
                    self.nameless.push((key.to_owned(), tool, call));
                }
                match id {
                    Some(id) if is_told => _ = self.history.entry(id).or_insert_with(|| key.to_owned()),
                    Some(id) => _ = self.ids.entry(id).or_insert_with(|| key.to_owned()),
                    None => _ = self.bare.get_or_insert_with(|| key.to_owned()),
                }
            }
        }
        if let Some((key, is_told)) = flat
            && if is_told { self.history.is_empty() } else { self.ids.is_empty() }
        {
            self.bare.get_or_insert(key);
        }
    }
}

/// Whether a text that is not JSON, because it was cut off, holds calls.
fn holds_calls(text: &str) -> bool {
    let words = ["\"tool_call", "\"toolCall", "\"tool_use\"", "\"functionCall\"", "\"function_call\"", "\"toolUse\""];
    words.iter().any(|word| text.contains(word))
}

/// The ids of the calls in a member whose name says that it holds calls.
fn each(value: &Json, found: &mut Vec<Mentioned>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| each(item, found)),
        Json::Object(_) if !detect::is_zero(value) => found.push(mentioned(value)),
        _ => {}
    }
}

/// The ids of the calls anywhere in a value.
fn search(value: &Json, found: &mut Vec<Mentioned>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| search(item, found)),
        Json::Object(members) => {
            if value.get("type").and_then(Json::as_str).is_some_and(detect::is_call) {
                found.push(mentioned(value));
                return;
            }
            for (key, member) in members.iter() {
                match detect::names_calls(key) {
                    true => each(member, found),
                    false => search(member, found),
                }
            }
        }
        _ => {}
    }
}

fn mentioned(call: &Json) -> Mentioned {
    let holder = call.get("function").filter(|function| function.as_object().is_some()).unwrap_or(call);
    let text = |keys: &[&str]| keys.iter().find_map(|key| holder.get(key)?.as_str()).map(str::to_owned);
    let input = ["arguments", "args", "input"].iter().find_map(|key| holder.get(key)).map(answer::read);
    let input = input.unwrap_or(Json::Null).to_canonical().to_string();
    let tool = text(&["name", "toolName", "tool_name"]).map(|tool| (tool.clone(), format!("{tool} {input}")));
    Mentioned { id: id(call), tool }
}

fn id(call: &Json) -> Option<String> {
    let keys = ["id", "call_id", "callId", "toolCallId", "tool_call_id", "toolUseId", "tool_use_id"];
    match keys.iter().find_map(|key| call.get(key).filter(|id| !detect::is_zero(id)))? {
        Json::String(id) => Some(id.clone()),
        number @ Json::Number(_) => Some(number.to_canonical().as_str().to_owned()),
        _ => None,
    }
}

//! Events beside the items of a Codex rollout. They tell of the same calls as the items; a call of which only events tell is read if
//! they have all of it, else named, and so is an event that says something else than its item.

use super::answer::{self, tell_the_same};
use super::blocks;
use super::conversation::Conversation;
use super::file::{At, Moment};
use super::session::{Asked, Facts};
use attestlog::json::Json;
use std::collections::{HashMap, HashSet};

/// The events that tell of a call by its id.
const CALLS: &[&str] = &[
    "exec_command_begin",
    "exec_command_end",
    "exec_approval_request",
    "mcp_tool_call_begin",
    "mcp_tool_call_end",
    "patch_apply_begin",
    "patch_apply_end",
    "apply_patch_approval_request",
    "web_search_begin",
    "web_search_end",
    "view_image_tool_call",
];

/// What items and events told of calls.
#[derive(Default)]
pub(super) struct Events<'a> {
    /// The items of calls, by each of their ids.
    items: HashMap<String, At<'a>>,
    /// How many searches have an item without an id; their events have one.
    searches: usize,
    events: Vec<(String, At<'a>, Moment)>,
}

impl<'a> Events<'a> {
    pub(super) fn item(&mut self, item: &At<'a>) {
        let ids = ["call_id", "id"].iter().filter_map(|key| item.name(&[key]));
        let before = self.items.len();
        self.items.extend(ids.map(|id| (id, item.clone())));
        self.searches += usize::from(self.items.len() == before && item.is("type", "web_search_call"));
    }

    /// Keeps an event about a call. What a user runs in its own shell is no call.
    pub(super) fn event(&mut self, event: &At<'a>, moment: Moment) {
        let kind = event.str("type").unwrap_or_default();
        if !CALLS.contains(&kind) || event.is("source", "user_shell") {
            return;
        }
        if let Some(id) = event.name(&["call_id"]) {
            event.take();
            self.events.push((id, event.clone(), moment));
        }
    }

    /// Adds the calls that have no item, and names what cannot be read or says something else.
    pub(super) fn finish(mut self, facts: &Facts, session: &mut Conversation<'a>) {
        let is_end = |event: &At<'_>| event.is("type", "mcp_tool_call_end");
        let whole = self.events.iter().filter(|(_, event, _)| is_end(event));
        let whole: HashSet<String> = whole.map(|(id, ..)| id.clone()).collect();
        let mut told = HashSet::new();
        for (id, event, moment) in &self.events {
            if let Some(item) = self.items.get(id) {
                if differs(item, event) {
                    session.join.refuse_call(event, "tells of another input than the item of its call, which was read");
                }
                continue;
            }
            if (whole.contains(id) && !is_end(event)) || !told.insert(id.clone()) {
                continue;
            }
            let is_search = event.str("type").is_some_and(|kind| kind.starts_with("web_search"));
            if is_search && self.searches > 0 {
                self.searches -= 1;
                continue;
            }
            let facts = Facts { moment: *moment, ..facts.clone() };
            let invocation = event.member("invocation").filter(|_| is_end(event));
            match invocation.and_then(|of| Some((of.name(&["tool"])?, of))) {
                Some((tool, invocation)) => {
                    let mut asked = Asked::new(event, Some(id.clone()), tool, invocation.member("arguments"), &facts);
                    asked.server = invocation.name(&["server"]);
                    session.asked(asked);
                    let result = event.member("result").unwrap_or_else(|| event.clone());
                    let answer = blocks::answer_in(&result, &["Ok", "ok", "Err", "err"], result.value);
                    let answer = super::codex::ended(event, answer);
                    session.answered(event, Some(id.clone()), None, answer, Moment::default());
                }
                None => session.join.refuse_call(event, "only this event tells of the call, and not all of it"),
            }
        }
    }
}

/// Whether an event names another input than the item of its call.
fn differs(item: &At<'_>, event: &At<'_>) -> bool {
    let Some(given) = item.first(&["arguments", "input", "action"]).map(|at| answer::read(at.value)) else {
        return false;
    };
    if let Some(own) = event.member("invocation").and_then(|of| of.member("arguments")) {
        return !tell_the_same(&given, own.value);
    }
    let Some(command) = event.member("command").filter(|_| item.str("type") != Some("custom_tool_call")) else {
        return false;
    };
    let (mut own, mut texts) = (Vec::new(), Vec::new());
    leaves(command.value, &mut own);
    leaves(&given, &mut texts);
    let (run, asked) = (own.join(" "), texts.join(" "));
    // A shell may stand around the command, in either of them.
    let agrees = texts.iter().any(|text| run.contains(text)) || own.last().is_some_and(|last| asked.contains(last));
    !texts.is_empty() && !own.is_empty() && !agrees
}

/// The texts in a value that are not empty.
fn leaves<'v>(value: &'v Json, found: &mut Vec<&'v str>) {
    match value {
        Json::String(text) if !text.is_empty() => found.push(text),
        Json::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Json::Object(members) => members.iter().for_each(|(_, member)| leaves(member, found)),
        _ => {}
    }
}

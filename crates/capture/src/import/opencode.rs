//! Sessions of OpenCode: what `opencode export` writes, the parts in its storage, what `opencode run --format json` prints, and the
//! rows of its database, which the program turns into the form of an export.
//!
//! A call and its answer are one part, of the type `tool`. A part may occur several times, as it grows: the last counts.

use super::answer::Answer;
use super::blocks;
use super::conversation::Conversation;
use super::file::{At, Known, Read};
use super::session::{Asked, Facts, Sessions};
use super::{ImportOptions, Imported};
use crate::ended::{Signs, is_empty, words};
use attestlog::{Outcome, Result, Timestamp};
use std::collections::HashMap;

const PART: Known = &[
    "id",
    "sessionID",
    "messageID",
    "type",
    "tool",
    "callID",
    "state",
    "metadata",
    "time",
    "session_id",
    "message_id",
];
/// A tool's part, and what is known around it.
struct Part<'a> {
    at: At<'a>,
    session: Option<String>,
    facts: Facts,
    /// How many messages the user had sent.
    turn: u64,
}

#[derive(Default)]
struct Reader<'a> {
    parts: Vec<Part<'a>>,
    by_id: HashMap<String, usize>,
    /// The sessions that the file describes, with their parents.
    parents: HashMap<String, Option<String>>,
    turns: HashMap<String, u64>,
    /// What messages that stand on their own say, by their ids, and when the user sent messages, by session.
    messages: HashMap<String, Facts>,
    asked: HashMap<String, Vec<Timestamp>>,
}

pub(super) fn read(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut reader = Reader::default();
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.for_each(|at| reader.any(&at)),
            None => reader.any(&root),
        }
    }
    reader.asked.values_mut().for_each(|times| times.sort_unstable());
    let mut sessions = Sessions::new(options)?;
    let mut names: Vec<&String> = reader.parents.keys().collect();
    names.sort();
    for part in &reader.parts {
        let session = match &part.session {
            Some(name) => sessions.named(name),
            None => sessions.rest(),
        };
        session.hear(&part.at)?;
        let alone = part.at.name(&["messageID", "message_id"]).and_then(|id| reader.messages.get(&id));
        let mut facts = alone.map_or_else(|| part.facts.clone(), |of| part.facts.or(of));
        let asked = part.session.as_ref().and_then(|name| reader.asked.get(name));
        let before = || Some(asked?.partition_point(|asked| Some(*asked) <= facts.moment.time) as u64);
        session.turn = if part.turn > 0 { part.turn } else { before().unwrap_or_default() };
        if let Some(Some(parent)) = part.session.as_ref().and_then(|name| reader.parents.get(name)) {
            facts.parent_agent = Some(parent.clone());
            facts.agent.clone_from(&part.session);
        }
        tool(&part.at, &facts, session);
    }
    names.into_iter().for_each(|name| _ = sessions.named(name));
    if sessions.is_empty() {
        sessions.rest();
    }
    sessions.finish()
}

impl<'a> Reader<'a> {
    /// A session with its messages, a message with its parts, a part, or an event about one.
    fn any(&mut self, at: &At<'a>) {
        if let Some(info) = at.member("info").filter(|_| at.value.get("messages").is_some()) {
            self.session(&info);
            at.items("messages").for_each(|message| self.message(&message, info.name(&["id"])));
        } else if at.value.get("info").is_some() && at.value.get("parts").is_some() {
            self.message(at, None);
        } else if let Some(part) = at.member("part") {
            self.part(&part, at.name(&["sessionID"]), Facts::default());
            // The row around a part says what it is about, and nothing of the call.
            if part.is("type", "tool") {
                at.take();
            }
        } else if at.value.get("hook").is_some() && at.value.get("event").is_none() {
            // What a plugin saw; the parts in its events say the same.
            at.take();
        } else if let Some(properties) = at.member("event").unwrap_or_else(|| at.clone()).member("properties") {
            match (properties.member("part"), properties.member("info")) {
                (Some(part), _) => self.part(&part, None, Facts::default()),
                (None, Some(info)) if info.value.get("projectID").is_some() => self.session(&info),
                _ => {}
            }
        } else if at.value.get("callID").is_some() && at.value.get("state").is_some() {
            self.part(at, None, Facts::default());
        } else if at.value.get("role").is_some() && at.value.get("sessionID").is_some() {
            self.alone(at);
        } else if at.value.get("projectID").is_some() || at.value.get("directory").is_some() {
            self.session(at);
        }
    }

    fn session(&mut self, info: &At<'_>) {
        if let Some(id) = info.name(&["id"]) {
            self.parents.insert(id, info.name(&["parentID", "parent_id"]));
        }
    }

    fn message(&mut self, at: &At<'a>, session: Option<String>) {
        let info = at.member("info").unwrap_or_else(|| at.clone());
        let session = info.name(&["sessionID", "session_id"]).or(session);
        if info.is("role", "user") {
            *self.turns.entry(session.clone().unwrap_or_default()).or_default() += 1;
        }
        let facts = facts(&info);
        at.items("parts").for_each(|part| self.part(&part, session.clone(), facts.clone()));
    }

    /// A message in a file of its own, or in a row beside its parts.
    fn alone(&mut self, at: &At<'_>) {
        let facts = facts(at);
        if let (true, Some(session), Some(time)) = (at.is("role", "user"), at.name(&["sessionID"]), facts.moment.time) {
            self.asked.entry(session).or_default().push(time);
        }
        if let Some(id) = at.name(&["id"]) {
            self.messages.insert(id, facts);
        }
    }

    fn part(&mut self, at: &At<'a>, session: Option<String>, facts: Facts) {
        if !at.is("type", "tool") {
            return;
        }
        let session = at.name(&["sessionID", "session_id"]).or(session);
        let turn = self.turns.get(session.as_deref().unwrap_or_default()).copied().unwrap_or_default();
        let part = Part { at: at.clone(), session, facts, turn };
        let id = at.name(&["id"]).or_else(|| at.name(&["callID"]));
        match id.as_ref().and_then(|id| self.by_id.get(id)).and_then(|index| self.parts.get_mut(*index)) {
            Some(before) => {
                before.at.take();
                before.at = part.at;
            }
            None => {
                self.by_id.extend(id.map(|id| (id, self.parts.len())));
                self.parts.push(part);
            }
        }
    }
}

/// What a message says of the calls in it.
fn facts(info: &At<'_>) -> Facts {
    let model = info.name(&["modelID"]).or_else(|| info.member("model")?.name(&["modelID", "id"]));
    let created = info.member("time").map(|time| time.moment(&["created"])).unwrap_or_default();
    Facts { model, moment: created, prompt: info.name(&["parentID"]), ..Facts::default() }
}

fn tool<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let state = at.member("state").unwrap_or_else(|| at.clone());
    let id = at.name(&["callID"]);
    let Some(tool) = at.name(&["tool"]) else { return session.join.refuse_call(at, "the call does not name its tool") };
    let time = state.member("time");
    let mut facts = facts.clone();
    facts.program = Some("opencode".to_owned());
    facts.moment = time.as_ref().map(|time| time.moment(&["start"])).unwrap_or_default().or(facts.moment);
    let given = state.member("input");
    let stands_for = given.as_ref().filter(|_| tool == words::OPENCODE_STAND_IN);
    let asked_for = stands_for.and_then(|given| given.name(&["tool"]));
    let not_run = stands_for.map(|given| Answer {
        outcome: Some(Outcome::ProtocolError),
        ..Answer::error(Some("not_run".to_owned()), given.str("error").unwrap_or_default().to_owned())
    });
    session.asked(Asked::new(at, id.clone(), asked_for.unwrap_or(tool), given.clone(), &facts));
    let ended = time.map(|time| time.moment(&["end"])).unwrap_or_default();
    if let Some(answer) = answer(&state).map(|answer| not_run.unwrap_or(answer)) {
        session.answered(at, id, None, answer, ended);
    }
    at.take_but(PART);
    state.take();
}

fn answer(state: &At<'_>) -> Option<Answer> {
    let metadata = state.member("metadata");
    match state.str("status").unwrap_or_default() {
        "completed" => {
            let output = state.member("output").filter(|output| !is_empty(output.value));
            let again = || metadata.as_ref()?.member("output").filter(|output| !is_empty(output.value));
            let mut signs = Signs::of(state.value);
            if let Some(code) = metadata.as_ref().and_then(|of| of.value.get("exit")?.as_f64())
                && code != 0.0
            {
                signs.add("exit", Outcome::ToolError);
            }
            let mut answer = Answer::of(output.or_else(again).or_else(|| state.member("output")), None);
            answer.ended(signs);
            Some(answer)
        }
        "error" => {
            let message = state.str("error").unwrap_or("unspecified error");
            let mut answer = blocks::failed(message);
            if let Some(outcome) = words::opencode(message) {
                answer.ended_in_words(outcome);
            }
            Some(answer)
        }
        // Still running, or the program ended before it was over.
        _ => None,
    }
}

//! Rollouts of Codex (`~/.codex/sessions/…/rollout-*.jsonl`), and what `codex exec --json` prints.
//!
//! A row of the type `response_item` holds an item of the Responses API. Events beside them say how a program ended and how long it
//! took, and `codex_events` compares them with the items; rollouts before 0.32 have the items themselves as rows.

use super::answer::Answer;
use super::blocks;
use super::codex_events::Events;
use super::conversation::Conversation;
use super::file::{At, Moment, Read};
use super::items;
use super::session::{Asked, Facts, Sessions};
use super::{ImportOptions, Imported};
use crate::ended::{Signs, words};
use attestlog::entry::failure::is_set;
use attestlog::json::Json;
use attestlog::{Outcome, Result, ToolCall};
use std::collections::{HashMap, HashSet};

/// How a call ended, as an event says before the model is told.
struct Ended<'a>(At<'a>);

#[derive(Default)]
struct Reader<'a> {
    session: Option<String>,
    facts: Facts,
    ended: HashMap<String, Ended<'a>>,
    /// The tools of the calls and their places among the session's, by their ids.
    calls: HashMap<String, (String, usize)>,
    /// The calls that have an answer.
    answered: HashSet<String>,
    events: Events<'a>,
    /// The calls of `codex exec --json` that were begun, by item.
    begun: HashSet<String>,
}

pub(super) fn read(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let (mut sessions, mut reader) = (Sessions::new(options)?, Reader::default());
    for document in &file.documents {
        let root = document.root();
        // Before rollouts had rows, a session was one object with its items.
        match (root.value.as_array(), root.member("items").filter(|items| items.value.as_array().is_some())) {
            (Some(_), _) => root.elements()?.try_for_each(|row| reader.row(&row, &mut sessions))?,
            (None, Some(items)) => {
                if let Some(meta) = root.member("session") {
                    reader.meta(&meta);
                }
                items.elements()?.try_for_each(|row| reader.row(&row, &mut sessions))?;
            }
            (None, None) => reader.row(&root, &mut sessions)?,
        }
    }
    let (facts, events) = (reader.facts(Moment::default()), std::mem::take(&mut reader.events));
    events.finish(&facts, reader.open(&mut sessions));
    sessions.finish()
}

impl<'a> Reader<'a> {
    fn open<'s>(&self, sessions: &'s mut Sessions<'a>) -> &'s mut Conversation<'a> {
        match &self.session {
            Some(id) => sessions.named(id),
            None => sessions.rest(),
        }
    }

    /// What the first row says of the session. A later one belongs to a history that was copied.
    fn meta(&mut self, meta: &At<'_>) {
        if self.session.is_some() {
            return;
        }
        let own = meta.name(&["id", "session_id", "thread_id"]);
        self.facts.version = meta.name(&["cli_version"]);
        let spawn = meta.member("source").and_then(|at| at.member("subagent")).and_then(|at| at.member("thread_spawn"));
        let parent = spawn.as_ref().and_then(|at| at.name(&["parent_thread_id"]));
        self.facts.parent_agent = meta.name(&["parent_thread_id"]).or(parent);
        self.session = own.clone();
        if self.facts.parent_agent.is_some() {
            // Hooks tell of a sub-agent's calls under the session in which it was started.
            self.session = meta.name(&["session_id"]).or(own.clone());
            self.facts.agent = own;
        }
    }

    fn row(&mut self, row: &At<'a>, sessions: &mut Sessions<'a>) -> Result<()> {
        let moment = row.moment(&["timestamp"]);
        let Some(payload) = row.member("payload").filter(|payload| payload.value.as_object().is_some()) else {
            return self.bare(row, moment, sessions);
        };
        match row.str("type").unwrap_or_default() {
            "session_meta" => {
                self.meta(&payload);
                row.pass();
            }
            "turn_context" => {
                self.facts.model = payload.name(&["model"]).or(self.facts.model.take());
                self.facts.prompt = payload.name(&["turn_id"]).or(self.facts.prompt.take());
                row.pass();
            }
            "event_msg" => {
                self.event(&payload, sessions);
                self.events.event(&payload, moment);
                row.pass();
            }
            "response_item" => self.item(&payload, moment, sessions)?,
            // The history once more, shortened; the state of the world; counts.
            _ => row.pass(),
        }
        Ok(())
    }

    fn facts(&self, moment: Moment) -> Facts {
        Facts { moment, program: Some("codex".to_owned()), ..self.facts.clone() }
    }

    fn item(&mut self, item: &At<'a>, moment: Moment, sessions: &mut Sessions<'a>) -> Result<()> {
        let facts = self.facts(moment);
        if items::is_item(item) && !items::is_output(item) {
            self.events.item(item);
            if let Some(id) = item.name(&["call_id", "id"]) {
                let kind = item.str("type").unwrap_or_default();
                let tool = item.name(&["name"]).unwrap_or_else(|| kind.trim_end_matches("_call").to_owned());
                let place = self.open(sessions).join.seen().0;
                self.calls.insert(id, (tool, place));
            }
        }
        let session = self.open(sessions);
        session.hear(item)?;
        if item.is("type", "message") {
            if item.is("role", "user") && !is_context(item) {
                session.join.interrupt();
                session.user_turn();
            }
            item.take();
            return Ok(());
        }
        if !items::is_output(item) {
            if items::is_item(item) {
                items::item(item, &facts, session);
            }
            return Ok(());
        }
        session.join.interrupt();
        let id = item.name(&["call_id"]);
        let mut answer = items::output(item);
        let tool = id.as_ref().and_then(|id| self.calls.get(id)).map(|(tool, _)| tool.as_str()).unwrap_or_default();
        let ended = id.as_ref().and_then(|id| self.ended.remove(id));
        // A wrapper says whether the text in it is an error.
        let text = item.member("output").map(|output| output.member("content").unwrap_or(output));
        if let Some(text) = text.as_ref().and_then(|text| text.value.as_str()) {
            said(tool, text, ended.is_some(), &mut answer);
        }
        if let Some(ended) = ended {
            ended.add_to(&mut answer);
        }
        self.answered.extend(id.clone());
        let session = self.open(sessions);
        session.answered(item, id, None, answer, moment);
        Ok(())
    }

    /// Keeps what an event says about the end of a call.
    fn event(&mut self, event: &At<'a>, sessions: &mut Sessions<'a>) {
        let kind = event.str("type").unwrap_or_default();
        let of = match kind {
            "item_completed" => event.member("item"),
            "exec_command_end" | "mcp_tool_call_end" | "patch_apply_end" => Some(event.clone()),
            _ => None,
        };
        if let Some(of) = of
            && let Some(id) = of.name(&["call_id", "id"])
        {
            let place = self.calls.get(&id).map(|(_, place)| *place).filter(|_| self.answered.contains(&id));
            match place.and_then(|place| self.open(sessions).join.call_at(place)) {
                // A command that was still running when the model was told of it.
                Some(call) => Ended(of).add_afterwards(call),
                None => _ = self.ended.insert(id, Ended(of)),
            }
        }
    }

    /// A row without a payload: an item on its own, or an event of `codex exec --json`.
    fn bare(&mut self, row: &At<'a>, moment: Moment, sessions: &mut Sessions<'a>) -> Result<()> {
        match row.str("type").unwrap_or_default() {
            "thread.started" => self.session = row.name(&["thread_id"]).or(self.session.take()),
            kind @ ("item.started" | "item.updated" | "item.completed") => {
                if let Some(item) = row.member("item") {
                    self.step(&item, kind == "item.completed", sessions)?;
                }
            }
            kind if kind.starts_with("turn.") || kind == "error" => {}
            _ if row.value.get("record_type").is_some() => {}
            "" if row.value.get("id").is_some() && row.value.get("timestamp").is_some() => self.meta(row),
            _ => {
                self.item(row, moment, sessions)?;
                return Ok(());
            }
        }
        row.pass();
        Ok(())
    }

    /// An item of `codex exec --json`: a call together with its answer.
    fn step(&mut self, item: &At<'a>, is_over: bool, sessions: &mut Sessions<'a>) -> Result<()> {
        let kind = item.str("type").or_else(|| item.str("item_type")).unwrap_or_default();
        let (tool, given): (String, &[&str]) = match kind {
            "command_execution" => ("command_execution".to_owned(), &["command"]),
            "file_change" => ("file_change".to_owned(), &["changes"]),
            "web_search" => ("web_search".to_owned(), &["query", "action"]),
            "mcp_tool_call" | "collab_tool_call" => {
                (item.name(&["tool"]).unwrap_or_else(|| kind.to_owned()), &["arguments", "prompt"])
            }
            _ => return Ok(()),
        };
        let facts = self.facts(Moment::default());
        let id = item.name(&["id"]);
        let is_new = id.clone().is_none_or(|id| self.begun.insert(id));
        let session = self.open(sessions);
        session.form = "exec";
        session.hear(item)?;
        if is_new {
            let mut asked = Asked::new(item, id.clone(), tool, item.first(given), &facts);
            asked.server = item.name(&["server"]);
            session.asked(asked);
        }
        if is_over {
            let mut answer = blocks::answer_in(item, &["aggregated_output", "result", "agents_states"], item.value);
            Ended(item.clone()).add_to(&mut answer);
            session.answered(item, id, None, answer, Moment::default());
        }
        Ok(())
    }
}

/// An answer, with what the event of its call's end says.
pub(super) fn ended(event: &At<'_>, mut answer: Answer) -> Answer {
    Ended(event.clone()).add_to(&mut answer);
    answer
}

/// Adds what the text of an answer says of how its call ended, where Codex and not the tool wrote it. `is_told`: an event says it.
fn said(tool: &str, text: &str, is_told: bool, answer: &mut Answer) {
    if let Some(code) = words::codex_exit(tool, text) {
        let mut signs = Signs::default();
        signs.add("the header of the answer", if code == 0 { Outcome::Ok } else { Outcome::ToolError });
        return answer.ended(signs);
    }
    // How it ended is told later, or not at all.
    if words::codex_runs_on(tool, text) {
        (answer.outcome, answer.by_words) = (Some(Outcome::Abandoned), true);
        return;
    }
    match words::codex(tool, text) {
        // The event says of a call that was refused or failed no more than that.
        Some(Outcome::ToolError) if is_told => {}
        Some(outcome) => answer.ended_in_words(outcome),
        None => {}
    }
}

impl Ended<'_> {
    /// Adds to an answer how its call ended.
    fn add_to(&self, answer: &mut Answer) {
        answer.ended(self.signs());
        answer.duration_ms = self.duration().or(answer.duration_ms);
    }

    /// Adds to a call that has its answer how it ended.
    fn add_afterwards(&self, call: &mut ToolCall) {
        match self.signs().outcome() {
            Some(Outcome::Ok) if call.outcome == Some(Outcome::Abandoned) => call.outcome = Some(Outcome::Ok),
            Some(Outcome::Ok) | None => {}
            Some(outcome) if matches!(call.outcome, None | Some(Outcome::Ok | Outcome::Abandoned)) => {
                call.outcome = Some(outcome);
            }
            Some(_) => {}
        }
        call.duration_ms = self.duration().or(call.duration_ms);
    }

    fn signs(&self) -> Signs {
        let at = &self.0;
        let mut signs = Signs::of(at.value);
        // `mcp_tool_call_end` wraps the result: {"Ok": …} or {"Err": …}.
        let result = at.member("result");
        let inner = result.as_ref().and_then(|at| at.first(&["Ok", "ok"])).or_else(|| result.clone());
        if let Some(flag) = inner.as_ref().and_then(|at| at.value.get("isError")) {
            signs.add("isError", if is_set(flag) { Outcome::ToolError } else { Outcome::Ok });
        }
        if result.is_some_and(|at| at.value.get("Err").is_some()) {
            signs.add("Err", Outcome::ToolError);
        }
        signs
    }

    fn duration(&self) -> Option<f64> {
        let duration = self.0.member("duration")?;
        let part = |key: &str| duration.value.get(key).and_then(Json::as_f64);
        let ms = part("secs")? * 1e3 + part("nanos").unwrap_or_default() / 1e6;
        (ms >= 0.0).then_some(ms)
    }
}

/// Whether a user's message is what Codex tells the model about its surroundings.
fn is_context(item: &At<'_>) -> bool {
    const MARKS: [&str; 6] = [
        "<environment_context>",
        "<user_instructions>",
        "<subagent_notification>",
        "<turn_aborted>",
        "<permissions instructions>",
        "# AGENTS.md instructions",
    ];
    let mut texts = item.items("content").filter_map(|part| part.str("text"));
    texts.next().is_some_and(|text| MARKS.iter().any(|mark| text.starts_with(mark)))
}

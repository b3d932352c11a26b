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
use attestlog::json::Json;
use attestlog::{Outcome, Result};
use std::collections::{HashMap, HashSet};

/// How a call ended, as an event says before the model is told.
struct Ended<'a>(At<'a>);

#[derive(Default)]
struct Reader<'a> {
    session: Option<String>,
    facts: Facts,
    ended: HashMap<String, Ended<'a>>,
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
                self.event(&payload);
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
        let (mut answer, code) = items::output(item);
        let unknown =
            |text: &str| text.starts_with("unsupported call: ") || text.starts_with("unsupported custom tool call: ");
        if item.str("output").is_some_and(unknown) {
            answer.fail(None);
        }
        if let Some(ended) = id.as_ref().and_then(|id| self.ended.remove(id)) {
            ended.add_to(&mut answer, code);
        }
        let session = self.open(sessions);
        session.answered(item, id, None, answer, moment);
        Ok(())
    }

    /// Keeps what an event says about the end of a call.
    fn event(&mut self, event: &At<'a>) {
        let kind = event.str("type").unwrap_or_default();
        let of = match kind {
            "item_completed" => event.member("item"),
            "exec_command_end" | "mcp_tool_call_end" | "patch_apply_end" => Some(event.clone()),
            _ => None,
        };
        if let Some(of) = of
            && let Some(id) = of.name(&["call_id", "id"])
        {
            self.ended.insert(id, Ended(of));
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
            Ended(item.clone()).add_to(&mut answer, None);
            session.answered(item, id, None, answer, Moment::default());
        }
        Ok(())
    }
}

/// An answer, with what the event of its call's end says.
pub(super) fn ended(event: &At<'_>, mut answer: Answer) -> Answer {
    Ended(event.clone()).add_to(&mut answer, None);
    answer
}

impl Ended<'_> {
    /// Adds to an answer how its call ended; `code` is the exit code that the answer itself gives.
    fn add_to(&self, answer: &mut Answer, code: Option<i64>) {
        let at = &self.0;
        let exit = code.or_else(|| at.value.get("exit_code").and_then(Json::as_i64));
        let status = at.str("status").unwrap_or_default();
        let result = at.member("result");
        // `mcp_tool_call_end` wraps the result: {"Ok": …} or {"Err": …}.
        let inner = result.as_ref().and_then(|at| at.first(&["Ok", "ok"])).or_else(|| result.clone());
        let is_error = inner.is_some_and(|at| at.value.get("isError") == Some(&Json::Bool(true)));
        let err = result.is_some_and(|at| at.value.get("Err").is_some());
        let unsuccessful = at.value.get("success") == Some(&Json::Bool(false));
        if exit.is_some_and(|code| code != 0) || status == "failed" || is_error || err || unsuccessful {
            answer.fail(None);
        }
        if status == "declined" {
            answer.fail(None);
            answer.outcome = Some(Outcome::Denied);
        }
        answer.duration_ms = self.duration().or(answer.duration_ms);
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

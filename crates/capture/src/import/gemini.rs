//! Sessions of the Gemini CLI (`~/.gemini/tmp/<project>/chats/session-*.json` or `.jsonl`), what it prints with
//! `--output-format stream-json`, and the contents of the Gemini API.
//!
//! A call and its answer are one object, in `toolCalls`. In a file of lines a message comes again when it grows: the last row with
//! its id counts, in the place of the first. `$set` rows replace members of the session, also all messages at once.

use super::answer::Answer;
use super::blocks;
use super::conversation::Conversation;
use super::file::{At, Known, Read};
use super::session::{Asked, Facts, Sessions};
use super::{ImportOptions, Imported};
use crate::ended::{Signs, words};
use attestlog::entry::CallError;
use attestlog::json::Json;
use attestlog::{Outcome, Result};
use std::collections::HashMap;

const CALL: Known = &[
    "id",
    "name",
    "args",
    "result",
    "status",
    "timestamp",
    "resultDisplay",
    "description",
    "displayName",
    "renderOutputAsMarkdown",
    "agentId",
    "parentCallId",
    "parent_call_id",
    "outputFile",
    "error",
    "errorType",
    "durationMs",
    "originalRequestName",
    "schedulerId",
    "tail",
];

pub(super) fn read(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut sessions = Sessions::new(options)?;
    let (mut rows, mut by_id) = (Vec::new(), HashMap::new());
    let (mut name, mut facts, mut form) = (None, Facts::default(), "session");
    for document in &file.documents {
        let root = document.root();
        if root.is("type", "init") {
            form = "stream";
            name = root.name(&["session_id"]).or(name);
            facts.model = root.name(&["model"]).or(facts.model);
            continue;
        }
        if root.value.get("sessionId").is_some() {
            if name.is_some() {
                // A further session in the same file.
                tell(&mut rows, &name, (&facts, form), &mut sessions)?;
                by_id.clear();
            }
            form = "session";
            name = root.name(&["sessionId"]);
            facts = Facts { parent_agent: root.name(&["parentSessionId"]), ..Facts::default() };
            if root.is("kind", "subagent") || facts.parent_agent.is_some() {
                facts.agent.clone_from(&name);
            }
        }
        let set = root.member("$set");
        for holder in [Some(&root), set.as_ref()].into_iter().flatten() {
            for key in ["messages", "history", "contents"] {
                holder.items(key).for_each(|row| put(row, &mut rows, &mut by_id));
            }
        }
        match root.value.as_array() {
            Some(_) => root.elements()?.for_each(|row| put(row, &mut rows, &mut by_id)),
            None if ["messages", "history", "contents", "$set", "$rewindTo", "sessionId"]
                .iter()
                .any(|key| root.value.get(key).is_some()) => {}
            None => put(root, &mut rows, &mut by_id),
        }
    }
    tell(&mut rows, &name, (&facts, form), &mut sessions)?;
    sessions.finish()
}

/// Adds a row, or puts it in the place of the one with its id.
fn put<'a>(row: At<'a>, rows: &mut Vec<At<'a>>, by_id: &mut HashMap<&'a str, usize>) {
    let before = row.str("id").and_then(|id| by_id.get(id).copied());
    match before.and_then(|index| rows.get_mut(index)) {
        // A row without calls does not take back those that were made.
        Some(before) if row.value.get("toolCalls").is_some() || before.value.get("toolCalls").is_none() => {
            before.take();
            *before = row;
        }
        Some(_) => row.take(),
        None => {
            if let Some(id) = row.str("id") {
                by_id.insert(id, rows.len());
            }
            rows.push(row);
        }
    }
}

fn tell<'a>(
    rows: &mut Vec<At<'a>>,
    name: &Option<String>,
    (facts, form): (&Facts, &'static str),
    sessions: &mut Sessions<'a>,
) -> Result<()> {
    let session = match name {
        Some(name) => sessions.named(name),
        None => sessions.rest(),
    };
    // Contents of the API may be of any program.
    let program = name.is_some().then(|| "gemini-cli".to_owned());
    session.form = form;
    session.facts = Facts { program, ..facts.clone() };
    rows.drain(..).try_for_each(|row| message(&row, session))
}

fn message<'a>(at: &At<'a>, session: &mut Conversation<'a>) -> Result<()> {
    session.hear(at)?;
    let facts = Facts { model: at.name(&["model"]), moment: at.moment(&["timestamp"]), ..Facts::default() };
    match at.str("type") {
        Some("gemini") => {
            at.items("toolCalls").for_each(|call| self::call(&call, &facts, session));
            at.member("content").iter().for_each(At::take);
        }
        Some("user") if at.value.get("role").is_none() => {
            session.join.interrupt();
            // The model's history of what the calls above returned.
            let answers = at.items("content").filter(|part| part.value.get("functionResponse").is_some());
            let answers: Vec<At<'a>> = answers.collect();
            answers.iter().for_each(At::take);
            if answers.is_empty() && !is_context(at) {
                session.user_turn();
            }
        }
        // What is printed while it works.
        Some("tool_use") => {
            let tool = at.name(&["tool_name"]).unwrap_or_default();
            session.asked(Asked::new(at, at.name(&["tool_id"]), tool, at.member("parameters"), &facts));
        }
        Some("tool_result") => {
            let answer = blocks::answer_in(at, &["output"], at.value);
            session.answered(at, at.name(&["tool_id"]), None, answer, facts.moment);
        }
        Some("message") if at.is("role", "user") => session.user_turn(),
        Some("message" | "result" | "info" | "error" | "warning") if at.value.get("parts").is_none() => at.take(),
        _ => blocks::message(at, &facts, session),
    }
    Ok(())
}

fn is_context(at: &At<'_>) -> bool {
    at.items("content")
        .next()
        .and_then(|part| part.str("text"))
        .is_some_and(|text| text.starts_with("<session_context>"))
}

fn call<'a>(at: &At<'a>, facts: &Facts, session: &mut Conversation<'a>) {
    let id = at.name(&["id"]);
    let Some(tool) = at.name(&["name"]) else { return session.join.refuse_call(at, "the call does not name its tool") };
    let mut facts = facts.clone();
    facts.agent = at.name(&["agentId"]);
    facts.parent_call = at.name(&["parentCallId", "parent_call_id"]);
    session.asked(Asked::new(at, id.clone(), tool.clone(), at.member("args"), &facts));
    if let Some(answer) = answer(at, &tool) {
        session.answered(at, id, None, answer, at.moment(&["timestamp"]));
    }
    at.take_but(CALL);
}

/// The answer in a call's own object, if it is over.
fn answer(at: &At<'_>, tool: &str) -> Option<Answer> {
    let status = at.str("status").unwrap_or_default();
    let parts = at.member("result").filter(|result| *result.value != Json::Array(Vec::new()));
    let held = || {
        let mut parts = parts.as_ref()?.elements().ok()?;
        parts.find_map(|part| part.member("functionResponse"))
    };
    let (holder, mut signs) = (held(), Signs::default());
    let response = holder.as_ref().and_then(|holder| holder.member("response"));
    if let Some(holder) = &holder {
        signs = signs.and(Signs::of(holder.value));
    }
    let is_failed = matches!(status, "error" | "cancelled").then_some(true);
    let mut answer = match &response {
        Some(response) => match response.first(&["output", "error"]) {
            Some(inner) if response.value.as_object().is_some_and(|members| members.len() == 1) => {
                let is_error = response.value.get("error").is_some();
                Answer::of(Some(inner), if is_error { Some(true) } else { is_failed })
            }
            _ => Answer::of(Some(response.clone()), is_failed),
        },
        None if parts.is_some() => Answer::of(parts.clone(), is_failed),
        None if matches!(status, "error" | "cancelled") => blocks::failed(at.str("resultDisplay").unwrap_or(status)),
        None if status == "success" => Answer { outcome: Some(Outcome::Ok), ..Answer::default() },
        None => return None,
    };
    if is_failed.is_some() && answer.outcome.is_none() {
        answer.fail(None);
    }
    answer.ended(signs);
    if let Some(output) = response.as_ref().and_then(|response| response.str("output"))
        && let Some((outcome, is_guess)) = words::gemini_shell(tool, output, at.str("resultDisplay"))
    {
        // The answer stays what the tool printed.
        (answer.outcome, answer.by_words) = (Some(outcome), is_guess);
    }
    // The kind of an error that the CLI itself made.
    if let Some(kind) = at.str("errorType").filter(|_| status == "error") {
        answer.because(CallError { kind: Some(kind.to_owned()), message: String::new() });
        answer.outcome = words::kind(kind).or(answer.outcome);
    }
    if let Some(error) = response.as_ref().and_then(|response| response.str("error")).filter(|_| status == "error")
        && let Some(outcome) = words::gemini(tool, error)
    {
        answer.ended_in_words(outcome);
    }
    // The user was asked, and said no; or broke off what ran.
    if status == "cancelled" {
        let said = response.as_ref().and_then(|response| response.str("error")).unwrap_or_default();
        let is_broken_off = said == "[Operation Cancelled] Reason: User cancelled tool execution.";
        answer.outcome = Some(if is_broken_off { Outcome::Abandoned } else { Outcome::Denied });
    }
    Some(answer)
}

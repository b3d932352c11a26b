//! Sessions of Claude Code: the files under `~/.claude/projects`, those of its sub-agents, and what it prints with
//! `--output-format stream-json`.
//!
//! A row is an event; those of the types `assistant` and `user` hold a message of the Anthropic API. Other rows repeat messages
//! (requests to the API, progress of sub-agents, whose own files have their calls) or are about something else; a call that only
//! such a row has is reported.

use super::answer::Answer;
use super::anthropic::of_beside;
use super::blocks::{self, Role};
use super::conversation::Conversation;
use super::file::{At, Read};
use super::session::{Facts, Sessions};
use super::{ImportOptions, Imported};
use crate::ended::{Signs, is_empty, words};
use attestlog::entry::failure::is_called;
use attestlog::entry::{Approval, Decision};
use attestlog::json::{Json, Object};
use attestlog::{Outcome, Result};
use std::collections::{HashMap, HashSet};

/// What the reader remembers of the rows before.
#[derive(Default)]
struct Seen<'a> {
    rows: HashMap<&'a str, &'a Json>,
    /// Calls by message and id: a session that is resumed may repeat a message under another row id.
    calls: HashMap<(String, String), Told<'a>>,
    answers: HashMap<String, &'a Json>,
    /// The latest block of each call, by its id.
    blocks: HashMap<String, &'a Json>,
    /// The calls that rows of their own say were refused, by session and id.
    refused: HashSet<(String, String)>,
}

/// A call as a row told it: its block, and its session and place there.
#[derive(Clone, Copy)]
struct Told<'a> {
    block: &'a Json,
    place: usize,
    session: usize,
}

pub(super) fn read(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut sessions = Sessions::new(options)?;
    let mut seen = Seen::default();
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.for_each(|row| seen.refusals(&row)),
            None => seen.refusals(&root),
        }
    }
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.try_for_each(|row| self::row(&row, &mut sessions, &mut seen))?,
            None => row(&root, &mut sessions, &mut seen)?,
        }
    }
    if sessions.is_empty() {
        sessions.rest();
    }
    sessions.finish()
}

impl Seen<'_> {
    /// What `--output-format stream-json` prints of calls that were refused: a row for each, and all of them once more at the end.
    fn refusals(&mut self, row: &At<'_>) {
        let session = row.name(&["session_id", "sessionId"]).unwrap_or_default();
        let alone = row.is("subtype", "permission_denied").then(|| row.name(&["tool_use_id"])).flatten();
        let all = row.items("permission_denials").filter_map(|one| one.name(&["tool_use_id"]));
        self.refused.extend(all.chain(alone).map(|id| (session.clone(), id)));
    }
}

fn row<'a>(row: &At<'a>, sessions: &mut Sessions<'a>, seen: &mut Seen<'a>) -> Result<()> {
    let message = row.member("message").filter(|message| message.value.as_object().is_some());
    let kind = row.str("type").or_else(|| row.str("role")).unwrap_or_default();
    let Some(message) = message.filter(|_| matches!(kind, "assistant" | "user")) else {
        // A row of another type is no message, unless it has its own content.
        if row.value.get("content").is_none() || matches!(kind, "queue-operation" | "summary" | "system" | "attachment")
        {
            // The agent's own file has what it did.
            let is_of_agent = row.member("data").is_some_and(|data| data.name(&["agentId"]).is_some());
            if is_of_agent { row.take() } else { row.pass() }
        }
        return Ok(());
    };
    if let Some(uuid) = row.str("uuid")
        && seen.rows.insert(uuid, row.value).is_some_and(|before| before.get("message") == row.value.get("message"))
    {
        row.take();
        return Ok(());
    }
    let session = match row.name(&["sessionId", "session_id"]) {
        Some(id) => sessions.named(&id),
        None => sessions.rest(),
    };
    // What it prints while it works names the session otherwise.
    session.form = if row.value.get("sessionId").is_none() && row.value.get("session_id").is_some() {
        "stream"
    } else {
        "session"
    };
    session.hear(row)?;
    let facts = facts(row, &message, session.options);
    match kind {
        "assistant" => assistant(&message, &facts, session, seen),
        _ => user(row, &message, &facts, session, seen),
    }
    for (key, member) in row.members().filter(|(key, _)| *key != "message") {
        if !matches!(key, "toolCalls" | "tool_calls") {
            let is_answer = matches!(key, "toolUseResult" | "tool_use_result");
            if is_answer { member.take() } else { member.pass() }
        }
    }
    Ok(())
}

fn facts(row: &At<'_>, message: &At<'_>, options: &ImportOptions) -> Facts {
    let agent = row.name(&["agentId", "agent_id"]);
    let aside = row.value.get("isSidechain").and_then(Json::as_bool) == Some(true);
    let launched = options.beside.clone().filter(|_| aside || agent.is_some()).unwrap_or_default();
    Facts {
        model: message.str("model").filter(|model| *model != "<synthetic>").map(str::to_owned),
        moment: row.moment(&["timestamp"]),
        parent_call: row.name(&["parent_tool_use_id"]).or(launched.call),
        prompt: row.name(&["promptId", "prompt_id"]),
        aside: aside && agent.is_none(),
        program: Some("claude-code".to_owned()),
        version: row.name(&["version", "claude_code_version"]),
        agent,
        ..Facts::default()
    }
}

fn assistant<'a>(message: &At<'a>, facts: &Facts, session: &mut Conversation<'a>, seen: &mut Seen<'a>) {
    let of = message.name(&["id"]).unwrap_or_default();
    for block in message.items("content") {
        seen.blocks.extend(block.name(&["id"]).map(|id| (id, block.value)));
        if let Some(id) = block.name(&["id"]).filter(|_| !of.is_empty())
            && block.str("type").is_some_and(|kind| kind.ends_with("tool_use"))
        {
            let told = Told { block: block.value, place: session.join.seen().0, session: session.number() };
            if let Some(before) = seen.calls.get_mut(&(of.clone(), id.clone())) {
                again(&block, before, session);
                continue;
            }
            seen.calls.insert((of.clone(), id), told);
        }
        blocks::block(&block, Role::Assistant, facts, &[], session);
    }
}

/// A call that a message has again. While a message is streamed, its rows tell more and more of a call's input: the last one
/// counts. Anything else that differs is another call, which cannot have the same id.
fn again<'a>(block: &At<'a>, before: &mut Told<'a>, session: &mut Conversation<'a>) {
    let input = |block: &'a Json| block.get("input").unwrap_or(&Json::Null);
    let (was, is) = (input(before.block), input(block.value));
    let is_same = before.block.get("name") == block.value.get("name");
    if is_same && is_part(is, was) {
        block.take();
    } else if is_same && is_part(was, is) && before.session == session.number() {
        block.take();
        session.asked_again(before.place, block.member("input"));
        before.block = block.value;
    } else {
        session.join.refuse_call(block, "another call has its id in the same message");
    }
}

/// Whether an input is what had arrived of another one.
fn is_part(part: &Json, whole: &Json) -> bool {
    match (part, whole) {
        _ if part == whole => true,
        (Json::Null, _) => true,
        (Json::String(part), Json::String(whole)) => whole.starts_with(part.as_str()),
        (Json::Object(part), Json::Object(whole)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| is_part(part, whole)))
        }
        (Json::Array(part), Json::Array(whole)) => {
            part.len() <= whole.len() && part.iter().zip(whole).all(|(part, whole)| is_part(part, whole))
        }
        _ => false,
    }
}

fn user<'a>(row: &At<'a>, message: &At<'a>, facts: &Facts, session: &mut Conversation<'a>, seen: &mut Seen<'a>) {
    session.join.interrupt();
    let mut says_more = message.value.get("content").is_some_and(|content| content.as_str().is_some());
    for block in message.items("content") {
        if !block.str("type").is_some_and(|kind| kind.ends_with("tool_result")) {
            says_more = true;
            blocks::block(&block, Role::User, facts, &[], session);
            continue;
        }
        let id = block.name(&["tool_use_id"]);
        // A resumed session repeats answers; one that says something else is reported by the joiner.
        let content = block.value.get("content").unwrap_or(&Json::Null);
        if let Some(id) = id.as_ref().filter(|id| !session.join.is_open(id))
            && seen.answers.get(id) == Some(&content)
        {
            block.take();
            continue;
        }
        seen.answers.extend(id.clone().map(|id| (id, content)));
        let answer = answer(row, &block, seen);
        session.answered(&block, id, None, answer, facts.moment);
    }
    let is_own = |key: &str| row.value.get(key).and_then(Json::as_bool) == Some(true);
    if says_more && !is_own("isMeta") && !is_own("isCompactSummary") {
        session.user_turn();
    }
}

/// An answer, with what the row says about it: `toolUseResult`, who denied the call.
fn answer(row: &At<'_>, block: &At<'_>, seen: &Seen<'_>) -> Answer {
    let id = block.name(&["tool_use_id"]);
    let call = id.as_ref().and_then(|id| seen.blocks.get(id).copied());
    let beside = ["toolUseResult", "tool_use_result"].into_iter().find_map(|key| row.member(key));
    let mut answer = said(block, beside.as_ref());
    // Of a tool of a server, the members are its own words.
    let is_own = |said: &At<'_>| said.value.as_str().is_some() || !tool(call).starts_with("mcp__");
    if let Some(said) = beside.as_ref().filter(|said| is_own(said)) {
        answer.ended(of_beside(said.value));
    }
    let (approval, is_allowed) = permission(row, id.as_deref(), seen);
    if approval.as_ref().is_some_and(|of| of.decision == Decision::Denied) {
        let mut signs = Signs::default();
        signs.add("the permission", Outcome::Denied);
        if is_allowed {
            signs.add("permissionDecision", Outcome::Ok);
        }
        answer.ended(signs);
        answer.approval = approval;
    } else {
        answer.approval = approval;
        if !is_allowed {
            in_words(block, call, &mut answer);
        }
    }
    let members = beside.as_ref().and_then(|said| said.value.as_object());
    let measured = members.into_iter().flat_map(Object::iter);
    let measured = measured.filter(|(key, _)| is_called(key, "durationms") || is_called(key, "totaldurationms"));
    answer.duration_ms = measured.filter_map(|(_, value)| value.as_f64()).find(|ms| *ms >= 0.0);
    answer
}

/// What the tool said: the block's content, or if that is empty, what stands beside it.
fn said(block: &At<'_>, beside: Option<&At<'_>>) -> Answer {
    let signs = Signs::of(block.value);
    let content = block.value.get("content").unwrap_or(&Json::Null);
    let fine = content.as_str().filter(|_| signs.failed() == Some(false)).and_then(Answer::fine);
    let printed = beside.filter(|said| is_empty(content) && prints(said));
    let other = fine.or_else(|| printed.map(|said| Answer::of(Some(said.clone()), signs.failed())));
    match other {
        Some(mut answer) => {
            answer.ended(signs);
            answer
        }
        None => blocks::answer_in(block, &["content"], block.value),
    }
}

/// Who allowed or refused the call, and whether it is said expressly that it was allowed.
fn permission(row: &At<'_>, id: Option<&str>, seen: &Seen<'_>) -> (Option<Approval>, bool) {
    let meta = id.and_then(|id| row.items("tool_result_meta").find(|of| of.name(&["id"]).as_deref() == Some(id)));
    let decided = ["permissionDecision", "permission_decision"];
    let decision = row.first(&decided).or_else(|| meta.as_ref()?.first(&decided));
    let kind = row.str("toolDenialKind").or_else(|| meta.as_ref()?.str("non_execution_kind"));
    let session = row.name(&["session_id", "sessionId"]).unwrap_or_default();
    let is_refused = id.is_some_and(|id| seen.refused.contains(&(session, id.to_owned())));
    let is_allowed = decision.as_ref().is_some_and(|of| of.is("decision", "accept"));
    let told = approval(decision.as_ref(), kind).filter(|of| !is_refused || of.decision == Decision::Denied);
    (told.or_else(|| is_refused.then(|| Approval::new(Decision::Denied))), is_allowed)
}

/// The tool that a call's block names.
fn tool(call: Option<&Json>) -> &str {
    call.and_then(|call| call.get("name")?.as_str()).unwrap_or_default()
}

/// Whether Claude Code's own account of an answer has what the tool printed.
fn prints(beside: &At<'_>) -> bool {
    ["stdout", "stderr", "content", "result", "output"]
        .iter()
        .any(|key| beside.member(key).is_some_and(|at| !is_empty(at.value)))
}

/// What an answer says in words of a call that was not run. Versions before 2.1 say it only so; nothing else beside the answer may say
/// that the call was allowed, and the answer has to be an error.
fn in_words(block: &At<'_>, call: Option<&Json>, answer: &mut Answer) {
    let said = block.value.get("content").and_then(super::answer::text);
    let (Some(said), Some(true)) = (said, Signs::of(block.value).failed()) else { return };
    let Some((outcome, by)) = words::claude_code(tool(call), call.and_then(|call| call.get("input")), &said) else {
        return;
    };
    if outcome == Outcome::ToolError {
        return;
    }
    answer.ended_in_words(outcome);
    if outcome == Outcome::Denied {
        answer.approval = Some(Approval { source: by.map(str::to_owned), ..Approval::new(Decision::Denied) });
    }
}

/// Who allowed or refused the call: what is said of the decision, and the kind of refusal.
fn approval(said: Option<&At<'_>>, kind: Option<&str>) -> Option<Approval> {
    let (decision, source) = match (said.and_then(|said| said.str("decision")), kind) {
        (Some("accept"), None) => (Decision::Allowed, None),
        (Some("reject"), _) => (Decision::Denied, None),
        (_, Some("permission-rule")) => (Decision::Denied, Some("rule")),
        (_, Some(kind)) => (Decision::Denied, Some(kind)),
        _ => return None,
    };
    let source = said.and_then(|said| said.str("source")).or(source).map(str::to_owned);
    Some(Approval { source, ..Approval::new(decision) })
}

//! Log records of OpenTelemetry in which coding agents tell of their calls: one record when a call is over
//! (`claude_code.tool_result`, `codex.tool_result`, `gemini_cli.tool_call`), one when it was decided about (`…tool_decision`).
//!
//! A decision that refused a call is the only record of that call. One that allowed it belongs to the record of the call's end.

use super::answer::{self, Answer};
use super::attributes::{any_value, nanos};
use super::beginning::Beginning;
use super::file::{At, Read};
use super::identity::Source;
use super::otlp::{SESSIONS, USERS};
use super::{ImportOptions, Imported, NotTaken, SAY_USER, Untaken, record};
use crate::ended::{Signs, is_empty};
use attestlog::entry::{self, Approval, Decision, SourceKind};
use attestlog::json::{Json, Object, Path};
use attestlog::{CallResult, IMPORTED, Outcome, Result, Timestamp, ToolCall};
use std::collections::{BTreeMap, HashMap};

/// One record about a tool, with its attributes and those of its resource.
struct Record<'a> {
    at: At<'a>,
    attributes: BTreeMap<String, Json>,
    resource: BTreeMap<String, Json>,
    kind: Kind,
    /// The program that wrote it, under the name that its sessions and hooks have.
    program: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Result,
    Decision,
}

/// What the records of each program are named, after its own name.
const RESULTS: &[&str] = &["tool_result", "tool_call", "tool.result", "tool.call"];
const DECISIONS: &[&str] = &["tool_decision", "tool.decision"];
/// The programs whose records these are, as they begin their events' names, and as they are called in entries.
const PROGRAMS: &[(&str, &str)] = &[
    ("claude_code", "claude-code"),
    ("codex", "codex"),
    ("gemini_cli", "gemini-cli"),
    ("qwen-code", "qwen-code"),
    ("qwen_code", "qwen-code"),
    ("opencode", "opencode"),
];

const IDS: &[&str] = &["tool_use_id", "call_id", "tool_call_id", "gen_ai.tool.call.id"];
const TOOLS: &[&str] = &["tool_name", "function_name", "gen_ai.tool.name", "name"];
const GIVEN: &[&str] =
    &["tool_input", "arguments", "function_args", "tool_parameters", "tool_args", "gen_ai.tool.call.arguments"];
const SAID: &[&str] = &["output", "tool_output", "result", "tool_result", "function_result", "gen_ai.tool.call.result"];

/// Adds the calls in the file's log records.
pub(super) fn read(file: &Read, options: &ImportOptions, began: Beginning, imported: &mut Imported) -> Result<()> {
    let mut records = Vec::new();
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.for_each(|export| collect(&export, &mut records, &mut imported.not_taken)),
            None => collect(&root, &mut records, &mut imported.not_taken),
        }
    }
    let ids = |record: &Record<'_>| first(&record.attributes, IDS);
    let over: HashMap<String, ()> = records
        .iter()
        .filter(|record| record.kind == Kind::Result)
        .filter_map(|record| Some((ids(record)?, ())))
        .collect();
    let mut decided = HashMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Decision) {
        decided.extend(ids(record).zip(approval(record)));
    }
    for record in &records {
        record.at.take();
        let id = ids(record);
        let approval = id.as_ref().and_then(|id| decided.get(id).cloned()).or_else(|| approval(record));
        if record.kind == Kind::Decision {
            let denied = approval.as_ref().is_some_and(|approval| approval.decision != Decision::Allowed);
            // The record of the call's end tells of it too, or will.
            if !denied || id.as_ref().is_some_and(|id| over.contains_key(id)) {
                continue;
            }
        }
        let session = first(&record.attributes, SESSIONS).or_else(|| first(&record.resource, SESSIONS));
        let user = options
            .user
            .clone()
            .or_else(|| first(&record.attributes, USERS))
            .or_else(|| first(&record.resource, USERS));
        let Some(user) = user else {
            return Err(record.at.error(format!("a tool is called, but no user is known: {SAY_USER}")));
        };
        let Some(mut call) = call(record, user) else {
            let why = "the record does not name its tool".to_owned();
            imported.not_taken.push(NotTaken { place: record.at.place(), kind: Untaken::Call, call_id: id, why });
            continue;
        };
        let refused = approval.as_ref().map(|approval| approval.decision).filter(|made| *made != Decision::Allowed);
        if refused.is_some() && record.kind == Kind::Result {
            refuse(&mut call);
        }
        call.circumstances.approval = approval;
        if let Some(program) = record.program {
            call.circumstances.sources = vec![source_of(program)];
        }
        call.model = options.model.clone().or(call.model);
        let unnamed = || format!("{IMPORTED}{}", began.unsealed);
        call.conversation_id = options.conversation.clone().or_else(|| session.clone()).unwrap_or_else(unnamed);
        let source = match &session {
            Some(session) => Source { session: format!("logs of {session}"), ..Source::default() },
            None => began.source("logs of"),
        };
        imported.push(call, record.at.place(), source, options);
    }
    Ok(())
}

fn collect<'a>(export: &At<'a>, records: &mut Vec<Record<'a>>, not_taken: &mut Vec<NotTaken>) {
    for of_resource in export.items("resourceLogs") {
        let resource = of_resource.member("resource").map(|at| attributes(&at, not_taken)).unwrap_or_default();
        for of_scope in of_resource.items("scopeLogs").chain(of_resource.items("instrumentationLibraryLogs")) {
            for at in of_scope.items("logRecords") {
                let attributes = attributes(&at, not_taken);
                if let Some((kind, program)) = kind(&at, &attributes) {
                    records.push(Record { at, attributes, resource: resource.clone(), kind, program });
                }
            }
        }
    }
}

/// What an entry says of a call of which telemetry of this program tells.
pub(super) fn source_of(program: &str) -> entry::Source {
    entry::Source { program: Some(program.to_owned()), ..entry::Source::new(SourceKind::Import) }
}

fn attributes(at: &At<'_>, not_taken: &mut Vec<NotTaken>) -> BTreeMap<String, Json> {
    let mut all = BTreeMap::new();
    for attribute in at.items("attributes") {
        let (Some(key), Some(value)) = (attribute.str("key"), attribute.member("value")) else { continue };
        match any_value(&value, &Path::root(), &mut Vec::new()) {
            Ok(value) => _ = all.insert(key.to_owned(), value),
            Err(e) if GIVEN.contains(&key) || SAID.contains(&key) => {
                let (place, why) = (attribute.place(), e.to_string());
                not_taken.push(NotTaken { place, kind: Untaken::Call, call_id: None, why });
            }
            Err(_) => {}
        }
    }
    all
}

fn bare<'n>(name: &'n str, program: &str) -> Option<&'n str> {
    name.strip_prefix(program)?.strip_prefix('.')
}

/// What a record is about, and whose it is, by the name of its event.
fn kind(at: &At<'_>, attributes: &BTreeMap<String, Json>) -> Option<(Kind, Option<&'static str>)> {
    let body = at.member("body").and_then(|body| body.str("stringValue"));
    let own = attributes.get("event.name").and_then(Json::as_str);
    let names = [at.str("eventName"), own, body];
    let of_program = |name| PROGRAMS.iter().find_map(|(program, own)| Some((bare(name, program)?, *own)));
    let program = names.into_iter().flatten().find_map(of_program).map(|(_, own)| own);
    let kind = names.into_iter().flatten().find_map(|name| {
        let bare = of_program(name).map_or(name, |(bare, _)| bare);
        if RESULTS.contains(&bare) { Some(Kind::Result) } else { DECISIONS.contains(&bare).then_some(Kind::Decision) }
    });
    Some((kind?, program))
}

fn first(attributes: &BTreeMap<String, Json>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match attributes.get(*key)? {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        number @ Json::Number(_) => Some(number.to_canonical().as_str().to_owned()),
        _ => None,
    })
}

fn approval(record: &Record<'_>) -> Option<Approval> {
    let said = first(&record.attributes, &["decision", "decision_type"])?;
    let source = first(&record.attributes, &["source", "decision_source"]);
    Some(Approval { source, ..Approval::new(decision(&said)?) })
}

/// What was decided about a call.
pub(super) fn decision(said: &str) -> Option<Decision> {
    Some(match said.to_ascii_lowercase().as_str() {
        "accept" | "approved" | "approve" | "allow" | "auto_accept" | "modify" | "approved_for_session" => {
            Decision::Allowed
        }
        "reject" | "denied" | "deny" | "rejected" | "timed_out" => Decision::Denied,
        "abort" | "cancelled" | "cancel" => Decision::Cancelled,
        _ => return None,
    })
}

/// The call that a record tells of, but for its conversation.
fn call(record: &Record<'_>, user: String) -> Option<ToolCall> {
    let all = &record.attributes;
    let mut call = ToolCall::new("", user, first(all, TOOLS)?).backfilled();
    call.call_id = first(all, IDS);
    call.model = first(all, &["model", "gen_ai.request.model"]);
    call.agent_id = first(all, &["agent_id", "agent.name", "gen_ai.agent.name"]);
    call.tool_server = first(all, &["mcp_server_name", "mcp_server"]);
    call.circumstances.prompt_id = first(all, &["prompt.id", "prompt_id"]);
    let id = |key: &str| record.at.str(key).map(str::to_owned);
    (call.circumstances.trace_id, call.circumstances.span_id) = (id("traceId"), id("spanId"));
    let written = ended_at(record);
    call.duration_ms = number(all, &["duration_ms", "duration"]).filter(|ms| *ms >= 0.0);
    // A record is written when the call is over.
    call.timestamp = match (written, call.duration_ms) {
        (Some(written), Some(ms)) => Some(written.minus(std::time::Duration::from_secs_f64((ms / 1e3).min(1e9)))),
        (written, _) => written,
    };
    if let Some(given) = given(all) {
        let parsed = given.as_str().and_then(|text| answer::parsed(text, "arguments"));
        let (value, restated) = parsed.unwrap_or_else(|| (given.clone(), Vec::new()));
        call.arguments = Some(value);
        call.restated.extend(restated);
    }
    if record.kind == Kind::Decision {
        call.outcome = Some(Outcome::Denied);
        return Some(call);
    }
    ended(all, &mut call);
    record::mark(&mut call, "time_from", "end of the call");
    Some(call)
}

/// What the tool was given: the first attribute that says something. Claude Code's account of a shell command has other names than its
/// input, and of other tools nothing of it.
fn given(all: &BTreeMap<String, Json>) -> Option<Json> {
    let first = telling(all, GIVEN)?;
    if all.get("tool_parameters") != Some(first) {
        return Some(first.clone());
    }
    let read = answer::read(first);
    let Some(members) = read.as_object() else { return Some(first.clone()) };
    if members.get("mcp_tool_name").is_some() || members.get("skill_name").is_some() {
        return None;
    }
    let Some(command) = members.get("full_command") else { return Some(first.clone()) };
    let mut own = Object::from_iter([("command", command.clone())]);
    let is_own = |key: &str| !matches!(key, "full_command" | "bash_command" | "git_commit_id");
    members.iter().filter(|(key, _)| is_own(key)).for_each(|(key, value)| _ = own.insert(key, value.clone()));
    Some(own.into())
}

/// The first of these attributes that says something, else the first that is there.
fn telling<'r>(all: &'r BTreeMap<String, Json>, keys: &[&str]) -> Option<&'r Json> {
    let there = || keys.iter().filter_map(|key| all.get(*key));
    there().find(|value| !is_empty(value)).or_else(|| there().next())
}

/// Sets how the call ended. Without an answer, and without a word on whether it went well, that is not known.
fn ended(all: &BTreeMap<String, Json>, call: &mut ToolCall) {
    let mut signs = Signs::default();
    match all.get("success") {
        Some(Json::Bool(done)) => signs.add("success", if *done { Outcome::Ok } else { Outcome::ToolError }),
        Some(Json::String(said)) if said.eq_ignore_ascii_case("true") => signs.add("success", Outcome::Ok),
        Some(Json::String(said)) if said.eq_ignore_ascii_case("false") => signs.add("success", Outcome::ToolError),
        _ => {}
    }
    let error = first(all, &["error", "error_message", "error.message"]);
    let kind = first(all, &["error_type", "error.type"]);
    if error.is_some() || kind.is_some() {
        signs.add("error", Outcome::ToolError);
    }
    let failed = signs.failed();
    let mut answer = match telling(all, SAID) {
        Some(Json::String(text)) => Answer::text(text.clone(), failed),
        Some(value) => Answer::value((value.clone(), Vec::new()), failed),
        None if failed == Some(true) => {
            let message = error.clone().or_else(|| kind.clone()).unwrap_or_else(|| "unspecified error".to_owned());
            Answer::error(kind, message)
        }
        None if failed == Some(false) => Answer { outcome: Some(Outcome::Ok), ..Answer::default() },
        None => {
            record::mark(call, "ending", "the record does not say how the call ended");
            Answer { outcome: Some(Outcome::Abandoned), ..Answer::default() }
        }
    };
    answer.ended(signs);
    answer.put_into(call);
    if let Some(error) = error {
        let is_said = matches!(&call.result, Some(CallResult::Error(own)) if own.message.contains(&error));
        if !is_said {
            call.session_metadata.insert("error_message", error);
        }
    }
}

/// A call that was decided against did not run, whatever the record of its end says.
fn refuse(call: &mut ToolCall) {
    let says_ok = call.outcome == Some(Outcome::Ok) || (call.outcome.is_none() && !super::failed(call));
    if says_ok {
        record::mark(call, "signs_disagree", "success says ok, the decision says denied");
    }
    call.outcome = Some(Outcome::Denied);
}

fn number(all: &BTreeMap<String, Json>, keys: &[&str]) -> Option<f64> {
    keys.iter().find_map(|key| {
        let value = all.get(*key)?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| number.is_finite())
    })
}

/// When the record was written.
fn ended_at(record: &Record<'_>) -> Option<Timestamp> {
    let own = first(&record.attributes, &["event.timestamp"]).and_then(|text| text.parse::<Timestamp>().ok());
    let nanos = |key| nanos(&record.at, key).ok().flatten().filter(|time| time.nanos() > 0);
    own.or_else(|| nanos("timeUnixNano")).or_else(|| nanos("observedTimeUnixNano"))
}

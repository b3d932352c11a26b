//! OpenTelemetry traces in OTLP/JSON: the spans of executed tools.
//!
//! A tool's span gives the tool's arguments and result. The user, the conversation and the model are usually on the
//! spans around it, so those are read too. A parent may be exported after its children, on another line of the file, so
//! all spans are collected before the first is read. `dialects` knows the attribute names of the different dialects.

use super::answer::{self, Answer};
use super::asked::{self, Executed};
use super::attributes::{attribute, attribute_text, first_of, nanos};
use super::beginning::{Beginning, Beginnings};
use super::dialects::{self, Told, unquoted};
use super::file::{At, Read};
use super::identity::Source;
use super::{ImportOptions, Imported, NotTaken, SAY_USER, Untaken, otlp_logs, record};
use crate::ended::Signs;
use attestlog::CallResult;
use attestlog::entry::failure::is_called;
use attestlog::entry::{Approval, CallError, Decision};
use attestlog::json::{Json, Object};
use attestlog::{Hash, IMPORTED, Outcome, Result, ToolCall};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The most ancestors of a span that are searched: more than agents nest, and a bound if the parent links form a cycle.
const MAX_ANCESTORS: usize = 64;

/// Trace id and span id.
type SpanId<'a> = (&'a str, &'a str);

struct Span<'a> {
    at: At<'a>,
    id: SpanId<'a>,
    parent: Option<&'a str>,
    resource: Option<At<'a>>,
}

/// A call, its place and source, and what was not understood in its span.
struct Call {
    call: ToolCall,
    place: String,
    source: Source,
    unread: Vec<NotTaken>,
}

pub(super) fn read(file: &Read, text: &[u8], options: &ImportOptions) -> Result<Imported> {
    let mut spans = Vec::new();
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.for_each(|export| collect(&export, &mut spans)),
            None => collect(&root, &mut spans),
        }
    }
    let (mut began, beginnings) = (Beginning::default(), Beginnings::new(options)?);
    for document in &file.documents {
        began = beginnings.next(&began, document.value(), None)?;
    }
    let began =
        Beginning { all: Hash::of(text), unsealed: if beginnings.seal() { began.unsealed } else { Hash::of(text) } };
    let (by_id, parts) = (HashMap::new(), HashMap::new());
    let mut trace = Trace { spans: &spans, by_id, parts, options, file: began };
    let (mut calls, mut others) = (Vec::new(), Vec::new());
    let (mut executed, mut at, mut changed) = (Executed::default(), HashMap::new(), Vec::new());
    for (i, span) in spans.iter().enumerate() {
        if is_repeated(&mut trace, span, i) {
            span.at.take();
            continue;
        }
        let told = is_tool(&span.at).and_then(|is_tool| {
            let is_new = is_tool && !is_same(span, &mut calls, &mut at, &mut changed)?;
            Ok((is_tool, is_new, if is_new { first_of(&span.at, IDS)? } else { None }))
        });
        match told {
            // How long such a call waited for its permission, and ran.
            Ok((false, ..)) if span.at.str("name").is_some_and(|name| name.starts_with("claude_code.tool.")) => {
                span.at.take();
                trace.parts.entry((span.id.0, span.parent.unwrap_or_default())).or_default().push(&span.at);
            }
            Ok((false, ..)) => others.push((span.id.0, &span.at)),
            Ok((true, is_new, id)) => {
                span.at.take();
                if is_new {
                    executed.add(span.id.0, id, tool(&span.at).unwrap_or_default());
                    calls.push(span);
                }
            }
            Err(e) => changed.push(spoiled(span, &e)),
        }
    }
    let mut read = Vec::new();
    for span in calls {
        // Who made the calls concerns all of them, and is for the user to say; anything else only this one.
        trace.user(span)?;
        match trace.call(span) {
            Ok(call) => read.push(call),
            Err(e) => changed.push(spoiled(span, &e)),
        }
    }
    // Spans are exported in the order of their ends; sort the calls by when they began.
    read.sort_by_key(|Call { call, .. }| call.timestamp);
    let mut imported = Imported { not_taken: changed, ..Imported::default() };
    for Call { call, place, source, unread } in read {
        imported.push(call, place, source, options);
        imported.not_taken.extend(unread);
    }
    imported.not_taken.extend(asked::without_span(&others, &executed));
    otlp_logs::read(file, options, began, &mut imported)?;
    Ok(imported)
}

/// A span that cannot be read.
fn spoiled(span: &Span<'_>, e: &attestlog::Error) -> NotTaken {
    span.at.take();
    NotTaken { place: span.at.place(), kind: Untaken::Call, call_id: None, why: e.to_string() }
}

/// Whether the file already has this span: exported once while it ran, or again with later information. Of two exports
/// the ended one is kept; of two ended ones the later. `changed` reports the other if its result differs. `at` maps a
/// span's id to its index in `calls`.
fn is_same<'s, 'a>(
    span: &'s Span<'a>,
    calls: &mut [&'s Span<'a>],
    at: &mut HashMap<SpanId<'a>, usize>,
    changed: &mut Vec<NotTaken>,
) -> Result<bool> {
    if span.id.1.is_empty() {
        return Ok(false);
    }
    let before = *at.entry(span.id).or_insert(calls.len());
    let Some(first) = calls.get_mut(before) else { return Ok(false) };
    if nanos(&first.at, "startTimeUnixNano")? != nanos(&span.at, "startTimeUnixNano")?
        || tool(&first.at)? != tool(&span.at)?
    {
        return Ok(false);
    }
    let runs = |span: &Span<'_>| Ok::<_, attestlog::Error>(nanos(&span.at, "endTimeUnixNano")?.is_none());
    let (was, is) = (runs(first)?, runs(span)?);
    if !was && !is {
        let (before, now) = (dialects::told(&first.at)?, dialects::told(&span.at)?);
        if let (Some(one), Some(other)) = (&before.arguments, &now.arguments)
            && one != other
        {
            return Ok(false);
        }
        let end = |span: &Span<'_>, told| {
            let mut call = ToolCall::new("", "", "");
            outcome(&span.at, true, told, &mut call).map(|()| call)
        };
        if end(first, before)? != end(span, now)? {
            let why = format!("is the span of {} with another answer; the later was kept", span.at.place());
            let call_id = first_of(&first.at, IDS)?;
            changed.push(NotTaken { place: first.at.place(), kind: Untaken::Answer, call_id, why });
        }
    }
    if was || !is {
        *first = span;
    }
    Ok(true)
}

/// Whether an identical span came before. A span with a new id is stored under that id.
fn is_repeated<'a>(trace: &mut Trace<'a>, span: &Span<'a>, index: usize) -> bool {
    if span.id.1.is_empty() {
        return false;
    }
    match trace.by_id.entry(span.id) {
        Entry::Occupied(first) => trace.spans.get(*first.get()).is_some_and(|s| s.at.value == span.at.value),
        Entry::Vacant(new) => {
            new.insert(index);
            false
        }
    }
}

fn collect<'a>(export: &At<'a>, spans: &mut Vec<Span<'a>>) {
    // Tempo calls them batches, and wraps them.
    let wrapped = export.member("trace").into_iter().flat_map(|trace| trace.items("resourceSpans").collect::<Vec<_>>());
    for of_resource in export.items("resourceSpans").chain(export.items("batches")).chain(wrapped) {
        let resource = of_resource.member("resource");
        for of_scope in of_resource.items("scopeSpans").chain(of_resource.items("instrumentationLibrarySpans")) {
            for at in of_scope.items("spans").filter(|at| at.value.as_object().is_some()) {
                let id = (at.str("traceId").unwrap_or_default(), at.str("spanId").unwrap_or_default());
                let parent = at.str("parentSpanId");
                spans.push(Span { at, id, parent, resource: resource.clone() });
            }
        }
    }
}

/// The attributes and values that mark a span as a tool's, by dialect.
const TOOLS: &[(&str, &str)] = &[
    ("gen_ai.operation.name", "execute_tool"),
    ("gen_ai.operation.name", "tool"),
    ("mcp.method.name", "tools/call"),
    ("openinference.span.kind", "tool"),
    ("traceloop.span.kind", "tool"),
    ("langsmith.span.kind", "tool"),
    ("langfuse.observation.type", "tool"),
    ("ai.operationId", "ai.toolCall"),
    ("mlflow.spanType", "tool"),
    ("agentops.span.kind", "tool"),
    ("gen_ai.span.kind", "tool"),
    ("span.type", "tool"),
];
/// Attributes that hold the tool's name, in order of preference.
const NAMES: &[&str] = &[
    "gen_ai.tool.name",
    "tool.name",
    "ai.toolCall.name",
    "traceloop.entity.name",
    "tool_name",
    "agentops.tool.name",
    "mcp.tool.name",
];
const IDS: &[&str] = &[
    "gen_ai.tool.call.id",
    "ai.toolCall.id",
    "tool_call.id",
    "tool_use_id",
    "tool.call_id",
    "gen_ai.tool.call_id",
    "tool_call_id",
];
pub(super) const SESSIONS: &[&str] = &[
    "gen_ai.conversation.id",
    "session.id",
    "conversation.id",
    "langfuse.session.id",
    "gcp.vertex.agent.session_id",
    "langsmith.metadata.session_id",
    "langsmith.metadata.thread_id",
    "langsmith.trace.session_id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "ai.telemetry.metadata.sessionId",
    "mlflow.trace.session",
    "thread.id",
];
pub(super) const USERS: &[&str] = &[
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "langsmith.metadata.user_id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
    "gcp.vertex.agent.user_id",
    "mlflow.trace.user",
    "user.email",
    "user.account_uuid",
    "user.account_id",
];
const AGENTS: &[&str] = &["gen_ai.agent.id", "gen_ai.agent.name", "agent.name", "agent_id"];
/// Prefixes of the tool's name in the span's own name.
const OPERATIONS: &[&str] = &["execute_tool ", "tools/call "];
/// The name of a tool's span of Claude Code, which has the tool's name in an attribute.
const CLAUDE_CODE: &str = "claude_code.tool";

fn is_tool(span: &At<'_>) -> Result<bool> {
    for (key, value) in TOOLS {
        if attribute_text(span, key)?.is_some_and(|text| unquoted(&text).eq_ignore_ascii_case(value)) {
            return Ok(true);
        }
    }
    // Without an operation, the span's name or a tool name decides.
    if attribute_text(span, "gen_ai.operation.name")?.is_some() {
        return Ok(false);
    }
    let name = span.opt_text("name")?.unwrap_or_default();
    let named = name == CLAUDE_CODE || OPERATIONS.iter().any(|operation| name.starts_with(operation));
    Ok(named || first_of(span, &["gen_ai.tool.name", "ai.toolCall.name"])?.is_some())
}

struct Trace<'a> {
    spans: &'a [Span<'a>],
    by_id: HashMap<SpanId<'a>, usize>,
    /// The spans of Claude Code for the parts of a call, by the span of the call: the wait for its permission, the tool's run.
    parts: HashMap<SpanId<'a>, Vec<&'a At<'a>>>,
    options: &'a ImportOptions,
    file: Beginning,
}

impl<'a> Trace<'a> {
    fn call(&self, span: &Span<'a>) -> Result<Call> {
        let at = &span.at;
        let mut call = ToolCall::new(self.conversation(span)?, self.user(span)?, tool(at)?).backfilled();
        call.model = match &self.options.model {
            Some(model) => Some(model.clone()),
            None => self.nearest(span, &["gen_ai.response.model", "gen_ai.request.model"])?,
        };
        (call.agent_id, call.circumstances.parent_agent_id) = self.agents(span)?;
        call.circumstances.parent_call_id = self.calling(span)?;
        if at.str("name") == Some(CLAUDE_CODE) {
            call.circumstances.sources = vec![otlp_logs::source_of("claude-code")];
        }
        call.call_id = first_of(at, IDS)?;
        let id = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        (call.circumstances.trace_id, call.circumstances.span_id) = (id(span.id.0), id(span.id.1));
        let (start, end) = (nanos(at, "startTimeUnixNano")?, nanos(at, "endTimeUnixNano")?);
        call.timestamp = start.or(end);
        if start.is_none() && end.is_some() {
            record::mark(&mut call, "time_from", "end of the span");
        }
        // If the clock was set back meanwhile, there is no valid duration.
        if let (Some(start), Some(end)) = (start, end)
            && end >= start
        {
            call.duration_ms = Some(end.since(start).as_nanos() as f64 / 1e6);
        }
        let mut told = dialects::told(at)?;
        if let Some((value, restated)) = told.arguments.take() {
            let parsed = value.as_str().and_then(|text| answer::parsed(text, "arguments"));
            let (value, inside) = parsed.unwrap_or_else(|| (value, Vec::new()));
            call.arguments = Some(value);
            call.restated = restated;
            call.restated.extend(inside);
        }
        let unread = std::mem::take(&mut told.unread);
        outcome(at, end.is_some(), told, &mut call)?;
        self.parts_say(span, &mut call)?;
        // If the answer was not understood, success cannot be claimed.
        if call.result.is_none()
            && call.outcome == Some(Outcome::Ok)
            && status(at)?.0 != 1
            && unread.iter().any(|one| one.kind == Untaken::Answer)
        {
            call.outcome = Some(Outcome::Abandoned);
            record::mark(&mut call, "answer", "not understood");
        }
        let source = match span.id {
            // Only the file distinguishes this span from others.
            (_, "") if call.call_id.is_none() && call.timestamp.is_none() => self.file.source("spans of"),
            // Of the file, whatever `--conversation` says.
            (_, "") => {
                let session = self.nearest(span, SESSIONS)?.unwrap_or_default();
                Source { session: format!("conversation {session}"), ..Source::default() }
            }
            (trace, id) => Source { session: format!("trace {trace}"), id: Some(id.to_owned()), ..Source::default() },
        };
        let call_id = &call.call_id;
        let unread = unread.into_iter().map(|one| NotTaken { call_id: call_id.clone(), ..one }).collect();
        Ok(Call { call, place: at.place(), source, unread })
    }

    /// Adds what the spans for the parts of a call say: whether it was allowed, and whether the tool's run went well.
    fn parts_say(&self, span: &Span<'a>, call: &mut ToolCall) -> Result<()> {
        let mut answer = Answer::default();
        for part in self.parts.get(&span.id).map(Vec::as_slice).unwrap_or_default() {
            let mut signs = Signs::default();
            let said = attribute(part, "success", "success")?.map(|(said, _)| said);
            let is = |word: &str| said.as_ref().and_then(Json::as_str) == Some(word);
            let says_ok = said == Some(Json::Bool(true)) || is("true");
            let error = first_of(part, &["error", "error.message"])?;
            if said == Some(Json::Bool(false)) || is("false") || status(part)?.0 == 2 || (error.is_some() && !says_ok) {
                signs.add("success", Outcome::ToolError);
                signs.error =
                    Some(CallError { kind: None, message: error.unwrap_or_else(|| "unspecified error".to_owned()) });
            }
            let decision = attribute_text(part, "decision")?;
            if let Some(made) = decision.as_deref().and_then(otlp_logs::decision) {
                let source = attribute_text(part, "source")?;
                call.circumstances.approval = Some(Approval { source, ..Approval::new(made) });
                if made != Decision::Allowed {
                    signs.add("decision", Outcome::Denied);
                }
            }
            answer.ended(signs);
        }
        if let Some(outcome) = answer.outcome {
            answer.outcome =
                Some(outcome).filter(|_| !matches!(call.outcome, Some(Outcome::Denied | Outcome::Timeout)));
            answer.outcome = answer.outcome.or(call.outcome);
            // The span's own answer stays.
            if call.result.is_some() {
                answer.result = call.result.take();
            }
            answer.put_into(call);
        }
        Ok(())
    }

    fn conversation(&self, span: &Span<'a>) -> Result<String> {
        if let Some(id) = &self.options.conversation {
            return Ok(id.clone());
        }
        Ok(match (self.nearest(span, SESSIONS)?, span.id.0) {
            (Some(id), _) => id,
            (None, "") => format!("{IMPORTED}{}", self.file.unsealed),
            (None, trace) => format!("trace-{trace}"),
        })
    }

    /// The agent in which the call was made, and the one that started it: the next other one around it.
    fn agents(&self, span: &Span<'a>) -> Result<(Option<String>, Option<String>)> {
        let (mut agent, mut at) = (None, span);
        for _ in 0..=MAX_ANCESTORS {
            match (first_of(&at.at, AGENTS)?, &agent) {
                (Some(found), None) => agent = Some(found),
                (Some(found), Some(own)) if found != *own => return Ok((agent, Some(found))),
                _ => {}
            }
            let Some(parent) = self.parent(at) else { break };
            at = parent;
        }
        Ok((agent, None))
    }

    /// The id of the call in which this one was made: that of the nearest tool's span around it.
    fn calling(&self, span: &Span<'a>) -> Result<Option<String>> {
        let mut at = span;
        for _ in 0..=MAX_ANCESTORS {
            let Some(parent) = self.parent(at) else { break };
            if is_tool(&parent.at)? {
                return first_of(&parent.at, IDS);
            }
            at = parent;
        }
        Ok(None)
    }

    fn parent(&self, span: &Span<'a>) -> Option<&Span<'a>> {
        let index = self.by_id.get(&(span.id.0, span.parent?))?;
        self.spans.get(*index)
    }

    fn user(&self, span: &Span<'a>) -> Result<String> {
        if let Some(user) = &self.options.user {
            return Ok(user.clone());
        }
        if let Some(user) = self.nearest(span, USERS)? {
            return Ok(user);
        }
        if let Some(resource) = &span.resource
            && let Some(user) = first_of(resource, USERS)?
        {
            return Ok(user);
        }
        let message =
            "no user is known, neither user.id nor enduser.id stands on the span, around it or on its resource";
        Err(span.at.error(format!("{message}: {SAY_USER}")))
    }

    /// The first of `keys` that the span itself has, else the nearest span around it.
    fn nearest(&self, span: &Span<'a>, keys: &[&str]) -> Result<Option<String>> {
        let mut at = span;
        for _ in 0..=MAX_ANCESTORS {
            if let Some(found) = first_of(&at.at, keys)? {
                return Ok(Some(found));
            }
            match self.parent(at) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        Ok(None)
    }
}

/// The tool's name: an attribute, else the part of the span's name after the operation.
fn tool(span: &At<'_>) -> Result<String> {
    if let Some(name) = first_of(span, NAMES)? {
        return Ok(name);
    }
    let name = span.opt_text("name")?.unwrap_or_default();
    let tool = OPERATIONS.iter().find_map(|operation| name.strip_prefix(operation));
    // In these dialects the span's name is the tool's name.
    let own = ["openinference.span.kind", "langsmith.span.kind", "langfuse.observation.type", "mlflow.spanType"];
    let own = if first_of(span, &own)?.is_some() { Some(name) } else { None };
    tool.or(own)
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| span.error("the attribute gen_ai.tool.name is missing"))
}

/// The status code of the span, and its message. Writers that deviate from OTLP give the bare code, or call it
/// `status_code`.
fn status(span: &At<'_>) -> Result<(u8, Option<String>)> {
    let member = |at: &At<'_>, plain: &[&str]| {
        let members = at.value.as_object().into_iter().flat_map(Object::iter);
        let mut named = members.filter(|(name, _)| plain.iter().any(|plain| is_called(name, plain)));
        named.find(|(_, value)| **value != Json::Null).map(|(name, _)| name.to_owned())
    };
    let Some(at) = member(span, &["status"]).and_then(|name| span.member(&name)) else { return Ok((0, None)) };
    if at.value.as_object().is_none() {
        return Ok((code(&at)?, None));
    }
    let message = match member(&at, &["message", "description"]) {
        Some(name) => at.opt_text(&name)?.filter(|text| !text.is_empty()).map(str::to_owned),
        None => None,
    };
    match member(&at, &["code", "statuscode"]).and_then(|name| at.member(&name)) {
        Some(own) => Ok((code(&own)?, message)),
        None if message.is_some() || super::detect::is_zero(at.value) => Ok((0, message)),
        None => Err(at.error("must have a code: 0 (unset), 1 (ok) or 2 (error)")),
    }
}

fn code(at: &At<'_>) -> Result<u8> {
    let text = at.value.as_str().map(str::to_ascii_uppercase);
    let word = text.as_deref().map(|text| text.strip_prefix("STATUS_CODE_").unwrap_or(text));
    match (at.value.as_i64(), word) {
        (Some(0), _) | (_, Some("UNSET" | "0" | "")) => Ok(0),
        (Some(1), _) | (_, Some("OK" | "1")) => Ok(1),
        (Some(2), _) | (_, Some("ERROR" | "2")) => Ok(2),
        _ => Err(at.error("must be 0 (unset), 1 (ok) or 2 (error)")),
    }
}

/// Sets the call's result and outcome from whether the span ended, its status, its `error.type`, the failure marks of
/// other dialects, its exception and the tool's result.
fn outcome(span: &At<'_>, ended: bool, told: Told, call: &mut ToolCall) -> Result<()> {
    let (code, message) = status(span)?;
    let mut kind = attribute_text(span, "error.type")?;
    // An exception that was recorded on a span whose status is ok was handled.
    let failed = code == 2 || kind.is_some() || told.failed || (told.raised && code != 1);
    let expressly = match (failed, code) {
        (true, _) => Some(true),
        (false, 1) => Some(false),
        (false, _) => None,
    };
    let result = told.result;
    if !failed {
        match result {
            Some(result) => said(result, expressly).put_into(call),
            // Writers record results only if configured to: a missing result says nothing.
            None if ended || code == 1 => call.outcome = Some(Outcome::Ok),
            // A span that never ended shows only that the call began.
            None => call.outcome = Some(Outcome::Abandoned),
        }
        return Ok(());
    }
    let (raised, says) = dialects::exception(span)?;
    let message = message.or(told.message).or(says);
    kind = kind.or(raised);
    let timeout = kind.as_deref() == Some("timeout");
    match result {
        None => {
            let message = message.or(kind.clone()).unwrap_or_else(|| "unspecified error".to_owned());
            Answer::error(kind, message).put_into(call);
        }
        Some(result) => {
            let mut answer = said(result, expressly);
            // An error holds one text; the rest of what the span says goes into the metadata, so that nothing is lost.
            let kind = match &mut answer.result {
                Some(CallResult::Error(CallError { kind: place, .. })) => {
                    *place = kind;
                    None
                }
                _ => kind,
            };
            answer.put_into(call);
            for (key, text) in [("error_type", kind), ("error_message", message)] {
                if let Some(text) = text {
                    call.session_metadata.insert(key, text);
                }
            }
        }
    }
    if timeout {
        call.outcome = Some(Outcome::Timeout);
    }
    Ok(())
}

fn said((value, restated): (Json, Vec<String>), failed: Option<bool>) -> Answer {
    match answer::text(&value) {
        Some(text) => Answer::text(text, failed).restating(&restated),
        None => Answer::value((value, restated), failed),
    }
}

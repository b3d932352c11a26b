//! What surrounds a call, as a host gives it: its JSON, its normal form, and what is refused.
//!
//! Invariant R93: who told of a call and which process recorded it are said only by parts of this program: no input has the members
//! `sources`, `peer`, `detail_of` and `contradicts`, and what another process sends has no `peer`.

use super::ToolCall;
use super::input::{CallLimits, check_text};
use super::record::{named, text, time, wrong_type};
use crate::json::{Json, Object};
use crate::redact::{Altered, normalise};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::entry::{Approval, Circumstances, Decision, Digests, Peer, Resource, SHA256, Source, SourceKind};
use attestlog_proof::names::lower_hex;

/// The most sources that one entry names.
const SOURCES: usize = 16;

/// The members of a call that a source can add or contradict.
const MEMBERS: &[&str] = &[
    "agent_id",
    "approval",
    "arguments",
    "call_id",
    "call_trigger",
    "digests",
    "duration_ms",
    "error",
    "model",
    "outcome",
    "parent_agent_id",
    "parent_call_id",
    "patient_ids",
    "prompt_id",
    "purpose",
    "resources",
    "result_summary",
    "session_metadata",
    "span_id",
    "timestamp",
    "tool_server",
    "trace_id",
    "turn_number",
    "user_id",
];

impl ToolCall {
    /// The distributed trace that the call belongs to, and its span in it. Ids of OpenTelemetry are kept in lower case.
    pub fn trace(mut self, trace_id: impl Into<String>, span_id: Option<&str>) -> Self {
        self.circumstances.trace_id = Some(trace_id.into());
        self.circumstances.span_id = span_id.map(str::to_owned);
        self
    }

    /// The host's id of the prompt that led to the call.
    pub fn prompt(mut self, id: impl Into<String>) -> Self {
        self.circumstances.prompt_id = Some(id.into());
        self
    }

    /// The agent that started this agent, and the provider's id of the call in which it did.
    pub fn parent(mut self, agent_id: impl Into<String>, call_id: Option<&str>) -> Self {
        self.circumstances.parent_agent_id = Some(agent_id.into());
        self.circumstances.parent_call_id = call_id.map(str::to_owned);
        self
    }

    /// Who allowed or refused the call.
    pub fn approval(mut self, approval: Approval) -> Self {
        self.circumstances.approval = Some(approval);
        self
    }

    /// Digests of what was in force when the call was made.
    pub fn digests(mut self, digests: Digests) -> Self {
        self.circumstances.digests = digests;
        self
    }

    /// Something that the call read or changed: `file` and a path, `table` and a name, `url` and an address.
    pub fn resource(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.circumstances.resources.push(Resource { kind: kind.into(), name: name.into() });
        self
    }

    /// Adds one who told of the call. Without any, the call counts as described by its host.
    ///
    /// ```
    /// use attestlog::entry::{Source, SourceKind};
    /// use attestlog::{AuditLog, ToolCall};
    /// let log = AuditLog::in_memory()?;
    /// let seen = log.record(ToolCall::new("c", "u", "Bash").source(Source::new(SourceKind::Hook)))?;
    /// let told = ToolCall::new("c", "u", "Bash").source(Source::new(SourceKind::Session)).model("opus").detail_of(seen.seq);
    /// let entry = log.entry(log.record(told)?.seq)?;
    /// assert_eq!(entry.call().unwrap().detail_of(), Some(seen.seq));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn source(mut self, source: Source) -> Self {
        self.circumstances.sources.push(source);
        self
    }

    /// Makes this what another source tells later of the call at this seq, which is in the log: an entry of its own that counts as
    /// no call. It has the conversation, user and tool of that call, at least one [source](ToolCall::source), and whatever it adds.
    pub fn detail_of(mut self, seq: u64) -> Self {
        self.detail_of = Some(seq);
        self
    }

    /// In details of a call: the members for which their source tells something else than the log has.
    pub fn contradicts<M: Into<String>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.circumstances.contradicts.extend(members.into_iter().map(Into::into));
        self
    }

    /// The first who told of the call; `None` if a host describes it.
    pub(crate) fn first_source(&self) -> Option<SourceKind> {
        self.circumstances.first_source()
    }
}

/// The members that input has, in their JSON form.
pub(super) fn to_json(around: &Circumstances) -> Vec<(&'static str, Option<Json>)> {
    // Without `..`: a member that is added needs a place here, or the reason why it has none.
    let Circumstances {
        trace_id,
        span_id,
        prompt_id,
        parent_agent_id,
        parent_call_id,
        approval,
        digests,
        resources,
        // Only this library sets these; a call that has them has no JSON form.
        sources: _,
        peer: _,
        contradicts: _,
        duration_ms: _,
    } = around;
    let text = |text: &Option<String>| text.as_deref().map(Json::from);
    let approval = approval.as_ref().map(|Approval { decision, by, source, asked_at, answered_at }| {
        let members = [
            ("decision", Some(decision.as_str().into())),
            ("by", text(by)),
            ("source", text(source)),
            ("asked_at", asked_at.map(|at| at.to_string().into())),
            ("answered_at", answered_at.map(|at| at.to_string().into())),
        ];
        present(members).into()
    });
    let digests =
        present(digests.named().map(|(name, hash)| (name, hash.map(|hash| format!("{SHA256}{hash}").into()))));
    let resource = |Resource { name, kind }: &Resource| {
        Json::from(Object::from_iter([("kind", Json::from(kind.as_str())), ("name", name.as_str().into())]))
    };
    let resources: Vec<Json> = resources.iter().map(resource).collect();
    vec![
        ("trace_id", text(trace_id)),
        ("span_id", text(span_id)),
        ("prompt_id", text(prompt_id)),
        ("parent_agent_id", text(parent_agent_id)),
        ("parent_call_id", text(parent_call_id)),
        ("approval", approval),
        ("digests", (!digests.is_empty()).then(|| digests.into())),
        ("resources", (!resources.is_empty()).then(|| resources.into())),
    ]
}

/// The members of [`said_around`].
pub(crate) const SAID_AROUND: &[&str] = &[
    "trace_id",
    "span_id",
    "prompt_id",
    "parent_agent_id",
    "parent_call_id",
    "approval",
    "digests",
    "resources",
    "contradicts",
    "duration_ms",
];

/// What is told of a call in this way, by member, without who told it and which process recorded it: a later version of a source
/// may tell the same again.
pub(crate) fn said_around(around: &Circumstances) -> Object {
    let mut said: Object = to_json(around).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if !around.contradicts.is_empty() {
        said.insert("contradicts", around.contradicts.clone());
    }
    if let Some(ms) = around.duration_ms {
        said.insert("duration_ms", ms);
    }
    said
}

fn present<const N: usize>(members: [(&str, Option<Json>); N]) -> Object {
    members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Takes the value of a member; `false` if there is no such member in input.
pub(super) fn take(around: &mut Circumstances, key: &str, value: Json) -> Result<bool> {
    match key {
        "trace_id" => around.trace_id = Some(text(value)?),
        "span_id" => around.span_id = Some(text(value)?),
        "prompt_id" => around.prompt_id = Some(text(value)?),
        "parent_agent_id" => around.parent_agent_id = Some(text(value)?),
        "parent_call_id" => around.parent_call_id = Some(text(value)?),
        "approval" => around.approval = Some(approval(value)?),
        "digests" => around.digests = digests(value)?,
        "resources" => around.resources = resources(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn approval(value: Json) -> Result<Approval> {
    let mut members = object(value)?;
    let decision = members.remove("decision").ok_or_else(|| Error::invalid("decision is missing"))?;
    let mut approval = Approval::new(named(decision, Decision::ALL).map_err(|e| e.in_member("decision"))?);
    for (key, value) in members {
        let Approval { decision: _, by, source, asked_at, answered_at } = &mut approval;
        let taken = match (&*key, value) {
            (_, Json::Null) => Ok(()),
            ("by", value) => text(value).map(|value| *by = Some(value)),
            ("source", value) => text(value).map(|value| *source = Some(value)),
            ("asked_at", value) => time(value).map(|value| *asked_at = Some(value)),
            ("answered_at", value) => time(value).map(|value| *answered_at = Some(value)),
            _ => Err(unknown()),
        };
        taken.map_err(|e| e.in_member(&key))?;
    }
    Ok(approval)
}

fn digests(value: Json) -> Result<Digests> {
    let mut digests = Digests::default();
    for (key, value) in object(value)? {
        if value == Json::Null {
            continue;
        }
        let digest = digests.of_name(&key).ok_or_else(|| unknown().in_member(&key))?;
        let form = || Error::invalid("must be sha256: and 64 lower-case hexadecimal digits").in_member(&key);
        *digest = Some(text(value).ok().as_deref().and_then(Digests::parse).ok_or_else(form)?);
    }
    Ok(digests)
}

fn resources(value: Json) -> Result<Vec<Resource>> {
    let Json::Array(items) = value else { return Err(wrong_type("a list of {\"kind\",\"name\"}", &value)) };
    let one = |item: Json| {
        let mut members = object(item)?;
        let mut member = |key: &str| match members.remove(key) {
            Some(value) => text(value).map_err(|e| e.in_member(key)),
            None => Err(Error::invalid(format!("{key} is missing"))),
        };
        let resource = Resource { name: member("name")?, kind: member("kind")? };
        match members.iter().next() {
            Some((key, _)) => Err(unknown().in_member(key)),
            None => Ok(resource),
        }
    };
    items.into_iter().map(one).collect()
}

fn object(value: Json) -> Result<Object> {
    match value {
        Json::Object(members) => Ok(members),
        other => Err(wrong_type("an object", &other)),
    }
}

fn unknown() -> Error {
    Error::invalid("is not known here, and what is unknown would be lost")
}

/// Brings what entries are found by, and names of people, into their normal form, and tells `all` what was altered.
pub(super) fn bring_into_form(around: &mut Circumstances, all: &mut Vec<(&'static str, Altered)>) {
    let Circumstances {
        trace_id,
        span_id,
        prompt_id,
        parent_agent_id,
        parent_call_id,
        approval,
        resources,
        peer,
        contradicts,
        sources,
        // Entries are not found by these.
        digests: _,
        duration_ms: _,
    } = around;
    let mut change = |member, name: &mut String| {
        let mut altered = Altered::default();
        altered.note(name);
        normalise(name);
        all.push((member, altered));
    };
    let optional = [("trace_id", &mut *trace_id), ("span_id", &mut *span_id)];
    let by = approval.as_mut().map(|approval| ("approval", &mut approval.by));
    let program = peer.as_mut().map(|peer| ("peer", &mut peer.program));
    for (member, name) in optional.into_iter().chain(by).chain(program) {
        if let Some(name) = name {
            change(member, name);
        }
        name.take_if(|name| name.is_empty());
    }
    for resource in resources.iter_mut() {
        change("resources", &mut resource.name);
    }
    for id in [trace_id, span_id].into_iter().flatten() {
        if let Some(lower) = lower_hex(id) {
            *id = lower;
        }
    }
    // Empty optional members are left out.
    [prompt_id, parent_agent_id, parent_call_id].into_iter().for_each(|id| _ = id.take_if(|id| id.is_empty()));
    resources.sort_unstable();
    resources.dedup();
    let added = sources.iter_mut().map(|source| &mut source.added);
    added.chain([contradicts]).for_each(|members| {
        members.sort_unstable();
        members.dedup();
    });
}

/// Refuses what cannot be recorded; the error names the member.
pub(super) fn validate(call: &ToolCall, limits: &CallLimits) -> Result<()> {
    let Circumstances {
        trace_id,
        span_id,
        prompt_id,
        parent_agent_id,
        parent_call_id,
        sources,
        approval,
        peer,
        resources,
        contradicts,
        // Every value is valid, or `prepare` sets it.
        digests: _,
        duration_ms: _,
    } = &call.circumstances;
    let approved = approval.iter().flat_map(|approval| [("approval", &approval.by), ("approval", &approval.source)]);
    let peer = peer.iter().map(|Peer { program, .. }| ("peer", program));
    let told = sources.iter().flat_map(|source| [("sources", &source.program), ("sources", &source.version)]);
    let ids = [
        ("trace_id", trace_id),
        ("span_id", span_id),
        ("prompt_id", prompt_id),
        ("parent_agent_id", parent_agent_id),
        ("parent_call_id", parent_call_id),
    ];
    for (member, text) in ids.into_iter().chain(approved).chain(peer).chain(told) {
        text.as_ref().map_or(Ok(()), |text| check_text(member, text, limits))?;
    }
    for (member, count, most) in [("resources", resources.len(), limits.resources), ("sources", sources.len(), SOURCES)]
    {
        if count > most {
            let message = format!("{count} of them, more than the limit of {most}");
            return Err(Error::new(ErrorKind::TooLarge, message).in_member(member));
        }
    }
    for text in resources.iter().flat_map(|Resource { name, kind }| [name, kind]) {
        if text.is_empty() {
            return Err(Error::invalid("needs a kind and a name").in_member("resources"));
        }
        check_text("resources", text, limits)?;
    }
    let added = sources.iter().flat_map(|Source { added, .. }| added).map(|name| ("sources", name));
    for (member, name) in added.chain(contradicts.iter().map(|name| ("contradicts", name))) {
        if !MEMBERS.contains(&&**name) {
            return Err(Error::invalid("names what is no member of a call that could be added").in_member(member));
        }
    }
    validate_details(call)
}

/// Refuses details that claim to be more, and a call that contradicts another without being details of it.
fn validate_details(call: &ToolCall) -> Result<()> {
    if call.detail_of.is_none() {
        return match call.circumstances.contradicts.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid("only details of a call contradict it").in_member("contradicts")),
        };
    }
    let refused = |message: &str| Err(Error::invalid(message).in_member("detail_of"));
    if call.circumstances.sources.is_empty() {
        return refused("details of a call need a source; only this program's parts can add some");
    }
    if call.follows.is_some() || call.late_answer || call.emergency || call.grant.is_some() {
        return refused("details of a call neither follow another call nor use a grant");
    }
    Ok(())
}

//! OCSF events for SIEMs, one per line, by schema 1.9.0, the first with `ai_agent` and the `record_integrity` profile.
//!
//! There are two ways from the log to events. An export ([`OcsfWriter`]) has one API Activity (class 6003) for each call, even if
//! it was recorded in two steps or its answer came late; a call that was begun and never ended has the status Unknown. Details
//! that another source told later are no event, unless they name patients, and the log's own entries are left out. A pipeline
//! ([`row`]) gets one event for each entry, its own entries included, each with the hash of the entry before it, so that a gap shows.
//!
//! What the schema has no place for is under `unmapped`, with the names used in the log's lines. Arguments and error messages
//! are left out unless requested, because a SIEM is rarely a place for health data.

mod row;

pub use row::{differing, place, row};

use super::ToolKinds;
use super::access::{Access, Context, Subject};
use super::pairing::{Pairing, Whole};
use super::tools::ToolKind;
use attestlog::entry::{Circumstances, ClaimedTime, Resource};
use attestlog::json::{Json, Number, Object};
use attestlog::{Call, Entry, Outcome, Result, Timestamp, Trigger};
use std::io::Write;
use std::net::IpAddr;

/// The schema version.
const SCHEMA: &str = "1.9.0";
/// The name of the program that recorded the log.
const PRODUCT: &str = "attestlog";
const CLASS: u32 = 6003;
const CATEGORY: u32 = 6;

/// Options for converting entries to OCSF events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OcsfOptions {
    /// The kind of each tool: read, query, create, update or delete.
    pub tools: ToolKinds,
    /// The provider of the model, which the schema requires. `Unknown` if not set.
    pub ai_provider: Option<String>,
    /// The log's name.
    pub log: Option<String>,
    /// The log's public key: who vouches for the rows of a pipeline.
    pub public_key: Option<String>,
    /// Whether to include the arguments, as `api.request.data`.
    pub arguments: bool,
    /// Whether to include error messages, as `api.response.error_message`.
    pub error_messages: bool,
}

/// The event of one entry; `None` for system events.
///
/// The begin entry of a call gives an event with unknown status, and a late answer one of its own (`unmapped.late_answer`);
/// [`OcsfWriter`] joins them with the call.
pub fn api_activity(entry: &Entry, options: &OcsfOptions) -> Option<Json> {
    event(&Whole::of(entry.clone()), options)
}

/// Writes the OCSF events of entries, given in order of seq, as JSON Lines. Calls that never ended, and those to which an answer
/// might have come late, come last.
///
/// ```
/// use attestlog_report::ocsf::{OcsfOptions, OcsfWriter};
/// let mut ocsf = OcsfWriter::new(Vec::new(), OcsfOptions::default());
/// // for entry in … { ocsf.write(&entry)?; }
/// assert_eq!(ocsf.finish()?, b"");
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct OcsfWriter<W: Write> {
    out: W,
    options: OcsfOptions,
    pairing: Pairing,
}

impl<W: Write> OcsfWriter<W> {
    /// Creates a writer to `out`.
    pub fn new(out: W, options: OcsfOptions) -> OcsfWriter<W> {
        OcsfWriter { out, options, pairing: Pairing::default() }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        match self.pairing.next(entry) {
            Some(whole) => self.line(event(&whole, &self.options)),
            None => Ok(()),
        }
    }

    /// Writes the remaining events and returns the output.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn finish(mut self) -> Result<W> {
        for whole in std::mem::take(&mut self.pairing).rest() {
            self.line(event(&whole, &self.options))?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn line(&mut self, event: Option<Json>) -> Result<()> {
        if let Some(event) = event {
            writeln!(self.out, "{}", event.to_canonical())?;
        }
        Ok(())
    }
}

fn event(whole: &Whole, options: &OcsfOptions) -> Option<Json> {
    let entry = &whole.entry;
    let call = entry.call()?;
    let begun_call = whole.begun.as_ref().and_then(Entry::call);
    let context = Context::new(Subject::User(String::new()));
    let access = Access::of_whole(whole, call, &context);
    let metadata = call.session_metadata.as_ref().or(begun_call.and_then(|c| c.session_metadata.as_ref()));
    let metadata = metadata.map(|m| m.to_json());
    let session = |key: &str| metadata.as_ref().and_then(|m| m.get(key)).and_then(Json::as_str);

    // The name of an activity that the schema does not list is the source's own; that of its type is the schema's.
    let (activity, activity_name, type_name) = match options.tools.of(&access.tool) {
        ToolKind::Create => (1, "Create", "API Activity: Create"),
        ToolKind::Read | ToolKind::Query => (2, "Read", "API Activity: Read"),
        ToolKind::Update => (3, "Update", "API Activity: Update"),
        ToolKind::Delete => (4, "Delete", "API Activity: Delete"),
        ToolKind::Execute => (99, "Execute", "API Activity: Other"),
    };
    let (status, status_name) = match access.success() {
        Some(true) => (1u32, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let (severity, severity_name) = severity(&access);
    let done = call.completion.as_ref();
    let took = done.and_then(|d| d.duration_ms).and_then(|ms| Number::from_f64(ms.round())).map(Json::Number);
    let start = millis(access.timestamp);
    let end = begun_call.map(|_| millis(call.timestamp)).filter(|end| *end >= start);
    let end = took.as_ref().and_then(Json::as_i64).and_then(|ms| start.checked_add(ms)).or(end);

    let span = either(call, begun_call, |around| around.span_id.as_ref());
    let type_uid = CLASS * 100 + activity;
    Some(object([
        ("activity_id", activity.into()),
        ("activity_name", activity_name.into()),
        ("actor", actor(&access)),
        ("ai_agent", ai_agent(&access, options)),
        // The schema wants an agent's model within the agent.
        ("ai_model", if access.agent.is_some() { Json::Null } else { ai_model(&access, options) }),
        ("api", api(entry, call, begun_call, &access, options)),
        ("category_name", "Application Activity".into()),
        ("category_uid", CATEGORY.into()),
        ("class_name", "API Activity".into()),
        ("class_uid", CLASS.into()),
        ("dst_endpoint", access.server.as_deref().map_or(Json::Null, |s| endpoint(None, Some(s)))),
        ("duration", took.into()),
        ("end_time", end.and_then(Number::from_i64).map(Json::Number).into()),
        ("message", call.attribution().to_string().into()),
        ("message_context", message_context(&access)),
        ("metadata", event_metadata(entry, call, begun_call, &access, options)),
        ("resources", resources(call, begun_call, &access)),
        ("severity", severity_name.into()),
        ("severity_id", severity.into()),
        ("src_endpoint", endpoint(session("client_ip"), access.agent.as_deref())),
        ("start_time", integer(start)),
        ("status", status_name.into()),
        ("status_code", access.outcome_name().into()),
        ("status_detail", done.and_then(|d| d.error.as_ref()).and_then(|e| e.kind.clone()).into()),
        ("status_id", status.into()),
        ("time", integer(start)),
        ("trace", trace(either(call, begun_call, |around| around.trace_id.as_ref()), span, (start, end))),
        ("type_name", type_name.into()),
        ("type_uid", type_uid.into()),
        ("unmapped", unmapped(entry, call, &access, session("user_agent"))),
    ]))
}

/// What surrounds the call, of its end or, if that does not say it, of its beginning.
fn either<'a, T>(call: &'a Call, begun: Option<&'a Call>, get: impl Fn(&'a Circumstances) -> Option<T>) -> Option<T> {
    [Some(call), begun].into_iter().flatten().find_map(|call| get(call.circumstances.as_deref()?))
}

/// The trace. The schema requires that a span has both times.
fn trace(id: Option<&String>, span: Option<&String>, (start, end): (i64, Option<i64>)) -> Json {
    let Some(id) = id else { return Json::Null };
    let span = span
        .zip(end)
        .map(|(span, end)| object([("end_time", integer(end)), ("start_time", integer(start)), ("uid", text(span))]));
    object([("span", span.into()), ("uid", text(id))])
}

/// Medium for what somebody should look at, Low for other failures.
fn severity(access: &Access) -> (u32, &'static str) {
    match access.outcome {
        _ if access.emergency => (3, "Medium"),
        Some(Outcome::Denied) => (3, "Medium"),
        Some(Outcome::Ok) => (1, "Informational"),
        _ => (2, "Low"),
    }
}

fn actor(access: &Access) -> Json {
    let user = object([("name", text(&access.accessed_by)), ("uid", text(&access.accessed_by))]);
    let agent = access.agent.as_deref().map(text);
    let session = object([("uid", text(&access.conversation_id))]);
    object([("app_name", agent.clone().into()), ("app_uid", agent.into()), ("session", session), ("user", user)])
}

/// The agent, which the schema tells from the user for whom it acts. Its instance is the conversation; by what framework it was built
/// is not known.
fn ai_agent(access: &Access, options: &OcsfOptions) -> Json {
    let Some(agent) = &access.agent else { return Json::Null };
    object([
        ("ai_model", ai_model(access, options)),
        ("instance_uid", text(&access.conversation_id)),
        ("name", text(agent)),
        ("type", "Unknown".into()),
        ("type_id", 0u32.into()),
        ("uid", text(agent)),
    ])
}

fn ai_model(access: &Access, options: &OcsfOptions) -> Json {
    let Some(model) = &access.model else { return Json::Null };
    let provider = options.ai_provider.as_deref().unwrap_or("Unknown");
    object([("ai_provider", text(provider)), ("name", text(model))])
}

fn message_context(access: &Access) -> Json {
    let Some(agent) = access.agent.as_ref().or(access.model.as_ref()) else { return Json::Null };
    object([
        ("ai_role", "Agent".into()),
        ("ai_role_id", 4u32.into()),
        ("application", object([("name", text(agent))])),
        ("service", access.server.as_deref().map_or(Json::Null, |s| object([("name", text(s))]))),
        ("uid", text(&access.conversation_id)),
    ])
}

fn api(entry: &Entry, call: &Call, begun: Option<&Call>, access: &Access, options: &OcsfOptions) -> Json {
    let call_id = call.call_id.as_ref().or(begun.and_then(|b| b.call_id.as_ref()));
    let arguments = begun.and_then(|b| b.arguments.as_ref()).or(call.arguments.as_ref());
    let arguments = arguments.filter(|_| options.arguments).map(|a| a.to_json());
    // The schema requires `data` to be an object; arguments may be any value.
    let arguments = arguments.map(|a| if a.as_object().is_some() { a } else { object([("arguments", a)]) });
    let request = object([
        ("data", arguments.into()),
        ("uid", call_id.map_or_else(|| entry.seq.to_string().into(), |id| text(id))),
    ]);
    let error = call.completion.as_ref().and_then(|d| d.error.as_ref());
    let response = object([
        ("error", error.and_then(|e| e.kind.as_deref()).map(text).into()),
        ("error_message", error.filter(|_| options.error_messages).map(|e| text(&e.message)).into()),
        ("message", access.outcome_name().into()),
    ]);
    let service = access.server.as_deref().map_or(Json::Null, |s| object([("name", text(s))]));
    object([("operation", text(&access.tool)), ("request", request), ("response", response), ("service", service)])
}

/// The program that recorded the log.
fn product() -> Json {
    object([("name", PRODUCT.into()), ("vendor_name", PRODUCT.into()), ("version", env!("CARGO_PKG_VERSION").into())])
}

fn event_metadata(entry: &Entry, call: &Call, begun: Option<&Call>, access: &Access, options: &OcsfOptions) -> Json {
    let is_ai = access.model.is_some() || access.agent.is_some();
    let is_traced = either(call, begun, |around| around.trace_id.as_ref()).is_some();
    let profiles = [("ai_operation", is_ai), ("trace", is_traced)];
    let profiles: Vec<Json> = profiles.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.into()).collect();
    object([
        ("correlation_uid", text(&access.conversation_id)),
        ("log_name", options.log.as_deref().map(text).into()),
        ("logged_time", integer(millis(entry.body.recorded_at))),
        ("original_time", access.timestamp.to_string().into()),
        ("product", product()),
        ("profiles", if profiles.is_empty() { Json::Null } else { profiles.into() }),
        ("sequence", entry.seq.into()),
        ("uid", entry.hash().to_string().into()),
        ("version", SCHEMA.into()),
    ])
}

/// The patients, followed by the records that the call returned and what it read or changed.
fn resources(call: &Call, begun: Option<&Call>, access: &Access) -> Json {
    let patient = |id: &String| object([("type", "Patient".into()), ("uid", text(id))]);
    let mut all: Vec<Json> = access.patients.iter().map(patient).collect();
    for (path, value) in access.viewed.record_ids.iter() {
        let values = value.as_array().unwrap_or(std::slice::from_ref(value));
        for value in values {
            let id = value.as_str().map_or_else(|| value.to_canonical().to_string(), str::to_owned);
            all.push(object([("type", text(path)), ("uid", text(&id))]));
        }
    }
    let touched = either(call, begun, |around| Some(&around.resources).filter(|all| !all.is_empty()));
    for Resource { name, kind } in touched.into_iter().flatten() {
        all.push(object([("name", text(name)), ("type", text(kind))]));
    }
    if all.is_empty() { Json::Null } else { all.into() }
}

/// An endpoint: its address, if it is known, and the name of what runs there. The schema requires at least one of them.
fn endpoint(ip: Option<&str>, name: Option<&str>) -> Json {
    let address = |t: &str| t.parse::<IpAddr>().ok().map(|ip| ip.to_string());
    let ip = ip.and_then(address).or_else(|| name.and_then(address));
    match (&ip, name) {
        (None, None) => object([("name", "unknown".into())]),
        _ => object([("ip", ip.into()), ("svc_name", name.map(text).into())]),
    }
}

fn unmapped(entry: &Entry, call: &Call, access: &Access, user_agent: Option<&str>) -> Json {
    let follow_up = access.trigger == Some(Trigger::FollowUp);
    let (fields, further) = (&access.viewed.fields, &access.further_seqs);
    let retention = entry.body.retention.as_ref();
    let raised = |flag: bool| if flag { Json::Bool(true) } else { Json::Null };
    let begun_seq = access.finished_seq.map(|_| access.seq).or(access.begun_seq);
    // As in the line.
    let line = call.circumstances.is_some().then(|| Json::parse(entry.line().as_bytes()).ok()).flatten();
    let said = |member: &str| line.as_ref().and_then(|line| line.value.get(member)).cloned().into();
    object([
        ("answered_seq", access.answered_seq.into()),
        ("approval", said("approval")),
        ("backfilled", raised(access.backfilled)),
        ("begun_seq", begun_seq.into()),
        ("call_trigger", access.trigger.map(Trigger::as_str).into()),
        ("contradicts", said("contradicts")),
        ("digests", said("digests")),
        ("parent_agent_id", said("parent_agent_id")),
        ("parent_call_id", said("parent_call_id")),
        ("peer", said("peer")),
        ("prompt_id", said("prompt_id")),
        ("sources", said("sources")),
        ("claimed_time", access.claimed_time.map(ClaimedTime::as_str).into()),
        ("emergency", raised(access.emergency)),
        ("follow_up_of", call.follows.filter(|_| follow_up).into()),
        ("further_seqs", if further.is_empty() { Json::Null } else { further.clone().into() }),
        ("grant", access.grant.into()),
        ("late_answer", raised(call.late_answer)),
        ("part_of", call.part_of().filter(|_| call.adds_to_call()).into()),
        ("purpose", access.purpose.as_deref().map(text).into()),
        ("recorded_at", access.recorded_at.to_string().into()),
        ("retain_until", retention.map(|r| r.until.to_string()).into()),
        ("retention_class", retention.map(|r| text(&r.class)).into()),
        ("retry_of", call.follows.filter(|_| !follow_up).into()),
        ("turn_number", call.turn_number.into()),
        ("user_agent", user_agent.map(text).into()),
        ("user_role", access.role.as_deref().map(text).into()),
        ("viewed_count", access.viewed.count.into()),
        ("viewed_fields", if fields.is_empty() { Json::Null } else { fields.clone().into() }),
    ])
}

/// An object of these members without those that are null or an empty object.
fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    let is_empty = |v: &Json| *v == Json::Null || v.as_object().is_some_and(Object::is_empty);
    Object::from_iter(members.into_iter().filter(|(_, value)| !is_empty(value))).into()
}

fn text(value: &str) -> Json {
    Json::from(value)
}

fn millis(t: Timestamp) -> i64 {
    t.nanos().div_euclid(1_000_000)
}

fn integer(n: i64) -> Json {
    Number::from_i64(n).map_or(Json::Null, Json::Number)
}

//! An event in FHIR's terms, independent of the FHIR release.

use super::FhirOptions;
use super::codes::{
    BALP_ENTITY_TYPE, Coding, DCM, ENTITY_TYPE, EVENT_TYPE, Network, OBJECT_ROLE, PARTICIPATION, RESTFUL, identifier,
    instant, is_id, list, object, purpose_concept, string,
};
use crate::ToolKind;
use crate::access::{Access, Subject};
use crate::pairing::Whole;
use crate::purpose;
use attestlog::entry::Phase;
use attestlog::json::{Json, Object};
use attestlog::{Call, Entry, Kind, Outcome, SystemEvent, Trigger};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

const REST: Coding = Coding::new(EVENT_TYPE, "rest", "RESTful Operation");
const ALERT: Coding = Coding::new(DCM, "110113", "Security Alert");
const SOURCE_ROLE: Coding = Coding::new(DCM, "110153", "Source Role ID");
const DESTINATION_ROLE: Coding = Coding::new(DCM, "110152", "Destination Role ID");
const APPLICATION: Coding = Coding::new(DCM, "110150", "Application");
const RECIPIENT: Coding = Coding::new(PARTICIPATION, "IRCP", "information recipient");
const AUTHOR: Coding = Coding::new(PARTICIPATION, "AUT", "author (originator)");
const PERSON: Coding = Coding::new(ENTITY_TYPE, "1", "Person");
const SYSTEM_OBJECT: Coding = Coding::new(ENTITY_TYPE, "2", "System Object");
const OTHER: Coding = Coding::new(ENTITY_TYPE, "4", "Other");
const REQUEST_ID: Coding =
    Coding::new(BALP_ENTITY_TYPE, "XrequestId", "transport specific unique identifier where http X-Request-Id is used");
const PATIENT: Coding = Coding::new(OBJECT_ROLE, "1", "Patient");
const DOMAIN_RESOURCE: Coding = Coding::new(OBJECT_ROLE, "4", "Domain Resource");
const QUERY: Coding = Coding::new(OBJECT_ROLE, "24", "Query");
const SECURITY_RESOURCE: Coding = Coding::new(OBJECT_ROLE, "13", "Security Resource");

/// One event.
pub(super) struct Event {
    pub(super) id: String,
    pub(super) uuid: String,
    /// The IHE BALP profile that it conforms to (in R4, for which the profiles are defined).
    pub(super) profile: Option<&'static str>,
    pub(super) category: Coding,
    pub(super) code: Coding,
    pub(super) action: &'static str,
    pub(super) start: String,
    pub(super) end: Option<String>,
    pub(super) recorded: String,
    /// `None` if the call was begun and no end is recorded.
    pub(super) outcome: Option<Outcome>,
    /// The outcome in words, if it is not success.
    pub(super) outcome_text: Option<String>,
    pub(super) alert: bool,
    pub(super) emergency: bool,
    pub(super) purposes: Vec<Json>,
    pub(super) agents: Vec<Agent>,
    pub(super) patients: Vec<Json>,
    pub(super) entities: Vec<Entity>,
}

/// A participant of the event.
pub(super) struct Agent {
    pub(super) kind: Coding,
    pub(super) who: Json,
    pub(super) on_behalf_of: Option<Json>,
    pub(super) name: Option<Json>,
    pub(super) role: Option<Json>,
    pub(super) requestor: bool,
    pub(super) network: Option<Network>,
}

/// An object that the event concerns.
#[derive(Default)]
pub(super) struct Entity {
    pub(super) what: Option<Json>,
    pub(super) kind: Option<Coding>,
    pub(super) role: Option<Coding>,
    pub(super) name: Option<Json>,
    /// The query in Base64. FHIR forbids a name beside it.
    pub(super) query: Option<String>,
    pub(super) details: Vec<(&'static str, Json)>,
}

impl Event {
    /// The event of a call, or of another entry.
    pub(super) fn of(whole: &Whole, options: &FhirOptions) -> Option<Event> {
        match (whole.entry.call(), whole.entry.own()) {
            (Some(call), _) => Some(Event::of_call(whole, call, options)),
            (None, Some(own)) => Event::of_override(&whole.entry, own, options),
            (None, None) => None,
        }
    }

    fn of_call(whole: &Whole, call: &Call, options: &FhirOptions) -> Event {
        let (entry, begun) = (&whole.entry, whole.begun.as_ref());
        let begun_call = begun.and_then(Entry::call);
        let either = |get: fn(&Call) -> Option<&str>| get(call).or_else(|| begun_call.and_then(get));
        let access = Access::of_whole(whole, call, &options.context);
        let kind = options.tools.of(&call.tool_name);
        let mut patients: Vec<&str> = Vec::new();
        let further = whole.further.iter().filter_map(Entry::call).flat_map(|c| &c.patient_ids);
        for id in begun_call.iter().flat_map(|c| &c.patient_ids).chain(&call.patient_ids).chain(further) {
            if !patients.contains(&id.as_str()) {
                patients.push(id);
            }
        }
        let limited = !matches!(options.context.subject, Subject::User(_));
        let all = patients.len();
        if limited {
            patients.retain(|id| options.context.is_subject(id));
        }
        let query = begun_call.and_then(|c| c.arguments.as_ref()).or(call.arguments.as_ref());
        let query = query.filter(|_| patients.len() == all).map(|a| STANDARD.encode(a.as_str()));

        let mut entities: Vec<Entity> = patients.iter().map(|id| patient_entity(id, options)).collect();
        entities.push(object_entity(kind, &access, query.clone()));
        if let Some(call_id) = either(|c| c.call_id.as_deref()) {
            let what = object([("identifier", identifier(None, call_id))]);
            entities.push(Entity { what: Some(what), kind: Some(REQUEST_ID), ..Entity::default() });
        }
        entities.push(log_entity(entry, call, begun, &access));

        let profile = match (kind, access.outcome, patients.as_slice()) {
            (ToolKind::Read, Some(Outcome::Ok), [_]) => Some("PatientRead"),
            (ToolKind::Update, Some(Outcome::Ok), [_]) => Some("PatientUpdate"),
            (ToolKind::Query, Some(Outcome::Ok), [_]) if query.is_some() => Some("PatientQuery"),
            _ => None,
        };
        let (action, code, display) = match kind {
            ToolKind::Read => ("R", "read", "read"),
            ToolKind::Query => ("E", "search", "search"),
            ToolKind::Create => ("C", "create", "create"),
            ToolKind::Update => ("U", "update", "update"),
            ToolKind::Delete => ("D", "delete", "delete"),
            ToolKind::Execute => ("E", "operation", "operation"),
        };
        let done = call.completion.as_ref();
        let start = begun_call.unwrap_or(call).timestamp;
        let took = done.and_then(|d| d.duration_ms).filter(|ms| ms.is_finite() && *ms >= 0.0 && *ms < 1e15);
        let end = match took {
            Some(ms) => Some(start.plus(Duration::from_nanos((ms * 1e6) as u64))),
            None => begun_call.map(|_| call.timestamp).filter(|end| *end >= start),
        };
        let outcome_text = match access.outcome {
            Some(Outcome::Ok) => None,
            Some(outcome) => {
                let kind = done.and_then(|d| d.error.as_ref()).and_then(|e| e.kind.as_deref());
                Some(kind.map_or_else(|| outcome.as_str().to_owned(), |k| format!("{outcome} ({k})")))
            }
            None => Some("unfinished: begun, and no end was recorded".to_owned()),
        };
        let mut purposes: Vec<&str> = access.purpose.as_deref().into_iter().collect();
        if access.emergency {
            let given = access.purpose.as_deref().and_then(purpose::reason).map(|r| r.code);
            let claimed = if access.grant.is_some() { &["ETREAT", "BTG"][..] } else { &["ETREAT"][..] };
            purposes.extend(claimed.iter().filter(|code| given != Some(code)));
        }
        Event {
            profile,
            code: Coding::new(RESTFUL, code, display),
            action,
            end: end.map(instant),
            outcome: access.outcome,
            outcome_text,
            emergency: access.emergency,
            purposes: purposes.into_iter().map(purpose_concept).collect(),
            agents: call_agents(kind, call, &access, options),
            patients: patients.iter().map(|id| patient_reference(id, options)).collect(),
            entities,
            ..Event::bare(entry, instant(start))
        }
    }

    /// The event of an emergency access that was opened, closed or reviewed.
    ///
    /// It uses the members of the entry's detail that are present: `user` or `user_id`, `patient` or `patient_id`,
    /// `actor` or `reviewer`. Every other text, number or Boolean becomes a detail of the entity that represents the
    /// log entry.
    fn of_override(entry: &Entry, own: &SystemEvent, options: &FhirOptions) -> Option<Event> {
        let code = match own.kind {
            Kind::BreakGlassOpened => Coding::new(DCM, "110127", "Emergency Override Started"),
            Kind::BreakGlassClosed => Coding::new(DCM, "110138", "Emergency Override Stopped"),
            Kind::BreakGlassReviewed => Coding::new("", "", "Emergency Override Reviewed"),
            _ => return None,
        };
        let detail = own.detail.to_json();
        let text = |names: &[&str]| names.iter().find_map(|n| detail.get(n).and_then(Json::as_str)).map(str::to_owned);
        let patient = text(&["patient", "patient_id"]);
        let limited = !matches!(options.context.subject, Subject::User(_));
        if limited && patient.as_deref().is_some_and(|p| !options.context.is_subject(p)) {
            return None;
        }
        let user = text(&["user", "user_id"]);
        let actor = text(&["reviewer", "actor"]);
        let (first, second) = match own.kind {
            Kind::BreakGlassReviewed => (actor, user),
            _ => (user.clone().or_else(|| actor.clone()), actor.filter(|a| user.as_ref() != Some(a))),
        };
        let mut agents = vec![person_agent(RECIPIENT, first.as_deref(), None, true, options)];
        if let Some(second) = second {
            agents.push(person_agent(RECIPIENT, Some(&second), None, false, options));
        }
        let mut details = base_details(entry);
        for (name, value) in detail.as_object().into_iter().flat_map(Object::iter) {
            let known = ["reason", "urgency", "expires_at", "expires", "ttl", "disposition", "grant", "until"];
            let Some(name) = known.iter().copied().find(|k| *k == name) else { continue };
            match value {
                Json::String(s) => details.push((name, string(s))),
                Json::Number(_) | Json::Bool(_) => details.push((name, value.to_canonical().as_str().into())),
                _ => {}
            }
        }
        let mut entities: Vec<Entity> = patient.iter().map(|id| patient_entity(id, options)).collect();
        entities.push(log_record(entry, details));
        Some(Event {
            category: ALERT,
            code,
            alert: true,
            emergency: true,
            purposes: ["BTG", "ETREAT"].map(purpose_concept).to_vec(),
            agents,
            patients: patient.iter().map(|id| patient_reference(id, options)).collect(),
            entities,
            ..Event::bare(entry, instant(entry.timestamp()))
        })
    }

    fn bare(entry: &Entry, start: String) -> Event {
        let hash = entry.hash().to_string();
        let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
        Event {
            // At most 16 digits, a hyphen and 32 hex digits: fits the 64 characters of an id, is the same in every
            // export, and differs in another log.
            id: format!("{}-{}", entry.seq, part(0, 32)),
            // RFC 9562, version 8: 122 bits of the hash.
            uuid: format!("{}-{}-8{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32)),
            profile: None,
            category: REST,
            code: Coding::new(RESTFUL, "operation", "operation"),
            action: "E",
            start,
            end: None,
            recorded: instant(entry.body.recorded_at),
            outcome: Some(Outcome::Ok),
            outcome_text: None,
            alert: false,
            emergency: false,
            purposes: Vec::new(),
            agents: Vec::new(),
            patients: Vec::new(),
            entities: Vec::new(),
        }
    }
}

/// The server, the client, the AI acting for the user, and the user.
fn call_agents(kind: ToolKind, call: &Call, access: &Access, options: &FhirOptions) -> Vec<Agent> {
    // Data flows from source to destination; for a search BALP uses the direction of the parameters.
    let (server_role, client_role, user_role) = match kind {
        ToolKind::Read => (SOURCE_ROLE, DESTINATION_ROLE, RECIPIENT),
        ToolKind::Query | ToolKind::Execute => (DESTINATION_ROLE, SOURCE_ROLE, RECIPIENT),
        ToolKind::Create | ToolKind::Update | ToolKind::Delete => (DESTINATION_ROLE, SOURCE_ROLE, AUTHOR),
    };
    let server = access.server.as_deref().or(options.server.as_deref());
    let server_who = match server {
        Some(name) => object([("identifier", identifier(None, name)), ("display", "Tool server".into())]),
        None => object([("display", "Tool server, not named".into())]),
    };
    let runtime = access.agent.as_deref().or(access.model.as_deref());
    let client_who = match runtime {
        Some(name) => object([("identifier", identifier(None, name)), ("display", "AI agent runtime".into())]),
        None => object([("display", "AI agent runtime, not named".into())]),
    };
    let metadata = call.session_metadata.as_ref().map(|m| m.to_json());
    let client_ip = metadata.as_ref().and_then(|m| m.get("client_ip")).and_then(Json::as_str);
    // A pseudonymised address is no longer an address.
    let client_ip = client_ip.filter(|ip| ip.parse::<std::net::IpAddr>().is_ok());
    let client_network = Network::of("agent", client_ip.or(access.agent.as_deref()));
    let ai_display = match (&access.agent, &access.model) {
        (Some(agent), Some(model)) => string(&format!("{agent} / model {model}")),
        (Some(agent), None) => string(agent),
        (None, Some(model)) => string(&format!("model {model}")),
        (None, None) => "AI agent, not named".into(),
    };
    let ai_who = object([
        ("type", "Device".into()),
        ("identifier", runtime.map_or(Json::Null, |name| identifier(None, name))),
        ("display", ai_display),
    ]);
    let user = person_agent(user_role, Some(&access.accessed_by), access.role.as_deref(), true, options);
    let agent = |kind, who, network| Agent {
        kind,
        who,
        on_behalf_of: None,
        name: None,
        role: None,
        requestor: false,
        network: Some(network),
    };
    vec![
        agent(server_role, server_who, Network::of("server", server)),
        agent(client_role, client_who, client_network.clone()),
        Agent { on_behalf_of: Some(user.who.clone()), ..agent(APPLICATION, ai_who, client_network) },
        user,
    ]
}

fn person_agent(kind: Coding, id: Option<&str>, role: Option<&str>, requestor: bool, options: &FhirOptions) -> Agent {
    let who = match id {
        Some(id) => object([
            ("type", options.user_type.as_deref().map(string).into()),
            ("identifier", identifier(options.user_system.as_deref(), id)),
        ]),
        None => object([("display", "not named".into())]),
    };
    let role = role.map(|r| object([("text", string(r))]));
    Agent { kind, who, on_behalf_of: None, name: id.map(string), role, requestor, network: None }
}

/// A literal reference if the id can be part of a URL; an identifier if it cannot, or if its system is configured.
fn patient_reference(id: &str, options: &FhirOptions) -> Json {
    let literal = is_id(id);
    let by_identifier = !literal || options.patient_system.is_some();
    object([
        ("reference", literal.then(|| format!("Patient/{id}")).into()),
        ("type", "Patient".into()),
        ("identifier", if by_identifier { identifier(options.patient_system.as_deref(), id) } else { Json::Null }),
    ])
}

fn patient_entity(id: &str, options: &FhirOptions) -> Entity {
    Entity { what: Some(patient_reference(id, options)), kind: Some(PERSON), role: Some(PATIENT), ..Entity::default() }
}

/// What was read or changed, or the search. BALP requires exactly one such entity.
fn object_entity(kind: ToolKind, access: &Access, query: Option<String>) -> Entity {
    if kind == ToolKind::Query {
        // FHIR forbids a name beside a query, and BALP forbids a `what` and details here.
        let name = if query.is_none() { Some(string(&access.tool)) } else { None };
        return Entity { kind: Some(SYSTEM_OBJECT), role: Some(QUERY), name, query, ..Entity::default() };
    }
    let scalar = access.viewed.record_ids.iter().find(|(_, v)| v.as_array().is_none());
    let what = match scalar {
        Some((name, value)) => {
            let value = value.as_str().map_or_else(|| value.to_canonical().to_string(), str::to_owned);
            object([("identifier", identifier(None, &value)), ("display", string(name))])
        }
        None => object([("display", string(&format!("what {} works on", access.tool)))]),
    };
    Entity {
        what: Some(what),
        kind: Some(SYSTEM_OBJECT),
        role: Some(DOMAIN_RESOURCE),
        name: Some(string(&access.tool)),
        ..Entity::default()
    }
}

/// The entry in the log by which the event can be proved.
fn log_entity(entry: &Entry, call: &Call, begun: Option<&Entry>, access: &Access) -> Entity {
    let mut details = base_details(entry);
    let begun = begun.map(|b| b.seq).or(match call.phase {
        Phase::Finished(begun) => Some(begun),
        Phase::Whole | Phase::Begun | Phase::Detail(_) => None,
    });
    let mut add = |name, value: Option<Json>| details.extend(value.map(|v| (name, v)));
    add("begun_seq", begun.map(|n| n.to_string().into()));
    add("tool", Some(string(&access.tool)));
    add("conversation_id", Some(string(&access.conversation_id)));
    add("turn_number", call.turn_number.map(|n| n.to_string().into()));
    add("call_trigger", access.trigger.map(|t| Trigger::as_str(t).into()));
    add("outcome", Some(access.outcome_name().into()));
    add("grant", access.grant.map(|n| n.to_string().into()));
    add("answered_seq", access.answered_seq.map(|n| n.to_string().into()));
    add("part_of", call.part_of().filter(|_| call.adds_to_call()).map(|n| n.to_string().into()));
    add("backfilled", access.backfilled.then(|| "true".into()));
    let around = call.circumstances.as_deref();
    add("trace_id", around.and_then(|around| around.trace_id.as_deref()).map(string));
    let approval = around.and_then(|around| around.approval.as_ref());
    add("approval", approval.map(|approval| approval.decision.as_str().into()));
    add("approval_by", approval.and_then(|approval| approval.by.as_deref()).map(string));
    let viewed = &access.viewed;
    let canonical = |json: Json| string(json.to_canonical().as_str());
    add("viewed_fields", (!viewed.fields.is_empty()).then(|| canonical(viewed.fields.clone().into())));
    add("viewed_record_ids", (!viewed.record_ids.is_empty()).then(|| canonical(viewed.record_ids.clone().into())));
    add("viewed_count", viewed.count.map(|n| n.to_string().into()));
    log_record(entry, details)
}

fn base_details(entry: &Entry) -> Vec<(&'static str, Json)> {
    vec![
        ("attestlog-seq", entry.seq.to_string().into()),
        ("attestlog-entry-hash", format!("sha256:{}", entry.hash()).into()),
    ]
}

fn log_record(entry: &Entry, details: Vec<(&'static str, Json)>) -> Entity {
    let what =
        object([("identifier", identifier(None, &entry.seq.to_string())), ("display", "audit log entry".into())]);
    Entity { what: Some(what), kind: Some(OTHER), role: Some(SECURITY_RESOURCE), details, ..Entity::default() }
}

/// The extension that names the person on whose behalf the AI acted.
pub(super) fn extensions(agent: &Agent) -> Json {
    let extension = agent
        .on_behalf_of
        .clone()
        .map(|who| object([("url", super::codes::ON_BEHALF_OF.into()), ("valueReference", who)]));
    list(extension.into_iter().collect())
}

/// The profile and the security labels of the resource itself.
pub(super) fn meta(profile: Option<&str>, options: &FhirOptions) -> Json {
    let profiles = profile
        .map(|name| Json::from(format!("https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{name}")));
    let test = options.test_data.then(|| Coding::new(purpose::SYSTEM, "HTEST", "test health data").json());
    let meta =
        object([("profile", list(profiles.into_iter().collect())), ("security", list(test.into_iter().collect()))]);
    if meta.as_object().is_some_and(Object::is_empty) { Json::Null } else { meta }
}

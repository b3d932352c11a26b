//! The event as an AuditEvent of FHIR R4.

use super::FhirOptions;
use super::codes::{Coding, SOURCE_TYPE, list, object, string};
use super::event::{Agent, Entity, Event, extensions, meta};
use attestlog::Outcome;
use attestlog::json::Json;

pub(super) fn render(event: &Event, options: &FhirOptions) -> Json {
    let purposes = list(event.purposes.clone());
    object([
        ("resourceType", "AuditEvent".into()),
        ("id", event.id.as_str().into()),
        ("meta", meta(event.profile, options)),
        ("type", event.category.json()),
        ("subtype", vec![event.code.json()].into()),
        ("action", event.action.into()),
        (
            "period",
            match &event.end {
                Some(end) => object([("start", event.start.as_str().into()), ("end", end.as_str().into())]),
                None => object([("start", event.start.as_str().into())]),
            },
        ),
        ("recorded", event.recorded.as_str().into()),
        ("outcome", event.outcome.map(outcome).into()),
        ("outcomeDesc", event.outcome_text.as_deref().map(string).into()),
        ("purposeOfEvent", purposes.clone()),
        ("agent", event.agents.iter().map(|a| agent(a, &purposes)).collect::<Vec<_>>().into()),
        (
            "source",
            object([
                ("site", options.site.as_deref().map(string).into()),
                ("observer", object([("display", string(&options.observer))])),
                ("type", vec![Coding::new(SOURCE_TYPE, "4", "Application Server").json()].into()),
            ]),
        ),
        ("entity", list(event.entities.iter().map(entity).collect())),
    ])
}

/// 4 for a call that was refused or failed in the usual way, 8 for an unexpected failure.
fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "0",
        Outcome::ToolError | Outcome::Denied => "4",
        _ => "8",
    }
}

fn agent(agent: &Agent, purposes: &Json) -> Json {
    object([
        ("extension", extensions(agent)),
        ("type", agent.kind.concept()),
        ("role", list(agent.role.iter().cloned().collect())),
        ("who", agent.who.clone()),
        ("name", agent.name.clone().into()),
        ("requestor", agent.requestor.into()),
        (
            "network",
            agent
                .network
                .as_ref()
                .map_or(Json::Null, |n| object([("address", n.address.as_str().into()), ("type", n.kind.into())])),
        ),
        ("purposeOfUse", if agent.requestor { purposes.clone() } else { Json::Null }),
    ])
}

fn entity(entity: &Entity) -> Json {
    let detail = |(name, value): &(&str, Json)| object([("type", (*name).into()), ("valueString", value.clone())]);
    object([
        ("what", entity.what.clone().into()),
        ("type", entity.kind.map(Coding::json).into()),
        ("role", entity.role.map(Coding::json).into()),
        ("name", entity.name.clone().into()),
        ("query", entity.query.as_deref().into()),
        ("detail", list(entity.details.iter().map(detail).collect())),
    ])
}

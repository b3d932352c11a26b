//! The event as an AuditEvent of FHIR R5.

use super::FhirOptions;
use super::codes::{Coding, SEVERITY, SOURCE_TYPE, list, object, string};
use super::event::{Agent, Entity, Event, extensions, meta};
use attestlog::Outcome;
use attestlog::json::Json;

pub(super) fn render(event: &Event, options: &FhirOptions) -> Json {
    let purposes = list(event.purposes.clone());
    let period =
        event.end.as_ref().map(|end| object([("start", event.start.as_str().into()), ("end", end.as_str().into())]));
    object([
        ("resourceType", "AuditEvent".into()),
        ("id", event.id.as_str().into()),
        // The BALP profiles are for R4.
        ("meta", meta(None, options)),
        ("category", vec![event.category.concept()].into()),
        ("code", event.code.concept()),
        ("action", event.action.into()),
        ("severity", severity(event).into()),
        ("occurredDateTime", if period.is_none() { event.start.as_str().into() } else { Json::Null }),
        ("occurredPeriod", period.into()),
        ("recorded", event.recorded.as_str().into()),
        ("outcome", event.outcome.map(|o| outcome(o, event)).into()),
        ("authorization", purposes.clone()),
        // This member holds at most one patient; if there are several, the entities name them all.
        ("patient", if let [one] = event.patients.as_slice() { one.clone() } else { Json::Null }),
        ("agent", event.agents.iter().map(|a| agent(a, &purposes)).collect::<Vec<_>>().into()),
        (
            "source",
            object([
                ("site", options.site.as_deref().map_or(Json::Null, |s| object([("display", string(s))]))),
                ("observer", object([("display", string(&options.observer))])),
                ("type", vec![Coding::new(SOURCE_TYPE, "4", "Application Server").concept()].into()),
            ]),
        ),
        ("entity", list(event.entities.iter().map(entity).collect())),
    ])
}

/// Codes of the required binding. A warning is something that somebody should look at.
fn severity(event: &Event) -> &'static str {
    match event.outcome {
        _ if event.alert => "alert",
        Some(Outcome::ToolError | Outcome::Denied) | None => "warning",
        Some(Outcome::Ok) if event.emergency => "notice",
        Some(Outcome::Ok) => "informational",
        Some(_) => "error",
    }
}

fn outcome(outcome: Outcome, event: &Event) -> Json {
    let code = match outcome {
        Outcome::Ok => Coding::new(SEVERITY, "success", "Operation Successful"),
        _ => Coding::new(SEVERITY, "error", "Error"),
    };
    let detail = event.outcome_text.as_deref().map(|t| object([("text", string(t))]));
    object([("code", code.json()), ("detail", list(detail.into_iter().collect()))])
}

fn agent(agent: &Agent, purposes: &Json) -> Json {
    let network = agent.network.as_ref();
    let is_uri = network.is_some_and(|n| n.kind == "5");
    let address = network.map(|n| n.address.as_str());
    object([
        ("extension", extensions(agent)),
        ("type", agent.kind.concept()),
        ("role", list(agent.role.iter().cloned().collect())),
        ("who", agent.who.clone()),
        ("requestor", agent.requestor.into()),
        ("networkUri", address.filter(|_| is_uri).into()),
        ("networkString", address.filter(|_| !is_uri).into()),
        ("authorization", if agent.requestor { purposes.clone() } else { Json::Null }),
    ])
}

fn entity(entity: &Entity) -> Json {
    let detail = |(name, value): &(&str, Json)| {
        object([("type", object([("text", (*name).into())])), ("valueString", value.clone())])
    };
    object([
        ("what", entity.what.clone().into()),
        ("role", entity.role.map(Coding::concept).into()),
        ("query", entity.query.as_deref().into()),
        ("detail", list(entity.details.iter().map(detail).collect())),
    ])
}

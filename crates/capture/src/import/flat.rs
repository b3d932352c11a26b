//! Spans and log records in other forms than OTLP's JSON: as the console exporters of the SDKs print them, with attributes as an
//! object, or with OTLP's names in snake case. Each is turned into OTLP's form.

use super::ImportOptions;
use super::dialects;
use super::file::{Document, Read};
use attestlog::Timestamp;
use attestlog::json::{Json, Object};
use std::collections::HashSet;

/// Attributes nested deeper are kept as values.
const DEEPEST: usize = 16;

/// The documents of a file in OTLP's form; those that are in it already are left as they are.
pub(super) fn unified(file: &mut Read, options: &ImportOptions) {
    let documents = std::mem::take(&mut file.documents);
    for document in documents {
        let Some(items) = document.value().as_array() else {
            match unified_one(document.value()) {
                Some(value) => {
                    let place = document.place("");
                    // What it was holds nothing that was not taken over.
                    file.documents.push(Document::made(value, place, options));
                }
                None => file.documents.push(document),
            }
            continue;
        };
        if items.iter().any(|item| unified_one(item).is_some()) {
            for (index, item) in items.iter().enumerate() {
                let value = unified_one(item).unwrap_or_else(|| item.clone());
                file.documents.push(Document::made(value, document.place(&format!("[{index}]")), options));
            }
        } else {
            file.documents.push(document);
        }
    }
}

/// An export in OTLP's form, of one in snake case, or of one span or record.
fn unified_one(value: &Json) -> Option<Json> {
    let members = value.as_object()?;
    if ["resource_spans", "resource_logs"].iter().any(|key| members.get(key).is_some()) {
        return Some(camel(value));
    }
    if ["resourceSpans", "resourceLogs", "run_type"].iter().any(|key| members.get(key).is_some()) {
        return None;
    }
    let context = first(value, &["context", "spanContext", "SpanContext", "span_context"]).unwrap_or(value);
    let trace =
        id(first(context, &["trace_id", "traceId", "TraceID"])
            .or_else(|| first(value, &["context.trace_id", "trace_id"])))?;
    let span =
        id(first(context, &["span_id", "spanId", "SpanID", "id"]).or_else(|| first(value, &["context.span_id"])));
    let mut one = Object::from_iter([("traceId", Json::from(trace))]);
    one.insert("spanId", Json::from(span.unwrap_or_default()));
    let parent = first(
        value,
        &["parent_id", "parentSpanId", "parent_span_id", "parentId", "parentSpanContext", "Parent", "parent"],
    );
    let parent = id(parent.map(|of| first(of, &["spanId", "span_id", "SpanID"]).unwrap_or(of)));
    one.insert("parentSpanId", Json::from(parent.unwrap_or_default()));
    let given = first(value, &["attributes", "Attributes"]);
    one.insert("attributes", listed(given));
    let resource = first(value, &["resource", "Resource"]);
    let resource = resource.map(|of| of.get("attributes").or_else(|| of.get("_attributes")).unwrap_or(of));
    let resource = Object::from_iter([(
        "attributes",
        listed(resource.or_else(|| first(value, &["resource_attributes", "resourceAttributes"]))),
    )]);
    let is_record = first(value, &["body", "severity_number", "severityNumber", "severity_text"]).is_some()
        && first(value, &["name", "Name"]).is_none();
    let (all, scopes, records) = match is_record {
        true => ("resourceLogs", "scopeLogs", "logRecords"),
        false => ("resourceSpans", "scopeSpans", "spans"),
    };
    match is_record {
        true => record(value, &mut one),
        false => rest_of_span(value, &mut one),
    }
    let scope = Object::from_iter([(records, Json::Array(vec![Json::from(one)]))]);
    let of_resource =
        Object::from_iter([("resource", Json::from(resource)), (scopes, Json::Array(vec![Json::from(scope)]))]);
    Some(Json::from(Object::from_iter([(all, Json::Array(vec![Json::from(of_resource)]))])))
}

fn record(value: &Json, one: &mut Object) {
    one.insert("timeUnixNano", nanos(first(value, &["timestamp", "timeUnixNano", "time", "observed_timestamp"])));
    one.insert("eventName", first(value, &["event_name", "eventName"]).cloned().unwrap_or(Json::Null));
    if let Some(body) = first(value, &["body"]) {
        one.insert("body", any(body));
    }
}

fn rest_of_span(value: &Json, one: &mut Object) {
    one.insert("name", first(value, &["name", "Name", "span_name"]).cloned().unwrap_or(Json::Null));
    let start = first(
        value,
        &["start_time", "startTime", "StartTime", "startTimeUnixNano", "start_time_unix_nano", "timestamp"],
    );
    let end = first(value, &["end_time", "endTime", "EndTime", "endTimeUnixNano", "end_time_unix_nano"]);
    one.insert("startTimeUnixNano", nanos(start));
    let mut end = nanos(end);
    // The JavaScript SDK prints microseconds: when a span began, and how long it took.
    if let (Json::Null, Some(began), Some(took)) =
        (&end, start.and_then(Json::as_f64), value.get("duration").and_then(Json::as_f64))
    {
        end = nanos(attestlog::json::Number::from_f64(began + took).map(Json::Number).as_ref());
    }
    one.insert("endTimeUnixNano", end);
    if let Some(status) = first(value, &["status", "Status", "status_code"]) {
        let message =
            first(status, &["description", "message", "Description"]).or_else(|| first(value, &["status_message"]));
        let code = first(status, &["status_code", "code", "Code", "statusCode"]).unwrap_or(status);
        let known = code.as_str().is_none_or(|code| {
            let code = code.rsplit(['.', '_']).next().unwrap_or_default();
            ["unset", "ok", "error"].iter().any(|known| code.eq_ignore_ascii_case(known))
        });
        let code = code
            .as_str()
            .map_or_else(|| code.clone(), |code| Json::from(code.rsplit(['.', '_']).next().unwrap_or_default()));
        if known && code.as_object().is_none() {
            one.insert(
                "status",
                Json::from(Object::from_iter([("code", code), ("message", message.cloned().unwrap_or(Json::Null))])),
            );
        }
    }
    let events = first(value, &["events", "Events"]).and_then(Json::as_array).unwrap_or_default();
    let event = |event: &Json| {
        let name = first(event, &["name", "Name"]).cloned().unwrap_or(Json::Null);
        Json::from(Object::from_iter([
            ("name", name),
            ("attributes", listed(first(event, &["attributes", "Attributes"]))),
        ]))
    };
    one.insert("events", Json::Array(events.iter().map(event).collect()));
}

fn first<'a>(value: &'a Json, keys: &[&str]) -> Option<&'a Json> {
    keys.iter().find_map(|key| value.get(key).filter(|member| **member != Json::Null))
}

/// An id as OTLP's JSON has it: without `0x`; in hexadecimal, if it is in base64.
fn id(value: Option<&Json>) -> Option<String> {
    let text = match value? {
        Json::String(text) => text.strip_prefix("0x").unwrap_or(text).to_owned(),
        number @ Json::Number(_) => number.to_canonical().as_str().to_owned(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty() && text.bytes().any(|b| b != b'0'))
}

/// Nanoseconds since 1970, of a time in RFC 3339, of a number in any unit (which is told apart later), or of seconds and
/// nanoseconds in a list.
fn nanos(value: Option<&Json>) -> Json {
    match value {
        Some(Json::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => Json::from(text.as_str()),
        Some(Json::String(text)) => {
            let zoned = if Timestamp::lacks_zone(text) { format!("{text}Z") } else { text.clone() };
            zoned.parse::<Timestamp>().map_or(Json::Null, |time| Json::from(time.nanos().to_string()))
        }
        Some(number @ Json::Number(n)) => match number.as_i64() {
            Some(whole) => Json::from(whole.to_string()),
            None => Timestamp::from_unix(n.as_f64()).map_or(Json::Null, |time| Json::from(time.nanos().to_string())),
        },
        Some(Json::Array(parts)) => match (parts.first().and_then(Json::as_i64), parts.get(1).and_then(Json::as_i64)) {
            (Some(seconds), Some(nanos)) => seconds
                .checked_mul(1_000_000_000)
                .and_then(|whole| whole.checked_add(nanos))
                .map_or(Json::Null, |all| Json::from(all.to_string())),
            _ => Json::Null,
        },
        _ => Json::Null,
    }
}

/// Attributes as OTLP lists them.
fn listed(given: Option<&Json>) -> Json {
    let mut all = Vec::new();
    match given {
        Some(Json::Object(members)) => {
            each(members, "", 0, &mut all);
            // Some have a value in its tree and under its whole name.
            let mut seen = HashSet::new();
            all.retain(|one| one.get("key").and_then(Json::as_str).is_none_or(|key| seen.insert(key.to_owned())));
        }
        Some(Json::Array(items)) => {
            for item in items {
                // Go's exporter: {"Key":"k","Value":{"Type":"STRING","Value":"v"}}.
                match (item.get("Key").and_then(Json::as_str), item.get("Value").and_then(|value| value.get("Value"))) {
                    (Some(key), Some(value)) => all.push(pair(key, any(value))),
                    _ => all.push(item.clone()),
                }
            }
        }
        _ => {}
    }
    Json::Array(all)
}

fn each(members: &Object, prefix: &str, depth: usize, all: &mut Vec<Json>) {
    for (key, value) in members.iter() {
        let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            // Some keep attributes as a tree: {"tool":{"name":"f"}}. What a dialect knows as one value is one.
            Json::Object(inner)
                if depth < DEEPEST
                    && !inner.is_empty()
                    && (!dialects::is_known(&key) || inner.get("value").is_some()) =>
            {
                each(inner, &key, depth + 1, all);
            }
            value => all.push(pair(&key, any(value))),
        }
    }
}

fn pair(key: &str, value: Json) -> Json {
    Json::from(Object::from_iter([("key", Json::from(key)), ("value", value)]))
}

/// A value as OTLP wraps it.
fn any(value: &Json) -> Json {
    let (kind, value) = match value {
        Json::Null => return Json::from(Object::new()),
        Json::Bool(_) => ("boolValue", value.clone()),
        Json::Number(_) if value.as_i64().is_some() => ("intValue", value.clone()),
        Json::Number(_) => ("doubleValue", value.clone()),
        Json::String(_) => ("stringValue", value.clone()),
        Json::Array(items) => {
            let values = Json::Array(items.iter().map(any).collect());
            ("arrayValue", Json::from(Object::from_iter([("values", values)])))
        }
        Json::Object(members) => {
            let values = Json::Array(members.iter().map(|(key, value)| pair(key, any(value))).collect());
            ("kvlistValue", Json::from(Object::from_iter([("values", values)])))
        }
    };
    Json::from(Object::from_iter([(kind, value)]))
}

/// An export with OTLP's names in camel case. Names of attributes are values there, and stay.
fn camel(value: &Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.iter().map(camel).collect()),
        Json::Object(members) => {
            let name = |key: &str| {
                let mut words = key.split('_');
                let first = words.next().unwrap_or_default().to_owned();
                let rest = words.flat_map(|word| {
                    let mut letters = word.chars();
                    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<Vec<_>>()
                });
                first + &rest.collect::<String>()
            };
            let given = |key: &str, value: &Json| match (key, value) {
                ("attributes", Json::Object(_)) => listed(Some(value)),
                _ => camel(value),
            };
            Json::from(members.iter().map(|(key, value)| (name(key), given(key, value))).collect::<Object>())
        }
        other => other.clone(),
    }
}

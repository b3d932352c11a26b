//! The rows of a pipeline: one event for each entry of the log, with the `record_integrity` profile.
//!
//! Invariant O4: the row of an entry depends on nothing but the entry and the options. Whoever has the log can make every row again
//! and compare; and a row that is sent twice is the same bytes twice.
//!
//! `metadata.uid` is the entry's hash and `attestation.prev_event.uid` that of the entry before, so rows show by themselves whether
//! one is missing between them, and a proof for the entry ties a row to what the log has signed. `attestation.fingerprint` is the
//! SHA-256 of the event's canonical JSON (RFC 8785) without the fingerprint, as the schema says.

use super::{OcsfOptions, PRODUCT, SCHEMA, api_activity, integer, millis, object, product, text};
use attestlog::json::{Json, Object};
use attestlog::{Entry, Hash, Kind, SystemEvent, Timestamp};

/// A class of the schema: its number and name, and those of its category.
#[derive(Clone, Copy)]
struct Class {
    uid: u32,
    name: &'static str,
    category: u32,
    category_name: &'static str,
}

const EVENT_LOG: Class = Class { uid: 1008, name: "Event Log Activity", category: 1, category_name: "System Activity" };
const FINDING: Class = Class { uid: 2004, name: "Detection Finding", category: 2, category_name: "Findings" };

/// The event of one entry: API Activity for a call (the beginning and the end of a call are two rows), Detection Finding for an
/// alert and its acknowledgement, Event Log Activity for whatever else happened to the log.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall, json::Json};
/// use attestlog_report::ocsf::{OcsfOptions, row};
/// # let log = AuditLog::in_memory()?;
/// # let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
/// let entry = log.entry(receipt.seq)?;
/// let row = row(&entry, &OcsfOptions::default());
/// let before = row.get("attestation").unwrap().get("prev_event").unwrap().get("uid").unwrap();
/// assert_eq!(before.as_str().unwrap(), log.entry(receipt.seq - 1)?.hash().to_string());
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn row(entry: &Entry, options: &OcsfOptions) -> Json {
    let event = match entry.own() {
        Some(own) => own_event(entry, own, options),
        None => api_activity(entry, options).unwrap_or(Json::Null),
    };
    attested(event, entry, options)
}

/// The row that takes the place of an entry which cannot be shown because it is not what was recorded. `detail` says what is wrong.
pub fn differing(seq: u64, detail: &str, at: Timestamp, options: &OcsfOptions) -> Json {
    let what = format!("entry {seq} of the log is not what was recorded");
    finding(
        (1, "Create"),
        (1, "New"),
        (5, "Critical"),
        at,
        [
            (
                "finding_info",
                object([("desc", text(detail)), ("title", text(&what)), ("uid", format!("differs-{seq}").into())]),
            ),
            ("message", text(&what)),
            ("metadata", metadata(seq, None, at, options)),
            ("unmapped", object([("kind", "differs".into())])),
        ],
    )
}

/// The seq of the entry that a row is of, and its hash if the row has one; `None` if this is no row of this program.
pub fn place(row: &Json) -> Option<(u64, Option<Hash>)> {
    let metadata = row.get("metadata")?;
    let name = metadata.get("product").and_then(|product| product.get("name"));
    name.filter(|name| name.as_str() == Some(PRODUCT))?;
    let hash = match metadata.get("uid") {
        None => None,
        Some(uid) => Some(uid.as_str()?.parse().ok()?),
    };
    Some((metadata.get("sequence").and_then(Json::as_u64)?, hash))
}

/// Adds the `record_integrity` profile.
fn attested(event: Json, entry: &Entry, options: &OcsfOptions) -> Json {
    let Json::Object(mut event) = event else { return event };
    let has_previous = entry.seq > 0;
    let previous = object([("uid", if has_previous { text(&entry.prev.to_string()) } else { Json::Null })]);
    let name = |value: &Option<String>| value.as_deref().map(text).into();
    let mut attestation = Object::from_iter([("chain_uid", name(&options.log)), ("prev_event", previous)]);
    attestation.insert("authority_uid", name(&options.public_key));
    attestation.retain(|_, value| *value != Json::Null && value.as_object().is_none_or(|o| !o.is_empty()));
    if let Some(Json::Object(metadata)) = event.get_mut("metadata") {
        let mut profiles = metadata.get("profiles").and_then(Json::as_array).unwrap_or_default().to_vec();
        profiles.push("record_integrity".into());
        metadata.insert("profiles", profiles);
    }
    event.insert("attestation", attestation.clone());
    let event = Json::from(event);
    let digest = Hash::of(event.to_canonical().as_str().as_bytes()).to_string();
    attestation.insert(
        "fingerprint",
        object([
            ("algorithm", "SHA-256".into()),
            ("algorithm_id", 3u32.into()),
            ("encoding", "Hex".into()),
            ("encoding_id", 1u32.into()),
            ("serialization", "JCS".into()),
            ("serialization_id", 1u32.into()),
            ("value", text(&digest)),
        ]),
    );
    let Json::Object(mut event) = event else { return event };
    event.insert("attestation", attestation);
    event.into()
}

fn own_event(entry: &Entry, own: &SystemEvent, options: &OcsfOptions) -> Json {
    let detail = own.detail.to_json();
    let said = |name: &str| detail.get(name).and_then(Json::as_str);
    let at = entry.body.recorded_at;
    let actor =
        said("actor").map_or(Json::Null, |who| object([("user", object([("name", text(who)), ("uid", text(who))]))]));
    let metadata = metadata(entry.seq, Some(entry.hash()), at, options);
    let kind = own.kind.as_str();
    let unmapped = object([("kind", kind.into()), ("reason", said("reason").map(text).into())]);
    match own.kind {
        Kind::Alert => {
            let severity = match said("severity") {
                Some("critical") => (5, "Critical"),
                Some("warning") => (3, "Medium"),
                _ => (1, "Informational"),
            };
            let rule = said("rule").unwrap_or("alert");
            let title = object([
                ("desc", said("summary").map(text).into()),
                ("title", text(rule)),
                ("uid", text(said("id").unwrap_or("alert"))),
            ]);
            finding(
                (1, "Create"),
                (1, "New"),
                severity,
                at,
                [
                    ("finding_info", title),
                    ("message", text(said("summary").unwrap_or(rule))),
                    ("metadata", metadata),
                    ("unmapped", unmapped),
                ],
            )
        }
        Kind::AlertAck => {
            let id = text(said("id").unwrap_or("alert"));
            let title = object([("title", "alert acknowledged".into()), ("uid", id)]);
            let disposition = text(said("disposition").unwrap_or("acknowledged"));
            finding(
                (3, "Close"),
                (4, "Resolved"),
                (1, "Informational"),
                at,
                [
                    ("comment", disposition),
                    ("finding_info", title),
                    ("metadata", metadata),
                    ("unmapped", object([("actor", said("actor").map(text).into()), ("kind", kind.into())])),
                ],
            )
        }
        kind => {
            let activity = match kind {
                Kind::Purge => (2, "Delete", "Event Log Activity: Delete"),
                Kind::Backup => (4, "Archive", "Event Log Activity: Archive"),
                Kind::Genesis => (9, "Enable", "Event Log Activity: Enable"),
                other => (99, other.as_str(), "Event Log Activity: Other"),
            };
            let severity = if kind == Kind::BreakGlassOpened { (3, "Medium") } else { (1, "Informational") };
            classified(
                EVENT_LOG,
                activity,
                severity,
                at,
                [
                    ("actor", actor),
                    ("log_name", options.log.as_deref().map(text).into()),
                    ("log_provider", PRODUCT.into()),
                    ("message", text(&kind.as_str().replace('_', " "))),
                    ("metadata", metadata),
                    ("unmapped", unmapped),
                ],
            )
        }
    }
}

fn finding<const N: usize>(
    (activity, name): (u32, &'static str),
    (status, status_name): (u32, &'static str),
    severity: (u32, &'static str),
    at: Timestamp,
    members: [(&str, Json); N],
) -> Json {
    let type_name = match activity {
        1 => "Detection Finding: Create",
        _ => "Detection Finding: Close",
    };
    let mut event = classified(FINDING, (activity, name, type_name), severity, at, members);
    if let Json::Object(event) = &mut event {
        event.insert("is_alert", activity == 1);
        event.insert("status", status_name);
        event.insert("status_id", status);
    }
    event
}

/// An event of a class with what every class requires.
fn classified<const N: usize>(
    class: Class,
    (activity, activity_name, type_name): (u32, &'static str, &'static str),
    (severity, severity_name): (u32, &'static str),
    at: Timestamp,
    members: [(&str, Json); N],
) -> Json {
    let mut event = object([
        ("activity_id", activity.into()),
        ("activity_name", activity_name.into()),
        ("category_name", class.category_name.into()),
        ("category_uid", class.category.into()),
        ("class_name", class.name.into()),
        ("class_uid", class.uid.into()),
        ("severity", severity_name.into()),
        ("severity_id", severity.into()),
        ("time", integer(millis(at))),
        ("type_name", type_name.into()),
        ("type_uid", (class.uid * 100 + activity).into()),
    ]);
    if let (Json::Object(event), Json::Object(members)) = (&mut event, object(members)) {
        for (name, value) in members.iter() {
            event.insert(name, value.clone());
        }
    }
    event
}

fn metadata(seq: u64, hash: Option<Hash>, at: Timestamp, options: &OcsfOptions) -> Json {
    object([
        ("log_name", options.log.as_deref().map(text).into()),
        ("logged_time", integer(millis(at))),
        ("original_time", at.to_string().into()),
        ("product", product()),
        ("sequence", seq.into()),
        ("uid", hash.map(|hash| hash.to_string()).into()),
        ("version", SCHEMA.into()),
    ])
}

//! Reads entries back from their lines, so that reports can be made from an exported log without the store.

use super::{
    Approval, Body, Call, CallError, Circumstances, Completion, Content, Decision, Digests, Entry, Kind, Outcome, Peer,
    Phase, Resource, Retention, Sender, Source, SourceKind, SystemEvent, Trigger,
};
use crate::json::{Json, Limits, Object};
use crate::{Error, Hash, Result, Timestamp};
use std::str::FromStr;

impl Entry {
    /// Reads an entry from its canonical line.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the text is not, byte for byte, the line of an entry.
    /// An accepted entry has the [hash](Entry::hash) of the text; whether a log contains that hash is another question.
    pub fn from_line(line: &str) -> Result<Entry> {
        let parsed =
            Json::parse_within(line.as_bytes(), &Limits::UNBOUNDED).map_err(|e| Error::invalid(e.to_string()))?;
        let Json::Object(mut members) = parsed.value else {
            return Err(Error::invalid("a line is an object"));
        };
        let entry = read(&mut members)?;
        // One comparison covers every error of form: unknown members, their order, the spelling of numbers.
        if entry.line() != line {
            return Err(Error::invalid("this is not the canonical line of an entry of this version"));
        }
        Ok(entry)
    }
}

fn read(members: &mut Object) -> Result<Entry> {
    let name = text(members, "kind")?.ok_or_else(|| missing("kind"))?;
    let kind = Kind::from_str(&name).map_err(|_| Error::invalid("unknown kind of entry"))?;
    let content = if kind.is_call() {
        Content::Call(Box::new(call(members, kind)?))
    } else {
        let detail = members.remove("detail").ok_or_else(|| missing("detail"))?.to_canonical();
        Content::System(SystemEvent { kind, detail })
    };
    let retention = match (text(members, "retention_class")?, time(members, "retain_until")?) {
        (Some(class), Some(until)) => Some(Retention { class, until }),
        _ => None,
    };
    let prev = text(members, "prev")?.and_then(|h| h.parse::<Hash>().ok()).ok_or_else(|| missing("prev"))?;
    let nonce = text(members, "nonce")?.as_deref().and_then(nonce).ok_or_else(|| missing("nonce"))?;
    let recorded_at = time(members, "recorded_at")?.ok_or_else(|| missing("recorded_at"))?;
    let seq = integer(members, "seq")?.ok_or_else(|| missing("seq"))?;
    Ok(Entry { seq, prev, body: Body { nonce, recorded_at, retention, content } })
}

fn call(m: &mut Object, kind: Kind) -> Result<Call> {
    let phase = match (kind, integer(m, "begun_seq")?) {
        (Kind::CallBegun, _) => Phase::Begun,
        (Kind::CallDetail, _) => Phase::Detail(integer(m, "detail_of")?.ok_or_else(|| missing("detail_of"))?),
        (_, Some(begun)) => Phase::Finished(begun),
        (_, None) => Phase::Whole,
    };
    let outcome = text(m, "outcome")?.and_then(|o| Outcome::from_str(&o).ok());
    let completion = match outcome {
        Some(outcome) => Some(Completion {
            outcome,
            duration_ms: m.remove("duration_ms").and_then(|d| d.as_f64()),
            result_summary: m.remove("result_summary").map(|s| s.to_canonical()),
            error: match m.remove("error") {
                Some(Json::Object(mut e)) => {
                    let message = text(&mut e, "message")?.ok_or_else(|| missing("error.message"))?;
                    Some(CallError { kind: text(&mut e, "type")?, message })
                }
                _ => None,
            },
        }),
        None => None,
    };
    let sender = match m.remove("sender") {
        Some(Json::Object(mut s)) => match (text(&mut s, "id")?, integer(&mut s, "number")?) {
            (Some(id), Some(number)) => Some(Sender { id, number }),
            _ => return Err(missing("sender")),
        },
        _ => None,
    };
    let circumstances = circumstances(m)?.kept();
    let mut required = |key: &str| text(m, key)?.ok_or_else(|| missing(key));
    let (conversation_id, user_id, tool_name) =
        (required("conversation_id")?, required("user_id")?, required("tool_name")?);
    Ok(Call {
        phase,
        timestamp: time(m, "timestamp")?.ok_or_else(|| missing("timestamp"))?,
        conversation_id,
        turn_number: integer(m, "turn_number")?,
        user_id,
        model: text(m, "model")?,
        agent_id: text(m, "agent_id")?,
        tool_name,
        tool_server: text(m, "tool_server")?,
        arguments: m.remove("arguments").map(|a| a.to_canonical()),
        trigger: text(m, "call_trigger")?.and_then(|t| Trigger::from_str(&t).ok()),
        call_id: text(m, "call_id")?,
        follows: integer(m, "retry_of")?.or(integer(m, "follow_up_of")?),
        patient_ids: texts(m, "patient_ids"),
        policy_seq: integer(m, "policy_seq")?.ok_or_else(|| missing("policy_seq"))?,
        purpose: text(m, "purpose")?,
        emergency: m.remove("emergency").is_some(),
        grant: integer(m, "grant")?,
        backfilled: m.remove("backfilled").is_some(),
        late_answer: m.remove("late_answer").is_some(),
        session_metadata: m.remove("session_metadata").map(|s| s.to_canonical()),
        completion,
        treated: m.remove("treated").map(|t| t.to_canonical()),
        restated: texts(m, "restated"),
        sender,
        given: text(m, "given")?,
        circumstances,
    })
}

/// The members that most calls do not have. The duration is still there if the entry does not say how the call ended.
fn circumstances(m: &mut Object) -> Result<Circumstances> {
    Ok(Circumstances {
        trace_id: text(m, "trace_id")?,
        span_id: text(m, "span_id")?,
        prompt_id: text(m, "prompt_id")?,
        parent_agent_id: text(m, "parent_agent_id")?,
        parent_call_id: text(m, "parent_call_id")?,
        sources: objects(m, "sources", |source| {
            let kind = text(source, "source")?.and_then(|kind| SourceKind::from_str(&kind).ok());
            Ok(Source {
                kind: kind.ok_or_else(|| missing("sources.source"))?,
                program: text(source, "program")?,
                version: text(source, "version")?,
                added: texts(source, "added"),
            })
        })?,
        approval: object(m, "approval", |approval| {
            let decision = text(approval, "decision")?.and_then(|decision| Decision::from_str(&decision).ok());
            Ok(Approval {
                decision: decision.ok_or_else(|| missing("approval.decision"))?,
                by: text(approval, "by")?,
                source: text(approval, "source")?,
                asked_at: time(approval, "asked_at")?,
                answered_at: time(approval, "answered_at")?,
            })
        })?,
        digests: object(m, "digests", |members| {
            let mut digests = Digests::default();
            for (name, value) in std::mem::take(members) {
                let digest = value.as_str().and_then(Digests::parse).ok_or_else(|| missing("digests"))?;
                *digests.of_name(&name).ok_or_else(|| missing("digests"))? = Some(digest);
            }
            Ok(digests)
        })?
        .unwrap_or_default(),
        peer: object(m, "peer", |peer| {
            let mut number = |key: &str| {
                let number = integer(peer, key)?.and_then(|number| u32::try_from(number).ok());
                number.ok_or_else(|| missing(key))
            };
            let (uid, gid, pid) = (number("uid")?, number("gid")?, number("pid")?);
            Ok(Peer { uid, gid, pid, started: time(peer, "started")?, program: text(peer, "program")? })
        })?,
        resources: objects(m, "resources", |resource| {
            let kind = text(resource, "kind")?.ok_or_else(|| missing("resources.kind"))?;
            Ok(Resource { kind, name: text(resource, "name")?.ok_or_else(|| missing("resources.name"))? })
        })?,
        contradicts: texts(m, "contradicts"),
        duration_ms: m.remove("duration_ms").and_then(|took| took.as_f64()),
    })
}

fn object<T>(m: &mut Object, key: &str, read: impl FnOnce(&mut Object) -> Result<T>) -> Result<Option<T>> {
    match m.remove(key) {
        None => Ok(None),
        Some(Json::Object(mut members)) => read(&mut members).map(Some),
        Some(_) => Err(missing(key)),
    }
}

fn objects<T>(m: &mut Object, key: &str, read: impl Fn(&mut Object) -> Result<T>) -> Result<Vec<T>> {
    let one = |item| match item {
        Json::Object(mut members) => read(&mut members),
        _ => Err(missing(key)),
    };
    match m.remove(key) {
        None => Ok(Vec::new()),
        Some(Json::Array(items)) => items.into_iter().map(one).collect(),
        Some(_) => Err(missing(key)),
    }
}

fn missing(key: &str) -> Error {
    Error::invalid(format!("{key} is missing or malformed"))
}

fn text(m: &mut Object, key: &str) -> Result<Option<String>> {
    match m.remove(key) {
        None => Ok(None),
        Some(Json::String(s)) => Ok(Some(s)),
        Some(_) => Err(missing(key)),
    }
}

fn texts(m: &mut Object, key: &str) -> Vec<String> {
    match m.remove(key) {
        Some(Json::Array(items)) => items.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn integer(m: &mut Object, key: &str) -> Result<Option<u64>> {
    m.remove(key).map(|n| n.as_u64().ok_or_else(|| missing(key))).transpose()
}

fn time(m: &mut Object, key: &str) -> Result<Option<Timestamp>> {
    text(m, key)?.map(|t| t.parse()).transpose()
}

fn nonce(hex: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

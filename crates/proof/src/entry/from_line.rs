//! Reads entries back from their lines, so that reports can be made from an exported log without the store.

use super::{
    Body, Call, CallError, CapturedBy, Completion, Content, Entry, Kind, Outcome, Phase, Retention, Sender,
    SystemEvent, Trigger,
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
        captured_by: text(m, "captured_by")?.and_then(|by| CapturedBy::from_str(&by).ok()),
        late_answer: m.remove("late_answer").is_some(),
        session_metadata: m.remove("session_metadata").map(|s| s.to_canonical()),
        completion,
        treated: m.remove("treated").map(|t| t.to_canonical()),
        restated: texts(m, "restated"),
        sender,
        given: text(m, "given")?,
    })
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

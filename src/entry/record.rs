//! A call as a line of input: what `attestlog record` reads.

use super::input::{CallResult, ToolCall};
use super::is_no_error;
use crate::json::{Json, Limits, Object, Parsed};
use crate::{Error, Result, Timestamp};
use attestlog_proof::{CallError, Outcome, Sender, TimeFault, Trigger};

/// The members of a call.
const KEYS: &[&str] = &[
    "timestamp",
    "turn_number",
    "model",
    "agent_id",
    "tool_server",
    "error",
    "outcome",
    "duration_ms",
    "session_metadata",
    "user_role",
    "call_trigger",
    "patient_id",
    "patient_ids",
    "purpose",
    "call_id",
    "retry_of",
    "follow_up_of",
    "emergency",
    "grant",
    "backfilled",
    "retention_class",
    "retain_until",
    "sender",
];

impl ToolCall {
    /// Reads one object of the input format of `attestlog record`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) names the member that is missing, unknown or of the wrong type.
    ///
    /// ```
    /// use attestlog::ToolCall;
    /// let call = ToolCall::from_jsonl(br#"{"tool_name":"t","conversation_id":"c","user_id":"u","result":{"id":7}}"#)?;
    /// assert!(ToolCall::from_jsonl(br#"{"tool_name":"t","conversation_id":"c","user_id":"u","colour":1}"#).is_err());
    /// # let _ = call;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_jsonl(line: &[u8]) -> Result<ToolCall> {
        ToolCall::read(line, false)
    }

    /// Reads what [`ToolCall::from_jsonl`] reads; a time without a zone is taken as UTC.
    ///
    /// # Errors
    /// As [`ToolCall::from_jsonl`].
    pub fn from_jsonl_utc(line: &[u8]) -> Result<ToolCall> {
        ToolCall::read(line, true)
    }

    fn read(line: &[u8], assume_utc: bool) -> Result<ToolCall> {
        let mut parsed = Json::parse_lenient(line, &Limits::default())?;
        if assume_utc {
            ToolCall::assume_utc(&mut parsed.value);
        }
        ToolCall::from_parsed(parsed)
    }

    /// Marks the times of a record that have no zone as UTC.
    pub fn assume_utc(record: &mut Json) {
        let Json::Object(members) = record else { return };
        for key in ["timestamp", "retain_until"] {
            if let Some(Json::String(text)) = members.get_mut(key)
                && Timestamp::lacks_zone(text)
            {
                text.push('Z');
            }
        }
    }

    /// A call from leniently parsed JSON. Names and ids with replaced characters are refused: two could become one.
    pub fn from_parsed(parsed: Parsed) -> Result<ToolCall> {
        const TEXTS: &[&str] = &["arguments", "result", "error", "session_metadata"];
        let restated: Vec<String> = parsed.restated.iter().map(ToString::to_string).collect();
        for path in &restated {
            let key = path.split(['.', '[']).next().unwrap_or_default();
            let replaced = |value: &Json| value.to_canonical().as_str().contains(['\u{2400}', '\u{fffd}']);
            if !TEXTS.contains(&key) && parsed.value.get(key).is_some_and(replaced) {
                let what = "NUL, half of a surrogate pair and bytes that are no UTF-8 cannot stand in a name or an id";
                return Err(Error::invalid(what).in_member(key));
            }
        }
        let mut call = ToolCall::from_json(parsed.value)?;
        let is_error = matches!(call.result, Some(CallResult::Error(_)));
        let slot = |path: String| if is_error && path == "result" { "error.message".to_owned() } else { path };
        call.restated = restated.into_iter().map(slot).collect();
        Ok(call)
    }

    /// Reads what [`ToolCall::from_jsonl`] reads, already parsed.
    ///
    /// # Errors
    /// As [`ToolCall::from_jsonl`].
    pub fn from_json(value: Json) -> Result<ToolCall> {
        let Json::Object(mut members) = value else {
            return Err(Error::invalid(format!("a call is an object, not {}", value.type_name())));
        };
        let mut call = ToolCall::new(
            required(&mut members, "conversation_id")?,
            required(&mut members, "user_id")?,
            required(&mut members, "tool_name")?,
        );
        if members.get("result").is_some() && members.get("error").is_some_and(|e| !is_no_error(e)) {
            return Err(Error::invalid("result and error exclude each other"));
        }
        for (key, value) in members {
            call.set(&key, value).map_err(|e| e.in_member(&key))?;
        }
        call.check_reserved()?;
        Ok(call)
    }

    fn set(&mut self, key: &str, value: Json) -> Result<()> {
        // Many writers use `null` for an absent member; for arguments and results it is a value.
        if value == Json::Null && !matches!(key, "arguments" | "result") {
            return if KEYS.contains(&key) { Ok(()) } else { Err(unknown_key()) };
        }
        match key {
            "timestamp" => self.timestamp = Some(time(value)?),
            "turn_number" => self.turn_number = Some(integer(&value)?),
            "model" => self.model = Some(text(value)?),
            "agent_id" => self.agent_id = Some(text(value)?),
            "tool_server" => self.tool_server = Some(text(value)?),
            "arguments" => self.arguments = Some(value),
            "result" => self.result = Some(CallResult::Value(value)),
            "error" if is_no_error(&value) => {}
            "error" => self.result = Some(CallResult::Error(call_error(value)?)),
            "outcome" => self.outcome = Some(named(value, Outcome::from_name, Outcome::ALL)?),
            "duration_ms" => {
                let ms = value.as_f64().ok_or_else(|| wrong_type("a number of milliseconds", &value))?;
                self.duration_ms = Some(ms);
            }
            "session_metadata" => match value {
                Json::Object(members) => {
                    for (key, value) in members {
                        self.session_metadata.insert(key, value);
                    }
                }
                other => return Err(wrong_type("an object", &other)),
            },
            "user_role" => {
                let role = Json::from(text(value)?);
                if self.session_metadata.get("user_role").is_some_and(|r| *r != role) {
                    return Err(Error::invalid("contradicts session_metadata.user_role"));
                }
                self.session_metadata.insert("user_role", role);
            }
            "call_trigger" => self.trigger = Some(named(value, Trigger::from_name, Trigger::ALL)?),
            "patient_id" | "patient_ids" => self.patient_ids.extend(patients(value)?),
            "purpose" => self.purpose = Some(text(value)?),
            "call_id" => self.call_id = Some(text(value)?),
            "retry_of" => self.follow(Trigger::Retry, integer(&value)?)?,
            "follow_up_of" => self.follow(Trigger::FollowUp, integer(&value)?)?,
            "emergency" => {
                self.emergency = value.as_bool().ok_or_else(|| wrong_type("true or false", &value))?;
            }
            "grant" => {
                self.grant = Some(integer(&value)?);
                self.emergency = true;
            }
            "backfilled" => self.backfilled = value.as_bool().ok_or_else(|| wrong_type("true or false", &value))?,
            "retention_class" => self.retention_class = Some(text(value)?),
            "retain_until" => self.retain_until = Some(time(value)?),
            "sender" => {
                let id = value.get("id").and_then(Json::as_str);
                let number = value.get("number").and_then(Json::as_u64);
                let (Some(id), Some(number), Some(2)) = (id, number, value.as_object().map(Object::len)) else {
                    return Err(Error::invalid("a sender is {\"id\":…,\"number\":…}"));
                };
                self.sender = Some(Sender::new(id, number));
            }
            _ => return Err(unknown_key()),
        }
        Ok(())
    }

    fn follow(&mut self, trigger: Trigger, seq: u64) -> Result<()> {
        if self.follows.is_some() {
            return Err(Error::invalid("retry_of and follow_up_of exclude each other"));
        }
        // Members come in alphabetical order, so a contradicting `call_trigger` was read before.
        if self.trigger.is_some_and(|t| t != trigger) {
            return Err(Error::invalid(format!("call_trigger must be {trigger} when the seq it follows is given")));
        }
        self.trigger = Some(trigger);
        self.follows = Some(seq);
        Ok(())
    }
}

fn unknown_key() -> Error {
    Error::invalid("is not a member of a call; what is unknown would be lost, so nothing was recorded")
}

fn wrong_type(wanted: &str, got: &Json) -> Error {
    Error::invalid(format!("must be {wanted}, not {}", got.type_name()))
}

fn required(members: &mut Object, key: &str) -> Result<String> {
    match members.remove(key) {
        Some(value) => text(value).map_err(|e| e.in_member(key)),
        None => Err(Error::invalid(format!("{key} is missing"))),
    }
}

fn text(value: Json) -> Result<String> {
    match value {
        Json::String(s) => Ok(s),
        other => Err(wrong_type("a string", &other)),
    }
}

fn integer(value: &Json) -> Result<u64> {
    value.as_u64().ok_or_else(|| wrong_type("an integer from 0 to 2^53-1", value))
}

fn named<T: Copy + std::fmt::Display>(value: Json, find: fn(&str) -> Option<T>, all: &[T]) -> Result<T> {
    let name = text(value)?;
    find(&name).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        Error::invalid(format!("is none of {}", names.join(", ")))
    })
}

/// A wrong time or name may hold anything, so the error message, which may end up in any log, does not quote it.
fn time(value: Json) -> Result<Timestamp> {
    if let Json::Number(n) = &value {
        return Timestamp::from_unix(n.as_f64()).ok_or_else(|| {
            Error::invalid("is no time in seconds or milliseconds since 1970 that lies within 1678 to 2261")
        });
    }
    let text = text(value)?;
    // The message says what kind of mistake it is, without the caller's text.
    Timestamp::read(&text).map_err(|fault| {
        Error::invalid(match fault {
            TimeFault::OutOfRange => "is outside 1678 to 2261",
            TimeFault::LeapSecond => "a leap second cannot be told apart; write second 59",
            TimeFault::NoZone => "has no time zone: write Z or +02:00 behind it, or say --assume-utc",
            TimeFault::Malformed => "is not a time: write 2025-07-06T14:23:01.456Z or 2025-07-06",
        })
    })
}

fn patients(value: Json) -> Result<Vec<String>> {
    let one = |value: Json| match value {
        Json::String(id) => Ok(id),
        Json::Number(_) => Ok(value.to_canonical().as_str().to_owned()),
        other => Err(wrong_type("a string or a number", &other)),
    };
    match value {
        Json::Array(many) => many.into_iter().map(one).collect(),
        Json::String(_) | Json::Number(_) => Ok(vec![one(value)?]),
        other => Err(wrong_type("a string, a number or a list of these", &other)),
    }
}

fn call_error(value: Json) -> Result<CallError> {
    match value {
        Json::String(message) => Ok(CallError { kind: None, message }),
        Json::Object(mut members) => {
            let message = required(&mut members, "message")?;
            let kind = members.remove("type").filter(|t| *t != Json::Null).map(text).transpose()?;
            match members.iter().next() {
                Some((key, _)) => Err(unknown_key().in_member(key)),
                None => Ok(CallError { kind, message }),
            }
        }
        other => Err(wrong_type("a string or {\"type\",\"message\"}", &other)),
    }
}

//! A call as a line of input: what `attestlog record` reads.

use super::input::{CallResult, DURATION, ToolCall, WHOLE, out_of_range};
use super::{circumstances, is_no_error};
use crate::json::{Json, Limits, Object, Parsed};
use crate::{Error, Result, Timestamp};
use attestlog_proof::json::form;
use attestlog_proof::{CallError, Outcome, Sender, TimeFault, Trigger};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Display;
use std::str::FromStr;

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
        let mut parsed = Json::parse_lenient(line, &Limits::default()).map_err(|e| {
            match line.trim_ascii_end().last() {
                // The first line of an object that is spread over several.
                Some(b'{' | b'[' | b',') => Error::invalid(format!(
                    "{e}: the line ends within a value; each call must be one JSON object on one line (`jq -c .` makes them so)"
                )),
                _ => e.into(),
            }
        })?;
        if assume_utc {
            ToolCall::assume_utc(&mut parsed.value);
        }
        ToolCall::from_parsed(parsed)
    }

    /// Marks the times of a record that have no zone as UTC.
    pub fn assume_utc(record: &mut Json) {
        let Json::Object(members) = record else { return };
        let mark = |members: &mut Object, keys: [&str; 2]| {
            for key in keys {
                if let Some(Json::String(text)) = members.get_mut(key)
                    && Timestamp::lacks_zone(text)
                {
                    text.push('Z');
                }
            }
        };
        mark(members, ["timestamp", "retain_until"]);
        if let Some(Json::Object(approval)) = members.get_mut("approval") {
            mark(approval, ["asked_at", "answered_at"]);
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
                let what =
                    "NUL, half of a surrogate pair and bytes that are not UTF-8 cannot be part of a name or an id";
                return Err(Error::invalid(what).in_member(key));
            }
        }
        // A number that no double holds became a text; in these members it is a number out of range, not a text.
        for path in &parsed.restated {
            let key = path.to_string();
            let key = key.split(['.', '[']).next().unwrap_or_default();
            let number = path.find(&parsed.value).and_then(Json::as_str);
            if let Some((number, wanted)) = number.zip(wanted_number(key)) {
                let digits: String = number.chars().take(40).collect();
                let cut = if digits.len() < number.len() { "…" } else { "" };
                return Err(out_of_range(format_args!("{digits}{cut}"), wanted).in_member(key));
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

    /// What [`ToolCall::from_json`] reads.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the input format cannot say what the call says. It has no
    /// member for what only this library sets (`sources`, `detail_of`, `late_answer`) nor for marks of restated values, and knows only
    /// numbers that are finite and below 2^53.
    ///
    /// ```
    /// use attestlog::ToolCall;
    /// let call = ToolCall::new("conv_1", "usr_1", "lookup").retry_of(7);
    /// assert_eq!(ToolCall::from_json(call.to_json()?)?, call);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn to_json(&self) -> Result<Json> {
        // Without `..`: a member that is added needs a place here, or the reason why it has none.
        let ToolCall {
            conversation_id,
            user_id,
            tool_name,
            timestamp,
            turn_number,
            model,
            agent_id,
            tool_server,
            arguments,
            result,
            outcome,
            duration_ms,
            session_metadata,
            trigger,
            call_id,
            follows,
            patient_ids,
            purpose,
            emergency,
            grant,
            backfilled,
            retention_class,
            retain_until,
            sender,
            circumstances,
            // Only this library sets these; a call that has them is refused below.
            detail_of: _,
            late_answer: _,
            restated: _,
        } = self;
        let text = |text: &Option<String>| text.as_deref().map(Json::from);
        let time = |time: &Option<Timestamp>| time.map(|t| Json::from(t.to_string()));
        let yes = |yes: &bool| yes.then_some(Json::Bool(true));
        let (result, error) = match result {
            None => (None, None),
            Some(CallResult::Value(value)) => (Some(value.clone()), None),
            Some(CallResult::Error(CallError { kind, message })) => {
                let message = Json::from(message.as_str());
                (None, Some(Object::from_iter([("message", message), ("type", text(kind).into())]).into()))
            }
        };
        let sender = sender.as_ref().map(|Sender { id, number }| {
            Object::from_iter([("id", Json::from(id.as_str())), ("number", (*number).into())]).into()
        });
        let followed = |by| follows.filter(|_| *trigger == Some(by)).map(Json::from);
        let patients = Some(patient_ids.clone()).filter(|ids| !ids.is_empty());
        let metadata = Some(session_metadata.clone()).filter(|members| !members.is_empty());
        let members = [
            ("conversation_id", Some(conversation_id.as_str().into())),
            ("user_id", Some(user_id.as_str().into())),
            ("tool_name", Some(tool_name.as_str().into())),
            ("timestamp", time(timestamp)),
            ("turn_number", turn_number.map(Json::from)),
            ("model", text(model)),
            ("agent_id", text(agent_id)),
            ("tool_server", text(tool_server)),
            ("arguments", arguments.clone()),
            ("result", result),
            ("error", error),
            ("outcome", outcome.map(|outcome| outcome.as_str().into())),
            ("duration_ms", duration_ms.map(Json::from)),
            ("session_metadata", metadata.map(Json::from)),
            ("call_trigger", trigger.map(|trigger| trigger.as_str().into())),
            ("patient_ids", patients.map(Json::from)),
            ("purpose", text(purpose)),
            ("call_id", text(call_id)),
            ("retry_of", followed(Trigger::Retry)),
            ("follow_up_of", followed(Trigger::FollowUp)),
            ("emergency", yes(emergency)),
            ("grant", grant.map(Json::from)),
            ("backfilled", yes(backfilled)),
            ("retention_class", text(retention_class)),
            ("retain_until", time(retain_until)),
            ("sender", sender),
        ];
        let members = members.into_iter().chain(circumstances::to_json(circumstances));
        let json = Json::Object(members.filter_map(|(name, value)| Some((name, value?))).collect());
        match ToolCall::from_json(json.clone()) {
            Ok(call) if call == *self => Ok(json),
            Ok(_) => Err(Error::invalid(
                "the call holds something that its JSON form has no member for; record it without that",
            )),
            Err(e) => Err(e),
        }
    }

    fn set(&mut self, key: &str, value: Json) -> Result<()> {
        // Many writers use `null` for an absent member; for arguments and results it is a value.
        let known = match value == Json::Null && !matches!(key, "arguments" | "result") {
            true => ToolCall::new("", "", "").take(key, value).unwrap_or(true),
            false => self.take(key, value)?,
        };
        if known { Ok(()) } else { Err(unknown_key()) }
    }

    /// Takes the value of a member; `false` if a call has no such member.
    fn take(&mut self, key: &str, value: Json) -> Result<bool> {
        // Without `..`: a member that is added needs an arm, or the reason why it has none.
        let ToolCall {
            timestamp,
            turn_number,
            model,
            agent_id,
            tool_server,
            arguments,
            result,
            outcome,
            duration_ms,
            session_metadata,
            trigger,
            call_id,
            patient_ids,
            purpose,
            emergency,
            grant,
            backfilled,
            retention_class,
            retain_until,
            sender,
            circumstances,
            // `from_json` has read the required members.
            conversation_id: _,
            user_id: _,
            tool_name: _,
            // `follow` sets it.
            follows: _,
            // No input can say these.
            detail_of: _,
            late_answer: _,
            restated: _,
        } = self;
        match key {
            "timestamp" => *timestamp = Some(time(value)?),
            "turn_number" => *turn_number = Some(integer(&value)?),
            "model" => *model = Some(text(value)?),
            "agent_id" => *agent_id = Some(text(value)?),
            "tool_server" => *tool_server = Some(text(value)?),
            "arguments" => *arguments = Some(value),
            "result" => *result = Some(CallResult::Value(value)),
            "error" if is_no_error(&value) => {}
            "error" => *result = Some(CallResult::Error(call_error(value)?)),
            "outcome" => *outcome = Some(named(value, Outcome::ALL)?),
            "duration_ms" => {
                let ms = value.as_f64().ok_or_else(|| wrong_type(DURATION, &value))?;
                *duration_ms = Some(ms);
            }
            "session_metadata" => match value {
                Json::Object(members) => {
                    for (key, value) in members {
                        session_metadata.insert(key, value);
                    }
                }
                other => return Err(wrong_type("an object", &other)),
            },
            "user_role" => {
                let role = Json::from(text(value)?);
                if session_metadata.get("user_role").is_some_and(|r| *r != role) {
                    return Err(Error::invalid("contradicts session_metadata.user_role"));
                }
                session_metadata.insert("user_role", role);
            }
            "call_trigger" => *trigger = Some(named(value, Trigger::ALL)?),
            "patient_id" | "patient_ids" => patient_ids.extend(patients(value)?),
            "purpose" => *purpose = Some(text(value)?),
            "call_id" => *call_id = Some(text(value)?),
            "retry_of" => self.follow(Trigger::Retry, integer(&value)?)?,
            "follow_up_of" => self.follow(Trigger::FollowUp, integer(&value)?)?,
            "emergency" => {
                *emergency = value.as_bool().ok_or_else(|| wrong_type("true or false", &value))?;
            }
            "grant" => {
                *grant = Some(integer(&value)?);
                *emergency = true;
            }
            "backfilled" => *backfilled = value.as_bool().ok_or_else(|| wrong_type("true or false", &value))?,
            "retention_class" => *retention_class = Some(text(value)?),
            "retain_until" => *retain_until = Some(time(value)?),
            "sender" => {
                let id = value.get("id").and_then(Json::as_str);
                let number = value.get("number").and_then(Json::as_u64);
                let (Some(id), Some(number), Some(2)) = (id, number, value.as_object().map(Object::len)) else {
                    return Err(Error::invalid("a sender is {\"id\":…,\"number\":…}"));
                };
                *sender = Some(Sender::new(id, number));
            }
            _ => return circumstances::take(circumstances, key, value),
        }
        Ok(true)
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

impl Serialize for ToolCall {
    /// As [`ToolCall::to_json`].
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.to_json().map_err(S::Error::custom)?.serialize(out)
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    /// As [`ToolCall::from_jsonl`].
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ToolCall, D::Error> {
        let text = form::deserialize_text(from)?;
        ToolCall::from_jsonl(text.get().as_bytes()).map_err(D::Error::custom)
    }
}

fn unknown_key() -> Error {
    Error::invalid("is not a member of a call, and what is unknown would be lost")
}

pub(super) fn wrong_type(wanted: &str, got: &Json) -> Error {
    Error::invalid(format!("must be {wanted}, not {}", got.type_name()))
}

fn required(members: &mut Object, key: &str) -> Result<String> {
    match members.remove(key) {
        Some(value) => text(value).map_err(|e| e.in_member(key)),
        None => Err(Error::invalid(format!("{key} is missing"))),
    }
}

pub(super) fn text(value: Json) -> Result<String> {
    match value {
        Json::String(s) => Ok(s),
        other => Err(wrong_type("a string", &other)),
    }
}

fn integer(value: &Json) -> Result<u64> {
    value.as_u64().ok_or_else(|| match value {
        Json::Number(n) => out_of_range(format_args!("{n:?}"), WHOLE),
        other => wrong_type(WHOLE, other),
    })
}

/// A time that is given as a number.
const SINCE_1970: &str = "a time in seconds or milliseconds since 1970 that lies within 1678 to 2261";

/// What a number must be in the members that take no other number.
fn wanted_number(key: &str) -> Option<&'static str> {
    match key {
        "duration_ms" => Some(DURATION),
        "turn_number" | "retry_of" | "follow_up_of" | "grant" | "sender" => Some(WHOLE),
        "timestamp" | "retain_until" => Some(SINCE_1970),
        _ => None,
    }
}

/// A wrong name may hold anything, as a wrong time may: the error does not quote it.
pub(super) fn named<T: Copy + Display + FromStr>(value: Json, all: &[T]) -> Result<T> {
    text(value)?.parse().map_err(|_| {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        Error::invalid(format!("is none of {}", names.join(", ")))
    })
}

/// A wrong time or name may hold anything, so the error message, which may end up in any log, does not quote it.
pub(super) fn time(value: Json) -> Result<Timestamp> {
    if let Json::Number(n) = &value {
        return Timestamp::from_unix(n.as_f64()).ok_or_else(|| out_of_range(format_args!("{n:?}"), SINCE_1970));
    }
    let text = text(value)?;
    // The message says what kind of mistake it is, without the caller's text.
    Timestamp::read(&text).map_err(|fault| {
        Error::invalid(match fault {
            TimeFault::OutOfRange => "is outside 1678 to 2261",
            TimeFault::LeapSecond => "a leap second cannot be told apart; write second 59",
            TimeFault::NoZone => "has no time zone: write Z or +02:00 after it, or say --assume-utc",
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

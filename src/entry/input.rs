//! What a host says of a call, before the store has made an entry of it.

use super::{error_text, is_no_error, says_failed, text_fails};
use crate::json::{Json, Limits, Object, Parsed};
use crate::redact::{Altered, normalise};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::{CallError, CapturedBy, Outcome, Sender, TimeFault, Trigger};
use std::time::Duration;

/// How large the parts of a call may be. What is larger is refused with its size, never cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallLimits {
    /// Bytes of an id, a name, a role, a purpose.
    pub id_bytes: usize,
    /// How many patients one call may concern.
    pub patients: usize,
    /// Bytes of the finished line.
    pub line_bytes: usize,
}

impl Default for CallLimits {
    /// 64 KiB an id, 10,000 patients, 4 MiB a line.
    fn default() -> CallLimits {
        CallLimits { id_bytes: 64 << 10, patients: 10_000, line_bytes: 4 << 20 }
    }
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub enum CallResult {
    /// It answered with this. An object with an `error` member that is not empty (null, false, 0, `""`, `[]`, `{}`), with
    /// `isError` or `is_error` (`true`, `1`, `"true"`), or with the `status` `error`, counts as a failure, whatever case and
    /// separators these names are written with, and so does a text whose first word is `Error`, `error` or `ERROR`,
    /// unless an outcome is given.
    Value(Json),
    /// It failed.
    Error(CallError),
}

/// A tool call as a host describes it: three names, and whatever else is known.
///
/// ```
/// use attestlog::{ToolCall, Trigger, json::Json};
/// let arguments = Json::parse(br#"{"order_id": "o-1"}"#)?.value;
/// let call = ToolCall::new("conv_abc123", "usr_98765", "update_order_status")
///     .arguments(arguments)
///     .model("gpt-4.1")
///     .role("support_agent")
///     .trigger(Trigger::UserRequest)
///     .duration(std::time::Duration::from_micros(145_200));
/// # let _ = call;
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a call is recorded by `AuditLog::record`"]
#[non_exhaustive]
pub struct ToolCall {
    /// The conversation it belongs to.
    pub conversation_id: String,
    /// Who started it: a person or account.
    pub user_id: String,
    /// The tool.
    pub tool_name: String,
    /// When it happened, by the caller's clock; the time of recording where `None`.
    pub timestamp: Option<Timestamp>,
    /// The turn of the conversation.
    pub turn_number: Option<u64>,
    /// The model that decided on the call.
    pub model: Option<String>,
    /// The agent in which the model ran.
    pub agent_id: Option<String>,
    /// The server or provider that offers the tool.
    pub tool_server: Option<String>,
    /// What the tool was called with; sanitised before anything is stored.
    pub arguments: Option<Json>,
    /// What it answered; stored as a summary.
    pub result: Option<CallResult>,
    /// How it ended; told from the result where `None`.
    pub outcome: Option<Outcome>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Role, client address and whatever else is known of the session; sanitised.
    pub session_metadata: Object,
    /// What set the call off.
    pub trigger: Option<Trigger>,
    /// The provider's id of the call.
    pub call_id: Option<String>,
    /// The seq of the entry that it follows.
    pub follows: Option<u64>,
    /// The patients whom it concerns.
    pub patient_ids: Vec<String>,
    /// Why the data was accessed.
    pub purpose: Option<String>,
    /// Whether it was made under an emergency override.
    pub emergency: bool,
    /// The seq of the emergency grant under which it was made.
    pub grant: Option<u64>,
    /// Whether it comes from a recording.
    pub backfilled: bool,
    /// Which part of attestlog took the call up: an importer or the proxy; `None` where a host describes it. No JSON input sets it.
    pub captured_by: Option<CapturedBy>,
    /// Whether it is the answer to the call that it follows, which the log had recorded without one. No JSON input sets it, and
    /// the log looks whether it can be.
    pub late_answer: bool,
    /// The retention class, where it is not for the policy to decide.
    pub retention_class: Option<String>,
    /// Kept at least until then.
    pub retain_until: Option<Timestamp>,
    /// Where numbers or texts stood that could not be kept as they were given.
    pub restated: Vec<String>,
    /// The numbered sender of the record.
    pub sender: Option<Sender>,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $method:ident => $field:ident;)*) => {
        $($(#[$doc])*
        pub fn $method(mut self, text: impl Into<String>) -> Self {
            self.$field = Some(text.into());
            self
        })*
    };
}

impl ToolCall {
    /// A call of `tool_name` for `user_id` in `conversation_id`.
    pub fn new(conversation_id: impl Into<String>, user_id: impl Into<String>, tool_name: impl Into<String>) -> Self {
        ToolCall {
            conversation_id: conversation_id.into(),
            user_id: user_id.into(),
            tool_name: tool_name.into(),
            timestamp: None,
            turn_number: None,
            model: None,
            agent_id: None,
            tool_server: None,
            arguments: None,
            result: None,
            outcome: None,
            duration_ms: None,
            session_metadata: Object::new(),
            trigger: None,
            call_id: None,
            follows: None,
            patient_ids: Vec::new(),
            purpose: None,
            emergency: false,
            grant: None,
            backfilled: false,
            captured_by: None,
            late_answer: false,
            retention_class: None,
            retain_until: None,
            restated: Vec::new(),
            sender: None,
        }
    }

    texts! {
        /// The model that decided on the call.
        model => model;
        /// The agent in which the model runs.
        agent => agent_id;
        /// The server or provider that offers the tool.
        server => tool_server;
        /// The provider's id of the call; need not be unique.
        call_id => call_id;
        /// Why data is accessed: `treatment`, `payment`, `operations`, `research`, or a code of the host's.
        purpose => purpose;
        /// The retention class, instead of the one that the policy would assign; it may lengthen, never shorten.
        retention_class => retention_class;
    }

    /// When the call happened; the store's clock at recording where it is not said.
    pub fn timestamp(mut self, at: Timestamp) -> Self {
        self.timestamp = Some(at);
        self
    }

    /// The turn of the conversation.
    pub fn turn(mut self, number: u64) -> Self {
        self.turn_number = Some(number);
        self
    }

    /// The arguments: any JSON value, as a rule an object.
    pub fn arguments(mut self, arguments: impl Into<Json>) -> Self {
        self.arguments = Some(arguments.into());
        self
    }

    /// What the tool answered (see [`CallResult::Value`] for what counts as a failure).
    pub fn result(mut self, value: impl Into<Json>) -> Self {
        self.result = Some(CallResult::Value(value.into()));
        self
    }

    /// The error with which the tool failed.
    pub fn error(mut self, message: impl Into<String>) -> Self {
        self.result = Some(CallResult::Error(CallError { kind: None, message: message.into() }));
        self
    }

    /// The error with which the tool failed, with its type or code.
    pub fn typed_error(mut self, kind: impl Into<String>, message: impl Into<String>) -> Self {
        self.result = Some(CallResult::Error(CallError { kind: Some(kind.into()), message: message.into() }));
        self
    }

    /// How the call ended, where it does not follow from the result: denied, timed out, abandoned.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// How long the call took.
    pub fn duration(mut self, took: Duration) -> Self {
        self.duration_ms = Some(took.as_nanos() as f64 / 1e6);
        self
    }

    /// The user's role, which stands in the session's metadata as `user_role`.
    pub fn role(self, role: impl Into<String>) -> Self {
        self.metadata("user_role", role.into())
    }

    /// One member of the session's metadata: `client_ip`, `user_agent`, anything else.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.session_metadata.insert(key, value);
        self
    }

    /// What set the call off.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = Some(trigger);
        self
    }

    /// A retry of the call at this seq.
    pub fn retry_of(mut self, seq: u64) -> Self {
        self.trigger = Some(Trigger::Retry);
        self.follows = Some(seq);
        self
    }

    /// A follow-up of the call at this seq.
    pub fn follow_up_of(mut self, seq: u64) -> Self {
        self.trigger = Some(Trigger::FollowUp);
        self.follows = Some(seq);
        self
    }

    /// A patient whom the call concerns; more are found in `arguments.patient_id`, however that is written, and at
    /// configured paths.
    pub fn patient(mut self, id: impl Into<String>) -> Self {
        self.patient_ids.push(id.into());
        self
    }

    /// Marks the call as made in an emergency, under the grant at this seq if there is one.
    pub fn emergency(mut self, grant: Option<u64>) -> Self {
        self.emergency = true;
        self.grant = grant;
        self
    }

    /// Marks the call as taken from a recording, not recorded as it happened. That is the caller's word: alert rules and
    /// reports go by the call's time, and take as recordings only what an importer has read.
    pub fn backfilled(mut self) -> Self {
        self.backfilled = true;
        self
    }

    /// Keeps the entry at least until then; earlier than the policy says is refused.
    pub fn retain_until(mut self, until: Timestamp) -> Self {
        self.retain_until = Some(until);
        self
    }

    /// Numbers the record: the same sender and number again is answered with the first receipt.
    pub fn sender(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// Reads one object of the input format of `attestlog record`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or of the wrong type.
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

    /// The times of a record that have no zone, taken as UTC.
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

    /// Makes a call of what was read leniently, but for names and ids: with a character replaced in them two would be one.
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
        // `null` is how many writers say that a member is absent; for arguments and results it is a value.
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
        // Members come in alphabetical order, so a contradicting call_trigger was read before.
        if self.trigger.is_some_and(|t| t != trigger) {
            return Err(Error::invalid(format!("call_trigger must be {trigger} when the seq it follows is given")));
        }
        self.trigger = Some(trigger);
        self.follows = Some(seq);
        Ok(())
    }

    /// Brings whatever entries are found by into its normal form, and says what that changed, by member.
    pub(crate) fn normalise(&mut self) -> Vec<(&'static str, Altered)> {
        let required = [
            ("conversation_id", &mut self.conversation_id),
            ("user_id", &mut self.user_id),
            ("tool_name", &mut self.tool_name),
        ];
        let optional = [
            ("model", &mut self.model),
            ("agent_id", &mut self.agent_id),
            ("tool_server", &mut self.tool_server),
            ("purpose", &mut self.purpose),
        ];
        let patients = self.patient_ids.iter_mut().map(|name| ("patient_ids", name));
        let optional_names = optional.into_iter().filter_map(|(member, name)| Some((member, name.as_mut()?)));
        let names = required.into_iter().chain(optional_names).chain(patients);
        let altered = names.map(|(member, name)| {
            let mut altered = Altered::default();
            altered.note(name);
            normalise(name);
            (member, altered)
        });
        let altered = altered.collect();
        for optional in [&mut self.model, &mut self.agent_id, &mut self.tool_server, &mut self.purpose] {
            // What has nothing to say is left out.
            optional.take_if(|text| text.is_empty());
        }
        altered
    }

    /// A text that is all that a tool said, and of which nothing else says how the call ended, is an error where it reads
    /// as one.
    pub(crate) fn take_error_text(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        let message = match &mut self.result {
            Some(CallResult::Value(Json::String(text))) if text_fails(text) => Some(std::mem::take(text)),
            Some(CallResult::Value(value)) if says_failed(value).is_none() => error_text(value),
            _ => None,
        };
        if let Some(message) = message {
            self.result = Some(CallResult::Error(CallError { kind: None, message }));
            for path in self.restated.iter_mut().filter(|path| *path == "result") {
                *path = "error.message".to_owned();
            }
        }
    }

    /// Refuses what cannot be recorded, naming the member.
    pub fn validate(&self, limits: &CallLimits) -> Result<()> {
        let required =
            [("conversation_id", &self.conversation_id), ("user_id", &self.user_id), ("tool_name", &self.tool_name)];
        for (name, value) in required {
            if value.is_empty() {
                return Err(Error::invalid("must not be empty").in_member(name));
            }
            check_text(name, value, limits)?;
        }
        let optional = [
            ("model", &self.model),
            ("agent_id", &self.agent_id),
            ("tool_server", &self.tool_server),
            ("call_id", &self.call_id),
            ("purpose", &self.purpose),
            ("retention_class", &self.retention_class),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                check_text(name, value, limits)?;
            }
        }
        if self.patient_ids.len() > limits.patients {
            let message = format!("{} patients, more than the limit of {}", self.patient_ids.len(), limits.patients);
            return Err(Error::new(ErrorKind::TooLarge, message).in_member("patient_id"));
        }
        for patient in &self.patient_ids {
            if patient.is_empty() {
                return Err(Error::invalid("must not be empty").in_member("patient_id"));
            }
            check_text("patient_id", patient, limits)?;
        }
        if let Some(sender) = &self.sender {
            check_text("sender", &sender.id, limits)?;
            if sender.id.is_empty() || sender.number == 0 {
                return Err(Error::invalid("needs an id and a number from 1").in_member("sender"));
            }
            // Whoever sends under such an id shows the secret that it was made of, and is given it by the store.
            if sender.id.starts_with(OWN_SENDER) {
                let message = format!("ids that begin with `{OWN_SENDER}` are this program's own; use another one");
                return Err(Error::invalid(message).in_member("sender"));
            }
        }
        let integers = [
            ("turn_number", self.turn_number),
            ("follows", self.follows),
            ("grant", self.grant),
            ("sender: number", self.sender.as_ref().map(|sender| sender.number)),
        ];
        for (name, value) in integers {
            if value.is_some_and(|n| n > crate::json::MAX_INT as u64) {
                return Err(Error::invalid("beyond 2^53-1").in_member(name));
            }
        }
        if let Some(ms) = self.duration_ms
            && !(0.0..=MAX_DURATION_MS).contains(&ms)
        {
            return Err(Error::invalid("must be between 0 and a hundred years").in_member("duration_ms"));
        }
        let values = self.arguments.iter().map(|a| ("arguments", a)).chain(match &self.result {
            Some(CallResult::Value(value)) => Some(("result", value)),
            _ => None,
        });
        for (name, value) in values {
            value.check().map_err(|e| Error::invalid(e).in_member(name))?;
        }
        if let Some(CallResult::Error(error)) = &self.result {
            let texts = error.kind.iter().chain([&error.message]);
            if texts.into_iter().any(|t| t.contains('\0')) {
                return Err(Error::invalid("NUL cannot be kept in a string").in_member("error"));
            }
        }
        self.session_metadata.check().map_err(|e| Error::invalid(e).in_member("session_metadata"))
    }
}

/// What the ids of senders begin with that processes make for themselves (R74).
pub(crate) const OWN_SENDER: &str = "process-";

/// A hundred years in milliseconds: longer is a mistake, and nanoseconds of it still fit 64 bits.
const MAX_DURATION_MS: f64 = 100.0 * 366.0 * 86_400_000.0;

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

fn check_text(name: &str, value: &str, limits: &CallLimits) -> Result<()> {
    if value.len() > limits.id_bytes {
        let message = format!("{} bytes, more than the limit of {}", value.len(), limits.id_bytes);
        return Err(Error::new(ErrorKind::TooLarge, message).in_member(name));
    }
    if value.contains('\0') {
        return Err(Error::invalid("NUL cannot be kept in a string").in_member(name));
    }
    Ok(())
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

/// What stands where a time or a name should may be anything: a message, which may end in any log, does not show it.
fn time(value: Json) -> Result<Timestamp> {
    if let Json::Number(n) = &value {
        return Timestamp::from_unix(n.as_f64()).ok_or_else(|| {
            Error::invalid("is no time in seconds or milliseconds since 1970 that lies within 1678 to 2261")
        });
    }
    let text = text(value)?;
    // The text itself is the caller's and may be anything; what kind of mistake it is may be told.
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

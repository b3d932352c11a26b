//! A call as a host describes it, before the store turns it into an entry.

use crate::json::{Json, Object, Parsed, Path};
use crate::redact::{Altered, normalise};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::{CallError, Circumstances, Outcome, Sender, Trigger};
use std::fmt;
use std::time::Duration;

/// The limits for the parts of a call. A part over its limit is refused, never truncated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallLimits {
    /// Most bytes of an id, a name, a role or a purpose.
    pub id_bytes: usize,
    /// Most patients that one call may concern.
    pub patients: usize,
    /// Most resources that one call may name.
    pub resources: usize,
    /// Most bytes of the finished line.
    pub line_bytes: usize,
}

impl Default for CallLimits {
    /// 64 KiB per id, 10,000 patients, 1,000 resources, 4 MiB per line.
    fn default() -> CallLimits {
        CallLimits { id_bytes: 64 << 10, patients: 10_000, resources: 1_000, line_bytes: 4 << 20 }
    }
}

/// The answer of a tool.
#[derive(Debug, Clone, PartialEq)]
pub enum CallResult {
    /// The tool returned this value. Unless an outcome is given, it counts as a failure if it is an object with a
    /// non-empty `error` member (not null, false, 0, `""`, `[]` or `{}`), with `isError` or `is_error` (`true`, `1`,
    /// `"true"`), or with the `status` `error`, in any case and with any separators in these names; or a text whose
    /// first word is `Error`, `error` or `ERROR`.
    Value(Json),
    /// The tool failed.
    Error(CallError),
}

/// A tool call as a host describes it: three required names, and whatever else is known.
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
#[must_use = "a call is recorded by `OpenStore::record`"]
#[non_exhaustive]
pub struct ToolCall {
    /// The conversation it belongs to.
    pub conversation_id: String,
    /// Who started it: a person or account.
    pub user_id: String,
    /// The tool.
    pub tool_name: String,
    /// When it happened, by the caller's clock; `None`: the time of recording.
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
    /// The tool's answer; stored as a summary.
    pub result: Option<CallResult>,
    /// How it ended; `None`: derived from the result.
    pub outcome: Option<Outcome>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Role, client address and whatever else is known of the session; sanitised.
    pub session_metadata: Object,
    /// What set the call off.
    pub trigger: Option<Trigger>,
    /// The provider's id of the call.
    pub call_id: Option<String>,
    /// The seq of the entry that it retries or follows up.
    pub follows: Option<u64>,
    /// The patients that it concerns.
    pub patient_ids: Vec<String>,
    /// Why the data was accessed.
    pub purpose: Option<String>,
    /// Whether it was made under an emergency override.
    pub emergency: bool,
    /// The seq of the emergency grant under which it was made.
    pub grant: Option<u64>,
    /// Whether it comes from a recording.
    pub backfilled: bool,
    /// Whether it is the late answer to the call that it follows, which the log has without an answer. JSON input
    /// cannot set it, and the log checks that the answer is still missing.
    pub late_answer: bool,
    /// The retention class, if the policy should not assign it.
    pub retention_class: Option<String>,
    /// Keep the entry at least until this time.
    pub retain_until: Option<Timestamp>,
    /// Paths of numbers and texts that could not be kept as given.
    pub restated: Vec<String>,
    /// The sender of the record, and its number.
    pub sender: Option<Sender>,
    /// Who told of the call, its trace, its approval, what it touched. JSON input cannot set all of it.
    pub circumstances: Circumstances,
    /// The seq of the call of which this tells details. JSON input cannot set it.
    pub detail_of: Option<u64>,
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
            late_answer: false,
            retention_class: None,
            retain_until: None,
            restated: Vec::new(),
            sender: None,
            circumstances: Circumstances::default(),
            detail_of: None,
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

    /// When the call happened. Default: the store's clock at recording.
    pub fn timestamp(mut self, at: Timestamp) -> Self {
        self.timestamp = Some(at);
        self
    }

    /// The turn of the conversation.
    pub fn turn(mut self, number: u64) -> Self {
        self.turn_number = Some(number);
        self
    }

    /// The arguments: any JSON value, usually an object.
    pub fn arguments(mut self, arguments: impl Into<Parsed>) -> Self {
        self.arguments = Some(self.kept("arguments", arguments));
        self
    }

    /// The tool's answer (see [`CallResult::Value`] for what counts as a failure).
    pub fn result(mut self, value: impl Into<Parsed>) -> Self {
        self.result = Some(CallResult::Value(self.kept("result", value)));
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

    /// How the call ended, if it does not follow from the result: denied, timed out, abandoned.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// How long the call took.
    pub fn duration(mut self, took: Duration) -> Self {
        self.duration_ms = Some(took.as_nanos() as f64 / 1e6);
        self
    }

    /// The user's role; a member of the session's metadata, `user_role`.
    pub fn role(self, role: impl Into<String>) -> Self {
        self.metadata("user_role", role.into())
    }

    /// One member of the session's metadata: `client_ip`, `user_agent`, anything else.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Parsed>) -> Self {
        let (key, Parsed { value, restated }) = (key.into(), value.into());
        let at = Path::root().key("session_metadata").key(&key);
        self.restated.extend(restated.iter().map(|path| path.inside(&at).to_string()));
        self.session_metadata.insert(key, value);
        self
    }

    /// Takes a value for `member`, and notes the places where something could not be kept.
    fn kept(&mut self, member: &str, value: impl Into<Parsed>) -> Json {
        let Parsed { value, restated } = value.into();
        let at = Path::root().key(member);
        self.restated.extend(restated.iter().map(|path| path.inside(&at).to_string()));
        value
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

    /// A patient whom the call concerns. More are found in `arguments.patient_id`, in any spelling of that name, and at
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

    /// Marks the call as taken from a recording, not recorded as it happened. This is the caller's claim: alert rules
    /// and reports treat only imported calls as recordings, and judge all others by the call's time.
    pub fn backfilled(mut self) -> Self {
        self.backfilled = true;
        self
    }

    /// Keeps the entry at least until this time; a time before the policy's is refused.
    pub fn retain_until(mut self, until: Timestamp) -> Self {
        self.retain_until = Some(until);
        self
    }

    /// Numbers the record: recording the same sender and number again returns the first receipt.
    pub fn sender(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// Normalises everything that entries are found by, and returns what was changed, by member.
    pub(crate) fn normalise(&mut self) -> Vec<(&'static str, Altered)> {
        // Without `..`: a member that is added is a name that entries are found by, or it is not.
        let ToolCall {
            conversation_id,
            user_id,
            tool_name,
            model,
            agent_id,
            tool_server,
            purpose,
            patient_ids,
            circumstances,
            // Entries are not found by these, or only by values of a closed set.
            timestamp: _,
            turn_number: _,
            arguments: _,
            result: _,
            outcome: _,
            duration_ms: _,
            session_metadata: _,
            trigger: _,
            call_id: _,
            follows: _,
            emergency: _,
            grant: _,
            backfilled: _,
            late_answer: _,
            // The policy must have a class of this very name.
            retention_class: _,
            retain_until: _,
            restated: _,
            sender: _,
            detail_of: _,
        } = self;
        let required = [("conversation_id", conversation_id), ("user_id", user_id), ("tool_name", tool_name)];
        let optional = [("model", model), ("agent_id", agent_id), ("tool_server", tool_server), ("purpose", purpose)];
        let mut all = Vec::new();
        let mut change = |member, name: &mut String| {
            let mut altered = Altered::default();
            altered.note(name);
            normalise(name);
            all.push((member, altered));
        };
        required.into_iter().for_each(|(member, name)| change(member, name));
        for (member, name) in optional {
            if let Some(name) = name {
                change(member, name);
            }
            // Empty optional members are left out.
            name.take_if(|text| text.is_empty());
        }
        patient_ids.iter_mut().for_each(|name| change("patient_ids", name));
        super::circumstances::bring_into_form(circumstances, &mut all);
        all
    }

    /// Refuses a call that cannot be recorded; the error names the member.
    pub fn validate(&self, limits: &CallLimits) -> Result<()> {
        // Without `..`: a member that is added is checked here, or cannot be wrong.
        let ToolCall {
            conversation_id,
            user_id,
            tool_name,
            turn_number,
            model,
            agent_id,
            tool_server,
            arguments,
            result,
            duration_ms,
            session_metadata,
            trigger,
            call_id,
            follows,
            patient_ids,
            purpose,
            grant,
            retention_class,
            sender,
            detail_of,
            // `circumstances::validate` checks them.
            circumstances: _,
            // Every value is valid.
            timestamp: _,
            outcome: _,
            emergency: _,
            backfilled: _,
            late_answer: _,
            retain_until: _,
            // Paths of the call, made by this library.
            restated: _,
        } = self;
        let required = [("conversation_id", conversation_id), ("user_id", user_id), ("tool_name", tool_name)];
        for (name, value) in required {
            if value.is_empty() {
                return Err(Error::invalid("must not be empty").in_member(name));
            }
            check_text(name, value, limits)?;
        }
        let optional = [
            ("model", model),
            ("agent_id", agent_id),
            ("tool_server", tool_server),
            ("call_id", call_id),
            ("purpose", purpose),
            ("retention_class", retention_class),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                check_text(name, value, limits)?;
            }
        }
        if patient_ids.len() > limits.patients {
            let message = format!("{} patients, more than the limit of {}", patient_ids.len(), limits.patients);
            return Err(Error::new(ErrorKind::TooLarge, message).in_member("patient_id"));
        }
        for patient in patient_ids {
            if patient.is_empty() {
                return Err(Error::invalid("must not be empty").in_member("patient_id"));
            }
            check_text("patient_id", patient, limits)?;
        }
        sender.as_ref().map_or(Ok(()), |sender| check_sender(sender, limits))?;
        let integers = [
            ("turn_number", *turn_number),
            (follows_member(*trigger), *follows),
            ("grant", *grant),
            ("detail_of", *detail_of),
            ("sender: number", sender.as_ref().map(|sender| sender.number)),
        ];
        for (name, value) in integers {
            if let Some(n) = value.filter(|n| *n > crate::json::MAX_INT as u64) {
                return Err(out_of_range(n, WHOLE).in_member(name));
            }
        }
        if let Some(ms) = duration_ms.filter(|ms| !(0.0..=MAX_DURATION_MS).contains(ms)) {
            return Err(out_of_range(format_args!("{ms:?}"), DURATION).in_member("duration_ms"));
        }
        super::circumstances::validate(self, limits)?;
        let values = arguments.iter().map(|a| ("arguments", a)).chain(match result {
            Some(CallResult::Value(value)) => Some(("result", value)),
            _ => None,
        });
        for (name, value) in values {
            value.check().map_err(|e| Error::invalid(e).in_member(name))?;
        }
        if let Some(CallResult::Error(error)) = result {
            let texts = error.kind.iter().chain([&error.message]);
            if texts.into_iter().any(|t| t.contains('\0')) {
                return Err(Error::invalid("NUL cannot be kept in a string").in_member("error"));
            }
        }
        session_metadata.check().map_err(|e| Error::invalid(e).in_member("session_metadata"))
    }
}

/// The member by which a call with this trigger names the call that it retries or follows up, as its line has it.
pub(crate) fn follows_member(trigger: Option<Trigger>) -> &'static str {
    match trigger {
        Some(Trigger::FollowUp) => "follow_up_of",
        _ => "retry_of",
    }
}

/// The prefix of sender ids that processes make for themselves (R74).
pub(crate) const OWN_SENDER: &str = "process-";

/// A hundred years in milliseconds: longer is a mistake, and nanoseconds of it still fit 64 bits.
const MAX_DURATION_MS: f64 = 100.0 * 366.0 * 86_400_000.0;

/// What a seq or a count must be, as messages say it.
pub(super) const WHOLE: &str = "a whole number from 0 to 2^53-1";

/// What a duration must be, as messages say it.
pub(super) const DURATION: &str = "a number of milliseconds from 0 to 3,162,240,000,000 (a hundred years)";
const _: () = assert!(MAX_DURATION_MS == 3.16224e12);

/// A number that a member cannot have: which, and what it must be.
pub(super) fn out_of_range(number: impl fmt::Display, wanted: &str) -> Error {
    Error::invalid(format!("{number} is out of range; it must be {wanted}"))
}

fn check_sender(sender: &Sender, limits: &CallLimits) -> Result<()> {
    let Sender { id, number } = sender;
    check_text("sender", id, limits)?;
    if id.is_empty() || *number == 0 {
        return Err(Error::invalid("needs an id and a number from 1").in_member("sender"));
    }
    // The store derives such an id from a secret that the sender presents.
    if id.starts_with(OWN_SENDER) {
        let message = format!("ids that begin with `{OWN_SENDER}` are this program's own; use another one");
        return Err(Error::invalid(message).in_member("sender"));
    }
    Ok(())
}

pub(super) fn check_text(name: &str, value: &str, limits: &CallLimits) -> Result<()> {
    if value.len() > limits.id_bytes {
        let message = format!("{} bytes, more than the limit of {}", value.len(), limits.id_bytes);
        return Err(Error::new(ErrorKind::TooLarge, message).in_member(name));
    }
    if value.contains('\0') {
        return Err(Error::invalid("NUL cannot be kept in a string").in_member(name));
    }
    Ok(())
}

//! The entry of a call: who started it, in which role, which model chose which tool, with what arguments and what outcome.

use super::{Attribution, Kind};
use crate::Timestamp;
use crate::json::Canonical;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A recorded tool call, validated and sanitised, as it is in the log. `S` is `String`, except where an entry is read
/// without copying its texts.
///
/// The fields are in stored order: those that differ from call to call stand together, so that what repeats is contiguous.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call<S: AsRef<str> = String> {
    /// Whether this entry is the whole call or one of its two steps.
    pub phase: Phase,
    /// The seq of the policy entry by which it was sanitised and is retained.
    pub policy_seq: u64,
    /// The seq of the call that this retry or follow-up refers to.
    pub follows: Option<u64>,
    /// The seq of the emergency grant it was made under.
    pub grant: Option<u64>,
    /// Whether it was made under an emergency override.
    pub emergency: bool,
    /// Whether it is said to be back-filled from a recording, rather than recorded as it happened. This is certain for a call
    /// that `import` captured ([`Call::is_from_recording`]); for any other it is the caller's word.
    pub backfilled: bool,
    /// Which part of this library captured the call; `None` if a host described it. A caller cannot set this.
    pub captured_by: Option<CapturedBy>,
    /// Whether this is not a call of its own but the answer to the call it follows, which was recorded without one. Only the
    /// part that captured that call can set it, and the log checks that it is possible; statistics and alert rules do not
    /// count it as another call (R42, R67).
    pub late_answer: bool,
    /// What triggered the call.
    pub trigger: Option<Trigger>,
    /// When the call happened, by the caller's clock; may be out of order.
    pub timestamp: Timestamp,
    /// The turn of the conversation, if the caller counts them.
    pub turn_number: Option<u64>,
    /// Outcome, duration and result; `None` for a call that has only begun.
    pub completion: Option<Completion<S>>,
    /// The conversation it belongs to.
    pub conversation_id: S,
    /// Who started it: a person or account.
    pub user_id: S,
    /// The patients whom the call concerns, sorted.
    pub patient_ids: Vec<S>,
    /// The model that decided on the call.
    pub model: Option<S>,
    /// The agent in which the model ran.
    pub agent_id: Option<S>,
    /// The server or provider that offers the tool.
    pub tool_server: Option<S>,
    /// The tool.
    pub tool_name: S,
    /// Why the data was accessed: `treatment`, `payment`, `operations`, `research`, or a code of the host's.
    pub purpose: Option<S>,
    /// Role, client address, user agent and anything else the host gave: a sanitised object.
    pub session_metadata: Option<Canonical<S>>,
    /// The arguments, sanitised.
    pub arguments: Option<Canonical<S>>,
    /// The provider's id of the call; not unique.
    pub call_id: Option<S>,
    /// What the redaction policy changed: a list, empty if it changed nothing.
    pub treated: Option<Canonical<S>>,
    /// Paths of values that could not be kept as they came, such as long numbers that became strings of their digits.
    pub restated: Vec<S>,
    /// The numbered sender, so that a repeated record is answered, not recorded again.
    pub sender: Option<Sender<S>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion<S: AsRef<str> = String> {
    /// How long it took, in milliseconds.
    #[serde(with = "millis")]
    pub duration_ms: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// A summary of the result, without its content (see `attestlog::Summary`).
    pub result_summary: Option<Canonical<S>>,
    /// The error, sanitised.
    pub error: Option<CallError<S>>,
}

/// Most durations are whole nanoseconds and are stored as `2 * (nanos + 1)`. Any other is stored as `2 * bits + 1`, where
/// `bits` are those of the double; none is stored as 0. Human-readable formats hold the number itself.
mod millis {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Below this, every number of nanoseconds can be recovered from its milliseconds.
    const MOST: u64 = 1 << 50;

    fn of_nanos(nanos: u64) -> f64 {
        nanos as f64 / 1e6
    }

    fn to_nanos(ms: f64) -> Option<u64> {
        let nanos = (ms * 1e6).round() as u64;
        (nanos < MOST && of_nanos(nanos) == ms).then_some(nanos)
    }

    pub(super) fn serialize<S: Serializer>(ms: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() {
            return ms.serialize(out);
        }
        let stored = match ms.map(|ms| to_nanos(ms).ok_or(ms)) {
            None => 0,
            Some(Ok(nanos)) => (nanos + 1) << 1,
            Some(Err(ms)) if ms.is_finite() && ms > 0.0 => ms.to_bits() << 1 | 1,
            Some(Err(_)) => return Err(S::Error::custom("a duration is not negative")),
        };
        out.serialize_u64(stored)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        if from.is_human_readable() {
            return Option::deserialize(from);
        }
        let stored = u64::deserialize(from)?;
        let (ms, nanos) = match (stored & 1, (stored >> 1).checked_sub(1)) {
            (0, None) => return Ok(None),
            (0, Some(nanos)) => (of_nanos(nanos), Some(nanos)),
            _ => (f64::from_bits(stored >> 1), None),
        };
        // Each duration has exactly one encoding.
        let is_one = ms.is_finite() && to_nanos(ms) == nanos;
        if is_one { Ok(Some(ms)) } else { Err(D::Error::custom("a duration in another form")) }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError<S: AsRef<str> = String> {
    /// The error's type or code, if it has one.
    pub kind: Option<S>,
    /// The error's message, sanitised.
    pub message: S,
}

/// Which part of a call an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The whole call in one entry.
    Whole,
    /// Recorded before the tool ran.
    Begun,
    /// The end of the call that was begun at this seq.
    Finished(u64),
}

/// A sender that numbers its records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sender<S: AsRef<str> = String> {
    /// The sender's id.
    pub id: S,
    /// The number of this record, rising from 1.
    pub number: u64,
}

impl Sender {
    /// Record `number` of the sender `id`.
    pub fn new(id: impl Into<String>, number: u64) -> Sender {
        Sender { id: id.into(), number }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $type { $($(#[$vdoc])* $variant,)* }

        impl $type {
            /// All variants.
            pub const ALL: &[$type] = &[$($type::$variant,)*];

            /// Its name in lines and filters.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// The variant with this name.
            pub fn from_name(name: &str) -> Option<$type> {
                Self::ALL.iter().copied().find(|x| x.as_str() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// How a call ended. Only [`Outcome::Ok`] is a success.
    Outcome {
        /// The tool did what it was asked.
        Ok = "ok",
        /// The tool ran and said that it failed.
        ToolError = "tool_error",
        /// The tool could not be reached or did not speak its protocol.
        ProtocolError = "protocol_error",
        /// Somebody or something refused the call.
        Denied = "denied",
        /// No answer came in time.
        Timeout = "timeout",
        /// Nobody waited for the answer, or none was ever recorded.
        Abandoned = "abandoned",
    }
}

named! {
    /// A part of this library that captures calls itself, without a host describing them.
    CapturedBy {
        /// Read from a transcript, by `import`.
        Import = "import",
        /// Seen by the Model Context Protocol proxy.
        Mcp = "mcp",
    }
}

named! {
    /// What triggered a call.
    Trigger {
        /// The user asked for it.
        UserRequest = "user_request",
        /// The agent did it of its own accord.
        Proactive = "proactive",
        /// It retries an earlier call that failed.
        Retry = "retry",
        /// It follows up an earlier call.
        FollowUp = "follow_up",
        /// A rule, a schedule or the host itself started it.
        System = "system",
    }
}

impl<S: AsRef<str>> Call<S> {
    /// Whether the call succeeded; `None` while it has only begun.
    pub fn success(&self) -> Option<bool> {
        self.completion.as_ref().map(|c| c.outcome == Outcome::Ok)
    }

    /// The kind of this entry.
    pub fn kind(&self) -> Kind {
        match self.phase {
            Phase::Begun => Kind::CallBegun,
            Phase::Whole | Phase::Finished(_) => Kind::ToolCall,
        }
    }

    /// Whether `import` read it from a recording; a caller's word is not enough.
    pub fn is_from_recording(&self) -> bool {
        self.backfilled && self.captured_by == Some(CapturedBy::Import)
    }

    /// Whether it adds to a call whose end is already in the log: a late answer, or patients that did not fit into one entry.
    pub fn adds_to_call(&self) -> bool {
        self.late_answer || self.is_of_further_patients()
    }

    /// Whether the MCP proxy recorded it for patients in a reply that did not fit into the entry of the call's end.
    fn is_of_further_patients(&self) -> bool {
        if self.captured_by != Some(CapturedBy::Mcp)
            || self.follows.is_none()
            || self.trigger != Some(Trigger::FollowUp)
        {
            return false;
        }
        let Some(metadata) = self.session_metadata.as_ref().map(Canonical::to_json) else { return false };
        metadata.get("mcp").and_then(|mcp| mcp.get("further_patients")?.as_bool()) == Some(true)
    }

    /// Whether statistics count it: every call that ended counts once.
    pub fn is_counted(&self) -> bool {
        self.kind() == Kind::ToolCall && !self.adds_to_call()
    }

    /// The duration in whole nanoseconds, as statistics count it.
    pub fn duration_nanos(&self) -> Option<u64> {
        let ms = self.completion.as_ref()?.duration_ms?;
        Some((ms * 1e6).round() as u64)
    }
}

impl Call {
    /// The user's role, if the session metadata states one.
    pub fn user_role(&self) -> Option<String> {
        let metadata = self.session_metadata.as_ref()?.to_json();
        metadata.get("user_role")?.as_str().map(str::to_owned)
    }

    /// Who started it, in which role → which model → which tool, by which trigger.
    pub fn attribution(&self) -> Attribution {
        Attribution::of(self)
    }
}

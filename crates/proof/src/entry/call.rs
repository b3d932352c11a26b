//! The entry of a call: who started it, in which role, which model chose which tool, with what arguments and what outcome.

use super::{Attribution, Circumstances, Kind, SourceKind};
use crate::Timestamp;
use crate::json::Canonical;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A recorded tool call, validated and sanitised, as it is in the log. `S` is `String`, except where an entry is read
/// without copying its texts.
///
/// The fields are in the order in which the engine stores them: those that differ from call to call stand together, so that
/// what repeats is contiguous.
#[derive(Debug, Clone, PartialEq)]
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
    /// that `import` read ([`Call::is_from_recording`]); for any other it is the caller's word.
    pub backfilled: bool,
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
    /// The numbered sender, so that a repeated record is answered, not recorded again. In a store with keys the id is a keyed
    /// hash of the one that was given.
    pub sender: Option<Sender<S>>,
    /// Keyed digests of what the caller of a numbered call gave, so that a repeat is compared also where the policy hides
    /// something: 16 hexadecimal digits each for the arguments, the session's metadata, the names, and an error that was
    /// given. `None` without a sender or without keys.
    pub given: Option<S>,
    /// Who told of the call, its trace, approval, resources and the like; `None` if nothing of it is known.
    pub circumstances: Option<Box<Circumstances<S>>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion<S: AsRef<str> = String> {
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// A summary of the result, without its content (see `attestlog::Summary`).
    pub result_summary: Option<Canonical<S>>,
    /// The error, sanitised.
    pub error: Option<CallError<S>>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallError<S: AsRef<str> = String> {
    /// The error's type or code, if it has one.
    #[serde(rename = "type")]
    pub kind: Option<S>,
    /// The error's message, sanitised.
    pub message: S,
}

/// Which part of a call an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The whole call in one entry.
    Whole,
    /// Recorded before the tool ran.
    Begun,
    /// The end of the call that was begun at this seq.
    Finished(u64),
    /// Details that another source told later of the call at this seq. No call of its own.
    Detail(u64),
}

/// A sender that numbers its records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    ($(#[$doc:meta])* $what:literal $type:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $type { $($(#[$vdoc])* $variant,)* }

        crate::stored_enum!($type { $($variant,)* });
        crate::named_form!($type, $what);

        impl $type {
            /// All variants.
            pub const ALL: &[$type] = &[$($type::$variant,)*];

            /// Its name in lines and filters.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use named;

named! {
    /// How a call ended. Only [`Outcome::Ok`] is a success.
    "outcome" Outcome {
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
    /// What triggered a call.
    "trigger" Trigger {
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

    /// How the call failed, in one word: the type of its error, or, if that has none, the outcome. `None` unless it failed.
    pub fn failure(&self) -> Option<&str> {
        let ended = self.completion.as_ref().filter(|ended| ended.outcome != Outcome::Ok)?;
        let kind = ended.error.as_ref().and_then(|error| error.kind.as_ref()).map(AsRef::as_ref);
        Some(kind.filter(|kind| !kind.is_empty()).unwrap_or(ended.outcome.as_str()))
    }

    /// The kind of this entry.
    pub fn kind(&self) -> Kind {
        match self.phase {
            Phase::Begun => Kind::CallBegun,
            Phase::Whole | Phase::Finished(_) => Kind::ToolCall,
            Phase::Detail(_) => Kind::CallDetail,
        }
    }

    /// Whether `import` read it from a recording; a caller's word is not enough.
    pub fn is_from_recording(&self) -> bool {
        self.backfilled && self.first_source() == Some(SourceKind::Import)
    }

    /// The first who told of the call; `None` if a host described it.
    pub fn first_source(&self) -> Option<SourceKind> {
        self.circumstances.as_ref()?.first_source()
    }

    /// The entry of the call to which this one adds details, if it is such an entry.
    pub fn detail_of(&self) -> Option<u64> {
        match self.phase {
            Phase::Detail(of) => Some(of),
            _ => None,
        }
    }

    /// Whether it adds to a call that is already in the log: details, a late answer, or patients that did not fit into one entry.
    pub fn adds_to_call(&self) -> bool {
        self.late_answer || self.detail_of().is_some() || self.is_of_further_patients()
    }

    /// The entry that this one continues, if it is a part of a call: an end continues its beginning; details the entry that they
    /// name; a late answer, or patients that did not fit, the entry that it follows.
    pub fn part_of(&self) -> Option<u64> {
        match self.phase {
            Phase::Finished(begun) => Some(begun),
            Phase::Detail(of) => Some(of),
            _ => self.follows.filter(|_| self.adds_to_call()),
        }
    }

    /// Whether the MCP proxy recorded it for patients in a reply that did not fit into the entry of the call's end.
    fn is_of_further_patients(&self) -> bool {
        if self.first_source() != Some(SourceKind::Proxy)
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

    /// How long it took, in milliseconds, as this entry tells it.
    pub fn duration_ms(&self) -> Option<f64> {
        match &self.completion {
            Some(ended) => ended.duration_ms,
            None => self.circumstances.as_ref()?.duration_ms,
        }
    }

    /// The ids of the keys under which values of the call are sealed.
    pub fn sealed_under(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        let summary = self.completion.as_ref().and_then(|ended| ended.result_summary.as_ref());
        let parts = [self.arguments.as_ref(), self.session_metadata.as_ref(), summary];
        for part in parts.into_iter().flatten() {
            // Most calls have no sealed values and are not parsed. A sealed value has a commitment of 64 digits.
            if part.as_str().len() > 64 && part.as_str().contains("\"sealed\":") {
                crate::sealed::collect_keys(&part.to_json(), &mut ids);
            }
        }
        ids
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

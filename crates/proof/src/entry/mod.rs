//! The entries of the log.
//!
//! An [`Entry`] is either a tool call ([`Call`]) or something that happened to the store itself ([`SystemEvent`]). Both are
//! in one chain, and immutable once recorded. `line` turns an entry into the bytes that are hashed, `from_line` reads them
//! back.

mod attribution;
mod call;
mod circumstances;
mod claimed;
mod facet;
mod from_line;
mod system;

pub use attribution::Attribution;
pub use call::{Call, CallError, Completion, Outcome, Phase, Sender, Trigger};
pub use circumstances::{Approval, Circumstances, Decision, Digests, Peer, Resource, SHA256, Source, SourceKind};
pub use claimed::{CLAIMED_TIME_BOUND, ClaimedTime};
pub use facet::Facet;
pub use system::{Kind, SystemEvent};

use crate::json::form::{self, Form};
use crate::json::{Canonical, Json, Limits, Object};
use crate::{Hash, Result, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One entry of the log, as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the log, from 0 (the genesis).
    pub seq: u64,
    /// The hash of the entry before it; [`Hash::ZERO`] for seq 0.
    pub prev: Hash,
    /// What it says.
    pub body: Body,
}

/// Everything in an entry that does not depend on its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Body<S: AsRef<str> = String> {
    /// 16 random bytes, so that nobody can guess the content of a purged entry from its hash.
    pub nonce: [u8; 16],
    /// The system clock when it was recorded.
    pub recorded_at: Timestamp,
    /// How long it is kept; `None` for system events, which stay for ever.
    pub retention: Option<Retention<S>>,
    /// The call or the event.
    pub content: Content<S>,
}

/// Why and how long an entry is kept. Fixed when the entry is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention<S: AsRef<str> = String> {
    /// The retention class: `financial`, `healthcare`, `general`, or one that the policy defines.
    pub class: S,
    /// The reading of the expiry clock from which on it may be purged: a whole second, or [`Timestamp::MAX`].
    pub until: Timestamp,
}

/// The two kinds of content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<S: AsRef<str> = String> {
    /// A tool was called.
    Call(Box<Call<S>>),
    /// Something happened to the store itself.
    System(SystemEvent<S>),
}

impl Entry {
    /// What kind of entry this is.
    pub fn kind(&self) -> Kind {
        match &self.body.content {
            Content::Call(call) => call.kind(),
            Content::System(own) => own.kind,
        }
    }

    /// The call, if this is the entry of a call.
    pub fn call(&self) -> Option<&Call> {
        match &self.body.content {
            Content::Call(call) => Some(call),
            Content::System(_) => None,
        }
    }

    /// The system event, if this is one.
    pub fn own(&self) -> Option<&SystemEvent> {
        match &self.body.content {
            Content::Call(_) => None,
            Content::System(own) => Some(own),
        }
    }

    /// When it happened: for a call, the time that its caller gave; for an event, the time of recording.
    pub fn timestamp(&self) -> Timestamp {
        self.body.timestamp()
    }

    /// The canonical line: the bytes that are hashed and exported.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let entry = log.entry(receipt.seq)?;
    /// assert_eq!(attestlog::Hash::leaf(entry.line().as_bytes()), receipt.hash);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn line(&self) -> String {
        crate::line::to_string(self)
    }

    /// The entry as an event for a log pipeline: one line of JSON with `target` (`tool_audit`), `timestamp` (when it
    /// happened), `seq`, `hash` and `entry`, the sanitised entry exactly as in its line.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall, json::Json};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let event = Json::parse(log.entry(receipt.seq)?.event().as_bytes())?.value;
    /// assert_eq!(event.get("target").and_then(Json::as_str), Some("tool_audit"));
    /// assert_eq!(event.get("entry").and_then(|e| e.get("tool_name")?.as_str()), Some("lookup"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn event(&self) -> String {
        let line = self.line();
        let hash = Hash::leaf(line.as_bytes());
        let rest = Object::from_iter([
            ("hash", Json::from(hash.to_string())),
            ("seq", self.seq.into()),
            ("target", "tool_audit".into()),
            ("timestamp", self.timestamp().to_string().into()),
        ]);
        // `entry` sorts before the other names, so the line is inserted as it is.
        let rest = Json::from(rest).to_canonical().to_string();
        format!("{{\"entry\":{line},{}", rest.trim_start_matches('{'))
    }

    /// The entry's hash: `SHA-256(0x00 || line)`, the RFC 6962 leaf hash of its line.
    pub fn hash(&self) -> Hash {
        Hash::leaf(self.line().as_bytes())
    }
}

impl Entry {
    fn from_text(text: &str) -> Result<Entry> {
        let parsed = Json::parse_within(text.as_bytes(), &Limits::UNBOUNDED)?;
        Entry::from_line(parsed.value.to_canonical().as_str())
    }
}

impl Form for Entry {
    fn form(&self) -> Json {
        let line = Json::parse_within(self.line().as_bytes(), &Limits::UNBOUNDED);
        line.map_or(Json::Null, |parsed| parsed.value)
    }

    fn read(value: &Json) -> Result<Entry> {
        Entry::from_line(value.to_canonical().as_str())
    }
}

impl Serialize for Entry {
    /// Its [line](Entry::line), byte for byte.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        form::serialize_text(self.line(), out)
    }
}

impl<'de> Deserialize<'de> for Entry {
    /// As [`Entry::from_line`]; white space and the order of members do not matter.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Entry, D::Error> {
        Entry::from_text(form::deserialize_text(from)?.get()).map_err(D::Error::custom)
    }
}

impl<S: AsRef<str>> Body<S> {
    /// The JSON values that the entry holds as text.
    pub fn parts(&self) -> impl Iterator<Item = &Canonical<S>> {
        let parts = match &self.content {
            Content::System(own) => [Some(&own.detail), None, None, None],
            Content::Call(call) => {
                let summary = call.completion.as_ref().and_then(|c| c.result_summary.as_ref());
                [call.arguments.as_ref(), summary, call.session_metadata.as_ref(), call.treated.as_ref()]
            }
        };
        parts.into_iter().flatten()
    }

    /// The time of the call, as its caller gave it; of an event of the store itself, when it was recorded.
    pub fn timestamp(&self) -> Timestamp {
        match &self.content {
            Content::Call(call) => call.timestamp,
            Content::System(_) => self.recorded_at,
        }
    }
}

//! The stored form of an entry: what `codec` writes and reads.
//!
//! The public types have no serde traits for it, so that serde shows a host one form of a value only, its JSON form. Each type
//! here has the fields of one of them, in stored order. Converting takes all fields apart, so a field that is added there and
//! not here does not compile.

use crate::Timestamp;
use crate::codec::{self, CodecError, nonce};
use crate::line::ChainSlot;
use crate::store::layout::stored_circumstances::{self, StoredCircumstances, millis};
use attestlog_proof::entry::{
    Call, CallError, Completion, Content, Kind, Outcome, Phase, Retention, Sender, SystemEvent, Trigger,
};
use attestlog_proof::json::Canonical;
use serde::{Deserialize, Serialize};

/// The fields before the content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(with = "nonce")]
    pub nonce: [u8; 16],
    pub recorded_at: Timestamp,
    #[serde(borrow)]
    pub retention: Option<StoredRetention<'a>>,
}

/// [`Retention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRetention<'a> {
    pub class: &'a str,
    pub until: Timestamp,
}

impl<'a> StoredRetention<'a> {
    fn of<S: AsRef<str>>(retention: &'a Retention<S>) -> StoredRetention<'a> {
        let Retention { class, until } = retention;
        StoredRetention { class: class.as_ref(), until: *until }
    }
}

impl<'a> Head<'a> {
    /// The fields before the content of the entry in this place.
    pub(crate) fn of(slot: &ChainSlot<'a>) -> Head<'a> {
        let retention = slot.retention.map(StoredRetention::of);
        Head { nonce: slot.nonce, recorded_at: slot.recorded_at, retention }
    }
}

#[derive(Serialize, Deserialize)]
enum StoredContent<S: AsRef<str>> {
    Call(Box<StoredCall<S>>),
    System(StoredEvent<S>),
}

#[derive(Serialize, Deserialize)]
struct StoredEvent<S: AsRef<str>> {
    kind: Kind,
    detail: S,
}

#[derive(Serialize, Deserialize)]
struct StoredCall<S: AsRef<str>> {
    phase: StoredPhase,
    policy_seq: u64,
    follows: Option<u64>,
    grant: Option<u64>,
    emergency: bool,
    backfilled: bool,
    late_answer: bool,
    trigger: Option<Trigger>,
    timestamp: Timestamp,
    turn_number: Option<u64>,
    completion: Option<StoredCompletion<S>>,
    conversation_id: S,
    user_id: S,
    patient_ids: Vec<S>,
    model: Option<S>,
    agent_id: Option<S>,
    tool_server: Option<S>,
    tool_name: S,
    purpose: Option<S>,
    session_metadata: Option<S>,
    arguments: Option<S>,
    call_id: Option<S>,
    treated: Option<S>,
    restated: Vec<S>,
    sender: Option<Sender<S>>,
    given: Option<S>,
    #[serde(deserialize_with = "stored_circumstances::not_empty")]
    circumstances: Option<Box<StoredCircumstances<S>>>,
}

#[derive(Serialize, Deserialize)]
struct StoredCompletion<S: AsRef<str>> {
    #[serde(with = "millis")]
    duration_ms: Option<f64>,
    outcome: Outcome,
    result_summary: Option<S>,
    error: Option<CallError<S>>,
}

/// [`Phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredPhase {
    Whole,
    Begun,
    Finished(u64),
    Detail(u64),
}

impl From<Phase> for StoredPhase {
    fn from(phase: Phase) -> StoredPhase {
        match phase {
            Phase::Whole => StoredPhase::Whole,
            Phase::Begun => StoredPhase::Begun,
            Phase::Finished(begun) => StoredPhase::Finished(begun),
            Phase::Detail(of) => StoredPhase::Detail(of),
        }
    }
}

impl From<StoredPhase> for Phase {
    fn from(phase: StoredPhase) -> Phase {
        match phase {
            StoredPhase::Whole => Phase::Whole,
            StoredPhase::Begun => Phase::Begun,
            StoredPhase::Finished(begun) => Phase::Finished(begun),
            StoredPhase::Detail(of) => Phase::Detail(of),
        }
    }
}

/// Appends the stored form of a content, without a format byte.
pub(crate) fn append_content<S: AsRef<str>>(content: &Content<S>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    codec::append(&StoredContent::of(content), out)
}

/// Decodes what [`append_content`] wrote; the content may borrow from it.
pub(crate) fn decode_content<'p, S>(bytes: &'p [u8]) -> Result<Content<S>, CodecError>
where
    S: AsRef<str> + Deserialize<'p>,
{
    codec::decode_behind::<StoredContent<S>>(bytes).map(StoredContent::into_content)
}

/// The stored form of a body: head and content.
#[cfg(any(test, feature = "fuzzing", feature = "benching"))]
pub(crate) fn encode_body<S: AsRef<str>>(body: &attestlog_proof::entry::Body<S>) -> Result<Vec<u8>, CodecError> {
    let attestlog_proof::entry::Body { nonce, recorded_at, retention, content } = body;
    let retention = retention.as_ref().map(StoredRetention::of);
    let mut out = codec::encode(&Head { nonce: *nonce, recorded_at: *recorded_at, retention })?;
    append_content(content, &mut out)?;
    Ok(out)
}

impl<S: AsRef<str>> StoredContent<S> {
    fn into_content(self) -> Content<S> {
        match self {
            StoredContent::Call(call) => Content::Call(Box::new(call.into_call())),
            StoredContent::System(StoredEvent { kind, detail }) => {
                Content::System(SystemEvent { kind, detail: Canonical::stored(detail) })
            }
        }
    }
}

impl<'a> StoredContent<&'a str> {
    fn of<S: AsRef<str>>(content: &'a Content<S>) -> StoredContent<&'a str> {
        match content {
            Content::Call(call) => StoredContent::Call(Box::new(StoredCall::of(call))),
            Content::System(SystemEvent { kind, detail }) => {
                StoredContent::System(StoredEvent { kind: *kind, detail: detail.as_str() })
            }
        }
    }
}

impl<'a> StoredCall<&'a str> {
    fn of<S: AsRef<str>>(call: &'a Call<S>) -> StoredCall<&'a str> {
        let Call {
            phase,
            policy_seq,
            follows,
            grant,
            emergency,
            backfilled,
            late_answer,
            trigger,
            timestamp,
            turn_number,
            completion,
            conversation_id,
            user_id,
            patient_ids,
            model,
            agent_id,
            tool_server,
            tool_name,
            purpose,
            session_metadata,
            arguments,
            call_id,
            treated,
            restated,
            sender,
            given,
            circumstances,
        } = call;
        StoredCall {
            phase: (*phase).into(),
            policy_seq: *policy_seq,
            follows: *follows,
            grant: *grant,
            emergency: *emergency,
            backfilled: *backfilled,
            late_answer: *late_answer,
            trigger: *trigger,
            timestamp: *timestamp,
            turn_number: *turn_number,
            completion: completion.as_ref().map(StoredCompletion::of),
            conversation_id: conversation_id.as_ref(),
            user_id: user_id.as_ref(),
            patient_ids: patient_ids.iter().map(S::as_ref).collect(),
            model: model.as_ref().map(S::as_ref),
            agent_id: agent_id.as_ref().map(S::as_ref),
            tool_server: tool_server.as_ref().map(S::as_ref),
            tool_name: tool_name.as_ref(),
            purpose: purpose.as_ref().map(S::as_ref),
            session_metadata: session_metadata.as_ref().map(Canonical::as_str),
            arguments: arguments.as_ref().map(Canonical::as_str),
            call_id: call_id.as_ref().map(S::as_ref),
            treated: treated.as_ref().map(Canonical::as_str),
            restated: restated.iter().map(S::as_ref).collect(),
            sender: sender.as_ref().map(|sender| Sender { id: sender.id.as_ref(), number: sender.number }),
            given: given.as_ref().map(S::as_ref),
            circumstances: circumstances.as_ref().map(|around| Box::new(StoredCircumstances::of(around))),
        }
    }
}

impl<S: AsRef<str>> StoredCall<S> {
    fn into_call(self) -> Call<S> {
        let StoredCall {
            phase,
            policy_seq,
            follows,
            grant,
            emergency,
            backfilled,
            late_answer,
            trigger,
            timestamp,
            turn_number,
            completion,
            conversation_id,
            user_id,
            patient_ids,
            model,
            agent_id,
            tool_server,
            tool_name,
            purpose,
            session_metadata,
            arguments,
            call_id,
            treated,
            restated,
            sender,
            given,
            circumstances,
        } = self;
        Call {
            phase: phase.into(),
            policy_seq,
            follows,
            grant,
            emergency,
            backfilled,
            late_answer,
            trigger,
            timestamp,
            turn_number,
            completion: completion.map(StoredCompletion::into_completion),
            conversation_id,
            user_id,
            patient_ids,
            model,
            agent_id,
            tool_server,
            tool_name,
            purpose,
            session_metadata: session_metadata.map(Canonical::stored),
            arguments: arguments.map(Canonical::stored),
            call_id,
            treated: treated.map(Canonical::stored),
            restated,
            sender,
            given,
            circumstances: circumstances.map(|around| Box::new(around.into_circumstances())),
        }
    }
}

impl<'a> StoredCompletion<&'a str> {
    fn of<S: AsRef<str>>(completion: &'a Completion<S>) -> StoredCompletion<&'a str> {
        let Completion { duration_ms, outcome, result_summary, error } = completion;
        let text = |CallError { kind, message }: &'a CallError<S>| CallError {
            kind: kind.as_ref().map(S::as_ref),
            message: message.as_ref(),
        };
        StoredCompletion {
            duration_ms: *duration_ms,
            outcome: *outcome,
            result_summary: result_summary.as_ref().map(Canonical::as_str),
            error: error.as_ref().map(text),
        }
    }
}

impl<S: AsRef<str>> StoredCompletion<S> {
    fn into_completion(self) -> Completion<S> {
        let StoredCompletion { duration_ms, outcome, result_summary, error } = self;
        Completion { duration_ms, outcome, result_summary: result_summary.map(Canonical::stored), error }
    }
}

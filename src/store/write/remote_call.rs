//! Calls that another process sends to be recorded.
//!
//! Invariant I3: what passes between processes is a call as its host described it, and only to the store's owner, which
//! prepares it before it waits for anything: no raw data reaches a queue, the writer or the disk. Invariant I4: a call from
//! another process is recorded as this one prepares it. There is no way to send a call that claims to be sanitised already,
//! so no claim is trusted: not that a value was treated, sealed or summarised, not that a name is a pseudonym, and not under
//! which policy. Invariant R74: a sender that a process creates for itself belongs to that process alone. Its id, which
//! entries show, is a hash of a random secret that the process shows to the owner with each batch; a sender id given by a
//! caller cannot have this form.

use crate::codec::{MOST, bounded};
use crate::entry::{CallResult, OWN_SENDER, ToolCall};
use crate::store::engine::Engine;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::receipt::Receipt;
use crate::store::layout::stored_circumstances::StoredCircumstances;
use crate::store::layout::stored_entry::StoredPhase;

use crate::host::Random;
use crate::json::{Json, Limits, MAX_INT};
use crate::{Error, Hash, Result, Timestamp};
use attestlog_proof::entry::{CallError, Circumstances, Outcome, Phase, Sender, Trigger};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// A call in transit. JSON values are canonical text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteCall {
    phase: StoredPhase,
    conversation_id: String,
    user_id: String,
    tool_name: String,
    timestamp: Option<Timestamp>,
    turn_number: Option<u64>,
    model: Option<String>,
    agent_id: Option<String>,
    tool_server: Option<String>,
    arguments: Option<String>,
    result: Option<SentResult>,
    outcome: Option<Outcome>,
    duration_ms: Option<f64>,
    session_metadata: String,
    trigger: Option<Trigger>,
    call_id: Option<String>,
    follows: Option<u64>,
    #[serde(deserialize_with = "bounded")]
    patient_ids: Vec<String>,
    purpose: Option<String>,
    emergency: bool,
    grant: Option<u64>,
    backfilled: bool,
    late_answer: bool,
    retention_class: Option<String>,
    retain_until: Option<Timestamp>,
    #[serde(deserialize_with = "bounded")]
    restated: Vec<String>,
    sender: Option<Sender>,
    circumstances: Option<Box<StoredCircumstances<String>>>,
    detail_of: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum SentResult {
    Value(String),
    Error { kind: Option<String>, message: String },
}

/// Calls to be recorded together or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteBatch {
    #[serde(deserialize_with = "bounded")]
    calls: Vec<RemoteCall>,
    /// Whether errors name the call by its index in the batch.
    named: bool,
    /// The sender for calls that have none.
    own: Option<OwnSender>,
}

/// A sender that a process has created for itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OwnSender {
    secret: [u8; 32],
    /// The number of the whole batch; before anything is sent, the next number.
    pub number: u64,
}

impl fmt::Debug for OwnSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSender").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for OwnSender {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl OwnSender {
    /// Creates one from a random secret.
    pub(crate) fn draw(random: &dyn Random) -> OwnSender {
        let mut own = OwnSender { secret: [0; 32], number: 1 };
        random.fill(&mut own.secret);
        own
    }

    /// The sender as the log shows it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a number out of range.
    pub(crate) fn sender(&self) -> Result<Sender> {
        if self.number == 0 || self.number > MAX_INT as u64 {
            return Err(Error::invalid("sender: number: is not from 1 to 2^53-1"));
        }
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(b"attestlog/sender@v1\n");
        text.extend_from_slice(&self.secret);
        let hash = Hash::of(&text);
        text.zeroize();
        // Letters only: a sequence of digits could look like a card number, and such a sender is refused.
        let halves = hash.0.iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
        let letters: String = halves.map(|half| char::from(b'a' + half)).collect();
        Ok(Sender::new([OWN_SENDER, &letters].concat(), self.number))
    }
}

impl RemoteBatch {
    /// Encodes the calls for sending.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if there are more than can be sent together to another process.
    pub(crate) fn of(calls: &[(ToolCall, Phase)], named: bool, own: Option<OwnSender>) -> Result<RemoteBatch> {
        if calls.len() > MOST {
            let message =
                format!("{} calls at once, more than the {MOST} that go to another process together", calls.len());
            return Err(Error::new(crate::ErrorKind::TooLarge, message));
        }
        let calls = calls.iter().map(|(call, phase)| RemoteCall::of(call, *phase)).collect();
        Ok(RemoteBatch { calls, named, own })
    }
}

/// What surrounds a call, without the process that records it, which the owner knows.
fn sent(around: &Circumstances) -> StoredCircumstances<String> {
    StoredCircumstances::of(&Circumstances { peer: None, ..around.clone() })
}

impl RemoteCall {
    pub(crate) fn of(call: &ToolCall, phase: Phase) -> RemoteCall {
        // Without `..`: a member that is added and forgotten here would be lost on the way.
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
            late_answer,
            retention_class,
            retain_until,
            restated,
            sender,
            circumstances,
            detail_of,
        } = call;
        let text = |value: &Json| value.to_canonical().to_string();
        RemoteCall {
            phase: phase.into(),
            conversation_id: conversation_id.clone(),
            user_id: user_id.clone(),
            tool_name: tool_name.clone(),
            timestamp: *timestamp,
            turn_number: *turn_number,
            model: model.clone(),
            agent_id: agent_id.clone(),
            tool_server: tool_server.clone(),
            arguments: arguments.as_ref().map(text),
            result: result.as_ref().map(|result| match result {
                CallResult::Value(value) => SentResult::Value(text(value)),
                CallResult::Error(CallError { kind, message }) => {
                    SentResult::Error { kind: kind.clone(), message: message.clone() }
                }
            }),
            outcome: *outcome,
            duration_ms: *duration_ms,
            session_metadata: text(&Json::from(session_metadata.clone())),
            trigger: *trigger,
            call_id: call_id.clone(),
            follows: *follows,
            patient_ids: patient_ids.clone(),
            purpose: purpose.clone(),
            emergency: *emergency,
            grant: *grant,
            backfilled: *backfilled,
            late_answer: *late_answer,
            retention_class: retention_class.clone(),
            retain_until: *retain_until,
            restated: restated.clone(),
            sender: sender.clone(),
            circumstances: (!circumstances.is_empty()).then(|| Box::new(sent(circumstances))),
            detail_of: *detail_of,
        }
    }

    /// Decodes the call as its host described it.
    pub(crate) fn call(self) -> Result<(ToolCall, Phase)> {
        // Only this program is meant to send here; anything else is refused by the same rules as any input.
        let value = |text: String| Ok::<_, Error>(Json::parse_within(text.as_bytes(), &Limits::UNBOUNDED)?.value);
        let call = ToolCall {
            conversation_id: self.conversation_id,
            user_id: self.user_id,
            tool_name: self.tool_name,
            timestamp: self.timestamp,
            turn_number: self.turn_number,
            model: self.model,
            agent_id: self.agent_id,
            tool_server: self.tool_server,
            arguments: self.arguments.map(value).transpose()?,
            result: match self.result {
                None => None,
                Some(SentResult::Value(text)) => Some(CallResult::Value(value(text)?)),
                Some(SentResult::Error { kind, message }) => Some(CallResult::Error(CallError { kind, message })),
            },
            outcome: self.outcome,
            duration_ms: self.duration_ms,
            session_metadata: match value(self.session_metadata)? {
                Json::Object(members) => members,
                _ => return Err(Error::invalid("session_metadata: must be an object")),
            },
            trigger: self.trigger,
            call_id: self.call_id,
            follows: self.follows,
            patient_ids: self.patient_ids,
            purpose: self.purpose,
            emergency: self.emergency,
            grant: self.grant,
            backfilled: self.backfilled,
            late_answer: self.late_answer,
            retention_class: self.retention_class,
            retain_until: self.retain_until,
            restated: self.restated,
            sender: self.sender,
            circumstances: match self.circumstances.map(|around| around.into_circumstances()) {
                // Which process recorded it, the owner says (R93).
                Some(around) if around.peer.is_some() => {
                    return Err(Error::invalid("peer: is not for a caller to say"));
                }
                around => around.unwrap_or_default(),
            },
            detail_of: self.detail_of,
        };
        Ok((call, self.phase.into()))
    }
}

impl Engine {
    /// Prepares calls from another process and records all of them or none.
    pub(crate) fn record_sent(&self, batch: RemoteBatch) -> Result<Vec<Receipt>> {
        let RemoteBatch { calls, named, own } = batch;
        let mut own = own.map(|own| own.sender()).transpose()?;
        let (mut job, now) = (EncodedBatch::new(named), self.config.clock.now());
        for (i, sent) in calls.into_iter().enumerate() {
            let prepared = sent.call().and_then(|(call, phase)| self.prepare(call, phase));
            let pushed = prepared.and_then(|mut prepared| {
                prepared.number_batch(own.take())?;
                job.push(prepared, now)
            });
            pushed.map_err(|e| if named { e.in_call(i) } else { e })?;
        }
        if job.calls.is_empty() { Ok(Vec::new()) } else { self.submit_batch(job) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use attestlog_proof::entry::{Approval, Decision, Digests, Peer, Source, SourceKind};

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap().value
    }

    #[test]
    fn a_call_comes_across_as_it_was() {
        let call = ToolCall::new("c", "u", "t")
            .arguments(json(r#"{"a":[1,2.5,-0.0000001,1e300],"b":null,"sealed":{"v":1}}"#))
            .result(json(r#"{"x":"\u0001"}"#))
            .model("m")
            .agent("a")
            .server("s")
            .call_id("i")
            .purpose("p")
            .role("r")
            .metadata("k", 3u64)
            .turn(4)
            .patient("P")
            .emergency(Some(7))
            .backfilled()
            .retention_class("k")
            .trigger(Trigger::UserRequest)
            .duration(std::time::Duration::from_nanos(1_234_567))
            .outcome(Outcome::Denied)
            .sender(Sender::new("s", 9))
            .trace("t-1", Some("s-1"))
            .prompt("p-1")
            .parent("a-0", Some("i-0"))
            .approval(Approval { by: Some("boss".to_owned()), ..Approval::new(Decision::Allowed) })
            .digests(Digests { policy: Some(Hash::of(b"policy")), ..Digests::default() })
            .resource("file", "/etc/hosts");
        let failed = ToolCall::new("c", "u", "t").typed_error("k", "m").retry_of(3);
        let mut seen = failed.clone().source(Source::new(SourceKind::Proxy));
        seen.late_answer = true;
        let told = seen.clone().detail_of(7).contradicts(["model"]);
        for (call, phase) in
            [(seen, Phase::Whole), (told, Phase::Whole), (call, Phase::Whole), (failed, Phase::Finished(8))]
        {
            let bytes = codec::encode(&RemoteCall::of(&call, phase)).unwrap();
            assert_eq!(codec::decode::<RemoteCall>(&bytes).unwrap().call().unwrap(), (call, phase));
        }
    }

    /// Which process records a call is what the owner knows of the other end; a process that says it itself could be any [R93].
    #[test]
    fn no_process_says_which_process_it_is() {
        let mut call = ToolCall::new("c", "u", "t").prompt("p");
        let peer = Peer { uid: 0, gid: 0, pid: 1, started: None, program: Some("/sbin/init".to_owned()) };
        call.circumstances.peer = Some(peer);
        let mut sent = RemoteCall::of(&call, Phase::Whole);
        let (came, _) = sent.clone().call().unwrap();
        assert_eq!((came.circumstances.peer, came.circumstances.prompt_id.as_deref()), (None, Some("p")));
        sent.circumstances = Some(Box::new(StoredCircumstances::of(&call.circumstances)));
        assert!(sent.call().is_err());
    }

    /// A frame full of empty names was thirty times as large after decoding.
    #[test]
    fn what_is_decoded_is_not_much_larger_than_what_was_sent() {
        let mut call = ToolCall::new("c", "u", "t");
        call.patient_ids = vec![String::new(); MOST + 1];
        let bytes = codec::encode(&RemoteCall::of(&call, Phase::Whole)).unwrap();
        assert!(codec::decode::<RemoteCall>(&bytes).is_err());
        call.patient_ids.truncate(MOST);
        let bytes = codec::encode(&RemoteCall::of(&call, Phase::Whole)).unwrap();
        assert!(codec::decode::<RemoteCall>(&bytes).is_ok());
        let many = (0..=MOST).fold(ToolCall::new("c", "u", "t"), |call, _| call.resource("", ""));
        let bytes = codec::encode(&RemoteCall::of(&many, Phase::Whole)).unwrap();
        assert!(codec::decode::<RemoteCall>(&bytes).is_err());
    }
}

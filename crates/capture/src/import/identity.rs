//! The identity of an imported call, so that each call is recorded once, however often its file is imported.
//!
//! Invariant H6: a call's identity is made from what its source states and keeps: the session, the id in it, and how
//! often that id occurred before at the same time. If the session has no id, or one that other sessions may share (a
//! bare number, a task and its trial), a hash of all messages up to the call stands in for it, users' messages included
//! and at least up to the first answer (invariant R70): sessions with the same beginning differ from the point where
//! they diverge. A call's own id is not enough, since real recordings reuse it for the same call in another
//! conversation. If the call has no id, its time is used instead, and without a time its position. So the identity is
//! the same in a file that has grown, and in one that begins with a copy of another's history; it is not the same in a
//! file that has lost its beginning. What the log's policy seals is left out of it (R90). The identity is a sender's name (see
//! [`Sender`]); number 1 is the call, number 2 an answer found later.

use attestlog::IMPORTED;
use attestlog::{Hash, Sender, ToolCall};
use std::collections::HashMap;

/// Where a call belongs, according to its source.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Source {
    /// The session as the source names it, or the key that stands in for the name.
    pub(super) session: String,
    /// The keys that stood in for it while no call in the session had an answer, or before the policy sealed anything, where
    /// they differ.
    pub(super) sooner: Vec<String>,
    /// The id in the session, if it differs from the call's id.
    pub(super) id: Option<String>,
    /// Whether only the messages of the session distinguish it from others.
    pub(super) weak: bool,
    /// Whether nobody else can have told of the same calls under the same conversation, or it would be a guess that it is the same.
    pub(super) apart: bool,
}

/// The identity of a call.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The sender's name.
    pub(super) name: String,
}

/// Counts earlier occurrences of each identity.
#[derive(Debug, Default)]
pub(super) struct Identities {
    before: HashMap<Hash, u64>,
    sessions: HashMap<String, u64>,
}

impl Identities {
    /// The identity of this call.
    pub(super) fn of(&mut self, source: &Source, call: &ToolCall) -> Identity {
        let time = call.timestamp.map(|time| time.to_string());
        let place = self.sessions.entry(source.session.clone()).or_default();
        *place += 1;
        let id = source.id.as_ref().or(call.call_id.as_ref());
        let own = match (id, time) {
            (Some(id), Some(time)) => format!("id {id} {time}"),
            (Some(id), None) => format!("id {id}"),
            (None, Some(time)) => format!("time {time}"),
            (None, None) => format!("place {place}"),
        };
        let what = digest(&[&source.session, &own, &call.tool_name]);
        let before = self.before.entry(what).or_default();
        *before += 1;
        Identity { name: name(&what, *before) }
    }
}

fn name(what: &Hash, before: u64) -> String {
    let identity = digest(&[&what.to_string(), &before.to_string()]);
    // Letters only, so that no name looks like a card number; 96 bits are more than enough to keep a billion calls
    // apart.
    let halves = identity.as_bytes().iter().take(12).flat_map(|byte| [byte >> 4, byte & 15]);
    format!("{IMPORTED}{}", halves.map(|half| char::from(b'a' + half)).collect::<String>())
}

/// The sender of the call itself.
pub(super) fn call(identity: &str) -> Sender {
    Sender::new(identity, 1)
}

/// The sender of the answer to a call that was recorded as unanswered.
pub(super) fn answer(identity: &str) -> Sender {
    Sender::new(identity, 2)
}

/// The next value of a running hash: `before` extended by `then`.
pub(super) fn next(before: &Hash, then: &[u8]) -> Hash {
    let mut bytes = b"attestlog import\n".to_vec();
    bytes.extend_from_slice(&before.0);
    bytes.extend_from_slice(then);
    Hash::of(&bytes)
}

/// A hash of several texts; their lengths are hashed too, so that their boundaries count.
pub(super) fn digest(parts: &[&str]) -> Hash {
    let mut bytes = b"attestlog import\n".to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Hash::of(&bytes)
}

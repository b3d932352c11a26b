//! Which call of a source a call is, so that the same one is recorded once, however often its file is imported.
//!
//! Invariant H6: a call's identity is made of what its source says and keeps: the session, the id in it, and how often
//! that id came before at that time. Where the session has no id, or one that others may have as well (a bare number, a
//! task and its trial), all that had been said when the call was made stands for it, users' messages too and at least up to the first
//! answer (invariant R70): sessions that begin alike are two from where they part. A call's own id does not do, since real recordings
//! use one again for the same call in another conversation. Where the call has no id its time stands for that, and without one its place.
//! So it stays the same in a file that has grown, and in one that begins with a copy of another's history; of a file that has lost its
//! beginning it does not. The identity is a sender's name (see [`Sender`]); number 1 is
//! the call, number 2 an answer that came to light later.

use attestlog::IMPORTED;
use attestlog::{Hash, Sender, ToolCall};
use std::collections::HashMap;

/// What the source says of where a call belongs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Source {
    /// The session, as the source names it, or what stands for it.
    pub(super) session: String,
    /// What stood for it as long as no call in the session had an answer, if that was something else.
    pub(super) sooner: Option<String>,
    /// The id in the session, where it is another than the call's.
    pub(super) id: Option<String>,
    /// Whether only what was said in the session tells it from others.
    pub(super) weak: bool,
}

/// How a call is known.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The sender's name.
    pub(super) name: String,
}

/// Counts what came before.
#[derive(Debug, Default)]
pub(super) struct Identities {
    before: HashMap<Hash, u64>,
    sessions: HashMap<String, u64>,
}

impl Identities {
    /// This call's identity.
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
    // Letters only, as no card number has them; 96 bits are more than enough to keep a billion calls apart.
    let halves = identity.as_bytes().iter().take(12).flat_map(|byte| [byte >> 4, byte & 15]);
    format!("{IMPORTED}{}", halves.map(|half| char::from(b'a' + half)).collect::<String>())
}

/// The call itself.
pub(super) fn call(identity: &str) -> Sender {
    Sender::new(identity, 1)
}

/// The answer to a call that was recorded as unanswered.
pub(super) fn answer(identity: &str) -> Sender {
    Sender::new(identity, 2)
}

/// A running hash: `before`, and what came then.
pub(super) fn next(before: &Hash, then: &[u8]) -> Hash {
    let mut bytes = b"attestlog import\n".to_vec();
    bytes.extend_from_slice(&before.0);
    bytes.extend_from_slice(then);
    Hash::of(&bytes)
}

/// A hash of texts that do not run into each other.
fn digest(parts: &[&str]) -> Hash {
    let mut bytes = b"attestlog import\n".to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Hash::of(&bytes)
}

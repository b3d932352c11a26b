//! Which call of a source a call is, so that the same one is recorded once, however often its file is imported.
//!
//! Invariant H6: a call's identity is made of what its source says and keeps: the session, the id in it, and how often
//! that id came before at that time. Where the session has no id, or one that others may have as well (a bare number, a
//! task and its trial), a call's own id stands for it, if it is one that nobody gives twice by chance; else what the session began
//! with, up to the first answer. Where the call has no id its time stands for that, and without one its place in the session.
//! Arguments are no part of it: a hash of them in the clear would tell whoever guesses them.
//! So it stays the same in a file that has grown, in one that begins with a copy of another's history, and where its calls have
//! ids of their own also in one that has lost its beginning. The identity is a sender's name (see [`Sender`]); number 1 is
//! the call, number 2 an answer that came to light later.

use crate::{Hash, Sender, ToolCall};
use std::collections::{HashMap, HashSet};

/// What the source says of where a call belongs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Source {
    /// The session, as the source names it, or what stands for it.
    pub(super) session: String,
    /// What stood for it as long as no call in it had an answer, if that was something else.
    pub(super) sooner: Option<String>,
    /// The id in the session, where it is another than the call's.
    pub(super) id: Option<String>,
    /// Whether only what the session began with tells it from others.
    pub(super) weak: bool,
}

/// Under how many identities the calls of one id, tool and time are looked for: real recordings use an id again, seldom more
/// than once.
const MOST: u64 = 64;

/// How a call is known.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The sender's name.
    pub(super) name: String,
    /// What it shares with others of its id, where the id alone makes it.
    shared: Option<Hash>,
}

impl Identity {
    /// Whether it is lost with the beginning of the session.
    pub(super) fn hangs_on_beginning(&self, source: &Source) -> bool {
        source.weak && self.shared.is_none()
    }

    /// The names that calls of the same id may have got.
    pub(super) fn others(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.shared.iter().flat_map(|shared| (1..=MOST).map(|before| name(shared, before)));
        names.filter(|name| *name != self.name)
    }
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
        let by_id = source.weak && id.is_some_and(|id| is_unique(id));
        let session = if by_id { "ids" } else { &source.session };
        let what = digest(&[session, &own, &call.tool_name]);
        let before = self.before.entry(what).or_default();
        *before += 1;
        Identity { name: name(&what, *before), shared: by_id.then_some(what) }
    }
}

fn name(what: &Hash, before: u64) -> String {
    let identity = digest(&[&what.to_string(), &before.to_string()]);
    // Letters only, as no card number has them; 96 bits are more than enough to keep a billion calls apart.
    let halves = identity.as_bytes().iter().take(12).flat_map(|byte| [byte >> 4, byte & 15]);
    format!("import-{}", halves.map(|half| char::from(b'a' + half)).collect::<String>())
}

/// Whether nobody gives this id twice by chance: it holds a long run of letters and digits as they are drawn at random.
fn is_unique(id: &str) -> bool {
    let digits = |run: &str| run.bytes().filter(u8::is_ascii_digit).count();
    let distinct = |run: &str| run.bytes().collect::<HashSet<_>>().len();
    let drawn = |run: &str| run.len() >= 16 && (1..run.len()).contains(&digits(run)) && distinct(run) >= 8;
    id.replace('-', "").split(|c: char| !c.is_ascii_alphanumeric()).any(drawn)
}

/// The call itself.
pub(super) fn call(identity: &str) -> Sender {
    Sender::new(identity, 1)
}

/// The answer to a call that was recorded as unanswered.
pub(super) fn answer(identity: &str) -> Sender {
    Sender::new(identity, 2)
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

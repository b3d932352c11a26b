//! The calls in the log that a hook's event may be about: unfinished ones, and those that have ended.

use crate::Outcome;
use crate::Result;
use crate::entry::ToolCall;
use crate::store::guarded;
use crate::store::log::OpenStore;
use crate::store::read::stream::backwards;
use attestlog_proof::entry::{Call, Facet, Kind, Phase, SourceKind};
use std::collections::BTreeSet;

/// How many of the newest calls of a conversation with a tool are looked at to tell whether a call id is known.
const LOOKED_AT: usize = 1_000;

/// The beginnings that an end may belong to.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) oldest: Option<u64>,
    pub(super) count: u64,
    /// Whether they have the end's id, and other arguments.
    pub(super) is_by_id: bool,
}

impl Candidates {
    /// Adds one that is older than those before.
    fn add(&mut self, seq: u64) {
        self.oldest = Some(seq);
        self.count += 1;
    }
}

impl OpenStore {
    /// The facets of the entries that can be the beginning of this call, or are of the same tool.
    fn facets(&self, call: &ToolCall, kind: Kind) -> Vec<(Facet, Vec<String>)> {
        let policies = self.engine().policies();
        let names = [
            (Facet::Conversation, &call.conversation_id),
            (Facet::User, &call.user_id),
            (Facet::Tool, &call.tool_name),
        ];
        let named = names.into_iter().map(|(facet, name)| (facet, policies.terms(facet, name)));
        named.chain([(Facet::Kind, vec![kind.as_str().to_owned()])]).collect()
    }

    /// The call as its beginning would be in the log: what the policy hides is hidden there, too.
    pub(super) fn as_begun(&self, call: &ToolCall) -> Result<Call> {
        let mut asked = call.clone();
        (asked.result, asked.outcome, asked.duration_ms, asked.follows, asked.sender) = (None, None, None, None, None);
        (asked.late_answer, asked.trigger) = (false, None);
        Ok(*self.engine().prepare(asked, Phase::Begun)?.call)
    }

    /// The unfinished calls that this call can be the end of; if `exactly`, with these arguments even if it has an id.
    pub(super) fn candidates(&self, call: &ToolCall, exactly: bool) -> Result<Candidates> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let Some(first) = guarded(|| snapshot.first_unfinished())? else { return Ok(Candidates::default()) };
        let asked = self.as_begun(call)?;
        let mut same = Candidates::default();
        let (mut alike, mut sealed) = (Candidates::default(), Candidates::default());
        guarded(|| {
            backwards(&snapshot, &self.facets(call, Kind::CallBegun), snapshot.size, &mut |seq| {
                if seq >= first && snapshot.is_unfinished(seq)? {
                    let entry = snapshot.checked(seq)?;
                    let like = |begun: &Call| (likeness_of_arguments(begun, &asked), likeness(begun, &asked));
                    match entry.as_ref().and_then(|entry| entry.call()).map(like) {
                        Some((_, Likeness::Other)) | None => {}
                        Some((Likeness::Same, _)) => same.add(seq),
                        Some((Likeness::Sealed, Likeness::Sealed)) => sealed.add(seq),
                        Some((Likeness::Sealed, Likeness::Same)) => alike.add(seq),
                        // An agent may use an id again while its first call runs.
                        Some((Likeness::Other, _)) => _ = (!exactly).then(|| alike.add(seq)),
                    }
                }
                Ok(seq > first)
            })
        })?;
        alike.is_by_id = true;
        Ok([same, alike].into_iter().find(|found| found.count > 0).unwrap_or(sealed))
    }

    /// What the log has of a call that is not unfinished, among the newest of its conversation, user and tool. A call that this source
    /// has told of with these arguments, in this turn, comes before others with its id.
    pub(super) fn known(&self, call: &ToolCall) -> Result<Known> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let asked = self.as_begun(call)?;
        let (mut left, mut known, mut answered) = (LOOKED_AT, Known::Nothing, BTreeSet::new());
        let is_hook = asked.first_source() == Some(SourceKind::Hook);
        guarded(|| {
            backwards(&snapshot, &self.facets(call, Kind::ToolCall), snapshot.size, &mut |seq| {
                left -= 1;
                let entry = snapshot.checked(seq)?;
                let Some(there) = entry.as_ref().and_then(|entry| entry.call()) else { return Ok(left > 0) };
                if there.late_answer {
                    answered.extend(there.follows);
                }
                let begun = match (&there.arguments, there.phase) {
                    (None, Phase::Finished(begun)) => snapshot.checked(begun)?,
                    _ => None,
                };
                let arguments = begun.as_ref().and_then(|begun| begun.call()).unwrap_or(there);
                let is_same = is_of_same(there, &asked) && there.call_id == asked.call_id;
                let is_alike = likeness_of_arguments(arguments, &asked);
                let outcome = there.completion.as_ref().map(|ended| ended.outcome);
                let is_told_so = there.first_source().is_some() && there.first_source() == asked.first_source();
                let is_given_up = !there.late_answer && outcome == Some(Outcome::Abandoned) && is_told_so;
                let has_id = asked.call_id.is_some();
                let is_told = is_hook && is_told_so && is_one_turn(there, &asked);
                let is_unanswered = is_given_up && !answered.contains(&seq);
                let found = match is_alike {
                    _ if !is_same => return Ok(left > 0),
                    Likeness::Same if is_unanswered => {
                        Known::GivenUp { seq, is_turn: is_hook && is_named_turn(there, &asked) }
                    }
                    // Without an id it may be another call.
                    _ if !has_id => return Ok(left > 0),
                    Likeness::Sealed if is_unanswered => Known::GivenUp { seq, is_turn: false },
                    Likeness::Same | Likeness::Sealed if is_told => {
                        Known::There { seq, is_exactly: matches!(is_alike, Likeness::Same), outcome }
                    }
                    _ => {
                        // Unless an older one has these arguments.
                        if matches!(known, Known::Nothing) {
                            known = if is_unanswered { Known::GivenUp { seq, is_turn: false } } else { Known::Id };
                        }
                        return Ok(left > 0);
                    }
                };
                known = found;
                Ok(false)
            })
        })?;
        Ok(known)
    }
}

/// What the log has of a call that is not unfinished.
pub(super) enum Known {
    /// It was given up at this seq, and has no answer yet.
    GivenUp {
        seq: u64,
        /// Whether it had these arguments, and both name the same turn.
        is_turn: bool,
    },
    /// It has ended at this seq, and the same source tells of it again.
    There {
        seq: u64,
        /// Whether the arguments are known to be the same.
        is_exactly: bool,
        /// How it ended; if it was denied and has run nevertheless, that is another call.
        outcome: Option<Outcome>,
    },
    /// Another call with this id.
    Id,
    Nothing,
}

/// Whether a beginning and an end are of one call.
enum Likeness {
    Same,
    /// Perhaps: what their arguments hold is sealed, and cannot be compared.
    Sealed,
    Other,
}

fn likeness(begun: &Call, asked: &Call) -> Likeness {
    match (&begun.call_id, &asked.call_id) {
        _ if !is_of_same(begun, asked) => Likeness::Other,
        (Some(there), Some(here)) if there == here => Likeness::Same,
        (None, None) => likeness_of_arguments(begun, asked),
        _ => Likeness::Other,
    }
}

fn likeness_of_arguments(begun: &Call, asked: &Call) -> Likeness {
    let sealed = |call: &Call| call.arguments.as_ref().is_some_and(|text| text.as_str().contains(r#"{"sealed":"#));
    match () {
        () if begun.arguments == asked.arguments => Likeness::Same,
        () if sealed(begun) && sealed(asked) => Likeness::Sealed,
        () => Likeness::Other,
    }
}

/// Whether both are of one agent, and of one program and session as far as both say so: several may share a conversation. A sub-agent
/// may use the ids of its main agent, which names none.
fn is_of_same(there: &Call, asked: &Call) -> bool {
    fn agree<T: PartialEq>(there: Option<T>, asked: Option<T>) -> bool {
        there.is_none() || asked.is_none() || there == asked
    }
    there.agent_id == asked.agent_id
        && agree(program_of(there), program_of(asked))
        && agree(session_of(there), session_of(asked))
}

/// The program that told first of a call.
pub(super) fn program_of(call: &Call) -> Option<&str> {
    call.circumstances.as_ref()?.sources.first()?.program.as_deref()
}

/// The agent's session, where it is not the conversation.
pub(super) fn session_of(call: &Call) -> Option<String> {
    let metadata = call.session_metadata.as_ref()?.to_json();
    metadata.get("session_id")?.as_str().map(str::to_owned)
}

/// Whether both are of the same turn of the conversation, as far as both name one.
pub(super) fn is_one_turn(there: &Call, here: &Call) -> bool {
    turn_of(there).zip(turn_of(here)).is_none_or(|(there, here)| there == here)
}

/// Whether both name the same turn.
fn is_named_turn(there: &Call, here: &Call) -> bool {
    turn_of(there).is_some() && turn_of(there) == turn_of(here)
}

fn turn_of(call: &Call) -> Option<&str> {
    call.circumstances.as_ref()?.prompt_id.as_deref()
}

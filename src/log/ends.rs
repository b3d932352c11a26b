//! Ends of calls that other processes began.
//!
//! The hooks of a coding agent run as one process for each event: one begins a call, another ends it, and nobody in between
//! keeps the seq of the beginning. So the store finds the beginning: the oldest unfinished call of that conversation, user and
//! tool with that call id, or without an id with those arguments. Call ids are not unique, so there may be several; the end
//! then says how many.
//!
//! Invariant R107: an end finishes at most one call, and a repeated request finishes none besides: whoever asks again under the
//! same number gets the same receipt.

use crate::entry::ToolCall;
use crate::json::Json;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::stream::backwards;
use crate::store::{Receipt, guarded};
use crate::{Error, ErrorKind, Outcome, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind, Phase, Sender, SourceKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// The member of an end's session metadata that says how many unfinished calls it could have been the end of, if there were
/// several.
pub(crate) const CANDIDATES: &str = "ended_oldest_of";

/// How often another process may take the call that an end was meant for.
const TRIES: usize = 16;
/// How many of the newest calls of a conversation with a tool are looked at to tell whether a call id is known.
const LOOKED_AT: usize = 1_000;
/// How many calls are abandoned at a time, and how many of them in one batch.
const MOST: usize = 10_000;
const TOGETHER: usize = 1_000;

/// What to do with the end of a call of which no unfinished beginning is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// Record it as a whole call; if the call was abandoned, as its late answer. What a hook tells twice is recorded once.
    Record,
    /// Record it as a whole call, unless a call with this id is in the log, of this conversation and tool.
    RecordIfNew,
    /// Record nothing.
    Leave,
}

/// Unfinished calls that nobody will finish any more.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Abandoned {
    /// Only calls of this conversation.
    pub conversation: Option<String>,
    /// Only calls of this user.
    pub user: Option<String>,
    /// Only calls of this agent; `Some(None)`: only calls without an agent.
    pub agent: Option<Option<String>>,
    /// Only calls of which this kind of source told first.
    pub source: Option<SourceKind>,
    /// Only calls of which this program told first.
    pub program: Option<String>,
    /// Only calls whose `session_metadata.session_id` is this.
    pub session: Option<String>,
    /// Only calls that were begun before this time.
    pub begun_before: Option<Timestamp>,
    /// Why nobody finishes them, for their entries.
    pub reason: String,
}

/// [`Abandoned`] as it is sent between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentAbandoned {
    conversation: Option<String>,
    user: Option<String>,
    /// A list, because JSON's `null` alone does not tell no agent from any.
    agent: Option<[Option<String>; 1]>,
    source: Option<SourceKind>,
    program: Option<String>,
    session: Option<String>,
    begun_before: Option<Timestamp>,
    reason: String,
}

impl From<Abandoned> for SentAbandoned {
    fn from(which: Abandoned) -> SentAbandoned {
        let Abandoned { conversation, user, agent, source, program, session, begun_before, reason } = which;
        let agent = agent.map(|agent| [agent]);
        SentAbandoned { conversation, user, agent, source, program, session, begun_before, reason }
    }
}

impl From<SentAbandoned> for Abandoned {
    fn from(sent: SentAbandoned) -> Abandoned {
        let SentAbandoned { conversation, user, agent, source, program, session, begun_before, reason } = sent;
        let agent = agent.map(|[agent]| agent);
        Abandoned { conversation, user, agent, source, program, session, begun_before, reason }
    }
}

impl Unmatched {
    /// As it is sent between processes: whether to record, and if so, only what is new.
    #[cfg(feature = "owner")]
    pub(crate) fn sent(self) -> Option<bool> {
        match self {
            Unmatched::Record => Some(false),
            Unmatched::RecordIfNew => Some(true),
            Unmatched::Leave => None,
        }
    }

    pub(crate) fn of_sent(sent: Option<bool>) -> Unmatched {
        match sent {
            Some(false) => Unmatched::Record,
            Some(true) => Unmatched::RecordIfNew,
            None => Unmatched::Leave,
        }
    }
}

/// The beginnings that an end may belong to.
#[derive(Debug, Default)]
struct Candidates {
    oldest: Option<u64>,
    count: u64,
}

impl Candidates {
    /// Adds one that is older than those before.
    fn add(&mut self, seq: u64) {
        self.oldest = Some(seq);
        self.count += 1;
    }
}

impl OpenStore {
    /// Begins a call of which a hook tells, unless it has been told of already: a call with this id and these arguments is
    /// unfinished, or its end came first. `own`: as with [`end_oldest`](OpenStore::end_oldest). Returns `None` if nothing was
    /// recorded.
    pub(crate) fn begin_once(&self, call: ToolCall, own: Option<Sender>) -> Result<Option<Receipt>> {
        // The same hook may be configured twice, and an agent runs both at the same time.
        let _alone = self.engine().jobs.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
            return Ok(Some(receipt));
        }
        let is_known = call.call_id.is_some()
            && (self.candidates(&call, true)?.oldest.is_some()
                || matches!(self.known(&call)?, Known::There { is_whole: true }));
        if is_known {
            return Ok(None);
        }
        Ok(self.record_phases([(call, Phase::Begun)], false, own)?.first().copied())
    }

    /// Finishes the oldest unfinished call that `call` can be the end of. `own`: the number of the request, under which it is
    /// answered once. Returns `None` if nothing was recorded.
    pub(crate) fn end_oldest(
        &self,
        call: ToolCall,
        unmatched: Unmatched,
        own: Option<Sender>,
    ) -> Result<Option<Receipt>> {
        for _ in 0..TRIES {
            if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
                return Ok(Some(receipt));
            }
            let candidates = self.candidates(&call, false)?;
            let (ending, phase) = match candidates.oldest {
                Some(begun) if candidates.count > 1 => {
                    (call.clone().metadata(CANDIDATES, candidates.count), Phase::Finished(begun))
                }
                Some(begun) => (call.clone(), Phase::Finished(begun)),
                None if unmatched == Unmatched::Leave => return Ok(None),
                None => match self.known(&call)? {
                    Known::GivenUp(seq) => (late(&call, seq), Phase::Whole),
                    Known::There { .. } => return Ok(None),
                    Known::Id if unmatched == Unmatched::RecordIfNew => return Ok(None),
                    Known::Id | Known::Nothing => (call.clone(), Phase::Whole),
                },
            };
            let is_late = ending.late_answer;
            match self.record_phases([(ending, phase)], false, own.clone()) {
                // Somebody else ended that call meanwhile, or answered it.
                Err(e) if e.kind() == ErrorKind::Conflict && phase != Phase::Whole => {}
                // It has been answered, so this is another call of that id.
                Err(e) if e.kind() == ErrorKind::Conflict && unmatched == Unmatched::Record && is_late => {
                    return Ok(self.record_phases([(call, Phase::Whole)], false, own)?.first().copied());
                }
                Err(e) if e.kind() == ErrorKind::Conflict && is_late => return Ok(None),
                recorded => return Ok(recorded?.first().copied()),
            }
        }
        Err(Error::new(ErrorKind::Busy, "others end calls of that conversation at the same time; try again"))
    }

    /// Ends these calls in one batch, each in one of two ways: as the first if it is unfinished; if it is not in the log at all, the
    /// second is recorded. `own`: as with [`end_oldest`](OpenStore::end_oldest). Returns how many were recorded.
    pub(crate) fn settle(&self, calls: Vec<(ToolCall, ToolCall)>, own: Option<Sender>) -> Result<u64> {
        if let Some(own) = &own
            && self.engine().recorded_under(own)?.is_some()
        {
            return Ok(calls.len() as u64);
        }
        let (mut ends, mut taken) = (Vec::new(), BTreeSet::new());
        for (ended, alone) in &calls {
            let step = match (self.candidates(ended, false)?.oldest, self.known(alone)?) {
                (Some(begun), _) => Some((begun, (ended.clone(), Phase::Finished(begun)))),
                (None, Known::GivenUp(seq)) => Some((seq, (late(alone, seq), Phase::Whole))),
                (None, Known::Nothing) => {
                    ends.push((alone.clone(), Phase::Whole));
                    None
                }
                (None, Known::Id | Known::There { .. }) => None,
            };
            ends.extend(step.filter(|(seq, _)| taken.insert(*seq)).map(|(_, end)| end));
        }
        match self.record_phases(ends, false, own) {
            Ok(receipts) => Ok(receipts.len() as u64),
            // One of them has ended meanwhile, or together they are too large.
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::TooLarge) => {
                let one = |(ended, alone)| match self.end_oldest(ended, Unmatched::Leave, None)? {
                    Some(_) => Ok(1),
                    None => Ok(u64::from(self.end_oldest(alone, Unmatched::RecordIfNew, None)?.is_some())),
                };
                calls.into_iter().map(one).sum()
            }
            Err(e) => Err(e),
        }
    }

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
    fn as_begun(&self, call: &ToolCall) -> Result<Call> {
        let mut asked = call.clone();
        (asked.result, asked.outcome, asked.duration_ms, asked.follows, asked.sender) = (None, None, None, None, None);
        (asked.late_answer, asked.trigger) = (false, None);
        Ok(*self.engine().prepare(asked, Phase::Begun)?.call)
    }

    /// The unfinished calls that this call can be the end of; if `exactly`, with these arguments even if it has an id.
    fn candidates(&self, call: &ToolCall, exactly: bool) -> Result<Candidates> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let Some(first) = guarded(|| snapshot.first_unfinished())? else { return Ok(Candidates::default()) };
        let asked = self.as_begun(call)?;
        let (mut alike, mut sealed) = (Candidates::default(), Candidates::default());
        guarded(|| {
            backwards(&snapshot, &self.facets(call, Kind::CallBegun), snapshot.size, &mut |seq| {
                if seq >= first && snapshot.is_unfinished(seq)? {
                    let entry = snapshot.checked(seq)?;
                    let like = |begun| match likeness_of_arguments(begun, &asked) {
                        Likeness::Other if exactly => Likeness::Other,
                        _ => likeness(begun, &asked),
                    };
                    match entry.as_ref().and_then(|entry| entry.call()).map(like) {
                        Some(Likeness::Same) => alike.add(seq),
                        Some(Likeness::Sealed) => sealed.add(seq),
                        Some(Likeness::Other) | None => {}
                    }
                }
                Ok(seq > first)
            })
        })?;
        Ok(if alike.count > 0 { alike } else { sealed })
    }

    /// What the log has of a call that is not unfinished, among the newest of its conversation, user and tool.
    fn known(&self, call: &ToolCall) -> Result<Known> {
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
                let is_told = is_hook && is_told_so && !matches!(is_alike, Likeness::Other);
                known = match () {
                    () if !is_same || (!has_id && !matches!(is_alike, Likeness::Same)) => return Ok(left > 0),
                    () if is_given_up && !answered.contains(&seq) => Known::GivenUp(seq),
                    // Without an id it may be another call.
                    () if !has_id => return Ok(left > 0),
                    // A call that seemed to be denied, and has run: its end is not kept from the log.
                    () if is_told && outcome != Some(Outcome::Denied) => {
                        Known::There { is_whole: there.phase == Phase::Whole && !there.late_answer }
                    }
                    () => Known::Id,
                };
                Ok(false)
            })
        })?;
        Ok(known)
    }

    /// Ends these unfinished calls as [abandoned](Outcome::Abandoned); returns how many. Left as they are: calls whose names
    /// are hidden, if `which` does not name them.
    pub(crate) fn abandon(&self, which: &Abandoned) -> Result<u64> {
        let snapshot = self.engine().snapshot_of_entries()?;
        let unfinished = guarded(|| snapshot.unfinished())?;
        let mut ends = Vec::new();
        for seq in unfinished {
            ends.extend(guarded(|| self.abandoned(&snapshot, seq, which))?.map(|end| (end, Phase::Finished(seq))));
            if ends.len() == MOST {
                break;
            }
        }
        let mut count = 0;
        for together in ends.chunks(TOGETHER) {
            count += self.end_together(together)?;
        }
        Ok(count)
    }

    /// Ends these calls in one batch, or if that cannot be, each that can be ended; returns how many.
    fn end_together(&self, ends: &[(ToolCall, Phase)]) -> Result<u64> {
        let may_stand_alone =
            |e: &Error| matches!(e.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::TooLarge);
        match self.record_phases(ends.to_vec(), false, None) {
            Ok(receipts) => Ok(receipts.len() as u64),
            // One has ended meanwhile, or its names are not those that it seems to have.
            Err(e) if may_stand_alone(&e) && ends.len() > 1 => {
                ends.iter().map(|end| self.end_together(std::slice::from_ref(end))).sum()
            }
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The end of the call that was begun at `seq`, if it is one of these.
    fn abandoned(&self, snapshot: &Snapshot, seq: u64, which: &Abandoned) -> Result<Option<ToolCall>> {
        let Some(entry) = snapshot.checked(seq)? else { return Ok(None) };
        let Some(begun) = entry.call().filter(|call| call.phase == Phase::Begun) else { return Ok(None) };
        let policies = self.engine().policies();
        let is = |facet, asked: &Option<String>, name: &str| match asked {
            None => true,
            Some(asked) => policies.terms(facet, asked).iter().any(|term| term == name),
        };
        let wanted = is(Facet::Conversation, &which.conversation, &begun.conversation_id)
            && is(Facet::User, &which.user, &begun.user_id)
            && which.agent.as_ref().is_none_or(|agent| *agent == begun.agent_id)
            && which.source.is_none_or(|source| begun.first_source() == Some(source))
            && which.program.as_ref().is_none_or(|program| program_of(begun) == Some(&**program))
            && which.session.as_ref().is_none_or(|session| session_of(begun).as_ref() == Some(session))
            && which.begun_before.is_none_or(|before| entry.body.recorded_at < before);
        if !wanted {
            return Ok(None);
        }
        let mut end = ToolCall::new(
            which.conversation.as_ref().unwrap_or(&begun.conversation_id),
            which.user.as_ref().unwrap_or(&begun.user_id),
            &*begun.tool_name,
        )
        .outcome(Outcome::Abandoned);
        (end.call_id, end.agent_id) = (begun.call_id.clone(), begun.agent_id.clone());
        (end.model, end.tool_server) = (begun.model.clone(), begun.tool_server.clone());
        end.turn_number = begun.turn_number;
        if let Some(around) = &begun.circumstances {
            end.circumstances.sources = around.sources.clone();
        }
        // What the policy has treated is not treated again.
        if begun.treated.is_none() {
            end.arguments = begun.arguments.as_ref().map(|text| text.to_json());
        }
        Ok(Some(end.metadata("abandoned_because", Json::from(which.reason.as_str()))))
    }
}

/// The end of a call that was given up: its late answer.
fn late(call: &ToolCall, given_up: u64) -> ToolCall {
    let mut call = call.clone().follow_up_of(given_up);
    call.late_answer = true;
    call
}

/// What the log has of a call whose end comes.
enum Known {
    /// It was given up, and has no answer yet.
    GivenUp(u64),
    /// It has ended, and this is told again. Whether it ended without a beginning.
    There {
        is_whole: bool,
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

/// Whether both are of one program, session and agent, as far as both say so: several may share a conversation.
fn is_of_same(there: &Call, asked: &Call) -> bool {
    fn agree<T: PartialEq>(there: Option<T>, asked: Option<T>) -> bool {
        there.is_none() || asked.is_none() || there == asked
    }
    let by_id = asked.call_id.is_some();
    let agents =
        if by_id { agree(there.agent_id.as_ref(), asked.agent_id.as_ref()) } else { there.agent_id == asked.agent_id };
    agents && agree(program_of(there), program_of(asked)) && agree(session_of(there), session_of(asked))
}

/// The program that told first of a call.
fn program_of(call: &Call) -> Option<&str> {
    call.circumstances.as_ref()?.sources.first()?.program.as_deref()
}

/// The agent's session, where it is not the conversation.
fn session_of(call: &Call) -> Option<String> {
    let metadata = call.session_metadata.as_ref()?.to_json();
    metadata.get("session_id")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use attestlog_proof::entry::Source;

    fn call(id: Option<&str>) -> ToolCall {
        let mut call = ToolCall::new("c", "u", "t").arguments(Json::from("a"));
        call.call_id = id.map(str::to_owned);
        call
    }

    fn begin(log: &OpenStore, call: ToolCall) -> Result<u64> {
        Ok(log.record_phases([(call, Phase::Begun)], false, None)?[0].seq)
    }

    fn end(log: &OpenStore, call: ToolCall, unmatched: Unmatched) -> Result<Option<Phase>> {
        let Some(receipt) = log.end_oldest(call.result(true), unmatched, None)? else { return Ok(None) };
        Ok(log.entry(receipt.seq)?.call().map(|call| call.phase))
    }

    /// Ids repeat within a conversation: an end that took the newest call of its id left the oldest unfinished for ever.
    #[test]
    fn the_oldest_with_that_id_is_ended_and_the_entry_says_how_many_there_were() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let (first, other, second) =
            (begin(&log, call(Some("1")))?, begin(&log, call(Some("2")))?, begin(&log, call(Some("1")))?);
        let receipt = log.end_oldest(call(Some("1")).result(true), Unmatched::Record, None)?.unwrap();
        let ended = log.entry(receipt.seq)?;
        assert_eq!(ended.call().unwrap().phase, Phase::Finished(first));
        assert!(ended.line().contains(r#""ended_oldest_of":2"#), "{}", ended.line());
        assert_eq!(end(&log, call(Some("1")), Unmatched::Leave)?, Some(Phase::Finished(second)));
        assert_eq!(end(&log, call(Some("1")), Unmatched::Leave)?, None);
        assert_eq!(end(&log, call(Some("1")), Unmatched::RecordIfNew)?, None);
        assert_eq!(end(&log, call(Some("3")), Unmatched::RecordIfNew)?, Some(Phase::Whole));
        assert_eq!(end(&log, call(Some("2")), Unmatched::Record)?, Some(Phase::Finished(other)));
        assert_eq!(log.count(&Query::new().unfinished())?, 0);
        Ok(())
    }

    #[test]
    fn without_an_id_the_arguments_tell_and_another_user_or_conversation_is_never_meant() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let first = begin(&log, call(None))?;
        let other = begin(&log, call(None).arguments(Json::from("b")))?;
        let mut elsewhere = [call(None), call(None), call(None), call(Some("1"))];
        elsewhere[0].conversation_id = "d".to_owned();
        elsewhere[1].user_id = "v".to_owned();
        elsewhere[2].tool_name = "s".to_owned();
        for call in elsewhere {
            assert_eq!(end(&log, call, Unmatched::Leave)?, None);
        }
        assert_eq!(end(&log, call(None).arguments(Json::from("b")), Unmatched::Leave)?, Some(Phase::Finished(other)));
        assert_eq!(end(&log, call(None), Unmatched::Leave)?, Some(Phase::Finished(first)));
        Ok(())
    }

    /// An owner that ends before it answers is followed by another, which is asked again: it would have ended a second
    /// call [R107].
    #[test]
    fn a_repeated_request_gets_the_same_receipt_and_ends_nothing_else() -> Result<()> {
        let log = OpenStore::in_memory()?;
        begin(&log, call(Some("1")))?;
        let second = begin(&log, call(Some("1")))?;
        let own = || Some(Sender::new("process-abc", 1));
        let once = log.end_oldest(call(Some("1")).result(true), Unmatched::Record, own())?;
        let size = log.size();
        assert_eq!(log.end_oldest(call(Some("1")).result(true), Unmatched::Record, own())?, once);
        assert_eq!(log.size(), size);
        assert_eq!(end(&log, call(Some("1")), Unmatched::Leave)?, Some(Phase::Finished(second)));
        Ok(())
    }

    /// A command that went on in the background after the turn had ended: its call was given up, and its answer was then counted as
    /// a call of its own.
    #[test]
    fn the_end_of_a_call_that_was_given_up_is_its_late_answer() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let seen = || call(Some("1")).source(Source::new(SourceKind::Hook));
        begin(&log, seen())?;
        let mut which = Abandoned { reason: "the turn ended".to_owned(), ..Abandoned::default() };
        which.source = Some(SourceKind::Session);
        assert_eq!(log.abandon(&which)?, 0);
        which.source = Some(SourceKind::Hook);
        assert_eq!(log.abandon(&which)?, 1);
        let given_up = log.size() - 1;
        let late = log.end_oldest(seen().result(true), Unmatched::Record, None)?.unwrap();
        let entry = log.entry(late.seq)?;
        assert_eq!((entry.call().unwrap().late_answer, entry.call().unwrap().follows), (true, Some(given_up)));
        assert_eq!(log.end_oldest(seen().result(true), Unmatched::RecordIfNew, None)?, None);
        Ok(())
    }

    #[test]
    fn what_nobody_finishes_is_abandoned_and_nothing_else() -> Result<()> {
        let log = OpenStore::in_memory()?;
        begin(&log, call(Some("1")))?;
        begin(&log, call(None).agent("sub"))?;
        let mut other = call(Some("1"));
        other.conversation_id = "d".to_owned();
        begin(&log, other)?;
        let mut which =
            Abandoned { conversation: Some("c".to_owned()), reason: "over".to_owned(), ..Abandoned::default() };
        which.agent = Some(Some("sub".to_owned()));
        assert_eq!(log.abandon(&which)?, 1);
        which.agent = Some(None);
        assert_eq!(log.abandon(&which)?, 1);
        which.agent = None;
        assert_eq!(log.abandon(&which)?, 0);
        assert_eq!(log.count(&Query::new().unfinished())?, 1);
        let ended = log.query(&Query::new().conversation("c").kind(Kind::ToolCall))?;
        for entry in ended {
            let entry = entry?;
            assert_eq!(entry.call().unwrap().completion.as_ref().unwrap().outcome, Outcome::Abandoned);
            assert!(entry.line().contains(r#""abandoned_because":"over""#), "{}", entry.line());
        }
        Ok(())
    }
}

//! Beginnings and ends of calls that separate processes tell of.
//!
//! The hooks of a coding agent run as one process for each event: one begins a call, another ends it, and nobody in between
//! keeps the seq of the beginning. So the store finds the beginning: the oldest unfinished call of that conversation, user and
//! tool with that call id, or without an id with those arguments. Call ids are not unique, so there may be several; the end
//! then says how many. What another source has told of already, such as the agent's session, gets details (`details`).
//!
//! Invariant R107: an end finishes at most one call, and a repeated request finishes none besides: whoever asks again under the
//! same number gets the same receipt.
//!
//! Invariant R111: a beginning that is told again after the end of its call, with the same id, arguments, session and turn, makes no second
//! call. Nobody can tell whether the same event came twice or the agent used the id again, so it is kept, as details of that call.

use super::details::Telling;
use super::known::{Candidates, Known};
use crate::entry::ToolCall;
use crate::store::Receipt;
use crate::store::log::OpenStore;
use crate::{Error, ErrorKind, Hash, Outcome, Result};
use attestlog_proof::entry::{Call, Phase, Sender};
use std::collections::{BTreeSet, HashSet};

/// The member of an end's session metadata that says how many unfinished calls it could have been the end of, if there were
/// several.
pub(crate) const CANDIDATES: &str = "ended_oldest_of";
/// The member of the session metadata of details that says that they were told of a call which had ended by then.
pub(super) const AFTER_END: &str = "told_after_end";

/// How often another process may take the call that an end was meant for.
const TRIES: usize = 16;

/// What to do with the end of a call of which no unfinished beginning is in the log. What the log has from another source, or from the
/// same one already, is no call of its own in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// Record it as a whole call; if the call was abandoned, as its late answer. What a hook tells twice is recorded once.
    Record,
    /// Record it as a whole call, unless a call with this id is in the log, of this conversation and tool.
    RecordIfNew,
    /// Record nothing.
    Leave,
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

/// What an end is of which no unfinished beginning is in the log.
enum Unbegun {
    /// These details of the call at this seq.
    Details(Box<ToolCall>, u64),
    /// This late answer of the call that was given up at this seq.
    Late(Box<ToolCall>, u64),
    /// Told already.
    Told,
    /// The end of another call than those with its id.
    Id,
    /// The end of a call of which nothing is in the log.
    New,
}

impl OpenStore {
    /// Begins a call of which a hook tells, unless it has been told of already: then what is not in the log of it becomes its details.
    /// `own`: as with [`end_oldest`](OpenStore::end_oldest). Returns `None` if nothing was recorded.
    pub(crate) fn begin_once(&self, call: ToolCall, own: Option<Sender>) -> Result<Option<Receipt>> {
        // The same hook may be configured twice, and an agent runs both at the same time.
        let _alone = self.alone();
        if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
            return Ok(Some(receipt));
        }
        let (entry, phase) = match self.told_before(&call)? {
            Telling::NothingNew(_) => return Ok(None),
            Telling::Details(details, _) => (*details, Phase::Whole),
            Telling::Unknown => (call, Phase::Begun),
        };
        Ok(self.record_phases([(entry, phase)], false, own)?.first().copied())
    }

    /// What the beginning of a call adds to one that is in the log.
    fn told_before(&self, call: &ToolCall) -> Result<Telling> {
        if call.call_id.is_none() {
            return Ok(Telling::Unknown);
        }
        let told = self.seen(call)?;
        if !matches!(told, Telling::Unknown) {
            return Ok(told);
        }
        if let Some(begun) = self.candidates(call, true)?.oldest {
            return Ok(Telling::NothingNew(begun));
        }
        Ok(match self.known(call)? {
            Known::There { seq, is_exactly: true, .. } | Known::GivenUp { seq, is_turn: true } => {
                Telling::Details(Box::new(after_end(call, seq)), seq)
            }
            _ => Telling::Unknown,
        })
    }

    /// Finishes the oldest unfinished call that `call` can be the end of. `own`: the number of the request, under which it is
    /// answered once. Returns `None` if nothing was recorded.
    pub(crate) fn end_oldest(
        &self,
        call: ToolCall,
        unmatched: Unmatched,
        own: Option<Sender>,
    ) -> Result<Option<Receipt>> {
        let _alone = self.alone();
        for _ in 0..TRIES {
            if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
                return Ok(Some(receipt));
            }
            let candidates = self.unended(&call)?;
            let (ending, phase) = match candidates.oldest {
                Some(begun) if candidates.count > 1 => {
                    (call.clone().metadata(CANDIDATES, candidates.count), Phase::Finished(begun))
                }
                Some(begun) => (call.clone(), Phase::Finished(begun)),
                None if unmatched == Unmatched::Leave => return Ok(None),
                None => match self.unbegun(&call)? {
                    Unbegun::Details(details, _) => (*details, Phase::Whole),
                    Unbegun::Late(answer, seq) => (late(&answer, seq), Phase::Whole),
                    Unbegun::Told => return Ok(None),
                    Unbegun::Id if unmatched == Unmatched::RecordIfNew => return Ok(None),
                    Unbegun::Id | Unbegun::New => (call.clone(), Phase::Whole),
                },
            };
            let is_late = ending.late_answer;
            let contradiction = match phase {
                Phase::Finished(begun) => self.contradiction(&ending, begun)?,
                _ => None,
            };
            let entries = [(ending, phase)].into_iter().chain(contradiction.map(|details| (details, Phase::Whole)));
            match self.record_phases(entries, false, own.clone()) {
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

    /// The beginnings that an end may belong to. One that is told again is no end of another call with its id.
    fn unended(&self, call: &ToolCall) -> Result<Candidates> {
        let found = self.candidates(call, false)?;
        match found.is_by_id && matches!(self.known(call)?, Known::There { is_exactly: true, .. }) {
            true => Ok(Candidates::default()),
            false => Ok(found),
        }
    }

    /// What an end is for which [`unended`](OpenStore::unended) has no beginning.
    fn unbegun(&self, call: &ToolCall) -> Result<Unbegun> {
        match self.seen(call)? {
            Telling::Details(details, of) if self.is_unanswered_recording(&details, of)? => {
                return Ok(Unbegun::Late(details, of));
            }
            Telling::Details(details, of) => return Ok(Unbegun::Details(details, of)),
            Telling::NothingNew(_) => return Ok(Unbegun::Told),
            Telling::Unknown => {}
        }
        Ok(match self.known(call)? {
            Known::GivenUp { seq, .. } => Unbegun::Late(Box::new(call.clone()), seq),
            Known::There { seq, outcome, .. } => match self.was_begun_again(call, seq)? {
                true => Unbegun::Details(Box::new(after_end(call, seq)), seq),
                false if outcome == Some(Outcome::Denied) => Unbegun::Id,
                false => self.told_otherwise(call, outcome, seq)?,
            },
            Known::Id => Unbegun::Id,
            Known::Nothing => Unbegun::New,
        })
    }

    /// Whether this tells the end of a call of which a recording had none, and which nobody has answered yet.
    fn is_unanswered_recording(&self, details: &ToolCall, of: u64) -> Result<bool> {
        let tells_end =
            details.result.is_some() || details.outcome.is_some_and(|outcome| outcome != Outcome::Abandoned);
        let is_recording = || Ok::<_, Error>(self.entry(of)?.call().is_some_and(Call::is_from_recording));
        Ok(tells_end && is_recording()? && self.unanswered(&[of])?.contains(&of))
    }

    /// How the end of the call that was begun at `begun` contradicts what others have told of its end, as details of it.
    fn contradiction(&self, ending: &ToolCall, begun: u64) -> Result<Option<ToolCall>> {
        let entry = self.entry(begun)?;
        let Some(there) = entry.call() else { return Ok(None) };
        let Some((told, _)) = self.told_end(there, begun)? else { return Ok(None) };
        let outcome = self.outcome_of(ending)?;
        let is_other = outcome.is_some_and(|outcome| outcome != told && outcome != Outcome::Abandoned);
        Ok(is_other.then(|| contradicting(ending, outcome, begun)))
    }

    /// What the end of a call tells that has ended at `seq`, as its source said.
    fn told_otherwise(&self, call: &ToolCall, ended: Option<Outcome>, seq: u64) -> Result<Unbegun> {
        let outcome = self.outcome_of(call)?;
        if outcome == ended
            || matches!(outcome, None | Some(Outcome::Abandoned))
            || self.has_told_end(call, seq, outcome)?
        {
            return Ok(Unbegun::Told);
        }
        Ok(Unbegun::Details(Box::new(contradicting(call, outcome, seq)), seq))
    }

    fn outcome_of(&self, call: &ToolCall) -> Result<Option<Outcome>> {
        let prepared = self.engine().prepare(call.clone(), Phase::Whole)?;
        Ok(prepared.call.completion.as_ref().map(|ended| ended.outcome))
    }

    /// Ends these calls in one batch, each in one of two ways: as the first if the log has it; if it does not, the second is recorded.
    /// `own`: as with [`end_oldest`](OpenStore::end_oldest). Returns how many were recorded.
    pub(crate) fn settle(&self, calls: Vec<(ToolCall, ToolCall)>, own: Option<Sender>) -> Result<u64> {
        let _alone = self.alone();
        self.settle_alone(calls, own)
    }

    fn settle_alone(&self, calls: Vec<(ToolCall, ToolCall)>, own: Option<Sender>) -> Result<u64> {
        for _ in 0..TRIES {
            if let Some(own) = &own
                && self.engine().recorded_under(own)?.is_some()
            {
                return Ok(calls.len() as u64);
            }
            match self.record_phases(self.endings(&calls)?, false, own.clone()) {
                Ok(receipts) => return Ok(receipts.len() as u64),
                // One of them has ended meanwhile, or together they are too large.
                Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::TooLarge) && calls.len() > 1 => {
                    return calls.into_iter().map(|one| self.settle_alone(vec![one], None)).sum();
                }
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(ErrorKind::Busy, "others end calls of that conversation at the same time; try again"))
    }

    /// What is to be recorded of a list of calls that have ended: nothing twice, though the list may have a call twice.
    fn endings(&self, calls: &[(ToolCall, ToolCall)]) -> Result<Vec<(ToolCall, Phase)>> {
        let (mut ends, mut taken, mut alone_there) = (Vec::new(), BTreeSet::new(), HashSet::new());
        for (ended, alone) in calls {
            if let Some(begun) = self.unended(ended)?.oldest {
                if taken.insert(begun) {
                    ends.push((ended.clone(), Phase::Finished(begun)));
                    ends.extend(self.contradiction(ended, begun)?.map(|details| (details, Phase::Whole)));
                }
                continue;
            }
            let part = match self.unbegun(ended)? {
                Unbegun::Details(details, of) => Some((of, *details)),
                Unbegun::Late(_, seq) if ended.call_id.is_none() => Some((seq, late(alone, seq))),
                Unbegun::Late(answer, seq) => Some((seq, late(&answer, seq))),
                Unbegun::Told | Unbegun::Id => None,
                Unbegun::New => {
                    let is_new = alone.call_id.is_none() || alone_there.insert(what(alone));
                    ends.extend(is_new.then(|| (alone.clone(), Phase::Whole)));
                    None
                }
            };
            ends.extend(part.filter(|(seq, _)| taken.insert(*seq)).map(|(_, part)| (part, Phase::Whole)));
        }
        Ok(ends)
    }
}

/// What tells the calls of one list from each other.
fn what(call: &ToolCall) -> Hash {
    let arguments = call.arguments.as_ref().map(|arguments| arguments.to_canonical().to_string());
    let of = |text: Option<&str>| Hash::of(text.unwrap_or_default().as_bytes());
    let parts = [Some(&*call.tool_name), call.call_id.as_deref(), arguments.as_deref()].map(of);
    Hash::of(parts.map(|part| part.to_string()).join(" ").as_bytes())
}

/// The end of a call that was given up: its late answer.
fn late(call: &ToolCall, given_up: u64) -> ToolCall {
    let mut call = call.clone().follow_up_of(given_up);
    call.late_answer = true;
    // What was written as details of the call is its answer.
    (call.detail_of, call.circumstances.contradicts) = (None, Vec::new());
    call.circumstances.sources.iter_mut().for_each(|source| source.added.clear());
    call
}

/// What is told of the end of the call at `seq` that contradicts what is in the log of it.
fn contradicting(ending: &ToolCall, outcome: Option<Outcome>, seq: u64) -> ToolCall {
    let mut details = ending.clone().contradicts(["outcome"]).detail_of(seq);
    (details.arguments, details.trigger, details.follows, details.duration_ms) = (None, None, None, None);
    details.outcome = details.outcome.or(outcome);
    details
}

/// What is told again of the call that ended at `seq`: it had these arguments then.
fn after_end(call: &ToolCall, seq: u64) -> ToolCall {
    let mut details = call.clone().metadata(AFTER_END, true).detail_of(seq);
    (details.arguments, details.trigger, details.follows) = (None, None, None);
    details
}

#[cfg(test)]
mod tests {
    use super::super::Abandoned;
    use super::*;
    use crate::json::Json;
    use crate::query::Query;
    use attestlog_proof::entry::{Source, SourceKind};

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
}

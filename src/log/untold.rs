//! Recording calls that may have been told of already: those of files that are imported while hooks, or other imports, record the
//! same ones.
//!
//! Invariant R112: the question whether the log has a call, and the record that follows from the answer, are one step under the owner's
//! lock (`alone`), whichever process asks. A question first and a record later lets another process record the call in between.

use super::alike::is_live;
use super::details::Telling;
use crate::entry::ToolCall;
use crate::entry::reserved::IMPORTED;
use crate::store::Receipt;
use crate::store::log::OpenStore;
use crate::{Error, Outcome, Result};
use attestlog_proof::entry::{Call, Phase, Sender};
use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

/// What became of a call of which a source tells afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The log did not have the call, and has it here now; or it had been recorded under this number already.
    Recorded(Receipt),
    /// The log has all of it, at this seq; nothing was recorded.
    NothingNew(u64),
    /// What the log did not have is recorded, as details of the call at this seq.
    Added(Receipt, u64),
}

impl Told {
    /// As it is sent between processes: the receipt, and where the log had the call.
    pub(crate) fn sent(self) -> (Option<Receipt>, Option<u64>) {
        match self {
            Told::Recorded(receipt) => (Some(receipt), None),
            Told::NothingNew(seq) => (None, Some(seq)),
            Told::Added(receipt, seq) => (Some(receipt), Some(seq)),
        }
    }

    /// # Errors
    /// `InvalidInput` for what no owner answers.
    #[cfg(feature = "owner")]
    pub(crate) fn of_sent(sent: (Option<Receipt>, Option<u64>)) -> Result<Told> {
        match sent {
            (Some(receipt), Some(seq)) => Ok(Told::Added(receipt, seq)),
            (Some(receipt), None) => Ok(Told::Recorded(receipt)),
            (None, Some(seq)) => Ok(Told::NothingNew(seq)),
            (None, None) => Err(Error::invalid("an answer about a call says neither where it is nor where it was")),
        }
    }
}

/// Calls that are recorded in one commit, and what becomes of each.
#[derive(Default)]
struct Pending {
    entries: Vec<(ToolCall, Phase)>,
    /// The index of each among the calls that are told of, and the call of which it is details.
    places: Vec<(usize, Option<u64>)>,
    /// Those of a conversation and id, in `entries`.
    by_id: HashMap<(String, String), Vec<usize>>,
}

impl Pending {
    fn push(&mut self, entry: ToolCall, place: usize, of: Option<u64>) {
        if let Some(id) = entry.call_id.clone() {
            self.by_id.entry((entry.conversation_id.clone(), id)).or_default().push(self.entries.len());
        }
        self.entries.push((entry, Phase::Whole));
        self.places.push((place, of));
    }

    /// Whether the answer for this call may depend on these.
    fn may_tell_of(&self, call: &ToolCall, nth: u64) -> bool {
        let Some(id) = &call.call_id else { return false };
        let Some(alike) = self.by_id.get(&(call.conversation_id.clone(), id.clone())) else { return false };
        let is_details = |at: &usize| self.places.get(*at).is_some_and(|(_, of)| of.is_some());
        // One that its source tells of for the second time is none that it told of for the first time.
        nth == 1 || alike.iter().any(is_details)
    }
}

impl OpenStore {
    /// Lets nobody else ask, in this process or through it, whether a call has been told of until the answer is acted on.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.engine().jobs.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records each of these calls, or what it tells of one that the log has. With each: how many times its source has told of a call
    /// like it, with this one. `own`: the number of the request, for a call that has none.
    pub(crate) fn tell(&self, calls: Vec<(ToolCall, u64)>, own: Option<Sender>) -> Result<Vec<Told>> {
        if calls.len() > 1 && calls.iter().any(|(call, _)| call.sender.is_none()) {
            return Err(Error::invalid("calls that are told of together need numbers").in_member("sender"));
        }
        let _alone = self.alone();
        let own = own.filter(|_| calls.first().is_some_and(|(call, _)| call.sender.is_none()));
        if let Some(receipt) = own.as_ref().map(|own| self.engine().recorded_under(own)).transpose()?.flatten() {
            let of = self.entry(receipt.seq)?.call().and_then(Call::detail_of);
            return Ok(vec![of.map_or(Told::Recorded(receipt), |of| Told::Added(receipt, of))]);
        }
        let (mut told, mut pending): (Vec<Option<Told>>, _) =
            (calls.iter().map(|_| None).collect(), Pending::default());
        let mut is_there: HashMap<String, bool> = HashMap::new();
        for (place, (call, nth)) in calls.into_iter().enumerate() {
            if pending.may_tell_of(&call, nth) {
                is_there.insert(call.conversation_id.clone(), true);
                self.record_pending(&mut pending, &mut told, own.clone())?;
            }
            match self.told_of(&call, nth, &mut is_there).map_err(|e| e.in_call(place))? {
                Telling::Unknown => pending.push(call, place, None),
                Telling::Details(details, of) => pending.push(*details, place, Some(of)),
                Telling::NothingNew(seq) => {
                    told.iter_mut().skip(place).take(1).for_each(|at| *at = Some(Told::NothingNew(seq)))
                }
            }
        }
        self.record_pending(&mut pending, &mut told, own)?;
        Ok(told.into_iter().flatten().collect())
    }

    /// What this call tells of one that the log has. `is_there`: the conversations that the log has.
    fn told_of(&self, call: &ToolCall, nth: u64, is_there: &mut HashMap<String, bool>) -> Result<Telling> {
        let Some(source) = call.first_source() else {
            return Err(Error::invalid("what is told of a call needs a source that tells it").in_member("sources"));
        };
        if is_live(source) {
            return Err(Error::invalid("a source that sees calls begins and ends them").in_member("sources"));
        }
        if call.call_id.is_none() || call.conversation_id.starts_with(IMPORTED) {
            return Ok(Telling::Unknown);
        }
        let is_there = match is_there.get(&call.conversation_id) {
            Some(is_there) => *is_there,
            None => {
                let there = self.has_conversation(&call.conversation_id)?;
                is_there.insert(call.conversation_id.clone(), there);
                there
            }
        };
        if !is_there {
            return Ok(Telling::Unknown);
        }
        let mut call = call.clone();
        // What is told with an end is told under the number of the end.
        if let Some(sender) =
            call.sender.as_mut().filter(|sender| sender.id.starts_with(IMPORTED) && sender.number == 1)
            && call.outcome != Some(Outcome::Abandoned)
        {
            sender.number = 2;
        }
        self.telling(call, nth)
    }

    fn record_pending(&self, pending: &mut Pending, told: &mut [Option<Told>], own: Option<Sender>) -> Result<()> {
        let Pending { entries, places, .. } = std::mem::take(pending);
        if entries.is_empty() {
            return Ok(());
        }
        let receipts = self.record_phases(entries, true, own).map_err(|mut e| {
            match e.take_call().and_then(|at| places.get(at)) {
                Some((place, _)) => e.in_call(*place),
                None => e,
            }
        })?;
        for ((place, of), receipt) in places.into_iter().zip(receipts) {
            let one = of.map_or(Told::Recorded(receipt), |of| Told::Added(receipt, of));
            told.iter_mut().skip(place).take(1).for_each(|at| *at = Some(one));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Json, Object};
    use crate::log::Unmatched;
    use crate::query::{Query, Statistics};
    use attestlog_proof::entry::{Source, SourceKind};
    use std::sync::Barrier;

    /// Who tells of a call.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum By {
        Before,
        After,
        Session,
        Stream,
        Log,
    }

    const ALL: [By; 5] = [By::Before, By::After, By::Session, By::Stream, By::Log];
    /// The calls that were made: their ids and commands. One id is used twice.
    const MADE: [(&str, &str); 3] = [("1", "ls"), ("2", "ls"), ("1", "pwd")];

    /// Who tells at the same time. Hooks that are configured twice are not among them: what one of them tells when the id is in use again
    /// counts twice, which docs/agents says.
    const SOURCES: [&[By]; 5] = [&[By::Before, By::After], &[By::Session], &[By::Session], &[By::Stream], &[By::Log]];

    /// What a source tells of the call at `at` of those that were made, and how many times it has told of one like it.
    fn told(by: By, at: usize) -> (ToolCall, u64) {
        let (id, command) = MADE[at];
        let is_hook = matches!(by, By::Before | By::After);
        let (kind, tool, name) = match is_hook {
            true => (SourceKind::Hook, "Bash", "command"),
            false => (SourceKind::Import, "exec_command", "cmd"),
        };
        let mut call = ToolCall::new("c", "u", tool).call_id(id).source(Source::new(kind));
        call.circumstances.sources[0].program = Some("codex".to_owned());
        if by == By::Log {
            call = call.metadata("import", Json::from(Object::from_iter([("time_from", "end of the call")])));
        } else {
            call = call.arguments(Json::from(Object::from_iter([(name, command)])));
        }
        if by != By::Before {
            call = call.outcome(Outcome::Ok);
        }
        if !is_hook {
            let name = format!("{IMPORTED}{by:?}{}", ["a", "b", "c"][at]).to_lowercase();
            call = call.backfilled().sender(Sender::new(name, 1));
        }
        (call, if by == By::Log && at == 2 { 2 } else { 1 })
    }

    fn tell(log: &OpenStore, by: By, at: usize) -> Result<()> {
        let (call, nth) = told(by, at);
        match by {
            By::Before => log.begin_once(call, None).map(drop),
            By::After => log.end_oldest(call, Unmatched::Record, None).map(drop),
            _ => log.tell(vec![(call, nth)], None).map(drop),
        }
    }

    fn counted(log: &OpenStore) -> Result<(u64, u64)> {
        let calls = log.statistics(&Statistics::new())?.iter().map(|tool| tool.total_calls).sum();
        Ok((calls, log.count(&Query::new().unfinished())?))
    }

    fn orders(of: &[By]) -> Vec<Vec<By>> {
        if of.is_empty() {
            return vec![Vec::new()];
        }
        let with = |first: &By| {
            let rest: Vec<By> = of.iter().copied().filter(|by| by != first).collect();
            orders(&rest).into_iter().map(move |rest| [&[*first], &rest[..]].concat()).collect::<Vec<_>>()
        };
        of.iter().flat_map(with).collect()
    }

    /// The log and the trace of a call, a session and what the agent had printed of it, or telemetry and a hook were two calls, and in
    /// another order one [R108].
    #[test]
    fn in_every_order_of_its_sources_a_call_is_one_call() -> Result<()> {
        for order in orders(&ALL) {
            let (by_source, by_call) = (OpenStore::in_memory()?, OpenStore::in_memory()?);
            for by in &order {
                (0..MADE.len()).try_for_each(|at| tell(&by_source, *by, at))?;
            }
            for at in 0..MADE.len() {
                order.iter().try_for_each(|by| tell(&by_call, *by, at))?;
            }
            assert_eq!((counted(&by_source)?, counted(&by_call)?), ((3, 0), (3, 0)), "{order:?}");
        }
        Ok(())
    }

    /// Two imports at once, or an import while hooks recorded, asked whether the log has a call, and recorded it later: in between
    /// somebody else had recorded it, and it was two calls for ever [R112].
    #[test]
    fn sources_that_tell_at_the_same_time_tell_of_one_call() -> Result<()> {
        for round in 0..40 {
            let (log, barrier) = (OpenStore::in_memory()?, Barrier::new(SOURCES.len()));
            std::thread::scope(|scope| {
                let tellers = SOURCES.map(|source| {
                    let (log, barrier) = (&log, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        (0..MADE.len()).try_for_each(|at| source.iter().try_for_each(|by| tell(log, *by, at)))
                    })
                });
                tellers.into_iter().try_for_each(|teller| teller.join().unwrap())
            })?;
            assert_eq!(counted(&log)?, (3, 0), "round {round}");
        }
        Ok(())
    }

    /// As the test before, one after the other, in orders drawn from a seed: a failure comes again.
    #[test]
    fn sources_that_tell_in_any_order_tell_of_one_call() -> Result<()> {
        let mut drawn = 7u64;
        for _ in 0..500 {
            let told = |source: &[By]| {
                let calls = (0..MADE.len()).rev();
                calls.flat_map(|at| source.iter().rev().map(move |by| (*by, at))).collect::<Vec<_>>()
            };
            let (mut left, mut order, log) = (SOURCES.map(told), Vec::new(), OpenStore::in_memory()?);
            while left.iter().any(|left| !left.is_empty()) {
                drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if let Some((by, at)) = left[(drawn >> 33) as usize % SOURCES.len()].pop() {
                    order.push((by, at));
                    tell(&log, by, at)?;
                }
            }
            assert_eq!(counted(&log)?, (3, 0), "{order:?}");
        }
        Ok(())
    }

    /// A batch holds what other files of the same import hold, too: the log and the trace of one file.
    #[test]
    fn calls_of_one_batch_are_told_apart_and_joined_as_those_of_several() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let all = [By::Log, By::Session, By::Stream].map(|by| (0..MADE.len()).map(move |at| told(by, at)));
        let all: Vec<_> = all.into_iter().flatten().collect();
        let became = log.tell(all.clone(), None)?;
        assert_eq!(became.iter().filter(|told| matches!(told, Told::Recorded(_))).count(), 3, "{became:?}");
        assert_eq!((counted(&log)?, became.len()), ((3, 0), 9));
        let size = log.size();
        log.tell(all.clone(), None)?;
        assert_eq!(log.size(), size);
        let mut unnumbered = all[..2].to_vec();
        unnumbered[1].0.sender = None;
        assert_eq!(log.tell(unnumbered, None).unwrap_err().kind(), crate::ErrorKind::InvalidInput);
        Ok(())
    }
}

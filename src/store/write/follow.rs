//! Calls that refer to an earlier entry: as a retry or follow-up of a call, as its end, as a late answer to it, or as made
//! under a grant.
//!
//! What is retried or followed up must be a recorded call: a line that says otherwise would prove for ever what never happened. Of an
//! entry that was purged, or cannot be read, nobody can tell any more, and no call is refused because of it.
//!
//! R67 for parts of calls: an end must be of the same conversation, user and tool as its beginning. So must details of a call
//! [R95], and a late answer,
//! and only to a call that ended without success; if an import reports it, only once per call. So no call can be removed from
//! statistics and alert rules by what is recorded after it.

use crate::entry::follows_member;
use crate::redact::{is_pseudonym, key_of};
use crate::store::engine::encode::EncodedBatch;
use crate::store::file::open_table::ReadTable;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::stored_entry::decode_content;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::stream::backwards;
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Result};
use attestlog_proof::entry::{Call, Content, Facet, Kind, Outcome, Phase, SourceKind, Trigger};

/// The member in which two calls differ, of conversation, user and tool, as far as that can be decided.
fn differs(there: &Call, here: &Call) -> Option<&'static str> {
    let imported = |call: &Call| call.first_source() == Some(SourceKind::Import);
    // An imported session without an id is named after its beginning, which may have become known only later.
    let conversation = !(imported(there) && imported(here));
    let names = [
        ("conversation_id", &there.conversation_id, &here.conversation_id),
        ("user_id", &there.user_id, &here.user_id),
        ("tool_name", &there.tool_name, &here.tool_name),
    ];
    let same_policy = there.policy_seq == here.policy_seq;
    let another = |a: &str, b: &str| match (is_pseudonym(a), is_pseudonym(b)) {
        _ if a == b => false,
        (true, true) => key_of(a) == key_of(b),
        (false, false) => same_policy,
        // A name may be hidden because of what else the call names.
        _ => false,
    };
    let mut names = names.into_iter().filter(|(member, ..)| conversation || *member != "conversation_id");
    names.find(|(_, a, b)| another(a, b)).map(|(member, ..)| member)
}

impl Staging<'_> {
    /// Checks that the entries which the call at `at` of a batch names by their seqs are recorded before it, and that what it
    /// retries or follows up is a call.
    ///
    /// # Errors
    /// `InvalidInput` names the member, the seq, and what is there.
    pub(crate) fn check_references(&self, batch: &EncodedBatch, at: usize) -> Result<()> {
        let Some(call) = batch.calls.get(at) else { return Ok(()) };
        let beyond = |seq: &u64| *seq >= self.state.size;
        let not_yet = |seq: u64| format!("no entry {seq} is recorded yet; name one that is");
        if let Some(grant) = call.grant.filter(beyond) {
            return Err(Error::invalid(not_yet(grant)).in_member("grant"));
        }
        let (named, is_detail) = match call.phase {
            Phase::Detail(of) => (Some(of), true),
            _ => (call.follows, false),
        };
        let Some(named) = named else { return Ok(()) };
        let fault = match beyond(&named) {
            true => not_yet(named),
            false => match self.kind_of(named, batch)? {
                None | Some(Kind::ToolCall | Kind::CallBegun) => return Ok(()),
                Some(kind) => format!("entry {named} is no call (its kind is {kind}); name the seq of a call"),
            },
        };
        let Content::Call(call) = decode_content::<String>(batch.content(at))? else { return Ok(()) };
        let member = if is_detail { "detail_of" } else { follows_member(call.trigger) };
        Err(Error::invalid(fault).in_member(member))
    }

    /// What the entry at `seq` is about, recorded or staged; `None` where nobody can tell.
    fn kind_of(&self, seq: u64, batch: &EncodedBatch) -> Result<Option<Kind>> {
        if seq < self.committed() {
            return Ok(self.engine().stored()?.checked(seq).ok().flatten().map(|entry| entry.kind()));
        }
        let content = self.staged(seq, batch).map(decode_content::<String>).transpose()?;
        Ok(content.map(|content| match content {
            Content::Call(call) => call.kind(),
            Content::System(event) => event.kind,
        }))
    }

    /// Checks that the call at `at` of a batch, which gets the next seq, is the part of a call that it claims to be.
    pub(crate) fn check_parts(&mut self, batch: &EncodedBatch, at: usize) -> Result<()> {
        let Some(call) = batch.calls.get(at) else { return Ok(()) };
        match (call.phase, call.late_answer) {
            (Phase::Whole, false) => {}
            (Phase::Whole, true) => {
                let follows = call.follows.ok_or_else(|| Error::invalid("a late answer follows a call"))?;
                self.check_answer(batch, at, follows)?;
                self.finished.push(follows);
            }
            (Phase::Begun, _) => self.begun.push(self.state.size),
            (Phase::Detail(of), _) => self.check_details(batch, at, of)?,
            (Phase::Finished(begun), _) => {
                let open = !self.finished.contains(&begun) && (self.begun.contains(&begun) || self.is_open(begun)?);
                if !open {
                    let message = format!("no unfinished call was begun at seq {begun}");
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                self.check_end(begun, batch, at)?;
                self.finished.push(begun);
            }
        }
        Ok(())
    }

    /// Whether the table of unfinished calls contains this one.
    fn is_open(&self, seq: u64) -> Result<bool> {
        let txn = self.engine().database()?.get()?.begin_read()?;
        let table = ReadTable::open(&txn, tables::UNFINISHED)?;
        Ok(table.get(seq).stored()?.is_some())
    }

    /// The call at `seq`, recorded or staged.
    fn call_at(&self, seq: u64, batch: &EncodedBatch) -> Result<Option<Call>> {
        if seq < self.committed() {
            let entry = self.engine().stored()?.checked(seq)?;
            return Ok(entry.and_then(|entry| entry.call().cloned()));
        }
        Ok(match self.staged(seq, batch).map(decode_content::<String>).transpose()? {
            Some(Content::Call(call)) => Some(*call),
            _ => None,
        })
    }

    /// Checks that the call at `at` of a batch is of the same conversation, user and tool as the one that it ends.
    fn check_end(&self, begun: u64, batch: &EncodedBatch, at: usize) -> Result<()> {
        // The row in the table is not enough: the entry must say that the call was begun.
        let Some(there) = self.call_at(begun, batch)?.filter(|there| there.phase == Phase::Begun) else {
            return Err(Error::new(ErrorKind::Conflict, format!("no unfinished call was begun at seq {begun}")));
        };
        self.check_names(&there, batch, at, "of the call which this ends")
    }

    /// Checks that the details at `at` of a batch are of the same conversation, user and tool as the call at `of`. What is gone
    /// or cannot be read cannot be compared.
    fn check_details(&self, batch: &EncodedBatch, at: usize, of: u64) -> Result<()> {
        match self.call_at(of, batch) {
            Ok(Some(there)) => self.check_names(&there, batch, at, "of the call whose details these are"),
            Err(e) if e.kind() != ErrorKind::Damaged => Err(e),
            _ => Ok(()),
        }
    }

    fn check_names(&self, there: &Call, batch: &EncodedBatch, at: usize, which: &str) -> Result<()> {
        let names = [&there.conversation_id, &there.user_id, &there.tool_name];
        if batch.names(at) == names.map(|name| Some(name.as_str())) {
            return Ok(());
        }
        let Content::Call(here) = decode_content::<String>(batch.content(at))? else { return Ok(()) };
        match differs(there, &here) {
            None => Ok(()),
            Some(member) => Err(Error::invalid(format!("{member}: differs from that {which}"))),
        }
    }

    /// Checks that the call at `at` of a batch can be the late answer to the call at `follows`.
    fn check_answer(&self, batch: &EncodedBatch, at: usize, follows: u64) -> Result<()> {
        let refused = |what: &str| Err(Error::new(ErrorKind::Conflict, format!("late answer to {follows}: {what}")));
        let Content::Call(here) = decode_content::<String>(batch.content(at))? else { return Ok(()) };
        let stored = self.engine().stored()?;
        let there = if follows < stored.state.size { stored.checked(follows)? } else { None };
        let Some(there) = there.as_ref().and_then(|entry| entry.call()) else {
            return Err(Error::new(ErrorKind::NoSuchEntry, format!("late answer to {follows}: no call is there")));
        };
        let open = there.completion.as_ref().is_some_and(|ended| ended.outcome != Outcome::Ok);
        let source = here.first_source();
        // A hook may see the end of a call of which a recording had none yet.
        let is_seen = there.is_from_recording() && source == Some(SourceKind::Hook);
        if !open || source.is_none() || there.first_source() != source && !is_seen {
            return refused("that call is not one which waits for an answer");
        }
        if let Some(member) = differs(there, &here) {
            return refused(&format!("it differs in {member}"));
        }
        // For a task that was given up, the proxy may learn first how it ended and then its result.
        let once = here.first_source() != Some(SourceKind::Proxy);
        if once && (self.finished.contains(&follows) || self.is_answered(&stored, &here, follows)?) {
            return refused("that call has been answered");
        }
        Ok(())
    }

    /// Whether a late answer to the call at `follows` is already recorded.
    fn is_answered(&self, stored: &Snapshot, here: &Call, follows: u64) -> Result<bool> {
        let shown = self.engine().snapshot()?;
        let answers = |seq: u64| -> Result<bool> {
            let entry = stored.checked(seq)?;
            Ok(entry.and_then(|entry| entry.call().map(|c| c.late_answer && c.follows == Some(follows))) == Some(true))
        };
        let mut found = false;
        // The last commit may not be published yet.
        for seq in shown.size..stored.state.size {
            found |= answers(seq)?;
        }
        let facets = [
            (Facet::Trigger, vec![Trigger::FollowUp.as_str().to_owned()]),
            (Facet::Tool, vec![here.tool_name.clone()]),
        ];
        backwards(&shown, &facets, shown.size, &mut |seq| {
            found |= seq > follows && answers(seq)?;
            Ok(seq > follows && !found)
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::log::OpenStore;
    use crate::{ErrorKind, Outcome, Result, ToolCall};
    use attestlog_proof::entry::{Source, SourceKind};

    fn seen() -> ToolCall {
        ToolCall::new("c", "u", "t").source(Source::new(SourceKind::Import))
    }

    fn late(follows: u64) -> ToolCall {
        let mut call = seen().follow_up_of(follows);
        call.late_answer = true;
        call
    }

    /// Any number of calls could claim to be the late answer to any other call, whatever its outcome; none of them was
    /// counted in statistics. Calls sent to the owner by hand can still make the claim [R67].
    #[test]
    fn a_late_answer_is_to_a_call_that_waits_for_one_and_the_only_one() -> Result<()> {
        let log = OpenStore::in_memory()?;
        let given_up = log.record(seen().outcome(Outcome::Timeout))?.seq;
        let answered = log.record(seen())?.seq;
        let told = log.record(ToolCall::new("c", "u", "t").outcome(Outcome::Timeout))?.seq;
        let with = |change: fn(&mut ToolCall)| {
            let mut call = late(given_up);
            change(&mut call);
            call
        };
        let refused = [
            late(answered),
            late(told),
            late(0),
            with(|call| call.user_id = "v".to_owned()),
            with(|call| call.tool_name = "s".to_owned()),
            with(|call| call.circumstances.sources = vec![Source::new(SourceKind::Proxy)]),
            with(|call| call.circumstances.sources.clear()),
            with(|call| call.follows = None),
        ];
        for call in refused {
            assert!(log.record(call.clone()).is_err(), "{call:?}");
        }
        assert!(log.record_batch([late(given_up), late(given_up)]).is_err());
        let odd = log.record(late(given_up).outcome(Outcome::ProtocolError))?.seq;
        for _ in 0..2 {
            assert_eq!(log.record(late(given_up)).unwrap_err().kind(), ErrorKind::Conflict);
            log.flush_index()?;
        }
        log.record(late(odd))?;
        // What the proxy gave up on may be reported more than once, in its own conversation.
        let by_proxy = |mut call: ToolCall| {
            call.circumstances.sources = vec![Source::new(SourceKind::Proxy)];
            call
        };
        let task = log.record(by_proxy(seen().outcome(Outcome::Timeout)))?.seq;
        let mut elsewhere = by_proxy(late(task));
        elsewhere.conversation_id = "d".to_owned();
        assert!(log.record(elsewhere).is_err());
        log.record(by_proxy(late(task)))?;
        log.record(by_proxy(late(task)))?;
        let statistics = log.statistics(&crate::query::Statistics::new())?;
        assert_eq!(statistics.iter().map(|of| of.total_calls).sum::<u64>(), 4);
        Ok(())
    }
}

//! Ending calls that other processes began, and telling more of calls that are in the log.

use super::{AuditLog, Role, closed};
use crate::entry::ToolCall;
use crate::log::{Abandoned, Told, Unmatched};
use crate::{Error, Receipt, Result};
#[cfg(feature = "owner")]
use crate::{
    requests,
    store::{OwnSender, RemoteCall},
};
#[cfg(feature = "owner")]
use attestlog_proof::entry::Phase;

/// How many calls are told of before others are let in between, such as a hook for which an agent waits.
const TOGETHER: usize = 1_000;
/// How many calls are sent to another process together.
#[cfg(feature = "owner")]
const SENT: usize = 64;

/// The error about a call, named by its index among all, of which there were this many `before`.
fn after(before: usize, mut e: Error) -> Error {
    match e.take_call() {
        Some(call) => e.in_call(before + call),
        None => e,
    }
}

impl AuditLog {
    /// Records the beginning of a call that another process will end, unless this has been told already: a call with this
    /// conversation, user, tool, call id and arguments is unfinished. What a hook tells of a call that another source has told of
    /// becomes its details, as with [`tell`](AuditLog::tell); so does the beginning of a call that has ended, with
    /// `session_metadata.told_after_end`, since nobody can tell whether it comes again or its id is used again. Returns the receipt of
    /// what was recorded. A call without an id is always recorded.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let call = || ToolCall::new("conv_1", "usr_1", "lookup").call_id("call_1");
    /// assert!(log.begin_once(call())?.is_some());
    /// assert_eq!(log.begin_once(call())?, None);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn begin_once(&self, call: ToolCall) -> Result<Option<Receipt>> {
        match &*self.role()? {
            Role::Owner(owned) => owned.store().begin_once(call, None),
            #[cfg(feature = "owner")]
            Role::Away(_) => {
                let own = OwnSender::draw(&*self.options().random);
                self.ask(requests::BeginOnce { call: RemoteCall::of(&call, Phase::Whole), own })
            }
            Role::Closed => Err(closed()),
        }
    }

    /// Records the end of a call that another process may have begun: of the oldest unfinished call of this conversation, user and
    /// tool with this call id, or if `call` has no id, with these arguments. If there are several, the end's
    /// `session_metadata.ended_oldest_of` says how many. If there is none, `unmatched` says what to do; what a hook tells of a call that
    /// another source has told of becomes its details. Returns the receipt of what was recorded.
    ///
    /// If the process that has the store open ends before it answers, the next one is asked, and the call is recorded once.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall, Unmatched};
    /// # let log = AuditLog::in_memory()?;
    /// let call = || ToolCall::new("conv_1", "usr_1", "lookup").call_id("call_1");
    /// drop(log.begin(call())?); // in one process
    /// let end = log.end_oldest(call().result(true), Unmatched::Record)?; // in another
    /// assert_eq!(log.entry(end.unwrap().seq)?.call().unwrap().success(), Some(true));
    /// assert_eq!(log.end_oldest(call().result(true), Unmatched::Leave)?, None); // it has ended
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn end_oldest(&self, call: ToolCall, unmatched: Unmatched) -> Result<Option<Receipt>> {
        match &*self.role()? {
            Role::Owner(owned) => owned.store().end_oldest(call, unmatched, None),
            #[cfg(feature = "owner")]
            Role::Away(_) => {
                let own = OwnSender::draw(&*self.options().random);
                self.ask(requests::EndOldest {
                    call: RemoteCall::of(&call, Phase::Whole),
                    unmatched: unmatched.sent(),
                    own,
                })
            }
            Role::Closed => Err(closed()),
        }
    }

    /// Ends several calls in one batch, each in one of two ways: as the first of a pair if the call is unfinished, or another source has
    /// told of it; if it is not in the log at all, the second is recorded, and if it was abandoned, as its late answer. A call that the
    /// list has twice is recorded once. Returns how many were recorded.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let call = |id| ToolCall::new("conv_1", "usr_1", "lookup").call_id(id);
    /// drop(log.begin(call("call_1"))?);
    /// let both = |id| (call(id).result(true), call(id).error("no such tool"));
    /// assert_eq!(log.settle(vec![both("call_1"), both("call_2")])?, 2);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn settle(&self, calls: Vec<(ToolCall, ToolCall)>) -> Result<u64> {
        match &*self.role()? {
            Role::Owner(owned) => owned.store().settle(calls, None),
            #[cfg(feature = "owner")]
            Role::Away(_) => {
                let own = OwnSender::draw(&*self.options().random);
                let sent = |call: &ToolCall| RemoteCall::of(call, Phase::Whole);
                let calls = calls.iter().map(|(ended, alone)| (sent(ended), sent(alone))).collect();
                self.ask(requests::Settle { calls, own })
            }
            Role::Closed => Err(closed()),
        }
    }

    /// Records calls of which a source tells afterwards, such as an agent's session file, unless the log has them: then what it does not
    /// have is kept as details of the call, with the names of these members in `sources[].added`; where the source says otherwise,
    /// `contradicts` names the member. With each call comes how many times its source has told of a call like it (with the same
    /// conversation, tool, call id and arguments), with this one, from 1: so the second is another call.
    ///
    /// A call is found by its conversation, agent, tool or program, and call id. Of several the one is meant that has these arguments, as
    /// far as both tell them, and as many like it before it. Times do not count. A call without an id is always recorded. Results and
    /// durations are kept only if the log has none. A number ([`ToolCall::sender`]) tells once.
    ///
    /// Whether a call is in the log, and the record that follows, are one step, whatever other processes record at the same time.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`], but of several calls those before the one that failed may be recorded; so several need numbers,
    /// under which they can be sent again. [`InvalidInput`](crate::ErrorKind::InvalidInput) if a call names no source, or one that sees
    /// calls as they are made.
    ///
    /// ```
    /// use attestlog::entry::{Source, SourceKind};
    /// use attestlog::{AuditLog, Told, ToolCall};
    /// let log = AuditLog::in_memory()?;
    /// let call = |kind| ToolCall::new("c", "u", "Bash").call_id("call_1").source(Source::new(kind));
    /// let seen = log.record(call(SourceKind::Hook))?;
    /// let told = || vec![(call(SourceKind::Session).model("opus"), 1)];
    /// let Told::Added(details, _) = log.tell(told())?[0] else { panic!() };
    /// assert_eq!(log.entry(details.seq)?.call().unwrap().detail_of(), Some(seen.seq));
    /// assert_eq!(log.tell(told())?, [Told::NothingNew(seen.seq)]);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn tell(&self, calls: Vec<(ToolCall, u64)>) -> Result<Vec<Told>> {
        match &*self.role()? {
            Role::Owner(owned) => {
                let (mut told, mut calls) = (Vec::with_capacity(calls.len()), calls.into_iter().peekable());
                while calls.peek().is_some() {
                    let (before, some) = (told.len(), calls.by_ref().take(TOGETHER).collect());
                    told.extend(owned.store().tell(some, None).map_err(|e| after(before, e))?);
                }
                Ok(told)
            }
            #[cfg(feature = "owner")]
            Role::Away(_) => {
                let mut told = Vec::with_capacity(calls.len());
                for some in calls.chunks(SENT) {
                    let own = OwnSender::draw(&*self.options().random);
                    let calls = some.iter().map(|(call, nth)| (RemoteCall::of(call, Phase::Whole), *nth)).collect();
                    let before = told.len();
                    let answers = self.ask(requests::Tell { calls, own }).map_err(|e| after(before, e))?;
                    told.extend(answers.into_iter().map(Told::of_sent).collect::<Result<Vec<_>>>()?);
                }
                Ok(told)
            }
            Role::Closed => Err(closed()),
        }
    }

    /// Ends unfinished calls that nobody will finish any more, such as those of a session that is over, as
    /// [abandoned](crate::Outcome::Abandoned). Returns how many. Calls whose conversation or user the policy hides are ended only if
    /// `which` names these; at most 10,000 are ended at a time.
    ///
    /// # Errors
    /// As [`AuditLog::record`]; those before the one that failed are ended.
    ///
    /// ```
    /// # use attestlog::{Abandoned, AuditLog, Query, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// drop(log.begin(ToolCall::new("conv_1", "usr_1", "lookup"))?);
    /// let mut which = Abandoned::default();
    /// which.conversation = Some("conv_1".to_owned());
    /// which.reason = "the session ended".to_owned();
    /// assert_eq!(log.abandon(&which)?, 1);
    /// assert_eq!(log.count(&Query::new().unfinished())?, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn abandon(&self, which: &Abandoned) -> Result<u64> {
        match &*self.role()? {
            Role::Owner(owned) => owned.store().abandon(which),
            #[cfg(feature = "owner")]
            Role::Away(_) => self.ask(requests::Abandon { which: which.clone().into() }),
            Role::Closed => Err(closed()),
        }
    }
}

//! Recording, in this process or through the owner.

use super::{AuditLog, Role, closed};
use crate::entry::ToolCall;
use crate::store::{Engine, Prepared};
use crate::{Error, ErrorKind, Outcome, Receipt, Result};
use attestlog_proof::entry::Phase;

impl AuditLog {
    /// Records one call and returns when it is on the disk.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`TooLarge`](crate::ErrorKind::TooLarge) and
    /// [`Conflict`](crate::ErrorKind::Conflict) (with what is recorded, such as a number used twice): nothing was recorded.
    /// [`DiskFull`](crate::ErrorKind::DiskFull) and [`Io`](crate::ErrorKind::Io): nothing was recorded; recording can continue once
    /// there is space. If another process has the store open and ended before it answered, an [`Io`](crate::ErrorKind::Io) says
    /// that it is not known whether the call was recorded. [`Busy`](crate::ErrorKind::Busy): retry later.
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly): the store is open for reading only. [`Damaged`](crate::ErrorKind::Damaged):
    /// [`AuditLog::damage`], or another program has overwritten the file. [`Key`](crate::ErrorKind::Key) and
    /// [`OtherHistory`](crate::ErrorKind::OtherHistory): as [`AuditLog::check_recording`]. [`Closed`](crate::ErrorKind::Closed):
    /// it is unknown whether the call was recorded; number your records with [`ToolCall::sender`] so that you can send them again
    /// safely.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "lookup").result(true))?; // on the disk now
    /// assert_eq!(log.entry(receipt.seq)?.hash(), receipt.hash);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn record(&self, call: ToolCall) -> Result<Receipt> {
        self.record_phase(call, Phase::Whole)
    }

    /// Records several calls in one commit: all of them or, on an error, none.
    ///
    /// # Errors
    /// As [`AuditLog::record`]; the message names the call by its index in the batch, from 0.
    ///
    /// Through another process, calls with [numbers of their own](ToolCall::sender) are sent, and committed, 64 at a time.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let calls = (0..3).map(|turn| ToolCall::new("conv_1", "usr_1", "lookup").turn(turn));
    /// assert_eq!(log.record_batch(calls)?.len(), 3);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn record_batch(&self, calls: impl IntoIterator<Item = ToolCall>) -> Result<Vec<Receipt>> {
        self.record_phases(calls.into_iter().map(|call| (call, Phase::Whole)))
    }

    /// Records that a call is about to be made, before it is made, so that a crash during the call leaves a trace. The two entries
    /// count as one call.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// // … the refund …
    /// let receipt = begun.finish(|call| call.result(true))?;
    /// assert_eq!(log.entry(receipt.seq)?.call().unwrap().success(), Some(true));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn begin(&self, call: ToolCall) -> Result<Begun> {
        let receipt = self.record_phase(call.clone(), Phase::Begun)?;
        Ok(Begun { log: self.clone(), call, receipt })
    }

    /// As [`AuditLog::begin`] for several calls, in one commit: all or none.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let calls = ["a", "b"].map(|tool| ToolCall::new("conv_1", "usr_1", tool));
    /// for begun in log.begin_batch(calls.to_vec())? {
    ///     begun.finish(|call| call.result(true))?;
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn begin_batch(&self, calls: Vec<ToolCall>) -> Result<Vec<Begun>> {
        let receipts = self.record_phases(calls.iter().map(|call| (call.clone(), Phase::Begun)))?;
        let begun = |(call, receipt)| Begun { log: self.clone(), call, receipt };
        Ok(calls.into_iter().zip(receipts).map(begun).collect())
    }

    /// Records complete calls and ends of calls in one commit: all or none. An end names the seq at which its call was begun.
    ///
    /// # Errors
    /// As [`AuditLog::record_batch`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let call = ToolCall::new("conv_1", "usr_1", "lookup");
    /// let begun = log.begin(call.clone())?.receipt().seq;
    /// log.end_batch(vec![(Some(begun), call.clone().result(true)), (None, call.result(false))])?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn end_batch(&self, ends: Vec<(Option<u64>, ToolCall)>) -> Result<Vec<Receipt>> {
        self.record_phases(ends.into_iter().map(|(begun, call)| (call, begun.map_or(Phase::Whole, Phase::Finished))))
    }

    fn record_phase(&self, call: ToolCall, phase: Phase) -> Result<Receipt> {
        match &*self.role()? {
            Role::Owner(owned) => {
                let engine = owned.store().engine();
                one(engine.submit(vec![engine.prepare(call, phase)?])?)
            }
            #[cfg(feature = "owner")]
            Role::Away(_) => one(self.send_away(vec![(call, phase)], false)?),
            Role::Closed => Err(closed()),
        }
    }

    fn record_phases(&self, calls: impl Iterator<Item = (ToolCall, Phase)>) -> Result<Vec<Receipt>> {
        match &*self.role()? {
            Role::Owner(owned) => owned.store().record_phases(calls, true, None),
            #[cfg(feature = "owner")]
            Role::Away(_) => match calls.collect::<Vec<_>>() {
                calls if calls.is_empty() => Ok(Vec::new()),
                calls => self.send_away(calls, true),
            },
            Role::Closed => Err(closed()),
        }
    }

    /// Checks a call and prepares it as far as this process can: sanitises it if this process has the store open.
    pub(crate) fn stage(&self, call: ToolCall, phase: Phase) -> Result<Staged> {
        match &*self.role()? {
            Role::Owner(owned) => {
                owned.store().engine().prepare(call, phase).map(|prepared| Staged::Prepared(Box::new(prepared)))
            }
            #[cfg(feature = "owner")]
            Role::Away(_) => {
                call.validate(&self.options().limits)?;
                Ok(Staged::Described(Box::new((call, phase))))
            }
            Role::Closed => Err(closed()),
        }
    }

    /// Records a staged call.
    pub(crate) fn commit(&self, staged: Staged) -> Result<Receipt> {
        match &*self.role()? {
            Role::Owner(owned) => {
                let engine = owned.store().engine();
                one(engine.submit(vec![staged.prepared(engine)?])?)
            }
            #[cfg(feature = "owner")]
            Role::Away(_) => one(self.send_away(vec![staged.described()?], false)?),
            Role::Closed => Err(closed()),
        }
    }

    /// Records each call independently, in as few commits as possible.
    pub(crate) fn commit_each(&self, staged: Vec<Staged>) -> Vec<Result<Receipt>> {
        let role = match self.role() {
            Ok(role) => role,
            Err(e) => return staged.iter().map(|_| Err(e.retold())).collect(),
        };
        match &*role {
            Role::Owner(owned) => {
                let engine = owned.store().engine();
                let mut refused = Vec::new();
                let prepared = staged
                    .into_iter()
                    .enumerate()
                    .filter_map(|(i, staged)| staged.prepared(engine).map_err(|e| refused.push((i, e))).ok());
                let prepared = prepared.map(|prepared| vec![prepared]).collect();
                let mut answers: Vec<_> =
                    engine.submit_each(prepared).into_iter().map(|answer| answer.and_then(one)).collect();
                for (i, e) in refused {
                    answers.insert(i, Err(e));
                }
                answers
            }
            #[cfg(feature = "owner")]
            Role::Away(_) => self.send_each(staged),
            Role::Closed => staged.iter().map(|_| Err(closed())).collect(),
        }
    }

    /// Sends small calls together in batches. If a batch is refused because of one call, sends its calls one by one.
    #[cfg(feature = "owner")]
    fn send_each(&self, staged: Vec<Staged>) -> Vec<Result<Receipt>> {
        let mut answers: Vec<Option<Result<Receipt>>> = staged.iter().map(|_| None).collect();
        let (mut batch, mut bytes): (Vec<(usize, (ToolCall, Phase))>, usize) = (Vec::new(), 0);
        let send = |batch: &mut Vec<(usize, (ToolCall, Phase))>, answers: &mut Vec<Option<Result<Receipt>>>| {
            let (places, calls): (Vec<usize>, Vec<_>) = std::mem::take(batch).into_iter().unzip();
            for (place, answer) in places.into_iter().zip(self.send_together(calls)) {
                if let Some(answered) = answers.get_mut(place) {
                    *answered = Some(answer);
                }
            }
        };
        for (place, staged) in staged.into_iter().enumerate() {
            match staged.described() {
                Ok(call) => {
                    bytes += weight(&call.0);
                    batch.push((place, call));
                }
                Err(e) => _ = answers.get_mut(place).map(|answer| *answer = Some(Err(e))),
            }
            if bytes > TOGETHER {
                send(&mut batch, &mut answers);
                bytes = 0;
            }
        }
        send(&mut batch, &mut answers);
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(nothing()))).collect()
    }

    #[cfg(feature = "owner")]
    fn send_together(&self, calls: Vec<(ToolCall, Phase)>) -> Vec<Result<Receipt>> {
        if calls.len() > 1 && calls.iter().all(|(call, _)| call.sender.is_none()) {
            match self.send_away(calls.clone(), false) {
                Ok(receipts) => return receipts.into_iter().map(Ok).collect(),
                // Nothing of the batch was recorded, so its calls can be sent one by one.
                Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Conflict) => {}
                Err(e) => return calls.iter().map(|_| Err(e.retold())).collect(),
            }
        }
        let alone = |call| self.send_away(vec![call], false).and_then(one);
        calls.into_iter().map(alone).collect()
    }
}

/// The bytes of calls after which a batch is sent to another process: less than a frame, and less than the owner allows one
/// process.
#[cfg(feature = "owner")]
const TOGETHER: usize = 4 << 20;

/// The approximate size of a call in bytes.
#[cfg(feature = "owner")]
fn weight(call: &ToolCall) -> usize {
    use crate::entry::CallResult;
    let result = match &call.result {
        Some(CallResult::Value(value)) => value.to_canonical().as_str().len(),
        Some(CallResult::Error(error)) => error.message.len(),
        None => 0,
    };
    1024 + result + call.arguments.as_ref().map_or(0, |arguments| arguments.to_canonical().as_str().len())
}

/// A call to be recorded: prepared if this process has the store open, otherwise as the host described it.
#[derive(Debug)]
pub(crate) enum Staged {
    Prepared(Box<Prepared>),
    #[cfg(feature = "owner")]
    Described(Box<(ToolCall, Phase)>),
}

impl Staged {
    /// The call's outcome, if it has ended.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Staged::Prepared(prepared) => prepared.call.completion.as_ref().map(|completion| completion.outcome),
            #[cfg(feature = "owner")]
            Staged::Described(described) => {
                let call = &described.0;
                crate::store::ending(call.result.as_ref(), call.outcome).ok().map(|(outcome, _)| outcome)
            }
        }
    }

    #[cfg_attr(not(feature = "owner"), allow(unused_variables, reason = "what is staged is prepared already"))]
    fn prepared(self, engine: &Engine) -> Result<Prepared> {
        match self {
            Staged::Prepared(prepared) => Ok(*prepared),
            #[cfg(feature = "owner")]
            Staged::Described(described) => engine.prepare(described.0, described.1),
        }
    }

    /// The call as the host described it; an error if this process had the store open when the call was staged, and has closed it
    /// since.
    #[cfg(feature = "owner")]
    fn described(self) -> Result<(ToolCall, Phase)> {
        match self {
            Staged::Described(described) => Ok(*described),
            Staged::Prepared(_) => Err(closed()),
        }
    }
}

/// A call that was begun. Finish it; if it is dropped, the call stays unfinished, and queries show it as such.
#[derive(Debug)]
#[must_use = "a call that is begun should be finished"]
pub struct Begun {
    log: AuditLog,
    call: ToolCall,
    receipt: Receipt,
}

impl Begun {
    /// The receipt of the first entry.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// assert_eq!(log.entry(begun.receipt().seq)?.hash(), begun.receipt().hash);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// The call as it was begun.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// assert_eq!(begun.call().tool_name, "issue_refund");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn call(&self) -> &ToolCall {
        &self.call
    }

    /// Records the end: the call as it was begun, with what `end` adds (result, error, outcome, duration).
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// let receipt = begun.finish(|call| call.error("no such order"))?;
    /// assert_eq!(log.entry(receipt.seq)?.call().unwrap().success(), Some(false));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn finish(self, end: impl FnOnce(ToolCall) -> ToolCall) -> Result<Receipt> {
        let mut call = end(self.call);
        call.sender = None;
        self.log.record_phase(call, Phase::Finished(self.receipt.seq))
    }
}

fn one(receipts: Vec<Receipt>) -> Result<Receipt> {
    receipts.into_iter().next().ok_or_else(nothing)
}

fn nothing() -> Error {
    Error::new(ErrorKind::Closed, "nothing was recorded")
}

//! Telling of calls that the log has from somebody else: from a hook that saw the call, or from a file of another program.
//!
//! Invariant R108: such a call is not recorded once more. What the file tells of it becomes its details, under the number that the call
//! would have been recorded under, so that importing the file again tells nothing twice; if the call had no end in the file yet, its
//! end is told later, under the next number.

use super::identity;
use super::record::{Identified, Log, Recorder, is_of_input};
use attestlog::{IMPORTED, Outcome, Result, Told, ToolCall};

impl<L: Log> Recorder<'_, L> {
    /// Tells of those of these calls that the log has from somebody else; returns the others.
    pub(super) fn tell(&mut self, batch: Vec<Identified>) -> Result<Vec<Identified>> {
        let mut left = Vec::with_capacity(batch.len());
        for (index, (call, identity)) in batch {
            if !self.is_shared(index, &call)? {
                left.push((index, (call, identity)));
                continue;
            }
            let sender = match call.outcome {
                Some(Outcome::Abandoned) => identity::call(&identity.name),
                _ => identity::answer(&identity.name),
            };
            match self.log.tell(call.clone().sender(sender)) {
                Ok(Told::Unknown) => left.push((index, (call, identity))),
                Ok(Told::NothingNew(seq)) => self.is_there(seq),
                Ok(Told::Added(receipt, of)) => {
                    self.is_there(of);
                    // Another process that imports the same file may have told it meanwhile.
                    self.recorded.details.extend((receipt.seq >= self.floor).then_some(receipt));
                }
                Err(mut e) if is_of_input(&e) => {
                    e.take_call();
                    self.not_taken(index, self.refused_as, call.call_id, e.to_string());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(left)
    }

    fn is_there(&mut self, seq: u64) {
        self.recorded.repeated += 1;
        self.recorded.already_there.push(seq);
    }

    /// Whether others told of calls of the same conversation, so that they may have told of this one.
    fn is_shared(&mut self, index: usize, call: &ToolCall) -> Result<bool> {
        let apart = self.sources.get(index).is_none_or(|source| source.apart);
        let nameless = call.conversation_id.starts_with(IMPORTED);
        if apart || nameless || call.call_id.is_none() || call.sender.is_some() || call.follows.is_some() {
            return Ok(false);
        }
        let program = call.circumstances.sources.first().and_then(|source| source.program.clone());
        let key = (call.conversation_id.clone(), program);
        if let Some(known) = self.shared.get(&key) {
            return Ok(*known);
        }
        let shared = self.log.has_others(&key.0, key.1.as_deref())?;
        self.shared.insert(key, shared);
        Ok(shared)
    }
}

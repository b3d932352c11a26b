//! Senders that number their records: what each sent lately, so that a repeated record is answered, not repeated.

use super::Receipt;
use super::commit::Staging;
use super::draft::Job;
use crate::codec;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many of a sender's newest numbers are remembered: more than it can have under way at once.
pub(crate) const REMEMBERED: usize = 64;

/// The newest numbers of one sender and the seqs that they got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    recorded: BTreeMap<u64, u64>,
}

/// Whether a number was recorded before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// At this seq.
    At(u64),
    /// It is older than what is remembered.
    Forgotten,
}

impl Window {
    pub(crate) fn look(&self, number: u64) -> Seen {
        match (self.recorded.get(&number), self.recorded.first_key_value()) {
            (Some(&seq), _) => Seen::At(seq),
            (None, Some((&oldest, _))) if number < oldest && self.recorded.len() >= REMEMBERED => Seen::Forgotten,
            (None, _) => Seen::New,
        }
    }

    pub(crate) fn add(&mut self, number: u64, seq: u64) {
        self.recorded.insert(number, seq);
        while self.recorded.len() > REMEMBERED {
            self.recorded.pop_first();
        }
    }

    /// The seqs that it names.
    pub(crate) fn seqs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.recorded.iter().map(|(&number, &seq)| (number, seq))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        Ok(codec::encode(self)?)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Window> {
        Ok(codec::decode(bytes)?)
    }
}

impl Staging<'_> {
    /// The receipts of a batch that was recorded before. Its first call's number is the batch's:
    /// a job's entries stand together in one commit, so where the first is, the others follow.
    pub(super) fn repeated(&mut self, job: &Job) -> Result<Option<Vec<Receipt>>> {
        let Some(first) = job.calls.first().filter(|first| first.numbers_batch) else { return Ok(None) };
        let Some(sender) = &first.sender else { return Ok(None) };
        let Some(receipt) = self.seen(&sender.id, sender.number)? else { return Ok(None) };
        let end = receipt.seq + job.calls.len() as u64;
        if end > self.state.size {
            return Err(Error::new(ErrorKind::Conflict, "the batch of that number was a shorter one"));
        }
        (receipt.seq..end).map(|seq| Ok(Receipt::new(seq, self.hash_at(seq)?))).collect::<Result<_>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::entry::Phase;
    use crate::{AuditLog, Result, Sender, ToolCall};

    #[test]
    fn a_batch_that_is_sent_again_is_answered() -> Result<()> {
        let log = AuditLog::in_memory()?;
        let shared = log.shared();
        let send = |number, calls: u64| {
            let one = |turn| shared.prepare(ToolCall::new("c", "u", "t").turn(turn), Phase::Whole);
            let mut job = (0..calls).map(one).collect::<Result<Vec<_>>>()?;
            job[0].call.sender = Some(Sender::new("s", number));
            job[0].numbers_batch = true;
            shared.submit(job)
        };
        let first = send(1, 100)?;
        let second = send(2, 3)?;
        assert_eq!(send(1, 100)?, first);
        assert_eq!(send(2, 3)?, second);
        assert_eq!(log.size(), second[2].seq + 1);
        // Another batch under that number is a mistake of its sender's.
        assert!(send(2, 4).is_err());
        Ok(())
    }
}

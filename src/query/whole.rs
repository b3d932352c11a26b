//! One call whole: every entry that is a part of it, and the calls that came of it.

use super::Query;
use crate::store::OpenStore;
use crate::{Entry, ErrorKind, Result};
use attestlog_proof::entry::Call;
use std::collections::BTreeSet;

/// The most parts of a call, and the most calls that came of it, that are given.
const MOST: usize = 1000;

/// A call with all its parts. An entry that is not about a call is alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WholeCall {
    /// Its beginning or, if it was recorded at once, itself; then its end, late answers, details and entries of further patients, by
    /// seq. What each is to the call, [`Calls::take`](super::Calls::take) says.
    pub parts: Vec<Entry>,
    /// The calls that retried it or followed it up, by seq.
    pub followers: Vec<Entry>,
    /// Whether there are more than 1,000 parts or followers, which are not given.
    pub more: bool,
}

attestlog_proof::json_form!(members WholeCall { parts, followers, more });

impl OpenStore {
    /// The call that the entry at `seq` is a part of.
    pub(crate) fn whole_call(&self, seq: u64) -> Result<WholeCall> {
        self.check_damage()?;
        self.of_one_moment(|| self.whole_call_once(seq))
    }

    fn whole_call_once(&self, seq: u64) -> Result<WholeCall> {
        let mut first = self.entry(seq)?;
        // Each part continues an entry before it, so this ends.
        while let Some(of) = first.call().and_then(Call::part_of).filter(|of| *of < first.seq) {
            first = match self.entry(of) {
                Ok(entry) => entry,
                // What is left of the call begins here.
                Err(e) if e.kind() == ErrorKind::NoSuchEntry => break,
                Err(e) => return Err(e),
            };
        }
        let Some(conversation) = first.call().map(|call| call.conversation_id.clone()) else {
            return Ok(WholeCall::of(first));
        };
        let query = Query::new().conversation(conversation).after(first.seq);
        let (mut seqs, mut whole) = (BTreeSet::from([first.seq]), WholeCall::of(first));
        for entry in self.query(&query)? {
            let entry = match entry {
                Err(e) if self.goes_on() && e.seq().is_some() => continue,
                other => other?,
            };
            let Some(call) = entry.call() else { continue };
            let list = match (call.part_of(), call.follows) {
                (Some(of), _) if seqs.contains(&of) => {
                    seqs.insert(entry.seq);
                    &mut whole.parts
                }
                (None, Some(of)) if seqs.contains(&of) => &mut whole.followers,
                _ => continue,
            };
            match list.len() < MOST {
                true => list.push(entry),
                false => whole.more = true,
            }
        }
        Ok(whole)
    }
}

impl WholeCall {
    fn of(first: Entry) -> WholeCall {
        WholeCall { parts: vec![first], followers: Vec::new(), more: false }
    }
}

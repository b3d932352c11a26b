//! Calls and their answers, put together.
//!
//! Ids of calls are no keys: real recordings use one again inside a conversation and across them, and some have none.
//! So an answer takes from the calls that are still open: from the latest group (a run of assistant messages with
//! nothing between them) that has a matching one, the first there. Every call stands in a queue under each key by which
//! an answer may ask for it; those answered meanwhile under another key are passed over, so each step is O(1) on the
//! whole, whatever the file.

use super::answer::Answer;
use super::{ImportOptions, Imported, Unmatched};
use crate::{Outcome, Result, ToolCall};
use std::collections::{HashMap, VecDeque};

/// What an answer may name: the call's id, the tool.
type Key<'a> = (Option<&'a str>, Option<&'a str>);

/// The calls of one conversation, while it is read.
#[derive(Default)]
pub(super) struct Join<'a> {
    calls: Vec<(ToolCall, String)>,
    answered: Vec<bool>,
    /// By id and tool, by id, by tool, and all: groups in order, the calls of each in order.
    open: HashMap<Key<'a>, Vec<(u64, VecDeque<usize>)>>,
    group: u64,
    unmatched: Vec<Unmatched>,
}

impl<'a> Join<'a> {
    /// Something else than an assistant's message: what calls come now are a new group.
    pub(super) fn interrupt(&mut self) {
        self.group += 1;
    }

    pub(super) fn call(&mut self, id: Option<&'a str>, tool: &'a str, mut call: ToolCall, place: String) {
        call.call_id = id.map(str::to_owned);
        let index = self.calls.len();
        self.calls.push((call, place));
        self.answered.push(false);
        let mut keys = vec![(None, Some(tool)), (None, None)];
        if id.is_some() {
            keys.extend([(id, Some(tool)), (id, None)]);
        }
        for key in keys {
            let groups = self.open.entry(key).or_default();
            match groups.last_mut() {
                Some((group, queue)) if *group == self.group => queue.push_back(index),
                _ => groups.push((self.group, VecDeque::from([index]))),
            }
        }
    }

    /// Joins an answer to a call by what it names: the call's id, the tool, both or neither.
    pub(super) fn answer(&mut self, id: Option<&'a str>, tool: Option<&'a str>, answer: Answer, place: String) {
        let mut index = self.take((id, tool));
        if index.is_none() && id.is_some() && tool.is_some() {
            index = self.take((id, None));
        }
        match index.and_then(|i| self.calls.get_mut(i)) {
            Some((call, _)) => answer.put_into(call),
            None => self.unmatched.push(Unmatched { place, call_id: id.map(str::to_owned) }),
        }
    }

    fn take(&mut self, key: Key<'a>) -> Option<usize> {
        let groups = self.open.get_mut(&key)?;
        while let Some((_, queue)) = groups.last_mut() {
            while let Some(index) = queue.pop_front() {
                if let Some(answered @ false) = self.answered.get_mut(index) {
                    *answered = true;
                    return Some(index);
                }
            }
            groups.pop();
        }
        None
    }

    /// Hands the calls over in the order in which they were made; what is still open was abandoned.
    pub(super) fn finish(self, imported: &mut Imported, options: &ImportOptions) -> Result<()> {
        imported.without_calls += usize::from(self.calls.is_empty());
        for ((mut call, place), answered) in self.calls.into_iter().zip(self.answered) {
            if !answered {
                call.outcome = Some(Outcome::Abandoned);
            }
            imported.push(call, place, options)?;
        }
        imported.unmatched.extend(self.unmatched);
        Ok(())
    }
}

//! Calls and their answers, put together.
//!
//! Ids of calls are no keys: real recordings use one again inside a conversation and across them, and some have none.
//! So an answer takes from the calls that are still open: from the latest group (a run of assistant messages with
//! nothing between them) that has a matching one, the first there. Every call stands in a queue under each key by which
//! an answer may ask for it; those answered meanwhile under another key are passed over, so each step is O(1) on the
//! whole, whatever the file.

use super::answer::Answer;
use super::file::At;
use super::identity::Source;
use super::{ImportOptions, Imported, NotTaken, Untaken, record};
use attestlog::{Hash, Outcome, Result, Timestamp, ToolCall};
use std::collections::{HashMap, VecDeque};

/// What an answer may name: the call's id, the tool.
type Key<'a> = (Option<&'a str>, Option<&'a str>);

/// The calls of one conversation, while it is read.
#[derive(Default)]
pub(super) struct Join<'a> {
    calls: Vec<(ToolCall, String)>,
    /// A hash of all messages up to the one that is read, and for each call up to its own.
    said: Hash,
    made: Vec<Hash>,
    answered: Vec<bool>,
    times: Vec<Option<Timestamp>>,
    /// By id and tool and by id; of those without one by tool, and all: groups in order, the calls of each in order.
    open: HashMap<Key<'a>, Vec<(u64, VecDeque<usize>)>>,
    group: u64,
    not_taken: Vec<NotTaken>,
    answers: usize,
    /// How many calls were made before the first answer.
    before_answers: usize,
    by_order: usize,
}

impl<'a> Join<'a> {
    /// Something else than an assistant's message: what calls come now are a new group.
    pub(super) fn interrupt(&mut self) {
        self.group += 1;
    }

    /// Another message begins: `said` is a hash of all up to it.
    pub(super) fn said(&mut self, said: Hash) {
        self.said = said;
    }

    /// `time` is when the call was made, where its own message says so.
    pub(super) fn call(
        &mut self,
        id: Option<&'a str>,
        tool: &'a str,
        mut call: ToolCall,
        time: Option<Timestamp>,
        at: &At<'a>,
    ) {
        at.take();
        call.call_id = id.map(str::to_owned);
        let index = self.calls.len();
        self.calls.push((call, at.place()));
        self.made.push(self.said);
        self.times.push(time);
        self.answered.push(false);
        // A call that has an id is answered by that alone: an answer whose id nobody found is no answer to just any call.
        for key in [(id, Some(tool)), (id, None)] {
            let groups = self.open.entry(key).or_default();
            match groups.last_mut() {
                Some((group, queue)) if *group == self.group => queue.push_back(index),
                _ => groups.push((self.group, VecDeque::from([index]))),
            }
        }
    }

    /// Joins an answer to a call by what it names: the call's id, the tool, both or neither.
    /// `time` is when the answer was written: how long the call took, where the call has a time as well.
    pub(super) fn answer(
        &mut self,
        id: Option<&'a str>,
        tool: Option<&'a str>,
        answer: Answer,
        time: Option<Timestamp>,
        at: &At<'a>,
    ) {
        at.take();
        let place = at.place();
        let mut index = self.take((id, tool));
        if index.is_none() && id.is_some() && tool.is_some() {
            index = self.take((id, None));
        }
        match index.and_then(|i| self.calls.get_mut(i)) {
            Some((call, _)) => {
                if self.answers == 0 {
                    self.before_answers = self.times.len();
                }
                self.answers += 1;
                self.by_order += usize::from(id.is_none());
                answer.put_into(call);
                if let (Some(made), Some(answered)) = (index.and_then(|i| *self.times.get(i)?), time)
                    && answered >= made
                {
                    call.duration_ms = Some(answered.since(made).as_nanos() as f64 / 1e6);
                    record::mark(call, "duration_from", "message times");
                }
            }
            None => {
                let why = match id {
                    Some(id) => format!("answers {:?}, which no open call has", super::clip(id)),
                    None => "has no id of a call, and no call without one is open".to_owned(),
                };
                self.not_taken.push(NotTaken { place, kind: Untaken::Answer, call_id: id.map(str::to_owned), why });
            }
        }
    }

    /// An answer that cannot be joined.
    pub(super) fn refuse(&mut self, place: String, why: &str) {
        self.not_taken.push(NotTaken { place, kind: Untaken::Answer, call_id: None, why: why.to_owned() });
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

    /// Whether a call of this id waits for its answer.
    pub(super) fn is_open(&self, id: &str) -> bool {
        let groups = self.open.get(&(Some(id), None)).map(Vec::as_slice).unwrap_or_default();
        groups.iter().flat_map(|(_, queue)| queue).any(|index| self.answered.get(*index) == Some(&false))
    }

    /// How many calls there are, and how many answers were joined.
    pub(super) fn seen(&self) -> (usize, usize) {
        (self.calls.len(), self.answers)
    }

    /// Hands the calls of this conversation over in the order in which they were made; what is still open was abandoned.
    /// `source` says where a call belongs, by what had been said when it was made and whether no answer had come by then.
    pub(super) fn finish(
        self,
        conversation: &str,
        source: impl Fn(&Hash, bool) -> Source,
        imported: &mut Imported,
        options: &ImportOptions,
    ) -> Result<()> {
        imported.without_calls += usize::from(self.calls.is_empty());
        let calls = self.calls.into_iter().zip(self.answered).zip(self.made);
        for (i, (((mut call, place), answered), made)) in calls.enumerate() {
            conversation.clone_into(&mut call.conversation_id);
            if !answered {
                call.outcome = Some(Outcome::Abandoned);
            }
            imported.push(call, place, source(&made, i < self.before_answers), options)?;
        }
        imported.not_taken.extend(self.not_taken);
        imported.by_order += self.by_order;
        Ok(())
    }
}

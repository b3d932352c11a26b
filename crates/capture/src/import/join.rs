//! Joins answers to their calls.
//!
//! Call ids are not unique keys: real recordings reuse an id within a conversation and across conversations, and some
//! have none. So an answer is joined to a call that is still open: to the first match in the latest group (a run of
//! assistant messages with nothing between them) that has one. Every call is queued under each key by which an answer
//! may ask for it. A call answered under another key meanwhile is skipped when its queue reaches it, so each step is
//! amortized O(1), whatever the file.

use super::answer::Answer;
use super::beginning::Beginning;
use super::file::At;
use super::identity::Source;
use super::{ImportOptions, Imported, NotTaken, Untaken, record};
use crate::ended::Signs;
use attestlog::{Outcome, Timestamp, ToolCall};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// What an answer may name: the call's id and the tool.
type Key<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// The calls of one conversation, while it is being read.
#[derive(Default)]
pub(super) struct Join<'a> {
    calls: Vec<(ToolCall, String)>,
    /// A hash of all messages up to the current one; `made` has, for each call, the hash up to its own message.
    said: Beginning,
    made: Vec<Beginning>,
    answered: Vec<bool>,
    /// What each call's own object says of how it ended.
    signs: Vec<Signs>,
    times: Vec<Option<Timestamp>>,
    /// Open calls by (id, tool) and by id; calls without an id by tool, and all of them together. Groups in order, the
    /// calls of each group in order.
    open: HashMap<Key<'a>, Vec<(u64, VecDeque<usize>)>>,
    group: u64,
    not_taken: Vec<NotTaken>,
    answers: usize,
    /// How many calls were made before the first answer.
    before_answers: usize,
    by_order: usize,
}

impl<'a> Join<'a> {
    /// A message other than an assistant's: the calls after it belong to a new group.
    pub(super) fn interrupt(&mut self) {
        self.group += 1;
    }

    /// Begins the next message; `said` is a hash of all messages up to and including it.
    pub(super) fn said(&mut self, said: Beginning) {
        self.said = said;
    }

    /// Adds a call. `time` is when it was made, if its message says so.
    pub(super) fn call(
        &mut self,
        id: Option<Cow<'a, str>>,
        tool: Cow<'a, str>,
        mut call: ToolCall,
        time: Option<Timestamp>,
        at: &At<'a>,
    ) {
        at.take();
        call.call_id = id.clone().map(Cow::into_owned);
        let index = self.calls.len();
        self.calls.push((call, at.place()));
        self.made.push(self.said);
        self.times.push(time);
        self.answered.push(false);
        self.signs.push(Signs::of(at.value));
        // A call with an id is never queued without it: an answer whose id matches no call must not be joined to an
        // arbitrary one.
        for key in [(id.clone(), Some(tool)), (id, None)] {
            let groups = self.open.entry(key).or_default();
            match groups.last_mut() {
                Some((group, queue)) if *group == self.group => queue.push_back(index),
                _ => groups.push((self.group, VecDeque::from([index]))),
            }
        }
    }

    /// Joins an answer to a call by the call's id, the tool, both or neither. `time` is when the answer was written; if
    /// the call has a time too, the difference is the call's duration.
    pub(super) fn answer(
        &mut self,
        id: Option<Cow<'a, str>>,
        tool: Option<Cow<'a, str>>,
        answer: Answer,
        time: Option<Timestamp>,
        at: &At<'a>,
    ) {
        at.take();
        let (place, mut answer) = (at.place(), answer);
        let has_both = id.is_some() && tool.is_some();
        let mut index = self.take((id.clone(), tool));
        if index.is_none() && has_both {
            index = self.take((id.clone(), None));
        }
        match index.and_then(|i| self.calls.get_mut(i)) {
            Some((call, _)) => {
                if self.answers == 0 {
                    self.before_answers = self.times.len();
                }
                self.answers += 1;
                self.by_order += usize::from(id.is_none());
                if let Some(signs) = index.and_then(|i| self.signs.get_mut(i)) {
                    answer.ended(std::mem::take(signs));
                }
                answer.put_into(call);
                if let (Some(made), Some(answered)) = (index.and_then(|i| *self.times.get(i)?), time)
                    && answered >= made
                    && call.duration_ms.is_none()
                {
                    call.duration_ms = Some(answered.since(made).as_nanos() as f64 / 1e6);
                    record::mark(call, "duration_from", "message times");
                }
            }
            None => {
                let why = match &id {
                    Some(id) => format!("answers {:?}, which no open call has", super::clip(id)),
                    None => "has no id of a call, and no call without one is open".to_owned(),
                };
                self.not_taken.push(NotTaken { place, kind: Untaken::Answer, call_id: id.map(Cow::into_owned), why });
            }
        }
    }

    /// The call that was the `place`th, from 0.
    pub(super) fn call_at(&mut self, place: usize) -> Option<&mut ToolCall> {
        self.calls.get_mut(place).map(|(call, _)| call)
    }

    /// Reports a call that cannot be read.
    pub(super) fn refuse_call(&mut self, at: &At<'_>, why: &str) {
        at.take();
        self.not_taken.push(NotTaken { place: at.place(), kind: Untaken::Call, call_id: None, why: why.to_owned() });
    }

    /// Reports an answer that cannot be joined.
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

    /// Whether a call with this id is still unanswered.
    pub(super) fn is_open(&self, id: &str) -> bool {
        let groups = self.open.get(&(Some(Cow::Borrowed(id)), None)).map(Vec::as_slice).unwrap_or_default();
        groups.iter().flat_map(|(_, queue)| queue).any(|index| self.answered.get(*index) == Some(&false))
    }

    /// The number of calls, and of answers joined to them.
    pub(super) fn seen(&self) -> (usize, usize) {
        (self.calls.len(), self.answers)
    }

    /// Adds the calls of this conversation to `imported` in the order in which they were made; those without an answer
    /// are abandoned. `source` gives the source of a call from the hash of the messages up to it and whether it
    /// precedes the first answer.
    pub(super) fn finish(
        self,
        conversation: &str,
        source: impl Fn(&Beginning, bool) -> Source,
        imported: &mut Imported,
        options: &ImportOptions,
    ) {
        imported.without_calls += usize::from(self.calls.is_empty());
        let calls = self.calls.into_iter().zip(self.answered.into_iter().zip(self.signs)).zip(self.made);
        for (i, (((mut call, place), (answered, signs)), made)) in calls.enumerate() {
            conversation.clone_into(&mut call.conversation_id);
            if !answered && signs.failed() == Some(true) {
                // Its own object says how it ended, and nothing else does.
                let mut answer = Answer::default();
                answer.ended(signs);
                answer.put_into(&mut call);
            } else if !answered {
                call.outcome = Some(Outcome::Abandoned);
            }
            imported.push(call, place, source(&made, i < self.before_answers), options);
        }
        imported.not_taken.extend(self.not_taken);
        imported.by_order += self.by_order;
    }
}

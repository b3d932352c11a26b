//! The server's side: which calls its frames end, and what is recorded before the host gets them.
//!
//! Invariant I11: every frame that is not clearly a request or notification of the server, or the reply to an open
//! request, is forwarded only after every open call of a read-only tool is recorded: whatever a host may take for the
//! answer to such a call, the call is in the log first.

use super::asking::note;
use super::patients::{TOO_LONG, too_many};
use super::{MOST_OPEN, Observer, Pending, State, id_text, shortened_only, unreadable};
use crate::mcp::frame::{self, Read};
use crate::mcp::readings::{self, Readings, is_request, plain_id};
use crate::mcp::reply::{self, Reply, short};
use crate::shorten::{LARGE, shortened_to};
use attestlog::entry::failure::{error_text, failure};
use attestlog::json::{Json, Object, Path};
use attestlog::{CallResult, Outcome, ToolCall};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::MutexGuard;

/// How much is kept of a result that names more patients than one entry holds.
const ROOM_OF_MANY: usize = 16 << 10;
/// The most tools whose hints are remembered.
const MOST_TOOLS: usize = 10_000;

/// What is known about a reply apart from its content: the size of its frame, the places of numbers that became strings
/// of digits, and the places of duplicate members.
pub(super) type Around = (usize, Vec<String>, Vec<String>);

/// The effect of a frame from the server.
#[derive(Default)]
pub(super) struct Answered {
    /// The calls that it ends, with their ends, including late answers.
    pub(super) ended: Vec<Pending>,
    pub(super) batch: bool,
    /// Whether a host may find an answer in it that is not recognised here.
    pub(super) doubtful: bool,
    /// Further replies of a batch to a call that another of its replies ends; they are handled after that end is
    /// recorded.
    pub(super) later: Vec<(Json, Around)>,
    /// Whether some hosts may not accept the frame at all, and wait for another reply.
    pub(super) refusable: bool,
    /// Whether the current message is one of several replies to a call.
    pub(super) several: bool,
    /// Why hosts may differ in whose reply the current message is, if they may.
    pub(super) unsure_whose: Option<&'static str>,
    /// Why the host does not get the frame, if it does not.
    pub(super) withheld: Option<&'static str>,
}

impl Answered {
    /// The reason, apart from what it says, why hosts may read the current message differently.
    fn odd(&self) -> Option<&'static str> {
        self.unsure_whose.or_else(|| self.several.then_some("the batch has another reply to the call"))
    }
}

impl Observer {
    /// Reads a frame from the server: the calls that it ends, with their ends.
    pub(super) fn answered(&self, frame: &[u8]) -> Answered {
        // Not in the head of the `match`, which would hold the lock until its end.
        let piece = self.state().from_server.next(frame);
        let read = match piece {
            Some(false) => return Answered::default(),
            Some(true) => Read::Unreadable,
            None => frame::read(frame),
        };
        let (value, lossy_numbers, repeats, clear) = match read {
            Read::Json { value, lossy_numbers, repeats, lenient_frame } => {
                if unreadable::hides_a_reply(frame) {
                    return self.unread(frame);
                }
                let clear = repeats.is_empty() && !lenient_frame && !frame::hides(frame);
                (value, lossy_numbers, repeats, clear)
            }
            Read::Blank => return Answered::default(),
            Read::Odd | Read::Unreadable => return self.unread(frame),
        };
        let batch = matches!(value, Json::Array(_));
        let messages = match value {
            Json::Array(messages) => messages,
            one => vec![one],
        };
        let mut answered = Answered { batch, doubtful: !clear, refusable: batch || !clear, ..Answered::default() };
        let whose: Vec<Readings> = match messages.as_slice() {
            [] | [_] => Vec::new(),
            several => {
                several.iter().map(|m| if is_request(m) { Readings::default() } else { Readings::of(m) }).collect()
            }
        };
        let mut times: HashMap<u64, usize> = HashMap::new();
        whose.iter().flat_map(Readings::iter).for_each(|reading| *times.entry(reading).or_default() += 1);
        let mut seen = HashSet::new();
        for (i, message) in messages.iter().enumerate() {
            let head = if batch { format!("[{i}].result") } else { "result".to_owned() };
            let lossy_numbers = lossy_numbers.iter().filter_map(|path| inside(path, &head)).collect();
            let repeats = repeats.iter().filter_map(|steps| repeated(steps, batch.then_some(i))).take(20).collect();
            let around = (frame.len(), lossy_numbers, repeats);
            let readings = || whose.get(i).into_iter().flat_map(Readings::iter);
            if readings().any(|reading| times.get(&reading).is_some_and(|times| *times > 1)) {
                // Hosts differ in which of the replies they use.
                answered.doubtful = true;
                let again = readings().any(|reading| seen.contains(&reading));
                seen.extend(readings());
                if again {
                    answered.later.push((message.clone(), around));
                    continue;
                }
                answered.several = true;
            }
            self.answer(message, around, &mut answered);
            answered.several = false;
        }
        answered
    }

    /// Handles a further reply of a batch, after the end by the first is recorded.
    pub(super) fn answered_again(&self, (message, around): (Json, Around)) -> Answered {
        let mut answered =
            Answered { batch: true, doubtful: true, refusable: true, several: true, ..Answered::default() };
        self.answer(&message, around, &mut answered);
        answered
    }

    fn answer(&self, message: &Json, around: Around, answered: &mut Answered) {
        let says = |name: &str| message.get(name).is_some();
        if is_request(message) {
            if readings::has_id(message) {
                self.asked_by_server(message);
            }
            // For a reader that finds no id in it, it is a notification.
            if message.get("id").is_none_or(|id| *id == Json::Null) {
                self.notified(message, answered);
            }
            return;
        }
        let mut state = self.state();
        let Some(id) = plain_id(message) else { return self.answer_somebody(state, message, around, answered) };
        answered.doubtful |= says("method") || says("result") == says("error");
        let result = message.get("result");
        if let Some(at) = state.matching(id) {
            state.server = result.and_then(reply::server_of).or_else(|| state.server.take());
            let mut pending = state.pending.remove(at);
            if pending.id != *id && !pending.polls_by(id) {
                pending.notes.insert("reply_id", id.clone());
            }
            self.ends(state, pending, message, around, answered);
        } else if let Some(at) = state.answered_late(id) {
            if let Some(mut pending) = state.given_up.remove(at) {
                pending.notes.remove("reply_id");
                self.comes_late(state, pending, message, around, answered);
            }
        } else if let Some(at) = state.others.iter().position(|other| same_id(other, id)) {
            state.others.remove(at);
            self.answered_other(state, message, answered);
        } else {
            self.answer_somebody(state, message, around, answered);
        }
    }

    /// Handles a message that hosts may take for the reply to different requests, or to none: each call to which it may
    /// reply has it.
    fn answer_somebody(
        &self,
        mut state: MutexGuard<'_, State>,
        message: &Json,
        around: Around,
        answered: &mut Answered,
    ) {
        answered.doubtful = true;
        let readings = Readings::of(message);
        let others = state.others.iter().any(|other| readings.may_be(other));
        let taken = state.taken(&readings);
        if taken.is_empty() && !others {
            state.unmatched += 1;
        }
        drop(state);
        answered.unsure_whose = Some(readings::why(message));
        for (mut pending, is_late) in taken {
            let all = Json::Array(readings::ids(message).take(20).cloned().collect());
            pending.notes.insert("reply_id", shortened_only(&all, "reply_id"));
            match is_late {
                true => self.comes_late(self.state(), pending, message, around.clone(), answered),
                false => self.ends(self.state(), pending, message, around.clone(), answered),
            }
        }
        answered.unsure_whose = None;
        if others {
            self.answered_other(self.state(), message, answered);
        }
    }

    /// Handles the reply to a request that is not a call.
    fn answered_other(&self, mut state: MutexGuard<'_, State>, message: &Json, answered: &mut Answered) {
        if let Some(result) = message.get("result") {
            state.learn(result);
            drop(state);
            self.listed(result, plain_id(message).unwrap_or(&Json::Null), answered);
        }
    }

    /// Handles the reply to an open call, which ends it or says that more is to come.
    pub(super) fn ends(
        &self,
        mut state: MutexGuard<'_, State>,
        mut pending: Pending,
        message: &Json,
        (size, lossy_numbers, repeats): Around,
        answered: &mut Answered,
    ) {
        let id = message.get("id").cloned().unwrap_or_default();
        let asked_for = pending.takes_poll(&id);
        let gathered = reply::gathered(message);
        let (whole, message) = (message, gathered.as_ref().unwrap_or(message));
        let (mut reply, status) = (reply::read(message, pending.task.is_some()), reply::status(message));
        if answered.unsure_whose.is_some() {
            reply = pending.takes_all(reply, message);
        }
        let asked_for = asked_for.filter(|_| answered.unsure_whose.is_none());
        match reply {
            // The error says nothing about the task: the call continues.
            Reply::Error(_) if asked_for == Some(false) && message.get("result").is_none() => {
                state.pending.push(pending);
                answered.doubtful = true;
                return;
            }
            Reply::Asks(asked) => {
                pending.rounds += 1;
                pending.state = asked.cloned();
                state.suspended.push(pending);
                answered.doubtful = true;
                return;
            }
            Reply::Task(task) => {
                pending.task = task.cloned().or(pending.task);
                pending.status = status.or(pending.status);
                pending.heard = self.clock.monotonic();
                state.pending.push(pending);
                answered.doubtful = true;
                return;
            }
            _ => {}
        }
        drop(state);
        let odd = pending.takes_oddity(whole, answered);
        let is_about_task = pending.task.is_some() && status.is_some();
        if is_about_task {
            pending.status = status;
        }
        // A cancelled task may still have a result, a failed one a result with the reason, and one whose result was
        // requested too early has it later.
        if is_about_task || asked_for.is_some() && matches!(reply, Reply::Error(_)) {
            pending.unsure = Some(Box::new(pending.call.clone()));
        }
        let call = self.finished(&mut pending);
        pending.call = ambiguous(self.outcome_of(call, message, &reply, size, lossy_numbers), repeats);
        pending.doubts(odd);
        answered.ended.push(pending);
    }

    /// Handles an answer to a call whose end is already in the log: a follow-up entry records the answer.
    pub(super) fn comes_late(
        &self,
        mut state: MutexGuard<'_, State>,
        mut pending: Pending,
        message: &Json,
        (size, lossy_numbers, repeats): Around,
        answered: &mut Answered,
    ) {
        let asked_for = message.get("id").and_then(|id| pending.takes_poll(id));
        let gathered = reply::gathered(message);
        let (whole, message) = (message, gathered.as_ref().unwrap_or(message));
        let (mut reply, status) = (reply::read(message, pending.task.is_some()), reply::status(message));
        if let Reply::Task(Some(task)) = &reply {
            pending.task = Some((*task).clone());
        }
        let unsure_whose = answered.unsure_whose.is_some();
        if unsure_whose {
            reply = pending.takes_all(reply, message);
        } else if pending.is_no_news(&reply, status, asked_for) {
            answered.doubtful = true;
            state.remember(pending);
            return;
        }
        drop(state);
        let Some(end) = pending.end else { return };
        // Only the task's status, so its result may still come.
        let is_about_task = pending.task.is_some() && (status.is_some() || asked_for.is_some());
        let may_follow = is_about_task && !matches!(reply, Reply::Result(_));
        pending.status = status.or(pending.status);
        if let Some(begun) = pending.begun.take() {
            pending.notes.insert("begun_seq", begun);
        }
        let odd = pending.takes_oddity(whole, answered);
        if may_follow {
            pending.unsure = Some(Box::new(pending.call.clone()));
        }
        let mut call = self.finished(&mut pending).follow_up_of(end);
        call.late_answer = !pending.succeeded;
        pending.call = ambiguous(self.outcome_of(call, message, &reply, size, lossy_numbers), repeats);
        pending.doubts(odd);
        answered.ended.push(pending);
    }

    /// The call with the result or error of a reply, or with both.
    fn outcome_of(
        &self,
        call: ToolCall,
        message: &Json,
        reply: &Reply<'_>,
        size: usize,
        lossy_numbers: Vec<String>,
    ) -> ToolCall {
        let call = if size > LARGE { note(call, "reply_bytes", size as u64) } else { call };
        let (error, (kind, why), outcome) = match reply {
            Reply::Task(_) => return note(call, "task_status", "completed").outcome(Outcome::Ok),
            Reply::Result(result) => return self.resulted(call, result, &[result], size, lossy_numbers),
            Reply::Failed(why) => {
                let why = why.and_then(Json::as_str).unwrap_or("the server said that the task had failed");
                (None, ("task_failed".to_owned(), why.to_owned()), Outcome::ToolError)
            }
            Reply::Cancelled => {
                (None, ("cancelled".to_owned(), "the task was cancelled".to_owned()), Outcome::Abandoned)
            }
            Reply::Error(error) => {
                let said = said_in(error);
                let outcome = match said.0.as_str() {
                    // The reference implementations' code for a request that timed out.
                    "-32001" => Outcome::Timeout,
                    "401" | "403" | "-32401" | "-32403" => Outcome::Denied,
                    _ => Outcome::ProtocolError,
                };
                (Some(*error), said, outcome)
            }
            _ => {
                let why = "the reply has neither result nor error";
                (None, ("no_result".to_owned(), why.to_owned()), Outcome::ProtocolError)
            }
        };
        let of_task = matches!(reply, Reply::Failed(_) | Reply::Cancelled);
        let Some(shown) = reply::beside_error(message, error, of_task) else {
            return call.typed_error(kind, why.replace('\0', "\u{2400}")).outcome(outcome);
        };
        let of_error = error.is_some_and(|error| error.get("data").is_some_and(|data| std::ptr::eq(data, shown)));
        let both = Object::from_iter([("code", Json::from(kind)), ("message", why.into())]);
        let both = reply::with_error(shown, of_error, both);
        self.resulted(call, &both, &[shown, &both], size, lossy_numbers).outcome(outcome)
    }

    /// The call with a result; patients are looked for in each of `seen`.
    fn resulted(
        &self,
        mut call: ToolCall,
        result: &Json,
        seen: &[&Json],
        size: usize,
        lossy_numbers: Vec<String>,
    ) -> ToolCall {
        let too_long;
        (call, too_long) = self.concerning(call, seen, size);
        call.restated.extend(lossy_numbers);
        // The store refuses an entry that names more patients than fit.
        let room = if too_many(&call.patient_ids, too_long) { ROOM_OF_MANY } else { LARGE };
        let (kept, marks) = shortened_to(result, "result", room).unwrap_or_else(|| (result.clone(), Vec::new()));
        let was_shortened = !marks.is_empty();
        if !marks.is_empty() {
            let mut all = match call.session_metadata.get("mcp").and_then(|mcp| mcp.get("shortened")) {
                Some(Json::Array(before)) => before.clone(),
                _ => Vec::new(),
            };
            all.extend(marks);
            call = note(call, "shortened", all);
        }
        // Of several results the host may use any.
        if fails_in_part(result) {
            call.result = Some(CallResult::Error(attestlog::entry::CallError { kind: None, message: id_text(&kept) }));
            return call.outcome(Outcome::ToolError);
        }
        // Recorded as a failure unless the server explicitly says otherwise.
        if error_text(result).is_some() {
            call = note(call, "error_text", true);
        }
        // Whether the call failed is judged by the full result, not by what is kept of it.
        match was_shortened && failure(result).is_some() {
            true => call.result(kept).outcome(Outcome::ToolError),
            false => call.result(kept),
        }
    }

    /// The call with the patients that parts of its reply name, and how many of their ids were too long.
    pub(super) fn concerning(&self, mut call: ToolCall, seen: &[&Json], size: usize) -> (ToolCall, usize) {
        let (log, mut too_long) = (self.state().log.clone(), 0);
        for seen in seen {
            let (patients, long) = self.patients((log.as_ref(), size), &call.tool_name, None, Some(seen));
            call = patients.into_iter().fold(call, ToolCall::patient);
            too_long = too_long.max(long);
        }
        if too_long > 0 {
            call = note(call, TOO_LONG, too_long as u64);
        }
        (call, too_long)
    }

    /// The call with everything known at its end.
    pub(super) fn finished(&self, pending: &mut Pending) -> ToolCall {
        let took = self.clock.monotonic().saturating_sub(pending.since);
        let mut call = pending.call.clone().duration(took);
        if pending.rounds > 0 {
            pending.notes.insert("rounds", pending.rounds + 1);
        }
        let state = self.state();
        // A host may call before the server has given its name.
        call.tool_server = Some(self.server_name(&state));
        if let Some(server) = state.server.clone() {
            pending.notes.insert("server", server);
        }
        if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
            pending.notes.iter().for_each(|(key, value)| drop(mcp.insert(key, value.clone())));
            state.count_into(mcp);
        }
        call
    }
}

impl Pending {
    /// Removes the open request about the task with this id; returns whether it asked for the result.
    fn takes_poll(&mut self, id: &Json) -> Option<bool> {
        let at = self.polls.iter().position(|(poll, _)| poll == id)?;
        let (id, for_result) = self.polls.remove(at);
        // If recording fails, the error goes to whoever waits for this reply.
        self.reply_to = Some(id);
        Some(for_result)
    }

    /// Notes why hosts may read a reply differently, if they may; then it is uncertain whether the call has its answer.
    fn takes_oddity(&mut self, reply: &Json, answered: &Answered) -> bool {
        let why = answered.odd().map(str::to_owned).or_else(|| reply::odd(reply));
        let odd = why.is_some();
        let is_spelt_so = self.notes.get("reply_id").is_none();
        let unsure = odd || answered.refusable || !is_spelt_so || !reply::is_accepted_by_all(reply);
        self.unsure = unsure.then(|| Box::new(self.call.clone()));
        match why {
            Some(why) => self.notes.insert("odd_reply", why),
            None => self.notes.remove("odd_reply"),
        };
        odd
    }

    /// A reply that not every host takes for this call's ends it with all that the reply shows, whatever the reply says
    /// about what is to come: the host that does not take it waits for another.
    fn takes_all<'a>(&mut self, reply: Reply<'a>, message: &'a Json) -> Reply<'a> {
        if let Reply::Task(Some(task)) = &reply {
            self.task = Some((*task).clone());
        }
        match (reply, message.get("result")) {
            (Reply::Asks(_) | Reply::Task(_), Some(result)) => Reply::Result(result),
            (reply, _) => reply,
        }
    }

    /// Whether one of these readings may be this call's id, or that of a request about its task.
    pub(super) fn may_be_meant(&self, readings: &Readings) -> bool {
        readings.may_be(&self.id) || self.polls.iter().any(|(poll, _)| readings.may_be(poll))
    }

    /// A call whose reply hosts may read differently is not recorded as a success.
    fn doubts(&mut self, odd: bool) {
        if odd && self.call.outcome.is_none() {
            self.call.outcome = Some(Outcome::ProtocolError);
        }
    }
}

/// The code and the message of an error.
fn said_in(error: &Json) -> (String, String) {
    let text = |name: &str| error.get(name).map(|v| v.as_str().map_or_else(|| id_text(v), str::to_owned));
    let message = text("message").map(Json::from);
    let message = id_text(&shortened_only(message.as_ref().unwrap_or(error), "error"));
    (text("code").unwrap_or_default(), message)
}

/// A place of duplicate members in a reply, by its name in the entry.
fn repeated(steps: &[String], index: Option<usize>) -> Option<String> {
    let inside = match index {
        Some(i) => steps.strip_prefix(std::slice::from_ref(&i.to_string()))?,
        None => steps,
    };
    Some(inside.join("."))
}

/// The call with a note of the places where its reply had duplicate members.
fn ambiguous(call: ToolCall, repeats: Vec<String>) -> ToolCall {
    if repeats.is_empty() {
        return call;
    }
    let mut all = match call.session_metadata.get("mcp").and_then(|mcp| mcp.get("ambiguous_members")) {
        Some(Json::Array(before)) => before.clone(),
        _ => Vec::new(),
    };
    all.extend(repeats.into_iter().map(Json::from));
    note(call, "ambiguous_members", all)
}

/// Whether one of several results says that the tool failed.
fn fails_in_part(result: &Json) -> bool {
    let all = result.as_array().unwrap_or_default();
    all.iter().any(|one| failure(one).is_some() || fails_in_part(one))
}

/// A path below `head`, by its name in the entry.
fn inside(path: &Path, head: &str) -> Option<String> {
    let path = path.to_string();
    path.strip_prefix(head).map(|rest| format!("result{rest}"))
}

/// Whether hosts confuse the two ids: some read `"1"` as `1`.
pub(super) fn same_id(a: &Json, b: &Json) -> bool {
    a == b
        || matches!((a, b), (Json::String(_), Json::Number(_)) | (Json::Number(_), Json::String(_)))
            && id_text(a) == id_text(b)
}

impl State {
    /// The open call that a reply with this id answers: by the identical id, else by one in another spelling.
    fn matching(&self, id: &Json) -> Option<usize> {
        let very = |p: &Pending| p.id == *id || p.polls_by(id);
        let at = self.pending.iter().position(very);
        at.or_else(|| self.pending.iter().position(|p| same_id(&p.id, id)).filter(|_| !self.is_other(id)))
    }

    /// The call with an end but no answer that a reply with this id answers.
    fn answered_late(&self, id: &Json) -> Option<usize> {
        let polled = self.given_up.iter().position(|p| p.polls_by(id));
        polled.or_else(|| self.given_up.iter().position(|p| same_id(&p.id, id)).filter(|_| !self.is_other(id)))
    }

    /// Takes out the calls, open or given up, whose reply a message with these readings may be, and whether each was given
    /// up.
    pub(super) fn taken(&mut self, readings: &Readings) -> Vec<(Pending, bool)> {
        let open = self.pending.extract_if(.., |p| p.may_be_meant(readings)).map(|p| (p, false));
        let mut taken: Vec<(Pending, bool)> = open.collect();
        if self.given_up.iter().any(|p| p.may_be_meant(readings)) {
            let (late, others) = self.given_up.drain(..).partition(|p| p.may_be_meant(readings));
            self.given_up = others;
            let late: VecDeque<Pending> = late;
            taken.extend(late.into_iter().map(|p| (p, true)));
        }
        for (pending, _) in &mut taken {
            if !readings.may_be(&pending.id) {
                let poll = pending.polls.iter().find(|(poll, _)| readings.may_be(poll));
                pending.reply_to = poll.map(|(poll, _)| poll.clone());
            }
        }
        taken
    }

    /// Whether a request that is not a call waits for an answer with exactly this id.
    fn is_other(&self, id: &Json) -> bool {
        self.others.contains(id)
    }

    /// Adds the numbers of odd frames and unmatched replies to the notes.
    pub(super) fn count_into(&self, mcp: &mut attestlog::json::Object) {
        self.counted.store(self.odd + self.unmatched, std::sync::atomic::Ordering::Relaxed);
        for (name, count) in [("unparsed_frames", self.odd), ("unmatched_replies", self.unmatched)] {
            if count > 0 {
                mcp.insert(name, count);
            }
        }
    }

    /// Learns what the server says about itself and its tools. It is unverified and recorded as such.
    pub(super) fn learn(&mut self, result: &Json) {
        if let Some(server) = reply::server_of(result) {
            self.server = Some(server);
        }
        if let Some(version) = result.get("protocolVersion").and_then(Json::as_str) {
            self.protocol = Some(short(version));
        }
        for (tool, hints) in reply::hints_of(result) {
            if self.hints.len() < MOST_TOOLS {
                self.hints.insert(tool, hints.into());
            }
        }
    }

    /// Remembers a call whose end is in the log, in case it is answered later.
    pub(super) fn remember(&mut self, pending: Pending) {
        if self.given_up.len() >= MOST_OPEN {
            self.given_up.pop_front();
        }
        self.given_up.push_back(pending);
    }
}

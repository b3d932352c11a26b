//! Tracks the open calls between a host and a server, and records them.

mod answering;
mod asking;
mod beside;
mod patients;
mod tasks;
mod unreadable;

use super::frame::MAX_FRAME;
use crate::shorten::shortened;
use answering::Answered;
use asking::note;
use attestlog::AuditLog;
use attestlog::host::Clock;
use attestlog::json::{Json, Number, Object};
use attestlog::retention::PatientPaths;
use attestlog::{Error, Result};
use attestlog::{Outcome, ToolCall};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// JSON-RPC's code for an internal error.
const INTERNAL_ERROR: i64 = -32603;
/// The most open requests that are not calls, and the most given-up calls, that are remembered until they are answered.
const MOST_OPEN: usize = 10_000;
/// The most requests of the server that are remembered until the host answers them.
const MOST_ASKED: usize = 1_000;
/// Progress can extend a call's time-out to at most this many times the time-out.
const MOST_TIMEOUTS: u32 = 10;

/// Who makes the calls, as configured by the operator. A value that is not set may come from the protocol.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The user, overriding what the host says.
    pub user: Option<String>,
    /// The conversation, overriding what the host says.
    pub conversation: Option<String>,
    /// The user, if the host gives none.
    pub default_user: String,
    /// The conversation, if the host gives none.
    pub default_conversation: String,
    /// The user's role.
    pub role: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The purpose of the data access.
    pub purpose: Option<String>,
    /// The agent, overriding the client's own name.
    pub agent: Option<String>,
    /// The server, overriding its own name.
    pub server: Option<String>,
    /// The server, if it does not give its name.
    pub default_server: String,
}

/// The configuration of an [`Observer`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Who calls.
    pub identity: Identity,
    /// Tools that change nothing: each of their calls is recorded once, before the reply is forwarded. A trailing `*`
    /// matches any rest.
    pub read_only: Vec<String>,
    /// Where arguments and results name patients.
    pub patients: PatientPaths,
    /// The time after which a call without a reply or progress counts as timed out. Progress can extend it to ten times
    /// this value.
    pub timeout: Option<Duration>,
    /// Lets calls through that cannot be recorded.
    pub fail_open: bool,
}

/// The decision about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The frame is forwarded.
    Forward,
    /// The frame is not forwarded; the host gets these bytes instead (nothing if empty).
    Answer(Vec<u8>),
}

type Refused = Verdict;
type Complain = Box<dyn Fn(&str) + Send + Sync>;
type Reach = Box<dyn Fn() -> Result<AuditLog> + Send + Sync>;

/// Watches the frames between a host and a server, and records calls.
pub struct Observer {
    settings: Settings,
    clock: Arc<dyn Clock>,
    reach: Reach,
    complain: Complain,
    state: Mutex<State>,
    /// Held while a call is ended, from taking it out of the open calls until its end is in the log: a reply that
    /// arrives while its call is given up, or the reverse, finds the call with its end. Locked before `state`.
    ending: Mutex<()>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    log: Option<AuditLog>,
    client: Option<Json>,
    server: Option<Json>,
    protocol: Option<String>,
    hints: BTreeMap<String, Json>,
    pending: Vec<Pending>,
    /// Calls whose server asked for input that the host has not sent yet.
    suspended: Vec<Pending>,
    /// Calls whose end in the log is not an answer.
    given_up: VecDeque<Pending>,
    /// The ids of open requests that are not calls.
    others: VecDeque<Json>,
    /// Requests of the server that the host has not answered: the list of their ids (one, if the server is not odd),
    /// method, `params`.
    asked: VecDeque<(Json, String, Option<Json>)>,
    /// The number of frames that were not JSON-RPC.
    odd: u64,
    /// The number of replies that matched no open request.
    unmatched: u64,
    /// The sum of both at the last entry that stated them.
    counted: AtomicU64,
    missing: u64,
    host_gone: bool,
    /// The server's output ended before the host did.
    silent: bool,
    /// The signal that told this process to end.
    told: Option<String>,
    from_host: Pieces,
    from_server: Pieces,
}

/// Whether the last frame from one side was a piece of a frame that is too long to be read, other than its last piece.
#[derive(Default)]
struct Pieces(bool);

/// A call without an end.
struct Pending {
    id: Json,
    call: ToolCall,
    /// The seq of its begin entry, if that is recorded.
    begun: Option<u64>,
    /// Nothing about it could be recorded, and the operator allows that.
    lost: bool,
    /// The seq of its end entry, if it was given up.
    end: Option<u64>,
    /// Whether that entry says that it succeeded: what comes then is a follow-up, but no late answer.
    succeeded: bool,
    notes: Object,
    since: Duration,
    /// When the server last showed that it is working on the call.
    heard: Duration,
    /// The token of its progress notifications.
    progress: Option<Json>,
    rounds: u64,
    state: Option<Json>,
    task: Option<Json>,
    /// The final status of its task that the server reported last.
    status: Option<&'static str>,
    /// The ids of open requests about the task, and for each whether it asks for the result. The result may come with
    /// the reply to any of them.
    polls: Vec<(Json, bool)>,
    /// The id of the reply that ends the call, if it is not the call's own.
    reply_to: Option<Json>,
    /// Patients for whom the end entry has no room.
    further: Vec<String>,
    /// The call as it was before its end, if the host may not accept that end as the answer and keep waiting for
    /// another.
    unsure: Option<Box<ToolCall>>,
}

impl Pending {
    fn new(id: Json, call: ToolCall, progress: Option<Json>, now: Duration) -> Pending {
        let (begun, end, lost, rounds, polls) = (None, None, false, 0, Vec::new());
        let (since, heard, notes, state, task, reply_to, unsure) = (now, now, Object::new(), None, None, None, None);
        let (status, further) = (None, Vec::new());
        Pending {
            id,
            call,
            begun,
            lost,
            end,
            succeeded: false,
            notes,
            since,
            heard,
            progress,
            rounds,
            state,
            task,
            status,
            polls,
            reply_to,
            further,
            unsure,
        }
    }

    /// The id of the request that waits for the reply.
    fn replies_to(&self) -> Json {
        self.reply_to.as_ref().unwrap_or(&self.id).clone()
    }

    /// Whether this is the id of an open request about the task.
    fn polls_by(&self, id: &Json) -> bool {
        self.polls.iter().any(|(poll, _)| poll == id)
    }

    /// Whether the call has timed out.
    fn is_late(&self, now: Duration, limit: Duration) -> bool {
        now.saturating_sub(self.heard) >= limit || now.saturating_sub(self.since) >= limit.saturating_mul(MOST_TIMEOUTS)
    }
}

/// What one frame from the host requests.
#[derive(Default)]
struct Asked {
    calls: Vec<Pending>,
    /// Calls recorded in one step: those whose answer nobody waits for, and the input with which calls are continued.
    whole: Vec<ToolCall>,
    cancelled: Vec<(Json, String)>,
    /// The ids of everything in it that expects an answer.
    ids: Vec<Json>,
    /// Those of `ids` that are not calls.
    others: Vec<Json>,
    batch: bool,
    /// The reason why none of it may be forwarded.
    refused: Option<Error>,
}

impl Observer {
    /// Creates an observer that records into the store that `reach` opens, and passes messages for the operator to
    /// `complain`.
    ///
    /// # Errors
    /// The error of `reach`, unless [`Settings::fail_open`] is set.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        reach: impl Fn() -> Result<AuditLog> + Send + Sync + 'static,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Observer> {
        let log = match reach() {
            Ok(log) => Some(log),
            Err(e) if settings.fail_open => {
                complain(&format!("NOTHING IS RECORDED, and calls are let through (--fail-open): {e}"));
                None
            }
            Err(e) => return Err(e),
        };
        let state = Mutex::new(State { log, ..State::default() });
        let ending = Mutex::new(());
        Ok(Observer { settings, clock, reach: Box::new(reach), complain: Box::new(complain), state, ending })
    }

    /// Handles frames from the host, in order, and returns the decision about each. When it returns, the forwarded
    /// calls are on the disk.
    pub fn from_host(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let asked: Vec<Result<Asked, Refused>> = frames.iter().map(|frame| self.ask(frame)).collect();
        let calls = |asked: &Asked| -> Vec<ToolCall> { self.to_begin(asked).map(|p| p.call.clone()).collect() };
        let all: Vec<ToolCall> = asked.iter().flatten().flat_map(calls).collect();
        // Record all in one commit. If that fails, record frame by frame to find the one at fault.
        let alone = asked.iter().flatten().any(|asked| !asked.whole.is_empty() || asked.refused.is_some());
        let mut together = match all.len() > 1 && !alone {
            true => self.begin(all).ok().map(Vec::into_iter),
            false => None,
        };
        let verdicts = asked.into_iter().map(|asked| {
            let mut asked = match asked {
                Ok(asked) => asked,
                Err(verdict) => return verdict,
            };
            let wanted = self.to_begin(&asked).count();
            let begun = match (asked.refused.take(), &mut together) {
                (Some(e), _) => Err(e),
                (None, Some(seqs)) => Ok(seqs.by_ref().take(wanted).collect()),
                (None, None) => self.record(asked.whole.clone()).and_then(|()| self.begin(calls(&asked))),
            };
            self.go_on(asked, begun)
        });
        verdicts.collect()
    }

    /// Handles frames from the server, in order, and returns the decision about each.
    pub fn from_server(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let _ending = self.ending();
        let (mut verdicts, mut looked_at) = (Vec::new(), Vec::new());
        for frame in frames {
            let mut answered = self.answered(frame);
            let later = std::mem::take(&mut answered.later);
            // If the host does not accept that end, the answer that it waits for may be in the very next frame.
            let unsure = answered.ended.iter().any(|pending| pending.unsure.is_some());
            looked_at.push(answered);
            if unsure || !later.is_empty() {
                verdicts.extend(self.record_ends(std::mem::take(&mut looked_at)));
            }
            for reply in later {
                let again = self.record_ends(vec![self.answered_again(reply)]);
                if let (Some(verdict @ Verdict::Forward), Some(worse)) = (verdicts.last_mut(), again.into_iter().next())
                {
                    *verdict = worse;
                }
            }
        }
        verdicts.extend(self.record_ends(looked_at));
        verdicts
    }

    /// Records the calls that frames from the server end, and returns the decision about each frame.
    fn record_ends(&self, mut answered: Vec<Answered>) -> Vec<Verdict> {
        answered.iter_mut().flat_map(|answered| &mut answered.ended).for_each(Pending::split_patients);
        let ends = |ended: &[Pending]| -> Vec<(Option<u64>, ToolCall)> {
            ended.iter().filter(|p| !p.lost).map(|p| (p.begun, p.call.clone())).collect()
        };
        let all: Vec<_> = answered.iter().flat_map(|answered| ends(&answered.ended)).collect();
        let mut together = (all.len() > 1).then(|| self.end(all).ok()).flatten().map(Vec::into_iter);
        let before = match answered.iter().any(|answered| answered.doubtful) {
            true => self.begin_open(),
            false => Ok(()),
        };
        let verdicts = answered.into_iter().map(|answered| {
            if let (true, Err((e, ids))) = (answered.doubtful, &before) {
                return refusal(
                    ids,
                    &format!("attestlog: not passed on: a call could not be recorded: {e}"),
                    ids.len() > 1,
                );
            }
            let wanted = ends(&answered.ended);
            let seqs: Result<Vec<u64>> = match &mut together {
                Some(seqs) => Ok(seqs.by_ref().take(wanted.len()).collect()),
                None => self.end(wanted),
            };
            let seqs = seqs.map_err(|e| (e, "could not be recorded")).and_then(|seqs| {
                let further = self.record_further(&answered.ended, &seqs);
                further.map(|()| seqs).map_err(|e| (e, "not all patients whom its reply names could be recorded"))
            });
            match seqs {
                Ok(seqs) if answered.withheld.is_some() && !self.settings.fail_open => {
                    let message = answered.withheld.unwrap_or_default();
                    let message = format!("attestlog: the call was made (do not make it again), but {message}");
                    let ids: Vec<Json> = answered.ended.iter().map(Pending::replies_to).collect();
                    self.may_be_answered_yet(answered.ended, seqs);
                    match ids.is_empty() {
                        true => withheld(),
                        false => refusal(&ids, &message, answered.batch),
                    }
                }
                Ok(seqs) => {
                    self.may_be_answered_yet(answered.ended, seqs);
                    Verdict::Forward
                }
                Err((e, _)) if self.settings.fail_open => {
                    self.lost(answered.ended.len() as u64, &e);
                    Verdict::Forward
                }
                Err((e, what)) => {
                    let message = format!("attestlog: the call was made (do not make it again), but {what}: {e}");
                    let ids: Vec<Json> = answered.ended.iter().map(Pending::replies_to).collect();
                    refusal(&ids, &message, answered.batch)
                }
            }
        });
        verdicts.collect()
    }

    /// Records the begin entries of open calls of read-only tools, which otherwise are recorded only at their end. The
    /// error holds the ids of these calls.
    fn begin_open(&self) -> Result<(), (Error, Vec<Json>)> {
        let mut state = self.state();
        let is_open = |p: &&mut Pending| p.begun.is_none() && !p.lost;
        let State { pending, suspended, .. } = &mut *state;
        let open: Vec<&mut Pending> = pending.iter_mut().chain(suspended).filter(is_open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut calls: Vec<ToolCall> = open.iter().map(|p| p.call.clone()).collect();
        let ids = open.iter().map(|p| p.id.clone()).collect();
        let server = self.server_name(&state);
        calls.iter_mut().for_each(|call| call.tool_server = Some(server.clone()));
        drop(state);
        // Only the server's side removes open calls, so they are still there after their begin entries are recorded.
        let begun = match self.begin(calls) {
            Ok(begun) => begun,
            Err(e) if self.settings.fail_open => {
                self.lost(1, &e);
                return Ok(());
            }
            Err(e) => return Err((e, ids)),
        };
        let mut state = self.state();
        let State { pending, suspended, .. } = &mut *state;
        let mut begun = ids.into_iter().zip(begun);
        for (id, seq) in &mut begun {
            let open = pending.iter_mut().chain(suspended.iter_mut()).find(|p| p.id == id && p.begun.is_none());
            if let Some(open) = open {
                open.begun = Some(seq);
            }
        }
        Ok(())
    }

    /// This process received a signal to end: calls still without an answer at the end were given up.
    pub fn told_to_end(&self, signal: &str) {
        self.state().told.get_or_insert_with(|| signal.to_owned());
    }

    /// The host has ended: calls still without an answer at the end were given up, unless the server's output ended
    /// first.
    pub fn host_gone(&self) {
        let mut state = self.state();
        state.host_gone = !state.silent;
    }

    /// The server's output has ended. If the host ends after this, it was not the host that gave up its calls.
    pub fn server_silent(&self) {
        let mut state = self.state();
        state.silent = !state.host_gone;
    }

    /// Ends calls that have timed out. Their replies are still forwarded.
    pub fn expire(&self) {
        let Some(limit) = self.settings.timeout else { return };
        let now = self.clock.monotonic();
        let _ending = self.ending();
        let mut state = self.state();
        let late: Vec<Pending> = state.pending.extract_if(.., |p| p.is_late(now, limit)).collect();
        drop(state);
        let message = format!("no reply within {} s", limit.as_secs_f64());
        self.give_up(late, Outcome::Timeout, "timeout", &message);
    }

    /// Ends every open call, with the reason, and closes the store.
    pub fn close(&self, why: &str) {
        let ending = self.ending();
        let mut state = self.state();
        let (gone, told) = (state.host_gone, state.told.take());
        let pending = std::mem::take(&mut state.pending);
        let suspended = std::mem::take(&mut state.suspended);
        drop(state);
        match (told, gone) {
            (Some(signal), _) => {
                let why = format!("the proxy was told to end ({signal}), and there was no reply with its id");
                self.give_up(pending, Outcome::Abandoned, "told_to_end", &why);
            }
            (None, true) => self.give_up(
                pending,
                Outcome::Abandoned,
                "host_gone",
                "the host ended, and there was no reply with its id",
            ),
            (None, false) => self.give_up(pending, Outcome::ProtocolError, "server_ended", why),
        }
        let left = self.uncounted();
        if left > 0 {
            let message =
                format!("{left} frames of the server's since the last call were no messages, or answered nothing");
            (self.complain)(&message);
        }
        let message = "the server asked for input, and the call was not continued";
        self.give_up(suspended, Outcome::Abandoned, "input_required", message);
        drop(ending);
        let log = self.state().log.take();
        if let Some(Err(e)) = log.map(AuditLog::close) {
            (self.complain)(&e.to_string());
        }
    }

    /// The number of odd frames and unmatched replies since the last entry that stated it.
    fn uncounted(&self) -> u64 {
        let state = self.state();
        (state.odd + state.unmatched).saturating_sub(state.counted.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, ()> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> Result<AuditLog> {
        let present = self.state().log.clone();
        match present {
            Some(log) => Ok(log),
            None => {
                let log = (self.reach)()?;
                self.state().log = Some(log.clone());
                Ok(log)
            }
        }
    }

    fn begin(&self, calls: Vec<ToolCall>) -> Result<Vec<u64>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let begun = self.log()?.begin_batch(calls)?;
        self.state().missing = 0;
        Ok(begun.iter().map(|b| b.receipt().seq).collect())
    }

    fn record(&self, calls: Vec<ToolCall>) -> Result<()> {
        self.end(calls.into_iter().map(|call| (None, call)).collect()).map(drop)
    }

    /// Remembers calls whose ends, recorded at `seqs`, the host may not accept as answers.
    fn may_be_answered_yet(&self, ended: Vec<Pending>, seqs: Vec<u64>) {
        let ended = ended.into_iter().filter(|pending| !pending.lost);
        for (mut pending, seq) in ended.zip(seqs) {
            let Some(call) = pending.unsure.take() else { continue };
            // Every late answer follows up the first end.
            if pending.end.is_none() {
                pending.succeeded = patients::outcome(&pending.call) == Outcome::Ok;
            }
            (pending.call, pending.end) = (*call, pending.end.or(Some(seq)));
            self.state().remember(pending);
        }
    }

    /// Records calls and ends of calls, and returns their seqs.
    fn end(&self, ends: Vec<(Option<u64>, ToolCall)>) -> Result<Vec<u64>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let receipts = self.log()?.end_batch(ends)?;
        let mut state = self.state();
        state.missing = 0;
        Ok(receipts.iter().map(|receipt| receipt.seq).collect())
    }

    fn lost(&self, calls: u64, e: &Error) {
        self.state().missing += calls;
        (self.complain)(&format!("A CALL WAS NOT RECORDED and let through (--fail-open): {e}"));
    }

    fn give_up(&self, calls: Vec<Pending>, outcome: Outcome, kind: &str, why: &str) {
        for mut pending in calls.into_iter().filter(|p| !p.lost) {
            let call = match pending.status {
                // The host was told that the task succeeded, and did not ask for the result.
                Some("completed") => note(self.finished(&mut pending), "task_status", "completed").outcome(Outcome::Ok),
                _ => self.finished(&mut pending).typed_error(kind, why).outcome(outcome),
            };
            pending.succeeded = patients::outcome(&call) == Outcome::Ok;
            match self.end(vec![(pending.begun, call)]) {
                Ok(seqs) => {
                    pending.end = seqs.first().copied();
                    self.state().remember(pending);
                }
                Err(e) => (self.complain)(&format!("the end of a call could not be recorded: {e}")),
            }
        }
    }

    fn is_read_only(&self, tool: &str) -> bool {
        self.settings.read_only.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => tool.starts_with(start),
            None => tool == name,
        })
    }

    fn to_begin<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = &'a Pending> {
        // A continued call was begun already, and a call of a read-only tool is recorded at its end.
        asked.calls.iter().filter(|p| p.rounds == 0 && !self.is_read_only(&p.call.tool_name))
    }
}

impl Pieces {
    /// `Some` if the next frame is a piece of a frame that is too long to be read; true if it is the first piece.
    fn next(&mut self, frame: &[u8]) -> Option<bool> {
        let first = !self.0;
        let piece = self.0 || frame.len() > MAX_FRAME;
        self.0 = piece && !frame.ends_with(b"\n");
        piece.then_some(first)
    }
}

/// The value as it is kept, without the notes about what was shortened.
fn shortened_only(value: &Json, name: &str) -> Json {
    shortened(value, name).map_or_else(|| value.clone(), |(short, _)| short)
}

fn id_text(id: &Json) -> String {
    id.as_str().map_or_else(|| id.to_canonical().as_str().to_owned(), str::to_owned)
}

/// The errors that the host gets instead of replies.
fn refusal(ids: &[Json], message: &str, batch: bool) -> Verdict {
    let error = |id: &Json| {
        let error = Object::from_iter([
            ("code", Number::from_i64(INTERNAL_ERROR).map_or(Json::Null, Json::Number)),
            ("message", message.into()),
        ]);
        Json::from(Object::from_iter([("jsonrpc", Json::from("2.0")), ("id", id.clone()), ("error", error.into())]))
    };
    let all: Vec<Json> = ids.iter().map(error).collect();
    let text = match batch && !all.is_empty() {
        true => format!("{}\n", Json::Array(all).to_canonical()),
        // Of a frame that was no batch, each waits for a message of its own.
        false => all.iter().map(|one| format!("{}\n", one.to_canonical())).collect(),
    };
    Verdict::Answer(text.into_bytes())
}

/// What the host gets in place of a frame that is not passed on and answers no request that is known: a log message.
fn withheld() -> Verdict {
    let data = "attestlog: a line of the server that cannot be read, and may be a part of a message, was not passed on";
    let params = Object::from_iter([("data", data), ("level", "warning"), ("logger", "attestlog")]);
    let message = Object::from_iter([
        ("jsonrpc", Json::from("2.0")),
        ("method", "notifications/message".into()),
        ("params", params.into()),
    ]);
    Verdict::Answer(format!("{}\n", Json::from(message).to_canonical()).into_bytes())
}

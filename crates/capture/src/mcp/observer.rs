//! Which calls are under way between a host and a server, and what is recorded of them.

mod answering;
mod asking;
mod beside;
mod patients;
mod tasks;

use super::frame::MAX_FRAME;
use super::shorten::shortened;
use answering::Answered;
use asking::note;
use attestlog::Clock;
use attestlog::json::{Json, Number, Object};
use attestlog::owner::SharedStore;
use attestlog::retention::PatientPaths;
use attestlog::{Error, Result};
use attestlog::{Outcome, ToolCall};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// JSON-RPC's code for a request that could not be carried out.
const INTERNAL_ERROR: i64 = -32603;
/// No more requests that are no calls, and no more calls that were given up, are remembered until they are answered.
const MOST_OPEN: usize = 10_000;
/// No more requests of the server's are remembered until the host answers them.
const MOST_ASKED: usize = 1_000;
/// How often progress may put the end of a call's time off: so many times the time-out is the most that it gets.
const MOST_TIMEOUTS: u32 = 10;

/// Who calls, as the operator says; what is not said may be taken from the protocol.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The user, whatever the host says.
    pub user: Option<String>,
    /// The conversation, whatever the host says.
    pub conversation: Option<String>,
    /// The user where the host says none.
    pub default_user: String,
    /// The conversation where the host says none.
    pub default_conversation: String,
    /// The user's role.
    pub role: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Why data is accessed.
    pub purpose: Option<String>,
    /// The agent; else what the client calls itself.
    pub agent: Option<String>,
    /// The server; else what it calls itself.
    pub server: Option<String>,
    /// What the server is called that does not say it.
    pub default_server: String,
}

/// How calls are recorded.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Who calls.
    pub identity: Identity,
    /// Tools that change nothing: their calls are recorded once, before the reply goes on. A `*` at the end matches
    /// any rest.
    pub read_only: Vec<String>,
    /// Where in arguments and results patients are named.
    pub patients: PatientPaths,
    /// A call counts as timed out after this time without a reply or progress; ten times as long is the most that progress
    /// gives it.
    pub timeout: Option<Duration>,
    /// Lets calls through that cannot be recorded.
    pub fail_open: bool,
}

/// What is to be done with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Forward,
    /// It does not; this goes to the host instead (nothing, where it is empty).
    Answer(Vec<u8>),
}

type Refused = Verdict;
type Complain = Box<dyn Fn(&str) + Send + Sync>;
type Reach = Box<dyn Fn() -> Result<SharedStore> + Send + Sync>;

/// Watches what a host and a server say, and records calls.
pub struct Observer {
    settings: Settings,
    clock: Arc<dyn Clock>,
    reach: Reach,
    complain: Complain,
    state: Mutex<State>,
    /// Held while calls are ended, from where they are open to where their end is in the log: a reply that comes while its call
    /// is given up, or the other way round, finds it with its end. Taken before `state`.
    ending: Mutex<()>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    joint: Option<SharedStore>,
    client: Option<Json>,
    server: Option<Json>,
    protocol: Option<String>,
    hints: BTreeMap<String, Json>,
    pending: Vec<Pending>,
    /// Calls whose server asked for more and has not been answered.
    suspended: Vec<Pending>,
    /// Calls that have an end in the log, without an answer.
    given_up: VecDeque<Pending>,
    /// The ids of requests that are no calls.
    others: VecDeque<Json>,
    /// Requests of the server's that the host has not answered: id, method, `params`.
    asked: VecDeque<(Json, String, Option<Json>)>,
    /// Frames that were no JSON-RPC.
    odd: u64,
    /// Replies that fitted nothing that was open.
    unmatched: u64,
    /// How many of both the last entry says.
    counted: AtomicU64,
    missing: u64,
    host_gone: bool,
    /// The server's output ended while the host was there.
    silent: bool,
    /// The signal by which this process was told to end.
    told: Option<String>,
    from_host: Pieces,
    from_server: Pieces,
}

/// Whether the last frame from one side was a piece of one that is too long to be looked at, and not its last.
#[derive(Default)]
struct Pieces(bool);

/// A call that has no end yet.
struct Pending {
    id: Json,
    call: ToolCall,
    /// The seq of its beginning, where that is recorded.
    begun: Option<u64>,
    /// Nothing of it is recorded, and the operator lets that pass.
    lost: bool,
    /// The seq of its end, where it was given up.
    end: Option<u64>,
    notes: Object,
    since: Duration,
    /// When the server last said that it is being worked on.
    heard: Duration,
    /// By what its progress is known.
    progress: Option<Json>,
    rounds: u64,
    state: Option<Json>,
    task: Option<Json>,
    /// The end of the task that the server told last.
    status: Option<&'static str>,
    /// The ids of requests about the task that have no reply yet, and whether they ask for its result: that may come with any
    /// of them.
    polls: Vec<(Json, bool)>,
    /// The id of the reply that ends it, where it is not the call's own.
    reply_to: Option<Json>,
    /// Patients for whom the entry of its end has no room.
    further: Vec<String>,
    /// What ends it may be no answer for the host, which then waits for another: the call without that end.
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

    /// Whether this is the id of a request about the task that has no reply yet.
    fn polls_by(&self, id: &Json) -> bool {
        self.polls.iter().any(|(poll, _)| poll == id)
    }

    /// Whether a reply may no longer be waited for.
    fn is_late(&self, now: Duration, limit: Duration) -> bool {
        now.saturating_sub(self.heard) >= limit || now.saturating_sub(self.since) >= limit.saturating_mul(MOST_TIMEOUTS)
    }
}

/// What one frame from the host asks for.
#[derive(Default)]
struct Asked {
    calls: Vec<Pending>,
    /// What is recorded as it stands: calls that nobody waits for the answer of, and what calls are continued with.
    whole: Vec<ToolCall>,
    cancelled: Vec<(Json, String)>,
    /// Ids of everything in it that wants an answer.
    ids: Vec<Json>,
    /// Those of them that are no calls.
    others: Vec<Json>,
    batch: bool,
    /// Why none of it may go on.
    refused: Option<Error>,
}

impl Observer {
    /// An observer that records into what `reach` opens, and says on `complain` what the operator must know.
    ///
    /// # Errors
    /// What `reach` says, unless calls are let through that cannot be recorded.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        reach: impl Fn() -> Result<SharedStore> + Send + Sync + 'static,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Observer> {
        let joint = match reach() {
            Ok(joint) => Some(joint),
            Err(e) if settings.fail_open => {
                complain(&format!("NOTHING IS RECORDED, and calls are let through (--fail-open): {e}"));
                None
            }
            Err(e) => return Err(e),
        };
        let state = Mutex::new(State { joint, ..State::default() });
        let ending = Mutex::new(());
        Ok(Observer { settings, clock, reach: Box::new(reach), complain: Box::new(complain), state, ending })
    }

    /// Frames from the host, in order: what is to become of each. When this returns, the calls that go on are on the
    /// disk.
    pub fn from_host(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let asked: Vec<Result<Asked, Refused>> = frames.iter().map(|frame| self.ask(frame)).collect();
        let calls = |asked: &Asked| -> Vec<ToolCall> { self.to_begin(asked).map(|p| p.call.clone()).collect() };
        let all: Vec<ToolCall> = asked.iter().flatten().flat_map(calls).collect();
        // In one commit, if all goes well. If not, each frame shows for itself what is wrong.
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

    /// Frames from the server, in order.
    pub fn from_server(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let _ending = self.ending();
        let (mut verdicts, mut looked_at) = (Vec::new(), Vec::new());
        for frame in frames {
            let mut answered = self.answered(frame);
            let later = std::mem::take(&mut answered.later);
            // Where that is no end for the host, the answer that it waits for may be in the very next frame.
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

    /// Records what frames from the server end: what is to become of each.
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
            match seqs.and_then(|seqs| self.record_further(&answered.ended, &seqs).map(|()| seqs)) {
                Ok(seqs) => {
                    self.may_be_answered_yet(answered.ended, seqs);
                    Verdict::Forward
                }
                Err(e) if self.settings.fail_open => {
                    self.lost(answered.ended.len() as u64, &e);
                    Verdict::Forward
                }
                Err(e) => {
                    let message = format!("attestlog: the call was made, but could not be recorded: {e}");
                    let ids: Vec<Json> = answered.ended.into_iter().map(|p| p.reply_to.unwrap_or(p.id)).collect();
                    refusal(&ids, &message, answered.batch)
                }
            }
        });
        verdicts.collect()
    }

    /// Records open calls of tools that are only recorded at their end, as begun; where that fails and must not, gives their
    /// ids too.
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
        // Only this side takes calls away, so they are there when their beginnings are.
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

    /// This process was told to end, by this signal: what has no answer from now on was given up.
    pub fn told_to_end(&self, signal: &str) {
        self.state().told.get_or_insert_with(|| signal.to_owned());
    }

    /// The host has gone: what has no answer from now on was given up.
    pub fn host_gone(&self) {
        let mut state = self.state();
        state.host_gone = !state.silent;
    }

    /// The server's output has ended: where the host goes after that, it was not the host that gave its calls up.
    pub fn server_silent(&self) {
        let mut state = self.state();
        state.silent = !state.host_gone;
    }

    /// Calls that have waited too long count as timed out; their replies still go on.
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

    /// Everything is over: whatever has no end gets one that says why.
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
        let joint = self.state().joint.take();
        if let Some(Err(e)) = joint.map(SharedStore::close) {
            (self.complain)(&e.to_string());
        }
    }

    /// How much came since the last entry that would have said so.
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

    fn joint(&self) -> Result<SharedStore> {
        let present = self.state().joint.clone();
        match present {
            Some(joint) => Ok(joint),
            None => {
                let joint = (self.reach)()?;
                self.state().joint = Some(joint.clone());
                Ok(joint)
            }
        }
    }

    fn begin(&self, calls: Vec<ToolCall>) -> Result<Vec<u64>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let begun = self.joint()?.begin_batch(calls)?;
        self.state().missing = 0;
        Ok(begun.iter().map(|b| b.receipt().seq).collect())
    }

    fn record(&self, calls: Vec<ToolCall>) -> Result<()> {
        self.end(calls.into_iter().map(|call| (None, call)).collect()).map(drop)
    }

    /// Remembers calls whose ends, recorded at these seqs, may be no answers for the host.
    fn may_be_answered_yet(&self, ended: Vec<Pending>, seqs: Vec<u64>) {
        let ended = ended.into_iter().filter(|pending| !pending.lost);
        for (mut pending, seq) in ended.zip(seqs) {
            let Some(call) = pending.unsure.take() else { continue };
            // Of several late answers each follows the end.
            (pending.call, pending.end) = (*call, pending.end.or(Some(seq)));
            self.state().remember(pending);
        }
    }

    /// Records calls and ends of calls; gives the seqs.
    fn end(&self, ends: Vec<(Option<u64>, ToolCall)>) -> Result<Vec<u64>> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let receipts = self.joint()?.end_batch(ends)?;
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
                // The host was told that it went well, and did not ask for what came of it.
                Some("completed") => note(self.finished(&mut pending), "task_status", "completed").outcome(Outcome::Ok),
                _ => self.finished(&mut pending).typed_error(kind, why).outcome(outcome),
            };
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
        // A continuation was begun already, and one of a read-only tool is recorded at its end.
        asked.calls.iter().filter(|p| p.rounds == 0 && !self.is_read_only(&p.call.tool_name))
    }
}

impl Pieces {
    /// Whether the next frame is a piece of one that is too long to be looked at, and whether the first.
    fn next(&mut self, frame: &[u8]) -> Option<bool> {
        let first = !self.0;
        let piece = self.0 || frame.len() > MAX_FRAME;
        self.0 = piece && !frame.ends_with(b"\n");
        piece.then_some(first)
    }
}

/// A value as it is kept, without what is said of one that is too large.
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
    let text = match (batch, all.first()) {
        (_, None) => return Verdict::Answer(Vec::new()),
        (false, Some(one)) => one.to_canonical(),
        (true, _) => Json::Array(all).to_canonical(),
    };
    Verdict::Answer(format!("{text}\n").into_bytes())
}

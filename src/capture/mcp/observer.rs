//! Which calls are under way between a host and a server, and what is recorded of them.

use super::frame::{self, MAX_FRAME, Read};
use super::reply::{self, Reply, about, short};
use crate::entry::{CallLimits, Outcome, ToolCall};
use crate::host::Clock;
use crate::json::{Json, Number, Object};
use crate::owner::Joint;
use crate::retention::PatientPaths;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Arguments and results of larger frames are recorded as summaries.
const LARGE: usize = 1 << 20;
/// JSON-RPC's code for a request that could not be carried out.
const INTERNAL_ERROR: i64 = -32603;
/// No more tools' hints are remembered.
const MOST_TOOLS: usize = 10_000;

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
    /// After this time a call counts as timed out.
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

type Complain = Box<dyn Fn(&str) + Send + Sync>;
type Reach = Box<dyn Fn() -> Result<Joint> + Send + Sync>;

/// Watches what a host and a server say, and records calls.
pub struct Observer {
    settings: Settings,
    clock: Arc<dyn Clock>,
    reach: Reach,
    complain: Complain,
    state: Mutex<State>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    joint: Option<Joint>,
    client: Option<Json>,
    server: Option<Json>,
    protocol: Option<String>,
    hints: BTreeMap<String, Json>,
    pending: Vec<Pending>,
    /// Calls whose server asked for more and has not been answered.
    suspended: Vec<Pending>,
    odd: u64,
    missing: u64,
    host_gone: bool,
    /// The last frame from the host was a piece of one that is too long to be looked at.
    in_pieces: bool,
}

/// A call that has no end yet.
struct Pending {
    id: Json,
    call: ToolCall,
    /// The seq of its beginning, where that is recorded.
    begun: Option<u64>,
    /// Nothing of it is recorded, and the operator lets that pass.
    lost: bool,
    notes: Object,
    since: Duration,
    rounds: u64,
    state: Option<Json>,
    task: Option<Json>,
    /// The ids of requests about the task that have no reply yet: its result may come with any of them.
    polls: Vec<Json>,
}

/// What one frame from the host asks for.
#[derive(Default)]
struct Asked {
    calls: Vec<Pending>,
    /// Calls that nobody waits for the answer of.
    notified: Vec<ToolCall>,
    cancelled: Vec<(Json, String)>,
    /// Ids of everything in it that wants an answer.
    ids: Vec<Json>,
    batch: bool,
}

impl Observer {
    /// An observer that records into what `reach` opens, and says on `complain` what the operator must know.
    ///
    /// # Errors
    /// What `reach` says, unless calls are let through that cannot be recorded.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        reach: impl Fn() -> Result<Joint> + Send + Sync + 'static,
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
        Ok(Observer { settings, clock, reach: Box::new(reach), complain: Box::new(complain), state })
    }

    /// Frames from the host, in order: what is to become of each. When this returns, the calls that go on are on the
    /// disk.
    pub fn from_host(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let asked: Vec<Result<Asked, Verdict>> = frames.iter().map(|frame| self.ask(frame)).collect();
        let calls = |asked: &Asked| -> Vec<ToolCall> { self.to_begin(asked).map(|p| p.call.clone()).collect() };
        let all: Vec<ToolCall> = asked.iter().flatten().flat_map(calls).collect();
        // In one commit, if all goes well. If not, each frame shows for itself what is wrong.
        let notified = asked.iter().flatten().any(|asked| !asked.notified.is_empty());
        let mut together = match all.len() > 1 && !notified {
            true => self.begin(all).ok().map(Vec::into_iter),
            false => None,
        };
        let verdicts = asked.into_iter().map(|asked| {
            let asked = match asked {
                Ok(asked) => asked,
                Err(verdict) => return verdict,
            };
            let wanted = self.to_begin(&asked).count();
            let begun = match &mut together {
                Some(seqs) => Ok(seqs.by_ref().take(wanted).collect()),
                None => self.note(asked.notified.clone()).and_then(|()| self.begin(calls(&asked))),
            };
            self.go_on(asked, begun)
        });
        verdicts.collect()
    }

    /// Frames from the server, in order.
    pub fn from_server(&self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let ended: Vec<(Vec<Pending>, bool)> = frames.iter().map(|frame| self.answered(frame)).collect();
        let ends = |ended: &[Pending]| -> Vec<(Option<u64>, ToolCall)> {
            ended.iter().filter(|p| !p.lost).map(|p| (p.begun, p.call.clone())).collect()
        };
        let all: Vec<_> = ended.iter().flat_map(|(ended, _)| ends(ended)).collect();
        let together = all.len() > 1 && self.end(all).is_ok();
        let verdicts = ended.into_iter().map(|(ended, batch)| {
            let wanted = ends(&ended);
            if together || wanted.is_empty() {
                return Verdict::Forward;
            }
            match self.end(wanted) {
                Ok(()) => Verdict::Forward,
                Err(e) if self.settings.fail_open => {
                    self.lost(ended.len() as u64, &e);
                    Verdict::Forward
                }
                Err(e) => {
                    let message = format!("attestlog: the call was made, but could not be recorded: {e}");
                    let ids: Vec<Json> = ended.into_iter().map(|p| p.id).collect();
                    refusal(&ids, &message, batch)
                }
            }
        });
        verdicts.collect()
    }

    /// The host has gone, or told this process to end: what has no answer from now on was given up.
    pub fn host_gone(&self) {
        self.state().host_gone = true;
    }

    /// Calls that have waited too long count as timed out; their replies still go on.
    pub fn expire(&self) {
        let Some(limit) = self.settings.timeout else { return };
        let now = self.clock.monotonic();
        let mut state = self.state();
        let late = |p: &mut Pending| now.saturating_sub(p.since) >= limit;
        let late: Vec<Pending> = state.pending.extract_if(.., late).collect();
        drop(state);
        let message = format!("no reply within {} s", limit.as_secs_f64());
        self.give_up(late, Outcome::Timeout, "timeout", &message);
    }

    /// Everything is over: whatever has no end gets one that says why.
    pub fn close(&self, why: &str) {
        let mut state = self.state();
        let gone = state.host_gone;
        let pending = std::mem::take(&mut state.pending);
        let suspended = std::mem::take(&mut state.suspended);
        drop(state);
        match gone {
            true => self.give_up(pending, Outcome::Abandoned, "host_gone", "the host ended before there was a reply"),
            false => self.give_up(pending, Outcome::ProtocolError, "server_ended", why),
        }
        let message = "the server asked for input, and the call was not continued";
        self.give_up(suspended, Outcome::Abandoned, "input_required", message);
        let joint = self.state().joint.take();
        if let Some(Err(e)) = joint.map(Joint::close) {
            (self.complain)(&e.to_string());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn joint(&self) -> Result<Joint> {
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

    fn note(&self, calls: Vec<ToolCall>) -> Result<()> {
        self.end(calls.into_iter().map(|call| (None, call.outcome(Outcome::Abandoned))).collect())
    }

    fn end(&self, ends: Vec<(Option<u64>, ToolCall)>) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        self.joint()?.end_batch(ends)?;
        self.state().missing = 0;
        Ok(())
    }

    fn lost(&self, calls: u64, e: &Error) {
        self.state().missing += calls;
        (self.complain)(&format!("A CALL WAS NOT RECORDED and let through (--fail-open): {e}"));
    }

    fn give_up(&self, calls: Vec<Pending>, outcome: Outcome, kind: &str, why: &str) {
        for mut pending in calls.into_iter().filter(|p| !p.lost) {
            let call = self.finished(&mut pending).typed_error(kind, why).outcome(outcome);
            if let Err(e) = self.end(vec![(pending.begun, call)]) {
                (self.complain)(&format!("the end of a call could not be recorded: {e}"));
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

    /// What a frame from the host asks for, or what becomes of it without more.
    fn ask(&self, frame: &[u8]) -> Result<Asked, Verdict> {
        match self.state().piece(frame) {
            Some(true) => return Err(self.unreadable("is longer than 256 MiB")),
            Some(false) if self.settings.fail_open => return Err(Verdict::Forward),
            Some(false) => return Err(Verdict::Answer(Vec::new())),
            None if frame::hides(frame) => return Err(self.unreadable("has a line break in its middle")),
            None => {}
        }
        let (value, restated) = match frame::read(frame) {
            Read::Json { value, restated } => (value, restated),
            Read::Blank => return Err(Verdict::Forward),
            Read::Odd => {
                self.state().odd += 1;
                return Err(Verdict::Forward);
            }
            Read::Unreadable => {
                return Err(self.unreadable("is no JSON that all read alike (two members of one name, deep nesting)"));
            }
        };
        let mut asked = Asked { batch: matches!(value, Json::Array(_)), ..Asked::default() };
        let messages = match value {
            Json::Array(messages) => messages,
            one => vec![one],
        };
        for message in &messages {
            self.message(message, frame.len(), restated, &mut asked);
        }
        Ok(asked)
    }

    /// Nobody knows what a server would make of it, so none gets it. That it was refused is recorded.
    fn unreadable(&self, what: &str) -> Verdict {
        let message = format!("the frame {what}, and may be a tool call");
        let call = self.describe(&self.state(), "unreadable", &Object::new(), None);
        let call = call.typed_error("unreadable", message.as_str());
        let recorded = self.end(vec![(None, call.outcome(Outcome::Denied))]);
        if self.settings.fail_open {
            let e = recorded.err().unwrap_or_else(|| Error::invalid(message.as_str()));
            self.lost(1, &e);
            return Verdict::Forward;
        }
        refusal(&[Json::Null], &format!("attestlog: not forwarded: {message}"), false)
    }

    fn message(&self, message: &Json, size: usize, restated: bool, asked: &mut Asked) {
        let Some(method) = message.get("method").and_then(Json::as_str) else { return };
        let none = Json::Null;
        let params = message.get("params").unwrap_or(&none);
        let id = message.get("id").filter(|id| **id != Json::Null).cloned();
        asked.ids.extend(id.clone());
        let meta = |name: &str| params.get("_meta").and_then(|m| m.get(&format!("io.modelcontextprotocol/{name}")));
        let mut state = self.state();
        if let Some(client) = params.get("clientInfo").or(meta("clientInfo")) {
            state.client = Some(about(client));
        }
        if let Some(version) = params.get("protocolVersion").or(meta("protocolVersion")).and_then(Json::as_str) {
            state.protocol = Some(short(version));
        }
        match method {
            "notifications/cancelled" => {
                if let Some(id) = params.get("requestId") {
                    let reason = params.get("reason").and_then(Json::as_str).unwrap_or("cancelled by the host");
                    asked.cancelled.push((id.clone(), reason.to_owned()));
                }
            }
            "tasks/result" | "tasks/get" | "tasks/cancel" => {
                let task = params.get("taskId");
                let pending = state.pending.iter_mut().find(|p| task.is_some() && p.task.as_ref() == task);
                if let (Some(pending), Some(id)) = (pending, id) {
                    pending.polls.push(id);
                }
            }
            "tools/call" => {
                let name = params.get("name").and_then(Json::as_str).filter(|n| !n.is_empty()).unwrap_or("(no name)");
                let mut notes = Object::new();
                if restated {
                    notes.insert("restated", true);
                }
                let Some(id) = id else {
                    notes.insert("notification", true);
                    asked.notified.push(self.call(&state, name, params, size, notes));
                    return;
                };
                let call = self.call(&state, name, params, size, notes.clone()).call_id(id_text(&id));
                let again = params.get("requestState").is_some() || params.get("inputResponses").is_some();
                // With other arguments it is another call, whatever it says: what is in the log as begun is what runs.
                let same = |p: &Pending| p.call.tool_name == name && p.call.arguments == call.arguments;
                let at = |p: &Pending| same(p) && p.state.as_ref() == params.get("requestState");
                if let Some(at) = state.suspended.iter().position(at).filter(|_| again) {
                    let mut pending = state.suspended.remove(at);
                    pending.id = id;
                    asked.calls.push(pending);
                    return;
                }
                let since = self.clock.monotonic();
                let (begun, lost, rounds, polls) = (None, false, 0, Vec::new());
                let (state, task) = (None, None);
                asked.calls.push(Pending { id, call, begun, lost, notes, since, rounds, state, task, polls });
            }
            _ => {}
        }
    }

    fn call(&self, state: &State, name: &str, params: &Json, size: usize, mut notes: Object) -> ToolCall {
        let none = Json::Null;
        let meta = params.get("_meta").unwrap_or(&none);
        let mut arguments = params.get("arguments").cloned();
        if size > LARGE {
            notes.insert("request_bytes", size as u64);
            arguments = arguments.as_ref().map(frame::summary);
        }
        let named = params.get("arguments");
        let patients = self.settings.patients.find(name, named, None, &CallLimits::default()).unwrap_or_default();
        let mut call = self.describe(state, name, &notes, Some(meta)).timestamp(self.clock.now());
        call.arguments = arguments;
        patients.into_iter().fold(call, ToolCall::patient)
    }

    /// A call with everything that is known besides what it was called with.
    fn describe(&self, state: &State, tool: &str, notes: &Object, meta: Option<&Json>) -> ToolCall {
        let who = &self.settings.identity;
        let said = |names: &[&str]| names.iter().find_map(|name| meta?.get(name)?.as_str()).filter(|t| !t.is_empty());
        let user = who.user.as_deref().or_else(|| said(&["attestlog/user", "user_id", "userId", "enduser.id"]));
        let conversation = who.conversation.as_deref().or_else(|| {
            said(&["attestlog/conversation", "conversation_id", "conversationId", "gen_ai.conversation.id"])
        });
        let mut call =
            ToolCall::new(conversation.unwrap_or(&who.default_conversation), user.unwrap_or(&who.default_user), tool);
        let name = |about: &Option<Json>| about.as_ref()?.get("name")?.as_str().map(str::to_owned);
        call.agent_id = who.agent.clone().or_else(|| name(&state.client));
        call.tool_server = who.server.clone().or_else(|| name(&state.server)).or(Some(who.default_server.clone()));
        (call.model, call.purpose) = (who.model.clone(), who.purpose.clone());
        call = who.role.iter().fold(call, |call, role| call.role(role.clone()));
        let mut mcp = notes.clone();
        let parts = [("client", &state.client), ("server", &state.server)];
        parts.into_iter().for_each(|(key, part)| drop(part.as_ref().map(|part| mcp.insert(key, part.clone()))));
        if let Some(version) = &state.protocol {
            mcp.insert("protocol", version.as_str());
        }
        if let Some(hints) = state.hints.get(tool) {
            mcp.insert("untrusted_hints", hints.clone());
        }
        if state.odd > 0 {
            mcp.insert("unparsed_frames", state.odd);
        }
        if self.settings.fail_open {
            mcp.insert("fail_open", true);
        }
        if state.missing > 0 {
            mcp.insert("unrecorded_calls", state.missing);
        }
        call.metadata("mcp", mcp)
    }

    /// What becomes of a frame from the host whose beginnings were, or were not, recorded.
    fn go_on(&self, mut asked: Asked, begun: Result<Vec<u64>>) -> Verdict {
        let error = begun.as_ref().err().map(|e| (e.to_string(), self.settings.fail_open));
        if let Err(e) = &begun
            && self.settings.fail_open
        {
            self.lost((asked.calls.len() + asked.notified.len()) as u64, e);
        }
        if let Some((message, false)) = error {
            let message = format!("attestlog: the call was not made, because it could not be recorded: {message}");
            return refusal(&asked.ids, &message, asked.batch);
        }
        let lost = begun.is_err();
        let mut seqs = begun.unwrap_or_default().into_iter();
        let mut state = self.state();
        for mut pending in asked.calls.drain(..) {
            if pending.rounds == 0 && !self.is_read_only(&pending.call.tool_name) {
                pending.begun = seqs.next();
                pending.lost = lost;
            }
            state.pending.push(pending);
        }
        let mut given_up = Vec::new();
        for (id, reason) in asked.cancelled {
            let at = state.pending.iter().position(|p| p.id == id);
            given_up.extend(at.map(|at| (state.pending.remove(at), reason)));
        }
        drop(state);
        for (pending, reason) in given_up {
            let late = ["timed out", "timeout"].iter().any(|word| reason.to_lowercase().contains(word));
            let outcome = if late { Outcome::Timeout } else { Outcome::Abandoned };
            self.give_up(vec![pending], outcome, "cancelled", &reason);
        }
        Verdict::Forward
    }

    /// The calls that a frame from the server ends, with their ends.
    fn answered(&self, frame: &[u8]) -> (Vec<Pending>, bool) {
        let value = match frame::read(frame) {
            Read::Json { value, .. } => value,
            Read::Blank => return (Vec::new(), false),
            Read::Odd | Read::Unreadable => {
                self.state().odd += 1;
                return (Vec::new(), false);
            }
        };
        let batch = matches!(value, Json::Array(_));
        let messages = match value {
            Json::Array(messages) => messages,
            one => vec![one],
        };
        (messages.iter().filter_map(|message| self.answer(message, frame.len())).collect(), batch)
    }

    fn answer(&self, message: &Json, size: usize) -> Option<Pending> {
        if message.get("method").is_some() {
            return None;
        }
        let id = message.get("id")?;
        let mut state = self.state();
        let result = message.get("result");
        let Some(at) = state.pending.iter().position(|p| p.id == *id || p.polls.contains(id)) else {
            state.learn(result?);
            return None;
        };
        state.server = result.and_then(reply::server_of).or_else(|| state.server.take());
        let mut pending = state.pending.remove(at);
        pending.polls.retain(|poll| poll != id);
        let server = state.server.clone();
        let reply = reply::read(message, pending.task.is_some());
        match reply {
            Reply::Asks(asked) => {
                pending.rounds += 1;
                pending.state = asked.cloned();
                state.suspended.push(pending);
                return None;
            }
            Reply::Task(task) => {
                pending.task = task.cloned().or(pending.task);
                state.pending.push(pending);
                return None;
            }
            _ => drop(state),
        }
        // An error goes to whoever waits for this reply.
        pending.id = id.clone();
        if size > LARGE {
            pending.notes.insert("reply_bytes", size as u64);
        }
        if let Some(server) = server {
            pending.notes.insert("server", server);
        }
        let call = self.finished(&mut pending);
        pending.call = match reply {
            Reply::Cancelled => call.typed_error("cancelled", "the task was cancelled").outcome(Outcome::Abandoned),
            Reply::Error(error) => {
                let text = |name: &str| error.get(name).map(|v| v.as_str().map_or_else(|| id_text(v), str::to_owned));
                let code = text("code").unwrap_or_default();
                let outcome = match code.as_str() {
                    // What the reference implementations call a request that was not answered in time.
                    "-32001" => Outcome::Timeout,
                    "401" | "403" | "-32401" | "-32403" => Outcome::Denied,
                    _ => Outcome::ProtocolError,
                };
                call.typed_error(code, text("message").unwrap_or_default().replace('\0', "\u{2400}")).outcome(outcome)
            }
            Reply::Result(result) => {
                let name = call.tool_name.clone();
                let seen = reply::content_of(result);
                let paths = &self.settings.patients;
                let patients = paths.find(&name, None, Some(&seen), &CallLimits::default()).unwrap_or_default();
                let call = patients.into_iter().fold(call, ToolCall::patient);
                call.result(if size > LARGE { frame::summary(result) } else { result.clone() })
            }
            _ => {
                call.typed_error("no_result", "the reply has neither result nor error").outcome(Outcome::ProtocolError)
            }
        };
        Some(pending)
    }

    /// The call with what is known of it at its end.
    fn finished(&self, pending: &mut Pending) -> ToolCall {
        let took = self.clock.monotonic().saturating_sub(pending.since);
        let mut call = pending.call.clone().duration(took);
        if pending.rounds > 0 {
            pending.notes.insert("rounds", pending.rounds + 1);
        }
        if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
            pending.notes.iter().for_each(|(key, value)| drop(mcp.insert(key, value.clone())));
        }
        call
    }
}

impl State {
    /// Takes what the server says of itself and of its tools. It is its own word, and recorded as such.
    fn learn(&mut self, result: &Json) {
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

    /// Whether a frame from the host is a piece of one that is too long to be looked at, and whether the first.
    fn piece(&mut self, frame: &[u8]) -> Option<bool> {
        let first = !self.in_pieces;
        let piece = self.in_pieces || frame.len() > MAX_FRAME;
        self.in_pieces = piece && !frame.ends_with(b"\n");
        piece.then_some(first)
    }
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

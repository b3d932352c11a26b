//! The host's side: what it requests, and what is recorded before its frame is forwarded.
//!
//! Invariant R45: the input with which a call is continued is on the disk before the server gets it, as an entry that
//! refers to the call.

use super::answering::same_id;
use super::beside::{DEEPEST, NOTES, is_name};
use super::patients::{TOO_LONG, refused};
use super::{Asked, MOST_OPEN, Observer, Pending, Refused, State, id_text, refusal, shortened_only};
use crate::mcp::Verdict;
use crate::mcp::ids;
use crate::mcp::readings::Readings;
use crate::mcp::reply::{about, short};
use crate::mcp::strict::{self, Clear, Doubt, arguments_alike};
use crate::shorten::{LARGE, shortened};
use attestlog::entry::{Source, SourceKind};
use attestlog::json::{Json, Object};
use attestlog::redact::patient_of_address;
use attestlog::{Error, ErrorKind, Result};
use attestlog::{Outcome, ToolCall};

/// Methods that by the protocol neither read data nor act. Every other method is recorded like a call, under its own
/// name: how a server handles an unknown method cannot be known here.
const NO_ACCESSES: &[&str] = &[
    "initialize",
    "server/discover",
    "ping",
    "logging/setLevel",
    "tools/list",
    "prompts/list",
    "resources/unsubscribe",
    "tasks/list",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
];
/// Requests of the server whose answers are not recorded, and the only member that such an answer has: whether the host
/// is alive, and its root folders.
const NO_ANSWERS: &[(&str, Option<&str>)] = &[("ping", None), ("roots/list", Some("roots"))];
/// The error of a host that does not know a method.
const UNKNOWN_METHOD: &str = "-32601";

/// The member of a request that holds the input with which a call is continued.
const ANSWERS: &str = "inputResponses";
/// The tool name under which that input is recorded.
const INPUT: &str = "input_responses";

/// Note of a call whose `_meta` gives the caller in a form that names nobody.
const NAMELESS: &str = "nameless";

/// Note of a call made while another request with the same id was open: an answer may be for either.
const SHARED: &str = "shared_id";

/// One message, and the parts of its frame that concern all messages.
pub(super) struct Around<'a> {
    frame: &'a Clear,
    pub(super) message: &'a Json,
    size: usize,
    /// The message's index in its batch.
    index: Option<usize>,
}

impl Observer {
    /// Reads a frame from the host: what it requests, or a decision that needs no recording of calls.
    pub(super) fn ask(&self, frame: &[u8]) -> Result<Asked, Refused> {
        // Not in the head of the `match`, which would hold the lock until its end.
        let piece = self.state().from_host.next(frame);
        match piece {
            Some(true) => {
                let doubt = Doubt::new("is longer than 256 MiB: send less at once");
                return Err(self.doubtful(doubt, frame));
            }
            Some(false) if self.settings.fail_open => return Err(Verdict::Forward),
            Some(false) => return Err(Verdict::Answer(Vec::new())),
            None => {}
        }
        let clear = match strict::read(frame) {
            Ok(Some(clear)) => clear,
            Ok(None) => {
                if !frame.trim_ascii().is_empty() {
                    self.state().odd += 1;
                }
                return Err(Verdict::Forward);
            }
            Err(doubt) => return Err(self.doubtful(doubt, frame)),
        };
        let mut asked = Asked { batch: clear.batch, ..Asked::default() };
        for (i, message) in clear.messages.iter().enumerate() {
            let around = Around { frame: &clear, message, size: frame.len(), index: clear.batch.then_some(i) };
            self.message(&around, &mut asked);
        }
        Ok(asked)
    }

    /// Handles a frame that servers may read differently: no server gets it, unless the operator lets frames through
    /// unread. Both cases are recorded.
    fn doubtful(&self, mut doubt: Doubt, frame: &[u8]) -> Verdict {
        let message = format!("servers differ in what they make of a frame like this. It {}", doubt.what);
        let call = self.describe(&self.state(), "unreadable", &Object::new(), None);
        let (text, outcome) = match self.settings.fail_open {
            true => (format!("passed on unread (--fail-open): {message}"), Outcome::Abandoned),
            false => (message.clone(), Outcome::Denied),
        };
        let recorded = self.end(vec![(None, call.typed_error("unreadable", text).outcome(outcome))]);
        if self.settings.fail_open {
            let e = recorded.err().unwrap_or_else(|| Error::new(ErrorKind::InvalidInput, message.as_str()));
            self.lost(1, &e);
            return Verdict::Forward;
        }
        if doubt.ids.is_empty() {
            doubt.ids.extend(ids::of(frame).into_iter().filter(|(_, is_request)| *is_request).map(|(id, _)| id));
        }
        let nobody = [Json::Null];
        let ids = if doubt.ids.is_empty() { &nobody } else { doubt.ids.as_slice() };
        refusal(ids, &format!("attestlog: not forwarded: {message}"), ids.len() > 1)
    }

    fn message(&self, around: &Around<'_>, asked: &mut Asked) {
        let message = around.message;
        let Some(method) = message.get("method").and_then(Json::as_str) else {
            asked.whole.extend(self.answer_of_host(around));
            return;
        };
        let none = Json::Null;
        let params = message.get("params").unwrap_or(&none);
        let id = message.get("id").filter(|id| **id != Json::Null).cloned();
        asked.ids.extend(id.clone());
        let meta = |name: &str| params.get("_meta").and_then(|m| m.get(&format!("io.modelcontextprotocol/{name}")));
        // The server's side also removes calls that wait to be continued.
        let _ending = continues(params).then(|| self.ending());
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
            "tasks/result" | "tasks/get" | "tasks/cancel" | "tasks/update" => {
                let task = params.get("taskId");
                let State { pending, given_up, .. } = &mut *state;
                // A given-up call may still get a result.
                let mut all = pending.iter_mut().chain(given_up.iter_mut().rev());
                let found = all.find(|p| task.is_some() && p.task.as_ref() == task);
                match (found, method) {
                    (Some(pending), "tasks/update") => {
                        asked.whole.push(self.given(pending, params.get(ANSWERS), id.as_ref(), around));
                        pending.polls.extend(id.map(|id| (id, false)));
                    }
                    (Some(pending), _) => pending.polls.extend(id.map(|id| (id, method == "tasks/result"))),
                    // An unknown task, for example from an earlier run: its result belongs to no call here.
                    (None, _) => {
                        let call = self.call(&state, method, (method, params), around);
                        self.asked_for(&mut state, call, id, (params, around), asked);
                    }
                }
            }
            "tools/call" => {
                let name = params.get("name").and_then(Json::as_str).filter(|n| !n.is_empty()).unwrap_or("(no name)");
                let call = self.call(&state, name, (method, params), around);
                self.asked_for(&mut state, call, id, (params, around), asked);
            }
            _ if !NO_ACCESSES.contains(&method) => {
                let name = if method.is_empty() { "(no name)" } else { method };
                let call = self.call(&state, name, (method, params), around);
                self.asked_for(&mut state, call, id, (params, around), asked);
            }
            _ => asked.others.extend(id),
        }
    }

    /// The host's answer to a request of the server: recorded before the server gets it, like the input of a continued
    /// call.
    fn answer_of_host(&self, around: &Around<'_>) -> Option<ToolCall> {
        let answer = around.message.get("result").or_else(|| around.message.get("error"))?;
        let id = around.message.get("id").filter(|id| **id != Json::Null);
        let mut state = self.state();
        let mut readings = Readings::default();
        id.into_iter().for_each(|id| readings.add(id));
        // A server may ask under one id twice, or spell it so that it and the proxy read the answer's differently.
        let is_known = |method: &str| NO_ANSWERS.iter().any(|(known, _)| *known == method);
        let may_be = |telling: bool| {
            state.asked.iter().position(|(ids, method, _)| is_known(method) != telling && readings.may_be(ids))
        };
        let at = may_be(true).or_else(|| may_be(false));
        let (_, method, params) = at.and_then(|at| state.asked.remove(at)).unwrap_or_default();
        if tells_nothing(&method, around.message) {
            return None;
        }
        let mut notes = Object::new();
        notes.insert("method", if method.is_empty() { "(nothing that was asked)" } else { method.as_str() });
        if let Some(params) = params {
            notes.insert("asked", params);
        }
        if around.message.get("result").is_none() {
            notes.insert("error_answer", true);
        }
        let call = self.describe(&state, INPUT, &notes, None);
        drop(state);
        let member = if around.message.get("result").is_some() { "result" } else { "error" };
        let call = self.with_arguments(call, answer, (around.all_repeats(), around.all_digits()), member);
        Some(match id {
            Some(id) => call.call_id(id_text(id)),
            None => call,
        })
    }

    /// The call with `value` as its arguments; `value` was in `member` of the message.
    fn with_arguments(
        &self,
        mut call: ToolCall,
        value: &Json,
        (repeats, digits): (Vec<String>, Vec<String>),
        member: &str,
    ) -> ToolCall {
        let inside = |place: &String| {
            let rest = place.strip_prefix(member)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("arguments{rest}"))
        };
        let repeats = repeats.iter().filter_map(inside).take(20);
        let alike: Vec<Json> = arguments_alike(value).into_iter().chain(repeats).map(Json::from).collect();
        if !alike.is_empty() {
            call = note(call, "ambiguous_members", alike);
        }
        let short = shortened(value, "arguments");
        if let Some((_, marks)) = &short {
            call = note(call, "shortened", marks.clone());
        }
        call.arguments = Some(short.map_or_else(|| value.clone(), |(short, _)| short));
        call.restated = digits.iter().filter_map(inside).collect();
        call = self.patients_within(INPUT, value, DEEPEST).into_iter().fold(call, ToolCall::patient);
        call.timestamp(self.clock.now()).outcome(Outcome::Ok)
    }

    fn asked_for(
        &self,
        state: &mut State,
        call: ToolCall,
        id: Option<Json>,
        (params, around): (&Json, &Around<'_>),
        asked: &mut Asked,
    ) {
        let nameless = call.session_metadata.get("mcp").and_then(|mcp| mcp.get(NAMELESS)).and_then(Json::as_str);
        let nameless = nameless.map(|name| {
            let what = format!("_meta says in {name} who calls, and that is neither a text nor a number: send one");
            Error::new(ErrorKind::InvalidInput, what)
        });
        asked.refused = asked.refused.take().or(nameless).or_else(|| refused(&call));
        let Some(id) = id else {
            asked.whole.push(note(call, "notification", true).outcome(Outcome::Abandoned));
            return;
        };
        let call = call.call_id(id_text(&id));
        let again = continues(params);
        // A request with other arguments, or for another user, is another call, whatever its state says: what runs must
        // be what the log has as begun.
        let same = |p: &Pending| is_same(&p.call, &call);
        let at = |p: &Pending| same(p) && p.state.as_ref() == params.get("requestState");
        if let Some(at) = state.suspended.iter().position(at).filter(|_| again) {
            let mut pending = state.suspended.remove(at);
            pending.id = id;
            if let Some(answers) = params.get(ANSWERS) {
                asked.whole.push(self.given(&pending, Some(answers), Some(&pending.id), around));
            }
            asked.calls.push(pending);
            return;
        }
        let mut call = call;
        if let Some(answers) = params.get(ANSWERS) {
            call = note(call, "input_responses", vec![shortened_only(answers, ANSWERS)]);
        }
        if let Some(state) = params.get("requestState") {
            call = note(call, "request_state", shortened_only(state, "request_state"));
        }
        let progress = params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
        asked.calls.push(Pending::new(id, call, progress, self.clock.monotonic()));
    }

    /// An entry for the input with which a call is continued. It refers to the call and is on the disk before the
    /// server gets the input, whatever becomes of the call.
    fn given(&self, pending: &Pending, answers: Option<&Json>, id: Option<&Json>, around: &Around<'_>) -> ToolCall {
        let mut call = note(pending.call.clone(), "tool", pending.call.tool_name.as_str());
        for key in
            ["ambiguous_members", "shortened", "untrusted_hints", "request_bytes", "request_state"].iter().chain(&NOTES)
        {
            call = without(call, key);
        }
        let nothing = Json::Null;
        let places = (around.all_repeats(), around.all_digits());
        call = self.with_arguments(call, answers.unwrap_or(&nothing), places, "params.inputResponses");
        call.tool_name = INPUT.to_owned();
        call = self
            .beside(INPUT, around, Some(&["name", "arguments", "_meta", "taskId", "requestState", ANSWERS]))
            .put_into(call);
        call.call_id = id.map(id_text);
        match pending.begun {
            Some(begun) => call.follow_up_of(begun),
            None => call,
        }
    }

    /// A tool call, or another access that is recorded like one.
    fn call(&self, state: &State, name: &str, (method, params): (&str, &Json), around: &Around<'_>) -> ToolCall {
        let none = Json::Null;
        let meta = params.get("_meta").unwrap_or(&none);
        let mut notes = Object::new();
        let is_tool = method == "tools/call";
        // A tool call's members are copied only once they are known to be small enough to keep.
        let members = match params {
            Json::Object(members) if !is_tool => {
                let mut members = members.clone();
                members.remove("_meta");
                Some(Json::from(members))
            }
            _ => None,
        };
        let arguments = members.as_ref().or_else(|| params.get("arguments").filter(|_| is_tool));
        if !is_tool {
            notes.insert("method", method);
        }
        if around.frame.lenient_frame {
            notes.insert("restated", true);
        }
        if around.size > LARGE {
            notes.insert("request_bytes", around.size as u64);
        }
        let whole = (state.log.as_ref(), around.size);
        let (mut patients, too_long) = self.patients(whole, name, arguments, None);
        if too_long > 0 {
            notes.insert(TOO_LONG, too_long as u64);
        }
        patients.extend(params.get("uri").and_then(Json::as_str).filter(|_| !is_tool).and_then(patient_of_address));
        let inside = is_tool.then_some("arguments");
        let repeats = around.repeats(inside);
        let alike: Vec<Json> = arguments.into_iter().flat_map(arguments_alike).chain(repeats).map(Json::from).collect();
        if !alike.is_empty() {
            notes.insert("ambiguous_members", alike);
        }
        let arguments = arguments.map(|whole| match shortened(whole, "arguments") {
            Some((short, marks)) => {
                notes.insert("shortened", marks);
                short
            }
            None => whole.clone(),
        });
        let mut call = self.describe(state, name, &notes, Some(meta)).timestamp(self.clock.now());
        call.arguments = arguments;
        call.restated = around.digits(inside);
        let call = patients.into_iter().fold(call, ToolCall::patient);
        match is_tool {
            true => self.beside_tool(name, around).put_into(call),
            false => self.beside(name, around, None).put_into(call),
        }
    }

    /// A call with everything that is known apart from its arguments.
    pub(super) fn describe(&self, state: &State, tool: &str, notes: &Object, meta: Option<&Json>) -> ToolCall {
        let who = &self.settings.identity;
        let mut nameless = None;
        let mut said = |operator: &Option<String>, names: &[&'static str], default: &str| {
            operator.clone().unwrap_or_else(|| {
                let (name, value) = said(meta, names).unzip();
                nameless = nameless.or(name.filter(|_| !value.is_some_and(is_name)));
                value.map_or_else(|| default.to_owned(), id_text)
            })
        };
        let user = said(&who.user, &["attestlog/user", "user_id", "userId", "enduser.id"], &who.default_user);
        let names = ["attestlog/conversation", "conversation_id", "conversationId", "gen_ai.conversation.id"];
        let conversation = said(&who.conversation, &names, &who.default_conversation);
        let mut call = ToolCall::new(conversation, user, tool);
        call.circumstances.sources.push(Source::new(SourceKind::Proxy));
        call.agent_id = who.agent.clone().or_else(|| name_of(&state.client));
        call.tool_server = Some(self.server_name(state));
        (call.model, call.purpose) = (who.model.clone(), who.purpose.clone());
        call = who.role.iter().fold(call, |call, role| call.role(role.clone()));
        let trace = meta.and_then(|meta| meta.get("traceparent")).and_then(Json::as_str);
        if let Some((trace, span)) = trace.and_then(trace_of) {
            call = call.trace(trace, Some(&span));
        }
        let mut mcp = notes.clone();
        if let Some(name) = nameless {
            mcp.insert(NAMELESS, name);
        }
        let parts = [("client", &state.client), ("server", &state.server)];
        parts.into_iter().for_each(|(key, part)| drop(part.as_ref().map(|part| mcp.insert(key, part.clone()))));
        if let Some(version) = &state.protocol {
            mcp.insert("protocol", version.as_str());
        }
        if let Some(hints) = state.hints.get(tool) {
            mcp.insert("untrusted_hints", hints.clone());
        }
        state.count_into(&mut mcp);
        if self.settings.fail_open {
            mcp.insert("fail_open", true);
        }
        if state.missing > 0 {
            mcp.insert("unrecorded_calls", state.missing);
        }
        call.metadata("mcp", mcp)
    }

    /// The server's name, as far as it is known now.
    pub(super) fn server_name(&self, state: &State) -> String {
        let who = &self.settings.identity;
        who.server.clone().or_else(|| name_of(&state.server)).unwrap_or_else(|| who.default_server.clone())
    }

    /// The decision about a frame from the host, after recording its begin entries succeeded or failed.
    pub(super) fn go_on(&self, mut asked: Asked, begun: Result<Vec<u64>>) -> Verdict {
        let error = begun.as_ref().err().map(|e| (e.to_string(), self.settings.fail_open));
        if let Err(e) = &begun
            && self.settings.fail_open
        {
            self.lost((asked.calls.len() + asked.whole.len()) as u64, e);
        }
        if let Some((message, false)) = error {
            // The call was not continued and can still be.
            self.state().suspended.extend(asked.calls.into_iter().filter(|p| p.rounds > 0));
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
            let mut shared = state.others.iter().any(|other| same_id(other, &pending.id));
            for other in state.pending.iter_mut().filter(|other| same_id(&other.id, &pending.id)) {
                other.notes.insert(SHARED, true);
                shared = true;
            }
            if shared {
                pending.notes.insert(SHARED, true);
            }
            state.pending.push(pending);
        }
        for id in asked.others {
            for call in state.pending.iter_mut().filter(|call| same_id(&call.id, &id)) {
                call.notes.insert(SHARED, true);
            }
            // The oldest unanswered request is forgotten; a late answer to it then counts as unmatched.
            if state.others.len() >= MOST_OPEN {
                state.others.pop_front();
            }
            state.others.push_back(id);
        }
        drop(state);
        if asked.cancelled.is_empty() {
            return Verdict::Forward;
        }
        let _ending = self.ending();
        let mut state = self.state();
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
}

impl Around<'_> {
    /// The places of duplicate members in the message.
    pub(super) fn all_repeats(&self) -> Vec<String> {
        let index = self.index.map(|i| i.to_string());
        let inside = |steps: &Vec<String>| match &index {
            Some(i) => steps.strip_prefix(std::slice::from_ref(i)).map(|steps| steps.join(".")),
            None => Some(steps.join(".")),
        };
        self.frame.repeats.iter().filter_map(inside).collect()
    }

    /// The places of numbers in the message that became strings of digits.
    pub(super) fn all_digits(&self) -> Vec<String> {
        let head = self.index.map_or(String::new(), |i| format!("[{i}]."));
        let digits = self.frame.lossy_numbers.iter().map(ToString::to_string);
        digits.filter_map(|path| path.strip_prefix(&head).map(str::to_owned)).collect()
    }

    /// A place in `params`, or in a member of `params`, by its name in the entry.
    fn place(&self, steps: &[String], member: Option<&str>) -> Option<String> {
        let inside = match self.index {
            Some(i) => steps.strip_prefix(std::slice::from_ref(&i.to_string()))?,
            None => steps,
        };
        let inside = inside.strip_prefix(&["params".to_owned()])?;
        let inside = match member {
            Some(member) => inside.strip_prefix(&[member.to_owned()])?,
            None => inside,
        };
        Some(["arguments"].into_iter().chain(inside.iter().map(String::as_str)).collect::<Vec<_>>().join("."))
    }

    fn repeats(&self, member: Option<&str>) -> Vec<String> {
        self.frame.repeats.iter().filter_map(|steps| self.place(steps, member)).take(20).collect()
    }

    fn digits(&self, member: Option<&str>) -> Vec<String> {
        let head = self.index.map_or(String::new(), |i| format!("[{i}].")) + "params.";
        let digits = self.frame.lossy_numbers.iter().filter_map(|path| {
            let path = path.to_string();
            let inside = path.strip_prefix(&head)?;
            let Some(member) = member else { return Some(format!("arguments.{inside}")) };
            let rest = inside.strip_prefix(member)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("arguments{rest}"))
        });
        digits.collect()
    }
}

/// Whether an answer says no more than an answer to one of NO_ANSWERS does. Its id alone does not show that it is one.
fn tells_nothing(method: &str, answer: &Json) -> bool {
    let Some((_, member)) = NO_ANSWERS.iter().find(|(known, _)| *known == method) else { return false };
    match (answer.get("result"), answer.get("error")) {
        (Some(Json::Object(result)), None) => result.iter().all(|(name, _)| Some(name) == *member),
        (None, Some(error)) => error.get("code").is_some_and(|code| id_text(code) == UNKNOWN_METHOD),
        _ => false,
    }
}

/// Whether a request may continue a call that asked for input.
fn continues(params: &Json) -> bool {
    params.get("requestState").is_some() || params.get(ANSWERS).is_some()
}

/// The first of these members of `_meta` that has a value.
fn said<'a>(meta: Option<&'a Json>, names: &[&'static str]) -> Option<(&'static str, &'a Json)> {
    let empty = |value: &Json| *value == Json::Null || value.as_str().is_some() && !is_name(value);
    let member = |name: &&'static str| Some((*name, meta?.get(name)?)).filter(|(_, value)| !empty(value));
    names.iter().find_map(member)
}

/// The name that a client or server gives itself.
fn name_of(about: &Option<Json>) -> Option<String> {
    about.as_ref()?.get("name")?.as_str().filter(|name| !name.trim().is_empty()).map(str::to_owned)
}

/// Whether a call continues the begun one: tool, arguments and caller are the same, and none of them was shortened or
/// restated.
fn is_same(begun: &ToolCall, call: &ToolCall) -> bool {
    let note = |call: &ToolCall, key: &str| call.session_metadata.get("mcp").and_then(|mcp| mcp.get(key)).cloned();
    let whole = |call: &ToolCall| note(call, "shortened").is_none() && note(call, "restated").is_none();
    let trace = |call: &ToolCall| call.circumstances.trace_id.clone();
    begun.tool_name == call.tool_name
        && begun.arguments == call.arguments
        && begun.user_id == call.user_id
        && begun.conversation_id == call.conversation_id
        && trace(begun) == trace(call)
        && NOTES.iter().all(|key| note(begun, key) == note(call, key))
        && whole(begun)
        && whole(call)
}

/// The call with a note under `session_metadata.mcp`.
pub(super) fn note(mut call: ToolCall, key: &str, value: impl Into<Json>) -> ToolCall {
    if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
        mcp.insert(key, value);
    }
    call
}

fn without(mut call: ToolCall, key: &str) -> ToolCall {
    if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
        mcp.remove(key);
    }
    call
}

/// Trace id and span id of a W3C `traceparent`.
pub(super) fn trace_of(text: &str) -> Option<(String, String)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16);
    sound.then(|| (trace.to_lowercase(), span.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read() {
        let parent = "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, span) = trace_of(parent).unwrap();
        assert_eq!((trace.as_str(), span.as_str()), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
        assert_eq!(trace_of("00-xyz-b7ad6b7169203331-01"), None);
    }
}

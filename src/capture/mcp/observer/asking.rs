//! The host's side: what it asks for, and what is recorded before that goes on.

use super::{Asked, MOST_OPEN, Observer, Pending, Refused, State, id_text, refusal};
use crate::capture::mcp::Verdict;
use crate::capture::mcp::reply::{about, short};
use crate::capture::mcp::shorten::{LARGE, shortened};
use crate::capture::mcp::strict::{self, Clear, Doubt, places_alike};
use crate::entry::{CallLimits, Outcome, ToolCall};
use crate::json::{Json, Object};
use crate::{Error, Result};

/// What is read besides tools' results and is recorded like a call, under the method's name.
const ACCESSES: &[&str] =
    &["resources/read", "resources/templates/list", "resources/subscribe", "prompts/get", "completion/complete"];

/// What of a frame concerns all its messages.
struct Around<'a> {
    frame: &'a Clear,
    size: usize,
    /// Which message of a batch it is.
    index: Option<usize>,
}

impl Observer {
    /// What a frame from the host asks for, or what becomes of it without more.
    pub(super) fn ask(&self, frame: &[u8]) -> Result<Asked, Refused> {
        // Not in the head of the `match`: the lock would be held to its end.
        let piece = self.state().piece(frame);
        match piece {
            Some(true) => return Err(self.doubtful(&Doubt::new("is longer than 256 MiB"))),
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
            Err(doubt) => return Err(self.doubtful(&doubt)),
        };
        let mut asked = Asked { batch: clear.batch, ..Asked::default() };
        for (i, message) in clear.messages.iter().enumerate() {
            let around = Around { frame: &clear, size: frame.len(), index: clear.batch.then_some(i) };
            self.message(message, &around, &mut asked);
        }
        Ok(asked)
    }

    /// Nobody knows what a server would make of it, so none gets it, unless the operator lets it through unread. Either is
    /// recorded.
    fn doubtful(&self, doubt: &Doubt) -> Verdict {
        let message = format!("the frame {}, and servers differ in what they make of that", doubt.what);
        let call = self.describe(&self.state(), "unreadable", &Object::new(), None);
        let (text, outcome) = match self.settings.fail_open {
            true => (format!("passed on unread (--fail-open): {message}"), Outcome::Abandoned),
            false => (message.clone(), Outcome::Denied),
        };
        let recorded = self.end(vec![(None, call.typed_error("unreadable", text).outcome(outcome))]);
        if self.settings.fail_open {
            let e = recorded.err().unwrap_or_else(|| Error::invalid(message.as_str()));
            self.lost(1, &e);
            return Verdict::Forward;
        }
        let nobody = [Json::Null];
        let ids = if doubt.ids.is_empty() { &nobody } else { doubt.ids.as_slice() };
        refusal(ids, &format!("attestlog: not forwarded: {message}"), ids.len() > 1)
    }

    fn message(&self, message: &Json, around: &Around<'_>, asked: &mut Asked) {
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
                match (pending, id) {
                    (Some(pending), Some(id)) => pending.polls.push(id),
                    (_, id) => asked.others.extend(id),
                }
            }
            "tools/call" => {
                let name = params.get("name").and_then(Json::as_str).filter(|n| !n.is_empty()).unwrap_or("(no name)");
                let call = self.call(&state, name, (method, params), around);
                self.asked_for(&mut state, call, id, params, asked);
            }
            _ if ACCESSES.contains(&method) => {
                let call = self.call(&state, method, (method, params), around);
                self.asked_for(&mut state, call, id, params, asked);
            }
            _ => asked.others.extend(id),
        }
    }

    fn asked_for(&self, state: &mut State, call: ToolCall, id: Option<Json>, params: &Json, asked: &mut Asked) {
        let Some(id) = id else {
            asked.notified.push(note(call, "notification", true));
            return;
        };
        let call = call.call_id(id_text(&id));
        let again = params.get("requestState").is_some() || params.get("inputResponses").is_some();
        let answers = params.get("inputResponses").map(|a| shortened(a, "inputResponses").map_or(a.clone(), |s| s.0));
        // With other arguments, or for somebody else, it is another call, whatever it says: what is in the log as begun is what runs.
        let same = |p: &Pending| is_same(&p.call, &call);
        let at = |p: &Pending| same(p) && p.state.as_ref() == params.get("requestState");
        if let Some(at) = state.suspended.iter().position(at).filter(|_| again) {
            let mut pending = state.suspended.remove(at);
            pending.id = id;
            if let Some(answers) = answers {
                let mut all = match pending.notes.get("input_responses") {
                    Some(Json::Array(before)) => before.clone(),
                    _ => Vec::new(),
                };
                all.push(answers);
                pending.notes.insert("input_responses", all);
            }
            asked.calls.push(pending);
            return;
        }
        let call = match answers {
            Some(answers) => note(call, "input_responses", vec![answers]),
            None => call,
        };
        let progress = params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
        asked.calls.push(Pending::new(id, call, progress, self.clock.monotonic()));
    }

    /// A call, or an access that is recorded like one.
    fn call(&self, state: &State, name: &str, (method, params): (&str, &Json), around: &Around<'_>) -> ToolCall {
        let none = Json::Null;
        let meta = params.get("_meta").unwrap_or(&none);
        let mut notes = Object::new();
        let is_tool = method == "tools/call";
        let mut arguments = match (is_tool, params) {
            (true, _) => params.get("arguments").cloned(),
            (false, Json::Object(members)) => {
                let mut members = members.clone();
                members.remove("_meta");
                Some(members.into())
            }
            (false, _) => None,
        };
        if !is_tool {
            notes.insert("method", method);
        }
        if around.frame.restated {
            notes.insert("restated", true);
        }
        if around.size > LARGE {
            notes.insert("request_bytes", around.size as u64);
        }
        let patients = self.settings.patients.find(name, arguments.as_ref(), None, &CallLimits::default());
        let mut patients = patients.unwrap_or_default();
        patients.extend(params.get("uri").and_then(Json::as_str).filter(|_| !is_tool).and_then(patient_of));
        let repeats = around.repeats(is_tool);
        let alike: Vec<Json> = arguments.iter().flat_map(places_alike).chain(repeats).map(Json::from).collect();
        if !alike.is_empty() {
            notes.insert("ambiguous_members", alike);
        }
        if let Some((short, marks)) = arguments.as_ref().and_then(|a| shortened(a, "arguments")) {
            arguments = Some(short);
            notes.insert("shortened", marks);
        }
        let mut call = self.describe(state, name, &notes, Some(meta)).timestamp(self.clock.now());
        call.arguments = arguments;
        call.restated = around.digits(is_tool);
        patients.into_iter().fold(call, ToolCall::patient)
    }

    /// A call with everything that is known besides what it was called with.
    pub(super) fn describe(&self, state: &State, tool: &str, notes: &Object, meta: Option<&Json>) -> ToolCall {
        let who = &self.settings.identity;
        let said = |names: &[&str]| names.iter().find_map(|name| meta?.get(name)?.as_str()).filter(|t| !t.is_empty());
        let user = who.user.as_deref().or_else(|| said(&["attestlog/user", "user_id", "userId", "enduser.id"]));
        let conversation = who.conversation.as_deref().or_else(|| {
            said(&["attestlog/conversation", "conversation_id", "conversationId", "gen_ai.conversation.id"])
        });
        let mut call =
            ToolCall::new(conversation.unwrap_or(&who.default_conversation), user.unwrap_or(&who.default_user), tool);
        call.agent_id = who.agent.clone().or_else(|| name_of(&state.client));
        call.tool_server = Some(self.server_name(state));
        (call.model, call.purpose) = (who.model.clone(), who.purpose.clone());
        call = who.role.iter().fold(call, |call, role| call.role(role.clone()));
        if let Some((trace, span)) = said(&["traceparent"]).and_then(trace_of) {
            call = call.metadata("trace_id", trace).metadata("span_id", span);
        }
        let mut mcp = notes.clone();
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

    /// What the server is called, as far as is known now.
    pub(super) fn server_name(&self, state: &State) -> String {
        let who = &self.settings.identity;
        who.server.clone().or_else(|| name_of(&state.server)).unwrap_or_else(|| who.default_server.clone())
    }

    /// What becomes of a frame from the host whose beginnings were, or were not, recorded.
    pub(super) fn go_on(&self, mut asked: Asked, begun: Result<Vec<u64>>) -> Verdict {
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
        for id in asked.others {
            // What is never answered is forgotten some time; a late answer to it is then one that fits nothing.
            if state.others.len() >= MOST_OPEN {
                state.others.pop_front();
            }
            state.others.push_back(id);
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
}

impl Around<'_> {
    /// The same places as the entry names them.
    fn place(&self, steps: &[String], is_tool: bool) -> Option<String> {
        let inside = match self.index {
            Some(i) => steps.strip_prefix(std::slice::from_ref(&i.to_string()))?,
            None => steps,
        };
        let inside = inside.strip_prefix(&["params".to_owned()])?;
        let inside = if is_tool { inside.strip_prefix(&["arguments".to_owned()])? } else { inside };
        Some(["arguments"].into_iter().chain(inside.iter().map(String::as_str)).collect::<Vec<_>>().join("."))
    }

    fn repeats(&self, is_tool: bool) -> Vec<String> {
        self.frame.repeats.iter().filter_map(|steps| self.place(steps, is_tool)).take(20).collect()
    }

    fn digits(&self, is_tool: bool) -> Vec<String> {
        let head = self.index.map_or(String::new(), |i| format!("[{i}].")) + "params.";
        let digits = self.frame.digits.iter().filter_map(|path| {
            let path = path.to_string();
            let inside = path.strip_prefix(&head)?;
            match is_tool {
                true => inside.starts_with("arguments").then(|| inside.to_owned()),
                false => Some(format!("arguments.{inside}")),
            }
        });
        digits.collect()
    }
}

/// What a client or server calls itself.
fn name_of(about: &Option<Json>) -> Option<String> {
    about.as_ref()?.get("name")?.as_str().filter(|name| !name.trim().is_empty()).map(str::to_owned)
}

/// Whether a call is what another goes on with: what is called, and for whom, is the same, and all of it is known.
fn is_same(begun: &ToolCall, call: &ToolCall) -> bool {
    let note = |call: &ToolCall, key: &str| call.session_metadata.get("mcp").and_then(|mcp| mcp.get(key)).cloned();
    let whole = |call: &ToolCall| note(call, "shortened").is_none() && note(call, "restated").is_none();
    let trace = |call: &ToolCall| call.session_metadata.get("trace_id").cloned();
    begun.tool_name == call.tool_name
        && begun.arguments == call.arguments
        && begun.user_id == call.user_id
        && begun.conversation_id == call.conversation_id
        && trace(begun) == trace(call)
        && whole(begun)
        && whole(call)
}

/// The call with a note among what the protocol says of it.
pub(super) fn note(mut call: ToolCall, key: &str, value: impl Into<Json>) -> ToolCall {
    if let Some(Json::Object(mcp)) = call.session_metadata.get_mut("mcp") {
        mcp.insert(key, value);
    }
    call
}

/// Trace and span of a W3C `traceparent`.
fn trace_of(text: &str) -> Option<(String, String)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16);
    sound.then(|| (trace.to_lowercase(), span.to_lowercase()))
}

/// The patient whom an address of a resource names: `patient://P-1`, or a segment after `Patient` as FHIR has it.
fn patient_of(uri: &str) -> Option<String> {
    let path = uri.split(['?', '#']).next()?;
    let (scheme, rest) = path.split_once("://").unwrap_or(("", path));
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
    let id = match scheme.eq_ignore_ascii_case("patient") {
        true => segments.next(),
        false => {
            segments.find(|s| s.eq_ignore_ascii_case("patient") || s.eq_ignore_ascii_case("patients"))?;
            segments.next()
        }
    };
    id.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_patients_and_traces_are_read() {
        let of = |uri: &str| patient_of(uri).unwrap_or_default();
        assert_eq!(of("patient://P-1"), "P-1");
        assert_eq!(of("patient://P-1/labs?x#y"), "P-1");
        assert_eq!(of("https://fhir.example/r4/Patient/P-2/$everything"), "P-2");
        assert_eq!(of("file:///patients"), "");
        let parent = "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, span) = trace_of(parent).unwrap();
        assert_eq!((trace.as_str(), span.as_str()), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
        assert_eq!(trace_of("00-xyz-b7ad6b7169203331-01"), None);
    }
}

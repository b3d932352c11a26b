//! Trajectories of evaluations: steps of ATIF, actions and observations of SWE-agent, events of OpenHands, runs of LangSmith.

use super::answer::{Answer, tell_the_same};
use super::blocks;
use super::conversation::Conversation;
use super::detect;
use super::file::{At, Moment, Read};
use super::session::{Asked, Facts, Sessions};
use super::{ImportOptions, Imported, containers};
use crate::ended::Signs;
use attestlog::json::{Json, Object};
use attestlog::{Outcome, Result};
use std::collections::{HashMap, HashSet};

/// Every object of the file: the elements of an array, or the documents.
fn each<'a>(file: &'a Read, mut one: impl FnMut(&At<'a>) -> Result<()>) -> Result<()> {
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(_) => root.elements()?.try_for_each(|at| one(&at))?,
            None => one(&root)?,
        }
    }
    Ok(())
}

/// ATIF: steps with `tool_calls`, and observations with the ids of the calls they belong to.
pub(super) fn atif(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut sessions = Sessions::new(options)?;
    each(file, |root| {
        let agent = root.member("agent");
        let session = match root.name(&["session_id", "trajectory_id"]) {
            Some(name) => sessions.named(&name),
            None => sessions.unnamed(),
        };
        let name = |key: &str| agent.as_ref().and_then(|agent| agent.name(&[key]));
        session.facts = Facts { agent: name("name"), model: name("model_name"), ..Facts::default() };
        for step in root.items("steps") {
            session.hear(&step)?;
            self::step(&step, session);
        }
        Ok(())
    })?;
    sessions.finish()
}

/// The members that may hold what a tool said.
const SAID: &[&str] = &["content", "output", "result"];

fn step<'a>(step: &At<'a>, session: &mut Conversation<'a>) {
    let facts = Facts { model: step.name(&["model_name"]), moment: step.moment(&["timestamp"]), ..Facts::default() };
    if step.is("source", "user") {
        session.join.interrupt();
        session.user_turn();
    }
    let calls: Vec<At<'a>> = step.items("tool_calls").collect();
    for call in &calls {
        blocks::call(call, &facts, session);
    }
    let Some(observation) = step.member("observation") else { return };
    for result in observation.items("results") {
        let id = result.name(&["source_call_id"]);
        // A step with one call needs no id.
        let only = || calls.first().filter(|_| calls.len() == 1)?.name(&["tool_call_id"]);
        let extra = result.member("extra");
        let mut answer = blocks::answer_in(&result, SAID, result.value);
        if let Some(extra) = extra {
            answer.ended(Signs::of(extra.value));
        }
        blocks::others(&result, SAID, session);
        match id.or_else(only) {
            Some(id) => session.answered(&result, Some(id), None, answer, Moment::default()),
            None if calls.is_empty() => result.take(),
            None => session.answered(&result, None, None, answer, Moment::default()),
        }
    }
}

/// SWE-agent: `history` where it has calls, else the actions and observations of `trajectory`.
pub(super) fn swe_agent(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let has_calls = |at: &At<'_>| at.items("history").any(|one| one.items("tool_calls").next().is_some());
    let mut steps = Vec::new();
    let mut called = false;
    each(file, |root| {
        called |= has_calls(root);
        steps.push(root.clone());
        Ok(())
    })?;
    if called {
        let mut imported = containers::read(file, options)?;
        steps.iter().for_each(|root| unlike_history(root, &mut imported));
        return Ok(imported);
    }
    let mut sessions = Sessions::new(options)?;
    for root in &steps {
        let session = sessions.unnamed();
        let Some(all) = root.member("trajectory") else {
            let mut is_open = false;
            for message in root.items("history") {
                session.hear(&message)?;
                is_open = told(&message, is_open, session);
            }
            continue;
        };
        root.member("history").iter().for_each(At::take);
        for step in all.elements()? {
            session.hear(&step)?;
            action(&step, session);
        }
    }
    sessions.finish()
}

/// Names the steps that the history beside them does not repeat.
fn unlike_history(root: &At<'_>, imported: &mut Imported) {
    let Some(trajectory) = root.member("trajectory") else { return };
    let mut said: HashMap<String, usize> = HashMap::new();
    let mut given = HashSet::new();
    for message in root.items("history") {
        if let Some(action) = message.str("action") {
            *said.entry(action.trim().to_owned()).or_default() += 1;
        }
        for function in message.items("tool_calls").filter_map(|call| call.member("function")) {
            given.extend(function.name(&["name"]));
            let call = function.member("arguments").map(|at| super::answer::read(at.value)).unwrap_or(Json::Null);
            let texts = call.as_object().into_iter().flat_map(Object::iter).filter_map(|(_, value)| value.as_str());
            given.extend(texts.map(|text| text.trim().to_owned()));
        }
    }
    trajectory.take();
    for step in root.items("trajectory") {
        let Some(action) = step.str("action").map(str::trim).filter(|action| !action.is_empty()) else { continue };
        // A history without actions has them as its calls, with what they were given.
        let word = action.split_whitespace().next().unwrap_or_default();
        let is_given = said.is_empty() && (given.contains(action) || given.contains(word));
        match said.get_mut(action) {
            Some(left) if *left > 0 => *left -= 1,
            _ if is_given => {}
            _ => imported.miss(&step, "this step is not in the history beside it, which was read"),
        }
    }
}

/// A message of a history that has no steps beside it: an action of the model, or what came of it. True if the call that was made
/// last has no answer yet.
fn told<'a>(message: &At<'a>, is_open: bool, session: &mut Conversation<'a>) -> bool {
    let action = message.str("action").filter(|_| message.value.get("is_demo") != Some(&Json::Bool(true)));
    let before = session.join.seen().0;
    if blocks::role(message) == blocks::Role::Assistant && action.is_some() {
        self::action(message, session);
        return session.join.seen().0 > before;
    }
    if message.is("message_type", "observation") && is_open {
        let mut answer = Answer::of(message.member("content"), None);
        answer.ended(Signs::of(message.value));
        if let Some(extra) = message.member("extra") {
            answer.ended(Signs::of(extra.value));
        }
        session.answered(message, None, None, answer, Moment::default());
        return false;
    }
    message.pass();
    is_open
}

fn action<'a>(step: &At<'a>, session: &mut Conversation<'a>) {
    let Some(action) =
        step.member("action").filter(|action| action.value.as_str().is_some_and(|text| !text.trim().is_empty()))
    else {
        return step.take();
    };
    let text = action.value.as_str().unwrap_or_default().trim_start();
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_name = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'));
    let tool = if is_name { word.to_owned() } else { "shell".to_owned() };
    // What a step before this one did not see stays unanswered.
    session.join.interrupt();
    session.asked(Asked::new(step, None, tool, Some(action), &Facts::default()));
    if let Some(observation) = step.member("observation") {
        let mut answer = Answer::of(Some(observation), None);
        answer.duration_ms =
            step.value.get("execution_time").and_then(Json::as_f64).filter(|s| *s > 0.0).map(|s| s * 1e3);
        session.answered(step, None, None, answer, Moment::default());
    }
}

/// OpenHands: events that are actions of the agent, and the observations they caused.
pub(super) fn openhands(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let (mut sessions, mut all) = (Sessions::new(options)?, Vec::new());
    for document in &file.documents {
        let root = document.root();
        let holder = ["history", "events", "trajectory"].into_iter().find_map(|key| root.member(key));
        let list = holder.clone().filter(|at| at.value.as_array().is_some());
        let name = root.name(&["conversation_id", "session_id", "instance_id", "id"]);
        let session = match (&list, name) {
            (Some(_), Some(name)) => sessions.weakly_named(&name),
            (Some(_), None) => sessions.unnamed(),
            (None, _) => sessions.rest(),
        };
        let mut events = Vec::new();
        flat(list.unwrap_or(root), &mut events)?;
        events.iter().try_for_each(|at| event(at, session))?;
        all.extend(events);
    }
    let mut imported = sessions.finish()?;
    without_event(&all, &mut imported);
    Ok(imported)
}

/// The events of a list; older files list pairs of an action and its observation.
fn flat<'a>(at: At<'a>, events: &mut Vec<At<'a>>) -> Result<()> {
    if at.value.as_array().is_none() {
        events.push(at);
        return Ok(());
    }
    for item in at.elements()? {
        match item.value.as_array() {
            Some(_) => events.extend(item.elements()?),
            None => events.push(item),
        }
    }
    Ok(())
}

/// What the agent did on itself or said, and what the program noted.
const NO_CALLS: &[&str] = &[
    "message",
    "system",
    "change_agent_state",
    "null",
    "recall",
    "start",
    "agent_state_changed",
    "pause",
    "resume",
    "stop",
    "condensation",
    "condensation_request",
    "loop_recovery",
];

fn event<'a>(at: &At<'a>, session: &mut Conversation<'a>) -> Result<()> {
    session.hear(at)?;
    let facts = Facts { moment: at.moment(&["timestamp"]), ..Facts::default() };
    match at.str("kind") {
        Some(kind) => event_of_sdk(at, kind, &facts, session),
        None => event_of_program(at, facts, session),
    }
    Ok(())
}

/// An event of the program before there was an SDK.
fn event_of_program<'a>(at: &At<'a>, facts: Facts, session: &mut Conversation<'a>) {
    let about = at.member("tool_call_metadata");
    let id = about.as_ref().and_then(|about| about.name(&["tool_call_id"]));
    if let Some(action) = at.str("action") {
        let from_user = at.is("source", "user");
        if from_user && action == "message" {
            session.join.interrupt();
            session.user_turn();
        }
        if from_user || (about.is_none() && NO_CALLS.contains(&action)) {
            return match from_user && !NO_CALLS.contains(&action) {
                true => session.join.refuse_call(at, "is what a user did, not the agent"),
                false => at.pass(),
            };
        }
        let tool = about.as_ref().and_then(|about| about.name(&["function_name"])).unwrap_or_else(|| action.to_owned());
        let asked_for = about.as_ref().and_then(|about| asked_for(about, id.as_deref()));
        let mut facts = facts;
        facts.model = about.and_then(|about| about.member("model_response")?.name(&["model"]));
        let id = id.or_else(|| at.name(&["id"]));
        return session.asked(Asked::new(at, id, tool, asked_for.or_else(|| at.member("args")), &facts));
    }
    let Some(kind) = at.str("observation") else { return at.pass() };
    let id = id.or_else(|| at.name(&["cause"]));
    if NO_CALLS.contains(&kind) || id.is_none() {
        return at.pass();
    }
    let extras = at.member("extras");
    let metadata = extras.as_ref().and_then(|of| of.member("metadata"));
    let mut signs = Signs::of(at.value);
    for of in [extras, metadata].into_iter().flatten() {
        signs = signs.and(Signs::of(of.value));
    }
    if kind == "error" {
        signs.add("observation", Outcome::ToolError);
    }
    let mut answer = Answer::of(at.member("content"), None);
    answer.ended(signs);
    if kind == "user_rejected" {
        answer.fail(None);
        answer.outcome = Some(Outcome::Denied);
    }
    session.answered(at, id, None, answer, facts.moment);
}

/// The calls that a model's response has. Each of them should have an event of its own.
fn all_asked_for<'a>(event: &At<'a>) -> Vec<(String, At<'a>)> {
    let response = event.member("tool_call_metadata").and_then(|about| about.member("model_response"));
    let message = response.and_then(|response| response.items("choices").next()?.member("message"));
    let calls = message.into_iter().flat_map(|message| message.items("tool_calls").collect::<Vec<_>>());
    calls.filter_map(|call| Some((call.name(&["id"])?, call))).collect()
}

/// Names the calls that a model asked for and no event tells of.
fn without_event(events: &[At<'_>], imported: &mut Imported) {
    let own = |event: &At<'_>| event.member("tool_call_metadata")?.name(&["tool_call_id"]);
    let mut told: HashSet<String> = events.iter().filter_map(own).collect();
    for (id, call) in events.iter().flat_map(all_asked_for) {
        if told.insert(id) {
            imported.miss(&call, "the model asked for this call, and no event tells of it");
        }
    }
}

/// The arguments that the model asked for, in its response.
fn asked_for<'a>(about: &At<'a>, id: Option<&str>) -> Option<At<'a>> {
    let message = about.member("model_response")?.items("choices").next()?.member("message")?;
    let call = message.items("tool_calls").find(|call| id.is_some() && call.str("id") == id)?;
    call.member("function")?.member("arguments")
}

/// An event of OpenHands' newer SDK.
fn event_of_sdk<'a>(at: &At<'a>, kind: &str, facts: &Facts, session: &mut Conversation<'a>) {
    let id = at.name(&["tool_call_id"]).or_else(|| at.member("tool_call")?.name(&["id"]));
    match kind {
        "MessageEvent" => {
            if at.is("source", "user") {
                session.join.interrupt();
                session.user_turn();
            }
            at.pass();
        }
        "ActionEvent" => {
            let call = at.member("tool_call");
            let function = call.as_ref().and_then(|call| call.member("function"));
            let tool = at.name(&["tool_name"]).or_else(|| call.as_ref()?.name(&["name"]));
            let Some(tool) = tool else { return session.join.refuse_call(at, "the call does not name its tool") };
            let given = function.or(call).and_then(|call| call.member("arguments")).or_else(|| at.member("action"));
            session.asked(Asked::new(at, id, tool, given, facts));
        }
        "ObservationEvent" | "AgentErrorEvent" | "UserRejectObservation" => {
            let inner = at.member("observation").unwrap_or_else(|| at.clone());
            let mut answer =
                blocks::answer_in(&inner, &["content", "output", "error", "rejection_reason"], inner.value);
            if let Some(metadata) = inner.member("metadata") {
                answer.ended(Signs::of(metadata.value));
            }
            let mut signs = Signs::of(at.value);
            if kind != "ObservationEvent" {
                signs.add(kind, Outcome::ToolError);
            }
            answer.ended(signs);
            if kind == "UserRejectObservation" {
                answer.outcome = Some(Outcome::Denied);
            }
            session.answered(at, id, at.name(&["tool_name"]), answer, facts.moment);
        }
        _ => at.pass(),
    }
}

/// LangSmith: runs of the type `tool`, alone, in lists, or nested in the runs that started them.
pub(super) fn langsmith(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut sessions = Sessions::new(options)?;
    let (mut open, mut runs) = (Vec::new(), Vec::new());
    each(file, |at| {
        open.push((at.clone(), Facts::default(), None::<String>));
        Ok(())
    })?;
    open.reverse();
    while let Some((at, around, conversation)) = open.pop() {
        let metadata = at.member("extra").and_then(|extra| extra.member("metadata"));
        let about = |keys: &[&str]| metadata.as_ref().and_then(|of| of.name(keys));
        let facts = Facts {
            user: about(&["user_id", "userId"]),
            model: about(&["ls_model_name"]),
            agent: about(&["agent_id", "agent_name"]),
            ..Facts::default()
        };
        let facts = facts.or(&around);
        let conversation =
            about(&["session_id", "thread_id", "conversation_id"]).or(conversation).or_else(|| at.name(&["thread_id"]));
        let mut inner: Vec<_> = at.items("child_runs").chain(at.items("runs")).collect();
        inner.reverse();
        open.extend(inner.into_iter().map(|run| (run, facts.clone(), conversation.clone())));
        if at.value.get("run_type").is_some() {
            runs.push((at, facts, conversation));
        }
    }
    let mut twice = Vec::new();
    let runs = once(runs, &mut twice);
    let has_tools = runs.iter().any(|(run, ..)| run.is("run_type", "tool"));
    let mut asked = AskedByModels::default();
    runs.iter().for_each(|(run, ..)| asked.add(run));
    for (at, facts, conversation) in runs {
        if at.is("run_type", "tool") {
            run(&at, facts, conversation, &mut sessions)?;
        } else if has_tools {
            // The calls that a model's run asks for have runs of their own, or are named below.
            ["inputs", "outputs", "events", "extra", "serialized"]
                .iter()
                .filter_map(|key| at.member(key))
                .for_each(|at| at.take());
        }
    }
    if sessions.is_empty() {
        sessions.rest();
    }
    let mut imported = sessions.finish()?;
    if has_tools {
        asked.without_run(&mut imported);
    }
    for at in twice {
        imported.miss(&at, "is a run that the file has before, with another input or answer");
    }
    Ok(imported)
}

/// A run, with what is known around it and the name of its conversation.
type Run<'a> = (At<'a>, Facts, Option<String>);

/// The runs without those that the file has again: of two exports of a run the one that has ended counts. `twice` gets those
/// that say something else.
fn once<'a>(runs: Vec<Run<'a>>, twice: &mut Vec<At<'a>>) -> Vec<Run<'a>> {
    let (mut places, mut all): (HashMap<_, usize>, Vec<Run<'a>>) = (HashMap::new(), Vec::new());
    for run in runs {
        let id = run.0.name(&["id"]).map(|id| (run.0.name(&["trace_id"]), id));
        let Some(id) = id else {
            all.push(run);
            continue;
        };
        let place = *places.entry(id).or_insert(all.len());
        let Some(before) = all.get_mut(place) else {
            all.push(run);
            continue;
        };
        let differs = ["name", "run_type", "inputs", "outputs", "error"].iter().any(|key| {
            let (was, is) = (before.0.member(key), run.0.member(key));
            was.zip(is).is_some_and(|(was, is)| !tell_the_same(was.value, is.value))
        });
        let is_later = before.0.moment(&["end_time"]).is_none() && !run.0.moment(&["end_time"]).is_none();
        match (differs, is_later) {
            (true, _) => twice.push(run.0),
            (false, true) => std::mem::replace(before, run).0.take(),
            (false, false) => run.0.take(),
        }
    }
    all
}

/// The calls that the runs of models ask for, and the runs of tools.
#[derive(Default)]
struct AskedByModels<'a> {
    calls: Vec<(Option<String>, At<'a>, String)>,
    ids: HashSet<String>,
    /// The tools' runs that do not give the model's id of their call, by trace and tool.
    spare: HashMap<String, usize>,
}

impl<'a> AskedByModels<'a> {
    fn add(&mut self, run: &At<'a>) {
        let of_trace = |tool: &str| format!("{} {tool}", run.name(&["trace_id"]).unwrap_or_default());
        if run.is("run_type", "tool") {
            match id_of_call(run) {
                Some(id) => _ = self.ids.insert(id),
                None => *self.spare.entry(of_trace(run.str("name").unwrap_or_default())).or_default() += 1,
            }
            return;
        }
        if !matches!(run.str("run_type"), Some("llm" | "chat_model")) {
            return;
        }
        let mut open: Vec<At<'a>> = run.member("outputs").into_iter().collect();
        while let Some(at) = open.pop() {
            for call in at.items("tool_calls") {
                let function = call.member("function");
                let tool = call.name(&["name"]).or_else(|| function?.name(&["name"])).unwrap_or_default();
                self.calls.push((call.name(blocks::CALL_IDS), call, of_trace(&tool)));
            }
            match at.value.as_array() {
                Some(_) => open.extend(at.elements().into_iter().flatten()),
                None => open.extend(at.members().filter(|(key, _)| *key != "tool_calls").map(|(_, member)| member)),
            }
        }
    }

    /// Names the calls of which no run tells.
    fn without_run(mut self, imported: &mut Imported) {
        let mut seen = HashSet::new();
        for (id, call, tool) in self.calls {
            // A message may have its calls in several forms.
            let key = id.clone().unwrap_or_else(|| call.value.to_canonical().to_string());
            if !seen.insert(key) || id.is_some_and(|id| self.ids.contains(&id)) {
                continue;
            }
            match self.spare.get_mut(&tool) {
                Some(left) if *left > 0 => *left -= 1,
                _ => imported.miss(&call, "a model asks for this call, and no run of a tool tells of it"),
            }
        }
    }
}

/// The model's id of the call that a tool's run made: that of its answer, or in what is said about the run.
fn id_of_call(at: &At<'_>) -> Option<String> {
    let outputs = at.member("outputs");
    let said = outputs.as_ref().and_then(|outputs| outputs.member("output")).or(outputs);
    let message = said.map(|said| said.member("kwargs").unwrap_or_else(|| said.clone()));
    let about = at.member("extra");
    let metadata = about.as_ref().and_then(|about| about.member("metadata"));
    let holders = [message, about, metadata];
    holders.into_iter().flatten().find_map(|holder| holder.name(&["tool_call_id"]))
}

fn run<'a>(at: &At<'a>, mut facts: Facts, conversation: Option<String>, sessions: &mut Sessions<'a>) -> Result<()> {
    let trace = at.name(&["trace_id"]);
    let session = match conversation.or_else(|| Some(format!("trace-{}", trace.as_ref()?))) {
        Some(name) => sessions.named(&name),
        None => sessions.rest(),
    };
    session.hear(at)?;
    facts.moment = at.moment(&["start_time"]);
    (facts.trace, facts.span) = (trace, at.name(&["id"]));
    let inputs = at.member("inputs");
    let only = |at: &At<'a>, key: &str| {
        at.member(key).filter(|_| at.value.as_object().is_some_and(|members| members.len() == 1))
    };
    let given = inputs.as_ref().and_then(|inputs| only(inputs, "input")).or_else(|| inputs.clone());
    let outputs = at.member("outputs").filter(|outputs| !detect::is_zero(outputs.value));
    let said = outputs.as_ref().and_then(|outputs| only(outputs, "output")).or(outputs);
    let message = said.as_ref().map(|said| said.member("kwargs").unwrap_or_else(|| said.clone()));
    // Without the model's id of the call, the run's own tells it from others.
    let id = id_of_call(at).or_else(|| facts.span.clone());
    let Some(tool) = at.name(&["name"]) else {
        session.join.refuse_call(at, "the run does not name its tool");
        return Ok(());
    };
    session.asked(Asked::new(at, id.clone(), tool, given, &facts));
    let error = at.str("error");
    let answer = match (said, error) {
        (_, Some(error)) => Some(blocks::failed(error)),
        (Some(said), None) => {
            let content = message.filter(|message| {
                message.value.get("tool_call_id").is_some() && message.value.get("content").is_some()
            });
            Some(match content {
                Some(content) => blocks::answer_in(&content, &["content"], content.value),
                None => Answer::of(Some(said), None),
            })
        }
        (None, None) if !at.moment(&["end_time"]).is_none() => {
            Some(Answer { outcome: Some(Outcome::Ok), ..Answer::default() })
        }
        (None, None) => None,
    };
    if let Some(answer) = answer {
        session.answered(at, id, None, answer, at.moment(&["end_time"]));
    }
    Ok(())
}

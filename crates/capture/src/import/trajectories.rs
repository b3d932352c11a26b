//! Trajectories of evaluations: steps of ATIF, actions and observations of SWE-agent, events of OpenHands, runs of LangSmith.

use super::answer::Answer;
use super::blocks;
use super::conversation::Conversation;
use super::detect;
use super::file::{At, Moment, Read};
use super::session::{Asked, Facts, Sessions};
use super::{ImportOptions, Imported, containers};
use attestlog::json::Json;
use attestlog::{Outcome, Result};

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
        let mut answer = blocks::answer_in(&result, &["content"], result.value);
        if extra.is_some_and(|extra| extra.value.get("is_error") == Some(&Json::Bool(true))) {
            answer.fail(None);
        }
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
        // The steps repeat what the history has.
        steps.iter().filter_map(|root| root.member("trajectory")).for_each(|at| at.take());
        return containers::read(file, options);
    }
    let mut sessions = Sessions::new(options)?;
    for root in &steps {
        let session = sessions.unnamed();
        let Some(all) = root.member("trajectory") else {
            for message in root.items("history") {
                session.hear(&message)?;
                told(&message, session);
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

/// A message of a history that has no steps beside it: an action of the model, or what came of it.
fn told<'a>(message: &At<'a>, session: &mut Conversation<'a>) {
    let action = message.str("action").filter(|_| message.value.get("is_demo") != Some(&Json::Bool(true)));
    let (calls, answers) = session.join.seen();
    if blocks::role(message) == blocks::Role::Assistant && action.is_some() {
        self::action(message, session);
    } else if message.is("message_type", "observation") && calls > answers {
        let answer = Answer::of(message.member("content"), None);
        session.answered(message, None, None, answer, Moment::default());
    } else {
        message.take();
    }
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
    let mut sessions = Sessions::new(options)?;
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
        let events = list.unwrap_or(root);
        match events.value.as_array() {
            Some(_) => events.elements()?.try_for_each(|event| event_or_pair(&event, session))?,
            None => event_or_pair(&events, session)?,
        }
    }
    sessions.finish()
}

/// Older files list pairs of an action and its observation.
fn event_or_pair<'a>(at: &At<'a>, session: &mut Conversation<'a>) -> Result<()> {
    match at.value.as_array() {
        Some(_) => at.elements()?.try_for_each(|event| self::event(&event, session)),
        None => event(at, session),
    }
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
    if let Some(kind) = at.str("kind") {
        event_of_sdk(at, kind, &facts, session);
        return Ok(());
    }
    let about = at.member("tool_call_metadata");
    let id = about.as_ref().and_then(|about| about.name(&["tool_call_id"]));
    if let Some(action) = at.str("action") {
        let from_user = at.is("source", "user");
        if from_user && action == "message" {
            session.join.interrupt();
            session.user_turn();
        }
        if from_user || (about.is_none() && NO_CALLS.contains(&action)) {
            at.take();
            return Ok(());
        }
        let tool = about.as_ref().and_then(|about| about.name(&["function_name"])).unwrap_or_else(|| action.to_owned());
        let asked_for = about.as_ref().and_then(|about| asked_for(about, id.as_deref()));
        let mut facts = facts;
        facts.model = about.and_then(|about| about.member("model_response")?.name(&["model"]));
        let id = id.or_else(|| at.name(&["id"]));
        session.asked(Asked::new(at, id, tool, asked_for.or_else(|| at.member("args")), &facts));
        return Ok(());
    }
    let Some(kind) = at.str("observation") else {
        at.take();
        return Ok(());
    };
    let id = id.or_else(|| at.name(&["cause"]));
    if NO_CALLS.contains(&kind) || id.is_none() {
        at.take();
        return Ok(());
    }
    let extras = at.member("extras");
    let metadata = extras.as_ref().and_then(|of| of.member("metadata"));
    let code = |of: &Option<At<'_>>| of.as_ref().and_then(|of| of.value.get("exit_code").and_then(Json::as_i64));
    let mut answer = Answer::of(at.member("content"), None);
    let failed = code(&metadata).or_else(|| code(&extras)).is_some_and(|code| code != 0);
    if failed || kind == "error" || at.value.get("success") == Some(&Json::Bool(false)) {
        answer.fail(None);
    }
    if kind == "user_rejected" {
        answer.fail(None);
        answer.outcome = Some(Outcome::Denied);
    }
    session.answered(at, id, None, answer, facts.moment);
    Ok(())
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
            at.take();
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
            let code = inner
                .value
                .get("exit_code")
                .or_else(|| inner.value.get("metadata")?.get("exit_code"))
                .and_then(Json::as_i64);
            if kind != "ObservationEvent" || code.is_some_and(|code| code != 0) {
                answer.fail(None);
            }
            if kind == "UserRejectObservation" {
                answer.outcome = Some(Outcome::Denied);
            }
            session.answered(at, id, at.name(&["tool_name"]), answer, facts.moment);
        }
        _ => at.take(),
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
    let has_tools = runs.iter().any(|(run, ..)| run.is("run_type", "tool"));
    for (at, facts, conversation) in runs {
        if at.is("run_type", "tool") {
            run(&at, facts, conversation, &mut sessions)?;
        } else if has_tools {
            // The calls that a model's run asks for have runs of their own.
            ["inputs", "outputs", "events", "extra", "serialized"]
                .iter()
                .filter_map(|key| at.member(key))
                .for_each(|at| at.take());
        }
    }
    if sessions.is_empty() {
        sessions.rest();
    }
    sessions.finish()
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
    let tool_call = message.as_ref().and_then(|message| message.name(&["tool_call_id"]));
    let about = at.member("extra");
    let id = tool_call
        .or_else(|| about.as_ref()?.name(&["tool_call_id"]))
        .or_else(|| about?.member("metadata")?.name(&["tool_call_id"]));
    // Without the model's id of the call, the run's own tells it from others.
    let id = id.or_else(|| facts.span.clone());
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

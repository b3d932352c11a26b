//! Finds the conversations in a file of messages, wherever they stand in it: one list of messages, a message per line, an object
//! that holds its messages, or lists of such objects, as APIs, frameworks and evaluations write them.

use super::blocks::{self, Role};
use super::conversation::Conversation;
use super::file::{At, Read};
use super::items;
use super::session::{Facts, Sessions};
use super::{ImportOptions, Imported};
use attestlog::Result;
use attestlog::json::Json;

/// Members that hold the messages of a conversation, in order of preference.
const MESSAGES: &[&str] =
    &["messages", "traj", "history", "items", "chat_history", "conversation", "trajectory", "transcript"];
/// Members that hold conversations, or an object that holds one.
const HOLDERS: &[&str] = &[
    "simulations",
    "samples",
    "runs",
    "conversations",
    "sessions",
    "threads",
    "data",
    "results",
    "rows",
    "records",
    "values",
    "channel_values",
    "checkpoint",
    "state",
    "memory",
    "session_data",
    "body",
    "request",
    "response",
    "result",
    "inputs",
    "outputs",
    "sample",
    "thread",
    "run",
    "session",
    "chat",
    "snapshot",
];
/// Objects nested deeper hold no conversation.
const DEEPEST: usize = 8;

/// What is known from the objects around a conversation.
#[derive(Clone, Default)]
struct Around {
    facts: Facts,
    name: Option<String>,
    /// Before the name of a conversation that is only a number in a list.
    prefix: Option<String>,
}

pub(super) fn read(file: &Read, options: &ImportOptions) -> Result<Imported> {
    let mut finder = Finder { sessions: Sessions::new(options)?, loose: Vec::new() };
    // What the first line of a log says is said of all.
    let mut around = Around::default();
    let single = file.documents.len() == 1;
    for document in &file.documents {
        let root = document.root();
        match root.value.as_array() {
            Some(items) if single && items.iter().any(is_message) => finder.loose.extend(root.elements()?),
            _ => {
                if root.value.get("header").is_some() {
                    around = around_of(&root, &around);
                }
                finder.find(&root, &around, 0)?;
            }
        }
    }
    let loose = std::mem::take(&mut finder.loose);
    if !loose.is_empty() {
        let session = finder.sessions.rest();
        messages(loose.into_iter(), &Facts::default(), session)?;
    }
    if finder.sessions.is_empty() {
        finder.sessions.rest();
    }
    finder.sessions.finish()
}

struct Finder<'a> {
    sessions: Sessions<'a>,
    /// Messages that no object holds: those of one conversation.
    loose: Vec<At<'a>>,
}

impl<'a> Finder<'a> {
    fn find(&mut self, at: &At<'a>, around: &Around, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Ok(());
        }
        if let Some(items) = at.value.as_array() {
            if items.iter().any(is_message) {
                return self.conversation(at, vec![at.clone()], around);
            }
            return at.elements()?.try_for_each(|item| self.find(&item, around, depth + 1));
        }
        let around = around_of(at, around);
        let lists = lists(at);
        if !lists.is_empty() {
            return self.conversation(at, lists, &around);
        }
        if is_message(at.value) {
            self.loose.push(at.clone());
            return Ok(());
        }
        for key in HOLDERS {
            if let Some(inner) =
                at.member(key).filter(|inner| inner.value.as_array().is_some() || inner.value.as_object().is_some())
            {
                self.find(&inner, &around, depth + 1)?;
            }
        }
        Ok(())
    }

    fn conversation(&mut self, holder: &At<'a>, lists: Vec<At<'a>>, around: &Around) -> Result<()> {
        let task = match (holder.name(&["task_id"]), holder.name(&["trial"])) {
            (Some(task), Some(trial)) => Some(format!("task-{task}-trial-{trial}")),
            (Some(task), None) => Some(format!("task-{task}")),
            _ => None,
        };
        // A number in a list is no name on its own.
        let epoch = || Some(format!("{}-epoch-{}", holder.name(&["id"])?, holder.name(&["epoch"])?));
        let own = NAMES.iter().find_map(|key| holder.name(&[key]));
        let session = match (own, epoch(), task, &around.name) {
            (Some(name), None, ..) => self.sessions.named(&name),
            (Some(_), Some(epoch), ..) => match holder.name(&["uuid"]) {
                Some(uuid) => self.sessions.named(&uuid),
                None => {
                    let prefix = around.prefix.as_ref().map(|prefix| format!("{prefix}-")).unwrap_or_default();
                    self.sessions.weakly_named(&format!("{prefix}{epoch}"))
                }
            },
            (None, _, Some(task), _) => self.sessions.weakly_named(&task),
            (None, _, None, Some(name)) => self.sessions.named(name),
            (None, _, None, None) => match suite(holder) {
                Some(name) => self.sessions.weakly_named(&name),
                None => self.sessions.unnamed(),
            },
        };
        // A response may repeat the last message, or the last one of the model.
        let (mut last, mut model_s) = (None::<At<'a>>, None::<At<'a>>);
        for list in lists {
            let all: Vec<At<'a>> = match list.value.as_array() {
                Some(_) => list.elements()?.collect(),
                None => vec![list],
            };
            let repeats = |at: &At<'a>| [&last, &model_s].into_iter().flatten().any(|before| is_same(before, at));
            let (repeated, fresh): (Vec<_>, Vec<_>) = all.into_iter().partition(repeats);
            repeated.iter().for_each(At::take);
            model_s = fresh.iter().rev().find(|at| blocks::role(at) == Role::Assistant).cloned().or(model_s);
            last = fresh.last().cloned().or(last);
            messages(fresh.into_iter(), &around.facts, session)?;
        }
        Ok(())
    }
}

const NAMES: &[&str] = &[
    "conversation_id",
    "conversationId",
    "session_id",
    "sessionId",
    "thread_id",
    "threadId",
    "chat_id",
    "id",
    "uuid",
    "run_id",
];

/// The name that AgentDojo gives a run: what it is a run of.
fn suite(holder: &At<'_>) -> Option<String> {
    let task = holder.name(&["user_task_id"])?;
    let parts = [holder.name(&["suite_name"]), Some(task), holder.name(&["injection_task_id"])];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("-"))
}

fn is_same(last: &At<'_>, at: &At<'_>) -> bool {
    let inner = at.member("message").unwrap_or_else(|| at.clone());
    last.value == inner.value || last.name(&["id"]).is_some_and(|id| inner.name(&["id"]) == Some(id))
}

/// What an object says of the conversations in it.
fn around_of(at: &At<'_>, around: &Around) -> Around {
    let info = at.member("info");
    let task = info.as_ref().and_then(|info| info.member("task"));
    let metadata = at.member("metadata").or_else(|| at.member("session_state"));
    let user = ["user_id", "userId", "user", "end_user"];
    let user =
        at.name(&user).or_else(|| task?.name(&["user_id"])).or_else(|| metadata.as_ref()?.name(&["user_id", "userId"]));
    let model = || {
        let eval = at.member("eval").or_else(|| at.member("header")?.member("eval"));
        let agent = info.as_ref().and_then(|info| info.member("agent_info"));
        eval.and_then(|eval| eval.name(&["model"])).or_else(|| agent?.name(&["llm"]))
    };
    let agent = at.name(&["agent_id", "agentId"]);
    let mut facts = blocks::facts_of(at);
    facts = Facts { user, agent, model: facts.model.take().or_else(model), ..facts }.or(&around.facts);
    let eval = at.member("eval").or_else(|| at.member("header")?.member("eval"));
    let thread = at.member("config").and_then(|of| of.member("configurable")).and_then(|of| of.name(&["thread_id"]));
    let conversation = at.member("conversation").and_then(|of| of.name(&["id"]));
    let name = conversation
        .or(thread)
        .or_else(|| at.name(&["conversation_id", "conversationId", "session_id", "sessionId", "thread_id"]));
    Around {
        facts,
        name: name.or_else(|| around.name.clone()),
        prefix: eval.and_then(|eval| eval.name(&["eval_id", "run_id", "task"])).or_else(|| around.prefix.clone()),
    }
}

/// The lists of messages in an object, in the order in which they were said.
fn lists<'a>(at: &At<'a>) -> Vec<At<'a>> {
    let of = |at: &At<'a>, key: &str| {
        at.member(key).filter(|list| list.value.as_array().is_some_and(|all| all.iter().any(is_message)))
    };
    let mut found = Vec::new();
    let request = at.first(&["request", "body", "kwargs"]).filter(|request| request.value.as_object().is_some());
    for holder in [Some(at.clone()), request].into_iter().flatten() {
        if found.is_empty() {
            found.extend(MESSAGES.iter().find_map(|key| of(&holder, key)));
        }
        if found.is_empty() {
            found.extend(of(&holder, "input"));
        }
    }
    // What the model said to them: choices of the chat API, output of the Responses API.
    let response = at.member("response").and_then(|response| response.member("body").or(Some(response)));
    for holder in [Some(at.clone()), at.member("output"), response].into_iter().flatten() {
        found.extend(of(&holder, "output"));
        found.extend(holder.items("choices").filter_map(|choice| choice.member("message")));
    }
    let is_empty = |key: &str| at.value.get(key).and_then(Json::as_array).is_some_and(<[Json]>::is_empty);
    if found.is_empty() {
        found.extend(MESSAGES.iter().filter(|key| is_empty(key)).find_map(|key| at.member(key)));
    }
    found
}

/// Whether a value is a message, or an item between messages.
pub(super) fn is_message(value: &Json) -> bool {
    const CLASSES: &[&str] = &[
        "human",
        "ai",
        "tool",
        "system",
        "function",
        "developer",
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "message",
    ];
    let Some(members) = value.as_object() else { return false };
    let kind = value.get("type").and_then(Json::as_str).unwrap_or_default();
    let has = |key: &str| members.get(key).is_some();
    let said =
        ["content", "parts", "data", "tool_calls", "toolInvocations", "function_call"].iter().any(|key| has(key));
    let is_item =
        kind.ends_with("_call") || kind.ends_with("_call_output") || (has("raw_item") && kind.ends_with("_item"));
    value.get("role").is_some_and(|role| role.as_str().is_some())
        || (CLASSES.contains(&kind) && said)
        || is_item
        || (has("lc") && has("kwargs"))
        || value
            .get("message")
            .is_some_and(|inner| inner.get("role").is_some() || (has("role") && inner.get("content").is_some()))
}

/// Reads the messages of one conversation.
fn messages<'a>(all: impl Iterator<Item = At<'a>>, facts: &Facts, session: &mut Conversation<'a>) -> Result<()> {
    for at in all {
        session.hear(&at)?;
        if at.value.get("is_demo").is_some_and(|demo| *demo == Json::Bool(true)) {
            // Shown to the model as an example; none of it happened.
            at.take();
            continue;
        }
        let mut own = facts.clone();
        own.agent = at.name(&["agent"]).or(own.agent);
        let several: Vec<At<'a>> = at.items("tool_messages").collect();
        for answer in &several {
            blocks::message(answer, &own, session);
        }
        if several.is_empty() {
            blocks::message(&at, &own, session);
        }
        // A tool's message that repeats its call.
        if blocks::role(&at) == Role::Tool || items::is_item(&at) {
            at.member("tool_call").iter().for_each(At::take);
        }
    }
    Ok(())
}

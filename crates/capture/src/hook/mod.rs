//! Events that coding agents pass to their hooks: what each says about a tool call, and how it is recorded.
//!
//! An agent starts one process for each event. The event before a tool runs begins a call, the one after it ends the call, and the
//! end of a session ends what nobody finished. [`read`] turns the bytes of an event into [`Step`]s, [`record`] has a log do them.
//!
//! Invariant: an event about a tool is recorded or refused, never passed over. What cannot be read is an error, so that the program
//! can stop the tool; only events that are certainly about something else lead to no step.
//!
//! `told` reads the members of an event whatever their types. There is a file per agent, except that Codex and Gemini speak Claude
//! Code's dialect. `record` talks to the log. Nothing here does I/O except through the log.

mod copilot;
mod cursor;
mod dialect;
mod opencode;
mod record;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_endings;
#[cfg(test)]
mod tests_of_order;
mod told;

pub use record::record;

use attestlog::entry::SourceKind;
use attestlog::{Abandoned, Error, Result, Timestamp, ToolCall, Unmatched};
use told::Told;

/// The most bytes of an event. An agent passes whole files in some; what is recorded of them is shortened.
pub const MAX_EVENT: usize = 64 << 20;

/// A coding agent whose hooks are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Agent {
    /// Claude Code.
    ClaudeCode,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// OpenCode, through the plugin that the program installs.
    OpenCode,
    /// Cursor.
    Cursor,
    /// GitHub Copilot: the command-line program and the coding agent.
    Copilot,
}

impl Agent {
    /// All of them.
    pub const ALL: [Agent; 6] =
        [Agent::ClaudeCode, Agent::Codex, Agent::Gemini, Agent::OpenCode, Agent::Cursor, Agent::Copilot];

    /// The name on the command line and in entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Agent::ClaudeCode => "claude-code",
            Agent::Codex => "codex",
            Agent::Gemini => "gemini",
            Agent::OpenCode => "opencode",
            Agent::Cursor => "cursor",
            Agent::Copilot => "copilot",
        }
    }

    /// The agent with this name.
    ///
    /// ```
    /// use attestlog_capture::hook::Agent;
    /// assert_eq!(Agent::from_name("codex"), Some(Agent::Codex));
    /// ```
    pub fn from_name(name: &str) -> Option<Agent> {
        Agent::ALL.into_iter().find(|agent| agent.as_str() == name)
    }
}

/// Who calls, as configured by the operator, and what an event may leave out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The user.
    pub user: String,
    /// The user's role.
    pub role: Option<String>,
    /// The model, instead of what the event says.
    pub model: Option<String>,
    /// The purpose of the data access.
    pub purpose: Option<String>,
    /// The conversation, instead of the session that the event names.
    pub conversation: Option<String>,
    /// The version of the agent.
    pub version: Option<String>,
    /// The name of the event, for agents that do not pass it.
    pub event: Option<String>,
}

/// When the agent runs a hook, and so what a failure to record means for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before a tool runs: the tool can still be stopped.
    Before,
    /// After a tool ran: its result can be held back.
    After,
    /// At another time: nothing is to be stopped.
    Aside,
}

/// What a log is to do with an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A call begins.
    Begin(Box<ToolCall>),
    /// A call ends: the oldest unfinished one that this can be.
    End(Box<ToolCall>, Unmatched),
    /// Calls end, each in one of two ways: as the first if the log has it; if it does not, the second is recorded.
    Settle(Vec<(ToolCall, ToolCall)>),
    /// Nobody finishes these calls any more.
    Abandon(Abandoned),
}

/// An event as far as it is about tool calls.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// When it occurred.
    pub moment: Moment,
    /// What is to be recorded; empty if it is about something else.
    pub steps: Vec<Step>,
}

impl Event {
    fn new(moment: Moment, steps: Vec<Step>) -> Event {
        Event { moment, steps }
    }

    /// An event that is not about tools.
    fn none() -> Event {
        Event::new(Moment::Aside, Vec::new())
    }
}

/// Reads the event that an agent passed to its hook. `now`: the present time, from which calls count as given up that were begun a
/// day before.
///
/// # Errors
/// [`InvalidInput`](attestlog::ErrorKind::InvalidInput) and [`TooLarge`](attestlog::ErrorKind::TooLarge), with the member: the bytes are
/// not JSON, not an event of this agent, or an event about a tool that lacks what is needed to record it.
///
/// ```
/// use attestlog_capture::hook::{Agent, Identity, Moment, read};
/// let mut identity = Identity::default();
/// identity.user = "ada".to_owned();
/// let event = br#"{"hook_event_name":"PreToolUse","session_id":"s-1","tool_name":"Bash","tool_input":{"command":"ls"},"tool_use_id":"t-1"}"#;
/// let event = read(Agent::ClaudeCode, event, &identity, "2026-11-29T12:00:00Z".parse()?)?;
/// assert_eq!((event.moment, event.steps.len()), (Moment::Before, 1));
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn read(agent: Agent, bytes: &[u8], identity: &Identity, now: Timestamp) -> Result<Event> {
    let told = Told::parse(bytes)?;
    match agent {
        Agent::ClaudeCode | Agent::Codex | Agent::Gemini => dialect::event(agent, &told, identity, now),
        Agent::OpenCode => opencode::event(&told, identity),
        Agent::Cursor => cursor::event(&told, identity, now),
        Agent::Copilot => copilot::event(&told, identity, now),
    }
}

/// When an event occurs that [`read`] refuses: as its name says, or if it cannot be read at all, the name that is configured.
///
/// ```
/// use attestlog_capture::hook::{Identity, Moment, moment};
/// let mut identity = Identity::default();
/// assert_eq!(moment(br#"{"hook_event_name":"Stop"}"#, &identity), Moment::Aside);
/// assert_eq!(moment(b"no JSON", &identity), Moment::Before);
/// identity.event = Some("Stop".to_owned());
/// assert_eq!(moment(b"no JSON", &identity), Moment::Aside);
/// ```
pub fn moment(bytes: &[u8], identity: &Identity) -> Moment {
    const NAMES: [&str; 4] = ["hook_event_name", "hookEventName", "eventName", "hook"];
    const ASIDE: [&str; 11] = [
        "Stop",
        "StopFailure",
        "SubagentStop",
        "AfterAgent",
        "SessionStart",
        "SessionEnd",
        "stop",
        "subagentStop",
        "agentStop",
        "sessionStart",
        "sessionEnd",
    ];
    let named = Told::parse(bytes).ok().and_then(|told| NAMES.iter().find_map(|name| told.text(name).ok()?));
    let name = named.or_else(|| identity.event.clone());
    match name {
        Some(name) if ASIDE.contains(&&*name) => Moment::Aside,
        Some(name) if name.to_lowercase().starts_with("post") => Moment::After,
        _ => Moment::Before,
    }
}

/// Whether a member shows that an event is about a tool, whatever its spelling: `tool_name`, `toolCall`, `tool`, `callID`.
fn is_about_tool(told: &Told) -> bool {
    told.names().any(|name| {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        (plain.starts_with("tool") && plain != "tools") || plain == "callid"
    })
}

/// The event has a name that nobody knows: an error if it is about a tool.
fn unknown(agent: Agent, name: Option<&str>, told: &Told) -> Result<Event> {
    match (name, is_about_tool(told)) {
        (Some(_), false) => Ok(Event::none()),
        // The names are not repeated: they may be anything.
        (Some(_), true) => Err(Error::invalid(format!(
            "this is no event of {} that this version knows, and it is about a tool",
            agent.as_str()
        ))),
        (None, _) => {
            Err(Error::invalid(format!("no event of {}: its name is missing (hook_event_name)", agent.as_str())))
        }
    }
}

/// The unfinished calls of a conversation, given up for this reason. Other agents and sessions may share the conversation.
fn abandoned(agent: Agent, told: &Told, conversation: String, identity: &Identity, reason: &str) -> Abandoned {
    let mut which = Abandoned::default();
    which.program = Some(agent.as_str().to_owned());
    which.session = told.session(identity);
    which.conversation = Some(conversation);
    which.user = Some(identity.user.clone());
    which.source = Some(SourceKind::Hook);
    which.reason = reason.to_owned();
    which
}

/// Calls of earlier sessions that never ended.
fn stale(now: Timestamp) -> Step {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let mut which = Abandoned::default();
    which.source = Some(SourceKind::Hook);
    which.begun_before = Some(now.minus(DAY));
    which.reason = "nothing was heard of the call for a day".to_owned();
    Step::Abandon(which)
}

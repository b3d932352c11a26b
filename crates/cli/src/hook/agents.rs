//! What each agent's configuration needs for its hooks: which file, which events, in which words.

use super::shell::wrapped;
use attestlog::json::{Json, Object};
use attestlog_capture::hook::Agent;
use std::path::PathBuf;

/// How long an agent may wait for the hook, in seconds: longer than the hook's own deadline.
const WAIT: u64 = 20;

/// For whom hooks are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All projects of this user.
    User,
    /// The project in the current folder.
    Project,
    /// Every user of this machine, who cannot change it.
    Managed,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Managed, Scope::Project, Scope::User];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::User => "user",
            Scope::Project => "project",
            Scope::Managed => "managed",
        }
    }
}

/// The folders in which configurations lie.
#[derive(Debug, Clone)]
pub struct Folders {
    pub home: Option<PathBuf>,
    pub project: PathBuf,
    /// What stands before the folders of the whole machine; `/` unless a test says otherwise.
    pub machine: PathBuf,
}

impl Folders {
    /// Those of this process.
    pub fn of_process() -> std::io::Result<Folders> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Folders {
            home: set("HOME"),
            project: std::env::current_dir()?,
            machine: set("ATTESTLOG_MACHINE_ROOT").unwrap_or_else(|| PathBuf::from("/")),
        })
    }

    /// The folder that this variable names, else this one in the home directory.
    fn own(&self, variable: &str, beside: &str) -> Option<PathBuf> {
        let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        named.or_else(|| Some(self.home.as_ref()?.join(beside)))
    }

    fn machine(&self, mac: &str, other: &str) -> PathBuf {
        self.machine.join(if cfg!(target_os = "macos") { mac } else { other })
    }

    /// The file that configures the agent's hooks; `None` if the agent has none for this scope.
    pub fn file(&self, agent: Agent, scope: Scope) -> Option<PathBuf> {
        let project = |path: &str| Some(self.project.join(path));
        match (agent, scope) {
            (Agent::ClaudeCode, Scope::User) => Some(self.own("CLAUDE_CONFIG_DIR", ".claude")?.join("settings.json")),
            (Agent::ClaudeCode, Scope::Project) => project(".claude/settings.json"),
            (Agent::ClaudeCode, Scope::Managed) => Some(
                self.machine("Library/Application Support/ClaudeCode", "etc/claude-code").join("managed-settings.json"),
            ),
            (Agent::Codex, Scope::User) => Some(self.own("CODEX_HOME", ".codex")?.join("hooks.json")),
            (Agent::Codex, Scope::Project) => project(".codex/hooks.json"),
            (Agent::Gemini, Scope::User) => Some(self.home.as_ref()?.join(".gemini/settings.json")),
            (Agent::Gemini, Scope::Project) => project(".gemini/settings.json"),
            (Agent::Gemini, Scope::Managed) => {
                Some(self.machine("Library/Application Support/GeminiCli", "etc/gemini-cli").join("settings.json"))
            }
            (Agent::OpenCode, Scope::User) => {
                Some(self.own("XDG_CONFIG_HOME", ".config")?.join("opencode/plugins/attestlog.js"))
            }
            (Agent::OpenCode, Scope::Project) => project(".opencode/plugins/attestlog.js"),
            (Agent::Cursor, Scope::User) => Some(self.home.as_ref()?.join(".cursor/hooks.json")),
            (Agent::Cursor, Scope::Project) => project(".cursor/hooks.json"),
            (Agent::Cursor, Scope::Managed) => {
                Some(self.machine("Library/Application Support/Cursor", "etc/cursor").join("hooks.json"))
            }
            (Agent::Copilot, Scope::User) => Some(self.home.as_ref()?.join(".copilot/hooks/attestlog.json")),
            (Agent::Copilot, Scope::Project) => project(".github/hooks/attestlog.json"),
            _ => None,
        }
    }
}

/// The scope in which hooks are configured for an agent unless a flag says otherwise.
pub fn usual(agent: Agent) -> Scope {
    if agent == Agent::Copilot { Scope::Project } else { Scope::User }
}

/// An event of an agent, and when it occurs.
struct Hooked {
    event: &'static str,
    /// Whether a failure to record must stop something: the tool, or its result. Where it does not, an agent would be kept from
    /// ending.
    gates: bool,
    /// Whether the agent asks which tools the hook is for.
    matched: bool,
}

const fn gate(event: &'static str) -> Hooked {
    Hooked { event, gates: true, matched: true }
}

const fn aside(event: &'static str) -> Hooked {
    Hooked { event, gates: false, matched: false }
}

fn hooked(agent: Agent) -> Vec<Hooked> {
    match agent {
        Agent::ClaudeCode => vec![
            gate("PreToolUse"),
            gate("PostToolUse"),
            gate("PostToolUseFailure"),
            Hooked { event: "PostToolBatch", gates: true, matched: false },
            gate("PermissionDenied"),
            aside("Stop"),
            aside("SubagentStop"),
            aside("SessionStart"),
            aside("SessionEnd"),
        ],
        Agent::Codex => vec![
            gate("PreToolUse"),
            gate("PostToolUse"),
            gate("PostToolUseFailure"),
            gate("PermissionDenied"),
            aside("Stop"),
            aside("SubagentStop"),
            aside("SessionStart"),
            aside("SessionEnd"),
        ],
        Agent::Gemini => {
            vec![gate("BeforeTool"), gate("AfterTool"), aside("AfterAgent"), aside("SessionStart"), aside("SessionEnd")]
        }
        Agent::Cursor => vec![
            gate("preToolUse"),
            gate("postToolUse"),
            gate("postToolUseFailure"),
            aside("stop"),
            aside("sessionStart"),
            aside("sessionEnd"),
        ],
        Agent::Copilot => vec![
            gate("preToolUse"),
            gate("postToolUse"),
            gate("postToolUseFailure"),
            aside("agentStop"),
            aside("sessionStart"),
            aside("sessionEnd"),
        ],
        _ => Vec::new(),
    }
}

/// Each event with what stands in its list. `command`: the hook's, without a wrap.
pub fn entries(agent: Agent, command: &str) -> Vec<(&'static str, Json)> {
    let one = |Hooked { event, gates, matched }: Hooked| {
        // Where a failure stops nothing, the hook knows it from its command, even if it cannot read the event.
        let names_it = agent == Agent::Copilot || !gates;
        let own = if names_it { format!("{command} --event {event}") } else { command.to_owned() };
        let own = Json::from(if gates { wrapped(&own, agent) } else { own });
        let element: Json = match agent {
            Agent::Cursor => {
                let mut hook = Object::from_iter([("command", own), ("timeout", Json::from(WAIT))]);
                if gates {
                    hook.insert("failClosed", true);
                }
                hook.into()
            }
            Agent::Copilot => {
                Object::from_iter([("type", "command".into()), ("bash", own), ("timeoutSec", Json::from(WAIT))]).into()
            }
            _ => {
                // Gemini counts in milliseconds.
                let wait = if agent == Agent::Gemini { WAIT * 1000 } else { WAIT };
                let mut hook =
                    Object::from_iter([("type", "command".into()), ("command", own), ("timeout", Json::from(wait))]);
                if agent == Agent::ClaudeCode && event == "PreToolUse" {
                    hook.insert("onFailure", "block");
                }
                let mut group = Object::from_iter([("hooks", Json::from(vec![Json::from(hook)]))]);
                if matched && agent != Agent::Codex {
                    group.insert("matcher", "*");
                }
                group.into()
            }
        };
        (event, element)
    };
    hooked(agent).into_iter().map(one).collect()
}

/// What a file of the agent's needs besides its hooks.
pub fn also(agent: Agent) -> Option<(&'static str, Json)> {
    matches!(agent, Agent::Cursor | Agent::Copilot).then(|| ("version", Json::from(1u64)))
}

/// The members of a hook that hold its command.
pub const NAMES: [&str; 2] = ["command", "bash"];

/// The commands in an element of an event's list.
pub fn commands(element: &Json) -> Vec<String> {
    let own = |hook: &Json| NAMES.iter().find_map(|name| hook.get(name)?.as_str().map(str::to_owned));
    let inner = element.get("hooks").and_then(Json::as_array).unwrap_or_default();
    own(element).into_iter().chain(inner.iter().filter_map(own)).collect()
}

//! Whether an agent's hooks are there, whether the agent runs them, and who can switch them off.

use super::agents::{self, Folders, Scope};
use super::config::is_plugin;
use super::file::Configured;
use super::trust;
use crate::exit::Failure;
use attestlog::json::{Json, Object};
use attestlog_capture::hook::Agent;
use std::path::{Path, PathBuf};

/// What was found of an agent's hooks.
#[derive(Debug, Default)]
pub struct Status {
    scope: Option<Scope>,
    file: Option<PathBuf>,
    /// Whether the agent runs them; `None` if only the agent knows.
    runs: Option<bool>,
    fail_closed: bool,
    can_be_disabled_by: Vec<&'static str>,
    /// Why they do not run, or not all, and what only the agent knows.
    remarks: Vec<String>,
}

/// The hooks of an agent that record in this store, in the first of these scopes that has some.
pub fn of(folders: &Folders, agent: Agent, store: &Path, scopes: &[Scope]) -> Result<Status, Failure> {
    let mut status = Status::default();
    for scope in scopes {
        let Some(path) = folders.file(agent, *scope) else { continue };
        let file = Configured::read(&path)?;
        let Some(text) = file.text() else { continue };
        let commands = match agent {
            Agent::OpenCode => plugin_commands(text, store),
            _ => match Json::parse(text.as_bytes()) {
                Ok(parsed) => hook_commands(agent, &parsed.value, store),
                Err(e) => {
                    status.remarks.push(format!("{}: {e}", file.path().display()));
                    continue;
                }
            },
        };
        let Some((_, first)) = commands.first() else { continue };
        (status.scope, status.file) = (Some(*scope), Some(file.path().to_owned()));
        status.fail_closed = !commands.iter().any(|(_, command)| command.contains(" --fail-open"));
        let mut runs = Some(true);
        let missing = missing(agent, &commands);
        if !missing.is_empty() {
            status.remarks.push(format!("no hook is there for {}: install them again", missing.join(", ")));
            status.fail_closed = false;
        }
        for (what, there) in [("program", program(agent, first)), ("store", Some(store.to_owned()))] {
            if there.as_ref().is_none_or(|path| !path.exists()) {
                let path = there.map(|path| path.display().to_string()).unwrap_or_default();
                status.remarks.push(format!("the {what} {path} is not there, so every call is refused"));
                runs = Some(false);
            }
        }
        let off = switched_off(folders, agent, *scope);
        if let Some(why) = off {
            status.remarks.push(why);
            runs = Some(false);
        } else if runs == Some(true) && agent == Agent::Codex {
            let (answer, remark) = trust::of(&folders.project, &commands);
            status.remarks.push(remark);
            runs = answer;
        }
        (status.runs, status.can_be_disabled_by) = (runs, disabled_by(folders, agent, *scope));
        return Ok(status);
    }
    status.runs = Some(false);
    Ok(status)
}

/// The commands of this program's hooks in a configuration, each with its event.
fn hook_commands(agent: Agent, value: &Json, store: &Path) -> Vec<(String, String)> {
    let events = value.get("hooks").and_then(Json::as_object);
    let each = events.into_iter().flat_map(|events| events.iter()).flat_map(|(event, elements)| {
        let commands = elements.as_array().unwrap_or_default().iter().flat_map(agents::commands);
        commands.map(move |command| (event.to_owned(), command))
    });
    each.filter(|(_, command)| agents::is_ours(command, agent, Some(store))).collect()
}

/// The words of the command that the plugin runs.
fn plugin_words(text: &str) -> Option<Vec<String>> {
    let line = text.lines().find_map(|line| line.strip_prefix("const command = "))?;
    let words = Json::parse(line.as_bytes()).ok()?.value;
    words.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The store that the plugin records in.
pub fn plugin_store(text: &str) -> Option<PathBuf> {
    plugin_words(text)?.get(3).map(PathBuf::from)
}

fn plugin_commands(text: &str, store: &Path) -> Vec<(String, String)> {
    let words = plugin_words(text).filter(|_| is_plugin(text) && plugin_store(text).is_some_and(|of| of == store));
    words.map(|words| ("plugin".to_owned(), words.join(" "))).into_iter().collect()
}

/// The events for which a hook is missing.
fn missing(agent: Agent, commands: &[(String, String)]) -> Vec<&'static str> {
    let there = |event: &str| commands.iter().any(|(of, _)| of == event);
    agents::entries(agent, "").into_iter().map(|(event, _)| event).filter(|event| !there(event)).collect()
}

/// The program that a command runs.
fn program(agent: Agent, command: &str) -> Option<PathBuf> {
    let (program, _) = command.split_once(&format!(" hook {} ", agent.as_str()))?;
    let program = program.strip_prefix('\'').and_then(|p| p.strip_suffix('\'')).unwrap_or(program);
    Some(PathBuf::from(program.replace(r"'\''", "'")))
}

/// The value of an agent's configuration in this scope, beside its hooks.
fn settings(folders: &Folders, agent: Agent, scope: Scope) -> Option<Json> {
    let text = std::fs::read_to_string(folders.file(agent, scope)?).ok()?;
    Some(Json::parse(text.as_bytes()).ok()?.value)
}

fn says(value: Option<&Json>, path: &[&str]) -> Option<bool> {
    path.iter().try_fold(value?, |value, name| value.get(name))?.as_bool()
}

/// The setting with which somebody has switched these hooks off.
fn switched_off(folders: &Folders, agent: Agent, scope: Scope) -> Option<String> {
    let of = |scope: Scope| (folders.file(agent, scope), settings(folders, agent, scope));
    let named = |path: Option<PathBuf>, what: &str| {
        format!("{} in {}, so the hooks do not run", what, path.unwrap_or_default().display())
    };
    match agent {
        Agent::ClaudeCode => {
            let (managed_path, managed) = of(Scope::Managed);
            if scope != Scope::Managed && says(managed.as_ref(), &["allowManagedHooksOnly"]) == Some(true) {
                return Some(named(managed_path, "allowManagedHooksOnly stands"));
            }
            let local = folders.project.join(".claude/settings.local.json");
            let text = std::fs::read_to_string(&local).ok();
            let local_value = text.and_then(|text| Some(Json::parse(text.as_bytes()).ok()?.value));
            let all = [of(Scope::User), of(Scope::Project), (Some(local), local_value), (managed_path, managed)];
            let counts =
                all.into_iter().filter(|(path, _)| scope != Scope::Managed || *path == folders.file(agent, scope));
            let mut off = counts.filter(|(_, value)| says(value.as_ref(), &["disableAllHooks"]) == Some(true));
            off.next().map(|(path, _)| named(path, "disableAllHooks stands"))
        }
        Agent::Gemini => {
            let off = |value: Option<&Json>| {
                says(value, &["tools", "enableHooks"]) == Some(false)
                    || says(value, &["hooksConfig", "enabled"]) == Some(false)
            };
            let mut all = Scope::ALL.into_iter().map(of);
            all.find(|(_, value)| off(value.as_ref())).map(|(path, _)| named(path, "hooks are switched off"))
        }
        _ => None,
    }
}

/// What switches these hooks off, for a user of the agent.
fn disabled_by(folders: &Folders, agent: Agent, scope: Scope) -> Vec<&'static str> {
    let edit = "editing the configuration";
    match (agent, scope) {
        (Agent::ClaudeCode, Scope::Managed) => {
            let managed = settings(folders, agent, scope);
            match says(managed.as_ref(), &["allowManagedHooksOnly"]) {
                Some(true) => Vec::new(),
                _ => vec!["disableAllHooks", "--bare", "--safe-mode", "--setting-sources"],
            }
        }
        (Agent::ClaudeCode, _) => vec![edit, "disableAllHooks", "--bare", "--safe-mode", "--setting-sources"],
        (Agent::Codex, _) => vec![edit, "not trusting the hooks", "--disable hooks", "allow_managed_hooks_only"],
        (Agent::Gemini, Scope::Managed) => vec!["hooksConfig.enabled"],
        (Agent::Gemini, _) => vec![edit, "hooksConfig.enabled", "not trusting the folder"],
        (Agent::OpenCode, _) => vec![edit, "--pure"],
        (Agent::Cursor, Scope::Managed) => Vec::new(),
        (Agent::Cursor | Agent::Copilot, _) => vec![edit],
        _ => vec![edit],
    }
}

impl Status {
    pub fn json(&self, agent: Agent) -> Json {
        let list = |texts: Vec<&str>| texts.into_iter().map(Json::from).collect::<Vec<_>>();
        Object::from_iter([
            ("agent", Json::from(agent.as_str())),
            ("installed", Json::from(self.scope.is_some())),
            ("runs", self.runs.map_or(Json::Null, Json::from)),
            ("scope", self.scope.map_or(Json::Null, |scope| scope.as_str().into())),
            ("file", self.file.as_ref().map_or(Json::Null, |file| file.display().to_string().into())),
            ("fail_closed", Json::from(self.fail_closed)),
            ("can_be_disabled_by", list(self.can_be_disabled_by.clone()).into()),
            ("remarks", list(self.remarks.iter().map(String::as_str).collect()).into()),
        ])
        .into()
    }

    pub fn lines(&self, agent: Agent) -> Vec<String> {
        let (Some(scope), Some(file)) = (self.scope, &self.file) else {
            let none = format!("{}: no hook records in this store", agent.as_str());
            return [none].into_iter().chain(self.remarks.iter().cloned()).collect();
        };
        let runs = match self.runs {
            Some(true) => "the agent runs them",
            Some(false) => "THE AGENT DOES NOT RUN THEM, or they refuse every call",
            None => "only the agent knows whether it runs them",
        };
        let mut lines = vec![format!("{}: hooks for {}, in {}", agent.as_str(), scope.as_str(), file.display())];
        lines.push(format!("  {runs}"));
        lines.push(match self.fail_closed {
            true => "  a call that cannot be recorded is not made".to_owned(),
            false => "  CALLS THAT CANNOT BE RECORDED ARE MADE".to_owned(),
        });
        lines.push(match self.can_be_disabled_by.is_empty() {
            true => "  users of the agent cannot switch them off".to_owned(),
            false => format!("  they can be switched off by {}", self.can_be_disabled_by.join(", ")),
        });
        lines.extend(self.remarks.iter().map(|remark| format!("  {remark}")));
        lines
    }
}

//! Whether an agent's hooks are there, whether the agent runs them, and who can switch them off.

use super::agents::{self, Folders, Scope};
use super::config::{self, is_plugin};
use super::file::Configured;
use super::trust;
use super::written::{self, Found, Written};
use crate::exit::Failure;
use attestlog::child::KEY;
use attestlog::json::{Json, Object};
use attestlog::{files, owner};
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
        let looked = match agent {
            Agent::OpenCode => plugin(text, store),
            _ => match Json::parse(text.as_bytes()) {
                Ok(parsed) => hooks(agent, &parsed.value, store),
                Err(e) => {
                    status.remarks.push(format!("{}: {e}", file.path().display()));
                    continue;
                }
            },
        };
        let Some(Looked { written, commands, wrong }) = looked else { continue };
        (status.scope, status.file) = (Some(*scope), Some(file.path().to_owned()));
        let mut in_the_way = unusable(store, &written);
        in_the_way.extend(switched_off(folders, agent, *scope));
        status.fail_closed = wrong.is_empty() && written.iter().all(|written| !written.is_open());
        status.runs = if wrong.is_empty() && in_the_way.is_empty() { Some(true) } else { Some(false) };
        if status.runs == Some(true) && agent == Agent::Codex {
            let (answer, remark) = trust::of(&folders.project, &commands);
            status.remarks.push(remark);
            status.runs = answer;
        }
        status.remarks.extend(wrong.into_iter().chain(in_the_way));
        status.can_be_disabled_by = disabled_by(folders, agent, *scope);
        return Ok(status);
    }
    status.runs = Some(false);
    Ok(status)
}

/// This program's hooks in a configuration.
struct Looked {
    /// Those that are what `install` writes.
    written: Vec<Written>,
    /// Each with the event for which it is there.
    commands: Vec<(String, String)>,
    /// What is not as `install` writes it.
    wrong: Vec<String>,
}

/// What a configuration has of this program's hooks for this store; `None` if nothing.
fn hooks(agent: Agent, value: &Json, store: &Path) -> Option<Looked> {
    let is_ours = |found: &Found| match &found.written {
        Some(written) => written.records_in(store),
        None => written::names(&found.command, agent, store),
    };
    let all: Vec<Found> = written::all(agent, value).into_iter().filter(is_ours).collect();
    let mut looked = Looked {
        written: all.iter().filter_map(|found| found.written.clone()).collect(),
        commands: all.iter().map(|found| (found.event.to_string(), found.command.clone())).collect(),
        wrong: Vec::new(),
    };
    let mut missing = Vec::new();
    for (event, _) in agents::entries(agent, "") {
        let of_event: Vec<&Found> = all.iter().filter(|found| found.event == event).collect();
        let expected = |found: &Found| found.written.as_ref()?.element(agent, event);
        let is_right = |found: &&Found| expected(found).is_some_and(|element| element == found.alone);
        match of_event.first() {
            None => missing.push(event),
            Some(_) if of_event.iter().any(is_right) => {}
            Some(found) => {
                let what = match expected(found) {
                    Some(element) => written::differences(&found.alone, &element).join(", "),
                    None => "its command".to_owned(),
                };
                looked.wrong.push(format!("the hook for {event} was changed ({what}): install it again"));
            }
        }
    }
    if !missing.is_empty() {
        looked.wrong.push(format!("no hook is there for {}: install them again", missing.join(", ")));
    }
    (!all.is_empty()).then_some(looked)
}

/// As [`hooks`], of OpenCode's plugin.
fn plugin(text: &str, store: &Path) -> Option<Looked> {
    let words = plugin_words(text)
        .filter(|_| is_plugin(text) && plugin_store(text).is_some_and(|of| written::is_same(&of, store)))?;
    let written = Written::of_words(words, Agent::OpenCode);
    let is_right = written.as_ref().is_some_and(|written| config::plugin(written.words()) == text);
    let wrong = if is_right { Vec::new() } else { vec!["the plugin was changed: install it again".to_owned()] };
    Some(Looked { written: written.into_iter().collect(), commands: Vec::new(), wrong })
}

/// Why these commands cannot record, though the agent may run them.
fn unusable(store: &Path, all: &[Written]) -> Vec<String> {
    let refused =
        |what: &str, path: &Path, how: &str| format!("the {what} {} {how}, so every call is refused", path.display());
    let mut why = Vec::new();
    if !store.exists() {
        why.push(refused("store", store, "is not there"));
    }
    for written in all {
        let program = written.program();
        match std::fs::metadata(&program) {
            Err(_) => why.push(refused("program", &program, "is not there")),
            Ok(about) if !is_executable(&about) => why.push(refused("program", &program, "cannot be run")),
            Ok(_) => {}
        }
        let key = written.value("--key").map_or_else(|| files::beside(store, "key"), PathBuf::from);
        let is_elsewhere = written.value("--os-keyring").is_some() || std::env::var_os(KEY).is_some();
        // Whoever has the store open has the key, and nobody else needs it.
        let is_open = || owner::reach(store).is_ok_and(|reached| reached.is_some());
        if store.exists() && !key.exists() && !is_elsewhere && !is_open() {
            why.push(refused("key", &key, "is not there"));
        }
    }
    let mut once: Vec<String> = Vec::new();
    for text in why {
        if !once.contains(&text) {
            once.push(text);
        }
    }
    once
}

fn is_executable(about: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    let may = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may = true;
    about.is_file() && may
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
            Some(false) => "THE AGENT DOES NOT RUN THEM, or not all of them, or they refuse every call",
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

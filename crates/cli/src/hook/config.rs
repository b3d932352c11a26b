//! `hook install`, `status`, `uninstall`: writes, checks and removes an agent's configuration.
//!
//! Invariant R106: what an agent's configuration holds besides this program's hooks stays as it is, byte for byte, and removing the
//! hooks gives back the file that was there before. A file that cannot be read is not touched.

use super::agents::{self, Folders, Scope};
use super::diff;
use super::file::Configured;
use super::json_text::JsonText;
use super::shell::quoted;
use super::status;
use crate::context::Context;
use crate::exit::{End, Failure, Outcome};
use crate::named::named;
use crate::store::{StoreArgs, store_file};
use attestlog::json::{Json, Object};
use attestlog_capture::hook::Agent;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What OpenCode loads: it has no hooks of its own, but plugins.
const PLUGIN: &str = include_str!("plugin.js");
/// How long the plugin waits for the hook, in milliseconds.
const PLUGIN_WAIT: &str = "20000";

#[derive(Debug, Args)]
pub struct Where {
    /// For all projects of this user [default]
    #[arg(long = "user", group = "scope")]
    user: bool,
    /// For the project in the current folder [default for copilot]
    #[arg(long, group = "scope")]
    project: bool,
    /// For every user of this machine, who cannot change it; for its administrator
    #[arg(long, group = "scope")]
    managed: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Where {
    fn scope(&self) -> Option<Scope> {
        match self {
            Where { user: true, .. } => Some(Scope::User),
            Where { project: true, .. } => Some(Scope::Project),
            Where { managed: true, .. } => Some(Scope::Managed),
            _ => None,
        }
    }
}

fn agent_parser() -> impl TypedValueParser<Value = Agent> {
    let names = PossibleValuesParser::new(Agent::ALL.iter().map(|agent| agent.as_str()));
    names.try_map(|name| Agent::from_name(&name).ok_or("is none of them"))
}

#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The agent
    #[arg(value_parser = agent_parser())]
    agent: Agent,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    place: Where,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The user's role, for the calls of this agent
    #[arg(long, value_name = "ROLE", value_parser = named)]
    role: Option<String>,
    /// The purpose for which data is accessed, for the calls of this agent
    #[arg(long, value_name = "PURPOSE", value_parser = named)]
    purpose: Option<String>,
    /// The user, for the calls of this agent [default: whoever runs it]
    #[arg(long, value_name = "ID", value_parser = named)]
    as_user: Option<String>,
    /// Let tools run whose calls cannot be recorded
    #[arg(long)]
    fail_open: bool,
}

#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// The agent
    #[arg(value_parser = agent_parser())]
    agent: Agent,
    /// The store's file
    #[arg(value_name = "STORE", value_parser = store_file())]
    store: PathBuf,
    #[command(flatten)]
    place: Where,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The agent
    #[arg(value_parser = agent_parser())]
    agent: Agent,
    /// The store's file
    #[arg(value_name = "STORE", value_parser = store_file())]
    store: PathBuf,
    #[command(flatten)]
    place: Where,
}

fn folders() -> Result<Folders, Failure> {
    Folders::of_process().map_err(|e| Failure::file(".", &e))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The file that configures this agent's hooks, or why there is none.
fn file(folders: &Folders, agent: Agent, scope: Scope) -> Result<PathBuf, Failure> {
    folders.file(agent, scope).ok_or_else(|| {
        let why = match (agent, scope) {
            (Agent::Codex, Scope::Managed) => {
                "--managed: write the hooks into /etc/codex/requirements.toml yourself, as docs/agents/codex.md shows"
            }
            (_, Scope::Managed) => "--managed: this agent has no configuration that its users cannot change",
            _ => "HOME is not set, so the configuration cannot be found",
        };
        Failure::Input(why.to_owned())
    })
}

impl InstallArgs {
    /// The words of the hook's command: this program and the store by their whole paths, because an agent runs it anywhere.
    fn words(&self) -> Result<Vec<String>, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::Store(format!("this program: {e}")))?;
        let text = |path: PathBuf| {
            let shown = path.display().to_string();
            path.into_os_string().into_string().map_err(|_| Failure::Input(format!("{shown}: is not UTF-8")))
        };
        let mut words = vec![text(program)?, "hook".to_owned(), self.agent.as_str().to_owned()];
        words.push(text(absolute(&self.store.store))?);
        for flag in self.store.key.flags() {
            words.push(text(flag.into())?);
        }
        for (flag, value) in [("--user", &self.as_user), ("--role", &self.role), ("--purpose", &self.purpose)] {
            words.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
        }
        words.extend(self.fail_open.then(|| "--fail-open".to_owned()));
        Ok(words)
    }
}

pub fn install(cx: &Context, args: &InstallArgs) -> Outcome {
    let folders = folders()?;
    let scope = args.place.scope().unwrap_or_else(|| agents::usual(args.agent));
    let path = file(&folders, args.agent, scope)?;
    let store = absolute(&args.store.store);
    if !store.exists() {
        return Err(Failure::Store(format!(
            "{}: there is no store; make it first: attestlog init {}",
            store.display(),
            quoted(&store.to_string_lossy())
        )));
    }
    let file = Configured::read(&path)?;
    let words = args.words()?;
    let wanted = match args.agent {
        Agent::OpenCode => {
            let list: Vec<Json> = words.iter().map(|word| Json::from(word.as_str())).collect();
            let command = Json::from(list).to_canonical().to_string();
            PLUGIN.replace("COMMAND", &command).replace("WAIT)", &format!("{PLUGIN_WAIT})"))
        }
        agent => {
            let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            with_hooks(agent, &file, &store, &command)?
        }
    };
    if args.agent == Agent::OpenCode && file.text().is_some_and(|text| !is_plugin(text)) {
        return Err(Failure::Input(format!("{}: is not this program's plugin; move it away first", path.display())));
    }
    finish(cx, args.dry_run, args.place.json, (args.agent, scope), &file, Some(wanted))
}

/// The configuration with the hooks of this store: those that it had are replaced.
fn with_hooks(agent: Agent, file: &Configured, store: &Path, command: &str) -> Result<String, Failure> {
    let mut json = match file.text() {
        Some(text) => match without_hooks(agent, file, text, store)? {
            // Nothing but what this program wrote.
            rest if is_only_ours(agent, text, &rest) => JsonText::fresh(),
            rest => rest,
        },
        None => JsonText::fresh(),
    };
    let wrong = |why: String| Failure::Input(format!("{}: {why}", file.path().display()));
    if let Some((name, value)) = agents::also(agent) {
        json.set(name, &value);
    }
    for (event, element) in agents::entries(agent, command) {
        json.push(&["hooks", event], &element).map_err(wrong)?;
    }
    Ok(json.text().to_owned())
}

/// The configuration without the hooks of this store.
fn without_hooks(agent: Agent, file: &Configured, text: &str, store: &Path) -> Result<JsonText, Failure> {
    let mut json = JsonText::new(text).map_err(|why| {
        Failure::Input(format!("{}: {why}; the file was not touched: put it right first", file.path().display()))
    })?;
    let ours =
        |element: &Json| agents::commands(element).iter().any(|command| agents::is_ours(command, agent, Some(store)));
    for event in json.names(&["hooks"]) {
        json.remove(&["hooks", &event], ours);
    }
    Ok(json)
}

/// Whether the file was made by this program, and `rest`, which is left of it without the hooks, is nothing.
fn is_only_ours(agent: Agent, text: &str, rest: &JsonText) -> bool {
    JsonText::is_fresh(text) && rest.has_only(agents::also(agent).map(|(name, _)| name))
}

/// Whether a file is the plugin that this program writes.
pub fn is_plugin(text: &str) -> bool {
    text.lines().next() == PLUGIN.lines().next()
}

pub fn uninstall(cx: &Context, args: &UninstallArgs) -> Outcome {
    let folders = folders()?;
    let store = absolute(&args.store);
    let scopes = args.place.scope().map_or_else(|| Scope::ALL.to_vec(), |scope| vec![scope]);
    let mut found = false;
    for scope in scopes {
        let Some(path) = folders.file(args.agent, scope) else { continue };
        let file = Configured::read(&path)?;
        let Some(text) = file.text() else { continue };
        let rest = match args.agent {
            Agent::OpenCode if is_plugin(text) && status::plugin_store(text).is_some_and(|of| of == store) => None,
            Agent::OpenCode => continue,
            agent => {
                let json = without_hooks(agent, &file, text, &store)?;
                if json.text() == text {
                    continue;
                }
                (!is_only_ours(agent, text, &json)).then(|| json.text().to_owned())
            }
        };
        found = true;
        finish(cx, args.dry_run, args.place.json, (args.agent, scope), &file, rest)?;
    }
    if !found && args.place.json {
        cx.out().line(report(args.agent, None, None, false).to_canonical().as_str())?;
    } else if !found {
        cx.out().line(format!("no hook of {} records in {}", args.agent.as_str(), store.display()))?;
    }
    Ok(End::Done)
}

fn report(agent: Agent, scope: Option<Scope>, file: Option<&Path>, changed: bool) -> Json {
    Object::from_iter([
        ("agent", Json::from(agent.as_str())),
        ("scope", scope.map_or(Json::Null, |scope| scope.as_str().into())),
        ("file", file.map_or(Json::Null, |file| file.display().to_string().into())),
        ("changed", Json::from(changed)),
    ])
    .into()
}

/// Shows what changes, and changes it unless this is a trial. `wanted`: the new content, or `None` if the file is to go.
fn finish(
    cx: &Context,
    trial: bool,
    as_json: bool,
    (agent, scope): (Agent, Scope),
    file: &Configured,
    wanted: Option<String>,
) -> Outcome {
    let mut out = cx.out();
    let changes = file.text() != wanted.as_deref();
    if as_json {
        out.line(report(agent, Some(scope), Some(file.path()), changes && !trial).to_canonical().as_str())?;
    } else if changes {
        for line in diff::lines(file.path(), file.text(), wanted.as_deref()) {
            out.line(crate::render::clean(&line))?;
        }
    } else {
        out.line(format!("{}: is as it should be", file.path().display()))?;
    }
    if changes && !trial {
        match wanted {
            None => file.remove()?,
            Some(text) => {
                file.write(&text)?;
                if agent == Agent::Codex && text.contains(" hook codex ") && !as_json {
                    out.line("Codex runs these hooks only after you have trusted them: start `codex`, and answer its question")?;
                }
            }
        }
    }
    out.flush()?;
    Ok(End::Done)
}

pub fn status(cx: &Context, args: &StatusArgs) -> Outcome {
    let folders = folders()?;
    let scopes = args.place.scope().map_or_else(|| Scope::ALL.to_vec(), |scope| vec![scope]);
    let found = status::of(&folders, args.agent, &absolute(&args.store), &scopes)?;
    let mut out = cx.out();
    if args.place.json {
        out.line(found.json(args.agent).to_canonical().as_str())?;
    } else {
        for line in found.lines(args.agent) {
            out.line(crate::render::clean(&line))?;
        }
    }
    out.flush()?;
    Ok(End::Done)
}

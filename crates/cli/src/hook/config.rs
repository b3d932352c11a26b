//! `hook install`, `status`, `uninstall`: writes, checks and removes an agent's configuration.
//!
//! Invariant R106: what an agent's configuration holds besides this program's hooks stays as it is, byte for byte, and removing the
//! hooks gives back the file that was there before. A file that cannot be read is not touched.

use super::agents::{self, Folders, Scope};
use super::before::{self, Before};
use super::file::{self, Configured};
use super::json_text::JsonText;
use super::shell::quoted;
use super::written::{self, Written};
use super::{diff, status};
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
fn configuration(folders: &Folders, agent: Agent, scope: Scope) -> Result<PathBuf, Failure> {
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
        // In one word, so that a value that begins with a hyphen is not taken for another flag.
        for (flag, value) in [("--user", &self.as_user), ("--role", &self.role), ("--purpose", &self.purpose)] {
            words.extend(value.iter().map(|value| format!("{flag}={value}")));
        }
        words.extend(self.fail_open.then(|| "--fail-open".to_owned()));
        Ok(words)
    }
}

pub fn install(cx: &Context, args: &InstallArgs) -> Outcome {
    let folders = folders()?;
    let scope = args.place.scope().unwrap_or_else(|| agents::usual(args.agent));
    let path = configuration(&folders, args.agent, scope)?;
    let store = absolute(&args.store.store);
    if !store.exists() {
        return Err(Failure::Store(format!(
            "{}: there is no store; make it first: attestlog init {}",
            store.display(),
            quoted(&store.to_string_lossy())
        )));
    }
    let _alone = lock(&folders, scope, args.dry_run)?;
    let file = Configured::read(&path)?;
    let words = args.words()?;
    let Some(command) = Written::of_words(words.clone(), args.agent) else {
        let why = "the program's name must begin with attestlog, by which its hooks are known again";
        return Err(Failure::Input(format!("{}: {why}", words[0])));
    };
    if args.agent == Agent::OpenCode {
        if file.text().is_some_and(|text| !is_plugin(text)) {
            return Err(Failure::Input(format!(
                "{}: is not this program's plugin; move it away first",
                path.display()
            )));
        }
        return finish(cx, args.dry_run, args.place.json, (args.agent, scope), &file, Some(plugin(&words)));
    }
    let rest = without(args.agent, &file, file.text(), &store)?;
    let wanted = with_hooks(args.agent, &file, rest.as_deref(), &command)?;
    if !args.dry_run && file.text() != Some(&wanted) {
        let cut_out = cut(args.agent, &file, &wanted, &store, None)?;
        let kept = rest.filter(|rest| cut_out.as_ref() != Some(rest));
        before::keep(file.path(), &store, kept.map(|before| Before { before, after: wanted.clone() }))?;
    }
    finish(cx, args.dry_run, args.place.json, (args.agent, scope), &file, Some(wanted))
}

/// Keeps others from changing the configurations of this scope at the same time.
fn lock(folders: &Folders, scope: Scope, is_trial: bool) -> Result<Option<std::fs::File>, Failure> {
    let folder = match scope {
        Scope::User => folders.home.as_deref().unwrap_or(&folders.project),
        Scope::Project => &folders.project,
        Scope::Managed => &folders.machine,
    };
    if is_trial { Ok(None) } else { file::lock(folder) }
}

/// The plugin that runs these words.
pub fn plugin(words: &[String]) -> String {
    let list: Vec<Json> = words.iter().map(|word| Json::from(word.as_str())).collect();
    let command = Json::from(list).to_canonical().to_string();
    PLUGIN.replace("WAIT)", &format!("{PLUGIN_WAIT})")).replace("COMMAND", &command)
}

/// A configuration with the hooks of this command.
fn with_hooks(agent: Agent, file: &Configured, rest: Option<&str>, command: &Written) -> Result<String, Failure> {
    let wrong = |why: String| Failure::Input(format!("{}: {why}", file.path().display()));
    let mut json = rest.map_or_else(|| Ok(JsonText::fresh()), JsonText::new).map_err(wrong)?;
    if let Some((name, value)) = agents::also(agent) {
        json.set(name, &value);
    }
    for (event, element) in agents::entries(agent, &command.command()) {
        json.push(&["hooks", event], &element).map_err(wrong)?;
    }
    Ok(json.text().to_owned())
}

/// The configuration without the hooks of this store, as it was before they were added; `None` if there was no file.
fn without(agent: Agent, file: &Configured, text: Option<&str>, store: &Path) -> Result<Option<String>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match before::of(file.path(), store)? {
        Some(kept) if kept.after == text => Ok(Some(kept.before)),
        kept => cut(agent, file, text, store, kept.and_then(|kept| JsonText::new(&kept.before).ok()).as_ref()),
    }
}

/// The configuration from which the hooks of this store were cut out; `None` if nothing is left of a file that this program made.
/// `before`: what was there before they were added, if that is known; it stays though it is empty.
fn cut(
    agent: Agent,
    file: &Configured,
    text: &str,
    store: &Path,
    before: Option<&JsonText>,
) -> Result<Option<String>, Failure> {
    let mut json = JsonText::new(text).map_err(|why| {
        Failure::Input(format!("{}: {why}; the file was not touched: put it right first", file.path().display()))
    })?;
    let stays = |path: &[&str]| before.is_some_and(|before| before.value(path).is_some());
    for event in json.names(&["hooks"]) {
        let ours = |hook: &Json| {
            let command = agents::NAMES.iter().find_map(|name| hook.get(name)?.as_str());
            let written = command.and_then(|command| Written::read(command, agent, &event));
            written.is_some_and(|written| written.records_in(store))
        };
        let group = |element: &Json| element.get("hooks").and_then(Json::as_array).map(<[Json]>::to_vec);
        // A group goes if nobody else has a hook in it.
        json.remove(
            &["hooks", &event],
            |element| match group(element) {
                Some(hooks) => !hooks.is_empty() && hooks.iter().all(ours),
                None => ours(element),
            },
            stays,
        );
        let left = json.value(&["hooks", &event]).and_then(|list| Some(list.as_array()?.len())).unwrap_or_default();
        for i in 0..left {
            json.remove(&["hooks", &event, &i.to_string(), "hooks"], ours, stays);
        }
    }
    let has_changed = json.text() != text;
    if let Some((name, _)) = agents::also(agent).filter(|(name, _)| has_changed && before.is_some() && !stays(&[name]))
    {
        json.unset(name);
    }
    let is_only_ours =
        before.is_none() && JsonText::is_fresh(text) && json.has_only(agents::also(agent).map(|(name, _)| name));
    Ok((!has_changed || !is_only_ours).then(|| json.text().to_owned()))
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
        let _alone = lock(&folders, scope, args.dry_run)?;
        let file = Configured::read(&path)?;
        let Some(text) = file.text() else { continue };
        let rest = match args.agent {
            Agent::OpenCode
                if is_plugin(text) && status::plugin_store(text).is_some_and(|of| written::is_same(&of, &store)) =>
            {
                None
            }
            Agent::OpenCode => continue,
            agent => without(agent, &file, Some(text), &store)?,
        };
        for event in changed(args.agent, rest.as_deref(), &store) {
            let why = "somebody has changed it, so it is left as it is: remove it yourself";
            cx.complain(format!("{}: the hook for {event} names {}, but {why}", path.display(), store.display()));
        }
        if rest.as_deref() == Some(text) {
            continue;
        }
        found = true;
        finish(cx, args.dry_run, args.place.json, (args.agent, scope), &file, rest)?;
        if !args.dry_run {
            before::keep(file.path(), &store, None)?;
        }
    }
    if !found && args.place.json {
        cx.out().line(report(args.agent, None, None, false).to_canonical().as_str())?;
    } else if !found {
        cx.out().line(format!("no hook of {} records in {}", args.agent.as_str(), store.display()))?;
    }
    Ok(End::Done)
}

/// The events whose hooks name this store and are not what `install` writes.
fn changed(agent: Agent, text: Option<&str>, store: &Path) -> Vec<String> {
    let value = text.and_then(|text| Some(Json::parse(text.as_bytes()).ok()?.value)).unwrap_or(Json::Null);
    let all = written::all(agent, &value).into_iter();
    all.filter(|found| written::names(&found.command, agent, store)).map(|found| found.event).collect()
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
        let (from, to) = (file.text(), wanted.as_deref());
        let lines = match agent {
            Agent::OpenCode => diff::lines(file.path(), from, to),
            _ => diff::hooks(
                file.path(),
                (from, written::only_in(agent, from, to)),
                (to, written::only_in(agent, to, from)),
            ),
        };
        for line in lines {
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

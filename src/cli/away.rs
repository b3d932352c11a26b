//! Commands on a store that another process has open: they are run there, and their input and output come here.
//!
//! The alternative is a protocol of library calls, one for each of what a store can do, twice. A command line is one form
//! for all of them, and the same code answers in both cases, so an answer cannot depend on who owns the store.

use super::exit::{self, Failure, Outcome};
use super::session;
use super::store::StoreArgs;
use super::{Cli, run};
use attestlog::AuditLog;
use attestlog::owner::{Command, Commands, Console, Effect, Ran, Terminal, patience, reach};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::any::TypeId;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// What each command that opens a store does. Commands that are not here have no store, or see to it themselves: `record`,
/// `import` and `mcp` sanitise here and send what comes of it; `serve` waits until it owns the store.
const EFFECTS: &[(&str, Effect)] = &[
    ("alerts ack", Effect::Changes),
    ("alerts forget", Effect::Changes),
    ("alerts list", Effect::Reads),
    ("alerts settle", Effect::Changes),
    ("alerts watch", Effect::Follows),
    ("anchors flush", Effect::Changes),
    ("anchors forget", Effect::Changes),
    ("anchors records", Effect::Reads),
    ("anchors set", Effect::Changes),
    ("anchors show", Effect::Reads),
    ("backup", Effect::Changes),
    ("break-glass check", Effect::Reads),
    ("break-glass close", Effect::Changes),
    ("break-glass list", Effect::Reads),
    ("break-glass open", Effect::Changes),
    ("break-glass review", Effect::Changes),
    ("checkpoint", Effect::Reads),
    ("clock confirm", Effect::Changes),
    ("clock show", Effect::Reads),
    ("erase", Effect::Changes),
    ("evidence", Effect::Changes),
    ("export", Effect::Reads),
    ("health", Effect::Reads),
    ("hold list", Effect::Reads),
    ("hold place", Effect::Changes),
    ("hold release", Effect::Changes),
    ("keys rotate", Effect::Changes),
    ("keys show", Effect::Reads),
    ("policy set", Effect::Changes),
    ("policy show", Effect::Reads),
    ("prove", Effect::Reads),
    ("purge", Effect::Changes),
    ("query", Effect::Reads),
    ("report access", Effect::Reads),
    ("report disclosures", Effect::Reads),
    ("reveal", Effect::Changes),
    ("stats", Effect::Reads),
    ("tail", Effect::Follows),
    ("timeline", Effect::Reads),
    ("verify", Effect::Reads),
];

/// Commands with a store that are not run elsewhere.
#[cfg(test)]
const OWN: &[&str] = &["import", "init", "keys backup", "mcp", "record", "restore", "serve"];

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    // Usage errors end here, with code 2 and a message of clap's.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let (path, leaf) = leaf(&matches);
    let effect = EFFECTS.iter().find(|(name, _)| *name == path).map(|(_, effect)| *effect);
    let store = effect.and_then(|effect| Some((StoreArgs::from_arg_matches(leaf).ok()?, effect)));
    match store {
        Some((store, effect)) => ExitCode::from(anywhere(&store, effect, || run(&cli.command))),
        None => ExitCode::from(exit::code(run(&cli.command))),
    }
}

/// The names of the subcommands, and the arguments of the last.
fn leaf(matches: &ArgMatches) -> (String, &ArgMatches) {
    let (mut path, mut at) = (Vec::new(), matches);
    while let Some((name, inside)) = at.subcommand() {
        path.push(name);
        at = inside;
    }
    (path.join(" "), at)
}

/// Runs a command where the store is open, or here where it is not.
fn anywhere(store: &StoreArgs, effect: Effect, here: impl Fn() -> Outcome) -> u8 {
    let mut began = Instant::now();
    let mut terminal = Here { resume: None };
    loop {
        let untrusted = match reach(&store.store) {
            Ok(Some(connection)) => {
                let command = match command(store, effect, terminal.resume) {
                    Ok(command) => command,
                    Err(failure) => return exit::code(Err(failure)),
                };
                match connection.run(&command, &mut terminal) {
                    Ok(Ran::Ended(code)) => return code,
                    Ok(Ran::Gone { shown }) if effect == Effect::Follows || (effect == Effect::Reads && !shown) => {
                        if session::input_was_read() {
                            return exit::code(Err(gone("run it again")));
                        }
                        // However long it ran: who takes over now has all the time to open the store.
                        began = Instant::now();
                        continue;
                    }
                    Ok(Ran::Gone { .. }) if effect == Effect::Reads => {
                        return exit::code(Err(gone("what it said is not all; run it again")));
                    }
                    Ok(Ran::Gone { .. }) => {
                        return exit::code(Err(gone("it is not known whether it was done; look at the log first")));
                    }
                    Err(e) => return exit::code(Err(e.into())),
                }
            }
            Ok(None) => None,
            Err(e) => Some(e.to_string()),
        };
        if let Some(seq) = terminal.resume {
            let _ = session::shown(seq);
        }
        match here() {
            Err(Failure::Locked(message)) => {
                if began.elapsed() > patience(&store.store) || session::input_was_read() {
                    return exit::code(Err(Failure::Store(untrusted.unwrap_or(message))));
                }
                std::thread::sleep(PAUSE);
            }
            outcome => return exit::code(outcome),
        }
    }
}

fn gone(what: &str) -> Failure {
    Failure::Store(format!("the process that had the store open ended in the middle of this command: {what}"))
}

/// The command line of this process, for another one.
fn command(store: &StoreArgs, effect: Effect, resume: Option<u64>) -> Result<Command, Failure> {
    // Who could not have opened the store with these keys gets nothing that needs them from a process that could.
    let key = store.key.path(&store.store);
    if std::fs::symlink_metadata(&key).is_ok() {
        store.key.load(&store.store)?;
    }
    let arguments = std::env::args_os().map(|a| a.into_string()).collect::<Result<Vec<_>, _>>();
    let arguments = arguments.map_err(|a| Failure::Input(format!("{}: is not UTF-8", a.display())))?;
    let folder = std::env::current_dir().map_err(|e| Failure::Store(format!("the present folder: {e}")))?;
    let folder = folder.to_string_lossy().into_owned();
    Ok(Command { arguments, folder, effect, settings: session::settings(), resume })
}

/// The terminal of this process.
struct Here {
    resume: Option<u64>,
}

impl Terminal for Here {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().write_all(bytes)?;
        io::stdout().flush()
    }

    fn err(&mut self, bytes: &[u8]) -> io::Result<()> {
        // As with messages of this process: where it cannot be written there is nobody to tell.
        let _ = io::stderr().write_all(bytes);
        Ok(())
    }

    fn input(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 64 << 10];
        let read = session::stdin().read(&mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn position(&mut self, seq: u64) {
        self.resume = Some(seq);
    }
}

/// Runs commands of other processes in this one.
#[derive(Debug)]
pub struct Runner;

impl Commands for Runner {
    fn run(&self, log: &AuditLog, command: Command, console: Console) -> u8 {
        let folder = PathBuf::from(&command.folder);
        let arguments = command.arguments.clone();
        session::run(log, command, console, || {
            let work = || {
                let parsed = absolute(Cli::command(), &folder).try_get_matches_from(arguments);
                match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
                    Ok(cli) => exit::code(run(&cli.command)),
                    Err(e) => exit::code(Err(Failure::Input(e.to_string()))),
                }
            };
            let panicked =
                || exit::code(Err(Failure::Store("the command failed by a mistake of this program".to_owned())));
            std::panic::catch_unwind(work).unwrap_or_else(|_| panicked())
        })
    }
}

/// Lets every path start from the folder of whoever sent the command.
fn absolute(command: clap::Command, folder: &Path) -> clap::Command {
    let owned = folder.to_owned();
    let command = command.mut_args(move |arg| {
        // The name of a program without a folder is looked for as programs are.
        let program = arg.get_value_names().is_some_and(|names| names.iter().any(|name| *name == "PROGRAM"));
        if arg.get_value_parser().type_id() != TypeId::of::<PathBuf>() {
            return arg;
        }
        let folder = owned.clone();
        arg.value_parser(PathBufValueParser::new().map(move |path| match path.components().count() {
            _ if path.as_os_str() == "-" => path,
            1 if program => path,
            _ => folder.join(path),
        }))
    });
    let folder = folder.to_owned();
    command.mut_subcommands(move |inside| absolute(inside, &folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        if command.get_arguments().any(|a| a.get_id() == "store") {
            found.push(path.to_owned());
        }
        for inside in command.get_subcommands() {
            let name =
                if path.is_empty() { inside.get_name().to_owned() } else { format!("{path} {}", inside.get_name()) };
            walk(inside, &name, found);
        }
    }

    /// A command that is in neither list would fail wherever another process has the store open.
    #[test]
    fn every_command_with_a_store_knows_where_it_runs() {
        let mut found = Vec::new();
        walk(&Cli::command(), "", &mut found);
        let known = |path: &String| EFFECTS.iter().any(|(name, _)| name == path) || OWN.contains(&path.as_str());
        let unknown: Vec<&String> = found.iter().filter(|path| !known(path)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(EFFECTS.iter().all(|(name, _)| found.iter().any(|path| path == name)));
    }

    #[test]
    fn paths_start_from_the_sender_s_folder() {
        let command = absolute(Cli::command(), Path::new("/there"));
        let parse = |args: &[&str]| {
            let matches = command.clone().try_get_matches_from(args).unwrap();
            let (_, leaf) = leaf(&matches);
            StoreArgs::from_arg_matches(leaf).unwrap().store
        };
        assert_eq!(parse(&["attestlog", "query", "s"]), Path::new("/there/s"));
        assert_eq!(parse(&["attestlog", "query", "/x/s"]), Path::new("/x/s"));
    }
}

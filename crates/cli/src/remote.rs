//! Commands on a store that another process has open: they are run there, and their input and output come here.
//!
//! The alternative is a protocol of library calls, one for each of what a store can do, twice. A command line is one form
//! for all of them, and the same code answers in both cases, so an answer cannot depend on who owns the store.

use super::beside::Beside;
use super::console;
use super::exit::{self, Failure, Outcome, complain};
use super::needs::{self, RunsWhere};
use super::store::StoreArgs;
use super::verify_args;
use super::{Cli, run};
use attestlog::keys::KeyFile;
use attestlog::note::VerifierKey;
use attestlog::owner::{
    Authority, Command, Commands, Connection, Console, Effect, Need, Ran, Terminal, keys, patience, reach,
};
use attestlog::{AuditLog, SystemRandom};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::any::TypeId;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// How long an owner that proves nothing is given to end, or to replace a key: it may be a command that only reads.
const DOUBT: Duration = Duration::from_secs(3);

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    hide_memory();
    say_only_own_panics();
    // Usage errors end here, with code 2 and a message of clap's.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let store = match needs::place(&cli.command) {
        RunsWhere::Store(effect, _) => StoreArgs::from_arg_matches(leaf(&matches)).ok().map(|store| (store, effect)),
        RunsWhere::Own => None,
    };
    match store {
        Some((store, effect)) => {
            let pinned = leaf(&matches).try_get_one::<VerifierKey>("public_key").ok().flatten();
            ExitCode::from(anywhere(&store, effect, pinned, || run(&cli.command)))
        }
        None => ExitCode::from(exit::code(run(&cli.command))),
    }
}

/// What the storage panics over in a damaged file becomes an error with a message, and is not told a second time.
fn say_only_own_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !attestlog::is_guarded() {
            say(info);
        }
    }));
}

/// This process holds keys, wherever their passphrase came from: its memory and environment are not for other processes of
/// the account to read, nor for a core dump. A server behind `mcp` is one of these.
fn hide_memory() {
    // Refused nowhere; and a command is not to fail for it.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// The arguments of the last subcommand.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    let mut at = matches;
    while let Some((_, inside)) = at.subcommand() {
        at = inside;
    }
    at
}

/// Connects to the process that has the store open. Where this process has the store's key, or was told its public one, that process
/// has to prove that it has it (R72), and the key file is proven to it; else says so.
fn reach_believed(
    store: &StoreArgs,
    pinned: Option<&VerifierKey>,
    doubted: &mut bool,
) -> Result<Option<Connection>, Failure> {
    let began = Instant::now();
    loop {
        let reached = reach(&store.store).map_err(|e| Failure::Locked(e.to_string()))?;
        let Some(mut connection) = reached else { return Ok(None) };
        // Read anew each time. Whoever could not have opened the store with this key file is told so here.
        let keys = keys(&store.key.options()?, &store.store)?;
        let Some(known) = keys.as_ref().map(KeyFile::verifier).or_else(|| pinned.cloned()) else {
            if !std::mem::replace(doubted, true) {
                complain(format!(
                    "warning: what follows is the word of process {} of this user, which has the store open and has proven nothing; \
                     without the store's key file or its public key (--public-key, where the command takes it) nobody can tell \
                     whether it is attestlog",
                    connection.process()
                ));
            }
            return Ok(Some(connection));
        };
        let proven = match (connection.confirm(&known, &SystemRandom), &keys) {
            (Ok(true), Some(keys)) => connection.prove(keys).map_err(|e| e.at(store.key.place(&store.store))),
            (proven, _) => proven,
        };
        match proven {
            Ok(true) => return Ok(Some(connection)),
            // It has gone meanwhile.
            Ok(false) => {}
            Err(e) if began.elapsed() > DOUBT => return Err(Failure::Store(e.to_string())),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Runs a command where the store is open, or here where it is not.
fn anywhere(store: &StoreArgs, effect: Effect, pinned: Option<&VerifierKey>, here: impl Fn() -> Outcome) -> u8 {
    let (mut began, mut doubted) = (Instant::now(), false);
    let mut terminal = Here { resume: None };
    loop {
        let untrusted = match reach_believed(store, pinned, &mut doubted) {
            Ok(Some(connection)) => {
                let command = match command(effect, terminal.resume) {
                    Ok(command) => command,
                    Err(failure) => return exit::code(Err(failure)),
                };
                match connection.run(&command, &mut terminal) {
                    Ok(Ran::Ended(code)) => return code,
                    Ok(Ran::Gone { shown }) if effect == Effect::Follows || (effect == Effect::Reads && !shown) => {
                        if console::input_was_read() {
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
            Err(Failure::Locked(e)) => Some(e),
            Err(failure) => return exit::code(Err(failure)),
        };
        if let Some(seq) = terminal.resume {
            let _ = console::shown(seq);
        }
        match here() {
            Err(Failure::Locked(message)) => {
                // Whoever listens and does not answer, or speaks another language, will not do so for being asked again.
                if untrusted.is_some() || began.elapsed() > patience(&store.store) || console::input_was_read() {
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
fn command(effect: Effect, resume: Option<u64>) -> Result<Command, Failure> {
    let arguments = std::env::args_os().map(|a| a.into_string()).collect::<Result<Vec<_>, _>>();
    let arguments = arguments.map_err(|a| Failure::Input(format!("{}: is not UTF-8", a.display())))?;
    let arguments = with_keys(arguments);
    let folder = std::env::current_dir().map_err(|e| Failure::Store(format!("the present folder: {e}")))?;
    let folder = folder.to_string_lossy().into_owned();
    Ok(Command { arguments, folder, effect, settings: console::settings(), resume })
}

/// The same with public keys in the place of the files that name them: the process that has the store open reads no file for those who
/// prove no key.
fn with_keys(mut arguments: Vec<String>) -> Vec<String> {
    const NAMED: [&str; 2] = ["--public-key", "--witness"];
    let mut follows = false;
    for argument in arguments.iter_mut().take_while(|argument| *argument != "--") {
        let was = std::mem::replace(&mut follows, NAMED.contains(&argument.as_str()));
        if was {
            *argument = verify_args::spelled_out(argument);
        } else if let Some((flag, value)) = argument.split_once('=')
            && NAMED.contains(&flag)
        {
            *argument = format!("{flag}={}", verify_args::spelled_out(value));
        }
    }
    arguments
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
        let read = console::stdin().read(&mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn position(&mut self, seq: u64) {
        self.resume = Some(seq);
    }
}

/// Runs commands of other processes in this one, on the store at this path.
#[derive(Debug)]
pub struct Runner {
    pub store: PathBuf,
    pub beside: Arc<Beside>,
}

impl Commands for Runner {
    fn run(&self, log: &AuditLog, command: Command, console: Console, authority: Authority) -> u8 {
        let folder = PathBuf::from(&command.folder);
        let arguments = command.arguments.clone();
        console::run((log, &self.beside), command, console, authority, || {
            let work = || {
                let parsed = absolute(Cli::command(), &folder).try_get_matches_from(arguments);
                let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
                match parsed {
                    Ok((cli, matches)) => {
                        exit::code(self.check(&cli, leaf(&matches), authority).and_then(|()| run(&cli.command)))
                    }
                    Err(e) => exit::code(Err(Failure::Input(e.to_string()))),
                }
            };
            let panicked =
                || exit::code(Err(Failure::Store("the command failed by a mistake of this program".to_owned())));
            std::panic::catch_unwind(work).unwrap_or_else(|_| panicked())
        })
    }
}

impl Runner {
    /// Refuses what whoever sent the command may not do, and to answer from memory for a file that is not there any more.
    fn check(&self, cli: &Cli, arguments: &ArgMatches, authority: Authority) -> Result<(), Failure> {
        let RunsWhere::Store(_, need) = needs::place(&cli.command) else {
            return Err(Failure::Input("this command does not run in another process".to_owned()));
        };
        authority.check(need).map_err(|e| Failure::Store(e.to_string()))?;
        let named = arguments.get_one::<PathBuf>("store").cloned().unwrap_or_default();
        let is_same = |a: &Path, b: &Path| {
            a == b || a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
        };
        if !is_same(&named, &self.store) {
            let message = format!("{}: is not the store that this process has open", named.display());
            return Err(Failure::Input(message));
        }
        // Files are opened with the rights of this process. Whoever has the key has these anyway.
        if !authority.allows(Need::Admin)
            && let Some(file) = files(arguments).first()
        {
            let message = format!(
                "{}: the process that has the store open touches no file for those who prove no key; use standard input and \
                 output, or name the key file (--key)",
                file.display()
            );
            return Err(Failure::Store(message));
        }
        match console::current() {
            // To a verification a file that was written over is a finding.
            Some(session) if !matches!(cli.command, super::Command::Verify(_)) => {
                session.log.check_file().map_err(|e| Failure::Store(e.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// The files that a command names besides the store and its keys.
fn files(arguments: &ArgMatches) -> Vec<PathBuf> {
    let own = ["store", "key", "passphrase_file"];
    let others = arguments.ids().map(clap::Id::as_str).filter(|id| !own.contains(id));
    let paths = others.filter_map(|id| arguments.try_get_many::<PathBuf>(id).ok().flatten()).flatten();
    paths.filter(|path| path.as_os_str() != "-").cloned().collect()
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

    fn parse(args: &[&str]) -> (Cli, ArgMatches) {
        let matches = Cli::command().try_get_matches_from([&["attestlog"], args].concat()).unwrap();
        (Cli::from_arg_matches(&matches).unwrap(), matches)
    }

    fn walk(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        if command.get_arguments().any(|a| a.get_id() == "store") && command.get_name() != "restore" {
            found.push(path.to_owned());
        }
        for inside in command.get_subcommands() {
            let name =
                if path.is_empty() { inside.get_name().to_owned() } else { format!("{path} {}", inside.get_name()) };
            walk(inside, &name, found);
        }
    }

    /// What a command needs, for all that open a store: so that a change of the table is seen.
    #[test]
    fn what_reads_without_keys_is_a_short_list() {
        let mut all = Vec::new();
        walk(&Cli::command(), "", &mut all);
        let needed = |path: &str| {
            let words: Vec<&str> = path.split(' ').collect();
            // What else a command demands.
            let more: &[&str] = match path {
                "timeline" => &["c"],
                "export" => &["--format", "jsonl"],
                "report access" => &["--patient", "p", "--format", "json"],
                "report disclosures" => &["--patient", "p", "--format", "json"],
                _ => &[],
            };
            let matches = Cli::command().try_get_matches_from([&["attestlog"], &*words, &["s"], more].concat()).ok()?;
            match needs::place(&Cli::from_arg_matches(&matches).ok()?.command) {
                RunsWhere::Store(_, Need::Read) => Some(path.to_owned()),
                _ => None,
            }
        };
        let mut reads: Vec<String> = all.iter().filter_map(|path| needed(path)).collect();
        reads.sort_unstable();
        let expected = "alerts list, anchors records, anchors show, break-glass list, clock show, export, health, hold list, \
                        keys show, policy show, query, report access, report disclosures, stats, tail, timeline, verify";
        assert_eq!(reads.join(", "), expected);
    }

    #[test]
    fn files_that_a_command_names_are_found() {
        let of = |args: &[&str]| files(leaf(&parse(args).1)).len();
        assert_eq!(of(&["query", "s", "--key", "k", "--passphrase-file", "p"]), 0);
        assert_eq!(of(&["verify", "s", "--against", "a", "--against", "-", "--against", "b"]), 2);
        assert_eq!(of(&["export", "s", "--format", "jsonl", "-o", "x"]), 1);
    }

    #[test]
    fn paths_start_from_the_sender_s_folder() {
        let command = absolute(Cli::command(), Path::new("/there"));
        let parse = |args: &[&str]| {
            let matches = command.clone().try_get_matches_from(args).unwrap();
            StoreArgs::from_arg_matches(leaf(&matches)).unwrap().store
        };
        assert_eq!(parse(&["attestlog", "query", "s"]), Path::new("/there/s"));
        assert_eq!(parse(&["attestlog", "query", "/x/s"]), Path::new("/x/s"));
    }
}

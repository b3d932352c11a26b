//! Where a command's input and output are: this process's own, or those of the process that sent the command here.
//!
//! Invariant V3: a command that runs for another process reads and writes nothing of this one's standard streams, folder
//! or environment, and no file but the store's own unless its sender has proven the store's key. It finds its session by its
//! thread; whatever it hands to threads of its own takes the stream along.

use super::beside::Beside;
use super::exit::Failure;
use attestlog::AuditLog;
use attestlog::owner::{Authority, Command, Console, Need};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A command that another process sent.
#[derive(Debug)]
pub struct Session {
    /// The store that it is for.
    pub log: AuditLog,
    console: Console,
    folder: PathBuf,
    settings: BTreeMap<String, String>,
    resume: Option<u64>,
    authority: Authority,
    beside: Arc<Beside>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// Set once standard input was read: then the command cannot be run again elsewhere.
static INPUT_READ: AtomicBool = AtomicBool::new(false);

/// For a command that follows: what was shown already, when it goes on here after another process had run it.
static SHOWN: AtomicU64 = AtomicU64::new(u64::MAX);

/// The session of this thread, where it runs a command for another process.
pub fn current() -> Option<Arc<Session>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `work` as a command of another process.
pub fn run<T>(
    (log, beside): (&AuditLog, &Arc<Beside>),
    command: Command,
    console: Console,
    authority: Authority,
    work: impl FnOnce() -> T,
) -> T {
    let Command { folder, settings, resume, .. } = command;
    let (log, beside) = (log.clone(), beside.clone());
    let session = Session { log, console, folder: folder.into(), settings, resume, authority, beside };
    CURRENT.set(Some(Arc::new(session)));
    let done = work();
    CURRENT.set(None);
    done
}

/// A command has written what lies beside the store: the process that has the store open uses it from now on. Where that is
/// this one, and it runs nothing but this command, there is nothing to tell.
pub fn beside_changed() -> Result<(), Failure> {
    current().map_or(Ok(()), |session| session.beside.changed(&session.log))
}

/// What a command's terminal and environment are like, for [`Command::settings`].
pub fn settings() -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    set("color", use_color().to_string());
    set("progress", io::stderr().is_terminal().to_string());
    if let Some(width) = width() {
        set("width", width.to_string());
    }
    set("user", user());
    settings
}

/// Who runs this program, as far as the environment says.
pub fn user() -> String {
    let unknown = || "unknown user".to_owned();
    if let Some(session) = current() {
        return session.settings.get("user").cloned().unwrap_or_else(unknown);
    }
    let names = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.map(|name| name.trim().to_owned()).find(|name| !name.is_empty()).unwrap_or_else(unknown)
}

/// Whether colours may be used: on a terminal, and nobody said no.
pub fn use_color() -> bool {
    if let Some(session) = current() {
        return session.is("color");
    }
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// Columns of the terminal, if it is one.
pub fn width() -> Option<usize> {
    if let Some(session) = current() {
        return session.settings.get("width").and_then(|width| width.parse().ok());
    }
    let columns = || terminal_size::terminal_size().map_or(80, |(w, _)| usize::from(w.0).max(40));
    io::stdout().is_terminal().then(columns)
}

/// Whether somebody watches standard error.
pub fn shows_progress() -> bool {
    current().map_or_else(|| io::stderr().is_terminal(), |session| session.is("progress"))
}

/// A path as the command meant it.
pub fn path(path: &Path) -> PathBuf {
    match current() {
        Some(session) if path.as_os_str() != "-" => session.folder.join(path),
        _ => path.to_owned(),
    }
}

/// From where a command that follows goes on.
pub fn resume() -> Option<u64> {
    match current() {
        Some(session) => session.resume,
        None => Some(SHOWN.load(Ordering::SeqCst)).filter(|&seq| seq != u64::MAX),
    }
}

/// A command that follows has shown everything below this seq.
pub fn shown(seq: u64) -> io::Result<()> {
    match current() {
        Some(session) => session.console.position(seq),
        None => {
            SHOWN.store(seq, Ordering::SeqCst);
            Ok(())
        }
    }
}

/// Whether standard input was read in this process.
pub fn input_was_read() -> bool {
    INPUT_READ.load(Ordering::SeqCst)
}

impl Session {
    /// Whether the command may use the store's keys.
    pub fn has_keys(&self) -> bool {
        self.authority.allows(Need::Admin)
    }

    fn is(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|value| value == "true")
    }
}

/// Standard output or standard error.
#[derive(Debug)]
pub enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    /// The other process's output, or its errors.
    Away(Arc<Session>, bool),
}

/// Standard output.
pub fn stdout() -> Sink {
    current().map_or_else(|| Sink::Stdout(io::stdout()), |session| Sink::Away(session, true))
}

/// Standard error.
pub fn stderr() -> Sink {
    current().map_or_else(|| Sink::Stderr(io::stderr()), |session| Sink::Away(session, false))
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(bytes),
            Sink::Stderr(err) => err.write(bytes),
            Sink::Away(session, true) => session.console.out(bytes).map(|()| bytes.len()),
            Sink::Away(session, false) => session.console.err(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::Stderr(err) => err.flush(),
            Sink::Away(..) => Ok(()),
        }
    }
}

/// Standard input.
#[derive(Debug)]
pub enum Input {
    Stdin(io::Stdin),
    /// The other process's, with what was sent of it and not read yet.
    Away(Arc<Session>, Vec<u8>, usize),
}

/// Standard input.
pub fn stdin() -> Input {
    current().map_or_else(|| Input::Stdin(io::stdin()), |session| Input::Away(session, Vec::new(), 0))
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Stdin(input) => {
                INPUT_READ.store(true, Ordering::SeqCst);
                input.read(out)
            }
            Input::Away(session, sent, at) => {
                if *at >= sent.len() {
                    (*sent, *at) = (session.console.input()?, 0);
                }
                let mut rest = sent.get(*at..).unwrap_or_default();
                let read = rest.read(out)?;
                *at += read;
                Ok(read)
            }
        }
    }
}

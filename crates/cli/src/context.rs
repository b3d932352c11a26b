//! What a command knows of its surroundings: the terminal, the standard streams, who runs it, and how it will end. Made once, in
//! `main`, and passed by hand.

use super::exit::{End, Failure, Outcome};
use super::line_reader::Source;
use super::progress::{Progress, Unit};
use super::render::{Out, clean_lines};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the module. Copies share how the command will end.
#[derive(Debug, Clone)]
pub struct Context {
    /// Whether to use colours: on a terminal, unless they were turned off.
    color: bool,
    /// The width of the terminal in columns; `None` if the output is not a terminal.
    width: Option<usize>,
    /// Whether standard error is a terminal that somebody watches.
    progress: bool,
    user: Arc<str>,
    /// Whether the command answers from a store that was opened with damage, and has said so.
    damaged: Arc<AtomicBool>,
    /// How many alerts the rules have raised that this process ran.
    raised: Arc<AtomicU64>,
}

impl Context {
    /// The surroundings of this process.
    pub fn of_process() -> Context {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let columns = || terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(40));
        let names = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
        let user = names.map(|name| name.trim().to_owned()).find(|name| !name.is_empty());
        Context {
            color: io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
            width: io::stdout().is_terminal().then(columns),
            progress: io::stderr().is_terminal(),
            user: user.map_or_else(|| "unknown user".into(), Into::into),
            damaged: Arc::default(),
            raised: Arc::default(),
        }
    }

    /// The user who runs this program, according to the environment.
    pub fn user(&self) -> String {
        self.user.to_string()
    }

    /// Standard output.
    pub fn out(&self) -> Out {
        Out::new(io::stdout(), self.color, self.width)
    }

    /// An input: a file, or standard input for `-` or no path.
    pub fn source(&self, path: Option<&Path>) -> Result<Source, Failure> {
        match path {
            Some(path) if path.as_os_str() != "-" => Source::file(path),
            _ => Ok(Source::of("standard input", io::stdin())),
        }
    }

    /// An input that is read completely before anything is done with it. A pipe or a device has no known end to wait for, so it is
    /// refused.
    pub fn source_whole(&self, path: &Path) -> Result<Source, Failure> {
        if path.as_os_str() == "-" { self.source(None) } else { Source::whole_file(path) }
    }

    /// A progress bar that appears after a second, if somebody watches.
    pub fn progress(&self, label: &'static str, unit: Unit) -> Progress {
        Progress::new(label, unit, self.progress)
    }

    /// Whether standard error is a terminal that somebody watches.
    pub fn is_watched(&self) -> bool {
        self.progress
    }

    /// Whether the other end of standard output is closed, so that nobody receives what is written there.
    pub fn nobody_listens(&self) -> bool {
        #[cfg(unix)]
        {
            use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
            use std::os::fd::AsFd;
            let reader = io::stdout();
            let mut asked = [PollFd::new(reader.as_fd(), PollFlags::empty())];
            let told = poll(&mut asked, PollTimeout::ZERO).is_ok_and(|told| told > 0);
            let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
            told && asked.iter().filter_map(PollFd::revents).any(|said| said.intersects(closed))
        }
        #[cfg(not(unix))]
        false
    }

    /// One message on standard error.
    pub fn complain(&self, message: impl Display) {
        // If even this cannot be written there is nobody to tell; the exit code still reports the failure.
        let _ = io::stderr().write_all(format!("attestlog: {}\n", clean_lines(&message.to_string())).as_bytes());
    }

    /// A remark on standard error, already escaped, about an answer that is right.
    pub fn note(&self, remark: impl Display) -> io::Result<()> {
        writeln!(io::stderr(), "note: {remark}")
    }

    /// Notes that the command answers from a store that was opened with damage, and has said so: whatever it answers, it does not
    /// end with 0.
    pub fn damaged(&self) {
        self.damaged.store(true, Ordering::SeqCst);
    }

    /// Notes that the rules of this process have raised alerts.
    pub fn raised(&self, alerts: u64) {
        self.raised.fetch_add(alerts, Ordering::SeqCst);
    }

    /// How many alerts the rules of this process have raised. They are known once the store is closed.
    pub fn alerts_raised(&self) -> u64 {
        self.raised.load(Ordering::SeqCst)
    }

    /// The exit code of the command's outcome; reports on standard error what went wrong.
    pub fn end(&self, outcome: Outcome) -> ExitCode {
        let (code, message) = match outcome {
            Ok(End::Done) if self.damaged.load(Ordering::SeqCst) => (3, None),
            Ok(End::Done) | Err(Failure::Pipe) => (0, None),
            Ok(End::Found) => (1, None),
            Ok(End::Code(code)) => (code, None),
            Err(Failure::Found(m)) => (1, Some(m)),
            Err(Failure::Input(m)) => (2, Some(m)),
            Err(Failure::Store(m) | Failure::Locked(m)) => (3, Some(m)),
        };
        if let Some(message) = message {
            self.complain(message);
        }
        ExitCode::from(code)
    }
}

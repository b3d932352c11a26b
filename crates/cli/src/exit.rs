//! How a command ends: the exit codes that scripts depend on, and the message that goes with each.
//!
//! Invariant: whatever a message quotes was written by somebody else, so control characters are escaped before it
//! reaches the terminal.

use super::render::clean_lines;
use attestlog::{Error, ErrorKind};
use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::path::Path;

/// A command that did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is wrong: 0.
    Done,
    /// The check found something, and the command has said what: 1.
    Found,
    /// As another program did whose place this one took.
    Code(u8),
}

/// A command that could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something was found, and this says what: 1.
    Found(String),
    /// Bad usage or bad input: 2.
    Input(String),
    /// The store could not be used: 3.
    Store(String),
    /// Another process has the store open: 3, unless the command can be run there.
    Locked(String),
    /// Whoever read our output has stopped reading. That is no error of anybody's: 0.
    Pipe,
}

/// What every command returns.
pub type Outcome = Result<End, Failure>;

impl Failure {
    /// Bad input, with what the operating system says of the file.
    pub fn file(path: impl AsRef<Path>, e: &io::Error) -> Failure {
        Failure::Input(format!("{}: {e}", path.as_ref().display()))
    }

    /// The same with a place before its message.
    pub fn at(self, place: impl Display) -> Failure {
        match self {
            Failure::Found(m) => Failure::Found(format!("{place}: {m}")),
            Failure::Input(m) => Failure::Input(format!("{place}: {m}")),
            Failure::Store(m) => Failure::Store(format!("{place}: {m}")),
            Failure::Locked(m) => Failure::Locked(format!("{place}: {m}")),
            Failure::Pipe => Failure::Pipe,
        }
    }
}

impl Failure {
    /// What it says.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Found(m) | Failure::Input(m) | Failure::Store(m) | Failure::Locked(m) => Some(m),
            Failure::Pipe => None,
        }
    }
}

/// Whether the input is at fault, rather than the store.
pub fn is_input(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Conflict | ErrorKind::NoSuchEntry)
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::from(&e)
    }
}

impl From<&Error> for Failure {
    fn from(e: &Error) -> Failure {
        if is_input(e.kind()) { Failure::Input(e.to_string()) } else { Failure::Store(e.to_string()) }
    }
}

/// Errors of writing to standard output; files have [`Failure::file`].
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::Store(format!("standard output: {e}")),
        }
    }
}

thread_local! {
    static DAMAGED: Cell<bool> = const { Cell::new(false) };
}

/// The command of this thread answers from a store that was opened with damage, and has said so: whatever it answers, it does not end
/// with 0.
pub fn damaged() {
    DAMAGED.set(true);
}

/// The exit code of a command's outcome; says on standard error what went wrong.
pub fn code(outcome: Outcome) -> u8 {
    let damaged = DAMAGED.take();
    let (code, message) = match outcome {
        Ok(End::Done) if damaged => (3, None),
        Ok(End::Done) | Err(Failure::Pipe) => (0, None),
        Ok(End::Found) => (1, None),
        Ok(End::Code(code)) => (code, None),
        Err(Failure::Found(m)) => (1, Some(m)),
        Err(Failure::Input(m)) => (2, Some(m)),
        Err(Failure::Store(m) | Failure::Locked(m)) => (3, Some(m)),
    };
    if let Some(message) = message {
        complain(message);
    }
    code
}

/// One message on standard error.
pub fn complain(message: impl Display) {
    use io::Write;
    // Where even this cannot be written there is nobody to tell; the exit code still says it.
    let _ =
        super::console::stderr().write_all(format!("attestlog: {}\n", clean_lines(&message.to_string())).as_bytes());
}

//! How a command ends: what the exit codes stand for that scripts depend on, and the message that goes with each. `context` gives the
//! code and says the message.

use attestlog::{Error, ErrorKind};
use std::fmt::Display;
use std::io;
use std::path::Path;

/// The end of a command that did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing is wrong: 0.
    Done,
    /// The check found something, and the command has reported it: 1.
    Found,
    /// The exit code of another program whose place this one took.
    Code(u8),
}

/// The end of a command that could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something was found; the text says what: 1.
    Found(String),
    /// Bad usage or bad input: 2.
    Input(String),
    /// The store could not be used: 3.
    Store(String),
    /// Another process has the store open and does not answer for it: 3.
    Locked(String),
    /// The reader of our output has stopped reading. That is not an error: 0.
    Pipe,
}

/// What every command returns.
pub type Outcome = Result<End, Failure>;

impl Failure {
    /// Bad input, with the operating system's error about the file.
    pub fn file(path: impl AsRef<Path>, e: &io::Error) -> Failure {
        Failure::Input(format!("{}: {e}", path.as_ref().display()))
    }

    /// The same failure with a place before its message.
    pub fn at(self, place: impl Display) -> Failure {
        match self {
            Failure::Found(m) => Failure::Found(format!("{place}: {m}")),
            Failure::Input(m) => Failure::Input(format!("{place}: {m}")),
            Failure::Store(m) => Failure::Store(format!("{place}: {m}")),
            Failure::Locked(m) => Failure::Locked(format!("{place}: {m}")),
            Failure::Pipe => Failure::Pipe,
        }
    }

    /// The message, if there is one.
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

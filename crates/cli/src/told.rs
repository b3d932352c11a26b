//! The end of a command that changed the store: it first reports what it did, then closes the store. Whatever fails by then, the
//! message says that the change is done (R86).

use super::exit::Failure;
use super::render::Out;
use std::io::{self, Write};

/// Writes a line and makes sure that it is out.
pub fn line(out: &mut Out, text: impl AsRef<str>) -> io::Result<()> {
    out.line(text)?;
    out.flush()
}

/// The outcome of a change that is done: `shown` is how writing about it to standard output went, `closed` how closing the store
/// went, and `done` says in words what was done.
pub fn told(shown: io::Result<()>, closed: Result<(), Failure>, done: &str) -> Result<(), Failure> {
    match shown {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let more = closed.err().and_then(|failure| failure.message().map(|m| format!(". {m}"))).unwrap_or_default();
            Err(Failure::Store(format!("standard output: {e}. Do not repeat the command: {done}{more}")))
        }
        shown => closed.and(shown.map_err(Failure::from)),
    }
}

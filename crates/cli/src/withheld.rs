//! Entries of an answer that are not what was recorded: each is reported, and the exit code says so, while the rest is
//! shown.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use attestlog::json::{Json, Object};
use attestlog::{Error, ErrorKind, Result};

/// How many are named on standard error; JSON has all.
const NAMED: u64 = 20;

/// Counts entries of an answer that are not shown, or not known to be right.
#[derive(Debug)]
pub struct Withheld {
    cx: Context,
    entries: u64,
    /// The tree as a whole is not the one that was signed.
    tree: bool,
}

impl Withheld {
    /// Nothing yet.
    pub fn new(cx: &Context) -> Withheld {
        Withheld { cx: cx.clone(), entries: 0, tree: false }
    }

    /// Returns the entry, or the error that takes its place; errors after which nothing follows are passed on.
    pub fn take<T>(&mut self, found: Result<T>) -> Result<std::result::Result<T, Error>> {
        let e = match found {
            Ok(found) => return Ok(Ok(found)),
            Err(e) if e.kind() != ErrorKind::Damaged => return Err(e),
            Err(e) => e,
        };
        self.entries += u64::from(e.seq().is_some());
        self.tree |= e.seq().is_none();
        if self.entries <= NAMED {
            self.cx.complain(&e);
        }
        Ok(Err(e))
    }

    /// The exit status of a command that has shown the rest.
    pub fn end(&self) -> Outcome {
        match (self.entries, self.tree) {
            (0, false) => Ok(End::Done),
            (0, true) => Err(Failure::Store("the answer is not known to be what was recorded".to_owned())),
            (1, _) => {
                Err(Failure::Store("one entry is left out of the answer: it is not what was recorded".to_owned()))
            }
            (n, _) => {
                Err(Failure::Store(format!("{n} entries are left out of the answer: they are not what was recorded")))
            }
        }
    }
}

/// The JSON line that takes the place of an entry that is not shown: `{"differs":{"detail","seq"}}`.
pub fn line(e: &Error) -> String {
    let differs = Object::from_iter([("detail", Json::from(e.to_string())), ("seq", e.seq().into())]);
    Json::from(Object::from_iter([("differs", Json::from(differs))])).to_canonical().as_str().to_owned()
}

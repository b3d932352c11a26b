//! What of an answer is not what was recorded: said of each entry, and in the exit code, while the rest is shown.

use super::exit::{End, Failure, Outcome, complain};
use attestlog::json::{Json, Object};
use attestlog::{Error, ErrorKind, Result};

/// So many are named on standard error; JSON has all.
const NAMED: u64 = 20;

/// Counts what is not shown of an answer, or not known to be right.
#[derive(Debug, Default)]
pub struct Withheld {
    entries: u64,
    /// The tree as a whole is not the one that was signed.
    tree: bool,
}

impl Withheld {
    /// What was found, or the error that stands for it; errors after which there is no more are passed on.
    pub fn take<T>(&mut self, found: Result<T>) -> Result<std::result::Result<T, Error>> {
        let e = match found {
            Ok(found) => return Ok(Ok(found)),
            Err(e) if e.kind() != ErrorKind::Damaged => return Err(e),
            Err(e) => e,
        };
        self.entries += u64::from(e.seq().is_some());
        self.tree |= e.seq().is_none();
        if self.entries <= NAMED {
            complain(&e);
        }
        Ok(Err(e))
    }

    /// How a command ends that has shown the rest.
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

/// The line that stands in JSON for an entry that is not shown: `{"differs":{"detail","seq"}}`.
pub fn line(e: &Error) -> String {
    let differs = Object::from_iter([("detail", Json::from(e.to_string())), ("seq", e.seq().into())]);
    Json::from(Object::from_iter([("differs", Json::from(differs))])).to_canonical().as_str().to_owned()
}

//! The process in which something was opened.
//!
//! Invariant I15: what was opened in one process does nothing in another. A fork copies memory and shares open files: the copy of a
//! store would write over what the store writes, with what it knew when it was copied, and its threads are not there. So the id of
//! the process is kept where a store, a connection or a queue is made, and looked at before any lock is taken: in any other process
//! every call is refused, and dropping gives nothing back.

use crate::{Error, ErrorKind, Result};

/// A process, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    pub(crate) fn this() -> Process {
        Process(std::process::id())
    }

    /// Whether it is this one still.
    pub(crate) fn is_this(self) -> bool {
        self == Process::this()
    }

    /// Refuses in any other process.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_this() {
            return Ok(());
        }
        let message = format!(
            "the store was opened in another process ({}), from which this one was forked; nothing was done. Open the store in \
             this process, after the fork, and share it with `owner::SharedStore`",
            self.0
        );
        Err(Error::new(ErrorKind::Closed, message))
    }
}

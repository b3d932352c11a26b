//! The process in which a store, a connection or a queue was opened.
//!
//! Invariant I15: what was opened in one process does nothing in another. A fork copies memory and shares open files: the copied
//! store would overwrite what the original writes, based on outdated state, and its threads do not exist. So a store, a connection
//! or a queue keeps the id of the process that made it and checks it before it takes any lock: in any other process every call is
//! refused, and dropping releases nothing.

use crate::{Error, ErrorKind, Result};

/// A process, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// The current process.
    pub(crate) fn this() -> Process {
        Process(std::process::id())
    }

    /// Whether this is the current process.
    pub(crate) fn is_this(self) -> bool {
        self == Process::this()
    }

    /// Fails with [`ErrorKind::Closed`] in any other process.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_this() {
            return Ok(());
        }
        let message = format!(
            "the store was opened in another process ({}), from which this one was forked; nothing was done. Open the store in \
             this process, after the fork",
            self.0
        );
        Err(Error::new(ErrorKind::Closed, message))
    }
}

//! The refusal to write to a store that is open only for reading.

use crate::store::engine::Engine;
use crate::{Error, ErrorKind, Result};

/// The error for a change of a store that was opened only for reading.
pub(crate) fn for_reading_only() -> Error {
    let message = "the store was opened for reading only: open it without `read_only` to change it";
    Error::new(ErrorKind::ReadOnly, message)
}

impl Engine {
    /// Whether nothing may be written: not the store's file, not its keys, nothing beside it.
    pub(crate) fn is_reading(&self) -> bool {
        self.read.reading.now
    }

    /// To be called before anything is written.
    pub(crate) fn check_writing(&self) -> Result<()> {
        if self.is_reading() { Err(for_reading_only()) } else { Ok(()) }
    }
}

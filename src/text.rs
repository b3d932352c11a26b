//! Texts that people give to what is recorded for ever: reasons, names of actors.

use crate::{Error, Result};

const MAX_TEXT_BYTES: usize = 64 << 10;

/// Refuses a text that says nothing or cannot be kept.
pub(crate) fn check_text(name: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Err(Error::invalid(format!(
            "{name}: must have 1 to {MAX_TEXT_BYTES} bytes, not only blanks, and no NUL"
        )));
    }
    Ok(())
}

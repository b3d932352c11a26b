//! Checks texts that people provide and that are kept forever: reasons, names of actors.

use crate::{Error, Result};

/// Who does something that stays in the log for ever, and why.
///
/// Both are recorded as the redaction policy has names and free text.
///
/// ```
/// use attestlog::{AuditLog, Justification};
/// let log = AuditLog::in_memory()?;
/// log.retention().confirm_clock(Justification { actor: "ops@example.com", reason: "the clock was set after a power cut" })?;
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Justification<'a> {
    /// Who does it.
    pub actor: &'a str,
    /// Why, or what was found.
    pub reason: &'a str,
}

const MAX_TEXT_BYTES: usize = 64 << 10;

/// Refuses a text that is blank, too long or contains NUL.
pub(crate) fn check_text(name: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Err(Error::invalid(format!(
            "{name}: must have 1 to {MAX_TEXT_BYTES} bytes, not only blanks, and no NUL"
        )));
    }
    Ok(())
}

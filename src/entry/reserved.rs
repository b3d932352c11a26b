//! What this library alone says of a call, so that no caller can say it in its place.
//!
//! Invariant R67: by what way a call came into the log, and that it is the late answer to another, is said by the part of
//! this library that took it up, in members of the entry that no input has. What that part notes in the session's metadata,
//! and the names of its senders, are refused from everybody else.

use super::ToolCall;
use crate::json::MAX_INT;
use crate::{Error, Result};
use attestlog_proof::entry::CapturedBy;

/// How the senders of imported calls begin.
pub const IMPORTED: &str = "import-";

/// A seq that no log reaches: a call that follows it is never recorded, it asks whether its sender's number is known.
pub const NOWHERE: u64 = MAX_INT as u64;

/// The members of the session's metadata that have an author in this library, and the senders that do.
const METADATA: &[(&str, CapturedBy)] = &[("import", CapturedBy::Import), ("mcp", CapturedBy::Mcp)];

impl ToolCall {
    /// Refuses what a caller says in the place of a part of this library.
    pub(crate) fn check_reserved(&self) -> Result<()> {
        for (member, author) in METADATA {
            if self.captured_by != Some(*author) && self.session_metadata.get(member).is_some() {
                return Err(Error::invalid(format!(
                    "session_metadata.{member}: only {} writes this member; give it another name",
                    match author {
                        CapturedBy::Import => "`import`",
                        _ => "the MCP proxy",
                    }
                )));
            }
        }
        match &self.sender {
            Some(sender) if self.captured_by != Some(CapturedBy::Import) && sender.id.starts_with(IMPORTED) => {
                Err(taken(IMPORTED))
            }
            _ => Ok(()),
        }
    }
}

/// That a sender's name is one of this library's own.
fn taken(prefix: &str) -> Error {
    Error::invalid(format!("sender: ids that begin with `{prefix}` are this program's own; use another one"))
}

//! Statements about a call that only this library may make.
//!
//! Invariant R67: how a call came into the log, and that it is the late answer to another call, is stated by the part
//! of this library that captured it, in members of the entry that no input has. The members of the session's metadata
//! that this part writes, and the names of its senders, are refused from everybody else.

use super::ToolCall;
use crate::json::MAX_INT;
use crate::{Error, Result};
use attestlog_proof::entry::SourceKind;

/// The prefix of the senders of imported calls.
pub const IMPORTED: &str = "import-";

/// A seq that no log reaches. A call that follows it is never recorded; it only asks whether its sender's number is
/// known.
pub const NOWHERE: u64 = MAX_INT as u64;

/// The members of the session's metadata that only one part of this library writes, and that part.
const METADATA: &[(&str, SourceKind)] =
    &[("import", SourceKind::Import), ("mcp", SourceKind::Proxy), ("hook", SourceKind::Hook)];

impl ToolCall {
    /// Refuses members and senders that only a part of this library may use.
    pub(crate) fn check_reserved(&self) -> Result<()> {
        for (member, author) in METADATA {
            if self.first_source() != Some(*author) && self.session_metadata.get(member).is_some() {
                return Err(Error::invalid(format!(
                    "session_metadata.{member}: only {} writes this member; give it another name",
                    match author {
                        SourceKind::Import => "`import`",
                        SourceKind::Hook => "`hook`",
                        _ => "the MCP proxy",
                    }
                )));
            }
        }
        match &self.sender {
            Some(sender) if self.first_source() != Some(SourceKind::Import) && sender.id.starts_with(IMPORTED) => {
                Err(taken(IMPORTED))
            }
            _ => Ok(()),
        }
    }
}

/// The error for a sender's name that is reserved for this library.
fn taken(prefix: &str) -> Error {
    Error::invalid(format!("sender: ids that begin with `{prefix}` are this program's own; use another one"))
}

//! An anchor that runs a program of the operator's, with the checkpoint on its standard input.

use super::process::Program;
use super::{Anchor, AnchorReceipt, Consistency};
use crate::Result;
use crate::note::SignedCheckpoint;
use std::ffi::OsString;
use std::time::Duration;

/// Hands each checkpoint's note to a program, such as one that mails or posts it. The program is started directly,
/// never through a shell, and inherits environment and working directory. It succeeds if it reads its input and exits
/// with 0. Another exit code is a failure, and so is a timeout, after which the program is killed. The error includes
/// the end of its standard error.
///
/// ```
/// # #[cfg(unix)] {
/// use attestlog::anchor::{Anchor, CommandAnchor};
/// use std::time::Duration;
/// let anchor = CommandAnchor::new("/usr/bin/tee", ["-a", "/mnt/elsewhere/checkpoints"], Duration::from_secs(10));
/// assert_eq!(anchor.name(), "command tee");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CommandAnchor {
    program: Program,
    name: String,
}

impl CommandAnchor {
    /// A program, looked up in `PATH` if it is a bare name, with its arguments and its timeout.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> CommandAnchor {
        let args = args.into_iter().map(Into::into).collect();
        let program = Program { program: program.into(), args, timeout };
        CommandAnchor { name: format!("command {}", program.name()), program }
    }

    /// Sets another name, to tell two uses of one program apart.
    pub fn named(self, name: impl Into<String>) -> CommandAnchor {
        CommandAnchor { name: name.into(), ..self }
    }
}

impl Anchor for CommandAnchor {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn submit(&self, signed: &SignedCheckpoint, _: &Consistency<'_>) -> Result<AnchorReceipt> {
        self.program.feed(signed.to_string().as_bytes())?;
        Ok(AnchorReceipt::kept())
    }
}

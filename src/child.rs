//! Starting other programs.
//!
//! Invariant I8: no program that this one starts inherits a secret of it. There is one function that begins a child, and
//! one list of the variables that hold secrets; a test keeps every other start of a program out of the tree.

use std::ffi::OsStr;
use std::process::Command;

/// The environment variable in which the whole key file may be, as base64.
pub const KEY: &str = "ATTESTLOG_KEY";

/// The environment variable in which the key file's passphrase may be.
pub const PASSPHRASE: &str = "ATTESTLOG_PASSPHRASE";

/// Every environment variable that holds a secret of this program.
pub const SECRETS: &[&str] = &[KEY, PASSPHRASE];

/// A command that runs `program` without the secrets of this one in its environment.
///
/// ```
/// let mut command = attestlog::child::command("true");
/// assert!(command.get_envs().any(|(name, value)| name == "ATTESTLOG_KEY" && value.is_none()));
/// # let _ = &mut command;
/// ```
#[allow(clippy::disallowed_methods, reason = "the one place where a program is started")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    command
}

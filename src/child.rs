//! Starting other programs.
//!
//! Invariant I8: no program that this one starts inherits its secrets. One function starts every child, and one list
//! names the variables that hold secrets; a test keeps any other start of a program out of the code.

use std::ffi::OsStr;
use std::process::Command;

/// The environment variable that may hold the whole key file, as base64.
pub const KEY: &str = "ATTESTLOG_KEY";

/// The environment variable that may hold the key file's passphrase.
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

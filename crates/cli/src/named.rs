//! Names and numbers that are given on the command line: of people, patients, conversations, tools; seqs, limits, times. And the name
//! of whoever runs this program.

use attestlog::alert::parse_duration;
use std::time::Duration;

/// Parses a name, which must not be empty: an empty one, for example from a variable that is not set, names nobody.
pub fn named(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("must not be empty; leave the flag out, or name somebody".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Parses a whole number: a seq, or how many.
pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a whole number, such as 7".to_owned())
}

/// Parses the number of an entry that another command lists.
pub fn listed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be the number of an entry, as the command `list` shows it".to_owned())
}

/// Parses a time: seconds, or a number with a unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| parse_duration(text).ok());
    time.ok_or_else(|| "must be a number of seconds, or a time such as 90s, 10m or 1h30m".to_owned())
}

/// The login name of this process's account.
#[cfg(unix)]
pub fn account() -> Option<String> {
    use nix::unistd::{User, getuid};
    User::from_uid(getuid()).ok().flatten().map(|user| user.name).filter(|name| !name.is_empty())
}

#[cfg(not(unix))]
pub fn account() -> Option<String> {
    None
}

//! How a call ended, as far as an agent's file or event says: the one place that knows the signs of an ending.
//!
//! Invariant R118: an ending that is a failure is never recorded as `ok`. A sign is a member that the writer of the file or event put
//! beside an answer, or in the call's own object: an error, a flag, a status, an exit code. Of several, the gravest counts, and signs of
//! which one says that all went well and another that it did not are named. A text counts only where the agent, and not the tool,
//! writes it (`words` knows these places), and only where no sign says otherwise.

pub(crate) mod words;

use attestlog::Outcome;
use attestlog::entry::CallError;
use attestlog::entry::failure::{error_of, is_called, is_no_error, is_set, status_fails};
use attestlog::json::{Json, Object};

/// Members that hold an error, if they are not empty.
const ERRORS: &[&str] = &["error", "errors", "errormessage", "errortext", "exception"];
/// Flags that mean a failure if they are set, and a success if they are not.
const FLAGS: &[&str] = &["iserror", "haserror", "toolcallerror"];
/// Flags that mean a success if they are set, and a failure if they are not.
const SUCCESSES: &[&str] = &["success", "ok", "succeeded"];
/// Flags that mean this ending if they are set, and nothing if they are not.
const ENDS: &[(&str, Outcome)] = &[
    ("failed", Outcome::ToolError),
    ("interrupted", Outcome::Abandoned),
    ("isinterrupt", Outcome::Abandoned),
    ("cancelled", Outcome::Abandoned),
    ("canceled", Outcome::Abandoned),
    ("aborted", Outcome::Abandoned),
    ("timedout", Outcome::Timeout),
    ("denied", Outcome::Denied),
    ("rejected", Outcome::Denied),
];
/// Members with the exit code of a program.
const EXITS: &[&str] = &["exitcode", "exitstatus", "returncode"];
/// Words that a status may be, beyond those for plain success and failure.
const STATUSES: &[(&str, Outcome)] = &[
    ("denied", Outcome::Denied),
    ("rejected", Outcome::Denied),
    ("declined", Outcome::Denied),
    ("cancelled", Outcome::Abandoned),
    ("canceled", Outcome::Abandoned),
    ("aborted", Outcome::Abandoned),
    ("interrupted", Outcome::Abandoned),
    ("timeout", Outcome::Timeout),
    ("timedout", Outcome::Timeout),
];

/// The signs of how a call ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// What each sign is called, and the ending it tells of.
    all: Vec<(String, Outcome)>,
    /// The error that one of them holds.
    pub(crate) error: Option<CallError>,
}

impl Signs {
    /// The signs among the members of an object in which a writer describes a call.
    pub(crate) fn of(around: &Json) -> Signs {
        let mut signs = Signs::default();
        for (name, value) in around.as_object().into_iter().flat_map(Object::iter) {
            signs.member(name, value);
        }
        signs
    }

    /// One sign more.
    pub(crate) fn add(&mut self, what: &str, outcome: Outcome) {
        self.all.push((what.to_owned(), outcome));
    }

    /// These signs and others.
    pub(crate) fn and(mut self, other: Signs) -> Signs {
        self.all.extend(other.all);
        self.error = self.error.or(other.error);
        self
    }

    fn member(&mut self, name: &str, value: &Json) {
        let is = |plain: &&str| is_called(name, plain);
        let word = |value: &Json| value.as_str().map(plain);
        if ERRORS.iter().any(is) {
            match error_of(value) {
                Some(error) => {
                    self.add(name, Outcome::ToolError);
                    self.error.get_or_insert(error);
                }
                None if *value == Json::Bool(false) => self.add(name, Outcome::Ok),
                None => {}
            }
        } else if FLAGS.iter().any(is) {
            if *value != Json::Null {
                self.add(name, if is_set(value) { Outcome::ToolError } else { Outcome::Ok });
            }
        } else if SUCCESSES.iter().any(is) {
            if let Some(done) = value.as_bool() {
                self.add(name, if done { Outcome::Ok } else { Outcome::ToolError });
            }
        } else if is_called(name, "approved") {
            if *value == Json::Bool(false) {
                self.add(name, Outcome::Denied);
            }
        } else if let Some((_, outcome)) = ENDS.iter().find(|(plain, _)| is_called(name, plain)) {
            if *value == Json::Bool(true) {
                self.add(name, *outcome);
            }
        } else if EXITS.iter().any(is) {
            if let Some(code) = code(value) {
                self.add(name, if code == 0.0 { Outcome::Ok } else { Outcome::ToolError });
            }
        } else if is_called(name, "status")
            && let Some(said) = word(value)
        {
            let own = STATUSES.iter().find(|(word, _)| *word == said).map(|(_, outcome)| *outcome);
            let outcome =
                own.or_else(|| Some(if status_fails(value.as_str()?)? { Outcome::ToolError } else { Outcome::Ok }));
            outcome.into_iter().for_each(|outcome| self.add(name, outcome));
        }
    }

    /// The gravest ending of which a sign tells.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.all.iter().map(|(_, outcome)| *outcome).max_by_key(|outcome| gravity(*outcome))
    }

    /// Whether the call failed, if a sign says so or the opposite.
    pub(crate) fn failed(&self) -> Option<bool> {
        self.outcome().map(|outcome| outcome != Outcome::Ok)
    }

    /// Names the signs, if one says that all went well and another that it did not.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let (fine, failing): (Vec<_>, Vec<_>) = self.all.iter().partition(|(_, outcome)| *outcome == Outcome::Ok);
        let name = |all: &[&(String, Outcome)]| all.first().map(|(name, outcome)| format!("{name} says {outcome}"));
        Some(format!("{}, {}", name(&fine)?, name(&failing)?))
    }
}

/// Which of two endings is told if there are signs of both.
fn gravity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ok => 0,
        Outcome::ToolError => 1,
        Outcome::ProtocolError => 2,
        Outcome::Timeout => 3,
        Outcome::Abandoned => 4,
        Outcome::Denied => 5,
        _ => 1,
    }
}

/// An exit code, which may be a text of digits.
fn code(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse::<i32>().ok().map(f64::from))
}

/// A word in lower case without separators.
fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a value says nothing: it is empty, or a text that holds an empty JSON value.
pub(crate) fn is_empty(value: &Json) -> bool {
    match value {
        Json::String(text) => matches!(text.trim(), "" | "{}" | "[]" | "null" | "\"\""),
        Json::Bool(_) | Json::Number(_) => false,
        other => is_no_error(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(text: &str) -> Signs {
        Signs::of(&Json::parse(text.as_bytes()).unwrap().value)
    }

    /// An exit code, a status other than "failed", and a flag that the user broke it off were passed over, and the call was `ok`.
    #[test]
    fn every_sign_counts_and_the_gravest_is_told() {
        for (text, outcome) in [
            (r#"{"exit_code":3}"#, Some(Outcome::ToolError)),
            (r#"{"returnCode":"3"}"#, Some(Outcome::ToolError)),
            (r#"{"exit_code":0}"#, Some(Outcome::Ok)),
            (r#"{"exit_status":"submitted"}"#, None),
            (r#"{"status":"timed_out"}"#, Some(Outcome::Timeout)),
            (r#"{"status":"Declined","error":"x"}"#, Some(Outcome::Denied)),
            (r#"{"status":"sent"}"#, None),
            (r#"{"interrupted":true}"#, Some(Outcome::Abandoned)),
            (r#"{"interrupted":false}"#, None),
            (r#"{"isError":"true"}"#, Some(Outcome::ToolError)),
            (r#"{"errorText":"x"}"#, Some(Outcome::ToolError)),
            (r#"{"error":"","success":true}"#, Some(Outcome::Ok)),
            (r#"{"ok":false}"#, Some(Outcome::ToolError)),
            (r#"{"approved":false}"#, Some(Outcome::Denied)),
            (r#"{}"#, None),
        ] {
            assert_eq!(signs(text).outcome(), outcome, "{text}");
        }
    }

    /// Of two signs that disagreed one was taken in silence.
    #[test]
    fn signs_that_disagree_are_named() {
        let both = signs(r#"{"is_error":false,"exit_code":3}"#);
        assert_eq!(both.disagreement().as_deref(), Some("is_error says ok, exit_code says tool_error"));
        assert_eq!(signs(r#"{"is_error":true,"status":"denied"}"#).disagreement(), None);
    }
}

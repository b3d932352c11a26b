//! How a session begins: hashes of its messages, which tell it from other sessions where its name does not.
//!
//! Invariant: an identity covers nothing that the log's policy seals (R90), or an import would confirm guesses of it. A session
//! that was imported before the policy sealed something is still recognised by the hash of everything.

use super::ImportOptions;
use super::identity::{self, Source};
use attestlog::json::Json;
use attestlog::redact::{Policy, Unsealed};
use attestlog::{Hash, Result};

/// A hash of all messages up to some point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Of the messages without what is sealed in them.
    pub(super) unsealed: Hash,
    /// Of everything.
    pub(super) all: Hash,
}

impl Default for Beginning {
    fn default() -> Beginning {
        Beginning { unsealed: Hash::ZERO, all: Hash::ZERO }
    }
}

impl Beginning {
    /// The source of calls that nothing but what is said up to them tells from others.
    pub(super) fn source(&self, what: &str) -> Source {
        let session = format!("{what} {}", self.unsealed);
        let sooner = format!("{what} {}", self.all);
        Source {
            sooner: Some(sooner).filter(|sooner| *sooner != session).into_iter().collect(),
            session,
            id: None,
            weak: true,
            apart: true,
        }
    }
}

/// Extends beginnings, message by message.
#[derive(Debug)]
pub(super) struct Beginnings(Option<Unsealed>);

impl Beginnings {
    pub(super) fn new(options: &ImportOptions) -> Result<Beginnings> {
        let policy = options.policy.as_deref().map(Policy::from_canonical).transpose()?;
        Ok(Beginnings(policy.as_ref().map(Unsealed::of).transpose()?.flatten()))
    }

    /// Whether the policy seals anything.
    pub(super) fn seal(&self) -> bool {
        self.0.is_some()
    }

    /// `before` extended by a message, whose bytes are `whole` if they are not its canonical form.
    pub(super) fn next(&self, before: &Beginning, message: &Json, whole: Option<&[u8]>) -> Result<Beginning> {
        let all = match whole {
            Some(whole) => identity::next(&before.all, whole),
            None => identity::next(&before.all, message.to_canonical().as_str().as_bytes()),
        };
        let unsealed = match &self.0 {
            Some(policy) => identity::next(&before.unsealed, policy.form(message)?.to_canonical().as_str().as_bytes()),
            None => all,
        };
        Ok(Beginning { unsealed, all })
    }
}

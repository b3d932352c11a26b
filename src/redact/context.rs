//! The inputs of the sanitizer besides values: where a value belongs, keys, the host's detectors, and a place to
//! collect what was done.

use super::pseudonym::PseudonymKey;
use super::seal::{Random, SubjectKeys};
use super::treated::Treated;
use crate::Result;
use std::fmt;
use std::ops::Range;

/// The part of an entry that is treated. The paths of rules begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// A call's arguments.
    Arguments,
    /// The tool's result.
    Result,
    /// The tool's error.
    Error,
    /// The session's metadata.
    SessionMetadata,
    /// Free text: reasons, dispositions, summaries.
    Text,
}

impl Root {
    /// Every root.
    pub const ALL: [Root; 5] = [Root::Arguments, Root::Result, Root::Error, Root::SessionMetadata, Root::Text];

    /// The name that paths begin with.
    pub fn name(self) -> &'static str {
        match self {
            Root::Arguments => "arguments",
            Root::Result => "result",
            Root::Error => "error",
            Root::SessionMetadata => "session_metadata",
            Root::Text => "text",
        }
    }

    /// The root with that [`name`](Root::name).
    pub fn from_name(name: &str) -> Option<Root> {
        Root::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// The keys that a policy needs, except those of data subjects.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The live pseudonym keys: new pseudonyms use the first, lookups try all of them.
    pub pseudonyms: Vec<PseudonymKey>,
}

/// A detector of the host, for instance one that recognizes people's names.
pub trait Detect: Send + Sync {
    /// The byte ranges of `text` that are to be treated.
    ///
    /// # Errors
    /// Any. The whole value is then masked, as it is when the detector panics or returns a range that is not valid in
    /// `text`.
    fn find(&self, text: &str) -> Result<Vec<Range<usize>>>;
}

/// Collects what was treated in the parts of one entry, and holds what sealing needs.
#[derive(Default)]
pub struct Context<'a> {
    pub(super) treated: Vec<Treated>,
    pub(super) seals: Option<Seals<'a>>,
    pub(super) names: Option<&'a Naming<'a>>,
    /// Nothing is written: what would be sealed is shown as such.
    pub(super) tries_out: bool,
}

/// The new name of a key that names somebody whom the policy hides, and what kind of name it was.
pub(crate) type Naming<'a> = dyn Fn(&str) -> Option<(String, &'static str)> + 'a;

pub(super) struct Seals<'a> {
    pub(super) subject: &'a str,
    pub(super) keys: &'a mut dyn SubjectKeys,
    pub(super) random: &'a mut Random<'a>,
}

impl<'a> Context<'a> {
    /// A context without a data subject: values that the policy would seal are masked.
    pub fn new() -> Context<'a> {
        Context::default()
    }

    /// A context in which values are sealed under the key of `subject`.
    pub fn sealing(subject: &'a str, keys: &'a mut dyn SubjectKeys, random: &'a mut Random<'a>) -> Context<'a> {
        Context { treated: Vec::new(), seals: Some(Seals { subject, keys, random }), ..Context::default() }
    }

    /// A context for trying a policy out: what a store would seal is replaced by `[SEALED]`.
    pub(super) fn trying_out() -> Context<'a> {
        Context { tries_out: true, ..Context::default() }
    }

    /// The same context, in which keys that name somebody are renamed.
    pub(crate) fn naming(self, names: &'a Naming<'a>) -> Context<'a> {
        Context { names: Some(names), ..self }
    }

    /// What was treated so far, in the order in which it was found.
    pub fn treated(&self) -> &[Treated] {
        &self.treated
    }

    /// Forgets all but the first `count` of what was treated: the value after them is not written.
    pub(crate) fn forget_after(&mut self, count: usize) {
        self.treated.truncate(count);
    }

    /// What was treated.
    pub fn into_treated(self) -> Vec<Treated> {
        self.treated
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("treated", &self.treated).field("seals", &self.seals.is_some()).finish()
    }
}

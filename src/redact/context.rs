//! What is given to the sanitizer besides values: where they stand, keys, detectors of the host's, and a place to
//! collect what was done.

use super::pseudonym::PseudonymKey;
use super::seal::{Random, SubjectKeys};
use super::treated::Treated;
use crate::Result;
use std::fmt;
use std::ops::Range;

/// What is treated: the part of an entry that a rule's path begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// A call's arguments.
    Arguments,
    /// What the tool answered.
    Result,
    /// Its error.
    Error,
    /// The session's metadata.
    SessionMetadata,
    /// Free text: reasons, dispositions, summaries.
    Text,
}

impl Root {
    /// Every root.
    pub const ALL: [Root; 5] = [Root::Arguments, Root::Result, Root::Error, Root::SessionMetadata, Root::Text];

    /// The word that paths begin with.
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

/// The keys that a policy needs besides those of data subjects.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The live pseudonym keys: the first writes, all are looked under.
    pub pseudonyms: Vec<PseudonymKey>,
}

/// A detector that the host brings along, for instance one that knows names.
pub trait Detect: Send + Sync {
    /// The stretches of `text` that are to be treated, in bytes.
    ///
    /// # Errors
    /// Anything: the whole value is masked then, as it is when the detector panics or names a stretch that is none.
    fn find(&self, text: &str) -> Result<Vec<Range<usize>>>;
}

/// What is collected while the parts of one entry are treated, and what sealing needs.
#[derive(Default)]
pub struct Context<'a> {
    pub(super) treated: Vec<Treated>,
    pub(super) seals: Option<Seals<'a>>,
    pub(super) names: Option<&'a Naming<'a>>,
}

/// What a key is called where it names somebody whom the policy hides, and what that is the name of.
pub(crate) type Naming<'a> = dyn Fn(&str) -> Option<(String, &'static str)> + 'a;

pub(super) struct Seals<'a> {
    pub(super) subject: &'a str,
    pub(super) keys: &'a mut dyn SubjectKeys,
    pub(super) random: &'a mut Random<'a>,
}

impl<'a> Context<'a> {
    /// A context without a data subject: what a policy would seal is masked.
    pub fn new() -> Context<'a> {
        Context::default()
    }

    /// A context in which values are sealed under the key of `subject`.
    pub fn sealing(subject: &'a str, keys: &'a mut dyn SubjectKeys, random: &'a mut Random<'a>) -> Context<'a> {
        Context { treated: Vec::new(), seals: Some(Seals { subject, keys, random }), names: None }
    }

    /// The same, and keys that name somebody are called otherwise.
    pub(crate) fn naming(self, names: &'a Naming<'a>) -> Context<'a> {
        Context { names: Some(names), ..self }
    }

    /// What was treated so far, in the order in which it was met.
    pub fn treated(&self) -> &[Treated] {
        &self.treated
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

//! Records in the entry what the normal form of a name leaves out.

use super::treated::{Action, Treated};
use crate::spelling::{is_unseen, normal};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Brings a name into its normal form.
pub(crate) fn normalise(name: &mut String) {
    if let Some(other) = Some(normal(name)).filter(|normal| normal.len() < name.len()).map(Cow::into_owned) {
        *name = other;
    }
}

/// What the normal form left out of the names in one member. It is recorded in the entry, because names that were given
/// as different ones can have the same normal form.
#[derive(Debug, Default)]
pub(crate) struct Altered {
    changed: bool,
    unseen: BTreeSet<char>,
}

impl Altered {
    /// Adds a name as it was given.
    pub(crate) fn note(&mut self, name: &str) {
        if normal(name).len() != name.len() {
            self.changed = true;
            self.unseen.extend(name.chars().filter(|c| is_unseen(*c)));
        }
    }

    /// The record for the names at `path`, if any of them was changed: the path, and the invisible characters that were
    /// removed (the first sixteen).
    pub(crate) fn told(&self, path: &str) -> Option<(String, impl Iterator<Item = Treated>)> {
        let dropped = self.unseen.iter().take(16).map(move |c| Treated {
            path: path.to_owned(),
            detector: format!("U+{:04X}", u32::from(*c)),
            action: Action::Drop,
            start: None,
            end: None,
        });
        self.changed.then(|| (path.to_owned(), dropped))
    }
}

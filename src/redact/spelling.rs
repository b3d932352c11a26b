//! What the normal form of a name leaves out, told in the entry.

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

/// What a normal form leaves out of the names of one member, for the entry to say so: two names that came as different
/// ones are the same there.
#[derive(Debug, Default)]
pub(crate) struct Altered {
    changed: bool,
    unseen: BTreeSet<char>,
}

impl Altered {
    /// Takes in a name as it came.
    pub(crate) fn note(&mut self, name: &str) {
        if normal(name).len() != name.len() {
            self.changed = true;
            self.unseen.extend(name.chars().filter(|c| is_unseen(*c)));
        }
    }

    /// What is to be said of the names at `path`, if anything: their place, and which characters were there that nobody
    /// sees (the first sixteen).
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

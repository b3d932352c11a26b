//! Names as policies give them: whole, or as a pattern in which `*` is any run of characters and `?` is one.
//!
//! One comparison for all that a policy names: the tools of retention rules and of paths to patients, and every facet of alert
//! rules. Names of tools are compared by their words ([`tool_form`]), since one tool is spelt in many ways by those who
//! offer it; all other names as they are, since two spellings may be two persons.

use super::glob::{Glob, tool_form};

/// A name, or a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamePattern {
    Whole(String),
    Pattern(Glob),
}

impl NamePattern {
    /// A tool's name or pattern, to be matched with names in their [`tool_form`]; what is wrong with it otherwise.
    pub(crate) fn of_tool(text: &str) -> Result<NamePattern, String> {
        NamePattern::of_name(&tool_form(text))
    }

    /// Any other name or pattern; what is wrong with it otherwise.
    pub(crate) fn of_name(text: &str) -> Result<NamePattern, String> {
        Ok(match NamePattern::is_pattern(text) {
            true => NamePattern::Pattern(Glob::new(text)?),
            false => NamePattern::Whole(text.to_owned()),
        })
    }

    /// Whether `text` has a `*` or `?` at all.
    pub(crate) fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Whether a name fits.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Whole(whole) => whole == name,
            NamePattern::Pattern(glob) => glob.matches(name),
        }
    }

    /// Whether every name that fits `other` certainly fits here; false for some patterns that do (see [`Glob::covers`]).
    pub(super) fn covers(&self, other: &str) -> bool {
        match self {
            NamePattern::Whole(whole) => whole == other,
            NamePattern::Pattern(glob) => glob.covers(other),
        }
    }
}

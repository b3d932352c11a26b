//! A store that is open only for reading.

use crate::store::file::overlay::Giving;
use std::sync::Arc;

/// Whether the store is open only for reading.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) now: bool,
    /// How the file is given up to a process that records (R96).
    pub(crate) giving: Option<Arc<Giving>>,
}

impl Reading {
    /// Whether the file was given up: an answer that comes after that is worth nothing (R97).
    pub(crate) fn is_given_up(&self) -> bool {
        self.giving.as_ref().is_some_and(|giving| giving.is_given_up())
    }
}

//! Opening the store that a command names.

use super::exit::Failure;
use attestlog::{AuditLog, Options};
use clap::Args;
use std::path::PathBuf;

/// The store, for commands that open one.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store's file
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
}

impl StoreArgs {
    /// Opens the store.
    pub fn open(&self) -> Result<AuditLog, Failure> {
        Options::new().open(&self.store).map_err(|e| self.name(e.into()))
    }

    /// Puts the store's name before a message that lacks it.
    pub fn name(&self, failure: Failure) -> Failure {
        let place = self.store.display().to_string();
        match &failure {
            Failure::Store(m) | Failure::Input(m) if !m.contains(&place) => failure.at(place),
            _ => failure,
        }
    }
}

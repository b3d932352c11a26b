//! Whether what a store answers is all that was recorded in it, and whether anything can be recorded, as far as opening it told.
//!
//! Invariant R85: of a store that was opened with damage no answer is given as if it were whole. Whoever asks gets an error, until he
//! has said that he goes on; and nobody is told that the log does not know somebody.

use crate::store::engine::Engine;
use crate::store::file::database_handle::Damage;
use crate::store::log::OpenStore;
use crate::{Error, Result};
use std::sync::PoisonError;

impl Engine {
    /// What opening the store found.
    pub(crate) fn damage(&self) -> Option<Damage> {
        *self.read.damage.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store was read anew.
    pub(crate) fn set_damage(&self, damage: Option<Damage>) {
        *self.read.damage.write().unwrap_or_else(PoisonError::into_inner) = damage;
    }
}

impl OpenStore {
    /// What was wrong with the store when it was opened, if something was: an entry that cannot be read or was changed, policies and
    /// holds that are not those that were signed, tables that could not be written to. Nothing is recorded into it then, and
    /// queries, counts, statistics, timelines, holds, grants and alerts are errors of this kind, until they are asked of
    /// [`AuditLog::despite_damage`]. Only what opening looks at: [`AuditLog::verify`] looks at everything.
    pub(crate) fn damage(&self) -> Option<Error> {
        self.engine().damage().map(Damage::refusal)
    }

    /// The same log for whoever goes on in spite of [`AuditLog::damage`]: it answers with what can be read, which may lack what was
    /// recorded. Say so wherever you show it.
    pub(crate) fn despite_damage(&self) -> OpenStore {
        self.going_on()
    }

    /// Refuses to answer from a store that was opened with damage, unless whoever asks has said that he goes on.
    pub(crate) fn check_damage(&self) -> Result<()> {
        if self.goes_on() { Ok(()) } else { self.damage().map_or(Ok(()), Err) }
    }

    /// Whether something can be recorded, as far as that can be told without recording: the store was opened without damage, and its
    /// keys are there, or it is open for recording without ([`Options::unsigned`](crate::Options::unsigned)).
    pub(crate) fn check_recording(&self) -> Result<()> {
        let engine = self.engine();
        engine.config.process.check()?;
        self.damage().map_or(Ok(()), Err)?;
        engine.check_keys_there()
    }
}

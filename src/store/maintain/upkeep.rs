//! Maintenance by the background thread or after a commit.

use crate::store::engine::Engine;
use crate::store::engine::jobs::Wanted;
use std::sync::PoisonError;

impl Engine {
    /// After a commit: work that became due is done by the background thread, or here if there is none.
    pub(crate) fn after_commit(&self) {
        let due = {
            let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
            self.release(published.size);
            let unsigned = published.size - published.signed;
            let due = published.mem_segments.len() > 1
                || published.unsealed(self.config.segment) > 0
                || self.config.settings.checkpoint_entries.is_some_and(|n| unsigned >= n);
            let size = published.size;
            drop(published);
            due || self.is_rotation_due(size)
                || self.jobs.work.is_timed(self.config.settings.checkpoint_every, &*self.config.clock)
        };
        if !due {
            return;
        }
        if self.config.settings.background {
            self.jobs.work.wake();
            self.catch_up_sealing();
        } else {
            self.upkeep(Wanted::default());
        }
    }

    /// Does what is due and what is wanted. What fails is retried after the next commit or at the next open; readers see no
    /// difference.
    pub(crate) fn upkeep(&self, Wanted { timed, sign }: Wanted) {
        if self.is_reading() {
            return;
        }
        while let Ok(true) = self.seal_next() {}
        while let Ok(true) = self.write_next_batch() {}
        let _ = self.with_writer(|engine, writer| {
            if engine.is_rotation_due(writer.state.size) {
                engine.rotate(writer)?;
            }
            let unsigned = writer.state.size - writer.state.signed;
            let due = engine.config.settings.checkpoint_entries.is_some_and(|n| unsigned >= n)
                || ((timed || sign) && unsigned > 0);
            if due && engine.keys().is_some() {
                engine.sign(writer)?;
            }
            if timed { engine.tick(writer) } else { Ok(()) }
        });
    }

    /// Requests a checkpoint from the background thread; without that thread, it is made on closing.
    #[cfg(feature = "owner")]
    pub(crate) fn sign_soon(&self) {
        self.jobs.work.sign();
    }
}

//! A commit without entries, which saves the time of the expiry clock.

use crate::store::engine::Engine;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::state::STATE_KEY;
use crate::{Result, codec};
use std::time::Duration;

/// Shorter times are not worth a commit of their own: opening a store only to read it leaves it unchanged.
const TICK: Duration = Duration::from_secs(60);

impl Engine {
    /// Saves the time that has passed by the monotonic clock since the last commit, which the expiry clock follows: once the
    /// store is closed, that time could not be told from a change of the system clock. The system clock is not consulted, so
    /// no unexplained time is credited.
    pub(crate) fn tick(&self, writer: &mut WriterState) -> Result<()> {
        let now = self.config.clock.monotonic();
        let elapsed = now.saturating_sub(writer.ticked);
        if elapsed < TICK || writer.state.clock.frozen.is_some() || writer.state.size == 0 {
            return Ok(());
        }
        let clock = writer.clock(self.config.clock.monotonic(), self.policies().set.retention.clock_bound());
        let mut state = writer.state.clone();
        state.clock = clock.state().clone();
        let armed = writer.arm();
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        txn.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
        txn.commit().stored()?;
        armed.disarm();
        writer.state = state;
        writer.ticked = now;
        Ok(())
    }
}

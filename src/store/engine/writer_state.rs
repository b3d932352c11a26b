//! The writer's in-memory state.

use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::file::database_handle::Damage;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::state::State;
use std::ops::Deref;
use std::time::Duration;

/// The writer's in-memory state. Only the thread that holds the writer lock uses it.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub state: State,
    pub frontier: Frontier,
    /// The seeds of the segment of the newest entry.
    pub seeds: Seeds,
    /// When the expiry clock was last advanced, by the monotonic clock.
    pub ticked: Duration,
    /// Whether the log already says that this process records without the key.
    pub unsigned_said: bool,
    /// The event that the expiry clock was set back on opening, until it is recorded in the log.
    pub brought_back: Option<ClockEvent>,
    /// Set where what is on the disk is not known: it is read anew before anything else is written.
    poisoned: bool,
    /// What could not be read when the store was opened. Nothing is written while there is something.
    pub damaged: Option<Damage>,
}

impl WriterState {
    /// The state that was read from the file, at this time of the monotonic clock.
    pub(crate) fn new(state: State, frontier: Frontier, seeds: Seeds, now: Duration) -> WriterState {
        WriterState {
            state,
            frontier,
            seeds,
            ticked: now,
            unsigned_said: false,
            brought_back: None,
            poisoned: false,
            damaged: None,
        }
    }

    /// Before a commit that is not the log's own: unless it is [disarmed](Armed::disarm), which is done once it is on the disk, the
    /// writer is poisoned, whatever way it ends.
    pub(crate) fn arm(&mut self) -> Armed<'_> {
        Armed { writer: self, armed: true }
    }

    /// What is on the disk is not known.
    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The expiry clock, advanced by the time since it was last advanced; `now` is by the monotonic clock.
    pub(crate) fn clock(&self, now: Duration, bound: Duration) -> ExpiryClock {
        let mut clock = ExpiryClock::resume(self.state.clock.clone(), bound);
        clock.advance_open(now.saturating_sub(self.ticked));
        clock
    }
}

/// A writer in the middle of a commit: what it knows can be read meanwhile, and changes once it is disarmed.
#[must_use = "dropped, it poisons the writer"]
#[derive(Debug)]
pub(crate) struct Armed<'w> {
    writer: &'w mut WriterState,
    armed: bool,
}

impl Armed<'_> {
    /// The commit is on the disk.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Deref for Armed<'_> {
    type Target = WriterState;

    fn deref(&self) -> &WriterState {
        self.writer
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.writer.poisoned |= self.armed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag was set before six commits and taken back behind each, by hand: a way out between the two that was added later, or
    /// one line forgotten, and the writer went on with what is not on the disk.
    #[test]
    fn a_commit_that_does_not_come_to_its_end_poisons_the_writer() {
        let new = || {
            let clock = ExpiryClock::start(crate::Timestamp::MAX, Duration::ZERO);
            WriterState::new(
                State::empty(64, clock.state().clone()),
                Frontier::empty(),
                Seeds::default(),
                Duration::ZERO,
            )
        };
        let commit = |writer: &mut WriterState, fails: bool| -> crate::Result<()> {
            let armed = writer.arm();
            if fails {
                return Err(crate::Error::damaged("no"));
            }
            armed.disarm();
            Ok(())
        };
        let mut writer = new();
        commit(&mut writer, false).unwrap();
        assert!(!writer.is_poisoned());
        commit(&mut writer, true).unwrap_err();
        assert!(writer.is_poisoned());
        commit(&mut writer, false).unwrap();
        assert!(writer.is_poisoned(), "what was not known before is not known for it");
        let mut writer = new();
        let panics = std::panic::AssertUnwindSafe(|| {
            let _armed = writer.arm();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(std::panic::catch_unwind(panics).is_err() && writer.is_poisoned());
    }
}

//! The writer's in-memory state.

use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::file::database_handle::Damage;
use crate::store::layout::block::Sealer;
use crate::store::layout::entry_record::TailRow;
use crate::store::layout::state::State;
use std::time::Duration;

/// The writer's in-memory state. Only the thread that holds the writer lock uses it.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub state: State,
    pub frontier: Frontier,
    /// Holds the entries from `state.sealed` on.
    pub sealer: Sealer,
    /// When the expiry clock was last advanced, by the monotonic clock.
    pub ticked: Duration,
    /// Whether the log already says that this process records without the key.
    pub unsigned_said: bool,
    /// The event that the expiry clock was set back on opening, until it is recorded in the log.
    pub brought_back: Option<ClockEvent>,
    /// Set while the state on the disk is unknown.
    pub broken: bool,
    /// What could not be read when the store was opened. Nothing is written while this is set.
    pub damaged: Option<Damage>,
}

impl WriterState {
    /// The state that was read from the file, at this time of the monotonic clock.
    pub(crate) fn new(state: State, frontier: Frontier, tail: &[TailRow], now: Duration) -> WriterState {
        let mut sealer = Sealer::default();
        // The entries of the tail fit in one block: earlier ones were sealed in the commit that added them.
        sealer.begin(state.seed);
        let mut damaged = None;
        for (seq, packed) in (state.sealed..).zip(tail) {
            if sealer.again(seq, packed).is_err() {
                damaged = damaged.or(Some(Damage::Entry(seq)));
            }
        }
        WriterState {
            state,
            frontier,
            sealer,
            ticked: now,
            unsigned_said: false,
            brought_back: None,
            broken: false,
            damaged,
        }
    }

    /// The expiry clock, advanced by the time since it was last advanced; `now` is by the monotonic clock.
    pub(crate) fn clock(&self, now: Duration, bound: Duration) -> ExpiryClock {
        let mut clock = ExpiryClock::resume(self.state.clock.clone(), bound);
        clock.advance_open(now.saturating_sub(self.ticked));
        clock
    }
}

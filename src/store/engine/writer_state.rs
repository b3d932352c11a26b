//! What the writer knows besides what is on the disk, and what it writes without recording anything.

use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::file::database_handle::Damage;
use crate::store::layout::block::Sealer;
use crate::store::layout::entry_record::TailRow;
use crate::store::layout::state::State;
use std::time::Duration;

/// What the writer knows besides what is on the disk. Only the thread whose turn it is touches it.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub state: State,
    pub frontier: Frontier,
    /// Holds the entries from `state.sealed` on.
    pub sealer: Sealer,
    /// When the expiry clock was last told how much time had passed, by the monotonic clock.
    pub ticked: Duration,
    /// Whether the log says already that this process records without the key.
    pub unsigned_said: bool,
    /// That the expiry clock was brought back on opening, until the log says so.
    pub brought_back: Option<ClockEvent>,
    /// Set while what is on the disk is not known.
    pub broken: bool,
    /// What could not be read when the store was opened. Nothing is written while there is something.
    pub damaged: Option<Damage>,
}

impl WriterState {
    /// What was read of the file, at this time of the monotonic clock.
    pub(crate) fn new(state: State, frontier: Frontier, tail: &[TailRow], now: Duration) -> WriterState {
        let mut sealer = Sealer::default();
        // The entries of the tail fit one block: whatever did not was sealed in the commit that brought it.
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

    /// The expiry clock, with the time that has passed since it was last told; it is `now` by the monotonic clock.
    pub(crate) fn clock(&self, now: Duration, bound: Duration) -> ExpiryClock {
        let mut clock = ExpiryClock::resume(self.state.clock.clone(), bound);
        clock.advance_open(now.saturating_sub(self.ticked));
        clock
    }
}

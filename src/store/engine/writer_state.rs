//! What the writer knows besides what is on the disk, and what it writes without recording anything.

use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::engine::Engine;
use crate::store::file::database_handle::Damage;
use crate::store::file::tables::{self, Stored};
use crate::store::layout::block::Sealer;
use crate::store::layout::entry_record::TailRow;
use crate::store::layout::state::{STATE_KEY, State};
use crate::{Result, codec};
use std::time::Duration;

/// Less time is not worth a commit of its own: who opens a store to read it leaves it as it is.
const TICK: Duration = Duration::from_secs(60);

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

    /// The expiry clock, with the time that has passed since it was last told.
    pub(crate) fn clock(&self, engine: &Engine, bound: Duration) -> ExpiryClock {
        let mut clock = ExpiryClock::resume(self.state.clock.clone(), bound);
        clock.advance_open(engine.clock.monotonic().saturating_sub(self.ticked));
        clock
    }
}

impl Engine {
    /// Makes a block of the tail, so that every entry is in one.
    pub(crate) fn seal(&self, writer: &mut WriterState) -> Result<()> {
        let mut sealer = writer.sealer.clone();
        let Some((first, block)) = sealer.finish()? else { return Ok(()) };
        let mut state = writer.state.clone();
        state.sealed = state.size;
        // The nonces of a block that a purge may take from.
        state.seed = [0; 16];
        writer.broken = true;
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        txn.open_table(tables::BLOCKS).stored()?.insert(first, &*block).stored()?;
        txn.open_table(tables::TAIL).stored()?.retain_in(writer.state.sealed..state.size, |_, _| false).stored()?;
        txn.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
        txn.commit().stored()?;
        writer.broken = false;
        writer.state = state;
        writer.sealer = sealer;
        Ok(())
    }

    /// Keeps the time that has passed by the monotonic clock since the last commit, which the expiry clock follows: nobody
    /// could tell it from a clock that was set once the store is closed. The system clock is not looked at, so nothing
    /// unexplained is credited.
    pub(crate) fn tick(&self, writer: &mut WriterState) -> Result<()> {
        let now = self.clock.monotonic();
        let elapsed = now.saturating_sub(writer.ticked);
        if elapsed < TICK || writer.state.clock.frozen.is_some() || writer.state.size == 0 {
            return Ok(());
        }
        let clock = writer.clock(self, self.policies().set.retention.clock_bound());
        let mut state = writer.state.clone();
        state.clock = clock.state().clone();
        writer.broken = true;
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        txn.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&state)?).stored()?;
        txn.commit().stored()?;
        writer.broken = false;
        writer.state = state;
        writer.ticked = now;
        Ok(())
    }
}

//! How the owner receives frames from other processes: how long a frame may take, and how much memory it may use.
//!
//! Invariant R73: an announced length reserves no memory and makes nobody wait; only bytes that have arrived count. Each
//! process has a share of the memory, and a frame that waits for memory gets it, or an error, within a bounded time.
//!
//! The large frames of all processes together may use [`ROOM`], those of one process [`SHARE`] of it, so no process can use
//! up the memory that another needs. One frame at a time leads: it may exceed both limits, up to the longest frame, and
//! counts towards neither. So some frame always makes progress, whatever waits; and no process leads twice in a row while
//! others wait.

use super::local::Stream;
use super::wire::{CHUNK, MAX_FRAME};
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The part of a frame beyond this size counts towards the limits.
const LARGE: usize = 64 << 10;
/// Memory for the large frames of all processes together, except the leading frame.
const ROOM: usize = 16 << 20;
/// Memory for the large frames of one process.
const SHARE: usize = ROOM / 2;

/// How long a frame may take from its first byte, not counting the time that it waits for memory.
const STALLED: Duration = Duration::from_secs(30);
/// How long a frame waits for memory. The frame that leads has ended by then, and a process that waits is the next to lead.
const PATIENCE: Duration = Duration::from_secs(60);

const _: () = assert!(LARGE < SHARE && SHARE < ROOM && ROOM < MAX_FRAME && STALLED.as_secs() < PATIENCE.as_secs());

/// The memory for large frames.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes taken by all frames that do not lead.
    taken: usize,
    /// For each process: the same, and how many of its frames wait.
    of: HashMap<u32, (usize, usize)>,
    leads: bool,
    /// The process that led last.
    last: u32,
}

impl State {
    fn of(&mut self, process: u32) -> &mut (usize, usize) {
        self.of.entry(process).or_default()
    }

    fn give_back(&mut self, process: u32, bytes: usize) {
        self.taken -= bytes;
        self.of(process).0 -= bytes;
    }

    fn fits(&mut self, process: u32, bytes: usize) -> bool {
        // Where the platform does not report the process, all frames count as one process's.
        let share = if process == 0 { ROOM } else { SHARE };
        self.taken + bytes <= ROOM && self.of(process).0 + bytes <= share
    }

    /// Whether a frame of this process may lead now.
    fn may_lead(&self, process: u32) -> bool {
        let others_wait = || self.of.iter().any(|(&of, &(_, waiting))| of != process && waiting > 0);
        !self.leads && (self.last != process || !others_wait())
    }
}

impl Room {
    /// The account of a frame of this process of which nothing has arrived yet.
    pub(super) fn part(&self, process: u32) -> Part<'_> {
        Part { room: self, process, arrived: 0, bytes: 0, leads: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that one frame has taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Part<'a> {
    room: &'a Room,
    process: u32,
    arrived: usize,
    bytes: usize,
    leads: bool,
}

impl Part<'_> {
    /// Like [`Part::take`]; the wait is not charged to the sender.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(super) fn keep(&mut self, reader: &mut Paced, bytes: usize) -> bool {
        if self.arrived + bytes <= LARGE {
            return self.take(bytes, PATIENCE);
        }
        let began = Instant::now();
        let found = self.take(bytes, PATIENCE);
        reader.excuse(began.elapsed());
        found
    }

    /// Takes memory for bytes that have arrived. Returns whether there was any within `patience`.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(super) fn take(&mut self, bytes: usize, patience: Duration) -> bool {
        self.arrived += bytes;
        let bytes = self.arrived.saturating_sub(LARGE).min(bytes);
        if bytes == 0 || self.leads {
            return true;
        }
        let mut state = self.room.lock();
        let mut until = None;
        state.of(self.process).1 += 1;
        let found = loop {
            if state.fits(self.process, bytes) {
                state.taken += bytes;
                state.of(self.process).0 += bytes;
                self.bytes += bytes;
                break true;
            }
            if state.may_lead(self.process) {
                (state.leads, state.last, self.leads) = (true, self.process, true);
                state.give_back(self.process, std::mem::take(&mut self.bytes));
                break true;
            }
            let now = Instant::now();
            let left = until.get_or_insert(now + patience).saturating_duration_since(now);
            if left.is_zero() {
                break false;
            }
            state = self.room.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.of(self.process).1 -= 1;
        drop(state);
        // A process that no longer waits does not block others from leading, and the released memory may be enough for
        // others.
        self.room.freed.notify_all();
        found
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.arrived <= LARGE {
            return;
        }
        let mut state = self.room.lock();
        match self.leads {
            true => state.leads = false,
            false => state.give_back(self.process, self.bytes),
        }
        state.of.retain(|_, of| *of != (0, 0));
        drop(state);
        self.room.freed.notify_all();
    }
}

/// The stream of a connection; each frame must arrive within [`STALLED`] of its first byte.
#[derive(Debug)]
pub(super) struct Paced {
    reader: BufReader<Stream>,
    until: Option<Instant>,
    /// Whether the stream's timeout is the one between two frames.
    rested: bool,
}

impl Paced {
    pub(super) fn new(stream: Stream) -> Paced {
        Paced { reader: BufReader::with_capacity(CHUNK, stream), until: None, rested: false }
    }

    /// Called before the next frame, which may take long to come.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.until = None;
        if !std::mem::replace(&mut self.rested, true) {
            self.reader.get_ref().set_read_timeout(Some(STALLED))?;
        }
        Ok(())
    }

    /// Extends the deadline by the time that the owner, not the sender, caused.
    pub(super) fn excuse(&mut self, waited: Duration) {
        self.until = self.until.map(|until| until + waited);
    }
}

impl Read for Paced {
    #[allow(clippy::disallowed_methods, reason = "waits for another process, by the time that it runs in")]
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until
            && self.reader.buffer().is_empty()
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.rested = false;
            self.reader.get_ref().set_read_timeout(Some(left))?;
        }
        let read = self.reader.read(out)?;
        self.until = self.until.or_else(|| Some(Instant::now() + STALLED));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const MIB: usize = 1 << 20;

    /// A connection that announced 60 MiB and sent two bytes took all the memory, and everybody else waited for as long as
    /// it liked.
    #[test]
    fn one_process_fills_its_share_and_leads_and_is_in_nobodys_way() {
        let room = Room::default();
        let silent: Vec<Part<'_>> = (0..100).map(|_| room.part(1)).collect();
        // One frame leads and counts towards nothing; others fill the share of their process.
        let (mut held, mut full) = (Vec::new(), 0);
        for _ in 0..100 {
            let mut part = room.part(1);
            full += usize::from(!(0..100).all(|_| part.take(MIB, NOW)));
            held.push(part);
        }
        assert_eq!(full, 99);
        let mut other = room.part(2);
        assert!((0..7).all(|_| other.take(MIB, NOW)));
        assert!(!(0..7).all(|_| other.take(MIB, NOW)), "only one leads");
        // The leading frame has ended: a process that waits leads next, not the one that led before.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (0..60).all(|_| other.take(MIB, PATIENCE)));
            while room.lock().of(2).1 == 0 {
                std::thread::yield_now();
            }
            let mut again = room.part(1);
            assert!(!again.take(2 * MIB, NOW));
            drop(held);
            assert!(waiting.join().unwrap());
        });
        drop((silent, other));
        let state = room.lock();
        assert_eq!((state.taken, state.of.len(), state.leads), (0, 0, false));
    }

    #[test]
    fn whatever_waits_something_goes_on() {
        let room = Room::default();
        std::thread::scope(|scope| {
            for process in 0..24 {
                let room = &room;
                scope.spawn(move || {
                    let mut part = room.part(process % 5);
                    assert!((0..200).all(|_| part.take(MIB / 4, PATIENCE)));
                });
            }
        });
        assert_eq!(room.lock().taken, 0);
    }
}

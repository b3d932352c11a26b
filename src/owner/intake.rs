//! How the owner takes in what others send: how long a frame may take, and how much of the memory it may have.
//!
//! Invariant R73: what a sender announces takes nothing and keeps nobody waiting; only what has arrived counts, each process has a
//! share of the room, and whoever waits for room gets it or an error within a bounded time.
//!
//! Large frames of all processes have [`ROOM`] together, those of one process [`SHARE`] of it, so that no process fills what
//! another needs. One frame at a time leads: it may go beyond both, up to the longest frame, and counts in neither. So whatever
//! is waiting, something goes on; and a process does not lead twice while others wait.

use super::local::Stream;
use super::wire::{CHUNK, MAX_FRAME};
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A frame that is longer takes room with what is beyond.
const LARGE: usize = 64 << 10;
/// What the large frames of all processes have together, but for the one that leads.
const ROOM: usize = 16 << 20;
/// What those of one process have.
const SHARE: usize = ROOM / 2;

/// How long a frame may take from its first byte, without the time that it waits for room.
const STALLED: Duration = Duration::from_secs(30);
/// How long a frame waits for room. Whoever leads has gone by then, and a process that waits is the next to lead.
const PATIENCE: Duration = Duration::from_secs(60);

const _: () = assert!(LARGE < SHARE && SHARE < ROOM && ROOM < MAX_FRAME && STALLED.as_secs() < PATIENCE.as_secs());

/// The room for large frames.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Of all that do not lead.
    taken: usize,
    /// Of each process, likewise; how many of its frames wait.
    of: HashMap<u32, (usize, usize)>,
    leads: bool,
    /// Which process led last.
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
        // Where the platform does not say whose a frame is, all are one's.
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
    /// For a frame of this process, of which nothing has arrived.
    pub(super) fn part(&self, process: u32) -> Part<'_> {
        Part { room: self, process, arrived: 0, bytes: 0, leads: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one frame has of the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Part<'a> {
    room: &'a Room,
    process: u32,
    arrived: usize,
    bytes: usize,
    leads: bool,
}

impl Part<'_> {
    /// As [`Part::take`], on the reader's time.
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

    /// Takes room for bytes that have arrived. Says whether there was any within `patience`.
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
        // A process that no longer waits is in no other's way, and what was given back may be enough for others.
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

/// What a connection sends, each frame within [`STALLED`] from its first byte.
#[derive(Debug)]
pub(super) struct Paced {
    reader: BufReader<Stream>,
    until: Option<Instant>,
    /// Whether the stream waits as long as between two frames.
    rested: bool,
}

impl Paced {
    pub(super) fn new(stream: Stream) -> Paced {
        Paced { reader: BufReader::with_capacity(CHUNK, stream), until: None, rested: false }
    }

    /// Before the next frame, which may be long in coming.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.until = None;
        if !std::mem::replace(&mut self.rested, true) {
            self.reader.get_ref().set_read_timeout(Some(STALLED))?;
        }
        Ok(())
    }

    /// So long it was not the sender that was waited for.
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

    /// A connection that announced 60 MiB and sent two bytes had all the room, and everybody else waited for as long as it liked.
    #[test]
    fn one_process_fills_its_share_and_leads_and_is_in_nobodys_way() {
        let room = Room::default();
        let silent: Vec<Part<'_>> = (0..100).map(|_| room.part(1)).collect();
        // One frame leads, whose bytes count nowhere, and others fill the share of their process.
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
        // It has ended: who waits leads next, and not the process that led before.
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

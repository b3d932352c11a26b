//! A disk that keeps 'written' and 'synced' apart, names of files as well as their bytes, so that a test can take the power
//! away at any operation and look at what each kind of disk would then hold.
#![allow(dead_code, reason = "each test file uses its part")]

use attestlog::Storage;
use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk makes of writes that were not synced when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None of them is there.
    Lost,
    /// All of them are: what a killed process leaves.
    Kept,
    /// Some are and some are not, so that later ones may be there without earlier ones.
    Some,
    /// Each is there up to some byte or from some byte on, or not at all.
    Torn,
    /// Only the last is there.
    Last,
}

pub const FATES: [Fate; 5] = [Fate::Lost, Fate::Kept, Fate::Some, Fate::Torn, Fate::Last];

/// What goes wrong at the operation that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: neither this operation nor any later one is done.
    Power,
    /// This operation fails, as a broken disk does, and the next ones are done. A failed sync leaves what was written
    /// before it readable but never brings it to the disk: what Linux does.
    Broken,
    /// This and the next operations fail, as on a full disk that writes nothing in place. Syncs are done.
    Full(u64),
    /// Of this and the next operations those fail that need room, as on a full disk of the usual kind: what was written
    /// before can be written over, and a file can be made longer, which takes no room until something is written there.
    NoRoom(u64),
}

/// What an operation needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// It changes a file, in place.
    Change,
    Room,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Write::Bytes(at, data) => {
                let end = *at as usize + data.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at as usize..end].copy_from_slice(data);
            }
            Write::Length(length) => to.resize(*length as usize, 0),
        }
    }
}

/// The bytes of one file.
#[derive(Debug, Default)]
struct Bytes {
    /// What reading gives.
    written: Vec<u8>,
    /// What is there for certain after the power went.
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    /// The pages that something was written to: they have room.
    held: BTreeSet<u64>,
}

/// The size of the pieces in which the disk gives room.
const PIECE: u64 = 4096;

/// The pieces that this many bytes from `at` on touch.
fn pieces(at: u64, length: usize) -> RangeInclusive<u64> {
    at / PIECE..=(at + length.max(1) as u64 - 1) / PIECE
}

/// The files, as they are and as they would be without what was not synced: a store's, the one that a purge writes, and
/// those that only somebody who has them open still knows.
#[derive(Debug, Default)]
struct State {
    files: Vec<Bytes>,
    /// Which has the store's name.
    first: usize,
    /// Which is being written beside it.
    second: Option<usize>,
    /// Which had the name before it was renamed, as long as the folder was not synced.
    before: Option<usize>,
    operations: u64,
    syncs: u64,
    fault: Option<(u64, Fault)>,
    /// Whether the fault has happened.
    happened: bool,
}

/// A folder that outlives the store in it. Clones share it.
#[derive(Debug, Clone)]
pub struct CrashDisk(Arc<Mutex<State>>);

/// One of its files, opened.
#[derive(Debug)]
struct Opened {
    disk: CrashDisk,
    file: usize,
}

impl Default for CrashDisk {
    fn default() -> CrashDisk {
        CrashDisk::of(Vec::new(), None)
    }
}

impl CrashDisk {
    /// A folder in which the store has these bytes, and in which this was left beside it.
    fn of(bytes: Vec<u8>, beside: Option<Vec<u8>>) -> CrashDisk {
        let second = beside.is_some().then_some(1);
        let file = |bytes: Vec<u8>| Bytes {
            held: pieces(0, bytes.len()).collect(),
            written: bytes.clone(),
            synced: bytes,
            unsynced: Vec::new(),
        };
        let files = std::iter::once(bytes).chain(beside).map(file).collect();
        CrashDisk(Arc::new(Mutex::new(State { files, second, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn opened(&self, file: usize) -> Box<dyn StorageBackend> {
        Box::new(Opened { disk: self.clone(), file })
    }

    /// How many writes, syncs, renames and changes of length there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// A folder in which the store has these bytes.
    pub fn holding(bytes: Vec<u8>) -> CrashDisk {
        CrashDisk::of(bytes, None)
    }

    /// Chooses what goes wrong, at which operation from the first one on.
    pub fn arm(&self, at: u64, fault: Fault) {
        self.state().fault = Some((at, fault));
    }

    /// Whether it has gone wrong.
    pub fn happened(&self) -> bool {
        self.state().happened
    }

    /// Whether what a purge writes lies beside the store.
    pub fn has_second(&self) -> bool {
        self.state().second.is_some()
    }

    /// What each of the files holds, the store's first.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let others = (0..state.files.len()).filter(|file| *file != state.first);
        std::iter::once(state.first).chain(others).map(|file| state.files[file].written.clone()).collect()
    }

    /// How many bytes the store's file has.
    pub fn bytes(&self) -> usize {
        let state = self.state();
        state.files[state.first].written.len()
    }

    /// What is in the folder once the power is back. A rename that was not synced has happened or has not, and what was
    /// written to either file is or is not there whichever it was.
    pub fn after(&self, fate: Fate, seed: u64) -> CrashDisk {
        let state = self.state();
        let mut dice = Dice(seed ^ 0x9e37_79b9_7f4a_7c15);
        let renamed = match fate {
            Fate::Lost | Fate::Last => false,
            Fate::Kept | Fate::Torn => true,
            Fate::Some => dice.roll(2) == 0,
        };
        let (first, second) = match state.before {
            Some(before) if !renamed => (before, Some(state.first)),
            _ => (state.first, state.second),
        };
        let bytes = state.files[first].after(fate, &mut dice);
        CrashDisk::of(bytes, second.map(|second| state.files[second].after(fate, &mut dice)))
    }
}

impl Bytes {
    fn after(&self, fate: Fate, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let count = self.unsynced.len();
        for (i, write) in self.unsynced.iter().enumerate() {
            let mut write = write.clone();
            let there = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Some => dice.roll(2) == 0,
                Fate::Last => i + 1 == count,
                Fate::Torn => {
                    if let Write::Bytes(at, data) = &mut write {
                        let cut = dice.roll(data.len() as u64 + 1);
                        if dice.roll(2) == 0 {
                            data.truncate(cut as usize);
                        } else {
                            data.drain(..cut as usize);
                            *at += cut;
                        }
                    }
                    dice.roll(4) > 0
                }
            };
            if there {
                write.apply(&mut bytes);
            }
        }
        bytes
    }
}

impl State {
    /// Counts an operation; says whether it is done, and if not why.
    fn step(&mut self, needs: Needs) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        let hit = match fault {
            Fault::Power => number >= at,
            Fault::Broken => number == at,
            Fault::Full(count) => needs != Needs::Nothing && (at..at + count).contains(&number),
            Fault::NoRoom(count) => needs == Needs::Room && (at..at + count).contains(&number),
        };
        if !hit {
            return Ok(());
        }
        self.happened = true;
        Err(match fault {
            Fault::Power => io::Error::other("the power is gone"),
            Fault::Broken => io::Error::from_raw_os_error(5),
            Fault::Full(_) | Fault::NoRoom(_) => io::ErrorKind::StorageFull.into(),
        })
    }
}

impl Storage for CrashDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let first = self.state().first;
        Ok(self.opened(first))
    }

    fn is_replaceable(&self) -> bool {
        true
    }

    fn second(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        state.step(Needs::Change)?;
        let file = state.files.len();
        state.files.push(Bytes::default());
        state.second = Some(file);
        drop(state);
        Ok(self.opened(file))
    }

    fn replace(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step(Needs::Nothing)?;
        let second = state.second.take().ok_or(io::ErrorKind::NotFound)?;
        state.before = Some(state.before.unwrap_or(state.first));
        state.first = second;
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step(Needs::Nothing)?;
        state.before = None;
        Ok(())
    }

    fn discard(&self) {
        let mut state = self.state();
        // Where the power is gone it stays.
        if !matches!(state.fault, Some((at, Fault::Power)) if state.operations >= at) {
            state.second = None;
        }
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let end = (offset as usize).checked_add(out.len());
        let written = &state.files[self.file].written;
        let from = end.and_then(|end| written.get(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step(Needs::Change)?;
        let write = Write::Length(len);
        let file = &mut state.files[self.file];
        file.held.split_off(&len.div_ceil(PIECE));
        write.apply(&mut file.written);
        file.unsynced.push(write);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        let done = state.step(Needs::Nothing);
        if done.is_err() && matches!(state.fault, Some((_, Fault::Power))) {
            return done;
        }
        let file = &mut state.files[self.file];
        let unsynced = std::mem::take(&mut file.unsynced);
        if done.is_ok() {
            unsynced.iter().for_each(|write| write.apply(&mut file.synced));
        }
        done
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let there = pieces(offset, data.len()).all(|piece| state.files[self.file].held.contains(&piece));
        let done = state.step(if there { Needs::Change } else { Needs::Room });
        let write = match (&done, state.fault) {
            // The write at which the power went may be under way.
            (Err(_), Some((at, Fault::Power))) if at + 1 == state.operations => {
                Write::Bytes(offset, data[..data.len() / 2].to_vec())
            }
            (Err(_), _) => return done,
            (Ok(()), _) => Write::Bytes(offset, data.to_vec()),
        };
        let file = &mut state.files[self.file];
        if done.is_ok() {
            write.apply(&mut file.written);
            file.held.extend(pieces(offset, data.len()));
        }
        file.unsynced.push(write);
        done
    }
}

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below.max(1)
    }
}

/// Whether the long versions of the tests are wanted.
pub fn long() -> bool {
    std::env::var_os("ATTESTLOG_LONG").is_some_and(|v| v != "0")
}

//! A disk that keeps 'written' and 'synced' apart, so that a test can take the power away at any operation and look at
//! what each kind of disk would then hold.
#![allow(dead_code, reason = "each test file uses its part")]

use redb::StorageBackend;
use std::io;
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
    /// This and the next operations fail, as on a full disk. Syncs are done.
    Full(u64),
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

#[derive(Debug, Default)]
struct State {
    /// What reading gives.
    written: Vec<u8>,
    /// What is there for certain after the power went.
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// Whether the fault has happened.
    happened: bool,
}

/// Bytes that outlive the store on them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct CrashDisk(Arc<Mutex<State>>);

impl CrashDisk {
    pub fn of(bytes: Vec<u8>) -> CrashDisk {
        let state = State { written: bytes.clone(), synced: bytes, ..State::default() };
        CrashDisk(Arc::new(Mutex::new(state)))
    }

    /// What `Options::create_on` and `open_on` ask for.
    pub fn backend(&self) -> impl Fn() -> Box<dyn StorageBackend> + Send + Sync + 'static {
        let disk = self.clone();
        move || Box::new(disk.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How many writes, syncs and changes of length there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Chooses what goes wrong, at which operation from the first one on.
    pub fn arm(&self, at: u64, fault: Fault) {
        self.state().fault = Some((at, fault));
    }

    /// Whether it has gone wrong.
    pub fn happened(&self) -> bool {
        self.state().happened
    }

    /// What is on the disk once the power is back.
    pub fn after(&self, fate: Fate, seed: u64) -> Vec<u8> {
        let state = self.state();
        let mut bytes = state.synced.clone();
        let mut dice = Dice(seed ^ 0x9e37_79b9_7f4a_7c15);
        let count = state.unsynced.len();
        for (i, write) in state.unsynced.iter().enumerate() {
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
    fn step(&mut self, sync: bool) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        let hit = match fault {
            Fault::Power => number >= at,
            Fault::Broken => number == at,
            Fault::Full(count) => !sync && (at..at + count).contains(&number),
        };
        if !hit {
            return Ok(());
        }
        self.happened = true;
        Err(match fault {
            Fault::Power => io::Error::other("the power is gone"),
            Fault::Broken => io::Error::from_raw_os_error(5),
            Fault::Full(_) => io::ErrorKind::StorageFull.into(),
        })
    }
}

impl StorageBackend for CrashDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let end = (offset as usize).checked_add(out.len());
        let from = end.and_then(|end| state.written.get(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step(false)?;
        let write = Write::Length(len);
        write.apply(&mut state.written);
        state.unsynced.push(write);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let done = state.step(true);
        if done.is_err() && matches!(state.fault, Some((_, Fault::Power))) {
            return done;
        }
        let unsynced = std::mem::take(&mut state.unsynced);
        if done.is_ok() {
            unsynced.iter().for_each(|write| write.apply(&mut state.synced));
        }
        done
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let done = state.step(false);
        let write = match (&done, state.fault) {
            // The write at which the power went may be under way.
            (Err(_), Some((at, Fault::Power))) if at + 1 == state.operations => {
                Write::Bytes(offset, data[..data.len() / 2].to_vec())
            }
            (Err(_), _) => return done,
            (Ok(()), _) => Write::Bytes(offset, data.to_vec()),
        };
        if done.is_ok() {
            write.apply(&mut state.written);
        }
        state.unsynced.push(write);
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

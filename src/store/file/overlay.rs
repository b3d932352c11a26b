//! A read-only view of a store's bytes that keeps redb's writes in memory.
//!
//! redb writes even when it opens a file: a mark that the file is in use, the repair of a file that was not closed cleanly,
//! and another mark when it closes. Invariant E2: when a store is opened for reading, none of this reaches the file. The file
//! is opened without write access, under a shared lock that excludes writers, and every write is kept in memory, up to a
//! limit. Invariant E3: if something is recorded after all, the kept writes are applied in the order in which redb made them,
//! syncs included, under a lock that was never released in between: the file is then what it would be had it been opened for
//! writing.

use crate::store::file::tables::Stored;
use crate::store::file::watched::{Watch, Watched};
use crate::{Error, ErrorKind, Result};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// The unit in which redb's writes are kept.
const PIECE: u64 = 4096;

/// Memory limit. Opening a cleanly closed file takes a few KiB. Other files are repaired, which takes one bit per page plus
/// the repaired pages.
const MOST: usize = 64 << 20;

/// How long to wait for readers in other processes before recording fails.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

type Span = (Bound<u64>, Bound<u64>);

/// The bytes of a store that is open for reading, and what redb would have written.
#[derive(Debug)]
pub(crate) struct Overlay(RwLock<Bytes>);

#[derive(Debug)]
struct Bytes {
    beneath: Arc<Watched>,
    /// `None` once writes go to the file.
    kept: Option<Kept>,
    /// The ranges that redb has locked.
    locked: Vec<Span>,
    /// The store's file, if the store is a file that may be recorded into.
    file: Option<File>,
    /// The same file, once it was opened for writing.
    writable: Option<Arc<Watched>>,
}

#[derive(Debug)]
struct Kept {
    len: u64,
    /// How many bytes of the underlying storage are still visible.
    beneath: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
    /// All operations in order, if they may have to be applied later.
    steps: Option<Vec<Step>>,
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
enum Step {
    Length(u64),
    Write(u64, Box<[u8]>),
    Sync,
}

impl Overlay {
    /// An overlay on bytes that will never be written to.
    pub(crate) fn new(beneath: Box<dyn StorageBackend>) -> Result<Overlay> {
        Overlay::over(beneath.into(), None)
    }

    /// An overlay on this file, which was opened without write access. `may_record`: it may be opened for recording later.
    pub(crate) fn of_file(file: File, may_record: bool) -> Result<Overlay> {
        let copy = file.try_clone()?;
        let beneath: Arc<dyn StorageBackend> = Arc::new(FileBackend::new(file).stored()?);
        if !may_record {
            return Overlay::over(beneath, None);
        }
        lock_alone(&copy)?;
        Overlay::over(beneath, Some(copy))
    }

    fn over(beneath: Arc<dyn StorageBackend>, file: Option<File>) -> Result<Overlay> {
        let len = beneath.len()?;
        let steps = file.is_some().then(Vec::new);
        let beneath = Arc::new(Watched::new(beneath));
        let kept = Kept { len, beneath: len, pieces: BTreeMap::new(), steps, bytes: 0, most: MOST };
        let bytes = Bytes { beneath, kept: Some(kept), locked: Vec::new(), file, writable: None };
        Ok(Overlay(RwLock::new(bytes)))
    }

    /// To be called after redb has locked the file. Of the processes that may record later, only one can read at a time, so
    /// that each notices the other.
    pub(crate) fn lock_again(&self) -> Result<()> {
        self.bytes().file.as_ref().map_or(Ok(()), lock_alone)
    }

    /// Applies the kept writes to the file at `path`, and sends all later writes there.
    ///
    /// # Errors
    /// [`Locked`](ErrorKind::Locked) while another process reads the store, `Closed` if the path names another file now,
    /// `Damaged` if the file was overwritten; I/O errors. The call can be repeated.
    pub(crate) fn write_through(&self, path: &Path) -> Result<()> {
        let mut bytes = self.bytes_mut();
        if bytes.kept.is_none() {
            return Ok(());
        }
        let file = bytes.take_lock(path)?;
        let Some(kept) = &bytes.kept else { return Ok(()) };
        file.check_unchanged().map_err(|e| e.in_file(path))?;
        for step in kept.steps.iter().flatten() {
            match step {
                Step::Length(len) => file.set_len(*len)?,
                Step::Write(offset, data) => file.write(*offset, data)?,
                Step::Sync => file.sync_data()?,
            }
        }
        bytes.kept = None;
        Ok(())
    }

    fn bytes(&self) -> RwLockReadGuard<'_, Bytes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_mut(&self) -> RwLockWriteGuard<'_, Bytes> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(
        &self,
        span: Span,
        lock: impl FnOnce(&dyn StorageBackend) -> Result<bool, BackendError>,
    ) -> Result<bool, BackendError> {
        let mut bytes = self.bytes_mut();
        let locked = lock(&*bytes.beneath)?;
        if locked {
            bytes.locked.push(span);
        }
        Ok(locked)
    }
}

impl Bytes {
    /// Opens the file for writing and turns the shared lock into an exclusive one, without releasing it in between.
    #[allow(clippy::disallowed_methods, reason = "waits for other processes, by the time that they run in")]
    fn take_lock(&mut self, path: &Path) -> Result<Arc<Watched>> {
        let named = |e: io::Error| Error::from(e).in_file(path);
        let held = |got: Result<bool, BackendError>| match got {
            Ok(got) => Ok(got),
            // As redb does: where the system has no locks, exclusion is the operator's responsibility.
            Err(BackendError::Unsupported) => Ok(true),
            Err(e) => Err(Error::new(ErrorKind::Io, e.to_string()).in_file(path)),
        };
        let file = match &self.writable {
            Some(file) => file.clone(),
            None => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)
                    .map_err(|e| crate::store::file::paths::unwritable(path, e))?;
                let of = |file: &File| file.metadata().map_err(named);
                let before = self.file.as_ref().map(of).transpose()?;
                if !before
                    .is_some_and(|before| of(&file).is_ok_and(|now| crate::store::file::paths::is_same(&before, &now)))
                {
                    let message = "another file was put there; open the store again";
                    return Err(Error::new(ErrorKind::Closed, message).in_file(path));
                }
                let file = Arc::new(self.beneath.again(Arc::new(FileBackend::new(file).stored()?)));
                if let Some(before) = &self.file {
                    // Locks on two handles of one file conflict with each other.
                    let _ = before.try_lock_shared();
                }
                for span in &self.locked {
                    if !held(file.try_lock_shared_range(span.0, span.1))? {
                        return Err(busy(path));
                    }
                }
                self.beneath.close()?;
                (self.beneath, self.writable) = (file.clone(), Some(file.clone()));
                file
            }
        };
        let began = Instant::now();
        for span in &self.locked {
            while !held(file.try_lock_range(span.0, span.1))? {
                if began.elapsed() > PATIENCE {
                    return Err(busy(path));
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(file)
    }
}

fn busy(path: &Path) -> Error {
    Error::new(ErrorKind::Locked, "another process reads the store; wait until it has ended").in_file(path)
}

/// Takes an exclusive lock besides redb's own locks, which readers share.
fn lock_alone(file: &File) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::Locked, "another process has the store open; wait for it, or go through it"))
        }
        // Not every file system supports such locks.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
    }
}

impl Kept {
    fn read(&self, beneath: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let there = self.beneath.saturating_sub(offset).min(out.len() as u64) as usize;
        let (first, rest) = out.split_at_mut(there);
        if !first.is_empty() {
            beneath.read(offset, first)?;
        }
        rest.fill(0);
        for (&at, piece) in self.pieces.range(offset - offset % PIECE..end) {
            let from = at.max(offset);
            let until = (at + PIECE).min(end);
            out[(from - offset) as usize..(until - offset) as usize]
                .copy_from_slice(&piece[(from - at) as usize..(until - at) as usize]);
        }
        Ok(())
    }

    fn note(&mut self, bytes: usize, step: impl FnOnce() -> Step) -> io::Result<()> {
        if self.bytes + bytes > self.most {
            let message = format!(
                "reading this file without writing to it would take more than {} MiB of memory, because it was not closed \
                 cleanly: copy it, and open the copy once for writing (`attestlog checkpoint`), which repairs it",
                self.most >> 20
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        self.bytes += bytes;
        if let Some(steps) = &mut self.steps {
            steps.push(step());
        }
        Ok(())
    }

    fn write(&mut self, beneath: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.note(data.len(), || Step::Write(offset, data.into()))?;
        let mut at = offset - offset % PIECE;
        while at < end {
            if !self.pieces.contains_key(&at) {
                let mut piece = vec![0; PIECE as usize].into_boxed_slice();
                let there = self.len.saturating_sub(at).min(PIECE) as usize;
                self.read(beneath, at, &mut piece[..there])?;
                self.bytes += piece.len();
                self.pieces.insert(at, piece);
            }
            if let Some(piece) = self.pieces.get_mut(&at) {
                let from = at.max(offset);
                let until = (at + PIECE).min(end);
                piece[(from - at) as usize..(until - at) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(until - offset) as usize]);
            }
            at += PIECE;
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.note(0, || Step::Length(len))?;
        if len < self.len {
            self.beneath = self.beneath.min(len);
            self.pieces.split_off(&len.next_multiple_of(PIECE));
            let last = len - len % PIECE;
            if let Some(piece) = self.pieces.get_mut(&last) {
                piece[(len - last) as usize..].fill(0);
            }
        }
        self.len = len;
        Ok(())
    }
}

impl Watch for Overlay {
    fn check_unchanged(&self) -> Result<()> {
        self.bytes().beneath.check_unchanged()
    }

    fn condemn(&self) {
        self.bytes().beneath.condemn();
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.bytes();
        bytes.kept.as_ref().map_or_else(|| bytes.beneath.len(), |kept| Ok(kept.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        match &bytes.kept {
            Some(kept) => kept.read(&*bytes.beneath, offset, out),
            None => bytes.beneath.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes_mut();
        match &mut bytes.kept {
            Some(kept) => kept.set_len(len),
            None => bytes.beneath.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut bytes = self.bytes_mut();
        match &mut bytes.kept {
            Some(kept) => kept.note(0, || Step::Sync),
            None => {
                let beneath = bytes.beneath.clone();
                drop(bytes);
                // The lock is released, so that readers can continue during the sync.
                beneath.sync_data()
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        {
            let bytes = self.bytes();
            if bytes.kept.is_none() {
                return bytes.beneath.write(offset, data);
            }
        }
        let mut bytes = self.bytes_mut();
        let beneath = bytes.beneath.clone();
        match &mut bytes.kept {
            Some(kept) => kept.write(&*beneath, offset, data),
            None => beneath.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.bytes().beneath.close()
    }

    /// Takes a shared lock: the file was opened without write access, and others may read it too.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.lock((start, end), |beneath| beneath.try_lock_shared_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.lock((start, end), |beneath| beneath.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.lock((start, end), |beneath| beneath.lock_shared_range(start, end).map(|()| true)).map(|_| ())
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        let mut bytes = self.bytes_mut();
        bytes.locked.retain(|span| *span != (start, end));
        bytes.beneath.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.bytes().beneath.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::storage::Memory;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Write(u64, Vec<u8>),
        Length(u64),
        Read(u64, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..20_000u64, prop::collection::vec(any::<u8>(), 0..6000)).prop_map(|(at, data)| Op::Write(at, data)),
            (0..24_000u64).prop_map(Op::Length),
            (0..24_000u64, 0..9000usize).prop_map(|(at, len)| Op::Read(at, len)),
        ]
    }

    fn beneath() -> (Memory, Vec<u8>) {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        let memory = Memory::default();
        memory.set_len(bytes.len() as u64).unwrap();
        memory.write(0, &bytes).unwrap();
        (memory, bytes)
    }

    fn all(bytes: &dyn StorageBackend) -> Vec<u8> {
        let mut out = vec![0; bytes.len().unwrap() as usize];
        bytes.read(0, &mut out).unwrap();
        out
    }

    proptest! {
        /// E2 and E3 against a plain vector: reads return what was written, the underlying bytes are unchanged, and applying
        /// the steps to them gives the same bytes.
        #[test]
        fn an_overlay_is_a_file_of_its_own(ops in prop::collection::vec(op(), 1..40)) {
            let (memory, before) = beneath();
            let mut model = before.clone();
            let overlay = Overlay::new(Box::new(memory.clone())).unwrap();
            if let Some(kept) = &mut overlay.bytes_mut().kept {
                kept.steps = Some(Vec::new());
            }
            for op in ops {
                match op {
                    Op::Write(at, data) => {
                        let end = at as usize + data.len();
                        prop_assert_eq!(overlay.write(at, &data).is_ok(), end <= model.len());
                        if end <= model.len() {
                            model[at as usize..end].copy_from_slice(&data);
                        }
                    }
                    Op::Length(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                    Op::Read(at, len) => {
                        let mut out = vec![1; len];
                        let there = StorageBackend::read(&overlay, at, &mut out).is_ok();
                        prop_assert_eq!(there, at as usize + len <= model.len());
                        if there {
                            prop_assert_eq!(&out[..], &model[at as usize..at as usize + len]);
                        }
                    }
                }
            }
            prop_assert_eq!(all(&overlay), model.clone());
            prop_assert_eq!(all(&memory), before);
            let kept = overlay.bytes_mut().kept.take().unwrap();
            for step in kept.steps.unwrap() {
                match step {
                    Step::Length(len) => memory.set_len(len).unwrap(),
                    Step::Write(at, data) => memory.write(at, &data).unwrap(),
                    Step::Sync => {}
                }
            }
            prop_assert_eq!(all(&memory), model);
        }
    }

    /// A store that was not closed: with less memory than its repair takes it is refused with a message that says what to do,
    /// and with enough it is read. Whatever redb does when it reaches the limit, nothing panics and the file is unchanged
    /// [E2].
    #[test]
    fn a_store_that_takes_more_than_the_limit_is_refused() {
        let memory = Memory::default();
        let engine = memory.clone();
        let storage = move || Box::new(engine.clone()) as Box<dyn StorageBackend>;
        let log = crate::Options::new().background(false).without_keys().create_on(storage).unwrap();
        let call = |i: u64| crate::ToolCall::new(format!("conv_{i}"), "usr_1", "look").arguments(i);
        log.record_batch((0..3000).map(call)).unwrap();
        log.flush_index().unwrap();
        log.record(call(3000)).unwrap();
        // The state that a killed process leaves.
        let before = all(&memory);
        drop(log);
        let open = |most: usize| {
            let left = Memory::default();
            left.set_len(before.len() as u64).unwrap();
            left.write(0, &before).unwrap();
            let overlay = Arc::new(Overlay::new(Box::new(left.clone())).unwrap());
            if let Some(kept) = &mut overlay.bytes_mut().kept {
                kept.most = most;
            }
            let opened = crate::store::file::replacement::open_over(&mut redb::Builder::new(), &overlay, false);
            let opened = opened.and_then(|handle| handle.view().map(|_| ()));
            let took = overlay.bytes().kept.as_ref().map_or(0, |kept| kept.bytes);
            assert!(all(&left) == before, "the file is another");
            (opened, took)
        };
        let (opened, took) = open(MOST);
        opened.unwrap();
        println!("a file of {} bytes that was not closed takes {took} bytes of memory to be read", before.len());
        assert!(took < before.len() / 4, "{took} of {}", before.len());
        let mut refused = 0;
        for most in (0..took).step_by(took / 40) {
            if let (Err(e), _) = open(most) {
                assert!(e.to_string().contains("copy it, and open the copy once for writing"), "{most}: {e}");
                refused += 1;
            }
        }
        println!("{refused} limits below that were too low: {}", open(0).0.unwrap_err());
        assert!(refused > 3, "{refused}");
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let (memory, before) = beneath();
        let overlay = Overlay::new(Box::new(memory.clone())).unwrap();
        if let Some(kept) = &mut overlay.bytes_mut().kept {
            kept.most = 3 * PIECE as usize;
        }
        overlay.write(0, &[7; 1000]).unwrap();
        let full = (0..100).find_map(|_| overlay.write(5000, &[8; 1000]).err()).unwrap();
        assert!(full.to_string().contains("copy it"), "{full}");
        assert_eq!(all(&memory), before);
    }
}

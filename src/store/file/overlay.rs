//! A read-only view of a store's bytes that keeps redb's writes in memory.
//!
//! redb writes even when it opens a file: a mark that the file is in use, the repair of a file that was not closed cleanly,
//! and another mark when it closes. Invariant E2: when a store is opened for reading, none of this reaches the file. The file
//! is opened without write access, under a shared lock that excludes writers, and every write is kept in memory, up to a
//! limit. The file can be given up at any moment, whatever is being read from it (R96): nothing is read from then on.

use crate::store::file::redb_errors::{IN_USE, Stored};
use crate::store::file::watched::{Watch, Watched};
use crate::{Error, ErrorKind, Result};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// The unit in which redb's writes are kept.
const PIECE: u64 = 4096;

/// Memory limit. Opening a cleanly closed file takes a few KiB. Other files are repaired, which takes one bit per page plus
/// the repaired pages.
const MOST: usize = 64 << 20;

/// What a process does once it has locked the file: it listens for those who ask for it. What is returned is dropped before the
/// file is unlocked.
type Listen = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// The file of a process that only reads, for whoever gives it up (R96). It is made before the file is opened, which may take long.
#[derive(Default)]
pub(crate) struct Giving {
    overlay: Mutex<Weak<Overlay>>,
    given_up: AtomicBool,
    locked: OnceLock<()>,
    listen: Mutex<Option<Listen>>,
    listening: Mutex<Option<Box<dyn Any + Send>>>,
}

impl fmt::Debug for Giving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Giving").field("given_up", &self.given_up).finish_non_exhaustive()
    }
}

impl Giving {
    /// Sets what is done once the file is locked.
    #[cfg(feature = "owner")]
    pub(crate) fn on_locked(&self, listen: Listen) {
        *self.listen.lock().unwrap_or_else(PoisonError::into_inner) = Some(listen);
    }

    /// What it returned, if the file is locked.
    pub(crate) fn listening(&self) -> Option<Box<dyn Any + Send>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The file is locked, and will be read.
    fn is_locked(&self) {
        self.locked.get_or_init(|| {
            let listen = self.listen.lock().unwrap_or_else(PoisonError::into_inner).take();
            *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = listen.map(|listen| listen());
        });
    }

    /// Closes the file and releases its locks, whatever is being read from it.
    #[cfg(feature = "owner")]
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        let overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        overlay.iter().for_each(|overlay| overlay.give_up());
    }

    /// Whether the file was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// The bytes of a store that is open for reading, and what redb would have written.
#[derive(Debug)]
pub(crate) struct Overlay {
    bytes: RwLock<Bytes>,
    giving: Option<Arc<Giving>>,
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Before the file is closed, and so unlocked.
        drop(self.giving.as_ref().and_then(|giving| giving.listening()));
    }
}

#[derive(Debug)]
struct Bytes {
    /// `None` once the file was given up.
    beneath: Option<Arc<Watched>>,
    kept: Kept,
    /// The store's file, if no other reader may have it at the same time.
    file: Option<File>,
}

#[derive(Debug)]
struct Kept {
    len: u64,
    /// How many bytes of the underlying storage are still visible.
    beneath: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
    bytes: usize,
    most: usize,
}

impl Overlay {
    /// An overlay on bytes that will never be written to.
    pub(crate) fn new(beneath: Box<dyn StorageBackend>) -> Result<Overlay> {
        Overlay::over(beneath.into(), None)
    }

    /// An overlay on this file, which was opened without write access. `giving`: through which it can be given up; then no other
    /// reader may have it at the same time.
    pub(crate) fn of_file(file: File, giving: Option<&Arc<Giving>>) -> Result<Arc<Overlay>> {
        let copy = giving.map(|_| file.try_clone()).transpose()?;
        let beneath: Arc<dyn StorageBackend> = Arc::new(FileBackend::new(file).stored()?);
        copy.as_ref().map_or(Ok(()), lock_alone)?;
        let mut overlay = Overlay::over(beneath, copy)?;
        overlay.giving = giving.cloned();
        let overlay = Arc::new(overlay);
        if let Some(giving) = giving {
            *giving.overlay.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&overlay);
        }
        Ok(overlay)
    }

    fn over(beneath: Arc<dyn StorageBackend>, file: Option<File>) -> Result<Overlay> {
        let len = beneath.len()?;
        let beneath = Some(Arc::new(Watched::new(beneath)));
        let kept = Kept { len, beneath: len, pieces: BTreeMap::new(), bytes: 0, most: MOST };
        Ok(Overlay { bytes: RwLock::new(Bytes { beneath, kept, file }), giving: None })
    }

    /// To be called after redb has locked the file. Of the readers that give the file up when they are asked, only one has it
    /// at a time, so that each finds the other's socket.
    pub(crate) fn lock_again(&self) -> Result<()> {
        self.bytes().file.as_ref().map_or(Ok(()), lock_alone)
    }

    /// Closes the file and releases its locks: every later read fails.
    #[cfg(feature = "owner")]
    fn give_up(&self) {
        let mut bytes = self.bytes_mut();
        // Explicitly, since a process that was forked from this one has the file open too.
        if let Some(beneath) = bytes.beneath.take() {
            let _ = beneath.close();
        }
        if let Some(file) = bytes.file.take() {
            let _ = file.unlock();
        }
    }

    fn bytes(&self) -> RwLockReadGuard<'_, Bytes> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_mut(&self) -> RwLockWriteGuard<'_, Bytes> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the storage beneath do this, unless it was given up.
    fn beneath<T, E: From<io::Error>>(
        &self,
        what: impl FnOnce(&Watched) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match &self.bytes().beneath {
            Some(beneath) => what(beneath),
            None => Err(given_up().into()),
        }
    }
}

/// Nobody is shown this: whoever reads notices that the store was given up, and asks its next owner.
fn given_up() -> io::Error {
    io::Error::other("the store was given up to a process that records")
}

/// Takes an exclusive lock besides redb's own locks, which readers share.
fn lock_alone(file: &File) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::new(ErrorKind::Locked, IN_USE)),
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

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        if self.bytes + bytes > self.most {
            let message = format!(
                "reading this file without writing to it would take more than {} MiB of memory, because it was not closed \
                 cleanly: copy it, and open the copy once for writing (`attestlog checkpoint`), which repairs it",
                self.most >> 20
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        self.bytes += bytes;
        Ok(())
    }

    fn write(&mut self, beneath: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut at = offset - offset % PIECE;
        while at < end {
            if !self.pieces.contains_key(&at) {
                self.take(PIECE as usize)?;
                let mut piece = vec![0; PIECE as usize].into_boxed_slice();
                let there = self.len.saturating_sub(at).min(PIECE) as usize;
                self.read(beneath, at, &mut piece[..there])?;
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

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.beneath = self.beneath.min(len);
            self.pieces.split_off(&len.next_multiple_of(PIECE));
            let last = len - len % PIECE;
            if let Some(piece) = self.pieces.get_mut(&last) {
                piece[(len - last) as usize..].fill(0);
            }
        }
        self.len = len;
    }
}

impl Watch for Overlay {
    fn check_unchanged(&self) -> Result<()> {
        self.beneath(Watched::check_unchanged)
    }

    fn condemn(&self) {
        let _ = self.beneath(|beneath| -> io::Result<()> {
            beneath.condemn();
            Ok(())
        });
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().kept.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // redb locks the file before it reads anything.
        self.giving.iter().for_each(|giving| giving.is_locked());
        let bytes = self.bytes();
        let beneath = bytes.beneath.as_ref().ok_or_else(given_up)?;
        bytes.kept.read(&**beneath, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes_mut().kept.set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Bytes { beneath, kept, .. } = &mut *self.bytes_mut();
        match beneath {
            Some(beneath) => kept.write(&**beneath, offset, data),
            // redb marks the file as closed; there is none any more.
            None => Ok(()),
        }
    }

    fn close(&self) -> io::Result<()> {
        drop(self.giving.as_ref().and_then(|giving| giving.listening()));
        self.bytes().beneath.as_ref().map_or(Ok(()), |beneath| beneath.close())
    }

    /// Takes a shared lock: the file was opened without write access, and others may read it too.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath(|beneath| beneath.try_lock_shared_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath(|beneath| beneath.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.beneath(|beneath| beneath.lock_shared_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        // What was given up is unlocked.
        self.bytes().beneath.as_ref().map_or(Ok(()), |beneath| beneath.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath(|beneath| beneath.query_lock_range(start, end))
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
        /// E2 against a plain vector: reads return what was written, and the underlying bytes are unchanged.
        #[test]
        fn an_overlay_is_a_file_of_its_own(ops in prop::collection::vec(op(), 1..40)) {
            let (memory, before) = beneath();
            let mut model = before.clone();
            let overlay = Overlay::new(Box::new(memory.clone())).unwrap();
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
            prop_assert_eq!(all(&overlay), model);
            prop_assert_eq!(all(&memory), before);
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
        let log = crate::Options::new().background(false).without_keys().create_store_on(storage).unwrap();
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
            overlay.bytes_mut().kept.most = most;
            let opened = crate::store::file::replacement::open_over(&mut redb::Builder::new(), &overlay, false);
            let opened = opened.and_then(|handle| handle.view().map(|_| ()));
            let took = overlay.bytes().kept.bytes;
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
        overlay.bytes_mut().kept.most = PIECE as usize;
        overlay.write(0, &[7; 1000]).unwrap();
        let full = (0..100).find_map(|_| overlay.write(5000, &[8; 1000]).err()).unwrap();
        assert!(full.to_string().contains("copy it"), "{full}");
        assert_eq!(all(&memory), before);
    }
}

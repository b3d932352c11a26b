//! Detects writes to the store's file by other programs.
//!
//! redb assumes that it owns a file it has locked: it keeps the current commit and most of what it has read in memory and
//! does not look at either again. No lock prevents another program from overwriting the file in place (`cp copy audit.log`).
//! Readers would then be answered from memory, and commits would go into a file with different pages and be lost. So the
//! header, which every commit changes, and the file length are remembered as last written, or as redb read them on opening,
//! and compared with the file: before recording, before each write of the header, after each sync and so before anything is
//! acknowledged, and whenever a read begins.
//!
//! Invariant R65: nothing is acknowledged and nothing answered while the file's header or length differs from what this
//! handle last wrote. Once a difference was seen, the handle writes and answers nothing more, even if the old content is put
//! back.

use crate::store::file::pages::header::HEADER_BYTES;
use crate::{Error, Result};
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Storage that can tell whether another program has written to it.
pub(crate) trait Watch: StorageBackend {
    /// Checks that the storage still begins with the header, and has the length, that was last written.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if it differs, and on every later call; I/O errors of the storage.
    fn check_unchanged(&self) -> Result<()>;

    /// Makes every later check fail: the content is known to be foreign.
    fn condemn(&self);
}

/// Storage that is checked before and after writes.
#[derive(Debug)]
pub(crate) struct Watched {
    beneath: Arc<dyn StorageBackend>,
    known: RwLock<Known>,
}

/// The expected header and length.
#[derive(Debug, Default)]
enum Known {
    /// Unknown: not read yet, or a write failed and may have taken effect. Opening the storage again reads what it holds.
    #[default]
    Nothing,
    Last {
        header: Box<[u8; HEADER_BYTES]>,
        length: u64,
    },
    /// The content is foreign.
    Other,
}

/// The error for callers who want to read or record.
fn changed() -> Error {
    Error::damaged(
        "something else has written over the store's file while it was open: another file was copied over it, or it was cut. \
         Nothing more is recorded in it or answered from it. End the process that has it open, keep the file as it is now, and \
         put the store or a backup back (`attestlog restore`)",
    )
}

impl Watched {
    pub(crate) fn new(beneath: Arc<dyn StorageBackend>) -> Watched {
        Watched { beneath, known: RwLock::default() }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the storage is as expected. The caller holds the lock, so that nothing in this process writes meanwhile.
    fn is(&self, known: &Known) -> io::Result<bool> {
        let (header, length) = match known {
            Known::Nothing => return Ok(true),
            Known::Other => return Ok(false),
            Known::Last { header, length } => (header, *length),
        };
        if self.beneath.len()? != length {
            return Ok(false);
        }
        let mut now = [0; HEADER_BYTES];
        match self.beneath.read(0, &mut now) {
            Ok(()) => Ok(now == **header),
            // The file was truncated after its length was read.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Checks before a write. The caller holds the lock.
    fn check(&self, known: &mut Known) -> io::Result<()> {
        if self.is(known)? {
            return Ok(());
        }
        *known = Known::Other;
        Err(io::Error::other(changed()))
    }

    /// Remembers these bytes as the start of the storage.
    fn note(&self, known: &mut Known, offset: usize, data: &[u8]) -> io::Result<()> {
        match known {
            Known::Other => {}
            Known::Last { header, .. } => {
                let end = HEADER_BYTES.min(offset + data.len());
                if let Some(there) = header.get_mut(offset..end) {
                    there.copy_from_slice(&data[..there.len()]);
                }
            }
            Known::Nothing => {
                if let Some(header) = data.first_chunk().filter(|_| offset == 0) {
                    *known = Known::Last { header: Box::new(*header), length: self.beneath.len()? };
                }
            }
        }
        Ok(())
    }
}

/// After a write that may have been partial, the content is unknown.
fn forget(known: &mut Known) {
    if !matches!(known, Known::Other) {
        *known = Known::Nothing;
    }
}

impl Watch for Watched {
    fn check_unchanged(&self) -> Result<()> {
        if self.is(&self.known())? {
            return Ok(());
        }
        self.condemn();
        Err(changed())
    }

    fn condemn(&self) {
        *self.known_mut() = Known::Other;
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.beneath.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.beneath.read(offset, out)?;
        if offset == 0 && out.len() >= HEADER_BYTES && matches!(*self.known(), Known::Nothing) {
            self.note(&mut self.known_mut(), 0, out)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut known = self.known_mut();
        self.check(&mut known)?;
        let set = self.beneath.set_len(len);
        match (&set, &mut *known) {
            (Ok(()), Known::Last { length, .. }) => *length = len,
            (Ok(()), _) => {}
            (Err(_), known) => forget(known),
        }
        set
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Err(e) = self.beneath.sync_data() {
            forget(&mut self.known_mut());
            return Err(e);
        }
        self.check_unchanged().map_err(io::Error::other)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(at) = usize::try_from(offset).ok().filter(|at| *at < HEADER_BYTES) else {
            return match *self.known() {
                Known::Other => Err(io::Error::other(changed())),
                _ => self.beneath.write(offset, data),
            };
        };
        let mut known = self.known_mut();
        self.check(&mut known)?;
        match self.beneath.write(offset, data) {
            Ok(()) => self.note(&mut known, at, data),
            Err(e) => {
                forget(&mut known);
                Err(e)
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        self.beneath.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.beneath.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.beneath.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.beneath.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.beneath.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::storage::Memory;

    /// Changes to the first page or to the length by another program are detected for good; this handle's own writes and
    /// failed writes are not reported [R65].
    #[test]
    fn what_another_writes_is_seen() {
        let open = || {
            let memory = Memory::default();
            memory.set_len(8192).unwrap();
            let watched = Watched::new(Arc::new(memory.clone()));
            watched.read(0, &mut [0; HEADER_BYTES]).unwrap();
            watched.check_unchanged().unwrap();
            (memory, watched)
        };
        let (_, watched) = open();
        watched.write(0, &[1; HEADER_BYTES]).unwrap();
        watched.write(300, &[2; 100]).unwrap();
        watched.write(4096, &[3; 100]).unwrap();
        watched.set_len(4096).unwrap();
        watched.sync_data().unwrap();
        watched.check_unchanged().unwrap();
        // Beyond the end.
        watched.write(319, &[4; 8192]).unwrap_err();
        watched.check_unchanged().unwrap();
        let cut = |memory: &Memory| memory.set_len(8191).unwrap();
        let empty = |memory: &Memory| memory.set_len(0).unwrap();
        let long = |memory: &Memory| memory.set_len(8193).unwrap();
        let byte = |memory: &Memory| memory.write(319, &[1]).unwrap();
        for change in [&cut as &dyn Fn(&Memory), &empty, &long, &byte] {
            let (memory, watched) = open();
            change(&memory);
            let e = watched.write(0, &[5; HEADER_BYTES]).unwrap_err();
            assert!(e.to_string().contains("something else has written"), "{e}");
            let (memory, watched) = open();
            change(&memory);
            watched.sync_data().unwrap_err();
            memory.set_len(0).unwrap();
            memory.set_len(8192).unwrap();
            // The old content is back, but may have been different in between.
            watched.check_unchanged().unwrap_err();
            watched.write(4096, &[1]).unwrap_err();
            watched.set_len(0).unwrap_err();
            assert_eq!(memory.len().unwrap(), 8192);
        }
    }
}

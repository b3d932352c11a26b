//! Storage of a store that has no file of its own: memory, or storage provided by the host.

use crate::store::file::first_look::FirstLook;
use crate::store::file::one_sync::OneSync;
use crate::{Error, Result};
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Storage provided by the host, for [`Options::create_on`](crate::Options::create_on) and
/// [`Options::open_on`](crate::Options::open_on).
///
/// Any function that returns a [`StorageBackend`] implements it, but such a store cannot be purged: a purge writes what
/// remains to a second storage, because data deleted in place stays in free pages. An implementation with a second storage
/// overrides the methods below.
pub trait Storage: Send + Sync + 'static {
    /// Opens the storage. Called again when the store must be reopened after a failed write; it must then return the same
    /// bytes.
    ///
    /// # Errors
    /// I/O errors of the storage.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether a second storage exists that can replace the first. Default: no, and the store cannot be purged.
    fn is_replaceable(&self) -> bool {
        false
    }

    /// Opens the second storage, emptied of anything that an earlier purge left in it.
    ///
    /// # Errors
    /// I/O errors of the storage; `Unsupported` by default.
    fn second(&self) -> io::Result<Box<dyn StorageBackend>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the second storage the first; the old first is removed once nobody reads it any more. Atomic: after a crash
    /// exactly one of the two is there, complete.
    ///
    /// # Errors
    /// I/O errors of the storage, with the first storage unchanged; `Unsupported` by default.
    fn replace(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns when the last [`Storage::replace`] is durable. Called again after a failure.
    ///
    /// # Errors
    /// I/O errors of the storage.
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    /// Discards a second storage that has not replaced the first, if there is one.
    fn discard(&self) {}
}

impl<F: Fn() -> Box<dyn StorageBackend> + Send + Sync + 'static> Storage for F {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self())
    }
}

/// What redb reads and writes: a storage that is checked by `before` when it is first read, and written through `commits`.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) bytes: Arc<dyn StorageBackend>,
    pub(crate) before: Arc<FirstLook>,
    pub(crate) commits: OneSync,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.before.look(&*self.bytes)?;
        self.commits.read(&*self.bytes, offset, out, self.before.found().and_then(|found| found.flags))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.commits.set_len(&*self.bytes, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.commits.sync(&*self.bytes)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.commits.write(&*self.bytes, offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.bytes.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.bytes.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.bytes.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.bytes.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.bytes.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.bytes.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.bytes.query_lock_range(start, end)
    }
}

/// Storage in memory that outlives the database on it, so that it can be reopened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<RwLock<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let end = (offset as usize).checked_add(out.len());
        let from = end.and_then(|end| bytes.get(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let end = (offset as usize).checked_add(data.len());
        let to = end.and_then(|end| bytes.get_mut(offset as usize..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(data);
        Ok(())
    }
}

/// A store in memory: its bytes, and the bytes that a purge is writing.
#[derive(Debug, Default)]
pub(crate) struct InMemory(Mutex<(Memory, Option<Memory>)>);

impl Storage for InMemory {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()))
    }

    fn is_replaceable(&self) -> bool {
        true
    }

    fn second(&self) -> io::Result<Box<dyn StorageBackend>> {
        let second = Memory::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(second.clone());
        Ok(Box::new(second))
    }

    fn replace(&self) -> io::Result<()> {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        both.0 = both.1.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn discard(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }
}

/// The size of a storage in bytes.
pub(crate) fn length(storage: &dyn Storage) -> Result<u64> {
    storage.open().and_then(|bytes| bytes.len()).map_err(Error::from)
}

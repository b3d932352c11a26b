//! Where a store's bytes lie that is in no file of its own: in memory, or in what the host keeps them in.

use crate::store::file::first_look::FirstLook;
use crate::{Error, Result};
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A place of the host's where a store's bytes lie, for [`Options::create_on`](crate::Options::create_on) and
/// [`Options::open_on`](crate::Options::open_on).
///
/// Any function that gives a [`StorageBackend`] is one, whose store cannot be purged: a purge writes what stays into a
/// second storage, because what is deleted in place stays in its free pages. What has a second one for that says so.
pub trait Storage: Send + Sync + 'static {
    /// The bytes. Asked again when the store must be opened anew after a failed write; then it gives the same bytes.
    ///
    /// # Errors
    /// What the storage says.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether there is a second storage that can take the first one's place. Default: no, and the store cannot be purged.
    fn is_replaceable(&self) -> bool {
        false
    }

    /// The second storage, empty, whatever an earlier purge left in it.
    ///
    /// # Errors
    /// What the storage says.
    fn second(&self) -> io::Result<Box<dyn StorageBackend>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// From now on the second storage is the first, and what was the first is gone once nobody reads it any more. In one
    /// step: after a crash either of the two is there, whole.
    ///
    /// # Errors
    /// What the storage says; then the first is what it was.
    fn replace(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns when the last [`Storage::replace`] outlives a power failure. Asked again where it failed.
    ///
    /// # Errors
    /// What the storage says.
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    /// Throws away a second storage that has not taken the first one's place, if there is one.
    fn discard(&self) {}
}

impl<F: Fn() -> Box<dyn StorageBackend> + Send + Sync + 'static> Storage for F {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self())
    }
}

/// A storage of which we know no more than that, which redb takes only as a type of its own.
#[derive(Debug)]
pub(crate) struct Backend(Arc<dyn StorageBackend>, Arc<FirstLook>);

impl Backend {
    /// Of which nothing is read before it was looked at.
    pub(crate) fn after(bytes: Arc<dyn StorageBackend>, before: Arc<FirstLook>) -> Backend {
        Backend(bytes, before)
    }
}

impl From<Arc<dyn StorageBackend>> for Backend {
    fn from(bytes: Arc<dyn StorageBackend>) -> Backend {
        Backend(bytes, Arc::default())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.1.look(&*self.0)?;
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

/// Storage in memory that outlives the database on it, so that it can be opened again.
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

/// Where a store in memory lies: its memory, and the one that a purge is writing.
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

/// How many bytes a storage holds.
pub(crate) fn length(storage: &dyn Storage) -> Result<u64> {
    storage.open().and_then(|bytes| bytes.len()).map_err(Error::from)
}

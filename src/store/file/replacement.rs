//! The store's file, and the file that replaces it after a purge.
//!
//! Invariant X5: what an interrupted purge left beside the store is removed when the store is next opened: only a regular
//! file whose name carries the store's own id. Links are never followed. Invariant X6: an open store has the file that its
//! path names: a purge by another process may put another file there between opening and locking. Invariant R43: nothing is
//! written to a file that the store's path no longer names; this is checked before each commit, and the caller gets an error.

use crate::chain_state::ChainState;
use crate::files::{Writes, is_same};
use crate::store::file::all_tables;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::overlay::Overlay;
use crate::store::file::pages::{self, Flaw};
use crate::store::file::paths::new_private_file;
use crate::store::file::paths::unwritable;
use crate::store::file::redb_errors::{IN_USE, Stored};
use crate::store::file::storage::Storage;
use crate::store::options::{Settings, Source};
use crate::{Error, ErrorKind, Result};
use redb::backends::FileBackend;
use redb::{BackendError, Builder, StorageBackend};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often opening is retried when another process replaces the file meanwhile.
const TRIES: usize = 16;

/// Where a purge writes the new copy of the store.
pub(crate) enum Replacement {
    File { new: PathBuf, path: PathBuf },
    Storage(Arc<dyn Storage>),
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replacement::File { new, .. } => write!(f, "File({})", new.display()),
            Replacement::Storage(_) => f.write_str("Storage"),
        }
    }
}

/// Refuses a store that cannot be replaced.
pub(crate) fn check_replaceable(source: &Source) -> Result<()> {
    match source {
        Source::Storage(storage) if storage.is_replaceable() => Ok(()),
        Source::Storage(_) => Err(Error::invalid(
            "a store on this storage cannot be purged: what is deleted in place stays in its free pages, and there is no \
             second storage to write what stays into. Keep the store in a file, or give the storage a second one",
        )),
        Source::File(path) => match links(&std::fs::metadata(path).map_err(|e| Error::from(e).in_file(path))?) {
            0 | 1 => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Conflict,
                "the file has another name too (a hard link), under which everything that is purged would stay; \
                     remove the other name",
            )
            .in_file(path)),
        },
    }
}

impl Replacement {
    /// Creates the replacement, with the permissions of the store's file, and an empty database in it.
    pub(crate) fn make(
        source: &Source,
        chain_state: &ChainState,
        settings: &Settings,
    ) -> Result<(Replacement, DatabaseHandle)> {
        let mut builder = Builder::new();
        builder.set_cache_size(settings.cache_bytes);
        match source {
            Source::File(path) => {
                // If the path is a symbolic link, the target file is replaced.
                let path = std::fs::canonicalize(path).map_err(|e| Error::from(e).in_file(path))?;
                let new =
                    beside(&path, chain_state).ok_or_else(|| Error::damaged("the log does not say whose it is"))?;
                remove_file_of_ours(&new);
                let file = new_private_file(&new, Writes::Companion)?;
                let replacement = Replacement::File { new, path };
                replacement.give_rights(&file)?;
                let about = file.metadata()?;
                let fresh = DatabaseHandle::fresh(&builder, Arc::new(FileBackend::new(file).stored()?))?;
                // The handle is registered under the final path.
                let Replacement::File { path, .. } = &replacement else { return Ok((replacement, fresh)) };
                let fresh = fresh.named(path, about)?;
                Ok((replacement, fresh))
            }
            Source::Storage(storage) => {
                let second = storage.second()?;
                let replacement = Replacement::Storage(storage.clone());
                Ok((replacement, DatabaseHandle::fresh(&builder, second.into())?))
            }
        }
    }

    /// Copies owner and permissions: whoever could open the store before can open it afterwards, and nobody else.
    #[cfg(unix)]
    fn give_rights(&self, file: &File) -> Result<()> {
        use std::os::unix::fs::{MetadataExt, fchown};
        let Replacement::File { path, new } = self else { return Ok(()) };
        let (old, fresh) = (std::fs::metadata(path)?, file.metadata()?);
        if (old.uid(), old.gid()) != (fresh.uid(), fresh.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))
                .map_err(|e| Error::from(e).at("giving it to the owner of the store's file").in_file(new))?;
        }
        Ok(file.set_permissions(old.permissions())?)
    }

    #[cfg(not(unix))]
    fn give_rights(&self, _: &File) -> Result<()> {
        Ok(())
    }

    /// Moves the new file to the store's path.
    pub(crate) fn take(&self) -> Result<()> {
        match self {
            Replacement::File { new, path } => std::fs::rename(new, path).map_err(|e| Error::from(e).in_file(path)),
            Replacement::Storage(storage) => Ok(storage.replace()?),
        }
    }

    /// Makes the rename durable.
    pub(crate) fn sync(&self) -> Result<()> {
        match self {
            Replacement::File { path, .. } => crate::files::sync_parent(path).map_err(|e| Error::from(e).in_file(path)),
            Replacement::Storage(storage) => Ok(storage.settle()?),
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        match self {
            Replacement::File { new, .. } => {
                // After a successful rename there is nothing to remove.
                let _ = std::fs::remove_file(new);
            }
            Replacement::Storage(storage) => storage.discard(),
        }
    }
}

/// Makes the rename of a finished purge durable.
pub(crate) fn settle(source: &Source) -> io::Result<()> {
    match source {
        // If the path is a symbolic link, the target file was replaced.
        Source::File(path) => crate::files::sync_parent(&std::fs::canonicalize(path)?),
        Source::Storage(storage) => storage.settle(),
    }
}

/// The file that a purge writes to. Its name contains the store's id, so that no other file is mistaken for it.
fn beside(path: &Path, chain_state: &ChainState) -> Option<PathBuf> {
    let id: String = chain_state.genesis.as_ref()?.store_id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let mut name = path.as_os_str().to_owned();
    name.push(".purge-");
    name.push(id);
    Some(name.into())
}

/// The file that an interrupted purge left.
pub(crate) fn left(source: &Source, chain_state: &ChainState) -> Option<PathBuf> {
    let path = source.path().and_then(|path| std::fs::canonicalize(path).ok())?;
    beside(&path, chain_state).filter(|left| left.is_file())
}

/// Removes what an interrupted purge left. The caller holds the store's lock, so no purge is in progress.
pub(crate) fn remove_left(source: &Source, chain_state: &ChainState) {
    if let Source::Storage(storage) = source {
        storage.discard();
    }
    let path = source.path().and_then(|path| std::fs::canonicalize(path).ok());
    if let Some(left) = path.and_then(|path| beside(&path, chain_state)) {
        remove_file_of_ours(&left);
    }
}

fn remove_file_of_ours(path: &Path) {
    // If removal fails, the next purge reports the obstacle.
    if std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file()) {
        let _ = std::fs::remove_file(path);
    }
}

/// Opens and locks the file at `path`.
pub(crate) fn open_file(builder: &mut Builder, path: &Path) -> Result<DatabaseHandle> {
    let named = |e: io::Error| Error::from(e).in_file(path);
    for _ in 0..TRIES {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| unwritable(path, e))?;
        let about = file.metadata().map_err(named)?;
        crate::files::check_only_name(&about, path)?;
        let bytes = FileBackend::new(file).stored()?;
        let database = DatabaseHandle::open(builder, Box::new(bytes), false).map_err(|e| e.in_file(path))?;
        if is_same(&about, &std::fs::metadata(path).map_err(named)?) {
            return database.named(path, about);
        }
    }
    Err(Error::new(ErrorKind::Busy, "another file is put there again and again").in_file(path))
}

/// Opens the file at `path` for reading, without write access.
pub(crate) fn open_for_reading(
    builder: &mut Builder,
    path: &Path,
    settings: &Settings,
) -> Result<(DatabaseHandle, Arc<Overlay>)> {
    let named = |e: io::Error| Error::from(e).in_file(path);
    for _ in 0..TRIES {
        let file = File::open(path).map_err(named)?;
        let about = file.metadata().map_err(named)?;
        let overlay = Overlay::of_file(file, settings.gives_way.as_ref()).map_err(|e| e.in_file(path))?;
        let handle = open_over(builder, &overlay, settings.pages_first).map_err(|e| e.in_file(path))?;
        if is_same(&about, &std::fs::metadata(path).map_err(named)?) {
            return Ok((handle.named(path, about)?, overlay));
        }
    }
    Err(Error::new(ErrorKind::Busy, "another file is put there again and again").in_file(path))
}

/// Checks the pages of the file at `path` without redb and reports every flaw. Returns whether the file has a newer,
/// unfinished commit. Writes nothing.
pub(crate) fn check_pages(path: &Path, found: &mut dyn FnMut(Flaw)) -> Result<bool> {
    let named = |e: io::Error| Error::from(e).in_file(path);
    let file = File::open(path).map_err(named)?;
    if !file.metadata().map_err(named)?.is_file() {
        return Err(Error::new(ErrorKind::NotAStore, "is not an attestlog store").in_file(path));
    }
    let bytes = FileBackend::new(file).stored()?;
    match bytes.try_lock_shared_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(true) | Err(BackendError::Unsupported) => {}
        Ok(false) => {
            return Err(Error::new(ErrorKind::Locked, IN_USE).in_file(path));
        }
        Err(e) => return Err(Error::new(ErrorKind::Io, e.to_string()).in_file(path)),
    }
    let checked = pages::check_file(&bytes, &all_tables::shapes(), found).map_err(named);
    bytes.close().map_err(named)?;
    let not_ours = || Error::new(ErrorKind::NotAStore, "is not an attestlog store").in_file(path);
    checked?.ok_or_else(not_ours)
}

/// Opens the database on a read-only overlay.
pub(crate) fn open_over(builder: &mut Builder, overlay: &Arc<Overlay>, pages: bool) -> Result<DatabaseHandle> {
    let handle = DatabaseHandle::over(builder, overlay.clone(), pages)?;
    overlay.lock_again()?;
    Ok(handle)
}

#[cfg(unix)]
fn links(about: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(about)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

//! Creating a store and opening it.

use super::owned::Owned;
use super::{AuditLog, Guard, Role};
use crate::note::VerifierKey;
use crate::store::{OpenStore, Storage};
use crate::text::Justification;
use crate::{Error, ErrorKind, Options, Result};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a process runs for a shared store while it owns it, and how it authenticates another owner.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Sharing {
    /// Called when this process becomes the owner: starts work that must run once per store, not once per process. The handle
    /// passed in is of the open store, and stays open as long as the returned guard keeps it.
    #[allow(clippy::type_complexity, reason = "a function that gives a guard")]
    pub on_owning: Option<Arc<dyn Fn(&AuditLog) -> Guard + Send + Sync>>,
    /// Called with a message if the store is open but cannot be shared.
    pub on_trouble: Option<Arc<dyn Fn(&str) + Send + Sync>>,
    /// The log's public key as the caller knows it: nothing is sent to an owner that does not prove that it holds the secret key.
    /// If `None`, the key comes from the key file of the options, if there is one that this process can open.
    pub public_key: Option<VerifierKey>,
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").finish_non_exhaustive()
    }
}

impl Sharing {
    /// Refuses a store whose key differs from the caller's.
    pub(super) fn check_key(&self, own: Option<&VerifierKey>) -> Result<()> {
        match &self.public_key {
            Some(given) if own != Some(given) => {
                let own = own.map_or_else(|| "none".to_owned(), ToString::to_string);
                let message =
                    format!("the store's key is {own} and not the one that was given, {given}; nothing was recorded");
                Err(Error::new(ErrorKind::Key, message))
            }
            _ => Ok(()),
        }
    }
}

impl AuditLog {
    /// Creates a store at `path`, which must not exist, with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::create`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = AuditLog::create(&path)?; // and its keys in audit.log.key beside it
    /// assert!(AuditLog::create(&path).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().create(path)
    }

    /// Opens the store at `path` with default [`Options`], or reaches the process that has it open. Never creates one.
    ///
    /// # Errors
    /// As [`Options::open`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// assert!(AuditLog::open(&path).is_err(), "it never makes one");
    /// AuditLog::create(&path)?.close()?;
    /// let log = AuditLog::open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().open(path)
    }

    /// Opens the store at `path`, or creates it if nothing exists there, with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::open_or_create`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = AuditLog::open_or_create(&path)?; // creates it
    /// let other = AuditLog::open_or_create(&path)?; // as another process would: goes through the first
    /// assert_eq!(other.record(ToolCall::new("conv_1", "usr_1", "lookup"))?.seq + 1, log.size()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().open_or_create(path)
    }

    /// Opens the store at `path` for reading only, with default [`Options`], or reaches the process that has it open: nothing is
    /// written to it. See [`Options::read_only`].
    ///
    /// # Errors
    /// As [`Options::open`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// AuditLog::create(&path)?.close()?;
    /// let log = AuditLog::open_read_only(&path)?;
    /// assert!(log.record(ToolCall::new("conv_1", "usr_1", "lookup")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().read_only().open(path)
    }

    /// Creates a store in memory, for tests.
    ///
    /// # Errors
    /// As [`Options::in_memory`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Kind};
    /// let log = AuditLog::in_memory()?;
    /// assert_eq!(log.entry(0)?.kind(), Kind::Genesis);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn in_memory() -> Result<AuditLog> {
        Options::new().in_memory()
    }

    /// Restores a store from a copy, with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::restore`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, backup) = (dir.path().join("audit.log"), dir.path().join("backup.log"));
    /// let log = AuditLog::create(&path)?;
    /// log.backup(&backup)?;
    /// log.close()?;
    /// std::fs::remove_file(&path)?; // lost
    /// let by = Justification { actor: "ops@example.com", reason: "disk failure on 6 July" };
    /// let log = AuditLog::restore(&backup, &path, by)?;
    /// assert_eq!(log.retention().restored()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(src: impl AsRef<Path>, dest: impl AsRef<Path>, by: Justification<'_>) -> Result<AuditLog> {
        Options::new().restore(src, dest, by)
    }
}

impl Options {
    /// Creates a store at `path`, which must not exist. This process owns it and shares it, unless it is
    /// [exclusive](Options::exclusive).
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything exists at `path`, at the path of its key file or at
    /// that of an anchor file, or if the vault already holds keys; [`Key`](crate::ErrorKind::Key) if keys cannot be put into
    /// the vault; errors of the file system.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let log = Options::new().name("example.com/ward-3").create(&path)?;
    /// assert!(log.is_owner());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(self, path: impl AsRef<Path>) -> Result<AuditLog> {
        self.create_with(path, Sharing::default())
    }

    /// As [`Options::create`]; `sharing` sets what this process runs for the store while it owns it.
    ///
    /// # Errors
    /// As [`Options::create`].
    ///
    /// ```
    /// # use attestlog::{Options, Sharing};
    /// # use std::sync::{Arc, Mutex};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let started = Arc::new(Mutex::new(0));
    /// let mut sharing = Sharing::default();
    /// let count = started.clone();
    /// sharing.on_owning = Some(Arc::new(move |_log| {
    ///     *count.lock().unwrap() += 1; // here the host starts what runs once per store
    ///     Box::new(()) // dropping it stops that
    /// }));
    /// let log = Options::new().create_with(&path, sharing)?;
    /// assert_eq!(*started.lock().unwrap(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_with(self, path: impl AsRef<Path>, sharing: Sharing) -> Result<AuditLog> {
        let store = self.clone().create_store(path.as_ref())?;
        Ok(AuditLog::share(store, path.as_ref(), self, sharing))
    }

    /// Opens the store at `path`, or connects to the process that has it open and shares it. Never creates a store. If `path` is a
    /// symbolic link, the store's key file and the other files beside it are those beside the file to which it leads.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the store's file has a second name (a hard link) and is opened for writing;
    /// [`NotFound`](crate::ErrorKind::NotFound), [`NotAStore`](crate::ErrorKind::NotAStore),
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Damaged`](crate::ErrorKind::Damaged); [`Locked`](crate::ErrorKind::Locked)
    /// if another process has the store open and does not share it, or if [`Options::exclusive`] is set and another process has it
    /// open; [`Key`](crate::ErrorKind::Key) if the keys do not belong to the store or its present state, or its owner does not
    /// prove that it has them; [`OtherHistory`](crate::ErrorKind::OtherHistory) if the store does not begin with what the keys
    /// signed; or errors of the file system.
    ///
    /// ```
    /// use attestlog::{AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// AuditLog::create(&path)?.close()?;
    /// let first = Options::new().open(&path)?; // owns it
    /// let second = Options::new().open(&path)?; // as another process would
    /// let a = second.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// first.close()?;
    /// let b = second.record(ToolCall::new("conv_1", "usr_1", "lookup"))?; // owns it now
    /// assert_eq!(b.seq, a.seq + 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<AuditLog> {
        self.open_with(path, Sharing::default())
    }

    /// As [`Options::open`]; `sharing` sets what this process runs for the store while it owns it.
    ///
    /// # Errors
    /// As [`Options::open`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind, Options, Sharing};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # AuditLog::create(&path)?.close()?;
    /// # let key = AuditLog::in_memory()?.public_key()?; // another log's
    /// let mut sharing = Sharing::default();
    /// sharing.public_key = key; // as the auditor wrote it down
    /// let refused = Options::new().open_with(&path, sharing).unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Key, "this is another log");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_with(self, path: impl AsRef<Path>, sharing: Sharing) -> Result<AuditLog> {
        let path = &crate::files::resolve(path.as_ref());
        #[cfg(feature = "owner")]
        if self.shares() {
            return AuditLog::join(path, self, sharing);
        }
        let store = self.clone().open_store(path)?;
        sharing.check_key(store.public_key().as_ref())?;
        Ok(AuditLog::share(store, path, self, sharing))
    }

    /// Opens the store at `path`, or creates it if nothing exists there. If several processes do so at the same time, one creates
    /// the store and the others go through it.
    ///
    /// # Errors
    /// As [`Options::open`] and [`Options::create`]. A key file without its store is an error: a deleted store must not silently
    /// start over.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// let options = Options::new().name("example.com/ward-3");
    /// options.clone().open_or_create(&path)?.close()?; // creates it
    /// let log = options.open_or_create(&path)?; // opens it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(self, path: impl AsRef<Path>) -> Result<AuditLog> {
        let path = path.as_ref();
        if std::fs::symlink_metadata(path).is_ok() {
            return self.open(path);
        }
        match self.clone().create(path) {
            // Another process created it first.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && std::fs::symlink_metadata(path).is_ok() => {
                self.open_when_made(path)
            }
            created => created,
        }
    }

    /// Opens a store that another process is still creating.
    #[allow(clippy::disallowed_methods, reason = "waits for another process, by the time that it runs in")]
    fn open_when_made(self, path: &Path) -> Result<AuditLog> {
        let (began, most) = (std::time::Instant::now(), std::time::Duration::from_secs(10));
        loop {
            match self.clone().open(path) {
                Err(e) if matches!(e.kind(), ErrorKind::NotAStore | ErrorKind::Locked) && began.elapsed() < most => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    /// Creates a store in memory: for tests, and for data that need not outlive the process.
    ///
    /// # Errors
    /// Only for invalid options, such as invalid policies or a vault that cannot take new keys.
    ///
    /// ```
    /// # use attestlog::Options;
    /// let log = Options::new().without_keys().in_memory()?;
    /// assert!(log.public_key()?.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn in_memory(self) -> Result<AuditLog> {
        Ok(AuditLog::of(self.clone().store_in_memory()?, self))
    }

    /// Creates a store on storage provided by the caller, which must be empty. A function that returns a redb backend
    /// implements [`Storage`]; it is called again when the store must be reopened after a failed write, and must then return
    /// the same bytes.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the storage is not empty; I/O errors of the storage.
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("blob");
    /// let storage = move || -> Box<dyn redb::StorageBackend> {
    ///     let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&file).unwrap();
    ///     Box::new(redb::backends::FileBackend::new(file).unwrap())
    /// };
    /// let log = Options::new().create_on(storage)?;
    /// assert_eq!(log.size()?, 2, "the genesis and the policy");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_on(self, storage: impl Storage) -> Result<AuditLog> {
        Ok(AuditLog::of(self.clone().create_store_on(storage)?, self))
    }

    /// Opens a store on storage provided by the caller.
    ///
    /// # Errors
    /// As [`Options::open`].
    ///
    /// ```
    /// # use attestlog::Options;
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("blob");
    /// let storage = move || -> Box<dyn redb::StorageBackend> {
    ///     let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&file).unwrap();
    ///     Box::new(redb::backends::FileBackend::new(file).unwrap())
    /// };
    /// let options = Options::new().without_keys();
    /// options.clone().create_on(storage.clone())?.close()?;
    /// let log = options.open_on(storage)?;
    /// assert_eq!(log.size()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_on(self, storage: impl Storage) -> Result<AuditLog> {
        Ok(AuditLog::of(self.clone().open_store_on(storage)?, self))
    }

    /// Restores the copy at `src` to `dest` and opens it. An entry records who restored it, why, from which file and up to which
    /// entry. If the key file has signed more than the copy contains, the entry names that as well, so that the loss is on record.
    /// Without that entry an older copy in place of a newer one is a rollback, and recording to it is refused.
    ///
    /// Holds, policies and emergency grants that were in force and are not in the copy are lost. The entry names them where the
    /// keys or the replaced store ([`Options::replaces`]) show them; if there are no keys that can show them, it says so. In either
    /// case nothing is purged or erased until [`Retention::confirm_restored`](crate::groups::Retention::confirm_restored) is
    /// called.
    ///
    /// The key file is looked for as by [`Options::open`]: beside `dest`, unless the options name another path. Use the current key
    /// file, even if the copy is older than the current epoch key: the entry records the handovers of the epochs that the copy
    /// lacks (at most [`MAX_ROTATIONS`](crate::keys::MAX_ROTATIONS)). Entries that were purged after the copy was made are back;
    /// they have expired, so the next purge removes them again.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if another store uses the key file;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without actor or reason; [`AlreadyExists`](crate::ErrorKind::AlreadyExists)
    /// if anything exists at `dest`; [`NotFound`](crate::ErrorKind::NotFound), [`NotAStore`](crate::ErrorKind::NotAStore),
    /// [`Locked`](crate::ErrorKind::Locked) for `src`; [`Damaged`](crate::ErrorKind::Damaged) if a verification of the copy finds
    /// anything, with the first [`Finding`](crate::verify::Finding) as its source; as [`Options::open`] and [`AuditLog::record`].
    /// On an error nothing is created.
    ///
    /// ```
    /// # use attestlog::{Justification, AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let (backup, store) = (dir.path().join("backup.log"), dir.path().join("audit.log"));
    /// # let log = Options::new().without_keys().in_memory()?;
    /// # log.backup(&backup)?;
    /// let log = AuditLog::restore(&backup, &store, Justification { actor: "ops@example.com", reason: "disk failure on 6 July" })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(self, src: impl AsRef<Path>, dest: impl AsRef<Path>, by: Justification<'_>) -> Result<AuditLog> {
        let store = self.clone().restore_store(src.as_ref(), dest.as_ref(), by)?;
        Ok(AuditLog::share(store, dest.as_ref(), self, Sharing::default()))
    }
}

impl AuditLog {
    /// A handle of a store that this process has just opened.
    #[cfg_attr(not(feature = "owner"), allow(unused_variables, reason = "where it may be shared"))]
    fn share(store: OpenStore, path: &Path, options: Options, sharing: Sharing) -> AuditLog {
        #[cfg(feature = "owner")]
        if options.shares() {
            return AuditLog::shared(store, path, options, sharing);
        }
        let guard = AuditLog::owning(&store, &options, &sharing);
        AuditLog::with_role(Role::Owner(Owned::new(store, guard)), options)
    }

    /// Starts the work that runs once per store.
    pub(super) fn owning(store: &OpenStore, options: &Options, sharing: &Sharing) -> Option<Guard> {
        sharing.on_owning.as_ref().map(|start| start(&AuditLog::of(store.clone(), options.clone())))
    }
}

//! Creating a store, opening it, and reopening it after a failed write.
//!
//! Opening rebuilds the in-memory state (`load`): the Merkle frontier from stored nodes and the newest hashes, and the in-memory
//! index from the entries that no index batch covers. If any of these cannot be read, the store is opened for reading only, because
//! the next write would build on all of them.

use crate::chain_state::Genesis;
use crate::files::Writes;
use crate::keys::{KeyFile, KeyVault};
use crate::merkle::Frontier;
use crate::process::Process;
use crate::retention::ExpiryClock;
use crate::store::engine::group_commit::GroupCommit;
use crate::store::engine::handover::Anchoring;
use crate::store::engine::jobs::{Delivering, News, Work};
use crate::store::engine::keyring::{self, Keyring};
use crate::store::engine::reading::Reading;
use crate::store::engine::subject_keys::Subjects;
use crate::store::engine::writer_state::WriterState;
use crate::store::engine::{Config, Engine, Facts, Jobs, Published, ReadSide, WriteSide};
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::overlay::Overlay;
use crate::store::file::panic_guard::guarded;
use crate::store::file::paths::{new_private_file, taken};
use crate::store::file::redb_errors::Stored;
use crate::store::file::replacement;
use crate::store::file::storage;
use crate::store::file::storage::{InMemory, Storage};
use crate::store::file::tables;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::series::{SERIES_KEY, Series};
use crate::store::layout::state::State;
use crate::store::load::{Loaded, load};
use crate::store::log::OpenStore;
use crate::store::maintain::manage::as_written;
use crate::store::options::Access;
use crate::store::options::KeySource;
use crate::store::options::{Options, Source};
use crate::store::read::snapshot::Snapshot;
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Kind, Result};
use redb::Builder;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

#[cfg(test)]
impl OpenStore {
    /// Creates a store in memory.
    pub(crate) fn in_memory() -> Result<OpenStore> {
        Options::new().store_in_memory()
    }
}

impl Options {
    /// Creates a store at `path`, which must not exist.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything exists at `path`, at the path of its key file or at
    /// that of an anchor file, or if the vault already holds keys; [`Key`](crate::ErrorKind::Key) if keys cannot be put into
    /// the vault; errors of the file system.
    pub(crate) fn create_store(self, path: impl AsRef<Path>) -> Result<OpenStore> {
        for file in self.anchors.anchors.iter().filter_map(|anchor| anchor.file()) {
            let key = key_path(&self, Some(path.as_ref())).unwrap_or_default();
            crate::files::check_beside(file, Writes::Checkpoints, path.as_ref(), &key)?;
            if std::fs::symlink_metadata(file).is_ok() {
                let message = "an anchor file with this name exists already; deleting a store and beginning again must not go unnoticed, so \
                     choose another name, or move the file away";
                return Err(Error::new(ErrorKind::AlreadyExists, message).in_file(file));
            }
        }
        guarded(|| create_file(self, path.as_ref()))
    }

    /// Opens the store at `path`. Never creates one.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), [`NotAStore`](crate::ErrorKind::NotAStore),
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Locked`](crate::ErrorKind::Locked),
    /// [`Damaged`](crate::ErrorKind::Damaged), [`Key`](crate::ErrorKind::Key) if the keys do not belong to the store or its
    /// present state, [`OtherHistory`](crate::ErrorKind::OtherHistory) if the store does not begin with what they signed, or
    /// errors of the file system.
    pub(crate) fn open_store(self, path: impl AsRef<Path>) -> Result<OpenStore> {
        guarded(|| open(self, Source::File(path.as_ref().to_owned())))
    }

    /// Creates a store in memory: for tests, and for data that need not outlive the process.
    ///
    /// # Errors
    /// Only for invalid options, such as invalid policies or a vault that cannot take new keys.
    pub(crate) fn store_in_memory(mut self) -> Result<OpenStore> {
        self.settings.background = false;
        create(self, Source::Storage(Arc::new(InMemory::default())))
    }

    /// Creates a store on storage provided by the caller, which must be empty. A function that returns a redb backend
    /// implements [`Storage`]; it is called again when the store must be reopened after a failed write, and must then return
    /// the same bytes.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the storage is not empty; I/O errors of the storage.
    pub(crate) fn create_store_on(self, storage: impl Storage) -> Result<OpenStore> {
        guarded(|| create(self, Source::Storage(Arc::new(storage))))
    }

    /// Opens a store on storage provided by the caller.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub(crate) fn open_store_on(self, storage: impl Storage) -> Result<OpenStore> {
        guarded(|| open(self, Source::Storage(Arc::new(storage))))
    }
}

pub(crate) fn create_file(options: Options, path: &Path) -> Result<OpenStore> {
    let key = key_path(&options, Some(path));
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(unfinished(path, key.as_deref()).unwrap_or_else(|| taken(path)));
    }
    if let Some(key) = key.as_ref().filter(|key| std::fs::symlink_metadata(key).is_ok()) {
        let message = "a key file of that name exists; deleting a store and beginning again must not go unnoticed, so move the key \
             away or choose another name";
        return Err(Error::new(ErrorKind::AlreadyExists, message).in_file(key));
    }
    let file = new_private_file(path, Writes::Store)?;
    drop(file);
    let made = create(options, Source::File(path.to_owned()))
        .and_then(|log| Ok(crate::files::sync_parent(path).map(|()| log)?));
    if made.is_err() {
        // Nothing was recorded yet; a partly created store would only block the next attempt.
        let _ = std::fs::remove_file(path);
        if let Some(key) = key {
            let _ = std::fs::remove_file(key);
        }
    }
    made
}

/// The error of making a store where an interrupted attempt has left a file that holds nothing.
fn unfinished(path: &Path, key: Option<&Path>) -> Option<Error> {
    let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let made = Options::new().without_keys().read_only().exclusive().open_store(path);
    let begun = about.len() == 0 || crate::files::is_database(path);
    if !begun || made.err().map(|e| e.kind()) != Some(ErrorKind::NotAStore) {
        return None;
    }
    let key = key.filter(|key| std::fs::symlink_metadata(key).is_ok());
    let files = key.map_or_else(|| "it".to_owned(), |key| format!("it and {}", key.display()));
    let message = format!(
        "the making of a store was interrupted here, and nothing was recorded in it: remove {files}, and make the store again"
    );
    Some(Error::new(ErrorKind::AlreadyExists, message).in_file(path))
}

/// The path of a store's key file, if it has one.
pub(crate) fn key_path(options: &Options, store: Option<&Path>) -> Option<PathBuf> {
    match (&options.keys, store) {
        (KeySource::At(path), _) => Some(path.clone()),
        (KeySource::Beside, Some(store)) => {
            let mut name = store.as_os_str().to_owned();
            name.push(".key");
            Some(name.into())
        }
        (KeySource::Beside, None) | (KeySource::Nowhere | KeySource::Vault(_), _) => None,
    }
}

pub(crate) fn create(options: Options, source: Source) -> Result<OpenStore> {
    if let Source::Storage(storage) = &source
        && storage::length(&**storage)? > 0
    {
        return Err(Error::new(ErrorKind::AlreadyExists, "the storage is not empty; a store is never made over it"));
    }
    options.policies.check()?;
    let database = Arc::new(open_database(&options, &source)?);
    let keys = match options.keys {
        KeySource::Nowhere => None,
        _ => {
            let mut random = |out: &mut [u8]| options.random.fill(out);
            let mut file = KeyFile::generate(&options.name, &mut random)?;
            let path = key_path(&options, source.path());
            if let Some(passphrase) = &options.passphrase {
                file.set_passphrase(Some(passphrase), &mut random)?;
            }
            match (&options.keys, &path) {
                (KeySource::Vault(vault), _) => {
                    put_into(&**vault, &file, &mut random)?;
                    Keyring::in_vault(file, vault.clone())
                }
                (_, Some(path)) => {
                    if let Some(store) = source.path() {
                        file.set_used_by(path, store);
                    }
                    file.create_own(path, &mut random)?;
                    Keyring::new(file, Some(path.clone()))
                }
                (_, None) => Keyring::new(file, None),
            }
        }
    };
    let mut id = [0; 16];
    options.random.fill(&mut id);
    let genesis = Genesis {
        store_id: crate::hash::to_hex(&id),
        keys: keys.as_ref().map(|k| (k.file.verifier(), *k.file.epoch_key().verifier().public())),
        pseudonym_key: keys.as_ref().and_then(Keyring::pseudonym_key),
    };
    let series = keys.as_ref().map(|keys| Series::new().sign(&keys.file)).transpose()?;
    let clock = ExpiryClock::start(options.clock.now(), options.policies.retention.clock_bound());
    let state = State::empty(options.settings.segment, clock.state().clone());
    let writer = WriterState::new(state, Frontier::empty(), Seeds::default(), options.clock.monotonic());
    let policies = as_written(keyring::ready(0, options.policies.clone(), keys.as_ref())?)?;
    let engine = share(options, source, database, Loaded::nothing(writer), keys, None, None)?;
    engine.with_writer(|engine, writer| {
        let mut staging = Staging::new(engine, writer)?;
        staging.system_event(Kind::Genesis, genesis.to_json(), None)?;
        let detail = policies.to_json().as_object().cloned().unwrap_or_default();
        staging.system_event(Kind::Policy, detail, None)?;
        engine.commit(writer, staging, |txn| {
            if let Some(series) = &series {
                txn.open_table(tables::META).stored()?.insert(SERIES_KEY, series.as_bytes()).stored()?;
            }
            Ok(())
        })
    })?;
    OpenStore::start(engine)
}

/// Puts the keys of a new store into an empty vault.
fn put_into(vault: &dyn KeyVault, file: &KeyFile, random: &mut dyn FnMut(&mut [u8])) -> Result<()> {
    if !vault.is_replaceable() {
        let message = format!(
            "a new store has new keys, and they cannot be put into {}: make the store with a key file first",
            vault.name()
        );
        return Err(Error::new(ErrorKind::Key, message));
    }
    if vault.load()?.is_some() {
        let message = format!("{} has the keys of a store already; choose another name for it", vault.name());
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    vault.store(file.to_text(random)?.as_bytes())
}

pub(crate) fn open(options: Options, source: Source) -> Result<OpenStore> {
    if let Source::Storage(storage) = &source
        && storage::length(&**storage)? == 0
    {
        return Err(Error::new(ErrorKind::NotAStore, "the storage is empty: it is not an attestlog store"));
    }
    if let Source::File(path) = &source {
        let about = std::fs::metadata(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let key = key_path(&options, Some(path)).filter(|key| key.exists());
                let message = match key {
                    Some(key) => format!(
                        "there is no store, but its key file is here ({}), so there was one: put it back, or restore a backup \
                         (`attestlog restore`). A new store needs a place without this key file",
                        key.display()
                    ),
                    None => "there is no store; make one with `attestlog init` or `AuditLog::create`".to_owned(),
                };
                Error::new(ErrorKind::NotFound, message).in_file(path)
            }
            _ => Error::from(e).in_file(path),
        })?;
        if !about.is_file() || about.len() == 0 {
            return Err(Error::new(ErrorKind::NotAStore, "is not an attestlog store").in_file(path));
        }
    }
    let (database, overlay) = match options.settings.access {
        Access::Write => (open_database(&options, &source)?, None),
        Access::Read => {
            let (database, overlay) = open_for_reading(&options, &source)?;
            (database, Some(overlay))
        }
    };
    let database = Arc::new(database);
    let keys = match (&options.keys, key_path(&options, source.path())) {
        (KeySource::Vault(vault), _) => keyring::load_vault(vault.clone(), options.passphrase.as_deref())?,
        (_, Some(path)) => {
            let keys = keyring::load(&path, options.passphrase.as_deref())?;
            if keys.is_none() && options.passphrase.is_some() && !options.settings.unsigned {
                let message = "a passphrase was given, and there is no key file that needs it: bring the key file back, or name it, or give \
                     no passphrase";
                return Err(Error::new(ErrorKind::Key, message).in_file(path));
            }
            keys
        }
        (_, None) => None,
    };
    // A copy being restored may be older, or have another history. It is verified first.
    let restoring = options.settings.restoring || options.settings.is_copy;
    let signed = keys.as_ref().filter(|_| !restoring).and_then(Keyring::signed);
    let mut loaded = load(&database, options.clock.monotonic(), signed)?;
    loaded.hold_clock(&Snapshot::raw(&database)?, options.clock.now())?;
    let signed = loaded.chain_state.genesis.as_ref().is_some_and(|g| g.keys.is_some());
    let (keys, stray) =
        keys.map_or((None, None), |keys| if signed { (Some(keys), None) } else { (None, Some(keys.stray())) });
    if overlay.is_none() {
        replacement::remove_left(&source, &loaded.chain_state);
    }
    let engine = share(options, source, database, loaded, keys, stray, overlay.as_ref())?;
    if let Some(keys) = &mut *engine.keys() {
        match restoring {
            // The copy may be from an epoch that has ended; the entry about the restore adds what is missing.
            true => keys.check_log(&engine.chain_state())?,
            false => keys.check(&engine, &engine.chain_state(), engine.writer().state.size)?,
        }
    }
    if engine.masters_unsettled() && !engine.is_reading() {
        // An erasure was interrupted. If it cannot be completed now (a full disk, an older copy of the store), the next
        // erasure completes it, and reading does not depend on it.
        let _ = engine.with_writer(Engine::settle_masters);
    }
    OpenStore::start(engine)
}

pub(crate) fn open_database(options: &Options, source: &Source) -> Result<DatabaseHandle> {
    let mut builder = Builder::new();
    builder.set_cache_size(options.settings.cache_bytes);
    match source {
        Source::Storage(storage) => DatabaseHandle::open(&mut builder, storage.open()?, options.settings.pages_first),
        Source::File(path) => replacement::open_file(&mut builder, path),
    }
}

/// Like [`open_database`], on an overlay that keeps redb's writes in memory.
fn open_for_reading(options: &Options, source: &Source) -> Result<(DatabaseHandle, Arc<Overlay>)> {
    let mut builder = Builder::new();
    builder.set_cache_size(options.settings.cache_bytes);
    match source {
        Source::Storage(storage) => {
            let overlay = Arc::new(Overlay::new(storage.open()?)?);
            Ok((replacement::open_over(&mut builder, &overlay, options.settings.pages_first)?, overlay))
        }
        Source::File(path) => replacement::open_for_reading(&mut builder, path, &options.settings),
    }
}

fn share(
    options: Options,
    source: Source,
    database: Arc<DatabaseHandle>,
    loaded: Loaded,
    keys: Option<Keyring>,
    stray: Option<String>,
    overlay: Option<&Arc<Overlay>>,
) -> Result<Arc<Engine>> {
    let Loaded { writer, mem_segments, chain_state, purged, .. } = loaded;
    let damaged = writer.damaged;
    let (seq, set) = chain_state.policies.clone().unwrap_or_else(|| (0, options.policies.clone()));
    let policies = keyring::ready(seq, set, keys.as_ref())?;
    let state = &writer.state;
    let published =
        Published { size: state.size, head: state.head, signed: state.signed, sealed: state.sealed, mem_segments };
    let anchoring = Anchoring::new(options.anchors, options.clock.clone());
    let found = (options.clock.now(), options.clock.monotonic());
    let grant_times = chain_state.open_grants.keys().map(|&seq| (seq, found)).collect();
    // A copy being restored may have another history than the one that the keys signed last.
    let own = keys.as_ref().filter(|_| !options.settings.restoring && !options.settings.is_copy);
    let giving = options.settings.gives_way.clone();
    let mark = own.and_then(Keyring::signed).map(|signed| signed.mark);
    Ok(Arc::new(Engine {
        config: Config {
            process: Process::this(),
            opened_with: published.size,
            segment: writer.state.cuts()?.entries(),
            settings: options.settings,
            limits: options.limits,
            clock: options.clock,
            random: options.random,
            source,
            mark,
            stray,
        },
        read: ReadSide {
            database: RwLock::new(Some(database)),
            published: RwLock::new(published),
            readers: Mutex::default(),
            before: Mutex::default(),
            reading: Reading { now: overlay.is_some(), giving },
            closed: AtomicBool::new(false),
            damage: RwLock::new(damaged),
        },
        write: WriteSide {
            group_commit: GroupCommit::default(),
            writer: Mutex::new(writer),
            keys: Mutex::new(keys),
            subjects: Subjects::default(),
            changes: Mutex::new(None),
            tighten: AtomicBool::new(false),
            merging: Mutex::new(()),
            sealing: Mutex::new(()),
            showing: Mutex::new(()),
        },
        facts: Facts {
            policies: RwLock::new(Arc::new(policies)),
            chain_state: RwLock::new(Arc::new(chain_state)),
            purged: RwLock::new(Arc::new(purged)),
            epoch_began: Mutex::default(),
            grant_times: Mutex::new(grant_times),
        },
        jobs: Jobs {
            work: Work::default(),
            anchoring,
            news: News::default(),
            delivering: Delivering::default(),
            telling: Mutex::default(),
        },
    }))
}

//! Creating a store, opening it, and reopening it after a failed write.
//!
//! Opening rebuilds the in-memory state: the Merkle frontier from stored nodes and the newest hashes, the in-memory index
//! from the entries that no index batch covers. If one of these cannot be read, the store is opened for reading only: the
//! next write would build on all of them.

use crate::chain_state::{ChainState, Genesis};
use crate::keys::{KeyFile, KeyVault, Mark};
use crate::merkle::Frontier;
use crate::process::Process;
use crate::retention::{ExpiryClock, SeqSet};
use crate::rows::BATCH;
use crate::store::engine::group_commit::GroupCommit;
use crate::store::engine::handover::Anchoring;
use crate::store::engine::jobs::{News, Work};
use crate::store::engine::keyring::{self, Keyring, Signed};
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::reading::Reading;
use crate::store::engine::subject_keys::Subjects;
use crate::store::engine::writer_state::WriterState;
use crate::store::engine::{Config, Engine, Facts, Jobs, Published, ReadSide, WriteSide};
use crate::store::file::database_handle::{Damage, DatabaseHandle};
use crate::store::file::overlay::Overlay;
use crate::store::file::panic_guard::guarded;
use crate::store::file::paths::new_private_file;
use crate::store::file::replacement;
use crate::store::file::storage;
use crate::store::file::storage::{InMemory, Storage};
use crate::store::file::tables::{self, Stored};
use crate::store::layout::entry_record::TailRow;
use crate::store::layout::series::{SERIES_KEY, Series};
use crate::store::layout::state::State;
use crate::store::log::AuditLog;
use crate::store::options::Access;
use crate::store::options::KeySource;
use crate::store::options::{Options, Source};
use crate::store::read::snapshot::Snapshot;
use crate::store::write::commit::Staging;
use crate::{Entry, Error, ErrorKind, Kind, Result, Timestamp};
use attestlog_proof::entry::{Body, Content, Phase, SystemEvent};
use redb::Builder;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

impl AuditLog {
    /// Creates a store at `path`, which must not exist, with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().create(path)
    }

    /// Opens the store at `path` with default [`Options`]. Never creates one.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().open(path)
    }

    /// Opens the store at `path` only for reading, with default [`Options`]: nothing is written to it.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<AuditLog> {
        Options::new().read_only().open(path)
    }

    /// Creates a store in memory, for tests.
    ///
    /// # Errors
    /// As [`Options::in_memory`].
    pub fn in_memory() -> Result<AuditLog> {
        Options::new().in_memory()
    }
}

impl Options {
    /// Creates a store at `path`, which must not exist.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything exists at `path`, at the path of its key file or at
    /// that of an anchor file, or if the vault already holds keys; [`Key`](crate::ErrorKind::Key) if keys cannot be put into
    /// the vault; errors of the file system.
    pub fn create(self, path: impl AsRef<Path>) -> Result<AuditLog> {
        for file in self.anchors.anchors.iter().filter_map(|anchor| anchor.file()) {
            if std::fs::symlink_metadata(file).is_ok() {
                let message = "an anchor file of that name exists; deleting a store and beginning again must not go unnoticed, so \
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
    pub fn open(self, path: impl AsRef<Path>) -> Result<AuditLog> {
        guarded(|| open(self, Source::File(path.as_ref().to_owned())))
    }

    /// Creates a store in memory: for tests, and for data that need not outlive the process.
    ///
    /// # Errors
    /// Only for invalid options, such as invalid policies or a vault that cannot take new keys.
    pub fn in_memory(mut self) -> Result<AuditLog> {
        self.settings.background = false;
        create(self, Source::Storage(Arc::new(InMemory::default())))
    }

    /// Creates a store on storage provided by the caller, which must be empty. A function that returns a redb backend
    /// implements [`Storage`]; it is called again when the store must be reopened after a failed write, and must then return
    /// the same bytes.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the storage is not empty; I/O errors of the storage.
    pub fn create_on(self, storage: impl Storage) -> Result<AuditLog> {
        guarded(|| create(self, Source::Storage(Arc::new(storage))))
    }

    /// Opens a store on storage provided by the caller.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_on(self, storage: impl Storage) -> Result<AuditLog> {
        guarded(|| open(self, Source::Storage(Arc::new(storage))))
    }
}

/// The result of reading the file.
pub(crate) struct Loaded {
    pub writer: WriterState,
    pub mem_segments: Vec<Arc<MemSegment>>,
    pub chain_state: ChainState,
    pub purged: SeqSet,
    /// The recording time of the newest entry that no index batch covers.
    newest: Timestamp,
}

impl Loaded {
    /// Checks the row of the expiry clock, which anybody with write access to the file can change, against the recording
    /// times of the newest entries and of those before the system clock was set back (R77).
    fn hold_clock(&mut self, snapshot: &Snapshot, wall: Timestamp) -> Result<()> {
        let Some((_, policies)) = &self.chain_state.policies else { return Ok(()) };
        let writer = &mut self.writer;
        let mut seqs = snapshot.system_entries(|kind| kind == Kind::Clock)?;
        // The entries that no index batch covers were just read; `newest` includes them.
        seqs.insert(writer.state.indexed);
        let before: Vec<u64> = seqs.iter().filter_map(|seq| seq.checked_sub(1)).collect();
        seqs.extend(before);
        let mut newest = self.newest;
        for seq in seqs {
            match snapshot.checked(seq) {
                Ok(Some(entry)) => newest = newest.max(entry.body.recorded_at),
                Ok(None) => {}
                // Verification reports it.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        let mut clock = ExpiryClock::resume(writer.state.clock.clone(), policies.retention.clock_bound());
        writer.brought_back = clock.bring_back(newest, wall);
        writer.state.clock = clock.state().clone();
        Ok(())
    }
}

pub(crate) fn create_file(options: Options, path: &Path) -> Result<AuditLog> {
    let key = key_path(&options, Some(path));
    if let Some(key) = key.as_ref().filter(|key| std::fs::symlink_metadata(key).is_ok()) {
        let message = "a key file of that name exists; deleting a store and beginning again must not go unnoticed, so move the key \
             away or choose another name";
        return Err(Error::new(ErrorKind::AlreadyExists, message).in_file(key));
    }
    let file = new_private_file(path)?;
    drop(file);
    let made = create(options, Source::File(path.to_owned()))
        .and_then(|log| Ok(crate::files::sync_parent(path).map(|()| log)?));
    if made.is_err() {
        // Nothing was recorded in it yet; a partly created store would only obstruct the next attempt.
        let _ = std::fs::remove_file(path);
        if let Some(key) = key {
            let _ = std::fs::remove_file(key);
        }
    }
    made
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

pub(crate) fn create(options: Options, source: Source) -> Result<AuditLog> {
    if let Source::Storage(storage) = &source
        && storage::length(&**storage)? > 0
    {
        return Err(Error::new(ErrorKind::AlreadyExists, "the storage is not empty; a store is never made over it"));
    }
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
    let writer =
        WriterState::new(State::empty(clock.state().clone()), Frontier::empty(), &[], options.clock.monotonic());
    let policies = options.policies.clone();
    let loaded = Loaded {
        writer,
        mem_segments: Vec::new(),
        chain_state: ChainState::default(),
        purged: SeqSet::new(),
        newest: Timestamp::MIN,
    };
    let engine = share(options, source, database, loaded, keys, None, None)?;
    engine.with_writer(|engine, writer| {
        let mut staging = Staging::new(engine, writer)?;
        staging.system_event(Kind::Genesis, genesis.to_json(), None)?;
        let detail = policies.to_json().as_object().cloned().unwrap_or_default();
        staging.system_event(Kind::Policy, detail, None)?;
        engine.commit(writer, staging, |txn| {
            tables::make_all(txn)?;
            if let Some(series) = &series {
                txn.open_table(tables::META).stored()?.insert(SERIES_KEY, series.as_bytes()).stored()?;
            }
            Ok(())
        })
    })?;
    AuditLog::start(engine)
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

pub(crate) fn open(options: Options, source: Source) -> Result<AuditLog> {
    if let Source::Storage(storage) = &source
        && storage::length(&**storage)? == 0
    {
        return Err(Error::new(ErrorKind::NotAStore, "the storage is empty: it is not an attestlog store"));
    }
    if let Source::File(path) = &source {
        let about = std::fs::metadata(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                "there is no store; make one with `attestlog init` or `AuditLog::create`",
            )
            .in_file(path),
            _ => Error::from(e).in_file(path),
        })?;
        if !about.is_file() || about.len() == 0 {
            return Err(Error::new(ErrorKind::NotAStore, format!("{}: is not an attestlog store", path.display())));
        }
    }
    let (database, overlay) = match options.settings.access {
        Access::Write => (open_database(&options, &source)?, None),
        Access::ReadFirst | Access::Read => {
            let (database, overlay) = open_for_reading(&options, &source)?;
            (database, Some(overlay))
        }
    };
    let database = Arc::new(database);
    let keys = match (&options.keys, key_path(&options, source.path())) {
        (KeySource::Vault(vault), _) => keyring::load_vault(vault.clone(), options.passphrase.as_deref())?,
        (_, Some(path)) => keyring::load(&path, options.passphrase.as_deref())?,
        (_, None) => None,
    };
    // A copy being restored may be older, or of another history. It is verified first.
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
            // The copy may be of an epoch that has ended; the entry about the restore adds what is missing.
            true => keys.check_log(&engine.chain_state())?,
            false => keys.check(&engine, &engine.chain_state(), engine.writer().state.size)?,
        }
    }
    if engine.masters_unsettled() && !engine.is_reading() {
        // An erasure was interrupted. If it cannot be completed now (a full disk, an older copy of the store), the next
        // erasure completes it, and reading does not depend on it.
        let _ = engine.with_writer(Engine::settle_masters);
    }
    AuditLog::start(engine)
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
    let published =
        Published { size: writer.state.size, head: writer.state.head, signed: writer.state.signed, mem_segments };
    let anchoring = Anchoring::new(options.anchors, options.clock.clone());
    let found = (options.clock.now(), options.clock.monotonic());
    let grant_times = chain_state.open_grants.keys().map(|&seq| (seq, found)).collect();
    // A copy being restored may be of another history than what the keys signed last.
    let own = keys.as_ref().filter(|_| !options.settings.restoring && !options.settings.is_copy);
    let mark = own.and_then(Keyring::signed).map(|signed| signed.mark);
    Ok(Arc::new(Engine {
        config: Config {
            process: Process::this(),
            opened_with: published.size,
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
            reading: Reading::of(overlay),
            block_locator: Arc::default(),
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
            showing: Mutex::new(()),
        },
        facts: Facts {
            policies: RwLock::new(Arc::new(policies)),
            chain_state: RwLock::new(Arc::new(chain_state)),
            purged: RwLock::new(Arc::new(purged)),
            epoch_began: Mutex::default(),
            grant_times: Mutex::new(grant_times),
        },
        jobs: Jobs { work: Work::default(), anchoring, news: News::default() },
    }))
}

impl Engine {
    /// Reopens the file and reads it again. Fails if another program has overwritten it.
    pub(crate) fn reopen(&self) -> Result<Loaded> {
        self.config.process.check()?;
        let mut database = self.read.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.read.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        guarded(|| {
            if let Some(before) = &*database {
                before.check_unchanged()?;
            }
            // redb releases its lock only when the old handle is dropped.
            drop(database.take());
            self.note(|changes| changes.any = true);
            // A purge may have put a file in place whose rename is not durable yet.
            replacement::settle(&self.config.source)?;
            let options = Options { settings: self.config.settings.clone(), ..Options::new() };
            let fresh = Arc::new(open_database(&options, &self.config.source)?);
            let signed = self.keys().as_ref().filter(|_| !self.config.settings.restoring).and_then(Keyring::signed);
            let loaded = load(&fresh, self.config.clock.monotonic(), signed)?;
            let fresh = database.insert(fresh);
            if !self.continues(&loaded, fresh)? {
                fresh.condemn();
                fresh.check_unchanged()?;
            }
            Ok(loaded)
        })
    }

    /// Whether a file that was read again contains everything that readers were shown.
    fn continues(&self, loaded: &Loaded, file: &Arc<DatabaseHandle>) -> Result<bool> {
        let (size, head) = self.shown();
        let state = &loaded.writer.state;
        match size.checked_sub(1) {
            None => Ok(true),
            Some(_) if state.size <= size => Ok((state.size, state.head) == (size, head)),
            // A purge that was not published yet may have removed it.
            Some(newest) => Ok(loaded.purged.contains(newest) || Snapshot::raw(file)?.hash(newest)? == head),
        }
    }
}

/// Builds the in-memory state from the file. `signed` is what the keys, if available, last signed of the store.
pub(crate) fn load(database: &Arc<DatabaseHandle>, now: Duration, signed: Option<Signed>) -> Result<Loaded> {
    let snapshot = Snapshot::raw(database)?;
    let mut state = snapshot.state.clone();
    // The value in the state row is not covered by a signature; verification compares the two.
    state.signed = snapshot.newest_signed(state.size)?;
    let merging = state.merging.is_none_or(|end| state.indexed < end && end <= state.size);
    if state.sealed > state.size || state.indexed > state.size || state.signed > state.size || !merging {
        return Err(Error::damaged("the state of the store contradicts itself; restore a backup"));
    }
    let mut tail = Vec::new();
    for (seq, row) in (state.sealed..).zip(snapshot.tail()?.range(state.sealed..).stored()?) {
        let (key, row) = row.stored()?;
        if key.value() != seq {
            return Err(Error::damaged(format!("entry {seq} is missing from the tail; restore a backup")));
        }
        tail.push(TailRow::from_row(row.value())?);
    }
    if state.sealed + tail.len() as u64 != state.size {
        return Err(Error::damaged(format!("the tail does not end at {}; restore a backup", state.size)));
    }
    if tail.last().is_some_and(|newest| newest.hash != state.head) {
        return Err(Error::damaged("the newest entry is not the one that the state names; restore a backup"));
    }
    let frontier = Frontier::load(&snapshot, state.size).map_err(|e| match e.kind() {
        // A purge always leaves enough nodes to compute the tree.
        ErrorKind::NoSuchEntry => {
            Error::damaged("the file is damaged: entries are missing that no purge took; restore a backup")
                .with_source(e)
        }
        _ => e,
    })?;
    let mut purged = SeqSet::new();
    snapshot.scan_purges(&mut |_, set| {
        purged = purged.union(&set?);
        Ok(())
    })?;
    let mut found = Found::indexed(&snapshot, &purged, signed)?;
    let mut mem_segments: Vec<Arc<MemSegment>> = Vec::new();
    let mut recorded_at = Timestamp::MIN;
    let mut calls = OpenCalls::default();
    for seq in state.indexed..state.size {
        let body = match pending_body(&snapshot, seq) {
            Ok(body) => Some(body),
            Err(e) if e.kind() == ErrorKind::Damaged => {
                found.wrong(Damage::Entry(seq));
                None
            }
            Err(e) => return Err(e),
        };
        let newest = match mem_segments.last() {
            Some(newest) if seq < newest.from + BATCH && !(newest.is_frozen()) => newest.clone(),
            _ => {
                let newest = Arc::new(MemSegment::new(seq));
                mem_segments.push(newest.clone());
                newest
            }
        };
        recorded_at = body.iter().map(|body| body.recorded_at).fold(recorded_at, Timestamp::max);
        match &body {
            Some(body) => newest.add(std::iter::once(body)),
            None => newest.add_unreadable(),
        }
        calls.take(seq, body.as_ref());
        if let Some(Content::System(own)) = body.as_ref().map(|body| &body.content)
            && ChainState::wants(own.kind)
        {
            found.own(&snapshot, seq, own);
        }
        // An interrupted batch is continued with the same end.
        if state.merging == Some(seq + 1) {
            newest.freeze();
        }
    }
    found.reach(&snapshot, state.size);
    let whole = calls.check(&snapshot, state.indexed).and_then(|whole| snapshot.open_tables().map(|()| whole));
    if !whole.unwrap_or(false) {
        found.wrong(Damage::Tables);
    }
    let mut writer = WriterState::new(state, frontier, &tail, now);
    let tables = || database.is_damaged().then_some(Damage::Tables);
    writer.damaged = found.damaged.or(writer.damaged).or_else(tables);
    Ok(Loaded { writer, mem_segments, chain_state: found.chain_state, purged, newest: recorded_at })
}

/// Which calls the entries that no index batch covers begin and end.
#[derive(Default)]
struct OpenCalls {
    begun: BTreeSet<u64>,
    ended: Vec<u64>,
    /// An entry could not be read, so nobody knows.
    unknown: bool,
}

impl OpenCalls {
    fn take(&mut self, seq: u64, body: Option<&Body>) {
        match body.map(|body| &body.content) {
            Some(Content::Call(call)) => match call.phase {
                Phase::Begun => _ = self.begun.insert(seq),
                Phase::Finished(begun) => self.ended.push(begun),
                Phase::Whole => {}
            },
            Some(Content::System(_)) => {}
            None => self.unknown = true,
        }
    }

    /// Whether the table of the calls without an end says the same.
    fn check(mut self, snapshot: &Snapshot, indexed: u64) -> Result<bool> {
        if self.unknown {
            return Ok(true);
        }
        let listed = snapshot.unfinished()?;
        let none_ended = self.ended.iter().all(|begun| !listed.contains(begun));
        self.ended.iter().for_each(|begun| _ = self.begun.remove(begun));
        Ok(none_ended && listed.range(indexed..).eq(&self.begun))
    }
}

/// The system events read so far.
struct Found {
    chain_state: ChainState,
    /// What the keys last signed; `None` once the entries up to there were read and compared.
    mark: Option<Mark>,
    /// What is wrong. The rest is still readable, and verification reports everything.
    damaged: Option<Damage>,
}

impl Found {
    /// Reads the system events that the index in the file leads to. After the last signed entry every entry is read, so that
    /// the index is not relied upon.
    fn indexed(snapshot: &Snapshot, purged: &SeqSet, signed: Option<Signed>) -> Result<Found> {
        let mut found =
            Found { chain_state: ChainState::default(), mark: signed.map(|signed| signed.mark), damaged: None };
        let indexed = snapshot.indexed;
        let all = signed.filter(|signed| signed.is_kept).map_or(indexed, |signed| signed.mark.size.min(indexed));
        let mut own = snapshot.system_entries(ChainState::wants)?;
        let purgeable = snapshot.system_entries(ChainState::wants_purgeable)?;
        if indexed > 0 {
            // The genesis entry must be known, whatever the index contains.
            own.insert(0);
        }
        for &seq in own.range(..all) {
            match snapshot.find(seq)? {
                Some(entry) => found.take(snapshot, &entry),
                None if purgeable.contains(&seq) => {}
                None => return Err(Error::damaged(format!("entry {seq} is missing; restore a backup"))),
            }
        }
        for seq in all..indexed {
            match snapshot.find(seq) {
                Ok(Some(entry)) => {
                    found.take(snapshot, &entry);
                    if !own.contains(&seq) && ChainState::wants(entry.kind()) {
                        found.wrong(Damage::InForce);
                    }
                }
                Ok(None) if purged.contains(seq) => {}
                Ok(None) => found.wrong(Damage::Entry(seq)),
                Err(e) if e.kind() == ErrorKind::Damaged => found.wrong(Damage::Entry(seq)),
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    fn take(&mut self, snapshot: &Snapshot, entry: &Entry) {
        if snapshot.hash(entry.seq).and_then(|hash| snapshot.check_against(entry, hash)).is_err() {
            self.wrong(Damage::Entry(entry.seq));
        }
        if let Some(own) = entry.own() {
            self.own(snapshot, entry.seq, own);
        }
    }

    fn own(&mut self, snapshot: &Snapshot, seq: u64, own: &SystemEvent) {
        self.reach(snapshot, seq);
        if self.chain_state.apply(seq, own).is_err() {
            // It is not a valid event, or contradicts an earlier one.
            self.wrong(Damage::InForce);
        }
    }

    fn wrong(&mut self, damage: Damage) {
        self.damaged = self.damaged.or(Some(damage));
    }

    /// Compares what is in force before the entry at `seq` with what was in force when the keys last signed, once that point
    /// is reached (R60).
    fn reach(&mut self, snapshot: &Snapshot, seq: u64) {
        let Some(mark) = self.mark.take_if(|mark| mark.size <= seq) else { return };
        let signed = self.chain_state.genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some());
        if signed && self.chain_state.in_force().all != mark.in_force.all {
            // For another history the mark check fails with an explanation (K4).
            match crate::merkle::root(snapshot, mark.size) {
                Ok(root) if root != mark.root => {}
                _ => self.wrong(Damage::InForce),
            }
        }
    }
}

/// The entry at `seq`, which no index batch covers, so it cannot have been purged.
fn pending_body(snapshot: &Snapshot, seq: u64) -> Result<Body> {
    match snapshot.checked(seq)? {
        Some(found) => Ok(found.body),
        None => Err(Error::damaged(format!("entry {seq} is missing; restore a backup"))),
    }
}

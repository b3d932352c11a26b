//! Copies of a store, made while it is in use. `log/restore` restores them.
//!
//! Invariant K1: a copy is the store at one moment, that of its last read transaction. Invariant K2: what is copied before
//! that moment cannot change until then: below the seq at which a copying round began, the log is append-only, and the tables
//! that index batches and purges write do not change while the lock that both need is held (`WriteSide::merging`). Invariant
//! K3: the state row is written last, so that half a copy is not a store.
//!
//! The copy is made table by table, not byte by byte: the free pages of the store, with whatever was purged or erased from
//! them, are not copied, and no read transaction lasts longer than one chunk, so that the store does not grow during the
//! copy.

use crate::json::{Json, Object};
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::file::panic_guard::guarded;
use crate::store::file::paths::new_private_file;
use crate::store::file::read_view::read_state;
use crate::store::file::tables::{self, Stored, from_redb};
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::log::AuditLog;
use crate::{Error, ErrorKind, Hash, Kind, Result, codec};
use redb::{Builder, Database, Key, ReadTransaction, ReadableTableMetadata, TableDefinition, Value};
use std::fs::File;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// How many bytes one read transaction copies.
const CHUNK_BYTES: usize = 4 << 20;
/// The cache size of the copy.
const CACHE_BYTES: usize = 16 << 20;
/// Once the log grew by fewer entries than this during a round, the rest is copied in the last transaction.
const CAUGHT_UP: u64 = 4096;
/// Maximum number of rounds, for a log that grows as fast as it is copied.
const ROUNDS: usize = 16;

/// A completed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// How many entries the copy has: all that were recorded before, without the entry about the backup itself.
    pub size: u64,
    /// The hash of the newest of these entries.
    pub head: Hash,
    /// The length of the copy in bytes.
    pub bytes: u64,
    /// The receipt of the entry about the backup, in the copied store.
    pub receipt: Receipt,
}

impl AuditLog {
    /// Copies this store to `dest` while recording goes on, and records an entry about it: the copy's file name (not its
    /// path), its number of entries and the hash of the newest. The copy itself does not contain that entry. The file is
    /// readable only by its owner; the keys are not in it (see [`KeyFile::backup`](crate::keys::KeyFile::backup)).
    ///
    /// Index batches and purges wait until the copy is made; meanwhile the index of new entries stays in memory.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if anything exists at `dest`; [`DiskFull`](ErrorKind::DiskFull) and other
    /// errors of the file system; as [`AuditLog::record`]. On an error no copy is left behind, as the log would not know of
    /// it.
    /// ```
    /// # use attestlog::{AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let backup = log.backup(dir.path().join("audit-2025-07-06.log"))?;
    /// assert_eq!(backup.size, backup.receipt.seq);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(dest, |_, _| {})
    }

    /// Like [`AuditLog::backup`], and reports progress: rows copied, and approximate total.
    ///
    /// # Errors
    /// As [`AuditLog::backup`].
    pub fn backup_with(&self, dest: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<Backup> {
        self.engine().config.process.check()?;
        let dest = dest.as_ref();
        let name = file_name(dest)?;
        let (partial, file) = Partial::create(dest)?;
        let copy = Copy::new(self.engine(), file.try_clone()?, &mut progress);
        let state = copy
            .and_then(|copy| guarded(|| copy.run()))
            .map_err(|e| e.at(format_args!("backup to {}", dest.display())))?;
        let bytes = partial.sync(file)?;
        let detail = Object::from_iter([
            ("file", Json::from(self.engine().clean(&name)?)),
            ("size", state.size.into()),
            ("head", state.head.to_string().into()),
            ("bytes", bytes.into()),
        ]);
        let receipt = self.system_event(Kind::Backup, detail.into())?;
        partial.keep();
        Ok(Backup { size: state.size, head: state.head, bytes, receipt })
    }
}

/// A file being written. It is removed on drop unless it was kept.
pub(crate) struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    pub(crate) fn create(path: &Path) -> Result<(Partial, File)> {
        let file = new_private_file(path)?;
        Ok((Partial { path: path.to_owned(), kept: false }, file))
    }

    /// Makes the file and its name durable, and returns the file's length. The file is closed here, since closing it later
    /// could release the lock of a store that was opened at the same path.
    pub(crate) fn sync(&self, file: File) -> Result<u64> {
        file.sync_all()?;
        crate::files::sync_parent(&self.path)?;
        Ok(file.metadata()?.len())
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // The file was created here, and half a store is useless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(crate) fn file_name(path: &Path) -> Result<String> {
    match path.file_name() {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => Err(Error::invalid("does not name a file").in_file(path)),
    }
}

/// Locks the file to be copied against writers; the lock is held as long as the result lives.
pub(crate) fn lock_source(src: &Path) -> Result<(Option<redb::ReadOnlyDatabase>, Option<File>)> {
    let about = std::fs::metadata(src).map_err(|e| Error::from(e).in_file(src))?;
    if !about.is_file() || about.len() == 0 {
        return Err(Error::new(ErrorKind::NotAStore, "is not an attestlog store").in_file(src));
    }
    match Builder::new().set_cache_size(CACHE_BYTES).open_read_only(src) {
        Ok(database) => Ok((Some(database), None)),
        // The file was not closed cleanly; opening the copy will repair the copy. Nobody has the file open with redb's lock.
        Err(redb::DatabaseError::RepairAborted) => {
            let file = File::open(src)?;
            match file.try_lock_shared() {
                Err(std::fs::TryLockError::WouldBlock) => {
                    let message = "another process has it open; back it up instead";
                    Err(Error::new(ErrorKind::Locked, message).in_file(src))
                }
                // Without file locks there is nothing to wait for.
                _ => Ok((None, Some(file))),
            }
        }
        Err(e) => Err(from_redb(e.into()).in_file(src)),
    }
}

/// A copy in progress.
struct Copy<'a> {
    engine: &'a Engine,
    to: Database,
    progress: &'a mut dyn FnMut(u64, u64),
    rows: u64,
    total: u64,
}

impl<'a> Copy<'a> {
    fn new(engine: &'a Engine, file: File, progress: &'a mut dyn FnMut(u64, u64)) -> Result<Copy<'a>> {
        let to = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).stored()?;
        Ok(Copy { engine, to, progress, rows: 0, total: 0 })
    }

    fn run(mut self) -> Result<State> {
        let still = self.engine.write.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = self.begin()?;
        let start = read_state(&begin)?;
        self.total = count(&begin)?;
        drop(begin);
        self.held_still()?;
        let (mut sealed, mut size) = (0, 0);
        for _ in 0..ROUNDS {
            let now = read_state(&self.begin()?)?;
            self.chunks(tables::BLOCKS, Bound::Included(sealed), |&first| first < now.sealed)?;
            self.chunks(tables::NODES, Bound::Unbounded, |&node| !is_before(node, size) && is_before(node, now.size))?;
            let grown = now.size - size;
            (sealed, size) = (now.sealed, now.size);
            if grown < CAUGHT_UP {
                break;
            }
        }
        let state = self.last(&start, sealed, size)?;
        drop(still);
        Ok(state)
    }

    fn begin(&self) -> Result<ReadTransaction> {
        self.engine.database()?.get()?.begin_read()
    }

    /// Copies the tables that only index batches and purges write.
    fn held_still(&mut self) -> Result<()> {
        self.chunks(tables::COVERS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::TERMS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::POSTINGS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::ZONES, Bound::Unbounded, |_| true)?;
        self.chunks(tables::ROLLUPS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::COLUMNS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::BATCHES, Bound::Unbounded, |_| true)?;
        self.chunks(tables::PURGED_ROWS, Bound::Unbounded, |_| true)?;
        self.chunks(tables::PURGES, Bound::Unbounded, |_| true)
    }

    /// In one transaction, whose moment the copy represents: copies what is small or changes with every commit, and what was
    /// added after the last round.
    fn last(&mut self, start: &State, sealed: u64, size: u64) -> Result<State> {
        let from = self.begin()?;
        let state = read_state(&from)?;
        let rewritten = |s: &State| (s.indexed, s.merging, s.next_term);
        if rewritten(&state) != rewritten(start) {
            return Err(Error::new(ErrorKind::Busy, "the index was rewritten meanwhile; retry"));
        }
        tables::check_known(&from)?;
        let txn = self.to.begin_write().stored()?;
        tables::make_all(&txn)?;
        let to = &txn;
        let mut rows = copy(&from, to, tables::BLOCKS, Bound::Included(sealed), usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::NODES, Bound::Unbounded, usize::MAX, |&node| !is_before(node, size))?.rows;
        rows += copy(&from, to, tables::TAIL, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::SENDERS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::UNFINISHED, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::CHECKPOINTS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::ATTESTATIONS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::SUBJECTS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::SUBJECT_TAGS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::CURSORS, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        rows += copy(&from, to, tables::META, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        // Whoever has the copy must not be able to compute the nonces of later entries.
        let unseeded = State { seed: [0; 16], ..state.clone() };
        to.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&unseeded)?).stored()?;
        let mut txn = txn;
        txn.set_two_phase_commit(true);
        txn.commit().stored()?;
        // Each chunk left a few pages that later ones could not reuse.
        self.to.compact().stored()?;
        self.told(rows);
        Ok(state)
    }

    /// Copies the rows of a table from `start` on for which `wanted` returns true, each chunk in its own transactions.
    fn chunks<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
        start: Bound<K::SelfType<'_>>,
        wanted: impl Fn(&K::SelfType<'_>) -> bool,
    ) -> Result<()> {
        let from = self.begin()?;
        let to = self.to.begin_write().stored()?;
        let mut copied = copy(&from, &to, table, start, CHUNK_BYTES, &wanted)?;
        drop(from);
        to.commit().stored()?;
        self.told(copied.rows);
        while let Some(last) = copied.more {
            let from = self.begin()?;
            let to = self.to.begin_write().stored()?;
            copied = copy(&from, &to, table, Bound::Excluded(K::from_bytes(&last)), CHUNK_BYTES, &wanted)?;
            drop(from);
            to.commit().stored()?;
            self.told(copied.rows);
        }
        Ok(())
    }

    fn told(&mut self, rows: u64) {
        self.rows += rows;
        (self.progress)(self.rows.min(self.total), self.total);
    }
}

/// Whether a Merkle node is complete in a log of `size` entries.
fn is_before((level, index): (u8, u64), size: u64) -> bool {
    size.checked_shr(level.into()).is_some_and(|complete| index < complete)
}

/// The total number of rows of the large tables.
fn count(txn: &ReadTransaction) -> Result<u64> {
    Ok(txn.open_table(tables::BLOCKS).stored()?.len().stored()?
        + txn.open_table(tables::NODES).stored()?.len().stored()?
        + txn.open_table(tables::TERMS).stored()?.len().stored()?
        + txn.open_table(tables::POSTINGS).stored()?.len().stored()?
        + txn.open_table(tables::ZONES).stored()?.len().stored()?
        + txn.open_table(tables::ROLLUPS).stored()?.len().stored()?
        + txn.open_table(tables::COVERS).stored()?.len().stored()?)
}

/// The result of copying one chunk.
pub(crate) struct Copied {
    rows: u64,
    /// The last key that was read, if the table has more rows.
    more: Option<Vec<u8>>,
}

/// Copies the rows of a table from `start` on for which `wanted` returns true, until `most` bytes were read.
pub(crate) fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &redb::WriteTransaction,
    table: TableDefinition<'_, K, V>,
    start: Bound<K::SelfType<'_>>,
    most: usize,
    wanted: impl Fn(&K::SelfType<'_>) -> bool,
) -> Result<Copied> {
    let source = from.open_table(table).stored()?;
    let mut target = to.open_table(table).stored()?;
    let (mut rows, mut bytes) = (0, 0);
    for row in source.range::<K::SelfType<'_>>((start, Bound::Unbounded)).stored()? {
        let (key, value) = row.stored()?;
        let key_bytes = K::as_bytes(&key.value()).as_ref().to_vec();
        bytes += key_bytes.len();
        if wanted(&key.value()) {
            bytes += V::as_bytes(&value.value()).as_ref().len();
            target.insert(key.value(), value.value()).stored()?;
            rows += 1;
        }
        if bytes >= most {
            return Ok(Copied { rows, more: Some(key_bytes) });
        }
    }
    Ok(Copied { rows, more: None })
}

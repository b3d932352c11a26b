//! Copies of a store, made while it is in use. `log/restore` restores them.
//!
//! Invariant K1: a copy is the store at one moment, that of its last read transaction. Invariant K2: what is copied before
//! that moment cannot change until then: below the seq at which a copying round began, the log is append-only, whole segments stay as
//! they are, and the tables that index batches and purges write do not change while the lock that both need is held
//! (`WriteSide::merging`). Invariant K3: the state row is written last, so that half a copy is not a store.
//!
//! The copy is made table by table, not byte by byte: the free pages of the store, with whatever was purged or erased from
//! them, are not copied, and no read transaction lasts longer than one chunk, so that the store does not grow during the
//! copy.

use crate::files::Writes;
use crate::json::{Json, Object};
use crate::store::engine::Engine;
use crate::store::engine::receipt::Receipt;
use crate::store::file::all_tables;
use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::paths::{new_private_file, taken};
use crate::store::file::read_view::read_state;
use crate::store::file::redb_errors::{Stored, from_redb};
use crate::store::file::tables::{self, Copying, EachTable, InBackup};
use crate::store::layout::seeds::Seeds;
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::log::OpenStore;
use crate::{Error, ErrorKind, Hash, Kind, Result, codec};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use redb::{Builder, Database, Key, ReadTransaction, TableDefinition, Value};
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
    /// How many entries the copy has, with the entry about the backup itself.
    pub size: u64,
    /// The hash of the newest of these entries.
    pub head: Hash,
    /// The length of the copy in bytes.
    pub bytes: u64,
    /// The receipt of the entry about the backup, in the copied store.
    pub receipt: Receipt,
}

impl Backup {
    /// `{"size","head","bytes","seq","hash"}`; the last two are the receipt.
    pub fn to_json(&self) -> Json {
        Object::from_iter([
            ("size", self.size.form()),
            ("head", self.head.form()),
            ("bytes", self.bytes.form()),
            ("seq", self.receipt.seq.form()),
            ("hash", self.receipt.hash.form()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Result<Backup> {
        let mut members = Members::of(value)?;
        Ok(Backup {
            size: member(&mut members, "size")?,
            head: member(&mut members, "head")?,
            bytes: member(&mut members, "bytes")?,
            receipt: Receipt::new(member(&mut members, "seq")?, member(&mut members, "hash")?),
        })
    }
}

attestlog_proof::json_form!(methods Backup);

impl OpenStore {
    /// Copies this store to `dest` while recording goes on. When all but the last entries are copied, an entry about it is
    /// recorded and signed: the copy's file name (not its path), the number of entries before it and the hash of the newest of
    /// them. The copy contains that entry and the checkpoint over it, so what anchors were given by then fits it. Should the
    /// copy fail after that, the entry stays. The file is readable only by its owner; the keys are not in it (see
    /// [`KeyFile::backup`](crate::keys::KeyFile::backup)). Reports progress: rows copied, and approximate total.
    pub(crate) fn backup_with(&self, dest: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<Backup> {
        self.engine().config.process.check()?;
        let dest = dest.as_ref();
        let name = file_name(dest)?;
        let (partial, file) = Partial::beside(dest)?;
        let mut told = None;
        let made = Copy::new(self.engine(), file.try_clone()?, &mut progress).and_then(|copy| {
            let (receipt, state) =
                guarded(|| copy.run(|| self.tell_of_backup(&name).inspect(|entry| told = Some(*entry))))?;
            let bytes = partial.sync(file)?;
            partial.put_in_place(dest)?.keep();
            Ok(Backup { size: state.size, head: state.head, bytes, receipt })
        });
        made.map_err(|e| {
            let e = e.at(format_args!("backup to {}", dest.display()));
            match told {
                Some(entry) => Error::new(e.kind(), format!("{e}; entry {} says that this copy was begun", entry.seq))
                    .with_source(e),
                None => e,
            }
        })
    }

    /// Records that a backup is made, and signs that if the keys are here.
    fn tell_of_backup(&self, name: &str) -> Result<Receipt> {
        self.engine().with_writer(|engine, writer| {
            let detail = Object::from_iter([
                ("file", Json::from(engine.clean(name)?)),
                ("size", writer.state.size.into()),
                ("head", writer.state.head.to_string().into()),
            ]);
            let receipt = engine.system_event(writer, Kind::Backup, detail)?;
            // Where it cannot be signed now, the copy is as good: a later checkpoint of this size fits it too.
            let _ = engine.sign_bare(writer);
            Ok(receipt)
        })
    }
}

/// A file being written. It is removed on drop unless it was kept.
pub(crate) struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    /// A file for `dest`, where nothing may be, under another name until it is finished: what an interrupted process leaves does not
    /// pass for a store.
    pub(crate) fn beside(dest: &Path) -> Result<(Partial, File)> {
        if std::fs::symlink_metadata(dest).is_ok() {
            return Err(taken(dest));
        }
        crate::files::check(dest, Writes::Store)?;
        let path = crate::files::beside(dest, &format!("part-{}", std::process::id()));
        let file = new_private_file(&path, Writes::Output)?;
        Ok((Partial { path, kept: false }, file))
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

    /// Gives the finished file its name, which no other file may have.
    pub(crate) fn put_in_place(mut self, path: &Path) -> Result<Partial> {
        crate::files::put_in_new_place(&self.path, path, Writes::Store).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => taken(path),
            _ => e,
        })?;
        self.path = path.to_owned();
        Ok(self)
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

    /// Copies everything; `tell` records the backup's entry, which is copied with the last entries.
    fn run(mut self, tell: impl FnOnce() -> Result<Receipt>) -> Result<(Receipt, State)> {
        let still = self.engine.write.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = self.begin()?;
        let start = read_state(&begin)?;
        self.total = count(&begin)?;
        drop(begin);
        tables::each(&mut StillTables(&mut self))?;
        let (mut sealed, mut size) = (0, 0);
        for _ in 0..ROUNDS {
            let now = read_state(&self.begin()?)?;
            // A part of a segment may be replaced.
            let whole = now.cuts()?.start(now.sealed);
            for table in [tables::BLOCKS, tables::LEAVES, tables::DIRECTORIES, tables::SEEDS] {
                self.chunks(table, Bound::Included(sealed), |&key| key < whole)?;
            }
            self.chunks(tables::NODES, Bound::Unbounded, |&node| !is_before(node, size) && is_before(node, now.size))?;
            let grown = now.size - size;
            (sealed, size) = (whole, now.size);
            if grown < CAUGHT_UP {
                break;
            }
        }
        let receipt = tell()?;
        let state = self.last(&start, sealed, size)?;
        drop(still);
        Ok((receipt, state))
    }

    fn begin(&self) -> Result<ReadTransaction> {
        self.engine.database()?.get()?.begin_read()
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
        all_tables::check_known(&from)?;
        let txn = self.to.begin_write().stored()?;
        let to = &txn;
        let mut rows = 0;
        for table in [tables::BLOCKS, tables::LEAVES, tables::DIRECTORIES] {
            rows += copy(&from, to, table, Bound::Included(sealed), usize::MAX, |&key| key < state.sealed)?.rows;
        }
        rows += seeds(&from, to, sealed, &state)?;
        rows += copy(&from, to, tables::NODES, Bound::Unbounded, usize::MAX, |&node| !is_before(node, size))?.rows;
        rows += copy_tables(&from, to, |copying| copying.backup == InBackup::Last)?;
        // What is half sealed is not in the copy.
        let copied = State { sealing: false, ..state.clone() };
        to.open_table(tables::META).stored()?.insert(STATE_KEY, &*codec::encode(&copied)?).stored()?;
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

/// Copies the seeds from this segment on; of the last segment only what gives nonces of entries that are in the copy: whoever has it
/// must not be able to compute those of later entries.
fn seeds(from: &ReadTransaction, to: &redb::WriteTransaction, start: u64, state: &State) -> Result<u64> {
    let (source, mut copy) = (ReadTable::open(from, tables::SEEDS)?, to.open_table(tables::SEEDS).stored()?);
    let mut rows = 0;
    for row in source.range(start..).stored()? {
        let (segment, row) = row.stored()?;
        let segment = segment.value();
        let seeds =
            Seeds::decode(row.value()).map_err(|e| Error::from(e).at(format!("the seeds of entry {segment}")))?;
        let there = u32::try_from(state.size.saturating_sub(segment)).unwrap_or(u32::MAX);
        let seeds = seeds.without((there < state.segment).then_some((there, u32::MAX)).into_iter());
        if !seeds.is_empty() {
            copy.insert(segment, &*seeds.encode()).stored()?;
            rows += 1;
        }
    }
    Ok(rows)
}

/// Whether a Merkle node is complete in a log of `size` entries.
fn is_before((level, index): (u8, u64), size: u64) -> bool {
    size.checked_shr(level.into()).is_some_and(|complete| index < complete)
}

/// Copies the tables that only index batches and purges write.
struct StillTables<'c, 'a>(&'c mut Copy<'a>);

impl EachTable for StillTables<'_, '_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        match copying.backup {
            InBackup::Still => self.0.chunks(table, Bound::Unbounded, |_| true),
            InBackup::Rounds | InBackup::Last => Ok(()),
        }
    }
}

/// Copies the whole of those tables for which `wanted` returns true; returns the number of rows.
pub(crate) fn copy_tables(
    from: &ReadTransaction,
    to: &redb::WriteTransaction,
    wanted: impl Fn(Copying) -> bool,
) -> Result<u64> {
    let mut whole = WholeTables { from, to, wanted, rows: 0 };
    tables::each(&mut whole)?;
    Ok(whole.rows)
}

struct WholeTables<'t, W> {
    from: &'t ReadTransaction,
    to: &'t redb::WriteTransaction,
    wanted: W,
    rows: u64,
}

impl<W: Fn(Copying) -> bool> EachTable for WholeTables<'_, W> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        if (self.wanted)(copying) {
            self.rows += copy(self.from, self.to, table, Bound::Unbounded, usize::MAX, |_| true)?.rows;
        }
        Ok(())
    }
}

/// The total number of rows of the tables that are copied before the last transaction.
fn count(txn: &ReadTransaction) -> Result<u64> {
    let mut large = LargeTables { txn, rows: 0 };
    tables::each(&mut large)?;
    Ok(large.rows)
}

struct LargeTables<'t> {
    txn: &'t ReadTransaction,
    rows: u64,
}

impl EachTable for LargeTables<'_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        if copying.backup != InBackup::Last {
            self.rows += ReadTable::open(self.txn, table)?.len().stored()?;
        }
        Ok(())
    }
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
    let source = ReadTable::open(from, table)?;
    // A table is made with its first row.
    let mut target = None;
    let (mut rows, mut bytes) = (0, 0);
    for row in source.range::<K::SelfType<'_>>((start, Bound::Unbounded)).stored()? {
        let (key, value) = row.stored()?;
        let key_bytes = K::as_bytes(&key.value()).as_ref().to_vec();
        bytes += key_bytes.len();
        if wanted(&key.value()) {
            bytes += V::as_bytes(&value.value()).as_ref().len();
            let target = match &mut target {
                Some(target) => target,
                None => target.insert(to.open_table(table).stored()?),
            };
            target.insert(key.value(), value.value()).stored()?;
            rows += 1;
        }
        if bytes >= most {
            return Ok(Copied { rows, more: Some(key_bytes) });
        }
    }
    Ok(Copied { rows, more: None })
}

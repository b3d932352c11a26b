//! A snapshot: the store as it was at one moment. It never blocks the writer and nothing is added to it.
//!
//! Invariant S1: what is known of the newest entries is taken before the read transaction begins, or the transaction is one
//! that holds all of it. So it holds at least what the memory segments do, and index rows below the first memory segment are all in it.

use super::block::Block;
use super::block_locator::BlockLocator;
use super::database_handle::DatabaseHandle;
use super::entry_record::{EntryRecord, TailRow};
use super::mem_index::MemSegment;
use super::pages::Present;
use super::panic_guard::guarded;
use super::read_view::ReadView;
use super::state::State;
use super::tables::{self, Stored};
use super::{Engine, NODE_LEVEL};
use crate::merkle::Nodes;
use crate::process::Process;
use crate::{Entry, Error, ErrorKind, Hash, Result};
use redb::{AccessGuard, Key, ReadOnlyTable, ReadTransaction, TableDefinition, Value};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The store at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    _kept: Kept,
    view: Arc<ReadView>,
    /// Entries from this seq on were not there yet.
    pub size: u64,
    /// The hash of the newest entry.
    pub head: Hash,
    /// What the transaction's state row said; it may know of more than `size` entries.
    pub state: State,
    /// Index rows at or beyond this seq do not count; the memory segments begin here.
    pub indexed: u64,
    pub mem_segments: Vec<Arc<MemSegment>>,
    last: Mutex<Last>,
    block_locator: Arc<BlockLocator>,
    /// The commit that the transaction reads, where somebody wants to go through its pages.
    pub(crate) present: Option<Present>,
    /// Keeps the file open for as long as this reads it, also when a purge has put another in its place. Last, because what reads
    /// is dropped before what it reads from.
    pub(crate) database: Arc<DatabaseHandle>,
}

/// Keeps a read transaction, in a process that has only a copy of it, from being given up: redb would take a lock for that, which
/// a thread of the other process may have held when the copy was made.
#[derive(Debug)]
struct Kept {
    view: Arc<ReadView>,
    process: Process,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.process.is_this() {
            std::mem::forget(self.view.clone());
        }
    }
}

/// The block that was read last. Reading one entry copies nothing else of its block; who comes back to a block finds its row
/// here, and who comes back once more gets it taken apart for the rest.
#[derive(Default)]
enum Last {
    #[default]
    None,
    Row {
        /// Between which the block's entries lie.
        seqs: Range<u64>,
        row: AccessGuard<'static, &'static [u8]>,
        again: bool,
    },
    Held(Box<Block<'static>>),
}

impl Last {
    /// The block that lies under `first`, if it lies there rightly.
    fn new(first: u64, seqs: Range<u64>, row: Option<AccessGuard<'static, &'static [u8]>>) -> Last {
        match row {
            Some(row) if seqs.start == first => Last::Row { seqs, row, again: false },
            _ => Last::None,
        }
    }
}

/// Looks at the bytes of a block here and there: what is read of it for an entry lies in some ten places, which the processor
/// then fetches together instead of one after the other.
fn fetch(row: &[u8]) {
    std::hint::black_box(row.iter().take(1536).step_by(64).fold(0, |all, byte| all | byte));
}

/// Between which a block's entries lie.
fn extent(block: &Block<'_>) -> Range<u64> {
    match block.runs() {
        [first, .., last] => first.first..last.first + u64::from(last.count),
        [only] => only.first..only.first + u64::from(only.count),
        [] => 0..0,
    }
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Last::None => f.write_str("None"),
            Last::Row { seqs, .. } => write!(f, "Row({seqs:?})"),
            Last::Held(block) => block.fmt(f),
        }
    }
}

impl Engine {
    /// What the file holds now, all of one moment, without what is only in memory.
    pub(crate) fn stored(&self) -> Result<Snapshot> {
        let database = self.database()?;
        guarded(|| Ok(Snapshot { block_locator: self.block_locator.clone(), ..Snapshot::raw(database.get()?)? }))
    }

    /// As [`Engine::stored`], for whoever goes through its pages as well. Not for whoever has the writer lock.
    pub(crate) fn stored_with_pages(&self) -> Result<Snapshot> {
        // redb does not say which commit a transaction reads. While nobody else has the writer lock it is the one that the file's
        // header names, whose pages nobody writes to for as long as the transaction is there.
        let _turn = self.group_commit.take();
        let database = self.database()?;
        guarded(|| {
            let database = database.get()?;
            database.check_file()?;
            Ok(Snapshot { present: Some(database.present()?), ..Snapshot::raw(database)? })
        })
    }

    /// The store as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.looked_at(|database, _| database.view().map(Arc::new))
    }

    /// The store as it is now, for whoever reads entries and their index and nothing else: these change with the size and with
    /// what is indexed alone, so another's transaction that knows of both serves as well as a new one.
    pub(crate) fn snapshot_of_entries(&self) -> Result<Snapshot> {
        self.looked_at(|database, (size, indexed)| {
            database.shared_view(|view| view.state.size == size && indexed.is_none_or(|seq| view.state.indexed >= seq))
        })
    }

    /// With what `view` gives for the size and for where the memory segments begin.
    fn looked_at(
        &self,
        view: impl FnOnce(&DatabaseHandle, (u64, Option<u64>)) -> Result<Arc<ReadView>>,
    ) -> Result<Snapshot> {
        self.process.check()?;
        let (size, head, mem_segments) = {
            let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
            (published.size, published.head, published.mem_segments.clone())
        };
        let database = {
            let open = self.database()?;
            let database = open.get()?;
            database.check_file()?;
            database.clone()
        };
        guarded(|| {
            let from = mem_segments.first().map(|g| g.from);
            let view = view(&database, (size, from))?;
            Ok(Snapshot {
                size,
                head,
                indexed: from.unwrap_or(view.state.indexed.min(size)),
                mem_segments,
                block_locator: self.block_locator.clone(),
                ..Snapshot::of(view, &database)
            })
        })
    }
}

impl Snapshot {
    /// A snapshot of what the transaction holds, before anything is in memory.
    pub(crate) fn raw(database: &Arc<DatabaseHandle>) -> Result<Snapshot> {
        Ok(Snapshot::of(Arc::new(database.view()?), database))
    }

    fn of(view: Arc<ReadView>, database: &Arc<DatabaseHandle>) -> Snapshot {
        let state = view.state.clone();
        Snapshot {
            _kept: Kept { view: view.clone(), process: Process::this() },
            view,
            database: database.clone(),
            present: None,
            size: state.size,
            head: state.head,
            indexed: state.indexed,
            state,
            mem_segments: Vec::new(),
            last: Mutex::default(),
            block_locator: Arc::default(),
        }
    }

    /// Refuses a store with tables that this program does not know.
    pub(crate) fn check_tables(&self) -> Result<()> {
        tables::check_known(&self.view.txn)
    }

    /// Refuses where something else has written over the file since.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.database.check_unchanged()
    }

    /// The transaction that everything is read in.
    pub(crate) fn transaction(&self) -> &ReadTransaction {
        &self.view.txn
    }

    /// A table of the transaction.
    pub(crate) fn table<K: Key, V: Value>(&self, table: TableDefinition<'_, K, V>) -> Result<ReadOnlyTable<K, V>> {
        self.view.txn.open_table(table).stored()
    }

    pub(crate) fn terms(&self) -> Result<&ReadOnlyTable<(u8, &'static [u8]), u64>> {
        self.view.terms()
    }

    pub(crate) fn postings(&self) -> Result<&ReadOnlyTable<(u8, u64, u64), &'static [u8]>> {
        self.view.postings()
    }

    pub(crate) fn zones(&self) -> Result<&ReadOnlyTable<(u8, u64), (i64, i64)>> {
        self.view.zones()
    }

    pub(crate) fn open_tables(&self) -> Result<()> {
        super::tables::open_all(&self.view.txn)
    }

    pub(crate) fn unfinished_calls(&self) -> Result<&ReadOnlyTable<u64, ()>> {
        self.view.unfinished()
    }

    pub(crate) fn blocks(&self) -> &ReadOnlyTable<u64, &'static [u8]> {
        &self.view.blocks
    }

    pub(crate) fn tail(&self) -> Result<&ReadOnlyTable<u64, &'static [u8]>> {
        self.view.tail()
    }

    /// Reads something of the block in which the entry at `seq` would be.
    pub(crate) fn in_block<T>(&self, seq: u64, read: impl FnOnce(&Block<'_>) -> Result<T>) -> Result<Option<T>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Last::Held(block) if block.spans(seq) => return read(block).map(Some),
            Last::Row { seqs, row, again } if seqs.contains(&seq) => {
                let first = seqs.start;
                let block = Block::decode(row.value()).map_err(|e| Error::from(e).at(format!("block {first}")))?;
                let done = read(&block)?;
                if std::mem::replace(again, true) {
                    *last = Last::Held(Box::new(block.into_owned()));
                }
                return Ok(Some(done));
            }
            _ => {}
        }
        if let Some(first) = self.block_locator.find(seq) {
            let row = self.blocks().get(first).stored()?;
            if let Some(row) = &row {
                fetch(row.value());
            }
            match row.as_ref().map(|row| Block::decode(row.value())) {
                Some(Ok(block)) if block.spans(seq) => {
                    let (done, seqs) = (read(&block)?, extent(&block));
                    drop(block);
                    *last = Last::new(first, seqs, row);
                    return Ok(Some(done));
                }
                _ => self.block_locator.forget(seq),
            }
        }
        let Some(row) = self.blocks().range(..=seq).stored()?.next_back() else { return Ok(None) };
        let (key, row) = row.stored()?;
        let first = key.value();
        let block = Block::decode(row.value()).map_err(|e| Error::from(e).at(format!("block {first}")))?;
        let (done, seqs) = (read(&block)?, extent(&block));
        drop(block);
        if seqs.contains(&seq) {
            self.block_locator.learn(first, seqs.end);
        }
        *last = Last::new(first, seqs, Some(row));
        Ok(Some(done))
    }

    /// The entry at `seq`; `None` where it was purged.
    pub(crate) fn find(&self, seq: u64) -> Result<Option<Entry>> {
        if seq >= self.size {
            return Ok(None);
        }
        let body = |part: EntryRecord<'_>| part.body().map_err(|e| Error::from(e).at(seq));
        if seq >= self.state.sealed {
            let Some(packed) = self.tail_row(seq)? else { return Ok(None) };
            let body = packed.part().map_err(Error::from).and_then(body).map_err(|e| e.at(seq))?;
            return Ok(Some(Entry { seq, prev: packed.prev, body }));
        }
        let found = self.in_block(seq, |block| {
            let Some(i) = block.find(seq) else { return Ok(None) };
            let part = block.part(seq, i).map_err(|e| Error::from(e).at(seq))?;
            Ok(Some((block.prev(i), body(part)?)))
        })?;
        let Some((prev, body)) = found.flatten() else { return Ok(None) };
        let prev = match prev {
            Some(prev) => prev,
            None => self.hash_before(seq)?,
        };
        Ok(Some(Entry { seq, prev, body }))
    }

    /// The entry at `seq`, as [`Snapshot::find`] has it, once its hash is the one that stands beside it.
    ///
    /// Invariant V7: whatever is decided, derived, signed or shown as proof is read through here. The tree is made of the
    /// stored hashes, so it would go on to vouch for an entry whose text was changed, and what follows from the changed text
    /// (an index row, a purge, a policy in force) would be signed as if it followed from the log.
    pub(crate) fn checked(&self, seq: u64) -> Result<Option<Entry>> {
        let found = self.find(seq)?;
        if let Some(entry) = &found {
            self.check(entry)?;
        }
        Ok(found)
    }

    /// Whether an entry that was read here has the hash that stands beside it.
    ///
    /// # Errors
    /// `Damaged` if it has another.
    pub(crate) fn check(&self, entry: &Entry) -> Result<()> {
        if entry.hash() == self.hash(entry.seq)? {
            return Ok(());
        }
        let message = format!(
            "entry {} is not the one that was recorded: its text has another hash. `attestlog verify` names everything that \
             was changed; restore a backup",
            entry.seq
        );
        Err(Error::damaged(message))
    }

    /// The row of an entry that is in no block yet.
    pub(crate) fn tail_row(&self, seq: u64) -> Result<Option<TailRow>> {
        let row = self.tail()?.get(seq).stored()?;
        Ok(row.map(|row| TailRow::from_row(row.value())).transpose()?)
    }

    /// The entry at `seq`, with the hash that stands beside it.
    pub(crate) fn entry(&self, seq: u64) -> Result<Entry> {
        match self.checked(seq)? {
            Some(entry) => Ok(entry),
            None if seq >= self.size => {
                let message = format!("no entry {seq} is recorded; the log has {} entries", self.size);
                Err(Error::new(ErrorKind::NoSuchEntry, message))
            }
            None => Err(Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} was purged"))),
        }
    }

    /// The hash of the entry at `seq`, which a purge may have kept.
    pub(crate) fn hash(&self, seq: u64) -> Result<Hash> {
        if seq < self.state.sealed {
            let hash = self.in_block(seq, |block| Ok(block.find(seq).map(|i| block.hash(i))))?;
            if let Some(hash) = hash.flatten() {
                return Ok(hash);
            }
        } else if let Some(packed) = self.tail_row(seq)? {
            return Ok(packed.hash);
        }
        let purged = || Error::new(ErrorKind::NoSuchEntry, format!("the hash of entry {seq} was purged with it"));
        self.kept(0, seq)?.ok_or_else(purged)
    }

    /// The hash of the purged entry before the one at `seq`, where a block leaves it out because a purge kept it.
    pub(crate) fn hash_before(&self, seq: u64) -> Result<Hash> {
        let before = seq.checked_sub(1).map(|before| self.kept(0, before)).transpose()?.flatten();
        before.ok_or_else(|| Error::damaged("the hash of the entry before it is missing").at(seq))
    }

    /// A Merkle node below level 8 that a purge kept.
    fn kept(&self, level: u8, index: u64) -> Result<Option<Hash>> {
        Ok(self.view.covers()?.get((index << level, level)).stored()?.map(|hash| Hash(hash.value())))
    }
}

impl Nodes for Snapshot {
    type Error = Error;

    /// From level 8 up a node is one row; below, it is what a purge kept, or is made from the hashes in the blocks.
    fn node(&self, level: u8, index: u64) -> Result<Hash> {
        if level == 0 {
            return self.hash(index);
        }
        if level >= NODE_LEVEL {
            let node = self.view.nodes()?.get((level, index)).stored()?;
            let missing = || Error::damaged(format!("the Merkle node {index} of level {level} is missing"));
            return node.map(|hash| Hash(hash.value())).ok_or_else(missing);
        }
        if let Some(hash) = self.kept(level, index)? {
            return Ok(hash);
        }
        Ok(Hash::node(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::{AuditLog, Query, ToolCall};
    use std::sync::Arc;

    #[test]
    fn readers_share_what_they_read_from_until_somebody_writes() {
        let log = AuditLog::in_memory().unwrap();
        let record = |n: u64| log.record(ToolCall::new("conv", "user", "lookup").turn(n)).unwrap();
        record(0);
        let engine = log.engine();
        let (one, other) = (engine.snapshot_of_entries().unwrap(), engine.snapshot_of_entries().unwrap());
        assert!(Arc::ptr_eq(&one.view, &other.view));
        assert!(!Arc::ptr_eq(&one.view, &engine.snapshot().unwrap().view));
        let view = Arc::downgrade(&one.view);
        drop((one, other));
        assert!(view.upgrade().is_some(), "the next reader finds it");
        record(1);
        assert!(view.upgrade().is_none(), "nobody needs it, and it would keep pages from being used again");
        let before = engine.snapshot_of_entries().unwrap();
        record(2);
        let after = engine.snapshot_of_entries().unwrap();
        assert_eq!((before.size + 1, after.state.size), (after.size, after.size));
        assert!(before.find(before.size).unwrap().is_none() && after.find(before.size).unwrap().is_some());
        // What is indexed changes without the memory segments' readers as well.
        log.flush_index().unwrap();
        assert_eq!(log.count(&Query::new().conversation("conv")).unwrap(), 3);
        assert_eq!(before.entry(1).unwrap().seq, 1);
        // Whoever closes finds nobody reading.
        drop((before, after));
        let view = Arc::downgrade(&engine.snapshot_of_entries().unwrap().view);
        let handle = Arc::downgrade(engine.database().unwrap().get().unwrap());
        log.close().unwrap();
        assert!(view.upgrade().is_none() && handle.upgrade().is_none());
    }

    /// What was looked at while somebody wrote may be of before: it serves nobody who knows of what came after.
    #[test]
    fn a_view_that_lacks_what_was_shown_is_not_shared() {
        let log = AuditLog::in_memory().unwrap();
        log.record(ToolCall::new("conv", "user", "lookup")).unwrap();
        let engine = log.engine();
        let database = engine.database().unwrap().get().unwrap().clone();
        let old = engine.snapshot_of_entries().unwrap().view.clone();
        log.record(ToolCall::new("conv", "user", "lookup")).unwrap();
        let size = log.size();
        assert!(!Arc::ptr_eq(&old, &database.shared_view(|_| true).unwrap()), "it was given up");
        let short = |by: u64| database.shared_view(|view| view.state.size == size - by).unwrap();
        assert!(Arc::ptr_eq(&short(0), &short(0)));
        assert!(!Arc::ptr_eq(&short(0), &short(1)), "one that does not serve is made anew");
    }

    #[test]
    fn what_is_wrongly_known_of_blocks_is_only_a_detour() {
        let log = AuditLog::in_memory().unwrap();
        for i in 0..300 {
            log.record(ToolCall::new(format!("conv-{}", i / 9), "user", "lookup")).unwrap();
        }
        let lines = |log: &AuditLog| (0..log.size()).map(|seq| log.entry(seq).unwrap().line()).collect::<Vec<_>>();
        let before = lines(&log);
        let starts = &log.engine().block_locator;
        let known = |seq| starts.find(seq);
        assert!(
            known(0) == Some(0) && known(150).is_some_and(|first| first > 0),
            "reading has found out where blocks are"
        );
        // No block stands under 1 or 140, and the first one does not reach so far.
        starts.learn(0, 300);
        starts.learn(1, 300);
        starts.learn(140, 300);
        assert_eq!(known(149), Some(140));
        assert_eq!(lines(&log), before);
        assert!(known(150).is_some_and(|first| first != 140 && first > 1));
        assert_eq!(known(1), Some(0));
    }
}

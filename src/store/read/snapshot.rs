//! A snapshot: the store at one moment. It never blocks the writer, and does not change.
//!
//! Invariant S1: the size and the memory segments are taken before the read transaction begins, or the transaction is one
//! that covers all of them. So the transaction contains at least what the memory segments do, and all index rows below the
//! first memory segment.

use crate::keys::Mark;
use crate::merkle::Nodes;
use crate::process::Process;
use crate::store::engine::Engine;
use crate::store::engine::mem_index::MemSegment;
use crate::store::file::all_tables;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::open_table::ReadTable;
use crate::store::file::pages::Present;
use crate::store::file::panic_guard::guarded;
use crate::store::file::read_view::ReadView;
use crate::store::file::redb_errors::Stored;
use crate::store::layout::NODE_LEVEL;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::segment::Cuts;
use crate::store::layout::state::State;
use crate::store::read::held::{Held, seeds_of};
use crate::{Entry, Error, ErrorKind, Hash, Result};
use redb::{Key, ReadTransaction, TableDefinition, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The first field: rows that redb has lent must go before the transaction that they are from, or redb stops a writer that takes
    /// their pages.
    held: Mutex<Held>,
    /// What purges kept of the nodes below one of level 8, by first leaf and level; and the index of that.
    covers: Mutex<Option<(u64, Covers)>>,
    _kept: Kept,
    view: Arc<ReadView>,
    /// Entries at or beyond this seq did not exist yet.
    pub size: u64,
    /// The hash of the newest entry.
    pub head: Hash,
    /// The state row of the transaction; it may include more than `size` entries.
    pub state: State,
    /// Index rows at or beyond this seq are not valid; the memory segments begin here.
    pub indexed: u64,
    pub mem_segments: Vec<Arc<MemSegment>>,
    cuts: Cuts,
    /// What the available keys had signed of the store when it was opened.
    pub(crate) mark: Option<Mark>,
    /// The commit that the transaction reads, if its pages are to be checked.
    pub(crate) present: Option<Present>,
    /// Keeps the file open while this snapshot reads it, even when a purge has put another in its place. The last field, so
    /// that the readers are dropped before what they read from.
    pub(crate) database: Arc<DatabaseHandle>,
}

/// Nodes of the tree that purges kept, by first leaf and level.
type Covers = HashMap<(u64, u8), Hash>;

/// Leaks the read transaction in a forked process, which has only a copy of it: to end it, redb would take a lock that a
/// thread of the parent process may have held at the time of the fork.
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

impl Engine {
    /// The current content of the file, in one transaction, without what is only in memory.
    pub(crate) fn stored(&self) -> Result<Snapshot> {
        let database = self.database()?;
        guarded(|| Ok(Snapshot { mark: self.config.mark, ..Snapshot::raw(database.get()?)? }))
    }

    /// Like [`Engine::stored`], for callers that also check the pages. Not for callers that hold the writer lock.
    pub(crate) fn stored_with_pages(&self) -> Result<Snapshot> {
        // redb does not say which commit a transaction reads. While nobody else holds the writer lock it is the one that the
        // header names, and nobody writes to its pages while the transaction exists.
        let _turn = self.write.group_commit.take();
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

    /// The store as it is now, for callers that read only entries and their index: these depend only on the size and on how
    /// far the index reaches, so another reader's transaction that has both serves as well as a new one.
    pub(crate) fn snapshot_of_entries(&self) -> Result<Snapshot> {
        self.looked_at(|database, (size, indexed)| {
            database.shared_view(|view| view.state.size == size && indexed.is_none_or(|seq| view.state.indexed >= seq))
        })
    }

    /// Takes a snapshot with the view that `view` returns for the size and the start of the memory segments.
    fn looked_at(
        &self,
        view: impl FnOnce(&DatabaseHandle, (u64, Option<u64>)) -> Result<Arc<ReadView>>,
    ) -> Result<Snapshot> {
        self.config.process.check()?;
        let (size, head, mem_segments) = {
            let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
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
                mark: self.config.mark,
                ..Snapshot::of(view, &database)?
            })
        })
    }
}

impl Snapshot {
    /// A snapshot of the transaction alone, without memory segments.
    pub(crate) fn raw(database: &Arc<DatabaseHandle>) -> Result<Snapshot> {
        Snapshot::of(Arc::new(database.view()?), database)
    }

    fn of(view: Arc<ReadView>, database: &Arc<DatabaseHandle>) -> Result<Snapshot> {
        let state = view.state.clone();
        let cuts = state.cuts()?;
        Ok(Snapshot {
            held: Mutex::default(),
            covers: Mutex::default(),
            _kept: Kept { view: view.clone(), process: Process::this() },
            view,
            database: database.clone(),
            present: None,
            size: state.size,
            head: state.head,
            indexed: state.indexed,
            state,
            mem_segments: Vec::new(),
            cuts,
            mark: None,
        })
    }

    /// Refuses a store with tables that this program does not know.
    pub(crate) fn check_tables(&self) -> Result<()> {
        all_tables::check_known(&self.view.txn)
    }

    /// Fails if another program has overwritten the file since.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.database.check_unchanged()
    }

    /// The snapshot's read transaction.
    pub(crate) fn transaction(&self) -> &ReadTransaction {
        &self.view.txn
    }

    /// Opens a table in the transaction.
    pub(crate) fn table<K: Key, V: Value>(&self, table: TableDefinition<'_, K, V>) -> Result<ReadTable<K, V>> {
        ReadTable::open(&self.view.txn, table)
    }

    pub(crate) fn terms(&self) -> Result<&ReadTable<(u8, &'static [u8]), u64>> {
        self.view.terms()
    }

    pub(crate) fn postings(&self) -> Result<&ReadTable<(u8, u64, u64), &'static [u8]>> {
        self.view.postings()
    }

    pub(crate) fn zones(&self) -> Result<&ReadTable<(u8, u64), (i64, i64)>> {
        self.view.zones()
    }

    pub(crate) fn open_tables(&self) -> Result<()> {
        all_tables::open_all(&self.view.txn)
    }

    pub(crate) fn unfinished_calls(&self) -> Result<&ReadTable<u64, ()>> {
        self.view.unfinished()
    }

    pub(crate) fn purges(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.view.purges()
    }

    /// The tables as this snapshot sees them.
    pub(crate) fn view(&self) -> &ReadView {
        &self.view
    }

    /// How the log is cut into segments.
    pub(crate) fn cuts(&self) -> Cuts {
        self.cuts
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seeds of the segment that begins at `start`.
    pub(crate) fn seeds(&self, start: u64) -> Result<Seeds> {
        seeds_of(&self.view, start)
    }

    /// Reads the stored entry at `seq`, with its hash and the hash before it, unless that is among those that a purge kept; `None`
    /// where it was purged.
    ///
    /// Invariant B7: what leads to an entry does not decide whether it is there. If directory, block and leaf hashes do not agree about
    /// it, reading it is an error, and never the answer that it is gone.
    pub(crate) fn read<T>(
        &self,
        seq: u64,
        read: impl FnOnce(Hash, Option<Hash>, EntryRecord<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut held = self.held();
        if seq >= self.state.sealed {
            return held.tail(&self.view, seq, |entry| {
                let part = entry.part().map_err(|e| Error::from(e).at(seq))?;
                read(entry.hash, Some(entry.prev), part)
            });
        }
        let leaf = held.leaf(&self.view, self.cuts, seq)?;
        let block = held.block_of(&self.view, self.cuts, seq)?;
        match (leaf, block) {
            (None, None) => Ok(None),
            (Some((hash, prev)), Some(key)) => {
                held.record(&self.view, self.cuts, (seq, key), |record| read(hash, prev, record)).map(Some)
            }
            (Some(_), None) => Err(Error::damaged(format!("the directory of its segment does not have entry {seq}"))),
            (None, Some(_)) => Err(Error::damaged(format!("the hash of entry {seq} is missing"))),
        }
    }

    /// The hash of the entry at `seq`, if the entry is there.
    pub(crate) fn leaf(&self, seq: u64) -> Result<Option<Hash>> {
        if seq >= self.state.sealed {
            return self.held().tail(&self.view, seq, |entry| Ok(entry.hash));
        }
        Ok(self.held().leaf(&self.view, self.cuts, seq)?.map(|(hash, _)| hash))
    }

    /// The entry at `seq`; `None` where it was purged.
    pub(crate) fn find(&self, seq: u64) -> Result<Option<Entry>> {
        Ok(self.find_beside(seq)?.map(|(entry, _)| entry))
    }

    /// The entry at `seq`, with the hash stored with it; `None` where it was purged.
    pub(crate) fn find_beside(&self, seq: u64) -> Result<Option<(Entry, Hash)>> {
        if seq >= self.size {
            return Ok(None);
        }
        let found = self.read(seq, |hash, prev, record| {
            let body = record.body().map_err(|e| Error::from(e).at(seq))?;
            Ok((prev, hash, body))
        })?;
        let Some((prev, hash, body)) = found else { return Ok(None) };
        let prev = match prev {
            Some(prev) => prev,
            None => self.hash_before(seq)?,
        };
        Ok(Some((Entry { seq, prev, body }, hash)))
    }

    /// Like [`Snapshot::find`], but also checks the entry against the hash stored with it.
    ///
    /// Invariant V7: whatever is decided, derived, signed or shown as proof is read through here. The tree consists of the
    /// stored hashes, so it would still vouch for an entry whose text was changed, and what follows from the changed text (an
    /// index row, a purge, a policy in force) would be signed as if it followed from the log.
    pub(crate) fn checked(&self, seq: u64) -> Result<Option<Entry>> {
        let Some((entry, hash)) = self.find_beside(seq)? else { return Ok(None) };
        self.check_against(&entry, hash)?;
        Ok(Some(entry))
    }

    /// Checks that an entry has the hash that is stored with it.
    ///
    /// # Errors
    /// `Damaged` if it has another.
    pub(crate) fn check_against(&self, entry: &Entry, hash: Hash) -> Result<()> {
        if entry.hash() == hash {
            return Ok(());
        }
        let message = format!(
            "entry {} is not the one that was recorded: its text has another hash. `attestlog verify` names everything that \
             was changed; restore a backup",
            entry.seq
        );
        Err(Error::damaged(message).about(entry.seq))
    }

    /// The entry at `seq`, checked against the hash stored with it.
    pub(crate) fn entry(&self, seq: u64) -> Result<Entry> {
        self.checked(seq)?.ok_or_else(|| self.none(seq))
    }

    /// The error that there is no entry at `seq`, with the reason.
    pub(crate) fn none(&self, seq: u64) -> Error {
        let message = match seq >= self.size {
            true => format!("no entry {seq} is recorded; the log has {} entries", self.size),
            false => format!("entry {seq} was purged"),
        };
        Error::new(ErrorKind::NoSuchEntry, message)
    }

    /// The hash of the entry at `seq`; for a purged entry, if the purge kept it.
    pub(crate) fn hash(&self, seq: u64) -> Result<Hash> {
        if let Some(hash) = self.leaf(seq)? {
            return Ok(hash);
        }
        let purged = || Error::new(ErrorKind::NoSuchEntry, format!("the hash of entry {seq} was purged with it"));
        self.kept(0, seq)?.ok_or_else(purged)
    }

    /// The hash of the purged entry before the one at `seq`, which its row omits because the purge kept it.
    pub(crate) fn hash_before(&self, seq: u64) -> Result<Hash> {
        let before = seq.checked_sub(1).map(|before| self.kept(0, before)).transpose()?.flatten();
        before.ok_or_else(|| Error::damaged("the hash of the entry before it is missing").at(seq))
    }

    /// A Merkle node below level 8 that a purge kept. Whoever asks for one asks for others below the same node of level 8, so these
    /// are read at once.
    fn kept(&self, level: u8, index: u64) -> Result<Option<Hash>> {
        let first = index << level;
        let group = first >> NODE_LEVEL;
        let mut covers = self.covers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *covers {
            Some((of, known)) if *of == group => known,
            other => {
                let range = (group << NODE_LEVEL, 0)..((group + 1) << NODE_LEVEL, 0);
                let mut found = Covers::new();
                for row in self.view.covers()?.range(range).stored()? {
                    let (key, hash) = row.stored()?;
                    found.insert(key.value(), Hash(hash.value()));
                }
                &mut other.insert((group, found)).1
            }
        };
        Ok(known.get(&(first, level)).copied())
    }
}

impl Nodes for Snapshot {
    type Error = Error;

    /// Nodes from level 8 up have a row each; lower ones were kept by a purge, or are computed from the leaf hashes.
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
    use crate::merkle;
    use crate::store::NODE_LEVEL;
    use crate::store::file::open_table::counted::look_ups;
    use crate::store::log::OpenStore;
    use crate::{Query, ToolCall};
    use std::sync::Arc;

    #[test]
    fn readers_share_what_they_read_from_until_somebody_writes() {
        let log = OpenStore::in_memory().unwrap();
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
        // The index can advance without a change in size.
        log.flush_index().unwrap();
        assert_eq!(log.count(&Query::new().conversation("conv")).unwrap(), 3);
        assert_eq!(before.entry(1).unwrap().seq, 1);
        // When the store is closed, no shared view must be left.
        drop((before, after));
        let view = Arc::downgrade(&engine.snapshot_of_entries().unwrap().view);
        let handle = Arc::downgrade(engine.database().unwrap().get().unwrap());
        log.close().unwrap();
        assert!(view.upgrade().is_none() && handle.upgrade().is_none());
    }

    /// An entry of a segment is read from one row each of the directories, the blocks, the hashes and the seeds; the next one that lies
    /// with it from none. A proof needs one or two rows of hashes for its levels below 8, and, where there was a purge, one look at what
    /// that kept. With a block for each run of seqs a proof read eight.
    #[test]
    fn an_entry_and_a_proof_take_few_look_ups() {
        let log = crate::Options::new().segment_entries(1_792).store_in_memory().unwrap();
        let call = |i: u64| ToolCall::new(format!("c{}", i / 10), format!("u{}", i % 20), "look").turn(i);
        log.record_batch((0..8_000).map(call)).unwrap();
        let engine = log.engine();
        let size = engine.snapshot().unwrap().state.sealed;
        assert!(size > 7_000);
        let mut most = (0, 0);
        for seq in (0..size).step_by(97) {
            let (entry, _) = look_ups(|| engine.snapshot().unwrap().entry(seq).unwrap());
            // The state row is read with the snapshot.
            let snapshot = engine.snapshot().unwrap();
            let (few, again) = look_ups(|| snapshot.entry(seq).unwrap());
            assert!(few <= 4 && entry <= 5, "entry {seq}: {few} look-ups");
            let (none, _) = look_ups(|| assert!(snapshot.entry(seq).unwrap() == again));
            assert_eq!(none, 0, "entry {seq}");
            let snapshot = engine.snapshot().unwrap();
            let (lower, _) = look_ups(|| merkle::inclusion_proof(&snapshot, seq, size).unwrap());
            let upper = u64::from(64 - (size >> NODE_LEVEL).leading_zeros()) + 4;
            most = (most.0.max(few), most.1.max(lower.saturating_sub(upper)));
            assert!(lower <= upper + 2, "entry {seq}: {lower} look-ups, of which {upper} are nodes with rows");
        }
        println!("at most {} look-ups for an entry, {} for the lower levels of a proof", most.0, most.1);
    }

    /// A view that was opened during a write may be of the state before it: it must not serve readers who need the newer
    /// state.
    #[test]
    fn a_view_that_lacks_what_was_shown_is_not_shared() {
        let log = OpenStore::in_memory().unwrap();
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
}

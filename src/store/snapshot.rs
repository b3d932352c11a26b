//! A snapshot: the store as it was at one moment. It never blocks the writer and nothing is added to it.
//!
//! Invariant S1: what is known of the newest entries is taken before the read transaction begins. The transaction
//! therefore holds at least what the generations do, and index rows below the first generation are all in it.

use super::block::Block;
use super::guard::guarded;
use super::part::{Packed, Part};
use super::pending::Generation;
use super::sound::Handle;
use super::starts::Starts;
use super::state::{STATE_KEY, State};
use super::tables::{self, Stored};
use super::{NODE_LEVEL, Shared};
use crate::merkle::Nodes;
use crate::{Entry, Error, ErrorKind, Hash, Result};
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, Value};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A table that may be open already.
type Opened<K, V> = OnceLock<ReadOnlyTable<K, V>>;

/// The store at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) txn: ReadTransaction,
    /// Keeps the file open for as long as this reads it, also when a purge has put another in its place.
    _database: Arc<Handle>,
    /// Entries from this seq on were not there yet.
    pub size: u64,
    /// The hash of the newest entry.
    pub head: Hash,
    /// What the transaction's state row said; it may know of more than `size` entries.
    pub state: State,
    /// Index rows at or beyond this seq do not count; the generations begin here.
    pub indexed: u64,
    pub generations: Vec<Arc<Generation>>,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
    /// Opened when they are first asked for: a query needs few of them, and a verification asks for each row.
    tail: Opened<u64, &'static [u8]>,
    nodes: Opened<(u8, u64), [u8; 32]>,
    covers: Opened<(u64, u8), [u8; 32]>,
    terms: Opened<(u8, &'static [u8]), u64>,
    postings: Opened<(u8, u64, u64), &'static [u8]>,
    zones: Opened<(u8, u64), (i64, i64)>,
    last: Mutex<Last>,
    starts: Arc<Starts>,
}

/// The block that was read last. Reading one entry copies nothing else of its block; who comes back to a block gets it
/// kept for the rest.
#[derive(Debug, Default)]
enum Last {
    #[default]
    None,
    /// Its first seq.
    Seen(u64),
    Held(Box<Block<'static>>),
}

impl Shared {
    /// What the file holds now, all of one moment, without what is only in memory.
    pub(crate) fn stored(&self) -> Result<Snapshot> {
        let database = self.database()?;
        guarded(|| Ok(Snapshot { starts: self.starts.clone(), ..Snapshot::raw(database.get()?)? }))
    }

    /// The store as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let (size, head, generations) = {
            let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
            (published.size, published.head, published.generations.clone())
        };
        let database = self.database()?.get()?.clone();
        guarded(|| {
            let txn = database.begin_read().stored()?;
            let state = read_state(&txn)?;
            let indexed = generations.first().map_or(state.indexed.min(size), |g| g.from);
            Ok(Snapshot {
                blocks: txn.open_table(tables::BLOCKS).stored()?,
                tail: OnceLock::new(),
                nodes: OnceLock::new(),
                covers: OnceLock::new(),
                terms: OnceLock::new(),
                postings: OnceLock::new(),
                zones: OnceLock::new(),
                txn,
                _database: database.clone(),
                size,
                head,
                state,
                indexed,
                generations,
                last: Mutex::default(),
                starts: self.starts.clone(),
            })
        })
    }
}

/// The state row of a read transaction.
pub(crate) fn read_state(txn: &ReadTransaction) -> Result<State> {
    let meta = txn.open_table(tables::META).stored()?;
    let bytes = tables::get_bytes(&meta, STATE_KEY)?;
    State::decode(&bytes.ok_or_else(|| Error::new(ErrorKind::NotAStore, "the file is no attestlog store"))?)
}

impl Snapshot {
    /// A snapshot of what the transaction holds, before anything is in memory.
    pub(crate) fn raw(database: &Arc<Handle>) -> Result<Snapshot> {
        let txn = database.begin_read().stored()?;
        let state = read_state(&txn)?;
        Ok(Snapshot {
            blocks: txn.open_table(tables::BLOCKS).stored()?,
            tail: OnceLock::new(),
            nodes: OnceLock::new(),
            covers: OnceLock::new(),
            terms: OnceLock::new(),
            postings: OnceLock::new(),
            zones: OnceLock::new(),
            txn,
            _database: database.clone(),
            size: state.size,
            head: state.head,
            indexed: state.indexed,
            state,
            generations: Vec::new(),
            last: Mutex::default(),
            starts: Arc::default(),
        })
    }

    /// Refuses a store with tables that this program does not know.
    pub(crate) fn check_tables(&self) -> Result<()> {
        tables::check_known(&self.txn)
    }

    /// The transaction that everything is read in.
    pub(super) fn transaction(&self) -> &ReadTransaction {
        &self.txn
    }

    /// A table of the transaction.
    pub(crate) fn table<K: Key, V: Value>(&self, table: TableDefinition<'_, K, V>) -> Result<ReadOnlyTable<K, V>> {
        self.txn.open_table(table).stored()
    }

    fn opened<'a, K: Key, V: Value>(
        &self,
        cell: &'a Opened<K, V>,
        table: TableDefinition<'_, K, V>,
    ) -> Result<&'a ReadOnlyTable<K, V>> {
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.table(table)?;
        Ok(cell.get_or_init(|| open))
    }

    pub(crate) fn terms(&self) -> Result<&ReadOnlyTable<(u8, &'static [u8]), u64>> {
        self.opened(&self.terms, tables::TERMS)
    }

    pub(crate) fn postings(&self) -> Result<&ReadOnlyTable<(u8, u64, u64), &'static [u8]>> {
        self.opened(&self.postings, tables::POSTINGS)
    }

    pub(crate) fn zones(&self) -> Result<&ReadOnlyTable<(u8, u64), (i64, i64)>> {
        self.opened(&self.zones, tables::ZONES)
    }

    pub(crate) fn blocks(&self) -> &ReadOnlyTable<u64, &'static [u8]> {
        &self.blocks
    }

    pub(crate) fn tail(&self) -> Result<&ReadOnlyTable<u64, &'static [u8]>> {
        self.opened(&self.tail, tables::TAIL)
    }

    /// Reads something of the block in which the entry at `seq` would be.
    pub(super) fn in_block<T>(&self, seq: u64, read: impl FnOnce(&Block<'_>) -> Result<T>) -> Result<Option<T>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Last::Held(block) = &*last
            && block.spans(seq)
        {
            return read(block).map(Some);
        }
        let done = |first: u64, block: Block<'_>| {
            let done = read(&block)?;
            let in_place = block.runs().first().is_some_and(|r| r.first == first);
            *last = match *last {
                Last::Seen(seen) if seen == first && in_place => Last::Held(Box::new(block.into_owned())),
                _ => Last::Seen(first),
            };
            Ok(Some(done))
        };
        if let Some(first) = self.starts.find(seq) {
            let row = self.blocks.get(first).stored()?;
            match row.as_ref().map(|row| Block::decode(row.value())) {
                Some(Ok(block)) if block.spans(seq) => return done(first, block),
                _ => self.starts.forget(first),
            }
        }
        let Some(row) = self.blocks.range(..=seq).stored()?.next_back() else { return Ok(None) };
        let (key, value) = row.stored()?;
        let first = key.value();
        let block = Block::decode(value.value()).map_err(|e| Error::from(e).at(format!("block {first}")))?;
        if block.spans(seq)
            && let Some(last) = block.runs().last()
        {
            self.starts.learn(first, last.first + u64::from(last.count));
        }
        done(first, block)
    }

    /// The entry at `seq`; `None` where it was purged.
    pub(crate) fn find(&self, seq: u64) -> Result<Option<Entry>> {
        if seq >= self.size {
            return Ok(None);
        }
        let body = |part: Part<'_>| part.body().map_err(|e| Error::from(e).at(seq));
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

    /// The row of an entry that is in no block yet.
    pub(crate) fn tail_row(&self, seq: u64) -> Result<Option<Packed>> {
        let row = self.tail()?.get(seq).stored()?;
        Ok(row.map(|row| Packed::from_row(row.value())).transpose()?)
    }

    /// The entry at `seq`.
    pub(crate) fn entry(&self, seq: u64) -> Result<Entry> {
        match self.find(seq)? {
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
        let covers = self.opened(&self.covers, tables::COVERS)?;
        Ok(covers.get((index << level, level)).stored()?.map(|hash| Hash(hash.value())))
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
            let node = self.opened(&self.nodes, tables::NODES)?.get((level, index)).stored()?;
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
    use crate::{AuditLog, ToolCall};

    #[test]
    fn what_is_wrongly_known_of_blocks_is_only_a_detour() {
        let log = AuditLog::in_memory().unwrap();
        for i in 0..300 {
            log.record(ToolCall::new(format!("conv-{}", i / 9), "user", "lookup")).unwrap();
        }
        let lines = |log: &AuditLog| (0..log.size()).map(|seq| log.entry(seq).unwrap().line()).collect::<Vec<_>>();
        let before = lines(&log);
        let starts = &log.shared().starts;
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

//! A read transaction on the file, with the tables that are open in it.
//!
//! Beginning a transaction, reading the state and opening tables by name takes longer than a query with two hits. So readers
//! share the transaction of an earlier reader as long as nothing was written: [`ReadViews`] keeps it, and releases it as soon
//! as somebody takes the database to write to it, since an old transaction keeps pages from being reused.

use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::state::{STATE_KEY, State};
use crate::{Error, ErrorKind, Result};
use redb::{Database, Key, ReadTransaction, ReadableDatabase, TableDefinition, Value};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A table that is opened on first use.
type Opened<K, V> = OnceLock<ReadTable<K, V>>;

/// A read transaction and what it sees of the file.
#[derive(Debug)]
pub(crate) struct ReadView {
    pub txn: ReadTransaction,
    /// The decoded state row.
    pub state: State,
    /// Opened on first use: a query needs few of these tables, and a verification asks for each row.
    tail: Opened<u64, &'static [u8]>,
    blocks: Opened<u64, &'static [u8]>,
    leaves: Opened<u64, &'static [u8]>,
    directories: Opened<u64, &'static [u8]>,
    seeds: Opened<u64, &'static [u8]>,
    nodes: Opened<(u8, u64), [u8; 32]>,
    covers: Opened<(u64, u8), [u8; 32]>,
    terms: Opened<(u8, &'static [u8]), u64>,
    postings: Opened<(u8, u64, u64), &'static [u8]>,
    zones: Opened<(u8, u64), (i64, i64)>,
    unfinished: Opened<u64, ()>,
    purges: Opened<u64, &'static [u8]>,
}

impl ReadView {
    /// A view of the database as it is now.
    pub(crate) fn new(database: &Database) -> Result<ReadView> {
        let txn = database.begin_read().stored()?;
        Ok(ReadView {
            state: read_state(&txn)?,
            txn,
            tail: OnceLock::new(),
            blocks: OnceLock::new(),
            leaves: OnceLock::new(),
            directories: OnceLock::new(),
            seeds: OnceLock::new(),
            nodes: OnceLock::new(),
            covers: OnceLock::new(),
            terms: OnceLock::new(),
            postings: OnceLock::new(),
            zones: OnceLock::new(),
            unfinished: OnceLock::new(),
            purges: OnceLock::new(),
        })
    }

    fn opened<'a, K: Key, V: Value>(
        &self,
        cell: &'a Opened<K, V>,
        table: TableDefinition<'_, K, V>,
    ) -> Result<&'a ReadTable<K, V>> {
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = ReadTable::open(&self.txn, table)?;
        Ok(cell.get_or_init(|| open))
    }

    pub(crate) fn tail(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.tail, tables::TAIL)
    }

    pub(crate) fn blocks(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.blocks, tables::BLOCKS)
    }

    pub(crate) fn leaves(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.leaves, tables::LEAVES)
    }

    pub(crate) fn directories(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.directories, tables::DIRECTORIES)
    }

    pub(crate) fn seeds(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.seeds, tables::SEEDS)
    }

    pub(crate) fn nodes(&self) -> Result<&ReadTable<(u8, u64), [u8; 32]>> {
        self.opened(&self.nodes, tables::NODES)
    }

    pub(crate) fn covers(&self) -> Result<&ReadTable<(u64, u8), [u8; 32]>> {
        self.opened(&self.covers, tables::COVERS)
    }

    pub(crate) fn terms(&self) -> Result<&ReadTable<(u8, &'static [u8]), u64>> {
        self.opened(&self.terms, tables::TERMS)
    }

    pub(crate) fn postings(&self) -> Result<&ReadTable<(u8, u64, u64), &'static [u8]>> {
        self.opened(&self.postings, tables::POSTINGS)
    }

    pub(crate) fn zones(&self) -> Result<&ReadTable<(u8, u64), (i64, i64)>> {
        self.opened(&self.zones, tables::ZONES)
    }

    pub(crate) fn unfinished(&self) -> Result<&ReadTable<u64, ()>> {
        self.opened(&self.unfinished, tables::UNFINISHED)
    }

    pub(crate) fn purges(&self) -> Result<&ReadTable<u64, &'static [u8]>> {
        self.opened(&self.purges, tables::PURGES)
    }
}

/// The state row of a read transaction.
pub(crate) fn read_state(txn: &ReadTransaction) -> Result<State> {
    let bytes = ReadTable::open(txn, tables::META)?.bytes(STATE_KEY)?;
    State::decode(&bytes.ok_or_else(|| Error::new(ErrorKind::NotAStore, "the file is not an attestlog store"))?)
}

/// The newest view of a database, unless somebody may have written to it since.
#[derive(Debug, Default)]
pub(crate) struct ReadViews(Mutex<Option<Arc<ReadView>>>);

impl ReadViews {
    fn last(&self) -> MutexGuard<'_, Option<Arc<ReadView>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest view if it `serves`, otherwise a new one.
    ///
    /// A view that is created during a write shows the state before or after it and is kept all the same, so the caller has
    /// to check whether it serves. It is released before the next write.
    pub(crate) fn get(&self, database: &Database, serves: impl Fn(&ReadView) -> bool) -> Result<Arc<ReadView>> {
        let last = self.last().clone();
        if let Some(view) = last.filter(|view| serves(view)) {
            return Ok(view);
        }
        let view = guarded(|| ReadView::new(database)).map(Arc::new)?;
        // Dropped outside the lock: ending a transaction is redb's work.
        let _before = self.last().replace(view.clone());
        Ok(view)
    }

    /// Leaks the view instead of ending its transaction, in a forked process that has only a copy of it.
    pub(crate) fn forget(&mut self) {
        std::mem::forget(self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Releases the view before a write.
    pub(crate) fn give_up(&self) {
        let _last = self.last().take();
    }
}

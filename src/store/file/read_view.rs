//! What one read transaction sees of the file, with the tables that are open in it.
//!
//! Beginning a transaction, reading the state and opening tables by their names takes longer than a query of two hits does. So
//! whoever reads entries takes the transaction of whoever read before, for as long as nothing was written: [`ReadViews`] keeps it,
//! and gives it up as soon as somebody takes the database to write to it, since an old transaction keeps pages from being used
//! again.

use crate::store::file::panic_guard::guarded;
use crate::store::file::tables::{self, Stored};
use crate::store::layout::state::{STATE_KEY, State};
use crate::{Error, ErrorKind, Result};
use redb::{Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, Value};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A table that may be open already.
type Opened<K, V> = OnceLock<ReadOnlyTable<K, V>>;

/// What one read transaction sees of the file.
#[derive(Debug)]
pub(crate) struct ReadView {
    pub txn: ReadTransaction,
    /// What its state row says.
    pub state: State,
    pub blocks: ReadOnlyTable<u64, &'static [u8]>,
    /// Opened when they are first asked for: a query needs few of them, and a verification asks for each row.
    tail: Opened<u64, &'static [u8]>,
    nodes: Opened<(u8, u64), [u8; 32]>,
    covers: Opened<(u64, u8), [u8; 32]>,
    terms: Opened<(u8, &'static [u8]), u64>,
    postings: Opened<(u8, u64, u64), &'static [u8]>,
    zones: Opened<(u8, u64), (i64, i64)>,
    unfinished: Opened<u64, ()>,
}

impl ReadView {
    /// Of the database as it is now.
    pub(crate) fn new(database: &Database) -> Result<ReadView> {
        let txn = database.begin_read().stored()?;
        Ok(ReadView {
            state: read_state(&txn)?,
            blocks: txn.open_table(tables::BLOCKS).stored()?,
            txn,
            tail: OnceLock::new(),
            nodes: OnceLock::new(),
            covers: OnceLock::new(),
            terms: OnceLock::new(),
            postings: OnceLock::new(),
            zones: OnceLock::new(),
            unfinished: OnceLock::new(),
        })
    }

    fn opened<'a, K: Key, V: Value>(
        &self,
        cell: &'a Opened<K, V>,
        table: TableDefinition<'_, K, V>,
    ) -> Result<&'a ReadOnlyTable<K, V>> {
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.txn.open_table(table).stored()?;
        Ok(cell.get_or_init(|| open))
    }

    pub(crate) fn tail(&self) -> Result<&ReadOnlyTable<u64, &'static [u8]>> {
        self.opened(&self.tail, tables::TAIL)
    }

    pub(crate) fn nodes(&self) -> Result<&ReadOnlyTable<(u8, u64), [u8; 32]>> {
        self.opened(&self.nodes, tables::NODES)
    }

    pub(crate) fn covers(&self) -> Result<&ReadOnlyTable<(u64, u8), [u8; 32]>> {
        self.opened(&self.covers, tables::COVERS)
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

    pub(crate) fn unfinished(&self) -> Result<&ReadOnlyTable<u64, ()>> {
        self.opened(&self.unfinished, tables::UNFINISHED)
    }
}

/// The state row of a read transaction.
pub(crate) fn read_state(txn: &ReadTransaction) -> Result<State> {
    let meta = txn.open_table(tables::META).stored()?;
    let bytes = tables::get_bytes(&meta, STATE_KEY)?;
    State::decode(&bytes.ok_or_else(|| Error::new(ErrorKind::NotAStore, "the file is no attestlog store"))?)
}

/// The view that was last made of a database, unless somebody may have written to it since.
#[derive(Debug, Default)]
pub(crate) struct ReadViews(Mutex<Option<Arc<ReadView>>>);

impl ReadViews {
    fn last(&self) -> MutexGuard<'_, Option<Arc<ReadView>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one where it `serves`, otherwise a new one.
    ///
    /// One that is made while somebody writes is of before or after that and is kept all the same, so the caller has to see
    /// whether it serves. It is given up before the next write.
    pub(crate) fn get(&self, database: &Database, serves: impl Fn(&ReadView) -> bool) -> Result<Arc<ReadView>> {
        let last = self.last().clone();
        if let Some(view) = last.filter(|view| serves(view)) {
            return Ok(view);
        }
        let view = guarded(|| ReadView::new(database)).map(Arc::new)?;
        // Out of the lock: giving up a transaction is redb's work.
        let _before = self.last().replace(view.clone());
        Ok(view)
    }

    /// Keeps what is there from being given up, in a process that has only a copy of it.
    pub(crate) fn forget(&mut self) {
        std::mem::forget(self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Somebody is going to write.
    pub(crate) fn give_up(&self) {
        let _last = self.last().take();
    }
}

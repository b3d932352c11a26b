//! Tables that may not be there. A table is made with its first row, so one that is not in the file reads as an empty one: whatever
//! should be in it is missing to whoever looks for it, as if its rows had been removed.

use crate::Result;
use crate::store::file::redb_errors::Stored;
use redb::{
    AccessGuard, Key, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, StorageError, Table, TableDefinition,
    TableError, TableHandle, Value, WriteTransaction,
};
use std::borrow::Borrow;
use std::iter::Flatten;
use std::ops::RangeBounds;

/// A table, or an empty one in place of one that was never made.
#[derive(Debug)]
pub(crate) struct ReadTable<K: Key + 'static, V: Value + 'static>(Option<ReadOnlyTable<K, V>>);

/// Rows of a table, from either end.
pub(crate) type Rows<K, V> = Flatten<std::option::IntoIter<redb::Range<'static, K, V>>>;

impl<K: Key + 'static, V: Value + 'static> ReadTable<K, V> {
    /// Opens the table in this transaction.
    ///
    /// # Errors
    /// `NotAStore` if it is in the file with other types; what reading the file can fail with.
    pub(crate) fn open(txn: &ReadTransaction, table: TableDefinition<'_, K, V>) -> Result<ReadTable<K, V>> {
        match txn.open_table(table) {
            Ok(open) => Ok(ReadTable(Some(open))),
            Err(TableError::TableDoesNotExist(_)) => Ok(ReadTable(None)),
            Err(e) => Err(e).stored(),
        }
    }

    /// The value of this key.
    pub(crate) fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'static, V>>, StorageError> {
        #[cfg(test)]
        counted::note(self.0.is_some());
        self.0.as_ref().map_or(Ok(None), |table| table.get(key))
    }

    /// The rows with keys in this range, in order.
    pub(crate) fn range<'a, KR: Borrow<K::SelfType<'a>>>(
        &self,
        range: impl RangeBounds<KR>,
    ) -> Result<Rows<K, V>, StorageError> {
        #[cfg(test)]
        counted::note(self.0.is_some());
        let rows = self.0.as_ref().map(|table| table.range(range)).transpose()?;
        Ok(rows.into_iter().flatten())
    }

    /// All rows, in order.
    pub(crate) fn iter(&self) -> Result<Rows<K, V>, StorageError> {
        self.range::<K::SelfType<'_>>(..)
    }

    /// How many rows the table says that it has.
    pub(crate) fn len(&self) -> Result<u64, StorageError> {
        self.0.as_ref().map_or(Ok(0), ReadableTableMetadata::len)
    }
}

impl<K: Key + 'static> ReadTable<K, &'static [u8]> {
    /// The value of this key, as owned bytes.
    pub(crate) fn bytes(&self, key: K::SelfType<'_>) -> Result<Option<Vec<u8>>> {
        Ok(self.get(key).stored()?.map(|row| row.value().to_vec()))
    }
}

/// Opens the table for writing if it is in the file: for whoever only removes rows.
pub(crate) fn open_made<'t, K: Key + 'static, V: Value + 'static>(
    txn: &'t WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<Table<'t, K, V>>> {
    match txn.list_tables().stored()?.any(|made| made.name() == table.name()) {
        true => txn.open_table(table).stored().map(Some),
        false => Ok(None),
    }
}

/// How often tests have looked rows up.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        static LOOKED_UP: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn note(made: bool) {
        LOOKED_UP.set(LOOKED_UP.get() + u64::from(made));
    }

    /// How many times this thread looks for a key, or for the first of some keys, in a table while it does this.
    pub(crate) fn look_ups<T>(work: impl FnOnce() -> T) -> (u64, T) {
        let before = LOOKED_UP.get();
        let done = work();
        (LOOKED_UP.get() - before, done)
    }
}

//! A check for tests: that a rewritten file has the rows that a purge carries over as they are.

use crate::store::file::open_table::ReadTable;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{self, Copying, EachTable, InPurge};
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Result};
use redb::{Key, TableDefinition, TableHandle, Value};

/// Compares the tables that are carried over, as this transaction of the new file has them, with their source.
pub(crate) fn check(snapshot: &Snapshot, txn: redb::ReadTransaction) -> Result<()> {
    tables::each(&mut SameTables { snapshot, txn })
}

/// Compares what was carried over with its source.
struct SameTables<'t> {
    snapshot: &'t Snapshot,
    txn: redb::ReadTransaction,
}

impl EachTable for SameTables<'_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<()> {
        // Purged calls are missing from the one, and the state row of the other may be older.
        let differs = [tables::UNFINISHED.name(), tables::META.name()].contains(&table.name());
        if differs || copying.purge == InPurge::Own {
            return Ok(());
        }
        let ours = ReadTable::open(&self.txn, table)?;
        let theirs = self.snapshot.table(table)?;
        let mut rows = ours.iter().stored()?;
        for row in theirs.iter().stored()? {
            let (key, value) = row.stored()?;
            let same = rows.next().transpose().stored()?.is_some_and(|(other_key, other)| {
                K::compare(K::as_bytes(&other_key.value()).as_ref(), K::as_bytes(&key.value()).as_ref()).is_eq()
                    && V::as_bytes(&other.value()).as_ref() == V::as_bytes(&value.value()).as_ref()
            });
            if !same {
                return Err(Error::damaged(format!("a row of {table} was not carried over")));
            }
        }
        match rows.next() {
            None => Ok(()),
            Some(_) => Err(Error::damaged(format!("a row of {table} was not taken away"))),
        }
    }
}

//! Checks that look-ups by key find the same rows as a walk through the table.
//!
//! Invariant V4: a store is not called clean unless every access path that answers use leads to the rows that verification
//! walked over. A walk goes from page to page, an answer looks keys up; both find the same rows if the pages are as redb
//! writes them, which `pages` checks for the file. Pages that redb has already cached are checked by looking up every row of
//! the walk by its key [R48].
//!
//! That covers all look-ups, including those of keys without a row and in either direction. Keys rise along the walk, so each
//! occurs once, and a look-up that finds it has reached the page that the walk was in. On the way down a key is compared with
//! the same separators as any other key that leads to the same page, and a key between two others compares with a separator
//! as both do if they compare alike. So a key between two rows of a page leads to that page, and a key between the last row
//! of one page and the first of the next leads to one of these two. Range iteration from there in either direction is checked
//! by samples.

use crate::store::file::all_tables;
use crate::store::file::open_table::ReadTable;
use crate::store::file::pages::{Flaw, Seen};
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{self, Copying, EachTable};
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Result};
use redb::{Key, ReadTransaction, TableDefinition, TableHandle, Value};

/// Ranges are also checked from this many evenly spaced rows of a table, or from all rows if there are fewer.
const RANGES: u64 = 16_384;

/// The greatest distance between sampled rows: less than the number of small rows in a page, so that every page is sampled.
const APART: u64 = 64;

impl Snapshot {
    /// Checks the pages of this snapshot's commit without redb, and reports every flaw.
    pub(crate) fn check_pages(&self, found: &mut dyn FnMut(Flaw)) -> Result<Seen> {
        let present = self.present.as_ref().ok_or_else(|| Error::damaged("which commit is read is not known"))?;
        self.database.check(present, &all_tables::shapes(), found)
    }

    /// Looks up each row of every table, as answers do, and reports the first row of each table that is not found as the walk
    /// saw it.
    pub(crate) fn check_lookups(&self, found: &mut dyn FnMut(Flaw)) -> Result<u64> {
        let mut lookups = Lookups { txn: self.transaction(), found, rows: 0 };
        tables::each(&mut lookups)?;
        Ok(lookups.rows)
    }

    /// The same for the tables of the index.
    ///
    /// # Errors
    /// `Damaged` if look-ups and walk differ.
    pub(crate) fn check_index_lookups(&self) -> Result<()> {
        let mut flaw = None;
        let mut found = |found: Flaw| _ = flaw.get_or_insert(found);
        let mut lookups = Lookups { txn: self.transaction(), found: &mut found, rows: 0 };
        lookups.look_up(tables::TERMS)?;
        lookups.look_up(tables::POSTINGS)?;
        match flaw {
            None => Ok(()),
            Some(flaw) => {
                let table = flaw.table.unwrap_or_default();
                Err(Error::damaged(format!("table {table}: {}; `verify` says more", flaw.what)))
            }
        }
    }
}

struct Lookups<'a> {
    txn: &'a ReadTransaction,
    found: &'a mut dyn FnMut(Flaw),
    rows: u64,
}

impl EachTable for Lookups<'_> {
    type Error = Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        _: Copying,
    ) -> Result<()> {
        self.look_up(table)
    }
}

impl Lookups<'_> {
    fn look_up<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()> {
        let open = ReadTable::open(self.txn, table)?;
        let apart = (open.len().stored()? / RANGES).clamp(1, APART);
        let (mut before, mut this): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for (n, row) in (0u64..).zip(open.iter().stored()?) {
            let (key, value) = row.stored()?;
            std::mem::swap(&mut before, &mut this);
            this.clear();
            this.extend_from_slice(K::as_bytes(&key.value()).as_ref());
            self.rows += 1;
            let before = (n > 0).then_some(&*before);
            let there = open.get(K::from_bytes(&this)).stored()?;
            let what = if before.is_some_and(|before| K::compare(before, &this).is_ge()) {
                Some("does not come after the one before it")
            } else if there
                .is_none_or(|there| V::as_bytes(&there.value()).as_ref() != V::as_bytes(&value.value()).as_ref())
            {
                Some("is not what is found under its key")
            } else if n.is_multiple_of(apart) {
                wrong(&open, before, &this)?
            } else {
                None
            };
            if let Some(what) = what {
                let what = format!("row {n} in the order of a walk {what}");
                (self.found)(Flaw { table: Some(table.name().to_owned()), own: false, at: None, what });
                return Ok(());
            }
        }
        let last = open
            .iter()
            .stored()?
            .next_back()
            .transpose()
            .stored()?
            .map(|(key, _)| K::as_bytes(&key.value()).as_ref().to_vec());
        if last.is_some_and(|last| last != this) {
            let what = "its last row is not the last that a walk meets".to_owned();
            (self.found)(Flaw { table: Some(table.name().to_owned()), own: false, at: None, what });
        }
        Ok(())
    }
}

/// How range iteration differs, if it does, from a walk that found this row after the one with the key `before`.
fn wrong<K: Key + 'static, V: Value + 'static>(
    open: &ReadTable<K, V>,
    before: Option<&[u8]>,
    key: &[u8],
) -> Result<Option<&'static str>> {
    // Queries iterate from a key in both directions.
    let is = |row: Option<std::result::Result<_, _>>, wanted: Option<&[u8]>| -> Result<bool> {
        let row: Option<(redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>)> = row.transpose().stored()?;
        Ok(match (row, wanted) {
            (Some((found, _)), Some(wanted)) => K::as_bytes(&found.value()).as_ref() == wanted,
            (None, None) => true,
            _ => false,
        })
    };
    let mut back = open.range(..=K::from_bytes(key)).stored()?;
    if !is(back.next_back(), Some(key))? || !is(back.next_back(), before)? {
        return Ok(Some("is not found from its key backwards"));
    }
    let mut on = match before {
        Some(before) => open.range(K::from_bytes(before)..).stored()?,
        None => open.range(K::from_bytes(key)..).stored()?,
    };
    if before.is_some() && !is(on.next(), before)? || !is(on.next(), Some(key))? {
        return Ok(Some("is not found from the key before it on"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::storage::Memory;
    use redb::{Builder, ReadableDatabase, StorageBackend};

    const ROWS: u64 = 70_000;
    const TABLE: TableDefinition<'static, u64, u64> = TableDefinition::new("rows");

    /// The flaws that look-ups find in a file with these bytes, and how many rows were looked up.
    fn told(memory: &Memory) -> (Vec<Flaw>, u64) {
        let database = Builder::new().create_with_backend(memory.clone()).unwrap();
        let txn = database.begin_read().unwrap();
        let mut found = Vec::new();
        let mut lookups = Lookups { txn: &txn, found: &mut |flaw| found.push(flaw), rows: 0 };
        lookups.look_up(TABLE).unwrap();
        let rows = lookups.rows;
        (found, rows)
    }

    /// In tables of more than 16,384 rows only some rows were looked up, at most one in 64 of the largest. A key in a branch
    /// page that was too small by one, in memory only, hid the one row that is last in its page, and verification found
    /// nothing unless that row or the next was among those looked up: half of 70,000 rows were not [R48].
    #[test]
    fn no_row_of_a_large_table_can_be_hidden_alone() {
        let memory = Memory::default();
        let database = Builder::new().create_with_backend(memory.clone()).unwrap();
        let txn = database.begin_write().unwrap();
        {
            let mut rows = txn.open_table(TABLE).unwrap();
            (0..ROWS).for_each(|n| drop(rows.insert(n, n * n).unwrap()));
        }
        txn.commit().unwrap();
        drop(database);
        assert_eq!(told(&memory), (vec![], ROWS));
        let mut bytes = vec![0; memory.len().unwrap() as usize];
        memory.read(0, &mut bytes).unwrap();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (mut odd, mut tried) = (0, 0);
        // The branch pages; their keys come after the checksums and numbers of the children.
        for page in (0..bytes.len()).step_by(4096).filter(|page| bytes[*page] == 2) {
            let count = usize::from(bytes[page + 2]) + 256 * usize::from(bytes[page + 3]);
            for at in (0..count).map(|n| page + 8 + 24 * (count + 1) + 8 * n) {
                let key = number(at);
                // Remains of an earlier commit are not part of the tree.
                if !(1..ROWS).contains(&key) || tried > 60 {
                    continue;
                }
                memory.write(at as u64, &(key - 1).to_le_bytes()).unwrap();
                let (found, _) = told(&memory);
                memory.write(at as u64, &key.to_le_bytes()).unwrap();
                let what = format!("row {key} in the order of a walk is not what is found under its key");
                if found.iter().any(|flaw| flaw.what == what) {
                    tried += 1;
                    odd += key % 2;
                } else {
                    assert_eq!(found, [], "{key}");
                    assert!(tried == 0, "row {key} is hidden and nothing is found");
                }
            }
        }
        assert!(tried > 20 && odd > 5, "{tried} keys, {odd} of them odd");
        println!("{tried} keys lessened by one, each found");
    }
}

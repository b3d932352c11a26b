//! Whether what is found by looking keys up is what is found by walking.
//!
//! Invariant V4: a store is not called clean unless every way by which answers reach a row leads to the row that
//! verification walked over. A walk goes from page to page, an answer looks keys up; the two meet the same rows where pages
//! are as redb makes them, which `pages` shows of what lies in the file. What redb has read before lies in its memory, and
//! is looked at by looking up there what was walked over [R48]: every row, by its key.
//!
//! That says enough of all look-ups, for keys that no row has and in either direction too. Keys rise along the walk, so each
//! stands once, and who finds it has reached the page that the walk was in. On the way down a key is compared with the same
//! separators as any other that leads to the same page, and whatever lies between two keys compares with a separator as both
//! do where these compare alike: so what lies between two rows of a page leads to that page, and what lies between the last of
//! one and the first of the next to one of these two. That redb goes on from there in either direction is tried with some.

use crate::store::file::pages::{Flaw, Seen};
use crate::store::file::tables::{self, EachTable, Stored};
use crate::store::read::snapshot::Snapshot;
use crate::{Error, Result};
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, Value,
};

/// From so many rows of a table, at even distances, or of all that there are, ranges are gone through as well.
const RANGES: u64 = 16_384;

/// The greatest distance between two of these: less than the small rows of a page, so that each page is looked into.
const APART: u64 = 64;

impl Snapshot {
    /// Goes through the pages of the commit that this reads, without redb, and tells everything that is wrong with them.
    pub(crate) fn check_pages(&self, found: &mut dyn FnMut(Flaw)) -> Result<Seen> {
        let present = self.present.as_ref().ok_or_else(|| Error::damaged("which commit is read is not known"))?;
        self.database.check(present, &tables::shapes(), found)
    }

    /// Looks up each row that a walk through its table meets, as answers do, and tells of the first in each table that is
    /// not found as it was met.
    pub(crate) fn check_lookups(&self, found: &mut dyn FnMut(Flaw)) -> Result<u64> {
        let mut lookups = Lookups { txn: self.transaction(), found, rows: 0 };
        tables::each(&mut lookups)?;
        Ok(lookups.rows)
    }

    /// The same of the tables by which entries are found.
    ///
    /// # Errors
    /// `Damaged` where look-ups lead elsewhere than a walk.
    pub(crate) fn check_index_lookups(&self) -> Result<()> {
        let mut flaw = None;
        let mut found = |found: Flaw| _ = flaw.get_or_insert(found);
        let mut lookups = Lookups { txn: self.transaction(), found: &mut found, rows: 0 };
        lookups.table(tables::TERMS)?;
        lookups.table(tables::POSTINGS)?;
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
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()> {
        let open = self.txn.open_table(table).stored()?;
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
        let last = open.last().stored()?.map(|(key, _)| K::as_bytes(&key.value()).as_ref().to_vec());
        if last.is_some_and(|last| last != this) {
            let what = "its last row is not the last that a walk meets".to_owned();
            (self.found)(Flaw { table: Some(table.name().to_owned()), own: false, at: None, what });
        }
        Ok(())
    }
}

/// In which way going on from a key leads elsewhere than a walk that met this row behind that with the key `before`.
fn wrong<K: Key + 'static, V: Value + 'static>(
    open: &ReadOnlyTable<K, V>,
    before: Option<&[u8]>,
    key: &[u8],
) -> Result<Option<&'static str>> {
    // Queries go on from a key in both directions.
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

    /// What looking up tells of a file with these bytes, and how many rows were looked up.
    fn told(memory: &Memory) -> (Vec<Flaw>, u64) {
        let database = Builder::new().create_with_backend(memory.clone()).unwrap();
        let txn = database.begin_read().unwrap();
        let mut found = Vec::new();
        let mut lookups = Lookups { txn: &txn, found: &mut |flaw| found.push(flaw), rows: 0 };
        lookups.table(TABLE).unwrap();
        let rows = lookups.rows;
        (found, rows)
    }

    /// Of tables of more than 16,384 rows only some were looked up, at most one in 64 of the largest. A key in a branch page
    /// that was one less than it should be, in memory only, hid the one row that stands last in its page, and verification
    /// found nothing unless that row or the one behind it was among them: of 70,000 rows half were not [R48].
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
        // The branch pages, whose keys stand behind checksums and numbers of the children.
        for page in (0..bytes.len()).step_by(4096).filter(|page| bytes[*page] == 2) {
            let count = usize::from(bytes[page + 2]) + 256 * usize::from(bytes[page + 3]);
            for at in (0..count).map(|n| page + 8 + 24 * (count + 1) + 8 * n) {
                let key = number(at);
                // What was left of a commit before is none of the tree's.
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

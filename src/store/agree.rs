//! Whether what is found by looking keys up is what is found by walking.
//!
//! Invariant V4: a store is not called clean unless every way by which answers reach a row leads to the row that
//! verification walked over. A walk goes from page to page, an answer looks keys up; the two meet the same rows where pages
//! are as redb makes them, which `pages` shows of what lies in the file. What redb has read before lies in its memory, and
//! is looked at by looking up there what was walked over.

use super::Snapshot;
use super::pages::{Flaw, Seen};
use super::tables::{self, EachTable, Stored};
use crate::{Error, Result};
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, Value,
};

/// Of a table with up to so many rows each is looked up, of a larger one as many or some more, at even distances.
const LOOKED_UP: u64 = 16_384;

/// The greatest distance between two of them: less than the small rows of a page, so that each page is looked into.
const APART: u64 = 64;

impl Snapshot {
    /// Goes through the pages of the commit that this reads, without redb, and tells everything that is wrong with them.
    pub(crate) fn check_pages(&self, found: &mut dyn FnMut(Flaw)) -> Result<Seen> {
        let commit = self.commit.as_ref().ok_or_else(|| Error::damaged("which commit is read is not known"))?;
        self.database.check(commit, &tables::shapes(), found)
    }

    /// Looks up rows that a walk through their table meets, as answers do, and tells of the first in each table that is
    /// not found as it was met. Of large tables not each row: a row takes several look-ups.
    pub(crate) fn check_lookups(&self, found: &mut dyn FnMut(Flaw)) -> Result<u64> {
        let mut lookups = Lookups { txn: self.transaction(), found, rows: 0 };
        tables::each(&mut lookups)?;
        Ok(lookups.rows)
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
        let apart = (open.len().stored()? / LOOKED_UP).clamp(1, APART);
        let (mut before, mut this): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for (n, row) in (0u64..).zip(open.iter().stored()?) {
            let (key, value) = row.stored()?;
            std::mem::swap(&mut before, &mut this);
            this.clear();
            this.extend_from_slice(K::as_bytes(&key.value()).as_ref());
            if !n.is_multiple_of(apart) {
                continue;
            }
            self.rows += 1;
            let before = (n > 0).then_some(&*before);
            if let Some(what) = wrong(&open, before, &this, V::as_bytes(&value.value()).as_ref())? {
                let what = format!("row {n} in the order of a walk {what}");
                (self.found)(Flaw { table: Some(table.name().to_owned()), at: None, what });
                return Ok(());
            }
        }
        let last = open.last().stored()?.map(|(key, _)| K::as_bytes(&key.value()).as_ref().to_vec());
        if last.is_some_and(|last| last != this) {
            let what = "its last row is not the last that a walk meets".to_owned();
            (self.found)(Flaw { table: Some(table.name().to_owned()), at: None, what });
        }
        Ok(())
    }
}

/// In which way looking up leads elsewhere than a walk that met this row behind that with the key `before`.
fn wrong<K: Key + 'static, V: Value + 'static>(
    open: &ReadOnlyTable<K, V>,
    before: Option<&[u8]>,
    key: &[u8],
    value: &[u8],
) -> Result<Option<&'static str>> {
    let there = open.get(K::from_bytes(key)).stored()?;
    if there.is_none_or(|there| V::as_bytes(&there.value()).as_ref() != value) {
        return Ok(Some("is not what is found under its key"));
    }
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

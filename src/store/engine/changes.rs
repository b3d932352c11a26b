//! Changes to the small tables while a purge rewrites the store.

use redb::{Key, TableDefinition, TableHandle, Value};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of small tables that changed while a purge was rewriting the store.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// By the table's name, the keys as stored.
    rows: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// Any other row of these tables may have changed as well.
    pub any: bool,
}

impl Changes {
    /// Notes that the row with this key was written or removed.
    pub(crate) fn note<'k, K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: &TableDefinition<'static, K, V>,
        key: impl Borrow<K::SelfType<'k>>,
    ) {
        let key = K::as_bytes(key.borrow()).as_ref().to_vec();
        self.rows.entry(table.name().to_owned()).or_default().insert(key);
    }

    /// The keys of the changed rows of a table, as stored.
    pub(crate) fn of<K: Key + 'static, V: Value + 'static>(
        &self,
        table: &TableDefinition<'static, K, V>,
    ) -> impl Iterator<Item = &[u8]> {
        self.rows.get(table.name()).into_iter().flatten().map(Vec::as_slice)
    }
}

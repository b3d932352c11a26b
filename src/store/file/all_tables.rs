//! What is done with every table: opening it, and telling whether a file has another one.

use crate::store::file::open_table::ReadTable;
use crate::store::file::pages::Shape;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{Copying, EachTable, each};
use crate::{Error, ErrorKind, Result};
use redb::{Key, TableDefinition, TableHandle, Value};
use std::convert::Infallible;

/// The name of every table, with the types of its keys and values.
pub(crate) fn shapes() -> Vec<Shape> {
    struct Shapes(Vec<Shape>);
    impl EachTable for Shapes {
        type Error = Infallible;

        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
            _: Copying,
        ) -> std::result::Result<(), Infallible> {
            self.0.push(Shape::of(&table));
            Ok(())
        }
    }
    let mut shapes = Shapes(Vec::new());
    let Ok(()) = each(&mut shapes);
    shapes.0
}

/// Refuses a store with tables that this program does not know: they would silently be missing from a copy of it.
pub(crate) fn check_known(txn: &redb::ReadTransaction) -> Result<()> {
    let known = shapes();
    match txn.list_tables().stored()?.find(|table| !known.iter().any(|shape| shape.name == table.name())) {
        None => Ok(()),
        Some(table) => {
            let message = format!("the store has a table {:?} that this program cannot copy", table.name());
            Err(Error::new(ErrorKind::NewerFormat, message))
        }
    }
}

/// Whether every table that is there is what it was made as.
pub(crate) fn open_all(txn: &redb::ReadTransaction) -> Result<()> {
    struct Open<'t>(&'t redb::ReadTransaction);
    impl EachTable for Open<'_> {
        type Error = Error;

        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
            _: Copying,
        ) -> Result<()> {
            ReadTable::open(self.0, table).map(|_| ())
        }
    }
    each(&mut Open(txn))
}

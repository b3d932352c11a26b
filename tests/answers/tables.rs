//! The tables of the file are listed in one place, `src/store/file/tables.rs`; whatever is done with every table reads that list.

use crate::store_common::tables::{Copying, EachTable, each};
use crate::store_common::*;
use crate::tidy::sources;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Result, Sender, ToolCall};
use redb::{
    Database, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, Value,
    WriteTransaction,
};
use std::collections::BTreeSet;

fn edited(bytes: &[u8], change: impl FnOnce(&WriteTransaction)) -> Result<AuditLog> {
    options(&clock(), 8).open_on(Disk::of(edit(bytes, change)).backend())
}

/// A store with rows in every table that a store without keys and purges can have.
fn store_with_rows() -> Vec<u8> {
    let (log, disk, _) = store(3);
    let call = |i: u64| {
        let call = ToolCall::new(format!("c{}", i / 10), format!("u{}", i % 5), "look").sender(Sender::new("s", i + 1));
        call.duration(std::time::Duration::from_millis(i))
    };
    log.record_batch((0..300).map(call)).unwrap();
    log.flush_index().unwrap();
    (300..310).for_each(|i| _ = log.record(call(i)).unwrap());
    let _ = log.begin(ToolCall::new("c", "u", "write")).unwrap();
    // Closing would leave nothing in the tail.
    drop(log);
    disk.bytes()
}

/// What opening or verifying says of a file; `None` if it is clean.
fn said(bytes: &[u8]) -> Option<String> {
    let log = match options(&clock(), 8).open_on(Disk::of(bytes.to_vec()).backend()) {
        Ok(log) => log,
        Err(e) => return Some(format!("open: {:?}: {e}", e.kind())),
    };
    match log.verify(&VerifyOptions::new().threads(1)) {
        Ok(found) if found.ok() => None,
        Ok(found) => Some(format!("{:?}", found.findings)),
        Err(e) => Some(format!("verify: {:?}: {e}", e.kind())),
    }
}

/// The story: two tables, the cursors and the answers of anchors, were missing from the list of a test that edits "each row
/// of each table", and nobody noticed. A file has no tables but those of the list; verification finds one more.
#[test]
fn a_table_that_is_not_in_the_list_is_found() {
    let bytes = store_with_rows();
    let listed: BTreeSet<String> = table_names().into_iter().collect();
    let database = Database::builder().create_with_backend(Disk::of(bytes.clone())).unwrap();
    let there: BTreeSet<String> =
        database.begin_read().unwrap().list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert!(there.is_subset(&listed) && there.len() > 12, "{there:?}");

    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("not_listed");
    let log = edited(&bytes, |txn| drop(txn.open_table(OTHER).unwrap())).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.iter().any(|f| f.kind == FindingKind::PageDamaged && f.detail.contains("not_listed")), "{found:?}");
    let dir = tempfile::tempdir().unwrap();
    let refused = log.backup(dir.path().join("copy")).unwrap_err();
    assert!(refused.to_string().contains("not_listed"), "{refused}");
}

/// A table is made with its first row, so a table that is missing may never have been made. Somebody who removes one of those that
/// were is found as if he had removed all of its rows.
#[test]
fn a_table_that_is_removed_is_found_like_its_rows() {
    struct Removed {
        bytes: Vec<u8>,
        removed: usize,
    }
    impl EachTable for Removed {
        type Error = std::convert::Infallible;

        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
            _: Copying,
        ) -> std::result::Result<(), Self::Error> {
            let mut there = false;
            let emptied = edit(&self.bytes, |txn| {
                there = txn.list_tables().unwrap().any(|made| made.name() == table.name());
                txn.open_table(table).unwrap().retain(|_, _| false).unwrap();
            });
            if there {
                let removed = edit(&self.bytes, |txn| assert!(txn.delete_table(table).unwrap()));
                let said_of = said(&emptied);
                assert!(said_of.is_some(), "{}: nothing is found", table.name());
                assert_eq!(said(&removed), said_of, "{}", table.name());
                self.removed += 1;
            }
            Ok(())
        }
    }
    let mut removed = Removed { bytes: store_with_rows(), removed: 0 };
    assert_eq!(said(&removed.bytes), None);
    let Ok(()) = each(&mut removed);
    assert!(removed.removed > 12, "{} tables", removed.removed);
}

/// The story: an edited format byte in a row of the nonces' seeds ended a verification with an error instead of a finding. Whatever a
/// row begins with, verification says what is wrong; where opening needs the row, it says that the store is damaged.
#[test]
fn another_first_byte_of_any_row_is_a_finding() {
    struct Edited {
        bytes: Vec<u8>,
        edited: usize,
    }
    impl EachTable for Edited {
        type Error = std::convert::Infallible;

        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
            _: Copying,
        ) -> std::result::Result<(), Self::Error> {
            if V::fixed_width().is_some() || table.name() == "meta" {
                return Ok(());
            }
            let count = |bytes: &[u8]| {
                let database = Database::builder().create_with_backend(Disk::of(bytes.to_vec())).unwrap();
                let txn = database.begin_read().unwrap();
                txn.open_table(table).map_or(0, |table| table.len().unwrap())
            };
            let rows = count(&self.bytes);
            for row in [0, rows / 2, rows.saturating_sub(1)].into_iter().filter(|row| *row < rows) {
                for first in [0, 2, 255] {
                    let bytes = edit(&self.bytes, |txn| {
                        let mut table = txn.open_table(table).unwrap();
                        let (key, mut value) = {
                            let (key, value) = table.iter().unwrap().nth(row as usize).unwrap().unwrap();
                            let bytes = V::as_bytes(&value.value()).as_ref().to_vec();
                            (K::as_bytes(&key.value()).as_ref().to_vec(), bytes)
                        };
                        if value[0] == first {
                            return;
                        }
                        value[0] = first;
                        table.insert(K::from_bytes(&key), V::from_bytes(&value)).unwrap();
                    });
                    if bytes == self.bytes {
                        continue;
                    }
                    let said = said(&bytes).unwrap_or_else(|| format!("nothing of row {row} of {}", table.name()));
                    let found = said.starts_with('[') || said.starts_with("open: Damaged");
                    assert!(found, "row {row} of {} begins with {first}: {said}", table.name());
                    self.edited += 1;
                }
            }
            Ok(())
        }
    }
    let mut edited = Edited { bytes: store_with_rows(), edited: 0 };
    let Ok(()) = each(&mut edited);
    assert!(edited.edited > 50, "{} rows", edited.edited);
}

/// A second list of tables would be forgotten when a table is added.
#[test]
fn no_other_file_lists_tables() {
    let names = table_names();
    let mut wrong = Vec::new();
    for (path, text) in ["src", "crates", "tests", "fuzz/src"].iter().flat_map(|dir| sources(dir)) {
        if path.ends_with("src/store/file/tables.rs") {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.contains("TableDefinition::")) {
            let named = names.iter().any(|name| line.contains(&format!("(\"{name}\")")));
            if named && line.contains("new(") {
                wrong.push(format!("{}:{number}: defines a table that is in the list", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let design = include_str!("../../DESIGN.md").split("| table | key | value |\n").nth(1).unwrap();
    let rows = design.lines().skip(1).take_while(|line| line.starts_with('|'));
    let described: BTreeSet<&str> =
        rows.filter(|row| row.starts_with("| `")).filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(described, names.iter().map(String::as_str).collect(), "the tables of DESIGN.md, section 4");
}

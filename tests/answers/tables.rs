//! The tables of the file are listed in one place, `src/store/file/tables.rs`; whatever is done with every table reads that list.

use crate::store_common::*;
use crate::tidy::sources;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Result};
use redb::{Database, ReadableDatabase, TableDefinition, TableHandle, WriteTransaction};
use std::collections::BTreeSet;

fn edited(bytes: &[u8], change: impl FnOnce(&WriteTransaction)) -> Result<AuditLog> {
    options(&clock(), 8).open_on(Disk::of(edit(bytes, change)).backend())
}

/// The story: two tables, the cursors and the answers of anchors, were missing from the list of a test that edits "each row
/// of each table", and nobody noticed. A file has exactly the tables of the list; verification finds one more and one less.
#[test]
fn a_table_that_is_not_in_the_list_is_found() {
    let (log, disk, _) = store(3);
    log.record(attestlog::ToolCall::new("c", "u", "t")).unwrap();
    log.close().unwrap();
    let listed: BTreeSet<String> = table_names().into_iter().collect();
    let database = Database::builder().create_with_backend(Disk::of(disk.bytes())).unwrap();
    let there = database.begin_read().unwrap().list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert_eq!(listed, there);

    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("not_listed");
    let log = edited(&disk.bytes(), |txn| drop(txn.open_table(OTHER).unwrap())).unwrap();
    let found = log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.iter().any(|f| f.kind == FindingKind::PageDamaged && f.detail.contains("not_listed")), "{found:?}");
    let dir = tempfile::tempdir().unwrap();
    let refused = log.backup(dir.path().join("copy")).unwrap_err();
    assert!(refused.to_string().contains("not_listed"), "{refused}");

    for name in &listed {
        let less = |txn: &WriteTransaction| {
            let mut all = txn.list_tables().unwrap();
            assert!(txn.delete_table(all.find(|table| table.name() == name).unwrap()).unwrap());
        };
        // Some tables are needed to open the file at all.
        let Ok(log) = edited(&disk.bytes(), less) else { continue };
        match log.verify(&VerifyOptions::new()) {
            Ok(found) => assert!(found.findings.iter().any(|f| f.detail.contains(name.as_str())), "{name}: {found:?}"),
            Err(e) => assert!(e.to_string().contains(name.as_str()), "{name}: {e}"),
        }
    }
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

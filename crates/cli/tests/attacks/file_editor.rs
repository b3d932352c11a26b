//! Somebody writes to the store's file and has none of its keys.

mod decisions;
mod hidden_entries;
mod own_tables;
mod shown;
mod small_tables;
mod subjects;
#[path = "../../../../tests/tampering/trees.rs"]
mod trees;
mod unbound;
mod unhashed;
mod unindexed;

use super::store_common::*;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Query, Result, ToolCall};
use redb::{ReadableDatabase as _, StorageBackend as _, TableDefinition, TableHandle as _};
use trees::tree;

fn calls() -> Vec<u8> {
    let (log, disk, _) = store(11);
    log.record_batch((0..90).map(|i| ToolCall::new(format!("conv_{}", i / 3), format!("usr_{}", i % 7), "look")))
        .unwrap();
    log.flush_index().unwrap();
    log.record_batch((90..100).map(|i| ToolCall::new("conv_x", format!("usr_{}", i % 7), "look"))).unwrap();
    log.close().unwrap();
    disk.bytes()
}

fn open(bytes: &[u8]) -> Result<AuditLog> {
    options(&clock(), 8).open_on(Disk::of(bytes.to_vec()).backend())
}

/// The store with only a few rows in each page: every table with two rows has a branch page.
fn spread() -> Vec<u8> {
    let disk = Disk::of(trees::spread(&calls()));
    let log = options(&clock(), 8).open_on(disk.backend()).unwrap();
    assert_clean(&log);
    log.close().unwrap();
    disk.bytes()
}

fn seen(log: &AuditLog) -> Result<Vec<u64>> {
    let conversations = (0..30).map(|i| format!("conv_{i}")).chain(["conv_x".to_owned()]);
    let users = (0..7).map(|i| Query::new().user(format!("usr_{i}")));
    conversations.map(|c| Query::new().conversation(c)).chain(users).map(|query| log.count(&query)).collect()
}

/// The findings in an edited file: `None` if it cannot be opened, or not verified to the end.
fn found(bytes: &[u8]) -> Option<Vec<attestlog::verify::Finding>> {
    quietly(|| {
        let log = open(bytes).ok()?;
        log.verify(&VerifyOptions::new().threads(1)).ok().map(|found| found.findings)
    })
}

#[track_caller]
fn named(bytes: &[u8], name: &str, what: &str) {
    let findings = found(bytes).unwrap_or_else(|| panic!("{name}: {what}: not verified"));
    let told = findings.iter().any(|f| f.kind == FindingKind::PageDamaged && f.detail.contains(name));
    assert!(told, "{name}: {what}: {findings:?}");
}

/// The attack: a key in a branch page of an index is rewritten, and every checksum above it corrected, up to the header's.
/// No row changed, so verification, which walked over the rows, found nothing wrong; queries, which look up keys, missed
/// rows.
#[test]
fn keys_in_branch_pages_are_rewritten_with_right_checksums() {
    let bytes = spread();
    let right = seen(&open(&bytes).unwrap()).unwrap();
    let (mut tried, mut told, mut hidden) = (0, 0, 0);
    for tree in trees::trees(&bytes) {
        for key in tree.branches().flat_map(|page| page.keys.clone()) {
            for to in [0, 0x55, 0x7f] {
                let mut edited = bytes.clone();
                // The byte that matters most: in integers it is the last.
                let at = if matches!(&*tree.name, "" | "terms" | "senders") { key.start } else { key.end - 1 };
                if edited[at] == to {
                    continue;
                }
                edited[at] = to;
                trees::seal(&mut edited);
                tried += 1;
                let Some(findings) = found(&edited) else { continue };
                let now = quietly(|| open(&edited).and_then(|log| seen(&log)));
                // A key that still separates the keys below it leads no look-up astray.
                let led_astray = now.is_ok_and(|now| now != right);
                assert!(!led_astray || !findings.is_empty(), "{} byte {at} to {to}", tree.name);
                told += u64::from(!findings.is_empty());
                hidden += u64::from(led_astray);
            }
        }
    }
    println!("{tried} keys rewritten: {told} told by verification, among them {hidden} that hid rows from queries");
    assert!(tried > 60 && hidden > 5, "{tried} {hidden}");
}

/// The attack: two children of a branch page are swapped, or one occurs twice, with correct checksums.
#[test]
fn children_of_a_branch_change_places() {
    let bytes = spread();
    for name in ["postings", "terms", "tail", "zones", "rollups"] {
        let Some(branch) = tree(&bytes, name).branches().next().cloned() else { continue };
        let [(one, _), (other, _)] = [branch.children[0], branch.children[1]];
        let mut swapped = bytes.clone();
        let (first, second) = (trees::number(&bytes, one, 8), trees::number(&bytes, other, 8));
        swapped[one..one + 8].copy_from_slice(&second.to_le_bytes());
        swapped[other..other + 8].copy_from_slice(&first.to_le_bytes());
        trees::seal(&mut swapped);
        // In the tail table the damage is noticed when the store is opened.
        if found(&swapped).is_some() {
            named(&swapped, name, "swapped");
        }
        let mut twice = bytes.clone();
        twice[other..other + 8].copy_from_slice(&first.to_le_bytes());
        trees::seal(&mut twice);
        if found(&twice).is_some() {
            named(&twice, name, "twice");
        }
    }
}

/// The attack: the rows of a leaf are swapped, so that a walk meets all of them and a binary search in the page does not.
#[test]
fn rows_of_a_leaf_change_places() {
    let bytes = calls();
    let terms = tree(&bytes, "terms");
    let right = seen(&open(&bytes).unwrap()).unwrap();
    let mut hidden = 0;
    for leaf in terms.leaves() {
        for n in 1..leaf.keys.len() {
            let (a, b) = (leaf.keys[n - 1].clone(), leaf.keys[n].clone());
            if a.len() != b.len() {
                continue;
            }
            let mut edited = bytes.clone();
            edited[a.clone()].copy_from_slice(&bytes[b.clone()]);
            edited[b].copy_from_slice(&bytes[a]);
            let (a, b) = (leaf.values[n - 1].clone(), leaf.values[n].clone());
            edited[a.clone()].copy_from_slice(&bytes[b.clone()]);
            edited[b].copy_from_slice(&bytes[a]);
            trees::seal(&mut edited);
            named(&edited, "terms", "rows swapped");
            hidden += u64::from(seen(&open(&edited).unwrap()).unwrap() != right);
        }
    }
    assert!(hidden > 0);
}

/// The attack: the file says that a table has another number of rows, no page, or keys of another type; or that there is
/// one table more or less.
#[test]
fn what_the_file_says_of_a_table_is_changed() {
    let bytes = spread();
    let definition = |name: &str| tree(&bytes, name).definition;
    let edit = |name: &str, at: usize, to: &[u8]| {
        let mut edited = bytes.clone();
        let at = definition(name).start + at;
        edited[at..at + to.len()].copy_from_slice(to);
        trees::seal(&mut edited);
        edited
    };
    let database = redb::Builder::new().create_with_backend(Disk::of(bytes.clone())).unwrap();
    let reading = database.begin_read().unwrap();
    let made: Vec<String> = reading.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert!(made.len() > 10 && made.iter().all(|name| table_names().contains(name)), "{made:?}");
    for name in &made {
        let rows = trees::number(&bytes, definition(name).start + 1, 8);
        named(&edit(name, 1, &(rows + 1).to_le_bytes()), name, "another length");
        if bytes[definition(name).start + 9] != 0 {
            named(&edit(name, 34, &(rows + 1).to_le_bytes()), name, "another length of the tree");
        }
        // A table with many values for each key, which redb refuses to open as an ordinary one.
        if let Some(findings) = found(&edit(name, 0, &[4])) {
            assert!(!findings.is_empty(), "{name}");
        }
    }
    // Its rows are there, but the table's entry says that it has no page.
    let mut empty = edit("rollups", 9, &[0]);
    trees::seal(&mut empty);
    assert!(found(&empty).is_none_or(|findings| !findings.is_empty()));

    // Through redb itself.
    let through_redb = |work: &dyn Fn(&redb::WriteTransaction)| {
        let disk = Disk::of(bytes.clone());
        let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
        let txn = database.begin_write().unwrap();
        work(&txn);
        txn.commit().unwrap();
        drop(database);
        disk.bytes()
    };
    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("zones2");
    named(&through_redb(&|txn| drop(txn.open_table(OTHER).unwrap())), "zones2", "a further table");
    // A table is made with its first row, so one that is removed is found by what is missing with it.
    let less = found(&through_redb(&|txn| assert!(txn.delete_table(tables::BATCHES).unwrap())));
    assert!(less.is_none_or(|findings| !findings.is_empty()), "a table less");
}

/// The attack: the same page is in the trees of two tables of one type. Each walk is right, and writing to one table
/// changes the other.
#[test]
fn a_page_stands_in_two_trees() {
    let bytes = spread();
    let of = |name: &str| tree(&bytes, name).definition.start + 9;
    let (from, to) = (of("columns"), of("directories"));
    let mut edited = bytes.clone();
    edited.copy_within(from..from + 33, to);
    edited.copy_within(from - 8..from, to - 8);
    trees::seal(&mut edited);
    // If redb is built with more checks than in a release, it does not open the file.
    let told = |found: &[attestlog::verify::Finding]| found.iter().any(|f| f.detail.contains("two places"));
    assert!(found(&edited).is_none_or(|found| told(&found)));
    let disk = Disk::of(bytes.clone());
    let log = options(&clock(), 8).open_on(disk.backend()).unwrap();
    // While the store is open, the edited header counts as written by another program [R65].
    disk.write(0, &edited).unwrap();
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
    assert!(found.iter().any(|f| f.detail.contains("something else has written over")), "{found:?}");
    log.close().unwrap_err();
    assert!(disk.bytes() == edited, "it is left as it was put there");
}

/// The attack: the file of a store is edited while somebody has it open. redb still answers from its memory, but the next
/// process to open the file could not.
#[test]
fn a_file_is_edited_while_it_is_open() {
    let bytes = spread();
    let disk = Disk::of(bytes.clone());
    let log = options(&clock(), 8).open_on(disk.backend()).unwrap();
    assert_clean(&log);
    let right = seen(&log).unwrap();
    let branch = tree(&bytes, "postings").branches().last().cloned().unwrap();
    let at = branch.keys[0].end - 1;
    disk.write(at as u64, &[bytes[at] ^ 0x40]).unwrap();
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
    assert!(found.iter().any(|f| f.kind == FindingKind::PageDamaged && f.detail.contains("postings")), "{found:?}");
    assert_eq!(seen(&log).unwrap(), right);
    disk.write(at as u64, &bytes[at..=at]).unwrap();
    assert_clean(&log);
}

/// While others record, a verification reads the pages of its own commit and finds nothing wrong.
#[test]
fn pages_are_those_of_the_verifications_own_commit() {
    let (log, _, _) = store(12);
    log.record_batch((0..300).map(|i| ToolCall::new(format!("c{i}"), "u", "t"))).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..300 {
                log.record(ToolCall::new(format!("d{i}"), "u", "t")).unwrap();
                if i % 60 == 0 {
                    log.flush_index().unwrap();
                }
            }
        });
        let mut verified = 0;
        while !writer.is_finished() || verified < 3 {
            let found = log.verify(&VerifyOptions::new().threads(2)).unwrap();
            assert!(found.ok(), "{:?}", found.findings);
            verified += 1;
        }
    });
}

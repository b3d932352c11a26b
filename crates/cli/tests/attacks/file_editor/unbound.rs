//! What lay in the file and was bound to nothing: checkpoints that could be taken away, rows that could be written in another way
//! or stood where nothing looks.

use crate::store_common::clock;
use attestlog::{AuditLog, FindingKind, Options, SeededRandom, ToolCall, VerifyOptions};
use redb::{Database, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
const COLUMNS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("columns");
const PURGED_ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("purged_rows");

pub(super) fn options(seed: u64) -> Options {
    Options::new().clock(clock()).random(Arc::new(SeededRandom::new(seed))).background(false)
}

/// A store with an index batch and three checkpoints.
fn signed() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(3).create(&path).unwrap();
    for _ in 0..3 {
        log.record_batch((0..40).map(|_| ToolCall::new("c", "u", "look"))).unwrap();
        log.checkpoint().unwrap();
    }
    log.flush_index().unwrap();
    log.close().unwrap();
    (dir, path)
}

fn open(path: &Path) -> AuditLog {
    options(4).open(path).unwrap()
}

pub(super) fn edit(path: &Path, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    edit(&txn);
    txn.commit().unwrap();
}

pub(super) fn findings(log: &AuditLog) -> Vec<(FindingKind, String)> {
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
    found.into_iter().map(|finding| (finding.kind, finding.detail)).collect()
}

#[track_caller]
fn one(log: &AuditLog, kind: FindingKind, text: &str) {
    let found = findings(log);
    assert!(found.iter().any(|(k, detail)| *k == kind && detail.contains(text)), "{found:?}");
}

fn oldest(txn: &redb::WriteTransaction) -> u64 {
    let table = txn.open_table(CHECKPOINTS).unwrap();
    table.first().unwrap().unwrap().0.value()
}

/// R50. Each checkpoint signs its own entries and named no other, so all but the newest could be taken out of the file, and with them
/// what an auditor compares: verification found nothing, with the keys or without.
#[test]
fn a_checkpoint_that_was_taken_away_is_missed() {
    let (dir, path) = signed();
    assert!(findings(&open(&path)).is_empty());
    edit(&path, |txn| {
        let first = oldest(txn);
        txn.open_table(CHECKPOINTS).unwrap().remove(first).unwrap().unwrap();
    });
    let log = open(&path);
    one(&log, FindingKind::CheckpointMismatch, "were taken away");
    // What is signed later does not make up for it.
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    one(&log, FindingKind::CheckpointMismatch, "were taken away");
    log.close().unwrap();
    // Nobody needs a secret to see it.
    let log = options(5).key_file(dir.path().join("none")).open(&path).unwrap();
    one(&log, FindingKind::CheckpointMismatch, "were taken away");
}

/// Whoever takes the count away with all of them has not hidden it either: it is not begun anew.
#[test]
fn the_count_of_checkpoints_is_not_begun_anew() {
    let (_dir, path) = signed();
    edit(&path, |txn| {
        txn.open_table(META).unwrap().remove("checkpoints").unwrap().unwrap();
        txn.open_table(CHECKPOINTS).unwrap().retain(|_, _| false).unwrap();
    });
    let log = open(&path);
    one(&log, FindingKind::CheckpointMismatch, "taken away");
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    one(&log, FindingKind::CheckpointMismatch, "not those that were signed");
}

/// R52. The row of a retention column could be compressed in another way and say the same: bytes that nothing vouched for.
#[test]
fn a_retention_column_has_one_spelling() {
    let (_dir, path) = signed();
    edit(&path, |txn| {
        let mut columns = txn.open_table(COLUMNS).unwrap();
        let mut row = columns.get(0).unwrap().unwrap().value().to_vec();
        // Format, one class, its name, the packed column with its length; a run at the end: twice the same, and how many more.
        assert_eq!(row[1], 1, "{row:?}");
        let length = 3 + usize::from(row[2]);
        assert_eq!(usize::from(row[length]), row.len() - length - 1, "{row:?}");
        let [.., first, second, more] = row[..] else { panic!("{row:?}") };
        assert!(first == second && more > 1, "{row:?}");
        *row.last_mut().unwrap() -= 1;
        row.push(first);
        row[length] += 1;
        columns.insert(0, &*row).unwrap();
    });
    let found = findings(&open(&path));
    assert!(found.iter().any(|(kind, _)| *kind == FindingKind::ColumnMismatch), "{found:?}");
}

/// R53. What a purge leaves of an index row was looked at batch by batch, and rows of the table `meta` by those who know their names:
/// anything could lie beside them.
#[test]
fn rows_that_nothing_reads_are_found() {
    let (_dir, path) = signed();
    edit(&path, |txn| _ = txn.open_table(PURGED_ROWS).unwrap().insert((77, 0), &b"kept here by nobody"[..]).unwrap());
    one(&open(&path), FindingKind::IndexRowUnexpected, "no index batch begins here");
    let (_dir, path) = signed();
    edit(&path, |txn| _ = txn.open_table(META).unwrap().insert("stowaway", &b"anything"[..]).unwrap());
    one(&open(&path), FindingKind::SmallTableMismatch, "stowaway");
}

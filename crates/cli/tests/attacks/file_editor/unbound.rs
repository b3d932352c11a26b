//! Parts of the file that nothing authenticated: checkpoints that could be removed, rows that could be written in another
//! form or in places that nothing reads.

use crate::store_common::clock;
use crate::store_common::tables::{CHECKPOINTS, COLUMNS, META, PURGED_ROWS};
use attestlog::host::SeededRandom;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Options, ToolCall};
use redb::{Database, ReadableTable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

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

/// R50. Each checkpoint signs its own entries and named no other, so all but the newest could be removed from the file, and
/// with them what an auditor compares: verification found nothing, with the keys or without.
#[test]
fn a_checkpoint_that_was_taken_away_is_missed() {
    let (dir, path) = signed();
    assert!(findings(&open(&path)).is_empty());
    edit(&path, |txn| {
        let first = oldest(txn);
        txn.open_table(CHECKPOINTS).unwrap().remove(first).unwrap().unwrap();
    });
    let log = open(&path);
    one(&log, FindingKind::CheckpointMismatch, "were removed");
    // Signing later ones does not make up for it.
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    one(&log, FindingKind::CheckpointMismatch, "were removed");
    log.close().unwrap();
    // No secret is needed to detect it.
    let log = options(5).key_file(dir.path().join("none")).open(&path).unwrap();
    one(&log, FindingKind::CheckpointMismatch, "were removed");
}

/// Removing the count together with all checkpoints does not hide it either: the count is not restarted.
#[test]
fn the_count_of_checkpoints_is_not_begun_anew() {
    let (_dir, path) = signed();
    edit(&path, |txn| {
        txn.open_table(META).unwrap().remove("checkpoints").unwrap().unwrap();
        txn.open_table(CHECKPOINTS).unwrap().retain(|_, _| false).unwrap();
    });
    let log = open(&path);
    one(&log, FindingKind::CheckpointMismatch, "removed");
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    one(&log, FindingKind::CheckpointMismatch, "not those that were signed");
}

/// R52. The row of a retention column could be compressed differently and say the same: bytes that nothing authenticated.
#[test]
fn a_retention_column_has_one_spelling() {
    let (_dir, path) = signed();
    edit(&path, |txn| {
        let mut columns = txn.open_table(COLUMNS).unwrap();
        let mut row = columns.get(0).unwrap().unwrap().value().to_vec();
        // Format, one class, its name, the packed column with its length; a run at the end: the value twice, and how many
        // more.
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

/// R53. What a purge leaves of an index row was only checked batch by batch, and rows of the table `meta` only by known
/// names: anything could be stored beside them.
#[test]
fn rows_that_nothing_reads_are_found() {
    let (_dir, path) = signed();
    edit(&path, |txn| _ = txn.open_table(PURGED_ROWS).unwrap().insert((77, 0), &b"kept here by nobody"[..]).unwrap());
    one(&open(&path), FindingKind::IndexRowUnexpected, "no index batch begins here");
    let (_dir, path) = signed();
    edit(&path, |txn| _ = txn.open_table(META).unwrap().insert("stowaway", &b"anything"[..]).unwrap());
    one(&open(&path), FindingKind::SmallTableMismatch, "stowaway");
}

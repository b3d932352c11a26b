//! A call's contents were changed in the file, and somebody queries it [R82].
//!
//! `verify`, `prove` and `purge` detected this. But `query`, `export` and `timeline` showed the edited text without a word
//! and with exit code 0.

use super::unbound::{edit, options};
use crate::common::{Place, call, json, overwrite};
use crate::store_common::tables::{CHECKPOINTS, COVERS, NODES};
use attestlog::json::Json;
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Entry, ErrorKind, Query, ToolCall};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Parses an answer line by line: the seq of each entry shown, and of each line that takes the place of one.
fn told(lines: &str) -> (Vec<u64>, Vec<u64>) {
    let (mut shown, mut differs) = (Vec::new(), Vec::new());
    for line in lines.lines().map(json) {
        match line.get("differs") {
            Some(other) => {
                assert!(
                    other.get("detail").and_then(Json::as_str).is_some_and(|text| text.contains("verify")),
                    "{line:?}"
                );
                differs.extend(other.get("seq").and_then(Json::as_u64));
            }
            None => shown.extend(line.get("seq").and_then(Json::as_u64)),
        }
    }
    (shown, differs)
}

/// One of five calls has an edited text: every answer shows the other four and names this one, and none exits with 0. As
/// long as it was in no index batch it used to be left out of every answer silently.
#[test]
fn the_text_of_a_call_is_not_answered() {
    for indexed in [false, true] {
        not_answered(indexed);
    }
}

fn not_answered(indexed: bool) {
    let notes = ["alpha", "bravo", "charlie", "delta", "foxtrot"];
    let calls = notes.map(|note| call("c", "u", "pay", &format!(r#""arguments":{{"note":"{note}"}}"#)));
    let place = Place::with_lines(&calls.concat());
    if indexed {
        let log = options(5).open(place.path("s")).unwrap();
        log.flush_index().unwrap();
        log.close().unwrap();
    }
    let first = json(place.run(&["query", "s", "--tool", "pay", "--json"]).ok().lines().next().unwrap());
    let first = first.get("seq").and_then(Json::as_u64).unwrap();
    assert!(overwrite(&place.path("s"), b"charlie", b"chariot") > 0);
    let (edited, rest) = (first + 2, [0, 1, 3, 4].map(|n| first + n).to_vec());

    for command in [
        &["query", "s", "--tool", "pay", "--json"][..],
        &["export", "s", "--format", "jsonl", "--tool", "pay"],
        &["timeline", "s", "c", "--json"],
    ] {
        let ran = place.run(command);
        assert_eq!(told(&ran.out), (rest.clone(), vec![edited]), "{command:?}");
        assert!(ran.err.contains(&format!("entry {edited} is not the one that was recorded")), "{}", ran.err);
        assert!(!ran.out.contains("chariot"), "{}", ran.out);
        ran.code(3);
    }
    for command in [
        &["query", "s", "--tool", "pay"][..],
        &["timeline", "s", "c"],
        &["export", "s", "--format", "csv"],
        &["export", "s", "--format", "fhir-r4"],
        &["export", "s", "--format", "ocsf"],
        &["export", "s", "--format", "csv", "-o", "out.csv"],
    ] {
        let ran = place.run(command);
        let written = std::fs::read_to_string(place.path("out.csv")).unwrap_or_default();
        let out = ran.out.clone() + &written;
        assert!(!out.contains("chariot") && out.contains("pay"), "{command:?}: {out}");
        assert!(ran.err.contains(&format!("entry {edited} is not")) && ran.err.contains("left out"), "{}", ran.err);
        ran.code(3);
    }
    // Newest first, the entries after it are shown as well; an answer that does not contain it ends normally.
    let ran = place.run(&["query", "s", "--tool", "pay", "--newest-first", "--limit", "3", "--json"]);
    assert_eq!(told(&ran.out), (vec![first + 4, first + 3, first + 1], vec![edited]));
    ran.code(3);
    // Opening the store finds an edited entry that no index batch covers, and every answer then ends with exit code 3.
    place.run(&["query", "s", "--tool", "pay", "--limit", "2"]).code(if indexed { 0 } else { 3 });
    // So does a count: it reads entries only at the ends of a time range.
    place.run(&["query", "s", "--since", "2020-01-01", "--count"]).code(if indexed { 0 } else { 3 });
    if !indexed {
        // Counts and statistics cannot name the entry, so they are refused.
        place.run(&["query", "s", "--tool", "pay", "--count"]).code(3);
        place.run(&["stats", "s", "--json"]).code(3);
    }
    // A report verifies the whole log, and says what that found.
    let ran = place.run(&["report", "access", "s", "--user", "u", "--format", "text"]);
    assert!(ran.out.contains("VERIFICATION FAILED"), "{}{}", ran.out, ran.err);
}

/// A store with more than one segment of the tree, all of it signed, and the seq of a call in the first segment.
fn signed() -> (TempDir, PathBuf, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(7).create(&path).unwrap();
    let call = |i: u64| ToolCall::new(format!("c{i:03}"), "u", if i == 100 { "zebra_quartz" } else { "look" });
    log.record_batch((0..700).map(call)).unwrap();
    log.flush_index().unwrap();
    log.record(ToolCall::new("c_end", "u", "look")).unwrap();
    log.checkpoint().unwrap();
    let seq = log.query(&Query::new().tool("zebra_quartz")).unwrap().next().unwrap().unwrap().seq;
    log.close().unwrap();
    (dir, path, seq)
}

fn open(path: &Path) -> AuditLog {
    options(8).open(path).unwrap()
}

/// The entry as it is stored.
fn stored(log: &AuditLog, seq: u64) -> Entry {
    let after = seq.checked_sub(1).into_iter().fold(Query::new(), Query::after);
    log.despite_damage().query(&after).unwrap().as_stored().next().unwrap().unwrap()
}

/// Changes the entry at `seq`, and stores the matching hash beside it.
fn forge(path: &Path, seq: u64, from: &[u8], to: &[u8]) {
    let log = open(path);
    let before = log.entry(seq).unwrap().hash();
    log.close().unwrap();
    assert!(overwrite(path, from, to) > 0);
    let log = open(path);
    let after = stored(&log, seq).hash();
    drop(log);
    assert!(before != after && overwrite(path, before.as_bytes(), after.as_bytes()) > 0);
}

/// The seqs that are shown, and those that are reported as different; `None` for a report about the whole tree.
fn answered(log: &AuditLog) -> (Vec<u64>, Vec<Option<u64>>) {
    let (mut shown, mut differ) = (Vec::new(), Vec::new());
    for entry in log.despite_damage().query(&Query::new()).unwrap() {
        match entry {
            Ok(entry) => shown.push(entry.seq),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Damaged);
                differ.push(e.seq());
            }
        }
    }
    (shown, differ)
}

/// The hash beside the entry was made to match, so that the entry by itself is consistent. The tree above is the one that
/// was signed: nothing of this segment is shown as recorded, and the rest is.
#[test]
fn a_hash_that_was_made_to_fit_is_none_that_was_signed() {
    let (_dir, path, seq) = signed();
    let log = open(&path);
    let size = log.size().unwrap();
    assert_eq!(answered(&log), ((0..size).collect(), vec![]));
    log.close().unwrap();
    forge(&path, seq, b"zebra_quartz", b"horse_quartz");
    let log = open(&path);
    let (shown, differ) = answered(&log);
    assert_eq!(shown, (256..size).collect::<Vec<_>>());
    assert_eq!(differ, (0..256).map(Some).collect::<Vec<_>>());
    let refused = log.entry(seq).unwrap_err();
    assert_eq!((refused.kind(), refused.seq()), (ErrorKind::Damaged, Some(seq)), "{refused}");
    assert_eq!(log.entry(300).unwrap().seq, 300);
    assert!(log.prove(seq).is_err());
    drop(log);
    // A signed node that is said to stand for purged entries counts for nothing while its leaves are there.
    let node = {
        let (_dir, whole, _) = signed();
        let database = redb::Database::open(&whole).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
        txn.open_table(NODES).unwrap().get((8, 0)).unwrap().unwrap().value()
    };
    edit(&path, |txn| {
        txn.open_table(COVERS).unwrap().insert((0, 8), node).unwrap();
        txn.open_table(COVERS).unwrap().insert((0, 7), node).unwrap();
    });
    assert_eq!(answered(&open(&path)).1.len(), 256);
}

/// The tree nodes were made to match as well, up to the root: that is reported once, and the stored entries are shown.
#[test]
fn a_tree_that_was_made_to_fit_is_none_that_was_signed() {
    let (dir, path, _) = signed();
    let log = open(&path);
    let size = log.size().unwrap();
    log.close().unwrap();
    // The last entry has none after it, and no node above it is stored, so nothing else has to be rewritten.
    let last = size - 1;
    forge(&path, last, b"c_end", b"c_odd");
    let told = |path: &Path| {
        let log = open(path);
        let (shown, differ) = answered(&log);
        let refused = log.entry(last).err().map(|e| e.kind());
        let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
        assert!(
            found.iter().any(|f| f.kind == FindingKind::CheckpointMismatch || f.kind == FindingKind::Fork),
            "{found:?}"
        );
        (shown.len() as u64, differ, refused)
    };
    assert_eq!(told(&path), (size, vec![None], Some(ErrorKind::Damaged)));
    // Without the checkpoints the key file still knows, and without the key file the checkpoints do.
    let copy = dir.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let log = options(9).key_file(dir.path().join("none")).read_only().open(&copy).unwrap();
    assert_eq!(answered(&log).1, vec![None]);
    drop(log);
    edit(&path, |txn| txn.open_table(CHECKPOINTS).unwrap().retain(|_, _| false).unwrap());
    assert_eq!(told(&path), (size, vec![None], Some(ErrorKind::Damaged)));
}

//! Somebody removes the key of sealed values from a closed store, changes it, or puts one back: verification says so.

use crate::store_common::tables::{SUBJECT_TAGS, SUBJECTS};
use crate::store_common::{Disk, clock, edit};
use attestlog::Justification;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::Json;
use attestlog::redact::{Action, Policy, Preset};
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Options, PolicySet, ToolCall};
use redb::{ReadableTable, WriteTransaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn options(key: &Path, clock: &Arc<ManualClock>) -> Options {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build().unwrap();
    set.results.keep_full = Some(1000);
    let random = Arc::new(SeededRandom::new(5));
    Options::new().clock(clock.clone()).random(random).background(false).policies(set).key_file(key)
}

struct Stored {
    _dir: TempDir,
    key: PathBuf,
    clock: Arc<ManualClock>,
    bytes: Vec<u8>,
}

/// Entries 2 and 3 are about P-1 (in arguments, in a result), 4 about P-2; `then` may do more.
fn stored(then: impl FnOnce(&AuditLog)) -> Stored {
    let dir = tempfile::tempdir().unwrap();
    let (key, clock, disk) = (dir.path().join("key"), clock(), Disk::default());
    let log = options(&key, &clock).create_on(disk.backend()).unwrap();
    let value = |ssn: &str| Json::parse(format!(r#"[{{"ssn":"{ssn}"}}]"#).as_bytes()).unwrap().value;
    let call = |patient: &str| ToolCall::new("c", "u", "t").patient(patient);
    log.record(call("P-1").arguments(value("460-89-9847"))).unwrap();
    log.record(call("P-1").result(value("460-89-9847"))).unwrap();
    log.record(call("P-2").arguments(value("460-89-9848"))).unwrap();
    then(&log);
    log.close().unwrap();
    Stored { _dir: dir, key, clock, bytes: disk.bytes() }
}

impl Stored {
    /// The findings of a verification after an edit.
    fn found(&self, change: impl FnOnce(&WriteTransaction)) -> Vec<(FindingKind, Option<u64>)> {
        let disk = Disk::of(edit(&self.bytes, change));
        let log = options(&self.key, &self.clock).open_on(disk.backend()).unwrap();
        let findings = log.verify(&VerifyOptions::new()).unwrap().findings;
        findings.iter().map(|f| (f.kind, f.seq)).collect()
    }
}

fn rows(txn: &WriteTransaction) -> Vec<(String, Vec<u8>)> {
    let table = txn.open_table(SUBJECTS).unwrap();
    table.iter().unwrap().map(|r| r.unwrap()).map(|(k, v)| (k.value().to_owned(), v.value().to_vec())).collect()
}

const GONE: FindingKind = FindingKind::SubjectKeyMismatch;

#[test]
fn a_key_that_is_gone_without_an_erasure_is_found() {
    let stored = stored(|_| ());
    assert_eq!(stored.found(|_| ()), []);
    let all = stored.found(|txn| {
        for (id, _) in rows(txn) {
            txn.open_table(SUBJECTS).unwrap().remove(id.as_str()).unwrap();
        }
    });
    assert_eq!(all, [(GONE, Some(2)), (GONE, Some(4))], "each once, at the first entry that needs it");
    let one = stored.found(|txn| {
        let id = rows(txn).remove(0).0;
        txn.open_table(SUBJECTS).unwrap().remove(id.as_str()).unwrap();
    });
    assert_eq!(one.len(), 1);
}

#[test]
fn a_key_that_was_changed_is_found() {
    let stored = stored(|_| ());
    let swapped = stored.found(|txn| {
        let rows = rows(txn);
        let mut table = txn.open_table(SUBJECTS).unwrap();
        table.insert(rows[0].0.as_str(), rows[1].1.as_slice()).unwrap();
        table.insert(rows[1].0.as_str(), rows[0].1.as_slice()).unwrap();
    });
    assert_eq!(swapped, [(GONE, Some(2)), (GONE, Some(4))]);
    let cut = stored.found(|txn| {
        let (id, row) = rows(txn).remove(0);
        txn.open_table(SUBJECTS).unwrap().insert(id.as_str(), &row[..row.len() - 1]).unwrap();
    });
    assert_eq!(cut.iter().map(|f| f.0).collect::<Vec<_>>(), [GONE]);
    let hidden = stored.found(|txn| {
        let tag = txn.open_table(SUBJECT_TAGS).unwrap().first().unwrap().unwrap().0.value().to_owned();
        txn.open_table(SUBJECT_TAGS).unwrap().remove(tag.as_str()).unwrap();
    });
    assert_eq!(
        hidden.iter().map(|f| f.0).collect::<Vec<_>>(),
        [FindingKind::SmallTableMismatch],
        "it would not be sealed under again"
    );
}

#[test]
fn a_key_that_is_back_after_its_erasure_is_found() {
    let mut before = Vec::new();
    let first = stored(|_| ());
    first.found(|txn| before = rows(txn));
    let erased =
        stored(|log| _ = log.privacy().erase("P-1", Justification { actor: "officer", reason: "asked for" }).unwrap());
    assert_eq!(erased.found(|_| ()), [], "an erasure that the log tells of is none");
    let back = erased.found(|txn| {
        let there: Vec<_> = rows(txn).into_iter().map(|r| r.0).collect();
        let mut table = txn.open_table(SUBJECTS).unwrap();
        for (id, row) in before.iter().filter(|(id, _)| !there.contains(id)) {
            table.insert(id.as_str(), row.as_slice()).unwrap();
        }
    });
    assert_eq!(back, [(GONE, Some(5))]);
}

//! System events, which say what is in force, are hidden while the store is opened, and put back afterwards.

use super::unbound::{edit, findings, options};
use crate::store_common::tables::{BLOCKS, LEAVES, POSTINGS, TERMS};
use crate::store_common::{clock, open_grant};
use attestlog::Justification;
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::keys::KeyFile;
use attestlog::retention::HoldSelector;
use attestlog::verify::FindingKind;
use attestlog::{AuditLog, ErrorKind, Kind, Options, ToolCall};
use redb::ReadableTable;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The number of the facet `kind`, and the key prefix of its rows.
const KIND: u8 = 10;
const YEARS: Duration = Duration::from_secs(20 * 366 * 86_400);

fn timed(clock: &Arc<ManualClock>, seed: u64) -> Options {
    Options::new().clock(clock.clone()).random(Arc::new(SeededRandom::new(seed))).background(false)
}

fn call_about(patient: &str) -> ToolCall {
    ToolCall::new("c", "u", "look").patient(patient)
}

fn holds(log: &AuditLog, patient: &str) -> u64 {
    let mut covering = HoldSelector::default();
    covering.patients.insert(patient.to_owned());
    log.retention().place_hold("case 7", covering, Justification { actor: "counsel", reason: "a claim" }).unwrap().seq
}

/// Removes the rows of one kind from the index in the file; returns them, so that they can be put back.
fn hide(path: &Path, kind: Kind) -> Vec<((u8, u64, u64), Vec<u8>)> {
    let mut taken = Vec::new();
    edit(path, |txn| {
        let term = txn.open_table(TERMS).unwrap().get((KIND, kind.as_str().as_bytes())).unwrap().unwrap().value();
        let mut rows = txn.open_table(POSTINGS).unwrap();
        let of_kind = (KIND, term, 0)..=(KIND, term, u64::MAX);
        for row in rows.range(of_kind.clone()).unwrap() {
            let (key, value) = row.unwrap();
            taken.push((key.value(), value.value().to_vec()));
        }
        rows.retain_in(of_kind, |_, _| false).unwrap();
    });
    assert!(!taken.is_empty(), "{kind}");
    taken
}

#[track_caller]
fn refused(log: &AuditLog, what: &str) {
    let refused = [
        log.record(ToolCall::new("c", "u", "look")).map(drop),
        log.checkpoint().map(drop),
        log.retention().purge("privacy").map(drop),
        log.retention().plan().map(drop),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        let e = refused.expect_err(what);
        assert_eq!(e.kind(), ErrorKind::Damaged, "{what}, {i}: {e}");
        assert!(e.to_string().contains("attestlog verify"), "{what}: it says what to do: {e}");
    }
}

/// R60. While the file was closed, somebody without keys removed the index row that leads to a legal hold. The scheduled
/// purge did not know of the hold and removed what it kept; then the row was put back, and verification was clean forever.
#[test]
fn a_hold_that_nothing_leads_to_is_missed_before_anything_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = timed(&clock, 1).create(&path).unwrap();
    log.record(call_about("P-1")).unwrap();
    holds(&log, "P-1");
    log.flush_index().unwrap();
    log.close().unwrap();
    clock.advance(YEARS);
    let log = timed(&clock, 2).open(&path).unwrap();
    log.retention().confirm_clock(Justification { actor: "ops", reason: "years have passed" }).unwrap();
    log.close().unwrap();

    let rows = hide(&path, Kind::HoldPlaced);
    let log = timed(&clock, 3).open(&path).unwrap();
    refused(&log, "purged without the hold");
    assert!(findings(&log).iter().any(|(kind, _)| *kind == FindingKind::IndexRowMissing));
    log.close().unwrap();

    // After it is put back, the store is as it was, and the hold is in force.
    edit(&path, |txn| {
        let mut table = txn.open_table(POSTINGS).unwrap();
        rows.iter().for_each(|(key, row)| drop(table.insert(*key, &**row).unwrap()));
    });
    let log = timed(&clock, 4).open(&path).unwrap();
    let purged = log.retention().purge("privacy").unwrap();
    assert_eq!((purged.purged, purged.kept_by_hold), (0, 1));
    assert_eq!(findings(&log), []);
}

/// The same with everything else that decides something, and in other ways: every kind of entry that puts something into
/// force, with its row or its term removed; a row that lists fewer entries than before.
#[test]
fn whatever_is_in_force_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = timed(&clock, 1).create(&path).unwrap();
    let first = open_grant(&log, "u", "P-1");
    open_grant(&log, "v", "P-2");
    log.emergency().close(first, "u").unwrap();
    let held = holds(&log, "P-1");
    holds(&log, "P-2");
    log.retention().release_hold(held, Justification { actor: "counsel", reason: "settled" }).unwrap();
    log.retention().set_policies(log.retention().policies().unwrap()).unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    log.record(call_about("P-1")).unwrap();
    log.flush_index().unwrap();
    log.close().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let kinds = [
        Kind::Genesis,
        Kind::Policy,
        Kind::HoldPlaced,
        Kind::HoldReleased,
        Kind::Key,
        Kind::BreakGlassOpened,
        Kind::BreakGlassClosed,
    ];
    for kind in kinds {
        hide(&path, kind);
        match kind {
            // The identity of the log is read from its fixed position.
            Kind::Genesis => drop(timed(&clock, 2).open(&path).unwrap().record(call_about("P-1")).unwrap()),
            _ => refused(&timed(&clock, 2).open(&path).unwrap(), kind.as_str()),
        }
        std::fs::write(&path, &whole).unwrap();
        edit(&path, |txn| drop(txn.open_table(TERMS).unwrap().remove((KIND, kind.as_str().as_bytes())).unwrap()));
        if kind != Kind::Genesis {
            refused(&timed(&clock, 2).open(&path).unwrap(), kind.as_str());
        }
        std::fs::write(&path, &whole).unwrap();
    }
    // The row names only one of two holds: salt, place, and the list in the other form, with one gap less.
    edit(&path, |txn| {
        let term = txn.open_table(TERMS).unwrap().get((KIND, &b"hold_placed"[..])).unwrap().unwrap().value();
        let mut rows = txn.open_table(POSTINGS).unwrap();
        let (key, mut row) = {
            let mut found = rows.range((KIND, term, 0)..=(KIND, term, u64::MAX)).unwrap();
            let (key, row) = found.next().unwrap().unwrap();
            (key.value(), row.value().to_vec())
        };
        let gaps = row.len() - 2;
        assert_eq!(row[gaps], 0, "gaps: {row:?}");
        row.pop();
        rows.insert(key, &*row).unwrap();
    });
    refused(&timed(&clock, 2).open(&path).unwrap(), "a hold of two");
    std::fs::write(&path, &whole).unwrap();
    // Without the keys this cannot be detected, and nothing is recorded; reading goes on, and verification finds it.
    hide(&path, Kind::BreakGlassOpened);
    let keyless = timed(&clock, 2).key_file(dir.path().join("none")).open(&path).unwrap();
    assert_eq!(keyless.record(call_about("P-1")).unwrap_err().kind(), ErrorKind::Key);
    assert!(findings(&keyless).iter().any(|(kind, _)| *kind == FindingKind::IndexRowMissing));
}

/// An entry that decides something was rewritten, with its hash, in its block; the tree nodes above it were left as they
/// were, so the root at the mark was right. Opening only compares each entry with the hash beside it, and that was right
/// too: the hold was another patient's until the block was put back.
#[test]
fn a_hold_that_was_written_anew_with_its_hash_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, patient: &str| {
        let path = dir.path().join(name);
        let log = options(1).segment_entries(64).create(&path).unwrap();
        holds(&log, patient);
        log.record_batch((0..300).map(|_| call_about("P-1"))).unwrap();
        log.flush_index().unwrap();
        log.close().unwrap();
        path
    };
    // The same keys and the same nonces.
    let (path, other) = (made("s", "P-1"), made("t", "P-2"));
    // Contents and hashes of the first segment, in place of those that are there.
    let exchange = |path: &Path, with: [Option<Vec<u8>>; 2]| {
        let mut before = [Vec::new(), Vec::new()];
        edit(path, |txn| {
            for ((table, row), before) in [BLOCKS, LEAVES].into_iter().zip(&with).zip(&mut before) {
                let mut table = txn.open_table(table).unwrap();
                *before = table.get(0).unwrap().unwrap().value().to_vec();
                row.iter().for_each(|row| drop(table.insert(0, &**row).unwrap()));
            }
        });
        before
    };
    let forged = exchange(&other, [None, None]);
    let right = exchange(&path, forged.clone().map(Some));
    assert!(right[0] != forged[0] && right[1] != forged[1]);
    refused(&options(2).open(&path).unwrap(), "another hold");
    exchange(&path, right.map(Some));
    let log = options(2).open(&path).unwrap();
    log.record(call_about("P-1")).unwrap();
    assert_eq!(findings(&log), []);
}

/// What was recorded since the last signature (the process was killed) is in no digest: there each entry is read, whatever
/// the index leads to.
#[test]
fn a_hold_that_was_not_signed_yet_is_read_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let log = options(1).create(&path).unwrap();
    log.record(call_about("P-1")).unwrap();
    log.checkpoint().unwrap();
    holds(&log, "P-1");
    log.flush_index().unwrap();
    let (killed, key) = (std::fs::read(&path).unwrap(), std::fs::read(dir.path().join("s.key")).unwrap());
    log.close().unwrap();
    std::fs::write(&path, &killed).unwrap();
    std::fs::write(dir.path().join("s.key"), key).unwrap();
    hide(&path, Kind::HoldPlaced);
    refused(&options(2).open(&path).unwrap(), "a hold beyond the mark");
    std::fs::write(&path, killed).unwrap();
    let log = options(2).open(&path).unwrap();
    assert_eq!(log.retention().holds().unwrap().len(), 1);
    log.record(call_about("P-1")).unwrap();
}

/// The digest covers what is in force, and a purge removes only what is over: a store works after a purge, whatever was
/// signed when. The end of a grant used to be kept only as long as the grant's period at opening: after a policy that keeps
/// both longer, the end was purged first, and the grant was open again.
#[test]
fn what_a_purge_takes_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = timed(&clock, 1).create(&path).unwrap();
    let grant = open_grant(&log, "u", "P-1");
    let mut longer = log.retention().policies().unwrap();
    let period = attestlog::retention::Period::years(9).unwrap();
    longer.retention = attestlog::retention::RetentionPolicy::builder().class("healthcare", period).build().unwrap();
    log.retention().set_policies(longer).unwrap();
    let mark = log.checkpoint().unwrap().checkpoint().size();
    log.emergency().close(grant, "u").unwrap();
    log.emergency().review(grant, Justification { actor: "privacy_office", reason: "justified" }, None).unwrap();
    let ends = log.query(&attestlog::Query::new().kind(Kind::BreakGlassClosed)).unwrap();
    let end = ends.map(|entry| entry.unwrap().body.retention.unwrap().until).next().unwrap();
    let until = log.entry(grant).unwrap().body.retention.unwrap().until;
    assert!(end.since(until) > Duration::from_secs(366 * 86_400), "{end} {until}");

    clock.advance(YEARS);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "years have passed" }).unwrap();
    // It was open when the keys signed last.
    let killed = |name: &str| {
        let copy = dir.path().join(name);
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(dir.path().join("s.key"), dir.path().join(format!("{name}.key"))).unwrap();
        let log = timed(&clock, 5).open(&copy).unwrap();
        log.record(ToolCall::new("c", "u", "look")).unwrap();
        assert_eq!(findings(&log), []);
        log.close().unwrap();
    };
    assert_eq!(log.retention().purge("privacy").unwrap().purged, 0);
    assert_eq!(KeyFile::load(&dir.path().join("s.key"), None).unwrap().mark().unwrap().size, mark);
    killed("before");
    log.checkpoint().unwrap();
    assert_eq!(log.retention().purge("privacy").unwrap().purged, 2, "grant and end");
    killed("after");
    log.close().unwrap();
    timed(&clock, 6).open(&path).unwrap().record(call_about("P-1")).unwrap();
}

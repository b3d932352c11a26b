//! The store's own entries, which say what is in force, hidden from whoever opens the store, and put back after.

use super::unbound::{edit, findings, options};
use crate::store_common::clock;
use attestlog::keys::KeyFile;
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, ErrorKind, FindingKind, Kind, ManualClock, Options, SeededRandom, ToolCall};
use redb::{ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TERMS: TableDefinition<'_, (u8, &[u8]), u64> = TableDefinition::new("terms");
const POSTINGS: TableDefinition<'_, (u8, u64, u64), &[u8]> = TableDefinition::new("postings");
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// The number of the facet of kinds, and the shelf of its rows.
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
    log.place_hold("case 7", "a claim", "counsel", covering).unwrap().seq
}

/// Takes the rows of one kind out of the index in the file; gives them, to be put back.
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
        log.purge("privacy").map(drop),
        log.plan_purge().map(drop),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        let e = refused.expect_err(what);
        assert_eq!(e.kind(), ErrorKind::Damaged, "{what}, {i}: {e}");
        assert!(e.to_string().contains("attestlog verify"), "{what}: it says what to do: {e}");
    }
}

/// R60. Somebody without keys took the row of the index that leads to a legal hold out of the file while it was closed. The scheduled
/// purge did not know of the hold and took what it kept; then he put the row back, and verification was clean for ever.
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
    log.confirm_clock("ops", "years have passed").unwrap();
    log.close().unwrap();

    let rows = hide(&path, Kind::HoldPlaced);
    let log = timed(&clock, 3).open(&path).unwrap();
    refused(&log, "purged without the hold");
    assert!(findings(&log).iter().any(|(kind, _)| *kind == FindingKind::IndexRowMissing));
    log.close().unwrap();

    // Put back, it is the store that it was, and the hold holds.
    edit(&path, |txn| {
        let mut table = txn.open_table(POSTINGS).unwrap();
        rows.iter().for_each(|(key, row)| drop(table.insert(*key, &**row).unwrap()));
    });
    let log = timed(&clock, 4).open(&path).unwrap();
    let purged = log.purge("privacy").unwrap();
    assert_eq!((purged.purged, purged.kept_by_hold), (0, 1));
    assert_eq!(findings(&log), []);
}

/// The same with whatever else decides, and in other ways: every kind of entry that puts something into force, its row taken out or
/// its term; a row that lists less than it did.
#[test]
fn whatever_is_in_force_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = timed(&clock, 1).create(&path).unwrap();
    let hour = Duration::from_secs(3600);
    let first = log.open_emergency("u", "P-1", "unconscious", "high", hour, "u").unwrap().seq;
    log.open_emergency("v", "P-2", "unconscious", "high", hour, "v").unwrap();
    log.close_emergency(first, "u").unwrap();
    let held = holds(&log, "P-1");
    holds(&log, "P-2");
    log.release_hold(held, "settled", "counsel").unwrap();
    log.set_policy(log.policies()).unwrap();
    log.rotate_pseudonym_key().unwrap();
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
            // Whose it is is read from where it stands.
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
    // Of two holds the row names one: salt, place, and the list of the other form, with one gap less.
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
    // Without the keys nobody can tell, and nothing is recorded; what only reads goes on, and verification finds it.
    hide(&path, Kind::BreakGlassOpened);
    let keyless = timed(&clock, 2).key_file(dir.path().join("none")).open(&path).unwrap();
    assert_eq!(keyless.record(call_about("P-1")).unwrap_err().kind(), ErrorKind::Key);
    assert!(findings(&keyless).iter().any(|(kind, _)| *kind == FindingKind::IndexRowMissing));
}

/// An entry that decides was written anew, with its hash, in the block that it lies in; the nodes of the tree above it were left as they
/// were, so its root at the mark was the right one. Opening compares each entry with the hash beside it, and that was right too: the
/// hold was another patient's until the block was put back.
#[test]
fn a_hold_that_was_written_anew_with_its_hash_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, patient: &str| {
        let path = dir.path().join(name);
        let log = options(1).create(&path).unwrap();
        holds(&log, patient);
        log.record_batch((0..300).map(|_| call_about("P-1"))).unwrap();
        log.flush_index().unwrap();
        log.close().unwrap();
        path
    };
    // The same keys and the same nonces.
    let (path, other) = (made("s", "P-1"), made("t", "P-2"));
    let mut forged = Vec::new();
    edit(&other, |txn| {
        let blocks = txn.open_table(BLOCKS).unwrap();
        forged = blocks.get(0).unwrap().unwrap().value().to_vec();
    });
    let mut right = Vec::new();
    edit(&path, |txn| {
        let mut blocks = txn.open_table(BLOCKS).unwrap();
        right = blocks.insert(0, &*forged).unwrap().unwrap().value().to_vec();
    });
    assert_ne!(right, forged);
    refused(&options(2).open(&path).unwrap(), "another hold");
    edit(&path, |txn| drop(txn.open_table(BLOCKS).unwrap().insert(0, &*right).unwrap()));
    let log = options(2).open(&path).unwrap();
    log.record(call_about("P-1")).unwrap();
    assert_eq!(findings(&log), []);
}

/// What was recorded since the last signature (the process was killed) is in no digest: there each entry is read, whatever the index
/// leads to.
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
    assert_eq!(log.holds().unwrap().len(), 1);
    log.record(call_about("P-1")).unwrap();
}

/// The digest is of what is in force, and a purge takes only what is over: a store goes on after one, whatever was signed when. The end
/// of a grant was kept for as long as the grant was to be when it was opened: after a policy that keeps both longer the end went first,
/// and the grant was open again.
#[test]
fn what_a_purge_takes_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("s"), clock());
    let log = timed(&clock, 1).create(&path).unwrap();
    let hour = Duration::from_secs(3600);
    let grant = log.open_emergency("u", "P-1", "unconscious", "high", hour, "u").unwrap().seq;
    let mut longer = log.policies();
    let period = attestlog::retention::Period::years(9).unwrap();
    longer.retention = attestlog::retention::RetentionPolicy::builder().class("healthcare", period).build().unwrap();
    log.set_policy(longer).unwrap();
    let mark = log.checkpoint().unwrap().checkpoint().size();
    log.close_emergency(grant, "u").unwrap();
    log.review_emergency(grant, "privacy_office", "justified", None).unwrap();
    let ends = log.query(&attestlog::Query::new().kind(Kind::BreakGlassClosed)).unwrap();
    let end = ends.map(|entry| entry.unwrap().body.retention.unwrap().until).next().unwrap();
    let until = log.entry(grant).unwrap().body.retention.unwrap().until;
    assert!(end.since(until) > Duration::from_secs(366 * 86_400), "{end} {until}");

    clock.advance(YEARS);
    log.confirm_clock("ops", "years have passed").unwrap();
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
    assert_eq!(log.purge("privacy").unwrap().purged, 0);
    assert_eq!(KeyFile::load(&dir.path().join("s.key"), None).unwrap().mark().unwrap().size, mark);
    killed("before");
    log.checkpoint().unwrap();
    assert_eq!(log.purge("privacy").unwrap().purged, 2, "grant and end");
    killed("after");
    log.close().unwrap();
    timed(&clock, 6).open(&path).unwrap().record(call_about("P-1")).unwrap();
}

//! Index rows are edited while the store is closed, a decision is based on them, and they are put back: afterwards nothing
//! in the file shows it.

use crate::store_common::tables::{BATCHES, COLUMNS, POSTINGS, TERMS};
use crate::store_common::{clock, open_grant};
use attestlog::Justification;
use attestlog::alert::Callback;
use attestlog::host::ManualClock;
use attestlog::retention::{Period, PolicyBuilder};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, ErrorKind, Facet, Kind, Neighbours, Options, PolicySet, Query, ToolCall};
use redb::{Database, ReadableTable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

struct Place {
    _dir: TempDir,
    store: PathBuf,
    clock: Arc<ManualClock>,
}

impl Place {
    /// A store whose calls are kept for a year.
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { store: dir.path().join("s"), _dir: dir, clock: clock() };
        let year = Period::years(1).unwrap();
        let mut set = PolicySet::default();
        set.retention = PolicyBuilder::empty()
            .class("general", year)
            .default_class("general")
            .patient_class("general")
            .build()
            .unwrap();
        place.options().policies(set).create(&place.store).unwrap().close().unwrap();
        place
    }

    fn options(&self) -> Options {
        Options::new().clock(self.clock.clone()).background(false)
    }

    fn open(&self) -> AuditLog {
        self.options().open(&self.store).unwrap()
    }

    /// Renames terms of the index, as somebody with only the file can.
    fn rename(&self, names: &[(&str, &str)]) {
        edit(&self.store, |txn| {
            let mut terms = txn.open_table(TERMS).unwrap();
            for (from, to) in names {
                let mut renamed = 0;
                for field in 0..=u8::MAX {
                    let id = terms.remove((field, from.as_bytes())).unwrap().map(|id| id.value());
                    if let Some(id) = id {
                        terms.insert((field, to.as_bytes()), id).unwrap();
                        renamed += 1;
                    }
                }
                assert!(renamed > 0, "{from}");
            }
        });
    }
}

fn edit(store: &Path, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    edit(&txn);
    txn.commit().unwrap();
}

fn failed() -> ToolCall {
    ToolCall::new("c", "mallory", "read").patient("P-1").error("no")
}

/// Lets the rules look at everything, and save their position.
fn look(place: &Place, log: &AuditLog) {
    let mut engine = log.alerts().engine().unwrap();
    engine.run_once().unwrap();
    place.clock.advance(Duration::from_secs(10));
    engine.run_once().unwrap();
}

#[track_caller]
fn assert_clean(log: &AuditLog) {
    let found = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
    assert!(found.is_empty(), "{found:?}");
}

fn alerts(log: &AuditLog) -> Vec<String> {
    log.alerts().list().unwrap().into_iter().map(|state| state.alert.rule).collect()
}

/// Nine failed accesses were indexed; two terms were renamed, the tenth access was recorded, and the terms were put back.
/// The rules had looked up the earlier ones in the index and found none; their position moved past the call, and no alert
/// was ever raised.
#[test]
fn alert_rules_do_not_believe_an_edited_index() {
    let place = Place::new();
    let log = place.open();
    log.record_batch((0..9).map(|_| failed())).unwrap();
    log.flush_index().unwrap();
    look(&place, &log);
    assert!(alerts(&log).is_empty());
    log.close().unwrap();

    place.rename(&[("mallory", "mallorz"), ("P-1", "P-2")]);
    let log = place.open();
    let tenth = log.record(failed()).unwrap().seq;
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    let pager = Callback::new("pager", move |alert| {
        assert_eq!(alert.rule, "tampering");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let mut engine = log.alerts().engine().unwrap().deliver_to(pager);
    for _ in 0..2 {
        let refused = engine.run_once().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        assert!(refused.to_string().contains("the index of entries 0 to"), "{refused}");
    }
    // Once, and receivers get the alert even if alerts cannot be looked up.
    assert_eq!((alerts(&log), told.load(Ordering::SeqCst)), (vec!["tampering".to_owned()], 1));
    log.close().unwrap();

    place.rename(&[("mallorz", "mallory"), ("P-2", "P-1")]);
    let log = place.open();
    log.alerts().engine().unwrap().run_once().unwrap();
    let found = alerts(&log);
    for rule in ["same-patient-user", "same-patient-anybody", "failures"] {
        assert!(found.iter().any(|name| name == rule), "{found:?}");
    }
    assert!(log.alerts().list().unwrap().iter().any(|state| state.alert.crossing == tenth));
    assert_clean(&log);
}

/// The same with the rows that the terms lead to, and with the table of index batches.
#[test]
fn neither_do_rows_that_were_taken_out_lead_them_astray() {
    let edits: [fn(&redb::WriteTransaction); 2] = [
        |txn| txn.open_table(POSTINGS).unwrap().retain(|(_, _, first), _| first < 2).unwrap(),
        |txn| txn.open_table(BATCHES).unwrap().retain(|_, _| false).unwrap(),
    ];
    for taken in edits {
        let place = Place::new();
        let log = place.open();
        log.record_batch((0..9).map(|_| failed())).unwrap();
        log.flush_index().unwrap();
        look(&place, &log);
        log.close().unwrap();
        edit(&place.store, taken);
        let log = place.open();
        log.record(failed()).unwrap();
        let refused = log.alerts().engine().unwrap().run_once().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
    }
}

/// A grant that `helper` used: a review of it is tried under each name.
fn granted(place: &Place) -> u64 {
    let log = place.open();
    let grant = open_grant(&log, "dr", "P-1");
    log.record(ToolCall::new("c", "helper", "read").patient("P-1").emergency(Some(grant))).unwrap();
    log.flush_index().unwrap();
    let refused =
        log.emergency().review(grant, Justification { actor: "helper", reason: "justified" }, None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    log.close().unwrap();
    grant
}

/// `helper` had used a grant, so a review by `helper` was refused. With the index's `true` renamed nobody seemed to have
/// used it: the review was recorded, the byte put back, and verification never looked at it again.
#[test]
fn who_used_a_grant_is_not_asked_of_an_edited_index() {
    let place = Place::new();
    let grant = granted(&place);
    place.rename(&[("true", "trux")]);
    let log = place.open();
    let refused =
        log.emergency().review(grant, Justification { actor: "helper", reason: "justified" }, None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
    assert!(refused.to_string().contains("the index of entries 0 to"), "{refused}");
    assert!(log.emergency().grants().is_err());
    log.close().unwrap();
    place.rename(&[("trux", "true")]);
    let log = place.open();
    assert_eq!(
        log.emergency().review(grant, Justification { actor: "helper", reason: "justified" }, None).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    log.emergency().review(grant, Justification { actor: "boss", reason: "justified" }, None).unwrap();
    assert_clean(&log);
}

/// A grant that was used since its review is kept (R15). The same byte, changed while a purge ran, made the purge remove it
/// permanently.
#[test]
fn a_purge_does_not_believe_an_edited_index() {
    let place = Place::new();
    let log = place.open();
    let grant = open_grant(&log, "dr", "P-1");
    log.emergency().review(grant, Justification { actor: "boss", reason: "ok" }, None).unwrap();
    log.record(ToolCall::new("c", "dr", "read").patient("P-1").emergency(Some(grant))).unwrap();
    log.flush_index().unwrap();
    log.close().unwrap();
    place.clock.advance(Duration::from_secs(800 * 86_400));
    let log = place.open();
    log.retention().confirm_clock(Justification { actor: "ops", reason: "a long time" }).unwrap();
    log.close().unwrap();
    place.rename(&[("true", "trux")]);
    let log = place.open();
    for e in [log.retention().plan().map(drop).unwrap_err(), log.retention().purge("ops").map(drop).unwrap_err()] {
        assert_eq!(e.kind(), ErrorKind::Damaged, "{e}");
    }
    log.close().unwrap();
    place.rename(&[("trux", "true")]);
    let log = place.open();
    log.retention().purge("ops").unwrap();
    assert!(log.entry(grant).is_ok());
    assert_clean(&log);
}

/// With one bit of a retention column changed, a purge said that nothing had expired.
#[test]
fn a_purge_does_not_believe_an_edited_column() {
    let place = Place::new();
    let log = place.open();
    log.record_batch((0..20).map(|_| ToolCall::new("c", "u", "look"))).unwrap();
    log.flush_index().unwrap();
    place.clock.advance(Duration::from_secs(800 * 86_400));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "a long time" }).unwrap();
    assert_eq!(log.retention().plan().unwrap().expired.len(), 20);
    log.close().unwrap();
    let flip = |at: usize, bit: u8| {
        let mut len = 0;
        edit(&place.store, |txn| {
            let mut columns = txn.open_table(COLUMNS).unwrap();
            let mut row = columns.get(0).unwrap().unwrap().value().to_vec();
            len = row.len();
            row[at] ^= 1 << bit;
            columns.insert(0, &*row).unwrap();
        });
        len
    };
    let (mut at, mut len) = (0, 1);
    while at < len {
        for bit in [0, 5] {
            len = flip(at, bit);
            let log = place.open();
            let planned = log.retention().plan();
            let kind = planned.map(drop).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Damaged, "byte {at} bit {bit}");
            log.close().unwrap();
            flip(at, bit);
        }
        at += 1;
    }
    assert_eq!(place.open().retention().purge("ops").unwrap().purged, 20);
}

/// What a long-running recorder adds later is not checked again, and after a purge a new file begins.
#[test]
fn an_index_that_is_right_is_believed() {
    let place = Place::new();
    let log = place.open();
    let mut engine = log.alerts().engine().unwrap();
    for day in 0..4 {
        log.record_batch((0..9).map(|i| ToolCall::new(format!("c{day}"), format!("u{i}"), "look").patient("P-1")))
            .unwrap();
        log.flush_index().unwrap();
        engine.run_once().unwrap();
        place.clock.advance(Duration::from_secs(120 * 86_400));
        log.retention().confirm_clock(Justification { actor: "ops", reason: "four months" }).unwrap();
    }
    assert!(log.retention().purge("ops").unwrap().purged > 0);
    log.record(ToolCall::new("c", "u1", "look").patient("P-1")).unwrap();
    log.flush_index().unwrap();
    engine.run_once().unwrap();
    log.proofs().complete(Facet::User, "u1", Neighbours::Reveal).unwrap();
    assert_eq!(log.count(&Query::new().kind(Kind::Purge)).unwrap(), 1);
    assert_clean(&log);
}

//! Rows of the small tables, changed or planted with any tool that writes redb files: decisions depend on these tables, and
//! nothing authenticated them.

use crate::store_common::tables::{ATTESTATIONS, CURSORS, META, SENDERS, SUBJECT_TAGS, SUBJECTS};
use crate::store_common::{clock, options, time};
use attestlog::Justification;
use attestlog::anchor::{Anchor, FileAnchor};
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::redact::{Action, Policy, Preset, sealed_subject};
use attestlog::verify::{FindingKind, VerifyOptions};
use attestlog::{AuditLog, Error, ErrorKind, Kind, Options, PolicySet, Query, Sender, ToolCall};
use redb::{Database, ReadableDatabase, ReadableTable};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Larger than any log, and exactly representable in JSON.
const FAR: u64 = (1 << 53) - 1;

struct Place {
    _dir: TempDir,
    store: PathBuf,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new(policies: PolicySet) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { store: dir.path().join("s"), _dir: dir, clock: clock() };
        place.options().policies(policies).create(&place.store).unwrap().close().unwrap();
        place
    }

    fn options(&self) -> Options {
        Options::new().clock(self.clock.clone()).background(false)
    }

    fn open(&self) -> AuditLog {
        self.options().open(&self.store).unwrap()
    }

    /// Edits the file, as somebody with only the file can.
    fn edit(&self, edit: impl FnOnce(&redb::WriteTransaction)) {
        let database = Database::open(&self.store).unwrap();
        let txn = database.begin_write().unwrap();
        edit(&txn);
        txn.commit().unwrap();
    }
}

/// The rows of a table with text keys and values.
fn texts(table: &redb::Table<'_, &'static str, &'static str>) -> Vec<(String, String)> {
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(key, value)| (key.value().to_owned(), value.value().to_owned())).collect()
}

fn found(log: &AuditLog, kind: FindingKind) -> Vec<String> {
    let all = log.verify(&VerifyOptions::new().threads(1)).unwrap().findings;
    all.into_iter().filter(|finding| finding.kind == kind).map(|finding| finding.detail).collect()
}

#[track_caller]
fn assert_clean(log: &AuditLog) {
    let verification = log.verify(&VerifyOptions::new().threads(1)).unwrap();
    assert!(verification.ok(), "{:?}", verification.findings);
    assert!(verification.not_authenticated.is_empty(), "{:?}", verification.not_authenticated);
}

fn sealing() -> PolicySet {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build().unwrap();
    set
}

fn sealed(patient: &str) -> ToolCall {
    let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#).unwrap().value;
    ToolCall::new("c", "u", "enrol").patient(patient).arguments(arguments)
}

/// Replaces every occurrence of `from` by `to`, which has the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

/// The owner of a key of sealed values was stored beside the key, unauthenticated. With the names in two rows swapped,
/// erasing one person permanently destroyed the other's values, and left those of the person who was meant.
#[test]
fn swapping_whose_a_key_is_destroys_nobodys_values() {
    let place = Place::new(sealing());
    let log = place.open();
    let (alice, bob) = (log.record(sealed("alice")).unwrap(), log.record(sealed("bob")).unwrap());
    assert_clean(&log);
    log.close().unwrap();
    place.edit(|txn| {
        let mut tags = txn.open_table(SUBJECT_TAGS).unwrap();
        let rows = texts(&tags);
        let [(one, first), (other, second)] = &rows[..] else { panic!("{rows:?}") };
        let mut subjects = txn.open_table(SUBJECTS).unwrap();
        for (id, from, to) in [(first, one, other), (second, other, one)] {
            let row = subjects.get(id.as_str()).unwrap().unwrap().value().to_vec();
            subjects.insert(id.as_str(), &*replaced(&row, from, to)).unwrap();
        }
        tags.insert(one.as_str(), second.as_str()).unwrap();
        tags.insert(other.as_str(), first.as_str()).unwrap();
    });
    let log = place.open();
    for name in ["alice", "bob"] {
        let refused = log.privacy().erase(name, Justification { actor: "dpo", reason: "asked for it" }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        assert!(refused.to_string().contains("restore a backup"), "{refused}");
    }
    assert_eq!(log.count(&Query::new().kind(Kind::Erasure)).unwrap(), 0);
    assert_eq!(found(&log, FindingKind::SubjectKeyMismatch).len(), 2);
    for seq in [alice.seq, bob.seq] {
        assert_eq!(
            log.privacy()
                .reveal(seq, "arguments.ssn", Justification { actor: "dr", reason: "why" })
                .unwrap_err()
                .kind(),
            ErrorKind::Damaged
        );
    }
}

/// The position in a person's row of the name of the master key: after version, count, and the pseudonym with its length.
fn master_at(row: &[u8]) -> usize {
    assert_eq!(row[1], 1, "one member");
    3 + usize::from(row[2])
}

/// Flips a bit of the master key's name in the row of this key.
fn rename_master(place: &Place, id: &str) {
    place.edit(|txn| {
        let mut subjects = txn.open_table(SUBJECTS).unwrap();
        let mut row = subjects.get(id).unwrap().unwrap().value().to_vec();
        let at = master_at(&row);
        row[at] ^= 1;
        subjects.insert(id, &*row).unwrap();
    });
}

fn key_id(log: &AuditLog, seq: u64) -> String {
    let entry = log.entry(seq).unwrap();
    let arguments = entry.call().unwrap().arguments.as_ref().unwrap().to_json();
    sealed_subject(arguments.get("ssn").unwrap()).unwrap().to_owned()
}

/// The name of the master key that wraps a row was stored in the row, and a master key that the key file does not hold
/// counted as lost long ago: with one bit changed nothing was found, and the next erasure of anybody else wrapped all other
/// rows again and destroyed the master key, and with it that person's values, silently.
#[test]
fn renaming_the_master_key_of_a_row_loses_nobodys_values() {
    let place = Place::new(sealing());
    let log = place.open();
    let (alice, bob) = (log.record(sealed("alice")).unwrap(), log.record(sealed("bob")).unwrap());
    let id = key_id(&log, alice.seq);
    assert_clean(&log);
    log.close().unwrap();
    let whole = std::fs::read(&place.store).unwrap();
    rename_master(&place, &id);
    let log = place.open();
    let findings = found(&log, FindingKind::SubjectKeyMismatch);
    assert!(findings.len() == 1 && findings[0].contains(&id), "{findings:?}");
    let unknown = log
        .privacy()
        .reveal(alice.seq, "arguments.ssn", Justification { actor: "dr", reason: "why" })
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("was changed in the file"), "{unknown}");
    let refused = log.privacy().erase("bob", Justification { actor: "dpo", reason: "asked for it" }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
    assert!(refused.to_string().contains(&id), "{refused}");
    assert_eq!(
        log.privacy().reveal(bob.seq, "arguments.ssn", Justification { actor: "dr", reason: "why" }).unwrap(),
        Json::from("460-89-9847")
    );
    log.close().unwrap();
    // Nothing was destroyed: when the row is restored, everything is in order.
    rename_master(&place, &id);
    let log = place.open();
    log.privacy().erase("bob", Justification { actor: "dpo", reason: "asked for it" }).unwrap();
    assert_eq!(
        log.privacy().reveal(alice.seq, "arguments.ssn", Justification { actor: "dr", reason: "why" }).unwrap(),
        Json::from("460-89-9847")
    );
    assert_clean(&log);
    drop(log);
    // A copy from before the erasure says, when it is restored, which master key is gone; that excuses no other missing
    // one.
    let copy = place.store.with_extension("copy");
    std::fs::write(&copy, whole).unwrap();
    let to = place.store.with_extension("again");
    std::fs::copy(place.store.with_extension("key"), to.with_extension("again.key")).unwrap();
    let log = place.options().restore(&copy, &to, Justification { actor: "ops", reason: "a disk was lost" }).unwrap();
    assert_clean(&log);
    let seq = log.record(sealed("carol")).unwrap().seq;
    let carol = key_id(&log, seq);
    log.close().unwrap();
    let again = Place { store: to, ..place };
    rename_master(&again, &carol);
    let log = again.open();
    assert_eq!(found(&log, FindingKind::SubjectKeyMismatch).len(), 1);
    assert_eq!(
        log.privacy().erase("bob", Justification { actor: "dpo", reason: "asked for it" }).unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

/// The text of a key in a table was not UTF-8, with all checksums right: redb panics when it reads it, and that ended the
/// thread that had asked for health or alerts, or tried to record or erase.
#[test]
fn a_key_that_is_no_text_panics_nowhere() {
    type Call = fn(&AuditLog) -> Result<(), Error>;
    let calls: [(&str, Call); 12] = [
        ("health", |log| log.health().map(drop)),
        ("alerts", |log| log.alerts().list().map(drop)),
        ("run", |log| {
            let out = attestlog::alert::Callback::new("pager", |_: &attestlog::alert::Alert| Ok(()));
            log.alerts().engine()?.deliver_to(out).run_once().map(drop)
        }),
        ("watch", |log| {
            let status = log.alerts().engine()?.start()?.finish(Duration::ZERO);
            status.last_error.map_or(Ok(()), |e| Err(Error::from(std::io::Error::other(e))))
        }),
        ("forget", |log| log.alerts().forget_receiver("pager").map(drop)),
        ("record", |log| log.record(sealed("alice")).map(drop)),
        ("record another", |log| log.record(sealed("carol")).map(drop)),
        ("reveal", |log| {
            log.privacy().reveal(2, "arguments.ssn", Justification { actor: "dr", reason: "why" }).map(drop)
        }),
        ("erase", |log| log.privacy().erase("bob", Justification { actor: "dpo", reason: "asked for it" }).map(drop)),
        ("verify", |log| log.verify(&VerifyOptions::new().threads(1)).map(drop)),
        ("verify and alert", |log| log.alerts().engine()?.verify_once(&VerifyOptions::new()).map(drop)),
        ("checkpoint", |log| log.checkpoint().map(drop)),
    ];
    let place = Place::new(sealing());
    let kept = place.store.with_extension("anchor");
    let log = place.options().anchor(FileAnchor::new(&kept)).open(&place.store).unwrap();
    log.record(sealed("alice")).unwrap();
    log.record(sealed("bob")).unwrap();
    suspicious(&log);
    calls[2].1(&log).unwrap();
    log.checkpoint().unwrap();
    assert!(log.anchors().flush(Duration::from_secs(30)).unwrap());
    log.close().unwrap();
    let (bytes, key_file) = (std::fs::read(&place.store).unwrap(), place.store.with_extension("key"));
    let keys = std::fs::read(&key_file).unwrap();
    let mut failed = std::collections::BTreeMap::new();
    for table in ["marks", "subjects", "subject_tags", "meta"] {
        let at: Vec<usize> =
            super::tree(&bytes, table).leaves().flat_map(|page| page.keys.clone()).map(|key| key.start).collect();
        assert!(at.len() > 1, "{table} has a key beside the one that is changed");
        for at in at {
            let mut changed = bytes.clone();
            changed[at] = 0xe1;
            super::trees::seal(&mut changed);
            for (name, call) in &calls {
                std::fs::write(&place.store, &changed).unwrap();
                std::fs::write(&key_file, &keys).unwrap();
                // Nothing below may panic; errors are allowed.
                let Ok(log) = place.options().open(&place.store) else { continue };
                *failed.entry((table, *name)).or_insert(0) += usize::from(call(&log).is_err());
                let _ = log.close();
            }
        }
    }
    for told in [("marks", "health"), ("marks", "run"), ("subject_tags", "record"), ("subjects", "erase")] {
        assert!(failed[&told] > 0, "{told:?} meets what was changed: {failed:?}");
    }
}

/// With only the two tags swapped, values of one person were from then on sealed under the other's key.
#[test]
fn swapping_by_whom_a_key_is_found_seals_under_no_other_key() {
    let place = Place::new(sealing());
    let log = place.open();
    log.record(sealed("alice")).unwrap();
    log.record(sealed("bob")).unwrap();
    log.close().unwrap();
    place.edit(|txn| {
        let mut tags = txn.open_table(SUBJECT_TAGS).unwrap();
        let rows = texts(&tags);
        tags.insert(rows[0].0.as_str(), rows[1].1.as_str()).unwrap();
        tags.insert(rows[1].0.as_str(), rows[0].1.as_str()).unwrap();
    });
    let log = place.open();
    assert!(!found(&log, FindingKind::SmallTableMismatch).is_empty());
    let later = log.record(sealed("bob")).unwrap();
    log.privacy().erase("alice", Justification { actor: "dpo", reason: "asked for it" }).unwrap();
    assert_eq!(
        log.privacy().reveal(later.seq, "arguments.ssn", Justification { actor: "dr", reason: "why" }).unwrap(),
        Json::from("460-89-9847")
    );
}

fn numbered(id: &str, number: u64) -> ToolCall {
    ToolCall::new("c", "u", "look").sender(Sender::new(id, number))
}

/// The id of a sender in the table: the one that its entry shows.
fn shown(log: &AuditLog, seq: u64) -> String {
    log.entry(seq).unwrap().call().unwrap().sender.clone().unwrap().id
}

/// The numbers of a sender were in a row that nothing checked when it was read: a planted row answered future records as
/// recorded already. They were lost, and their sender got receipts.
#[test]
fn a_planted_sender_swallows_no_record() {
    let place = Place::new(PolicySet::default());
    let log = place.open();
    let other = log.record(numbered("other", 7)).unwrap();
    assert_eq!(other.seq, 2);
    let ids = [("s", 1), ("far", 2000)].map(|(id, number)| shown(&log, log.record(numbered(id, number)).unwrap().seq));
    let [s, far_ahead] = &ids;
    log.close().unwrap();
    place.edit(|txn| {
        let mut senders = txn.open_table(SENDERS).unwrap();
        // Number 7 with the other's entry; 8 and 9 with entries that do not exist yet.
        senders.insert(&**s, &[1, 4, 1, 3, 7, 2, 8, 5, 9, 6, 0][..]).unwrap();
        // Sixty-three numbers far ahead besides its own, so that all below them would count as forgotten.
        let mut far = vec![1, 64];
        for (number, seq) in (1000u16..1063).map(|number| (number, 2)).chain([(2000, 4)]) {
            far.extend([251, number.to_le_bytes()[0], number.to_le_bytes()[1], seq]);
        }
        far.push(0);
        senders.insert(&**far_ahead, &*far).unwrap();
    });
    let log = place.open();
    assert_eq!(found(&log, FindingKind::SenderMismatch).len(), 2);
    let calls = ["s", "s", "s", "far"].into_iter().zip([9, 7, 8, 1]);
    for (id, number) in calls {
        let size = log.size().unwrap();
        let receipt = log.record(numbered(id, number)).unwrap();
        assert_eq!(receipt.seq, size, "{id} {number} is recorded");
        assert_eq!(log.record(numbered(id, number)).unwrap(), receipt, "{id} {number} is answered the second time");
    }
    assert_clean(&log);
}

/// A repeat of a purged record is still answered, from a row authenticated with the keys; a row that was changed answers
/// nothing.
#[test]
fn a_purged_number_is_answered_only_as_the_keys_wrote_it() {
    let place = Place::new(PolicySet::default());
    let log = place.open();
    let first = log.record(numbered("s", 1)).unwrap();
    place.clock.advance(Duration::from_secs(9000 * 86_400));
    log.retention().confirm_clock(Justification { actor: "ops", reason: "time has passed" }).unwrap();
    let s = shown(&log, log.record(numbered("s", 2)).unwrap().seq);
    let others = ["copied", "bare"].map(|id| shown(&log, log.record(numbered(id, 2)).unwrap().seq));
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    let size = log.size().unwrap();
    assert_eq!(log.record(numbered("s", 1)).unwrap().seq, first.seq);
    assert_eq!(log.size().unwrap(), size);
    assert_clean(&log);
    log.close().unwrap();
    // The same row for another sender, and one without a MAC.
    place.edit(|txn| {
        let mut senders = txn.open_table(SENDERS).unwrap();
        let row = senders.get(&*s).unwrap().unwrap().value().to_vec();
        senders.insert(&*others[0], &*row).unwrap();
        senders.insert(&*others[1], &[1, 1, 1, first.seq as u8, 0][..]).unwrap();
    });
    let log = place.open();
    assert!(found(&log, FindingKind::SenderMismatch).len() >= 2);
    for id in ["copied", "bare"] {
        let size = log.size().unwrap();
        assert!(log.record(numbered(id, 1)).unwrap().seq >= size, "{id}");
    }
    assert_eq!(log.record(numbered("s", 1)).unwrap().seq, first.seq);
}

fn suspicious(log: &AuditLog) {
    for _ in 0..10 {
        log.record(ToolCall::new("c", "dr_smith", "read_chart").patient("P-1")).unwrap();
    }
}

/// The position of alert rules was a number that anybody could set: beyond the log it made listing alerts and starting the
/// engine run forever, and anywhere ahead it kept rules from looking at the entries before it.
#[test]
fn a_mark_that_was_set_ahead_silences_no_alert() {
    for at in [FAR, 12] {
        let place = Place::new(PolicySet::default());
        let log = place.open();
        suspicious(&log);
        assert_eq!(log.size().unwrap(), 12);
        log.close().unwrap();
        place.edit(|txn| _ = txn.open_table(CURSORS).unwrap().insert("evaluated", (at, [0; 16])).unwrap());
        let log = place.open();
        assert_eq!(found(&log, FindingKind::SmallTableMismatch).len(), 1, "{at}");
        assert_eq!(log.health().unwrap().alerts.evaluated, None);
        log.alerts().engine().unwrap().run_once().unwrap();
        assert!(log.alerts().list().unwrap().iter().any(|state| state.alert.rule == "same-patient-user"), "{at}");
    }
    // Without keys a position can only be checked against the log's size; and a message says so.
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (dir.path().join("s"), clock());
    let log = options(&clock, 1).create(&store).unwrap();
    suspicious(&log);
    log.close().unwrap();
    let database = Database::open(&store).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(CURSORS).unwrap().insert("evaluated", (FAR, [0; 16])).unwrap();
    txn.commit().unwrap();
    drop(database);
    let log = options(&clock, 2).open(&store).unwrap();
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert_eq!(verification.not_authenticated, ["marks"]);
    assert!(verification.findings.iter().any(|f| f.kind == FindingKind::SmallTableMismatch));
    log.alerts().engine().unwrap().run_once().unwrap();
    assert!(!log.alerts().list().unwrap().is_empty());
}

/// What an anchor owes depended on what it was recorded to have accepted. A success for 2^53 entries stopped anchoring
/// permanently, and `health` showed it as the last anchor.
#[test]
fn a_success_that_cannot_be_stops_no_anchoring() {
    let place = Place::new(PolicySet::default());
    let kept = place.store.with_extension("anchor");
    let open = || place.options().anchor(FileAnchor::new(&kept)).open(&place.store).unwrap();
    let log = open();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    let size = log.checkpoint().unwrap().checkpoint().size();
    assert!(log.anchors().flush(Duration::from_secs(30)).unwrap());
    assert_clean(&log);
    log.close().unwrap();
    let row = {
        let database = Database::open(&place.store).unwrap();
        let txn = database.begin_read().unwrap();
        let row = txn.open_table(META).unwrap().get("anchors").unwrap().unwrap().value().to_vec();
        String::from_utf8(row).unwrap()
    };
    let success = format!("\"size\":{size}");
    assert!(row.contains(&success), "{row}");
    for forged in [row.replace(&success, &format!("\"size\":{FAR}")), row.replace("2025-", "2099-")] {
        assert_ne!(forged, row);
        place.edit(|txn| _ = txn.open_table(META).unwrap().insert("anchors", forged.as_bytes()).unwrap());
        let log = open();
        assert!(!found(&log, FindingKind::SmallTableMismatch).is_empty());
        assert!(
            log.health()
                .unwrap()
                .last_anchor()
                .is_none_or(|(_, taken, at)| taken <= size && at <= time("2090-01-01T00:00:00Z"))
        );
        log.record(ToolCall::new("c", "u", "look")).unwrap();
        let newer = log.checkpoint().unwrap().checkpoint().size();
        assert!(log.anchors().flush(Duration::from_secs(30)).unwrap());
        let text = std::fs::read_to_string(&kept).unwrap();
        assert!(text.contains(&format!("\\n{newer}\\n")), "the checkpoint of {newer} was handed over: {text}");
        log.close().unwrap();
    }
    drop(FileAnchor::new(&kept).name());
}

/// A stored row with an anchor's answer for a checkpoint was read back without any check.
#[test]
fn an_attestation_of_another_checkpoint_is_found() {
    let place = Place::new(PolicySet::default());
    let log = place.open();
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.close().unwrap();
    place.edit(|txn| _ = txn.open_table(ATTESTATIONS).unwrap().insert((3, "witness"), &b"{}"[..]).unwrap());
    assert_eq!(found(&place.open(), FindingKind::CheckpointMismatch).len(), 1);
}

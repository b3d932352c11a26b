//! Rows with the keys of sealed values are removed from the file while it is closed, and put back after somebody else has
//! concluded that the sealed values never existed.

use crate::common::{Place, Ran};
use crate::store_common::tables::{SUBJECT_TAGS, SUBJECTS, TERMS};
use redb::{Database, ReadableTable};

/// The rows of a key, as kept by somebody who has only the file.
struct Taken {
    row: Vec<u8>,
    id: String,
    tag: String,
}

fn edit(place: &Place, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(place.path("s")).unwrap();
    let txn = database.begin_write().unwrap();
    edit(&txn);
    txn.commit().unwrap();
}

/// A store with a sealed value of alice (entry 2) and one of bob (entry 3).
fn sealing() -> Place {
    let place = Place::empty();
    place.write("config", "[redaction]\npreset = \"default\"\n\n[redaction.fields]\n\"ssn\" = \"seal\"\n");
    place.run(&["init", "s", "--config", "config"]).ok();
    for patient in ["alice", "bob"] {
        record(&place, patient);
    }
    place
}

fn record(place: &Place, patient: &str) {
    let call = format!(
        r#"{{"conversation_id":"c","user_id":"u","tool_name":"t","patient_id":"{patient}","arguments":{{"ssn":"460-89-9847"}}}}"#
    );
    place.run_with(&["record", "s", "--no-alerts"], call.as_bytes()).code(0);
}

/// The id of the key under which the value of this entry is sealed.
fn key_of(place: &Place, seq: u64) -> String {
    let entry = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let line = entry.lines().find(|line| line.contains(&format!("\"seq\":{seq},"))).unwrap();
    let at = line.find("\"subject\":\"").unwrap() + 11;
    line[at..at + 32].to_owned()
}

fn take_out(place: &Place, id: &str) -> Taken {
    let mut taken = Taken { row: Vec::new(), id: id.to_owned(), tag: String::new() };
    edit(place, |txn| {
        taken.row = txn.open_table(SUBJECTS).unwrap().remove(id).unwrap().unwrap().value().to_vec();
        let mut tags = txn.open_table(SUBJECT_TAGS).unwrap();
        let found = tags.iter().unwrap().map(|row| row.unwrap()).find(|(_, by)| by.value() == id);
        taken.tag = found.unwrap().0.value().to_owned();
        tags.remove(&*taken.tag).unwrap();
    });
    taken
}

fn put_back(place: &Place, taken: &Taken) {
    edit(place, |txn| {
        txn.open_table(SUBJECTS).unwrap().insert(&*taken.id, &*taken.row).unwrap();
        txn.open_table(SUBJECT_TAGS).unwrap().insert(&*taken.tag, &*taken.id).unwrap();
    });
}

fn erase(place: &Place, who: &str) -> Ran {
    place.run(&["erase", "s", "--subject", who, "--actor", "dpo", "--reason", "asked for it"])
}

fn reveal(place: &Place, seq: &str) -> Ran {
    place.run(&["reveal", "s", seq, "arguments.ssn", "--actor", "dr", "--reason", "why"])
}

#[track_caller]
fn refused(ran: Ran, id: &str) {
    let ran = ran.code(3);
    assert!(ran.err.contains(id) && ran.err.contains("entry 2") && ran.err.contains("restore a backup"), "{ran:?}");
}

/// R81. The attack: the row of alice's key is removed before she asks to be erased. The officer was told that nothing is
/// sealed about such a patient, and the row was put back: her value could be read again. And if bob was erased in between,
/// the master key that wraps her row was destroyed, and her value with it, which nobody had asked for.
#[test]
fn a_key_that_was_taken_out_is_not_a_value_that_never_was() {
    let place = sealing();
    let id = key_of(&place, 2);
    let taken = take_out(&place, &id);
    for who in ["alice", "patient:alice", "bob", "nobody"] {
        refused(erase(&place, who), &id);
    }
    refused(reveal(&place, "2"), &id);
    assert_eq!(place.count(&["--kind", "erasure"]), 0);
    // Later values of hers have a new key, by which she is found; the other key is still missing.
    record(&place, "alice");
    refused(erase(&place, "alice"), &id);
    // Nothing was destroyed.
    edit(&place, |txn| {
        let mut tags = txn.open_table(SUBJECT_TAGS).unwrap();
        let other = tags.remove(&*taken.tag).unwrap().unwrap().value().to_owned();
        txn.open_table(SUBJECTS).unwrap().remove(&*other).unwrap();
    });
    put_back(&place, &taken);
    assert_eq!(reveal(&place, "2").ok().trim(), "\"460-89-9847\"");
    assert_eq!(reveal(&place, "3").ok().trim(), "\"460-89-9847\"");
}

/// A hold keeps alice's values from being destroyed. Her name in the index was changed, no entry of hers covered by the
/// hold was found, and they were destroyed.
#[test]
fn what_a_hold_keeps_is_not_asked_of_an_edited_index() {
    let place = sealing();
    let hold =
        ["hold", "place", "s", "--actor", "counsel", "--reason", "a claim", "--case", "17", "--patient", "alice"];
    place.run(&hold).ok();
    let held = erase(&place, "alice").code(1);
    assert!(held.err.contains("hold"), "{held:?}");
    // An index batch, so that the look-up reads the file.
    let rename = |from: &str, to: &str| {
        edit(&place, |txn| {
            let mut terms = txn.open_table(TERMS).unwrap();
            let found: Vec<u8> =
                (0..=u8::MAX).filter(|field| terms.get((*field, from.as_bytes())).unwrap().is_some()).collect();
            assert!(!found.is_empty());
            for field in found {
                let id = terms.remove((field, from.as_bytes())).unwrap().unwrap().value();
                terms.insert((field, to.as_bytes()), id).unwrap();
            }
        });
    };
    let log = attestlog::Options::new().background(false).open(place.path("s")).unwrap();
    log.flush_index().unwrap();
    log.close().unwrap();
    rename("alice", "alicf");
    erase(&place, "alice").code(3);
    rename("alicf", "alice");
    assert_eq!(reveal(&place, "2").ok().trim(), "\"460-89-9847\"");
}

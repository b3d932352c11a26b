//! Proofs on real input, the recorded conversations of an airline's agent: every entry is proven against one checkpoint,
//! and a copy that was edited, cut and signed again, or restored from yesterday is recognised as such.

use crate::common::{Place, json, shared};
use attestlog::AuditLog;
use attestlog::json::{Json, Limits};
use attestlog::note::{Checkpoint, SignedCheckpoint, SigningKey};
use attestlog::proof::{Proof, Proven};
use std::collections::BTreeSet;

const FILE: &str = "data/tau-bench/gpt-4o-airline.json";

/// A store with the first half of the conversations, kept as `yesterday`, with its checkpoint in `noon`, and one with all
/// of them as `s`, with its checkpoint in `kept`; and the public key.
fn recorded() -> Option<(Place, String)> {
    let text = std::fs::read(shared(FILE)?).unwrap();
    let all = Json::parse_within(&text, &Limits::bytes(1 << 30)).unwrap().value;
    let all = all.as_array().unwrap();
    let place = Place::with_store();
    for (name, part, checkpoint) in [("am", &all[..all.len() / 2], "noon"), ("pm", &all[all.len() / 2..], "kept")] {
        place.write(name, Json::Array(part.to_vec()).to_canonical().to_string());
        place.run(&["import", "s", "--format", "openai-chat", name]).ok();
        place.write(checkpoint, place.run(&["checkpoint", "s"]).ok());
        if name == "am" {
            std::fs::copy(place.path("s"), place.path("yesterday")).unwrap();
            std::fs::copy(place.path("s.key"), place.path("yesterday.key")).unwrap();
        }
    }
    let key = place.run(&["keys", "show", "s"]).ok().lines().next().unwrap().to_owned();
    Some((place, key))
}

/// Runs a verification; returns the kinds of findings, each with its seq if there is one.
fn findings(place: &Place, args: &[&str]) -> (BTreeSet<(String, Option<u64>)>, Json) {
    let ran = place.run(&[&["verify", "--json"], args].concat());
    let report = json(&ran.out);
    let all = report.get("findings").unwrap().as_array().unwrap();
    let kind = |f: &Json| (f.get("kind").unwrap().as_str().unwrap().to_owned(), f.get("seq").unwrap().as_u64());
    let found: BTreeSet<_> = all.iter().map(kind).collect();
    assert_eq!((ran.code == 0, report.get("ok")), (found.is_empty(), Some(&found.is_empty().into())));
    (found, report)
}

fn kinds(found: &BTreeSet<(String, Option<u64>)>) -> BTreeSet<&str> {
    found.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[test]
fn every_entry_is_proven_against_one_checkpoint() {
    let Some((place, key)) = recorded() else { return };
    let kept = SignedCheckpoint::parse(&std::fs::read(place.path("kept")).unwrap()).unwrap();
    let lines = place.run(&["query", "s", "--json"]).ok();
    let key = key.parse().unwrap();
    let log = AuditLog::open(place.path("s")).unwrap();
    let size = log.size().unwrap();
    assert_eq!((kept.checkpoint().size(), lines.lines().count() as u64), (size, size));
    let mut calls = 0;
    for (seq, line) in (0..size).zip(lines.lines()) {
        let file = log.prove(seq).unwrap().to_string();
        let proof = Proof::parse(file.as_bytes()).unwrap();
        assert_eq!(proof.checkpoint(), &kept);
        let checked = proof.check(&key, log.keys().succession().unwrap().as_ref()).unwrap();
        let Proven::Inclusion { seq: proven, line: shown, .. } = checked.proven() else { panic!("{checked:?}") };
        assert_eq!((*proven, shown.as_str()), (seq, line));
        calls += u64::from(line.contains("\"kind\":\"tool_call\""));
    }
    assert_eq!(calls, 1164);
    drop(log);
    // The log only grew, from noon to the end.
    place.write("grown", place.run(&["prove", "s", "--consistent-with", "noon"]).ok());
    place.run(&["check", "grown", "--public-key", &key.to_string()]).ok();
    let (found, report) =
        findings(&place, &["s", "--public-key", &key.to_string(), "--against", "kept", "--against", "noon"]);
    assert!(found.is_empty() && report.get("anchored_size").unwrap().as_u64() == Some(size));
}

#[test]
fn one_edited_line_is_named() {
    let Some((place, key)) = recorded() else { return };
    // The imported calls were packed when the store was closed; a single one stays in the tail.
    place.run_with(&["record", "s"], crate::common::call("task-7", "u", "look", "").as_bytes()).ok();
    place.write("kept", place.run(&["checkpoint", "s"]).ok());
    // Somebody who knows the format changes the conversation of one of the newest entries. A row has the hash before its first entry,
    // and for each entry its hash, the length of its body, and the body.
    use crate::store_common::tables::TAIL;
    let database = redb::Database::open(place.path("s")).unwrap();
    let txn = database.begin_write().unwrap();
    let edited = {
        use redb::ReadableTable as _;
        let mut table = txn.open_table(TAIL).unwrap();
        let rows: Vec<(u64, Vec<u8>)> =
            table.iter().unwrap().map(|row| row.unwrap()).map(|(k, v)| (k.value(), v.value().to_vec())).collect();
        let at = |row: &[u8]| row.windows(5).position(|w| w == b"task-");
        let (first, mut row, at) =
            rows.into_iter().rev().find_map(|(seq, row)| Some((seq, row.clone(), at(&row)?))).unwrap();
        let (mut seq, mut body) = (first, 32);
        loop {
            let digits = row[body + 32..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let length = row[body + 32..][..digits].iter().rev().fold(0, |n, byte| n << 7 | usize::from(byte & 0x7f));
            body += 32 + digits + length;
            if at < body {
                break;
            }
            seq += 1;
        }
        row[at + 5] = if row[at + 5] == b'9' { b'8' } else { b'9' };
        table.insert(first, &*row).unwrap();
        seq
    };
    txn.commit().unwrap();
    drop(database);
    // No answer shows the edited entry as if it had been recorded like that.
    let ran = place.run(&["query", "s", "--json"]).code(3);
    assert!(
        ran.out.contains(&format!(r#""seq":{edited}"#)) && ran.err.contains(&format!("entry {edited} ")),
        "{}",
        ran.err
    );
    let (found, report) = findings(&place, &["s", "--public-key", &key, "--against", "noon", "--against", "kept"]);
    let changed: Vec<_> = found.iter().filter(|(kind, _)| kind == "entry_changed").collect();
    assert_eq!(changed, [&("entry_changed".to_owned(), Some(edited))]);
    // What was signed and what was kept elsewhere does not agree with the store from there on, because an entry was changed: nobody put
    // another history in its place. What was changed comes first. Up to noon they agree.
    let first =
        report.get("findings").and_then(|all| all.as_array()?.first()?.get("kind")?.as_str().map(str::to_owned));
    assert_eq!(first.as_deref(), Some("entry_changed"), "{found:?}");
    assert!(kinds(&found).contains("checkpoint_mismatch"), "{found:?}");
    assert!(!kinds(&found).contains("rollback") && !kinds(&found).contains("fork"), "{found:?}");
    let noon = SignedCheckpoint::parse(&std::fs::read(place.path("noon")).unwrap()).unwrap();
    assert_eq!(report.get("anchored_size").unwrap().as_u64(), Some(noon.checkpoint().size()));
    // No proof is made of the edited entry.
    let ran = place.run(&["prove", "s", &edited.to_string()]);
    assert!(ran.err.contains("has another hash"), "{}", ran.err);
    ran.code(3);
}

#[test]
fn a_cut_tail_that_was_signed_with_a_new_key_is_found() {
    let Some((place, key)) = recorded() else { return };
    // The tail is cut at the log's size at noon, and every checkpoint is signed again, under the same name.
    std::fs::copy(place.path("yesterday"), place.path("cut")).unwrap();
    use crate::store_common::tables::CHECKPOINTS;
    let database = redb::Database::open(place.path("cut")).unwrap();
    let txn = database.begin_write().unwrap();
    {
        use redb::ReadableTable as _;
        let mut table = txn.open_table(CHECKPOINTS).unwrap();
        let rows: Vec<(u64, Vec<u8>)> =
            table.iter().unwrap().map(|row| row.unwrap()).map(|(k, v)| (k.value(), v.value().to_vec())).collect();
        for (size, note) in rows {
            let old = SignedCheckpoint::parse(&note).unwrap();
            let old = old.checkpoint();
            let forger = SigningKey::from_seed(old.origin(), &[66; 32]).unwrap();
            let head = Checkpoint::new(old.origin(), old.size(), old.root()).unwrap();
            let forged = SignedCheckpoint::sign(head, &[&forger]).unwrap().to_string();
            table.insert(size, forged.as_bytes()).unwrap();
        }
    }
    txn.commit().unwrap();
    drop(database);
    let (found, report) = findings(&place, &["cut", "--public-key", &key, "--against", "kept"]);
    assert_eq!(kinds(&found), BTreeSet::from(["checkpoint_mismatch", "rollback", "signature_invalid"]));
    assert_eq!((report.get("signed"), report.get("signed_size").unwrap().as_u64()), (Some(&false.into()), Some(0)));
    // It is detected beside the key file that signed more, without anything from elsewhere.
    let (found, _) = findings(&place, &["cut", "--key", "s.key"]);
    assert_eq!(kinds(&found), BTreeSet::from(["checkpoint_mismatch", "rollback", "signature_invalid"]));

    // Recorded again from the start, in a store with a new key: nothing is wrong in it, but nothing confirms it.
    place.run(&["init", "anew"]).ok();
    place.run(&["import", "anew", "--format", "openai-chat", "am"]).ok();
    let (found, report) = findings(&place, &["anew"]);
    assert!(found.is_empty() && report.get("key_pinned") == Some(&false.into()));
    assert!(place.run(&["verify", "anew"]).ok().contains("UNANCHORED"));
    for brought in [["--public-key", &key], ["--against", "kept"]] {
        let ran = place.run(&[&["verify", "anew"], &brought[..]].concat()).code(2);
        assert!(ran.err.contains("another log was put in its place"), "{}", ran.err);
    }
}

#[test]
fn yesterdays_copy_is_a_rollback() {
    let Some((place, key)) = recorded() else { return };
    // By itself it is in order: with the key file of that time it is a complete log, and what was kept then agrees.
    let (found, report) = findings(&place, &["yesterday", "--public-key", &key, "--against", "noon"]);
    assert!(found.is_empty() && report.get("anchored") == Some(&true.into()));
    let (found, _) = findings(&place, &["yesterday", "--public-key", &key, "--against", "noon", "--against", "kept"]);
    assert_eq!(kinds(&found), BTreeSet::from(["rollback"]));
    // In the place of the newer store, beside its key file, it is detected without anything from elsewhere, and accepts no
    // entry.
    std::fs::copy(place.path("yesterday"), place.path("s")).unwrap();
    let (found, _) = findings(&place, &["s"]);
    assert_eq!(kinds(&found), BTreeSet::from(["rollback"]));
    let line = crate::common::call("c", "u", "t", "");
    let ran = place.run_with(&["record", "s", "--no-alerts"], line.as_bytes());
    assert!(ran.code != 0 && ran.err.contains("older copy"), "{} {}", ran.code, ran.err);
    let ran = place.run(&["prove", "s", "--consistent-with", "kept"]).code(1);
    assert!(ran.err.contains("it was cut"), "{}", ran.err);
}

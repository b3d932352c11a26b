//! Promise: an answer can come with a proof that nothing is missing from it, and no part of that proof can be left out,
//! moved, or replaced.

use attestlog::host::{ManualClock, SeededRandom};
use attestlog::json::Json;
use attestlog::proof::{CheckError, CompleteProof, Proof, Proven, RowTerm, check};
use attestlog::redact::{Policy, Preset};
use attestlog::retention::SeqSet;
use attestlog::{AuditLog, ErrorKind, Facet, Hash, Neighbours, Options, PolicySet, Query, ToolCall};
use proptest::prelude::*;
use redb::{ReadableDatabase as _, ReadableTable as _};
use std::sync::Arc;

/// The hash that remains of a row whose term was purged.
fn inner(salt: &[u8; 16], facet: Facet, term: &str) -> Hash {
    Hash::of(&[&salt[..], &[facet as u8], &(term.len() as u64).to_be_bytes(), term.as_bytes()].concat())
}

fn hipaa() -> PolicySet {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Hipaa);
    policies
}

fn log(policies: PolicySet) -> AuditLog {
    Options::new().policies(policies).random(Arc::new(SeededRandom::new(7))).in_memory().unwrap()
}

fn call(user: &str, tool: &str, patient: &str) -> ToolCall {
    ToolCall::new(format!("conv_{user}"), user, tool).patient(patient)
}

/// Checks a proof; returns the seqs that it shows, and those that were purged.
fn proven(log: &AuditLog, proof: CompleteProof) -> Result<Vec<u64>, CheckError> {
    let file = proof.to_string();
    assert_eq!(Proof::parse(file.as_bytes()).unwrap(), Proof::Complete(Box::new(proof)));
    let checked = check(file.as_bytes(), &log.public_key().unwrap().unwrap())?;
    match checked.proven() {
        Proven::Complete { entries, .. } => Ok(entries.iter().map(|(seq, _)| *seq).collect()),
        other => panic!("{other:?}"),
    }
}

fn prove(log: &AuditLog, facet: Facet, value: &str) -> Vec<u64> {
    proven(log, log.proofs().complete(facet, value, Neighbours::Reveal).unwrap()).unwrap()
}

/// Three batches: P-1 is in the first and the third, P-2 in all, P-3 only in the second.
fn three_batches(policies: PolicySet) -> AuditLog {
    let log = log(policies);
    for patients in [["P-1", "P-2", "P-1"], ["P-2", "P-3", "P-2"], ["P-1", "P-2", "P-2"]] {
        for patient in patients {
            log.record(call("dr_a", "read_chart", patient)).unwrap();
        }
        log.flush_index().unwrap();
    }
    log
}

#[test]
fn every_entry_is_there_and_the_rest_is_said() {
    let log = three_batches(hipaa());
    let proof = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold).unwrap();
    assert_eq!(proof.terms.len(), 2, "the clear id and one pseudonym, whatever the policies say");
    let checked = check(proof.to_string().as_bytes(), &log.public_key().unwrap().unwrap()).unwrap();
    let json = checked.to_json();
    assert_eq!(json.get("kind").and_then(Json::as_str), Some("complete"));
    assert_eq!(json.get("value_mapping").and_then(Json::as_str), Some("unproven"));
    let seqs = log.query(&Query::new().patient("P-1")).unwrap().map(|e| e.unwrap().seq).collect::<Vec<_>>();
    assert_eq!(json.get("seqs").unwrap(), &Json::from(seqs));
    assert_eq!(json.get("lines").and_then(Json::as_array).unwrap().len(), 3);
    let text = checked.to_string();
    assert!(text.contains("exactly 3 have patient ps_") && text.contains("is not proven"), "{text}");
    assert_eq!((checked.holds(), json.get("ok")), (false, Some(&Json::Bool(false))));
    // Whoever holds the keys can tell: by the pseudonyms that they compute.
    let confirmed = checked.clone().confirmed(&log.values().spellings(Facet::Patient, "P-1").unwrap()).unwrap();
    assert_eq!((confirmed.holds(), confirmed.proven().mapping()), (true, attestlog::proof::Mapping::Confirmed));
    let others = log.values().spellings(Facet::Patient, "P-2").unwrap();
    assert!(matches!(checked.confirmed(&others), Err(CheckError::Contradicted(_))));
    // If the pseudonym itself is requested, the proof depends on nobody's claim.
    let pseudonym = proof.terms.iter().find(|term| *term != "P-1").unwrap().clone();
    let proof = log.proofs().complete(Facet::Patient, &pseudonym, Neighbours::Withhold).unwrap();
    let checked = check(proof.to_string().as_bytes(), &log.public_key().unwrap().unwrap()).unwrap();
    assert_eq!(checked.to_json().get("value_mapping").and_then(Json::as_str), Some("none"));
    assert_eq!(proven(&log, proof).unwrap().len(), 3);
}

/// The story: the rows of all index batches were in memory at once, a gigabyte for ten million entries. They are read sixteen
/// batches at a time, and nothing is lost where one such group ends and the next begins.
#[test]
fn a_proof_covers_more_batches_than_are_read_at_a_time() {
    let log = log(PolicySet::default());
    for batch in 0..37 {
        let patient = format!("P-{}", if batch % 5 == 0 { 0 } else { batch });
        log.record(call("dr_a", "read_chart", &patient)).unwrap();
        log.flush_index().unwrap();
    }
    let seqs = |query: Query| log.query(&query).unwrap().map(|e| e.unwrap().seq).collect::<Vec<_>>();
    assert_eq!(prove(&log, Facet::User, "dr_a"), seqs(Query::new().user("dr_a")));
    let shown = prove(&log, Facet::Patient, "P-0");
    assert_eq!((shown.len(), &shown), (8, &seqs(Query::new().patient("P-0"))));
    let proof = log.proofs().complete(Facet::Patient, "P-0", Neighbours::Reveal).unwrap();
    assert_eq!(proof.batches.len(), 37);
    // The names of others are counted over all of them: the neighbours of P-0 are the other 29 patients.
    let refused = log.proofs().complete(Facet::Patient, "P-0", Neighbours::Withhold).unwrap_err();
    assert!(refused.to_string().contains("patient") && refused.to_string().contains("29 ×"), "{refused}");
}

#[test]
fn facets_that_name_nobody_and_values_that_never_occur_have_proofs_too() {
    let log = three_batches(hipaa());
    assert_eq!(prove(&log, Facet::Tool, "read_chart").len(), 9);
    assert_eq!(prove(&log, Facet::Tool, "a tool before all others"), Vec::<u64>::new());
    assert_eq!(prove(&log, Facet::Server, "after everything"), Vec::<u64>::new());
    assert_eq!(prove(&log, Facet::Patient, "P-404"), Vec::<u64>::new());
    assert_eq!(prove(&log, Facet::User, "dr_a").len(), 9);
    assert_eq!(prove(&log, Facet::Conversation, "conv_dr_a").len(), 9);
    assert_eq!(prove(&log, Facet::Conversation, "").len(), 0);
    let long = "a very long conversation id, ".repeat(10);
    let longer = "a very long conversation id, ".repeat(11);
    log.record(ToolCall::new(&long, "u", "t")).unwrap();
    log.record(ToolCall::new(&longer, "u", "t")).unwrap();
    log.record(ToolCall::new("b", "u", "t").patient(&long).patient(&longer)).unwrap();
    assert_eq!(prove(&log, Facet::Conversation, &long).len(), 1);
    assert_eq!(prove(&log, Facet::Conversation, &long[1..]), Vec::<u64>::new());
}

#[test]
fn others_are_named_only_when_asked_for() {
    let log = three_batches(PolicySet::default());
    let refused = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("patient") && !refused.to_string().contains("P-2"), "{refused}");
    let proof = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Reveal).unwrap();
    assert!(proof.terms.len() == 2 && proof.terms[0] == "P-1", "{:?}", proof.terms);
    assert_eq!(proven(&log, proof).unwrap(), [2, 4, 10]);
    // P-2 is in every batch, so nobody else has to be named.
    let proof = log.proofs().complete(Facet::Patient, "P-2", Neighbours::Withhold).unwrap();
    assert!(!proof.to_string().contains("P-3"));
    assert_eq!(proven(&log, proof).unwrap().len(), 5);
}

#[test]
fn what_is_pending_is_written_first_and_only_then() {
    let log = log(hipaa());
    assert_eq!(prove(&log, Facet::Patient, "P-1"), Vec::<u64>::new());
    assert_eq!(log.size().unwrap(), 2, "two entries of the store's own are shown as they are");
    log.record(call("dr_a", "t", "P-1")).unwrap();
    log.record(call("dr_a", "t", "P-2")).unwrap();
    let proof = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold).unwrap();
    assert_eq!(log.size().unwrap(), 5);
    let lines: Vec<&str> = proof.entries.iter().map(|e| &*e.line).collect();
    assert!(!lines.iter().any(|line| line.contains(r#""seq":3,"#)), "the call about P-2 is nobody's business");
    assert_eq!(proven(&log, proof).unwrap(), [2]);
    prove(&log, Facet::Patient, "P-1");
    assert_eq!(log.size().unwrap(), 5, "nothing was pending the second time");
}

#[test]
fn a_rotated_pseudonym_key_and_a_changed_policy_leave_nothing_out() {
    let log = log(PolicySet::default());
    let first = log.record(call("dr_a", "t", "P-1")).unwrap().seq;
    log.flush_index().unwrap();
    log.retention().set_policies(hipaa()).unwrap();
    let second = log.record(call("dr_a", "t", "P-1\u{200b}")).unwrap().seq;
    log.flush_index().unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    let third = log.record(call("dr_a", "t", "P-1")).unwrap().seq;
    let proof = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Reveal).unwrap();
    assert_eq!(proof.terms.len(), 3, "as it is, and under both keys");
    assert_eq!(proven(&log, proof.clone()).unwrap(), [first, second, third]);
    for i in 0..3 {
        let mut less = proof.clone();
        less.terms.remove(i);
        assert!(matches!(proven(&log, less), Err(CheckError::Incomplete(_))));
    }
}

/// Every way in which a forger could leave something out of a proof, or move it: all are detected.
#[test]
fn nothing_can_be_left_out_moved_or_replaced() {
    for (policies, value) in [(PolicySet::default(), "P-1"), (hipaa(), "P-1"), (hipaa(), "P-3"), (hipaa(), "nobody")] {
        let log = three_batches(policies);
        let proof = log.proofs().complete(Facet::Patient, value, Neighbours::Reveal).unwrap();
        proven(&log, proof.clone()).unwrap();
        let mut forged: Vec<(String, CompleteProof)> = Vec::new();
        let mut forge = |what: String, change: &dyn Fn(&mut CompleteProof)| {
            let mut other = proof.clone();
            change(&mut other);
            assert_ne!(other, proof, "{what}");
            forged.push((what, other));
        };
        for i in 0..proof.entries.len() {
            forge(format!("without entry {i}"), &|p| _ = p.entries.remove(i));
            forge(format!("entry {i} twice"), &|p| p.entries.insert(i, p.entries[i].clone()));
            forge(format!("entry {i} with a shorter path"), &|p| _ = p.entries[i].path.pop());
            forge(format!("entry {i} edited"), &|p| {
                p.entries[i].line = p.entries[i].line.replace(r#""kind":""#, r#""kind": ""#)
            });
        }
        for i in 0..proof.batches.len() {
            forge(format!("without batch {i}"), &|p| _ = p.batches.remove(i));
            forge(format!("without batch {i} and its entry"), &|p| {
                let gone = format!(r#""seq":{}"#, p.batches.remove(i).entry);
                p.entries.retain(|e| !e.line.contains(&gone));
            });
            forge(format!("batch {i} of another entry"), &|p| p.batches[i].entry -= 1);
            forge(format!("batch {i} twice"), &|p| p.batches.insert(i, p.batches[i].clone()));
            if i > 0 {
                forge(format!("batch {i} with the rows of the one before"), &|p| {
                    p.batches[i].rows = p.batches[i - 1].rows.clone()
                });
                forge(format!("batches {i} exchanged"), &|p| p.batches.swap(i - 1, i));
            }
            for j in 0..proof.batches[i].rows.len() {
                let what = |how: &str| format!("batch {i}: row {j} {how}");
                forge(what("left out"), &|p| _ = p.batches[i].rows.remove(j));
                forge(what("twice"), &|p| {
                    let row = p.batches[i].rows[j].clone();
                    p.batches[i].rows.insert(j, row)
                });
                forge(what("one place on"), &|p| p.batches[i].rows[j].position += 1);
                forge(what("far away"), &|p| p.batches[i].rows[j].position += 1 << 50);
                forge(what("with another path"), &|p| p.batches[i].rows[j].path.push(Hash::ZERO));
                forge(what("with a seq more"), &|p| {
                    let row = &mut p.batches[i].rows[j];
                    let (low, high) = row.seqs.bounds().unwrap();
                    row.seqs = (low..=high + 1).collect();
                });
                forge(what("without its last seq"), &|p| {
                    let row = &mut p.batches[i].rows[j];
                    let last = row.seqs.bounds().unwrap().1;
                    row.seqs = row.seqs.iter().filter(|s| *s != last).collect();
                });
                forge(what("of another facet"), &|p| {
                    if let RowTerm::Known { facet, .. } = &mut p.batches[i].rows[j].term {
                        *facet = if *facet == Facet::Patient { Facet::User } else { Facet::Patient };
                    }
                });
                forge(what("of another term"), &|p| {
                    if let RowTerm::Known { term, .. } = &mut p.batches[i].rows[j].term {
                        term.push('x');
                    }
                });
                forge(what("as if its term were purged"), &|p| {
                    let row = &mut p.batches[i].rows[j];
                    let RowTerm::Known { facet, term, salt } = &row.term else { return };
                    row.term = RowTerm::Purged(inner(salt, *facet, term));
                });
            }
        }
        if proof.terms == [value] {
            forge("of another value".to_owned(), &|p| p.value.push('2'));
        }
        forge("of another facet".to_owned(), &|p| p.facet = Facet::User);
        forge("of another term".to_owned(), &|p| p.terms[0].push('0'));
        forge("of no term".to_owned(), &|p| p.terms.clear());
        forge("with a term more".to_owned(), &|p| p.terms.push("zz".to_owned()));
        forge("with a purge that never was".to_owned(), &|p| p.purges.push((1, SeqSet::from_iter([0]))));
        forge("with a purge of nothing".to_owned(), &|p| p.purges.push((1 << 40, SeqSet::new())));
        for (what, forged) in forged {
            let outcome = Proof::parse(forged.to_string().as_bytes());
            let outcome = outcome.and_then(|proof| proof.check(&log.public_key().unwrap().unwrap(), None));
            assert!(outcome.is_err(), "{value}: {what} was not noticed");
        }
    }
}

/// A proof that was valid once, with a later checkpoint: what was recorded since would be missing.
#[test]
fn an_earlier_proof_does_not_pass_for_a_later_log() {
    let log = three_batches(hipaa());
    let mut old = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold).unwrap();
    log.record(call("dr_b", "t", "P-1")).unwrap();
    log.record(call("dr_b", "t", "P-2")).unwrap();
    let new = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold).unwrap();
    assert_eq!(proven(&log, old.clone()).unwrap().len() + 1, proven(&log, new.clone()).unwrap().len());
    old.checkpoint = new.checkpoint.clone();
    assert!(proven(&log, old).is_err());
    // Without its last batch, and with the earlier tail: the entries are there, the cover ends too early.
    let mut cut = new;
    let gone = cut.batches.pop().unwrap();
    assert!(matches!(proven(&log, cut.clone()), Err(CheckError::Incomplete(_))));
    cut.entries.retain(|e| !e.line.contains(&format!(r#""seq":{},"#, gone.entry)));
    assert!(proven(&log, cut).is_err());
}

/// Somebody who has the file removes an access from the index and requests a proof: none is made.
#[test]
fn a_store_with_a_changed_index_gives_no_proof() {
    use crate::store_common::tables::POSTINGS;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = || Options::new().policies(hipaa()).background(false);
    let made = options().create(&path).unwrap();
    for n in 0..20 {
        made.record(call("dr_a", "t", if n % 2 == 0 { "P-1" } else { "P-2" })).unwrap();
    }
    made.flush_index().unwrap();
    assert_eq!(prove(&made, Facet::Patient, "P-1").len(), 10);
    made.close().unwrap();
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_read().unwrap();
    let table = txn.open_table(POSTINGS).unwrap();
    let rows: Vec<_> = table
        .iter()
        .unwrap()
        .map(|row| {
            let (key, value) = row.unwrap();
            (key.value(), value.value().to_vec())
        })
        .collect();
    drop((table, txn, database));
    let whole = std::fs::read(&path).unwrap();
    let patients: Vec<_> = rows.iter().filter(|((shelf, ..), _)| *shelf == 204).collect();
    assert_eq!(patients.len(), 2);
    for (key, value) in patients {
        for change in 0..3 {
            std::fs::write(&path, &whole).unwrap();
            let database = redb::Database::open(&path).unwrap();
            let txn = database.begin_write().unwrap();
            {
                let mut table = txn.open_table(POSTINGS).unwrap();
                match change {
                    0 => _ = table.remove(key).unwrap(),
                    1 => _ = table.insert(key, &value[..value.len() - 1]).unwrap(),
                    _ => {
                        let mut salt = value.clone();
                        salt[0] ^= 1;
                        table.insert(key, &*salt).unwrap();
                    }
                }
            }
            txn.commit().unwrap();
            drop(database);
            let log = options().open(&path).unwrap();
            let refused = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Reveal).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
            log.close().unwrap();
        }
    }
}

#[test]
fn a_store_without_keys_and_a_key_that_is_gone_are_said() {
    let keyless = Options::new().without_keys().in_memory().unwrap();
    let refused = keyless.proofs().complete(Facet::Tool, "t", Neighbours::Withhold).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Key);
    assert_eq!(keyless.size().unwrap(), 2, "nothing was written for it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_stores_agree_with_counting(
        steps in prop::collection::vec((0u8..12, 0usize..3, 0usize..3, prop::collection::vec(0usize..4, 0..3)), 1..40),
        pseudonyms: bool,
    ) {
        let log = log(if pseudonyms { hipaa() } else { PolicySet::default() });
        let (users, tools, patients) = (["ann", "bob", "ps_me"], ["a", "b", "z"], ["P-1", "P-2", "ps", "zz"]);
        let mut model: Vec<(u64, usize, usize, Vec<usize>)> = Vec::new();
        for (what, user, tool, named) in steps {
            match what {
                0 | 1 => log.flush_index().unwrap(),
                2 => _ = log.keys().rotate_pseudonym_key().unwrap(),
                3 => _ = log.retention().set_policies(if user == 0 { PolicySet::default() } else { hipaa() }).unwrap(),
                4 => _ = log.checkpoint().unwrap(),
                _ => {
                    let call = ToolCall::new("c", users[user], tools[tool]);
                    let call = named.iter().fold(call, |call, &p| call.patient(patients[p]));
                    model.push((log.record(call).unwrap().seq, user, tool, named));
                }
            }
        }
        type Row = (u64, usize, usize, Vec<usize>);
        let expected = |has: &dyn Fn(&Row) -> bool| -> Vec<u64> { model.iter().filter(|row| has(row)).map(|row| row.0).collect() };
        for (i, patient) in patients.iter().enumerate() {
            prop_assert_eq!(prove(&log, Facet::Patient, patient), expected(&|row| row.3.contains(&i)));
        }
        for i in 0..3 {
            prop_assert_eq!(prove(&log, Facet::User, users[i]), expected(&|row| row.1 == i));
            prop_assert_eq!(prove(&log, Facet::Tool, tools[i]), expected(&|row| row.2 == i));
        }
        prop_assert!(log.verify(&Default::default()).unwrap().ok());
    }

    #[test]
    fn no_file_makes_the_reader_panic(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        use std::sync::OnceLock;
        static FILE: OnceLock<(Vec<u8>, attestlog::note::VerifierKey)> = OnceLock::new();
        let (file, key) = FILE.get_or_init(|| {
            let log = three_batches(hipaa());
            let proof = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Reveal).unwrap();
            (proof.to_string().into_bytes(), log.public_key().unwrap().unwrap())
        });
        let mut bytes = file.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        // Parts that no signature or hash covers (the clear value, the epoch's signature) may change; what is proven may
        // not.
        let seqs = |checked: &attestlog::proof::Checked| checked.to_json().get("seqs").cloned();
        if let Ok(checked) = check(&bytes, key) {
            prop_assert_eq!(seqs(&checked), seqs(&check(file, key).unwrap()));
        }
    }
}

/// A log with six years of patients; its first batch was purged, and the second lost some entries.
fn purged_log(clock: &ManualClock, log: &AuditLog) -> Vec<u64> {
    let year = std::time::Duration::from_secs(366 * 86_400);
    let record = |patient: &str, kept: bool| {
        let call = call("dr_a", "t", patient);
        let call = if kept { call.retain_until("2090-01-01".parse().unwrap()) } else { call };
        log.record(call).unwrap().seq
    };
    let mut expected = Vec::new();
    for patient in ["P-1", "P-2", "P-3", "P-4"] {
        record(patient, false);
    }
    log.flush_index().unwrap();
    log.checkpoint().unwrap();
    for patient in ["P-1", "P-2", "P-3", "P-1", "P-5"] {
        record(patient, false);
    }
    expected.push(record("P-1", true));
    record("P-9", true);
    log.flush_index().unwrap();
    clock.advance(year * 7);
    expected.push(record("P-1", false));
    let purged = log.retention().purge("records_officer").unwrap();
    assert_eq!(purged.purged, 9);
    record("P-2", false);
    expected.push(record("P-1", false));
    expected
}

#[test]
fn purged_entries_are_said_to_be_purged_and_nothing_hides_among_them() {
    for (policies, neighbours) in [(PolicySet::default(), Neighbours::Reveal), (hipaa(), Neighbours::Withhold)] {
        let clock = Arc::new(ManualClock::at("2025-01-01".parse().unwrap()));
        let log = Options::new().policies(policies).clock(clock.clone()).in_memory().unwrap();
        let expected = purged_log(&clock, &log);
        let mut forged = Vec::new();
        for patient in ["P-1", "P-2", "P-4", "P-404"] {
            let proof = log.proofs().complete(Facet::Patient, patient, neighbours).unwrap();
            let key = log.public_key().unwrap().unwrap();
            let checked = check(proof.to_string().as_bytes(), &key).unwrap();
            let Proven::Complete { entries, purged, unknown, purges, .. } = checked.proven() else { panic!() };
            let [(_, by)] = &purges[..] else { panic!("{purges:?}") };
            assert_eq!((by.actor.as_str(), by.policy, by.count), ("records_officer", 1, 9));
            let seqs: Vec<u64> = entries.iter().map(|(seq, _)| *seq).collect();
            // If a row still has its term, purged entries are known to have had it; if the term is gone too, this is
            // unknown.
            match patient {
                "P-1" => assert_eq!((seqs, purged.to_string()), (expected.clone(), "7-7,10-10".to_owned())),
                "P-2" => assert_eq!((seqs.len(), purged.len()), (1, 0)),
                _ => assert_eq!((seqs.len(), purged.len()), (0, 0)),
            }
            assert!(!unknown.is_empty(), "{patient}");
            assert!(!proof.purges.is_empty());
            for i in 0..proof.purges.len() {
                let mut without = proof.clone();
                without.purges.remove(i);
                forged.push(without);
                let mut more = proof.clone();
                more.purges[i].1.insert(expected[0]);
                forged.push(more);
            }
            for (i, batch) in proof.batches.iter().enumerate() {
                for (j, row) in batch.rows.iter().enumerate() {
                    if let RowTerm::Purged(_) = row.term {
                        let mut without = proof.clone();
                        without.batches[i].rows.remove(j);
                        forged.push(without);
                    }
                    // A row whose entries still exist, disguised as a purged one.
                    if let RowTerm::Known { facet, term, salt } = &row.term {
                        let inner = inner(salt, *facet, term);
                        let mut dressed = proof.clone();
                        dressed.batches[i].rows[j].term = RowTerm::Purged(inner);
                        forged.push(dressed);
                    }
                }
            }
        }
        for forged in forged {
            let outcome = Proof::parse(forged.to_string().as_bytes());
            let outcome = outcome.and_then(|proof| proof.check(&log.public_key().unwrap().unwrap(), None));
            assert!(outcome.is_err(), "{forged}");
        }
    }
}

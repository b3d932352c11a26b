//! Promise: for any name, under any policy and with any rotation of pseudonym keys, a query, the statistics, an access
//! report and a completeness proof give the same entries, and all of them.

use attestlog::entry::Peer;
use attestlog::host::SeededRandom;
use attestlog::json::{Json, Object};
use attestlog::proof::{CheckError, Proven, check};
use attestlog::query::Statistics;
use attestlog::redact::{Action, IdentityKind, Policy, Preset};
use attestlog::retention::{PatientPaths, RetentionPolicy};
use attestlog::{AuditLog, ErrorKind, Facet, Neighbours, Options, PolicySet, Query, ToolCall};
use attestlog_report::access::{AccessReport, Context, Subject};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

fn policies() -> Vec<PolicySet> {
    let of = |redaction| {
        let mut policies = PolicySet::default();
        policies.redaction = redaction;
        policies
    };
    let all = [IdentityKind::Patient, IdentityKind::User, IdentityKind::Conversation];
    let hidden = all.into_iter().fold(Policy::builder(Preset::Default), |b, f| b.facet(f, Action::Pseudonymise));
    let presets = Preset::ALL.into_iter().map(Policy::preset);
    presets.chain([hidden.build().unwrap()]).map(of).collect()
}

fn log(policies: PolicySet) -> AuditLog {
    Options::new().policies(policies).random(Arc::new(SeededRandom::new(15))).in_memory().unwrap()
}

fn found(log: &AuditLog, field: Facet, value: &str) -> Vec<u64> {
    log.query(&Query::new().facet(field, value)).unwrap().map(|entry| entry.unwrap().seq).collect()
}

fn proven(log: &AuditLog, field: Facet, value: &str) -> Vec<u64> {
    let proof = log.proofs().complete(field, value, Neighbours::Reveal).unwrap().to_string();
    match check(proof.as_bytes(), &log.public_key().unwrap().unwrap()).unwrap().proven() {
        Proven::Complete { entries, .. } => entries.iter().map(|(seq, _)| *seq).collect(),
        other => panic!("{other:?}"),
    }
}

fn reported(log: &AuditLog, subject: Subject) -> Vec<u64> {
    let query = match &subject {
        Subject::User(user) => Query::new().user(user),
        other => Query::new().patient(other.shown()),
    };
    let mut builder = AccessReport::builder(Context::new(subject));
    log.query(&query).unwrap().for_each(|entry| builder.add(&entry.unwrap()));
    builder.finish().rows().iter().flat_map(|row| row.entries().collect::<Vec<_>>()).collect()
}

/// Names that a detector, a hidden name inside them, or white space around them could turn into something else.
fn names() -> Vec<String> {
    [
        "P-1007",
        "P_1007",
        "p-1007",
        "P-1",
        "visit-P-1007-2026",
        "460-89-9847",
        "case 460-89-9847",
        "4242424242424242",
        "4242 4242 4242 4242",
        "order-4242424242424242",
        "GB82 WEST 1234 5698 7654 32",
        "sk_live_51H8xqKJ2eZvKYlo2C8aBcDeFgHiJkLmN",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "Bearer abcdefghijklmnopqrstuvwxyz0123456789",
        "jane@example.org",
        "Jane Roe",
        "JANE ROE",
        "dr_smith",
        "get_chart",
        "7",
        "ps_me",
        "Р-1007",
        "José",
        "a value that is a good deal longer than sixty-four bytes, so that a hash stands for it, P-1007",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn around(name: &str, how: usize) -> String {
    match how {
        0 => format!(" {name}"),
        1 => format!("{name}\u{200b}"),
        2 => format!("\u{feff}{name} \n"),
        _ => name.to_owned(),
    }
}

const FIELDS: [Facet; 11] = [
    Facet::Conversation,
    Facet::User,
    Facet::Patient,
    Facet::Tool,
    Facet::Server,
    Facet::Model,
    Facet::Agent,
    Facet::Purpose,
    Facet::Resource,
    Facet::Trace,
    Facet::Peer,
];

/// A recorded call: the seq, and the normal names of its facets in the order of `FIELDS`.
type Row = (u64, [String; 11]);

fn record(log: &AuditLog, names: [String; 11], how: usize) -> Row {
    let [conversation, user, patient, tool, server, model, agent, purpose, resource, trace, program] =
        names.clone().map(|name| around(&name, how));
    let call = ToolCall::new(conversation, user, tool).patient(patient).arguments(Json::from("x"));
    let mut call =
        call.server(server).model(model).agent(agent).purpose(purpose).resource("file", resource).trace(trace, None);
    call.circumstances.peer = Some(Peer { uid: 0, gid: 0, pid: 1, started: None, program: Some(program) });
    (log.record(call).unwrap().seq, names)
}

fn agree(log: &AuditLog, rows: &[Row]) {
    for (i, field) in FIELDS.into_iter().enumerate() {
        let values: BTreeSet<&String> = rows.iter().map(|(_, names)| &names[i]).collect();
        for value in values {
            let expected: Vec<u64> = rows.iter().filter(|(_, names)| names[i] == *value).map(|row| row.0).collect();
            for asked in [value.clone(), around(value, 0), around(value, 1)] {
                assert_eq!(found(log, field, &asked), expected, "query for {field:?} {asked:?}");
            }
            let asked = around(value, value.len() % 4);
            assert_eq!(proven(log, field, &asked), expected, "proof for {field:?} {asked:?}");
            let subject = match field {
                Facet::User => Subject::User(around(value, 1)),
                Facet::Patient => Subject::Patient(around(value, 1)),
                _ => continue,
            };
            assert_eq!(reported(log, subject), expected, "report on {field:?} {value:?}");
        }
    }
    let tools: BTreeSet<&String> = rows.iter().map(|(_, names)| &names[3]).collect();
    for tool in tools {
        let calls = rows.iter().filter(|(_, names)| names[3] == *tool).count() as u64;
        let of = Statistics::new().tool(tool);
        assert_eq!(log.statistics(&of).unwrap()[0].total_calls, calls, "statistics of {tool:?}");
    }
}

/// `prove --complete` once said *exactly 0* for anybody whose name looks like a card number or contains a hidden name:
/// the recorder had written a pseudonym, and the prover looked for the clear value.
#[test]
fn every_name_of_every_facet_is_found_by_everything() {
    for policies in policies() {
        let log = log(policies);
        let names = names();
        let mut rows = Vec::new();
        for (n, name) in names.iter().enumerate() {
            // Each name in each facet, together with a hidden patient whom some of the names contain.
            let mut call: [String; 11] = std::array::from_fn(|_| name.clone());
            if n % 3 != 0 {
                call[2] = "P-1007".to_owned();
            }
            rows.push(record(&log, call, n % 4));
            match n % 9 {
                3 => log.flush_index().unwrap(),
                6 => _ = log.keys().rotate_pseudonym_key().unwrap(),
                _ => {}
            }
        }
        agree(&log, &rows);
        assert!(log.verify(&Default::default()).unwrap().ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn proof_report_query_and_record_agree(
        steps in prop::collection::vec((0usize..10, prop::array::uniform11(0usize..32), 0usize..4), 1..10),
        odd in prop::collection::vec("[A-Za-z0-9 _:@/é-]{1,14}|[3-6][0-9]{15}|[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}|AKIA[A-Z0-9]{16}", 7),
        first in 0usize..5,
    ) {
        let log = log(policies().swap_remove(first));
        let odd = odd.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let all: Vec<String> = names().into_iter().chain(odd).collect();
        let mut rows = Vec::new();
        for (what, picks, how) in steps {
            match what {
                0 => log.flush_index().unwrap(),
                1 => _ = log.keys().rotate_pseudonym_key().unwrap(),
                2 => _ = log.retention().set_policies(policies().swap_remove(how)).unwrap(),
                _ => rows.push(record(&log, picks.map(|pick| all[pick % all.len()].clone()), how)),
            }
        }
        agree(&log, &rows);
    }
}

/// A dishonest prover leaves a spelling out, or proves the absence of a value that is never written.
#[test]
fn a_proof_without_a_pseudonym_or_of_another_form_is_refused() {
    let log = log(PolicySet::default());
    log.record(ToolCall::new("4242424242424242", "u", "t").patient("460-89-9847")).unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    for (field, value) in
        [(Facet::Conversation, "4242424242424242"), (Facet::Patient, "460-89-9847"), (Facet::Tool, "t")]
    {
        let proof = log.proofs().complete(field, value, Neighbours::Reveal).unwrap();
        assert_eq!(proof.terms.len(), 3, "{:?}", proof.terms);
        for i in 0..3 {
            let mut less = proof.clone();
            less.terms.remove(i);
            let refused = check(less.to_string().as_bytes(), &log.public_key().unwrap().unwrap());
            assert!(matches!(refused, Err(CheckError::Incomplete(_))));
        }
        let mut other = proof.clone();
        other.terms.retain(|term| term != value);
        other.value = format!("{value} ");
        other.terms.push(other.value.clone());
        other.terms.sort();
        assert!(check(other.to_string().as_bytes(), &log.public_key().unwrap().unwrap()).is_err());
    }
}

/// A store without keys masks a name that is really a number or a secret. Nobody can tell afterwards whose it was.
#[test]
fn without_keys_a_search_for_what_was_masked_is_refused() {
    let log = Options::new().without_keys().in_memory().unwrap();
    log.record(ToolCall::new("4242424242424242", "460-89-9847", "t").purpose("call jane@example.org")).unwrap();
    for (field, value) in [
        (Facet::Conversation, "4242424242424242"),
        (Facet::User, "460-89-9847"),
        (Facet::Tool, "pay-4242424242424242"),
        (Facet::Purpose, "call jane@example.org"),
    ] {
        let refused = log.count(&Query::new().facet(field, value)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Key, "{field:?}: {refused}");
        assert!(!refused.to_string().contains(value));
    }
    assert_eq!(log.count(&Query::new().tool("t")).unwrap(), 1);
    let of = Statistics::new().tool("pay-4242424242424242");
    assert_eq!(log.statistics(&of).unwrap_err().kind(), ErrorKind::Key);
}

/// Without the key file, a conversation with a hidden patient in its name was not found, and the answer was zero.
#[test]
fn without_the_key_file_a_name_that_may_be_a_pseudonym_is_not_said_to_be_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::preset(Preset::Hipaa);
    let options = Options::new().policies(hipaa).background(false);
    let log = options.clone().create(&path).unwrap();
    log.record(ToolCall::new("visit-P-1007-2026", "dr_a", "t").patient("P-1007")).unwrap();
    assert_eq!(found(&log, Facet::Conversation, "visit-P-1007-2026").len(), 1);
    log.close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    let log = options.open(&path).unwrap();
    let refused = log.count(&Query::new().conversation("visit-P-1007-2026")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Key);
    assert_eq!(
        log.count(&Query::new().tool("t").user("dr_a")).unwrap(),
        1,
        "of tools and users there are no pseudonyms"
    );
}

/// A tool whose name became a pseudonym keeps the class of its real name.
#[test]
fn a_tool_with_a_hidden_name_keeps_its_retention() {
    let mut policies = PolicySet::default();
    policies.retention = RetentionPolicy::builder().tool("issue_*", "financial").build().unwrap();
    let log = log(policies);
    let seq = |tool: &str| log.record(ToolCall::new("c", "460-89-9847", tool)).unwrap().seq;
    let class = |seq| log.entry(seq).unwrap().body.retention.unwrap();
    let (plain, named) = (seq("issue_refund"), seq("issue_refund_460-89-9847"));
    assert!(log.entry(named).unwrap().call().unwrap().tool_name.starts_with("ps_"));
    assert_eq!((class(named).class, class(plain).class), ("financial".to_owned(), "financial".to_owned()));
}

fn patients(arguments: &str) -> Vec<String> {
    let log = log(PolicySet::default());
    let arguments = Json::parse(arguments.as_bytes()).unwrap().value;
    let seq = log.record(ToolCall::new("c", "u", "t").arguments(arguments)).unwrap().seq;
    log.entry(seq).unwrap().call().unwrap().patient_ids.clone()
}

/// Hosts that write `patientId` had no access report: only `patient_id` was read.
#[test]
fn patients_are_found_however_their_member_is_written() {
    for arguments in [
        r#"{"patient_id":"P-1"}"#,
        r#"{"patientId":"P-1"}"#,
        r#"{"PATIENT_ID":"P-1"}"#,
        r#"{"patient-id":"P-1"}"#,
        r#"{"Patient ID":"P-1"}"#,
        r#"{"patientIds":["P-1"]}"#,
        r#"{"patient_id":{"id":"P-1"}}"#,
        r#"{"patient_id":[{"id":"P-1","name":"Jane"}]}"#,
        r#"{"patient":{"ID":"P-1"}}"#,
        r#"{"patients":[{"patientId":"P-1"}]}"#,
        r#"{"pаtient_id":"P-1"}"#,
        r#"{"patient_id":" P-1\u200b"}"#,
    ] {
        assert_eq!(patients(arguments), ["P-1"], "{arguments}");
    }
    assert_eq!(patients(r#"{"patient_id":123}"#), patients(r#"{"patient_id":"123"}"#));
    assert_eq!(patients(r#"{"patientId":"P-1","PATIENT_ID":"P-2"}"#), ["P-1", "P-2"]);
    for nobody in
        [r#"{"impatient_id":"P-1"}"#, r#"{"patient_id":{}}"#, r#"{"patient_name":"Jane"}"#, r#"{"patient_id":" "}"#]
    {
        assert!(patients(nobody).is_empty(), "{nobody}");
    }
    let call =
        ToolCall::from_jsonl(br#"{"tool_name":"t","conversation_id":"c","user_id":"u","patient_id":123}"#).unwrap();
    let log = log(PolicySet::default());
    let seq = log.record(call).unwrap().seq;
    assert_eq!(found(&log, Facet::Patient, "123"), [seq]);
}

#[test]
fn look_alikes_are_told_apart_and_told() {
    let log = log(PolicySet::default());
    let plain = log.record(ToolCall::new("c", "dr_smith", "t").patient("P-1")).unwrap().seq;
    let alike = log.record(ToolCall::new("c", "dr_smіth", "t").patient("Р-1")).unwrap().seq;
    log.flush_index().unwrap();
    assert_eq!((found(&log, Facet::Patient, "P-1"), found(&log, Facet::Patient, "Р-1")), (vec![plain], vec![alike]));
    assert_eq!(log.values().look_alikes(Facet::Patient, "P-1").unwrap(), ["Р-1"]);
    assert_eq!(log.values().look_alikes(Facet::User, "dr_smіth").unwrap(), ["dr_smith"]);
    assert_eq!(log.values().look_alikes(Facet::User, "DR-SMITH").unwrap(), ["dr_smith", "dr_smіth"]);
    assert!(log.values().look_alikes(Facet::User, "dr_jones").unwrap().is_empty());
    let line = log.entry(alike).unwrap().line();
    assert!(line.contains(r#""treated":{"keep":{"look_alike":["patient_ids","user_id"]}}"#), "{line}");
    assert!(!log.entry(plain).unwrap().line().contains("look_alike"));
}

/// While the key file was missing, such names were masked, in a log whose proofs look for their pseudonyms.
#[test]
fn a_store_with_keys_masks_no_name_while_they_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = Options::new().background(false);
    options.clone().create(&path).unwrap().close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    let log = options.unsigned(true).open(&path).unwrap();
    let call = |conversation: &str| ToolCall::new(conversation, "u", "t");
    log.record(call("conv_1")).unwrap();
    let refused = log.record(call("4242424242424242")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Key, "{refused}");
    assert_eq!(log.record(call("conv_1").patient("460-89-9847")).unwrap_err().kind(), ErrorKind::Key);
}

/// The agent named a patient in such a way that the tool server found the chart and the log found nobody: in an array,
/// in JSON in a text, in nested objects, as plain `patient`, in other letters than the policy's path or tool has, with
/// an invisible space. Search, retention and holds missed those calls, although redaction had recognized most of them.
#[test]
fn a_patient_is_found_however_the_arguments_name_them() {
    let arguments = [
        r#"[{"patient_id":"P-20"}]"#,
        r#"[[{"patient_id":["P-20"]}]]"#,
        r#""{\"patient_id\":\"P-20\"}""#,
        r#""\"{\\\"patient_id\\\":\\\"P-20\\\"}\"""#,
        r#"{"patient_id":{"id":["P-20"]}}"#,
        r#"{"patient_id":{"id":{"id":"P-20"}}}"#,
        r#"{"patient_id":["P-19",["P-20"]]}"#,
        r#"{"patient_id":"[\"P-20\"]"}"#,
        r#"{"patient_id":"\"P-20\""}"#,
        r#"{"patient":"P-20"}"#,
        r#"{"PatientNumber":"P-20"}"#,
        r#"{"p\u0430tient_id":"P-20"}"#,
        r#"{"patient_id":"P-20\u2800"}"#,
        r#"{"patient\u2800_id":"P-\u316420\ufffc"}"#,
        r#"{"subject":"P-20"}"#,
        r#"{"SUBJECT":{"patientId":"P-20"}}"#,
        r#"[{"Sub-ject":"P-20"}]"#,
        r#"{"body":{"who":["P-20"]}}"#,
        r#"{"body":"{\"WHO\":[{\"id\":\"P-20\"}]}"}"#,
    ];
    for mut policies in policies() {
        policies.patients = PatientPaths::new([("get_*", ["arguments.subject", "arguments.body.who[*]"])]).unwrap();
        let hidden = policies.redaction.facet(IdentityKind::Patient) == Action::Pseudonymise;
        let log = log(policies);
        for arguments in arguments {
            for tool in ["get_chart", "GET_Chart", "ｇet_chart"] {
                let given = Json::parse(arguments.as_bytes()).unwrap().value;
                let seq = log.record(ToolCall::new("c", "u", tool).arguments(given)).unwrap().seq;
                assert_eq!(found(&log, Facet::Patient, "P-20").last(), Some(&seq), "{tool} {arguments}");
                let entry = log.entry(seq).unwrap();
                let line = entry.line();
                assert!(!hidden || !line.contains("P-20"), "{line}");
                assert!(line.contains(r#""retention_class":"healthcare""#), "{line}");
            }
        }
        // A path applies only to its tools, and a name that only resembles a patient's does not count.
        for (tool, arguments) in
            [("look", r#"{"subject":"P-20"}"#), ("get_x", r#"{"patient_name":"P-20","patience":1}"#)]
        {
            let given = Json::parse(arguments.as_bytes()).unwrap().value;
            let seq = log.record(ToolCall::new("c", "u", tool).arguments(given)).unwrap().seq;
            assert!(!found(&log, Facet::Patient, "P-20").contains(&seq), "{tool} {arguments}");
        }
    }
}

/// An agent that sends a patient in endlessly nested arrays or texts must not exhaust the recorder's time or stack.
#[test]
fn what_is_looked_into_for_patients_has_an_end() {
    let log = log(PolicySet::default());
    let nested = format!("{}\"P-20\"{}", "[".repeat(120), "]".repeat(120));
    let deep = Json::parse(format!(r#"{{"patient_id":{nested}}}"#).as_bytes()).unwrap().value;
    let seq = log.record(ToolCall::new("c", "u", "t").arguments(deep)).unwrap().seq;
    assert_eq!(found(&log, Facet::Patient, "P-20"), [seq]);
    // A text too long to be searched is an id that is too long: this is reported, not ignored.
    let text = format!("[{}\"P-20\"]", " ".repeat(64 << 20));
    let call = ToolCall::new("c", "u", "t").arguments([("patient_id", text)].into_iter().collect::<Object>());
    assert_eq!(log.record(call).unwrap_err().kind(), ErrorKind::TooLarge);
}

fn recorded(log: &AuditLog, call: ToolCall) -> Json {
    let seq = log.record(call).unwrap().seq;
    Json::parse(log.entry(seq).unwrap().line().as_bytes()).unwrap().value
}

/// The id of a patient under a name that a rule hides appeared in clear next to its own pseudonym, wherever the log did
/// not look for patients: in `filter.patient_id` and `q`, in a result's `patient_id`, `id` and `status`, in metadata,
/// in an error. So the pseudonym could be resolved just by reading.
#[test]
fn who_is_hidden_in_one_place_is_hidden_in_all_of_the_call() {
    let value = |text: &str| Json::parse(text.as_bytes()).unwrap().value;
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Hipaa);
    policies.results.keep_full = Some(4096);
    let log = log(policies);
    let call = || ToolCall::new("c", "u", "t");
    let calls = [
        call().arguments(value(r#"{"filter":{"patient_id":"Smith44"},"q":"chart of Smith44"}"#)),
        call().arguments(value(r#"{"rows":[{"mrn":"Smith44"}],"Smith44":"chart of smith44"}"#)),
        call().arguments(value(r#"{"body":"{\"patient\":{\"id\":\"Smith44\"}}","q":"Smith44"}"#)),
        call()
            .arguments(value(r#"{"patient_id":"X7","q":"Smith44"}"#))
            .result(value(r#"{"patient_id":"Smith44","id":"Smith44","status":"Smith44 ok"}"#)),
        call().result(value(r#"{"content":[{"type":"text","text":"{\"mrn\":\"Smith44\",\"id\":\"Smith44\"}"}]}"#)),
        call().result(value(r#"[{"patientId":"Smith44","visit_id":"Smith44/1","of":{"id":"Smith44"}}]"#)),
        call().result(value(r#"{"isError":true,"patient_id":"Smith44","error":"no chart of Smith44"}"#)),
        call().arguments(value(r#"{"q":"Smith44"}"#)).metadata("mrn", "Smith44").metadata("tab", "Smith44"),
        call().arguments(value(r#"{"mrn":"Smith44"}"#)).purpose("visit of Smith44"),
    ];
    for call in calls {
        let said = format!("{call:?}");
        let line = recorded(&log, call).to_canonical().as_str().to_owned();
        assert!(!line.to_lowercase().contains("smith44") && line.contains("ps_"), "{said}: {line}");
    }
    // A hidden value that is nobody's name does not change the rest.
    let line = recorded(&log, call().arguments(value(r#"{"mrn":"none","q":"none of it"}"#)));
    assert_eq!(line.get("arguments").unwrap().get("q").unwrap().as_str(), Some("none of it"));
}

/// A call that named its patient below the top level of its arguments had no patient: it was kept for one year instead
/// of six, and no report included it.
#[test]
fn a_patient_is_found_at_any_depth_of_the_arguments() {
    for policies in policies() {
        let log = log(policies);
        let mut seqs = Vec::new();
        for arguments in [
            r#"{"filter":{"patient_id":"Smith44"}}"#,
            r#"{"and":[{"x":1},{"term":{"patientId":["Smith44"]}}]}"#,
            r#"{"body":"{\"patient\":{\"id\":\"Smith44\"}}"}"#,
        ] {
            let arguments = Json::parse(arguments.as_bytes()).unwrap().value;
            let seq = log.record(ToolCall::new("c", "u", "t").arguments(arguments)).unwrap().seq;
            seqs.push(seq);
        }
        assert_eq!(found(&log, Facet::Patient, "Smith44"), seqs);
    }
}

/// A host sent the chart of a patient as base64, whose name the policy hides: detectors look into such a text, and the search
/// for names did not.
#[test]
fn a_hidden_name_is_found_in_a_text_of_base64() {
    let mut policies = PolicySet::default();
    policies.redaction =
        Policy::builder(Preset::Default).facet(IdentityKind::Patient, Action::Pseudonymise).build().unwrap();
    let log = log(policies);
    // "Jane Roe-Smith", and "chart of JANE ROE SMITH" over two lines; "an ordinary text".
    let arguments =
        r#"{"a":"SmFuZSBSb2UtU21pdGg=","b":"Y2hhcnQgb2YgSkFO\nRSBST0UgU01JVEg","c":"YW4gb3JkaW5hcnkgdGV4dA=="}"#;
    let arguments = Json::parse(arguments.as_bytes()).unwrap().value;
    let seq = log.record(ToolCall::new("c", "u", "t").patient("Jane Roe-Smith").arguments(arguments)).unwrap().seq;
    let entry = log.entry(seq).unwrap();
    let call = entry.call().unwrap();
    let written = call.arguments.as_ref().unwrap().to_json();
    let pseudonym = Json::from(call.patient_ids[0].as_str());
    assert_eq!((written.get("a"), written.get("b")), (Some(&pseudonym), Some(&pseudonym)));
    assert_eq!(written.get("c").unwrap().as_str(), Some("YW4gb3JkaW5hcnkgdGV4dA=="));
}

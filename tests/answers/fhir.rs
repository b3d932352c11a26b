//! AuditEvents are accepted by a FHIR server, say who did it, and claim IHE BALP only if they follow its rules.
//!
//! One test runs `fhir.resources` (PyPI) over everything written here, in a Python environment that it makes under
//! `target/`. If there is no Python or no package index, it says on standard error that it was skipped;
//! `ATTESTLOG_REQUIRE_FHIR=1` makes that a failure.

use crate::entries::{begun_and_finished, call, call_named, json, nasty, own};
use attestlog::Entry;
use attestlog::json::Json;
use attestlog_report::access::{Context, Subject};
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter, audit_event_r4, audit_event_r5};
use attestlog_report::{ToolKind, ToolKinds};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const OPENED: &str =
    r#"{"user":"dr_smith","patient":"P-1","actor":"charge_nurse","reason":"unconscious","urgency":"high"}"#;

fn r4(entry: &Entry) -> Json {
    audit_event_r4(entry, &FhirOptions::default()).unwrap()
}

fn r5(entry: &Entry) -> Json {
    audit_event_r5(entry, &FhirOptions::default()).unwrap()
}

/// The value at a path of member names and indexes, `agent.3.who.identifier.value`.
fn at<'a>(value: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(value, |at, step| match at {
        Json::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

fn text<'a>(value: &'a Json, path: &str) -> &'a str {
    at(value, path).and_then(Json::as_str).unwrap_or_else(|| panic!("no {path} in {}", value.to_canonical()))
}

fn agents(event: &Json) -> &[Json] {
    event.get("agent").unwrap().as_array().unwrap()
}

fn entities(event: &Json) -> &[Json] {
    event.get("entity").unwrap().as_array().unwrap()
}

fn of_type<'a>(items: &'a [Json], path: &str, code: &str) -> Vec<&'a Json> {
    items.iter().filter(|i| at(i, path).and_then(Json::as_str) == Some(code)).collect()
}

fn claimed(event: &Json) -> Option<&str> {
    let url = at(event, "meta.profile.0")?.as_str()?;
    url.strip_prefix("https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.")
}

/// Checks the rules of BALP 1.1.3 for the three profiles, on a resource that claims one.
fn check_balp(event: &Json) {
    let profile = claimed(event).expect("claims a profile");
    let (action, subtype, client, server, users) = match profile {
        "PatientRead" => ("R", "read", "110152", "110153", &["IRCP"][..]),
        "PatientUpdate" => ("U", "update", "110153", "110152", &["AUT", "INF", "CST"][..]),
        "PatientQuery" => ("E", "search", "110153", "110152", &["IRCP"][..]),
        other => panic!("claims {other}"),
    };
    assert_eq!(text(event, "type.system"), "http://terminology.hl7.org/CodeSystem/audit-event-type");
    assert_eq!(text(event, "type.code"), "rest");
    assert_eq!(text(event, "action"), action);
    assert_eq!(text(event, "outcome"), "0");
    let subtypes = event.get("subtype").unwrap().as_array().unwrap();
    assert_eq!(of_type(subtypes, "code", subtype).len(), 1);

    let by_type = |code: &str| of_type(agents(event), "type.coding.0.code", code);
    for code in [client, server] {
        let [agent] = by_type(code)[..] else { panic!("one agent of type {code}") };
        assert_eq!(text(agent, "type.coding.0.system"), DCM);
        assert!(agent.get("who").is_some() && agent.get("media").is_none());
        assert!(!text(agent, "network.address").is_empty());
    }
    let people: Vec<&Json> = users.iter().flat_map(|code| by_type(code)).collect();
    let [user] = people[..] else { panic!("one user") };
    assert_eq!(user.get("requestor").unwrap().as_bool(), Some(true));
    assert!(user.get("who").is_some() && user.get("network").is_none() && user.get("media").is_none());

    let [patient] = of_type(entities(event), "type.code", "1")[..] else { panic!("one patient") };
    assert_eq!(text(patient, "role.code"), "1");
    assert_eq!(text(patient, "what.type"), "Patient");
    let [data] = of_type(entities(event), "type.code", "2")[..] else { panic!("one system object") };
    if profile == "PatientQuery" {
        assert_eq!(text(data, "role.code"), "24");
        assert!(data.get("query").is_some());
        for absent in ["what", "lifecycle", "detail", "name"] {
            assert!(data.get(absent).is_none(), "{absent}");
        }
    } else {
        assert!(["3", "4", "20"].contains(&text(data, "role.code")));
        assert!(data.get("what").is_some());
    }
    let requests = of_type(entities(event), "type.code", "XrequestId");
    assert!(requests.len() <= 1);
    requests.iter().for_each(|r| assert!(!text(r, "what.identifier.value").is_empty()));
}

/// Checks what must hold in every AuditEvent and is not checked by all validators.
fn check_event(event: &Json) {
    fn walk(value: &Json) {
        match value {
            Json::Null => panic!("FHIR has no null"),
            Json::Array(items) => {
                assert!(!items.is_empty(), "FHIR has no empty array");
                items.iter().for_each(walk);
            }
            Json::Object(members) => {
                assert!(!members.is_empty(), "FHIR has no empty object");
                members.iter().for_each(|(_, v)| walk(v));
            }
            Json::String(s) => {
                assert!(!s.trim().is_empty());
                assert!(!s.chars().any(|c| c < ' ' && !matches!(c, '\t' | '\r' | '\n')), "{s:?}");
            }
            _ => {}
        }
    }
    walk(event);
    let id = text(event, "id");
    assert!(id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
    assert!(agents(event).iter().any(|a| a.get("requestor").and_then(Json::as_bool) == Some(true)));
    for entity in entities(event) {
        // sev-1
        assert!(entity.get("name").is_none() || entity.get("query").is_none());
        if let Some(reference) = at(entity, "what.reference") {
            let reference = reference.as_str().unwrap();
            let id = reference.strip_prefix("Patient/").unwrap();
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') && id != "..", "{id}");
        }
    }
}

#[test]
fn successes_keep_the_rules_of_the_profiles_that_they_claim() {
    for (tool, profile) in [
        ("get_patient_chart", "PatientRead"),
        ("update_allergies", "PatientUpdate"),
        ("search_medications", "PatientQuery"),
    ] {
        for server in [r#""https://ehr.example.org""#, r#""ehr""#, r#""10.1.1.1""#, "null"] {
            let changes = format!(r#"{{"tool_name":"{tool}","tool_server":{server}}}"#);
            let event = r4(&call(7, &changes));
            assert_eq!(claimed(&event), Some(profile), "{tool}");
            check_balp(&event);
            check_event(&event);
            let bare = format!(
                r#"{{"tool_name":"{tool}","agent_id":null,"model":null,"session_metadata":null,"call_id":null,
                    "purpose":null,"result_summary":null,"duration_ms":null}}"#
            );
            check_balp(&r4(&call(7, &bare)));
            assert!(r5(&call(7, &bare)).get("meta").is_none(), "the profiles are for R4");
        }
    }
}

/// A check that accepts everything would prove nothing.
#[test]
fn the_checks_refuse_what_breaks_the_rules() {
    let read = r4(&call(7, "{}"));
    let search = r4(&call(7, r#"{"tool_name":"search_medications"}"#));
    let good = read.to_canonical().to_string();
    let searched = search.to_canonical().to_string();
    for (event, from, to) in [
        (&good, r#""outcome":"0""#, r#""outcome":"4""#),
        (&good, r#""action":"R""#, r#""action":"U""#),
        (&good, r#""code":"110152""#, r#""code":"110153""#),
        (&good, r#""code":"110152""#, r#""code":"110150""#),
        (&good, r#""code":"IRCP""#, r#""code":"AUT""#),
        (&good, r#""code":"rest""#, r#""code":"rested""#),
        (&good, r#""requestor":true"#, r#""requestor":false"#),
        (&good, r#""code":"4","display":"Domain Resource""#, r#""code":"5","display":"Master file""#),
        (&good, r#""type":"Patient""#, r#""type":"Person""#),
        (&good, r#""network":{"#, r#""networks":{"#),
        (&good, "BasicAudit.PatientRead", "BasicAudit.PatientQuery"),
        (&searched, r#""query":"#, r#""question":"#),
        (&searched, r#""query":"#, r#""name":"x","query":"#),
        (&searched, r#""code":"24""#, r#""code":"4""#),
    ] {
        check_balp(&json(event));
        let broken = json(&event.replacen(from, to, 1));
        assert_ne!(broken, json(event), "{from}");
        let refused = std::panic::catch_unwind(|| check_balp(&broken)).is_err();
        assert!(refused, "{from} as {to} went through");
    }
}

#[test]
fn nothing_else_claims_a_profile() {
    for changes in [
        r#"{"outcome":"tool_error"}"#,
        r#"{"outcome":"denied"}"#,
        r#"{"outcome":"timeout","tool_name":"search_medications"}"#,
        r#"{"outcome":"protocol_error","tool_name":"update_allergies"}"#,
        r#"{"outcome":"abandoned"}"#,
        r#"{"patient_ids":null}"#,
        r#"{"patient_ids":["P-1","P-2"]}"#,
        r#"{"tool_name":"transcribe"}"#,
        r#"{"tool_name":"delete_note"}"#,
        r#"{"tool_name":"create_note"}"#,
        r#"{"tool_name":"search_medications","arguments":null}"#,
    ] {
        let event = r4(&call(1, changes));
        assert_eq!(claimed(&event), None, "{changes}");
        check_event(&event);
        check_event(&r5(&call(1, changes)));
    }
    let (first, _) = begun_and_finished(1, 2);
    assert_eq!(claimed(&r4(&first)), None);
}

#[test]
fn it_says_who_did_it_for_whom_and_why() {
    let event = r4(&call(7, "{}"));
    let [_, _, ai, user] = agents(&event) else { panic!("server, client, AI and user") };
    assert_eq!(text(user, "who.identifier.value"), "dr_smith");
    assert_eq!(text(user, "role.0.text"), "physician");
    assert_eq!(text(user, "purposeOfUse.0.coding.0.code"), "TREAT");
    assert_eq!(text(&event, "purposeOfEvent.0.coding.0.code"), "TREAT");
    assert_eq!(text(ai, "who.type"), "Device");
    assert_eq!(text(ai, "who.display"), "chart-agent / model gpt-4.1");
    assert_eq!(text(ai, "extension.0.url"), "http://hl7.org/fhir/StructureDefinition/auditevent-OnBehalfOf");
    assert_eq!(text(ai, "extension.0.valueReference.identifier.value"), "dr_smith");
    assert_eq!(ai.get("requestor").unwrap().as_bool(), Some(false));
    assert_eq!(text(&event, "entity.0.what.reference"), "Patient/P-1");
    assert_eq!(text(&event, "entity.1.what.identifier.value"), "C-9");
    assert_eq!(text(&event, "recorded"), "2026-03-02T14:05:09.123Z");
    assert_eq!(text(&event, "period.end"), "2026-03-02T14:05:09.112Z");
    let all = event.to_canonical().to_string();
    assert!(!all.contains("deceased") && !all.contains("genetics"), "contents stay out: {all}");
    assert!(all.contains(&call(7, "{}").hash().to_string()));

    let event = r5(&call(7, r#"{"purpose":"research"}"#));
    assert_eq!(text(&event, "code.coding.0.code"), "read");
    assert_eq!(text(&event, "outcome.code.code"), "success");
    assert_eq!(text(&event, "patient.reference"), "Patient/P-1");
    assert_eq!(text(&event, "authorization.0.coding.0.code"), "HRESCH");
    assert_eq!(text(&event, "agent.0.networkUri"), "https://ehr.example.org/mcp");
    assert_eq!(text(&event, "agent.1.networkString"), "10.0.1.5");
}

#[test]
fn purposes_are_coded_where_there_is_a_code() {
    for (given, code) in [
        ("treatment", "TREAT"),
        ("payment", "HPAYMT"),
        ("operations", "HOPERAT"),
        ("research", "HRESCH"),
        ("emergency", "ETREAT"),
        ("break_glass", "BTG"),
        ("HQUALIMP", "HQUALIMP"),
    ] {
        let event = r4(&call(1, &format!(r#"{{"purpose":"{given}"}}"#)));
        assert_eq!(text(&event, "purposeOfEvent.0.coding.0.code"), code);
    }
    let own_code = r4(&call(1, r#"{"purpose":"case-review-7"}"#));
    assert_eq!(text(&own_code, "purposeOfEvent.0.text"), "case-review-7");
    assert!(r4(&call(1, r#"{"purpose":null}"#)).get("purposeOfEvent").is_none());
    let codes = |changes: &str| -> Vec<String> {
        let event = r4(&call(1, changes));
        let purposes = event.get("purposeOfEvent").unwrap().as_array().unwrap().to_vec();
        purposes.iter().map(|p| text(p, "coding.0.code").to_owned()).collect()
    };
    assert_eq!(codes(r#"{"emergency":true}"#), ["TREAT", "ETREAT"]);
    assert_eq!(codes(r#"{"emergency":true,"grant":3,"purpose":"ETREAT"}"#), ["ETREAT", "BTG"]);
}

#[test]
fn failures_are_told_without_what_they_said() {
    for (outcome, code) in
        [("tool_error", "4"), ("denied", "4"), ("protocol_error", "8"), ("timeout", "8"), ("abandoned", "8")]
    {
        let entry = call(1, &format!(r#"{{"outcome":"{outcome}"}}"#));
        let event = r4(&entry);
        assert_eq!(text(&event, "outcome"), code);
        assert_eq!(text(&event, "outcomeDesc"), format!("{outcome} (E42)"));
        assert_eq!(text(&r5(&entry), "outcome.code.code"), "error");
        for event in [event, r5(&entry)] {
            assert!(!event.to_canonical().as_str().contains("HIV"));
        }
    }
}

#[test]
fn a_search_holds_its_parameters_as_base64() {
    let event = r4(&call(1, r#"{"tool_name":"search_medications","arguments":{"q":"=1"}}"#));
    let [search] = of_type(entities(&event), "role.code", "24")[..] else { panic!("one search") };
    assert_eq!(text(search, "query"), "eyJxIjoiPTEifQ==");
}

#[test]
fn emergency_access_is_a_security_alert() {
    for (kind, code) in [("break_glass_opened", Some("110127")), ("break_glass_closed", Some("110138"))] {
        let entry = own(4, kind, OPENED);
        let event = r4(&entry);
        check_event(&event);
        assert_eq!((text(&event, "type.system"), text(&event, "type.code")), (DCM, "110113"));
        assert_eq!(at(&event, "subtype.0.code").and_then(Json::as_str), code);
        let purposes = event.get("purposeOfEvent").unwrap().to_canonical().to_string();
        assert!(purposes.contains("BTG") && purposes.contains("ETREAT"));
        assert_eq!(text(&event, "agent.0.who.identifier.value"), "dr_smith");
        assert_eq!(text(&event, "entity.0.what.reference"), "Patient/P-1");
        assert!(event.to_canonical().as_str().contains("unconscious"));
        let event = r5(&entry);
        check_event(&event);
        assert_eq!(text(&event, "category.0.coding.0.code"), "110113");
        assert_eq!(text(&event, "severity"), "alert");
    }
    let review = own(5, "break_glass_reviewed", r#"{"grant":4,"reviewer":"privacy_officer","user":"dr_smith"}"#);
    assert_eq!(text(&r4(&review), "agent.0.who.identifier.value"), "privacy_officer");
    check_event(&r4(&own(6, "break_glass_opened", "{}")));
    for kind in ["genesis", "policy", "purge", "alert", "hold_placed"] {
        assert!(audit_event_r4(&own(1, kind, "{}"), &FhirOptions::default()).is_none());
    }
}

#[test]
fn two_steps_are_one_event_and_none_is_lost() {
    let (first, second) = begun_and_finished(1, 5);
    let (open, _) = begun_and_finished(2, 6);
    let lines = write(&[first, open, own(3, "policy", "{}"), call(4, "{}"), second], FhirRelease::R4, FhirForm::Ndjson);
    let events: Vec<Json> = lines.lines().map(json).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(text(&events[1], "period.start"), "2026-03-02T14:05:09.100Z");
    assert_eq!(text(&events[1], "period.end"), "2026-03-02T14:05:11.000Z");
    check_balp(&events[1]);
    assert!(events[2].get("outcome").is_none());
    assert!(text(&events[2], "outcomeDesc").starts_with("unfinished"));
}

#[test]
fn a_bundle_is_a_collection_with_distinct_urls() {
    let entries: Vec<Entry> = (0..5).map(|seq| call(seq, "{}")).collect();
    for release in [FhirRelease::R4, FhirRelease::R5] {
        let bundle = json(&write(&entries, release, FhirForm::Bundle));
        assert_eq!((text(&bundle, "resourceType"), text(&bundle, "type")), ("Bundle", "collection"));
        let items = bundle.get("entry").unwrap().as_array().unwrap();
        let mut urls: Vec<&str> = items.iter().map(|i| text(i, "fullUrl")).collect();
        urls.sort_unstable();
        urls.dedup();
        assert_eq!(urls.len(), 5);
        assert!(urls.iter().all(|u| u.len() == "urn:uuid:".len() + 36));
    }
    assert!(json(&write(&[], FhirRelease::R4, FhirForm::Bundle)).get("entry").is_none());
    assert_eq!(write(&[], FhirRelease::R5, FhirForm::Ndjson), "");
}

#[test]
fn a_report_about_one_patient_names_no_other() {
    let changes = r#"{"tool_name":"TOOL","patient_ids":["P-1","P-2"],"arguments":{"ids":["P-1","P-2"]},
        "result_summary":{"keys":{"[].patient_id":["P-1","P-2"]},"fields":["P-2"]}}"#;
    let context = Context::new(Subject::Patient("P-1".to_owned()));
    let options = FhirOptions::default().about(&context);
    for (tool, profile) in [("get_charts", Some("PatientRead")), ("search_charts", None)] {
        let entry = call(1, &changes.replace("TOOL", tool));
        let event = audit_event_r4(&entry, &options).unwrap();
        check_event(&event);
        assert_eq!(claimed(&event), profile);
        if profile.is_some() {
            check_balp(&event);
        }
        assert!(!event.to_canonical().as_str().contains("P-2"), "{}", event.to_canonical());
        assert!(!audit_event_r5(&entry, &options).unwrap().to_canonical().as_str().contains("P-2"));
    }
    let other = own(4, "break_glass_opened", &OPENED.replace("P-1", "P-2"));
    assert!(audit_event_r4(&other, &options).is_none());
}

#[test]
fn which_tool_does_what_is_configuration() {
    let mut options = FhirOptions::default();
    let mut tools = ToolKinds::default();
    tools.set("transcribe", ToolKind::Update);
    options.tools = tools;
    options.patient_system = Some("https://clinic.example/mrn".to_owned());
    options.test_data = true;
    options.site = Some("ward 7".to_owned());
    let event = audit_event_r4(&call(1, r#"{"tool_name":"transcribe"}"#), &options).unwrap();
    check_balp(&event);
    assert_eq!(claimed(&event), Some("PatientUpdate"));
    assert_eq!(text(&event, "entity.0.what.identifier.system"), "https://clinic.example/mrn");
    assert_eq!(text(&event, "meta.security.0.code"), "HTEST");
}

#[test]
fn any_id_comes_out_safely() {
    for id in nasty() {
        for tool in ["get_", "search_", "update_"] {
            let entry = call_named(1, tool, &id);
            check_event(&r4(&entry));
            check_event(&r5(&entry));
            check_balp(&r4(&entry));
        }
        let text = write(&[call_named(1, "get_", &id)], FhirRelease::R4, FhirForm::Ndjson);
        assert_eq!(text.lines().count(), 1);
    }
}

/// The published examples follow the rules that are checked here; otherwise the checks are wrong.
#[test]
fn the_checks_agree_with_examples() {
    let shared = std::env::var_os("ATTESTLOG_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join("vectors/fhir/auditevent-r4-balp-patientread-ai-agent.json");
    let Ok(example) = std::fs::read_to_string(&path) else {
        return skipped(&format!("no example at {}", path.display()));
    };
    let example = json(&example);
    let ours = r4(&call(1, "{}"));
    assert_eq!(claimed(&example), claimed(&ours));
    for path in ["type", "subtype", "action", "outcome", "purposeOfEvent", "source.type"] {
        assert_eq!(at(&example, path), at(&ours, path), "{path}");
    }
    let types = |event: &Json| -> Vec<String> {
        agents(event).iter().map(|a| a.get("type").unwrap().to_canonical().to_string()).collect()
    };
    assert_eq!(types(&example), types(&ours));
    for (theirs, our) in agents(&example).iter().zip(agents(&ours)) {
        for path in ["requestor", "network.type", "extension.0.url", "purposeOfUse"] {
            let kinds = [theirs, our].map(|a| at(a, path).filter(|_| path != "network.type").cloned());
            assert_eq!(kinds[0], kinds[1], "{path}");
            assert_eq!(at(theirs, path).is_some(), at(our, path).is_some(), "{path}");
        }
    }
    let roles = |event: &Json| -> Vec<(Option<Json>, Option<Json>)> {
        entities(event).iter().take(2).map(|e| (at(e, "type").cloned(), at(e, "role").cloned())).collect()
    };
    assert_eq!(roles(&example), roles(&ours));

    let read = |name: &str| json(&std::fs::read_to_string(shared.join("vectors/fhir").join(name)).unwrap());
    let glass = read("auditevent-r4-breakglass-start.json");
    let ours = r4(&own(1, "break_glass_opened", OPENED));
    for path in ["type", "subtype", "action", "outcome", "purposeOfEvent"] {
        assert_eq!(at(&glass, path), at(&ours, path), "{path}");
    }
    let update = read("auditevent-r5-patientupdate-ai-agent.json");
    let ours = r5(&call(1, r#"{"tool_name":"update_order"}"#));
    for path in
        ["category", "code", "action", "severity", "outcome.code", "source.type", "entity.0.role", "entity.1.role"]
    {
        assert_eq!(at(&update, path), at(&ours, path), "{path}");
    }
}

#[test]
fn fhir_resources_takes_what_is_written() {
    let Some(python) = python() else { return };
    let mut all: Vec<Entry> = Vec::new();
    for tool in ["get_chart", "search_charts", "update_chart", "create_chart", "delete_chart", "transcribe"] {
        for outcome in ["ok", "denied", "timeout"] {
            for emergency in ["null", "true"] {
                let changes = format!(r#"{{"tool_name":"{tool}","outcome":"{outcome}","emergency":{emergency}}}"#);
                all.push(call(all.len() as u64, &changes));
            }
        }
    }
    all.push(call(100, r#"{"patient_ids":["P-1","P-2"]}"#));
    all.push(call(
        101,
        r#"{"patient_ids":null,"agent_id":null,"model":null,"tool_server":null,"session_metadata":null,"purpose":null,
            "arguments":null,"result_summary":null,"call_id":null,"duration_ms":null,"call_trigger":null}"#,
    ));
    let kinds = ["break_glass_opened", "break_glass_closed", "break_glass_reviewed"];
    all.extend(kinds.iter().enumerate().map(|(i, kind)| own(102 + i as u64, kind, OPENED)));
    for (i, id) in nasty().iter().enumerate() {
        all.push(call_named(110 + i as u64, ["get_", "search_", "update_"][i % 3], id));
    }
    let (first, second) = begun_and_finished(200, 202);
    let (open, _) = begun_and_finished(201, 203);
    all.extend([first, open, second]);

    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/validate_fhir.py");
    for (release, name) in [(FhirRelease::R4, "r4b"), (FhirRelease::R5, "r5")] {
        let ndjson = dir.path().join("events.ndjson");
        let bundle = dir.path().join("bundle.json");
        std::fs::write(&ndjson, write(&all, release, FhirForm::Ndjson)).unwrap();
        std::fs::write(&bundle, write(&all, release, FhirForm::Bundle)).unwrap();
        let out = Command::new(&python).arg(&script).arg(name).arg(&ndjson).arg(&bundle).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{said}");
        say(said.trim());
    }
}

fn write(entries: &[Entry], release: FhirRelease, form: FhirForm) -> String {
    let mut fhir = FhirWriter::new(Vec::new(), release, form, FhirOptions::default());
    for entry in entries {
        fhir.write(entry).unwrap();
    }
    String::from_utf8(fhir.finish().unwrap()).unwrap()
}

/// A Python that has `fhir.resources`, installed if there is none yet.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fhir-venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let has_it = |python: &Path| {
        let import = "import fhir.resources.R4B.auditevent, fhir.resources.auditevent";
        Command::new(python).args(["-c", import]).output().is_ok_and(|o| o.status.success())
    };
    if has_it(&python) {
        return Some(python);
    }
    let run = |what: &str, command: &mut Command| match command.output() {
        Ok(out) if out.status.success() => true,
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            skipped(&format!("{what} failed: {}", said.lines().last().unwrap_or_default()));
            false
        }
        Err(e) => {
            skipped(&format!("{what} failed: {e}"));
            false
        }
    };
    let made = run("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fhir.resources==8.*"];
    if !made || !run("pip install fhir.resources", Command::new(&python).args(install)) {
        return None;
    }
    if !has_it(&python) {
        skipped("fhir.resources does not import");
        return None;
    }
    Some(python)
}

fn skipped(why: &str) {
    assert!(std::env::var_os("ATTESTLOG_REQUIRE_FHIR").is_none(), "required, but {why}");
    say(&format!("SKIPPED: FHIR resources were not validated: {why}"));
}

/// Writes directly to standard error, which the test runner does not capture.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n{text}");
}

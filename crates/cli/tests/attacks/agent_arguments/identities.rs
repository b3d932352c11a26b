//! Names that an agent chooses so that its calls are found under another name, or not at all.

use crate::store_common::open_grant;
use attestlog::Justification;
use attestlog::emergency::Misuse;
use attestlog::host::ManualClock;
use attestlog::json::Json;
use attestlog::redact::{Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, ErrorKind, Facet, Options, PolicySet, Query, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const YEARS: Duration = Duration::from_secs(9 * 366 * 86_400);

fn log(preset: Preset) -> (AuditLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(preset);
    (Options::new().clock(clock.clone()).policies(policies).background(false).in_memory().unwrap(), clock)
}

fn calls_of(log: &AuditLog, patient: &str) -> u64 {
    log.count(&Query::new().patient(patient)).unwrap()
}

/// The agent asks for a chart under `"P-1 "`, under `P-1` with a zero-width space, under `patientId`, or with the id in an
/// object. The tool server trims it and finds the chart; in the log it was another patient, or none.
#[test]
fn a_patient_with_blanks_or_under_another_member_is_the_same_patient() {
    for preset in Preset::ALL {
        let (log, _) = log(preset);
        let arguments = [
            r#"{"patient_id":"P-1 "}"#,
            r#"{"patient_id":"P-1\u200b"}"#,
            r#"{"patientId":"P-1"}"#,
            r#"{"PATIENT_ID":"P-1"}"#,
            r#"{"patient_id":{"id":"P-1"}}"#,
        ];
        for arguments in arguments {
            let arguments = Json::parse(arguments.as_bytes()).unwrap().value;
            log.record(ToolCall::new("c", "u", "read_chart").arguments(arguments)).unwrap();
        }
        assert_eq!(calls_of(&log, "P-1"), arguments.len() as u64, "{preset:?}");
        assert_eq!(calls_of(&log, "\u{feff}P-1"), arguments.len() as u64);
        // And this is a different patient: the two had the same pseudonym once.
        log.record(ToolCall::new("c", "u", "read_chart").patient("P_1")).unwrap();
        assert_eq!((calls_of(&log, "P_1"), calls_of(&log, "P-1")), (1, arguments.len() as u64), "{preset:?}");
    }
}

/// A user's name is `a`, a character that changes the writing direction, and `b`: in the log it was `ab`, another user, and
/// nothing said so. The same happened with a zero-width space in a patient's id, wherever it is given, and with blanks.
#[test]
fn a_name_that_is_not_written_as_it_came_says_so() {
    for preset in [Preset::Default, Preset::Hipaa] {
        let (log, _) = log(preset);
        let line = |call: ToolCall| log.entry(log.record(call).unwrap().seq).unwrap().line().to_string();
        let said = line(ToolCall::new("c", "a\u{202e}b", "t").patient("P\u{200b}1"));
        assert!(said.contains(r#""restated":["user_id","patient_ids"]"#), "{said}");
        assert!(said.contains(r#""drop":{"U+200B":["patient_ids"],"U+202E":["user_id"]}"#), "{said}");
        assert_eq!((log.count(&Query::new().user("ab")).unwrap(), calls_of(&log, "P1")), (1, 1));
        let arguments = Json::parse(r#"{"patient_id":"P\u200b1"}"#.as_bytes()).unwrap().value;
        let said = line(ToolCall::new("c", "u", "t").arguments(arguments));
        assert!(
            said.contains(r#""restated":["patient_ids"]"#) && said.contains(r#""U+200B":["patient_ids"]"#),
            "{said}"
        );
        let read = ToolCall::from_jsonl(br#"{"tool_name":" t","conversation_id":"c","user_id":"u","model":"m\u2066"}"#);
        let said = line(read.unwrap());
        assert!(
            said.contains(r#""restated":["tool_name","model"]"#) && said.contains(r#""U+2066":["model"]"#),
            "{said}"
        );
        let begun = log.begin(ToolCall::new("c", "a\u{202e}b", "t")).unwrap();
        let end = begun.finish(|call| call.result(true)).unwrap().seq;
        assert!(log.entry(end).unwrap().line().contains(r#""U+202E":["user_id"]"#), "both entries of a call say so");
        let said = line(ToolCall::new("c", "u", "t").patient("P-1"));
        assert!(!said.contains("restated") && !said.contains("U+"), "{said}");
    }
}

/// The agent's user is called `dr_smith` with a Cyrillic letter. In every listing that looks like Dr Smith.
#[test]
fn a_name_that_only_looks_like_another_says_so() {
    let (log, _) = log(Preset::Default);
    log.record(ToolCall::new("c", "dr_smith", "read_chart").patient("P-1")).unwrap();
    let seq = log.record(ToolCall::new("c", "dr_smіth", "read_chart").patient("P-1")).unwrap().seq;
    assert!(log.entry(seq).unwrap().line().contains(r#""look_alike":["user_id"]"#));
    assert_eq!(log.values().look_alikes(Facet::User, "dr_smith").unwrap(), ["dr_smіth"]);
}

/// Dr Smith opens a grant and reviews it herself, with another letter in her name, or in capitals.
#[test]
fn nobody_reviews_their_own_emergency_under_a_name_that_looks_the_same() {
    for preset in [Preset::Default, Preset::Hipaa] {
        let (log, _) = log(preset);
        let grant = open_grant(&log, "dr_smith", "P-7");
        for reviewer in ["dr_smіth", "DR_SMITH", "dr_smith\u{200b}", "ｄｒ_smith", "Dr_Ѕmith", " dr_smith "] {
            let refused = log
                .emergency()
                .review(grant, Justification { actor: reviewer, reason: "justified" }, None)
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Conflict, "{reviewer}");
        }
        log.emergency().review(grant, Justification { actor: "privacy_office", reason: "justified" }, None).unwrap();
    }
}

/// Under a grant for one patient the agent reads a list of all of them: the call named no patient, and counted as covered.
#[test]
fn a_call_without_a_patient_is_not_covered_by_a_grant_for_one() {
    let (log, _) = log(Preset::Default);
    let grant = open_grant(&log, "dr_smith", "P-7");
    log.record(ToolCall::new("c", "dr_smith", "list_patients").emergency(Some(grant))).unwrap();
    log.record(ToolCall::new("c", "dr_smith", "read_chart").patient("P-7").emergency(Some(grant))).unwrap();
    // A call in two steps is judged by what was known at its end.
    let begun = log.begin(ToolCall::new("c", "dr_smith", "find").emergency(Some(grant))).unwrap();
    begun.finish(|call| call.patient("P-7").result(Json::from("found"))).unwrap();
    let _unfinished = log.begin(ToolCall::new("c", "dr_smith", "dump").emergency(Some(grant))).unwrap();
    let states = log.emergency().grants().unwrap();
    let misuse: Vec<_> = states[0].uses.iter().map(|used| used.misuse).collect();
    assert_eq!(misuse, [Some(Misuse::NoPatient), None, None, Some(Misuse::NoPatient)]);
}

/// A hold is placed, then the pseudonym key is rotated. What is recorded about the held patient from then on has another
/// pseudonym, which cannot be compared with the hold's: it was purged.
#[test]
fn a_rotated_pseudonym_key_takes_nothing_out_of_a_hold() {
    let (log, clock) = log(Preset::Hipaa);
    let record = |patient: &str| log.record(ToolCall::new("c", "u", "look").patient(patient)).unwrap();
    record("P-1");
    record("P-2");
    let mut covering = HoldSelector::default();
    covering.patients.insert(" P-1".to_owned());
    log.retention().place_hold("case", covering, Justification { actor: "counsel", reason: "a suit" }).unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    record("P-1\u{200b}");
    clock.advance(YEARS);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "checked" }).unwrap();
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (1, 2));
    assert_eq!(calls_of(&log, "P-1"), 2);
}

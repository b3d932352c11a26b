//! A person is erased while a call about that person is running.

use crate::store_common::clock;
use attestlog::entry::{Source, SourceKind};
use attestlog::json::Json;
use attestlog::redact::{Action, Policy, Preset};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Justification, Options, PolicySet, ToolCall};
use serde_json::json;

const BY: Justification<'static> = Justification { actor: "privacy", reason: "request" };

fn log() -> AuditLog {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build().unwrap();
    policies.results.keep_full = Some(1000);
    Options::new().clock(clock()).background(false).policies(policies).in_memory().unwrap()
}

/// The beginning was erased, and then the end of the same call sealed the same arguments again, under a new key that was not
/// destroyed: `reveal` of the beginning said that nothing brings the value back, and of the end it showed it (R91).
#[test]
fn the_end_of_a_running_call_seals_nothing_anew() {
    let log = log();
    let call = || ToolCall::new("c", "anna", "chart").patient("P-1").arguments(json!({"ssn": "460-89-9847"}));
    let begun = log.begin(call()).unwrap();
    let other = log.begin(ToolCall::new("c", "anna", "chart").patient("P-2").arguments(json!({"ssn": "1"}))).unwrap();
    let erased = log.privacy().erase("P-1", BY).unwrap().seq;
    // The entry says that the call is running.
    let running = log.entry(erased).unwrap().own().unwrap().detail.to_json().get("running").cloned();
    assert_eq!(running, Some(Json::from(vec![Json::from(begun.receipt().seq)])));
    let first = begun.receipt().seq;
    let ended = begun.finish(|call| call.result(json!({"ssn": "460-89-9847", "id": 7}))).unwrap().seq;
    let reveal = |seq: u64, path: &str| log.privacy().reveal(seq, path, BY);
    for (seq, path) in [(first, "arguments.ssn"), (ended, "arguments.ssn"), (ended, "result.ssn")] {
        let refused = reveal(seq, path).unwrap_err().to_string();
        assert!(refused.contains(&format!("was erased by entry {erased}")), "{seq} {path}: {refused}");
    }
    // Neither another person's call nor a later call about this one is part of what was erased.
    let ended = other.finish(|call| call.result(json!({"id": 7}))).unwrap().seq;
    assert_eq!(reveal(ended, "arguments.ssn").unwrap(), Json::from("1"));
    let mut retry = call().retry_of(first);
    retry.circumstances.sources.push(Source::new(SourceKind::Proxy));
    let later = log.record(retry).unwrap().seq;
    assert_eq!(reveal(later, "arguments.ssn").unwrap(), Json::from("460-89-9847"));
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
    log.privacy().erase("P-1", BY).unwrap();
    assert!(reveal(later, "arguments.ssn").is_err() && log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// A patient whom only the result names was erased while the call was running: the beginning had nothing to destroy, and the
/// end sealed the result about a person who had just been erased.
#[test]
fn nor_does_the_end_of_a_call_whose_beginning_did_not_name_the_person() {
    let log = log();
    log.record(ToolCall::new("c", "anna", "chart").patient("P-1").arguments(json!({"ssn": "1"}))).unwrap();
    let begun = log.begin(ToolCall::new("c", "anna", "search")).unwrap();
    let erased = log.privacy().erase("P-1", BY).unwrap().seq;
    let ended = begun.finish(|call| call.result(json!({"patient_id": "P-1", "ssn": "2"})).patient("P-1")).unwrap().seq;
    let refused = log.privacy().reveal(ended, "result.ssn", BY).unwrap_err().to_string();
    assert!(refused.contains(&format!("was erased by entry {erased}")), "{refused}");
}

/// Details of a call need not name its patient. What they sealed of the patient could be opened after the erasure, whether it was
/// told before or after (R91, R95).
#[test]
fn what_details_seal_of_a_person_is_erased_with_the_person() {
    let log = log();
    let call = || ToolCall::new("c", "anna", "chart");
    let told = |of| {
        let source = Source::new(SourceKind::Telemetry);
        call().source(source).detail_of(of).arguments(json!({"ssn": "460-89-9847"}))
    };
    let sealed = log.record(call().patient("P-1").arguments(json!({"ssn": "1"}))).unwrap().seq;
    let plain = log.record(call().patient("P-1")).unwrap().seq;
    let other = log.record(call().patient("P-2").arguments(json!({"ssn": "2"}))).unwrap().seq;
    let reveal = |seq: u64| log.privacy().reveal(seq, "arguments.ssn", BY);
    let before = [sealed, plain, other].map(|of| log.record(told(of)).unwrap().seq);
    assert!(before.into_iter().all(|seq| reveal(seq).is_ok()));
    let erased = log.privacy().erase("P-1", BY).unwrap().seq;
    let after = [sealed, plain, other].map(|of| log.record(told(of)).unwrap().seq);
    for seq in [before[0], before[1], after[0], after[1]] {
        let refused = reveal(seq).unwrap_err().to_string();
        assert!(refused.contains(&format!("was erased by entry {erased}")), "{seq}: {refused}");
    }
    // Another patient's stay.
    assert!(reveal(before[2]).is_ok() && reveal(after[2]).is_ok());
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

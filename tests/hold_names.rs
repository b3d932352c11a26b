//! A hold names people by pseudonym, also where the policy keeps their names in the calls: it stays when the calls are
//! gone. It covers them all the same.

use attestlog::redact::{Policy, Preset, is_pseudonym};
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, ManualClock, Options, PolicySet, SeededRandom, ToolCall, VerifyOptions};
use std::sync::Arc;
use std::time::Duration;

const YEARS: Duration = Duration::from_secs(9 * 366 * 86_400);

fn options() -> (Options, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2020-01-01T08:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).random(Arc::new(SeededRandom::new(3))).background(false), clock)
}

fn record(log: &AuditLog, user: &str, patient: &str) {
    log.record(ToolCall::new("c", user, "look").patient(patient)).unwrap();
}

fn of_patient(name: &str) -> HoldSelector {
    let mut covering = HoldSelector::default();
    covering.patients.insert(name.to_owned());
    covering
}

fn of_user(name: &str) -> HoldSelector {
    let mut covering = HoldSelector::default();
    covering.users.insert(name.to_owned());
    covering
}

#[test]
fn a_hold_has_no_clear_name_and_covers_clear_names() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    for patient in ["Jane Roe 4711", "John Doe 4712"] {
        record(&log, "dr_jones_77", patient);
        record(&log, "dr_smith_78", patient);
    }
    log.rotate_pseudonym_key().unwrap();
    let by_patient = log.place_hold("Roe v. us", "Jane Roe 4711 sues", "counsel", of_patient("Jane Roe 4711")).unwrap();
    log.rotate_pseudonym_key().unwrap();
    record(&log, "dr_smith_78", "Jane Roe 4711");
    let line = log.entry(by_patient.seq).unwrap().line();
    assert!(!line.contains("4711") && line.contains("ps_"), "{line}");
    assert!(log.holds()[0].1.selector.patients.iter().all(|p| is_pseudonym(p)));
    clock.advance(YEARS);
    log.confirm_clock("ops", "checked").unwrap();
    let done = log.purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (2, 3));
    let by_user = log.place_hold("case 2", "dr_jones_77 was seen", "counsel", of_user("dr_jones_77")).unwrap();
    assert!(!log.entry(by_user.seq).unwrap().line().contains("dr_jones"));
    log.release_hold(by_patient.seq, "settled", "counsel").unwrap();
    let done = log.purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (2, 1));
    log.release_hold(by_user.seq, "settled", "counsel").unwrap();
    assert_eq!(log.purge("ops").unwrap().purged, 1);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// Once a hold placed under a policy with pseudonyms looked for pseudonyms only, and what had been recorded in clear under
/// the policy before it was purged.
#[test]
fn a_hold_covers_what_was_recorded_under_another_policy() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    record(&log, "u", "Jane Roe 4711");
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::preset(Preset::Hipaa);
    log.set_policy(hipaa).unwrap();
    record(&log, "u", "Jane Roe 4711");
    log.place_hold("case", "a suit", "counsel", of_patient("Jane Roe 4711")).unwrap();
    clock.advance(YEARS);
    log.confirm_clock("ops", "checked").unwrap();
    let done = log.purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (0, 2));
}

#[test]
fn without_the_keys_nobody_who_may_be_meant_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (options, clock) = options();
    let log = options.clone().create(&path).unwrap();
    record(&log, "u", "Jane Roe 4711");
    record(&log, "u", "John Doe 4712");
    log.record(ToolCall::new("c", "u", "look")).unwrap();
    log.place_hold("case", "a suit", "counsel", of_patient("Jane Roe 4711")).unwrap();
    log.close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    clock.advance(YEARS);
    let log = options.unsigned(true).open(&path).unwrap();
    log.confirm_clock("ops", "checked").unwrap();
    let plan = log.plan_purge().unwrap();
    assert_eq!((plan.expired.len(), plan.kept_by_hold), (1, 2), "who is meant cannot be told, so both stay");
}

#[test]
fn without_a_key_a_hold_names_whom_it_is_told() {
    let (options, clock) = options();
    let log = options.without_keys().in_memory().unwrap();
    record(&log, "u", "P-1");
    record(&log, "u", "P-2");
    log.place_hold("case", "a suit", "counsel", of_patient("P-1")).unwrap();
    clock.advance(YEARS);
    log.confirm_clock("ops", "checked").unwrap();
    let done = log.purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (1, 1));
}

/// Once a policy with pseudonyms made what had been recorded in clear before it unfindable by the same name, and without the
/// key file a search for a hidden name found nothing, with success.
#[test]
fn a_search_finds_what_stands_in_clear_and_never_pretends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (options, _) = options();
    let log = options.clone().create(&path).unwrap();
    record(&log, "u", "Jane Roe 4711");
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::preset(Preset::Hipaa);
    log.set_policy(hipaa).unwrap();
    record(&log, "u", "Jane Roe 4711");
    let wanted = attestlog::Query::new().patient("Jane Roe 4711");
    assert_eq!(log.count(&wanted).unwrap(), 2);
    log.close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    let log = options.open(&path).unwrap();
    assert_eq!(log.count(&wanted).unwrap_err().kind(), attestlog::ErrorKind::Key);
    assert_eq!(log.count(&attestlog::Query::new().user("u")).unwrap(), 2);
}

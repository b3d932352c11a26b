//! A hold names people by pseudonym, also where the policy keeps their names in the calls: it stays when the calls are
//! gone. It covers them all the same.

use attestlog::alert::{AlertEngine, Part, Rule, Rules};
use attestlog::redact::{Policy, Preset, is_pseudonym};
use attestlog::retention::HoldSelector;
use attestlog::{AuditLog, Kind, ManualClock, Options, PolicySet, Query, SeededRandom, ToolCall, VerifyOptions};
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
    assert!(log.holds().unwrap()[0].1.selector.patients.iter().all(|p| is_pseudonym(p)));
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

fn opened(log: &AuditLog, user: &str, patient: &str) -> u64 {
    let hour = Duration::from_secs(3600);
    log.open_emergency(user, patient, "unconscious", "immediate", hour, user).unwrap().seq
}

fn kinds(log: &AuditLog, kind: Kind) -> u64 {
    log.count(&Query::new().kind(kind)).unwrap()
}

/// Once a purge left the calls about a held patient and took the emergency grants and the alerts about them.
#[test]
fn grants_and_alerts_about_whom_a_hold_names_are_held_with_the_calls() {
    for preset in [Preset::Default, Preset::Hipaa] {
        for by_user in [false, true] {
            let (options, clock) = options();
            let mut policies = PolicySet::default();
            policies.redaction = Policy::preset(preset);
            let log = options.policies(policies).in_memory().unwrap();
            for (user, patient) in [("dr_jones", "Jane Roe 4711"), ("dr_smith", "John Doe 4712")] {
                let grant = opened(&log, user, patient);
                log.record(ToolCall::new("c", user, "look").patient(patient).emergency(Some(grant))).unwrap();
                log.close_emergency(grant, user).unwrap();
                log.review_emergency(grant, "office", "justified", None).unwrap();
            }
            // It names the user; whose chart it was is said by the entries only.
            let rule = Rule::new("used").key([Part::USER]).window(Duration::from_secs(86_400)).emergency(true).count(1);
            AlertEngine::with_rules(&log, Rules::none().with(rule).unwrap()).unwrap().run_once().unwrap();
            let alerts = log.alerts().unwrap();
            assert_eq!(alerts.len(), 2, "one that a grant was used, for each: {alerts:?}");
            alerts.iter().for_each(|alert| _ = log.ack_alert(alert.alert.seq, "office", "seen").unwrap());
            let covering = if by_user { of_user("dr_jones") } else { of_patient(" Jane Roe 4711\u{200b}") };
            let hold = log.place_hold("case", "a suit", "counsel", covering).unwrap().seq;
            clock.advance(YEARS);
            log.confirm_clock("ops", "checked").unwrap();
            let done = log.purge("ops").unwrap();
            assert_eq!((done.purged, done.kept_by_hold), (5, 5), "{preset:?}: call, grant, end, alert, answer");
            for kind in [Kind::ToolCall, Kind::BreakGlassOpened, Kind::BreakGlassClosed, Kind::Alert, Kind::AlertAck] {
                assert_eq!(kinds(&log, kind), 1, "{kind}");
            }
            assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
            log.release_hold(hold, "settled", "counsel").unwrap();
            assert_eq!(log.purge("ops").unwrap().purged, 5);
        }
    }
}

/// Once a grant that nobody had ever reviewed was purged with the calls under it, and with it the only trace that somebody
/// still had to look at it.
#[test]
fn a_grant_that_nobody_reviewed_never_goes() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    let (reviewed, unreviewed, used) = (opened(&log, "a", "P-1"), opened(&log, "b", "P-2"), opened(&log, "c", "P-3"));
    let call = |user: &str, patient: &str, grant| {
        log.record(ToolCall::new("c", user, "look").patient(patient).emergency(Some(grant))).unwrap();
    };
    call("b", "P-2", unreviewed);
    for grant in [reviewed, used] {
        log.review_emergency(grant, "office", "justified", None).unwrap();
    }
    clock.advance(YEARS);
    log.confirm_clock("ops", "checked").unwrap();
    // What is done under a grant after its review wants another.
    call("c", "P-3", used);
    let plan = log.plan_purge().unwrap();
    assert!(plan.expired.contains(reviewed) && !plan.expired.contains(unreviewed) && !plan.expired.contains(used));
    log.purge("ops").unwrap();
    let left: Vec<u64> = log.emergencies().unwrap().iter().map(|state| state.grant.seq).collect();
    assert_eq!(left, [unreviewed, used]);
    assert!(log.emergencies().unwrap().iter().all(|state| state.needs_review() && state.end.is_some()));
    log.review_emergency(unreviewed, "office", "justified", None).unwrap();
    let done = log.purge("ops").unwrap();
    assert_eq!(done.purged, 2, "the grant and its end");
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
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

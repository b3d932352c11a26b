//! A hold names people by pseudonym, even if the policy keeps their names in the calls, because it outlives the calls.
//! It covers the calls all the same.

use crate::store_common::open_grant;
use attestlog::Justification;
use attestlog::alert::{Part, Rule, Rules};
use attestlog::host::{ManualClock, SeededRandom};
use attestlog::query::Statistics;
use attestlog::redact::{Action, IdentityKind, Policy, Preset, is_pseudonym};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Kind, Options, PolicySet, Purged, Query, ToolCall};
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

/// Places a hold; returns its seq.
fn hold(log: &AuditLog, case: &str, covering: HoldSelector, reason: &str) -> u64 {
    log.retention().place_hold(case, covering, Justification { actor: "counsel", reason }).unwrap().seq
}

/// Purges when everything that nothing keeps has expired.
fn purge_after_years(log: &AuditLog, clock: &ManualClock) -> Purged {
    clock.advance(YEARS);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "checked" }).unwrap();
    log.retention().purge("ops").unwrap()
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

/// The story: a hold on a user of whom the log has pseudonyms only was said to keep one entry, and a purge kept four: those recorded
/// under a later pseudonym key may be about the same person, so they are kept, and no query finds them.
#[test]
fn what_a_hold_is_said_to_keep_is_what_a_purge_keeps() {
    let (options, clock) = options();
    let mut policies = PolicySet::default();
    policies.redaction =
        Policy::builder(Preset::Default).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    let log = options.policies(policies).in_memory().unwrap();
    record(&log, "ben", "P-1");
    record(&log, "eve", "P-2");
    let id = hold(&log, "Ben v. us", of_user("ben"), "a lawsuit");
    assert_eq!(log.retention().count_held(id).unwrap(), 1);
    log.keys().rotate_pseudonym_key().unwrap();
    for patient in ["P-1", "P-2", "P-3"] {
        record(&log, "ben", patient);
    }
    let by_number = hold(
        &log,
        "by number",
        {
            let mut of = HoldSelector::default();
            of.seqs.insert_range(2, 2);
            of
        },
        "to keep",
    );
    assert_eq!(log.retention().count_held(by_number).unwrap(), 1);
    let said = log.retention().count_held(id).unwrap();
    purge_after_years(&log, &clock);
    let kept = log.count(&Query::new().kind(Kind::ToolCall)).unwrap();
    assert_eq!((said, kept), (4, 4));
    assert_eq!(log.retention().count_held(id).unwrap(), 4);
    assert_eq!(log.retention().count_held(1).unwrap_err().kind(), attestlog::ErrorKind::NoSuchEntry);
}

#[test]
fn a_hold_has_no_clear_name_and_covers_clear_names() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    for patient in ["Jane Roe 4711", "John Doe 4712"] {
        record(&log, "dr_jones_77", patient);
        record(&log, "dr_smith_78", patient);
    }
    log.keys().rotate_pseudonym_key().unwrap();
    let by_patient = hold(&log, "Roe v. us", of_patient("Jane Roe 4711"), "Jane Roe 4711 sues");
    log.keys().rotate_pseudonym_key().unwrap();
    record(&log, "dr_smith_78", "Jane Roe 4711");
    let line = log.entry(by_patient).unwrap().line();
    assert!(!line.contains("4711") && line.contains("ps_"), "{line}");
    assert!(log.retention().holds().unwrap()[0].1.selector.patients.iter().all(|p| is_pseudonym(p)));
    let done = purge_after_years(&log, &clock);
    assert_eq!((done.purged, done.kept_by_hold), (2, 3));
    let by_user = hold(&log, "case 2", of_user("dr_jones_77"), "dr_jones_77 was seen");
    assert!(!log.entry(by_user).unwrap().line().contains("dr_jones"));
    log.retention().release_hold(by_patient, Justification { actor: "counsel", reason: "settled" }).unwrap();
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (2, 1));
    log.retention().release_hold(by_user, Justification { actor: "counsel", reason: "settled" }).unwrap();
    assert_eq!(log.retention().purge("ops").unwrap().purged, 1);
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// After a rotation of the pseudonym keys a hold kept whatever was recorded under the new key, whoever it was about, and a
/// hold that named a pseudonym kept whatever was recorded under any other key. Statistics counted each person twice.
#[test]
fn a_rotation_makes_no_hold_wider_and_no_person_two() {
    [true, false].into_iter().for_each(rotated_under_hold);
}

fn rotated_under_hold(by_name_only: bool) {
    let (options, clock) = options();
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::builder(Preset::Hipaa).facet(IdentityKind::User, Action::Pseudonymise).build().unwrap();
    let log = options.policies(hipaa).in_memory().unwrap();
    let both =
        || ["Jane Roe 4711", "John Doe 4712"].into_iter().for_each(|patient| record(&log, "dr_jones_77", patient));
    both();
    let first = log.query(&Query::new().patient("Jane Roe 4711")).unwrap().next().unwrap().unwrap();
    let pseudonym = first.call().unwrap().patient_ids[0].clone();
    let case = Justification { actor: "counsel", reason: "a suit" };
    let by_name = log.retention().place_hold("case 1", of_patient("Jane Roe 4711"), case).unwrap().seq;
    log.keys().rotate_pseudonym_key().unwrap();
    both();
    let by_pseudonym = log.retention().place_hold("case 2", of_patient(&pseudonym), case).unwrap().seq;
    log.keys().rotate_pseudonym_key().unwrap();
    both();
    let of = log.statistics(&Statistics::new()).unwrap().remove(0);
    assert_eq!((of.total_calls, of.unique_users, of.users_may_repeat), (6, 1, false));
    clock.advance(YEARS);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "checked" }).unwrap();
    log.retention().release_hold(if by_name_only { by_pseudonym } else { by_name }, case).unwrap();
    let done = log.retention().purge("ops").unwrap();
    assert_eq!((done.purged, done.kept_by_hold), (3, 3));
    assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
}

/// A hold placed under a policy with pseudonyms once looked for pseudonyms only, and entries recorded in clear under
/// the previous policy were purged.
#[test]
fn a_hold_covers_what_was_recorded_under_another_policy() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    record(&log, "u", "Jane Roe 4711");
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::preset(Preset::Hipaa);
    log.retention().set_policies(hipaa).unwrap();
    record(&log, "u", "Jane Roe 4711");
    hold(&log, "case", of_patient("Jane Roe 4711"), "a suit");
    let done = purge_after_years(&log, &clock);
    assert_eq!((done.purged, done.kept_by_hold), (0, 2));
}

fn kinds(log: &AuditLog, kind: Kind) -> u64 {
    log.count(&Query::new().kind(kind)).unwrap()
}

/// A purge once left the calls about a held patient but took the emergency grants and the alerts about them.
#[test]
fn grants_and_alerts_about_whom_a_hold_names_are_held_with_the_calls() {
    for preset in [Preset::Default, Preset::Hipaa] {
        for by_user in [false, true] {
            let (options, clock) = options();
            let mut policies = PolicySet::default();
            policies.redaction = Policy::preset(preset);
            let log = options.policies(policies).in_memory().unwrap();
            for (user, patient) in [("dr_jones", "Jane Roe 4711"), ("dr_smith", "John Doe 4712")] {
                let grant = open_grant(&log, user, patient);
                log.record(ToolCall::new("c", user, "look").patient(patient).emergency(Some(grant))).unwrap();
                log.emergency().close(grant, user).unwrap();
                log.emergency().review(grant, Justification { actor: "office", reason: "justified" }, None).unwrap();
            }
            // The alert names the user; only its entries say whose chart it was.
            let rule = Rule::new("used").key([Part::USER]).window(Duration::from_secs(86_400)).emergency(true).count(1);
            log.alerts().engine_with(Rules::none().with(rule).unwrap()).unwrap().run_once().unwrap();
            let alerts = log.alerts().list().unwrap();
            assert_eq!(alerts.len(), 2, "one that a grant was used, for each: {alerts:?}");
            alerts.iter().for_each(|alert| {
                _ = log.alerts().ack(alert.alert.seq, Justification { actor: "office", reason: "seen" }).unwrap()
            });
            let covering = if by_user { of_user("dr_jones") } else { of_patient(" Jane Roe 4711\u{200b}") };
            let hold = hold(&log, "case", covering, "a suit");
            let done = purge_after_years(&log, &clock);
            assert_eq!((done.purged, done.kept_by_hold), (5, 5), "{preset:?}: call, grant, end, alert, answer");
            for kind in [Kind::ToolCall, Kind::BreakGlassOpened, Kind::BreakGlassClosed, Kind::Alert, Kind::AlertAck] {
                assert_eq!(kinds(&log, kind), 1, "{kind}");
            }
            assert!(log.verify(&VerifyOptions::new()).unwrap().ok());
            log.retention().release_hold(hold, Justification { actor: "counsel", reason: "settled" }).unwrap();
            assert_eq!(log.retention().purge("ops").unwrap().purged, 5);
        }
    }
}

/// A grant that nobody had ever reviewed was once purged with the calls under it, and with it the only trace that
/// somebody still had to review it.
#[test]
fn a_grant_that_nobody_reviewed_never_goes() {
    let (options, clock) = options();
    let log = options.in_memory().unwrap();
    let (reviewed, unreviewed, used) =
        (open_grant(&log, "a", "P-1"), open_grant(&log, "b", "P-2"), open_grant(&log, "c", "P-3"));
    let call = |user: &str, patient: &str, grant| {
        log.record(ToolCall::new("c", user, "look").patient(patient).emergency(Some(grant))).unwrap();
    };
    call("b", "P-2", unreviewed);
    for grant in [reviewed, used] {
        log.emergency().review(grant, Justification { actor: "office", reason: "justified" }, None).unwrap();
    }
    clock.advance(YEARS);
    log.retention().confirm_clock(Justification { actor: "ops", reason: "checked" }).unwrap();
    // A call under a grant after its review requires another review.
    call("c", "P-3", used);
    let plan = log.retention().plan().unwrap();
    assert!(plan.expired.contains(reviewed) && !plan.expired.contains(unreviewed) && !plan.expired.contains(used));
    log.retention().purge("ops").unwrap();
    let left: Vec<u64> = log.emergency().grants().unwrap().iter().map(|state| state.grant.seq).collect();
    assert_eq!(left, [unreviewed, used]);
    assert!(log.emergency().grants().unwrap().iter().all(|state| state.needs_review() && state.end.is_some()));
    log.emergency().review(unreviewed, Justification { actor: "office", reason: "justified" }, None).unwrap();
    let done = log.retention().purge("ops").unwrap();
    assert_eq!(done.purged, 3, "the grant, its end and the call under it");
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
    hold(&log, "case", of_patient("Jane Roe 4711"), "a suit");
    log.close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    clock.advance(YEARS);
    let log = options.unsigned(true).open(&path).unwrap();
    log.retention().confirm_clock(Justification { actor: "ops", reason: "checked" }).unwrap();
    let plan = log.retention().plan().unwrap();
    assert_eq!((plan.expired.len(), plan.kept_by_hold), (1, 2), "who is meant cannot be told, so both stay");
}

#[test]
fn without_a_key_a_hold_names_whom_it_is_told() {
    let (options, clock) = options();
    let log = options.without_keys().in_memory().unwrap();
    record(&log, "u", "P-1");
    record(&log, "u", "P-2");
    hold(&log, "case", of_patient("P-1"), "a suit");
    let done = purge_after_years(&log, &clock);
    assert_eq!((done.purged, done.kept_by_hold), (1, 1));
}

/// A policy with pseudonyms once made entries recorded in clear before it impossible to find by the same name, and
/// without the key file a search for a hidden name found nothing and reported success.
#[test]
fn a_search_finds_what_stands_in_clear_and_never_pretends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (options, _) = options();
    let log = options.clone().create(&path).unwrap();
    record(&log, "u", "Jane Roe 4711");
    let mut hipaa = PolicySet::default();
    hipaa.redaction = Policy::preset(Preset::Hipaa);
    log.retention().set_policies(hipaa).unwrap();
    record(&log, "u", "Jane Roe 4711");
    let wanted = attestlog::Query::new().patient("Jane Roe 4711");
    assert_eq!(log.count(&wanted).unwrap(), 2);
    log.close().unwrap();
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    let log = options.open(&path).unwrap();
    assert_eq!(log.count(&wanted).unwrap_err().kind(), attestlog::ErrorKind::Key);
    assert_eq!(log.count(&attestlog::Query::new().user("u")).unwrap(), 2);
}

//! Promise: rules count people, however the log writes their names, and the log does not show whom a rule names.

use attestlog::alert::{Part, Rule, Rules};
use attestlog::emergency::EmergencyAccess;
use attestlog::host::ManualClock;
use attestlog::redact::{Action, IdentityKind, Policy, Preset};
use attestlog::{AuditLog, Facet, Justification, Kind, Options, PolicySet, Query, ToolCall};
use std::sync::Arc;
use std::time::Duration;

fn policies(rules: impl IntoIterator<Item = Rule>) -> PolicySet {
    let mut policies = PolicySet::default();
    let hidden = Policy::builder(Preset::Hipaa).facet(IdentityKind::User, Action::Pseudonymise);
    policies.redaction = hidden.build().unwrap();
    policies.alerts = rules.into_iter().try_fold(Rules::none(), Rules::with).unwrap();
    policies
}

fn log(rules: impl IntoIterator<Item = Rule>) -> AuditLog {
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    Options::new().clock(clock).policies(policies(rules)).in_memory().unwrap()
}

fn call(user: &str, patient: &str) -> ToolCall {
    ToolCall::new("visit", user, "read_chart").patient(patient)
}

/// What a new engine, as of the next process, or the same one has raised.
fn raised(log: &AuditLog) -> Vec<String> {
    log.alerts().engine().unwrap().run_once().unwrap();
    log.alerts().list().unwrap().into_iter().map(|state| state.alert.rule).collect()
}

fn rotate(log: &AuditLog) {
    log.keys().rotate_pseudonym_key().unwrap();
}

fn same_patient(n: u32) -> Rule {
    Rule::new("same-patient").key([Part::USER, Part::PATIENT]).count(n)
}

fn many_patients(n: u32) -> Rule {
    Rule::new("many-patients").distinct(Facet::Patient, n)
}

/// Nine calls of a user about a patient, a rotation of the pseudonym key, and nine more raised nothing, where ten calls do:
/// whoever may rotate stayed below every threshold.
#[test]
fn a_rotation_does_not_make_somebody_another_person() {
    // An engine that goes on, one that starts in between, and one that starts at the end.
    for runs in [&[2, 3, 4][..], &[2, 4], &[4]] {
        let log = log([same_patient(4)]);
        let mut engine = log.alerts().engine().unwrap();
        for n in 1..=4 {
            log.record(call("anna", "P-1")).unwrap();
            log.record(call("bert", &format!("P-{n}"))).unwrap();
            rotate(&log);
            if runs.contains(&n) {
                engine.run_once().unwrap();
            }
            if runs.len() == 2 {
                engine = log.alerts().engine().unwrap();
            }
        }
        let rules: Vec<_> = log.alerts().list().unwrap().into_iter().map(|state| state.alert.rule).collect();
        assert_eq!(rules, ["same-patient"], "{runs:?}");
    }
}

/// After a rotation, a patient seen before counted as a further one, and every access as a first one.
#[test]
fn a_rotation_does_not_make_one_patient_two() {
    let first = Rules::optional("first-access").unwrap();
    let log = log([many_patients(3), first]);
    for _ in 0..3 {
        log.record(call("anna", "P-1")).unwrap();
        log.record(call("anna", "P-2")).unwrap();
        assert_eq!(raised(&log), ["first-access"; 2]);
        rotate(&log);
    }
    let begun = log.begin(call("anna", "P-1")).unwrap();
    rotate(&log);
    begun.finish(|call| call.result(true)).unwrap();
    assert_eq!(raised(&log), ["first-access"; 2]);
    log.record(call("anna", "P-3")).unwrap();
    assert_eq!(raised(&log).len(), 4);
}

/// A rule named a user, whom every entry names by a pseudonym, in clear: in the policy's entry, in `strings` of the file, in
/// the evidence for auditors. Now it names pseudonyms, and matches under every key.
#[test]
fn the_policy_does_not_show_whom_a_rule_names() {
    let watch = || {
        let rule =
            Rule::new("watch").summary("watch anna.smith closely").when(Facet::User, "anna.smith").key([Part::USER]);
        rule.except(Facet::Patient, "MRN-4711").window(Duration::from_secs(1)).count(1)
    };
    let made = log([watch()]);
    let set = log([]);
    set.retention().set_policies(policies([watch()])).unwrap();
    for log in [&made, &set] {
        for entry in log.query(&Query::new().kind(Kind::Policy)).unwrap() {
            let line = entry.unwrap().line();
            assert!(!line.contains("anna") && !line.contains("4711"), "{line}");
        }
        let names = log.retention().policies().unwrap().alerts;
        log.retention().set_policies(log.retention().policies().unwrap()).unwrap();
        assert_eq!(log.retention().policies().unwrap().alerts, names, "what is written is not written otherwise");
        rotate(log);
        for (user, patient) in [("bert", "P-1"), ("anna.smith", "MRN-4711"), ("anna.smith", "P-1")] {
            log.record(call(user, patient)).unwrap();
        }
        assert_eq!(raised(log), ["watch"]);
    }
}

/// A grant that was opened before a rotation did not cover its own user's calls after it: a critical alert, and a report that
/// says so.
#[test]
fn a_grant_covers_its_user_s_calls_after_a_rotation() {
    let log = log(Rules::built_in().iter().cloned());
    let access = EmergencyAccess { user: "dr_z", patient: "P-1", urgency: "now", ttl: Duration::from_secs(3600) };
    let grant = log.emergency().open(access, Justification { actor: "dr_z", reason: "unconscious" }).unwrap().seq;
    rotate(&log);
    log.record(call("dr_z", "P-1").emergency(Some(grant))).unwrap();
    assert_eq!(raised(&log), ["break-glass-used"]);
    log.record(call("dr_y", "P-1").emergency(Some(grant))).unwrap();
    let misused = raised(&log).iter().filter(|rule| *rule == "break-glass-misused").count();
    let grants = log.emergency().grants().unwrap();
    let uses: Vec<bool> = grants[0].uses.iter().map(|of| of.misuse.is_some()).collect();
    assert_eq!((misused, uses), (1, vec![false, true]));
}

/// The same policies, with names of users and patients in clear.
fn in_clear(mut policies: PolicySet) -> PolicySet {
    let clear = Policy::builder(Preset::Default);
    policies.redaction = clear.build().unwrap();
    policies
}

/// Nine calls of a user about a patient, a policy that turns pseudonyms on, and nine more raised nothing where ten do, and a
/// rule for first accesses took the pair for a new one (R92). The same in the other direction.
#[test]
fn a_policy_for_names_does_not_make_somebody_another_person() {
    let rules = || [same_patient(4), Rule::new("first").key([Part::USER, Part::PATIENT]).first_access().count(1)];
    for into in [false, true] {
        // An engine that goes on, and one that starts at the end.
        for goes_on in [true, false] {
            let (hidden, clear) = (policies(rules()), in_clear(policies(rules())));
            let (before, after) = if into { (clear, hidden) } else { (hidden, clear) };
            let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
            let log = Options::new().clock(clock).policies(before).in_memory().unwrap();
            let mut engine = log.alerts().engine().unwrap();
            for n in 1..=4 {
                log.record(call("anna", "P-1")).unwrap();
                log.record(call("bert", &format!("P-{}", n + 1))).unwrap();
                if n == 2 {
                    engine.run_once().unwrap();
                    log.retention().set_policies(after.clone()).unwrap();
                }
                if goes_on {
                    engine.run_once().unwrap();
                }
            }
            let raised = raised(&log);
            let times = |rule: &str| raised.iter().filter(|raised| *raised == rule).count();
            // Anna's patient is new once, and each of bert's four.
            assert_eq!((times("same-patient"), times("first")), (1, 5), "{into} {goes_on}: {raised:?}");
        }
    }
}

/// A grant for benjamin was open when a policy turned pseudonyms on: his next call under it raised a critical alert for
/// misuse, as if he were somebody else, which stays in the chain (R92).
#[test]
fn a_grant_covers_its_user_s_calls_under_another_policy_for_names() {
    for into in [false, true] {
        let misused = || [Rule::new("misused").key([Part::Grant]).misused_grant().count(1)];
        let (hidden, clear) = (policies(misused()), in_clear(policies(misused())));
        let (before, after) = if into { (clear, hidden) } else { (hidden, clear) };
        let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
        let log = Options::new().clock(clock).policies(before).in_memory().unwrap();
        let access = EmergencyAccess { user: "anna", patient: "P-1", urgency: "now", ttl: Duration::from_secs(3600) };
        let grant = log.emergency().open(access, Justification { actor: "anna", reason: "coma" }).unwrap().seq;
        log.retention().set_policies(after.clone()).unwrap();
        log.record(call("anna", "P-1").emergency(Some(grant))).unwrap();
        assert_eq!(raised(&log), Vec::<String>::new(), "{into}");
        let uses = log.emergency().grants().unwrap().remove(0).uses;
        assert_eq!(uses.iter().map(|used| used.misuse).collect::<Vec<_>>(), [None], "{into}");
        // Another one's call is misuse under either policy.
        log.record(call("bert", "P-1").emergency(Some(grant))).unwrap();
        assert_eq!(raised(&log), ["misused"], "{into}");
    }
}

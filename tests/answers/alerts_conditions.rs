//! Promise: what the host says about a call (a VIP's chart, a relative's, somebody on leave, no care relationship) and what
//! the log knows (the usual volume, reviews, a verification) decide whether a rule fires; each fires where it should and
//! stays silent where it should not.

use attestlog::Justification;
use attestlog::alert::{Measure, Part, Rule, Rules};
use attestlog::emergency::EmergencyAccess;
use attestlog::entry::{Source, SourceKind};
use attestlog::host::ManualClock;
use attestlog::json::{Json, Object};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Facet, Options, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn log() -> (AuditLog, Arc<ManualClock>) {
    // A Monday.
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).in_memory().unwrap(), clock)
}

fn call(user: &str, patient: &str) -> ToolCall {
    ToolCall::new("visit", user, "read_chart").patient(patient)
}

fn fired(log: &AuditLog, rules: impl IntoIterator<Item = Rule>) -> Vec<String> {
    let rules = rules.into_iter().try_fold(Rules::none(), Rules::with).unwrap();
    log.alerts().engine_with(rules).unwrap().run_once().unwrap();
    log.alerts().list().unwrap().into_iter().map(|state| state.alert.id).collect()
}

#[test]
fn a_vips_chart() {
    let (log, _) = log();
    let vip = || Rule::new("vip").attribute("patient.vip", true).key([Part::USER, Part::PATIENT]);
    let of = |vip: Json| call("u", "P-1").metadata("patient", Json::from(Object::from_iter([("vip", vip)])));
    for silent in [call("u", "P-1"), of(false.into()), of("yes".into()), of(Json::Null)] {
        log.record(silent).unwrap();
    }
    assert!(fired(&log, [vip()]).is_empty());
    let seq = log.record(of(true.into())).unwrap().seq;
    assert_eq!(fired(&log, [vip()]), [format!("vip:{seq}")]);
}

/// A call of which three sources told counted as three calls, and raised an alert about a user who had made one. What the details
/// add (a patient, a refusal) counts once [R95].
#[test]
fn details_of_a_call_count_for_what_they_add() {
    let (log, _) = log();
    let told = |of| call("u", "P-1").source(Source::new(SourceKind::Telemetry)).detail_of(of);
    let busy = || Rule::new("busy").key([Part::USER]).window(HOUR).count(2);
    let refused = || Rule::new("refused").when(Facet::Outcome, "denied").key([Part::USER]).window(HOUR);
    let patients = || Rule::new("patients").key([Part::USER]).window(HOUR).distinct(Facet::Patient, 2);
    let seen = log.record(call("u", "P-1").result(true)).unwrap().seq;
    for _ in 0..3 {
        log.record(told(seen).model("opus")).unwrap();
    }
    assert!(fired(&log, [busy(), refused(), patients()]).is_empty());
    let denied = log.record(told(seen).outcome(attestlog::Outcome::Denied).contradicts(["outcome"])).unwrap().seq;
    let more = log.record(told(seen).patient("P-2")).unwrap().seq;
    assert_eq!(fired(&log, [busy(), refused(), patients()]), [format!("refused:{denied}"), format!("patients:{more}")]);
}

/// Rules pass over recordings. A session that somebody made up and had imported before its calls were made took these calls, when a
/// hook saw them, out of the rules' sight, as details of a recording [R68].
#[test]
fn what_a_hook_sees_counts_although_a_recording_told_of_it_before() {
    let (log, _) = log();
    let read =
        |kind| ToolCall::new("s", "u", "Read").call_id("1").resource("file", "/etc/shadow").source(Source::new(kind));
    let secrets = || Rule::new("secrets").when(Facet::Resource, "/etc/*").key([Part::USER]);
    log.record(read(SourceKind::Import).backfilled().result(true)).unwrap();
    assert!(fired(&log, [secrets()]).is_empty());
    let seen = log.begin_once(read(SourceKind::Hook)).unwrap().unwrap();
    assert!(log.entry(seen.seq).unwrap().call().unwrap().detail_of().is_some(), "it is a call that is there");
    assert_eq!(fired(&log, [secrets()]), [format!("secrets:{}", seen.seq)]);
}

/// Of several resources of a call, rules saw only the last.
#[test]
fn a_rule_looks_at_every_resource_of_a_call() {
    let (log, _) = log();
    let secrets = || Rule::new("secrets").when(Facet::Resource, "/etc/*").key([Part::USER]);
    let many = || Rule::new("many").key([Part::USER]).window(HOUR).distinct(Facet::Resource, 4);
    log.record(call("u", "P-1").resource("file", "/home/x")).unwrap();
    assert!(fired(&log, [secrets(), many()]).is_empty());
    let both = call("u", "P-1").resource("file", "/etc/shadow").resource("file", "/tmp/y").resource("file", "/tmp/z");
    let seq = log.record(both).unwrap().seq;
    assert_eq!(fired(&log, [secrets(), many()]), [format!("secrets:{seq}"), format!("many:{seq}")]);
    assert!(Rules::none().with(Rule::new("x").key([Part::Facet(Facet::Resource)])).is_err());
}

#[test]
fn a_relative_at_the_same_address() {
    let (log, _) = log();
    let household = || {
        Rule::new("household").attribute("relation", "family").attribute("relation", "same_address").key([Part::USER])
    };
    log.record(call("u", "P-1").metadata("relation", "none")).unwrap();
    log.record(call("u", "P-1").metadata("relation", vec!["colleague"])).unwrap();
    assert!(fired(&log, [household()]).is_empty());
    let seq = log.record(call("u", "P-1").metadata("relation", vec!["colleague", "same_address"])).unwrap().seq;
    assert_eq!(fired(&log, [household()]), [format!("household:{seq}")]);
}

#[test]
fn somebody_who_is_on_leave() {
    let (log, _) = log();
    let leave = || Rule::new("on-leave").attribute("employment", "on_leave").attribute("employment", "terminated");
    log.record(call("u", "P-1").metadata("employment", "active")).unwrap();
    log.record(call("u", "P-1").metadata("on_leave", true)).unwrap();
    assert!(fired(&log, [leave()]).is_empty());
    let seq = log.record(call("u", "P-1").metadata("employment", "terminated")).unwrap().seq;
    assert_eq!(fired(&log, [leave()]), [format!("on-leave:{seq}")]);
}

#[test]
fn nobody_who_cares_for_the_patient() {
    let (log, _) = log();
    let none = || {
        Rule::new("no-care").attribute("care_relationship", false).except(Facet::Purpose, "payment").emergency(false)
    };
    log.record(call("u", "P-1").metadata("care_relationship", true)).unwrap();
    log.record(call("u", "P-1").metadata("care_relationship", false).purpose("payment")).unwrap();
    log.record(call("u", "P-1").metadata("care_relationship", false).emergency(None)).unwrap();
    assert!(fired(&log, [none()]).is_empty());
    let seq = log.record(call("u", "P-1").metadata("care_relationship", false)).unwrap().seq;
    assert_eq!(fired(&log, [none()]), [format!("no-care:{seq}")]);
}

#[test]
fn more_than_a_user_usually_does() {
    let (log, clock) = log();
    let volume =
        || Rule::new("volume").window(DAY).measure(Measure::Baseline { multiple: 3.0, periods: 5, at_least: 20 });
    for _ in 0..5 {
        log.record_batch((0..10).map(|_| call("steady", "P-1"))).unwrap();
        clock.advance(DAY);
    }
    // Three times as much is not more than three times as much.
    log.record_batch((0..30).map(|_| call("steady", "P-1"))).unwrap();
    assert!(fired(&log, [volume()]).is_empty());
    let seq = log.record(call("steady", "P-1")).unwrap().seq;
    assert_eq!(fired(&log, [volume()]), [format!("volume:{seq}")]);
}

#[test]
fn an_emergency_that_nobody_reviews() {
    let (log, clock) = log();
    let unreviewed = || Rule::new("unreviewed").window(24 * HOUR).measure(Measure::Unreviewed);
    let reviewed = log
        .emergency()
        .open(
            EmergencyAccess { user: "dr", patient: "P-1", urgency: "now", ttl: HOUR },
            Justification { actor: "dr", reason: "unconscious" },
        )
        .unwrap()
        .seq;
    let forgotten = log
        .emergency()
        .open(
            EmergencyAccess { user: "dr", patient: "P-2", urgency: "now", ttl: HOUR },
            Justification { actor: "dr", reason: "unconscious" },
        )
        .unwrap()
        .seq;
    log.emergency().review(reviewed, Justification { actor: "office", reason: "justified" }, None).unwrap();
    clock.advance(24 * HOUR - Duration::from_secs(1));
    assert!(fired(&log, [unreviewed()]).is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(fired(&log, [unreviewed()]), [format!("unreviewed:{forgotten}")]);
}

#[test]
fn a_verification_that_finds_nothing() {
    let (log, _) = log();
    log.record(call("u", "P-1")).unwrap();
    let mut engine = log.alerts().engine().unwrap();
    assert!(engine.verify_once(&VerifyOptions::new()).unwrap().ok());
    assert!(log.alerts().list().unwrap().is_empty());
}

#[test]
fn an_engine_that_finishes_has_looked_at_everything_and_waits_for_nobody() {
    use attestlog::alert::{Alert, Callback};
    let log = Options::new().in_memory().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let rules = Rules::none().with(Rule::new("every")).unwrap();
    let quick = Callback::new("quick", move |alert: &Alert| {
        told.send(alert.id.clone()).unwrap();
        Ok(())
    });
    let (came, arrived) = std::sync::mpsc::channel();
    let stuck = Callback::new("stuck", move |_: &Alert| {
        came.send(()).unwrap();
        // Until the test releases it.
        let _ = hold.recv();
        Ok(())
    });
    let engine = log.alerts().engine_with(rules.clone()).unwrap().deliver_to(quick);
    let running = engine.start().unwrap();
    let seq = log.record(call("u", "P-1")).unwrap().seq;
    let status = running.finish(Duration::from_secs(60));
    assert_eq!((status.raised, status.last_error), (1, None));
    assert_eq!(heard.try_recv().unwrap(), format!("every:{seq}"));
    let lag = log.health().unwrap().alerts;
    assert_eq!((lag.behind, lag.oldest, lag.receivers.get("quick").unwrap().alerts), (0, None, 0));

    let running = log.alerts().engine_with(rules).unwrap().deliver_to(stuck).start().unwrap();
    log.record(call("v", "P-1")).unwrap();
    // The receiver has it, however long that took; finishing does not wait for its answer.
    arrived.recv().unwrap();
    running.finish(Duration::from_millis(1));
    assert_eq!(log.alerts().list().unwrap().len(), 2);
    assert_eq!(log.health().unwrap().alerts.receivers.get("stuck").unwrap().alerts, 1, "it is owed still");
    drop(held);
    log.close().unwrap();
}

#[test]
fn health_knows_how_far_alerts_are_behind() {
    let (log, clock) = log();
    log.record(call("u", "P-1")).unwrap();
    let lag = log.health().unwrap().alerts;
    assert_eq!((lag.evaluated, lag.oldest.map(|t| t.to_string())), (None, Some("2026-03-02T10:00:00Z".to_owned())));
    assert!(log.health().unwrap().concerns().is_empty(), "not late yet");
    log.checkpoint().unwrap();
    clock.advance(HOUR);
    assert!(log.health().unwrap().concerns()[0].contains("no alert rule"));
    let failing = attestlog::alert::Callback::new("pager", |_: &attestlog::alert::Alert| {
        Err(attestlog::Error::from(std::io::Error::other("no")))
    });
    let rules = Rules::built_in().with(Rules::optional("first-access").unwrap()).unwrap();
    let mut engine = log.alerts().engine_with(rules).unwrap().deliver_to(failing);
    engine.run_once().unwrap();
    drop(engine);
    log.checkpoint().unwrap();
    assert_eq!(log.health().unwrap().alerts.oldest, None);
    let owed = log.health().unwrap().alerts.receivers;
    // A delivery that was tried and not accepted is reported at once: it used to be reported only after a quarter of an
    // hour.
    assert!(owed.get("pager").unwrap().alerts > 0 && owed.get("pager").unwrap().failed);
    assert!(log.health().unwrap().concerns()[0].contains("delivered to pager"));
    assert!(log.alerts().forget_receiver("pager").unwrap() && !log.alerts().forget_receiver("pager").unwrap());
    assert!(log.health().unwrap().concerns().is_empty());
}

#[cfg(feature = "config")]
#[test]
fn receivers_come_back_from_their_file() {
    use attestlog::alert::Receivers;
    let text = "[[receivers]]\nto = 'stderr'\nname = \"a \\\"b\\\" \\u007f \\n\"\n\
                [[receivers]]\ncommand = ['/bin/x', 'a b', '\"']\ntimeout = '1m'\n\
                [[receivers]]\nwebhook = 'https://e.example/'\nsecret_file = '/s'\n[[receivers]]\nfile = 'C:\\x'\n";
    let receivers = Receivers::from_toml(text, "f").unwrap();
    assert_eq!(receivers.0.len(), 4);
    assert_eq!(Receivers::from_toml(&receivers.to_toml(), "g").unwrap(), receivers);
}

/// A rule about `issue_refund` was silent when the same tool called itself `issueRefund`, and one about `read_*` always was: alert
/// rules compared names letter by letter, while retention rules of the same policy compared them by words, with patterns.
#[test]
fn names_of_rules_are_compared_as_retention_compares_them() {
    let tools = ["issue_refund", "issueRefund", "ISSUE-REFUND", "issuerefund", "read_chart", "getaway", "readX"];
    let rule = || Rule::new("r").key([Part::USER]).window(HOUR).count(1);
    let cases: [(Rule, &[usize]); 6] = [
        (rule().when(Facet::Tool, "IssueRefund"), &[0, 1, 2]),
        (rule().when(Facet::Tool, "read_*"), &[4, 6]),
        (rule().when(Facet::Tool, "*a?").when(Facet::Tool, "get_*"), &[5]),
        (rule().except(Facet::Tool, "issue_refund").except(Facet::Tool, "read*"), &[3, 5]),
        (rule().when(Facet::User, "svc-issue*").when(Facet::Tool, "*fund"), &[0, 1, 3]),
        (rule().when(Facet::User, "SVC-*"), &[]),
    ];
    for (rule, fires) in cases {
        let (log, _) = log();
        let seqs = tools.map(|tool| log.record(ToolCall::new("visit", format!("svc-{tool}"), tool)).unwrap().seq);
        let wanted: Vec<String> = fires.iter().map(|at| format!("r:{}", seqs[*at])).collect();
        assert_eq!(fired(&log, [rule.clone()]), wanted, "{rule:?}");
    }
}

/// A pattern finds no pseudonym: such a rule would never fire, and nobody would be told.
#[test]
fn a_pattern_of_names_that_the_policy_hides_is_refused() {
    let (log, _) = log();
    let mut set = attestlog::PolicySet::default();
    set.redaction = attestlog::redact::Policy::preset(attestlog::redact::Preset::Hipaa);
    let mut with = |rule: Rule| {
        set.alerts = Rules::none().with(rule).unwrap();
        set.clone()
    };
    log.retention().set_policies(with(Rule::new("r").when(Facet::Patient, "P-1").when(Facet::User, "svc-*"))).unwrap();
    let hidden = with(Rule::new("r").except(Facet::Patient, "P-?"));
    let refused = log.retention().set_policies(hidden.clone()).unwrap_err();
    assert_eq!(refused.kind(), attestlog::ErrorKind::InvalidInput);
    assert!(refused.to_string().starts_with("alert rule \"r\": except.patient \"P-?\": the policy keeps"), "{refused}");
    assert!(Options::new().policies(hidden).in_memory().is_err());
    let long = Rule::new("r").when(Facet::Tool, format!("{}*", "a".repeat(200)));
    assert!(Rules::none().with(long).unwrap_err().to_string().contains("at most 127 characters"));
}

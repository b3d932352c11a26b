//! Promise: an emergency grant, its use, its end and its review are recorded in the chain; calls under an invalid grant are
//! recorded and marked; nobody reviews their own emergency.

use crate::store_common::open_grant;
use attestlog::Justification;
use attestlog::emergency::EmergencyAccess;
use attestlog::emergency::{GrantEnd, Misuse};
use attestlog::host::ManualClock;
use attestlog::redact::{Policy, Preset};
use attestlog::retention::HoldSelector;
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, Kind, Options, PolicySet, Query, ToolCall};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn log_with(policies: PolicySet) -> (AuditLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    (Options::new().clock(clock.clone()).policies(policies).in_memory().unwrap(), clock)
}

fn log() -> (AuditLog, Arc<ManualClock>) {
    log_with(PolicySet::default())
}

fn call(user: &str, patient: &str, grant: u64) -> ToolCall {
    ToolCall::new("conv_1", user, "read_chart").patient(patient).emergency(Some(grant))
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn lines(log: &AuditLog, of: Kind) -> Vec<String> {
    log.query(&Query::new().kind(of)).unwrap().map(|entry| entry.unwrap().line()).collect()
}

#[test]
fn a_grant_from_opening_to_review() {
    let (log, clock) = log();
    let grant = open_grant(&log, "dr_smith", "P-7");
    assert!(log.emergency().grants().unwrap()[0].is_open());
    log.emergency().check("dr_smith", "P-7", grant).unwrap();
    let used = log.record(call("dr_smith", "P-7", grant)).unwrap().seq;
    clock.advance(HOUR / 2);
    log.emergency().close(grant, "dr_smith").unwrap();
    assert_eq!(kind(log.emergency().close(grant, "dr_smith")), ErrorKind::Conflict);
    assert_eq!(kind(log.emergency().check("dr_smith", "P-7", grant)), ErrorKind::Conflict);
    assert!(log.emergency().grants().unwrap()[0].needs_review());
    log.emergency()
        .review(grant, Justification { actor: "privacy_office", reason: "justified" }, Some("documented in the chart"))
        .unwrap();

    let states = log.emergency().grants().unwrap();
    let [state] = states.as_slice() else { panic!("{states:?}") };
    assert!(!state.needs_review() && state.status() == "closed");
    assert!(matches!(&state.end, Some(GrantEnd::Closed { actor, .. }) if actor == "dr_smith"));
    assert_eq!(state.uses.iter().map(|u| (u.seq, u.misuse)).collect::<Vec<_>>(), [(used, None)]);
    assert_eq!(
        (state.reviews[0].reviewer.as_str(), state.reviews[0].disposition.as_str()),
        ("privacy_office", "justified")
    );

    let opened = &lines(&log, Kind::BreakGlassOpened)[0];
    for member in [
        r#""user":"dr_smith""#,
        r#""patient":"P-7""#,
        r#""expires_at":"2026-03-02T11:00:00Z""#,
        r#""urgency":"immediate""#,
    ] {
        assert!(opened.contains(member), "{opened}");
    }
    assert!(log.entry(used).unwrap().line().contains(r#""emergency":true"#));
    // If it is used after its review, it needs another one.
    log.record(call("dr_smith", "P-7", grant)).unwrap();
    assert!(log.emergency().grants().unwrap()[0].needs_review());
    let found = log.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn expiry_is_an_entry_and_final() {
    let (log, clock) = log();
    let grant = open_grant(&log, "dr_smith", "P-7");
    clock.advance(HOUR - Duration::from_nanos(1));
    log.emergency().check("dr_smith", "P-7", grant).unwrap();
    clock.advance(Duration::from_nanos(1));
    // Asking for the state of grants changes nothing.
    assert_eq!(log.emergency().grants().unwrap()[0].end, Some(GrantEnd::Expired(None)));
    assert!(lines(&log, Kind::BreakGlassClosed).is_empty());
    // The next commit records it, once, before its own calls.
    let late = log.record(call("dr_smith", "P-7", grant)).unwrap().seq;
    assert_eq!(kind(log.emergency().check("dr_smith", "P-7", grant)), ErrorKind::Conflict);
    log.record(call("dr_smith", "P-7", grant)).unwrap();
    assert_eq!(lines(&log, Kind::BreakGlassClosed).len(), 1);
    let state = &log.emergency().grants().unwrap()[0];
    assert_eq!(state.end, Some(GrantEnd::Expired(Some(late - 1))));
    assert!(state.uses.iter().all(|used| used.misuse == Some(Misuse::Expired)));
    assert_eq!(kind(log.emergency().close(grant, "dr_smith")), ErrorKind::Conflict);
    // Setting the clock back does not open it again, neither before nor after an entry records that it is over.
    clock.set("2026-03-02T10:10:00Z".parse().unwrap());
    assert_eq!(kind(log.emergency().check("dr_smith", "P-7", grant)), ErrorKind::Conflict);
}

#[test]
fn foreign_use_is_recorded_and_told() {
    let (log, _) = log();
    let grant = open_grant(&log, "dr_smith", "P-7");
    for (user, patient) in [("dr_jones", "P-7"), ("dr_smith", "P-8")] {
        assert_eq!(kind(log.emergency().check(user, patient, grant)), ErrorKind::Conflict);
        log.record(call(user, patient, grant)).unwrap();
    }
    let uses = &log.emergency().grants().unwrap()[0].uses;
    assert_eq!(
        uses.iter().map(|u| u.misuse).collect::<Vec<_>>(),
        [Some(Misuse::OtherUser), Some(Misuse::OtherPatient)]
    );
    assert_eq!(kind(log.emergency().check("dr_smith", "P-7", 0)), ErrorKind::NoSuchEntry);
    assert_eq!(kind(log.emergency().check("dr_smith", "P-7", 999)), ErrorKind::NoSuchEntry);
}

#[test]
fn nobody_reviews_their_own() {
    let (log, _) = log();
    let grant = open_grant(&log, "dr_smith", "P-7");
    log.record(call("dr_jones", "P-7", grant)).unwrap();
    // The user of the grant was refused as a reviewer by name, but accepted under the pseudonym of that name, and with
    // another separator.
    let mut on_them = HoldSelector::default();
    on_them.users.insert("dr_jones".to_owned());
    log.retention().place_hold("2026-114", on_them, Justification { actor: "counsel", reason: "lawsuit" }).unwrap();
    let (_, hold) = log.retention().holds().unwrap().remove(0);
    let pseudonym = hold.selector.users.into_iter().find(|name| name.starts_with("ps_")).unwrap();
    for reviewer in ["dr_smith", " DR_Smith ", "dr_jones", "dr-jones", "DR.JONES", "Dr Jones", "drjones", &pseudonym] {
        assert_eq!(
            kind(log.emergency().review(grant, Justification { actor: reviewer, reason: "justified" }, None)),
            ErrorKind::Conflict,
            "{reviewer}"
        );
    }
    for (reviewer, disposition) in [("", "justified"), ("office", " ")] {
        assert_eq!(
            kind(log.emergency().review(grant, Justification { actor: reviewer, reason: disposition }, None)),
            ErrorKind::InvalidInput
        );
    }
    log.emergency().review(grant, Justification { actor: "office", reason: "not_justified" }, None).unwrap();
}

#[test]
fn bad_input_opens_nothing() {
    let (log, _) = log();
    let size = log.size().unwrap();
    let open = |user: &str, reason: &str, ttl| {
        log.emergency().open(
            EmergencyAccess { user, patient: "P-7", urgency: "high", ttl },
            Justification { actor: "dr_smith", reason },
        )
    };
    assert_eq!(kind(open("", "r", HOUR)), ErrorKind::InvalidInput);
    assert_eq!(kind(open("u", " ", HOUR)), ErrorKind::InvalidInput);
    assert_eq!(kind(open("u", "nul \0", HOUR)), ErrorKind::InvalidInput);
    assert_eq!(kind(open("u", "r", Duration::ZERO)), ErrorKind::InvalidInput);
    assert_eq!(kind(open("u", "r", HOUR * 24 * 31)), ErrorKind::InvalidInput);
    assert_eq!(log.size().unwrap(), size);
}

#[test]
fn names_and_reasons_go_through_the_redaction_policy() {
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Hipaa);
    let (log, _) = log_with(policies);
    let reason = "patient P-7 unconscious, call +1 555 123 4567, password: hunter2hunter2";
    let grant = log
        .emergency()
        .open(
            EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: HOUR },
            Justification { actor: "dr_smith", reason },
        )
        .unwrap();
    let line = &lines(&log, Kind::BreakGlassOpened)[0];
    assert!(grant.patient.starts_with("ps_") && line.contains(&grant.patient), "{line}");
    assert!(!line.contains("P-7") && !line.contains("hunter2") && !line.contains("4567"), "{line}");
    // Found by clear values all the same, also after a rotation of the key.
    log.emergency().check("dr_smith", "P-7", grant.seq).unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    log.emergency().check("dr_smith", " P-7", grant.seq).unwrap();
    assert_eq!(kind(log.emergency().check("dr_smith", "P-71", grant.seq)), ErrorKind::Conflict);
}

#[test]
fn grants_outlive_a_restart_and_every_call_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let clock = Arc::new(ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap()));
    let log = Options::new().clock(clock.clone()).create(&path).unwrap();
    let grant = open_grant(&log, "dr_smith", "P-7");
    // Refunds are kept longer than charts.
    let refund = ToolCall::new("c", "dr_smith", "issue_refund").patient("P-7").emergency(Some(grant));
    let refund = log.record(refund).unwrap().seq;
    let until = |log: &AuditLog, seq| log.entry(seq).unwrap().body.retention.unwrap().until;
    assert!(until(&log, grant) >= until(&log, refund));
    log.close().unwrap();
    clock.advance(2 * HOUR);
    let log = Options::new().clock(clock.clone()).open(&path).unwrap();
    assert_eq!(log.emergency().grants().unwrap()[0].status(), "expired");
    let after = log.record(call("dr_smith", "P-7", grant)).unwrap().seq;
    let closed = log.entry(after - 1).unwrap();
    assert_eq!(closed.kind(), Kind::BreakGlassClosed);
    assert_eq!(closed.body.retention, log.entry(grant).unwrap().body.retention);
    log.emergency().review(grant, Justification { actor: "office", reason: "justified" }, None).unwrap();
    let reviewed = log.query(&Query::new().kind(Kind::BreakGlassReviewed)).unwrap().next().unwrap().unwrap();
    assert!(reviewed.body.retention.is_none(), "reviews stay for ever");
}

#[test]
fn fhir_reads_what_is_written() {
    use attestlog_report::access::{Context, Subject};
    use attestlog_report::fhir::{self, FhirOptions};
    let (log, _) = log();
    let grant = open_grant(&log, "dr_smith", "P-7");
    log.emergency().review(grant, Justification { actor: "office", reason: "justified" }, None).unwrap();
    let options = FhirOptions::default().about(&Context::new(Subject::Patient("P-7".into())));
    for entry in log.query(&Query::new().kind(Kind::BreakGlassOpened).kind(Kind::BreakGlassReviewed)).unwrap() {
        let event = fhir::audit_event_r4(&entry.unwrap(), &options).expect("an event").to_canonical().to_string();
        assert!(event.contains("dr_smith") && event.contains("Patient/P-7"), "{event}");
    }
}

//! A medical practice's assistant, end to end: a session is recorded, an emergency breaks the glass, rules notice, the
//! patient asks who looked, what has expired goes, and the log proves what is left. `cargo run --example medical_assistant`
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

use attestlog::Justification;
use attestlog::alert::{Alert, Callback, Part, Rule, Severity};
use attestlog::emergency::EmergencyAccess;
use attestlog::host::ManualClock;
use attestlog::json::{Json, Object};
use attestlog::redact::{Policy, Preset};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Options, PolicySet, Query, Result, Timestamp, ToolCall, Trigger};
use attestlog_report::access::{AccessReport, Context, Subject, TextStyle};
use std::sync::Arc;
use std::time::Duration;

const PATIENT: &str = "P-1042";
const HOUR: Duration = Duration::from_secs(3600);

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("attestlog-medical-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    // A clock of our own, so that six years pass while you read this. Real hosts leave it out.
    let clock = Arc::new(ManualClock::at("2026-03-02T14:00:00Z".parse::<Timestamp>()?));
    // HIPAA: patients are pseudonyms in the log; one more rule besides the built-in ones.
    let mut policies = PolicySet::default();
    policies.redaction = Policy::preset(Preset::Hipaa);
    policies.alerts = policies.alerts.with(
        Rule::new("no-care-relationship")
            .summary("a chart was opened by somebody who does not care for the patient")
            .severity(Severity::Critical)
            .attribute("care_relationship", false)
            .key([Part::USER, Part::PATIENT]),
    )?;
    let options = Options::new().clock(clock.clone()).policies(policies).name("practice.example/assistant");
    let log = options.create(dir.join("practice.log"))?;
    println!(
        "the public key, which an auditor should have from you: {}\n",
        log.public_key()?.expect("a store has keys unless it is made without")
    );

    let pager = Callback::new("pager", |alert: &Alert| {
        println!("  pager: {} {}", alert.severity, alert.id);
        Ok(())
    });
    let mut alerts = log.alerts().engine()?.deliver_to(pager);
    alerts.run_once()?; // a service calls `start()` and forgets about it

    println!("A session");
    session(&log)?;
    alerts.run_once()?;

    println!("\nAn emergency: no care relationship, so the glass must be broken");
    let why = "unconscious in the waiting room, allergies unknown";
    let grant = log.emergency().open(
        EmergencyAccess { user: "dr_jones", patient: PATIENT, urgency: "immediate", ttl: HOUR },
        Justification { actor: "dr_jones", reason: why },
    )?;
    log.emergency().check("dr_jones", PATIENT, grant.seq)?; // the host refuses by this, the log only records
    let read = chart("dr_jones", "allergies").metadata("care_relationship", false).emergency(Some(grant.seq));
    log.record(read.result(object([("chart_id", "C-77".into()), ("allergies", "penicillin".into())])))?;
    alerts.run_once()?;
    clock.advance(2 * HOUR);
    match log.emergency().check("dr_jones", PATIENT, grant.seq) {
        Err(refused) => println!("  two hours later: {refused}"),
        Ok(_) => unreachable!("the grant was for an hour"),
    }
    let own = log.emergency().review(grant.seq, Justification { actor: "dr_jones", reason: "justified" }, None);
    println!("  dr_jones reviews: {}", own.expect_err("nobody reviews their own emergency"));
    log.emergency().review(
        grant.seq,
        Justification { actor: "privacy_office", reason: "justified" },
        Some("seen in the waiting room's log"),
    )?;
    for state in log.alerts().list()?.iter().filter(|state| state.is_open()) {
        log.alerts().ack(state.alert.seq, Justification { actor: "privacy_office", reason: "explained" })?;
    }

    println!("\nThe patient asks who has looked\n");
    let verification = log.verify(&VerifyOptions::new())?;
    let known = log.emergency().grants()?;
    let mut context = Context::new(Subject::Patient(PATIENT.to_owned()));
    context.recorded_as.extend(known.iter().map(|state| state.grant.patient.clone())); // its pseudonym
    context = context.emergencies(known);
    context.integrity_verified = verification.ok();
    context.generated_at = Some("2026-03-02T16:00:00Z".parse()?);
    let mut report = AccessReport::builder(context);
    for entry in log.query(&Query::new().patient(PATIENT))? {
        report.add(&entry?);
    }
    println!("{}", report.finish().to_text(&TextStyle::default()));

    println!("Eight years later");
    for _ in 0..8 * 366 {
        clock.advance(24 * HOUR); // the store was open all the time, so nothing about its clock has to be explained
        if log.retention().clock()?.frozen.is_some() {
            log.retention().confirm_clock(Justification { actor: "it", reason: "the practice's clock is right" })?;
        }
    }
    log.record(ToolCall::new("visit-9000", "dr_smith", "find_slot").result(true))?;
    let purged = log.retention().purge("privacy_office")?;
    println!("  purged {} entries whose time is over: {:?}", purged.purged, purged.classes);
    log.checkpoint()?;
    let verification = log.verify(&VerifyOptions::new())?;
    println!(
        "  verified: {} entries, {} purged, findings {:?}",
        verification.entries, verification.purged, verification.findings
    );
    assert!(verification.ok() && purged.purged > 0);
    log.close()?;
    Ok(std::fs::remove_dir_all(&dir)?)
}

/// A doctor's visit: a chart is read and updated, a clerk is refused.
fn session(log: &AuditLog) -> Result<()> {
    let result = object([("chart_id", "C-77".into()), ("diagnoses", Json::Array(vec!["E11.9".into()]))]);
    let read = log.record(chart("dr_smith", "diagnoses").duration(Duration::from_millis(84)).result(result))?;
    println!("  recorded as entry {}, hash {}", read.seq, read.hash);
    // Recorded before the tool runs, so that a crash in the middle leaves its trace.
    let update = ToolCall::new("visit-1042", "dr_smith", "update_medication").patient(PATIENT).purpose("treatment");
    let begun = log.begin(update.model("gpt-4.1").role("physician").arguments(object([("dose_mg", 500u64.into())])))?;
    begun.finish(|call| call.result(true))?;
    log.record(chart("clerk_doe", "diagnoses").role("clerk").outcome(attestlog::Outcome::Denied))?;
    let entry = log.entry(read.seq)?;
    println!("  {}", entry.call().expect("a call").attribution());
    assert!(!entry.line().contains(PATIENT));
    Ok(())
}

fn chart(user: &str, section: &str) -> ToolCall {
    ToolCall::new("visit-1042", user, "read_chart")
        .patient(PATIENT)
        .purpose("treatment")
        .role("physician")
        .model("gpt-4.1")
        .trigger(Trigger::UserRequest)
        .arguments(object([("section", section.into())]))
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::from(Object::from_iter(members))
}

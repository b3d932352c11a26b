//! `demo`: the assistant of a medical practice, from the first recorded call to an edit of the file.
//!
//! Everything shown is the program's real output for the store that the demo makes; nothing is canned.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::render::{Out, Style, clean, wrap};
use super::{break_glass, check, purge, query, report, stats, timeline, verify};
use attestlog::Justification;
use attestlog::alert::{Alert, Callback};
use attestlog::anchor::Evidence;
use attestlog::emergency::EmergencyAccess;
use attestlog::files::{self, Writes};
use attestlog::host::{Clock, ManualClock, SystemClock};
use attestlog::json::{Json, Object};
use attestlog::query::Statistics;
use attestlog::verify::{Verification, VerifyOptions};
use attestlog::{AuditLog, Options, Query, Timestamp, ToolCall, Trigger};
use attestlog_report::access::{Context as Asked, Subject};
use clap::Args;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Watch the log at work: a medical assistant's session, and what happens when the file is edited
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to make the store [default: a new directory under the system's temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const STORE: &str = "practice.log";
const COPY: &str = "edited.log";
const KEPT: &str = "kept-elsewhere.checkpoint";
const REPORT: &str = "access-report.html";
const PROOF: &str = "payment.proof";
const PUBLIC_KEY: &str = "public-key";
/// All files that the demo makes.
const FILES: [&str; 6] = [STORE, COPY, KEPT, REPORT, PROOF, PUBLIC_KEY];

const CONVERSATION: &str = "visit-1042";
const PATIENT: &str = "P-1042";
const OLD_PATIENT: &str = "P-0007";
const HELPER: &str = "dr_jones";
/// At least eight years, including the two leap days, in whole weeks, so that a working day today was one then.
const EIGHT_YEARS: Duration = Duration::from_secs(86_400 * 7 * 418);

pub fn run(cx: &Context, args: &DemoArgs) -> Outcome {
    let dir = directory(args.dir.as_deref())?;
    let path = dir.join(STORE);
    let mut stage = Stage { out: cx.out(), step: 0 };
    stage.out.line(format!("A medical practice runs an AI assistant. Its audit log is {}", path.display()))?;
    stage.note("Its clock is moved by this demo, so that eight years pass while you read. Everything else is real.")?;
    let clock = Arc::new(ManualClock::at(working_day(SystemClock::default().now()).minus(EIGHT_YEARS)));
    let options = Options::new().name("practice.example/assistant").clock(clock.clone());
    let log = options.create(&path).map_err(|e| at(&path, e))?;

    stage.step("Eight years ago: a visit, and a checkpoint that the auditor takes home.")?;
    old_visit(&log)?;
    let kept = dir.join(KEPT);
    write_file(&kept, log.checkpoint().map_err(|e| at(&path, e))?.to_string().as_bytes())?;
    stage.command(&format!("attestlog checkpoint {STORE} > {KEPT}"))?;
    clock.advance(EIGHT_YEARS.saturating_sub(Duration::from_secs(900)));

    stage.step("Today the assistant works; each tool call is on the disk before its answer is used.")?;
    visit(&log, &clock)?;
    stage.command(&format!("attestlog timeline {STORE} {CONVERSATION}"))?;
    timeline::show(cx, &log, CONVERSATION, &mut stage.out)?;
    stage.note(
        "The token and the card number were replaced before anything was written; results are summarised, not kept.",
    )?;

    emergency(&mut stage, &log, &clock)?;
    patient_asks(cx, &mut stage, &log, &dir)?;

    stage.step("What went wrong, and how the tools do.")?;
    stage.command(&format!("attestlog query {STORE} --failed"))?;
    query::show(cx, &log, &Query::new().failed(), &mut stage.out)?;
    stage.command(&format!("attestlog stats {STORE}"))?;
    stats::show(&log, log.statistics(&Statistics::new())?, &mut stage.out)?;

    proof(&mut stage, &log, &dir)?;
    purge(&mut stage, &log, &path)?;

    log.close().map_err(|e| at(&path, e))?;

    stage.step("Nobody has touched the file: what is left fits what the auditor took home before the purge.")?;
    stage.command(&format!("attestlog verify {STORE} --against {KEPT}"))?;
    let evidence = Evidence::read(&kept, &[]).map_err(|e| at(&kept, e))?;
    let verification = verify_file(&path, VerifyOptions::new().against(evidence.kept))?;
    verify::show(&verification, false, &mut stage.out)?;
    if !verification.ok() {
        return Err(Failure::Found("the log that nobody touched did not verify: this must not happen".to_owned()));
    }

    stage.step("Somebody copies the file and changes a dose in it, 500 to 850, past the program; two entries share these bytes.")?;
    let copy = dir.join(COPY);
    tamper(&path, &copy)?;
    stage.command(&format!("attestlog verify {COPY}"))?;
    let edited = verify_file(&copy, VerifyOptions::new())?;
    verify::show(&edited, false, &mut stage.out)?;
    if edited.ok() {
        return Err(Failure::Found("the edited copy verified: this must not happen".to_owned()));
    }
    stage.note("Both entries are named, and the page of the file; the exit code is 1. The original is as it was.")?;

    stage.out.line("")?;
    stage.out.line(format!("The patient's report, for a browser or a printer: {}", dir.join(REPORT).display()))?;
    stage.out.line(format!("Look around: cd {} && attestlog query {STORE} --json", dir.display()))?;
    if args.dir.is_none() {
        stage.out.line(format!("Nothing else uses that folder; when you have seen enough: rm -r {}", dir.display()))?;
    }
    stage.out.flush()?;
    Ok(End::Done)
}

/// Ten in the morning of the last working day, so that the rules for nights and weekends say the same whenever the demo is
/// run.
fn working_day(now: Timestamp) -> Timestamp {
    // The first day of 1970 was a Thursday.
    let back = match (now.day() + 3).rem_euclid(7) {
        0 => 3,
        6 => 2,
        _ => 1,
    };
    Timestamp::start_of_day(now.day() - back).plus(Duration::from_secs(10 * 3600))
}

/// Emergency access is opened, the office is alerted at once, and somebody else reviews it.
fn emergency(stage: &mut Stage, log: &AuditLog, clock: &ManualClock) -> Result<(), Failure> {
    stage.step("An emergency: a doctor who does not treat the patient breaks the glass, for one hour.")?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let office = {
        let heard = heard.clone();
        Callback::new("privacy office", move |alert: &Alert| {
            let summary = alert.detail.get("summary").and_then(Json::as_str).unwrap_or_default();
            let line = format!("{}: {}: {summary}", alert.severity, alert.rule);
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            Ok(())
        })
    };
    let mut alerts = log.alerts().engine()?.deliver_to(office);
    alerts.run_once()?;
    heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let why = "unconscious in the waiting room, allergies unknown";
    stage.command(&format!(
        "attestlog break-glass open {STORE} --user {HELPER} --patient {PATIENT} --ttl 1h --reason '{why}'"
    ))?;
    let grant = log.emergency().open(
        EmergencyAccess { user: HELPER, patient: PATIENT, urgency: "immediate", ttl: Duration::from_secs(3600) },
        Justification { actor: HELPER, reason: why },
    )?;
    stage.out.line(format!("grant {}, until {}", grant.seq, grant.expires_at))?;
    log.record(
        ToolCall::new("emergency-7", HELPER, "access_patient_record")
            .role("physician")
            .model("gpt-4.1")
            .purpose("treatment")
            .emergency(Some(grant.seq))
            .timestamp(clock.now())
            .arguments(object([("patient_id", PATIENT.into())]))
            .result(object([("patient_id", PATIENT.into()), ("allergies", vec!["penicillin"].into())]))
            .duration(Duration::from_millis(77))
            .trigger(Trigger::UserRequest),
    )?;
    alerts.run_once()?;
    for line in heard.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let line = stage.out.styled(Style::Bad, &format!("  alert to the privacy office: {}", clean(&line)));
        stage.out.line(line)?;
    }
    clock.advance(Duration::from_secs(60));
    log.emergency().review(
        grant.seq,
        Justification { actor: "privacy_office", reason: "justified" },
        Some("seen in the waiting room's log"),
    )?;
    stage.command(&format!("attestlog break-glass list {STORE}"))?;
    break_glass::show(&log.emergency().grants()?, &mut stage.out)?;
    Ok(())
}

fn patient_asks(cx: &Context, stage: &mut Stage, log: &AuditLog, dir: &Path) -> Result<(), Failure> {
    stage.step("Months later the patient asks who has seen her record.")?;
    let verification = verify::verify(cx, log)?;
    let about = Asked::new(Subject::Patient(PATIENT.to_owned())).made_at(SystemClock::default().now());
    let report = report::access(log, report::complete(log, about, Vec::new(), &verification, false)?)?;
    stage.command(&format!("attestlog report access {STORE} --patient {PATIENT} --format html > {REPORT}"))?;
    write_file(&dir.join(REPORT), report.to_html().as_bytes())?;
    stage.command(&format!("attestlog report access {STORE} --patient {PATIENT}"))?;
    let text = report.to_text(&report::style(&stage.out));
    stage.out.write_all(text.as_bytes())?;
    Ok(())
}

/// Proves one entry to somebody who has neither the store nor trust in it.
fn proof(stage: &mut Stage, log: &AuditLog, dir: &Path) -> Result<(), Failure> {
    stage.step("One entry for the insurer, who gets a proof and the public key, and not the log.")?;
    let Some(refund) = log.query(&Query::new().tool("charge_payment").newest_first().limit(1))?.next() else {
        return Err(Failure::Found("the demo's payment is not in the log: this must not happen".to_owned()));
    };
    let seq = refund?.seq;
    let proof = log.prove(seq)?.to_string();
    write_file(&dir.join(PROOF), proof.as_bytes())?;
    let key = log.public_key()?.ok_or_else(|| Failure::Store("the demo's store has no keys".to_owned()))?;
    write_file(&dir.join(PUBLIC_KEY), format!("{key}\n").as_bytes())?;
    stage.command(&format!("attestlog prove {STORE} {seq} > {PROOF}"))?;
    stage.command(&format!("attestlog check {PROOF} --public-key {PUBLIC_KEY}"))?;
    let checked = attestlog::proof::check(proof.as_bytes(), &key);
    let checked = checked.map_err(|e| Failure::Found(format!("{PROOF}: proves nothing: {e}")))?;
    check::show(&checked, false, &mut stage.out)?;
    Ok(())
}

/// Purges entries whose retention has ended.
fn purge(stage: &mut Stage, log: &AuditLog, path: &Path) -> Result<(), Failure> {
    stage.step("The visit of eight years ago has expired: 7 years for payments, 6 for health, 1 for the rest.")?;
    let count = || -> Result<usize, Failure> {
        let bytes = fs::read(path).map_err(|e| Failure::file(path, &e))?;
        Ok(bytes.windows(OLD_PATIENT.len()).filter(|w| *w == OLD_PATIENT.as_bytes()).count())
    };
    let before = count()?;
    stage.command(&format!("attestlog purge {STORE} --actor privacy_office"))?;
    let purged = log.retention().purge("privacy_office").map_err(|e| at(path, e))?;
    purge::show_purged(&purged, &mut stage.out)?;
    let after = count()?;
    stage.note(&format!(
        "The bytes are gone, not only the rows: the old patient's id was in the file {before} times, and is {after} times. \
         What was signed before stays provable."
    ))?;
    if before == 0 || after != 0 {
        return Err(Failure::Found("the purge did not take what it should have: this must not happen".to_owned()));
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = files::create(path, Writes::Output).map_err(|e| Failure::Input(e.to_string()))?;
    file.write_all(bytes).map_err(|e| Failure::file(path, &e))
}

fn at(path: &Path, e: attestlog::Error) -> Failure {
    Failure::Store(format!("{}: {e}", path.display()))
}

/// A directory in which the demo may write.
fn directory(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = wanted {
        files::check(dir, Writes::Output).map_err(|e| Failure::Input(e.to_string()))?;
        fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
        let taken = FILES.iter().map(|name| dir.join(name)).find(|path| path.exists());
        return match taken {
            Some(path) => Err(Failure::Input(format!("{}: is there already; choose another --dir", path.display()))),
            None => Ok(dir.to_owned()),
        };
    }
    let mut number = std::process::id();
    loop {
        let dir = std::env::temp_dir().join(format!("attestlog-demo-{number}"));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&dir) {
            Ok(()) => return Ok(dir),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            Err(e) => return Err(Failure::file(&dir, &e)),
        }
    }
}

/// Prints the narration.
struct Stage {
    out: Out,
    step: u32,
}

impl Stage {
    fn step(&mut self, what: &str) -> std::io::Result<()> {
        self.step += 1;
        self.out.line("")?;
        self.paragraph(&format!("{}. {what}", self.step), Style::Bold)
    }

    fn note(&mut self, what: &str) -> std::io::Result<()> {
        self.paragraph(what, Style::Dim)
    }

    fn command(&mut self, line: &str) -> std::io::Result<()> {
        let line = self.out.styled(Style::Good, &format!("$ {line}"));
        self.out.line(line)
    }

    fn paragraph(&mut self, text: &str, style: Style) -> std::io::Result<()> {
        for line in wrap(text, self.out.width().unwrap_or(100).min(100)) {
            let line = self.out.styled(style, &line);
            self.out.line(line)?;
        }
        Ok(())
    }
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::from(Object::from_iter(members))
}

/// Records a visit of eight years ago.
fn old_visit(log: &AuditLog) -> Result<(), Failure> {
    let call = |tool: &str| {
        let call = ToolCall::new("visit-0007", "dr_miller", tool).role("physician").model("gpt-1").purpose("treatment");
        call.duration(Duration::from_millis(90)).trigger(Trigger::UserRequest)
    };
    let patient = || object([("patient_id", OLD_PATIENT.into())]);
    log.record(call("access_patient_record").arguments(patient()).result(patient()))?;
    log.record(call("find_appointment").arguments(object([("day", "Monday".into())])).result(true))?;
    log.record(call("charge_payment").arguments(patient()).result(object([("payment_id", "pay-1".into())])))?;
    Ok(())
}

/// Records today's session: a doctor, an agent, a mistake that a tool refuses, a clerk.
fn visit(log: &AuditLog, clock: &ManualClock) -> Result<(), Failure> {
    let began = clock.now();
    let after = |seconds: u64| -> Timestamp {
        let at = began.plus(Duration::from_secs(seconds));
        clock.advance(at.since(clock.now()));
        at
    };
    let ms = Duration::from_millis;
    let doctor = |tool: &str| {
        ToolCall::new(CONVERSATION, "dr_smith", tool)
            .role("physician")
            .model("gpt-4.1")
            .metadata("client_ip", "10.0.1.5")
            .purpose("treatment")
    };
    let chart = object([
        ("patient_id", PATIENT.into()),
        ("allergies", vec!["penicillin"].into()),
        ("medications", vec!["metformin 250 mg"].into()),
        ("status", "active".into()),
    ]);
    log.record(
        doctor("access_patient_record")
            .turn(1)
            .timestamp(after(0))
            .arguments(object([("patient_id", PATIENT.into()), ("access_token", "tok-93-secret".into())]))
            .result(chart)
            .duration(ms(84))
            .trigger(Trigger::UserRequest),
    )?;
    let dose = |mg: u32| object([("patient_id", PATIENT.into()), ("drug", "metformin".into()), ("dose_mg", mg.into())]);
    let refused = log.record(
        doctor("update_treatment")
            .turn(2)
            .timestamp(after(95))
            .arguments(dose(5000))
            .typed_error("OutOfRange", "5000 mg is over the daily maximum of 2550 mg")
            .duration(ms(41))
            .trigger(Trigger::UserRequest),
    )?;
    log.record(
        doctor("update_treatment")
            .turn(2)
            .timestamp(after(101))
            .arguments(dose(500))
            .result(object([("treatment_id", "T-77".into()), ("status", "saved".into())]))
            .duration(ms(63))
            .retry_of(refused.seq),
    )?;
    log.record(
        ToolCall::new(CONVERSATION, "m_jones", "charge_payment")
            .role("billing clerk")
            .model("gpt-4.1")
            .purpose("payment")
            .turn(3)
            .timestamp(after(840))
            .arguments(object([
                ("patient_id", PATIENT.into()),
                ("amount_usd", 120u32.into()),
                ("card_number", "4111 1111 1111 1111".into()),
            ]))
            .result(object([("payment_id", "pay-5".into()), ("status", "captured".into())]))
            .duration(ms(412))
            .trigger(Trigger::UserRequest),
    )?;
    Ok(())
}

/// Edits an entry's bytes in the file, as anybody who has the file can do without the program.
fn tamper(path: &Path, copy: &Path) -> Result<(), Failure> {
    let mut bytes = fs::read(path).map_err(|e| Failure::file(path, &e))?;
    let (from, to) = (b"\"dose_mg\":500", b"\"dose_mg\":850");
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, w)| w == from).map(|(i, _)| i).collect();
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    write_file(copy, &bytes)
}

fn verify_file(path: &Path, options: VerifyOptions) -> Result<Verification, Failure> {
    let log = Options::new().open(path).map_err(|e| at(path, e))?;
    log.verify(&options).map_err(|e| at(path, e))
}

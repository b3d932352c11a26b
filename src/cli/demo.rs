//! `demo`: the assistant of a medical practice, from the first recorded call to the day when somebody edits the file.
//!
//! Everything shown is the program's own output of the store that the demo makes; nothing is canned.

use super::exit::{End, Failure, Outcome};
use super::render::{Out, Style, wrap};
use super::{query, report, stats, timeline, verify};
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, Clock, Options, Query, Statistics, SystemClock, Timestamp, ToolCall, Trigger, Verification};
use clap::Args;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// See what the log does: a medical assistant's session, and what becomes of an edited file
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to make the store [default: a new directory under the system's temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const STORE: &str = "practice.log";
const COPY: &str = "edited.log";
const CONVERSATION: &str = "visit-1042";
const PATIENT: &str = "P-1042";

pub fn run(args: &DemoArgs) -> Outcome {
    let dir = directory(args.dir.as_deref())?;
    let path = dir.join(STORE);
    let mut stage = Stage { out: Out::stdout(), step: 0 };
    stage.out.line(format!("A medical practice runs an AI assistant. Its audit log is {}", path.display()))?;

    let log = Options::new().name("practice.example/assistant").create(&path).map_err(|e| at(&path, e))?;
    stage.step("The assistant works; each tool call is on the disk before its answer is used.")?;
    record(&log)?;
    stage.command(&format!("attestlog timeline {STORE} {CONVERSATION}"))?;
    timeline::show(&log, CONVERSATION, &mut stage.out)?;
    stage.note(
        "The token and the card number were replaced before anything was written; results are summarised, not kept.",
    )?;

    stage.step("Months later the patient asks who has seen her record.")?;
    stage.command(&format!("attestlog report access {STORE} --patient {PATIENT}"))?;
    let verification = verify::verify(&log)?;
    let context = report::context(&log, PATIENT, Vec::new(), &verification)?;
    let text = report::access(&log, PATIENT, context)?.to_text(&report::style(&stage.out));
    stage.out.write_all(text.as_bytes())?;

    stage.step("What went wrong, and how the tools do.")?;
    stage.command(&format!("attestlog query {STORE} --failed"))?;
    query::show(&log, &Query::new().failed(), &mut stage.out)?;
    stage.command(&format!("attestlog stats {STORE}"))?;
    stats::show(&log, &Statistics::new(), &mut stage.out)?;

    stage.step("Nobody has touched the file so far.")?;
    stage.command(&format!("attestlog verify {STORE}"))?;
    verify::show(&verification, &mut stage.out)?;
    stage.note(
        "Unanchored means: this machine alone vouches for it. Keep a checkpoint elsewhere (`attestlog checkpoint`), and \
         a rewritten log contradicts it.",
    )?;
    log.close().map_err(|e| at(&path, e))?;

    stage.step("Somebody copies the file and changes one dose in it, from 500 mg to 850 mg, past the program.")?;
    let copy = dir.join(COPY);
    tamper(&path, &copy)?;
    stage.command(&format!("attestlog verify {COPY}"))?;
    let edited = verify_copy(&copy)?;
    verify::show(&edited, &mut stage.out)?;
    if edited.ok() {
        return Err(Failure::Found("the edited copy verified: this must not happen".to_owned()));
    }
    stage.note("The entry that was edited is named, and the exit code is 1. The original is as it was.")?;

    stage.out.line("")?;
    stage.out.line(format!("Look around: cd {} && attestlog query {STORE} --json", dir.display()))?;
    stage.out.flush()?;
    Ok(End::Done)
}

fn at(path: &Path, e: attestlog::Error) -> Failure {
    Failure::Store(format!("{}: {e}", path.display()))
}

/// A directory in which the demo has room.
fn directory(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = wanted {
        fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
        let taken = [STORE, COPY].iter().map(|name| dir.join(name)).find(|path| path.exists());
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

/// The narration.
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

/// The session: a doctor, an agent, a mistake that a tool refuses, a clerk.
fn record(log: &AuditLog) -> Result<(), Failure> {
    let began = SystemClock::default().now().minus(Duration::from_secs(900));
    let after = |seconds: u64| -> Timestamp { began.plus(Duration::from_secs(seconds)) };
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

/// What whoever has the file can do without the program: change bytes of an entry.
fn tamper(path: &Path, copy: &Path) -> Result<(), Failure> {
    let mut bytes = fs::read(path).map_err(|e| Failure::file(path, &e))?;
    let (from, to) = (b"\"dose_mg\":500,", b"\"dose_mg\":850,");
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, w)| w == from).map(|(i, _)| i).collect();
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    fs::write(copy, bytes).map_err(|e| Failure::file(copy, &e))
}

fn verify_copy(copy: &Path) -> Result<Verification, Failure> {
    let log = Options::new().open(copy).map_err(|e| at(copy, e))?;
    verify::verify(&log).map_err(|e| at(copy, e))
}

//! `report access`: who accessed a patient's data.

use super::exit::{End, Failure, Outcome};
use super::export::broken_pipe;
use super::render::Out;
use super::store::StoreArgs;
use super::trust::TrustArgs;
use super::verify::verify_with;
use attestlog::json::Json;
use attestlog::redact::{Facet, PseudonymKey, Sanitizer, Secrets};
use attestlog::report::access::{AccessReport, Context, Purged, Subject, TextStyle};
use attestlog::report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use attestlog::{AuditLog, Kind, Query, Timestamp, Verification};
use clap::{Args, Subcommand, ValueEnum};
use std::io::Write;

/// Reports for people and authorities
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Who accessed a patient's data, when, with which tool, what was viewed, for which purpose
    Access(AccessArgs),
}

#[derive(Debug, Args)]
pub struct AccessArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    patient: String,
    /// From this time on: RFC 3339 or YYYY-MM-DD (UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// How to write it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
    Html,
    FhirR4,
    FhirR5,
}

pub fn run(command: &ReportCommand) -> Outcome {
    let ReportCommand::Access(args) = command;
    let options = args.trust.options()?;
    let log = args.store.open()?;
    let verification = verify_with(&log, options).map_err(|e| args.store.name(Failure::Store(e.to_string())))?;
    let known = pseudonyms(&log, args);
    let context = context(&log, &args.patient, known, &verification)?.period(args.since, args.until)?;
    let mut out = Out::stdout();
    match args.format {
        Format::Text => {
            let report = access(&log, &args.patient, context)?;
            let text = report.to_text(&style(&out));
            out.write_all(text.as_bytes())?;
        }
        Format::Json => out.line(access(&log, &args.patient, context)?.to_json().to_canonical().as_str())?,
        Format::Csv => access(&log, &args.patient, context)?.write_csv(&mut out).map_err(broken_pipe)?,
        Format::Html => out.write_all(access(&log, &args.patient, context)?.to_html().as_bytes())?,
        Format::FhirR4 | Format::FhirR5 => {
            let release = if args.format == Format::FhirR4 { FhirRelease::R4 } else { FhirRelease::R5 };
            let options = FhirOptions::default().about(&context);
            let mut fhir = FhirWriter::new(&mut out, release, FhirForm::Bundle, options);
            let mut query = Query::new().patient(&args.patient);
            query = args.since.into_iter().fold(query, Query::since);
            query = args.until.into_iter().fold(query, Query::until);
            for entry in log.query(&query)? {
                fhir.write(&entry?).map_err(broken_pipe)?;
            }
            fhir.finish().map_err(broken_pipe)?.line("")?;
        }
    }
    out.flush()?;
    Ok(End::Done)
}

/// How text looks on this output.
pub fn style(out: &Out) -> TextStyle {
    let width = out.width().unwrap_or(100);
    if out.styles() { TextStyle::colored(width) } else { TextStyle::plain(width) }
}

/// The report about one patient. The period decides what comes in, so that a call that began before it and ended in it
/// is told whole.
pub fn access(log: &AuditLog, patient: &str, context: Context) -> attestlog::Result<AccessReport> {
    let mut builder = AccessReport::builder(context);
    for entry in log.query(&Query::new().patient(patient))? {
        builder.add(&entry?);
    }
    Ok(builder.finish())
}

/// What is known of the log behind the report.
pub fn context(
    log: &AuditLog,
    patient: &str,
    recorded_as: Vec<String>,
    verification: &Verification,
) -> attestlog::Result<Context> {
    let mut context = Context::new(Subject::Patient(patient.to_owned()));
    context.recorded_as = recorded_as;
    context.log = log.public_key().map(|key| key.name().to_owned());
    context.generated_at = attestlog::Clock::now(&attestlog::SystemClock::default()).into();
    context.integrity_verified = verification.ok();
    context.anchored = verification.anchored;
    context.anchored_size = verification.anchored_size;
    context.rewritable_from = verification.rewritable_from;
    for entry in log.query(&Query::new().kind(Kind::Purge))? {
        let entry = entry?;
        let Some(detail) = entry.own().map(|own| own.detail.to_json()) else { continue };
        let classes = detail.get("classes").and_then(Json::as_object).into_iter().flat_map(|c| c.iter());
        context.purged.extend(classes.filter_map(|(class, n)| {
            Some(Purged { count: n.as_u64()?, class: class.to_owned(), purge_seq: entry.seq })
        }));
    }
    Ok(context)
}

/// The pseudonyms under which the store knows the patient; none where it holds the id itself, or without the key.
fn pseudonyms(log: &AuditLog, args: &AccessArgs) -> Vec<String> {
    let Ok(keys) = args.store.key.load(&args.store.store) else { return Vec::new() };
    let secrets = Secrets { pseudonyms: keys.pseudonym_keys().map(|key| PseudonymKey::new(*key.bytes())).collect() };
    let Ok(sanitizer) = Sanitizer::new(&log.policies().redaction, secrets) else { return Vec::new() };
    let known = sanitizer.lookup(Facet::Patient, &args.patient);
    // The key makes a pseudonym of every id; those that stand in the log are the ones that count.
    let stands = |id: &String| log.count(&Query::new().patient(id).limit(1)).is_ok_and(|n| n > 0);
    known.into_iter().filter(|id| *id != args.patient && stands(id)).collect()
}

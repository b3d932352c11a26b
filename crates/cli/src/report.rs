//! `report access`: who accessed a patient's data, or what one user's agents touched; `report disclosures`: the accounting
//! that a patient can ask for.

use super::exit::{End, Failure, Outcome};
use super::export::{ToolArgs, broken_pipe};
use super::filter::{refuse_pattern, say_unknown, tell_look_alikes};
use super::render::Out;
use super::store::StoreArgs;
use super::verify::verify_with;
use super::verify_args::TrustArgs;
use attestlog::{AuditLog, Facet, Query, Timestamp, Verification};
use attestlog_report::access::{AccessReport, Context, Purged, Subject, TextStyle};
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use clap::{Args, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::io::Write;

/// Reports for people and authorities
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Who accessed a patient's data, when, with which tool, what was viewed, for which purpose; or all that one user's
    /// agents touched
    Access(AccessArgs),
    /// To whom a patient's data was disclosed in the last six years, without treatment, payment and operations
    Disclosures(DisclosuresArgs),
}

#[derive(Debug, Args)]
#[group(id = "subject", required = true, multiple = false, args = ["patient", "user"])]
pub struct AccessArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: Option<String>,
    /// The user, instead of a patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Option<String>,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
pub struct DisclosuresArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: String,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct FormArgs {
    /// From this time on: RFC 3339 or YYYY-MM-DD (UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// How to write it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Mark accesses whose time, which their caller gave, is further than this from the time of recording
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = attestlog::alert::parse_duration)]
    claimed_time_bound: std::time::Duration,
    #[command(flatten)]
    tools: ToolArgs,
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
    let (store, form, subject) = match command {
        ReportCommand::Access(AccessArgs { store, patient: Some(patient), form, .. }) => {
            (store, form, Subject::Patient(patient.clone()))
        }
        ReportCommand::Access(AccessArgs { store, user, form, .. }) => {
            (store, form, Subject::User(user.clone().unwrap_or_default()))
        }
        ReportCommand::Disclosures(DisclosuresArgs { store, patient, form }) => {
            (store, form, Subject::Disclosures(patient.clone()))
        }
    };
    // The period first: whoever mistypes it should not wait for a verification.
    let mut context = asked(form, subject)?;
    context.claimed_time_bound = form.claimed_time_bound;
    let brought = form.trust.read()?;
    let log = store.read()?;
    let options = brought.of(&log)?;
    let of = if matches!(context.subject, Subject::User(_)) { Facet::User } else { Facet::Patient };
    refuse_pattern(&log, of, context.subject.shown())?;
    let verification = verify_with(&log, options, false).map_err(|e| store.name(&e, Failure::Store(e.to_string())))?;
    tell_look_alikes(&log, of, context.subject.shown())?;
    let known = pseudonyms(&log, &context.subject);
    let context = complete(&log, context, known, &verification)?;
    say_unknown(&log, &of_subject(&context.subject))?;
    let mut out = Out::stdout();
    match form.format {
        Format::Text => {
            let report = access(&log, context)?;
            let text = report.to_text(&style(&out));
            out.write_all(text.as_bytes())?;
        }
        Format::Json => out.line(access(&log, context)?.to_json().to_canonical().as_str())?,
        Format::Csv => access(&log, context)?.write_csv(&mut out).map_err(broken_pipe)?,
        Format::Html => out.write_all(access(&log, context)?.to_html().as_bytes())?,
        Format::FhirR4 => fhir(&log, FhirRelease::R4, context, form, &mut out)?,
        Format::FhirR5 => fhir(&log, FhirRelease::R5, context, form, &mut out)?,
    }
    out.flush()?;
    // The report says so itself; a script reads the exit code.
    Ok(if verification.ok() { End::Done } else { End::Found })
}

/// A resource for each row, and for emergency access to the patient as such, which is no row.
fn fhir(log: &AuditLog, release: FhirRelease, context: Context, form: &FormArgs, out: &mut Out) -> Result<(), Failure> {
    let mut options = FhirOptions::default().about(&context);
    options.tools = form.tools.kinds();
    let query = of_subject(&context.subject);
    let with_grants = matches!(context.subject, Subject::Patient(_));
    let period = (context.start.unwrap_or(Timestamp::MIN), context.end.unwrap_or(Timestamp::MAX));
    let rows: BTreeSet<u64> = access(log, context)?.rows().iter().flat_map(|row| row.entries()).collect();
    let mut fhir = FhirWriter::new(out, release, FhirForm::Bundle, options);
    for entry in log.query(&query)?.as_stored() {
        let entry = entry?;
        let at = entry.body.recorded_at;
        if rows.contains(&entry.seq) || with_grants && entry.call().is_none() && period.0 <= at && at < period.1 {
            fhir.write(&entry).map_err(broken_pipe)?;
        }
    }
    Ok(fhir.finish().map_err(broken_pipe)?.line("")?)
}

/// What was asked for; an accounting of disclosures is over six years where nothing else was said.
fn asked(form: &FormArgs, subject: Subject) -> Result<Context, Failure> {
    let now = attestlog::Clock::now(&attestlog::SystemClock::default());
    let six_years = matches!(subject, Subject::Disclosures(_)) && form.since.is_none();
    let context = Context::new(subject).made_at(now);
    Ok(match six_years {
        true => context.six_years_before(form.until.unwrap_or(now)),
        false => context.period(form.since, form.until)?,
    })
}

/// How text looks on this output.
pub fn style(out: &Out) -> TextStyle {
    let width = out.width().unwrap_or(100);
    if out.styles() { TextStyle::colored(width) } else { TextStyle::plain(width) }
}

/// The entries that can belong to a report, whenever they were.
fn of_subject(subject: &Subject) -> Query {
    match subject {
        Subject::User(user) => Query::new().user(user),
        other => Query::new().patient(other.shown()),
    }
}

/// The report. The period decides what comes in, so that a call that began before it and ended in it is told whole.
pub fn access(log: &AuditLog, context: Context) -> attestlog::Result<AccessReport> {
    let query = of_subject(&context.subject);
    let mut builder = AccessReport::builder(context);
    // The report says what the verification of the whole log found.
    for entry in log.query(&query)?.as_stored() {
        builder.add(&entry?);
    }
    Ok(builder.finish())
}

/// Adds what is known of the log behind the report.
pub fn complete(
    log: &AuditLog,
    mut context: Context,
    recorded_as: Vec<String>,
    verification: &Verification,
) -> attestlog::Result<Context> {
    context.recorded_as = recorded_as;
    let unknown = log.unknown_values(&of_subject(&context.subject))?;
    context.unknown = unknown.into_iter().next().map(|value| value.similar);
    context.log = log.public_key().map(|key| key.name().to_owned());
    context.integrity_verified = verification.ok();
    for finding in &verification.findings {
        *context.findings.entry(finding.kind.as_str().to_owned()).or_default() += 1;
    }
    context.anchored = verification.anchored;
    context.anchored_size = verification.anchored_size;
    context.rewritable_from = verification.rewritable_from;
    context.restored = verification.restored.clone();
    (context.users, context.patients) = (log.persons(Facet::User)?, log.persons(Facet::Patient)?);
    context.recorded_without_key = verification.recorded_without_key.clone();
    let grants = log.emergencies()?;
    if let Subject::Patient(patient) = &context.subject {
        let spellings = log.spellings(Facet::Patient, patient)?;
        // A grant names the patient too.
        if grants.iter().any(|state| spellings.contains(&state.grant.patient)) {
            context.unknown = None;
        }
    }
    context = context.emergencies(grants);
    for (purge_seq, classes) in log.purged_since(context.start)? {
        let purged = classes.into_iter().map(|(class, count)| Purged { count, class, purge_seq });
        context.purged.extend(purged);
    }
    Ok(context)
}

/// The pseudonyms under which the store knows the subject; none where it holds the id itself, or without the key.
fn pseudonyms(log: &AuditLog, subject: &Subject) -> Vec<String> {
    let by_user = matches!(subject, Subject::User(_));
    let known = log.spellings(if by_user { Facet::User } else { Facet::Patient }, subject.shown()).unwrap_or_default();
    // The key makes a pseudonym of every id; those that stand in the log are the ones that count.
    let query = |id: &String| if by_user { Query::new().user(id) } else { Query::new().patient(id) };
    let stands = |id: &String| log.count(&query(id).limit(1)).is_ok_and(|n| n > 0);
    known.into_iter().filter(|id| id != subject.shown() && stands(id)).collect()
}

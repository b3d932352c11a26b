//! `report access`: who accessed a patient's data, or what one user's agents accessed; `report disclosures`: the accounting
//! that a patient can ask for.

use super::context::Context;
use super::exit::{Failure, Outcome};
use super::export::{OutFile, ToolArgs, broken_pipe};
use super::filter::{refuse_pattern, say_unknown, tell_look_alikes};
use super::package::{self, PackageArgs};
use super::render::Out;
use super::store::StoreArgs;
use super::verify::verify_with;
use super::verify_args::TrustArgs;
use super::zone::{When, ZoneArgs, when};
use attestlog::files::Writes;
use attestlog::json::Json;
use attestlog::verify::Verification;
use attestlog::{AuditLog, Error, ErrorKind, Facet, Kind, Query};
use attestlog_report::access::{AccessReport, Context as Asked, Purged, Subject, TextStyle, WrongClocks};
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use clap::{Args, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

/// Reports for people and authorities
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Who accessed a patient's data, when, with which tool, what was viewed, for which purpose; or everything that one
    /// user's agents accessed
    Access(AccessArgs),
    /// A folder about one patient for an outside expert, who checks it with a browser or Python and without this program: report,
    /// entries, the proof that none is missing. Signs a checkpoint
    Package(PackageArgs),
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
    /// From this time on: 7d, yesterday, 2026-11, YYYY-MM-DD (UTC without --tz), RFC 3339
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<When>,
    #[command(flatten)]
    zone: ZoneArgs,
    /// The format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write to this file instead of standard output; it is replaced in one step when all of it is written
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Mark accesses whose time, as given by their caller, is further than this from the time of recording
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

pub fn run(cx: &Context, command: &ReportCommand) -> Outcome {
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
        ReportCommand::Package(args) => return package::package(cx, args),
    };
    // The period is checked first: somebody who mistypes it should not wait for a verification.
    let mut context = asked(form, subject)?;
    context.claimed_time_bound = form.claimed_time_bound;
    let brought = form.trust.read(cx)?;
    let log = store.read_knowing(cx, form.trust.public_key())?;
    let options = brought.of(cx, &log)?;
    let began = log.size()?;
    let of = if matches!(context.subject, Subject::User(_)) { Facet::User } else { Facet::Patient };
    refuse_pattern(&log, of, context.subject.shown())?;
    let verification =
        verify_with(cx, &log, options, false).map_err(|e| store.name(&e, Failure::Store(e.to_string())))?;
    tell_look_alikes(cx, &log, of, context.subject.shown())?;
    let known = pseudonyms(&log, &context.subject);
    let context = complete(&log, context, known, &verification, form.trust.gives_kept())?;
    say_unknown(cx, &log, &of_subject(&context.subject))?;
    match form.output.as_deref().filter(|path| path.as_os_str() != "-") {
        None => {
            let mut out = cx.out();
            let style = style(&out);
            write(&log, (context, began), form, &style, &mut out)?;
            out.flush()?;
        }
        Some(path) => {
            let mut file = OutFile::create(path, Writes::Output)?;
            write(&log, (context, began), form, &TextStyle::plain(100), &mut file.out)?;
            file.finish()?;
        }
    }
    // The report states the findings itself; a script reads the exit code.
    Ok(form.trust.verdict(&verification))
}

fn write(
    log: &AuditLog,
    (context, began): (Asked, u64),
    form: &FormArgs,
    style: &TextStyle,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match form.format {
        Format::Text => out.write_all(access_since(log, context, began)?.to_text(style).as_bytes())?,
        Format::Json => writeln!(out, "{}", access_since(log, context, began)?.to_json().to_canonical())?,
        Format::Csv => access_since(log, context, began)?.write_csv(out).map_err(broken_pipe)?,
        Format::Html => out.write_all(access_since(log, context, began)?.to_html().as_bytes())?,
        Format::FhirR4 => fhir(log, FhirRelease::R4, (context, began), form, out)?,
        Format::FhirR5 => fhir(log, FhirRelease::R5, (context, began), form, out)?,
    }
    Ok(())
}

/// Writes a resource for each row, and one for each entry about an emergency grant of the report; such an entry is not a
/// row.
fn fhir(
    log: &AuditLog,
    release: FhirRelease,
    (context, began): (Asked, u64),
    form: &FormArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut options = FhirOptions::default().about(&context);
    options.tools = form.tools.kinds();
    let query = of_subject(&context.subject);
    let report = access(log, context)?;
    let rows: BTreeSet<u64> = report.rows().iter().flat_map(|row| row.entries()).collect();
    let grants: BTreeSet<u64> = report.emergency_grants().map(|state| state.grant.seq).collect();
    let mut fhir = FhirWriter::new(out, release, FhirForm::Bundle, options);
    for entry in log.query(&query)?.as_stored() {
        let entry = entry?;
        if rows.contains(&entry.seq) {
            fhir.write(&entry).map_err(broken_pipe)?;
        }
    }
    let kinds = [Kind::BreakGlassOpened, Kind::BreakGlassClosed, Kind::BreakGlassReviewed];
    for entry in log.query(&kinds.into_iter().fold(Query::new(), Query::kind))?.as_stored() {
        let entry = entry?;
        let of = entry.own().and_then(|own| own.detail.to_json().get("grant").and_then(Json::as_u64));
        if grants.contains(&of.unwrap_or(entry.seq)) {
            fhir.write(&entry).map_err(broken_pipe)?;
        }
    }
    // What was written so far is no whole Bundle.
    check_same_moment(log, began)?;
    Ok(writeln!(fhir.finish().map_err(broken_pipe)?)?)
}

/// Builds the report of which the verification and everything else were read since the log had `began` entries.
fn access_since(log: &AuditLog, context: Asked, began: u64) -> attestlog::Result<AccessReport> {
    let report = access(log, context)?;
    check_same_moment(log, began).map(|()| report)
}

/// Refuses a report of which parts were read before a purge and others after it.
fn check_same_moment(log: &AuditLog, began: u64) -> attestlog::Result<()> {
    let purges = Query::new().kind(Kind::Purge).after(began.saturating_sub(1)).limit(1);
    match log.query(&purges)?.as_stored().next().transpose()? {
        None => Ok(()),
        Some(purge) => Err(Error::new(
            ErrorKind::Busy,
            format!(
                "a purge (entry {}) ran while the report was made, so its parts are not of one moment; make it again",
                purge.seq
            ),
        )),
    }
}

/// The context of the request; an accounting of disclosures covers six years unless a period was given.
fn asked(form: &FormArgs, subject: Subject) -> Result<Asked, Failure> {
    let now = attestlog::host::Clock::now(&attestlog::host::SystemClock::default());
    let moment = |when: Option<When>| when.map(|when| when.moment(now, &form.zone)).transpose();
    let (since, until) = (moment(form.since)?, moment(form.until)?);
    let six_years = matches!(subject, Subject::Disclosures(_)) && since.is_none();
    let mut context = Asked::new(subject).made_at(now);
    context.zone = form.zone.shown();
    Ok(match six_years {
        true => context.six_years_before(until.unwrap_or(now)),
        false => context.period(since, until)?,
    })
}

/// The text style for this output.
pub fn style(out: &Out) -> TextStyle {
    let width = out.width().unwrap_or(100);
    if out.styles() { TextStyle::colored(width) } else { TextStyle::plain(width) }
}

/// The query for the entries that can belong to a report, at any time.
fn of_subject(subject: &Subject) -> Query {
    match subject {
        Subject::User(user) => Query::new().user(user),
        other => Query::new().patient(other.shown()),
    }
}

/// Builds the report. It applies the period itself, so that a call that began before it and ended within it is shown whole.
pub fn access(log: &AuditLog, context: Asked) -> attestlog::Result<AccessReport> {
    let query = of_subject(&context.subject);
    let mut builder = AccessReport::builder(context);
    // The report states what the verification of the whole log found.
    for entry in log.query(&query)?.as_stored() {
        builder.add(&entry?);
    }
    Ok(builder.finish())
}

/// Adds what is known about the log behind the report.
pub fn complete(
    log: &AuditLog,
    mut context: Asked,
    recorded_as: Vec<String>,
    verification: &Verification,
    compared: bool,
) -> attestlog::Result<Asked> {
    context.recorded_as = recorded_as;
    let unknown = log.values().unknown(&of_subject(&context.subject))?;
    // A name that only grants or holds contain is known too.
    let unknown = unknown.into_iter().find(|value| value.named_by.is_empty());
    context.may_have_others = unknown.as_ref().is_some_and(|value| value.may_have_others);
    context.unknown = unknown.map(|value| value.similar);
    let key = log.public_key()?;
    context.log = key.as_ref().map(|key| key.name().to_owned());
    context.public_key = key.map(|key| key.to_string());
    (context.size, context.root) = (Some(verification.size), Some(verification.root));
    context.integrity_verified = verification.ok();
    for finding in &verification.findings {
        *context.findings.entry(finding.kind.as_str().to_owned()).or_default() += 1;
    }
    context.settled = verification.findings.iter().filter(|finding| finding.settled.is_some()).cloned().collect();
    context.unsettled = unsettled_before(log, verification)?;
    context.compared = compared;
    context.anchored = verification.anchored;
    context.anchored_size = verification.anchored_size;
    context.rewritable_from = verification.rewritable_from;
    context.restored = verification.restored.clone();
    (context.users, context.patients) = (log.values().persons(Facet::User)?, log.values().persons(Facet::Patient)?);
    context.recorded_without_key = verification.recorded_without_key.clone();
    context = context.emergencies(log.emergency().grants()?).wrong_clocks(wrong_clocks(log)?);
    for (purge_seq, classes) in log.retention().purged_since(context.start)? {
        let purged = classes.into_iter().map(|(class, count)| Purged { count, class, purge_seq });
        context.purged.extend(purged);
    }
    Ok(context)
}

/// The kinds of what an earlier verification found and nobody has settled, if this one did not find it.
fn unsettled_before(log: &AuditLog, now: &Verification) -> attestlog::Result<Vec<String>> {
    let found = log.verifications().known()?.found;
    let kinds = found.into_iter().flat_map(|found| found.kinds);
    Ok(kinds.filter(|kind| !now.findings.iter().any(|finding| finding.kind.as_str() == kind)).collect())
}

/// The entries that may have been recorded while the system clock was wrong.
fn wrong_clocks(log: &AuditLog) -> attestlog::Result<WrongClocks> {
    let mut clocks = WrongClocks::default();
    let Some(first) = log.query(&Query::new().kind(Kind::Clock).limit(1))?.as_stored().next().transpose()? else {
        return Ok(clocks);
    };
    for entry in log.query(&Query::new().after(first.seq.saturating_sub(2)))?.as_stored() {
        clocks.add(&entry?);
    }
    Ok(clocks)
}

/// The pseudonyms under which the store knows the subject; none if it holds the id itself, or without the key.
pub fn pseudonyms(log: &AuditLog, subject: &Subject) -> Vec<String> {
    let by_user = matches!(subject, Subject::User(_));
    let known =
        log.values().spellings(if by_user { Facet::User } else { Facet::Patient }, subject.shown()).unwrap_or_default();
    // The key can compute a pseudonym for every id; only those that are in the log count.
    let query = |id: &String| if by_user { Query::new().user(id) } else { Query::new().patient(id) };
    let stands = |id: &String| {
        let unknown = log.values().unknown(&query(id));
        unknown.is_ok_and(|unknown| unknown.iter().all(|value| !value.named_by.is_empty()))
    };
    known.into_iter().filter(|id| id != subject.shown() && stands(id)).collect()
}

//! `report package`: what the log has of one patient, for somebody who has nothing but a browser or Python and must not trust
//! whoever hands it over.
//!
//! Everything is made in memory and checked as its reader will check it before anything is written.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::{refuse_pattern, say_unknown, tell_look_alikes};
use super::render::{clean, counted, wrap};
use super::report;
use super::store::StoreArgs;
use super::verify::verify_with;
use super::verify_args::TrustArgs;
use attestlog::files::NewFolder;
use attestlog::folders::{self, PackageClaim};
use attestlog::proof::{CompleteProof, InclusionProof, ShownEntry};
use attestlog::{AuditLog, Entry, ErrorKind, Facet, Neighbours, Timestamp, verifiers};
use attestlog_report::access::{Context as Asked, Subject};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const README: &str = include_str!("package/README.txt");

/// The files of a package by name.
type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Args)]
pub struct PackageArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The folder; must not exist
    dir: PathBuf,
    /// The patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: String,
    /// What was recorded from this time on, by the log's clock: RFC 3339 or YYYY-MM-DD (UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// What was recorded before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Let the proof name neighbours in the index where it has to: other users, patients, conversations and their entries
    #[arg(long)]
    neighbours: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

pub fn package(cx: &Context, args: &PackageArgs) -> Outcome {
    let now = attestlog::host::Clock::now(&attestlog::host::SystemClock::default());
    let asked = Asked::new(Subject::Patient(args.patient.clone())).made_at(now);
    let mut asked = asked.period(args.since, args.until)?;
    asked.by_log_clock = true;
    if args.since.is_some() && args.since == args.until {
        return Err(Failure::Input("the period is empty: --until must be after --since".to_owned()));
    }
    let brought = args.trust.read(cx)?;
    let log = args.store.open_with(cx, args.trust.public_key())?;
    let options = brought.of(cx, &log)?;
    let patient = asked.subject.shown().to_owned();
    refuse_pattern(&log, Facet::Patient, &patient)?;
    tell_look_alikes(cx, &log, Facet::Patient, &patient)?;
    say_unknown(cx, &log, &attestlog::Query::new().patient(&patient))?;
    let neighbours = if args.neighbours { Neighbours::Reveal } else { Neighbours::Withhold };
    let proof = log.proofs().complete(Facet::Patient, &patient, neighbours).map_err(|e| unproven(args, e))?;
    let claim = PackageClaim { patient, since: args.since, until: args.until };
    tell_whose(cx, &proof, &claim)?;
    let verification =
        verify_with(cx, &log, options, false).map_err(|e| args.store.name(&e, Failure::Store(e.to_string())))?;
    let known = report::pseudonyms(&log, &asked.subject);
    let mut asked = report::complete(&log, asked, known, &verification, args.trust.gives_kept())?;
    let head = proof.checkpoint.checkpoint();
    (asked.size, asked.root) = (Some(head.size()), Some(head.root()));
    let html = report::access(&log, asked)?.to_html();
    let files = files(&log, &proof, &claim, html)?;
    let key = log.public_key()?.ok_or_else(|| Failure::Store("the store was made without keys".to_owned()))?;
    // What its reader will do. A purge or a fault in between must not leave a folder that proves nothing.
    let proven = folders::check_package(&files, &key, None)
        .map_err(|e| Failure::Store(format!("the package would not be valid, so nothing was written: {e}")))?;
    write(args, &files)?;
    log.close().map_err(|e| args.store.failed(e))?;
    let mut out = cx.out();
    let entries = counted(proven.entries().len() as u64, "entry", "entries");
    out.line(format!(
        "written to {}: {entries} of {:?}",
        clean(&args.dir.display().to_string()),
        clean(&claim.patient)
    ))?;
    out.line("README.txt there says how its reader checks it: verify.html in a browser, verify.py with Python")?;
    if !proven.holds() {
        out.line(
            "Names in this log are hidden behind pseudonyms. The package proves what it says of these, and not whose they are; \
             `attestlog check --key` confirms that to those who have the key file",
        )?;
    }
    out.line(format!("Tell its reader by another way: the public key {key}"))?;
    let page = attestlog::Hash::of(verifiers::PAGE.as_bytes());
    out.line(format!("and that the SHA-256 of verify.html, as published with this release, is {page}"))?;
    std::io::Write::flush(&mut out)?;
    Ok(match args.trust.verdict(&verification) {
        End::Done => End::Done,
        other => {
            cx.complain("the log's verification found something; report.html says what");
            other
        }
    })
}

fn unproven(args: &PackageArgs, e: attestlog::Error) -> Failure {
    match e.kind() {
        ErrorKind::Conflict if !args.neighbours => Failure::Input(format!("{e}. With --neighbours they are shown")),
        ErrorKind::Conflict => Failure::Store(e.to_string()),
        _ => args.store.name(&e, Failure::from(&e)),
    }
}

/// The entries that a proof shows, read.
fn shown(proof: &CompleteProof) -> attestlog::Result<Vec<(Entry, &ShownEntry)>> {
    proof.entries.iter().map(|shown| Ok((Entry::from_line(&shown.line)?, shown))).collect()
}

/// Whether an entry is one of those that the package is about.
fn concerns(entry: &Entry, proof: &CompleteProof) -> bool {
    entry.call().is_some_and(|call| call.patient_ids.iter().any(|patient| proof.terms.contains(patient)))
}

/// Says whose data the folder will hold, before it is written.
fn tell_whose(cx: &Context, proof: &CompleteProof, claim: &PackageClaim) -> Result<(), Failure> {
    let (mut users, mut others) = (BTreeSet::new(), BTreeSet::new());
    let (mut within, mut outside, mut foreign) = (0, 0, 0);
    for (entry, _) in shown(proof)? {
        let Some(call) = entry.call() else { continue };
        users.insert(call.user_id.clone());
        others.extend(call.patient_ids.iter().filter(|patient| !proof.terms.contains(patient)).cloned());
        match (concerns(&entry, proof), claim.includes(entry.body.recorded_at)) {
            (true, true) => within += 1,
            (true, false) => outside += 1,
            (false, _) => foreign += 1,
        }
    }
    let rows = proof.batches.iter().flat_map(|batch| &batch.rows);
    let named = rows.filter(|row| matches!(&row.term, attestlog::proof::RowTerm::Known { facet: Facet::Patient, term, .. } if !proof.terms.contains(term)));
    let neighbours = named.count() as u64;
    let mut said = format!(
        "the folder will hold {} of the patient with arguments and results as the log has them, and the names of {}",
        counted(within, "entry", "entries"),
        counted(users.len() as u64, "user", "users")
    );
    if outside > 0 {
        said.push_str(&format!(
            "; {} of the same patient outside the period, which the proof takes",
            counted(outside, "entry", "entries")
        ));
    }
    if !others.is_empty() {
        said.push_str(&format!(
            "; {} named in the same calls",
            counted(others.len() as u64, "other patient", "other patients")
        ));
    }
    if foreign > 0 {
        said.push_str(&format!("; {} of other people, which the proof takes", counted(foreign, "entry", "entries")));
    }
    if neighbours > 0 {
        said.push_str(&format!(
            "; {} in the index, as neighbours",
            counted(neighbours, "name of another patient", "names of other patients")
        ));
    }
    for line in wrap(&said, 120) {
        cx.note(line)?;
    }
    Ok(())
}

/// Everything that goes into the folder.
fn files(log: &AuditLog, proof: &CompleteProof, claim: &PackageClaim, html: String) -> Result<Files, Failure> {
    let key = log.public_key()?.map(|key| format!("{key}\n")).unwrap_or_default();
    let mut files = Files::from([
        ("package.json".to_owned(), claim.to_text().into_bytes()),
        ("checkpoint".to_owned(), proof.checkpoint.to_string().into_bytes()),
        ("public-key".to_owned(), key.into_bytes()),
        ("proofs/complete.json".to_owned(), proof.to_string().into_bytes()),
        ("report.html".to_owned(), html.into_bytes()),
        ("verify.html".to_owned(), verifiers::PAGE.into()),
        ("verify.py".to_owned(), verifiers::SCRIPT.into()),
        ("README.txt".to_owned(), README.into()),
    ]);
    let mut lines = Vec::new();
    for (entry, ShownEntry { line, path }) in shown(proof)? {
        if !concerns(&entry, proof) || !claim.includes(entry.body.recorded_at) {
            continue;
        }
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
        let (seq, line, path) = (entry.seq, line.clone().into_bytes(), path.clone());
        let one = InclusionProof { seq, line, path, checkpoint: proof.checkpoint.clone() };
        files.insert(folders::inclusion_name(seq), one.to_string().into_bytes());
    }
    files.insert("entries.jsonl".to_owned(), lines);
    let size = proof.checkpoint.checkpoint().size();
    let attested = log.anchors().attestations()?;
    let attested = attested.into_iter().filter(|(_, record)| record.checkpoint.checkpoint().size() <= size);
    for (number, (anchor, record)) in attested.enumerate() {
        // An anchor's name may be an address or a path, so it stands in the file and not in the file's name.
        let name = format!("attestations/{number}-of-{}-entries", record.checkpoint.checkpoint().size());
        files.insert(format!("{name}.anchor"), format!("{anchor}\n").into_bytes());
        files.insert(format!("{name}.checkpoint"), record.checkpoint.to_string().into_bytes());
        if let Some(token) = record.token {
            files.insert(format!("{name}.checkpoint.tsr"), token);
        }
    }
    Ok(files)
}

fn write(args: &PackageArgs, files: &Files) -> Result<(), Failure> {
    let fault = |e: attestlog::Error| match e.kind() {
        ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::NotFound => Failure::Input(e.to_string()),
        _ => Failure::Store(e.to_string()),
    };
    let dir = std::path::absolute(&args.dir).map_err(|e| Failure::file(&args.dir, &e))?;
    let mut folder = NewFolder::new(&dir).map_err(fault)?;
    for name in ["proofs", "attestations"] {
        folder.folder(name).map_err(fault)?;
    }
    for (name, bytes) in files {
        folder.write(name, |out| Ok(out.write_all(bytes)?)).map_err(fault)?;
    }
    folder.put_in_place().map_err(fault)
}

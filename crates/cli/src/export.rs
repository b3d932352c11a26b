//! `export`: writes entries for other programs.

use super::context::Context;
use super::exit::{Failure, Outcome};
use super::filter::Filters;
use super::progress::Unit;
use super::store::{StoreArgs, damage_json, say_found};
use super::withheld::{self, Withheld};
use attestlog::files::{self, Writes};
use attestlog::{AuditLog, Entry, ErrorKind, Query};
use attestlog_report::csv::CsvWriter;
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use attestlog_report::ocsf::{OcsfOptions, OcsfWriter};
use attestlog_report::{ToolKind, ToolKinds};
use clap::{Args, ValueEnum};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write entries for other programs
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    filters: Filters,
    /// FHIR as one resource per line instead of a Bundle
    #[arg(long)]
    ndjson: bool,
    #[command(flatten)]
    tools: ToolArgs,
    /// Write to this file instead of standard output; it is replaced in one step when all of it is written
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What kind of thing tools do, for FHIR and OCSF.
#[derive(Debug, Default, Args)]
pub struct ToolArgs {
    /// What a tool does, if its name does not tell: NAME=read, query, create, update, delete or execute; NAME may begin or
    /// end with `*`
    #[arg(long = "tool-kind", value_name = "NAME=KIND", value_parser = tool_kind)]
    kinds: Vec<(String, ToolKind)>,
}

fn tool_kind(text: &str) -> Result<(String, ToolKind), String> {
    let (name, kind) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=KIND")?;
    let kind = match kind {
        "read" => ToolKind::Read,
        "query" => ToolKind::Query,
        "create" => ToolKind::Create,
        "update" => ToolKind::Update,
        "delete" => ToolKind::Delete,
        "execute" => ToolKind::Execute,
        _ => return Err("the kind is read, query, create, update, delete or execute".to_owned()),
    };
    Ok((name.to_owned(), kind))
}

impl ToolArgs {
    /// Whether any kind was given.
    fn is_given(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Guesses from the tools' names, overridden by the given kinds.
    pub fn kinds(&self) -> ToolKinds {
        let mut kinds = ToolKinds::default();
        self.kinds.iter().for_each(|(name, kind)| kinds.set(name, *kind));
        kinds
    }
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Canonical lines, byte for byte what was hashed
    Jsonl,
    /// A table; nothing in it is run by a spreadsheet
    Csv,
    /// A Bundle of FHIR R4 AuditEvents
    FhirR4,
    /// A Bundle of FHIR R5 AuditEvents
    FhirR5,
    /// OCSF API Activity events, one per line
    Ocsf,
}

/// Refuses options that the format does not have.
fn check(args: &ExportArgs) -> Result<(), Failure> {
    let fhir = matches!(args.format, Format::FhirR4 | Format::FhirR5);
    let wrong = match () {
        () if args.ndjson && !fhir => "--ndjson: only FHIR is written as a Bundle or as lines",
        () if args.tools.is_given() && !fhir && args.format != Format::Ocsf => {
            "--tool-kind: only FHIR and OCSF say what kind of action a call is"
        }
        () => return Ok(()),
    };
    Err(Failure::Input(wrong.to_owned()))
}

pub fn run(cx: &Context, args: &ExportArgs) -> Outcome {
    check(args)?;
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let query = args.filters.query(cx, &log)?;
    let mut withheld = Withheld::new(cx);
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        None => {
            let mut out = cx.out();
            write(cx, &log, &query, args, &mut out, &mut withheld).map_err(broken_pipe)?;
            out.flush()?;
        }
        Some(path) => {
            let mut file = OutFile::create(path, Writes::Output)?;
            let done = write(cx, &log, &query, args, &mut file.out, &mut withheld);
            done.map_err(|e| Failure::from(e).at(path.display()))?;
            file.finish()?;
        }
    }
    withheld.end()
}

fn write(
    cx: &Context,
    log: &AuditLog,
    query: &Query,
    args: &ExportArgs,
    out: &mut impl Write,
    withheld: &mut Withheld,
) -> attestlog::Result<()> {
    if let Some(damage) = damage_json(log)?.filter(|_| args.format == Format::Jsonl) {
        writeln!(out, "{}", damage.to_canonical().as_str())?;
    }
    match args.format {
        Format::Jsonl => each(cx, log, query, |entry| {
            let line = withheld.take(entry)?.map_or_else(|e| withheld::line(&e), |entry| entry.line());
            out.write_all(line.as_bytes())?;
            Ok(out.write_all(b"\n")?)
        }),
        Format::Csv => {
            let mut csv = CsvWriter::new(out)?;
            each(cx, log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| csv.write(&entry)))?;
            csv.finish().map(|_| ())
        }
        Format::FhirR4 | Format::FhirR5 => {
            let release = if args.format == Format::FhirR4 { FhirRelease::R4 } else { FhirRelease::R5 };
            let form = if args.ndjson { FhirForm::Ndjson } else { FhirForm::Bundle };
            let mut options = FhirOptions::default();
            options.tools = args.tools.kinds();
            let mut fhir = FhirWriter::new(&mut *out, release, form, options);
            each(cx, log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| fhir.write(&entry)))?;
            let out = fhir.finish()?;
            // A Bundle does not end with a newline of its own.
            if !args.ndjson {
                out.write_all(b"\n")?;
            }
            Ok(())
        }
        Format::Ocsf => {
            let mut options = OcsfOptions::default();
            options.tools = args.tools.kinds();
            let mut ocsf = OcsfWriter::new(out, options);
            each(cx, log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| ocsf.write(&entry)))?;
            ocsf.finish().map(|_| ())
        }
    }
}

fn each(
    cx: &Context,
    log: &AuditLog,
    query: &Query,
    mut take: impl FnMut(attestlog::Result<Entry>) -> attestlog::Result<()>,
) -> attestlog::Result<()> {
    let progress = cx.progress("exporting", Unit::Entries);
    let size = log.size()?;
    for entry in log.query(query)? {
        let at = entry.as_ref().ok().map(|entry| entry.seq);
        take(entry)?;
        at.into_iter().for_each(|at| progress.at(at, size));
    }
    Ok(())
}

/// Recognises a closed output in an error of the library's writers: a reader that has gone is not an error.
pub fn broken_pipe(e: attestlog::Error) -> Failure {
    let io = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe) => Failure::Pipe,
        // Only writing needs room.
        _ if e.kind() == ErrorKind::DiskFull => Failure::from(e).at("standard output"),
        _ => e.into(),
    }
}

/// A file that appears under its name only when it is completely written. Only its owner can read it, because it holds what
/// the log holds.
#[derive(Debug)]
pub struct OutFile {
    /// Where to write.
    pub out: BufWriter<File>,
    path: PathBuf,
    /// The temporary name; `None` if the target is not a regular file (a pipe, a device) and is written directly.
    part: Option<PathBuf>,
    writes: Writes,
}

impl OutFile {
    /// Creates a file for `path`, unless that is kept for a store (R98).
    pub fn create(path: &Path, writes: Writes) -> Result<OutFile, Failure> {
        if let Ok(about) = std::fs::metadata(path) {
            if about.is_dir() {
                return Err(Failure::Input(format!("{}: is a directory", path.display())));
            }
            if !about.is_file() {
                let file = OpenOptions::new().write(true).open(path).map_err(|e| Failure::file(path, &e))?;
                return Ok(OutFile { out: BufWriter::new(file), path: path.to_owned(), part: None, writes });
            }
        }
        files::check(path, writes).map_err(|e| Failure::Input(e.to_string()))?;
        let part = files::beside(path, &format!("part-{}", std::process::id()));
        let file = files::create(&part, writes).map_err(|e| Failure::Input(e.to_string()))?;
        Ok(OutFile { out: BufWriter::with_capacity(1 << 16, file), path: path.to_owned(), part: Some(part), writes })
    }

    /// Moves the file into place.
    pub fn finish(mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let fault = |e: io::Error| Failure::Store(format!("{}: {e}", path.display()));
        self.out.flush().map_err(fault)?;
        if let Some(part) = &self.part {
            self.out.get_ref().sync_all().map_err(fault)?;
            files::put_in_place(part, &self.path, self.writes).map_err(|e| Failure::Store(e.to_string()))?;
            self.part = None;
        }
        Ok(())
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // An unfinished file is useless, and as sensitive as the log.
            let _ = std::fs::remove_file(part);
        }
    }
}

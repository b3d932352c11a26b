//! `export`: entries for other programs.

use super::exit::{Failure, Outcome};
use super::filter::Filters;
use super::progress::{Progress, Unit};
use super::render::Out;
use super::store::{StoreArgs, damage_json, say_found};
use super::withheld::{self, Withheld};
use attestlog::{AuditLog, Entry, Query};
use attestlog_report::csv::CsvWriter;
use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
use attestlog_report::ocsf::{OcsfOptions, OcsfWriter};
use attestlog_report::{ToolKind, ToolKinds};
use clap::{Args, ValueEnum};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
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
    /// FHIR as one resource a line instead of a Bundle
    #[arg(long)]
    ndjson: bool,
    #[command(flatten)]
    tools: ToolArgs,
    /// Write to this file instead of standard output; it is replaced in one step when all of it is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What tools do, for FHIR and OCSF.
#[derive(Debug, Default, Args)]
pub struct ToolArgs {
    /// What a tool does, where its name does not say it: NAME=read, query, create, update, delete or execute; NAME may begin
    /// or end with `*`
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
    /// Guesses by name, with what was said.
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

pub fn run(args: &ExportArgs) -> Outcome {
    let log = args.store.read()?;
    say_found(&log);
    let query = args.filters.query(&log)?;
    let mut withheld = Withheld::default();
    match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        None => {
            let mut out = Out::stdout();
            write(&log, &query, args, &mut out, &mut withheld).map_err(broken_pipe)?;
            out.flush()?;
        }
        Some(path) => {
            let mut file = OutFile::create(path, &[&args.store.store, &args.store.key.path(&args.store.store)])?;
            let done = write(&log, &query, args, &mut file.out, &mut withheld);
            done.map_err(|e| Failure::from(e).at(path.display()))?;
            file.finish()?;
        }
    }
    withheld.end()
}

fn write(
    log: &AuditLog,
    query: &Query,
    args: &ExportArgs,
    out: &mut impl Write,
    withheld: &mut Withheld,
) -> attestlog::Result<()> {
    if let Some(damage) = damage_json(log).filter(|_| args.format == Format::Jsonl) {
        writeln!(out, "{}", damage.to_canonical().as_str())?;
    }
    match args.format {
        Format::Jsonl => each(log, query, |entry| {
            let line = withheld.take(entry)?.map_or_else(|e| withheld::line(&e), |entry| entry.line());
            out.write_all(line.as_bytes())?;
            Ok(out.write_all(b"\n")?)
        }),
        Format::Csv => {
            let mut csv = CsvWriter::new(out)?;
            each(log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| csv.write(&entry)))?;
            csv.finish().map(|_| ())
        }
        Format::FhirR4 | Format::FhirR5 => {
            let release = if args.format == Format::FhirR4 { FhirRelease::R4 } else { FhirRelease::R5 };
            let form = if args.ndjson { FhirForm::Ndjson } else { FhirForm::Bundle };
            let mut options = FhirOptions::default();
            options.tools = args.tools.kinds();
            let mut fhir = FhirWriter::new(&mut *out, release, form, options);
            each(log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| fhir.write(&entry)))?;
            let out = fhir.finish()?;
            // A Bundle has no end of line of its own.
            if !args.ndjson {
                out.write_all(b"\n")?;
            }
            Ok(())
        }
        Format::Ocsf => {
            let mut options = OcsfOptions::default();
            options.tools = args.tools.kinds();
            let mut ocsf = OcsfWriter::new(out, options);
            each(log, query, |entry| withheld.take(entry)?.map_or(Ok(()), |entry| ocsf.write(&entry)))?;
            ocsf.finish().map(|_| ())
        }
    }
}

fn each(
    log: &AuditLog,
    query: &Query,
    mut take: impl FnMut(attestlog::Result<Entry>) -> attestlog::Result<()>,
) -> attestlog::Result<()> {
    let progress = Progress::new("exporting", Unit::Entries);
    let size = log.size();
    for entry in log.query(query)? {
        let at = entry.as_ref().ok().map(|entry| entry.seq);
        take(entry)?;
        at.into_iter().for_each(|at| progress.at(at, size));
    }
    Ok(())
}

/// The library's writers wrap what the output answers; a reader who has gone is still no error.
pub fn broken_pipe(e: attestlog::Error) -> Failure {
    let io = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe) => Failure::Pipe,
        _ => e.into(),
    }
}

/// A file that appears under its name when all of it is written, readable by its owner only: it holds what the log
/// holds.
#[derive(Debug)]
pub struct OutFile {
    /// Where to write.
    pub out: BufWriter<File>,
    path: PathBuf,
    /// The name until then; `None` where the target is no regular file (a pipe, a device) and is written directly.
    part: Option<PathBuf>,
}

/// What redb's files begin with.
const STORE_MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

impl OutFile {
    /// A file at `path`, which must not be one of `precious`, nor any store.
    pub fn create(path: &Path, precious: &[&Path]) -> Result<OutFile, Failure> {
        let fault = |e: io::Error| Failure::file(path, &e);
        if let Ok(about) = std::fs::metadata(path) {
            if about.is_dir() {
                return Err(Failure::Input(format!("{}: is a directory", path.display())));
            }
            if !about.is_file() {
                let file = OpenOptions::new().write(true).open(path).map_err(fault)?;
                return Ok(OutFile { out: BufWriter::new(file), path: path.to_owned(), part: None });
            }
            let same = |other: &&Path| match (path.canonicalize(), other.canonicalize()) {
                (Ok(a), Ok(b)) => a == b,
                _ => false,
            };
            if precious.iter().any(same) || is_store(path) {
                return Err(Failure::Input(format!("{}: is a store or its key; choose another name", path.display())));
            }
        }
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&part).map_err(fault)?;
        Ok(OutFile { out: BufWriter::with_capacity(1 << 16, file), path: path.to_owned(), part: Some(part) })
    }

    /// Puts the file in its place.
    pub fn finish(mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let fault = |e: io::Error| Failure::Store(format!("{}: {e}", path.display()));
        self.out.flush().map_err(fault)?;
        if let Some(part) = &self.part {
            self.out.get_ref().sync_all().map_err(fault)?;
            std::fs::rename(part, &self.path).map_err(fault)?;
            self.part = None;
        }
        Ok(())
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // What could not be finished is of no use to anybody, and it is as sensitive as the log.
            let _ = std::fs::remove_file(part);
        }
    }
}

fn is_store(path: &Path) -> bool {
    let mut start = [0; STORE_MAGIC.len()];
    File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == STORE_MAGIC
}

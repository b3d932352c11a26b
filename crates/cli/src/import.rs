//! `import`: records what other programs recorded. `files` finds the files, `sum` counts and says what became of them.
//!
//! Invariant: every file is tried; anything in the files that is not in the log afterwards is reported, and the exit code
//! says so.

pub mod files;
mod opencode_db;
mod sum;

use super::context::Context;
use super::ending::Ending;
use super::exit::{End, Failure, Outcome};
use super::progress::Unit;
use super::render::{Out, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::AuditLog;
use attestlog::json::Json;
use attestlog::note::VerifierKey;
use attestlog_capture::import::{self, Format, ImportOptions, Stopped};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use sum::Sum;

/// Record transcripts of other programs
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The format of the files; `auto` finds out
    #[arg(long, value_parser = format_parser(), default_value = "auto")]
    format: Format,
    /// Sessions, transcripts and traces, also packed (.gz, .zst, .eval); folders with all that is in them; `-` is standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// Who started the calls, instead of what the file says
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Option<String>,
    /// The model that decided on the calls, instead of what the file says
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    model: Option<String>,
    /// The conversation that all the calls belong to, instead of what the file says
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    conversation: Option<String>,
    /// Take times without a zone as UTC; otherwise such a file is not imported
    #[arg(long)]
    assume_utc: bool,
    /// Record calls again that are in the log already
    #[arg(long)]
    again: bool,
    /// Continue after a file that cannot be imported (this is always done)
    #[arg(long, hide = true)]
    keep_going: bool,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a
    /// process that does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = super::verify_args::log_key, help_heading = "Keys")]
    public_key: Option<VerifierKey>,
    /// Print what was imported as JSON, one object for all files
    #[arg(long)]
    json: bool,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.iter().map(|f| f.as_str()));
    names.try_map(|name| Format::from_name(&name).ok_or("is none of them"))
}

pub fn run(cx: &Context, args: &ImportArgs) -> Outcome {
    let mut options = ImportOptions::new().assume_utc(args.assume_utc);
    options.user = args.user.clone();
    options.model = args.model.clone();
    options.conversation = args.conversation.clone();
    // A recording raises no alerts, but rules count it as history: who has accessed whose data, and how much is usual. The
    // process that owns the store runs the rules.
    let store = args.store.key.options(cx)?;
    let log = args.store.join(cx, store, Alerts::Raised { taken: args.json }, args.public_key.as_ref())?;
    let so_far = Arc::new(Mutex::new(SoFar::default()));
    let (told, until) = (cx.clone(), so_far.clone());
    let ending = Ending::watch(&log, move || told.complain(until.lock().unwrap_or_else(PoisonError::into_inner)))?;
    let options = options.policy(&log.retention().policies().map_err(|e| args.store.failed(e))?.redaction);
    let mut all =
        All { cx, args, log: &log, options, out: cx.out(), sum: Sum::default(), refused: Vec::new(), so_far: &so_far };
    let imported = all.files();
    ending.wait_if_told();
    let closed = log.close().map_err(|e| args.store.failed(e));
    let end = imported?;
    closed?;
    Ok(end)
}

/// How far the import is, for the thread that ends the process on a signal.
#[derive(Debug, Default)]
struct SoFar {
    /// The files that were imported, and their new calls.
    files: usize,
    recorded: usize,
    /// The file that is being imported: its name, how many of its calls are in the log, and how many it has.
    now: Option<(String, usize, usize)>,
}

impl fmt::Display for SoFar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = counted(self.files as u64, "file", "files");
        let calls = counted(self.recorded as u64, "new call", "new calls");
        write!(f, "ended by a signal, after {files} with {calls}")?;
        if let Some((file, done, all)) = &self.now {
            let all = counted(*all as u64, "call", "calls");
            write!(f, "; of {file}, {done} of {all} were dealt with, the others not yet looked at")?;
        }
        f.write_str("; import the same files again: what is in the log already is not recorded again")
    }
}

struct All<'a> {
    cx: &'a Context,
    args: &'a ImportArgs,
    log: &'a AuditLog,
    options: ImportOptions,
    out: Out,
    sum: Sum,
    /// Files from which nothing was imported.
    refused: Vec<String>,
    so_far: &'a Mutex<SoFar>,
}

impl All<'_> {
    fn files(&mut self) -> Outcome {
        let args = self.args;
        let (files, unread) = files::find(&args.files);
        for (path, why) in unread {
            self.cx.complain(&why);
            self.refuse(&path, why);
        }
        let mut stopped = None;
        for (at, file) in files.iter().enumerate() {
            match self.file(file) {
                Ok(()) => {}
                // This file is at fault; the others are still imported.
                Err(Failure::Input(why)) if files.len() > 1 => {
                    self.cx.complain(&why);
                    self.refuse(&file.path, why);
                }
                Err(Failure::Input(why)) => {
                    self.refuse(&file.path, why.clone());
                    stopped = Some(Failure::Input(why));
                }
                Err(other) => {
                    for left in files.iter().skip(at + 1) {
                        self.not_tried(&left.path);
                    }
                    stopped = Some(other);
                    break;
                }
            }
        }
        let count = files.len();
        if args.json {
            self.out.line(Json::from(self.sum.json(count)).to_canonical().as_str())?;
            self.out.flush()?;
        }
        if let Some(failure) = stopped {
            return Err(failure);
        }
        match (self.refused.len(), self.sum.not_taken.len()) {
            (0, 0) => Ok(End::Done),
            (0, _) => Ok(End::Found),
            (refused, _) => {
                let of = counted(count.max(refused) as u64, "file", "files");
                let was = if refused == 1 { "was" } else { "were" };
                Err(Failure::Input(format!("{refused} of {of} {was} not imported: {}", self.refused.join(", "))))
            }
        }
    }

    fn refuse(&mut self, path: &Path, why: String) {
        let file = path.display().to_string();
        self.sum.not_taken.push((file.clone(), "file", "the file".to_owned(), why));
        self.refused.push(file);
    }

    /// Reports a file that comes after the one at which the store failed.
    fn not_tried(&mut self, path: &Path) {
        let (file, why) = (path.display().to_string(), "the store failed before this file was read");
        self.cx.complain(format!("{file}: {why}; it was not imported"));
        self.sum.not_taken.push((file, "file", "the file".to_owned(), why.to_owned()));
    }

    /// Imports one file.
    fn file(&mut self, found: &files::Found) -> Result<(), Failure> {
        let (path, name) = (&found.path, found.name());
        let text = found.read(self.cx, self.options.max_bytes)?;
        let options = match found.beside() {
            Some(beside) => self.options.clone().beside(&beside),
            None => self.options.clone(),
        };
        let imported = import::calls(self.args.format, &text, &options).map_err(|e| Failure::from(e).at(&name))?;
        if imported.format == Format::Auto && imported.not_taken.is_empty() {
            let why = format!(
                "{name}: is no session, transcript or trace that is known here, and nothing in it looks like a tool's call"
            );
            // Folders of agents also have settings and the like.
            if !found.in_folder {
                return Err(Failure::Input(why));
            }
            self.cx.complain(format!("{why}; left out"));
        }
        drop(text);
        let file = path.display().to_string();
        let (by_order, mut sum) = (imported.by_order, Sum::default());
        self.sum.of_format(imported.format);
        sum.totals.add(&imported);
        self.sum.totals.add(&imported);
        let mut not_taken = imported.not_taken.clone();
        let (hint, format) = (imported.looks_like.clone(), imported.format);
        let progress = self.cx.progress("importing", Unit::Entries);
        let all = imported.calls.len() as u64;
        let so_far = || self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far().now = Some((name.to_string(), 0, imported.calls.len()));
        let recorded = import::record(self.log, imported, self.args.again, |done| {
            progress.at(done as u64, all);
            so_far().now.iter_mut().for_each(|(_, there, _)| *there = done);
        });
        drop(progress);
        let (recorded, failed) = match recorded {
            Ok(recorded) => (recorded, None),
            Err(Stopped { recorded, error, .. }) => (*recorded, Some(error)),
        };
        {
            let mut so_far = so_far();
            so_far.files += 1;
            so_far.recorded += recorded.receipts.len();
            so_far.now = None;
        }
        not_taken.extend(recorded.not_taken.iter().cloned());
        for sum in [&mut sum, &mut self.sum] {
            sum.by_order += by_order;
            sum.add(&file, &recorded, &not_taken);
        }
        if !self.args.json {
            let stopped = failed.as_ref().map_or(String::new(), |_| sum.stopped());
            self.out.line(sum.line(&file, failed.is_some()) + &stopped)?;
        }
        self.out.flush()?;
        sum.complain(self.cx, &file, format, hint.as_deref());
        match failed {
            None => Ok(()),
            // No call is at fault, so all that was to be recorded after this is missing, whatever the kind.
            Some(e) => Err(self.args.store.name(&e, Failure::Store(format!("{name}: {e}")))),
        }
    }
}

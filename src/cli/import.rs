//! `import`: records what other programs recorded.

use super::exit::{End, Failure, Outcome, complain, is_input};
use super::lines::Source;
use super::progress::{Progress, Unit};
use super::render::{Out, clean, count, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::capture::import::{self, Format, ImportOptions, Tally, Unmatched};
use attestlog::json::{Json, Object};
use attestlog::owner::Joint;
use attestlog::{Error, Receipt};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many calls share a commit at most. A file of no more goes in whole or not at all.
const BATCH: usize = 10_000;
/// How many answers without a call are named one by one.
const NAMED: usize = 10;

/// Record transcripts of other programs
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// What wrote the files
    #[arg(long, value_parser = format_parser())]
    format: Format,
    /// Transcripts; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Who started the calls, instead of what the file says
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    user: Option<String>,
    /// The model that decided on the calls
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    model: Option<String>,
    /// The conversation that all the calls belong to
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    conversation: Option<String>,
    /// Record although the store's key file is missing; the log says so, and what is recorded is not signed
    #[arg(long)]
    unsigned: bool,
    /// Print what was imported as JSON, one object per file
    #[arg(long)]
    json: bool,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.iter().map(|f| f.as_str()));
    names.try_map(|name| Format::from_name(&name).ok_or("is none of them"))
}

pub fn run(args: &ImportArgs) -> Outcome {
    let mut options = ImportOptions::new();
    options.user = args.user.clone();
    options.model = args.model.clone();
    options.conversation = args.conversation.clone();
    // A recording raises nothing, but rules remember it: who was seen with whom, and how much is usual. The process that
    // owns the store lets them look.
    let log =
        args.store.join(args.store.key.options()?.unsigned(args.unsigned), Alerts::Raised { taken: args.json })?;
    let mut out = Out::stdout();
    let imported = all(args, &log, &options, &mut out);
    let closed = log.close().map_err(|e| args.store.name(e.into()));
    imported?;
    closed?;
    Ok(End::Done)
}

fn all(args: &ImportArgs, log: &Joint, options: &ImportOptions, out: &mut Out) -> Result<(), Failure> {
    for (i, path) in args.files.iter().enumerate() {
        let done = file(log, args.format, path, options).map_err(|failure| match (failure, i) {
            (Failure::Input(m), 0) => Failure::Input(m),
            (Failure::Input(m), n) => Failure::Input(format!(
                "{m} ({} before this one recorded)",
                counted(n as u64, "file was", "files were")
            )),
            (other, _) => args.store.name(other),
        })?;
        report(out, path, &done, args.json)?;
    }
    Ok(())
}

/// A file that is in the store.
struct Done {
    tally: Tally,
    unmatched: Vec<Unmatched>,
    first: Option<Receipt>,
    last: Option<Receipt>,
}

/// Records one file.
fn file(log: &Joint, format: Format, path: &Path, options: &ImportOptions) -> Result<Done, Failure> {
    let source = Source::open(Some(path))?;
    let name = source.name.clone();
    let bytes = source.read_all(options.max_bytes as u64)?;
    let imported = import::calls(format, &bytes, options).map_err(|e| Failure::from(e).at(&name))?;
    drop(bytes);
    let tally = imported.tally();
    let progress = Progress::new("importing", Unit::Entries);
    let mut done = Done { tally, unmatched: imported.unmatched, first: None, last: None };
    let (mut calls, mut recorded) = (imported.calls.into_iter(), 0);
    loop {
        let batch: Vec<_> = calls.by_ref().take(BATCH).collect();
        let receipts = log.record_batch(batch).map_err(|e| refused(&e, &name, &imported.places, recorded))?;
        let Some(last) = receipts.last() else { return Ok(done) };
        done.first = done.first.or(receipts.first().copied());
        done.last = Some(*last);
        recorded += receipts.len();
        progress.at(recorded as u64, tally.calls as u64);
    }
}

/// A batch's error names the call by its place in the batch; the user wants its place in the file.
fn refused(e: &Error, name: &str, places: &[String], done: usize) -> Failure {
    let message = e.to_string();
    let found = message.strip_prefix("call ").and_then(|rest| rest.split_once(": "));
    let place = found.and_then(|(i, what)| Some((places.get(done + i.parse::<usize>().ok()?)?, what)));
    let before = if done > 0 { format!(" ({done} calls before it were recorded)") } else { String::new() };
    let message = match place {
        Some((place, what)) => format!("{name}: {place}: {what}{before}"),
        None => format!("{name}: {message}{before}"),
    };
    if is_input(e.kind()) { Failure::Input(message) } else { Failure::Store(message) }
}

/// Says what was imported, and what of the file could not be.
fn report(out: &mut Out, path: &Path, done: &Done, json: bool) -> Result<(), Failure> {
    let Done { tally, unmatched, first, last } = done;
    let file = path.display().to_string();
    if json {
        let number = |n: usize| Json::from(n as u64);
        let seq = |receipt: &Option<Receipt>| Json::from(receipt.map(|r| r.seq));
        let object = Object::from_iter([
            ("file", Json::from(file.as_str())),
            ("calls", number(tally.calls)),
            ("conversations", number(tally.conversations + tally.without_calls)),
            ("without_calls", number(tally.without_calls)),
            ("users", number(tally.users)),
            ("tools", number(tally.tools)),
            ("failures", number(tally.failures)),
            ("abandoned", number(tally.abandoned)),
            ("unmatched", number(unmatched.len())),
            ("first_seq", seq(first)),
            ("last_seq", seq(last)),
        ]);
        out.line(Json::from(object).to_canonical().as_str())?;
    } else {
        let figure = |n: usize, one, many| counted(n as u64, one, many);
        let without = match tally.without_calls {
            0 => String::new(),
            n => format!(" ({} without a call)", count(n as u64)),
        };
        let mut line = format!(
            "{}: {} in {}{without} by {} with {}, {}",
            clean(&file),
            figure(tally.calls, "call", "calls"),
            figure(tally.conversations + tally.without_calls, "conversation", "conversations"),
            figure(tally.users, "user", "users"),
            figure(tally.tools, "tool", "tools"),
            figure(tally.failures, "failure", "failures"),
        );
        if tally.abandoned > 0 {
            line += &format!(", {} never answered", count(tally.abandoned as u64));
        }
        out.line(line)?;
    }
    out.flush()?;
    for one in unmatched.iter().take(NAMED) {
        complain(format!("{file}: {one}; an answer without a call is no call, and was not recorded"));
    }
    if unmatched.len() > NAMED {
        complain(format!("{file}: {} more answers without a call were not recorded", unmatched.len() - NAMED));
    }
    Ok(())
}

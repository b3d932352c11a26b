//! `import`: records what other programs recorded.
//!
//! Invariant: every file is tried; what of them is not in the log afterwards is named, and the exit code says that there
//! was something.

use super::ending::Ending;
use super::exit::{End, Failure, Outcome, complain};
use super::line_reader::Source;
use super::progress::{Progress, Unit};
use super::render::{Out, clean, count, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::json::{Json, Object};
use attestlog::note::VerifierKey;
use attestlog::owner::SharedStore;
use attestlog_capture::import::{self, Format, ImportOptions, NotTaken, Recorded, Totals};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many of the things that were not taken from a file are named one by one; JSON names all.
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
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Option<String>,
    /// The model that decided on the calls
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    model: Option<String>,
    /// The conversation that all the calls belong to
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    conversation: Option<String>,
    /// Record although the store's key file is missing; the log says so, and what is recorded is not signed
    #[arg(long)]
    unsigned: bool,
    /// Take times that have no zone as UTC; else such a file is not imported
    #[arg(long)]
    assume_utc: bool,
    /// Record also what is in the log already
    #[arg(long)]
    again: bool,
    /// Go on after a file that cannot be imported, as is always done
    #[arg(long, hide = true)]
    keep_going: bool,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a process that
    /// does not prove that it has the secret half
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

pub fn run(args: &ImportArgs) -> Outcome {
    let mut options = ImportOptions::new().assume_utc(args.assume_utc);
    options.user = args.user.clone();
    options.model = args.model.clone();
    options.conversation = args.conversation.clone();
    // A recording raises nothing, but rules remember it: who was seen with whom, and how much is usual. The process that
    // owns the store lets them look.
    let store = args.store.key.options()?.unsigned(args.unsigned);
    let log = args.store.join(store, Alerts::Raised { taken: args.json }, args.public_key.as_ref())?;
    let ending = Ending::watch(&log)?;
    let mut all = All { args, log: &log, options, out: Out::stdout(), sum: Sum::default(), refused: Vec::new() };
    let imported = all.files();
    ending.wait_if_told();
    let closed = log.close().map_err(|e| args.store.failed(e));
    let end = imported?;
    closed?;
    Ok(end)
}

/// What came of one file, or of all.
#[derive(Default)]
struct Sum {
    totals: Totals,
    recorded: usize,
    answers: usize,
    already_there: usize,
    /// Examples of those.
    seqs: Vec<u64>,
    first: Option<u64>,
    last: Option<u64>,
    by_order: usize,
    by_beginning: usize,
    unmatched: usize,
    /// With the file's name.
    not_taken: Vec<(String, &'static str, String, String)>,
}

struct All<'a> {
    args: &'a ImportArgs,
    log: &'a SharedStore,
    options: ImportOptions,
    out: Out,
    sum: Sum,
    /// Files of which nothing was imported.
    refused: Vec<String>,
}

impl All<'_> {
    fn files(&mut self) -> Outcome {
        let args = self.args;
        let mut stopped = None;
        for path in &args.files {
            match self.file(path) {
                Ok(()) => {}
                // The file is at fault, and no other file for it.
                Err(Failure::Input(why)) if args.files.len() > 1 => {
                    complain(&why);
                    self.refuse(path, why);
                }
                Err(other) => {
                    if let Failure::Input(why) = &other {
                        self.refuse(path, why.clone());
                    }
                    stopped = Some(other);
                    break;
                }
            }
        }
        if args.json {
            self.out.line(Json::from(self.sum.json(args.format, args.files.len())).to_canonical().as_str())?;
            self.out.flush()?;
        }
        if let Some(failure) = stopped {
            return Err(failure);
        }
        match (self.refused.len(), self.sum.not_taken.len()) {
            (0, 0) => Ok(End::Done),
            (0, _) => Ok(End::Found),
            (refused, _) => {
                let of = counted(args.files.len() as u64, "file", "files");
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

    /// Records one file.
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let source = Source::open(Some(path))?;
        let name = source.name.clone();
        let bytes = source.read_all(self.options.max_bytes as u64)?;
        let imported =
            import::calls(self.args.format, &bytes, &self.options).map_err(|e| Failure::from(e).at(&name))?;
        drop(bytes);
        let file = path.display().to_string();
        let mut sum = Sum { by_order: imported.by_order, ..Sum::default() };
        sum.totals.add(&imported);
        self.sum.totals.add(&imported);
        let mut not_taken = imported.not_taken.clone();
        let hint = imported.looks_like.clone();
        let progress = Progress::new("importing", Unit::Entries);
        let all = imported.calls.len() as u64;
        let recorded = import::record(self.log, imported, self.args.again, |done| progress.at(done as u64, all));
        drop(progress);
        let recorded = recorded.map_err(|e| match Failure::from(&e).at(&name) {
            Failure::Input(why) => Failure::Input(why),
            other => self.args.store.name(&e, other),
        })?;
        not_taken.extend(recorded.not_taken.iter().cloned());
        for sum in [&mut sum, &mut self.sum] {
            sum.add(&file, &recorded, &not_taken);
        }
        if !self.args.json {
            self.out.line(sum.line(&file))?;
        }
        self.out.flush()?;
        sum.complain(&file, hint.as_deref());
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, file: &str, recorded: &Recorded, not_taken: &[NotTaken]) {
        self.recorded += recorded.receipts.len();
        self.answers += recorded.answers.len();
        self.already_there += recorded.repeated;
        self.by_beginning += recorded.by_beginning;
        let room = NAMED.saturating_sub(self.seqs.len());
        self.seqs.extend(recorded.already_there.iter().take(room));
        self.first = self.first.or(recorded.receipts.first().map(|r| r.seq));
        self.last = recorded.receipts.last().map(|r| r.seq).or(self.last);
        self.unmatched += not_taken.iter().filter(|one| one.kind == import::Untaken::Answer).count();
        let named = |one: &NotTaken| (file.to_owned(), one.kind.as_str(), one.place.clone(), one.why.clone());
        self.not_taken.extend(not_taken.iter().map(named));
    }

    fn json(&self, format: Format, files: usize) -> Object {
        let number = |n: usize| Json::from(n as u64);
        let tally = self.totals.tally();
        let named = |(file, kind, place, why): &(String, &str, String, String)| {
            Json::from(Object::from_iter([("file", file.as_str()), ("kind", kind), ("place", place), ("why", why)]))
        };
        Object::from_iter([
            ("files", number(files)),
            ("calls", number(tally.calls)),
            ("recorded", number(self.recorded)),
            ("already_there", number(self.already_there)),
            ("already_there_seqs", Json::from(self.seqs.clone())),
            ("late_answers", number(self.answers)),
            ("conversations", number(tally.conversations + tally.without_calls)),
            ("without_calls", number(tally.without_calls)),
            ("users", number(tally.users)),
            ("tools", number(tally.tools)),
            ("failures", number(tally.failures)),
            ("abandoned", number(tally.abandoned)),
            ("joined_by_order", number(self.by_order)),
            ("known_by_beginning", number(self.by_beginning)),
            ("unmatched", number(self.unmatched)),
            ("not_taken", Json::Array(self.not_taken.iter().map(named).collect())),
            ("first_seq", Json::from(self.first)),
            ("last_seq", Json::from(self.last)),
            ("format", Json::from(format.as_str())),
        ])
    }

    /// What people read of a file.
    fn line(&self, file: &str) -> String {
        let tally = self.totals.tally();
        let figure = |n: usize, one, many| counted(n as u64, one, many);
        let without = match tally.without_calls {
            0 => String::new(),
            n => format!(" ({} without a call)", count(n as u64)),
        };
        let mut line = format!(
            "{}: {} in {}{without} by {} with {}, {}",
            clean(file),
            figure(tally.calls, "call", "calls"),
            figure(tally.conversations + tally.without_calls, "conversation", "conversations"),
            figure(tally.users, "user", "users"),
            figure(tally.tools, "tool", "tools"),
            figure(tally.failures, "failure", "failures"),
        );
        if tally.abandoned > 0 {
            line += &format!(", {} never answered", count(tally.abandoned as u64));
        }
        if self.already_there > 0 {
            let seqs: Vec<String> = self.seqs.iter().map(u64::to_string).collect();
            let more = if self.already_there > seqs.len() { ", …" } else { "" };
            line += &format!(
                "; {} in the log already (seq {}{more}), not recorded again",
                figure(self.already_there, "call is", "calls are"),
                seqs.join(", ")
            );
        }
        if self.answers > 0 {
            let recorded = if self.answers == 1 { "was" } else { "were" };
            line +=
                &format!("; {} to calls that had none {recorded} recorded", figure(self.answers, "answer", "answers"));
        }
        let of = |kind| self.not_taken.iter().filter(|(_, of, ..)| *of == kind).count();
        let kinds = [("call", "calls"), ("answer", "answers"), ("line", "lines")];
        let left: Vec<String> =
            kinds.iter().filter(|(one, _)| of(*one) > 0).map(|(one, many)| figure(of(*one), one, many)).collect();
        if !left.is_empty() {
            line += &format!("; NOT recorded: {}", left.join(", "));
        }
        if of("arguments") > 0 {
            line += &format!(
                "; {} nearly JSON, and kept as a text",
                figure(of("arguments"), "call's arguments are", "calls' arguments are")
            );
        }
        line
    }

    fn complain(&self, file: &str, hint: Option<&str>) {
        if self.by_order > 0 {
            let answers = counted(self.by_order as u64, "answer has", "answers have");
            complain(format!("{file}: {answers} no id of a call, and went to calls without ids by name and order"));
        }
        for (_, kind, place, why) in self.not_taken.iter().take(NAMED) {
            let end = if *kind == "arguments" { "" } else { "; it was not recorded" };
            complain(format!("{file}: {place}: {why}{end}"));
        }
        if self.by_beginning > 0 {
            let (calls, again) = match self.by_beginning {
                1 => ("1 call has no id that no other has, so it is".to_owned(), "it"),
                n => (
                    format!("{} have no id that no other has, so they are", counted(n as u64, "call", "calls")),
                    "they",
                ),
            };
            complain(format!(
                "{file}: {calls} told apart by what stands before in the file; from a file without that {again} would be recorded \
                 once more"
            ));
        }
        if self.not_taken.len() > NAMED {
            let more = counted((self.not_taken.len() - NAMED) as u64, "more was", "more were");
            complain(format!("{file}: {more} not recorded; --json names all"));
        }
        if let Some(what) = hint {
            complain(format!("{file}: looks like {what}"));
        }
    }
}

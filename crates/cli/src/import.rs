//! `import`: records what other programs recorded.
//!
//! Invariant: every file is tried; anything in the files that is not in the log afterwards is reported, and the exit code
//! says so.

use super::context::Context;
use super::ending::Ending;
use super::exit::{End, Failure, Outcome};
use super::progress::Unit;
use super::render::{Out, clean, count, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::AuditLog;
use attestlog::json::{Json, Object};
use attestlog::note::VerifierKey;
use attestlog_capture::import::{self, Format, ImportOptions, NotTaken, Recorded, Stopped, Totals};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many of the items that were not taken from a file are listed one by one; JSON lists all.
const NAMED: usize = 10;

/// Record transcripts of other programs
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The format of the files
    #[arg(long, value_parser = format_parser())]
    format: Format,
    /// Transcripts; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
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
    let told = cx.clone();
    let ending = Ending::watch(&log, move || {
        told.complain(
            "ended by a signal; import the same files again: what is in the log already is not recorded again",
        );
    })?;
    let options = options.policy(&log.retention().policies().map_err(|e| args.store.failed(e))?.redaction);
    let mut all = All { cx, args, log: &log, options, out: cx.out(), sum: Sum::default(), refused: Vec::new() };
    let imported = all.files();
    ending.wait_if_told();
    let closed = log.close().map_err(|e| args.store.failed(e));
    let end = imported?;
    closed?;
    Ok(end)
}

/// The totals for one file, or for all.
#[derive(Default)]
struct Sum {
    totals: Totals,
    recorded: usize,
    answers: usize,
    already_there: usize,
    /// Examples of those already there.
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
    cx: &'a Context,
    args: &'a ImportArgs,
    log: &'a AuditLog,
    options: ImportOptions,
    out: Out,
    sum: Sum,
    /// Files from which nothing was imported.
    refused: Vec<String>,
}

impl All<'_> {
    fn files(&mut self) -> Outcome {
        let args = self.args;
        let mut stopped = None;
        for (at, path) in args.files.iter().enumerate() {
            match self.file(path) {
                Ok(()) => {}
                // This file is at fault; the others are still imported.
                Err(Failure::Input(why)) if args.files.len() > 1 => {
                    self.cx.complain(&why);
                    self.refuse(path, why);
                }
                Err(Failure::Input(why)) => {
                    self.refuse(path, why.clone());
                    stopped = Some(Failure::Input(why));
                }
                Err(other) => {
                    for left in args.files.iter().skip(at + 1) {
                        self.not_tried(left);
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

    /// Reports a file that comes after the one at which the store failed.
    fn not_tried(&mut self, path: &Path) {
        let (file, why) = (path.display().to_string(), "the store failed before this file was read");
        self.cx.complain(format!("{file}: {why}; it was not imported"));
        self.sum.not_taken.push((file, "file", "the file".to_owned(), why.to_owned()));
    }

    /// Imports one file.
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let source = self.cx.source(Some(path))?;
        let name = source.name.clone();
        let bytes = source.read_all(self.options.max_bytes as u64)?;
        let imported =
            import::calls(self.args.format, &bytes, &self.options).map_err(|e| Failure::from(e).at(&name))?;
        drop(bytes);
        let file = path.display().to_string();
        let (by_order, mut sum) = (imported.by_order, Sum::default());
        sum.totals.add(&imported);
        self.sum.totals.add(&imported);
        let mut not_taken = imported.not_taken.clone();
        let hint = imported.looks_like.clone();
        let progress = self.cx.progress("importing", Unit::Entries);
        let all = imported.calls.len() as u64;
        let recorded = import::record(self.log, imported, self.args.again, |done| progress.at(done as u64, all));
        drop(progress);
        let (recorded, failed) = match recorded {
            Ok(recorded) => (recorded, None),
            Err(Stopped { recorded, error, .. }) => (*recorded, Some(error)),
        };
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
        sum.complain(self.cx, &file, self.args.format, hint.as_deref());
        match failed {
            None => Ok(()),
            // No call is at fault, so all that was to be recorded after this is missing, whatever the kind.
            Some(e) => Err(self.args.store.name(&e, Failure::Store(format!("{name}: {e}")))),
        }
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

    /// The end of the summary if the store failed: how far the file was recorded.
    fn stopped(&self) -> String {
        let recorded = counted(self.recorded as u64, "new call was", "new calls were");
        let last = self.last.map_or(String::new(), |seq| format!(" (to seq {seq})"));
        format!("; {recorded} recorded{last} before the store failed")
    }

    /// The summary of a file, for people.
    fn line(&self, file: &str, failed: bool) -> String {
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
        if !failed && self.recorded != tally.calls {
            line += &format!("; {} recorded", figure(self.recorded, "new call was", "new calls were"));
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

    fn complain(&self, cx: &Context, file: &str, format: Format, hint: Option<&str>) {
        if self.by_order > 0 {
            let answers = counted(self.by_order as u64, "answer has", "answers have");
            cx.complain(format!("{file}: {answers} no id of a call, and went to calls without ids by name and order"));
        }
        for (_, kind, place, why) in self.not_taken.iter().take(NAMED) {
            let end = if *kind == "arguments" { "" } else { "; it was not recorded" };
            cx.complain(format!("{file}: {place}: {why}{end}"));
        }
        if self.by_beginning > 0 {
            self.complain_of_beginning(cx, file, format);
        }
        if self.not_taken.len() > NAMED {
            let more = counted((self.not_taken.len() - NAMED) as u64, "more was", "more were");
            cx.complain(format!("{file}: {more} not recorded; --json names all"));
        }
        if let Some(what) = hint {
            cx.complain(format!("{file}: looks like {what}"));
        }
    }

    /// Says what the calls are recognised by that nothing in the file identifies.
    fn complain_of_beginning(&self, cx: &Context, file: &str, format: Format) {
        let n = self.by_beginning as u64;
        let they = if n == 1 { "it" } else { "they" };
        if format == Format::Jsonl {
            let correct = match self.not_taken.is_empty() {
                true => "",
                false => ". Put the lines that you correct into a file of their own",
            };
            return cx.complain(format!(
                "{file}: {} neither call_id nor timestamp, so all lines before tell whether {they} {} in the log already; if one of \
                 these lines is changed, {they} would be recorded again{correct}",
                counted(n, "call has", "calls have"),
                if n == 1 { "is" } else { "are" }
            ));
        }
        let (calls, them) = match n {
            1 => ("the session of 1 call has".to_owned(), "it is"),
            n => (format!("the session of {} calls has", count(n)), "they are"),
        };
        cx.complain(format!(
            "{file}: {calls} no id, so {them} recognised by the messages before; from a file without these messages {they} would be \
             recorded again. Only an id in the file (`conversation_id` or `id`) changes that; --conversation does not"
        ));
    }
}

//! `record`: appends JSON Lines of tool calls.
//!
//! Invariants: what is there without waiting becomes durable in one commit, so a file goes in at full speed and a line
//! of a trickling pipe is durable at once; calls are recorded in the order of their lines; a bad line costs no good one;
//! a receipt is printed only for what is on the disk.

use super::ending::Ending;
use super::exit::{End, Failure, Outcome, complain, is_input};
use super::line_reader::{Line, MAX_LINE, Source};
use super::progress::{Progress, Unit};
use super::render::{Out, counted};
use super::store::{Alerts, StoreArgs};
use attestlog::json::{Json, Limits};
use attestlog::note::VerifierKey;
use attestlog::owner::SharedStore;
use attestlog::redact::{Context, Policy, Root, Sanitizer, Secrets};
use attestlog::{Error, ErrorKind, Receipt, ToolCall};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// How many calls share a commit at most.
const BATCH: usize = 1000;

/// Append tool calls, one JSON object per line
#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// JSON Lines; standard input if absent or `-`
    file: Option<PathBuf>,
    /// Print {"seq":…,"hash":…} for each line once it is on the disk
    #[arg(long)]
    receipts: bool,
    /// Go on after a line that cannot be recorded
    #[arg(long)]
    keep_going: bool,
    /// Take times that have no zone as UTC; else such a line is not recorded
    #[arg(long)]
    assume_utc: bool,
    /// Record although the store's key file is missing; the log says so, and what is recorded is not signed
    #[arg(long)]
    unsigned: bool,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a process that
    /// does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = super::verify_args::log_key, help_heading = "Keys")]
    public_key: Option<VerifierKey>,
    /// Let no rules look at what is recorded; whoever watches next does
    #[arg(long)]
    no_alerts: bool,
}

type Parsed = Line<Result<ToolCall, Error>>;

pub fn run(args: &RecordArgs) -> Outcome {
    let source = Source::open(args.file.as_deref())?;
    let alerts = match args.no_alerts {
        true => Alerts::Off,
        false => Alerts::Raised { taken: args.receipts },
    };
    let log = args.store.join(args.store.key.options()?.unsigned(args.unsigned), alerts, args.public_key.as_ref())?;
    let ending = Ending::watch(&log)?;
    let mut recorder = Recorder {
        log: &log,
        store: &args.store,
        name: source.name.clone(),
        receipts: args.receipts.then(Out::stdout),
        keep_going: args.keep_going,
        parse: if args.assume_utc { ToolCall::from_jsonl_utc } else { ToolCall::from_jsonl },
        recorded: 0,
        refused: 0,
        newest: None,
    };
    let outcome = recorder.all(source);
    ending.wait_if_told();
    let (recorded, refused, newest) = (recorder.recorded, recorder.refused, recorder.newest);
    let closed = log.close();
    if let Err(failure) = outcome {
        let so_far = format!("{} recorded before that", counted(recorded, "call was", "calls were"));
        return Err(match failure {
            Failure::Store(m) => Failure::Store(format!("{m} ({so_far})")),
            other => other,
        });
    }
    closed.map_err(|e| args.store.failed(e))?;
    if !args.receipts {
        let newest = newest.map_or(String::new(), |r| format!(", the newest at seq {}", r.seq));
        let mut out = Out::stdout();
        out.line(format!("recorded {}{newest}", counted(recorded, "call", "calls")))?;
        out.flush()?;
    }
    if refused > 1 {
        complain(format!("{refused} lines were not recorded"));
    }
    Ok(if refused > 0 { End::Found } else { End::Done })
}

struct Recorder<'a> {
    log: &'a SharedStore,
    store: &'a StoreArgs,
    name: String,
    /// Where receipts go; `None` once nobody reads them any more.
    receipts: Option<Out>,
    keep_going: bool,
    parse: fn(&[u8]) -> Result<ToolCall, Error>,
    recorded: u64,
    refused: u64,
    newest: Option<Receipt>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

impl Recorder<'_> {
    fn all(&mut self, source: Source) -> Result<(), Failure> {
        let total = source.bytes.unwrap_or(0);
        let progress = Progress::new("recording", Unit::Bytes);
        let lines = source.lines(!self.keep_going, self.parse);
        let lines = lines.map_err(|e| Failure::Store(format!("the reading thread: {e}")))?;
        let mut read = 0;
        while let Ok(first) = lines.recv() {
            let mut message = Some(first);
            let (mut batch, mut bytes, mut failed) = (Vec::new(), 0, None);
            while let Some(part) = message.take() {
                match part {
                    Ok(part) => {
                        bytes += part.iter().map(|l| l.bytes.len() + 1).sum::<usize>();
                        batch.extend(part);
                    }
                    Err(e) => failed = Some(e),
                }
                if batch.len() < BATCH && bytes < MAX_LINE {
                    message = lines.try_recv().ok();
                }
            }
            read += bytes as u64;
            if self.batch(batch)? == Next::Stop {
                return Ok(());
            }
            if let Some(e) = failed {
                return Err(Failure::file(&self.name, &e));
            }
            progress.at(read, total);
        }
        Ok(())
    }

    fn batch(&mut self, lines: Vec<Parsed>) -> Result<Next, Failure> {
        let mut good: Vec<(u64, Vec<u8>, ToolCall)> = Vec::new();
        for line in lines {
            let refusal = match line.value {
                Ok(Ok(call)) => {
                    good.push((line.number, line.bytes, call));
                    if good.len() >= BATCH && self.commit(std::mem::take(&mut good))? == Next::Stop {
                        return Ok(Next::Stop);
                    }
                    continue;
                }
                Ok(Err(e)) => e.to_string(),
                Err(too_long) => too_long.to_string(),
            };
            if self.commit(std::mem::take(&mut good))? == Next::Stop || self.refuse(line.number, &refusal) == Next::Stop
            {
                return Ok(Next::Stop);
            }
        }
        self.commit(good)
    }

    /// Records the calls in one commit. Where one of them cannot be recorded none is, so halves are tried until it
    /// stands alone: the lines before it go in first, and those after it if the user said so.
    fn commit(&mut self, lines: Vec<(u64, Vec<u8>, ToolCall)>) -> Result<Next, Failure> {
        let mut numbers = Vec::with_capacity(lines.len());
        let mut calls = Vec::with_capacity(lines.len());
        let mut raw = Vec::with_capacity(lines.len());
        for (number, bytes, call) in lines {
            numbers.push(number);
            raw.push(bytes);
            calls.push(call);
        }
        let result = match calls.len() {
            0 => return Ok(Next::Go),
            // A batch's message counts calls from 0; for a single line there is nothing to count.
            1 => calls.into_iter().map(|call| self.log.record(call)).collect(),
            _ => self.log.record_batch(calls),
        };
        let e = match result {
            Ok(receipts) => {
                self.done(&receipts)?;
                return Ok(Next::Go);
            }
            Err(e) => e,
        };
        let place = format!("{}: line {}", self.name, numbers[0]);
        // A contradiction is the line's where the line has a number of its sender's; else it is between store and key.
        let contradicts = e.kind() == ErrorKind::Conflict && numbers.len() == 1 && !raw.iter().any(|l| is_numbered(l));
        if !is_input(e.kind()) || contradicts {
            return Err(self.store.name(&e, Failure::Store(format!("{place}: {e}"))));
        }
        if let [number] = numbers[..] {
            return Ok(self.refuse(number, &e.to_string()));
        }
        // The calls went into the batch; they are read again from their lines.
        let mut again = Vec::with_capacity(numbers.len());
        for (number, bytes) in numbers.into_iter().zip(raw) {
            let call = (self.parse)(&bytes)?;
            again.push((number, bytes, call));
        }
        let second = again.split_off(again.len() / 2);
        match self.commit(again)? {
            Next::Go => self.commit(second),
            Next::Stop => Ok(Next::Stop),
        }
    }

    fn done(&mut self, receipts: &[Receipt]) -> Result<(), Failure> {
        self.recorded += receipts.len() as u64;
        self.newest = receipts.last().copied().or(self.newest);
        let Some(out) = &mut self.receipts else { return Ok(()) };
        match print(out, receipts) {
            // Nobody reads receipts any more, but what is still to come must be recorded all the same.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.receipts = None;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn refuse(&mut self, number: u64, why: &str) -> Next {
        self.refused += 1;
        complain(format!("{}: line {number}: {}", self.name, hidden(why)));
        if self.keep_going {
            return Next::Go;
        }
        complain(format!(
            "stopped there: what comes before line {number} is recorded, and what comes behind it was not looked at. Send it again from \
             line {number} on, corrected, or go on past such lines with --keep-going"
        ));
        Next::Stop
    }
}

fn is_numbered(line: &[u8]) -> bool {
    Json::parse_lenient(line, &Limits::default()).is_ok_and(|parsed| parsed.value.get("sender").is_some())
}

/// What a message quotes of a line has not been through the store's policy; it goes through the default one, so that no
/// secret ends in a terminal's or a service's log.
fn hidden(message: &str) -> String {
    let mut text = message.to_owned();
    let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default());
    match sanitizer.and_then(|s| s.treat_text(Root::Text, &mut text, &mut Context::new())) {
        Ok(()) => text,
        Err(_) => "cannot be recorded".to_owned(),
    }
}

fn print(out: &mut Out, receipts: &[Receipt]) -> io::Result<()> {
    for receipt in receipts {
        writeln!(out, "{{\"seq\":{},\"hash\":\"{}\"}}", receipt.seq, receipt.hash)?;
    }
    out.flush()
}

//! `record`: appends JSON Lines of tool calls.
//!
//! Invariants: everything that is available without waiting becomes durable in one commit, so a file is recorded at full
//! speed and a line from a slow pipe is durable at once; calls are recorded in the order of their lines; a bad line does
//! not lose any good one; a receipt is printed only for what is on the disk.

use super::context::Context;
use super::ending::Ending;
use super::exit::{End, Failure, Outcome, is_input};
use super::line_reader::{Line, MAX_LINE, Source};
use super::not_compared;
use super::progress::Unit;
use super::render::{Out, counted};
use super::sender_gaps::SenderGaps;
use super::store::{Alerts, StoreArgs};
use attestlog::AuditLog;
use attestlog::json::{Json, Limits};
use attestlog::note::VerifierKey;
use attestlog::redact::{self, Policy, Root, Sanitizer, Secrets};
use attestlog::{Error, ErrorKind, Receipt, ToolCall};
use clap::Args;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum number of calls in one commit.
const BATCH: usize = 1000;

/// Append tool calls, one JSON object per line
#[derive(Debug, Args)]
#[command(after_help = MEMBERS)]
pub struct RecordArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// JSON Lines; standard input if absent or `-`
    file: Option<PathBuf>,
    /// Print {"seq":…,"hash":…} for each line once it is on the disk
    #[arg(long)]
    receipts: bool,
    /// Continue after a line that cannot be recorded
    #[arg(long)]
    keep_going: bool,
    /// Take times without a zone as UTC; otherwise such a line is not recorded
    #[arg(long)]
    assume_utc: bool,
    /// Record even if the store's key file is missing; the log says so, and what is recorded is not signed
    #[arg(long)]
    unsigned: bool,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a
    /// process that does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = super::verify_args::log_key, help_heading = "Keys")]
    public_key: Option<VerifierKey>,
    /// Run no rules on what is recorded; the next process that watches does
    #[arg(long)]
    no_alerts: bool,
}

/// What a line can say.
const MEMBERS: &str = "\
Members of a line (the first three are required; an unknown one is refused):
  conversation_id, user_id, tool_name   whose call of which tool
  timestamp         RFC 3339; now, if absent
  arguments         a JSON object or any other value
  result            any JSON value; one with a member `error`, or an MCP result with isError, is a failure
  error             in place of a result: a text, or {\"type\",\"message\"}
  outcome           ok, tool_error, protocol_error, denied, timeout, abandoned
  duration_ms       how long it took
  turn_number, call_id   the turn of the conversation; the provider's id of the call
  model, agent_id, tool_server   who decided, in which agent, and who offers the tool
  user_role, session_metadata   the user's role; an object: client_ip, user_agent, anything
  patient_id, purpose   a text or a list; why the data was accessed
  call_trigger      user_request, proactive, retry, follow_up, system
  retry_of, follow_up_of   the seq of an earlier call
  emergency, grant  true; the seq of an emergency grant
  retention_class, retain_until   a longer period than the policy's
  trace_id, span_id, prompt_id   where it belongs in a trace; the prompt that led to it
  parent_agent_id, parent_call_id   the agent that started this one, and the call in which it did
  approval, resources   who allowed it; what it read or changed: [{\"kind\",\"name\"}]
  digests           of what was in force
  sender            {\"id\",\"number\"}: a call that is sent again is not recorded again
  backfilled        true: it was recorded later than it happened

{\"conversation_id\":\"c1\",\"user_id\":\"anna\",\"tool_name\":\"get_order\",\"arguments\":{\"id\":7},\"result\":{\"status\":\"sent\"}}";

type Parsed = Line<Result<ToolCall, Error>>;

pub fn run(cx: &Context, args: &RecordArgs) -> Outcome {
    let source = cx.source(args.file.as_deref())?;
    let alerts = match args.no_alerts {
        true => Alerts::Off,
        false => Alerts::Raised { taken: args.receipts },
    };
    let log =
        args.store.join(cx, args.store.key.options(cx)?.unsigned(args.unsigned), alerts, args.public_key.as_ref())?;
    let so_far = Arc::new(SoFar::default());
    let (of_file, until) = (source.name.clone(), so_far.clone());
    let told = cx.clone();
    let ending = Ending::watch(&log, move || {
        let alerts = alerts_raised(&told).map_or(String::new(), |alerts| format!("; {alerts}"));
        told.complain(until.at_signal(&of_file) + &alerts);
    })?;
    let mut recorder = Recorder {
        cx,
        log: &log,
        store: &args.store,
        name: source.name.clone(),
        receipts: args.receipts.then(|| cx.out()),
        keep_going: args.keep_going,
        parse: if args.assume_utc { ToolCall::from_jsonl_utc } else { ToolCall::from_jsonl },
        so_far: &so_far,
        refused: 0,
        gaps: SenderGaps::default(),
        not_compared: BTreeSet::new(),
    };
    let outcome = recorder.all(source);
    ending.wait_if_told();
    let refused = recorder.refused;
    let (gaps, not_compared) = (recorder.gaps, recorder.not_compared);
    let done = *so_far.lock();
    let closed = log.close().map_err(|e| match e.kind() {
        // It says itself what is recorded.
        ErrorKind::Recorded => args.store.failed(e),
        _ => done.unclosed(args.store.failed(e)),
    });
    if let Err(failure) = outcome {
        return Err(match failure {
            Failure::Store(m) if done.recorded > 0 => Failure::Store(format!("{m} ({})", done.before())),
            other => other,
        });
    }
    // What was recorded is reported first, even if the rest of the work failed.
    let alerts = alerts_raised(cx);
    if args.receipts {
        alerts.into_iter().for_each(|alerts| cx.complain(alerts));
    } else {
        let mut out = cx.out();
        out.line(done.summary() + &alerts.map_or(String::new(), |alerts| format!("; {alerts}")))?;
        out.flush()?;
    }
    gaps.told().for_each(|line| cx.complain(line));
    if !not_compared.is_empty() {
        let named: Vec<&str> = not_compared.iter().take(NAMED).map(String::as_str).collect();
        let more = if not_compared.len() > NAMED { ", …" } else { "" };
        cx.complain(format!(
            "not everything in the calls that were in the log already could be compared with it, so they may differ in: {}{more}",
            named.join(", ")
        ));
    }
    if refused > 1 {
        cx.complain(format!("{refused} lines were not recorded"));
    }
    closed?;
    Ok(if refused > 0 { End::Found } else { End::Done })
}

/// How many alerts the rules have raised, if they ran in this process and there are any.
fn alerts_raised(cx: &Context) -> Option<String> {
    let raised = cx.alerts_raised();
    (raised > 0)
        .then(|| format!("{} raised (`attestlog alerts list` shows them)", counted(raised, "alert was", "alerts were")))
}

/// Progress through the input.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    recorded: u64,
    newest: Option<u64>,
    /// Calls that were already in the log under their sender's number, and the seq of the last of them.
    repeated: u64,
    repeat: Option<u64>,
    /// The number of the last line that was recorded or refused.
    through: u64,
    /// The lines that are being recorded now.
    now: Option<(u64, u64)>,
}

/// The same, shared with the thread that ends the process on a signal.
#[derive(Debug, Default)]
struct SoFar {
    tally: Mutex<Tally>,
    idle: Condvar,
}

/// How many members that were not compared are named on standard error; the receipts have all.
const NAMED: usize = 10;

/// How long a signal waits for a commit in progress.
const AT_MOST: Duration = Duration::from_secs(5);

impl SoFar {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.lock();
        tally.now = None;
        change(&mut tally);
        drop(tally);
        self.idle.notify_all();
    }

    /// The message about the input `name` when a signal ends the process.
    fn at_signal(&self, name: &str) -> String {
        let waited = self.idle.wait_timeout_while(self.lock(), AT_MOST, |tally| tally.now.is_some());
        let tally = *waited.unwrap_or_else(PoisonError::into_inner).0;
        let next = match tally.now {
            Some((first, last)) => format!("whether lines {first} to {last} were is not known"),
            None => format!("go on from line {}", tally.through + 1),
        };
        format!("{name}: ended by a signal; {}; {next}", tally.before())
    }
}

impl Tally {
    fn take(&mut self, receipts: &[Receipt], already: &[bool]) {
        for (receipt, already) in receipts.iter().zip(already) {
            let (count, at) = match already {
                true => (&mut self.repeated, &mut self.repeat),
                false => (&mut self.recorded, &mut self.newest),
            };
            *count += 1;
            *at = Some(receipt.seq);
        }
    }

    fn at_seq(&self) -> String {
        self.newest.map_or(String::new(), |seq| format!(", the newest at seq {seq}"))
    }

    /// The text that is appended to an error.
    fn before(&self) -> String {
        format!("{} recorded before that{}", counted(self.recorded, "call was", "calls were"), self.at_seq())
    }

    /// The last line of the output.
    fn summary(&self) -> String {
        let mut line = format!("recorded {}{}", counted(self.recorded, "call", "calls"), self.at_seq());
        if let Some(seq) = self.repeat {
            let (were, last, again) = match self.repeated {
                1 => ("call was", "", "was"),
                _ => ("calls were", "the last ", "were"),
            };
            let repeated = counted(self.repeated, were, were);
            line += &format!("; {repeated} in the log already ({last}at seq {seq}) and {again} not recorded again");
        }
        line
    }

    /// The failure if closing the store failed: it must not read as if nothing had been recorded.
    fn unclosed(&self, failure: Failure) -> Failure {
        match failure.message() {
            Some(m) if self.recorded > 0 => Failure::Store(format!(
                "{m}. Do not send anything again: {} recorded. What failed is what comes after recording",
                counted(self.recorded, "call is", "calls are")
            )),
            _ => failure,
        }
    }
}

struct Recorder<'a> {
    cx: &'a Context,
    log: &'a AuditLog,
    store: &'a StoreArgs,
    name: String,
    /// Where receipts go; `None` once nobody reads them any more.
    receipts: Option<Out>,
    keep_going: bool,
    parse: fn(&[u8]) -> Result<ToolCall, Error>,
    so_far: &'a SoFar,
    refused: u64,
    gaps: SenderGaps,
    /// The members of repeats that could not be compared with what is in the log.
    not_compared: BTreeSet<String>,
}

/// Whether to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

impl Recorder<'_> {
    fn all(&mut self, source: Source) -> Result<(), Failure> {
        let total = source.bytes.unwrap_or(0);
        let progress = self.cx.progress("recording", Unit::Bytes);
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
                    call.sender.iter().for_each(|sender| self.gaps.saw(sender));
                    good.push((line.number, line.bytes, call));
                    if good.len() >= BATCH && self.commit(std::mem::take(&mut good))? == Next::Stop {
                        return Ok(Next::Stop);
                    }
                    continue;
                }
                Ok(Err(e)) => {
                    let is_json = e.place().is_none_or(|place| place.offset.is_none());
                    let each = "; each line must be one whole JSON object";
                    format!("{e}{}", if is_json || e.kind() != ErrorKind::InvalidInput { "" } else { each })
                }
                Err(too_long) => too_long.to_string(),
            };
            if self.commit(std::mem::take(&mut good))? == Next::Stop || self.refuse(line.number, &refusal) == Next::Stop
            {
                return Ok(Next::Stop);
            }
        }
        self.commit(good)
    }

    /// Records the calls in one commit. If one of them cannot be recorded, none is, so halves are tried until that call is
    /// alone: the lines before it are recorded first, and those after it if the user said so.
    fn commit(&mut self, lines: Vec<(u64, Vec<u8>, ToolCall)>) -> Result<Next, Failure> {
        let mut numbers = Vec::with_capacity(lines.len());
        let mut calls = Vec::with_capacity(lines.len());
        let mut raw = Vec::with_capacity(lines.len());
        for (number, bytes, call) in lines {
            numbers.push(number);
            raw.push(bytes);
            calls.push(call);
        }
        let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { return Ok(Next::Go) };
        self.so_far.lock().now = Some((first, last));
        let before = self.size_before(&calls);
        let numbered = calls.iter().filter(|call| call.sender.is_some()).count();
        let timed: Vec<bool> = calls.iter().map(|call| call.timestamp.is_some()).collect();
        let result = match calls.len() {
            // Through another process, numbered calls go in several commits: after a refusal those that went would be sent again.
            n if numbered > 0 && numbered < n && !self.log.is_owner() => {
                Err(Error::invalid("numbered calls together with others"))
            }
            // The message for a batch counts calls from 0; for a single line there is nothing to count.
            1 => calls.into_iter().map(|call| self.log.record(call)).collect(),
            _ => self.log.record_batch(calls),
        };
        let e = match result {
            Ok(receipts) => {
                self.done(&receipts, &timed, before, last)?;
                return Ok(Next::Go);
            }
            Err(e) => e,
        };
        self.so_far.ended(|_| ());
        let place = format!("{}: line {first}", self.name);
        // A contradiction concerns the line if the line has a sender's number; otherwise it is between store and key.
        let contradicts = e.kind() == ErrorKind::Conflict && numbers.len() == 1 && !raw.iter().any(|l| is_numbered(l));
        if !is_input(e.kind()) || contradicts {
            return Err(self.store.name(&e, Failure::Store(format!("{place}: {e}"))));
        }
        if let [number] = numbers[..] {
            return Ok(self.refuse(number, &e.to_string()));
        }
        // The calls were moved into the batch; they are parsed again from their lines.
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

    /// The log's size before these calls, if one of them may already be in it: newly recorded calls get a seq from there on.
    fn size_before(&self, calls: &[ToolCall]) -> u64 {
        let numbered = calls.iter().any(|call| call.sender.is_some());
        if numbered { self.log.size().unwrap_or(0) } else { 0 }
    }

    fn done(&mut self, receipts: &[Receipt], timed: &[bool], before: u64, last: u64) -> Result<(), Failure> {
        // Within a batch seqs rise, except for the repeat of a call in the same batch.
        let mut next = before;
        let already: Vec<bool> = receipts
            .iter()
            .map(|receipt| {
                let there = receipt.seq < next;
                next = next.max(receipt.seq + 1);
                there
            })
            .collect();
        self.so_far.ended(|tally| {
            tally.take(receipts, &already);
            tally.through = last;
        });
        // `None`: newly recorded. Otherwise what was not compared with the entry that was there.
        let repeats =
            receipts.iter().zip(timed).zip(&already).map(|((receipt, timed), already)| {
                already.then(|| not_compared::members(self.log, receipt.seq, *timed))
            });
        let repeats: Vec<Option<Vec<String>>> = repeats.collect();
        self.not_compared.extend(repeats.iter().flatten().flatten().cloned());
        let Some(out) = &mut self.receipts else { return Ok(()) };
        match print(out, receipts, &repeats) {
            // Nobody reads receipts any more, but the remaining lines must still be recorded.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.receipts = None;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn refuse(&mut self, number: u64, why: &str) -> Next {
        self.refused += 1;
        self.so_far.lock().through = number;
        self.cx.complain(format!("{}: line {number}: {}", self.name, hidden(why)));
        if self.keep_going {
            return Next::Go;
        }
        let before = match number {
            1 => String::new(),
            _ => format!("what comes before line {number} is recorded, and "),
        };
        self.cx.complain(format!(
            "stopped there: {before}what comes behind it was not looked at. Send it again from line {number} on, corrected, or go on past \
             such lines with --keep-going"
        ));
        Next::Stop
    }
}

fn is_numbered(line: &[u8]) -> bool {
    Json::parse_lenient(line, &Limits::default()).is_ok_and(|parsed| parsed.value.get("sender").is_some())
}

/// The text that a message quotes from a line has not been through the store's policy. It goes through the default policy,
/// so that no secret ends up in the log of a terminal or a service.
fn hidden(message: &str) -> String {
    let mut text = message.to_owned();
    let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default());
    match sanitizer.and_then(|s| s.treat_text(Root::Text, &mut text, &mut redact::Context::new())) {
        Ok(()) => text,
        Err(_) => "cannot be recorded".to_owned(),
    }
}

fn print(out: &mut Out, receipts: &[Receipt], repeats: &[Option<Vec<String>>]) -> io::Result<()> {
    for (receipt, repeat) in receipts.iter().zip(repeats) {
        let already = match repeat {
            None => String::new(),
            Some(members) if members.is_empty() => ",\"already_there\":true".to_owned(),
            Some(members) => {
                let members = Json::from(members.clone());
                format!(",\"already_there\":true,\"not_compared\":{}", members.to_canonical())
            }
        };
        writeln!(out, "{{\"seq\":{},\"hash\":\"{}\"{already}}}", receipt.seq, receipt.hash)?;
    }
    out.flush()
}

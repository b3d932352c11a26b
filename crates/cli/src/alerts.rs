//! `alerts`: lists the alerts that rules raised, acknowledges them, watches the log, settles what a verification found, and
//! forgets receivers. A watch runs the rules itself if this process owns the store; otherwise the owner lets them look, and this
//! process delivers.
//!
//! Invariant: `list` only reads. If no engine has looked at what was recorded yet, it says so.

use super::alerting;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::line_reader::Source;
use super::render::{Out, Style, clean, count, counted, moment};
use super::store::{Opened, StoreArgs, damage_line, say_found};
use super::table::{Table, left, right};
use super::told;
use super::verify_args::ElsewhereArgs;
use attestlog::Justification;
use attestlog::alert::{
    AlertEngine, AlertState, CommandReceiver, Deliver, JsonLines, NotFound, Receivers, Severity, To, Webhook,
    parse_duration,
};
use attestlog::json::Json;
use attestlog::verify::VerifyOptions;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// List, acknowledge and watch alerts
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    List(ListArgs),
    Ack(AckArgs),
    Watch(WatchArgs),
    Settle(Box<SettleArgs>),
    Forget(ForgetArgs),
}

/// Show the alerts that were raised, newest last. Only reads: rules run where entries are recorded, and with `alerts watch`
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that nobody has acknowledged
    #[arg(long)]
    open: bool,
    /// Print JSON, one alert per line
    #[arg(long)]
    json: bool,
}

/// Record who looked into an alert, and what came of it
#[derive(Debug, Args)]
pub struct AckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The alert
    #[arg(value_name = "SEQ", value_parser = super::named::listed)]
    alert: u64,
    /// Who looked into it
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: String,
    /// What came of it
    #[arg(long, value_name = "TEXT")]
    disposition: String,
}

/// Record that somebody looked into what a verification found, and what came of it
#[derive(Debug, Args)]
pub struct SettleArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    evidence: ElsewhereArgs,
    /// Who looked into it
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: String,
    /// What came of it
    #[arg(long, value_name = "TEXT")]
    disposition: String,
    /// Also settle what was noted and is not found any more, because it was repaired; the entry says which kinds
    #[arg(long)]
    not_found: bool,
}

/// Forget a receiver that is gone for good, with the alerts that it is still owed
#[derive(Debug, Args)]
pub struct ForgetArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Its name, as `health` shows it
    receiver: String,
}

/// Run the rules on the log, and deliver alerts: to the configured receivers, as JSON Lines on standard output, to a
/// program, to a web address
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Look once, then end
    #[arg(long)]
    once: bool,
    /// Run this program for each alert, with the alert on its standard input
    #[arg(long, value_name = "PROGRAM")]
    command: Vec<PathBuf>,
    /// Post each alert to this web address
    #[arg(long, value_name = "URL", requires = "webhook_secret_file")]
    webhook: Vec<String>,
    /// File whose first line is the secret that webhooks are signed with
    #[arg(long, value_name = "FILE")]
    webhook_secret_file: Option<PathBuf>,
    /// Verify the whole log this often, such as 6h; with --once: before it ends
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_duration(text))]
    verify_every: Option<Duration>,
}

pub fn run(cx: &Context, command: &AlertsCommand) -> Outcome {
    match command {
        AlertsCommand::List(args) => list(cx, args),
        AlertsCommand::Ack(args) => ack(cx, args),
        AlertsCommand::Watch(args) => watch(cx, args),
        AlertsCommand::Settle(args) => settle(cx, args),
        AlertsCommand::Forget(args) => forget(cx, args),
    }
}

fn list(cx: &Context, args: &ListArgs) -> Outcome {
    let log = args.store.read(cx)?;
    let store = |e: attestlog::Error| args.store.failed(e);
    let lag = log.health().map_err(store)?.alerts;
    if lag.oldest.is_some() {
        cx.complain(format!(
            "no rule has looked at {} yet: `attestlog alerts watch --once` lets them",
            match lag.behind {
                1 => "the newest entry".to_owned(),
                n => format!("the newest {}", counted(n, "entry", "entries")),
            }
        ));
    }
    // If nothing can be recorded any more, a finding is not in the log as an alert.
    say_found(cx, &log);
    let alerts = log.alerts().list().map_err(store)?;
    let alerts: Vec<AlertState> = alerts.into_iter().filter(|alert| !args.open || alert.is_open()).collect();
    let mut out = cx.out();
    if args.json {
        damage_line(&log, &mut out)?;
        for alert in &alerts {
            out.line(alert.to_json().to_canonical().as_str())?;
        }
    } else {
        show(&alerts, &mut out)?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// Writes the table for people.
pub fn show(alerts: &[AlertState], out: &mut Out) -> io::Result<()> {
    let columns =
        [right("SEQ"), left("RAISED (UTC)"), left("SEVERITY"), left("RULE"), left("KEY"), left("ACKNOWLEDGED")];
    let mut table = Table::new(out, &columns);
    for state in alerts {
        let alert = &state.alert;
        let plain = |text: String| (text, Style::Plain);
        let severity = match alert.severity {
            Severity::Critical => Style::Bad,
            Severity::Warning => Style::Warn,
            _ => Style::Plain,
        };
        let key = alert.detail.get("key").and_then(Json::as_object).map(|key| {
            let part = |(name, value): (&str, &Json)| {
                let value = value.as_str().map_or_else(|| value.to_canonical().as_str().to_owned(), str::to_owned);
                format!("{name} {}", clean(&value))
            };
            key.iter().map(part).collect::<Vec<_>>().join(", ")
        });
        let said = match state.acknowledgements.last() {
            Some(ack) => {
                let before = match state.acknowledgements.len() {
                    1 => String::new(),
                    n => format!("; {} before", n - 1),
                };
                (clean(&format!("{} ({}{before})", ack.disposition, ack.actor)), Style::Good)
            }
            None => ("open".to_owned(), Style::Warn),
        };
        table.row(vec![
            plain(alert.seq.to_string()),
            plain(moment(alert.raised_at)),
            (alert.severity.to_string(), severity),
            plain(clean(&alert.rule)),
            plain(key.unwrap_or_default()),
            said,
        ])?;
    }
    table.finish()
}

fn ack(cx: &Context, args: &AckArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let known = log.alerts().list().map_err(|e| args.store.failed(e))?;
    let receipt = log.alerts().ack(args.alert, Justification { actor: &args.actor, reason: &args.disposition })?;
    let done = format!("acknowledged alert {} in entry {}", args.alert, receipt.seq);
    let ended = told::told(told::line(&mut cx.out(), &done), log.close().map_err(|e| args.store.failed(e)), &done);
    let before =
        known.into_iter().filter(|state| state.alert.seq == args.alert).flat_map(|state| state.acknowledgements);
    for ack in before {
        cx.complain(format!(
            "it was acknowledged before, which the log keeps: by {} in entry {}: {}",
            ack.actor, ack.seq, ack.disposition
        ));
    }
    ended.map(|()| End::Done)
}

fn settle(cx: &Context, args: &SettleArgs) -> Outcome {
    let brought = args.evidence.read(cx)?;
    let log = args.store.open_after_finding(cx, args.evidence.public_key())?;
    let store = |e: attestlog::Error| args.store.failed(e);
    let options = brought.of(cx, &log)?;
    let by = Justification { actor: &args.actor, reason: &args.disposition };
    let unfound = if args.not_found { NotFound::Settle } else { NotFound::Refuse };
    let settlement = log.verifications().settle(by, &options, unfound)?;
    let gone = match settlement.not_found.len() as u64 {
        0 => String::new(),
        n => format!(", and {} not found any more ({})", count(n), kinds(&settlement.not_found)),
    };
    let findings = counted(settlement.settled.len() as u64, "finding", "findings");
    let done = format!("settled in entry {}: {findings}{gone}", settlement.receipt.seq);
    let closed = log.close().map_err(store);
    let lines: Vec<String> =
        settlement.settled.iter().map(|finding| format!("  {}", clean(&finding.to_string()))).collect();
    let shown = std::iter::once(done.clone()).chain(lines).collect::<Vec<_>>().join("\n");
    told::told(told::line(&mut cx.out(), &shown), closed, &done)?;
    let damage = settlement.settled.iter().filter(|finding| !finding.is_fact()).count() as u64;
    if damage > 0 {
        cx.complain(format!(
            "{} of what answers are read from: verifications go on finding that until a backup is restored, since it could hide more",
            counted(damage, "of these is damage", "of these are damage")
        ));
    }
    if !settlement.left.is_empty() {
        let left = counted(
            settlement.left.len() as u64,
            "finding that had not been noted is",
            "findings that had not been noted are",
        );
        cx.complain(format!("{left} not settled: `attestlog verify` shows them"));
    }
    Ok(End::Done)
}

/// Kinds with how many of each: `2 entry_changed, 1 page_damaged`.
fn kinds(all: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in all {
        *counts.entry(kind).or_default() += 1;
    }
    counts.into_iter().map(|(kind, n)| format!("{n} {}", clean(kind))).collect::<Vec<_>>().join(", ")
}

fn forget(cx: &Context, args: &ForgetArgs) -> Outcome {
    let log = args.store.open(cx)?;
    if alerting::receivers(&args.store.store)?.0.iter().any(|receiver| receiver.name(false) == args.receiver) {
        return Err(Failure::Input(format!(
            "{}: the receiver {:?} is in use: take it out of the configuration first (`attestlog policy set`)",
            args.store.store.display(),
            args.receiver
        )));
    }
    let all = log.health().map_err(|e| args.store.failed(e))?.alerts.receivers;
    let known = log.alerts().forget_receiver(&args.receiver).map_err(|e| args.store.failed(e))?;
    log.close().map_err(|e| args.store.failed(e))?;
    if !known {
        let all = all.keys().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let all = if all.is_empty() { "none".to_owned() } else { all };
        return Err(Failure::Input(format!("there is no receiver {:?}; this log knows {all}", args.receiver)));
    }
    let mut out = cx.out();
    out.line(format!("forgotten: {}", clean(&args.receiver)))?;
    out.flush()?;
    Ok(End::Done)
}

fn watch(cx: &Context, args: &WatchArgs) -> Outcome {
    let secret = match &args.webhook_secret_file {
        Some(path) => Some(first_line(path)?),
        None => None,
    };
    let log = args.store.open(cx)?;
    let mut configured = alerting::receivers(&args.store.store)?;
    if !log.is_owner() {
        // Standard output is for what this command itself delivers.
        configured.0.retain(|receiver| receiver.to != To::Stdout);
        return watch_elsewhere(
            cx,
            args,
            log,
            own_receivers(args, secret.as_deref(), &configured)?,
            configured.open(true),
        );
    }
    let own = own_receivers(args, secret.as_deref(), &configured)?;
    let mut engine = log.alerts().engine()?.deliver_to_all(&configured, false);
    engine = own.into_iter().fold(engine, AlertEngine::deliver_to);
    if args.once {
        return once(cx, args, log, engine);
    }
    if let Some(every) = args.verify_every {
        engine = engine.verify_every(every);
    }
    let running = engine.start()?;
    // Runs until the program is ended; the next watch delivers what was not delivered by then.
    let mut told = String::new();
    loop {
        std::thread::sleep(LOOK);
        let status = running.status();
        if status.failing.contains_key(STDOUT) {
            return Err(Failure::Pipe);
        }
        let trouble =
            status.last_error.into_iter().chain(status.failing.into_iter().map(|(who, why)| format!("{who}: {why}")));
        say_news(cx, &mut told, trouble.collect());
    }
}

/// The name under which it is kept how far standard output was told.
const STDOUT: &str = "standard output";
/// How often a watch looks.
const LOOK: Duration = Duration::from_secs(1);

/// The receivers of this command: standard output, unless it is configured as one, and those that its arguments name.
fn own_receivers(
    args: &WatchArgs,
    secret: Option<&str>,
    configured: &Receivers,
) -> Result<Vec<Box<dyn Deliver>>, Failure> {
    let mut all: Vec<Box<dyn Deliver>> = Vec::new();
    if !configured.0.iter().any(|receiver| receiver.to == To::Stdout) {
        all.push(Box::new(JsonLines::new(STDOUT, io::stdout())));
    }
    for program in &args.command {
        // A program without a folder is looked up when it is run.
        if program.components().count() > 1 && !program.is_file() {
            return Err(Failure::Input(format!("--command {}: there is no such program", program.display())));
        }
        all.push(Box::new(CommandReceiver::new(program, [""; 0])));
    }
    for url in &args.webhook {
        all.push(Box::new(Webhook::new(url, secret.unwrap_or_default(), Duration::from_secs(10))?));
    }
    Ok(all)
}

fn say_news(cx: &Context, told: &mut String, trouble: Vec<String>) {
    let trouble = trouble.join("; ");
    if trouble != *told && !trouble.is_empty() {
        cx.complain(&trouble);
    }
    *told = trouble;
}

/// Watches a log that another process has open: that process lets the rules look, and this one delivers to its own receivers; to the
/// configured ones too, unless an engine there does. If that process ends, this one goes on with the next, or as the owner.
fn watch_elsewhere(
    cx: &Context,
    args: &WatchArgs,
    log: Opened,
    mut own: Vec<Box<dyn Deliver>>,
    mut configured: Vec<Box<dyn Deliver>>,
) -> Outcome {
    let (mut told, mut seen, mut verified) = (String::new(), None, Instant::now());
    let mut found = args.once && args.verify_every.is_some() && !log.alerts().verify(&VerifyOptions::new())?.ok();
    loop {
        if let Some(every) = args.verify_every.filter(|every| !args.once && verified.elapsed() >= *every) {
            verified = Instant::now();
            if let Err(e) = log.alerts().verify(&VerifyOptions::new()) {
                cx.complain(format!("not verified, and tried again in {every:?}: {e}"));
            }
        }
        let size = log.size().map_err(|e| args.store.failed(e))?;
        if seen != Some(size) {
            let runs = log.alerts().evaluate().map_err(|e| args.store.failed(e))?;
            let mut trouble = Vec::new();
            for receiver in own.iter_mut().chain(configured.iter_mut().filter(|_| !runs)) {
                if let (_, Some(e)) = log.alerts().deliver(&mut **receiver).map_err(|e| args.store.failed(e))? {
                    if receiver.name() == STDOUT {
                        return Err(Failure::Pipe);
                    }
                    trouble.push(format!("{}: {e}", receiver.name()));
                }
            }
            // What was not taken is tried again.
            seen = trouble.is_empty().then_some(size);
            found |= args.once && !trouble.is_empty();
            say_news(cx, &mut told, trouble);
        }
        if args.once {
            log.close().map_err(|e| args.store.failed(e))?;
            return Ok(if found { End::Found } else { End::Done });
        }
        std::thread::sleep(LOOK);
    }
}

fn once(cx: &Context, args: &WatchArgs, log: Opened, mut engine: AlertEngine) -> Outcome {
    let mut found = false;
    if args.verify_every.is_some() {
        found = !engine.verify_once(&VerifyOptions::new())?.ok();
    }
    let run = engine.run_once().map_err(|e| args.store.failed(e))?;
    for (receiver, e) in &run.failed {
        cx.complain(format!("{receiver}: {e}"));
    }
    drop(engine);
    log.close().map_err(|e| args.store.failed(e))?;
    Ok(if found || !run.failed.is_empty() { End::Found } else { End::Done })
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let bytes = Source::file(path)?.read_all(64 << 10)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

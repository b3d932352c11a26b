//! `alerts`: what rules found, who looked into it, and a watch that raises and delivers.
//!
//! Invariant: `list` only reads. Where no engine has looked at what was recorded yet it says so.

use super::alerting;
use super::console;
use super::exit::{End, Failure, Outcome, complain};
use super::line_reader::Source;
use super::render::{Out, Style, clean, counted};
use super::store::{Opened, StoreArgs, damage_line, say_found};
use super::table::{Table, left, right};
use attestlog::VerifyOptions;
use attestlog::alert::{
    AlertEngine, AlertState, CommandReceiver, Deliver, JsonLines, Receivers, Severity, To, Webhook, parse_duration,
};
use attestlog::json::Json;
use clap::{Args, Subcommand};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Alerts: list, acknowledge, watch
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    List(ListArgs),
    Ack(AckArgs),
    Watch(WatchArgs),
    Settle(SettleArgs),
    Forget(ForgetArgs),
}

/// Show the alerts that were raised, newest last. Only reads: rules look at entries where they are recorded, and with `alerts watch`
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that nobody has acknowledged
    #[arg(long)]
    open: bool,
    /// Print JSON, one alert a line
    #[arg(long)]
    json: bool,
}

/// Record who looked into an alert, and what it came to
#[derive(Debug, Args)]
pub struct AckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The alert
    #[arg(value_name = "SEQ")]
    alert: u64,
    /// Who looked into it
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: String,
    /// What it came to
    #[arg(long, value_name = "TEXT")]
    disposition: String,
}

/// Record that somebody looked into what a verification found, and what it came to
#[derive(Debug, Args)]
pub struct SettleArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Who looked into it
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: String,
    /// What it came to
    #[arg(long, value_name = "TEXT")]
    disposition: String,
}

/// Forget a receiver that is gone for good, with what it was not told
#[derive(Debug, Args)]
pub struct ForgetArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Its name, as `health` shows it
    receiver: String,
}

/// Let rules look at the log, and deliver alerts: to the configured receivers, as JSON Lines on standard output, to a program, to a
/// web address
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Look once and end
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
    /// Verify the whole log so often, such as 6h; with --once: before it ends
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_duration(text))]
    verify_every: Option<Duration>,
}

pub fn run(command: &AlertsCommand) -> Outcome {
    match command {
        AlertsCommand::List(args) => list(args),
        AlertsCommand::Ack(args) => ack(args),
        AlertsCommand::Watch(args) => watch(args),
        AlertsCommand::Settle(args) => settle(args),
        AlertsCommand::Forget(args) => forget(args),
    }
}

fn list(args: &ListArgs) -> Outcome {
    let log = args.store.read()?;
    let store = |e: attestlog::Error| args.store.failed(e);
    let lag = log.health().map_err(store)?.alerts;
    if lag.oldest.is_some() {
        complain(format!(
            "no rule has looked at {} yet: `attestlog alerts watch --once` lets them",
            match lag.behind {
                1 => "the newest entry".to_owned(),
                n => format!("the newest {}", counted(n, "entry", "entries")),
            }
        ));
    }
    // Where nothing can be recorded any more it is no alert in the log.
    say_found(&log);
    let alerts = log.alerts().map_err(store)?;
    let alerts: Vec<AlertState> = alerts.into_iter().filter(|alert| !args.open || alert.is_open()).collect();
    let mut out = Out::stdout();
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
    let columns = [right("SEQ"), left("RAISED"), left("SEVERITY"), left("RULE"), left("KEY"), left("ACKNOWLEDGED")];
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
            Some(ack) => (clean(&format!("{} ({})", ack.disposition, ack.actor)), Style::Good),
            None => ("open".to_owned(), Style::Warn),
        };
        table.row(vec![
            plain(alert.seq.to_string()),
            plain(alert.raised_at.to_string()),
            (alert.severity.to_string(), severity),
            plain(clean(&alert.rule)),
            plain(key.unwrap_or_default()),
            said,
        ])?;
    }
    table.finish()
}

fn ack(args: &AckArgs) -> Outcome {
    let log = args.store.open()?;
    let receipt = log.ack_alert(args.alert, &args.actor, &args.disposition)?;
    log.close().map_err(|e| args.store.failed(e))?;
    let mut out = Out::stdout();
    out.line(format!("acknowledged alert {} in entry {}", args.alert, receipt.seq))?;
    out.flush()?;
    Ok(End::Done)
}

fn settle(args: &SettleArgs) -> Outcome {
    let log = args.store.open()?;
    let receipt = log.settle_verification(&args.actor, &args.disposition)?;
    log.close().map_err(|e| args.store.failed(e))?;
    let mut out = Out::stdout();
    out.line(format!("settled in entry {}", receipt.seq))?;
    out.flush()?;
    Ok(End::Done)
}

fn forget(args: &ForgetArgs) -> Outcome {
    let log = args.store.open()?;
    let known = log.forget_receiver(&args.receiver).map_err(|e| args.store.failed(e))?;
    log.close().map_err(|e| args.store.failed(e))?;
    if !known {
        return Err(Failure::Input(format!("there is no receiver {:?}", args.receiver)));
    }
    Ok(End::Done)
}

fn watch(args: &WatchArgs) -> Outcome {
    let secret = match &args.webhook_secret_file {
        Some(path) => Some(first_line(path)?),
        None => None,
    };
    let log = args.store.open()?;
    // Those that the store has, and those that were named here.
    let all = |mut configured: Receivers| -> Result<Vec<Box<dyn Deliver>>, Failure> {
        if console::current().is_some() {
            // Standard output is another process's here.
            configured.0.retain(|receiver| receiver.to != To::Stdout);
        }
        let mut all = configured.open(false);
        if !configured.0.iter().any(|receiver| receiver.to == To::Stdout) {
            all.push(Box::new(JsonLines::new("standard output", console::stdout())));
        }
        for program in &args.command {
            all.push(Box::new(CommandReceiver::new(program, [""; 0])));
        }
        for url in &args.webhook {
            let secret = secret.clone().unwrap_or_default();
            all.push(Box::new(Webhook::new(url, secret, Duration::from_secs(10))?));
        }
        Ok(all)
    };
    let mut configured = alerting::receivers(&args.store.store)?;
    let mut engine = all(configured.clone())?.into_iter().fold(AlertEngine::new(&log)?, AlertEngine::deliver_to);
    if args.once {
        return once(args, log, engine);
    }
    if let Some(every) = args.verify_every {
        engine = engine.verify_every(every);
    }
    let mut running = engine.start()?;
    // Until somebody ends the program; what was not delivered by then, the next watch delivers.
    let mut told = String::new();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        // It may be another process that writes them: this one runs until somebody ends it.
        let now = alerting::receivers(&args.store.store).unwrap_or_else(|_| configured.clone());
        if now != configured {
            running.deliver_instead(all(now.clone())?)?;
            configured = now;
        }
        let status = running.status();
        if status.failing.contains_key("standard output") {
            return Err(Failure::Pipe);
        }
        let trouble =
            status.last_error.into_iter().chain(status.failing.into_iter().map(|(who, why)| format!("{who}: {why}")));
        let trouble = trouble.collect::<Vec<_>>().join("; ");
        if trouble != told && !trouble.is_empty() {
            complain(&trouble);
        }
        told = trouble;
    }
}

fn once(args: &WatchArgs, log: Opened, mut engine: AlertEngine) -> Outcome {
    let mut found = false;
    if args.verify_every.is_some() {
        found = !engine.verify_once(&VerifyOptions::new())?.ok();
    }
    let run = engine.run_once().map_err(|e| args.store.failed(e))?;
    for (receiver, e) in &run.failed {
        complain(format!("{receiver}: {e}"));
    }
    drop(engine);
    log.close().map_err(|e| args.store.failed(e))?;
    Ok(if found || !run.failed.is_empty() { End::Found } else { End::Done })
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let bytes = Source::open(Some(path))?.read_all(64 << 10)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

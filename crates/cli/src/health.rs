//! `health`: the state of a store, for somebody who has to act before something goes wrong.

use super::alerting;
use super::anchors;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::manage::changed;
use super::render::{Out, Style, bytes, clean, count, counted, duration, moment};
use super::store::StoreArgs;
use attestlog::alert::{AlertLag, Undelivered};
use attestlog::{Health, Timestamp};
use clap::Args;
use std::io::Write;

const DAY: u64 = 86_400;

/// Report the state of the store; exit code 1 if somebody should act
#[derive(Debug, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// How large the file may become, in bytes; K, M, G and T may follow
    #[arg(long, value_name = "SIZE", value_parser = size)]
    quota: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Parses a number of bytes as people write it: `500`, `20G`.
fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => {
            let shift = "KMGT".find(unit.to_ascii_uppercase()).ok_or("the unit must be K, M, G or T")?;
            (&text[..at], 10 * (shift as u32 + 1))
        }
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| "not a whole number of bytes")?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

pub fn run(cx: &Context, args: &HealthArgs) -> Outcome {
    let log = args.store.read_with(cx, args.store.key.options(cx)?, None)?;
    let mut health = changed(&args.store, log.health())?;
    health.quota_bytes = args.quota.or(health.quota_bytes);
    health.warnings.extend(alerting::faults(&args.store.store));
    // Receivers that were named at a command line deliver what is owed to them; those of the store are configured.
    if let Ok(configured) = alerting::receivers(&args.store.store) {
        let names: Vec<String> = configured.0.iter().flat_map(|to| [to.name(false), to.name(true)]).collect();
        let gone = |name: &String| !names.contains(name);
        let told = health.alerts.receivers.iter().filter(|(name, owed)| owed.alerts > 0 && gone(name));
        let told = told.map(|(name, owed)| {
            format!(
                "{} owed to {name}, which is not configured: watch with it (alerts watch), configure it again (policy set), or give it up \
                 (alerts forget)",
                counted(owed.alerts, "alert is", "alerts are")
            )
        });
        let told: Vec<String> = told.collect();
        health.warnings.extend(told);
        for (name, owed) in &mut health.alerts.receivers {
            owed.configured = Some(names.contains(name));
        }
    }
    if let Some(m) = anchors::of(&args.store.store).err().as_ref().and_then(Failure::message) {
        health.warnings.push(format!("checkpoints go to no anchor until its configuration can be used: {m}"));
    }
    let mut out = cx.out();
    match args.json {
        true => out.line(health.to_json().to_canonical().as_str())?,
        false => show(&health, &mut out)?,
    }
    out.flush()?;
    Ok(if health.concerns().is_empty() { End::Done } else { End::Found })
}

fn show(health: &Health, out: &mut Out) -> std::io::Result<()> {
    let ago = |t: Timestamp| {
        if t > health.checked_at {
            return format!("{}, in the future of this system's clock", moment(t));
        }
        let since = health.checked_at.since(t);
        format!("{}, {} ago", moment(t), duration(since.as_secs_f64() * 1000.0))
    };
    let mut row = |name: &str, value: String| out.line(format!("{name:<21}{value}"));
    let entries = match health.purged {
        0 => count(health.size),
        purged => format!(
            "{} of {} that were recorded, {} purged",
            count(health.size.saturating_sub(purged)),
            count(health.size),
            count(purged)
        ),
    };
    row("entries", format!("{entries}; signed up to {}", count(health.signed_size)))?;
    if let Some(size) = health.size_bytes {
        let quota = health.quota_bytes.map_or(String::new(), |q| format!(" of {} allowed", bytes(q)));
        row("file", format!("{}{quota}", bytes(size)))?;
    }
    row("last recorded", health.last_recorded_at.map_or("never".to_owned(), ago))?;
    row(
        "not yet packed",
        match &health.oldest_unsealed {
            Some(oldest) => format!("{} since {}", count(health.size - health.sealed), ago(oldest.recorded_at)),
            None => "none".to_owned(),
        },
    )?;
    row("indexed in memory", count(health.pending_index))?;
    row("unfinished calls", count(health.unfinished_calls))?;
    row(
        "last anchor",
        match health.last_anchor() {
            Some((name, size, at)) => format!("{} by {}, {}", counted(size, "entry", "entries"), clean(name), ago(at)),
            None => "none".to_owned(),
        },
    )?;
    row(
        "expiry time",
        match &health.clock.frozen {
            None if health.clock.check().is_err() => format!("{}, ahead", moment(health.clock.now)),
            None if health.clock.credited.as_secs() >= DAY => format!(
                "{}, runs; {} of {} days are used up in which no process had the store open: after that nothing expires until \
                 somebody confirms it (clock confirm)",
                moment(health.clock.now),
                health.clock.credited.as_secs() / DAY,
                health.clock.bound.as_secs() / DAY
            ),
            None => format!("{}, runs", moment(health.clock.now)),
            Some(_) => format!("{}, frozen", moment(health.clock.now)),
        },
    )?;
    for restored in &health.restored {
        row("history", clean(&restored.to_string()))?;
    }
    for keyless in &health.recorded_without_key {
        row("history", keyless.to_string())?;
    }
    row("alerts", alerts(&health.alerts))?;
    let told = |owed: &Undelivered| owed.alerts > 0 || owed.configured != Some(false);
    for (name, undelivered) in health.alerts.receivers.iter().filter(|(_, owed)| told(owed)) {
        row(
            "",
            match undelivered.alerts {
                0 => format!("every alert is delivered to {}", clean(name)),
                n => format!("{} not delivered to {}", counted(n, "alert", "alerts"), clean(name)),
            },
        )?;
    }
    row(
        "last verification",
        match &health.verifications.last {
            None if health.verifications.unread.is_some() => "cannot be read".to_owned(),
            None => "none noted".to_owned(),
            Some(last) => {
                let verdict = match last.ok() {
                    true if last.settled == 0 => "nothing wrong".to_owned(),
                    true => counted(last.settled, "settled finding", "settled findings"),
                    false => counted(last.findings, "finding", "findings"),
                };
                format!("{}: {verdict} in {}", ago(last.at), counted(last.size, "entry", "entries"))
            }
        },
    )?;
    for concern in health.concerns() {
        let line = out.styled(Style::Warn, &clean(&format!("! {concern}")));
        out.line(line)?;
    }
    Ok(())
}

fn alerts(lag: &AlertLag) -> String {
    match (lag.evaluated, lag.behind) {
        (None, _) => "no rule has looked at this log yet".to_owned(),
        (Some(_), 0) => "rules have looked at every entry".to_owned(),
        (Some(to), behind) => {
            let since = lag.oldest.map_or(String::new(), |t| format!(", the oldest of {}", moment(t)));
            format!("rules have looked up to entry {to}, {} behind{since}", count(behind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("500"), Ok(500));
        assert_eq!((size("2k"), size("20G")), (Ok(2048), Ok(20 << 30)));
        for bad in ["", "G", "1.5G", "7X", "-1", "18446744073709551615K", "1é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}

//! `health`: how a store is doing, for whoever has to act before something goes wrong.

use super::alerting;
use super::anchors;
use super::exit::{End, Failure, Outcome};
use super::manage::changed;
use super::render::{Out, Style, bytes, clean, count, counted, duration, moment};
use super::store::StoreArgs;
use attestlog::alert::AlertLag;
use attestlog::{Health, Timestamp};
use clap::Args;
use std::io::Write;

/// Say how the store is doing; exit code 1 where somebody should act
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

/// A number of bytes as a person writes it: `500`, `20G`.
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

pub fn run(args: &HealthArgs) -> Outcome {
    let mut options = args.store.key.options()?;
    if let Some(quota) = args.quota {
        options = options.quota_bytes(quota);
    }
    let log = args.store.read_with(options)?;
    let mut health = changed(&args.store, log.health())?;
    health.warnings.extend(alerting::faults(&args.store.store));
    if let Some(m) = anchors::of(&args.store.store).err().as_ref().and_then(Failure::message) {
        health.warnings.push(format!("no checkpoint is anchored: {m}"));
    }
    let mut out = Out::stdout();
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
    let mut row = |name: &str, value: String| out.line(format!("{name:<18}{value}"));
    row("entries", format!("{}, signed up to {}", count(health.size), count(health.signed_size)))?;
    if let Some(size) = health.size_bytes {
        let quota = health.quota_bytes.map_or(String::new(), |q| format!(" of {} allowed", bytes(q)));
        row("file", format!("{}{quota}", bytes(size)))?;
    }
    row("last recorded", health.last_recorded_at.map_or("never".to_owned(), ago))?;
    row(
        "not yet in blocks",
        match &health.oldest_unsealed {
            Some(oldest) => format!("{} since {}", count(health.size - health.sealed), ago(oldest.recorded_at)),
            None => "none".to_owned(),
        },
    )?;
    row("not yet indexed", format!("{} (indexed in memory)", count(health.pending_index)))?;
    row("unfinished calls", count(health.unfinished_calls))?;
    row(
        "last anchor",
        match health.last_anchor() {
            Some((name, size, at)) => format!("{} by {}, {}", counted(size, "entry", "entries"), clean(name), ago(at)),
            None => "none".to_owned(),
        },
    )?;
    row(
        "expiry clock",
        match &health.clock.frozen {
            None if health.clock.check().is_err() => format!("{}, ahead", moment(health.clock.now)),
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
    for (name, undelivered) in &health.alerts.receivers {
        row("", format!("{} not delivered to {}", counted(undelivered.alerts, "alert", "alerts"), clean(name)))?;
    }
    row(
        "last verification",
        match &health.verifications.last {
            None => "none noted".to_owned(),
            Some(last) => {
                let verdict = match last.ok() {
                    true => "nothing wrong".to_owned(),
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

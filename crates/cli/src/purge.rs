//! `purge`: takes what has expired out of a store, or says what that would be.

use super::exit::{End, Failure, Outcome};
use super::manage::close;
use super::render::{Out, Style, bytes, clean, count, counted, moment};
use super::store::StoreArgs;
use super::table::{Table, left, right};
use attestlog::json::{Json, Object};
use attestlog::retention::PurgePlan;
use attestlog::{AuditLog, Error, ErrorKind, Purged};
use clap::Args;
use std::io::Write;

/// Take out what has expired, and give its room back; every proof stays
#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Who does this
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, required_unless_present = "dry_run", value_parser = super::named::named)]
    actor: Option<String>,
    /// Only say what would go, what holds keep, and when the next entries expire
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &PurgeArgs) -> Outcome {
    // What is only asked changes no byte of the file, also of one that was not closed.
    let log = if args.dry_run { args.store.read()? } else { args.store.open()? };
    let mut out = Out::stdout();
    match (args.dry_run, &args.actor) {
        (false, Some(actor)) => {
            let mut purged = log.purge(actor).map_err(|e| failed(args, e))?;
            close(&args.store, log)?;
            // Closing gives back what the new file does not need.
            purged.bytes_after = std::fs::metadata(&args.store.store).map_or(purged.bytes_after, |about| about.len());
            match args.json {
                true => out.line(done_json(&purged).to_canonical().as_str())?,
                false => show_purged(&purged, &mut out)?,
            }
        }
        _ => {
            let plan = log.plan_purge().map_err(|e| failed(args, e))?;
            match args.json {
                true => out.line(plan_json(args, &plan).to_canonical().as_str())?,
                false => show(&log, &plan, &mut out)?,
            }
        }
    }
    out.flush()?;
    Ok(End::Done)
}

/// A clock that stands still is something found, not a store that cannot be used.
fn failed(args: &PurgeArgs, e: Error) -> Failure {
    let failure = match e.kind() {
        ErrorKind::ClockFrozen => Failure::Found(format!("nothing is purged: {e} (`attestlog clock confirm`)")),
        _ => Failure::from(&e),
    };
    args.store.name(&e, failure)
}

/// Writes for people what a purge did.
pub fn show_purged(purged: &Purged, out: &mut Out) -> std::io::Result<()> {
    let held = match purged.kept_by_hold {
        0 => String::new(),
        n => format!("; holds keep {}", count(n)),
    };
    let Some(seq) = purged.seq else {
        return out.line(format!("nothing has expired{held}"));
    };
    out.line(format!("{} gone{held}; recorded as entry {seq}", counted(purged.purged, "entry is", "entries are")))?;
    for (class, n) in &purged.classes {
        out.line(format!("  {:<20}{}", clean(class), count(*n)))?;
    }
    out.line(format!("the file had {}, it has {}", bytes(purged.bytes_before), bytes(purged.bytes_after)))
}

fn done_json(purged: &Purged) -> Json {
    let classes: Object = purged.classes.iter().map(|(class, n)| (class.as_str(), *n)).collect();
    Json::Object(Object::from_iter([
        ("purged", Json::from(purged.purged)),
        ("kept_by_hold", purged.kept_by_hold.into()),
        ("bytes_before", purged.bytes_before.into()),
        ("bytes_after", purged.bytes_after.into()),
        ("purge_seq", purged.seq.map_or(Json::Null, Json::from)),
        ("classes", classes.into()),
    ]))
}

fn plan_json(args: &PurgeArgs, plan: &PurgePlan) -> Json {
    let size = std::fs::metadata(&args.store.store).map_or(Json::Null, |about| about.len().into());
    let classes = plan.counts.iter().map(|(class, tools)| {
        let tools = tools.iter().map(|(tool, n)| {
            let both = [("expired", Json::from(n.expired)), ("kept_by_hold", n.kept_by_hold.into())];
            (tool.as_str(), Json::Object(Object::from_iter(both)))
        });
        (class.as_str(), Json::Object(tools.collect()))
    });
    let next: Object = plan.next.iter().map(|(class, at)| (class.as_str(), at.to_string())).collect();
    let holds: Object = plan.by_hold.iter().map(|(id, n)| (id.to_string(), *n)).collect();
    Json::Object(Object::from_iter([
        ("dry_run", Json::from(true)),
        ("purged", 0u64.into()),
        ("would_purge", plan.expired.len().into()),
        ("kept_by_hold", plan.kept_by_hold.into()),
        ("bytes_before", size.clone()),
        ("bytes_after", size),
        ("purge_seq", Json::Null),
        ("cut_off", plan.cut_off.to_string().into()),
        ("classes", Json::Object(classes.collect())),
        ("holds", holds.into()),
        ("next", next.into()),
    ]))
}

/// The plan for people.
fn show(log: &AuditLog, plan: &PurgePlan, out: &mut Out) -> Result<(), Failure> {
    out.line(format!("by the expiry clock it is {}", moment(plan.cut_off)))?;
    match plan.expired.len() {
        0 => out.line("nothing would go")?,
        n => out.line(format!("{} would go", counted(n, "entry", "entries")))?,
    }
    if !plan.counts.is_empty() {
        let columns = [left("CLASS"), left("TOOL"), right("WOULD GO"), right("HELD")];
        let mut table = Table::new(out, &columns);
        for (class, tools) in &plan.counts {
            for (tool, n) in tools {
                let plain = |text: String| (text, Style::Plain);
                let held = if n.kept_by_hold > 0 { Style::Warn } else { Style::Plain };
                table.row(vec![
                    plain(clean(class)),
                    plain(clean(tool)),
                    plain(count(n.expired)),
                    (count(n.kept_by_hold), held),
                ])?;
            }
        }
        table.finish()?;
    }
    let holds = log.holds()?;
    for (id, n) in &plan.by_hold {
        let case = holds.iter().find(|(seq, _)| seq == id).map(|(_, hold)| clean(&hold.case)).unwrap_or_default();
        out.line(format!(
            "hold {id} (case {case}) keeps {} expired",
            counted(*n, "entry that has", "entries that have")
        ))?;
    }
    for (class, at) in &plan.next {
        out.line(format!("next of {}: {}", clean(class), moment(*at)))?;
    }
    Ok(())
}

//! `purge`: removes what has expired from a store, or says what that would be.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::manage::close;
use super::render::{Out, Style, bytes, clean, count, counted, moment};
use super::store::StoreArgs;
use super::table::{Table, left, right};
use super::told;
use attestlog::json::Json;
use attestlog::retention::PurgePlan;
use attestlog::{AuditLog, Error, ErrorKind, Purged};
use clap::Args;
use std::io::Write;

/// Remove what has expired, and free its space; every proof stays valid
#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Who does this
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, required_unless_present = "dry_run", value_parser = super::named::named)]
    actor: Option<String>,
    /// Only say what would be removed, what holds keep, and when the next entries expire
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, args: &PurgeArgs) -> Outcome {
    // A dry run changes no byte of the file, even if the file was not closed.
    let log = if args.dry_run { args.store.read(cx)? } else { args.store.open(cx)? };
    let mut out = cx.out();
    match (args.dry_run, &args.actor) {
        (false, Some(actor)) => {
            let mut purged = log.retention().purge(actor).map_err(|e| failed(args, e))?;
            let closed = close(&args.store, log);
            // Closing frees the space that the new file does not need.
            purged.bytes_after = std::fs::metadata(&args.store.store).map_or(purged.bytes_after, |about| about.len());
            let shown = match args.json {
                true => told::line(&mut out, purged.to_json().to_canonical().as_str()),
                false => show_purged(&purged, &mut out).and_then(|()| out.flush()),
            };
            let done = match purged.seq {
                Some(seq) => {
                    format!("{} gone; recorded as entry {seq}", counted(purged.purged, "entry is", "entries are"))
                }
                None => "nothing has expired".to_owned(),
            };
            told::told(shown, closed, &done)?;
        }
        _ => {
            let plan = log.retention().plan().map_err(|e| failed(args, e))?;
            match args.json {
                true => out.line(plan_json(args, &plan).to_canonical().as_str())?,
                false => show(&log, &plan, &mut out)?,
            }
        }
    }
    out.flush()?;
    Ok(End::Done)
}

/// What stands in the way was found in the log: a frozen clock, a restore that nobody has confirmed. Neither the command nor the
/// store is at fault.
fn failed(args: &PurgeArgs, e: Error) -> Failure {
    let failure = match e.kind() {
        ErrorKind::ClockFrozen => Failure::Found(format!("nothing is purged: {e} (`attestlog clock confirm`)")),
        ErrorKind::Conflict => Failure::Found(e.to_string()),
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
        return out.line(match purged.kept_by_hold {
            0 => "nothing has expired".to_owned(),
            n => {
                format!("nothing is gone: holds keep the {} expired", counted(n, "entry that has", "entries that have"))
            }
        });
    };
    out.line(format!("{} gone{held}; recorded as entry {seq}", counted(purged.purged, "entry is", "entries are")))?;
    for (class, n) in &purged.classes {
        out.line(format!("  {:<20}{}", clean(class), count(*n)))?;
    }
    let later = match purged.bytes_after > purged.bytes_before {
        true => ", with room for what is recorded next; it shrinks when the store is closed",
        false => "",
    };
    out.line(format!("the file had {}, it has {}{later}", bytes(purged.bytes_before), bytes(purged.bytes_after)))
}

fn plan_json(args: &PurgeArgs, plan: &PurgePlan) -> Json {
    let size = std::fs::metadata(&args.store.store).map_or(Json::Null, |about| about.len().into());
    let mut members = plan.to_json().as_object().cloned().unwrap_or_default();
    // Of a large log it is a long text, and who runs a program asks how many.
    members.remove("seqs");
    members.insert("dry_run", true);
    members.insert("purged", 0u64);
    members.insert("bytes_before", size.clone());
    members.insert("bytes_after", size);
    members.insert("purge_seq", Json::Null);
    members.into()
}

/// Writes the plan for people.
fn show(log: &AuditLog, plan: &PurgePlan, out: &mut Out) -> Result<(), Failure> {
    out.line(format!("the time by which entries expire is {}", moment(plan.cut_off)))?;
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
    let holds = log.retention().holds()?;
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

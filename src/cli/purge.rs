//! `purge`: takes what has expired out of the log.

use super::exit::{End, Failure, Outcome};
use super::render::{self, Out, clean, count, counted};
use super::store::StoreArgs;
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, Purged};
use clap::Args;
use std::io::Write;

/// Take what has expired, and no hold keeps, out of the log
#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Who does this
    #[arg(long, value_name = "WHO", required_unless_present = "dry_run", allow_hyphen_values = true)]
    actor: Option<String>,
}

/// What both a purge and a dry run say.
struct Answer {
    purged: u64,
    kept_by_hold: u64,
    bytes_before: u64,
    /// A dry run cannot know.
    bytes_after: Option<u64>,
    seq: Option<u64>,
    classes: Vec<(String, u64)>,
}

pub fn run(args: &PurgeArgs) -> Outcome {
    let log = args.store.open()?;
    let answer = match (&args.actor, args.dry_run) {
        (Some(actor), false) => purge(&log, actor),
        _ => plan(&log, args),
    };
    let answer = answer.map_err(|e| args.store.name(e.into()))?;
    log.close().map_err(|e| args.store.name(e.into()))?;
    let mut out = Out::stdout();
    match args.json {
        true => out.line(json(&answer).to_canonical().as_str())?,
        false => show(&answer, args.dry_run, &mut out)?,
    }
    out.flush()?;
    Ok(End::Done)
}

fn purge(log: &AuditLog, actor: &str) -> attestlog::Result<Answer> {
    log.purge(actor).map(Answer::from)
}

impl From<Purged> for Answer {
    fn from(done: Purged) -> Answer {
        Answer {
            purged: done.purged,
            kept_by_hold: done.kept_by_hold,
            bytes_before: done.bytes_before,
            bytes_after: Some(done.bytes_after),
            seq: done.seq,
            classes: done.classes.into_iter().collect(),
        }
    }
}

/// Writes for people what a purge did.
pub fn show_purged(done: Purged, out: &mut Out) -> Result<(), Failure> {
    show(&Answer::from(done), false, out)
}

fn plan(log: &AuditLog, args: &PurgeArgs) -> attestlog::Result<Answer> {
    let plan = log.plan_purge()?;
    Ok(Answer {
        purged: plan.expired.len(),
        kept_by_hold: plan.kept_by_hold,
        bytes_before: std::fs::metadata(&args.store.store)?.len(),
        bytes_after: None,
        seq: None,
        classes: plan.classes().into_iter().collect(),
    })
}

fn show(answer: &Answer, dry_run: bool, out: &mut Out) -> Result<(), Failure> {
    let verb = if dry_run { "would be purged" } else { "purged" };
    let kept = match answer.kept_by_hold {
        0 => String::new(),
        n => format!(", {} kept by holds", count(n)),
    };
    out.line(format!("{} {verb}{kept}", counted(answer.purged, "entry", "entries")))?;
    for (class, n) in &answer.classes {
        out.line(format!("  {}  {}", clean(class), count(*n)))?;
    }
    if let (Some(after), Some(seq)) = (answer.bytes_after, answer.seq) {
        let before = render::bytes(answer.bytes_before);
        out.line(format!("  the file had {before} and has {}; recorded as entry {seq}", render::bytes(after)))?;
    }
    Ok(())
}

fn json(answer: &Answer) -> Json {
    Json::from(Object::from_iter([
        ("purged", Json::from(answer.purged)),
        ("kept_by_hold", answer.kept_by_hold.into()),
        ("bytes_before", answer.bytes_before.into()),
        ("bytes_after", answer.bytes_after.into()),
        ("purge_seq", answer.seq.into()),
    ]))
}

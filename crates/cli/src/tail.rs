//! `tail`: follows what is recorded, as a person reads it or as events for a log pipeline.

use super::console;
use super::exit::{End, Outcome};
use super::filter::Filters;
use super::query;
use super::render::Out;
use super::store::StoreArgs;
use attestlog::{Entry, ErrorKind, Query};
use clap::Args;
use std::io::{self, Write};
use std::time::Duration;

/// How long it takes at most to notice that nobody reads any more.
const PULSE: Duration = Duration::from_secs(1);

/// Show what is recorded, as it is recorded
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    filters: Filters,
    /// Show so many of the newest entries first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    last: u64,
    /// Show everything from the entry at this seq on first
    #[arg(long, value_name = "SEQ", conflicts_with = "last")]
    from: Option<u64>,
    /// Print events, one JSON object a line: {"entry":…,"hash":…,"seq":…,"target":"tool_audit","timestamp":…}
    #[arg(long)]
    json: bool,
}

pub fn run(args: &TailArgs) -> Outcome {
    let log = args.store.read()?;
    let query = args.filters.query_to_come()?;
    let from = match (console::resume(), args.from) {
        (Some(seq), _) | (None, Some(seq)) => seq,
        (None, None) => {
            let newest = Query::clone(&query).newest_first().limit(args.last);
            let first = log.query(&newest)?.last().transpose()?;
            first.map_or(log.size(), |entry| entry.seq)
        }
    };
    console::shown(from)?;
    let mut out = Out::stdout();
    let mut follower = log.follow(from).matching(&query);
    loop {
        let entry = match follower.next_within(PULSE) {
            // The process that has the store open closes it; this goes on elsewhere.
            Err(e) if e.kind() == ErrorKind::Closed => return Ok(End::Done),
            other => other?,
        };
        if let Some(entry) = entry {
            show(&entry, args.json, &mut out)?;
        }
        console::shown(follower.position())?;
    }
}

fn show(entry: &Entry, json: bool, out: &mut Out) -> io::Result<()> {
    if json {
        out.line(entry.event())?;
        return out.flush();
    }
    let cells = query::row(entry).into_iter().filter(|(text, _)| !text.is_empty());
    let text: Vec<String> = cells.map(|(text, style)| out.styled(style, &text)).collect();
    out.line(text.join("  "))?;
    out.flush()
}

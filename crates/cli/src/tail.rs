//! `tail`: follows what is recorded, as text for people or as events for a log pipeline. If the process that has the store open
//! ends, it goes on with the next, or opens the file itself; if another wants to record, it gives the file up and goes on through it.

use super::columns::Rows;
use super::context::Context;
use super::exit::{Failure, Outcome};
use super::filter::{Filters, say_unknown};
use super::render::{Out, counted};
use super::store::StoreArgs;
use attestlog::{Entry, Query};
use clap::Args;
use std::io::{self, Write};
use std::time::Duration;

/// How long it takes at most to notice that nobody reads any more.
const PULSE: Duration = Duration::from_secs(1);

/// Show entries as they are recorded
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    filters: Filters,
    /// First show this many of the newest entries
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = super::named::number)]
    last: u64,
    /// First show everything from the entry at this seq on
    #[arg(long, value_name = "SEQ", conflicts_with = "last", value_parser = super::named::number)]
    from: Option<u64>,
    /// Print events, one JSON object per line: {"entry":…,"hash":…,"seq":…,"target":"tool_audit","timestamp":…}
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, args: &TailArgs) -> Outcome {
    let log = args.store.read(cx)?;
    let query = args.filters.query_to_come()?;
    say_unknown(cx, &log, &query)?;
    let size = log.size()?;
    if let Some(from) = args.from.filter(|from| *from > size) {
        cx.complain(format!(
            "the log has {} so far: nothing is shown until it has entry {from}",
            counted(size, "entry", "entries")
        ));
    }
    let from = match args.from {
        Some(seq) => seq,
        None => {
            let newest = Query::clone(&query).newest_first().limit(args.last);
            let first = log.query(&newest)?.last().transpose()?;
            first.map_or(log.size()?, |entry| entry.seq)
        }
    };
    let mut out = cx.out();
    let rows = Rows::new(&[], args.filters.shown(), &out);
    let mut follower = log.follow(from).matching(&query);
    loop {
        match follower.next_within(PULSE)? {
            Some(entry) => show(&entry, args.json, &rows, &mut out)?,
            None if cx.nobody_listens() => return Err(Failure::Pipe),
            // Nothing will come any more if the store was moved away, or another was put in its place.
            None => log.check_file().map_err(|e| args.store.failed(e))?,
        }
    }
}

fn show(entry: &Entry, json: bool, rows: &Rows, out: &mut Out) -> io::Result<()> {
    if json {
        out.line(entry.event())?;
        return out.flush();
    }
    let cells = rows.row(entry).into_iter().filter(|(text, _)| !text.is_empty());
    let text: Vec<String> = cells.map(|(text, style)| out.styled(style, &text)).collect();
    out.line(text.join("  "))?;
    out.flush()
}

//! `query`: finds entries.

use super::columns::{Column, Rows, column};
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::Filters;
use super::progress::Unit;
use super::render::{self, Out, Style, clean};
use super::store::{StoreArgs, damage_line, say_found};
use super::table::{Cell, Table};
use super::withheld::{self, Withheld};
use super::zone::ZoneArgs;
use attestlog::json::Json;
use attestlog::{AuditLog, Call, Entry, Kind, Query, Trigger};
use clap::Args;
use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::sync::Arc;

/// Find entries
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// At most this many
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = super::named::number)]
    limit: Option<u64>,
    /// Only entries after the one with this seq, in the requested order
    #[arg(long, value_name = "SEQ", allow_hyphen_values = true, value_parser = super::named::number)]
    after: Option<u64>,
    /// Newest first
    #[arg(long)]
    newest_first: bool,
    /// On a terminal, also the log's own entries; elsewhere they are listed anyway
    #[arg(long)]
    all: bool,
    /// The columns of the table, such as seq,time,model,took,error
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = column, conflicts_with_all = ["count", "json"])]
    columns: Vec<Column>,
    /// Only the number of entries
    #[arg(long)]
    count: bool,
    /// Print the canonical lines, byte for byte what was hashed
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filters: Filters,
}

impl QueryArgs {
    /// Says that some of the entries that were counted are no calls of their own, so that nobody takes the number for that of
    /// the calls.
    fn tell_parts(&self, cx: &Context, log: &AuditLog, query: &Query) -> Result<(), Failure> {
        let count = |query: &Query, of: fn(&Call) -> bool| -> Result<u64, Failure> {
            // What cannot be read was counted without being read.
            let read = log.query(query)?.filter_map(Result::ok);
            Ok(read.filter(|entry| entry.call().is_some_and(of)).count() as u64)
        };
        let late = match self.limit {
            // The limit is of all entries, not of those that add to others.
            Some(_) => count(query, Call::adds_to_call)?,
            None => {
                let mut late = 0;
                if !self.filters.leave_out(Trigger::FollowUp) {
                    let follow_ups = query.clone().trigger(Trigger::FollowUp);
                    late += count(&follow_ups, |call| call.adds_to_call() && call.detail_of().is_none())?;
                }
                if let Some(details) = self.filters.details(query) {
                    late += count(&details, |call| call.detail_of().is_some())?;
                }
                late
            }
        };
        match late {
            0 => {}
            1 => cx.complain(
                "1 of these entries is not a call of its own: it is a late answer to, has details of, or names further patients of, a \
                 call that has another entry",
            ),
            n => cx.complain(format!(
                "{} of these entries are not calls of their own: they are late answers to, have details of, or name further patients \
                 of, calls that have other entries",
                render::count(n)
            )),
        }
        Ok(())
    }

    fn query(&self, filtered: &Query) -> Query {
        let mut query = filtered.clone();
        query = self.limit.into_iter().fold(query, Query::limit);
        query = self.after.into_iter().fold(query, Query::after);
        if self.newest_first { query.newest_first() } else { query }
    }
}

pub fn run(cx: &Context, args: &QueryArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let filtered = args.filters.query(cx, &log)?;
    let query = args.query(&filtered);
    let size = log.size()?;
    if let Some(after) = args.after.filter(|after| *after >= size) {
        let newest = size.checked_sub(1).map_or("it is empty".to_owned(), |seq| format!("its newest is entry {seq}"));
        cx.complain(format!("the log has no entry {after} (--after): {newest}"));
    }
    args.filters.tell_look_alikes(cx, &log)?;
    let mut out = cx.out();
    if args.count {
        let entries = args.counted(cx, &log, &query)?;
        out.line(entries.to_string())?;
        out.flush()?;
        args.tell_parts(cx, &log, &query)?;
    } else if args.json {
        damage_line(&log, &mut out)?;
        let mut withheld = Withheld::new(cx);
        for entry in log.query(&query)? {
            out.line(withheld.take(entry)?.map_or_else(|e| withheld::line(&e), |entry| entry.line()))?;
        }
        out.flush()?;
        return withheld.end();
    } else {
        return args.show(cx, &log, &filtered, &mut out);
    }
    out.flush()?;
    Ok(End::Done)
}

/// How many of the newest calls a terminal shows.
const NEWEST: u64 = 50;

/// Writes every entry of a query for people.
pub fn show(cx: &Context, log: &AuditLog, query: &Query, out: &mut Out) -> Outcome {
    let rows = Rows::new(&[], ZoneArgs::default().shown(), out);
    let mut withheld = Withheld::new(cx);
    let mut table = Table::new(out, &rows.head());
    for entry in log.query(query)? {
        if let Ok(entry) = withheld.take(entry)? {
            table.row(rows.row(&entry))?;
        }
    }
    table.finish()?;
    out.flush()?;
    withheld.end()
}

impl QueryArgs {
    /// Writes the table for people: into a file everything, on a terminal the newest calls.
    fn show(&self, cx: &Context, log: &AuditLog, filtered: &Query, out: &mut Out) -> Outcome {
        let mut withheld = Withheld::new(cx);
        let query = filtered.clone();
        let calls = out.width().is_some() && !self.all && !self.filters.names_kinds();
        let begun = query.clone().kind(Kind::CallBegun).unfinished();
        let mut open = BTreeSet::new();
        let query = if calls {
            for entry in log.query(&begun)? {
                open.extend(withheld.take(entry)?.ok().map(|entry| entry.seq));
            }
            query.kind(Kind::ToolCall).kind(Kind::CallBegun)
        } else {
            query
        };
        // A beginning whose end is listed too would make two calls of one.
        let listed = |entry: &Entry| !calls || entry.kind() == Kind::ToolCall || open.contains(&entry.seq);
        let whole = self.limit.is_some() || self.after.is_some();
        let newest = out.width().is_some() && !whole;
        let query = self.after.into_iter().fold(query, Query::after);
        let query = if self.newest_first || newest { query.newest_first() } else { query };
        let most = if newest { NEWEST } else { self.limit.unwrap_or(u64::MAX) };
        let progress = Arc::new(cx.progress("searching", Unit::Entries));
        let bar = progress.clone();
        let mut found = log.query(&query)?.telling(Arc::new(move |done, all| bar.at(done, all)));
        let rows = Rows::new(&self.columns, self.filters.shown(), out);
        let (mut kept, mut shown, mut more) = (VecDeque::new(), 0, false);
        let mut table = Table::new(out, &rows.head());
        // Whoever names a number is answered without a look at what comes after it.
        while newest || shown < most {
            let Some(entry) = found.next() else { break };
            let Ok(entry) = withheld.take(entry)? else { continue };
            if !listed(&entry) {
                continue;
            }
            more = shown == most;
            if more {
                break;
            }
            shown += 1;
            match newest && !self.newest_first {
                true => kept.push_front(rows.row(&entry)),
                false => table.row(rows.row(&entry))?,
            }
        }
        drop(progress);
        kept.into_iter().try_for_each(|row| table.row(row))?;
        table.finish()?;
        if newest && more {
            let older = match self.filters.scans() {
                true => "older ones".to_owned(),
                false => {
                    let counted = match calls {
                        true => log.count(&filtered.clone().kind(Kind::ToolCall))? + open.len() as u64,
                        false => log.count(filtered)?,
                    };
                    format!("{} more", render::count(counted.saturating_sub(shown)))
                }
            };
            out.line(
                out.styled(Style::Dim, &format!("… {older}: --limit N lists from the oldest on, --since a part")),
            )?;
        }
        if shown == 0 && most > 0 && !more && self.after.is_none() {
            cx.note("no entries match")?;
        }
        out.flush()?;
        withheld.end()
    }

    /// The number of entries. A search is counted as it is read, with a progress bar.
    fn counted(&self, cx: &Context, log: &AuditLog, query: &Query) -> Result<u64, Failure> {
        if !self.filters.scans() {
            return Ok(log.count(query)?);
        }
        let progress = Arc::new(cx.progress("searching", Unit::Entries));
        let bar = progress.clone();
        let mut found = log.query(query)?.telling(Arc::new(move |done, all| bar.at(done, all)));
        Ok(found.try_fold(0, |n, entry| entry.map(|_| n + 1))?)
    }
}

/// How a call ended, in one word.
pub fn outcome(call: &Call) -> Cell {
    match &call.completion {
        None if call.detail_of().is_some() => ("·".to_owned(), Style::Dim),
        None => ("begun".to_owned(), Style::Warn),
        Some(c) if call.success() == Some(true) => (c.outcome.to_string(), Style::Good),
        Some(c) => (c.outcome.to_string(), Style::Bad),
    }
}

/// What the policy did to the entry, as numbers of places: `2 masked, 1 sealed`. The line names the places.
pub fn treated(summary: &Json) -> Option<String> {
    let count = |detectors: &Json| {
        let paths = detectors.as_object().into_iter().flat_map(|d| d.iter()).filter_map(|(_, paths)| paths.as_array());
        paths.map(<[Json]>::len).sum::<usize>()
    };
    let done = summary.as_object()?.iter().map(|(action, detectors)| {
        let done = match action {
            "drop" => "dropped",
            "mask" => "masked",
            "partial" => "cut",
            "pseudonymise" => "pseudonymised",
            "seal" => "sealed",
            // Only names that look like others are both kept and listed.
            "keep" => "look-alike",
            other => other,
        };
        format!("{} {}", count(detectors), clean(done))
    });
    let done: Vec<String> = done.collect();
    (!done.is_empty()).then(|| done.join(", "))
}

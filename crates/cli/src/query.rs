//! `query`: finds entries.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::Filters;
use super::render::{self, Out, Style, brief, clean, clean_json};
use super::store::{StoreArgs, damage_line, say_found};
use super::table::{Cell, Table, left, right, whole};
use super::withheld::{self, Withheld};
use attestlog::entry::CLAIMED_TIME_BOUND;
use attestlog::json::Json;
use attestlog::{AuditLog, Call, Entry, Query, Trigger};
use clap::Args;
use std::io::Write;

/// The maximum number of characters of an entry that is not about a call; `--json` shows all of it.
const MOST: usize = 300;

/// Find entries
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    filters: Filters,
    /// At most this many
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = super::named::number)]
    limit: Option<u64>,
    /// Only entries after the one with this seq, in the requested order
    #[arg(long, value_name = "SEQ", allow_hyphen_values = true, value_parser = super::named::number)]
    after: Option<u64>,
    /// Newest first
    #[arg(long)]
    newest_first: bool,
    /// Only the number of entries
    #[arg(long)]
    count: bool,
    /// Print the canonical lines, byte for byte what was hashed
    #[arg(long)]
    json: bool,
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

    fn query(&self, cx: &Context, log: &AuditLog) -> Result<Query, Failure> {
        let mut query = self.filters.query(cx, log)?;
        query = self.limit.into_iter().fold(query, Query::limit);
        query = self.after.into_iter().fold(query, Query::after);
        Ok(if self.newest_first { query.newest_first() } else { query })
    }
}

pub fn run(cx: &Context, args: &QueryArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let query = args.query(cx, &log)?;
    let size = log.size()?;
    if let Some(after) = args.after.filter(|after| *after >= size) {
        let newest = size.checked_sub(1).map_or("it is empty".to_owned(), |seq| format!("its newest is entry {seq}"));
        cx.complain(format!("the log has no entry {after} (--after): {newest}"));
    }
    args.filters.tell_look_alikes(cx, &log)?;
    let mut out = cx.out();
    if args.count {
        let entries = log.count(&query)?;
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
        return show(cx, &log, &query, &mut out);
    }
    out.flush()?;
    Ok(End::Done)
}

/// Writes the table for people.
pub fn show(cx: &Context, log: &AuditLog, query: &Query, out: &mut Out) -> Outcome {
    let columns = [right("SEQ"), whole("TIME (UTC)"), left("USER"), left("TOOL"), whole("OUTCOME"), left("WITH")];
    let mut table = Table::new(out, &columns);
    let mut withheld = Withheld::new(cx);
    for entry in log.query(query)? {
        if let Ok(entry) = withheld.take(entry)? {
            table.row(row(&entry))?;
        }
    }
    table.finish()?;
    out.flush()?;
    withheld.end()
}

/// The row of an entry for people.
pub fn row(entry: &Entry) -> Vec<Cell> {
    let seq = (entry.seq.to_string(), Style::Dim);
    let time = (render::moment(entry.timestamp()), Style::Plain);
    let plain = |text: String| (text, Style::Plain);
    match (entry.call(), entry.own()) {
        (Some(call), _) => {
            let tool = plain(clean(&call.tool_name));
            vec![seq, time, plain(clean(&call.user_id)), tool, outcome(call), plain(with(entry, call))]
        }
        (None, Some(own)) => {
            let kind = (own.kind.to_string(), Style::Warn);
            // A whole policy is longer than anybody reads in a table.
            let detail = render::cut(&brief(&own.detail.to_json()), MOST);
            vec![seq, time, plain("·".to_owned()), kind, plain(String::new()), plain(detail)]
        }
        (None, None) => vec![seq, time],
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
fn treated(summary: &Json) -> Option<String> {
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

/// The details of a call: a time that is only claimed, patients, arguments, what was treated, error.
fn with(entry: &Entry, call: &Call) -> String {
    let mut parts = Vec::new();
    if let Some(of) = call.part_of().filter(|_| call.adds_to_call()) {
        // It looked like a further call.
        let what = match call.detail_of() {
            Some(_) => "details of",
            None if call.late_answer => "late answer to",
            None => "further patients of",
        };
        parts.push(format!("{what} {of}"));
    }
    parts.extend(entry.claimed_time(CLAIMED_TIME_BOUND).map(|claimed| claimed.to_string()));
    if !call.patient_ids.is_empty() {
        let shown: Vec<String> = call.patient_ids.iter().take(3).map(|p| clean(p)).collect();
        let more = call.patient_ids.len().saturating_sub(3);
        let more = if more > 0 { format!(", … {more} more") } else { String::new() };
        parts.push(format!("patient {}{more}", shown.join(", ")));
    }
    if call.emergency {
        parts.push("emergency".to_owned());
    }
    if let Some(arguments) = call.arguments.as_ref().map(|a| brief(&a.to_json())).filter(|a| !a.is_empty()) {
        parts.push(arguments);
    }
    parts.extend(call.treated.as_ref().and_then(|t| treated(&t.to_json())));
    if let Some(error) = call.completion.as_ref().and_then(|c| c.error.as_ref()) {
        let message = clean_json(&error.message);
        parts.push(if message.is_empty() { "✗ (no message)".to_owned() } else { format!("✗ {message}") });
    }
    parts.join(" · ")
}

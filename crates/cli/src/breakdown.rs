//! `stats --by`: how groups of calls went, beside the period before if that is asked for.

use super::chance::{self, Change};
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::render::{self, Out, Style, clean, count};
use super::stats::{StatsArgs, percent};
use super::store::damage_json;
use super::table::{Cell, Table, left, right, whole};
use attestlog::host::{Clock, SystemClock};
use attestlog::json::{Json, Object};
use attestlog::query::{Breakdown, Figures, Group, Grouping};
use attestlog::{AuditLog, Query, Timestamp};
use attestlog_report::csv::guard;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

/// How many kinds of failure a row names.
const NAMED: usize = 3;
/// The longest bar.
const BAR: usize = 40;

/// A group now and, if that was asked for, before.
struct Row {
    now: Group,
    before: Option<Group>,
}

impl Row {
    /// What became of the share of calls that failed.
    fn change(&self) -> Option<Change> {
        let failed = |figures: &Figures| (figures.total_calls - figures.successes, figures.total_calls);
        self.before.as_ref().map(|before| chance::compare(failed(&self.now.figures), failed(&before.figures)))
    }
}

/// The two periods of a comparison.
#[derive(Debug, Clone, Copy)]
struct Periods {
    before: Timestamp,
    since: Timestamp,
    until: Timestamp,
}

impl Periods {
    fn of(args: &StatsArgs, length: Duration) -> Result<Periods, Failure> {
        let (since, until) = args.filters.times()?;
        let until = until.unwrap_or_else(|| SystemClock::default().now());
        let length = i64::try_from(length.as_nanos()).ok().filter(|length| *length > 0);
        let back =
            |from: Timestamp| length.and_then(|length| from.nanos().checked_sub(length)).map(Timestamp::from_nanos);
        let far =
            || Failure::Input("--compare: must be a length of time such as 7d, and not before all times".to_owned());
        let since = since.map_or_else(|| back(until), Some).ok_or_else(far)?;
        Ok(Periods { before: back(since).ok_or_else(far)?, since, until })
    }
}

pub fn run(cx: &Context, log: &AuditLog, args: &StatsArgs) -> Outcome {
    let by = if args.by.is_empty() { vec![Grouping::Tool] } else { args.by.clone() };
    let query = args.filters.query(cx, log)?;
    let periods = args.compare.map(|length| Periods::of(args, length)).transpose()?;
    let rows = rows(log, &by, &query, periods)?;
    let mut out = cx.out();
    match () {
        () if args.json => {
            let mut all: Vec<Json> = damage_json(log)?.into_iter().collect();
            all.extend(rows.iter().map(|row| json(row, &by)));
            out.line(Json::Array(all).to_canonical().as_str())?;
        }
        () if args.csv => csv(&rows, &by, periods.is_some(), &mut out)?,
        () if args.plot => plot(&rows, &by, &mut out)?,
        () => table(&rows, &by, periods, args, &mut out)?,
    }
    if rows.is_empty() && !args.json {
        cx.note("no calls match")?;
    }
    out.flush()?;
    Ok(End::Done)
}

fn rows(log: &AuditLog, by: &[Grouping], query: &Query, periods: Option<Periods>) -> Result<Vec<Row>, Failure> {
    let ask = |query: Query| log.breakdown(&Breakdown::new(by.iter().copied(), query));
    let mut rows: Vec<Row> = match periods {
        None => ask(query.clone())?.into_iter().map(|now| Row { now, before: None }).collect(),
        Some(Periods { before, since, until }) => {
            let earlier = ask(query.clone().since(before).until(since))?;
            let mut earlier: HashMap<Vec<Option<String>>, Group> =
                earlier.into_iter().map(|group| (group.by.clone(), group)).collect();
            let now = ask(query.clone().since(since).until(until))?;
            let empty = |by: &[Option<String>]| Group::empty(by.to_vec());
            let mut rows: Vec<Row> = now
                .into_iter()
                .map(|now| {
                    let before = earlier.remove(&now.by).unwrap_or_else(|| empty(&now.by));
                    Row { now, before: Some(before) }
                })
                .collect();
            let mut gone: Vec<Group> = earlier.into_values().collect();
            gone.sort_by(|a, b| b.figures.total_calls.cmp(&a.figures.total_calls).then_with(|| a.by.cmp(&b.by)));
            rows.extend(gone.into_iter().map(|before| Row { now: empty(&before.by), before: Some(before) }));
            rows
        }
    };
    if by.first() == Some(&Grouping::Day) {
        rows.sort_by(|a, b| a.now.by.cmp(&b.now.by));
    }
    Ok(rows)
}

/// A row of `--json`: with `"before"`, and `"changed"`: whether the share of failures differs by more than chance, null for too few
/// calls.
fn json(row: &Row, by: &[Grouping]) -> Json {
    let mut json = match row.now.to_json(by) {
        Json::Object(members) => members,
        _ => Object::new(),
    };
    if let (Some(before), Some(change)) = (&row.before, row.change()) {
        json.insert("before", before.to_json(&[]));
        json.insert("changed", (change != Change::TooFew).then_some(matches!(change, Change::Rose | Change::Fell)));
    }
    json.into()
}

fn errors(group: &Group, most: usize) -> String {
    let mut errors: Vec<(&String, &u64)> = group.errors.iter().collect();
    errors.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let more = errors.len().saturating_sub(most);
    let mut shown: Vec<String> =
        errors.iter().take(most).map(|(how, n)| format!("{} {}", clean(how), count(**n))).collect();
    shown.extend((more > 0).then(|| format!("… {more} more")));
    shown.join(", ")
}

fn value(value: &Option<String>) -> Cell {
    value.as_ref().map_or(("(none)".to_owned(), Style::Dim), |value| (clean(value), Style::Plain))
}

fn rate(figures: &Figures) -> Cell {
    let rate = figures.success_rate();
    let style = if rate.is_some_and(|rate| rate < 1.0) { Style::Warn } else { Style::Good };
    (rate.map_or("–".to_owned(), percent), style)
}

fn table(rows: &[Row], by: &[Grouping], periods: Option<Periods>, args: &StatsArgs, out: &mut Out) -> io::Result<()> {
    let mut columns: Vec<_> = by.iter().map(|by| left(title(*by))).collect();
    columns.extend(match periods {
        None => vec![
            right("CALLS"),
            right("OK"),
            right("P50"),
            right("P95"),
            right("MAX"),
            right("USERS"),
            left("FAILURES"),
        ],
        Some(_) => vec![
            right("CALLS"),
            right("BEFORE"),
            right("OK"),
            right("BEFORE"),
            right("P95"),
            right("BEFORE"),
            whole("FAILURES ARE"),
            left("FAILURES"),
        ],
    });
    let mut table = Table::new(out, &columns);
    for row in rows {
        let plain = |text: String| (text, Style::Plain);
        let time = |ms: Option<f64>| plain(ms.map_or("–".to_owned(), render::duration));
        let figures = &row.now.figures;
        let mut cells: Vec<Cell> = row.now.by.iter().map(value).collect();
        cells.extend(match &row.before {
            None => vec![
                plain(count(figures.total_calls)),
                rate(figures),
                time(figures.p50_duration_ms),
                time(figures.p95_duration_ms),
                time(figures.max_duration_ms),
                plain(count(figures.unique_users)),
            ],
            Some(before) => vec![
                plain(count(figures.total_calls)),
                (count(before.figures.total_calls), Style::Dim),
                rate(figures),
                (rate(&before.figures).0, Style::Dim),
                time(figures.p95_duration_ms),
                (time(before.figures.p95_duration_ms).0, Style::Dim),
                row.change().map_or_else(Cell::default, change),
            ],
        });
        cells.push(plain(errors(&row.now, NAMED)));
        table.row(cells)?;
    }
    table.finish()?;
    let unfinished: u64 = rows.iter().map(|row| row.now.figures.unfinished).sum();
    if unfinished > 0 {
        out.line(format!("{} without an end are in no other figure", render::counted(unfinished, "call", "calls")))?;
    }
    if by.contains(&Grouping::Resource) {
        out.line("a call is counted with each of its resources")?;
    }
    if rows.iter().any(|row| row.now.figures.users_may_repeat) {
        out.line("a person may be counted more than once under USERS: some stand under pseudonyms")?;
    }
    let Some(Periods { before, since, until }) = periods else { return Ok(()) };
    let zone = args.filters.shown();
    let length = |from: Timestamp, to: Timestamp| to.nanos().abs_diff(from.nanos());
    // An hour more or less is the change of the clocks.
    if length(since, until).abs_diff(length(before, since)) > 3_600_000_000_000 {
        let warning = "the two periods are not of the same length: compare shares, not numbers of calls";
        out.line(out.styled(Style::Warn, warning))?;
    }
    out.line(format!(
        "{} to {} {}, beside {} to {}; `more` and `fewer`: the difference of the shares that failed is more than chance (99 % intervals \
         by Newcombe, of Wilson's), from {} calls in each on; times are not judged",
        zone.moment(since),
        zone.moment(until),
        zone.name(),
        zone.moment(before),
        zone.moment(since),
        chance::FEWEST
    ))
}

fn change(change: Change) -> Cell {
    match change {
        Change::Rose => ("more".to_owned(), Style::Bad),
        Change::Fell => ("fewer".to_owned(), Style::Good),
        Change::Chance => ("as before".to_owned(), Style::Dim),
        Change::TooFew => ("few calls".to_owned(), Style::Dim),
    }
}

const fn title(by: Grouping) -> &'static str {
    match by {
        Grouping::Tool => "TOOL",
        Grouping::Model => "MODEL",
        Grouping::Agent => "AGENT",
        Grouping::Server => "SERVER",
        Grouping::User => "USER",
        Grouping::Resource => "RESOURCE",
        Grouping::Day => "DAY (UTC)",
        _ => "GROUP",
    }
}

/// Bars of calls; the part that failed is marked.
fn plot(rows: &[Row], by: &[Grouping], out: &mut Out) -> io::Result<()> {
    let most = rows.iter().map(|row| row.now.figures.total_calls).max().unwrap_or_default().max(1);
    let mut columns: Vec<_> = by.iter().map(|by| left(title(*by))).collect();
    columns.extend([whole("CALLS, AND ▒ THOSE THAT FAILED"), right(""), right("FAILED")]);
    let mut table = Table::new(out, &columns);
    for row in rows {
        let (all, good) = (row.now.figures.total_calls, row.now.figures.successes);
        let cells = |n: u64| ((n as f64 / most as f64) * BAR as f64).round() as usize;
        // What there is has a bar, however short.
        let bar = cells(all).max(usize::from(all > 0));
        let failed = (bar - cells(good).min(bar)).max(usize::from(good < all)).min(bar);
        let mut line: Vec<Cell> = row.now.by.iter().map(value).collect();
        line.push((format!("{}{}", "█".repeat(bar - failed), "▒".repeat(failed)), Style::Plain));
        line.push((count(all), Style::Plain));
        line.push((count(all - good), if good < all { Style::Bad } else { Style::Dim }));
        table.row(line)?;
    }
    table.finish()
}

fn csv(rows: &[Row], by: &[Grouping], compared: bool, out: &mut Out) -> io::Result<()> {
    const FIGURES: [&str; 10] = [
        "total_calls",
        "success_rate",
        "avg_duration_ms",
        "max_duration_ms",
        "p50_duration_ms",
        "p95_duration_ms",
        "p99_duration_ms",
        "unique_users",
        "unfinished",
        "errors",
    ];
    let quoted = |text: &str| match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let mut head: Vec<String> = by.iter().map(|by| by.as_str().to_owned()).collect();
    head.extend(FIGURES.map(str::to_owned));
    if compared {
        head.extend(FIGURES.map(|name| format!("before_{name}")));
        head.push("changed".to_owned());
    }
    out.line(head.join(","))?;
    let figures = |group: &Group| -> Vec<String> {
        let json = group.figures.to_json();
        let figure = |name: &str| match json.get(name) {
            None | Some(Json::Null) => String::new(),
            Some(value) => value.to_canonical().as_str().to_owned(),
        };
        let errors: Vec<String> = group.errors.iter().map(|(how, n)| format!("{how}={n}")).collect();
        let errors = quoted(&guard(&errors.join("; ")));
        FIGURES.iter().map(|name| if *name == "errors" { errors.clone() } else { figure(name) }).collect()
    };
    for row in rows {
        let keys = row.now.by.iter().map(|value| quoted(&guard(value.as_deref().unwrap_or_default())));
        let mut cells: Vec<String> = keys.chain(figures(&row.now)).collect();
        if let (Some(before), Some(change)) = (&row.before, row.change()) {
            cells.extend(figures(before));
            cells.push(match change {
                Change::TooFew => String::new(),
                change => matches!(change, Change::Rose | Change::Fell).to_string(),
            });
        }
        out.line(cells.join(","))?;
    }
    Ok(())
}

//! `stats`: how tools are used.

use super::context::Context;
use super::exit::{End, Outcome};
use super::filter::{Filters, is_pattern, say_unknown};
use super::render::{self, Out, Style, clean, count, counted};
use super::store::{StoreArgs, damage_json, say_found};
use super::table::{Table, left, right};
use attestlog::json::Json;
use attestlog::query::{Grouping, Statistics, ToolStatistics};
use attestlog::{AuditLog, Facet, Kind, Query, Timestamp};
use clap::Args;
use std::io::{self, Write};
use std::time::Duration;

/// How many tools with calls without an end are named.
const NAMED: usize = 5;

/// Show how often tools are called, how many calls succeed and how long they take
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// A row for each value of these, and each combination of several: tool, model, agent, server, user, resource, day
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = grouping)]
    pub by: Vec<Grouping>,
    /// Beside the period before, of this length, such as 7d; without --since, the figures are of the last such period
    #[arg(long, value_name = "PERIOD", value_parser = super::named::time)]
    pub compare: Option<Duration>,
    /// Print JSON: an object for one tool, an array when none is named
    #[arg(long, conflicts_with_all = ["csv", "plot"])]
    pub json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "plot")]
    pub csv: bool,
    /// Draw bars of how many calls there were and how many failed
    #[arg(long)]
    pub plot: bool,
    #[command(flatten)]
    pub filters: Filters,
}

fn grouping(name: &str) -> Result<Grouping, String> {
    name.trim().parse().map_err(|_| {
        let all: Vec<&str> = Grouping::ALL.iter().map(|by| by.as_str()).collect();
        format!("calls are grouped by {}", all.join(", "))
    })
}

pub fn run(cx: &Context, args: &StatsArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let plain = args.by.is_empty() && args.compare.is_none() && !args.csv && !args.plot;
    match args.filters.only_tool().filter(|_| plain) {
        Some(tool) => by_tool(cx, &log, args, tool),
        None => super::breakdown::run(cx, &log, args),
    }
}

/// Statistics of all tools or of one.
fn by_tool(cx: &Context, log: &AuditLog, args: &StatsArgs, only: Option<&str>) -> Outcome {
    let (since, until) = args.filters.times()?;
    let mut of = Statistics::new();
    of = since.into_iter().fold(of, Statistics::since);
    of = until.into_iter().fold(of, Statistics::until);
    let tools = match only {
        // A pattern matches several tools; their rows are selected from those of all.
        Some(pattern) if is_pattern(pattern) => {
            let fits = log.values().matching(Facet::Tool, pattern)?;
            if fits.is_empty() {
                say_unknown(cx, log, &Query::new().tool(pattern))?;
            }
            let mut tools = log.statistics(&of)?;
            tools.retain(|tool| fits.contains(&tool.tool));
            tools
        }
        Some(tool) => {
            say_unknown(cx, log, &Query::new().tool(tool))?;
            log.statistics(&of.tool(tool))?
        }
        None => log.statistics(&of)?,
    };
    let mut out = cx.out();
    if args.json {
        let mut rows: Vec<Json> = tools.iter().map(ToolStatistics::to_json).collect();
        let one = only.is_some_and(|tool| !is_pattern(tool));
        let mut answer = match one && rows.len() == 1 {
            true => rows.remove(0),
            false => Json::Array(rows),
        };
        match (&mut answer, damage_json(log)?) {
            (Json::Object(row), Some(damage)) => _ = row.insert("damage", damage.get("damage").cloned()),
            (Json::Array(rows), Some(damage)) => rows.insert(0, damage),
            _ => {}
        }
        out.line(answer.to_canonical().as_str())?;
    } else {
        show(log, tools.clone(), &mut out)?;
        several_servers(log, &tools, &mut out)?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// Writes the table for people.
pub fn show(log: &AuditLog, mut tools: Vec<ToolStatistics>, out: &mut Out) -> Outcome {
    let columns = [
        left("TOOL"),
        right("CALLS"),
        right("OK"),
        right("MEAN"),
        right("P50"),
        right("P95"),
        right("P99"),
        right("MAX"),
        right("USERS"),
    ];
    tools.sort_by(|a, b| b.total_calls.cmp(&a.total_calls).then_with(|| a.tool.cmp(&b.tool)));
    let mut table = Table::new(out, &columns);
    for tool in &tools {
        let plain = |text: String| (text, Style::Plain);
        let time = |ms: Option<f64>| plain(ms.map_or("–".to_owned(), render::duration));
        let rate = tool.success_rate();
        let style = if rate.is_some_and(|r| r < 1.0) { Style::Warn } else { Style::Good };
        table.row(vec![
            plain(clean(&tool.tool)),
            plain(count(tool.total_calls)),
            (rate.map_or("–".to_owned(), percent), style),
            time(tool.avg_duration_ms),
            time(tool.p50_duration_ms),
            time(tool.p95_duration_ms),
            time(tool.p99_duration_ms),
            time(tool.max_duration_ms),
            plain(count(tool.unique_users)),
        ])?;
    }
    table.finish()?;
    if tools.iter().any(|tool| tool.users_may_repeat) {
        out.line(
            "a person may be counted more than once under USERS: some stand under pseudonyms of several keys, or under a clear name \
             and a pseudonym whose key is not here",
        )?;
    }
    without_end(&tools, out)?;
    purged(log, &tools, out)
}

/// Says how many calls are in no figure because they never ended: a tool that crashes its host would look better than it is.
fn without_end(tools: &[ToolStatistics], out: &mut Out) -> io::Result<()> {
    let some: Vec<&ToolStatistics> = tools.iter().filter(|tool| tool.unfinished > 0).collect();
    let all: u64 = some.iter().map(|tool| tool.unfinished).sum();
    if all == 0 {
        return Ok(());
    }
    let of: Vec<String> =
        some.iter().take(NAMED).map(|tool| format!("{} {}", clean(&tool.tool), count(tool.unfinished))).collect();
    let more = if some.len() > NAMED { ", …" } else { "" };
    let (calls, are) = (counted(all, "call", "calls"), if all == 1 { "is" } else { "are" });
    out.line(format!("{calls} without an end {are} not counted: {}{more}", of.join(", ")))
}

/// How many tools and servers are compared to find tools of one name at several servers.
const COMPARED: usize = 50;

/// Says which rows mix tools of several servers that have one name.
fn several_servers(log: &AuditLog, tools: &[ToolStatistics], out: &mut Out) -> Outcome {
    let servers = log.values().matching(Facet::Server, "*").unwrap_or_default();
    if servers.len() < 2 || servers.len() > COMPARED {
        return Ok(End::Done);
    }
    for tool in tools.iter().take(COMPARED) {
        let mut of = Vec::new();
        for server in &servers {
            // As in the table, which knows the server only of a call that has ended.
            let calls = Query::new().kind(Kind::ToolCall).tool(&tool.tool).facet(Facet::Server, server).limit(1);
            if log.count(&calls)? > 0 {
                of.push(clean(server));
            }
        }
        if of.len() > 1 {
            let (name, of) = (clean(&tool.tool), of.join(", "));
            out.line(format!(
                "{name} is the name of tools of several servers ({of}): --by tool,server tells them apart"
            ))?;
        }
    }
    Ok(End::Done)
}

/// The day of a time, as text.
fn day(of: Timestamp) -> String {
    of.to_string().chars().take(10).collect()
}

/// Says that purged calls are in no figure, so that it does not look as if they had never been made.
fn purged(log: &AuditLog, tools: &[ToolStatistics], out: &mut Out) -> Outcome {
    let (mut gone, mut last) = (0, None);
    for entry in log.query(&Query::new().kind(Kind::Purge))? {
        let entry = entry?;
        let detail = entry.own().map(|own| own.detail.to_json());
        gone += detail.and_then(|detail| detail.get("count")?.as_u64()).unwrap_or_default();
        last = Some(entry.seq);
    }
    if let (Some(last), Some(since)) = (last, tools.iter().filter_map(|tool| tool.since).min()) {
        let (gone, since) = (count(gone), day(since));
        out.line(format!(
            "counts what remains, since {since}: {gone} entries were purged by policy, the last by entry {last}"
        ))?;
    }
    Ok(End::Done)
}

/// A share in per cent, rounded; but never rounded up to 100 % or down to 0 %.
pub fn percent(part: f64) -> String {
    let rounded = (part * 1000.0).round() / 10.0;
    let shown = match part {
        part if part >= 1.0 || part <= 0.0 => rounded,
        _ => rounded.clamp(0.1, 99.9),
    };
    format!("{shown:.1} %")
}

//! `timeline`: shows a conversation for people, turn by turn.

use super::context::Context;
use super::exit::{End, Outcome};
use super::filter::{refuse_pattern, say_unknown};
use super::render::{self, Out, Style, brief, clean, clean_json, count, counted, wrap};
use super::store::{StoreArgs, damage_line, say_found};
use super::withheld::{self, Withheld};
use attestlog::entry::{CLAIMED_TIME_BOUND, Circumstances, ClaimedTime};
use attestlog::json::Json;
use attestlog::query::{Calls, Part, Step};
use attestlog::{AuditLog, Call, ErrorKind, Facet, Query, Timestamp, Trigger};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Show a conversation, turn by turn
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The conversation
    #[arg(allow_hyphen_values = true)]
    conversation: String,
    /// Print the canonical lines, in the order of the timeline
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, args: &TimelineArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    refuse_pattern(&log, Facet::Conversation, &args.conversation)?;
    let mut out = cx.out();
    if args.json {
        damage_line(&log, &mut out)?;
        say_unknown(cx, &log, &Query::new().conversation(&args.conversation))?;
        let mut withheld = Withheld::new(cx);
        for step in log.timeline(&args.conversation)? {
            out.line(withheld.take(step)?.map_or_else(|e| withheld::line(&e), |step| step.entry.line()))?;
        }
        out.flush()?;
        return withheld.end();
    }
    show(cx, &log, &args.conversation, &mut out)
}

/// Writes the timeline for people.
pub fn show(cx: &Context, log: &AuditLog, conversation: &str, out: &mut Out) -> Outcome {
    let mut withheld = Withheld::new(cx);
    let overview = Overview::of(log, conversation, &mut withheld)?;
    let Some((first, last)) = overview.times else {
        withheld.end()?;
        say_unknown(cx, log, &Query::new().conversation(conversation))?;
        return Ok(End::Done);
    };
    let until = if render::day(first) == render::day(last) { render::time(last) } else { render::moment(last) };
    let users: Vec<String> = overview.users.iter().take(3).map(|u| clean(u)).collect();
    let more =
        if overview.users.len() > 3 { format!(", … {} more", overview.users.len() - 3) } else { String::new() };
    let ended = overview.ended();
    out.line(out.styled(Style::Bold, &clean(conversation)))?;
    let calls = counted(overview.calls.calls(), "call", "calls");
    let all_backfilled = overview.all_backfilled();
    let source = if all_backfilled { " · from a recording" } else { "" };
    out.line(format!(
        "{calls}{ended} · {}{more} · {} to {until} UTC{source}",
        users.join(", "),
        render::moment(first)
    ))?;
    let (mut turn, mut on) = (None, None);
    let several_days = render::day(first) != render::day(last);
    for step in log.timeline(conversation)? {
        let step = match step {
            // Reported above.
            Err(e) if e.kind() == ErrorKind::Damaged => continue,
            step => step?,
        };
        let Some(call) = step.entry.call() else { continue };
        if turn != Some(call.turn_number) {
            turn = Some(call.turn_number);
            let title = call.turn_number.map_or("No turn given".to_owned(), |n| format!("Turn {n}"));
            out.line("")?;
            out.line(out.styled(Style::Bold, &title))?;
        }
        // Steps show only the time of day; turns need not be in the order of their times.
        let day = render::day(call.timestamp);
        if several_days && on.as_ref() != Some(&day) {
            out.line(format!(" {}", out.styled(Style::Dim, &day)))?;
            on = Some(day);
        }
        write_step(out, &step, call, &overview)?;
    }
    out.flush()?;
    withheld.end()
}

/// What must be known before the first step can be shown.
#[derive(Default)]
struct Overview {
    calls: Calls,
    /// Number of calls that come from a recording; if that is all, it is said once.
    backfilled: u64,
    times: Option<(Timestamp, Timestamp)>,
    users: Vec<String>,
    /// Which calls retry or follow up which other call.
    followers: BTreeMap<u64, Vec<(u64, Trigger)>>,
}

impl Overview {
    fn of(log: &AuditLog, conversation: &str, withheld: &mut Withheld) -> attestlog::Result<Overview> {
        let mut overview = Overview::default();
        for step in log.timeline(conversation)? {
            let Ok(Step { entry, .. }) = withheld.take(step)? else { continue };
            let Some(call) = entry.call() else { continue };
            let is_call = overview.calls.take(&entry) == Some(Part::First);
            overview.backfilled += u64::from(is_call && call.is_from_recording());
            let (first, last) = overview.times.unwrap_or((call.timestamp, call.timestamp));
            overview.times = Some((first.min(call.timestamp), last.max(call.timestamp)));
            if !overview.users.contains(&call.user_id) {
                overview.users.push(call.user_id.clone());
            }
            if let (Some(seq), Some(trigger)) = (call.follows, call.trigger) {
                overview.followers.entry(seq).or_default().push((entry.seq, trigger));
            }
        }
        Ok(overview)
    }
}

impl Overview {
    fn all_backfilled(&self) -> bool {
        self.backfilled == self.calls.calls()
    }

    /// How the calls ended, by the same rule as in statistics and reports.
    fn ended(&self) -> String {
        let mut text = String::new();
        let figures = [(self.calls.failed(), "failed"), (self.calls.unfinished(), "without an end")];
        for (n, how) in figures.into_iter().filter(|(n, _)| *n > 0) {
            text += &format!(", {} {how}", count(n));
        }
        match self.calls.alone() {
            0 => {}
            n => text += &format!(", {} to calls of other conversations", counted(n, "late answer", "late answers")),
        }
        text
    }
}

/// The column in which the text of a step begins, under its time.
const INDENT: usize = 11;
/// The maximum number of lines for the arguments.
const MOST_LINES: usize = 4;

fn write_step(out: &mut Out, step: &Step, call: &Call, overview: &Overview) -> io::Result<()> {
    let time = out.styled(Style::Dim, &render::time(call.timestamp));
    // The attribution line escapes control characters itself; here only characters that change the writing direction are
    // escaped.
    let head = clean_json(&call.attribution().to_string());
    let seq = format!("#{}", step.entry.seq);
    let room = out.width().unwrap_or(100).saturating_sub(INDENT + 1);
    for (i, line) in wrap(&format!("{head}  {seq}"), room).into_iter().enumerate() {
        let margin = if i == 0 { format!(" {time}  ") } else { " ".repeat(INDENT) };
        out.line(format!("{margin}{line}"))?;
    }
    let arguments = call.arguments.as_ref().map(|a| brief(&a.to_json())).filter(|a| !a.is_empty());
    if let Some(arguments) = arguments {
        paragraph(out, &format!("with {arguments}"), Style::Plain, room)?;
    }
    let about: Vec<String> = [
        (!call.patient_ids.is_empty()).then(|| format!("patient {}", shown(&call.patient_ids))),
        call.purpose.as_ref().map(|p| format!("for {}", clean(p))),
        (call.is_from_recording() && !overview.all_backfilled()).then(|| "from a recording".to_owned()),
        claimed(step),
    ]
    .into_iter()
    .flatten()
    .chain(call.circumstances.iter().flat_map(|around| surrounding(around)))
    .collect();
    if !about.is_empty() {
        paragraph(out, &about.join(" · "), Style::Dim, room)?;
    }
    let (result, style) = result(step, call);
    paragraph(out, &result, style, room)?;
    for (seq, trigger) in overview.followers.get(&step.entry.seq).into_iter().flatten() {
        let how = if *trigger == Trigger::Retry { "retried by" } else { "followed up by" };
        paragraph(out, &format!("↳ {how} #{seq}"), Style::Dim, room)?;
    }
    Ok(())
}

/// What surrounds the call, as far as a reader of the timeline wants to know it: who approved, what was touched, who told of it.
fn surrounding(around: &Circumstances) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(approval) = &around.approval {
        let by = approval.by.as_ref().map_or(String::new(), |by| format!(" by {}", clean(by)));
        told.push(format!("{}{by}", approval.decision.as_str()));
    }
    if !around.resources.is_empty() {
        let names: Vec<String> = around.resources.iter().map(|resource| resource.name.clone()).collect();
        told.push(format!("touched {}", shown(&names)));
    }
    if let Some(parent) = &around.parent_agent_id {
        told.push(format!("agent started by {}", clean(parent)));
    }
    let sources: Vec<&str> = around.sources.iter().map(|source| source.kind.as_str()).collect();
    if sources.len() > 1 {
        told.push(format!("told by {}", sources.join(", ")));
    }
    if !around.contradicts.is_empty() {
        told.push(format!("differs in {}", shown(&around.contradicts)));
    }
    told
}

/// The time of recording, if it is far from the time that the call claims.
fn claimed(step: &Step) -> Option<String> {
    let call = step.entry.call()?;
    let recorded = step.begun_at.unwrap_or(step.entry.body.recorded_at);
    let claimed = ClaimedTime::of(call.timestamp, recorded, CLAIMED_TIME_BOUND)?;
    let at = if matches!(claimed, ClaimedTime::InFuture(_)) { "it was recorded at" } else { "at" };
    Some(format!(
        "{} UTC is the caller's time; {claimed}, {at} {}",
        render::moment(call.timestamp),
        render::moment(recorded)
    ))
}

fn shown(ids: &[String]) -> String {
    let some: Vec<String> = ids.iter().take(5).map(|id| clean(id)).collect();
    match ids.len().saturating_sub(5) {
        0 => some.join(", "),
        more => format!("{}, … {more} more", some.join(", ")),
    }
}

fn paragraph(out: &mut Out, text: &str, style: Style, room: usize) -> io::Result<()> {
    let mut lines = wrap(text, room);
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES);
        if let Some(last) = lines.last_mut() {
            *last = render::cut(&format!("{last} …"), room);
        }
    }
    for line in lines {
        out.line(format!("{}{}", " ".repeat(INDENT), out.styled(style, &line)))?;
    }
    Ok(())
}

/// The result of the call.
fn result(step: &Step, call: &Call) -> (String, Style) {
    let Some(end) = &call.completion else {
        if let Some(of) = call.detail_of() {
            let took = call.duration_ms().map_or(String::new(), |ms| format!(": it took {}", render::duration(ms)));
            return (format!("… told later of #{of}{took}"), Style::Dim);
        }
        return ("… begun, and no end was ever recorded".to_owned(), Style::Warn);
    };
    let good = call.success() == Some(true);
    let mut text = if good { "✓ ok".to_owned() } else { format!("✗ {}", end.outcome) };
    if let Some(ms) = end.duration_ms {
        text += &format!(" after {}", render::duration(ms));
    }
    if let Some(of) = call.detail_of() {
        text += &format!(", told later of #{of}");
    }
    if let (true, Some(given_up)) = (call.late_answer, call.follows) {
        text += &format!(", answered after #{given_up} had given the call up");
    }
    if let Some(begun) = step.begun_at {
        text += &format!(", begun at {}", render::time(begun));
    }
    if let Some(error) = &end.error {
        // A call can fail without a word.
        let said = error.kind.iter().chain([&error.message]).filter(|said| !said.is_empty());
        said.for_each(|said| text += &format!(": {}", clean(said)));
    }
    if let Some(summary) = &end.result_summary {
        text += &returned(&summary.to_json());
    }
    (text, if good { Style::Good } else { Style::Bad })
}

/// The summary of a result in words: its type, its identifying values, the names of its fields.
fn returned(summary: &Json) -> String {
    let kind = summary.get("type").and_then(Json::as_str).unwrap_or("value");
    let size =
        summary.get("bytes").and_then(Json::as_u64).map_or(String::new(), |n| format!(" of {}", render::bytes(n)));
    let mut parts = Vec::new();
    match summary.get("count").and_then(Json::as_u64) {
        Some(n) => parts.push(format!("{} in an array{size}", counted(n, "element", "elements"))),
        None => parts.push(format!("{}{size}", clean(kind))),
    }
    if let Some(keys) = summary.get("keys") {
        parts.push(brief(keys));
    }
    let fields = summary.get("fields").and_then(Json::as_array).unwrap_or_default();
    let names: Vec<String> = fields.iter().filter_map(Json::as_str).take(12).map(clean).collect();
    if !names.is_empty() {
        let more = fields.len() - names.len().min(fields.len());
        let more = if more > 0 { format!(", … {more} more") } else { String::new() };
        parts.push(format!("fields {}{more}", names.join(", ")));
    }
    format!(" · {}", parts.join(" · "))
}

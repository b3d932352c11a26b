//! `timeline`: shows a conversation for people, turn by turn.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::{refuse_pattern, say_unknown};
use super::render::{self, Out, Style, brief, clean, clean_json, count, counted, wrap};
use super::shared::{Agents, Shared};
use super::store::{StoreArgs, damage_line, say_found};
use super::withheld::{self, Withheld};
use super::zone::{Zone, ZoneArgs};
use attestlog::entry::{CLAIMED_TIME_BOUND, Circumstances, ClaimedTime};
use attestlog::json::Json;
use attestlog::query::{Calls, Part, Step};
use attestlog::redact::sealed_subject;
use attestlog::{AuditLog, Call, ErrorKind, Facet, Kind, Query, Timestamp, Trigger};
use clap::Args;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

/// Show a conversation, turn by turn
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The conversation; `attestlog conversations` lists them
    #[arg(allow_hyphen_values = true)]
    conversation: Option<String>,
    /// The conversation of the entry with this seq
    #[arg(long, value_name = "SEQ", conflicts_with = "conversation", value_parser = super::named::number)]
    seq: Option<u64>,
    /// Only the last N calls; without a conversation, the newest conversation
    #[arg(long, value_name = "N", num_args = 0..=1, value_parser = super::named::number)]
    last: Option<Option<u64>>,
    /// Only calls that failed
    #[arg(long)]
    failed: bool,
    /// Only calls of this agent
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    agent: Option<String>,
    /// Arguments, results and errors whole
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    zone: ZoneArgs,
    /// Print the canonical lines, in the order of the timeline
    #[arg(long)]
    json: bool,
}

impl TimelineArgs {
    /// The conversation that is meant; `None` if the log has none.
    fn named(&self, log: &AuditLog) -> Result<Option<String>, Failure> {
        match (&self.conversation, self.seq, self.last) {
            (Some(conversation), ..) => {
                refuse_pattern(log, Facet::Conversation, conversation)?;
                Ok(Some(conversation.clone()))
            }
            (None, Some(seq), _) => match log.entry(seq)?.call() {
                Some(call) => Ok(Some(call.conversation_id.clone())),
                None => Err(Failure::Input(format!("entry {seq} is not about a call, so it is of no conversation"))),
            },
            (None, None, Some(_)) => {
                let newest = log.conversations(&Query::new().kind(Kind::ToolCall).kind(Kind::CallBegun), 1)?;
                Ok(newest.newest.into_iter().next().map(|conversation| conversation.id))
            }
            (None, None, None) => Err(Failure::Input(
                "name a conversation: `attestlog conversations STORE` lists them; or take the newest with --last, or that of an entry \
                 with --seq"
                    .to_owned(),
            )),
        }
    }

    fn chosen(&self) -> Chosen {
        Chosen {
            failed: self.failed,
            agent: self.agent.clone(),
            last: self.last.flatten(),
            full: self.full,
            zone: self.zone.shown(),
        }
    }
}

/// Which steps are shown, and how.
struct Chosen {
    failed: bool,
    agent: Option<String>,
    last: Option<u64>,
    full: bool,
    zone: Zone,
}

impl Chosen {
    fn fits(&self, call: &Call) -> bool {
        (!self.failed || call.success() == Some(false))
            && self.agent.as_ref().is_none_or(|agent| call.agent_id.as_ref() == Some(agent))
    }

    /// Whether some steps are left out.
    fn chooses(&self) -> bool {
        self.failed || self.agent.is_some() || self.last.is_some()
    }
}

pub fn run(cx: &Context, args: &TimelineArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let Some(conversation) = args.named(&log)? else {
        cx.note("the log has no conversation")?;
        return Ok(End::Done);
    };
    let (chosen, mut out) = (args.chosen(), cx.out());
    if !args.json {
        return show_chosen(cx, &log, &conversation, &chosen, &mut out);
    }
    damage_line(&log, &mut out)?;
    say_unknown(cx, &log, &Query::new().conversation(&conversation))?;
    let mut withheld = Withheld::new(cx);
    let from = Overview::of(&log, &conversation, &chosen, &mut Withheld::new(cx))?.from;
    for step in log.timeline(&conversation)? {
        match withheld.take(step)? {
            Err(e) => out.line(withheld::line(&e))?,
            Ok(step) if step.entry.seq < from || !step.entry.call().is_some_and(|call| chosen.fits(call)) => {}
            Ok(step) => out.line(step.entry.line())?,
        }
    }
    out.flush()?;
    withheld.end()
}

/// Writes the whole timeline for people.
pub fn show(cx: &Context, log: &AuditLog, conversation: &str, out: &mut Out) -> Outcome {
    let chosen = Chosen { failed: false, agent: None, last: None, full: false, zone: ZoneArgs::default().shown() };
    show_chosen(cx, log, conversation, &chosen, out)
}

fn show_chosen(cx: &Context, log: &AuditLog, conversation: &str, chosen: &Chosen, out: &mut Out) -> Outcome {
    let mut withheld = Withheld::new(cx);
    let overview = Overview::of(log, conversation, chosen, &mut withheld)?;
    let Some((first, last)) = overview.times else {
        withheld.end()?;
        say_unknown(cx, log, &Query::new().conversation(conversation))?;
        return Ok(End::Done);
    };
    let zone = chosen.zone;
    let several_days = zone.day(first) != zone.day(last);
    overview.head(conversation, (first, last), chosen, out)?;
    let (mut turn, mut on) = (None, None);
    for step in log.timeline(conversation)? {
        let step = match step {
            // Reported above.
            Err(e) if e.kind() == ErrorKind::Damaged => continue,
            step => step?,
        };
        let Some(call) = step.entry.call().filter(|call| step.entry.seq >= overview.from && chosen.fits(call)) else {
            continue;
        };
        if turn != Some(call.turn_number) {
            turn = Some(call.turn_number);
            let title = call.turn_number.map_or("No turn given".to_owned(), |n| format!("Turn {n}"));
            out.line("")?;
            out.line(out.styled(Style::Bold, &title))?;
        }
        // Steps show only the time of day; turns need not be in the order of their times.
        let day = zone.day(call.timestamp);
        if several_days && on.as_ref() != Some(&day) {
            out.line(format!(" {}", out.styled(Style::Dim, &day)))?;
            on = Some(day);
        }
        write_step(out, &step, call, &overview, chosen)?;
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
    /// What is the same for every call.
    shared: Option<Shared>,
    agents: Agents,
    /// How many steps are shown, and from which entry on.
    shown: u64,
    from: u64,
}

impl Overview {
    fn of(log: &AuditLog, conversation: &str, chosen: &Chosen, withheld: &mut Withheld) -> attestlog::Result<Overview> {
        let mut overview = Overview::default();
        let mut last = VecDeque::new();
        for step in log.timeline(conversation)? {
            let Ok(Step { entry, .. }) = withheld.take(step)? else { continue };
            let Some(call) = entry.call() else { continue };
            let is_call = overview.calls.take(&entry) == Some(Part::First);
            overview.backfilled += u64::from(is_call && call.is_from_recording());
            let (first, latest) = overview.times.unwrap_or((call.timestamp, call.timestamp));
            overview.times = Some((first.min(call.timestamp), latest.max(call.timestamp)));
            if !overview.users.contains(&call.user_id) {
                overview.users.push(call.user_id.clone());
            }
            if let (Some(seq), Some(trigger)) = (call.follows, call.trigger) {
                overview.followers.entry(seq).or_default().push((entry.seq, trigger));
            }
            match &mut overview.shared {
                Some(shared) => shared.narrow(call),
                None => overview.shared = Some(Shared::of(call)),
            }
            if is_call {
                overview.agents.take(call);
            }
            if chosen.fits(call) {
                overview.shown += 1;
                if let Some(most) = chosen.last {
                    last.push_back(entry.seq);
                    if last.len() as u64 > most {
                        last.pop_front();
                    }
                }
            }
        }
        if chosen.last.is_some() {
            overview.shown = last.len() as u64;
            overview.from = last.front().copied().unwrap_or(u64::MAX);
        }
        Ok(overview)
    }

    /// Writes what is true of the whole conversation.
    fn head(
        &self,
        conversation: &str,
        (first, last): (Timestamp, Timestamp),
        chosen: &Chosen,
        out: &mut Out,
    ) -> io::Result<()> {
        let zone = chosen.zone;
        let until = if zone.day(first) == zone.day(last) { zone.time(last) } else { zone.moment(last) };
        let users: Vec<String> = self.users.iter().take(3).map(|u| clean(u)).collect();
        let more = if self.users.len() > 3 { format!(", … {} more", self.users.len() - 3) } else { String::new() };
        out.line(out.styled(Style::Bold, &clean(conversation)))?;
        let calls = counted(self.calls.calls(), "call", "calls");
        let source = if self.all_backfilled() { " · from a recording" } else { "" };
        out.line(format!(
            "{calls}{} · {}{more} · {} to {until} {}{source}",
            self.ended(),
            users.join(", "),
            zone.moment(first),
            zone.name(),
        ))?;
        let shared = self.shared.as_ref().map(Shared::words).unwrap_or_default();
        if !shared.is_empty() {
            out.line(format!("every call: {shared}"))?;
        }
        self.agents.write(out)?;
        if chosen.chooses() {
            out.line(format!("shown: {}", counted(self.shown, "entry", "entries")))?;
        }
        Ok(())
    }

    fn shares(&self, what: impl Fn(&Shared) -> bool) -> bool {
        self.shared.as_ref().is_some_and(what)
    }

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

fn write_step(out: &mut Out, step: &Step, call: &Call, overview: &Overview, chosen: &Chosen) -> io::Result<()> {
    let time = out.styled(Style::Dim, &chosen.zone.time(call.timestamp));
    let head = overview.shared.as_ref().map(|shared| shared.rest(call)).unwrap_or_default();
    let most = if chosen.full { usize::MAX } else { MOST_LINES };
    let seq = format!("#{}", step.entry.seq);
    let room = out.width().unwrap_or(100).saturating_sub(INDENT + 1);
    for (i, line) in wrap(&format!("{head}  {seq}"), room).into_iter().enumerate() {
        let margin = if i == 0 { format!(" {time}  ") } else { " ".repeat(INDENT) };
        out.line(format!("{margin}{line}"))?;
    }
    let arguments = call.arguments.as_ref().map(|a| told(&a.to_json(), chosen)).filter(|a| !a.is_empty());
    if let Some(arguments) = arguments {
        paragraph(out, &format!("with {arguments}"), Style::Plain, room, most)?;
    }
    let about: Vec<String> = [
        call.patient_ids
            .first()
            .filter(|_| !overview.shares(Shared::patients))
            .map(|_| format!("patient {}", shown(&call.patient_ids))),
        call.purpose.as_ref().filter(|_| !overview.shares(Shared::purpose)).map(|p| format!("for {}", clean(p))),
        (call.is_from_recording() && !overview.all_backfilled()).then(|| "from a recording".to_owned()),
        claimed(step, chosen.zone),
    ]
    .into_iter()
    .flatten()
    .chain(call.circumstances.iter().flat_map(|around| surrounding(around)))
    .collect();
    if !about.is_empty() {
        paragraph(out, &about.join(" · "), Style::Dim, room, most)?;
    }
    let (result, style) = result(step, call, chosen);
    paragraph(out, &result, style, room, most)?;
    for (seq, trigger) in overview.followers.get(&step.entry.seq).into_iter().flatten() {
        let how = if *trigger == Trigger::Retry { "retried by" } else { "followed up by" };
        paragraph(out, &format!("↳ {how} #{seq}"), Style::Dim, room, most)?;
    }
    Ok(())
}

/// Arguments in a few words, or whole.
fn told(arguments: &Json, chosen: &Chosen) -> String {
    let whole = chosen.full && sealed_subject(arguments).is_none();
    if whole { clean_json(arguments.to_canonical().as_str()) } else { brief(arguments) }
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
fn claimed(step: &Step, zone: Zone) -> Option<String> {
    let call = step.entry.call()?;
    let recorded = step.begun_at.unwrap_or(step.entry.body.recorded_at);
    let claimed = ClaimedTime::of(call.timestamp, recorded, CLAIMED_TIME_BOUND)?;
    let at = if matches!(claimed, ClaimedTime::InFuture(_)) { "it was recorded at" } else { "at" };
    Some(format!(
        "{} {} is the caller's time; {claimed}, {at} {}",
        zone.moment(call.timestamp),
        zone.name(),
        zone.moment(recorded)
    ))
}

fn shown(ids: &[String]) -> String {
    let some: Vec<String> = ids.iter().take(5).map(|id| clean(id)).collect();
    match ids.len().saturating_sub(5) {
        0 => some.join(", "),
        more => format!("{}, … {more} more", some.join(", ")),
    }
}

fn paragraph(out: &mut Out, text: &str, style: Style, room: usize, most: usize) -> io::Result<()> {
    let mut lines = wrap(text, room);
    if lines.len() > most {
        lines.truncate(most);
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
fn result(step: &Step, call: &Call, chosen: &Chosen) -> (String, Style) {
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
        text += &format!(", begun at {}", chosen.zone.time(begun));
    }
    if let Some(error) = &end.error {
        // A call can fail without a word.
        let said = error.kind.iter().chain([&error.message]).filter(|said| !said.is_empty());
        said.for_each(|said| text += &format!(": {}", clean(said)));
    }
    if let Some(summary) = &end.result_summary {
        text += &match chosen.full {
            true => format!(" · {}", clean_json(summary.as_str())),
            false => returned(&summary.to_json()),
        };
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

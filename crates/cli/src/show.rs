//! `show`: one call whole, whichever of its entries is named.

use super::context::Context;
use super::exit::{End, Outcome};
use super::render::{self, Out, Style, brief, clean, clean_json, width};
use super::store::{StoreArgs, damage_json, say_found};
use super::zone::{Zone, ZoneArgs};
use attestlog::entry::{CLAIMED_TIME_BOUND, Circumstances};
use attestlog::json::{Json, Object};
use attestlog::query::{Calls, Part, WholeCall};
use attestlog::{AuditLog, Call, Entry, Hash, Health};
use clap::Args;
use std::io::{self, Write};

/// Show one call whole: when it began and how it ended, retries, late answers, who told of it, and what proves it
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The seq of any entry of the call
    #[arg(value_parser = super::named::number)]
    seq: u64,
    #[command(flatten)]
    zone: ZoneArgs,
    /// Print JSON: {"seq","call","parts":[{"seq","part","entry"}],"followers":[entry…],"more","proof":{…}}
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, args: &ShowArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let whole = log.whole_call(args.seq)?;
    let proof = Proof::of(&log, &whole)?;
    let mut out = cx.out();
    match args.json {
        true => {
            let mut json = json(args.seq, &whole, &proof);
            if let (Json::Object(members), Some(damage)) = (&mut json, damage_json(&log)?) {
                members.insert("damage", damage.get("damage").cloned());
            }
            out.line(json.to_canonical().as_str())?;
        }
        false => Page { out: &mut out, zone: args.zone.shown() }.show(args.seq, &whole, &proof)?,
    }
    out.flush()?;
    Ok(End::Done)
}

/// What vouches for the entries.
struct Proof {
    signed_size: u64,
    anchored: Option<(String, u64)>,
    /// The last entry that is shown.
    last: u64,
}

impl Proof {
    fn of(log: &AuditLog, whole: &WholeCall) -> attestlog::Result<Proof> {
        let health: Health = log.health()?;
        let anchored = health.last_anchor().map(|(name, size, _)| (name.to_owned(), size));
        let last = whole.parts.iter().map(|entry| entry.seq).max().unwrap_or_default();
        Ok(Proof { signed_size: health.signed_size, anchored, last })
    }

    fn signed(&self) -> bool {
        self.last < self.signed_size
    }

    fn anchored_size(&self) -> u64 {
        self.anchored.as_ref().map_or(0, |(_, size)| *size)
    }

    fn json(&self) -> Json {
        let members: [(&str, Json); 4] = [
            ("signed", self.signed().into()),
            ("signed_size", self.signed_size.into()),
            ("anchored", (self.last < self.anchored_size()).into()),
            ("anchored_size", self.anchored_size().into()),
        ];
        Object::from_iter(members).into()
    }

    fn words(&self) -> String {
        let signed = match self.signed() {
            true => format!("in the signed tree of {} entries", render::count(self.signed_size)),
            false => "not yet covered by a signature".to_owned(),
        };
        let anchored = match &self.anchored {
            Some((name, size)) if self.last < *size => {
                format!("kept elsewhere by {}, which has a checkpoint of {} entries", clean(name), render::count(*size))
            }
            Some(_) => "newer than what anchors have".to_owned(),
            None => "no anchor keeps a checkpoint elsewhere".to_owned(),
        };
        format!("{signed}; {anchored}")
    }
}

/// What a part is called.
fn name(part: Option<Part>, call: &Call) -> &'static str {
    match part {
        Some(Part::First) if call.completion.is_none() => "beginning",
        Some(Part::First) | None => "call",
        Some(Part::End(_)) => "end",
        Some(Part::LateAnswer(_) | Part::Alone) => "late answer",
        Some(Part::Patients(_)) => "further patients",
        Some(Part::Detail(_)) => "details",
        Some(_) => "part",
    }
}

fn json(seq: u64, whole: &WholeCall, proof: &Proof) -> Json {
    let line = |entry: &Entry| Json::parse(entry.line().as_bytes()).map_or(Json::Null, |parsed| parsed.value);
    let mut calls = Calls::new();
    let part = |entry: &Entry| {
        let part = calls.take(entry);
        let what = entry.call().map_or("entry", |call| name(part, call));
        Json::from(Object::from_iter([("seq", entry.seq.into()), ("part", what.into()), ("entry", line(entry))]))
    };
    let parts: Vec<Json> = whole.parts.iter().map(part).collect();
    let first = whole.parts.first().map(|entry| entry.seq);
    let members: [(&str, Json); 6] = [
        ("seq", seq.into()),
        ("call", first.into()),
        ("parts", Json::Array(parts)),
        ("followers", Json::Array(whole.followers.iter().map(line).collect())),
        ("more", whole.more.into()),
        ("proof", proof.json()),
    ];
    Object::from_iter(members).into()
}

/// The page for people.
struct Page<'a> {
    out: &'a mut Out,
    zone: Zone,
}

/// The column in which values begin.
const INDENT: usize = 14;

impl Page<'_> {
    fn show(&mut self, seq: u64, whole: &WholeCall, proof: &Proof) -> io::Result<()> {
        let Some(first) = whole.parts.first() else { return Ok(()) };
        let Some(call) = first.call() else { return self.own(first, proof) };
        let mut calls = Calls::new();
        let parts: Vec<(Option<Part>, &Entry)> = whole.parts.iter().map(|entry| (calls.take(entry), entry)).collect();
        let last_word = parts.iter().rev().find(|(part, entry)| {
            let ends = matches!(part, Some(Part::First | Part::End(_) | Part::LateAnswer(_)));
            ends && entry.call().is_some_and(|call| call.completion.is_some())
        });
        let last_word = last_word.and_then(|(_, entry)| entry.call()).unwrap_or(call);
        let (how, style) = ended(last_word);
        let title = self.out.styled(Style::Bold, &format!("#{} {}", first.seq, clean(&call.tool_name)));
        let how = self.out.styled(style, &how);
        self.out.line(format!("{title}  {how}"))?;
        if seq != first.seq {
            self.value("asked for", &format!("#{seq}, a part of this call"))?;
        }
        self.who(call)?;
        self.when(first, call)?;
        self.json("arguments", call.arguments.as_ref().map(|arguments| arguments.to_json()))?;
        for (part, entry) in &parts {
            let Some(of) = entry.call() else { continue };
            self.part(name(*part, of), entry, of, first.seq)?;
        }
        for (what, entries) in [("followed by", &whole.followers)] {
            for entry in entries {
                let Some(call) = entry.call() else { continue };
                let trigger = call.trigger.map_or("", |trigger| trigger.as_str()).replace('_', " ");
                let line = format!("#{} {} ({trigger}): {}", entry.seq, clean(&call.tool_name), ended(call).0);
                self.value(what, &line)?;
            }
        }
        if whole.more {
            self.value("", "… more parts or followers: query --conversation lists them")?;
        }
        self.proof(first, proof)
    }

    fn own(&mut self, entry: &Entry, proof: &Proof) -> io::Result<()> {
        let Some(own) = entry.own() else { return Ok(()) };
        let title = self.out.styled(Style::Bold, &format!("#{} {}", entry.seq, own.kind));
        self.out.line(format!("{title}  an entry of the log's own"))?;
        self.value("recorded", &format!("{} {}", self.zone.moment(entry.body.recorded_at), self.zone.name()))?;
        self.json("detail", Some(own.detail.to_json()))?;
        self.proof(entry, proof)
    }

    fn who(&mut self, call: &Call) -> io::Result<()> {
        let turn = call.turn_number.map_or(String::new(), |turn| format!(", turn {turn}"));
        self.value("conversation", &format!("{}{turn}", clean(&call.conversation_id)))?;
        self.value("by", &clean_json(&call.attribution().to_string()))?;
        if let Some(of) = call.follows.filter(|_| !call.adds_to_call()) {
            self.value("follows", &format!("#{of}"))?;
        }
        if !call.patient_ids.is_empty() {
            self.value("patients", &call.patient_ids.iter().map(|id| clean(id)).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(purpose) = &call.purpose {
            self.value("purpose", &clean(purpose))?;
        }
        if let Some(id) = &call.call_id {
            self.value("call id", &clean(id))?;
        }
        self.json("session", call.session_metadata.as_ref().map(|metadata| metadata.to_json()))
    }

    fn when(&mut self, entry: &Entry, call: &Call) -> io::Result<()> {
        let zone = self.zone.name();
        self.value("time", &format!("{} {zone}", self.zone.moment(call.timestamp)))?;
        let claimed = entry.claimed_time(CLAIMED_TIME_BOUND).map_or(String::new(), |claimed| format!("; {claimed}"));
        self.value("recorded", &format!("{} {zone}{claimed}", self.zone.moment(entry.body.recorded_at)))
    }

    fn part(&mut self, what: &str, entry: &Entry, call: &Call, first: u64) -> io::Result<()> {
        if entry.seq != first {
            let at = format!("#{} at {} {}", entry.seq, self.zone.moment(entry.body.recorded_at), self.zone.name());
            self.value(what, &at)?;
        }
        if let Some(completion) = &call.completion {
            let (how, style) = ended(call);
            self.styled("outcome", &how, style)?;
            if let Some(error) = &completion.error {
                let kind = error.kind.as_deref().filter(|kind| !kind.is_empty());
                kind.map_or(Ok(()), |kind| self.value("error type", &clean(kind)))?;
                self.styled("error", &clean_json(&error.message), Style::Bad)?;
            }
            self.json("result", completion.result_summary.as_ref().map(|summary| summary.to_json()))?;
        } else if entry.seq == first {
            self.value("begun", &format!("before the tool ran, as #{}", entry.seq))?;
        }
        self.json(
            "treated",
            call.treated.as_ref().map(|treated| treated.to_json()).filter(|t| *t != Json::Array(Vec::new())),
        )?;
        match &call.circumstances {
            Some(around) => self.around(around),
            None => Ok(()),
        }
    }

    fn around(&mut self, around: &Circumstances) -> io::Result<()> {
        let mut rows: Vec<(&str, String)> = Vec::new();
        let mut maybe = |name: &'static str, value: &Option<String>| {
            rows.extend(value.as_ref().map(|value| (name, clean(value))));
        };
        maybe("trace", &around.trace_id);
        maybe("span", &around.span_id);
        maybe("prompt", &around.prompt_id);
        maybe("started by", &around.parent_agent_id);
        if let Some(approval) = &around.approval {
            let by = approval.by.as_ref().map_or(String::new(), |by| format!(" by {}", clean(by)));
            let source = approval.source.as_ref().map_or(String::new(), |source| format!(" ({})", clean(source)));
            rows.push(("approval", format!("{}{by}{source}", approval.decision.as_str())));
        }
        for resource in &around.resources {
            rows.push(("resource", clean(&resource.name)));
        }
        for source in &around.sources {
            let program = [&source.program, &source.version].into_iter().flatten().map(|word| clean(word));
            let words: Vec<String> = std::iter::once(source.kind.as_str().to_owned()).chain(program).collect();
            let added: Vec<String> = source.added.iter().map(|member| clean(member)).collect();
            let added = if added.is_empty() { String::new() } else { format!(", which added {}", added.join(", ")) };
            rows.push(("told by", format!("{}{added}", words.join(" "))));
        }
        if let Some(peer) = &around.peer {
            let program = peer.program.as_ref().map_or(String::new(), |program| format!(", {}", clean(program)));
            rows.push(("recorder", format!("process {} of user id {}{program}", peer.pid, peer.uid)));
        }
        if !around.contradicts.is_empty() {
            let members: Vec<String> = around.contradicts.iter().map(|member| clean(member)).collect();
            rows.push(("differs in", members.join(", ")));
        }
        rows.into_iter().try_for_each(|(name, value)| self.value(name, &value))
    }

    fn proof(&mut self, first: &Entry, proof: &Proof) -> io::Result<()> {
        self.value("hash", &Hash::leaf(first.line().as_bytes()).to_string())?;
        self.value("proof", &proof.words())?;
        self.value("", &format!("`attestlog prove STORE {}` prints it for somebody else", first.seq))
    }

    fn value(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.styled(name, value, Style::Plain)
    }

    fn styled(&mut self, name: &str, value: &str, style: Style) -> io::Result<()> {
        let room = self.out.width().map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(20));
        for (i, line) in broken(value, room).into_iter().enumerate() {
            let name = format!("{:<INDENT$}", if i == 0 { name } else { "" });
            let line = format!("{}{}", self.out.styled(Style::Dim, &name), self.out.styled(style, &line));
            self.out.line(line)?;
        }
        Ok(())
    }

    /// A value of any depth, whole: one member per line.
    fn json(&mut self, name: &str, value: Option<Json>) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        match &value {
            Json::Object(members) if members.is_empty() => Ok(()),
            Json::Object(members) => {
                for (i, (key, value)) in members.iter().enumerate() {
                    let text = format!("{}: {}", clean(key), whole_json(value));
                    self.value(if i == 0 { name } else { "" }, &text)?;
                }
                Ok(())
            }
            other => self.value(name, &whole_json(other)),
        }
    }
}

/// The text in lines of at most `room` columns, with every blank that it has.
fn broken(text: &str, room: usize) -> Vec<String> {
    let (mut lines, mut used) = (vec![String::new()], 0);
    for c in text.chars() {
        let wide = width(c.encode_utf8(&mut [0; 4]));
        if used + wide > room {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The value as JSON, but what is sealed, which nobody can read.
fn whole_json(value: &Json) -> String {
    match attestlog::redact::sealed_subject(value) {
        Some(_) => brief(value),
        None => clean_json(value.to_canonical().as_str()),
    }
}

/// How a call ended, in words.
fn ended(call: &Call) -> (String, Style) {
    let Some(end) = &call.completion else { return ("begun, without an end".to_owned(), Style::Warn) };
    let took = end.duration_ms.map_or(String::new(), |ms| format!(" after {}", render::duration(ms)));
    match call.success() {
        Some(true) => (format!("✓ ok{took}"), Style::Good),
        _ => (format!("✗ {}{took}", end.outcome), Style::Bad),
    }
}

//! `conversations`: lists conversations, the newest first.

use super::context::Context;
use super::exit::{End, Outcome};
use super::filter::Filters;
use super::render::{Style, clean, count};
use super::store::{StoreArgs, damage_line, say_found};
use super::table::{Table, left, right, whole};
use attestlog::json::Json;
use attestlog::query::{Conversation, Conversations};
use attestlog::{AuditLog, Query};
use clap::Args;
use std::borrow::Cow;
use std::io::Write;

/// How many are listed on a terminal.
const NEWEST: u64 = 50;

/// List conversations, the newest first, with who started them, when, how many calls and how many of them failed
#[derive(Debug, Args)]
pub struct ConversationsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// At most this many [default: 50 on a terminal, otherwise all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print JSON, one object per line: {"id","users","first","last","calls","failed","unfinished"}
    #[arg(long)]
    json: bool,
    /// Conversations with an entry that these select; each is told whole
    #[command(flatten)]
    filters: Filters,
}

pub fn run(cx: &Context, args: &ConversationsArgs) -> Outcome {
    let log = args.store.read(cx)?;
    say_found(cx, &log);
    let query = args.filters.query(cx, &log)?;
    let mut out = cx.out();
    let most = args.limit.unwrap_or(if out.width().is_some() { NEWEST } else { u64::MAX });
    let found = list(&log, &query, most)?;
    if args.json {
        damage_line(&log, &mut out)?;
        for conversation in &found.newest {
            out.line(json(conversation).to_canonical().as_str())?;
        }
        out.flush()?;
        return Ok(End::Done);
    }
    let zone = args.filters.shown();
    let mut columns =
        vec![left("CONVERSATION"), left("USER"), whole("FROM"), whole("TO"), right("CALLS"), right("FAILED")];
    for time in columns.iter_mut().filter(|column| ["FROM", "TO"].contains(&&*column.title)) {
        time.title = Cow::Owned(format!("{} ({})", time.title, zone.name()));
    }
    let open = found.newest.iter().any(|conversation| conversation.unfinished > 0);
    columns.extend(open.then(|| right("WITHOUT END")));
    let mut table = Table::new(&mut out, &columns);
    for conversation in &found.newest {
        let plain = |text: String| (text, Style::Plain);
        let (first, last) = (conversation.first, conversation.last);
        let same_day = zone.day(first) == zone.day(last);
        let mut row = vec![
            plain(clean(&conversation.id)),
            plain(conversation.users.iter().map(|user| clean(user)).collect::<Vec<_>>().join(", ")),
            plain(zone.moment(first)),
            plain(if same_day { zone.time(last) } else { zone.moment(last) }),
            plain(count(conversation.calls)),
            (count(conversation.failed), if conversation.failed > 0 { Style::Bad } else { Style::Plain }),
        ];
        row.extend(open.then(|| (count(conversation.unfinished), Style::Warn)));
        table.row(row)?;
    }
    table.finish()?;
    if found.newest.is_empty() {
        cx.note("no entries match")?;
    }
    if found.next.is_some() {
        out.line(out.styled(Style::Dim, "… older ones: --limit N"))?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// The newest of them, at most this many.
fn list(log: &AuditLog, query: &Query, most: u64) -> attestlog::Result<Conversations> {
    let mut found = log.conversations(query, most)?;
    while let Some(older) = found.next.filter(|_| (found.newest.len() as u64) < most) {
        let page = log.older_conversations(query, most - found.newest.len() as u64, older)?;
        found.newest.extend(page.newest);
        found.next = page.next;
    }
    Ok(found)
}

fn json(conversation: &Conversation) -> Json {
    attestlog::json::form::Form::form(conversation)
}

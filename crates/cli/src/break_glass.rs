//! `break-glass`: emergency access, from opening to review.
//!
//! If this process owns the store, a command that changes a grant lets alert rules look at the change before it ends.
//! Otherwise the rules of the owner look at it, or those of the next process that raises alerts.

use super::alerting::Alerting;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::{refuse_pattern, say_unknown, tell_look_alikes};
use super::render::{Out, Style, clean, moment};
use super::store::{Opened, StoreArgs, damage_line};
use super::table::{Table, left, right};
use super::told;
use attestlog::Justification;
use attestlog::alert::parse_duration;
use attestlog::emergency::EmergencyAccess;
use attestlog::emergency::GrantState;
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, ErrorKind, Facet, Query};
use clap::{Args, Subcommand};
use std::io::Write;
use std::time::Duration;

/// Emergency access: open, check, close, review and list grants
#[derive(Debug, Subcommand)]
pub enum BreakGlassCommand {
    Open(OpenArgs),
    Check(CheckArgs),
    Close(CloseArgs),
    Review(ReviewArgs),
    List(ListArgs),
}

/// Give a user access to a patient's data for a limited time, and print the grant's seq
#[derive(Debug, Args)]
pub struct OpenArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The user who gets access
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: String,
    /// The patient whose data it is
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long, such as 30m, 4h or 1h30m
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_duration(text))]
    ttl: Duration,
    /// How urgent it is, in your own words
    #[arg(long, value_name = "TEXT", default_value = "emergency")]
    urgency: String,
    /// Who opens it [default: the user]
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Say whether a user may see a patient's data under a grant now, for hosts that enforce it (exit code 1: refused)
///
/// Changes nothing, except that a grant whose time is over is recorded as expired with the refusal, if it was not yet.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The grant
    #[arg(value_name = "SEQ", value_parser = super::named::listed)]
    grant: u64,
    /// The user who wants access
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: String,
    /// The patient whose data it is
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: String,
}

/// End a grant early
#[derive(Debug, Args)]
pub struct CloseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The grant
    #[arg(value_name = "SEQ", value_parser = super::named::listed)]
    grant: u64,
    /// Who ends it
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: String,
}

/// Record that somebody other than its user looked into a grant
#[derive(Debug, Args)]
pub struct ReviewArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The grant
    #[arg(value_name = "SEQ", value_parser = super::named::listed)]
    grant: u64,
    /// Who looked into it
    #[arg(long, value_name = "WHO", visible_alias = "actor", allow_hyphen_values = true, value_parser = super::named::named)]
    reviewer: String,
    /// What came of it, such as justified or not_justified
    #[arg(long, value_name = "TEXT")]
    disposition: String,
    /// Anything else to note
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Show every grant, its use and its review
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that still have to be reviewed
    #[arg(long)]
    unreviewed: bool,
    /// Print JSON, one grant per line
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, command: &BreakGlassCommand) -> Outcome {
    match command {
        BreakGlassCommand::Open(args) => open(cx, args),
        BreakGlassCommand::Check(args) => check(cx, args),
        BreakGlassCommand::Close(args) => close(cx, args),
        BreakGlassCommand::Review(args) => review(cx, args),
        BreakGlassCommand::List(args) => list(cx, args),
    }
}

fn open(cx: &Context, args: &OpenArgs) -> Outcome {
    let log = args.store.open(cx)?;
    // A grant for `P-*` would cover nobody, which would be noticed only in the emergency.
    refuse_pattern(&log, Facet::User, &args.user)?;
    refuse_pattern(&log, Facet::Patient, &args.patient)?;
    // A grant for a name that is mistyped covers nobody either. It is given all the same: both may be new here.
    for (field, name) in [(Facet::User, &args.user), (Facet::Patient, &args.patient)] {
        say_unknown(cx, &log, &Query::new().facet(field, name))?;
        tell_look_alikes(cx, &log, field, name)?;
    }
    let actor = args.actor.as_ref().unwrap_or(&args.user);
    let rules = rules(cx, &args.store, &log);
    let grant = log.emergency().open(
        EmergencyAccess { user: &args.user, patient: &args.patient, urgency: &args.urgency, ttl: args.ttl },
        Justification { actor, reason: &args.reason },
    )?;
    let done = format!("grant {}, until {} UTC", grant.seq, moment(grant.expires_at));
    let shown = match args.json {
        true => {
            let expires = Json::from(grant.expires_at.to_string());
            let answer = Object::from_iter([("grant", Json::from(grant.seq)), ("expires_at", expires)]);
            told::line(&mut cx.out(), Json::from(answer).to_canonical().as_str())
        }
        false => told::line(&mut cx.out(), &done),
    };
    told::told(shown, close_with(&args.store, log, rules), &done).map(|()| End::Done)
}

/// Runs the alert rules of the store's policy, if this process owns the store. Standard output is for the answer.
fn rules(cx: &Context, store: &StoreArgs, log: &Opened) -> Option<Alerting> {
    log.is_owner().then(|| Alerting::start(cx, log, &store.store, true))
}

/// Closes the store once the rules have looked at what was recorded.
fn close_with(store: &StoreArgs, log: Opened, rules: Option<Alerting>) -> Result<(), Failure> {
    if let Some(rules) = rules {
        rules.finish();
    }
    log.close().map_err(|e| store.failed(e))
}

fn check(cx: &Context, args: &CheckArgs) -> Outcome {
    let holds = |log: &AuditLog| log.emergency().check(&args.user, &args.patient, args.grant);
    let log = args.store.read(cx)?;
    match holds(&log) {
        Ok(grant) => said(cx, format!("grant {} holds until {} UTC", grant.seq, moment(grant.expires_at))),
        // A seq that does not belong to a grant is a wrong argument, as in other commands.
        Err(e) if e.kind() == ErrorKind::Conflict => {
            drop(log);
            // That a grant is over is an entry, so that no clock brings it back. Only for that is the store opened to write; where
            // it cannot be, the grant is refused all the same.
            if let Ok(log) = args.store.open(cx) {
                let _ = holds(&log);
                if let Err(e) = log.close() {
                    args.store.failed(e).message().into_iter().for_each(|message| cx.complain(message));
                }
            }
            Err(Failure::Found(e.to_string()))
        }
        Err(e) => Err(args.store.failed(e)),
    }
}

fn close(cx: &Context, args: &CloseArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let rules = rules(cx, &args.store, &log);
    let receipt = log.emergency().close(args.grant, &args.actor)?;
    let done = format!("closed grant {} in entry {}", args.grant, receipt.seq);
    told::told(told::line(&mut cx.out(), &done), close_with(&args.store, log, rules), &done).map(|()| End::Done)
}

fn review(cx: &Context, args: &ReviewArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let rules = rules(cx, &args.store, &log);
    let receipt = log.emergency().review(
        args.grant,
        Justification { actor: &args.reviewer, reason: &args.disposition },
        args.note.as_deref(),
    )?;
    let done = format!("reviewed grant {} in entry {}", args.grant, receipt.seq);
    told::told(told::line(&mut cx.out(), &done), close_with(&args.store, log, rules), &done).map(|()| End::Done)
}

fn said(cx: &Context, what: String) -> Outcome {
    let mut out = cx.out();
    out.line(what)?;
    out.flush()?;
    Ok(End::Done)
}

fn list(cx: &Context, args: &ListArgs) -> Outcome {
    let log = args.store.read(cx)?;
    let grants = log.emergency().grants().map_err(|e| args.store.failed(e))?;
    let grants: Vec<GrantState> = grants.into_iter().filter(|g| !args.unreviewed || g.needs_review()).collect();
    let mut out = cx.out();
    if args.json {
        damage_line(&log, &mut out)?;
        for grant in &grants {
            out.line(grant.to_json().to_canonical().as_str())?;
        }
    } else {
        show(&grants, &mut out)?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// Writes the table for people.
pub fn show(grants: &[GrantState], out: &mut Out) -> std::io::Result<()> {
    let columns =
        [right("SEQ"), left("STATE"), left("USER"), left("PATIENT"), right("USES"), left("REVIEW"), left("REASON")];
    let mut table = Table::new(out, &columns);
    for state in grants {
        let plain = |text: String| (text, Style::Plain);
        let misused = state.uses.iter().filter(|used| used.misuse.is_some()).count();
        let known = match state.calls_may_be_purged {
            true => format!("{}, others may be purged", state.uses.len()),
            false => state.uses.len().to_string(),
        };
        let uses = match misused {
            0 => plain(known),
            n => (format!("{known} ({n} not covered)"), Style::Bad),
        };
        let review = match (state.reviews.last(), state.needs_review()) {
            (Some(review), false) => (clean(&format!("{} ({})", review.disposition, review.reviewer)), Style::Good),
            (Some(_), true) => ("used since".to_owned(), Style::Warn),
            (None, _) => ("none yet".to_owned(), Style::Warn),
        };
        table.row(vec![
            plain(state.grant.seq.to_string()),
            plain(state.status().to_owned()),
            plain(clean(&state.grant.user)),
            plain(clean(&state.grant.patient)),
            uses,
            review,
            plain(clean(&state.grant.reason)),
        ])?;
    }
    table.finish()
}

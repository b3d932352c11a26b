//! `break-glass`: emergency access, from opening to review.

use super::exit::{End, Failure, Outcome};
use super::filter::refuse_pattern;
use super::render::{Out, Style, clean};
use super::store::{StoreArgs, damage_line};
use super::table::{Table, left, right};
use attestlog::alert::parse_duration;
use attestlog::json::{Json, Object};
use attestlog::{ErrorKind, Facet, GrantState};
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

/// Let a user at a patient's data for a limited time, and print the grant's seq
#[derive(Debug, Args)]
pub struct OpenArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Who may look
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: String,
    /// At whose data
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

/// Say whether a user may look at a patient's data under a grant now: what a host refuses by (exit code 1: it may not)
///
/// Changes nothing, but for a grant whose time is over: that is recorded with the refusal, if it was not yet.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The grant
    #[arg(value_name = "SEQ")]
    grant: u64,
    /// Who wants to look
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: String,
    /// At whose data
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: String,
}

/// End a grant before its time
#[derive(Debug, Args)]
pub struct CloseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The grant
    #[arg(value_name = "SEQ")]
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
    #[arg(value_name = "SEQ")]
    grant: u64,
    /// Who looked into it
    #[arg(long, value_name = "WHO", visible_alias = "actor", allow_hyphen_values = true, value_parser = super::named::named)]
    reviewer: String,
    /// What it came to, such as justified or not_justified
    #[arg(long, value_name = "TEXT")]
    disposition: String,
    /// What else there is to say
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Show every grant, its use and its review
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that somebody has still to review
    #[arg(long)]
    unreviewed: bool,
    /// Print JSON, one grant a line
    #[arg(long)]
    json: bool,
}

pub fn run(command: &BreakGlassCommand) -> Outcome {
    match command {
        BreakGlassCommand::Open(args) => open(args),
        BreakGlassCommand::Check(args) => check(args),
        BreakGlassCommand::Close(args) => close(args),
        BreakGlassCommand::Review(args) => review(args),
        BreakGlassCommand::List(args) => list(args),
    }
}

fn open(args: &OpenArgs) -> Outcome {
    let log = args.store.open()?;
    // A grant for `P-*` would cover nobody, which shows when it is needed.
    refuse_pattern(&log, Facet::User, &args.user)?;
    refuse_pattern(&log, Facet::Patient, &args.patient)?;
    let actor = args.actor.as_ref().unwrap_or(&args.user);
    let grant = log.open_emergency(&args.user, &args.patient, &args.reason, &args.urgency, args.ttl, actor)?;
    log.close().map_err(|e| args.store.failed(e))?;
    let mut out = Out::stdout();
    match args.json {
        true => {
            let expires = Json::from(grant.expires_at.to_string());
            let answer = Object::from_iter([("grant", Json::from(grant.seq)), ("expires_at", expires)]);
            out.line(Json::from(answer).to_canonical().as_str())?;
        }
        false => out.line(format!("grant {}, until {}", grant.seq, grant.expires_at))?,
    }
    out.flush()?;
    Ok(End::Done)
}

fn check(args: &CheckArgs) -> Outcome {
    let log = args.store.read()?;
    match log.check_emergency(&args.user, &args.patient, args.grant) {
        Ok(grant) => said(format!("grant {} holds until {}", grant.seq, grant.expires_at)),
        // A seq that is no grant's is a wrong argument, like anywhere else.
        Err(e) if e.kind() == ErrorKind::Conflict => Err(Failure::Found(e.to_string())),
        Err(e) => Err(args.store.failed(e)),
    }
}

fn close(args: &CloseArgs) -> Outcome {
    let log = args.store.open()?;
    let receipt = log.close_emergency(args.grant, &args.actor)?;
    log.close().map_err(|e| args.store.failed(e))?;
    said(format!("closed grant {} in entry {}", args.grant, receipt.seq))
}

fn review(args: &ReviewArgs) -> Outcome {
    let log = args.store.open()?;
    let receipt = log.review_emergency(args.grant, &args.reviewer, &args.disposition, args.note.as_deref())?;
    log.close().map_err(|e| args.store.failed(e))?;
    said(format!("reviewed grant {} in entry {}", args.grant, receipt.seq))
}

fn said(what: String) -> Outcome {
    let mut out = Out::stdout();
    out.line(what)?;
    out.flush()?;
    Ok(End::Done)
}

fn list(args: &ListArgs) -> Outcome {
    let log = args.store.read()?;
    let grants = log.emergencies().map_err(|e| args.store.failed(e))?;
    let grants: Vec<GrantState> = grants.into_iter().filter(|g| !args.unreviewed || g.needs_review()).collect();
    let mut out = Out::stdout();
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
        let uses = match misused {
            0 => plain(state.uses.len().to_string()),
            n => (format!("{} ({n} not covered)", state.uses.len()), Style::Bad),
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

//! `reveal` shows a sealed value and `erase` destroys one. Both are recorded in the log.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::manage::{ActorArgs, changed, close};
use super::store::StoreArgs;
use super::told;
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, ErrorKind, Justification, Kind, Query};
use clap::Args;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::io::Write;

/// Show one sealed value of an entry; the log first records who saw it, and why
#[derive(Debug, Args)]
pub struct RevealArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The entry
    #[arg(value_parser = super::named::number)]
    seq: u64,
    /// Where the value is, as the entry's `treated` says: arguments.ssn
    path: String,
    #[command(flatten)]
    actor: ActorArgs,
}

/// Prints the value as JSON.
pub fn reveal(cx: &Context, args: &RevealArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let ActorArgs { actor, reason } = &args.actor;
    let value = changed(&args.store, log.privacy().reveal(args.seq, &args.path, Justification { actor, reason }))?;
    // The value is shown only once the record of it is on the disk and signed.
    log.close().map_err(|e| match e.kind() {
        ErrorKind::Recorded => args.store.name(
            &e,
            Failure::Store(format!(
                "that the value was asked for is recorded, and it is shown only once that is signed: remove the cause, and reveal it \
                 again then ({})",
                e.source().map_or_else(|| e.to_string(), ToString::to_string)
            )),
        ),
        _ => args.store.failed(e),
    })?;
    let mut out = cx.out();
    out.line(value.to_canonical().as_str())?;
    out.flush()?;
    Ok(End::Done)
}

/// Destroy permanently what is sealed about a person
///
/// A value in a call that names several people is about all of them: it is lost to the others too, and the command says in
/// which entries. Entries and proofs stay as they are. The master key is replaced, so that older copies of the store stay sealed; older copies of
/// the key file must be destroyed by hand.
#[derive(Debug, Args)]
pub struct EraseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The patient whose values are destroyed, in clear
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    #[arg(conflicts_with_all = ["user", "subject"], required_unless_present_any = ["user", "subject"])]
    patient: Option<String>,
    /// The user whose values are destroyed, in clear: those of calls that concerned no patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    #[arg(conflicts_with = "subject")]
    user: Option<String>,
    /// The person, where only one of the two has that name; `patient:X` and `user:X` distinguish them
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    subject: Option<String>,
    #[command(flatten)]
    actor: ActorArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn erase(cx: &Context, args: &EraseArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let by = Justification { actor: &args.actor.actor, reason: &args.actor.reason };
    let subject = match (&args.patient, &args.user, &args.subject) {
        (Some(patient), ..) => format!("patient:{patient}"),
        (_, Some(user), _) => format!("user:{user}"),
        (.., subject) => subject.clone().unwrap_or_default(),
    };
    let receipt = log.privacy().erase(&subject, by).map_err(|e| match e.kind() {
        // A hold, or a restore that nobody has confirmed, prevents it: the command's arguments are not at fault.
        ErrorKind::Conflict => args.store.name(&e, Failure::Found(e.to_string())),
        _ => args.store.failed(e),
    })?;
    let entry = log.entry(receipt.seq).map_err(|e| args.store.failed(e))?;
    let told = |key: &str| entry.own().and_then(|own| own.detail.to_json().get(key).cloned());
    let (stays, running) = (told("stays"), told("running"));
    let gone = told("key_ids").map(|ids| lost(&log, &ids)).transpose();
    let gone = gone.unwrap_or_else(|e| {
        cx.complain(format!("which entries lost values cannot be said: {e}"));
        None
    });
    let (lost, about_others) = gone.unwrap_or_default();
    let closed = close(&args.store, log);
    let done = format!(
        "erased; recorded as entry {}. Destroy older copies of {} as well: they open older copies of the store. Make a \
         new backup: once they are destroyed, nothing that is sealed in an older one can be opened, whoever it is about",
        receipt.seq,
        args.store.key.place(&args.store.store)
    );
    let shown = if args.json {
        let nothing = || Json::Array(Vec::new());
        let object = [
            ("seq", Json::from(receipt.seq)),
            ("hash", receipt.hash.to_string().into()),
            ("entries", lost.clone().into()),
            ("about_others", about_others.clone().into()),
            ("stays", stays.clone().unwrap_or_else(nothing)),
            ("running", running.clone().unwrap_or_else(nothing)),
        ];
        told::line(&mut cx.out(), Json::from(Object::from_iter(object)).to_canonical().as_str())
    } else {
        told::line(&mut cx.out(), &done)
    };
    told::told(shown, closed, &done)?;
    let seqs = |of: &Json| {
        let seqs = of.as_array().unwrap_or_default().iter().filter_map(Json::as_u64);
        seqs.map(|seq| seq.to_string()).collect::<Vec<_>>().join(", ")
    };
    if let Some(running) = &running {
        cx.complain(format!(
            "calls about this person are running (entries {}): what their ends would seal about the person cannot be opened either",
            seqs(running)
        ));
    }
    if !args.json {
        cx.complain(format!("values are lost in {}", named(&lost)));
    }
    if !about_others.is_empty() {
        let (verb, name) = if about_others.len() == 1 { ("names", "it is") } else { ("name", "they are") };
        cx.complain(format!(
            "{} of these {verb} other people too: what was sealed there is lost for them as well, since {name} about all of them",
            named(&about_others)
        ));
    }
    let Some(stays) = stays else { return Ok(End::Done) };
    cx.complain(format!(
        "not everything went: what is sealed in entries {} of the same calls can still be shown, because its keys also seal values \
         about others; erase those people too to destroy it",
        seqs(&stays)
    ));
    Ok(End::Found)
}

/// The most entries that are named to people; JSON has all.
const NAMED: usize = 20;

/// Entries in words: `entry 5`, `entries 5, 7 and 12 more`.
fn named(seqs: &[u64]) -> String {
    let first: Vec<String> = seqs.iter().take(NAMED).map(u64::to_string).collect();
    match (seqs.len(), seqs.len().saturating_sub(NAMED)) {
        (0, _) => "no entry".to_owned(),
        (1, _) => format!("entry {}", first.concat()),
        (_, 0) => format!("entries {}", first.join(", ")),
        (_, more) => format!("entries {} and {more} more", first.join(", ")),
    }
}

/// The entries in which something is sealed under one of these keys, and those of them that name several patients.
fn lost(log: &AuditLog, ids: &Json) -> attestlog::Result<(Vec<u64>, Vec<u64>)> {
    let ids: BTreeSet<&str> = ids.as_array().unwrap_or_default().iter().filter_map(Json::as_str).collect();
    let (mut lost, mut about_others) = (Vec::new(), Vec::new());
    let calls = Query::new().kind(Kind::ToolCall).kind(Kind::CallBegun).kind(Kind::CallDetail);
    for entry in log.query(&calls)? {
        let entry = entry?;
        let Some(call) = entry.call() else { continue };
        if call.sealed_under().iter().any(|id| ids.contains(id.as_str())) {
            lost.push(entry.seq);
            if call.patient_ids.len() > 1 {
                about_others.push(entry.seq);
            }
        }
    }
    Ok((lost, about_others))
}

//! `reveal` and `erase`: sealed values shown, and destroyed. Both stand in the log.

use super::exit::{End, Outcome};
use super::manage::{ActorArgs, changed, close};
use super::render::Out;
use super::store::StoreArgs;
use attestlog::json::{Json, Object};
use clap::Args;
use std::io::Write;

/// Show one sealed value of an entry; the log says first who saw it, and why
#[derive(Debug, Args)]
pub struct RevealArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The entry
    seq: u64,
    /// Where the value stands, as the entry's `treated` says: arguments.ssn
    path: String,
    #[command(flatten)]
    actor: ActorArgs,
}

/// Prints the value as JSON.
pub fn reveal(args: &RevealArgs) -> Outcome {
    let log = args.store.open()?;
    let ActorArgs { actor, reason } = &args.actor;
    let value = changed(&args.store, log.reveal(args.seq, &args.path, actor, reason))?;
    // Shown only once everything that says so is on the disk and signed.
    close(&args.store, log)?;
    let mut out = Out::stdout();
    out.line(value.to_canonical().as_str())?;
    out.flush()?;
    Ok(End::Done)
}

/// Destroy what is sealed about a person, for good
///
/// The person is a patient, or a user where calls concerned no patient; `patient:X` and `user:X` tell the two apart.
/// Entries and proofs stay as they are. The master key is replaced, so that older copies of the store stay sealed; older
/// copies of the key file must be destroyed by hand.
#[derive(Debug, Args)]
pub struct EraseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Whose values, in clear
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    subject: String,
    #[command(flatten)]
    actor: ActorArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn erase(args: &EraseArgs) -> Outcome {
    let log = args.store.open()?;
    let receipt = changed(&args.store, log.erase(&args.subject, &args.actor.reason, &args.actor.actor))?;
    close(&args.store, log)?;
    let mut out = Out::stdout();
    if args.json {
        let object = [("seq", Json::from(receipt.seq)), ("hash", receipt.hash.to_string().into())];
        out.line(Json::from(Object::from_iter(object)).to_canonical().as_str())?;
    } else {
        out.line(format!(
            "erased; recorded as entry {}. Destroy older copies of {} as well: they open older copies of the store",
            receipt.seq,
            args.store.key.place(&args.store.store)
        ))?;
    }
    out.flush()?;
    Ok(End::Done)
}

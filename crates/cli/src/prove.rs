//! `checkpoint`, `prove`, `evidence`: what to give to people who trust neither the machine nor the program.

use super::about::AboutArgs;
use super::anchors;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::{refuse_pattern, say_unknown};
use super::render::{clean, count};
use super::store::StoreArgs;
use super::verify;
use super::verify_args::TrustArgs;
use attestlog::Justification;
use attestlog::proof::{MAX_PROOF_BYTES, Proof};
use attestlog::{AtCheckpoint, AuditLog, Error, ErrorKind, Facet, Neighbours, Query};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Print a signed checkpoint of the store as it is now
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    #[command(flatten)]
    store: StoreArgs,
}

pub fn checkpoint(cx: &Context, args: &CheckpointArgs) -> Outcome {
    let log = args.store.open(cx)?;
    let checkpoint = log.checkpoint().map_err(|e| args.store.name(&e, Failure::Store(e.to_string())))?;
    let mut out = cx.out();
    write!(out, "{checkpoint}")?;
    out.flush()?;
    anchors::hand_over(cx, &log)?;
    log.close().map_err(|e| args.store.failed(e))?;
    Ok(End::Done)
}

/// Print a proof: that an entry is in the log, that the log only grew, that nothing is missing from an answer, or what a
/// sealed value is
///
/// Each proof can be checked with `attestlog check` and the public key, without the store.
#[derive(Debug, Args)]
pub struct ProveArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Prove that this entry is in the log
    #[arg(required_unless_present_any = ["consistent_with", "complete"], value_parser = super::named::number)]
    seq: Option<u64>,
    /// Prove that the log as it is now extends the one of this checkpoint
    #[arg(long, value_name = "CHECKPOINT-FILE", conflicts_with_all = ["seq", "complete"])]
    consistent_with: Option<PathBuf>,
    /// Prove that these are all the entries of one patient, user, tool or conversation. Writes the pending index batch
    /// first
    #[arg(long, conflicts_with = "seq", requires = "about")]
    complete: bool,
    #[command(flatten)]
    about: AboutArgs,
    /// Let the proof name neighbours in the index where it has to: other users, patients, conversations and their entries
    #[arg(long, requires = "complete")]
    neighbours: bool,
    /// Prove it at the newest checkpoint that was signed: nothing is written, no key is needed (except for --complete,
    /// which computes pseudonyms), and what was recorded since is left out. With --complete, entries that the index below
    /// that checkpoint does not cover must be shown whole (--neighbours)
    #[arg(long, conflicts_with = "reveal")]
    at_checkpoint: bool,
    /// Prove the value sealed at this path of the entry, and reveal no other. Whoever gets the proof can read the value;
    /// the log first records who saw it, and why
    #[arg(long, value_name = "PATH", requires = "seq")]
    reveal: Option<String>,
    /// With --reveal: who asks [default: the user who runs this program]
    #[arg(long, value_name = "WHO", requires = "reveal", allow_hyphen_values = true, value_parser = super::named::named)]
    actor: Option<String>,
    /// With --reveal: why
    #[arg(
        long,
        value_name = "TEXT",
        requires = "reveal",
        allow_hyphen_values = true,
        default_value = "selective disclosure"
    )]
    reason: String,
}

pub fn prove(cx: &Context, args: &ProveArgs) -> Outcome {
    if let Some((facet, _)) = args.about.get().filter(|_| !args.complete) {
        let message =
            format!("--{} goes with --complete, which proves that none of its entries is missing", facet.as_str());
        return Err(Failure::Input(message));
    }
    let proof = if let Some(path) = &args.consistent_with {
        consistent(cx, args, path)?
    } else {
        let log = if args.at_checkpoint { args.store.read(cx)? } else { args.store.open(cx)? };
        let proof = match (args.seq, &args.reveal, args.about.get()) {
            (Some(seq), None, _) if args.at_checkpoint => {
                signed(cx, &args.store, &log)?.prove(seq).map_err(|e| unproven(args, e))?.to_string()
            }
            (Some(seq), None, _) => log.prove(seq).map_err(|e| unproven(args, e))?.to_string(),
            (Some(seq), Some(path), _) => {
                let actor = args.actor.clone().unwrap_or_else(|| cx.user());
                let proof = log.proofs().reveal(seq, path, Justification { actor: &actor, reason: &args.reason });
                proof.map_err(|e| unproven(args, e))?.to_string()
            }
            (None, _, Some((facet, value))) => {
                refuse_pattern(&log, facet, value)?;
                say_unknown(cx, &log, &Query::new().facet(facet, value))?;
                complete(cx, args, &log, facet, value)?
            }
            (None, _, None) => return Err(Failure::Input("name an entry, or --complete with a value".to_owned())),
        };
        // Shown only once everything that it depends on is on the disk.
        log.close().map_err(|e| args.store.failed(e))?;
        proof
    };
    let mut out = cx.out();
    write!(out, "{proof}")?;
    out.flush()?;
    Ok(End::Done)
}

/// Returns the newest signed checkpoint, and reports what lies beyond it, in the store and according to its key file.
fn signed<'l>(cx: &Context, store: &StoreArgs, log: &'l AuditLog) -> Result<AtCheckpoint<'l>, Failure> {
    let signed = log.proofs().at_checkpoint().map_err(|e| store.name(&e, Failure::Store(e.to_string())))?;
    if let Some(conflict) = signed.key_conflict()? {
        cx.complain(format!(
            "warning: {conflict}. What is shown is as of the newest checkpoint that this copy has, of {} entries",
            count(signed.size())
        ));
    }
    if signed.beyond()? > 0 {
        cx.complain(format!(
            "the newest signed checkpoint covers {} of {} entries; of those from {} on this says nothing",
            count(signed.size()),
            count(log.size()?),
            signed.size()
        ));
    }
    Ok(signed)
}

fn consistent(cx: &Context, args: &ProveArgs, path: &Path) -> Result<String, Failure> {
    let file = path.display();
    let bytes = cx.source_whole(path)?.read_all(MAX_PROOF_BYTES as u64)?;
    // A checkpoint, or a proof with one in it, which may be signed by an epoch that is closed now.
    let old = Proof::parse(&bytes).map_err(|e| Failure::Input(format!("{file}: {e}")))?;
    let old = old.checkpoint().clone();
    let (log, proof) = match args.at_checkpoint {
        true => {
            let log = args.store.read(cx)?;
            let proof = signed(cx, &args.store, &log)?.prove_consistent(&old);
            (log, proof)
        }
        false => {
            let log = args.store.open(cx)?;
            let proof = log.proofs().consistent(&old);
            (log, proof)
        }
    };
    let proof = proof.map_err(|e| match e.kind() {
        // A log that does not extend what was signed is a finding of this command.
        ErrorKind::Conflict => Failure::Found(format!("{file}: {e}")),
        _ => unproven(args, e),
    })?;
    log.close()?;
    Ok(proof.to_string())
}

fn complete(cx: &Context, args: &ProveArgs, log: &AuditLog, facet: Facet, value: &str) -> Result<String, Failure> {
    let neighbours = if args.neighbours { Neighbours::Reveal } else { Neighbours::Withhold };
    let proof = match args.at_checkpoint {
        true => signed(cx, &args.store, log)?.prove_complete(facet, value, neighbours),
        false => log.proofs().complete(facet, value, neighbours),
    };
    proof.map(|proof| proof.to_string()).map_err(|e| {
        // Neighbours that must be withheld are bad input; a store that may not sign is another error.
        match e.kind() == ErrorKind::Conflict && (args.at_checkpoint || log.checkpoint().is_ok()) {
            true => Failure::Input(format!("{e}. With --neighbours they are shown")),
            false => unproven(args, e),
        }
    })
}

fn unproven(args: &ProveArgs, e: Error) -> Failure {
    let failure = match e.kind() {
        ErrorKind::Conflict => Failure::Store(e.to_string()),
        _ => Failure::from(&e),
    };
    args.store.name(&e, failure)
}

/// Write the whole log into a new folder that an auditor can check with standard tools
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The folder; must not exist
    dir: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Write what the newest signed checkpoint covers: nothing is signed and no key is needed, and what was recorded since
    /// is left out
    #[arg(long)]
    at_checkpoint: bool,
    /// Print the verification as JSON, as in report.json
    #[arg(long)]
    json: bool,
}

pub fn evidence(cx: &Context, args: &EvidenceArgs) -> Outcome {
    let brought = args.trust.read(cx)?;
    let known = args.trust.public_key();
    let log = if args.at_checkpoint { args.store.read_knowing(cx, known)? } else { args.store.open_with(cx, known)? };
    let options = verify::with_progress(cx, brought.of(cx, &log)?);
    let written = match args.at_checkpoint {
        true => signed(cx, &args.store, &log)?.write_evidence(&args.dir, &options),
        false => log.proofs().write_evidence(&args.dir, &options),
    };
    let verification = written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists | ErrorKind::InvalidInput => Failure::Input(e.to_string()),
        // The store is open, so it is the folder's parent that was not found.
        ErrorKind::NotFound => Failure::Input(e.to_string()),
        _ => args.store.name(&e, Failure::Store(e.to_string())),
    })?;
    log.close().map_err(|e| args.store.failed(e))?;
    let mut out = cx.out();
    if args.json {
        out.line(verification.to_json().to_canonical().as_str())?;
        out.flush()?;
    } else {
        out.line(format!(
            "written to {}; README.txt there says how to check it",
            clean(&args.dir.display().to_string())
        ))?;
        verify::show(&verification, args.trust.gives_kept(), &mut out)?;
    }
    Ok(args.trust.verdict(&verification))
}

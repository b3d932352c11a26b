//! `checkpoint`, `prove`, `check`: proofs for people who trust neither the machine nor the program.

use super::exit::{End, Failure, Outcome};
use super::lines::Source;
use super::render::{Out, Style, clean_json, count};
use super::store::StoreArgs;
use attestlog::json::{Json, Object};
use attestlog::note::{SignedCheckpoint, Succession, VerifierKey};
use attestlog::proof::{Checked, MAX_PROOF_BYTES, Proof, Proven};
use attestlog::{Error, ErrorKind};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Print a signed checkpoint of the store as it is now
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    #[command(flatten)]
    store: StoreArgs,
}

pub fn checkpoint(args: &CheckpointArgs) -> Outcome {
    let log = args.store.open()?;
    let checkpoint = log.checkpoint().map_err(|e| args.store.name(Failure::Store(e.to_string())))?;
    log.close().map_err(|e| args.store.name(e.into()))?;
    let mut out = Out::stdout();
    write!(out, "{checkpoint}")?;
    out.flush()?;
    Ok(End::Done)
}

/// Print the proof that an entry is in the log, or that the log only grew
#[derive(Debug, Args)]
pub struct ProveArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The entry
    #[arg(required_unless_present = "consistent_with")]
    seq: Option<u64>,
    /// Prove that the log as it is now extends the one of this checkpoint
    #[arg(long, value_name = "CHECKPOINT-FILE", conflicts_with = "seq")]
    consistent_with: Option<PathBuf>,
}

/// Nobody's checkpoint is longer.
const MAX_CHECKPOINT: u64 = 1 << 20;

pub fn prove(args: &ProveArgs) -> Outcome {
    let mut out = Out::stdout();
    if let Some(path) = &args.consistent_with {
        let file = path.display();
        let bytes = Source::open(Some(path))?.read_all(MAX_CHECKPOINT)?;
        let old = SignedCheckpoint::parse(&bytes).map_err(|e| Failure::Input(format!("{file}: {e}")))?;
        let log = args.store.open()?;
        let proof = log.prove_consistent(&old).map_err(|e| match e.kind() {
            // A log that does not extend what was signed is what this was asked to find.
            ErrorKind::Conflict => Failure::Found(format!("{file}: {e}")),
            _ => unproven(args, e),
        })?;
        log.close()?;
        out.line(proof.to_json().to_canonical().as_str())?;
    } else if let Some(seq) = args.seq {
        let log = args.store.open()?;
        let proof = log.prove(seq).map_err(|e| unproven(args, e))?;
        log.close()?;
        write!(out, "{proof}")?;
    }
    out.flush()?;
    Ok(End::Done)
}

fn unproven(args: &ProveArgs, e: Error) -> Failure {
    args.store.name(match e.kind() {
        ErrorKind::Conflict => Failure::Store(e.to_string()),
        _ => e.into(),
    })
}

/// Check a proof of either kind, with no store at all
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The proof; `-` is standard input
    #[arg(value_name = "PROOF-FILE")]
    proof: PathBuf,
    /// The log's public key, or a file with it
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    public_key: VerifierKey,
    /// The succession of epoch keys (`succession` of `keys show --json`): checks the epoch's signature too
    #[arg(long, value_name = "FILE")]
    succession: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A verifier key, or the first line of a file with it.
pub fn public_key(text: &str) -> Result<VerifierKey, String> {
    let unread = match text.parse() {
        Ok(key) => return Ok(key),
        Err(e) => e,
    };
    match std::fs::read_to_string(super::session::path(Path::new(text))) {
        Ok(content) => {
            let line = content.lines().next().unwrap_or_default();
            line.trim().parse().map_err(|e| format!("{text}: {e}"))
        }
        Err(_) => Err(format!("neither a file nor a key: {unread}")),
    }
}

pub fn check(args: &CheckArgs) -> Outcome {
    let source = Source::open(Some(&args.proof))?;
    let name = source.name.clone();
    let bytes = source.read_all(MAX_PROOF_BYTES as u64)?;
    let succession = args.succession.as_deref().map(succession).transpose()?;
    let checked = Proof::parse(&bytes).and_then(|proof| proof.check(&args.public_key, succession.as_ref()));
    let mut out = Out::stdout();
    let checked = match checked {
        Ok(checked) => checked,
        Err(e) if args.json => {
            let object = Object::from_iter([("ok", Json::from(false)), ("error", Json::from(e.to_string()))]);
            out.line(Json::from(object).to_canonical().as_str())?;
            out.flush()?;
            return Ok(End::Found);
        }
        Err(e) => return Err(Failure::Found(format!("{name}: proves nothing: {e}"))),
    };
    match args.json {
        true => out.line(checked.to_json().to_canonical().as_str())?,
        false => show(&checked, &mut out)?,
    }
    out.flush()?;
    Ok(End::Done)
}

fn show(checked: &Checked, out: &mut Out) -> std::io::Result<()> {
    let valid = out.styled(Style::Good, "valid");
    match checked.proven() {
        Proven::Inclusion { seq, size, root, line } => {
            out.line(format!("{valid}: entry {seq} is one of the first {} of the log", count(*size)))?;
            out.line(format!("  root   {root}"))?;
            out.line(format!("  entry  {}", clean_json(line)))?;
        }
        Proven::Consistency { old_size, old_root, new_size, new_root } => {
            let (old, new) = (count(*old_size), count(*new_size));
            out.line(format!("{valid}: the log of {new} entries begins with the {old} of the earlier checkpoint"))?;
            out.line(format!("  old root  {old_root}"))?;
            out.line(format!("  new root  {new_root}"))?;
        }
        // Kinds that a later version of the library knows have their JSON.
        _ => out.line(format!("{valid}: {}", checked.to_json().to_canonical()))?,
    }
    out.line(format!("  log    {}", clean_json(checked.origin())))?;
    out.line(match checked.epoch() {
        Some(epoch) => format!("  epoch  {epoch}"),
        None => "  epoch  not checked (that takes --succession)".to_owned(),
    })
}

fn succession(path: &Path) -> Result<Succession, Failure> {
    let bytes = Source::open(Some(path))?.read_all(MAX_CHECKPOINT)?;
    let fault = |e: &dyn std::fmt::Display| Failure::Input(format!("{}: {e}", path.display()));
    let value = Json::parse(&bytes).map_err(|e| fault(&e))?.value;
    // Either the succession itself or the whole answer of `keys show --json`.
    let value = value.get("succession").cloned().unwrap_or(value);
    Succession::from_json(&value).map_err(|e| fault(&e))
}

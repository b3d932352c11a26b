//! `check`: checks what a proof proves, with only the log's public key.

use super::about::AboutArgs;
use super::check_folder;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::told_apart;
use super::render::{self, Out, Style, clean, clean_json, count, counted, duration, moment};
use super::store::KeyArgs;
use super::verify_args;
use attestlog::Facet;
use attestlog::host::{Clock, SystemClock};
use attestlog::json::{Json, Object};
use attestlog::keys::KeyFile;
use attestlog::note::{SignedCheckpoint, Succession, VerifierKey};
use attestlog::proof::{CheckError, Checked, MAX_PROOF_BYTES, Mapping, Proof, Proven, Standing};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The longest succession that is read.
const MAX_SUCCESSION: u64 = 16 << 20;
/// The longest checkpoint or consistency proof that is read.
const MAX_CHECKPOINT: u64 = 1 << 20;
const MAX_LATER: u64 = 1 << 20;

/// Check a proof of any kind, a checkpoint, a package or an evidence folder, without a store
///
/// Exit code 1 if it proves nothing, contradicts what you kept, is about another value than the one you name, was signed in an epoch
/// that is closed while nothing shows that the log went on from there, or rests on pseudonyms of which nothing shows whose they are.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The proof, a checkpoint, or a folder that `report package` or `evidence` wrote; `-` is standard input
    #[arg(value_name = "PROOF-FILE")]
    proof: PathBuf,
    /// The log's public key, or a file with it
    #[arg(long, value_name = "KEY", value_parser = verify_args::log_key)]
    public_key: VerifierKey,
    /// The succession of epoch keys (`succession` of `keys show --json`): checks the epoch's signature too. Get it from
    /// elsewhere, like the public key: somebody who kept an old key file can make another
    #[arg(long, value_name = "FILE")]
    succession: Option<PathBuf>,
    /// The checkpoint that you kept. A consistency proof must begin with it: without it the earlier state is only the
    /// proof's own claim. Any other proof must be of the same size and root
    #[arg(long, value_name = "CHECKPOINT")]
    old: Option<PathBuf>,
    /// A consistency proof from the checkpoint of this proof to one of the present epoch: shows that the log went on from
    /// there, if this proof was signed in an epoch that is closed
    #[arg(long, value_name = "PROOF-FILE", requires = "succession")]
    extended_by: Option<PathBuf>,
    /// The value that a completeness proof must be about. Without it, whoever made the proof chose the value.
    #[command(flatten)]
    about: AboutArgs,
    /// The log's key file, for those who have it: shows whether the pseudonyms in a completeness proof are those of its value
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    key: Option<PathBuf>,
    /// File whose first line is the key file's passphrase; `-` is standard input [default: the environment variable
    /// ATTESTLOG_PASSPHRASE, if it is set]
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Keys")]
    passphrase_file: Option<PathBuf>,
    /// Also the entries and roots that the verdict is about
    #[arg(long, conflicts_with = "json")]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn check(cx: &Context, args: &CheckArgs) -> Outcome {
    if args.proof.is_dir() {
        if args.old.is_some() || args.key.is_some() || args.extended_by.is_some() {
            let message = "for a folder there are only --public-key, --succession and --patient: check the files in it for the rest, such as \
                           proofs/complete.json";
            return Err(Failure::Input(message.to_owned()));
        }
        let succession = args.succession.as_deref().map(|path| succession(cx, path)).transpose()?;
        let kept =
            check_folder::Kept { key: &args.public_key, succession: succession.as_ref(), about: args.about.get() };
        return check_folder::check(cx, &args.proof, &kept, args.json);
    }
    let source = cx.source_whole(&args.proof)?;
    let name = source.name.clone();
    let bytes = source.read_all(MAX_PROOF_BYTES as u64)?;
    let succession = args.succession.as_deref().map(|path| succession(cx, path)).transpose()?;
    let old = args.old.as_deref().map(|path| kept(cx, path)).transpose()?;
    let later = args.extended_by.as_deref().map(|path| input(cx, path, MAX_LATER)).transpose()?;
    let key = &args.public_key;
    let keys =
        args.key.as_deref().map(|file| KeyArgs::in_file(cx, file, args.passphrase_file.as_deref())).transpose()?;
    if keys.as_ref().is_some_and(|keys| keys.verifier() != *key) {
        return Err(Failure::Input("the key file that you gave is another log's than the public key".to_owned()));
    }
    let checked = Proof::parse(&bytes).and_then(|proof| {
        // The parsed proof is several times as large as the file.
        drop(bytes);
        let mut checked = proof.check(key, succession.as_ref())?;
        if let Some((field, value)) = args.about.get() {
            checked = checked.about(field, value)?;
        }
        if let Some(keys) = &keys {
            checked = confirmed(checked, keys)?;
        }
        if let Some(old) = &old {
            checked = checked.against(old, key)?;
        }
        match (&later, &succession) {
            (Some(later), Some(succession)) => checked.extended_by(Proof::parse(later)?, key, succession),
            _ => Ok(checked),
        }
    });
    let mut out = cx.out();
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
        false => show(&checked, args.verbose, &mut out)?,
    }
    out.flush()?;
    Ok(if checked.holds() { End::Done } else { End::Found })
}

/// Computes the pseudonyms of the value anew, with the log's keys.
fn confirmed(checked: Checked, keys: &KeyFile) -> Result<Checked, CheckError> {
    let Proven::Complete { facet, value, .. } = checked.proven() else { return Ok(checked) };
    let spellings = keys.spellings(*facet, value).map_err(|e| CheckError::Contradicted(e.to_string()))?;
    checked.confirmed(&spellings)
}

/// Reads a checkpoint that was kept.
fn kept(cx: &Context, path: &Path) -> Result<SignedCheckpoint, Failure> {
    let bytes = input(cx, path, MAX_CHECKPOINT)?;
    SignedCheckpoint::parse(&bytes).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))
}

fn input(cx: &Context, path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    cx.source_whole(path)?.read_all(limit)
}

/// Writes for people what a proof proves: the verdict, and if it is `verbose` the entries and roots that it is about.
pub fn show(checked: &Checked, verbose: bool, out: &mut Out) -> std::io::Result<()> {
    let valid = match (checked.standing(), checked.proven().mapping()) {
        (Standing::Closed, _) => out.styled(Style::Bad, "NOT PROVEN, only the signatures hold"),
        (_, Mapping::Unproven) => out.styled(Style::Bad, "NOT PROVEN OF ANYBODY, only of pseudonyms"),
        _ => out.styled(Style::Good, "valid"),
    };
    match checked.proven() {
        Proven::Inclusion { seq, size, root, line } => {
            out.line(format!("{valid}: entry {seq} is one of the first {} of the log", count(*size)))?;
            if verbose {
                out.line(format!("  root   {root}"))?;
                out.line(format!("  entry  {}", clean_json(line)))?;
            }
        }
        Proven::Consistency { old_size, old_root, new_size, new_root } => {
            let (old, new) = (count(*old_size), count(*new_size));
            out.line(format!("{valid}: the log of {new} entries begins with the {old} of the earlier checkpoint"))?;
            if verbose {
                out.line(format!("  old root  {old_root}"))?;
                out.line(format!("  new root  {new_root}"))?;
            }
            match checked.old_confirmed() {
                true => out.line("  the old state is that of the checkpoint that you kept")?,
                false => paragraph(
                    "THE OLD STATE IS THE PROOF'S OWN WORD AND NOT CONFIRMED: compare it with the checkpoint that you kept \
                    (--old CHECKPOINT)",
                    out,
                )?,
            }
        }
        Proven::Complete { .. } => show_complete(checked, &valid, verbose, out)?,
        Proven::Reveal { seq, path, value, size, root, line } => {
            let value = clean_json(value.to_canonical().as_str());
            out.line(format!("{valid}: the value sealed at {} in entry {seq} is {value}", clean(&path.to_string())))?;
            out.line(format!("  of the first {} of the log", counted(*size, "entry", "entries")))?;
            if verbose {
                out.line(format!("  root   {root}"))?;
                out.line(format!("  entry  {}", clean_json(line)))?;
            }
        }
        Proven::Checkpoint { size, root } => {
            out.line(format!(
                "{valid}: the log says that its first {} have this root",
                counted(*size, "entry", "entries")
            ))?;
            out.line(format!("  root   {root}"))?;
            if checked.old_confirmed() {
                out.line("  as does the checkpoint that you kept")?;
            }
            paragraph("It does not show what the entries say, nor when the checkpoint was signed", out)?;
        }
        // For kinds that only a later version of the library knows, the JSON is shown.
        _ => out.line(format!("{valid}: {}", checked.to_json().to_canonical()))?,
    }
    if !verbose && !matches!(checked.proven(), Proven::Checkpoint { .. }) {
        out.line("  --verbose prints the entries and roots that this is about")?;
    }
    out.line(format!("  log    {}", clean_json(checked.origin())))?;
    let Some(epoch) = checked.epoch() else {
        out.line("  epoch  not checked (that takes --succession)")?;
        return paragraph("Anyone who has ever held the log key and the key of any epoch could have signed this", out);
    };
    out.line(format!("  epoch  {epoch}"))?;
    match checked.standing() {
        Standing::Closed => paragraph(
            &format!(
                "EPOCH {epoch} IS CLOSED, AND THAT THE LOG WENT ON FROM THERE IS NOT PROVEN: whoever held its key and the log key \
                could have signed this at any time since. A consistency proof from the checkpoint in it to one of the present \
                epoch shows it (attestlog prove STORE --consistent-with, then --extended-by)"
            ),
            out,
        ),
        Standing::Extended => out.line("         closed since; the log went on from there"),
        _ => Ok(()),
    }
}

/// Writes for people what a completeness proof proves.
fn show_complete(checked: &Checked, valid: &str, verbose: bool, out: &mut Out) -> std::io::Result<()> {
    let Proven::Complete { facet, value, terms, mapping, size, root, entries, purged, unknown, purges, newest } =
        checked.proven()
    else {
        return Ok(());
    };
    let what = match mapping {
        Mapping::Unproven => {
            format!("{} {} or the name in clear", facet.as_str(), clean(&checked.proven().pseudonyms().join(" or ")))
        }
        _ => format!("{} {:?}", facet.as_str(), clean(value)),
    };
    let (all, size) = (counted(entries.len() as u64, "entry has", "entries have"), count(*size));
    out.line(format!("{valid}: of the first {size} entries of the log exactly {all} {what}"))?;
    look_alike(checked.proven(), out)?;
    if verbose {
        out.line(format!("  root   {root}"))?;
    }
    if let Some(at) = newest {
        let age = SystemClock::default().now().since(*at);
        out.line(format!(
            "  as of  {}, {} ago, when the newest entry that it shows was recorded; it says nothing about what came later",
            moment(*at),
            duration(age.as_secs_f64() * 1000.0)
        ))?;
    }
    for (seq, line) in entries.iter().filter(|_| verbose) {
        out.line(format!("  entry  {seq} {}", clean_json(line)))?;
    }
    if !purged.is_empty() {
        let gone = counted(purged.len(), "entry more had it and was", "entries more had it and were");
        out.line(format!("  purged {gone} purged by policy: {purged}"))?;
    }
    if !unknown.is_empty() {
        let gone = counted(unknown.len(), "purged entry", "purged entries");
        out.line(format!("  purged of {gone} nobody can tell any more whether they had it: {unknown}"))?;
    }
    for (seq, purge) in purges {
        let classes: Vec<&str> = purge.classes.keys().map(String::as_str).collect();
        out.line(format!(
            "  purged by entry {seq}, of {}: {} expired by {} under the policy of entry {}",
            clean(&purge.actor),
            clean(&classes.join(", ")),
            moment(purge.cut_off),
            purge.policy
        ))?;
    }
    whose(*facet, value, terms, *mapping, out)?;
    paragraph(
        "It does not show that every access was recorded, nor that the recorder's own index was right when it \
        was written: a full verification of the store shows that",
        out,
    )?;
    Ok(())
}

/// Says what is known of whose pseudonyms were looked for.
fn whose(facet: Facet, value: &str, terms: &[String], mapping: Mapping, out: &mut Out) -> std::io::Result<()> {
    let (facet, value) = (facet.as_str(), clean(value));
    match mapping {
        Mapping::Unproven => paragraph(
            &format!(
                "WHETHER THESE ARE THE PSEUDONYMS OF {value:?} IS NOT PROVEN, so this says nothing of the {facet} {value:?}: whoever \
                 passes the file on can write another name into it. Those who hold the log's key file can tell (check … --key FILE)"
            ),
            out,
        ),
        Mapping::Confirmed => {
            out.line(format!("  looked for as {}", clean(&terms.join(", "))))?;
            out.line(format!("  these are the pseudonyms of this {facet} under the keys that you gave"))
        }
        _ => Ok(()),
    }
}

/// If the proven value only looks like another one, says that the proof says nothing about that other.
fn look_alike(proven: &Proven, out: &mut Out) -> std::io::Result<()> {
    let (Proven::Complete { facet, value, .. }, Some(looks)) = (proven, proven.looks_like()) else { return Ok(()) };
    let (name, looks, told) = (facet.as_str(), clean(&looks), told_apart(value));
    paragraph(
        &format!(
            "THIS {} ONLY LOOKS LIKE {looks:?}: it is written {told}. Of {looks:?} this proves nothing (with --{name} NAME a \
             proof of any other {name} is refused)",
            name.to_uppercase()
        ),
        out,
    )
}

fn paragraph(text: &str, out: &mut Out) -> std::io::Result<()> {
    let lines = render::wrap(text, out.width().unwrap_or(100).saturating_sub(2));
    lines.iter().try_for_each(|line| out.line(format!("  {line}")))
}

fn succession(cx: &Context, path: &Path) -> Result<Succession, Failure> {
    let bytes = input(cx, path, MAX_SUCCESSION)?;
    let fault = |e: &dyn std::fmt::Display| Failure::Input(format!("{}: {e}", path.display()));
    let value = Json::parse(&bytes).map_err(|e| fault(&e))?.value;
    // Either the succession itself or the whole output of `keys show --json`.
    let value = value.get("succession").cloned().unwrap_or(value);
    Succession::from_json(&value).map_err(|e| fault(&e))
}

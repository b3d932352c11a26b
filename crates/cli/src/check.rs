//! `check`: what a proof proves, with the log's public key and nothing else.

use super::exit::{End, Failure, Outcome};
use super::filter::told_apart;
use super::line_reader::Source;
use super::render::{self, Out, Style, clean, clean_json, count, counted, duration, moment};
use super::verify_args;
use attestlog::json::{Json, Object};
use attestlog::note::{SignedCheckpoint, Succession, VerifierKey};
use attestlog::proof::{Checked, MAX_PROOF_BYTES, Proof, Proven, Standing};
use attestlog::{Clock, Facet, SystemClock};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// No succession is longer.
const MAX_SUCCESSION: u64 = 16 << 20;
/// Nobody's checkpoint, nor a consistency proof, is longer.
const MAX_CHECKPOINT: u64 = 1 << 20;
const MAX_LATER: u64 = 1 << 20;

/// Check a proof of any kind, or a checkpoint, with no store at all
///
/// Exit code 1 where it proves nothing, contradicts what you kept, is about another value than you name, or was signed in an epoch that is closed while nothing shows
/// that the log went on from there.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The proof, or a checkpoint; `-` is standard input
    #[arg(value_name = "PROOF-FILE")]
    proof: PathBuf,
    /// The log's public key, or a file with it
    #[arg(long, value_name = "KEY", value_parser = verify_args::log_key)]
    public_key: VerifierKey,
    /// The succession of epoch keys (`succession` of `keys show --json`): checks the epoch's signature too. As the public key, to be
    /// had from elsewhere: whoever kept an old key file can make another
    #[arg(long, value_name = "FILE")]
    succession: Option<PathBuf>,
    /// The checkpoint that you kept. A consistency proof must begin with it: without it the earlier state is the proof's own word.
    /// Anything else must lead to it
    #[arg(long, value_name = "CHECKPOINT")]
    old: Option<PathBuf>,
    /// A consistency proof from the checkpoint of this proof to one of the present epoch: shows that the log went on from there,
    /// where this was signed in an epoch that is closed
    #[arg(long, value_name = "PROOF-FILE", requires = "succession")]
    extended_by: Option<PathBuf>,
    #[command(flatten)]
    about: AboutArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Of what a completeness proof must be. Otherwise that is the choice of whoever made it.
#[derive(Debug, Args)]
#[group(id = "about", multiple = false)]
struct AboutArgs {
    /// It must be a proof that nothing is missing of this patient. So with the other names below
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: Option<String>,
    /// … of this user
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Option<String>,
    /// … of this tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    tool: Option<String>,
    /// … of this conversation
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    conversation: Option<String>,
    /// … of this model
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    model: Option<String>,
    /// … of this purpose
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = super::named::named)]
    purpose: Option<String>,
    /// … of this agent
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    agent: Option<String>,
    /// … of this tool server
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    server: Option<String>,
}

impl AboutArgs {
    fn get(&self) -> Option<(Facet, &str)> {
        let all = [
            (Facet::Patient, &self.patient),
            (Facet::User, &self.user),
            (Facet::Tool, &self.tool),
            (Facet::Conversation, &self.conversation),
            (Facet::Model, &self.model),
            (Facet::Purpose, &self.purpose),
            (Facet::Agent, &self.agent),
            (Facet::Server, &self.server),
        ];
        all.into_iter().find_map(|(field, value)| Some((field, value.as_deref()?)))
    }
}

pub fn check(args: &CheckArgs) -> Outcome {
    let source = Source::open_whole(Some(&args.proof))?;
    let name = source.name.clone();
    let bytes = source.read_all(MAX_PROOF_BYTES as u64)?;
    let succession = args.succession.as_deref().map(succession).transpose()?;
    let old = args.old.as_deref().map(kept).transpose()?;
    let later = args.extended_by.as_deref().map(|path| input(path, MAX_LATER)).transpose()?;
    let key = &args.public_key;
    let checked = Proof::parse(&bytes).and_then(|proof| {
        // What was read is several times as large as the file.
        drop(bytes);
        let mut checked = proof.check(key, succession.as_ref())?;
        if let Some((field, value)) = args.about.get() {
            checked = checked.about(field, value)?;
        }
        if let Some(old) = &old {
            checked = checked.against(old, key)?;
        }
        match (&later, &succession) {
            (Some(later), Some(succession)) => checked.extended_by(Proof::parse(later)?, key, succession),
            _ => Ok(checked),
        }
    });
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
    Ok(if checked.standing() == Standing::Closed { End::Found } else { End::Done })
}

/// A checkpoint that was kept.
fn kept(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let bytes = input(path, MAX_CHECKPOINT)?;
    SignedCheckpoint::parse(&bytes).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))
}

fn input(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    Source::open_whole(Some(path))?.read_all(limit)
}

/// Writes for people what a proof proves.
pub fn show(checked: &Checked, out: &mut Out) -> std::io::Result<()> {
    let valid = match checked.standing() {
        Standing::Closed => out.styled(Style::Bad, "NOT PROVEN, only the signatures hold"),
        _ => out.styled(Style::Good, "valid"),
    };
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
            match checked.old_confirmed() {
                true => out.line("  the old state is that of the checkpoint that you kept")?,
                false => paragraph(
                    "THE OLD STATE IS THE PROOF'S OWN WORD AND NOT CONFIRMED: compare it with the checkpoint that you kept \
                    (--old CHECKPOINT)",
                    out,
                )?,
            }
        }
        Proven::Complete { facet, value, terms, size, root, entries, purged, unknown, purges, newest } => {
            let what = format!("{} {:?}", facet.as_str(), clean(value));
            let (all, size) = (counted(entries.len() as u64, "entry has", "entries have"), count(*size));
            out.line(format!("{valid}: of the first {size} entries of the log exactly {all} {what}"))?;
            look_alike(checked.proven(), out)?;
            out.line(format!("  root   {root}"))?;
            if let Some(at) = newest {
                let age = SystemClock::default().now().since(*at);
                out.line(format!(
                    "  as of  {}, {} ago, when the newest entry was recorded that it shows; what came later it cannot know",
                    moment(*at),
                    duration(age.as_secs_f64() * 1000.0)
                ))?;
            }
            for (seq, line) in entries {
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
            if checked.proven().maps_value() {
                out.line(format!("  looked for as {}", clean(&terms.join(", "))))?;
                paragraph(
                    "THAT THESE ARE THE PSEUDONYMS OF THIS VALUE IS NOT PROVEN: it is the word of whoever made the \
                    proof and holds the pseudonym key",
                    out,
                )?;
            }
            paragraph(
                "It does not show that every access was recorded, nor that the recorder's own index was right when it \
                was written: a full verification of the store shows that",
                out,
            )?;
        }
        Proven::Reveal { seq, path, value, size, root, line } => {
            let value = clean_json(value.to_canonical().as_str());
            out.line(format!("{valid}: the value sealed at {} in entry {seq} is {value}", clean(&path.to_string())))?;
            out.line(format!("  of the first {} of the log", counted(*size, "entry", "entries")))?;
            out.line(format!("  root   {root}"))?;
            out.line(format!("  entry  {}", clean_json(line)))?;
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
            paragraph("Of its entries that shows nothing, nor when it was signed", out)?;
        }
        // Kinds that a later version of the library knows have their JSON.
        _ => out.line(format!("{valid}: {}", checked.to_json().to_canonical()))?,
    }
    out.line(format!("  log    {}", clean_json(checked.origin())))?;
    let Some(epoch) = checked.epoch() else {
        out.line("  epoch  not checked (that takes --succession)")?;
        return paragraph("Whoever ever held the log key and the key of any epoch could have signed this", out);
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

/// Says of a proof whose value only looks like another that of the other it proves nothing.
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

fn succession(path: &Path) -> Result<Succession, Failure> {
    let bytes = input(path, MAX_SUCCESSION)?;
    let fault = |e: &dyn std::fmt::Display| Failure::Input(format!("{}: {e}", path.display()));
    let value = Json::parse(&bytes).map_err(|e| fault(&e))?.value;
    // Either the succession itself or the whole answer of `keys show --json`.
    let value = value.get("succession").cloned().unwrap_or(value);
    Succession::from_json(&value).map_err(|e| fault(&e))
}

//! What a person who verifies a log supplies: its public key, and whatever was kept outside the log's reach.

use super::context::Context;
use super::exit::{End, Failure};
use attestlog::AuditLog;
use attestlog::anchor::{Evidence, Kept, MAX_ANCHOR_FILE_BYTES};
use attestlog::note::{KeyType, VerifierKey};
use attestlog::verify::{Verification, VerifyOptions};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, Args)]
pub struct TrustArgs {
    #[command(flatten)]
    evidence: ElsewhereArgs,
    /// End with code 0 if somebody has settled every finding (alerts settle). They are shown all the same
    #[arg(long, help_heading = "Trust")]
    except_settled: bool,
}

/// What the person has from elsewhere.
#[derive(Debug, Clone, Default, Args)]
pub struct ElsewhereArgs {
    /// The log's public key as you have it from elsewhere, or a file with it. Without it a log that was rewritten and
    /// signed with a fresh key passes, as not pinned
    #[arg(long, value_name = "KEY", value_parser = log_key, help_heading = "Trust")]
    public_key: Option<VerifierKey>,
    /// What was kept elsewhere, repeatable: a checkpoint, an anchor file, a time-stamp token NAME.tsr with its checkpoint
    /// NAME beside it, an inclusion or consistency proof; `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    against: Vec<PathBuf>,
    /// A witness's public key, or a file with it, repeatable: the times in its cosignatures count
    #[arg(long, value_name = "KEY", value_parser = witness_key, help_heading = "Trust")]
    witness: Vec<VerifierKey>,
}

impl TrustArgs {
    /// How the command ends: with 1 if anything was found.
    pub fn verdict(&self, of: &Verification) -> End {
        let accepted = of.ok() || self.except_settled && of.is_settled();
        if accepted { End::Done } else { End::Found }
    }

    /// Whether something that was kept elsewhere is given.
    pub fn gives_kept(&self) -> bool {
        !self.evidence.against.is_empty()
    }

    /// The log's public key, if it was given.
    pub fn public_key(&self) -> Option<&VerifierKey> {
        self.evidence.public_key()
    }

    /// Reads what is given: see [`ElsewhereArgs::read`].
    pub fn read(&self, cx: &Context) -> Result<Brought, Failure> {
        self.evidence.read(cx)
    }
}

impl ElsewhereArgs {
    /// The log's public key, if it was given.
    pub fn public_key(&self) -> Option<&VerifierKey> {
        self.public_key.as_ref()
    }

    /// Reads all of it from the given files. Anything in a file that could not be read is a finding, except for a last line
    /// that a crash cut off, which is reported on standard error.
    pub fn read(&self, cx: &Context) -> Result<Brought, Failure> {
        let mut brought = Brought { public_key: self.public_key.clone(), kept: Vec::new() };
        for path in &self.against {
            let evidence = evidence(cx, path, &self.witness)?;
            for place in evidence.unreadable.iter().filter(|place| place.cut_off) {
                cx.complain(format!("{}, {place}; not compared", path.display()));
            }
            brought.kept.push((path.clone(), evidence));
        }
        Ok(brought)
    }
}

/// What the person supplied, read from its files.
#[derive(Debug)]
pub struct Brought {
    public_key: Option<VerifierKey>,
    kept: Vec<(PathBuf, Evidence)>,
}

impl Brought {
    /// Options for the verification of `log`.
    ///
    /// Anything that belongs to a log of another name says nothing about this one, so it is refused before anything is
    /// verified or kept: a wrong argument must not be recorded as tampering. It can also mean that another log was put in
    /// the place of the right one, and the message says so: a name contains its key's fingerprint, so whoever does that
    /// cannot keep the name.
    pub fn of(self, cx: &Context, log: &AuditLog) -> Result<VerifyOptions, Failure> {
        let own = log.public_key()?;
        let own = own.as_ref().map(VerifierKey::name);
        let mut options = VerifyOptions::new();
        if let Some(key) = self.public_key {
            if let Some(own) = own.filter(|own| *own != key.name()) {
                return Err(of_another("--public-key", key.name(), own));
            }
            options = options.public_key(key);
        }
        for (path, Evidence { kept, unreadable, .. }) in self.kept {
            let fits = |kept: &Kept| own.is_none_or(|own| own == kept.checkpoint.checkpoint().origin());
            let (kept, others): (Vec<_>, Vec<_>) = kept.into_iter().partition(fits);
            if let (Some(own), Some(other), true) = (own, others.first(), kept.is_empty()) {
                let what = format!("--against {}", path.display());
                return Err(of_another(&what, other.checkpoint.checkpoint().origin(), own));
            }
            for other in others {
                let origin = other.checkpoint.checkpoint().origin().to_owned();
                cx.complain(format!("{}: a checkpoint of another log, {origin}; not compared", other.source));
            }
            options = options.against(kept).against_unreadable(&path.display().to_string(), unreadable);
        }
        Ok(options)
    }
}

fn of_another(what: &str, other: &str, own: &str) -> Failure {
    Failure::Input(format!(
        "{what}: it is of the log {other}, and this store is the log {own}. Nothing was verified, and nothing is kept of \
         this. Give what belongs to this log; but if this file should be the log {other}, another log was put in its place"
    ))
}

fn evidence(cx: &Context, path: &Path, witnesses: &[VerifierKey]) -> Result<Evidence, Failure> {
    let input = |e: attestlog::Error| Failure::Input(e.to_string());
    if path.as_os_str() != "-" {
        return Evidence::read(path, witnesses).map_err(input);
    }
    let source = cx.source(None)?;
    let name = source.name.clone();
    let bytes = source.read_all(MAX_ANCHOR_FILE_BYTES as u64)?;
    Evidence::parse(&name, &bytes, None, witnesses).map_err(input)
}

/// A log's verifier key, or a file with it.
pub fn log_key(text: &str) -> Result<VerifierKey, String> {
    let key = key(text)?;
    match key.key_type() {
        KeyType::Ed25519 => Ok(key),
        _ => Err(format!("{} is a witness's key; the log's is of type 1", key.name())),
    }
}

/// A witness's verifier key, or a file with it.
pub fn witness_key(text: &str) -> Result<VerifierKey, String> {
    let key = key(text)?;
    match key.key_type() {
        KeyType::CosignatureV1 => Ok(key),
        _ => Err(format!("{} is a log's key; a witness's is of type 4", key.name())),
    }
}

/// Whether a text has the form of a key, and so is never the name of a file: others may choose what files there are.
fn is_written_as_key(text: &str) -> bool {
    let mut parts = text.splitn(3, '+').skip(1);
    let id = parts.next().unwrap_or_default();
    parts.next().is_some() && id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The longest key line that is read.
const MAX_KEY_LINE: u64 = 4096;

fn key(text: &str) -> Result<VerifierKey, String> {
    let unread = match text.parse() {
        Ok(key) => return Ok(key),
        Err(e) => e,
    };
    if is_written_as_key(text) {
        return Err(format!("not a key: {unread}"));
    }
    let path = Path::new(text);
    if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(format!("{text}: is no regular file"));
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_KEY_LINE).read_to_end(&mut bytes)) {
        Ok(_) => {
            let content = String::from_utf8_lossy(&bytes);
            let mut lines = content.lines().map(str::trim).filter(|line| !line.is_empty());
            let key = lines.next().unwrap_or_default().parse().map_err(|e| format!("{text}: {e}"))?;
            match lines.find(|line| line.parse::<VerifierKey>().is_ok_and(|other| other != key)) {
                Some(_) => {
                    Err(format!("{text}: has more than one key; give the one that you mean, or a file with it alone"))
                }
                None => Ok(key),
            }
        }
        Err(_) => Err(format!("neither a file nor a key: {unread}")),
    }
}

//! What somebody who checks a log brings along: its public key, and whatever was kept outside the log's reach.

use super::exit::{Failure, complain};
use super::lines::Source;
use attestlog::VerifyOptions;
use attestlog::anchor::{Evidence, MAX_ANCHOR_FILE_BYTES};
use attestlog::note::{KeyType, VerifierKey};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, Args)]
pub struct TrustArgs {
    /// The log's public key as you have it from elsewhere, or a file with it. Without it a log that was written anew and
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
    /// Options with all of it, read from its files. What in a file could not be read is said on standard error.
    pub fn options(&self) -> Result<VerifyOptions, Failure> {
        let mut options = VerifyOptions::new();
        if let Some(key) = &self.public_key {
            options = options.public_key(key.clone());
        }
        for path in &self.against {
            let evidence = evidence(path, &self.witness)?;
            for place in &evidence.unreadable {
                complain(format!("{}, {place}; not compared", path.display()));
            }
            options = options.against(evidence.kept);
        }
        Ok(options)
    }
}

fn evidence(path: &Path, witnesses: &[VerifierKey]) -> Result<Evidence, Failure> {
    let input = |e: attestlog::Error| Failure::Input(e.to_string());
    if path.as_os_str() != "-" {
        return Evidence::read(path, witnesses).map_err(input);
    }
    let source = Source::open(None)?;
    let name = source.name.clone();
    let bytes = source.read_all(MAX_ANCHOR_FILE_BYTES as u64)?;
    Evidence::parse(&name, &bytes, None, witnesses).map_err(input)
}

/// A log's verifier key, or the first line of a file with it.
pub fn log_key(text: &str) -> Result<VerifierKey, String> {
    let key = key(text)?;
    match key.key_type() {
        KeyType::Ed25519 => Ok(key),
        _ => Err(format!("{} is a witness's key; the log's is of type 1", key.name())),
    }
}

/// A witness's verifier key, or the first line of a file with it.
pub fn witness_key(text: &str) -> Result<VerifierKey, String> {
    let key = key(text)?;
    match key.key_type() {
        KeyType::CosignatureV1 => Ok(key),
        _ => Err(format!("{} is a log's key; a witness's is of type 4", key.name())),
    }
}

/// No key is longer.
const MAX_KEY_LINE: u64 = 4096;

fn key(text: &str) -> Result<VerifierKey, String> {
    let unread = match text.parse() {
        Ok(key) => return Ok(key),
        Err(e) => e,
    };
    let path = super::session::path(Path::new(text));
    if std::fs::metadata(&path).is_ok_and(|about| !about.is_file()) {
        return Err(format!("{text}: is no regular file"));
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_KEY_LINE).read_to_end(&mut bytes)) {
        Ok(_) => {
            let content = String::from_utf8_lossy(&bytes);
            let line = content.lines().next().unwrap_or_default();
            line.trim().parse().map_err(|e| format!("{text}: {e}"))
        }
        Err(_) => Err(format!("neither a file nor a key: {unread}")),
    }
}

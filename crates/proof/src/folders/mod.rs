//! Folders that prove something to somebody who has nothing else of the log: a package about one patient, and the whole log as
//! evidence. docs/proof-format.md says what they hold and what is checked; [`verifiers`](crate::verifiers) check the same.
//!
//! No I/O: the caller reads the files.

mod evidence;
mod package;
mod said;

pub use evidence::{EvidenceCheck, ProvenEvidence};
pub use package::{FORMAT, PackageClaim, ProvenPackage, check_package, inclusion_name};

use crate::json::{Json, Limits, MAX_INT, Object};
use crate::note::{SignedCheckpoint, Succession, VerifierKey};
use crate::proof::{CheckError, Standing};

/// The name of the file with the claim of a package. A folder with such a file is a package.
pub const CLAIM: &str = "package.json";

/// The succession of epoch keys that the reader of a folder has from elsewhere: canonical JSON, with or without a newline; or the
/// whole output of `keys show --json`, which has it as its member `succession`.
///
/// # Errors
/// The [`CheckError`] that says what is wrong with it.
pub fn succession(bytes: &[u8]) -> Result<Succession, CheckError> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the succession is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let limits = Limits::UNBOUNDED.values(65_536 + text.len() / 4);
    let given =
        Json::parse_within(text.as_bytes(), &limits).map_err(|e| malformed(format!("the succession: {e}")))?.value;
    if given.to_canonical().as_str() != text {
        return Err(malformed("the succession is not canonical JSON"));
    }
    let value = given.get("succession").filter(|of| **of != Json::Null).unwrap_or(&given);
    let succession = Succession::from_json(value)?;
    match succession.to_json() == *value {
        true => Ok(succession),
        false => Err(malformed("the succession has other members than it should")),
    }
}

/// The verdict about a folder in which nothing was refused. `unproven`: it is about pseudonyms only.
fn verdict(standing: Standing, unproven: bool) -> &'static str {
    match (standing, unproven) {
        (Standing::Closed, _) => "closed",
        (_, true) => "unproven",
        (_, false) => "proved",
    }
}

fn malformed(what: impl Into<String>) -> CheckError {
    CheckError::Malformed(what.into())
}

/// The text without the newline that must end it.
fn one_line<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str, CheckError> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed(format!("{name} is not UTF-8")))?;
    text.strip_suffix('\n').ok_or_else(|| malformed(format!("{name} does not end in a newline")))
}

/// The object that this text is as canonical JSON, with these members and no others.
fn object(name: &str, text: &str, members: &[&str]) -> Result<Object, CheckError> {
    let limits = Limits::UNBOUNDED.values(65_536 + text.len() / 4);
    let parsed = Json::parse_within(text.as_bytes(), &limits).map_err(|e| malformed(format!("{name}: {e}")))?;
    if parsed.value.to_canonical().as_str() != text {
        return Err(malformed(format!("{name} is not canonical JSON")));
    }
    match parsed.value {
        Json::Object(object) if object.iter().map(|(name, _)| name).eq(members.iter().copied()) => Ok(object),
        _ => Err(malformed(format!("{name} has other members than it should"))),
    }
}

/// Checks the key and the checkpoint of a folder.
fn head(public_key: &[u8], checkpoint: &[u8], key: &VerifierKey) -> Result<SignedCheckpoint, CheckError> {
    if one_line("public-key", public_key)? != key.to_string() {
        return Err(CheckError::Contradicted("the key in the folder is not the one that you gave".to_owned()));
    }
    let checkpoint = SignedCheckpoint::parse(checkpoint)?;
    checkpoint.verify(key)?;
    if checkpoint.checkpoint().size() > MAX_INT as u64 {
        return Err(malformed("the checkpoint's size is beyond 2^53-1"));
    }
    Ok(checkpoint)
}

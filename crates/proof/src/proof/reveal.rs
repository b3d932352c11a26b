//! Proves which value was sealed in an entry.
//!
//! `{"kind":"reveal","path":…,"value":…,"salt":hex,"entry":…}`, where `entry` is the C2SP tlog-proof of the entry.
//!
//! The entry's line holds a salted commitment to each sealed value beside its ciphertext. The proof gives one value with
//! its salt, which nobody can find for another value, and the inclusion proof of the line. Only one value is opened: the
//! entry's other sealed values stay sealed, since each has its own salt and key and neither is in the proof. But the
//! line is what was hashed, so the proof carries all of it: it also shows what the entry holds unsealed. The proof stays
//! valid after the subject's key is destroyed, but the store cannot make it again.

use super::{CheckError, InclusionProof, Proven};
use crate::hash::{from_hex, to_hex};
use crate::json::{Json, Limits, Object, Path};
use crate::sealed::{Opened, sealed_commitment, verify_reveal};
use std::fmt;

/// Proves that the value sealed at one place of an entry is this one. Prints as one line of canonical JSON; whoever has it can
/// read the value.
#[derive(Clone, PartialEq)]
pub struct RevealProof {
    /// Where the value is sealed: `arguments.ssn`.
    pub path: Path,
    /// The value, and the salt that binds it to the commitment in the line.
    pub opened: Opened,
    /// Proves that the entry is in the log.
    pub entry: InclusionProof,
}

impl fmt::Debug for RevealProof {
    /// Leaves out the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevealProof").field("path", &self.path).field("seq", &self.entry.seq).finish_non_exhaustive()
    }
}

impl fmt::Display for RevealProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.to_json().to_canonical())
    }
}

impl RevealProof {
    /// Makes the proof of an opened value from the entry's inclusion proof.
    ///
    /// # Errors
    /// [`CheckError::Reveal`] if the entry has no such value sealed there; [`CheckError::Entry`] if its line is not JSON.
    pub fn new(entry: InclusionProof, path: Path, opened: Opened) -> Result<RevealProof, CheckError> {
        let proof = RevealProof { path, opened, entry };
        proof.opens()?;
        Ok(proof)
    }

    /// The JSON in the file.
    pub fn to_json(&self) -> Json {
        Object::from_iter([
            ("kind", Json::from("reveal")),
            ("path", self.path.to_string().into()),
            ("value", self.opened.value.clone()),
            ("salt", to_hex(&self.opened.salt).into()),
            ("entry", self.entry.to_string().into()),
        ])
        .into()
    }

    /// Reads what [`RevealProof::to_json`] made, and nothing else, without checking what it proves.
    ///
    /// # Errors
    /// [`CheckError::Malformed`], [`CheckError::TooLarge`] or [`CheckError::Note`]: the form is wrong.
    pub fn from_json(json: &Json) -> Result<RevealProof, CheckError> {
        let wrong = |key: &str| CheckError::Malformed(format!("{key:?} is missing or invalid"));
        let text = |key: &str| json.get(key).and_then(Json::as_str).ok_or_else(|| wrong(key));
        let salt = from_hex(text("salt")?).and_then(|s| s.try_into().ok()).ok_or_else(|| wrong("salt"))?;
        let value = json.get("value").cloned().ok_or_else(|| wrong("value"))?;
        let proof = RevealProof {
            path: Path::parse(text("path")?).map_err(|_| wrong("path"))?,
            opened: Opened { value, salt },
            entry: InclusionProof::parse(text("entry")?.as_bytes())?,
        };
        if proof.to_json() == *json {
            Ok(proof)
        } else {
            Err(CheckError::Malformed("it is not in canonical form, or has members that are not known".to_owned()))
        }
    }

    pub(super) fn check(self) -> Result<Proven, CheckError> {
        self.opens()?;
        let (path, value) = (self.path, self.opened.value);
        match self.entry.check()? {
            Proven::Inclusion { seq, size, root, line } => Ok(Proven::Reveal { seq, path, value, size, root, line }),
            other => Ok(other),
        }
    }

    /// Checks that the commitment in the line is to this value.
    fn opens(&self) -> Result<(), CheckError> {
        let line = Json::parse_within(&self.entry.line, &Limits::UNBOUNDED);
        let line = line.map_err(|e| CheckError::Entry(format!("not an entry: {e}")))?.value;
        let said = |what: &str| CheckError::Reveal(format!("{} of entry {} {what}", self.path, self.entry.seq));
        let commitment = parts(&line);
        let commitment =
            self.path.find(&commitment).and_then(sealed_commitment).ok_or_else(|| said("is not sealed"))?;
        match verify_reveal(&self.path, &self.opened.salt, &self.opened.value, &commitment) {
            true => Ok(()),
            false => Err(said("was sealed with another value")),
        }
    }
}

/// The parts of a call under the names that paths begin with.
fn parts(line: &Json) -> Json {
    let named = ["arguments", "session_metadata"].map(|name| (name, line.get(name)));
    let result = ("result", line.get("result_summary").and_then(|summary| summary.get("full")));
    let parts = named.into_iter().chain([result]);
    parts.filter_map(|(name, part)| Some((name, part?.clone()))).collect::<Object>().into()
}

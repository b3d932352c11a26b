//! Reads back what was kept elsewhere, in whatever form, for a verification to compare with.
//!
//! Invariants: nothing here claims that a checkpoint is the log's; the verification checks signatures and compares
//! roots. A file without any checkpoint is an error, never an empty result, so that a wrong path cannot pass for a
//! clean comparison. If a file has checkpoints, whatever else in it could not be read is listed with them.

use super::record::{MAX_ANCHOR_FILE_BYTES, Record, Unreadable, read_anchor_file};
use super::timestamp::check_token;
use crate::files::STORE_MAGIC;
use crate::json::{Json, Limits};
use crate::note::{MAX_NOTE_BYTES, SignedCheckpoint, VerifierKey};
use crate::proof::Proof;
use crate::{Error, Hash, Result, Timestamp, merkle};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The form in which a checkpoint was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// A checkpoint's note, alone in its file.
    Checkpoint,
    /// A record or note in an anchor file.
    AnchorFile,
    /// A time-stamp token in a file of its own, beside the note that it covers.
    TimeStamp,
    /// The later checkpoint of a valid consistency proof.
    ConsistencyProof,
    /// The checkpoint of a valid inclusion proof.
    InclusionProof,
}

impl Form {
    /// Every form.
    pub const ALL: &[Form] =
        &[Form::Checkpoint, Form::AnchorFile, Form::TimeStamp, Form::ConsistencyProof, Form::InclusionProof];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Form::Checkpoint => "checkpoint",
            Form::AnchorFile => "anchor_file",
            Form::TimeStamp => "time_stamp",
            Form::ConsistencyProof => "consistency_proof",
            Form::InclusionProof => "inclusion_proof",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

attestlog_proof::named_form!(serde Form, "form of a kept checkpoint");
attestlog_proof::json_form!(members Source { file, line, form });
attestlog_proof::json_form!(members Kept { checkpoint, time, source });

/// Where a checkpoint was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub file: String,
    /// The line at which it begins, counted from 1; 1 in files that are not read by lines.
    pub line: usize,
    /// The form in which it was kept.
    pub form: Form,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::AnchorFile => write!(f, "{}, line {}", self.file, self.line),
            _ => f.write_str(&self.file),
        }
    }
}

/// A checkpoint that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The checkpoint. It is well-formed; whether the log signed it is not checked here.
    pub checkpoint: SignedCheckpoint,
    /// The earliest time at which somebody else had it: the time of a cosignature that is valid under the key of one of
    /// the given witnesses, or of a time-stamp token over this note. Use `openssl ts -verify` to check a token's
    /// signature.
    pub time: Option<Timestamp>,
    /// Where it was found.
    pub source: Source,
}

/// The contents of a file that was kept elsewhere.
///
/// ```
/// use attestlog::anchor::{Evidence, Form};
/// let note = "example.com/log\n2\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— example.com/log AAAAAAAA\n";
/// let evidence = Evidence::parse("kept", note.as_bytes(), None, &[])?;
/// assert_eq!(evidence.kept[0].checkpoint.checkpoint().size(), 2);
/// assert_eq!(evidence.kept[0].source.form, Form::Checkpoint);
/// assert!(Evidence::parse("kept", b"something else", None, &[]).is_err());
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// The checkpoints, in the order of the file.
    pub kept: Vec<Kept>,
    /// What in the file could not be read or is not valid: a torn last line, a wrong cosignature, a token over other
    /// bytes. To be shown to the person who provided the file.
    pub unreadable: Vec<Unreadable>,
}

impl Evidence {
    /// Reads a file; for a time-stamp token `NAME.tsr` or `NAME.tst`, also the note beside it in `NAME`.
    ///
    /// # Errors
    /// As [`Evidence::parse`]; [`NotFound`](crate::ErrorKind::NotFound) or [`Io`](crate::ErrorKind::Io) if the file, or
    /// the note beside it, cannot be read.
    pub fn read(path: &Path, witnesses: &[VerifierKey]) -> Result<Evidence> {
        let place = |e: Error| e.in_file(path);
        let bytes = read_bounded(path, MAX_ANCHOR_FILE_BYTES).map_err(place)?;
        let is_token = matches!(path.extension().and_then(OsStr::to_str), Some("tsr" | "tst"));
        let beside = if is_token { Some(path.with_extension("")) } else { None };
        let note = beside.map(|path| read_bounded(&path, MAX_NOTE_BYTES).map_err(|e| e.in_file(path)));
        let note = note.transpose().map_err(|e| e.at("the note that the token is over must stand beside it"))?;
        Evidence::parse(&path.display().to_string(), &bytes, note.as_deref(), witnesses)
    }

    /// Recognises `bytes` as a checkpoint's note, an anchor file, a time-stamp token (over the note in `beside`), or a
    /// consistency or inclusion proof. `file` is the name to show; `witnesses` are the keys whose cosignatures tell a
    /// time.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is none of these, holds no checkpoint, or is an invalid
    /// proof or token; [`TooLarge`](crate::ErrorKind::TooLarge).
    pub fn parse(file: &str, bytes: &[u8], beside: Option<&[u8]>, witnesses: &[VerifierKey]) -> Result<Evidence> {
        let mut evidence = Evidence::default();
        let place = |e: Error| e.at(file);
        check_is_no_store(bytes).map_err(place)?;
        let source = |line, form| Source { file: file.to_owned(), line, form };
        if bytes.first() == Some(&0x30) && std::str::from_utf8(bytes).is_err() {
            let note = beside.ok_or_else(|| {
                place(Error::invalid(
                    "a time-stamp token: call it NAME.tsr and put the note that it is over beside it as NAME",
                ))
            })?;
            let time = check_token(bytes, note).map_err(place)?;
            let record =
                Record { checkpoint: SignedCheckpoint::parse(note).map_err(|e| place(e.into()))?, token: None };
            evidence.add(record, source(1, Form::TimeStamp), witnesses, Some(time));
        } else if let Ok(checkpoint) = SignedCheckpoint::parse(bytes) {
            let record = Record { checkpoint, token: None };
            evidence.add(record, source(1, Form::Checkpoint), witnesses, None);
        } else if is_proof(bytes) {
            let (checkpoint, form) = proven(bytes).map_err(place)?;
            evidence.add(Record { checkpoint, token: None }, source(1, form), witnesses, None);
        } else {
            // A crash can leave zeros at the end of a file, but no other bytes that cannot be part of a text.
            if bytes.iter().any(|b| b.is_ascii_control() && !b"\0\t\n\r".contains(b)) {
                return Err(place(Error::invalid("it is binary: neither a checkpoint nor an anchor file nor a proof")));
            }
            let read = read_anchor_file(bytes).map_err(place)?;
            evidence.unreadable = read.unreadable;
            for (line, record) in read.records {
                evidence.add(record, source(line, Form::AnchorFile), witnesses, None);
            }
        }
        if evidence.kept.is_empty() {
            let why = evidence.unreadable.first().map(|first| format!(" ({first})")).unwrap_or_default();
            return Err(place(Error::invalid(format!("no checkpoint in it{why}"))));
        }
        evidence.unreadable.sort_by_key(|place| place.line);
        Ok(evidence)
    }

    fn add(&mut self, record: Record, source: Source, witnesses: &[VerifierKey], mut time: Option<Timestamp>) {
        let mut wrong = |reason: String| self.unreadable.push(Unreadable { line: source.line, reason, cut_off: false });
        let mut earliest = |at: Timestamp| time = Some(time.map_or(at, |time| time.min(at)));
        if let Some(token) = &record.token {
            match check_token(token, record.checkpoint.to_string().as_bytes()) {
                Ok(at) => earliest(at),
                Err(e) => wrong(e.to_string()),
            }
        }
        match record.checkpoint.cosigned(witnesses) {
            Ok(cosigned) => {
                cosigned.iter().filter_map(|signed| signed.time).filter_map(seconds).for_each(earliest);
            }
            Err(e) => wrong(e.to_string()),
        }
        self.kept.push(Kept { checkpoint: record.checkpoint, time, source });
    }
}

/// Refuses a store, whole or embedded in another file. It contains the notes of its own checkpoints, which agree with
/// it: compared with itself, every store would be anchored.
fn check_is_no_store(bytes: &[u8]) -> Result<()> {
    match bytes.windows(STORE_MAGIC.len()).any(|window| window == STORE_MAGIC) {
        true => Err(Error::invalid(
            "it is a store, or holds a copy of one, and not something kept elsewhere: a store confirms nothing about itself. \
             Give an anchor file, or what `attestlog checkpoint` printed",
        )),
        false => Ok(()),
    }
}

/// The time of a cosignature in seconds, if it can be represented.
pub(super) fn seconds(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok()?.checked_mul(1_000_000_000).map(Timestamp::from_nanos)
}

/// Whether this is a JSON object that contains a proof, or a tlog-proof. A record of an anchor file has other members.
fn is_proof(bytes: &[u8]) -> bool {
    bytes.starts_with(b"c2sp.org/tlog-proof@")
        || Json::parse_within(bytes, &Limits::bytes(1 << 20)).is_ok_and(|parsed| parsed.value.get("proof").is_some())
}

/// The checkpoint of a proof whose hashes are valid. Its signature is not checked here.
fn proven(bytes: &[u8]) -> Result<(SignedCheckpoint, Form)> {
    match Proof::parse(bytes)? {
        Proof::Consistency(proof) => {
            let (size, root) = (proof.checkpoint.checkpoint().size(), proof.checkpoint.checkpoint().root());
            merkle::verify_consistency(proof.old_size, size, proof.old_root, root, &proof.proof)?;
            Ok((proof.checkpoint, Form::ConsistencyProof))
        }
        Proof::Inclusion(proof) => {
            let (size, root) = (proof.checkpoint.checkpoint().size(), proof.checkpoint.checkpoint().root());
            merkle::verify_inclusion(proof.seq, size, Hash::leaf(&proof.line), &proof.path, root)?;
            Ok((proof.checkpoint, Form::InclusionProof))
        }
        _ => Err(Error::invalid("this kind of proof cannot be compared with a store; keep a checkpoint")),
    }
}

fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>> {
    crate::files::check_regular(path)?;
    let mut bytes = Vec::new();
    // Read one byte more, to detect a file that is too large.
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(Error::new(crate::ErrorKind::TooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}

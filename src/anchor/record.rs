//! The form in which checkpoints are kept: one line of JSON each, in files that only grow.
//!
//! Invariants: a line is a complete record or none, because JSON that was cut off is not valid JSON: a crash during an
//! append can neither produce a false record nor hide the next one. Whatever is not a record is reported with its place
//! and never skipped silently. Files of plain notes in sequence, as `attestlog checkpoint STORE >> FILE` makes them,
//! can be read too; there, a crash exactly between two signature lines leaves a note without its second signature.

use crate::json::{Json, Limits, Object};
use crate::note::{MAX_NOTE_BYTES, SignedCheckpoint};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::json::form::Form;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The maximum size of an anchor file: some 400,000 checkpoints. A longer file can be split between lines.
pub const MAX_ANCHOR_FILE_BYTES: usize = 256 << 20;

/// The maximum size of a time-stamp token. One with a chain of certificates has about 5,000 bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 256 << 10;

/// The maximum size of a line: a note in which every byte is escaped, and a token in base64.
const MAX_LINE_BYTES: usize = 6 * MAX_NOTE_BYTES + 2 * MAX_TOKEN_BYTES;

/// A file with more unreadable places than this is not a damaged anchor file but some other file.
const MAX_UNREADABLE: usize = 1_000;

/// A checkpoint as it was kept. Displayed as one line of canonical JSON with its newline:
/// `{"checkpoint":"…","token":"…"}`, with the token in base64 if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The checkpoint, with the cosignatures that it had by then.
    pub checkpoint: SignedCheckpoint,
    /// An RFC 3161 time-stamp token (DER) over the bytes of the note, if there is one. Reading does not check it.
    pub token: Option<Vec<u8>>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Json::from(self.members()).to_canonical())
    }
}

impl Form for Record {
    /// The same as its line.
    fn form(&self) -> Json {
        self.members().into()
    }

    fn read(value: &Json) -> Result<Record> {
        Record::parse(value.to_canonical().as_str().as_bytes())
    }
}

attestlog_proof::json_form!(own Record);

impl Record {
    fn members(&self) -> Object {
        let mut members = Object::new();
        members.insert("checkpoint", self.checkpoint.to_string());
        if let Some(token) = &self.token {
            members.insert("token", STANDARD.encode(token));
        }
        members
    }

    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) or [`TooLarge`](ErrorKind::TooLarge), saying what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Record> {
        let json = Json::parse_within(line, &Limits::bytes(MAX_LINE_BYTES))?.value;
        let members = json.as_object().ok_or_else(|| Error::invalid("a record is a JSON object"))?;
        if members.iter().any(|(key, _)| key != "checkpoint" && key != "token") {
            return Err(Error::invalid("a record has the members \"checkpoint\" and \"token\" only"));
        }
        let note = members.get("checkpoint").and_then(Json::as_str);
        let note = note.ok_or_else(|| Error::invalid("\"checkpoint\" is missing or not a string"))?;
        let checkpoint = SignedCheckpoint::parse(note.as_bytes())?;
        let decode = |token: &Json| {
            let token = token.as_str().and_then(|text| STANDARD.decode(text).ok());
            token.ok_or_else(|| Error::invalid("\"token\" is not a string of base64"))
        };
        let token = members.get("token").map(decode).transpose()?;
        if token.as_ref().is_some_and(|token| token.len() > MAX_TOKEN_BYTES) {
            return Err(Error::new(ErrorKind::TooLarge, format!("a token of more than {MAX_TOKEN_BYTES} bytes")));
        }
        Ok(Record { checkpoint, token })
    }
}

/// The contents of an anchor file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AnchorFile {
    /// The records in the order of the file, each with the line at which it begins, counted from 1.
    pub records: Vec<(usize, Record)>,
    /// Lines that are not records. A crash during an append leaves such a line at the end, or further up once the next
    /// record followed; other unreadable lines were not written by this program.
    pub unreadable: Vec<Unreadable>,
}

/// A place in a file kept elsewhere that could not be read or is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// The line at which it begins, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// Whether the file ends here without a newline, as after a crash during an append.
    pub cut_off: bool,
}

attestlog_proof::json_form!(members Unreadable { line, reason, cut_off });

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.cut_off { ", cut off at the end of the file" } else { "" };
        write!(f, "line {}: {}{cut}", self.line, self.reason)
    }
}

/// Reads an anchor file: lines of JSON as [`Record`] displays them, or checkpoint notes in sequence.
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) beyond [`MAX_ANCHOR_FILE_BYTES`]; [`InvalidInput`](ErrorKind::InvalidInput) if so
/// much is unreadable that it must be another kind of file.
///
/// ```
/// use attestlog::anchor::read_anchor_file;
/// let kept = read_anchor_file(b"{\"checkpoint\":\"example.c")?;
/// assert!(kept.records.is_empty() && kept.unreadable[0].cut_off);
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn read_anchor_file(bytes: &[u8]) -> Result<AnchorFile> {
    if bytes.len() > MAX_ANCHOR_FILE_BYTES {
        let message = format!(
            "{} bytes, more than the limit of {MAX_ANCHOR_FILE_BYTES}: cut the file between two lines and give the parts",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let mut file = AnchorFile::default();
    let mut lines = Lines { rest: bytes, number: 0 };
    while let Some(line) = lines.take() {
        if line == b"\n" {
            continue;
        }
        let number = lines.number;
        // The lines of a note are joined again from the place where it begins.
        let record = if line.starts_with(b"{") {
            (line, Record::parse(line))
        } else {
            let from = bytes.len() - lines.rest.len() - line.len();
            lines.take_note();
            let note = bytes.get(from..bytes.len() - lines.rest.len()).unwrap_or_default();
            let checkpoint = SignedCheckpoint::parse(note).map_err(Error::from);
            (note, checkpoint.map(|checkpoint| Record { checkpoint, token: None }))
        };
        match record {
            (_, Ok(record)) => file.records.push((number, record)),
            (text, Err(e)) => {
                let cut_off = lines.rest.is_empty() && !text.ends_with(b"\n");
                file.unreadable.push(Unreadable { line: number, reason: e.to_string(), cut_off });
            }
        }
        if file.unreadable.len() > MAX_UNREADABLE {
            return Err(Error::invalid(format!(
                "more than {MAX_UNREADABLE} lines are not records: not an anchor file"
            )));
        }
    }
    Ok(file)
}

/// Reads a file line by line, each with its newline, so that several lines can be joined again.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&b| b == b'\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// Takes the rest of a note whose first line was taken: up to a blank line, and the signature lines after it.
    fn take_note(&mut self) {
        while self.take().is_some_and(|line| line != b"\n") {}
        while self.rest.starts_with("— ".as_bytes()) {
            self.take();
        }
    }
}

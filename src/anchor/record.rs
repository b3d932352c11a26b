//! The form in which checkpoints are kept: one line of JSON each, in files that only grow.
//!
//! Invariants: a line is a whole record or none, because JSON that was cut off is not JSON, so a crash in the middle of
//! an append can neither pass for a record nor hide the next one; whatever is no record is reported with its place,
//! never passed over. Files of plain notes one after the other, as `attestlog checkpoint STORE >> FILE` makes them, are
//! read as well; there a crash exactly between two signature lines leaves a note that lacks the second.

use crate::json::{Json, Limits, Object};
use crate::note::{MAX_NOTE_BYTES, SignedCheckpoint};
use crate::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The most bytes of an anchor file that are read: some 400,000 checkpoints. A longer one can be cut between lines.
pub const MAX_ANCHOR_FILE_BYTES: usize = 256 << 20;

/// The most bytes a time-stamp token may have. With a chain of certificates one has some 5,000.
pub(super) const MAX_TOKEN_BYTES: usize = 256 << 10;

/// The most bytes a line may have: a note in which every byte is escaped, and a token in base64.
const MAX_LINE_BYTES: usize = 6 * MAX_NOTE_BYTES + 2 * MAX_TOKEN_BYTES;

/// With more unreadable places than this a file is not an anchor file with damage in it, but something else.
const MAX_UNREADABLE: usize = 1_000;

/// A checkpoint as it was kept. Prints as one line of canonical JSON with its newline:
/// `{"checkpoint":"…","token":"…"}`, the token in base64 and only where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The checkpoint, with the cosignatures it had by then.
    pub checkpoint: SignedCheckpoint,
    /// An RFC 3161 time-stamp token (DER) over the bytes of the note, where one was had. Not checked by reading.
    pub token: Option<Vec<u8>>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = Object::new();
        members.insert("checkpoint", self.checkpoint.to_string());
        if let Some(token) = &self.token {
            members.insert("token", STANDARD.encode(token));
        }
        writeln!(f, "{}", Json::from(members).to_canonical())
    }
}

impl Record {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) or [`TooLarge`](ErrorKind::TooLarge) with what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Record> {
        let json = Json::parse_within(line, &Limits::bytes(MAX_LINE_BYTES))?.value;
        let members = json.as_object().ok_or_else(|| Error::invalid("a record is a JSON object"))?;
        if members.iter().any(|(key, _)| key != "checkpoint" && key != "token") {
            return Err(Error::invalid("a record has the members \"checkpoint\" and \"token\" only"));
        }
        let note = members.get("checkpoint").and_then(Json::as_str);
        let note = note.ok_or_else(|| Error::invalid("\"checkpoint\" is missing or no string"))?;
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

/// What was read from an anchor file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AnchorFile {
    /// The records in the order of the file, each with the line at which it begins, counted from 1.
    pub records: Vec<(usize, Record)>,
    /// What is no record. After a crash in the middle of an append the last line is, or, once the next record
    /// followed, one further up; anything else was not written by this program.
    pub unreadable: Vec<Unreadable>,
}

/// A place in a file that was kept which could not be read, or does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// The line at which it begins, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// Whether the file ends in it without a newline, as a crash in the middle of an append leaves it.
    pub cut_off: bool,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.cut_off { ", cut off at the end of the file" } else { "" };
        write!(f, "line {}: {}{cut}", self.line, self.reason)
    }
}

/// Reads an anchor file: lines of JSON as [`Record`] prints them, or checkpoint notes one after the other.
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) beyond [`MAX_ANCHOR_FILE_BYTES`]; [`InvalidInput`](ErrorKind::InvalidInput) where so
/// much is unreadable that it is another kind of file.
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
        // A note's lines are joined again from the place where it begins.
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
            return Err(Error::invalid(format!("more than {MAX_UNREADABLE} lines are no records: not an anchor file")));
        }
    }
    Ok(file)
}

/// A file line by line, each with its newline, so that the bytes of several can be joined again.
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

    /// The rest of a note whose first line was taken: up to a blank line, and the signature lines after it.
    fn take_note(&mut self) {
        while self.take().is_some_and(|line| line != b"\n") {}
        while self.rest.starts_with("— ".as_bytes()) {
            self.take();
        }
    }
}

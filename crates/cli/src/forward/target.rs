//! The file that rows are forwarded to, and where to go on in it.
//!
//! Invariant R115 rests on two others. The last whole row of the file says where to go on; only if the file has none, because somebody has renamed or
//! emptied it since, the cursor beside it says so, and it is written after the rows are on the disk, so it is never ahead of them.
//! A file that does not end with a row of this program is never written to, and nothing is cut off but the half row
//! behind the last whole one.

use super::super::exit::Failure;
use super::Format;
use attestlog::Hash;
use attestlog::files::{self, Writes};
use attestlog::json::{Json, Limits, Object};
use attestlog_report::ocsf;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// No row is longer: a line of the log has at most a quarter of it.
const MAX_ROW: u64 = 256 << 20;
/// What is read at first to find the last row.
const TAIL: u64 = 64 << 10;
const MAX_CURSOR: u64 = 4 << 10;

/// The entry of the last row that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub seq: u64,
    /// `None` for an entry that could not be shown.
    pub hash: Option<Hash>,
}

/// The file, which no other process forwards to at the same time.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    format: Format,
    file: File,
    last: Option<Last>,
}

impl Target {
    /// Opens the file, or makes it, and finds the last row.
    pub fn open(path: &Path, format: Format) -> Result<(Target, Option<Last>), Failure> {
        let (file, in_file) = open(path, format)?;
        let last = match in_file {
            Some(last) => Some(last),
            None => cursor(path)?,
        };
        let target = Target { path: path.to_owned(), format, file, last };
        // The last run may have ended between its rows and the cursor; once the file is rotated, nothing else says where they ended.
        if let Some(last) = in_file.filter(|last| !matches!(cursor(path), Ok(Some(at)) if at == *last)) {
            target.keep_cursor(&last)?;
        }
        Ok((target, last))
    }

    /// Appends rows, the last of which is of this entry; they are on the disk when this returns.
    pub fn write(&mut self, rows: &[u8], last: &Last) -> Result<(), Failure> {
        if !self.is_in_place() {
            self.reopen()?;
        }
        let fault = |e: io::Error| Failure::Store(format!("{}: {e}", self.path.display()));
        self.file.write_all(rows).map_err(fault)?;
        self.file.sync_data().map_err(fault)?;
        self.last = Some(*last);
        self.keep_cursor(last)
    }

    /// Whether the open file still has the name.
    fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Goes on in the file that has the name now.
    fn reopen(&mut self) -> Result<(), Failure> {
        let (file, last) = open(&self.path, self.format)?;
        if last.is_some() && last != self.last {
            return Err(Failure::Input(format!(
                "{}: another file with other rows was put in its place while it was written",
                self.path.display()
            )));
        }
        self.file = file;
        Ok(())
    }

    fn keep_cursor(&self, last: &Last) -> Result<(), Failure> {
        let place = files::beside(&self.path, "cursor");
        let part = files::beside(&place, "new");
        let hash = Json::from(last.hash.map(|hash| hash.to_string()));
        let line = Json::from(Object::from_iter([("hash", hash), ("seq", last.seq.into())]));
        // Nobody else writes there while the file is locked, so this one was left by a process that failed.
        let _ = std::fs::remove_file(&part);
        let mut file = files::create(&part, Writes::Output)?;
        let fault = |e: io::Error| Failure::Store(format!("{}: {e}", part.display()));
        writeln!(file, "{}", line.to_canonical()).map_err(fault)?;
        file.sync_data().map_err(fault)?;
        Ok(files::put_in_place(&part, &place, Writes::Output)?)
    }
}

/// Opens the file for this process alone, cuts off a half row at its end, and finds the last whole one.
fn open(path: &Path, format: Format) -> Result<(File, Option<Last>), Failure> {
    let fault = |e: io::Error| Failure::Store(format!("{}: {e}", path.display()));
    let mut file = loop {
        let opened = files::open_to_append(path, Writes::Output);
        let (file, _) = opened.map_err(|e| Failure::from(e).at(path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Locked(format!("{}: another process forwards to this file", path.display())));
            }
            Err(TryLockError::Error(e)) => return Err(fault(e)),
        }
        // It may have been renamed between the two.
        if is_at(&file, path) {
            break file;
        }
    };
    let end = End::of(&mut file).map_err(fault)?;
    let last = match &end.row {
        Some(row) => Some(place(row, format).ok_or_else(|| foreign(path))?),
        None if end.half.is_empty() || begins_a_row(&end.half, format) => None,
        None => return Err(foreign(path)),
    };
    if !end.half.is_empty() {
        file.set_len(end.at).map_err(fault)?;
    }
    Ok((file, last))
}

fn foreign(path: &Path) -> Failure {
    Failure::Input(format!(
        "{}: its last line is not a row that `forward` has written in this format; name another file",
        path.display()
    ))
}

/// The end of a file of lines.
struct End {
    /// The last whole line.
    row: Option<Vec<u8>>,
    /// Where it ends.
    at: u64,
    /// The beginning of what stands behind it.
    half: Vec<u8>,
}

impl End {
    fn of(file: &mut File) -> io::Result<End> {
        let len = file.metadata()?.len();
        let mut read = TAIL;
        loop {
            let start = len.saturating_sub(read);
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            Read::take(&mut *file, len - start).read_to_end(&mut tail)?;
            let newline = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
            let last = newline(&tail);
            let before = last.and_then(|last| newline(tail.get(..last)?));
            let (whole, half) = match last {
                Some(last) => tail.split_at(last + 1),
                None => tail.split_at(0),
            };
            // What is read must begin before the last row.
            if start == 0 || before.is_some() {
                let row = last.map(|last| whole.get(before.map_or(0, |b| b + 1)..last).unwrap_or_default().to_vec());
                return Ok(End { row, at: start + whole.len() as u64, half: half.to_vec() });
            }
            if read >= MAX_ROW {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its last line is too long to be a row"));
            }
            read *= 4;
        }
    }
}

/// The entry that a row is of.
fn place(row: &[u8], format: Format) -> Option<Last> {
    let row = Json::parse_within(row, &Limits::UNBOUNDED).ok()?.value;
    if format == Format::Ocsf {
        let (seq, hash) = ocsf::place(&row)?;
        return Some(Last { seq, hash });
    }
    let seq = |row: &Json| row.get("seq").and_then(Json::as_u64);
    if let Some(differs) = row.get("differs") {
        return Some(Last { seq: seq(differs)?, hash: None });
    }
    row.get("target").filter(|target| target.as_str() == Some("tool_audit"))?;
    Some(Last { seq: seq(&row)?, hash: Some(hash_in(&row)??) })
}

/// The hash that a row or a cursor has; `Some(None)` if it says that there is none, `None` if it says neither.
fn hash_in(row: &Json) -> Option<Option<Hash>> {
    match row.get("hash")? {
        Json::Null => Some(None),
        hash => hash.as_str()?.parse().ok().map(Some),
    }
}

/// Whether this is the beginning of a row.
fn begins_a_row(half: &[u8], format: Format) -> bool {
    let begins = |with: &str| half.iter().zip(with.as_bytes()).all(|(one, other)| one == other);
    match format {
        Format::Ocsf => begins("{\"activity_id\":"),
        Format::Jsonl => begins("{\"entry\":{") || begins("{\"differs\":{"),
    }
}

/// Where the cursor beside the file says to go on.
fn cursor(path: &Path) -> Result<Option<Last>, Failure> {
    let place = files::beside(path, "cursor");
    // A pipe would wait for somebody who writes to it.
    match std::fs::symlink_metadata(&place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(about) if !about.is_file() => {
            return Err(Failure::Input(format!("{}: is not a regular file; remove it", place.display())));
        }
        _ => {}
    }
    let bytes = match File::open(&place) {
        Err(e) => return Err(Failure::file(&place, &e)),
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_CURSOR).read_to_end(&mut bytes).map_err(|e| Failure::file(&place, &e))?;
            bytes
        }
    };
    let last = Json::parse(&bytes).ok().and_then(|parsed| {
        Some(Last { seq: parsed.value.get("seq").and_then(Json::as_u64)?, hash: hash_in(&parsed.value)? })
    });
    let Some(last) = last else {
        return Err(Failure::Input(format!(
            "{}: does not say where to go on; remove it to forward the log from its beginning",
            place.display()
        )));
    };
    Ok(Some(last))
}

/// Whether the open file is the one at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |about: std::fs::Metadata| (about.dev(), about.ino());
    let open = file.metadata().map(id);
    open.is_ok_and(|open| std::fs::symlink_metadata(path).is_ok_and(|there| id(there) == open))
}

/// On other systems an open file cannot be renamed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

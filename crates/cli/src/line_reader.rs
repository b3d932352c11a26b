//! Reads lines of input from a file or a pipe as they arrive.
//!
//! Invariants: a thread reads ahead, so that the consumer takes the lines that are there and never waits for more; memory
//! is bounded by [`MAX_LINE`] and [`AHEAD`], however long a line is; the number of a line is its number in the file. Empty
//! lines are counted and skipped.

use super::exit::Failure;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

/// The longest line that is read. What is recorded of a call is far shorter: results are summarised.
pub const MAX_LINE: usize = 16 << 20;
/// A longer line is measured up to this length; if it goes on, nothing after it is read, since it may have no end.
const MAX_MEASURED: u64 = 64 << 20;
/// The same for a regular file, which has an end.
const MAX_MEASURED_FILE: u64 = 1 << 30;
const READ: usize = 256 << 10;
/// How many messages from the reading thread may be queued.
const AHEAD: usize = 4;

/// One line that is not empty.
#[derive(Debug)]
pub struct Line<T> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Its bytes, without the line break.
    pub bytes: Vec<u8>,
    /// The value parsed from it, or why the line is too long.
    pub value: Result<T, TooLong>,
}

/// A line that was not kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Its length in bytes, as far as measured.
    pub bytes: u64,
    /// Whether the line goes on after them.
    pub and_more: bool,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.and_more { "more than " } else { "" };
        write!(f, "the line has {more}{} bytes, over the limit of {MAX_LINE}; nothing of it was recorded", self.bytes)
    }
}

/// An input: a file or standard input.
#[derive(Debug)]
pub struct Source {
    /// Its name in messages.
    pub name: String,
    /// Its length, if known.
    pub bytes: Option<u64>,
    reader: Box<dyn ReadDebug>,
}

trait ReadDebug: Read + Send + std::fmt::Debug {}
impl<R: Read + Send + std::fmt::Debug> ReadDebug for R {}

impl Source {
    /// Opens a file.
    pub fn file(path: &Path) -> Result<Source, Failure> {
        let file = File::open(path).map_err(|e| Failure::file(path, &e))?;
        let about = file.metadata().map_err(|e| Failure::file(path, &e))?;
        if about.is_dir() {
            return Err(Failure::Input(format!("{}: is a directory", path.display())));
        }
        let bytes = about.is_file().then_some(about.len());
        Ok(Source { name: path.display().to_string(), bytes, reader: Box::new(file) })
    }

    /// Opens a file that is read completely before anything is done with it. A pipe or a device has no known end to wait for, so it
    /// is refused.
    pub fn whole_file(path: &Path) -> Result<Source, Failure> {
        // Checked before it is opened: opening a pipe waits for a writer.
        let about = std::fs::metadata(path).map_err(|e| Failure::file(path, &e))?;
        if !about.is_file() && !about.is_dir() {
            let message = "is no regular file (a pipe or a device); give a file, or `-` for standard input";
            return Err(Failure::Input(format!("{}: {message}", path.display())));
        }
        Source::file(path)
    }

    /// An input of unknown length with this name in messages.
    pub fn of(name: &str, from: io::Stdin) -> Source {
        Source { name: name.to_owned(), bytes: None, reader: Box::new(from) }
    }

    /// Reads all of it, up to `limit` bytes.
    pub fn read_all(self, limit: u64) -> Result<Vec<u8>, Failure> {
        // An input known to be too long need not be read.
        if let Some(bytes) = self.bytes.filter(|bytes| *bytes > limit) {
            return Err(Failure::Input(format!("{}: has {bytes} bytes, more than {limit}; split it", self.name)));
        }
        // The buffer has the input's size, so that it is not reallocated as it grows.
        let mut all = Vec::with_capacity(self.bytes.map_or(0, |bytes| bytes as usize + 1));
        let read = self.reader.take(limit + 1).read_to_end(&mut all);
        read.map_err(|e| Failure::file(&self.name, &e))?;
        match all.len() as u64 > limit {
            true => Err(Failure::Input(format!("{}: has more than {limit} bytes; split it", self.name))),
            false => Ok(all),
        }
    }

    /// Returns its lines, each with the value that `make` makes of it; `make` runs on the reading thread. Each message
    /// holds the lines from one read of the input. Nothing follows after an error of the input, or, with `stop`, after a
    /// line that is too long.
    pub fn lines<T: Send + 'static>(
        self,
        stop: bool,
        make: impl Fn(&[u8]) -> T + Send + 'static,
    ) -> io::Result<Receiver<io::Result<Vec<Line<T>>>>> {
        let (sender, receiver) = sync_channel(AHEAD);
        let mut reader = self.reader;
        // Without `stop` the lines after a long line are needed too.
        let measured = if self.bytes.is_some() || !stop { MAX_MEASURED_FILE } else { MAX_MEASURED };
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            let mut splitter = Splitter::new(stop, measured, make);
            let mut buffer = vec![0; READ];
            loop {
                let message = match reader.read(&mut buffer) {
                    Ok(0) => {
                        let _ = sender.send(Ok(splitter.finish()));
                        return;
                    }
                    Ok(n) => Ok(splitter.push(&buffer[..n])),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => Err(e),
                };
                let over = message.is_err() || splitter.stopped;
                let worth = message.as_ref().map_or(true, |lines| !lines.is_empty());
                // If nothing can be sent, the receiver is gone.
                if (worth && sender.send(message).is_err()) || over {
                    return;
                }
            }
        })?;
        Ok(receiver)
    }
}

/// Splits the input into lines.
struct Splitter<T, F: Fn(&[u8]) -> T> {
    make: F,
    stop: bool,
    /// Up to this many bytes of a line are counted.
    measured: u64,
    stopped: bool,
    number: u64,
    begun: Vec<u8>,
    /// Bytes counted so far of a line that is too long to be kept.
    skipped: u64,
    lines: Vec<Line<T>>,
}

impl<T, F: Fn(&[u8]) -> T> Splitter<T, F> {
    fn new(stop: bool, measured: u64, make: F) -> Splitter<T, F> {
        Splitter { make, stop, measured, stopped: false, number: 0, begun: Vec::new(), skipped: 0, lines: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<Line<T>> {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            if self.stopped {
                break;
            }
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.grow(end);
                    self.end_line();
                }
                None => self.grow(part),
            }
        }
        std::mem::take(&mut self.lines)
    }

    fn finish(mut self) -> Vec<Line<T>> {
        if !self.stopped && (self.skipped > 0 || !self.begun.is_empty()) {
            self.end_line();
        }
        self.lines
    }

    fn grow(&mut self, bytes: &[u8]) {
        if self.skipped == 0 && self.begun.len() + bytes.len() <= MAX_LINE {
            self.begun.extend_from_slice(bytes);
            return;
        }
        self.skipped += (self.begun.len() + bytes.len()) as u64;
        self.begun = Vec::new();
        if self.skipped > self.measured {
            self.too_long(true);
        }
    }

    fn end_line(&mut self) {
        if self.skipped > 0 {
            return self.too_long(false);
        }
        self.number += 1;
        let mut bytes = std::mem::take(&mut self.begun);
        // Some editors put a byte order mark before UTF-8, and some a carriage return before the line break.
        if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if !bytes.trim_ascii().is_empty() {
            let value = Ok((self.make)(&bytes));
            self.lines.push(Line { number: self.number, bytes, value });
        }
    }

    fn too_long(&mut self, and_more: bool) {
        self.number += 1;
        let value = Err(TooLong { bytes: std::mem::take(&mut self.skipped), and_more });
        self.lines.push(Line { number: self.number, bytes: Vec::new(), value });
        self.stopped |= self.stop || and_more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
        let mut splitter = Splitter::new(false, MAX_MEASURED_FILE, |_: &[u8]| ());
        let mut lines: Vec<Line<()>> = parts.iter().flat_map(|p| splitter.push(p)).collect();
        lines.extend(splitter.finish());
        lines.into_iter().map(|l| (l.number, l.bytes)).collect()
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let expected = vec![(1, b"a".to_vec()), (3, b"bc".to_vec()), (4, b"d".to_vec())];
        assert_eq!(split(&[b"\xef\xbb\xbfa\r\n \nbc\nd"]), expected);
        assert_eq!(split(&[b"\xef\xbb", b"\xbfa\r", b"\n \nb", b"c", b"\nd"]), expected);
    }

    #[test]
    fn a_long_line_is_measured_and_not_kept() {
        let mut splitter = Splitter::new(false, MAX_MEASURED_FILE, |_: &[u8]| ());
        let part = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            assert!(splitter.push(&part).is_empty());
            assert!(splitter.begun.len() <= MAX_LINE);
        }
        let lines = splitter.push(b"\nnext\n");
        assert_eq!(lines[0].value, Err(TooLong { bytes: 100 << 20, and_more: false }));
        assert_eq!((lines[1].number, lines[1].bytes.as_slice()), (2, b"next".as_slice()));
    }

    /// `record --keep-going` read an endless line forever, and without the flag a GiB of it.
    #[test]
    fn a_line_without_an_end_ends_the_reading() {
        for stop in [false, true] {
            let mut splitter = Splitter::new(stop, MAX_MEASURED, |_: &[u8]| ());
            let part = vec![0; 1 << 20];
            let lines = (0..=64).map(|_| splitter.push(&part)).find(|lines| !lines.is_empty()).unwrap();
            assert_eq!(lines[0].value, Err(TooLong { bytes: 65 << 20, and_more: true }));
            assert!(splitter.stopped && splitter.push(b"\nnext\n").is_empty() && splitter.finish().is_empty());
        }
    }
}

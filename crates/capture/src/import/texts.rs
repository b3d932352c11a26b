//! The JSON texts of a file that has several: one per line, or each over several lines, as the exporters of SDKs print them.
//!
//! Nothing between them is passed over silently. A text that is torn costs only itself: reading goes on at the next line that begins
//! one, and what lies between is named. A text begins where a line begins, so that what is inside a torn one is not taken for a
//! text of its own: it is indented further.

use super::file::{Document, Read};
use super::{ImportOptions, NotTaken, Untaken};
use attestlog::json::{Json, Limits};

/// Texts nested deeper are refused by the parser; the search for the end of one goes no further, so it is linear.
const DEEPEST: usize = 128;

/// The texts of the file; `None` if it is something else than JSON, in which texts may occur.
pub(super) fn read(text: &[u8], options: &ImportOptions) -> Option<Read> {
    let mut texts =
        Texts { text, at: 0, line: 1, options, read: Read { documents: Vec::new(), bad: Vec::new() }, first: None };
    while texts.at < text.len() {
        texts.next();
    }
    let Texts { read, first, .. } = texts;
    let records = read.documents.iter().filter(|document| document.value().as_object().is_some()).count();
    let mostly = records > read.bad.len() && !is_binary(text);
    (!read.documents.is_empty() && (first == Some(true) || mostly)).then_some(read)
}

/// Whether the file has bytes that no text has, other than rows of NUL bytes that a crash leaves.
fn is_binary(text: &[u8]) -> bool {
    let has_nul = |line: &[u8]| line.contains(&0) && !is_nul(line.trim_ascii());
    std::str::from_utf8(text).is_err() || text.split(|byte| *byte == b'\n').any(has_nul)
}

fn is_nul(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == 0)
}

struct Texts<'a> {
    text: &'a [u8],
    /// Where the next line, or what is left of one, begins.
    at: usize,
    line: usize,
    options: &'a ImportOptions,
    read: Read,
    /// Whether the first thing in the file that is more than NUL bytes is JSON.
    first: Option<bool>,
}

impl<'a> Texts<'a> {
    /// What is left of the line, with what indents it.
    fn rest(&self) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        rest.split(|byte| *byte == b'\n').next().unwrap_or_default()
    }

    fn next_line(&mut self) {
        self.at += self.rest().len() + 1;
        self.line += 1;
    }

    /// Reads what begins in this line.
    fn next(&mut self) {
        let rest = self.rest();
        let line = rest.trim_ascii();
        let indent = rest.len() - rest.trim_ascii_start().len();
        if line.is_empty() {
            return self.next_line();
        }
        if is_nul(line) {
            self.bad("the line is nothing but NUL bytes".to_owned(), false);
            return self.next_line();
        }
        let begun = self.at + indent;
        let end = if line.starts_with(b"{") || line.starts_with(b"[") { end(self.text, begun) } else { None };
        let (value, rest) = match end {
            Some(end) => (self.text.get(begun..end).unwrap_or_default(), end),
            None => (line, self.at + rest.len()),
        };
        match (Json::parse_lenient(value, &Limits::bytes(self.options.max_bytes)), self.after(rest)) {
            (Ok(parsed), Some(after)) => {
                self.first.get_or_insert(true);
                self.read.documents.push(Document::new(parsed, Some(self.line), self.options));
                self.line += count(value);
                self.at = after;
            }
            (Ok(_), None) => {
                self.bad("the line has something else after its JSON".to_owned(), true);
                self.line += count(value);
                self.at = rest;
                self.next_line();
            }
            (Err(e), _) => self.torn(line, indent, &e.to_string()),
        }
    }

    /// Where to go on after a text that ends at `end`; `None` if something else follows in its line.
    fn after(&self, end: usize) -> Option<usize> {
        let rest = self.text.get(end..).unwrap_or_default();
        let rest = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match rest.trim_ascii().first() {
            None | Some(b'{' | b'[') => Some(end),
            Some(_) => None,
        }
    }

    /// Passes over a text that is no JSON, with the lines that belong to it.
    fn torn(&mut self, line: &[u8], indent: usize, why: &str) {
        let begins = line.starts_with(b"{") || line.starts_with(b"[");
        let (first, error) = (self.line, self.read.bad.len());
        self.bad(format!("the line is no JSON: {why}"), true);
        self.next_line();
        while begins && self.at < self.text.len() {
            let rest = self.rest();
            let further = rest.len() - rest.trim_ascii_start().len();
            let next = rest.trim_ascii();
            let belongs = next.is_empty() || further > indent || next.starts_with(b"\"") || is_end(next);
            if !belongs || is_nul(next) && !next.is_empty() {
                break;
            }
            self.next_line();
        }
        let last = self.line - 1;
        if let Some(bad) = self.read.bad.get_mut(error).filter(|_| last > first) {
            bad.why.push_str(&format!("; passed over up to line {last}"));
        }
    }

    fn bad(&mut self, why: String, counts: bool) {
        if counts {
            self.first.get_or_insert(false);
        }
        let place = format!("line {}", self.line);
        self.read.bad.push(NotTaken { place, kind: Untaken::Line, call_id: None, why });
    }
}

/// Whether a line only ends what others began.
fn is_end(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'}' | b']' | b',')) || line.starts_with(b"}") || line.starts_with(b"]")
}

fn count(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// The end of the object or array that begins here; `None` if it does not end, or cannot be JSON as far as it goes.
fn end(text: &[u8], begun: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped, mut before) = (0usize, false, false, b'[');
    for (index, byte) in text.iter().enumerate().skip(begun) {
        match byte {
            // A text that goes over several lines has none in its strings: this one is torn.
            b'\n' if in_string => return None,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                // Only these can stand before a value; after anything else, another text begins.
                if depth > DEEPEST || !matches!(before, b'[' | b',' | b':') {
                    return None;
                }
                depth += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            0 => return None,
            _ => {}
        }
        if !byte.is_ascii_whitespace() && !in_string {
            before = *byte;
        }
    }
    None
}

//! Output for people: escaped text, colours, numbers, and the terminal itself.
//!
//! Invariant V1: text that came from a store or a file goes through [`clean`], [`clean_json`] or [`clean_lines`] before it
//! is shown, so that nothing an attacker recorded can move a cursor, change the writing direction or hide text.
//! Invariant V2: what does not fit is cut with an ellipsis, never without one.

use attestlog::Timestamp;
use attestlog::json::Json;
use attestlog::redact::sealed_subject;
pub use attestlog_report::text::{
    cut, visible as clean, visible_json as clean_json, visible_lines as clean_lines, width, wrap,
};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

/// Standard output and its properties.
pub struct Out {
    inner: BufWriter<io::Stdout>,
    /// Whether colours may be used: on a terminal, unless they were turned off.
    color: bool,
    /// Columns of the terminal; `None` if it is not one, and then nothing is cut.
    width: Option<usize>,
}

impl Out {
    /// Writes there; `width`: columns of the terminal, if it is one.
    pub fn new(to: io::Stdout, color: bool, width: Option<usize>) -> Out {
        Out { inner: BufWriter::with_capacity(1 << 16, to), color, width }
    }

    /// Columns of the terminal, if it is one.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether colours may be used.
    pub fn styles(&self) -> bool {
        self.color
    }

    /// The text in a style, if colours may be used.
    pub fn styled(&self, style: Style, text: &str) -> String {
        if self.color && style != Style::Plain { format!("{}{text}\x1b[0m", style.code()) } else { text.to_owned() }
    }

    /// Writes one line. On a terminal the characters that would be carried out or would reorder it are escaped, as JSON may escape
    /// any character: they are not hidden, and what is printed is still JSON where it was.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        match text.find(commands).filter(|_| self.width.is_some()) {
            None => self.inner.write_all(text.as_bytes())?,
            Some(_) => text.chars().try_for_each(|c| match commands(c) {
                true => write!(self.inner, "\\u{:04x}", u32::from(c)),
                false => write!(self.inner, "{c}"),
            })?,
        }
        self.inner.write_all(b"\n")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a terminal would carry this character out, or write what follows it in another direction. JSON escapes those below a
/// space itself; ESC begins the program's own colours.
fn commands(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The look of a text on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Unstyled.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// Details that are looked up rather than read.
    Dim,
    /// Success.
    Good,
    /// Failure.
    Bad,
    /// A warning.
    Warn,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Good => "\x1b[32m",
            Style::Bad => "\x1b[31m",
            Style::Warn => "\x1b[33m",
        }
    }
}

/// A value in a few words: long texts, long lists and deep values are cut with an ellipsis. Already escaped.
pub fn brief(value: &Json) -> String {
    let mut out = String::new();
    abbreviate(value, 0, &mut out);
    out
}

/// Longest text, most elements and deepest level that [`brief`] shows.
const BRIEF: (usize, usize, usize) = (60, 4, 3);

fn abbreviate(value: &Json, depth: usize, out: &mut String) {
    let (longest, most, deepest) = BRIEF;
    match value {
        // Nobody can read the ciphertext.
        sealed if sealed_subject(sealed).is_some() => out.push_str("[SEALED]"),
        Json::Array(items) if depth >= deepest && !items.is_empty() => out.push_str("[…]"),
        Json::Object(members) if depth >= deepest && !members.is_empty() => out.push_str("{…}"),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().take(most).enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                abbreviate(item, depth + 1, out);
            }
            if items.len() > most {
                let _ = write!(out, ", … {} more", items.len() - most);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let more = most * 2;
            out.push_str(if depth > 0 { "{" } else { "" });
            for (i, (key, item)) in members.iter().take(more).enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                out.push_str(&clean(&cut(key, longest)));
                out.push_str(": ");
                abbreviate(item, depth + 1, out);
            }
            if members.len() > more {
                let _ = write!(out, ", … {} more", members.len() - more);
            }
            out.push_str(if depth > 0 { "}" } else { "" });
        }
        Json::String(text) => {
            let shown: String = text.chars().take(longest).collect();
            let quoted = Json::from(shown.as_str()).to_canonical();
            out.push_str(&clean_json(quoted.as_str().trim_end_matches('"')));
            out.push_str(if shown.len() < text.len() { "…\"" } else { "\"" });
        }
        other => out.push_str(other.to_canonical().as_str()),
    }
}

/// A whole number with its thousands separated: `1,164`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 call`, `1,164 calls`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Milliseconds in readable units: `145 ms`, `2.1 s`, `3 min 20 s`, `5 h 12 min`, `77 d 17 h`.
pub fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{} µs", (ms * 1000.0).round()),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => {
            let seconds = (ms / 1000.0).round() as u64;
            match seconds {
                s if s < 3600 => format!("{} min {} s", s / 60, s % 60),
                s if s < 2 * 86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
                s => format!("{} d {} h", count(s / 86_400), s / 3600 % 24),
            }
        }
    }
}

/// Bytes in readable units.
pub fn bytes(n: u64) -> String {
    match n {
        n if n < 1 << 10 => format!("{n} B"),
        n if n < 1 << 20 => format!("{:.1} KiB", n as f64 / 1024.0),
        n if n < 1 << 30 => format!("{:.1} MiB", n as f64 / (1u64 << 20) as f64),
        n => format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64),
    }
}

/// Date and time to the second, UTC: `2025-07-06 14:23:01`.
pub fn moment(t: Timestamp) -> String {
    format!("{} {}", day(t), time(t))
}

/// The date, UTC.
pub fn day(t: Timestamp) -> String {
    t.to_string().get(..10).unwrap_or_default().to_owned()
}

/// The time of day to the second, UTC.
pub fn time(t: Timestamp) -> String {
    t.to_string().get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(clean("a\u{1b}[2J\r\n\\\u{202e}b\u{9b}"), "a\\u{1b}[2J\\r\\n\\\\\\u{202e}b\\u{9b}");
        let hostile = Json::parse("{\"\u{202e}k\":\"\\u001b[2J\u{9b}\u{7f}\"}".as_bytes()).unwrap().value;
        assert_eq!(brief(&hostile), "\\u{202e}k: \"\\u001b[2J\\u{9b}\\u{7f}\"");
    }

    #[test]
    fn nothing_is_cut_silently() {
        let long = Json::Array(vec![Json::from("x".repeat(61)); 6]);
        assert_eq!(brief(&long).matches('…').count(), 5);
    }

    #[test]
    fn figures() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(duration(145.2), "145 ms");
        assert_eq!(duration(200_000.0), "3 min 20 s");
        // Health said "111923 min 28 s ago", and 119.7 s were "1 min 60 s".
        assert_eq!(duration(111_923.0 * 60_000.0), "77 d 17 h");
        assert_eq!(duration(119_700.0), "2 min 0 s");
        assert_eq!(duration(47.0 * 3_600_000.0), "47 h 0 min");
    }
}

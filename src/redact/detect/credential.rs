//! Secrets beside their names in a text: `password=…`, `"api_key": "…"`, `--token …`, `Cookie: …`, `<password>…<`,
//! `curl -u user:…`.
//!
//! It is what the floor does for keys, where no JSON can be read: command lines, logs, URLs, headers, configuration,
//! and JSON that is cut off. A name in quotes counts whatever the floor knows it as; without quotes and before
//! a colon only names of secrets do, since *e-mail:* and *card number:* also stand in prose, where detectors by value
//! know better.

use super::{Hits, before};
use crate::redact::floor::{self, Kind};
use crate::redact::policy::Detector;

/// How long a name is at most.
const NAME: usize = 64;

pub(super) fn find(text: &str, named: bool, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut i = 0;
    while let Some(at) = bytes.get(i..).and_then(|b| b.iter().position(|b| matches!(b, b':' | b'=' | b'-' | b'>'))) {
        let at = i + at;
        i = at + 1;
        if at < done {
            continue;
        }
        let value = match bytes.get(at) {
            Some(b'-') => flag(text, at).or_else(|| short_flag(text, at)),
            Some(b'>') => element(text, at, done),
            _ if named => after_name(text, at, done),
            _ => None,
        };
        if let Some((start, end)) =
            value.filter(|(start, end)| !is_harmless(text.get(*start..*end).unwrap_or_default()))
        {
            hits.add(Detector::Credential, start, end);
            done = end;
            i = end.max(i);
        }
    }
}

/// The value behind `:`, `=`, `=>` or `:=` at `at`, if a secret's name stands before.
fn after_name(text: &str, at: usize, done: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let next = bytes.get(at + 1).copied();
    let colon = bytes.get(at) == Some(&b':');
    // `::` belongs to a path in code and `==` compares.
    if next == bytes.get(at).copied()
        || (colon && next == Some(b'/'))
        || matches!(before(bytes, at), Some(b':' | b'=' | b'!' | b'<' | b'>') if colon || before(bytes, at) != Some(b':'))
    {
        return None;
    }
    let (name, quoted) = name_before(text, at, done)?;
    let (name, kind) = kind_of_words(name)?;
    let plain = kind == Kind::Secret || !colon && kind != Kind::Email || name.to_ascii_lowercase().contains("cv");
    if !quoted && !plain {
        return None;
    }
    let mut start = at + 1;
    if next == Some(b'>') || next == Some(b'=') {
        start += 1;
    }
    // A header's value goes to the end of its line.
    let name = name.as_bytes();
    let is = |word: &[u8]| name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word);
    let header = colon && !quoted && kind == Kind::Secret && (is(b"cookie") || is(b"authorization"));
    value_at(text, start, header)
}

/// What a name in a sentence is the name of: *my pin*, *password for root*.
fn kind_of_words(name: &str) -> Option<(&str, Kind)> {
    if let Some(kind) = floor::kind_of_key(name) {
        return Some((name, kind));
    }
    let (first, rest) = name.split_once(' ')?;
    const WHOSE: [&str; 13] =
        ["my", "your", "his", "her", "our", "their", "the", "a", "new", "old", "mein", "mon", "mi"];
    if WHOSE.iter().any(|w| w.eq_ignore_ascii_case(first)) {
        return floor::kind_of_key(rest).map(|kind| (rest, kind));
    }
    let what = ["for ", "of ", "für ", "pour ", "para "].iter().any(|w| rest.starts_with(w));
    floor::kind_of_key(first).filter(|kind| what && *kind == Kind::Secret).map(|kind| (first, kind))
}

/// The value in an element of XML that has a secret's name: `<wsse:Password Type="…">…</`. The tag ends at `at`.
fn element(text: &str, at: usize, done: usize) -> Option<(usize, usize)> {
    const TAG: usize = 160;
    let bytes = text.as_bytes();
    let from = at.saturating_sub(TAG).max(done);
    let open = from + bytes.get(from..at)?.iter().rposition(|&b| matches!(b, b'<' | b'>'))?;
    if bytes.get(open) != Some(&b'<') {
        return None;
    }
    let tag = text.get(open + 1..at)?.split(|c: char| c.is_whitespace()).next()?;
    let name = tag.rsplit(':').next()?;
    if tag.starts_with(['/', '!', '?']) || tag.ends_with('/') || name.len() > NAME {
        return None;
    }
    floor::kind_of_key(name)?;
    let rest = bytes.get(at + 1..)?;
    let end = at + 1 + rest.iter().position(|&b| b == b'<')?;
    (at + 1 < end && !text.get(at + 1..end)?.trim().is_empty()).then_some((at + 1, end))
}

/// What follows a flag of one letter that takes a secret: the password of `curl -u user:…`, of `sshpass -p …`,
/// of `mysql -p…`.
fn short_flag(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let letter = *bytes.get(at + 1)?;
    if !before(bytes, at).is_some_and(|b| b.is_ascii_whitespace()) {
        return None;
    }
    let program = |names: &[&str]| {
        let line = super::tail(text, at, 200).rsplit(['\n', ';', '|', '&']).next().unwrap_or_default();
        line.split(|c: char| c.is_whitespace() || c == '/').any(|word| names.contains(&word))
    };
    let (value, colon) = match (letter, bytes.get(at + 2)?) {
        (b'u', b' ') if program(&["curl", "wget", "http", "https"]) => (value_at(text, at + 2, false)?, true),
        (b'-', b'u') if text.get(at + 2..)?.starts_with("user ") && program(&["curl", "wget"]) => {
            (value_at(text, at + 6, false)?, true)
        }
        (b'p', b' ') if program(&["sshpass"]) => (value_at(text, at + 2, false)?, false),
        (b'p', b)
            if !b.is_ascii_whitespace() && program(&["sshpass", "mysql", "mysqldump", "mysqladmin", "mariadb"]) =>
        {
            (value_at(text, at + 2, false)?, false)
        }
        _ => return None,
    };
    let (start, end) = value;
    match colon {
        true => text.get(start..end)?.find(':').map(|at| (start + at + 1, end)).filter(|(start, end)| start < end),
        false => Some(value),
    }
}

/// The name that ends before `at`, and whether it stands in quotes.
fn name_before(text: &str, at: usize, done: usize) -> Option<(&str, bool)> {
    let bytes = text.as_bytes();
    let mut end = at;
    while end > done && matches!(before(bytes, end), Some(b' ')) && at - end < 2 {
        end -= 1;
    }
    let quote = before(bytes, end).filter(|b| matches!(b, b'"' | b'\'' | b'`'));
    if quote.is_some() {
        end -= 1;
        while end > done && before(bytes, end) == Some(b'\\') {
            end -= 1;
        }
    }
    let mut start = end;
    let mut spaces = 0;
    while start > done && end - start < NAME {
        match before(bytes, start) {
            Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || b >= 0x80 => {}
            // `api key: …`; a sentence is not a name.
            Some(b' ') if spaces < 2 && start < end => spaces += 1,
            _ => break,
        }
        start -= 1;
    }
    while start < end && !text.is_char_boundary(start) {
        start += 1;
    }
    let name = text.get(start..end).filter(|n| n.len() >= 2)?;
    Some((name.trim_start(), quote.is_some()))
}

/// The value of `--password …`; with `=` it is found by its name.
fn flag(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    if bytes.get(at + 1) != Some(&b'-')
        || before(bytes, at).is_some_and(|b| !b.is_ascii_whitespace() && b != b'"' && b != b'\'')
    {
        return None;
    }
    let rest = bytes.get(at + 2..)?;
    let len = rest.iter().take(NAME).position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_'))?;
    let name = text.get(at + 2..at + 2 + len)?;
    let start = at + 2 + len;
    let apart = bytes.get(start).is_some_and(u8::is_ascii_whitespace);
    let is_flag = |s: usize| bytes.get(s + 1) == Some(&b'-');
    (apart && !is_flag(start) && floor::kind_of_key(name) == Some(Kind::Secret))
        .then(|| value_at(text, start, false))?
}

/// The value that begins behind spaces at `from`: to its closing quote or bracket, to the end of its word, or of its line.
fn value_at(text: &str, from: usize, line: bool) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut start = from;
    while bytes.get(start).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        start += 1;
    }
    // Strings and bytes as Python shows them.
    if matches!(bytes.get(start..start + 2), Some([b'b' | b'u' | b'r' | b'f', b'\'' | b'"'])) {
        start += 1;
    }
    let escapes = bytes.get(start..)?.iter().take_while(|&&b| b == b'\\').count();
    let quote = bytes.get(start + escapes).copied().filter(|b| matches!(b, b'"' | b'\'' | b'`'));
    let end_of = |from: usize, stop: &dyn Fn(u8) -> bool| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|&b| stop(b)).unwrap_or(rest.len())
    };
    let (start, end) = match (quote, bytes.get(start)) {
        (Some(quote), _) => {
            let start = start + escapes + 1;
            (start, closing(bytes, start, quote, escapes))
        }
        (None, Some(b'{' | b'[')) => (start, matching(bytes, start)),
        (None, _) if line => (start, end_of(start, &|b| matches!(b, b'\n' | b'\r' | b'"' | b'\''))),
        (None, _) => {
            let stop = |b: u8| {
                b.is_ascii_whitespace()
                    || matches!(b, b',' | b';' | b'&' | b'"' | b'\'' | b'<' | b'>' | b')' | b'}' | b']' | b'`')
            };
            (start, end_of(start, &stop))
        }
    };
    (start < end).then_some((start, end))
}

/// Where the quote closes, which is escaped as often as the one that opened.
fn closing(bytes: &[u8], from: usize, quote: u8, escapes: usize) -> usize {
    let mut slashes = 0;
    for (i, &b) in bytes.iter().enumerate().skip(from) {
        if b == quote && slashes <= escapes {
            return i - slashes.min(escapes);
        }
        slashes = if b == b'\\' { slashes + 1 } else { 0 };
    }
    bytes.len()
}

/// Where the bracket closes that opens at `from`; the end of the text if it does not.
fn matching(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    for (i, &b) in bytes.iter().enumerate().skip(from) {
        match b {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// What stands for no secret at all.
fn is_harmless(value: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "none", "nil", "undefined", "true", "false", "{}", "[]", "***"];
    let placeholder =
        value.len() < 80 && value.starts_with("[REDACTED") && value.find([']', ' ']) == Some(value.len() - 1);
    WORDS.iter().any(|w| w.eq_ignore_ascii_case(value)) || placeholder || value.bytes().all(|b| b == b'*')
}

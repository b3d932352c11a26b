//! Secrets in the markup of a text: XML elements that have the name of a secret, rows of tables.

use super::credential::{NAME, telling};
use super::ends::Source;
use super::value::{is_code, is_label, is_nothing, is_sentence};
use super::{before, head};
use crate::redact::secret_keys::{self, Kind};

/// The value in an XML element that has the name of a secret: `<wsse:Password Type="…">…</`. The tag ends at `at`.
pub(super) fn element(text: &Source<'_>, at: usize, done: usize) -> Option<(usize, usize)> {
    const TAG: usize = 160;
    const CDATA: &str = "<![CDATA[";
    let bytes = text.as_bytes();
    let from = at.saturating_sub(TAG).max(done);
    let open = from + bytes.get(from..at)?.iter().rposition(|&b| matches!(b, b'<' | b'>'))?;
    // `Option<Password>` is a type, not an element.
    let generic = before(bytes, open).is_some_and(|b| b.is_ascii_alphanumeric() || b == b':');
    if bytes.get(open) != Some(&b'<') || generic || !bytes.get(open + 1).is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let inside = text.get(open + 1..at)?;
    let tag = inside.split(|c: char| c.is_whitespace()).next()?;
    let name = tag.rsplit(':').next()?;
    if tag.starts_with(['/', '!', '?']) || tag.ends_with('/') || name.len() > NAME {
        return None;
    }
    let attribute = || {
        let (_, rest) = inside.split_once("name=").or_else(|| inside.split_once("key="))?;
        secret_keys::named(rest.trim_start_matches(['"', '\'', '\\']).split(['"', '\'', '\\', ' ']).next()?)
    };
    let content = |from: usize| {
        const ELEMENT: usize = 1 << 14;
        let rest = head(text, from, ELEMENT);
        let (from, stop) = match rest.trim_start().strip_prefix(CDATA) {
            Some(inner) => (from + rest.len() - inner.len(), "]]>"),
            None => (from, "</"),
        };
        let end = text.next(usize::from(stop == "</"), stop, from).filter(|end| end + stop.len() <= from + ELEMENT)?;
        let value = text.get(from..end)?;
        (!value.trim().is_empty() && (stop != "</" || !value.contains('<'))).then_some((from, end))
    };
    if name == "key" && attribute().is_none() {
        // `<key>Password</key> <string>…</string>`
        let (from, end) = content(at + 1)?;
        secret_keys::named(text.get(from..end).filter(|n| n.len() <= NAME)?)?;
        let near = head(text, end, TAG).strip_prefix("</key>")?;
        let inner = near.trim_start().strip_prefix("<string>")?;
        return content(end + "</key>".len() + near.len() - inner.len());
    }
    let found = secret_keys::named(name).or_else(attribute)?;
    let (from, end) = content(at + 1)?;
    let value = text.get(from..end)?.trim();
    let sentence = (is_sentence(value) || is_label(value)) && !matches!(found.name, "mnemonic" | "seedphrase");
    let markup = matches!(name, "p" | "a" | "label" | "td" | "th" | "span" | "div" | "button" | "input");
    (!sentence
        && !markup
        && (found.sure || found.kind != Kind::Secret || telling(value) || value.bytes().any(|b| b.is_ascii_digit()))
        && !(found.is_token() && value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit())))
    .then_some((from, end))
}

/// The value in a table row: `| password | … |`.
pub(super) fn cell(text: &str, at: usize, done: usize) -> Option<(usize, usize)> {
    let line = super::tail(text, at, 100).rsplit('\n').next()?;
    let name = line.trim_end().rsplit('|').next()?.trim().trim_matches(['*', '`', ' ']);
    let begun = line.trim_start().starts_with('|');
    if !begun || name.len() < 2 || name.len() > NAME || at < done {
        return None;
    }
    let found = secret_keys::named(name).filter(|found| found.kind == Kind::Secret)?;
    let rest = head(text, at + 1, 512);
    let end = rest.find(['|', '\n'])?;
    let value = rest.get(..end)?.trim().trim_matches('`');
    let start = at + 1 + rest.get(..end)?.find(value)?;
    let plain = value.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'));
    let tells = !value.is_empty()
        && !value.contains(' ')
        && !plain
        && (found.sure || telling(value))
        && !is_nothing(value)
        && !is_code(text, start, start + value.len());
    tells.then_some((start, start + value.len()))
}

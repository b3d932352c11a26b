//! Table columns in a text: `name,password` with rows of values below, in CSV, Markdown and the output of database
//! shells.

use super::called::{self, Called};
use super::value::{is_code, is_nothing, looks_random};
use super::{Hits, head, ordinary, tail};
use crate::redact::policy::Detector;
use crate::redact::secret_keys::{self, Found, Kind, Words};

/// A longer line is not a table header.
const HEAD: usize = 512;

/// Finds secrets in the table whose header contains the word at `from..to`. Returns where the table ends, so that it is
/// not read again.
pub(super) fn find(text: &str, from: usize, to: usize, hits: &mut Hits<'_>) -> Option<usize> {
    // After the name, another column or a new line begins.
    let bytes = text.as_bytes().get(to..)?;
    let name = bytes.iter().take(24).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let next = bytes.iter().skip(name).take(24).find(|b| !matches!(b, b' ' | b'"' | b'*' | b'`' | b'\r'))?;
    if !matches!(next, b',' | b';' | b'\t' | b'|' | b'\n') {
        return None;
    }
    let lead = tail(text, from, HEAD).rsplit('\n').next()?;
    let start = from - lead.len();
    let line = head(text, start, HEAD);
    let line = line.get(..line.find('\n')?)?;
    let sign = [b'\t', b'|', b',', b';'].into_iter().find(|sign| line.as_bytes().contains(sign))?;
    let names: Vec<&str> = cells(line, sign).map(|(_, name)| name).collect();
    let plain = |name: &&str| {
        let name = name.trim_matches(['*', '`', '_']);
        (1..=40).contains(&name.len())
            && !name.starts_with('.')
            && name.split(' ').count() <= 3
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | '#'))
    };
    if !(2..=64).contains(&names.len()) || !names.iter().all(plain) {
        return None;
    }
    let columns: Vec<Option<Found>> = names
        .iter()
        .map(|name| secret_keys::named(name.trim_matches(['*', '`'])).filter(|f| f.kind == Kind::Secret))
        .collect();
    if columns.iter().all(Option::is_none) {
        return None;
    }
    let mut at = start + line.len() + 1;
    for row in text.get(at..)?.split('\n') {
        let rule = !row.trim().is_empty()
            && row.bytes().all(|b| matches!(b, b'-' | b'+' | b'|' | b':' | b' ' | b'\r' | b'=' | b','));
        if !rule {
            let values: Vec<(usize, &str)> = cells(row, sign).take(65).collect();
            if values.len() != names.len() {
                break;
            }
            for (found, (place, value)) in columns.iter().zip(values) {
                let Some(found) = found else { continue };
                let start = at + place;
                if tells(text, found, start, value) {
                    hits.add(Detector::Credential, start, start + value.len());
                }
            }
        }
        at += row.len() + 1;
    }
    Some(at.min(text.len()))
}

/// Personal numbers in the columns of a table whose header is the first line of the text: `ward,steuer_id`.
pub(super) fn numbers(text: &str, hits: &mut Hits<'_>) {
    let first = head(text, 0, HEAD);
    let Some(end) = first.find('\n') else { return };
    let line = first.get(..end).unwrap_or_default();
    let Some(sign) = [b'\t', b'|', b',', b';'].into_iter().find(|sign| line.as_bytes().contains(sign)) else { return };
    let named = |name: &str| {
        let name = name.trim_matches(['*', '`']);
        let plain = (2..=48).contains(&name.len()) && !name.contains(['=', '(', '{', ':', '<']);
        if plain && called::may_end(name) { called::of_key(&Words::of(name)) } else { None }
    };
    let columns: Vec<Option<Called>> = cells(line, sign).take(65).map(|(_, name)| named(name)).collect();
    if !(2..=64).contains(&columns.len()) || columns.iter().all(Option::is_none) {
        return;
    }
    let mut at = end + 1;
    for row in text.get(at..).unwrap_or_default().split('\n') {
        let values: Vec<(usize, &str)> = cells(row, sign).take(65).collect();
        if values.len() == columns.len() {
            for (called, (place, value)) in columns.iter().zip(values) {
                let Some(called) = called.filter(|_| called::may_be_whole(value)) else { continue };
                hits.add(called.detector(), at + place, at + place + value.len());
            }
        }
        at += row.len() + 1;
    }
}

fn tells(text: &str, found: &Found, start: usize, value: &str) -> bool {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    !value.is_empty()
        && value.len() >= 3
        && !value.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-' | b' '))
        && !is_nothing(value)
        && !ordinary::is_ordinary(value)
        && !is_code(text, start, start + value.len())
        && (found.sure && !(digits && value.len() < 4) && value.split(' ').count() <= 2 || looks_random(value))
}

/// The cells of a line without spaces and quotes, with their positions.
fn cells(line: &str, sign: u8) -> impl Iterator<Item = (usize, &str)> {
    let line = line.trim_end_matches('\r');
    let framed = sign == b'|' && line.trim_start().starts_with('|');
    let from = if framed { line.find('|').map_or(0, |at| at + 1) } else { 0 };
    let end = if framed { line.rfind('|').filter(|end| *end > from).unwrap_or(line.len()) } else { line.len() };
    let mut at = Some(from);
    std::iter::from_fn(move || {
        let start = at?;
        let rest = line.get(start..end)?;
        let quoted = rest.strip_prefix('"').and_then(|inner| inner.find('"')).map(|close| close + 2);
        let skip = quoted.unwrap_or(0);
        let len = rest.get(skip..)?.bytes().position(|b| b == sign).map(|n| n + skip);
        at = len.map(|len| start + len + 1);
        let cell = rest.get(..len.unwrap_or(rest.len()))?;
        let inner = cell.trim_start().trim_start_matches(['"', '`', '\'']);
        let place = start + cell.len() - inner.len();
        Some((place, inner.trim_end().trim_end_matches(['"', '`', '\''])))
    })
}

//! E-mail and network addresses.

use super::{Hits, before, is_word};
use crate::redact::policy::Detector;
use std::net::Ipv6Addr;

/// The maximum length of the name before an `@`; mail servers accept 64.
const LOCAL: usize = 256;

/// Finds every `@` with a name before it and a domain after it. The length of names is limited and domains end at the
/// next `@`, so each byte is read a bounded number of times. `urls` lists, in order, the positions where the password
/// in a URL ends.
pub(super) fn emails(text: &str, urls: &[usize], hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'@') {
        if at < done || urls.binary_search(&at).is_ok() {
            continue;
        }
        let mut start = at;
        while start > done && at - start < LOCAL && before(bytes, start).is_some_and(is_local) {
            start -= 1;
        }
        let quoted = (start == at).then(|| quoted_before(bytes, at, done)).flatten();
        // Quotes and dots around an address are not part of it.
        while start < at && bytes.get(start).is_some_and(|&b| !is_word(b) && b != b'_' && b != b'+') {
            start += 1;
        }
        start = quoted.unwrap_or(start);
        let from = at + 1;
        if let Some(end) = literal(text, from).filter(|_| start < at) {
            hits.add(Detector::Email, start, end);
            done = end;
            continue;
        }
        let mut end = from;
        while bytes.get(end).is_some_and(|&b| is_word(b) || matches!(b, b'.' | b'-')) {
            end += 1;
        }
        while end > from && before(bytes, end).is_some_and(|b| matches!(b, b'.' | b'-')) {
            end -= 1;
        }
        // `git@github.com:org/repo.git` and `bob@host.example:/srv` are file locations.
        let variable = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let place = text.get(start..at) == Some("git")
            // `postgres://$DB_USER:$DB_PASSWORD@host`
            || before(bytes, start) == Some(b'$') && bytes.get(start..at).is_some_and(|b| b.iter().all(|b| variable(*b)))
            || bytes.get(end) == Some(&b':') && matches!(bytes.get(end + 1), Some(b'/' | b'~'));
        if start < at && !place && text.get(from..end).is_some_and(is_domain) {
            hits.add(Detector::Email, start, end);
            done = end;
        }
    }
}

/// The start of a quoted name: `"john smith"@example.org`.
fn quoted_before(bytes: &[u8], at: usize, done: usize) -> Option<usize> {
    let close = at.checked_sub(1).filter(|&i| i > done && bytes.get(i) == Some(&b'"'))?;
    let first = close.saturating_sub(64).max(done);
    let open = bytes.get(first..close)?.iter().rposition(|&b| matches!(b, b'"' | b'\n'))?;
    (bytes.get(first + open) == Some(&b'"') && first + open + 1 < close).then_some(first + open)
}

/// The end of an address in brackets that replaces a domain: `root@[192.0.2.1]`.
fn literal(text: &str, from: usize) -> Option<usize> {
    let inner = text.get(from..)?.strip_prefix('[')?;
    let close = inner.bytes().take(56).position(|b| b == b']')?;
    let address = inner.get(..close)?;
    let address = address.strip_prefix("IPv6:").unwrap_or(address);
    address.parse::<std::net::IpAddr>().is_ok().then_some(from + close + 2)
}

fn is_local(b: u8) -> bool {
    is_word(b) || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | b'!' | b'#' | b'$' | b'&' | b'*' | b'^' | b'~')
}

fn is_domain(domain: &str) -> bool {
    let mut labels = domain.rsplit('.');
    let Some(top) = labels.next() else { return false };
    let ends = top.starts_with("xn--") || top.chars().count() > 1 && top.chars().all(|c| c.is_alphabetic());
    // `icon@2x.png` is an image for high-resolution screens.
    let picture = matches!(domain.as_bytes(), [b'0'..=b'9', b'x', b'.', ..]);
    let numeric = domain.split('.').count() == 4 && domain.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (ends || numeric) && !picture && labels.next().is_some() && !domain.split('.').any(str::is_empty)
}

/// Finds runs of hexadecimal digits and colons that are IPv6 addresses.
pub(super) fn ipv6(text: &str, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let mut i = 0;
    while let Some(colon) = text.get(i..).and_then(|rest| rest.find(':')).map(|n| i + n) {
        let mut start = colon;
        while start > i && before(bytes, start).is_some_and(part) {
            start -= 1;
        }
        let mut end = colon;
        while bytes.get(end).copied().is_some_and(part) {
            end += 1;
        }
        i = end;
        // A full stop may follow an address.
        while end > start && matches!(before(bytes, end), Some(b'.')) {
            end -= 1;
        }
        if matches!(bytes.get(start..end), Some([.., a, b':']) if *a != b':') {
            end -= 1;
        }
        let alone = before(bytes, start).is_none_or(|b| !is_word(b) && b != b'_')
            && bytes.get(end).is_none_or(|&b| !is_word(b) && b != b'_');
        let address = text.get(start..end).unwrap_or_default();
        if alone && (3..=45).contains(&address.len()) && is_ipv6(address) {
            hits.add(Detector::Ip, start, end);
        }
    }
}

/// Whether this is an address, unlike the double colons in code: `add::bad`, `::`.
fn is_ipv6(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().filter(|&b| b == b':').count() > 1
        && text.parse::<Ipv6Addr>().is_ok()
}

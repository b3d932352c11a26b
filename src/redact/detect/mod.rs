//! Detectors by value: what a text shows by itself, whatever its key.
//!
//! One pass over the bytes tells which kinds of characters occur. Only detectors that could find something then scan
//! the text, and each reads every byte a bounded number of times, so the work is linear in the text's length. `secret`
//! finds tokens by their vendors' prefixes (one automaton), `credential` finds secrets next to their names, `number`
//! everything made of digits, `net` addresses. If a text hides some of its content (escapes, digits of other scripts),
//! its normalized form is scanned too (`normalize`). Detectors report byte ranges; the sanitizer decides what happens
//! to them.

mod called;
mod command;
mod context;
mod credential;
mod ends;
mod iban;
mod marked;
mod markup;
mod mnemonic;
mod national;
mod net;
mod normalize;
mod number;
pub(crate) mod ordinary;
mod page;
mod phone;
mod said;
mod secret;
mod table;
mod told;
pub(crate) mod value;
mod vendors;
mod whole;

use super::policy::Detector;
use normalize::View;

/// A byte range of a text and the kind of hit: an index into [`Detector::ALL`] or beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: usize,
}

/// A set of detectors, one bit each, in the order of [`Detector::ALL`].
pub(crate) type Mask = u16;

const _: () = assert!(Detector::ALL.len() <= Mask::BITS as usize, "more detectors than bits: widen `Mask` to u32");

/// The mask of one detector.
pub(crate) const fn bit(detector: Detector) -> Mask {
    1 << detector as Mask
}

/// Collects hits; only those of wanted detectors are kept.
pub(crate) struct Hits<'a> {
    wanted: Mask,
    out: &'a mut Vec<Hit>,
}

impl Hits<'_> {
    fn add(&mut self, detector: Detector, start: usize, end: usize) {
        if self.wants(detector) && start < end {
            self.out.push(Hit { start, end, kind: detector as usize });
        }
    }

    fn wants(&self, detector: Detector) -> bool {
        self.wanted & bit(detector) != 0
    }
}

// `ALL` has the order of the enum, so a detector is its own index.
const _: () = {
    let mut i = 0;
    while i < Detector::ALL.len() {
        assert!(Detector::ALL[i] as usize == i);
        i += 1;
    }
};

/// The kinds of characters in a text.
#[derive(Default)]
struct Seen {
    at: bool,
    colon: bool,
    equals: bool,
    dash: bool,
    digits: usize,
    /// The end of an XML element, of a table cell or of a string may occur.
    tag: bool,
    /// A percent sign, backslash, ampersand, bracket or non-ASCII character: the text may contain more than it shows.
    veiled: bool,
}

impl Seen {
    /// Reads each byte once and looks it up in a table.
    fn of(text: &[u8]) -> Seen {
        let (mut seen, mut digits) = (0, 0);
        for &b in text {
            let kind = KINDS[usize::from(b)];
            seen |= kind;
            digits += usize::from(kind >> 7);
        }
        let has = |kind: u8| seen & kind != 0;
        Seen {
            at: has(AT),
            colon: has(COLON),
            equals: has(EQUALS),
            dash: has(DASH),
            tag: has(TAG),
            veiled: has(VEILED),
            digits,
        }
    }
}

const AT: u8 = 1;
const COLON: u8 = 1 << 1;
const EQUALS: u8 = 1 << 2;
const DASH: u8 = 1 << 3;
const TAG: u8 = 1 << 4;
const VEILED: u8 = 1 << 5;
const DIGIT: u8 = 1 << 7;

/// The kinds of each byte.
const KINDS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'@' => AT,
            b':' => COLON,
            b'=' => EQUALS,
            b'-' => DASH,
            b'>' | b'|' | b'\'' | b'"' => TAG,
            0x80.. | 0x1b | b'%' | b'&' | b'(' | b'[' | b'\\' | b'{' => VEILED,
            b'0'..=b'9' => DIGIT,
            _ => 0,
        };
        b += 1;
    }
    table
};

/// Adds what the detectors in `wanted` find in `text`. `key` is the key of the
/// text, which can distinguish a phone number from other numbers.
pub(crate) fn scan(text: &str, key: Option<&str>, wanted: Mask, out: &mut Vec<Hit>) {
    // The shortest hit of any detector is an address such as `a@b.co` or `::1`.
    if text.len() < 3 || wanted == 0 {
        return;
    }
    let seen = Seen::of(text.as_bytes());
    scan_plain(text, &seen, key, wanted, out);
    if !seen.veiled && !text.contains(" dot ") {
        return;
    }
    let Some(view) = View::of(text) else { return };
    let found = out.len();
    scan_plain(&view.text, &Seen::of(view.text.as_bytes()), key, wanted, out);
    for hit in out.iter_mut().skip(found) {
        (hit.start, hit.end) = (view.place(hit.start, text.len()), view.place(hit.end, text.len()));
    }
}

/// The byte ranges of secrets in a command line.
pub(crate) fn secrets_in_command(line: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    credential::find(line, true, &mut Hits { wanted: bit(Detector::Credential), out: &mut out });
    whole::extend(line, &mut out);
    let mut found: Vec<_> = out.into_iter().map(|hit| (hit.start, hit.end)).collect();
    found.extend(told::in_line(line));
    found
}

/// The normalized form of a text with the position that each byte comes from; `None` if it is the same.
pub(super) fn meant(text: &str) -> Option<View> {
    let veiled = |b: u8| b >= 0x80 || matches!(b, 0x1b | b'%' | b'\\' | b'&');
    if text.bytes().any(veiled) { View::of(text) } else { None }
}

/// Whether a label names a number that a state or a bank assigns, or a card number.
pub(crate) fn is_called(label: &str) -> bool {
    let label = label.get(..label.len().min(64)).unwrap_or_default();
    let hint = context::Context::of_key(Some(label));
    hint.called.is_some() || hint.card || hint.ssn || called::is_pan(label)
}

/// The normalized form of a text; `None` if it is the same.
pub(crate) fn plain(text: &str) -> Option<String> {
    View::of(text).map(|view| view.text)
}

fn scan_plain(text: &str, seen: &Seen, key: Option<&str>, wanted: Mask, out: &mut Vec<Hit>) {
    let found = out.len();
    find_all(text, seen, key, wanted, out);
    whole::extend(text, out.get_mut(found..).unwrap_or_default());
}

#[cfg(test)]
thread_local! {
    /// How many bytes this thread has searched.
    pub(in crate::redact) static SEARCHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn find_all(text: &str, seen: &Seen, key: Option<&str>, wanted: Mask, out: &mut Vec<Hit>) {
    #[cfg(test)]
    SEARCHED.set(SEARCHED.get() + text.len());
    let mut hits = Hits { wanted, out };
    if (seen.colon || seen.equals || seen.dash || seen.tag) && hits.wants(Detector::Credential) {
        credential::find(text, seen.colon || seen.equals || seen.tag, &mut hits);
    }
    if text.len() >= 8 {
        secret::find(text, &mut hits);
    }
    if text.len() >= 22 {
        marked::encoded(text, &mut hits);
    }
    if seen.digits >= 4 {
        marked::numbers(text, &mut hits);
        table::numbers(text, &mut hits);
    }
    if text.len() >= 47 && hits.wants(Detector::Credential) {
        mnemonic::find(text, &mut hits);
    }
    if wanted & !bit(Detector::Credential) == 0 {
        return;
    }
    if text.len() >= 51 {
        told::wallet_keys(text, &mut hits);
    }
    if text.len() >= 58 {
        vendors::dotted(text, &mut hits);
    }
    if seen.at {
        // In `postgres://user:password@host`, password and host do not form an e-mail address.
        let urls = hits.out.iter().filter(|h| h.kind == Detector::ConnectionString as usize).map(|h| h.end);
        let urls: Vec<usize> = urls.collect();
        net::emails(text, &urls, &mut hits);
    }
    if seen.colon {
        net::ipv6(text, &mut hits);
    }
    if seen.digits >= 4 {
        number::find(text, seen.digits, key, &mut hits);
    }
}

/// Whether a byte belongs to a word.
fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b >= 0x80
}

/// The byte before `at`.
fn before(bytes: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).and_then(|i| bytes.get(i)).copied()
}

/// Up to `len` bytes of `text` before `at`, starting at a character boundary.
fn tail(text: &str, at: usize, len: usize) -> &str {
    let mut start = at.saturating_sub(len);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..at).unwrap_or_default()
}

/// Up to `len` bytes of `text` from `at`, ending at a character boundary.
fn head(text: &str, at: usize, len: usize) -> &str {
    let mut end = at.saturating_add(len).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(at..end).unwrap_or_default()
}

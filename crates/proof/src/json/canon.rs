//! Writing: RFC 8785 (JCS), which gives each value exactly one text.

use super::{Json, Number, Object, Repr};
use std::fmt;

/// The RFC 8785 text of a JSON value. Cheap to keep, to compare, and to put into a line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Canonical<S: AsRef<str> = String>(S);

impl<S: AsRef<str>> Canonical<S> {
    /// Takes a stored text for what it was when it was stored; [`Canonical::is_whole`] and [`Canonical::to_json`] expect that it
    /// may be something else.
    #[doc(hidden)]
    pub fn stored(text: S) -> Canonical<S> {
        Canonical(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// The same text, owned.
    pub fn to_owned(&self) -> Canonical {
        Canonical(self.as_str().to_owned())
    }

    /// Whether the text is exactly one complete value, given that the line it is a member's value of is canonical. A text
    /// read from a forged file may end its value early and continue with other members; the line and its hash would be the
    /// same.
    pub fn is_whole(&self) -> bool {
        let bytes = self.as_str().as_bytes();
        let (mut depth, mut at) = (0u64, 0);
        while let Some(b) = bytes.get(at) {
            at += 1;
            match b {
                b'"' => match after_string(bytes, at) {
                    Some(after) => at = after,
                    None => return false,
                },
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b'}' | b']' => return false,
                b',' | b':' if depth == 0 => return false,
                _ => continue,
            }
            // The value must end at the last byte.
            if depth == 0 && at < bytes.len() {
                return false;
            }
        }
        !bytes.is_empty() && depth == 0
    }

    /// Parses the text. A canonical text loses nothing when it is parsed.
    pub fn to_json(&self) -> Json {
        // Text from a damaged file may be anything; if it does not parse, it is returned as a string.
        Json::parse_within(self.as_str().as_bytes(), &super::Limits::UNBOUNDED)
            .map_or_else(|_| Json::String(self.as_str().to_owned()), |p| p.value)
    }
}

/// The index after the closing quote of a string whose content begins at `at`.
fn after_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Eight bytes at a time, up to the first quote or backslash.
        if let Some(eight) = bytes.get(at..)?.first_chunk() {
            let eight = u64::from_le_bytes(*eight);
            let stops = zeros(eight ^ (ONES * u64::from(b'"'))) | zeros(eight ^ (ONES * u64::from(b'\\')));
            at += (stops.trailing_zeros() / 8) as usize;
            if stops == 0 {
                continue;
            }
        }
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

impl<S: AsRef<str>> fmt::Debug for Canonical<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<S: AsRef<str>> fmt::Display for Canonical<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(super) fn canonical(value: &Json) -> Canonical {
    let mut out = Vec::with_capacity(64);
    write(value, &mut out);
    // Every byte written comes from a `str` or is ASCII.
    Canonical(String::from_utf8(out).unwrap_or_default())
}

fn write(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(n) => write_number(*n, out),
        Json::String(s) => write_str(s, out),
        Json::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Json::Object(object) => write_object(object, out),
    }
}

fn write_object(object: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in object.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_str(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

pub(super) fn write_number(n: Number, out: &mut Vec<u8>) {
    match n.0 {
        Repr::Int(i) => {
            if i < 0 {
                out.push(b'-');
            }
            write_integer(i.unsigned_abs(), out);
        }
        Repr::Float(x) => write_float(x, out),
    }
}

/// Writes an integer in decimal; the standard library's formatter takes several times as long.
pub fn write_integer(n: u64, out: &mut Vec<u8>) {
    if n < 10 {
        return out.push(b'0' + n as u8);
    }
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut rest = n;
    while rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&TWO_DIGITS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// The numbers below 100 as two digits.
pub const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The top bit of every zero byte, and possibly of bytes above the lowest zero byte.
fn zeros(eight: u64) -> u64 {
    eight.wrapping_sub(ONES) & !eight & TOPS
}

/// Whether any of eight bytes has to be escaped.
fn escapes(eight: u64) -> bool {
    let control = eight.wrapping_sub(ONES * 0x20) & !eight & TOPS;
    control | zeros(eight ^ (ONES * u64::from(b'"'))) | zeros(eight ^ (ONES * u64::from(b'\\'))) != 0
}

/// RFC 8785 section 3.2.2.3: numbers as ECMAScript prints them. `x` is finite.
pub fn write_float(x: f64, out: &mut Vec<u8>) {
    // Durations, prices and the like are decimals of at most six places. A decimal of fifteen digits or fewer that rounds
    // to `x` is the shortest that does, and a quotient of integers below 2^53 is rounded correctly, so one division decides.
    const PLACES: f64 = 1e6;
    let parts = (x * PLACES + 0.5) as u64;
    if x >= 0.000_001 && parts < 1_000_000_000_000_000 && parts as f64 / PLACES == x {
        write_integer(parts / 1_000_000, out);
        let mut places = (parts % 1_000_000) as u32;
        if places > 0 {
            let mut digits = *b".000000";
            for at in [5, 3, 1] {
                digits[at..at + 2].copy_from_slice(&TWO_DIGITS[(places % 100) as usize]);
                places /= 100;
            }
            let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
            out.extend_from_slice(&digits[..digits.len() - zeros]);
        }
        return;
    }
    out.extend_from_slice(ryu_js::Buffer::new().format_finite(x).as_bytes());
}

/// RFC 8785 section 3.2.2.2: only what must be escaped is escaped, and each character in only one way.
pub fn write_str(s: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    // Most texts need no escapes; eight bytes are tested at a time. The last eight may overlap the chunk before them.
    let bytes = s.as_bytes();
    let odd = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    let any = match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().chain([last]).any(|eight| escapes(u64::from_le_bytes(*eight))),
        None => bytes.iter().any(odd),
    };
    if !any {
        out.extend_from_slice(s.as_bytes());
        out.push(b'"');
        return;
    }
    let mut plain = 0;
    for (i, &b) in s.as_bytes().iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&s.as_bytes()[plain..i]);
        plain = i + 1;
        let short = match b {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let mut code = *b"\\u00__";
                crate::hash::write_hex(&[b], &mut code[4..]);
                out.extend_from_slice(&code);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&s.as_bytes()[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(x: f64) -> String {
        let mut out = Vec::new();
        write_float(x, &mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        /// Short decimals are written without Ryu, with the same result.
        #[test]
        fn floats_are_written_as_ecmascript_does(bits: u64, digits in 0u64..1 << 53, places in 0i32..20) {
            let decimal = format!("{digits}e-{places}").parse::<f64>().unwrap();
            for x in [f64::from_bits(bits), decimal, -decimal, decimal.next_up(), decimal.next_down()] {
                if x.is_finite() {
                    let mut ryu = ryu_js::Buffer::new();
                    prop_assert_eq!(float(x), ryu.format_finite(x));
                }
            }
        }
    }

    #[test]
    fn short_decimals_at_the_edges() {
        for x in [0.0, -0.0, 1e-7, 1e-6, 1.5e-6, 0.1, 5.05, 1e9 - 1e-6, 1e9, 999_999_999.999_999, 1e15, 1e21, f64::MAX]
        {
            assert_eq!(float(x), ryu_js::Buffer::new().format_finite(x));
        }
    }
}

//! Normalizes a text to what its reader understands: escapes of URLs, JSON and HTML are decoded, digits and dashes of
//! other scripts become ASCII, invisible characters are removed, and `jane [at] example [dot] org` is joined.
//!
//! Detectors scan both the original and the normalized text; hits in the latter are mapped back to positions in the
//! original. Each byte is read a bounded number of times.

use crate::spelling::{is_taken_in, is_unseen, plain};
use std::sync::LazyLock;

/// The normalized text, and for each of its bytes the position in the original that it comes from.
pub(in crate::redact) struct View {
    pub(in crate::redact) text: String,
    at: Vec<u32>,
}

impl View {
    /// `None` if normalizing changes nothing.
    pub(super) fn of(text: &str) -> Option<View> {
        // Positions are 32 bits wide; no entry is larger.
        u32::try_from(text.len()).ok()?;
        let bytes = text.as_bytes();
        let mut view: Option<View> = None;
        let mut i = 0;
        while let Some(&b) = bytes.get(i) {
            let undone = match b {
                b'%' => percent(bytes, i),
                0x1b | b'^' => colour(text, i),
                b'\\' => colour(text, i).or_else(|| backslash(text, i)),
                b'&' => entity(text, i),
                b'[' | b'(' | b'{' | b' ' => spelled(text, i),
                0x80.. => other(text, i),
                _ => None,
            };
            let (meant, next) = match undone {
                None => {
                    let width = text.get(i..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8);
                    if let Some(view) = &mut view {
                        view.push(text.get(i..i + width).unwrap_or_default(), i);
                    }
                    i += width;
                    continue;
                }
                Some(found) => found,
            };
            let view = view.get_or_insert_with(|| View::copied(text, i));
            match meant {
                Meant::Nothing => {}
                Meant::Char(c) => view.push(c.encode_utf8(&mut [0; 4]), i),
                // The spaces around it belong to it.
                Meant::Mark(c) => {
                    while view.text.ends_with(' ') {
                        view.text.pop();
                        view.at.pop();
                    }
                    view.push(c, i);
                }
            }
            i = next;
        }
        view
    }

    fn copied(text: &str, to: usize) -> View {
        let mut view = View { text: String::with_capacity(text.len()), at: Vec::with_capacity(text.len()) };
        view.text.push_str(text.get(..to).unwrap_or_default());
        view.at.extend((0..to).map(|n| n as u32));
        view
    }

    fn push(&mut self, text: &str, from: usize) {
        self.text.push_str(text);
        self.at.extend((0..text.len()).map(|_| from as u32));
    }

    /// The position in the original, which has `len` bytes, that the byte at `i` comes from.
    pub(in crate::redact) fn place(&self, i: usize, len: usize) -> usize {
        self.at.get(i).map_or(len, |&at| at as usize)
    }
}

/// What a piece of the text stands for.
enum Meant {
    Nothing,
    Char(char),
    /// An `@` or a dot that was spelled out.
    Mark(&'static str),
}

fn hex(bytes: &[u8], at: usize, len: usize) -> Option<u32> {
    let digits = bytes.get(at..at + len)?;
    digits.iter().try_fold(0, |n, &b| Some(n << 4 | char::from(b).to_digit(16)?))
}

/// `%40`, and `%C3%BC` for non-ASCII characters.
fn percent(bytes: &[u8], at: usize) -> Option<(Meant, usize)> {
    let first = hex(bytes, at + 1, 2)?;
    let width = match first {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let mut buffer = [0; 4];
    for (n, slot) in buffer.iter_mut().enumerate().take(width) {
        let from = at + 3 * n;
        if bytes.get(from) != Some(&b'%') {
            return None;
        }
        *slot = hex(bytes, from + 1, 2)? as u8;
    }
    let c = std::str::from_utf8(buffer.get(..width)?).ok()?.chars().next()?;
    Some((Meant::Char(c), at + 3 * width))
}

/// Escape sequences of terminals: colours such as `ESC[31m`, links, and both in the spelling of source code: `\x1b[0m`,
/// `\u001b[0m`, `\033[0m`, `^[[0m`.
fn colour(text: &str, at: usize) -> Option<(Meant, usize)> {
    const LONGEST: usize = 32;
    const LINK: usize = 512;
    const ESCAPES: [&str; 10] =
        ["\u{1b}", "\\u001b", "\\u001B", "\\x1b", "\\x1B", "\\033", "\\e", "\\u{1b}", "\\\\u001b", "^["];
    let rest = text.get(at..)?;
    let escape = ESCAPES.iter().find(|e| rest.starts_with(**e))?.len();
    let body = super::head(text, at + escape, LINK).as_bytes();
    let len = match body.first()? {
        b'[' => {
            let parameters = body.iter().skip(1).take(LONGEST).take_while(|b| matches!(b, 0x20..=0x3f)).count();
            body.get(1 + parameters).filter(|b| matches!(b, 0x40..=0x7e)).map(|_| parameters + 2)?
        }
        // A link ends with BEL, or with ESC and a backslash.
        b']' => match body.iter().position(|b| matches!(b, 0x07 | 0x1b))? {
            bell if body.get(bell) == Some(&0x07) => bell + 1,
            end => end + 2,
        },
        b'(' if escape == 1 => 2,
        _ => return None,
    };
    let end = at + escape + len;
    text.is_char_boundary(end).then_some((Meant::Nothing, end.min(text.len())))
}

/// `\n`, `\"`, `\u0040`, with one backslash for each level of nested strings.
fn backslash(text: &str, at: usize) -> Option<(Meant, usize)> {
    let bytes = text.as_bytes();
    let run = bytes.get(at..)?.iter().take(64).take_while(|&&b| b == b'\\').count();
    let end = at + run;
    let (c, next) = match bytes.get(end)? {
        b'n' | b'r' => ('\n', end + 1),
        b't' => ('\t', end + 1),
        b'u' => (char::from_u32(hex(bytes, end + 1, 4)?)?, end + 5),
        b'x' => (char::from_u32(hex(bytes, end + 1, 2)?)?, end + 3),
        b @ (b'"' | b'\'' | b'/') => (char::from(*b), end + 1),
        _ => return None,
    };
    Some((Meant::Char(c), next))
}

/// `&#64;`, `&#x40;`, and a few named entities.
fn entity(text: &str, at: usize) -> Option<(Meant, usize)> {
    let rest = super::head(text, at + 1, 10);
    let (name, _) = rest.split_once(';')?;
    let c = match name {
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        "lt" => '<',
        "gt" => '>',
        "nbsp" => ' ',
        "commat" => '@',
        "period" => '.',
        "colon" => ':',
        "equals" => '=',
        "hyphen" | "dash" => '-',
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((Meant::Char(c), at + 1 + name.len() + 1))
}

/// `[at]`, `(dot)`, `[.]`, and ` at example dot org`.
fn spelled(text: &str, at: usize) -> Option<(Meant, usize)> {
    let bytes = text.as_bytes();
    let past_spaces =
        |from: usize| from + bytes.get(from..).map_or(0, |b| b.iter().take_while(|&&b| b == b' ').take(2).count());
    if bytes.get(at) != Some(&b' ') {
        let inner = super::head(text, at + 1, 8);
        let (word, _) = inner.split_once([']', ')', '}'])?;
        let mark = mark(word.trim())?;
        return Some((Meant::Mark(mark), past_spaces(at + 1 + word.len() + 1)));
    }
    let word = bytes.get(at + 1..at + 5)?;
    let label = |from: usize| {
        bytes
            .get(from..)
            .map_or(0, |b| b.iter().take(63).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count())
    };
    let dot = |from: usize| bytes.get(from..from + 5).is_some_and(|w| w.eq_ignore_ascii_case(b" dot "));
    let before = at.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    if word.get(..3).is_some_and(|w| w.eq_ignore_ascii_case(b"at ")) {
        let domain = label(at + 4);
        return (before && domain > 0 && dot(at + 4 + domain) && label(at + 9 + domain) > 1)
            .then_some((Meant::Mark("@"), at + 4));
    }
    let in_domain = || {
        let mut words = super::tail(text, at, 80).rsplit(' ').skip(1).step_by(2);
        words.find(|w| !w.eq_ignore_ascii_case("dot")).is_some_and(|w| w.eq_ignore_ascii_case("at"))
    };
    (before && dot(at) && label(at + 5) > 1 && in_domain()).then_some((Meant::Mark("."), at + 5))
}

fn mark(word: &str) -> Option<&'static str> {
    match word {
        "@" => Some("@"),
        "." => Some("."),
        ":" => Some(":"),
        _ if word.eq_ignore_ascii_case("at") => Some("@"),
        _ if word.eq_ignore_ascii_case("dot") => Some("."),
        _ => None,
    }
}

/// Non-ASCII digits, spaces and dashes, full-width letters, invisible characters.
fn other(text: &str, at: usize) -> Option<(Meant, usize)> {
    let c = text.get(at..)?.chars().next()?;
    let plain = match c {
        _ if is_unseen(c) => return Some((Meant::Nothing, at + c.len_utf8())),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0)?,
        '\u{3002}' | '\u{ff61}' | '\u{2024}' => '.',
        '\u{1d400}'..='\u{1d6a3}' => plain(c),
        _ if taken_in(c) && among_latin(text, at) => plain(c),
        _ => digit(c)?,
    };
    Some((Meant::Char(plain), at + c.len_utf8()))
}

/// Which letters, from extended Latin to Hebrew, are mistaken for plain Latin letters. A table, because every letter of
/// a text in such a script is looked up.
static TAKEN: LazyLock<Vec<bool>> =
    LazyLock::new(|| (FIRST..LAST).map(|c| char::from_u32(c).is_some_and(is_taken_in)).collect());
const FIRST: u32 = 0x250;
const LAST: u32 = 0x590;

fn taken_in(c: char) -> bool {
    let place = u32::from(c).checked_sub(FIRST).and_then(|at| usize::try_from(at).ok());
    place.and_then(|at| TAKEN.get(at)).copied().unwrap_or(false)
}

/// Whether a letter of another script that looks like a Latin one is in a word with Latin letters.
fn among_latin(text: &str, at: usize) -> bool {
    const NEAR: usize = 48;
    let seen = |c: &char| c.is_alphanumeric() || *c == '_' || is_unseen(*c);
    let mut latin = false;
    let (before, after) = (super::tail(text, at, NEAR), super::head(text, at, NEAR));
    for c in before.chars().rev().take_while(seen).chain(after.chars().take_while(seen)) {
        latin |= c.is_ascii_alphabetic();
        let taken = || if (FIRST..LAST).contains(&u32::from(c)) { taken_in(c) } else { is_taken_in(c) };
        // A letter that resembles no Latin letter: the word is in that script, with a unit or a mark next to it.
        if !c.is_ascii() && c.is_alphabetic() && !taken() {
            return false;
        }
    }
    latin
}

/// The ASCII digit that corresponds to a digit of another script.
fn digit(c: char) -> Option<char> {
    // The code points of zero: Arabic, Persian, Devanagari, Bengali, Thai and others; circled and bold digits.
    const ZEROS: [u32; 14] =
        [0x660, 0x6f0, 0x966, 0x9e6, 0xa66, 0xae6, 0xbe6, 0xe50, 0xed0, 0x1040, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7f6];
    let code = u32::from(c);
    let value = ZEROS.iter().find_map(|zero| code.checked_sub(*zero).filter(|n| *n < 10))?;
    char::from_digit(value, 10)
}

#[cfg(test)]
mod tests {
    use super::View;

    fn meant(text: &str) -> String {
        View::of(text).map_or_else(|| text.to_owned(), |view| view.text)
    }

    #[test]
    fn what_is_written_otherwise_is_read_as_meant() {
        for (text, as_meant) in [
            ("a%40b.org", "a@b.org"),
            ("caf%C3%A9 %zz %4", "café %zz %4"),
            (r#"{\\\"a\\\":\\n1\u0040\x41\/"#, "{\"a\":\n1@A/"),
            (r"C:\dir \d+", r"C:\dir \d+"),
            ("&#64;&#x40;&amp;&nope;&", "@@&&nope;&"),
            ("jane [at] example (dot) org", "jane@example.org"),
            ("jane at example dot co dot uk, look at it", "jane@example.co.uk, look at it"),
            ("connect the dot to it", "connect the dot to it"),
            ("203[.]0[.]113[.]7", "203.0.113.7"),
            ("4\u{200b}1\u{ad}1 ４１ ٤١", "411 41 41"),
            ("a – b ü", "a - b ü"),
        ] {
            assert_eq!(meant(text), as_meant, "{text}");
        }
        assert!(View::of("plain (text) [here] at 10% & more").is_none());
    }

    #[test]
    fn every_byte_comes_from_somewhere() {
        let text = "é%C3%A9\\u0041\u{200b}x(at)y";
        let view = View::of(text).unwrap();
        assert_eq!(view.at.len(), view.text.len());
        for (i, _) in view.text.char_indices().chain([(view.text.len(), ' ')]) {
            assert!(text.is_char_boundary(view.place(i, text.len())));
        }
        assert_eq!(view.text, "ééAx@y");
    }
}

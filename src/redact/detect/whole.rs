//! Secrets that continue after a character that usually ends a value: `Xk9;vR2pLq7`, `Xk9(vR2pLq7)zz!8`.
//!
//! A secret that was found only by its name is hidden up to the next white space, quote or end of the line, unless the
//! text there is clearly syntax: the next member (`&name=`, `; name=`, `, name:`), a tag, or a bracket that closes one
//! opened before the value. Hiding a word too many is better than showing the end of a secret. A value with brackets is
//! treated as part of a program only if it reads like one.

use super::value::closes;
use super::{Hit, before, head, is_word, tail};
use crate::redact::policy::Detector;

/// How far ahead to look for the end of what may be part of a program.
const NEAR: usize = 128;

/// The maximum number of adjacent value-ending characters within a secret.
const SIGNS: usize = 3;

/// The maximum length of a member's name.
const NAME: usize = 48;

/// The maximum number of quotes within an unquoted secret.
const QUOTES: usize = 4;

/// Whether this byte usually ends a value that is a single word.
pub(super) fn ends_word(b: u8) -> bool {
    b.is_ascii_whitespace() || matches!(b, b',' | b';' | b'&' | b'"' | b'\'' | b'<' | b'>' | b')' | b'}' | b']' | b'`')
}

/// Extends hits that were found by their name to the end of the secret. Each range of the text is read once, because
/// hits come in order.
pub(super) fn extend(text: &str, hits: &mut [Hit]) {
    let mut known = (usize::MAX, 0);
    for hit in hits.iter_mut().filter(|hit| hit.kind == Detector::Credential as usize) {
        if (known.0..=known.1).contains(&hit.end) {
            hit.end = known.1;
            continue;
        }
        let end = end_of(text, hit.start, hit.end);
        if end > hit.end {
            known = (hit.end, end);
            hit.end = end;
        }
    }
}

/// The end of the secret at `start`, whose first word ends at `end`.
fn end_of(text: &str, start: usize, end: usize) -> usize {
    let bytes = text.as_bytes();
    let quoted = matches!(before(bytes, start), Some(b'"' | b'\'' | b'`'));
    if quoted || !bytes.get(end).is_some_and(|b| ends_word(*b) && !b.is_ascii_whitespace()) {
        return end;
    }
    let mut open = Vec::new();
    for &b in bytes.get(start..end).unwrap_or_default() {
        bracket(b, &mut open);
    }
    let (mut at, mut quotes) = (end, 0);
    while let Some(&b) = bytes.get(at) {
        let on = match b {
            _ if b.is_ascii_whitespace() || b.is_ascii_control() => false,
            b'"' | b'\'' | b'`' => {
                let word = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(|b| is_word(*b));
                quotes += 1;
                quotes <= QUOTES && word(at.checked_sub(1)) && word(Some(at + 1)) && !closes(text, at)
            }
            b'\\' => {
                bytes.get(at + 1).is_some_and(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'n' | b'r'))
            }
            b'<' => goes_on(text, at) && !is_tag(text, at),
            b')' | b']' | b'}' => open.last() == Some(&b) || goes_on(text, at),
            // In a URL `&` begins the next parameter, even one without a value.
            b'&' => goes_on(text, at) && (!in_query(text, start) || is_jumbled(head(text, at, NAME))),
            _ if ends_word(b) => goes_on(text, at),
            _ => true,
        };
        if !on {
            break;
        }
        bracket(b, &mut open);
        at += 1;
    }
    at
}

fn bracket(b: u8, open: &mut Vec<u8>) {
    match b {
        b'(' => open.push(b')'),
        b'[' => open.push(b']'),
        b'{' => open.push(b'}'),
        _ if open.last() == Some(&b) => drop(open.pop()),
        _ => {}
    }
}

/// Whether the secret continues after the character at `at`, rather than the next member beginning there.
fn goes_on(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let near = bytes.get(at..).unwrap_or_default();
    let signs = near.iter().take(SIGNS + 1).take_while(|b| ends_word(**b) && !b.is_ascii_whitespace());
    let signs = signs.take_while(|b| !matches!(b, b'"' | b'\'' | b'`')).count();
    let Some(&next) = near.get(signs).filter(|_| signs <= SIGNS) else { return false };
    let more = is_word(next)
        || matches!(next, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'~' | b'*' | b'_' | b'+' | b'-' | b'/');
    // `a && b`, `&quot;`
    let entity = || {
        const ENTITIES: [&str; 7] = ["&quot;", "&#34;", "&#39;", "&apos;", "&lt;/", "&amp;&amp;", "&&"];
        let rest = head(text, at, 16);
        ENTITIES.iter().any(|entity| rest.starts_with(entity))
    };
    more && !entity() && !(matches!(near.get(signs - 1), Some(b',' | b';' | b'&')) && is_member(text, at + signs))
}

/// Whether a value is that of a URL parameter: `?token=…`.
fn in_query(text: &str, start: usize) -> bool {
    let name = tail(text, start, NAME).strip_suffix('=').unwrap_or_default();
    let name = name.trim_end_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '%' | '[' | ']'));
    name.ends_with(['?', '&'])
}

/// Whether a member's name and sign begin here: `user=`, `User Id=`, `retries:`.
fn is_member(text: &str, at: usize) -> bool {
    let rest = head(text, at, NAME);
    let rest = rest.strip_prefix("amp;").unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-' | '%' | '[' | ']' | ' '));
    let Some((name, sign)) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end..)?))) else { return false };
    sign.starts_with(['=', ':']) && name.starts_with(|c: char| c.is_alphabetic() || c == '_') && !is_jumbled(name)
}

/// Whether a tag begins here, or closes an element: `</td>`, `<br>`.
fn is_tag(text: &str, at: usize) -> bool {
    let rest = head(text, at + 1, 24);
    let name = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
    rest.starts_with(['/', '!', '?'])
        || name.len() < rest.len() && name.starts_with(['>', '/', ' ']) && rest.contains('>')
}

/// Whether a word mixes letters and digits in a way that no name in a program does: `vR2pLq7`, not `sha256`.
pub(super) fn is_jumbled(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        let class = |b: &u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
        let (mut runs, mut last) = (0, None);
        for b in word.as_bytes() {
            let class = class(b);
            // A capital may begin a word that continues in lower case.
            if last != Some(class) && !(last == Some((false, true)) && class == (false, false)) {
                runs += 1;
            }
            last = Some(class);
        }
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        runs >= 4 && runs * 5 >= word.len() * 2 && digits > 0 && digits < word.len()
    })
}

/// Whether a value that looks like code, because of brackets or its first character, is a secret.
pub(super) fn is_no_code(text: &str, start: usize, end: usize) -> bool {
    let near = head(text, start, NEAR.max(end - start));
    let end = end_of(near, 0, end - start);
    let Some(whole) = near.get(..end) else { return false };
    if is_jumbled(whole) {
        return true;
    }
    let bytes = whole.as_bytes();
    // In code, a sign or white space follows a closing bracket.
    let closed = bytes.windows(2).any(|pair| matches!(pair, [b')' | b']', next] if next.is_ascii_alphanumeric()));
    let Some(opens) = bytes.iter().position(|b| matches!(b, b'(' | b'[')).filter(|at| *at > 0) else { return false };
    if closed {
        return true;
    }
    // A bracket that stays open to the end of the line: half an expression would continue on the next line.
    let close = if bytes.get(opens) == Some(&b'(') { ')' } else { ']' };
    let line = near.get(opens..).unwrap_or_default();
    let whole_line = line.contains('\n') || start + near.len() == text.len();
    whole_line
        && !line.split('\n').next().unwrap_or_default().contains(close)
        && bytes.get(opens + 1).is_some_and(u8::is_ascii_alphanumeric)
        && !matches!(near.as_bytes().get(end), Some(b',' | b'"' | b'\'' | b'`' | b'\\'))
}

/// The start of a secret whose first characters usually end a value, and the end of its first word.
pub(super) fn begun(text: &str, from: usize) -> Option<(usize, usize)> {
    let near = head(text, from, NEAR);
    let signs = near
        .bytes()
        .take(SIGNS)
        .take_while(|b| ends_word(*b) && !b.is_ascii_whitespace() || matches!(b, b'{' | b'['))
        .count();
    let rest = near.get(signs..).filter(|_| signs > 0)?;
    let end = rest.bytes().position(|b| ends_word(b) || b == b'=').unwrap_or(rest.len());
    let sign = rest.as_bytes().get(end);
    (is_jumbled(rest.get(..end)?) && sign != Some(&b'=')).then_some((from, from + signs + end))
}

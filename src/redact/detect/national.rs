//! Numbers that states and health services assign to people: Aadhaar, CPF, BSN, PESEL, NIR (INSEE), NHS numbers, DNI
//! and NIE, NINO; and numbers of medical records, health plans and passports where nearby words call them so.
//!
//! A number must have valid check digits, if its kind has any. If one in ten other numbers would pass that check, it
//! also needs a word next to it that names it, or the form that only this kind has.

use super::context::{Context, Hint};
use super::number::{Group, Run, Separator};
use super::{Hits, before, head, is_word, tail};
use crate::redact::policy::Detector;

/// Numbers that consist only of digits.
pub(super) fn find(run: &mut Run<'_>, hint: Context, hits: &mut Hits<'_>) {
    if !hits.wants(Detector::NationalId) {
        return;
    }
    let mut i = 0;
    while i < run.groups.len() {
        match at(run, i, hint) {
            Some(to) => {
                run.take(i, to, Some(Detector::NationalId), hits);
                i = to;
            }
            None => i += 1,
        }
    }
}

/// The end of the number that begins with group `i`.
fn at(run: &Run<'_>, i: usize, hint: Context) -> Option<usize> {
    let mut buffer = [0; 24];
    let lens = |n: usize| run.groups.get(i..i + n).map(|groups| groups.iter().map(Group::len).collect::<Vec<_>>());
    let separators = |n: usize, separator: Separator| (i + 1..i + n).all(|k| run.separator(k) == Some(separator));
    let touched = i == 0 && (run.touched || run.plus);
    if touched || matches!(run.separator(i), Some(Separator::Dash | Separator::Dot | Separator::Under)) {
        return None;
    }
    let context = |to: usize| match (run.groups.get(i), run.groups.get(to - 1)) {
        (Some(first), Some(last)) => Context::around(run.text, first.start, last.end, hint),
        _ => hint,
    };
    let first = run.groups.get(i)?.len();
    // By their form: 123.456.789-09, 2345 6789 0124, 1 85 05 78 006 084 36.
    let to = match first {
        3 if lens(4).is_some_and(|l| l == [3, 3, 3, 2]) => i + 4,
        3 if lens(3).is_some_and(|l| l == [3, 3, 4]) => i + 3,
        3 if lens(3).is_some_and(|l| l == [3, 3, 3]) => i + 3,
        4 if lens(3).is_some_and(|l| l == [4, 4, 4]) => i + 3,
        1 if lens(7).is_some_and(|l| l == [1, 2, 2, 2, 3, 3, 2]) => i + 7,
        1 if lens(6).is_some_and(|l| l == [1, 2, 2, 2, 3, 3]) => i + 6,
        13 if lens(2).is_some_and(|l| l == [13, 2]) => i + 2,
        9..=12 | 15 => i + 1,
        _ => return None,
    };
    if !run.is_free(i, to)
        || run.ends_in_letter(to)
        || matches!(run.separator(to), Some(Separator::Dash | Separator::Dot | Separator::Under))
    {
        return None;
    }
    let digits = run.collect(i, to, &mut buffer);
    let n = to - i;
    let found = match digits.len() {
        12 => {
            let spaced = n == 3 && (separators(3, Separator::Space) || separators(3, Separator::Dash));
            is_aadhaar(digits) && {
                let context = context(to);
                context.national
                    || spaced && stands_apart(run, i, to) && !context.other && !context.card && !context.phone
            }
        }
        11 if n == 1 && is_steuer_id(digits) && context(to).national => true,
        11 => {
            let formed =
                n == 4 && run.separator(i + 1) == Some(Separator::Dot) && run.separator(i + 3) == Some(Separator::Dash);
            is_cpf(digits) && (formed || context(to).national) || n == 1 && is_pesel(digits) && context(to).national
        }
        9 => (is_bsn(digits) || is_tfn(digits) || is_sin(digits)) && (n == 1 || n == 3) && context(to).national,
        10 => is_nhs(digits) && context(to).national,
        13 => n == 6 && context(to).national,
        15 => is_nir(digits) && !context(to).other,
        _ => false,
    };
    found.then_some(to)
}

fn value(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| u32::from(d - b'0') * w).sum()
}

fn last(digits: &[u8]) -> u32 {
    digits.last().map_or(10, |d| u32::from(d - b'0'))
}

/// Whether no other digits stand next to it, as they do in a parcel number: `9400 1573 2433 6710 7388 98`.
fn stands_apart(run: &Run<'_>, from: usize, to: usize) -> bool {
    let spaced = |i: usize| run.separator(i) == Some(Separator::Space);
    !(spaced(to) || from > 0 && spaced(from))
}

/// Twelve digits, the first not 0 or 1, the last a check digit by Verhoeff's scheme.
fn is_aadhaar(digits: &[u8]) -> bool {
    const TURN: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let check = digits.iter().rev().enumerate().fold(0u8, |sum, (i, d)| {
        let mut p = d - b'0';
        for _ in 0..i % 8 {
            p = TURN.get(usize::from(p)).copied().unwrap_or(0);
        }
        // Multiplication in the symmetry group of a pentagon.
        match (sum < 5, p < 5) {
            (true, true) => (sum + p) % 5,
            (true, false) => (sum + p - 5) % 5 + 5,
            (false, true) => (sum - p) % 5 + 5,
            (false, false) => (sum + 5 - p) % 5,
        }
    });
    digits.len() == 12 && digits.first().is_some_and(|d| *d > b'1') && check == 0
}

fn is_cpf(digits: &[u8]) -> bool {
    let check = |n: usize| {
        let weights: Vec<u32> = (2..=n as u32 + 1).rev().collect();
        let rest = weighted(digits.get(..n).unwrap_or_default(), &weights) * 10 % 11 % 10;
        digits.get(n).map(|d| u32::from(d - b'0')) == Some(rest)
    };
    digits.len() == 11 && digits.iter().any(|d| Some(d) != digits.first()) && check(9) && check(10)
}

/// The mod 11 test, with the last digit subtracted.
fn is_bsn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    digits.len() == 9 && (sum + 11 - last(digits)).is_multiple_of(11) && sum > 0
}

/// Australian tax file numbers.
fn is_tfn(digits: &[u8]) -> bool {
    digits.len() == 9 && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Canadian social insurance numbers, with the check digit of cards (Luhn).
fn is_sin(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(i, d)| u32::from(d - b'0') * (1 + (i as u32 & 1)))
        .map(|n| if n > 9 { n - 9 } else { n })
        .sum();
    digits.len() == 9 && sum.is_multiple_of(10) && digits.first() != Some(&b'0')
}

/// German tax numbers, by ISO 7064 MOD 11,10.
fn is_steuer_id(digits: &[u8]) -> bool {
    let product = digits.iter().take(10).fold(10, |product, d| {
        let sum = (u32::from(d - b'0') + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits.len() == 11 && digits.first() != Some(&b'0') && (11 - product) % 10 == last(digits)
}

/// Date of birth with the century encoded in the month, and a check digit.
fn is_pesel(digits: &[u8]) -> bool {
    let part = |r: std::ops::Range<usize>| digits.get(r).and_then(value).unwrap_or(0);
    let check = (10 - weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    digits.len() == 11
        && (1..=12).contains(&(part(2..4) % 20))
        && (1..=31).contains(&part(4..6))
        && check == last(digits)
}

fn is_nhs(digits: &[u8]) -> bool {
    let rest = 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    digits.len() == 10 && (rest % 11) == last(digits) && rest != 10
}

/// Sex, year, month, place, number, and as the key 97 minus the remainder of these.
fn is_nir(digits: &[u8]) -> bool {
    let (Some(number), Some(key)) = (digits.get(..13).and_then(value), digits.get(13..).and_then(value)) else {
        return false;
    };
    let month = digits.get(3..5).and_then(value).unwrap_or(0);
    digits.len() == 15
        && matches!(digits.first(), Some(b'1' | b'2'))
        && ((1..=12).contains(&month) || (20..=42).contains(&month))
        && 97 - number % 97 == key
}

const DNI: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// Numbers with letters; their first digit is at `i`. Returns the position to continue from.
pub(super) fn lettered(text: &str, i: usize, hint: &Hint<'_>, hits: &mut Hits<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    if before(bytes, i).is_some_and(|b| b.is_ascii_digit()) {
        return None;
    }
    let found = if hits.wants(Detector::NationalId) {
        nino(text, i).or_else(|| dni(text, i)).or_else(|| fiscale(text, i))
    } else {
        None
    };
    if let Some((start, end)) = found {
        let context = Context::around(text, start, end, hint.get());
        if context.national || !context.other {
            hits.add(Detector::NationalId, start, end);
            return Some(end);
        }
    }
    let (start, end) = hits.wants(Detector::RecordNumber).then(|| record(text, i)).flatten()?;
    hits.add(Detector::RecordNumber, start, end);
    Some(end)
}

fn ends(bytes: &[u8], end: usize) -> bool {
    bytes.get(end).is_none_or(|&b| !is_word(b) && b != b'_')
        && !(bytes.get(end) == Some(&b'-') && bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric))
}

fn begins(bytes: &[u8], start: usize) -> bool {
    before(bytes, start).is_none_or(|b| !is_word(b) && !matches!(b, b'_' | b'-' | b'/' | b'#'))
}

/// A British national insurance number: `AB123456C`, `AB 12 34 56 C`.
fn nino(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let spaced = before(bytes, i) == Some(b' ');
    let start = i.checked_sub(2 + usize::from(spaced))?;
    let lead = bytes.get(start..start + 2)?;
    let first = |b: u8| b.is_ascii_uppercase() && !b"DFIQUV".contains(&b);
    let [a, b] = lead else { return None };
    if !first(*a)
        || !first(*b)
        || *b == b'O'
        || [*b"BG", *b"GB", *b"NK", *b"KN", *b"TN", *b"NT", *b"ZZ"].contains(&[*a, *b])
    {
        return None;
    }
    let separator = if spaced { b' ' } else { 0 };
    let mut at = i;
    for pair in 0..3 {
        if !bytes.get(at..at + 2)?.iter().all(u8::is_ascii_digit) {
            return None;
        }
        at += 2;
        if spaced && bytes.get(at) == Some(&separator) {
            at += 1;
        } else if spaced && pair == 2 {
            return None;
        }
    }
    let suffix = bytes.get(at).is_some_and(|b| (b'A'..=b'D').contains(b));
    (suffix && begins(bytes, start) && ends(bytes, at + 1)).then_some((start, at + 1))
}

/// Spanish identity numbers: eight digits, or X, Y or Z and seven digits, and a check letter.
fn dni(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let foreign = before(bytes, i).filter(|b| matches!(b, b'X' | b'Y' | b'Z'));
    let dashed = before(bytes, i) == Some(b'-')
        && i.checked_sub(1).and_then(|at| before(bytes, at)).is_some_and(|b| matches!(b, b'X' | b'Y' | b'Z'));
    let lead = if dashed { i.checked_sub(1).and_then(|at| before(bytes, at)) } else { foreign };
    let start = i - lead.map_or(0, |_| 1 + usize::from(dashed));
    let len = if lead.is_some() { 7 } else { 8 };
    let digits = bytes.get(i..i + len).filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let end = i + len + usize::from(matches!(bytes.get(i + len), Some(b'-' | b' ')));
    let letter = bytes.get(end)?;
    let number = value(digits)? + lead.map_or(0, |l| u64::from(l - b'X') * 10_000_000);
    let right = DNI.get((number % 23) as usize) == Some(letter);
    // `chr11:g.25002653C>G` is a position in a genome.
    let place = before(bytes, start) == Some(b'.') || bytes.get(end + 1) == Some(&b'>');
    (right && !place && begins(bytes, start) && ends(bytes, end + 1)).then_some((start, end + 1))
}

/// Italian tax codes: six letters, the year, a letter for the month, the day, the place, and a check letter.
fn fiscale(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let start = i.checked_sub(6)?;
    let code: &[u8; 16] = bytes.get(start..start + 16)?.try_into().ok()?;
    // If two people would have the same code, letters replace digits in one of them.
    let digit = |b: u8| b.is_ascii_digit() || b"LMNPQRSTUV".contains(&b.to_ascii_uppercase());
    let fits = code.iter().enumerate().all(|(at, b)| match at {
        6 | 7 | 9 | 10 | 12..=14 => digit(*b),
        8 => b"ABCDEHLMPRST".contains(&b.to_ascii_uppercase()),
        _ => b.is_ascii_alphabetic(),
    });
    if !fits {
        return None;
    }
    // The values of letters and digits at odd places; at even places they have their own value.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let number = |b: u8| usize::from(if b.is_ascii_digit() { b - b'0' } else { b.to_ascii_uppercase() - b'A' });
    let sum: u32 = code
        .iter()
        .take(15)
        .enumerate()
        .map(|(at, b)| if at % 2 == 0 { ODD.get(number(*b)).copied().unwrap_or(0) } else { number(*b) as u32 })
        .sum();
    let right = sum % 26 == number(code[15]) as u32;
    let called = || tail(text, start, 48).to_ascii_lowercase().contains("fiscal");
    let formed = right && code.iter().all(|b| !b.is_ascii_lowercase()) || called();
    (formed && begins(bytes, start) && ends(bytes, start + 16)).then_some((start, start + 16))
}

/// The number of a medical record, a health plan member or a passport after the words that call it so.
fn record(text: &str, i: usize) -> Option<(usize, usize)> {
    const NAMES: [&str; 21] = [
        "member id",
        "member number",
        "subscriber id",
        "subscriber number",
        "health plan beneficiary number",
        "health plan id",
        "beneficiary number",
        "medicaid id",
        "mrn",
        "medical record number",
        "medical record no",
        "medical record no.",
        "medical record",
        "chart number",
        "passport",
        "passport number",
        "passport no",
        "passport no.",
        "patient number",
        "hospital number",
        "reisepass",
    ];
    let bytes = text.as_bytes();
    let mut start = i;
    while i - start < 6 && before(bytes, start).is_some_and(|b| b.is_ascii_alphabetic() || b == b'-') {
        start -= 1;
    }
    let end = i + head(text, i, 24).bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
    let digits = bytes.get(start..end)?.iter().filter(|b| b.is_ascii_digit()).count();
    if digits < 5 || !ends(bytes, end) {
        return None;
    }
    let mut lead = tail(text, start, 48)
        .trim_end_matches([' ', ':', '#', '=', '"', '\'', '\\', '.', '(', '*'])
        .to_ascii_lowercase()
        .replace('_', " ");
    if let Some(rest) = lead.strip_suffix(" is") {
        lead = rest.to_owned();
    }
    // `MRN-00482913`, `MRN00482913`
    let glued = text.get(start..i)?.to_ascii_lowercase();
    let named = NAMES.iter().any(|n| lead.strip_suffix(n).is_some_and(|l| !l.ends_with(|c: char| c.is_alphanumeric())));
    (named || glued.starts_with("mrn")).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        assert!(is_aadhaar(b"234123412346") && !is_aadhaar(b"234123412347"));
        assert!(is_cpf(b"52998224725") && !is_cpf(b"52998224726") && !is_cpf(b"11111111111"));
        assert!(is_bsn(b"111222333") && !is_bsn(b"111222334"));
        assert!(is_pesel(b"44051401359") && !is_pesel(b"44051401358"));
        assert!(is_nhs(b"9434765919") && !is_nhs(b"9434765918"));
        assert!(is_nir(b"185057800608491") && !is_nir(b"185057800608492"));
        assert_eq!(dni("12345678Z", 0), Some((0, 9)));
        assert_eq!(dni("X1234567L", 1), Some((0, 9)));
        assert_eq!(nino("AB123456C", 2), Some((0, 9)));
        assert_eq!(nino("AB 12 34 56 C", 3), Some((0, 13)));
    }
}

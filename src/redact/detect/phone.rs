//! Phone numbers: by their form if nothing else has that form, otherwise by the words around them.
//!
//! By form: a `+` and a country; ten digits as 3-3-4; an area in parentheses; a national number with its leading zero
//! in groups. By words: six to thirteen digits after *phone*, *call*, *fax* and the like, before *office* or *mobile*,
//! or under such a key.

use super::context::Context;
use super::number::{Group, Run, Separator};
use super::{Hits, before, head};
use crate::redact::policy::Detector;

pub(super) fn find(run: &mut Run<'_>, hint: Context, hits: &mut Hits<'_>) {
    // `report_415_555_2671` is part of a file name.
    if run.groups.iter().any(|g| g.separator == Separator::Under) {
        return;
    }
    let mut i = 0;
    while i < run.groups.len() {
        match by_form(run, i) {
            Some(to) if is_other(run, i, to, hint) => i = to,
            Some(to) => {
                take(run, i, to, hits);
                i = to;
            }
            None => i += 1,
        }
    }
    let mut from = 0;
    while from < run.groups.len() {
        let to = (from..run.groups.len()).find(|&i| !run.is_free(i, i + 1)).unwrap_or(run.groups.len());
        if to > from {
            by_words(run, from, to, hint, hits);
        }
        from = to.max(from) + 1;
    }
}

/// Whether a text in the form of a phone number is called something else, or also has the form of a drug code (NDC).
fn is_other(run: &Run<'_>, i: usize, to: usize, hint: Context) -> bool {
    let groups = run.groups.get(i..to).unwrap_or_default();
    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return false };
    if i == 0 && run.plus {
        return false;
    }
    let lens = groups.iter().map(Group::len);
    let dashed = groups.iter().skip(1).all(|g| g.separator == Separator::Dash);
    let code = dashed && [[5, 4, 2], [4, 4, 2], [5, 3, 2], [5, 4, 1]].iter().any(|form| lens.clone().eq(*form));
    let context = Context::around(run.text, first.start, last.end, hint);
    // `1Z 999 AA1 01 2345 6784` is a parcel number.
    let glued = i > 0 && run.touched;
    !context.phone && (code || glued || context.other)
}

/// The end of the number that begins with group `i`, if it is a phone number by its form.
fn by_form(run: &Run<'_>, i: usize) -> Option<usize> {
    let group = run.groups.get(i).filter(|g| !g.used)?;
    let len = |k: usize| run.groups.get(k).filter(|g| !g.used).map_or(0, Group::len);
    let glued = i == 0 && run.glued || joined(run.separator(i));
    let text = run.text.get(group.start..group.end).unwrap_or_default();
    if i == 0 && run.plus {
        // +1 is a single country code, and its numbers have ten more digits.
        let (least, most) = if text.starts_with('1') { (11, 11) } else { (8, 15) };
        return longest(run, i, least, most, |_| true);
    }
    if glued {
        return None;
    }
    // A country or trunk code may precede the ten digits.
    let code = group.len() <= 3
        && i == 0
        && matches!(run.separator(i + 1), Some(Separator::Space | Separator::Dash | Separator::Open | Separator::Dot));
    let first = if code && len(i + 1) == 3 && len(i + 3) == 4 { i + 1 } else { i };
    let ten = !text.starts_with("00")
        && [len(first), len(first + 1), len(first + 2)] == [3, 3, 4]
        && [first + 1, first + 2].iter().all(|&k| {
            matches!(
                run.separator(k),
                Some(Separator::Dash | Separator::Dot | Separator::Space | Separator::Close | Separator::Slash)
            )
        })
        && (first == i || !matches!(run.separator(first), Some(Separator::Slash)));
    if ten && !joined(run.separator(first + 3)) && !letter_follows(run, first + 3) {
        return Some(first + 3);
    }
    if group.separator == Separator::Open && run.separator(i + 1) == Some(Separator::Close) {
        let year = text.len() == 4 && (text.starts_with("19") || text.starts_with("20"));
        return longest(run, i, 7, 13, |_| true).filter(|_| text.len() <= 5 && !year);
    }
    let national =
        !text.starts_with("000") && (2..=5).contains(&text.len()) && text.starts_with('0') && !text.starts_with("00")
            || text.starts_with("00") && text.len() > 2 && !text.starts_with("000");
    if national {
        let most = if text.starts_with("00") { 16 } else { 13 };
        return longest(run, i, 9, most, |separator| !matches!(separator, Separator::Open | Separator::Close)).filter(
            |&to| {
                let dotted = run.separator(i + 1) == Some(Separator::Dot) && to - i < 3;
                let zip = to - i == 2 && (len(i), len(i + 1)) == (5, 4);
                // Five pairs are a French number; more pairs, or groups that continue in the same way, are a list of
                // numbers.
                let alike = |a: usize| run.separator(a + 1) == Some(Separator::Space) && len(a) == len(a + 1);
                let row = (i..to).all(|k| len(k) == 2) && to - i != 5 || alike(to - 1) || i > 0 && alike(i - 1);
                to - i > 1 && !dotted && !zip && !row
            },
        );
    }
    None
}

/// The end of the longest run of groups from group `i` whose number of digits is allowed.
fn longest(
    run: &Run<'_>,
    i: usize,
    least: usize,
    most: usize,
    separators: impl Fn(Separator) -> bool,
) -> Option<usize> {
    let (mut total, mut found) = (0, None);
    for to in i + 1..=run.groups.len() {
        let group = run.groups.get(to - 1).filter(|g| !g.used && (to == i + 1 || separators(g.separator)))?;
        total += group.len();
        if total > most {
            break;
        }
        if total >= least && !joined(run.separator(to)) && !letter_follows(run, to) {
            found = Some(to);
        }
        if run.groups.get(to).is_none_or(|g| g.used) {
            break;
        }
    }
    found
}

fn joined(separator: Option<Separator>) -> bool {
    matches!(separator, Some(Separator::Dash | Separator::Dot))
}

/// Whether the last digits are directly followed by letters other than an extension: `x123`.
fn letter_follows(run: &Run<'_>, to: usize) -> bool {
    let end = to.checked_sub(1).and_then(|i| run.groups.get(i)).map_or(0, |g| g.end);
    to == run.groups.len() && run.letter_after && extension(run.text, end) == end
}

/// The least and greatest integers of 32 bits, and what comes next.
const BOUNDS: [&str; 4] = ["2147483647", "2147483648", "4294967295", "4294967296"];

fn by_words(run: &mut Run<'_>, from: usize, to: usize, hint: Context, hits: &mut Hits<'_>) {
    // `hotline 986 03 95 (24h)`: the group before the letters is not part of the number, but the groups before it still
    // are.
    let to = if letter_follows(run, to) { to - 1 } else { to };
    let len = |a: usize, b: usize| run.groups.get(a..b).unwrap_or_default().iter().map(Group::len).sum::<usize>();
    let Some((first, last)) = run.groups.get(from..to).and_then(|g| Some((g.first()?, g.last()?))) else { return };
    if len(from, to) < 6 || from == 0 && run.glued {
        return;
    }
    let context = Context::around(run.text, first.start, last.end, hint);
    // Includes the `00` that some people dial before a country code.
    let abroad = run.text.get(first.start..).is_some_and(|t| t.starts_with("00"));
    let most = if abroad { 16 } else { 13 };
    // A single word of ten or more digits that is only called a number: people mean a phone number.
    let number = context.number && (to - from > 1 || (10..=most).contains(&len(from, to)));
    // Not a decimal fraction.
    let number = number && !(to - from == 2 && run.separator(to - 1) == Some(Separator::Dot));
    if !(context.phone || number) || context.other && to - from == 1 {
        return;
    }
    // The bounds of a computer's integers stand in code beside the word `number`.
    if to - from == 1 && run.text.get(first.start..last.end).is_some_and(|digits| BOUNDS.contains(&digits)) {
        return;
    }
    let (mut a, mut b) = (from, to);
    while len(a, b) > most && b - a > 1 {
        if context.phone_after { a += 1 } else { b -= 1 }
    }
    // If the word follows the number, a postcode may precede it.
    if context.phone_after && b - a > 2 && len(a, a + 1) >= 4 && len(a + 1, b) >= 7 {
        a += 1;
    }
    let total = len(a, b);
    let least = if b - a > 1 { 6 } else { 7 };
    if (least..=most).contains(&total) {
        take(run, a, b, hits);
    }
}

fn take(run: &mut Run<'_>, from: usize, to: usize, hits: &mut Hits<'_>) {
    let (Some(first), Some(last)) = (run.groups.get(from), run.groups.get(to - 1)) else { return };
    let bytes = run.text.as_bytes();
    let mut start = first.start;
    if first.separator == Separator::Open || before(bytes, start) == Some(b'(') {
        start -= 1;
    }
    if from == 0 && run.plus && before(bytes, start) == Some(b'+') {
        start -= 1;
        if before(bytes, start) == Some(b'(') {
            start -= 1;
        }
    }
    let end = extension(run.text, last.end);
    hits.add(Detector::Phone, start, end);
    run.take(from, to, None, hits);
}

/// The end of an extension that follows at `at`: `x123`, ` ext. 123`.
fn extension(text: &str, at: usize) -> usize {
    let rest = head(text, at, 16);
    let trimmed = rest.trim_start_matches([' ', ',']);
    let word = ["extension", "extn", "ext.", "ext", "durchwahl", "poste", "x", "#"].into_iter().find_map(|w| {
        let head = trimmed.get(..w.len())?;
        head.eq_ignore_ascii_case(w).then(|| &trimmed[w.len()..])
    });
    let Some(after) = word.map(|w| w.trim_start_matches([' ', ':', '.'])) else { return at };
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let tail = after.as_bytes().get(digits);
    if (1..=6).contains(&digits) && tail.is_none_or(|b| !b.is_ascii_alphanumeric()) {
        at + rest.len() - after.len() + digits
    } else {
        at
    }
}

//! Everything made of digits: cards, social security numbers, IPv4 addresses, phone numbers.
//!
//! Digits that are adjacent, or separated by at most a few separators within one line, form a *run* of *groups*. A
//! group belongs to at most one hit. The most certain detectors take their groups first: IPv4 addresses, dates (which
//! are not reported, but are not phone numbers either), cards, social security numbers, phone numbers by their form,
//! and last phone numbers by the words around them.

use super::context::{Context, Hint};
use super::{Hits, before, called, iban, is_word, national, phone};
use crate::redact::policy::Detector;

/// What precedes a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    /// The start of the run.
    Start,
    Space,
    Dash,
    Dot,
    Slash,
    /// `_`
    Under,
    /// `(`
    Open,
    /// `)`, and any separator after it
    Close,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) separator: Separator,
    pub(super) used: bool,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Digits and their separators.
pub(super) struct Run<'t> {
    pub(super) text: &'t str,
    pub(super) groups: Vec<Group>,
    /// A `+` precedes it.
    pub(super) plus: bool,
    /// A letter precedes it, or a letter and a hyphen.
    pub(super) glued: bool,
    /// A letter or `_` directly precedes it.
    pub(super) touched: bool,
    /// A letter follows the last group.
    pub(super) letter_after: bool,
}

/// The maximum number of groups in a run; a longer one is processed in overlapping pieces.
const MAX_GROUPS: usize = 256;
const OVERLAP: usize = 20;
const _: () = assert!(OVERLAP < MAX_GROUPS);

pub(super) fn find(text: &str, digits: usize, key: Option<&str>, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let hint = Hint::of(key.filter(|_| digits >= 4));
    if called::may_be_whole(text)
        && let Some(called) = hint.get().called
        && called::whole(text, called, hits)
    {
        return;
    }
    let mut run = Run { text, groups: Vec::new(), plus: false, glued: false, touched: false, letter_after: false };
    let mut i = 0;
    while let Some(skip) = bytes.get(i..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        i += skip;
        if let Some(end) = iban_around(text, i, &hint, hits) {
            i = end;
            continue;
        }
        if let Some(end) = called::pan(text, i, || key.is_some_and(called::is_pan), hits) {
            i = end;
            continue;
        }
        if let Some(end) = national::lettered(text, i, &hint, hits).or_else(|| called::in_words(text, i, hits)) {
            i = end;
            continue;
        }
        i = run.read(i);
        let digits = run.digits();
        // With fewer digits it can only be an IP address, which has four groups.
        if digits >= 6 || digits >= 4 && run.groups.len() > 3 {
            run.look(hint.get(), hits);
        }
    }
}

fn iban_around(text: &str, i: usize, hint: &Hint<'_>, hits: &mut Hits<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    let start = i.checked_sub(2)?;
    let country = bytes.get(start..i)?.iter().all(u8::is_ascii_alphabetic);
    let glued = before(bytes, start).is_some_and(|b| b.is_ascii_alphanumeric());
    if !country || glued && !super::tail(text, start, 4).eq_ignore_ascii_case("iban") {
        return None;
    }
    // Hashes contain such letters: `index f096a5c416..be76433911 100644`.
    if bytes.get(start).is_some_and(u8::is_ascii_lowercase) && before(bytes, start) == Some(b'.') {
        return None;
    }
    let called = || Context::around(text, start, start, hint.get()).iban;
    let end = iban::at(bytes, start).or_else(|| iban::like(bytes, start).filter(|_| called()))?;
    hits.add(Detector::Iban, start, end);
    Some(end)
}

impl Run<'_> {
    /// Reads the run that begins with the digit at `from`. Returns the position to continue from.
    fn read(&mut self, from: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut separator = match before(bytes, from) {
            Some(b'(') => Separator::Open,
            _ => Separator::Start,
        };
        let lead = before(bytes, from);
        let second = from.checked_sub(1).and_then(|i| before(bytes, i));
        // Chinese and Japanese do not separate words from numbers.
        let letter = |c: char| c == '_' || c.is_alphanumeric() && c < '\u{2e80}';
        let near = || super::tail(self.text, from, 4).chars().next_back().is_some_and(letter);
        self.touched = lead.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || !b.is_ascii() && near());
        self.glued = self.touched
            || matches!(lead, Some(b'-' | b'.' | b'#')) && second.is_some_and(|b| b.is_ascii_alphabetic())
            // `index 3280a495e9..0086894591`.
            || lead == Some(b'.') && second == Some(b'.');
        self.plus =
            lead == Some(b'+') && second.is_none_or(|b| !is_word(b)) || lead == Some(b'(') && second == Some(b'+');
        self.groups.clear();
        let mut start = from;
        loop {
            let mut end = start;
            while bytes.get(end).is_some_and(u8::is_ascii_digit) {
                end += 1;
            }
            self.groups.push(Group { start, end, separator, used: false });
            let next = separator_at(self.text, end);
            if self.groups.len() == MAX_GROUPS && next.is_some() {
                self.letter_after = false;
                // The next piece starts at a later group, so this terminates.
                return self.groups.get(MAX_GROUPS - OVERLAP).map_or(end, |g| g.start);
            }
            match next {
                Some((next, at)) => (separator, start) = (next, at),
                None => {
                    self.letter_after = bytes.get(end).is_some_and(|&b| is_word(b) || b == b'_');
                    return end;
                }
            }
        }
    }

    fn digits(&self) -> usize {
        self.groups.iter().map(Group::len).sum()
    }

    /// The digits of some groups, up to the length of `out`.
    pub(super) fn collect<'o>(&self, from: usize, to: usize, out: &'o mut [u8; 24]) -> &'o [u8] {
        let mut len = 0;
        for group in self.groups.get(from..to).unwrap_or_default() {
            for &b in self.text.as_bytes().get(group.start..group.end).unwrap_or_default() {
                if let Some(slot) = out.get_mut(len) {
                    *slot = b;
                    len += 1;
                }
            }
        }
        &out[..len]
    }

    pub(super) fn separator(&self, i: usize) -> Option<Separator> {
        self.groups.get(i).map(|g| g.separator)
    }

    pub(super) fn is_free(&self, from: usize, to: usize) -> bool {
        self.groups.get(from..to).is_some_and(|g| g.iter().all(|g| !g.used))
    }

    /// Marks groups as used and reports them; with `None` they are only ruled out.
    pub(super) fn take(&mut self, from: usize, to: usize, found: Option<Detector>, hits: &mut Hits<'_>) {
        let Some(groups) = self.groups.get_mut(from..to) else { return };
        groups.iter_mut().for_each(|g| g.used = true);
        if let (Some(detector), Some(first), Some(last)) = (found, groups.first(), groups.last()) {
            hits.add(detector, first.start, last.end);
        }
    }

    fn look(&mut self, hint: Context, hits: &mut Hits<'_>) {
        self.addresses(hint, hits);
        if self.digits() < 6 {
            return;
        }
        self.recovery_key(hits);
        self.times(hits);
        self.dates(hits);
        national::find(self, hint, hits);
        self.cards(hint, hits);
        self.ssns(hint, hits);
        phone::find(self, hint, hits);
    }

    /// Whether groups `from..to` are separate from their neighbours: a hyphen or a dot would join them.
    pub(super) fn stands_alone(&self, from: usize, to: usize) -> bool {
        let joined = |separator: Option<Separator>| matches!(separator, Some(Separator::Dash | Separator::Dot));
        !joined(self.separator(from)) && !joined(self.separator(to))
    }

    pub(super) fn ends_in_letter(&self, to: usize) -> bool {
        to == self.groups.len() && self.letter_after
    }

    /// Eight times six digits, each a multiple of eleven: a BitLocker recovery key.
    fn recovery_key(&mut self, hits: &mut Hits<'_>) {
        for i in 0..(self.groups.len() + 1).saturating_sub(8) {
            if self.groups.get(i..i + 8).is_none_or(|groups| groups.iter().any(|group| group.len() != 6)) {
                continue;
            }
            let part = |k: usize| {
                let group = self.groups.get(k).filter(|group| group.len() == 6)?;
                let number: u32 = self.text.get(group.start..group.end)?.parse().ok()?;
                (k == i || group.separator == Separator::Dash).then_some(number)
            };
            let parts: Vec<u32> = (i..i + 8).map_while(part).collect();
            let context = || {
                let start = self.groups.get(i).map_or(0, |group| group.start);
                super::tail(self.text, start, 64).to_ascii_lowercase().contains("key")
            };
            if parts.len() == 8 && (parts.iter().all(|n| n % 11 == 0) || context()) {
                self.take(i, i + 8, Some(Detector::Credential), hits);
            }
        }
    }

    fn addresses(&mut self, hint: Context, hits: &mut Hits<'_>) {
        for i in 0..self.groups.len().saturating_sub(3) {
            let dotted = (i + 1..i + 4).all(|j| self.separator(j) == Some(Separator::Dot));
            let ends = self.separator(i) != Some(Separator::Dot) && self.separator(i + 4) != Some(Separator::Dot);
            // A longer part belongs to a card or a phone number, and so does everything after a `+`.
            let short = self.groups.get(i..i + 4).is_some_and(|g| g.iter().all(|g| g.len() <= 3));
            let named = i == 0 && (self.touched || self.plus);
            if !dotted || !ends || !short || named || !self.is_free(i, i + 4) || self.ends_in_letter(i + 4) {
                continue;
            }
            let (Some(first), Some(last)) = (self.groups.get(i), self.groups.get(i + 3)) else { continue };
            let address = self.text.get(first.start..last.end).unwrap_or_default();
            let (start, end) = (first.start, last.end);
            let Ok(parsed) = address.parse::<std::net::Ipv4Addr>() else { continue };
            // Every machine uses such addresses, or they denote a range: they identify nobody.
            let range = || {
                let bits = self.text.get(end..).and_then(|t| t.strip_prefix('/')).unwrap_or_default();
                let bits = bits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u32>().ok());
                bits.filter(|bits| *bits < 32).is_some_and(|bits| u32::from(parsed) & (u32::MAX >> bits) == 0)
            };
            if parsed.is_unspecified() || parsed.is_loopback() || parsed.is_broadcast() || range() {
                self.take(i, i + 4, None, hits);
                continue;
            }
            let version = self.is_version(start, address) || Context::around(self.text, start, end, hint).version;
            self.take(i, i + 4, (!version).then_some(Detector::Ip), hits);
        }
    }

    /// `Chrome/120.0.0.0` is a browser's version.
    fn is_version(&self, start: usize, address: &str) -> bool {
        let lead = self.text.get(..start).and_then(|t| t.strip_suffix('/'));
        address.ends_with(".0.0.0") && lead.is_some_and(|t| t.ends_with(|c: char| c.is_ascii_alphabetic()))
    }

    /// The seconds of a time, and its zone, do not begin a number: `19:03:04 2021 -0700`, `11:28:35 +0200 347`.
    fn times(&mut self, hits: &mut Hits<'_>) {
        let Some(first) = self.groups.first() else { return };
        let (start, len) = (first.start, first.len());
        let lead = super::tail(self.text, start, 24);
        if len == 2 && matches!(lead.as_bytes(), [.., b'0'..=b'9', b':']) {
            self.take(0, 1, None, hits);
            let zone = |g: &&Group| g.len() == 4 && g.separator == Separator::Dash;
            if let Some(i) = self.groups.iter().take(3).position(|g| zone(&g)) {
                self.take(i, i + 1, None, hits);
            }
        }
        // A time precedes the sign, with or without fractions of a second.
        let clock = |lead: &str| {
            let lead = lead.trim_end_matches(['+', '-']).trim_end();
            let lead = lead.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('.');
            lead.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with(':')
        };
        if len == 4 && lead.ends_with(['+', '-']) && clock(lead) {
            self.take(0, 1, None, hits);
        }
    }

    /// Dates are not phone numbers: `2006-04-07`, `4/16/2000`, `16.04.2000`, `20060407`.
    fn dates(&mut self, hits: &mut Hits<'_>) {
        let number = |run: &Run<'_>, i: usize| {
            let group = run.groups.get(i)?;
            run.text.get(group.start..group.end)?.parse::<u32>().ok()
        };
        for i in 0..self.groups.len() {
            let lens = [0, 1, 2].map(|k| self.groups.get(i + k).map_or(0, Group::len));
            let values = [0, 1, 2].map(|k| number(self, i + k).unwrap_or(u32::MAX));
            let (separator, next) = (self.separator(i + 1), self.separator(i + 2));
            let parted =
                separator == next && matches!(separator, Some(Separator::Dash | Separator::Dot | Separator::Slash));
            let (day, month, year) =
                (|n| (1..=31).contains(&n), |n| (1..=12).contains(&n), |n| (1900..=2100).contains(&n));
            let [a, b, c] = values;
            let date = match lens {
                [4, 1..=2, 1..=2] => parted && year(a) && month(b) && day(c),
                [1..=2, 1..=2, 4] => parted && year(c) && (month(a) && day(b) || day(a) && month(b)),
                _ => false,
            };
            if date && self.is_free(i, i + 3) && self.separator(i + 3) != separator {
                self.take(i, i + 3, None, hits);
            }
            if lens[0] == 8 && year(a / 10_000) && month(a / 100 % 100) && day(a % 100) {
                self.take(i, i + 1, None, hits);
            }
        }
    }

    /// Whether the groups have the lengths in which numbers are printed on cards.
    fn printed(&self, from: usize, to: usize) -> bool {
        let lens = self.groups.get(from..to).unwrap_or_default().iter().map(Group::len);
        lens.clone().eq([4, 4, 4, 4]) || lens.eq([4, 6, 5])
    }

    fn cards(&mut self, hint: Context, hits: &mut Hits<'_>) {
        let mut buffer = [0; 24];
        // Dictated digit by digit.
        let count = self.groups.len();
        if (15..=16).contains(&count) && self.groups.iter().all(|g| g.len() == 1) {
            let digits = self.collect(0, count, &mut buffer);
            if luhn(digits) && issuer(digits) == Issuer::Certain {
                return self.take(0, count, Some(Detector::Card), hits);
            }
        }
        // `index 426adc9e76..5365719649 100644`
        let mut i =
            usize::from(self.glued && self.groups.first().is_some_and(|g| super::tail(self.text, g.start, 2) == ".."));
        while i < self.groups.len() {
            let mut taken = 0;
            let (mut total, separator) = (0, self.separator(i + 1));
            for to in i + 1..(i + 8).min(self.groups.len() + 1) {
                let Some(group) = self.groups.get(to - 1) else { break };
                total += group.len();
                let parted = to > i + 1
                    && match (separator, group.separator) {
                        (Some(Separator::Dot), other) => other != Separator::Dot,
                        (Some(Separator::Space | Separator::Dash), other) => {
                            !matches!(other, Separator::Space | Separator::Dash)
                        }
                        (Some(Separator::Slash), other) => other != Separator::Slash,
                        (Some(Separator::Under), other) => other != Separator::Under,
                        _ => true,
                    };
                // Nobody writes more than eight digits in one group, except thirteen after the issuer's six.
                let long = to - i > 1 && group.len() > 8 && (to - i, group.len()) != (2, 13);
                if group.used || total > 19 || parted || long {
                    break;
                }
                // `…1111USD` is a card; a hexadecimal letter after the digits makes them part of a hash.
                let glued = total < 15 || last_is_hex(self.text, group.end);
                let odd = to > i + 1
                    && matches!(separator, Some(Separator::Slash | Separator::Under))
                    && !self.printed(i, to);
                if odd || total < 12 || !self.stands_alone(i, to) || self.ends_in_letter(to) && glued {
                    continue;
                }
                let digits = self.collect(i, to, &mut buffer);
                let context = || {
                    let (Some(a), Some(b)) = (self.groups.get(i), self.groups.get(to - 1)) else { return hint };
                    Context::around(self.text, a.start, b.end, hint)
                };
                let glued = i == 0 && self.touched && digits.len() < 15;
                if !glued && is_card(digits, to - i, context) {
                    taken = to;
                }
            }
            if taken > 0 {
                self.take(i, taken, Some(Detector::Card), hits);
            }
            i = taken.max(i + 1);
        }
    }

    fn ssns(&mut self, hint: Context, hits: &mut Hits<'_>) {
        let mut buffer = [0; 24];
        for i in 0..self.groups.len() {
            let lens = [0, 1, 2].map(|k| self.groups.get(i + k).map_or(0, Group::len));
            let to = match lens {
                [9, ..] => i + 1,
                [3, 2, 4] if self.separator(i + 1) == self.separator(i + 2) => i + 3,
                _ => continue,
            };
            let named =
                || self.groups.first().is_some_and(|g| super::tail(self.text, g.start, 3).eq_ignore_ascii_case("ssn"));
            let touched = i == 0 && self.touched && !named();
            if !self.is_free(i, to) || !self.stands_alone(i, to) || self.ends_in_letter(to) || touched {
                continue;
            }
            let (Some(first), Some(last)) = (self.groups.get(i), self.groups.get(to - 1)) else { continue };
            let digits = self.collect(i, to, &mut buffer);
            let given_out = matches!(digits, [a, b, c, g, h, s @ ..]
                if [*a, *b, *c] != *b"000" && [*a, *b, *c] != *b"666" && [*g, *h] != *b"00" && s != b"0000");
            let country = self.plus && i > 0;
            let is_ssn = match self.separator(i + 1) {
                _ if Context::around(self.text, first.start, last.end, hint).ssn => true,
                // `+353 703 07 7829`
                _ if country => false,
                Some(Separator::Dash) if to == i + 3 => given_out,
                Some(Separator::Space | Separator::Dot | Separator::Under) if to == i + 3 => {
                    given_out && !Context::around(self.text, first.start, last.end, hint).phone
                }
                _ => false,
            };
            if is_ssn {
                self.take(i, to, Some(Detector::Ssn), hits);
            }
        }
    }
}

fn last_is_hex(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(|&b| b.is_ascii_hexdigit() || b == b'_')
}

/// The separator after the digits that end at `at`, and where the next digits begin.
fn separator_at(text: &str, at: usize) -> Option<(Separator, usize)> {
    let rest = text.get(at..)?;
    let mut separator = None;
    for (n, (offset, c)) in rest.char_indices().enumerate() {
        if c.is_ascii_digit() {
            return separator.map(|g| (g, at + offset));
        }
        let here = match c {
            ' ' | '\t' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' => Separator::Space,
            '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => Separator::Dash,
            '.' => Separator::Dot,
            '/' => Separator::Slash,
            '_' => Separator::Under,
            '(' => Separator::Open,
            ')' => Separator::Close,
            _ => return None,
        };
        separator = match (separator, here) {
            (None | Some(Separator::Space), here) => Some(here),
            // `) `, `)-` and `).` count as closing, ` - ` as a hyphen; `. ` ends a sentence and `/ ` separates two
            // numbers.
            (Some(Separator::Close), Separator::Space | Separator::Dash | Separator::Slash | Separator::Dot) => {
                Some(Separator::Close)
            }
            (Some(Separator::Close), Separator::Open) => Some(Separator::Open),
            (Some(Separator::Dash), Separator::Space | Separator::Dash) => Some(Separator::Dash),
            (Some(Separator::Dash), Separator::Open) => Some(Separator::Open),
            _ => return None,
        };
        // File and variable names contain it, with no other separator next to it.
        if separator == Some(Separator::Under)
            && !rest.get(1..).is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        {
            return None;
        }
        if n == 2 {
            let next = text.get(at + offset + c.len_utf8()..)?;
            return next
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| separator.map(|g| (g, at + offset + c.len_utf8())))?;
        }
    }
    None
}

/// How strongly a number's first digits and its length indicate a card.
#[derive(PartialEq, PartialOrd)]
enum Issuer {
    /// No issuer uses such numbers.
    None,
    /// Many other numbers look the same: the words around it must say that it is a card.
    Vague,
    Certain,
}

fn issuer(digits: &[u8]) -> Issuer {
    let prefix = digits.iter().take(4).fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    match (prefix, digits.len()) {
        // Visa; 13 digits can also be an article number.
        (4000..=4999, 16 | 19) => Issuer::Certain,
        (4000..=4999, 13) => Issuer::Vague,
        // Mastercard, American Express
        (5100..=5599 | 2221..=2720, 16) | (3400..=3499 | 3700..=3799, 15) => Issuer::Certain,
        // Diners Club
        (3000..=3059 | 3095..=3099 | 3600..=3699 | 3800..=3999, 14 | 16..=19) => Issuer::Certain,
        // Discover, UnionPay, RuPay
        (6011 | 6440..=6599 | 6200..=6299 | 8100..=8299, 16..=19) => Issuer::Certain,
        // JCB
        (3528..=3589, 16..=19) | (2131 | 1800, 15) => Issuer::Certain,
        // Mir, Troy, Verve, RuPay, Dankort, Hipercard
        (2200..=2204 | 9792 | 5060..=5089 | 5019 | 6062, 16..=19) => Issuer::Certain,
        // Maestro
        (5000..=5099 | 5600..=5899 | 6000..=6999, 12..=19) => Issuer::Vague,
        _ => Issuer::None,
    }
}

fn is_card(digits: &[u8], groups: usize, context: impl FnOnce() -> Context) -> bool {
    let luhn = luhn(digits);
    match issuer(digits) {
        // Without the spaces that are printed on cards, many other numbers look the same.
        Issuer::Certain if luhn && groups == 1 => {
            let context = context();
            context.card || !context.thing
        }
        Issuer::Certain if luhn => true,
        Issuer::Vague if luhn => context().card,
        // Four groups of four, and the words say that it is a card: a typing error does not matter.
        _ => (luhn && digits.len() >= 13 || groups == 4 && digits.len() == 16) && context().card,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (u32::from(d - b'0'), i % 2) {
            (d, 0) => d,
            (d, _) => d * 2 - if d > 4 { 9 } else { 0 },
        })
        .sum();
    sum.is_multiple_of(10)
}

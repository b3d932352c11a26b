//! Sets of sequence numbers: what a purge removed, what a hold keeps.
//!
//! Invariant R8: the ranges are ascending, disjoint and never adjacent, so a set has exactly one form in memory, one text,
//! one byte form and one digest.

use crate::json::Json;
use crate::{Error, ErrorKind, Hash, Result};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write};
use std::ops::Range;
use std::str::FromStr;

/// The largest sequence number: the largest integer that every JSON reader represents exactly.
const MAX_SEQ: u64 = crate::json::MAX_INT as u64;

/// A set of sequence numbers, held as ranges.
///
/// As text, and in JSON, a set is its ranges `first-last` in ascending order, both ends included, separated by commas.
/// Ranges are as long as they can be, and a single number is a range of its own: `0-4,7-7,9-20`. The digest is the SHA-256
/// of the same ranges with a newline after each, so anybody can recompute it: `printf '0-4\n7-7\n9-20\n' | sha256sum`.
///
/// ```
/// use attestlog::retention::SeqSet;
/// let set: SeqSet = [4, 9, 7, 8, 1].into_iter().collect();
/// assert_eq!(set.to_string(), "1-1,4-4,7-9");
/// assert_eq!(set.digest(), attestlog::Hash::of(b"1-1\n4-4\n7-9\n"));
/// assert_eq!(SeqSet::decode(&set.encode())?, set);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct SeqSet {
    /// First and last of each range.
    ranges: Vec<(u64, u64)>,
}

/// Which numbers of a range are in a set, one bit each.
#[derive(Debug)]
pub struct Bits {
    start: u64,
    words: Vec<u64>,
}

impl Bits {
    /// How many of the numbers from `from` up to but not including `end` are in the set; those outside the range are not counted.
    pub fn count(&self, from: u64, end: u64) -> u64 {
        self.masks(from, end).map(|(i, mask)| u64::from((self.words[i] & mask).count_ones())).sum()
    }

    /// The words that overlap the given range, each with a mask of its bits in the range.
    fn masks(&self, from: u64, end: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let from = from.max(self.start) - self.start;
        let end = (end.max(self.start) - self.start).min(self.words.len() as u64 * 64);
        (from / 64..end.div_ceil(64)).map(move |i| {
            let low = if i == from / 64 { u64::MAX << (from % 64) } else { u64::MAX };
            let high = if (i + 1) * 64 > end { u64::MAX >> ((i + 1) * 64 - end) } else { u64::MAX };
            (i as usize, low & high)
        })
    }
}

impl SeqSet {
    /// The set without members.
    pub fn new() -> SeqSet {
        SeqSet::default()
    }

    /// Adds a number. Fastest in ascending order.
    pub fn insert(&mut self, seq: u64) {
        self.insert_range(seq, seq);
    }

    /// Adds the numbers from `first` to `last`, both included; nothing if `last` is before `first`.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        match self.ranges.last_mut() {
            Some(end) if first >= end.0 && first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            Some(end) if first > end.1 => self.ranges.push((first, last)),
            None => self.ranges.push((first, last)),
            Some(_) => {
                let from = self.ranges.partition_point(|r| r.1.saturating_add(1) < first);
                let to = self.ranges.partition_point(|r| r.0 <= last.saturating_add(1));
                let joined = self.ranges.get(from..to).unwrap_or_default();
                let low = joined.first().map_or(first, |r| r.0.min(first));
                let high = joined.last().map_or(last, |r| r.1.max(last));
                self.ranges.splice(from..to, [(low, high)]);
            }
        }
    }

    /// Whether the set has this number.
    pub fn contains(&self, seq: u64) -> bool {
        self.contains_range(seq, seq)
    }

    /// Whether the set has every number from `first` to `last`.
    pub fn contains_range(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < first);
        last < first || self.ranges.get(at).is_some_and(|r| r.0 <= first && last <= r.1)
    }

    /// Whether the set has any number from `first` to `last`.
    pub fn intersects(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < first);
        last >= first && self.ranges.get(at).is_some_and(|r| r.0 <= last)
    }

    /// How many numbers the set has.
    pub fn len(&self) -> u64 {
        self.ranges.iter().fold(0, |n, r| n.saturating_add((r.1 - r.0).saturating_add(1)))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The smallest and the largest number.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.ranges.first()?.0, self.ranges.last()?.1))
    }

    /// The ranges, ascending and as long as they can be; first and last are included.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + ExactSizeIterator {
        self.ranges.iter().copied()
    }

    /// The ranges, clipped to the numbers between `first` and `last`, both included.
    pub fn ranges_within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let from = self.ranges.partition_point(|r| r.1 < first);
        let to = self.ranges.partition_point(|r| r.0 <= last);
        let inside = self.ranges.get(from..to).unwrap_or_default();
        inside.iter().map(move |r| (r.0.max(first), r.1.min(last)))
    }

    /// The first of these ascending numbers that is not in the set.
    pub fn first_outside(&self, seqs: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut seqs = seqs.into_iter();
        let mut seq = seqs.next()?;
        let from = self.ranges.partition_point(|r| r.1 < seq);
        for &(first, last) in self.ranges.get(from..).unwrap_or_default() {
            if seq < first {
                return Some(seq);
            }
            while seq <= last {
                seq = seqs.next()?;
            }
        }
        Some(seq)
    }

    /// The numbers of a range as bits, for testing many ranges in it.
    pub fn bits(&self, stretch: Range<u64>) -> Bits {
        let length = stretch.end.saturating_sub(stretch.start);
        let mut bits = Bits { start: stretch.start, words: vec![0; length.div_ceil(64) as usize] };
        for (first, last) in self.ranges_within(stretch.start, stretch.end.saturating_sub(1)) {
            bits.masks(first, last + 1).for_each(|(i, mask)| bits.words[i] |= mask);
        }
        bits
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().flat_map(|r| r.0..=r.1)
    }

    /// The union of both sets.
    pub fn union(&self, other: &SeqSet) -> SeqSet {
        let mut out = SeqSet { ranges: Vec::with_capacity(self.ranges.len() + other.ranges.len()) };
        let (mut a, mut b) = (self.ranges().peekable(), other.ranges().peekable());
        while let Some(next) = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if y < x => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        } {
            out.insert_range(next.0, next.1);
        }
        out
    }

    /// SHA-256 over `first-last` in decimal and a newline, for each range in ascending order.
    pub fn digest(&self) -> Hash {
        let (mut sha, mut line) = (Sha256::new(), String::new());
        for (first, last) in self.ranges() {
            line.clear();
            let _ = writeln!(line, "{first}-{last}");
            sha.update(&line);
        }
        Hash(sha.finalize().into())
    }

    /// The stored form: two LEB128 integers per range, the gap before it (without the one number that separates it from the
    /// range before it) and its length minus one. Two bytes for most ranges.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.ranges.len() * 2);
        let mut free = 0u64;
        for (first, last) in self.ranges() {
            put(&mut out, first.saturating_sub(free));
            put(&mut out, last - first);
            free = last.saturating_add(2);
        }
        out
    }

    /// Reads the form that [`SeqSet::encode`] writes. Takes memory in proportion to `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]: `encode` writes no such bytes.
    pub fn decode(bytes: &[u8]) -> Result<SeqSet> {
        let bad = || Error::new(ErrorKind::Damaged, "a stored set of sequence numbers is damaged");
        let mut ranges = Vec::with_capacity(bytes.len() / 2);
        let (mut rest, mut free) = (bytes, 0u64);
        while !rest.is_empty() {
            let gap = take(&mut rest).ok_or_else(bad)?;
            let more = take(&mut rest).ok_or_else(bad)?;
            let first = free.checked_add(gap).ok_or_else(bad)?;
            let last = first.checked_add(more).filter(|last| *last <= MAX_SEQ).ok_or_else(bad)?;
            ranges.push((first, last));
            free = last + 2;
        }
        Ok(SeqSet { ranges })
    }

    /// The text of the set, as a JSON string.
    pub fn to_json(&self) -> Json {
        Json::from(self.to_string())
    }

    /// Reads what [`SeqSet::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: not a string, or not the canonical text of a set.
    pub fn from_json(value: &Json) -> Result<SeqSet> {
        value.as_str().ok_or_else(|| Error::invalid(format!("must be a string, not {}", value.type_name())))?.parse()
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// One integer in its shortest form; `None` for anything else, or more than 63 bits.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for i in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return (byte != 0 || i == 0).then_some(n);
        }
    }
    None
}

impl fmt::Display for SeqSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges().enumerate() {
            write!(f, "{}{first}-{last}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for SeqSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

crate::json_form!(text SeqSet);

impl FromStr for SeqSet {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else: one set has one text.
    fn from_str(text: &str) -> Result<SeqSet> {
        let bad =
            || Error::invalid("a set of sequence numbers is written like 0-4,7-7,9-20, ascending, with gaps between");
        let number = |text: &str| {
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            text.parse::<u64>().ok().filter(|n| plain && *n <= MAX_SEQ).ok_or_else(bad)
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').ok_or_else(bad)?;
            let (first, last) = (number(first)?, number(last)?);
            if last < first || ranges.last().is_some_and(|r| first < r.1 + 2) {
                return Err(bad());
            }
            ranges.push((first, last));
        }
        Ok(SeqSet { ranges })
    }
}

impl FromIterator<u64> for SeqSet {
    fn from_iter<I: IntoIterator<Item = u64>>(seqs: I) -> SeqSet {
        let mut set = SeqSet::new();
        set.extend(seqs);
        set
    }
}

impl Extend<u64> for SeqSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, seqs: I) {
        seqs.into_iter().for_each(|seq| self.insert(seq));
    }
}

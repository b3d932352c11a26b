//! Compression of many similar short texts, each of which can be decompressed without the others.
//!
//! The texts of a block share a dictionary that grows with them. A part of a text that is not in the dictionary is added to
//! it if it is long enough to be likely to recur (the name of a tool, a role, the digest of a common result), and otherwise
//! stays in the text as literals (a number, an id). A compressed text refers only to the dictionary, never to another text,
//! so reading one means copying about ten pieces. Compressing all texts together would be smaller still, but reading one
//! would then cost as much as reading all.
//!
//! A compressed text is a sequence of steps up to its end: literals, then a piece of the dictionary. A step begins with one
//! byte. Its upper half encodes the number of literals: up to 7 of them stand as they are; from 8 on, they are two or more
//! lower-case hexadecimal digits, two per byte (the first in the upper half; the unused half of an odd last one is zero),
//! because ids and digests are mostly such digits. The lower half is zero for no piece, or the length of the piece less four.
//! The greatest number in each (7, 15, 15) means that further bytes are added to it, all but the last of them 255: before the
//! literals, and after the piece's position. The position is a zigzag varint, relative to the end of the previous piece plus
//! the number of literals in between; similar texts use the dictionary in the same order.
//!
//! Invariant B3: a piece lies within the dictionary, whatever a compressed text says.

use crate::hash::write_hex;
use crate::rows::{read_varint, unzigzag, write_varint, zigzag};
use std::collections::HashSet;

/// Slots of the hash table; a slot holds a position plus one, or zero for none.
const SLOTS: usize = 1 << 11;
/// The shortest piece. Four would save a byte, but would split new text into parts too short for the dictionary.
const LEAST: usize = 5;
/// New text of at least this length goes into the dictionary. Measured: shorter text is mostly ids, which do not recur.
const NEW: usize = 12;
/// New text is added to the dictionary in portions of this size, so that a long text can refer to its own earlier parts.
const TAKEN: usize = 256;
/// This many hexadecimal digits among other literals are worth a step of their own.
const DIGITS: usize = 4;
/// The most literals and digits that half a byte can express, the fewest digits, and the longest piece.
const RAW_FULL: usize = 7;
const DIGITS_LEAST: usize = 2;
const DIGITS_FULL: usize = DIGITS_LEAST + 7;
const PIECE_FULL: usize = 15;

/// The dictionary and its index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packer {
    dictionary: Vec<u8>,
    /// How much of it is used by texts that were kept.
    kept: usize,
    table: Vec<u16>,
    /// What looks like an id is added to the dictionary only when it comes a second time.
    ids: HashSet<Vec<u8>>,
    /// The ids of the last compressed text.
    new_ids: Vec<Vec<u8>>,
    steps: Vec<Step>,
}

/// Literal bytes of the text, then a piece of the dictionary.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: usize,
    to: usize,
    digits: bool,
    place: usize,
    length: usize,
}

impl Packer {
    /// Starts over with an empty dictionary.
    pub(crate) fn clear(&mut self) {
        self.dictionary.clear();
        self.kept = 0;
        self.table.clear();
        self.ids.clear();
    }

    /// The part of the dictionary that kept texts refer to.
    pub(crate) fn dictionary(&self) -> &[u8] {
        &self.dictionary[..self.kept]
    }

    /// The length of the dictionary including the additions of the last compressed text.
    pub(crate) fn len(&self) -> usize {
        self.dictionary.len()
    }

    /// Appends the compressed `text` to `out`. Its additions to the dictionary are dropped by the next call unless
    /// [`Packer::keep`] follows.
    pub(crate) fn pack(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.table.resize(SLOTS, 0);
        self.dictionary.truncate(self.kept);
        self.new_ids.clear();
        self.steps.clear();
        let (mut at, mut done) = (0, 0);
        while let Some(least) = text.get(at..at + LEAST) {
            let Some(found) = self.find(least) else {
                at += 1;
                if at - done >= TAKEN {
                    self.literal(text, done, at);
                    done = at;
                }
                continue;
            };
            let before = text[done..at].iter().rev().zip(self.dictionary[..found].iter().rev());
            let before = before.take_while(|(a, b)| a == b).count();
            let after = text[at + LEAST..].iter().zip(&self.dictionary[found + LEAST..]);
            let after = after.take_while(|(a, b)| a == b).count();
            let start = at - before;
            self.literal(text, done, start);
            at += LEAST + after;
            done = at;
            self.piece(start, found - before, at - start);
        }
        self.literal(text, done, text.len());
        let mut expected = 0;
        for step in &self.steps {
            expected = step.write(text, expected, out);
        }
    }

    /// Keeps the dictionary additions of the last compressed text.
    pub(crate) fn keep(&mut self) {
        self.kept = self.dictionary.len();
        self.ids.extend(self.new_ids.drain(..));
    }

    fn find(&self, least: &[u8]) -> Option<usize> {
        let place = usize::from(self.table[slot(least)]).checked_sub(1)?;
        // The table may still hold positions from a text that was not kept.
        (self.dictionary.get(place..place + LEAST)? == least).then_some(place)
    }

    /// Adds a part of the text that is not in the dictionary.
    fn literal(&mut self, text: &[u8], from: usize, to: usize) {
        let new = &text[from..to];
        if new.len() < NEW {
            return self.plain(text, from, to);
        }
        if is_id(new) && !self.ids.contains(new) {
            self.new_ids.push(new.to_vec());
            return self.plain(text, from, to);
        }
        let place = self.dictionary.len();
        self.dictionary.extend_from_slice(new);
        let first = place.saturating_sub(LEAST - 1);
        for (at, least) in (first..usize::from(u16::MAX)).zip(self.dictionary[first..].windows(LEAST)) {
            // The first position of a sequence stays in the table: texts use the dictionary in its order.
            let known = usize::from(self.table[slot(least)]).checked_sub(1);
            if known.and_then(|known| self.dictionary.get(known..known + LEAST)) != Some(least) {
                self.table[slot(least)] = at as u16 + 1;
            }
        }
        self.piece(from, place, to - from);
    }

    /// Adds literals.
    fn plain(&mut self, text: &[u8], from: usize, to: usize) {
        let mut start = from;
        let mut at = from;
        while at < to {
            let digits = text[at..to].iter().take_while(|byte| is_digit(**byte)).count();
            let worth = digits >= DIGITS || digits >= DIGITS_LEAST && at == from && at + digits == to;
            if worth {
                self.literals(start, at, false);
                self.literals(at, at + digits, true);
                start = at + digits;
            }
            at += digits.max(1);
        }
        self.literals(start, to, false);
    }

    fn literals(&mut self, from: usize, to: usize, digits: bool) {
        if from < to {
            self.steps.push(Step { from, to, digits, place: 0, length: 0 });
        }
    }

    /// Adds a piece after literals or, where it continues the previous piece, extends that.
    fn piece(&mut self, at: usize, place: usize, length: usize) {
        match self.steps.last_mut() {
            Some(last) if last.length == 0 => (last.place, last.length) = (place, length),
            Some(last) if last.place + last.length == place => last.length += length,
            _ => self.steps.push(Step { from: at, to: at, digits: false, place, length }),
        }
    }
}

impl Step {
    /// Encodes the step, and returns the position where the next piece is expected.
    fn write(&self, text: &[u8], expected: usize, out: &mut Vec<u8>) -> usize {
        let expected = expected + self.to - self.from;
        let literals = &text[self.from..self.to];
        let piece = self.length.saturating_sub(LEAST - 1);
        let (said, full) = match self.digits {
            true => (8 + literals.len().min(DIGITS_FULL) - DIGITS_LEAST, DIGITS_FULL),
            false => (literals.len().min(RAW_FULL), RAW_FULL),
        };
        out.push((said << 4 | piece.min(PIECE_FULL)) as u8);
        more(literals.len(), full, out);
        match self.digits {
            true => {
                out.extend(literals.chunks(2).map(|pair| value(pair[0]) << 4 | pair.get(1).map_or(0, |d| value(*d))))
            }
            false => out.extend_from_slice(literals),
        }
        if piece == 0 {
            return expected;
        }
        write_varint(zigzag(self.place as i64 - expected as i64), out);
        more(piece, PIECE_FULL, out);
        self.place + self.length
    }
}

/// Whether the text is mostly digits that can be packed.
fn is_id(text: &[u8]) -> bool {
    let runs = text.split(|byte| !is_digit(*byte)).map(<[u8]>::len);
    runs.filter(|&digits| digits >= DIGITS_LEAST).sum::<usize>() * 3 >= text.len() * 2
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn value(digit: u8) -> u8 {
    if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
}

/// The table slot of the bytes that a piece begins with.
fn slot(least: &[u8]) -> usize {
    let (first, last) = least
        .split_first_chunk()
        .map_or((0, 0), |(first, rest)| (u32::from_le_bytes(*first), rest.first().copied().unwrap_or_default()));
    let mixed = first ^ u32::from(last).wrapping_mul(0x85eb_ca6b);
    (mixed.wrapping_mul(0x9e37_79b1) >> (32 - SLOTS.ilog2())) as usize
}

/// Appends the part of a length that exceeds `full`, the most that half a byte can express.
fn more(n: usize, full: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = n.checked_sub(full) else { return };
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

/// Decompresses `packed` to at most `limit` bytes; `None` if it is damaged or longer.
pub(crate) fn unpack(mut packed: &[u8], dictionary: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(limit.min(packed.len() * 4));
    let mut expected = 0usize;
    while let Some((&step, rest)) = packed.split_first() {
        let said = usize::from(step >> 4);
        packed = if said < 8 {
            let (literals, rest) = length(said, RAW_FULL, rest)?;
            let (literals, rest) = rest.split_at_checked(literals)?;
            text.extend_from_slice(literals);
            expected += literals.len();
            rest
        } else {
            let (digits, rest) = length(said - 8 + DIGITS_LEAST, DIGITS_FULL, rest)?;
            let (pairs, rest) = rest.split_at_checked(digits.div_ceil(2))?;
            for some in pairs.chunks(16) {
                let mut written = [0; 32];
                write_hex(some, &mut written);
                text.extend_from_slice(&written[..some.len() * 2]);
            }
            if digits % 2 == 1 && text.pop() != Some(b'0') {
                return None;
            }
            expected += digits;
            rest
        };
        if step & 15 > 0 {
            let (farther, rest) = read_varint(packed)?;
            let (piece, rest) = length(usize::from(step & 15), PIECE_FULL, rest)?;
            let place = expected.checked_add_signed(isize::try_from(unzigzag(farther)).ok()?)?;
            let end = place.checked_add(piece.checked_add(LEAST - 1)?)?;
            text.extend_from_slice(dictionary.get(place..end)?);
            expected = end;
            packed = rest;
        }
        if text.len() > limit {
            return None;
        }
    }
    Some(text)
}

/// Decodes a length whose first part is `said`; returns it and the remaining bytes.
fn length(said: usize, full: usize, mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = said;
    if said == full {
        loop {
            let (&more, rest) = bytes.split_first()?;
            bytes = rest;
            length = length.checked_add(usize::from(more))?;
            if more < 255 {
                break;
            }
        }
    }
    Some((length, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Compresses the texts, checks that each decompresses with the final dictionary, and returns the total size.
    fn there_and_back(texts: &[Vec<u8>]) -> usize {
        let mut packer = Packer::default();
        let mut all = Vec::new();
        for text in texts {
            let mut packed = Vec::new();
            packer.pack(b"something else that is not kept, and is longer than the text before", &mut packed);
            packed.clear();
            packer.pack(text, &mut packed);
            packer.keep();
            all.push(packed);
        }
        for (text, packed) in texts.iter().zip(&all) {
            assert_eq!(unpack(packed, packer.dictionary(), text.len()).as_ref(), Some(text));
            assert!(text.is_empty() || unpack(packed, packer.dictionary(), text.len() - 1).is_none(), "over the limit");
        }
        packer.dictionary().len() + all.iter().map(Vec::len).sum::<usize>()
    }

    proptest! {
        #[test]
        fn texts_come_back(texts in prop::collection::vec(prop::collection::vec(0u8..4, 0..300), 0..8)) {
            there_and_back(&texts);
        }

        #[test]
        fn ids_come_back(texts in prop::collection::vec("([0-9a-f]{0,40}[-x{\"]{0,3}){0,6}", 0..8)) {
            there_and_back(&texts.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn bytes_come_back(texts: Vec<Vec<u8>>) {
            there_and_back(&texts);
        }

        #[test]
        fn whatever_bytes_are_a_text_or_none(packed: Vec<u8>, dictionary: Vec<u8>) {
            if let Some(text) = unpack(&packed, &dictionary, 1000) {
                prop_assert!(text.len() <= 1000);
            }
        }
    }

    #[test]
    fn long_texts_come_back() {
        let long: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        there_and_back(&[long[..100].to_vec(), long.clone(), vec![7; 70_000], long[..60_000].to_vec()]);
        there_and_back(&[long[..70_000].to_vec(), long[1000..2000].to_vec(), Vec::new()]);
        there_and_back(&[vec![b'x'; 65_535], vec![b'x'; 65_536], vec![b'x'; 12]]);
    }

    #[test]
    fn alike_texts_become_small() {
        let text = |n: u32| format!(r#"{{"conversation":"conv_{n}","tool":"get_record","status":"ok"}}"#).into_bytes();
        let first = there_and_back(&[text(1)]);
        assert!(there_and_back(&[text(1), text(712)]) < first + 16);
        // A long text refers to its own earlier parts.
        assert!(there_and_back(&[text(1).repeat(40)]) < 400);
        // A digest takes half its length, and its repetitions almost nothing.
        let digest = crate::Hash::of(b"").to_string().into_bytes();
        let alone = there_and_back(std::slice::from_ref(&digest));
        assert!(alone < 36, "{alone}");
        let ten = there_and_back(&vec![digest; 10]);
        assert!(ten < 36 + 64 + 9 * 5, "{ten}");
    }
}

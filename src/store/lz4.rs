//! LZ4 compression of many short texts against one dictionary.
//!
//! What it writes is LZ4's block format, which `lz4_flex` reads. Writing it here costs a third of what it does there: the
//! dictionary is taken in once a block and not once an entry, every place of it can be matched, and nothing is allocated
//! for an entry.
//!
//! Invariant B3: no match reaches over the end of the dictionary, and the last five bytes are literals, as the format asks.

/// Slots of the table; a place stands in it plus one, and zero is none.
const SLOTS: usize = 1 << 11;
const MIN_MATCH: usize = 4;
/// No match begins in the last bytes.
const NO_MATCH: usize = 12;
const LITERALS_AT_END: usize = 5;
/// Places and distances are 16 bits wide.
const WINDOW: usize = 1 << 16;

/// A dictionary, ready to compress texts against.
#[derive(Debug, Clone, Default)]
pub(super) struct Packer {
    /// The dictionary, and behind it the text that is being compressed.
    window: Vec<u8>,
    dictionary: usize,
    /// Where the dictionary has which four bytes.
    known: Vec<u16>,
    table: Vec<u16>,
}

impl Packer {
    /// Takes this dictionary from now on.
    pub(super) fn set_dictionary(&mut self, dictionary: &[u8]) {
        self.window.clear();
        self.window.extend_from_slice(dictionary);
        self.dictionary = dictionary.len();
        self.known.clear();
        self.known.resize(SLOTS, 0);
        if dictionary.len() < WINDOW {
            for (place, four) in (1u16..).zip(dictionary.windows(MIN_MATCH)) {
                self.known[slot(four)] = place;
            }
        }
    }

    /// Appends `text`, compressed against the dictionary, to `out`.
    pub(super) fn compress(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let from = self.dictionary;
        if from + text.len() >= WINDOW {
            out.extend(lz4_flex::block::compress_with_dict(text, &self.window[..from]));
            return;
        }
        self.window.truncate(from);
        self.window.extend_from_slice(text);
        self.table.clear();
        self.table.extend_from_slice(&self.known);
        let window = &self.window[..];
        let end = window.len();
        let (mut at, mut done) = (from, from);
        while at + NO_MATCH <= end {
            let four = &window[at..at + MIN_MATCH];
            let place = std::mem::replace(&mut self.table[slot(four)], at as u16 + 1);
            let Some(earlier) = (place as usize).checked_sub(1).filter(|&e| window[e..e + MIN_MATCH] == *four) else {
                // Texts without matches are passed over faster and faster.
                at += 1 + ((at - done) >> 6);
                continue;
            };
            let (mut start, mut source) = (at, earlier);
            while start > done && source > 0 && source != from && window[start - 1] == window[source - 1] {
                start -= 1;
                source -= 1;
            }
            let room = end - LITERALS_AT_END - at;
            let room = if earlier < from { room.min(from - earlier) } else { room };
            let same = window[at..at + room].iter().zip(&window[earlier..earlier + room]).take_while(|(a, b)| a == b);
            let stop = at + same.count();
            if stop - start < MIN_MATCH {
                at += 1;
                continue;
            }
            sequence(&window[done..start], Some((start - source, stop - start)), out);
            at = stop;
            done = stop;
        }
        sequence(&window[done..], None, out);
    }
}

/// Which slot four bytes have.
fn slot(four: &[u8]) -> usize {
    let four = four.first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    (four.wrapping_mul(2_654_435_761) >> (32 - SLOTS.ilog2())) as usize
}

/// Literals, and then a match: how far back and how long.
fn sequence(literals: &[u8], found: Option<(usize, usize)>, out: &mut Vec<u8>) {
    let extra = found.map_or(0, |(_, length)| length - MIN_MATCH);
    out.push((literals.len().min(15) << 4 | extra.min(15)) as u8);
    length(literals.len(), out);
    out.extend_from_slice(literals);
    if let Some((back, _)) = found {
        out.extend_from_slice(&(back as u16).to_le_bytes());
        length(extra, out);
    }
}

/// What of a length the token has no room for.
fn length(n: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = n.checked_sub(15) else { return };
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(dictionary: &[u8], texts: &[Vec<u8>]) -> usize {
        let mut packer = Packer::default();
        packer.set_dictionary(dictionary);
        let mut bytes = 0;
        for text in texts {
            let mut packed = Vec::new();
            packer.compress(text, &mut packed);
            bytes += packed.len();
            let again = lz4_flex::block::decompress_with_dict(&packed, text.len(), dictionary).unwrap();
            assert_eq!(again, *text);
        }
        bytes
    }

    proptest! {
        #[test]
        fn texts_come_back(
            dictionary in prop::collection::vec(0u8..4, 0..200),
            texts in prop::collection::vec(prop::collection::vec(0u8..4, 0..300), 0..8),
        ) {
            there_and_back(&dictionary, &texts);
        }

        #[test]
        fn bytes_come_back(dictionary: Vec<u8>, texts: Vec<Vec<u8>>) {
            there_and_back(&dictionary, &texts);
        }
    }

    #[test]
    fn long_texts_come_back() {
        let long: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        there_and_back(&long[..100], &[long.clone(), vec![7; 70_000], long[..60_000].to_vec()]);
        there_and_back(&long[..70_000], &[long[1000..2000].to_vec(), Vec::new()]);
        there_and_back(&[], &[vec![b'x'; 65_535], vec![b'x'; 65_536], vec![b'x'; 12]]);
    }

    #[test]
    fn alike_texts_become_small() {
        let text = |n: u32| format!(r#"{{"conversation":"conv_{n}","tool":"get_record","status":"ok"}}"#).into_bytes();
        assert!(there_and_back(&text(1), &[text(712)]) < 20);
    }
}

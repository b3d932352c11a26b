//! Lists of words that keys and texts are looked up in often: hash tables in which most lookups miss.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The program's own words with a value for each. They are not chosen by an attacker, so a simple hash of their letters
/// is enough.
pub(super) struct Table<V> {
    words: HashMap<&'static [u8], V, BuildHasherDefault<Letters>>,
    /// The last two letters of all words.
    ends: [u64; 16],
}

impl<V: Copy> Table<V> {
    /// If a word is listed twice, the last one counts.
    pub(super) fn of(words: impl IntoIterator<Item = (&'static [u8], V)>) -> Table<V> {
        let words: HashMap<_, _, _> = words.into_iter().collect();
        let mut ends = [0; 16];
        for word in words.keys() {
            let end = end(word);
            if let Some(bits) = ends.get_mut(end >> 6) {
                *bits |= 1 << (end & 63);
            }
        }
        Table { words, ends }
    }

    /// The value of a word.
    pub(super) fn get(&self, word: &[u8]) -> Option<V> {
        self.words.get(word).copied()
    }

    pub(super) fn has(&self, word: &[u8]) -> bool {
        self.words.contains_key(word)
    }

    /// Whether the text ends in the last two letters of some word.
    pub(super) fn ends_like(&self, text: &[u8]) -> bool {
        let end = end(text);
        self.ends.get(end >> 6).is_some_and(|bits| bits >> (end & 63) & 1 == 1)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static [u8]> {
        self.words.keys().copied()
    }
}

fn end(word: &[u8]) -> usize {
    match word {
        [.., a, b] => usize::from(a & 31) << 5 | usize::from(b & 31),
        [a] => usize::from(a & 31),
        [] => 0,
    }
}

/// FNV-1a, spread over all bits. The hasher of the standard library withstands attackers and takes nearly twice as long.
#[derive(Default)]
struct Letters(u32);

impl Hasher for Letters {
    fn write(&mut self, word: &[u8]) {
        self.0 = word.iter().fold(self.0, |sum, b| (sum ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    }

    /// The length comes before the letters.
    fn write_usize(&mut self, length: usize) {
        self.0 = 0xcbf2_9ce4 ^ length as u32;
    }

    fn finish(&self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

//! Lists of words that keys and texts are looked up in again and again: a table that most words are not in.

/// Words of the program's own, each with what it says. Nobody else chooses them, so a simple sum over their letters spreads them.
pub(super) struct Table<V> {
    slots: Vec<Option<(&'static [u8], V)>>,
    /// Which letters they end in, the last two.
    ends: [u64; 16],
}

impl<V: Copy> Table<V> {
    /// Where a word is listed twice, the last one counts.
    pub(super) fn of(words: impl IntoIterator<Item = (&'static [u8], V)>) -> Table<V> {
        let words: Vec<_> = words.into_iter().collect();
        let mut slots = vec![None; (words.len() * 4).next_power_of_two()];
        let mut ends = [0; 16];
        for (word, value) in words {
            let end = end(word);
            if let Some(bits) = ends.get_mut(end >> 6) {
                *bits |= 1 << (end & 63);
            }
            let mut at = place(word, slots.len());
            while slots.get(at).is_some_and(|slot| slot.as_ref().is_some_and(|(other, _)| *other != word)) {
                at = (at + 1) & (slots.len() - 1);
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = Some((word, value));
            }
        }
        Table { slots, ends }
    }

    /// What the word says.
    pub(super) fn get(&self, word: &[u8]) -> Option<V> {
        let mut at = place(word, self.slots.len());
        while let Some((other, value)) = self.slots.get(at)? {
            if *other == word {
                return Some(*value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    pub(super) fn has(&self, word: &[u8]) -> bool {
        self.get(word).is_some()
    }

    /// Whether the last two letters are those of a word.
    pub(super) fn ends_like(&self, text: &[u8]) -> bool {
        let end = end(text);
        self.ends.get(end >> 6).is_some_and(|bits| bits >> (end & 63) & 1 == 1)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static [u8]> {
        self.slots.iter().flatten().map(|(word, _)| *word)
    }
}

fn end(word: &[u8]) -> usize {
    match word {
        [.., a, b] => usize::from(a & 31) << 5 | usize::from(b & 31),
        [a] => usize::from(a & 31),
        [] => 0,
    }
}

/// The length of a table is a power of two.
fn place(word: &[u8], len: usize) -> usize {
    let sum = word.iter().fold(0xcbf2_9ce4u32, |sum, b| (sum ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    (sum ^ sum >> 15) as usize & (len - 1)
}

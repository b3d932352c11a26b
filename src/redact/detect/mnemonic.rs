//! Wallet recovery phrases (BIP 39) of 12 to 24 words, anywhere in a text. Twelve consecutive words from the list of
//! 2,048 do not occur by chance, because *the*, *is*, *a* and *to* are not in it.

use super::{Hits, before};
use crate::redact::policy::Detector;
use crate::redact::words::Table;
use std::sync::LazyLock;

static WORDS: LazyLock<Table<()>> = LazyLock::new(|| {
    Table::of(include_str!("mnemonic_words.txt").split_ascii_whitespace().map(|word| (word.as_bytes(), ())))
});

/// The minimum number of words in a phrase, and its minimum length in bytes.
const FEWEST: usize = 12;
const SHORTEST: usize = FEWEST * 3 + FEWEST - 1;
/// The distance between positions that are checked: every phrase covers one of them before its last word.
const STEP: usize = SHORTEST - 12;

pub(super) fn is_word(word: &str) -> bool {
    WORDS.has(word.as_bytes())
}

/// Finds phrases of lower-case words separated by spaces, commas or line ends. One word per `STEP` bytes, which is less
/// than the shortest phrase, is looked up; only if it is in the list is the text around it read in both directions.
pub(super) fn find(text: &str, hits: &mut Hits<'_>) {
    let bytes = text.as_bytes();
    let mut at = STEP;
    let mut done = 0;
    while at < bytes.len() {
        let next = at + STEP;
        let word = word_around(bytes, at, done);
        match word.filter(|&(start, end)| WORDS.has(&bytes[start..end])) {
            None => at = next,
            Some((start, end)) => {
                let (mut first, mut last, mut count) = (start, end, 1);
                while let Some((start, _)) = previous(bytes, first, done) {
                    (first, count) = (start, count + 1);
                }
                while let Some((_, end)) = following(bytes, last) {
                    (last, count) = (end, count + 1);
                }
                if count >= FEWEST {
                    hits.add(Detector::Credential, first, last);
                }
                done = last;
                at = next.max(last + 1);
            }
        }
    }
}

/// The word that contains the byte at `at`, or the word after it.
fn word_around(bytes: &[u8], mut at: usize, done: usize) -> Option<(usize, usize)> {
    at += bytes.get(at..)?.iter().take(3).take_while(|b| is_gap(**b)).count();
    let mut start = at;
    while start > done && at - start < 9 && before(bytes, start).is_some_and(|b| b.is_ascii_lowercase()) {
        start -= 1;
    }
    word_from(bytes, start)
}

fn word_from(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(start..)?;
    let len = rest.iter().take(9).take_while(|b| b.is_ascii_lowercase()).count();
    (3..=8).contains(&len).then_some((start, start + len))
}

fn is_gap(b: u8) -> bool {
    matches!(b, b' ' | b',' | b'\n' | b'\t' | b'\r')
}

fn following(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    let gap = bytes.get(end..)?.iter().take(4).take_while(|b| is_gap(**b)).count();
    let word = word_from(bytes, end + gap).filter(|_| (1..4).contains(&gap))?;
    WORDS.has(&bytes[word.0..word.1]).then_some(word)
}

fn previous(bytes: &[u8], start: usize, done: usize) -> Option<(usize, usize)> {
    let mut end = start;
    while end > done && start - end < 4 && before(bytes, end).is_some_and(is_gap) {
        end -= 1;
    }
    let mut from = end;
    while from > done && end - from < 9 && before(bytes, from).is_some_and(|b| b.is_ascii_lowercase()) {
        from -= 1;
    }
    let fits = (1..4).contains(&(start - end)) && (3..=8).contains(&(end - from));
    (fits && WORDS.has(&bytes[from..end])).then_some((from, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        assert_eq!(WORDS.keys().count(), 2048);
        assert!(WORDS.keys().all(|w| (3..=8).contains(&w.len())));
    }
}

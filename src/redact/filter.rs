//! A filter for keys that may name a secret or a personal number, by their last letters and by how secret names begin.
//! Most keys do not pass, and nothing else is checked for them; keys that pass are read as words (`secret_keys`).

use super::names::{NAMES, QUALIFIERS};
use super::secret_keys::{Fit, Kind};
use std::sync::LazyLock;

/// How many letters of a name's end, and of its beginning, are compared.
const END: usize = 5;
const BEGIN: usize = 6;
/// The length of the beginning that is compared for shorter names. More keys contain such a beginning.
const SHORT: usize = 3;
const BITS: u32 = 15;
/// How many bytes of a key are read, counted from its end.
const SPAN: usize = 63;

struct Filter {
    table: Vec<u8>,
    /// The first two letters of all beginnings: most letters of a key start none of them.
    pairs: [u64; 16],
}

/// The flags in a slot of the table.
const ENDS: u8 = 1;
/// The end of a name, for a key that consists of it alone: the rest of the name may be in the parent key.
const WHOLE: u8 = 2;
const BEGINS: u8 = 4;

fn place(letters: u32, len: usize) -> usize {
    ((letters ^ (len as u32) << 27).wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

fn add(letters: u32, b: u8) -> u32 {
    letters << 5 | u32::from(b & 31)
}

static FILTER: LazyLock<Filter> = LazyLock::new(|| {
    let (mut table, mut pairs) = (vec![0u8; 1 << BITS], [0u64; 16]);
    let mut mark = |letters: &[u8], what: u8| {
        let at = place(letters.iter().fold(0, |sum, b| add(sum, *b)), letters.len());
        if let Some(slot) = table.get_mut(at) {
            *slot |= what;
        }
    };
    for (kind, fit, names) in NAMES {
        for name in names.split_ascii_whitespace().map(str::as_bytes) {
            mark(&name[name.len().saturating_sub(END)..], ENDS);
            (2..=END.min(name.len())).for_each(|len| mark(&name[name.len() - len..], WHOLE));
            // `key` and `pat`, as vendors use them, may be followed only by known words, and these mark their own ends.
            if *kind == Kind::Secret && *fit != Fit::Whole && !matches!(name, b"key" | b"pat") {
                let begin = if name.len() < BEGIN { SHORT.min(name.len()) } else { BEGIN };
                mark(&name[..begin], BEGINS);
                let pair = name.iter().take(2).fold(0, |sum, b| add(sum, *b)) as usize;
                if let Some(bits) = pairs.get_mut(pair >> 6) {
                    *bits |= 1 << (pair & 63);
                }
            }
        }
    }
    for word in QUALIFIERS.split_ascii_whitespace().map(str::as_bytes) {
        mark(&word[word.len().saturating_sub(END)..], ENDS);
    }
    Filter { table, pairs }
});

/// Whether a key may name a secret.
pub(crate) fn may_be_secret(key: &str) -> bool {
    if !key.is_ascii() {
        return true;
    }
    let says = |letters: u32, len: usize| FILTER.table.get(place(letters, len)).copied().unwrap_or(u8::MAX);
    let bytes = key.as_bytes();
    let bytes = &bytes[bytes.len().saturating_sub(SPAN)..];
    // The last letters, in reverse order.
    let (mut last, mut len) = ([0u8; END + 1], 0);
    for b in bytes.iter().rev().filter(|b| b.is_ascii_alphanumeric()).skip_while(|b| b.is_ascii_digit()) {
        let Some(slot) = last.get_mut(len) else { break };
        (*slot, len) = (*b, len + 1);
    }
    let ends = |last: &[u8]| {
        let (mut letters, whole) = (0, last.len() <= END);
        last.iter().take(END).enumerate().any(|(i, b)| {
            letters |= u32::from(b & 31) << (5 * i);
            let said = says(letters, i + 1);
            said & ENDS != 0 || whole && i + 1 == last.len() && said & WHOLE != 0
        })
    };
    let plural = matches!(last.first(), Some(b's' | b'S'));
    if len < 2 {
        return false;
    }
    if ends(&last[..len]) || plural && ends(&last[1..len]) {
        return true;
    }
    // The first two letters are looked up in a small table; the large table is read only if they match.
    let pairs = &FILTER.pairs;
    let paired = |letters: u32| {
        let pair = letters as usize & 1023;
        pairs.get(pair >> 6).is_some_and(|bits| bits >> (pair & 63) & 1 == 1)
    };
    let (mut letters, mut count) = (0u32, 0);
    bytes.iter().filter(|b| b.is_ascii_alphanumeric()).any(|b| {
        (letters, count) = (add(letters, *b) & 0x3fff_ffff, count + 1);
        (2..=SHORT).any(|len| {
            let begun = letters & ((1 << (5 * len)) - 1);
            count >= len && paired(begun >> (5 * (len - 2))) && says(begun, len) & BEGINS != 0
        }) || count >= BEGIN && paired(letters >> (5 * (BEGIN - 2))) && says(letters, BEGIN) & BEGINS != 0
    })
}

//! SHA-256 hashes, on which every proof rests.
//!
//! Leaves and inner nodes are hashed in different domains, as in RFC 6962 section 2.1: a leaf is prefixed with a zero
//! byte, an inner node with a one byte, so that no node can be passed off as an entry.

use crate::json::form;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::block_api::compress256;
use std::fmt;
use std::slice::from_ref;
use std::str::FromStr;

/// A SHA-256 value. Prints and parses as 64 lower-case hexadecimal digits.
///
/// ```
/// use attestlog::Hash;
/// let h = Hash::leaf(b"");
/// assert_eq!(h.to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
/// assert_eq!(h.to_string().parse::<Hash>().unwrap(), h);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

/// SHA-256's state before the first block (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

impl Hash {
    /// 32 zero bytes: the previous hash of the first entry.
    pub const ZERO: Hash = Hash([0; 32]);

    /// SHA-256 of `data`, without a prefix.
    pub fn of(data: &[u8]) -> Hash {
        Padded::new(None, data).hash()
    }

    /// The RFC 6962 leaf hash: SHA-256(0x00 || data).
    pub fn leaf(data: &[u8]) -> Hash {
        Padded::new(Some(0), data).hash()
    }

    /// The leaf hashes of two texts. Each round of SHA-256 depends on the one before it; interleaving the blocks of two texts
    /// keeps the processor busy and takes a fifth less time than hashing one after the other.
    pub fn leaves(a: &[u8], b: &[u8]) -> [Hash; 2] {
        let (a, b) = (Padded::new(Some(0), a), Padded::new(Some(0), b));
        let (mut state_a, mut state_b) = (INITIAL, INITIAL);
        for i in 0..a.len().max(b.len()) {
            a.block(i).into_iter().for_each(|block| compress256(&mut state_a, from_ref(block)));
            b.block(i).into_iter().for_each(|block| compress256(&mut state_b, from_ref(block)));
        }
        [Hash::from_state(state_a), Hash::from_state(state_b)]
    }

    /// The RFC 6962 node hash: SHA-256(0x01 || left || right).
    pub fn node(left: &Hash, right: &Hash) -> Hash {
        // Always 65 bytes, so the padded blocks are built by hand: a quarter faster than the hasher, which has to buffer.
        let mut blocks = [[0u8; 64]; 2];
        let bytes = blocks.as_flattened_mut();
        bytes[0] = 1;
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..65].copy_from_slice(&right.0);
        bytes[65] = 0x80;
        bytes[120..].copy_from_slice(&(65u64 * 8).to_be_bytes());
        let mut state = INITIAL;
        compress256(&mut state, &blocks);
        Hash::from_state(state)
    }

    fn from_state(state: [u32; 8]) -> Hash {
        let mut hash = Hash::ZERO;
        for (out, word) in hash.0.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *out = word.to_be_bytes();
        }
        hash
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits as ASCII bytes, without an allocation.
    pub fn hex(&self) -> [u8; 64] {
        let mut out = [0u8; 64];
        write_hex(&self.0, &mut out);
        out
    }
}

/// The padded blocks of a message that is contiguous in memory (FIPS 180-4, section 5.1.1). An incremental hasher has to
/// buffer its input and takes a sixth longer for a line.
struct Padded<'a> {
    /// The domain byte and the first 63 bytes of data, if there is a domain and that much data.
    first: Option<[u8; 64]>,
    middle: &'a [[u8; 64]],
    /// The rest of the message and its padding: one block or two.
    last: [[u8; 64]; 2],
    lasts: usize,
}

impl Padded<'_> {
    fn new(domain: Option<u8>, data: &[u8]) -> Padded<'_> {
        let mut last = [[0u8; 64]; 2];
        let bytes = last.as_flattened_mut();
        let (mut first, mut rest, mut at) = (None, data, 0);
        if let Some(domain) = domain {
            if let Some((head, behind)) = data.split_first_chunk::<63>() {
                let mut block = [domain; 64];
                block[1..].copy_from_slice(head);
                (first, rest) = (Some(block), behind);
            } else {
                bytes[0] = domain;
                at = 1;
            }
        }
        let (middle, rest) = rest.as_chunks::<64>();
        // A short message is entirely in `rest`, after its domain byte.
        let end = at + rest.len();
        bytes[at..end].copy_from_slice(rest);
        bytes[end] = 0x80;
        let lasts = if end < 56 { 1 } else { 2 };
        let bits = (u64::from(domain.is_some()) + data.len() as u64) * 8;
        bytes[lasts * 64 - 8..lasts * 64].copy_from_slice(&bits.to_be_bytes());
        Padded { first, middle, last, lasts }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.middle.len() + self.lasts
    }

    fn block(&self, i: usize) -> Option<&[u8; 64]> {
        let Some(i) = i.checked_sub(usize::from(self.first.is_some())) else { return self.first.as_ref() };
        match i.checked_sub(self.middle.len()) {
            None => self.middle.get(i),
            Some(i) => self.last[..self.lasts].get(i),
        }
    }

    fn hash(&self) -> Hash {
        let mut state = INITIAL;
        compress256(&mut state, self.first.as_slice());
        compress256(&mut state, self.middle);
        compress256(&mut state, &self.last[..self.lasts]);
        Hash::from_state(state)
    }
}

/// Writes the lower-case hexadecimal digits of `bytes` into `out`, which is twice as long.
#[inline]
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    // Computed, not looked up in a table, so that the compiler can vectorise it: sixteen digits at a time.
    let digit = |n: u8| n + b'0' + if n > 9 { b'a' - b'9' - 1 } else { 0 };
    for (byte, pair) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// The lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut out = vec![0u8; bytes.len() * 2];
    write_hex(bytes, &mut out);
    // Digits are ASCII.
    String::from_utf8(out).unwrap_or_default()
}

/// The bytes that `text` encodes in lower-case hexadecimal digits; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    fn digit(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        }
    }
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 lower-case hexadecimal digits")]
pub struct ParseHashError;

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Hash, ParseHashError> {
        from_hex(text).and_then(|b| b.try_into().ok()).map(Hash).ok_or(ParseHashError)
    }
}

crate::json_form!(text_form Hash);

impl Serialize for Hash {
    /// Its hexadecimal digits; in the stored form its bytes.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() { out.collect_str(self) } else { self.0.serialize(out) }
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        if from.is_human_readable() { form::deserialize_str(from) } else { Deserialize::deserialize(from).map(Hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn by_hasher(parts: &[&[u8]]) -> Hash {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Hash(hasher.finalize().into())
    }

    #[test]
    fn every_length_is_hashed_as_sha256_is() {
        let data: Vec<u8> = (0..=255).cycle().take(600).collect();
        for n in 0..data.len() {
            let (text, other) = (&data[..n], &data[n / 3..]);
            assert_eq!(Hash::of(text), by_hasher(&[text]), "{n} bytes");
            assert_eq!(Hash::leaf(text), by_hasher(&[&[0], text]), "{n} bytes as a leaf");
            assert_eq!(Hash::leaves(text, other), [Hash::leaf(text), Hash::leaf(other)], "{n} bytes beside others");
            assert_eq!(Hash::leaves(other, text), [Hash::leaf(other), Hash::leaf(text)]);
        }
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        assert_eq!(Hash::node(&a, &b), by_hasher(&[&[1], &a.0, &b.0]));
    }
}

//! The 32-byte SHA-256 value that everything is proved with.
//!
//! Two domains, as RFC 6962 section 2.1 has them: a leaf is hashed behind a zero byte, an inner node
//! behind a one byte, so that no node can be passed off as an entry.

use serde::{Deserialize, Serialize};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 value. Prints and parses as 64 lower-case hexadecimal digits.
///
/// ```
/// use attestlog::Hash;
/// let h = Hash::leaf(b"");
/// assert_eq!(h.to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
/// assert_eq!(h.to_string().parse::<Hash>().unwrap(), h);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

/// SHA-256's state before the first block (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

impl Hash {
    /// 32 zero bytes: what stands before the first entry.
    pub const ZERO: Hash = Hash([0; 32]);

    /// SHA-256 of `data` as it is.
    pub fn of(data: &[u8]) -> Hash {
        Hash(Sha256::digest(data).into())
    }

    /// The RFC 6962 leaf hash: SHA-256(0x00 || data).
    pub fn leaf(data: &[u8]) -> Hash {
        let mut h = Sha256::new();
        h.update([0u8]);
        h.update(data);
        Hash(h.finalize().into())
    }

    /// The RFC 6962 node hash: SHA-256(0x01 || left || right).
    pub fn node(left: &Hash, right: &Hash) -> Hash {
        // Always 65 bytes, so the padded blocks are written out: a quarter less than by the hasher, which has to buffer.
        let mut blocks = [[0u8; 64]; 2];
        let bytes = blocks.as_flattened_mut();
        bytes[0] = 1;
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..65].copy_from_slice(&right.0);
        bytes[65] = 0x80;
        bytes[120..].copy_from_slice(&(65u64 * 8).to_be_bytes());
        let mut state = INITIAL;
        compress256(&mut state, &blocks);
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

/// Writes the lower-case hexadecimal digits of `bytes` into `out`, which is twice as long.
pub(crate) fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const PAIRS: [[u8; 2]; 256] = {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut pairs = [[0; 2]; 256];
        let mut i = 0;
        while i < 256 {
            pairs[i] = [DIGITS[i >> 4], DIGITS[i & 15]];
            i += 1;
        }
        pairs
    };
    for (byte, pair) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

/// The lower-case hexadecimal digits of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut out = vec![0u8; bytes.len() * 2];
    write_hex(bytes, &mut out);
    // Digits are ASCII.
    String::from_utf8(out).unwrap_or_default()
}

/// The bytes that `text` spells in lower-case hexadecimal digits; `None` for anything else.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
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

/// Why a text is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 lower-case hexadecimal digits")]
pub struct ParseHashError;

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Hash, ParseHashError> {
        from_hex(text).and_then(|b| b.try_into().ok()).map(Hash).ok_or(ParseHashError)
    }
}

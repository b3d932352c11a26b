//! The rows of index batches as proofs need them: their hashes and their order.
//!
//! `posting` is the stored form of a list of seqs, built on the integers of `varint`.

mod posting;
mod varint;

pub use posting::*;
pub use varint::*;

use crate::Hash;
use crate::entry::Facet;
use crate::names::is_pseudonym;

/// How many entries make an index batch. Measured: smaller batches write `postings` more often than they need to,
/// larger ones take longer to rebuild when a store is opened.
pub const BATCH: u64 = 65_536;

/// Bytes of the salt at the start of a posting row.
pub const SALT_BYTES: usize = 16;

/// The hash of a posting row in proofs: `SHA-256(0x00 || inner || first || length || list)`, where the inner hash is
/// `SHA-256(salt || field || length || term)`, `first` and lengths are eight bytes, big-endian, and the list is in its stored
/// form. Every part of variable length is preceded by its length, so no two rows are hashed as the same bytes. If a purge
/// removes the term, only the inner hash is kept.
pub fn row_leaf(inner: &Hash, list: List<'_>) -> Hash {
    leaf_parts(inner, list, |parts| hash_joined(parts, Hash::leaf))
}

/// Like [`row_leaf`], from ascending seqs.
pub fn row_leaf_of(inner: &Hash, seqs: &[u64]) -> Hash {
    row_leaf(inner, List { first: seqs.first().copied().unwrap_or_default(), bytes: &posting::encode(seqs) })
}

/// `SHA-256(salt || field || length || term)`: the facet as its number, the term as its UTF-8 bytes.
pub fn row_inner(salt: &[u8; SALT_BYTES], field: Facet, term: &str) -> Hash {
    inner_parts(salt, field, term, |parts| hash_joined(parts, Hash::of))
}

fn leaf_parts<T>(inner: &Hash, list: List<'_>, with: impl FnOnce([&[u8]; 4]) -> T) -> T {
    with([inner.as_bytes(), &list.first.to_be_bytes(), &(list.bytes.len() as u64).to_be_bytes(), list.bytes])
}

fn inner_parts<T>(salt: &[u8; SALT_BYTES], field: Facet, term: &str, with: impl FnOnce([&[u8]; 4]) -> T) -> T {
    with([salt, &[field as u8], &(term.len() as u64).to_be_bytes(), term.as_bytes()])
}

/// Hashes the parts one after the other. Most are short and are joined without an allocation.
fn hash_joined(parts: [&[u8]; 4], hash: impl Fn(&[u8]) -> Hash) -> Hash {
    let mut room = [0; 128];
    let mut end = 0;
    for part in parts {
        let Some(to) = room.get_mut(end..end + part.len()) else { return hash(&parts.concat()) };
        to.copy_from_slice(part);
        end += part.len();
    }
    hash(&room[..end])
}

/// The sort key of a row in its batch (M3): pseudonyms after everything else; then by facet number, except that
/// conversations come between outcomes and triggers; then by the bytes of the term. So the neighbours of somebody's clear name
/// or pseudonym are rows of the same facet, of a facet that names nobody, or pseudonyms.
pub fn row_order(field: Facet, term: &str) -> (bool, u8, &str) {
    let number = if field == Facet::Conversation { Facet::Outcome as u8 * 2 + 1 } else { field as u8 * 2 };
    (is_pseudonym(term), number, term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The bytes that are hashed for a row's inner hash and for its leaf.
    fn hashed(salt: &[u8; SALT_BYTES], field: Facet, term: &str, list: List<'_>) -> [Vec<u8>; 2] {
        let inner = row_inner(salt, field, term);
        [inner_parts(salt, field, term, |parts| parts.concat()), leaf_parts(&inner, list, |parts| parts.concat())]
    }

    /// Parses hashed bytes: two parts of fixed length, then one preceded by its length and followed by nothing.
    fn apart(bytes: &[u8], first: usize, second: usize) -> Option<[&[u8]; 3]> {
        let ((a, rest), second) = (bytes.split_at_checked(first)?, second);
        let (b, rest) = rest.split_at_checked(second)?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*length) == rest.len() as u64).then_some([a, b, rest])
    }

    fn field() -> impl Strategy<Value = Facet> {
        (0..Facet::ALL.len()).prop_map(|i| Facet::ALL[i])
    }

    proptest! {
        /// The term and the list used to be hashed without their length. No two rows were hashed as the same bytes, but only
        /// because nothing followed them: the bytes of one row could be a prefix of another's. Now each part can be read
        /// back, and no row is a prefix of another.
        #[test]
        fn no_two_rows_are_hashed_alike(
            salt in any::<[u8; SALT_BYTES]>(),
            fields in (field(), field()),
            text in "\\PC{0,150}",
            list in prop::collection::vec(any::<u8>(), 0..200),
            first in any::<u64>(),
            cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            // Rows whose parts are those of another row with the boundary moved.
            let borders: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            let (term, cut) = (&text[..*cuts.0.get(&borders)], cuts.1.index(list.len() + 1));
            let moved = [&list[cut..], text.as_bytes()].concat();
            let mut rows = BTreeMap::new();
            for field in [fields.0, fields.1] {
                for term in [&*text, term, ""] {
                    for bytes in [&list[..], &list[..cut], &list[cut..], &moved, b""] {
                        let list = List { first, bytes };
                        let [name, leaf] = hashed(&salt, field, term, list);
                        prop_assert_eq!(apart(&name, SALT_BYTES, 1), Some([&salt[..], &[field as u8], term.as_bytes()]));
                        let inner = row_inner(&salt, field, term);
                        prop_assert_eq!(apart(&leaf, 32, 8), Some([&inner.0[..], &first.to_be_bytes(), bytes]));
                        prop_assert_eq!((Hash::of(&name), Hash::leaf(&leaf)), (inner, row_leaf(&inner, list)));
                        rows.insert(name, (field as u8, term.to_owned()));
                        rows.insert(leaf, (field as u8, term.to_owned()));
                    }
                }
            }
            let rows: Vec<&Vec<u8>> = rows.keys().collect();
            for pair in rows.windows(2) {
                prop_assert!(!pair[1].starts_with(pair[0]), "{:?} begins {:?}", pair[0], pair[1]);
            }
        }
    }

    /// Compares with the formula in DESIGN.md, computed by another hasher.
    #[test]
    fn a_row_is_hashed_as_it_is_said() {
        use sha2::{Digest, Sha256};
        for term in
            ["usr_7", "", "a term that takes more room than short rows are put together in: 0123456789 0123456789"]
        {
            let length = [0, 0, 0, 0, 0, 0, 0, term.len() as u8];
            let inner = Sha256::new().chain_update([9; 16]).chain_update([2]).chain_update(length).chain_update(term);
            let inner = inner.finalize();
            let leaf = Sha256::new().chain_update([0]).chain_update(inner).chain_update(258u64.to_be_bytes());
            let leaf = leaf.chain_update([0, 0, 0, 0, 0, 0, 0, 3]).chain_update([0, 5, 7]).finalize();
            let list = List { first: 258, bytes: &[0, 5, 7] };
            assert_eq!(row_leaf(&row_inner(&[9; 16], Facet::User, term), list), Hash(leaf.into()));
        }
    }
}

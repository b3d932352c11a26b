//! The RFC 6962 Merkle tree over the entry hashes: appending, proofs, and the nodes that a purge leaves.
//!
//! Invariants: leaf `i` is the hash of the entry with `seq` = `i`. Node `(level, index)` covers the leaves
//! `[index << level, (index + 1) << level)`; it exists once all of them do, and never changes after that. The root of
//! size `m` is a fold over the perfect subtrees that the set bits of `m` name, largest first. So every proof for every
//! size can be made from perfect nodes alone, and this module does not know where they are stored.
//!
//! Nothing here does I/O. `frontier` appends, `proof` makes and checks proofs through [`Nodes`], `cover` computes which
//! nodes a purge must keep.

mod cover;
mod frontier;
mod proof;

pub use cover::cover;
pub use frontier::Frontier;
pub use proof::{ProofError, consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion};

use crate::Hash;
use std::ops::Range;

/// The source of a tree's nodes.
pub trait Nodes {
    /// The error of a failed read. A [`ProofError`] converts into it, so that one error type serves the proof and its source.
    type Error: From<ProofError>;

    /// The hash of the perfect subtree over the leaves `[index << level, (index + 1) << level)`; level 0 is a leaf hash.
    ///
    /// Only called for subtrees that lie entirely within the size for which a root or proof is made.
    ///
    /// # Errors
    /// The node is unavailable: a read failed, or a purge removed its leaves and kept only a node higher up.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

impl<N: Nodes + ?Sized> Nodes for &N {
    type Error = N::Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        (**self).node(level, index)
    }
}

/// The leaves that the node `(level, index)` covers.
///
/// Capped at `u64::MAX` for a node that reaches beyond the largest sequence number, so that numbers from a damaged file
/// cannot overflow.
///
/// ```
/// use attestlog::merkle::leaves_of;
/// assert_eq!(leaves_of(0, 7), 7..8);
/// assert_eq!(leaves_of(3, 2), 16..24);
/// ```
pub fn leaves_of(level: u8, index: u64) -> Range<u64> {
    let at =
        |i: u64| if u32::from(level) > i.leading_zeros() { u64::MAX } else { i.checked_shl(level.into()).unwrap_or(0) };
    at(index)..at(index.saturating_add(1))
}

/// The perfect subtrees that make up `[start, end)`, largest first. `start` must be a multiple of every subtree's size,
/// which holds for 0 and for the start of any node whose span is at least `end - start`.
fn perfect(start: u64, end: u64) -> impl DoubleEndedIterator<Item = (u8, u64)> {
    let length = end.saturating_sub(start);
    (0..64u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
        // The larger subtrees to the left are the set bits above `level`.
        let before = length.checked_shr(u32::from(level) + 1).map_or(0, |high| high << level << 1);
        (level, (start + before) >> level)
    })
}

/// The root over these leaves, the same as appending them gives. Computed level by level: the nodes of a level do not depend
/// on each other, so the processor works on several at once, which appending one by one prevents.
pub fn root_over(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        let pairs = hashes.len() / 2;
        for i in 0..pairs {
            hashes[i] = Hash::node(&hashes[2 * i], &hashes[2 * i + 1]);
        }
        // A last node without a sibling moves up unchanged.
        let odd = hashes.len() % 2;
        if odd == 1 {
            hashes[pairs] = hashes[2 * pairs];
        }
        hashes.truncate(pairs + odd);
    }
    hashes.pop().unwrap_or_else(empty_root)
}

/// Folds the hashes of perfect subtrees, largest first, into the hash over all of them.
fn fold_right(hashes: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    hashes.rev().reduce(|right, left| Hash::node(&left, &right))
}

/// The root of a tree without leaves: SHA-256 of nothing.
fn empty_root() -> Hash {
    Hash::of(b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_the_same_level_by_level_and_leaf_by_leaf() {
        let mut tree = Frontier::empty();
        let mut leaves = Vec::new();
        for i in 0..300u32 {
            assert_eq!(root_over(leaves.clone()), tree.root(), "{i} leaves");
            leaves.push(Hash::leaf(&i.to_le_bytes()));
            tree.append(leaves[leaves.len() - 1], &mut |_, _, _| {});
        }
    }
}

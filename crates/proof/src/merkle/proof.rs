//! Inclusion and consistency proofs of RFC 6962 section 2.1: made from nodes, checked without them.
//!
//! Proofs come from outside, so the checks accept any numbers: the length of a proof is computed from the sizes before
//! any hash is read, and no step can overflow or repeat more than 64 times.

use super::{Nodes, empty_root, fold_right, perfect};
use crate::Hash;

/// Why a proof could not be made or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The entry asked for is not in a tree of that size.
    #[error("entry {index} is not in a tree of {size} entries")]
    BeyondSize {
        /// The entry's number.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The later size is smaller than the earlier one.
    #[error("a tree of {old} entries cannot grow into one of {new}")]
    Shrunk {
        /// The size that should be the earlier one.
        old: u64,
        /// The size that should be the later one.
        new: u64,
    },
    /// Every tree extends the empty tree, so a proof from it proves nothing.
    #[error("a consistency proof from size 0 proves nothing")]
    FromEmpty,
    /// The proof has too many or too few hashes for these sizes.
    #[error("the proof has {got} hashes, these sizes need {expected}")]
    Length {
        /// How many there must be.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// The hashes do not lead to the root.
    #[error("the proof leads to the root {computed}, not to {expected}")]
    Root {
        /// The root that was claimed.
        expected: Hash,
        /// The root to which the proof leads.
        computed: Hash,
    },
    /// The hashes of a consistency proof do not lead to the earlier root.
    #[error("the proof leads to the earlier root {computed}, not to {expected}")]
    OldRoot {
        /// The root that was claimed.
        expected: Hash,
        /// The root to which the proof leads.
        computed: Hash,
    },
}

impl From<ProofError> for crate::Error {
    fn from(e: ProofError) -> crate::Error {
        crate::Error::invalid(e.to_string()).with_source(e)
    }
}

/// The root of the first `size` leaves.
///
/// # Errors
/// The errors of `nodes`.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    Ok(range(nodes, 0, size)?.unwrap_or_else(empty_root))
}

/// The hash over `[start, end)`, with `start` aligned as [`perfect`] requires; `None` for an empty range.
fn range<N: Nodes>(nodes: &N, start: u64, end: u64) -> Result<Option<Hash>, N::Error> {
    let hashes = perfect(start, end).map(|(level, index)| nodes.node(level, index)).collect::<Result<Vec<_>, _>>()?;
    Ok(fold_right(hashes.into_iter()))
}

/// The largest power of two below `length`, which is 2 or more: where RFC 6962 splits a tree.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// The proof that leaf `index` is in the tree of the first `size` leaves, from the leaf's sibling upwards.
///
/// # Errors
/// [`ProofError::BeyondSize`], or an error of `nodes`.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    if index >= size {
        return Err(ProofError::BeyondSize { index, size }.into());
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.extend(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.extend(range(nodes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `new` leaves extends the tree of the first `old`. Empty when they are equal.
///
/// # Errors
/// [`ProofError::FromEmpty`], [`ProofError::Shrunk`], or an error of `nodes`.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    check_sizes(old, new)?;
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, new);
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.extend(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.extend(range(nodes, start, middle)?);
            start = middle;
        }
    }
    // A subtree that starts at 0 is the old tree itself, whose root the verifier has.
    if start > 0 {
        proof.extend(range(nodes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that the leaf with this hash is entry `index` of the tree of `size` leaves with this root.
///
/// # Errors
/// The [`ProofError`] that says why not.
///
/// ```
/// use attestlog::{Hash, merkle::verify_inclusion};
/// let (a, b) = (Hash::leaf(b"a"), Hash::leaf(b"b"));
/// let root = Hash::node(&a, &b);
/// assert!(verify_inclusion(1, 2, b, &[a], root).is_ok());
/// assert!(verify_inclusion(0, 2, b, &[a], root).is_err());
/// ```
pub fn verify_inclusion(index: u64, size: u64, leaf: Hash, proof: &[Hash], root: Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::BeyondSize { index, size });
    }
    let (inner, border) = lengths(index, size - 1);
    check_length(proof, inner + border)?;
    let (inner_part, border_part) = halves(proof, inner);
    let computed = fold_border(fold_inner(leaf, inner_part, index), border_part);
    if computed == root { Ok(()) } else { Err(ProofError::Root { expected: root, computed }) }
}

/// Checks that the tree of `new` leaves with root `new_root` extends the tree of `old` leaves with root `old_root`.
///
/// # Errors
/// The [`ProofError`] that says why not. A proof from size 0 is refused: it proves nothing.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: Hash,
    new_root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_sizes(old, new)?;
    if old == new {
        check_length(proof, 0)?;
        return if old_root == new_root {
            Ok(())
        } else {
            Err(ProofError::Root { expected: new_root, computed: old_root })
        };
    }
    // The proof starts at the largest perfect subtree that ends where the old tree ends: the old root itself if the old
    // size is a power of two, otherwise the proof's first hash. The other hashes are the path of the old tree's last leaf.
    let level = old.trailing_zeros();
    let (inner, border) = lengths(old - 1, new - 1);
    let inner = inner.saturating_sub(level);
    let seeds = u32::from(!old.is_power_of_two());
    check_length(proof, seeds + inner + border)?;
    let (seed, path_hashes) = match proof.split_first() {
        Some((first, rest)) if seeds == 1 => (*first, rest),
        _ => (old_root, proof),
    };
    let (inner_part, border_part) = halves(path_hashes, inner);
    let path = (old - 1) >> level;
    let lefts = inner_part.iter().enumerate().filter(|(i, _)| path >> i & 1 == 1);
    let computed = fold_border(lefts.fold(seed, |hash, (_, left)| Hash::node(left, &hash)), border_part);
    if computed != old_root {
        return Err(ProofError::OldRoot { expected: old_root, computed });
    }
    let computed = fold_border(fold_inner(seed, inner_part, path), border_part);
    if computed == new_root { Ok(()) } else { Err(ProofError::Root { expected: new_root, computed }) }
}

fn check_sizes(old: u64, new: u64) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 { Err(ProofError::FromEmpty) } else { Ok(()) }
}

/// How many hashes the path from leaf `index` has below the point where it meets the path of the tree's last leaf, and
/// how many above it, where all siblings are on the left.
fn lengths(index: u64, last: u64) -> (u32, u32) {
    let inner = 64 - (index ^ last).leading_zeros();
    (inner, index.checked_shr(inner).map_or(0, u64::count_ones))
}

fn check_length(proof: &[Hash], expected: u32) -> Result<(), ProofError> {
    let (expected, got) = (u64::from(expected), proof.len() as u64);
    if expected == got { Ok(()) } else { Err(ProofError::Length { expected, got }) }
}

/// The hashes below the meeting point and those above it. The total length was checked before.
fn halves(proof: &[Hash], inner: u32) -> (&[Hash], &[Hash]) {
    proof.split_at_checked(inner as usize).unwrap_or((proof, &[]))
}

fn fold_inner(seed: Hash, proof: &[Hash], path: u64) -> Hash {
    proof.iter().enumerate().fold(seed, |hash, (i, sibling)| match path >> i & 1 {
        0 => Hash::node(&hash, sibling),
        _ => Hash::node(sibling, &hash),
    })
}

fn fold_border(seed: Hash, proof: &[Hash]) -> Hash {
    proof.iter().fold(seed, |hash, left| Hash::node(left, &hash))
}

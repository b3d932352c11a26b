//! The right edge of a growing tree: enough to append leaves and to compute the root.
//!
//! Invariant: `roots` holds one hash per set bit of `size`, the largest subtree first.

use super::{empty_root, fold_right, perfect};
use crate::Hash;

/// The compact form of a tree: its size and the hashes of the perfect subtrees that make it up.
///
/// ```
/// use attestlog::{Hash, merkle::Frontier};
/// let mut tree = Frontier::empty();
/// let mut nodes = Vec::new();
/// for line in ["a", "b", "c"] {
///     tree.append(Hash::leaf(line.as_bytes()), &mut |level, index, hash| nodes.push((level, index, hash)));
/// }
/// assert_eq!(tree.size(), 3);
/// let ab = Hash::node(&Hash::leaf(b"a"), &Hash::leaf(b"b"));
/// assert_eq!(nodes, [(1, 0, ab)]);
/// assert_eq!(tree.root(), Hash::node(&ab, &Hash::leaf(b"c")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    pub fn empty() -> Frontier {
        Frontier::default()
    }

    /// The tree of `size` leaves whose perfect subtrees have these hashes, largest first, as [`Frontier::parts`] returns
    /// them. `None` if the number of hashes is not the number of set bits of `size`.
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Frontier> {
        (roots.len() == size.count_ones() as usize).then_some(Frontier { size, roots })
    }

    /// The tree of `size` leaves, with its subtrees taken from `nodes`.
    ///
    /// # Errors
    /// The errors of `nodes`.
    pub fn load<N: super::Nodes>(nodes: &N, size: u64) -> Result<Frontier, N::Error> {
        let roots = perfect(0, size).map(|(level, index)| nodes.node(level, index)).collect::<Result<_, _>>()?;
        Ok(Frontier { size, roots })
    }

    /// Size and subtree hashes, largest first.
    pub fn parts(&self) -> (u64, &[Hash]) {
        (self.size, &self.roots)
    }

    /// Appends the leaf hash of the next entry. Reports every perfect subtree that this completes, smallest first, as level
    /// (1 or more), index and hash: on average one node, and one hash computed, per leaf.
    ///
    /// A full tree (2^64-1 leaves, more than any disk holds) does not change.
    pub fn append(&mut self, leaf: Hash, completed: &mut impl FnMut(u8, u64, Hash)) {
        let Some(size) = self.size.checked_add(1) else { return };
        let mut hash = leaf;
        for level in 0..self.size.trailing_ones() as u8 {
            let Some(left) = self.roots.pop() else { break };
            hash = Hash::node(&left, &hash);
            completed(level + 1, self.size >> (level + 1), hash);
        }
        self.roots.push(hash);
        self.size = size;
    }

    /// Appends a perfect subtree of `2^level` leaves of which only the root is known, as a purge leaves it. Reports completed
    /// subtrees like [`Frontier::append`]. Returns `false` and changes nothing if the tree's size is not a multiple of the
    /// subtree's, or the new size would overflow.
    pub fn append_subtree(&mut self, level: u8, root: Hash, completed: &mut impl FnMut(u8, u64, Hash)) -> bool {
        let Some(leaves) = 1u64.checked_shl(level.into()) else { return false };
        let Some(size) = self.size.checked_add(leaves).filter(|_| self.size.is_multiple_of(leaves)) else {
            return false;
        };
        let mut hash = root;
        let mut at = level;
        while self.size >> at & 1 == 1 {
            let Some(left) = self.roots.pop() else { break };
            hash = Hash::node(&left, &hash);
            at += 1;
            completed(at, self.size >> at, hash);
        }
        self.roots.push(hash);
        self.size = size;
        true
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves; SHA-256 of nothing if there are none. Costs one hash per set bit of the size.
    pub fn root(&self) -> Hash {
        fold_right(self.roots.iter().copied()).unwrap_or_else(empty_root)
    }
}

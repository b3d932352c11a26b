//! The seeds of nonces: one for all entries of a segment, and fewer than all once some of these are gone.
//!
//! The nonces of a segment are the leaves of a binary tree. Each node has 16 bytes; SHA-256 over those of a node gives those of
//! its two children. So the 16 bytes of the root, its seed, give all nonces, and the seed of any other node those below it and
//! nothing else. A purge replaces the seeds above what it takes by those of the subtrees that remain: as many as lie beside the
//! way from the root to each purged leaf.
//!
//! Invariant B4: no seed is stored from which the nonce of a purged entry follows, and a backup has none from which that of a
//! later entry does.

use crate::Hash;
use crate::codec::{CodecError, FORMAT};
use crate::rows::{read_varint, write_varint};

/// The levels of the tree above its leaves: it has 8,192, more than a segment has entries.
const DEPTH: u8 = 13;
/// How many leaves the tree has.
pub(crate) const LEAVES: u32 = 1 << DEPTH;

/// What is hashed behind the bytes of a node.
const PURPOSE: &[u8] = b"attestlog/nonces@v1";

/// A nonce, or the bytes of a node above.
type Seed = [u8; 16];

/// A node of the tree with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    /// The first leaf below it.
    first: u32,
    level: u8,
    seed: Seed,
}

impl Node {
    /// The leaf after its last.
    fn end(&self) -> u32 {
        self.first + (1 << self.level)
    }

    fn children(&self) -> (Node, Node) {
        let mut text = [0; 16 + PURPOSE.len()];
        text[..16].copy_from_slice(&self.seed);
        text[16..].copy_from_slice(PURPOSE);
        let Hash(both) = Hash::of(&text);
        let (mut left, mut right) = ([0; 16], [0; 16]);
        left.copy_from_slice(&both[..16]);
        right.copy_from_slice(&both[16..]);
        let level = self.level - 1;
        (Node { first: self.first, level, seed: left }, Node { first: self.first + (1 << level), level, seed: right })
    }
}

/// The seeds of one segment: nodes of its tree, none of which lies below another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seeds {
    nodes: Vec<Node>,
    /// The nodes on the way to the leaf that was asked for last, and those to the right of it; the next leaf is below the last.
    way: Vec<Node>,
}

impl Seeds {
    /// The stored form: the format byte, then for each node how many leaves are skipped before it (a varint), its level, and its
    /// 16 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.nodes.len() * 19);
        out.push(FORMAT);
        let mut at = 0;
        for node in &self.nodes {
            write_varint(u64::from(node.first - at), &mut out);
            out.push(node.level);
            out.extend_from_slice(&node.seed);
            at = node.end();
        }
        out
    }

    /// Decodes the output of [`Seeds::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Seeds, CodecError> {
        const DAMAGED: CodecError = CodecError::Damaged("the seeds of a segment do not fit its tree");
        let (&format, mut rest) = bytes.split_first().ok_or(DAMAGED)?;
        if format != FORMAT {
            return Err(CodecError::Format(format));
        }
        let (mut nodes, mut at) = (Vec::new(), 0);
        while !rest.is_empty() {
            let (skipped, after) = read_varint(rest).ok_or(DAMAGED)?;
            let (&level, after) = after.split_first().filter(|(level, _)| **level <= DEPTH).ok_or(DAMAGED)?;
            let (seed, after) = after.split_first_chunk().ok_or(DAMAGED)?;
            let first = u32::try_from(skipped).ok().and_then(|skipped| skipped.checked_add(at)).ok_or(DAMAGED)?;
            let inside = first.checked_add(1 << level).is_some_and(|end| end <= LEAVES);
            if !inside || first % (1 << level) != 0 {
                return Err(DAMAGED);
            }
            let node = Node { first, level, seed: *seed };
            at = node.end();
            nodes.push(node);
            rest = after;
        }
        Ok(Seeds { nodes, way: Vec::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn above(&self, leaf: u32) -> Option<Node> {
        let at = self.nodes.partition_point(|node| node.end() <= leaf);
        self.nodes.get(at).filter(|node| node.first <= leaf).copied()
    }

    /// Whether the nonce of this leaf follows from a seed.
    pub(crate) fn has(&self, leaf: u32) -> bool {
        self.above(leaf).is_some()
    }

    /// Whether the nonce of any leaf from `first` to `last` follows from a seed.
    pub(crate) fn has_any(&self, first: u32, last: u32) -> bool {
        let at = self.nodes.partition_point(|node| node.end() <= first);
        self.nodes.get(at).is_some_and(|node| node.first <= last)
    }

    /// The nonce of this leaf, if it follows from a seed.
    pub(crate) fn nonce(&self, leaf: u32) -> Option<Seed> {
        let mut node = self.above(leaf)?;
        while node.level > 0 {
            let (left, right) = node.children();
            node = if leaf < right.first { left } else { right };
        }
        Some(node.seed)
    }

    /// The same for a caller that asks for one leaf after the other: one hash each, on average.
    pub(crate) fn next_nonce(&mut self, leaf: u32) -> Option<Seed> {
        while self.way.last().is_some_and(|node| node.end() <= leaf) {
            self.way.pop();
        }
        if self.way.last().is_none_or(|node| leaf < node.first) {
            self.way.clear();
            self.way.push(self.above(leaf)?);
        }
        while let Some(node) = self.way.pop_if(|node| node.level > 0) {
            let (left, right) = node.children();
            if leaf < right.first {
                self.way.push(right);
                self.way.push(left);
            } else {
                self.way.push(right);
            }
        }
        self.way.last().map(|node| node.seed)
    }

    /// Draws seeds for the leaves from `from` on, which have none.
    pub(crate) fn draw(&mut self, from: u32, random: &mut dyn FnMut(&mut [u8])) {
        self.way.clear();
        self.nodes.retain(|node| node.end() <= from);
        let mut at = from;
        while at < LEAVES {
            let level = if at == 0 { DEPTH } else { at.trailing_zeros() as u8 };
            let mut seed = [0; 16];
            random(&mut seed);
            let node = Node { first: at, level, seed };
            at = node.end();
            self.nodes.push(node);
        }
    }

    /// What is left of the seeds when nothing may follow from them for these leaves: ranges from the first to the last of each,
    /// in order.
    pub(crate) fn without(&self, gone: impl Iterator<Item = (u32, u32)>) -> Seeds {
        let gone: Vec<(u32, u32)> = gone.collect();
        let mut nodes = Vec::new();
        let mut left: Vec<Node> = self.nodes.iter().rev().copied().collect();
        while let Some(node) = left.pop() {
            let at = gone.partition_point(|(_, last)| *last < node.first);
            match gone.get(at) {
                Some(&(first, last)) if first < node.end() => {
                    if (first > node.first || last < node.end() - 1) && node.level > 0 {
                        let (before, behind) = node.children();
                        left.extend([behind, before]);
                    }
                }
                _ => nodes.push(node),
            }
        }
        Seeds { nodes, way: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn drawn(from: u32) -> Seeds {
        let mut seeds = Seeds::default();
        let mut n = 0u8;
        seeds.draw(from, &mut |out| {
            n += 1;
            out.fill(n);
        });
        seeds
    }

    #[test]
    fn one_seed_gives_each_leaf_a_nonce_of_its_own() {
        let mut seeds = drawn(0);
        assert_eq!(seeds.encode().len(), 19);
        let all: Vec<_> = (0..LEAVES).map(|leaf| seeds.nonce(leaf).unwrap()).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), LEAVES as usize);
        let next: Vec<_> = (0..LEAVES).map(|leaf| seeds.next_nonce(leaf).unwrap()).collect();
        assert_eq!(all, next);
        for leaf in [5, 4, 8_191, 17, 18, 3_000] {
            assert_eq!(seeds.next_nonce(leaf), seeds.nonce(leaf), "{leaf}");
        }
        assert_eq!(seeds.nonce(LEAVES), None);
    }

    #[test]
    fn what_is_drawn_later_leaves_what_was_drawn_before() {
        let whole = drawn(0);
        let mut copy = whole.without(std::iter::once((700, LEAVES - 1)));
        assert!(copy.has(699) && !copy.has(700) && !copy.has_any(700, LEAVES - 1));
        copy.draw(700, &mut |out| out.fill(77));
        assert!((0..LEAVES).all(|leaf| (copy.nonce(leaf) == whole.nonce(leaf)) == (leaf < 700)));
        assert_eq!(Seeds::decode(&copy.encode()).unwrap(), copy);
    }

    #[test]
    fn seeds_that_do_not_fit_the_tree_are_refused() {
        let row = |nodes: &[(u8, u8)]| {
            let nodes = nodes.iter().flat_map(|(skipped, level)| [&[*skipped, *level][..], &[7; 16]].concat());
            std::iter::once(1).chain(nodes).collect::<Vec<u8>>()
        };
        let fits = |bytes: &[u8]| Seeds::decode(bytes).is_ok_and(|seeds| seeds.encode() == bytes);
        assert!(fits(&row(&[])) && fits(&row(&[(0, 13)])) && fits(&row(&[(2, 1), (0, 2), (3, 0)])));
        for wrong in [row(&[(0, 14)]), row(&[(1, 1)]), row(&[(0, 13), (0, 0)]), row(&[(0, 0)])[..10].to_vec(), vec![]] {
            assert!(Seeds::decode(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        /// Whatever goes and in however many steps, what stays keeps its nonces, and nothing follows for what is gone.
        #[test]
        fn what_is_gone_has_no_seed(first in proptest::collection::btree_set(0..LEAVES, 0..60), run in 0..LEAVES, more in 0..500u32) {
            let whole = drawn(0);
            let one = whole.without(first.iter().map(|&leaf| (leaf, leaf)));
            let both = one.without(std::iter::once((run, (run + more).min(LEAVES - 1))));
            for leaf in 0..LEAVES {
                let gone = first.contains(&leaf) || (run..=run + more).contains(&leaf);
                prop_assert_eq!(both.nonce(leaf), whole.nonce(leaf).filter(|_| !gone));
            }
            prop_assert!(one.nodes.len() <= 1 + first.len() * usize::from(DEPTH));
            prop_assert_eq!(Seeds::decode(&both.encode()).unwrap(), both);
        }
    }
}

//! Which nodes a purge must keep.
//!
//! Invariant: a node may stand for purged leaves only if no signed size ends strictly inside it, because the root of
//! such a size is made of smaller subtrees. Sizes that are signed later lie beyond everything purged now, so a cover
//! never has to be split; a later purge can only merge its nodes.

use std::ops::Range;

/// The smallest set of perfect nodes, as (level, index) in the order of their leaves, that covers exactly the `purged`
/// leaves and from which, with the remaining leaves, the root of every signed size and every proof for it can be made.
///
/// `purged` is sorted and its ranges do not overlap; all of them end at or before the current size of the tree.
/// `signed_sizes` is sorted. A whole aligned subtree becomes one node if no signed size ends strictly inside it; a
/// purged leaf whose sibling is kept becomes a node of level 0. Takes at most 128 steps per range and 64 per signed size
/// inside a range, each with one binary search in the sizes.
///
/// ```
/// use attestlog::merkle::cover;
/// assert_eq!(cover(&[0..8], &[]), [(3, 0)]);
/// assert_eq!(cover(&[0..8], &[4]), [(2, 0), (2, 1)]);
/// assert_eq!(cover(&[0..8], &[5]), [(2, 0), (0, 4), (0, 5), (1, 3)]);
/// assert_eq!(cover(&[3..6], &[]), [(0, 3), (1, 2)]);
/// ```
pub fn cover(purged: &[Range<u64>], signed_sizes: &[u64]) -> Vec<(u8, u64)> {
    let mut nodes = Vec::new();
    let mut ranges = purged.iter().filter(|r| r.start < r.end).cloned().peekable();
    while let Some(mut range) = ranges.next() {
        // Adjacent ranges are merged: a subtree may span both.
        while let Some(next) = ranges.next_if(|next| next.start <= range.end) {
            range.end = range.end.max(next.end);
        }
        cover_range(range, signed_sizes, &mut nodes);
    }
    nodes
}

/// Takes from the left, repeatedly, the largest aligned subtree that ends by the end of the range and by the next signed
/// size. Splitting a subtree at a size and recursing into its halves gives the same nodes.
fn cover_range(range: Range<u64>, signed_sizes: &[u64], nodes: &mut Vec<(u8, u64)>) {
    let mut at = range.start;
    while at < range.end {
        let next_size = signed_sizes.get(signed_sizes.partition_point(|&size| size <= at)).copied().unwrap_or(u64::MAX);
        let room = range.end.min(next_size) - at;
        let level = room.ilog2().min(at.trailing_zeros());
        // At most 63, since `room` is at least 1 and fits.
        nodes.push((level as u8, at >> level));
        at += 1 << level;
    }
}

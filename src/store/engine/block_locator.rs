//! Where blocks begin and end, as far as readers have found out.
//!
//! In redb's tree the key that parts two leaves is the last one of the left leaf, and nearly every leaf of the blocks' table
//! holds one block. Whoever looks for the last key at or before a seq within a block therefore comes to the leaf behind it
//! first, and reads two leaves of 8 KiB for one; who knows the key reads one. What is known here is a hint and nothing more: it
//! says which key to ask for, and the block that stands there is taken only if it covers the seq.

use std::sync::{PoisonError, RwLock};

/// A slot for so many seqs, as a power of two: most blocks have more.
const SLOT: u32 = 5;

/// How many slots there are: for 16 million entries, in 8 MB. What lies beyond takes the place of what lies before.
const MOST: usize = 1 << 19;

/// In each slot the first seq of the block in which the slot ends, and how many seqs lie between it and the end of the block's
/// last run. So a seq is in the block of its slot or in that of the slot before, or its block is small and is not known.
#[derive(Debug, Default)]
pub(crate) struct BlockLocator(RwLock<Vec<(u64, u32)>>);

fn place(slot: u64) -> usize {
    (slot % MOST as u64) as usize
}

/// The slots whose block may have the seq.
fn around(seq: u64) -> impl Iterator<Item = u64> {
    let slot = seq >> SLOT;
    [Some(slot), slot.checked_sub(1)].into_iter().flatten()
}

fn covers((first, span): (u64, u32), seq: u64) -> bool {
    seq.checked_sub(first).is_some_and(|at| at < u64::from(span))
}

impl BlockLocator {
    /// The key of the block that covers `seq`, if it is known.
    pub(crate) fn find(&self, seq: u64) -> Option<u64> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = around(seq).filter_map(|slot| known.get(place(slot)));
        blocks.find(|&&block| covers(block, seq)).map(|(first, _)| *first)
    }

    /// A block stands under `first` and ends before `end`.
    pub(crate) fn learn(&self, first: u64, end: u64) {
        let Some(span) = end.checked_sub(first).and_then(|span| u32::try_from(span).ok()) else { return };
        let slots = first >> SLOT..end >> SLOT;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.take(MOST) {
            let place = place(slot);
            if known.len() <= place {
                known.resize(place + 1, (0, 0));
            }
            known[place] = (first, span);
        }
    }

    /// No block that covers `seq` stands where one should: a purge has written the blocks anew.
    pub(crate) fn forget(&self, seq: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for slot in around(seq) {
            if let Some(block) = known.get_mut(place(slot))
                && covers(*block, seq)
            {
                *block = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_found_within_what_was_learned_and_nowhere_else() {
        let starts = BlockLocator::default();
        let found = |seq| starts.find(seq);
        assert_eq!(found(0), None);
        starts.learn(10, 70);
        starts.learn(70, 99);
        // Neither ends where a slot does.
        starts.learn(99, 105);
        starts.learn(105, 127);
        starts.learn(127, 1000);
        starts.learn(1000, 1000);
        starts.learn(1010, 1005);
        starts.learn(1024, u64::MAX);
        assert_eq!([9, 10, 69, 70, 98, 99, 104, 126, 127, 500, 991, 1000, 1030].map(found), {
            let (a, b, c) = (Some(10), Some(70), Some(127));
            [None, a, a, b, b, None, None, None, c, c, c, None, None]
        });
        starts.forget(70);
        starts.forget(500);
        assert_eq!([69, 70, 98, 300, 500, 520].map(found), [Some(10), None, None, Some(127), None, Some(127)]);
    }

    #[test]
    fn no_more_is_remembered_than_said() {
        let starts = BlockLocator::default();
        let behind = (MOST as u64) << SLOT;
        starts.learn(0, 40);
        starts.learn(64, 128);
        starts.learn(behind, behind + 40);
        starts.learn(1 << 60, (1 << 60) + (1 << 31));
        assert_eq!(starts.0.read().unwrap().len(), MOST);
        let starts = BlockLocator::default();
        starts.learn(0, 40);
        starts.learn(64, 128);
        starts.learn(behind, behind + 40);
        assert_eq!([0, 70, behind].map(|seq| starts.find(seq)), [None, Some(64), Some(behind)]);
    }
}

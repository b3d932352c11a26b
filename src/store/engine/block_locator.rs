//! A cache of where blocks begin and end, filled by readers.
//!
//! In redb's tree the separator between two leaves is the last key of the left leaf, and nearly every leaf of the table of
//! blocks holds one block. A search for the last key at or before a seq inside a block therefore first reaches the following
//! leaf, and reads two leaves of 8 KiB instead of one; a reader that knows the key reads one. The cache is only a hint: it
//! says which key to look up, and the block found there is used only if it covers the seq.

use std::sync::{PoisonError, RwLock};

/// Seqs per slot, as a power of two: most blocks hold more.
const SLOT: u32 = 5;

/// Number of slots: enough for 16 million entries, in 8 MB. Later seqs share the slots of earlier ones.
const MOST: usize = 1 << 19;

/// For each slot the first seq of the block in which the slot ends, and the number of seqs from there to the end of the
/// block's last run. So a seq is in the block of its slot, in that of the slot before, or in a small block that is not
/// cached.
#[derive(Debug, Default)]
pub(crate) struct BlockLocator(RwLock<Vec<(u64, u32)>>);

fn place(slot: u64) -> usize {
    (slot % MOST as u64) as usize
}

/// The slots whose block may cover the seq.
fn around(seq: u64) -> impl Iterator<Item = u64> {
    let slot = seq >> SLOT;
    [Some(slot), slot.checked_sub(1)].into_iter().flatten()
}

fn covers((first, span): (u64, u32), seq: u64) -> bool {
    seq.checked_sub(first).is_some_and(|at| at < u64::from(span))
}

impl BlockLocator {
    /// The key of the block that covers `seq`, if cached.
    pub(crate) fn find(&self, seq: u64) -> Option<u64> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = around(seq).filter_map(|slot| known.get(place(slot)));
        blocks.find(|&&block| covers(block, seq)).map(|(first, _)| *first)
    }

    /// Caches a block with the key `first` that ends before `end`.
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

    /// Removes a cached block that covers `seq` but was not found at its key: a purge has rewritten the blocks.
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
        // Neither block contains the end of a slot.
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

//! Where blocks begin and end, as far as readers have found out.
//!
//! In redb's tree the key that parts two leaves is the last one of the left leaf, and nearly every leaf of the blocks' table
//! holds one block. Whoever looks for the last key at or before a seq within a block therefore comes to the leaf behind it
//! first, and reads two leaves of 8 KiB for one; who knows the key reads one. What is known here is a hint and nothing more: it
//! says which key to ask for, and the block that stands there is taken only if it covers the seq.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// How many blocks are remembered: those of some 20 million entries, in about 10 MB. Then it begins anew.
const MOST: usize = 1 << 19;

/// First seq of a block → how many seqs lie between it and the end of its last run.
#[derive(Debug, Default)]
pub(super) struct Starts(RwLock<BTreeMap<u64, u32>>);

impl Starts {
    /// The key of the block that covers `seq`, if it is known.
    pub(super) fn find(&self, seq: u64) -> Option<u64> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (&first, &span) = known.range(..=seq).next_back()?;
        (seq - first < u64::from(span)).then_some(first)
    }

    /// A block stands under `first` and ends before `end`.
    pub(super) fn learn(&self, first: u64, end: u64) {
        let Some(span) = end.checked_sub(first).and_then(|span| u32::try_from(span).ok()) else { return };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(first, span);
    }

    /// No block that covers what was said stands under `first`: a purge has written the blocks anew.
    pub(super) fn forget(&self, first: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_found_within_what_was_learned_and_nowhere_else() {
        let starts = Starts::default();
        assert_eq!(starts.find(0), None);
        starts.learn(10, 20);
        starts.learn(30, 35);
        starts.learn(40, 40);
        starts.learn(50, 49);
        starts.learn(60, u64::MAX);
        let found = |seq| starts.find(seq);
        assert_eq!([9, 10, 19, 20, 29, 30, 34, 35, 40, 50, 60].map(found), {
            [None, Some(10), Some(10), None, None, Some(30), Some(30), None, None, None, None]
        });
        starts.forget(10);
        assert_eq!([10, 34].map(found), [None, Some(30)]);
    }

    #[test]
    fn no_more_is_remembered_than_said() {
        let starts = Starts::default();
        (0..MOST as u64 + 3).for_each(|n| starts.learn(n * 2, n * 2 + 1));
        assert_eq!(starts.0.read().unwrap().len(), 3);
    }
}

//! How far the leaves of an open file were checked against what is signed: see `read/signed_leaves.rs`.

use crate::Hash;
use crate::store::layout::NODE_LEVEL;
use std::sync::{Arc, PoisonError, RwLock};

/// How far the leaves of an open file were checked against what is signed.
#[derive(Debug, Default)]
pub(crate) struct HeldLeaves(RwLock<Reached>);

#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) signed: Option<Arc<Signed>>,
    /// The segments that lie entirely within what is signed and were checked, one bit each.
    pub(crate) segments: Vec<u64>,
    /// The size up to which the leaves of the last, incomplete segment were checked.
    pub(crate) edge: u64,
}

/// What was last signed: the perfect subtrees that make up the tree of that size.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) size: u64,
    /// Level, index, hash; the largest first.
    pub(crate) peaks: Vec<(u8, u64, Hash)>,
    /// How many entries the state said were signed when this was read.
    pub(crate) said: u64,
    /// Whether they differ from what was signed.
    pub(crate) differs: bool,
}

impl Reached {
    /// Whether this entry passes: `Some(true)` if nothing is left to check, `Some(false)` if the leaves differ from what is
    /// signed, `None` if it was not checked yet. `said` is how many entries the reader's state says are signed.
    pub(crate) fn is_held(&self, seq: u64, said: u64) -> Option<bool> {
        // A reader whose snapshot is older than the newest checkpoint can use what was checked against that checkpoint.
        let signed = self.signed.as_ref().filter(|signed| signed.said >= said)?;
        if signed.differs {
            return Some(seq >= signed.size);
        }
        let segment = seq >> NODE_LEVEL;
        let bit = usize::try_from(segment / 64).ok().and_then(|word| self.segments.get(word));
        let held = seq >= signed.size
            || bit.is_some_and(|word| word >> (segment % 64) & 1 == 1)
            || self.edge == signed.size && segment == signed.size >> NODE_LEVEL;
        held.then_some(true)
    }

    pub(crate) fn hold(&mut self, segment: u64, size: u64) {
        if segment == size >> NODE_LEVEL {
            self.edge = size;
        } else if let Ok(word) = usize::try_from(segment / 64) {
            if self.segments.len() <= word {
                self.segments.resize(word + 1, 0);
            }
            self.segments[word] |= 1 << (segment % 64);
        }
    }
}

impl HeldLeaves {
    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, Reached> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> std::sync::RwLockWriteGuard<'_, Reached> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

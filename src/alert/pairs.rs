//! Which users the log has seen with which patients, as far as it is known without asking the index.
//!
//! Invariant: a pair in here was seen. A pair that is not in here may have been seen too, unless everything was added
//! from the first entry on and nothing had to be forgotten.

use std::collections::HashSet;

/// At least this many pairs are kept, and at most twice as many. Each takes about ten bytes.
const KEPT: usize = 1_000_000;

/// The hashes of the pairs, in two generations.
#[derive(Debug)]
pub(super) struct Pairs {
    young: HashSet<u64>,
    old: HashSet<u64>,
    complete: bool,
}

impl Pairs {
    /// Starts without pairs; `complete` if the log's first entry comes next.
    pub(super) fn new(complete: bool) -> Pairs {
        Pairs { young: HashSet::new(), old: HashSet::new(), complete }
    }

    /// Adds a pair and returns whether it was known; `None` if only the index can tell.
    pub(super) fn see(&mut self, pair: u64) -> Option<bool> {
        if self.young.contains(&pair) {
            return Some(true);
        }
        let known = self.old.contains(&pair);
        if self.young.len() >= KEPT {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.complete &= forgotten.is_empty();
        }
        self.young.insert(pair);
        match known {
            true => Some(true),
            false => self.complete.then_some(false),
        }
    }
}

//! Which users the log has seen with which patients: what is known without asking the index.
//!
//! Invariant: what is here was seen. What is not here may have been, unless everything was taken in from the first entry on
//! and nothing had to be forgotten.

use std::collections::HashSet;

/// How many pairs are kept at least; at most twice as many. Each takes about ten bytes.
const KEPT: usize = 1_000_000;

/// Pairs by their hashes, in two memory segments.
#[derive(Debug)]
pub(super) struct Pairs {
    young: HashSet<u64>,
    old: HashSet<u64>,
    complete: bool,
}

impl Pairs {
    /// None yet; `complete` where the log's first entry comes next.
    pub(super) fn new(complete: bool) -> Pairs {
        Pairs { young: HashSet::new(), old: HashSet::new(), complete }
    }

    /// Takes a pair in. Says whether it was there: `None` where only the index can tell.
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

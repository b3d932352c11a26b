//! Fingerprints of rollups: a verifier adds up every call and compares with what is stored, in memory that does not
//! grow with users or durations. Users and buckets are added up as keyed hashes under a key of this run's, so that no
//! one can make a wrong rollup that adds up to the same.

use super::rollup::{Cell, bucket};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Clone, Default, PartialEq)]
struct Print {
    calls: u64,
    successes: u64,
    timed: u64,
    sum_nanos: u128,
    max_nanos: u64,
    histogram: u64,
    users: u64,
}

impl Print {
    fn merge(&mut self, other: &Print) {
        self.calls += other.calls;
        self.successes += other.successes;
        self.timed += other.timed;
        self.sum_nanos += other.sum_nanos;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.histogram = self.histogram.wrapping_add(other.histogram);
        self.users = self.users.wrapping_add(other.users);
    }
}

/// What calls add up to, by tool and day.
#[derive(Debug, Default)]
pub(crate) struct Prints {
    key: RandomState,
    prints: HashMap<String, HashMap<i32, Print>>,
}

impl Prints {
    pub(crate) fn new() -> Prints {
        Prints::default()
    }

    /// An empty one under the same key, to be merged.
    pub(crate) fn fork(&self) -> Prints {
        Prints { key: self.key.clone(), prints: HashMap::new() }
    }

    /// Counts what was counted under the same key.
    pub(crate) fn merge(&mut self, other: Prints) {
        for (tool, days) in other.prints {
            let known = self.prints.entry(tool).or_default();
            for (day, print) in days {
                known.entry(day).or_default().merge(&print);
            }
        }
    }

    /// Counts one call.
    pub(crate) fn add(&mut self, tool: &str, user: &str, day: i32, success: bool, nanos: Option<u64>) {
        if !self.prints.contains_key(tool) {
            self.prints.insert(tool.to_owned(), HashMap::new());
        }
        let user = self.of_user(user);
        let Some(days) = self.prints.get_mut(tool) else { return };
        let print = days.entry(day).or_default();
        print.calls += 1;
        print.successes += u64::from(success);
        print.users = print.users.wrapping_add(user);
        if let Some(nanos) = nanos {
            print.timed += 1;
            print.sum_nanos += u128::from(nanos);
            print.max_nanos = print.max_nanos.max(nanos);
            print.histogram = print.histogram.wrapping_add(self.key.hash_one(bucket(nanos)));
        }
    }

    /// What a user counts as: there may be millions of them, and nobody holds all their names.
    pub(crate) fn of_user(&self, user: &str) -> u64 {
        self.key.hash_one(user)
    }

    /// Whether a stored cell is what the calls of that tool and day add up to; they are then done with. `user` tells
    /// what the user of a term counts as.
    pub(crate) fn matches(&mut self, tool: &str, day: i32, cell: &Cell, user: impl Fn(u64) -> Option<u64>) -> bool {
        let Some(print) = self.prints.get_mut(tool).and_then(|days| days.remove(&day)) else { return false };
        let mut stored = Print {
            calls: cell.calls,
            successes: cell.successes,
            timed: cell.timed,
            sum_nanos: cell.sum_nanos,
            max_nanos: cell.max_nanos,
            ..Print::default()
        };
        for (&bucket, &n) in &cell.histogram {
            stored.histogram = stored.histogram.wrapping_add(self.key.hash_one(bucket).wrapping_mul(n));
        }
        for (&id, &n) in &cell.users {
            let Some(user) = user(id) else { return false };
            stored.users = stored.users.wrapping_add(user.wrapping_mul(n));
        }
        stored == print
    }

    /// Tools and days with calls that no stored cell was compared with.
    pub(crate) fn unmatched(&mut self) -> Vec<(String, i32)> {
        let prints = std::mem::take(&mut self.prints);
        prints.into_iter().flat_map(|(tool, days)| days.into_keys().map(move |day| (tool.clone(), day))).collect()
    }
}

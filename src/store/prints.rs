//! Fingerprints of rollups: a verifier adds up every call and compares with what is stored, in memory that does not
//! grow with users or durations. Users and buckets are added up as keyed hashes under a key of this run's, so that no
//! one can make a wrong rollup that adds up to the same.

use super::pending::Terms;
use super::rollup::{Cell, bucket};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// What the calls of one tool and day add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Print {
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

/// The key under which users and buckets are hashed, and the hashes that were worked out already.
#[derive(Debug)]
pub(crate) struct Hashes {
    key: RandomState,
    buckets: Vec<u64>,
    /// By number.
    users: HashMap<u64, u64>,
}

impl Hashes {
    pub(crate) fn new() -> Hashes {
        Hashes { key: RandomState::new(), buckets: Vec::new(), users: HashMap::new() }
    }

    /// Others under the same key, of users with other numbers.
    pub(crate) fn fork(&self) -> Hashes {
        Hashes { key: self.key.clone(), buckets: Vec::new(), users: HashMap::new() }
    }

    fn bucket(&mut self, bucket: u16) -> u64 {
        let place = usize::from(bucket);
        while self.buckets.len() <= place {
            self.buckets.push(self.key.hash_one(self.buckets.len() as u16));
        }
        self.buckets[place]
    }

    /// The user of a number.
    pub(crate) fn name(&mut self, number: u64, user: &str) {
        self.users.insert(number, self.key.hash_one(user));
    }

    /// What a stored cell adds up to; nothing where it names a user whom there is not.
    pub(crate) fn print(&mut self, cell: &mut Cell) -> Option<Print> {
        let mut print = Print {
            calls: cell.calls,
            successes: cell.successes,
            timed: cell.timed,
            sum_nanos: cell.sum_nanos,
            max_nanos: cell.max_nanos,
            ..Print::default()
        };
        for &(bucket, n) in cell.histogram.rows() {
            print.histogram = print.histogram.wrapping_add(self.bucket(bucket).wrapping_mul(n));
        }
        for &(id, n) in cell.users.rows() {
            print.users = print.users.wrapping_add(self.users.get(&id)?.wrapping_mul(n));
        }
        Some(print)
    }
}

/// The calls of a stretch as they are counted: tools and users by their places among the values of their facets.
#[derive(Debug)]
pub(crate) struct Tally {
    hashes: Hashes,
    users: Vec<Option<u64>>,
    prints: HashMap<(u32, i32), Print>,
}

impl Tally {
    pub(crate) fn new(hashes: Hashes) -> Tally {
        Tally { hashes, users: Vec::new(), prints: HashMap::new() }
    }

    /// Counts one call.
    pub(crate) fn add(&mut self, tool: u32, user: (u32, &str), day: i32, success: bool, nanos: Option<u64>) {
        let place = user.0 as usize;
        if self.users.len() <= place {
            self.users.resize(place + 1, None);
        }
        let user = *self.users[place].get_or_insert_with(|| self.hashes.key.hash_one(user.1));
        let print = self.prints.entry((tool, day)).or_default();
        print.calls += 1;
        print.successes += u64::from(success);
        print.users = print.users.wrapping_add(user);
        if let Some(nanos) = nanos {
            print.timed += 1;
            print.sum_nanos += u128::from(nanos);
            print.max_nanos = print.max_nanos.max(nanos);
            print.histogram = print.histogram.wrapping_add(self.hashes.bucket(bucket(nanos)));
        }
    }

    /// What was counted, by the names of the tools.
    pub(crate) fn finish(self, tools: &Terms) -> Prints {
        let mut prints = Prints::default();
        for ((tool, day), print) in self.prints {
            if let Some((name, _)) = tools.lists.get(tool as usize) {
                prints.add(name, day, &print);
            }
        }
        prints
    }
}

/// What calls add up to, by tool and day.
#[derive(Debug, Default)]
pub(crate) struct Prints(HashMap<String, HashMap<i32, Print>>);

impl Prints {
    fn add(&mut self, tool: &str, day: i32, print: &Print) {
        match self.0.get_mut(tool) {
            Some(days) => days.entry(day).or_default().merge(print),
            None => _ = self.0.insert(tool.to_owned(), HashMap::from([(day, print.clone())])),
        }
    }

    /// Counts what was counted under the same key.
    pub(crate) fn merge(&mut self, other: &Prints) {
        for (tool, days) in &other.0 {
            days.iter().for_each(|(day, print)| self.add(tool, *day, print));
        }
    }

    /// What the calls of that tool and day add up to; it is then done with.
    pub(crate) fn take(&mut self, tool: &str, day: i32) -> Option<Print> {
        self.0.get_mut(tool)?.remove(&day)
    }

    /// Tools and days that were not taken.
    pub(crate) fn left(self) -> impl Iterator<Item = (String, i32)> {
        self.0.into_iter().flat_map(|(tool, days)| days.into_keys().map(move |day| (tool.clone(), day)))
    }
}

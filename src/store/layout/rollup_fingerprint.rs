//! Fingerprints of rollups: a verifier recomputes them from every call and compares with what is stored, in memory that does
//! not grow with the number of users or durations. Users and buckets are summed as hashes under a random key of this run, so
//! that nobody can craft a wrong rollup with the same fingerprint.

use crate::store::layout::rollup::{Cell, bucket};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The fingerprint of the calls of one tool on one day.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RollupFingerprint {
    calls: u64,
    successes: u64,
    timed: u64,
    sum_nanos: u128,
    max_nanos: u64,
    histogram: u64,
    users: u64,
}

impl RollupFingerprint {
    fn merge(&mut self, other: &RollupFingerprint) {
        self.calls += other.calls;
        self.successes += other.successes;
        self.timed += other.timed;
        self.sum_nanos += other.sum_nanos;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.histogram = self.histogram.wrapping_add(other.histogram);
        self.users = self.users.wrapping_add(other.users);
    }
}

/// The key under which users and buckets are hashed, and the hashes computed so far.
#[derive(Debug)]
pub(crate) struct Hashes {
    key: RandomState,
    /// The hash of every bucket that a duration can fall in.
    buckets: Arc<[u64]>,
    /// User hashes by term id.
    users: HashMap<u64, u64>,
}

impl Hashes {
    pub(crate) fn new() -> Hashes {
        let key = RandomState::new();
        let buckets = (0..=bucket(u64::MAX)).map(|bucket| key.hash_one(bucket)).collect();
        Hashes { key, buckets, users: HashMap::new() }
    }

    /// A new set of user hashes under the same key, for users with other ids.
    pub(crate) fn fork(&self) -> Hashes {
        Hashes { key: self.key.clone(), buckets: self.buckets.clone(), users: HashMap::new() }
    }

    /// Registers the user with this id.
    pub(crate) fn name(&mut self, number: u64, user: &str) {
        self.users.insert(number, self.key.hash_one(user));
    }

    /// The fingerprint of a stored cell; `None` where it names an unknown user or bucket.
    pub(crate) fn print(&self, cell: &mut Cell) -> Option<RollupFingerprint> {
        let mut print = RollupFingerprint {
            calls: cell.calls,
            successes: cell.successes,
            timed: cell.timed,
            sum_nanos: cell.sum_nanos,
            max_nanos: cell.max_nanos,
            ..RollupFingerprint::default()
        };
        for &(bucket, n) in cell.histogram.rows() {
            let hash = self.buckets.get(usize::from(bucket))?;
            print.histogram = print.histogram.wrapping_add(hash.wrapping_mul(n));
        }
        for &(id, n) in cell.users.rows() {
            print.users = print.users.wrapping_add(self.users.get(&id)?.wrapping_mul(n));
        }
        Some(print)
    }
}

/// Fingerprints of calls while they are counted. Tools and users are numbered by their index among the values of their
/// facets.
#[derive(Debug)]
pub(crate) struct Tally {
    hashes: Hashes,
    users: Vec<Option<u64>>,
    /// By tool: the day of the last call and the fingerprint so far. The next call is mostly of the same day.
    last: Vec<(i32, RollupFingerprint)>,
    /// By tool and day: fingerprints set aside when a call of another day came.
    before: Vec<(u32, i32, RollupFingerprint)>,
}

impl Tally {
    pub(crate) fn new(hashes: Hashes) -> Tally {
        Tally { hashes, users: Vec::new(), last: Vec::new(), before: Vec::new() }
    }

    /// Counts one call.
    pub(crate) fn add(&mut self, tool: u32, user: (u32, &str), day: i32, success: bool, nanos: Option<u64>) {
        let place = user.0 as usize;
        if self.users.len() <= place {
            self.users.resize(place + 1, None);
        }
        let user = *self.users[place].get_or_insert_with(|| self.hashes.key.hash_one(user.1));
        let place = tool as usize;
        if self.last.len() <= place {
            self.last.resize_with(place + 1, || (day, RollupFingerprint::default()));
        }
        let (last, print) = &mut self.last[place];
        if *last != day {
            self.before.push((tool, std::mem::replace(last, day), std::mem::take(print)));
        }
        print.calls += 1;
        print.successes += u64::from(success);
        print.users = print.users.wrapping_add(user);
        if let Some(nanos) = nanos {
            print.timed += 1;
            print.sum_nanos += u128::from(nanos);
            print.max_nanos = print.max_nanos.max(nanos);
            let hash = self.hashes.buckets.get(usize::from(bucket(nanos))).copied().unwrap_or_default();
            print.histogram = print.histogram.wrapping_add(hash);
        }
    }

    /// The fingerprints by tool name.
    pub(crate) fn finish<'a>(self, tool: impl Fn(u32) -> &'a str) -> RollupFingerprints {
        let mut fingerprints = RollupFingerprints::default();
        let last = (0..).zip(self.last).map(|(place, (day, print))| (place, day, print));
        for (place, day, print) in self.before.into_iter().chain(last).filter(|(_, _, print)| print.calls > 0) {
            fingerprints.add(tool(place), day, &print);
        }
        fingerprints
    }
}

/// Fingerprints by tool and day.
#[derive(Debug, Default)]
pub(crate) struct RollupFingerprints(HashMap<String, HashMap<i32, RollupFingerprint>>);

impl RollupFingerprints {
    fn add(&mut self, tool: &str, day: i32, print: &RollupFingerprint) {
        match self.0.get_mut(tool) {
            Some(days) => days.entry(day).or_default().merge(print),
            None => _ = self.0.insert(tool.to_owned(), HashMap::from([(day, print.clone())])),
        }
    }

    /// Adds fingerprints that were computed under the same key.
    pub(crate) fn merge(&mut self, other: &RollupFingerprints) {
        for (tool, days) in &other.0 {
            days.iter().for_each(|(day, print)| self.add(tool, *day, print));
        }
    }

    /// Removes and returns the fingerprint of that tool and day.
    pub(crate) fn take(&mut self, tool: &str, day: i32) -> Option<RollupFingerprint> {
        self.0.get_mut(tool)?.remove(&day)
    }

    /// The tools and days that were not taken.
    pub(crate) fn left(self) -> impl Iterator<Item = (String, i32)> {
        self.0.into_iter().flat_map(|(tool, days)| days.into_keys().map(move |day| (tool.clone(), day)))
    }
}

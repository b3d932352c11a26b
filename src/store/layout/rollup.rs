//! Rollups: per tool and day, the numbers that statistics need, so that no entry is read to answer them.
//!
//! Durations are counted in nanoseconds, in buckets at most 1/64 of their lower bound wide; a percentile is reported as the
//! middle of its bucket, so its error is at most 1/128 (0.8 %).

use crate::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

/// Aggregated calls of one tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    pub calls: u64,
    pub successes: u64,
    /// Calls whose duration is known.
    pub timed: u64,
    pub sum_nanos: u128,
    pub max_nanos: u64,
    /// Bucket → calls.
    pub histogram: Counts<u16>,
    /// User's term id → calls.
    pub users: Counts<u64>,
}

/// Counts by key. New counts are appended; when there are more than twice as many rows as distinct keys, all are sorted and
/// merged. That costs less than a tree, both for counts that come one by one and for counts that come sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counts<K> {
    rows: Vec<(K, u64)>,
    /// How many leading rows are sorted and have distinct keys.
    settled: usize,
}

impl<K: Copy + Ord> Counts<K> {
    /// Below this many rows, sorting is not worthwhile.
    const FEW: usize = 64;

    fn add(&mut self, rows: impl Iterator<Item = (K, u64)>) {
        self.rows.extend(rows);
        if self.rows.len() > 2 * self.settled + Self::FEW {
            self.settle();
        }
    }

    /// Merges to one row per key, in rising order.
    fn settle(&mut self) {
        if self.settled == self.rows.len() {
            return;
        }
        // Most of the input is sorted runs, which this sort exploits.
        self.rows.sort_by_key(|(key, _)| *key);
        // Saturating, because numbers read from a damaged file may have any value.
        self.rows.dedup_by(|next, row| {
            let same = next.0 == row.0;
            if same {
                row.1 = row.1.saturating_add(next.1);
            }
            same
        });
        self.settled = self.rows.len();
    }

    /// The counts, one row per key, in rising order.
    pub(crate) fn rows(&mut self) -> &[(K, u64)] {
        self.settle();
        &self.rows
    }
}

#[derive(Serialize, Deserialize)]
struct StoredCell {
    calls: u64,
    successes: u64,
    timed: u64,
    sum_nanos: u128,
    max_nanos: u64,
    /// Distance from the previous bucket, calls.
    histogram: Vec<(u16, u64)>,
    /// Distance from the previous term id, calls.
    users: Vec<(u64, u64)>,
}

impl Cell {
    /// Counts one call.
    pub(crate) fn add(&mut self, user: u64, success: bool, nanos: Option<u64>) {
        self.calls += 1;
        self.successes += u64::from(success);
        self.users.add([(user, 1)].into_iter());
        if let Some(nanos) = nanos {
            self.timed += 1;
            self.sum_nanos += u128::from(nanos);
            self.max_nanos = self.max_nanos.max(nanos);
            self.histogram.add([(bucket(nanos), 1)].into_iter());
        }
    }

    /// Adds another cell's counts.
    pub(crate) fn merge(&mut self, other: &Cell) {
        // Saturating, because numbers read from a damaged file may have any value.
        self.calls = self.calls.saturating_add(other.calls);
        self.successes = self.successes.saturating_add(other.successes);
        self.timed = self.timed.saturating_add(other.timed);
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.histogram.add(other.histogram.rows.iter().copied());
        self.users.add(other.users.rows.iter().copied());
    }

    /// The nearest-rank percentile of the durations, `p` from 0 to 1, in nanoseconds.
    pub(crate) fn percentile(&mut self, p: f64) -> Option<u64> {
        let rank = ((p * self.timed as f64).ceil() as u64).max(1);
        let mut below = 0;
        for &(bucket, n) in self.histogram.rows() {
            below = n.saturating_add(below);
            if below >= rank {
                return Some(middle(bucket).min(self.max_nanos));
            }
        }
        None
    }

    pub(crate) fn encode(&mut self) -> Result<Vec<u8>, CodecError> {
        let mut bucket_before = 0;
        let mut user_before = 0;
        let distance = |&(b, n): &(u16, u64)| (b - std::mem::replace(&mut bucket_before, b), n);
        let histogram = self.histogram.rows().iter().map(distance).collect();
        let distance = |&(u, n): &(u64, u64)| (u - std::mem::replace(&mut user_before, u), n);
        let users = self.users.rows().iter().map(distance).collect();
        codec::encode(&StoredCell {
            calls: self.calls,
            successes: self.successes,
            timed: self.timed,
            sum_nanos: self.sum_nanos,
            max_nanos: self.max_nanos,
            histogram,
            users,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Cell, CodecError> {
        let StoredCell { calls, successes, timed, sum_nanos, max_nanos, mut histogram, mut users } =
            codec::decode(bytes)?;
        // Every user in a cell made at least one call, and each call was made by exactly one user.
        let counted = (add_up(&mut histogram, u16::checked_add)?, add_up(&mut users, u64::checked_add)?);
        if counted != (timed, calls) || successes > calls {
            return Err(UNEVEN);
        }
        let histogram = Counts { settled: histogram.len(), rows: histogram };
        let users = Counts { settled: users.len(), rows: users };
        Ok(Cell { calls, successes, timed, sum_nanos, max_nanos, histogram, users })
    }
}

const UNEVEN: CodecError = CodecError::Damaged("a rollup's counts do not add up");

/// Turns distances into keys, which must rise, and sums the counts, none of which may be zero.
fn add_up<K: Copy + Default + PartialEq>(
    rows: &mut [(K, u64)],
    plus: impl Fn(K, K) -> Option<K>,
) -> Result<u64, CodecError> {
    let (mut before, mut total) = (K::default(), 0u64);
    for (i, (key, n)) in rows.iter_mut().enumerate() {
        let rises = i == 0 || *key != K::default();
        *key = plus(before, *key).filter(|_| rises).ok_or(CodecError::Damaged("a rollup's keys do not rise"))?;
        before = *key;
        total = total.checked_add(*n).filter(|_| *n > 0).ok_or(UNEVEN)?;
    }
    Ok(total)
}

/// 64 buckets for each power of two, exact below 64.
pub(crate) fn bucket(nanos: u64) -> u16 {
    if nanos < 64 {
        return nanos as u16;
    }
    let shift = nanos.ilog2() - 6;
    // At most 64 * 58 + 63.
    (64 * (shift + 1)) as u16 + ((nanos >> shift) - 64) as u16
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    if bucket < 64 {
        return bucket.into();
    }
    let shift = (u32::from(bucket) / 64 - 1).min(57);
    let lower = (64 + u64::from(bucket) % 64) << shift;
    lower + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_bucket_tells_its_values_within_one_percent(nanos in 0u64..1 << 62) {
            let told = middle(bucket(nanos));
            proptest::prop_assert!(told.abs_diff(nanos) as f64 <= nanos as f64 / 128.0 + 0.5);
        }

        #[test]
        fn calls_add_up_in_whatever_order_they_come(calls: Vec<(u8, bool, Option<u16>)>, parts in 1usize..5) {
            let mut at_once = Cell::default();
            let mut cells = vec![Cell::default(); parts];
            for (i, &(user, success, nanos)) in calls.iter().enumerate() {
                at_once.add(user.into(), success, nanos.map(u64::from));
                cells[i % parts].add(user.into(), success, nanos.map(u64::from));
            }
            let mut sum = Cell::default();
            for mut cell in cells {
                sum.merge(&Cell::decode(&cell.encode().unwrap()).unwrap());
            }
            proptest::prop_assert_eq!(sum.encode(), at_once.encode());
            let mut users: Vec<u8> = calls.iter().map(|call| call.0).collect();
            users.sort_unstable();
            users.dedup();
            proptest::prop_assert_eq!(sum.users.rows().len(), users.len());
        }
    }
}

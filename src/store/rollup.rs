//! Rollups: what statistics need of a tool's calls on one day, so that no entry is read to answer them.
//!
//! Durations are counted in nanoseconds in buckets whose width is at most 1/64 of their lower bound; a percentile is
//! told as the middle of its bucket, so its error is at most 1/128 (0.8 %).

use crate::codec::{self, CodecError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Calls of one tool, added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    pub calls: u64,
    pub successes: u64,
    /// Calls whose duration is known.
    pub timed: u64,
    pub sum_nanos: u128,
    pub max_nanos: u64,
    /// Bucket → calls.
    pub histogram: BTreeMap<u16, u64>,
    /// User's term id → calls.
    pub users: BTreeMap<u64, u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredCell {
    calls: u64,
    successes: u64,
    timed: u64,
    sum_nanos: u128,
    max_nanos: u64,
    /// Distance from the bucket before, calls.
    histogram: Vec<(u16, u64)>,
    /// Distance from the term id before, calls.
    users: Vec<(u64, u64)>,
}

impl Cell {
    /// Counts one call.
    pub(crate) fn add(&mut self, user: u64, success: bool, nanos: Option<u64>) {
        self.calls += 1;
        self.successes += u64::from(success);
        *self.users.entry(user).or_default() += 1;
        if let Some(nanos) = nanos {
            self.timed += 1;
            self.sum_nanos += u128::from(nanos);
            self.max_nanos = self.max_nanos.max(nanos);
            *self.histogram.entry(bucket(nanos)).or_default() += 1;
        }
    }

    /// Adds what another cell counted.
    pub(crate) fn merge(&mut self, other: &Cell) {
        // Numbers out of a damaged file may be anything.
        self.calls = self.calls.saturating_add(other.calls);
        self.successes = self.successes.saturating_add(other.successes);
        self.timed = self.timed.saturating_add(other.timed);
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        for (&bucket, &n) in &other.histogram {
            let sum = self.histogram.entry(bucket).or_default();
            *sum = sum.saturating_add(n);
        }
        for (&user, &n) in &other.users {
            let sum = self.users.entry(user).or_default();
            *sum = sum.saturating_add(n);
        }
    }

    /// The nearest-rank percentile of the durations, `p` from 0 to 1, in nanoseconds.
    pub(crate) fn percentile(&self, p: f64) -> Option<u64> {
        let rank = ((p * self.timed as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (&bucket, &n) in &self.histogram {
            below = n.saturating_add(below);
            if below >= rank {
                return Some(middle(bucket).min(self.max_nanos));
            }
        }
        None
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut bucket_before = 0;
        let mut user_before = 0;
        codec::encode(&StoredCell {
            calls: self.calls,
            successes: self.successes,
            timed: self.timed,
            sum_nanos: self.sum_nanos,
            max_nanos: self.max_nanos,
            histogram: (self.histogram.iter())
                .map(|(&b, &n)| (b - std::mem::replace(&mut bucket_before, b), n))
                .collect(),
            users: self.users.iter().map(|(&u, &n)| (u - std::mem::replace(&mut user_before, u), n)).collect(),
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Cell, CodecError> {
        Cell::of(codec::decode(bytes)?)
    }

    /// As [`Cell::decode`], without the check for the one form, which verification makes.
    pub(crate) fn decode_trusted(bytes: &[u8]) -> Result<Cell, CodecError> {
        Cell::of(codec::decode_trusted(bytes)?)
    }

    fn of(stored: StoredCell) -> Result<Cell, CodecError> {
        let damaged = CodecError::Damaged("a rollup's distances overflow");
        let mut cell = Cell {
            calls: stored.calls,
            successes: stored.successes,
            timed: stored.timed,
            sum_nanos: stored.sum_nanos,
            max_nanos: stored.max_nanos,
            ..Cell::default()
        };
        let mut at = 0u16;
        for (distance, n) in stored.histogram {
            at = at.checked_add(distance).ok_or(damaged.clone())?;
            cell.histogram.insert(at, n);
        }
        let mut at = 0u64;
        for (distance, n) in stored.users {
            at = at.checked_add(distance).ok_or(damaged.clone())?;
            cell.users.insert(at, n);
        }
        // Whoever stands in a cell made a call of it, and each call was made by one user.
        let add = |total: u64, &n: &u64| if n == 0 { None } else { total.checked_add(n) };
        let users = cell.users.values().try_fold(0, add);
        let timed = cell.histogram.values().try_fold(0, add);
        if users != Some(cell.calls) || timed != Some(cell.timed) || cell.successes > cell.calls {
            return Err(CodecError::Damaged("a rollup's counts do not add up"));
        }
        Ok(cell)
    }
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
    }
}

//! Every policy that was ever in force, and what later policies mean for entries that are already recorded.
//!
//! Invariant R6: the end of retention of an entry depends only on its seq, on the class and the end in its line, and on
//! the policies in the chain. So it can be computed again for a purged entry, of which only class and end are still
//! committed to. Invariant R7: it is never before the end in the line, never moves back with a further policy, and is
//! never before the time that any policy since, counted from the time of recording, demands for the class.

use super::{Period, RetentionPolicy};
use crate::{Error, Result, Timestamp};
use attestlog_proof::entry::Retention;

/// The policies in the order in which they were set, each with the seq of its entry.
///
/// An entry's line never changes. If a later policy keeps the entry's class longer, the end of retention moves by the
/// calendar difference between the class's period at the time of recording and its period now; what the caller added to
/// the policy's demand stays added. The class is the one in the line: a rule that assigns a tool to another class
/// applies only to entries recorded from then on.
///
/// ```
/// use attestlog::{Timestamp, retention::{Period, PolicyHistory, RetentionPolicy}};
/// let first = RetentionPolicy::default();
/// let kept = first.assign("lookup", false, None, None, "2024-02-29T00:00:00Z".parse()?)?;
/// let mut history = PolicyHistory::new(1, first);
/// assert_eq!(history.effective_until(2, &kept).to_string(), "2025-03-01T00:00:00Z");
/// history.push(3, RetentionPolicy::builder().class("general", Period::years(3)?).build()?)?;
/// assert_eq!(history.effective_until(2, &kept).to_string(), "2027-03-01T00:00:00Z");
/// assert_eq!(history.effective_until(4, &kept).to_string(), "2025-03-01T00:00:00Z"); // recorded under the longer one
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyHistory {
    first: (u64, RetentionPolicy),
    later: Vec<(u64, RetentionPolicy)>,
}

impl PolicyHistory {
    /// A history that begins with `policy`, set by the entry at `seq`.
    pub fn new(seq: u64, policy: RetentionPolicy) -> PolicyHistory {
        PolicyHistory { first: (seq, policy), later: Vec::new() }
    }

    /// Adds the policy set by the entry at `seq`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict): it would shorten retention (see
    /// [`RetentionPolicy::check_successor`]); [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): `seq` is not
    /// greater than that of the last policy. The history is unchanged then.
    pub fn push(&mut self, seq: u64, policy: RetentionPolicy) -> Result<()> {
        let (last, current) = self.last();
        if seq <= *last {
            return Err(Error::invalid(format!(
                "the policy of entry {seq} does not come after the one of entry {last}"
            )));
        }
        policy.check_successor(current)?;
        self.later.push((seq, policy));
        Ok(())
    }

    /// The policy in force.
    pub fn current(&self) -> &RetentionPolicy {
        &self.last().1
    }

    /// The seq of the entry that set the policy in force.
    pub fn current_seq(&self) -> u64 {
        self.last().0
    }

    /// The policy under which the entry at `seq` was recorded: the last one set before it.
    pub fn at(&self, seq: u64) -> &RetentionPolicy {
        let before = self.later.partition_point(|(set, _)| *set < seq);
        before.checked_sub(1).and_then(|i| self.later.get(i)).map_or(&self.first.1, |(_, policy)| policy)
    }

    /// The seq of the entry that set the policy under which the entry at `seq` was recorded.
    pub(crate) fn seq_at(&self, seq: u64) -> u64 {
        let before = self.later.partition_point(|(set, _)| *set < seq);
        before.checked_sub(1).and_then(|i| self.later.get(i)).map_or(self.first.0, |(set, _)| *set)
    }

    /// When the entry at `seq` may be purged, by the expiry clock, under all policies so far.
    pub fn effective_until(&self, seq: u64, retention: &Retention) -> Timestamp {
        if self.later.is_empty() {
            return retention.until;
        }
        lengthened(self.at(seq), self.current(), retention)
    }

    /// Like [`PolicyHistory::effective_until`], but as of the entry `as_of`: used to judge a past purge.
    pub fn effective_until_as_of(&self, seq: u64, retention: &Retention, as_of: u64) -> Timestamp {
        let (then, now) = (self.at(seq), self.at(as_of.max(seq)));
        if std::ptr::eq(then, now) { retention.until } else { lengthened(then, now, retention) }
    }

    /// Whether the same policy was in force at `seq` and at `as_of`.
    pub(crate) fn is_unchanged(&self, seq: u64, as_of: u64) -> bool {
        std::ptr::eq(self.at(seq), self.at(as_of.max(seq)))
    }

    fn last(&self) -> &(u64, RetentionPolicy) {
        self.later.last().unwrap_or(&self.first)
    }
}

/// Policies only lengthen, so only the newest one matters. Two consecutive periods never end before their sum (R2), and
/// a later start never gives an earlier end (R1), so moving the end in the line never gives less than counting again
/// from the time of recording, which the line does not contain.
fn lengthened(then: &RetentionPolicy, now: &RetentionPolicy, retention: &Retention) -> Timestamp {
    let periods: Option<(Period, Period)> = then.period_of(&retention.class).zip(now.period_of(&retention.class));
    periods.map_or(retention.until, |(was, is)| is.stretch(was, retention.until).max(retention.until))
}

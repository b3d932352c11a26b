//! Every policy that was ever in force, and what the later ones mean for what is already recorded.
//!
//! Invariant R6: the end of retention of an entry depends on nothing but its seq, its class and the end that stand in
//! its line, and the policies in the chain. So it can be worked out again for an entry that is gone, of which only
//! class and end are still committed to. Invariant R7: it never comes before the end in the line, never falls with a
//! further policy, and never comes before what each policy since, counted from the time of recording, demands of the
//! class.

use super::{Period, RetentionPolicy};
use crate::{Error, Result, Timestamp};
use attestlog_proof::entry::Retention;

/// The policies in the order in which they were set, each with the seq of its entry.
///
/// An entry's line stays as it was recorded. Where a later policy keeps the entry's class longer, the end of retention
/// moves on by the calendar difference between the period that the class had when the entry was recorded and the one
/// that it has now; what the caller had added to the policy's demand stays added. The class is the one in the line: a
/// rule that sends a tool to another class concerns what is recorded from then on.
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
    /// A history that begins with `policy`, which the entry at `seq` set.
    pub fn new(seq: u64, policy: RetentionPolicy) -> PolicyHistory {
        PolicyHistory { first: (seq, policy), later: Vec::new() }
    }

    /// Adds the policy that the entry at `seq` sets.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) where it would shorten (see
    /// [`RetentionPolicy::check_successor`]); [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where `seq`
    /// does not come after the last one. The history is then as it was.
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

    /// The policy in force now.
    pub fn current(&self) -> &RetentionPolicy {
        &self.last().1
    }

    /// The seq of the entry that set the policy in force now.
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

    /// When the entry at `seq` may be purged, by the expiry clock, under the policies until now.
    pub fn effective_until(&self, seq: u64, retention: &Retention) -> Timestamp {
        if self.later.is_empty() {
            return retention.until;
        }
        lengthened(self.at(seq), self.current(), retention)
    }

    /// As [`PolicyHistory::effective_until`] at the time of the entry `as_of`: how a purge in the past is judged.
    pub fn effective_until_as_of(&self, seq: u64, retention: &Retention, as_of: u64) -> Timestamp {
        let (then, now) = (self.at(seq), self.at(as_of.max(seq)));
        if std::ptr::eq(then, now) { retention.until } else { lengthened(then, now, retention) }
    }

    /// Whether the same policy was in force at both.
    pub(crate) fn is_unchanged(&self, seq: u64, as_of: u64) -> bool {
        std::ptr::eq(self.at(seq), self.at(as_of.max(seq)))
    }

    fn last(&self) -> &(u64, RetentionPolicy) {
        self.later.last().unwrap_or(&self.first)
    }
}

/// Policies only lengthen, so the newest one alone decides; and periods one after the other never end before their sum
/// (R2), nor does a later start end earlier (R1), so moving the end in the line is never less than counting again from
/// the time of recording, which the line does not tell.
fn lengthened(then: &RetentionPolicy, now: &RetentionPolicy, retention: &Retention) -> Timestamp {
    let periods: Option<(Period, Period)> = then.period_of(&retention.class).zip(now.period_of(&retention.class));
    periods.map_or(retention.until, |(was, is)| is.stretch(was, retention.until).max(retention.until))
}

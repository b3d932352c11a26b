//! Comparison of the time that a caller gave for a call with the log's own clock.
//!
//! Invariant L3: the time of a call is its caller's claim. If it differs from the time of recording by more than a
//! bound, everything that shows it shows both times and says so.

use super::{Content, Entry, Phase};
use crate::Timestamp;
use std::time::Duration;

/// The default for how far a call's time may be from the time of recording before reports mark it.
pub const CLAIMED_TIME_BOUND: Duration = Duration::from_secs(3600);

/// The mark on a call whose time is more than a bound away from the time of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimedTime {
    /// It was recorded this much later than the time it claims.
    RecordedLater(Duration),
    /// It claims a time this far ahead of the log's clock.
    InFuture(Duration),
}

impl ClaimedTime {
    /// The mark for a call with these two times; `None` if they lie within the bound.
    ///
    /// ```
    /// use attestlog::entry::{CLAIMED_TIME_BOUND, ClaimedTime};
    /// let (claimed, recorded) = ("2025-01-10T09:00:00Z".parse()?, "2025-11-29T09:00:00Z".parse()?);
    /// let mark = ClaimedTime::of(claimed, recorded, CLAIMED_TIME_BOUND).unwrap();
    /// assert_eq!(mark.to_string(), "recorded 323 days later");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn of(timestamp: Timestamp, recorded_at: Timestamp, bound: Duration) -> Option<ClaimedTime> {
        let apart = i128::from(recorded_at.nanos()) - i128::from(timestamp.nanos());
        let length = Duration::from_nanos(u64::try_from(apart.unsigned_abs()).unwrap_or(u64::MAX));
        match length > bound {
            true if apart > 0 => Some(ClaimedTime::RecordedLater(length)),
            true => Some(ClaimedTime::InFuture(length)),
            false => None,
        }
    }

    /// Its name in JSON, CSV and exports: `recorded_later` or `in_future`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClaimedTime::RecordedLater(_) => "recorded_later",
            ClaimedTime::InFuture(_) => "in_future",
        }
    }
}

impl std::fmt::Display for ClaimedTime {
    /// `recorded 3 days later`, `2 hours in the future`: in the largest unit of which there are at least two.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClaimedTime::RecordedLater(length) => write!(f, "recorded {} later", ClaimedTime::in_words(*length)),
            ClaimedTime::InFuture(length) => write!(f, "{} in the future", ClaimedTime::in_words(*length)),
        }
    }
}

impl ClaimedTime {
    /// A length of time in the largest unit of which there are at least two: `3 days`, `90 minutes`.
    pub fn in_words(length: Duration) -> String {
        let seconds = length.as_secs();
        let units = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
        let (unit, n) = units.into_iter().find(|(_, n)| seconds >= 2 * n).unwrap_or(("seconds", 1));
        format!("{} {unit}", seconds / n)
    }
}

impl Entry {
    /// The mark for this call if its caller's time is more than `bound` away from the time of recording; `None` for system
    /// events, whose time is the log's.
    pub fn claimed_time(&self, bound: Duration) -> Option<ClaimedTime> {
        ClaimedTime::of(self.call()?.timestamp, self.body.recorded_at, bound)
    }

    /// Whether this records something long past: a call that `import` read from a recording, or one that, by its caller's
    /// clock, had ended more than [`CLAIMED_TIME_BOUND`] before it was recorded. The end of a call whose beginning is in the log
    /// is as old as that beginning, and details are as old as their call. A caller's flag that a call is back-filled changes
    /// nothing: a recent call stays recent (R68).
    pub fn is_history(&self, begun: Option<&Entry>) -> bool {
        let Content::Call(call) = &self.body.content else { return false };
        if let (Phase::Finished(_) | Phase::Detail(_), Some(begun)) = (call.phase, begun) {
            return begun.is_history(None);
        }
        // A long call is recorded long after it began.
        let took = call.completion.as_ref().and_then(|c| c.duration_ms).unwrap_or(0.0);
        let took = Duration::try_from_secs_f64(took / 1000.0).unwrap_or_default();
        let bound = CLAIMED_TIME_BOUND.saturating_add(took);
        let later = ClaimedTime::of(call.timestamp, self.body.recorded_at, bound);
        call.is_from_recording() || matches!(later, Some(ClaimedTime::RecordedLater(_)))
    }
}

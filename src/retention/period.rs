//! Calendar periods: how long a class of entries is kept.
//!
//! Invariant R1: [`Period::after`] is monotonic in both arguments: a later start, or a longer period, never gives an
//! earlier end. Invariant R2: two consecutive periods never end before their sum. Lengthening the retention of recorded
//! entries (see `history`) relies on both. Neither would hold if a day that a month does not have were replaced by the
//! month's last day: 29 January 23:00 and 31 January 01:00, one month later, would change places.

use crate::{Error, Result, Timestamp};
use chrono::{Datelike, Months, NaiveTime, TimeDelta};
use std::fmt;
use std::str::FromStr;

/// The longest period that a policy may demand: a hundred years. More is a mistake, and times end in 2262.
const MAX_MONTHS: u32 = 1200;

/// A number of calendar months or years, never days, so that a year is a year even if it has 366 days.
///
/// ```
/// use attestlog::{Timestamp, retention::Period};
/// let six: Period = "6 years".parse()?;
/// let recorded: Timestamp = "2024-03-01T09:00:00.25Z".parse()?;
/// assert_eq!(six.after(recorded).to_string(), "2030-03-01T09:00:01Z"); // up to the whole second
/// assert_eq!(Period::months(18)?.to_string(), "18 months");
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u32);

impl Period {
    /// A period of this many calendar years.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): zero, or more than a hundred years.
    pub fn years(years: u32) -> Result<Period> {
        Period::months(years.saturating_mul(12))
    }

    /// A period of this many calendar months.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): zero, or more than a hundred years.
    pub fn months(months: u32) -> Result<Period> {
        if (1..=MAX_MONTHS).contains(&months) {
            return Ok(Period(months));
        }
        Err(Error::invalid("a retention period is between 1 month and 100 years"))
    }

    /// For the built-in policy and the presets, whose periods are known to be in range.
    pub(super) const fn of_years(years: u32) -> Period {
        assert!(years > 0 && years * 12 <= MAX_MONTHS);
        Period(years * 12)
    }

    pub(super) const fn of_months(months: u32) -> Period {
        assert!(months > 0 && months <= MAX_MONTHS);
        Period(months)
    }

    /// The period in months.
    pub fn as_months(self) -> u32 {
        self.0
    }

    /// The first whole second at which a period that starts at `start` is over.
    ///
    /// This is the same day and clock time that many months later. If that month has no such day, the period ends when
    /// the month does: a year from 29 February ends as 1 March begins (as Regulation (EEC, Euratom) No 1182/71, article
    /// 3, counts periods), not a day early. The result is at most the last representable time, [`Timestamp::MAX`].
    pub fn after(self, start: Timestamp) -> Timestamp {
        months_after(start, self.0).ceil_to_second()
    }

    /// `time` plus the difference between this period and `old`; `time` itself if this period is not longer.
    pub(super) fn stretch(self, old: Period, time: Timestamp) -> Timestamp {
        match self.0.checked_sub(old.0) {
            None | Some(0) => time,
            Some(more) => Period(more).after(time),
        }
    }
}

fn months_after(start: Timestamp, months: u32) -> Timestamp {
    let from = start.to_datetime();
    let moved = from.checked_add_months(Months::new(months)).and_then(|to| {
        if to.day() == from.day() {
            return Some(to);
        }
        // chrono has moved it back to the last day of the month.
        to.checked_add_signed(TimeDelta::days(1))?.with_time(NaiveTime::MIN).single()
    });
    moved.and_then(|t| t.timestamp_nanos_opt()).map_or(Timestamp::MAX, Timestamp::from_nanos)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = if self.0.is_multiple_of(12) { (self.0 / 12, "year") } else { (self.0, "month") };
        write!(f, "{n} {unit}{}", if n == 1 { "" } else { "s" })
    }
}

impl FromStr for Period {
    type Err = Error;

    /// Parses `7 years`, `1 year`, `6 months`, `1 month`.
    fn from_str(text: &str) -> Result<Period> {
        let bad = || {
            let shown: String = text.chars().take(60).collect();
            Error::invalid(format!("{shown:?} is not a period: write it like \"7 years\" or \"6 months\""))
        };
        let (number, unit) = text.split_once(' ').ok_or_else(bad)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let n: u32 = number.parse().map_err(|_| bad())?;
        match unit {
            "year" | "years" => Period::years(n),
            "month" | "months" => Period::months(n),
            _ => Err(bad()),
        }
    }
}

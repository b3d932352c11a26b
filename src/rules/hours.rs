//! Working hours: times of day, days of the week and holidays, in a time zone.
//!
//! Invariant: the result of a rule for a time depends on the rule and the time, not on the machine: time zone names
//! come from the built-in database, never from the system's.

use crate::{Error, Result, Timestamp};
use chrono::{Datelike, FixedOffset, NaiveDate, TimeZone, Timelike, Weekday};
use std::collections::BTreeSet;
use std::fmt;

/// A time zone: `UTC`, an offset such as `+05:30`, or (with the feature `config`) a name of the IANA database such as
/// `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: Option<ZoneRules>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ZoneRules {
    Fixed(FixedOffset),
    #[cfg(feature = "config")]
    Named(chrono_tz::Tz),
}

impl Zone {
    /// UTC.
    pub fn utc() -> Zone {
        Zone::recorded("UTC")
    }

    /// A placeholder: a rule with this zone is refused.
    pub(crate) fn unset() -> Zone {
        Zone { name: String::new(), rules: None }
    }

    /// The zone with this name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the zone does not exist, or this build does not know zone
    /// names.
    pub fn named(name: &str) -> Result<Zone> {
        let zone = Zone::recorded(name);
        zone.check().map(|()| zone)
    }

    /// The zone of a recorded rule: a build that does not know the zone can still read the log.
    pub(crate) fn recorded(name: &str) -> Zone {
        let rules = match offset(name) {
            Some(offset) => Some(ZoneRules::Fixed(offset)),
            None => named(name),
        };
        Zone { name: name.to_owned(), rules }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let shown: String = self.name.chars().take(60).collect();
        match &self.rules {
            Some(_) => Ok(()),
            None if self.name.is_empty() => Err(Error::invalid(
                "needs a time zone: zone = \"Europe/Berlin\", \"UTC\" or an offset such as \"+05:30\"",
            )),
            None if cfg!(feature = "config") => Err(Error::invalid(format!(
                "{shown:?} is not a time zone; write a name of the IANA database such as Europe/Berlin, UTC, or an offset such \
                 as +05:30"
            ))),
            None => Err(Error::invalid(format!(
                "{shown:?} is not an offset such as +05:30, and names of time zones need the feature `config`"
            ))),
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The local day and second of the day at a time.
    fn local(&self, at: Timestamp) -> (NaiveDate, u32) {
        let at = at.to_datetime().naive_utc();
        let local = match &self.rules {
            Some(ZoneRules::Fixed(offset)) => offset.from_utc_datetime(&at).naive_local(),
            #[cfg(feature = "config")]
            Some(ZoneRules::Named(tz)) => tz.from_utc_datetime(&at).naive_local(),
            None => at,
        };
        (local.date(), local.time().num_seconds_from_midnight())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(feature = "config")]
fn named(name: &str) -> Option<ZoneRules> {
    name.parse().ok().map(ZoneRules::Named)
}

#[cfg(not(feature = "config"))]
fn named(_: &str) -> Option<ZoneRules> {
    None
}

/// `UTC`, `Z`, `+HH:MM` or `-HH:MM`.
fn offset(name: &str) -> Option<FixedOffset> {
    if matches!(name, "UTC" | "Z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, rest) = match name.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let minutes = minutes(rest).filter(|m| *m <= 14 * 60)?;
    FixedOffset::east_opt(sign * minutes as i32 * 60)
}

/// `HH:MM` in minutes, up to `24:00`.
pub(crate) fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |s: &str| (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u32>().ok())?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
}

/// Working hours; all other times are off-hours.
///
/// ```
/// use attestlog::alert::{Hours, Zone};
/// let hours = Hours::new(Zone::named("+01:00")?).between("08:00", "18:00")?.holiday("2025-12-25")?;
/// assert!(hours.are_off("2025-12-24T18:30:00Z".parse()?)); // half past seven in the evening there
/// assert!(hours.are_off("2025-12-25T10:00:00Z".parse()?)); // a holiday
/// assert!(!hours.are_off("2025-12-23T10:00:00Z".parse()?)); // a Tuesday
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    pub(crate) zone: Zone,
    /// From Monday on.
    pub(crate) days: [bool; 7],
    /// Minutes of the day. If the end is not after the beginning, the shift ends on the next day.
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) holidays: BTreeSet<NaiveDate>,
}

pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Hours {
    /// Monday to Friday from 07:00 to 19:00 in this zone.
    pub fn new(zone: Zone) -> Hours {
        let days = [true, true, true, true, true, false, false];
        Hours { zone, days, from: 7 * 60, to: 19 * 60, holidays: BTreeSet::new() }
    }

    /// Sets the beginning and end, as `HH:MM`. If the end is not after the beginning, it is on the next day.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): not a time of day.
    pub fn between(mut self, from: &str, to: &str) -> Result<Hours> {
        let read = |text: &str| minutes(text).ok_or_else(|| Error::invalid("a time of day is HH:MM, up to 24:00"));
        (self.from, self.to) = (read(from)?, read(to)?);
        Ok(self)
    }

    /// Sets the days with working hours: `mon` to `sun`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): not a day of the week.
    pub fn days<'a>(mut self, days: impl IntoIterator<Item = &'a str>) -> Result<Hours> {
        self.days = [false; 7];
        for day in days {
            let at = DAYS.iter().position(|d| *d == day);
            let at = at.ok_or_else(|| Error::invalid(format!("a day is one of {}", DAYS.join(", "))))?;
            self.days[at] = true;
        }
        Ok(self)
    }

    /// Adds a day (`YYYY-MM-DD`) without working hours.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): not a day.
    pub fn holiday(mut self, day: &str) -> Result<Hours> {
        let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().filter(|_| day.len() == 10);
        self.holidays.insert(day.ok_or_else(|| Error::invalid("a holiday is a day: YYYY-MM-DD"))?);
        Ok(self)
    }

    /// Whether a time is outside the working hours.
    pub fn are_off(&self, at: Timestamp) -> bool {
        let (day, second) = self.zone.local(at);
        let works = |day: NaiveDate| self.days[weekday(day.weekday())] && !self.holidays.contains(&day);
        let (from, to) = (self.from * 60, self.to * 60);
        let inside = match from < to {
            true => works(day) && (from..to).contains(&second),
            // A shift that began the day before may still be running.
            false => (works(day) && second >= from) || (second < to && day.pred_opt().is_some_and(works)),
        };
        !inside
    }
}

fn weekday(day: Weekday) -> usize {
    day.num_days_from_monday() as usize
}

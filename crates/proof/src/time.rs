//! Points in time as the log keeps them: nanoseconds of UTC since 1970, written as RFC 3339.

use crate::json::{TWO_DIGITS, form};
use crate::{Error, Result};
use chrono::{DateTime, Months, NaiveDate, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A point in time, in nanoseconds of UTC since 1970-01-01. Reaches from 1678 to 2261.
///
/// ```
/// use attestlog::Timestamp;
/// let t: Timestamp = "2025-07-06T16:23:01.456+02:00".parse().unwrap();
/// assert_eq!(t.to_string(), "2025-07-06T14:23:01.456Z");
/// assert!("2999-01-01".parse::<Timestamp>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const SECOND: i64 = 1_000_000_000;

impl Timestamp {
    /// The earliest time that can be represented.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest time that can be represented.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// Nanoseconds of UTC since 1970-01-01.
    pub const fn from_nanos(nanos: i64) -> Timestamp {
        Timestamp(nanos)
    }

    /// Nanoseconds of UTC since 1970-01-01.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The same time as a chrono `DateTime`.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.0)
    }

    /// The whole days since 1970-01-01 (UTC).
    pub const fn day(self) -> i32 {
        // i64 nanoseconds are ±106,752 days.
        self.0.div_euclid(86_400 * SECOND) as i32
    }

    /// Midnight (UTC) at the start of a day counted from 1970-01-01.
    pub const fn start_of_day(day: i32) -> Timestamp {
        Timestamp((day as i64).saturating_mul(86_400 * SECOND))
    }

    /// This time plus `by`, at most [`Timestamp::MAX`].
    pub fn plus(self, by: Duration) -> Timestamp {
        Timestamp(i64::try_from(by.as_nanos()).map_or(i64::MAX, |n| self.0.saturating_add(n)))
    }

    /// This time minus `by`, at least [`Timestamp::MIN`].
    pub fn minus(self, by: Duration) -> Timestamp {
        Timestamp(i64::try_from(by.as_nanos()).map_or(i64::MIN, |n| self.0.saturating_sub(n)))
    }

    /// How much later this is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// The same clock time this many calendar months later, at most [`Timestamp::MAX`]; 29 February becomes the 28th in a
    /// year without it.
    pub fn plus_months(self, months: u32) -> Timestamp {
        self.to_datetime()
            .checked_add_months(Months::new(months))
            .and_then(|t| t.timestamp_nanos_opt())
            .map_or(Timestamp::MAX, Timestamp)
    }

    /// The beginning of the second that this time is in.
    pub fn floor_to_second(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(self.0.rem_euclid(SECOND)))
    }

    /// The first whole second at or after this time; [`Timestamp::MAX`], which is none, within the last second that
    /// can be represented.
    pub fn ceil_to_second(self) -> Timestamp {
        match self.0.rem_euclid(SECOND) {
            0 => self,
            over => Timestamp(self.0.saturating_add(SECOND - over)),
        }
    }

    /// The time this many seconds after 1970; this many milliseconds, if seconds would be out of range.
    pub fn from_unix(number: f64) -> Option<Timestamp> {
        // A double holds a present-day time to a quarter of a microsecond; finer digits would be noise.
        let micros = [1e6, 1e3].map(|per_unit| (number * per_unit).round());
        let reach = (i64::MAX / 1000) as f64;
        let micros = micros.into_iter().find(|m| m.abs() < reach)?;
        (micros as i64).checked_mul(1000).map(Timestamp)
    }

    /// Whether `text` would be a time if it had a zone.
    pub fn lacks_zone(text: &str) -> bool {
        (19..64).contains(&text.len()) && DateTime::parse_from_rfc3339(&format!("{text}Z")).is_ok()
    }

    /// Writes the same text as [`Display`](fmt::Display). The line of an entry holds three times, and chrono's formatter alone
    /// would cost more than hashing the line.
    pub fn write(self, out: &mut Vec<u8>) {
        let (year, month, day) = civil(self.day());
        let in_day = self.0.rem_euclid(86_400 * SECOND) as u64;
        let (seconds, nanos) = ((in_day / SECOND as u64) as u32, (in_day % SECOND as u64) as u32);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let mut two = |at: usize, value: u32| text[at..at + 2].copy_from_slice(&TWO_DIGITS[value as usize % 100]);
        two(0, year / 100);
        two(2, year);
        two(5, month);
        two(8, day);
        two(11, seconds / 3600);
        two(14, seconds / 60 % 60);
        two(17, seconds % 60);
        if nanos > 0 {
            // Digits are written in pairs; the zero before the first of the nine is then overwritten by the point.
            two(19, nanos / 100_000_000);
            two(21, nanos / 1_000_000);
            two(23, nanos / 10_000);
            two(25, nanos / 100);
            two(27, nanos);
            text[19] = b'.';
        }
        let end = match nanos {
            0 => 19,
            n if n % 1_000_000 == 0 => 23,
            n if n % 1_000 == 0 => 26,
            _ => 29,
        };
        text[end] = b'Z';
        out.extend_from_slice(&text[..=end]);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar, for days of the years 0 to
/// 30,000 or so (Cassio Neri and Lorenz Schneider, "Euclidean affine functions and their application to calendar
/// algorithms", 2022: each division is a multiplication).
fn civil(day: i32) -> (u32, u32, u32) {
    // Counted from 1 March of the year 0.
    let quarters = 4 * (day + 719_468) as u32 + 3;
    let (century, in_century) = (quarters / 146_097, quarters % 146_097 / 4);
    let product = 2_939_745 * u64::from(4 * in_century + 3);
    let (year, in_year) = ((product >> 32) as u32, product as u32 / 2_939_745 / 4);
    let months = 2_141 * in_year + 197_913;
    let (month, in_month) = (months >> 16, months % (1 << 16) / 2_141);
    // January and February belong to the year that began in March.
    let late = in_year >= 306;
    (100 * century + year + u32::from(late), if late { month - 12 } else { month }, in_month + 1)
}

impl From<std::time::SystemTime> for Timestamp {
    /// The time that a system clock showed, within [`Timestamp::MIN`] and [`Timestamp::MAX`].
    ///
    /// ```
    /// use attestlog::Timestamp;
    /// use std::time::{Duration, SystemTime};
    /// let written = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
    /// assert_eq!(Timestamp::from(written).to_string(), "1970-01-01T00:00:01.500Z");
    /// ```
    fn from(time: std::time::SystemTime) -> Timestamp {
        let epoch = Timestamp::from_nanos(0);
        match time.duration_since(std::time::SystemTime::UNIX_EPOCH) {
            Ok(after) => epoch.plus(after),
            Err(before) => epoch.minus(before.duration()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(30);
        self.write(&mut out);
        f.write_str(std::str::from_utf8(&out).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::json_form!(text_form Timestamp);

impl Serialize for Timestamp {
    /// RFC 3339; in the stored form its nanoseconds.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() { out.collect_str(self) } else { self.0.serialize(out) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        match from.is_human_readable() {
            true => form::deserialize_str(from),
            false => i64::deserialize(from).map(Timestamp),
        }
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = Error;

    fn try_from(t: DateTime<Utc>) -> Result<Timestamp> {
        t.timestamp_nanos_opt()
            .map(Timestamp)
            .ok_or_else(|| out_of_range(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
    }
}

fn out_of_range(text: &str) -> Error {
    Error::invalid(format!("the time {text} is outside 1678 to 2261"))
}

impl std::str::FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339 with an offset (also `+0200`, as `strftime` writes it), or `YYYY-MM-DD` as midnight UTC.
    fn from_str(text: &str) -> Result<Timestamp> {
        Timestamp::read(text).map_err(|fault| {
            let shown: String = text.chars().take(60).collect();
            match fault {
                TimeFault::Malformed => {
                    Error::invalid(format!("{shown:?} is not a time: write 2025-07-06T14:23:01.456Z or 2025-07-06"))
                }
                TimeFault::LeapSecond => {
                    Error::invalid(format!("{shown}: a leap second cannot be told apart; write it as second 59"))
                }
                TimeFault::NoZone => Error::invalid(format!("{shown:?} has no time zone: write Z or +02:00 after it")),
                TimeFault::OutOfRange => out_of_range(&shown),
            }
        })
    }
}

/// Why a text is no time, for a caller that must not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum TimeFault {
    Malformed,
    LeapSecond,
    NoZone,
    /// Outside 1678 to 2261.
    OutOfRange,
}

impl Timestamp {
    /// Reads what `from_str` does.
    #[doc(hidden)]
    pub fn read(text: &str) -> Result<Timestamp, TimeFault> {
        if text.len() == 10 {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| TimeFault::Malformed)?;
            let midnight = day.and_hms_opt(0, 0, 0).ok_or(TimeFault::Malformed)?;
            return midnight.and_utc().try_into().map_err(|_| TimeFault::OutOfRange);
        }
        // A fraction longer than nanoseconds would be cut silently.
        let fraction = text.split_once('.').map_or(0, |(_, f)| f.bytes().take_while(u8::is_ascii_digit).count());
        if text.len() > 64 || fraction > 9 {
            return Err(TimeFault::Malformed);
        }
        if text.get(17..19) == Some("60") {
            return Err(TimeFault::LeapSecond);
        }
        if Timestamp::lacks_zone(text) {
            return Err(TimeFault::NoZone);
        }
        let t = DateTime::parse_from_rfc3339(&with_colon(text)).map_err(|_| TimeFault::Malformed)?;
        t.to_utc().timestamp_nanos_opt().map(Timestamp).ok_or(TimeFault::OutOfRange)
    }
}

/// `+0200` becomes `+02:00`; anything else is returned unchanged.
fn with_colon(text: &str) -> Cow<'_, str> {
    let Some(at) = text.len().checked_sub(5).filter(|&at| at >= 19 && text.is_char_boundary(at)) else {
        return text.into();
    };
    let (time, offset) = text.split_at(at);
    match offset.strip_prefix(['+', '-']).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
        true => format!("{time}{}:{}", &offset[..3], &offset[3..]).into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Within the last second that can be represented the next whole second was one that lies before: a retention ended
        /// earlier than the time that was asked for.
        #[test]
        fn the_next_whole_second_is_not_before(behind in 0i64..3 * SECOND, nanos: i64) {
            for nanos in [nanos, i64::MAX - behind, i64::MIN + behind] {
                let (t, next) = (Timestamp(nanos), Timestamp(nanos).ceil_to_second());
                proptest::prop_assert!(next >= t && next.nanos().saturating_sub(nanos) < SECOND);
                proptest::prop_assert!(next.nanos() % SECOND == 0 || next == Timestamp::MAX);
                proptest::prop_assert_eq!(next.ceil_to_second(), next);
            }
        }

        #[test]
        fn writes_what_chrono_writes(nanos: i64, grain in 0usize..4) {
            let nanos = nanos - nanos % [1, 1_000, 1_000_000, SECOND][grain];
            let t = Timestamp(nanos);
            proptest::prop_assert_eq!(t.to_string(), t.to_datetime().to_rfc3339_opts(SecondsFormat::AutoSi, true));
            proptest::prop_assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
    }
}

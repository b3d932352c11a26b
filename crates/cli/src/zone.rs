//! Times as people write and read them: `7d`, `yesterday`, `2026-11`, and the time zone in which times are shown. JSON and what is
//! recorded are UTC, always.

use super::exit::Failure;
use attestlog::Timestamp;
pub use attestlog_report::Zone;
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use clap::Args;
use std::path::Path;
use std::time::Duration;

/// In which time zone times are shown to people.
#[derive(Debug, Clone, Default, Args)]
pub struct ZoneArgs {
    /// Time zone of what is shown, and of dates without a time, such as Europe/Berlin. Without it times are shown in the local zone,
    /// and dates are UTC
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    tz: Option<Tz>,
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "must be the name of a time zone, such as Europe/Berlin or UTC".to_owned())
}

impl ZoneArgs {
    /// The zone in which times are shown.
    pub fn shown(&self) -> Zone {
        Zone::named(self.named().name()).unwrap_or_default()
    }

    fn named(&self) -> Tz {
        self.tz.unwrap_or_else(local)
    }
}

/// The zone of this machine or user: the environment's `TZ`, or what `/etc/localtime` points to.
fn local() -> Tz {
    let told = std::env::var("TZ").ok().map(|name| name.trim_start_matches(':').to_owned());
    let name = told.filter(|name| !name.is_empty()).or_else(|| {
        let target = std::fs::canonicalize(Path::new("/etc/localtime")).ok()?;
        let target = target.to_str()?;
        target.split_once("/zoneinfo/").map(|(_, name)| name.to_owned())
    });
    name.and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC)
}

/// The first moment of a day. Where clocks are put forward at midnight it is the first that there is.
fn start(zone: Tz, day: NaiveDate) -> Option<Timestamp> {
    let midnight = day.and_hms_opt(0, 0, 0)?;
    let skipped = |minutes: i64| {
        let later: NaiveDateTime = midnight.checked_add_signed(chrono::TimeDelta::minutes(minutes))?;
        zone.from_local_datetime(&later).earliest()
    };
    let first = (0..=24 * 4).find_map(|quarter| skipped(quarter * 15))?;
    first.timestamp_nanos_opt().map(Timestamp::from_nanos)
}

/// A time as it is given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// RFC 3339.
    At(Timestamp),
    /// So long ago: `7d`, `2h`, `90s`.
    Ago(Duration),
    /// The start of a day: `2026-11-30`, or of a month: `2026-11`.
    Day(NaiveDate),
    /// The start of today, or of the day so many days before.
    DaysAgo(u64),
}

/// Parses a time.
pub fn when(text: &str) -> Result<When, String> {
    let bad = || {
        format!(
            "must be RFC 3339 such as {}, a date such as 2026-11-30, a month such as 2026-11, `today`, `yesterday`, or how long ago, \
             such as 7d or 2h",
            "2026-11-30T09:00:00Z"
        )
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match text {
        "today" => return Ok(When::DaysAgo(0)),
        "yesterday" => return Ok(When::DaysAgo(1)),
        _ if text.len() == 7 && digits(text) => {
            let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d");
            return day.map(When::Day).map_err(|_| bad());
        }
        _ if text.len() == 10 && digits(text) => {
            return NaiveDate::parse_from_str(text, "%Y-%m-%d").map(When::Day).map_err(|_| bad());
        }
        _ => {}
    }
    if let Ok(ago) = attestlog::alert::parse_duration(text) {
        return Ok(When::Ago(ago));
    }
    text.parse().map(When::At).map_err(|e: attestlog::Error| if text.contains('T') { e.to_string() } else { bad() })
}

impl When {
    /// The moment that is meant.
    ///
    /// # Errors
    /// It is before or after all times that can be recorded.
    pub fn moment(self, now: Timestamp, zone: &ZoneArgs) -> Result<Timestamp, Failure> {
        let far = || Failure::Input("the time is too far from now".to_owned());
        match self {
            When::At(at) => Ok(at),
            When::Ago(ago) => {
                let nanos = i64::try_from(ago.as_nanos()).map_err(|_| far())?;
                now.nanos().checked_sub(nanos).map(Timestamp::from_nanos).ok_or_else(far)
            }
            When::Day(day) => start(zone.tz.unwrap_or(Tz::UTC), day).ok_or_else(far),
            When::DaysAgo(days) => {
                let shown = zone.named();
                let utc = DateTime::from_timestamp(now.nanos().div_euclid(1_000_000_000), 0);
                let today = utc.map(|now| now.with_timezone(&shown).date_naive()).ok_or_else(far)?;
                today.checked_sub_days(Days::new(days)).and_then(|day| start(shown, day)).ok_or_else(far)
            }
        }
    }
}

/// Parses the length of a call: `500ms`, `2s`, `1.5s`, `1m30s`.
pub fn length(text: &str) -> Result<Duration, String> {
    let bad = || "must be a length of time such as 500ms, 1.5s or 2m".to_owned();
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1000.0),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 0.0),
    };
    match number.parse::<f64>() {
        Ok(value) if unit > 0.0 => Duration::try_from_secs_f64(value / unit).map_err(|_| bad()),
        _ => attestlog::alert::parse_duration(text).map_err(|_| bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str) -> ZoneArgs {
        ZoneArgs { tz: Some(zone(name).unwrap()) }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-30T00:30:00Z".parse().unwrap();
        for (text, tz, expected) in [
            ("7d", "UTC", "2026-11-23T00:30:00Z"),
            ("2h", "UTC", "2026-11-29T22:30:00Z"),
            ("1h30m", "UTC", "2026-11-29T23:00:00Z"),
            ("yesterday", "UTC", "2026-11-29T00:00:00Z"),
            ("yesterday", "America/New_York", "2026-11-28T05:00:00Z"),
            ("today", "Asia/Tokyo", "2026-11-29T15:00:00Z"),
            ("2026-11", "UTC", "2026-11-01T00:00:00Z"),
            ("2026-11", "Europe/Berlin", "2026-10-31T23:00:00Z"),
            ("2026-11-29", "Europe/Berlin", "2026-11-28T23:00:00Z"),
            ("2026-11-29T10:00:00+02:00", "Europe/Berlin", "2026-11-29T08:00:00Z"),
            // Clocks were put forward at midnight: the day began at one.
            ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(when(text).unwrap().moment(now, &args(tz)).unwrap(), expected, "{text} {tz}");
        }
        for bad in ["", "7", "tomorrow", "2026-13", "2026-1", "2026-02-30", "-7d", "7w", "99999999999999d"] {
            assert!(
                when(bad).is_err_and(|e| !e.is_empty()) || when(bad).unwrap().moment(now, &args("UTC")).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn times_are_shown_in_a_zone() {
        let t: Timestamp = "2026-07-01T22:15:09.5Z".parse().unwrap();
        assert_eq!(args("Europe/Berlin").shown().moment(t), "2026-07-02 00:15:09");
        assert_eq!(args("UTC").shown().name(), "UTC");
        assert_eq!(args("Asia/Kathmandu").shown().time(t), "04:00:09");
    }

    #[test]
    fn lengths_of_calls() {
        let ms = |text: &str| length(text).map(|length| length.as_millis());
        assert_eq!((ms("500ms"), ms("1.5s"), ms("1m30s"), ms("2m")), (Ok(500), Ok(1500), Ok(90_000), Ok(120_000)));
        for bad in ["", "ms", "5", "-1s", "1e400s", "NaNs"] {
            assert!(length(bad).is_err(), "{bad}");
        }
    }
}

//! Time zones in which times are shown to people. What is recorded, and what programs read, is UTC.

use attestlog::Timestamp;
use chrono::DateTime;
use chrono_tz::Tz;

/// A time zone.
///
/// ```
/// use attestlog_report::Zone;
/// let berlin = Zone::named("Europe/Berlin").unwrap();
/// assert_eq!(berlin.moment("2026-07-01T22:15:09Z".parse()?), "2026-07-02 00:15:09");
/// assert_eq!(Zone::default().name(), "UTC");
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Default for Zone {
    /// UTC.
    fn default() -> Zone {
        Zone(Tz::UTC)
    }
}

impl Zone {
    /// The zone of this name, such as `Europe/Berlin`; `None` if there is none.
    pub fn named(name: &str) -> Option<Zone> {
        name.parse().ok().map(Zone)
    }

    /// Its name: `UTC`, `Europe/Berlin`.
    pub fn name(self) -> &'static str {
        match self.0 {
            // They have several names.
            Tz::UTC | Tz::Etc__UTC | Tz::UCT | Tz::Zulu | Tz::Universal | Tz::Etc__UCT => "UTC",
            other => other.name(),
        }
    }

    fn shown(self, t: Timestamp, format: &str) -> String {
        let nanos = t.nanos();
        let utc = DateTime::from_timestamp(
            nanos.div_euclid(1_000_000_000),
            u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
        );
        utc.map_or_else(|| t.to_string(), |utc| utc.with_timezone(&self.0).format(format).to_string())
    }

    /// Date and time to the second: `2025-07-06 14:23:01`.
    pub fn moment(self, t: Timestamp) -> String {
        self.shown(t, "%Y-%m-%d %H:%M:%S")
    }

    /// The date.
    pub fn day(self, t: Timestamp) -> String {
        self.shown(t, "%Y-%m-%d")
    }

    /// The time of day to the second.
    pub fn time(self, t: Timestamp) -> String {
        self.shown(t, "%H:%M:%S")
    }

    /// Date and time with the zone's name, and without the time of day if it is midnight: `2026-01-01 (UTC)`.
    pub(crate) fn moment_named(self, t: Timestamp) -> String {
        match self.time(t).as_str() {
            "00:00:00" => format!("{} ({})", self.day(t), self.name()),
            _ => format!("{} {}", self.moment(t), self.name()),
        }
    }
}

//! The expiry clock: the time by which entries expire. Nobody can run it ahead at will by setting the system clock.
//!
//! Invariant R10: it never runs back, except to a time that somebody confirms, if it was ahead of that by more than the
//! bound. R77: when the store is opened, it shows no more than the later of the system clock and the newest time in the
//! chain, plus the bound, whatever its row in the file says. Invariant R11: as long as its confirmations and trusted
//! times are true, it is never ahead of the true time by more than the bound. R10 and R11 hold whatever the system
//! clock shows. Invariant R16: nothing is purged at a time beyond the system clock, as recorded in the purge's entry,
//! plus the bound, and no trusted time moves the clock beyond that. The clock's value is kept in a row that anybody
//! with write access to the file can change; these checks bind it to the chain.
//!
//! Time that passes while the store is open is measured by the monotonic clock and counts in full. Any other advance of
//! the system clock is *unexplained*: the store was closed, the machine slept, or somebody set the clock. A closed
//! store cannot tell these apart, so unexplained time is credited only up to a bound. The bound covers all unexplained
//! time since the last confirmation or trusted time, so moving the clock in small steps, or back and forth, gains
//! nothing. An advance beyond the bound freezes the clock. A frozen clock does not count monotonic time either: nothing
//! is lost by that, because whatever unfreezes it also says what time it is. Setting the system clock right does not
//! unfreeze it; only a confirmation or a trusted time does.
//!
//! `credited` is therefore the most by which the clock can be ahead of the true time. A confirmation gives the exact
//! time, so `credited` becomes the clock's lead over it; a trusted time is a lower bound of the true time, so
//! `credited` is reduced to the lead over it if it was more. Neither sets the clock back within the bound: a clock that
//! is ahead keeps its lead, and the lead stays credited. If a confirmation finds the clock further ahead than the
//! bound, an earlier confirmation was wrong or somebody wrote the value into the file: the clock is set to the
//! confirmed time, which can only keep entries longer, never shorter.

use crate::json::{Json, Object};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::{Members, check_text, shown};
use std::fmt;
use std::time::Duration;

/// How far the system clock may fall behind the monotonic clock before it counts as set back, because running clocks
/// are adjusted. In addition a thousandth of the time between two readings is allowed; no clock in use drifts by that.
const SLACK: Duration = Duration::from_secs(1);

/// The state of the expiry clock that is kept between runs of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockState {
    /// The time that it shows.
    pub now: Timestamp,
    /// The system clock at its last reading.
    pub wall: Timestamp,
    /// Unexplained time credited since the last confirmation or trusted time, in nanoseconds.
    pub credited_nanos: u64,
    /// Why it is frozen, if it is.
    pub frozen: Option<Frozen>,
}

/// Why the expiry clock is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frozen {
    /// The system clock advanced by more than the bound without a confirmation.
    Unexplained {
        /// The system clock at that moment.
        wall: Timestamp,
    },
}

/// An event of the expiry clock or the system clock that must be recorded in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockEvent {
    /// The system clock was set back. The expiry clock was not.
    SetBack {
        /// The least that the system clock should have shown.
        from: Timestamp,
        /// What it shows.
        to: Timestamp,
    },
    /// The expiry clock is frozen until it is confirmed.
    Frozen {
        /// The time at which it is frozen.
        at: Timestamp,
        /// What the system clock shows.
        wall: Timestamp,
    },
    /// The expiry clock was further ahead than the log's entries and the system clock can explain: its row in the file
    /// was edited, or the system clock had been set back for a long time while the store was open.
    BroughtBack {
        /// What it showed.
        from: Timestamp,
        /// The newest time in the log, which it shows now.
        to: Timestamp,
    },
    /// Somebody confirmed the system clock.
    Confirmed {
        /// Who confirmed it.
        actor: String,
        /// Why the confirmation was needed.
        reason: String,
        /// What the expiry clock showed before.
        from: Timestamp,
        /// What it shows now.
        to: Timestamp,
        /// What the system clock showed.
        wall: Timestamp,
    },
    /// A time that a third party vouches for was accepted.
    Trusted {
        /// The third party: a witness or a time-stamping authority.
        source: String,
        /// The accepted time.
        time: Timestamp,
        /// What the expiry clock showed before.
        from: Timestamp,
        /// What it shows now.
        to: Timestamp,
    },
}

/// The status of the expiry clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockStatus {
    /// The time that it shows: entries whose retention ends at or before it may be purged.
    pub now: Timestamp,
    /// What the system clock shows.
    pub wall: Timestamp,
    /// Why it is frozen, if it is.
    pub frozen: Option<Frozen>,
    /// Unexplained time credited since the last confirmation or trusted time.
    pub credited: Duration,
    /// The maximum that may be credited.
    pub bound: Duration,
    /// How much the expiry clock is behind the system clock.
    pub behind_by: Duration,
    /// How much it is ahead of the system clock.
    pub ahead_by: Duration,
}

impl ClockStatus {
    /// `{"now","wall","frozen":false,"frozen_wall","credited_nanos","bound_nanos","behind_nanos","ahead_nanos"}`; `frozen_wall`,
    /// what the system clock showed when the expiry clock stopped, is null while it runs.
    pub fn to_json(&self) -> Json {
        let stopped = self.frozen.map(|Frozen::Unexplained { wall }| wall);
        Object::from_iter([
            ("now", self.now.form()),
            ("wall", self.wall.form()),
            ("frozen", stopped.is_some().form()),
            ("frozen_wall", stopped.form()),
            ("credited_nanos", self.credited.form()),
            ("bound_nanos", self.bound.form()),
            ("behind_nanos", self.behind_by.form()),
            ("ahead_nanos", self.ahead_by.form()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Result<ClockStatus> {
        let mut members = Members::of(value)?;
        let stopped: Option<Timestamp> = member(&mut members, "frozen_wall")?;
        Ok(ClockStatus {
            now: member(&mut members, "now")?,
            wall: member(&mut members, "wall")?,
            frozen: stopped.map(|wall| Frozen::Unexplained { wall }),
            credited: member(&mut members, "credited_nanos")?,
            bound: member(&mut members, "bound_nanos")?,
            behind_by: member(&mut members, "behind_nanos")?,
            ahead_by: member(&mut members, "ahead_nanos")?,
        })
    }
}

attestlog_proof::json_form!(methods ClockStatus, ClockEvent);

/// The clock by which entries expire.
///
/// ```
/// use attestlog::{Timestamp, retention::ExpiryClock};
/// use std::time::Duration;
/// const DAY: Duration = Duration::from_secs(86_400);
/// let start: Timestamp = "2025-01-01".parse()?;
/// let mut clock = ExpiryClock::start(start, 7 * DAY);
/// clock.advance_open(3 * DAY);
/// assert_eq!(clock.now(), start.plus(3 * DAY));
/// let events = clock.observe_wall(start.plus(3653 * DAY)); // closed for ten years, or so it seems
/// assert_eq!((events.len(), clock.now()), (1, start.plus(10 * DAY)));
/// assert!(clock.check().is_err());
/// clock.confirm(start.plus(3653 * DAY), "ops", "the machine was in storage")?;
/// assert_eq!(clock.now(), start.plus(3653 * DAY));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryClock {
    state: ClockState,
    bound: Duration,
    /// Monotonic time since the last reading of the system clock; not known from before this run.
    since_wall: Duration,
}

impl ExpiryClock {
    /// The clock of a new store, starting at the system clock.
    pub fn start(wall: Timestamp, bound: Duration) -> ExpiryClock {
        ExpiryClock::resume(ClockState { now: wall, wall, credited_nanos: 0, frozen: None }, bound)
    }

    /// Restores a clock from its kept state. If the bound is lower than what is already credited, no more is credited.
    pub fn resume(state: ClockState, bound: Duration) -> ExpiryClock {
        ExpiryClock { state, bound, since_wall: Duration::ZERO }
    }

    /// The state to keep. It must be written in the same commit as the entries that the clock was read for.
    pub fn state(&self) -> &ClockState {
        &self.state
    }

    /// To be called on opening. `newest` is the newest recording time in the log's entries. A clock that is ahead of
    /// both that and the system clock by more than the bound was not set by this program, and is set back to `newest`.
    #[must_use = "the event must be recorded in the log"]
    pub(crate) fn bring_back(&mut self, newest: Timestamp, wall: Timestamp) -> Option<ClockEvent> {
        let from = self.state.now;
        if is_within(from, newest.max(wall), self.bound) {
            return None;
        }
        (self.state.now, self.state.frozen) = (newest, None);
        Some(ClockEvent::BroughtBack { from, to: newest })
    }

    /// The time that the clock shows.
    pub fn now(&self) -> Timestamp {
        self.state.now
    }

    /// Sets the bound, after a change of policy.
    pub fn set_bound(&mut self, bound: Duration) {
        self.bound = bound;
    }

    /// Adds the monotonic time that has passed since the last call while the store was open.
    pub fn advance_open(&mut self, elapsed: Duration) {
        self.since_wall = self.since_wall.saturating_add(elapsed);
        if self.state.frozen.is_none() {
            self.state.now = self.state.now.plus(elapsed);
        }
    }

    /// Takes a reading of the system clock. Call this on opening for writing and before every commit, after
    /// [`advance_open`](ExpiryClock::advance_open), with the time at which the commit's entries are recorded.
    ///
    /// The returned events must be recorded in the log before those entries.
    #[must_use = "events must be recorded in the log"]
    pub fn observe_wall(&mut self, wall: Timestamp) -> Vec<ClockEvent> {
        let mut events = Vec::new();
        let due = self.state.wall.plus(self.since_wall.saturating_sub(SLACK + self.since_wall / 1000));
        if wall < due {
            events.push(ClockEvent::SetBack { from: self.state.wall.plus(self.since_wall), to: wall });
        }
        self.state.wall = wall;
        self.since_wall = Duration::ZERO;
        let unexplained = wall.since(self.state.now);
        if self.state.frozen.is_none() && !unexplained.is_zero() {
            let credit = unexplained.min(self.bound.saturating_sub(self.credited()));
            self.state.now = self.state.now.plus(credit);
            self.state.credited_nanos = self.state.credited_nanos.saturating_add(nanos(credit));
            if credit < unexplained {
                self.state.frozen = Some(Frozen::Unexplained { wall });
                events.push(ClockEvent::Frozen { at: self.state.now, wall });
            }
        }
        events
    }

    /// Confirms that the system clock, which shows `wall`, is right. The expiry clock is set to it if it is behind, or
    /// ahead by more than the bound, and is unfrozen. Call this after [`observe_wall`](ExpiryClock::observe_wall), as
    /// before any commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: the actor or the reason is missing. Nothing has changed then.
    pub fn confirm(
        &mut self,
        wall: Timestamp,
        actor: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<ClockEvent> {
        let (actor, reason) = (actor.into(), reason.into());
        check_text("actor", &actor)?;
        check_text("reason", &reason)?;
        let from = self.state.now;
        self.state.now = if is_within(from, wall, self.bound) { from.max(wall) } else { wall };
        self.state.credited_nanos = nanos(self.state.now.since(wall));
        self.state.frozen = None;
        Ok(ClockEvent::Confirmed { actor, reason, from, to: self.state.now, wall })
    }

    /// Accepts a time for which `source` vouches: it is now at least `time`. The expiry clock is set to it if it is
    /// behind, and is unfrozen unless it is ahead by more than the bound. An old time, or the same one again, gains
    /// nothing. Call this after [`observe_wall`](ExpiryClock::observe_wall), as before any commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: the source is missing. [`ErrorKind::Conflict`]: the time is ahead of the system
    /// clock by more than the bound, so one of the two is wrong. Nothing has changed then.
    pub fn trusted(&mut self, time: Timestamp, source: impl Into<String>) -> Result<ClockEvent> {
        let source = source.into();
        check_text("source", &source)?;
        if !self.may_trust(time) {
            let message = format!(
                "{source} says that it is {time}, which is further ahead of the system clock ({}) than {}: one of the two is \
                 wrong, and nothing expires by it",
                self.state.wall,
                Spoken(self.bound)
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let from = self.state.now;
        self.state.now = from.max(time);
        let lead = self.state.now.since(time);
        self.state.credited_nanos = self.state.credited_nanos.min(nanos(lead));
        if lead <= self.bound {
            self.state.frozen = None;
        }
        Ok(ClockEvent::Trusted { source, time, from, to: self.state.now })
    }

    /// Whether a third party's time is ahead of the system clock by no more than the bound.
    pub(crate) fn may_trust(&self, time: Timestamp) -> bool {
        is_within(time, self.state.wall, self.bound)
    }

    /// Refuses while the clock is frozen, or ahead of the system clock by more than the bound.
    ///
    /// # Errors
    /// [`ErrorKind::ClockFrozen`] with the reason and what to do.
    pub fn check(&self) -> Result<()> {
        self.status(self.state.wall).check()
    }

    /// The status of the clock relative to a system clock that shows `wall`. Changes nothing.
    pub fn status(&self, wall: Timestamp) -> ClockStatus {
        ClockStatus {
            now: self.state.now,
            wall,
            frozen: self.state.frozen,
            credited: self.credited(),
            bound: self.bound,
            behind_by: wall.since(self.state.now),
            ahead_by: self.state.now.since(wall),
        }
    }

    fn credited(&self) -> Duration {
        Duration::from_nanos(self.state.credited_nanos)
    }
}

/// Whether `time` is ahead of the system clock by no more than the bound: the limit for what the expiry clock may show
/// and what third parties may vouch for.
pub(crate) fn is_within(time: Timestamp, wall: Timestamp, bound: Duration) -> bool {
    time <= wall.plus(bound)
}

impl ClockStatus {
    /// Refuses while nothing may expire.
    ///
    /// # Errors
    /// [`ErrorKind::ClockFrozen`] with the reason and what to do.
    pub fn check(&self) -> Result<()> {
        match self.frozen.is_none() && is_within(self.now, self.wall, self.bound) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::ClockFrozen, self.to_string())),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for ClockStatus {
    /// One sentence for people to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = Spoken(self.bound);
        match self.frozen {
            None if !is_within(self.now, self.wall, self.bound) => write!(
                f,
                "nothing expires: the time by which entries expire is {}, which is {} ahead of the system clock ({}) where {bound} are \
                 allowed; set the system clock right if it is wrong; otherwise confirm it, which sets that time back",
                self.now,
                Spoken(self.now.since(self.wall)),
                self.wall
            ),
            None => write!(
                f,
                "expiry runs: the time by which entries expire is {}, {} of {bound} of unexplained time are credited",
                self.now,
                Spoken(self.credited)
            ),
            Some(Frozen::Unexplained { wall }) => write!(
                f,
                "expiry is frozen at {}: the system clock went to {wall}, {} further, and only {bound} of unexplained time \
                 are credited until somebody confirms that the clock is right",
                self.now,
                Spoken(wall.since(self.now)),
            ),
        }
    }
}

/// A duration as people say it, in its two largest units.
struct Spoken(Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.as_secs();
        let (days, hours, minutes, seconds) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {seconds} s"),
            (0, ..) => write!(f, "{hours} h {minutes} min"),
            (1, 0, _) => f.write_str("1 day"),
            (_, 0, _) => write!(f, "{days} days"),
            (1, ..) => write!(f, "1 day {hours} h"),
            _ => write!(f, "{days} days {hours} h"),
        }
    }
}

impl ClockEvent {
    /// The detail of the `clock` entry: `event` and the members of that event.
    pub fn to_json(&self) -> Json {
        let time = |t: &Timestamp| t.to_string();
        let members = match self {
            ClockEvent::SetBack { from, to } => {
                vec![("event", "set_back".to_owned()), ("from", time(from)), ("to", time(to))]
            }
            ClockEvent::Frozen { at, wall } => {
                vec![("event", "frozen".to_owned()), ("at", time(at)), ("wall", time(wall))]
            }
            ClockEvent::BroughtBack { from, to } => {
                vec![("event", "brought_back".to_owned()), ("from", time(from)), ("to", time(to))]
            }
            ClockEvent::Confirmed { actor, reason, from, to, wall } => vec![
                ("event", "confirmed".to_owned()),
                ("actor", actor.clone()),
                ("reason", reason.clone()),
                ("from", time(from)),
                ("to", time(to)),
                ("wall", time(wall)),
            ],
            ClockEvent::Trusted { source, time: trusted, from, to } => vec![
                ("event", "trusted".to_owned()),
                ("source", source.clone()),
                ("time", time(trusted)),
                ("from", time(from)),
                ("to", time(to)),
            ],
        };
        Object::from_iter(members).into()
    }

    /// Parses the output of [`ClockEvent::to_json`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or invalid.
    pub fn from_json(value: &Json) -> Result<ClockEvent> {
        let mut members = Members::of(value)?;
        let event = match members.text("event")?.as_str() {
            "set_back" => ClockEvent::SetBack { from: members.time("from")?, to: members.time("to")? },
            "frozen" => ClockEvent::Frozen { at: members.time("at")?, wall: members.time("wall")? },
            "brought_back" => ClockEvent::BroughtBack { from: members.time("from")?, to: members.time("to")? },
            "confirmed" => ClockEvent::Confirmed {
                actor: members.text("actor")?,
                reason: members.text("reason")?,
                from: members.time("from")?,
                to: members.time("to")?,
                wall: members.time("wall")?,
            },
            "trusted" => ClockEvent::Trusted {
                source: members.text("source")?,
                time: members.time("time")?,
                from: members.time("from")?,
                to: members.time("to")?,
            },
            other => return Err(Error::invalid(format!("event: {} is not known", shown(other)))),
        };
        members.end()?;
        Ok(event)
    }
}

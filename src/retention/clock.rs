//! The expiry clock: the time by which entries expire, which whoever sets the system clock cannot run ahead at will.
//!
//! Invariant R10: it never runs back, but to a time that somebody confirms, where it was ahead of that by more than the bound.
//! R77: on opening it shows at most the bound beyond the system clock and the newest time in the chain, whatever lies in its row.
//! Invariant R11: while its confirmations and trusted times are true, it is never
//! ahead of the true time by more than the bound. Both hold whatever the system clock shows. Invariant R16: nothing is
//! purged at a time that lies beyond the system clock, as it stands in the purge's entry, and the bound, and no trusted
//! time carries the clock there. What the clock shows is kept in a row that anybody with the file can write to; this is
//! what binds it to the chain.
//!
//! Time that passes while the store is open is measured by the monotonic clock and counts in full. All other advance of
//! the system clock is *unexplained*: the store was closed, the machine slept, or somebody set the clock. A closed
//! store cannot tell these apart, so unexplained time is credited only up to a bound, and that bound counts all of it
//! since the last confirmation or trusted time: going forward in small steps, or to and fro, gains nothing. What would
//! go beyond the bound freezes the clock. A frozen clock stands still, also for monotonic time: nothing is lost by
//! that, because whatever thaws it says what time it is. It stays frozen, though the system clock be set right, until a
//! person or a trusted time has spoken.
//!
//! `credited` is therefore the most by which the clock can be ahead of the true time. A confirmation says the time
//! exactly, so `credited` becomes what the clock is ahead of it; a trusted time says that it is at least so late, so
//! `credited` falls to that if it was more. Neither sets the clock back within the bound: one that is ahead keeps its lead
//! on the account. One that a confirmation finds further ahead than the bound was confirmed wrongly before, or written
//! into the file by somebody: it goes to the confirmed time, which keeps for longer and never for less.

use crate::json::{Json, Object};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::members::{Members, check_text, shown};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How much the system clock may fall behind the monotonic clock before it counts as set back: clocks are disciplined
/// while they run. Besides a thousandth of the time between two looks, which no clock in use drifts by.
const SLACK: Duration = Duration::from_secs(1);

/// What the expiry clock keeps between two runs of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClockState {
    /// What it shows.
    pub now: Timestamp,
    /// What the system clock showed when it was last looked at.
    pub wall: Timestamp,
    /// Unexplained time credited since the last confirmation or trusted time, in nanoseconds.
    pub credited_nanos: u64,
    /// Why it stands still, if it does.
    pub frozen: Option<Frozen>,
}

/// Why the expiry clock stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Frozen {
    /// The system clock went ahead by more than the bound allows without a confirmation.
    Unexplained {
        /// What the system clock showed.
        wall: Timestamp,
    },
}

/// What happened to the expiry clock or the system clock that must be said in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockEvent {
    /// The system clock was set back. The expiry clock was not.
    SetBack {
        /// What the system clock should have shown at least.
        from: Timestamp,
        /// What it shows.
        to: Timestamp,
    },
    /// The expiry clock stands still until it is confirmed.
    Frozen {
        /// Where it stands.
        at: Timestamp,
        /// What the system clock shows.
        wall: Timestamp,
    },
    /// The expiry clock was further ahead than the log's entries and the system clock can explain: its row in the file was
    /// edited, or the system clock had been set back for long while the store was open.
    BroughtBack {
        /// What it showed.
        from: Timestamp,
        /// The newest time in the log, which it shows now.
        to: Timestamp,
    },
    /// Somebody confirmed the system clock.
    Confirmed {
        /// Who.
        actor: String,
        /// Why it had to be.
        reason: String,
        /// What the expiry clock showed before.
        from: Timestamp,
        /// What it shows now.
        to: Timestamp,
        /// What the system clock showed.
        wall: Timestamp,
    },
    /// A time that others vouch for was taken over.
    Trusted {
        /// Who vouches: a witness, a time-stamping authority.
        source: String,
        /// The time.
        time: Timestamp,
        /// What the expiry clock showed before.
        from: Timestamp,
        /// What it shows now.
        to: Timestamp,
    },
}

/// How the expiry clock stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockStatus {
    /// What it shows: what expires at or before this may be purged.
    pub now: Timestamp,
    /// What the system clock shows.
    pub wall: Timestamp,
    /// Why it stands still, if it does.
    pub frozen: Option<Frozen>,
    /// Unexplained time credited since the last confirmation or trusted time.
    pub credited: Duration,
    /// How much may be credited.
    pub bound: Duration,
    /// How much the expiry clock is behind the system clock.
    pub behind_by: Duration,
    /// How much it is ahead of the system clock.
    pub ahead_by: Duration,
}

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
    /// Monotonic time since the system clock was last looked at; unknown from before this run.
    since_wall: Duration,
}

impl ExpiryClock {
    /// The clock of a new store, which begins with the system clock as it is.
    pub fn start(wall: Timestamp, bound: Duration) -> ExpiryClock {
        ExpiryClock::resume(ClockState { now: wall, wall, credited_nanos: 0, frozen: None }, bound)
    }

    /// The clock as it was kept. A bound that is lower than what is credited credits no more.
    pub fn resume(state: ClockState, bound: Duration) -> ExpiryClock {
        ExpiryClock { state, bound, since_wall: Duration::ZERO }
    }

    /// What must be kept, in the same commit as the entries that it was observed for.
    pub fn state(&self) -> &ClockState {
        &self.state
    }

    /// On opening: `newest` is the newest time at which the log's entries say that they were recorded. A clock that shows more
    /// than the bound beyond that and the system clock was not brought there by this program, and goes back to it.
    #[must_use = "the event belongs into the log"]
    pub(crate) fn bring_back(&mut self, newest: Timestamp, wall: Timestamp) -> Option<ClockEvent> {
        let from = self.state.now;
        if is_within(from, newest.max(wall), self.bound) {
            return None;
        }
        (self.state.now, self.state.frozen) = (newest, None);
        Some(ClockEvent::BroughtBack { from, to: newest })
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        self.state.now
    }

    /// Another bound, which a policy set.
    pub fn set_bound(&mut self, bound: Duration) {
        self.bound = bound;
    }

    /// So much monotonic time has passed, since the last call, while the store was open.
    pub fn advance_open(&mut self, elapsed: Duration) {
        self.since_wall = self.since_wall.saturating_add(elapsed);
        if self.state.frozen.is_none() {
            self.state.now = self.state.now.plus(elapsed);
        }
    }

    /// The system clock shows `wall`. To be called on opening for writing and before every commit, after
    /// [`advance_open`](ExpiryClock::advance_open), with the time that the commit's entries are recorded at.
    ///
    /// What it returns is to be said in the log before those entries.
    #[must_use = "events belong into the log"]
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

    /// Somebody says that the system clock, which shows `wall`, is right. The expiry clock goes there if it is behind, or
    /// ahead by more than the bound, and runs on. To be called after [`observe_wall`](ExpiryClock::observe_wall), as before any commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: no actor or no reason. Nothing has changed then.
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

    /// It is at least as late as `time`, as `source` vouches. The expiry clock goes there if it is behind, and runs on
    /// if it is not ahead by more than the bound. An old time, or the same one again, gains nothing. To be called after
    /// [`observe_wall`](ExpiryClock::observe_wall), as before any commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: no source. [`ErrorKind::Conflict`]: the time lies further ahead of the system clock
    /// than the bound, so one of the two is wrong. Nothing has changed then.
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

    /// Whether a time that others vouch for lies no further ahead of the system clock than the bound.
    pub(crate) fn may_trust(&self, time: Timestamp) -> bool {
        is_within(time, self.state.wall, self.bound)
    }

    /// Refuses while the clock stands still, or is further ahead of the system clock than the bound, saying why and what
    /// to do.
    ///
    /// # Errors
    /// [`ErrorKind::ClockFrozen`].
    pub fn check(&self) -> Result<()> {
        self.status(self.state.wall).check()
    }

    /// How the clock stands against a system clock that shows `wall`. Changes nothing.
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

/// Whether `time` lies no further ahead of the system clock than the bound: what the expiry clock may show and others may
/// vouch for.
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
    /// One sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = Spoken(self.bound);
        match self.frozen {
            None if !is_within(self.now, self.wall, self.bound) => write!(
                f,
                "nothing expires: the expiry clock shows {}, which is {} ahead of the system clock ({}) where {bound} are \
                 allowed; set the system clock right if it is wrong; otherwise confirm it, which sets the expiry clock back",
                self.now,
                Spoken(self.now.since(self.wall)),
                self.wall
            ),
            None => write!(
                f,
                "expiry runs: it is {} by the expiry clock, {} of {bound} of unexplained time are credited",
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
    /// The detail of the `clock` entry: `event` and what belongs to it.
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

    /// Reads what [`ClockEvent::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or wrong.
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

//! Entries that may have been recorded while the system clock was wrong, as far as the log's `clock` entries tell.
//!
//! Setting the recorder's clock does not keep an access out of a report. An access that was recorded while the clock was set
//! back, or after a forward jump that was later undone, is in the report of every period to which it may belong, its own
//! included, and is marked. What a step back proves is bounded by its length: a store that was closed for days, and whose clock
//! was later set back by an hour, has entries that may be an hour off and no more (invariant R88).

use attestlog::json::Json;
use attestlog::{Entry, Kind, Timestamp};
use std::time::Duration;

/// Steps back that are no longer than this together, since somebody or something last vouched for the clock, are adjustments: clocks
/// are set by the network a little now and then.
const ADJUSTED: Duration = Duration::from_secs(300);

/// A range of entries that may have been recorded while the clock was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrongClock {
    /// The first entry.
    first: u64,
    /// The first entry after them.
    end: u64,
    recorded: Recorded,
}

/// When its entries may have been recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Recorded {
    /// The clock had been set back: in this time, or since if it has not come back to `from` yet.
    Between { from: Timestamp, to: Option<Timestamp> },
    /// The clock was set back after them: earlier than they say by this at most, and no later than this time if it is known.
    Earlier { by: Duration, latest: Option<Timestamp> },
}

impl WrongClock {
    pub(super) fn has(&self, seq: u64) -> bool {
        (self.first..self.end).contains(&seq)
    }

    /// Whether its entry that says that it was recorded at this time may have been recorded in a period.
    pub(super) fn may_be_in(&self, at: Timestamp, start: Option<Timestamp>, end: Option<Timestamp>) -> bool {
        let (from, to) = match self.recorded {
            Recorded::Between { from, to } => (from, to),
            Recorded::Earlier { by, latest } => (at.minus(by), Some(latest.unwrap_or(at))),
        };
        let ended = start.zip(to).is_some_and(|(start, to)| to < start);
        !ended && end.is_none_or(|end| from < end)
    }
}

/// A jump ahead.
#[derive(Debug, Clone, Copy)]
struct Jump {
    /// The entry that records it.
    seq: u64,
    /// How far the clock went, from the entry before.
    by: Duration,
    /// Where in `found` the entries after it are, once the clock was set back.
    found: Option<usize>,
}

/// Finds the entries of a log that may have been recorded while the clock was wrong. Add every entry, in order, from the one
/// before the first of the kind `clock` on.
#[derive(Debug, Clone, Default)]
pub struct WrongClocks {
    found: Vec<WrongClock>,
    /// The entry that records that the clock was set back, and the time that it had shown before.
    back: Option<(u64, Timestamp)>,
    ahead: Option<Jump>,
    /// When the entry before was recorded.
    before: Option<Timestamp>,
    /// The adjustments since the clock was last confirmed, together.
    adjusted: Duration,
}

impl WrongClocks {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let (seq, now) = (entry.seq, entry.body.recorded_at);
        if let Some((set, from)) = self.back.filter(|(_, from)| now >= *from) {
            let recorded = Recorded::Between { from, to: Some(now) };
            self.found.push(WrongClock { first: set + 1, end: seq, recorded });
            self.back = None;
        }
        let before = self.before.replace(now);
        let Some(own) = entry.own().filter(|own| own.kind == Kind::Clock) else { return };
        let detail = own.detail.to_json();
        let time = |name: &str| detail.get(name).and_then(Json::as_str).and_then(|time| time.parse::<Timestamp>().ok());
        match detail.get("event").and_then(Json::as_str) {
            Some("frozen") => {
                let by = time("wall").zip(before.or_else(|| time("at"))).map(|(wall, before)| wall.since(before));
                self.ahead = by.map(|by| Jump { seq, by, found: None });
            }
            Some("set_back") => {
                let Some((from, to)) = time("from").zip(time("to")) else { return };
                self.set_back(seq, from, to);
            }
            // Somebody has confirmed the time that the clock shows.
            Some("confirmed" | "trusted") => (self.back, self.ahead, self.adjusted) = (None, None, Duration::ZERO),
            _ => {}
        }
    }

    /// The entry at `seq` says that the clock went back.
    fn set_back(&mut self, seq: u64, from: Timestamp, to: Timestamp) {
        // If it went back before and has not come to where it was, this goes on from there.
        let from = self.back.map_or(from, |(_, before)| before.max(from));
        let by = from.since(to);
        if by.is_zero() {
            return;
        }
        if self.back.is_none() && by <= ADJUSTED {
            self.adjusted = self.adjusted.saturating_add(by);
            if self.adjusted <= ADJUSTED {
                return;
            }
        }
        // Where the clock should be at least, and how far below that it may be.
        let (mut least, mut may_lag) = (from, Duration::ZERO);
        if let Some(jump) = &mut self.ahead {
            // More than twice as long, the jump was mostly something else: time that went by.
            let undone = by.saturating_mul(2) >= jump.by;
            let recorded = Recorded::Earlier { by, latest: undone.then_some(to) };
            match jump.found.and_then(|at| self.found.get_mut(at)) {
                Some(known) => known.recorded = recorded,
                None => {
                    jump.found = Some(self.found.len());
                    self.found.push(WrongClock { first: jump.seq + 1, end: seq, recorded });
                }
            }
            if undone {
                (least, may_lag) = (from.minus(jump.by), ADJUSTED);
                (self.ahead, self.back) = (None, None);
            }
        }
        if self.back.is_none() && least.since(to) > may_lag {
            self.back = Some((seq, least));
        }
    }

    pub(super) fn finish(mut self) -> Vec<WrongClock> {
        if let Some((set, from)) = self.back {
            let recorded = Recorded::Between { from, to: None };
            self.found.push(WrongClock { first: set + 1, end: u64::MAX, recorded });
        }
        self.found
    }
}

//! What is still owed to which anchor, and when it is tried again.
//!
//! Invariants: an anchor that was given a checkpoint successfully owes nothing up to its size; whatever is newer stays
//! owed until it succeeds or a still newer one takes its place, because a checkpoint covers everything before it; a
//! failure is counted and kept until the next success and never takes an anchor off the list. Memory is bounded: a size
//! per anchor, one success, one error. An anchor is asked one thing at a time.
//!
//! Nothing here does I/O, waits or reads a clock: the caller says what time it is, hands over what is [`AnchorQueue::due`]
//! and says how that went. What is under way is not written down, so after a crash it is simply tried again.

use crate::json::{Json, Object};
use crate::{Error, ErrorKind, Result, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most anchors that a queue holds.
pub const MAX_ANCHORS: usize = 64;

/// The most characters of an error that are kept.
const MAX_MESSAGE_CHARS: usize = 500;

/// How long to wait after a failure: `first`, then twice as long after each further one, up to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for Backoff {
    /// Ten seconds, at most an hour.
    fn default() -> Backoff {
        Backoff { first: Duration::from_secs(10), cap: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// The wait after this many failures in a row.
    ///
    /// ```
    /// use attestlog::anchor::Backoff;
    /// let waits = [1, 2, 3, 10, u64::MAX].map(|n| Backoff::default().after(n).as_secs());
    /// assert_eq!(waits, [10, 20, 40, 3600, 3600]);
    /// ```
    pub fn after(&self, failures: u64) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

/// The last checkpoint that an anchor took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// The largest size that it took.
    pub size: u64,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// When, by the anchor's own word, if it tells the time.
    pub trusted: Option<Timestamp>,
}

/// The last failure since the last success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// Whether the anchor has something else on record than this log says: trying again will not mend that, and somebody
    /// must look, because that is how an older copy or a fork of the store shows.
    pub conflict: bool,
}

/// How things stand with one anchor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnchorStatus {
    /// The largest size owed to it, if any.
    pub owed: Option<u64>,
    /// Since when something has been owed, counted anew from each success.
    pub owed_since: Option<Timestamp>,
    /// When it is tried again; `None` for as soon as there is something to hand over.
    pub retry_at: Option<Timestamp>,
    /// How often it failed since its last success.
    pub failures_in_a_row: u64,
    /// How often it failed in all.
    pub failures: u64,
    /// The last checkpoint that it took.
    pub last_success: Option<Success>,
    /// Why it failed last, until it succeeds.
    pub last_failure: Option<Failure>,
    /// The size that is being handed over right now.
    under_way: Option<u64>,
}

/// A checkpoint to hand to an anchor now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The anchor's name.
    pub anchor: String,
    /// The size of the checkpoint.
    pub size: u64,
}

/// Says which checkpoint goes to which anchor when.
///
/// ```
/// use attestlog::{Error, ErrorKind, Timestamp, anchor::{AnchorQueue, Backoff}};
/// let noon: Timestamp = "2025-07-06T12:00:00Z".parse()?;
/// let mut queue = AnchorQueue::new(Backoff::default());
/// queue.add("witness")?;
/// queue.owe(100, noon);
/// let due = queue.due(noon);
/// assert_eq!((due[0].anchor.as_str(), due[0].size), ("witness", 100));
/// queue.failed("witness", noon, &Error::new(ErrorKind::Io, "no answer"));
/// assert!(queue.due(noon).is_empty());
/// assert_eq!(queue.next_due(), Some("2025-07-06T12:00:10Z".parse()?));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnchorQueue {
    backoff: Backoff,
    anchors: BTreeMap<String, AnchorStatus>,
}

impl AnchorQueue {
    /// A queue without anchors.
    pub fn new(backoff: Backoff) -> AnchorQueue {
        AnchorQueue { backoff, anchors: BTreeMap::new() }
    }

    /// Adds an anchor under its name; one that is there already stays as it is. Nothing is owed to it yet.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) beyond [`MAX_ANCHORS`].
    pub fn add(&mut self, name: &str) -> Result<()> {
        if self.anchors.len() >= MAX_ANCHORS && !self.anchors.contains_key(name) {
            return Err(Error::new(ErrorKind::TooLarge, format!("more than {MAX_ANCHORS} anchors")));
        }
        self.anchors.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// Takes an anchor off the list, with everything owed to it; gives how things stood. To be done only because
    /// somebody said so: an anchor that is merely not configured this time stays, and is reported as owed.
    pub fn remove(&mut self, name: &str) -> Option<AnchorStatus> {
        self.anchors.remove(name)
    }

    /// A checkpoint of this size was signed: every anchor that has none as large is owed it. Waits are not cut short.
    pub fn owe(&mut self, size: u64, now: Timestamp) {
        for status in self.anchors.values_mut() {
            let known = status.owed.max(status.last_success.map(|s| s.size));
            if known.is_none_or(|known| size > known) {
                status.owed = Some(size);
                status.owed_since.get_or_insert(now);
            }
        }
    }

    /// What to hand over now. Each is under way from here on, until [`AnchorQueue::succeeded`] or
    /// [`AnchorQueue::failed`] is called for it.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        self.due_of(now, |_| true)
    }

    /// As [`AnchorQueue::due`], of the anchors that are at hand: what is owed to others stays owed.
    pub fn due_of(&mut self, now: Timestamp, at_hand: impl Fn(&str) -> bool) -> Vec<Due> {
        let cap = self.backoff.cap;
        let mut due = Vec::new();
        for (name, status) in self.anchors.iter_mut().filter(|(name, _)| at_hand(name)) {
            // A time beyond the longest wait was set by a clock that has been put back since.
            let waits = status.retry_at.is_some_and(|at| at > now && at.since(now) <= cap);
            if let (Some(size), None, false) = (status.owed, status.under_way, waits) {
                status.under_way = Some(size);
                due.push(Due { anchor: name.clone(), size });
            }
        }
        due
    }

    /// The earliest time at which something that is owed and not under way may be tried; `None` if there is nothing.
    /// [`Timestamp::MIN`] stands for at once.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.next_due_of(|_| true)
    }

    /// As [`AnchorQueue::next_due`], of the anchors that are at hand.
    pub fn next_due_of(&self, at_hand: impl Fn(&str) -> bool) -> Option<Timestamp> {
        let at_hand = self.anchors.iter().filter(|(name, _)| at_hand(name)).map(|(_, status)| status);
        let waiting = at_hand.filter(|s| s.owed.is_some() && s.under_way.is_none());
        waiting.map(|s| s.retry_at.unwrap_or(Timestamp::MIN)).min()
    }

    /// Drops what cannot be, of a log of which `signed` entries are signed and nothing happened after `latest`: a success or a
    /// debt beyond what was signed, a success after that. Gives the names of the anchors of which something was dropped.
    pub(crate) fn bound(&mut self, signed: u64, latest: Timestamp) -> Vec<String> {
        let mut dropped = Vec::new();
        for (name, status) in &mut self.anchors {
            let success = status.last_success.filter(|success| success.size <= signed && success.at <= latest);
            let owed = status.owed.filter(|owed| *owed <= signed);
            if (success, owed) != (status.last_success, status.owed) {
                (status.last_success, status.owed) = (success, owed);
                status.owed_since = status.owed_since.filter(|_| owed.is_some());
                dropped.push(name.clone());
            }
        }
        dropped
    }

    /// Ends all waits: what is owed is due at once.
    pub fn retry_now(&mut self) {
        self.anchors.values_mut().for_each(|status| status.retry_at = None);
    }

    /// The anchor took the checkpoint that was under way; `trusted` is its own time for it, if it tells one.
    pub fn succeeded(&mut self, name: &str, now: Timestamp, trusted: Option<Timestamp>) {
        let Some(status) = self.anchors.get_mut(name) else { return };
        let Some(size) = status.under_way.take() else { return };
        status.last_success = Some(Success { size, at: now, trusted });
        (status.last_failure, status.failures_in_a_row, status.retry_at) = (None, 0, None);
        if status.owed.is_none_or(|owed| owed <= size) {
            (status.owed, status.owed_since) = (None, None);
        } else {
            // What is owed now was signed while this was under way.
            status.owed_since = Some(now);
        }
    }

    /// Handing over what was under way failed: it is tried again after the wait.
    pub fn failed(&mut self, name: &str, now: Timestamp, error: &Error) {
        let Some(status) = self.anchors.get_mut(name) else { return };
        if status.under_way.take().is_none() {
            return;
        }
        status.failures = status.failures.saturating_add(1);
        status.failures_in_a_row = status.failures_in_a_row.saturating_add(1);
        status.retry_at = Some(now.plus(self.backoff.after(status.failures_in_a_row)));
        let message = error.to_string().chars().take(MAX_MESSAGE_CHARS).collect();
        status.last_failure = Some(Failure { message, at: now, conflict: error.kind() == ErrorKind::Conflict });
    }

    /// How things stand, by name.
    pub fn status(&self) -> impl ExactSizeIterator<Item = (&str, &AnchorStatus)> {
        self.anchors.iter().map(|(name, status)| (name.as_str(), status))
    }

    /// The largest size that any anchor took, and the largest that all of them took: `None` without a success, or without
    /// one of each.
    pub fn anchored(&self) -> (Option<u64>, Option<u64>) {
        let sizes = || self.anchors.values().map(|s| s.last_success.map(|s| s.size));
        (sizes().max().flatten(), sizes().min().flatten())
    }

    /// Everything but what is under way, to be stored and to be shown:
    /// `{"anchors":[{"name","owed","owed_since","retry_at","failures_in_a_row","failures","last_success":{"size","at",
    /// "trusted"},"last_failure":{"message","at","conflict"}}]}`, with null for what there is not.
    pub fn to_json(&self) -> Json {
        let anchors: Vec<Json> = self.anchors.iter().map(|(name, status)| status.to_json(name)).collect();
        Object::from_iter([("anchors", anchors)]).into()
    }

    /// Reads what [`AnchorQueue::to_json`] gave; nothing is under way.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) with what is missing or not what it must be.
    pub fn from_json(json: &Json, backoff: Backoff) -> Result<AnchorQueue> {
        let list = json.get("anchors").and_then(Json::as_array).ok_or_else(|| wrong("anchors"))?;
        if list.len() > MAX_ANCHORS {
            return Err(wrong("the number of anchors"));
        }
        let mut anchors = BTreeMap::new();
        for anchor in list {
            let name = anchor.get("name").and_then(Json::as_str).ok_or_else(|| wrong("name"))?;
            anchors.insert(name.to_owned(), AnchorStatus::from_json(anchor)?);
        }
        Ok(AnchorQueue { backoff, anchors })
    }
}

impl AnchorStatus {
    /// One member of the list of [`AnchorQueue::to_json`].
    pub fn to_json(&self, name: &str) -> Json {
        let time = |at: Option<Timestamp>| Json::from(at.map(|at| at.to_string()));
        let success = self.last_success.map(|s| {
            Object::from_iter([
                ("size", Json::from(s.size)),
                ("at", s.at.to_string().into()),
                ("trusted", time(s.trusted)),
            ])
        });
        let failure = self.last_failure.as_ref().map(|f| {
            Object::from_iter([
                ("message", Json::from(f.message.as_str())),
                ("at", f.at.to_string().into()),
                ("conflict", f.conflict.into()),
            ])
        });
        Object::from_iter([
            ("name", Json::from(name)),
            ("owed", self.owed.into()),
            ("owed_since", time(self.owed_since)),
            ("retry_at", time(self.retry_at)),
            ("failures_in_a_row", self.failures_in_a_row.into()),
            ("failures", self.failures.into()),
            ("last_success", success.into()),
            ("last_failure", failure.into()),
        ])
        .into()
    }

    fn from_json(json: &Json) -> Result<AnchorStatus> {
        let success = |json: &Json| -> Result<Success> {
            Ok(Success { size: number(json, "size")?, at: time(json, "at")?, trusted: optional_time(json, "trusted")? })
        };
        let failure = |json: &Json| -> Result<Failure> {
            let message = json.get("message").and_then(Json::as_str).ok_or_else(|| wrong("message"))?;
            let conflict = json.get("conflict").and_then(Json::as_bool).ok_or_else(|| wrong("conflict"))?;
            Ok(Failure { message: message.chars().take(MAX_MESSAGE_CHARS).collect(), at: time(json, "at")?, conflict })
        };
        Ok(AnchorStatus {
            owed: given(json, "owed")?.map(|_| number(json, "owed")).transpose()?,
            owed_since: optional_time(json, "owed_since")?,
            retry_at: optional_time(json, "retry_at")?,
            failures_in_a_row: number(json, "failures_in_a_row")?,
            failures: number(json, "failures")?,
            last_success: given(json, "last_success")?.map(success).transpose()?,
            last_failure: given(json, "last_failure")?.map(failure).transpose()?,
            under_way: None,
        })
    }
}

fn wrong(what: &str) -> Error {
    Error::damaged(format!("the stored state of the anchors: {what} is missing or not what it must be"))
}

/// The member, which must be there; `None` where it is null.
fn given<'j>(json: &'j Json, key: &str) -> Result<Option<&'j Json>> {
    let value = json.get(key).ok_or_else(|| wrong(key))?;
    Ok(if *value == Json::Null { None } else { Some(value) })
}

fn number(json: &Json, key: &str) -> Result<u64> {
    json.get(key).and_then(Json::as_u64).ok_or_else(|| wrong(key))
}

fn time(json: &Json, key: &str) -> Result<Timestamp> {
    optional_time(json, key)?.ok_or_else(|| wrong(key))
}

fn optional_time(json: &Json, key: &str) -> Result<Option<Timestamp>> {
    let parse = |value: &Json| value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(key));
    given(json, key)?.map(parse).transpose()
}

//! Tracks which checkpoint is owed to which anchor, and when the next attempt is due.
//!
//! Invariants: an anchor that took a checkpoint is owed nothing up to its size. Anything newer stays owed until it is
//! delivered or a still newer checkpoint replaces it, because a checkpoint covers everything before it. A failure is
//! counted and kept until the next success and never removes an anchor. Memory is bounded: one size, one success and
//! one error per anchor. There is at most one attempt at a time for each anchor.
//!
//! Nothing here does I/O, waits or reads a clock: the caller passes the time, hands over what is [`AnchorQueue::due`]
//! and reports the result. Attempts in progress are not stored, so after a crash they are simply repeated.

use crate::json::{Json, Object};
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::json::form::Form;
use std::collections::BTreeMap;
use std::time::Duration;

/// The maximum number of anchors in a queue.
pub const MAX_ANCHORS: usize = 64;

/// The maximum length of a stored error message, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// How long to wait after a failure: `first`, then twice as long after each further failure, up to `cap`.
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
    /// The anchor's own time for it, if the anchor tells the time.
    pub trusted: Option<Timestamp>,
}

/// The last failure since the last success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// Whether the anchor's record contradicts this log. Trying again does not help, and somebody must look into it,
    /// because this is how an older copy or a fork of the store shows.
    pub conflict: bool,
}

/// The state of one anchor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnchorStatus {
    /// The largest size owed to it, if any.
    pub owed: Option<u64>,
    /// Since when something has been owed; starts again at each success.
    pub owed_since: Option<Timestamp>,
    /// When the next attempt is due; `None` if it is due as soon as something is owed.
    pub retry_at: Option<Timestamp>,
    /// The number of failures since its last success.
    pub failures_in_a_row: u64,
    /// The number of failures in total.
    pub failures: u64,
    /// The last checkpoint that it took.
    pub last_success: Option<Success>,
    /// The last failure, until the next success.
    pub last_failure: Option<Failure>,
    /// The size that is being handed over at the moment.
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

/// Decides which checkpoint goes to which anchor when.
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

    /// Adds an anchor under its name, owed nothing yet; an existing one stays as it is.
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

    /// Removes an anchor with everything owed to it, and returns its state. Only for explicit requests: an anchor that
    /// is merely not configured this time stays, and is reported as owed.
    pub fn remove(&mut self, name: &str) -> Option<AnchorStatus> {
        self.anchors.remove(name)
    }

    /// Notes that a checkpoint of this size was signed: it is owed to every anchor that has none as large. Waits are
    /// not shortened.
    pub fn owe(&mut self, size: u64, now: Timestamp) {
        for status in self.anchors.values_mut() {
            let known = status.owed.max(status.last_success.map(|s| s.size));
            if known.is_none_or(|known| size > known) {
                status.owed = Some(size);
                status.owed_since.get_or_insert(now);
            }
        }
    }

    /// What to hand over now. Each item is in progress until [`AnchorQueue::succeeded`] or [`AnchorQueue::failed`] is
    /// called for it.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        self.due_of(now, |_| true)
    }

    /// Like [`AnchorQueue::due`], only for the anchors that are available: what is owed to others stays owed.
    pub fn due_of(&mut self, now: Timestamp, at_hand: impl Fn(&str) -> bool) -> Vec<Due> {
        let cap = self.backoff.cap;
        let mut due = Vec::new();
        for (name, status) in self.anchors.iter_mut().filter(|(name, _)| at_hand(name)) {
            // A time further away than the longest wait was set by a clock that has since been set back.
            let waits = status.retry_at.is_some_and(|at| at > now && at.since(now) <= cap);
            if let (Some(size), None, false) = (status.owed, status.under_way, waits) {
                status.under_way = Some(size);
                due.push(Due { anchor: name.clone(), size });
            }
        }
        due
    }

    /// The earliest time at which something that is owed and not in progress may be attempted; `None` if there is
    /// nothing. [`Timestamp::MIN`] means immediately.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.next_due_of(|_| true)
    }

    /// Like [`AnchorQueue::next_due`], only for the anchors that are available.
    pub fn next_due_of(&self, at_hand: impl Fn(&str) -> bool) -> Option<Timestamp> {
        let at_hand = self.anchors.iter().filter(|(name, _)| at_hand(name)).map(|(_, status)| status);
        let waiting = at_hand.filter(|s| s.owed.is_some() && s.under_way.is_none());
        waiting.map(|s| s.retry_at.unwrap_or(Timestamp::MIN)).min()
    }

    /// Drops what is impossible for a log with `signed` signed entries in which nothing happened after `latest`: a
    /// success or a debt beyond what was signed, or a success after that time. Returns the names of the anchors that
    /// lost something.
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

    /// Ends all waits: everything owed is due immediately.
    pub fn retry_now(&mut self) {
        self.anchors.values_mut().for_each(|status| status.retry_at = None);
    }

    /// The anchor took the checkpoint that was in progress; `trusted` is its own time for it, if it tells one.
    pub fn succeeded(&mut self, name: &str, now: Timestamp, trusted: Option<Timestamp>) {
        let Some(status) = self.anchors.get_mut(name) else { return };
        let Some(size) = status.under_way.take() else { return };
        status.last_success = Some(Success { size, at: now, trusted });
        (status.last_failure, status.failures_in_a_row, status.retry_at) = (None, 0, None);
        if status.owed.is_none_or(|owed| owed <= size) {
            (status.owed, status.owed_since) = (None, None);
        } else {
            // What is owed now was signed while the attempt was in progress.
            status.owed_since = Some(now);
        }
    }

    /// The attempt in progress failed: it is repeated after the wait.
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

    /// The states of all anchors, by name.
    pub fn status(&self) -> impl ExactSizeIterator<Item = (&str, &AnchorStatus)> {
        self.anchors.iter().map(|(name, status)| (name.as_str(), status))
    }

    /// The largest size that any anchor took, and the largest that all of them took. `None` without a success, or
    /// without a success of each.
    pub fn anchored(&self) -> (Option<u64>, Option<u64>) {
        let sizes = || self.anchors.values().map(|s| s.last_success.map(|s| s.size));
        (sizes().max().flatten(), sizes().min().flatten())
    }

    /// Everything except attempts in progress, for storing and showing:
    /// `{"anchors":[{"name","owed","owed_since","retry_at","failures_in_a_row","failures","last_success":{"size","at",
    /// "trusted"},"last_failure":{"message","at","conflict"}}]}`, with null for what is absent.
    pub fn to_json(&self) -> Json {
        let anchors: Vec<Json> = self.anchors.iter().map(|(name, status)| status.to_json(name)).collect();
        Object::from_iter([("anchors", anchors)]).into()
    }

    /// Reads the output of [`AnchorQueue::to_json`]; nothing is in progress.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged), naming what is missing or invalid.
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

attestlog_proof::json_form!(members Success { size, at, trusted });
attestlog_proof::json_form!(members Failure { message, at, conflict });
attestlog_proof::json_form!(members AnchorStatus {
    owed,
    owed_since,
    retry_at,
    failures_in_a_row,
    failures,
    last_success,
    last_failure,
    under_way,
});

impl AnchorStatus {
    /// One element of the list in [`AnchorQueue::to_json`].
    pub fn to_json(&self, name: &str) -> Json {
        let mut json = self.form();
        if let Json::Object(members) = &mut json {
            members.remove("under_way");
            members.insert("name", name);
        }
        json
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
    Error::damaged(format!("the stored state of the anchors: {what} is missing or invalid"))
}

/// The member, which must exist; `None` if it is null.
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

/// The state of one anchor of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnchorHealth {
    /// Its name.
    pub name: String,
    /// Whether the store was opened with it. Checkpoints stay owed to an anchor that is not at hand.
    pub at_hand: bool,
    /// What it received, what is owed to it, and why it failed.
    pub status: AnchorStatus,
}

impl Form for AnchorHealth {
    /// The status with `name` and `at_hand`.
    fn form(&self) -> Json {
        let mut json = self.status.form();
        if let Json::Object(members) = &mut json {
            members.insert("name", self.name.as_str());
            members.insert("at_hand", self.at_hand);
        }
        json
    }

    fn read(value: &Json) -> Result<AnchorHealth> {
        let mut members = Object::read(value)?;
        let mut take = |key: &str| members.remove(key).ok_or_else(|| Error::invalid(format!("{key} is missing")));
        let (name, at_hand) = (String::read(&take("name")?)?, bool::read(&take("at_hand")?)?);
        Ok(AnchorHealth { name, at_hand, status: AnchorStatus::read(&members.into())? })
    }
}

attestlog_proof::json_form!(own AnchorHealth);

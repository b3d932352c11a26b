//! The receivers of alerts: a callback, a stream of JSON Lines, a program, a web address.
//!
//! Invariant D1: an alert is delivered to every receiver at least once, with its id, in the order of the log: a
//! receiver's progress is a cursor in the store that moves after the receiver took the alert, never before. Invariant
//! D2: a receiver that fails is tried again at growing intervals, and delays nobody but itself.

use super::lag::{DELIVERED, FAILED};
use super::listing::Alert;
use crate::anchor::Backoff;
use crate::anchor::process::Program;
use crate::store::OpenStore;
use crate::store::{Move, guarded};
use crate::{Entry, Error, ErrorKind, Query, Result};
use attestlog_proof::entry::Kind;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A receiver of alerts.
pub trait Deliver: Send {
    /// Its name. Its progress is stored under this name, which must be stable and unique.
    fn name(&self) -> String;

    /// Takes an alert. The same alert may come again after a crash, with the same id.
    ///
    /// # Errors
    /// Anything: it is delivered again later.
    fn deliver(&mut self, alert: &Alert) -> Result<()>;
}

impl Deliver for Box<dyn Deliver> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        (**self).deliver(alert)
    }
}

/// Calls a function of the host's.
pub struct Callback<F> {
    name: String,
    call: F,
}

impl<F: FnMut(&Alert) -> Result<()> + Send> Callback<F> {
    /// A receiver with this name.
    pub fn new(name: impl Into<String>, call: F) -> Callback<F> {
        Callback { name: name.into(), call }
    }
}

impl<F> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callback({})", self.name)
    }
}

impl<F: FnMut(&Alert) -> Result<()> + Send> Deliver for Callback<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        (self.call)(alert)
    }
}

/// Writes each alert as one line of JSON, for instance to standard output.
#[derive(Debug)]
pub struct JsonLines<W> {
    name: String,
    out: W,
}

impl<W: Write + Send> JsonLines<W> {
    /// A receiver with this name that writes to `out`.
    pub fn new(name: impl Into<String>, out: W) -> JsonLines<W> {
        JsonLines { name: name.into(), out }
    }
}

impl<W: Write + Send> Deliver for JsonLines<W> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        writeln!(self.out, "{}", alert.to_json().to_canonical().as_str())?;
        Ok(self.out.flush()?)
    }
}

/// Runs a program for each alert, with the alert as a line of JSON on its standard input. No shell is involved.
#[derive(Debug, Clone)]
pub struct CommandReceiver(Program);

impl CommandReceiver {
    /// A program with its arguments. It may take 30 seconds, unless [`CommandReceiver::timeout`] sets another limit.
    pub fn new(program: impl Into<OsString>, args: impl IntoIterator<Item = impl Into<OsString>>) -> CommandReceiver {
        let args = args.into_iter().map(Into::into).collect();
        CommandReceiver(Program { program: program.into(), args, timeout: Duration::from_secs(30) })
    }

    /// Sets how long a delivery may take.
    pub fn timeout(mut self, timeout: Duration) -> CommandReceiver {
        self.0.timeout = timeout;
        self
    }
}

impl Deliver for CommandReceiver {
    fn name(&self) -> String {
        format!("command {}", self.0.name())
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let mut line = alert.to_json().to_canonical().as_str().as_bytes().to_vec();
        line.push(b'\n');
        self.0.feed(&line)
    }
}

/// Posts each alert as JSON to a web address, signed.
///
/// Headers: `Attestlog-Alert` with the alert's id, and `Attestlog-Signature` with `sha256=` and the HMAC-SHA-256 of the
/// body under the secret, in hexadecimal digits. Any answer from 200 to 299 accepts the alert.
#[cfg(feature = "witness")]
#[derive(Debug)]
pub struct Webhook {
    to: crate::anchor::http::Endpoint,
    secret: Secret,
}

#[cfg(feature = "witness")]
struct Secret(zeroize::Zeroizing<Vec<u8>>);

#[cfg(feature = "witness")]
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(feature = "witness")]
impl Webhook {
    /// A web address, the secret that both sides know, and how long an answer may take.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): not a URL that this build can post to, or a secret of fewer than 16 bytes.
    pub fn new(url: &str, secret: impl Into<Vec<u8>>, timeout: Duration) -> Result<Webhook> {
        let secret = Secret(zeroize::Zeroizing::new(secret.into()));
        if secret.0.len() < 16 {
            return Err(Error::invalid("the secret of a webhook has at least 16 bytes"));
        }
        Ok(Webhook { to: crate::anchor::http::Endpoint::new(url, timeout)?, secret })
    }

    /// The value of `Attestlog-Signature` for a body, for the receiving side to compare.
    pub fn signature(secret: &[u8], body: &[u8]) -> String {
        use hmac::{Hmac, KeyInit, Mac};
        // HMAC takes a key of any length.
        let tag =
            Hmac::<sha2::Sha256>::new_from_slice(secret).map(|mac| mac.chain_update(body).finalize().into_bytes());
        tag.map(|tag| format!("sha256={}", crate::hash::to_hex(&tag))).unwrap_or_default()
    }
}

#[cfg(feature = "witness")]
impl Deliver for Webhook {
    fn name(&self) -> String {
        format!("webhook {}", self.to.host())
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let body = alert.to_json().to_canonical();
        let body = body.as_str().as_bytes();
        let signature = Webhook::signature(&self.secret.0, body);
        let headers = [("Attestlog-Alert", alert.id.as_str()), ("Attestlog-Signature", signature.as_str())];
        // The body of the answer is ignored.
        let (status, _) = self.to.post_with("application/json", &headers, body, 64 << 10)?;
        match status {
            200..=299 => Ok(()),
            _ => Err(Error::new(ErrorKind::Io, format!("{} answered {status}", self.to.host()))),
        }
    }
}

/// A receiver and its progress.
pub(super) struct Delivery {
    receiver: Box<dyn Deliver>,
    name: String,
    configured: bool,
    cursor: String,
    /// The name of the cursor to the alert that was not taken.
    failed: String,
    /// The position of that cursor, if this delivery put it there.
    failed_at: Option<u64>,
    /// The size of the log at the first attempt: a receiver that the store does not know is owed what comes after it.
    first: Option<u64>,
    /// The seq from which alerts are owed; read from the store first.
    owed_from: Option<u64>,
    failures: u64,
    retry_at: Option<Duration>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({}, {:?})", self.name, self.owed_from)
    }
}

/// The entries from `from` on that are alerts. If the index is not the one that the chain names, which may be what an
/// alert is about, all entries are searched.
fn owed(log: &OpenStore, from: u64) -> Result<Box<dyn Iterator<Item = Result<Entry>>>> {
    let snapshot = log.engine().snapshot()?;
    match log.check_damage().and_then(|()| snapshot.hold_index()) {
        Err(e) if e.kind() == ErrorKind::Damaged => {}
        held => {
            held?;
            let query = Query::new().kind(Kind::Alert);
            let query = from.checked_sub(1).map_or(query.clone(), |last| query.after(last));
            return Ok(Box::new(log.query_held(&query)?));
        }
    }
    let read = move |seq| match snapshot.checked(seq) {
        // A verification reports what is wrong with it.
        Err(e) if e.kind() == ErrorKind::Damaged => None,
        found => found.transpose(),
    };
    let is_alert = |entry: &Result<Entry>| entry.as_ref().is_ok_and(|entry| entry.kind() == Kind::Alert);
    Ok(Box::new((from..log.size()).filter_map(read).filter(move |entry| entry.is_err() || is_alert(entry))))
}

/// The seq from which alerts are owed to the receiver with this cursor. If the store does not know it yet, that is `first`, or the
/// present size of the log.
fn begin(log: &OpenStore, cursor: &str, first: &mut Option<u64>) -> Result<u64> {
    let engine = log.engine();
    if let Some(from) = engine.cursor(cursor)? {
        return Ok(from);
    }
    let from = *first.get_or_insert(log.size());
    engine.record_with_cursors(Vec::new(), &[Move { cursor, from: None, to: from }])?;
    Ok(engine.cursor(cursor)?.unwrap_or(from))
}

/// How many alerts are handed to another process at a time.
const PART: usize = 64;

/// What a receiver in another process is owed: the next alerts, each with its seq.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owed {
    /// The position of its cursor.
    pub from: u64,
    pub alerts: Vec<(u64, Alert)>,
    /// The position of its cursor once it has taken all of them.
    pub to: u64,
}

impl OpenStore {
    /// What the receiver of this name is owed.
    pub(crate) fn alerts_owed(&self, receiver: &str) -> Result<Owed> {
        guarded(|| {
            let from = begin(self, &format!("{DELIVERED}{receiver}"), &mut None)?;
            let (mut alerts, mut to) = (Vec::new(), from);
            for entry in owed(self, from)?.take(PART) {
                let entry = entry?;
                alerts.extend(Alert::of(&entry).map(|alert| (entry.seq, alert)));
                to = entry.seq + 1;
            }
            Ok(Owed { from, alerts, to })
        })
    }

    /// Notes how far the receiver of this name, whose cursor was at `from`, has taken what it was owed, and which alert it did
    /// not take. Does nothing if the cursor was moved meanwhile.
    pub(crate) fn alerts_delivered(&self, receiver: &str, from: u64, to: u64, failed: Option<u64>) -> Result<()> {
        let size = self.size();
        if to < from || to > size || failed.is_some_and(|failed| failed >= size) {
            return Err(Error::invalid("a receiver cannot have taken alerts that were not raised"));
        }
        let (cursor, failing) = (format!("{DELIVERED}{receiver}"), format!("{FAILED}{receiver}"));
        let mut moves = vec![Move { cursor: &cursor, from: Some(from), to }];
        moves.extend(failed.map(|to| Move { cursor: &failing, from: None, to }));
        self.engine().record_with_cursors(Vec::new(), &moves).map(drop)
    }
}

/// The result of one attempt: how many alerts were taken, and why the next one was not.
pub(super) type Pumped = (u64, Option<Error>);

impl Delivery {
    /// A receiver beside those with the names in `others`; if its own is taken, a number is appended. `configured`: it is one of
    /// those that are configured beside the store.
    pub(super) fn new(receiver: Box<dyn Deliver>, configured: bool, others: &[String]) -> Delivery {
        let base = receiver.name();
        let mut name = base.clone();
        let mut number = 2;
        while others.contains(&name) {
            name = format!("{base} ({number})");
            number += 1;
        }
        let (cursor, failed) = (format!("{DELIVERED}{name}"), format!("{FAILED}{name}"));
        let (failed_at, first, owed_from) = (None, None, None);
        Delivery {
            receiver,
            name,
            configured,
            cursor,
            failed,
            failed_at,
            first,
            owed_from,
            failures: 0,
            retry_at: None,
        }
    }

    fn hand_over(&mut self, alert: &Alert) -> Result<()> {
        let taken = catch_unwind(AssertUnwindSafe(|| self.receiver.deliver(alert)));
        taken.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the receiver panicked")))
    }

    /// Delivers an alert that the log could not record, so that there is no cursor to move either.
    pub(super) fn tell(&mut self, alert: &Alert) -> Result<()> {
        guarded(|| self.hand_over(alert))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is one of those that are configured beside the store.
    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }

    /// When the next attempt after a failure is due, on the monotonic clock.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// A receiver that the store does not know yet is owed what comes from now on. That is recorded before anything can
    /// be raised, so that a crash loses nothing.
    pub(super) fn begin(&mut self, log: &OpenStore) -> Result<u64> {
        if let Some(from) = self.owed_from {
            return Ok(from);
        }
        let from = begin(log, &self.cursor, &mut self.first)?;
        self.owed_from = Some(from);
        Ok(from)
    }

    /// Delivers what is owed, until something fails.
    pub(super) fn pump(&mut self, log: &OpenStore, backoff: Backoff) -> Result<Pumped> {
        guarded(|| self.deliver_owed(log, backoff))
    }

    fn deliver_owed(&mut self, log: &OpenStore, backoff: Backoff) -> Result<Pumped> {
        let from = self.begin(log)?;
        let now = log.engine().config.clock.monotonic();
        if self.retry_at.is_some_and(|at| now < at) {
            return Ok((0, None));
        }
        let (mut told, mut done, mut failed) = (from, 0, None);
        for entry in owed(log, from)? {
            let entry = entry?;
            if let Some(alert) = Alert::of(&entry) {
                if let Err(e) = self.hand_over(&alert) {
                    failed = Some((entry.seq, e));
                    break;
                }
                done += 1;
            }
            told = entry.seq + 1;
        }
        let news = failed.as_ref().map(|(seq, _)| *seq).filter(|seq| self.failed_at != Some(*seq));
        if told > from || news.is_some() {
            let mut moves = vec![Move { cursor: &self.cursor, from: Some(from), to: told }];
            moves.extend(news.map(|to| Move { cursor: &self.failed, from: None, to }));
            let moved = log.engine().record_with_cursors(Vec::new(), &moves)?;
            // If another delivery has moved the cursor, read it again.
            self.owed_from = moved.is_some().then_some(told);
            self.failed_at = news.filter(|_| moved.is_some()).or(self.failed_at);
        }
        let failed = failed.map(|(_, e)| e);
        self.failures = if failed.is_some() { self.failures + 1 } else { 0 };
        self.retry_at = failed.as_ref().map(|_| now + backoff.after(self.failures));
        Ok((done, failed))
    }
}

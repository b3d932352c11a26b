//! Where alerts go: a callback, a stream of JSON Lines, a program, a web address.
//!
//! Invariant D1: an alert is delivered to every receiver at least once, with its id, in the order of the log: how far a
//! receiver was told is a mark in the store that moves after the receiver took the alert, never before. Invariant D2: a
//! receiver that fails is tried again, later and later, and holds up nobody but itself.

use super::lag::{DELIVERED, FAILED};
use super::listing::Alert;
use crate::anchor::Backoff;
use crate::anchor::process::Program;
use crate::store::{Move, guarded};
use crate::{AuditLog, Entry, Error, ErrorKind, Query, Result};
use attestlog_proof::entry::Kind;
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Takes alerts.
pub trait Deliver: Send {
    /// What it is called: how far it was told is kept under this name, so it is stable and the only one of its name.
    fn name(&self) -> String;

    /// Takes an alert. It may come again after a crash, with the same id.
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
    /// A receiver of that name.
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
    /// A receiver of that name that writes to `out`.
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
    /// The program, its arguments, and how long it may take (30 seconds unless said otherwise).
    pub fn new(program: impl Into<OsString>, args: impl IntoIterator<Item = impl Into<OsString>>) -> CommandReceiver {
        let args = args.into_iter().map(Into::into).collect();
        CommandReceiver(Program { program: program.into(), args, timeout: Duration::from_secs(30) })
    }

    /// How long it may take.
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
/// body under the secret, in hexadecimal digits. Any answer of 200 to 299 takes the alert.
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

    /// The value of `Attestlog-Signature` for a body, for whoever receives it to compare.
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
        // What it answers is not read further than to tell that it did.
        let (status, _) = self.to.post_with("application/json", &headers, body, 64 << 10)?;
        match status {
            200..=299 => Ok(()),
            _ => Err(Error::new(ErrorKind::Io, format!("{} answered {status}", self.to.host()))),
        }
    }
}

/// A receiver and how far it was told.
pub(super) struct Delivery {
    receiver: Box<dyn Deliver>,
    name: String,
    mark: String,
    /// Where the mark goes to that says which alert was not taken.
    failed: String,
    /// The alert at which that mark stands, as far as it was this one that put it there.
    failed_at: Option<u64>,
    /// How large the log was when it was first asked for: a receiver that the store does not know is owed what comes then.
    first: Option<u64>,
    /// The seq from which on alerts are owed; read of the store first.
    owed_from: Option<u64>,
    failures: u64,
    retry_at: Option<Duration>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({}, {:?})", self.name, self.owed_from)
    }
}

/// The entries from `from` on that are alerts. Where the index is not the one that the chain names, which is what an alert may
/// say, all of them are looked at.
fn owed(log: &AuditLog, from: u64) -> Result<Box<dyn Iterator<Item = Result<Entry>>>> {
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
        // A verification says what is wrong with it.
        Err(e) if e.kind() == ErrorKind::Damaged => None,
        found => found.transpose(),
    };
    let is_alert = |entry: &Result<Entry>| entry.as_ref().is_ok_and(|entry| entry.kind() == Kind::Alert);
    Ok(Box::new((from..log.size()).filter_map(read).filter(move |entry| entry.is_err() || is_alert(entry))))
}

/// How one try went: how many alerts were taken, and why the next one was not.
pub(super) type Pumped = (u64, Option<Error>);

impl Delivery {
    /// A receiver besides `others`; where one of its name is there already it gets a number behind its name.
    pub(super) fn new(receiver: Box<dyn Deliver>, others: &[Delivery]) -> Delivery {
        let base = receiver.name();
        let mut name = base.clone();
        let mut number = 2;
        while others.iter().any(|other| other.name == name) {
            name = format!("{base} ({number})");
            number += 1;
        }
        let (mark, failed) = (format!("{DELIVERED}{name}"), format!("{FAILED}{name}"));
        let (failed_at, first, owed_from) = (None, None, None);
        Delivery { receiver, name, mark, failed, failed_at, first, owed_from, failures: 0, retry_at: None }
    }

    fn hand_over(&mut self, alert: &Alert) -> Result<()> {
        let taken = catch_unwind(AssertUnwindSafe(|| self.receiver.deliver(alert)));
        taken.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the receiver panicked")))
    }

    /// Tells of an alert that the log could not take, so that there is no mark to move either.
    pub(super) fn tell(&mut self, alert: &Alert) -> Result<()> {
        guarded(|| self.hand_over(alert))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// When it is tried again after a failure, on the monotonic clock.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// A receiver that the store does not know yet is owed what comes from now on; that is written down before anything
    /// can be raised, so that nothing is lost to a crash.
    pub(super) fn begin(&mut self, log: &AuditLog) -> Result<u64> {
        if let Some(from) = self.owed_from {
            return Ok(from);
        }
        let engine = log.engine();
        let from = match engine.mark(&self.mark)? {
            Some(from) => from,
            None => {
                let from = *self.first.get_or_insert(log.size());
                engine.own_with_marks(Vec::new(), &[Move { mark: &self.mark, from: None, to: from }])?;
                engine.mark(&self.mark)?.unwrap_or(from)
            }
        };
        self.owed_from = Some(from);
        Ok(from)
    }

    /// Delivers what is owed, until something fails.
    pub(super) fn pump(&mut self, log: &AuditLog, backoff: Backoff) -> Result<Pumped> {
        guarded(|| self.deliver_owed(log, backoff))
    }

    fn deliver_owed(&mut self, log: &AuditLog, backoff: Backoff) -> Result<Pumped> {
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
            let mut moves = vec![Move { mark: &self.mark, from: Some(from), to: told }];
            moves.extend(news.map(|to| Move { mark: &self.failed, from: None, to }));
            let moved = log.engine().own_with_marks(Vec::new(), &moves)?;
            // Where another one has moved it, that is read anew.
            self.owed_from = moved.is_some().then_some(told);
            self.failed_at = news.filter(|_| moved.is_some()).or(self.failed_at);
        }
        let failed = failed.map(|(_, e)| e);
        self.failures = if failed.is_some() { self.failures + 1 } else { 0 };
        self.retry_at = failed.as_ref().map(|_| now + backoff.after(self.failures));
        Ok((done, failed))
    }
}

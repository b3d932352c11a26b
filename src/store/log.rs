//! The host's handle to a store: [`AuditLog`].

use crate::entry::ToolCall;
use crate::policy::Policies;
use crate::store::engine::Engine;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::receipt::Receipt;
use crate::store::file::panic_guard::guarded;
use crate::store::options::Access;
use crate::store::read::snapshot::Snapshot;
use crate::{Entry, Error, ErrorKind, Outcome, Result};
use attestlog_proof::entry::{Facet, Phase};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// An audit log in one file. Handles are cheap to clone and can be used from any thread; reading never blocks writing. No
/// call changes or deletes an entry.
///
/// A handle belongs to the process that opened it. In a forked process every call returns [`Closed`](ErrorKind::Closed) and
/// does nothing; open the store after the fork.
///
/// ```
/// use attestlog::{AuditLog, ToolCall, json::Json};
/// let log = AuditLog::in_memory()?;
/// let receipt = log.record(
///     ToolCall::new("conv_abc123", "usr_98765", "update_order_status")
///         .arguments(Json::parse(br#"{"order_id":"o-1","status":"shipped","api_key":"k-123"}"#)?.value)
///         .model("gpt-4.1"),
/// )?;
/// let entry = log.entry(receipt.seq)?;
/// assert!(entry.line().contains(r#""order_id":"o-1""#));
/// assert!(!entry.line().contains("k-123"));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AuditLog {
    engine: Arc<Engine>,
    worker: Arc<Worker>,
    /// For a handle that searches without the store's keys: the cached policies prepared without keys.
    keyless: Option<Arc<Mutex<Option<Arc<Policies>>>>>,
    /// Answers although the store was opened with damage.
    despite: bool,
}

/// The background thread. Stops when the last handle is dropped.
#[derive(Debug)]
struct Worker {
    engine: Arc<Engine>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.engine.config.process.is_this() {
            self.stop();
        } else {
            // The thread does not exist in this forked process, so there is nothing to wait for or release.
            std::mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Worker {
    fn stop(&self) {
        self.engine.jobs.anchoring.stop();
        self.engine.jobs.work.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics were already handled in the thread.
            let _ = thread.join();
        }
    }
}

impl AuditLog {
    pub(crate) fn start(engine: Arc<Engine>) -> Result<AuditLog> {
        engine.begin_anchoring()?;
        let thread = match engine.config.settings.background && engine.config.settings.access != Access::Read {
            false => None,
            true => {
                let engine = engine.clone();
                let worker = std::thread::Builder::new().name("attestlog".to_owned());
                let at_most = engine.config.settings.checkpoint_every;
                Some(worker.spawn(move || {
                    while let Some(wanted) = engine.jobs.work.wait(at_most, &*engine.config.clock) {
                        engine.upkeep(wanted)
                    }
                })?)
            }
        };
        let worker = Arc::new(Worker { engine: engine.clone(), thread: Mutex::new(thread) });
        Ok(AuditLog { engine, worker, keyless: None, despite: false })
    }

    /// Records one call and returns when it is on the disk.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) and [`TooLarge`](ErrorKind::TooLarge): nothing was recorded.
    /// [`DiskFull`](ErrorKind::DiskFull) and [`Io`](ErrorKind::Io): nothing was recorded; recording can continue when there
    /// is space. [`Closed`](ErrorKind::Closed): it is unknown whether the call was recorded; number your records with
    /// [`ToolCall::sender`] to be able to send them again.
    pub fn record(&self, call: ToolCall) -> Result<Receipt> {
        let prepared = self.engine.prepare(call, Phase::Whole)?;
        one(self.engine.submit(vec![prepared])?)
    }

    /// Records several calls in one commit: all of them or, on an error, none.
    ///
    /// # Errors
    /// As [`AuditLog::record`]; the message names the call by its index in the batch, from 0.
    pub fn record_batch(&self, calls: impl IntoIterator<Item = ToolCall>) -> Result<Vec<Receipt>> {
        let (mut batch, now) = (EncodedBatch::default(), self.engine.config.clock.now());
        for (i, call) in calls.into_iter().enumerate() {
            // Encoded at once, so that the prepared call is freed while it is still in the cache.
            let prepared = self.engine.prepare(call, Phase::Whole);
            prepared.and_then(|prepared| batch.push(prepared, now)).map_err(|e| e.in_call(i))?;
        }
        if batch.calls.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.submit_batch(batch)
    }

    /// Records that a call is about to be made, before it is made, so that a crash in the middle leaves a trace. The two
    /// entries count as one call.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// // … the refund …
    /// let receipt = begun.finish(|call| call.result(true))?;
    /// assert_eq!(log.entry(receipt.seq)?.call().unwrap().success(), Some(true));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn begin(&self, call: ToolCall) -> Result<Begun> {
        let prepared = self.engine.prepare(call.clone(), Phase::Begun)?;
        let receipt = one(self.engine.submit(vec![prepared])?)?;
        Ok(Begun { log: self.clone(), call, receipt })
    }

    /// The entry at `seq`.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): it was never recorded, or was purged; the message says which.
    /// [`Damaged`](ErrorKind::Damaged): it is not the entry that was recorded.
    pub fn entry(&self, seq: u64) -> Result<Entry> {
        let snapshot = self.engine.snapshot_of_entries()?;
        guarded(|| snapshot.shown(seq))
    }

    /// Fails if the store's path names another file than the open one, or if another program has overwritten the file. Calls
    /// that read entries or record check this themselves; this check is for answers from memory.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io): the path names another file, or none. [`Damaged`](ErrorKind::Damaged): the file was
    /// overwritten; this handle no longer records or reads. [`Closed`](ErrorKind::Closed).
    pub fn check_file(&self) -> Result<()> {
        self.engine.database()?.get()?.check_file()
    }

    /// The number of recorded entries, including system events and purged entries.
    ///
    /// In a process that was forked from the one that opened the store: the number at the time of the fork, or 0.
    pub fn size(&self) -> u64 {
        if !self.engine.config.process.is_this() {
            return self.engine.read.published.try_read().map_or(0, |published| published.size);
        }
        self.engine.read.published.read().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Writes the in-memory index to the file, however small it is.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn flush_index(&self) -> Result<()> {
        self.engine.write_all_batches()
    }

    /// Closes the store: waits for work in progress, signs a checkpoint, waits for anchors as long as
    /// [`Options::anchor_wait`](crate::Options::anchor_wait) allows, and closes the file. Other handles return [`Closed`](ErrorKind::Closed) from then on.
    /// Dropping the last handle only closes the file, without signing.
    ///
    /// If at least a quarter of the entries were recorded since the file was opened, the file is compacted, unless somebody
    /// still reads it: files grow by doubling.
    ///
    /// # Errors
    /// As [`AuditLog::checkpoint`], and errors of the last writes. The store is closed all the same.
    pub fn close(self) -> Result<()> {
        self.engine.config.process.check()?;
        // A store that is open for reading signs nothing and hands nothing to anchors.
        self.engine.finish_anchoring();
        self.worker.stop();
        let damaged = self.engine.writer().damaged.is_some();
        let closing = if damaged || self.engine.is_reading() {
            Ok(())
        } else {
            self.engine.with_writer(|engine, writer| {
                // If this cannot be written, as on a read-only medium, the time counts as unexplained.
                let _ = engine.tick(writer).and_then(|()| engine.recover(writer));
                // Only if something was recorded: readers leave the keys as they are. A failure is retried at the next close.
                if writer.state.size > engine.config.opened_with && engine.is_rotation_due(writer.state.size) {
                    let _ = engine.rotate(writer).and_then(|()| engine.recover(writer));
                }
                let signed = match writer.state.size > writer.state.signed && engine.keys().is_some() {
                    true => engine.sign(writer).map(|_| ()),
                    false => Ok(()),
                };
                engine.read.closed.store(true, Ordering::SeqCst);
                signed
            })
        };
        // Also after a failed write: remaining handles must not reopen the file.
        self.engine.read.closed.store(true, Ordering::SeqCst);
        let database = self.engine.read.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = guarded(|| self.engine.give_back(database));
        self.engine.jobs.news.tell();
        closing.and(closed)
    }

    /// The log as seen by somebody who has the file but not its keys: a name that is kept as a pseudonym is not found. The
    /// handle itself still allows signing, opening sealed values and changes; the code
    /// that hands it out must prevent these.
    #[cfg(feature = "owner")]
    pub(crate) fn without_keys(&self) -> AuditLog {
        AuditLog { keyless: Some(Arc::default()), ..self.clone() }
    }

    /// A handle that answers although the store was opened with damage.
    pub(crate) fn going_on(&self) -> AuditLog {
        AuditLog { despite: true, ..self.clone() }
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.despite
    }

    /// The policies, with the keys that this handle may use to search for names.
    pub(crate) fn policies_for_search(&self) -> Result<Arc<Policies>> {
        self.engine.config.process.check()?;
        let policies = self.engine.policies();
        let Some(keyless) = &self.keyless else { return Ok(policies) };
        let mut keyless = keyless.lock().unwrap_or_else(PoisonError::into_inner);
        match &*keyless {
            Some(known) if known.seq == policies.seq => Ok(known.clone()),
            _ => {
                let fresh = Arc::new(crate::store::engine::keyring::ready(policies.seq, policies.set.clone(), None)?);
                Ok(keyless.insert(fresh).clone())
            }
        }
    }

    /// Every spelling under which the log may hold this value, as far as this handle can tell: the value itself, and its
    /// pseudonyms under every key.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    pub fn spellings(&self, field: Facet, value: &str) -> Result<Vec<String>> {
        Ok(self.policies_for_search()?.terms(field, value))
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.engine.snapshot()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The given seqs that hold a call recorded as never answered. Purged entries are omitted.
    ///
    /// # Errors
    /// As [`AuditLog::entry`].
    pub fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
        let mut unanswered = Vec::new();
        for &seq in seqs {
            let entry = match self.entry(seq) {
                Ok(entry) => entry,
                // The entry was purged; there is nothing left to answer.
                Err(e) if e.kind() == ErrorKind::NoSuchEntry => continue,
                Err(e) => return Err(e),
            };
            let ended = entry.call().and_then(|call| call.completion.as_ref());
            if ended.is_some_and(|ended| ended.outcome == Outcome::Abandoned) {
                unanswered.push(seq);
            }
        }
        Ok(unanswered)
    }
}

fn one(receipts: Vec<Receipt>) -> Result<Receipt> {
    receipts.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Closed, "nothing was recorded"))
}

/// A call that was begun. Finish it; if it is dropped, it stays unfinished, which queries show.
#[derive(Debug)]
#[must_use = "a call that is begun should be finished"]
pub struct Begun {
    log: AuditLog,
    call: ToolCall,
    receipt: Receipt,
}

impl Begun {
    /// The receipt of the beginning.
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// Records the end: the call as it was begun, with what `end` adds (result, error, outcome, duration).
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn finish(self, end: impl FnOnce(ToolCall) -> ToolCall) -> Result<Receipt> {
        let mut call = end(self.call);
        call.sender = None;
        let prepared = self.log.engine.prepare(call, Phase::Finished(self.receipt.seq))?;
        one(self.log.engine.submit(vec![prepared])?)
    }
}

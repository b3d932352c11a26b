//! A store that is open in this process: [`OpenStore`].

use crate::entry::ToolCall;
use crate::policy::Policies;
use crate::store::engine::Engine;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::receipt::Receipt;
use crate::store::file::panic_guard::guarded;
use crate::store::options::Access;
use crate::store::read::call_ids::CallIds;
use crate::store::read::snapshot::Snapshot;
use crate::{Entry, Error, ErrorKind, Outcome, Result};
use attestlog_proof::entry::{Facet, Phase, Sender};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A store that this process has open. [`AuditLog`](crate::AuditLog) calls it directly, and the owner of a store calls it for other
/// processes. Cheap to clone; any thread may use it. It belongs to the process that opened it (I15).
#[derive(Debug, Clone)]
pub(crate) struct OpenStore {
    engine: Arc<Engine>,
    worker: Arc<Worker>,
    /// For a handle that searches without the store's keys: the cached policies, prepared without keys.
    keyless: Option<Arc<Mutex<Option<Arc<Policies>>>>>,
    /// Whether reads are answered even if the store was opened with damage.
    despite: bool,
    /// The calls of the conversation of which a source told last.
    ids: Arc<Mutex<CallIds>>,
}

/// The background thread. It stops when the last handle is dropped.
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
            // The thread itself has already handled its panics.
            let _ = thread.join();
        }
    }
}

impl OpenStore {
    pub(crate) fn start(engine: Arc<Engine>) -> Result<OpenStore> {
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
        Ok(OpenStore { engine, worker, keyless: None, despite: false, ids: Arc::default() })
    }

    /// Records one call and returns when it is on the disk.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn record(&self, call: ToolCall) -> Result<Receipt> {
        let recorded = self.record_phases([(call, Phase::Whole)], false, None)?;
        recorded.first().copied().ok_or_else(|| Error::new(ErrorKind::Closed, "nothing was recorded"))
    }

    /// Records several calls in one commit.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn record_batch(&self, calls: impl IntoIterator<Item = ToolCall>) -> Result<Vec<Receipt>> {
        self.record_phases(calls.into_iter().map(|call| (call, Phase::Whole)), true, None)
    }

    /// Records several calls in one commit: all of them or, on an error, none. `named`: whether an error names the call by its
    /// index; `own`: the number of the whole batch.
    pub(crate) fn record_phases(
        &self,
        calls: impl IntoIterator<Item = (ToolCall, Phase)>,
        named: bool,
        mut own: Option<Sender>,
    ) -> Result<Vec<Receipt>> {
        let mut batch = EncodedBatch::new(named);
        let now = self.engine.config.clock.now();
        for (i, (call, phase)) in calls.into_iter().enumerate() {
            // Encoded at once, so that the prepared call is freed while it is still in the cache.
            let prepared = self.engine.prepare(call, phase).and_then(|mut prepared| {
                prepared.number_batch(own.take())?;
                batch.push(prepared, now)
            });
            prepared.map_err(|e| if named { e.in_call(i) } else { e })?;
        }
        if batch.calls.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.submit_batch(batch)
    }

    /// The calls of the conversation of which a source told last.
    pub(crate) fn ids(&self) -> &Mutex<CallIds> {
        &self.ids
    }

    /// The entry at `seq`.
    pub(crate) fn entry(&self, seq: u64) -> Result<Entry> {
        let snapshot = self.engine.snapshot_of_entries()?;
        guarded(|| snapshot.shown(seq))
    }

    /// Fails if the store's path names another file than the open one, or if another program has overwritten the file. Calls
    /// that read entries or record check this themselves; this check is for answers from memory.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.engine.database()?.get()?.check_file()
    }

    /// As [`OpenStore::size`]; fails in a forked process, and after the store was closed.
    pub(crate) fn checked_size(&self) -> Result<u64> {
        self.engine.config.process.check()?;
        if self.engine.is_closed() {
            Err(Error::new(ErrorKind::Closed, "the store was closed"))
        } else {
            Ok(self.size())
        }
    }

    /// The number of recorded entries, including system events and purged entries.
    pub(crate) fn size(&self) -> u64 {
        if !self.engine.config.process.is_this() {
            return self.engine.read.published.try_read().map_or(0, |published| published.size);
        }
        self.engine.read.published.read().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Waits until there are more entries than `seen` or the store is closed, for at most `at_most` if given. Returns `false` on a
    /// timeout.
    pub(crate) fn wait_beyond(&self, seen: u64, at_most: Option<std::time::Duration>) -> Result<bool> {
        self.engine.config.process.check()?;
        let news = || (self.size() > seen || self.engine.is_closed()).then_some(());
        Ok(self.engine.jobs.news.wait(at_most, news).is_some())
    }

    /// Writes the in-memory index to the file, however small it is.
    pub(crate) fn flush_index(&self) -> Result<()> {
        self.engine.write_all_batches()
    }

    /// Closes the store: waits for work in progress, signs a checkpoint, waits for anchors as long as
    /// [`Options::anchor_wait`](crate::Options::anchor_wait) allows, and closes the file. Other handles return
    /// [`Closed`](ErrorKind::Closed) from then on. Dropping the last handle only closes the file, without signing.
    pub(crate) fn close(self) -> Result<()> {
        self.engine.config.process.check()?;
        // A store that is open for reading signs nothing and hands nothing to anchors.
        self.engine.finish_anchoring();
        self.worker.stop();
        let damaged = self.engine.writer().damaged.is_some();
        if !damaged && !self.engine.is_reading() {
            // A failure is retried at the next close.
            let _ = self.engine.seal_rest();
        }
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

    /// Gives a store that is only read up to a process that records: closes its file and releases the locks, whatever is being
    /// read (R96).
    #[cfg(feature = "owner")]
    pub(crate) fn give_up(&self) {
        self.engine.read.reading.giving.iter().for_each(|giving| giving.give_up());
        self.engine.read.closed.store(true, Ordering::SeqCst);
        self.engine.jobs.news.tell();
    }

    /// Whether the store was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.engine.read.reading.is_given_up()
    }

    /// Whether the store can be given up at any moment.
    pub(crate) fn gives_way(&self) -> bool {
        self.engine.read.reading.giving.is_some()
    }

    /// The log as seen by somebody who has the file but not its keys: a name stored as a pseudonym is not found. The handle itself
    /// can still sign, open sealed values and make changes; the code that hands it out must prevent this.
    #[cfg(feature = "owner")]
    pub(crate) fn without_keys(&self) -> OpenStore {
        OpenStore { keyless: Some(Arc::default()), ..self.clone() }
    }

    /// A handle whose reads are answered even if the store was opened with damage.
    pub(crate) fn going_on(&self) -> OpenStore {
        OpenStore { despite: true, ..self.clone() }
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

    /// Every spelling under which the log may hold this value, as far as this handle can tell: the value itself, and its pseudonyms
    /// under every key.
    pub(crate) fn spellings(&self, field: Facet, value: &str) -> Result<Vec<String>> {
        Ok(self.policies_for_search()?.terms(field, value))
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.engine.snapshot()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Of the given seqs, those of calls recorded as never answered. Purged entries are omitted.
    pub(crate) fn unanswered(&self, seqs: &[u64]) -> Result<Vec<u64>> {
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

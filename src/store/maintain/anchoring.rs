//! Checkpoints handed to anchors while the store is open.
//!
//! Invariant J1: what is owed to an anchor is written in the commit that brings the checkpoint, and struck off only after
//! the anchor took one as large; so neither a crash, nor a failure, nor a run without that anchor forgets it. Invariant
//! J2: nobody who records or reads waits for an anchor: each is asked on a thread of its own, which holds no turn and no
//! store while it waits for an answer; closing waits no longer than it was told.
//!
//! One thread looks what is due and starts the others. It begins with the first checkpoint, or when the store is opened
//! and something is owed.

use crate::anchor::{Anchor, AnchorQueue, AnchorReceipt, AnchorStatus, Backoff, Record};
use crate::host::Clock;
use crate::json::Json;
use crate::note::SignedCheckpoint;
use crate::store::engine::Engine;
use crate::store::engine::row_mac::{RowMac, Vouched};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::panic_guard::guarded;
use crate::store::file::tables::{self, Stored};
use crate::store::layout::state::ANCHORS_KEY;
use crate::store::log::AuditLog;
use crate::store::options::AnchorOptions;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::commit::Staging;
use crate::{Error, ErrorKind, Hash, Result, Timestamp, merkle};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What it is called in MACs.
const TABLE: &str = "anchors";
/// However long a wait, so often somebody looks: clocks can be set.
const AT_MOST: Duration = Duration::from_secs(60);

/// What the threads share that hand over checkpoints.
#[derive(Debug)]
pub(crate) struct Anchoring {
    options: AnchorOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: AnchorQueue,
    store: Weak<Engine>,
    started: bool,
    stop: bool,
    /// How many checkpoints are being handed over.
    busy: usize,
    /// How many threads use the store right now.
    inside: usize,
}

/// How things stand with one anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnchorHealth {
    /// What it is called.
    pub name: String,
    /// Whether the store was opened with it. What is owed to one that is not at hand stays owed.
    pub at_hand: bool,
    /// What it took, what is owed to it, and why it failed.
    pub status: AnchorStatus,
}

impl Anchoring {
    pub(crate) fn new(options: AnchorOptions, clock: Arc<dyn Clock>) -> Arc<Anchoring> {
        Arc::new(Anchoring { options, clock, state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_hand(&self, name: &str) -> Option<&Arc<dyn Anchor>> {
        self.options.anchors.iter().find(|anchor| anchor.name() == name)
    }

    /// Starts the thread that looks what is due, once.
    fn start(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.started && !state.stop && !self.options.anchors.is_empty() {
            let this = self.clone();
            let spawned = std::thread::Builder::new().name("attestlog-anchors".to_owned()).spawn(move || this.run());
            // Without a thread everything stays owed, and the next checkpoint tries again.
            state.started = spawned.is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn run(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.lock();
                loop {
                    if state.stop {
                        return;
                    }
                    let now = self.clock.now();
                    let due = state.queue.due_of(now, |name| self.at_hand(name).is_some());
                    if !due.is_empty() {
                        state.busy += due.len();
                        break due;
                    }
                    let next = state.queue.next_due_of(|name| self.at_hand(name).is_some());
                    let wait = next.map_or(AT_MOST, |at| at.since(now)).clamp(Duration::from_millis(1), AT_MOST);
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            };
            for due in due {
                let this = self.clone();
                let (name, size) = (due.anchor.clone(), due.size);
                let thread = std::thread::Builder::new().name("attestlog-anchor".to_owned());
                let spawned = thread.spawn(move || {
                    this.hand_over(&name, size);
                    this.lock().busy -= 1;
                    this.changed.notify_all();
                });
                if let Err(e) = spawned {
                    let mut state = self.lock();
                    state.queue.failed(&due.anchor, self.clock.now(), &e.into());
                    state.busy -= 1;
                }
            }
        }
    }

    /// Runs `work` with the store, unless it is being closed.
    fn inside<T>(&self, work: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let closed = || Error::new(ErrorKind::Closed, "the store was closed");
        let store = {
            let mut state = self.lock();
            let store = if state.stop { None } else { state.store.upgrade() };
            let store = store.ok_or_else(closed)?;
            state.inside += 1;
            store
        };
        let done = guarded(|| work(&store));
        drop(store);
        self.lock().inside -= 1;
        self.changed.notify_all();
        done
    }

    fn hand_over(&self, name: &str, size: u64) {
        let Some(anchor) = self.at_hand(name) else { return };
        let signed = self.inside(|engine| engine.newest_checkpoint(size));
        let taken = signed.and_then(|signed| {
            let of = signed.checkpoint().size();
            let consistency = |old: u64| -> Result<Vec<Hash>> {
                self.inside(|engine| merkle::consistency_proof(&engine.snapshot()?, old, of))
            };
            // An anchor of the host's may panic; that is a failure like any other.
            guarded(|| anchor.submit(&signed, &consistency)).map(|receipt| (signed, receipt))
        });
        let now = self.clock.now();
        match &taken {
            Ok((_, receipt)) => self.lock().queue.succeeded(name, now, receipt.at),
            Err(e) => self.lock().queue.failed(name, now, e),
        }
        // Where this fails it was not written down, and is handed over once more after the next start.
        let _ = self.inside(|engine| engine.settle_anchor(anchor.as_ref(), name, taken.ok()));
    }

    /// Waits until everything at hand was tried, at most for `at_most`; says whether nothing is owed to them any more.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    fn flush(self: &Arc<Self>, at_most: Duration) -> bool {
        self.start();
        let end = Instant::now().checked_add(at_most);
        let mut state = self.lock();
        loop {
            let next = state.queue.next_due_of(|name| self.at_hand(name).is_some());
            let idle = next.is_none_or(|at| at > self.clock.now()) && state.busy == 0;
            let left = end.map_or(AT_MOST, |end| end.saturating_duration_since(Instant::now()));
            if idle || !state.started || left.is_zero() {
                return next.is_none() && state.busy == 0;
            }
            state = self.changed.wait_timeout(state, left.min(AT_MOST)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the threads; waits only for one that is using the store, not for one that waits for an answer.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        self.changed.notify_all();
        while state.inside > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The store, which was open for reading, is recorded into.
    pub(crate) fn resume(&self) {
        self.lock().stop = false;
    }

    /// What is owed once a checkpoint of this size is signed, as `meta` keeps it; `None` without any anchor.
    pub(crate) fn owe(&self, size: u64) -> Option<String> {
        let mut state = self.lock();
        state.queue.owe(size, self.clock.now());
        (state.queue.status().len() > 0).then(|| state.queue.to_json().to_canonical().to_string())
    }
}

impl Engine {
    /// Reads what was owed when the store was last open, and begins to hand it over.
    pub(crate) fn begin_anchoring(self: &Arc<Self>) -> Result<()> {
        let stored = {
            let txn = self.database()?.get()?.begin_read()?;
            let meta = txn.open_table(tables::META).stored()?;
            let row = meta.get(ANCHORS_KEY).stored()?.map(|row| row.value().to_vec());
            row.as_deref().and_then(parse_owed)
        };
        // What was not written with the store's keys, where these are here, tells nothing.
        let vouched = |text: &[u8], mac: &RowMac| self.vouches(TABLE, b"", text, mac) != Vouched::No;
        let stored = stored.filter(|(text, mac, _)| vouched(text.as_bytes(), mac)).map(|(_, _, json)| json);
        let anchoring = &self.anchoring;
        let backoff = anchoring.options.backoff;
        let signed = self.published.read().unwrap_or_else(PoisonError::into_inner).signed;
        let latest = self.latest(self.writer().state.last_recorded_at);
        let owing = {
            let mut state = anchoring.lock();
            state.store = Arc::downgrade(self);
            state.stop = self.is_reading();
            // What cannot be read is owed anew.
            let queue = stored.and_then(|json| AnchorQueue::from_json(&json, backoff).ok());
            state.queue = queue.unwrap_or_else(|| AnchorQueue::new(backoff));
            state.queue.bound(signed, latest);
            for anchor in &anchoring.options.anchors {
                state.queue.add(&anchor.name())?;
            }
            if signed > 0 {
                state.queue.owe(signed, self.clock.now());
            }
            state.queue.next_due_of(|name| anchoring.at_hand(name).is_some()).is_some()
        };
        if owing && anchoring.options.at_open && self.settings.background {
            anchoring.start();
        }
        Ok(())
    }

    /// A checkpoint was signed: hands it over, without waiting.
    pub(crate) fn hand_over(&self) {
        if self.settings.background {
            self.anchoring.start();
        }
    }

    /// Before the store is closed: hands over what is owed, as long as closing may take.
    pub(crate) fn finish_anchoring(&self) {
        if !self.anchoring.options.anchors.is_empty() && !self.is_closed() && !self.is_reading() {
            let _ = self.with_writer(|engine, writer| {
                match writer.state.size > writer.state.signed && engine.keys().is_some() {
                    true => engine.sign(writer).map(|_| ()),
                    false => Ok(()),
                }
            });
            self.anchoring.flush(self.anchoring.options.wait);
        }
        self.anchoring.stop();
    }

    /// The newest checkpoint of at most this size.
    pub(crate) fn newest_checkpoint(&self, size: u64) -> Result<SignedCheckpoint> {
        let txn = self.database()?.get()?.begin_read()?;
        let table = txn.open_table(tables::CHECKPOINTS).stored()?;
        let newest = table.range(..=size).stored()?.next_back().transpose().stored()?;
        let (_, note) = newest.ok_or_else(|| Error::damaged("the checkpoint that is owed is not in the store"))?;
        Ok(SignedCheckpoint::parse(note.value())?)
    }

    /// Writes down how handing over went: what is still owed, what the anchor gave, and its time where it counts.
    fn settle_anchor(
        &self,
        anchor: &dyn Anchor,
        name: &str,
        taken: Option<(SignedCheckpoint, AnchorReceipt)>,
    ) -> Result<()> {
        let attested = match &taken {
            Some((signed, receipt)) if receipt.attestation.is_some() => {
                Some((signed.checkpoint().size(), receipt.record(signed)?.to_string()))
            }
            _ => None,
        };
        let time = taken.and_then(|(_, receipt)| receipt.at).filter(|_| anchor.tells_time());
        self.with_writer(|engine: &Engine, writer: &mut WriterState| {
            let owed = engine.anchoring.lock().queue.to_json().to_canonical().to_string();
            let mut staging = Staging::new(engine, writer)?;
            let told = match time {
                Some(time) if staging.gains_by(time) => staging.trusted_time(time, name).map(|_| true)?,
                _ => false,
            };
            if !told {
                return engine.write_beside(writer, |txn| engine.write_anchors(txn, &owed, name, attested.as_ref()));
            }
            engine.commit(writer, staging, |txn| engine.write_anchors(txn, &owed, name, attested.as_ref()))
        })
    }

    /// A commit that touches nothing that the writer knows, with the writer lock.
    fn write_beside(
        &self,
        writer: &mut WriterState,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let armed = writer.arm();
        let database = self.database()?;
        let txn = self.begin_write(database.get()?)?;
        write(&txn)?;
        txn.commit().stored()?;
        armed.disarm();
        Ok(())
    }

    fn write_anchors(
        &self,
        txn: &redb::WriteTransaction,
        owed: &str,
        name: &str,
        attested: Option<&(u64, String)>,
    ) -> Result<()> {
        self.write_owed(txn, owed)?;
        if let Some((size, record)) = attested {
            txn.open_table(tables::ATTESTATIONS).stored()?.insert((*size, name), record.as_bytes()).stored()?;
            self.note(|changes| _ = changes.attestations.insert((*size, name.to_owned())));
        }
        Ok(())
    }
}

/// The row of what is owed: its JSON, a newline, and 32 hexadecimal digits of its MAC.
fn parse_owed(row: &[u8]) -> Option<(String, RowMac, Json)> {
    let (text, mac) = std::str::from_utf8(row).ok()?.split_once('\n')?;
    let mac = crate::hash::from_hex(mac)?.try_into().ok()?;
    Some((text.to_owned(), mac, Json::parse(text.as_bytes()).ok()?.value))
}

impl Engine {
    /// Writes down what is owed to whom.
    pub(crate) fn write_owed(&self, txn: &redb::WriteTransaction, owed: &str) -> Result<()> {
        let mac = crate::hash::to_hex(&self.row_mac(TABLE, b"", owed.as_bytes()));
        let row = [owed, "\n", &mac].concat();
        txn.open_table(tables::META).stored()?.insert(ANCHORS_KEY, row.as_bytes()).stored()?;
        Ok(())
    }

    /// Whether there is a row of what is owed.
    pub(crate) fn has_owed(&self, snapshot: &Snapshot) -> Result<bool> {
        Ok(tables::get_bytes(&snapshot.table(tables::META)?, ANCHORS_KEY)?.is_some())
    }

    /// The latest time at which anything can have happened to the store: clocks of machines differ, and are set back, but by
    /// no more than expiry allows for.
    fn latest(&self, last_recorded_at: i64) -> Timestamp {
        let bound = self.policies().set.retention.clock_bound();
        self.clock.now().max(Timestamp::from_nanos(last_recorded_at)).plus(bound)
    }

    /// Says what is wrong with the row of what is owed.
    pub(crate) fn check_owed(&self, snapshot: &Snapshot) -> Result<Vec<String>> {
        let Some(row) = tables::get_bytes(&snapshot.table(tables::META)?, ANCHORS_KEY)? else { return Ok(Vec::new()) };
        let mut wrong = Vec::new();
        let Some((text, mac, json)) = parse_owed(&row) else {
            return Ok(vec!["what is owed to anchors cannot be read".to_owned()]);
        };
        if self.vouches(TABLE, b"", text.as_bytes(), &mac) == Vouched::No
            && !(mac == [0; 16] && self.chain_state().opened_without_key)
        {
            wrong.push("what is owed to anchors was not written with the store's keys".to_owned());
        }
        match AnchorQueue::from_json(&json, Backoff::default()) {
            Err(e) => wrong.push(e.to_string()),
            Ok(mut queue) => {
                let latest = self.latest(snapshot.state.last_recorded_at);
                let dropped = queue.bound(snapshot.newest_signed(snapshot.state.size)?, latest);
                let what = "is said to have taken, or to be owed, what was not signed yet, or in the future";
                wrong.extend(dropped.iter().map(|name| format!("the anchor {name:?} {what}")));
            }
        }
        Ok(wrong)
    }
}

impl AuditLog {
    /// How things stand with each anchor: those that the store was opened with, and those that something is owed to from
    /// before.
    pub fn anchors(&self) -> Vec<AnchorHealth> {
        let anchoring = &self.engine().anchoring;
        let state = anchoring.lock();
        let health = |(name, status): (&str, &AnchorStatus)| AnchorHealth {
            name: name.to_owned(),
            at_hand: anchoring.at_hand(name).is_some(),
            status: status.clone(),
        };
        state.queue.status().map(health).collect()
    }

    /// Hands over what is owed now, also where an anchor failed a moment ago, and waits until each was tried, at most for
    /// `at_most`. Says whether nothing is owed any more to the anchors that are at hand.
    pub fn flush_anchors(&self, at_most: Duration) -> bool {
        let anchoring = &self.engine().anchoring;
        anchoring.lock().queue.retry_now();
        anchoring.flush(at_most)
    }

    /// Forgets an anchor, with everything that is owed to it; gives how things stood. One that the store was opened with
    /// is known again after the next opening.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn forget_anchor(&self, name: &str) -> Result<Option<AnchorStatus>> {
        self.engine().with_writer(|engine, writer| {
            let (status, owed) = {
                let mut state = engine.anchoring.lock();
                let status = state.queue.remove(name);
                (status, state.queue.to_json().to_canonical().to_string())
            };
            engine.write_beside(writer, |txn| engine.write_owed(txn, &owed)).map(|()| status)
        })
    }

    /// What witnesses and time-stamping authorities gave for checkpoints of this store, by size. Printed one after the
    /// other these are an anchor file, to be kept elsewhere; here they are as much in the keeper's hands as the store.
    ///
    /// # Errors
    /// What the file says.
    pub fn attestations(&self) -> Result<Vec<(String, Record)>> {
        guarded(|| {
            let txn = self.engine().database()?.get()?.begin_read()?;
            let table = txn.open_table(tables::ATTESTATIONS).stored()?;
            let mut all = Vec::new();
            for row in table.range::<(u64, &str)>(..).stored()? {
                let (key, record) = row.stored()?;
                let name = key.value().1.to_owned();
                all.push((name, Record::parse(record.value())?));
            }
            Ok(all)
        })
    }
}

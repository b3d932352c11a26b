//! Checkpoints handed to anchors while the store is open.
//!
//! Invariant J1: what is owed to an anchor is written in the commit that adds the checkpoint, and removed only after the
//! anchor took a checkpoint at least as large. So neither a crash, nor a failure, nor a run without that anchor loses it.
//! Invariant J2: nobody who records or reads waits for an anchor. Each anchor is asked on a thread of its own, which holds
//! neither the writer lock nor the store while it waits for an answer, and closing waits no longer than the options allow.
//!
//! One thread determines what is due and starts the others. It starts with the first checkpoint, or when the store is opened
//! and something is owed.

use crate::anchor::{Anchor, AnchorHealth, AnchorQueue, AnchorReceipt, AnchorStatus, Backoff, Record, check_anchors};
use crate::files::Writes;
use crate::json::Json;
use crate::note::SignedCheckpoint;
use crate::store::engine::Engine;
use crate::store::engine::handover::Log;
use crate::store::engine::row_mac::{RowMac, Vouched};
use crate::store::engine::writer_state::WriterState;
use crate::store::file::open_table::ReadTable;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::state::ANCHORS_KEY;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::staging::Staging;
use crate::{Error, ErrorKind, Hash, Result, Timestamp, merkle};
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

/// The row's table in MACs.
const TABLE: &str = "anchors";

impl Engine {
    /// Reads what was still owed when the store was last open, and starts handing it over.
    pub(crate) fn begin_anchoring(self: &Arc<Self>) -> Result<()> {
        let stored = {
            let txn = self.database()?.get()?.begin_read()?;
            let meta = ReadTable::open(&txn, tables::META)?;
            let row = meta.get(ANCHORS_KEY).stored()?.map(|row| row.value().to_vec());
            row.as_deref().and_then(parse_owed)
        };
        // A row that was not written with the store's keys is ignored, if the keys are available.
        let vouched = |text: &[u8], mac: &RowMac| self.vouches(TABLE, b"", text, mac) != Vouched::No;
        let stored = stored.filter(|(text, mac, _)| vouched(text.as_bytes(), mac)).map(|(_, _, json)| json);
        let anchoring = &self.jobs.anchoring;
        let backoff = anchoring.options.backoff;
        let signed = self.read.published.read().unwrap_or_else(PoisonError::into_inner).signed;
        let latest = self.latest(self.writer().state.last_recorded_at);
        check_anchors(&anchoring.anchors())?;
        let owing = {
            let mut state = anchoring.lock();
            let log: Weak<dyn Log> = Arc::downgrade(self) as Weak<dyn Log>;
            state.store = Some(log);
            state.stop = self.is_reading();
            // If the row cannot be read, everything is owed again.
            let queue = stored.and_then(|json| AnchorQueue::from_json(&json, backoff).ok());
            state.queue = queue.unwrap_or_else(|| AnchorQueue::new(backoff));
            state.queue.bound(signed, latest);
            for anchor in anchoring.anchors().iter() {
                state.queue.add(&anchor.name())?;
            }
            if signed > 0 {
                state.queue.owe(signed, self.config.clock.now());
            }
            state.queue.next_due_of(|name| anchoring.at_hand(name).is_some()).is_some()
        };
        if owing && anchoring.options.at_open && self.config.settings.background {
            anchoring.start();
        }
        Ok(())
    }

    /// Starts handing over a newly signed checkpoint; does not wait.
    pub(crate) fn hand_over(&self) {
        if self.config.settings.background {
            self.jobs.anchoring.start();
        }
    }

    /// Before the store is closed: hands over what is owed, for as long as closing may wait.
    pub(crate) fn finish_anchoring(&self) {
        if !self.jobs.anchoring.anchors().is_empty() && !self.is_closed() && !self.is_reading() {
            let _ = self.with_writer(|engine, writer| {
                match writer.state.size > writer.state.signed && engine.keys().is_some() {
                    true => engine.sign(writer).map(|_| ()),
                    false => Ok(()),
                }
            });
            self.jobs.anchoring.flush(self.jobs.anchoring.options.wait);
        }
        self.jobs.anchoring.stop();
    }

    /// A commit, under the writer lock, that changes nothing in the writer's state.
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
            self.note(|changes| changes.note(&tables::ATTESTATIONS, (*size, name)));
        }
        Ok(())
    }
}

impl Log for Engine {
    fn newest_checkpoint(&self, size: u64) -> Result<SignedCheckpoint> {
        let txn = self.database()?.get()?.begin_read()?;
        let table = ReadTable::open(&txn, tables::CHECKPOINTS)?;
        let newest = table.range(..=size).stored()?.next_back().transpose().stored()?;
        let (_, note) = newest.ok_or_else(|| Error::damaged("the checkpoint that is owed is not in the store"))?;
        Ok(SignedCheckpoint::parse(note.value())?)
    }

    fn consistency(&self, old: u64, of: u64) -> Result<Vec<Hash>> {
        merkle::consistency_proof(&self.snapshot()?, old, of)
    }

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
            let owed = engine.jobs.anchoring.lock().queue.to_json().to_canonical().to_string();
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
}

/// The row of what is owed: its JSON, a newline, and 32 hexadecimal digits of its MAC.
fn parse_owed(row: &[u8]) -> Option<(String, RowMac, Json)> {
    let (text, mac) = std::str::from_utf8(row).ok()?.split_once('\n')?;
    let mac = crate::hash::from_hex(mac)?.try_into().ok()?;
    Some((text.to_owned(), mac, Json::parse(text.as_bytes()).ok()?.value))
}

impl Engine {
    /// Writes the row of what is owed to whom.
    pub(crate) fn write_owed(&self, txn: &redb::WriteTransaction, owed: &str) -> Result<()> {
        let mac = crate::hash::to_hex(&self.row_mac(TABLE, b"", owed.as_bytes()));
        let row = [owed, "\n", &mac].concat();
        txn.open_table(tables::META).stored()?.insert(ANCHORS_KEY, row.as_bytes()).stored()?;
        Ok(())
    }

    /// Whether there is a row of what is owed.
    pub(crate) fn has_owed(&self, snapshot: &Snapshot) -> Result<bool> {
        Ok(snapshot.table(tables::META)?.bytes(ANCHORS_KEY)?.is_some())
    }

    /// Refuses a file that an anchor or a receiver of this store is to append to if it is kept for something else (R98).
    pub(crate) fn check_configured(&self, file: &Path, writes: Writes) -> Result<()> {
        let Some(store) = self.path() else { return crate::files::check(file, writes) };
        let key = self.keys().as_ref().and_then(|keys| keys.path.clone());
        crate::files::check_beside(file, writes, store, &key.unwrap_or_else(|| crate::files::beside(store, "key")))
    }

    /// The latest time at which anything can have happened to the store. Clocks differ between machines and are set back, but
    /// by no more than expiry allows for.
    fn latest(&self, last_recorded_at: i64) -> Timestamp {
        let bound = self.policies().set.retention.clock_bound();
        self.config.clock.now().max(Timestamp::from_nanos(last_recorded_at)).plus(bound)
    }

    /// A message about what is wrong with the row of what is owed, if anything is.
    pub(crate) fn check_owed(&self, snapshot: &Snapshot) -> Result<Vec<String>> {
        let Some(row) = snapshot.table(tables::META)?.bytes(ANCHORS_KEY)? else { return Ok(Vec::new()) };
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
                let what = "is recorded as having taken, or being owed, a checkpoint that was not signed yet, or at a time in the future";
                wrong.extend(dropped.iter().map(|name| format!("the anchor {name:?} {what}")));
            }
        }
        Ok(wrong)
    }
}

impl OpenStore {
    /// The state of each anchor: those that the store was opened with, and earlier ones to which something is still owed.
    pub(crate) fn anchors(&self) -> Vec<AnchorHealth> {
        let anchoring = &self.engine().jobs.anchoring;
        let state = anchoring.lock();
        let health = |(name, status): (&str, &AnchorStatus)| AnchorHealth {
            name: name.to_owned(),
            at_hand: anchoring.at_hand(name).is_some(),
            status: status.clone(),
        };
        state.queue.status().map(health).collect()
    }

    /// Hands over what is owed now, without waiting for the retry delay of failed anchors. Waits until each anchor was tried,
    /// for at most `at_most`. Returns whether nothing is owed any more to the anchors at hand.
    pub(crate) fn flush_anchors(&self, at_most: Duration) -> bool {
        let anchoring = &self.engine().jobs.anchoring;
        anchoring.lock().queue.retry_now();
        anchoring.flush(at_most)
    }

    /// Hands checkpoints to these anchors from now on, instead of those that the store was opened with, beginning with the
    /// newest checkpoint. What is owed to an anchor that is not among them stays owed until it is set again or forgotten; a
    /// hand-over already under way may still complete.
    pub(crate) fn set_anchors(&self, anchors: Vec<Arc<dyn Anchor>>) -> Result<()> {
        let engine = self.engine();
        for file in anchors.iter().filter_map(|anchor| anchor.file()) {
            engine.check_configured(file, Writes::Checkpoints)?;
        }
        let anchoring = &engine.jobs.anchoring;
        let signed = engine.read.published.read().unwrap_or_else(PoisonError::into_inner).signed;
        {
            check_anchors(&anchors)?;
            let mut state = anchoring.lock();
            let mut queue = state.queue.clone();
            for anchor in &anchors {
                queue.add(&anchor.name())?;
            }
            if signed > 0 {
                queue.owe(signed, engine.config.clock.now());
            }
            state.queue = queue;
            *anchoring.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
        }
        if !engine.is_reading() {
            engine.hand_over();
        }
        Ok(())
    }

    /// Forgets an anchor and everything that is owed to it. Returns its last state.
    pub(crate) fn forget_anchor(&self, name: &str) -> Result<Option<AnchorStatus>> {
        if self.engine().jobs.anchoring.at_hand(name).is_some() {
            let message =
                format!("{name} is in use: take it out of the store's anchors first (anchors set), then forget it");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.engine().with_writer(|engine, writer| {
            let (status, owed) = {
                let mut state = engine.jobs.anchoring.lock();
                let status = state.queue.remove(name);
                (status, state.queue.to_json().to_canonical().to_string())
            };
            engine.write_beside(writer, |txn| engine.write_owed(txn, &owed)).map(|()| status)
        })
    }

    /// The attestations of witnesses and time-stamping authorities for checkpoints of this store, by size. Printed one after
    /// another they form an anchor file, to be kept elsewhere; in the store they are as much under the operator's control as
    /// the store itself.
    pub(crate) fn attestations(&self) -> Result<Vec<(String, Record)>> {
        guarded(|| {
            let txn = self.engine().database()?.get()?.begin_read()?;
            let table = ReadTable::open(&txn, tables::ATTESTATIONS)?;
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

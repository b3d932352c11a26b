//! The writer: prepared calls become entries of the chain, and the chain becomes bytes on the disk.
//!
//! Invariant W1: a caller gets an answer for an entry only after the commit that contains it was synced. Invariant W2: the
//! in-memory state changes only after that commit; a failed commit leaves it unchanged and closes the writer until the file
//! was reopened and read again, because a failed commit may still have reached the disk. Invariant W3: the entries of one
//! batch are in one commit, all or none.

use crate::chain_state::ChainState;
use crate::codec;
use crate::entry::CallLimits;
use crate::grants::OpenGrant;
use crate::json::{Json, Object};
use crate::line::{self, ChainSlot};
use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::engine::Engine;
use crate::store::engine::encode::Prepared;
use crate::store::engine::encode::{EncodedBatch, Entries, EntryContent};
use crate::store::engine::group_commit::Leader;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::subject_keys::NewSubject;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::file::tables::{self, Stored};
use crate::store::layout::block::Sealer;
use crate::store::layout::entry_record;
use crate::store::layout::sender_window::{Seen, Window};
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::write::publish::Committed;
use crate::store::write::subject_rows;
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use attestlog_proof::entry::{Content, Retention, SystemEvent};
use std::collections::HashMap;
use std::time::Duration;

/// Entries to be written by one commit.
pub(crate) struct Staging<'a> {
    engine: &'a Engine,
    chain_state: Option<ChainState>,
    clock: ExpiryClock,
    ticked: Duration,
    pub unsigned_said: bool,
    pub state: State,
    frontier: Frontier,
    pub now: Timestamp,
    entries: Entries,
    /// The block being filled; below it the blocks that became full, with their first seqs.
    sealer: Sealer,
    blocks: Vec<(u64, Vec<u8>)>,
    nodes: Vec<((u8, u64), Hash)>,
    /// Cached windows of senders, and whether this commit changes them.
    windows: HashMap<String, (Window, bool)>,
    pub(crate) begun: Vec<u64>,
    /// Earlier calls that get their end, or a late answer.
    pub(crate) finished: Vec<u64>,
    subjects: Vec<NewSubject>,
    /// Buffer for the current line.
    line: Vec<u8>,
}

/// The state of a staging before a batch, so that a refused batch leaves nothing behind.
struct Mark {
    state: State,
    frontier: Frontier,
    /// `None` for a batch of one call: if refused, it added nothing to the block.
    sealer: Option<Sealer>,
    blocks: usize,
    entries: usize,
    nodes: usize,
    begun: usize,
    finished: usize,
    subjects: usize,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(engine: &'a Engine, writer: &WriterState) -> Result<Staging<'a>> {
        let ticked = engine.config.clock.monotonic();
        let bound = engine.policies().set.retention.clock_bound();
        let mut clock = writer.clock(ticked, bound);
        let now = engine.config.clock.now();
        let events = clock.observe_wall(now);
        let mut staging = Staging {
            engine,
            chain_state: None,
            clock,
            ticked,
            unsigned_said: writer.unsigned_said,
            state: writer.state.clone(),
            frontier: writer.frontier.clone(),
            now,
            entries: Entries::default(),
            sealer: writer.sealer.clone(),
            blocks: Vec::new(),
            nodes: Vec::new(),
            windows: HashMap::new(),
            begun: Vec::new(),
            finished: Vec::new(),
            subjects: Vec::new(),
            line: Vec::with_capacity(1024),
        };
        staging.state.clock = staging.clock.state().clone();
        engine.check_keys(&mut staging, writer)?;
        for event in writer.brought_back.iter().chain(&events) {
            staging.clock_event(event)?;
        }
        staging.end_grants()?;
        Ok(staging)
    }

    fn clock_event(&mut self, event: &ClockEvent) -> Result<Receipt> {
        let detail = event.to_json().as_object().cloned().unwrap_or_default();
        self.system_event(Kind::Clock, detail, None)
    }

    /// Records the end of each emergency grant whose time is over. An expired grant stays over even if the clock is set back
    /// later.
    fn end_grants(&mut self) -> Result<()> {
        let chain_state = self.engine.chain_state();
        let now = self.now;
        let is_over = |seq: u64, grant: &OpenGrant| grant.is_over(self.engine.time_of_grant(seq, now));
        let over: Vec<_> = chain_state.open_grants.iter().filter(|(seq, grant)| is_over(**seq, grant)).collect();
        for (&seq, grant) in over {
            let retention = self.engine.stored()?.checked(seq)?;
            let retention = retention.and_then(|entry| entry.body.retention);
            let retention = retention.map(|retention| self.engine.as_long_as(seq, retention)).transpose()?;
            self.system_event(Kind::BreakGlassClosed, grant.expiry(seq), retention)?;
        }
        Ok(())
    }

    /// Records that somebody confirmed the system clock.
    pub(crate) fn confirm_clock(&mut self, actor: &str, reason: &str) -> Result<ClockEvent> {
        let event = self.clock.confirm(self.now, actor, reason)?;
        self.state.clock = self.clock.state().clone();
        self.clock_event(&event)?;
        Ok(event)
    }

    /// Whether a trusted time would advance the expiry clock: end a freeze, explain time that was only credited, or move it
    /// on. A difference of less than a minute is not worth an entry; a time beyond the system clock and the bound is not
    /// believed.
    pub(crate) fn gains_by(&self, time: Timestamp) -> bool {
        const MINUTE: Duration = Duration::from_secs(60);
        if !self.clock.may_trust(time) {
            return false;
        }
        let status = self.clock.status(self.now);
        let explained = status.credited.saturating_sub(status.now.since(time));
        status.frozen.is_some() || explained >= MINUTE || time.since(status.now) >= MINUTE
    }

    /// Records that a trusted source confirmed that the log existed at `time`.
    pub(crate) fn trusted_time(&mut self, time: Timestamp, source: &str) -> Result<ClockEvent> {
        let event = self.clock.trusted(time, source)?;
        self.state.clock = self.clock.state().clone();
        self.clock_event(&event)?;
        Ok(event)
    }

    /// The expiry clock as of this commit.
    pub(crate) fn expiry_clock(&self) -> &ExpiryClock {
        &self.clock
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is anything to write: batches that only repeat recorded ones change nothing.
    fn changes(&self) -> bool {
        !self.is_empty() || self.windows.values().any(|(_, changed)| *changed)
    }

    /// The stored content of a staged call, from `batch` or from an earlier batch.
    pub(crate) fn staged<'j>(&'j self, seq: u64, batch: &'j EncodedBatch) -> Option<&'j [u8]> {
        let at = seq.checked_sub(self.committed())?;
        self.entries.content(at as usize, batch)
    }

    /// The retention of a staged entry.
    pub(crate) fn staged_retention(&self, seq: u64) -> Option<Option<&Retention>> {
        let at = seq.checked_sub(self.committed())?;
        Some(self.entries.retention(at as usize))
    }

    /// Adds a system event.
    pub(crate) fn system_event(&mut self, kind: Kind, detail: Object, retention: Option<Retention>) -> Result<Receipt> {
        let own = SystemEvent { kind, detail: Json::from(detail).to_canonical() };
        if ChainState::wants(kind) {
            let mut chain_state =
                self.chain_state.take().unwrap_or_else(|| ChainState::clone(&self.engine.chain_state()));
            // What would be rejected when the log is read again is not written.
            chain_state.apply(self.state.size, &own).map_err(|e| Error::new(ErrorKind::Conflict, e.reason))?;
            self.chain_state = Some(chain_state);
        }
        self.append(retention.as_ref(), &EntryContent::Own(kind, self.now, &Content::System(own)))
    }

    /// Adds the calls of one batch, or none of them.
    pub(crate) fn batch(&mut self, batch: EncodedBatch) -> Result<Vec<Receipt>> {
        if let Some(receipts) = self.repeated(&batch)? {
            return Ok(receipts);
        }
        let mark = Mark {
            state: self.state.clone(),
            frontier: self.frontier.clone(),
            sealer: (batch.calls.len() > 1).then(|| self.sealer.clone()),
            blocks: self.blocks.len(),
            entries: self.entries.len(),
            nodes: self.nodes.len(),
            begun: self.begun.len(),
            finished: self.finished.len(),
            subjects: self.subjects.len(),
        };
        let windows = batch.calls.iter().any(|call| call.sender.is_some()).then(|| self.windows.clone());
        self.entries.reserve(batch.calls.len());
        let receipts = (0..batch.calls.len()).map(|at| self.call(&batch, at)).collect();
        if let Err(e) = receipts {
            let State { sealed, seed, .. } = std::mem::replace(&mut self.state, mark.state);
            match mark.sealer {
                Some(sealer) => {
                    self.sealer = sealer;
                    self.blocks.truncate(mark.blocks);
                }
                // At most the preceding block was completed.
                None => (self.state.sealed, self.state.seed) = (sealed, seed),
            }
            self.frontier = mark.frontier;
            self.entries.truncate(mark.entries);
            self.nodes.truncate(mark.nodes);
            self.begun.truncate(mark.begun);
            self.finished.truncate(mark.finished);
            self.subjects.truncate(mark.subjects);
            if let Some(windows) = windows {
                self.windows = windows;
            }
            return Err(e);
        }
        self.entries.took(batch);
        receipts
    }

    fn call(&mut self, batch: &EncodedBatch, at: usize) -> Result<Receipt> {
        let call = &batch.calls[at];
        let seq = self.state.size;
        if let Some(sender) = &call.sender {
            if let Some(receipt) = self.seen(&sender.id, sender.number)? {
                self.check_same(batch, at, receipt.seq, sender)?;
                return Ok(receipt);
            }
            if let Some((window, changed)) = self.windows.get_mut(&sender.id) {
                window.add(sender.number, seq);
                *changed = true;
            }
        }
        for (name, other) in [("retry_of or follow_up_of", call.follows), ("grant", call.grant)] {
            if other.is_some_and(|other| other >= seq) {
                return Err(Error::invalid(format!("{name}: entry {} is not recorded yet", other.unwrap_or_default())));
            }
        }
        self.check_parts(batch, at)?;
        let policies = self.engine.policies();
        let retention = policies.set.retention.assign(
            batch.tool(at),
            call.has_patient,
            call.retention_class.as_deref(),
            call.retain_until,
            self.now.max(self.clock.now()),
        )?;
        self.subjects.extend(call.subject.clone());
        self.append(Some(&retention), &EntryContent::Call(batch, at))
    }

    /// The hash of a recorded or staged entry.
    pub(crate) fn hash_at(&self, seq: u64) -> Result<Hash> {
        let staged = seq.checked_sub(self.state.size - self.entries.len() as u64);
        match staged.and_then(|i| self.entries.hash(i as usize)) {
            Some(hash) => Ok(hash),
            None => self.engine.stored()?.hash(seq),
        }
    }

    /// Appends one entry to the chain.
    fn append(&mut self, retention: Option<&Retention>, what: &EntryContent<'_>) -> Result<Receipt> {
        let (seq, prev) = (self.state.size, self.state.head);
        let mut own = Vec::new();
        let content = match what {
            EntryContent::Call(batch, at) => batch.content(*at),
            EntryContent::Own(_, _, content) => {
                codec::append(content, &mut own)?;
                &own
            }
        };
        if content.len() > codec::MAX_BYTES / 2 {
            return Err(Error::new(ErrorKind::TooLarge, "the entry is too large to store; it was not recorded"));
        }
        let kept = retention.map(|retention| (retention.class.as_str(), retention.until));
        if !self.sealer.room(seq, content, self.now, kept) {
            self.blocks.extend(self.sealer.finish()?);
            self.state.sealed = seq;
            self.sealer.room(seq, content, self.now, kept);
        }
        if self.sealer.is_empty() {
            self.engine.config.random.fill(&mut self.state.seed);
            self.sealer.begin(self.state.seed);
        } else if !self.sealer.is_seeded() {
            // The file does not name the seed of the tail's nonces, so each nonce is stored.
            self.engine.config.random.fill(&mut self.state.seed);
        }
        let nonce = entry_record::nonce_of(&self.state.seed, seq);
        let text = &mut self.line;
        let slot = ChainSlot { seq, prev: &prev, nonce, recorded_at: self.now, retention };
        text.clear();
        // The limit is for calls; system events, such as a policy, may be larger.
        let limit = match what {
            EntryContent::Call(batch, at) => {
                batch.line(*at, &slot, text);
                self.engine.config.limits.line_bytes
            }
            EntryContent::Own(_, _, content) => {
                line::write_content(text, content, &slot);
                self.engine.config.limits.line_bytes.max(CallLimits::default().line_bytes)
            }
        };
        if text.len() > limit {
            let message =
                format!("the entry has {} bytes, more than the limit of {limit}; it was not recorded", text.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let hash = Hash::leaf(text);
        self.entries.push(&slot, hash, what, content)?;
        self.sealer.add(seq, &prev, &hash, &slot.head(), false);
        let nodes = &mut self.nodes;
        self.frontier.append(hash, &mut |level, index, hash| {
            if level >= crate::store::layout::NODE_LEVEL {
                nodes.push(((level, index), hash));
            }
        });
        self.state.size += 1;
        self.state.head = hash;
        self.state.last_recorded_at = self.state.last_recorded_at.max(self.now.nanos());
        Ok(Receipt::new(seq, hash))
    }

    pub(crate) fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// The number of entries of the log without the staged ones.
    pub(crate) fn committed(&self) -> u64 {
        self.state.size - self.entries.len() as u64
    }

    /// The receipt of this sender's earlier record with this number, if there is one.
    pub(crate) fn seen(&mut self, id: &str, number: u64) -> Result<Option<Receipt>> {
        let committed = self.committed();
        let (mut window, mut changed) = match self.windows.remove(id) {
            Some(known) => known,
            None => (self.load_window(id, committed)?, false),
        };
        let mut seen = window.look(number);
        let borne_out = match seen {
            Seen::New => true,
            Seen::At(seq) => self.bears_out(id, number, seq, committed)?,
            Seen::Forgotten => false,
        };
        if !borne_out && self.scrub(id, &mut window, committed)? {
            seen = window.look(number);
            changed = true;
        }
        self.windows.insert(id.to_owned(), (window, changed));
        match seen {
            Seen::New => Ok(None),
            Seen::At(seq) => Ok(Some(Receipt::new(seq, self.hash_at(seq)?))),
            Seen::Forgotten => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "sender {id:?}: number {number} lies too far behind its newest to tell whether it was recorded"
                ),
            )),
        }
    }
}

impl Engine {
    /// Records a batch, as the leader or through another thread that is.
    pub(crate) fn submit(&self, calls: Vec<Prepared>) -> Result<Vec<Receipt>> {
        self.submit_batch(EncodedBatch::of(calls, self.config.clock.now())?)
    }

    /// Like [`Engine::submit`], for an encoded batch.
    pub(crate) fn submit_batch(&self, batch: EncodedBatch) -> Result<Vec<Receipt>> {
        use crate::store::engine::group_commit::Outcome;
        self.config.process.check()?;
        let (turn, batch) = match self.write.group_commit.submit(batch) {
            Outcome::Answered(answer) => return answer,
            Outcome::Lost => return Err(lost()),
            Outcome::Lead(turn, batch) => (turn, batch),
        };
        let own = self.lead(turn, vec![batch]).pop();
        own.unwrap_or_else(|| Err(lost()))
    }

    /// Records several batches in one commit, each on its own: a refused batch does not affect the others.
    pub(crate) fn submit_each(&self, batches: Vec<Vec<Prepared>>) -> Vec<Result<Vec<Receipt>>> {
        if let Err(e) = self.config.process.check() {
            return batches.iter().map(|_| Err(e.retold())).collect();
        }
        let now = self.config.clock.now();
        let mut refused = Vec::new();
        let written = batches.into_iter().enumerate().filter_map(|(i, calls)| {
            let batch = EncodedBatch::of(calls, now);
            batch.map_err(|e| refused.push((i, e))).ok()
        });
        let written = written.collect();
        let mut answers = self.lead(self.write.group_commit.take(), written);
        for (i, e) in refused {
            answers.insert(i, Err(e));
        }
        answers
    }

    /// Commits these batches, and those of waiting threads, in one commit.
    fn lead(
        &self,
        turn: Leader<'_, EncodedBatch, Result<Vec<Receipt>>>,
        mut batches: Vec<EncodedBatch>,
    ) -> Vec<Result<Vec<Receipt>>> {
        let count = batches.len();
        let mut others = turn.batches();
        batches.extend(others.iter_mut().filter_map(|t| t.batch.take()));
        let mut writer = self.writer();
        let (all, mut ended) = (batches.len(), false);
        let done = guarded(|| {
            let done = self.commit_jobs(&mut writer, batches);
            ended = true;
            Ok(done)
        });
        self.after(&mut writer, ended);
        let (mut answers, committed) = done.unwrap_or_else(|e| ((0..all).map(|_| Err(e.retold())).collect(), None));
        let mut showing = committed.is_some().then(|| self.showing(&mut writer));
        if writer.is_poisoned() && showing.take().is_some() {
            // A commit before this one could not be shown: reading the file anew shows both.
            let _ = self.recover(&mut writer);
        }
        drop(writer);
        drop(turn);
        if let Some((showing, committed)) = showing.zip(committed) {
            let shown = guarded(move || {
                let _showing = showing;
                self.show(committed)
            });
            if let Err(e) = shown {
                answers = refused(answers, &e);
            }
        }
        let theirs = answers.split_off(count.min(answers.len()));
        for (taken, answer) in others.into_iter().zip(theirs) {
            taken.answer(answer);
        }
        self.after_commit();
        answers
    }

    /// Runs `work` with the writer lock.
    pub(crate) fn with_writer<T>(&self, work: impl FnOnce(&Engine, &mut WriterState) -> Result<T>) -> Result<T> {
        self.config.process.check()?;
        let _turn = self.write.group_commit.take();
        let mut writer = self.writer();
        drop(self.showing(&mut writer));
        let mut ended = false;
        let done = guarded(|| {
            let done = self.recover(&mut writer).and_then(|()| work(self, &mut writer));
            ended = true;
            done
        });
        self.after(&mut writer, ended);
        done
    }

    /// Commits batches; returns their answers and, if it still has to be published, what was committed.
    fn commit_jobs(
        &self,
        writer: &mut WriterState,
        batches: Vec<EncodedBatch>,
    ) -> (Vec<Result<Vec<Receipt>>>, Option<Committed>) {
        let count = batches.len();
        let failed = |e: &Error| -> Vec<_> { (0..count).map(|_| Err(e.retold())).collect() };
        let staged = self.recover(writer).and_then(|()| Staging::new(self, writer));
        let mut staging = match staged {
            Ok(staging) => staging,
            Err(e) => return (failed(&e), None),
        };
        let answers: Vec<_> = batches.into_iter().map(|batch| staging.batch(batch)).collect();
        if answers.iter().all(Result::is_err) || !staging.changes() {
            return (answers, None);
        }
        let committed = match self.commit_to(writer, staging, None, |_| Ok(()), || Ok(())) {
            Ok(Some(committed)) if committed.puts_in_force() => self.show_now(writer, committed).map(|()| None),
            other => other,
        };
        match committed {
            Ok(committed) => (answers, committed),
            Err(e) => (refused(answers, &e), None),
        }
    }

    /// Writes what was staged, and whatever `more` writes, in one commit; then publishes it.
    pub(crate) fn commit(
        &self,
        writer: &mut WriterState,
        staging: Staging<'_>,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        match self.commit_to(writer, staging, None, more, || Ok(()))? {
            Some(committed) => self.show_now(writer, committed),
            None => Ok(()),
        }
    }

    /// Like [`Engine::commit`], but if `other` is given, writes to that file, which holds everything that the store does;
    /// after the write, `take` makes it the store's file. On any failure the store is unchanged. Returns the commit, which
    /// must still be published, or `None` if reading the file again has published it already.
    pub(crate) fn commit_to(
        &self,
        writer: &mut WriterState,
        staging: Staging<'_>,
        other: Option<&DatabaseHandle>,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
        take: impl FnOnce() -> Result<()>,
    ) -> Result<Option<Committed>> {
        let Staging {
            state,
            frontier,
            entries,
            sealer,
            blocks,
            nodes,
            windows,
            begun,
            finished,
            chain_state,
            ticked,
            unsigned_said,
            subjects,
            ..
        } = staging;
        let windows: Vec<_> =
            windows.into_iter().filter_map(|(id, (window, changed))| changed.then_some((id, window))).collect();
        let wrapped = self.wrap_subjects(subjects)?;
        let written = self.write(writer, other, &state, &blocks, &entries, |txn| {
            if !nodes.is_empty() {
                let mut table = txn.open_table(tables::NODES).stored()?;
                for (key, hash) in &nodes {
                    table.insert(key, hash.0).stored()?;
                }
            }
            if !windows.is_empty() {
                let purged = self.purged();
                let mut table = txn.open_table(tables::SENDERS).stored()?;
                for (id, window) in &windows {
                    table.insert(id.as_str(), &*self.encode_window(id, window, &purged)?).stored()?;
                }
            }
            if !begun.is_empty() || !finished.is_empty() {
                let mut table = txn.open_table(tables::UNFINISHED).stored()?;
                for seq in &begun {
                    table.insert(seq, ()).stored()?;
                }
                for seq in &finished {
                    table.remove(seq).stored()?;
                }
            }
            subject_rows::write(txn, &wrapped)?;
            more(txn)
        });
        match (written, other) {
            (Ok(()), _) => take()?,
            (Err(e), None) => return self.after_failure(writer, &state, e).map(|()| None),
            (Err(e), Some(_)) => return Err(e),
        }
        self.note(|changes| {
            changes.senders.extend(windows.into_iter().map(|(id, _)| id));
            changes.unfinished.extend(begun.into_iter().chain(finished));
            subject_rows::note(changes, &wrapped);
        });
        self.write.subjects.settled(&wrapped);
        let from = writer.state.size;
        writer.frontier = frontier;
        writer.sealer = sealer;
        writer.state = state;
        writer.ticked = ticked;
        writer.unsigned_said = unsigned_said;
        writer.brought_back = None;
        Ok(Some(Committed::new(from, &writer.state, entries, chain_state)))
    }

    fn write(
        &self,
        writer: &WriterState,
        other: Option<&DatabaseHandle>,
        state: &State,
        blocks: &[(u64, Vec<u8>)],
        entries: &Entries,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let database = self.database()?;
        let txn = self.begin_write(other.map_or_else(|| database.get().map(|own| &**own), Ok)?)?;
        {
            let mut tail = txn.open_table(tables::TAIL).stored()?;
            if !blocks.is_empty() {
                let mut table = txn.open_table(tables::BLOCKS).stored()?;
                for (first, block) in blocks {
                    table.insert(first, &**block).stored()?;
                }
            }
            if state.sealed > writer.state.sealed {
                let gone = writer.state.sealed..state.sealed.min(writer.state.size);
                tail.retain_in(gone, |_, _| false).stored()?;
            }
            let kept = state.sealed.saturating_sub(writer.state.size) as usize;
            for (seq, row) in (writer.state.size + kept as u64..).zip(entries.rows(kept)) {
                tail.insert(seq, &*row).stored()?;
            }
        }
        more(&txn)?;
        {
            let mut meta = txn.open_table(tables::META).stored()?;
            meta.insert(STATE_KEY, &*codec::encode(state)?).stored()?;
        }
        txn.commit().stored()
    }

    /// Handles a failed commit: finds out what reached the disk. Returns `Ok` if the commit did after all.
    fn after_failure(&self, writer: &mut WriterState, wanted: &State, e: Error) -> Result<()> {
        writer.poison();
        if let Ok(file) = self.database()?.get() {
            file.check_unchanged()?;
        }
        match self.recover(writer) {
            Ok(()) if writer.state.size == wanted.size && writer.state.head == wanted.head => Ok(()),
            Ok(()) => Err(e),
            // The content of the file is unknown, so the caller must not be told that nothing was recorded.
            Err(again) => Err(Error::new(
                ErrorKind::Closed,
                format!("{e}; and reading the file again failed, so it is not known whether it was recorded: {again}"),
            )
            .with_source(e)),
        }
    }

    /// To be called before anything is written. After a failed write, reopens the file and reads it again. Refuses a store
    /// that is open only for reading, one whose file is no longer at its path or was overwritten by another program, and one
    /// with unreadable parts.
    pub(crate) fn recover(&self, writer: &mut WriterState) -> Result<()> {
        self.begin_writing(writer)?;
        if writer.is_poisoned() {
            // What was committed before is in the file: it must not be shown once more behind what is read now.
            drop(self.showing(writer));
            let said = writer.unsigned_said;
            let loaded = self.reopen()?;
            if let Some(keys) = &mut *self.keys() {
                keys.forget_history();
            }
            *writer = loaded.writer;
            self.set_damage(writer.damaged);
            writer.unsigned_said = said;
            self.publish_anew(&writer.state, loaded.mem_segments);
            self.put_in_force(loaded.chain_state)?;
        }
        self.database()?.get()?.check_file()?;
        writer.damaged.map_or(Ok(()), |damage| Err(damage.refusal()))
    }

    pub(crate) fn begin_write(&self, database: &DatabaseHandle) -> Result<redb::WriteTransaction> {
        let mut txn = database.begin_write()?;
        txn.set_two_phase_commit(self.config.settings.two_phase);
        txn.set_quick_repair(self.config.settings.quick_repair);
        Ok(txn)
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the thread that was committing died; open the store again and look what was recorded",
    )
}

/// Replaces the successful answers with a failure that concerns all of them.
fn refused(answers: Vec<Result<Vec<Receipt>>>, e: &Error) -> Vec<Result<Vec<Receipt>>> {
    answers.into_iter().map(|answer| answer.and_then(|_| Err(e.retold()))).collect()
}

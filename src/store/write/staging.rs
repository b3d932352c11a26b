//! Entries on their way into one commit: each call and system event gets its seq, time, retention and hash, and its place in the
//! tree.
//!
//! Invariant W3: the entries of one batch are in one commit, all or none.

use crate::chain_state::ChainState;
use crate::codec;
use crate::entry::CallLimits;
use crate::grants::OpenGrant;
use crate::json::{Json, Object};
use crate::line::{self, ChainSlot};
use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::store::engine::Engine;
use crate::store::engine::encode::{EncodedBatch, Entries, EntryContent};
use crate::store::engine::receipt::Receipt;
use crate::store::engine::subject_keys::NewSubject;
use crate::store::engine::writer_state::WriterState;
use crate::store::layout::seeds::Seeds;
use crate::store::layout::sender_window::{Seen, Window};
use crate::store::layout::state::State;
use crate::store::layout::stored_entry::append_content;
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use attestlog_proof::entry::{Content, Retention, SystemEvent};
use std::collections::HashMap;
use std::time::Duration;

/// Entries to be written by one commit.
pub(crate) struct Staging<'a> {
    engine: &'a Engine,
    pub(super) chain_state: Option<ChainState>,
    pub(super) clock: ExpiryClock,
    pub(super) ticked: Duration,
    pub unsigned_said: bool,
    pub state: State,
    pub(super) frontier: Frontier,
    pub now: Timestamp,
    pub(super) entries: Entries,
    /// The seeds of the segment of the newest entry, and those that were drawn for this commit, by first seq of the segment.
    pub(super) seeds: Seeds,
    pub(super) drawn: Vec<(u64, Vec<u8>)>,
    pub(super) nodes: Vec<((u8, u64), Hash)>,
    /// Cached windows of senders, and whether this commit changes them.
    pub(super) windows: HashMap<String, (Window, bool)>,
    /// Number and seq of the record of each sender that was last found outside its window.
    pub(super) located: HashMap<String, (u64, u64)>,
    pub(crate) begun: Vec<u64>,
    /// Earlier calls that get their end, or a late answer.
    pub(crate) finished: Vec<u64>,
    pub(super) subjects: Vec<NewSubject>,
    /// Buffer for the current line.
    line: Vec<u8>,
}

/// The state of a staging before a batch, so that a refused batch leaves nothing behind.
struct Mark {
    state: State,
    frontier: Frontier,
    seeds: Seeds,
    drawn: usize,
    entries: usize,
    nodes: usize,
    begun: usize,
    finished: usize,
    subjects: usize,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(engine: &'a Engine, writer: &WriterState) -> Result<Staging<'a>> {
        Staging::after(engine, writer, None)
    }

    /// Like [`Staging::new`], with `first` before anything that the store has to record of its own accord, such as a new key or a
    /// jump of the clock.
    pub(crate) fn after(
        engine: &'a Engine,
        writer: &WriterState,
        first: Option<(Kind, Object)>,
    ) -> Result<Staging<'a>> {
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
            seeds: writer.seeds.clone(),
            drawn: Vec::new(),
            nodes: Vec::new(),
            windows: HashMap::new(),
            located: HashMap::new(),
            begun: Vec::new(),
            finished: Vec::new(),
            subjects: Vec::new(),
            line: Vec::with_capacity(1024),
        };
        staging.state.clock = staging.clock.state().clone();
        if let Some((kind, detail)) = first {
            staging.system_event(kind, detail, None)?;
        }
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
    pub(super) fn changes(&self) -> bool {
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
            seeds: self.seeds.clone(),
            drawn: self.drawn.len(),
            entries: self.entries.len(),
            nodes: self.nodes.len(),
            begun: self.begun.len(),
            finished: self.finished.len(),
            subjects: self.subjects.len(),
        };
        let windows = batch.calls.iter().any(|call| call.sender.is_some()).then(|| self.windows.clone());
        self.entries.reserve(batch.calls.len());
        let receipts = (0..batch.calls.len()).map(|at| self.call(&batch, at).map_err(|e| batch.blame(at, e))).collect();
        if let Err(e) = receipts {
            self.state = mark.state;
            self.seeds = mark.seeds;
            self.drawn.truncate(mark.drawn);
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
        self.check_references(batch, at)?;
        self.check_parts(batch, at)?;
        let policies = self.engine.policies();
        let mut retention = policies.set.retention.assign(
            batch.tool(at),
            call.has_patient,
            call.retention_class.as_deref(),
            call.retain_until,
            self.now.max(self.clock.now()),
        )?;
        if let Some(grant) = call.grant {
            retention.until = retention.until.max(self.engine.end_of_grant(grant)?.unwrap_or(retention.until));
        }
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
                append_content(content, &mut own)?;
                &own
            }
        };
        if content.len() > codec::MAX_BYTES / 2 {
            return Err(Error::new(ErrorKind::TooLarge, "the entry is too large to store"));
        }
        let nonce = self.nonce(seq)?;
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
            let message = format!("the entry has {} bytes, more than the limit of {limit}", text.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let hash = Hash::leaf(text);
        self.entries.push(&slot, hash, what, content)?;
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

    /// The nonce of the entry at `seq`, which is the next. A new segment gets a new seed; so does what is left of a segment where the
    /// file has none, as in a copy that a backup made of the segment's beginning.
    fn nonce(&mut self, seq: u64) -> Result<[u8; 16]> {
        let cuts = self.state.cuts()?;
        let (start, offset) = (cuts.start(seq), cuts.offset(seq));
        if offset == 0 {
            self.seeds = Seeds::default();
        }
        if !self.seeds.has(offset) {
            self.seeds.draw(offset, &mut |seed| self.engine.config.random.fill(seed));
            self.drawn.push((start, self.seeds.encode()));
        }
        self.seeds.next_nonce(offset).ok_or_else(|| Error::damaged(format!("entry {seq} has no nonce")))
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
        let (oldest, newest) = window.ends();
        self.windows.insert(id.to_owned(), (window, changed));
        let located = match seen {
            Seen::New => return Ok(None),
            Seen::At(seq) => Some(seq),
            Seen::Forgotten => self.locate(id, number, oldest.1.min(committed), oldest.0.saturating_sub(number))?,
        };
        match located {
            Some(seq) => Ok(Some(Receipt::new(seq, self.hash_at(seq)?))),
            None => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "number {number} of this sender was not found among what was recorded before its newest numbers, so it cannot be told \
                     whether it was recorded. The newest is {}, which is entry {}: go on with number {}",
                    newest.0,
                    newest.1,
                    newest.0.saturating_add(1)
                ),
            )),
        }
    }
}

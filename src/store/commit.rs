//! The writer: prepared calls become entries of the chain, and the chain becomes bytes on the disk.
//!
//! Invariant W1: an entry is answered for only after the commit that holds it was synced. Invariant W2: what is in
//! memory changes only after that commit; a failed one leaves memory as it was and closes the writer until the file
//! was opened again and read anew, because a failed commit may still have reached the disk. Invariant W3: the entries
//! of one job stand in one commit, all or none.

use super::block::Sealer;
use super::draft::{Entries, Job, What};
use super::guard::guarded;
use super::part;
use super::prepare::Prepared;
use super::publish::Committed;
use super::sender::{Seen, Window};
use super::state::{STATE_KEY, State};
use super::subjects::{self, NewSubject};
use super::tables::{self, Stored};
use super::turn::Turn;
use super::writer::Core;
use super::{Receipt, Shared};
use crate::codec;
use crate::entry::CallLimits;
use crate::json::{Json, Object};
use crate::ledger::Ledger;
use crate::line::{self, Place};
use crate::merkle::Frontier;
use crate::retention::{ClockEvent, ExpiryClock};
use crate::{Error, ErrorKind, Hash, Kind, Result, Timestamp};
use attestlog_proof::entry::{Content, OwnEntry, Retention};
use std::collections::HashMap;
use std::time::Duration;

/// Entries on their way into one commit.
pub(crate) struct Staging<'a> {
    shared: &'a Shared,
    ledger: Option<Ledger>,
    clock: ExpiryClock,
    ticked: Duration,
    pub unsigned_said: bool,
    pub state: State,
    frontier: Frontier,
    pub now: Timestamp,
    entries: Entries,
    /// The block that is being filled, and those that became full, with their first seqs.
    sealer: Sealer,
    blocks: Vec<(u64, Vec<u8>)>,
    nodes: Vec<((u8, u64), Hash)>,
    /// What is known of senders, and whether this commit changes it.
    windows: HashMap<String, (Window, bool)>,
    pub(crate) begun: Vec<u64>,
    /// The calls that get their end, or the answer that they did not have.
    pub(crate) finished: Vec<u64>,
    subjects: Vec<NewSubject>,
    /// The line that is being written.
    line: Vec<u8>,
}

/// Where a staging stood before a job, so that a refused job leaves nothing behind.
struct Mark {
    state: State,
    frontier: Frontier,
    /// Of a job of one call nothing: refused, it added nothing to the block.
    sealer: Option<Sealer>,
    blocks: usize,
    entries: usize,
    nodes: usize,
    begun: usize,
    finished: usize,
    subjects: usize,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(shared: &'a Shared, core: &Core) -> Result<Staging<'a>> {
        let ticked = shared.clock.monotonic();
        let bound = shared.policies().set.retention.clock_bound();
        let mut clock = core.clock(shared, bound);
        let now = shared.clock.now();
        let events = clock.observe_wall(now);
        let mut staging = Staging {
            shared,
            ledger: None,
            clock,
            ticked,
            unsigned_said: core.unsigned_said,
            state: core.state.clone(),
            frontier: core.frontier.clone(),
            now,
            entries: Entries::default(),
            sealer: core.sealer.clone(),
            blocks: Vec::new(),
            nodes: Vec::new(),
            windows: HashMap::new(),
            begun: Vec::new(),
            finished: Vec::new(),
            subjects: Vec::new(),
            line: Vec::with_capacity(1024),
        };
        staging.state.clock = staging.clock.state().clone();
        shared.check_keys(&mut staging, core)?;
        for event in core.brought_back.iter().chain(&events) {
            staging.clock_event(event)?;
        }
        staging.end_grants()?;
        Ok(staging)
    }

    fn clock_event(&mut self, event: &ClockEvent) -> Result<Receipt> {
        let detail = event.to_json().as_object().cloned().unwrap_or_default();
        self.own(Kind::Clock, detail, None)
    }

    /// Says of each emergency grant whose time is over that it is. A grant that ran out stays over, also where the clock
    /// is set back later.
    fn end_grants(&mut self) -> Result<()> {
        let ledger = self.shared.ledger();
        let now = self.now;
        for (&seq, grant) in ledger.open_grants.iter().filter(|(_, grant)| grant.is_over(now)) {
            let retention = self.shared.stored()?.checked(seq)?;
            let retention = retention.and_then(|entry| entry.body.retention);
            let retention = retention.map(|retention| self.shared.as_long_as(seq, retention)).transpose()?;
            self.own(Kind::BreakGlassClosed, grant.expiry(seq), retention)?;
        }
        Ok(())
    }

    /// Somebody says that the system clock is right.
    pub(crate) fn confirm_clock(&mut self, actor: &str, reason: &str) -> Result<ClockEvent> {
        let event = self.clock.confirm(self.now, actor, reason)?;
        self.state.clock = self.clock.state().clone();
        self.clock_event(&event)?;
        Ok(event)
    }

    /// Whether a trusted time would tell the expiry clock something: end a freeze, explain time that was only credited, or
    /// move it on. What it knows to the minute need not be an entry; what lies beyond the system clock and the bound is not
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

    /// Somebody who can be trusted with the time had the log at `time`.
    pub(crate) fn trusted_time(&mut self, time: Timestamp, source: &str) -> Result<ClockEvent> {
        let event = self.clock.trusted(time, source)?;
        self.state.clock = self.clock.state().clone();
        self.clock_event(&event)?;
        Ok(event)
    }

    /// The expiry clock as this commit has it.
    pub(crate) fn expiry_clock(&self) -> &ExpiryClock {
        &self.clock
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is anything to write: jobs that only repeat what was recorded change nothing.
    fn changes(&self) -> bool {
        !self.is_empty() || self.windows.values().any(|(_, changed)| *changed)
    }

    /// The stored content of a call that is on its way into this commit, as one of `job`'s or of a job before it.
    pub(crate) fn staged<'j>(&'j self, seq: u64, job: &'j Job) -> Option<&'j [u8]> {
        let at = seq.checked_sub(self.committed())?;
        self.entries.content(at as usize, job)
    }

    /// How long an entry that is on its way into this commit is kept.
    pub(crate) fn staged_retention(&self, seq: u64) -> Option<Option<&Retention>> {
        let at = seq.checked_sub(self.committed())?;
        Some(self.entries.retention(at as usize))
    }

    /// Adds one of the store's own entries.
    pub(crate) fn own(&mut self, kind: Kind, detail: Object, retention: Option<Retention>) -> Result<Receipt> {
        let own = OwnEntry { kind, detail: Json::from(detail).to_canonical() };
        if Ledger::wants(kind) {
            let mut ledger = self.ledger.take().unwrap_or_else(|| Ledger::clone(&self.shared.ledger()));
            // What the log would not accept when it is read again is not written.
            ledger.apply(self.state.size, &own).map_err(|e| Error::new(ErrorKind::Conflict, e.reason))?;
            self.ledger = Some(ledger);
        }
        self.append(retention.as_ref(), &What::Own(kind, self.now, &Content::Own(own)))
    }

    /// Adds the calls of one job, or none of them.
    pub(crate) fn job(&mut self, job: Job) -> Result<Vec<Receipt>> {
        if let Some(receipts) = self.repeated(&job)? {
            return Ok(receipts);
        }
        let mark = Mark {
            state: self.state.clone(),
            frontier: self.frontier.clone(),
            sealer: (job.calls.len() > 1).then(|| self.sealer.clone()),
            blocks: self.blocks.len(),
            entries: self.entries.len(),
            nodes: self.nodes.len(),
            begun: self.begun.len(),
            finished: self.finished.len(),
            subjects: self.subjects.len(),
        };
        let windows = job.calls.iter().any(|call| call.sender.is_some()).then(|| self.windows.clone());
        self.entries.reserve(job.calls.len());
        let receipts = (0..job.calls.len()).map(|at| self.call(&job, at)).collect();
        if let Err(e) = receipts {
            let State { sealed, seed, .. } = std::mem::replace(&mut self.state, mark.state);
            match mark.sealer {
                Some(sealer) => {
                    self.sealer = sealer;
                    self.blocks.truncate(mark.blocks);
                }
                // At most the block before it was cut.
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
        self.entries.took(job);
        receipts
    }

    fn call(&mut self, job: &Job, at: usize) -> Result<Receipt> {
        let call = &job.calls[at];
        let seq = self.state.size;
        if let Some(sender) = &call.sender {
            if let Some(receipt) = self.seen(&sender.id, sender.number)? {
                self.check_same(job, at, receipt.seq, sender)?;
                return Ok(receipt);
            }
            if let Some((window, changed)) = self.windows.get_mut(&sender.id) {
                window.add(sender.number, seq);
                *changed = true;
            }
        }
        for (name, other) in [("the seq that it follows", call.follows), ("grant", call.grant)] {
            if other.is_some_and(|other| other >= seq) {
                return Err(Error::invalid(format!("{name}: {} is not recorded yet", other.unwrap_or_default())));
            }
        }
        self.check_parts(job, at)?;
        let policies = self.shared.policies();
        let retention = policies.set.retention.assign(
            job.tool(at),
            call.has_patient,
            call.retention_class.as_deref(),
            call.retain_until,
            self.now.max(self.clock.now()),
        )?;
        self.subjects.extend(call.subject.clone());
        self.append(Some(&retention), &What::Call(job, at))
    }

    /// The hash of an entry that is recorded or staged.
    pub(crate) fn hash_at(&self, seq: u64) -> Result<Hash> {
        let staged = seq.checked_sub(self.state.size - self.entries.len() as u64);
        match staged.and_then(|i| self.entries.hash(i as usize)) {
            Some(hash) => Ok(hash),
            None => self.shared.stored()?.hash(seq),
        }
    }

    /// Chains one entry.
    fn append(&mut self, retention: Option<&Retention>, what: &What<'_>) -> Result<Receipt> {
        let (seq, prev) = (self.state.size, self.state.head);
        let mut own = Vec::new();
        let content = match what {
            What::Call(job, at) => job.content(*at),
            What::Own(_, _, content) => {
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
            self.shared.random.fill(&mut self.state.seed);
            self.sealer.begin(self.state.seed);
        } else if !self.sealer.is_seeded() {
            // The file does not say from which seed the tail's nonces are, so each stands for itself.
            self.shared.random.fill(&mut self.state.seed);
        }
        let nonce = part::nonce_of(&self.state.seed, seq);
        let text = &mut self.line;
        let place = Place { seq, prev: &prev, nonce, recorded_at: self.now, retention };
        text.clear();
        // The limit is for calls; the store's own entries, a policy among them, are as large as they are.
        let limit = match what {
            What::Call(job, at) => {
                job.line(*at, &place, text);
                self.shared.limits.line_bytes
            }
            What::Own(_, _, content) => {
                line::write_content(text, content, &place);
                self.shared.limits.line_bytes.max(CallLimits::default().line_bytes)
            }
        };
        if text.len() > limit {
            let message =
                format!("the entry has {} bytes, more than the limit of {limit}; it was not recorded", text.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let hash = Hash::leaf(text);
        self.entries.push(&place, hash, what, content)?;
        self.sealer.add(seq, &prev, &hash, &place.head(), false);
        let nodes = &mut self.nodes;
        self.frontier.append(hash, &mut |level, index, hash| {
            if level >= super::NODE_LEVEL {
                nodes.push(((level, index), hash));
            }
        });
        self.state.size += 1;
        self.state.head = hash;
        self.state.last_recorded_at = self.state.last_recorded_at.max(self.now.nanos());
        Ok(Receipt::new(seq, hash))
    }

    pub(crate) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// How many entries the log has without those on their way.
    pub(crate) fn committed(&self) -> u64 {
        self.state.size - self.entries.len() as u64
    }

    /// The receipt that this sender's record got before, if it did.
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

impl Shared {
    /// Records a job: by this thread if it is its turn, by another's otherwise.
    pub(crate) fn submit(&self, calls: Vec<Prepared>) -> Result<Vec<Receipt>> {
        self.submit_job(Job::of(calls, self.clock.now())?)
    }

    /// As [`Shared::submit`], for a job that is written.
    pub(crate) fn submit_job(&self, job: Job) -> Result<Vec<Receipt>> {
        use super::turn::Outcome;
        self.process.check()?;
        let (turn, job) = match self.turns.submit(job) {
            Outcome::Answered(answer) => return answer,
            Outcome::Lost => return Err(lost()),
            Outcome::Lead(turn, job) => (turn, job),
        };
        let own = self.lead(turn, vec![job]).pop();
        own.unwrap_or_else(|| Err(lost()))
    }

    /// Records several jobs in one commit, each for itself: one that is refused does not touch the others.
    pub(crate) fn submit_each(&self, jobs: Vec<Vec<Prepared>>) -> Vec<Result<Vec<Receipt>>> {
        if let Err(e) = self.process.check() {
            return jobs.iter().map(|_| Err(again(&e))).collect();
        }
        let now = self.clock.now();
        let mut refused = Vec::new();
        let written = jobs.into_iter().enumerate().filter_map(|(i, calls)| {
            let job = Job::of(calls, now);
            job.map_err(|e| refused.push((i, e))).ok()
        });
        let written = written.collect();
        let mut answers = self.lead(self.turns.take(), written);
        for (i, e) in refused {
            answers.insert(i, Err(e));
        }
        answers
    }

    /// Commits these jobs, and those of the threads that wait, in one commit.
    fn lead(&self, turn: Turn<'_, Job, Result<Vec<Receipt>>>, mut jobs: Vec<Job>) -> Vec<Result<Vec<Receipt>>> {
        let count = jobs.len();
        let mut others = turn.jobs();
        jobs.extend(others.iter_mut().filter_map(|t| t.job.take()));
        let mut core = self.core();
        let (all, mut ended) = (jobs.len(), false);
        let done = guarded(|| {
            let done = self.commit_jobs(&mut core, jobs);
            ended = true;
            Ok(done)
        });
        self.after(&mut core, ended);
        let (mut answers, committed) = done.unwrap_or_else(|e| ((0..all).map(|_| Err(again(&e))).collect(), None));
        let mut showing = committed.is_some().then(|| self.showing(&mut core));
        if core.broken && showing.take().is_some() {
            // A commit before this one could not be shown: reading the file anew shows both.
            let _ = self.mend(&mut core);
        }
        drop(core);
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

    /// Runs `work` with the turn: no other thread writes meanwhile.
    pub(crate) fn exclusive<T>(&self, work: impl FnOnce(&Shared, &mut Core) -> Result<T>) -> Result<T> {
        self.process.check()?;
        let _turn = self.turns.take();
        let mut core = self.core();
        drop(self.showing(&mut core));
        let mut ended = false;
        let done = guarded(|| {
            let done = self.mend(&mut core).and_then(|()| work(self, &mut core));
            ended = true;
            done
        });
        self.after(&mut core, ended);
        done
    }

    /// Commits jobs; gives their answers and, where it is still to be shown, what was committed.
    fn commit_jobs(&self, core: &mut Core, jobs: Vec<Job>) -> (Vec<Result<Vec<Receipt>>>, Option<Committed>) {
        let count = jobs.len();
        let failed = |e: &Error| -> Vec<_> { (0..count).map(|_| Err(again(e))).collect() };
        let staged = self.mend(core).and_then(|()| Staging::new(self, core));
        let mut staging = match staged {
            Ok(staging) => staging,
            Err(e) => return (failed(&e), None),
        };
        let answers: Vec<_> = jobs.into_iter().map(|job| staging.job(job)).collect();
        if answers.iter().all(Result::is_err) || !staging.changes() {
            return (answers, None);
        }
        let committed = match self.commit_to(core, staging, None, |_| Ok(()), || Ok(())) {
            Ok(Some(committed)) if committed.puts_in_force() => self.show_now(core, committed).map(|()| None),
            other => other,
        };
        match committed {
            Ok(committed) => (answers, committed),
            Err(e) => (refused(answers, &e), None),
        }
    }

    /// Writes what was staged, and whatever `more` writes, in one commit; then shows it to readers.
    pub(crate) fn commit(
        &self,
        core: &mut Core,
        staging: Staging<'_>,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        match self.commit_to(core, staging, None, more, || Ok(()))? {
            Some(committed) => self.show_now(core, committed),
            None => Ok(()),
        }
    }

    /// As [`Shared::commit`], into `other` where that is given, a file that holds all that the store does: once it is
    /// written `take` makes it the store's. Where anything fails the store is as it was. What was committed is still to be
    /// shown; nothing is where that was done by reading the file anew.
    pub(crate) fn commit_to(
        &self,
        core: &mut Core,
        staging: Staging<'_>,
        other: Option<&redb::Database>,
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
            ledger,
            ticked,
            unsigned_said,
            subjects,
            ..
        } = staging;
        let windows: Vec<_> =
            windows.into_iter().filter_map(|(id, (window, changed))| changed.then_some((id, window))).collect();
        let wrapped = self.wrap_subjects(subjects)?;
        let written = self.write(core, other, &state, &blocks, &entries, |txn| {
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
            subjects::write(txn, &wrapped)?;
            more(txn)
        });
        match (written, other) {
            (Ok(()), _) => take()?,
            (Err(e), None) => return self.after_failure(core, &state, e).map(|()| None),
            (Err(e), Some(_)) => return Err(e),
        }
        self.note(|changes| {
            changes.senders.extend(windows.into_iter().map(|(id, _)| id));
            changes.unfinished.extend(begun.into_iter().chain(finished));
            subjects::note(changes, &wrapped);
        });
        self.subjects.settled(&wrapped);
        let from = core.state.size;
        core.frontier = frontier;
        core.sealer = sealer;
        core.state = state;
        core.ticked = ticked;
        core.unsigned_said = unsigned_said;
        core.brought_back = None;
        Ok(Some(Committed::new(from, &core.state, entries, ledger)))
    }

    fn write(
        &self,
        core: &Core,
        other: Option<&redb::Database>,
        state: &State,
        blocks: &[(u64, Vec<u8>)],
        entries: &Entries,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let database = self.database()?;
        let txn = self.begin_write(other.map_or_else(|| database.get().map(|own| &***own), Ok)?)?;
        {
            let mut tail = txn.open_table(tables::TAIL).stored()?;
            if !blocks.is_empty() {
                let mut table = txn.open_table(tables::BLOCKS).stored()?;
                for (first, block) in blocks {
                    table.insert(first, &**block).stored()?;
                }
            }
            if state.sealed > core.state.sealed {
                let gone = core.state.sealed..state.sealed.min(core.state.size);
                tail.retain_in(gone, |_, _| false).stored()?;
            }
            let kept = state.sealed.saturating_sub(core.state.size) as usize;
            for (seq, row) in (core.state.size + kept as u64..).zip(entries.rows(kept)) {
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

    /// A commit failed: finds out what reached the disk. `Ok` where the commit did after all.
    fn after_failure(&self, core: &mut Core, wanted: &State, e: Error) -> Result<()> {
        core.broken = true;
        if let Ok(file) = self.database()?.get() {
            file.check_unchanged()?;
        }
        match self.mend(core) {
            Ok(()) if core.state.size == wanted.size && core.state.head == wanted.head => Ok(()),
            Ok(()) => Err(e),
            // What the file holds is not known, so nobody may be told that nothing was recorded.
            Err(again) => Err(Error::new(
                ErrorKind::Closed,
                format!("{e}; and reading the file again failed, so it is not known whether it was recorded: {again}"),
            )
            .with_source(e)),
        }
    }

    /// Before anything is written. After a failed write: opens the file again and reads it anew. Refuses a store that is open for
    /// reading only, one whose file is no longer the one at its path or was written over by somebody else, and one in which something could not be read.
    pub(crate) fn mend(&self, core: &mut Core) -> Result<()> {
        self.begin_writing(core)?;
        if core.broken {
            // What was committed before is in the file: it must not be shown once more behind what is read now.
            drop(self.showing(core));
            let said = core.unsigned_said;
            let loaded = self.reopen()?;
            if let Some(keys) = &mut *self.keys() {
                keys.distrust();
            }
            *core = loaded.core;
            core.unsigned_said = said;
            self.publish_anew(&core.state, loaded.generations);
            self.put_in_force(loaded.ledger)?;
        }
        self.database()?.get()?.check_file()?;
        core.damaged.map_or(Ok(()), |damage| Err(damage.refusal()))
    }

    pub(crate) fn begin_write(&self, database: &redb::Database) -> Result<redb::WriteTransaction> {
        let mut txn = database.begin_write().stored()?;
        txn.set_two_phase_commit(self.settings.two_phase);
        txn.set_quick_repair(self.settings.quick_repair);
        Ok(txn)
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the thread that was committing died; open the store again and look what was recorded",
    )
}

/// The answers after a failure that concerns all who would have had a better one.
fn refused(answers: Vec<Result<Vec<Receipt>>>, e: &Error) -> Vec<Result<Vec<Receipt>>> {
    answers.into_iter().map(|answer| answer.and_then(|_| Err(again(e)))).collect()
}

/// One failure, told to each of those who waited for it.
fn again(e: &Error) -> Error {
    Error::new(e.kind(), e.to_string())
}

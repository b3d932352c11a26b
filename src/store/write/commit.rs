//! The writer: prepared calls become entries of the chain, and the chain becomes bytes on the disk.
//!
//! Invariant W1: a caller gets an answer for an entry only after the commit that contains it was synced. Invariant W2: the
//! in-memory state changes only after that commit; a failed commit leaves it unchanged and closes the writer until the file
//! was reopened and read again, because a failed commit may still have reached the disk.

use crate::codec;
use crate::store::engine::Engine;
use crate::store::engine::encode::Prepared;
use crate::store::engine::encode::{EncodedBatch, Entries};
use crate::store::engine::group_commit::Leader;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::state::{STATE_KEY, State};
use crate::store::write::publish::Committed;
use crate::store::write::staging::Staging;
use crate::store::write::subject_rows;
use crate::{Error, ErrorKind, Result};

impl Engine {
    /// Records a batch, as the leader or through another thread that is.
    pub(crate) fn submit(&self, calls: Vec<Prepared>) -> Result<Vec<Receipt>> {
        self.submit_batch(EncodedBatch::of(calls, self.config.clock.now())?)
    }

    /// Like [`Engine::submit`], for an encoded batch.
    pub(crate) fn submit_batch(&self, batch: EncodedBatch) -> Result<Vec<Receipt>> {
        use crate::store::engine::group_commit::Outcome;
        self.config.process.check()?;
        let (leader, batch) = match self.write.group_commit.submit(batch) {
            Outcome::Answered(answer) => return answer,
            Outcome::Lost => return Err(lost()),
            Outcome::Lead(leader, batch) => (leader, batch),
        };
        let own = self.lead(leader, vec![batch]).pop();
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
        leader: Leader<'_, EncodedBatch, Result<Vec<Receipt>>>,
        mut batches: Vec<EncodedBatch>,
    ) -> Vec<Result<Vec<Receipt>>> {
        let count = batches.len();
        let mut others = leader.batches();
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
        drop(leader);
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
            seeds,
            drawn,
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
        let written = self.write(writer, other, &state, &drawn, &entries, |txn| {
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
            windows.iter().for_each(|(id, _)| changes.note(&tables::SENDERS, id.as_str()));
            begun.iter().chain(&finished).for_each(|seq| changes.note(&tables::UNFINISHED, seq));
            subject_rows::note(changes, &wrapped);
        });
        self.write.subjects.settled(&wrapped);
        let from = writer.state.size;
        writer.frontier = frontier;
        writer.seeds = seeds;
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
        drawn: &[(u64, Vec<u8>)],
        entries: &Entries,
        more: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let database = self.database()?;
        let txn = self.begin_write(other.map_or_else(|| database.get().map(|own| &**own), Ok)?)?;
        {
            let mut tail = txn.open_table(tables::TAIL).stored()?;
            for (first, row) in entries.rows(writer.state.size, state.segment.into()) {
                tail.insert(first, &*row).stored()?;
            }
            if !drawn.is_empty() {
                let mut seeds = txn.open_table(tables::SEEDS).stored()?;
                for (segment, row) in drawn {
                    seeds.insert(segment, &**row).stored()?;
                }
            }
        }
        more(&txn)?;
        {
            let mut meta = txn.open_table(tables::META).stored()?;
            meta.insert(STATE_KEY, &*codec::encode(state)?).stored()?;
        }
        txn.commit().stored()
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the thread that was committing died; open the store again and check what was recorded",
    )
}

/// Replaces the successful answers with a failure that concerns all of them.
fn refused(answers: Vec<Result<Vec<Receipt>>>, e: &Error) -> Vec<Result<Vec<Receipt>>> {
    answers.into_iter().map(|answer| answer.and_then(|_| Err(e.retold()))).collect()
}

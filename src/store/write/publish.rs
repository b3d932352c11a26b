//! Publishes commits: the in-memory index gets the entries, then readers see them.
//!
//! For a large commit that is as much work as chaining its entries. It needs no writer lock, so a leader hands the lead on
//! first, and the next commit is made meanwhile. Invariant W4: commits are published one after the other in chain order; a
//! thread that takes the lead without a batch finds all of them published.

use crate::chain_state::ChainState;
use crate::rows::BATCH;
use crate::store::engine::Engine;
use crate::store::engine::encode::Entries;
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::layout::state::State;
use crate::{Hash, Result};
use std::sync::{Arc, MutexGuard, PoisonError};

/// A commit that is on the disk but not published yet.
pub(crate) struct Committed {
    from: u64,
    size: u64,
    signed: u64,
    head: Hash,
    entries: Entries,
    chain_state: Option<ChainState>,
}

impl Committed {
    pub(crate) fn new(from: u64, state: &State, entries: Entries, chain_state: Option<ChainState>) -> Committed {
        Committed { from, size: state.size, signed: state.signed, head: state.head, entries, chain_state }
    }

    /// Whether it changes the facts in force; it must then be published before anything else is written.
    pub(crate) fn puts_in_force(&self) -> bool {
        self.chain_state.is_some()
    }
}

impl Engine {
    /// Begins the transaction of a commit. redb makes all of them in two phases; small ones get one sync (`file/one_sync`).
    pub(crate) fn begin_write(&self, database: &DatabaseHandle) -> Result<redb::WriteTransaction> {
        let mut txn = database.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(self.config.settings.quick_repair);
        Ok(txn)
    }

    /// Waits until every earlier commit is published; while the guard is held no later one is. The caller holds the writer
    /// lock.
    pub(crate) fn showing(&self, writer: &mut WriterState) -> MutexGuard<'_, ()> {
        self.write.showing.lock().unwrap_or_else(|poisoned| {
            // Whoever showed a commit died half-way: what is in memory is made anew from the file.
            self.write.showing.clear_poison();
            writer.poison();
            poisoned.into_inner()
        })
    }

    /// Publishes a commit while the writer lock is still held.
    pub(crate) fn show_now(&self, writer: &mut WriterState, committed: Committed) -> Result<()> {
        let showing = self.showing(writer);
        if writer.is_poisoned() {
            drop(showing);
            return self.recover(writer);
        }
        self.show(committed)
    }

    /// Publishes a commit, in its order: first the index of its entries, then the new size.
    pub(crate) fn show(&self, committed: Committed) -> Result<()> {
        let Committed { from, size, signed, head, entries, chain_state } = committed;
        // Before anything that can fail: what is on the disk must be visible to readers.
        let mut published = self.read.published.write().unwrap_or_else(PoisonError::into_inner);
        let (mut rest, mut at) = (entries.indexed(), from);
        while at < size {
            let newest = match published.mem_segments.last() {
                Some(newest) if at < newest.from + BATCH && !newest.is_frozen() => newest.clone(),
                _ => {
                    let newest = Arc::new(MemSegment::new(at));
                    published.mem_segments.push(newest.clone());
                    newest
                }
            };
            let now = (size - at).min(newest.from + BATCH - at);
            newest.add(rest.by_ref().take(now as usize));
            at += now;
        }
        (published.size, published.signed, published.head) = (size, signed, head);
        drop(published);
        self.jobs.news.tell();
        chain_state.map_or(Ok(()), |chain_state| self.put_in_force(chain_state))
    }
}

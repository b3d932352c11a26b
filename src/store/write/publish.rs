//! Showing what was committed: the index in memory gets the entries, then readers see them.
//!
//! For a large commit that is as much work as chaining its entries. It needs no turn, so a leader hands the turn on first, and
//! the next commit is made meanwhile. Invariant W4: commits are shown one after the other in the order of the chain; who
//! takes the turn for itself finds all of them shown.

use crate::chain_state::ChainState;
use crate::rows::BATCH;
use crate::store::engine::Engine;
use crate::store::engine::encode::Entries;
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::writer_state::WriterState;
use crate::store::layout::state::State;
use crate::{Hash, Result};
use std::sync::{Arc, MutexGuard, PoisonError};

/// A commit that is on the disk and was not shown yet.
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

    /// Whether what is in force changes with it: that must have happened before anything else is written.
    pub(crate) fn puts_in_force(&self) -> bool {
        self.chain_state.is_some()
    }
}

impl Engine {
    /// Waits until every earlier commit was shown; while this is held no later one is. With the turn.
    pub(crate) fn showing(&self, writer: &mut WriterState) -> MutexGuard<'_, ()> {
        self.showing.lock().unwrap_or_else(|poisoned| {
            // Whoever showed a commit died half-way: what is in memory is made anew from the file.
            self.showing.clear_poison();
            writer.poison();
            poisoned.into_inner()
        })
    }

    /// Shows a commit before the turn is over.
    pub(crate) fn show_now(&self, writer: &mut WriterState, committed: Committed) -> Result<()> {
        let showing = self.showing(writer);
        if writer.is_poisoned() {
            drop(showing);
            return self.recover(writer);
        }
        self.show(committed)
    }

    /// Shows a commit, whose turn to be shown it is: first what is known of the entries, then that they are there.
    pub(crate) fn show(&self, committed: Committed) -> Result<()> {
        let Committed { from, size, signed, head, entries, chain_state } = committed;
        // Before anything that can fail: what is on the disk is there for readers.
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
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
        self.news.tell();
        chain_state.map_or(Ok(()), |chain_state| self.put_in_force(chain_state))
    }
}

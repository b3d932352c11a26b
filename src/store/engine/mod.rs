//! What the threads that use one store share.
//!
//! `encode` writes all of a call that does not depend on its place; `group_commit` lets one caller commit for all that wait;
//! `writer_state` is what only the holder of the writer lock knows. `keyring` and `subject_keys` hold keys, `row_mac`
//! authenticates rows, `mem_index` is the index of the newest entries. `changes`
//! notes what happens while a purge rewrites the file, `jobs` wakes the threads in the background, `handover` hands checkpoints
//! to anchors, `readers` are the queries under way, and `reading` is for a store that is open for reading only.

pub(crate) mod changes;
pub(crate) mod encode;
pub(crate) mod group_commit;
pub(crate) mod handover;
pub(crate) mod jobs;
pub(crate) mod keyring;
pub(crate) mod mem_index;
pub(crate) mod readers;
pub(crate) mod reading;
pub(crate) mod receipt;
pub(crate) mod row_mac;
pub(crate) mod subject_keys;
pub(crate) mod writer_state;

use crate::chain_state::ChainState;
use crate::entry::CallLimits;
use crate::host::{Clock, Random};
use crate::keys::Mark;
use crate::policy::Policies;
use crate::process::Process;
use crate::retention::SeqSet;
use crate::store::engine::changes::Changes;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::group_commit::GroupCommit;
use crate::store::engine::handover::Anchoring;
use crate::store::engine::jobs::{Delivering, News, Work};
use crate::store::engine::keyring::Keyring;
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::readers::{RELEASE, Reader, Readers};
use crate::store::engine::reading::Reading;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::subject_keys::Subjects;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::{Damage, DatabaseHandle};
use crate::store::file::panic_guard::guarded;
use crate::store::layout::state::State;
use crate::store::options::{Settings, Source};
use crate::{Error, ErrorKind, Hash, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

/// The shared state of an open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) read: ReadSide,
    pub(crate) write: WriteSide,
    pub(crate) facts: Facts,
    pub(crate) jobs: Jobs,
}

/// What does not change after the store was opened.
#[derive(Debug)]
pub(crate) struct Config {
    /// The process that opened the store; only this process may use it.
    pub(crate) process: Process,
    pub settings: Settings,
    pub limits: CallLimits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub(crate) source: Source,
    /// The number of entries at opening.
    pub(crate) opened_with: u64,
    /// How many entries a segment has.
    pub(crate) segment: u64,
    /// What the keys had last signed of this store at opening.
    pub(crate) mark: Option<Mark>,
    /// A message, if the store was made without keys but keys of another store were found for it.
    pub(crate) stray: Option<String>,
}

/// What readers need; nothing here is known only to the writer.
#[derive(Debug)]
pub(crate) struct ReadSide {
    pub(crate) database: RwLock<Option<Arc<DatabaseHandle>>>,
    pub(crate) published: RwLock<Published>,
    /// The read transactions of queries in progress.
    pub(crate) readers: Mutex<Readers>,
    /// The database before a write failed, which a reader of this process may still have.
    pub(crate) before: Mutex<Weak<DatabaseHandle>>,
    /// Whether the store is open only for reading.
    pub(crate) reading: Reading,
    pub(crate) closed: AtomicBool,
    /// What was wrong with the store when it was last opened (R85).
    pub(crate) damage: RwLock<Option<Damage>>,
}

/// What writers need in addition.
#[derive(Debug)]
pub(crate) struct WriteSide {
    pub(crate) group_commit: GroupCommit<EncodedBatch, Result<Vec<Receipt>>>,
    pub(crate) writer: Mutex<WriterState>,
    pub(crate) keys: Mutex<Option<Keyring>>,
    pub(crate) subjects: Subjects,
    /// Changes to the small tables while a purge rewrites the store. Updated under the writer lock.
    pub(crate) changes: Mutex<Option<Changes>>,
    /// Set after a purge: the new file grew by doubling, and its unused space is given back on close.
    pub(crate) tighten: AtomicBool,
    /// Held while an index batch is written.
    pub(crate) merging: Mutex<()>,
    /// Held while a segment is sealed.
    pub(crate) sealing: Mutex<()>,
    /// Held while a commit is published to readers.
    pub(crate) showing: Mutex<()>,
}

/// What the system events in the log establish, in usable form.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) policies: RwLock<Arc<Policies>>,
    pub(crate) chain_state: RwLock<Arc<ChainState>>,
    /// Every purged seq.
    pub(crate) purged: RwLock<Arc<SeqSet>>,
    /// The entry that began the current epoch, and when it was recorded; looked up on first use.
    pub(crate) epoch_began: Mutex<Option<(u64, Timestamp)>>,
    /// By open emergency grant: the wall-clock time at which it was last checked, and the monotonic time then.
    pub(crate) grant_times: Mutex<BTreeMap<u64, (Timestamp, Duration)>>,
}

/// Background work.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) work: Work,
    pub(crate) anchoring: Arc<Anchoring>,
    pub(crate) news: News,
    pub(crate) delivering: Delivering,
    /// Held from the question whether a call has been told of already to the record that follows from the answer.
    pub(crate) telling: Mutex<()>,
}

/// What readers see of the newest entries.
#[derive(Debug)]
pub(crate) struct Published {
    pub size: u64,
    pub head: Hash,
    /// The number of entries that the newest checkpoint covers.
    pub signed: u64,
    /// The number of entries in segments.
    pub sealed: u64,
    pub mem_segments: Vec<Arc<MemSegment>>,
}

impl Published {
    /// How many segments of so many entries are complete and not sealed.
    pub(crate) fn unsealed(&self, segment: u64) -> u64 {
        (self.size / segment).saturating_sub(self.sealed / segment)
    }
}

/// The open database. While this is held the database is not replaced.
pub(crate) struct DatabaseGuard<'a>(RwLockReadGuard<'a, Option<Arc<DatabaseHandle>>>);

impl DatabaseGuard<'_> {
    pub(crate) fn get(&self) -> Result<&Arc<DatabaseHandle>> {
        self.0.as_ref().ok_or_else(|| {
            let message = "a write failed, and the store's file could not be opened again yet; try again";
            Error::new(ErrorKind::Busy, message)
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let database = self.read.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Engine {
    pub(crate) fn database(&self) -> Result<DatabaseGuard<'_>> {
        self.config.process.check()?;
        if self.read.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        Ok(DatabaseGuard(self.read.database.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The writer's state; only for the thread that holds the writer lock. A thread that panicked while holding it left it in
    /// an unknown state, so it is marked broken, to be read again.
    pub(crate) fn writer(&self) -> MutexGuard<'_, WriterState> {
        self.write.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            writer.poison();
            self.write.writer.clear_poison();
            writer
        })
    }

    /// To be called after work under the writer lock. If the work did not complete (`ended` is false), the state on the disk
    /// is unknown and redb may be in the middle of an operation, so the database is poisoned.
    pub(crate) fn after(&self, writer: &mut WriterState, ended: bool) {
        if ended {
            return;
        }
        writer.poison();
        if let Some(database) = &*self.read.database.read().unwrap_or_else(PoisonError::into_inner) {
            database.poison();
        }
    }

    /// Gives the file's unused space back to the system where that is worth the time: a program that records one call and
    /// closes must not move the whole file.
    pub(crate) fn give_back(&self, database: Option<Arc<DatabaseHandle>>) -> Result<()> {
        let size = self.read.published.read().unwrap_or_else(PoisonError::into_inner).size;
        let in_file = self.config.source.path().is_some() && self.config.settings.tighten;
        let grown = size - self.config.opened_with.min(size) >= size / 4;
        // A purge leaves a file with much free space.
        let tighten = self.write.tighten.load(Ordering::SeqCst);
        // While somebody else still reads the file it stays as it is.
        if let Some(mut database) = database.and_then(Arc::into_inner)
            && (tighten || in_file && grown)
        {
            database.tighten();
        }
        Ok(())
    }

    /// The path of the store's file, if it is a file.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.config.source.path()
    }

    /// The number of entries that readers see, and the hash of the newest.
    pub(crate) fn shown(&self) -> (u64, Hash) {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        (published.size, published.head)
    }

    /// Whether another program has overwritten the file while it was open.
    pub(crate) fn is_written_over(&self) -> bool {
        let refused = |e: Error| e.kind() == ErrorKind::Damaged;
        self.database().is_ok_and(|open| open.get().is_ok_and(|file| file.check_unchanged().is_err_and(refused)))
    }

    /// Whether the store was closed, or belongs to another process.
    pub(crate) fn is_closed(&self) -> bool {
        self.read.closed.load(Ordering::SeqCst) || !self.config.process.is_this()
    }

    /// Records a change, besides new entries, that a purge in progress has to carry over.
    pub(crate) fn note(&self, what: impl FnOnce(&mut Changes)) {
        if let Some(changes) = &mut *self.write.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            what(changes);
        }
    }

    /// Every purged seq.
    pub(crate) fn purged(&self) -> Arc<SeqSet> {
        self.facts.purged.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the system events so far establish.
    pub(crate) fn chain_state(&self) -> Arc<ChainState> {
        self.facts.chain_state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts newly recorded system events into force.
    pub(crate) fn put_in_force(&self, chain_state: ChainState) -> Result<()> {
        if let Some((seq, set)) = &chain_state.policies
            && self.policies().seq != *seq
        {
            let policies = crate::store::engine::keyring::ready(*seq, set.clone(), self.keys().as_ref())?;
            *self.facts.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
        }
        *self.facts.chain_state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(chain_state);
        Ok(())
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.facts.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a state that was read again from the file.
    pub(crate) fn publish_anew(&self, state: &State, mem_segments: Vec<Arc<MemSegment>>) {
        let mut published = self.read.published.write().unwrap_or_else(PoisonError::into_inner);
        let (size, head) = (state.size, state.head);
        *published = Published { size, head, signed: state.signed, sealed: state.sealed, mem_segments };
        drop(published);
        self.jobs.news.tell();
    }

    /// Registers a query's read transaction.
    pub(crate) fn will_read<T: Send + 'static>(&self, reading: &Arc<Mutex<Option<T>>>) {
        if !self.config.process.is_this() {
            return;
        }
        let reading: Arc<Reader> = reading.clone();
        let mut readers = self.read.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.all.len() == readers.all.capacity() {
            readers.all.retain(|reader| reader.strong_count() > 0);
        }
        readers.all.push(Arc::downgrade(&reading));
    }

    /// From time to time takes the read transactions from queries that are not being advanced at the moment.
    pub(crate) fn release(&self, size: u64) {
        let mut readers = self.read.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if size.saturating_sub(readers.looked_at) < RELEASE {
            return;
        }
        readers.looked_at = size;
        readers.let_go();
    }
}

//! What the threads that use one store share.

pub(crate) mod block_locator;
pub(crate) mod changes;
pub(crate) mod encode;
pub(crate) mod group_commit;
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
use crate::store::engine::block_locator::BlockLocator;
use crate::store::engine::changes::Changes;
use crate::store::engine::encode::EncodedBatch;
use crate::store::engine::group_commit::GroupCommit;
use crate::store::engine::jobs::{News, Work};
use crate::store::engine::keyring::Keyring;
use crate::store::engine::mem_index::MemSegment;
use crate::store::engine::readers::{RELEASE, Reader, Readers};
use crate::store::engine::reading::Reading;
use crate::store::engine::receipt::Receipt;
use crate::store::engine::subject_keys::Subjects;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::layout::state::State;
use crate::store::maintain::anchoring::Anchoring;
use crate::store::options::{Settings, Source};
use crate::{Error, ErrorKind, Hash, Result, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// The store as its threads share it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) read: ReadSide,
    pub(crate) write: WriteSide,
    pub(crate) facts: Facts,
    pub(crate) jobs: Jobs,
}

/// What stays as it was when the store was opened.
#[derive(Debug)]
pub(crate) struct Config {
    /// In which it was opened, and in which alone it is used.
    pub(crate) process: Process,
    pub settings: Settings,
    pub limits: CallLimits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub(crate) source: Source,
    /// How many entries there were.
    pub(crate) opened_with: u64,
    /// What the keys had signed of it.
    pub(crate) mark: Option<Mark>,
    /// What is wrong, where keys were found that this store, which was made without any, does not belong to.
    pub(crate) stray: Option<String>,
}

/// What readers need, and nothing of what only the writer knows.
#[derive(Debug)]
pub(crate) struct ReadSide {
    pub(crate) database: RwLock<Option<Arc<DatabaseHandle>>>,
    pub(crate) published: RwLock<Published>,
    /// What queries read from that are under way.
    pub(crate) readers: Mutex<Readers>,
    /// Whether the store is open for reading only.
    pub(crate) reading: Reading,
    pub(crate) block_locator: Arc<BlockLocator>,
    pub(crate) closed: AtomicBool,
}

/// What whoever writes needs besides.
#[derive(Debug)]
pub(crate) struct WriteSide {
    pub(crate) group_commit: GroupCommit<EncodedBatch, Result<Vec<Receipt>>>,
    pub(crate) writer: Mutex<WriterState>,
    pub(crate) keys: Mutex<Option<Keyring>>,
    pub(crate) subjects: Subjects,
    /// What changes of the small tables while a purge writes the store anew. Noted with the writer lock.
    pub(crate) changes: Mutex<Option<Changes>>,
    /// The file was written anew: it has doubled as it grew, and what it does not need is given back when it is closed.
    pub(crate) tighten: AtomicBool,
    /// Held by whoever writes an index batch.
    pub(crate) merging: Mutex<()>,
    /// Held by whoever shows a commit to readers.
    pub(crate) showing: Mutex<()>,
}

/// What the log's own entries establish, ready for use.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) policies: RwLock<Arc<Policies>>,
    pub(crate) chain_state: RwLock<Arc<ChainState>>,
    /// Every seq that was purged.
    pub(crate) purged: RwLock<Arc<SeqSet>>,
    /// The entry with which the present epoch began, and when it was recorded, once somebody has asked.
    pub(crate) epoch_began: Mutex<Option<(u64, Timestamp)>>,
    /// How late it was when each open emergency grant was looked at last, and what the monotonic clock showed then.
    pub(crate) grant_times: Mutex<BTreeMap<u64, (Timestamp, Duration)>>,
}

/// What runs beside recording and reading.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) work: Work,
    pub(crate) anchoring: Arc<Anchoring>,
    pub(crate) news: News,
}

/// What readers see of the newest entries.
#[derive(Debug)]
pub(crate) struct Published {
    pub size: u64,
    pub head: Hash,
    /// How many entries the newest checkpoint covers.
    pub signed: u64,
    pub mem_segments: Vec<Arc<MemSegment>>,
}

/// The open database, for as long as it must not be replaced.
pub(crate) struct DatabaseGuard<'a>(RwLockReadGuard<'a, Option<Arc<DatabaseHandle>>>);

impl DatabaseGuard<'_> {
    pub(crate) fn get(&self) -> Result<&Arc<DatabaseHandle>> {
        self.0.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the store is closed"))
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

    /// The writer's own knowledge; only for the thread that has the writer lock. A thread that panicked under it left it in a
    /// state that nobody knows, so it is read anew.
    pub(crate) fn writer(&self) -> MutexGuard<'_, WriterState> {
        self.write.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            writer.broken = true;
            self.write.writer.clear_poison();
            writer
        })
    }

    /// After work with the writer lock. Where it did not come to its end, what is on the disk is not known, and redb may be in the
    /// middle of something: it is not to write on.
    pub(crate) fn after(&self, writer: &mut WriterState, ended: bool) {
        writer.broken |= !ended;
        if !ended && let Some(database) = &*self.read.database.read().unwrap_or_else(PoisonError::into_inner) {
            database.poison();
        }
    }

    /// Gives the file back to the system, without the room that it grew by and did not use, where that is worth its time:
    /// a program that records one call and closes must not move the whole file.
    pub(crate) fn give_back(&self, database: Option<Arc<DatabaseHandle>>) -> Result<()> {
        let size = self.read.published.read().unwrap_or_else(PoisonError::into_inner).size;
        let in_file = self.config.source.path().is_some();
        let grown = size - self.config.opened_with.min(size) >= size / 4;
        // A purge leaves a file that is mostly room.
        let tighten = self.write.tighten.load(Ordering::SeqCst);
        // Whoever still reads the file keeps it as it is.
        if let Some(mut database) = database.and_then(Arc::into_inner)
            && (tighten || in_file && grown)
        {
            database.tighten();
        }
        Ok(())
    }

    /// Where the store's file is, if it is one.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.config.source.path()
    }

    /// How many entries readers are shown, and the hash of the newest.
    pub(crate) fn shown(&self) -> (u64, Hash) {
        let published = self.read.published.read().unwrap_or_else(PoisonError::into_inner);
        (published.size, published.head)
    }

    /// Whether something else has written over the file while it was open.
    pub(crate) fn is_written_over(&self) -> bool {
        let refused = |e: Error| e.kind() == ErrorKind::Damaged;
        self.database().is_ok_and(|open| open.get().is_ok_and(|file| file.check_unchanged().is_err_and(refused)))
    }

    /// Whether the store was closed, or is another process's.
    pub(crate) fn is_closed(&self) -> bool {
        self.read.closed.load(Ordering::SeqCst) || !self.config.process.is_this()
    }

    /// Notes what a purge that is under way has to carry over besides entries.
    pub(crate) fn note(&self, what: impl FnOnce(&mut Changes)) {
        if let Some(changes) = &mut *self.write.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            what(changes);
        }
    }

    /// Every seq that was purged.
    pub(crate) fn purged(&self) -> Arc<SeqSet> {
        self.facts.purged.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What system events say so far.
    pub(crate) fn chain_state(&self) -> Arc<ChainState> {
        self.facts.chain_state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts what own entries said into force.
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

    /// Shows readers a store that was read anew.
    pub(crate) fn publish_anew(&self, state: &State, mem_segments: Vec<Arc<MemSegment>>) {
        let mut published = self.read.published.write().unwrap_or_else(PoisonError::into_inner);
        *published = Published { size: state.size, head: state.head, signed: state.signed, mem_segments };
        drop(published);
        self.jobs.news.tell();
    }

    /// A query is going to read from this.
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

    /// Takes their read transactions from queries that nobody goes on with at this moment, now and then.
    pub(crate) fn release(&self, size: u64) {
        let mut readers = self.read.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if size.saturating_sub(readers.looked_at) < RELEASE {
            return;
        }
        readers.looked_at = size;
        readers.all.retain(|reader| match reader.upgrade() {
            Some(reader) => {
                reader.let_go();
                true
            }
            None => false,
        });
    }
}

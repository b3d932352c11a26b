//! What the threads that use one store share.

pub(crate) mod block_locator;
pub(crate) mod changes;
pub(crate) mod encode;
pub(crate) mod group_commit;
pub(crate) mod keyring;
pub(crate) mod mem_index;
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
use crate::store::engine::keyring::Keyring;
use crate::store::engine::mem_index::MemSegment;
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
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

/// The store as its threads share it.
#[derive(Debug)]
pub(crate) struct Engine {
    /// In which it was opened, and in which alone it is used.
    pub(crate) process: Process,
    pub settings: Settings,
    pub limits: CallLimits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub(crate) source: Source,
    pub(crate) database: RwLock<Option<Arc<DatabaseHandle>>>,
    pub(crate) published: RwLock<Published>,
    pub(crate) group_commit: GroupCommit<EncodedBatch, Result<Vec<Receipt>>>,
    pub(crate) writer: Mutex<WriterState>,
    pub(crate) policies: RwLock<Arc<Policies>>,
    pub(crate) chain_state: RwLock<Arc<ChainState>>,
    pub(crate) keys: Mutex<Option<Keyring>>,
    /// What the keys had signed of it when it was opened.
    pub(crate) mark: Option<Mark>,
    /// What is wrong, where keys were found that this store, which was made without any, does not belong to.
    pub(crate) stray: Option<String>,
    /// The entry with which the present epoch began, and when it was recorded, once somebody has asked.
    pub(crate) epoch_began: Mutex<Option<(u64, Timestamp)>>,
    /// Every seq that was purged.
    pub(crate) purged: RwLock<Arc<SeqSet>>,
    pub(crate) subjects: Subjects,
    /// What changes of the small tables while a purge writes the store anew. Noted with the writer lock.
    pub(crate) changes: Mutex<Option<Changes>>,
    /// The file was written anew: it has doubled as it grew, and what it does not need is given back when it is closed.
    pub(crate) tighten: AtomicBool,
    /// Held by whoever writes an index batch.
    pub(crate) merging: Mutex<()>,
    /// Held by whoever shows a commit to readers.
    pub(crate) showing: Mutex<()>,
    pub(crate) closed: AtomicBool,
    /// How many entries there were when it was opened.
    pub(crate) opened_with: u64,
    pub(crate) work: Work,
    pub(crate) anchoring: Arc<Anchoring>,
    pub(crate) news: News,
    /// What queries read from that are under way.
    pub(crate) readers: Mutex<Readers>,
    pub(crate) reading: Reading,
    pub(crate) block_locator: Arc<BlockLocator>,
    /// How late it was when each open emergency grant was looked at last, and what the monotonic clock showed then.
    pub(crate) grant_times: Mutex<BTreeMap<u64, (Timestamp, Duration)>>,
}

/// What holds a read transaction between two uses of it.
type Reader = dyn Idle + Send + Sync;

/// The queries that are under way, and the size of the log when they were last looked at.
#[derive(Default)]
pub(crate) struct Readers {
    all: Vec<Weak<Reader>>,
    looked_at: u64,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} readers", self.all.len())
    }
}

/// Gives back what it reads from, unless it is being used. Whoever uses it next begins anew.
pub(crate) trait Idle {
    fn let_go(&self);
}

impl<T: Send> Idle for Mutex<Option<T>> {
    fn let_go(&self) {
        if let Ok(mut idle) = self.try_lock() {
            *idle = None;
        }
    }
}

/// After how many further entries queries that are under way give back what they read from. A commit of one entry rewrites some
/// forty KiB of pages, so a reader that stands still costs ten MiB at most.
const RELEASE: u64 = 256;

/// What readers see of the newest entries.
#[derive(Debug)]
pub(crate) struct Published {
    pub size: u64,
    pub head: Hash,
    /// How many entries the newest checkpoint covers.
    pub signed: u64,
    pub mem_segments: Vec<Arc<MemSegment>>,
}

/// Wakes the thread that does what nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WorkState {
    wanted: bool,
    stop: bool,
    /// Since when what is done by time has not been, by the store's monotonic clock.
    since: Option<Duration>,
    /// Whoever recorded has gone: what it recorded is to be signed.
    sign: bool,
}

/// What the background thread has to do besides what it finds to be due.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// So much time has passed that a checkpoint is due.
    pub(crate) timed: bool,
    /// A checkpoint was asked for.
    pub(crate) sign: bool,
}

impl Work {
    pub(crate) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.changed.notify_all();
    }

    /// Asks for a checkpoint, without waiting for it. Many that ask at a time get one.
    #[cfg(feature = "owner")]
    pub(crate) fn sign(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sign = true;
        self.changed.notify_all();
    }

    /// Whether `at_most` has passed since what is done by time was last done. The thread wakes for it by the time that
    /// threads run in, which is that of the store's clock unless a test has set another one.
    pub(crate) fn is_timed(&self, at_most: Duration, clock: &dyn Clock) -> bool {
        let since = self.state.lock().unwrap_or_else(PoisonError::into_inner).since;
        since.is_some_and(|since| clock.monotonic().saturating_sub(since) >= at_most)
    }

    /// Waits until there is something to do, or `at_most` has passed since it last had; says what, and nothing when it is
    /// time to stop. A store that is never idle has its time too.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(crate) fn wait(&self, at_most: Duration, clock: &dyn Clock) -> Option<Wanted> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *state.since.get_or_insert_with(|| clock.monotonic());
        let timed = loop {
            let left = at_most.saturating_sub(clock.monotonic().saturating_sub(since));
            if left.is_zero() || state.wanted || state.sign || state.stop {
                break left.is_zero();
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        if timed {
            state.since = None;
        }
        state.wanted = false;
        let sign = std::mem::take(&mut state.sign);
        (!state.stop).then_some(Wanted { timed, sign })
    }
}

/// Wakes those who follow the log. Whoever waits looks for himself what there is to see, so nothing is kept here that
/// would grow with them.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Mutex<()>,
    changed: Condvar,
}

impl News {
    /// There is something to see: newer entries, or the store was closed.
    pub(crate) fn tell(&self) {
        drop(self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `seen` says that there is something, at most for `at_most` where that is given.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, by the time that they run in")]
    pub(crate) fn wait<T>(&self, at_most: Option<Duration>, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
        // Looked at under the lock, so that nothing is told between looking and waiting.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let end = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        loop {
            if let Some(found) = seen() {
                return Some(found);
            }
            told = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(told).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
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
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Engine {
    pub(crate) fn database(&self) -> Result<DatabaseGuard<'_>> {
        self.process.check()?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        Ok(DatabaseGuard(self.database.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The writer's own knowledge; only for the thread that has the writer lock. A thread that panicked under it left it in a
    /// state that nobody knows, so it is read anew.
    pub(crate) fn writer(&self) -> MutexGuard<'_, WriterState> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            writer.poison();
            self.writer.clear_poison();
            writer
        })
    }

    /// After work with the writer lock. Where it did not come to its end, what is on the disk is not known, and redb may be in the
    /// middle of something: it is not to write on.
    pub(crate) fn after(&self, writer: &mut WriterState, ended: bool) {
        if ended {
            return;
        }
        writer.poison();
        if let Some(database) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            database.poison();
        }
    }

    /// Gives the file back to the system, without the room that it grew by and did not use, where that is worth its time:
    /// a program that records one call and closes must not move the whole file.
    pub(crate) fn give_back(&self, database: Option<Arc<DatabaseHandle>>) -> Result<()> {
        let size = self.published.read().unwrap_or_else(PoisonError::into_inner).size;
        let in_file = self.source.path().is_some();
        let grown = size - self.opened_with.min(size) >= size / 4;
        // A purge leaves a file that is mostly room.
        let tighten = self.tighten.load(Ordering::SeqCst);
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
        self.source.path()
    }

    /// How many entries readers are shown, and the hash of the newest.
    pub(crate) fn shown(&self) -> (u64, Hash) {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        (published.size, published.head)
    }

    /// Whether something else has written over the file while it was open.
    pub(crate) fn is_written_over(&self) -> bool {
        let refused = |e: Error| e.kind() == ErrorKind::Damaged;
        self.database().is_ok_and(|open| open.get().is_ok_and(|file| file.check_unchanged().is_err_and(refused)))
    }

    /// Whether the store was closed, or is another process's.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || !self.process.is_this()
    }

    /// Notes what a purge that is under way has to carry over besides entries.
    pub(crate) fn note(&self, what: impl FnOnce(&mut Changes)) {
        if let Some(changes) = &mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            what(changes);
        }
    }

    /// Every seq that was purged.
    pub(crate) fn purged(&self) -> Arc<SeqSet> {
        self.purged.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What system events say so far.
    pub(crate) fn chain_state(&self) -> Arc<ChainState> {
        self.chain_state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts what own entries said into force.
    pub(crate) fn put_in_force(&self, chain_state: ChainState) -> Result<()> {
        if let Some((seq, set)) = &chain_state.policies
            && self.policies().seq != *seq
        {
            let policies = crate::store::engine::keyring::ready(*seq, set.clone(), self.keys().as_ref())?;
            *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
        }
        *self.chain_state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(chain_state);
        Ok(())
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows readers a store that was read anew.
    pub(crate) fn publish_anew(&self, state: &State, mem_segments: Vec<Arc<MemSegment>>) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        *published = Published { size: state.size, head: state.head, signed: state.signed, mem_segments };
        drop(published);
        self.news.tell();
    }

    /// A query is going to read from this.
    pub(crate) fn will_read<T: Send + 'static>(&self, reading: &Arc<Mutex<Option<T>>>) {
        if !self.process.is_this() {
            return;
        }
        let reading: Arc<Reader> = reading.clone();
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.all.len() == readers.all.capacity() {
            readers.all.retain(|reader| reader.strong_count() > 0);
        }
        readers.all.push(Arc::downgrade(&reading));
    }

    /// Takes their read transactions from queries that nobody goes on with at this moment, now and then.
    pub(crate) fn release(&self, size: u64) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
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

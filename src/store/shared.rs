//! What the threads that use one store share.

use super::Receipt;
use super::commit::{Core, Job};
use super::options::{Settings, Source};
use super::pending::Generation;
use super::state::State;
use super::turn::Turns;
use crate::entry::CallLimits;
use crate::host::{Clock, Random};
use crate::policy::Policies;
use crate::{Error, ErrorKind, Hash, Result};
use redb::Database;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// The store as its threads share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub limits: CallLimits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub(super) source: Source,
    pub(super) database: RwLock<Option<Database>>,
    pub(super) published: RwLock<Published>,
    pub(super) turns: Turns<Job, Result<Vec<Receipt>>>,
    pub(super) core: Mutex<Core>,
    pub(super) policies: RwLock<Arc<Policies>>,
    /// Held by whoever writes an index batch.
    pub(super) merging: Mutex<()>,
    pub(super) closed: AtomicBool,
    pub(super) work: Work,
}

/// What readers see of the newest entries.
#[derive(Debug)]
pub(crate) struct Published {
    pub size: u64,
    pub head: Hash,
    pub generations: Vec<Arc<Generation>>,
}

/// Wakes the thread that does what nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Work {
    state: Mutex<WorkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WorkState {
    wanted: bool,
    stop: bool,
}

impl Work {
    pub(super) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to do; `false` when it is time to stop.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.wanted && !state.stop {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted = false;
        !state.stop
    }
}

/// The open database, for as long as it must not be replaced.
pub(crate) struct DatabaseGuard<'a>(RwLockReadGuard<'a, Option<Database>>);

impl DatabaseGuard<'_> {
    pub(crate) fn get(&self) -> Result<&Database> {
        self.0.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the store is closed"))
    }
}

impl Shared {
    pub(crate) fn database(&self) -> Result<DatabaseGuard<'_>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        Ok(DatabaseGuard(self.database.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The writer's own knowledge; only for the thread that has the turn. A thread that panicked under it left it in a
    /// state that nobody knows, so it is read anew.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(|poisoned| {
            let mut core = poisoned.into_inner();
            core.broken = true;
            self.core.clear_poison();
            core
        })
    }

    /// `KEY-ID:HMAC` of a whole result under the digest key, where the store has one.
    pub(crate) fn digest(&self, _whole: &[u8]) -> Option<String> {
        None
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows readers a store that was read anew.
    pub(super) fn publish_anew(&self, state: &State, generations: Vec<Arc<Generation>>) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        *published = Published { size: state.size, head: state.head, generations };
    }

    /// After a commit: whatever became due is done by the background thread, or here where there is none.
    pub(super) fn after_commit(&self) {
        let due = {
            let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
            published.generations.len() > 1
        };
        if !due {
            return;
        }
        if self.settings.background {
            self.work.wake();
        } else {
            // What fails here fails again at the next commit, or is done at the next open.
            let _ = self.merge_next();
        }
    }
}

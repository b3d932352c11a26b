//! Recovery after a failed write: the file is reopened and read again to find out what reached the disk.
//!
//! Invariant: after a failed write nothing is written before the file was read again (W2).

use crate::store::engine::Engine;
use crate::store::engine::keyring::Keyring;
use crate::store::engine::writer_state::WriterState;
use crate::store::file::database_handle::DatabaseHandle;
use crate::store::file::panic_guard::guarded;
use crate::store::file::replacement;
use crate::store::layout::state::State;
use crate::store::load::{Loaded, load};
use crate::store::open::open_database;
use crate::store::options::Options;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait until the readers of this process have dropped the file, and how often to check.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Handles a failed commit: finds out what reached the disk. Returns `Ok` if the commit reached it after all.
    pub(crate) fn after_failure(&self, writer: &mut WriterState, wanted: &State, e: Error) -> Result<()> {
        writer.poison();
        if let Ok(file) = self.database()?.get() {
            file.check_unchanged()?;
        }
        match self.recover(writer) {
            Ok(()) if writer.state.size == wanted.size && writer.state.head == wanted.head => Ok(()),
            Ok(()) if e.kind() == ErrorKind::DiskFull => {
                let message = "the disk is full, so this was not recorded: make room and retry";
                Err(Error::new(ErrorKind::DiskFull, message).with_source(e))
            }
            Ok(()) => Err(e),
            // The content of the file is unknown, so the caller must not be told that nothing was recorded.
            Err(again) => Err(Error::new(
                ErrorKind::Closed,
                format!(
                    "{e}. Reading the file again failed too, so it is not known whether this was recorded; check before you retry: {again}"
                ),
            )
            .with_source(e)),
        }
    }

    /// Must be called before anything is written. After a failed write, reopens the file and reads it again. Refuses a store that
    /// is open only for reading, one whose file is no longer at its path or was overwritten by another program, and one with
    /// unreadable parts.
    pub(crate) fn recover(&self, writer: &mut WriterState) -> Result<()> {
        self.check_writing()?;
        if writer.is_poisoned() {
            // Earlier commits are in the file; they must not be shown a second time on top of what is read now.
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

    /// Reopens the file and reads it again. Fails if another program has overwritten it.
    fn reopen(&self) -> Result<Loaded> {
        self.config.process.check()?;
        self.let_go()?;
        let mut database = self.read.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.read.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        guarded(|| {
            self.note(|changes| changes.any = true);
            // A purge may have put a file in place whose rename is not durable yet.
            replacement::settle(&self.config.source)?;
            let options = Options { settings: self.config.settings.clone(), ..Options::new() };
            let fresh = Arc::new(open_database(&options, &self.config.source)?);
            let signed = self.keys().as_ref().filter(|_| !self.config.settings.restoring).and_then(Keyring::signed);
            let loaded = load(&fresh, self.config.clock.monotonic(), signed)?;
            let fresh = database.insert(fresh);
            if !self.continues(&loaded, fresh)? {
                fresh.condemn();
                fresh.check_unchanged()?;
            }
            Ok(loaded)
        })
    }

    /// Drops the database, and waits until the readers of this process have dropped it too: redb unlocks the file only then,
    /// and opening it again would find it locked by this very process.
    #[allow(clippy::disallowed_methods, reason = "waits for other threads, which run in real time")]
    fn let_go(&self) -> Result<()> {
        let database = || self.read.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*database() {
            open.check_unchanged()?;
            *self.read.before.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(open);
        }
        let open = database().take();
        guarded(|| {
            drop(open);
            Ok(())
        })?;
        self.read.readers.lock().unwrap_or_else(PoisonError::into_inner).let_go();
        if self.config.source.path().is_none() {
            // Only files are locked.
            return Ok(());
        }
        let began = Instant::now();
        while self.read.before.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0 {
            if began.elapsed() > PATIENCE {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "a write failed, and something in this process still reads the file as it was before; recording continues once that has ended (a verification, a backup, a query)",
                ));
            }
            std::thread::sleep(PAUSE);
            self.read.readers.lock().unwrap_or_else(PoisonError::into_inner).let_go();
        }
        Ok(())
    }

    /// Whether a file that was read again contains everything that readers were shown.
    fn continues(&self, loaded: &Loaded, file: &Arc<DatabaseHandle>) -> Result<bool> {
        let (size, head) = self.shown();
        let state = &loaded.writer.state;
        match size.checked_sub(1) {
            None => Ok(true),
            Some(_) if state.size <= size => Ok((state.size, state.head) == (size, head)),
            // A purge that was not yet published may have removed it.
            Some(newest) => Ok(loaded.purged.contains(newest) || Snapshot::raw(file)?.hash(newest)? == head),
        }
    }
}

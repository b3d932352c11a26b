//! The transition of a store that is open for reading to recording.

use crate::store::engine::Engine;
use crate::store::engine::writer_state::WriterState;
use crate::store::options::Access;
use crate::{Error, ErrorKind, Result};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Engine {
    /// Whether nothing may be written: not the store's file, not its keys, nothing beside it.
    pub(crate) fn is_reading(&self) -> bool {
        self.read.reading.now.load(Ordering::SeqCst)
    }

    /// Whether the keys may be saved now. If not, they are saved before anything is recorded.
    pub(crate) fn may_save_keys(&self) -> bool {
        let reading = self.is_reading();
        self.read.reading.keys_unsaved.fetch_or(reading, Ordering::SeqCst);
        !reading
    }

    /// To be called before anything is written, under the writer lock: does what opening for reading left undone.
    pub(crate) fn begin_writing(&self, writer: &mut WriterState) -> Result<()> {
        if !self.is_reading() {
            return Ok(());
        }
        let path = match (self.config.settings.access, self.config.source.path()) {
            (Access::ReadFirst | Access::Write, Some(path)) => path,
            // Writes kept in memory over a host's storage cannot be applied to it.
            _ => {
                let message = "the store was opened for reading only: open it without `read_only` to change it";
                return Err(Error::new(ErrorKind::ReadOnly, message));
            }
        };
        if let Some(damage) = writer.damaged {
            return Err(damage.refusal());
        }
        let overlay = self.read.reading.overlay.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let overlay = overlay.ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))?;
        overlay.write_through(path)?;
        self.read.reading.now.store(false, Ordering::SeqCst);
        if self.read.reading.keys_unsaved.swap(false, Ordering::SeqCst)
            && let Some(keys) = &mut *self.keys()
        {
            keys.save(self)?;
        }
        crate::store::file::replacement::remove_left(&self.config.source, &self.chain_state());
        // If this cannot be finished, the next erasure finishes it, as when a store is opened.
        let _ = self.settle_masters(writer);
        self.jobs.anchoring.resume();
        Ok(())
    }
}

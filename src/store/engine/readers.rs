//! Queries in progress, and the read transactions that they hold.

use std::fmt;
use std::sync::{Mutex, Weak};

/// A holder of a read transaction between two uses.
pub(crate) type Reader = dyn Idle + Send + Sync;

/// The queries in progress, and the log's size when they were last released.
#[derive(Default)]
pub(crate) struct Readers {
    pub(crate) all: Vec<Weak<Reader>>,
    pub(crate) looked_at: u64,
}

impl Readers {
    /// Takes the read transactions from queries that are not being advanced at the moment.
    pub(crate) fn let_go(&mut self) {
        self.all.retain(|reader| match reader.upgrade() {
            Some(reader) => {
                reader.let_go();
                true
            }
            None => false,
        });
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} readers", self.all.len())
    }
}

/// Releases its read transaction unless it is in use. The next use begins a new one.
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

/// After this many new entries, queries in progress release their read transactions. A commit of one entry rewrites about 40
/// KiB of pages, so a stalled reader costs at most ten MiB.
pub(crate) const RELEASE: u64 = 256;

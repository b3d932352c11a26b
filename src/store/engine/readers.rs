//! Queries that are under way, and what they hold.

use std::fmt;
use std::sync::{Mutex, Weak};

/// What holds a read transaction between two uses of it.
pub(crate) type Reader = dyn Idle + Send + Sync;

/// The queries that are under way, and the size of the log when they were last looked at.
#[derive(Default)]
pub(crate) struct Readers {
    pub(crate) all: Vec<Weak<Reader>>,
    pub(crate) looked_at: u64,
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
pub(crate) const RELEASE: u64 = 256;

//! A store that this process has open.

use crate::Result;
use crate::process::Process;
use crate::store::OpenStore;
use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Kept while this process owns a store; dropped before the store is closed.
pub type Guard = Box<dyn Any + Send + Sync>;

/// A store that this process has open, with its server and guard.
pub(super) struct Owned {
    process: Process,
    store: OpenStore,
    #[cfg(feature = "owner")]
    server: Option<crate::owner::Server>,
    guard: Mutex<Option<Guard>>,
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // A forked process does not have the guard's threads, so there is nothing to stop.
            std::mem::forget(self.guard.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Owned {
    /// A store with the guard of the work that runs while this process owns it.
    pub(super) fn new(store: OpenStore, guard: Option<Guard>) -> Owned {
        Owned {
            process: Process::this(),
            store,
            #[cfg(feature = "owner")]
            server: None,
            guard: Mutex::new(guard),
        }
    }

    /// Adds the server through which other processes reach the store.
    #[cfg(feature = "owner")]
    pub(super) fn served(self, server: Option<crate::owner::Server>) -> Owned {
        let mut owned = self;
        owned.server = server;
        owned
    }

    pub(super) fn store(&self) -> &OpenStore {
        &self.store
    }

    /// Drops the guard, stops the server, and closes the store.
    pub(super) fn close(&self) -> Result<()> {
        self.process.check()?;
        drop(self.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
        #[cfg(feature = "owner")]
        if let Some(server) = &self.server {
            server.close();
        }
        self.store.clone().close()
    }
}

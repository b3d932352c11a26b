//! A store that is open for reading, and how it becomes one that is recorded into.

use crate::store::file::overlay::Overlay;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

/// Whether a store is still as it was found.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) now: AtomicBool,
    /// Not what keeps the file open.
    pub(crate) overlay: Mutex<Weak<Overlay>>,
    /// The keys took a step that their file does not hold yet.
    pub(crate) keys_unsaved: AtomicBool,
}

impl Reading {
    pub(crate) fn of(overlay: Option<&Arc<Overlay>>) -> Reading {
        let now = AtomicBool::new(overlay.is_some());
        let overlay = Mutex::new(overlay.map(Arc::downgrade).unwrap_or_default());
        Reading { now, overlay, keys_unsaved: AtomicBool::default() }
    }
}

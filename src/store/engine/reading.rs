//! A store that is open for reading, and its transition to recording.

use crate::store::file::overlay::Overlay;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

/// Whether the store is open only for reading.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) now: AtomicBool,
    /// Weak, so that it does not keep the file open.
    pub(crate) overlay: Mutex<Weak<Overlay>>,
    /// Whether the keys changed and the key file was not updated yet.
    pub(crate) keys_unsaved: AtomicBool,
}

impl Reading {
    pub(crate) fn of(overlay: Option<&Arc<Overlay>>) -> Reading {
        let now = AtomicBool::new(overlay.is_some());
        let overlay = Mutex::new(overlay.map(Arc::downgrade).unwrap_or_default());
        Reading { now, overlay, keys_unsaved: AtomicBool::default() }
    }
}

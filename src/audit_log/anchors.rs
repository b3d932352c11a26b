//! Anchors: where checkpoints are sent.

use super::AuditLog;
#[cfg(feature = "config")]
use crate::anchor::AnchorConfig;
use crate::anchor::AnchorHealth;
use crate::anchor::{Anchor, AnchorStatus, Record};
use crate::{Result, requests};
use std::sync::Arc;
use std::time::Duration;

/// The anchors of a log: see [`AuditLog::anchors`].
#[derive(Debug)]
pub struct Anchors<'l>(&'l AuditLog);

impl AuditLog {
    /// Where checkpoints are sent, and what the anchors returned.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// for anchor in log.anchors().list()? {
    ///     println!("{}: at hand: {}", anchor.name, anchor.at_hand);
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn anchors(&self) -> Anchors<'_> {
        Anchors(self)
    }
}

impl Anchors<'_> {
    /// The state of each anchor: those that the store was opened with, and earlier ones that have not yet received every
    /// checkpoint.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.anchors().list()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn list(&self) -> Result<Vec<AnchorHealth>> {
        self.0.ask(requests::Anchors {})
    }

    /// Hands over all pending checkpoints now, without waiting for the retry delay of failed anchors. Waits until each anchor was
    /// tried, for at most `at_most`. Returns whether nothing is pending any more for the anchors in use.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # use std::time::Duration;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.anchors().flush(Duration::from_secs(5))?, "nothing is owed to anybody");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn flush(&self, at_most: Duration) -> Result<bool> {
        self.0.ask(requests::FlushAnchors { at_most })
    }

    /// Replaces the anchors that the store was opened with: from now on checkpoints go to these, starting with the newest at once.
    /// Checkpoints pending for an anchor that is not among them stay pending until it is set again or forgotten; a hand-over
    /// already under way may still complete.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the file of an anchor is a store, a key file, or another file that is kept
    /// for something else;
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if there would be more than [`MAX_ANCHORS`](crate::anchor::MAX_ANCHORS), counting
    /// the earlier anchors that the store still has a record of; then nothing changes.
    ///
    /// ```
    /// # use attestlog::{AuditLog, anchor::FileAnchor};
    /// # use std::sync::Arc;
    /// # let log = AuditLog::in_memory()?;
    /// log.anchors().set(vec![Arc::new(FileAnchor::new("/mnt/elsewhere/checkpoints.jsonl"))])?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn set(&self, anchors: Vec<Arc<dyn Anchor>>) -> Result<()> {
        self.0.own()?.set_anchors(anchors)
    }

    /// As [`Anchors::set`], with anchors as they are configured, whichever process has the store open: it builds them, so files have
    /// absolute paths.
    ///
    /// Does not write `STORE.anchors`, from which the program takes the anchors when it opens the store.
    ///
    /// # Errors
    /// As [`Anchors::set`] and [`AnchorConfig::build`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, anchor::AnchorConfig};
    /// # let log = AuditLog::in_memory()?;
    /// let anchors = AnchorConfig::from_toml("[[anchor]]\nfile = '/mnt/elsewhere/kept'\n", "store.toml")?;
    /// log.anchors().set_configured(&anchors)?;
    /// assert_eq!(log.anchors().list()?.len(), 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    #[cfg(feature = "config")]
    pub fn set_configured(&self, anchors: &[AnchorConfig]) -> Result<()> {
        let tables: Vec<String> = anchors.iter().map(ToString::to_string).collect();
        self.0.ask(requests::SetAnchors { anchors: tables.join("\n") })
    }

    /// Forgets an anchor, with all checkpoints pending for it. Returns its last state.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the anchor is in use, since the next checkpoint would be pending for it again;
    /// as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.anchors().forget("an anchor that never was")?.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn forget(&self, name: &str) -> Result<Option<AnchorStatus>> {
        self.0.ask(requests::ForgetAnchor { name: name.to_owned() })
    }

    /// The attestations of witnesses and time-stamping authorities for checkpoints of this store, by size. Printed one after
    /// another they form an anchor file, to be kept elsewhere; in the store they are as much under the operator's control as the
    /// store itself.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), [`Io`](crate::ErrorKind::Io) and [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.anchors().attestations()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn attestations(&self) -> Result<Vec<(String, Record)>> {
        self.0.ask(requests::Attestations {})
    }
}

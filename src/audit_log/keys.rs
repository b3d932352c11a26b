//! The keys of a log, for hosts.

use super::AuditLog;
use crate::keyless::Keyless;
use crate::note::Succession;
use crate::{Receipt, Result, requests};

/// The keys of a log: see [`AuditLog::keys`].
#[derive(Debug)]
pub struct Keys<'l>(&'l AuditLog);

impl AuditLog {
    /// The log's epoch keys and pseudonym keys.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert_eq!(log.keys().succession()?.unwrap().current().number(), 0, "the first epoch");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn keys(&self) -> Keys<'_> {
        Keys(self)
    }
}

impl Keys<'_> {
    /// The epoch keys from the first to the current one; `None` for a store without keys.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert_eq!(log.keys().succession()?.unwrap().current().number(), 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn succession(&self) -> Result<Option<Succession>> {
        self.0.ask(requests::GetSuccession {})
    }

    /// Rotates to a new epoch key and destroys the old one, so that nobody can sign again for the past epoch.
    ///
    /// # Errors
    /// As [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// log.keys().rotate_epoch_key()?;
    /// assert_eq!(log.keys().succession()?.unwrap().current().number(), 1);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn rotate_epoch_key(&self) -> Result<()> {
        self.0.ask(requests::RotateEpochKey {})
    }

    /// Creates a new pseudonym key; names recorded under the old keys are still found.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key) if the store's keys are not available; [`TooLarge`](crate::ErrorKind::TooLarge) if there are
    /// too many; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.keys().rotate_pseudonym_key()?;
    /// assert_eq!(receipt.seq + 1, log.size()?);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn rotate_pseudonym_key(&self) -> Result<Receipt> {
        self.0.ask(requests::RotatePseudonymKey {})
    }

    /// The ranges of entries that were recorded without the store's key, in order.
    ///
    /// # Errors
    /// As [`AuditLog::query`].
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.keys().recorded_without_key()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn recorded_without_key(&self) -> Result<Vec<Keyless>> {
        self.0.ask(requests::RecordedWithoutKey {})
    }
}

//! Results of verifications, stored beside the store.

use super::AuditLog;
use crate::alert::{NotFound, Settlement};
use crate::text::Justification;
use crate::verify::{Verification, VerifyOptions};
use crate::{Result, requests};
use std::path::PathBuf;

/// The recorded verifications of a log: see [`AuditLog::verifications`].
#[derive(Debug)]
pub struct Verifications<'l>(&'l AuditLog);

impl AuditLog {
    /// The results of the last verifications, and how findings were settled.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.verifications().known()?.last.is_none(), "never verified");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn verifications(&self) -> Verifications<'_> {
        Verifications(self)
    }
}

impl Verifications<'_> {
    /// The last recorded verifications. Empty for a store that is not a file.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be read; a file that cannot be parsed counts as missing.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.verifications().known()?.last.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn known(&self) -> Result<crate::verify::Verifications> {
        self.0.ask(requests::GetVerifications {})
    }

    /// Records the result of a verification in `STORE.verified`, for [`AuditLog::health`], and returns that file's path; `None` for
    /// a store that is not a file. Verifying itself writes nothing: only the alert engine calls this, for its own verifications,
    /// and the program, if asked to remember a result and whenever it has findings. Works also if the store is open for reading
    /// only.
    ///
    /// # Errors
    /// [`DiskFull`](crate::ErrorKind::DiskFull) and [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # use attestlog::verify::VerifyOptions;
    /// # let dir = tempfile::tempdir()?;
    /// # let log = AuditLog::create(dir.path().join("audit.log"))?;
    /// log.verifications().note(&log.verify(&VerifyOptions::new())?)?;
    /// assert!(log.verifications().known()?.last.unwrap().ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self, verification: &Verification) -> Result<Option<PathBuf>> {
        #[cfg(feature = "owner")]
        if let (None, Some(store)) = (self.0.here()?.filter(|store| !store.gives_way()), self.0.shared_path()) {
            // Written by this process directly, not through the owner: a plain file beside the store, which either may write and
            // nobody has to trust.
            return verification.note_beside(store, self.0.options().clock.now()).map(Some);
        }
        self.0.own()?.note_verification(verification)
    }

    /// Records that somebody looked into what was noted of verifications ([`Verifications::known`]). The log is verified with
    /// `options`, and an entry names each finding that was noted and is found now. It acknowledges the alerts that are about
    /// nothing else, or one that is raised for it. A finding that was not noted is not settled, and is noted now.
    ///
    /// Only facts ([`Finding::is_fact`](crate::verify::Finding::is_fact)) stay settled.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry) if there is nothing to settle; [`InvalidInput`](crate::ErrorKind::InvalidInput) if
    /// something that was noted is not found now, unless `unfound` says to settle it too: give the evidence with which it was
    /// found; as [`Alerts::ack`](crate::groups::Alerts::ack) and [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::alert::NotFound;
    /// # use attestlog::verify::VerifyOptions;
    /// # use attestlog::{AuditLog, Justification};
    /// # let log = AuditLog::in_memory()?;
    /// let by = Justification { actor: "auditor", reason: "a disk fault, see ticket 7" };
    /// let settled = log.verifications().settle(by, &VerifyOptions::new(), NotFound::Refuse);
    /// assert!(settled.is_err(), "nothing was found");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn settle(&self, by: Justification<'_>, options: &VerifyOptions, unfound: NotFound) -> Result<Settlement> {
        let gone = unfound == NotFound::Settle;
        self.0.ask(requests::SettleVerification { by: by.into(), options: options.clone(), gone })
    }
}

//! Emergency access ("break the glass").

use super::AuditLog;
use crate::emergency::EmergencyAccess;
use crate::grants::{Grant, GrantState};
use crate::text::Justification;
use crate::{Receipt, Result, requests};

/// Emergency access: see [`AuditLog::emergency`].
#[derive(Debug)]
pub struct Emergency<'l>(&'l AuditLog);

impl AuditLog {
    /// Emergency grants: opening, checking, closing and reviewing them.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let open = log.emergency().grants()?.iter().filter(|grant| grant.end.is_none()).count();
    /// assert_eq!(open, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn emergency(&self) -> Emergency<'_> {
        Emergency(self)
    }
}

impl Emergency<'_> {
    /// Opens an emergency grant: `user` may access the data of `patient` from now on for the duration `ttl`. Calls made under the
    /// grant name its seq ([`ToolCall::emergency`](crate::ToolCall::emergency)).
    ///
    /// `actor` is who opens it: the user, or somebody who answers for them. All names are given in clear; the redaction policy is
    /// applied to them as to users and patients elsewhere, and to the reason as to free text.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): a text is missing or too long, or the time is zero or more than 30 days;
    /// as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{Justification, AuditLog, ToolCall};
    /// # use attestlog::emergency::EmergencyAccess;
    /// # use std::time::Duration;
    /// # let log = AuditLog::in_memory()?;
    /// let hour = Duration::from_secs(3600);
    /// let access = EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: hour };
    /// let by = Justification { actor: "dr_smith", reason: "unconscious, allergies unknown" };
    /// let grant = log.emergency().open(access, by)?;
    /// log.emergency().check("dr_smith", "P-7", grant.seq)?;
    /// let call = ToolCall::new("conv_1", "dr_smith", "read_chart").patient("P-7").emergency(Some(grant.seq));
    /// let read = log.record(call)?;
    /// assert!(log.emergency().check("dr_smith", "P-8", grant.seq).is_err());
    /// // Nobody reviews themselves.
    /// assert!(log.emergency().review(grant.seq, Justification { actor: "dr_smith", reason: "justified" }, None).is_err());
    /// log.emergency().review(grant.seq, Justification { actor: "privacy_office", reason: "justified" }, None)?;
    /// assert_eq!(log.emergency().grants()?[0].uses[0].seq, read.seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn open(&self, access: EmergencyAccess<'_>, by: Justification<'_>) -> Result<Grant> {
        let EmergencyAccess { user, patient, urgency, ttl } = access;
        let [user, patient, urgency] = [user, patient, urgency].map(str::to_owned);
        self.0.ask(requests::OpenEmergency { user, patient, urgency, ttl, by: by.into() })
    }

    /// Whether `user` may now access the data of `patient` under this grant; a host refuses access on an error. If access is
    /// refused because the grant has expired, the expiry is recorded (unless it already was, or the store is open for reading
    /// only), so that setting the system clock back does not revive the grant. Otherwise nothing changes.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict): access is not allowed; the message says why.
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is no such grant. [`Damaged`](crate::ErrorKind::Damaged):
    /// [`AuditLog::damage`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # use attestlog::emergency::EmergencyAccess;
    /// # let log = AuditLog::in_memory()?;
    /// # let hour = std::time::Duration::from_secs(3600);
    /// # let access = EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: hour };
    /// # let grant = log.emergency().open(access, Justification { actor: "dr_smith", reason: "unconscious" })?;
    /// assert!(log.emergency().check("dr_smith", "P-7", grant.seq).is_ok());
    /// assert!(log.emergency().check("dr_jones", "P-7", grant.seq).is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn check(&self, user: &str, patient: &str, grant: u64) -> Result<Grant> {
        self.0.ask(requests::CheckEmergency { user: user.to_owned(), patient: patient.to_owned(), grant })
    }

    /// Ends a grant before its time.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is no such grant; [`Conflict`](crate::ErrorKind::Conflict): it has
    /// already ended; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # use attestlog::emergency::EmergencyAccess;
    /// # let log = AuditLog::in_memory()?;
    /// # let hour = std::time::Duration::from_secs(3600);
    /// # let access = EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: hour };
    /// # let grant = log.emergency().open(access, Justification { actor: "dr_smith", reason: "unconscious" })?;
    /// log.emergency().close(grant.seq, "dr_smith")?;
    /// assert!(log.emergency().check("dr_smith", "P-7", grant.seq).is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn close(&self, grant: u64, actor: &str) -> Result<Receipt> {
        self.0.ask(requests::CloseEmergency { grant, actor: actor.to_owned() })
    }

    /// Records that somebody reviewed a grant and its use, and the conclusion. Calls made under the grant afterwards require
    /// another review.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict): the reviewer is the user of the grant, or used it;
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is no such grant; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # use attestlog::emergency::EmergencyAccess;
    /// # let log = AuditLog::in_memory()?;
    /// # let hour = std::time::Duration::from_secs(3600);
    /// # let access = EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: hour };
    /// # let grant = log.emergency().open(access, Justification { actor: "dr_smith", reason: "unconscious" })?;
    /// let by = Justification { actor: "privacy_office", reason: "justified" };
    /// log.emergency().review(grant.seq, by, Some("the chart says so"))?;
    /// assert!(!log.emergency().grants()?[0].needs_review());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn review(&self, grant: u64, by: Justification<'_>, note: Option<&str>) -> Result<Receipt> {
        self.0.ask(requests::ReviewEmergency { grant, by: by.into(), note: note.map(str::to_owned) })
    }

    /// Every emergency grant with its end, uses and reviews, oldest first.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # use attestlog::emergency::EmergencyAccess;
    /// # let log = AuditLog::in_memory()?;
    /// # let hour = std::time::Duration::from_secs(3600);
    /// # let access = EmergencyAccess { user: "dr_smith", patient: "P-7", urgency: "immediate", ttl: hour };
    /// # let grant = log.emergency().open(access, Justification { actor: "dr_smith", reason: "unconscious" })?;
    /// assert_eq!(log.emergency().grants()?[0].grant.seq, grant.seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn grants(&self) -> Result<Vec<GrantState>> {
        self.0.ask(requests::Emergencies {})
    }
}

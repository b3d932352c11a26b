//! Sealed values: revealing and erasing them.

use super::AuditLog;
use crate::json::Json;
use crate::text::Justification;
use crate::{Receipt, Result, requests};

/// The sealed values of a log: see [`AuditLog::privacy`].
#[derive(Debug)]
pub struct Privacy<'l>(&'l AuditLog);

impl AuditLog {
    /// Sealed values: revealing one, and erasing all of a data subject's.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let by = attestlog::Justification { actor: "dr_no", reason: "claim 17" };
    /// assert!(log.privacy().reveal(0, "arguments.ssn", by).is_err(), "nothing is sealed there");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn privacy(&self) -> Privacy<'_> {
        Privacy(self)
    }
}

impl Privacy<'_> {
    /// Reveals one sealed value. Before the value is returned, an entry records who asked for it and why.
    ///
    /// `path` is where the value stands, as the entry's `treated` names it: `arguments.ssn`, `session_metadata.x`, or `result.x` if
    /// whole results are kept.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is no such entry, nothing at that path, or the value was erased (the
    /// message says by which entry); [`InvalidInput`](crate::ErrorKind::InvalidInput): the value is not sealed, or there is no
    /// actor or reason; [`Key`](crate::ErrorKind::Key): the key file is missing or older; [`Damaged`](crate::ErrorKind::Damaged):
    /// the value's key is missing although no entry says that it was erased; as [`AuditLog::record`]. On an error nothing is
    /// revealed.
    ///
    /// ```
    /// use attestlog::redact::{Action, Policy, Preset};
    /// use attestlog::{Justification, AuditLog, Options, PolicySet, ToolCall, json::Json};
    /// let mut policies = PolicySet::default();
    /// policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build()?;
    /// let log = Options::new().policies(policies).in_memory()?;
    /// let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#)?.value;
    /// let receipt = log.record(ToolCall::new("conv_1", "usr_1", "enrol").patient("P-1").arguments(arguments))?;
    /// assert!(!log.entry(receipt.seq)?.line().contains("460-89-9847"));
    /// let shown = log.privacy().reveal(receipt.seq, "arguments.ssn", Justification { actor: "dr_no", reason: "claim 17" })?;
    /// assert_eq!(shown, Json::from("460-89-9847"));
    /// log.privacy().erase("P-1", Justification { actor: "privacy_officer", reason: "the patient's request of 2 May" })?;
    /// assert!(log.privacy().reveal(receipt.seq, "arguments.ssn", Justification { actor: "dr_no", reason: "claim 17" }).is_err());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn reveal(&self, seq: u64, path: &str, by: Justification<'_>) -> Result<Json> {
        self.0.ask(requests::Reveal { seq, path: path.to_owned(), by: by.into() })
    }

    /// Destroys everything sealed about a data subject, irreversibly: its keys are removed, and the master key is replaced, so that
    /// the values in older copies of the store cannot be opened either, provided that no older copy of the key file exists.
    /// Entries, chain and proofs stay as they are.
    ///
    /// The subject is named in clear: a patient, or a user for calls that concern no patient; `patient:X` and `user:X` tell the two
    /// apart. Values sealed in a call that concerns several patients are destroyed when any of them is erased.
    ///
    /// The log is verified first, which takes as long as [`AuditLog::verify`]: erasure is irreversible, so all keys of this subject
    /// must be known, and all keys that stay must be present.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): the verification found that entries or keys of sealed values are not as they were
    /// written; nothing was destroyed (the message says where; restore a backup). [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry):
    /// nothing is sealed about such a subject, or not any more (the message says which entry erased it).
    /// [`Conflict`](crate::ErrorKind::Conflict): there is a patient and a user of that name; a hold keeps an entry with such values
    /// (the message names it); every key also seals values about others; or a restore has not been confirmed yet
    /// ([`Retention::confirm_restored`](crate::groups::Retention::confirm_restored)).
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): there is no actor or reason. [`Key`](crate::ErrorKind::Key): the key file
    /// is missing. [`DiskFull`](crate::ErrorKind::DiskFull) and [`Io`](crate::ErrorKind::Io): the message says whether the erasure
    /// took place.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # let log = AuditLog::in_memory()?;
    /// let by = Justification { actor: "privacy_officer", reason: "the patient's request of 2 May" };
    /// assert!(log.privacy().erase("P-1", by).is_err(), "nothing is sealed about P-1");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn erase(&self, subject: &str, by: Justification<'_>) -> Result<Receipt> {
        self.0.ask(requests::Erase { subject: subject.to_owned(), by: by.into() })
    }
}

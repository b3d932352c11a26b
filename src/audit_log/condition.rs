//! The store's health, and whether its answers are complete.

use super::AuditLog;
use crate::{Error, Health, Result, requests};

impl AuditLog {
    /// The store's health.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), [`Io`](crate::ErrorKind::Io) and [`Closed`](crate::ErrorKind::Closed). Damage that
    /// was found when the store was opened is not an error here: see [`Health::damage`].
    ///
    /// ```
    /// # use attestlog::{Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// let log = Options::new().quota_bytes(10 << 30).create(dir.path().join("audit.log"))?;
    /// let begun = log.begin(ToolCall::new("conv_1", "usr_1", "issue_refund"))?;
    /// let health = log.health()?;
    /// assert_eq!((health.unfinished_calls, health.over_quota()), (1, Some(false)));
    /// # drop(begun);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self) -> Result<Health> {
        self.ask(requests::GetHealth {})
    }

    /// Problems with the permissions of the store's file and folder that let users other than the owner replace or read it: one
    /// sentence each, with the remedy. Empty if there are none, or if the store is not a file. Call it after opening: the library
    /// itself prints nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let log = attestlog::AuditLog::create(dir.path().join("audit.log"))?;
    /// assert!(log.warnings()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn warnings(&self) -> Result<Vec<String>> {
        self.ask(requests::Warnings {})
    }

    /// What was wrong with the store when it was opened, if anything: an entry that cannot be read or was changed, policies and
    /// holds that are not those that were signed, tables that could not be written to. Recording is then refused, and queries,
    /// counts, statistics, timelines, holds, grants and alerts return this error unless they are asked through
    /// [`AuditLog::despite_damage`]. Covers only what opening checks: [`AuditLog::verify`] checks everything.
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.damage()?.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn damage(&self) -> Result<Option<Error>> {
        self.ask(requests::GetDamage {})
    }

    /// The same log for callers that continue in spite of [`AuditLog::damage`]: it answers with what can be read, so entries may be
    /// missing. Say so wherever you show the answers.
    ///
    /// ```
    /// # use attestlog::Query;
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// let answers = log.despite_damage().query(&Query::new())?.count();
    /// match log.damage()? {
    ///     Some(damage) => println!("{answers} entries, and there may be more: {damage}"),
    ///     None => println!("{answers} entries"),
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn despite_damage(&self) -> AuditLog {
        AuditLog { despite: true, ..self.clone() }
    }

    /// Fails if the store's path names another file than the open one, or if another program has overwritten the file. Calls
    /// that read entries or record check this themselves; this check is for answers from memory.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io): the path names another file, or none. [`Damaged`](crate::ErrorKind::Damaged): the file was
    /// overwritten; this handle no longer records or reads. [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # let log = AuditLog::create(&path)?;
    /// log.check_file()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check_file(&self) -> Result<()> {
        self.ask(requests::CheckFile {})
    }

    /// Checks, without recording, whether recording is possible: the store was opened without damage, and its keys are available or
    /// not required ([`Options::unsigned`](crate::Options::unsigned)).
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`]; [`Key`](crate::ErrorKind::Key): the key file is missing, or is
    /// not this store's; [`OtherHistory`](crate::ErrorKind::OtherHistory): another process changed the key file since it was read.
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// log.check_recording()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn check_recording(&self) -> Result<()> {
        self.ask(requests::CheckRecording {})
    }
}

//! Verification, checkpoints, the proof of one entry, and copies of the store.

use super::AuditLog;
use crate::note::{SignedCheckpoint, VerifierKey};
use crate::proof::InclusionProof;
use crate::verify::{Verification, VerifyOptions};
use crate::{Backup, Result, requests};
use std::path::Path;

/// Who is told of the progress of a verification in another process.
pub(super) fn told(options: &VerifyOptions) -> impl FnMut(u64, u64) {
    let told = options.told();
    move |done, of| told.iter().for_each(|told| told(done, of))
}

impl AuditLog {
    /// Checks every entry, every link and every derived row.
    ///
    /// # Errors
    /// Only if the store cannot be read at all ([`Io`](crate::ErrorKind::Io), [`Closed`](crate::ErrorKind::Closed)); whatever is
    /// wrong with its contents is in [`Verification::findings`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # use attestlog::verify::VerifyOptions;
    /// # let log = AuditLog::in_memory()?;
    /// # log.record(ToolCall::new("c", "u", "lookup"))?;
    /// let verification = log.verify(&VerifyOptions::new())?;
    /// assert!(verification.ok(), "{:?}", verification.findings);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn verify(&self, options: &VerifyOptions) -> Result<Verification> {
        self.ask_telling(requests::Verify { options: options.clone() }, &mut told(options))
    }

    /// A proof that the entry at `seq` is in the log, against a checkpoint of the current log.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): never recorded, or purged; as [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("c", "u", "lookup"))?;
    /// let file = log.prove(receipt.seq)?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key()?.unwrap()).unwrap();
    /// # let _ = checked;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove(&self, seq: u64) -> Result<InclusionProof> {
        self.ask(requests::Prove { seq })
    }

    /// Signs a checkpoint of the log's current state.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key) if the store's keys are not available; [`OtherHistory`](crate::ErrorKind::OtherHistory) if
    /// the keys have signed a longer or different history, which means that this is an older copy; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let signed = log.checkpoint()?;
    /// assert_eq!(signed.checkpoint().size(), log.size()?);
    /// println!("{signed}"); // to be kept elsewhere
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn checkpoint(&self) -> Result<SignedCheckpoint> {
        self.ask(requests::Checkpoint {})
    }

    /// The public half of the log key, which auditors keep; `None` for a store without keys.
    ///
    /// # Errors
    /// As [`AuditLog::size`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// println!("for the auditor: {}", log.public_key()?.unwrap());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn public_key(&self) -> Result<Option<VerifierKey>> {
        self.ask(requests::PublicKey {})
    }

    /// Copies this store to `dest` while recording continues. An entry about the copy, with its file name (not its path), is
    /// recorded first, so the copy ends with it and with the checkpoint over it. The file is readable only by
    /// its owner and does not contain the keys (see [`KeyFile::backup`](crate::keys::KeyFile::backup)).
    ///
    /// Index batches and purges wait until the copy is made; meanwhile the index of new entries stays in memory.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything exists at `dest`; [`DiskFull`](crate::ErrorKind::DiskFull)
    /// and other errors of the file system; as [`AuditLog::record`]. On an error no copy is left behind, because the log would have
    /// no entry about it.
    /// ```
    /// # use attestlog::{AuditLog, Options, ToolCall};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = AuditLog::in_memory()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let backup = log.backup(dir.path().join("audit-2025-07-06.log"))?;
    /// assert_eq!(backup.size, backup.receipt.seq + 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<Backup> {
        self.ask(requests::BackUp { dest: std::path::absolute(dest)? })
    }

    /// Like [`AuditLog::backup`], and reports progress: rows copied, and approximate total.
    ///
    /// # Errors
    /// As [`AuditLog::backup`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("audit.log");
    /// # let log = AuditLog::create(&path)?;
    /// log.backup_with(dir.path().join("copy.log"), |rows, of| eprintln!("{rows} of about {of}"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup_with(&self, dest: impl AsRef<Path>, progress: impl FnMut(u64, u64)) -> Result<Backup> {
        let mut progress = progress;
        match self.here()? {
            Some(store) => store.backup_with(dest, progress),
            None => self.ask_telling(requests::BackUp { dest: std::path::absolute(dest)? }, &mut progress),
        }
    }

    /// Writes the in-memory index to the file, however small it is.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// log.flush_index()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn flush_index(&self) -> Result<()> {
        self.ask(requests::FlushIndex {})
    }
}

//! Proofs at the newest checkpoint that was signed already: what can be shown of a store that nothing may be written to.

use super::complete::Neighbours;
use crate::merkle;
use crate::note::SignedCheckpoint;
use crate::proof::{CompleteProof, ConsistencyProof, InclusionProof};
use crate::store::engine::handover::Log as _;
use crate::store::guarded;
use crate::{AuditLog, Error, ErrorKind, Facet, Result, Verification, VerifyOptions};
use std::path::Path;

/// Proofs against the newest signed checkpoint. Nothing is written and no key is needed, so they can be had of a copy without
/// its key and of a store that is open for reading only. They say nothing of what lies [beyond](AtCheckpoint::beyond).
#[derive(Debug, Clone)]
pub struct AtCheckpoint<'l> {
    log: &'l AuditLog,
    checkpoint: SignedCheckpoint,
}

impl AuditLog {
    /// Proofs at the newest checkpoint that was signed, which sign none.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): none was ever signed; what the file says.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("c", "u", "lookup"))?.seq;
    /// log.checkpoint()?;
    /// let beyond = log.record(ToolCall::new("c", "u", "lookup"))?.seq;
    /// let signed = log.at_checkpoint()?;
    /// assert_eq!(signed.beyond(), 1);
    /// signed.prove(seq)?;
    /// assert_eq!(signed.prove(beyond).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn at_checkpoint(&self) -> Result<AtCheckpoint<'_>> {
        let signed = self.snapshot()?.state.signed;
        if signed == 0 {
            let message = "no checkpoint of this store was ever signed, so there is none to prove anything against";
            return Err(Error::new(ErrorKind::NoSuchEntry, message));
        }
        Ok(AtCheckpoint { log: self, checkpoint: guarded(|| self.engine().newest_checkpoint(signed))? })
    }
}

impl AtCheckpoint<'_> {
    /// The checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// How many entries the checkpoint covers.
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    /// How many entries were recorded after it, of which these proofs say nothing.
    pub fn beyond(&self) -> u64 {
        self.log.size().saturating_sub(self.size())
    }

    /// What is wrong where the keys that are here signed more than this store has, or something else: then it is an older copy, or was
    /// changed, and the newest checkpoint in it is not the newest that there is. `None` also where the keys are not here.
    pub fn key_conflict(&self) -> Option<String> {
        self.log.engine().key_conflict(self.log.size())
    }

    /// As [`AuditLog::prove`].
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry) also for an entry that lies beyond the checkpoint.
    pub fn prove(&self, seq: u64) -> Result<InclusionProof> {
        let entry = self.log.entry(seq)?;
        if seq >= self.size() {
            let message = format!(
                "entry {seq} lies beyond the newest signed checkpoint, which covers {} entries: to prove it a newer one must be \
                 signed",
                self.size()
            );
            return Err(Error::new(ErrorKind::NoSuchEntry, message));
        }
        let snapshot = self.log.snapshot()?;
        let path = guarded(|| merkle::inclusion_proof(&snapshot, seq, self.size()))?;
        Ok(InclusionProof { seq, line: entry.line().into_bytes(), path, checkpoint: self.checkpoint.clone() })
    }

    /// As [`AuditLog::prove_consistent`].
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) also where `old` covers more than the newest checkpoint does.
    pub fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
        self.log.check_extends(old)?;
        let old = old.checkpoint();
        if old.size() > self.size() {
            let message = format!(
                "the checkpoint covers {} entries, the newest signed one of the store {}: a newer one must be signed",
                old.size(),
                self.size()
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.log.consistent_under(old, self.checkpoint.clone())
    }

    /// As [`AuditLog::prove_complete`]: of the entries that the checkpoint covers. The index is not written, so what no index
    /// batch below the checkpoint covers has to be shown entry by entry, other people's calls included, which takes
    /// [`Neighbours::Reveal`].
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) also where entries were purged after the checkpoint that it would have to account for.
    pub fn prove_complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        let snapshot = self.log.snapshot()?;
        self.log.complete_under(self.checkpoint.clone(), &snapshot, facet, value, neighbours)
    }

    /// As [`AuditLog::write_evidence`]: the entries that the checkpoint covers. The verification is of the whole store.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) also where entries were purged after the checkpoint.
    pub fn write_evidence(&self, dir: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verification> {
        self.log.evidence_under(&self.checkpoint, dir.as_ref(), options)
    }
}

//! Proofs against the newest checkpoint that is already signed: for stores that nothing may be written to.

use super::complete::Neighbours;
use crate::merkle;
use crate::note::SignedCheckpoint;
use crate::proof::{CompleteProof, ConsistencyProof, InclusionProof};
use crate::store::OpenStore;
use crate::store::engine::handover::Log as _;
use crate::store::guarded;
use crate::verify::{Verification, VerifyOptions};
use crate::{Error, ErrorKind, Facet, Result};
use std::path::Path;

/// Proofs at a checkpoint that was signed before.
#[derive(Debug)]
pub(crate) struct AtSigned<'l> {
    log: &'l OpenStore,
    checkpoint: SignedCheckpoint,
}

impl OpenStore {
    /// The newest checkpoint that was signed.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): none was ever signed.
    pub(crate) fn newest_signed(&self) -> Result<SignedCheckpoint> {
        let signed = self.snapshot()?.state.signed;
        if signed == 0 {
            let message = "no checkpoint of this store was ever signed, so there is none to prove anything against";
            return Err(Error::new(ErrorKind::NoSuchEntry, message));
        }
        guarded(|| self.engine().newest_checkpoint(signed))
    }

    /// Proofs at the checkpoint of this size. It is read here, whoever named its size: nobody else's word is in a proof.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): none was signed at this size.
    pub(crate) fn at_signed(&self, size: u64) -> Result<AtSigned<'_>> {
        let signed = self.snapshot()?.state.signed;
        let checkpoint = match size.min(signed) {
            0 => None,
            of => {
                Some(guarded(|| self.engine().newest_checkpoint(of))?).filter(|found| found.checkpoint().size() == size)
            }
        };
        let none = || Error::new(ErrorKind::NoSuchEntry, format!("no checkpoint of {size} entries was signed"));
        Ok(AtSigned { log: self, checkpoint: checkpoint.ok_or_else(none)? })
    }

    /// What is wrong where the keys that are here signed more than this store has, or something else.
    pub(crate) fn key_conflict(&self) -> Option<String> {
        self.engine().key_conflict(self.size())
    }
}

impl AtSigned<'_> {
    fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    /// As [`AuditLog::prove`].
    pub(crate) fn prove(&self, seq: u64) -> Result<InclusionProof> {
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

    /// As [`Proofs::consistent`](crate::groups::Proofs::consistent).
    pub(crate) fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
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

    /// As [`Proofs::complete`](crate::groups::Proofs::complete): of the entries that the checkpoint covers. The index is not written.
    pub(crate) fn prove_complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        let snapshot = self.log.snapshot()?;
        self.log.complete_under(self.checkpoint.clone(), &snapshot, facet, value, neighbours)
    }

    /// As [`Proofs::write_evidence`](crate::groups::Proofs::write_evidence): the entries that the checkpoint covers. The
    /// verification is of the whole store.
    pub(crate) fn write_evidence(&self, dir: &Path, options: &VerifyOptions) -> Result<Verification> {
        self.log.evidence_under(&self.checkpoint, dir, options)
    }
}

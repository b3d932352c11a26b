//! Proofs about a store, for people who trust neither the machine nor the program.
//!
//! Here: that an entry is in the log, and that the log only grew. `complete`: that nothing is missing from an answer.
//! `evidence`: the whole log in a folder.
//! What comes out is checked in `proof`, without the store.

mod complete;
mod evidence;

pub use complete::Neighbours;

use crate::merkle;
use crate::note::SignedCheckpoint;
use crate::proof::{ConsistencyProof, InclusionProof};
use crate::store::guarded;
use crate::{AuditLog, Error, ErrorKind, Hash, Result};

impl AuditLog {
    /// The proof that the entry at `seq` is in the log, against a checkpoint of the log as it is now.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): never recorded, or purged; as [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let receipt = log.record(ToolCall::new("c", "u", "lookup"))?;
    /// let file = log.prove(receipt.seq)?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key().unwrap()).unwrap();
    /// # let _ = checked;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove(&self, seq: u64) -> Result<InclusionProof> {
        // Before anything is signed: a proof of nothing should not leave a checkpoint behind.
        let entry = self.entry(seq)?;
        let checkpoint = self.checkpoint()?;
        let snapshot = self.snapshot()?;
        let path = guarded(|| merkle::inclusion_proof(&snapshot, seq, checkpoint.checkpoint().size()))?;
        Ok(InclusionProof { seq, line: entry.line().into_bytes(), path, checkpoint })
    }

    /// The proof that the log as it is now extends what an earlier checkpoint of it signed.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict): the log is not the checkpoint's, is shorter, or has another history; as
    /// [`AuditLog::checkpoint`].
    pub fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
        let old = old.checkpoint();
        let key = self.public_key().ok_or_else(|| Error::new(ErrorKind::Key, "the store was made without keys"))?;
        if old.origin() != key.name() {
            let message = format!("the checkpoint is of {}, the store is {}", old.origin(), key.name());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if old.size() > self.size() {
            let message =
                format!("the checkpoint covers {} entries, the store has {}: it was cut", old.size(), self.size());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if self.root_at(old.size())? != old.root() {
            let message = format!("the first {} entries are not those that the checkpoint signed: a fork", old.size());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let checkpoint = self.checkpoint()?;
        let snapshot = self.snapshot()?;
        let proof = guarded(|| merkle::consistency_proof(&snapshot, old.size(), checkpoint.checkpoint().size()))?;
        Ok(ConsistencyProof { old_size: old.size(), old_root: old.root(), proof, checkpoint })
    }

    /// The RFC 6962 root over the first `size` entries.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): the log is shorter; or entries were purged and no checkpoint was ever
    /// signed at that size.
    pub fn root_at(&self, size: u64) -> Result<Hash> {
        let snapshot = self.snapshot()?;
        if size > snapshot.size {
            let message = format!("the log has {} entries, not {size}", snapshot.size);
            return Err(Error::new(ErrorKind::NoSuchEntry, message));
        }
        guarded(|| merkle::root(&snapshot, size))
    }
}

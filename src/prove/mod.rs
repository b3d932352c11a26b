//! Making proofs about a store, for people who trust neither the machine nor the program.
//!
//! This file proves that an entry is in the log, that the log only grew, and that a sealed value is the one shown.
//! `complete` proves that nothing is missing from an answer. `evidence` writes the whole log into a folder. `at` makes
//! proofs against a checkpoint that is already signed, so that nothing is written. `attestlog-proof` checks the results
//! without the store.

mod at;
mod complete;
mod evidence;

pub use complete::Neighbours;

use crate::json::Path;
use crate::merkle;
use crate::note::{Checkpoint, SignedCheckpoint};
use crate::proof::{ConsistencyProof, InclusionProof, RevealProof};
use crate::store::OpenStore;
use crate::store::guarded;
use crate::text::Justification;
use crate::{Error, ErrorKind, Hash, Result};

impl OpenStore {
    /// The proof that the entry at `seq` is in the log, against a checkpoint of the log as it is now.
    pub(crate) fn prove(&self, seq: u64) -> Result<InclusionProof> {
        // Before anything is signed: a failed proof should not leave a checkpoint behind.
        let entry = self.entry(seq)?;
        let checkpoint = self.checkpoint()?;
        let snapshot = self.snapshot()?;
        let path = guarded(|| merkle::inclusion_proof(&snapshot, seq, checkpoint.checkpoint().size()))?;
        Ok(InclusionProof { seq, line: entry.line().into_bytes(), path, checkpoint })
    }

    /// The proof that the value sealed at `path` of the entry is this one, without opening any other. Whoever has it can
    /// read the value, and what the entry holds unsealed. That it was shown, to whom and why, is recorded first, as for
    /// [`Privacy::reveal`](crate::groups::Privacy::reveal).
    pub(crate) fn prove_reveal(&self, seq: u64, path: &str, by: Justification<'_>) -> Result<RevealProof> {
        let place = Path::parse(path).map_err(Error::invalid)?;
        let opened = self.reveal_opened(seq, path, by)?;
        let entry = self.prove(seq)?;
        RevealProof::new(entry, place, opened).map_err(|e| Error::damaged(e.to_string()).with_source(e))
    }

    /// The proof that the log as it is now extends what an earlier checkpoint of it signed.
    pub(crate) fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
        self.check_extends(old)?;
        self.consistent_under(old.checkpoint(), self.checkpoint()?)
    }

    /// Refuses a checkpoint that this log does not extend.
    fn check_extends(&self, old: &SignedCheckpoint) -> Result<()> {
        let old = old.checkpoint();
        let key = self.public_key().ok_or_else(|| Error::new(ErrorKind::Key, "the store was made without keys"))?;
        if old.origin() != key.name() {
            let message =
                format!("the checkpoint is of the log {}, and this store is the log {}", old.origin(), key.name());
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
        Ok(())
    }

    fn consistent_under(&self, old: &Checkpoint, checkpoint: SignedCheckpoint) -> Result<ConsistencyProof> {
        let snapshot = self.snapshot()?;
        let proof = guarded(|| merkle::consistency_proof(&snapshot, old.size(), checkpoint.checkpoint().size()))?;
        Ok(ConsistencyProof { old_size: old.size(), old_root: old.root(), proof, checkpoint })
    }

    /// The RFC 6962 root over the first `size` entries.
    pub(crate) fn root_at(&self, size: u64) -> Result<Hash> {
        let snapshot = self.snapshot()?;
        if size > snapshot.size {
            let message = format!("the log has {} entries, not {size}", snapshot.size);
            return Err(Error::new(ErrorKind::NoSuchEntry, message));
        }
        guarded(|| merkle::root(&snapshot, size))
    }
}

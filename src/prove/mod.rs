//! Making proofs about a store, for people who trust neither the machine nor the program.
//!
//! Here: that an entry is in the log, that the log only grew, that a sealed value is this one. `complete`: that nothing is missing from an
//! answer. `evidence`: the whole log in a folder. `at`: proofs at a checkpoint that was signed before, so that nothing is written. What comes out is
//! checked by `attestlog-proof`, without the store.

mod at;
mod complete;
mod evidence;

pub use at::AtCheckpoint;
pub use complete::Neighbours;

use crate::json::Path;
use crate::merkle;
use crate::note::{Checkpoint, SignedCheckpoint};
use crate::proof::{ConsistencyProof, InclusionProof, RevealProof};
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

    /// The proof that the value sealed at `path` of the entry is this one, without opening any other. Whoever has it can
    /// read the value, and what the entry holds unsealed. That it was shown, to whom and why, is recorded first, as for
    /// [`AuditLog::reveal`].
    ///
    /// # Errors
    /// As [`AuditLog::reveal`] and [`AuditLog::checkpoint`]; [`Damaged`](ErrorKind::Damaged) where what opens is not what
    /// the entry commits to.
    ///
    /// ```
    /// # use attestlog::redact::{Action, Policy, Preset};
    /// # use attestlog::{AuditLog, Options, PolicySet, ToolCall, json::Json};
    /// # let mut policies = PolicySet::default();
    /// # policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build()?;
    /// # let log = Options::new().policies(policies).in_memory()?;
    /// let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#)?.value;
    /// let seq = log.record(ToolCall::new("c", "u", "enrol").patient("P-1").arguments(arguments))?.seq;
    /// let file = log.prove_reveal(seq, "arguments.ssn", "dr_no", "claim 17")?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key().unwrap()).unwrap();
    /// assert_eq!(checked.to_json().get("value"), Some(&Json::from("460-89-9847")));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove_reveal(&self, seq: u64, path: &str, actor: &str, reason: &str) -> Result<RevealProof> {
        let place = Path::parse(path).map_err(Error::invalid)?;
        let opened = self.reveal_opened(seq, path, actor, reason)?;
        let entry = self.prove(seq)?;
        RevealProof::new(entry, place, opened).map_err(|e| Error::damaged(e.to_string()).with_source(e))
    }

    /// The proof that the log as it is now extends what an earlier checkpoint of it signed.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict): the log is not the checkpoint's, is shorter, or has another history; as
    /// [`AuditLog::checkpoint`].
    pub fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
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

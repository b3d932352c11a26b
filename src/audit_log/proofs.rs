//! Proofs other than that of one entry, and evidence folders.

use super::AuditLog;
use super::prove::told;
use crate::note::SignedCheckpoint;
use crate::proof::{CompleteProof, ConsistencyProof, InclusionProof, RevealProof};
use crate::text::Justification;
use crate::verify::{Verification, VerifyOptions};
use crate::{Facet, Hash, Neighbours, Result, requests};
use std::path::Path;

/// What can be proven of a log: see [`AuditLog::proofs`].
#[derive(Debug)]
pub struct Proofs<'l>(&'l AuditLog);

impl AuditLog {
    /// Proofs of completeness, of consistency and of single values, and evidence folders.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let old = log.checkpoint()?;
    /// assert_eq!(log.proofs().root_at(old.checkpoint().size())?, old.checkpoint().root());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn proofs(&self) -> Proofs<'_> {
        Proofs(self)
    }
}

impl<'l> Proofs<'l> {
    /// Every entry with this value of a facet, with a proof that none is missing. Users, patients and conversations are named in
    /// clear, or by pseudonym.
    ///
    /// Writes the pending index batch first, so that entries not yet indexed need not be disclosed; signs a checkpoint. Reads the
    /// whole index, and holds the proof in memory.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if other people's calls would have to be disclosed and `neighbours` withholds them;
    /// [`Key`](crate::ErrorKind::Key) if the store's keys, or a pseudonym key that was once in use, are not available;
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the proof would exceed the size limit of proof files;
    /// [`Damaged`](crate::ErrorKind::Damaged) if the index is not the one that the log's batches name; as [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, Neighbours, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("c", "u", "lookup").patient("P-1"))?.seq;
    /// let file = log.proofs().complete(Facet::Patient, "P-1", Neighbours::Withhold)?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key()?.unwrap()).unwrap();
    /// assert_eq!(checked.to_json().get("seqs").unwrap().to_canonical().as_str(), format!("[{seq}]"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        self.0.ask(requests::ProveComplete { facet, value: value.to_owned(), neighbours })
    }

    /// A proof of the one value sealed at `path` of the entry; no other sealed value is opened. The holder of the proof can read
    /// the value, and the unsealed parts of the entry. Before the proof is made, an entry records who asked for it and why, as for
    /// [`Privacy::reveal`](crate::groups::Privacy::reveal).
    ///
    /// # Errors
    /// As [`Privacy::reveal`](crate::groups::Privacy::reveal) and [`AuditLog::checkpoint`]; [`Damaged`](crate::ErrorKind::Damaged)
    /// if the opened value does not match the commitment in the entry.
    ///
    /// ```
    /// # use attestlog::redact::{Action, Policy, Preset};
    /// # use attestlog::{Justification, AuditLog, Options, PolicySet, ToolCall, json::Json};
    /// # let mut policies = PolicySet::default();
    /// # policies.redaction = Policy::builder(Preset::Default).field("ssn", Action::Seal).build()?;
    /// # let log = Options::new().policies(policies).in_memory()?;
    /// let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#)?.value;
    /// let seq = log.record(ToolCall::new("c", "u", "enrol").patient("P-1").arguments(arguments))?.seq;
    /// let file = log.proofs().reveal(seq, "arguments.ssn", Justification { actor: "dr_no", reason: "claim 17" })?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key()?.unwrap()).unwrap();
    /// assert_eq!(checked.to_json().get("value"), Some(&Json::from("460-89-9847")));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn reveal(&self, seq: u64, path: &str, by: Justification<'_>) -> Result<RevealProof> {
        self.0.ask(requests::ProveReveal { seq, path: path.to_owned(), by: by.into() })
    }

    /// A proof that the current log extends an earlier checkpoint of it.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict): the checkpoint is of another log, the log is shorter, or it has another history;
    /// as [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let old = log.checkpoint()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// let proof = log.proofs().consistent(&old)?;
    /// assert_eq!(proof.old_size, old.checkpoint().size());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
        self.0.ask(requests::ProveConsistent { old: old.clone() })
    }

    /// The RFC 6962 root over the first `size` entries.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): the log is shorter, or entries were purged and no checkpoint was ever signed
    /// at that size.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let signed = log.checkpoint()?;
    /// assert_eq!(log.proofs().root_at(signed.checkpoint().size())?, signed.checkpoint().root());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn root_at(&self, size: u64) -> Result<Hash> {
        self.0.ask(requests::RootAt { size })
    }

    /// Writes the whole log into a new folder that can be checked with standard tools: every entry's line, the hashes of purged
    /// entries, a current checkpoint, the public keys, what each purge removed, and the report of a verification. Only the folder's
    /// owner may read it. Signs a checkpoint; the verification with `options` takes as long as [`AuditLog::verify`].
    ///
    /// A folder is written even if the verification has findings; its report lists them. The returned verification is that report.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists): something exists at `dir`; [`Damaged`](crate::ErrorKind::Damaged): an
    /// entry is neither present nor purged, so that no folder could be valid; [`Conflict`](crate::ErrorKind::Conflict): entries
    /// were purged meanwhile, try again; as [`AuditLog::checkpoint`]. On an error nothing is left at `dir`.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # use attestlog::verify::VerifyOptions;
    /// # let log = AuditLog::in_memory()?;
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("evidence");
    /// log.record(ToolCall::new("c", "u", "lookup"))?;
    /// log.proofs().write_evidence(&dir, &VerifyOptions::new())?;
    /// assert_eq!(std::fs::read_to_string(dir.join("entries.jsonl"))?.lines().count(), 3);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn write_evidence(&self, dir: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verification> {
        let ask = requests::WriteEvidence { dir: std::path::absolute(dir)?, options: options.clone() };
        self.0.ask_telling(ask, &mut told(options))
    }

    /// Proofs against the newest signed checkpoint; no new one is signed.
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): no checkpoint was ever signed; [`Damaged`](crate::ErrorKind::Damaged),
    /// [`Io`](crate::ErrorKind::Io) and [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::{AuditLog, ErrorKind, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("c", "u", "lookup"))?.seq;
    /// log.checkpoint()?;
    /// let beyond = log.record(ToolCall::new("c", "u", "lookup"))?.seq;
    /// let signed = log.proofs().at_checkpoint()?;
    /// assert_eq!(signed.beyond()?, 1);
    /// signed.prove(seq)?;
    /// assert_eq!(signed.prove(beyond).unwrap_err().kind(), ErrorKind::NoSuchEntry);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn at_checkpoint(&self) -> Result<AtCheckpoint<'l>> {
        Ok(AtCheckpoint { log: self.0, checkpoint: self.0.ask(requests::Signed {})? })
    }
}

/// Proofs against the newest signed checkpoint. Nothing is written and no key is needed, so they work with a copy that has no key
/// and with a store that is open for reading only. They do not cover entries [beyond](AtCheckpoint::beyond) the checkpoint.
#[derive(Debug, Clone)]
pub struct AtCheckpoint<'l> {
    log: &'l AuditLog,
    checkpoint: SignedCheckpoint,
}

impl AtCheckpoint<'_> {
    /// The checkpoint.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let signed = log.proofs().at_checkpoint()?;
    /// println!("{}", signed.checkpoint()); // as it was signed, to be kept elsewhere
    /// # let _ = seq;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// How many entries the checkpoint covers.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// assert!(log.proofs().at_checkpoint()?.size() > seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    /// How many entries were recorded after the checkpoint; these proofs do not cover them.
    ///
    /// # Errors
    /// As [`AuditLog::size`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let signed = log.proofs().at_checkpoint()?;
    /// log.record(ToolCall::new("conv_1", "usr_1", "lookup"))?;
    /// assert_eq!(signed.beyond()?, 1);
    /// # let _ = seq;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn beyond(&self) -> Result<u64> {
        Ok(self.log.size()?.saturating_sub(self.size()))
    }

    /// A description of the conflict if the available keys signed more entries than this store has, or other entries: the store is
    /// then an older copy or was changed, and its newest checkpoint is not the newest that exists. `None` also if no keys are
    /// available.
    ///
    /// # Errors
    /// As [`AuditLog::size`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// assert_eq!(log.proofs().at_checkpoint()?.key_conflict()?, None);
    /// # let _ = seq;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn key_conflict(&self) -> Result<Option<String>> {
        self.log.ask(requests::KeyConflict {})
    }

    /// As [`AuditLog::prove`].
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry) also for an entry beyond the checkpoint.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let file = log.proofs().at_checkpoint()?.prove(seq)?.to_string();
    /// attestlog::proof::check(file.as_bytes(), &log.public_key()?.unwrap()).unwrap();
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove(&self, seq: u64) -> Result<InclusionProof> {
        self.log.ask(requests::ProveSigned { size: self.size(), seq })
    }

    /// As [`Proofs::consistent`].
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) also if `old` covers more entries than the newest checkpoint.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let old = log.checkpoint()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let proof = log.proofs().at_checkpoint()?.prove_consistent(&old)?;
    /// assert_eq!(proof.old_size, old.checkpoint().size());
    /// # let _ = seq;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove_consistent(&self, old: &SignedCheckpoint) -> Result<ConsistencyProof> {
        self.log.ask(requests::ProveSignedConsistent { size: self.size(), old: old.clone() })
    }

    /// As [`Proofs::complete`], for the entries that the checkpoint covers. The pending index batch is not written, so entries that
    /// no index batch below the checkpoint covers must be disclosed one by one, other people's calls included; this requires
    /// [`Neighbours::Reveal`].
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) also if entries that the proof would have to account for were purged after the
    /// checkpoint.
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, Neighbours, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let signed = log.proofs().at_checkpoint()?;
    /// let file = signed.prove_complete(Facet::Patient, "P-1", Neighbours::Reveal)?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key()?.unwrap()).unwrap();
    /// assert_eq!(checked.to_json().get("seqs").unwrap().to_canonical().as_str(), format!("[{seq}]"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove_complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        let (size, value) = (self.size(), value.to_owned());
        self.log.ask(requests::ProveSignedComplete { size, facet, value, neighbours })
    }

    /// As [`Proofs::write_evidence`], for the entries that the checkpoint covers. The verification covers the whole store.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) also if entries were purged after the checkpoint.
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall, verify::VerifyOptions};
    /// # let log = AuditLog::in_memory()?;
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("evidence");
    /// let seq = log.record(ToolCall::new("conv_1", "usr_1", "lookup").patient("P-1"))?.seq;
    /// log.checkpoint()?;
    /// let report = log.proofs().at_checkpoint()?.write_evidence(&dir, &VerifyOptions::new())?;
    /// assert!(report.ok() && dir.join("entries.jsonl").exists());
    /// # let _ = seq;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_evidence(&self, dir: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verification> {
        let (size, dir) = (self.size(), std::path::absolute(dir)?);
        let ask = requests::WriteSignedEvidence { size, dir, options: options.clone() };
        self.log.ask_telling(ask, &mut told(options))
    }
}

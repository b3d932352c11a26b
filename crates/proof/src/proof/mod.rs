//! Proof files: for somebody who has the log's public key and nothing else.
//!
//! That an entry is in the log: a C2SP tlog-proof, whose `extra` line is the base64 of the entry's line. That the log only
//! grew: a JSON object with both sizes and roots, the hashes and the later checkpoint. That no entry is missing from an
//! answer (`complete`), and what a sealed value is (`reveal`): JSON objects that name their `kind`. Parsing only shows that
//! a file is well-formed; [`Proof::check`] says whether it proves something, and what. All of that rests on the log key's
//! signature. Whether the epoch key in force signed too can be checked only with the [`Succession`]; a check without it
//! says so. Everything is bounded before it is read.

mod complete;
mod reveal;
mod text;

pub use complete::{CompleteProof, Mapping, RowTerm, ShownBatch, ShownEntry, ShownRow};
pub use complete::{KEYS, has_pseudonyms, pseudonym_keys};
pub use reveal::RevealProof;

use crate::json::{Json, Limits, Object, Path};
use crate::merkle::{self, ProofError};
use crate::note::{EpochError, NoteError, SignedCheckpoint, Succession, VerifierKey, parse_32, parse_decimal};
use crate::purge::PurgeRecord;
use crate::seqs::SeqSet;
use crate::{Facet, Hash, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The most bytes a proof file may have: the largest entry in base64, with room to spare.
pub const MAX_PROOF_BYTES: usize = 64 << 20;

/// No tree whose size fits 64 bits needs more hashes for an inclusion proof; a consistency proof has one more at most.
const MAX_HASHES: usize = 65;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Larger than [`MAX_PROOF_BYTES`].
    #[error("the proof has {0} bytes, more than the limit of {MAX_PROOF_BYTES}")]
    TooLarge(usize),
    /// It contradicts what the caller gave: a checkpoint that was kept, a later proof, or the value asked about.
    #[error("{0}")]
    Contradicted(String),
    /// Not a proof in any known form.
    #[error("not a proof: {0}")]
    Malformed(String),
    /// A kind of JSON proof that this version does not know.
    #[error("a proof of the kind {0:?}, which this version does not know")]
    UnknownKind(String),
    /// The line in the proof is not an entry, or is an entry with another number.
    #[error("the entry in the proof is {0}")]
    Entry(String),
    /// The file and the checkpoint in it state different values.
    #[error("the checkpoint in the proof has another {0}")]
    Mismatch(&'static str),
    /// It does not show that nothing is missing.
    #[error("the proof is not complete: {0}")]
    Incomplete(String),
    /// The value is not the one that was sealed.
    #[error("{0}")]
    Reveal(String),
    /// The checkpoint is malformed or not signed by the log key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The hashes do not prove the statement.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The checkpoint is not signed by the epoch in force.
    #[error(transparent)]
    Epoch(#[from] EpochError),
}

impl From<CheckError> for crate::Error {
    fn from(e: CheckError) -> crate::Error {
        let kind = match e {
            CheckError::TooLarge(_) => crate::ErrorKind::TooLarge,
            _ => crate::ErrorKind::InvalidInput,
        };
        crate::Error::new(kind, e.to_string()).with_source(e)
    }
}

/// Proves that an entry is in the log. Prints as a C2SP tlog-proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's number.
    pub seq: u64,
    /// The entry's canonical line: what was hashed.
    pub line: Vec<u8>,
    /// The hashes from the entry's sibling up, as [`merkle::inclusion_proof`] gives them.
    pub path: Vec<Hash>,
    /// The checkpoint whose root they lead to.
    pub checkpoint: SignedCheckpoint,
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nextra {}\nindex {}", STANDARD.encode(&self.line), self.seq)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl InclusionProof {
    /// Reads a C2SP tlog-proof without checking what it proves.
    ///
    /// # Errors
    /// [`CheckError::Malformed`], [`CheckError::TooLarge`] or [`CheckError::Note`]: the form is wrong.
    pub fn parse(bytes: &[u8]) -> Result<InclusionProof, CheckError> {
        let wrong = |what: &str| CheckError::Malformed(what.to_owned());
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(CheckError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| wrong("no blank line before the checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(wrong("its first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.ok_or_else(|| wrong("no extra line, which carries the entry"))?;
        let line = STANDARD.decode(extra).map_err(|_| wrong("its extra line is not base64"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let seq = index.and_then(parse_decimal).ok_or_else(|| wrong("no index line with a decimal number"))?;
        let mut path = Vec::new();
        for hash in lines {
            if path.len() == MAX_HASHES {
                return Err(wrong("more hashes than any tree needs"));
            }
            path.push(Hash(parse_32(hash).ok_or_else(|| wrong("a hash is not the base64 of 32 bytes"))?));
        }
        Ok(InclusionProof { seq, line, path, checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())? })
    }

    fn check(self) -> Result<Proven, CheckError> {
        let checkpoint = self.checkpoint.checkpoint();
        let (seq, size, root) = (self.seq, checkpoint.size(), checkpoint.root());
        merkle::verify_inclusion(seq, size, Hash::leaf(&self.line), &self.path, root)?;
        // The proof is of this line at this place. A line that states another number is not this log's.
        let parsed =
            Json::parse_within(&self.line, &Limits::bytes(MAX_PROOF_BYTES).values(65_536 + self.line.len() / 4));
        let parsed = parsed.map_err(|e| CheckError::Entry(format!("not an entry: {e}")))?;
        match parsed.value.get("seq").and_then(Json::as_u64) {
            Some(own) if own == seq => {}
            Some(own) => return Err(CheckError::Entry(format!("number {own}, not {seq}"))),
            None => return Err(CheckError::Entry("without a number".to_owned())),
        }
        let line = String::from_utf8(self.line).map_err(|_| CheckError::Entry("not UTF-8".to_owned()))?;
        Ok(Proven::Inclusion { seq, size, root, line })
    }
}

/// Proves that the log of the new size extends the log of the old one. Prints as one line of canonical JSON; sizes are below
/// 2^53, because JSON numbers hold no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The earlier size.
    pub old_size: u64,
    /// The root at that size.
    pub old_root: Hash,
    /// The hashes, as [`merkle::consistency_proof`] gives them.
    pub proof: Vec<Hash>,
    /// The later checkpoint.
    pub checkpoint: SignedCheckpoint,
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.to_json().to_canonical())
    }
}

impl ConsistencyProof {
    /// `{"old_size","old_root","new_size","new_root","proof":[hex…],"checkpoint":"…"}`.
    pub fn to_json(&self) -> Json {
        let checkpoint = self.checkpoint.checkpoint();
        let proof: Vec<String> = self.proof.iter().map(Hash::to_string).collect();
        Object::from_iter([
            ("old_size", Json::from(self.old_size)),
            ("old_root", self.old_root.to_string().into()),
            ("new_size", checkpoint.size().into()),
            ("new_root", checkpoint.root().to_string().into()),
            ("proof", proof.into()),
            ("checkpoint", self.checkpoint.to_string().into()),
        ])
        .into()
    }

    /// Reads what [`ConsistencyProof::to_json`] made, without checking what it proves.
    ///
    /// # Errors
    /// [`CheckError::Malformed`], also for an unknown member; [`CheckError::Mismatch`] or [`CheckError::Note`].
    pub fn from_json(json: &Json) -> Result<ConsistencyProof, CheckError> {
        const MEMBERS: [&str; 6] = ["old_size", "old_root", "new_size", "new_root", "proof", "checkpoint"];
        let wrong = |what: &str| CheckError::Malformed(what.to_owned());
        let object = json.as_object().ok_or_else(|| wrong("the JSON is not an object"))?;
        if let Some((name, _)) = object.iter().find(|(name, _)| !MEMBERS.contains(name)) {
            return Err(CheckError::Malformed(format!("an unknown member {:?}", shorten(name))));
        }
        let size = |key| object.get(key).and_then(Json::as_u64);
        let size = |key| size(key).ok_or_else(|| wrong("a size is missing or not an integer from 0 to 2^53-1"));
        let hash = |value: Option<&Json>| value.and_then(Json::as_str).and_then(|text| text.parse::<Hash>().ok());
        let hash = |value| hash(value).ok_or_else(|| wrong("a hash is missing or not 64 hexadecimal digits"));
        let hashes = object.get("proof").and_then(Json::as_array).ok_or_else(|| wrong("\"proof\" is not an array"))?;
        if hashes.len() > MAX_HASHES {
            return Err(wrong("more hashes than any tree needs"));
        }
        let checkpoint = object.get("checkpoint").and_then(Json::as_str);
        let checkpoint = checkpoint.ok_or_else(|| wrong("\"checkpoint\" is not a string"))?;
        let proof = ConsistencyProof {
            old_size: size("old_size")?,
            old_root: hash(object.get("old_root"))?,
            proof: hashes.iter().map(|h| hash(Some(h))).collect::<Result<_, _>>()?,
            checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())?,
        };
        if size("new_size")? != proof.checkpoint.checkpoint().size() {
            return Err(CheckError::Mismatch("size"));
        }
        if hash(object.get("new_root"))? != proof.checkpoint.checkpoint().root() {
            return Err(CheckError::Mismatch("root"));
        }
        Ok(proof)
    }

    fn check(self) -> Result<Proven, CheckError> {
        let ConsistencyProof { old_size, old_root, proof, checkpoint } = self;
        let (new_size, new_root) = (checkpoint.checkpoint().size(), checkpoint.checkpoint().root());
        merkle::verify_consistency(old_size, new_size, old_root, new_root, &proof)?;
        Ok(Proven::Consistency { old_size, old_root, new_size, new_root })
    }
}

/// A proof file of any kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Proof {
    /// An entry is in the log.
    Inclusion(InclusionProof),
    /// The log only grew.
    Consistency(ConsistencyProof),
    /// These are all entries with one value.
    Complete(Box<CompleteProof>),
    /// A sealed value of an entry was this one.
    Reveal(Box<RevealProof>),
    /// Only a checkpoint: the log's statement about itself.
    Checkpoint(SignedCheckpoint),
}

impl Proof {
    /// Detects the kind of proof and parses it. JSON proofs other than consistency proofs name their `kind`.
    ///
    /// # Errors
    /// [`CheckError::Malformed`], [`CheckError::TooLarge`], [`CheckError::UnknownKind`], [`CheckError::Mismatch`] or
    /// [`CheckError::Note`]: the form is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Proof, CheckError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(CheckError::TooLarge(bytes.len()));
        }
        if bytes.is_empty() {
            return Err(CheckError::Malformed(
                "it is empty: the command that should have written it has failed".to_owned(),
            ));
        }
        if bytes.starts_with(b"c2sp.org/tlog-proof@") {
            return InclusionProof::parse(bytes).map(Proof::Inclusion);
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            let neither = |e| CheckError::Malformed(format!("neither a tlog-proof, nor JSON, nor a checkpoint ({e})"));
            return SignedCheckpoint::parse(bytes).map(Proof::Checkpoint).map_err(neither);
        }
        // Every value in a proof but its smallest numbers is at least as long as a hash, so no proof reaches this limit.
        let limits = Limits::bytes(MAX_PROOF_BYTES).values(65_536 + bytes.len() / 16);
        let parsed = Json::parse_within(bytes, &limits);
        let json = parsed.map_err(|e| CheckError::Malformed(e.to_string()))?.value;
        match json.get("kind") {
            None => ConsistencyProof::from_json(&json).map(Proof::Consistency),
            Some(kind) if kind.as_str() == Some("complete") => {
                CompleteProof::from_json(&json).map(|proof| Proof::Complete(Box::new(proof)))
            }
            Some(kind) if kind.as_str() == Some("reveal") => {
                RevealProof::from_json(&json).map(|proof| Proof::Reveal(Box::new(proof)))
            }
            Some(kind) => Err(CheckError::UnknownKind(shorten(kind.as_str().unwrap_or(kind.type_name())))),
        }
    }

    /// The proof's checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        match self {
            Proof::Inclusion(proof) => &proof.checkpoint,
            Proof::Consistency(proof) => &proof.checkpoint,
            Proof::Complete(proof) => &proof.checkpoint,
            Proof::Reveal(proof) => &proof.entry.checkpoint,
            Proof::Checkpoint(checkpoint) => checkpoint,
        }
    }

    /// Checks the log key's signature, the hashes, and, with a succession, the epoch key's signature.
    ///
    /// # Errors
    /// The [`CheckError`] that says why it proves nothing.
    pub fn check(self, key: &VerifierKey, succession: Option<&Succession>) -> Result<Checked, CheckError> {
        self.checkpoint().verify(key)?;
        let epoch = succession.map(|s| s.check(self.checkpoint())).transpose()?;
        let size = self.checkpoint().checkpoint().size();
        // The next epoch's rotation may be of this size too; that it has the same root was checked just now.
        let next = epoch.zip(succession).and_then(|(epoch, s)| s.epochs().get(epoch as usize + 1));
        let standing = match (epoch, next) {
            (None, _) => Standing::Unchecked,
            (Some(_), None) => Standing::Present,
            (Some(_), Some(next)) if next.rotation_in_place().is_some_and(|r| r.size == size) => Standing::Extended,
            (Some(_), Some(_)) => Standing::Closed,
        };
        let proven = match self {
            Proof::Inclusion(proof) => proof.check()?,
            Proof::Consistency(proof) => proof.check()?,
            Proof::Complete(proof) => proof.check()?,
            Proof::Reveal(proof) => proof.check()?,
            Proof::Checkpoint(checkpoint) => {
                let checkpoint = checkpoint.checkpoint();
                Proven::Checkpoint { size: checkpoint.size(), root: checkpoint.root() }
            }
        };
        Ok(Checked { proven, origin: key.name().to_owned(), epoch, standing, old_confirmed: false })
    }
}

/// Reads a proof file and checks it against the log's public key alone; the epoch is not checked.
///
/// # Errors
/// The [`CheckError`] that says why it proves nothing.
pub fn check(bytes: &[u8], key: &VerifierKey) -> Result<Checked, CheckError> {
    Proof::parse(bytes)?.check(key, None)
}

/// What a proof proves. Only [`Proof::check`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    proven: Proven,
    origin: String,
    epoch: Option<u32>,
    standing: Standing,
    old_confirmed: bool,
}

/// What the epoch key's signature is worth.
///
/// Whoever holds an epoch key can sign any history of its epoch, and the key of an epoch that has ended may be in more hands than
/// intended: old backups of the key file contain it. But no holder of an old key can make today's log extend such a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Not checked, because no succession was given.
    Unchecked,
    /// Signed in the present epoch.
    Present,
    /// Signed in an epoch that has ended, and the log was shown to continue from there.
    Extended,
    /// Signed in an epoch that has ended, and not shown to be continued by the log: whoever held that epoch's key and the log key
    /// may have made it since.
    Closed,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Standing::Unchecked => "unchecked",
            Standing::Present => "present",
            Standing::Extended => "extended",
            Standing::Closed => "closed",
        }
    }
}

/// The statement that was proven.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Proven {
    /// The entry with this line is in the log.
    Inclusion {
        /// Its number.
        seq: u64,
        /// The size of the log that the proof leads to.
        size: u64,
        /// The root at that size.
        root: Hash,
        /// The entry's canonical line.
        line: String,
    },
    /// The log of the new size extends that of the old one.
    Consistency {
        /// The earlier size.
        old_size: u64,
        /// The root at that size.
        old_root: Hash,
        /// The later size.
        new_size: u64,
        /// The root at that size.
        new_root: Hash,
    },
    /// The entries shown, and those purged, are all that have one value of one facet.
    Complete {
        /// The facet.
        facet: Facet,
        /// The value, as it was asked for.
        value: String,
        /// The terms that were searched for.
        terms: Vec<String>,
        /// Whether those of them that are pseudonyms stand for the value.
        mapping: Mapping,
        /// The size of the log that the proof leads to.
        size: u64,
        /// The root at that size.
        root: Hash,
        /// Seq and canonical line of each entry that has the value.
        entries: Vec<(u64, String)>,
        /// Entries that had the value and were purged by policy.
        purged: SeqSet,
        /// Purged entries for which it is no longer known whether they had the value.
        unknown: SeqSet,
        /// The purges that removed those, by the seq of their entry: who purged, under which policy, which classes. Whether they
        /// removed entries that had not expired can be seen only by a full verification.
        purges: Vec<(u64, PurgeRecord)>,
        /// When the newest entry that the proof shows was recorded, whether or not it has the value. The proof says nothing about
        /// later entries: a stale copy gives an equally good proof.
        newest: Option<Timestamp>,
    },
    /// The value sealed in the entry with this line is this one.
    Reveal {
        /// The entry's number.
        seq: u64,
        /// Where in the entry.
        path: Path,
        /// What was sealed.
        value: Json,
        /// The size of the log that the proof leads to.
        size: u64,
        /// The root at that size.
        root: Hash,
        /// The entry's canonical line.
        line: String,
    },
    /// The log stated that it had this root at this size. This proves nothing about its entries.
    Checkpoint {
        /// The size.
        size: u64,
        /// The root at that size.
        root: Hash,
    },
}

impl Proven {
    /// Size and root of the checkpoint that it leads to.
    fn head(&self) -> (u64, Hash) {
        match self {
            Proven::Inclusion { size, root, .. }
            | Proven::Complete { size, root, .. }
            | Proven::Reveal { size, root, .. }
            | Proven::Checkpoint { size, root } => (*size, *root),
            Proven::Consistency { new_size, new_root, .. } => (*new_size, *new_root),
        }
    }
}

impl Checked {
    /// What was proven.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }

    /// The log that it was proven about.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The epoch whose key signed the checkpoint too; `None` if that was not checked because no succession was given.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }

    /// What the epoch key's signature is worth.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether the earlier state of a consistency proof, or the state that any other proof leads to, is one that the caller kept
    /// ([`Checked::against`]). Otherwise the earlier state is only the proof's claim.
    pub fn old_confirmed(&self) -> bool {
        self.old_confirmed
    }

    /// Compares with a checkpoint that the caller kept: a consistency proof must begin with it, any other proof must lead to it.
    ///
    /// # Errors
    /// [`CheckError::Contradicted`] if the roots differ, or the sizes differ so that nothing follows;
    /// [`CheckError::Note`] if the log key did not sign it.
    pub fn against(mut self, kept: &SignedCheckpoint, key: &VerifierKey) -> Result<Checked, CheckError> {
        kept.verify(key)?;
        let kept = kept.checkpoint();
        let (size, root) = match &self.proven {
            Proven::Consistency { old_size, old_root, .. } => (*old_size, *old_root),
            other => other.head(),
        };
        if kept.size() != size {
            return Err(CheckError::Contradicted(format!(
                "it speaks of a log of {size} entries, the checkpoint that you kept of {}: it takes a consistency proof from that \
                 checkpoint (attestlog prove STORE --consistent-with)",
                kept.size()
            )));
        }
        if kept.root() != root {
            return Err(CheckError::Contradicted(format!(
                "A FORK: the first {size} entries are not those of the checkpoint that you kept; the log was rewritten"
            )));
        }
        self.old_confirmed = true;
        Ok(self)
    }

    /// Accepts a consistency proof that the log of the present epoch extends the state that this proof leads to and that an older
    /// epoch signed.
    ///
    /// # Errors
    /// [`CheckError::Contradicted`] if it begins elsewhere or ends before the present epoch; otherwise as [`Proof::check`].
    pub fn extended_by(
        mut self,
        later: Proof,
        key: &VerifierKey,
        succession: &Succession,
    ) -> Result<Checked, CheckError> {
        let later = later.check(key, Some(succession))?;
        let Proven::Consistency { old_size, old_root, .. } = &later.proven else {
            return Err(CheckError::Contradicted(
                "what is to show that the log continued is not a consistency proof".to_owned(),
            ));
        };
        let (size, root) = self.proven.head();
        if (*old_size, *old_root) != (size, root) {
            return Err(CheckError::Contradicted(format!(
                "the consistency proof begins with other {old_size} entries than the {size} that this leads to"
            )));
        }
        if later.standing != Standing::Present {
            let message = "the consistency proof ends in an epoch that is closed too; it takes one to a checkpoint of the present";
            return Err(CheckError::Contradicted(message.to_owned()));
        }
        if self.standing == Standing::Closed {
            self.standing = Standing::Extended;
        }
        Ok(self)
    }

    /// `{"ok":true,"kind","origin","epoch","epoch_standing","old_confirmed",…}` and the members of the statement. `ok` is false
    /// unless it [holds](Checked::holds).
    pub fn to_json(&self) -> Json {
        let mut json = Object::from_iter([("ok", Json::Bool(self.holds())), ("origin", self.origin.as_str().into())]);
        json.insert("epoch", self.epoch);
        json.insert("epoch_standing", self.standing.as_str());
        json.insert("old_confirmed", self.old_confirmed);
        match &self.proven {
            Proven::Inclusion { seq, size, root, line } => {
                json.insert("kind", "inclusion");
                json.insert("seq", *seq);
                json.insert("size", *size);
                json.insert("root", root.to_string());
                json.insert("line", line.as_str());
            }
            Proven::Consistency { old_size, old_root, new_size, new_root } => {
                json.insert("kind", "consistency");
                json.insert("old_size", *old_size);
                json.insert("old_root", old_root.to_string());
                json.insert("new_size", *new_size);
                json.insert("new_root", new_root.to_string());
            }
            Proven::Complete { facet, value, terms, mapping, size, root, entries, purged, unknown, purges, newest } => {
                json.insert("newest_recorded_at", newest.map(|at| at.to_string()));
                json.insert("kind", "complete");
                json.insert("facet", facet.as_str());
                json.insert("value", value.as_str());
                json.insert("looks_like", self.proven.looks_like());
                json.insert("terms", terms.clone());
                json.insert("value_mapping", mapping.as_str());
                json.insert("size", *size);
                json.insert("root", root.to_string());
                json.insert("seqs", entries.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
                json.insert("lines", entries.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>());
                json.insert("purged", purged.to_json());
                json.insert("purged_unknown", unknown.to_json());
                let purge = |(seq, record): &(u64, PurgeRecord)| {
                    Json::from(Object::from_iter([("entry", Json::from(*seq)), ("purge", record.to_json())]))
                };
                json.insert("purges", purges.iter().map(purge).collect::<Vec<_>>());
            }
            Proven::Reveal { seq, path, value, size, root, line } => {
                json.insert("kind", "reveal");
                json.insert("seq", *seq);
                json.insert("path", path.to_string());
                json.insert("value", value.clone());
                json.insert("size", *size);
                json.insert("root", root.to_string());
                json.insert("line", line.as_str());
            }
            Proven::Checkpoint { size, root } => {
                json.insert("kind", "checkpoint");
                json.insert("size", *size);
                json.insert("root", root.to_string());
            }
        }
        json.into()
    }
}

impl fmt::Display for Checked {
    /// One sentence for people, without the entry's content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = &self.origin;
        match &self.proven {
            Proven::Inclusion { seq, size, .. } => write!(f, "entry {seq} is in the log {origin} of {size} entries")?,
            Proven::Consistency { old_size, new_size, .. } => {
                write!(f, "the log {origin} of {new_size} entries extends the one of {old_size}")?;
                if !self.old_confirmed {
                    f.write_str("; that this was the earlier state is the proof's own word")?;
                }
            }
            Proven::Checkpoint { size, .. } => write!(f, "the log {origin} said that it had {size} entries")?,
            Proven::Reveal { seq, path, value, .. } => {
                let value = value.to_canonical();
                write!(f, "the value sealed at {path} in entry {seq} of the log {origin} is {value}")?
            }
            Proven::Complete { facet, value, mapping, size, entries, purged, unknown, .. } => {
                let (facet, has) = (facet.as_str(), crate::text::counted(entries.len() as u64, "has", "have"));
                write!(f, "of the {size} entries of the log {origin}, exactly {has} {facet} ")?;
                match mapping {
                    Mapping::Unproven => {
                        let names = self.proven.pseudonyms().join(" or ");
                        write!(
                            f,
                            "{names} or the name in clear; that these are the pseudonyms of {value:?} is not proven"
                        )?;
                    }
                    _ => write!(f, "{value:?}")?,
                }
                if let Some(looks) = self.proven.looks_like() {
                    write!(f, ", which only looks like {looks:?}")?;
                }
                if !purged.is_empty() {
                    write!(f, ", and {} more had and were purged by policy", purged.len())?;
                }
                if !unknown.is_empty() {
                    write!(f, "; of {} purged entries nobody can tell any more", unknown.len())?;
                }
            }
        }
        match self.epoch {
            Some(epoch) if self.standing == Standing::Closed => {
                write!(
                    f,
                    "; signed by the log key and by epoch {epoch}, which is closed: not proven that the log went on from there"
                )
            }
            Some(epoch) => write!(f, "; signed by the log key and by epoch {epoch}"),
            None => write!(f, "; signed by the log key; epoch not checked"),
        }
    }
}

/// A name from outside, cut short for a message.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

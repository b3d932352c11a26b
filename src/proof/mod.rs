//! Proof files: what is handed to somebody who has the log's public key and nothing else.
//!
//! That an entry is in the log: C2SP tlog-proof, whose `extra` line is the base64 of the entry's line. That the log only
//! grew: a JSON object with both sizes and roots, the hashes and the later checkpoint. That no entry is missing from an
//! answer (`complete`), and what a sealed value is (`reveal`): JSON objects that name their `kind`. Reading says that a
//! file is well-formed; only [`Proof::check`] says that it proves something, and what, and whose word that rests on: the
//! log key's. Whether the epoch key in force signed too can be told only with the [`Succession`], and a check without
//! it says so. Everything is bounded before it is read.

mod complete;
mod reveal;

pub use complete::{CompleteProof, RowTerm, ShownBatch, ShownEntry, ShownRow};
pub(crate) use complete::{KEYS, has_pseudonyms, pseudonym_keys};
pub use reveal::RevealProof;

use crate::json::{Json, Limits, Object, Path};
use crate::merkle::{self, ProofError};
use crate::note::{EpochError, NoteError, SignedCheckpoint, Succession, VerifierKey, parse_32, parse_decimal};
use crate::retention::{PurgeRecord, SeqSet};
use crate::{Field, Hash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The most bytes a proof file may have: the largest entry in base64, and room.
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
    /// Neither form of proof.
    #[error("not a proof: {0}")]
    Malformed(String),
    /// A kind of JSON proof that this version does not know.
    #[error("a proof of the kind {0:?}, which this version does not know")]
    UnknownKind(String),
    /// The entry's line is not an entry, or says that it is another one.
    #[error("the entry in the proof is {0}")]
    Entry(String),
    /// The file says one thing and the checkpoint in it another.
    #[error("the checkpoint in the proof has another {0}")]
    Mismatch(&'static str),
    /// It does not show that nothing is missing.
    #[error("the proof is not complete: {0}")]
    Incomplete(String),
    /// The value is not the one that was sealed.
    #[error("{0}")]
    Reveal(String),
    /// The checkpoint is malformed or not the log key's.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The hashes do not prove it.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The checkpoint is not that of the epoch in force.
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

/// That an entry is in the log. Prints as a C2SP tlog-proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's number.
    pub seq: u64,
    /// The entry's canonical line: what was hashed.
    pub line: Vec<u8>,
    /// The hashes from the entry's sibling up, as [`merkle::inclusion_proof`] gives them.
    pub path: Vec<Hash>,
    /// The checkpoint to whose root they lead.
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
    /// Reads a C2SP tlog-proof; says nothing about what it proves.
    ///
    /// # Errors
    /// [`CheckError`] of the kinds that speak of the form.
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
        // What is proven is this line at this place. A line that gives itself another number is not this log's.
        let parsed = Json::parse_within(&self.line, &Limits::bytes(MAX_PROOF_BYTES));
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

/// That the log of the new size extends the log of the old one. Prints as one line of canonical JSON; sizes are below
/// 2^53, as JSON keeps them.
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

    /// Reads what [`ConsistencyProof::to_json`] made; says nothing about what it proves.
    ///
    /// # Errors
    /// [`CheckError`] of the kinds that speak of the form. A member that it does not know is one.
    pub fn from_json(json: &Json) -> Result<ConsistencyProof, CheckError> {
        const MEMBERS: [&str; 6] = ["old_size", "old_root", "new_size", "new_root", "proof", "checkpoint"];
        let wrong = |what: &str| CheckError::Malformed(what.to_owned());
        let object = json.as_object().ok_or_else(|| wrong("the JSON is no object"))?;
        if let Some((name, _)) = object.iter().find(|(name, _)| !MEMBERS.contains(name)) {
            return Err(CheckError::Malformed(format!("an unknown member {:?}", shorten(name))));
        }
        let size = |key| object.get(key).and_then(Json::as_u64);
        let size = |key| size(key).ok_or_else(|| wrong("a size is missing or not an integer from 0 to 2^53-1"));
        let hash = |value: Option<&Json>| value.and_then(Json::as_str).and_then(|text| text.parse::<Hash>().ok());
        let hash = |value| hash(value).ok_or_else(|| wrong("a hash is missing or not 64 hexadecimal digits"));
        let hashes = object.get("proof").and_then(Json::as_array).ok_or_else(|| wrong("\"proof\" is no array"))?;
        if hashes.len() > MAX_HASHES {
            return Err(wrong("more hashes than any tree needs"));
        }
        let checkpoint = object.get("checkpoint").and_then(Json::as_str);
        let checkpoint = checkpoint.ok_or_else(|| wrong("\"checkpoint\" is no string"))?;
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
}

impl Proof {
    /// Recognises the kind of proof and reads it. JSON proofs other than that of consistency name their `kind`.
    ///
    /// # Errors
    /// [`CheckError`] of the kinds that speak of the form.
    pub fn parse(bytes: &[u8]) -> Result<Proof, CheckError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(CheckError::TooLarge(bytes.len()));
        }
        if bytes.starts_with(b"c2sp.org/tlog-proof@") {
            return InclusionProof::parse(bytes).map(Proof::Inclusion);
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(CheckError::Malformed("neither a tlog-proof nor JSON".to_owned()));
        }
        let parsed = Json::parse_within(bytes, &Limits::bytes(MAX_PROOF_BYTES));
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

    /// The checkpoint in it.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        match self {
            Proof::Inclusion(proof) => &proof.checkpoint,
            Proof::Consistency(proof) => &proof.checkpoint,
            Proof::Complete(proof) => &proof.checkpoint,
            Proof::Reveal(proof) => &proof.entry.checkpoint,
        }
    }

    /// Checks the log key's signature, the hashes, and, with a succession, the epoch key's signature.
    ///
    /// # Errors
    /// The [`CheckError`] that says why it proves nothing.
    pub fn check(self, key: &VerifierKey, succession: Option<&Succession>) -> Result<Checked, CheckError> {
        self.checkpoint().verify(key)?;
        let epoch = succession.map(|s| s.check(self.checkpoint())).transpose()?;
        let proven = match self {
            Proof::Inclusion(proof) => proof.check()?,
            Proof::Consistency(proof) => proof.check()?,
            Proof::Complete(proof) => proof.check()?,
            Proof::Reveal(proof) => proof.check()?,
        };
        Ok(Checked { proven, origin: key.name().to_owned(), epoch })
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
}

/// The statement that was proven.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Proven {
    /// The entry with this line is in the log.
    Inclusion {
        /// Its number.
        seq: u64,
        /// The size of the log to which the proof leads.
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
        /// Which facet.
        facet: Field,
        /// Which value, as it was asked for.
        value: String,
        /// The spellings that were looked for. Where these are pseudonyms of the value, that they are is not proven.
        terms: Vec<String>,
        /// The size of the log to which the proof leads.
        size: u64,
        /// The root at that size.
        root: Hash,
        /// Seq and canonical line of each entry that has the value.
        entries: Vec<(u64, String)>,
        /// Entries that had the value and were purged by policy.
        purged: SeqSet,
        /// Purged entries of which it is no longer known whether they had the value.
        unknown: SeqSet,
        /// The purges that took those, by the seq of their entry: who, under which policy, of which classes. That they took
        /// nothing that had not expired is for a full verification to say.
        purges: Vec<(u64, PurgeRecord)>,
    },
    /// The value that is sealed in the entry with this line is this one.
    Reveal {
        /// The entry's number.
        seq: u64,
        /// Where in it.
        path: Path,
        /// What was sealed.
        value: Json,
        /// The size of the log to which the proof leads.
        size: u64,
        /// The root at that size.
        root: Hash,
        /// The entry's canonical line.
        line: String,
    },
}

impl Proven {
    /// Whether it rests on somebody's word that a pseudonym is that of the value asked for.
    pub fn maps_value(&self) -> bool {
        matches!(self, Proven::Complete { value, terms, .. } if terms.iter().any(|term| term != value))
    }
}

impl Checked {
    /// What was proven.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }

    /// The log that it was proven of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The epoch whose key signed the checkpoint too; `None` if that was not checked, for want of the succession.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }

    /// `{"ok":true,"kind","origin","epoch",…}` and what the statement consists of.
    pub fn to_json(&self) -> Json {
        let mut json = Object::from_iter([("ok", Json::Bool(true)), ("origin", self.origin.as_str().into())]);
        json.insert("epoch", self.epoch);
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
            Proven::Complete { facet, value, terms, size, root, entries, purged, unknown, purges } => {
                json.insert("kind", "complete");
                json.insert("facet", facet.as_str());
                json.insert("value", value.as_str());
                json.insert("terms", terms.clone());
                json.insert("value_mapping", if self.proven.maps_value() { "unproven" } else { "none" });
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
                write!(f, "the log {origin} of {new_size} entries extends the one of {old_size}")?
            }
            Proven::Reveal { seq, path, value, .. } => {
                let value = value.to_canonical();
                write!(f, "the value sealed at {path} in entry {seq} of the log {origin} is {value}")?
            }
            Proven::Complete { facet, value, size, entries, purged, unknown, .. } => {
                let (facet, count) = (facet.as_str(), entries.len());
                write!(f, "of the {size} entries of the log {origin}, exactly {count} have {facet} {value:?}")?;
                if !purged.is_empty() {
                    write!(f, ", and {} more had and were purged by policy", purged.len())?;
                }
                if !unknown.is_empty() {
                    write!(f, "; of {} purged entries nobody can tell any more", unknown.len())?;
                }
                if self.proven.maps_value() {
                    f.write_str("; that the pseudonyms looked for are those of this value is not proven")?;
                }
            }
        }
        match self.epoch {
            Some(epoch) => write!(f, "; signed by the log key and by epoch {epoch}"),
            None => write!(f, "; signed by the log key; epoch not checked"),
        }
    }
}

/// A name from outside, short enough for a message.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

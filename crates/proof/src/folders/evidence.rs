//! An evidence folder: the whole log, row by row, against its checkpoint.

use super::{head, malformed, object, one_line, said, verdict};
use crate::entry::{Entry, Kind};
use crate::json::{Json, MAX_INT, Object};
use crate::merkle::Frontier;
use crate::note::{SignedCheckpoint, Succession, VerifierKey};
use crate::proof::{CheckError, Checked, Proof, Standing};
use crate::purge::PurgeRecord;
use crate::seqs::SeqSet;
use crate::{Hash, Timestamp};
use std::collections::BTreeMap;

/// Takes the rows of an evidence folder one by one, in order: those of `entries.jsonl`, then those of `purges.jsonl`.
#[derive(Debug)]
pub struct EvidenceCheck {
    checkpoint: SignedCheckpoint,
    signed: Checked,
    tree: Frontier,
    /// The hash of the row before; `None` after a purged one.
    before: Option<Hash>,
    gone: SeqSet,
    /// Purges whose rows have not come yet: when each was recorded, and its detail.
    purges: BTreeMap<u64, (Timestamp, Json)>,
    /// When the first entry was recorded.
    began: Option<Timestamp>,
    /// Sentences about purges that do not fit the log's clock.
    odd: Vec<String>,
    last_purge: Option<u64>,
    taken: SeqSet,
}

/// What an evidence folder proves. Only [`EvidenceCheck::finish`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvenEvidence {
    checkpoint: SignedCheckpoint,
    signed: Checked,
    gone: SeqSet,
    odd: Vec<String>,
}

impl ProvenEvidence {
    /// The checkpoint whose log the folder has.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The entries that were purged.
    pub fn purged(&self) -> &SeqSet {
        &self.gone
    }

    /// What the signatures of the checkpoint prove: its [epoch](Checked::epoch) and the [standing](Checked::standing) of that.
    pub fn signed(&self) -> &Checked {
        &self.signed
    }

    /// Whether it is proven, and not by an epoch that is closed.
    pub fn holds(&self) -> bool {
        self.signed.standing() != Standing::Closed
    }

    /// What was proved and what was not, in the sentences of docs/proof-format.md, section 12.
    pub fn sentences(&self) -> Vec<String> {
        said::of_evidence(&self.signed, self.checkpoint.checkpoint().size(), &self.gone, &self.odd)
    }

    /// `{"epoch","kind":"evidence","ok","origin","pinned":true,"purged","root","says":[SENTENCE…],"size","verdict"}`.
    pub fn to_json(&self) -> Json {
        let checkpoint = self.checkpoint.checkpoint();
        Object::from_iter([
            ("epoch", Json::from(self.signed.epoch())),
            ("kind", "evidence".into()),
            ("ok", self.holds().into()),
            ("origin", checkpoint.origin().into()),
            ("pinned", true.into()),
            ("purged", self.gone.to_json()),
            ("root", checkpoint.root().to_string().into()),
            ("says", self.sentences().into()),
            ("size", checkpoint.size().into()),
            ("verdict", verdict(self.signed.standing(), false).into()),
        ])
        .into()
    }
}

impl EvidenceCheck {
    /// Begins with the contents of `public-key` and `checkpoint`. With a succession, the epoch key's signature is checked too.
    ///
    /// # Errors
    /// The [`CheckError`] that says what is wrong with them.
    pub fn new(
        public_key: &[u8],
        checkpoint: &[u8],
        key: &VerifierKey,
        succession: Option<&Succession>,
    ) -> Result<EvidenceCheck, CheckError> {
        let checkpoint = head(public_key, checkpoint, key)?;
        Ok(EvidenceCheck {
            signed: Proof::Checkpoint(checkpoint.clone()).check(key, succession)?,
            checkpoint,
            tree: Frontier::empty(),
            before: Some(Hash([0; 32])),
            gone: SeqSet::new(),
            purges: BTreeMap::new(),
            began: None,
            odd: Vec::new(),
            last_purge: None,
            taken: SeqSet::new(),
        })
    }

    /// Takes the next row of `entries.jsonl`, with its newline.
    ///
    /// # Errors
    /// The [`CheckError`] that says why it is not the next.
    pub fn row(&mut self, row: &[u8]) -> Result<(), CheckError> {
        let at = self.tree.size();
        let line = one_line("a row of entries.jsonl", row)?;
        let wrong = |what: &str| malformed(format!("row {at} of entries.jsonl {what}"));
        if line.starts_with("{\"purged\":") {
            return self.hole(line, at);
        }
        let entry = Entry::from_line(line).map_err(|e| CheckError::Entry(format!("{e}, at {at}")))?;
        if entry.seq != at {
            return Err(wrong("is another entry"));
        }
        if self.before.is_some_and(|before| before != entry.prev) {
            return Err(wrong("does not follow the one before it"));
        }
        let recorded_at = entry.body.recorded_at;
        if at == 0 {
            self.began = Some(recorded_at);
        }
        if let Some(own) = entry.own().filter(|own| own.kind == Kind::Purge) {
            self.purges.insert(at, (recorded_at, own.detail.to_json()));
        }
        let leaf = Hash::leaf(line.as_bytes());
        self.before = Some(leaf);
        self.tree.append(leaf, &mut |_, _, _| {});
        Ok(())
    }

    fn hole(&mut self, line: &str, at: u64) -> Result<(), CheckError> {
        let wrong = || malformed(format!("row {at} of entries.jsonl does not stand for a subtree at its place"));
        let whole = object("a row of entries.jsonl", line, &["purged"])?;
        let hole = whole.get("purged").and_then(Json::as_object).ok_or_else(wrong)?;
        if !hole.iter().map(|(name, _)| name).eq(["count", "first", "hash"]) {
            return Err(wrong());
        }
        let count =
            hole.get("count").and_then(Json::as_u64).filter(|count| count.is_power_of_two()).ok_or_else(wrong)?;
        let hash = hole.get("hash").and_then(Json::as_str).and_then(|hash| hash.parse().ok()).ok_or_else(wrong)?;
        let fits = hole.get("first").and_then(Json::as_u64) == Some(at) && at + count <= MAX_INT as u64;
        if !fits || !self.tree.append_subtree(count.trailing_zeros() as u8, hash, &mut |_, _, _| {}) {
            return Err(wrong());
        }
        self.gone.insert_range(at, at + count - 1);
        self.before = None;
        Ok(())
    }

    /// Takes the next row of `purges.jsonl`, with its newline.
    ///
    /// # Errors
    /// The [`CheckError`] that says why it contradicts the log.
    pub fn purge_row(&mut self, row: &[u8]) -> Result<(), CheckError> {
        const NAME: &str = "a row of purges.jsonl";
        let row = object(NAME, one_line(NAME, row)?, &["purge", "seq", "seqs"])?;
        let seq = row.get("seq").and_then(Json::as_u64).filter(|seq| self.last_purge.is_none_or(|last| *seq > last));
        let detail = seq.and_then(|seq| Some((seq, self.purges.remove(&seq)?)));
        let (seq, (at, detail)) = detail.ok_or_else(|| malformed(format!("{NAME} names no purge")))?;
        if row.get("purge") != Some(&detail) {
            return Err(malformed(format!("{NAME} is not what the purge's entry says")));
        }
        let set = row.get("seqs").and_then(|seqs| SeqSet::from_json(seqs).ok());
        let taken = set.and_then(|set| Some((PurgeRecord::took(&detail, seq, &set)?, set)));
        let (purge, set) =
            taken.ok_or_else(|| malformed(format!("the purge of entry {seq} did not take the set beside it")))?;
        self.odd.extend(said::odd(seq, &purge, at, self.began));
        self.taken = self.taken.union(&set);
        self.last_purge = Some(seq);
        Ok(())
    }

    /// The end of both files.
    ///
    /// # Errors
    /// The [`CheckError`] that says why the folder proves nothing.
    pub fn finish(self) -> Result<ProvenEvidence, CheckError> {
        let checkpoint = self.checkpoint.checkpoint();
        if self.tree.size() != checkpoint.size() {
            return Err(CheckError::Mismatch("size"));
        }
        if self.tree.root() != checkpoint.root() {
            return Err(CheckError::Mismatch("root"));
        }
        if self.purges.values().any(|(_, detail)| detail.get("count").and_then(Json::as_u64) != Some(0)) {
            return Err(malformed("purges.jsonl lacks a purge"));
        }
        if self.taken != self.gone {
            return Err(malformed("what is missing is not what was purged"));
        }
        Ok(ProvenEvidence { checkpoint: self.checkpoint, signed: self.signed, gone: self.gone, odd: self.odd })
    }
}

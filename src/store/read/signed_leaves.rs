//! Checks that the hashes stored with entries are those that were signed.
//!
//! Invariant R82: an answer shows an entry as it was recorded, or says that it is not authentic: its line has the stored
//! hash, and that hash is a leaf of the last signed tree, as far as that tree reaches. Leaves are checked against what is
//! signed by segments, the leaves below one stored node of the tree, once per open file: one bit per segment is kept. What
//! this process adds follows from what it has checked, and the content of an open file does not change.

use crate::chain_state::Genesis;
use crate::merkle::Nodes as _;
use crate::note::{SignedCheckpoint, VerifierKey};
use crate::store::file::held_leaves::Signed;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables;
use crate::store::layout::NODE_LEVEL;
use crate::store::read::snapshot::Snapshot;
use crate::{Entry, Error, ErrorKind, Hash, Result};
use std::ops::Range;
use std::sync::Arc;

/// How many of the newest checkpoints are tried until one is signed by the log's key.
const TRIED: usize = 8;

/// Whether an entry that is to be shown is authentic.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It is the entry that was recorded.
    Right,
    /// It is not, or its authenticity cannot be established.
    Other(Error),
    /// Its text matches the stored hash, but the tree of the stored hashes differs from the signed one.
    OtherTree(Error),
}

/// The perfect subtrees that make up a tree of this size, the largest first, as level and index.
fn peaks(size: u64) -> impl Iterator<Item = (u8, u64)> {
    let before = move |level: u8| size.checked_shr(u32::from(level) + 1).unwrap_or(0) << 1;
    (0..64u8).rev().filter(move |level| size >> level & 1 == 1).map(move |level| (level, before(level)))
}

impl Snapshot {
    /// Checks an entry that was read from this snapshot; `hash` is stored with it.
    ///
    /// # Errors
    /// `Damaged` or I/O errors while reading the file.
    pub(crate) fn standing(&self, entry: &Entry, hash: Hash) -> Result<Standing> {
        if let Err(e) = self.check_against(entry, hash) {
            return Ok(Standing::Other(e));
        }
        let (seq, said) = (entry.seq, self.state.signed);
        let held = self.database.bound.read().is_held(seq, said);
        let (right, signed) = match held {
            Some(true) => return Ok(Standing::Right),
            Some(false) => (true, self.signed()?),
            None => {
                let signed = self.signed()?;
                let right = seq >= signed.size || signed.differs || self.hold_segment(seq >> NODE_LEVEL, &signed)?;
                (right, signed)
            }
        };
        if signed.differs && seq < signed.size {
            let message = format!(
                "the first {} entries of the store are not those that were signed: what is shown of them may have been changed. \
                 `attestlog verify` names everything that was changed; restore a backup",
                signed.size
            );
            return Ok(Standing::OtherTree(Error::damaged(message)));
        }
        if right {
            return Ok(Standing::Right);
        }
        let Range { start, end } = segment_of(seq >> NODE_LEVEL, signed.size);
        let message = format!(
            "entry {seq} is not known to be the one that was recorded: the hashes of the entries from {start} to {} are not \
             those that were signed. `attestlog verify` names everything that was changed; restore a backup",
            end - 1
        );
        Ok(Standing::Other(Error::damaged(message).about(seq)))
    }

    /// The entry at `seq`, checked, to be shown.
    ///
    /// # Errors
    /// `NoSuchEntry`; `Damaged` if it is not the entry that was recorded, or if the file is damaged; I/O errors.
    pub(crate) fn shown(&self, seq: u64) -> Result<Entry> {
        let (entry, hash) = self.find_beside(seq)?.ok_or_else(|| self.none(seq))?;
        match self.standing(&entry, hash)? {
            Standing::Right => Ok(entry),
            Standing::Other(e) | Standing::OtherTree(e) => Err(e),
        }
    }

    /// Newest entries that are not indexed, because they are not the entries that were recorded: any answer may lack them.
    pub(crate) fn unplaced(&self) -> Vec<u64> {
        let mut seqs = Vec::new();
        for mem_segment in &self.mem_segments {
            let index = mem_segment.read();
            seqs.extend(index.unplaced.iter().map(|place| mem_segment.from + u64::from(*place)));
        }
        seqs.retain(|seq| (self.indexed..self.size).contains(seq));
        seqs
    }

    /// What was last signed of this store.
    fn signed(&self) -> Result<Arc<Signed>> {
        let said = self.state.signed;
        let known = self.database.bound.read().signed.clone();
        if let Some(known) = known.filter(|known| known.said == said) {
            return Ok(known);
        }
        let (size, root) = self.signed_last()?.unwrap_or((0, Hash::ZERO));
        let found = peaks(size).map(|(level, index)| Ok((level, index, self.node(level, index)?)));
        let (peaks, differs) = match found.collect::<Result<Vec<_>>>() {
            Ok(peaks) => {
                let folded = peaks.iter().rev().map(|(.., hash)| *hash).reduce(|right, left| Hash::node(&left, &right));
                let differs = folded.is_some_and(|folded| folded != root);
                (peaks, differs)
            }
            // A node is missing.
            Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NoSuchEntry) => (Vec::new(), true),
            Err(e) => return Err(e),
        };
        let signed = Arc::new(Signed { size, peaks, said, differs });
        let mut reached = self.database.bound.write();
        if reached.signed.as_ref().is_none_or(|known| known.said <= said) {
            reached.signed = Some(signed.clone());
        }
        Ok(signed)
    }

    /// The size and root that were last signed of this store, up to the snapshot's size: the key file's mark, or the newest
    /// checkpoint in the store that the log's key signed, whichever is larger.
    fn signed_last(&self) -> Result<Option<(u64, Hash)>> {
        let inside = |size: u64| size <= self.state.size;
        let mark = self.mark.as_ref().map(|mark| (mark.size, mark.root)).filter(|(size, _)| inside(*size));
        let Some(key) = self.log_key() else { return Ok(mark) };
        let table = self.table(tables::CHECKPOINTS)?;
        for row in table.range(..=self.state.size).stored()?.rev().take(TRIED) {
            let (_, note) = row.stored()?;
            let Ok(signed) = SignedCheckpoint::parse(note.value()) else { continue };
            let (size, root) = (signed.checkpoint().size(), signed.checkpoint().root());
            if inside(size) && signed.verify(&key).is_ok() {
                return Ok(mark.filter(|(marked, _)| *marked >= size).or(Some((size, root))));
            }
        }
        Ok(mark)
    }

    /// The log's public key, as the first entry names it.
    fn log_key(&self) -> Option<VerifierKey> {
        let first = self.find(0).ok()??;
        Genesis::from_json(&first.own()?.detail.to_json()).ok()?.keys.map(|(key, _)| key)
    }

    /// Whether the stored leaves of a segment are those that were signed.
    fn hold_segment(&self, segment: u64, signed: &Signed) -> Result<bool> {
        let seqs = segment_of(segment, signed.size);
        let first = seqs.start;
        let held = || -> Result<bool> {
            let leaves: Vec<Option<Hash>> = seqs.clone().map(|seq| self.leaf(seq)).collect::<Result<_>>()?;
            for &(level, index, peak) in &signed.peaks {
                let under = index << level..(index + 1) << level;
                if under.end <= seqs.start || seqs.end <= under.start {
                    continue;
                }
                let low = level.min(NODE_LEVEL);
                let at = first.max(under.start) >> low;
                let mut hash = self.over(low, at, first, &leaves)?;
                for (above, level) in (low..level).enumerate() {
                    let place = at >> above;
                    let beside = self.node(level, place ^ 1)?;
                    hash = if place & 1 == 0 { Hash::node(&hash, &beside) } else { Hash::node(&beside, &hash) };
                }
                if hash != peak {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match held() {
            Ok(true) => self.database.bound.write().hold(segment, signed.size),
            Ok(false) => return Ok(false),
            // An unreadable leaf or node says nothing about other segments.
            Err(e) if matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NoSuchEntry) => return Ok(false),
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// A node below a stored one, computed from the leaves, which start at `first`. A node kept by a purge counts only if no
    /// leaf is left below it; otherwise it could hide changed leaves.
    fn over(&self, level: u8, index: u64, first: u64, leaves: &[Option<Hash>]) -> Result<Hash> {
        let at = |seq: u64| usize::try_from(seq - first).unwrap_or(usize::MAX);
        let some = leaves.get(at(index << level)..at((index + 1) << level)).unwrap_or_default();
        match some {
            [Some(leaf)] => Ok(*leaf),
            _ if level == 0 || some.iter().all(Option::is_none) => self.node(level, index),
            _ => {
                let left = self.over(level - 1, index * 2, first, leaves)?;
                Ok(Hash::node(&left, &self.over(level - 1, index * 2 + 1, first, leaves)?))
            }
        }
    }
}

/// The entries of a segment, as far as they are signed.
fn segment_of(segment: u64, size: u64) -> Range<u64> {
    let first = segment << NODE_LEVEL;
    first..size.min(first + (1 << NODE_LEVEL))
}

/// The error that it is unknown whether the entry at `seq` belongs to an answer.
pub(crate) fn not_placed(seq: u64) -> Error {
    let message = format!(
        "entry {seq} is not the one that was recorded, so it is not known whether the answer should have it. `attestlog verify` \
         names everything that was changed; restore a backup"
    );
    Error::damaged(message).about(seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::OpenStore;
    use crate::{Query, ToolCall};

    #[test]
    fn the_subtrees_of_a_size_lie_side_by_side() {
        for size in [0, 1, 2, 255, 256, 257, 700, 65_536, 65_537, u64::MAX] {
            let mut at = 0;
            for (level, index) in peaks(size) {
                assert_eq!(index << level, at, "{size}");
                at += 1 << level;
            }
            assert_eq!(at, size);
        }
    }

    /// At any signed size, with entries after it, and for older snapshots: authentic leaves pass, and each segment is checked
    /// once.
    #[test]
    fn what_was_signed_is_held_at_any_size() {
        let log = OpenStore::in_memory().unwrap();
        let mut older = Vec::new();
        let all_right = |snapshot: &Snapshot| {
            for seq in 0..snapshot.size {
                assert_eq!(snapshot.shown(seq).unwrap().seq, seq, "of {}", snapshot.size);
            }
        };
        for n in [1u64, 7, 100, 150, 3, 256, 200] {
            log.record_batch((0..n).map(|_| ToolCall::new("conv", "user", "lookup"))).unwrap();
            all_right(&log.snapshot().unwrap());
            let size = log.checkpoint().unwrap().checkpoint().size();
            let snapshot = log.snapshot().unwrap();
            all_right(&snapshot);
            {
                let reached = snapshot.database.bound.read();
                let signed = reached.signed.as_ref().unwrap();
                assert!(!signed.differs && signed.size == size, "{signed:?}");
                assert_eq!(
                    reached.segments.iter().map(|word| u64::from(word.count_ones())).sum::<u64>(),
                    size >> NODE_LEVEL
                );
                assert_eq!(reached.edge, if size.is_multiple_of(256) { reached.edge } else { size });
            }
            older.push(snapshot);
            older.iter().for_each(all_right);
            assert!(log.query(&Query::new().newest_first()).unwrap().all(|entry| entry.is_ok()));
        }
    }
}

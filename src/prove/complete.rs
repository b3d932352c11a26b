//! Making proofs that nothing is missing. What they prove, and how, is said where they are checked.

use crate::merkle;
use crate::note::SignedCheckpoint;
use crate::proof::{CompleteProof, KEYS, RowTerm, ShownBatch, ShownEntry, ShownRow, has_pseudonyms, pseudonym_keys};
use crate::redact::{is_pseudonym, key_of, normal};
use crate::retention::SeqSet;
use crate::rows::row_order;
use crate::store::{BatchRows, IndexRow, Snapshot, is_impersonal};
use crate::{AuditLog, Error, ErrorKind, Facet, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a proof may show of others. That a batch of the index does not have a value is shown by the rows on either side
/// of where it would stand: who these are, and which entries are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Neighbours {
    /// Nobody is named; pseudonyms, tools and the like are shown. Where that is not enough there is no proof.
    #[default]
    Withhold,
    /// Conversations, users and patients are shown under their clear ids where they must be.
    Reveal,
}

impl AuditLog {
    /// Every entry with this value of a facet, with the proof that none is missing. Users, patients and conversations
    /// are named by their clear values, or by a pseudonym.
    ///
    /// Writes the pending index batch first, so that what is not indexed yet need not be shown; signs a checkpoint.
    /// Reads the whole index, and holds the proof in memory.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where others would have to be named and `neighbours` withholds them;
    /// [`Key`](ErrorKind::Key) without the store's keys, or without a pseudonym key that was once in use;
    /// [`TooLarge`](ErrorKind::TooLarge) where no proof file may be as large; [`Damaged`](ErrorKind::Damaged) where the
    /// index is not the one that the log's batches name; as [`AuditLog::checkpoint`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Facet, Neighbours, ToolCall};
    /// # let log = AuditLog::in_memory()?;
    /// let seq = log.record(ToolCall::new("c", "u", "lookup").patient("P-1"))?.seq;
    /// let file = log.prove_complete(Facet::Patient, "P-1", Neighbours::Withhold)?.to_string();
    /// let checked = attestlog::proof::check(file.as_bytes(), &log.public_key().unwrap()).unwrap();
    /// assert_eq!(checked.to_json().get("seqs").unwrap().to_canonical().as_str(), format!("[{seq}]"));
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn prove_complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        let (checkpoint, snapshot) = self.engine().settle()?;
        self.complete_under(checkpoint, &snapshot, facet, value, neighbours)
    }

    /// The proof for what this checkpoint covers.
    pub(super) fn complete_under(
        &self,
        checkpoint: SignedCheckpoint,
        snapshot: &Snapshot,
        facet: Facet,
        value: &str,
        neighbours: Neighbours,
    ) -> Result<CompleteProof> {
        let size = checkpoint.checkpoint().size();
        let value = &*normal(value);
        let own = system_entries(snapshot, size)?;
        let terms = self.terms(facet, value, snapshot, &own)?;
        let mut needed = BTreeSet::new();
        let mut asked: Vec<(Facet, &str)> = terms.iter().map(|term| (facet, term.as_str())).collect();
        if has_pseudonyms(facet, value) {
            needed.extend(&own);
            asked.push(KEYS);
        }
        asked.sort_unstable_by_key(|(field, term)| row_order(*field, term));
        asked.dedup();
        let mut batches = snapshot.batch_rows(&asked)?;
        // A batch counts as soon as its entry does.
        batches.retain(|batch| batch.seq < size);
        let covered = batches.last().map_or(0, |batch| batch.end);
        check_uncovered(snapshot, covered..size, neighbours)?;
        needed.extend(covered..size);
        check_neighbours(&batches, &asked, neighbours)?;
        let mut gone = SeqSet::new();
        for batch in &batches {
            needed.insert(batch.seq);
            for row in batch.shown.iter().filter(|row| row.field == facet && terms.contains(&row.term)) {
                for &seq in &row.seqs {
                    match snapshot.exists(seq)? {
                        true => _ = needed.insert(seq),
                        false => gone.insert(seq),
                    }
                }
            }
            gone.extend(batch.gone.iter().flat_map(|row| row.seqs.iter().copied()));
        }
        let purges = self.purges_of(snapshot, &gone, size)?;
        needed.extend(purges.iter().map(|(seq, _)| *seq));
        let mut room = crate::proof::MAX_PROOF_BYTES;
        let mut entries = Vec::with_capacity(needed.len());
        for seq in needed {
            let line = snapshot.entry(seq)?.line();
            let path = merkle::inclusion_proof(snapshot, seq, size)?;
            // A hash takes 67 bytes in the file.
            let bytes = line.len() + path.len() * 67;
            room = room.checked_sub(bytes).ok_or_else(|| too_large(facet))?;
            entries.push(ShownEntry { line, path });
        }
        let batches = batches.iter().map(|batch| show(snapshot, batch)).collect::<Result<_>>()?;
        let proof = CompleteProof { facet, value: value.to_owned(), terms, entries, batches, purges, checkpoint };
        match proof.to_string().len() > crate::proof::MAX_PROOF_BYTES {
            true => Err(too_large(facet)),
            false => Ok(proof),
        }
    }

    /// The spellings under which the log may hold the value, sorted: itself, and its pseudonym under every key that the log
    /// ever names.
    fn terms(&self, facet: Facet, value: &str, snapshot: &Snapshot, own: &BTreeSet<u64>) -> Result<Vec<String>> {
        let mut terms = self.engine().policies().terms(facet, value);
        if has_pseudonyms(facet, value) {
            let own = own.iter().map(|&seq| snapshot.entry(seq)).collect::<Result<Vec<_>>>()?;
            let mut keys = pseudonym_keys(own.iter());
            // A key that the log does not name yet has written nothing in it.
            terms.retain(|term| !is_pseudonym(term) || key_of(term).is_some_and(|id| keys.remove(id)));
            if let Some(id) = keys.first() {
                let message = format!("the pseudonym key {id} was in use and is not in the key file; bring it back");
                return Err(Error::new(ErrorKind::Key, message));
            }
        }
        terms.sort_unstable();
        Ok(terms)
    }

    /// The purges that took these entries, each with everything that it took.
    fn purges_of(&self, snapshot: &Snapshot, gone: &SeqSet, size: u64) -> Result<Vec<(u64, SeqSet)>> {
        let mut purges = Vec::new();
        let mut left: BTreeSet<u64> = gone.iter().collect();
        for (seq, _) in self.engine().chain_state().purges.iter().filter(|(seq, _)| *seq < size) {
            if left.is_empty() {
                break;
            }
            let Some(set) = snapshot.purged_by(*seq)? else { continue };
            let before = left.len();
            left.retain(|seq| !set.contains(*seq));
            if left.len() < before {
                purges.push((*seq, set));
            }
        }
        match left.first() {
            None => Ok(purges),
            Some(seq) if self.engine().purged().contains(*seq) => Err(purged_since(*seq, size)),
            Some(seq) => Err(Error::damaged(format!("entry {seq} is neither there nor purged; `verify` says more"))),
        }
    }
}

fn purged_since(seq: u64, size: u64) -> Error {
    let message = format!(
        "entry {seq} was purged after the checkpoint of {size} entries, which cannot say so: a newer one must be signed"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Refuses to show what no index batch covers where these are calls, of whomever.
fn check_uncovered(snapshot: &Snapshot, uncovered: Range<u64>, neighbours: Neighbours) -> Result<()> {
    let size = uncovered.end;
    let (first, mut others) = (uncovered.start, 0u64);
    for seq in uncovered {
        let entry = snapshot.checked(seq)?.ok_or_else(|| purged_since(seq, size))?;
        others += u64::from(!is_impersonal(entry.kind()));
    }
    if others == 0 || neighbours == Neighbours::Reveal {
        return Ok(());
    }
    let message = format!(
        "no index batch that the checkpoint of {size} entries covers has the entries from {first} on, and to show that the \
         value is not in them the proof would have to show them whole, {others} that may be other people's among them; ask for \
         that if whoever gets the proof may know them, or let a newer checkpoint be signed, which writes the index first"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// The first entry and the keys, which say under which spellings a value may stand.
fn system_entries(snapshot: &Snapshot, size: u64) -> Result<BTreeSet<u64>> {
    let wanted = |kind| matches!(kind, Kind::Genesis | Kind::Key);
    let mut own = snapshot.system_entries(wanted)?;
    own.retain(|seq| *seq < size);
    for seq in snapshot.indexed..size.max(snapshot.indexed) {
        if wanted(snapshot.entry(seq)?.kind()) {
            own.insert(seq);
        }
    }
    Ok(own)
}

fn is_person(facet: Facet) -> bool {
    matches!(facet, Facet::Conversation | Facet::User | Facet::Patient)
}

fn check_neighbours(batches: &[BatchRows], asked: &[(Facet, &str)], neighbours: Neighbours) -> Result<()> {
    if neighbours == Neighbours::Reveal {
        return Ok(());
    }
    let names =
        |row: &&IndexRow| is_person(row.field) && !is_pseudonym(&row.term) && !asked.contains(&(row.field, &row.term));
    let mut named: BTreeMap<Facet, BTreeSet<&str>> = BTreeMap::new();
    for row in batches.iter().flat_map(|batch| batch.shown.iter().filter(names)) {
        named.entry(row.field).or_default().insert(&row.term);
    }
    if named.is_empty() {
        return Ok(());
    }
    let said: Vec<String> = named.iter().map(|(f, terms)| format!("{} × {}", terms.len(), f.as_str())).collect();
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "a part of the index does not have this value, and to show that it is missing there, the proof would have to name \
             the values next to it and their entries: {}. If whoever gets the proof may know them, ask for them to be shown; \
             or let the policy write pseudonyms, which give nobody away",
            said.join(", ")
        ),
    ))
}

fn show(snapshot: &Snapshot, batch: &BatchRows) -> Result<ShownBatch> {
    let size = batch.leaves.0.len() as u64;
    batch.check(&snapshot.named_batch(batch.first, batch.end, batch.seq)?)?;
    let row = |position: u64, term: RowTerm, seqs: &[u64]| -> Result<ShownRow> {
        let path = merkle::inclusion_proof(&batch.leaves, position, size)?;
        Ok(ShownRow { position, term, seqs: seqs.iter().copied().collect(), path })
    };
    let known = batch.shown.iter().map(|IndexRow { field, term, salt, position, seqs }| {
        row(*position, RowTerm::Known { facet: *field, term: term.clone(), salt: *salt }, seqs)
    });
    let gone = batch.gone.iter().map(|g| row(g.position, RowTerm::Purged(g.inner), &g.seqs));
    let mut rows = known.chain(gone).collect::<Result<Vec<_>>>()?;
    rows.sort_unstable_by_key(|row| row.position);
    Ok(ShownBatch { entry: batch.seq, rows })
}

fn too_large(facet: Facet) -> Error {
    let limit = crate::proof::MAX_PROOF_BYTES >> 20;
    let message = format!("too many entries have this {} for one proof of {limit} MiB", facet.as_str());
    Error::new(ErrorKind::TooLarge, message)
}

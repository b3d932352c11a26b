//! Makes proofs that nothing is missing. `attestlog_proof::proof` documents what they prove and how.

use crate::merkle;
use crate::names::normal_of;
use crate::note::SignedCheckpoint;
use crate::proof::{CompleteProof, KEYS, RowTerm, ShownBatch, ShownEntry, ShownRow, has_pseudonyms, pseudonym_keys};
use crate::redact::{is_pseudonym, key_of};
use crate::retention::SeqSet;
use crate::rows::row_order;
use crate::store::OpenStore;
use crate::store::{BatchRows, IndexRow, Snapshot, is_impersonal};
use crate::{Error, ErrorKind, Facet, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// What a proof may show about others. To show that a batch of the index lacks a value, the proof shows the rows on
/// either side of where the value would be: whose they are, and which entries they list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Neighbours {
    /// Clear names are withheld; pseudonyms, tools and the like are shown. If that is not enough, there is no proof.
    #[default]
    Withhold,
    /// Conversations, users and patients are shown under their clear ids where necessary.
    Reveal,
}

impl Neighbours {
    /// Both.
    pub const ALL: &[Neighbours] = &[Neighbours::Withhold, Neighbours::Reveal];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Neighbours::Withhold => "withhold",
            Neighbours::Reveal => "reveal",
        }
    }
}

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

attestlog_proof::named_form!(serde Neighbours, "way to treat neighbours");

impl OpenStore {
    /// Every entry with this value of a facet, with the proof that none is missing. Users, patients and conversations
    /// are named by their clear values, or by a pseudonym.
    pub(crate) fn prove_complete(&self, facet: Facet, value: &str, neighbours: Neighbours) -> Result<CompleteProof> {
        let (checkpoint, snapshot) = self.engine().settle()?;
        self.complete_under(checkpoint, &snapshot, facet, value, neighbours)
    }

    /// Makes the proof for the entries that this checkpoint covers.
    pub(super) fn complete_under(
        &self,
        checkpoint: SignedCheckpoint,
        snapshot: &Snapshot,
        facet: Facet,
        value: &str,
        neighbours: Neighbours,
    ) -> Result<CompleteProof> {
        let size = checkpoint.checkpoint().size();
        let value = &*normal_of(facet, value);
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
        let mut batches = snapshot.batches()?;
        // A batch counts only if its entry is covered.
        batches.retain(|(_, _, entry)| *entry < size);
        let covered = batches.last().map_or(0, |(_, end, _)| *end);
        check_uncovered(snapshot, covered..size, neighbours)?;
        needed.extend(covered..size);
        let (mut gone, mut shown, mut others) = (SeqSet::new(), Vec::new(), Others::default());
        snapshot.batch_rows(&batches, &asked, &mut |batch| {
            others.add(&batch, &asked);
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
            shown.push(show(snapshot, &batch)?);
            Ok(())
        })?;
        if neighbours == Neighbours::Withhold {
            others.refuse()?;
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
        let proof =
            CompleteProof { facet, value: value.to_owned(), terms, entries, batches: shown, purges, checkpoint };
        match proof.to_string().len() > crate::proof::MAX_PROOF_BYTES {
            true => Err(too_large(facet)),
            false => Ok(proof),
        }
    }

    /// The spellings under which the log may hold the value, sorted: the value itself, and its pseudonym under every
    /// key that the log names.
    fn terms(&self, facet: Facet, value: &str, snapshot: &Snapshot, own: &BTreeSet<u64>) -> Result<Vec<String>> {
        let mut terms = self.engine().policies().terms(facet, value);
        if has_pseudonyms(facet, value) {
            let own = own.iter().map(|&seq| snapshot.entry(seq)).collect::<Result<Vec<_>>>()?;
            let mut keys = pseudonym_keys(own.iter());
            // A key that the log does not name yet was never used in it.
            terms.retain(|term| !is_pseudonym(term) || key_of(term).is_some_and(|id| keys.remove(id)));
            if let Some(id) = keys.first() {
                let message = format!("the pseudonym key {id} was in use and is not in the key file; bring it back");
                return Err(Error::new(ErrorKind::Key, message));
            }
        }
        terms.sort_unstable();
        Ok(terms)
    }

    /// The purges that took these entries, each with the full set of entries that it took.
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
            Some(seq) => Err(Error::damaged(format!("entry {seq} is neither present nor purged; `verify` says more"))),
        }
    }
}

fn purged_since(seq: u64, size: u64) -> Error {
    let message = format!(
        "entry {seq} was purged after the checkpoint of {size} entries, which cannot show that: a newer one must be signed"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Refuses to show the entries that no index batch covers if some of them could be about people.
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
         value is not in them the proof would have to show them in full, {others} that may be other people's among them; ask for \
         that if whoever gets the proof may know them, or let a newer checkpoint be signed, which writes the index first"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// The first entry and the entries about keys, which determine the spellings of a value.
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

/// The clear names of others that a proof would show, each once.
#[derive(Debug, Default)]
struct Others(BTreeMap<Facet, BTreeSet<String>>);

impl Others {
    fn add(&mut self, batch: &BatchRows, asked: &[(Facet, &str)]) {
        let names = |row: &&IndexRow| {
            is_person(row.field) && !is_pseudonym(&row.term) && !asked.contains(&(row.field, &row.term))
        };
        for row in batch.shown.iter().filter(names) {
            self.0.entry(row.field).or_default().insert(row.term.clone());
        }
    }

    /// Fails if there are any.
    fn refuse(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let said: Vec<String> = self.0.iter().map(|(f, terms)| format!("{} × {}", terms.len(), f.as_str())).collect();
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "to show that a part of the index does not have this value, the proof would also show the values next to it, with \
                 their entries: {}. Ask for them to be shown if whoever gets the proof may know them; or let the policy write \
                 pseudonyms, which give nobody away",
                said.join(", ")
            ),
        ))
    }
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

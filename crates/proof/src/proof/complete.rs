//! Proves that nothing is missing: every entry that has one value of one facet, and why there can be no other.
//!
//! ```text
//! {"kind":"complete","facet":…,"value":…,"terms":[…],"checkpoint":…,
//!  "entries":[{"line":…,"path":[hex…]}…],
//!  "batches":[{"entry":SEQ,"rows":[{"position","facet","term","salt","seqs","path"} or {"position","inner","seqs","path"}…]}…],
//!  "purges":[{"entry":SEQ,"seqs":…}…]}
//! ```
//! A set of seqs is written as its text, `0-4,7-7`, or, if that is longer than [`MAX_TEXT`], as `{"packed":base64}` of
//! [`SeqSet::encode`].
//!
//! What is checked, and why it suffices. The index batches are entries of the log. Each names the range of the log that
//! it covers, how many rows it has and the Merkle root over them. A row is one term with all seqs that have it; rows
//! are in one order: pseudonyms last, then by facet and term. So:
//!
//! 1. The batches' entries are in the log, and their ranges begin at 0 and follow each other without a gap.
//! 2. For each batch, the proof shows the term's row at its place, or two adjacent rows between which it would be (or the
//!    first row, or the last), so that the batch has no such row.
//! 3. Every entry that no batch covers is shown.
//! 4. Every seq in the term's rows is that of an entry that is shown and has the term, or is in the exact set that a
//!    purge in the log names by its digest.
//! 5. A row whose term was purged shows only its inner hash and its seqs. It may be between the neighbours if all its
//!    seqs were purged: even if it was the term's row, there is no entry left to show. Such seqs are reported as unknown.
//! 6. Values may be recorded under pseudonyms, whatever a policy says: a user whose name looks like a card number, a
//!    conversation that has a hidden patient in its name. The log's first entry and its entries of the kind `key` say which
//!    pseudonym keys it ever had, and that all of these are shown is proven in the same way. The terms must be the value
//!    itself, in its normal form, and one pseudonym for each key.
//!
//! This holds against everybody who obtained the log after it was recorded and cannot append to it, including whoever makes
//! the proof: a batch is signed with the log. It does not hold against a recorder that wrote false batches or purges, nor
//! against somebody who holds the log's keys and appends a second batch for a range that has one, or a purge of entries that had
//! not expired: a full verification finds these. Nor does it hold against a recorder that never recorded the call.
//!
//! Invariant R101: nothing is proven about a value by pseudonyms of which nobody who holds the pseudonym keys has said that they
//! are that value's ([`Mapping`]): whoever passes the file on can write another value over it. Only where the proof shows that
//! the log has no pseudonym of the facet at all does it not matter whose they are.

use super::{CheckError, Checked, MAX_HASHES, Proven, Standing};
use crate::Hash;
use crate::entry::{Entry, Facet, Kind};
use crate::hash::{from_hex, to_hex};
use crate::json::{Json, Object};
use crate::merkle;
use crate::names::{self, is_pseudonym, key_of};
use crate::note::SignedCheckpoint;
use crate::purge::PurgeRecord;
use crate::rows::{BATCH, SALT_BYTES, row_inner, row_leaf_of, row_order};
use crate::seqs::SeqSet;
use crate::spelling;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A set of seqs whose text is longer than this is written packed.
const MAX_TEXT: usize = 4096;

/// The most seqs that all rows of a proof may list together: each takes eight bytes in memory while its row is hashed.
const MAX_LISTED: u64 = 1 << 29;

/// The term of the entries that say which keys the log has had.
pub const KEYS: (Facet, &str) = (Facet::Kind, Kind::Key.as_str());

/// Proves that these are all entries with one value of one facet. Prints as one line of canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteProof {
    /// The facet.
    pub facet: Facet,
    /// The value, as it was asked for.
    pub value: String,
    /// The terms under which the log may hold the value, sorted: itself and its pseudonyms.
    pub terms: Vec<String>,
    /// Every entry that the proof needs, by seq: those that have the value, and those that show why there is no other.
    pub entries: Vec<ShownEntry>,
    /// Every index batch, in order.
    pub batches: Vec<ShownBatch>,
    /// The purges that removed some of the entries: the seq of each purge's entry and the exact set.
    pub purges: Vec<(u64, SeqSet)>,
    /// The checkpoint whose root everything leads to.
    pub checkpoint: SignedCheckpoint,
}

/// An entry with its inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownEntry {
    /// Its canonical line.
    pub line: String,
    /// The hashes from its sibling up, as [`merkle::inclusion_proof`] gives them.
    pub path: Vec<Hash>,
}

/// The part of an index batch that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownBatch {
    /// The seq of its entry.
    pub entry: u64,
    /// Some of its rows, by position.
    pub rows: Vec<ShownRow>,
}

/// A row of an index batch with its inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    /// Its position among the batch's rows.
    pub position: u64,
    /// The term of the row.
    pub term: RowTerm,
    /// Every seq of the batch that had the term.
    pub seqs: SeqSet,
    /// The hashes from its sibling up to the batch's root.
    pub path: Vec<Hash>,
}

/// Whether the pseudonyms that a completeness proof looked for are those of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// It does not matter: no pseudonym was looked for, or the proof shows that the log has none of this facet.
    NotNeeded,
    /// Nothing shows it, and the log has pseudonyms of this facet: the proof is about these pseudonyms and not about the value.
    Unproven,
    /// Somebody who holds the pseudonym keys computed them anew ([`Checked::confirmed`]).
    Confirmed,
}

impl Mapping {
    /// Its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mapping::NotNeeded => "none",
            Mapping::Unproven => "unproven",
            Mapping::Confirmed => "confirmed",
        }
    }
}

/// What is known about a row's term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTerm {
    /// The term itself.
    Known {
        /// The facet.
        facet: Facet,
        /// The term.
        term: String,
        /// The salt that keeps the term from being guessed from its hash.
        salt: [u8; SALT_BYTES],
    },
    /// The term was purged; its hash was kept.
    Purged(Hash),
}

impl fmt::Display for CompleteProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.to_json().to_canonical())
    }
}

/// Whether a value of this facet may be recorded under a pseudonym: not if it is a pseudonym itself, or if values of the
/// facet are not chosen freely.
pub fn has_pseudonyms(facet: Facet, value: &str) -> bool {
    names::domain(facet).is_some() && !is_pseudonym(value)
}

/// The ids of all pseudonym keys that a log ever used, according to its first entry and its entries of the kind `key`.
pub fn pseudonym_keys<'a>(own: impl Iterator<Item = &'a Entry>) -> BTreeSet<String> {
    own.filter_map(Entry::own).filter_map(|own| names::pseudonym_key(own.kind, &own.detail.to_json())).collect()
}

/// Whether `terms` are the value and exactly one pseudonym for each key.
fn fit(mut keys: BTreeSet<String>, value: &str, terms: &[String]) -> bool {
    let mut clear = true;
    terms.iter().all(|term| match term == value {
        true => std::mem::take(&mut clear),
        false => is_pseudonym(term) && key_of(term).is_some_and(|id| keys.remove(id)),
    }) && keys.is_empty()
        && !clear
}

impl CompleteProof {
    /// The JSON in the file.
    pub fn to_json(&self) -> Json {
        let entry = |e: &ShownEntry| object([("line", e.line.as_str().into()), ("path", hashes(&e.path))]);
        let purge = |(seq, set): &(u64, SeqSet)| object([("entry", (*seq).into()), ("seqs", seqs_to_json(set))]);
        object([
            ("kind", "complete".into()),
            ("facet", self.facet.as_str().into()),
            ("value", self.value.as_str().into()),
            ("terms", self.terms.clone().into()),
            ("checkpoint", self.checkpoint.to_string().into()),
            ("entries", Json::Array(self.entries.iter().map(entry).collect())),
            ("batches", Json::Array(self.batches.iter().map(ShownBatch::to_json).collect())),
            ("purges", Json::Array(self.purges.iter().map(purge).collect())),
        ])
    }

    /// Reads what [`CompleteProof::to_json`] made, and nothing else, without checking what it proves.
    ///
    /// # Errors
    /// [`CheckError::Malformed`] or [`CheckError::Note`]: the form is wrong.
    pub fn from_json(json: &Json) -> Result<CompleteProof, CheckError> {
        let entry = |json: &Json| Ok(ShownEntry { line: text(json, "line")?.to_owned(), path: path(json)? });
        let purge = |json: &Json| Ok((number(json, "entry")?, seqs_from_json(json)?));
        let terms = list(json, "terms", |t| t.as_str().map(str::to_owned).ok_or_else(|| wrong("terms")))?;
        let proof = CompleteProof {
            facet: field(json)?,
            value: text(json, "value")?.to_owned(),
            terms,
            entries: list(json, "entries", entry)?,
            batches: list(json, "batches", ShownBatch::from_json)?,
            purges: list(json, "purges", purge)?,
            checkpoint: SignedCheckpoint::parse(text(json, "checkpoint")?.as_bytes())?,
        };
        // One comparison covers every other error: unknown members, another spelling of the same content.
        if proof.to_json() == *json {
            Ok(proof)
        } else {
            Err(CheckError::Malformed("it is not in canonical form, or has members that are not known".to_owned()))
        }
    }

    pub(super) fn check(self) -> Result<Proven, CheckError> {
        let (size, root) = (self.checkpoint.checkpoint().size(), self.checkpoint.checkpoint().root());
        let shown = Shown::of(&self)?;
        if !self.terms.is_sorted_by(|a, b| a < b) {
            return Err(incomplete("its terms are not in order"));
        }
        let mut needed: BTreeSet<u64> = shown.needed.clone();
        if names::normal_of(self.facet, &self.value) != self.value {
            return Err(incomplete("its value is not in the form in which values are recorded"));
        }
        let mut keys = BTreeSet::new();
        if has_pseudonyms(self.facet, &self.value) {
            let mut own = BTreeSet::from([0]);
            own.extend(shown.find(KEYS.0, KEYS.1)?.seqs);
            let missing = |seq| incomplete(format!("entry {seq}, which is about the log's keys, is not shown"));
            let of = |&seq: &u64| shown.entries.get(&seq).ok_or_else(|| missing(seq));
            keys = pseudonym_keys(own.iter().map(of).collect::<Result<Vec<_>, _>>()?.into_iter());
            needed.extend(&own);
        }
        if !fit(keys, &self.value, &self.terms) {
            return Err(incomplete("its terms are not the value and one pseudonym for each of the log's keys"));
        }
        let (mut seqs, mut purged, mut unknown) = (BTreeSet::new(), SeqSet::new(), SeqSet::new());
        for term in &self.terms {
            let found = shown.find(self.facet, term)?;
            unknown = unknown.union(&found.unknown);
            for &seq in &found.seqs {
                match shown.entries.get(&seq) {
                    Some(entry) if has(entry, self.facet, term) => _ = seqs.insert(seq),
                    Some(_) => return Err(incomplete(format!("entry {seq} is listed and does not have the value"))),
                    None if shown.is_purged(seq) => purged.insert(seq),
                    None => return Err(incomplete(format!("entry {seq} has the value and is not shown"))),
                }
            }
            let unlisted = shown.entries.iter().find(|(seq, e)| !found.seqs.contains(seq) && has(e, self.facet, term));
            if let Some((seq, _)) = unlisted {
                return Err(incomplete(format!("entry {seq} has the value and is not listed: the index is wrong")));
            }
        }
        needed.extend(&seqs);
        if let Some(seq) = shown.entries.keys().find(|seq| !needed.contains(seq)) {
            return Err(CheckError::Malformed(format!("entry {seq} has nothing to do with it")));
        }
        let hidden = self.terms.iter().any(|term| *term != self.value) && shown.has_pseudonyms(self.facet);
        let mapping = if hidden { Mapping::Unproven } else { Mapping::NotNeeded };
        let newest = shown.entries.values().map(|entry| entry.body.recorded_at).max();
        let (purges, proven) = (shown.records, shown.entries.into_keys().collect::<Vec<u64>>());
        let entries = self.entries.into_iter().zip(proven);
        let entries = entries.filter(|(_, seq)| seqs.contains(seq)).map(|(entry, seq)| (seq, entry.line)).collect();
        let (facet, value, terms) = (self.facet, self.value, self.terms);
        Ok(Proven::Complete { facet, value, terms, mapping, size, root, entries, purged, unknown, purges, newest })
    }
}

impl Proven {
    /// The name that the value of a completeness proof looks like but is not: `anna` for a name with a Cyrillic letter in it. Whoever
    /// hands out a proof chooses its value, and it is easy to prove that a log has nothing under a look-alike of a name.
    pub fn looks_like(&self) -> Option<String> {
        match self {
            Proven::Complete { value, .. } if spelling::is_look_alike(value) => Some(spelling::look(value)),
            _ => None,
        }
    }

    /// The pseudonyms that a completeness proof looked for in the place of its value; none for other proofs.
    pub fn pseudonyms(&self) -> Vec<&str> {
        match self {
            Proven::Complete { value, terms, .. } => {
                terms.iter().filter(|term| *term != value).map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is known of the pseudonyms on which a completeness proof rests; [`Mapping::NotNeeded`] for other proofs.
    pub fn mapping(&self) -> Mapping {
        match self {
            Proven::Complete { mapping, .. } => *mapping,
            _ => Mapping::NotNeeded,
        }
    }
}

impl Checked {
    /// Whether everything that it says is proven: it was not signed in a closed epoch from which nothing shows that the log went on,
    /// and does not rest on pseudonyms of which it is not known whose they are.
    pub fn holds(&self) -> bool {
        self.standing != Standing::Closed && self.proven.mapping() != Mapping::Unproven
    }

    /// Accepts the word of somebody who holds the log's pseudonym keys: `spellings` are the value that a completeness proof is about,
    /// and its pseudonyms under all of these keys. Changes nothing for other proofs.
    ///
    /// # Errors
    /// [`CheckError::Contradicted`] if the proof looked for another pseudonym under one of the keys, or for one under a key of which
    /// there is none in `spellings`.
    pub fn confirmed(mut self, spellings: &[String]) -> Result<Checked, CheckError> {
        let Proven::Complete { value, terms, mapping, .. } = &mut self.proven else { return Ok(self) };
        let Some(other) = terms.iter().find(|term| *term != value && !spellings.contains(term)) else {
            if *mapping == Mapping::Unproven {
                *mapping = Mapping::Confirmed;
            }
            return Ok(self);
        };
        let id = key_of(other).unwrap_or_default();
        let message = match spellings.iter().any(|known| key_of(known) == Some(id)) {
            true => format!(
                "it looked for {other}, which is not the pseudonym of {:?}: it is about somebody else",
                super::shorten(value)
            ),
            false => format!(
                "it looked for {other}, and the pseudonym key {id} is not among those given: take the log's newest key file"
            ),
        };
        Err(CheckError::Contradicted(message))
    }

    /// Checks that the proof is about what the caller wanted to know: this value of this facet. Otherwise what it is about is
    /// its maker's choice.
    ///
    /// # Errors
    /// [`CheckError::Contradicted`] if it is about something else.
    pub fn about(self, facet: Facet, value: &str) -> Result<Checked, CheckError> {
        let wanted = names::normal_of(facet, value);
        let asked = format!("{} {:?}", facet.as_str(), super::shorten(&wanted));
        let Proven::Complete { facet: of, value: is, .. } = &self.proven else {
            let message = format!("it is not a completeness proof, and does not show what there is of {asked}");
            return Err(CheckError::Contradicted(message));
        };
        if *of == facet && *is == *wanted {
            return Ok(self);
        }
        let seen = |name: &str| spelling::look(&spelling::decomposed(name));
        let alike = if *of == facet && seen(is) == seen(&wanted) {
            format!(", which only looks like it ({})", spelled(&super::shorten(is)))
        } else {
            String::new()
        };
        Err(CheckError::Contradicted(format!(
            "it is about {} {:?}{alike}, and says nothing of {asked}",
            of.as_str(),
            super::shorten(is)
        )))
    }
}

impl ShownBatch {
    fn to_json(&self) -> Json {
        let row = |row: &ShownRow| {
            let mut json = Object::from_iter([("position", row.position)]);
            match &row.term {
                RowTerm::Known { facet, term, salt } => {
                    json.insert("facet", facet.as_str());
                    json.insert("term", term.as_str());
                    json.insert("salt", to_hex(salt));
                }
                RowTerm::Purged(inner) => _ = json.insert("inner", inner.to_string()),
            }
            json.insert("seqs", seqs_to_json(&row.seqs));
            json.insert("path", hashes(&row.path));
            Json::from(json)
        };
        object([("entry", self.entry.into()), ("rows", Json::Array(self.rows.iter().map(row).collect()))])
    }

    fn from_json(json: &Json) -> Result<ShownBatch, CheckError> {
        let row = |json: &Json| {
            let term = match json.get("inner") {
                Some(_) => RowTerm::Purged(text(json, "inner")?.parse().map_err(|_| wrong("inner"))?),
                None => {
                    let salt = from_hex(text(json, "salt")?).and_then(|s| s.try_into().ok());
                    let (salt, term) = (salt.ok_or_else(|| wrong("salt"))?, text(json, "term")?.to_owned());
                    RowTerm::Known { facet: field(json)?, term, salt }
                }
            };
            Ok(ShownRow { position: number(json, "position")?, term, seqs: seqs_from_json(json)?, path: path(json)? })
        };
        Ok(ShownBatch { entry: number(json, "entry")?, rows: list(json, "rows", row)? })
    }
}

impl ShownRow {
    /// The row's leaf in the batch's Merkle tree.
    fn leaf(&self) -> Hash {
        let inner = match &self.term {
            RowTerm::Known { facet, term, salt } => row_inner(salt, *facet, term),
            RowTerm::Purged(inner) => *inner,
        };
        row_leaf_of(&inner, &self.seqs.iter().collect::<Vec<_>>())
    }

    /// Its sort key among the rows; `None` if its term was purged.
    fn key(&self) -> Option<(bool, u8, &str)> {
        match &self.term {
            RowTerm::Known { facet, term, .. } => Some(row_order(*facet, term)),
            RowTerm::Purged(_) => None,
        }
    }
}

/// What the entry of a batch says about it.
struct Head {
    first: u64,
    end: u64,
    rows: u64,
    rows_root: Hash,
}

impl Head {
    fn of(entry: &Entry) -> Option<Head> {
        let own = entry.own().filter(|own| own.kind == Kind::IndexBatch)?;
        let detail = own.detail.to_json();
        let number = |key: &str| detail.get(key).and_then(Json::as_u64);
        let rows_root = detail.get("rows_root")?.as_str()?.parse().ok()?;
        Some(Head { first: number("first")?, end: number("end")?, rows: number("rows")?, rows_root })
    }
}

/// Everything that the proof shows, each part checked by itself.
struct Shown<'a> {
    entries: BTreeMap<u64, Entry>,
    batches: Vec<(Head, &'a [ShownRow])>,
    /// Where the last batch ends.
    covered: u64,
    purges: &'a [(u64, SeqSet)],
    /// The records in the entries of these purges.
    records: Vec<(u64, PurgeRecord)>,
    /// Entries that are shown for another reason than having the value.
    needed: BTreeSet<u64>,
}

/// What is known about one term.
#[derive(Default)]
struct Found {
    /// The seqs that have it, or had it before they were purged.
    seqs: BTreeSet<u64>,
    /// Purged seqs that may have had it.
    unknown: SeqSet,
}

impl<'a> Shown<'a> {
    fn of(proof: &'a CompleteProof) -> Result<Shown<'a>, CheckError> {
        let (size, root) = (proof.checkpoint.checkpoint().size(), proof.checkpoint.checkpoint().root());
        let mut entries = BTreeMap::new();
        for shown in &proof.entries {
            let entry = Entry::from_line(&shown.line).map_err(|e| CheckError::Entry(e.to_string()))?;
            let seq = entry.seq;
            merkle::verify_inclusion(seq, size, Hash::leaf(shown.line.as_bytes()), &shown.path, root)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= seq) {
                return Err(CheckError::Malformed("its entries are not in order".to_owned()));
            }
            entries.insert(seq, entry);
        }
        let (batches, records, needed) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut shown = Shown { entries, batches, covered: 0, purges: &proof.purges, records, needed };
        let mut listed = 0;
        for batch in &proof.batches {
            shown.batch(batch, &mut listed)?;
        }
        for seq in shown.covered..size {
            if !shown.entries.contains_key(&seq) {
                return Err(incomplete(format!("entry {seq} is in no index batch and is not shown")));
            }
            shown.needed.insert(seq);
        }
        for (seq, set) in &proof.purges {
            let entry = shown.entries.get(seq).and_then(Entry::own).filter(|own| own.kind == Kind::Purge);
            let Some(record) = entry.and_then(|own| PurgeRecord::took(&own.detail.to_json(), *seq, set)) else {
                return Err(incomplete(format!("entry {seq} is not the purge that took the set beside it")));
            };
            shown.records.push((*seq, record));
            shown.needed.insert(*seq);
        }
        Ok(shown)
    }

    fn batch(&mut self, batch: &'a ShownBatch, listed: &mut u64) -> Result<(), CheckError> {
        let at = batch.entry;
        let bad = |what: &str| incomplete(format!("the index batch of entry {at} {what}"));
        let head = self.entries.get(&at).and_then(Head::of).ok_or_else(|| bad("is not shown to be one"))?;
        if head.first != self.covered {
            return Err(bad(&format!("begins at {}, the one before it ends at {}", head.first, self.covered)));
        }
        if head.end <= head.first || head.end > at || head.end - head.first > BATCH {
            return Err(bad("covers what it cannot cover"));
        }
        let (mut position, mut key) = (None, None);
        for row in &batch.rows {
            let inside = row.seqs.bounds().is_some_and(|(low, high)| low >= head.first && high < head.end);
            if !inside {
                return Err(bad("has a row with seqs that are not its own"));
            }
            *listed += row.seqs.len();
            if *listed > MAX_LISTED {
                return Err(CheckError::Malformed("its rows list more seqs than are checked at once".to_owned()));
            }
            merkle::verify_inclusion(row.position, head.rows, row.leaf(), &row.path, head.rows_root)?;
            if position.replace(row.position).is_some_and(|before| before >= row.position) {
                return Err(bad("has rows that are not in order"));
            }
            if row.key().is_some() && std::mem::replace(&mut key, row.key()).is_some_and(|b| Some(b) >= row.key()) {
                return Err(bad("has terms out of order, which no recorder writes"));
            }
        }
        self.covered = head.end;
        self.needed.insert(at);
        self.batches.push((head, &batch.rows));
        Ok(())
    }

    /// Every seq that has this term, whether or not its entry still exists.
    fn find(&self, field: Facet, term: &str) -> Result<Found, CheckError> {
        let mut found = Found::default();
        let place = row_order(field, term);
        for (head, rows) in &self.batches {
            if let Some(row) = rows.iter().find(|row| row.key() == Some(place)) {
                found.seqs.extend(row.seqs.iter());
                continue;
            }
            let left = rows.iter().rfind(|row| row.key().is_some_and(|key| key < place));
            let right = rows.iter().find(|row| row.key().is_some_and(|key| key > place));
            let mut next = left.map_or(0, |row| row.position + 1);
            let end = right.map_or(head.rows, |row| row.position);
            let between = next..end;
            for row in rows.iter().filter(|row| between.contains(&row.position)) {
                // A row with a term in this range would be `left`, `right` or the row itself, so these have none.
                if row.position != next {
                    break;
                }
                if let Some(seq) = row.seqs.iter().find(|seq| !self.is_purged(*seq)) {
                    return Err(incomplete(format!("a row without its term lists entry {seq}, which was not purged")));
                }
                found.unknown = found.unknown.union(&row.seqs);
                next += 1;
            }
            if next != end {
                let place = format!("{} to {}", head.first, head.end - 1);
                return Err(incomplete(format!(
                    "it does not show whether the index of entries {place} has {} {:?}",
                    field.as_str(),
                    super::shorten(term)
                )));
            }
        }
        let tail = self.entries.range(self.covered..).filter(|(_, entry)| has(entry, field, term));
        found.seqs.extend(tail.map(|(seq, _)| *seq));
        Ok(found)
    }

    /// Whether the log could have a pseudonym of this facet, after one was looked for with [`Shown::find`]: then each batch shows the
    /// rows on either side of its place. All pseudonyms of a facet stand together, so one of these is among them if there is any.
    fn has_pseudonyms(&self, facet: Facet) -> bool {
        let is_one = |row: &ShownRow| matches!(&row.term, RowTerm::Known { facet: of, term, .. } if *of == facet && is_pseudonym(term));
        self.batches.iter().any(|(_, rows)| rows.iter().any(is_one))
            || self.entries.range(self.covered..).any(|(_, entry)| {
                let mut has = false;
                entry.body.facets(&mut |of, value| has |= of == facet && is_pseudonym(value));
                has
            })
    }

    fn is_purged(&self, seq: u64) -> bool {
        self.purges.iter().any(|(_, set)| set.contains(seq))
    }
}

fn has(entry: &Entry, field: Facet, term: &str) -> bool {
    let mut has = false;
    entry.body.facets(&mut |f, value| has |= f == field && value == term);
    has
}

/// The text with every character that is not ASCII as a Unicode escape.
fn spelled(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

fn incomplete(what: impl Into<String>) -> CheckError {
    CheckError::Incomplete(what.into())
}

fn wrong(key: &str) -> CheckError {
    CheckError::Malformed(format!("{key:?} is missing or invalid"))
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Object::from_iter(members).into()
}

fn hashes(path: &[Hash]) -> Json {
    path.iter().map(Hash::to_string).collect::<Vec<_>>().into()
}

fn text<'j>(json: &'j Json, key: &str) -> Result<&'j str, CheckError> {
    json.get(key).and_then(Json::as_str).ok_or_else(|| wrong(key))
}

fn number(json: &Json, key: &str) -> Result<u64, CheckError> {
    json.get(key).and_then(Json::as_u64).ok_or_else(|| wrong(key))
}

fn list<T>(json: &Json, key: &str, read: impl Fn(&Json) -> Result<T, CheckError>) -> Result<Vec<T>, CheckError> {
    json.get(key).and_then(Json::as_array).ok_or_else(|| wrong(key))?.iter().map(read).collect()
}

fn field(json: &Json) -> Result<Facet, CheckError> {
    let name = text(json, "facet")?;
    Facet::ALL.iter().copied().find(|f| f.as_str() == name).ok_or_else(|| wrong("facet"))
}

fn path(json: &Json) -> Result<Vec<Hash>, CheckError> {
    let path = list(json, "path", |h| h.as_str().and_then(|h| h.parse().ok()).ok_or_else(|| wrong("path")))?;
    if path.len() > MAX_HASHES { Err(wrong("path")) } else { Ok(path) }
}

fn seqs_to_json(set: &SeqSet) -> Json {
    let text = set.to_string();
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    object([("packed", STANDARD.encode(set.encode()).into())])
}

fn seqs_from_json(json: &Json) -> Result<SeqSet, CheckError> {
    let seqs = json.get("seqs").ok_or_else(|| wrong("seqs"))?;
    let set = match seqs.get("packed").and_then(Json::as_str) {
        Some(packed) => STANDARD.decode(packed).ok().and_then(|bytes| SeqSet::decode(&bytes).ok()),
        None => SeqSet::from_json(seqs).ok(),
    };
    set.ok_or_else(|| wrong("seqs"))
}

//! What a verification can find.

use std::cmp::Ordering;
use std::fmt;

macro_rules! findings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is wrong. A closed set; later versions may add to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum FindingKind { $($(#[$doc])* $variant,)* }

        impl FindingKind {
            /// Every kind.
            pub const ALL: &[FindingKind] = &[$(FindingKind::$variant,)*];

            /// The kind's name in `verify --json`.
            pub const fn as_str(self) -> &'static str {
                match self { $(FindingKind::$variant => $name,)* }
            }
        }
    };
}

findings! {
    /// An entry says something else than what was hashed: it was edited.
    EntryChanged = "entry_changed",
    /// An entry cannot be read.
    EntryDamaged = "entry_damaged",
    /// An entry is neither there nor purged.
    EntryMissing = "entry_missing",
    /// An entry stands where none should.
    EntryUnexpected = "entry_unexpected",
    /// An entry does not follow the one before it.
    ChainBroken = "chain_broken",
    /// The newest entry is not the one that the store names as such.
    HeadMismatch = "head_mismatch",
    /// A block of entries is not as it was written.
    BlockDamaged = "block_damaged",
    /// A node of the Merkle tree is missing, changed or too many.
    TreeMismatch = "tree_mismatch",
    /// What a purge kept is missing, changed or too many.
    CoverMismatch = "cover_mismatch",
    /// The index does not list an entry under one of its facets: it would be missing from answers.
    IndexRowMissing = "index_row_missing",
    /// An index row does not list the entries that it should.
    IndexRowChanged = "index_row_changed",
    /// An index row stands where none should.
    IndexRowUnexpected = "index_row_unexpected",
    /// The term dictionary is not what the entries make it.
    TermMismatch = "term_mismatch",
    /// The index batches are not those of the chain.
    BatchMismatch = "batch_mismatch",
    /// A retention column is not what the entries make it.
    ColumnMismatch = "column_mismatch",
    /// The time index is not what the entries make it.
    ZoneMismatch = "zone_mismatch",
    /// The statistics are not what the entries make them.
    RollupMismatch = "rollup_mismatch",
    /// The table of numbered senders is not what the entries make it.
    SenderMismatch = "sender_mismatch",
    /// The list of unfinished calls is not what the entries make it.
    UnfinishedMismatch = "unfinished_mismatch",
    /// The state of the store contradicts what lies in it.
    StateMismatch = "state_mismatch",
    /// a system event contradicts those before it.
    OwnEntryInvalid = "own_entry_invalid",
    /// A checkpoint in the store is not one of this history.
    CheckpointMismatch = "checkpoint_mismatch",
    /// A checkpoint is not signed with the store's keys.
    SignatureInvalid = "signature_invalid",
    /// A checkpoint is sealed with the key of another epoch than its size belongs to.
    EpochMismatch = "epoch_mismatch",
    /// The store's key is not the one that was given.
    KeyMismatch = "key_mismatch",
    /// Something kept elsewhere covers more entries than the store has: it was cut, or is an older copy.
    Rollback = "rollback",
    /// Something kept elsewhere covers other entries than the store has: its history was rewritten.
    Fork = "fork",
    /// A part of what was kept elsewhere cannot be read or does not hold: what it would have shown was not compared.
    KeptDamaged = "kept_damaged",
    /// What is said to have been purged is not what a purge's entry says.
    PurgeMismatch = "purge_mismatch",
    /// An entry was purged before it had expired, or by a system clock that was set back afterwards by more than the bound.
    PurgedEarly = "purged_early",
    /// The key of sealed values is missing, changed or back although an entry says that it was destroyed.
    SubjectKeyMismatch = "subject_key_mismatch",
    /// A page of the file is not as it was written, or a key in it leads elsewhere than it should: answers could lack rows. Or the
    /// header or the tables of free pages are not: what is recorded next could be written over what was recorded.
    PageDamaged = "page_damaged",
    /// A row of a small table that no entry bears out says what cannot be, or was not written with the store's keys.
    SmallTableMismatch = "small_table_mismatch",
    /// A part of the file cannot be read.
    FileDamaged = "file_damaged",
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong. Ordered by entry, then by kind, then by what is said, where numbers count as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The entry that it concerns, if it concerns one.
    pub seq: Option<u64>,
    /// What it is.
    pub kind: FindingKind,
    /// Where and how, for people.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, seq: impl Into<Option<u64>>, detail: impl Into<String>) -> Finding {
        Finding { seq: seq.into(), kind, detail: detail.into() }
    }
}

/// What an error says that stops because of a finding.
impl std::error::Error for Finding {}

impl Ord for Finding {
    fn cmp(&self, other: &Finding) -> Ordering {
        let by_place = self.seq.cmp(&other.seq).then(self.kind.cmp(&other.kind));
        by_place.then_with(|| natural(&self.detail, &other.detail)).then_with(|| self.detail.cmp(&other.detail))
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Finding) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares texts with each run of digits as one number: 2 before 18.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    /// The first character, or the first number without its leading zeros, and the rest.
    fn next(text: &str) -> (&str, &str) {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let end = if digits > 0 { digits } else { text.chars().next().map_or(0, char::len_utf8) };
        let (head, rest) = text.split_at(end);
        (if digits > 0 { head.trim_start_matches('0') } else { head }, rest)
    }
    while !a.is_empty() && !b.is_empty() {
        let both = a.starts_with(|c: char| c.is_ascii_digit()) && b.starts_with(|c: char| c.is_ascii_digit());
        let ((head_a, rest_a), (head_b, rest_b)) = (next(a), next(b));
        let by_length = if both { head_a.len().cmp(&head_b.len()) } else { Ordering::Equal };
        match by_length.then_with(|| head_a.cmp(head_b)) {
            Ordering::Equal => (a, b) = (rest_a, rest_b),
            other => return other,
        }
    }
    a.len().cmp(&b.len())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "entry {seq}: {}: {}", self.kind, self.detail),
            None => write!(f, "{}: {}", self.kind, self.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were sorted as text: the checkpoint of 18 entries, then of 2, then of 21.
    #[test]
    fn findings_are_sorted_by_their_numbers() {
        let of =
            |n: u64| Finding::new(FindingKind::SignatureInvalid, None, format!("the checkpoint of {n} entries: no"));
        let mut all: Vec<Finding> = [18, 2, 21, 0, 100].map(of).to_vec();
        all.sort();
        assert_eq!(all, [0, 2, 18, 21, 100].map(of));
        assert_eq!(natural("a02", "a2"), Ordering::Equal);
        assert!(of(2) != Finding::new(FindingKind::Fork, None, "2") && natural("é", "z") == Ordering::Greater);
    }
}

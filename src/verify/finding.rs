//! The findings of a verification, and their kinds.

use super::settled::Settled;
use std::collections::HashSet;
use std::fmt;

macro_rules! findings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is wrong. Later versions may add kinds.
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
    /// An entry does not say what was hashed: it was edited.
    EntryChanged = "entry_changed",
    /// An entry cannot be read.
    EntryDamaged = "entry_damaged",
    /// An entry is neither in the store nor purged.
    EntryMissing = "entry_missing",
    /// An entry is where none should be.
    EntryUnexpected = "entry_unexpected",
    /// An entry does not follow the one before it.
    ChainBroken = "chain_broken",
    /// The newest entry is not the one that the store names as such.
    HeadMismatch = "head_mismatch",
    /// A row of a segment of entries (contents, hashes, directory, seeds of nonces) is not as it was written.
    BlockDamaged = "block_damaged",
    /// A node of the Merkle tree is missing, was changed, or should not exist.
    TreeMismatch = "tree_mismatch",
    /// A node that a purge kept is missing, was changed, or should not exist.
    CoverMismatch = "cover_mismatch",
    /// The index does not list an entry under one of its facets: query results would lack it.
    IndexRowMissing = "index_row_missing",
    /// An index row does not list the entries that it should.
    IndexRowChanged = "index_row_changed",
    /// An index row is where none should be.
    IndexRowUnexpected = "index_row_unexpected",
    /// The term dictionary does not match the entries.
    TermMismatch = "term_mismatch",
    /// The index batches do not match the chain.
    BatchMismatch = "batch_mismatch",
    /// A retention column does not match the entries.
    ColumnMismatch = "column_mismatch",
    /// The time index does not match the entries.
    ZoneMismatch = "zone_mismatch",
    /// The statistics do not match the entries.
    RollupMismatch = "rollup_mismatch",
    /// The table of numbered senders does not match the entries.
    SenderMismatch = "sender_mismatch",
    /// The list of unfinished calls does not match the entries.
    UnfinishedMismatch = "unfinished_mismatch",
    /// The state of the store contradicts its contents.
    StateMismatch = "state_mismatch",
    /// A system event contradicts those before it.
    OwnEntryInvalid = "own_entry_invalid",
    /// A checkpoint in the store does not match the store's history.
    CheckpointMismatch = "checkpoint_mismatch",
    /// A checkpoint is not signed with the store's keys.
    SignatureInvalid = "signature_invalid",
    /// A checkpoint is signed with the key of another epoch than its size belongs to.
    EpochMismatch = "epoch_mismatch",
    /// The store's key is not the one that was given.
    KeyMismatch = "key_mismatch",
    /// Something kept elsewhere covers more entries than the store has: it was cut, or is an older copy.
    Rollback = "rollback",
    /// Something kept elsewhere, or the key file, covers other entries than the store has: its history was rewritten. If entries
    /// below are not as they were recorded, that is the cause, and the disagreement is a
    /// [`CheckpointMismatch`](FindingKind::CheckpointMismatch).
    Fork = "fork",
    /// Part of what was kept elsewhere cannot be read or is not valid, so it was not compared.
    KeptDamaged = "kept_damaged",
    /// The set of entries listed as purged does not match the purge's entry.
    PurgeMismatch = "purge_mismatch",
    /// An entry was purged before it had expired, or by a system clock that was set back afterwards by more than the bound.
    PurgedEarly = "purged_early",
    /// The key of sealed values is missing or changed, or is back although an entry says that it was destroyed.
    SubjectKeyMismatch = "subject_key_mismatch",
    /// A page of the file is not as it was written, or a key in it leads to the wrong place: query results could lack
    /// rows. Or the header or the tables of free pages are damaged: what is recorded next could overwrite what was
    /// recorded.
    PageDamaged = "page_damaged",
    /// A row of a small table that no entry vouches for is impossible, or was not written with the store's keys.
    SmallTableMismatch = "small_table_mismatch",
    /// A part of the file cannot be read.
    FileDamaged = "file_damaged",
}

attestlog_proof::named_form!(serde FindingKind, "kind of finding");

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong. Findings are ordered by entry, then by kind, then by their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// The entry that it concerns, if it concerns one.
    pub seq: Option<u64>,
    /// The kind of the finding.
    pub kind: FindingKind,
    /// Where and how, for people.
    pub detail: String,
    /// How somebody settled it, if somebody did.
    pub settled: Option<Settled>,
}

attestlog_proof::json_form!(members Finding { kind, seq, detail, settled });

impl Finding {
    pub(crate) fn new(kind: FindingKind, seq: impl Into<Option<u64>>, detail: impl Into<String>) -> Finding {
        Finding { seq: seq.into(), kind, detail: detail.into(), settled: None }
    }
}

/// Allows an error to name a finding as its source.
impl std::error::Error for Finding {}

impl FindingKind {
    /// Whether it says itself what was changed; other findings may follow from that.
    pub(super) fn is_cause(self) -> bool {
        use FindingKind::*;
        matches!(
            self,
            EntryChanged | EntryDamaged | EntryMissing | EntryUnexpected | BlockDamaged | PageDamaged | FileDamaged
        )
    }
}

/// Puts what a verification found in order: first what was changed, then what may follow from it; each by entry, then by kind; what
/// is alike in all that stays in the order in which it was found, which is that of the data (checkpoints by their size, rows by their
/// keys). Each is there once.
pub(super) fn in_order(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|finding| (!finding.kind.is_cause(), finding.seq.is_none(), finding.seq, finding.kind));
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(finding.clone()));
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "entry {seq}: {}: {}", self.kind, self.detail),
            None => write!(f, "{}: {}", self.kind, self.detail),
        }
    }
}

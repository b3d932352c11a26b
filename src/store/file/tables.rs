//! The tables of the file: the only list of them.
//!
//! Opening, backup, rewriting, verification and the tests that tamper with rows all read this list, so a new table is one line
//! here. A table is made with its first row, and reads as empty before (`open_table`). A table that is in a file and not in this list is found by verification, and refused by backups and
//! purges.
//!
//! The file uses nothing of the crate but redb, because tests read it too: they open a store's file without attestlog.

use redb::{Key, TableDefinition, Value};

/// How a backup copies a table. It is made in several transactions, of which the last is the moment that the copy shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InBackup {
    /// Grows with the log and is copied in rounds, by code of its own in `maintain/backup`.
    Rounds,
    /// Written only by index batches and purges, which wait for a backup: copied before the last transaction.
    Still,
    /// Small, or changed by every commit: copied in the last transaction.
    Last,
}

/// How a purge carries a table over to the file that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPurge {
    /// By code of its own in `maintain/rewrite`.
    Own,
    /// Row by row as it is. Only index batches and purges write it, and these exclude each other.
    Verbatim,
    /// Replaced as a whole, and again in each round: a few rows that change at any time.
    Replaced,
    /// Replaced as a whole, and then the rows that were noted as changed (`engine/changes`).
    Noted,
    /// As it is, under the writer lock.
    Last,
}

/// How a table is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copying {
    pub backup: InBackup,
    pub purge: InPurge,
}

/// An operation on every table.
pub(crate) trait EachTable {
    type Error;

    /// # Errors
    /// Whatever the operation returns; it ends the iteration.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        copying: Copying,
    ) -> Result<(), Self::Error>;
}

macro_rules! tables {
    ($($(#[$doc:meta])+ $name:ident: $key:ty => $value:ty, $stored:literal, $backup:ident, $purge:ident;)+) => {
        $($(#[$doc])+ pub(crate) const $name: TableDefinition<'_, $key, $value> = TableDefinition::new($stored);)+

        /// Applies the operation to every table.
        pub(crate) fn each<E: EachTable>(work: &mut E) -> Result<(), E::Error> {
            $(work.table($name, Copying { backup: InBackup::$backup, purge: InPurge::$purge })?;)+
            Ok(())
        }
    };
}

// Name in the code, types of key and value, name in the file, treatment by backups and by purges.
tables! {
    /// `state` → `State` and other small values: the state changes with each commit.
    META: &str => &[u8], "meta", Last, Last;
    /// First seq → previous hash, and hash and stored body of each entry: the newest entries, a row or more for each commit.
    TAIL: u64 => &[u8], "tail", Last, Own;
    /// First seq of a segment plus a number → block: contents of entries that belong together.
    BLOCKS: u64 => &[u8], "blocks", Rounds, Own;
    /// First seq → the hashes of up to 224 entries of a segment, in the order of the log.
    LEAVES: u64 => &[u8], "leaves", Rounds, Own;
    /// First seq of a segment → the block of each of its entries.
    DIRECTORIES: u64 => &[u8], "directories", Rounds, Own;
    /// First seq of a segment → the seeds from which the nonces of its entries follow.
    SEEDS: u64 => &[u8], "seeds", Rounds, Own;
    /// (level, index) → hash of the Merkle node over `[index << level, (index + 1) << level)`, level 8 and up.
    NODES: (u8, u64) => [u8; 32], "nodes", Rounds, Own;
    /// (first leaf, level) → hash: the Merkle nodes below level 8 that purges keep, in the order of the entries.
    COVERS: (u64, u8) => [u8; 32], "covers", Still, Own;
    /// (facet, value) → term id: each indexed value once. Values longer than `TERM_BYTES` are represented by their SHA-256.
    TERMS: (u8, &[u8]) => u64, "terms", Still, Own;
    /// (key prefix of the facet, term id, first seq) → salt and seqs: one row per term and index batch.
    POSTINGS: (u8, u64, u64) => &[u8], "postings", Still, Own;
    /// (level, index) → earliest and latest timestamp of the entries in that range of seqs.
    ZONES: (u8, u64) => (i64, i64), "zones", Still, Own;
    /// (tool's term id, day) → counts, durations, users.
    ROLLUPS: (u64, i32) => &[u8], "rollups", Still, Own;
    /// First seq of an index batch → the retention class and end of each of its entries, kept for purged ones too.
    COLUMNS: u64 => &[u8], "columns", Still, Verbatim;
    /// First seq of an index batch → its end and the seq of the batch's entry in the chain.
    BATCHES: u64 => (u64, u64), "batches", Still, Verbatim;
    /// Sender → its newest numbers with their seqs.
    SENDERS: &str => &[u8], "senders", Last, Noted;
    /// Seqs of calls that were begun and are not finished.
    UNFINISHED: u64 => (), "unfinished", Last, Noted;
    /// Size → signed checkpoint: every checkpoint ever made.
    CHECKPOINTS: u64 => &[u8], "checkpoints", Last, Own;
    /// (size, anchor) → `Record`: what the anchor returned for the checkpoint of that size.
    ATTESTATIONS: (u64, &str) => &[u8], "attestations", Last, Noted;
    /// Seq of a purge's entry → the exact set of seqs that it removed.
    PURGES: u64 => &[u8], "purges", Still, Verbatim;
    /// (first seq of an index batch, position in it) → inner hash and seqs: what a purge leaves of a posting row.
    PURGED_ROWS: (u64, u64) => &[u8], "purged_rows", Still, Own;
    /// Name of a consumer that follows the log behind the writer → the seq at which it continues, and its
    /// `RowMac`.
    CURSORS: &str => (u64, [u8; 16]), "marks", Last, Replaced;
    /// Key id → `Row`: the wrapped keys of data subjects.
    SUBJECTS: &str => &[u8], "subjects", Last, Noted;
    /// Pseudonym of a subject, or a hash over those of several → the id of their key.
    SUBJECT_TAGS: &str => &str, "subject_tags", Last, Noted;
}

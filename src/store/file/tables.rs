//! The tables of the file, and how redb's errors become the caller's.

use crate::store::file::pages::Shape;
use crate::{Error, ErrorKind, Hash, Result};
use attestlog_proof::entry::Facet;
use redb::{Key, ReadOnlyTable, TableDefinition, TableHandle, Value};

/// `state` → [`State`](crate::store::layout::state::State) and other small values: the state changes with each commit.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// seq → previous hash, hash and stored body: the newest entries, one row each.
pub(crate) const TAIL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tail");
/// First seq → block: sealed runs of entries.
pub(crate) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// (level, index) → hash of the Merkle node over `[index << level, (index + 1) << level)`, level 8 and up.
pub(crate) const NODES: TableDefinition<'_, (u8, u64), [u8; 32]> = TableDefinition::new("nodes");
/// (first leaf, level) → hash: the Merkle nodes below level 8 that purges keep, in the order of the entries.
pub(crate) const COVERS: TableDefinition<'_, (u64, u8), [u8; 32]> = TableDefinition::new("covers");
/// (facet, value) → term id: each indexed value once. Values longer than [`TERM_BYTES`] are represented by their SHA-256.
pub(crate) const TERMS: TableDefinition<'_, (u8, &[u8]), u64> = TableDefinition::new("terms");
/// (key prefix of the facet, term id, first seq) → salt and seqs: one row per term and index batch.
pub(crate) const POSTINGS: TableDefinition<'_, (u8, u64, u64), &[u8]> = TableDefinition::new("postings");
/// (level, index) → earliest and latest timestamp of the entries in that range of seqs.
pub(crate) const ZONES: TableDefinition<'_, (u8, u64), (i64, i64)> = TableDefinition::new("zones");
/// (tool's term id, day) → counts, durations, users.
pub(crate) const ROLLUPS: TableDefinition<'_, (u64, i32), &[u8]> = TableDefinition::new("rollups");
/// First seq of an index batch → the retention class and end of each of its entries, kept for purged ones too.
pub(crate) const COLUMNS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("columns");
/// First seq of an index batch → its end and the seq of the batch's entry in the chain.
pub(crate) const BATCHES: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("batches");
/// Sender → its newest numbers with their seqs.
pub(crate) const SENDERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("senders");
/// Seqs of calls that were begun and are not finished.
pub(crate) const UNFINISHED: TableDefinition<'_, u64, ()> = TableDefinition::new("unfinished");

/// Key id → [`Row`](crate::store::engine::subject_keys::Row): the wrapped keys of data subjects.
pub(crate) const SUBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("subjects");
/// Pseudonym of a subject, or a hash over those of several → the id of their key.
pub(crate) const SUBJECT_TAGS: TableDefinition<'_, &str, &str> = TableDefinition::new("subject_tags");

/// Size → signed checkpoint: every checkpoint ever made.
pub(crate) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
/// (size, anchor) → [`Record`](crate::anchor::Record): what the anchor returned for the checkpoint of that size.
pub(crate) const ATTESTATIONS: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("attestations");
/// Seq of a purge's entry → the exact set of seqs that it removed.
pub(crate) const PURGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("purges");
/// (first seq of an index batch, position in it) → inner hash and seqs: what a purge leaves of a posting row.
pub(crate) const PURGED_ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("purged_rows");

/// Name of a consumer that follows the log behind the writer → the seq at which it continues, and its
/// [`RowMac`](crate::store::engine::row_mac::RowMac).
pub(crate) const CURSORS: TableDefinition<'_, &str, (u64, [u8; 16])> = TableDefinition::new("marks");

/// The key prefix of a facet's rows in [`POSTINGS`]. Facets with few values, whose rows are long, come before those with
/// many, whose rows are short: a long row has leaf pages to itself, and so would each row inserted directly before it.
/// Conversations come last: nearly all of their terms are new, so their rows are appended to the table.
pub(crate) const fn key_prefix(field: Facet) -> u8 {
    match field {
        Facet::User => 202,
        Facet::Patient => 204,
        Facet::Conversation => 255,
        other => other as u8,
    }
}

/// The number of the facet with this key prefix, or zero, which no facet has, if there is none.
pub(crate) const fn has_prefix(key_prefix: u8) -> u8 {
    match key_prefix {
        202 => Facet::User as u8,
        204 => Facet::Patient as u8,
        255 => Facet::Conversation as u8,
        1 | 2 | 4 => 0,
        other => other,
    }
}

/// The longest value that is stored in `terms` verbatim.
pub(crate) const TERM_BYTES: usize = 64;

/// The key of a facet's value in `terms`: the value, or `0xff` and its SHA-256. UTF-8 never starts with `0xff`.
pub(crate) fn term_key(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if value.len() <= TERM_BYTES {
        return value.into();
    }
    let mut key = vec![0xff];
    key.extend_from_slice(Hash::of(value).as_bytes());
    key.into()
}

/// An operation on every table.
pub(crate) trait EachTable {
    /// # Errors
    /// Whatever the operation returns; it ends the iteration.
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()>;
}

/// Applies the operation to every table.
pub(crate) fn each(work: &mut impl EachTable) -> Result<()> {
    work.table(META)?;
    work.table(TAIL)?;
    work.table(BLOCKS)?;
    work.table(NODES)?;
    work.table(COVERS)?;
    work.table(TERMS)?;
    work.table(POSTINGS)?;
    work.table(ZONES)?;
    work.table(ROLLUPS)?;
    work.table(COLUMNS)?;
    work.table(BATCHES)?;
    work.table(SENDERS)?;
    work.table(UNFINISHED)?;
    work.table(CHECKPOINTS)?;
    work.table(ATTESTATIONS)?;
    work.table(PURGES)?;
    work.table(PURGED_ROWS)?;
    work.table(CURSORS)?;
    work.table(SUBJECTS)?;
    work.table(SUBJECT_TAGS)
}

/// The name of every table, with the types of its keys and values.
pub(crate) fn shapes() -> Vec<Shape> {
    struct Shapes(Vec<Shape>);
    impl EachTable for Shapes {
        fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()> {
            self.0.push(Shape::of(&table));
            Ok(())
        }
    }
    let mut shapes = Shapes(Vec::new());
    let _ = each(&mut shapes);
    shapes.0
}

/// Refuses a store with tables that this program does not know: they would silently be missing from a copy of it.
pub(crate) fn check_known(txn: &redb::ReadTransaction) -> Result<()> {
    let known = shapes();
    match txn.list_tables().stored()?.find(|table| !known.iter().any(|shape| shape.name == table.name())) {
        None => Ok(()),
        Some(table) => {
            let message = format!("the store has a table {:?} that this program cannot copy", table.name());
            Err(Error::new(ErrorKind::NewerFormat, message))
        }
    }
}

/// Creates every table, so that a table that is missing later must have been removed.
pub(crate) fn make_all(txn: &redb::WriteTransaction) -> Result<()> {
    struct Make<'t>(&'t redb::WriteTransaction);
    impl EachTable for Make<'_> {
        fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()> {
            self.0.open_table(table).stored().map(|_| ())
        }
    }
    each(&mut Make(txn))
}

/// Whether every table is there and is what it was made as.
pub(crate) fn open_all(txn: &redb::ReadTransaction) -> Result<()> {
    struct Open<'t>(&'t redb::ReadTransaction);
    impl EachTable for Open<'_> {
        fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'static, K, V>) -> Result<()> {
            self.0.open_table(table).stored().map(|_| ())
        }
    }
    each(&mut Open(txn))
}

/// Converts redb's errors to the caller's.
pub(crate) trait Stored<T> {
    /// Converts redb's error.
    fn stored(self) -> Result<T>;
}

impl<T, E: Into<redb::Error>> Stored<T> for std::result::Result<T, E> {
    fn stored(self) -> Result<T> {
        self.map_err(|e| from_redb(e.into()))
    }
}

pub(crate) fn from_redb(e: redb::Error) -> Error {
    let (kind, message) = match &e {
        redb::Error::Io(io) => return io_error(io).with_source(e),
        redb::Error::DatabaseAlreadyOpen => {
            (ErrorKind::Locked, "another process has the store open; wait for it, or go through it".to_owned())
        }
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            (ErrorKind::Closed, "an earlier write failed; open the store again".to_owned())
        }
        redb::Error::Corrupted(what) => (ErrorKind::Damaged, format!("the file is damaged: {what}; restore a backup")),
        redb::Error::UpgradeRequired(version) => {
            (ErrorKind::NewerFormat, format!("the file has format {version} of redb, which this program cannot read"))
        }
        redb::Error::TableDoesNotExist(table) => {
            (ErrorKind::NotAStore, format!("the file is no attestlog store: it has no table {table:?}"))
        }
        redb::Error::TableTypeMismatch { table, .. } | redb::Error::TableIsMultimap(table) => {
            (ErrorKind::NotAStore, format!("the file is no attestlog store: its table {table:?} is another's"))
        }
        other => (ErrorKind::Damaged, format!("the store could not be used: {other}")),
    };
    Error::new(kind, message).with_source(e)
}

fn io_error(io: &std::io::Error) -> Error {
    if let Some(ours) = io.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        return Error::new(ours.kind(), ours.to_string());
    }
    let translated = Error::from(std::io::Error::from(io.kind()));
    match translated.kind() {
        ErrorKind::DiskFull => {
            Error::new(ErrorKind::DiskFull, "the disk is full, so this was not recorded: make room and retry")
        }
        // redb reports a foreign file as invalid data.
        _ if io.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(ErrorKind::NotAStore, "the file is not an attestlog store")
        }
        _ if io.kind() == std::io::ErrorKind::UnexpectedEof => Error::damaged("the file is shorter than it says"),
        kind => Error::new(kind, format!("the store's file: {io}")),
    }
}

/// The value of an optional row, as owned bytes.
pub(crate) fn get_bytes<K: redb::Key + 'static>(
    table: &ReadOnlyTable<K, &'static [u8]>,
    key: K::SelfType<'_>,
) -> Result<Option<Vec<u8>>> {
    Ok(table.get(key).stored()?.map(|guard| guard.value().to_vec()))
}

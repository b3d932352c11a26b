//! The rows of data subjects' keys, as a commit writes them.

use crate::store::engine::changes::Changes;
use crate::store::engine::subject_keys::Row;
use crate::store::file::redb_errors::Stored;
use crate::store::file::tables::{SUBJECT_TAGS, SUBJECTS};
use crate::{Hash, Result, codec};
use redb::{ReadableTable, WriteTransaction};

/// The look-up key of a subject key: the pseudonym of its subject, or a hash over those of several.
pub(crate) fn tag(members: &[String]) -> String {
    match members {
        [one] => one.clone(),
        several => format!("together {}", Hash::of(several.join(" ").as_bytes())),
    }
}

/// Records written rows for a purge in progress.
pub(crate) fn note(changes: &mut Changes, rows: &[(String, Row)]) {
    for (id, row) in rows {
        changes.note(&SUBJECTS, id.as_str());
        changes.note(&SUBJECT_TAGS, tag(&row.members).as_str());
    }
}

/// Writes new rows.
pub(crate) fn write(txn: &WriteTransaction, rows: &[(String, Row)]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut subjects = txn.open_table(SUBJECTS).stored()?;
    let mut tags = txn.open_table(SUBJECT_TAGS).stored()?;
    for (id, row) in rows {
        // Entries of several threads may carry the same new key.
        if subjects.get(id.as_str()).stored()?.is_none() {
            subjects.insert(id.as_str(), &*codec::encode(row)?).stored()?;
            tags.insert(tag(&row.members).as_str(), id.as_str()).stored()?;
        }
    }
    Ok(())
}

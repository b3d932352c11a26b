//! The series of a store's checkpoints: how many were kept and a hash over all of them, signed with the log key.
//!
//! Invariant R50: a signed checkpoint stays. Each one signs its own entries and knows nothing of the others, so one that
//! somebody took out would be missed by nobody. Whoever signs a checkpoint signs the series with it, in the same commit; it begins
//! with the store, so that one that is missing was taken away. A series that is not there or not signed is never begun anew.

use crate::keys::KeyFile;
use crate::note::{Note, VerifierKey, parse_decimal};
use crate::{Hash, Result};

/// Its key in the table `meta`.
pub(crate) const SERIES_KEY: &str = "checkpoints";

const HEADER: &str = "attestlog/checkpoints@v1";

/// So many checkpoints, and what follows from all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    pub count: u64,
    hash: Hash,
}

impl Series {
    /// Before the first checkpoint.
    pub(crate) fn new() -> Series {
        Series { count: 0, hash: Hash::ZERO }
    }

    /// What follows where the one before cannot be believed: no checkpoints give this, so that verification goes on saying so.
    fn lost() -> Series {
        Series { count: 0, hash: Hash::of(b"attestlog/checkpoints: the series before was lost") }
    }

    /// The series with one more checkpoint, of `size` entries.
    pub(crate) fn push(self, size: u64, note: &[u8]) -> Series {
        let text = [&self.hash.0[..], &size.to_be_bytes(), &Hash::of(note).0].concat();
        Series { count: self.count.saturating_add(1), hash: Hash::of(&text) }
    }

    /// What stands in the file behind the series `before`, of which a checkpoint of `size` entries was signed now.
    pub(crate) fn next(before: Option<&[u8]>, size: u64, note: &[u8], keys: &KeyFile) -> Result<String> {
        let before = before.and_then(|bytes| Series::read(bytes, &keys.verifier())).unwrap_or_else(Series::lost);
        before.push(size, note).sign(keys)
    }

    /// What stands in the file.
    pub(crate) fn sign(self, keys: &KeyFile) -> Result<String> {
        let text = format!("{HEADER}\n{}\n{}\n{}\n", keys.origin(), self.count, self.hash);
        Ok(Note::sign(text, &[&keys.log_key()])?.to_string())
    }

    /// The series in these bytes, where `key` signed it and nothing else stands there.
    pub(crate) fn read(bytes: &[u8], key: &VerifierKey) -> Option<Series> {
        let note = Note::parse(bytes).ok()?;
        note.verify(std::slice::from_ref(key)).ok()?;
        let mut lines = note.text().strip_suffix('\n')?.split('\n');
        let known = lines.next() == Some(HEADER) && lines.next() == Some(key.name());
        let (count, hash) = (parse_decimal(lines.next()?)?, lines.next()?.parse().ok()?);
        (known && lines.next().is_none() && note.signatures().len() == 1).then_some(Series { count, hash })
    }
}

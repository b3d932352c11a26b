//! The series of a store's checkpoints: how many were kept and a hash over all of them, signed with the log key.
//!
//! Invariant R50: a signed checkpoint stays. Each checkpoint signs its entries and knows nothing of the other checkpoints, so
//! a removed one would go unnoticed. Whenever a checkpoint is signed, the series is signed with it in the same commit. The
//! series exists from the store's creation, so a missing series was removed. A missing or unsigned series is never started
//! afresh.

use crate::keys::KeyFile;
use crate::note::{Note, VerifierKey, parse_decimal};
use crate::{Hash, Result};

/// The key in table `meta`.
pub(crate) const SERIES_KEY: &str = "checkpoints";

const HEADER: &str = "attestlog/checkpoints@v1";

/// The number of checkpoints and a hash over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    pub count: u64,
    hash: Hash,
}

impl Series {
    /// The series before the first checkpoint.
    pub(crate) fn new() -> Series {
        Series { count: 0, hash: Hash::ZERO }
    }

    /// The series after one that cannot be trusted: no checkpoints produce this hash, so verification keeps reporting it.
    fn lost() -> Series {
        Series { count: 0, hash: Hash::of(b"attestlog/checkpoints: the series before was lost") }
    }

    /// The series with one more checkpoint, of `size` entries.
    pub(crate) fn push(self, size: u64, note: &[u8]) -> Series {
        let text = [&self.hash.0[..], &size.to_be_bytes(), &Hash::of(note).0].concat();
        Series { count: self.count.saturating_add(1), hash: Hash::of(&text) }
    }

    /// The signed series after the stored series `before`, extended by the checkpoint of `size` entries signed now.
    pub(crate) fn next(before: Option<&[u8]>, size: u64, note: &[u8], keys: &KeyFile) -> Result<String> {
        let before = before.and_then(|bytes| Series::read(bytes, &keys.verifier())).unwrap_or_else(Series::lost);
        before.push(size, note).sign(keys)
    }

    /// The signed text, as it is stored.
    pub(crate) fn sign(self, keys: &KeyFile) -> Result<String> {
        let text = format!("{HEADER}\n{}\n{}\n{}\n", keys.origin(), self.count, self.hash);
        Ok(Note::sign(text, &[&keys.log_key()])?.to_string())
    }

    /// Decodes the series if `key`, and nothing else, signed it.
    pub(crate) fn read(bytes: &[u8], key: &VerifierKey) -> Option<Series> {
        let note = Note::parse(bytes).ok()?;
        note.verify(std::slice::from_ref(key)).ok()?;
        let mut lines = note.text().strip_suffix('\n')?.split('\n');
        let known = lines.next() == Some(HEADER) && lines.next() == Some(key.name());
        let (count, hash) = (parse_decimal(lines.next()?)?, lines.next()?.parse().ok()?);
        (known && lines.next().is_none() && note.signatures().len() == 1).then_some(Series { count, hash })
    }
}

//! Answers that are read in several steps, each in a transaction of its own.
//!
//! Invariant R102: what is answered is of one moment, or the caller gets an error that says to ask again. An open transaction keeps the
//! pages that it sees, and after a purge the whole file that was purged, from being given back; a reader can take as long as it likes.
//! So an answer does not keep its transaction. What is appended meanwhile is beyond the size that it began with. What a purge took is
//! not, so each new transaction is first asked for purges since: its own table of them is of the same file as its entries.

use crate::retention::SeqSet;
use crate::store::engine::Engine;
use crate::store::file::redb_errors::Stored;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, ErrorKind, Result};
use std::ops::RangeInclusive;

impl Engine {
    /// Waits until the commit in progress, if there is one, is published: a purge replaces the file before that, so for a moment the file
    /// has its entry and the published size does not. Not for callers that hold the writer lock.
    pub(crate) fn wait_published(&self) {
        drop(self.write.group_commit.take());
    }
}

impl Snapshot {
    /// Refuses to go on with an answer that began when the log had `size` entries, if a purge has since taken any of the `rest` that is
    /// still to be read.
    ///
    /// # Errors
    /// `Busy` if it has.
    pub(crate) fn check_same_moment(&self, size: u64, rest: RangeInclusive<u64>) -> Result<()> {
        for row in self.purges()?.range(size..).stored()? {
            let (seq, taken) = row.stored()?;
            if SeqSet::decode(taken.value())?.intersects(*rest.start(), *rest.end()) {
                let message = format!(
                    "a purge (entry {}) has taken entries that were still to be read: what was read so far is the log before it, and not \
                     all of it. Ask again",
                    seq.value()
                );
                return Err(Error::new(ErrorKind::Busy, message));
            }
        }
        Ok(())
    }
}

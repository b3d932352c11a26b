//! A conversation in order.

use super::{Cursor, Hits, Query};
use crate::store::OpenStore;
use crate::store::{Snapshot, guarded};
use crate::{Entry, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Kind, Phase};
use std::collections::HashSet;

/// One call of a conversation. A call that was recorded in two steps is one step here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The entry with the call's outcome, or, if the call is unfinished, the entry that says that it was begun.
    pub entry: Entry,
    /// When a finished call in two steps was begun.
    pub begun_at: Option<Timestamp>,
}

attestlog_proof::json_form!(members Step { entry, begun_at });

/// The calls of a conversation, in the order in which they were recorded.
#[derive(Debug)]
pub(crate) struct Timeline {
    hits: Hits,
    snapshot: Snapshot,
    /// Calls that were unfinished when the timeline began, and have ended since.
    ended_since: HashSet<u64>,
}

impl OpenStore {
    /// The calls of a conversation, in the order in which they were recorded.
    pub(crate) fn timeline(&self, conversation: &str) -> Result<Timeline> {
        let snapshot = self.snapshot_at_rest()?;
        let hits = self.query(&Query::new().conversation(conversation))?.within(snapshot.size);
        Ok(Timeline { hits, snapshot, ended_since: HashSet::new() })
    }

    /// Goes on with a timeline where another [`Timeline`] has stopped: which calls had ended is as of the moment when it began.
    pub(crate) fn timeline_on(&self, conversation: &str, cursor: Cursor) -> Result<Timeline> {
        let snapshot = self.snapshot_at_rest()?;
        let query = Query::new().conversation(conversation);
        let mut ended_since = HashSet::new();
        if let Some(last) = cursor.size().checked_sub(1) {
            for entry in self.query(&query.clone().after(last))?.within(snapshot.size).stored() {
                match entry.map(|entry| entry.call().map(|call| call.phase)) {
                    Ok(Some(Phase::Finished(begun))) => _ = ended_since.insert(begun),
                    Ok(_) => {}
                    // The timeline itself is of what comes before.
                    Err(e) if e.kind() == ErrorKind::Damaged && e.seq().is_some() => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(Timeline { hits: self.query_on(&query, cursor)?, snapshot, ended_since })
    }

    fn snapshot_at_rest(&self) -> Result<Snapshot> {
        let mut snapshot = self.engine().snapshot_of_entries()?;
        // Both entries of a call must be seen at the same moment: otherwise a call that ends just now would be shown
        // twice or not at all. A commit is on the disk shortly before it is published, so a retry soon finds both at
        // the same size.
        for _ in 0..1000 {
            if snapshot.state.size == snapshot.size {
                break;
            }
            std::thread::yield_now();
            snapshot = self.engine().snapshot_of_entries()?;
        }
        Ok(snapshot)
    }
}

impl Timeline {
    /// Where to go on.
    pub(crate) fn cursor(&self) -> Cursor {
        self.hits.cursor()
    }

    /// As [`Hits::stays`].
    pub(crate) fn stays(&self) -> bool {
        self.hits.stays()
    }
}

impl Iterator for Timeline {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        loop {
            let entry = match self.hits.next()? {
                Ok(entry) => entry,
                Err(e) => return Some(Err(e)),
            };
            let was_unfinished = |seq| self.ended_since.contains(&seq);
            let unfinished = |seq| Ok(was_unfinished(seq) || guarded(|| self.snapshot.is_unfinished(seq))?);
            match entry.kind() {
                Kind::CallBegun => match unfinished(entry.seq) {
                    Ok(true) => return Some(Ok(Step { entry, begun_at: None })),
                    Ok(false) => {}
                    Err(e) => return Some(Err(e)),
                },
                _ => {
                    let begun_at = match entry.call().map(|c| c.phase) {
                        Some(Phase::Finished(begun)) => match guarded(|| self.snapshot.shown(begun)) {
                            Ok(begun) => Some(begun.body.recorded_at),
                            // That entry may be purged.
                            Err(e) if e.kind() == ErrorKind::NoSuchEntry => None,
                            Err(e) => return Some(Err(e)),
                        },
                        _ => None,
                    };
                    return Some(Ok(Step { entry, begun_at }));
                }
            }
        }
    }
}

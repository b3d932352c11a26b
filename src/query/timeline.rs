//! A conversation as it happened.

use super::{Hits, Query};
use crate::store::{Snapshot, guarded};
use crate::{AuditLog, Entry, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Kind, Phase};

/// One call of a conversation. A call that was recorded in two steps is one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The entry that says what came of the call, or that it was begun, if it has no end.
    pub entry: Entry,
    /// When a call in two steps was begun.
    pub begun_at: Option<Timestamp>,
}

/// The calls of a conversation, in the order in which they were recorded.
#[derive(Debug)]
pub struct Timeline {
    hits: Hits,
    snapshot: Snapshot,
}

impl AuditLog {
    /// The calls of a conversation, in the order in which they were recorded.
    ///
    /// # Errors
    /// What the file says. A conversation that was never recorded has no calls.
    pub fn timeline(&self, conversation: &str) -> Result<Timeline> {
        let query = Query::new().conversation(conversation);
        let mut snapshot = self.engine().snapshot_of_entries()?;
        // Begun and finished must be seen at one moment, or a call that ends just now is shown twice or not at all. A
        // commit is on the disk shortly before it is shown, so another look soon finds both at the same size.
        for _ in 0..1000 {
            if snapshot.state.size == snapshot.size {
                break;
            }
            std::thread::yield_now();
            snapshot = self.engine().snapshot_of_entries()?;
        }
        Ok(Timeline { hits: self.query(&query)?.within(snapshot.size), snapshot })
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
            let unfinished = |seq| guarded(|| self.snapshot.is_unfinished(seq));
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
                            // It may be purged.
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

//! Entries recorded without the store's key: a later signature covers them like all others, so summaries must report them.

use crate::json::Json;
use crate::store::OpenStore;
use crate::store::Snapshot;
use crate::{Kind, Query, Result, Timestamp};
use attestlog_proof::entry::SystemEvent;
use attestlog_proof::json::form::Form;
use std::fmt;

/// A range of entries recorded while a store that has keys was open without them, as an entry states.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keyless {
    /// The seq of the entry that states it, the first that was recorded without the key.
    pub from: u64,
    /// The size of the first checkpoint after it: the entries before it were, or may have been, recorded without the key.
    /// `None` if nothing was signed since: the range then goes to the end of the log.
    pub to: Option<u64>,
    /// When the entry was recorded.
    pub at: Timestamp,
}

attestlog_proof::json_form!(members Keyless { from, to, at });

impl Keyless {
    /// Whether this entry states that the store was opened without its key.
    pub(crate) fn is(own: &SystemEvent) -> bool {
        own.kind == Kind::Key && own.detail.to_json().get("event").and_then(Json::as_str) == Some("opened_without_key")
    }

    /// The ranges that begin at these entries, which are in order; several openings before the same checkpoint are one.
    pub(crate) fn stretches(entries: &[(u64, Timestamp)], snapshot: &Snapshot) -> Result<Vec<Keyless>> {
        let mut all: Vec<Keyless> = Vec::new();
        if entries.is_empty() {
            return Ok(all);
        }
        let mut sizes = Vec::new();
        snapshot.scan_checkpoints(&mut |size, _| {
            sizes.push(size);
            Ok(())
        })?;
        for &(from, at) in entries {
            let to = sizes.iter().copied().filter(|size| *size > from).min();
            if all.last().is_none_or(|last| last.to != to) {
                all.push(Keyless { from, to, at });
            }
        }
        Ok(all)
    }

    /// `{"from","to","at"}`; `to` is exclusive, and null if nothing was signed since.
    pub fn to_json(&self) -> Json {
        self.form()
    }
}

impl fmt::Display for Keyless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keyless { from, at, .. } = self;
        write!(f, "recorded without the key from entry {from} on ({at})")?;
        match self.to {
            Some(to) => write!(
                f,
                ", at most up to entry {}: whoever could write the file could have recorded it; the signature of {to} \
                 entries covers it all the same",
                to.saturating_sub(1)
            ),
            None => f.write_str(", and nothing was signed since: whoever could write the file could have recorded it"),
        }
    }
}

impl OpenStore {
    /// The ranges of entries that were recorded without the store's key, in order.
    pub(crate) fn recorded_without_key(&self) -> Result<Vec<Keyless>> {
        let mut entries = Vec::new();
        for entry in self.query(&Query::new().kind(Kind::Key))?.beside() {
            let entry = entry?;
            if entry.own().is_some_and(Keyless::is) {
                entries.push((entry.seq, entry.body.recorded_at));
            }
        }
        entries.sort_unstable();
        Keyless::stretches(&entries, &self.snapshot()?)
    }
}

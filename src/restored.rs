//! Restorings: whoever reads a summary of a log must learn that it goes on from an older state, and what was lost by that.

use crate::json::{Json, Object};
use crate::{AuditLog, Entry, Hash, Kind, Query, Result, Timestamp};
use attestlog_proof::entry::SystemEvent;
use std::fmt;

/// A log was made out of a copy, as its entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The seq of the entry.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// How many entries the copy had.
    pub size: u64,
    /// What had been signed that the copy does not begin with: how many entries, and their root. `None` where nothing signed
    /// was lost, as far as the key file knew.
    pub signed: Option<(u64, Hash)>,
}

impl Restored {
    /// What an entry says that was recorded at `at`, if it is one about a restoring.
    pub(crate) fn of(seq: u64, at: Timestamp, own: &SystemEvent) -> Option<Restored> {
        if own.kind != Kind::Restore {
            return None;
        }
        let detail = own.detail.to_json();
        let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| detail.get(key).and_then(Json::as_u64);
        let mark = number("signed_size").zip(text("signed_root").parse().ok());
        // Each rotation that it brings was signed over what stood before it. Whoever has the key file can leave the mark out of the
        // entry, and not these: without them none of his keys is in force (R54).
        let rotations = detail.get("rotations").and_then(Json::as_array).unwrap_or_default();
        let rotated = rotations.last().and_then(|last| {
            let size = last.get("size").and_then(Json::as_u64)?;
            Some((size, last.get("root").and_then(Json::as_str)?.parse().ok()?))
        });
        let signed = match (mark, rotated) {
            (Some(mark), Some(rotated)) if rotated.0 > mark.0 => Some(rotated),
            (mark, rotated) => mark.or(rotated),
        };
        let (actor, reason) = (text("actor"), text("reason"));
        Some(Restored { seq, at, actor, reason, size: number("size").unwrap_or_default(), signed })
    }

    /// `{"seq","at","actor","reason","size","signed_size","signed_root"}`, the last two null where nothing signed was lost.
    pub fn to_json(&self) -> Json {
        Json::from(Object::from_iter([
            ("seq", Json::from(self.seq)),
            ("at", self.at.to_string().into()),
            ("actor", self.actor.as_str().into()),
            ("reason", self.reason.as_str().into()),
            ("size", self.size.into()),
            ("signed_size", self.signed.map(|(size, _)| size).into()),
            ("signed_root", self.signed.map(|(_, root)| root.to_string()).into()),
        ]))
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { seq, at, actor, size, .. } = self;
        write!(f, "restored from a copy of {size} entries by {actor} on {at} (entry {seq})")?;
        match self.signed {
            Some((signed, _)) if signed > *size => match signed - size {
                1 => write!(f, ": {signed} entries had been signed, and the newest of them is lost"),
                lost => write!(f, ": {signed} entries had been signed, and the newest {lost} of them are lost"),
            },
            Some((signed, _)) => write!(f, ": {signed} entries had been signed in another history"),
            // Before it stands that the store was opened without its key.
            None if self.seq > *size => {
                f.write_str(": the key file was not there, so what had been signed and is lost is not known")
            }
            None => f.write_str(": nothing signed was lost, as far as the key file knew"),
        }
    }
}

impl AuditLog {
    /// When this log was made out of an older copy, by whom, and what had been signed that was lost by it.
    ///
    /// # Errors
    /// What the file says.
    ///
    /// ```
    /// # let log = attestlog::AuditLog::in_memory()?;
    /// assert!(log.restored()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn restored(&self) -> Result<Vec<Restored>> {
        let of = |entry: Entry| Restored::of(entry.seq, entry.body.recorded_at, entry.own()?);
        let entries = self.query(&Query::new().kind(Kind::Restore))?;
        entries.filter_map(|entry| entry.map(of).transpose()).collect()
    }
}

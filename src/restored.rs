//! Restorings: whoever reads a summary of a log must learn that it goes on from an older state, and what was lost by that.

use crate::chain_state::{Standing, Unconfirmed};
use crate::json::{Json, Object};
use crate::{AuditLog, Hash, Kind, Query, Result, Timestamp};
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
    /// Whether policies, holds and emergency grants that were in force are in the copy.
    pub standing: Stands,
    /// Those that are not, where the store that the copy took the place of could be read.
    pub lost: Standing,
    /// Who has looked since at what is in force.
    pub confirmed: Option<Confirmed>,
}

/// Whether policies, holds and emergency grants that were in force are in a copy that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stands {
    /// All of them, as far as was signed.
    Kept,
    /// Other ones were in force than the copy has.
    Changed,
    /// There were no keys that know.
    Unknown,
}

/// Somebody has looked at what is in force after a restoring, as the entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed {
    /// The seq of the entry.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was found.
    pub reason: String,
}

impl Restored {
    /// All that these entries say, in their order. A confirmation is one of every restoring before it.
    pub(crate) fn all<'a>(entries: impl Iterator<Item = (u64, Timestamp, &'a SystemEvent)>) -> Vec<Restored> {
        let mut all: Vec<Restored> = Vec::new();
        for (seq, at, own) in entries {
            if own.kind == Kind::RestoreConfirmed {
                let detail = own.detail.to_json();
                let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
                let confirmed = Confirmed { seq, at, actor: text("actor"), reason: text("reason") };
                let open = all.iter_mut().filter(|r| r.unconfirmed().is_some());
                open.for_each(|restored| restored.confirmed = Some(confirmed.clone()));
            }
            all.extend(Restored::of(seq, at, own));
        }
        all
    }

    /// Why somebody has to look at what is in force, if nobody has.
    pub(crate) fn unconfirmed(&self) -> Option<Unconfirmed> {
        let is_open = self.standing != Stands::Kept && self.confirmed.is_none();
        let signed = self.signed.map(|(size, _)| size);
        is_open.then_some(Unconfirmed { is_changed: self.standing == Stands::Changed, signed })
    }

    /// What has to be done after it, if that was not confirmed yet.
    pub fn to_do(&self) -> Option<String> {
        self.unconfirmed().map(|unconfirmed| unconfirmed.to_do(self.seq))
    }

    /// What an entry says that was recorded at `at`, if it is one about a restoring.
    fn of(seq: u64, at: Timestamp, own: &SystemEvent) -> Option<Restored> {
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
        let size = number("size").unwrap_or_default();
        let standing = match Unconfirmed::of(&detail) {
            None => Stands::Kept,
            Some(unconfirmed) if unconfirmed.is_changed => Stands::Changed,
            Some(_) => Stands::Unknown,
        };
        let lost = detail.get("lost").map(Standing::from_json).unwrap_or_default();
        Some(Restored { seq, at, actor, reason, size, signed, standing, lost, confirmed: None })
    }

    /// `{"seq","at","actor","reason","size","signed_size","signed_root","standing","lost","confirmed":{"seq","at","actor","reason"}}`:
    /// `signed_size` and `signed_root` null where nothing signed was lost, `standing` one of `kept`, `changed` and `unknown`, `confirmed`
    /// null where nobody has confirmed it or nobody has to.
    pub fn to_json(&self) -> Json {
        Json::from(Object::from_iter([
            ("seq", Json::from(self.seq)),
            ("at", self.at.to_string().into()),
            ("actor", self.actor.as_str().into()),
            ("reason", self.reason.as_str().into()),
            ("size", self.size.into()),
            ("signed_size", self.signed.map(|(size, _)| size).into()),
            ("signed_root", self.signed.map(|(_, root)| root.to_string()).into()),
            (
                "standing",
                Json::from(match self.standing {
                    Stands::Kept => "kept",
                    Stands::Changed => "changed",
                    Stands::Unknown => "unknown",
                }),
            ),
            ("lost", self.lost.to_json()),
            ("confirmed", self.confirmed.as_ref().map(Confirmed::to_json).into()),
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
        }?;
        match self.standing {
            Stands::Kept => return Ok(()),
            Stands::Changed => {
                f.write_str("; other holds, policies or emergency grants were in force than the copy has")?
            }
            Stands::Unknown => f.write_str("; whether holds, policies or emergency grants were lost is not known")?,
        }
        match &self.confirmed {
            None => f.write_str(", and nobody has confirmed what is in force now"),
            Some(Confirmed { seq, at, actor, .. }) => {
                write!(f, ", and {actor} confirmed what is in force on {at} (entry {seq})")
            }
        }
    }
}

impl Confirmed {
    /// `{"seq","at","actor","reason"}`
    fn to_json(&self) -> Json {
        Json::from(Object::from_iter([
            ("seq", Json::from(self.seq)),
            ("at", self.at.to_string().into()),
            ("actor", self.actor.as_str().into()),
            ("reason", self.reason.as_str().into()),
        ]))
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
        let kinds = Query::new().kind(Kind::Restore).kind(Kind::RestoreConfirmed);
        let entries = self.query(&kinds)?.beside().collect::<Result<Vec<_>>>()?;
        Ok(Restored::all(entries.iter().filter_map(|entry| Some((entry.seq, entry.body.recorded_at, entry.own()?)))))
    }
}

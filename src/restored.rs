//! Restores. Every summary of a log must say that the log continues from an older state, and what was lost.

use crate::chain_state::{Standing, Unconfirmed};
use crate::json::{Json, Object};
use crate::store::OpenStore;
use crate::{Hash, Kind, Query, Result, Timestamp};
use attestlog_proof::entry::SystemEvent;
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use std::fmt;

/// A restore of the log from a copy, as its entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The seq of the entry about it.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// Who restored the copy.
    pub actor: String,
    /// The reason given.
    pub reason: String,
    /// How many entries the copy had.
    pub size: u64,
    /// What had been signed that the copy lacks: how many entries, and their root. `None` if nothing signed was lost,
    /// as far as the key file knew.
    pub signed: Option<(u64, Hash)>,
    /// Losses of earlier restores that the copy does not contain, so that only this entry tells of them: how many entries had
    /// been signed before each, and their root.
    pub earlier: Vec<(u64, Hash)>,
    /// Whether the copy has the policies, holds and emergency grants that were in force.
    pub standing: Stands,
    /// The ones that it lacks, if the store that the copy replaced could be read.
    pub lost: Standing,
    /// The confirmation of what is in force now, if somebody has given it.
    pub confirmed: Option<Confirmed>,
}

/// Whether a restored copy has the policies, holds and emergency grants that were in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stands {
    /// It has all of them, as far as they were signed.
    Kept,
    /// Others were in force than the copy has.
    Changed,
    /// The keys that could tell were not available.
    Unknown,
}

/// A person's confirmation of what is in force after a restore, as its entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed {
    /// The seq of the entry about it.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// Who confirmed it.
    pub actor: String,
    /// What was found.
    pub reason: String,
}

impl Restored {
    /// Collects the restores from these entries, which are in order. A confirmation applies to every restore before it.
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

    /// Size and root of everything that had been signed and is not in the copy.
    pub(crate) fn had_signed(&self) -> impl Iterator<Item = (u64, Hash)> {
        self.signed.into_iter().chain(self.earlier.iter().copied())
    }

    /// Why somebody has to check what is in force, if nobody has.
    pub(crate) fn unconfirmed(&self) -> Option<Unconfirmed> {
        let is_open = self.standing != Stands::Kept && self.confirmed.is_none();
        let signed = self.signed.map(|(size, _)| size);
        is_open.then_some(Unconfirmed { is_changed: self.standing == Stands::Changed, signed })
    }

    /// What has to be done after the restore, if that was not confirmed yet.
    pub fn to_do(&self) -> Option<String> {
        self.unconfirmed().map(|unconfirmed| unconfirmed.to_do(self.seq))
    }

    /// The restore that this entry, recorded at `at`, is about, if it is about one.
    fn of(seq: u64, at: Timestamp, own: &SystemEvent) -> Option<Restored> {
        if own.kind != Kind::Restore {
            return None;
        }
        let detail = own.detail.to_json();
        let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| detail.get(key).and_then(Json::as_u64);
        let mark = number("signed_size").zip(text("signed_root").parse().ok());
        // Each rotation that the entry brings was signed over what came before it. A holder of the key file can leave
        // the mark out of the entry, but not the rotations: without them none of the holder's keys is in force (R54).
        let rotations = detail.get("rotations").and_then(Json::as_array).unwrap_or_default();
        let rotated = rotations.last().and_then(|last| {
            let size = last.get("size").and_then(Json::as_u64)?;
            Some((size, last.get("root").and_then(Json::as_str)?.parse().ok()?))
        });
        let (actor, reason) = (text("actor"), text("reason"));
        let size = number("size").unwrap_or_default();
        let standing = match Unconfirmed::of(&detail) {
            None => Stands::Kept,
            Some(unconfirmed) if unconfirmed.is_changed => Stands::Changed,
            Some(_) => Stands::Unknown,
        };
        let lost = detail.get("lost").map(Standing::from_json).unwrap_or_default();
        let earlier = detail.get("earlier").and_then(Json::as_array).unwrap_or_default();
        let mut earlier: Vec<_> = earlier.iter().filter_map(|lost| read_loss(lost).ok()).collect();
        // The mark is of the history that this restore replaced. The rotation may be of one that was lost before it.
        let signed = mark.or(rotated);
        let is_told = |&(size, _): &(u64, Hash)| signed.iter().chain(&earlier).any(|known| known.0 >= size);
        earlier.extend(rotated.filter(|rotated| !is_told(rotated)));
        Some(Restored { seq, at, actor, reason, size, signed, earlier, standing, lost, confirmed: None })
    }

    /// `{"seq","at","actor","reason","size","signed_size","signed_root","earlier":[{"signed_size","signed_root"}],"standing","lost",
    /// "confirmed":{"seq","at","actor","reason"}}`:
    /// `signed_size` and `signed_root` are null if nothing signed was lost; `standing` is `kept`, `changed` or `unknown`;
    /// `confirmed` is null if nobody has confirmed it or nobody has to.
    pub fn to_json(&self) -> Json {
        Json::from(Object::from_iter([
            ("seq", Json::from(self.seq)),
            ("at", self.at.to_string().into()),
            ("actor", self.actor.as_str().into()),
            ("reason", self.reason.as_str().into()),
            ("size", self.size.into()),
            ("signed_size", self.signed.map(|(size, _)| size).into()),
            ("signed_root", self.signed.map(|(_, root)| root.to_string()).into()),
            ("earlier", self.earlier.iter().map(loss).collect::<Vec<_>>().into()),
            ("standing", self.standing.form()),
            ("lost", self.lost.to_json()),
            ("confirmed", self.confirmed.form()),
        ]))
    }
}

impl Restored {
    fn from_json(value: &Json) -> Result<Restored> {
        let mut members = Members::of(value)?;
        let size: Option<u64> = member(&mut members, "signed_size")?;
        let root: Option<Hash> = member(&mut members, "signed_root")?;
        Ok(Restored {
            seq: member(&mut members, "seq")?,
            at: member(&mut members, "at")?,
            actor: member(&mut members, "actor")?,
            reason: member(&mut members, "reason")?,
            size: member(&mut members, "size")?,
            signed: size.zip(root),
            earlier: {
                let earlier: Vec<Json> = member(&mut members, "earlier")?;
                earlier.iter().map(read_loss).collect::<Result<_>>()?
            },
            standing: member(&mut members, "standing")?,
            lost: member(&mut members, "lost")?,
            confirmed: member(&mut members, "confirmed")?,
        })
    }
}

/// How many entries had been signed before a restore, and their root, in JSON.
pub(crate) fn loss((size, root): &(u64, Hash)) -> Json {
    Json::from(Object::from_iter([("signed_size", Json::from(*size)), ("signed_root", root.to_string().into())]))
}

fn read_loss(value: &Json) -> Result<(u64, Hash)> {
    let mut members = Members::of(value)?;
    Ok((member(&mut members, "signed_size")?, member(&mut members, "signed_root")?))
}

attestlog_proof::json_form!(methods Restored);
attestlog_proof::json_form!(members Confirmed { seq, at, actor, reason });

impl Stands {
    /// All of them.
    pub const ALL: &[Stands] = &[Stands::Kept, Stands::Changed, Stands::Unknown];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stands::Kept => "kept",
            Stands::Changed => "changed",
            Stands::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Stands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

attestlog_proof::named_form!(serde Stands, "standing");

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { seq, at, actor, size, .. } = self;
        let at = at.floor_to_second();
        write!(f, "restored from a copy of {size} entries by {actor} on {at} (entry {seq})")?;
        match self.signed {
            Some((signed, _)) if signed > *size => match signed - size {
                1 => write!(f, ": {signed} entries had been signed, and the newest of them is lost"),
                lost => write!(f, ": {signed} entries had been signed, and the newest {lost} of them are lost"),
            },
            Some((signed, _)) => write!(f, ": {signed} entries had been signed in another history"),
            // The entry that says that the store was opened without its key comes before it.
            None if self.seq > *size => {
                f.write_str(": the key file was not there, so what had been signed and is lost is not known")
            }
            None => f.write_str(": nothing signed was lost, as far as the key file knew"),
        }?;
        if !self.earlier.is_empty() {
            let sizes: Vec<String> = self.earlier.iter().map(|(size, _)| size.to_string()).collect();
            let sizes = sizes.join(" and ");
            write!(
                f,
                "; earlier restores, which the copy does not contain, lost more: {sizes} entries had been signed before"
            )?;
        }
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
                let at = at.floor_to_second();
                write!(f, ", and {actor} confirmed what is in force on {at} (entry {seq})")
            }
        }
    }
}

impl OpenStore {
    /// When this log was made out of an older copy, by whom, and what had been signed that was lost by it.
    pub(crate) fn restored(&self) -> Result<Vec<Restored>> {
        let kinds = Query::new().kind(Kind::Restore).kind(Kind::RestoreConfirmed);
        let entries = self.query(&kinds)?.beside().collect::<Result<Vec<_>>>()?;
        Ok(Restored::all(entries.iter().filter_map(|entry| Some((entry.seq, entry.body.recorded_at, entry.own()?)))))
    }
}

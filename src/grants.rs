//! Emergency grants as their entries have them: who may look at whose data, until when, how it ended, who reviewed it.
//! What a log does with them is in `emergency`.

use crate::json::{Json, Object};
use crate::{Entry, Error, Result, Timestamp};
use attestlog_proof::entry::{Call, Kind, Phase};
use std::fmt;

/// An emergency grant as it was opened. Users and patients are written as everywhere in the log: as pseudonyms where the
/// policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The seq of its entry, by which calls name it (see [`ToolCall::emergency`](crate::ToolCall::emergency)).
    pub seq: u64,
    /// Who may look.
    pub user: String,
    /// At whose data.
    pub patient: String,
    /// Why.
    pub reason: String,
    /// How urgent it was said to be, in the host's own words.
    pub urgency: String,
    /// From when, by the store's clock.
    pub opened_at: Timestamp,
    /// Until when; at that time it no longer holds.
    pub expires_at: Timestamp,
    /// Who opened it.
    pub actor: String,
}

/// How a grant ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantEnd {
    /// Its time ran out; the entry that says so, once there is one.
    Expired(Option<u64>),
    /// Somebody closed it before.
    Closed {
        /// The seq of the entry.
        seq: u64,
        /// Who.
        actor: String,
    },
}

/// What is wrong with the use of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Misuse {
    /// There is no grant at that seq.
    NoGrant,
    /// The grant is another user's.
    OtherUser,
    /// The grant is for another patient.
    OtherPatient,
    /// The call names no patient, the grant is for one.
    NoPatient,
    /// Its time had run out.
    Expired,
    /// It had been closed.
    Closed,
}

impl Misuse {
    /// Its name in alerts and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Misuse::NoGrant => "no_grant",
            Misuse::OtherUser => "other_user",
            Misuse::OtherPatient => "other_patient",
            Misuse::NoPatient => "no_patient",
            Misuse::Expired => "expired",
            Misuse::Closed => "closed",
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Misuse::NoGrant => "there is no such grant",
            Misuse::OtherUser => "the grant is another user's",
            Misuse::OtherPatient => "the grant is for another patient",
            Misuse::NoPatient => "it names no patient, and the grant is for one",
            Misuse::Expired => "the grant has expired",
            Misuse::Closed => "the grant was closed",
        })
    }
}

/// A call that was made under a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantUse {
    /// The seq of the call; of its beginning where it was recorded in two steps.
    pub seq: u64,
    /// Who made it, as the log has it.
    pub user: String,
    /// Why the grant did not cover it, if it did not.
    pub misuse: Option<Misuse>,
}

/// A review of a grant by somebody else than its user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Review {
    /// The seq of the entry.
    pub seq: u64,
    /// Who reviewed.
    pub reviewer: String,
    /// What it came to, in the host's own words: `justified`, `not_justified`.
    pub disposition: String,
    /// What else there was to say.
    pub note: Option<String>,
}

/// A grant and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantState {
    /// The grant as it was opened.
    pub grant: Grant,
    /// How it ended; `None` while it holds.
    pub end: Option<GrantEnd>,
    /// The calls that named it, in order, misuse included.
    pub uses: Vec<GrantUse>,
    /// The reviews, in order.
    pub reviews: Vec<Review>,
}

impl GrantState {
    /// Whether it holds now.
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Whether somebody else has still to look at it: it was not reviewed, or was used after its last review.
    pub fn needs_review(&self) -> bool {
        match (self.reviews.last(), self.uses.last()) {
            (None, _) => true,
            (Some(review), Some(last)) => last.seq > review.seq,
            (Some(_), None) => false,
        }
    }

    /// The seq of the entry by which it ended, where there is one.
    pub(crate) fn end_seq(&self) -> Option<u64> {
        match self.end {
            Some(GrantEnd::Closed { seq, .. }) => Some(seq),
            Some(GrantEnd::Expired(seq)) => seq,
            None => None,
        }
    }

    /// `open`, `expired` or `closed`.
    pub fn status(&self) -> &'static str {
        match self.end {
            None => "open",
            Some(GrantEnd::Expired(_)) => "expired",
            Some(GrantEnd::Closed { .. }) => "closed",
        }
    }

    /// All of it as JSON: what `break-glass list --json` prints, and access reports hold.
    pub fn to_json(&self) -> Json {
        let grant = &self.grant;
        let uses = self.uses.iter().map(|used| {
            let misuse = used.misuse.map(|m| m.as_str());
            Object::from_iter([
                ("seq", Json::from(used.seq)),
                ("user", used.user.as_str().into()),
                ("misuse", misuse.into()),
            ])
        });
        let reviews = self.reviews.iter().map(|review| {
            Object::from_iter([
                ("seq", Json::from(review.seq)),
                ("reviewer", review.reviewer.as_str().into()),
                ("disposition", review.disposition.as_str().into()),
                ("note", review.note.as_deref().into()),
            ])
        });
        let closed_by = match &self.end {
            Some(GrantEnd::Closed { actor, .. }) => Some(actor.as_str()),
            _ => None,
        };
        Object::from_iter([
            ("grant", Json::from(grant.seq)),
            ("state", self.status().into()),
            ("user", grant.user.as_str().into()),
            ("patient", grant.patient.as_str().into()),
            ("reason", grant.reason.as_str().into()),
            ("urgency", grant.urgency.as_str().into()),
            ("actor", grant.actor.as_str().into()),
            ("opened_at", grant.opened_at.to_string().into()),
            ("expires_at", grant.expires_at.to_string().into()),
            ("end_seq", self.end_seq().into()),
            ("closed_by", closed_by.into()),
            ("uses", uses.map(Json::from).collect::<Vec<_>>().into()),
            ("reviews", reviews.map(Json::from).collect::<Vec<_>>().into()),
            ("needs_review", self.needs_review().into()),
        ])
        .into()
    }
}

/// What is kept in memory of a grant that nothing has ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenGrant {
    user: String,
    patient: String,
    expires_at: Timestamp,
}

impl OpenGrant {
    pub(crate) fn from_json(detail: &Json) -> Result<OpenGrant> {
        let grant = Grant::from_json(0, detail)?;
        Ok(OpenGrant { user: grant.user, patient: grant.patient, expires_at: grant.expires_at })
    }

    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// What the entry says by which this grant, of the entry at `seq`, is over.
    pub(crate) fn expiry(&self, seq: u64) -> Object {
        Object::from_iter([
            ("cause", Json::from("expired")),
            ("expires_at", self.expires_at.to_string().into()),
            ("grant", seq.into()),
            ("patient", self.patient.as_str().into()),
            ("user", self.user.as_str().into()),
        ])
    }
}

impl Grant {
    pub(crate) fn to_json(&self) -> Object {
        Object::from_iter([
            ("actor", Json::from(self.actor.as_str())),
            ("expires_at", self.expires_at.to_string().into()),
            ("opened_at", self.opened_at.to_string().into()),
            ("patient", self.patient.as_str().into()),
            ("reason", self.reason.as_str().into()),
            ("urgency", self.urgency.as_str().into()),
            ("user", self.user.as_str().into()),
        ])
    }

    pub(crate) fn from_json(seq: u64, detail: &Json) -> Result<Grant> {
        let text = |key: &str| {
            let text = detail.get(key).and_then(Json::as_str);
            text.map(str::to_owned).ok_or_else(|| Error::invalid(format!("it has no {key}")))
        };
        Ok(Grant {
            seq,
            user: text("user")?,
            patient: text("patient")?,
            reason: text("reason")?,
            urgency: text("urgency")?,
            opened_at: text("opened_at")?.parse()?,
            expires_at: text("expires_at")?.parse()?,
            actor: text("actor")?,
        })
    }

    /// The grant that an entry opened, if it opened one.
    pub(crate) fn of(entry: &Entry) -> Option<Grant> {
        let own = entry.own().filter(|own| own.kind == Kind::BreakGlassOpened)?;
        Grant::from_json(entry.seq, &own.detail.to_json()).ok()
    }

    /// Why this grant does not cover a call that was recorded at that time, if it does not. `ended` is the entry by which
    /// it was over before the call, with whether somebody closed it.
    pub(crate) fn misuse(&self, call: &Call, at: Timestamp, closed: Option<bool>) -> Option<Misuse> {
        if call.user_id != self.user {
            Some(Misuse::OtherUser)
        } else if call.patient_ids.iter().any(|patient| *patient != self.patient) {
            Some(Misuse::OtherPatient)
        } else if call.patient_ids.is_empty() && call.phase != Phase::Begun {
            // Of one that was only begun the patient may be known at its end.
            Some(Misuse::NoPatient)
        } else {
            self.is_over(at, closed)
        }
    }

    pub(crate) fn is_over(&self, at: Timestamp, closed: Option<bool>) -> Option<Misuse> {
        match closed {
            Some(true) => Some(Misuse::Closed),
            Some(false) => Some(Misuse::Expired),
            None => (at >= self.expires_at).then_some(Misuse::Expired),
        }
    }
}

pub(crate) fn end(seq: u64, detail: &Json) -> GrantEnd {
    let text = |key: &str| detail.get(key).and_then(Json::as_str);
    match text("cause") {
        Some("closed") => GrantEnd::Closed { seq, actor: text("actor").unwrap_or_default().to_owned() },
        _ => GrantEnd::Expired(Some(seq)),
    }
}

pub(crate) fn review(seq: u64, detail: &Json) -> Option<Review> {
    let text = |key: &str| detail.get(key).and_then(Json::as_str).map(str::to_owned);
    Some(Review { seq, reviewer: text("reviewer")?, disposition: text("disposition")?, note: text("note") })
}

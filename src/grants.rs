//! Emergency grants as their entries record them: who may see whose data, until when, how it ended, who reviewed it.
//! What a log does with them is in `emergency`.

use crate::json::{Json, Object};
use crate::{Entry, Error, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind, Phase};
use attestlog_proof::json::form::{Form, member, same};
use attestlog_proof::members::Members;
use std::fmt;

/// An emergency grant as it was opened. Users and patients are recorded as everywhere in the log: as pseudonyms if the
/// policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The seq of its entry, by which calls refer to it (see [`ToolCall::emergency`](crate::ToolCall::emergency)).
    pub seq: u64,
    /// The user who may look.
    pub user: String,
    /// The patient whose data the user may look at.
    pub patient: String,
    /// The reason.
    pub reason: String,
    /// The urgency, in the host's own words.
    pub urgency: String,
    /// When it was opened, by the store's clock.
    pub opened_at: Timestamp,
    /// When it expires; from this time on it is not valid.
    pub expires_at: Timestamp,
    /// Who opened it.
    pub actor: String,
}

/// How a grant ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantEnd {
    /// Its time ran out; the seq of the entry that records this, once there is one.
    Expired(Option<u64>),
    /// Somebody closed it before that.
    Closed {
        /// The seq of the entry.
        seq: u64,
        /// Who closed it.
        actor: String,
    },
}

/// Why a call is not covered by the grant that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Misuse {
    /// There is no grant at that seq.
    NoGrant,
    /// The grant belongs to another user.
    OtherUser,
    /// The grant is for another patient.
    OtherPatient,
    /// The call names no patient, but the grant is for one.
    NoPatient,
    /// Its time had run out.
    Expired,
    /// It had been closed.
    Closed,
}

impl Misuse {
    /// Every one.
    pub const ALL: &[Misuse] =
        &[Misuse::NoGrant, Misuse::OtherUser, Misuse::OtherPatient, Misuse::NoPatient, Misuse::Expired, Misuse::Closed];

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

attestlog_proof::named_form!(serde Misuse, "misuse of a grant");
attestlog_proof::json_form!(members GrantUse { seq, user, misuse });
attestlog_proof::json_form!(members Review { seq, reviewer, disposition, note });
attestlog_proof::json_form!(methods GrantState);

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
    /// The seq of the call; of its beginning if it was recorded in two steps.
    pub seq: u64,
    /// Who made it, as recorded in the log.
    pub user: String,
    /// Why the grant did not cover it, if it did not.
    pub misuse: Option<Misuse>,
}

/// A review of a grant by somebody other than its user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Review {
    /// The seq of the entry.
    pub seq: u64,
    /// Who reviewed.
    pub reviewer: String,
    /// The result, in the host's own words: `justified`, `not_justified`.
    pub disposition: String,
    /// A remark, if there is one.
    pub note: Option<String>,
}

/// A grant and what happened under it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantState {
    /// The grant as it was opened.
    pub grant: Grant,
    /// How it ended; `None` while it is valid.
    pub end: Option<GrantEnd>,
    /// The calls that named it, in order, misuse included.
    pub uses: Vec<GrantUse>,
    /// Whether calls under it may have been purged: a purge came after the end of its retention. Calls under a grant are kept
    /// as long as the grant.
    pub calls_may_be_purged: bool,
    /// The reviews, in order.
    pub reviews: Vec<Review>,
}

impl GrantState {
    /// Whether it is open: it has not ended.
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Whether somebody else still has to review it: it was not reviewed, or was used after its last review.
    pub fn needs_review(&self) -> bool {
        match (self.reviews.last(), self.uses.last()) {
            (None, _) => true,
            (Some(review), Some(last)) => last.seq > review.seq,
            (Some(_), None) => false,
        }
    }

    /// The seq of the entry that ended it, if there is one.
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

    /// All of it as JSON, as `break-glass list --json` prints it and access reports contain it.
    pub fn to_json(&self) -> Json {
        let grant = &self.grant;
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
            ("uses", self.uses.form()),
            ("calls_may_be_purged", self.calls_may_be_purged.into()),
            ("reviews", self.reviews.form()),
            ("needs_review", self.needs_review().into()),
        ])
        .into()
    }
}

impl GrantState {
    fn from_json(value: &Json) -> Result<GrantState> {
        let mut members = Members::of(value)?;
        let seq = member(&mut members, "grant")?;
        let closed_by: Option<String> = member(&mut members, "closed_by")?;
        let (state, end_seq): (String, Option<u64>) =
            (member(&mut members, "state")?, member(&mut members, "end_seq")?);
        let end = match (state.as_str(), closed_by, end_seq) {
            ("open", None, None) => None,
            ("expired", None, seq) => Some(GrantEnd::Expired(seq)),
            ("closed", Some(actor), Some(seq)) => Some(GrantEnd::Closed { seq, actor }),
            _ => {
                return Err(Error::invalid(
                    "state: must be open, expired or closed, with closed_by and end_seq if it was closed",
                ));
            }
        };
        Ok(GrantState {
            grant: Grant {
                seq,
                user: member(&mut members, "user")?,
                patient: member(&mut members, "patient")?,
                reason: member(&mut members, "reason")?,
                urgency: member(&mut members, "urgency")?,
                opened_at: member(&mut members, "opened_at")?,
                expires_at: member(&mut members, "expires_at")?,
                actor: member(&mut members, "actor")?,
            },
            end,
            uses: member(&mut members, "uses")?,
            calls_may_be_purged: member(&mut members, "calls_may_be_purged")?,
            reviews: member(&mut members, "reviews")?,
        })
    }
}

impl Form for Grant {
    /// What its entry says, with `grant`, the seq of that entry.
    fn form(&self) -> Json {
        let mut members = self.to_json();
        members.insert("grant", self.seq);
        members.into()
    }

    fn read(value: &Json) -> Result<Grant> {
        let seq = value.get("grant").and_then(Json::as_u64);
        let grant = Grant::from_json(seq.ok_or_else(|| Error::invalid("grant is missing"))?, value)?;
        same(value, &grant.form())?;
        Ok(grant)
    }
}

attestlog_proof::json_form!(own Grant);

/// Whether two names of a facet, as the log has them, are one person's.
pub(crate) type SamePerson<'a> = dyn Fn(Facet, &str, &str) -> bool + 'a;

/// The part of an open grant that is kept in memory.
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

    /// The detail of the entry that records that this grant, opened by the entry at `seq`, has expired.
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

    /// The grant that an entry opened, if any.
    pub(crate) fn of(entry: &Entry) -> Option<Grant> {
        let own = entry.own().filter(|own| own.kind == Kind::BreakGlassOpened)?;
        Grant::from_json(entry.seq, &own.detail.to_json()).ok()
    }

    /// Why this grant does not cover a call that was recorded at `at`; `None` if it does. `closed` is set if an entry ended the
    /// grant before the call: true if somebody closed it, false if it expired. `same` tells whether two names are one
    /// person's, however they are written.
    pub(crate) fn misuse(
        &self,
        call: &Call,
        at: Timestamp,
        closed: Option<bool>,
        same: &SamePerson<'_>,
    ) -> Option<Misuse> {
        if !same(Facet::User, &call.user_id, &self.user) {
            Some(Misuse::OtherUser)
        } else if call.patient_ids.iter().any(|patient| !same(Facet::Patient, patient, &self.patient)) {
            Some(Misuse::OtherPatient)
        } else if call.patient_ids.is_empty() && call.phase != Phase::Begun {
            // A call that has only begun may name the patient at its end.
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

//! Breaking the glass: an emergency grant lets a user at a patient's data for a limited time, for a reason, and stays on
//! the list until somebody else has reviewed it.
//!
//! Invariant Y1: opening, running out, closing and review of a grant are entries of the chain; use is the calls that name
//! it. Nothing is kept beside the chain. Invariant Y2: the log records and the host decides: a call under a grant that does
//! not hold is recorded like any other, and stands in the grant's state as misuse. Invariant Y3: a grant that was said to
//! be over stays over, whatever the clock shows later. Invariant Y4: who reviews is neither the user of the grant nor
//! anybody who used it, nor called by a name that only looks different.

use crate::entry::{Call, Field, Kind, Phase, Retention};
use crate::json::{Json, Object};
use crate::redact::{Facet, is_pseudonym, look, normal};
use crate::retention::RetentionPolicy;
use crate::store::{Receipt, Shared};
use crate::{AuditLog, Entry, Error, ErrorKind, Query, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A grant that would last longer is no emergency but a permission.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Under which name the retention policy is asked how long a grant is kept.
const TOOL: &str = "break_glass";

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
    fn end_seq(&self) -> Option<u64> {
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
    fn to_json(&self) -> Object {
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

    fn is_over(&self, at: Timestamp, closed: Option<bool>) -> Option<Misuse> {
        match closed {
            Some(true) => Some(Misuse::Closed),
            Some(false) => Some(Misuse::Expired),
            None => (at >= self.expires_at).then_some(Misuse::Expired),
        }
    }
}

impl AuditLog {
    /// Opens an emergency grant: `user` may look at the data of `patient` from now on and for `ttl`. Calls made under it
    /// name its seq ([`ToolCall::emergency`](crate::ToolCall::emergency)).
    ///
    /// `actor` is who opens it: the user, or who answers for them. All names are clear values; they are written as the
    /// redaction policy has users and patients, the reason as it has free text.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): a text is missing or too long, or the time is zero or more than 30 days;
    /// as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, ToolCall};
    /// # use std::time::Duration;
    /// # let log = AuditLog::in_memory()?;
    /// let hour = Duration::from_secs(3600);
    /// let grant = log.open_emergency("dr_smith", "P-7", "unconscious, allergies unknown", "immediate", hour, "dr_smith")?;
    /// log.check_emergency("dr_smith", "P-7", grant.seq)?;
    /// let call = ToolCall::new("conv_1", "dr_smith", "read_chart").patient("P-7").emergency(Some(grant.seq));
    /// let read = log.record(call)?;
    /// assert!(log.check_emergency("dr_smith", "P-8", grant.seq).is_err());
    /// assert!(log.review_emergency(grant.seq, "dr_smith", "justified", None).is_err()); // nobody reviews themselves
    /// log.review_emergency(grant.seq, "privacy_office", "justified", None)?;
    /// assert_eq!(log.emergencies()?[0].uses[0].seq, read.seq);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn open_emergency(
        &self,
        user: &str,
        patient: &str,
        reason: &str,
        urgency: &str,
        ttl: Duration,
        actor: &str,
    ) -> Result<Grant> {
        let (user, patient, actor) = (&*normal(user), &*normal(patient), &*normal(actor));
        let texts = [("user", user), ("patient", patient), ("reason", reason), ("urgency", urgency), ("actor", actor)];
        for (name, text) in texts {
            check_text(name, text)?;
        }
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(Error::invalid("ttl: an emergency grant lasts more than no time and at most 30 days"));
        }
        let shared = self.shared();
        let (user_as, patient_as) = (shared.named(Facet::User, user)?, shared.named(Facet::Patient, patient)?);
        // What is a pseudonym beside it must not stand in the reason as it is.
        let reason = [(user, &user_as), (patient, &patient_as)]
            .into_iter()
            // So short a name would be found in other words.
            .filter(|(clear, written)| clear != written && clear.trim().len() > 2)
            .fold(reason.to_owned(), |reason, (clear, written)| reason.replace(clear.trim(), written));
        let mut grant = Grant {
            seq: 0,
            user: user_as,
            patient: patient_as,
            reason: shared.clean(&reason)?,
            urgency: shared.clean(urgency)?,
            opened_at: Timestamp::MIN,
            expires_at: Timestamp::MIN,
            actor: shared.person(actor)?,
        };
        let receipt = self.own_kept(Kind::BreakGlassOpened, |shared, now, base| {
            grant.opened_at = now;
            grant.expires_at = now.plus(ttl);
            let policies = shared.policies();
            let retention = longest(&policies.set.retention, base.plus(ttl))?;
            Ok((grant.to_json(), Some(retention)))
        })?;
        grant.seq = receipt.seq;
        Ok(grant)
    }

    /// Whether `user` may look at the data of `patient` under this grant now: what a host refuses by. Changes nothing.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict): it may not, and the message says why; [`NoSuchEntry`](ErrorKind::NoSuchEntry):
    /// there is no such grant.
    pub fn check_emergency(&self, user: &str, patient: &str, grant: u64) -> Result<Grant> {
        let found = self.grant(grant)?;
        let shared = self.shared();
        let is = |field, clear: &str, written: &str| shared.spellings(field, clear).iter().any(|one| one == written);
        let misuse = if !is(Field::User, user, &found.user) {
            Some(Misuse::OtherUser)
        } else if !is(Field::Patient, patient, &found.patient) {
            Some(Misuse::OtherPatient)
        } else {
            let ended = match shared.ledger().open_grants.contains_key(&grant) {
                true => None,
                false => Some(self.end_of(grant)?.is_some_and(|end| matches!(end, GrantEnd::Closed { .. }))),
            };
            found.is_over(shared.clock.now(), ended)
        };
        match misuse {
            None => Ok(found),
            Some(misuse) => Err(Error::new(ErrorKind::Conflict, format!("emergency grant {grant}: {misuse}"))),
        }
    }

    /// Ends a grant before its time.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): there is no such grant; [`Conflict`](ErrorKind::Conflict): it is over
    /// already; as [`AuditLog::record`].
    pub fn close_emergency(&self, grant: u64, actor: &str) -> Result<Receipt> {
        check_text("actor", actor)?;
        let actor = self.shared().person(actor)?;
        self.own_kept(Kind::BreakGlassClosed, |shared, _, _| {
            let (opened, retention) = self.grant_entry(grant)?;
            let retention = retention.map(|retention| as_long_as(shared, grant, retention)).transpose()?;
            if !shared.ledger().open_grants.contains_key(&grant) {
                return Err(Error::new(ErrorKind::Conflict, format!("emergency grant {grant} is over already")));
            }
            let detail = Object::from_iter([
                ("actor", Json::from(actor)),
                ("cause", "closed".into()),
                ("expires_at", opened.expires_at.to_string().into()),
                ("grant", grant.into()),
                ("patient", opened.patient.into()),
                ("user", opened.user.into()),
            ]);
            Ok((detail, retention))
        })
    }

    /// Records that somebody looked into a grant and its use, and what it came to. What is done under it later needs a
    /// review again.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict): the reviewer is the user of the grant, or used it;
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): there is no such grant; as [`AuditLog::record`].
    pub fn review_emergency(
        &self,
        grant: u64,
        reviewer: &str,
        disposition: &str,
        note: Option<&str>,
    ) -> Result<Receipt> {
        for (name, text) in [("reviewer", reviewer), ("disposition", disposition)] {
            check_text(name, text)?;
        }
        let shared = self.shared();
        let opened = self.grant(grant)?;
        let mut users: BTreeSet<String> = self.uses_of(Some(grant))?.remove(&grant).unwrap_or_default().users;
        users.insert(opened.user.clone());
        // Case, and letters that look like others, make nobody somebody else.
        let plain = |name: &str| look(name).to_lowercase();
        let forms = forms(reviewer);
        let mut spellings = forms.iter().flat_map(|form| shared.spellings(Field::User, form));
        if users.iter().any(|user| plain(user) == plain(reviewer)) || spellings.any(|form| users.contains(&form)) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("emergency grant {grant}: its review is for somebody else than those who used it"),
            ));
        }
        let mut detail = Object::from_iter([
            ("disposition", Json::from(shared.clean(disposition)?)),
            ("grant", grant.into()),
            ("patient", opened.patient.into()),
            ("reviewer", shared.person(reviewer)?.into()),
            ("user", opened.user.into()),
        ]);
        if let Some(note) = note.filter(|note| !note.is_empty()) {
            check_text("note", note)?;
            detail.insert("note", shared.clean(note)?);
        }
        self.own(Kind::BreakGlassReviewed, detail.into())
    }

    /// Every emergency grant with what became of it, the oldest first.
    ///
    /// # Errors
    /// What the file says.
    pub fn emergencies(&self) -> Result<Vec<GrantState>> {
        let now = self.shared().clock.now();
        let mut states: BTreeMap<u64, GrantState> = BTreeMap::new();
        let kinds = Query::new().kind(Kind::BreakGlassOpened).kind(Kind::BreakGlassClosed);
        for entry in self.query(&kinds.kind(Kind::BreakGlassReviewed))? {
            let entry = entry?;
            if let Some(grant) = Grant::of(&entry) {
                states.insert(entry.seq, GrantState { grant, end: None, uses: Vec::new(), reviews: Vec::new() });
                continue;
            }
            let Some(own) = entry.own() else { continue };
            let detail = own.detail.to_json();
            let state = detail.get("grant").and_then(Json::as_u64).and_then(|grant| states.get_mut(&grant));
            let Some(state) = state else { continue };
            match own.kind {
                Kind::BreakGlassClosed => state.end = Some(end(entry.seq, &detail)),
                _ => state.reviews.extend(review(entry.seq, &detail)),
            }
        }
        for (grant, uses) in self.uses_of(None)? {
            let Some(state) = states.get_mut(&grant) else { continue };
            let ended = match &state.end {
                Some(GrantEnd::Closed { seq, .. }) => Some((*seq, true)),
                Some(GrantEnd::Expired(seq)) => seq.map(|seq| (seq, false)),
                None => None,
            };
            for (seq, at, call) in uses.calls {
                let closed = ended.filter(|(end, _)| *end < seq).map(|(_, closed)| closed);
                let misuse = state.grant.misuse(&call, at, closed);
                // It never ended, so it never named one.
                let silent = call.phase == Phase::Begun && call.patient_ids.is_empty();
                let misuse = misuse.or(silent.then_some(Misuse::NoPatient));
                state.uses.push(GrantUse { seq, user: call.user_id, misuse });
            }
        }
        for state in states.values_mut() {
            if state.end.is_none() && now >= state.grant.expires_at {
                state.end = Some(GrantEnd::Expired(None));
            }
        }
        Ok(states.into_values().collect())
    }

    /// The grants that were reviewed and not used since, and those that are gone: what a purge may take. One that was open when the
    /// keys signed last stays until they sign again: its entry is looked for until then (R60).
    pub(crate) fn reviewed_grants(&self) -> Result<BTreeSet<u64>> {
        let shared = self.shared();
        let signed = match &*shared.keys() {
            Some(keys) => keys.signed().map_or(0, |signed| signed.mark.size),
            None if shared.ledger().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some()) => u64::MAX,
            None => 0,
        };
        let was_open = |state: &GrantState| state.grant.seq < signed && state.end_seq().is_none_or(|end| end >= signed);
        let (mut wanting, mut reviewed) = (BTreeSet::new(), BTreeSet::new());
        for state in self.emergencies()? {
            let set = if state.needs_review() || was_open(&state) { &mut wanting } else { &mut reviewed };
            set.insert(state.grant.seq);
        }
        for entry in self.query(&Query::new().kind(Kind::BreakGlassClosed))? {
            let entry = entry?;
            let detail = entry.own().map(|own| own.detail.to_json());
            let grant = detail.as_ref().and_then(|detail| detail.get("grant")).and_then(Json::as_u64);
            reviewed.extend(grant.filter(|grant| !wanting.contains(grant)));
        }
        Ok(reviewed)
    }

    fn grant(&self, seq: u64) -> Result<Grant> {
        self.grant_entry(seq).map(|(grant, _)| grant)
    }

    fn grant_entry(&self, seq: u64) -> Result<(Grant, Option<Retention>)> {
        let entry = self.entry(seq)?;
        let grant = Grant::of(&entry).ok_or_else(|| {
            Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} is a {}, no emergency grant", entry.kind()))
        })?;
        Ok((grant, entry.body.retention))
    }

    fn end_of(&self, grant: u64) -> Result<Option<GrantEnd>> {
        for entry in self.query(&Query::new().kind(Kind::BreakGlassClosed).after(grant))? {
            let entry = entry?;
            let Some(detail) = entry.own().map(|own| own.detail.to_json()) else { continue };
            if detail.get("grant").and_then(Json::as_u64) == Some(grant) {
                return Ok(Some(end(entry.seq, &detail)));
            }
        }
        Ok(None)
    }

    /// The calls that name a grant, or any.
    fn uses_of(&self, wanted: Option<u64>) -> Result<BTreeMap<u64, Uses>> {
        let mut found: BTreeMap<u64, Uses> = BTreeMap::new();
        let mut query = Query::new().emergency();
        if let Some(grant) = wanted {
            query = query.after(grant);
        }
        for entry in self.query(&query)? {
            let entry = entry?;
            let (seq, at) = (entry.seq, entry.body.recorded_at);
            let Some(call) = entry.call() else { continue };
            let Some(grant) = call.grant.filter(|grant| wanted.is_none_or(|wanted| wanted == *grant)) else { continue };
            let uses = found.entry(grant).or_default();
            // The two entries of a call are one use, but patients may be known only at its end.
            if let Phase::Finished(begun) = call.phase
                && let Some((.., first)) = uses.calls.iter_mut().find(|(seq, ..)| *seq == begun)
            {
                if first.patient_ids.is_empty() {
                    first.patient_ids = call.patient_ids.clone();
                    first.phase = Phase::Whole;
                }
                if first.patient_ids == call.patient_ids {
                    continue;
                }
            }
            uses.users.insert(call.user_id.clone());
            uses.calls.push((seq, at, call.clone()));
        }
        Ok(found)
    }
}

/// The calls under one grant.
#[derive(Debug, Default)]
struct Uses {
    users: BTreeSet<String>,
    calls: Vec<(u64, Timestamp, Call)>,
}

impl Shared {
    /// A patient's or a user's name as entries have it.
    pub(crate) fn facet(&self, facet: Facet, clear: &str) -> Result<String> {
        let policies = self.policies();
        let missing = || Error::new(ErrorKind::Key, "the policy writes pseudonyms and their key is missing");
        Ok(policies.sanitizer.as_ref().ok_or_else(missing)?.facet(facet, clear))
    }

    /// A patient or user who is meant, as entries have them; a pseudonym stands for itself.
    fn named(&self, facet: Facet, clear: &str) -> Result<String> {
        if is_pseudonym(clear) { Ok(clear.to_owned()) } else { self.facet(facet, clear) }
    }

    /// Somebody who did something: written as users are, so that one person has one name throughout the log.
    pub(crate) fn person(&self, clear: &str) -> Result<String> {
        self.facet(Facet::User, clear)
    }
}

/// As long as any call under the grant can have to be kept: from its end, for the longest period that the policy has. It
/// is of the patients' class, so that it grows with it.
fn longest(policy: &RetentionPolicy, end: Timestamp) -> Result<Retention> {
    let mut retention = policy.assign(TOOL, true, None, None, end)?;
    let longest = policy.classes().map(|(_, period)| period.after(end)).max();
    retention.until = longest.unwrap_or(retention.until).max(retention.until);
    Ok(retention)
}

/// What keeps the end of a grant as long as the grant, whose entry is kept for this: policies that were set since have lengthened it,
/// and a grant of which only the beginning is left would be open again.
pub(crate) fn as_long_as(shared: &Shared, grant: u64, retention: Retention) -> Result<Retention> {
    let until = shared.ledger().history()?.effective_until(grant, &retention);
    Ok(Retention { until, ..retention })
}

fn end(seq: u64, detail: &Json) -> GrantEnd {
    let text = |key: &str| detail.get(key).and_then(Json::as_str);
    match text("cause") {
        Some("closed") => GrantEnd::Closed { seq, actor: text("actor").unwrap_or_default().to_owned() },
        _ => GrantEnd::Expired(Some(seq)),
    }
}

fn review(seq: u64, detail: &Json) -> Option<Review> {
    let text = |key: &str| detail.get(key).and_then(Json::as_str).map(str::to_owned);
    Some(Review { seq, reviewer: text("reviewer")?, disposition: text("disposition")?, note: text("note") })
}

/// The names that somebody may have who reviews under this one: what a pseudonym is compared with.
fn forms(reviewer: &str) -> BTreeSet<String> {
    let looks = [normal(reviewer).into_owned(), look(reviewer)];
    let cased = |name: &String| {
        let lower = name.to_lowercase();
        let mut letters = lower.chars();
        let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        [name.clone(), name.to_uppercase(), lower, capital]
    };
    looks.iter().flat_map(cased).collect()
}

pub(crate) fn check_text(name: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Err(Error::invalid(format!(
            "{name}: must have 1 to {MAX_TEXT_BYTES} bytes, not only blanks, and no NUL"
        )));
    }
    Ok(())
}

//! Breaking the glass: an emergency grant lets a user access a patient's data for a limited time, for a stated reason,
//! and stays on the list until somebody else has reviewed it.
//!
//! Invariant Y1: the opening, expiry, closing and review of a grant are entries of the chain; its uses are the calls
//! that name it. Nothing is kept outside the chain. Invariant Y2: the log records and the host decides: a call under a
//! grant that does not hold is recorded like any other, and is listed in the grant's state as misuse. Invariant Y3: a
//! grant that was recorded as over stays over, whatever the clock shows later; a refusal is recorded in the chain, and
//! a process that has looked at a grant gives it no more time than its monotonic clock does. Invariant Y4: a reviewer
//! is neither the user of the grant nor anybody who used it, nor somebody whose name only looks different.

pub use crate::grants::{Grant, GrantEnd, GrantState, GrantUse, Misuse, Review};
use crate::grants::{end, review};
use crate::json::{Json, Object};
use crate::redact::{IdentityKind, gist, look, normal};
use crate::retention::RetentionPolicy;
use crate::store::OpenStore;
use crate::store::Receipt;
use crate::text::{Justification, check_text};
use crate::{Error, ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind, Phase, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A longer grant would not be an emergency but a permission.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
/// The tool name for which the retention policy is asked how long to keep a grant.
const TOOL: &str = "break_glass";

/// Whom an emergency grant lets at whose data, and for how long. All names are clear values; they are written as the redaction
/// policy has users and patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmergencyAccess<'a> {
    /// Who looks.
    pub user: &'a str,
    /// At whose data.
    pub patient: &'a str,
    /// How urgent it is, in the host's words.
    pub urgency: &'a str,
    /// For how long from now on: at most 30 days.
    pub ttl: Duration,
}

impl OpenStore {
    /// Opens an emergency grant: `user` may look at the data of `patient` from now on and for `ttl`. Calls made under it
    /// name its seq ([`ToolCall::emergency`](crate::ToolCall::emergency)).
    pub(crate) fn open_emergency(&self, access: EmergencyAccess<'_>, by: Justification<'_>) -> Result<Grant> {
        let EmergencyAccess { user, patient, urgency, ttl } = access;
        let Justification { actor, reason } = by;
        let (user, patient, actor) = (&*normal(user), &*normal(patient), &*normal(actor));
        let texts = [("user", user), ("patient", patient), ("reason", reason), ("urgency", urgency), ("actor", actor)];
        for (name, text) in texts {
            check_text(name, text)?;
        }
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(Error::invalid("ttl: an emergency grant lasts longer than zero and at most 30 days"));
        }
        let engine = self.engine();
        let (user_as, patient_as) =
            (engine.named(IdentityKind::User, user)?, engine.named(IdentityKind::Patient, patient)?);
        // If a name is written as a pseudonym, the reason must not contain it in clear.
        let reason = [(user, &user_as), (patient, &patient_as)]
            .into_iter()
            // Names this short would be found inside other words.
            .filter(|(clear, written)| clear != written && clear.trim().len() > 2)
            .fold(reason.to_owned(), |reason, (clear, written)| reason.replace(clear.trim(), written));
        let mut grant = Grant {
            seq: 0,
            user: user_as,
            patient: patient_as,
            reason: engine.clean(&reason)?,
            urgency: engine.clean(urgency)?,
            opened_at: Timestamp::MIN,
            expires_at: Timestamp::MIN,
            actor: engine.person(actor)?,
        };
        let receipt = self.own_kept(Kind::BreakGlassOpened, |engine, now, base| {
            grant.opened_at = now;
            grant.expires_at = now.plus(ttl);
            let policies = engine.policies();
            let retention = longest(&policies.set.retention, base.plus(ttl))?;
            Ok((grant.to_json(), Some(retention)))
        })?;
        grant.seq = receipt.seq;
        engine.time_of_grant(grant.seq, grant.opened_at);
        Ok(grant)
    }

    /// Whether `user` may look at the data of `patient` under this grant now: what a host refuses by. Where it is refused because
    /// its time is over, that is recorded, if it was not yet and the store is not open for reading only: then the system clock can
    /// be set back by whom it may. Else changes nothing.
    pub(crate) fn check_emergency(&self, user: &str, patient: &str, grant: u64) -> Result<Grant> {
        self.check_damage()?;
        let found = self.grant(grant)?;
        let engine = self.engine();
        let is = |field, clear: &str, written: &str| engine.spellings(field, clear).iter().any(|one| one == written);
        let other_user = (!is(Facet::User, user, &found.user)).then_some(Misuse::OtherUser);
        let other_patient = (!is(Facet::Patient, patient, &found.patient)).then_some(Misuse::OtherPatient);
        if let (Some(user), Some(patient)) = (other_user, other_patient) {
            return Err(Error::new(ErrorKind::Conflict, format!("emergency grant {grant}: {user}, and {patient}")));
        }
        let misuse = if let Some(other) = other_user.or(other_patient) {
            Some(other)
        } else {
            let ended = match engine.chain_state().open_grants.contains_key(&grant) {
                true => None,
                false => Some(self.end_of(grant)?.is_some_and(|end| matches!(end, GrantEnd::Closed { .. }))),
            };
            // Anything recorded after the grant's time was over has also recorded its expiry.
            let over = found.is_over(engine.time_of_grant(grant, engine.config.clock.now()), ended);
            if over.is_some() && ended.is_none() {
                // The refusal stands whether or not the expiry can be recorded.
                let _ = engine.write_expiries();
            }
            over
        };
        match misuse {
            None => Ok(found),
            Some(misuse) => Err(Error::new(ErrorKind::Conflict, format!("emergency grant {grant}: {misuse}"))),
        }
    }

    /// Ends a grant before its time.
    pub(crate) fn close_emergency(&self, grant: u64, actor: &str) -> Result<Receipt> {
        check_text("actor", actor)?;
        let actor = self.engine().person(actor)?;
        self.own_kept(Kind::BreakGlassClosed, |engine, _, _| {
            let (opened, retention) = self.grant_entry(grant)?;
            let retention = retention.map(|retention| engine.as_long_as(grant, retention)).transpose()?;
            if !engine.chain_state().open_grants.contains_key(&grant) {
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
    pub(crate) fn review_emergency(&self, grant: u64, by: Justification<'_>, note: Option<&str>) -> Result<Receipt> {
        let Justification { actor: reviewer, reason: disposition } = by;
        for (name, text) in [("reviewer", reviewer), ("disposition", disposition)] {
            check_text(name, text)?;
        }
        let engine = self.engine();
        let opened = self.grant(grant)?;
        // Case, separators, look-alike letters and pseudonyms do not make the reviewer somebody else.
        let same =
            |user: &str| !gist(user).is_empty() && gist(user) == gist(reviewer) || normal(user) == normal(reviewer);
        let is_pseudonym_of = |user: &String| engine.spellings(Facet::User, user).iter().any(|one| one == reviewer);
        let spellings: BTreeSet<String> =
            forms(reviewer).iter().flat_map(|form| engine.spellings(Facet::User, form)).collect();
        let mut detail = Object::from_iter([
            ("disposition", Json::from(engine.clean(disposition)?)),
            ("grant", grant.into()),
            ("patient", opened.patient.into()),
            ("reviewer", engine.person(reviewer)?.into()),
            ("user", opened.user.as_str().into()),
        ]);
        if let Some(note) = note.filter(|note| !note.is_empty()) {
            check_text("note", note)?;
            detail.insert("note", engine.clean(note)?);
        }
        // Check the index before the writer lock is taken.
        engine.snapshot()?.hold_index()?;
        // With the writer lock held, so that nobody uses the grant meanwhile.
        self.own_kept(Kind::BreakGlassReviewed, |_, _, _| {
            let mut users: BTreeSet<String> = self.uses_of(Some(grant))?.remove(&grant).unwrap_or_default().users;
            users.insert(opened.user);
            if users.iter().any(|user| same(user) || is_pseudonym_of(user))
                || spellings.iter().any(|form| users.contains(form))
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("emergency grant {grant}: whoever used it cannot review it; somebody else has to"),
                ));
            }
            Ok((detail, None))
        })
    }

    /// Every emergency grant with what became of it, the oldest first.
    pub(crate) fn emergencies(&self) -> Result<Vec<GrantState>> {
        let now = self.engine().config.clock.now();
        let chain_state = self.engine().chain_state();
        let mut states: BTreeMap<u64, GrantState> = BTreeMap::new();
        let kinds = Query::new().kind(Kind::BreakGlassOpened).kind(Kind::BreakGlassClosed);
        for entry in self.query_held(&kinds.kind(Kind::BreakGlassReviewed))? {
            let entry = entry?;
            if let Some(grant) = Grant::of(&entry) {
                let kept = entry.body.retention.as_ref().map(|retention| retention.until);
                let calls_may_be_purged = kept.is_some_and(|kept| {
                    chain_state.purges.iter().any(|(purge, record)| *purge > entry.seq && record.cut_off >= kept)
                });
                let (end, uses, reviews) = (None, Vec::new(), Vec::new());
                states.insert(entry.seq, GrantState { grant, end, uses, calls_may_be_purged, reviews });
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
        // Most logs have no grant, and then nothing more is read.
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let policies = self.engine().policies();
        let same = |of, a: &str, b: &str| {
            let sanitizer = policies.sanitizer.as_ref();
            a == b || sanitizer.is_some_and(|sanitizer| sanitizer.person(of, a) == sanitizer.person(of, b))
        };
        for (grant, uses) in self.uses_of(None)? {
            let Some(state) = states.get_mut(&grant) else { continue };
            let ended = match &state.end {
                Some(GrantEnd::Closed { seq, .. }) => Some((*seq, true)),
                Some(GrantEnd::Expired(seq)) => seq.map(|seq| (seq, false)),
                None => None,
            };
            for (seq, at, call) in uses.calls {
                let closed = ended.filter(|(end, _)| *end < seq).map(|(_, closed)| closed);
                let misuse = state.grant.misuse(&call, at, closed, &same);
                // The call never finished, so it never named a patient.
                let silent = call.phase == Phase::Begun && call.patient_ids.is_empty();
                let misuse = misuse.or(silent.then_some(Misuse::NoPatient));
                state.uses.push(GrantUse { seq, user: call.user_id, misuse });
            }
        }
        for state in states.values_mut() {
            if state.end.is_none() && self.engine().time_of_grant(state.grant.seq, now) >= state.grant.expires_at {
                state.end = Some(GrantEnd::Expired(None));
            }
        }
        Ok(states.into_values().collect())
    }

    /// The grants that a purge may take: those that were reviewed and not used since, and those that are gone. A grant
    /// that was open when the keys signed last stays until they sign again: its entry is looked up until then (R60).
    pub(crate) fn reviewed_grants(&self) -> Result<BTreeSet<u64>> {
        let engine = self.engine();
        let signed = match &*engine.keys() {
            Some(keys) => keys.signed().map_or(0, |signed| signed.mark.size),
            None if engine.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some()) => u64::MAX,
            None => 0,
        };
        let was_open = |state: &GrantState| state.grant.seq < signed && state.end_seq().is_none_or(|end| end >= signed);
        let (mut wanting, mut reviewed) = (BTreeSet::new(), BTreeSet::new());
        for state in self.emergencies()? {
            let set = if state.needs_review() || was_open(&state) { &mut wanting } else { &mut reviewed };
            set.insert(state.grant.seq);
        }
        for entry in self.query_held(&Query::new().kind(Kind::BreakGlassClosed))? {
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
            Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} is a {}, not an emergency grant", entry.kind()))
        })?;
        Ok((grant, entry.body.retention))
    }

    fn end_of(&self, grant: u64) -> Result<Option<GrantEnd>> {
        for entry in self.query_held(&Query::new().kind(Kind::BreakGlassClosed).after(grant))? {
            let entry = entry?;
            let Some(detail) = entry.own().map(|own| own.detail.to_json()) else { continue };
            if detail.get("grant").and_then(Json::as_u64) == Some(grant) {
                return Ok(Some(end(entry.seq, &detail)));
            }
        }
        Ok(None)
    }

    /// The calls that name this grant, or any grant.
    fn uses_of(&self, wanted: Option<u64>) -> Result<BTreeMap<u64, Uses>> {
        let mut found: BTreeMap<u64, Uses> = BTreeMap::new();
        let mut query = Query::new().emergency();
        if let Some(grant) = wanted {
            query = query.after(grant);
        }
        for entry in self.query_held(&query)? {
            let entry = entry?;
            let (seq, at) = (entry.seq, entry.body.recorded_at);
            let Some(call) = entry.call() else { continue };
            let Some(grant) = call.grant.filter(|grant| wanted.is_none_or(|wanted| wanted == *grant)) else { continue };
            let uses = found.entry(grant).or_default();
            // The two entries of a call are one use, but the patients may be known only from the second.
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

/// The retention of a grant: as long as any call under it can have to be kept, which is from its end for the longest
/// period of the policy. It has the patients' class, so that it grows with that class.
fn longest(policy: &RetentionPolicy, end: Timestamp) -> Result<Retention> {
    let mut retention = policy.assign(TOOL, true, None, None, end)?;
    let longest = policy.classes().map(|(_, period)| period.after(end)).max();
    retention.until = longest.unwrap_or(retention.until).max(retention.until);
    Ok(retention)
}

/// The forms that the reviewer's name may have; their pseudonyms are compared with those of the users.
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

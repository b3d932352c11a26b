//! The emergency grants that still matter to rules: those in force, and those that nobody has reviewed.

use crate::grants::{Grant, GrantEnd, GrantState, Misuse, SamePerson};
use crate::json::Json;
use crate::{Entry, Timestamp};
use attestlog_proof::entry::{Call, Kind};
use std::collections::BTreeMap;
use std::time::Duration;

/// One of these grants.
#[derive(Debug)]
struct Tracked {
    grant: Grant,
    /// The entry that ended it, and whether somebody closed it.
    end: Option<(u64, bool)>,
    reviewed: bool,
}

/// The grants, by seq.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<u64, Tracked>);

impl Grants {
    /// Starts from the state of all grants.
    pub(super) fn of(states: Vec<GrantState>) -> Grants {
        let mut grants = Grants::default();
        for state in states {
            let reviewed = !state.needs_review();
            let end = match state.end {
                Some(GrantEnd::Closed { seq, .. }) => Some((seq, true)),
                Some(GrantEnd::Expired(seq)) => seq.map(|seq| (seq, false)),
                None => None,
            };
            let seq = state.grant.seq;
            grants.0.insert(seq, Tracked { grant: state.grant, end, reviewed });
            grants.forget(seq);
        }
        grants
    }

    /// Adds what an entry says about a grant. Adding it twice changes nothing.
    pub(super) fn see(&mut self, entry: &Entry) {
        if let Some(grant) = Grant::of(entry) {
            self.0.entry(entry.seq).or_insert(Tracked { grant, end: None, reviewed: false });
            return;
        }
        let Some(own) = entry.own() else { return };
        if !matches!(own.kind, Kind::BreakGlassClosed | Kind::BreakGlassReviewed) {
            return;
        }
        let detail = own.detail.to_json();
        let Some(seq) = detail.get("grant").and_then(Json::as_u64) else { return };
        let Some(tracked) = self.0.get_mut(&seq) else { return };
        match own.kind {
            Kind::BreakGlassReviewed => tracked.reviewed = true,
            _ => tracked.end = Some((entry.seq, detail.get("cause").and_then(Json::as_str) == Some("closed"))),
        }
        self.forget(seq);
    }

    fn forget(&mut self, seq: u64) {
        if self.0.get(&seq).is_some_and(|tracked| tracked.reviewed && tracked.end.is_some()) {
            self.0.remove(&seq);
        }
    }

    /// Adds a call under a grant, which needs a review from then on. Returns what [`Grants::misuse`] returns.
    pub(super) fn used(
        &mut self,
        seq: u64,
        at: Timestamp,
        call: &Call,
        same: &SamePerson<'_>,
        find: impl FnOnce(u64) -> Option<Grant>,
    ) -> Option<Misuse> {
        if let Some(tracked) = self.0.get_mut(&call.grant?) {
            tracked.reviewed = false;
        }
        self.misuse(seq, at, call, same, find)
    }

    /// Why the grant that a call names does not cover it, if it does not. `find` looks up a grant that is not tracked; `same`
    /// tells whether two names are one person's.
    pub(super) fn misuse(
        &self,
        seq: u64,
        at: Timestamp,
        call: &Call,
        same: &SamePerson<'_>,
        find: impl FnOnce(u64) -> Option<Grant>,
    ) -> Option<Misuse> {
        let named = call.grant?;
        match self.0.get(&named) {
            Some(tracked) => {
                let closed = tracked.end.filter(|(end, _)| *end < seq).map(|(_, closed)| closed);
                tracked.grant.misuse(call, at, closed, same)
            }
            // A grant that is not tracked is over.
            None => match find(named) {
                Some(grant) => grant.misuse(call, at, Some(at < grant.expires_at), same),
                None => Some(Misuse::NoGrant),
            },
        }
    }

    /// The grants that nobody has reviewed within `after` of being opened.
    pub(super) fn unreviewed(&self, now: Timestamp, after: Duration) -> impl Iterator<Item = &Grant> {
        let open = self.0.values().filter(|tracked| !tracked.reviewed).map(|tracked| &tracked.grant);
        open.filter(move |grant| grant.opened_at.plus(after) <= now)
    }

    /// When the next grant will have been unreviewed for `after`, later than `now`.
    pub(super) fn next_unreviewed(&self, now: Timestamp, after: Duration) -> Option<Timestamp> {
        let open = self.0.values().filter(|tracked| !tracked.reviewed);
        open.map(|tracked| tracked.grant.opened_at.plus(after)).filter(|at| *at > now).min()
    }

    /// When the next grant expires, later than `now`.
    pub(super) fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.0.values().filter(|tracked| tracked.end.is_none());
        open.map(|tracked| tracked.grant.expires_at).filter(|at| *at > now).min()
    }
}

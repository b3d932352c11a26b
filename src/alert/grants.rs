//! The emergency grants that still matter to rules: those that hold, and those that nobody has reviewed.

use crate::grants::{Grant, GrantEnd, GrantState, Misuse};
use crate::json::Json;
use crate::{Entry, Timestamp};
use attestlog_proof::entry::{Call, Kind};
use std::collections::BTreeMap;
use std::time::Duration;

/// One of them.
#[derive(Debug)]
struct Tracked {
    grant: Grant,
    /// The entry by which it is over, and whether somebody closed it.
    end: Option<(u64, bool)>,
    reviewed: bool,
}

/// The grants, by seq.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<u64, Tracked>);

impl Grants {
    /// Starts from how all grants stand.
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

    /// Takes in what an entry says of a grant. Taking it in twice changes nothing.
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

    /// Takes in that a call was made under a grant, which wants a review from then on; says as [`Grants::misuse`] does.
    pub(super) fn used(
        &mut self,
        seq: u64,
        at: Timestamp,
        call: &Call,
        find: impl FnOnce(u64) -> Option<Grant>,
    ) -> Option<Misuse> {
        if let Some(tracked) = self.0.get_mut(&call.grant?) {
            tracked.reviewed = false;
        }
        self.misuse(seq, at, call, find)
    }

    /// Why the grant that a call names does not cover it, if it does not. `find` gives a grant that is not tracked.
    pub(super) fn misuse(
        &self,
        seq: u64,
        at: Timestamp,
        call: &Call,
        find: impl FnOnce(u64) -> Option<Grant>,
    ) -> Option<Misuse> {
        let named = call.grant?;
        match self.0.get(&named) {
            Some(tracked) => {
                let closed = tracked.end.filter(|(end, _)| *end < seq).map(|(_, closed)| closed);
                tracked.grant.misuse(call, at, closed)
            }
            // What is not tracked is over.
            None => match find(named) {
                Some(grant) => grant.misuse(call, at, Some(at < grant.expires_at)),
                None => Some(Misuse::NoGrant),
            },
        }
    }

    /// The grants that nobody has reviewed although they were opened so long ago.
    pub(super) fn unreviewed(&self, now: Timestamp, after: Duration) -> impl Iterator<Item = &Grant> {
        let open = self.0.values().filter(|tracked| !tracked.reviewed).map(|tracked| &tracked.grant);
        open.filter(move |grant| grant.opened_at.plus(after) <= now)
    }

    /// When the next grant will have gone unreviewed for so long, after `now`.
    pub(super) fn next_unreviewed(&self, now: Timestamp, after: Duration) -> Option<Timestamp> {
        let open = self.0.values().filter(|tracked| !tracked.reviewed);
        open.map(|tracked| tracked.grant.opened_at.plus(after)).filter(|at| *at > now).min()
    }

    /// When the next grant runs out, after `now`.
    pub(super) fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.0.values().filter(|tracked| tracked.end.is_none());
        open.map(|tracked| tracked.grant.expires_at).filter(|at| *at > now).min()
    }
}

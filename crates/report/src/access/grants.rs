//! Emergency access in a report: the grants, their reasons, their duration and their reviews.
//!
//! Invariant A5: the row of a call under a grant that did not cover it says so; a grant that nobody has reviewed says
//! so.

use super::Subject;
use super::context::Context;
use crate::text::shortened;
use crate::zone::Zone;
use attestlog::emergency::{GrantEnd, GrantState, Misuse};
use std::collections::{BTreeMap, BTreeSet};

/// Reasons and notes are free text; a reader of the table only needs the gist.
const MAX_TEXT: usize = 200;

/// What the report knows about emergency grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grants {
    /// The subject's grants, by seq.
    pub listed: Vec<GrantState>,
    /// The seqs of all grants in the log.
    known: BTreeSet<u64>,
    /// The calls that named a grant which did not cover them, by seq.
    misused: BTreeMap<u64, Misuse>,
}

impl Context {
    /// Adds the emergency grants of the log ([`Emergency::grants`](attestlog::groups::Emergency::grants)). The
    /// subject's grants that were valid at some time in the period are listed, and calls that their grant did not cover
    /// are marked. Set the subject's other names and the period first.
    pub fn emergencies(mut self, states: Vec<GrantState>) -> Context {
        let known = states.iter().map(|state| state.grant.seq).collect();
        let misuse = |state: &GrantState| state.uses.clone().into_iter().filter_map(|u| Some((u.seq, u.misuse?)));
        let misused = states.iter().flat_map(misuse).collect();
        let concerns = |state: &GrantState| match &self.subject {
            Subject::Patient(_) => self.is_subject(&state.grant.patient),
            Subject::User(_) => {
                self.is_subject(&state.grant.user) || state.uses.iter().any(|used| self.is_subject(&used.user))
            }
            // Emergency treatment is not one of the disclosures to account for.
            Subject::Disclosures(_) => false,
        };
        let within = |state: &GrantState| {
            self.end.is_none_or(|end| state.grant.opened_at < end)
                && self.start.is_none_or(|start| start < state.grant.expires_at)
        };
        let listed = states.into_iter().filter(|state| concerns(state) && within(state)).collect();
        self.grants = Some(Grants { listed, known, misused });
        self
    }
}

impl Grants {
    /// The reason why the grant that a call names does not cover it, if it does not.
    pub(super) fn misuse(&self, seq: u64, grant: u64) -> Option<Misuse> {
        match self.known.contains(&grant) {
            true => self.misused.get(&seq).copied(),
            false => Some(Misuse::NoGrant),
        }
    }
}

/// The parts of a grant's description; all texts are already escaped.
pub(super) struct Told {
    pub seq: u64,
    pub user: String,
    pub patient: String,
    pub time: String,
    pub ended: String,
    pub why: String,
    pub used: String,
    pub review: String,
    /// Whether somebody still has to act on it.
    pub open: bool,
}

pub(super) fn told(state: &GrantState, limit: usize, zone: Zone) -> Told {
    let moment = |t| zone.moment_named(t);
    let grant = &state.grant;
    let misused = state.uses.iter().filter(|used| used.misuse.is_some()).count();
    let calls = match (state.uses.len(), state.calls_may_be_purged) {
        (0, false) => "not used".to_owned(),
        (0, true) => "no call under it is in the log; its calls may have been purged".to_owned(),
        (1, false) => "1 call".to_owned(),
        (n, false) => format!("{n} calls"),
        (1, true) => "1 call; others may have been purged".to_owned(),
        (n, true) => format!("{n} calls; others may have been purged"),
    };
    let reviews: Vec<String> = state
        .reviews
        .iter()
        .map(|review| {
            let note = review.note.as_deref().map_or(String::new(), |note| format!(" ({})", shortened(note, MAX_TEXT)));
            format!("{} by {}{note}", shortened(&review.disposition, limit), shortened(&review.reviewer, limit))
        })
        .collect();
    let review = match (state.needs_review(), reviews.is_empty()) {
        (true, true) => "NOT REVIEWED".to_owned(),
        (true, false) => format!("{}; USED SINCE, NOT REVIEWED AGAIN", reviews.join("; ")),
        (false, _) => reviews.join("; "),
    };
    Told {
        seq: grant.seq,
        user: shortened(&grant.user, limit),
        patient: shortened(&grant.patient, limit),
        time: match &state.end {
            Some(GrantEnd::Closed { .. }) => {
                format!("{} to {} at the latest", moment(grant.opened_at), moment(grant.expires_at))
            }
            _ => format!("{} to {}", moment(grant.opened_at), moment(grant.expires_at)),
        },
        ended: match &state.end {
            None => "open".to_owned(),
            Some(GrantEnd::Expired(_)) => "expired".to_owned(),
            Some(GrantEnd::Closed { actor, seq }) => {
                format!("closed before that by {} (entry {seq})", shortened(actor, limit))
            }
            Some(_) => "ended".to_owned(),
        },
        why: format!("{} ({})", shortened(&grant.reason, MAX_TEXT), shortened(&grant.urgency, limit)),
        used: match misused {
            0 => calls,
            n => format!("{calls}, {n} NOT COVERED"),
        },
        review,
        open: misused > 0 || state.needs_review(),
    }
}

impl Told {
    /// The whole description as a sentence.
    pub(super) fn sentence(&self) -> String {
        let Told { seq, user, patient, time, ended, why, used, review, .. } = self;
        format!("grant {seq}: {user} for {patient}, {time}, {ended}: {why}; {used}; {review}")
    }
}

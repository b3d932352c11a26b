//! Which entries go: those whose end of retention the expiry clock has reached and that no hold covers.
//!
//! Invariant R12: an entry without retention never goes, nor does a system event that says what happened to the
//! log, whatever stands in it. Invariant R13: a plan depends on nothing but the entries, the cut-off, the holds and the
//! policies, so a dry run says what a purge would do, and an auditor can repeat it. Invariant R15: an emergency grant that
//! nobody has reviewed stays, with the entry that says how it ended, however old it is.

use super::hold::{About, Aliases};
use super::{Holds, PolicyHistory, PurgeRecord, SeqSet};
use crate::{Result, Timestamp};
use attestlog_proof::entry::{Body, Content, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What becomes of an entry in a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays for ever: a system event.
    Permanent,
    /// It stays: it has not expired, or is of an emergency grant that nobody has reviewed.
    Live,
    /// It has expired, and a hold keeps it.
    Held,
    /// It goes.
    Expired,
}

/// How many entries of one class and tool a purge concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PurgeCount {
    /// How many go.
    pub expired: u64,
    /// How many have expired and are kept by holds.
    pub kept_by_hold: u64,
}

/// What a purge would take, and what it would leave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgePlan {
    /// The expiry clock: what ends at or before this has expired.
    pub cut_off: Timestamp,
    /// What goes.
    pub expired: SeqSet,
    /// By class and then by tool (by kind for system events).
    pub counts: BTreeMap<String, BTreeMap<String, PurgeCount>>,
    /// How many expired entries each hold keeps, by the hold's id. An entry that two holds keep counts for both.
    pub by_hold: BTreeMap<u64, u64>,
    /// How many expired entries are kept by holds.
    pub kept_by_hold: u64,
    /// When the next entry of each class expires, of those that have not.
    pub next: BTreeMap<String, Timestamp>,
}

impl PurgePlan {
    /// The plan for all of `entries`, each with its seq.
    pub fn of<'a>(
        entries: impl IntoIterator<Item = (u64, &'a Body)>,
        cut_off: Timestamp,
        holds: &Holds,
        policies: &PolicyHistory,
    ) -> PurgePlan {
        let mut planner = Planner::new(cut_off, holds, policies);
        for (seq, body) in entries {
            planner.consider(seq, body);
        }
        planner.finish()
    }

    /// How many entries of each class go; classes of which none goes are left out.
    pub fn classes(&self) -> BTreeMap<String, u64> {
        let of = |tools: &BTreeMap<String, PurgeCount>| tools.values().map(|c| c.expired).sum::<u64>();
        self.counts.iter().map(|(class, tools)| (class.clone(), of(tools))).filter(|(_, n)| *n > 0).collect()
    }

    /// What the entry of this purge says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): no actor.
    pub fn record(&self, actor: impl Into<String>, policies: &PolicyHistory) -> Result<PurgeRecord> {
        PurgeRecord {
            actor: actor.into(),
            cut_off: self.cut_off,
            policy: policies.current_seq(),
            classes: self.classes(),
            count: self.expired.len(),
            kept_by_hold: self.kept_by_hold,
            seqs: self.expired.digest(),
        }
        .checked()
    }
}

/// Makes a [`PurgePlan`] entry by entry, in any portions.
///
/// ```
/// use attestlog::retention::{Holds, Planner, PolicyHistory, RetentionPolicy};
/// let (holds, policies) = (Holds::new(), PolicyHistory::new(1, RetentionPolicy::default()));
/// let planner = Planner::new("2032-01-01".parse()?, &holds, &policies);
/// // for (seq, body) in entries { planner.consider(seq, body); }
/// assert!(planner.finish().expired.is_empty());
/// # Ok::<(), attestlog::Error>(())
/// ```
pub struct Planner<'a> {
    holds: &'a Holds,
    policies: &'a PolicyHistory,
    aliases: Option<&'a Aliases<'a>>,
    reviewed: BTreeSet<u64>,
    /// By hold, what it keeps: alerts about that are kept too.
    held: BTreeMap<u64, SeqSet>,
    plan: PurgePlan,
}

impl fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<'a> Planner<'a> {
    /// A plan as of `cut_off`, the expiry clock's time, with no entry in it yet.
    pub fn new(cut_off: Timestamp, holds: &'a Holds, policies: &'a PolicyHistory) -> Planner<'a> {
        let plan = PurgePlan {
            cut_off,
            expired: SeqSet::new(),
            counts: BTreeMap::new(),
            by_hold: BTreeMap::new(),
            kept_by_hold: 0,
            next: BTreeMap::new(),
        };
        Planner { holds, policies, aliases: None, reviewed: BTreeSet::new(), held: BTreeMap::new(), plan }
    }

    /// With the emergency grants that were reviewed and not used since, by their seqs. All others stay.
    pub fn reviewed(self, grants: BTreeSet<u64>) -> Planner<'a> {
        Planner { reviewed: grants, ..self }
    }

    /// With what tells the pseudonyms of people whom entries name in clear: holds name them by pseudonym.
    pub(crate) fn named(self, aliases: &'a Aliases<'a>) -> Planner<'a> {
        Planner { aliases: Some(aliases), ..self }
    }

    /// Takes the entry at `seq` into the plan, once, and says what becomes of it. In ascending order: an alert is held
    /// with the entries before it that it is about.
    pub fn consider(&mut self, seq: u64, body: &Body) -> Fate {
        let Some(retention) = body.retention.as_ref().filter(|_| may_expire(body)) else {
            return Fate::Permanent;
        };
        let until = self.policies.effective_until(seq, retention);
        if until > self.plan.cut_off {
            self.stays(&retention.class, until);
            return Fate::Live;
        }
        let about = About::of(body);
        let mut covering = match self.aliases {
            Some(aliases) => self.holds.covering_named(seq, body, aliases),
            None => self.holds.covering(seq, body),
        };
        if let Some(about) = &about {
            let keeps = |held: &SeqSet| about.entries.iter().any(|seq| held.contains(*seq));
            covering.extend(self.held.iter().filter(|(_, held)| keeps(held)).map(|(hold, _)| *hold));
        }
        if !covering.is_empty() {
            for hold in covering {
                *self.plan.by_hold.entry(hold).or_default() += 1;
                self.held.entry(hold).or_default().insert(seq);
            }
            self.plan.kept_by_hold += 1;
            self.count(body, &retention.class).kept_by_hold += 1;
            return Fate::Held;
        }
        if about.is_some_and(|about| self.wants_review(seq, body, &about)) {
            return Fate::Live;
        }
        self.plan.expired.insert(seq);
        self.count(body, &retention.class).expired += 1;
        Fate::Expired
    }

    /// Whether an entry is of a grant that was not reviewed.
    fn wants_review(&self, seq: u64, body: &Body, about: &About) -> bool {
        match &body.content {
            Content::System(own) if own.kind == Kind::BreakGlassOpened => !self.reviewed.contains(&seq),
            Content::System(own) if own.kind == Kind::BreakGlassClosed => {
                !about.entries.iter().all(|grant| self.reviewed.contains(grant))
            }
            _ => false,
        }
    }

    /// Takes an entry into the plan of which only this is known: its class, and its end, which has not come.
    pub(crate) fn stays(&mut self, class: &str, until: Timestamp) {
        match self.plan.next.get_mut(class) {
            Some(next) => *next = until.min(*next),
            None => _ = self.plan.next.insert(class.to_owned(), until),
        }
    }

    /// The plan.
    pub fn finish(self) -> PurgePlan {
        self.plan
    }

    fn count(&mut self, body: &Body, class: &str) -> &mut PurgeCount {
        let tool = match &body.content {
            Content::Call(call) => call.tool_name.as_str(),
            Content::System(own) => own.kind.as_str(),
        };
        self.plan.counts.entry(class.to_owned()).or_default().entry(tool.to_owned()).or_default()
    }
}

/// Calls may, and alerts and emergency grants, which live as long as what they concern. All else says what happened to
/// the log itself, or that somebody looked into an emergency access.
fn may_expire(body: &Body) -> bool {
    match &body.content {
        Content::Call(_) => true,
        Content::System(own) => {
            matches!(own.kind, Kind::Alert | Kind::AlertAck | Kind::BreakGlassOpened | Kind::BreakGlassClosed)
        }
    }
}

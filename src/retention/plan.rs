//! Which entries a purge takes: those whose end of retention the expiry clock has reached and that no hold covers.
//!
//! Invariant R12: an entry without retention is never purged, and neither is a system event that says what happened to
//! the log, whatever it contains. Invariant R13: a plan depends only on the entries, the cut-off, the holds and the
//! policies, so a dry run shows what a purge would do, and an auditor can repeat it. Invariant R15: an emergency grant
//! that nobody has reviewed is kept, with the entry that says how it ended and the calls under it, however old it is.
//!
//! What belongs together leaves together: the entries of one call (its beginning, its end, late answers, further patients),
//! and an emergency grant with its end and the calls under it. If one of them stays, or a hold covers one of them, all stay.

use super::hold::{About, Aliases};
use super::{Holds, PolicyHistory, PurgeRecord, SeqSet};
use crate::json::{Json, Object};
use crate::{Result, Timestamp};
use attestlog_proof::entry::{Body, Content, Kind, Phase};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// How many entries of one class and tool a purge concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PurgeCount {
    /// How many are purged.
    pub expired: u64,
    /// How many have expired but are kept by holds.
    pub kept_by_hold: u64,
}

/// What a purge would take, and what it would leave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgePlan {
    /// The expiry clock's time: entries whose retention ends at or before it have expired.
    pub cut_off: Timestamp,
    /// The entries that are purged.
    pub expired: SeqSet,
    /// Counts by class and then by tool (by kind for system events).
    pub counts: BTreeMap<String, BTreeMap<String, PurgeCount>>,
    /// How many expired entries each hold keeps, by the hold's id. An entry kept by two holds counts for both.
    pub by_hold: BTreeMap<u64, u64>,
    /// How many expired entries are kept by holds.
    pub kept_by_hold: u64,
    /// For each class, when the next entry that has not yet expired will.
    pub next: BTreeMap<String, Timestamp>,
}

attestlog_proof::json_form!(members PurgeCount { expired, kept_by_hold });
attestlog_proof::json_form!(methods PurgePlan);

impl PurgePlan {
    /// `{"cut_off","would_purge","seqs":"0-4,9-9","kept_by_hold","classes":{CLASS:{TOOL:{"expired","kept_by_hold"}}},"holds":{ID:count},
    /// "next":{CLASS:time}}`
    pub fn to_json(&self) -> Json {
        Object::from_iter([
            ("cut_off", self.cut_off.form()),
            ("would_purge", self.expired.len().form()),
            ("seqs", self.expired.form()),
            ("kept_by_hold", self.kept_by_hold.form()),
            ("classes", self.counts.form()),
            ("holds", self.by_hold.form()),
            ("next", self.next.form()),
        ])
        .into()
    }

    fn from_json(value: &Json) -> Result<PurgePlan> {
        let mut members = Members::of(value)?;
        Ok(PurgePlan {
            cut_off: member(&mut members, "cut_off")?,
            expired: member(&mut members, "seqs")?,
            counts: member(&mut members, "classes")?,
            by_hold: member(&mut members, "holds")?,
            kept_by_hold: member(&mut members, "kept_by_hold")?,
            next: member(&mut members, "next")?,
        })
    }

    /// The plan for all of `entries`, each with its seq, in ascending order.
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

    /// How many entries of each class are purged; classes with none are left out.
    pub fn classes(&self) -> BTreeMap<String, u64> {
        let of = |tools: &BTreeMap<String, PurgeCount>| tools.values().map(|c| c.expired).sum::<u64>();
        self.counts.iter().map(|(class, tools)| (class.clone(), of(tools))).filter(|(_, n)| *n > 0).collect()
    }

    /// The record for the entry of this purge.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the actor is missing.
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

/// Builds a [`PurgePlan`] entry by entry, in any number of batches.
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
    /// The entries that each hold keeps: alerts about them are kept too.
    held: BTreeMap<u64, SeqSet>,
    /// Entries with what they belong to: an end with its beginning, a call with its grant.
    parts: BTreeSet<(u64, u64)>,
    /// The calls that were begun and whose end was considered.
    ended: BTreeSet<u64>,
    /// The emergency grants that were considered.
    grants: BTreeSet<u64>,
    /// The entries to which others belong, if all of these are known; else every entry that can have others waits.
    wholes: Option<BTreeSet<u64>>,
    /// Entries that stay, of those to which others may belong.
    live: BTreeSet<u64>,
    /// Expired entries that are decided together with others.
    waiting: BTreeMap<u64, Waiting>,
    /// Expired alerts, with the entries that they are about. They are decided last.
    alerts: BTreeMap<u64, (Waiting, BTreeSet<u64>)>,
    names: BTreeSet<Arc<str>>,
    /// By tool and day, how many of the purged calls statistics had counted.
    days: BTreeMap<(String, i32), u64>,
    plan: PurgePlan,
}

/// An expired entry whose fate is not decided yet.
struct Waiting {
    class: Arc<str>,
    /// Its tool; its kind if it is a system event.
    tool: Arc<str>,
    /// The day on which statistics count it.
    counted: Option<i32>,
    covering: BTreeSet<u64>,
    /// Whether it is part of a grant that nobody has reviewed.
    wants_review: bool,
    /// Whether it is a call that was only begun.
    is_begun: bool,
}

impl fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<'a> Planner<'a> {
    /// An empty plan as of `cut_off`, the expiry clock's time.
    pub fn new(cut_off: Timestamp, holds: &'a Holds, policies: &'a PolicyHistory) -> Planner<'a> {
        let plan = PurgePlan {
            cut_off,
            expired: SeqSet::new(),
            counts: BTreeMap::new(),
            by_hold: BTreeMap::new(),
            kept_by_hold: 0,
            next: BTreeMap::new(),
        };
        Planner {
            holds,
            policies,
            aliases: None,
            reviewed: BTreeSet::new(),
            held: BTreeMap::new(),
            parts: BTreeSet::new(),
            ended: BTreeSet::new(),
            grants: BTreeSet::new(),
            wholes: None,
            live: BTreeSet::new(),
            waiting: BTreeMap::new(),
            alerts: BTreeMap::new(),
            names: BTreeSet::new(),
            days: BTreeMap::new(),
            plan,
        }
    }

    /// Sets the emergency grants, by their seqs, that were reviewed and not used since. All others are kept.
    pub fn reviewed(self, grants: BTreeSet<u64>) -> Planner<'a> {
        Planner { reviewed: grants, ..self }
    }

    /// Sets the function that gives the pseudonyms of people whom entries name in clear, because holds name them by
    /// pseudonym.
    pub(crate) fn named(self, aliases: &'a Aliases<'a>) -> Planner<'a> {
        Planner { aliases: Some(aliases), ..self }
    }

    /// Says which entries belong to which others, also of entries that are not considered. Ends are left out: they say it
    /// themselves.
    pub(crate) fn joined(self, parts: BTreeSet<(u64, u64)>) -> Planner<'a> {
        Planner { wholes: Some(parts.iter().map(|(_, whole)| *whole).collect()), parts, ..self }
    }

    /// Adds the entry at `seq` to the plan, once. Entries must come in ascending order.
    pub fn consider(&mut self, seq: u64, body: &Body) {
        self.join(seq, body);
        let expired = body.retention.as_ref().filter(|_| may_expire(body)).filter(|retention| {
            let until = self.policies.effective_until(seq, retention);
            let live = until > self.plan.cut_off;
            if live {
                self.stays(&retention.class, until);
            }
            !live
        });
        let joined = self.is_joined(seq, body);
        let Some(retention) = expired else {
            if joined {
                self.live.insert(seq);
            }
            return;
        };
        let about = About::of(body);
        let covering = match self.aliases {
            Some(aliases) => self.holds.covering_named(seq, body, aliases),
            None => self.holds.covering(seq, body),
        };
        let (tool, counted, is_begun) = match &body.content {
            Content::Call(call) => {
                let day = call.is_counted().then(|| call.timestamp.day());
                (call.tool_name.as_str(), day, call.phase == Phase::Begun)
            }
            Content::System(own) => (own.kind.as_str(), None, false),
        };
        let wants_review = about.as_ref().is_some_and(|about| self.wants_review(seq, body, about));
        let (class, tool) = (self.name(&retention.class), self.name(tool));
        let waiting = Waiting { class, tool, counted, covering, wants_review, is_begun };
        match about {
            Some(about) if !joined => _ = self.alerts.insert(seq, (waiting, about.entries)),
            _ if joined => _ = self.waiting.insert(seq, waiting),
            _ => self.decide(seq, &waiting, &waiting.covering),
        }
    }

    /// Notes what an entry belongs to.
    fn join(&mut self, seq: u64, body: &Body) {
        let grant = match &body.content {
            Content::Call(call) => {
                self.parts.extend(call.part_of().map(|whole| (seq, whole)));
                if let Phase::Finished(begun) = call.phase {
                    self.ended.insert(begun);
                }
                call.grant
            }
            Content::System(own) if own.kind == Kind::BreakGlassOpened => {
                self.grants.insert(seq);
                None
            }
            Content::System(own) if own.kind == Kind::BreakGlassClosed => {
                own.detail.to_json().get("grant").and_then(Json::as_u64)
            }
            Content::System(_) => None,
        };
        // A call may name any entry as its grant.
        self.parts.extend(grant.filter(|grant| self.grants.contains(grant)).map(|grant| (seq, grant)));
    }

    /// Whether the fate of an entry depends on that of others.
    fn is_joined(&self, seq: u64, body: &Body) -> bool {
        match &body.content {
            Content::System(own) => matches!(own.kind, Kind::BreakGlassOpened | Kind::BreakGlassClosed),
            Content::Call(call) => {
                call.phase != Phase::Whole
                    || self.parts.range((seq, 0)..=(seq, u64::MAX)).next().is_some()
                    || match &self.wholes {
                        Some(wholes) => wholes.contains(&seq),
                        // Another source may tell more of any call.
                        None => true,
                    }
            }
        }
    }

    /// The entries of which it has to be known whether they [stay](Planner::lives), after every expired entry was considered:
    /// those that belong together with an expired one and have not expired themselves, if they are there at all.
    pub(crate) fn unseen(&self) -> BTreeSet<u64> {
        let expired = |seq: &u64| self.waiting.contains_key(seq);
        let known = |seq: &u64| expired(seq) || self.live.contains(seq);
        let joined = self.parts.iter().filter(|(part, whole)| expired(part) || expired(whole));
        joined.flat_map(|(part, whole)| [*part, *whole]).filter(|seq| !known(seq)).collect()
    }

    /// The expired calls of which no end was considered, although they may have one that has not expired.
    pub(crate) fn without_end(&self) -> Vec<u64> {
        let begun = self.waiting.iter().filter(|(seq, waiting)| waiting.is_begun && !self.ended.contains(seq));
        begun.map(|(seq, _)| *seq).collect()
    }

    /// Adds that the entry at `seq`, or one that belongs together with it, stays.
    pub(crate) fn lives(&mut self, seq: u64) {
        self.live.insert(seq);
    }

    /// Decides what belongs together: all of it stays, or all of it goes.
    fn decide_together(&mut self) {
        let mut groups = Groups::default();
        for (part, whole) in &self.parts {
            if self.waiting.contains_key(part) || self.waiting.contains_key(whole) {
                groups.join(*part, *whole);
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut live: BTreeSet<u64> = self.live.iter().map(|seq| groups.first(*seq)).collect();
        let mut covering: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (seq, one) in &waiting {
            let group = groups.first(*seq);
            if one.wants_review {
                live.insert(group);
            }
            if !one.covering.is_empty() {
                covering.entry(group).or_default().extend(&one.covering);
            }
        }
        let none = BTreeSet::new();
        for (seq, one) in &waiting {
            let group = groups.first(*seq);
            if !live.contains(&group) {
                self.decide(*seq, one, covering.get(&group).unwrap_or(&none));
            }
        }
    }

    /// Alerts that no hold covers are kept if a hold keeps an entry that they are about.
    fn decide_alerts(&mut self) {
        for (seq, (alert, entries)) in std::mem::take(&mut self.alerts) {
            let mut covering = alert.covering.clone();
            let keeps = |held: &SeqSet| entries.iter().any(|seq| held.contains(*seq));
            covering.extend(self.held.iter().filter(|(_, held)| keeps(held)).map(|(hold, _)| *hold));
            self.decide(seq, &alert, &covering);
        }
    }

    /// Keeps an expired entry for the holds that cover it, or purges it if there are none.
    fn decide(&mut self, seq: u64, one: &Waiting, covering: &BTreeSet<u64>) {
        let tools = self.plan.counts.entry(one.class.to_string()).or_default();
        let count = tools.entry(one.tool.to_string()).or_default();
        if covering.is_empty() {
            count.expired += 1;
            self.plan.expired.insert(seq);
            if let Some(day) = one.counted {
                *self.days.entry((one.tool.to_string(), day)).or_default() += 1;
            }
            return;
        }
        count.kept_by_hold += 1;
        self.plan.kept_by_hold += 1;
        for hold in covering {
            *self.plan.by_hold.entry(*hold).or_default() += 1;
            self.held.entry(*hold).or_default().insert(seq);
        }
    }

    /// Whether an entry belongs to a grant that was not reviewed.
    fn wants_review(&self, seq: u64, body: &Body, about: &About) -> bool {
        match &body.content {
            Content::System(own) if own.kind == Kind::BreakGlassOpened => !self.reviewed.contains(&seq),
            Content::System(own) if own.kind == Kind::BreakGlassClosed => {
                !about.entries.iter().all(|grant| self.reviewed.contains(grant))
            }
            _ => false,
        }
    }

    /// Adds an entry of which only the class and the end of retention, which has not come, are known.
    pub(crate) fn stays(&mut self, class: &str, until: Timestamp) {
        match self.plan.next.get_mut(class) {
            Some(next) => *next = until.min(*next),
            None => _ = self.plan.next.insert(class.to_owned(), until),
        }
    }

    /// The plan.
    pub fn finish(self) -> PurgePlan {
        self.finish_counting().0
    }

    /// The plan, and how many of the purged calls statistics had counted, by tool and day.
    pub(crate) fn finish_counting(mut self) -> (PurgePlan, BTreeMap<(String, i32), u64>) {
        self.decide_together();
        self.decide_alerts();
        (self.plan, self.days)
    }

    /// One copy of a name, however many entries have it.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }
}

/// Sets of entries that belong together, by the first of each.
#[derive(Debug, Default)]
struct Groups(BTreeMap<u64, u64>);

impl Groups {
    fn first(&mut self, seq: u64) -> u64 {
        let mut at = seq;
        while let Some(before) = self.0.get(&at).copied() {
            // Every path is halved as it is walked.
            if let Some(further) = self.0.get(&before).copied() {
                self.0.insert(at, further);
            }
            at = before;
        }
        at
    }

    fn join(&mut self, one: u64, other: u64) {
        let (one, other) = (self.first(one), self.first(other));
        if one != other {
            self.0.insert(one.max(other), one.min(other));
        }
    }
}

/// Whether an entry may ever expire. Calls may, and so may alerts and emergency grants, which live as long as the
/// entries they concern. All other entries say what happened to the log itself, or that somebody reviewed an emergency
/// access.
fn may_expire(body: &Body) -> bool {
    match &body.content {
        Content::Call(_) => true,
        Content::System(own) => {
            matches!(own.kind, Kind::Alert | Kind::AlertAck | Kind::BreakGlassOpened | Kind::BreakGlassClosed)
        }
    }
}

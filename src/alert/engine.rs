//! The engine: reads what became durable, has rules evaluate it, writes alerts, notifies receivers.
//!
//! Invariant N1: recording never waits for the engine and never fails because of it: the engine reads snapshots, and
//! takes the writer lock only to write. Invariant N2: what the engine knows beyond the log can be lost at any time: it
//! starts again from the cursor in the store and rebuilds its state from the entries before it.

use super::deliver::{Deliver, Delivery};
use super::entry::{entry, id};
use super::evaluate::{Evaluator, Look, Raised, World};
use super::listing::Alert;
use super::source::RuleSource;
use super::tampering::{Tampering, tampering, verify};
use crate::anchor::Backoff;
use crate::grants::Grant;
use crate::policy::Policies;
use crate::rules::{Measure, Part, Rule, Rules};
use crate::store::OpenStore;
use crate::store::read::stream::{backwards, earliest};
use crate::store::{Move, Snapshot, guarded};
use crate::verify::{Verification, VerifyOptions};
use crate::{Entry, Error, ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Kind, Phase};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The cursor up to which entries have been evaluated.
pub(super) const EVALUATED: &str = "evaluated";
/// How many entries are read from one snapshot, which prevents pages of the file from being reused.
const STEP: u64 = 8192;
/// The cursor is written after this many entries without an alert: at most so many are evaluated again after a crash.
const PERSIST: u64 = 65_536;
/// The cursor is written after this time even without an alert: others learn from it how far evaluation has come.
const CURSOR_AFTER: Duration = Duration::from_secs(5);
/// How many tools the index is asked for one by one.
const MANY_TOOLS: usize = 64;

/// The maximum number of alerts in one commit.
const MAX_RAISED: usize = 256;

/// What one run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Run {
    /// The number of entries that were evaluated.
    pub evaluated: u64,
    /// The number of alerts that were raised.
    pub raised: u64,
    /// The number of deliveries that receivers took.
    pub delivered: u64,
    /// The receivers that did not take an alert, with the reason. Delivery is attempted again.
    pub failed: Vec<(String, Error)>,
    /// Alerts about tampering that the log could not record.
    pub(super) unrecorded: Vec<Alert>,
}

/// Raises alerts by rules over what a log records, and delivers them.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall};
/// use attestlog::alert::Callback;
/// # let log = AuditLog::in_memory()?;
/// let mut engine = log.alerts().engine()?.deliver_to(Callback::new("pager", |alert| {
///     println!("{}: {}", alert.severity, alert.id);
///     Ok(())
/// }));
/// for _ in 0..10 {
///     log.record(ToolCall::new("conv_1", "dr_smith", "read_chart").patient("P-1"))?;
/// }
/// engine.run_once()?; // or `engine.start()?`, which does so in the background
/// assert!(log.alerts().list()?.iter().any(|state| state.alert.rule == "same-patient-user"));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct AlertEngine {
    pub(super) log: OpenStore,
    source: RuleSource,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) backoff: Backoff,
    pub(super) verify_every: Option<Duration>,
    /// Whether standard output is used for something else than alerts, as far as its receivers are configured.
    pub(super) stdout_is_taken: bool,
    state: Option<State>,
    /// The ids of the alerts without an entry that receivers were notified of.
    told: HashSet<String>,
}

/// State that can be rebuilt from the log.
#[derive(Debug)]
struct State {
    evaluator: Evaluator,
    /// The next entry to evaluate.
    next: u64,
    /// The position of the cursor in the store.
    cursor: Option<u64>,
    /// Since when it has been behind, by the monotonic clock.
    behind_since: Option<Duration>,
    policies: Arc<Policies>,
    /// The ids of the alerts about grants that nobody has reviewed.
    alerted: HashSet<String>,
    unreadable: u64,
}

/// The log before an entry, and how many of its entries could not be read.
struct Behind<'a>(&'a Snapshot, Cell<u64>);

/// An entry and, if it ends a call in two steps, the first entry of that call.
type WithBeginning = (Entry, Option<Entry>);

impl Behind<'_> {
    /// The entry at `seq`; `None` if it is gone. An entry that cannot be read must not stop all alerts, so it is
    /// counted and skipped: a verification reports what is wrong with it.
    fn at(&self, seq: u64) -> Result<Option<WithBeginning>> {
        let readable = |seq| match self.0.checked(seq) {
            Err(e) if e.kind() == ErrorKind::Damaged => {
                self.1.set(self.1.get() + 1);
                Ok(None)
            }
            other => other,
        };
        let Some(entry) = readable(seq)? else { return Ok(None) };
        let begun = match entry.call() {
            Some(Call { phase: Phase::Finished(begun), .. }) => readable(*begun)?,
            // The call that a late result answers was counted when it was recorded.
            Some(call) if call.adds_to_call() => {
                let is_same = |there: &Call| (&there.user_id, &there.tool_name) == (&call.user_id, &call.tool_name);
                let there = call.part_of().map(readable).transpose()?.flatten();
                there.filter(|there| there.call().is_some_and(is_same))
            }
            _ => None,
        };
        Ok(Some((entry, begun)))
    }
}

impl World for Behind<'_> {
    fn before(
        &self,
        seq: u64,
        mut facets: Vec<(Facet, Vec<String>)>,
        tools: Option<&dyn Fn(&str) -> bool>,
        each: &mut Look<'_>,
    ) -> Result<()> {
        self.0.hold_index()?;
        if let Some(is_wanted) = tools {
            let mut wanted = BTreeSet::new();
            self.0.each_value(Facet::Tool, &mut |name| {
                if is_wanted(name) {
                    wanted.insert(name.to_owned());
                }
            })?;
            // Entries are compared once more, so that more of them need not be asked of the index one by one.
            if wanted.len() <= MANY_TOOLS {
                facets.push((Facet::Tool, wanted.into_iter().collect()));
            }
        }
        backwards(self.0, &facets, seq, &mut |seq| match self.at(seq)? {
            Some((entry, begun)) => each(&entry, begun.as_ref()),
            None => Ok(true),
        })
    }

    fn accessed_before(&self, user: Vec<String>, patient: Vec<String>, seq: u64) -> Result<bool> {
        self.0.hold_index()?;
        let facets = [(Facet::User, user), (Facet::Patient, patient)];
        Ok(earliest(self.0, &facets)?.is_some_and(|first| first < seq))
    }

    fn each_name(&self, field: Facet, each: &mut dyn FnMut(&str)) -> Result<()> {
        self.0.hold_index()?;
        self.0.each_value(field, each)
    }

    fn grant(&self, seq: u64) -> Option<Grant> {
        self.0.checked(seq).ok().flatten().as_ref().and_then(Grant::of)
    }
}

impl AlertEngine {
    /// An engine with the rules of the log's policies: each entry is judged by the policy that was in force when it was
    /// recorded, and a policy that is set while the engine is running applies from its own entry on.
    ///
    /// # Errors
    /// As [`AlertEngine::with_rules`].
    pub(crate) fn new(log: &OpenStore) -> Result<AlertEngine> {
        let engine = AlertEngine::with_rules(log, log.policies().alerts)?;
        Ok(AlertEngine { source: RuleSource::Policies, ..engine })
    }

    /// An engine with these rules, whatever the log's policies say. Only one engine at a time evaluates a log; a second
    /// one finds nothing to do.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): a rule is contradictory, or names a time zone that this build does
    /// not know.
    pub(crate) fn with_rules(log: &OpenStore, rules: Rules) -> Result<AlertEngine> {
        let rules = rules.0.into_iter().try_fold(Rules::none(), Rules::with)?;
        let backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(3600) };
        Ok(AlertEngine {
            log: log.clone(),
            source: RuleSource::Host(rules),
            deliveries: Vec::new(),
            backoff,
            verify_every: None,
            stdout_is_taken: true,
            state: None,
            told: HashSet::new(),
        })
    }

    /// Adds a receiver. It gets what is raised after the store first knows of it. Its progress is stored under its
    /// name, which must be unique.
    pub fn deliver_to(self, receiver: impl Deliver + 'static) -> AlertEngine {
        self.add(Box::new(receiver), false)
    }

    /// Adds a receiver; `configured`: one of those that are configured beside the store, which can change while the engine runs.
    pub(super) fn add(mut self, receiver: Box<dyn Deliver>, configured: bool) -> AlertEngine {
        let names: Vec<String> = self.deliveries.iter().map(|other| other.name().to_owned()).collect();
        self.deliveries.push(Delivery::new(receiver, configured, &names));
        self
    }

    /// Sets how long to wait before a receiver that failed is tried again. Default: five seconds, then twice as long
    /// each time, at most an hour.
    pub fn backoff(mut self, backoff: Backoff) -> AlertEngine {
        self.backoff = backoff;
        self
    }

    /// Verifies the whole log at this interval, once started in the background.
    pub fn verify_every(mut self, time: Duration) -> AlertEngine {
        self.verify_every = Some(time);
        self
    }

    /// Evaluates everything that became durable, raises alerts, records its progress, and delivers what is owed.
    ///
    /// # Errors
    /// The store could not be read or written; the next run continues from the progress that the store knows. Receivers
    /// that failed are listed in the [`Run`].
    pub fn run_once(&mut self) -> Result<Run> {
        let mut run = Run::default();
        let mut done = Ok(());
        for delivery in &mut self.deliveries {
            match delivery.begin(&self.log) {
                // A store in which nothing may be recorded cannot record the cursor of a new receiver either.
                Err(e) if e.kind() == ErrorKind::Damaged => done = Err(e),
                begun => _ = begun?,
            }
        }
        // An error may also have raised an alert.
        done = done.and(self.evaluate(&mut run, &|| true)).and_then(|()| self.persist());
        let unrecorded = std::mem::take(&mut run.unrecorded);
        self.tell(unrecorded);
        for delivery in &mut self.deliveries {
            match delivery.pump(&self.log, self.backoff) {
                Ok((taken, failed)) => {
                    run.delivered += taken;
                    run.failed.extend(failed.map(|e| (delivery.name().to_owned(), e)));
                }
                Err(e) => done = done.and(Err(e)),
            }
        }
        done.map(|()| run)
    }

    /// Notifies receivers once of alerts that the log could not record; returns messages about receivers that did not
    /// take one.
    fn tell(&mut self, alerts: Vec<Alert>) -> Vec<String> {
        let mut failed = Vec::new();
        for alert in alerts {
            if !self.told.insert(alert.id.clone()) {
                continue;
            }
            for delivery in &mut self.deliveries {
                let told = delivery.tell(&alert);
                failed.extend(told.err().map(|e| format!("{}: {e}", delivery.name())));
            }
        }
        failed
    }

    /// Verifies the whole log, and raises an alert for findings that have not been alerted yet.
    ///
    /// # Errors
    /// As [`AuditLog::verify`](crate::AuditLog::verify) and [`AuditLog::record`](crate::AuditLog::record). If what was found is also
    /// the reason that nothing can be recorded, the error says so; receivers are told without an entry ([`Alert::recorded`]), and the
    /// verification is noted beside the store all the same ([`Verifications::known`](crate::groups::Verifications::known)).
    pub fn verify_once(&mut self, options: &VerifyOptions) -> Result<Verification> {
        let mut unrecorded = Vec::new();
        let verified = verify(&self.log, &self.source.newest(&self.log), options, &mut unrecorded);
        let failed = self.tell(unrecorded);
        match failed.is_empty() {
            true => verified,
            false => verified.map_err(|e| {
                let message = format!("{e}; and who should be told of it was not ({})", failed.join("; "));
                Error::new(e.kind(), message)
            }),
        }
    }

    pub(super) fn source(&self) -> &RuleSource {
        &self.source
    }

    /// How many entries could not be read, and how many keys were forgotten because there were too many.
    pub(super) fn losses(&self) -> (u64, u64) {
        self.state.as_ref().map_or((0, 0), |state| (state.unreadable, state.evaluator.forgotten()))
    }

    /// Evaluates what became durable, as long as `go_on` returns true.
    pub(super) fn evaluate(&mut self, run: &mut Run, go_on: &dyn Fn() -> bool) -> Result<()> {
        let done = guarded(|| self.evaluate_all(run, go_on));
        if let Err(e) = &done
            && e.kind() == ErrorKind::Damaged
        {
            // Rules cannot be evaluated over damaged data, and the cursor stays where it is. Report that immediately.
            let rules = self.source.newest(&self.log);
            let found = Tampering { said: &e.to_string(), kinds: &[], marks: Vec::new(), count: 1, first: None };
            tampering(&self.log, &rules, found, &mut run.unrecorded)?;
        }
        done
    }

    fn evaluate_all(&mut self, run: &mut Run, go_on: &dyn Fn() -> bool) -> Result<()> {
        self.log.engine().write_expiries()?;
        // If something fails half-way, the state is rebuilt.
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.begin()?,
        };
        loop {
            let size = self.log.size();
            if state.next >= size {
                break;
            }
            if !go_on() {
                self.state = Some(state);
                return Ok(());
            }
            let before = state.next;
            let raised = state.step(&self.log, &self.source, size, go_on)?;
            run.evaluated += state.next - before;
            let due = state.is_cursor_due(self.log.engine().config.clock.monotonic());
            if raised.is_empty() && !due {
                continue;
            }
            let count = raised.len() as u64;
            if !state.commit(&self.log, raised)? {
                state = self.begin()?;
                continue;
            }
            run.raised += count;
        }
        let overdue = state.overdue(&self.log, &self.source.newest(&self.log));
        let count = overdue.len() as u64;
        if count > 0 {
            let ids: Vec<String> = overdue.iter().map(Raised::id).collect();
            if !state.commit(&self.log, overdue)? {
                // Another engine is running.
                return Ok(());
            }
            state.alerted.extend(ids);
            run.raised += count;
        }
        if state.is_cursor_due(self.log.engine().config.clock.monotonic()) {
            state.commit(&self.log, Vec::new())?;
        }
        self.state = Some(state);
        Ok(())
    }

    /// How long the cursor may still stay where it is; `None` if it is up to date.
    pub(super) fn cursor_due(&self) -> Option<Duration> {
        let since = self.state.as_ref()?.behind_since?;
        Some(CURSOR_AFTER.saturating_sub(self.log.engine().config.clock.monotonic().saturating_sub(since)))
    }

    /// Records how far evaluation has come.
    pub(super) fn persist(&mut self) -> Result<()> {
        match &mut self.state {
            Some(state) if state.cursor != Some(state.next) => {
                guarded(|| state.commit(&self.log, Vec::new())).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The next time after `now` at which something must be raised or written even if nothing is recorded.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let grants = &self.state.as_ref()?.evaluator.grants;
        let rules = self.source.newest(&self.log);
        let unreviewed = rules.iter().filter(|rule| *rule.measured() == Measure::Unreviewed);
        let reviews = unreviewed.filter_map(|rule| grants.next_unreviewed(now, rule.window));
        reviews.chain(grants.next_expiry(now)).min()
    }

    /// Starts at the cursor. What was counted before is read from the log when it is needed.
    fn begin(&self) -> Result<State> {
        let engine = self.log.engine();
        let policies = engine.policies();
        let cursor = engine.cursor(EVALUATED)?;
        let next = cursor.unwrap_or(0);
        let rules = self.source.at(&self.log, next)?;
        let mut evaluator = Evaluator::new(&rules, engine, recorded_before(&engine.snapshot()?, next)?);
        evaluator.grants = super::grants::Grants::of(self.log.emergencies()?);
        let due = overdue(&self.log, &self.source.newest(&self.log), &evaluator.grants);
        let alerted = reported(&self.log, due.into_keys().collect())?;
        Ok(State { evaluator, next, cursor, behind_since: None, policies, alerted, unreadable: 0 })
    }
}

/// The grants that rules of `source` report by now because nobody reviewed them in time, and that have no alert yet.
pub(super) fn unreported(log: &OpenStore, source: &RuleSource) -> Result<Vec<(Rule, Grant)>> {
    if source.newest(log).iter().all(|rule| *rule.measured() != Measure::Unreviewed) {
        return Ok(Vec::new());
    }
    let grants = super::grants::Grants::of(log.emergencies()?);
    let mut overdue = overdue(log, &source.newest(log), &grants);
    let reported = reported(log, overdue.keys().cloned().collect())?;
    overdue.retain(|id, _| !reported.contains(id));
    Ok(overdue.into_values().collect())
}

/// The grants that were not reviewed in time, with the rule that says so, by the alert's id.
fn overdue(log: &OpenStore, rules: &Rules, grants: &super::grants::Grants) -> BTreeMap<String, (Rule, Grant)> {
    let now = log.engine().config.clock.now();
    let rules = rules.iter().filter(|rule| *rule.measured() == Measure::Unreviewed);
    rules
        .flat_map(|rule| grants.unreviewed(now, rule.window).map(move |grant| (rule, grant)))
        .map(|(rule, grant)| (id(rule, grant.seq), (rule.clone(), grant.clone())))
        .collect()
}

/// Which of these alerts, about grants, are in the log.
fn reported(log: &OpenStore, mut open: HashSet<String>) -> Result<HashSet<String>> {
    let mut reported = HashSet::new();
    let of = |id: &String| id.rsplit_once(':').and_then(|(_, seq)| seq.parse::<u64>().ok());
    let Some(first) = open.iter().filter_map(of).min() else { return Ok(reported) };
    for entry in log.query_held(&Query::new().kind(Kind::Alert).after(first))? {
        let Some(alert) = super::Alert::of(&entry?) else { continue };
        reported.extend(open.take(&format!("{}:{}", alert.rule, alert.crossing)));
        if open.is_empty() {
            break;
        }
    }
    Ok(reported)
}

/// When the newest remaining entry before `next` was recorded.
fn recorded_before(snapshot: &Snapshot, next: u64) -> Result<Option<Timestamp>> {
    for seq in (0..next).rev() {
        match snapshot.checked(seq) {
            Ok(Some(entry)) => return Ok(Some(entry.body.recorded_at)),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

impl State {
    /// Evaluates the next entries, as long as `go_on` returns true and until there is enough to write.
    fn step(
        &mut self,
        log: &OpenStore,
        source: &RuleSource,
        size: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Raised>> {
        let engine = log.engine();
        let snapshot = engine.snapshot()?;
        // After the snapshot: what is in it was written under these keys or earlier ones.
        let policies = engine.policies();
        if !Arc::ptr_eq(&policies, &self.policies) {
            self.evaluator.respell(engine);
            self.policies = policies;
        }
        let behind = Behind(&snapshot, Cell::new(0));
        let to = size.min(self.next + STEP);
        let mut raised = Vec::new();
        while self.next < to && raised.len() < MAX_RAISED && go_on() {
            if let Some((entry, begun)) = behind.at(self.next)? {
                raised.extend(self.evaluator.feed(&entry, begun.as_ref(), &behind)?);
                if let Some(rules) = source.changed_by(log, &entry)? {
                    self.evaluator.follow(&rules, engine, Some(entry.body.recorded_at));
                }
            }
            self.next += 1;
        }
        self.unreadable += behind.1.get();
        Ok(raised)
    }

    /// Whether the cursor is so far behind, or has been for so long, that it must be written.
    fn is_cursor_due(&mut self, now: Duration) -> bool {
        if self.cursor == Some(self.next) {
            self.behind_since = None;
            return false;
        }
        let since = *self.behind_since.get_or_insert(now);
        self.next - self.cursor.unwrap_or(0) >= PERSIST || now.saturating_sub(since) >= CURSOR_AFTER
    }

    /// Writes alerts and the cursor; returns whether the cursor was where it should be.
    fn commit(&mut self, log: &OpenStore, raised: Vec<Raised>) -> Result<bool> {
        let snapshot = log.engine().snapshot()?;
        let entries = raised.iter().map(|raised| entry(log, &snapshot, raised)).collect::<Result<Vec<_>>>()?;
        // If the write fails, the store waits until nothing reads the file, this thread included.
        drop(snapshot);
        let moved = Move { cursor: EVALUATED, from: self.cursor, to: self.next };
        if log.engine().record_with_cursors(entries, &[moved])?.is_none() {
            return Ok(false);
        }
        (self.cursor, self.behind_since) = (Some(self.next), None);
        Ok(true)
    }

    /// The grants that were not reviewed in time and have no alert yet.
    fn overdue(&self, log: &OpenStore, rules: &Rules) -> Vec<Raised> {
        overdue(log, rules, &self.evaluator.grants)
            .into_iter()
            .filter(|(id, _)| !self.alerted.contains(id))
            .map(|(_, (rule, grant))| Raised {
                rule: Arc::new(rule),
                crossing: grant.seq,
                key: vec![
                    (Part::USER, BTreeSet::from([grant.user.clone()])),
                    (Part::PATIENT, BTreeSet::from([grant.patient.clone()])),
                    (Part::Grant, BTreeSet::from([grant.seq.to_string()])),
                ],
                count: 1,
                threshold: 1,
                events: BTreeSet::from([grant.seq]),
                misuse: None,
            })
            .collect()
    }
}

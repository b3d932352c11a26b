//! The engine: reads what became durable, lets rules look at it, writes alerts, tells receivers.
//!
//! Invariant N1: recording never waits for it and never fails because of it; it reads snapshots, and takes the writer's
//! turn only to write. Invariant N2: what it knows beyond the log can be lost at any time: it starts again from the mark in
//! the store and makes its state anew from the entries before it.

use super::deliver::{Deliver, Delivery};
use super::evaluate::{Evaluator, Look, Raised, World};
use super::listing::Alert;
use super::source::RuleSource;
use crate::anchor::Backoff;
use crate::grants::Grant;
use crate::json::{Json, Object};
use crate::policy::Policies;
use crate::retention::{DIGEST, MANY};
use crate::rules::span;
use crate::rules::{Measure, Part, Rule, Rules};
use crate::store::read::stream::{backwards, earliest};
use crate::store::{Move, Own, Snapshot, TAMPERING, guarded};
use crate::{
    AuditLog, Entry, Error, ErrorKind, Finding, FindingKind, Hash, Query, Result, Timestamp, Verification,
    VerifyOptions,
};
use attestlog_proof::entry::{Call, Facet, Kind, Phase, Retention};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The mark up to which rules were evaluated.
pub(super) const EVALUATED: &str = "evaluated";
/// How many entries are read of one snapshot, which keeps pages of the file from being used again.
const STEP: u64 = 8192;
/// After how many entries without an alert the mark is written: so many are looked at again after a crash.
const PERSIST: u64 = 65_536;
/// For how long entries without an alert may have been looked at before the mark is written: whoever asks how far rules
/// are learns it from there.
const MARK_AFTER: Duration = Duration::from_secs(5);
/// How many alerts one commit takes at most.
const MAX_RAISED: usize = 256;
/// How many entries an alert names; it may concern more.
const MAX_NAMED: usize = MANY;
/// A longer value stands in an alert as its hash; the entries that it names have it.
const MAX_VALUE_BYTES: usize = 1024;

/// What one run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Run {
    /// Entries that rules looked at.
    pub evaluated: u64,
    /// Alerts that were raised.
    pub raised: u64,
    /// Deliveries that were taken.
    pub delivered: u64,
    /// Receivers that did not take an alert, with the reason. They are tried again.
    pub failed: Vec<(String, Error)>,
    /// Alerts about tampering that the log could not take.
    pub(super) unrecorded: Vec<Alert>,
}

/// Raises alerts by rules over what a log records, and delivers them.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall};
/// use attestlog::alert::{AlertEngine, Callback};
/// # let log = AuditLog::in_memory()?;
/// let mut engine = AlertEngine::new(&log)?.deliver_to(Callback::new("pager", |alert| {
///     println!("{}: {}", alert.severity, alert.id);
///     Ok(())
/// }));
/// for _ in 0..10 {
///     log.record(ToolCall::new("conv_1", "dr_smith", "read_chart").patient("P-1"))?;
/// }
/// engine.run_once()?; // or `engine.start()?`, which does so in the background
/// assert!(log.alerts()?.iter().any(|state| state.alert.rule == "same-patient-user"));
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct AlertEngine {
    pub(super) log: AuditLog,
    source: RuleSource,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) backoff: Backoff,
    pub(super) verify_every: Option<Duration>,
    state: Option<State>,
    /// The ids of the alerts without an entry that receivers were told of.
    told: HashSet<String>,
}

/// What can be made anew from the log.
#[derive(Debug)]
struct State {
    evaluator: Evaluator,
    /// The next entry to look at.
    next: u64,
    /// Where the mark in the store stands.
    marked: Option<u64>,
    /// Since when it is behind, by the monotonic clock.
    unmarked: Option<Duration>,
    policies: Arc<Policies>,
    /// The ids of the alerts about grants that nobody has reviewed.
    alerted: HashSet<String>,
    unreadable: u64,
}

/// The log behind an entry, and how many entries of it could not be read.
struct Behind<'a>(&'a Snapshot, Cell<u64>);

/// An entry, with the beginning of the call whose end it is.
type WithBeginning = (Entry, Option<Entry>);

impl Behind<'_> {
    /// What stands at `seq`; nothing where it is gone. What cannot be read must not stop all alerts, so it is counted and
    /// passed over: a verification says what is wrong with it.
    fn at(&self, seq: u64) -> Result<Option<WithBeginning>> {
        let readable = |seq| match read(self.0, seq) {
            Err(e) if e.kind() == ErrorKind::Damaged => {
                self.1.set(self.1.get() + 1);
                Ok(None)
            }
            other => other,
        };
        let Some(entry) = readable(seq)? else { return Ok(None) };
        let begun = match entry.call() {
            Some(Call { phase: Phase::Finished(begun), .. }) => readable(*begun)?,
            // What a late answer answers has counted when it was recorded.
            Some(call) if call.adds_to_call() => {
                let is_same = |there: &Call| (&there.user_id, &there.tool_name) == (&call.user_id, &call.tool_name);
                let there = call.follows.map(readable).transpose()?.flatten();
                there.filter(|there| there.call().is_some_and(is_same))
            }
            _ => None,
        };
        Ok(Some((entry, begun)))
    }
}

impl World for Behind<'_> {
    fn before(&self, seq: u64, facets: &[(Facet, Vec<String>)], each: &mut Look<'_>) -> Result<()> {
        self.0.hold_index()?;
        backwards(self.0, facets, seq, &mut |seq| match self.at(seq)? {
            Some((entry, begun)) => each(&entry, begun.as_ref()),
            None => Ok(true),
        })
    }

    fn accessed_before(&self, user: &str, patient: &str, seq: u64) -> Result<bool> {
        self.0.hold_index()?;
        let facets = [(Facet::User, vec![user.to_owned()]), (Facet::Patient, vec![patient.to_owned()])];
        Ok(earliest(self.0, &facets)?.is_some_and(|first| first < seq))
    }

    fn grant(&self, seq: u64) -> Option<Grant> {
        read(self.0, seq).ok().flatten().as_ref().and_then(Grant::of)
    }
}

fn read(snapshot: &Snapshot, seq: u64) -> Result<Option<Entry>> {
    snapshot.checked(seq)
}

impl AlertEngine {
    /// An engine with the rules of the log's policies: each entry is judged by the policy that was in force when it was
    /// recorded, and a policy that is set while the engine is at work holds from its entry on.
    ///
    /// # Errors
    /// As [`AlertEngine::with_rules`].
    pub fn new(log: &AuditLog) -> Result<AlertEngine> {
        let engine = AlertEngine::with_rules(log, log.policies().alerts)?;
        Ok(AlertEngine { source: RuleSource::Policies, ..engine })
    }

    /// An engine with these rules, whatever the log's policies say. One engine at a time looks at a log; a second one finds
    /// nothing to do.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): a rule says something that it cannot mean, or names a time zone that
    /// this build does not know.
    pub fn with_rules(log: &AuditLog, rules: Rules) -> Result<AlertEngine> {
        let rules = rules.0.into_iter().try_fold(Rules::none(), Rules::with)?;
        let backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(3600) };
        Ok(AlertEngine {
            log: log.clone(),
            source: RuleSource::Host(rules),
            deliveries: Vec::new(),
            backoff,
            verify_every: None,
            state: None,
            told: HashSet::new(),
        })
    }

    /// Delivers alerts there too. A receiver gets what is raised after the store first hears of it; how far it was told is
    /// kept under its name, which must be its own.
    pub fn deliver_to(mut self, receiver: impl Deliver + 'static) -> AlertEngine {
        let delivery = Delivery::new(Box::new(receiver), &self.deliveries);
        self.deliveries.push(delivery);
        self
    }

    /// How long to wait before a receiver that failed is tried again. Default: five seconds, then twice as long each time,
    /// at most an hour.
    pub fn backoff(mut self, backoff: Backoff) -> AlertEngine {
        self.backoff = backoff;
        self
    }

    /// Verifies the whole log so often, once started in the background.
    pub fn verify_every(mut self, time: Duration) -> AlertEngine {
        self.verify_every = Some(time);
        self
    }

    /// Looks at everything that became durable, raises what is to be raised, writes down how far it came, and delivers what is
    /// owed.
    ///
    /// # Errors
    /// What the store says; the next run goes on from where the store knows this one to have come. Receivers that failed
    /// are in the [`Run`].
    pub fn run_once(&mut self) -> Result<Run> {
        let mut run = Run::default();
        let mut done = Ok(());
        for delivery in &mut self.deliveries {
            match delivery.begin(&self.log) {
                // A store in which nothing may be recorded does not take the mark of a new receiver either.
                Err(e) if e.kind() == ErrorKind::Damaged => done = Err(e),
                begun => _ = begun?,
            }
        }
        // What went wrong may have raised an alert, too.
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

    /// Tells receivers of alerts that the log could not take, once; gives those that did not take one.
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

    /// Verifies the whole log, and raises an alert where it finds something that was not alerted already.
    ///
    /// # Errors
    /// As [`AuditLog::verify`] and [`AuditLog::record`]. Where what was found is itself the reason that nothing can be recorded, the
    /// error says so; receivers are told without an entry ([`Alert::recorded`]), and it is noted beside the store all the same
    /// ([`AuditLog::verifications`]).
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

    /// Looks at what became durable, as long as `go_on` says so.
    pub(super) fn evaluate(&mut self, run: &mut Run, go_on: &dyn Fn() -> bool) -> Result<()> {
        let done = guarded(|| self.evaluate_all(run, go_on));
        if let Err(e) = &done
            && e.kind() == ErrorKind::Damaged
        {
            // Rules cannot be evaluated over it, and the mark stays where it is. That is said at once.
            let rules = self.source.newest(&self.log);
            let found = Tampering { said: &e.to_string(), kinds: &[], count: 1, first: None };
            tampering(&self.log, &rules, found, &mut run.unrecorded)?;
        }
        done
    }

    fn evaluate_all(&mut self, run: &mut Run, go_on: &dyn Fn() -> bool) -> Result<()> {
        self.log.engine().write_expiries()?;
        // What is half done when something fails is made anew.
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
            let due = state.is_mark_due(self.log.engine().config.clock.monotonic());
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
                // Another engine is at work.
                return Ok(());
            }
            state.alerted.extend(ids);
            run.raised += count;
        }
        if state.is_mark_due(self.log.engine().config.clock.monotonic()) {
            state.commit(&self.log, Vec::new())?;
        }
        self.state = Some(state);
        Ok(())
    }

    /// How long the mark may still stand where it does; `None` where it is where it should be.
    pub(super) fn mark_due(&self) -> Option<Duration> {
        let since = self.state.as_ref()?.unmarked?;
        Some(MARK_AFTER.saturating_sub(self.log.engine().config.clock.monotonic().saturating_sub(since)))
    }

    /// Writes down how far rules were evaluated.
    pub(super) fn persist(&mut self) -> Result<()> {
        match &mut self.state {
            Some(state) if state.marked != Some(state.next) => {
                guarded(|| state.commit(&self.log, Vec::new())).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// When something is to be raised, or written, though nothing is recorded: after `now`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let grants = &self.state.as_ref()?.evaluator.grants;
        let rules = self.source.newest(&self.log);
        let unreviewed = rules.iter().filter(|rule| *rule.measured() == Measure::Unreviewed);
        let reviews = unreviewed.filter_map(|rule| grants.next_unreviewed(now, rule.window));
        reviews.chain(grants.next_expiry(now)).min()
    }

    /// Begins where the mark is. What was counted before is asked of the log when it is needed.
    fn begin(&self) -> Result<State> {
        let engine = self.log.engine();
        let policies = engine.policies();
        let marked = engine.mark(EVALUATED)?;
        let next = marked.unwrap_or(0);
        let rules = self.source.at(&self.log, next)?;
        let mut evaluator = Evaluator::new(&rules, engine, recorded_before(&engine.snapshot()?, next)?);
        evaluator.grants = super::grants::Grants::of(self.log.emergencies()?);
        let alerted = self.alerted(&evaluator)?;
        Ok(State { evaluator, next, marked, unmarked: None, policies, alerted, unreadable: 0 })
    }

    /// Which of the grants that nobody has reviewed in time were alerted already.
    fn alerted(&self, evaluator: &Evaluator) -> Result<HashSet<String>> {
        let now = self.log.engine().config.clock.now();
        let mut open: HashMap<String, u64> = HashMap::new();
        let rules = self.source.newest(&self.log);
        for rule in rules.iter().filter(|rule| *rule.measured() == Measure::Unreviewed) {
            let grants = evaluator.grants.unreviewed(now, rule.window);
            open.extend(grants.map(|grant| (id(rule, grant.seq), grant.seq)));
        }
        let mut alerted = HashSet::new();
        let Some(first) = open.values().copied().min() else { return Ok(alerted) };
        for entry in self.log.query_held(&Query::new().kind(Kind::Alert).after(first))? {
            let Some(alert) = super::Alert::of(&entry?) else { continue };
            alerted.extend(open.remove_entry(&alert.id).map(|(id, _)| id));
            if open.is_empty() {
                break;
            }
        }
        Ok(alerted)
    }
}

/// When the newest entry before `next` was recorded that is still there.
fn recorded_before(snapshot: &Snapshot, next: u64) -> Result<Option<Timestamp>> {
    for seq in (0..next).rev() {
        match read(snapshot, seq) {
            Ok(Some(entry)) => return Ok(Some(entry.body.recorded_at)),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

impl State {
    /// Looks at the next entries, as long as `go_on` says so and until there is enough to write.
    fn step(
        &mut self,
        log: &AuditLog,
        source: &RuleSource,
        size: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Raised>> {
        let engine = log.engine();
        let policies = engine.policies();
        if !Arc::ptr_eq(&policies, &self.policies) {
            self.evaluator.respell(engine);
            self.policies = policies;
        }
        let snapshot = engine.snapshot()?;
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

    /// Whether the mark is so far behind, or has been for so long, that it is to be written.
    fn is_mark_due(&mut self, now: Duration) -> bool {
        if self.marked == Some(self.next) {
            self.unmarked = None;
            return false;
        }
        let since = *self.unmarked.get_or_insert(now);
        self.next - self.marked.unwrap_or(0) >= PERSIST || now.saturating_sub(since) >= MARK_AFTER
    }

    /// Writes alerts with the mark; whether the mark was where it should be.
    fn commit(&mut self, log: &AuditLog, raised: Vec<Raised>) -> Result<bool> {
        let snapshot = log.engine().snapshot()?;
        let entries = raised.iter().map(|raised| entry(log, &snapshot, raised)).collect::<Result<Vec<_>>>()?;
        let moved = Move { mark: EVALUATED, from: self.marked, to: self.next };
        if log.engine().own_with_marks(entries, &[moved])?.is_none() {
            return Ok(false);
        }
        (self.marked, self.unmarked) = (Some(self.next), None);
        Ok(true)
    }

    /// The grants that nobody has reviewed in time and that were not alerted yet.
    fn overdue(&self, log: &AuditLog, rules: &Rules) -> Vec<Raised> {
        let now = log.engine().config.clock.now();
        let rules = rules.iter().filter(|rule| *rule.measured() == Measure::Unreviewed);
        rules
            .flat_map(|rule| self.evaluator.grants.unreviewed(now, rule.window).map(move |grant| (rule, grant)))
            .filter(|(rule, grant)| !self.alerted.contains(&id(rule, grant.seq)))
            .map(|(rule, grant)| Raised {
                rule: Arc::new(rule.clone()),
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

/// What an alert is called however often it is delivered.
fn id(rule: &Rule, crossing: u64) -> String {
    format!("{}:{crossing}", rule.name)
}

impl Raised {
    fn id(&self) -> String {
        id(&self.rule, self.crossing)
    }
}

/// The entry of an alert: kept as long as the entry that is kept longest of those that it concerns.
fn entry(log: &AuditLog, snapshot: &Snapshot, raised: &Raised) -> Result<Own> {
    let rule = &raised.rule;
    let chain_state = log.engine().chain_state();
    let mut kept: Option<Retention> = None;
    for &seq in &raised.events {
        let Ok(Some(concerned)) = read(snapshot, seq) else { continue };
        let Some(mut retention) = concerned.body.retention else { continue };
        if let Some(history) = &chain_state.history {
            retention.until = history.effective_until(seq, &retention);
        }
        if kept.as_ref().is_none_or(|kept| kept.until < retention.until) {
            kept = Some(retention);
        }
    }
    let key = raised.key.iter().map(|(part, values)| {
        let mut values: Vec<Json> = values.iter().take(MAX_NAMED).map(|v| Json::from(shortened(v))).collect();
        let value = if values.len() == 1 { values.swap_remove(0) } else { Json::Array(values) };
        (part.as_str(), value)
    });
    let newest = raised.events.iter().rev().take(MAX_NAMED).copied();
    let mut named: Vec<u64> = newest.collect();
    named.reverse();
    let mut detail = Object::from_iter([
        ("id", Json::from(raised.id())),
        ("rule", rule.name.as_str().into()),
        ("severity", rule.severity.as_str().into()),
        ("crossing", raised.crossing.into()),
        ("key", key.collect::<Object>().into()),
        ("count", raised.count.into()),
        ("threshold", raised.threshold.into()),
        ("window", span(rule.window).into()),
        ("entries", named.into_iter().map(Json::from).collect::<Vec<_>>().into()),
    ]);
    if let Some(summary) = &rule.summary {
        detail.insert("summary", summary.as_str());
    }
    if let Some(misuse) = raised.misuse {
        detail.insert("misuse", misuse.as_str());
    }
    Ok((Kind::Alert, detail, kept))
}

fn shortened(value: &str) -> String {
    match value.len() > MAX_VALUE_BYTES {
        true => format!("{DIGEST}{}", Hash::of(value.as_bytes())),
        false => value.to_owned(),
    }
}

/// Verifies the log and raises what the tampering rules have to say, once for the same findings; what the log cannot take goes
/// to `unrecorded`.
pub(super) fn verify(
    log: &AuditLog,
    rules: &Rules,
    options: &VerifyOptions,
    unrecorded: &mut Vec<Alert>,
) -> Result<Verification> {
    let verification = log.verify(options)?;
    // For people to look at; what must not be lost is alerted.
    let _ = log.note_verification(&verification);
    // Where a damaged page lies changes with every commit, and a page that is written anew is whole again: so the alert itself
    // would make other findings of the same ones.
    let moves = |finding: &Finding| finding.kind == FindingKind::PageDamaged;
    let mut said: Vec<String> = verification.findings.iter().filter(|f| !moves(f)).map(|f| f.to_string()).collect();
    if said.is_empty() && !verification.ok() {
        said.push(FindingKind::PageDamaged.to_string());
    }
    let kinds: BTreeSet<&str> = verification.findings.iter().map(|f| f.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let first = verification.findings.iter().filter_map(|f| f.seq).min();
    let said = if verification.ok() { String::new() } else { said.join("\n") };
    let count = verification.findings.len() as u64;
    // A store in which nothing may be recorded takes no alert either. What was found is noted beside it.
    tampering(log, rules, Tampering { said: &said, kinds: &kinds, count, first }, unrecorded).map_err(|e| {
        e.at(format!("a verification found {count} things wrong, which cannot be recorded as an alert"))
    })?;
    Ok(verification)
}

/// What shows that somebody changed the log.
struct Tampering<'a> {
    /// In words, of which only the hash is written; empty where nothing shows it.
    said: &'a str,
    /// The kinds of what a verification found.
    kinds: &'a [&'a str],
    count: u64,
    /// The first entry concerned.
    first: Option<u64>,
}

/// Raises what the tampering rules have to say, once for the same. Where the log cannot take it, it is in `unrecorded`.
fn tampering(log: &AuditLog, rules: &Rules, found: Tampering<'_>, unrecorded: &mut Vec<Alert>) -> Result<()> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| *rule.measured() == Measure::Tampering).collect();
    if rules.is_empty() {
        return Ok(());
    }
    let known = log.engine().mark(TAMPERING)?;
    let digest = Hash::of(found.said.as_bytes());
    // 48 bits tell findings apart well enough, and zero stands for none.
    let fingerprint = digest.as_bytes().iter().take(6).fold(1u64, |n, b| (n << 8) | u64::from(*b));
    let now = if found.said.is_empty() { 0 } else { fingerprint };
    if known.unwrap_or(0) == now {
        return Ok(());
    }
    let mut entries = Vec::new();
    if now != 0 {
        let size = log.size();
        for rule in rules {
            let mut detail = Object::from_iter([
                ("id", Json::from(format!("{}:{size}", rule.name))),
                ("rule", rule.name.as_str().into()),
                ("severity", rule.severity.as_str().into()),
                ("crossing", size.into()),
                ("count", found.count.into()),
                ("findings", found.kinds.iter().map(|kind| Json::from(*kind)).collect::<Vec<_>>().into()),
                ("findings_digest", digest.to_string().into()),
            ]);
            if let Some(first) = found.first {
                detail.insert("first", first);
            }
            if let Some(summary) = &rule.summary {
                detail.insert("summary", summary.as_str());
            }
            entries.push((Kind::Alert, detail, None));
        }
    }
    let alerts: Vec<Object> = entries.iter().map(|(_, detail, _)| detail.clone()).collect();
    let written = log.engine().own_with_marks(entries, &[Move { mark: TAMPERING, from: known, to: now }]);
    if written.as_ref().is_err_and(|e| e.kind() != ErrorKind::Closed) {
        let digest: String = digest.to_string().chars().take(12).collect();
        let at = log.engine().config.clock.now();
        unrecorded
            .extend(alerts.into_iter().filter_map(|detail| Alert::without_entry(detail, log.size(), at, &digest)));
    }
    written.map(drop)
}

//! Rules over entries, one entry after the other: no I/O but what is asked of [`World`].
//!
//! Invariant N4: what is raised depends on the rules and on the entries up to the one that raises it, never on when or in
//! which portions they were fed. Invariant N5: the two entries of a call count once: what its beginning counted for is
//! left out when its end comes, and the end counts for what only it tells (an outcome, a patient found in the result). So do
//! a call that was recorded as unanswered and the answer that came later.
//! Invariant N8: what a key did before evaluation began is asked of the log when the key first counts, so that to begin
//! takes no longer the more was recorded, but for holding the index against the chain once (R75).

use super::grants::Grants;
use super::pairs::Pairs;
use super::window::{Baseline, Count, Distinct, Event, Keys};
use crate::grants::{Grant, Misuse};
use crate::json::Json;
use crate::rules::{Measure, Part, Rule};
use crate::store::Engine;
use crate::{Entry, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Outcome, Phase};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// What evaluation asks of the log behind the entry that it looks at.
pub(super) trait World {
    /// Whether an entry before `seq` has this user and this patient.
    fn accessed_before(&self, user: &str, patient: &str, seq: u64) -> Result<bool>;

    /// The grant that the entry at `seq` opened.
    fn grant(&self, seq: u64) -> Option<Grant>;

    /// The entries before `seq` that have all of these values as the log writes them, the newest first, each with the
    /// beginning of the call whose end it is; as long as `each` says so.
    fn before(&self, seq: u64, facets: &[(Facet, Vec<String>)], each: &mut Look<'_>) -> Result<()>;
}

/// Looks at an entry, with the beginning of the call whose end it is; says whether to go on.
pub(super) type Look<'a> = dyn FnMut(&Entry, Option<&Entry>) -> Result<bool> + 'a;

/// What a rule says of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raised {
    pub rule: Arc<Rule>,
    /// The entry at which the threshold was reached.
    pub crossing: u64,
    /// By what calls are told apart, with the values of this one.
    pub key: Vec<(Part, BTreeSet<String>)>,
    /// How many there are, of the key that has the most.
    pub count: u64,
    /// How many it takes.
    pub threshold: u64,
    /// The entries concerned.
    pub events: BTreeSet<u64>,
    pub misuse: Option<Misuse>,
}

/// The rules at work.
#[derive(Debug)]
pub(super) struct Evaluator {
    rules: Vec<Compiled>,
    hash: RandomState,
    pairs: Pairs,
    pub grants: Grants,
    wants_pairs: bool,
    wants_metadata: bool,
}

/// A rule with the seq of the policy from which on it has been in force; 0 where it was from the beginning.
pub(super) type InForce = (Arc<Rule>, u64);

#[derive(Debug)]
struct Compiled {
    rule: Arc<Rule>,
    /// Since when it is in force.
    since: u64,
    /// When the newest entry was recorded that was not fed; `None` where there is none.
    begins: Option<Timestamp>,
    /// With every spelling under which the log may hold a value.
    when: Vec<(Facet, Vec<String>)>,
    except: Vec<(Facet, Vec<String>)>,
    window: i64,
    state: State,
}

#[derive(Debug)]
enum State {
    Count(Keys<Count>),
    Distinct(Keys<Distinct>),
    Baseline(Keys<Baseline>),
    /// Not evaluated entry by entry.
    Apart,
}

impl State {
    fn knows(&self, key: u64) -> bool {
        match self {
            State::Count(keys) => keys.has(key),
            State::Distinct(keys) => keys.has(key),
            State::Baseline(keys) => keys.has(key),
            State::Apart => true,
        }
    }
}

/// What an entry counts for: each key, with its patient where the key has one, and the patients that count.
struct Counted<'a> {
    keys: Vec<(u64, Option<&'a str>)>,
    patients: Vec<&'a str>,
}

/// That a threshold was reached.
struct Crossing {
    count: u64,
    threshold: u64,
    events: Vec<Event>,
}

/// What rules ask of an entry, made ready once.
struct Facts<'a> {
    seq: u64,
    at: Timestamp,
    call: &'a Call,
    single: [Option<&'a str>; Facet::ALL.len()],
    metadata: Option<Json>,
    misuse: Option<Misuse>,
    history: bool,
}

impl<'a> Facts<'a> {
    fn of(entry: &'a Entry, call: &'a Call, wants_metadata: bool) -> Facts<'a> {
        let mut single = [None; Facet::ALL.len()];
        entry.body.facets(&mut |field, value| {
            if let Some(slot) = single.get_mut(field.place()) {
                *slot = Some(value);
            }
        });
        let metadata = call.session_metadata.as_ref().filter(|_| wants_metadata).map(|m| m.to_json());
        Facts {
            seq: entry.seq,
            at: entry.body.recorded_at,
            call,
            single,
            metadata,
            misuse: None,
            history: entry.is_history(None),
        }
    }

    /// Of a call, and of the beginning whose end it is. `misuse` says how the grant that a call names does not cover it.
    fn of_both(
        entry: &'a Entry,
        call: &'a Call,
        begun: Option<&'a Entry>,
        wants_metadata: bool,
        mut misuse: impl FnMut(u64, Timestamp, &Call) -> Option<Misuse>,
    ) -> (Facts<'a>, Option<Facts<'a>>) {
        let begun = begun.filter(|_| matches!(call.phase, Phase::Finished(_)) || call.adds_to_call());
        let mut before = begun.and_then(|entry| entry.call().map(|call| Facts::of(entry, call, wants_metadata)));
        let mut facts = Facts::of(entry, call, wants_metadata);
        facts.history = entry.is_history(begun);
        if call.grant.is_some() {
            // What began while the grant held may end later.
            let same = before.as_ref().filter(|b| b.call.grant == call.grant);
            let (seq, at) = same.map_or((facts.seq, facts.at), |b| (b.seq, b.at));
            facts.misuse = misuse(seq, at, call);
        }
        if let Some(before) = before.as_mut().filter(|b| b.call.grant.is_some()) {
            before.misuse = misuse(before.seq, before.at, before.call);
        }
        (facts, before)
    }

    fn value(&self, field: Facet) -> Option<&'a str> {
        self.single.get(field.place()).copied().flatten()
    }

    fn has(&self, field: Facet, values: &[String]) -> bool {
        match field {
            Facet::Patient => self.call.patient_ids.iter().any(|patient| values.contains(patient)),
            _ => self.value(field).is_some_and(|v| values.iter().any(|w| w == v)),
        }
    }

    fn attribute(&self, name: &str) -> Option<&Json> {
        let metadata = self.metadata.as_ref()?;
        member(metadata, name).or_else(|| member(metadata.get("attributes")?, name))
    }

    /// The grant that the call names; for a rule about misuse also how it does not cover the call, so that each kind of
    /// misuse of a grant is counted by itself.
    fn grant(&self, misused: bool) -> (Option<u64>, Option<&'static str>) {
        (self.call.grant, self.misuse.filter(|_| misused).map(Misuse::as_str))
    }
}

/// A member by its name, which may have dots in it, or by the path that the dots make.
fn member<'j>(value: &'j Json, name: &str) -> Option<&'j Json> {
    value.get(name).or_else(|| name.split('.').try_fold(value, |value, step| value.get(step)))
}

impl Compiled {
    /// Whether the rule looks at an entry at all.
    fn fits(&self, facts: &Facts<'_>) -> bool {
        let rule = &self.rule;
        let failed = || facts.call.completion.as_ref().map(|c| c.outcome != Outcome::Ok);
        let attribute = |(name, values): (&String, &Vec<Json>)| match facts.attribute(name) {
            Some(Json::Array(items)) => items.iter().any(|item| values.contains(item)),
            Some(value) => values.contains(value),
            None => false,
        };
        rule.emergency.is_none_or(|wanted| facts.call.emergency == wanted)
            && rule.failed.is_none_or(|wanted| failed() == Some(wanted))
            && (!rule.misused_grant || facts.misuse.is_some())
            && (!rule.back_dated || facts.history)
            && self.when.iter().all(|(field, values)| facts.has(*field, values))
            && !self.except.iter().any(|(field, values)| facts.has(*field, values))
            && rule.attributes.iter().all(attribute)
            && rule.off_hours.as_ref().is_none_or(|hours| hours.are_off(facts.at))
    }

    /// Whether patients make a difference to what an entry counts for.
    fn is_per_patient(&self) -> bool {
        self.rule.first_access
            || self.rule.key.contains(&Part::PATIENT)
            || matches!(self.rule.measure, Measure::Distinct(Facet::Patient, _))
    }

    /// What an entry counts for; `first` says whether it is the first that the log has of its user and one of its patients.
    fn counts<'a>(
        &self,
        hash: &RandomState,
        facts: &Facts<'a>,
        before: Option<&Facts<'_>>,
        first: &mut dyn FnMut(usize, &str) -> Result<bool>,
    ) -> Result<Option<Counted<'a>>> {
        if matches!(self.state, State::Apart) || !self.fits(facts) {
            return Ok(None);
        }
        let per_patient = self.is_per_patient();
        let counted = before.filter(|before| self.fits(before));
        if counted.is_some() && !per_patient {
            return Ok(None);
        }
        let mut patients: Vec<&str> = Vec::new();
        for (i, patient) in facts.call.patient_ids.iter().enumerate().filter(|_| per_patient) {
            if counted.is_none_or(|before| !before.call.patient_ids.contains(patient))
                && (!self.rule.first_access || first(i, patient)?)
            {
                patients.push(patient);
            }
        }
        if per_patient && patients.is_empty() {
            return Ok(None);
        }
        // All of the key but the patient.
        let mut base = hash.build_hasher();
        for part in &self.rule.key {
            match part {
                Part::Facet(Facet::Patient) => {}
                Part::Facet(field) => match facts.value(*field) {
                    Some(value) => value.hash(&mut base),
                    None => return Ok(None),
                },
                Part::Grant => facts.grant(self.rule.misused_grant).hash(&mut base),
            }
        }
        let by_patient = |patient: &&'a str| {
            let mut hasher = base.clone();
            patient.hash(&mut hasher);
            (hasher.finish(), Some(*patient))
        };
        let keys = match self.rule.key.contains(&Part::PATIENT) {
            true => patients.iter().map(by_patient).collect(),
            false => vec![(base.finish(), None)],
        };
        Ok(Some(Counted { keys, patients }))
    }

    /// The different values that an entry counts for with a key.
    fn values(&self, hash: &RandomState, facts: &Facts<'_>, counted: &Counted<'_>, patient: Option<&str>) -> Vec<u64> {
        match &self.rule.measure {
            Measure::Distinct(Facet::Patient, _) => match patient {
                Some(patient) => vec![hash.hash_one(patient)],
                None => counted.patients.iter().map(|patient| hash.hash_one(*patient)).collect(),
            },
            Measure::Distinct(field, _) => facts.value(*field).map(|value| hash.hash_one(value)).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Counts an event for a key.
    fn add(&mut self, key: u64, event: Event, values: &[u64]) -> Option<Crossing> {
        let (at, window, since) = (event.0, self.window, self.since);
        match (&self.rule.measure, &mut self.state) {
            (Measure::Count(n), State::Count(keys)) => {
                let (kept, n) = (keys.get(key, at, || Count::None), *n);
                let crosses = kept.add(n as usize, window, since, event);
                crosses.then(|| Crossing { count: n.into(), threshold: n.into(), events: kept.events() })
            }
            (Measure::Distinct(_, n), State::Distinct(keys)) => {
                let (kept, n) = (keys.get(key, at, Distinct::default), *n);
                let mut crosses = false;
                for value in values {
                    crosses |= kept.add(n as usize, window, since, *value, event);
                }
                crosses.then(|| Crossing { count: n.into(), threshold: n.into(), events: kept.events() })
            }
            (Measure::Baseline { multiple, periods, at_least }, State::Baseline(keys)) => {
                let kept = keys.get(key, at, || Baseline::new(*periods));
                let over = kept.add((*multiple, *at_least), window, since, event);
                over.map(|(count, needed)| Crossing {
                    count: count.into(),
                    threshold: needed.into(),
                    events: vec![event],
                })
            }
            _ => None,
        }
    }

    /// What the entries have that count for the same key as this one, as far as the index knows it.
    fn facets(&self, facts: &Facts<'_>, patient: Option<&str>) -> Vec<(Facet, Vec<String>)> {
        let mut facets = self.when.clone();
        for part in &self.rule.key {
            let value = match part {
                Part::Facet(Facet::Patient) => patient,
                Part::Facet(field) => facts.value(*field),
                Part::Grant => None,
            };
            if let (Part::Facet(field), Some(value)) = (part, value) {
                facets.push((*field, vec![value.to_owned()]));
            }
        }
        if self.rule.emergency == Some(true) {
            facets.push((Facet::Emergency, vec!["true".to_owned()]));
        }
        if let Some(failed) = self.rule.failed {
            let outcomes = Outcome::ALL.iter().filter(|outcome| (**outcome != Outcome::Ok) == failed);
            facets.push((Facet::Outcome, outcomes.map(|outcome| outcome.as_str().to_owned()).collect()));
        }
        facets
    }
}

fn nanos(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

impl Compiled {
    fn new((rule, since): &InForce, engine: &Engine, begins: Option<Timestamp>) -> Compiled {
        let window = nanos(rule.window);
        let state = match rule.measure {
            Measure::Count(_) => State::Count(Keys::new(window)),
            Measure::Distinct(..) => State::Distinct(Keys::new(window)),
            Measure::Baseline { .. } => State::Baseline(Keys::new(nanos(rule.reach()))),
            Measure::Unreviewed | Measure::Tampering => State::Apart,
        };
        Compiled {
            when: spelt(&rule.when, engine),
            except: spelt(&rule.except, engine),
            rule: rule.clone(),
            since: *since,
            begins,
            window,
            state,
        }
    }
}

impl Evaluator {
    /// The rules with nothing counted yet; `begins` is when the newest entry was recorded that will not be fed, `None` where
    /// the log's first entry comes next.
    pub(super) fn new(rules: &[InForce], engine: &Engine, begins: Option<Timestamp>) -> Evaluator {
        let mut evaluator = Evaluator {
            wants_pairs: true,
            wants_metadata: false,
            rules: Vec::new(),
            hash: RandomState::new(),
            pairs: Pairs::new(begins.is_none()),
            grants: Grants::default(),
        };
        evaluator.follow(rules, engine, begins);
        evaluator
    }

    /// Goes on with these rules: what was counted for those that stay is kept. `begins` is when the newest entry was recorded
    /// that the others were not fed.
    pub(super) fn follow(&mut self, rules: &[InForce], engine: &Engine, begins: Option<Timestamp>) {
        let mut before = std::mem::take(&mut self.rules);
        let compiled = rules.iter().map(|in_force| {
            let stays = before.iter().position(|c| c.since == in_force.1 && c.rule == in_force.0);
            stays.map_or_else(|| Compiled::new(in_force, engine, begins), |at| before.swap_remove(at))
        });
        self.rules = compiled.collect();
        let wanted = std::mem::replace(&mut self.wants_pairs, self.rules.iter().any(|c| c.rule.first_access));
        if self.wants_pairs && !wanted {
            // Nothing was taken in meanwhile.
            self.pairs = Pairs::new(false);
        }
        self.wants_metadata = self.rules.iter().any(|c| !c.rule.attributes.is_empty());
    }

    /// The values of users, patients and conversations may be written under another key from now on.
    pub(super) fn respell(&mut self, engine: &Engine) {
        for compiled in &mut self.rules {
            compiled.when = spelt(&compiled.rule.when, engine);
            compiled.except = spelt(&compiled.rule.except, engine);
        }
    }

    /// How many keys had to be forgotten before their time.
    pub(super) fn forgotten(&self) -> u64 {
        let of = |compiled: &Compiled| match &compiled.state {
            State::Count(keys) => keys.forgotten,
            State::Distinct(keys) => keys.forgotten,
            State::Baseline(keys) => keys.forgotten,
            State::Apart => 0,
        };
        self.rules.iter().map(of).sum()
    }

    /// Takes in the next entry; `begun` is the beginning of the call whose end it is.
    pub(super) fn feed(&mut self, entry: &Entry, begun: Option<&Entry>, world: &dyn World) -> Result<Vec<Raised>> {
        let Some(call) = entry.call() else {
            self.grants.see(entry);
            return Ok(Vec::new());
        };
        let history = entry.is_history(begun);
        let first = match self.wants_pairs {
            true => self.first_accesses(entry.seq, call, !history, world)?,
            false => Vec::new(),
        };
        if call.is_from_recording() {
            return Ok(Vec::new());
        }
        let grants = &mut self.grants;
        let used = |seq, at, call: &Call| grants.used(seq, at, call, |grant| world.grant(grant));
        let (facts, before) = Facts::of_both(entry, call, begun, self.wants_metadata, used);
        let mut raised = Vec::new();
        for at in 0..self.rules.len() {
            if history && !self.rules[at].rule.looks_at_history() {
                continue;
            }
            raised.extend(self.rule(at, &facts, before.as_ref(), &first, world)?);
        }
        Ok(raised)
    }

    fn rule(
        &mut self,
        at: usize,
        facts: &Facts<'_>,
        before: Option<&Facts<'_>>,
        first: &[bool],
        world: &dyn World,
    ) -> Result<Option<Raised>> {
        let Some(compiled) = self.rules.get(at) else { return Ok(None) };
        let mut is_first = |i: usize, _: &str| Ok(first.get(i).copied().unwrap_or(false));
        let Some(counted) = compiled.counts(&self.hash, facts, before, &mut is_first)? else { return Ok(None) };
        let reaches = compiled.begins.is_some_and(|begins| facts.at.minus(compiled.rule.reach()) < begins);
        let unknown = counted.keys.iter().filter(|(key, _)| reaches && !compiled.state.knows(*key));
        let mut past = Vec::new();
        for (key, patient) in unknown {
            past.push((*key, self.past(compiled, facts, *key, *patient, world)?));
        }
        let Some(compiled) = self.rules.get_mut(at) else { return Ok(None) };
        for (key, events) in past {
            // What was raised of it was raised then.
            events.into_iter().rev().for_each(|(event, values)| _ = compiled.add(key, event, &values));
        }
        let event: Event = (facts.at.nanos(), facts.seq);
        let (mut crossed, mut events) = (BTreeSet::new(), BTreeSet::new());
        let mut fired = None;
        for (key, patient) in &counted.keys {
            let values = compiled.values(&self.hash, facts, &counted, *patient);
            let Some(crossing) = compiled.add(*key, event, &values) else { continue };
            let (most, _) = fired.get_or_insert((crossing.count, crossing.threshold));
            *most = crossing.count.max(*most);
            events.extend(crossing.events.into_iter().map(|(_, seq)| seq));
            crossed.extend(patient.map(str::to_owned));
        }
        let Some((count, threshold)) = fired else { return Ok(None) };
        let rule = &compiled.rule;
        let key = rule.key.iter().map(|part| {
            let values = match part {
                Part::Facet(Facet::Patient) => crossed.clone(),
                Part::Facet(field) => facts.value(*field).map(str::to_owned).into_iter().collect(),
                Part::Grant => BTreeSet::from([facts.call.grant.map_or("none".to_owned(), |grant| grant.to_string())]),
            };
            (*part, values)
        });
        let key = key.collect();
        // The grant is what such an alert is about as much as the calls.
        if rule.emergency == Some(true) || rule.misused_grant {
            events.extend(facts.call.grant);
        }
        let misuse = facts.misuse.filter(|_| rule.misused_grant);
        Ok(Some(Raised { rule: rule.clone(), crossing: facts.seq, key, count, threshold, events, misuse }))
    }

    /// What counted for a key before this entry, the newest first: as much as makes a difference.
    fn past(
        &self,
        compiled: &Compiled,
        now: &Facts<'_>,
        key: u64,
        patient: Option<&str>,
        world: &dyn World,
    ) -> Result<Vec<(Event, Vec<u64>)>> {
        let oldest = now.at.minus(compiled.rule.reach());
        let (mut events, mut seen) = (Vec::new(), HashSet::new());
        world.before(now.seq, &compiled.facets(now, patient), &mut |entry, begun| {
            let Some(call) = entry.call().filter(|call| !call.is_from_recording()) else { return Ok(true) };
            if entry.body.recorded_at <= oldest {
                return Ok(false);
            }
            if entry.is_history(begun) && !compiled.rule.looks_at_history() {
                return Ok(true);
            }
            let misuse = |seq, at, call: &Call| self.grants.misuse(seq, at, call, |grant| world.grant(grant));
            let (facts, before) = Facts::of_both(entry, call, begun, self.wants_metadata, misuse);
            let mut first = |_: usize, patient: &str| {
                world.accessed_before(&call.user_id, patient, entry.seq).map(|before| !before)
            };
            let Some(counted) = compiled.counts(&self.hash, &facts, before.as_ref(), &mut first)? else {
                return Ok(true);
            };
            let Some((_, patient)) = counted.keys.iter().find(|(counts, _)| *counts == key) else { return Ok(true) };
            let mut values = compiled.values(&self.hash, &facts, &counted, *patient);
            // Of a value its newest event is kept.
            values.retain(|value| seen.insert(*value));
            events.push(((facts.at.nanos(), facts.seq), values));
            Ok(match compiled.rule.measure {
                Measure::Count(n) => events.len() < n as usize,
                Measure::Distinct(_, n) => seen.len() < n as usize,
                _ => true,
            })
        })?;
        Ok(events)
    }

    /// Which of a call's patients the user had not been seen with; `ask` where the index may be asked.
    fn first_accesses(&mut self, seq: u64, call: &Call, ask: bool, world: &dyn World) -> Result<Vec<bool>> {
        let mut first = Vec::with_capacity(call.patient_ids.len());
        for patient in &call.patient_ids {
            let pair = self.hash.hash_one((&call.user_id, patient));
            first.push(match self.pairs.see(pair) {
                Some(known) => !known,
                None if ask => !world.accessed_before(&call.user_id, patient, seq)?,
                None => false,
            });
        }
        Ok(first)
    }
}

fn spelt(facets: &BTreeMap<Facet, Vec<String>>, engine: &Engine) -> Vec<(Facet, Vec<String>)> {
    let one = |(field, values): (&Facet, &Vec<String>)| {
        (*field, values.iter().flat_map(|value| engine.spellings(*field, value)).collect())
    };
    facets.iter().map(one).collect()
}

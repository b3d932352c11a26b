//! Rules over entries, one entry after the other: no I/O but what is asked of [`World`].
//!
//! Invariant N4: what is raised depends on the rules and on the entries up to the one that raises it, never on when or in
//! which portions they were fed. Invariant N5: the two entries of a call count once: what its beginning counted for is
//! left out when its end comes, and the end counts for what only it tells (an outcome, a patient found in the result).

use super::grants::Grants;
use super::pairs::Pairs;
use super::rule::{Measure, Part, Rule, Rules};
use super::window::{Baseline, Count, Distinct, Event, Keys};
use crate::emergency::{Grant, Misuse};
use crate::entry::{Call, Field, Outcome, Phase};
use crate::json::Json;
use crate::store::Shared;
use crate::{Entry, Result, Timestamp};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

/// What evaluation asks of the log behind the entry that it looks at.
pub(super) trait World {
    /// Whether an entry before `seq` has this user and this patient.
    fn accessed_before(&self, user: &str, patient: &str, seq: u64) -> Result<bool>;

    /// The grant that the entry at `seq` opened.
    fn grant(&self, seq: u64) -> Option<Grant>;
}

/// What a rule says of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raised {
    /// The place of the rule.
    pub rule: usize,
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
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    /// With every spelling under which the log may hold a value.
    when: Vec<(Field, Vec<String>)>,
    except: Vec<(Field, Vec<String>)>,
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

/// What rules ask of an entry, made ready once.
struct Facts<'a> {
    seq: u64,
    at: Timestamp,
    call: &'a Call,
    single: [Option<&'a str>; Field::ALL.len()],
    metadata: Option<Json>,
    misuse: Option<Misuse>,
}

impl<'a> Facts<'a> {
    fn of(entry: &'a Entry, call: &'a Call, wants_metadata: bool) -> Facts<'a> {
        let mut single = [None; Field::ALL.len()];
        entry.body.facets(&mut |field, value| {
            if let Some(slot) = single.get_mut(field.place()) {
                *slot = Some(value);
            }
        });
        let metadata = call.session_metadata.as_ref().filter(|_| wants_metadata).map(|m| m.to_json());
        Facts { seq: entry.seq, at: entry.body.recorded_at, call, single, metadata, misuse: None }
    }

    fn has(&self, field: Field, values: &[String]) -> bool {
        match field {
            Field::Patient => self.call.patient_ids.iter().any(|patient| values.contains(patient)),
            _ => self.single.get(field.place()).copied().flatten().is_some_and(|v| values.iter().any(|w| w == v)),
        }
    }

    fn attribute(&self, name: &str) -> Option<&Json> {
        let metadata = self.metadata.as_ref()?;
        member(metadata, name).or_else(|| member(metadata.get("attributes")?, name))
    }

    /// The grant that the call names, and how it does not cover it.
    fn grant(&self) -> String {
        match (self.call.grant, self.misuse) {
            (None, _) => "none".to_owned(),
            (Some(grant), None) => grant.to_string(),
            (Some(grant), Some(misuse)) => format!("{grant} {}", misuse.as_str()),
        }
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
            && self.when.iter().all(|(field, values)| facts.has(*field, values))
            && !self.except.iter().any(|(field, values)| facts.has(*field, values))
            && rule.attributes.iter().all(attribute)
            && rule.off_hours.as_ref().is_none_or(|hours| hours.are_off(facts.at))
    }

    /// Whether patients make a difference to what an entry counts for.
    fn is_per_patient(&self) -> bool {
        self.rule.first_access
            || self.rule.key.contains(&Part::PATIENT)
            || matches!(self.rule.measure, Measure::Distinct(Field::Patient, _))
    }
}

fn nanos(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

impl Evaluator {
    /// The rules with nothing counted yet; `from_start` where the log's first entry comes next.
    pub(super) fn new(rules: &Rules, shared: &Shared, from_start: bool) -> Evaluator {
        let compiled = rules.iter().map(|rule| {
            let window = nanos(rule.window);
            let state = match rule.measure {
                Measure::Count(_) => State::Count(Keys::new(window)),
                Measure::Distinct(..) => State::Distinct(Keys::new(window)),
                Measure::Baseline { .. } => State::Baseline(Keys::new(nanos(rule.reach()))),
                Measure::Unreviewed | Measure::Tampering => State::Apart,
            };
            Compiled {
                when: spelt(&rule.when, shared),
                except: spelt(&rule.except, shared),
                rule: rule.clone(),
                window,
                state,
            }
        });
        let compiled: Vec<Compiled> = compiled.collect();
        Evaluator {
            wants_pairs: compiled.iter().any(|c| c.rule.first_access),
            rules: compiled,
            hash: RandomState::new(),
            pairs: Pairs::new(from_start),
            grants: Grants::default(),
        }
    }

    /// The values of users, patients and conversations may be written under another key from now on.
    pub(super) fn respell(&mut self, shared: &Shared) {
        for compiled in &mut self.rules {
            compiled.when = spelt(&compiled.rule.when, shared);
            compiled.except = spelt(&compiled.rule.except, shared);
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

    /// Takes in the next entry; `begun` is the beginning of the call whose end it is. Entries before `until` only make the
    /// state what it was: rules that they are too old for are passed over.
    pub(super) fn feed(
        &mut self,
        entry: &Entry,
        begun: Option<&Entry>,
        until: Option<Timestamp>,
        world: &dyn World,
    ) -> Result<Vec<Raised>> {
        let Some(call) = entry.call() else {
            self.grants.see(entry);
            return Ok(Vec::new());
        };
        let at = entry.body.recorded_at;
        let counts = |rule: &Rule| until.is_none_or(|until| at > until.minus(rule.reach()));
        let first = match self.wants_pairs {
            true => {
                let ask = self.rules.iter().any(|c| c.rule.first_access && counts(&c.rule));
                self.first_accesses(entry.seq, call, ask && !call.backfilled, world)?
            }
            false => Vec::new(),
        };
        if call.backfilled {
            return Ok(Vec::new());
        }
        let wants_metadata = self.rules.iter().any(|c| !c.rule.attributes.is_empty());
        let before = begun.and_then(|entry| entry.call().map(|call| Facts::of(entry, call, wants_metadata)));
        let mut before = before.filter(|_| matches!(call.phase, Phase::Finished(_)));
        let mut facts = Facts::of(entry, call, wants_metadata);
        if call.grant.is_some() {
            // What began while the grant held may end later.
            let (seq, at) =
                before.as_ref().filter(|b| b.call.grant == call.grant).map_or((facts.seq, at), |b| (b.seq, b.at));
            facts.misuse = self.grants.used(seq, at, call, |seq| world.grant(seq));
        }
        if let Some(before) = before.as_mut().filter(|b| b.call.grant.is_some()) {
            before.misuse = self.grants.used(before.seq, before.at, before.call, |seq| world.grant(seq));
        }
        let mut raised = Vec::new();
        for at in 0..self.rules.len() {
            if self.rules.get(at).is_some_and(|compiled| counts(&compiled.rule)) {
                raised.extend(self.rule(at, &facts, before.as_ref(), &first));
            }
        }
        Ok(raised)
    }

    fn rule(&mut self, at: usize, facts: &Facts<'_>, before: Option<&Facts<'_>>, first: &[bool]) -> Option<Raised> {
        let hash = &self.hash;
        let compiled = self.rules.get_mut(at)?;
        if matches!(compiled.state, State::Apart) || !compiled.fits(facts) {
            return None;
        }
        let per_patient = compiled.is_per_patient();
        let counted = before.filter(|before| compiled.fits(before));
        if counted.is_some() && !per_patient {
            return None;
        }
        let rule = &compiled.rule;
        let is_new = |i: usize, patient: &String| {
            (!rule.first_access || first.get(i).copied().unwrap_or(false))
                && counted.is_none_or(|before| !before.call.patient_ids.contains(patient))
        };
        let patients: Vec<&str> = match per_patient {
            true => {
                let patients = facts.call.patient_ids.iter().enumerate();
                patients.filter(|(i, patient)| is_new(*i, patient)).map(|(_, patient)| patient.as_str()).collect()
            }
            false => Vec::new(),
        };
        if per_patient && patients.is_empty() {
            return None;
        }
        // All of the key but the patient.
        let mut base = hash.build_hasher();
        let mut key: Vec<(Part, BTreeSet<String>)> = Vec::with_capacity(rule.key.len());
        for part in &rule.key {
            match part {
                Part::Facet(Field::Patient) => {}
                Part::Facet(field) => facts.single.get(field.place()).copied().flatten()?.hash(&mut base),
                Part::Grant => facts.grant().hash(&mut base),
            }
        }
        let by_patient = rule.key.contains(&Part::PATIENT);
        let keys: Vec<(u64, Option<&str>)> = match by_patient {
            true => patients
                .iter()
                .map(|patient| {
                    let mut hasher = base.clone();
                    patient.hash(&mut hasher);
                    (hasher.finish(), Some(*patient))
                })
                .collect(),
            false => vec![(base.finish(), None)],
        };
        let event: Event = (facts.at.nanos(), facts.seq);
        let window = compiled.window;
        let (mut crossed, mut events) = (BTreeSet::new(), BTreeSet::new());
        let mut fired = None;
        for (hashed, patient) in keys {
            let says = match (&rule.measure, &mut compiled.state) {
                (Measure::Count(n), State::Count(keys)) => {
                    let kept = keys.get(hashed, event.0, || Count::None);
                    kept.add(*n as usize, window, event).then(|| (u64::from(*n), u64::from(*n), kept.events()))
                }
                (Measure::Distinct(field, n), State::Distinct(keys)) => {
                    let kept = keys.get(hashed, event.0, Distinct::default);
                    let single = facts.single.get(field.place()).copied().flatten();
                    let values: Vec<&str> = match field {
                        Field::Patient if by_patient => patient.into_iter().collect(),
                        Field::Patient => patients.clone(),
                        _ => single.into_iter().collect(),
                    };
                    let mut crossing = false;
                    for value in values {
                        crossing |= kept.add(*n as usize, window, hash.hash_one(value), event);
                    }
                    crossing.then(|| (u64::from(*n), u64::from(*n), kept.events()))
                }
                (Measure::Baseline { multiple, periods, at_least }, State::Baseline(keys)) => {
                    let kept = keys.get(hashed, event.0, || Baseline::new(*periods));
                    let over = kept.add(*multiple, *at_least, window, event);
                    over.map(|(count, needed)| (u64::from(count), u64::from(needed), vec![event]))
                }
                _ => None,
            };
            if let Some((count, threshold, concerned)) = says {
                let (most, _) = fired.get_or_insert((count, threshold));
                *most = count.max(*most);
                events.extend(concerned.into_iter().map(|(_, seq)| seq));
                crossed.extend(patient.map(str::to_owned));
            }
        }
        let (count, threshold) = fired?;
        for part in &rule.key {
            let values = match part {
                Part::Facet(Field::Patient) => crossed.clone(),
                Part::Facet(field) => {
                    facts.single.get(field.place()).copied().flatten().map(str::to_owned).into_iter().collect()
                }
                Part::Grant => BTreeSet::from([facts.call.grant.map_or("none".to_owned(), |grant| grant.to_string())]),
            };
            key.push((*part, values));
        }
        // The grant is what such an alert is about as much as the calls.
        if rule.emergency == Some(true) || rule.misused_grant {
            events.extend(facts.call.grant);
        }
        let misuse = facts.misuse.filter(|_| rule.misused_grant);
        Some(Raised { rule: at, crossing: facts.seq, key, count, threshold, events, misuse })
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

fn spelt(facets: &BTreeMap<Field, Vec<String>>, shared: &Shared) -> Vec<(Field, Vec<String>)> {
    use crate::redact::Facet;
    let one = |(field, values): (&Field, &Vec<String>)| {
        let clear: BTreeSet<String> = values.iter().cloned().collect();
        let spelt = match field {
            Field::User => shared.spellings(Facet::User, clear),
            Field::Patient => shared.spellings(Facet::Patient, clear),
            Field::Conversation => shared.spellings(Facet::Conversation, clear),
            _ => clear,
        };
        (*field, spelt.into_iter().collect())
    };
    facets.iter().map(one).collect()
}

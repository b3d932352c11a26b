//! Applies rules to entries, one entry at a time; the only I/O is through [`World`].
//!
//! Invariant N4: what is raised depends on the rules and on the entries up to the one that raises it, never on when or
//! in which portions they were fed. Invariant N5: the two entries of a call count once: what the first counted for is
//! left out when the second comes, and the second counts for what only it tells (an outcome, a patient found in the
//! result). The same holds for a call that was recorded as unanswered and the result that came later. Invariant N8:
//! what a key did before evaluation began is read from the log when the key first counts, so that starting takes the
//! same time however much was recorded, except for checking the index against the chain once (R75).

use super::grants::Grants;
use super::pairs::Pairs;
use super::people::People;
use super::window::{Baseline, Count, Distinct, Event, Keys};
use crate::grants::{Grant, Misuse};
use crate::json::Json;
use crate::retention::{NamePattern, tool_form};
use crate::rules::{Measure, Part, Rule, pattern};
use crate::store::Engine;
use crate::{Entry, Result, Timestamp};
use attestlog_proof::entry::{Call, Facet, Outcome, Phase};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// What evaluation reads from the log before the current entry.
pub(super) trait World {
    /// Whether an entry before `seq` has this user and this patient, each in one of these spellings.
    fn accessed_before(&self, user: Vec<String>, patient: Vec<String>, seq: u64) -> Result<bool>;

    /// Calls `each` for every name that entries have for a facet.
    fn each_name(&self, field: Facet, each: &mut dyn FnMut(&str)) -> Result<()>;

    /// The grant that the entry at `seq` opened.
    fn grant(&self, seq: u64) -> Option<Grant>;

    /// Calls `each` for the entries before `seq` that have all of these values in the spelling of the log, and one of the
    /// tools that `tools` wants, the newest first, each with the first entry of the call that it ends; as long as `each` returns true.
    fn before(
        &self,
        seq: u64,
        facets: Vec<(Facet, Vec<String>)>,
        tools: Option<&dyn Fn(&str) -> bool>,
        each: &mut Look<'_>,
    ) -> Result<()>;
}

/// Looks at an entry, with the first entry of the call that it ends; returns whether to go on.
pub(super) type Look<'a> = dyn FnMut(&Entry, Option<&Entry>) -> Result<bool> + 'a;

/// The alert that a rule raises for an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raised {
    pub rule: Arc<Rule>,
    /// The entry at which the threshold was reached.
    pub crossing: u64,
    /// The parts of the rule's key, with the values of this entry.
    pub key: Vec<(Part, BTreeSet<String>)>,
    /// How many events there are, for the key that has the most.
    pub count: u64,
    /// How many are needed.
    pub threshold: u64,
    /// The entries concerned.
    pub events: BTreeSet<u64>,
    pub misuse: Option<Misuse>,
}

/// The rules with their state.
#[derive(Debug)]
pub(super) struct Evaluator {
    rules: Vec<Compiled>,
    people: People,
    pairs: Pairs,
    pub grants: Grants,
    wants_pairs: bool,
    wants_metadata: bool,
}

/// A rule with the seq of the policy since which it has been in force; 0 if it was from the beginning.
pub(super) type InForce = (Arc<Rule>, u64);

#[derive(Debug)]
struct Compiled {
    rule: Arc<Rule>,
    /// The seq since which it has been in force.
    since: u64,
    /// The recording time of the newest entry that the rule was not fed; `None` if there is none.
    begins: Option<Timestamp>,
    /// The conditions, with every spelling under which the log may hold a value.
    when: Vec<Wanted>,
    except: Vec<Wanted>,
    window: i64,
    state: State,
}

/// The values that a rule names for a facet.
#[derive(Debug)]
struct Wanted {
    field: Facet,
    /// Every spelling under which the log may hold one that is named whole.
    spelt: Vec<String>,
    /// What is compared as a pattern or, of a tool, by its words.
    patterns: Vec<NamePattern>,
}

impl Wanted {
    fn all(facets: &BTreeMap<Facet, Vec<String>>, engine: &Engine) -> Vec<Wanted> {
        let one = |(&field, values): (&Facet, &Vec<String>)| {
            let (patterns, whole): (Vec<&String>, Vec<&String>) =
                values.iter().partition(|value| NamePattern::is_pattern(value));
            let spelt = whole.iter().flat_map(|value| engine.spellings(field, value)).collect();
            let words = whole.into_iter().filter(|_| field == Facet::Tool);
            // A rule with a pattern that is none was refused.
            let patterns = patterns.into_iter().chain(words).filter_map(|value| pattern(field, value).ok()).collect();
            Wanted { field, spelt, patterns }
        };
        facets.iter().map(one).collect()
    }

    /// Whether a value, which of a tool stands in both forms, is one of these.
    fn has(&self, value: &str, words: &str) -> bool {
        self.spelt.iter().any(|spelt| spelt == value) || self.patterns.iter().any(|pattern| pattern.matches(words))
    }

    fn has_tool(&self, name: &str) -> bool {
        self.has(name, &tool_form(name))
    }
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

/// What an entry counts for: each key, with its patient if the key has one, and the patients that count.
struct Counted<'a> {
    keys: Vec<(u64, Option<&'a str>)>,
    patients: Vec<&'a str>,
}

/// A threshold was reached.
struct Crossing {
    count: u64,
    threshold: u64,
    events: Vec<Event>,
}

/// What rules need to know about an entry, prepared once.
struct Facts<'a> {
    seq: u64,
    at: Timestamp,
    call: &'a Call,
    single: [Option<&'a str>; Facet::ALL.len()],
    /// The tool's name in the form in which tools are compared, once a rule asks for it.
    tool: OnceCell<String>,
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
            tool: OnceCell::new(),
            metadata,
            misuse: None,
            history: entry.is_history(None),
        }
    }

    /// The facts of a call, and of the entry that began it. `misuse` tells how the grant that a call names does not
    /// cover it.
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
            // A call that began while the grant was in force may end later.
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

    /// The names of the resources; the only facet but patients of which a call may have several values.
    fn resources(&self) -> impl Iterator<Item = &'a str> {
        let around = self.call.circumstances.iter();
        around.flat_map(|around| &around.resources).map(|resource| resource.name.as_str())
    }

    fn has(&self, wanted: &Wanted) -> bool {
        match wanted.field {
            Facet::Patient => self.call.patient_ids.iter().any(|patient| wanted.has(patient, patient)),
            Facet::Resource => self.resources().any(|name| wanted.has(name, name)),
            Facet::Tool => {
                let name = &self.call.tool_name;
                wanted.has(name, self.tool.get_or_init(|| tool_form(name)))
            }
            field => self.value(field).is_some_and(|value| wanted.has(value, value)),
        }
    }

    fn attribute(&self, name: &str) -> Option<&Json> {
        let metadata = self.metadata.as_ref()?;
        member(metadata, name).or_else(|| member(metadata.get("attributes")?, name))
    }

    /// The grant that the call names; for a rule about misuse also the kind of misuse, so that each kind is counted
    /// separately.
    fn grant(&self, misused: bool) -> (Option<u64>, Option<&'static str>) {
        (self.call.grant, self.misuse.filter(|_| misused).map(Misuse::as_str))
    }
}

/// A member by its name, which may contain dots, or by the path that the dots form.
fn member<'j>(value: &'j Json, name: &str) -> Option<&'j Json> {
    value.get(name).or_else(|| name.split('.').try_fold(value, |value, step| value.get(step)))
}

impl Compiled {
    /// Whether the rule applies to an entry at all.
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
            && self.when.iter().all(|wanted| facts.has(wanted))
            && !self.except.iter().any(|wanted| facts.has(wanted))
            && rule.attributes.iter().all(attribute)
            && rule.off_hours.as_ref().is_none_or(|hours| hours.are_off(facts.at))
    }

    /// Whether what an entry counts for depends on its patients.
    fn is_per_patient(&self) -> bool {
        self.rule.first_access
            || self.rule.key.contains(&Part::PATIENT)
            || matches!(self.rule.measure, Measure::Distinct(Facet::Patient, _))
    }

    /// What an entry counts for; `first` tells whether it is the log's first entry for its user and one of its
    /// patients.
    fn counts<'a>(
        &self,
        people: &People,
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
        let before = counted.filter(|_| per_patient).map(|before| before.call.patient_ids.iter());
        let before: HashSet<Cow<'_, str>> =
            before.into_iter().flatten().map(|id| people.one_form(Facet::Patient, id)).collect();
        for (i, patient) in facts.call.patient_ids.iter().enumerate().filter(|_| per_patient) {
            if !before.contains(&people.one_form(Facet::Patient, patient))
                && (!self.rule.first_access || first(i, patient)?)
            {
                patients.push(patient);
            }
        }
        if per_patient && patients.is_empty() {
            return Ok(None);
        }
        // The whole key except the patient.
        let mut base = people.hash.build_hasher();
        for part in &self.rule.key {
            match part {
                Part::Facet(Facet::Patient) => {}
                Part::Facet(field) => match facts.value(*field) {
                    Some(value) => people.one_form(*field, value).hash(&mut base),
                    None => return Ok(None),
                },
                Part::Grant => facts.grant(self.rule.misused_grant).hash(&mut base),
            }
        }
        let by_patient = |patient: &&'a str| {
            let mut hasher = base.clone();
            people.one_form(Facet::Patient, patient).hash(&mut hasher);
            (hasher.finish(), Some(*patient))
        };
        let keys = match self.rule.key.contains(&Part::PATIENT) {
            true => patients.iter().map(by_patient).collect(),
            false => vec![(base.finish(), None)],
        };
        Ok(Some(Counted { keys, patients }))
    }

    /// The distinct values that an entry counts for with a key.
    fn values(&self, people: &People, facts: &Facts<'_>, counted: &Counted<'_>, patient: Option<&str>) -> Vec<u64> {
        match &self.rule.measure {
            Measure::Distinct(Facet::Patient, _) => match patient {
                Some(patient) => vec![people.key(Facet::Patient, patient)],
                None => counted.patients.iter().map(|patient| people.key(Facet::Patient, patient)).collect(),
            },
            Measure::Distinct(Facet::Resource, _) => {
                facts.resources().map(|name| people.key(Facet::Resource, name)).collect()
            }
            Measure::Distinct(field, _) => {
                facts.value(*field).map(|value| people.key(*field, value)).into_iter().collect()
            }
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

    /// The facets of the entries that count for the same key as this one, as far as the index has them.
    fn facets(
        &self,
        people: &People,
        facts: &Facts<'_>,
        patient: Option<&str>,
        world: &dyn World,
    ) -> Result<Vec<(Facet, Vec<String>)>> {
        let whole = self.when.iter().filter(|wanted| wanted.patterns.is_empty());
        let mut facets: Vec<(Facet, Vec<String>)> = whole.map(|wanted| (wanted.field, wanted.spelt.clone())).collect();
        for part in &self.rule.key {
            let value = match part {
                Part::Facet(Facet::Patient) => patient,
                Part::Facet(field) => facts.value(*field),
                Part::Grant => None,
            };
            if let (Part::Facet(field), Some(value)) = (part, value) {
                facets.push((*field, people.forms(*field, value, world)?));
            }
        }
        if self.rule.emergency == Some(true) {
            facets.push((Facet::Emergency, vec!["true".to_owned()]));
        }
        if let Some(failed) = self.rule.failed {
            let outcomes = Outcome::ALL.iter().filter(|outcome| (**outcome != Outcome::Ok) == failed);
            facets.push((Facet::Outcome, outcomes.map(|outcome| outcome.as_str().to_owned()).collect()));
        }
        Ok(facets)
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
            when: Wanted::all(&rule.when, engine),
            except: Wanted::all(&rule.except, engine),
            rule: rule.clone(),
            since: *since,
            begins,
            window,
            state,
        }
    }
}

/// Whether this is what somebody who saw a call tells of one that is only in a recording: for the rules it is the call, since a
/// recording could have been made up to hide it (R68).
fn is_seen(call: &Call, recorded: &Entry) -> bool {
    call.detail_of().is_some()
        && !call.is_from_recording()
        && recorded.call().is_some_and(|recorded| recorded.is_from_recording())
}

impl Evaluator {
    /// The rules with nothing counted yet; `begins` is the recording time of the newest entry that will not be fed,
    /// `None` if the log's first entry comes next.
    pub(super) fn new(rules: &[InForce], engine: &Engine, begins: Option<Timestamp>) -> Evaluator {
        let mut evaluator = Evaluator {
            wants_pairs: true,
            wants_metadata: false,
            rules: Vec::new(),
            people: People::new(engine),
            pairs: Pairs::new(begins.is_none()),
            grants: Grants::default(),
        };
        evaluator.follow(rules, engine, begins);
        evaluator
    }

    /// Continues with these rules: the counts of rules that stay are kept. `begins` is the recording time of the
    /// newest entry that new rules will not be fed.
    pub(super) fn follow(&mut self, rules: &[InForce], engine: &Engine, begins: Option<Timestamp>) {
        let mut before = std::mem::take(&mut self.rules);
        let compiled = rules.iter().map(|in_force| {
            let stays = before.iter().position(|c| c.since == in_force.1 && c.rule == in_force.0);
            stays.map_or_else(|| Compiled::new(in_force, engine, begins), |at| before.swap_remove(at))
        });
        self.rules = compiled.collect();
        let wanted = std::mem::replace(&mut self.wants_pairs, self.rules.iter().any(|c| c.rule.first_access));
        if self.wants_pairs && !wanted {
            // Nothing was added meanwhile.
            self.pairs = Pairs::new(false);
        }
        self.wants_metadata = self.rules.iter().any(|c| !c.rule.attributes.is_empty());
    }

    /// Called when the names of users, patients and conversations may be written under another key from now on.
    pub(super) fn respell(&mut self, engine: &Engine) {
        self.people.respell(engine);
        for compiled in &mut self.rules {
            compiled.when = Wanted::all(&compiled.rule.when, engine);
            compiled.except = Wanted::all(&compiled.rule.except, engine);
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

    /// Evaluates the next entry; `begun` is the first entry of the call that it ends.
    pub(super) fn feed(&mut self, entry: &Entry, begun: Option<&Entry>, world: &dyn World) -> Result<Vec<Raised>> {
        let Some(call) = entry.call() else {
            self.grants.see(entry);
            return Ok(Vec::new());
        };
        if call.detail_of().is_some() && begun.is_none() {
            // Nobody can tell what its call counted for.
            return Ok(Vec::new());
        }
        let begun = begun.filter(|begun| !is_seen(call, begun));
        let history = entry.is_history(begun);
        let first = match self.wants_pairs {
            true => self.first_accesses(entry.seq, call, !history, world)?,
            false => Vec::new(),
        };
        if call.is_from_recording() {
            return Ok(Vec::new());
        }
        let (grants, people) = (&mut self.grants, &self.people);
        let same = |of, a: &str, b: &str| people.are_same(of, a, b);
        let used = |seq, at, call: &Call| grants.used(seq, at, call, &same, |grant| world.grant(grant));
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
        let Some(counted) = compiled.counts(&self.people, facts, before, &mut is_first)? else { return Ok(None) };
        let reaches = compiled.begins.is_some_and(|begins| facts.at.minus(compiled.rule.reach()) < begins);
        let unknown = counted.keys.iter().filter(|(key, _)| reaches && !compiled.state.knows(*key));
        let mut past = Vec::new();
        for (key, patient) in unknown {
            past.push((*key, self.past(compiled, facts, *key, *patient, world)?));
        }
        let Some(compiled) = self.rules.get_mut(at) else { return Ok(None) };
        for (key, events) in past {
            // Alerts for these events were raised when they were recorded.
            events.into_iter().rev().for_each(|(event, values)| _ = compiled.add(key, event, &values));
        }
        let event: Event = (facts.at.nanos(), facts.seq);
        let (mut crossed, mut events) = (BTreeSet::new(), BTreeSet::new());
        let mut fired = None;
        for (key, patient) in &counted.keys {
            let values = compiled.values(&self.people, facts, &counted, *patient);
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
        // Such an alert is about the grant as much as about the calls.
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
        let tools = compiled.when.iter().find(|wanted| wanted.field == Facet::Tool);
        let is_wanted = tools.map(|wanted| |name: &str| wanted.has_tool(name));
        let is_wanted = is_wanted.as_ref().map(|of| of as &dyn Fn(&str) -> bool);
        let facets = compiled.facets(&self.people, now, patient, world)?;
        world.before(now.seq, facets, is_wanted, &mut |entry, begun| {
            let lone = |call: &Call| call.detail_of().is_some() && begun.is_none();
            let Some(call) = entry.call().filter(|call| !call.is_from_recording() && !lone(call)) else {
                return Ok(true);
            };
            let begun = begun.filter(|begun| !is_seen(call, begun));
            if entry.body.recorded_at <= oldest {
                return Ok(false);
            }
            if entry.is_history(begun) && !compiled.rule.looks_at_history() {
                return Ok(true);
            }
            let same = |of, a: &str, b: &str| self.people.are_same(of, a, b);
            let misuse = |seq, at, call: &Call| self.grants.misuse(seq, at, call, &same, |grant| world.grant(grant));
            let (facts, before) = Facts::of_both(entry, call, begun, self.wants_metadata, misuse);
            let mut first = |_: usize, patient: &str| {
                let (user, patient) = self.pair(&call.user_id, patient, world)?;
                world.accessed_before(user, patient, entry.seq).map(|before| !before)
            };
            let Some(counted) = compiled.counts(&self.people, &facts, before.as_ref(), &mut first)? else {
                return Ok(true);
            };
            let Some((_, patient)) = counted.keys.iter().find(|(counts, _)| *counts == key) else { return Ok(true) };
            let mut values = compiled.values(&self.people, &facts, &counted, *patient);
            // Keep only the newest event of each value.
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

    /// All forms of a user's and a patient's name.
    fn pair(&self, user: &str, patient: &str, world: &dyn World) -> Result<(Vec<String>, Vec<String>)> {
        let forms = |of, name| self.people.forms(of, name, world);
        Ok((forms(Facet::User, user)?, forms(Facet::Patient, patient)?))
    }

    /// Which of a call's patients the user had not been seen with; `ask` tells whether the index may be asked.
    fn first_accesses(&mut self, seq: u64, call: &Call, ask: bool, world: &dyn World) -> Result<Vec<bool>> {
        let mut first = Vec::with_capacity(call.patient_ids.len());
        for patient in &call.patient_ids {
            let pair = (self.people.key(Facet::User, &call.user_id), self.people.key(Facet::Patient, patient));
            let pair = self.people.hash.hash_one(pair);
            first.push(match self.pairs.see(pair) {
                Some(known) => !known,
                None if ask => {
                    let (user, patient) = self.pair(&call.user_id, patient, world)?;
                    !world.accessed_before(user, patient, seq)?
                }
                None => false,
            });
        }
        Ok(first)
    }
}

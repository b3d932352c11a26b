//! The retention policy: the class of each entry, and how long a class is kept.
//!
//! Invariant R3: a policy demands of a call the longest period among all rules that match it; rules have no order to
//! get wrong, and no exception can shorten. Invariant R4: a caller can lengthen what is demanded, never shorten it.
//! Invariant R5: a policy that succeeds another demands no less of any call, and keeps every class at least as long.
//!
//! A policy is immutable and compiled: assigning a class looks the tool's name up once and matches the patterns against
//! it.

use super::glob::{Glob, tool_form};
use super::{NamePattern, Period, Preset};
use crate::json::{Json, Object};
use crate::{Error, ErrorKind, Hash, Result, Timestamp};
use attestlog_proof::entry::Retention;
use attestlog_proof::members::{Members, shown, text};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const MAX_CLASSES: usize = 256;
const MAX_RULES: usize = 10_000;
/// Each pattern is matched against the tool name of every call.
const MAX_PATTERNS: usize = 256;
const MAX_NAME_BYTES: usize = 64;
const MAX_TOOL_BYTES: usize = 1024;
const DEFAULT_CLOCK_BOUND_DAYS: u32 = 7;
const MAX_CLOCK_BOUND_DAYS: u32 = 366;

/// How long each entry is kept: classes with their periods, and rules that assign calls to classes.
///
/// A tool's name, or a pattern with `*` and `?`, selects a class, however the tool's words are joined (`issueRefund`,
/// `issue-refund` and `ISSUE_REFUND` are `issue_refund`; `issuerefund` is not). If several rules match, the one with
/// the longest period decides (between equal periods a full name before a pattern, then the first). A call that touches
/// a patient is in the patients' class, whatever its tool, unless its tool demands a longer period: then it is in the
/// tool's class. So an entry always names the class whose period applies to it. Every other call is in the default
/// class.
///
/// ```
/// use attestlog::{Timestamp, retention::RetentionPolicy};
/// let policy = RetentionPolicy::default();
/// let now: Timestamp = "2025-07-06T14:23:01Z".parse()?;
/// let kept = policy.assign("issue_refund", false, None, None, now)?;
/// assert_eq!((kept.class.as_str(), kept.until.to_string().as_str()), ("financial", "2032-07-06T14:23:01Z"));
/// let kept = policy.assign("lookup", true, None, None, now)?; // a patient is in it
/// assert_eq!((kept.class.as_str(), kept.until.to_string().as_str()), ("healthcare", "2031-07-06T14:23:01Z"));
/// assert!(policy.assign("issue_refund", false, Some("general"), None, now).is_err()); // would shorten
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Sorted by name.
    classes: Vec<(String, Period)>,
    /// As they were given: tool name or pattern, class. Classes are indexes into `classes` throughout.
    rules: Vec<(String, usize)>,
    default: usize,
    patient: Option<usize>,
    clock_bound_days: u32,
    /// Both in the normalized form of tool names.
    exact: HashMap<String, usize>,
    patterns: Vec<(Glob, usize)>,
}

impl Default for RetentionPolicy {
    /// `financial`, 7 years: `charge_payment`, `issue_refund`, `apply_credit`. `healthcare`, 6 years:
    /// `access_patient_record`, `update_treatment`, and every call that touches a patient. Everything else is
    /// `general`, 1 year. Up to 7 days of unexplained time are credited to the expiry clock.
    fn default() -> RetentionPolicy {
        // A test builds it: the parts below are constants.
        PolicyBuilder::builtin().build().unwrap_or_else(|_| RetentionPolicy::keep_all())
    }
}

impl RetentionPolicy {
    /// Starts from the built-in policy ([`RetentionPolicy::default`]).
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::builtin()
    }

    /// The built-in policy plus what this preset demands.
    pub fn preset(preset: Preset) -> RetentionPolicy {
        PolicyBuilder::builtin().preset(preset).build().unwrap_or_else(|_| RetentionPolicy::keep_all())
    }

    /// The fallback if a policy cannot be built: keeps everything for the maximum period.
    fn keep_all() -> RetentionPolicy {
        RetentionPolicy {
            classes: vec![("general".to_owned(), Period::of_years(100))],
            rules: Vec::new(),
            default: 0,
            patient: None,
            clock_bound_days: 1,
            exact: HashMap::new(),
            patterns: Vec::new(),
        }
    }

    /// The class and the end of retention of a call of `tool`.
    ///
    /// `base` is the later of the time of recording and the expiry clock. A class that the caller requests replaces the
    /// policy's (the patients' class only if its period is longer); a requested class or time may only lengthen. The
    /// end is a whole second, or [`Timestamp::MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: the requested class is unknown, or the requested class or time is less than the
    /// policy demands. The message says what it demands.
    pub fn assign(
        &self,
        tool: &str,
        has_patient: bool,
        requested_class: Option<&str>,
        requested_until: Option<Timestamp>,
        base: Timestamp,
    ) -> Result<Retention> {
        let mut class = self.class_of_tool(tool);
        let mut period = self.period(class);
        let patient = self.patient.filter(|_| has_patient);
        // An entry names the class whose period applies to it.
        if let Some(patient) = patient.filter(|patient| self.period(*patient) >= period) {
            (class, period) = (patient, self.period(patient));
        }
        let demanded = (class, period);
        if let Some(name) = requested_class {
            let asked = self.position(name).ok_or_else(|| {
                let known: Vec<&str> = self.classes.iter().map(|(name, _)| name.as_str()).collect();
                Error::invalid(format!(
                    "retention_class: {} is not a class of the policy, which has {}",
                    shown(name),
                    known.join(", ")
                ))
            })?;
            if asked != class && Some(asked) != patient {
                if self.period(asked) < period {
                    return Err(Error::invalid(format!(
                        "retention_class: {name} keeps {}, but the policy demands {} for this call; it can only be lengthened",
                        self.period(asked),
                        self.described(demanded),
                    )));
                }
                // If the periods are equal, the patients' class is kept.
                if self.period(asked) > period || patient.is_none() {
                    (class, period) = (asked, self.period(asked));
                }
            }
        }
        let mut until = period.after(base);
        if let Some(asked) = requested_until {
            let asked = asked.ceil_to_second();
            if asked < until {
                return Err(Error::invalid(format!(
                    "retain_until: {asked} is before {until}, until which the policy keeps this call ({}); it can only be \
                     lengthened",
                    self.described((class, period)),
                )));
            }
            until = asked;
        }
        Ok(Retention { class: self.name(class).to_owned(), until })
    }

    /// How long this policy keeps a class, if it has that class.
    pub fn period_of(&self, class: &str) -> Option<Period> {
        self.position(class).map(|i| self.period(i))
    }

    /// The classes with their periods, by name.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = (&str, Period)> {
        self.classes.iter().map(|(name, period)| (name.as_str(), *period))
    }

    /// How much unexplained time is credited to the expiry clock before somebody must confirm it, in days.
    pub fn clock_bound_days(&self) -> u32 {
        self.clock_bound_days
    }

    /// The same as a duration, for the [`ExpiryClock`](super::ExpiryClock).
    pub fn clock_bound(&self) -> Duration {
        Duration::from_secs(u64::from(self.clock_bound_days) * 86_400)
    }

    /// Checks that this policy may replace `old`: it must keep every class of `old` at least as long, demand no less of
    /// any call, and not widen the clock bound.
    ///
    /// Rules are compared one by one and conservatively: what `old` demands for `charge_*` must be met by a single rule
    /// here whose pattern certainly covers all of `charge_*`, or by the default class. Several narrower patterns that
    /// cover it together are not combined.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] names the class or tool that would be kept for less, or the clock bound that would be wider.
    pub fn check_successor(&self, old: &RetentionPolicy) -> Result<()> {
        let refused = |what: String| {
            Err(Error::new(
                ErrorKind::Conflict,
                format!("{what}; a later policy can lengthen retention, never shorten it"),
            ))
        };
        for (name, was) in old.classes() {
            match self.period_of(name) {
                None => return refused(format!("class {name} ({was}) is missing")),
                Some(is) if is < was => {
                    return refused(format!(
                        "class {name} was kept {was} and would be kept {is}; what a policy leaves out has its default again, \
                         so write {name} = \"{was}\" into it"
                    ));
                }
                Some(_) => {}
            }
        }
        // The bound limits how far a clock that was set ahead can let entries expire.
        if self.clock_bound_days > old.clock_bound_days {
            return refused(format!(
                "clock_bound_days was {} and would be {}, so a clock that is set ahead could end retention sooner",
                old.clock_bound_days, self.clock_bound_days
            ));
        }
        let of_default = old.period(old.default);
        if self.period(self.default) < of_default {
            return refused(format!(
                "calls without a rule were kept {} and would be kept {}",
                old.described((old.default, of_default)),
                self.described((self.default, self.period(self.default)))
            ));
        }
        for (tool, class) in &self.rules {
            if self.period(*class) < of_default && !old.has_rule_for(tool) && self.surely_demanded(tool) < of_default {
                return refused(format!(
                    "tool {tool} had no rule, was kept {} and would be kept {}",
                    old.described((old.default, of_default)),
                    self.described((*class, self.period(*class)))
                ));
            }
        }
        for (tool, class) in &old.rules {
            let (was, is) = (old.period(*class), self.surely_demanded(tool));
            if is < was {
                let was = old.described((*class, was));
                return refused(match NamePattern::is_pattern(tool) {
                    true => format!("tools {tool} were kept {was}, and no one rule would keep them all more than {is}"),
                    false => format!("tool {tool} was kept {was} and would be kept {is}"),
                });
            }
        }
        if let Some(patient) = old.patient {
            let was = old.period(patient);
            let is = self.patient.map_or_else(|| self.least_demanded(|_| true), |p| self.period(p));
            if is < was {
                return refused(format!("calls that touch a patient were kept {was} and would be kept {is}"));
            }
        }
        Ok(())
    }

    /// The minimum demanded for every tool that `pattern` matches: by the best single rule that covers all of them; if
    /// there is none, the least that any rule or the default may demand.
    fn surely_demanded(&self, pattern: &str) -> Period {
        if !NamePattern::is_pattern(pattern) {
            return self.period(self.class_of_tool(pattern));
        }
        let form = tool_form(pattern);
        let fits = self.patterns.iter().filter(|(glob, _)| glob.covers(&form)).map(|(_, class)| self.period(*class));
        fits.max().unwrap_or_else(|| {
            let among = Glob::new(&form).ok();
            let matches = |tool: &str| among.as_ref().is_none_or(|glob| glob.matches(&tool_form(tool)));
            self.least_demanded(|tool| NamePattern::is_pattern(tool) || matches(tool))
        })
    }

    /// The least that the default, or any rule whose tool or pattern passes `concerned`, demands.
    fn least_demanded(&self, concerned: impl Fn(&str) -> bool) -> Period {
        let rules = self.rules.iter().filter(|(tool, _)| concerned(tool)).map(|(_, class)| self.period(*class));
        rules.fold(self.period(self.default), Period::min)
    }

    /// Whether every tool that `pattern` matches certainly has a rule.
    fn has_rule_for(&self, pattern: &str) -> bool {
        let form = tool_form(pattern);
        if !NamePattern::is_pattern(pattern) {
            return self.exact.contains_key(&form) || self.patterns.iter().any(|(glob, _)| glob.matches(&form));
        }
        self.patterns.iter().any(|(glob, _)| glob.covers(&form))
    }

    fn class_of_tool(&self, tool: &str) -> usize {
        let tool = tool_form(tool);
        let exact = self.exact.get(&tool).copied();
        let fits = self.patterns.iter().filter(|(glob, _)| glob.matches(&tool)).map(|(_, class)| *class);
        let longest = exact.into_iter().chain(fits).reduce(|a, b| if self.period(b) > self.period(a) { b } else { a });
        longest.unwrap_or(self.default)
    }

    fn position(&self, class: &str) -> Option<usize> {
        self.classes.binary_search_by(|(name, _)| name.as_str().cmp(class)).ok()
    }

    fn period(&self, class: usize) -> Period {
        self.classes.get(class).map_or(Period::of_years(100), |(_, period)| *period)
    }

    fn name(&self, class: usize) -> &str {
        self.classes.get(class).map_or("general", |(name, _)| name.as_str())
    }

    fn described(&self, (class, period): (usize, Period)) -> String {
        format!("{} ({period})", self.name(class))
    }

    /// The SHA-256 of the canonical form of [`RetentionPolicy::to_json`].
    pub fn digest(&self) -> Hash {
        Hash::of(self.to_json().to_canonical().as_str().as_bytes())
    }

    /// The whole policy, as in the entry that sets it: `classes` (name to period), `default`, `patient` (absent if
    /// patients make no difference), `rules` (each `tool` and `class`, in order) and `clock_bound_days`.
    pub fn to_json(&self) -> Json {
        let classes: Object = self.classes().map(|(name, period)| (name, period.to_string())).collect();
        let rules = self.rules.iter().map(|(tool, class)| {
            Json::from(Object::from_iter([("class", self.name(*class)), ("tool", tool.as_str())]))
        });
        let mut out = Object::new();
        out.insert("classes", classes);
        out.insert("clock_bound_days", self.clock_bound_days);
        out.insert("default", self.name(self.default));
        if let Some(patient) = self.patient {
            out.insert("patient", self.name(patient));
        }
        out.insert("rules", Json::Array(rules.collect()));
        out.into()
    }

    /// Parses the output of [`RetentionPolicy::to_json`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or invalid.
    pub fn from_json(value: &Json) -> Result<RetentionPolicy> {
        let mut members = Members::of(value)?;
        let mut builder = PolicyBuilder::empty();
        let Json::Object(classes) = members.required("classes")? else {
            return Err(Error::invalid("classes: must be an object"));
        };
        for (name, period) in classes {
            let period = text(period).and_then(|p| p.parse()).map_err(|e| e.at(format_args!("classes.{name}")))?;
            builder = builder.class(name, period);
        }
        for (tool, class) in members.list("rules", |rule| {
            let mut rule = Members::of(&rule)?;
            let pair = (rule.text("tool")?, rule.text("class")?);
            rule.end().map(|()| pair)
        })? {
            builder = builder.tool(tool, class);
        }
        builder = builder.default_class(members.text("default")?);
        if let Some(patient) = members.optional("patient") {
            builder = builder.patient_class(text(patient).map_err(|e| e.at("patient"))?);
        }
        let days = members.integer("clock_bound_days")?;
        builder = builder.clock_bound_days(u32::try_from(days).unwrap_or(u32::MAX));
        members.end()?;
        builder.build()
    }
}

/// The part of a policy that has an error, so that the reader of a text can give the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PolicyPart {
    Class(String),
    Rule(usize),
    Default,
    Patient,
    ClockBound,
    Whole,
}

/// Builds a [`RetentionPolicy`]; errors are reported by [`PolicyBuilder::build`].
///
/// ```
/// use attestlog::retention::{Period, Preset, RetentionPolicy};
/// let policy = RetentionPolicy::builder()
///     .preset(Preset::Hipaa)
///     .class("tax", Period::years(10)?)
///     .tool("invoice_*", "tax")
///     .build()?;
/// policy.check_successor(&RetentionPolicy::default())?;
/// assert!(RetentionPolicy::default().check_successor(&policy).is_err());
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a policy is finished by `build`"]
pub struct PolicyBuilder {
    /// With each period, whether it was set explicitly or only came from the built-in policy.
    classes: BTreeMap<String, (Period, bool)>,
    rules: Vec<(String, String)>,
    default: String,
    patient: Option<String>,
    presets: Vec<Preset>,
    clock_bound_days: u32,
}

pub(super) const FINANCIAL: &str = "financial";
pub(super) const HEALTHCARE: &str = "healthcare";
pub(super) const GENERAL: &str = "general";
pub(super) const FINANCIAL_TOOLS: &[&str] = &["charge_payment", "issue_refund", "apply_credit"];
pub(super) const HEALTHCARE_TOOLS: &[&str] = &["access_patient_record", "update_treatment"];

impl PolicyBuilder {
    /// A builder without classes and rules. The default class is `general`; a class with that name must be added.
    pub fn empty() -> PolicyBuilder {
        PolicyBuilder {
            classes: BTreeMap::new(),
            rules: Vec::new(),
            default: GENERAL.to_owned(),
            patient: None,
            presets: Vec::new(),
            clock_bound_days: DEFAULT_CLOCK_BOUND_DAYS,
        }
    }

    fn builtin() -> PolicyBuilder {
        let mut builder = PolicyBuilder::empty();
        let classes = [(GENERAL, 1), (FINANCIAL, 7), (HEALTHCARE, 6)];
        builder.classes.extend(classes.map(|(name, years)| (name.to_owned(), (Period::of_years(years), false))));
        builder.patient = Some(HEALTHCARE.to_owned());
        builder.rules_for(FINANCIAL_TOOLS, FINANCIAL);
        builder.rules_for(HEALTHCARE_TOOLS, HEALTHCARE);
        builder
    }

    /// Sets how long a class is kept.
    pub fn class(mut self, name: impl Into<String>, period: Period) -> Self {
        self.classes.insert(name.into(), (period, true));
        self
    }

    /// Assigns calls of this tool, or of tools that match this pattern (`*` any run of characters, `?` any one), to
    /// this class.
    pub fn tool(mut self, name_or_pattern: impl Into<String>, class: impl Into<String>) -> Self {
        self.rules.push((name_or_pattern.into(), class.into()));
        self
    }

    /// Assigns calls that touch a patient to this class.
    pub fn patient_class(mut self, class: impl Into<String>) -> Self {
        self.patient = Some(class.into());
        self
    }

    /// Assigns calls that match no rule to this class.
    pub fn default_class(mut self, class: impl Into<String>) -> Self {
        self.default = class.into();
        self
    }

    /// Sets how much unexplained time is credited to the expiry clock, 1 to 366 days.
    pub fn clock_bound_days(mut self, days: u32) -> Self {
        self.clock_bound_days = days;
        self
    }

    /// Adds what a preset demands: its class is kept at least for its period. A preset shortens nothing, not even
    /// built-in periods; to keep a class for the preset's period only, set it with [`PolicyBuilder::class`].
    pub fn preset(mut self, preset: Preset) -> Self {
        if !self.presets.contains(&preset) {
            self.presets.push(preset);
        }
        if let Some(class) = preset.class() {
            self.rules_for(preset.tools(), class);
            if class == HEALTHCARE && self.patient.is_none() {
                self.patient = Some(HEALTHCARE.to_owned());
            }
        }
        self
    }

    fn rules_for(&mut self, tools: &[&str], class: &str) {
        for tool in tools {
            let rule = ((*tool).to_owned(), class.to_owned());
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
        }
    }

    /// How many rules there are so far.
    #[cfg(feature = "config")]
    pub(super) fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Builds the policy.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: a class is named that does not exist, a name or pattern is not valid, there are too
    /// many classes, rules or patterns, the clock bound is not between 1 and 366 days, or a class is kept for less than
    /// a preset demands.
    pub fn build(self) -> Result<RetentionPolicy> {
        self.build_or_place().map_err(|(_, message)| Error::invalid(message))
    }

    pub(super) fn build_or_place(mut self) -> Result<RetentionPolicy, (PolicyPart, String)> {
        self.settle_presets()?;
        if self.classes.len() > MAX_CLASSES {
            return Err((PolicyPart::Whole, format!("a policy has at most {MAX_CLASSES} classes")));
        }
        if self.rules.len() > MAX_RULES {
            return Err((PolicyPart::Whole, format!("a policy has at most {MAX_RULES} rules")));
        }
        if !(1..=MAX_CLOCK_BOUND_DAYS).contains(&self.clock_bound_days) {
            return Err((PolicyPart::ClockBound, format!("clock_bound_days: between 1 and {MAX_CLOCK_BOUND_DAYS}")));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if let Some(name) =
            self.classes.keys().find(|n| n.is_empty() || n.len() > MAX_NAME_BYTES || !n.bytes().all(fits))
        {
            let message =
                format!("class {}: a name has 1 to {MAX_NAME_BYTES} letters, digits, -, _ and .", shown(name));
            return Err((PolicyPart::Class(name.clone()), message));
        }
        let classes: Vec<(String, Period)> =
            self.classes.into_iter().map(|(name, (period, _))| (name, period)).collect();
        let position = |name: &str, place: &dyn Fn() -> PolicyPart| {
            classes.binary_search_by(|(n, _)| n.as_str().cmp(name)).map_err(|_| {
                let known: Vec<&str> = classes.iter().map(|(name, _)| name.as_str()).collect();
                (place(), format!("{} is not a class of the policy, which has {}", shown(name), known.join(", ")))
            })
        };
        let default = position(&self.default, &|| PolicyPart::Default)?;
        let patient = self.patient.as_deref().map(|name| position(name, &|| PolicyPart::Patient)).transpose()?;
        let (mut rules, mut exact, mut patterns) = (Vec::new(), HashMap::new(), Vec::new());
        for (i, (tool, class)) in self.rules.into_iter().enumerate() {
            let class = position(&class, &|| PolicyPart::Rule(i))?;
            let wrong = |message: String| (PolicyPart::Rule(i), format!("tool {}: {message}", shown(&tool)));
            if tool.is_empty() || tool.len() > MAX_TOOL_BYTES || tool.contains('\0') {
                return Err(wrong(format!("a name has 1 to {MAX_TOOL_BYTES} bytes and no NUL")));
            }
            match NamePattern::of_tool(&tool).map_err(wrong)? {
                NamePattern::Pattern(glob) => patterns.push((glob, class)),
                NamePattern::Whole(form) => {
                    let known = exact.entry(form).or_insert(class);
                    if classes[class].1 > classes[*known].1 {
                        *known = class;
                    }
                }
            }
            rules.push((tool, class));
        }
        if patterns.len() > MAX_PATTERNS {
            return Err((PolicyPart::Whole, format!("a policy has at most {MAX_PATTERNS} patterns of tool names")));
        }
        Ok(RetentionPolicy {
            classes,
            rules,
            default,
            patient,
            clock_bound_days: self.clock_bound_days,
            exact,
            patterns,
        })
    }

    /// Gives each class that presets concern the longest period among them; refuses a class whose period was explicitly
    /// set shorter.
    fn settle_presets(&mut self) -> Result<(), (PolicyPart, String)> {
        let mut demanded: BTreeMap<&str, Preset> = BTreeMap::new();
        for &preset in &self.presets {
            let longest = demanded.entry(preset.class().unwrap_or(&self.default)).or_insert(preset);
            if preset.period() > longest.period() {
                *longest = preset;
            }
        }
        for (class, preset) in demanded {
            match self.classes.get_mut(class) {
                Some((period, true)) if *period < preset.period() => {
                    let message = format!(
                        "class {class}: {period} is less than the preset {preset} demands ({})",
                        preset.period()
                    );
                    return Err((PolicyPart::Class(class.to_owned()), message));
                }
                Some((_, true)) => {}
                // A built-in period may be longer than the preset's minimum: a preset shortens nothing.
                Some((period, false)) => *period = preset.period().max(*period),
                None => {
                    self.classes.insert(class.to_owned(), (preset.period(), false));
                }
            }
        }
        Ok(())
    }
}

//! An alert rule: which entries it considers, how it groups them, and how many of them are too many.

use super::hours::{Hours, Zone};
use crate::json::Json;
use crate::retention::NamePattern;
use crate::{Error, Result};
use attestlog_proof::entry::Facet;
use attestlog_proof::members::shown;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

const MAX_RULES: usize = 256;
const MAX_NAME_BYTES: usize = 64;
/// A window keeps at most as many events per key as the threshold.
const MAX_THRESHOLD: u32 = 10_000;
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);
const MAX_PERIODS: u32 = 100;
/// A rebuild reads back as far as the longest window, with the windows before it.
const MAX_REACH: Duration = Duration::from_secs(400 * 86_400);

/// How serious an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Worth a look when there is time.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// All severities.
    pub const ALL: &[Severity] = &[Severity::Info, Severity::Warning, Severity::Critical];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

attestlog_proof::named_form!(serde Severity, "severity");

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a rule groups its entries by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// A facet. An entry without it does not count; an entry with several patients counts for each.
    Facet(Facet),
    /// The emergency grant that a call names, or none, and how the grant does not cover the call, if it does not.
    Grant,
}

impl Part {
    /// The user who made the call.
    pub const USER: Part = Part::Facet(Facet::User);
    /// The patients of the call.
    pub const PATIENT: Part = Part::Facet(Facet::Patient);

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Facet(field) => field.as_str(),
            Part::Grant => "grant",
        }
    }

    /// The part with this name.
    pub fn from_name(name: &str) -> Option<Part> {
        match name {
            "grant" => Some(Part::Grant),
            _ => Facet::ALL.iter().find(|f| f.as_str() == name).map(|f| Part::Facet(*f)),
        }
    }
}

/// How many calls are too many.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Measure {
    /// This many calls within the window.
    Count(u32),
    /// This many different values of a facet within the window.
    Distinct(Facet, u32),
    /// More calls within the window than are usual for the same key.
    Baseline {
        /// The factor applied to the mean of the windows before.
        multiple: f64,
        /// The number of windows before that are considered.
        periods: u32,
        /// The least number of calls.
        at_least: u32,
    },
    /// A grant that was not reviewed within the rule's window after it was opened.
    Unreviewed,
    /// A scheduled verification that had findings.
    Tampering,
}

/// One alert rule, as a builder. An entry that meets all its conditions counts. When the count within the sliding
/// window reaches the threshold, one alert is raised; the next one only after the count has fallen below it.
///
/// The window is half-open (an event as old as the window is long is outside) and uses the store's clock:
/// `recorded_at`. A call recorded in two steps counts once. History does not count: imported calls, and calls that, by
/// their caller's clock, ended more than [`CLAIMED_TIME_BOUND`](attestlog_proof::entry::CLAIMED_TIME_BOUND) before they were
/// recorded. Since a caller could evade rules by stating old times, rules about emergencies and misused grants count the latter
/// too, and [`Rule::back_dated`] detects them.
///
/// ```
/// use attestlog::alert::{Part, Rule, Severity};
/// use std::time::Duration;
/// let rule = Rule::new("vip")
///     .summary("somebody opened a VIP's chart outside of treatment")
///     .severity(Severity::Critical)
///     .attribute("vip", true)
///     .except(attestlog::Facet::Purpose, "treatment")
///     .key([Part::USER, Part::PATIENT])
///     .window(Duration::from_secs(3600))
///     .count(1);
/// # let _ = rule;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a rule does nothing until it is one of an engine's rules"]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) summary: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) when: BTreeMap<Facet, Vec<String>>,
    pub(crate) except: BTreeMap<Facet, Vec<String>>,
    pub(crate) attributes: BTreeMap<String, Vec<Json>>,
    pub(crate) failed: Option<bool>,
    pub(crate) emergency: Option<bool>,
    pub(crate) misused_grant: bool,
    pub(crate) first_access: bool,
    pub(crate) back_dated: bool,
    pub(crate) off_hours: Option<Hours>,
    pub(crate) key: Vec<Part>,
    pub(crate) window: Duration,
    pub(crate) measure: Measure,
}

impl Rule {
    /// A rule that matches every call and fires at each user's first one within an hour. Its name is the first part of
    /// its alerts' ids.
    pub fn new(name: impl Into<String>) -> Rule {
        Rule {
            name: name.into(),
            summary: None,
            severity: Severity::Warning,
            when: BTreeMap::new(),
            except: BTreeMap::new(),
            attributes: BTreeMap::new(),
            failed: None,
            emergency: None,
            misused_grant: false,
            first_access: false,
            back_dated: false,
            off_hours: None,
            key: vec![Part::USER],
            window: Duration::from_secs(3600),
            measure: Measure::Count(1),
        }
    }

    /// What the rule means; the text is part of each of its alerts.
    pub fn summary(mut self, text: impl Into<String>) -> Rule {
        self.summary = Some(text.into());
        self
    }

    /// How serious it is. Default: a warning.
    pub fn severity(mut self, severity: Severity) -> Rule {
        self.severity = severity;
        self
    }

    /// Only calls with this value of a facet, or with another value given for the same facet. Users, patients and
    /// conversations are given by their clear values. `*` stands for any characters and `?` for one; tools are compared by
    /// their words, as [`RetentionPolicy`](crate::retention::RetentionPolicy) compares them.
    pub fn when(mut self, field: Facet, value: impl Into<String>) -> Rule {
        self.when.entry(field).or_default().push(value.into());
        self
    }

    /// Excludes calls with this value of a facet, which is compared as [`Rule::when`] compares it.
    pub fn except(mut self, field: Facet, value: impl Into<String>) -> Rule {
        self.except.entry(field).or_default().push(value.into());
        self
    }

    /// Only calls with this value of a member of the session's metadata, or of its member `attributes`; dots lead into
    /// objects. Several values for one name are alternatives.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Json>) -> Rule {
        self.attributes.entry(name.into()).or_default().push(value.into());
        self
    }

    /// Only calls that failed in any way (true), or only calls that did not (false).
    pub fn failed(mut self, failed: bool) -> Rule {
        self.failed = Some(failed);
        self
    }

    /// Only emergency calls (true), or only others (false).
    pub fn emergency(mut self, emergency: bool) -> Rule {
        self.emergency = Some(emergency);
        self
    }

    /// Only calls that name an emergency grant which does not cover them: expired, closed, or for another user or
    /// patient.
    pub fn misused_grant(mut self) -> Rule {
        self.misused_grant = true;
        self
    }

    /// Only a user's first access to a patient in this log.
    pub fn first_access(mut self) -> Rule {
        self.first_access = true;
        self
    }

    /// Only back-dated calls: not imported, and recorded more than [`CLAIMED_TIME_BOUND`](attestlog_proof::entry::CLAIMED_TIME_BOUND)
    /// after their end.
    pub fn back_dated(mut self) -> Rule {
        self.back_dated = true;
        self
    }

    /// Only calls that were recorded outside these hours.
    pub fn off_hours(mut self, working: Hours) -> Rule {
        self.off_hours = Some(working);
        self
    }

    /// What calls are grouped by: each combination of values is counted separately. Default: the user.
    pub fn key(mut self, parts: impl IntoIterator<Item = Part>) -> Rule {
        self.key = parts.into_iter().collect();
        self
    }

    /// The length of the window. Default: an hour.
    pub fn window(mut self, length: Duration) -> Rule {
        self.window = length;
        self
    }

    /// Fires at this many calls.
    pub fn count(self, calls: u32) -> Rule {
        self.measure(Measure::Count(calls))
    }

    /// Fires at this many different values of a facet.
    pub fn distinct(self, field: Facet, values: u32) -> Rule {
        self.measure(Measure::Distinct(field, values))
    }

    /// Fires according to this [`Measure`].
    pub fn measure(mut self, measure: Measure) -> Rule {
        self.measure = measure;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it fires.
    pub fn measured(&self) -> &Measure {
        &self.measure
    }

    /// Whether it also counts calls that are history.
    pub(crate) fn looks_at_history(&self) -> bool {
        self.back_dated || self.misused_grant || self.emergency == Some(true)
    }

    /// How far back entries can affect whether it fires.
    pub(crate) fn reach(&self) -> Duration {
        match self.measure {
            Measure::Baseline { periods, .. } => self.window.saturating_mul(periods + 1),
            Measure::Count(_) | Measure::Distinct(..) => self.window,
            Measure::Unreviewed | Measure::Tampering => Duration::ZERO,
        }
    }

    /// The first pattern by which it names values of this facet, and the member with it.
    pub(crate) fn pattern_of(&self, field: Facet) -> Option<(&'static str, &str)> {
        [("when", &self.when), ("except", &self.except)].into_iter().find_map(|(member, facets)| {
            let value = facets.get(&field)?.iter().find(|value| NamePattern::is_pattern(value))?;
            Some((member, value.as_str()))
        })
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        self.fault()
            .map_or(Ok(()), |(member, why)| Err(Error::invalid(format!("alert rule {:?}: {member} {why}", self.name))))
    }

    /// The first error in the rule: the member, and the reason.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        let name_ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES || !self.name.bytes().all(name_ok) {
            return Some(("name", format!("is 1 to {MAX_NAME_BYTES} of a-z, 0-9, -, _ and .")));
        }
        if self.window < Duration::from_secs(1) || self.window > MAX_WINDOW {
            return Some(("window", "is a second to 366 days".to_owned()));
        }
        if self.reach() > MAX_REACH {
            return Some(("window", "with all the windows before it is longer than 400 days".to_owned()));
        }
        let threshold = |n: u32| !(1..=MAX_THRESHOLD).contains(&n);
        match self.measure {
            Measure::Count(n) if threshold(n) => return Some(("count", format!("is 1 to {MAX_THRESHOLD}"))),
            Measure::Distinct(_, n) if threshold(n) => return Some(("distinct", format!("is 1 to {MAX_THRESHOLD}"))),
            Measure::Baseline { multiple, periods, at_least }
                if (!(1.0..=1e6).contains(&multiple) || !(1..=MAX_PERIODS).contains(&periods) || at_least == 0) =>
            {
                let message = format!("multiple is 1 to a million, periods 1 to {MAX_PERIODS}, at_least 1 or more");
                return Some(("baseline", message));
            }
            _ => {}
        }
        if self.key.is_empty() || self.key.len() > 8 || self.key.iter().collect::<BTreeSet<_>>().len() != self.key.len()
        {
            return Some(("key", "names one to eight different parts".to_owned()));
        }
        if self.key.contains(&Part::Facet(Facet::Resource)) {
            return Some(("key", "cannot have the resource, because one call may have several".to_owned()));
        }
        for (member, facets) in [("when", &self.when), ("except", &self.except)] {
            for (field, value) in facets.iter().flat_map(|(field, values)| values.iter().map(move |v| (field, v))) {
                if let Err(e) = pattern(*field, value) {
                    return Some((member, format!("names the {} {}: {e}", field.as_str(), shown(value))));
                }
            }
        }
        if let Some(Err(e)) = self.off_hours.as_ref().map(|hours| hours.zone.check()) {
            return Some(("off_hours", e.to_string()));
        }
        None
    }
}

/// A value that a rule names for a facet, to be compared with those of entries: tools by their words.
pub(crate) fn pattern(field: Facet, value: &str) -> std::result::Result<NamePattern, String> {
    match field {
        Facet::Tool => NamePattern::of_tool(value),
        _ => NamePattern::of_name(value),
    }
}

/// The rules of an engine, with distinct names, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(pub(crate) Vec<Rule>);

impl Default for Rules {
    fn default() -> Rules {
        Rules::built_in()
    }
}

impl Rules {
    /// No rules.
    pub fn none() -> Rules {
        Rules(Vec::new())
    }

    /// The default rules for privacy monitoring:
    ///
    /// | name | fires at |
    /// | --- | --- |
    /// | `same-patient-user` | 10 calls within an hour by one user about one patient |
    /// | `same-patient-anybody` | 10 calls within an hour about one patient |
    /// | `many-patients` | 50 different patients within an hour by one user |
    /// | `failures` | 10 calls of one user that failed or were refused within ten minutes |
    /// | `volume` | more than three times a user's own daily mean of two weeks, from 50 calls on |
    /// | `break-glass-used` | the first call under an emergency grant, or in an emergency without one |
    /// | `break-glass-misused` | a call under a grant that does not cover it |
    /// | `break-glass-unreviewed` | a grant that was not reviewed within 72 hours after it was opened |
    /// | `back-dated` | the first call within a day that states a time more than an hour before it was recorded |
    /// | `tampering` | a scheduled verification that had findings |
    ///
    /// Two more rules are off unless requested ([`Rules::optional`]): `first-access`, which fires at every first access
    /// of a user to a patient, and `off-hours`, which needs the users' time zone.
    pub fn built_in() -> Rules {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let day = 24 * hour;
        Rules(vec![
            Rule::new("same-patient-user")
                .summary("one user's calls about one patient")
                .key([Part::USER, Part::PATIENT])
                .window(hour)
                .count(10),
            Rule::new("same-patient-anybody")
                .summary("calls about one patient, whoever made them")
                .key([Part::PATIENT])
                .window(hour)
                .count(10),
            Rule::new("many-patients")
                .summary("different patients in one user's calls")
                .window(hour)
                .distinct(Facet::Patient, 50),
            Rule::new("failures")
                .summary("one user's calls that failed or were refused")
                .failed(true)
                .window(10 * minute)
                .count(10),
            Rule::new("volume")
                .summary("more calls in a day than this user usually makes")
                .window(day)
                .measure(Measure::Baseline { multiple: 3.0, periods: 14, at_least: 50 }),
            Rule::new("break-glass-used")
                .summary("emergency access was used")
                .severity(Severity::Critical)
                .emergency(true)
                .key([Part::USER, Part::Grant])
                .window(day)
                .count(1),
            Rule::new("break-glass-misused")
                .summary("an emergency grant was used that does not cover the call")
                .severity(Severity::Critical)
                .misused_grant()
                .key([Part::USER, Part::Grant])
                .window(hour)
                .count(1),
            Rule::new("break-glass-unreviewed")
                .summary("nobody has reviewed an emergency access")
                .window(72 * hour)
                .measure(Measure::Unreviewed),
            Rule::new("back-dated")
                .summary("calls that name a time long before they were recorded")
                .back_dated()
                .key([Part::Facet(Facet::Kind)])
                .window(day)
                .count(1),
            Rule::new("tampering")
                .summary("a verification of the log found something wrong")
                .severity(Severity::Critical)
                .measure(Measure::Tampering),
        ])
    }

    /// A rule that is not built in but known by name: `first-access` raises an alert at each user's first access to
    /// each patient in this log, which can be very many; `off-hours` at a user's first patient outside of Monday to
    /// Friday, 07:00 to 19:00, in a time zone that only the host knows: set it with [`Rule::off_hours`], or in a
    /// configuration file with `off_hours = { zone = … }`.
    pub fn optional(name: &str) -> Option<Rule> {
        let hour = Duration::from_secs(3600);
        match name {
            "first-access" => Some(
                Rule::new(name)
                    .summary("first access of this user to this patient")
                    .severity(Severity::Info)
                    .first_access()
                    .key([Part::USER, Part::PATIENT])
                    .window(hour)
                    .count(1),
            ),
            "off-hours" => Some(
                Rule::new(name)
                    .summary("patients' data outside of working hours")
                    .severity(Severity::Info)
                    .off_hours(Hours::new(Zone::unset()))
                    .window(12 * hour)
                    .distinct(Facet::Patient, 1),
            ),
            _ => None,
        }
    }

    /// Adds a rule; it replaces the rule with the same name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the rule has an invalid member, or there are too many rules.
    pub fn with(mut self, rule: Rule) -> Result<Rules> {
        rule.check()?;
        match self.0.iter().position(|r| r.name == rule.name) {
            Some(at) => self.0[at] = rule,
            None if self.0.len() >= MAX_RULES => {
                return Err(Error::invalid(format!("more than {MAX_RULES} alert rules")));
            }
            None => self.0.push(rule),
        }
        Ok(self)
    }

    /// Removes the rule with this name.
    pub fn without(mut self, name: &str) -> Rules {
        self.0.retain(|rule| rule.name != name);
        self
    }

    /// The rule with this name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.name == name)
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.0.iter()
    }
}

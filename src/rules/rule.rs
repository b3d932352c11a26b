//! What a rule says: which entries it looks at, by what it tells them apart, and when there are too many of them.

use super::hours::{Hours, Zone};
use crate::json::Json;
use crate::{Error, Result};
use attestlog_proof::entry::Facet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

const MAX_RULES: usize = 256;
const MAX_NAME_BYTES: usize = 64;
/// The events that a window keeps of each key are as many as the threshold.
const MAX_THRESHOLD: u32 = 10_000;
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);
const MAX_PERIODS: u32 = 100;
/// A rebuild reads as far back as the longest window.
const MAX_REACH: Duration = Duration::from_secs(400 * 86_400);

/// How bad it is.
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
    /// Every one of them.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// By what the entries that a rule looks at are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// A facet. An entry without it does not count, one with several patients counts for each.
    Facet(Facet),
    /// The emergency grant that a call names, or that it names none, and how it does not cover the call, if it does not.
    Grant,
}

impl Part {
    /// Who started the call.
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

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Part> {
        match name {
            "grant" => Some(Part::Grant),
            _ => Facet::ALL.iter().find(|f| f.as_str() == name).map(|f| Part::Facet(*f)),
        }
    }
}

/// When there are too many.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Measure {
    /// This many calls within the window.
    Count(u32),
    /// This many different values of a facet within the window.
    Distinct(Facet, u32),
    /// More calls within the window than the key itself usually has.
    Baseline {
        /// Times the mean of the windows before.
        multiple: f64,
        /// How many windows before are looked at.
        periods: u32,
        /// And at least this many calls.
        at_least: u32,
    },
    /// A grant that nobody reviewed, so long after it was opened (the window of the rule).
    Unreviewed,
    /// A scheduled verification that found something.
    Tampering,
}

/// One alert rule: a builder. An entry that fits all its conditions counts; where the count within the sliding window
/// reaches the threshold there is one alert, and the next one only after it has fallen below.
///
/// The window is half-open (an event is out of it exactly when it is as old as the window is long), on the store's
/// clock: `recorded_at`. A call that was recorded in two steps counts once. History does not count: what an import read
/// from a recording, and calls that ended more than [`CLAIMED_TIME_BOUND`](crate::CLAIMED_TIME_BOUND) before they were
/// recorded, by their caller's clock. Since a caller could evade rules by giving old times, rules about emergencies and
/// misused grants look at these as well, and [`Rule::back_dated`] notices them.
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
    /// A rule that fires at every call: by the first within an hour of each user. Its name is the first part of its
    /// alerts' ids.
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

    /// What it means, in words that stand in each of its alerts.
    pub fn summary(mut self, text: impl Into<String>) -> Rule {
        self.summary = Some(text.into());
        self
    }

    /// How bad it is. Default: a warning.
    pub fn severity(mut self, severity: Severity) -> Rule {
        self.severity = severity;
        self
    }

    /// Only calls with this value of a facet, or another one that was given for it. Users, patients and conversations are
    /// named by their clear values.
    pub fn when(mut self, field: Facet, value: impl Into<String>) -> Rule {
        self.when.entry(field).or_default().push(value.into());
        self
    }

    /// No calls with this value of a facet.
    pub fn except(mut self, field: Facet, value: impl Into<String>) -> Rule {
        self.except.entry(field).or_default().push(value.into());
        self
    }

    /// Only calls of which the host says this: a member of the session's metadata, or of its member `attributes`; dots go
    /// into objects. Other values given for the same name are alternatives.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Json>) -> Rule {
        self.attributes.entry(name.into()).or_default().push(value.into());
        self
    }

    /// Only calls that failed, in whichever way, or only those that did not.
    pub fn failed(mut self, failed: bool) -> Rule {
        self.failed = Some(failed);
        self
    }

    /// Only calls in an emergency, or only others.
    pub fn emergency(mut self, emergency: bool) -> Rule {
        self.emergency = Some(emergency);
        self
    }

    /// Only calls that name an emergency grant which does not cover them: expired, closed, another user's or patient's.
    pub fn misused_grant(mut self) -> Rule {
        self.misused_grant = true;
        self
    }

    /// Only the first access that the log knows of a user to a patient.
    pub fn first_access(mut self) -> Rule {
        self.first_access = true;
        self
    }

    /// Only calls that their caller dated back: not read by an import, and recorded more than
    /// [`CLAIMED_TIME_BOUND`](crate::CLAIMED_TIME_BOUND) after their end.
    pub fn back_dated(mut self) -> Rule {
        self.back_dated = true;
        self
    }

    /// Only calls that were recorded outside of these hours.
    pub fn off_hours(mut self, working: Hours) -> Rule {
        self.off_hours = Some(working);
        self
    }

    /// By what calls are told apart: each combination has a count of its own. Default: by user.
    pub fn key(mut self, parts: impl IntoIterator<Item = Part>) -> Rule {
        self.key = parts.into_iter().collect();
        self
    }

    /// How long the window is. Default: an hour.
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

    /// Fires as [`Measure`] says.
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

    /// Whether it looks at calls that are history.
    pub(crate) fn looks_at_history(&self) -> bool {
        self.back_dated || self.misused_grant || self.emergency == Some(true)
    }

    /// How far back entries can bear on whether it fires.
    pub(crate) fn reach(&self) -> Duration {
        match self.measure {
            Measure::Baseline { periods, .. } => self.window.saturating_mul(periods + 1),
            Measure::Count(_) | Measure::Distinct(..) => self.window,
            Measure::Unreviewed | Measure::Tampering => Duration::ZERO,
        }
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        self.fault()
            .map_or(Ok(()), |(member, why)| Err(Error::invalid(format!("alert rule {:?}: {member} {why}", self.name))))
    }

    /// What is wrong with it: the member, and why.
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
        if let Some(Err(e)) = self.off_hours.as_ref().map(|hours| hours.zone.check()) {
            return Some(("off_hours", e.to_string()));
        }
        None
    }
}

/// The rules of an engine: different names, in order.
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

    /// The rules that privacy monitoring starts from:
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
    /// | `break-glass-unreviewed` | a grant that nobody reviewed 72 hours after it was opened |
    /// | `back-dated` | the first call within a day that names a time more than an hour before it was recorded |
    /// | `tampering` | a scheduled verification that found something |
    ///
    /// Two more are known by name and off until they are asked for ([`Rules::optional`]): `first-access`, which fires at
    /// every first access of a user to a patient, and `off-hours`, which needs the time zone of those who work there.
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

    /// A rule that is known by name and is none of the built-in ones: `first-access`, which raises an alert at the first
    /// access of a user to a patient that the log knows, so many that it must be asked for; `off-hours`, at a user's first
    /// patient outside of Monday to Friday, 07:00 to 19:00, in a time zone that only the host knows: give it one with
    /// [`Rule::off_hours`], in a configuration file with `off_hours = { zone = … }`.
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

    /// These rules and one more; it takes the place of one of the same name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the rule says something that it cannot mean, or there are too many.
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

    /// These rules without the one of that name.
    pub fn without(mut self, name: &str) -> Rules {
        self.0.retain(|rule| rule.name != name);
        self
    }

    /// The rule of that name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.name == name)
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.0.iter()
    }
}

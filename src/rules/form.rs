//! Rules as JSON: the form in the log's policy entry, to which configuration files are converted. Writing and reading
//! are side by side; every error gives the path of the wrong member.

use super::hours::{DAYS, Hours, Zone};
use super::rule::{Measure, Part, Rule, Rules};
use crate::json::{Json, Number, Object};
use crate::{Error, Result};
use attestlog_proof::entry::Facet;
use chrono::NaiveDate;
use std::collections::BTreeMap;
use std::time::Duration;

/// An error, and the member of the rule that is wrong; the member `""` is the rule itself.
#[derive(Debug)]
pub(crate) struct Fault {
    pub member: String,
    pub message: String,
}

fn fault<T>(member: &str, message: impl Into<String>) -> std::result::Result<T, Fault> {
    Err(Fault { member: member.to_owned(), message: message.into() })
}

/// The members that a rule can have.
pub(crate) const MEMBERS: [&str; 20] = [
    "name",
    "summary",
    "severity",
    "when",
    "except",
    "attributes",
    "failed",
    "emergency",
    "misused_grant",
    "first_access",
    "back_dated",
    "off_hours",
    "key",
    "window",
    "count",
    "distinct",
    "baseline",
    "unreviewed",
    "tampering",
    "enabled",
];

impl Rules {
    /// The rules in the form of the log's policy entry.
    pub fn to_json(&self) -> Json {
        Json::Array(self.0.iter().map(|rule| Json::from(rule.to_json())).collect())
    }

    /// Reads the output of [`Rules::to_json`].
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) names the rule and the member that is unknown or wrong.
    pub fn from_json(value: &Json) -> Result<Rules> {
        let list = value.as_array().ok_or_else(|| Error::invalid("alerts: must be a list"))?;
        list.iter().enumerate().try_fold(Rules::none(), |rules, (i, value)| {
            let members = value.as_object().ok_or_else(|| Error::invalid(format!("alerts[{i}]: must be an object")))?;
            let mut rule = Rule::new("");
            for (member, value) in members.iter() {
                rule.set(member, value)
                    .map_err(|f| Error::invalid(format!("alerts[{i}].{}: {}", f.member, f.message)))?;
            }
            // Not checked here: a zone that this build does not know must not keep a log from being opened. An engine
            // refuses it.
            Ok(Rules([rules.0, vec![rule]].concat()))
        })
    }
}

impl Rule {
    fn to_json(&self) -> Object {
        let mut out = Object::from_iter([
            ("name", Json::from(self.name.as_str())),
            ("severity", self.severity.as_str().into()),
            ("key", self.key.iter().map(|part| part.as_str().to_owned()).collect::<Vec<_>>().into()),
            ("window", span(self.window).into()),
        ]);
        if let Some(summary) = &self.summary {
            out.insert("summary", summary.as_str());
        }
        for (member, facets) in [("when", &self.when), ("except", &self.except)] {
            if !facets.is_empty() {
                let facets = facets.iter().map(|(field, values)| (field.as_str(), Json::from(values.clone())));
                out.insert(member, facets.collect::<Object>());
            }
        }
        if !self.attributes.is_empty() {
            let attributes = self.attributes.iter().map(|(name, values)| (name.as_str(), Json::Array(values.clone())));
            out.insert("attributes", attributes.collect::<Object>());
        }
        for (member, flag) in [("failed", self.failed), ("emergency", self.emergency)] {
            if let Some(flag) = flag {
                out.insert(member, flag);
            }
        }
        let conditions = [
            ("misused_grant", self.misused_grant),
            ("first_access", self.first_access),
            ("back_dated", self.back_dated),
        ];
        for (member, raised) in conditions {
            if raised {
                out.insert(member, true);
            }
        }
        if let Some(hours) = &self.off_hours {
            out.insert("off_hours", hours.to_json());
        }
        match self.measure {
            Measure::Count(n) => _ = out.insert("count", u64::from(n)),
            Measure::Distinct(field, n) => {
                let distinct = [("facet", Json::from(field.as_str())), ("count", u64::from(n).into())];
                out.insert("distinct", Object::from_iter(distinct));
            }
            Measure::Baseline { multiple, periods, at_least } => {
                let baseline = [
                    ("multiple", Number::from_f64(multiple).map_or(Json::Null, Json::Number)),
                    ("periods", u64::from(periods).into()),
                    ("at_least", u64::from(at_least).into()),
                ];
                out.insert("baseline", Object::from_iter(baseline));
            }
            Measure::Unreviewed => _ = out.insert("unreviewed", true),
            Measure::Tampering => _ = out.insert("tampering", true),
        }
        out
    }

    /// Sets one member. `enabled` occurs only in configuration files, which handle it themselves.
    pub(crate) fn set(&mut self, member: &str, value: &Json) -> std::result::Result<(), Fault> {
        match member {
            "name" => self.name = text(member, value)?.to_owned(),
            "summary" => self.summary = Some(text(member, value)?.to_owned()),
            "severity" => match text(member, value)?.parse() {
                Ok(severity) => self.severity = severity,
                Err(_) => return fault(member, "is one of info, warning, critical"),
            },
            "when" => self.when = facets(member, value)?,
            "except" => self.except = facets(member, value)?,
            "attributes" => self.attributes = attributes(member, value)?,
            "failed" => self.failed = Some(flag(member, value)?),
            "emergency" => self.emergency = Some(flag(member, value)?),
            "misused_grant" => self.misused_grant = flag(member, value)?,
            "first_access" => self.first_access = flag(member, value)?,
            "back_dated" => self.back_dated = flag(member, value)?,
            "off_hours" => self.off_hours = Some(hours(member, value)?),
            "key" => {
                let read = |part: &str| match Part::from_name(part) {
                    Some(part) => Ok(part),
                    None => {
                        fault(member, format!("{} is not a facet; the facets are {}, grant", shown(part), fields()))
                    }
                };
                self.key = texts(member, value)?.into_iter().map(read).collect::<std::result::Result<_, _>>()?;
            }
            "window" => match parse_duration(text(member, value)?) {
                Ok(window) => self.window = window,
                Err(e) => return fault(member, e.to_string()),
            },
            "count" => self.measure = Measure::Count(number(member, value)?),
            "distinct" => {
                let [facet, count] = parts(member, value, ["facet", "count"])?;
                let count = number(&format!("{member}.count"), count)?;
                self.measure = Measure::Distinct(field(&format!("{member}.facet"), facet)?, count);
            }
            "baseline" => {
                let [multiple, periods, at_least] = parts(member, value, ["multiple", "periods", "at_least"])?;
                let Some(multiple) = multiple.as_f64() else { return fault("baseline.multiple", "is a number") };
                let periods = number("baseline.periods", periods)?;
                self.measure =
                    Measure::Baseline { multiple, periods, at_least: number("baseline.at_least", at_least)? };
            }
            "unreviewed" if flag(member, value)? => self.measure = Measure::Unreviewed,
            "tampering" if flag(member, value)? => self.measure = Measure::Tampering,
            "unreviewed" | "tampering" => {}
            _ => {
                return fault(
                    member,
                    format!("is not a member of an alert rule; the members are {}", MEMBERS.join(", ")),
                );
            }
        }
        Ok(())
    }
}

impl Hours {
    fn to_json(&self) -> Object {
        let days = DAYS.iter().zip(self.days).filter(|(_, works)| *works).map(|(day, _)| (*day).to_owned());
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let holidays = self.holidays.iter().map(NaiveDate::to_string).collect::<Vec<_>>();
        Object::from_iter([
            ("zone", Json::from(self.zone.as_str())),
            ("days", days.collect::<Vec<_>>().into()),
            ("from", clock(self.from).into()),
            ("to", clock(self.to).into()),
            ("holidays", holidays.into()),
        ])
    }
}

fn hours(member: &str, value: &Json) -> std::result::Result<Hours, Fault> {
    let Json::Object(members) = value else { return fault(member, "is a table with zone, days, from, to, holidays") };
    let mut hours = Hours::new(Zone::unset());
    for (key, value) in members.iter() {
        let at = format!("{member}.{key}");
        let made = match key {
            "zone" => {
                hours.zone = Zone::recorded(text(&at, value)?);
                continue;
            }
            "days" => hours.clone().days(texts(&at, value)?),
            "from" => hours.clone().between(text(&at, value)?, "24:00").map(|h| Hours { to: hours.to, ..h }),
            "to" => hours.clone().between("00:00", text(&at, value)?).map(|h| Hours { from: hours.from, ..h }),
            "holidays" => texts(&at, value)?.into_iter().try_fold(hours.clone(), Hours::holiday),
            _ => return fault(&at, "is not a member of off_hours; the members are zone, days, from, to, holidays"),
        };
        hours = made.or_else(|e| fault(&at, e.to_string()))?;
    }
    Ok(hours)
}

fn facets(member: &str, value: &Json) -> std::result::Result<BTreeMap<Facet, Vec<String>>, Fault> {
    let Json::Object(members) = value else { return fault(member, "is a table of facets") };
    let one = |(name, values): (&str, &Json)| {
        let at = format!("{member}.{name}");
        let field = field(&at, &name.into())?;
        Ok((field, texts(&at, values)?.into_iter().map(str::to_owned).collect()))
    };
    members.iter().map(one).collect()
}

fn attributes(member: &str, value: &Json) -> std::result::Result<BTreeMap<String, Vec<Json>>, Fault> {
    let Json::Object(members) = value else { return fault(member, "is a table of attributes") };
    let mut found = BTreeMap::new();
    for (name, value) in members.iter() {
        match value {
            // TOML's dotted keys are nested tables.
            Json::Object(_) => {
                let inner = attributes(&format!("{member}.{name}"), value)?;
                found.extend(inner.into_iter().map(|(rest, values)| (format!("{name}.{rest}"), values)));
            }
            Json::Array(values) => _ = found.insert(name.to_owned(), values.clone()),
            value => _ = found.insert(name.to_owned(), vec![value.clone()]),
        }
    }
    Ok(found)
}

fn fields() -> String {
    Facet::ALL.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ")
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn field(member: &str, value: &Json) -> std::result::Result<Facet, Fault> {
    let name = text(member, value)?;
    match Facet::ALL.iter().find(|f| f.as_str() == name) {
        Some(field) => Ok(*field),
        None => fault(member, format!("{} is not a facet; the facets are {}", shown(name), fields())),
    }
}

fn text<'a>(member: &str, value: &'a Json) -> std::result::Result<&'a str, Fault> {
    value.as_str().map_or_else(|| fault(member, format!("is a string, not {}", value.type_name())), Ok)
}

fn texts<'a>(member: &str, value: &'a Json) -> std::result::Result<Vec<&'a str>, Fault> {
    match value {
        Json::Array(items) => items.iter().map(|item| text(member, item)).collect(),
        one => Ok(vec![text(member, one)?]),
    }
}

fn flag(member: &str, value: &Json) -> std::result::Result<bool, Fault> {
    value.as_bool().map_or_else(|| fault(member, format!("is true or false, not {}", value.type_name())), Ok)
}

fn number(member: &str, value: &Json) -> std::result::Result<u32, Fault> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.map_or_else(|| fault(member, "is a whole number from 0 to 4294967295"), Ok)
}

/// The given members of an object, which must have no others.
fn parts<'a, const N: usize>(
    member: &str,
    value: &'a Json,
    keys: [&str; N],
) -> std::result::Result<[&'a Json; N], Fault> {
    let Json::Object(members) = value else { return fault(member, format!("is a table with {}", keys.join(", "))) };
    if let Some((key, _)) = members.iter().find(|(key, _)| !keys.contains(key)) {
        return fault(&format!("{member}.{key}"), format!("is not known here; there are {}", keys.join(", ")));
    }
    let mut found = [value; N];
    for (slot, key) in found.iter_mut().zip(keys) {
        match members.get(key) {
            Some(value) => *slot = value,
            None => return fault(member, format!("{key} is missing")),
        }
    }
    Ok(found)
}

/// A duration as [`parse_duration`] reads it, in its largest unit.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let unit = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)].into_iter().find(|(_, n)| seconds.is_multiple_of(*n));
    unit.map_or_else(|| format!("{seconds}s"), |(name, n)| format!("{}{name}", seconds / n))
}

/// Parses a duration: whole numbers with `d`, `h`, `m` or `s`, such as `90s`, `1h30m` or `14d`.
///
/// ```
/// use attestlog::alert::parse_duration;
/// assert_eq!(parse_duration("1h30m")?.as_secs(), 5400);
/// assert!(parse_duration("soon").is_err());
/// # Ok::<(), attestlog::Error>(())
/// ```
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let bad = || Error::invalid("a length of time is written like 90s, 10m, 1h30m or 14d");
    if text.is_empty() || text.len() > 32 {
        return Err(bad());
    }
    let (mut sum, mut rest, mut last) = (0u64, text, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let (unit, after) = after.split_at_checked(1).ok_or_else(bad)?;
        let unit = match unit {
            "d" => 86_400,
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return Err(bad()),
        };
        // Each unit once, the largest first: `5m1h` is probably a mistake.
        if unit >= last {
            return Err(bad());
        }
        let number: u64 = number.parse().map_err(|_| bad())?;
        sum = number.checked_mul(unit).and_then(|n| sum.checked_add(n)).ok_or_else(bad)?;
        (rest, last) = (after, unit);
    }
    Ok(Duration::from_secs(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_comes_back_from_its_json() {
        let hours = Hours::new(Zone::utc()).between("22:00", "06:00").unwrap().holiday("2025-12-25").unwrap();
        let rule = Rule::new("r")
            .when(Facet::Tool, "a")
            .when(Facet::Tool, "b")
            .except(Facet::Purpose, "treatment")
            .attribute("vip", true)
            .attribute("care.relationship", "none")
            .failed(false)
            .off_hours(hours);
        let rules = Rules::built_in().with(rule).unwrap();
        assert_eq!(Rules::from_json(&rules.to_json()).unwrap(), rules);
    }
}

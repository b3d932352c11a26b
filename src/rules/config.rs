//! Rules as people write them: the `[[alerts]]` tables of a TOML file. Every error gives the file, line and column.
//!
//! ```toml
//! [[alerts]]
//! name = "same-patient-user"    # the name of a built-in rule: the members given here change it
//! count = 20
//!
//! [[alerts]]
//! name = "off-hours"
//! off_hours = { zone = "Europe/Berlin", days = ["mon", "tue", "wed", "thu", "fri"], from = "07:00", to = "19:00", holidays = ["2025-12-25"] }
//!
//! [[alerts]]
//! name = "failures"
//! enabled = false               # name = "*": all rules so far
//!
//! [[alerts]]
//! name = "first-access"         # a known rule that is off unless named
//!
//! [[alerts]]
//! name = "vip"                  # any other name: a new rule
//! severity = "critical"
//! attributes.vip = true         # set by the host in session_metadata
//! when = { tool = ["read_chart", "search_charts"] }
//! except = { purpose = "treatment" }
//! key = ["user", "patient"]
//! window = "1h"
//! count = 1                     # or distinct = { facet = "patient", count = 50 }
//!                               # or baseline = { multiple = 3.0, periods = 14, at_least = 50 }
//! ```

use super::form::{Fault, MEMBERS};
use super::rule::{Measure, Rule, Rules};
use crate::Result;
use crate::json::{Json, Number, Object};
use crate::toml_reader::{At, Document, Entries, listed};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;

impl Rules {
    /// The built-in rules, as changed by the `[[alerts]]` tables of a configuration file; `file` is its name in errors.
    /// Other tables are ignored here.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with file, line and column: the text is not TOML, or a member,
    /// facet or time zone is unknown or wrong.
    ///
    /// ```
    /// use attestlog::alert::Rules;
    /// let rules = Rules::from_toml("[[alerts]]\nname = 'failures'\ncount = 5\n", "store.toml")?;
    /// assert_eq!(rules.iter().len(), Rules::built_in().iter().len());
    /// let error = Rules::from_toml("[[alerts]]\nname = 'x'\ncolour = 'red'\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:3:1: "), "{error}");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<Rules> {
        Rules::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<Rules> {
        let tables = document.section::<Vec<Section>>("alerts")?.unwrap_or_default();
        let mut named = Vec::new();
        tables
            .into_iter()
            .enumerate()
            .try_fold(Rules::built_in(), |rules, (number, table)| rule(rules, number, table, &mut named, document))
    }
}

/// An `[[alerts]]` table: the members that a rule has in the log's policy entry, and `enabled`.
type Section = At<Entries<Value>>;

/// A value of TOML as JSON.
struct Value(Json);

/// One rule after the others.
fn rule(
    rules: Rules,
    number: usize,
    table: Section,
    named: &mut Vec<String>,
    document: &Document<'_>,
) -> Result<Rules> {
    let members = table.value.0;
    let (name, at) = match members.iter().find(|(key, _)| key.value == "name") {
        None => return Err(document.error(&table.spot, "an alert rule needs a name")),
        Some((_, At { value: Value(Json::String(name)), spot })) => (name.clone(), spot.clone()),
        Some((_, name)) => return Err(document.error(&name.spot, "name is a string")),
    };
    if named.contains(&name) {
        return Err(document.error(&at, format_args!("there are two rules {name:?}")));
    }
    named.push(name.clone());
    // What the rule lacks stands nowhere; its name is nearest, also where the file has many rules.
    let place = |fault: Fault| {
        let spot = document.spot("alerts", number, &fault.member).unwrap_or_else(|| at.clone());
        document.error(&spot, format_args!("{} {}", fault.member, fault.message))
    };
    let known = known_names();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    // Also after `*`: a built-in rule that is named again is itself.
    let known_rule = || Rules::built_in().get(&name).cloned().or_else(|| Rules::optional(&name));
    let mut rule = rules.get(&name).cloned().or_else(known_rule).unwrap_or_else(|| Rule::new(&name));
    let (mut enabled, mut measure) = (true, None);
    for (key, At { value: Value(value), spot }) in members {
        let member = key.value;
        if let Some(of_rules) = MEMBERS.iter().find(|known| **known == member) {
            if matches!(*of_rules, "count" | "distinct" | "baseline" | "unreviewed" | "tampering")
                && let Some(other) = measure.replace(*of_rules)
            {
                return Err(document.error(&key.spot, format_args!("{other} and {member} exclude each other")));
            }
        } else {
            let known = listed(&member, &MEMBERS);
            return Err(document.error(&key.spot, format_args!("unknown key {member:?}; an alert rule has {known}")));
        }
        match value {
            Json::Bool(flag) if member == "enabled" => enabled = flag,
            _ if member == "enabled" => return Err(document.error(&spot, "enabled is true or false")),
            value => rule.set(&member, &value).map_err(place)?,
        }
    }
    let is_known = name == "*" || known.contains(&&*name);
    if !enabled && !is_known {
        let known = listed(&name, &known);
        return Err(
            document.error(&at, format_args!("there is no alert rule {name:?} to switch off; there are {known}"))
        );
    }
    if !enabled {
        return Ok(if name == "*" { Rules::none() } else { rules.without(&name) });
    }
    if let Some((member, message)) = rule.fault() {
        // What is within is closer than what holds it.
        let zone = || document.spot("alerts", number, "off_hours.zone").is_some_and(|at| at.member.ends_with(".zone"));
        let member = if member == "off_hours" && zone() { "off_hours.zone" } else { member };
        return Err(place(Fault { member: member.to_owned(), message }));
    }
    // A misspelt name would make a second rule, which any call fires.
    let takes_every_call = !is_known && takes_every_call(&rule);
    let rules = rules.with(rule).map_err(|e| document.place(&at, e))?;
    if takes_every_call {
        let known = listed(&name, &known);
        let what = format_args!(
            "{name:?} is not a built-in alert rule (these are {known}), and it has no condition of its own, so any call would count: say \
             which calls count (`when = {{ kind = \"tool_call\" }}` if it is to be every call)"
        );
        return Err(document.error(&at, what));
    }
    Ok(rules)
}

/// The names of the rules that are built in or known ([`Rules::optional`]).
fn known_names() -> Vec<String> {
    let built_in = Rules::built_in().0.into_iter().map(|rule| rule.name);
    built_in.chain(["first-access", "off-hours"].map(str::to_owned)).collect()
}

/// Whether every call counts: the rule has no condition, and counts calls.
fn takes_every_call(rule: &Rule) -> bool {
    let named = rule.when.is_empty() && rule.except.is_empty() && rule.attributes.is_empty();
    let is = rule.failed.is_some() || rule.emergency.is_some() || rule.off_hours.is_some();
    let flags = rule.misused_grant || rule.first_access || rule.back_dated;
    named && !is && !flags && matches!(rule.measure, Measure::Count(_))
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value(text.into()))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
                Ok(Value(flag.into()))
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
                let wanted = "a number that can be kept exactly";
                let number = Number::from_i64(n).map(Json::Number).map(Value);
                number.ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &wanted))
            }

            fn visit_f64<E: Error>(self, x: f64) -> Result<Value, E> {
                let number = Number::from_f64(x).map(Json::Number).map(Value);
                number.ok_or_else(|| E::invalid_value(Unexpected::Float(x), &"a number that is finite"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Value(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value(list.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut object = Object::new();
                while let Some((key, Value(value))) = members.next_entry::<String, Value>()? {
                    object.insert(key, value);
                }
                Ok(Value(object.into()))
            }
        }
        from.deserialize_any(Any)
    }
}

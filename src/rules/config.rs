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
use super::rule::{Rule, Rules};
use crate::json::{Json, Number, Object};
use crate::{Error, Result};
use std::collections::HashMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

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
        let source = Source { text, file };
        let root =
            DeTable::parse(text).map_err(|e| source.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
        let Some(list) = root.get_ref().get("alerts") else { return Ok(Rules::built_in()) };
        let Some(list_of) = list.get_ref().as_array() else {
            return Err(source.error(list.span().start, "alerts is a list of tables: write [[alerts]]".to_owned()));
        };
        let mut rules = Rules::built_in();
        let mut named: Vec<String> = Vec::new();
        for table in list_of.iter() {
            rules = source.rule(rules, table, &mut named)?;
        }
        Ok(rules)
    }
}

struct Source<'t> {
    text: &'t str,
    file: &'t str,
}

impl Source<'_> {
    fn rule(&self, rules: Rules, table: &Spanned<DeValue<'_>>, named: &mut Vec<String>) -> Result<Rules> {
        let at = table.span().start;
        let Some(members) = table.get_ref().as_table() else {
            return Err(self.error(at, "an alert rule is a table".to_owned()));
        };
        let Some(name) = members.get("name") else {
            return Err(self.error(at, "an alert rule needs a name".to_owned()));
        };
        let Some(text) = name.get_ref().as_str() else {
            return Err(self.error(name.span().start, "name is a string".to_owned()));
        };
        if named.iter().any(|n| n == text) {
            return Err(self.error(name.span().start, format!("there are two rules {text:?}")));
        }
        named.push(text.to_owned());
        // A missing member has no place in the file, so the error points at the rule's name.
        let at = name.span().start;
        let mut rule = rules.get(text).cloned().or_else(|| Rules::optional(text)).unwrap_or_else(|| Rule::new(text));
        let mut enabled = true;
        let mut measure = None;
        let mut places = HashMap::new();
        for (key, value) in members {
            let member = key.get_ref().as_ref();
            if !MEMBERS.contains(&member) {
                let message = format!("{member:?} is no member of an alert rule; there are {}", MEMBERS.join(", "));
                return Err(self.error(key.span().start, message));
            }
            if member == "enabled" {
                let flag = value.get_ref().as_bool();
                enabled = flag.ok_or_else(|| self.error(value.span().start, "enabled is true or false".to_owned()))?;
                continue;
            }
            if matches!(member, "count" | "distinct" | "baseline" | "unreviewed" | "tampering")
                && let Some(other) = measure.replace(member)
            {
                return Err(self.error(key.span().start, format!("{other} and {member} exclude each other")));
            }
            let json = self.json(member, value, &mut places)?;
            rule.set(member, &json).map_err(|fault| self.fault(fault, &places, at))?;
        }
        if !enabled {
            return Ok(if text == "*" { Rules::none() } else { rules.without(text) });
        }
        if let Some((member, why)) = rule.fault() {
            // Point at the inner member if there is one.
            let zone = format!("{member}.zone");
            let member = if places.contains_key(&zone) { zone } else { member.to_owned() };
            return Err(self.fault(Fault { member, message: why }, &places, at));
        }
        rules.with(rule).map_err(|e| self.error(at, e.to_string()))
    }

    /// The value as JSON; `places` gets the place of each of its members.
    fn json(&self, path: &str, value: &Spanned<DeValue<'_>>, places: &mut HashMap<String, usize>) -> Result<Json> {
        let at = value.span().start;
        places.insert(path.to_owned(), at);
        let wrong = |what: &str| self.error(at, format!("{path} {what}"));
        Ok(match value.get_ref() {
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Integer(n) => {
                let n = i64::from_str_radix(n.as_str(), n.radix()).ok().and_then(Number::from_i64);
                Json::Number(n.ok_or_else(|| wrong("is beyond the numbers that can be kept exactly"))?)
            }
            DeValue::Float(x) => {
                let x = x.as_str().parse().ok().and_then(Number::from_f64);
                Json::Number(x.ok_or_else(|| wrong("is no number"))?)
            }
            // TOML allows days with or without quotes.
            DeValue::Datetime(day) => day.to_string().into(),
            DeValue::Array(items) => {
                let mut list = Vec::new();
                for item in items.iter() {
                    list.push(self.json(path, item, places)?);
                }
                places.insert(path.to_owned(), at);
                list.into()
            }
            DeValue::Table(table) => {
                let mut object = Object::new();
                for (key, value) in table {
                    let inner = format!("{path}.{}", key.get_ref());
                    object.insert(key.get_ref().as_ref(), self.json(&inner, value, places)?);
                    // If the key is unknown, the error points at the key.
                    places.insert(inner, key.span().start);
                }
                object.into()
            }
        })
    }

    fn fault(&self, fault: Fault, places: &HashMap<String, usize>, otherwise: usize) -> Error {
        let at = places.get(&fault.member).copied().unwrap_or(otherwise);
        self.error(at, format!("{} {}", fault.member, fault.message))
    }

    /// `file:line:column`, both from 1, columns in characters.
    fn error(&self, at: usize, message: String) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::invalid(format!("{}:{line}:{column}: {message}", self.file))
    }
}

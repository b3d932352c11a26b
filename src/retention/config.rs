//! The policy as people write it: the `[retention]` and `[[patients]]` tables of a TOML file. Every fault is told with
//! the line and column where it stands.

use super::policy::{PolicyBuilder, PolicyPart};
use super::{PatientPaths, Period, Preset, RetentionPolicy};
use crate::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl RetentionPolicy {
    /// Reads the `[retention]` table of a TOML text; the built-in policy where there is none. Other tables are left to
    /// their own readers.
    ///
    /// The built-in classes and rules hold besides what is written, unless `builtin = false`. `preset` is one name or a
    /// list (`hipaa`, `finance`, `pci-dss`, `eu-ai-act`, `astm-e2147`).
    ///
    /// ```
    /// use attestlog::retention::RetentionPolicy;
    /// let policy = RetentionPolicy::from_toml(r#"
    ///     [retention]
    ///     default = "general"
    ///     patient = "healthcare"
    ///     preset = "hipaa"
    ///     clock_bound_days = 7
    ///     [retention.classes]
    ///     general = "2 years"
    ///     [[retention.rules]]
    ///     tool = "charge_*"
    ///     class = "financial"
    /// "#)?;
    /// let wrong = RetentionPolicy::from_toml("[retention]\ndefault = \"generel\"").unwrap_err();
    /// assert!(wrong.to_string().starts_with("line 2, column 11: "), "{wrong}");
    /// # let _ = policy;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), beginning with `line L, column C`.
    pub fn from_toml(text: &str) -> Result<RetentionPolicy> {
        let source = Source(text);
        let root = source.parse()?;
        let Some(table) = root.get_ref().get("retention") else {
            return Ok(RetentionPolicy::default());
        };
        let members = source.table(table)?;
        let mut builder = RetentionPolicy::builder();
        if let Some(value) = members.get("builtin")
            && !source.boolean(value)?
        {
            builder = PolicyBuilder::empty();
        }
        let mut spans: HashMap<String, Range<usize>> = HashMap::new();
        let (mut default, mut patient, mut bound) = (table.span(), table.span(), table.span());
        let mut rules = Vec::new();
        for (key, value) in members {
            match key.get_ref().as_ref() {
                "builtin" => {}
                "default" => {
                    builder = builder.default_class(source.text(value)?);
                    default = value.span();
                }
                "patient" => {
                    builder = builder.patient_class(source.text(value)?);
                    patient = value.span();
                }
                "clock_bound_days" => {
                    builder = builder.clock_bound_days(source.integer(value)?);
                    bound = value.span();
                }
                "preset" => {
                    for name in source.one_or_more(value)? {
                        let known = || Preset::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ");
                        let preset = Preset::from_name(source.text(name)?)
                            .ok_or_else(|| source.error(name.span(), format!("a preset is one of {}", known())))?;
                        builder = builder.preset(preset);
                    }
                }
                "classes" => {
                    for (name, period) in source.table(value)? {
                        let parsed: Period = source
                            .text(period)?
                            .parse()
                            .map_err(|e: Error| source.error(period.span(), e.to_string()))?;
                        builder = builder.class(name.get_ref().as_ref(), parsed);
                        spans.insert(name.get_ref().to_string(), period.span());
                    }
                }
                "rules" => rules = source.list(value)?.iter().collect(),
                _ => return Err(source.unknown(key.span(), "retention")),
            }
        }
        // Presets bring rules of their own, so these come last to be told apart by their place.
        let before = builder.rule_count();
        for rule in &rules {
            let [tool, class] = source.members(rule, ["tool", "class"], "retention.rules")?;
            builder = builder.tool(source.text(tool)?, source.text(class)?);
        }
        builder.build_or_place().map_err(|(place, message)| {
            let span = match place {
                PolicyPart::Class(name) => spans.get(&name).cloned(),
                PolicyPart::Rule(i) => i.checked_sub(before).and_then(|i| rules.get(i)).map(|rule| rule.span()),
                PolicyPart::Default => Some(default),
                PolicyPart::Patient => Some(patient),
                PolicyPart::ClockBound => Some(bound),
                PolicyPart::Whole => None,
            };
            source.error(span.unwrap_or_else(|| table.span()), message)
        })
    }
}

impl PatientPaths {
    /// Reads the `[[patients]]` tables of a TOML text, each with `tool` and `paths`. Other tables are left to their own
    /// readers.
    ///
    /// ```
    /// use attestlog::retention::PatientPaths;
    /// let paths = PatientPaths::from_toml(r#"
    ///     [[patients]]
    ///     tool = "get_chart"
    ///     paths = ["arguments.subject", "result.entries[*].patient.id"]
    /// "#)?;
    /// # let _ = paths;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), beginning with `line L, column C`.
    pub fn from_toml(text: &str) -> Result<PatientPaths> {
        let source = Source(text);
        let root = source.parse()?;
        let Some(list) = root.get_ref().get("patients") else {
            return Ok(PatientPaths::default());
        };
        let mut rules = Vec::new();
        for rule in source.list(list)? {
            let [tool, paths] = source.members(rule, ["tool", "paths"], "patients")?;
            let mut texts = Vec::new();
            for path in source.one_or_more(paths)? {
                let text = source.text(path)?;
                // Alone first, so that the place is known.
                PatientPaths::new([("*", [text])]).map_err(|e| source.error(path.span(), e.to_string()))?;
                texts.push(text);
            }
            let tool_name = source.text(tool)?;
            PatientPaths::new([(tool_name, texts.clone())]).map_err(|e| source.error(tool.span(), e.to_string()))?;
            rules.push((tool_name, texts));
        }
        PatientPaths::new(rules).map_err(|e| source.error(list.span(), e.to_string()))
    }
}

/// The text, by which places in it are told.
#[derive(Clone, Copy)]
struct Source<'a>(&'a str);

type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Source<'a> {
    fn parse(self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.0).map_err(|e| self.error(e.span().unwrap_or_default(), e.message().to_owned()))
    }

    fn error(self, at: Range<usize>, message: String) -> Error {
        let before = self.0.get(..at.start).unwrap_or(self.0);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::invalid(format!("line {line}, column {column}: {message}"))
    }

    fn unknown(self, at: Range<usize>, table: &str) -> Error {
        let name = self.0.get(at.clone()).unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned();
        self.error(at, format!("{name:?} is not a member of {table} that is known"))
    }

    fn wrong_type(self, value: &Value<'_>, wanted: &str) -> Error {
        self.error(value.span(), format!("must be {wanted}, not {}", value.get_ref().type_str()))
    }

    fn table<'v>(self, value: &'v Value<'a>) -> Result<&'v DeTable<'a>> {
        value.get_ref().as_table().ok_or_else(|| self.wrong_type(value, "a table"))
    }

    fn text<'v>(self, value: &'v Value<'a>) -> Result<&'v str> {
        value.get_ref().as_str().ok_or_else(|| self.wrong_type(value, "a string"))
    }

    fn boolean(self, value: &Value<'a>) -> Result<bool> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong_type(value, "true or false"))
    }

    fn integer(self, value: &Value<'a>) -> Result<u32> {
        let number = value.get_ref().as_integer().ok_or_else(|| self.wrong_type(value, "a number"))?;
        u32::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| self.error(value.span(), "must be a number from 0 to 4294967295".to_owned()))
    }

    fn list<'v>(self, value: &'v Value<'a>) -> Result<&'v [Value<'a>]> {
        value.get_ref().as_array().map(|a| &**a).ok_or_else(|| self.wrong_type(value, "a list"))
    }

    fn one_or_more<'v>(self, value: &'v Value<'a>) -> Result<&'v [Value<'a>]> {
        match value.get_ref() {
            DeValue::Array(items) => Ok(items),
            _ => Ok(std::slice::from_ref(value)),
        }
    }

    /// The values of exactly these members of a table.
    fn members<'v, const N: usize>(
        self,
        value: &'v Value<'a>,
        keys: [&str; N],
        table: &str,
    ) -> Result<[&'v Value<'a>; N]> {
        let members = self.table(value)?;
        if let Some((key, _)) = members.iter().find(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            return Err(self.unknown(key.span(), table));
        }
        let mut found = [value; N];
        for (slot, key) in found.iter_mut().zip(keys) {
            *slot = members.get(key).ok_or_else(|| self.error(value.span(), format!("{key} is missing")))?;
        }
        Ok(found)
    }
}

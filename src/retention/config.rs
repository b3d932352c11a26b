//! The policy as people write it: the `[retention]` and `[[patients]]` tables of a TOML file. Every error has file,
//! line and column.

use super::policy::{PolicyBuilder, PolicyPart};
use super::{PatientPaths, Period, Preset, RetentionPolicy};
use crate::Result;
use crate::toml_reader::{At, Document, Entries, Name, Named, OneOrMore, Parsed};
use serde::Deserialize;

impl RetentionPolicy {
    /// Reads the `[retention]` table of a TOML text; without one, returns the built-in policy. `file` is the name of
    /// the text in errors. Other tables are left to other sections.
    ///
    /// The built-in classes and rules apply in addition to what is written, unless `builtin = false`. `preset` is one
    /// name or a list (`hipaa`, `finance`, `pci-dss`, `eu-ai-act`, `astm-e2147`).
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
    /// "#, "store.toml")?;
    /// let wrong = RetentionPolicy::from_toml("[retention]\ndefault = \"generel\"", "store.toml").unwrap_err();
    /// assert!(wrong.to_string().starts_with("store.toml:2:11: "), "{wrong}");
    /// # let _ = policy;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput); the message begins with `file:line:column`.
    pub fn from_toml(text: &str, file: &str) -> Result<RetentionPolicy> {
        RetentionPolicy::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<RetentionPolicy> {
        match document.section::<At<Section>>("retention")? {
            Some(section) => section.policy(document),
            None => Ok(RetentionPolicy::default()),
        }
    }
}

impl At<Section> {
    fn policy(self, document: &Document<'_>) -> Result<RetentionPolicy> {
        let Section { builtin, default, patient, clock_bound_days, preset, classes, rules } = self.value;
        let mut builder = match builtin {
            Some(false) => PolicyBuilder::empty(),
            _ => RetentionPolicy::builder(),
        };
        if let Some(class) = &default {
            builder = builder.default_class(&class.value);
        }
        if let Some(class) = &patient {
            builder = builder.patient_class(&class.value);
        }
        if let Some(days) = &clock_bound_days {
            builder = builder.clock_bound_days(days.value);
        }
        for Name(preset) in preset.0 {
            builder = builder.preset(preset);
        }
        for (name, period) in &classes.0 {
            builder = builder.class(&name.value, period.value.0);
        }
        // Presets add rules of their own; these rules come last, so an error's rule number tells them apart.
        let before = builder.rule_count();
        for At { value: rule, .. } in &rules {
            builder = builder.tool(&rule.tool, &rule.class);
        }
        builder.build_or_place().map_err(|(part, message)| {
            let spot = match part {
                PolicyPart::Class(name) => {
                    classes.0.iter().find(|(class, _)| class.value == name).map(|(_, period)| &period.spot)
                }
                PolicyPart::Rule(i) => i.checked_sub(before).and_then(|i| rules.get(i)).map(|rule| &rule.spot),
                PolicyPart::Default => default.as_ref().map(|class| &class.spot),
                PolicyPart::Patient => patient.as_ref().map(|class| &class.spot),
                PolicyPart::ClockBound => clock_bound_days.as_ref().map(|days| &days.spot),
                PolicyPart::Whole => None,
            };
            document.error(spot.unwrap_or(&self.spot), message)
        })
    }
}

impl PatientPaths {
    /// Reads the `[[patients]]` tables of a TOML text, each with `tool` and `paths`; `file` is the name of the text in
    /// errors. Other tables are left to other sections.
    ///
    /// ```
    /// use attestlog::retention::PatientPaths;
    /// let paths = PatientPaths::from_toml(r#"
    ///     [[patients]]
    ///     tool = "get_chart"
    ///     paths = ["arguments.subject", "result.entries[*].patient.id"]
    /// "#, "store.toml")?;
    /// # let _ = paths;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput); the message begins with `file:line:column`.
    pub fn from_toml(text: &str, file: &str) -> Result<PatientPaths> {
        PatientPaths::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<PatientPaths> {
        let Some(At { value: tables, spot }) = document.section::<At<Vec<PatientSection>>>("patients")? else {
            return Ok(PatientPaths::default());
        };
        // Each is compiled alone first, so that an error's position is known.
        for PatientSection { tool, paths } in &tables {
            for path in &paths.0 {
                PatientPaths::new([("*", [&path.value])]).map_err(|e| document.place(&path.spot, e))?;
            }
            PatientPaths::new([(&tool.value, &[] as &[&str])]).map_err(|e| document.place(&tool.spot, e))?;
        }
        let rule = |PatientSection { tool, paths }| (tool.value, paths.0.into_iter().map(|path| path.value));
        PatientPaths::new(tables.into_iter().map(rule)).map_err(|e| document.place(&spot, e))
    }
}

/// A `[[patients]]` table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatientSection {
    tool: At<String>,
    paths: OneOrMore<At<String>>,
}

/// The `[retention]` table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    builtin: Option<bool>,
    default: Option<At<String>>,
    patient: Option<At<String>>,
    clock_bound_days: Option<At<u32>>,
    #[serde(default)]
    preset: OneOrMore<Name<Preset>>,
    #[serde(default)]
    classes: Entries<Parsed<Period>>,
    #[serde(default)]
    rules: Vec<At<RuleSection>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection {
    tool: String,
    class: String,
}

impl Named for Preset {
    const WHAT: &'static str = "preset";

    fn names() -> Vec<&'static str> {
        Preset::ALL.iter().map(|preset| preset.as_str()).collect()
    }

    fn named(name: &str) -> Option<Preset> {
        Preset::from_name(name)
    }
}

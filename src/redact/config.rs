//! Policies in TOML. Every error has file, line and column.
//!
//! ```toml
//! [redaction]
//! preset = "default"            # floor, default, hipaa, pci
//! allow_secrets = false         # true: rules may keep what stands under a secret's name
//! object_keys = true            # detectors look at the keys of objects too
//!
//! [redaction.fields]            # tried in this order, before those of the preset
//! "arguments.**.notes" = "mask"
//! "result.items[*].name" = "drop"
//! "*_ref" = { action = "pseudonymise", as = "patient" }
//! "/^x-internal-/" = "seal"
//!
//! [redaction.detectors]
//! phone = "partial"
//! employee = { pattern = 'EMP-\d{6}', action = "mask" }
//!
//! [redaction.facets]
//! patient = "pseudonymise"
//! ```
//! Other tables in the file are left to other sections. A file without `[redaction]` that has one of these keys at the
//! top level is read as the table itself; a file with none of them gives the default policy.

use super::pattern;
use super::policy::{
    Detector, IdentityKind, Policy, PolicyBuilder, Preset, check_detector, check_facet, check_name, rule,
};
use super::treated::Action;
use crate::Result;
use crate::toml_reader::{At, Document, Entries, Name, Named};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;

const KEYS: [&str; 6] = ["preset", "allow_secrets", "object_keys", "fields", "detectors", "facets"];

impl Policy {
    /// The policy in the `[redaction]` table of a configuration file; `file` is its name in errors.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with file, line and column: the text is not TOML, a key, action,
    /// detector, facet or preset is unknown, a pattern does not compile, or a rule weakens the floor without
    /// `allow_secrets = true`.
    ///
    /// ```
    /// use attestlog::redact::Policy;
    /// let error = Policy::from_toml("[redaction.detectors]\nemail = \"hide\"\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:2:9: "));
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<Policy> {
        Policy::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<Policy> {
        match document.section::<Section>("redaction")? {
            Some(section) => section.policy(document),
            None if document.has(&KEYS) => document.whole::<Section>()?.policy(document),
            None => Ok(Policy::default()),
        }
    }
}

/// The table as it is written. The order of its members counts: the first rule that matches decides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    preset: Option<Name<Preset>>,
    #[serde(default)]
    allow_secrets: bool,
    object_keys: Option<bool>,
    #[serde(default)]
    fields: Entries<Treatment>,
    #[serde(default)]
    detectors: Entries<Treatment>,
    #[serde(default)]
    facets: Entries<Name<Action>>,
}

/// The treatment of a field or of a detector's hits: an action, or a table with one.
enum Treatment {
    Action(Action),
    Table(Details),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    action: Option<Name<Action>>,
    #[serde(rename = "as")]
    domain: Option<At<String>>,
    pattern: Option<At<String>>,
}

impl Section {
    fn policy(self, document: &Document<'_>) -> Result<Policy> {
        let allow_secrets = self.allow_secrets;
        let mut builder =
            Policy::builder(self.preset.map_or(Preset::Default, |preset| preset.0)).allow_secrets(allow_secrets);
        if let Some(treat) = self.object_keys {
            builder = builder.object_keys(treat);
        }
        for (field, treatment) in self.fields.0 {
            let (action, domain) = treatment.field(document)?;
            let checked = rule(&field.value, action, domain.clone(), allow_secrets);
            checked.map_err(|e| document.place(&field.spot, e))?;
            builder = builder.rule(&field.value, action, domain);
        }
        for (name, treatment) in self.detectors.0 {
            builder = treatment.detector(builder, &name, allow_secrets, document)?;
        }
        for (name, At { value: Name(action), spot }) in self.facets.0 {
            let facet = IdentityKind::find(&name.value).map_err(|e| document.error(&name.spot, e))?;
            check_facet(facet, action).map_err(|e| document.place(&spot, e))?;
            builder = builder.facet(facet, action);
        }
        builder.build().map_err(|e| document.of_file(e))
    }
}

impl At<Treatment> {
    /// `"mask"` or `{ action = "pseudonymise", as = "patient" }`
    fn field(self, document: &Document<'_>) -> Result<(Action, Option<String>)> {
        let table = match self.value {
            Treatment::Action(action) => return Ok((action, None)),
            Treatment::Table(table) => table,
        };
        if let Some(pattern) = table.pattern {
            return Err(document.error(&pattern.spot, "a field has action and as; a pattern is for a detector"));
        }
        if let Some(domain) = &table.domain {
            check_name(&domain.value).map_err(|e| document.place(&domain.spot, e))?;
        }
        let action = table.action.ok_or_else(|| document.error(&self.spot, "a field needs an action"))?;
        Ok((action.0, table.domain.map(|domain| domain.value)))
    }

    /// `"mask"`, or a detector of the policy's own: `{ pattern = '…', action = "mask" }`
    fn detector(
        self,
        builder: PolicyBuilder,
        name: &At<String>,
        allow_secrets: bool,
        document: &Document<'_>,
    ) -> Result<PolicyBuilder> {
        let detector = Detector::find(&name.value);
        let table = match (self.value, detector) {
            (Treatment::Action(action), Ok(detector)) => {
                check_detector(detector, action, allow_secrets).map_err(|e| document.place(&self.spot, e))?;
                return Ok(builder.detector(detector, action));
            }
            (Treatment::Action(_), Err(unknown)) => {
                let own = "a detector of your own is { pattern = '…', action = \"…\" }";
                return Err(document.error(&name.spot, format_args!("{unknown}; {own}")));
            }
            (Treatment::Table(_), Ok(detector)) => {
                let message = format_args!("{detector} is built in: it has an action alone");
                return Err(document.error(&self.spot, message));
            }
            (Treatment::Table(table), Err(_)) => table,
        };
        check_name(&name.value).map_err(|e| document.place(&name.spot, e))?;
        if let Some(domain) = table.domain {
            return Err(document.error(&domain.spot, "a detector has pattern and action; as is for a field"));
        }
        let missing = || document.error(&name.spot, format_args!("the detector {:?} has no pattern", name.value));
        let regex = table.pattern.ok_or_else(missing)?;
        pattern::compile(&regex.value).map_err(|e| document.error(&regex.spot, e))?;
        Ok(builder.pattern(&name.value, &regex.value, table.action.map_or(Action::Mask, |action| action.0)))
    }
}

impl<'de> Deserialize<'de> for Treatment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Treatment, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Treatment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an action, or a table with one")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Treatment, E> {
                Action::find(name).map(Treatment::Action).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Treatment, A::Error> {
                Details::deserialize(MapAccessDeserializer::new(members)).map(Treatment::Table)
            }
        }
        from.deserialize_any(Either)
    }
}

impl Named for Preset {
    const WHAT: &'static str = "preset";

    fn names() -> Vec<&'static str> {
        Preset::ALL.map(Preset::name).to_vec()
    }

    fn named(name: &str) -> Option<Preset> {
        Preset::from_name(name)
    }
}

impl Named for Action {
    const WHAT: &'static str = "action";

    fn names() -> Vec<&'static str> {
        Action::ALL.map(Action::name).to_vec()
    }

    fn named(name: &str) -> Option<Action> {
        Action::from_name(name)
    }
}

impl Named for Detector {
    const WHAT: &'static str = "detector";

    fn names() -> Vec<&'static str> {
        Detector::ALL.map(Detector::name).to_vec()
    }

    fn named(name: &str) -> Option<Detector> {
        Detector::from_name(name)
    }
}

impl Named for IdentityKind {
    const WHAT: &'static str = "facet";

    fn names() -> Vec<&'static str> {
        IdentityKind::ALL.map(IdentityKind::name).to_vec()
    }

    fn named(name: &str) -> Option<IdentityKind> {
        IdentityKind::from_name(name)
    }
}

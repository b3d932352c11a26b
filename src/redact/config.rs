//! Policies in TOML. Whatever is wrong is said with file, line and column.
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
//! The other tables of the file belong to others. A file without `[redaction]` that has one of these keys at its top
//! is read as the table itself; one without any is the default policy.

use super::policy::{
    Detector, IdentityKind, Policy, PolicyBuilder, Preset, check_detector, check_facet, check_name, rule,
};
use super::treated::Action;
use super::{pattern, policy};
use crate::{Error, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const KEYS: [&str; 6] = ["preset", "allow_secrets", "object_keys", "fields", "detectors", "facets"];

/// A value and its place in the text, in bytes.
type Item<'a, 'i> = (&'a str, usize, &'a Spanned<DeValue<'i>>);

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
        let source = Source { text, file };
        let document =
            DeTable::parse(text).map_err(|e| source.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
        let top = items(document.get_ref());
        let table = match top.iter().find(|(name, ..)| *name == "redaction") {
            Some((_, _, value)) => items(source.table(value, "redaction")?),
            None if top.iter().any(|(name, ..)| KEYS.contains(name)) => top,
            None => return Ok(Policy::default()),
        };
        source.policy(&table)
    }
}

struct Source<'t> {
    text: &'t str,
    file: &'t str,
}

impl Source<'_> {
    fn policy(&self, table: &[Item<'_, '_>]) -> Result<Policy> {
        if let Some((name, at, _)) = table.iter().find(|(name, ..)| !KEYS.contains(name)) {
            return Err(self.error(*at, format!("unknown key {name:?}; there are {}", KEYS.join(", "))));
        }
        let get = |key: &str| table.iter().find(|(name, ..)| *name == key).map(|(_, _, value)| *value);
        let flag = |key: &str| get(key).map(|v| self.flag(v, key)).transpose();
        let preset = match get("preset") {
            None => Preset::Default,
            Some(value) => {
                let name = self.string(value, "preset")?;
                let names = Preset::ALL.map(Preset::name).join(", ");
                Preset::from_name(name)
                    .ok_or_else(|| self.error(value.span().start, format!("no preset {name:?}; there are {names}")))?
            }
        };
        let allow_secrets = flag("allow_secrets")?.unwrap_or(false);
        let mut builder = Policy::builder(preset).allow_secrets(allow_secrets);
        if let Some(treat) = flag("object_keys")? {
            builder = builder.object_keys(treat);
        }
        for (field, at, value) in self.section(get("fields"), "fields")? {
            let (action, domain) = self.field(value)?;
            rule(field, action, domain.clone(), allow_secrets).map_err(|e| self.place(at, e))?;
            builder = builder.rule(field, action, domain);
        }
        for (name, at, value) in self.section(get("detectors"), "detectors")? {
            builder = self.detector(builder, name, at, value, allow_secrets)?;
        }
        for (name, at, value) in self.section(get("facets"), "facets")? {
            let names = IdentityKind::ALL.map(IdentityKind::name).join(", ");
            let facet = IdentityKind::from_name(name)
                .ok_or_else(|| self.error(at, format!("no facet {name:?}; there are {names}")))?;
            let action = self.action(value)?;
            check_facet(facet, action).map_err(|e| self.place(value.span().start, e))?;
            builder = builder.facet(facet, action);
        }
        builder.build().map_err(|e| e.at(self.file))
    }

    fn detector(
        &self,
        builder: PolicyBuilder,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        allow_secrets: bool,
    ) -> Result<PolicyBuilder> {
        if let Some(detector) = Detector::from_name(name) {
            let action = self.action(value)?;
            check_detector(detector, action, allow_secrets).map_err(|e| self.place(value.span().start, e))?;
            return Ok(builder.detector(detector, action));
        }
        let DeValue::Table(table) = value.get_ref() else {
            let names = Detector::ALL.map(Detector::name).join(", ");
            return Err(self.error(
                at,
                format!("no detector {name:?}; there are {names}, and your own: {{ pattern = '…', action = \"…\" }}"),
            ));
        };
        check_name(name).map_err(|e| self.place(at, e))?;
        let (mut regex, mut action) = (None, Action::Mask);
        for (key, at, value) in items(table) {
            match key {
                "pattern" => {
                    let text = self.string(value, key)?;
                    pattern::compile(text).map_err(|e| self.error(value.span().start, e))?;
                    regex = Some(text);
                }
                "action" => action = self.action(value)?,
                _ => return Err(self.error(at, format!("unknown key {key:?}; a detector has pattern and action"))),
            }
        }
        let regex = regex.ok_or_else(|| self.error(at, format!("the detector {name:?} has no pattern")))?;
        Ok(builder.pattern(name, regex, action))
    }

    /// `"mask"` or `{ action = "pseudonymise", as = "patient" }`
    fn field(&self, value: &Spanned<DeValue<'_>>) -> Result<(Action, Option<String>)> {
        let DeValue::Table(table) = value.get_ref() else { return Ok((self.action(value)?, None)) };
        let (mut action, mut domain) = (None, None);
        for (key, at, value) in items(table) {
            match key {
                "action" => action = Some(self.action(value)?),
                "as" => {
                    let name = self.string(value, key)?;
                    policy::check_name(name).map_err(|e| self.place(value.span().start, e))?;
                    domain = Some(name.to_owned());
                }
                _ => return Err(self.error(at, format!("unknown key {key:?}; a field has action and as"))),
            }
        }
        let action = action.ok_or_else(|| self.error(value.span().start, "a field needs an action".to_owned()))?;
        Ok((action, domain))
    }

    fn action(&self, value: &Spanned<DeValue<'_>>) -> Result<Action> {
        let name = self.string(value, "action")?;
        let names = Action::ALL.map(Action::name).join(", ");
        Action::from_name(name)
            .ok_or_else(|| self.error(value.span().start, format!("no action {name:?}; there are {names}")))
    }

    /// The members of a table in the order of the text.
    fn section<'a, 'i>(&self, value: Option<&'a Spanned<DeValue<'i>>>, name: &str) -> Result<Vec<Item<'a, 'i>>> {
        value.map_or_else(|| Ok(Vec::new()), |v| Ok(items(self.table(v, name)?)))
    }

    fn table<'a, 'i>(&self, value: &'a Spanned<DeValue<'i>>, name: &str) -> Result<&'a DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.error(value.span().start, format!("{name} is a table"))),
        }
    }

    fn string<'a>(&self, value: &'a Spanned<DeValue<'_>>, name: &str) -> Result<&'a str> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.error(value.span().start, format!("{name} is a string"))),
        }
    }

    fn flag(&self, value: &Spanned<DeValue<'_>>, name: &str) -> Result<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.error(value.span().start, format!("{name} is true or false"))),
        }
    }

    fn error(&self, at: usize, message: String) -> Error {
        self.place(at, Error::invalid(message))
    }

    /// `file:line:column`, both from 1, columns in characters.
    fn place(&self, at: usize, error: Error) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        error.at(format!("{}:{line}:{column}", self.file))
    }
}

/// The members of a table in the order of the text, which the order of rules depends on.
fn items<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Item<'a, 'i>> {
    let mut items: Vec<_> = table.iter().map(|(k, v)| (k.get_ref().as_ref(), k.span().start, v)).collect();
    items.sort_by_key(|(_, at, _)| *at);
    items
}

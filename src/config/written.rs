//! A policy as a configuration file: what [`PolicySet::from_toml`] reads as the same policy.

use crate::json::{Json, Object};
use crate::policy::PolicySet;
use crate::redact::{Policy, Preset};

impl PolicySet {
    /// The policy as the text of a configuration file, with nothing left to defaults.
    ///
    /// ```
    /// use attestlog::PolicySet;
    /// let policies = PolicySet::from_toml("[redaction]\npreset = 'hipaa'\n[keys]\nrotate_days = 'never'\n", "store.toml")?;
    /// assert_eq!(PolicySet::from_toml(&policies.to_toml(), "shown")?, policies);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn to_toml(&self) -> String {
        let json = self.to_json();
        let part = |name: &str| json.get(name).cloned().unwrap_or(Json::Null);
        let mut out = Toml(String::new());
        out.retention(&part("retention"));
        for patients in part("patients").as_array().unwrap_or_default() {
            out.table("[[patients]]", patients, &["tool", "paths"]);
        }
        out.redaction(&part("redaction"));
        out.table("[results]", &part("results"), &["identifying", "keep_full"]);
        let limit = |limit: Option<u64>| limit.map_or(Json::from("never"), Json::from);
        out.line("[keys]");
        out.member("rotate_entries", &limit(self.keys.rotate_entries));
        out.member("rotate_days", &limit(self.keys.rotate_days.map(u64::from)));
        out.line("");
        // The rules below are all that there are.
        out.table("[[alerts]]", &Object::from_iter([("name", Json::from("*")), ("enabled", false.into())]).into(), &[]);
        for rule in part("alerts").as_array().unwrap_or_default() {
            out.table("[[alerts]]", rule, &["name"]);
        }
        out.0.truncate(out.0.trim_end().len());
        out.0.push('\n');
        out.0
    }
}

struct Toml(String);

impl Toml {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn member(&mut self, name: &str, value: &Json) {
        if *value != Json::Null {
            let line = format!("{} = {}", key(name), inline(value));
            self.line(&line);
        }
    }

    /// A table with these members first.
    fn table(&mut self, head: &str, members: &Json, first: &[&str]) {
        self.line(head);
        for name in first {
            if let Some(value) = members.get(name) {
                self.member(name, value);
            }
        }
        for (name, value) in members.as_object().into_iter().flat_map(Object::iter) {
            if !first.contains(&name) {
                self.member(name, value);
            }
        }
        self.line("");
    }

    fn retention(&mut self, retention: &Json) {
        self.line("[retention]");
        self.line("builtin = false");
        for name in ["default", "patient", "clock_bound_days"] {
            self.member(name, retention.get(name).unwrap_or(&Json::Null));
        }
        self.line("");
        self.table("[retention.classes]", retention.get("classes").unwrap_or(&Json::Null), &[]);
        for rule in retention.get("rules").and_then(Json::as_array).unwrap_or_default() {
            self.table("[[retention.rules]]", rule, &["tool", "class"]);
        }
    }

    /// The preset, and what differs from it.
    fn redaction(&mut self, redaction: &Json) {
        let name = redaction.get("preset").and_then(Json::as_str).unwrap_or_default();
        let preset = Preset::from_name(name).and_then(|preset| Policy::builder(preset).build().ok());
        let preset = preset.map_or(Json::Null, |policy| policy.to_json());
        self.line("[redaction]");
        for name in ["preset", "allow_secrets", "object_keys"] {
            self.member(name, redaction.get(name).unwrap_or(&Json::Null));
        }
        self.line("");
        let list = |of: &Json, name: &str| of.get(name).and_then(Json::as_array).unwrap_or_default().to_vec();
        let (fields, of_preset) = (list(redaction, "fields"), list(&preset, "fields"));
        // Those of the preset come last.
        let own = fields.strip_suffix(&*of_preset).unwrap_or(&fields);
        if !own.is_empty() {
            self.line("[redaction.fields]");
            for rule in own {
                let field = rule.get("field").and_then(Json::as_str).unwrap_or_default();
                let action = rule.get("action").cloned().unwrap_or(Json::Null);
                let treatment = match rule.get("as") {
                    Some(domain) => Object::from_iter([("action", action), ("as", domain.clone())]).into(),
                    None => action,
                };
                self.member(field, &treatment);
            }
            self.line("");
        }
        let differs = |table: &str| -> Object {
            let members = redaction.get(table).and_then(Json::as_object).into_iter().flat_map(Object::iter);
            let known = preset.get(table);
            let own = members.filter(|(name, value)| known.and_then(|known| known.get(name)) != Some(*value));
            own.map(|(name, value)| (name.to_owned(), value.clone())).collect()
        };
        let mut detectors = differs("detectors");
        for custom in list(redaction, "patterns") {
            let part = |name: &str| custom.get(name).cloned().unwrap_or(Json::Null);
            let name = custom.get("name").and_then(Json::as_str).unwrap_or_default();
            detectors.insert(name, Object::from_iter([("pattern", part("pattern")), ("action", part("action"))]));
        }
        for (head, members) in [("[redaction.detectors]", detectors), ("[redaction.facets]", differs("facets"))] {
            if !members.is_empty() {
                self.table(head, &members.into(), &[]);
            }
        }
    }
}

/// A key: bare where that is allowed.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { text(name) }
}

/// A basic string. The escapes of JSON are among those of TOML, which also wants DEL escaped.
fn text(text: &str) -> String {
    Json::from(text).to_canonical().as_str().replace('\u{7f}', "\\u007f")
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(string) => text(string),
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let some = members.iter().filter(|(_, value)| **value != Json::Null);
            let members: Vec<String> = some.map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_canonical().as_str().to_owned(),
    }
}

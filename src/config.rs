//! The configuration file: one TOML text for everything that a store is told to do with what it records.
//!
//! Each table has its own reader beside the thing that it configures, and leaves the others alone. Here is what none of
//! them can say: that a table belongs to nobody, because a misspelt table would be a policy that silently does not hold.
//! Whatever is wrong is said with `file:line:column`.

use crate::alert::{Receivers, Rules};
use crate::entry::ResultPolicy;
use crate::policy::{KeyPolicy, PolicySet};
use crate::redact;
use crate::retention::{PatientPaths, RetentionPolicy};
use crate::{Error, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tables of the file. Each is read below, but for `anchor` and `receivers`, which are no policy and
/// are kept apart ([`Receivers`](crate::alert::Receivers) are checked here too).
const TABLES: [&str; 8] = ["retention", "patients", "redaction", "results", "alerts", "keys", "anchor", "receivers"];

type Value<'a> = Spanned<DeValue<'a>>;

impl PolicySet {
    /// The policies that a configuration file describes: `[retention]`, `[[patients]]`, `[redaction]`, `[results]`,
    /// `[[alerts]]` and `[keys]`, each with its defaults where it is left out. `file` is the file's name in errors.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), beginning with `file:line:column`: the text is not TOML, a table
    /// or key is unknown, or a value is not what it must be.
    ///
    /// ```
    /// use attestlog::PolicySet;
    /// let text = "[redaction]\npreset = 'hipaa'\n[results]\nidentifying = ['id', 'chart_*']\n";
    /// assert!(PolicySet::from_toml(text, "store.toml").is_err(), "a `*` stands at the beginning only");
    /// let policies = PolicySet::from_toml("[redaction]\npreset = 'hipaa'\n", "store.toml")?;
    /// let error = PolicySet::from_toml("[redactoin]\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:1:2: unknown table"), "{error}");
    /// # let _ = policies;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<PolicySet> {
        let source = Source { text, file };
        let document =
            DeTable::parse(text).map_err(|e| source.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
        let (mut results, mut keys) = (ResultPolicy::default(), KeyPolicy::default());
        let mut members: Vec<_> = document.get_ref().iter().collect();
        // In the order of the text, so that the first fault is the one that is told.
        members.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in members {
            let name = key.get_ref().as_ref();
            if !TABLES.contains(&name) {
                let what = if matches!(value.get_ref(), DeValue::Table(_)) { "table" } else { "key" };
                let known = TABLES.join(", ");
                return Err(
                    source.error(key.span().start, format!("unknown {what} {name:?}; there are the tables {known}"))
                );
            }
            // No policy: whoever opens the store says where its checkpoints go. Faults are told all the same.
            if name == "anchor" {
                crate::anchor::AnchorConfig::from_toml(text, file)?;
            }
            if name == "results" {
                results = source.results(value)?;
            }
            if name == "keys" {
                keys = source.keys(value)?;
            }
        }
        Receivers::from_toml(text, file)?;
        Ok(PolicySet {
            retention: RetentionPolicy::from_toml(text).map_err(|e| source.place(e))?,
            patients: PatientPaths::from_toml(text).map_err(|e| source.place(e))?,
            redaction: redact::Policy::from_toml(text, file)?,
            results,
            alerts: match document.get_ref().iter().any(|(key, _)| key.get_ref().as_ref() == "alerts") {
                true => Rules::from_toml(text, file)?,
                false => Rules::built_in(),
            },
            keys,
        })
    }
}

struct Source<'t> {
    text: &'t str,
    file: &'t str,
}

impl Source<'_> {
    /// `[results]`: `identifying` (names of members) and `keep_full` (bytes).
    fn results(&self, table: &Value<'_>) -> Result<ResultPolicy> {
        let at = |value: &Value<'_>| value.span().start;
        let DeValue::Table(members) = table.get_ref() else {
            return Err(self.error(at(table), "results is a table".to_owned()));
        };
        let mut policy = ResultPolicy::default();
        for (key, value) in members {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("identifying", DeValue::Array(names)) => {
                    policy.identifying = names.iter().map(|name| self.identifying(name)).collect::<Result<_>>()?;
                }
                ("keep_full", DeValue::Integer(bytes)) => {
                    let bytes = usize::from_str_radix(bytes.as_str(), bytes.radix());
                    let wrong = |_| self.error(at(value), "keep_full is a number of bytes".to_owned());
                    policy.keep_full = Some(bytes.map_err(wrong)?);
                }
                ("identifying", _) => {
                    return Err(self.error(at(value), "identifying is a list of names".to_owned()));
                }
                ("keep_full", _) => return Err(self.error(at(value), "keep_full is a number of bytes".to_owned())),
                (other, _) => {
                    let message = format!("unknown key {other:?}; results has identifying, keep_full");
                    return Err(self.error(key.span().start, message));
                }
            }
        }
        Ok(policy)
    }

    /// `[keys]`: `rotate_entries` and `rotate_days`.
    fn keys(&self, table: &Value<'_>) -> Result<KeyPolicy> {
        let DeValue::Table(members) = table.get_ref() else {
            return Err(self.error(table.span().start, "keys is a table".to_owned()));
        };
        let mut policy = KeyPolicy::default();
        for (key, value) in members {
            let at = value.span().start;
            let number = match value.get_ref() {
                DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok().filter(|n| *n < 1 << 53),
                _ => None,
            };
            let number =
                |what: &str| number.ok_or_else(|| self.error(at, format!("{} is a number of {what}", key.get_ref())));
            let never = matches!(value.get_ref(), DeValue::String(text) if text == "never");
            match key.get_ref().as_ref() {
                "rotate_entries" if never => policy.rotate_entries = None,
                "rotate_days" if never => policy.rotate_days = None,
                "rotate_entries" => policy.rotate_entries = Some(number("entries")?),
                "rotate_days" => {
                    policy.rotate_days = Some(
                        number("days")?.try_into().map_err(|_| self.error(at, "so many days never pass".to_owned()))?,
                    )
                }
                other => {
                    let message = format!("unknown key {other:?}; keys has rotate_entries, rotate_days");
                    return Err(self.error(key.span().start, message));
                }
            }
            policy.check().map_err(|e| self.error(at, e.to_string()))?;
        }
        Ok(policy)
    }

    fn identifying(&self, name: &Value<'_>) -> Result<String> {
        let wrong = |message: &str| Err(self.error(name.span().start, message.to_owned()));
        match name.get_ref() {
            DeValue::String(text) if text.is_empty() || text.strip_prefix('*').unwrap_or(text).contains('*') => {
                wrong("a name is written out, or begins with one * and ends as it is written, such as *_id")
            }
            DeValue::String(text) => Ok(text.to_string()),
            _ => wrong("identifying is a list of names"),
        }
    }

    /// An error at a byte of the text: lines and columns from 1, columns in characters.
    fn error(&self, at: usize, message: String) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::invalid(message).at(format!("{}:{line}:{column}", self.file))
    }

    /// The error of a reader that does not know the file's name: it begins with `line L, column C`.
    fn place(&self, error: Error) -> Error {
        let message = error.to_string();
        let placed = message.strip_prefix("line ").and_then(|rest| {
            let (place, what) = rest.split_once(": ")?;
            let (line, column) = place.split_once(", column ")?;
            Some(Error::new(error.kind(), format!("{}:{line}:{column}: {what}", self.file)))
        });
        placed.unwrap_or_else(|| error.at(self.file))
    }
}

//! The configuration file: one TOML text for everything that a store is told to do with what it records.
//!
//! Each section is read next to the code that it configures. This file adds the check that none of them can make: that
//! every table is known, because a misspelt table would be a policy that silently has no effect.

mod written;

use crate::Result;
use crate::alert::{Receivers, Rules};
use crate::anchor::AnchorConfig;
use crate::entry::ResultPolicy;
use crate::policy::{KeyPolicy, PolicySet};
use crate::redact;
use crate::retention::{PatientPaths, RetentionPolicy};
use crate::toml_reader::{At, Document};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use std::fmt;

/// The tables of the file. Each is read below; `anchor` and `receivers` are not policies and are kept apart, but their
/// errors are reported all the same.
const TABLES: [&str; 8] = ["retention", "patients", "redaction", "results", "alerts", "keys", "anchor", "receivers"];

impl PolicySet {
    /// The policies that a configuration file describes: `[retention]`, `[[patients]]`, `[redaction]`, `[results]`,
    /// `[[alerts]]` and `[keys]`, each with its defaults if it is left out. `file` is the file's name in errors.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the text is not TOML, a table or key is unknown, or a value
    /// is invalid. The message begins with `file:line:column`, which [`Error::place`](crate::Error::place) holds as
    /// data.
    ///
    /// ```
    /// use attestlog::PolicySet;
    /// let text = "[redaction]\npreset = 'hipaa'\n[results]\nidentifying = ['id', 'chart_*']\n";
    /// assert!(PolicySet::from_toml(text, "store.toml").is_err(), "a `*` stands at the beginning only");
    /// let policies = PolicySet::from_toml("[redaction]\npreset = 'hipaa'\n", "store.toml")?;
    /// let error = PolicySet::from_toml("[redactoin]\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:1:2: unknown table"), "{error}");
    /// assert_eq!(error.place().and_then(|place| place.column), Some(2));
    /// # let _ = policies;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<PolicySet> {
        let document = Document::parse(text, file)?;
        document.check_tables(&TABLES)?;
        AnchorConfig::read(&document)?;
        let results = document.section::<Results>("results")?.map(Results::policy);
        let keys = document.section::<Keys>("keys")?.map(|keys| keys.policy(&document)).transpose()?;
        Receivers::read(&document)?;
        let policies = PolicySet {
            retention: RetentionPolicy::read(&document)?,
            patients: PatientPaths::read(&document)?,
            redaction: redact::Policy::read(&document)?,
            results: results.unwrap_or_default(),
            alerts: Rules::read(&document)?,
            keys: keys.unwrap_or_default(),
        };
        policies.check().map_err(|e| e.in_file(file)).map(|()| policies)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    identifying: Option<Vec<Identifying>>,
    keep_full: Option<usize>,
}

impl Results {
    fn policy(self) -> ResultPolicy {
        let names = self.identifying.map(|names| names.into_iter().map(|name| name.0).collect());
        ResultPolicy {
            identifying: names.unwrap_or_else(|| ResultPolicy::default().identifying),
            keep_full: self.keep_full,
        }
    }
}

struct Identifying(String);

impl<'de> Deserialize<'de> for Identifying {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Identifying, D::Error> {
        let name = String::deserialize(from)?;
        match name.is_empty() || name.strip_prefix('*').unwrap_or(&name).contains('*') {
            true => Err(D::Error::custom(
                "a name is written out, or begins with one * and ends as it is written, such as *_id",
            )),
            false => Ok(Identifying(name)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    rotate_entries: Option<At<Limit>>,
    rotate_days: Option<At<Limit>>,
}

/// A number, or `"never"`.
struct Limit(Option<u64>);

impl Keys {
    fn policy(self, document: &Document<'_>) -> Result<KeyPolicy> {
        let mut policy = KeyPolicy::default();
        if let Some(entries) = self.rotate_entries {
            policy.rotate_entries = entries.value.0;
            policy.check().map_err(|e| document.place(&entries.spot, e))?;
        }
        if let Some(days) = self.rotate_days {
            let many = |_| document.error(&days.spot, "there are never so many days");
            policy.rotate_days = days.value.0.map(u32::try_from).transpose().map_err(many)?;
            policy.check().map_err(|e| document.place(&days.spot, e))?;
        }
        Ok(policy)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Limit, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or \"never\"")
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Limit, E> {
                let most = 1 << 53;
                let number = u64::try_from(n).ok().filter(|n| *n < most);
                let wanted = "a whole number from 0 to 2^53 - 1, or \"never\"";
                number
                    .map(|n| Limit(Some(n)))
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(n), &wanted))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit, E> {
                match text {
                    "never" => Ok(Limit(None)),
                    _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Either)
    }
}

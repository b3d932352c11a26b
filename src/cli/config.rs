//! The configuration file: one TOML file for retention, patients, redaction, results.
//!
//! Each table has its own reader in the library, which leaves the others alone; here is what none of them can say:
//! that a table belongs to nobody, because a misspelt table would otherwise be a policy that silently does not hold.

use super::exit::Failure;
use super::lines::Source;
use attestlog::redact::Policy;
use attestlog::retention::{PatientPaths, RetentionPolicy};
use attestlog::{PolicySet, ResultPolicy};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1 << 20;
const TABLES: [&str; 4] = ["retention", "patients", "redaction", "results"];

/// The text of a configuration file.
pub fn text(path: &Path) -> Result<String, Failure> {
    let bytes = Source::open(Some(path))?.read_all(MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))
}

/// The policies that a configuration file describes.
pub fn read(path: &Path) -> Result<PolicySet, Failure> {
    let text = text(path)?;
    let file = path.display().to_string();
    let fault = |e: attestlog::Error| Failure::Input(format!("{file}: {e}"));
    let mut set = PolicySet::default();
    set.results =
        results(&text).map_err(|(at, what)| Failure::Input(format!("{file}: {}: {what}", place(&text, at))))?;
    set.retention = RetentionPolicy::from_toml(&text).map_err(fault)?;
    set.patients = PatientPaths::from_toml(&text).map_err(fault)?;
    set.redaction = Policy::from_toml(&text, &file)?;
    Ok(set)
}

/// Where something is wrong, in bytes, and what.
type Fault = (usize, String);

/// Checks the names of the tables, and reads `[results]`: `identifying` (names of members) and `keep_full` (bytes).
fn results(text: &str) -> Result<ResultPolicy, Fault> {
    let document = DeTable::parse(text).map_err(|e| (e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
    let mut policy = ResultPolicy::default();
    for (key, value) in document.get_ref() {
        let name = key.get_ref().as_ref();
        if !TABLES.contains(&name) {
            return Err((key.span().start, format!("unknown table {name:?}; there are {}", TABLES.join(", "))));
        }
        if name != "results" {
            continue;
        }
        let at = value.span().start;
        let DeValue::Table(members) = value.get_ref() else { return Err((at, "results is a table".to_owned())) };
        for (key, value) in members {
            let at = value.span().start;
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("identifying", DeValue::Array(names)) => {
                    let names = names.iter().map(|name| match name.get_ref() {
                        DeValue::String(name) => Ok(name.to_string()),
                        _ => Err((name.span().start, "identifying is a list of names".to_owned())),
                    });
                    policy.identifying = names.collect::<Result<_, Fault>>()?;
                }
                ("keep_full", DeValue::Integer(bytes)) => {
                    let bytes = usize::from_str_radix(bytes.as_str(), bytes.radix());
                    policy.keep_full = Some(bytes.map_err(|_| (at, "keep_full is a number of bytes".to_owned()))?);
                }
                ("identifying", _) => return Err((at, "identifying is a list of names".to_owned())),
                ("keep_full", _) => return Err((at, "keep_full is a number of bytes".to_owned())),
                (other, _) => {
                    return Err((key.span().start, format!("unknown key {other:?}; there are identifying, keep_full")));
                }
            }
        }
    }
    Ok(policy)
}

fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_a_place() {
        let fault =
            |text: &str| results(text).map_err(|(at, what)| format!("{}: {what}", place(text, at))).unwrap_err();
        assert!(fault("[results]\nkeep_full = 'x'").starts_with("line 2, column 13: keep_full"));
        assert!(fault("[retenton]\n").starts_with("line 1, column 2: unknown table \"retenton\""));
        let policy = results("[results]\nkeep_full = 1_000\nidentifying = ['mrn', '*_ref']").unwrap();
        assert_eq!((policy.keep_full, policy.identifying.len()), (Some(1000), 2));
    }
}
